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
#include "block/io-internal.h"
#include "block/qcow2/layout.h"
#include "util/main-work.h"

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
    uint64_t crypto_cluster;
    uint64_t nb_clusters;
    void *header;               /* a cluster */
    SecretCopy secret;          /* of an encrypted one */
} NewImage;

static void plan_image(NewImage *img)
{
    const Qcow2CreateOptions *o = img->o;
    uint64_t l1_clusters, crypto_clusters;

    img->cluster_size = 1ULL << o->cluster_bits;
    img->l1_size = qcow2_layout_l1_size(o);
    l1_clusters = DIV_ROUND_UP(img->l1_size * L1E_SIZE, img->cluster_size);

    crypto_clusters = qcow2_layout_crypto_clusters(o);
    qcow2_refcount_layout(o, 1 + l1_clusters + crypto_clusters, &img->rc);
    img->table_cluster = 1;
    img->block_cluster = img->table_cluster + img->rc.table_clusters;
    img->l1_cluster = img->block_cluster + img->rc.blocks;
    img->crypto_cluster = img->l1_cluster + l1_clusters;
    img->nb_clusters = img->crypto_cluster + crypto_clusters;
}

static int coroutine_fn write_cluster(NewImage *img, uint64_t cluster,
                                      const void *buf)
{
    return blk_co_pwrite(img->blk, cluster * img->cluster_size,
                         img->cluster_size, buf, 0);
}

static int coroutine_fn write_refcount_table(NewImage *img, uint64_t *buf)
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
static int coroutine_fn write_refcount_blocks(NewImage *img, void *buf)
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

