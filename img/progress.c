/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Progress of a command on stdout: QEMU's line, which is written over and over;
 * a bar with rate and time left, if stdout is a terminal; or objects of JSON,
 * one a line. Without any of them, one line on stderr for each SIGUSR1 (SIGINFO
 * where there is one), printed at the next point of the work.
 */
#include "util/osdep.h"
#include <signal.h>
#include <sys/ioctl.h>
#include "img/img.h"
#include "util/cutils.h"
#include "util/timer.h"

/* Bars and objects are not drawn more often. */
#define INTERVAL_NS (100 * SCALE_MS)
/* Time that the rate shown is about. */
#define RATE_SPAN_NS (3 * NANOSECONDS_PER_SECOND)
#define MIN_BAR 10
#define MAX_BAR 50
/* What a bar has around it: "100.0%  1023.9 MiB/s  999:59:59 left". */
#define AROUND_BAR 42

typedef enum {
    SHOW_NOTHING,
    SHOW_LINE,
    SHOW_BAR,
    SHOW_JSON,
} Show;

static struct {
    Show show;
    float min_skip;
    double last;        /* percentage that was printed last */
    bool printed;
    volatile sig_atomic_t asked;

    int64_t start_ns;
    int64_t drawn_ns;
    int64_t bytes;      /* of work done */
    int64_t mark_ns;    /* when the rate was found last, and for how much */
    int64_t mark_bytes;
    double rate;        /* bytes a second */
} progress;

static void on_signal(int sig)
{
    progress.asked = 1;
}

bool img_parse_progress(const char *text, ImgProgress *mode)
{
    if (!text) {
        *mode = IMG_PROGRESS_AUTO;
    } else if (!strcmp(text, "line")) {
        *mode = IMG_PROGRESS_LINE;
    } else if (!strcmp(text, "bar")) {
        *mode = IMG_PROGRESS_BAR;
    } else if (!strcmp(text, "json")) {
        *mode = IMG_PROGRESS_JSON;
    } else {
        error_report("--progress must be used with line, bar or json as "
                     "argument.");
        return false;
    }
    return true;
}

void img_progress_init(ImgProgress mode, float min_skip)
{
    static const Show show[] = {
        [IMG_PROGRESS_LINE] = SHOW_LINE,
        [IMG_PROGRESS_BAR] = SHOW_BAR,
        [IMG_PROGRESS_JSON] = SHOW_JSON,
    };
    struct sigaction action = { .sa_handler = on_signal };

    if (mode == IMG_PROGRESS_AUTO) {
        mode = isatty(STDOUT_FILENO) ? IMG_PROGRESS_BAR : IMG_PROGRESS_LINE;
    }
    progress.show = show[mode];
    progress.min_skip = min_skip;
    progress.start_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    progress.mark_ns = progress.start_ns;
    if (progress.show == SHOW_NOTHING) {
        sigfillset(&action.sa_mask);
        sigaction(SIGUSR1, &action, NULL);
#ifdef SIGINFO
        sigaction(SIGINFO, &action, NULL);
#endif
    }
}

void img_progress_work(int64_t bytes)
{
    progress.bytes = bytes;
}

/* --- the forms --- */

static void print_line(FILE *fp, double percent, const char *end)
{
    fprintf(fp, "    (%3.2f/100%%)%s", percent, end);
    fflush(fp);
}

/* Seconds until all is done, if it goes on as so far; -1: not known. */
static double seconds_left(double percent, int64_t now)
{
    double spent = (double)(now - progress.start_ns) / NANOSECONDS_PER_SECOND;

    if (percent >= 100) {
        return 0;
    }
    return percent > 0 && spent > 0.5 ? spent * (100 - percent) / percent : -1;
}

static void update_rate(int64_t now)
{
    int64_t span = now - progress.mark_ns;

    if (span >= RATE_SPAN_NS || (!progress.rate && span >= INTERVAL_NS)) {
        progress.rate = (double)(progress.bytes - progress.mark_bytes) *
                        NANOSECONDS_PER_SECOND / span;
        progress.mark_ns = now;
        progress.mark_bytes = progress.bytes;
    }
}

static int bar_width(void)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col) {
        return MAX_BAR;
    }
    return CLAMP((int)size.ws_col - AROUND_BAR, MIN_BAR, MAX_BAR);
}

static void print_bar(double percent, int64_t now)
{
    int width = bar_width();
    int full = width * CLAMP(percent, 0, 100) / 100;
    double left = seconds_left(percent, now);
    int64_t s = left;
    int i;

    printf("\r[");
    for (i = 0; i < width; i++) {
        putchar(i < full ? '=' : i == full ? '>' : ' ');
    }
    printf("] %5.1f%%", percent);
    if (progress.rate > 0) {
        g_autofree char *rate = size_to_str(progress.rate);

        printf("  %s/s", rate);
    }
    if (s >= 3600) {
        printf("  %" PRId64 ":%02d:%02d left", s / 3600, (int)(s / 60 % 60),
               (int)(s % 60));
    } else if (s >= 0) {
        printf("  %d:%02d left", (int)(s / 60), (int)(s % 60));
    }
    /* The rest of a longer line before. */
    printf("\033[K");
    fflush(stdout);
}

static void print_json(double percent, int64_t now)
{
    double left = seconds_left(percent, now);

    printf("{\"percent\": %.2f, \"bytes\": %" PRId64 ", \"rate\": %.0f, "
           "\"elapsed\": %.3f", percent, progress.bytes, progress.rate,
           (double)(now - progress.start_ns) / NANOSECONDS_PER_SECOND);
    if (left >= 0) {
        printf(", \"left\": %.0f", left);
    }
    printf("}\n");
    fflush(stdout);
}

/* --- what commands call --- */

/* Enough of a step, in either direction, or an end of the scale. */
static bool is_worth_printing(double percent, int64_t now)
{
    double moved = percent - progress.last;

    if (!progress.printed || percent >= 100) {
        return true;
    }
    if (progress.show == SHOW_LINE) {
        return moved > progress.min_skip || moved < -progress.min_skip;
    }
    return now - progress.drawn_ns >= INTERVAL_NS;
}

static void show(double percent)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    if (!is_worth_printing(percent, now)) {
        return;
    }
    progress.last = percent;
    progress.printed = true;
    progress.drawn_ns = now;
    update_rate(now);
    switch (progress.show) {
    case SHOW_LINE:
        print_line(stdout, percent, "\r");
        break;
    case SHOW_BAR:
        print_bar(percent, now);
        break;
    case SHOW_JSON:
        print_json(percent, now);
        break;
    case SHOW_NOTHING:
        break;
    }
}

void img_progress_print(double percent)
{
    if (progress.show != SHOW_NOTHING) {
        show(percent);
    } else if (progress.asked) {
        progress.asked = 0;
        print_line(stderr, percent, "\n");
    }
}

void img_progress_end(void)
{
    if (progress.show == SHOW_LINE || progress.show == SHOW_BAR) {
        printf("\n");
        fflush(stdout);
    }
}
