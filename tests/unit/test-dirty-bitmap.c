/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps: what writes record, states, merging, searching, resizing.
 */
#include "util/osdep.h"
#include "ram-driver.h"
#include "block/dirty-bitmap.h"
#include "util/aio.h"
#include "util/iothread.h"

#define LEN (1 << 20)
#define GRAN 4096
#define RW (BDRV_O_RDWR | BDRV_O_UNMAP)

typedef struct Fixture {
    BlockDriverState *bs;
    BlockBackend *blk;
    BdrvDirtyBitmap *bitmap;
} Fixture;

static void setup(Fixture *f, uint32_t align)
{
    RamConfig cfg = { .length = LEN, .bl.request_alignment = align };

    f->bs = ram_node("node", RW, &cfg);
    f->blk = blk_new_with_bs(f->bs, RAM_PERM | BLK_PERM_RESIZE, BLK_PERM_ALL,
                             &error_abort);
    f->bitmap = bdrv_create_dirty_bitmap(f->bs, GRAN, "bitmap", &error_abort);
}

static void teardown(Fixture *f)
{
    blk_unref(f->blk);
    bdrv_release_named_dirty_bitmaps(f->bs);
    g_assert_null(bdrv_dirty_bitmap_first(f->bs));
    bdrv_unref(f->bs);
}

