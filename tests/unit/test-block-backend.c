/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BlockBackends: their edge and permissions, the forms of requests, and what
 * happens to requests when the node goes or changes.
 */
#include "util/osdep.h"
#include "ram-driver.h"
#include "qobject/qdict.h"
#include "util/aio.h"
#include "util/iothread.h"
#include "util/iov.h"

#define LEN (1 << 20)
#define RW BDRV_O_RDWR

static const RamConfig config = { .length = LEN };

static void test_without_node(void)
{
    BlockBackend *blk = blk_new(RAM_PERM, BLK_PERM_ALL);
    uint8_t buf[1];
    Error *err = NULL;

    g_assert_null(blk_bs(blk));
    g_assert_null(blk_root(blk));
    g_assert_false(blk_is_available(blk));
    g_assert_cmpint(blk_pread(blk, 0, 1, buf, 0), ==, -ENOMEDIUM);
    g_assert_cmpint(blk_pwrite(blk, 0, 1, buf, 0), ==, -ENOMEDIUM);
    g_assert_cmpint(blk_flush(blk), ==, -ENOMEDIUM);
    g_assert_cmpint(blk_getlength(blk), ==, -ENOMEDIUM);
    g_assert_cmpint(blk_truncate(blk, 0, false, PREALLOC_MODE_OFF, 0, &err),
                    ==, -ENOMEDIUM);
    error_free_or_abort(&err);
    g_assert_cmpuint(blk_get_request_alignment(blk), ==, 512);
    g_assert_cmpint(blk_get_max_iov(blk), ==, IOV_MAX);
    blk_drain(blk);
    blk_unref(blk);
}

static void test_insert_and_remove(void)
{
    BlockDriverState *bs = ram_node("node", RW, &config);
    BlockBackend *blk = blk_new(RAM_PERM, BLK_PERM_ALL);
    uint8_t buf[1] = { 5 };

    g_assert_true(blk_insert_bs(blk, bs, &error_abort));
    g_assert_true(blk_bs(blk) == bs);
    g_assert_true(blk_is_available(blk));
    g_assert_true(blk_is_writable(blk));
    g_assert_cmphex(blk_root(blk)->perm, ==, RAM_PERM);
    g_assert_cmpint(blk_pwrite(blk, 0, 1, buf, 0), ==, 0);
    blk_remove_bs(blk);
    g_assert_null(blk_bs(blk));
    g_assert_true(QLIST_EMPTY(&bs->parents));
    g_assert_cmpint(blk_pread(blk, 0, 1, buf, 0), ==, -ENOMEDIUM);
    g_assert_true(blk_insert_bs(blk, bs, &error_abort));
    /* The edge keeps the node. */
    bdrv_unref(bs);
    g_assert_cmpint(blk_pread(blk, 0, 1, buf, 0), ==, 0);
    g_assert_cmpint(buf[0], ==, 5);
    blk_unref(blk);
    g_assert_null(bdrv_find_node("node"));
}

static void test_permissions(void)
{
    BlockDriverState *bs = ram_node("node", RW, &config);
    BlockBackend *a = ram_backend(bs), *b, *none;
    uint64_t perm, shared;
    Error *err = NULL;

    blk_set_name(a, "disk0");
    g_assert_cmpstr(blk_name(a), ==, "disk0");
    /* Who does not share writing cannot come in, */
    none = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ,
                           BLK_PERM_ALL & ~BLK_PERM_WRITE, &err);
    g_assert_null(none);
    g_assert_nonnull(strstr(error_get_pretty(err), "block device 'disk0'"));
    g_assert_nonnull(strstr(error_get_pretty(err),
                            "an unnamed block device"));
    error_free_or_abort(&err);
    /* nor change to that, and then keeps what it had. */
    b = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                        &error_abort);
    g_assert_false(blk_set_perm(b, BLK_PERM_CONSISTENT_READ,
                                BLK_PERM_ALL & ~BLK_PERM_WRITE, &err));
    error_free_or_abort(&err);
    blk_get_perm(b, &perm, &shared);
    g_assert_cmphex(perm, ==, BLK_PERM_CONSISTENT_READ);
    g_assert_cmphex(shared, ==, BLK_PERM_ALL);
    g_assert_true(blk_set_perm(a, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                               &error_abort));
    g_assert_false(blk_is_writable(a));
    g_assert_true(blk_set_perm(b, BLK_PERM_CONSISTENT_READ,
                               BLK_PERM_ALL & ~BLK_PERM_WRITE, &error_abort));
    /* Without a node they are only noted. */
    blk_remove_bs(a);
    g_assert_true(blk_set_perm(a, BLK_PERM_WRITE, BLK_PERM_ALL,
                               &error_abort));
    g_assert_false(blk_insert_bs(a, bs, &err));
    error_free_or_abort(&err);
    blk_unref(b);
    g_assert_true(blk_insert_bs(a, bs, &error_abort));
    blk_unref(a);
    bdrv_unref(bs);
}

