/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver "quorum": several nodes with the same content. A request is good if
 * as many children as the threshold says have done it alike; the others are
 * reported by the event QUORUM_REPORT_BAD, and a request that too few did by
 * QUORUM_FAILURE. See quorum.h; reads are in quorum-read.c.
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "block/filters/quorum.h"
#include "block/graph-internal.h"
#include "qapi/qapi-events.h"
#include "qobject/qlist.h"
#include "util/atomic.h"

/* Longest request in bytes; a vote has a buffer for every child. */
#define MAX_TRANSFER (16 << 20)

/* --- requests to all children --- */

static unsigned count_children(BlockDriverState *bs)
{
    BdrvChild *child;
    unsigned n = 0;

    QTAILQ_FOREACH(child, &bs->children, next) {
        n++;
    }
    return n;
}

void quorum_request_init(QuorumRequest *r, BlockDriverState *bs)
{
    BdrvChild *child;

    r->bs = bs;
    r->parts = g_new0(QuorumPart, count_children(bs));
    r->nb_parts = 0;
    QTAILQ_FOREACH(child, &bs->children, next) {
        r->parts[r->nb_parts++] = (QuorumPart) { .r = r, .child = child };
    }
}

void quorum_request_destroy(QuorumRequest *r)
{
    for (unsigned i = 0; i < r->nb_parts; i++) {
        qemu_vfree(r->parts[i].buf);
    }
    g_free(r->parts);
}

typedef struct RunningPart {
    QuorumPart *part;
    CoWaitGroup *group;
} RunningPart;

static void coroutine_fn part_entry(void *opaque)
{
    RunningPart *running = opaque;
    CoWaitGroup *group = running->group;

    running->part->ret = running->part->r->run(running->part);
    qemu_co_wait_group_done(group);
}

unsigned coroutine_fn quorum_request_run(QuorumRequest *r)
{
    g_autofree RunningPart *running = g_new(RunningPart, r->nb_parts);
    CoWaitGroup group;
    unsigned good = 0;

    qemu_co_wait_group_init(&group);
    qemu_co_wait_group_add(&group, r->nb_parts);
    for (unsigned i = 0; i < r->nb_parts; i++) {
        running[i] = (RunningPart) { &r->parts[i], &group };
        qemu_coroutine_enter(qemu_coroutine_create(part_entry, &running[i]));
    }
    qemu_co_wait_group_wait(&group);
    qemu_co_wait_group_destroy(&group);
    for (unsigned i = 0; i < r->nb_parts; i++) {
        good += r->parts[i].ret >= 0;
    }
    return good;
}

/* --- what is told about them --- */

static int64_t first_sector(const QuorumRequest *r)
{
    return r->offset / (int64_t)BDRV_SECTOR_SIZE;
}

static int64_t nb_sectors(const QuorumRequest *r)
{
    return DIV_ROUND_UP(r->offset + r->bytes, (int64_t)BDRV_SECTOR_SIZE) -
           first_sector(r);
}

void quorum_report_bad(const QuorumRequest *r, const QuorumPart *part,
                       QuorumOpType type, int ret)
{
    qapi_event_send_quorum_report_bad(
        type, ret < 0 ? strerror(-ret) : NULL,
        bdrv_get_node_name(part->child->bs), first_sector(r), nb_sectors(r));
}

void quorum_report_failure(const QuorumRequest *r)
{
    qapi_event_send_quorum_failure(
        bdrv_get_device_or_node_name(r->bs), first_sector(r), nb_sectors(r));
}

/* The error that most children have, the first of several. */
static int usual_error(const QuorumRequest *r)
{
    unsigned most = 0;
    int error = -EIO;

    for (unsigned i = 0; i < r->nb_parts; i++) {
        unsigned n = 0;

        for (unsigned j = i; j < r->nb_parts; j++) {
            n += r->parts[j].ret == r->parts[i].ret;
        }
        if (r->parts[i].ret < 0 && n > most) {
            most = n;
            error = r->parts[i].ret;
        }
    }
    return error;
}

