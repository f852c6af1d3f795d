/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop: contexts, bottom halves, ready coroutines, one turn.
 *
 * 1. Work from the loop's own thread goes to plain lists. Work from others is
 *    pushed on an atomic stack, which the loop takes as a whole and turns
 *    round, so it runs in the order of the pushes.
 * 2. Going to sleep: set sleeping, then look at the atomic stacks. Giving
 *    work: push, then look at sleeping. Both are sequentially consistent, so
 *    at least one sees the other, and wake_fd is written only for a loop that
 *    sleeps or is about to, once per sleep.
 * 3. A turn runs as many items of a list as the list had when it began, so
 *    work that makes work does not keep timers and I/O from their turn.
 * 4. Items are taken from the lists one by one: a callback may poll again.
 */
#include "util/osdep.h"
#include <sys/eventfd.h>
#include "util/aio.h"
#include "util/error.h"
#include "aio-int.h"
#include "coroutine-int.h"
#include "trace/util.h"

static AioContext *main_ctx;

/* --------------------------------------------------------------- contexts */

/* False, with the reason told once to the trace, if epoll has to do. */
static bool try_uring(AioContext *ctx)
{
    static bool told; /* atomic */
    const char *reason = "not built in";
#ifdef CONFIG_LINUX_IO_URING
    const char *no_uring = getenv("QEMU_AIO_NO_URING");
    int ret;

    if (no_uring && *no_uring && !g_str_equal(no_uring, "0")) {
        reason = "QEMU_AIO_NO_URING is set";
    } else {
        ctx->backend = &aio_backend_uring;
        ret = ctx->backend->setup(ctx, NULL);
        if (ret == 0) {
            return true;
        }
        reason = strerror(-ret);
    }
#endif
    if (!qatomic_xchg(&told, true)) {
        trace_aio_uring_unavailable(reason);
    }
    return false;
}

static int pick_backend(AioContext *ctx, Error **errp)
{
    if (try_uring(ctx)) {
        return 0;
    }
    ctx->backend = &aio_backend_epoll;
    return ctx->backend->setup(ctx, errp);
}

AioContext *aio_context_new(Error **errp)
{
    CoroutineThread *t = qemu_coroutine_thread();
    AioContext *ctx = g_new0(AioContext, 1);

    assert(!t->ctx);
    ctx->refcnt = 1;
    QSIMPLEQ_INIT(&ctx->ready);
    QSIMPLEQ_INIT(&ctx->bh);
    ctx->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (ctx->wake_fd < 0) {
        error_setg_errno(errp, errno, "Could not create an eventfd");
        g_free(ctx);
        return NULL;
    }
    if (pick_backend(ctx, errp) < 0) {
        close(ctx->wake_fd);
        g_free(ctx);
        return NULL;
    }
    aio_fd_init(ctx);
    timer_group_init(&ctx->timers, ctx);
    t->ctx = ctx;
    trace_aio_context_new(ctx, ctx->backend->name);
    return ctx;
}

void aio_context_ref(AioContext *ctx)
{
    qatomic_inc(&ctx->refcnt);
}

static void bh_collect(AioContext *ctx);
static void bh_free_deleted(AioContext *ctx);

void aio_context_unref(AioContext *ctx)
{
    CoroutineThread *t;

    if (!ctx || qatomic_fetch_dec(&ctx->refcnt) != 1) {
        return;
    }
    bh_free_deleted(ctx);
    assert(QSIMPLEQ_EMPTY(&ctx->ready));
    assert(QSLIST_EMPTY_RCU(&ctx->remote_ready));
    assert(ctx->wait_depth == 0);

    timer_group_destroy(&ctx->timers);
#ifdef CONFIG_LINUX_AIO
    aio_native_cleanup(ctx);
#endif
    ctx->backend->cleanup(ctx);
    aio_fd_cleanup(ctx);
    close(ctx->wake_fd);
    if (ctx == main_ctx) {
        main_ctx = NULL;
    }
    t = qemu_coroutine_thread();
    if (t->ctx == ctx) {
        t->ctx = NULL;
    }
    g_free(ctx);
}

AioContext *qemu_get_aio_context(void)
{
    return main_ctx;
}

