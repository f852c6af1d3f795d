/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block status of nodes and chains. Pictures show clusters of 4k: D data,
 * . unallocated, Z a hole of a protocol node.
 */
#include "util/osdep.h"
#include "ram-driver.h"

#define K 4096
#define DATA BDRV_BLOCK_DATA
#define ZERO BDRV_BLOCK_ZERO
#define ALLOC BDRV_BLOCK_ALLOCATED
#define VALID BDRV_BLOCK_OFFSET_VALID
#define AT_EOF BDRV_BLOCK_EOF

/* Marks the clusters of @map as stored. */
static BlockDriverState *layer(const char *name, const char *map,
                               BlockDriverState *backing)
{
    RamConfig cfg = { .length = strlen(map) * K, .cluster = K };
    BlockDriverState *bs = ram_overlay(name, 0, &cfg, backing);

    for (int i = 0; map[i]; i++) {
        ram_state(bs)->allocated[i] = map[i] == 'D';
    }
    return bs;
}

static BlockDriverState *protocol(const char *name, const char *map)
{
    RamConfig cfg = { .length = strlen(map) * K, .cluster = K };
    BlockDriverState *bs = ram_node(name, 0, &cfg);

    for (int i = 0; map[i]; i++) {
        ram_state(bs)->allocated[i] = map[i] == 'D';
    }
    return bs;
}

static void check_above(BlockDriverState *bs, BlockDriverState *base,
                        int64_t offset, int64_t bytes, int flags,
                        int64_t pnum, int depth)
{
    int64_t got_pnum = -1;
    int got_depth = -1;
    int ret = bdrv_block_status_above(bs, base, offset, bytes, &got_pnum, NULL,
                                      NULL, &got_depth);

    g_assert_cmphex(ret & ~VALID, ==, flags);
    g_assert_cmpint(got_pnum, ==, pnum);
    g_assert_cmpint(got_depth, ==, depth);
}

/*
 *   top   D . . . .
 *   mid   D D . .          (short)
 *   base  D D D . D D
 */
static void test_chain(void)
{
    BlockDriverState *base = layer("base", "DDD.DD", NULL);
    BlockDriverState *mid = layer("mid", "DD..", base);
    BlockDriverState *top = layer("top", "D....", mid);
    int64_t pnum;

    check_above(top, NULL, 0, 5 * K, DATA | ALLOC, K, 1);
    check_above(top, NULL, K, 4 * K, DATA | ALLOC, K, 2);
    check_above(top, NULL, 2 * K, 3 * K, DATA | ALLOC, K, 3);
    /* Nobody has it. */
    check_above(top, NULL, 3 * K, 2 * K, ZERO, K, 0);
    /* mid is too short, and hides the data of base. */
    check_above(top, NULL, 4 * K, K, ZERO | ALLOC | AT_EOF, K, 2);
    /* The same without base: the part below is not looked at. */
    check_above(top, base, 2 * K, 2 * K, 0, 2 * K, 0);
    check_above(top, base, 4 * K, K, ZERO | ALLOC | AT_EOF, K, 2);
    check_above(top, mid, K, 4 * K, AT_EOF, 4 * K, 0);
    check_above(top, top, 0, 5 * K, AT_EOF, 5 * K, 0);
    /* Ranges are cut, also inside a cluster, and at the end. */
    check_above(top, NULL, 100, 200, DATA | ALLOC, 200, 1);
    check_above(top, NULL, K - 1, 2, DATA | ALLOC, 1, 1);
    check_above(top, NULL, 5 * K, K, AT_EOF, 0, 0);
    check_above(top, NULL, 50 * K, K, AT_EOF, 0, 0);

    g_assert_cmpint(bdrv_is_allocated(top, 0, 5 * K, &pnum), ==, 1);
    g_assert_cmpint(pnum, ==, K);
    g_assert_cmpint(bdrv_is_allocated(top, K, 4 * K, &pnum), ==, 0);
    g_assert_cmpint(pnum, ==, 4 * K);
    bdrv_unref(top);
    bdrv_unref(mid);
    bdrv_unref(base);
}

