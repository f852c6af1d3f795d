/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the subcommands of qemu-img share. Main thread, outside coroutines,
 * unless it says otherwise.
 */
#ifndef IMG_IMG_H
#define IMG_IMG_H

#include <getopt.h>
#include "block/block-backend.h"
#include "block/copy.h"

/* A subcommand. @handler returns the exit code; argv[0] is the name. */
typedef struct ImgCmd {
    const char *name;
    int (*handler)(const struct ImgCmd *cmd, int argc, char **argv);
    const char *description;    /* one sentence */
    const char *usage;          /* arguments, as after "qemu-img NAME " */
    const char *help;           /* lines about the options */
} ImgCmd;

extern const ImgCmd img_cmd_amend;
extern const ImgCmd img_cmd_bench;
extern const ImgCmd img_cmd_bitmap;
extern const ImgCmd img_cmd_check;
extern const ImgCmd img_cmd_commit;
extern const ImgCmd img_cmd_compare;
extern const ImgCmd img_cmd_convert;
extern const ImgCmd img_cmd_create;
extern const ImgCmd img_cmd_dd;
extern const ImgCmd img_cmd_info;
extern const ImgCmd img_cmd_map;
extern const ImgCmd img_cmd_measure;
extern const ImgCmd img_cmd_rebase;
extern const ImgCmd img_cmd_resize;
extern const ImgCmd img_cmd_snapshot;
extern const ImgCmd img_cmd_undo;

/* --- options (common.c) --- */

/* Values of long options without a letter; commands start at OPTION_CMD. */
enum {
    OPTION_OBJECT = 256,
    OPTION_IMAGE_OPTS,
    OPTION_OUTPUT,
    OPTION_CMD,
};

/*
 * The next option, as getopt_long(); -1 at the end. Of what every command
 * does alike it takes care itself: --help ends the program, and so do a bad
 * option (exit code 1) and --object, which is refused (@object_error).
 */
int img_getopt(const ImgCmd *cmd, int argc, char **argv, const char *optstring,
               const struct option *longopts, int object_error);

/* The message and where to find help; ends the program with 1. */
void img_usage_error(const ImgCmd *cmd, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3) G_GNUC_NORETURN;

/*
 * A number or size (with suffix) between @min and @max; -errno after a message
 * that calls it @what.
 */
int64_t img_parse_size(const char *what, const char *text, int64_t min,
                       int64_t max);
int64_t img_parse_number(const char *what, const char *text, int64_t min,
                         int64_t max);

typedef enum {
    IMG_OUTPUT_HUMAN,
    IMG_OUTPUT_JSON,
} ImgOutput;

/* False after a message. */
bool img_parse_output(const char *text, ImgOutput *output);

/* A cache mode; @what is the option in the message. False after one. */
bool img_parse_cache(const char *what, const char *mode, int *flags,
                     bool *writethrough);

/*
 * Adds an -o argument to the list *@list (NULL at first; g_free() it). False
 * after a message.
 */
bool img_add_option_list(char **list, const char *text);

typedef enum {
    IMG_PROGRESS_OFF,
    IMG_PROGRESS_AUTO,      /* a bar on a terminal, else lines */
    IMG_PROGRESS_LINE,
    IMG_PROGRESS_BAR,
    IMG_PROGRESS_JSON,
} ImgProgress;

/* The argument of --progress, or NULL if it has none. False after a message. */
bool img_parse_progress(const char *text, ImgProgress *mode);

/* --- opening (common.c) --- */

/* How to open an image; zero-initialise. */
typedef struct ImgOpen {
    bool image_opts;        /* the name is an option string */
    const char *fmt;        /* NULL: guess */
    const char *node_name;  /* unless the options name the node; may be NULL */
    int flags;              /* BDRV_O_* */
    bool writethrough;
    bool force_share;
    bool no_share;          /* nobody else may write or resize it */
    bool quiet;             /* a failure is told by NULL alone */
} ImgOpen;

/* NULL after a message. */
BlockBackend *img_open(const char *filename, const ImgOpen *how);

/*
 * The same with @options, which are taken over, instead of an option string.
 */
BlockBackend *img_open_options(const char *filename, QDict *options,
                               const ImgOpen *how);

/* What was written is durable; false after a message that names @filename. */
bool img_flush(BlockBackend *blk, const char *filename);