int qemu_init_main_loop(Error **errp)
{
    assert(!main_ctx);
    main_ctx = aio_context_new(errp);
    return main_ctx ? 0 : -EMFILE;
}

bool qemu_in_main_thread(void)
{
    return main_ctx && qemu_get_current_aio_context() == main_ctx;
}

bool aio_context_in_main_thread(AioContext *ctx)
{
    return ctx == main_ctx;
}

void aio_context_set_aio_params(AioContext *ctx, int64_t max_batch)
{
    assert(max_batch >= 0);
    qatomic_set(&ctx->max_batch, max_batch);
}

TimerGroup *aio_timer_group(AioContext *ctx)
{
    return &ctx->timers;
}

/* ----------------------------------------------------------------- waking */

/* After work was pushed. */
static void wake_loop(AioContext *ctx)
{
    if (qatomic_load_seq_cst(&ctx->sleeping) &&
        qatomic_xchg(&ctx->sleeping, false)) {
        const uint64_t one = 1;
        ssize_t n = RETRY_ON_EINTR(write(ctx->wake_fd, &one, sizeof(one)));
        assert(n == sizeof(one));
    }
}

void aio_notify(AioContext *ctx)
{
    qatomic_xchg(&ctx->notified, true);
    wake_loop(ctx);
}

/* ----------------------------------------------------------- bottom halves */

enum {
    BH_LINKED = 1, /* in a list; whoever sets it links */
    BH_SCHEDULED = 2,
    BH_DELETED = 4,
    BH_ONESHOT = 8,
};

struct QEMUBH {
    AioContext *ctx;
    QEMUBHFunc *cb;
    void *opaque;
    unsigned flags; /* atomic */
    union {
        QSLIST_ENTRY(QEMUBH) remote_next;
        QSIMPLEQ_ENTRY(QEMUBH) next;
    };
};

static void bh_set_flags(QEMUBH *bh, unsigned flags)
{
    AioContext *ctx = bh->ctx;
    bool local = ctx == qemu_get_current_aio_context();

    /* Once it is linked, the loop may free both bh and, in the end, ctx. */
    if (!local) {
        aio_context_ref(ctx);
    }
    if (!(qatomic_fetch_or(&bh->flags, flags | BH_LINKED) & BH_LINKED)) {
        if (local) {
            QSIMPLEQ_INSERT_TAIL(&ctx->bh, bh, next);
            ctx->nr_bh++;
        } else {
            QSLIST_INSERT_HEAD_ATOMIC(&ctx->remote_bh, bh, remote_next);
            wake_loop(ctx);
        }
    }
    if (!local) {
        aio_context_unref(ctx);
    }
}

QEMUBH *aio_bh_new(AioContext *ctx, QEMUBHFunc *cb, void *opaque)
{
    QEMUBH *bh = g_new0(QEMUBH, 1);

    bh->ctx = ctx;
    bh->cb = cb;
    bh->opaque = opaque;
    return bh;
}

void aio_bh_schedule_oneshot(AioContext *ctx, QEMUBHFunc *cb, void *opaque)
{
    bh_set_flags(aio_bh_new(ctx, cb, opaque), BH_SCHEDULED | BH_ONESHOT);
}

void qemu_bh_schedule(QEMUBH *bh)
{
    bh_set_flags(bh, BH_SCHEDULED);
}

void qemu_bh_cancel(QEMUBH *bh)
{
    qatomic_and(&bh->flags, ~BH_SCHEDULED);
}

void qemu_bh_delete(QEMUBH *bh)
{
    if (bh) {
        bh_set_flags(bh, BH_DELETED);
    }
}

/* Appends what other threads have pushed, oldest first. */
static void bh_collect(AioContext *ctx)
{
    QSLIST_HEAD(, QEMUBH) taken, ordered = QSLIST_HEAD_INITIALIZER(ordered);
    QEMUBH *bh;

    if (QSLIST_EMPTY_RCU(&ctx->remote_bh)) {
        return;
    }
    QSLIST_MOVE_ATOMIC(&taken, &ctx->remote_bh);
    while ((bh = QSLIST_FIRST(&taken))) {
        QSLIST_REMOVE_HEAD(&taken, remote_next);
        QSLIST_INSERT_HEAD(&ordered, bh, remote_next);
    }
    while ((bh = QSLIST_FIRST(&ordered))) {
        QSLIST_REMOVE_HEAD(&ordered, remote_next);
        QSIMPLEQ_INSERT_TAIL(&ctx->bh, bh, next);
        ctx->nr_bh++;
    }
}

