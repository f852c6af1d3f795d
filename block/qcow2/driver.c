/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The qcow2 driver's table, and the hooks too small for a file. */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/lockable.h"
#include "block/qcow2/amend.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/salvage.h"
#include "block/qcow2/snapshot.h"

static int qcow2_probe(const uint8_t *buf, int buf_size, const char *filename)
{
    if (buf_size >= 8 && ldl_be_p(buf) == QCOW_MAGIC &&
        ldl_be_p(buf + 4) >= 2) {
        return 100;
    }
    return 0;
}

static void qcow2_refresh_limits(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    if (bs->encrypted) {
        bs->bl.request_alignment = MAX(bs->bl.request_alignment,
                                       CRYPTO_SECTOR_SIZE);
    }
    bs->bl.pwrite_zeroes_alignment = s->subcluster_size;
    bs->bl.pdiscard_alignment = s->cluster_size;
    bs->bl.compress_alignment = s->cluster_size;
}

static int64_t coroutine_fn qcow2_co_getlength(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    /* What is less than a sector does not count. */
    return ROUND_DOWN(qatomic_read(&s->disk_size), BDRV_SECTOR_SIZE);
}

static int coroutine_fn qcow2_co_get_info(BlockDriverState *bs,
                                          BlockDriverInfo *bdi)
{
    BDRVQcow2State *s = bs->opaque;

    bdi->cluster_size = s->cluster_size;
    bdi->subcluster_size = s->subcluster_size;
    bdi->vm_state_offset = qcow2_vm_state_offset(s);
    bdi->is_dirty = s->incompatible_features & QCOW2_INCOMPAT_DIRTY;
    return 0;
}

/*
 * Of an image that was just created: without clusters it reads as zeroes, and
 * preallocated ones show what the file has there.
 */
static int qcow2_has_zero_init(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    if (s->l1.size && s->l1.entries[0]) {
        return !bs->encrypted && bdrv_has_zero_init(qcow2_data_child(bs)->bs);
    }
    return 1;
}

static int coroutine_fn qcow2_co_check(BlockDriverState *bs,
                                       BdrvCheckResult *result,
                                       const BdrvCheckOptions *opts)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Request req;
    int ret = 0;

    if (qcow2_is_stopped(s)) {
        return -EUCLEAN;
    }
    /*
     * The whole disk: a write that has its clusters but does not refer to
     * them yet would look like a leak.
     */
    qcow2_request_begin(&s->inflight, &req, 0, INT64_MAX, true);
    qemu_co_mutex_lock(&s->lock);
    ret = qcow2_check_locked(bs, result, opts);
    qemu_co_mutex_unlock(&s->lock);
    qcow2_request_end(&s->inflight, &req);
    return ret;
}

static bool qcow2_stopped(BlockDriverState *bs)
{
    return qcow2_is_stopped(bs->opaque);
}

/*
 * A corrupt image that is read only may be written to by others: who marked it
 * does not let it become writable before somebody has repaired it. A reopen,
 * which reads it again, must not do so while it changes.
 */
static void qcow2_child_perm(BlockDriverState *bs, BdrvChild *child,
                             BdrvChildRole role, BlockReopenQueue *queue,
                             uint64_t parent_perm, uint64_t parent_shared,
                             uint64_t *nperm, uint64_t *nshared)
{
    BDRVQcow2State *s = bs->opaque;
    bool stays = !queue || (bs->open_flags & BDRV_O_RDWR);

    bdrv_default_perms(bs, child, role, queue, parent_perm, parent_shared,
                       nperm, nshared);
    if ((s->incompatible_features & QCOW2_INCOMPAT_CORRUPT) && stays &&
        !(bdrv_reopen_flags(queue, bs) & BDRV_O_RDWR) &&
        !(role & BDRV_CHILD_COW)) {
        *nshared |= parent_shared & (BLK_PERM_WRITE | BLK_PERM_RESIZE);
    }
}

static const char *const qcow2_weak_options[] = {
    "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot",
    "pass-discard-other", "discard-no-unref", "overlap-check", "cache-size",
    "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size",
    "cache-clean-interval", "data-file", NULL
};

static const char *const qcow2_reopen_options[] = {
    "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot",
    "pass-discard-other", "discard-no-unref", "overlap-check", "cache-size",
    "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size",
    "cache-clean-interval", NULL
};

BlockDriver bdrv_qcow2 = {
    .format_name = "qcow2",
    .id = BLOCKDEV_DRIVER_QCOW2,
    .instance_size = sizeof(BDRVQcow2State),
    .is_format = true,
    .supports_backing = true,

    .bdrv_probe = qcow2_probe,
    .bdrv_open = qcow2_open,
    .bdrv_close = qcow2_close,
    .bdrv_reopen_prepare = qcow2_reopen_prepare,
    .bdrv_reopen_commit = qcow2_reopen_commit,
    .bdrv_reopen_abort = qcow2_reopen_abort,
    .reopen_options = qcow2_reopen_options,
    .supports_inactive = true,
    .bdrv_prepare_inactive = qcow2_prepare_inactive,
    .bdrv_set_inactive = qcow2_set_inactive,
    .bdrv_activate = qcow2_activate,
    .bdrv_is_stopped = qcow2_stopped,
    .bdrv_child_perm = qcow2_child_perm,
    .bdrv_refresh_limits = qcow2_refresh_limits,

    .bdrv_amend = qcow2_amend,
    .amend_options = qapi_AmendOptionsQcow2_members,

    .bdrv_co_preadv = qcow2_co_preadv,
    .bdrv_co_pwritev = qcow2_co_pwritev,
    .bdrv_co_pwritev_compressed = qcow2_co_pwritev_compressed,
    .bdrv_co_pwrite_zeroes = qcow2_co_pwrite_zeroes,
    .bdrv_co_pdiscard = qcow2_co_pdiscard,
    .bdrv_co_make_empty = qcow2_co_make_empty,
    .bdrv_co_copy_range_from = qcow2_co_copy_range_from,
    .bdrv_co_block_status = qcow2_co_block_status,
    .bdrv_co_flush_to_os = qcow2_co_flush_to_os,

    .bdrv_co_truncate = qcow2_co_truncate,
    .bdrv_co_getlength = qcow2_co_getlength,
    .bdrv_co_get_info = qcow2_co_get_info,
    .bdrv_has_zero_init = qcow2_has_zero_init,
    .bdrv_get_specific_info = qcow2_get_specific_info,
    .bdrv_snapshot_list = qcow2_snapshot_list,
    .bdrv_snapshot_create = qcow2_snapshot_create,
    .bdrv_snapshot_goto = qcow2_snapshot_goto,
    .bdrv_snapshot_delete = qcow2_snapshot_delete,
    .bdrv_snapshot_load_tmp = qcow2_snapshot_load_tmp,
    .bdrv_co_survey = qcow2_co_survey,
    .bdrv_co_check_opts = qcow2_co_check,
    .bdrv_restore_header = qcow2_restore_header,
    .bdrv_can_store_bitmap = qcow2_can_store_bitmap,
    .bdrv_save_bitmaps = qcow2_save_bitmaps,
    .bdrv_change_backing_file = qcow2_change_backing_file,

    .create_options = qapi_CreateOptionsQcow2_members,
    .create_defaults = qcow2_create_defaults,
    .bdrv_create = qcow2_create,
    .bdrv_co_create = qcow2_co_create,
    .bdrv_measure = qcow2_measure,

    .weak_options = qcow2_weak_options,
};
