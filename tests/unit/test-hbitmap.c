/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hierarchical bitmap against a plain array of bools, one a group.  Random runs
 * print GLib's seed; repeat one with --seed.
 */
#include "util/osdep.h"
#include "util/hbitmap.h"

typedef struct Model {
    HBitmap *hb;
    bool *bits;
    uint64_t size, nbits;
    int gran;
} Model;

static uint64_t rand_below(uint64_t n)
{
    uint64_t r = (uint64_t)(uint32_t)g_test_rand_int() << 32 |
                 (uint32_t)g_test_rand_int();

    return n ? r % n : 0;
}

static uint64_t bits_of(uint64_t size, int gran)
{
    return (size >> gran) + !!(size & ((1ULL << gran) - 1));
}

static void model_init(Model *m, uint64_t size, int gran)
{
    *m = (Model) {
        .hb = hbitmap_alloc(size, gran),
        .size = size,
        .nbits = bits_of(size, gran),
        .gran = gran,
    };
    m->bits = g_new0(bool, m->nbits + 1);
}

static void model_clear(Model *m)
{
    hbitmap_free(m->hb);
    g_free(m->bits);
}

static void model_fill(Model *m, uint64_t start, uint64_t count, bool set)
{
    uint64_t end = MIN(start + count, m->size);

    if (!set) {
        /* Clearing needs whole groups. */
        start &= -(1ULL << m->gran);
        end = MIN(ROUND_UP(end, 1ULL << m->gran), m->size);
    }
    if (start >= end) {
        return;
    }
    if (set) {
        hbitmap_set(m->hb, start, end - start);
    } else {
        hbitmap_reset(m->hb, start, end - start);
    }
    for (uint64_t i = start >> m->gran; i <= (end - 1) >> m->gran; i++) {
        m->bits[i] = set;
    }
}

static int64_t model_find(const Model *m, uint64_t start, uint64_t end,
                          bool set)
{
    end = MIN(end, m->size);
    if (start >= end) {
        return -1;
    }
    for (uint64_t i = start >> m->gran; i <= (end - 1) >> m->gran; i++) {
        if (m->bits[i] == set) {
            return MAX(i << m->gran, start);
        }
    }
    return -1;
}

static void check_all(const Model *m)
{
    uint64_t count = 0, last = 0;
    HBitmapIter iter;

    hbitmap_iter_init(&iter, m->hb, 0);
    for (uint64_t i = 0; i < m->nbits; i++) {
        g_assert_cmpint(hbitmap_get(m->hb, i << m->gran), ==, m->bits[i]);
        last = MIN(((i + 1) << m->gran), m->size) - 1;
        g_assert_cmpint(hbitmap_get(m->hb, last), ==, m->bits[i]);
        if (m->bits[i]) {
            g_assert_cmpint(hbitmap_iter_next(&iter), ==, i << m->gran);
            count++;
        }
    }
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, -1);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, -1);
    g_assert_cmpuint(hbitmap_count(m->hb), ==, count << m->gran);
    g_assert_cmpint(hbitmap_empty(m->hb), ==, count == 0);
    g_assert_cmpuint(hbitmap_size(m->hb), ==, m->size);
}

static void check_search(const Model *m)
{
    int64_t start = rand_below(m->size + 10), end;
    int64_t count = rand_below(4) ? rand_below(m->size + 10) : INT64_MAX;
    int64_t max = rand_below(2) ? INT64_MAX : 1 + rand_below(m->size + 1);
    int64_t first, next, ds = -5, dc = -5, pnum;

    end = count == INT64_MAX ? INT64_MAX : start + count;
    first = model_find(m, start, end, true);
    g_assert_cmpint(hbitmap_next_dirty(m->hb, start, count), ==, first);
    g_assert_cmpint(hbitmap_next_zero(m->hb, start, count), ==,
                    model_find(m, start, end, false));
    if (hbitmap_next_dirty_area(m->hb, start, end, max, &ds, &dc)) {
        int64_t stop = MIN((uint64_t)end, m->size);

        g_assert_cmpint(ds, ==, first);
        stop = MIN(stop - first, max) + first;
        next = model_find(m, first, stop, false);
        g_assert_cmpint(dc, ==, (next < 0 ? stop : next) - first);
    } else {
        g_assert_cmpint(first, ==, -1);
        g_assert_cmpint(ds, ==, -5);
        g_assert_cmpint(dc, ==, -5);
    }

    if (m->size) {
        bool set;

        start = rand_below(m->size);
        count = 1 + rand_below(m->size - start);
        set = hbitmap_status(m->hb, start, count, &pnum);
        g_assert_cmpint(set, ==, m->bits[start >> m->gran]);
        next = model_find(m, start, start + count, !set);
        g_assert_cmpint(pnum, ==, next < 0 ? count : next - start);
    }
}

