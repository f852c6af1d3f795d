/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connections of a node.
 *
 * There is one from open on. Requests take the one with the fewest of them, their
 * own thread's if that makes no difference; when all are crowded and the server
 * says that connections are alike (NBD_FLAG_CAN_MULTI_CONN), one more is made.
 *
 * A connection that breaks leaves the table; the requests on it find out. While
 * there is none, a coroutine in the main thread tries to get one, for as long as
 * somebody waits:
 *
 *   reconnect-delay   requests wait, and are sent again if they were under way, for
 *                     that long after the loss
 *   later, or 0       a request waits for the attempt that is being made or that it
 *                     causes, but not longer than ATTEMPT_NS
 *   drained           as before, but not longer than DRAINED_NS
 *   hurried           the same, for those that wait already; and a server that is
 *                     silent loses its connections (nbd_conn_is_stuck())
 *
 * Attempts that fail are followed by pauses that grow. A server that comes back
 * with another export than before (another length above all) is refused.
 */
#include "util/osdep.h"
#include "block/net/nbd-client.h"
#include "sockets/sockets.h"
#include "trace/block.h"
#include "util/aio.h"
#include "util/lockable.h"

#define ATTEMPT_NS NANOSECONDS_PER_SECOND
#define DRAINED_NS (5 * NANOSECONDS_PER_SECOND)
#define FIRST_PAUSE_NS (250LL * SCALE_MS)
#define MAX_PAUSE_NS (16 * NANOSECONDS_PER_SECOND)
/* For how long it counts that a server was silent. */
#define GRUDGE_NS (60 * NANOSECONDS_PER_SECOND)

/* --- getting a connection; main thread --- */

/* Whether requests that were made for @p->info can go to the export of @c. */
static bool is_same_export(const NBDPool *p, const NBDConn *c, Error **errp)
{
    const NBDExportInfo *old = &p->info, *new = &c->info;
    uint16_t lost = old->flags & ~new->flags;

    if (new->size != old->size) {
        error_setg(errp, "The export's size has changed from %" PRIu64 " to %"
                   PRIu64, old->size, new->size);
        return false;
    }
    if ((lost & ~(NBD_FLAG_READ_ONLY | NBD_FLAG_CAN_MULTI_CONN |
                  NBD_FLAG_SEND_DF | NBD_FLAG_ROTATIONAL |
                  NBD_FLAG_BLOCK_STATUS_PAYLOAD)) ||
        (new->flags & ~old->flags & NBD_FLAG_READ_ONLY)) {
        error_setg(errp, "The export's flags have changed from %#x to %#x",
                   old->flags, new->flags);
        return false;
    }
    if (new->min_block > MAX(old->min_block, 1) ||
        (new->max_block && new->max_block < NBD_MAX_BUFFER_SIZE &&
         (!old->max_block || new->max_block < old->max_block)) ||
        (old->style == NBD_STYLE_EXTENDED &&
         new->style != NBD_STYLE_EXTENDED) ||
        old->has_context != new->has_context) {
        error_setg(errp, "The export has tighter limits than before");
        return false;
    }
    return true;
}

static int64_t pause_ns(unsigned failures)
{
    return MIN(FIRST_PAUSE_NS << MIN(failures, 10), MAX_PAUSE_NS);
}

static void add_conn(NBDPool *p, NBDConn *c)
{
    QEMU_LOCK_GUARD(&p->lock);
    p->conns[p->nr_conns++] = c;
    p->failures = 0;
    trace_nbd_connected(p, p->nr_conns, c->info.size, c->info.flags);
    qemu_co_queue_restart_all(&p->waiters);
}

static bool coroutine_fn attempt(NBDPool *p, Error **errp)
{
    NBDConn *c;

    WITH_QEMU_LOCK_GUARD(&p->lock) {
        p->attempting = true;
        p->attempt_ns = get_clock();
    }
    c = nbd_connect(&p->attempt, p->options,
                    p->creds ? user_object_data(p->creds) : NULL, errp);
    if (c && p->open_until_ns) {
        p->info = c->info;
    } else if (c && !is_same_export(p, c, errp)) {
        nbd_conn_free(c, true);
        c = NULL;
    }
    WITH_QEMU_LOCK_GUARD(&p->lock) {
        p->attempting = false;
        if (!c) {
            p->pause_until_ns = get_clock() + pause_ns(p->failures++);
            /* They may have waited for this. */
            qemu_co_queue_restart_all(&p->waiters);
        }
    }
    if (c) {
        add_conn(p, c);
    }
    return c;
}

/* False: nothing to wait for. */
static bool coroutine_fn make_pause(NBDPool *p)
{
    int64_t now = get_clock(), until;

    qemu_mutex_lock(&p->lock);
    until = p->pause_until_ns;
    qemu_mutex_unlock(&p->lock);
    if (p->open_until_ns && until > p->open_until_ns) {
        return false;
    }
    if (until > now && !p->closing) {
        qemu_co_sleep_ns_wakeable(&p->pause, QEMU_CLOCK_REALTIME, until - now);
    }
    return !p->closing;
}

