/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From one version of the format to the other.
 *
 * Version 2 has no feature bits, no zero flag, one width of refcounts. What
 * would be lost on the way down is found first and refused by name; clusters
 * that read as zeroes are made to do so without the flag, by the same steps as
 * a guest's writes; then one write of the header is all.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "util/lockable.h"
#include "util/memalign.h"
#include "block/qcow2/amend.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/snapshot-switch.h"

/* Bytes of zeroes written at once. */
#define ZERO_BUFFER (1024 * 1024)
/* Bytes of extra data that version 3 wants of each snapshot. */
#define V3_SNAPSHOT_EXTRA offsetof(QCowSnapshotExtraData, icount)

/* --- up --- */

/* Writes the snapshot table again, with what version 3 wants in it. */
static int coroutine_fn complete_snapshots(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Switch sw;
    int ret;

    ret = qcow2_switch_begin(bs, &sw, errp);
    if (ret == 0) {
        sw.snapshots = s->snapshots;
        sw.nb_snapshots = s->nb_snapshots;
        sw.keep_l1 = true;
        ret = qcow2_table_init(&sw.l1, s->l1.size, 0);
        if (ret < 0) {
            error_setg(errp, "Could not allocate L1 table");
        }
    }
    if (ret == 0) {
        memcpy(sw.l1.entries, s->l1.entries, s->l1.size * L1E_SIZE);
        ret = qcow2_switch_finish(&sw, errp);
    }
    qcow2_switch_end(&sw);
    return ret;
}

int coroutine_fn qcow2_amend_upgrade(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = 0;

    assert(s->qcow_version == 2);
    /* For what is written; on disk it is 2 up to the last step. */
    s->qcow_version = 3;
    for (uint32_t i = 0; ret == 0 && i < s->nb_snapshots; i++) {
        if (s->snapshots[i].extra_data_size < V3_SNAPSHOT_EXTRA) {
            ret = complete_snapshots(bs, errp);
            break;
        }
    }
    if (ret == 0) {
        ret = qcow2_flush_metadata(bs);
        if (ret == 0) {
            ret = qcow2_update_header(bs);
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Failed to update the image header");
        }
    }
    if (ret < 0) {
        s->qcow_version = 2;
        return ret;
    }
    s->header_length = QCOW2_V3_HEADER_LENGTH;
    return 0;
}

/* --- what version 2 cannot keep --- */

static bool check_header(const BDRVQcow2State *s, Error **errp)
{
    ERRP_GUARD();
    uint64_t features = s->incompatible_features & ~QCOW2_INCOMPAT_DIRTY;
    const uint8_t *unknown = s->unknown_header_fields;

    if (features) {
        g_autofree char *names =
            qcow2_feature_names(s, QCOW2_FEAT_TYPE_INCOMPATIBLE, features);

        error_setg(errp, "Cannot downgrade an image with incompatible features "
                   "%#" PRIx64 " set", features);
        error_append_hint(errp, "Version 2 cannot keep: %s\n", names);
        return false;
    }
    for (uint64_t i = 0; i < s->unknown_header_fields_size; i++) {
        if (unknown[i]) {
            error_setg(errp, "Cannot downgrade an image with unknown header "
                       "fields");
            return false;
        }
    }
    return true;
}

static bool check_no_bitmaps(const BDRVQcow2State *s, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; i < s->bitmaps->len; i++) {
        const Qcow2Bitmap *b = s->bitmaps->pdata[i];

        g_string_append_printf(names, "%s'%s'", i ? ", " : "", b->name ?: "");
    }
    if (!s->has_bitmaps_ext && !s->bitmaps_fault) {
        return true;
    }
    error_setg(errp, "Cannot downgrade an image with bitmaps");
    error_append_hint(errp, "Version 2 cannot keep: %s\n"
                      "Remove them first, with 'qemu-img bitmap --remove' or "
                      "--remove-all.\n",
                      names->len ? names->str : "damaged bitmaps");
    return false;
}

/*
 * Whether an L2 table that one of these L1 entries names has a zero flag: 1, 0
 * or -errno. [lock]
 */
static int coroutine_fn tree_has_zero(BlockDriverState *bs,
                                      const uint64_t *entries, uint32_t n)
{
    BDRVQcow2State *s = bs->opaque;
    QEMU_AUTO_VFREE uint64_t *l2 = qemu_try_blockalign(bs->file->bs,
                                                       s->cluster_size);

    if (!l2) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t offset = entries[i] & L1E_OFFSET_MASK;
        int ret;

        if (!offset) {
            continue;
        }
        if (offset_into_cluster(s, offset)) {
            return -EIO;
        }
        ret = bdrv_co_pread(bs->file, offset, s->cluster_size, l2, 0);
        if (ret < 0) {
            return ret;
        }
        for (int j = 0; j < s->l2_size; j++) {
            QCow2ClusterType type =
                qcow2_get_cluster_type(s, get_l2_entry(s, l2, j));

            if (type == QCOW2_CLUSTER_ZERO_PLAIN ||
                type == QCOW2_CLUSTER_ZERO_ALLOC) {
                return 1;
            }
        }
    }
    return 0;
}

