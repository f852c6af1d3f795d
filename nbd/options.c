/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of qemu-nbd. */
#include "util/osdep.h"
#include <fcntl.h>
#include <getopt.h>
#include "nbd/nbd.h"
#include "block/nbd-server.h"
#include "block/nbd.h"
#include "block/open.h"
#include "objects/object.h"
#include "util/cutils.h"
#include "util/trace.h"

enum {
    OPTION_AIO = 256,
    OPTION_CACHE,
    OPTION_DETECT_ZEROES,
    OPTION_DISCARD,
    OPTION_FORK,
    OPTION_HANDSHAKE_LIMIT,
    OPTION_IMAGE_OPTS,
    OPTION_OBJECT,
    OPTION_PID_FILE,
    OPTION_TLS_AUTHZ,
    OPTION_TLS_CREDS,
    OPTION_TLS_HOSTNAME,
};

static const struct option longopts[] = {
    { "aio", required_argument, NULL, OPTION_AIO },
    { "allocation-depth", no_argument, NULL, 'A' },
    { "bind", required_argument, NULL, 'b' },
    { "bitmap", required_argument, NULL, 'B' },
    { "cache", required_argument, NULL, OPTION_CACHE },
    { "connect", required_argument, NULL, 'c' },
    { "description", required_argument, NULL, 'D' },
    { "detect-zeroes", required_argument, NULL, OPTION_DETECT_ZEROES },
    { "discard", required_argument, NULL, OPTION_DISCARD },
    { "disconnect", no_argument, NULL, 'd' },
    { "export-name", required_argument, NULL, 'x' },
    { "fork", no_argument, NULL, OPTION_FORK },
    { "format", required_argument, NULL, 'f' },
    { "handshake-limit", required_argument, NULL, OPTION_HANDSHAKE_LIMIT },
    { "help", no_argument, NULL, 'h' },
    { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
    { "list", no_argument, NULL, 'L' },
    { "load-snapshot", required_argument, NULL, 'l' },
    { "nocache", no_argument, NULL, 'n' },
    { "object", required_argument, NULL, OPTION_OBJECT },
    { "offset", required_argument, NULL, 'o' },
    { "persistent", no_argument, NULL, 't' },
    { "pid-file", required_argument, NULL, OPTION_PID_FILE },
    { "port", required_argument, NULL, 'p' },
    { "read-only", no_argument, NULL, 'r' },
    { "shared", required_argument, NULL, 'e' },
    { "snapshot", no_argument, NULL, 's' },
    { "socket", required_argument, NULL, 'k' },
    { "tls-authz", required_argument, NULL, OPTION_TLS_AUTHZ },
    { "tls-creds", required_argument, NULL, OPTION_TLS_CREDS },
    { "tls-hostname", required_argument, NULL, OPTION_TLS_HOSTNAME },
    { "trace", required_argument, NULL, 'T' },
    { "verbose", no_argument, NULL, 'v' },
    { "version", no_argument, NULL, 'V' },
    {}
};

static void print_help(void)
{
    printf("Usage: %s [OPTIONS] FILE\n"
           "  or:  %s -L [OPTIONS]\n"
           "QEMU Disk Network Block Device Utility\n\n"
           "  -h, --help           display this help and exit\n"
           "  -V, --version        output version information and exit\n\n"
           "Connection properties:\n"
           "  -p, --port=PORT      port to listen on (default 10809)\n"
           "  -b, --bind=IFACE     interface to bind to (default 0.0.0.0)\n"
           "  -k, --socket=PATH    Unix socket to listen on instead\n"
           "  -e, --shared=NUM     serve up to NUM clients at the same time\n"
           "                       (default 1; 0: any number)\n"
           "  -t, --persistent     go on when the last client has left\n"
           "  -v, --verbose        say on stderr where it listens and who\n"
           "                       leaves\n"
           "  -x, --export-name=NAME\n"
           "                       name of the export (default: empty)\n"
           "  -D, --description=TEXT\n"
           "                       words about the export\n"
           "  --handshake-limit=N  drop clients that have not chosen the\n"
           "                       export after N seconds (default 10; 0:\n"
           "                       never)\n\n",
           error_get_progname(), error_get_progname());
    printf("Exposing part of the image:\n"
           "  -o, --offset=OFFSET  begin at this byte of the image\n"
           "  -A, --allocation-depth\n"
           "                       let clients ask how deep in the backing\n"
           "                       chain data is\n"
           "  -B, --bitmap=NAME    let clients see a persistent dirty bitmap;\n"
           "                       may be given several times\n\n"
           "General purpose options:\n"
           "  -L, --list           list the exports of a server\n"
           "  --object TYPE,id=ID[,PROPERTY=VALUE]...\n"
           "                       make an object; --object help lists types\n"
           "  --tls-creds=ID       serve, or with -L ask, by TLS only, with\n"
           "                       the credentials of an object\n"
           "  --tls-authz=ID       only clients that this object allows\n"
           "  --tls-hostname=NAME  with -L: what the server's certificate is\n"
           "                       for (default: where it connects to)\n"
           "  -T, --trace " TRACE_OPT_SYNTAX "\n"
           "                       specify tracing options\n"
           "  --fork               go to the background as soon as it listens\n"
           "  --pid-file=PATH      write the process id into PATH\n\n");
    printf("Block device options:\n"
           "  -f, --format=FORMAT  format of the image (default: looked for)\n"
           "  -r, --read-only      export read-only\n"
           "  -s, --snapshot       writes go to a temporary file\n"
           "  -l, --load-snapshot=SNAPSHOT_PARAM\n"
           "                       export an internal snapshot, read-only:\n"
           "                       'snapshot.id=[ID],snapshot.name=[NAME]' or\n"
           "                       '[ID_OR_NAME]'\n"
           "  -n, --nocache        the same as --cache=none\n"
           "  --cache=MODE         none, writeback (default), writethrough,\n"
           "                       directsync or unsafe\n"
           "  --aio=MODE           native, io_uring or threads\n"
           "  --discard=MODE       ignore (default) or unmap\n"
           "  --detect-zeroes=MODE off (default), on or unmap\n"
           "  --image-opts         FILE is a set of options\n");
}

static G_GNUC_NORETURN G_GNUC_PRINTF(1, 2) void fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vreport(fmt, ap);
    va_end(ap);
    exit(1);
}

