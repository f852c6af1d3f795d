/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Monitors: clients come and go, their requests are queued, run in turn, and
 * answered.
 *
 *   bytes -> parser -> queue of the monitor -> dispatcher (main work) -> answer
 *
 * 1. Requests of one monitor are run and answered in order, but for those out
 *    of band. Monitors take turns.
 * 2. At most one in-band command runs in the program, and no other main work
 *    (util/main-work.h) meanwhile. A command may poll the event loop, so input
 *    arrives while one runs: it only queues.
 * 3. An answer goes to the client that asked: a session number tells whether
 *    it still is the one that is there.
 */
#include "util/osdep.h"
#include "monitor-int.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-output-visitor.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "trace/monitor.h"
#include "util/aio.h"
#include "util/fdset.h"
#include "util/main-work.h"

MonitorList monitors = QTAILQ_HEAD_INITIALIZER(monitors);

static const QmpCommand *commands;
/* A command runs, possibly in a coroutine that has yielded. */
static bool dispatching;
static Monitor *current;
static GArray *current_fds;     /* borrowed: came with its request, or NULL */

const QmpCommand *monitor_commands(void)
{
    return commands;
}

Monitor *monitor_cur(void)
{
    return current;
}

int monitor_take_fd(Error **errp)
{
    int fd = monitor_fds_take(current_fds);

    if (fd < 0) {
        error_setg(errp, "No file descriptor supplied via SCM_RIGHTS");
    }
    return fd;
}

/* --- output --- */

void monitor_send(Monitor *mon, QDict *dict)
{
    GString *text = qobject_to_json_pretty(QOBJECT(dict), mon->pretty);

    g_string_append(text, "\r\n");
    trace_monitor_send(mon, text->len);
    chardev_write(mon->chr, text->str, text->len);
    g_string_free(text, TRUE);
    if (chardev_pending(mon->chr) > MONITOR_OUTPUT_MAX) {
        trace_monitor_cut(mon, chardev_pending(mon->chr));
        chardev_abort(mon->chr);
    }
}

