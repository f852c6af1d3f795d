/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Progress of a command: with -p one line on stdout that is written over and
 * over; without it, one line on stderr for each SIGUSR1 (SIGINFO where there is
 * one), printed at the next point of the work.
 */
#include "util/osdep.h"
#include <signal.h>
#include "img/img.h"

static struct {
    bool enabled;
    float min_skip;
    double last;        /* percentage that was printed last */
    bool printed;
    double current;
    volatile sig_atomic_t asked;
} progress;

static void on_signal(int sig)
{
    progress.asked = 1;
}

static void print_line(FILE *fp, double percent, const char *end)
{
    fprintf(fp, "    (%3.2f/100%%)%s", percent, end);
    fflush(fp);
}

void img_progress_init(bool enabled, float min_skip)
{
    struct sigaction action = { .sa_handler = on_signal };

    progress.enabled = enabled;
    progress.min_skip = min_skip;
    sigfillset(&action.sa_mask);
    if (!enabled) {
        sigaction(SIGUSR1, &action, NULL);
#ifdef SIGINFO
        sigaction(SIGINFO, &action, NULL);
#endif
    }
}

/* Enough of a step, in either direction, or an end of the scale. */
static bool is_worth_printing(double percent)
{
    double moved = percent - progress.last;

    return !progress.printed || moved > progress.min_skip ||
           moved < -progress.min_skip || percent >= 100;
}

void img_progress_print(double percent)
{
    progress.current = percent;
    if (progress.enabled) {
        if (is_worth_printing(percent)) {
            progress.last = percent;
            progress.printed = true;
            print_line(stdout, percent, "\r");
        }
    } else if (progress.asked) {
        progress.asked = 0;
        print_line(stderr, percent, "\n");
    }
}

void img_progress_end(void)
{
    if (progress.enabled) {
        printf("\n");
        fflush(stdout);
    }
}
