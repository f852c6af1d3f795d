/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Header extensions: { be32 magic; be32 length; data, padded to 8 } between the
 * header and the backing file name, up to one of magic 0.
 *
 * Those that we do not know, or that are void, are kept byte for byte and in
 * their order, behind the others.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/error.h"
#include "block/qcow2/qcow2.h"

/* Bytes; in images with clusters up to this size, no names are added. */
#define MAX_CLUSTER_WITHOUT_NAMES 4096

static const Qcow2Feature our_features[] = {
    { QCOW2_FEAT_TYPE_INCOMPATIBLE, 0, "dirty bit" },
    { QCOW2_FEAT_TYPE_INCOMPATIBLE, 1, "corrupt bit" },
    { QCOW2_FEAT_TYPE_INCOMPATIBLE, 2, "external data file" },
    { QCOW2_FEAT_TYPE_INCOMPATIBLE, 3, "compression type" },
    { QCOW2_FEAT_TYPE_INCOMPATIBLE, 4, "extended L2 entries" },
    { QCOW2_FEAT_TYPE_COMPATIBLE, 0, "lazy refcounts" },
    { QCOW2_FEAT_TYPE_AUTOCLEAR, 0, "bitmaps" },
    { QCOW2_FEAT_TYPE_AUTOCLEAR, 1, "raw external data" },
};

/* --- reading --- */

static int keep_extension(BDRVQcow2State *s, uint32_t magic,
                          const uint8_t *data, uint32_t len)
{
    Qcow2UnknownHeaderExtension *ext = g_malloc0(sizeof(*ext) + len);

    ext->magic = magic;
    ext->len = len;
    memcpy(ext->data, data, len);
    QTAILQ_INSERT_TAIL(&s->unknown_header_ext, ext, next);
    return 0;
}

static int parse_backing_format(BlockDriverState *bs, const uint8_t *data,
                                uint32_t len, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    if (len >= sizeof(bs->backing_format)) {
        error_setg(errp, "backing format extension too large (len=%" PRIu32
                   ")", len);
        return -EINVAL;
    }
    g_free(s->image_backing_format);
    s->image_backing_format = g_strndup((const char *)data, len);
    g_strlcpy(bs->backing_format, s->image_backing_format,
              sizeof(bs->backing_format));
    return 0;
}

static int parse_data_file(BDRVQcow2State *s, uint32_t magic,
                           const uint8_t *data, uint32_t len, Error **errp)
{
    if (!s->has_data_file) {
        return keep_extension(s, magic, data, len);
    }
    if (!len || len > QCOW2_MAX_DATA_FILE_NAME || memchr(data, 0, len)) {
        error_setg(errp, !len ? "Data file name is empty"
                   : len > QCOW2_MAX_DATA_FILE_NAME
                   ? "Data file name too long"
                   : "Data file name contains a zero byte");
        return -EINVAL;
    }
    g_free(s->image_data_file);
    s->image_data_file = g_strndup((const char *)data, len);
    return 0;
}

static int parse_features(BDRVQcow2State *s, uint32_t magic,
                          const uint8_t *data, uint32_t len)
{
    if (s->feature_table || len % sizeof(Qcow2Feature) || !len) {
        return keep_extension(s, magic, data, len);
    }
    s->nb_features = len / sizeof(Qcow2Feature);
    s->feature_table = g_memdup2(data, len);
    return 0;
}

/* What cannot be right in the extension; NULL: nothing. */
static const char *bitmaps_fault(const BDRVQcow2State *s,
                                 const Qcow2BitmapHeaderExt *ext)
{
    if (ext->reserved32) {
        return "its reserved field is not zero";
    }
    if (!ext->nb_bitmaps) {
        return "it has no bitmaps";
    }
    if (ext->nb_bitmaps > QCOW2_MAX_BITMAPS) {
        return "it has too many bitmaps";
    }
    if (!ext->bitmap_directory_offset ||
        offset_into_cluster(s, ext->bitmap_directory_offset) ||
        ext->bitmap_directory_offset >= QCOW_MAX_HOST_OFFSET) {
        return "the offset of the directory is wrong";
    }
    if (ext->bitmap_directory_size > QCOW2_MAX_BITMAP_DIRECTORY ||
        ext->bitmap_directory_size < ext->nb_bitmaps *
                                     sizeof(Qcow2BitmapDirEntry)) {
        return "the size of the directory is wrong";
    }
    return NULL;
}