/* What blk_new_open() asks for, by flags. */
static void test_open_permissions(void)
{
    static const struct {
        int flags;
        uint64_t perm;
    } table[] = {
        { 0, BLK_PERM_CONSISTENT_READ },
        { BDRV_O_RDWR, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE },
        { BDRV_O_NO_IO, 0 },
        { BDRV_O_RDWR | BDRV_O_NO_IO, 0 },
    };

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        QDict *options = qdict_new();
        BlockBackend *blk;
        uint64_t perm, shared;

        qdict_put_str(options, "driver", "null-co");
        blk = blk_new_open(NULL, NULL, options, table[i].flags, &error_abort);
        blk_get_perm(blk, &perm, &shared);
        g_assert_cmphex(perm, ==, table[i].perm);
        g_assert_cmphex(shared, ==, BLK_PERM_ALL);
        g_assert_cmphex(blk_root(blk)->perm, ==, perm);
        blk_unref(blk);
    }
}

static void test_open_error(void)
{
    Error *err = NULL;

    g_assert_null(blk_new_open(NULL, "nobody", NULL, 0, &err));
    g_assert_nonnull(err);
    error_free(err);
    g_assert_null(blk_next(NULL));
}

static void test_replace_and_claim(void)
{
    BlockDriverState *a = ram_node("a", RW, &config);
    BlockDriverState *b = ram_node("b", RW, &config);
    BlockBackend *blk = ram_backend(a);
    BdrvClaimOwner *owner = bdrv_claim_owner_new("test job");
    uint8_t buf[1] = { 9 };
    Error *err = NULL;

    g_assert_true(bdrv_claim(owner, blk_root(blk), BDRV_CLAIM_FREEZE,
                             &error_abort));
    g_assert_false(blk_replace_bs(blk, b, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "test job"));
    error_free_or_abort(&err);
    g_assert_true(blk_bs(blk) == a);
    bdrv_claim_release(owner, blk_root(blk), BDRV_CLAIM_FREEZE);
    g_assert_true(blk_replace_bs(blk, b, &error_abort));
    g_assert_true(blk_bs(blk) == b);
    g_assert_cmpint(blk_pwrite(blk, 0, 1, buf, 0), ==, 0);
    g_assert_cmpint(ram_state(b)->data[0], ==, 9);
    g_assert_cmpint(ram_state(a)->data[0], ==, 0);
    /* A claim does not keep the backend from going away. */
    g_assert_true(bdrv_claim(owner, blk_root(blk), BDRV_CLAIM_FREEZE,
                             &error_abort));
    blk_unref(blk);
    g_assert_cmpuint(bdrv_claim_owner_count(owner), ==, 0);
    bdrv_claim_owner_free(owner);
    bdrv_unref(b);
    bdrv_unref(a);
}

/* A request that queues at a drain is served by the node that is there then. */
static void test_replace_while_queued(void)
{
    BlockDriverState *a = ram_node("a", RW, &config);
    BlockDriverState *b = ram_node("b", RW, &config);
    BlockBackend *blk = ram_backend(a);
    uint8_t byte;
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, &byte, 1);
    RamAio aio = { 0 }, gone = { 0 };

    ram_state(b)->data[0] = 0xbb;
    bdrv_drained_begin(a);
    blk_aio_preadv(blk, 0, &qiov, 0, ram_aio_cb, &aio);
    g_assert_true(blk_replace_bs(blk, b, &error_abort));
    g_assert_cmpint(ram_aio_wait(&aio), ==, 0);
    g_assert_cmphex(byte, ==, 0xbb);
    g_assert_cmpuint(ram_state(a)->reads, ==, 0);
    bdrv_drained_end(a);

    bdrv_drained_begin(b);
    blk_aio_preadv(blk, 0, &qiov, 0, ram_aio_cb, &gone);
    blk_remove_bs(blk);
    g_assert_cmpint(ram_aio_wait(&gone), ==, -ENOMEDIUM);
    bdrv_drained_end(b);
    blk_unref(blk);
    bdrv_unref(b);
    bdrv_unref(a);
}