/* Filters are no layers: they change neither depth nor where a base ends. */
static void test_filters(void)
{
    BlockDriverState *base = layer("base", "DD..", NULL);
    BlockDriverState *f1 = ram_filter("f1", 0, base);
    BlockDriverState *f2 = ram_filter("f2", 0, f1);
    BlockDriverState *top = layer("top", "D...", f2);
    BlockDriverState *f3 = ram_filter("f3", 0, top);
    int64_t pnum, map = -1;
    BlockDriverState *file = NULL;

    check_above(f3, NULL, 0, 4 * K, DATA | ALLOC, K, 1);
    check_above(f3, NULL, K, 3 * K, DATA | ALLOC, K, 2);
    check_above(f3, NULL, 2 * K, 2 * K, ZERO | AT_EOF, 2 * K, 0);
    /* Whatever of base and its filters is named as the end, base is not in. */
    check_above(f3, base, K, 3 * K, AT_EOF, 3 * K, 0);
    check_above(f3, f1, K, 3 * K, AT_EOF, 3 * K, 0);
    check_above(f3, f2, K, 3 * K, AT_EOF, 3 * K, 0);
    check_above(f3, top, 0, 4 * K, AT_EOF, 4 * K, 0);
    /* Of a filter itself: what is below it. */
    g_assert_cmphex(bdrv_block_status(f3, 0, 4 * K, &pnum, &map, &file), ==,
                    DATA | ALLOC | VALID);
    g_assert_true(file == top && map == 0 && pnum == K);
    g_assert_cmpint(bdrv_is_allocated(f3, K, K, &pnum), ==, 0);
    bdrv_unref(f3);
    bdrv_unref(top);
    bdrv_unref(f2);
    bdrv_unref(f1);
    bdrv_unref(base);
}

/* With the base included it counts as the last layer. */
typedef struct Include {
    BlockDriverState *top, *base;
    int64_t offset;
    int64_t pnum;
} Include;

static int coroutine_fn include_entry(void *opaque)
{
    Include *i = opaque;

    return bdrv_co_is_allocated_above(i->top, i->base, true, i->offset, K,
                                      &i->pnum);
}

static void test_include_base(void)
{
    BlockDriverState *bottom = layer("bottom", "DDD", NULL);
    BlockDriverState *base = layer("base", "DD.", bottom);
    BlockDriverState *filter = ram_filter("filter", 0, base);
    BlockDriverState *top = layer("top", "D..", filter);
    Include i = { top, base, 0, 0 };

    g_assert_cmpint(bdrv_run_co(include_entry, &i), ==, 1);
    i.offset = K;
    g_assert_cmpint(bdrv_run_co(include_entry, &i), ==, 2);
    i.offset = 2 * K;
    g_assert_cmpint(bdrv_run_co(include_entry, &i), ==, 0);
    i.base = filter;
    i.offset = K;
    g_assert_cmpint(bdrv_run_co(include_entry, &i), ==, 2);
    i.base = bottom;
    i.offset = 2 * K;
    g_assert_cmpint(bdrv_run_co(include_entry, &i), ==, 3);
    bdrv_unref(top);
    bdrv_unref(filter);
    bdrv_unref(base);
    bdrv_unref(bottom);
}

/* --- nodes that refer to others --- */

/* Shows its file from 2 clusters on, and a cluster more than it has. */
#define WINDOW_OFFSET (2 * K)

static int64_t coroutine_fn window_getlength(BlockDriverState *bs)
{
    return bs->file ? bdrv_co_getlength(bs->file->bs) - WINDOW_OFFSET + K : 0;
}

static int coroutine_fn window_status(BlockDriverState *bs, bool want_zero,
                                      int64_t offset, int64_t bytes,
                                      int64_t *pnum, int64_t *map,
                                      BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset + WINDOW_OFFSET;
    *file = bs->file->bs;
    return BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
}

static BlockDriver window_driver = {
    .format_name = "raw",
    .is_format = true,
    .bdrv_co_getlength = window_getlength,
    .bdrv_co_block_status = window_status,
};

/* Says it stores everything in its file one to one; the file may know more. */
static int64_t coroutine_fn box_getlength(BlockDriverState *bs)
{
    return 6 * K;
}

static int coroutine_fn box_status(BlockDriverState *bs, bool want_zero,
                                   int64_t offset, int64_t bytes,
                                   int64_t *pnum, int64_t *map,
                                   BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset;
    *file = bs->file->bs;
    return BDRV_BLOCK_DATA | BDRV_BLOCK_RECURSE | BDRV_BLOCK_OFFSET_VALID;
}

static BlockDriver box_driver = {
    .format_name = "qcow2",
    .is_format = true,
    .bdrv_co_getlength = box_getlength,
    .bdrv_co_block_status = box_status,
};

static int coroutine_fn refresh_entry(void *opaque)
{
    return bdrv_co_refresh_total_bytes(opaque);
}

static BlockDriverState *on_file(BlockDriver *drv, const char *name,
                                 BlockDriverState *file)
{
    BlockDriverState *bs = bdrv_new_open_driver(drv, name, 0, &error_abort);

    bdrv_attach_child(bs, bdrv_ref(file), "file", BDRV_CHILD_IMAGE,
                      &error_abort);
    g_assert_cmpint(bdrv_run_co(refresh_entry, bs), ==, 0);
    return bs;
}