/*
 * The disk becomes the snapshot that @text names: an id or a name, or a list
 * of snapshot.id and snapshot.name. @blk is read-only. False after a message.
 */
bool img_load_snapshot(BlockBackend *blk, const char *text);

/*
 * convert: what the command line says. NULL or 0 for what was not given, except
 * where noted.
 */
typedef struct ConvertArgs {
    char **sources;
    int nb_sources;
    ImgOpen source;
    const char *target;
    ImgOpen dest;           /* fmt: raw if not given and !image_opts */
    QDict *options;         /* of -o, -b, -B; ours */
    bool has_options;       /* -o was given */
    const char *backing;    /* from -b or -o */
    const char *snapshot;
    int64_t min_sparse;     /* 4k */
    int64_t rate_limit;
    int workers;            /* 8 */
    bool out_of_order;
    bool compressed;
    bool copy_range;
    bool no_create;
    bool target_is_zero;
    bool salvage;
    const char *salvage_report;
    int salvage_retries;    /* 1 */
    int64_t max_memory;     /* 0: no limit */
    bool digest;
    const char *digest_name;    /* NULL: the usual one */
    bool resume;
    bool bitmaps;
    bool skip_broken_bitmaps;
    ImgProgress progress;
    bool quiet;
} ConvertArgs;

/* Does it (convert-run.c); the exit code: 2 if something is lost. */
int img_convert(const ConvertArgs *args);

/*
 * convert-bitmaps.c. False after a message: the bitmaps of @src cannot all be
 * copied (@skip_broken: it warns of those that are no good); @dst cannot store
 * them; copying has failed and changed nothing.
 */
bool img_convert_check_bitmaps(BlockDriverState *src, bool skip_broken);
bool img_convert_check_target(BlockDriverState *src, BlockDriverState *dst);
bool img_convert_bitmaps(BlockDriverState *src, BlockDriverState *dst);

/* --- a target that is being made (created.c) --- */

/* Which file a command made; zero-initialise. */
typedef struct ImgCreated {
    bool made;
    dev_t dev;
    ino_t ino;      /* 0: not a plain file of one name */
} ImgCreated;

/* The path behind a plain name (part of it); NULL if it is no such name. */
const char *img_plain_path(const char *filename);
/* @filename was just made. */
void img_created_note(ImgCreated *c, const char *filename);
/* After a failure: removes what was made, or says that it is incomplete. */
void img_created_discard(const ImgCreated *c, const char *filename);

/* --- a target that is the source (same-file.c) --- */

/*
 * Whether no file that @source is read from is named by @target, which nobody
 * has opened yet; a message if one is. @image_opts: it is an option string.
 * @create_options: what it is made with, or NULL.
 */
bool img_name_is_apart(BlockBackend *source, const char *source_name,
                       const char *target, bool image_opts,
                       const QDict *create_options);
/* The same for all files that an open target stores something in. */
bool img_target_is_apart(BlockBackend *source, const char *source_name,
                         BlockBackend *target, const char *target_name);

/* --- the copy engine (copy.c) --- */

/*
 * Runs a copy to its end. 0 or -errno with *@failure filled; failure->error is
 * 0 if the options were refused, which has been reported then.
 */
int img_copy(BlockBackend *source, BlockBackend *target,
             const BlockCopyOptions *options, BlockCopyFailure *failure);
/* For BlockCopyOptions.progress: prints the percentage. */
void img_copy_progress(void *opaque, const BlockCopyProgress *p);
/* The message for a failure. */
void img_copy_report(const BlockCopyFailure *f, const char *source,
                     const char *target);

/* --- output (common.c) --- */

/* Pretty JSON of the object and a newline on stdout. Drops the reference. */
void img_print_json(QObject *obj);

/* --- progress (progress.c) --- */

/*
 * From now on progress is shown like that; with OFF on stderr, after a SIGUSR1.
 * One command at a time. @min_skip: points of percent not worth a line.
 */
void img_progress_init(ImgProgress mode, float min_skip);
/* So many bytes of work are done: for the rate. Any time. */
void img_progress_work(int64_t bytes);
/* Now at @percent, 0 to 100. */
void img_progress_print(double percent);
/* Ends the line. */
void img_progress_end(void);

#endif