int quorum_request_result(const QuorumRequest *r, unsigned good,
                          QuorumOpType type)
{
    const BDRVQuorumState *s = r->bs->opaque;

    for (unsigned i = 0; i < r->nb_parts; i++) {
        if (r->parts[i].ret < 0) {
            quorum_report_bad(r, &r->parts[i], type, r->parts[i].ret);
        }
    }
    if (good >= s->options.threshold) {
        return 0;
    }
    quorum_report_failure(r);
    return usual_error(r);
}

/* --- writes and flushes --- */

static int coroutine_fn run_all(QuorumRequest *r, QuorumOpType type)
{
    int ret = quorum_request_result(r, quorum_request_run(r), type);

    quorum_request_destroy(r);
    return ret;
}

static int coroutine_fn write_part(QuorumPart *part)
{
    QuorumRequest *r = part->r;

    return bdrv_co_pwritev_part(part->child, r->offset, r->bytes, r->qiov,
                                r->qiov_offset, r->flags);
}

static int coroutine_fn quorum_co_pwritev(BlockDriverState *bs, int64_t offset,
                                          int64_t bytes, QEMUIOVector *qiov,
                                          size_t qiov_offset,
                                          BdrvRequestFlags flags)
{
    QuorumRequest r = {
        .offset = offset, .bytes = bytes, .qiov = qiov,
        .qiov_offset = qiov_offset, .flags = flags, .run = write_part,
    };

    quorum_request_init(&r, bs);
    return run_all(&r, QUORUM_OP_TYPE_WRITE);
}

static int coroutine_fn write_zeroes_part(QuorumPart *part)
{
    QuorumRequest *r = part->r;

    return bdrv_co_pwrite_zeroes(part->child, r->offset, r->bytes, r->flags);
}

static int coroutine_fn quorum_co_pwrite_zeroes(BlockDriverState *bs,
                                                int64_t offset, int64_t bytes,
                                                BdrvRequestFlags flags)
{
    QuorumRequest r = {
        .offset = offset, .bytes = bytes, .flags = flags,
        .run = write_zeroes_part,
    };

    quorum_request_init(&r, bs);
    return run_all(&r, QUORUM_OP_TYPE_WRITE);
}

static int coroutine_fn flush_part(QuorumPart *part)
{
    return bdrv_co_flush(part->child->bs);
}

static int coroutine_fn quorum_co_flush_children(BlockDriverState *bs)
{
    QuorumRequest r = { .run = flush_part };

    quorum_request_init(&r, bs);
    return run_all(&r, QUORUM_OP_TYPE_FLUSH);
}

/* --- status: zeroes only where all children agree --- */

static int coroutine_fn quorum_co_block_status(BlockDriverState *bs,
                                               bool want_zero, int64_t offset,
                                               int64_t bytes, int64_t *pnum,
                                               int64_t *map,
                                               BlockDriverState **file)
{
    BdrvChild *child;

    QTAILQ_FOREACH(child, &bs->children, next) {
        int64_t n;
        int ret = bdrv_co_block_status_above(child->bs, NULL, false, want_zero,
                                             offset, bytes, &n, NULL, NULL,
                                             NULL);

        if (ret < 0 || n == 0) {
            break;
        }
        bytes = n;
        if (!(ret & BDRV_BLOCK_ZERO)) {
            break;
        }
    }
    *pnum = bytes;
    return child ? BDRV_BLOCK_DATA : BDRV_BLOCK_ZERO;
}

/* --- length --- */

static int64_t coroutine_fn quorum_co_getlength(BlockDriverState *bs)
{
    BdrvChild *child;
    int64_t length = -ENOMEDIUM;

    QTAILQ_FOREACH(child, &bs->children, next) {
        int64_t n = bdrv_co_getlength(child->bs);

        if (n < 0) {
            return n;
        }
        if (length >= 0 && n != length) {
            return -EIO;
        }
        length = n;
    }
    return length;
}

/* Whether @child_bs has the length of the first child. */
static bool check_length(BlockDriverState *bs, BlockDriverState *child_bs,
                         Error **errp)
{
    BdrvChild *first = QTAILQ_FIRST(&bs->children);
    int64_t length = bdrv_getlength(child_bs);
    int64_t expected = first ? bdrv_getlength(first->bs) : length;

    if (length < 0 || expected < 0) {
        error_setg_errno(errp, -MIN(length, expected),
                         "Could not get the length of the children");
        return false;
    }
    if (length != expected) {
        error_setg(errp, "Children must have the same length: node '%s' is %"
                   PRId64 " bytes long, node '%s' is %" PRId64,
                   bdrv_get_node_name(child_bs), length,
                   bdrv_get_node_name(first->bs), expected);
        return false;
    }
    return true;
}

