/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Proves that the explorer finds a bug of ordering: linked with a qcow2 driver
 * that leaves out one flush (FlushRule in block/qcow2/flush.c). Fails if no bad
 * state turns up within a minute.
 */
#include "util/osdep.h"
#include "explorer.h"
#include "util/aio.h"
#include "util/error.h"

#define SECONDS 60
#define STATES_A_TURN 300

/* Takes turns with all workloads. Returns what is bad, or NULL. */
static char *search(ExplorerLimits *limits, uint64_t *states,
                    const Workload **where)
{
    for (;; limits->seed++) {
        for (const Workload *w = workloads; w->name; w++) {
            ExplorerResult r;

            explore(w, limits, &r);
            *states += r.distinct;
            *where = w;
            if (r.failure || g_get_monotonic_time() > limits->deadline) {
                return r.failure;
            }
        }
    }
}

int main(void)
{
    gint64 start = g_get_monotonic_time();
    ExplorerLimits limits = {
        .seed = tap_seed(),
        .states = STATES_A_TURN,
        .deadline = start + SECONDS * G_USEC_PER_SEC,
    };
    const Workload *w;
    uint64_t states = 0;
    g_autofree char *found = NULL;

    qemu_init_main_loop(&error_fatal);
    bdrv_init();
    printf("1..1\n# seed %" PRIu32 "\n", limits.seed);
    found = search(&limits, &states, &w);
    printf("%sok 1 - planted bug\n", found ? "" : "not ");
    printf("# after %" PRIu64 " states, %.1f s, workload %s\n", states,
           (g_get_monotonic_time() - start) / 1e6, w->name);
    if (found) {
        tap_comment(found);
    }
    bdrv_close_all();
    return found ? 0 : 1;
}