/* True if the callback ran. */
static bool bh_run_one(AioContext *ctx)
{
    QEMUBH *bh = QSIMPLEQ_FIRST(&ctx->bh);
    QEMUBHFunc *cb = bh->cb;
    void *opaque = bh->opaque;
    unsigned flags;

    QSIMPLEQ_REMOVE_HEAD(&ctx->bh, next);
    ctx->nr_bh--;
    flags = qatomic_fetch_and(&bh->flags, ~(BH_LINKED | BH_SCHEDULED));
    if (flags & (BH_DELETED | BH_ONESHOT)) {
        g_free(bh);
    }
    if ((flags & BH_DELETED) || !(flags & BH_SCHEDULED)) {
        return false;
    }
    cb(opaque);
    return true;
}

static bool bh_run(AioContext *ctx)
{
    bool progress = false;
    unsigned n;

    bh_collect(ctx);
    for (n = ctx->nr_bh; n > 0 && ctx->nr_bh > 0; n--) {
        progress |= bh_run_one(ctx);
    }
    return progress;
}

/* At the end of the context: frees, and runs nothing. */
static void bh_free_deleted(AioContext *ctx)
{
    QEMUBH *bh;

    bh_collect(ctx);
    while ((bh = QSIMPLEQ_FIRST(&ctx->bh))) {
        QSIMPLEQ_REMOVE_HEAD(&ctx->bh, next);
        ctx->nr_bh--;
        /* One that should still run is a bug of its owner. */
        assert(!(bh->flags & BH_SCHEDULED) || (bh->flags & BH_DELETED));
        if (bh->flags & BH_DELETED) {
            g_free(bh);
        } else {
            qatomic_and(&bh->flags, ~BH_LINKED);
        }
    }
}

/* -------------------------------------------------------------- coroutines */

static void schedule(AioContext *ctx, Coroutine *co, const char *who)
{
    const char *before = qatomic_xchg(&co->scheduled, who);

    if (unlikely(before)) {
        fprintf(stderr, "%s: coroutine is scheduled already by %s\n", who,
                before);
        abort();
    }
    if (unlikely(!ctx)) {
        fprintf(stderr, "%s: coroutine has no AioContext to run in\n", who);
        abort();
    }
    if (qatomic_read(&co->ctx) != ctx) {
        qatomic_set(&co->ctx, ctx);
    }
    if (ctx == qemu_get_current_aio_context()) {
        QSIMPLEQ_INSERT_TAIL(&ctx->ready, co, ready_next);
        ctx->nr_ready++;
        return;
    }
    /* co may run, end, and take ctx with it as soon as it is pushed. */
    aio_context_ref(ctx);
    QSLIST_INSERT_HEAD_ATOMIC(&ctx->remote_ready, co, remote_next);
    wake_loop(ctx);
    aio_context_unref(ctx);
}

void aio_co_wake(Coroutine *co)
{
    schedule(qatomic_read(&co->ctx), co, __func__);
}

void aio_co_schedule(AioContext *ctx, Coroutine *co)
{
    schedule(ctx, co, __func__);
}

void aio_co_enter(AioContext *ctx, Coroutine *co)
{
    if (ctx == qemu_get_current_aio_context() && !qemu_in_coroutine()) {
        qemu_aio_coroutine_enter(ctx, co);
    } else {
        schedule(ctx, co, __func__);
    }
}

void coroutine_fn qemu_co_yield_to_loop(void)
{
    schedule(qemu_get_current_aio_context(), qemu_coroutine_self(), __func__);
    qemu_coroutine_yield();
}

void coroutine_fn aio_co_reschedule_self(AioContext *new_ctx)
{
    if (new_ctx != qemu_get_current_aio_context()) {
        /* Scheduling must wait until the other thread can enter us. */
        qemu_coroutine_self()->move_to = new_ctx;
        qemu_coroutine_yield();
    }
}

