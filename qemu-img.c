/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img: finds the subcommand and calls it; the commands are in img/. */
#include "util/osdep.h"
#include <signal.h>
#include "block/block.h"
#include "img/img.h"
#include "util/aio.h"
#include "util/trace.h"

static const ImgCmd *const commands[] = {
    &img_cmd_amend,
    &img_cmd_bench,
    &img_cmd_bitmap,
    &img_cmd_check,
    &img_cmd_commit,
    &img_cmd_compare,
    &img_cmd_convert,
    &img_cmd_create,
    &img_cmd_dd,
    &img_cmd_info,
    &img_cmd_map,
    &img_cmd_measure,
    &img_cmd_rebase,
    &img_cmd_resize,
    &img_cmd_snapshot,
    &img_cmd_undo,
};

static void print_format(void *opaque, const char *name)
{
    printf(" %s", name);
}

static int print_help(void)
{
    size_t i;

    printf("qemu-img version " QEMU_VERSION "\n"
           "QEMU disk image utility.\n\n"
           "Usage:\n\n"
           "  qemu-img [standard options] COMMAND [--help | command options]\n\n"
           "Standard options:\n\n"
           "  -h, --help\n"
           "     display this help and exit\n"
           "  -V, --version\n"
           "     display version info and exit\n"
           "  -T, --trace " TRACE_OPT_SYNTAX "\n"
           "     specify tracing options\n\n"
           "Recognized commands (run qemu-img COMMAND --help for "
           "command-specific help):\n\n");
    for (i = 0; i < ARRAY_SIZE(commands); i++) {
        printf("  %s - %s\n", commands[i]->name, commands[i]->description);
    }
    printf("\nSupported formats:");
    bdrv_iterate_format(print_format, NULL, false);
    printf("\n");
    return 0;
}

static int G_GNUC_PRINTF(1, 2) fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vreport(fmt, ap);
    va_end(ap);
    error_printf("Try 'qemu-img --help' for more information\n");
    return 1;
}

static int run_command(int argc, char **argv)
{
    size_t i;

    for (i = 0; i < ARRAY_SIZE(commands); i++) {
        if (!strcmp(argv[0], commands[i]->name)) {
            int ret;

            optind = 0;
            ret = commands[i]->handler(commands[i], argc, argv);
            /* What could not be stored when an image was closed has been
             * reported, and the command has not done what it says. */
            return ret == 0 && bdrv_reported_losses() ? 1 : ret;
        }
    }
    return fail("Command not found: %s", argv[0]);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { "trace", required_argument, NULL, 'T' },
        {}
    };
    Error *err = NULL;
    int c;

    signal(SIGPIPE, SIG_IGN);
    error_init(argv[0]);
    if (qemu_init_main_loop(&err) < 0) {
        error_report_err(err);
        return 1;
    }
    bdrv_init();

    while ((c = getopt_long(argc, argv, "+:hVT:", options, NULL)) != -1) {
        switch (c) {
        case ':':
            return fail("missing argument for option '%s'", argv[optind - 1]);
        case '?':
            return fail("unrecognized option '%s'", argv[optind - 1]);
        case 'h':
            return print_help();
        case 'V':
            printf("qemu-img version " QEMU_VERSION "\n");
            return 0;
        case 'T':
            if (trace_opt_is_help(optarg)) {
                trace_list_events(stdout);
                return 0;
            }
            if (!trace_init_from_opt(optarg, &err)) {
                error_report_err(err);
                return 1;
            }
            break;
        }
    }
    if (optind >= argc) {
        /* A trace option alone is a valid, if short, run. */
        return optind > 1 ? 0 : fail("Not enough arguments");
    }
    return run_command(argc - optind, argv + optind);
}
