/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bitmap directory: entries of variable length, one behind the other.
 *
 * Nothing in it is a reason to refuse the image. An entry is judged by itself
 * as long as the sizes of all entries add up; if they do not, the entries in
 * front of the damage and those behind it are told by their looks.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/bitmap.h"

#define FIXED sizeof(Qcow2BitmapDirEntry)

/* --- life --- */

void qcow2_bitmap_free(Qcow2Bitmap *b)
{
    if (b) {
        g_free(b->raw);
        g_free(b->name);
        g_free(b);
    }
}

GPtrArray *qcow2_bitmap_list_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)qcow2_bitmap_free);
}

Qcow2Bitmap *qcow2_bitmap_find(const BDRVQcow2State *s, const char *name)
{
    for (guint i = 0; s->bitmaps && i < s->bitmaps->len; i++) {
        Qcow2Bitmap *b = s->bitmaps->pdata[i];

        if (b->name && !strcmp(b->name, name)) {
            return b;
        }
    }
    return NULL;
}

Qcow2Bitmap *qcow2_bitmap_clone(const Qcow2Bitmap *b)
{
    Qcow2Bitmap *copy = g_memdup2(b, sizeof(*b));

    copy->raw = g_memdup2(b->raw, b->raw_size);
    copy->name = g_strdup(b->name);
    return copy;
}

Qcow2Bitmap *qcow2_bitmap_new(const char *name, unsigned granularity_bits)
{
    Qcow2Bitmap *b = g_new0(Qcow2Bitmap, 1);
    Qcow2BitmapDirEntry e = {
        .type = QCOW2_BME_TYPE_DIRTY,
        .granularity_bits = granularity_bits,
        .name_size = cpu_to_be16(strlen(name)),
    };

    b->raw_size = ROUND_UP(FIXED + strlen(name), 8);
    b->raw = g_malloc0(b->raw_size);
    memcpy(b->raw, &e, sizeof(e));
    memcpy(b->raw + FIXED, name, strlen(name));
    b->framed = true;
    b->name = g_strdup(name);
    b->granularity_bits = granularity_bits;
    return b;
}

/* Where the name is in @raw, and its length. */
static size_t raw_name(const Qcow2Bitmap *b, size_t *size)
{
    Qcow2BitmapDirEntry e;

    assert(b->framed);
    memcpy(&e, b->raw, sizeof(e));
    *size = be16_to_cpu(e.name_size);
    return FIXED + be32_to_cpu(e.extra_data_size);
}

bool qcow2_bitmap_has_name(const Qcow2Bitmap *b, const char *name)
{
    size_t size, start = b->framed ? raw_name(b, &size) : 0;

    return b->framed && size == strlen(name) &&
           !memcmp(b->raw + start, name, size);
}

void qcow2_bitmap_clear_padding(Qcow2Bitmap *b)
{
    size_t size, start = raw_name(b, &size);

    assert(b->only_padding);
    memset(b->raw + start + size, 0, b->raw_size - start - size);
    g_free(b->name);
    b->name = g_strndup((const char *)b->raw + start, size);
    b->fault = NULL;
    b->only_padding = false;
}

void qcow2_bitmap_set_flags(Qcow2Bitmap *b, uint32_t flags)
{
    assert(b->framed);
    b->flags = flags;
    stl_be_p(b->raw + offsetof(Qcow2BitmapDirEntry, flags), flags);
}

void qcow2_bitmap_set_table(Qcow2Bitmap *b, uint64_t offset, uint32_t size)
{
    assert(b->framed);
    b->table_offset = offset;
    b->table_size = size;
    stq_be_p(b->raw + offsetof(Qcow2BitmapDirEntry, bitmap_table_offset),
             offset);
    stl_be_p(b->raw + offsetof(Qcow2BitmapDirEntry, bitmap_table_size), size);
}