/* Appends what other threads have woken, in their order. */
static void ready_collect(AioContext *ctx)
{
    QSLIST_HEAD(, Coroutine) taken, ordered = QSLIST_HEAD_INITIALIZER(ordered);
    Coroutine *co;

    if (QSLIST_EMPTY_RCU(&ctx->remote_ready)) {
        return;
    }
    QSLIST_MOVE_ATOMIC(&taken, &ctx->remote_ready);
    while ((co = QSLIST_FIRST(&taken))) {
        QSLIST_REMOVE_HEAD(&taken, remote_next);
        QSLIST_INSERT_HEAD(&ordered, co, remote_next);
    }
    while ((co = QSLIST_FIRST(&ordered))) {
        QSLIST_REMOVE_HEAD(&ordered, remote_next);
        QSIMPLEQ_INSERT_TAIL(&ctx->ready, co, ready_next);
        ctx->nr_ready++;
    }
}

static bool ready_run(AioContext *ctx)
{
    unsigned n, done = 0;

    ready_collect(ctx);
    for (n = ctx->nr_ready; done < n && ctx->nr_ready > 0; done++) {
        Coroutine *co = QSIMPLEQ_FIRST(&ctx->ready);

        QSIMPLEQ_REMOVE_HEAD(&ctx->ready, ready_next);
        ctx->nr_ready--;
        qatomic_set(&co->scheduled, NULL);
        qemu_aio_coroutine_enter(ctx, co);
    }
    return done > 0;
}

/* ------------------------------------------------------------------- loop */

bool aio_work_is_ready(AioContext *ctx)
{
    return ctx->nr_ready > 0 || ctx->nr_bh > 0 ||
           ctx->nr_ready_handlers > 0 ||
           qatomic_load_seq_cst(&ctx->remote_ready.slh_first) ||
           qatomic_load_seq_cst(&ctx->remote_bh.slh_first);
}

/* How long the kernel may keep us; sets sleeping if that is not 0. */
static int64_t prepare_to_sleep(AioContext *ctx)
{
    int64_t timeout_ns;

    qatomic_xchg(&ctx->sleeping, true);
    timeout_ns = timer_group_timeout_ns(&ctx->timers);
    if (timeout_ns == 0 || qatomic_xchg(&ctx->notified, false) ||
        aio_work_is_ready(ctx) || aio_fd_collect_always(ctx)) {
        qatomic_set(&ctx->sleeping, false);
        return 0;
    }
    return timeout_ns;
}

/* Until there is something to do. */
static void wait_for_work(AioContext *ctx)
{
    bool spins = qatomic_read(&ctx->spin.max_ns);
    int64_t start_ns = spins ? get_clock() : 0, timeout_ns;

    if (spins && aio_spin(ctx, start_ns)) {
        return;
    }
    timeout_ns = prepare_to_sleep(ctx);
    ctx->backend->wait(ctx, timeout_ns);
    if (timeout_ns == 0) {
        return;
    }
    qatomic_set(&ctx->sleeping, false);
    /* Not a plain store: what the notifier did before is seen from here. */
    qatomic_xchg(&ctx->notified, false);
    if (spins) {
        aio_spin_adapt(ctx, start_ns);
    }
}

bool aio_poll(AioContext *ctx, bool blocking)
{
    bool progress;

    assert(ctx == qemu_get_current_aio_context() && !qemu_in_coroutine());

    progress = ready_run(ctx);
    progress |= bh_run(ctx);
#ifdef CONFIG_LINUX_AIO
    if (ctx->native) {
        /* Now, as it may make something ready. */
        aio_native_submit(ctx);
    }
#endif
    if (blocking && !progress) {
        wait_for_work(ctx);
    } else {
        aio_fd_collect_always(ctx);
        ctx->backend->wait(ctx, 0);
    }

    progress |= aio_fd_dispatch(ctx);
    progress |= timer_group_run(&ctx->timers);
    progress |= ready_run(ctx);
    progress |= bh_run(ctx);
    return progress;
}
