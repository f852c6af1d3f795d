/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "recovery.h"
#include "states.h"
#include "util/error.h"

#define STATES_AN_EPOCH 6

/* The log of opening and closing; NULL if it does not open. */
static GPtrArray *record_open(Run *run, CrashTime *clock)
{
    GPtrArray *log = NULL;
    BlockBackend *blk;

    crash_disk_record(run->disk, clock);
    capture_start();
    blk = run_open(run, NULL);
    if (blk) {
        blk_unref(blk);
        log = g_ptr_array_ref(run->disk->log);
    }
    g_free(capture_end());
    crash_disk_record(run->disk, NULL);
    return log;
}

static char *judge_epoch(Run *run, const Epoch *epoch, GRand *rand,
                         uint64_t *states)
{
    CrashState *s = crash_state_new(epoch);
    char *wrong = NULL;

    for (int i = 0; i < STATES_AN_EPOCH && !wrong; i++) {
        uint64_t n = g_rand_int_range(rand, 0, 4 * (epoch->ops->len + 1));
        g_autofree uint8_t *data = NULL;
        Judge judge = { 0 };
        int64_t size;

        if (!crash_state_pick(epoch, s, n, 0, rand)) {
            break;
        }
        data = crash_state_build(epoch, s, &size);
        crash_disk_load(run->disk, data, size);
        wrong = judge_image(&judge, run);
        ++*states;
    }
    crash_state_free(s);
    return wrong;
}

char *recovery_judge(Run *run, const uint8_t *data, int64_t size, GRand *rand,
                     uint64_t *states)
{
    CrashTime clock = 0;
    g_autofree char *wrong = NULL;
    const Epoch *epoch;
    Epochs *epochs;
    GPtrArray *log;

    crash_disk_load(run->disk, data, size);
    log = record_open(run, &clock);
    if (!log) {
        return g_strdup("the image does not open any more");
    }
    epochs = epochs_new(data, size, log, clock + 1);
    while (!wrong && (epoch = epochs_next(epochs))) {
        wrong = judge_epoch(run, epoch, rand, states);
    }
    epochs_free(epochs);
    g_ptr_array_unref(log);
    return wrong ? g_strdup_printf("after a power cut during the repair: %s",
                                   wrong) : NULL;
}
