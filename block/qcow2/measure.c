/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the file of a new image can become: all metadata for a fully
 * allocated disk, plus the data there is.
 */
#include "util/osdep.h"
#include "block/qcow2/layout.h"

/* Bytes of clusters that have data in @in_bs and its backing chain. */
static int64_t allocated_bytes(BlockDriverState *in_bs, uint64_t size,
                               uint64_t cluster_size, Error **errp)
{
    uint64_t counted_to = 0, total = 0, offset, start, end;
    int64_t pnum;
    int ret;

    for (offset = 0; offset < size; offset += pnum) {
        ret = bdrv_block_status_above(in_bs, NULL, offset, size - offset,
                                      &pnum, NULL, NULL, NULL);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Unable to get block status");
            return ret;
        }
        if (ret & BDRV_BLOCK_ZERO ||
            !(ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED))) {
            continue;
        }
        start = MAX(ROUND_DOWN(offset, cluster_size), counted_to);
        end = ROUND_UP(offset + pnum, cluster_size);
        if (end > start) {
            total += end - start;
            counted_to = end;
        }
    }
    return total;
}

/* Space for the bitmaps that @in_bs stores, if it is of a kind that can. */
static bool add_bitmaps(BlockMeasureInfo *info, const Qcow2CreateOptions *o,
                        BlockDriverState *in_bs, Error **errp)
{
    uint64_t cluster_size = 1ULL << o->cluster_bits;
    uint64_t dir_bytes = 0, total = 0, bytes, clusters;
    g_autoptr(ImageInfoSpecific) spec = NULL;
    const Qcow2BitmapInfoList *l;

    if (!in_bs->drv || o->version < 3 || in_bs->drv != &bdrv_qcow2) {
        return true;
    }
    if (((BDRVQcow2State *)in_bs->opaque)->qcow_version < 3) {
        return true;
    }
    spec = qcow2_get_specific_info(in_bs, errp);
    if (!spec) {
        return false;
    }
    for (l = spec->u.qcow2.data->bitmaps; l; l = l->next) {
        const Qcow2BitmapInfo *bm = l->value;

        /* A damaged one goes nowhere. */
        if (bm->status == QCOW2_BITMAP_STATUS_DAMAGED) {
            continue;
        }
        bytes = DIV_ROUND_UP(DIV_ROUND_UP(o->size, bm->granularity), 8);
        clusters = DIV_ROUND_UP(bytes, cluster_size);
        total += ROUND_UP(clusters * sizeof(uint64_t), cluster_size) +
                 clusters * cluster_size;
        dir_bytes += ROUND_UP(sizeof(Qcow2BitmapDirEntry) + strlen(bm->name),
                              8);
    }
    info->has_bitmaps = true;
    info->bitmaps = total + ROUND_UP(dir_bytes, cluster_size);
    return true;
}

/* Everything but data, for a disk that is written all over; bytes. */
static uint64_t metadata_bytes(const Qcow2CreateOptions *o)
{
    uint64_t cluster_size = 1ULL << o->cluster_bits;
    uint64_t data = DIV_ROUND_UP(o->size, cluster_size);
    uint64_t l2 = qcow2_layout_l1_size(o);
    uint64_t l1 = DIV_ROUND_UP(l2 * L1E_SIZE, cluster_size);
    uint64_t guard = o->l1_guard ? DIV_ROUND_UP(qcow2_guard_area_bytes(l2),
                                                cluster_size) : 0;
    uint64_t others = 1 + l1 + l2 + guard + qcow2_layout_crypto_clusters(o);
    Qcow2RefcountLayout rc;

    qcow2_refcount_layout(o, others + data, &rc);
    return (others + rc.blocks + rc.table_clusters) << o->cluster_bits;
}

/* The size of @in_bs counts, whatever the options say. */
static bool take_size(Qcow2CreateOptions *o, BlockDriverState *in_bs,
                      Error **errp)
{
    int64_t length = bdrv_getlength(in_bs);

    if (length < 0) {
        error_setg_errno(errp, -length, "Unable to get image virtual_size");
        return false;
    }
    o->size = ROUND_UP((uint64_t)length, BDRV_SECTOR_SIZE);
    return true;
}

BlockMeasureInfo *qcow2_measure(QDict *options, BlockDriverState *in_bs,
                                Error **errp)
{
    g_auto(Qcow2CreateOptions) o = { 0 };
    g_autoptr(BlockMeasureInfo) info = NULL;
    uint64_t cluster_size, data, metadata;
    int64_t allocated = 0;
    Error *local_err = NULL;
    int ret;

    ret = qcow2_create_options_parse(options, NULL, &o, &local_err);
    if (ret == 0 && in_bs && !take_size(&o, in_bs, errp)) {
        return NULL;
    }
    if (ret == -EFBIG ||
        (ret == 0 &&
         qcow2_layout_l1_size(&o) > QCOW_MAX_L1_SIZE / L1E_SIZE)) {
        error_free(local_err);
        error_setg(errp, "The image size is too large (try using a larger "
                   "cluster size)");
        return NULL;
    }
    if (ret < 0) {
        error_propagate(errp, local_err);
        return NULL;
    }

    if (o.crypt_method != QCOW_CRYPT_NONE) {
        g_auto(SecretCopy) secret = { 0 };

        if (!bdrv_luks_pass("encrypt.", o.key_secret, &secret, errp)) {
            return NULL;
        }
    }
    cluster_size = 1ULL << o.cluster_bits;
    data = ROUND_UP(o.size, cluster_size);
    metadata = metadata_bytes(&o);
    if (o.prealloc == PREALLOC_MODE_FULL ||
        o.prealloc == PREALLOC_MODE_FALLOC || (in_bs && o.backing_file)) {
        /* Nobody knows which data equals that of the backing file. */
        allocated = data;
    } else if (in_bs) {
        allocated = allocated_bytes(in_bs, o.size, cluster_size, errp);
        if (allocated < 0) {
            return NULL;
        }
    }

    info = g_new0(BlockMeasureInfo, 1);
    info->fully_allocated = metadata + data;
    info->required = metadata + allocated;
    if (in_bs && !add_bitmaps(info, &o, in_bs, errp)) {
        return NULL;
    }
    return g_steal_pointer(&info);
}
