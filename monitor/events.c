/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events: taken from any thread, sent by the main thread to every client that
 * has negotiated.
 *
 * 1. Events of one thread are sent in the order in which they happened.
 * 2. A kind that is throttled is sent at most once a second for each value of
 *    its key: the first at once; of those that follow within the second, the last
 *    one at its end.
 */
#include "util/osdep.h"
#include "monitor-int.h"
#include "trace/monitor.h"
#include "util/aio.h"
#include "util/lockable.h"
#include "util/thread.h"

#define THROTTLE_NS (1000 * SCALE_MS)

/* On its way to the main thread: the message, complete with its time. */
typedef struct PendingEvent {
    const QapiEventInfo *info;
    QDict *message;
} PendingEvent;

/* A throttled kind that was sent less than a second ago. */
typedef struct Throttle {
    char *key;                  /* "EVENT" or "EVENT VALUE" */
    QDict *next;                /* to be sent at the end, or NULL */
    QEMUTimer *timer;
} Throttle;

static QemuMutex pending_lock;
static GQueue pending = G_QUEUE_INIT;   /* PendingEvent; pending_lock */
static QEMUBH *bh;

static GHashTable *throttles;           /* key -> Throttle; main thread */

static void broadcast(QDict *message)
{
    Monitor *mon;

    QTAILQ_FOREACH(mon, &monitors, next) {
        if (mon->open && mon->negotiated) {
            monitor_send(mon, message);
        }
    }
    qobject_unref(message);
}

/* --- throttling --- */

static void throttle_free(void *opaque)
{
    Throttle *t = opaque;

    timer_free(t->timer);
    qobject_unref(t->next);
    g_free(t->key);
    g_free(t);
}

static void throttle_restart(Throttle *t)
{
    timer_mod_ns(t->timer,
                 qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + THROTTLE_NS);
}

static void throttle_expired(void *opaque)
{
    Throttle *t = opaque;

    if (!t->next) {
        g_hash_table_remove(throttles, t->key);
        return;
    }
    broadcast(g_steal_pointer(&t->next));
    throttle_restart(t);
}

static char *throttle_key(const QapiEventInfo *info, QDict *message)
{
    QDict *data = qdict_get_qdict(message, "data");
    const char *value = info->throttle_key && data
                        ? qdict_get_try_str(data, info->throttle_key) : NULL;

    return value ? g_strdup_printf("%s %s", info->name, value)
                 : g_strdup(info->name);
}

static void deliver(const QapiEventInfo *info, QDict *message)
{
    g_autofree char *key = NULL;
    Throttle *t;

    if (!info->throttled) {
        broadcast(message);
        return;
    }
    key = throttle_key(info, message);
    t = g_hash_table_lookup(throttles, key);
    if (t) {
        trace_monitor_event(info->name, "held back");
        qobject_unref(t->next);
        t->next = message;
        return;
    }
    t = g_new0(Throttle, 1);
    t->key = g_steal_pointer(&key);
    t->timer = timer_new_ns(QEMU_CLOCK_REALTIME, throttle_expired, t);
    g_hash_table_insert(throttles, t->key, t);
    broadcast(message);
    throttle_restart(t);
}

/* --- from other threads --- */

static PendingEvent *next_pending(void)
{
    QEMU_LOCK_GUARD(&pending_lock);
    return g_queue_pop_head(&pending);
}

static void deliver_pending(void *opaque)
{
    PendingEvent *event;

    while ((event = next_pending())) {
        deliver(event->info, event->message);
        g_free(event);
    }
}

static void add_timestamp(QDict *message)
{
    QDict *stamp = qdict_new();
    int64_t now = g_get_real_time();

    qdict_put_int(stamp, "seconds", now / G_USEC_PER_SEC);
    qdict_put_int(stamp, "microseconds", now % G_USEC_PER_SEC);
    qdict_put_obj(message, "timestamp", QOBJECT(stamp));
}

static void emit(const QapiEventInfo *info, QDict *data)
{
    PendingEvent *event = g_new(PendingEvent, 1);

    trace_monitor_event(info->name, "happened");
    event->info = info;
    event->message = qdict_new();
    add_timestamp(event->message);
    qdict_put_str(event->message, "event", info->name);
    if (data) {
        qdict_put_obj(event->message, "data", QOBJECT(data));
    }
    WITH_QEMU_LOCK_GUARD(&pending_lock) {
        g_queue_push_tail(&pending, event);
    }
    qemu_bh_schedule(bh);
}

void monitor_events_init(void)
{
    qemu_mutex_init(&pending_lock);
    throttles = g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
                                      throttle_free);
    bh = aio_bh_new(qemu_get_aio_context(), deliver_pending, NULL);
    qapi_event_set_emitter(emit);
}

void monitor_events_cleanup(void)
{
    qapi_event_set_emitter(NULL);
    /* Those of the end of nodes and jobs still get out. */
    deliver_pending(NULL);
    qemu_bh_delete(bh);
    g_hash_table_destroy(throttles);
    qemu_mutex_destroy(&pending_lock);
}
