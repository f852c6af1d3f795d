/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One header takes another's place, at once.
 *
 * Of a write of several sectors a power cut may leave any. So the new header
 * is laid out in such a way that behind the first sector it has nothing where
 * the old one has something else:
 *
 *   1. the new bytes behind the first sector, which the old header does not
 *      use; flush;
 *   2. the first sector, which is written whole or not at all; flush.
 *
 * If the usual layout (extensions, name right behind them) does not allow it,
 * the name moves back in the first cluster; or all extensions do, and an
 * extension that nobody reads spans the gap (QCOW2_EXT_MAGIC_GAP). From there
 * the same two steps lead to the usual layout. Where space is short, names of
 * features are left out. If nothing helps the header stays as it is.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/error.h"
#include "util/memalign.h"
#include "block/qcow2/qcow2.h"

/* The bytes of a header, and which of them mean something. */
typedef struct Image {
    uint8_t *data;
    uint8_t *used;          /* bool for each byte */
    size_t end;             /* behind the last used one */
} Image;

typedef struct Replace {
    BlockDriverState *bs;
    size_t size;            /* of an image: a cluster */
    Image old;              /* on disk */
    Image new;
} Replace;

static void image_free(Image *img)
{
    qemu_vfree(img->data);
    g_free(img->used);
}

static bool image_alloc(Replace *r, Image *img)
{
    img->data = qemu_try_blockalign(r->bs->file->bs, r->size);
    img->used = g_try_malloc0(r->size);
    if (!img->data || !img->used) {
        return false;
    }
    memset(img->data, 0, r->size);
    return true;
}

static void mark(Replace *r, Image *img, uint64_t pos, uint64_t bytes)
{
    bytes = MIN(bytes, r->size - MIN(pos, r->size));
    if (bytes) {
        memset(img->used + pos, true, bytes);
        img->end = MAX(img->end, pos + bytes);
    }
}

/* The chain of extensions; what is not sound in it counts as used. */
static void mark_extensions(Replace *r, Image *img, uint64_t pos, uint64_t end)
{
    while (pos + 8 <= end) {
        uint32_t magic = ldl_be_p(img->data + pos);
        uint32_t len = ldl_be_p(img->data + pos + 4);

        mark(r, img, pos, 8);
        if (magic == QCOW2_EXT_MAGIC_END) {
            break;
        }
        pos += 8;
        if (magic != QCOW2_EXT_MAGIC_GAP) {
            mark(r, img, pos, len);
        }
        pos += ROUND_UP((uint64_t)len, 8);
    }
}

static void image_mark(Replace *r, Image *img)
{
    const QCowHeader *h = (const QCowHeader *)img->data;
    uint64_t name = be64_to_cpu(h->backing_file_offset);
    uint64_t length = be32_to_cpu(h->version) == 2
                      ? QCOW2_V2_HEADER_LENGTH
                      : be32_to_cpu(h->header_length);

    memset(img->used, false, r->size);
    img->end = 0;
    mark(r, img, 0, MAX(length, QCOW2_HEADER_SECTOR));
    mark_extensions(r, img, length, name ? MIN(name, r->size) : r->size);
    if (name) {
        mark(r, img, name, be32_to_cpu(h->backing_file_size));
    }
}

/* Whether the rest of the new header leaves the old one what it needs. */
static bool coexist(const Replace *r)
{
    size_t end = MIN(r->old.end, r->new.end);

    for (size_t i = QCOW2_HEADER_SECTOR; i < end; i++) {
        if (r->old.used[i] && r->new.used[i] &&
            r->old.data[i] != r->new.data[i]) {
            return false;
        }
    }
    return true;
}

/* Builds it so; whether that fits and may be put beside the old one. */
static bool try_layout(Replace *r, const Qcow2HeaderLayout *layout)
{
    if (qcow2_header_build(layout, r->new.data, r->size) < 0) {
        return false;
    }
    image_mark(r, &r->new);
    return coexist(r);
}

static bool try_names(Replace *r, Qcow2HeaderLayout *layout)
{
    layout->name_offset = 0;
    if (try_layout(r, layout)) {
        return true;
    }
    layout->name_offset = r->old.end;
    return try_layout(r, layout);
}

