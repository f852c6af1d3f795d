/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's command line. Options that make something are carried out
 * strictly in order: what one refers to has been made by an earlier one.
 */
#include "util/osdep.h"
#include <getopt.h>
#include "daemon.h"
#include "block/export.h"
#include "block/nbd-server.h"
#include "blockdev/blockdev.h"
#include "chardev/char.h"
#include "monitor/monitor.h"
#include "objects/object.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"
#include "util/trace.h"

enum {
    OPTION_BLOCKDEV = 256,
    OPTION_CHARDEV,
    OPTION_DAEMONIZE,
    OPTION_EXPORT,
    OPTION_LOG_LEVEL,
    OPTION_MONITOR,
    OPTION_NBD_SERVER,
    OPTION_OBJECT,
    OPTION_PIDFILE,
};

static const struct option longopts[] = {
    { "blockdev", required_argument, NULL, OPTION_BLOCKDEV },
    { "chardev", required_argument, NULL, OPTION_CHARDEV },
    { "daemonize", no_argument, NULL, OPTION_DAEMONIZE },
    { "export", required_argument, NULL, OPTION_EXPORT },
    { "help", no_argument, NULL, 'h' },
    { "log-level", required_argument, NULL, OPTION_LOG_LEVEL },
    { "monitor", required_argument, NULL, OPTION_MONITOR },
    { "nbd-server", required_argument, NULL, OPTION_NBD_SERVER },
    { "object", required_argument, NULL, OPTION_OBJECT },
    { "pidfile", required_argument, NULL, OPTION_PIDFILE },
    { "trace", required_argument, NULL, 'T' },
    { "version", no_argument, NULL, 'V' },
    {}
};

static void print_help(void)
{
    printf("Usage: %s [OPTIONS]...\n"
           "QEMU storage daemon\n\n"
           "  -h, --help           display this help and exit\n"
           "      --log-level error|warning|info|debug\n"
           "                       print no message that is less grave\n"
           "                       (default info)\n"
           "  -T, --trace " TRACE_OPT_SYNTAX "\n"
           "                       specify tracing options\n"
           "  -V, --version        output version information and exit\n\n"
           "Options below are carried out in the order in which they are "
           "given,\nmonitors after all others.\n\n"
           "  --blockdev [driver=]DRIVER,node-name=NAME[,OPTION=VALUE]...\n"
           "                       open a node; also as JSON: '{...}'\n"
           "  --chardev BACKEND,id=ID[,OPTION=VALUE]...\n"
           "                       make a character device: socket, stdio,\n"
           "                       file, pipe, pty, ringbuf, udp or null\n"
           "  --daemonize          go to the background as soon as everything\n"
           "                       is set up\n"
           "  --export [type=]TYPE,id=ID,node-name=NODE[,OPTION=VALUE]...\n"
           "                       export a node\n"
           "  --monitor [chardev=]ID[,mode=control][,pretty[=on|off]]\n"
           "                       serve QMP on a character device\n"
           "  --nbd-server addr.type=TYPE,addr.OPTION=VALUE...\n"
           "               [,max-connections=N][,handshake-max-seconds=N]\n"
           "                       start the NBD server: on unix, inet, vsock\n"
           "                       or fd\n"
           "  --object TYPE,id=ID[,PROPERTY=VALUE]...\n"
           "                       make an object; --object help lists types\n"
           "  --pidfile FILE       write the process id into FILE when\n"
           "                       everything is set up\n\n"
           "The daemon ends by the QMP command 'quit', SIGTERM, SIGINT or "
           "SIGHUP.\n", error_get_progname());
}

/* --- first pass --- */

static G_GNUC_NORETURN void bad_option(int c, char **argv)
{
    if (c == ':') {
        error_report("option '%s' requires an argument", argv[optind - 1]);
    } else {
        error_report("unrecognized option '%s'", argv[optind - 1]);
    }
    exit(1);
}

static void early_option(DaemonOptions *o, int c, char **argv)
{
    switch (c) {
    case '?':
    case ':':
        bad_option(c, argv);
    case 'h':
        print_help();
        exit(0);
    case 'V':
        printf("%s version " QEMU_VERSION "\n", error_get_progname());
        exit(0);
    case OPTION_DAEMONIZE:
        o->daemonize = true;
        break;
    case OPTION_LOG_LEVEL:
        if (!error_set_log_level(optarg)) {
            error_report("--log-level %s: there is no such level", optarg);
            exit(1);
        }
        break;
    case OPTION_PIDFILE:
        o->pidfile = optarg;
        break;
    default:
        break;
    }
}