/*
 * Bitmaps are never a reason not to open an image: what cannot be used is kept
 * byte for byte, and bitmap.c knows why.
 */
static int parse_bitmaps(BDRVQcow2State *s, uint32_t magic,
                         const uint8_t *data, uint32_t len)
{
    Qcow2BitmapHeaderExt ext;

    if (s->has_bitmaps_ext || s->bitmaps_fault) {
        return keep_extension(s, magic, data, len);
    }
    if (len != sizeof(ext)) {
        s->bitmaps_fault = "it has a wrong length";
        return keep_extension(s, magic, data, len);
    }
    memcpy(&ext, data, sizeof(ext));
    ext.nb_bitmaps = be32_to_cpu(ext.nb_bitmaps);
    ext.bitmap_directory_size = be64_to_cpu(ext.bitmap_directory_size);
    ext.bitmap_directory_offset = be64_to_cpu(ext.bitmap_directory_offset);
    s->bitmaps_fault = bitmaps_fault(s, &ext);
    if (s->bitmaps_fault) {
        return keep_extension(s, magic, data, len);
    }
    s->has_bitmaps_ext = true;
    s->nb_bitmaps = ext.nb_bitmaps;
    s->bitmap_directory_size = ext.bitmap_directory_size;
    s->bitmap_directory_offset = ext.bitmap_directory_offset;
    return 0;
}

/*
 * A guard whose bit is not set is void: nobody follows its extension, and the
 * next header does not have it.
 */
static int parse_guard(BDRVQcow2State *s, const uint8_t *data, uint32_t len,
                       bool first)
{
    Qcow2Guard *g = &s->guard;

    if (!(s->autoclear_features & QCOW2_AUTOCLEAR_L1_GUARD)) {
        return 0;
    }
    if (!first || g->has_ext) {
        g->fault = "its header extension is not the first one";
        return 0;
    }
    g->has_ext = true;
    if (len != QCOW2_GUARD_EXT_BYTES || ldq_be_p(data + 8)) {
        g->fault = "its header extension is damaged";
        return 0;
    }
    g->place.offset = ldq_be_p(data);
    if (!g->place.offset || offset_into_cluster(s, g->place.offset) ||
        g->place.offset >= QCOW_MAX_HOST_OFFSET) {
        g->fault = "its header extension is damaged";
    }
    return 0;
}

static int parse_one(BlockDriverState *bs, uint32_t magic,
                     const uint8_t *data, uint32_t len, bool first,
                     Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    switch (magic) {
    case QCOW2_EXT_MAGIC_L1_GUARD:
        return parse_guard(s, data, len, first);
    case QCOW2_EXT_MAGIC_BACKING_FORMAT:
        return parse_backing_format(bs, data, len, errp);
    case QCOW2_EXT_MAGIC_DATA_FILE:
        return parse_data_file(s, magic, data, len, errp);
    case QCOW2_EXT_MAGIC_FEATURE_TABLE:
        return parse_features(s, magic, data, len);
    case QCOW2_EXT_MAGIC_BITMAPS:
        return parse_bitmaps(s, magic, data, len);
    case QCOW2_EXT_MAGIC_GAP:
        return 0;
    default:
        return keep_extension(s, magic, data, len);
    }
}

int qcow2_extensions_parse(BlockDriverState *bs, const uint8_t *buf,
                           uint64_t start, uint64_t end, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t pos = start;

    while (pos + 8 <= end) {
        uint32_t magic = ldl_be_p(buf + pos);
        uint32_t len = ldl_be_p(buf + pos + 4);
        int ret;

        pos += 8;
        if (len > end - pos) {
            error_setg(errp, "Header extension too large");
            return -EINVAL;
        }
        if (magic == QCOW2_EXT_MAGIC_END) {
            break;
        }
        ret = parse_one(bs, magic, buf + pos, len, pos == start + 8, errp);
        if (ret < 0) {
            return ret;
        }
        pos += ROUND_UP((uint64_t)len, 8);
    }
    if ((s->autoclear_features & QCOW2_AUTOCLEAR_BITMAPS) &&
        !s->has_bitmaps_ext) {
        if (!s->bitmaps_fault) {
            s->bitmaps_fault = "there is none";
        }
    }
    return 0;
}