static void check(BlockDriverState *bs, int64_t offset, int64_t bytes,
                  int flags, int64_t pnum, BlockDriverState *file, int64_t map)
{
    int64_t got_pnum = -1, got_map = -1;
    BlockDriverState *got_file = NULL;
    int ret = bdrv_block_status(bs, offset, bytes, &got_pnum, &got_map,
                                &got_file);

    g_assert_cmphex(ret, ==, flags);
    g_assert_cmpint(got_pnum, ==, pnum);
    if (flags & VALID) {
        g_assert_true(got_file == file);
        g_assert_cmpint(got_map, ==, map);
    }
}

/* RAW is followed, through several nodes, with the offset of each. */
static void test_raw(void)
{
    BlockDriverState *file = protocol("file", "DDDDZZDZ");
    BlockDriverState *one = on_file(&window_driver, "one", file);
    BlockDriverState *two = on_file(&window_driver, "two", one);

    g_assert_cmpint(bdrv_getlength(one), ==, 7 * K);
    check(one, 0, 7 * K, DATA | ALLOC | VALID, 2 * K, file, 2 * K);
    check(one, 2 * K, 5 * K, ZERO | ALLOC | VALID, 2 * K, file, 4 * K);
    /* The hole at the end of the file, and what is beyond it. */
    check(one, 5 * K, 2 * K, ZERO | ALLOC | VALID | AT_EOF, 2 * K, file,
          7 * K);
    /* Beyond what the file has. */
    check(one, 6 * K, K, ZERO | ALLOC | AT_EOF, K, NULL, 0);
    check(two, 0, 6 * K, ZERO | ALLOC | VALID, 2 * K, file, 4 * K);
    check(two, 2 * K, K, DATA | ALLOC | VALID, K, file, 6 * K);
    check(two, 5 * K, K, ZERO | ALLOC | AT_EOF, K, NULL, 0);
    bdrv_unref(two);
    bdrv_unref(one);
    bdrv_unref(file);
}

/* The rest of the last sector has a place in the file. */
static void test_raw_last_sector(void)
{
    RamConfig cfg = { .length = 3 * K + 1000, .cluster = K };
    BlockDriverState *file = ram_node("file", 0, &cfg);
    BlockDriverState *raw = on_file(&window_driver, "raw", file);

    ram_state(file)->allocated[3] = 1;
    check(raw, K, K, DATA | ALLOC | VALID, 1000, file, 3 * K);
    check(file, 3 * K, K, DATA | ALLOC | VALID, 1000, file, 3 * K);
    check(file, 3 * K + 1000, K, ZERO | ALLOC | VALID | AT_EOF, 24, file,
          3 * K + 1000);
    check(raw, K + 1000, 24, ZERO | ALLOC | VALID, 24, file, 3 * K + 1000);
    check(raw, K + 1024, K, ZERO | ALLOC | AT_EOF, K, NULL, 0);
    ram_state(file)->allocated[3] = 0;
    check(raw, K, K + 1024, ZERO | ALLOC | VALID | AT_EOF, K + 1024, file,
          3 * K);
    bdrv_unref(raw);
    bdrv_unref(file);
}

/* RECURSE finds the holes of the file, and of the file's file. */
static void test_recurse(void)
{
    BlockDriverState *file = protocol("file", "DDZZD");
    BlockDriverState *box = on_file(&box_driver, "box", file);
    BlockDriverState *outer = on_file(&box_driver, "outer", box);
    int flags = DATA | ALLOC | VALID | BDRV_BLOCK_RECURSE;

    check(box, 0, 6 * K, flags, 2 * K, file, 0);
    check(box, 2 * K, 4 * K, flags | ZERO, 2 * K, file, 2 * K);
    check(box, 4 * K, 2 * K, flags, K, file, 4 * K);
    /* The file ends before the box. */
    check(box, 5 * K, K, flags | ZERO | AT_EOF, K, file, 5 * K);
    check(outer, 0, 6 * K, flags, 2 * K, box, 0);
    check(outer, 2 * K, 4 * K, flags | ZERO, 2 * K, box, 2 * K);
    /* What the file cannot tell does not spoil the answer. */
    ram_fail(file, RAM_STATUS, -EIO);
    check(box, 0, 6 * K, flags | AT_EOF, 6 * K, file, 0);
    bdrv_unref(outer);
    bdrv_unref(box);
    bdrv_unref(file);
}