uint64_t qcow2_bitmaps_directory_size(const GPtrArray *list)
{
    uint64_t size = 0;

    for (guint i = 0; i < list->len; i++) {
        const Qcow2Bitmap *b = list->pdata[i];

        size += b->raw_size;
    }
    return size;
}

void qcow2_bitmaps_build_directory(const GPtrArray *list, uint8_t *buf)
{
    for (guint i = 0; i < list->len; i++) {
        const Qcow2Bitmap *b = list->pdata[i];

        memcpy(buf, b->raw, b->raw_size);
        buf += b->raw_size;
    }
}

static guint count_framed(const GPtrArray *list)
{
    guint n = 0;

    for (guint i = 0; list && i < list->len; i++) {
        n += ((const Qcow2Bitmap *)list->pdata[i])->framed;
    }
    return n;
}

uint32_t qcow2_bitmaps_count(const BDRVQcow2State *s, const GPtrArray *list)
{
    guint framed = count_framed(list);

    if (framed == list->len) {
        return framed;
    }
    /* What is lost in the damaged part is the rest of those there are. */
    return framed + (s->nb_bitmaps - count_framed(s->bitmaps));
}

/* --- where entries begin and end --- */

typedef struct Directory {
    const uint8_t *buf;
    uint64_t size;
    uint32_t nb;
} Directory;

static void entry_at(const Directory *d, uint64_t pos, Qcow2BitmapDirEntry *e)
{
    memcpy(e, d->buf + pos, sizeof(*e));
    e->bitmap_table_offset = be64_to_cpu(e->bitmap_table_offset);
    e->bitmap_table_size = be32_to_cpu(e->bitmap_table_size);
    e->flags = be32_to_cpu(e->flags);
    e->name_size = be16_to_cpu(e->name_size);
    e->extra_data_size = be32_to_cpu(e->extra_data_size);
}

/* Length of the entry at @pos as it says; 0: not possible. */
static uint64_t entry_length(const Directory *d, uint64_t pos)
{
    Qcow2BitmapDirEntry e;
    uint64_t length;

    if (pos > d->size || d->size - pos < FIXED) {
        return 0;
    }
    entry_at(d, pos, &e);
    length = ROUND_UP(FIXED + (uint64_t)e.extra_data_size + e.name_size, 8);
    return length <= d->size - pos ? length : 0;
}

/* The name at @pos, which has a length, is text. */
static bool name_is_text(const Directory *d, uint64_t pos)
{
    Qcow2BitmapDirEntry e;
    uint64_t start;

    entry_at(d, pos, &e);
    start = pos + FIXED + e.extra_data_size;
    return e.name_size && e.name_size <= BDRV_BITMAP_MAX_NAME_SIZE &&
           !memchr(d->buf + start, 0, e.name_size) &&
           g_utf8_validate((const char *)d->buf + start, e.name_size, NULL);
}

/* The same, and it is followed by zeroes. */
static bool name_is_clean(const Directory *d, uint64_t pos)
{
    Qcow2BitmapDirEntry e;
    uint64_t end;

    entry_at(d, pos, &e);
    for (end = pos + FIXED + e.extra_data_size + e.name_size; end % 8; end++) {
        if (d->buf[end]) {
            return false;
        }
    }
    return name_is_text(d, pos);
}

/* Whether exactly the right number of entries fills the directory. */
static bool sizes_add_up(const Directory *d)
{
    uint64_t pos = 0;

    for (uint32_t i = 0; i < d->nb; i++) {
        uint64_t length = entry_length(d, pos);

        if (!length) {
            return false;
        }
        pos += length;
    }
    return pos == d->size;
}

/* What is left of a directory whose sizes do not add up. */
typedef struct Damage {
    uint32_t before;    /* entries in front */
    uint64_t start;     /* of the damaged part */
    uint64_t end;
    uint32_t behind;    /* entries behind it */
} Damage;

/*
 * last[k]: the last position from which exactly k good-looking entries lead to
 * the end; ~0 if there is none. NULL: no memory.
 */
