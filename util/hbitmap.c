/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hierarchical bitmap, as a tree in which uniform ranges have no nodes.
 *
 * A slot is the place of a subtree: NULL if all its bits are clear, FULL if
 * all are set, else a pointer to a node.  A slot of level 0 holds a leaf of
 * 2^12 bits; one of level n holds an inner node of 64 slots of level n - 1, so
 * it spans 2^(12 + 6n) bits.  The level of the root is the lowest that spans
 * the bitmap.
 *
 * 1. Nodes are mixed: a node whose bits are all equal is replaced by NULL or
 *    FULL by the function that made them equal (settle()).
 * 2. Bits beyond the bitmap's end are clear.  So the slots that contain
 *    the end are never FULL unless they end with it.
 * 3. Every node knows the number of its set bits.
 *
 * Recursion goes down the levels, of which a 2^63-bit map has ten.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/cutils.h"
#include "util/hbitmap.h"
#include "util/zero.h"

#define LEAF_BITS_LOG2 12
#define LEAF_WORDS (1 << (LEAF_BITS_LOG2 - 6))
#define NONE UINT64_MAX

typedef struct HBLeaf {
    uint64_t count;
    uint64_t words[LEAF_WORDS];
} HBLeaf;

typedef struct HBInner {
    uint64_t count;
    uint64_t some;      /* bit i: child[i] has set bits (is not NULL) */
    uint64_t lacking;   /* bit i: child[i] has clear bits (is not FULL) */
    void *child[64];
} HBInner;

struct HBitmap {
    uint64_t size;      /* in items */
    uint64_t nbits;     /* groups, i.e. bits in the tree */
    int granularity;
    int level;          /* of the root slot */
    void *root;
};

static char full_marker;
#define FULL ((void *)&full_marker)

/* log2 of the bits in a slot; may be 66 for the root */
static int span_log2(int level)
{
    return LEAF_BITS_LOG2 + 6 * level;
}

/* The last bit number in a slot. */
static uint64_t span_mask(int level)
{
    int shift = span_log2(level);

    return shift >= 64 ? UINT64_MAX : (1ULL << shift) - 1;
}

static uint64_t slot_count(const void *slot, int level)
{
    if (!slot) {
        return 0;
    }
    if (slot == FULL) {
        return span_mask(level) + 1;
    }
    return level ? ((const HBInner *)slot)->count
                 : ((const HBLeaf *)slot)->count;
}

static void slot_free(void *slot, int level)
{
    if (!slot || slot == FULL) {
        return;
    }
    if (level) {
        HBInner *inner = slot;
        uint64_t todo = inner->some & inner->lacking;

        for (; todo; todo &= todo - 1) {
            slot_free(inner->child[ctz64(todo)], level - 1);
        }
    }
    g_free(slot);
}

/* Make a node of a slot that has none. */
static void slot_expand(void **slot, int level)
{
    bool full = *slot == FULL;

    if (level == 0) {
        HBLeaf *leaf = g_new(HBLeaf, 1);

        memset(leaf->words, full ? 0xff : 0, sizeof(leaf->words));
        leaf->count = slot_count(*slot, 0);
        *slot = leaf;
    } else {
        HBInner *inner = g_new0(HBInner, 1);

        inner->count = slot_count(*slot, level);
        inner->some = full ? UINT64_MAX : 0;
        inner->lacking = ~inner->some;
        for (int i = 0; i < 64; i++) {
            inner->child[i] = *slot;
        }
        *slot = inner;
    }
}

/* Restore invariant 1 for a slot after a change below it. */
static void settle(void **slot, int level)
{
    uint64_t count = slot_count(*slot, level);

    if (count == 0) {
        slot_free(*slot, level);
        *slot = NULL;
    } else if (count == span_mask(level) + 1) {
        slot_free(*slot, level);
        *slot = FULL;
    }
}

/* Note in @inner that child @i has changed and had @old_count bits before. */
static void child_changed(HBInner *inner, int i, int level, uint64_t old_count)
{
    void *child = inner->child[i];
    uint64_t bit = 1ULL << i;

    inner->count += slot_count(child, level - 1) - old_count;
    inner->some = child ? inner->some | bit : inner->some & ~bit;
    inner->lacking = child != FULL ? inner->lacking | bit
                                   : inner->lacking & ~bit;
}

