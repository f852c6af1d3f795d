/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking for work for a while before a loop goes to sleep: going to sleep and
 * being woken take longer than what is waited for often does.
 *
 * 1. Whoever gives work to a loop that spins sees it awake and writes nothing.
 * 2. The time that is spun follows the work. A wait that ended by sleep, but
 *    was not longer than may be spun, makes it longer; one that no spinning
 *    could have helped makes it shorter.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "aio-int.h"
#include "trace/util.h"

#define FIRST_NS 4000
#define DEFAULT_GROW 2

void aio_context_set_poll_params(AioContext *ctx, int64_t max_ns, int64_t grow,
                                 int64_t shrink)
{
    assert(max_ns >= 0 && grow >= 0 && shrink >= 0);
    qatomic_set(&ctx->spin.grow, grow);
    qatomic_set(&ctx->spin.shrink, shrink);
    qatomic_set(&ctx->spin.max_ns, max_ns);
}

int64_t aio_context_poll_ns(AioContext *ctx)
{
    return ctx->spin.ns;
}

static void set_ns(AioContext *ctx, int64_t ns)
{
    if (ns != ctx->spin.ns) {
        trace_aio_spin_time(ctx, ns);
        ctx->spin.ns = ns;
    }
}

static bool found_work(AioContext *ctx)
{
    return aio_work_is_ready(ctx) ||
           (qatomic_read(&ctx->notified) &&
            qatomic_xchg(&ctx->notified, false));
}

bool aio_spin(AioContext *ctx, int64_t start_ns)
{
    int64_t ns = MIN(ctx->spin.ns, qatomic_read(&ctx->spin.max_ns));
    int64_t timeout_ns = timer_group_timeout_ns(&ctx->timers);

    if (timeout_ns >= 0) {
        ns = MIN(ns, timeout_ns);
    }
    if (!ns) {
        return false;
    }
    do {
        ctx->backend->wait(ctx, 0);
        if (aio_fd_collect_always(ctx) || found_work(ctx)) {
            return true;
        }
        cpu_relax();
    } while (get_clock() - start_ns < ns);
    return false;
}

void aio_spin_adapt(AioContext *ctx, int64_t start_ns)
{
    int64_t waited_ns = get_clock() - start_ns, ns = ctx->spin.ns;
    int64_t max_ns = qatomic_read(&ctx->spin.max_ns);
    int64_t grow = qatomic_read(&ctx->spin.grow) ?: DEFAULT_GROW;
    int64_t shrink = qatomic_read(&ctx->spin.shrink);

    if (waited_ns > max_ns) {
        set_ns(ctx, shrink ? ns / shrink : 0);
    } else if (!ns) {
        set_ns(ctx, MIN(FIRST_NS, max_ns));
    } else {
        set_ns(ctx, ns > max_ns / grow ? max_ns : ns * grow);
    }
}
