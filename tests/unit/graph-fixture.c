/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "graph-fixture.h"

#define TEST_LEN (1024 * 1024)

static int fixture_check_perm(BlockDriverState *bs, uint64_t perm,
                              uint64_t shared, Error **errp)
{
    TestNode *t = test_node(bs);

    t->check_calls++;
    if (t->fail_check) {
        t->fail_check--;
        error_setg(errp, "injected: cannot take");
        return -EAGAIN;
    }
    t->perm |= perm;
    t->shared &= shared;
    return 0;
}

static int fixture_set_perm(BlockDriverState *bs, uint64_t perm,
                            uint64_t shared, Error **errp)
{
    TestNode *t = test_node(bs);

    /* Only ever less than what was taken. */
    g_assert_cmphex(perm & ~t->perm, ==, 0);
    g_assert_cmphex(t->shared & ~shared, ==, 0);
    t->set_calls++;
    if (t->fail_set) {
        t->fail_set--;
        error_setg(errp, "injected: cannot drop");
        return -EIO;
    }
    t->perm = perm;
    t->shared = shared;
    return 0;
}

static int fixture_reopen_prepare(BDRVReopenState *state,
                                  BlockReopenQueue *queue, Error **errp)
{
    BlockDriverState *bs = state->bs;
    TestNode *t = test_node(bs);
    BdrvChild *c = QTAILQ_FIRST(&bs->children);

    t->prepare_calls++;
    if (c) {
        t->prepare_perm = c->perm;
        t->prepare_shared = c->shared_perm;
    }
    if (t->in_prepare) {
        t->in_prepare(bs);
    }
    if (t->fail_prepare) {
        t->fail_prepare--;
        error_setg(errp, "injected: cannot reopen");
        return -EIO;
    }
    return 0;
}

static void fixture_reopen_commit(BDRVReopenState *state)
{
    test_node(state->bs)->commit_calls++;
}

static void fixture_reopen_abort(BDRVReopenState *state)
{
    test_node(state->bs)->abort_calls++;
}

static int64_t coroutine_fn fixture_getlength(BlockDriverState *bs)
{
    return TEST_LEN;
}

static int coroutine_fn fixture_preadv(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    BdrvChild *c = bdrv_primary_child(bs);

    if (c) {
        return bdrv_co_preadv_part(c, offset, bytes, qiov, qiov_offset, flags);
    }
    qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
    return 0;
}

static int coroutine_fn fixture_pwritev(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes, QEMUIOVector *qiov,
                                        size_t qiov_offset,
                                        BdrvRequestFlags flags)
{
    BdrvChild *c = bdrv_primary_child(bs);

    return c ? bdrv_co_pwritev_part(c, offset, bytes, qiov, qiov_offset, flags)
             : 0;
}

static int fixture_change_backing_file(BlockDriverState *bs,
                                       const char *backing_file,
                                       const char *backing_fmt)
{
    TestNode *t = test_node(bs);

    g_assert_true(bs->open_flags & BDRV_O_RDWR);
    if (t->fail_header) {
        t->fail_header--;
        return -EIO;
    }
    g_strlcpy(t->header, backing_file ? backing_file : "", sizeof(t->header));
    return 0;
}

#define FIXTURE_OPS                                                          \
    .instance_size = sizeof(TestNode),                                       \
    .bdrv_reopen_prepare = fixture_reopen_prepare,                           \
    .bdrv_reopen_commit = fixture_reopen_commit,                             \
    .bdrv_reopen_abort = fixture_reopen_abort,                               \
    .bdrv_co_preadv = fixture_preadv,                                        \
    .bdrv_co_pwritev = fixture_pwritev,                                      \
    .bdrv_co_getlength = fixture_getlength

static BlockDriver leaf_driver = {
    .format_name = "null-co",
    .bdrv_check_perm = fixture_check_perm,
    .bdrv_set_perm = fixture_set_perm,
    FIXTURE_OPS,
};

