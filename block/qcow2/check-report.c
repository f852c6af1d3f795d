/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a check tells on stderr.
 *
 * A table of rubbish has as many faults as entries, and a terabyte's L1 table
 * has a million: after some thousand lines of one kind the rest is only
 * counted, so that output and time stay bounded. Lines are of one kind if they
 * are made from one format.
 */
#include "util/osdep.h"
#include "block/qcow2/check.h"

/* The same line again and again tells nobody more. */
#define MAX_REPEATED_LINES 64
/* Of one kind, in one pass over the image. */
#define MAX_LINES 10000

/* Counts @n lines made from @fmt; returns how many of them are to be shown. */
static uint64_t lines_to_show(Qcow2Check *c, const char *fmt, uint64_t n)
{
    uint64_t shown = GPOINTER_TO_SIZE(g_hash_table_lookup(c->lines, fmt));
    uint64_t more = MIN(n, MIN(MAX_LINES - shown, MAX_REPEATED_LINES));

    g_hash_table_insert(c->lines, (gpointer)fmt,
                        GSIZE_TO_POINTER(shown + more));
    return more;
}

static void G_GNUC_PRINTF(4, 0)
tell(Qcow2Check *c, uint64_t n, const char *prefix, const char *fmt,
     va_list ap, const char *suffix)
{
    g_autofree char *line = NULL;
    uint64_t i, show;

    if (c->opts->quiet) {
        return;
    }
    show = lines_to_show(c, fmt, n);
    if (!show) {
        return;
    }
    line = g_strdup_vprintf(fmt, ap);
    for (i = 0; i < show; i++) {
        error_printf("%s%s%s\n", prefix, line, suffix);
    }
    if (g_hash_table_lookup(c->lines, fmt) == GSIZE_TO_POINTER(MAX_LINES)) {
        error_printf("(more lines like this are counted, not shown)\n");
    }
}

void qcow2_check_say(Qcow2Check *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    tell(c, 1, "", fmt, ap, "");
    va_end(ap);
}

void qcow2_check_io_error(Qcow2Check *c, int ret, const char *fmt, ...)
{
    g_autofree char *why = g_strdup_printf(": %s", strerror(-ret));
    va_list ap;

    va_start(ap, fmt);
    tell(c, 1, "ERROR: ", fmt, ap, why);
    va_end(ap);
    c->res->check_errors++;
    c->unread++;
}

void qcow2_check_corruption(Qcow2Check *c, uint64_t n, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    tell(c, n, "", fmt, ap, "");
    va_end(ap);
    c->res->corruptions += n;
}

void qcow2_check_bad_reference(Qcow2Check *c, uint64_t n, const char *fmt,
                               ...)
{
    va_list ap;

    va_start(ap, fmt);
    tell(c, n, "", fmt, ap, "");
    va_end(ap);
    c->res->corruptions += n;
    c->bad_references += n;
}

void qcow2_check_bad_refcounts(Qcow2Check *c, uint64_t block, uint64_t first,
                               uint64_t n)
{
    uint64_t i;

    for (i = 0; i < MIN(n, MAX_REPEATED_LINES); i++) {
        qcow2_check_say(c, "Can't get refcount for cluster %" PRIu64
                        ": Input/output error", first + i);
    }
    if (n > i) {
        qcow2_check_say(c, "Can't get refcount for %" PRIu64
                        " more clusters of refcount block %" PRIu64,
                        n - i, block);
    }
    c->res->check_errors += n;
    c->unknown_refcounts += n;
}
