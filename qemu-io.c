/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-io: requests on an image one by one, for tests and diagnosis. The
 * commands are in io/; they come from -c, or from standard input.
 */
#include "util/osdep.h"
#include <getopt.h>
#include <signal.h>
#include "block/block.h"
#include "io/io.h"
#include "objects/object.h"
#include "qobject/keyval.h"
#include "util/aio.h"
#include "util/trace.h"

enum {
    OPTION_OBJECT = 256,
    OPTION_IMAGE_OPTS,
};

typedef struct Args {
    IoOpen how;
    GPtrArray *commands;    /* of -c */
    const char *fmt;
    const char *filename;   /* or option string, or NULL */
    bool image_opts;
    bool read_only;
} Args;

static const struct option longopts[] = {
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { "cmd", required_argument, NULL, 'c' },
    { "format", required_argument, NULL, 'f' },
    { "read-only", no_argument, NULL, 'r' },
    { "snapshot", no_argument, NULL, 's' },
    { "nocache", no_argument, NULL, 'n' },
    { "copy-on-read", no_argument, NULL, 'C' },
    { "misalign", no_argument, NULL, 'm' },
    { "native-aio", no_argument, NULL, 'k' },
    { "aio", required_argument, NULL, 'i' },
    { "discard", required_argument, NULL, 'd' },
    { "cache", required_argument, NULL, 't' },
    { "trace", required_argument, NULL, 'T' },
    { "force-share", no_argument, NULL, 'U' },
    { "object", required_argument, NULL, OPTION_OBJECT },
    { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
    {}
};

static void print_usage(const char *name)
{
    printf("Usage: %s [OPTIONS]... [-c STRING]... [file]\n"
           "QEMU Disk exerciser\n\n"
           "  --object OBJECTDEF   define an object\n"
           "  --image-opts         treat file as option string\n"
           "  -c, --cmd STRING     execute the command STRING; may be repeated\n"
           "  -f, --format FMT     format of the file (default: guess)\n"
           "  -r, --read-only      open read-only\n"
           "  -s, --snapshot       keep what is written in a temporary file\n"
           "  -n, --nocache        without the host's cache, as -t none\n"
           "  -C, --copy-on-read   copy on read\n"
           "  -m, --misalign       misalign buffers\n"
           "  -k, --native-aio     with Linux native AIO, as -i native\n"
           "  -i, --aio=MODE       AIO mode: threads, native or io_uring\n"
           "  -t, --cache=MODE     cache mode (default: writethrough)\n"
           "  -d, --discard=MODE   discard mode (default: unmap)\n"
           "  -T, --trace " TRACE_OPT_SYNTAX "\n"
           "                       specify tracing options\n"
           "  -U, --force-share    open even if others write to the file\n"
           "  -h, --help           display this help and exit\n"
           "  -V, --version        output version information and exit\n\n"
           "See '%s -c help' for information on available commands.\n",
           name, name);
}

static bool enable_trace(const char *arg)
{
    Error *err = NULL;

    if (trace_opt_is_help(arg)) {
        trace_list_events(stdout);
        exit(0);
    }
    if (!trace_init_from_opt(arg, &err)) {
        error_report_err(err);
        return false;
    }
    return true;
}

/* It lives as long as the program. */
static bool add_object(const char *definition)
{
    Error *err = NULL;

    if (user_object_print_help(definition)) {
        exit(0);
    }
    if (!user_object_add_from_option(definition, &err)) {
        error_report_err(err);
        return false;
    }
    return true;
}

static bool parse_option(Io *io, Args *a, int c)
{
    switch (c) {
    case 'c':
        g_ptr_array_add(a->commands, optarg);
        return true;
    case 'f':
        a->fmt = optarg;
        return true;
    case 'r':
        a->read_only = true;
        return true;
    case 'm':
        io->misalign = true;
        return true;
    case 'T':
        return enable_trace(optarg);
    case OPTION_OBJECT:
        return add_object(optarg);
    case OPTION_IMAGE_OPTS:
        a->image_opts = true;
        return true;
    default:
        return io_open_option(&a->how, c, optarg);
    }
}

/* False: the program ends with 1. */
static bool parse_args(Io *io, Args *a, int argc, char **argv)
{
    const char *name = error_get_progname();
    int c;

    while ((c = getopt_long(argc, argv, "hVc:d:f:rsnCmki:t:T:U", longopts,
                            NULL)) != -1) {
        if (c == 'h') {
            print_usage(name);
            exit(0);
        }
        if (c == 'V') {
            printf("%s version " QEMU_VERSION "\n", name);
            exit(0);
        }
        if (c == '?') {
            print_usage(name);
            return false;
        }
        if (!parse_option(io, a, c)) {
            return false;
        }
    }
    if (argc - optind > 1) {
        print_usage(name);
        return false;
    }
    if (a->fmt && a->image_opts) {
        error_report("--image-opts and -f are mutually exclusive");
        return false;
    }
    a->filename = argv[optind];
    if (!a->read_only) {
        a->how.flags |= BDRV_O_RDWR;
    }
    return true;
}

static bool open_first_file(Io *io, const Args *a)
{
    QDict *options;

    if (!a->filename) {
        return true;
    }
    if (a->image_opts) {
        options = keyval_parse_opts(a->filename, NULL, NULL);
        return io_open_file(io, NULL, options, &a->how) == 0;
    }
    options = qdict_new();
    if (a->fmt) {
        qdict_put_str(options, "driver", a->fmt);
    }
    return io_open_file(io, a->filename, options, &a->how) == 0;
}

/* --- commands --- */

static bool run_given_commands(Io *io, GPtrArray *commands)
{
    bool ok = true;
    unsigned i;

    for (i = 0; i < commands->len && !io->quit; i++) {
        if (io_run_line(io, g_ptr_array_index(commands, i)) < 0) {
            ok = false;
        }
    }
    return ok;
}

static void on_input(void *opaque)
{
    *(bool *)opaque = true;
}

/*
 * Appends to @input what can be read; while there is nothing, the event loop
 * runs, and with it asynchronous requests. False at the end of the input.
 */
static bool read_more(GString *input)
{
    AioContext *ctx = qemu_get_aio_context();
    bool ready = false;
    char buf[4096];
    ssize_t n;

    aio_set_fd_handler(ctx, STDIN_FILENO, on_input, NULL, &ready);
    while (!ready) {
        aio_poll(ctx, true);
    }
    aio_set_fd_handler(ctx, STDIN_FILENO, NULL, NULL, NULL);
    n = read(STDIN_FILENO, buf, sizeof(buf));
    if (n < 0 && errno == EINTR) {
        return true;
    }
    if (n <= 0) {
        return false;
    }
    g_string_append_len(input, buf, n);
    return true;
}

/* The next line without its newline, or NULL at the end. */
static char *next_line(GString *input)
{
    char *end, *line;

    while (!(end = strchr(input->str, '\n'))) {
        if (!read_more(input)) {
            if (!input->len) {
                return NULL;
            }
            line = g_strdup(input->str);
            g_string_truncate(input, 0);
            return line;
        }
    }
    line = g_strndup(input->str, end - input->str);
    g_string_erase(input, 0, end - input->str + 1);
    return line;
}

static bool run_interactively(Io *io)
{
    GString *input = g_string_new(NULL);
    bool ok = true;
    char *line;

    while (!io->quit) {
        printf("%s> ", error_get_progname());
        fflush(stdout);
        line = next_line(input);
        if (!line) {
            if (isatty(STDIN_FILENO)) {
                printf("\n");
            }
            break;
        }
        if (io_run_line(io, line) < 0) {
            ok = false;
        }
        g_free(line);
    }
    g_string_free(input, TRUE);
    return ok;
}

int main(int argc, char **argv)
{
    Args a = { .how = IO_OPEN_DEFAULT };
    Io io = { 0 };
    Error *err = NULL;
    bool ok = false;

    signal(SIGPIPE, SIG_IGN);
    error_init(argv[0]);
    if (qemu_init_main_loop(&err) < 0) {
        error_report_err(err);
        return 1;
    }
    bdrv_init();

    a.commands = g_ptr_array_new();
    if (parse_args(&io, &a, argc, argv) && open_first_file(&io, &a)) {
        ok = a.commands->len ? run_given_commands(&io, a.commands)
                             : run_interactively(&io);
    }
    while (io.aio_in_flight) {
        aio_poll(qemu_get_aio_context(), true);
    }
    blk_unref(io.blk);
    g_ptr_array_free(a.commands, TRUE);
    return ok ? 0 : 1;
}
