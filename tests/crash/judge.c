/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "judge.h"
#include "repairs.h"
#include "snapshots.h"
#include "block/qcow2/qcow2.h"
#include "util/error.h"

#define GO_ON_OPS 12

/* --- stderr --- */

static FILE *real_stderr;
static char *captured;
static size_t captured_size;

void capture_start(void)
{
    g_assert(!real_stderr);
    real_stderr = stderr;
    stderr = open_memstream(&captured, &captured_size);
}

char *capture_end(void)
{
    char *text;

    fclose(stderr);
    stderr = g_steal_pointer(&real_stderr);
    text = g_strdup(captured);
    free(captured);
    captured = NULL;
    return text;
}

/* --- checks --- */

static char *check(Judge *judge, BlockBackend *blk, bool no_leaks)
{
    BdrvCheckResult res = { 0 };
    int ret = bdrv_check(blk_bs(blk), &res, 0);

    if (ret < 0) {
        return g_strdup_printf("check fails: %s", strerror(-ret));
    }
    judge->leaks += !!res.leaks;
    if (res.corruptions || res.check_errors || (no_leaks && res.leaks)) {
        return g_strdup_printf("check finds %" PRId64 " corruptions, %" PRId64
                               " errors, %" PRId64 " leaks", res.corruptions,
                               res.check_errors, res.leaks);
    }
    return NULL;
}

/*
 * What the repair of a dirty image left are at most clusters that look like a
 * lost table with its data: none is left when they are given up, too.
 */
static char *check_repaired(Judge *judge, BlockBackend *blk)
{
    const BdrvCheckOptions give_up = {
        .fix = BDRV_FIX_LEAKS, .orphans = BDRV_CHECK_ORPHANS_FREE,
    };
    BdrvCheckResult res = { 0 };
    char *wrong = check(judge, blk, false);
    int ret;

    if (wrong) {
        return wrong;
    }
    ret = bdrv_check_opts(blk_bs(blk), &res, &give_up);
    if (ret < 0) {
        return g_strdup_printf("repair fails: %s", strerror(-ret));
    }
    return check(judge, blk, true);
}

/* Reads the whole disk into *@content. */
static char *compare(const Run *run, BlockBackend *blk, uint8_t **content)
{
    int64_t size = blk_getlength(blk);
    int ret;

    if (size < 0 || size % CRASH_SECTOR ||
        !guest_size_legal(run->guest, size / CRASH_SECTOR)) {
        return g_strdup_printf("the disk has %" PRId64 " bytes", size);
    }
    *content = g_malloc(MAX(size, 1));
    ret = blk_pread(blk, 0, size, *content, 0);
    if (ret < 0) {
        return g_strdup_printf("reading fails: %s", strerror(-ret));
    }
    return guest_compare(run->guest, *content, 0, size / CRASH_SECTOR);
}

/* --- going on --- */

/* One request, also on the model. */
static int go_on_once(GRand *rand, const Run *run, BlockBackend *blk,
                      uint8_t *model, int64_t size)
{
    int64_t max = MIN(size, 3 * run->cluster) / CRASH_SECTOR;
    int64_t nb = g_rand_int_range(rand, 1, max + 1);
    int64_t first = g_rand_int_range(rand, 0, size / CRASH_SECTOR - nb + 1);
    int64_t offset = first * CRASH_SECTOR, bytes = nb * CRASH_SECTOR;

    switch (g_rand_int_range(rand, 0, 5)) {
    case 0:
        memset(model + offset, 0, bytes);
        return blk_pwrite_zeroes(blk, offset, bytes, BDRV_REQ_MAY_UNMAP);
    case 1:
        return blk_flush(blk);
    default:
        guest_fill(model + offset, g_rand_int(rand) | 1, first, nb);
        return blk_pwrite(blk, offset, bytes, model + offset, 0);
    }
}

static char *go_on(Judge *judge, const Run *run, BlockBackend *blk,
                   uint8_t *model)
{
    int64_t size = blk_getlength(blk);
    g_autofree uint8_t *buf = g_malloc(size);
    GRand *rand = g_rand_new_with_seed(run->seed + run->guest->now);
    int ret = 0;

    judge->continued++;
    for (int i = 0; i < GO_ON_OPS && ret >= 0; i++) {
        ret = go_on_once(rand, run, blk, model, size);
    }
    g_rand_free(rand);
    if (ret < 0) {
        return g_strdup_printf("going on, a request fails: %s",
                               strerror(-ret));
    }
    if (blk_flush(blk) < 0 || blk_pread(blk, 0, size, buf, 0) < 0) {
        return g_strdup("going on, flush and read fail");
    }
    for (int64_t i = 0; i < size; i++) {
        if (buf[i] != model[i]) {
            return g_strdup_printf("going on, guest sector %" PRId64
                                   " is not what was written",
                                   i / CRASH_SECTOR);
        }
    }
    return check(judge, blk, false);
}

/* --- the L1 guard --- */

/* It is there, and the L1 table is what it says. */
static char *judge_guard(const Run *run, BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    if (!run->w->guard || s->guard.state == QCOW2_GUARD_ON ||
        ((run->w->amend || run->guard_given_up) &&
         s->guard.state == QCOW2_GUARD_NONE &&
         !(s->autoclear_features & QCOW2_AUTOCLEAR_L1_GUARD))) {
        return NULL;
    }
    return g_strdup("the L1 guard is gone");
}

/* --- all of it --- */

static char *judge_open(Judge *judge, const Run *run, BlockBackend *blk,
                        bool was_dirty)
{
    g_autofree uint8_t *content = NULL;
    char *wrong = was_dirty ? check_repaired(judge, blk)
                            : check(judge, blk, false);

    if (!wrong) {
        wrong = judge_guard(run, blk_bs(blk));
    }
    if (!wrong) {
        wrong = names_judge(run, blk_bs(blk));
    }
    if (!wrong) {
        wrong = compare(run, blk, &content);
    }
    if (!wrong) {
        bool valid;

        wrong = bitmaps_judge(run, blk_bs(blk), content, &valid);
        judge->valid_bitmaps += valid;
    }
    if (!wrong && judge->go_on && blk_getlength(blk) > 0) {
        wrong = go_on(judge, run, blk, content);
    }
    return wrong;
}

char *judge_image(Judge *judge, const Run *run)
{
    bool was_dirty = crash_disk_is_dirty(run->disk->data, run->disk->size);
    g_autofree char *printed = NULL;
    char *wrong, *all;
    Error *err = NULL;
    BlockBackend *blk;

    capture_start();
    judge->repaired += was_dirty || run->w->repair;
    wrong = run->w->repair ? repairs_judge(run) : NULL;
    blk = wrong ? NULL : run_open(run, &err);
    if (wrong) {
        /* It need not open. */
    } else if (blk) {
        wrong = judge_open(judge, run, blk, was_dirty);
        blk_unref(blk);
        if (!wrong) {
            wrong = snapshots_judge(run);
        }
    } else {
        wrong = g_strdup_printf("the image does not open: %s",
                                error_get_pretty(err));
        error_free(err);
    }
    printed = capture_end();
    if (!wrong || !*printed) {
        return wrong;
    }
    all = g_strdup_printf("%s\n%s", wrong, printed);
    g_free(wrong);
    return all;
}