static uint64_t *positions_from_end(const Directory *d)
{
    uint64_t slots = d->size / 8;
    g_autofree uint32_t *entries = g_try_new(uint32_t, slots + 1);
    uint64_t *last = g_try_new(uint64_t, (uint64_t)d->nb + 1);

    if (!entries || !last) {
        g_free(last);
        return NULL;
    }
    memset(last, 0xff, ((uint64_t)d->nb + 1) * sizeof(*last));
    entries[slots] = 0;
    last[0] = d->size;
    for (uint64_t i = slots; i-- > 0;) {
        uint64_t length = entry_length(d, i * 8);
        uint32_t n = UINT32_MAX;

        if (length && name_is_clean(d, i * 8)) {
            n = entries[i + length / 8];
        }
        entries[i] = n < d->nb ? n + 1 : UINT32_MAX;
        if (entries[i] != UINT32_MAX && last[entries[i]] == UINT64_MAX) {
            last[entries[i]] = i * 8;
        }
    }
    return last;
}

/*
 * Looks for the smallest damaged part. False: no memory. last[] falls, so that
 * fewer and fewer entries fit behind a part that starts later.
 */
static bool find_damage(const Directory *d, Damage *best)
{
    g_autofree uint64_t *last = positions_from_end(d);
    uint64_t pos = 0, length;
    uint32_t n, k = d->nb - 1;

    if (!last) {
        return false;
    }
    *best = (Damage) { 0, 0, d->size, 0 };
    for (n = 0; n < d->nb; n++, pos += length) {
        /* One entry at least is lost. */
        k = MIN(k, d->nb - n - 1);
        while (k > 0 && (last[k] == UINT64_MAX || last[k] < pos + FIXED)) {
            k--;
        }
        if (n + k > best->before + best->behind) {
            *best = (Damage) { n, pos, last[k], k };
        }
        length = entry_length(d, pos);
        if (!length || !name_is_clean(d, pos) || n + k == d->nb - 1) {
            break;
        }
    }
    return true;
}

/* --- single entries --- */

static const char *judge_table(BlockDriverState *bs, const Qcow2Bitmap *b)
{
    BDRVQcow2State *s = bs->opaque;

    if (!b->table_offset || offset_into_cluster(s, b->table_offset) ||
        b->table_offset >= QCOW_MAX_HOST_OFFSET) {
        return "the offset of its table is wrong";
    }
    if (!b->table_size) {
        return "the size of its table is wrong";
    }
    /* One that was in use while the disk was resized may have another size. */
    if (!(b->flags & QCOW2_BME_FLAG_IN_USE) &&
        b->table_size != qcow2_bitmap_table_entries(s, s->disk_size,
                                                    b->granularity_bits)) {
        return "the size of its table does not go with the disk";
    }
    if ((uint64_t)b->table_size * s->cluster_size >
        ROUND_UP(QCOW2_MAX_BITMAP_DATA, (uint64_t)s->cluster_size)) {
        return "its table is too large";
    }
    return NULL;
}

/* Things that a later version of the format may have a meaning for. */
static const char *find_unknown(const Qcow2BitmapDirEntry *e)
{
    if (e->flags & ~QCOW2_BME_FLAGS_KNOWN) {
        return "it has unknown flags";
    }
    if (e->type != QCOW2_BME_TYPE_DIRTY) {
        return "it is of an unknown type";
    }
    if (e->extra_data_size && !(e->flags & QCOW2_BME_FLAG_EXTRA_COMPATIBLE)) {
        return "it has extra data of an unknown kind";
    }
    return NULL;
}

/* Why the bits of the entry cannot be used besides its name, or NULL. */
static const char *judge_rest(BlockDriverState *bs, const Directory *d,
                              Qcow2Bitmap *b)
{
    Qcow2BitmapDirEntry e;
    const char *unknown;

    entry_at(d, b->pos, &e);
    unknown = find_unknown(&e);
    if (unknown) {
        b->unknown = true;
        return unknown;
    }
    if (e.granularity_bits < QCOW2_BME_MIN_GRANULARITY_BITS ||
        e.granularity_bits > QCOW2_BME_MAX_GRANULARITY_BITS) {
        return "its granularity is out of range";
    }
    return judge_table(bs, b);
}