/* Options that only matter together with others. */
typedef struct Seen {
    const char *bind, *port, *socket;
    const char *connect;
    bool disconnect, cache, aio;
} Seen;

static uint32_t number(const char *what, const char *text)
{
    uint64_t value;

    if (parse_uint_full(text, 0, &value) < 0 || value > INT_MAX) {
        fail("Invalid %s '%s'", what, text);
    }
    return value;
}

static void set_cache(NbdArgs *a, Seen *seen, const char *mode)
{
    if (seen->cache) {
        fail("-n and --cache can only be specified once");
    }
    seen->cache = true;
    if (!bdrv_parse_cache_mode(mode, &a->flags, &a->writethrough)) {
        fail("Invalid cache mode `%s'", mode);
    }
}

static void set_aio(NbdArgs *a, Seen *seen, const char *mode)
{
    if (seen->aio) {
        fail("--aio can only be specified once");
    }
    seen->aio = true;
    if (!bdrv_parse_aio(mode, &a->flags)) {
        fail("Invalid aio mode '%s'", mode);
    }
}

static void set_trace(const char *text)
{
    Error *err = NULL;

    if (trace_opt_is_help(text)) {
        trace_list_events(stdout);
        exit(0);
    }
    if (!trace_init_from_opt(text, &err)) {
        error_report_err(err);
        exit(1);
    }
}

static const char *short_enough(const char *what, const char *text)
{
    if (strlen(text) > NBD_MAX_STRING_SIZE) {
        fail("%s '%s' too long", what, text);
    }
    return text;
}

static void add_bitmap(NbdArgs *a, const char *name)
{
    strList **tail = &a->bitmaps;

    while (*tail) {
        tail = &(*tail)->next;
    }
    QAPI_LIST_APPEND(tail, g_strdup(name));
}

