/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every list against a plain array, with random insertions and removals. */
#include "util/osdep.h"
#include "util/queue.h"

typedef struct Item {
    int id;
    QSLIST_ENTRY(Item) sl;
    QLIST_ENTRY(Item) l;
    QSIMPLEQ_ENTRY(Item) sq;
    QTAILQ_ENTRY(Item) tq;
} Item;

enum { N = 20, ROUNDS = 20000 };

static struct {
    QSLIST_HEAD(, Item) sl;
    QLIST_HEAD(, Item) l;
    QSIMPLEQ_HEAD(, Item) sq;
    QTAILQ_HEAD(, Item) tq;
} lists;
static Item items[N];
static Item *model[N];
static int nr;

static void check_order(void)
{
    Item *it, *next;
    int i = 0;

    QSLIST_FOREACH(it, &lists.sl, sl) {
        g_assert_true(it == model[i++]);
    }
    g_assert_cmpint(i, ==, nr);
    i = 0;
    QLIST_FOREACH_SAFE(it, &lists.l, l, next) {
        g_assert_true(it == model[i++] && QLIST_IS_INSERTED(it, l));
    }
    g_assert_cmpint(i, ==, nr);
    i = 0;
    QSIMPLEQ_FOREACH(it, &lists.sq, sq) {
        g_assert_true(it == model[i++]);
    }
    g_assert_cmpint(i, ==, nr);
    i = 0;
    QTAILQ_FOREACH(it, &lists.tq, tq) {
        g_assert_true(it == model[i++] && QTAILQ_IN_USE(it, tq));
    }
    g_assert_cmpint(i, ==, nr);
    QTAILQ_FOREACH_REVERSE_SAFE(it, &lists.tq, tq, next) {
        g_assert_true(it == model[--i]);
    }
    g_assert_cmpint(i, ==, 0);

    it = nr ? model[nr - 1] : NULL;
    g_assert_true(QTAILQ_LAST(&lists.tq) == it);
    g_assert_true(QSIMPLEQ_LAST(&lists.sq, Item, sq) == it);
    g_assert_cmpint(QTAILQ_EMPTY(&lists.tq), ==, nr == 0);
    g_assert_cmpint(QSIMPLEQ_EMPTY(&lists.sq), ==, nr == 0);
    g_assert_cmpint(QSLIST_EMPTY(&lists.sl), ==, nr == 0);
    g_assert_cmpint(QLIST_EMPTY(&lists.l), ==, nr == 0);
}

/* Puts @it at position @pos of all lists, by a way that fits. */
static void insert(Item *it, int pos)
{
    Item *before = pos > 0 ? model[pos - 1] : NULL;

    memmove(&model[pos + 1], &model[pos], (nr - pos) * sizeof(model[0]));
    model[pos] = it;
    nr++;
    if (before) {
        QSLIST_INSERT_AFTER(before, it, sl);
        QLIST_INSERT_AFTER(before, it, l);
    } else {
        QSLIST_INSERT_HEAD(&lists.sl, it, sl);
        if (nr > 1) {
            QLIST_INSERT_BEFORE(model[1], it, l);
        } else {
            QLIST_INSERT_HEAD(&lists.l, it, l);
        }
    }
    if (pos == nr - 1) {
        QSIMPLEQ_INSERT_TAIL(&lists.sq, it, sq);
        QTAILQ_INSERT_TAIL(&lists.tq, it, tq);
    } else if (before) {
        QSIMPLEQ_INSERT_AFTER(&lists.sq, before, it, sq);
        QTAILQ_INSERT_AFTER(&lists.tq, before, it, tq);
    } else {
        QSIMPLEQ_INSERT_HEAD(&lists.sq, it, sq);
        QTAILQ_INSERT_BEFORE(&lists.tq, model[1], it, tq);
    }
}

static Item *take(int pos)
{
    Item *it = model[pos];

    nr--;
    memmove(&model[pos], &model[pos + 1], (nr - pos) * sizeof(model[0]));
    QSLIST_REMOVE(&lists.sl, it, Item, sl);
    QLIST_SAFE_REMOVE(it, l);
    QLIST_SAFE_REMOVE(it, l);
    if (pos == 0) {
        QSIMPLEQ_REMOVE_HEAD(&lists.sq, sq);
    } else {
        QSIMPLEQ_REMOVE(&lists.sq, it, Item, sq);
    }
    QTAILQ_REMOVE(&lists.tq, it, tq);
    g_assert_false(QTAILQ_IN_USE(it, tq) || QLIST_IS_INSERTED(it, l));
    return it;
}

static void test_model(void)
{
    Item *unused[N];
    int nr_unused = N;

    QSLIST_INIT(&lists.sl);
    QLIST_INIT(&lists.l);
    QSIMPLEQ_INIT(&lists.sq);
    QTAILQ_INIT(&lists.tq);
    for (int i = 0; i < N; i++) {
        unused[i] = &items[i];
    }
    for (int i = 0; i < ROUNDS; i++) {
        if (nr && (!nr_unused || g_test_rand_bit())) {
            unused[nr_unused++] = take(g_test_rand_int_range(0, nr));
        } else {
            insert(unused[--nr_unused], g_test_rand_int_range(0, nr + 1));
        }
        check_order();
    }
}

static void test_concat(void)
{
    QSIMPLEQ_HEAD(, Item) a, b;
    Item x = { 1 }, y = { 2 }, *it;
    int id = 0;

    QSIMPLEQ_INIT(&a);
    QSIMPLEQ_INIT(&b);
    QSIMPLEQ_CONCAT(&a, &b);
    g_assert_true(QSIMPLEQ_EMPTY(&a));
    QSIMPLEQ_INSERT_TAIL(&b, &x, sq);
    QSIMPLEQ_CONCAT(&a, &b);
    QSIMPLEQ_INSERT_TAIL(&b, &y, sq);
    QSIMPLEQ_CONCAT(&a, &b);
    g_assert_true(QSIMPLEQ_EMPTY(&b));
    QSIMPLEQ_FOREACH(it, &a, sq) {
        g_assert_cmpint(it->id, ==, ++id);
    }
    g_assert_cmpint(id, ==, 2);
}

static void test_atomic_stack(void)
{
    QSLIST_HEAD(, Item) shared = QSLIST_HEAD_INITIALIZER(shared);
    QSLIST_HEAD(, Item) mine;
    Item a[3] = { { 0 }, { 1 }, { 2 } };
    Item *it;
    int id = 3;

    for (int i = 0; i < 3; i++) {
        QSLIST_INSERT_HEAD_ATOMIC(&shared, &a[i], sl);
    }
    QSLIST_MOVE_ATOMIC(&mine, &shared);
    g_assert_true(QSLIST_EMPTY(&shared));
    while ((it = QSLIST_FIRST(&mine))) {
        QSLIST_REMOVE_HEAD(&mine, sl);
        g_assert_cmpint(it->id, ==, --id);
    }
    g_assert_cmpint(id, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/queue/model", test_model);
    g_test_add_func("/queue/concat", test_concat);
    g_test_add_func("/queue/atomic-stack", test_atomic_stack);
    return g_test_run();
}
