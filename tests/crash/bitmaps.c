/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "block/persistent-bitmap.h"
#include "workload.h"

#define GRANULARITY 512
#define OFF_GRANULARITY 1024
#define MAX_OTHERS 4

static bool add(BlockDriverState *bs, const char *name, uint32_t granularity,
                bool disabled, Error **errp)
{
    Transaction *tran = tran_new();
    bool ok = bdrv_dirty_bitmap_add_tran(bs, name, granularity, true, disabled,
                                         tran, errp);

    tran_finalize(tran, ok ? 0 : -1);
    return ok;
}

/* Every third granule. */
static bool off_has(int64_t offset)
{
    return offset / OFF_GRANULARITY % 3 == 1;
}

static void fill_off(BlockDriverState *bs, int64_t size)
{
    BdrvDirtyBitmap *off = bdrv_find_dirty_bitmap(bs, "off");

    for (int64_t i = 0; i < size; i += OFF_GRANULARITY) {
        if (off_has(i)) {
            bdrv_set_dirty_bitmap(off, i, 1);
        }
    }
}

void bitmaps_init(Run *run)
{
    BlockBackend *blk;
    int64_t size;

    if (!run->w->bitmaps) {
        return;
    }
    blk = run_open(run, &error_abort);
    size = blk_getlength(blk);
    run->baseline = g_malloc(size);
    run->baseline_size = size;
    g_assert(blk_pread(blk, 0, size, run->baseline, 0) >= 0);
    add(blk_bs(blk), "on", GRANULARITY, false, &error_abort);
    add(blk_bs(blk), "off", OFF_GRANULARITY, true, &error_abort);
    fill_off(blk_bs(blk), size);
    blk_unref(blk);
}

void bitmaps_free(Run *run)
{
    g_free(run->baseline);
}

/* --- what happens to them --- */

static BdrvDirtyBitmap *random_other(Run *run, BlockDriverState *bs)
{
    g_autofree char *name = g_strdup_printf(
        "other-%d", g_rand_int_range(run->rand, 0, MAX_OTHERS));

    return bdrv_find_dirty_bitmap(bs, name);
}

static void failed(Run *run)
{
    run->errors++;
    g_assert(run->may_fail);
}

static void add_other(Run *run, BlockDriverState *bs)
{
    g_autofree char *name = g_strdup_printf(
        "other-%d", g_rand_int_range(run->rand, 0, MAX_OTHERS));

    if (!bdrv_find_dirty_bitmap(bs, name) &&
        !add(bs, name, 512 << g_rand_int_range(run->rand, 0, 8),
             g_rand_boolean(run->rand), NULL)) {
        /* The directory could not be read when the image was opened. */
        failed(run);
    }
}

static void remove_other(Run *run, BlockDriverState *bs)
{
    BdrvDirtyBitmap *b = random_other(run, bs);

    if (!b) {
        return;
    }
    if (bdrv_remove_persistent_dirty_bitmap(bs, bdrv_dirty_bitmap_name(b),
                                            NULL) < 0) {
        failed(run);
    } else {
        bdrv_release_dirty_bitmap(b);
    }
}

static void change_other(Run *run, BlockDriverState *bs)
{
    BdrvDirtyBitmap *on = bdrv_find_dirty_bitmap(bs, "on");
    BdrvDirtyBitmap *b = random_other(run, bs);

    if (!b || bdrv_dirty_bitmap_inconsistent(b)) {
        return;
    }
    switch (g_rand_int_range(run->rand, 0, 4)) {
    case 0:
        bdrv_clear_dirty_bitmap(b, NULL);
        break;
    case 1:
        bdrv_enable_dirty_bitmap(b);
        break;
    case 2:
        bdrv_disable_dirty_bitmap(b);
        break;
    default:
        /* In a run with faults it may have become inconsistent. */
        bdrv_merge_dirty_bitmap(b, on, NULL, NULL);
        break;
    }
}

void bitmaps_act(Run *run)
{
    BlockDriverState *bs = blk_bs(run->blk);

    switch (g_rand_int_range(run->rand, 0, 6)) {
    case 0:
    case 1:
        add_other(run, bs);
        break;
    case 2:
        remove_other(run, bs);
        return;
    case 3:
        change_other(run, bs);
        return;
    default:
        break;
    }
    if (bdrv_save_persistent_dirty_bitmaps(bs, NULL, 0, NULL) < 0) {
        failed(run);
    }
}

/* --- judging --- */

static char *judge_on(const Run *run, BdrvDirtyBitmap *on,
                      const uint8_t *content)
{
    for (int64_t i = 0; i < run->baseline_size; i += CRASH_SECTOR) {
        if (memcmp(run->baseline + i, content + i, CRASH_SECTOR) &&
            !bdrv_dirty_bitmap_get(on, i)) {
            return g_strdup_printf("the bitmap is valid, but does not know of "
                                   "sector %" PRId64, i / CRASH_SECTOR);
        }
    }
    return NULL;
}

static char *judge_off(const Run *run, BdrvDirtyBitmap *off)
{
    if (bdrv_dirty_bitmap_inconsistent(off)) {
        /* A new size changes every bitmap, and one that cannot be read
         * cannot be kept right. */
        return run->w->resize || run->may_fail ? NULL : g_strdup("the bitmap that nobody uses is inconsistent");
    }
    for (int64_t i = 0; i < run->baseline_size; i += CRASH_SECTOR) {
        if (bdrv_dirty_bitmap_get(off, i) != off_has(i)) {
            return g_strdup_printf("the bitmap that nobody uses changed at "
                                   "sector %" PRId64, i / CRASH_SECTOR);
        }
    }
    return NULL;
}

char *bitmaps_judge(const Run *run, BlockDriverState *bs,
                    const uint8_t *content, bool *valid)
{
    BdrvDirtyBitmap *on, *off;
    char *wrong;

    *valid = false;
    if (!run->w->bitmaps) {
        return NULL;
    }
    on = bdrv_find_dirty_bitmap(bs, "on");
    off = bdrv_find_dirty_bitmap(bs, "off");
    if (!on || !off) {
        return g_strdup("a bitmap is lost");
    }
    wrong = judge_off(run, off);
    if (wrong || bdrv_dirty_bitmap_inconsistent(on)) {
        return wrong;
    }
    *valid = true;
    return judge_on(run, on, content);
}

void bitmaps_check_closed(Run *run)
{
    BlockBackend *blk;
    BdrvDirtyBitmap *b;

    if (!run->w->bitmaps || run->may_fail) {
        return;
    }
    blk = run_open(run, &error_abort);
    for (b = bdrv_dirty_bitmap_first(blk_bs(blk)); b;
         b = bdrv_dirty_bitmap_next(b)) {
        g_assert(!bdrv_dirty_bitmap_inconsistent(b));
    }
    blk_unref(blk);
}
