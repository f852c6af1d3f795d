/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Order and number of callbacks of transactions. */
#include "util/osdep.h"
#include "util/transactions.h"

/* What ran, as "c1 c2 x1 x2": Commit, Abort, clean (x). */
static GString *trail;

static void note(char what, void *opaque)
{
    g_string_append_printf(trail, "%s%c%d", trail->len ? " " : "", what,
                           GPOINTER_TO_INT(opaque));
}

static void do_commit(void *opaque)
{
    note('c', opaque);
}

static void do_abort(void *opaque)
{
    note('a', opaque);
}

static void do_clean(void *opaque)
{
    note('x', opaque);
}

static const TransactionActionDrv all_drv = {
    .commit = do_commit, .abort = do_abort, .clean = do_clean,
};
static const TransactionActionDrv commit_drv = { .commit = do_commit };
static const TransactionActionDrv abort_drv = { .abort = do_abort };
static const TransactionActionDrv clean_drv = { .clean = do_clean };

static void expect(const char *want)
{
    g_assert_cmpstr(trail->str, ==, want);
    g_string_truncate(trail, 0);
}

static Transaction *three(void)
{
    Transaction *tran = tran_new();

    for (int i = 1; i <= 3; i++) {
        tran_add(tran, &all_drv, GINT_TO_POINTER(i));
    }
    expect("");
    return tran;
}

static void test_order(void)
{
    trail = g_string_new(NULL);
    tran_commit(three());
    expect("c1 c2 c3 x1 x2 x3");
    tran_abort(three());
    expect("a3 a2 a1 x3 x2 x1");
    tran_finalize(three(), 0);
    expect("c1 c2 c3 x1 x2 x3");
    tran_finalize(three(), 1);
    expect("c1 c2 c3 x1 x2 x3");
    tran_finalize(three(), -EIO);
    expect("a3 a2 a1 x3 x2 x1");
    g_string_free(trail, TRUE);
}

static Transaction *mixed(void)
{
    Transaction *tran = tran_new();

    tran_add(tran, &commit_drv, GINT_TO_POINTER(1));
    tran_add(tran, &abort_drv, GINT_TO_POINTER(2));
    tran_add(tran, &clean_drv, GINT_TO_POINTER(3));
    tran_add(tran, &all_drv, GINT_TO_POINTER(4));
    return tran;
}

static void test_optional(void)
{
    trail = g_string_new(NULL);
    tran_commit(tran_new());
    tran_abort(tran_new());
    expect("");
    tran_commit(mixed());
    expect("c1 c4 x3 x4");
    tran_abort(mixed());
    expect("a4 a2 x4 x3");
    g_string_free(trail, TRUE);
}

/*
 * Five changes of one value of which the n-th fails: for every n the value is
 * what it was, because undoing runs backwards.
 */
typedef struct Change {
    int *value;
    int old;
} Change;

static void change_abort(void *opaque)
{
    Change *c = opaque;

    *c->value = c->old;
}

static const TransactionActionDrv change_drv = {
    .abort = change_abort, .clean = g_free,
};

static int change(int *value, int new_value, bool ok, Transaction *tran)
{
    Change *c;

    if (!ok) {
        return -EINVAL;
    }
    c = g_new(Change, 1);
    *c = (Change) { .value = value, .old = *value };
    *value = new_value;
    tran_add(tran, &change_drv, c);
    return 0;
}

static void test_nth_fails(void)
{
    for (int bad = 1; bad <= 6; bad++) {
        Transaction *tran = tran_new();
        int value = 100, ret = 0;

        for (int i = 1; i <= 5 && ret == 0; i++) {
            ret = change(&value, i, i != bad, tran);
        }
        tran_finalize(tran, ret);
        g_assert_cmpint(value, ==, bad <= 5 ? 100 : 5);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/transactions/order", test_order);
    g_test_add_func("/transactions/optional", test_optional);
    g_test_add_func("/transactions/nth-fails", test_nth_fails);
    return g_test_run();
}
