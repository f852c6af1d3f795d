/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the block layer: what a driver implements and what a node and
 * an edge are made of. For the block layer and its drivers only; users of
 * nodes include block/block.h.
 *
 * Contexts, unless a callback says otherwise:
 * - coroutine_fn callbacks: any thread, graph read lock held by the caller.
 * - the others: main thread, outside coroutines.
 */
#ifndef BLOCK_INT_H
#define BLOCK_INT_H

#include "block/amend.h"
#include "block/block.h"
#include "block/claim.h"
#include "block/graph-lock.h"
#include "block/snapshot.h"
#include "util/atomic.h"
#include "util/coroutine.h"
#include "util/queue.h"
#include "util/thread.h"

/* State of one node in a reopen transaction; see block/reopen.h. */
typedef struct BDRVReopenState {
    BlockDriverState *bs;
    int flags;                      /* open flags after the reopen */
    BlockdevDetectZeroesOptions detect_zeroes;
    BlockdevOptions *options;       /* complete typed options after it */
    QDict *options_dict;            /* the same, as given */
    void *opaque;                   /* the driver's, from prepare to commit */
} BDRVReopenState;

struct BlockDriver {
    const char *format_name;        /* the QAPI spelling of the driver */
    BlockdevDriver id;
    size_t instance_size;           /* of BlockDriverState.opaque */

    /* Non-NULL for protocol drivers: the file name prefix, e.g. "file". */
    const char *protocol_name;
    /* Further prefixes; NULL-terminated, or NULL. */
    const char *const *protocol_aliases;
    /* Presents exactly the content of its one FILTERED child. */
    bool is_filter;
    /* Is a format, i.e. has metadata in a METADATA child. */
    bool is_format;
    bool supports_backing;

    /*
     * Score 0..100 for how sure the driver is that @buf (the first @buf_size
     * bytes) is its format. Must not look beyond the buffer.
     */
    int (*bdrv_probe)(const uint8_t *buf, int buf_size, const char *filename);
    /* Score for a device path; only protocol drivers. */
    int (*bdrv_probe_device)(const char *filename);

    /*
     * Turns a file name (with or without the driver's prefix) into options;
     * they are nested, not dotted, and others may be in @options already.
     * NULL: the name becomes the option "filename".
     */
    bool (*bdrv_parse_filename)(const char *filename, QDict *options,
                                Error **errp);

    /*
     * Older spellings of options become today's, in the nested dictionary of a
     * node whose driver was found. Optional.
     */
    bool (*bdrv_translate_options)(QDict *options, Error **errp);

    /*
     * Opens the node. @options is the complete typed description and outlives
     * the call only as bs->options. Opens children by bdrv_open_child(); the
     * backing file is opened by the generic layer afterwards, from
     * bs->backing_file. On failure the generic layer detaches the children;
     * the driver frees the rest. Returns 0 or -errno with @errp set.
     */
    int (*bdrv_open)(BlockDriverState *bs, BlockdevOptions *options, int flags,
                     Error **errp);
    /* Frees what open made; flushes metadata. Children are still attached. */
    void (*bdrv_close)(BlockDriverState *bs);

    /*
     * Reopen, see block/reopen.h. Prepare does everything that can fail, under
     * widened permissions and with the new children already in place; commit
     * and abort must not fail.
     */
    int (*bdrv_reopen_prepare)(BDRVReopenState *state, BlockReopenQueue *queue,
                               Error **errp);
    void (*bdrv_reopen_commit)(BDRVReopenState *state);
    void (*bdrv_reopen_abort)(BDRVReopenState *state);
    /*
     * The node may be inactive (block/activate.h); all callbacks are optional.
     * prepare stores and flushes whatever other programs have to find in the
     * file; 0 or -errno, the node goes on being used after an error. set then
     * forgets what may be stale soon. activate reads again what others may
     * have changed; after an error the node is inactive as before. An
     * inactive node is opened without locks, and must not be written to.
     * Main thread, the node is drained.
     */
    bool supports_inactive;
    int (*bdrv_prepare_inactive)(BlockDriverState *bs, Error **errp);
    void (*bdrv_set_inactive)(BlockDriverState *bs);
    int (*bdrv_activate)(BlockDriverState *bs, Error **errp);
    /*
     * Whether corruption was met: nothing is written any more and flushing
     * fails, until a reopen has read everything again. NULL: never.
     */
    bool (*bdrv_is_stopped)(BlockDriverState *bs);
    /*
     * Driver options (top-level names, NULL-terminated) that a reopen may
     * change; the generic layer refuses a change of any other one. Children
     * and the options common to all nodes are not listed.
     */
    const char *const *reopen_options;