static bool image_option(NbdArgs *a, Seen *seen, int c)
{
    switch (c) {
    case 'f':
        a->fmt = optarg;
        return true;
    case OPTION_IMAGE_OPTS:
        a->image_opts = true;
        return true;
    case 'r':
        a->flags &= ~BDRV_O_RDWR;
        return true;
    case 's':
        a->snapshot = true;
        return true;
    case 'l':
        a->load_snapshot = optarg;
        a->flags &= ~BDRV_O_RDWR;
        return true;
    case 'n':
        set_cache(a, seen, "none");
        return true;
    case OPTION_CACHE:
        set_cache(a, seen, optarg);
        return true;
    case OPTION_AIO:
        set_aio(a, seen, optarg);
        return true;
    case OPTION_DISCARD:
        if (!bdrv_parse_discard_flags(optarg, &a->flags)) {
            fail("Invalid discard mode `%s'", optarg);
        }
        return true;
    case OPTION_DETECT_ZEROES:
        a->detect_zeroes = optarg;
        return true;
    case 'o':
        if (qemu_strtosz(optarg, NULL, &a->offset) < 0 ||
            a->offset > INT64_MAX) {
            fail("Invalid offset '%s'", optarg);
        }
        return true;
    default:
        return false;
    }
}

static bool export_option(NbdArgs *a, int c)
{
    switch (c) {
    case 'x':
        a->name = short_enough("export name", optarg);
        return true;
    case 'D':
        a->description = short_enough("export description", optarg);
        return true;
    case 'A':
        a->allocation_depth = true;
        return true;
    case 'B':
        add_bitmap(a, optarg);
        return true;
    default:
        return false;
    }
}

static bool server_option(NbdArgs *a, Seen *seen, int c)
{
    switch (c) {
    case 'p':
        if (!number("port", optarg) || number("port", optarg) > 65535) {
            fail("Invalid port `%s'", optarg);
        }
        seen->port = optarg;
        return true;
    case 'b':
        seen->bind = optarg;
        return true;
    case 'k':
        if (optarg[0] != '/') {
            fail("socket path must be absolute");
        }
        seen->socket = optarg;
        return true;
    case 'e':
        a->shared = number("shared device number", optarg);
        return true;
    case 't':
        a->persistent = true;
        return true;
    case 'v':
        a->verbose = true;
        return true;
    case OPTION_HANDSHAKE_LIMIT:
        a->handshake_secs = number("handshake limit", optarg);
        return true;
    case OPTION_FORK:
        a->fork = true;
        return true;
    case OPTION_PID_FILE:
        a->pid_file = optarg;
        return true;
    default:
        return false;
    }
}

static void other_option(NbdArgs *a, Seen *seen, int c)
{
    switch (c) {
    case 'h':
        print_help();
        exit(0);
    case 'V':
        printf("%s version " QEMU_VERSION "\n", error_get_progname());
        exit(0);
    case 'L':
        a->list = true;
        break;
    case 'c':
        seen->connect = optarg;
        break;
    case 'd':
        seen->disconnect = true;
        break;
    case 'T':
        set_trace(optarg);
        break;
    case OPTION_OBJECT:
        if (user_object_print_help(optarg)) {
            exit(0);
        }
        g_ptr_array_add(a->objects, optarg);
        break;
    case OPTION_TLS_CREDS:
        a->tls_creds = optarg;
        break;
    case OPTION_TLS_HOSTNAME:
        a->tls_hostname = optarg;
        break;
    case OPTION_TLS_AUTHZ:
        a->tls_authz = optarg;
        break;
    default:
        fail("Try `%s --help' for more information.", error_get_progname());
    }
}

/* --- where to listen or to connect --- */

/* Whether systemd has opened the socket; it is descriptor 3. */
static bool is_activated(void)
{
    const char *pid = g_getenv("LISTEN_PID"), *fds = g_getenv("LISTEN_FDS");
    uint64_t n;

    if (!pid || !fds || parse_uint_full(pid, 10, &n) < 0 || n != getpid() ||
        parse_uint_full(fds, 10, &n) < 0 || !n) {
        return false;
    }
    if (n > 1) {
        fail("qemu-nbd does not support socket activation with LISTEN_FDS > "
             "1");
    }
    /* It is not for those that this program starts. */
    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    return true;
}

static void check_activation(const Seen *seen)
{
    if (seen->socket) {
        fail("Unix socket can't be set when using socket activation");
    }
    if (seen->bind) {
        fail("The interface can't be set when using socket activation");
    }
    if (seen->port) {
        fail("TCP port number can't be set when using socket activation");
    }
}

