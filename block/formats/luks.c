/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The format "luks": a LUKS header, and behind it the disk, encrypted.
 *
 * Sectors are numbered from the start of the payload. An image that is opened
 * only to be told about (BDRV_O_NO_IO) needs no passphrase.
 */
#include "util/osdep.h"
#include "block/block-backend.h"
#include "block/create.h"
#include "block/crypto.h"
#include "block/driver-table.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"

typedef struct BDRVLuksState {
    LuksHeader *header;         /* main thread */
    CryptoSectors *sectors;     /* NULL: BDRV_O_NO_IO */
    uint64_t payload;           /* bytes */
} BDRVLuksState;

/* --- open --- */

static int luks_probe(const uint8_t *buf, int buf_size, const char *filename)
{
    if (buf_size >= LUKS_MAGIC_LEN + 2 &&
        !memcmp(buf, LUKS_MAGIC, LUKS_MAGIC_LEN) &&
        !buf[LUKS_MAGIC_LEN] && buf[LUKS_MAGIC_LEN + 1] == 1) {
        return 100;
    }
    return 0;
}

static LuksIo header_io(BlockDriverState *bs, BdrvLuksArea *area)
{
    /* What lies where is checked against the payload. */
    *area = (BdrvLuksArea) { bs->file, 0, UINT32_MAX * 512ULL };
    return bdrv_luks_io(area);
}

static int unlock(BlockDriverState *bs, const char *secret, const LuksIo *io,
                  Error **errp)
{
    BDRVLuksState *s = bs->opaque;
    g_auto(SecretCopy) copy = { 0 };
    LuksPass pass;
    int ret;

    if (!bdrv_luks_pass("", secret, &copy, errp)) {
        return -EINVAL;
    }
    pass = (LuksPass) { copy.data, copy.len };
    ret = luks_unlock(s->header, &pass, io, errp);
    if (ret == 0) {
        s->sectors = luks_sectors(s->header, errp);
        ret = s->sectors ? 0 : -EINVAL;
    }
    return ret;
}

static void luks_close(BlockDriverState *bs)
{
    BDRVLuksState *s = bs->opaque;

    g_clear_pointer(&s->sectors, crypto_sectors_free);
    g_clear_pointer(&s->header, luks_free);
}

static int luks_open_node(BlockDriverState *bs, BlockdevOptions *options,
                          int flags, Error **errp)
{
    BDRVLuksState *s = bs->opaque;
    const BlockdevOptionsLUKS *o = &options->u.luks;
    BdrvLuksArea area;
    LuksIo io;

    if (!bdrv_open_child(bs, o->file, "file", BDRV_CHILD_IMAGE, false, errp)) {
        return -EINVAL;
    }
    io = header_io(bs, &area);
    s->header = luks_open(&io, errp);
    if (!s->header) {
        return -EINVAL;
    }
    s->payload = luks_payload_offset(s->header);
    if (!(flags & BDRV_O_NO_IO)) {
        int ret = unlock(bs, o->key_secret, &io, errp);

        if (ret < 0) {
            luks_close(bs);
            return ret;
        }
    }
    bs->encrypted = true;
    return 0;
}

static int luks_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                               Error **errp)
{
    return 0;
}

static int luks_activate(BlockDriverState *bs, Error **errp)
{
    BDRVLuksState *s = bs->opaque;
    BdrvLuksArea area;
    LuksIo io = header_io(bs, &area);

    return luks_reload(s->header, &io, errp);
}

static void luks_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.request_alignment = MAX(bs->bl.request_alignment,
                                   CRYPTO_SECTOR_SIZE);
}

/* --- requests --- */

static int coroutine_fn luks_co_preadv(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    BDRVLuksState *s = bs->opaque;

    return bdrv_co_preadv_decrypt(bs->file, s->sectors, offset,
                                  s->payload + offset, bytes, qiov,
                                  qiov_offset);
}

static int coroutine_fn luks_co_pwritev(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes, QEMUIOVector *qiov,
                                        size_t qiov_offset,
                                        BdrvRequestFlags flags)
{
    BDRVLuksState *s = bs->opaque;

    return bdrv_co_pwritev_encrypt(bs->file, s->sectors, offset,
                                   s->payload + offset, bytes, qiov,
                                   qiov_offset, 0);
}

static int64_t coroutine_fn luks_co_getlength(BlockDriverState *bs)
{
    BDRVLuksState *s = bs->opaque;
    int64_t length = bdrv_co_getlength(bs->file->bs);

    if (length < 0) {
        return length;
    }
    /* Cut off: what is left of the disk. */
    return ROUND_DOWN(MAX(length - (int64_t)s->payload, 0),
                      CRYPTO_SECTOR_SIZE);
}