    /*
     * Permissions of the node as a whole change. check takes what is missing
     * (locks, a writable descriptor) and may fail; it keeps what is held.
     * set gives up everything beyond @perm and outside @shared, which are a
     * subset of what was checked; its error is discarded and counted by the
     * generic layer, which calls it again at the next permission change.
     */
    int (*bdrv_check_perm)(BlockDriverState *bs, uint64_t perm,
                           uint64_t shared, Error **errp);
    int (*bdrv_set_perm)(BlockDriverState *bs, uint64_t perm, uint64_t shared,
                         Error **errp);

    /*
     * What this node asks of @child (role @role), given what its own parents
     * ask of it. @queue is non-NULL in a reopen: flags come from
     * bdrv_reopen_flags(queue, bs). NULL callback: bdrv_default_perms().
     */
    void (*bdrv_child_perm)(BlockDriverState *bs, BdrvChild *child,
                            BdrvChildRole role, BlockReopenQueue *queue,
                            uint64_t parent_perm, uint64_t parent_shared,
                            uint64_t *nperm, uint64_t *nshared);

    /*
     * 1 if somebody else, in whatever process, may write to it at this moment,
     * 0 if not, -ENOTSUP if that cannot be told.
     */
    int (*bdrv_has_other_writer)(BlockDriverState *bs);

    /* Fills bs->bl beyond what was merged from the children. */
    void (*bdrv_refresh_limits)(BlockDriverState *bs, Error **errp);

    /*
     * Data. @offset and @bytes are aligned to bl.request_alignment, @bytes is
     * at most bl.max_transfer; the range of a read may reach beyond the end
     * only for drivers that zero-fill it. Data is at @qiov_offset in @qiov.
     * FUA is passed only if supported_write_flags has it.
     */
    int coroutine_fn (*bdrv_co_preadv)(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       size_t qiov_offset,
                                       BdrvRequestFlags flags);
    int coroutine_fn (*bdrv_co_pwritev)(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes, QEMUIOVector *qiov,
                                        size_t qiov_offset,
                                        BdrvRequestFlags flags);
    /*
     * Whole-cluster compressed write; @bytes 0 finishes a stream of them.
     * Called for BDRV_REQ_WRITE_COMPRESSED.
     */
    int coroutine_fn (*bdrv_co_pwritev_compressed)(BlockDriverState *bs,
                                                   int64_t offset,
                                                   int64_t bytes,
                                                   QEMUIOVector *qiov,
                                                   size_t qiov_offset);
    /*
     * -ENOTSUP makes the generic layer write zeroes from a buffer (unless
     * NO_FALLBACK). The driver may get unaligned heads and tails and returns
     * -ENOTSUP for them.
     */
    int coroutine_fn (*bdrv_co_pwrite_zeroes)(BlockDriverState *bs,
                                              int64_t offset, int64_t bytes,
                                              BdrvRequestFlags flags);
    /* Advisory; -ENOTSUP is success for the caller. */
    int coroutine_fn (*bdrv_co_pdiscard)(BlockDriverState *bs, int64_t offset,
                                         int64_t bytes);
    /*
     * Nothing is allocated afterwards, so that the backing file shows all
     * over; internal snapshots stay. An error may leave part of it done.
     */
    int coroutine_fn (*bdrv_co_make_empty)(BlockDriverState *bs);
    /*
     * Puts the range's pages into the empty @pipe. They may show what is written
     * to this place at any later time, so the place belongs to the range as long
     * as there is the file. -ENOTSUP: read it instead. The pipe's content is
     * undefined after an error.
     */
    int coroutine_fn (*bdrv_co_splice)(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, int pipe);
    /* Copy within or between nodes by the lower layers; -ENOTSUP: by buffer. */
    int coroutine_fn (*bdrv_co_copy_range_from)(
        BlockDriverState *bs, BdrvChild *src, int64_t src_offset,
        BdrvChild *dst, int64_t dst_offset, int64_t bytes,
        BdrvRequestFlags read_flags, BdrvRequestFlags write_flags);
    int coroutine_fn (*bdrv_co_copy_range_to)(
        BlockDriverState *bs, BdrvChild *src, int64_t src_offset,
        BdrvChild *dst, int64_t dst_offset, int64_t bytes,
        BdrvRequestFlags read_flags, BdrvRequestFlags write_flags);