static void model_truncate(Model *m, uint64_t size)
{
    uint64_t nbits = bits_of(size, m->gran);
    bool *bits = g_new0(bool, nbits + 1);

    memcpy(bits, m->bits, MIN(nbits, m->nbits) * sizeof(bool));
    g_free(m->bits);
    m->bits = bits;
    m->size = size;
    m->nbits = nbits;
    hbitmap_truncate(m->hb, size);
}

/* Serialise part by part and read it back into a map full of other bits. */
static void check_serialise(const Model *m)
{
    uint64_t align = hbitmap_serialization_align(m->hb), pos = 0;
    HBitmap *copy = hbitmap_alloc(m->size, m->gran);
    g_autofree char *sum_a = NULL, *sum_b = NULL;

    g_assert_cmpuint(align, ==, 64ULL << m->gran);
    hbitmap_set(copy, 0, m->size / 2);
    while (pos < m->size) {
        uint64_t n = MIN(align * (1 + rand_below(150)), m->size - pos);
        uint64_t len = hbitmap_serialization_size(m->hb, pos, n);
        g_autofree uint8_t *buf = g_malloc(len);

        g_assert_cmpuint(len, ==, (bits_of(n, m->gran) + 63) / 64 * 8);
        hbitmap_serialize_part(m->hb, buf, pos, n);
        for (uint64_t i = 0; i < len * 8; i++) {
            uint64_t bit = (pos >> m->gran) + i;

            g_assert_cmpint(buf[i / 8] >> (i % 8) & 1, ==,
                            bit < m->nbits && m->bits[bit]);
        }
        if (pos + n == m->size && bits_of(n, m->gran) % 64) {
            buf[len - 1] |= 0x80;   /* beyond the end: ignored */
        }
        hbitmap_deserialize_part(copy, buf, pos, n, false);
        pos += n;
    }
    hbitmap_deserialize_finish(copy);
    sum_a = hbitmap_sha256(m->hb);
    sum_b = hbitmap_sha256(copy);
    g_assert_cmpstr(sum_a, ==, sum_b);
    g_assert_cmpuint(hbitmap_count(copy), ==, hbitmap_count(m->hb));
    hbitmap_free(copy);
}

/* Mostly short ranges, some up to everything. */
static void random_change(Model *m)
{
    uint64_t start = rand_below(m->size), count;

    count = rand_below(3) ? rand_below(MIN(m->size, 300ULL << m->gran) + 1)
                          : rand_below(m->size - start + 1);
    model_fill(m, start, count, rand_below(2));
}

static void random_run(uint64_t max_size, int gran, int steps)
{
    Model m;

    model_init(&m, rand_below(max_size), gran);
    g_test_message("size %" PRIu64 " granularity %d", m.size, gran);
    for (int i = 0; i < steps; i++) {
        switch (rand_below(40)) {
        case 0:
            model_truncate(&m, rand_below(max_size));
            break;
        case 1:
            hbitmap_reset_all(m.hb);
            memset(m.bits, 0, m.nbits);
            break;
        case 2:
            check_serialise(&m);
            break;
        case 3:
            model_fill(&m, 0, m.size, rand_below(2));
            break;
        default:
            random_change(&m);
        }
        for (int j = 0; j < 5; j++) {
            check_search(&m);
        }
        if (i % 16 == 0) {
            check_all(&m);
        }
    }
    check_all(&m);
    model_clear(&m);
}

static void test_random(void)
{
    for (int i = 0; i < 10; i++) {
        random_run(200, 0, 100);            /* within a leaf */
        random_run(20000, 0, 60);           /* a few leaves, one level */
        random_run(600000, 0, 20);          /* two levels */
        random_run(600000, 5, 60);
        random_run(40ULL << 30, 21, 60);
    }
}

