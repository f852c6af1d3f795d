/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Marshalling, dispatching and monitors, with a schema of their own
 * (qmp-test-schema.json). Both ends of the socket are in this process: the
 * client polls the main loop while it waits.
 */
#include "util/osdep.h"
#include <signal.h>
#include "chardev/char.h"
#include "monitor/monitor.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "sockets/sockets.h"
#include "test-qapi-commands.h"
#include "test-qapi-events.h"
#include "test-qapi-introspect.h"
#include "util/aio.h"
#include "util/thread.h"

static bool flag;

/* --- the commands --- */

VersionInfo *monitor_version(void)
{
    VersionInfo *info = g_new0(VersionInfo, 1);

    info->qemu = g_new0(VersionTriple, 1);
    info->qemu->major = 1;
    info->package = g_strdup("test");
    return info;
}

void qmp_qmp_capabilities(QDict *args, QObject **ret, Error **errp)
{
    QMPCapabilityList oob = { .value = QMP_CAPABILITY_OOB };

    monitor_negotiate(monitor_cur(), qdict_haskey(args, "enable") ? &oob : NULL,
                      errp);
}

int64_t qmp_add(int64_t a, bool has_b, int64_t b, Error **errp)
{
    return a + (has_b ? b : 100);
}

PointList *qmp_move(Point *arg, Error **errp)
{
    PointList *list = NULL;

    for (int i = 0; i < 2; i++) {
        Point *p = g_new0(Point, 1);

        p->x = arg->x + i;
        p->has_y = arg->has_y;
        p->y = arg->y;
        QAPI_LIST_PREPEND(list, p);
    }
    return list;
}

char *qmp_greet(const char *name, Error **errp)
{
    return g_strdup_printf("hello %s", name ?: "stranger");
}

void qmp_fail(Error **errp)
{
    error_set(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "no such thing");
}

void qmp_wait_flag(Error **errp)
{
    AIO_WAIT_WHILE(NULL, !flag);
    flag = false;
}

void qmp_set_flag(Error **errp)
{
    flag = true;
}

void coroutine_fn qmp_nap(int64_t ms, Error **errp)
{
    qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, ms * SCALE_MS);
}

/* --- requests without a connection --- */

/* The answer as text with sorted members' order of QEMU: compare as values. */
static void check_dispatch(const char *request, bool oob, const char *expected)
{
    g_autoptr(QObject) value = qobject_from_json(request, &error_abort);
    g_autoptr(QObject) want = qobject_from_json(expected, &error_abort);
    g_autoptr(QmpRequest) req = qmp_request_new(test_qmp_commands, value, NULL,
                                                oob);
    QDict *rsp = qmp_request_run(req);

    if (!qobject_is_equal(QOBJECT(rsp), want)) {
        GString *text = qobject_to_json(QOBJECT(rsp));

        g_test_message("%s gives %s, not %s", request, text->str, expected);
        g_test_fail();
        g_string_free(text, TRUE);
    }
    qobject_unref(rsp);
}

#define GENERIC(desc) \
    "{'error': {'class': 'GenericError', 'desc': \"" desc "\"}}"

static void test_marshalling(void)
{
    check_dispatch("{'execute': 'add', 'arguments': {'a': 1}}", false,
                   "{'return': 101}");
    check_dispatch("{'execute': 'add', 'arguments': {'a': 1, 'b': 2},"
                   " 'id': [7]}", false, "{'return': 3, 'id': [7]}");
    check_dispatch("{'execute': 'move', 'arguments': {'x': 5, 'y': 6}}", false,
                   "{'return': [{'x': 6, 'y': 6}, {'x': 5, 'y': 6}]}");
    check_dispatch("{'execute': 'greet'}", false,
                   "{'return': 'hello stranger'}");
    check_dispatch("{'execute': 'greet', 'arguments': {'name': 'you'}}", false,
                   "{'return': 'hello you'}");
    check_dispatch("{'execute': 'set-flag'}", false, "{'return': {}}");
    check_dispatch("{'execute': 'fail', 'id': null}", false,
                   "{'error': {'class': 'DeviceNotFound',"
                   " 'desc': 'no such thing'}, 'id': null}");
    flag = false;
}