static int coroutine_fn luks_co_truncate(BlockDriverState *bs, int64_t offset,
                                         bool exact, PreallocMode prealloc,
                                         BdrvRequestFlags flags, Error **errp)
{
    BDRVLuksState *s = bs->opaque;

    if (!QEMU_IS_ALIGNED(offset, CRYPTO_SECTOR_SIZE)) {
        error_setg(errp, "The new size must be a multiple of %d",
                   CRYPTO_SECTOR_SIZE);
        return -EINVAL;
    }
    if (offset > INT64_MAX - (int64_t)s->payload) {
        error_setg(errp, "The requested file size is too large");
        return -EFBIG;
    }
    return bdrv_co_truncate(bs->file, offset + s->payload, exact, prealloc, 0,
                            errp);
}

static int coroutine_fn luks_co_get_info(BlockDriverState *bs,
                                         BlockDriverInfo *bdi)
{
    return 0;
}

static ImageInfoSpecific *luks_get_specific_info(BlockDriverState *bs,
                                                 Error **errp)
{
    BDRVLuksState *s = bs->opaque;
    ImageInfoSpecific *spec = g_new0(ImageInfoSpecific, 1);

    spec->type = IMAGE_INFO_SPECIFIC_KIND_LUKS;
    spec->u.luks.data = luks_info(s->header);
    return spec;
}

/* --- making an image --- */