/* Ends the coroutine unless it is still of use. */
static bool may_stop(NBDPool *p)
{
    QEMU_LOCK_GUARD(&p->lock);
    if (!p->closing && !p->nr_conns &&
        (p->open_until_ns || !qemu_co_queue_empty(&p->waiters))) {
        return false;
    }
    p->connecting = false;
    return true;
}

static void coroutine_fn connector(void *opaque)
{
    NBDPool *p = opaque;

    do {
        if (make_pause(p)) {
            Error *err = NULL;

            if (!attempt(p, &err)) {
                trace_nbd_connect_failed(p, error_get_pretty(err));
                error_free(p->open_error);
                p->open_error = err;
            }
        } else if (!p->closing) {
            p->open_until_ns = 0;
        }
    } while (!may_stop(p));
    aio_wait_kick();
}

/* Under the lock. */
static void start_connector(NBDPool *p)
{
    p->connecting = true;
    aio_co_schedule(qemu_get_aio_context(),
                    qemu_coroutine_create(connector, p));
}

/* --- waiting for one --- */

/* Waiters look at the time. */
static void time_is_up(void *opaque)
{
    NBDPool *p = opaque;

    QEMU_LOCK_GUARD(&p->lock);
    qemu_co_queue_restart_all(&p->waiters);
}

/* A server that does not answer, as somebody in a hurry has found. Under the
 * lock. */
static bool was_silent(const NBDPool *p)
{
    return p->silent_ns && get_clock() - p->silent_ns < GRUDGE_NS;
}

/* Until when @req waits. Under the lock. */
static int64_t patience(const NBDPool *p, const NBDClientRequest *req)
{
    /* One that loses connection after connection comes to an end, too. */
    int64_t until = (req->lost_ns ?: p->lost_ns) + p->delay_ns;

    if (!req->lost_ns && p->connecting &&
        (p->attempting || p->pause_until_ns <= get_clock())) {
        until = MAX(until, MAX(p->attempt_ns, p->lost_ns) + ATTEMPT_NS);
    }
    if (p->drained_ns) {
        until = MIN(until, p->drained_ns + DRAINED_NS);
    }
    if (req->hurry_ns) {
        until = MIN(until, req->hurry_ns + (was_silent(p) ? 0 : DRAINED_NS));
    }
    return until;
}

/* False if @req must not wait any longer. Under the lock. */
static bool coroutine_fn wait_for_conn(NBDPool *p, NBDClientRequest *req)
{
    int64_t now = get_clock(), until;

    if (!p->connecting && (p->delay_ns || now >= p->pause_until_ns)) {
        p->attempt_ns = now;
        start_connector(p);
    }
    req->wait_ns = req->wait_ns ?: now;
    if (!req->hurry_ns && p->hurry_ns >= req->wait_ns) {
        req->hurry_ns = p->hurry_ns;
    }
    until = patience(p, req);
    if (!p->connecting || now >= until) {
        return false;
    }
    timer_mod_anticipate_ns(&p->timer, until);
    qemu_co_queue_wait(&p->waiters, &p->lock);
    return true;
}

/* --- choosing one --- */

/* Fewer is better, but it is not worth a thread's way. Under the lock. */
static unsigned load(const NBDConn *c)
{
    return c->refs / NBD_CLIENT_CROWD * 2 +
           (c->ctx != qemu_get_current_aio_context());
}

static NBDConn *best_conn(const NBDPool *p)
{
    NBDConn *best = NULL;

    for (unsigned i = 0; i < p->nr_conns; i++) {
        if (!best || load(p->conns[i]) < load(best)) {
            best = p->conns[i];
        }
    }
    return best;
}

/* One more would be of use. Under the lock. */
static bool is_crowded(const NBDPool *p, const NBDConn *best)
{
    return (p->info.flags & NBD_FLAG_CAN_MULTI_CONN) &&
           p->nr_conns < NBD_CLIENT_MAX_CONNS &&
           best->refs > NBD_CLIENT_CROWD && !p->connecting &&
           !p->drained_ns && get_clock() >= p->pause_until_ns;
}

/* A reference, or NULL if there is none to be had. */
static NBDConn *coroutine_fn get_conn(NBDPool *p, NBDClientRequest *req)
{
    NBDConn *c;

    QEMU_LOCK_GUARD(&p->lock);
    while (!p->nr_conns) {
        if (!wait_for_conn(p, req)) {
            return NULL;
        }
    }
    c = best_conn(p);
    c->refs++;
    c->ctx = qemu_get_current_aio_context();
    if (is_crowded(p, c)) {
        start_connector(p);
    }
    return c;
}

static void remove_conn(NBDPool *p, NBDConn *c)
{
    for (unsigned i = 0; i < p->nr_conns; i++) {
        if (p->conns[i] == c) {
            p->conns[i] = p->conns[--p->nr_conns];
            c->refs--;
            trace_nbd_lost(p, p->nr_conns);
            if (!p->nr_conns) {
                p->lost_ns = get_clock();
                /* One that comes and goes does so at intervals. */
                p->pause_until_ns = MAX(p->pause_until_ns,
                                        c->since_ns + FIRST_PAUSE_NS);
            }
            return;
        }
    }
}