static void leaf_fill(HBLeaf *leaf, unsigned int first, unsigned int last,
                      bool set)
{
    for (unsigned int w = first / 64; w <= last / 64; w++) {
        uint64_t mask = UINT64_MAX;

        if (w == first / 64) {
            mask &= UINT64_MAX << (first % 64);
        }
        if (w == last / 64) {
            mask &= UINT64_MAX >> (63 - last % 64);
        }
        leaf->count -= ctpop64(leaf->words[w]);
        leaf->words[w] = set ? leaf->words[w] | mask : leaf->words[w] & ~mask;
        leaf->count += ctpop64(leaf->words[w]);
    }
}

/*
 * Set or clear the bits @first to @last, counted from the start of the slot.
 */
static void slot_fill(void **slot, int level, uint64_t first, uint64_t last,
                      bool set)
{
    void *uniform = set ? FULL : NULL;

    if (*slot == uniform) {
        return;
    }
    if (first == 0 && last == span_mask(level)) {
        slot_free(*slot, level);
        *slot = uniform;
        return;
    }
    if (!*slot || *slot == FULL) {
        slot_expand(slot, level);
    }
    if (level == 0) {
        leaf_fill(*slot, first, last, set);
    } else {
        HBInner *inner = *slot;
        int shift = span_log2(level - 1);
        uint64_t mask = span_mask(level - 1);

        for (uint64_t i = first >> shift; i <= last >> shift; i++) {
            uint64_t old = slot_count(inner->child[i], level - 1);

            slot_fill(&inner->child[i], level - 1,
                      i == first >> shift ? first & mask : 0,
                      i == last >> shift ? last & mask : mask, set);
            child_changed(inner, i, level, old);
        }
    }
    settle(slot, level);
}

static uint64_t leaf_find(const HBLeaf *leaf, unsigned int from, bool set)
{
    uint64_t flip = set ? 0 : UINT64_MAX;
    uint64_t mask = UINT64_MAX << (from % 64);

    for (unsigned int w = from / 64; w < LEAF_WORDS; w++) {
        uint64_t word = (leaf->words[w] ^ flip) & mask;

        if (word) {
            return 64 * w + ctz64(word);
        }
        mask = UINT64_MAX;
    }
    return NONE;
}

/*
 * The first bit from @from on, within the slot, that is set / clear, or NONE.
 */
static uint64_t slot_find(const void *slot, int level, uint64_t from, bool set)
{
    const HBInner *inner = slot;
    uint64_t todo;
    int shift, i;

    if (!slot || slot == FULL) {
        return (slot == FULL) == set ? from : NONE;
    }
    if (level == 0) {
        return leaf_find(slot, from, set);
    }

    shift = span_log2(level - 1);
    i = from >> shift;
    todo = (set ? inner->some : inner->lacking) & (UINT64_MAX << i);
    for (; todo; todo &= todo - 1) {
        int j = ctz64(todo);
        uint64_t pos = slot_find(inner->child[j], level - 1,
                                 j == i ? from & span_mask(level - 1) : 0,
                                 set);

        /* Only child i can fail: it is the only one not searched in full. */
        if (pos != NONE) {
            return ((uint64_t)j << shift) + pos;
        }
    }
    return NONE;
}

/* A deep copy. */
static void *slot_dup(const void *slot, int level)
{
    HBInner *copy;
    uint64_t todo;

    if (!slot || slot == FULL) {
        return (void *)slot;
    }
    if (level == 0) {
        return g_memdup2(slot, sizeof(HBLeaf));
    }
    copy = g_memdup2(slot, sizeof(HBInner));
    for (todo = copy->some & copy->lacking; todo; todo &= todo - 1) {
        int i = ctz64(todo);

        copy->child[i] = slot_dup(copy->child[i], level - 1);
    }
    return copy;
}

/* Add the set bits of @src to *@dst. */
static void slot_merge(void **dst, const void *src, int level)
{
    if (!src || *dst == FULL) {
        return;
    }
    if (!*dst || src == FULL) {
        slot_free(*dst, level);
        *dst = slot_dup(src, level);
        return;
    }
    if (level == 0) {
        const HBLeaf *from = src;
        HBLeaf *leaf = *dst;

        leaf->count = 0;
        for (int w = 0; w < LEAF_WORDS; w++) {
            leaf->words[w] |= from->words[w];
            leaf->count += ctpop64(leaf->words[w]);
        }
    } else {
        const HBInner *from = src;
        HBInner *inner = *dst;

        for (uint64_t todo = from->some; todo; todo &= todo - 1) {
            int i = ctz64(todo);
            uint64_t old = slot_count(inner->child[i], level - 1);

            slot_merge(&inner->child[i], from->child[i], level - 1);
            child_changed(inner, i, level, old);
        }
    }
    settle(dst, level);
}