void daemon_options_early(DaemonOptions *o, int argc, char **argv)
{
    int c;

    while ((c = getopt_long(argc, argv, "-:hT:V", longopts, NULL)) != -1) {
        if (c == 1) {
            error_report("%s: Unexpected argument", optarg);
            exit(1);
        }
        early_option(o, c, argv);
    }
    if (optind < argc) {
        error_report("%s: Unexpected argument", argv[optind]);
        exit(1);
    }
}

/* --- second pass --- */

static bool add_chardev(const char *text, Error **errp)
{
    Chardev *chr;

    if (!strcmp(text, "help") || !strcmp(text, "?")) {
        printf("Available chardev backend types:\n");
        for (const char *const *k = chardev_kinds(); *k; k++) {
            printf("  %s\n", *k);
        }
        exit(0);
    }
    chr = chardev_new_from_option(text, errp);
    if (chr && chardev_pty(chr)) {
        printf("char device redirected to %s (label %s)\n", chardev_pty(chr),
               chardev_id(chr));
        fflush(stdout);
    }
    return chr != NULL;
}

static bool add_object(const char *text, Error **errp)
{
    if (user_object_print_help(text)) {
        exit(0);
    }
    return user_object_add_from_option(text, errp) != NULL;
}

static bool add_monitor(const char *text, Error **errp)
{
    Visitor *v = qobject_input_visitor_new_str(text, "chardev", errp);
    g_autoptr(MonitorOptions) options = NULL;

    if (!v) {
        return false;
    }
    visit_type_MonitorOptions(v, NULL, &options, errp);
    visit_free(v);
    return options && monitor_new(options, errp);
}

static bool add_export(const char *text, Error **errp)
{
    Visitor *v = qobject_input_visitor_new_str(text, "type", errp);
    g_autoptr(BlockExportOptions) options = NULL;

    if (!v) {
        return false;
    }
    visit_type_BlockExportOptions(v, NULL, &options, errp);
    visit_free(v);
    return options && blk_exp_add(options, errp);
}

static bool start_nbd_server(const char *text, Error **errp)
{
    Visitor *v = qobject_input_visitor_new_str(text, NULL, errp);
    g_autoptr(NbdServerOptions) options = NULL;

    if (!v) {
        return false;
    }
    visit_type_NbdServerOptions(v, NULL, &options, errp);
    visit_free(v);
    return options && nbd_server_start_options(options, errp);
}

static bool set_trace(const char *text, Error **errp)
{
    if (trace_opt_is_help(text)) {
        trace_list_events(stdout);
        exit(0);
    }
    return trace_init_from_opt(text, errp);
}

static const struct {
    int option;
    const char *name;
    bool (*run)(const char *text, Error **errp);
} actions[] = {
    { 'T', "--trace", set_trace },
    { OPTION_BLOCKDEV, "--blockdev", blockdev_add_from_option },
    { OPTION_CHARDEV, "--chardev", add_chardev },
    { OPTION_EXPORT, "--export", add_export },
    { OPTION_MONITOR, "--monitor", add_monitor },
    { OPTION_NBD_SERVER, "--nbd-server", start_nbd_server },
    { OPTION_OBJECT, "--object", add_object },
};

static void run_option(int c, const char *text)
{
    Error *err = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        if (actions[i].option == c && !actions[i].run(text, &err)) {
            error_reportf_err(err, "%s %s: ", actions[i].name, text);
            exit(1);
        }
    }
}

static void run_all(int argc, char **argv, bool monitors)
{
    int c;

    optind = 0;
    while ((c = getopt_long(argc, argv, "-:hT:V", longopts, NULL)) != -1) {
        if ((c == OPTION_MONITOR) == monitors) {
            run_option(c, optarg);
        }
    }
}

/* Some poll the loop: a monitor's client must not come before what follows. */
void daemon_options_run(int argc, char **argv)
{
    run_all(argc, argv, false);
    run_all(argc, argv, true);
}