/* Lays out the new header. *@usual: there is no gap in it. */
static int lay_out(Replace *r, Qcow2HeaderLayout *layout, bool *usual)
{
    int bytes = qcow2_header_build(layout, r->new.data, r->size);

    *usual = true;
    layout->extensions_offset = 0;
    layout->without_names = false;
    if (try_names(r, layout)) {
        return 0;
    }
    *usual = false;
    layout->name_offset = 0;
    /* Best behind the place that it has in the end. */
    layout->extensions_offset = MAX(r->old.end, (size_t)MAX(bytes, 0));
    if (try_layout(r, layout)) {
        return 0;
    }
    layout->extensions_offset = r->old.end;
    if (try_layout(r, layout)) {
        return 0;
    }
    layout->extensions_offset = 0;
    layout->without_names = true;
    return try_names(r, layout) ? 0 : -ENOSPC;
}

/* --- writing --- */

/* Sectors [*@pos, @return) are different; none: *@pos is the end. */
static size_t next_change(const Replace *r, size_t *pos)
{
    size_t end;

    while (*pos < r->size && !memcmp(r->old.data + *pos, r->new.data + *pos,
                                     QCOW2_HEADER_SECTOR)) {
        *pos += QCOW2_HEADER_SECTOR;
    }
    end = *pos;
    while (end < r->size && memcmp(r->old.data + end, r->new.data + end,
                                   QCOW2_HEADER_SECTOR)) {
        end += QCOW2_HEADER_SECTOR;
    }
    return end;
}

static int coroutine_fn write_rest(Replace *r)
{
    size_t pos = QCOW2_HEADER_SECTOR;
    size_t end;

    /* What neither needs stays, too: a sector may hold something of both. */
    for (size_t i = pos; i < r->size; i++) {
        if (!r->new.used[i]) {
            r->new.data[i] = r->old.data[i];
        }
    }
    while ((end = next_change(r, &pos)) > pos) {
        int ret = bdrv_co_pwrite(r->bs->file, pos, end - pos,
                                 r->new.data + pos, 0);

        if (ret < 0) {
            return ret;
        }
        pos = end;
    }
    /* Together with what the header refers to. */
    return bdrv_co_flush(r->bs->file->bs);
}

static int coroutine_fn commit(Replace *r)
{
    int ret = write_rest(r);

    if (ret == 0 && memcmp(r->old.data, r->new.data, QCOW2_HEADER_SECTOR)) {
        ret = qcow2_header_write_sector(r->bs, r->old.data, r->new.data);
    }
    return ret;
}

static int coroutine_fn replace(Replace *r, Qcow2HeaderLayout *layout)
{
    int64_t length = bdrv_co_getlength(r->bs->file->bs);
    bool usual;
    int ret;

    if (length < 0) {
        return length;
    }
    ret = bdrv_co_pread(r->bs->file, 0, MIN(length, (int64_t)r->size),
                        r->old.data, 0);
    if (ret < 0) {
        return ret;
    }
    image_mark(r, &r->old);
    ret = lay_out(r, layout, &usual);
    if (ret == 0) {
        ret = commit(r);
    }
    if (ret < 0 || usual || layout->without_names) {
        return ret;
    }
    /* It holds already: from here on it is about looks. */
    memcpy(r->old.data, r->new.data, r->size);
    image_mark(r, &r->old);
    if (lay_out(r, layout, &usual) == 0 && usual) {
        ret = commit(r);
        if (ret < 0) {
            /* Not for the header's sake: what a flush has lost is lost. */
            bdrv_report_loss(r->bs, "Failed to tidy the header of node '%s': "
                             "%s", bdrv_get_device_or_node_name(r->bs),
                             strerror(-ret));
        }
    }
    return 0;
}

int coroutine_fn qcow2_header_replace(BlockDriverState *bs,
                                      Qcow2HeaderLayout *layout)
{
    BDRVQcow2State *s = bs->opaque;
    Replace r = { .bs = bs, .size = s->cluster_size };
    int ret;

    ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_MAIN_HEADER, 0, r.size);
    if (ret == 0) {
        ret = image_alloc(&r, &r.old) && image_alloc(&r, &r.new)
              ? replace(&r, layout) : -ENOMEM;
    }
    image_free(&r.old);
    image_free(&r.new);
    return ret;
}