/* Write @nwords words of the slot, from word @first on, in disk order. */
static void slot_store(const void *slot, int level,
                       uint64_t first, uint64_t nwords, uint8_t *buf)
{
    if (!slot || slot == FULL) {
        memset(buf, slot ? 0xff : 0, nwords * 8);
        return;
    }
    if (level == 0) {
        const HBLeaf *leaf = slot;

        for (uint64_t w = 0; w < nwords; w++) {
            stq_le_p(buf + w * 8, leaf->words[first + w]);
        }
    } else {
        const HBInner *inner = slot;
        int shift = span_log2(level - 1) - 6;
        uint64_t child_words = 1ULL << shift;

        while (nwords) {
            uint64_t skip = first & (child_words - 1);
            uint64_t n = MIN(nwords, child_words - skip);

            slot_store(inner->child[first >> shift], level - 1, skip, n, buf);
            buf += n * 8;
            first += n;
            nwords -= n;
        }
    }
}

/* Replace @nwords words from word @first on, which lie in one leaf. */
static void slot_load_leaf(void **slot, int level, uint64_t first,
                           const uint64_t *words, unsigned int nwords)
{
    if (!*slot || *slot == FULL) {
        slot_expand(slot, level);
    }
    if (level == 0) {
        HBLeaf *leaf = *slot;

        for (unsigned int w = 0; w < nwords; w++) {
            leaf->count += ctpop64(words[w]);
            leaf->count -= ctpop64(leaf->words[first + w]);
            leaf->words[first + w] = words[w];
        }
    } else {
        HBInner *inner = *slot;
        int shift = span_log2(level - 1) - 6;
        uint64_t i = first >> shift;
        uint64_t old = slot_count(inner->child[i], level - 1);

        slot_load_leaf(&inner->child[i], level - 1,
                       first & ((1ULL << shift) - 1), words, nwords);
        child_changed(inner, i, level, old);
    }
    settle(slot, level);
}

/* --- life --- */

static uint64_t size_to_bits(uint64_t size, int granularity)
{
    return (size + (1ULL << granularity) - 1) >> granularity;
}

static int level_for(uint64_t nbits)
{
    int level = 0;

    while (nbits && nbits - 1 > span_mask(level)) {
        level++;
    }
    return level;
}

HBitmap *hbitmap_alloc(uint64_t size, int granularity)
{
    HBitmap *hb = g_new0(HBitmap, 1);

    assert(size <= INT64_MAX);
    assert(granularity >= 0 && granularity <= 57);
    hb->size = size;
    hb->granularity = granularity;
    hb->nbits = size_to_bits(size, granularity);
    hb->level = level_for(hb->nbits);
    return hb;
}

void hbitmap_free(HBitmap *hb)
{
    if (hb) {
        slot_free(hb->root, hb->level);
        g_free(hb);
    }
}

static void root_raise(HBitmap *hb)
{
    void *old_root = hb->root;

    hb->level++;
    if (old_root) {
        HBInner *inner;

        hb->root = NULL;
        slot_expand(&hb->root, hb->level);
        inner = hb->root;
        inner->child[0] = old_root;
        child_changed(inner, 0, hb->level, 0);
    }
}

static void root_lower(HBitmap *hb)
{
    HBInner *inner = hb->root;

    if (inner) {
        /* What is left after the clearing beyond the end is in child 0. */
        assert(hb->root != FULL && inner->some == 1);
        hb->root = inner->child[0];
        g_free(inner);
    }
    hb->level--;
}

void hbitmap_truncate(HBitmap *hb, uint64_t size)
{
    uint64_t nbits = size_to_bits(size, hb->granularity);
    int level = level_for(nbits);

    assert(size <= INT64_MAX);
    if (nbits < hb->nbits) {
        slot_fill(&hb->root, hb->level, nbits, hb->nbits - 1, false);
    }
    while (hb->level < level) {
        root_raise(hb);
    }
    while (hb->level > level) {
        root_lower(hb);
    }
    hb->size = size;
    hb->nbits = nbits;
}

/* --- changing --- */