    /*
     * Status of the range starting at @offset: sets *@pnum to how many bytes
     * (1..@bytes) share the answer. @want_zero false: only allocation matters,
     * DATA may be answered for zeroes if that is cheaper. Returns
     * BDRV_BLOCK_* bits or -errno.
     */
    int coroutine_fn (*bdrv_co_block_status)(BlockDriverState *bs,
                                             bool want_zero, int64_t offset,
                                             int64_t bytes, int64_t *pnum,
                                             int64_t *map,
                                             BlockDriverState **file);

    /* Write driver caches to the children, without making them durable. */
    int coroutine_fn (*bdrv_co_flush_to_os)(BlockDriverState *bs);
    /* Make durable what the node itself stores; children are flushed by the
     * generic layer. */
    int coroutine_fn (*bdrv_co_flush_to_disk)(BlockDriverState *bs);
    /* In place of the generic layer: for drivers that can do without some of
     * their children. */
    int coroutine_fn (*bdrv_co_flush_children)(BlockDriverState *bs);

    /*
     * @exact false: the result may be longer than @offset. flags:
     * BDRV_REQ_ZERO_WRITE means the new part must read as zeroes.
     */
    int coroutine_fn (*bdrv_co_truncate)(BlockDriverState *bs, int64_t offset,
                                         bool exact, PreallocMode prealloc,
                                         BdrvRequestFlags flags, Error **errp);
    /* Bytes, or -errno. Called when the cached length may be out of date. */
    int64_t coroutine_fn (*bdrv_co_getlength)(BlockDriverState *bs);
    /* Length can change behind our back: never use the cached one. */
    bool has_variable_length;
    int64_t coroutine_fn (*bdrv_co_get_allocated_file_size)(
        BlockDriverState *bs);
    int coroutine_fn (*bdrv_co_get_info)(BlockDriverState *bs,
                                         BlockDriverInfo *bdi);
    /* 1 if a node that was created just now reads as zeroes, 0 if that is not
     * sure. NULL: 0; filters ask the node below. */
    int (*bdrv_has_zero_init)(BlockDriverState *bs);
    /* Caller frees; NULL with @errp untouched if there is nothing to tell. */
    ImageInfoSpecific *(*bdrv_get_specific_info)(BlockDriverState *bs,
                                                 Error **errp);
    /*
     * Internal snapshots, see block/snapshot.h. The node is drained; create,
     * goto and delete are called for writable nodes only, load_tmp for
     * read-only ones. 0 or -errno with @errp set.
     */
    SnapshotInfoList *(*bdrv_snapshot_list)(BlockDriverState *bs,
                                            Error **errp);
    int (*bdrv_snapshot_create)(BlockDriverState *bs, QEMUSnapshotInfo *info,
                                Error **errp);
    int (*bdrv_snapshot_goto)(BlockDriverState *bs, const char *snapshot_id,
                              Error **errp);
    int (*bdrv_snapshot_delete)(BlockDriverState *bs, const char *snapshot_id,
                                const char *name, Error **errp);
    int (*bdrv_snapshot_load_tmp)(BlockDriverState *bs,
                                  const char *snapshot_id, const char *name,
                                  Error **errp);