static void test_bad_requests(void)
{
    check_dispatch("{'execute': 'add'}", false,
                   GENERIC("Parameter 'a' is missing"));
    check_dispatch("{'execute': 'add', 'arguments': {'a': 1, 'c': 1}}", false,
                   GENERIC("Parameter 'c' is unexpected"));
    check_dispatch("{'execute': 'add', 'arguments': {'a': 'x'}}", false,
                   GENERIC("Invalid parameter type for 'a', expected: "
                           "integer"));
    check_dispatch("{'execute': 'move', 'arguments': {'y': 1}}", false,
                   GENERIC("Parameter 'x' is missing"));
    check_dispatch("{'execute': 'fail', 'arguments': {'x': 1}}", false,
                   GENERIC("Parameter 'x' is unexpected"));
    check_dispatch("{'execute': 'none'}", false,
                   "{'error': {'class': 'CommandNotFound',"
                   " 'desc': 'The command none has not been found'}}");
    check_dispatch("{'id': 3}", false,
                   "{'id': 3, 'error': {'class': 'GenericError',"
                   " 'desc': \"QMP input lacks member 'execute'\"}}");
}

static void test_out_of_band(void)
{
    check_dispatch("{'exec-oob': 'set-flag'}", false,
                   GENERIC("QMP input member 'exec-oob' is unexpected"));
    check_dispatch("{'exec-oob': 'set-flag'}", true, "{'return': {}}");
    check_dispatch("{'exec-oob': 'fail'}", true,
                   GENERIC("The command fail does not support OOB"));
    flag = false;
}

static void test_introspection(void)
{
    g_autoptr(QObject) schema = qobject_from_json(test_qmp_schema_json,
                                                  &error_abort);
    const QListEntry *e;
    unsigned oob = 0, events = 0;

    for (e = qlist_first(qobject_to(QList, schema)); e; e = qlist_next(e)) {
        QDict *entity = qobject_to(QDict, qlist_entry_obj(e));

        if (qdict_get_try_bool(entity, "allow-oob", false)) {
            g_assert_cmpstr(qdict_get_str(entity, "name"), ==, "set-flag");
            oob++;
        }
        events += !strcmp(qdict_get_str(entity, "meta-type"), "event");
    }
    g_assert_cmpint(oob, ==, 1);
    g_assert_cmpint(events, ==, 3);
}

/* --- clients --- */

typedef struct Client {
    int fd;
    GString *in;
} Client;

static char *socket_path;

static void client_open(Client *c)
{
    SocketAddress addr = {
        .type = SOCKET_ADDRESS_TYPE_UNIX, .u.q_unix.path = socket_path,
    };

    c->fd = socket_connect(&addr, &error_abort);
    c->in = g_string_new(NULL);
    socket_set_nonblock(c->fd, true);
}

static void client_close(Client *c)
{
    close(c->fd);
    g_string_free(c->in, TRUE);
    while (aio_poll(qemu_get_aio_context(), false)) {
        continue;
    }
}

static void client_send(Client *c, const char *text, size_t len)
{
    g_assert_cmpint(write(c->fd, text, len), ==, len);
}

static void client_says(Client *c, const char *text)
{
    client_send(c, text, strlen(text));
}

/* False if nothing is there (yet). */
static bool client_fill(Client *c)
{
    char buf[4096];
    ssize_t n = read(c->fd, buf, sizeof(buf));

    if (n > 0) {
        g_string_append_len(c->in, buf, n);
    }
    return n > 0;
}

/* The next message; polls for it at most @ms, then NULL. */
static QDict *client_message(Client *c, int ms)
{
    int64_t end = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + ms;
    QObject *obj;
    char *newline;

    while (!(newline = strchr(c->in->str, '\n'))) {
        aio_poll(qemu_get_aio_context(), false);
        if (!client_fill(c)) {
            if (qemu_clock_get_ms(QEMU_CLOCK_REALTIME) > end) {
                return NULL;
            }
            g_usleep(100);
        }
    }
    *newline = 0;
    obj = qobject_from_json(c->in->str, &error_abort);
    g_string_erase(c->in, 0, newline - c->in->str + 1);
    return qobject_to(QDict, obj);
}

static void client_expects(Client *c, const char *expected)
{
    g_autoptr(QDict) got = client_message(c, 10000);
    g_autoptr(QObject) want = qobject_from_json(expected, &error_abort);

    g_assert_nonnull(got);
    if (!qobject_is_equal(QOBJECT(got), want)) {
        GString *text = qobject_to_json(QOBJECT(got));

        g_error("got %s, not %s", text->str, expected);
    }
}

