/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the drivers "file" and "host_device": one open descriptor, the
 * lock bytes held through it, and what was learned about the file.
 *
 * 1. There is always exactly one descriptor in use. It changes only while no
 *    request is in flight (graph write lock, or drained for a reopen).
 * 2. A new descriptor holds every lock byte of the old one before the old one
 *    is closed: a file in use is never without its locks.
 * 3. Which file it is was decided by the first open. Later descriptors are
 *    made from the one in use, not from the name, which may have moved; those of
 *    a set come from the set, for what it lacks was not granted.
 */
#ifndef BLOCK_FILE_INT_H
#define BLOCK_FILE_INT_H

#include "block/block_int.h"
#include "util/thread.h"

/* --- locks.c ------------------------------------------------------------ */

/*
 * Byte 100+n of the file says: somebody holds permission bit n; byte 200+n:
 * somebody does not share it. Bytes are taken shared and tested exclusive.
 * Main thread.
 */
typedef struct FileLocks {
    bool enabled;
    uint64_t perm;      /* bits n whose byte 100+n is held */
    uint64_t unshared;  /* bits n whose byte 200+n is held */
} FileLocks;

/*
 * Takes through @fd what is missing of @perm and @unshared, then tests that
 * nobody else objects. What is held is kept. On failure the state is as
 * before; @filename is for the advice in @errp. 0 or -errno.
 */
int file_locks_take(FileLocks *locks, int fd, uint64_t perm,
                    uint64_t unshared, const char *filename, Error **errp);

/*
 * Gives up what is held through @fd beyond @perm and @unshared. Goes on after
 * errors; bytes that could not be released stay recorded as held. 0, or the
 * first -errno.
 */
int file_locks_give(FileLocks *locks, int fd, uint64_t perm,
                    uint64_t unshared, Error **errp);

/*
 * Takes exactly @locks through @fd without testing, for a second descriptor
 * of a file whose first one holds them. 0 or -errno; then close @fd.
 */
int file_locks_copy(const FileLocks *locks, int fd, Error **errp);

/* Whether somebody else holds the write permission; see block_int.h. */
int file_has_other_writer(BlockDriverState *bs);

/* --- extents.c ---------------------------------------------------------- */

#define FILE_EXTENT_SLOTS 8

typedef struct FileExtent {
    int64_t start;
    int64_t end;        /* exclusive; start == end: unused */
} FileExtent;

/*
 * Answers of SEEK_DATA and SEEK_HOLE that are still worth something.
 *
 * A stale "data" only costs somebody a read of zeroes, so it may be kept even
 * though others may write the file. A stale "hole" loses data: holes are kept
 * only while the lock bytes keep all other writers out, and each write of ours
 * drops those it touches before it is reported as done.
 */
typedef struct FileExtents {
    QemuMutex lock;                         /* leaf; protects the arrays */
    FileExtent data[FILE_EXTENT_SLOTS];
    FileExtent hole[FILE_EXTENT_SLOTS];
    unsigned next_data, next_hole;          /* slots to reuse */
    FileExtent *map;            /* data in [map_start, map_end), from FIEMAP:
                                 * the rest is holes. Any write voids it */
    unsigned map_n;
    int64_t map_start, map_end;
    int64_t next_offset;        /* where the last answer of a seek ended */
    unsigned in_order;          /* seeks that went on from the one before */
    /* Fixed by open. */
    BlockdevFileExtents mode;
    /* Atomic. */
    unsigned gen;               /* counts changes of what is allocated */
    bool have_holes;            /* some slot of @hole is used, or the map */
    bool keep_holes;            /* other writers are locked out */
    bool no_fiemap;             /* it has failed here */
} FileExtents;

