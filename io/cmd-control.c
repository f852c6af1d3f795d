/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-io: sleep, sigraise, abort, help, quit */
#include "util/osdep.h"
#include <signal.h>
#include "io/io.h"
#include "util/aio.h"
#include "util/cutils.h"

static void set_flag(void *opaque)
{
    *(bool *)opaque = true;
}

static int cmd_sleep(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    AioContext *ctx = qemu_get_aio_context();
    bool expired = false;
    QEMUTimer timer;
    int64_t ms;

    if (qemu_strtoi64(argv[1], NULL, 0, &ms) < 0 || ms < 0 ||
        ms > INT64_MAX / SCALE_MS / 2) {
        printf("%s is not a valid number\n", argv[1]);
        return -EINVAL;
    }
    fflush(stdout);
    aio_timer_init(ctx, &timer, QEMU_CLOCK_HOST, SCALE_NS, set_flag, &expired);
    timer_mod(&timer, qemu_clock_get_ns(QEMU_CLOCK_HOST) + ms * SCALE_MS);
    while (!expired) {
        aio_poll(ctx, true);
    }
    timer_del(&timer);
    return 0;
}

static int cmd_sigraise(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    int64_t sig = io_parse_size(argv[1]);

    if (sig < 0) {
        return sig;
    }
    if (sig > NSIG) {
        printf("signal argument '%s' is too large to be a valid signal\n",
               argv[1]);
        return -EINVAL;
    }
    fflush(stdout);
    raise(sig);
    return 0;
}

static int cmd_abort(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    fflush(stdout);
    abort();
}

static int cmd_quit(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    io->quit = true;
    return 0;
}

static void print_command(const IoCommand *cmd)
{
    io_print_oneline(cmd, cmd->name);
}

static int cmd_help(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    const IoCommand *about;

    if (argc == 1) {
        io_foreach_command(print_command);
        printf("\nUse 'help commandname' for extended help.\n");
        return 0;
    }
    about = io_find_command(argv[1]);
    if (!about) {
        printf("command %s not found\n", argv[1]);
        return -EINVAL;
    }
    io_print_oneline(about, argv[1]);
    if (about->help) {
        printf("\n%s\n", about->help);
    }
    return 0;
}

const IoCommand io_control_commands[] = {
    {
        .name = "sleep",
        .handler = cmd_sleep,
        .argmin = 1,
        .argmax = 1,
        .no_file = true,
        .oneline = "waits for the given value in milliseconds",
    },
    {
        .name = "sigraise",
        .handler = cmd_sigraise,
        .argmin = 1,
        .argmax = 1,
        .no_file = true,
        .args = "signal",
        .oneline = "raises a signal",
        .help = "Sends qemu-io the signal with this number.\n"
                "Example: 'sigraise 15' raises SIGTERM.\n",
    },
    {
        .name = "abort",
        .handler = cmd_abort,
        .no_file = true,
        .oneline = "simulate a program crash using abort(3)",
    },
    {
        .name = "help",
        .alias = "?",
        .handler = cmd_help,
        .argmax = 1,
        .no_file = true,
        .args = "[command]",
        .oneline = "help for one or all commands",
    },
    {
        .name = "quit",
        .alias = "q",
        .handler = cmd_quit,
        .no_file = true,
        .oneline = "exit the program",
    },
    {}
};