/* The number in the next event, which must be called @name. */
static int64_t client_event(Client *c, const char *name)
{
    g_autoptr(QDict) got = client_message(c, 10000);

    g_assert_nonnull(got);
    g_assert_cmpstr(qdict_get_str(got, "event"), ==, name);
    g_assert_nonnull(qdict_get_qdict(got, "timestamp"));
    return qdict_haskey(got, "data")
           ? qdict_get_int(qdict_get_qdict(got, "data"), "n") : -1;
}

static void client_begin(Client *c, bool oob)
{
    g_autoptr(QDict) greeting = NULL;

    client_open(c);
    greeting = client_message(c, 10000);
    g_assert_nonnull(qdict_get_qdict(greeting, "QMP"));
    client_says(c, oob ? "{'execute': 'qmp_capabilities',"
                         " 'arguments': {'enable': ['oob']}}"
                       : "{'execute': 'qmp_capabilities'}");
    client_expects(c, "{'return': {}}");
}

/* Requests cut at every place, fed byte by byte around the cut. */
static void test_any_split(void)
{
    static const char text[] =
        "{\"execute\": 'add', 'arguments': {'a': -1, \"b\": 2}, 'id': 'x\\\\'}"
        "{'execute':'greet','arguments':{'name':'\\u00e4'}}";
    Client c;

    client_begin(&c, false);
    for (size_t cut = 0; cut < strlen(text); cut++) {
        client_send(&c, text, cut);
        aio_poll(qemu_get_aio_context(), false);
        client_send(&c, text + cut, strlen(text) - cut);
        client_expects(&c, "{'return': 1, 'id': 'x\\\\'}");
        client_expects(&c, "{'return': 'hello \\u00e4'}");
    }
    client_close(&c);
}

/* While a command waits, one out of band runs, and only that. */
static void test_oob_while_busy(void)
{
    Client c;

    client_begin(&c, true);
    client_says(&c, "{'execute': 'wait-flag', 'id': 1}"
                    "{'execute': 'add', 'arguments': {'a': 1}, 'id': 2}"
                    "{'exec-oob': 'set-flag', 'id': 3}");
    client_expects(&c, "{'return': {}, 'id': 3}");
    client_expects(&c, "{'return': {}, 'id': 1}");
    client_expects(&c, "{'return': 101, 'id': 2}");
    client_close(&c);
}

/* With oob, one request runs and seven may wait; what comes after them is not
 * read, so that what is out of band behind them waits as well. */
static void test_queue_is_bounded(void)
{
    AioContext *ctx = qemu_get_aio_context();
    Client c;
    int i;

    client_begin(&c, true);
    client_says(&c, "{'execute': 'nap', 'arguments': {'ms': 200}, 'id': 0}");
    for (i = 1; i < MONITOR_QUEUE_MAX; i++) {
        g_autofree char *text = g_strdup_printf("{'execute': 'greet',"
                                                " 'id': %d}", i);
        client_says(&c, text);
        /* So that each is read alone. */
        while (aio_poll(ctx, false)) {
            continue;
        }
    }
    client_says(&c, "{'exec-oob': 'set-flag', 'id': 'oob'}");
    client_expects(&c, "{'return': {}, 'id': 0}");
    client_expects(&c, "{'return': 'hello stranger', 'id': 1}");
    for (i = 2; i < MONITOR_QUEUE_MAX; i++) {
        g_autoptr(QDict) got = client_message(&c, 10000);

        g_assert_nonnull(got);
        g_assert_true(qdict_haskey(got, "return"));
    }
    qobject_unref(client_message(&c, 10000));
    g_assert_true(flag);
    flag = false;
    client_close(&c);
}

/* A command in a coroutine lets the loop run; others wait for its end. */
static void test_coroutine_command(void)
{
    Client c;

    client_begin(&c, false);
    client_says(&c, "{'execute': 'nap', 'arguments': {'ms': 50}, 'id': 1}"
                    "{'execute': 'add', 'arguments': {'a': 0}, 'id': 2}");
    client_expects(&c, "{'return': {}, 'id': 1}");
    client_expects(&c, "{'return': 100, 'id': 2}");
    client_close(&c);
}

/* A client leaves during its command: the next one gets its own answers. */
static void test_leaves_during_command(void)
{
    Client c, d;

    client_begin(&c, false);
    client_says(&c, "{'execute': 'nap', 'arguments': {'ms': 100}, 'id': 1}"
                    "{'execute': 'fail', 'id': 2}");
    for (int i = 0; i < 5; i++) {
        aio_poll(qemu_get_aio_context(), false);
    }
    client_close(&c);
    client_begin(&d, false);
    client_says(&d, "{'execute': 'add', 'arguments': {'a': 5}, 'id': 3}");
    client_expects(&d, "{'return': 105, 'id': 3}");
    client_close(&d);
}