void file_extents_init(FileExtents *x, BlockdevFileExtents mode);
void file_extents_destroy(FileExtents *x);
/* Whether holes may be remembered. Forgets them when not. */
void file_extents_keep_holes(FileExtents *x, bool keep);
/* A write reached the file: the range may be a hole no more. Any thread. */
void file_extents_written(FileExtents *x, int64_t offset, int64_t bytes);
/* The range may be data no more and may have become a hole. Any thread. */
void file_extents_freed(FileExtents *x, int64_t offset, int64_t bytes);
/* The file changed beyond description. */
void file_extents_forget(FileExtents *x);

/*
 * Whether the byte at @offset of @fd is in a hole (*@hole) and where that ends
 * (*@end > @offset; INT64_MAX: a hole without data after it). Nobody wants to
 * know about what lies from @limit on. A file that cannot tell is all data.
 * Never fails; may read the file system's metadata.
 */
void file_extents_find(FileExtents *x, int fd, int64_t offset, int64_t limit,
                       bool *hole, int64_t *end);

/*
 * fiemap.c: the ranges of data in [@start, @end) of @fd, at most @max of them,
 * as far as *@known_end; the rest up to there is holes. 0 or -errno.
 */
int file_map_extents(int fd, int64_t start, int64_t end, FileExtent *data,
                     unsigned max, unsigned *n, int64_t *known_end);

int coroutine_fn file_co_block_status(BlockDriverState *bs, bool want_zero,
                                      int64_t offset, int64_t bytes,
                                      int64_t *pnum, int64_t *map,
                                      BlockDriverState **file);

/* --- the node ----------------------------------------------------------- */

typedef enum {
    FILE_ENGINE_THREADS,
    FILE_ENGINE_NATIVE,
    FILE_ENGINE_IO_URING,
} FileEngine;

typedef struct BDRVFileState {
    /* Fixed by open. */
    char *filename;             /* as given, without prefix */
    bool is_device;             /* block or character device */
    bool is_block_device;
    bool in_memory;             /* in a file system without a device */
    dev_t dev;                  /* identity of the file */
    ino_t ino;
    dev_t rdev;
    bool in_set;                /* the name is that of a set (util/fdset.h) */
    int64_t set;

    /* Changed while no request is in flight. */
    int fd;
    int fd_flags;               /* access mode and O_DIRECT of fd */
    FileEngine engine;

    /* Main thread. */
    FileLocks locks;

    /* Learned; atomic, only ever change from false to true. */
    bool no_punch_hole;
    bool no_zero_range;
    bool no_fallocate;
    bool no_blkzeroout;
    bool no_blkdiscard;
    bool no_rwf_dsync;

    /*
     * Atomic; 0, or the -errno of a flush that failed. The kernel may have
     * marked the lost pages clean: a second fsync would succeed without
     * writing them.
     */
    int flush_error;

    QemuMutex memory_write;     /* one large write if in_memory; leaf */
    FileExtents extents;
} BDRVFileState;

/* --- activate.c ----------------------------------------------------------- */

/* As the driver's callback: the option "drop-cache" says whether pages that the
 * kernel has of the file are dropped. */
int file_activate(BlockDriverState *bs, Error **errp);

/* --- descriptor.c, perm.c, reopen.c -------------------------------------- */

/* Permissions that need a writable descriptor. */
#define FILE_PERM_WRITERS                                                    \
    (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED | BLK_PERM_RESIZE)

/* Flags for open(2) that suit @bdrv_flags when @perm is held. */
int file_fd_flags(int bdrv_flags, uint64_t perm);

/* -EACCES with @errp if @fd, open with @fd_flags for writing, is a device that
 * cannot be written; else 0. */
int file_check_writable(int fd, int fd_flags, Error **errp);

/*
 * A second descriptor of the file behind @s->fd, with access mode and O_DIRECT
 * of @fd_flags. -errno on failure.
 */
int file_open_again(BDRVFileState *s, int fd_flags, Error **errp);

/*
 * Lets the node use @fd, which holds the locks that s->locks says; closes the
 * descriptor used so far.
 */