/* The same of all. */
static const char *judge(BlockDriverState *bs, const Directory *d,
                         Qcow2Bitmap *b)
{
    if (!name_is_clean(d, b->pos)) {
        b->only_padding = name_is_text(d, b->pos) && !judge_rest(bs, d, b);
        return "its name is damaged";
    }
    return b->name ? judge_rest(bs, d, b)
                   : "its name is that of another bitmap";
}

static Qcow2Bitmap *add_part(GPtrArray *list, const Directory *d,
                             uint64_t pos, uint64_t size)
{
    Qcow2Bitmap *b = g_new0(Qcow2Bitmap, 1);

    b->raw = g_memdup2(d->buf + pos, size);
    b->raw_size = size;
    b->pos = pos;
    g_ptr_array_add(list, b);
    return b;
}

/* Adds @n entries from @pos on. */
static void add_entries(BlockDriverState *bs, const Directory *d,
                        uint64_t pos, uint32_t n, GHashTable *names)
{
    BDRVQcow2State *s = bs->opaque;

    for (uint32_t i = 0; i < n; i++) {
        uint64_t length = entry_length(d, pos);
        Qcow2Bitmap *b = add_part(s->bitmaps, d, pos, length);
        Qcow2BitmapDirEntry e;

        entry_at(d, pos, &e);
        b->framed = true;
        b->table_offset = e.bitmap_table_offset;
        b->table_size = e.bitmap_table_size;
        b->flags = e.flags;
        b->granularity_bits = e.granularity_bits;
        if (name_is_clean(d, pos)) {
            b->name = g_strndup((const char *)d->buf + pos + FIXED +
                                e.extra_data_size, e.name_size);
            if (g_hash_table_contains(names, b->name)) {
                g_clear_pointer(&b->name, g_free);
            } else {
                g_hash_table_add(names, b->name);
            }
        }
        b->fault = judge(bs, d, b);
        pos += length;
    }
}

static int split(BlockDriverState *bs, const Directory *d)
{
    BDRVQcow2State *s = bs->opaque;
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    Qcow2Bitmap *b;
    Damage damage;

    if (sizes_add_up(d)) {
        add_entries(bs, d, 0, d->nb, names);
        return 0;
    }
    if (!find_damage(d, &damage)) {
        return -ENOMEM;
    }
    add_entries(bs, d, 0, damage.before, names);
    b = add_part(s->bitmaps, d, damage.start, damage.end - damage.start);
    b->fault = "its directory entry is damaged";
    add_entries(bs, d, damage.end, damage.behind, names);
    return 0;
}

int coroutine_fn qcow2_bitmaps_read_directory(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Directory d = { .size = s->bitmap_directory_size, .nb = s->nb_bitmaps };
    g_autofree uint8_t *buf = NULL;
    int ret;

    s->bitmaps = qcow2_bitmap_list_new();
    if (!s->has_bitmaps_ext) {
        return 0;
    }
    if (d.size % 8) {
        s->bitmaps_fault = "the size of the directory is wrong";
        return 0;
    }
    if (!qcow2_table_is_in_file(bs, s->bitmap_directory_offset, d.size)) {
        s->bitmaps_fault = "the directory exceeds the end of the file";
        return 0;
    }
    d.buf = buf = g_try_malloc(d.size);
    if (!buf) {
        return -ENOMEM;
    }
    ret = bdrv_co_pread(bs->file, s->bitmap_directory_offset, d.size, buf, 0);
    if (ret < 0) {
        s->bitmaps_fault = "the directory cannot be read";
        return 0;
    }
    qcow2_patch_read(s, s->bitmap_directory_offset, d.size, buf);
    return split(bs, &d);
}