/* Every kind of write records, aligned or not; reads do not. */
static void test_record(void)
{
    Fixture f;
    uint8_t buf[8192] = { 1 };

    setup(&f, 512);
    g_assert_cmpint(blk_pread(f.blk, 0, 8192, buf, 0), ==, 0);
    g_assert_cmpint(bdrv_get_dirty_count(f.bitmap), ==, 0);
    g_assert_cmpint(blk_pwrite(f.blk, 4095, 2, buf, 0), ==, 0);
    g_assert_cmpint(bdrv_get_dirty_count(f.bitmap), ==, 2 * GRAN);
    g_assert_true(bdrv_dirty_bitmap_get(f.bitmap, 0));
    g_assert_true(bdrv_dirty_bitmap_get(f.bitmap, 8191));
    g_assert_false(bdrv_dirty_bitmap_get(f.bitmap, 8192));
    g_assert_cmpint(blk_pwrite_zeroes(f.blk, 100000, 1, 0), ==, 0);
    g_assert_true(bdrv_dirty_bitmap_get(f.bitmap, 100000));
    g_assert_cmpint(blk_pdiscard(f.blk, 200 * 1024, 512), ==, 0);
    g_assert_true(bdrv_dirty_bitmap_get(f.bitmap, 200 * 1024));
    g_assert_cmpint(bdrv_get_dirty_count(f.bitmap), ==, 4 * GRAN);
    /* A write that fails may have changed something. */
    ram_fail(f.bs, RAM_WRITE, -EIO);
    g_assert_cmpint(blk_pwrite(f.blk, 500000, 512, buf, 0), ==, -EIO);
    g_assert_true(bdrv_dirty_bitmap_get(f.bitmap, 500000));
    /* One that is refused has not. */
    g_assert_cmpint(blk_pwrite(f.blk, LEN, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_get_dirty_count(f.bitmap), ==, 5 * GRAN);
    /* Disabled, it rests. */
    bdrv_disable_dirty_bitmap(f.bitmap);
    g_assert_cmpint(blk_pwrite(f.blk, 600000, 512, buf, 0), ==, 0);
    g_assert_false(bdrv_dirty_bitmap_get(f.bitmap, 600000));
    bdrv_enable_dirty_bitmap(f.bitmap);
    g_assert_cmpint(blk_pwrite(f.blk, 600000, 512, buf, 0), ==, 0);
    g_assert_true(bdrv_dirty_bitmap_get(f.bitmap, 600000));
    teardown(&f);
}

/* Writes that leave the content as it is record nothing. */
static void test_unchanged(void)
{
    RamConfig cfg = { .length = LEN, .cluster = 4096 };
    BlockDriverState *base = ram_node("base", 0, &cfg);
    BlockDriverState *top = ram_overlay("top", RW, &cfg, base);
    BlockBackend *blk = ram_backend(top);
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(top, 4096, NULL,
                                                       &error_abort);
    uint8_t buf[1];

    g_assert_cmpint(blk_pread(blk, 0, 1, buf, BDRV_REQ_COPY_ON_READ), ==, 0);
    g_assert_true(ram_state(top)->allocated[0]);
    g_assert_cmpint(bdrv_get_dirty_count(bitmap), ==, 0);
    bdrv_release_dirty_bitmap(bitmap);
    blk_unref(blk);
    bdrv_unref(top);
    bdrv_unref(base);
}

static void test_names(void)
{
    Fixture f;
    g_autofree char *longest = g_strnfill(BDRV_BITMAP_MAX_NAME_SIZE, 'x');
    g_autofree char *longer = g_strnfill(BDRV_BITMAP_MAX_NAME_SIZE + 1, 'y');
    BdrvDirtyBitmap *anon;
    Error *err = NULL;

    setup(&f, 1);
    g_assert_true(bdrv_find_dirty_bitmap(f.bs, "bitmap") == f.bitmap);
    g_assert_null(bdrv_find_dirty_bitmap(f.bs, "other"));
    g_assert_null(bdrv_create_dirty_bitmap(f.bs, GRAN, "bitmap", &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Bitmap already exists: bitmap");
    error_free_or_abort(&err);
    g_assert_null(bdrv_create_dirty_bitmap(f.bs, GRAN, longer, &err));
    error_free_or_abort(&err);
    g_assert_nonnull(bdrv_create_dirty_bitmap(f.bs, 512, longest,
                                              &error_abort));
    anon = bdrv_create_dirty_bitmap(f.bs, 1u << 31, NULL, &error_abort);
    g_assert_null(bdrv_dirty_bitmap_name(anon));
    g_assert_cmpuint(bdrv_dirty_bitmap_granularity(anon), ==, 1u << 31);
    g_assert_cmpint(bdrv_dirty_bitmap_size(anon), ==, LEN);
    g_assert_true(bdrv_dirty_bitmap_bs(anon) == f.bs);
    bdrv_release_named_dirty_bitmaps(f.bs);
    g_assert_true(bdrv_dirty_bitmap_first(f.bs) == anon);
    g_assert_null(bdrv_dirty_bitmap_next(anon));
    bdrv_release_dirty_bitmap(anon);
    teardown(&f);
}

static void check_refused(BdrvDirtyBitmap *bitmap, uint32_t flags,
                          const char *text)
{
    Error *err = NULL;

    g_assert_false(bdrv_dirty_bitmap_check(bitmap, flags, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, text);
    error_free(err);
}

static void test_states(void)
{
    Fixture f;
    uint8_t buf[1] = { 1 };
    BlockDirtyInfoList *list;

    setup(&f, 1);
    g_assert_true(bdrv_dirty_bitmap_check(f.bitmap, BDRV_BITMAP_DEFAULT,
                                          &error_abort));
    bdrv_dirty_bitmap_set_busy(f.bitmap, true);
    check_refused(f.bitmap, BDRV_BITMAP_DEFAULT,
                  "Bitmap 'bitmap' is currently in use by another operation "
                  "and cannot be used");
    g_assert_true(bdrv_dirty_bitmap_check(f.bitmap, BDRV_BITMAP_RO,
                                          &error_abort));
    bdrv_dirty_bitmap_set_busy(f.bitmap, false);
    bdrv_dirty_bitmap_set_readonly(f.bitmap, true);
    check_refused(f.bitmap, BDRV_BITMAP_DEFAULT,
                  "Bitmap 'bitmap' is readonly and cannot be modified");
    g_assert_true(bdrv_dirty_bitmap_check(f.bitmap, BDRV_BITMAP_ALLOW_RO,
                                          &error_abort));
    bdrv_dirty_bitmap_set_readonly(f.bitmap, false);
    bdrv_dirty_bitmap_set_persistence(f.bitmap, true);
    bdrv_dirty_bitmap_set_inconsistent(f.bitmap);
    check_refused(f.bitmap, BDRV_BITMAP_ALLOW_RO,
                  "Bitmap 'bitmap' is inconsistent and cannot be used");
    g_assert_false(bdrv_dirty_bitmap_enabled(f.bitmap));
    g_assert_cmpint(blk_pwrite(f.blk, 0, 1, buf, 0), ==, 0);
    g_assert_cmpint(bdrv_get_dirty_count(f.bitmap), ==, 0);

    list = bdrv_query_dirty_bitmaps(f.bs);
    g_assert_nonnull(list);
    g_assert_null(list->next);
    g_assert_cmpstr(list->value->name, ==, "bitmap");
    g_assert_true(list->value->persistent && list->value->has_inconsistent &&
                  list->value->inconsistent);
    g_assert_false(list->value->recording || list->value->busy);
    g_assert_cmpuint(list->value->granularity, ==, GRAN);
    qapi_free_BlockDirtyInfoList(list);
    teardown(&f);
}

static void test_clear_restore_merge(void)
{
    Fixture f;
    BdrvDirtyBitmap *coarse, *shorter;
    RamConfig cfg = { .length = LEN / 2 };
    BlockDriverState *other = ram_node("other", RW, &cfg);
    HBitmap *backup = NULL;
    Error *err = NULL;

    setup(&f, 1);
    coarse = bdrv_create_dirty_bitmap(f.bs, 65536, "coarse", &error_abort);
    shorter = bdrv_create_dirty_bitmap(other, GRAN, "shorter", &error_abort);
    bdrv_set_dirty_bitmap(f.bitmap, 0, 1);
    bdrv_set_dirty_bitmap(f.bitmap, 65535, 2);
    g_assert_cmpint(bdrv_get_dirty_count(f.bitmap), ==, 3 * GRAN);
    bdrv_reset_dirty_bitmap(f.bitmap, 65536, GRAN);
    g_assert_cmpint(bdrv_get_dirty_count(f.bitmap), ==, 2 * GRAN);

    g_assert_true(bdrv_merge_dirty_bitmap(coarse, f.bitmap, &backup,
                                          &error_abort));
    g_assert_cmpint(bdrv_get_dirty_count(coarse), ==, 65536);
    bdrv_restore_dirty_bitmap(coarse, backup);
    g_assert_cmpint(bdrv_get_dirty_count(coarse), ==, 0);

    bdrv_clear_dirty_bitmap(f.bitmap, &backup);
    g_assert_cmpint(bdrv_get_dirty_count(f.bitmap), ==, 0);
    /* The backup fits again when the node was resized meanwhile. */
    g_assert_cmpint(blk_truncate(f.blk, LEN / 2, false, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    bdrv_restore_dirty_bitmap(f.bitmap, backup);
    g_assert_cmpint(bdrv_get_dirty_count(f.bitmap), ==, 2 * GRAN);
    g_assert_cmpint(bdrv_dirty_bitmap_size(f.bitmap), ==, LEN / 2);

    g_assert_true(bdrv_merge_dirty_bitmap(shorter, f.bitmap, NULL,
                                          &error_abort));
    g_assert_cmpint(bdrv_get_dirty_count(shorter), ==, 2 * GRAN);
    g_assert_cmpint(blk_truncate(f.blk, LEN, false, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    g_assert_false(bdrv_merge_dirty_bitmap(shorter, f.bitmap, NULL, &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Bitmaps are of different sizes (destination size is "
                    "524288 and source size is 1048576) and can't be merged");
    error_free(err);
    bdrv_release_dirty_bitmap(shorter);
    bdrv_unref(other);
    teardown(&f);
}

static void test_search(void)
{
    Fixture f;
    BdrvDirtyBitmapIter *iter;
    int64_t start = -1, count = -1;

    setup(&f, 1);
    bdrv_set_dirty_bitmap(f.bitmap, 8192, 12288);
    bdrv_set_dirty_bitmap(f.bitmap, LEN - 1, 1);
    g_assert_cmpint(bdrv_dirty_bitmap_next_dirty(f.bitmap, 0, LEN), ==, 8192);
    g_assert_cmpint(bdrv_dirty_bitmap_next_dirty(f.bitmap, 0, 8192), ==, -1);
    g_assert_cmpint(bdrv_dirty_bitmap_next_zero(f.bitmap, 9000, LEN), ==,
                    20480);
    g_assert_true(bdrv_dirty_bitmap_next_dirty_area(f.bitmap, 0, LEN, 5000,
                                                    &start, &count));
    g_assert_cmpint(start, ==, 8192);
    g_assert_cmpint(count, ==, 5000);
    g_assert_false(bdrv_dirty_bitmap_next_dirty_area(f.bitmap, 20480,
                                                     LEN - 4096, LEN, &start,
                                                     &count));
    iter = bdrv_dirty_iter_new(f.bitmap);
    g_assert_cmpint(bdrv_dirty_iter_next(iter), ==, 8192);
    g_assert_cmpint(bdrv_dirty_iter_next(iter), ==, 12288);
    /* Sees changes ahead of it. */
    bdrv_reset_dirty_bitmap(f.bitmap, 16384, 4096);
    bdrv_set_dirty_bitmap(f.bitmap, 65536, 1);
    g_assert_cmpint(bdrv_dirty_iter_next(iter), ==, 65536);
    g_assert_cmpint(bdrv_dirty_iter_next(iter), ==, LEN - 4096);
    g_assert_cmpint(bdrv_dirty_iter_next(iter), ==, -1);
    bdrv_dirty_iter_free(iter);
    teardown(&f);
}

/* Bitmaps follow the node's length, by truncation and by writes that extend. */
static void test_resize(void)
{
    Fixture f;
    uint8_t buf[512] = { 1 };

    setup(&f, 1);
    bdrv_set_dirty_bitmap(f.bitmap, LEN - 1, 1);
    blk_set_allow_write_beyond_eof(f.blk, true);
    g_assert_cmpint(blk_pwrite(f.blk, LEN + 4000, 512, buf, 0), ==, 0);
    g_assert_cmpint(bdrv_dirty_bitmap_size(f.bitmap), ==, LEN + 4608);
    g_assert_true(bdrv_dirty_bitmap_get(f.bitmap, LEN + 4511));
    g_assert_cmpint(blk_truncate(f.blk, GRAN, true, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    g_assert_cmpint(bdrv_dirty_bitmap_size(f.bitmap), ==, GRAN);
    g_assert_cmpint(bdrv_get_dirty_count(f.bitmap), ==, 0);
    g_assert_false(bdrv_dirty_bitmap_get(f.bitmap, LEN));
    teardown(&f);
}

static void test_default_granularity(void)
{
    static const struct {
        int64_t cluster;
        uint32_t granularity;
    } table[] = {
        { 512, 4096 }, { 8192, 8192 }, { 65536, 65536 }, { 2 << 20, 65536 },
    };

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        RamConfig cfg = { .length = LEN, .cluster = table[i].cluster };
        BlockDriverState *bs = ram_node("node", RW, &cfg);

        g_assert_cmpuint(bdrv_get_default_bitmap_granularity(bs), ==,
                         table[i].granularity);
        bdrv_unref(bs);
    }
}

static void test_sha256(void)
{
    Fixture f;
    g_autofree char *clean = NULL, *dirty = NULL, *again = NULL;

    setup(&f, 1);
    clean = bdrv_dirty_bitmap_sha256(f.bitmap, &error_abort);
    bdrv_set_dirty_bitmap(f.bitmap, 0, 1);
    dirty = bdrv_dirty_bitmap_sha256(f.bitmap, &error_abort);
    bdrv_clear_dirty_bitmap(f.bitmap, NULL);
    again = bdrv_dirty_bitmap_sha256(f.bitmap, &error_abort);
    g_assert_cmpuint(strlen(clean), ==, 64);
    g_assert_cmpstr(clean, !=, dirty);
    g_assert_cmpstr(clean, ==, again);
    teardown(&f);
}

/* --------------------------------------------------------------- threads */

#define THREADS 3
#define WRITES 400

typedef struct Writer {
    BlockBackend *blk;
    unsigned *running;
    int id;
} Writer;

static void coroutine_fn writer_run(void *opaque)
{
    Writer *w = opaque;
    uint8_t buf[512] = { 1 };

    for (int i = 0; i < WRITES; i++) {
        int64_t offset = (i * THREADS + w->id) % (LEN / GRAN) * GRAN;

        g_assert_cmpint(blk_co_pwrite(w->blk, offset, 512, buf, 0), ==, 0);
        if (i % 16 == 0) {
            qemu_co_yield_to_loop();
        }
    }
    if (qatomic_fetch_dec(w->running) == 1) {
        aio_wait_kick();
    }
}

static void move_bits(BdrvDirtyBitmap *from, BdrvDirtyBitmap *to)
{
    int64_t start, count;

    while (bdrv_dirty_bitmap_next_dirty_area(from, 0, LEN, LEN, &start,
                                             &count)) {
        bdrv_reset_dirty_bitmap(from, start, count);
        bdrv_set_dirty_bitmap(to, start, count);
    }
}

/*
 * Threads write while the main thread adds and removes bitmaps, looks at them
 * and clears what it finds: in the end everything written was seen once.
 */
static void test_threads(void)
{
    Fixture f;
    IOThread *threads[THREADS];
    Writer writers[THREADS];
    unsigned running = THREADS;
    BdrvDirtyBitmap *total;

    setup(&f, 512);
    total = bdrv_create_dirty_bitmap(f.bs, GRAN, "total", &error_abort);
    for (int i = 0; i < THREADS; i++) {
        writers[i] = (Writer) { f.blk, &running, i };
        threads[i] = iothread_new("writer", &error_abort);
        aio_co_schedule(iothread_get_aio_context(threads[i]),
                        qemu_coroutine_create(writer_run, &writers[i]));
    }
    while (qatomic_load_acquire(&running)) {
        BdrvDirtyBitmap *extra = bdrv_create_dirty_bitmap(f.bs, 65536, "extra",
                                                          &error_abort);

        move_bits(f.bitmap, total);
        bdrv_release_dirty_bitmap(extra);
        aio_poll(qemu_get_aio_context(), false);
    }
    move_bits(f.bitmap, total);
    for (int i = 0; i < THREADS; i++) {
        iothread_free(threads[i]);
    }
    g_assert_cmpint(bdrv_get_dirty_count(total), ==, LEN);
    teardown(&f);
}

int main(int argc, char **argv)
{
    ram_test_init(&argc, &argv);
    g_test_add_func("/dirty-bitmap/record", test_record);
    g_test_add_func("/dirty-bitmap/unchanged", test_unchanged);
    g_test_add_func("/dirty-bitmap/names", test_names);
    g_test_add_func("/dirty-bitmap/states", test_states);
    g_test_add_func("/dirty-bitmap/clear-restore-merge",
                    test_clear_restore_merge);
    g_test_add_func("/dirty-bitmap/search", test_search);
    g_test_add_func("/dirty-bitmap/resize", test_resize);
    g_test_add_func("/dirty-bitmap/default-granularity",
                    test_default_granularity);
    g_test_add_func("/dirty-bitmap/sha256", test_sha256);
    g_test_add_func("/dirty-bitmap/threads", test_threads);
    return g_test_run();
}