/* --- callbacks --- */

static void test_aio(void)
{
    BlockDriverState *bs = ram_node("node", RW | BDRV_O_UNMAP, &config);
    BlockBackend *blk = ram_backend(bs);
    uint8_t out[512], in[512];
    QEMUIOVector qout = QEMU_IOVEC_INIT_BUF(qout, out, 512);
    QEMUIOVector qin = QEMU_IOVEC_INIT_BUF(qin, in, 512);
    RamAio aio[6] = { 0 };

    memset(out, 0x77, sizeof(out));
    blk_aio_pwritev(blk, 512, &qout, 0, ram_aio_cb, &aio[0]);
    /* Not even a request that is done, or refused, at once. */
    g_assert_false(aio[0].done);
    blk_aio_preadv(blk, LEN, &qin, 0, ram_aio_cb, &aio[1]);
    g_assert_false(aio[1].done);
    g_assert_cmpint(ram_aio_wait(&aio[0]), ==, 0);
    g_assert_cmpint(ram_aio_wait(&aio[1]), ==, -EIO);
    blk_aio_preadv(blk, 512, &qin, 0, ram_aio_cb, &aio[2]);
    g_assert_cmpint(ram_aio_wait(&aio[2]), ==, 0);
    g_assert_cmpmem(in, 512, out, 512);
    blk_aio_pwrite_zeroes(blk, 512, 256, 0, ram_aio_cb, &aio[3]);
    blk_aio_flush(blk, ram_aio_cb, &aio[4]);
    blk_aio_pdiscard(blk, 0, 512, ram_aio_cb, &aio[5]);
    for (int i = 3; i < 6; i++) {
        g_assert_cmpint(ram_aio_wait(&aio[i]), ==, 0);
    }
    g_assert_cmphex(ram_state(bs)->data[767], ==, 0);
    g_assert_cmphex(ram_state(bs)->data[768], ==, 0x77);
    g_assert_cmpuint(ram_state(bs)->discards, ==, 1);
    blk_unref(blk);
    bdrv_unref(bs);
}

typedef struct Chain {
    BlockBackend *blk;
    QEMUIOVector *qiov;
    int left;
    AioContext *ctx;
} Chain;

static void chain_cb(void *opaque, int ret)
{
    Chain *c = opaque;

    g_assert_cmpint(ret, ==, 0);
    g_assert_true(qemu_get_current_aio_context() == c->ctx);
    if (qatomic_fetch_dec(&c->left) > 1) {
        blk_aio_preadv(c->blk, 0, c->qiov, 0, chain_cb, c);
    } else {
        aio_wait_kick();
    }
}

static void chain_start(void *opaque)
{
    Chain *c = opaque;

    blk_aio_preadv(c->blk, 0, c->qiov, 0, chain_cb, c);
}

/* The callback runs in the thread of the call, and may issue the next one. */
static void test_aio_thread(void)
{
    BlockDriverState *bs = ram_node("node", RW, &config);
    BlockBackend *blk = ram_backend(bs);
    IOThread *thread = iothread_new("aio", &error_abort);
    uint8_t byte;
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, &byte, 1);
    Chain c = { blk, &qiov, 1000, iothread_get_aio_context(thread) };

    aio_bh_schedule_oneshot(c.ctx, chain_start, &c);
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&c.left) > 0);
    g_assert_cmpuint(ram_state(bs)->reads, ==, 1000);
    blk_unref(blk);
    iothread_free(thread);
    bdrv_unref(bs);
}

/* --- statistics --- */