static void send_greeting(Monitor *mon)
{
    g_autoptr(VersionInfo) version = monitor_version();
    QDict *qmp = qdict_new();
    QDict *dict = qdict_new();
    QList *capabilities = qlist_new();
    QObject *obj;
    Visitor *v = qobject_output_visitor_new(&obj);

    visit_type_VersionInfo(v, NULL, &version, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    qlist_append_str(capabilities, QMPCapability_str(QMP_CAPABILITY_OOB));
    qdict_put_obj(qmp, "version", obj);
    qdict_put_obj(qmp, "capabilities", QOBJECT(capabilities));
    qdict_put_obj(dict, "QMP", QOBJECT(qmp));
    monitor_send(mon, dict);
    qobject_unref(dict);
}

/* --- requests --- */

static void input_free(void *opaque)
{
    MonitorInput *in = opaque;

    qobject_unref(in->value);
    error_free(in->err);
    monitor_fds_free(in->fds);
    g_free(in);
}

bool monitor_negotiate(Monitor *mon, QMPCapabilityList *enable, Error **errp)
{
    bool oob = false;

    for (; enable; enable = enable->next) {
        oob |= enable->value == QMP_CAPABILITY_OOB;
    }
    mon->oob_enabled = oob;
    mon->negotiated = true;
    return true;
}

/* What may be called depends on the state of the negotiation. */
static void check_negotiation(Monitor *mon, QmpRequest *req)
{
    bool is_cap = req->command &&
                  !strcmp(req->command->name, "qmp_capabilities");
    const char *msg;

    if (req->err &&
        error_get_class(req->err) != ERROR_CLASS_COMMAND_NOT_FOUND) {
        return;
    }
    if (!mon->negotiated && !is_cap) {
        msg = "Expecting capabilities negotiation with 'qmp_capabilities'";
    } else if (mon->negotiated && is_cap) {
        msg = "Capabilities negotiation is already complete, command ignored";
    } else {
        return;
    }
    error_free(req->err);
    req->err = NULL;
    error_set(&req->err, ERROR_CLASS_COMMAND_NOT_FOUND, "%s", msg);
}

static QmpRequest *make_request(Monitor *mon, MonitorInput *in)
{
    QmpRequest *req = qmp_request_new(commands, in->value,
                                      g_steal_pointer(&in->err),
                                      mon->oob_enabled);
    check_negotiation(mon, req);
    trace_monitor_request(mon, req->command ? req->command->name : "-",
                          req->oob, req->err ? error_get_pretty(req->err)
                                             : "");
    return req;
}

/* --- running them --- */

static bool may_take_more(Monitor *mon)
{
    unsigned max = mon->oob_enabled ? MONITOR_QUEUE_MAX : 1;

    return mon->queue.length + mon->running < max &&
           chardev_pending(mon->chr) <= MONITOR_OUTPUT_PAUSE;
}

/* A client that has closed its side leaves when it was answered. */
static void finish_if_idle(Monitor *mon)
{
    if (mon->open && mon->input_ended && !mon->queue.length &&
        !mon->running) {
        chardev_disconnect(mon->chr);
    }
}

static void command_done(Monitor *mon, unsigned session, QDict *rsp)
{
    dispatching = false;
    if (mon->session == session && mon->open) {
        mon->running = false;
        monitor_send(mon, rsp);
        chardev_accept_input(mon->chr);
        finish_if_idle(mon);
    }
    qobject_unref(rsp);
}

typedef struct CommandCo {
    Monitor *mon;
    unsigned session;
    QmpRequest *req;
} CommandCo;

static void coroutine_fn command_co(void *opaque)
{
    CommandCo c = *(CommandCo *)opaque;
    QDict *rsp;

    g_free(opaque);
    rsp = qmp_request_run(c.req);
    qmp_request_free(c.req);
    command_done(c.mon, c.session, rsp);
    main_work_release();
}

static void run_request(Monitor *mon, QmpRequest *req)
{
    unsigned session = mon->session;
    CommandCo *c;
    QDict *rsp;

    dispatching = true;
    mon->running = true;
    current = mon;
    if (!req->err && (req->command->options & QCO_COROUTINE)) {
        c = g_new(CommandCo, 1);
        *c = (CommandCo) { mon, session, req };
        main_work_hold();
        qemu_coroutine_enter(qemu_coroutine_create(command_co, c));
        current = NULL;
        return;
    }
    rsp = qmp_request_run(req);
    qmp_request_free(req);
    current = NULL;
    command_done(mon, session, rsp);
}

/* The next monitor with something to do; it goes to the end of the line. */
static Monitor *next_in_turn(void)
{
    Monitor *mon;

    QTAILQ_FOREACH(mon, &monitors, next) {
        if (mon->queue.length) {
            QTAILQ_REMOVE(&monitors, mon, next);
            QTAILQ_INSERT_TAIL(&monitors, mon, next);
            return mon;
        }
    }
    return NULL;
}

/* Once for every request that was queued. */
static void dispatcher(void *opaque)
{
    MonitorInput *in;
    Monitor *mon;

    mon = next_in_turn();
    if (!mon) {
        return;
    }
    in = g_queue_pop_head(&mon->queue);
    current_fds = in->fds;
    run_request(mon, make_request(mon, in));
    current_fds = NULL;
    input_free(in);
}

static bool is_oob(Monitor *mon, QObject *value)
{
    QDict *dict = qobject_to(QDict, value);

    return mon->oob_enabled && dict && qdict_haskey(dict, "exec-oob");
}

static void run_oob(Monitor *mon, MonitorInput *in)
{
    g_autoptr(QmpRequest) req = make_request(mon, in);
    Monitor *outer = current;
    GArray *outer_fds = current_fds;
    QDict *rsp;

    current = mon;
    current_fds = in->fds;
    rsp = qmp_request_run(req);
    current = outer;
    current_fds = outer_fds;
    monitor_send(mon, rsp);
    qobject_unref(rsp);
}

/* --- input --- */

static void value_arrived(void *opaque, QObject *json, Error *err)
{
    Monitor *mon = opaque;
    MonitorInput *in = g_new(MonitorInput, 1);

    *in = (MonitorInput) { json, err, g_steal_pointer(&mon->pending_fds) };
    mon->nr_values++;
    mon->last_input = NULL;
    if (is_oob(mon, json)) {
        run_oob(mon, in);
        input_free(in);
        return;
    }
    mon->last_input = in;
    g_queue_push_tail(&mon->queue, in);
    main_work_schedule(dispatcher, NULL);
}

static size_t monitor_can_read(void *opaque)
{
    Monitor *mon = opaque;

    return may_take_more(mon) ? SIZE_MAX : 0;
}

static void monitor_fds(void *opaque, const int *fds, size_t n)
{
    Monitor *mon = opaque;

    monitor_fds_add(&mon->read_fds, fds, n);
}

/*
 * Descriptors came with the last message in what was just read: they belong to the
 * request that it ends with, or begins. So a request never gets those of another
 * one, whatever the client does with its messages.
 */
static void assign_fds(Monitor *mon)
{
    GArray *fds = g_steal_pointer(&mon->read_fds);
    bool begins = !mon->nr_values ||
                  json_message_parser_in_value(&mon->parser);

    if (fds && (begins || mon->last_input)) {
        monitor_fds_add(begins ? &mon->pending_fds : &mon->last_input->fds,
                        (const int *)fds->data, fds->len);
        g_array_set_clear_func(fds, NULL);
    }
    monitor_fds_free(fds);
}

static void monitor_read(void *opaque, const char *buf, size_t len)
{
    Monitor *mon = opaque;

    mon->nr_values = 0;
    json_message_parser_feed(&mon->parser, buf, len);
    assign_fds(mon);
    chardev_accept_input(mon->chr);
}

/* --- clients --- */

static void monitor_opened(void *opaque)
{
    Monitor *mon = opaque;

    mon->open = true;
    mon->session++;
    mon->negotiated = mon->oob_enabled = false;
    mon->input_ended = mon->running = false;
    json_message_parser_init(&mon->parser, value_arrived, mon, NULL);
    trace_monitor_open(mon, chardev_id(mon->chr));
    send_greeting(mon);
}

static void monitor_input_ended(void *opaque)
{
    Monitor *mon = opaque;

    mon->input_ended = true;
    json_message_parser_flush(&mon->parser);
    finish_if_idle(mon);
}

static bool any_client(void)
{
    Monitor *mon;

    QTAILQ_FOREACH(mon, &monitors, next) {
        if (mon->open) {
            return true;
        }
    }
    return false;
}

static void monitor_closed(void *opaque)
{
    Monitor *mon = opaque;

    trace_monitor_closed(mon, mon->queue.length);
    mon->open = mon->running = false;
    g_queue_clear_full(&mon->queue, input_free);
    monitor_fds_free(g_steal_pointer(&mon->pending_fds));
    json_message_parser_destroy(&mon->parser);
    if (!any_client()) {
        fdset_remove_unused();
    }
}

static const ChardevFrontend monitor_frontend = {
    .opened = monitor_opened,
    .input_ended = monitor_input_ended,
    .closed = monitor_closed,
    .can_read = monitor_can_read,
    .read = monitor_read,
    .fds = monitor_fds,
};

bool monitor_new(const MonitorOptions *options, Error **errp)
{
    Chardev *chr = chardev_find(options->chardev);
    Monitor *mon;

    if (!chr) {
        error_setg(errp, "chardev \"%s\" not found", options->chardev);
        return false;
    }
    mon = g_new0(Monitor, 1);
    mon->chr = chr;
    mon->pretty = options->has_pretty && options->pretty;
    g_queue_init(&mon->queue);
    if (!chardev_attach(chr, &monitor_frontend, mon, errp)) {
        g_free(mon);
        return false;
    }
    QTAILQ_INSERT_TAIL(&monitors, mon, next);
    return true;
}

static void monitor_free(Monitor *mon)
{
    QTAILQ_REMOVE(&monitors, mon, next);
    chardev_detach(mon->chr);
    if (mon->open) {
        monitor_closed(mon);
    }
    if (mon->named_fds) {
        g_hash_table_unref(mon->named_fds);
    }
    g_free(mon);
}

void monitor_init(const QmpCommand *table)
{
    assert(qmp_find_command(table, "qmp_capabilities"));
    commands = table;
    monitor_events_init();
}

void monitor_cleanup(void)
{
    Monitor *mon;

    AIO_WAIT_WHILE(NULL, dispatching);
    monitor_events_cleanup();
    while ((mon = QTAILQ_FIRST(&monitors))) {
        monitor_free(mon);
    }
}