/* --- options --- */

static bool read_options(QuorumOptions *result, const BlockdevOptionsQuorum *o,
                         size_t nb_children, Error **errp)
{
    *result = (QuorumOptions) {
        .threshold = o->vote_threshold,
        .blkverify = o->has_blkverify && o->blkverify,
        .rewrite = o->has_rewrite_corrupted && o->rewrite_corrupted,
        .read_pattern = o->has_read_pattern ? o->read_pattern
                                            : QUORUM_READ_PATTERN_QUORUM,
    };
    if (!nb_children) {
        error_setg(errp, "Number of provided children must be 1 or more");
        return false;
    }
    if (result->threshold < 1) {
        error_setg(errp, "Parameter 'vote-threshold' expects a value >= 1");
        return false;
    }
    if (result->threshold > (int64_t)nb_children) {
        error_setg(errp, "threshold may not exceed children count");
        return false;
    }
    if (result->blkverify && (nb_children != 2 || result->threshold != 2)) {
        error_setg(errp, "blkverify=on can only be set if there are exactly "
                   "two files and vote-threshold is 2");
        return false;
    }
    if (result->blkverify && result->rewrite) {
        error_setg(errp, "rewrite-corrupted=on cannot be used with "
                   "blkverify=on");
        return false;
    }
    return true;
}

/* --- open, reopen --- */

static char *next_child_name(const BDRVQuorumState *s)
{
    return g_strdup_printf("children.%" PRIu64, s->next_child);
}

static bool open_children(BlockDriverState *bs, BlockdevRefList *refs,
                          Error **errp)
{
    for (; refs; refs = refs->next) {
        g_autofree char *name = next_child_name(bs->opaque);
        BdrvChild *child = bdrv_open_child(bs, refs->value, name,
                                           BDRV_CHILD_DATA, false, errp);

        if (!child || !check_length(bs, child->bs, errp)) {
            return false;
        }
        ((BDRVQuorumState *)bs->opaque)->next_child++;
    }
    return true;
}

static int quorum_open(BlockDriverState *bs, BlockdevOptions *options,
                       int flags, Error **errp)
{
    BDRVQuorumState *s = bs->opaque;
    BlockdevOptionsQuorum *o = &options->u.quorum;

    if (!read_options(&s->options, o, QAPI_LIST_LENGTH(o->children), errp) ||
        !open_children(bs, o->children, errp)) {
        return -EINVAL;
    }
    /* What a child cannot do, the generic layer does for it. */
    bs->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_FUA |
                               BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    return 0;
}

static int quorum_reopen_prepare(BDRVReopenState *state,
                                 BlockReopenQueue *queue, Error **errp)
{
    g_autofree QuorumOptions *options = g_new(QuorumOptions, 1);
    BdrvChild *child;

    if (!read_options(options, &state->options->u.quorum,
                      count_children(state->bs), errp)) {
        return -EINVAL;
    }
    QTAILQ_FOREACH(child, &state->bs->children, next) {
        if (!check_length(state->bs, child->bs, errp)) {
            return -EINVAL;
        }
    }
    state->opaque = g_steal_pointer(&options);
    return 0;
}

static void quorum_reopen_commit(BDRVReopenState *state)
{
    BDRVQuorumState *s = state->bs->opaque;

    s->options = *(QuorumOptions *)state->opaque;
    g_free(state->opaque);
}

static void quorum_reopen_abort(BDRVReopenState *state)
{
    g_free(state->opaque);
}

static void quorum_child_perm(BlockDriverState *bs, BdrvChild *child,
                              BdrvChildRole role, BlockReopenQueue *queue,
                              uint64_t parent_perm, uint64_t parent_shared,
                              uint64_t *nperm, uint64_t *nshared)
{
    BDRVQuorumState *s = bs->opaque;

    /* Not resized through this node; others would make children differ. */
    *nperm = parent_perm & ~(uint64_t)BLK_PERM_RESIZE;
    *nshared = parent_shared & ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE);
    if (s->options.rewrite && (bdrv_reopen_flags(queue, bs) & BDRV_O_RDWR)) {
        *nperm |= BLK_PERM_WRITE;
    }
}