    int coroutine_fn (*bdrv_co_check)(BlockDriverState *bs,
                                      BdrvCheckResult *result,
                                      BdrvCheckMode fix);
    /* Of what the node itself stores; see bdrv_co_writeback(). */
    int coroutine_fn (*bdrv_co_writeback)(BlockDriverState *bs);
    /*
     * Looks through the metadata of a node that was opened with BDRV_O_SALVAGE
     * and notes the damage (block/damage.h). -errno if that cannot be done.
     */
    int coroutine_fn (*bdrv_co_survey)(BlockDriverState *bs);
    /* The same for drivers that look at more than BdrvCheckOptions.fix. */
    int coroutine_fn (*bdrv_co_check_opts)(BlockDriverState *bs,
                                           BdrvCheckResult *result,
                                           const BdrvCheckOptions *opts);

    /*
     * Before the image in @file can be opened, and with nobody else there:
     * repairs its header if that is certain. 1: a field was written; 0: nothing
     * to do, or nothing is known; -EAGAIN: it is not certain which field was
     * what, and nothing else must be repaired; -errno. Adds lines to @said that
     * tell of it. Main thread.
     */
    int (*bdrv_restore_header)(BlockDriverState *file, GString *said);

    /*
     * Persistent bitmaps; see block/persistent-bitmap.h. Main thread, save
     * with the node drained.
     */
    bool (*bdrv_can_store_bitmap)(BlockDriverState *bs, const char *name,
                                  uint32_t granularity, Error **errp);
    int (*bdrv_save_bitmaps)(BlockDriverState *bs, const char *const *remove,
                             unsigned flags, Error **errp);

    int (*bdrv_change_backing_file)(BlockDriverState *bs,
                                    const char *backing_file,
                                    const char *backing_fmt);
    int coroutine_fn (*bdrv_co_load_vmstate)(BlockDriverState *bs,
                                             QEMUIOVector *qiov, int64_t pos);
    int coroutine_fn (*bdrv_co_save_vmstate)(BlockDriverState *bs,
                                             QEMUIOVector *qiov, int64_t pos);

    /*
     * Creates an image. Format drivers: @options is their create-options
     * struct, the protocol file @filename is created and opened by the driver
     * through bdrv_create_file(). See block/create.h.
     */
    const QapiMemberInfo *create_options;   /* member table for -o help */
    /* "NAME=VALUE" for options that users are shown even if not given;
     * NULL-terminated, or NULL. */
    const char *const *create_defaults;
    int (*bdrv_create)(const char *filename, QDict *options, Error **errp);
    /*
     * The same for blockdev-create. In a coroutine of the main thread without
     * the graph lock; what must be outside coroutines, like opening, goes
     * through main_work_run_co().
     */
    int coroutine_fn (*bdrv_co_create)(BlockdevCreateOptions *options,
                                       Error **errp);
    /* Space that an image of these options and @in_bs's data needs. */
    BlockMeasureInfo *(*bdrv_measure)(QDict *options, BlockDriverState *in_bs,
                                      Error **errp);

    /* Changes options of the image; see block/amend.h. The node is writable.
     * @options: strings by names of amend_options only. */
    const QapiMemberInfo *amend_options;
    int (*bdrv_amend)(BlockDriverState *bs, QDict *options,
                      const BdrvAmendArgs *args, Error **errp);

    /* Test hooks: blkdebug. Any thread; see qemu-io break/resume. */
    void coroutine_fn (*bdrv_co_debug_event)(BlockDriverState *bs,
                                             BlkdebugEvent event);
    int (*bdrv_debug_breakpoint)(BlockDriverState *bs, const char *event,
                                 const char *tag);
    int (*bdrv_debug_remove_breakpoint)(BlockDriverState *bs, const char *tag);
    int (*bdrv_debug_resume)(BlockDriverState *bs, const char *tag);
    bool (*bdrv_debug_is_suspended)(BlockDriverState *bs, const char *tag);

