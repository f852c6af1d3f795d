/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compact counters for host clusters; see check-counts.h.
 *
 * Invariants:
 *  1. A page's numbers all fit its width; widening keeps every number.
 *  2. Width 2 bits is a plain shift within a byte, wider ones are native
 *     integers; a page is never narrowed.
 */
#include "util/osdep.h"
#include "block/qcow2/check-counts.h"

#define PAGE_MASK (QCOW2_CHECK_PAGE_SIZE - 1)

typedef struct CountsPage {
    unsigned width;         /* bits of a number: 2, 8, 16, 32 or 64 */
    uint64_t data[];        /* QCOW2_CHECK_PAGE_SIZE numbers */
} CountsPage;

struct Qcow2CheckCounts {
    GHashTable *pages;      /* page number -> CountsPage */
    size_t bytes;
    /* The page looked at last: accesses come in runs. */
    uint64_t last_nr;
    CountsPage *last;
};

static size_t page_bytes(unsigned width)
{
    return sizeof(CountsPage) + (size_t)QCOW2_CHECK_PAGE_SIZE * width / 8;
}

static CountsPage *page_new(unsigned width)
{
    CountsPage *page = g_malloc0(page_bytes(width));

    page->width = width;
    return page;
}

static uint64_t page_get(const CountsPage *page, unsigned i)
{
    const uint8_t *bytes = (const uint8_t *)page->data;

    switch (page->width) {
    case 2:
        return bytes[i / 4] >> (i % 4 * 2) & 3;
    case 8:
        return bytes[i];
    case 16:
        return ((const uint16_t *)page->data)[i];
    case 32:
        return ((const uint32_t *)page->data)[i];
    default:
        return page->data[i];
    }
}

/* @value fits. */
static void page_set(CountsPage *page, unsigned i, uint64_t value)
{
    uint8_t *bytes = (uint8_t *)page->data;

    switch (page->width) {
    case 2:
        bytes[i / 4] &= ~(3U << (i % 4 * 2));
        bytes[i / 4] |= value << (i % 4 * 2);
        break;
    case 8:
        bytes[i] = value;
        break;
    case 16:
        ((uint16_t *)page->data)[i] = value;
        break;
    case 32:
        ((uint32_t *)page->data)[i] = value;
        break;
    default:
        page->data[i] = value;
    }
}

static unsigned width_for(uint64_t value)
{
    return value <= 3 ? 2 : value <= UINT8_MAX ? 8 : value <= UINT16_MAX ? 16
           : value <= UINT32_MAX ? 32 : 64;
}

Qcow2CheckCounts *qcow2_check_counts_new(void)
{
    Qcow2CheckCounts *counts = g_new0(Qcow2CheckCounts, 1);

    counts->pages = g_hash_table_new_full(g_int64_hash, g_int64_equal,
                                          g_free, g_free);
    return counts;
}

void qcow2_check_counts_free(Qcow2CheckCounts *counts)
{
    if (counts) {
        g_hash_table_destroy(counts->pages);
        g_free(counts);
    }
}

static CountsPage *find_page(Qcow2CheckCounts *counts, uint64_t nr)
{
    CountsPage *page;

    if (counts->last && counts->last_nr == nr) {
        return counts->last;
    }
    page = g_hash_table_lookup(counts->pages, &nr);
    if (page) {
        counts->last_nr = nr;
        counts->last = page;
    }
    return page;
}

static void put_page(Qcow2CheckCounts *counts, uint64_t nr, CountsPage *page)
{
    uint64_t *key = g_new(uint64_t, 1);

    *key = nr;
    /* frees a narrower page under the same number */
    g_hash_table_insert(counts->pages, key, page);
    counts->bytes += page_bytes(page->width);
    counts->last_nr = nr;
    counts->last = page;
}

/* A page that can hold @value at least. */
static CountsPage *page_for_value(Qcow2CheckCounts *counts, uint64_t nr,
                                  uint64_t value)
{
    CountsPage *page = find_page(counts, nr);
    CountsPage *wide;
    unsigned i;

    if (page && width_for(value) <= page->width) {
        return page;
    }
    wide = page_new(width_for(value));
    if (page) {
        for (i = 0; i < QCOW2_CHECK_PAGE_SIZE; i++) {
            page_set(wide, i, page_get(page, i));
        }
        counts->bytes -= page_bytes(page->width);
    }
    put_page(counts, nr, wide);
    return wide;
}

uint64_t qcow2_check_counts_get(Qcow2CheckCounts *counts, uint64_t cluster)
{
    const CountsPage *page = find_page(counts,
                                       cluster >> QCOW2_CHECK_PAGE_BITS);

    return page ? page_get(page, cluster & PAGE_MASK) : 0;
}

void qcow2_check_counts_set(Qcow2CheckCounts *counts, uint64_t cluster,
                            uint64_t value)
{
    uint64_t nr = cluster >> QCOW2_CHECK_PAGE_BITS;

    if (value || find_page(counts, nr)) {
        page_set(page_for_value(counts, nr, value), cluster & PAGE_MASK,
                 value);
    }
}