static void check_range(const HBitmap *hb, uint64_t start, uint64_t count)
{
    assert(start <= hb->size && count <= hb->size - start);
}

void hbitmap_set(HBitmap *hb, uint64_t start, uint64_t count)
{
    check_range(hb, start, count);
    if (count) {
        slot_fill(&hb->root, hb->level, start >> hb->granularity,
                  (start + count - 1) >> hb->granularity, true);
    }
}

void hbitmap_reset(HBitmap *hb, uint64_t start, uint64_t count)
{
    uint64_t mask = (1ULL << hb->granularity) - 1;

    check_range(hb, start, count);
    if (count) {
        assert(!(start & mask));
        assert(!((start + count) & mask) || start + count == hb->size);
        slot_fill(&hb->root, hb->level, start >> hb->granularity,
                  (start + count - 1) >> hb->granularity, false);
    }
}

void hbitmap_reset_all(HBitmap *hb)
{
    slot_free(hb->root, hb->level);
    hb->root = NULL;
}

static void merge_into(HBitmap *dst, const HBitmap *src)
{
    int64_t pos = 0, start, count;

    if (dst->granularity == src->granularity) {
        slot_merge(&dst->root, src->root, dst->level);
        return;
    }
    while (hbitmap_next_dirty_area(src, pos, src->size, INT64_MAX,
                                   &start, &count)) {
        hbitmap_set(dst, start, count);
        pos = start + count;
    }
}

void hbitmap_merge(const HBitmap *a, const HBitmap *b, HBitmap *result)
{
    assert(a->size == result->size && b->size == result->size);
    if (result != a && result != b) {
        hbitmap_reset_all(result);
    }
    if (result != a) {
        merge_into(result, a);
    }
    if (result != b) {
        merge_into(result, b);
    }
}

/* --- looking --- */

uint64_t hbitmap_size(const HBitmap *hb)
{
    return hb->size;
}

int hbitmap_granularity(const HBitmap *hb)
{
    return hb->granularity;
}

bool hbitmap_empty(const HBitmap *hb)
{
    return !hb->root;
}

uint64_t hbitmap_count(const HBitmap *hb)
{
    return slot_count(hb->root, hb->level) << hb->granularity;
}

bool hbitmap_get(const HBitmap *hb, uint64_t item)
{
    uint64_t bit = item >> hb->granularity;
    const void *slot = hb->root;
    int level = hb->level;

    assert(item < hb->size);
    for (; slot && slot != FULL && level > 0; level--) {
        int shift = span_log2(level - 1);

        slot = ((const HBInner *)slot)->child[bit >> shift];
        bit &= span_mask(level - 1);
    }
    if (!slot || slot == FULL) {
        return slot;
    }
    return ((const HBLeaf *)slot)->words[bit / 64] >> (bit % 64) & 1;
}

/* The first item in [start, end) whose group is set / clear, or -1. */
static int64_t find_item(const HBitmap *hb, int64_t start, int64_t end,
                         bool set)
{
    uint64_t bit;
    int64_t item;

    assert(start >= 0);
    end = MIN(end, (int64_t)hb->size);
    if (start >= end) {
        return -1;
    }
    bit = slot_find(hb->root, hb->level, start >> hb->granularity, set);
    if (bit >= hb->nbits) {
        return -1;
    }
    item = MAX(start, (int64_t)(bit << hb->granularity));
    return item < end ? item : -1;
}

static int64_t range_end(int64_t start, int64_t count)
{
    assert(count >= 0);
    return count > INT64_MAX - start ? INT64_MAX : start + count;
}

int64_t hbitmap_next_dirty(const HBitmap *hb, int64_t start, int64_t count)
{
    return find_item(hb, start, range_end(start, count), true);
}

int64_t hbitmap_next_zero(const HBitmap *hb, int64_t start, int64_t count)
{
    return find_item(hb, start, range_end(start, count), false);
}

bool hbitmap_next_dirty_area(const HBitmap *hb, int64_t start, int64_t end,
                             int64_t max_dirty_count,
                             int64_t *dirty_start, int64_t *dirty_count)
{
    int64_t first, next;

    assert(max_dirty_count > 0);
    end = MIN(end, (int64_t)hb->size);
    first = find_item(hb, start, end, true);
    if (first < 0) {
        return false;
    }
    end = first + MIN(end - first, max_dirty_count);
    next = find_item(hb, first, end, false);
    *dirty_start = first;
    *dirty_count = (next < 0 ? end : next) - first;
    return true;
}