static void test_statistics(void)
{
    BlockDriverState *bs = ram_node("node", RW | BDRV_O_UNMAP, &config);
    BlockBackend *blk = ram_backend(bs);
    BlockAcctStats *st = blk_get_stats(blk);
    uint8_t buf[4096] = { 0 };

    g_assert_cmpint(blk_pread(blk, 0, 4096, buf, 0), ==, 0);
    g_assert_cmpint(blk_pread(blk, 0, 512, buf, 0), ==, 0);
    g_assert_cmpint(blk_pwrite(blk, 0, 100, buf, 0), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 28, 0), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(blk_pdiscard(blk, 0, 65536), ==, 0);
    g_assert_cmpint(blk_pread(blk, LEN, 1, buf, 0), ==, -EIO);
    ram_fail(bs, RAM_WRITE, -ENOSPC);
    g_assert_cmpint(blk_pwrite(blk, 0, 100, buf, 0), ==, -ENOSPC);
    g_assert_cmpuint(st->nr_ops[BLOCK_ACCT_READ], ==, 2);
    g_assert_cmpuint(st->nr_bytes[BLOCK_ACCT_READ], ==, 4608);
    g_assert_cmpuint(st->nr_ops[BLOCK_ACCT_WRITE], ==, 2);
    g_assert_cmpuint(st->nr_bytes[BLOCK_ACCT_WRITE], ==, 128);
    g_assert_cmpuint(st->nr_ops[BLOCK_ACCT_FLUSH], ==, 1);
    g_assert_cmpuint(st->nr_bytes[BLOCK_ACCT_UNMAP], ==, 65536);
    g_assert_cmpuint(st->invalid_ops[BLOCK_ACCT_READ], ==, 1);
    g_assert_cmpuint(st->failed_ops[BLOCK_ACCT_WRITE], ==, 1);
    g_assert_cmpuint(st->failed_ops[BLOCK_ACCT_READ], ==, 0);
    g_assert_cmpuint(st->total_time_ns[BLOCK_ACCT_READ], >, 0);
    blk_unref(blk);
    bdrv_unref(bs);
}

static void test_limits(void)
{
    RamConfig cfg = { .length = LEN, .bl.request_alignment = 4096,
                      .bl.max_transfer = 10000, .bl.max_iov = 7,
                      .bl.min_mem_alignment = 8192 };
    BlockDriverState *bs = ram_node("node", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    void *p;

    g_assert_cmpuint(blk_get_request_alignment(blk), ==, 4096);
    g_assert_cmpuint(blk_get_max_transfer(blk), ==, 8192);
    g_assert_cmpint(blk_get_max_iov(blk), ==, 7);
    g_assert_cmpuint(bdrv_min_mem_align(bs), ==, 8192);
    bs->bl.opt_mem_alignment = 16384;
    p = blk_blockalign(blk, 100);
    g_assert_cmpuint((uintptr_t)p % 16384, ==, 0);
    qemu_vfree(p);
    blk_unref(blk);
    bdrv_unref(bs);
}

static void test_list(void)
{
    BlockBackend *a = blk_new(0, BLK_PERM_ALL), *b = blk_new(0, BLK_PERM_ALL);

    g_assert_true(blk_next(NULL) == a);
    g_assert_true(blk_next(a) == b);
    g_assert_null(blk_next(b));
    blk_ref(a);
    blk_unref(a);
    g_assert_true(blk_next(NULL) == a);
    blk_unref(a);
    g_assert_true(blk_next(NULL) == b);
    blk_unref(b);
    g_assert_null(blk_next(NULL));
}

int main(int argc, char **argv)
{
    ram_test_init(&argc, &argv);
    g_test_add_func("/block-backend/without-node", test_without_node);
    g_test_add_func("/block-backend/insert-and-remove",
                    test_insert_and_remove);
    g_test_add_func("/block-backend/permissions", test_permissions);
    g_test_add_func("/block-backend/open-permissions", test_open_permissions);
    g_test_add_func("/block-backend/open-error", test_open_error);
    g_test_add_func("/block-backend/replace-and-claim",
                    test_replace_and_claim);
    g_test_add_func("/block-backend/replace-while-queued",
                    test_replace_while_queued);
    g_test_add_func("/block-backend/aio", test_aio);
    g_test_add_func("/block-backend/aio-thread", test_aio_thread);
    g_test_add_func("/block-backend/statistics", test_statistics);
    g_test_add_func("/block-backend/limits", test_limits);
    g_test_add_func("/block-backend/list", test_list);
    return g_test_run();
}