/* --- events --- */

static void test_events(void)
{
    Client c;

    client_open(&c);
    qobject_unref(client_message(&c, 10000));
    qapi_event_send_plain(0);
    while (aio_poll(qemu_get_aio_context(), false)) {
        continue;
    }
    client_says(&c, "{'execute': 'qmp_capabilities'}");
    /* Events before the negotiation are lost. */
    client_expects(&c, "{'return': {}}");
    qapi_event_send_plain(1);
    qapi_event_send_empty();
    qapi_event_send_plain(2);
    g_assert_cmpint(client_event(&c, "PLAIN"), ==, 1);
    g_assert_cmpint(client_event(&c, "EMPTY"), ==, -1);
    g_assert_cmpint(client_event(&c, "PLAIN"), ==, 2);
    client_close(&c);
}

static void test_throttled_events(void)
{
    int64_t start = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    Client c;

    client_begin(&c, false);
    for (int i = 1; i <= 5; i++) {
        qapi_event_send_limited("a", i);
        qapi_event_send_limited("b", 10 * i);
    }
    /* The first of each kind at once, the last of each a second later. */
    g_assert_cmpint(client_event(&c, "LIMITED"), ==, 1);
    g_assert_cmpint(client_event(&c, "LIMITED"), ==, 10);
    g_assert_cmpint(qemu_clock_get_ms(QEMU_CLOCK_REALTIME) - start, <, 900);
    g_assert_cmpint(client_event(&c, "LIMITED"), ==, 5);
    g_assert_cmpint(client_event(&c, "LIMITED"), ==, 50);
    g_assert_cmpint(qemu_clock_get_ms(QEMU_CLOCK_REALTIME) - start, >=, 990);
    client_close(&c);
}

#define EVENTS_OF_THREAD 200

static void *send_events(void *opaque)
{
    for (int i = 0; i < EVENTS_OF_THREAD; i++) {
        qapi_event_send_plain(i);
    }
    return NULL;
}

static void test_events_of_threads(void)
{
    int64_t next = 0;
    QemuThread thread;
    Client c;

    client_begin(&c, false);
    qemu_thread_create(&thread, "events", send_events, NULL,
                       QEMU_THREAD_JOINABLE);
    while (next < EVENTS_OF_THREAD) {
        g_assert_cmpint(client_event(&c, "PLAIN"), ==, next);
        next++;
    }
    qemu_thread_join(&thread);
    client_close(&c);
}

static void start_monitor(void)
{
    g_autofree char *chardev = g_strdup_printf(
        "socket,id=c,path=%s,server=on,wait=off", socket_path);
    MonitorOptions options = { .chardev = (char *)"c" };

    monitor_init(test_qmp_commands);
    chardev_new_from_option(chardev, &error_abort);
    monitor_new(&options, &error_abort);
}

int main(int argc, char **argv)
{
    g_autofree char *dir = g_dir_make_tmp("test-qmp-XXXXXX", NULL);
    int ret;

    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    qemu_init_main_loop(&error_abort);
    socket_path = g_build_filename(dir, "sock", NULL);
    start_monitor();
    g_test_add_func("/qmp/dispatch/marshalling", test_marshalling);
    g_test_add_func("/qmp/dispatch/bad-requests", test_bad_requests);
    g_test_add_func("/qmp/dispatch/out-of-band", test_out_of_band);
    g_test_add_func("/qmp/introspection", test_introspection);
    g_test_add_func("/qmp/monitor/any-split", test_any_split);
    g_test_add_func("/qmp/monitor/oob-while-busy", test_oob_while_busy);
    g_test_add_func("/qmp/monitor/queue-is-bounded", test_queue_is_bounded);
    g_test_add_func("/qmp/monitor/coroutine-command", test_coroutine_command);
    g_test_add_func("/qmp/monitor/leaves-during-command",
                    test_leaves_during_command);
    g_test_add_func("/qmp/events/order", test_events);
    g_test_add_func("/qmp/events/throttled", test_throttled_events);
    g_test_add_func("/qmp/events/threads", test_events_of_threads);
    ret = g_test_run();
    monitor_cleanup();
    chardev_free_all();
    g_free(socket_path);
    rmdir(dir);
    return ret;
}
