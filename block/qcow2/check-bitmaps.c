/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the check makes of stored bitmaps.
 *
 * Their entries were read when the image was opened (bitmap-dir.c). Those in
 * use refer to clusters like all others do. A damaged one may refer to clusters
 * that nobody sees, so that nothing can be proven unused any more.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/check.h"

/* Bytes of a long table read at a time. */
#define PIECE_BYTES (1024 * 1024)

/* --- those that count --- */

/* Entries of the table of one bitmap; data clusters are counted. */
static void coroutine_fn count_table(Qcow2Check *c, const char *name,
                                     uint64_t offset, uint64_t bytes)
{
    QEMU_AUTO_VFREE uint64_t *piece = NULL;
    uint64_t done, n, i;
    int ret;

    piece = qemu_try_blockalign(c->bs->file->bs, MIN(bytes, PIECE_BYTES));
    for (done = 0; done < bytes; done += n) {
        n = MIN(bytes - done, PIECE_BYTES);
        ret = piece ? qcow2_check_pread(c, offset + done, n, piece) : -ENOMEM;
        if (ret < 0) {
            qcow2_check_io_error(c, ret, "Could not read the table of bitmap "
                                 "'%s'", name);
            return;
        }
        for (i = 0; i < n / sizeof(uint64_t); i++) {
            uint64_t entry = be64_to_cpu(piece[i]);
            uint64_t cluster = entry & QCOW2_BME_TABLE_ENTRY_OFFSET_MASK;

            if (!qcow2_bitmap_table_entry_is_right(c->s, entry)) {
                qcow2_check_bad_reference(
                    c, 1, "ERROR bitmap '%s' table entry %" PRIu64
                    " is corrupted: %" PRIx64, name,
                    done / sizeof(uint64_t) + i, entry);
            } else if (cluster) {
                qcow2_check_count(c, cluster, c->s->cluster_size, 1);
            }
        }
    }
}

static void coroutine_fn count_entry(Qcow2Check *c, const Qcow2Bitmap *b)
{
    const char *name = b->name ?: "";
    uint64_t bytes = (uint64_t)b->table_size * sizeof(uint64_t);

    if (!b->framed) {
        qcow2_check_bad_reference(c, 1, "ERROR a part of the bitmap directory "
                                  "at byte %" PRIu64 " is corrupted", b->pos);
        return;
    }
    if (offset_into_cluster(c->s, b->table_offset)) {
        qcow2_check_bad_reference(
            c, 1, "ERROR bitmap '%s' table_offset=0x%" PRIx64 ": Table is "
            "not cluster aligned; bitmap directory entry corrupted", name,
            b->table_offset);
    } else if (qcow2_check_count(c, b->table_offset, bytes, 1)) {
        count_table(c, name, b->table_offset, bytes);
    }
}

/* An entry that cannot be used, if nothing was found in its clusters. */
static void judge_entry(Qcow2Check *c, const Qcow2Bitmap *b)
{
    if (b->unknown) {
        /* Not damaged: but what it refers to besides is not known. */
        c->unread++;
        c->unknown_bitmaps++;
    } else if (b->fault) {
        qcow2_check_bad_reference(c, 1, "ERROR bitmap '%s' cannot be used: %s",
                                  b->name ?: "", b->fault);
    }
}

/* What will be made of bitmap @i, if this is a trial of that. */
static Qcow2BitmapDamage mark_of(const Qcow2Check *c, guint i)
{
    return c->marked_bitmaps && i < c->marked_bitmaps->len
           ? c->marked_bitmaps->data[i] : QCOW2_BITMAP_SOUND;
}

static Qcow2BitmapDamage damage_of(const Qcow2Bitmap *b, bool refs_are_wrong,
                                   bool any)
{
    if (refs_are_wrong || (any && !b->only_padding) || b->unknown) {
        return QCOW2_BITMAP_DAMAGED;
    }
    return any ? QCOW2_BITMAP_PADDING : QCOW2_BITMAP_SOUND;
}