void file_install_fd(BDRVFileState *s, int fd, int fd_flags);

int file_check_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared,
                    Error **errp);
int file_set_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared,
                  Error **errp);

/*
 * Called, if not NULL, before permissions are relaxed; a negative return makes
 * that fail with this error and nothing given up. For tests of what the
 * generic layer does then.
 */
extern int (*file_relax_hook)(BlockDriverState *bs);

int file_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                        Error **errp);
void file_reopen_commit(BDRVReopenState *state);
void file_reopen_abort(BDRVReopenState *state);

/*
 * Which engine @o, or else @bdrv_flags, asks for; false with @errp for one
 * that cannot be had.
 */
bool file_engine_from_options(const BlockdevOptionsFile *o, int bdrv_flags,
                              FileEngine *engine, Error **errp);

/* --- align.c ------------------------------------------------------------ */

void file_refresh_limits(BlockDriverState *bs, Error **errp);

/* --- io.c --------------------------------------------------------------- */

int coroutine_fn file_co_preadv(BlockDriverState *bs, int64_t offset,
                                int64_t bytes, QEMUIOVector *qiov,
                                size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn file_co_pwritev(BlockDriverState *bs, int64_t offset,
                                 int64_t bytes, QEMUIOVector *qiov,
                                 size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn file_co_flush_to_disk(BlockDriverState *bs);

/* --- splice.c ----------------------------------------------------------- */

int coroutine_fn file_co_splice(BlockDriverState *bs, int64_t offset,
                                int64_t bytes, int pipe);

/* --- zero.c: giving space back, writing zeroes, copying in the kernel --- */

int coroutine_fn file_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, BdrvRequestFlags flags);
int coroutine_fn file_co_pdiscard(BlockDriverState *bs, int64_t offset,
                                  int64_t bytes);
int coroutine_fn file_co_writeback(BlockDriverState *bs);
int coroutine_fn file_co_copy_range_from(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags);
int coroutine_fn file_co_copy_range_to(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags);

/* --- resize.c ----------------------------------------------------------- */

/* Bytes of the file or device behind @fd, or -errno. May block. */
int64_t file_fd_length(int fd);

/*
 * Makes the regular file @fd @length bytes long; what is new is preallocated
 * as @prealloc says, otherwise a hole, and reads as zeroes. On failure the
 * old length is restored as far as possible. Blocks; any thread. 0 or -errno.
 */
int file_fd_resize(int fd, int64_t length, PreallocMode prealloc,
                   Error **errp);

int coroutine_fn file_co_truncate(BlockDriverState *bs, int64_t offset,
                                  bool exact, PreallocMode prealloc,
                                  BdrvRequestFlags flags, Error **errp);
int64_t coroutine_fn file_co_getlength(BlockDriverState *bs);
int64_t coroutine_fn file_co_get_allocated_file_size(BlockDriverState *bs);

/* --- file.c: shared by both drivers ------------------------------------- */

/* Opens @o for a node; @device: it must be a device rather than a file. */
int file_open_node(BlockDriverState *bs, const BlockdevOptionsFile *o,
                   bool device, int flags, Error **errp);
void file_close(BlockDriverState *bs);
int coroutine_fn file_co_get_info(BlockDriverState *bs, BlockDriverInfo *bdi);
void file_refresh_filename(BlockDriverState *bs);
/* Strips @prefix from @filename and stores the rest as option "filename". */
bool file_parse_prefixed(const char *filename, const char *prefix,
                         QDict *options, Error **errp);
extern const char *const file_weak_options[];
/* Options that a reopen may change. */
extern const char *const file_reopen_options[];

/* --- create.c ----------------------------------------------------------- */

int file_create(const char *filename, QDict *options, Error **errp);
int coroutine_fn file_co_create(BlockdevCreateOptions *options, Error **errp);
int host_device_create(const char *filename, QDict *options, Error **errp);

#endif