char *qcow2_feature_names(const BDRVQcow2State *s, Qcow2FeatureType type,
                          uint64_t bits)
{
    GString *names = g_string_new(NULL);

    for (uint32_t i = 0; i < s->nb_features; i++) {
        const Qcow2Feature *f = &s->feature_table[i];

        if (f->type == type && f->bit < 64 && (bits >> f->bit & 1)) {
            bits &= ~(1ULL << f->bit);
            g_string_append_printf(names, "%s%.46s", names->len ? ", " : "",
                                   f->name);
        }
    }
    if (bits) {
        g_string_append_printf(names, "%sUnknown incompatible feature: "
                               "%" PRIx64, names->len ? ", " : "", bits);
    }
    return g_string_free(names, false);
}

/* --- writing --- */

static int put_extension(uint8_t *buf, size_t pos, size_t buflen,
                         uint32_t magic, const void *data, size_t len)
{
    size_t padded = ROUND_UP(len, (size_t)8);

    if (buflen < 8 || pos > buflen - 8 || padded > buflen - 8 - pos) {
        return -ENOSPC;
    }
    stl_be_p(buf + pos, magic);
    stl_be_p(buf + pos + 4, len);
    if (len) {
        memcpy(buf + pos + 8, data, len);
        memset(buf + pos + 8 + len, 0, padded - len);
    }
    return pos + 8 + padded;
}

/* What follows is at @pos or behind. */
static int put_gap(uint8_t *buf, size_t start, size_t buflen, size_t pos)
{
    size_t len = pos > start + 8 ? ROUND_UP(pos - start - 8, 8) : 0;

    if (buflen < 8 || start > buflen - 8 || len > buflen - 8 - start) {
        return -ENOSPC;
    }
    stl_be_p(buf + start, QCOW2_EXT_MAGIC_GAP);
    stl_be_p(buf + start + 4, len);
    return start + 8 + len;
}

static int put_string(uint8_t *buf, int pos, size_t buflen, uint32_t magic,
                      const char *string)
{
    if (pos < 0 || !string) {
        return pos;
    }
    return put_extension(buf, pos, buflen, magic, string, strlen(string));
}

int qcow2_extensions_build(const Qcow2HeaderLayout *layout, uint8_t *buf,
                           size_t start, size_t buflen)
{
    const Qcow2Feature *features = layout->features ?: our_features;
    size_t nb_features = layout->features ? layout->nb_features
                                          : ARRAY_SIZE(our_features);
    int pos = start;

    /* First, where it can be replaced together with the header. */
    if (layout->guarded) {
        uint8_t ext[QCOW2_GUARD_EXT_BYTES] = { 0 };

        stq_be_p(ext, layout->guard_offset);
        pos = put_extension(buf, pos, buflen, QCOW2_EXT_MAGIC_L1_GUARD, ext,
                            sizeof(ext));
    }
    if (pos >= 0 && layout->extensions_offset) {
        pos = put_gap(buf, pos, buflen, layout->extensions_offset);
    }
    pos = put_string(buf, pos, buflen, QCOW2_EXT_MAGIC_BACKING_FORMAT,
                     layout->backing_format);
    pos = put_string(buf, pos, buflen, QCOW2_EXT_MAGIC_DATA_FILE,
                     layout->data_file);
    /* Names are a courtesy: a small first cluster is for what matters. */
    if (pos >= 0 && layout->fields.version >= 3 && !layout->without_names &&
        (layout->features || buflen > MAX_CLUSTER_WITHOUT_NAMES)) {
        pos = put_extension(buf, pos, buflen, QCOW2_EXT_MAGIC_FEATURE_TABLE,
                            features, nb_features * sizeof(*features));
    }
    if (pos >= 0 && layout->bitmaps) {
        Qcow2BitmapHeaderExt ext = {
            .nb_bitmaps = cpu_to_be32(layout->bitmaps->nb_bitmaps),
            .bitmap_directory_size =
                cpu_to_be64(layout->bitmaps->bitmap_directory_size),
            .bitmap_directory_offset =
                cpu_to_be64(layout->bitmaps->bitmap_directory_offset),
        };

        pos = put_extension(buf, pos, buflen, QCOW2_EXT_MAGIC_BITMAPS, &ext,
                            sizeof(ext));
    }
    if (layout->unknown_ext_of) {
        const Qcow2UnknownHeaderExtension *ext;

        QTAILQ_FOREACH(ext, &layout->unknown_ext_of->unknown_header_ext,
                       next) {
            if (pos >= 0) {
                pos = put_extension(buf, pos, buflen, ext->magic, ext->data,
                                    ext->len);
            }
        }
    }
    return pos < 0 ? pos : put_extension(buf, pos, buflen,
                                         QCOW2_EXT_MAGIC_END, NULL, 0);
}