/* Every size around the limits of words, leaves and levels, filled and not. */
static void test_sizes(void)
{
    static const uint64_t edges[] = { 0, 64, 4096, 64 * 4096, 64 * 64 * 4096 };

    for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
        for (int d = -2; d <= 2; d++) {
            uint64_t size = edges[i] + d;
            HBitmap *hb;

            if ((int64_t)size < 0) {
                continue;
            }
            hb = hbitmap_alloc(size, 0);
            g_assert_cmpint(hbitmap_next_dirty(hb, 0, INT64_MAX), ==, -1);
            g_assert_cmpint(hbitmap_next_zero(hb, 0, INT64_MAX), ==,
                            size ? 0 : -1);
            hbitmap_set(hb, 0, size);
            g_assert_cmpuint(hbitmap_count(hb), ==, size);
            g_assert_cmpint(hbitmap_next_zero(hb, 0, INT64_MAX), ==, -1);

            /* Growing a full map leaves zeroes behind it, at any level. */
            for (size_t j = 0; j < ARRAY_SIZE(edges); j++) {
                uint64_t more = size + edges[j] + 1;

                hbitmap_truncate(hb, more);
                g_assert_cmpuint(hbitmap_count(hb), ==, size);
                g_assert_cmpint(hbitmap_next_zero(hb, 0, INT64_MAX), ==, size);
                g_assert_cmpint(hbitmap_next_dirty(hb, size, INT64_MAX), ==,
                                -1);
                hbitmap_set(hb, more - 1, 1);
                hbitmap_truncate(hb, size);
                g_assert_cmpuint(hbitmap_count(hb), ==, size);
            }
            hbitmap_truncate(hb, 0);
            g_assert_true(hbitmap_empty(hb));
            hbitmap_free(hb);
        }
    }
}

/* The largest disk, byte by byte: uniform ranges take no memory. */
static void test_huge(void)
{
    for (int gran = 0; gran <= 57; gran += 19) {
        uint64_t size = INT64_MAX, group = 1ULL << gran;
        uint64_t mid = (5ULL << 60) + 12345 / group * group;
        HBitmap *hb = hbitmap_alloc(size, gran);
        HBitmap *other = hbitmap_alloc(size, gran);
        int64_t ds, dc;

        mid &= -group;
        hbitmap_set(hb, 0, size);
        g_assert_cmpuint(hbitmap_count(hb), ==, ROUND_UP(size, group));
        hbitmap_reset(hb, mid, group);
        g_assert_cmpint(hbitmap_next_zero(hb, 0, INT64_MAX), ==, mid);
        g_assert_cmpint(hbitmap_next_dirty(hb, mid, INT64_MAX), ==,
                        mid + group);
        g_assert_true(hbitmap_next_dirty_area(hb, mid, INT64_MAX, INT64_MAX,
                                              &ds, &dc));
        g_assert_cmpint(ds, ==, mid + group);
        g_assert_cmpint(dc, ==, size - ds);
        g_assert_true(hbitmap_get(hb, size - 1));

        hbitmap_set(other, mid, group);
        hbitmap_merge(hb, other, other);
        g_assert_cmpint(hbitmap_next_zero(other, 0, INT64_MAX), ==, -1);

        hbitmap_truncate(hb, mid + group);
        g_assert_cmpuint(hbitmap_count(hb), ==, mid);
        hbitmap_truncate(hb, size);
        g_assert_cmpint(hbitmap_next_dirty(hb, mid, INT64_MAX), ==, -1);
        hbitmap_free(hb);
        hbitmap_free(other);
    }
}

static void fill_random(Model *m)
{
    for (int i = rand_below(20); i > 0; i--) {
        random_change(m);
    }
}

static void merge_model(Model *result, const Model *src)
{
    for (uint64_t i = 0; i < src->nbits; i++) {
        if (src->bits[i]) {
            uint64_t start = i << src->gran;
            uint64_t end = MIN(start + (1ULL << src->gran), src->size) - 1;

            for (uint64_t j = start >> result->gran; j <= end >> result->gran;
                 j++) {
                result->bits[j] = true;
            }
        }
    }
}