    /*
     * The node becomes quiesced / is no longer: bs->quiesce_counter leaves, or
     * is back at, zero. Requests that wait for something else than children
     * must end by themselves from begin on. May come before bdrv_open ends.
     * Must not wait. Optional.
     */
    void (*bdrv_drained_begin)(BlockDriverState *bs);
    void (*bdrv_drained_end)(BlockDriverState *bs);
    /* See bdrv_hurry(): for drivers that wait for somebody else. */
    void (*bdrv_hurry)(BlockDriverState *bs);

    /*
     * A user adds @child_bs as a child, or takes @child away: x-blockdev-change.
     * The node and @child_bs are drained. Part of @tran, with the graph write
     * lock held; the driver's own state follows in commit and abort.
     */
    bool (*bdrv_add_child)(BlockDriverState *bs, BlockDriverState *child_bs,
                           Transaction *tran, Error **errp);
    bool (*bdrv_del_child)(BlockDriverState *bs, BdrvChild *child,
                           Transaction *tran, Error **errp);

    /* An edge below appears or vanishes; optional. */
    void (*bdrv_attach_child)(BlockDriverState *bs, BdrvChild *child);
    void (*bdrv_detach_child)(BlockDriverState *bs, BdrvChild *child);

    /*
     * Fills bs->exact_filename with a name that opens the same tree with the
     * same options, or leaves it empty if there is none.
     */
    void (*bdrv_refresh_filename)(BlockDriverState *bs);

    /* NULL-terminated option names that do not change the data seen. */
    const char *const *weak_options;

    QLIST_ENTRY(BlockDriver) list;
};

/* What kind of user an edge belongs to. */
struct BdrvChildClass {
    /* child->opaque is a BlockDriverState. */
    bool parent_is_bds;
    /* "block device 'x'", "node 'x'"; caller frees. */
    char *(*get_parent_desc)(BdrvChild *child);
    /* The edge leads to another node (also at first attach, and to NULL). */
    void (*attach)(BdrvChild *child);
    void (*detach)(BdrvChild *child);
    /*
     * Stop issuing requests on @child / whether some are still on their way /
     * go on. begin and end nest. Main thread.
     */
    void (*drained_begin)(BdrvChild *child);
    bool (*drained_poll)(BdrvChild *child);
    void (*drained_end)(BdrvChild *child);
    /* Whether the node may be inactive; its requests are refused then. NULL:
     * never. Main thread. */
    bool (*may_be_inactive)(BdrvChild *child);
    /* The node below changed its length. Any thread, coroutine. */
    void (*resize)(BdrvChild *child);
};

/* Edges whose parent is a node. */
extern const BdrvChildClass child_of_bds;

/*
 * An edge. Fields change only under the graph write lock.
 */
struct BdrvChild {
    BlockDriverState *bs;       /* below; a reference */
    char *name;                 /* "file", "backing", "root" … */
    const BdrvChildClass *klass;
    BdrvChildRole role;
    void *opaque;               /* the parent */

    uint64_t perm;
    uint64_t shared_perm;

    /* drained_begin of the parent was called for the node's quiesce_counter */
    bool quiesced_parent;

    /*
     * Belongs to a reopen in progress: conflicts with another such edge count
     * only in the state after the reopen.
     */
    bool reopening;
    /* Keeps the permissions of an edge that a reopen moved away, until the
     * reopen commits or aborts. Always with reopening. */
    bool reopen_guard;

    /* Main thread only; see block/claim.h. */
    QLIST_HEAD(, BdrvClaim) claims;

    QTAILQ_ENTRY(BdrvChild) next;       /* in parent bs->children */
    QLIST_ENTRY(BdrvChild) next_parent; /* in bs->parents */
};

typedef enum {
    BDRV_TRACKED_READ,
    BDRV_TRACKED_WRITE,
    BDRV_TRACKED_DISCARD,
    BDRV_TRACKED_TRUNCATE,
} BdrvTrackedRequestType;

