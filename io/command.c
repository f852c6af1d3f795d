/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finds and runs the commands of qemu-io. */
#include "util/osdep.h"
#include <getopt.h>
#include "io/io.h"

static const IoCommand *const tables[] = {
    io_read_commands,
    io_write_commands,
    io_aio_commands,
    io_file_commands,
    io_range_commands,
    io_break_commands,
    io_control_commands,
};

const IoCommand *io_find_command(const char *name)
{
    const IoCommand *cmd;
    size_t i;

    for (i = 0; i < ARRAY_SIZE(tables); i++) {
        for (cmd = tables[i]; cmd->name; cmd++) {
            if (!strcmp(cmd->name, name) ||
                (cmd->alias && !strcmp(cmd->alias, name))) {
                return cmd;
            }
        }
    }
    return NULL;
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
    const IoCommand *const *x = a;
    const IoCommand *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

void io_foreach_command(void (*each)(const IoCommand *cmd))
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    const IoCommand *cmd;
    size_t i;

    for (i = 0; i < ARRAY_SIZE(tables); i++) {
        for (cmd = tables[i]; cmd->name; cmd++) {
            g_ptr_array_add(all, (gpointer)cmd);
        }
    }
    g_ptr_array_sort(all, compare_names);
    for (i = 0; i < all->len; i++) {
        each(g_ptr_array_index(all, i));
    }
}

void io_print_oneline(const IoCommand *cmd, const char *name)
{
    printf("%s ", name);
    if (cmd->args) {
        printf("%s ", cmd->args);
    }
    printf("-- %s\n", cmd->oneline);
}

int io_usage(const IoCommand *cmd)
{
    printf("%s %s -- %s\n", cmd->name, cmd->args ?: "", cmd->oneline);
    return -EINVAL;
}

static bool check_count(const IoCommand *cmd, int nr, const char *name)
{
    if (nr >= cmd->argmin && (cmd->argmax < 0 || nr <= cmd->argmax)) {
        return true;
    }
    fprintf(stderr, "bad argument count %d to %s, expected ", nr, name);
    if (cmd->argmax < 0) {
        fprintf(stderr, "at least %d arguments\n", cmd->argmin);
    } else if (cmd->argmin == cmd->argmax) {
        fprintf(stderr, "%d arguments\n", cmd->argmin);
    } else {
        fprintf(stderr, "between %d and %d arguments\n", cmd->argmin,
                cmd->argmax);
    }
    return false;
}

/*
 * What the command will do must be allowed. The permission stays taken: an
 * asynchronous request outlives its command.
 */
static bool take_perm(Io *io, uint64_t wanted)
{
    uint64_t perm, shared;
    Error *err = NULL;

    blk_get_perm(io->blk, &perm, &shared);
    if (!(wanted & ~perm) && (!wanted || blk_is_writable(io->blk))) {
        return true;
    }
    if (!blk_set_perm(io->blk, perm | wanted, shared, &err)) {
        error_report_err(err);
        return false;
    }
    return true;
}

static int run(Io *io, int argc, char **argv)
{
    const IoCommand *cmd = io_find_command(argv[0]);

    if (!cmd) {
        fprintf(stderr, "command \"%s\" not found\n", argv[0]);
        return -EINVAL;
    }
    if (!cmd->no_file && !io->blk) {
        fprintf(stderr, "no file open, try 'help open'\n");
        return -EINVAL;
    }
    if (!check_count(cmd, argc - 1, argv[0])) {
        return -EINVAL;
    }
    if (cmd->perm && !take_perm(io, cmd->perm)) {
        return -EINVAL;
    }
    optind = 0;
    return cmd->handler(io, cmd, argc, argv);
}

int io_run_line(Io *io, const char *line)
{
    g_auto(GStrv) words = g_strsplit_set(line, " ", -1);
    g_autofree char **argv = g_new0(char *, g_strv_length(words) + 1);
    int argc = 0;
    int i;

    for (i = 0; words[i]; i++) {
        if (*words[i]) {
            argv[argc++] = words[i];
        }
    }
    return argc ? run(io, argc, argv) : 0;
}
