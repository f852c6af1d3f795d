/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "block/accounting.h"

static void test_counts(void)
{
    BlockAcctStats st;
    BlockAcctCookie a, b;

    block_acct_init(&st);
    block_acct_start(&st, &a, 1000, BLOCK_ACCT_READ);
    block_acct_start(&st, &b, 24, BLOCK_ACCT_READ);
    g_usleep(2000);
    g_assert_cmpuint(st.nr_ops[BLOCK_ACCT_READ], ==, 0);
    block_acct_done(&st, &b);
    block_acct_done(&st, &a);
    g_assert_cmpuint(st.nr_ops[BLOCK_ACCT_READ], ==, 2);
    g_assert_cmpuint(st.nr_bytes[BLOCK_ACCT_READ], ==, 1024);
    /* Each request counts its own time, also when they overlap. */
    g_assert_cmpuint(st.total_time_ns[BLOCK_ACCT_READ], >=, 2 * 2000 * 1000);

    block_acct_start(&st, &a, 512, BLOCK_ACCT_WRITE);
    block_acct_failed(&st, &a);
    g_assert_cmpuint(st.failed_ops[BLOCK_ACCT_WRITE], ==, 1);
    g_assert_cmpuint(st.nr_ops[BLOCK_ACCT_WRITE], ==, 0);
    g_assert_cmpuint(st.nr_bytes[BLOCK_ACCT_WRITE], ==, 0);
    block_acct_invalid(&st, BLOCK_ACCT_UNMAP);
    g_assert_cmpuint(st.invalid_ops[BLOCK_ACCT_UNMAP], ==, 1);
    g_assert_cmpuint(st.failed_ops[BLOCK_ACCT_UNMAP], ==, 0);
    block_acct_cleanup(&st);
}

static void test_idle(void)
{
    BlockAcctStats st;
    BlockAcctCookie c;
    int64_t idle;

    block_acct_init(&st);
    g_usleep(3000);
    idle = block_acct_idle_time_ns(&st);
    g_assert_cmpint(idle, >=, 3000 * 1000);
    block_acct_start(&st, &c, 0, BLOCK_ACCT_FLUSH);
    block_acct_done(&st, &c);
    g_assert_cmpint(block_acct_idle_time_ns(&st), <, idle);
    block_acct_cleanup(&st);
}

#define THREADS 4
#define OPS 5000

static void *account_many(void *opaque)
{
    for (int i = 0; i < OPS; i++) {
        BlockAcctCookie c;

        block_acct_start(opaque, &c, 3, BLOCK_ACCT_WRITE);
        if (i % 5) {
            block_acct_done(opaque, &c);
        } else {
            block_acct_failed(opaque, &c);
        }
    }
    return NULL;
}

static void test_threads(void)
{
    BlockAcctStats st;
    QemuThread threads[THREADS];

    block_acct_init(&st);
    for (int i = 0; i < THREADS; i++) {
        qemu_thread_create(&threads[i], "acct", account_many, &st,
                           QEMU_THREAD_JOINABLE);
    }
    for (int i = 0; i < THREADS; i++) {
        qemu_thread_join(&threads[i]);
    }
    g_assert_cmpuint(st.nr_ops[BLOCK_ACCT_WRITE], ==, THREADS * OPS / 5 * 4);
    g_assert_cmpuint(st.failed_ops[BLOCK_ACCT_WRITE], ==, THREADS * OPS / 5);
    g_assert_cmpuint(st.nr_bytes[BLOCK_ACCT_WRITE], ==,
                     3 * THREADS * OPS / 5 * 4);
    block_acct_cleanup(&st);
}

static uint64List *boundaries(uint64List *entries, const uint64_t *values,
                              int n)
{
    for (int i = 0; i < n; i++) {
        entries[i].value = values[i];
        entries[i].next = i + 1 < n ? &entries[i + 1] : NULL;
    }
    return entries;
}

static void count_one(BlockAcctStats *st, uint64_t age_ns, bool failed)
{
    BlockAcctCookie c;

    block_acct_start(st, &c, 512, BLOCK_ACCT_READ);
    c.start_time_ns -= age_ns;
    if (failed) {
        block_acct_failed(st, &c);
    } else {
        block_acct_done(st, &c);
    }
}

/* Bins are between boundaries, the lower one included; failures count. */
static void test_histogram(void)
{
    /* Further apart than a slow machine takes. */
    const uint64_t hour = 3600 * 1000000000ULL;
    const uint64_t good[] = { hour, 2 * hour, 3 * hour };
    const uint64_t bad[] = { 1, 1 }, zero[] = { 0, 1 };
    BlockLatencyHistogramInfo *info;
    uint64List entries[3], *e;
    BlockAcctStats st;

    block_acct_init(&st);
    g_assert_null(block_acct_histogram(&st, BLOCK_ACCT_READ));
    g_assert_true(block_acct_set_histogram(&st, BLOCK_ACCT_READ,
                                           boundaries(entries, good, 3)));
    g_assert_false(block_acct_set_histogram(&st, BLOCK_ACCT_READ,
                                            boundaries(entries, bad, 2)));
    g_assert_false(block_acct_set_histogram(&st, BLOCK_ACCT_READ,
                                            boundaries(entries, zero, 2)));
    count_one(&st, 0, false);
    count_one(&st, hour, false);
    count_one(&st, 2 * hour - hour / 2, true);
    count_one(&st, 9 * hour, false);
    info = block_acct_histogram(&st, BLOCK_ACCT_READ);
    e = info->bins;
    for (int i = 0; i < 4; i++) {
        const uint64_t bins[] = { 1, 2, 0, 1 };

        g_assert_cmpuint(e->value, ==, bins[i]);
        e = e->next;
    }
    g_assert_null(e);
    g_assert_cmpuint(info->boundaries->next->value, ==, 2 * hour);
    qapi_free_BlockLatencyHistogramInfo(info);
    g_assert_null(block_acct_histogram(&st, BLOCK_ACCT_WRITE));
    g_assert_true(block_acct_set_histogram(&st, BLOCK_ACCT_READ, NULL));
    g_assert_null(block_acct_histogram(&st, BLOCK_ACCT_READ));
    block_acct_cleanup(&st);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/accounting/counts", test_counts);
    g_test_add_func("/accounting/histogram", test_histogram);
    g_test_add_func("/accounting/idle", test_idle);
    g_test_add_func("/accounting/threads", test_threads);
    return g_test_run();
}