/* One request in flight on a node; lives on its coroutine's stack. */
struct BdrvTrackedRequest {
    BlockDriverState *bs;
    int64_t offset;
    int64_t bytes;
    BdrvTrackedRequestType type;
    bool serialising;
    int64_t overlap_offset;     /* range others must not touch */
    int64_t overlap_bytes;
    QLIST_ENTRY(BdrvTrackedRequest) list;
    Coroutine *co;
    CoQueue wait_queue;         /* requests waiting for this one */
    BdrvTrackedRequest *waiting_for;
};

struct BlockDriverState {
    /* Fixed from open to close. */
    BlockDriver *drv;           /* NULL while being made and after close */
    void *opaque;               /* the driver's state, instance_size bytes */
    char node_name[BDRV_NODE_NAME_MAX + 1];
    bool probed;                /* format was guessed, not given */

    /* Main thread; read anywhere. Changed by reopen under drain. */
    int open_flags;
    BlockdevDetectZeroesOptions detect_zeroes;
    BlockdevOptions *options;   /* typed, complete */
    QDict *explicit_options;    /* as the user gave them */
    bool encrypted;
    /* Snapshot-capable names: the file opened, and json:{} if no plain one. */
    char filename[PATH_MAX];        /* what a user should be shown */
    char exact_filename[PATH_MAX];  /* plain name, or empty */
    char backing_file[PATH_MAX];    /* from the header; empty if none */
    char auto_backing_file[PATH_MAX];
    char backing_format[16];
    /* What the image itself says, whatever the backing file is by now. */
    char *header_backing_file;      /* NULL if it names none */
    /* With BDRV_O_SALVAGE; its own lock. */
    struct BdrvDamageLog *damage;
    bool backing_lost;              /* there is one, but not to be had: what
                                     * it holds is lost; fixed at open */
    char header_backing_format[16];

    /* Edges. Graph write lock to change. */
    QTAILQ_HEAD(, BdrvChild) children;
    QLIST_HEAD(, BdrvChild) parents;
    BdrvChild *file;            /* the PRIMARY child if it is called so */
    BdrvChild *backing;

    /* Main thread. */
    int refcnt;
    bool monitor_owned;         /* added by name; holds one reference */
    bool closing;               /* last reference is gone */
    struct UserObject *home;    /* a use of it; see block/home.h */
    bool loss_reported;         /* not everything got to the disk, as the user
                                 * knows; atomic */
    /* The node that this one was opened inline for; options left out follow
     * it. No reference: cleared when the edge between them goes. */
    BlockDriverState *inherits_from;
    /* Edges attached to this node come under this owner's CHANGE claim. */
    BdrvClaimOwner *incoming_owner;
    QTAILQ_ENTRY(BlockDriverState) node_list;
    /* Permissions as they were last taken at the driver. */
    uint64_t taken_perm;
    uint64_t taken_shared;
    bool relax_pending;         /* set_perm failed; try again */
    uint64_t relax_errors;      /* how often it failed */
    char *relax_error;          /* the last text */

    BlockLimits bl;
    BdrvRequestFlags supported_read_flags;
    BdrvRequestFlags supported_write_flags;
    BdrvRequestFlags supported_zero_flags;
    BdrvRequestFlags supported_truncate_flags;

    /* Atomic. */
    int64_t total_bytes;        /* cached length, request-alignment rounded
                                 * up by callers that need it */
    unsigned in_flight;         /* requests, all threads */
    unsigned serialising_in_flight;
    int quiesce_counter;        /* >0: drained */
    bool inactive;              /* requests of users are refused */
    uint64_t write_gen;         /* counts completed writes */
    uint64_t wr_highest_offset;
    uint64_t write_threshold_offset;    /* 0: off */

    /* Under reqs_lock (leaf lock; short, never across a yield). */
    QemuMutex reqs_lock;
    QLIST_HEAD(, BdrvTrackedRequest) tracked_requests;
    CoQueue flush_queue;        /* flushes waiting for the active one */
    bool active_flush_req;
    uint64_t flushed_gen;       /* write_gen at the last good flush */

