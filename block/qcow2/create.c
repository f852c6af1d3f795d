/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making a qcow2 image: header, refcount table, refcount blocks, L1 table, in
 * this order, without gaps.
 *
 * The header goes last, after a flush, so that what a crash leaves behind is
 * not taken for an image. Everything that can be wrong with the options is
 * found before the file is touched.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/block-backend.h"
#include "block/create.h"
#include "block/qcow2/layout.h"

const char *const qcow2_create_defaults[] = {
    "cluster_size=65536", "extended_l2=off", "compression_type=zlib",
    "lazy_refcounts=off", "refcount_bits=16", NULL
};

/* Where the parts of the new image are, in clusters. */
typedef struct NewImage {
    const Qcow2CreateOptions *o;
    BlockBackend *blk;
    uint64_t cluster_size;
    Qcow2RefcountLayout rc;
    uint64_t l1_size;           /* entries */
    uint64_t table_cluster;
    uint64_t block_cluster;
    uint64_t l1_cluster;
    uint64_t nb_clusters;
} NewImage;

static void plan_image(NewImage *img)
{
    const Qcow2CreateOptions *o = img->o;
    uint64_t l1_clusters;

    img->cluster_size = 1ULL << o->cluster_bits;
    img->l1_size = qcow2_layout_l1_size(o);
    l1_clusters = DIV_ROUND_UP(img->l1_size * L1E_SIZE, img->cluster_size);

    qcow2_refcount_layout(o, 1 + l1_clusters, &img->rc);
    img->table_cluster = 1;
    img->block_cluster = img->table_cluster + img->rc.table_clusters;
    img->l1_cluster = img->block_cluster + img->rc.blocks;
    img->nb_clusters = img->l1_cluster + l1_clusters;
}

static int write_cluster(NewImage *img, uint64_t cluster, const void *buf)
{
    return blk_pwrite(img->blk, cluster * img->cluster_size,
                      img->cluster_size, buf, 0);
}