bool hbitmap_status(const HBitmap *hb, int64_t start, int64_t count,
                    int64_t *pnum)
{
    bool set = hbitmap_get(hb, start);
    int64_t next;

    assert(count > 0);
    check_range(hb, start, count);
    next = find_item(hb, start, start + count, !set);
    *pnum = next < 0 ? count : next - start;
    return set;
}

void hbitmap_iter_init(HBitmapIter *hbi, const HBitmap *hb, uint64_t first)
{
    hbi->hb = hb;
    hbi->pos = first < hb->size ? first >> hb->granularity : NONE;
}

int64_t hbitmap_iter_next(HBitmapIter *hbi)
{
    const HBitmap *hb = hbi->hb;
    uint64_t bit = NONE;

    if (hbi->pos < hb->nbits) {
        bit = slot_find(hb->root, hb->level, hbi->pos, true);
    }
    if (bit == NONE) {
        hbi->pos = NONE;
        return -1;
    }
    hbi->pos = bit + 1;
    return bit << hb->granularity;
}

/* --- serialising --- */

uint64_t hbitmap_serialization_align(const HBitmap *hb)
{
    return 64ULL << hb->granularity;
}

/* The words of a part, which is checked to be one. */
static uint64_t part_words(const HBitmap *hb, uint64_t start, uint64_t count,
                           uint64_t *first_word)
{
    uint64_t mask = hbitmap_serialization_align(hb) - 1;
    uint64_t last_bit;

    check_range(hb, start, count);
    assert(!(start & mask));
    assert(!((start + count) & mask) || start + count == hb->size);
    *first_word = start >> hb->granularity >> 6;
    if (!count) {
        return 0;
    }
    last_bit = (start + count - 1) >> hb->granularity;
    return (last_bit >> 6) - *first_word + 1;
}

uint64_t hbitmap_serialization_size(const HBitmap *hb,
                                    uint64_t start, uint64_t count)
{
    uint64_t first;

    return part_words(hb, start, count, &first) * 8;
}

void hbitmap_serialize_part(const HBitmap *hb, uint8_t *buf,
                            uint64_t start, uint64_t count)
{
    uint64_t first, nwords = part_words(hb, start, count, &first);

    if (nwords) {
        slot_store(hb->root, hb->level, first, nwords, buf);
    }
}

void hbitmap_deserialize_part(HBitmap *hb, const uint8_t *buf,
                              uint64_t start, uint64_t count, bool finish)
{
    uint64_t first, nwords = part_words(hb, start, count, &first);
    uint64_t words[LEAF_WORDS];

    while (nwords) {
        unsigned int n = MIN(nwords, LEAF_WORDS - first % LEAF_WORDS);
        uint64_t end_bit = (first + n) * 64;

        for (unsigned int w = 0; w < n; w++) {
            words[w] = ldq_le_p(buf + w * 8);
        }
        if (end_bit > hb->nbits) {
            words[n - 1] &= UINT64_MAX >> (end_bit - hb->nbits);
        }
        if (buffer_is_zero(words, n * 8)) {
            /* Most of a map: no detour through a node. */
            slot_fill(&hb->root, hb->level, first * 64, end_bit - 1, false);
        } else {
            slot_load_leaf(&hb->root, hb->level, first, words, n);
        }
        buf += n * 8;
        first += n;
        nwords -= n;
    }
}

void hbitmap_deserialize_zeroes(HBitmap *hb, uint64_t start, uint64_t count,
                                bool finish)
{
    hbitmap_reset(hb, start, count);
}

void hbitmap_deserialize_ones(HBitmap *hb, uint64_t start, uint64_t count,
                              bool finish)
{
    hbitmap_set(hb, start, count);
}

void hbitmap_deserialize_finish(HBitmap *hb)
{
    /* Counts and levels are right after every part: nothing is left to do. */
    assert(slot_count(hb->root, hb->level) <= hb->nbits);
}

char *hbitmap_sha256(const HBitmap *hb)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    uint64_t total = MAX((hb->nbits + 63) / 64, 1);
    uint8_t buf[4096];

    for (uint64_t first = 0; first < total; first += sizeof(buf) / 8) {
        uint64_t n = MIN(total - first, sizeof(buf) / 8);

        slot_store(hb->root, hb->level, first, n, buf);
        g_checksum_update(sum, buf, n * 8);
    }
    return g_strdup(g_checksum_get_string(sum));
}