static void put_conn(NBDPool *p, NBDConn *c, bool broken)
{
    bool last;

    qemu_mutex_lock(&p->lock);
    if (broken) {
        remove_conn(p, c);
    }
    last = !--c->refs;
    qemu_mutex_unlock(&p->lock);
    if (last) {
        nbd_conn_free(c, false);
    }
}

int coroutine_fn nbd_pool_request(NBDPool *p, NBDClientRequest *req)
{
    req->lost_ns = req->wait_ns = req->hurry_ns = 0;
    for (;;) {
        NBDConn *c = get_conn(p, req);
        int ret;

        if (!c) {
            return -EIO;
        }
        ret = nbd_conn_request(c, req);
        put_conn(p, c, ret < 0);
        if (ret >= 0) {
            return req->ret;
        }
        if (ret != -ESHUTDOWN) {
            if (!p->delay_ns) {
                return -EIO;
            }
            req->lost_ns = req->lost_ns ?: get_clock();
        }
    }
}

/* --- life --- */

static void init(NBDPool *p, const BlockdevOptionsNbd *o)
{
    p->options = o;
    p->delay_ns = o->has_reconnect_delay
                  ? o->reconnect_delay * NANOSECONDS_PER_SECOND : 0;
    qemu_mutex_init(&p->lock);
    qemu_co_queue_init(&p->waiters);
    aio_timer_init(qemu_get_aio_context(), &p->timer, QEMU_CLOCK_REALTIME,
                   SCALE_NS, time_is_up, p);
}

static bool is_connecting(NBDPool *p)
{
    QEMU_LOCK_GUARD(&p->lock);
    return p->connecting;
}

bool nbd_pool_open(NBDPool *p, BlockdevOptionsNbd *o, Error **errp)
{
    bool ok;

    if (o->tls_creds) {
        p->creds = tls_creds_use(o->tls_creds, false, errp);
        if (!p->creds) {
            return false;
        }
    }
    /* From here on it is the attempt's to close. */
    if (!socket_address_take_fd(o->server, errp)) {
        user_object_unuse(p->creds);
        return false;
    }
    init(p, o);
    p->open_until_ns = get_clock() + 1 +
                       (o->has_open_timeout ? o->open_timeout : 0) *
                       NANOSECONDS_PER_SECOND;
    WITH_QEMU_LOCK_GUARD(&p->lock) {
        start_connector(p);
    }
    AIO_WAIT_WHILE(NULL, is_connecting(p));
    p->open_until_ns = 0;
    ok = p->nr_conns;
    if (!ok) {
        error_propagate(errp, g_steal_pointer(&p->open_error));
        timer_del(&p->timer);
        qemu_mutex_destroy(&p->lock);
        user_object_unuse(p->creds);
    }
    error_free(g_steal_pointer(&p->open_error));
    return ok;
}

void nbd_pool_close(NBDPool *p)
{
    p->closing = true;
    nbd_connect_cancel(&p->attempt);
    qemu_co_sleep_wake(&p->pause);
    AIO_WAIT_WHILE(NULL, is_connecting(p));
    timer_del(&p->timer);
    for (unsigned i = 0; i < p->nr_conns; i++) {
        assert(p->conns[i]->refs == 1);
        nbd_conn_free(p->conns[i], true);
    }
    error_free(p->open_error);
    qemu_mutex_destroy(&p->lock);
    user_object_unuse(p->creds);
}

void nbd_pool_drained_begin(NBDPool *p)
{
    QEMU_LOCK_GUARD(&p->lock);
    p->drained_ns = get_clock();
    qemu_co_queue_restart_all(&p->waiters);
}

void nbd_pool_drained_end(NBDPool *p)
{
    QEMU_LOCK_GUARD(&p->lock);
    p->drained_ns = 0;
}

/* Under the lock. */
static void give_up_silent_server(NBDPool *p, int64_t now)
{
    bool impatient = was_silent(p);
    bool stuck = false;

    for (unsigned i = 0; i < p->nr_conns; i++) {
        stuck |= nbd_conn_is_stuck(p->conns[i], impatient);
    }
    if (!stuck) {
        return;
    }
    trace_nbd_silent(p, p->nr_conns);
    p->silent_ns = now;
    /* All are to the same server. Requests on them remove them from the table. */
    for (unsigned i = 0; i < p->nr_conns; i++) {
        nbd_conn_break(p->conns[i]);
    }
}

void nbd_pool_hurry(NBDPool *p)
{
    QEMU_LOCK_GUARD(&p->lock);
    p->hurry_ns = get_clock();
    if (!p->open_until_ns) {
        give_up_silent_server(p, p->hurry_ns);
    } else if (!p->nr_conns) {
        p->open_until_ns = 1;
        nbd_connect_cancel(&p->attempt);
        qemu_co_sleep_wake(&p->pause);
    }
    qemu_co_queue_restart_all(&p->waiters);
}
