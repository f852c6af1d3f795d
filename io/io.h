/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the commands of qemu-io share. Main thread, outside coroutines.
 *
 * What a command prints is QEMU's, also where it prints complaints on stdout.
 */
#ifndef IO_IO_H
#define IO_IO_H

#include "block/block-backend.h"

/* One run of qemu-io. */
typedef struct Io {
    BlockBackend *blk;      /* the open file or NULL */
    bool misalign;          /* -m: buffers at odd addresses */
    bool copy_on_read;      /* -C: of the open file */
    bool quit;
    unsigned aio_in_flight; /* of aio_read, aio_write, aio_discard */
} Io;

typedef struct IoCommand {
    const char *name;
    const char *alias;      /* or NULL */
    /* 0, or -errno after a message. argv[0] is the name. */
    int (*handler)(Io *io, const struct IoCommand *cmd, int argc, char **argv);
    int argmin;             /* without argv[0] */
    int argmax;             /* -1: no limit */
    bool no_file;           /* works without an open file */
    uint64_t perm;          /* taken on the file first */
    const char *args;       /* NULL: none to speak of */
    const char *oneline;
    const char *help;       /* for "help NAME"; or NULL */
} IoCommand;

/* Tables, each ended by name == NULL. */
extern const IoCommand io_read_commands[];
extern const IoCommand io_write_commands[];
extern const IoCommand io_aio_commands[];
extern const IoCommand io_file_commands[];
extern const IoCommand io_range_commands[];
extern const IoCommand io_break_commands[];
extern const IoCommand io_control_commands[];

/* --- command.c --- */

/* Runs one line; an empty one is fine. 0 or -errno. */
int io_run_line(Io *io, const char *line);
/* Prints the command's syntax; returns -EINVAL. */
int io_usage(const IoCommand *cmd);
/* By name or alias; NULL if there is none. */
const IoCommand *io_find_command(const char *name);
/* Calls @each for every command, sorted by name. */
void io_foreach_command(void (*each)(const IoCommand *cmd));
void io_print_oneline(const IoCommand *cmd, const char *name);

/* --- file.c --- */

/* How to open; see the options of qemu-io and of the open command. */
typedef struct IoOpen {
    int flags;              /* BDRV_O_* */
    bool writethrough;
    bool force_share;
    bool snapshot;          /* writes go to a temporary overlay */
    bool copy_on_read;
} IoOpen;

#define IO_OPEN_DEFAULT                                 \
    {                                                   \
        .flags = BDRV_O_UNMAP, .writethrough = true,    \
    }

/* -t, -d, -i and the switches, @c being the letter; false after a message. */
bool io_open_option(IoOpen *how, int c, const char *arg);
/*
 * Opens @filename (or NULL) with @options, which are taken over. 0 or -errno
 * after a message.
 */
int io_open_file(Io *io, const char *filename, QDict *options,
                 const IoOpen *how);
/* Flags that reads of the open file have. */
BdrvRequestFlags io_read_flags(Io *io);

/* --- util.c --- */

/* A size with suffix; -errno after a message about @text. */
int64_t io_parse_size(const char *text);
/* 0..255; -1 after a message. */
int io_parse_pattern(const char *text);
/* "1.500 KiB"; the caller frees. */
char *io_size_text(double bytes);

/* Aligned for the file and filled with @pattern; io_free(). */
void *io_alloc(Io *io, size_t bytes, int pattern);
void io_free(Io *io, void *buf);
/* The same filled with a file's content, repeated; NULL after a message. */
void *io_alloc_from_file(Io *io, size_t bytes, const char *filename);

/*
 * The lengths in @argv as a vector over one new buffer filled with @pattern,
 * which is returned for io_free(). NULL after a message.
 */
void *io_make_qiov(Io *io, QEMUIOVector *qiov, char **argv, int nr,
                   int pattern);

/* True if @bytes of @buf at @offset hold @pattern; else prints the mismatch. */
bool io_verify(const void *buf, int pattern, int64_t offset, int64_t bytes,
               int64_t total_offset);

typedef struct IoReport {
    const char *op;         /* "read", "wrote" … */
    int64_t offset;
    int64_t bytes;          /* done */
    int64_t total;          /* asked */
    int64_t ns;             /* time it took */
    bool machine;           /* -C */
} IoReport;
void io_report(const IoReport *report);

/* Nanoseconds, for IoReport. */
int64_t io_now(void);

#endif
