/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lists of damaged ranges: order, merging, what is there already. */
#include "util/osdep.h"
#include "block/damage.h"

#define UNITS 64

static const char *const causes[] = { "a", "b" };

static void add(BdrvDamageList *l, int64_t offset, int64_t bytes, int64_t host,
                const char *cause)
{
    BdrvDamage d = { offset, bytes, host, cause };

    bdrv_damage_list_add(l, &d);
}

static void assert_range(BdrvDamageList *l, guint i, int64_t offset,
                         int64_t bytes, int64_t host)
{
    const BdrvDamage *d = &g_array_index(l->ranges, BdrvDamage, i);

    g_assert_cmpuint(i, <, l->ranges->len);
    g_assert_cmpint(d->offset, ==, offset);
    g_assert_cmpint(d->bytes, ==, bytes);
    g_assert_cmpint(d->host, ==, host);
}

static void test_merge(void)
{
    BdrvDamageList l;

    bdrv_damage_list_init(&l);
    add(&l, 100, 10, 1000, causes[0]);
    add(&l, 120, 10, 1020, causes[0]);
    g_assert_cmpuint(l.ranges->len, ==, 2);
    add(&l, 110, 10, 1010, causes[0]);
    g_assert_cmpuint(l.ranges->len, ==, 1);
    assert_range(&l, 0, 100, 30, 1000);
    /* Another place, another cause: another range. */
    add(&l, 130, 10, 7, causes[0]);
    add(&l, 140, 10, 7, causes[0]);
    add(&l, 150, 10, 7, causes[1]);
    g_assert_cmpuint(l.ranges->len, ==, 3);
    assert_range(&l, 1, 130, 20, 7);
    g_assert_cmpint(l.bytes, ==, 60);
    bdrv_damage_list_destroy(&l);
}

/* Only what is not there yet is added. */
static void test_overlap(void)
{
    BdrvDamageList l;

    bdrv_damage_list_init(&l);
    add(&l, 10, 10, -1, causes[0]);
    add(&l, 30, 10, -1, causes[0]);
    add(&l, 0, 50, 500, causes[1]);
    g_assert_cmpuint(l.ranges->len, ==, 5);
    assert_range(&l, 0, 0, 10, 500);
    assert_range(&l, 2, 20, 10, 520);
    assert_range(&l, 4, 40, 10, 540);
    g_assert_cmpint(l.bytes, ==, 50);
    add(&l, 5, 40, 9, causes[0]);
    add(&l, 5, 0, 9, causes[0]);
    g_assert_cmpuint(l.ranges->len, ==, 5);
    bdrv_damage_list_destroy(&l);
}

/* Random ranges against a model of single units. */
static void test_random(void)
{
    for (int round = 0; round < 300; round++) {
        const char *model[UNITS] = { NULL };
        BdrvDamageList l;
        int64_t bytes = 0;

        bdrv_damage_list_init(&l);
        for (int i = 0; i < 30; i++) {
            int start = g_test_rand_int_range(0, UNITS);
            int n = g_test_rand_int_range(0, UNITS - start + 1) / 4;
            const char *cause = causes[g_test_rand_int_range(0, 2)];

            add(&l, start, n, -1, cause);
            for (int k = start; k < start + n; k++) {
                bytes += !model[k];
                model[k] = model[k] ?: cause;
            }
        }
        g_assert_cmpint(l.bytes, ==, bytes);
        for (int k = 0; k < UNITS; k++) {
            int64_t n = UNITS - k;
            const BdrvDamage *d = bdrv_damage_list_find(&l, k, &n);

            g_assert_true((d ? d->cause : NULL) == model[k]);
            g_assert_cmpint(n, >=, 1);
            for (int j = k; j < k + n; j++) {
                g_assert_true(model[j] == model[k]);
            }
            g_assert_true(k + n == UNITS || model[k + n] != model[k]);
        }
        bdrv_damage_list_destroy(&l);
    }
}

/* The limit is kept, and said. */
static void test_full(void)
{
    BdrvDamageList l;

    bdrv_damage_list_init(&l);
    for (int64_t i = 0; i <= BDRV_DAMAGE_MAX; i++) {
        g_assert_false(l.full);
        add(&l, 2 * i, 1, -1, causes[0]);
    }
    g_assert_true(l.full);
    g_assert_cmpuint(l.ranges->len, ==, BDRV_DAMAGE_MAX);
    bdrv_damage_list_destroy(&l);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/damage/merge", test_merge);
    g_test_add_func("/damage/overlap", test_overlap);
    g_test_add_func("/damage/random", test_random);
    g_test_add_func("/damage/full", test_full);
    return g_test_run();
}