static BlockDriver filter_driver = {
    .format_name = "raw",
    .is_filter = true,
    FIXTURE_OPS,
};

static BlockDriver overlay_driver = {
    .format_name = "qcow2",
    .is_format = true,
    .supports_backing = true,
    .bdrv_change_backing_file = fixture_change_backing_file,
    FIXTURE_OPS,
};

BlockDriverState *test_leaf(const char *name, int flags)
{
    BlockDriverState *bs = bdrv_new_open_driver(&leaf_driver, name, flags,
                                                &error_abort);

    test_node(bs)->shared = BLK_PERM_ALL;
    return bs;
}

BlockDriver *test_filter_driver(void)
{
    return &filter_driver;
}

BlockDriverState *test_filter(const char *name, BlockDriverState *below,
                              int flags)
{
    BlockDriverState *bs = bdrv_new_open_driver(&filter_driver, name, flags,
                                                &error_abort);

    bdrv_attach_child(bs, bdrv_ref(below), "file",
                      BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, &error_abort);
    return bs;
}

BlockDriverState *test_format(const char *name, BlockDriverState *file,
                              int flags)
{
    BlockDriverState *bs = bdrv_new_open_driver(&overlay_driver, name, flags,
                                                &error_abort);

    bdrv_attach_child(bs, bdrv_ref(file), "file", BDRV_CHILD_IMAGE,
                      &error_abort);
    return bs;
}

BlockDriverState *test_overlay(const char *name, BlockDriverState *backing,
                               int flags)
{
    g_autofree char *file_name = g_strdup_printf("%s-file", name);
    BlockDriverState *file = test_leaf(file_name, flags);
    BlockDriverState *bs = test_format(name, file, flags);

    bdrv_unref(file);
    if (backing) {
        g_assert_true(bdrv_set_backing_hd(bs, backing, NULL, &error_abort));
    }
    return bs;
}

void assert_error(Error *err, const char *text)
{
    g_assert_nonnull(err);
    g_assert_cmpstr(error_get_pretty(err), ==, text);
    error_free(err);
}

static gint compare_lines(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static char *claims_text(BdrvChild *c)
{
    g_autoptr(BlockGraphClaimList) claims = bdrv_claim_query(c);
    GString *s = g_string_new(NULL);

    for (BlockGraphClaimList *l = claims; l; l = l->next) {
        g_string_append_printf(s, " %s:%d:%" PRId64, l->value->owner,
                               l->value->kind, (int64_t)l->value->count);
    }
    return g_string_free(s, false);
}

char *test_graph_dump(void)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    for (BlockDriverState *bs = bdrv_next_node(NULL); bs;
         bs = bdrv_next_node(bs)) {
        BdrvChild *c;

        g_ptr_array_add(lines, g_strdup_printf(
            "%s: flags %x detect %d backing '%s' header '%s'", bs->node_name,
            bs->open_flags, bs->detect_zeroes, bs->backing_file,
            bs->drv == &overlay_driver ? test_node(bs)->header : ""));
        if (bs->drv == &leaf_driver) {
            g_ptr_array_add(lines, g_strdup_printf(
                "%s: lock %" PRIx64 " shared %" PRIx64, bs->node_name,
                test_node(bs)->perm, test_node(bs)->shared));
        }
        QLIST_FOREACH(c, &bs->parents, next_parent) {
            g_autofree char *parent = c->klass->get_parent_desc(c);
            g_autofree char *claims = claims_text(c);
            g_ptr_array_add(lines, g_strdup_printf(
                "%s.%s -> %s perm %" PRIx64 " shared %" PRIx64 "%s", parent,
                c->name, bs->node_name, c->perm, c->shared_perm, claims));
        }
    }
    g_ptr_array_sort(lines, compare_lines);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

void test_graph_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    qemu_init_main_loop(&error_abort);
    bdrv_init();
}