static SocketAddress *address(const NbdArgs *a, const Seen *seen)
{
    SocketAddress *addr = g_new0(SocketAddress, 1);

    if (!a->list && is_activated()) {
        check_activation(seen);
        addr->type = SOCKET_ADDRESS_TYPE_FD;
        addr->u.fd.str = g_strdup("3");
    } else if (seen->socket) {
        if (seen->bind || seen->port) {
            fail("A Unix socket excludes an interface and a port");
        }
        addr->type = SOCKET_ADDRESS_TYPE_UNIX;
        addr->u.q_unix.path = g_strdup(seen->socket);
    } else {
        addr->type = SOCKET_ADDRESS_TYPE_INET;
        addr->u.inet.host = g_strdup(seen->bind ?: a->list ? "localhost"
                                                           : "0.0.0.0");
        addr->u.inet.port = seen->port ? g_strdup(seen->port)
                                       : g_strdup_printf("%d",
                                                         NBD_DEFAULT_PORT);
    }
    return addr;
}

/* --- all of it --- */

/* The device is looked at for the sake of the message. */
static G_GNUC_NORETURN void refuse_kernel(const char *device)
{
    int fd = open(device, O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        fail("Failed to open %s: %s", device, strerror(errno));
    }
    fail("%s: the kernel's NBD devices are not supported by this build",
         device);
}

static void check_list(const NbdArgs *a, const Seen *seen)
{
    if (a->filename) {
        fail("List mode is incompatible with a file name");
    }
    if (a->name || a->description || a->bitmaps || a->allocation_depth) {
        fail("List mode is incompatible with export settings");
    }
    if (seen->connect || seen->disconnect) {
        fail("List mode is incompatible with a device");
    }
}

static void check_tls(const NbdArgs *a, const Seen *seen)
{
    if (!a->tls_creds && a->tls_hostname) {
        fail("--tls-hostname is not permitted without --tls-creds");
    }
    if (!a->tls_creds && a->tls_authz) {
        fail("--tls-authz is not permitted without --tls-creds");
    }
    if (a->list && a->tls_authz) {
        fail("TLS authorization is incompatible with export list");
    }
    if (a->tls_hostname && !a->list) {
        fail("TLS hostname is only supported with export list");
    }
}

static void check(NbdArgs *a, const Seen *seen)
{
    check_tls(a, seen);
    if (a->list) {
        check_list(a, seen);
        return;
    }
    if (!a->filename) {
        fail("Invalid number of arguments\n"
             "Try `%s --help' for more information.", error_get_progname());
    }
    if (seen->disconnect || seen->connect) {
        refuse_kernel(seen->disconnect ? a->filename : seen->connect);
    }
    if (a->image_opts && a->fmt) {
        fail("--image-opts and -f are mutually exclusive");
    }
    if (a->detect_zeroes && !strcmp(a->detect_zeroes, "unmap") &&
        !(a->flags & BDRV_O_UNMAP)) {
        fail("setting detect-zeroes to unmap is not allowed without setting "
             "discard operation to unmap");
    }
}

void nbd_parse_args(NbdArgs *a, int argc, char **argv)
{
    Seen seen = { 0 };
    int c;

    *a = (NbdArgs) {
        .flags = BDRV_O_RDWR,
        .shared = 1,
        .handshake_secs = NBD_DEFAULT_HANDSHAKE_MAX_SECS,
        .objects = g_ptr_array_new(),
    };
    bdrv_parse_cache_mode("writeback", &a->flags, &a->writethrough);
    while ((c = getopt_long(argc, argv, "hVb:o:p:rsnc:dvk:e:f:tl:x:T:D:AB:L",
                            longopts, NULL)) != -1) {
        if (!image_option(a, &seen, c) && !export_option(a, c) &&
            !server_option(a, &seen, c)) {
            other_option(a, &seen, c);
        }
    }
    if (argc - optind > 1) {
        fail("Invalid number of arguments\n"
             "Try `%s --help' for more information.", error_get_progname());
    }
    a->filename = argv[optind];
    check(a, &seen);
    a->addr = address(a, &seen);
}