/* Two have one name: either of them may be the other one. */
static void note_doubles(Qcow2Check *c)
{
    BDRVQcow2State *s = c->s;

    for (guint i = 0; i < s->bitmaps->len; i++) {
        const Qcow2Bitmap *b = s->bitmaps->pdata[i];

        for (guint k = 0; k < s->bitmaps->len && b->name; k++) {
            if (k != i && c->bad_bitmaps->data[k] != QCOW2_BITMAP_SOUND &&
                qcow2_bitmap_has_name(s->bitmaps->pdata[k], b->name)) {
                c->bad_bitmaps->data[i] = QCOW2_BITMAP_DAMAGED;
            }
        }
    }
}

static void coroutine_fn count_entries(Qcow2Check *c)
{
    BDRVQcow2State *s = c->s;

    if (!qcow2_check_count(c, s->bitmap_directory_offset,
                           s->bitmap_directory_size, 1)) {
        return;
    }
    for (guint i = 0; i < s->bitmaps->len; i++) {
        const Qcow2Bitmap *b = s->bitmaps->pdata[i];
        int64_t corruptions = c->res->corruptions;
        int64_t overflows = c->overflows;
        uint8_t damage;
        bool refs_are_wrong, any;

        if (mark_of(c, i) == QCOW2_BITMAP_DAMAGED) {
            c->res->inconsistent_bitmaps++;
            continue;   /* it will have a table of its own */
        }
        count_entry(c, b);
        refs_are_wrong = c->res->corruptions != corruptions;
        if (!refs_are_wrong && mark_of(c, i) == QCOW2_BITMAP_SOUND) {
            judge_entry(c, b);
        }
        if (c->res->corruptions != corruptions ||
            !qcow2_bitmap_is_good(s, b)) {
            c->res->inconsistent_bitmaps++;
        }
        /* What it shares with others it keeps: somebody gets a copy. */
        overflows = c->overflows - overflows;
        any = c->res->corruptions != corruptions + overflows;
        damage = damage_of(b, refs_are_wrong && any, any);
        g_byte_array_append(c->bad_bitmaps, &damage, 1);
    }
    if (!c->marked_bitmaps) {
        note_doubles(c);
    }
}

void coroutine_fn qcow2_check_count_bitmaps(Qcow2Check *c)
{
    BDRVQcow2State *s = c->s;
    int64_t corruptions = c->res->corruptions;
    bool bit = s->autoclear_features & QCOW2_AUTOCLEAR_BITMAPS;

    if (bit && s->bitmaps_fault) {
        qcow2_check_bad_reference(c, 1, "ERROR the bitmaps cannot be used: %s",
                                  s->bitmaps_fault);
        c->res->inconsistent_bitmaps = MAX(1, s->nb_bitmaps);
    } else if (bit) {
        if (s->has_bitmaps_ext) {
            count_entries(c);
        }
    } else {
        c->res->inconsistent_bitmaps = s->bitmaps->len;
    }
    c->res->bitmap_corruptions = c->res->corruptions - corruptions;
}

/* --- those that are void --- */

/* A reference to each cluster that has none though it is in use. */
static void count_weakly(Qcow2Check *c, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> c->s->cluster_bits;
    uint64_t end = (offset + bytes + c->s->cluster_size - 1) >>
                   c->s->cluster_bits;

    for (uint64_t i = first; i < MIN(end, c->nb_clusters); i++) {
        if (!qcow2_check_counts_get(c->refs, i) &&
            qcow2_check_counts_get(c->disk, i)) {
            qcow2_check_counts_set(c->refs, i, 1);
        }
    }
}

void coroutine_fn qcow2_check_count_void_bitmaps(Qcow2Check *c)
{
    BDRVQcow2State *s = c->s;

    if (!s->has_bitmaps_ext || qcow2_bitmaps_are_valid(s) ||
        s->bitmaps_fault) {
        return;
    }
    count_weakly(c, s->bitmap_directory_offset, s->bitmap_directory_size);
    for (guint i = 0; i < s->bitmaps->len; i++) {
        g_autoptr(GArray) clusters = g_array_new(false, false,
                                                 sizeof(Qcow2BitmapExtent));
        const Qcow2Bitmap *b = s->bitmaps->pdata[i];

        if (b->framed) {
            qcow2_bitmap_clusters(c->bs, b, clusters);
        }
        for (guint k = 0; k < clusters->len; k++) {
            const Qcow2BitmapExtent *e = &g_array_index(clusters,
                                                        Qcow2BitmapExtent, k);

            count_weakly(c, e->offset, e->bytes);
        }
    }
}