static int coroutine_fn check_tree(BlockDriverState *bs,
                                   const uint64_t *entries, uint32_t n,
                                   const char *what, const char *name,
                                   Error **errp)
{
    int ret = tree_has_zero(bs, entries, n);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the L2 tables of %s%s",
                         what, name);
    } else if (ret) {
        error_setg(errp, "Cannot downgrade an image with zero clusters in "
                   "%s%s", what, name);
        ret = -ENOTSUP;
    }
    return ret;
}

/* Tables that only snapshots use, and the state of a machine, cannot change. */
static int coroutine_fn check_zeroes(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint32_t disk = MIN((uint64_t)s->l1_vm_state_index, s->l1.size);
    int ret;

    ret = check_tree(bs, s->l1.entries + disk, s->l1.size - disk,
                     "the state of a machine", "", errp);
    for (uint32_t i = 0; ret == 0 && i < s->nb_snapshots; i++) {
        const QCowSnapshot *sn = &s->snapshots[i];
        Qcow2Table l1;

        ret = qcow2_snapshot_read_l1(bs, sn, &l1, errp);
        if (ret == 0) {
            ret = check_tree(bs, l1.entries, l1.size, "snapshot ", sn->name,
                             errp);
            qcow2_table_free(&l1);
        }
    }
    return ret;
}

int coroutine_fn qcow2_amend_downgrade_check(BlockDriverState *bs,
                                             Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    if (!check_header(s, errp) || !check_no_bitmaps(s, errp)) {
        return -ENOTSUP;
    }
    ret = qcow2_flush_metadata(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush the metadata");
        return ret;
    }
    return check_zeroes(bs, errp);
}

/* --- zero clusters --- */

/* Without a backing file nothing shows where nothing is. */
static int coroutine_fn unmap(BlockDriverState *bs, uint64_t offset,
                              uint64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Request req;
    int ret;

    bytes = ROUND_UP(bytes, (uint64_t)s->cluster_size);
    qcow2_request_begin(&s->inflight, &req, offset, bytes, true);
    ret = qcow2_cluster_discard(bs, offset, bytes, QCOW2_DISCARD_OTHER, true);
    qcow2_request_end(&s->inflight, &req);
    return ret;
}

static int coroutine_fn write_zero_data(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes, void *zeroes)
{
    while (bytes) {
        uint64_t n = MIN(bytes, ZERO_BUFFER);
        QEMUIOVector qiov;
        int ret;

        qemu_iovec_init_buf(&qiov, zeroes, n);
        ret = qcow2_co_pwritev(bs, offset, n, &qiov, 0, 0);
        if (ret < 0) {
            return ret;
        }
        offset += n;
        bytes -= n;
    }
    return 0;
}

/* *@bytes from a cluster's start on: how many are alike, and done. */
static int coroutine_fn expand_some(BlockDriverState *bs, uint64_t offset,
                                    uint64_t *bytes, void *zeroes)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t host, entry;
    QCow2ClusterType type;
    int ret;

    qemu_co_mutex_lock(&s->lock);
    ret = qcow2_get_host_offset(bs, offset, bytes, &host, &type, &entry);
    qemu_co_mutex_unlock(&s->lock);
    if (ret < 0 || (type != QCOW2_CLUSTER_ZERO_PLAIN &&
                    type != QCOW2_CLUSTER_ZERO_ALLOC)) {
        return ret;
    }
    return bs->backing || s->image_backing_file
               ? write_zero_data(bs, offset, *bytes, zeroes)
               : unmap(bs, offset, *bytes);
}

int coroutine_fn qcow2_amend_expand_zeroes(BlockDriverState *bs,
                                           const BdrvAmendArgs *args,
                                           Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    QEMU_AUTO_VFREE void *zeroes = qemu_try_blockalign(bs, ZERO_BUFFER);
    uint64_t offset = 0;
    int ret = zeroes ? 0 : -ENOMEM;

    if (zeroes) {
        memset(zeroes, 0, ZERO_BUFFER);
    }
    while (ret == 0 && offset < s->disk_size) {
        uint64_t n = s->disk_size - offset;

        ret = expand_some(bs, offset, &n, zeroes);
        offset += n;
        if (args->progress) {
            args->progress(args->opaque, 100.0 * offset / s->disk_size);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to turn zero into data clusters");
    }
    return ret;
}

/* --- down --- */

int coroutine_fn qcow2_amend_downgrade(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t compatible = s->compatible_features;
    uint64_t unknown = s->unknown_header_fields_size;
    int ret;

    assert(s->refcount_order == 4);
    ret = qcow2_mark_clean(bs);
    if (ret == 0) {
        ret = qcow2_flush_metadata(bs);
    }
    if (ret == 0) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (ret == 0) {
        s->qcow_version = 2;
        s->compatible_features = 0;
        s->unknown_header_fields_size = 0;
        ret = qcow2_update_header(bs);
    }
    if (ret < 0) {
        s->qcow_version = 3;
        s->compatible_features = compatible;
        s->unknown_header_fields_size = unknown;
        error_setg_errno(errp, -ret, "Failed to update the image header");
        return ret;
    }
    s->header_length = QCOW2_V2_HEADER_LENGTH;
    s->use_lazy_refcounts = false;
    s->discard_no_unref = false;
    return 0;
}