/* Any mix of granularities, with the result being a third, @a or @b. */
static void test_merge(void)
{
    for (int round = 0; round < 120; round++) {
        uint64_t size = 1 + rand_below(300000);
        Model a, b, c;

        model_init(&a, size, rand_below(2) ? 3 : rand_below(8));
        model_init(&b, size, rand_below(2) ? 3 : rand_below(8));
        model_init(&c, size, rand_below(2) ? 3 : rand_below(8));
        fill_random(&a);
        fill_random(&b);
        fill_random(&c);

        memset(c.bits, 0, c.nbits);
        merge_model(&c, &a);
        merge_model(&c, &b);
        hbitmap_merge(a.hb, b.hb, c.hb);
        check_all(&c);
        check_all(&a);
        check_all(&b);

        merge_model(&a, &b);
        hbitmap_merge(a.hb, b.hb, a.hb);
        check_all(&a);

        /* The copies that a merge makes are independent of the source. */
        merge_model(&b, &c);
        hbitmap_merge(c.hb, b.hb, b.hb);
        model_fill(&b, 0, size / 2, false);
        check_all(&b);
        check_all(&c);
        hbitmap_merge(c.hb, c.hb, c.hb);
        check_all(&c);

        model_clear(&a);
        model_clear(&b);
        model_clear(&c);
    }
}

/* Bits that change during an iteration are seen ahead of it, not behind. */
static void test_iter_change(void)
{
    HBitmap *hb = hbitmap_alloc(1 << 20, 4);
    HBitmapIter iter;

    hbitmap_set(hb, 16, 16);
    hbitmap_set(hb, 1 << 19, 32);
    hbitmap_iter_init(&iter, hb, 17);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, 16);
    hbitmap_set(hb, 0, 1);
    hbitmap_set(hb, 100000, 1);
    hbitmap_reset(hb, 1 << 19, 16);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, 100000);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, (1 << 19) + 16);
    hbitmap_reset_all(hb);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, -1);
    hbitmap_iter_init(&iter, hb, 1 << 20);
    hbitmap_set(hb, (1 << 20) - 1, 1);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, -1);
    hbitmap_free(hb);
}

/* The layout on disk, by example, and the digest of it. */
static void test_format(void)
{
    HBitmap *hb = hbitmap_alloc(70 << 16, 16);
    uint8_t buf[16];
    static const uint8_t want[16] = { [0] = 0x06, [1] = 0x80, [8] = 0x20 };
    g_autofree char *sum = NULL;
    g_autofree char *want_sum =
        g_compute_checksum_for_data(G_CHECKSUM_SHA256, want, 16);

    hbitmap_set(hb, 1 << 16, 2 << 16);
    hbitmap_set(hb, 15 << 16, 1);
    hbitmap_set(hb, (70 << 16) - 1, 1);
    g_assert_cmpuint(hbitmap_serialization_size(hb, 0, 70 << 16), ==, 16);
    hbitmap_serialize_part(hb, buf, 0, 70 << 16);
    g_assert_cmpmem(buf, 16, want, 16);
    sum = hbitmap_sha256(hb);
    g_assert_cmpstr(sum, ==, want_sum);

    hbitmap_deserialize_ones(hb, 0, 64 << 16, false);
    hbitmap_deserialize_zeroes(hb, 64 << 16, 6 << 16, true);
    g_assert_cmpuint(hbitmap_count(hb), ==, 64 << 16);
    g_assert_cmpuint(hbitmap_serialization_size(hb, 0, 0), ==, 0);
    hbitmap_deserialize_part(hb, NULL, 0, 0, true);
    hbitmap_free(hb);
}

/* Part of a group cannot be cleared: dirt would be lost. */
static void test_partial_reset(void)
{
    if (g_test_subprocess()) {
        HBitmap *hb = hbitmap_alloc(100, 4);

        hbitmap_set(hb, 0, 100);
        hbitmap_reset(hb, 96, 4);       /* the end counts as a boundary */
        g_assert_cmpuint(hbitmap_count(hb), ==, 96);
        hbitmap_reset(hb, 16, 8);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*hbitmap_reset*");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hbitmap/random", test_random);
    g_test_add_func("/hbitmap/sizes", test_sizes);
    g_test_add_func("/hbitmap/huge", test_huge);
    g_test_add_func("/hbitmap/merge", test_merge);
    g_test_add_func("/hbitmap/iter-change", test_iter_change);
    g_test_add_func("/hbitmap/format", test_format);
    g_test_add_func("/hbitmap/partial-reset", test_partial_reset);
    return g_test_run();
}
