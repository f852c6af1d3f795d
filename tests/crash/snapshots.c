/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "snapshots.h"
#include "block/snapshot.h"
#include "util/error.h"

#define MAX_AT_A_TIME 3

/* --- recording --- */

static bool is_there(const RunSnapshot *sn)
{
    return sn->made_end != CRASH_NEVER && !sn->make_failed &&
           sn->gone_start == CRASH_NEVER;
}

/* Any one of those that are there, or NULL. */
static RunSnapshot *pick(Run *run, unsigned *count)
{
    RunSnapshot *found = NULL;

    *count = 0;
    for (guint i = 0; i < run->snapshots->len; i++) {
        RunSnapshot *sn = run->snapshots->pdata[i];

        if (is_there(sn) && g_rand_int_range(run->rand, 0, ++*count) == 0) {
            found = sn;
        }
    }
    return found;
}

static void note_result(Run *run, int ret)
{
    if (ret < 0) {
        run->errors++;
        g_assert(run->may_fail);
    }
}

/* What the disk reads as; false if it cannot be read. */
static bool read_values(Run *run, RunSnapshot *sn)
{
    g_autofree uint64_t *buf = g_malloc(MAX(1, sn->size) * CRASH_SECTOR);

    if (blk_pread(run->blk, 0, sn->size * CRASH_SECTOR, buf, 0) < 0) {
        return false;
    }
    sn->values = g_new(uint32_t, MAX(1, sn->size));
    for (int64_t i = 0; i < sn->size; i++) {
        sn->values[i] = buf[i * (CRASH_SECTOR / sizeof(*buf))] >> 32;
    }
    return true;
}

static void create(Run *run)
{
    RunSnapshot *sn = g_new0(RunSnapshot, 1);
    QEMUSnapshotInfo info = { .date_sec = 1 };
    GuestOp *op;
    int ret;

    *sn = (RunSnapshot) {
        .size = run->guest->size,
        .made_start = CRASH_NEVER, .made_end = CRASH_NEVER,
        .gone_start = CRASH_NEVER, .gone_end = CRASH_NEVER,
    };
    if (!read_values(run, sn)) {
        run->errors++;
        g_assert(run->may_fail);
        g_free(sn);
        return;
    }
    snprintf(sn->name, sizeof(sn->name), "s%u", run->snapshots->len);
    g_strlcpy(info.name, sn->name, sizeof(info.name));
    g_ptr_array_add(run->snapshots, sn);
    /* All that the disk held is durable then. */
    op = guest_start(run->guest, GUEST_FLUSH, 0, 0, "take a snapshot");
    sn->made_start = op->started;
    ret = bdrv_snapshot_create(blk_bs(run->blk), &info, NULL);
    guest_end(run->guest, op, ret);
    sn->made_end = op->ended;
    sn->make_failed = ret < 0;
    note_result(run, ret);
}

static void apply(Run *run, RunSnapshot *sn)
{
    GuestOp *op = guest_start_apply(run->guest, sn->size, sn->values);
    int ret = bdrv_snapshot_goto(blk_bs(run->blk), sn->name, NULL);

    guest_end(run->guest, op, ret);
    run->busy = g_realloc(run->busy, run->guest->nb_sectors);
    memset(run->busy, 0, run->guest->nb_sectors);
    note_result(run, ret);
}

static void delete(Run *run, RunSnapshot *sn)
{
    GuestOp *op = guest_start(run->guest, GUEST_FLUSH, 0, 0,
                              "delete a snapshot");
    int ret;

    sn->gone_start = op->started;
    ret = bdrv_snapshot_delete(blk_bs(run->blk), NULL, sn->name, NULL);
    guest_end(run->guest, op, ret);
    sn->gone_end = op->ended;
    sn->gone_failed = ret < 0;
    note_result(run, ret);
}

void snapshots_step(Run *run)
{
    unsigned count;
    RunSnapshot *sn = pick(run, &count);
    int dice = g_rand_int_range(run->rand, 0, 4);

    if (!sn || (dice < 2 && count < MAX_AT_A_TIME)) {
        create(run);
    } else if (dice % 2) {
        apply(run, sn);
    } else {
        delete(run, sn);
    }
}

void snapshots_free(Run *run)
{
    for (guint i = 0; i < run->snapshots->len; i++) {
        RunSnapshot *sn = run->snapshots->pdata[i];

        g_free(sn->values);
        g_free(sn);
    }
    g_ptr_array_free(run->snapshots, true);
}

/* --- judging --- */

static char *compare(const RunSnapshot *sn, BlockBackend *blk)
{
    int64_t size = blk_getlength(blk);
    g_autofree uint8_t *buf = g_malloc(MAX(1, sn->size) * CRASH_SECTOR);
    uint8_t wanted[CRASH_SECTOR];
    int ret;

    if (size != sn->size * CRASH_SECTOR) {
        return g_strdup_printf("snapshot %s has %" PRId64 " bytes", sn->name,
                               size);
    }
    ret = blk_pread(blk, 0, size, buf, 0);
    if (ret < 0) {
        return g_strdup_printf("reading snapshot %s fails: %s", sn->name,
                               strerror(-ret));
    }
    for (int64_t i = 0; i < sn->size; i++) {
        guest_fill(wanted, sn->values[i], i, 1);
        if (memcmp(buf + i * CRASH_SECTOR, wanted, CRASH_SECTOR)) {
            return g_strdup_printf("sector %" PRId64 " of snapshot %s is not "
                                   "what it was (value %08x)", i, sn->name,
                                   sn->values[i]);
        }
    }
    return NULL;
}

static char *judge_one(const Run *run, const RunSnapshot *sn)
{
    CrashTime now = run->guest->now;
    bool must, may;
    BlockBackend *blk;
    Error *err = NULL;
    char *wrong = NULL;

    must = sn->made_end <= now && !sn->make_failed && sn->gone_start > now;
    may = sn->made_start <= now && (sn->gone_end > now || sn->gone_failed);
    blk = run_open_flags(run, 0, &err);
    if (!blk) {
        wrong = g_strdup_printf("the image does not open: %s",
                                error_get_pretty(err));
    } else if (bdrv_snapshot_load_tmp(blk_bs(blk), NULL, sn->name, &err) == 0) {
        wrong = may ? compare(sn, blk)
                    : g_strdup_printf("snapshot %s is there", sn->name);
    } else if (must) {
        wrong = g_strdup_printf("snapshot %s cannot be shown: %s", sn->name,
                                error_get_pretty(err));
    }
    error_free(err);
    if (blk) {
        blk_unref(blk);
    }
    return wrong;
}

char *snapshots_judge(const Run *run)
{
    char *wrong = NULL;

    for (guint i = 0; i < run->snapshots->len && !wrong; i++) {
        const RunSnapshot *sn = run->snapshots->pdata[i];

        wrong = judge_one(run, sn);
    }
    return wrong;
}