    /* Under dirty_bitmap_mutex (leaf). */
    QemuMutex dirty_bitmap_mutex;
    QLIST_HEAD(, BdrvDirtyBitmap) dirty_bitmaps;
    /* Atomic: written under the mutex; 0 lets writes skip it. */
    unsigned dirty_bitmap_count;
    /* Atomic: before it changes data a driver that stores bitmaps has to see
     * which of the stored ones that would make wrong. */
    bool bitmaps_to_mark;
};

/* block/driver-table.c: every driver in the build. */
extern BlockDriver *const bdrv_drivers[];   /* NULL-terminated */

/* --- helpers for drivers ------------------------------------------------ */

/*
 * Makes a node of @drv directly, without options or file name; @drv->bdrv_open
 * gets options NULL (may be NULL itself). @node_name NULL: generated. For
 * internal filters and tests. Returns a node with one reference, or NULL.
 */
BlockDriverState *bdrv_new_open_driver(BlockDriver *drv, const char *node_name,
                                       int flags, Error **errp);

/*
 * Opens what @ref describes (a node name or inline options) as child @name of
 * @parent. NULL @ref: returns NULL, with an error only if !@allow_none.
 * Inline children inherit cache, force-share and read-only as QEMU does.
 */
BdrvChild *bdrv_open_child(BlockDriverState *parent, BlockdevRef *ref,
                           const char *name, BdrvChildRole role,
                           bool allow_none, Error **errp);

/* Permissions that suit formats (METADATA|DATA|COW roles) and filters. */
void bdrv_default_perms(BlockDriverState *bs, BdrvChild *child,
                        BdrvChildRole role, BlockReopenQueue *queue,
                        uint64_t parent_perm, uint64_t parent_shared,
                        uint64_t *nperm, uint64_t *nshared);

/* A message in the log; the event BLOCK_IMAGE_CORRUPTED later. */
#define BLKDBG_EVENT(child, evt)                                             \
    do {                                                                     \
        if (child) {                                                         \
            bdrv_co_debug_event((child)->bs, evt);                           \
        }                                                                    \
    } while (0)
void coroutine_fn bdrv_co_debug_event(BlockDriverState *bs,
                                      BlkdebugEvent event);

/* A filter's forwarding of block status: RAW at the same offset of its child. */
int coroutine_fn bdrv_co_filter_block_status(BlockDriverState *bs,
                                             bool want_zero, int64_t offset,
                                             int64_t bytes, int64_t *pnum,
                                             int64_t *map,
                                             BlockDriverState **file);

/* The child that stands for the node: PRIMARY, or NULL. */
BdrvChild *bdrv_primary_child(BlockDriverState *bs);
/* The FILTERED child of a filter, else NULL. */
BdrvChild *bdrv_filter_child(BlockDriverState *bs);
/* The COW child (backing), else NULL. */
BdrvChild *bdrv_cow_child(BlockDriverState *bs);
/* The next edge of the chain: filter child or COW child, else NULL. */
BdrvChild *bdrv_filter_or_cow_child(BlockDriverState *bs);

static inline BlockDriverState *child_bs(BdrvChild *child)
{
    return child ? child->bs : NULL;
}
static inline BlockDriverState *bdrv_filter_bs(BlockDriverState *bs)
{
    return child_bs(bdrv_filter_child(bs));
}
static inline BlockDriverState *bdrv_cow_bs(BlockDriverState *bs)
{
    return child_bs(bdrv_cow_child(bs));
}
static inline BlockDriverState *bdrv_filter_or_cow_bs(BlockDriverState *bs)
{
    return child_bs(bdrv_filter_or_cow_child(bs));
}
static inline BlockDriverState *bdrv_primary_bs(BlockDriverState *bs)
{
    return child_bs(bdrv_primary_child(bs));
}

/*
 * Reports that something could not be stored, if it is the first such thing
 * that is said of @bs: in bdrv_close, and where a failure comes too late to be
 * returned. Any context.
 */
void bdrv_report_loss(BlockDriverState *bs, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

#endif