static void quorum_refresh_limits(BlockDriverState *bs, Error **errp)
{
    /* Each child pads what it gets. */
    bs->bl.request_alignment = 1;
    bs->bl.pdiscard_alignment = 0;
    bs->bl.pwrite_zeroes_alignment = 0;
    bs->bl.max_transfer = MIN_NON_ZERO(bs->bl.max_transfer,
                                       (uint32_t)MAX_TRANSFER);
}

/* --- x-blockdev-change --- */

/* The option "children" of later reopens: what there is by then. */
static void children_changed(void *opaque)
{
    BlockDriverState *bs = opaque;
    QList *list = qlist_new();
    BdrvChild *child;

    QTAILQ_FOREACH(child, &bs->children, next) {
        qlist_append_str(list, bdrv_get_node_name(child->bs));
    }
    qdict_put(bs->explicit_options, "children", list);
}

static const TransactionActionDrv children_changed_drv = {
    .commit = children_changed,
};

static void child_added(void *opaque)
{
    BlockDriverState *bs = opaque;
    BDRVQuorumState *s = bs->opaque;

    s->next_child++;
    children_changed(bs);
}

static const TransactionActionDrv child_added_drv = {
    .commit = child_added,
};

static bool quorum_add_child(BlockDriverState *bs, BlockDriverState *child_bs,
                             Transaction *tran, Error **errp)
{
    BDRVQuorumState *s = bs->opaque;
    g_autofree char *name = next_child_name(s);

    if (s->options.blkverify) {
        error_setg(errp, "Cannot add a child to a quorum in blkverify mode");
        return false;
    }
    if (!check_length(bs, child_bs, errp) ||
        !bdrv_attach_child_tran(bs, child_bs, name, BDRV_CHILD_DATA, tran,
                                errp)) {
        return false;
    }
    tran_add(tran, &child_added_drv, bs);
    return true;
}

static bool quorum_del_child(BlockDriverState *bs, BdrvChild *child,
                             Transaction *tran, Error **errp)
{
    BDRVQuorumState *s = bs->opaque;

    if (count_children(bs) <= s->options.threshold) {
        error_setg(errp, "The number of children cannot be lower than the "
                   "vote threshold %" PRId64, s->options.threshold);
        return false;
    }
    if (!bdrv_unref_child_tran(child, NULL, tran, errp)) {
        return false;
    }
    tran_add(tran, &children_changed_drv, bs);
    return true;
}

static const char *const quorum_reopen_options[] = {
    "vote-threshold", "read-pattern", NULL
};
static const char *const quorum_weak_options[] = {
    "children", "blkverify", "rewrite-corrupted", "read-pattern", NULL
};

BlockDriver bdrv_quorum = {
    .format_name = "quorum",
    .id = BLOCKDEV_DRIVER_QUORUM,
    .instance_size = sizeof(BDRVQuorumState),
    .bdrv_open = quorum_open,
    .bdrv_reopen_prepare = quorum_reopen_prepare,
    .bdrv_reopen_commit = quorum_reopen_commit,
    .bdrv_reopen_abort = quorum_reopen_abort,
    .reopen_options = quorum_reopen_options,
    .weak_options = quorum_weak_options,
    .supports_inactive = true,
    .bdrv_child_perm = quorum_child_perm,
    .bdrv_add_child = quorum_add_child,
    .bdrv_del_child = quorum_del_child,
    .bdrv_refresh_limits = quorum_refresh_limits,
    .bdrv_co_preadv = quorum_co_preadv,
    .bdrv_co_pwritev = quorum_co_pwritev,
    .bdrv_co_pwrite_zeroes = quorum_co_pwrite_zeroes,
    .bdrv_co_flush_children = quorum_co_flush_children,
    .bdrv_co_block_status = quorum_co_block_status,
    .bdrv_co_getlength = quorum_co_getlength,
};