uint64_t qcow2_check_counts_add(Qcow2CheckCounts *counts, uint64_t cluster,
                                uint64_t n, uint64_t max)
{
    uint64_t old = qcow2_check_counts_get(counts, cluster);
    uint64_t room = old < max ? max - old : 0;
    uint64_t fits = n < room ? n : room;

    if (fits) {
        qcow2_check_counts_set(counts, cluster, old + fits);
    }
    return n - fits;
}

/* --- runs --- */

/* Clusters in a word of 2-bit numbers, and such a word with 1 everywhere. */
#define PER_WORD 32
#define ONES 0x5555555555555555ULL

/* The same inside one page. */
static unsigned page_run(const CountsPage *page, unsigned i, unsigned n,
                         unsigned value)
{
    uint64_t word = value ? ONES : 0;
    unsigned end = i + n, start = i;

    while (i < end) {
        if (page->width == 2 && i % PER_WORD == 0 && end - i >= PER_WORD &&
            page->data[i / PER_WORD] == word) {
            i += PER_WORD;
        } else if (page_get(page, i) == value) {
            i++;
        } else {
            break;
        }
    }
    return i - start;
}

static void page_fill(CountsPage *page, unsigned i, unsigned n)
{
    unsigned end = i + n;

    while (i < end) {
        if (page->width == 2 && i % PER_WORD == 0 && end - i >= PER_WORD) {
            page->data[i / PER_WORD] = ONES;
            i += PER_WORD;
        } else {
            page_set(page, i++, 1);
        }
    }
}

uint64_t qcow2_check_counts_run(Qcow2CheckCounts *counts, uint64_t cluster,
                                uint64_t n, unsigned value)
{
    uint64_t done = 0;

    assert(value <= 1);
    while (done < n) {
        uint64_t at = cluster + done;
        unsigned in_page = MIN(n - done,
                               QCOW2_CHECK_PAGE_SIZE - (at & PAGE_MASK));
        const CountsPage *page = find_page(counts,
                                           at >> QCOW2_CHECK_PAGE_BITS);
        unsigned same = page ? page_run(page, at & PAGE_MASK, in_page, value)
                             : value ? 0 : in_page;

        done += same;
        if (same < in_page) {
            break;
        }
    }
    return done;
}

void qcow2_check_counts_fill(Qcow2CheckCounts *counts, uint64_t cluster,
                             uint64_t n)
{
    while (n) {
        unsigned in_page = MIN(n, QCOW2_CHECK_PAGE_SIZE -
                                  (cluster & PAGE_MASK));

        page_fill(page_for_value(counts, cluster >> QCOW2_CHECK_PAGE_BITS, 1),
                  cluster & PAGE_MASK, in_page);
        cluster += in_page;
        n -= in_page;
    }
}

static int compare_page_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

GArray *qcow2_check_counts_pages(Qcow2CheckCounts *a, Qcow2CheckCounts *b)
{
    GArray *numbers = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, a->pages);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_array_append_vals(numbers, key, 1);
    }
    if (b) {
        g_hash_table_iter_init(&iter, b->pages);
        while (g_hash_table_iter_next(&iter, &key, NULL)) {
            if (!g_hash_table_lookup(a->pages, key)) {
                g_array_append_vals(numbers, key, 1);
            }
        }
    }
    g_array_sort(numbers, compare_page_numbers);
    return numbers;
}

bool qcow2_check_counts_same(Qcow2CheckCounts *a, Qcow2CheckCounts *b,
                             uint64_t page)
{
    const CountsPage *x = find_page(a, page);
    const CountsPage *y = find_page(b, page);

    return x && y && x->width == y->width &&
           !memcmp(x, y, page_bytes(x->width));
}

bool qcow2_check_counts_is_empty(const Qcow2CheckCounts *counts)
{
    return g_hash_table_size(counts->pages) == 0;
}

/* --- walks --- */

Qcow2CheckWalk qcow2_check_walk(Qcow2CheckCounts *a, Qcow2CheckCounts *b,
                                uint64_t limit, bool unlike)
{
    return (Qcow2CheckWalk) {
        .a = a, .b = b, .limit = limit, .unlike = unlike,
        .pages = qcow2_check_counts_pages(a, b),
    };
}

bool qcow2_check_walk_next(Qcow2CheckWalk *walk, uint64_t *cluster)
{
    while (walk->cluster >= walk->end) {
        uint64_t page;

        if (walk->next_page >= walk->pages->len) {
            return false;
        }
        page = g_array_index(walk->pages, uint64_t, walk->next_page++);
        if (!walk->unlike || !qcow2_check_counts_same(walk->a, walk->b, page)) {
            walk->cluster = page << QCOW2_CHECK_PAGE_BITS;
            walk->end = MIN(walk->cluster + QCOW2_CHECK_PAGE_SIZE,
                            walk->limit);
        }
    }
    *cluster = walk->cluster++;
    return true;
}

void qcow2_check_walk_clear(Qcow2CheckWalk *walk)
{
    g_clear_pointer(&walk->pages, g_array_unref);
}

size_t qcow2_check_counts_memory(const Qcow2CheckCounts *counts)
{
    return counts->bytes;
}