static int write_refcount_table(NewImage *img, uint64_t *buf)
{
    uint64_t per_cluster = img->cluster_size / REFTABLE_ENTRY_SIZE;
    uint64_t t, i, block;
    int ret;

    for (t = 0; t < img->rc.table_clusters; t++) {
        memset(buf, 0, img->cluster_size);
        for (i = 0; i < per_cluster; i++) {
            block = t * per_cluster + i;
            if (block < img->rc.blocks) {
                buf[i] = cpu_to_be64((img->block_cluster + block) *
                                     img->cluster_size);
            }
        }
        ret = write_cluster(img, img->table_cluster + t, buf);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* Every cluster up to the end of the L1 table has refcount 1. */
static int write_refcount_blocks(NewImage *img, void *buf)
{
    /* Enough of a state for the accessor. */
    const BDRVQcow2State geometry = {
        .refcount_order = img->o->refcount_order,
        .refcount_bits = 1 << img->o->refcount_order,
        .refcount_max = 1,
    };
    uint64_t per_block = img->cluster_size * 8 >> img->o->refcount_order;
    uint64_t b, i;
    int ret;

    for (b = 0; b < img->rc.blocks; b++) {
        memset(buf, 0, img->cluster_size);
        for (i = 0; i < per_block && b * per_block + i < img->nb_clusters;
             i++) {
            qcow2_refcount_block_set(&geometry, buf, i, 1);
        }
        ret = write_cluster(img, img->block_cluster + b, buf);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

static int write_l1(NewImage *img, void *buf)
{
    uint64_t bytes = img->l1_size * L1E_SIZE;
    uint64_t offset = img->l1_cluster * img->cluster_size;
    uint64_t n;
    int ret;

    memset(buf, 0, img->cluster_size);
    for (; bytes; bytes -= n, offset += n) {
        n = MIN(bytes, img->cluster_size);
        ret = blk_pwrite(img->blk, offset, n, buf, 0);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* -ENOSPC if it does not fit into a cluster. */
static int build_header(NewImage *img, void *buf)
{
    const Qcow2CreateOptions *o = img->o;
    Qcow2HeaderLayout layout = {
        .fields = {
            .magic = QCOW_MAGIC,
            .version = o->version,
            .cluster_bits = o->cluster_bits,
            .size = o->size,
            .crypt_method = QCOW_CRYPT_NONE,
            .l1_size = img->l1_size,
            /* A disk of size 0 has no table. */
            .l1_table_offset = img->l1_size
                               ? img->l1_cluster * img->cluster_size : 0,
            .refcount_table_offset = img->table_cluster * img->cluster_size,
            .refcount_table_clusters = img->rc.table_clusters,
            .refcount_order = o->refcount_order,
            .compression_type = o->compression_type,
        },
        .backing_file = o->backing_file,
        .backing_format = o->backing_fmt,
    };

    if (o->lazy_refcounts) {
        layout.fields.compatible_features |= QCOW2_COMPAT_LAZY_REFCOUNTS;
    }
    if (o->compression_type != QCOW2_COMPRESSION_TYPE_ZLIB) {
        layout.fields.incompatible_features |= QCOW2_INCOMPAT_COMPRESSION;
    }
    return qcow2_header_build(&layout, buf, img->cluster_size);
}

static int write_image(NewImage *img, void *buf, const void *header)
{
    int ret = write_refcount_table(img, buf);

    if (ret == 0) {
        ret = write_refcount_blocks(img, buf);
    }
    if (ret == 0) {
        ret = write_l1(img, buf);
    }
    if (ret == 0) {
        ret = blk_flush(img->blk);
    }
    return ret == 0 ? write_cluster(img, 0, header) : ret;
}

/* --- preallocation ---------------------------------------------------- */

typedef struct Prealloc {
    BlockDriverState *bs;
    const Qcow2CreateOptions *o;
    Error **errp;
} Prealloc;

static int coroutine_fn preallocate_entry(void *opaque)
{
    Prealloc *p = opaque;

    return qcow2_co_preallocate(p->bs, 0, p->o->size, p->o->prealloc,
                                p->errp);
}

static int preallocate(const char *filename, const Qcow2CreateOptions *o,
                       Error **errp)
{
    QDict *options = qdict_new();
    Prealloc p = { .o = o, .errp = errp };
    BlockBackend *blk;
    int ret;

    qdict_put_str(options, "driver", "qcow2");
    /* The file is ours alone, and new: nothing it holds needs checking. */
    blk = blk_new_open_perm(filename, NULL, options,
                            BDRV_O_RDWR | BDRV_O_NO_BACKING,
                            BLK_PERM_WRITE | BLK_PERM_RESIZE,
                            BLK_PERM_CONSISTENT_READ, errp);
    if (!blk) {
        return -EINVAL;
    }
    p.bs = blk_bs(blk);
    ret = bdrv_run_co(preallocate_entry, &p);
    if (ret == 0) {
        ret = blk_flush(blk);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not write the preallocated "
                             "clusters");
        }
    }
    blk_unref(blk);
    return ret;
}

/* --- the driver's hook ------------------------------------------------ */

static int fill_file(const char *filename, NewImage *img, const void *header,
                     Error **errp)
{
    g_autofree void *buf = g_malloc(img->cluster_size);
    int ret;

    img->blk = blk_new_open_perm(filename, NULL, NULL,
                                 BDRV_O_RDWR | BDRV_O_PROTOCOL,
                                 BLK_PERM_WRITE | BLK_PERM_RESIZE,
                                 BLK_PERM_CONSISTENT_READ, errp);
    if (!img->blk) {
        return -EIO;
    }
    blk_set_allow_write_beyond_eof(img->blk, true);
    ret = write_image(img, buf, header);
    if (ret == 0) {
        ret = blk_flush(img->blk);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write qcow2 metadata");
    }
    blk_unref(img->blk);
    return ret;
}

int qcow2_create(const char *filename, QDict *options, Error **errp)
{
    g_autoptr(QDict) file_options = qdict_new();
    g_auto(Qcow2CreateOptions) o = { 0 };
    g_autofree void *header = NULL;
    NewImage img = { .o = &o };
    int ret;

    ret = qcow2_create_options_parse(options, file_options, &o, errp);
    if (ret < 0) {
        return ret;
    }
    plan_image(&img);
    header = g_malloc(img.cluster_size);
    ret = build_header(&img, header);
    if (ret < 0) {
        error_setg(errp, "Backing file name '%s' does not fit into the first "
                   "cluster", o.backing_file ?: "");
        return ret;
    }

    ret = bdrv_create_file(filename, file_options, errp);
    if (ret == 0) {
        ret = fill_file(filename, &img, header, errp);
    }
    if (ret == 0 && o.prealloc != PREALLOC_MODE_OFF && o.size > 0) {
        ret = preallocate(filename, &o, errp);
    }
    return ret;
}