static int coroutine_fn write_l1(NewImage *img, void *buf)
{
    uint64_t bytes = img->l1_size * L1E_SIZE;
    uint64_t offset = img->l1_cluster * img->cluster_size;
    uint64_t n;
    int ret;

    memset(buf, 0, img->cluster_size);
    for (; bytes; bytes -= n, offset += n) {
        n = MIN(bytes, img->cluster_size);
        ret = blk_co_pwrite(img->blk, offset, n, buf, 0);
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
    g_autofree Qcow2UnknownHeaderExtension *ext = g_malloc0(sizeof(*ext) + 16);
    BDRVQcow2State holder;  /* of nothing but the extension */
    Qcow2HeaderLayout layout = {
        .fields = {
            .magic = QCOW_MAGIC,
            .version = o->version,
            .cluster_bits = o->cluster_bits,
            .size = o->size,
            .crypt_method = o->crypt_method,
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
        .data_file = o->data_file,
    };

    if (o->crypt_method == QCOW_CRYPT_LUKS) {
        QTAILQ_INIT(&holder.unknown_header_ext);
        ext->magic = QCOW2_EXT_MAGIC_CRYPTO_HEADER;
        ext->len = 16;
        stq_be_p(ext->data, img->crypto_cluster * img->cluster_size);
        stq_be_p(ext->data + 8, luks_header_size(&o->luks));
        QTAILQ_INSERT_TAIL(&holder.unknown_header_ext, ext, next);
        layout.unknown_ext_of = &holder;
    }
    if (o->lazy_refcounts) {
        layout.fields.compatible_features |= QCOW2_COMPAT_LAZY_REFCOUNTS;
    }
    if (o->compression_type != QCOW2_COMPRESSION_TYPE_ZLIB) {
        layout.fields.incompatible_features |= QCOW2_INCOMPAT_COMPRESSION;
    }
    if (o->data_file) {
        layout.fields.incompatible_features |= QCOW2_INCOMPAT_DATA_FILE;
    }
    if (o->extended_l2) {
        layout.fields.incompatible_features |= QCOW2_INCOMPAT_EXTL2;
    }
    if (o->data_file_raw) {
        layout.fields.autoclear_features |= QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    }
    return qcow2_header_build(&layout, buf, img->cluster_size);
}

/* All but the header, durable. */
static int coroutine_fn write_tables(void *opaque)
{
    NewImage *img = opaque;
    g_autofree void *buf = g_malloc(img->cluster_size);
    int ret = write_refcount_table(img, buf);

    if (ret == 0) {
        ret = write_refcount_blocks(img, buf);
    }
    if (ret == 0) {
        ret = write_l1(img, buf);
    }
    if (ret == 0) {
        ret = blk_co_flush(img->blk);
    }
    return ret;
}

/* What makes it an image. */
static int coroutine_fn write_header(void *opaque)
{
    NewImage *img = opaque;
    int ret = write_cluster(img, 0, img->header);

    return ret == 0 ? blk_co_flush(img->blk) : ret;
}

/* --- encryption ------------------------------------------------------- */

static int write_crypto(void *opaque, uint64_t offset, const void *buf,
                        size_t len)
{
    NewImage *img = opaque;
    int ret = blk_pwrite(img->blk, img->crypto_cluster * img->cluster_size +
                                   offset, len, buf, 0);

    return ret < 0 ? ret : blk_flush(img->blk);
}

static int make_crypto_header(NewImage *img, Error **errp)
{
    const LuksIo io = { img, NULL, write_crypto };
    const LuksPass pass = { img->secret.data, img->secret.len };
    g_autoptr(LuksHeader) h = NULL;
    int ret;

    if (img->o->crypt_method != QCOW_CRYPT_LUKS) {
        return 0;
    }
    /* Slots that are free are in the file, too. */
    ret = blk_truncate(img->blk, img->nb_clusters * img->cluster_size, false,
                       PREALLOC_MODE_OFF, 0, errp);
    if (ret < 0) {
        return ret;
    }
    h = luks_create(&img->o->luks, &pass, &io, errp);
    return h ? 0 : -EIO;
}

/* --- L1 guard and preallocation --------------------------------------- */

typedef struct Finish {
    BlockDriverState *bs;
    const Qcow2CreateOptions *o;
    Error **errp;
} Finish;

static bool wants_preallocation(const Qcow2CreateOptions *o)
{
    return o->prealloc != PREALLOC_MODE_OFF && o->size > 0;
}

/* What is done to the image as it is when it is open. */
static bool wants_finish(const Qcow2CreateOptions *o)
{
    return wants_preallocation(o) || o->l1_guard;
}

static int coroutine_fn finish_entry(void *opaque)
{
    Finish *p = opaque;
    BDRVQcow2State *s = p->bs->opaque;
    int ret = 0;

    if (p->o->l1_guard) {
        qemu_co_mutex_lock(&s->lock);
        ret = qcow2_guard_enable(p->bs, p->errp);
        qemu_co_mutex_unlock(&s->lock);
    }
    if (ret < 0 || !wants_preallocation(p->o)) {
        return ret;
    }
    return qcow2_co_preallocate(p->bs, 0, p->o->size, p->o->prealloc,
                                p->o->data_file != NULL, p->errp);
}

/* @options: what is to be opened; taken over. */
static BlockBackend *open_to_finish(const char *filename, QDict *options,
                                    Error **errp)
{
    qdict_put_str(options, "driver", "qcow2");
    /* The file is ours alone, and new: nothing it holds needs checking. */
    return blk_new_open_perm(filename, NULL, options,
                             BDRV_O_RDWR | BDRV_O_NO_BACKING,
                             BLK_PERM_WRITE | BLK_PERM_RESIZE,
                             BLK_PERM_CONSISTENT_READ, errp);
}

static void explain_flush(int ret, Error **errp)
{
    error_setg_errno(errp, -ret, "Could not flush the new image");
}

static int finish(const char *filename, const Qcow2CreateOptions *o,
                  Error **errp)
{
    Finish p = { .o = o, .errp = errp };
    QDict *options = qdict_new();
    BlockBackend *blk;
    int ret;

    if (o->key_secret) {
        qdict_put_str(options, "encrypt.key-secret", o->key_secret);
    }
    blk = open_to_finish(filename, options, errp);
    if (!blk) {
        return -EINVAL;
    }
    p.bs = blk_bs(blk);
    ret = bdrv_run_co(finish_entry, &p);
    if (ret == 0) {
        ret = blk_flush(blk);
        if (ret < 0) {
            explain_flush(ret, errp);
        }
    }
    blk_unref(blk);
    return ret;
}

/* --- by file name --- */

static int explain_write(int ret, Error **errp)
{
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write qcow2 metadata");
    }
    return ret;
}

static int fill_file(const char *filename, NewImage *img, Error **errp)
{
    int ret;

    img->blk = blk_new_open_perm(filename, NULL, NULL,
                                 BDRV_O_RDWR | BDRV_O_PROTOCOL,
                                 BLK_PERM_WRITE | BLK_PERM_RESIZE,
                                 BLK_PERM_CONSISTENT_READ, errp);
    if (!img->blk) {
        return -EIO;
    }
    blk_set_allow_write_beyond_eof(img->blk, true);
    ret = explain_write(bdrv_run_co_unlocked(write_tables, img), errp);
    if (ret == 0) {
        ret = make_crypto_header(img, errp);
    }
    if (ret == 0) {
        ret = explain_write(bdrv_run_co_unlocked(write_header, img), errp);
    }
    blk_unref(img->blk);
    return ret;
}

/* Everything about the image but where it goes. @img->header is allocated. */
static int prepare_image(NewImage *img, Error **errp)
{
    const Qcow2CreateOptions *o = img->o;
    int ret;

    plan_image(img);
    img->header = g_malloc(img->cluster_size);
    ret = build_header(img, img->header);
    if (ret < 0) {
        error_setg(errp, "%s file name '%s' does not fit into the first "
                   "cluster", o->backing_file ? "Backing" : "Data",
                   o->backing_file ?: o->data_file ?: "");
        return ret;
    }
    return 0;
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat sa, sb;

    return !strcmp(a, b) ||
           (stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
            sa.st_ino == sb.st_ino);
}

/* The backing file is found as it is by whoever opens the image. */
static bool is_backing_file(const char *filename, const Qcow2CreateOptions *o)
{
    g_autofree char *full = NULL;

    if (!o->backing_file) {
        return false;
    }
    full = bdrv_get_full_backing_filename_from_filename(filename,
                                                        o->backing_file, NULL);
    return full && is_same_file(o->data_file, full);
}

/* With the space that is wanted. What the file has had in it is lost. */
static int create_data_file(const char *filename, const Qcow2CreateOptions *o,
                            Error **errp)
{
    g_autoptr(QDict) options = qdict_new();
    g_autofree char *size = NULL;

    if (!o->data_file) {
        return 0;
    }
    if (is_same_file(o->data_file, filename) || is_backing_file(filename, o)) {
        error_setg(errp, "Data file '%s' is the image itself or its backing "
                   "file", o->data_file);
        return -EINVAL;
    }
    size = g_strdup_printf("%" PRIu64, o->size);
    qdict_put_str(options, "size", size);
    if (o->prealloc > PREALLOC_MODE_METADATA) {
        qdict_put_str(options, "preallocation",
                      PreallocMode_str(o->prealloc));
    }
    return bdrv_create_file(o->data_file, options, errp);
}

int qcow2_create(const char *filename, QDict *options, Error **errp)
{
    g_autoptr(QDict) file_options = qdict_new();
    g_auto(Qcow2CreateOptions) o = { 0 };
    NewImage img = { .o = &o };
    int ret;

    ret = qcow2_create_options_parse(options, file_options, &o, errp);
    if (ret == 0 && o.crypt_method != QCOW_CRYPT_NONE &&
        !bdrv_luks_pass("encrypt.", o.key_secret, &img.secret, errp)) {
        ret = -EINVAL;
    }
    if (ret == 0) {
        ret = prepare_image(&img, errp);
    }
    if (ret == 0) {
        ret = bdrv_create_file(filename, file_options, errp);
    }
    if (ret == 0) {
        ret = create_data_file(filename, &o, errp);
    }
    if (ret == 0) {
        ret = fill_file(filename, &img, errp);
    }
    secret_copy_clear(&img.secret);
    if (ret == 0 && wants_finish(&o)) {
        ret = finish(filename, &o, errp);
    }
    g_free(img.header);
    return ret;
}

/* --- blockdev-create: in a node --- */

typedef struct CreateInNode {
    BlockdevRef *ref;
    NewImage *img;
    BlockDriverState *file;
    BlockBackend *image;        /* to finish */
    Error **errp;
} CreateInNode;

static int open_node(void *opaque)
{
    CreateInNode *c = opaque;
    const int flags = BDRV_O_RDWR | BDRV_O_PROTOCOL;

    if (c->ref->type == QTYPE_QSTRING) {
        c->file = bdrv_open(NULL, c->ref->u.reference, NULL, flags, c->errp);
    } else {
        c->file = bdrv_open(NULL, NULL,
                            bdrv_options_to_qdict(&c->ref->u.definition),
                            flags, c->errp);
    }
    if (!c->file) {
        return -EINVAL;
    }
    c->img->blk = blk_new(BLK_PERM_WRITE | BLK_PERM_RESIZE,
                          BLK_PERM_CONSISTENT_READ);
    blk_set_owner(c->img->blk, "command 'blockdev-create'");
    blk_set_allow_write_beyond_eof(c->img->blk, true);
    return blk_insert_bs(c->img->blk, c->file, c->errp) ? 0 : -EPERM;
}

/* The raw node gives way to an image on it. */
static int open_image(void *opaque)
{
    CreateInNode *c = opaque;
    QDict *options = qdict_new();

    blk_unref(g_steal_pointer(&c->img->blk));
    qdict_put_str(options, "file", bdrv_get_node_name(c->file));
    c->image = open_to_finish(NULL, options, c->errp);
    return c->image ? 0 : -EINVAL;
}

static int close_node(void *opaque)
{
    CreateInNode *c = opaque;

    blk_unref(c->image);
    blk_unref(c->img->blk);
    bdrv_unref(c->file);
    return 0;
}

static int coroutine_fn finish_in_node(CreateInNode *c)
{
    Finish p = { .o = c->img->o, .errp = c->errp };
    int ret = main_work_run_co(open_image, c);

    if (ret < 0) {
        return ret;
    }
    p.bs = blk_bs(c->image);
    bdrv_graph_co_rdlock();
    ret = finish_entry(&p);
    bdrv_graph_co_rdunlock();
    if (ret == 0) {
        ret = blk_co_flush(c->image);
        if (ret < 0) {
            explain_flush(ret, c->errp);
        }
    }
    return ret;
}

static int coroutine_fn create_in_node(CreateInNode *c)
{
    int ret = main_work_run_co(open_node, c);

    if (ret == 0) {
        /* Preallocated clusters must not show what the node held before. */
        ret = blk_co_truncate(c->img->blk, 0, false, PREALLOC_MODE_OFF, 0,
                              c->errp);
    }
    if (ret == 0) {
        ret = explain_write(write_tables(c->img), c->errp);
    }
    /* The options of blockdev-create have no encryption. */
    if (ret == 0) {
        ret = explain_write(write_header(c->img), c->errp);
    }
    if (ret == 0 && wants_finish(c->img->o)) {
        ret = finish_in_node(c);
    }
    main_work_run_co(close_node, c);
    return ret;
}

static CreateOptionsQcow2 typed_options(const BlockdevCreateOptionsQcow2 *b)
{
    return (CreateOptionsQcow2) {
        .has_cluster_size = b->has_cluster_size,
        .cluster_size = b->cluster_size,
        .has_extended_l2 = b->has_extended_l2,
        .extended_l2 = b->extended_l2,
        .has_preallocation = b->has_preallocation,
        .preallocation = b->preallocation,
        .has_compression_type = b->has_compression_type,
        .compression_type = b->compression_type,
        .has_size = true,
        .size = b->size,
        .has_compat = b->has_version,
        .compat = b->version == BLOCKDEV_QCOW2_VERSION_V2
                  ? QCOW2_COMPAT_OPTION_V2 : QCOW2_COMPAT_OPTION_V3,
        .backing_file = b->backing_file,
        .backing_fmt = b->backing_fmt,
        .has_lazy_refcounts = b->has_lazy_refcounts,
        .lazy_refcounts = b->lazy_refcounts,
        .has_refcount_bits = b->has_refcount_bits,
        .refcount_bits = b->refcount_bits,
        .has_l1_guard = b->has_l1_guard,
        .l1_guard = b->l1_guard,
    };
}

int coroutine_fn qcow2_co_create(BlockdevCreateOptions *options, Error **errp)
{
    CreateOptionsQcow2 typed = typed_options(&options->u.qcow2);
    g_auto(Qcow2CreateOptions) o = { 0 };
    NewImage img = { .o = &o };
    CreateInNode c = {
        .ref = options->u.qcow2.file,
        .img = &img,
        .errp = errp,
    };
    int ret;

    if (typed.size % BDRV_SECTOR_SIZE) {
        error_setg(errp, "Image size must be a multiple of 512 bytes");
        return -EINVAL;
    }
    ret = qcow2_create_options_check(&typed, &o, errp);
    if (ret == 0) {
        ret = prepare_image(&img, errp);
    }
    if (ret == 0) {
        ret = create_in_node(&c);
    }
    g_free(img.header);
    return ret;
}