/* An alignment above the cluster and above the range that is asked for. */
static void test_alignment(void)
{
    RamConfig cfg = { .length = 8 * K + 100, .cluster = K,
                      .bl.request_alignment = K };
    BlockDriverState *bs = ram_node("aligned", 0, &cfg);

    ram_state(bs)->allocated[1] = 1;
    check(bs, 10, 20, ZERO | ALLOC | VALID, 20, bs, 10);
    check(bs, K - 10, 20, ZERO | ALLOC | VALID, 10, bs, K - 10);
    check(bs, K + 10, 3 * K, DATA | ALLOC | VALID, K - 10, bs, K + 10);
    check(bs, 8 * K + 10, K, ZERO | ALLOC | VALID | AT_EOF, 502, bs,
          8 * K + 10);
    check(bs, 8 * K + 110, K, ZERO | ALLOC | VALID | AT_EOF, 402, bs,
          8 * K + 110);
    bdrv_unref(bs);
}

static int coroutine_fn zero_fast_entry(void *opaque)
{
    Include *i = opaque;

    return bdrv_co_is_zero_fast(i->top, i->offset, i->pnum);
}

static void test_zero_fast(void)
{
    BlockDriverState *base = layer("base", "D.", NULL);
    BlockDriverState *top = layer("top", "....", base);
    Include i = { top, NULL, 0, K };

    g_assert_cmpint(bdrv_run_co(zero_fast_entry, &i), ==, 0);
    i.offset = K;
    g_assert_cmpint(bdrv_run_co(zero_fast_entry, &i), ==, 1);
    /* Beyond the backing file. */
    i.offset = 2 * K;
    i.pnum = 2 * K;
    g_assert_cmpint(bdrv_run_co(zero_fast_entry, &i), ==, 1);
    i.offset = 0;
    i.pnum = 0;
    g_assert_cmpint(bdrv_run_co(zero_fast_entry, &i), ==, 1);
    bdrv_unref(top);
    bdrv_unref(base);
}

static void test_error(void)
{
    BlockDriverState *base = layer("base", "DD", NULL);
    BlockDriverState *top = layer("top", "D.", base);
    int64_t pnum = -7;

    ram_fail(base, RAM_STATUS, -EIO);
    g_assert_cmpint(bdrv_block_status_above(top, NULL, K, K, &pnum, NULL, NULL,
                                            NULL), ==, -EIO);
    g_assert_cmpint(bdrv_block_status_above(top, NULL, -1, K, &pnum, NULL,
                                            NULL, NULL), ==, -EIO);
    /* Outputs stay untouched. */
    g_assert_cmpint(pnum, ==, -7);
    bdrv_unref(top);
    bdrv_unref(base);
}

/* A chain of many layers is one loop, not a recursion. */
#define LAYERS 1000

static void test_long_chain(void)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    BlockDriverState *top = layer(NULL, "D.", NULL);

    g_ptr_array_add(nodes, top);
    for (int i = 0; i < LAYERS; i++) {
        top = layer(NULL, "..", top);
        g_ptr_array_add(nodes, top);
    }
    check_above(top, NULL, 0, 2 * K, DATA | ALLOC, K, LAYERS + 1);
    check_above(top, NULL, K, K, ZERO | AT_EOF, K, 0);
    while (nodes->len) {
        bdrv_unref(g_ptr_array_steal_index(nodes, nodes->len - 1));
    }
}

static void test_facts(void)
{
    RamConfig cfg = { .length = 3 * K };
    BlockDriverState *bs = ram_node("node", 0, &cfg);
    BlockDriverState *filter = ram_filter("filter", 0, bs);
    BlockDriverInfo bdi;
    BdrvCheckResult res;

    g_assert_cmpint(bdrv_get_info(filter, &bdi), ==, 0);
    g_assert_cmpint(bdi.cluster_size, ==, 65536);
    g_assert_cmpint(bdrv_getlength(filter), ==, 3 * K);
    g_assert_cmpint(bdrv_get_allocated_file_size(filter), ==, -ENOTSUP);
    g_assert_cmpint(bdrv_check(bs, &res, 0), ==, -ENOTSUP);
    g_assert_cmpint(bdrv_has_zero_init(filter), ==, 0);
    bdrv_unref(filter);
    bdrv_unref(bs);
}

int main(int argc, char **argv)
{
    ram_test_init(&argc, &argv);
    g_test_add_func("/block-status/chain", test_chain);
    g_test_add_func("/block-status/filters", test_filters);
    g_test_add_func("/block-status/include-base", test_include_base);
    g_test_add_func("/block-status/raw", test_raw);
    g_test_add_func("/block-status/raw-last-sector", test_raw_last_sector);
    g_test_add_func("/block-status/recurse", test_recurse);
    g_test_add_func("/block-status/alignment", test_alignment);
    g_test_add_func("/block-status/zero-fast", test_zero_fast);
    g_test_add_func("/block-status/error", test_error);
    g_test_add_func("/block-status/long-chain", test_long_chain);
    g_test_add_func("/block-status/facts", test_facts);
    return g_test_run();
}