/* What the format has of @options, and in @rest what it has not. */
static CreateOptionsLUKS *visit_options(QDict *options, QDict *rest,
                                        LuksOptions *lo, Error **errp)
{
    g_autoptr(QDict) own = qdict_new();
    CreateOptionsLUKS *o = NULL;
    const QDictEntry *e;
    Visitor *v;

    for (e = qdict_first(options); e; e = qdict_next(options, e)) {
        const char *name = qdict_entry_key(e);
        bool known = qapi_member_find(qapi_CreateOptionsLUKS_members, name);

        qdict_put_obj(known ? own : rest, name,
                      qobject_ref(qdict_entry_value(e)));
    }
    v = qobject_input_visitor_new_keyval(QOBJECT(own));
    visit_type_CreateOptionsLUKS(v, NULL, &o, errp);
    visit_free(v);
    if (!o) {
        return NULL;
    }
    luks_options_init(lo);
#define TAKE(field, member) \
    do { if (o->has_##member) { lo->field = o->member; } } while (0)
    TAKE(sectors.cipher, cipher_alg);
    TAKE(sectors.mode, cipher_mode);
    TAKE(sectors.ivgen, ivgen_alg);
    TAKE(sectors.ivgen_hash, ivgen_hash_alg);
    TAKE(hash, hash_alg);
    TAKE(iter_time_ms, iter_time);
#undef TAKE
    return o;
}

typedef struct NewFile {
    BlockBackend *blk;
} NewFile;

static int write_new(void *opaque, uint64_t offset, const void *buf,
                     size_t len)
{
    NewFile *f = opaque;
    int ret = blk_pwrite(f->blk, offset, len, buf, 0);

    return ret < 0 ? ret : blk_flush(f->blk);
}

static int fill_file(BlockBackend *blk, const LuksOptions *lo,
                     const SecretCopy *secret, uint64_t size,
                     PreallocMode prealloc, Error **errp)
{
    NewFile f = { blk };
    const LuksIo io = { &f, NULL, write_new };
    LuksPass pass = { secret->data, secret->len };
    g_autoptr(LuksHeader) h = NULL;
    int ret;

    ret = blk_truncate(blk, luks_header_size(lo) + size, true,
                       prealloc == PREALLOC_MODE_METADATA ? PREALLOC_MODE_OFF
                                                          : prealloc, 0, errp);
    if (ret < 0) {
        return ret;
    }
    h = luks_create(lo, &pass, &io, errp);
    return h ? 0 : -EIO;
}

static bool take_prealloc(QDict *rest, PreallocMode *mode, Error **errp)
{
    const char *text = qdict_get_try_str(rest, "preallocation");
    int value = text ? qapi_enum_parse(&PreallocMode_lookup, text, -1, NULL)
                     : PREALLOC_MODE_OFF;

    if (value < 0) {
        error_setg(errp, "Parameter 'preallocation' does not accept value "
                   "'%s'", text);
        return false;
    }
    *mode = value;
    qdict_del(rest, "preallocation");
    return true;
}

static int luks_create_image(const char *filename, QDict *options,
                             Error **errp)
{
    g_autoptr(QDict) rest = qdict_new();
    g_autoptr(CreateOptionsLUKS) o = NULL;
    g_auto(SecretCopy) secret = { 0 };
    BlockBackend *blk;
    LuksOptions lo;
    PreallocMode prealloc;
    int ret;

    o = visit_options(options, rest, &lo, errp);
    if (!o || !take_prealloc(rest, &prealloc, errp) ||
        !crypto_available(errp) ||
        !bdrv_luks_pass("", o->key_secret, &secret, errp)) {
        return -EINVAL;
    }
    if (o->size > INT64_MAX - (int64_t)luks_header_size(&lo)) {
        error_setg(errp, "The requested file size is too large");
        return -EFBIG;
    }
    ret = bdrv_create_file(filename, rest, errp);
    if (ret < 0) {
        return ret;
    }
    blk = blk_new_open_perm(filename, NULL, NULL,
                            BDRV_O_RDWR | BDRV_O_PROTOCOL,
                            BLK_PERM_WRITE | BLK_PERM_RESIZE,
                            BLK_PERM_CONSISTENT_READ, errp);
    if (!blk) {
        return -EIO;
    }
    ret = fill_file(blk, &lo, &secret, ROUND_UP(o->size, BDRV_SECTOR_SIZE),
                    prealloc, errp);
    blk_unref(blk);
    return ret;
}

static BlockMeasureInfo *luks_measure(QDict *options, BlockDriverState *in_bs,
                                      Error **errp)
{
    g_autoptr(QDict) rest = qdict_new();
    g_autoptr(CreateOptionsLUKS) o = NULL;
    g_auto(SecretCopy) secret = { 0 };
    BlockMeasureInfo *info;
    LuksOptions lo;
    int64_t size;

    o = visit_options(options, rest, &lo, errp);
    if (!o || !crypto_available(errp) ||
        !bdrv_luks_pass("", o->key_secret, &secret, errp)) {
        return NULL;
    }
    size = in_bs ? bdrv_getlength(in_bs) : MIN(o->size, BDRV_MAX_LENGTH);
    if (size < 0) {
        error_setg_errno(errp, -size, "Unable to get image size");
        return NULL;
    }
    info = g_new0(BlockMeasureInfo, 1);
    info->required = luks_header_size(&lo) + ROUND_UP(size, BDRV_SECTOR_SIZE);
    info->fully_allocated = info->required;
    return info;
}

/* --- amend --- */

static int luks_amend_image(BlockDriverState *bs, QDict *options,
                            const BdrvAmendArgs *args, Error **errp)
{
    BDRVLuksState *s = bs->opaque;
    Visitor *v = qobject_input_visitor_new_keyval(QOBJECT(options));
    g_autoptr(AmendOptionsLUKS) o = NULL;
    BdrvLuksNames names;
    BdrvLuksArea area;
    LuksIo io = header_io(bs, &area);

    visit_type_AmendOptionsLUKS(v, NULL, &o, errp);
    visit_free(v);
    if (!o) {
        return -EINVAL;
    }
    names = (BdrvLuksNames) {
        .state = o->state, .new_secret = o->new_secret,
        .old_secret = o->old_secret, .has_keyslot = o->has_keyslot,
        .keyslot = o->keyslot, .has_iter_time = o->has_iter_time,
        .iter_time_ms = o->iter_time,
    };
    return bdrv_luks_amend(s->header, &names, args->force, &io, errp);
}

static const char *const luks_weak_options[] = { "key-secret", NULL };

BlockDriver bdrv_luks = {
    .format_name = "luks",
    .id = BLOCKDEV_DRIVER_LUKS,
    .instance_size = sizeof(BDRVLuksState),
    .is_format = true,
    .bdrv_probe = luks_probe,
    .bdrv_open = luks_open_node,
    .bdrv_close = luks_close,
    .bdrv_reopen_prepare = luks_reopen_prepare,
    .bdrv_child_perm = bdrv_default_perms,
    .bdrv_refresh_limits = luks_refresh_limits,
    .bdrv_co_preadv = luks_co_preadv,
    .bdrv_co_pwritev = luks_co_pwritev,
    .bdrv_co_getlength = luks_co_getlength,
    .bdrv_co_truncate = luks_co_truncate,
    .bdrv_co_get_info = luks_co_get_info,
    .bdrv_get_specific_info = luks_get_specific_info,
    .bdrv_create = luks_create_image,
    .create_options = qapi_CreateOptionsLUKS_members,
    .bdrv_measure = luks_measure,
    .bdrv_amend = luks_amend_image,
    .amend_options = qapi_AmendOptionsLUKS_members,
    .weak_options = luks_weak_options,
    .supports_inactive = true,
    .bdrv_activate = luks_activate,
};
