/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options and opening, for all subcommands of qemu-img. */
#include "util/osdep.h"
#include "img/img.h"
#include "block/block.h"
#include "objects/object.h"
#include "qobject/keyval.h"
#include "qobject/qjson.h"
#include "util/cutils.h"

/* --- help --- */

static G_GNUC_NORETURN void print_help(const ImgCmd *cmd)
{
    printf("%s.\n\n"
           "Usage:\n\n"
           "  qemu-img %s %s\n\n"
           "Arguments:\n\n"
           "  -h, --help\n"
           "     print this help and exit\n"
           "%s",
           cmd->description, cmd->name, cmd->usage, cmd->help);
    exit(0);
}

static void try_help(const ImgCmd *cmd)
{
    error_printf("Try 'qemu-img %s --help' for more information\n", cmd->name);
}

void img_usage_error(const ImgCmd *cmd, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vreport(fmt, ap);
    va_end(ap);
    try_help(cmd);
    exit(1);
}

/* --- options --- */

/* Objects live as long as the program. Exits for help and errors. */
static void add_object(const char *definition, int exit_status)
{
    Error *err = NULL;

    if (user_object_print_help(definition)) {
        exit(0);
    }
    if (!user_object_add_from_option(definition, &err)) {
        error_report_err(err);
        exit(exit_status);
    }
}

int img_getopt(const ImgCmd *cmd, int argc, char **argv, const char *optstring,
               const struct option *longopts, int object_error)
{
    int c;

    while ((c = getopt_long(argc, argv, optstring, longopts, NULL)) ==
           OPTION_OBJECT) {
        add_object(optarg, object_error);
    }
    switch (c) {
    case 'h':
        print_help(cmd);
    case ':':
        error_report("missing argument for option '%s'", argv[optind - 1]);
        break;
    case '?':
        error_report("unrecognized option '%s'", argv[optind - 1]);
        break;
    default:
        return c;
    }
    try_help(cmd);
    exit(1);
}

static int64_t parse_in_range(const char *what, const char *text, int err,
                              uint64_t value, int64_t min, int64_t max)
{
    if (err == -EINVAL) {
        error_report("Invalid %s specified: '%s'", what, text);
        return err;
    }
    if (err == -ERANGE || value > max || (int64_t)value < min) {
        error_report("Invalid %s specified. Must be between %" PRId64
                     " and %" PRId64 ".", what, min, max);
        return -ERANGE;
    }
    return value;
}

int64_t img_parse_size(const char *what, const char *text, int64_t min,
                       int64_t max)
{
    uint64_t value;
    int err = qemu_strtosz(text, NULL, &value);

    return parse_in_range(what, text, err, value, min, max);
}

int64_t img_parse_number(const char *what, const char *text, int64_t min,
                         int64_t max)
{
    uint64_t value;
    int err = parse_uint_full(text, 0, &value);

    return parse_in_range(what, text, err, value, min, max);
}

bool img_parse_output(const char *text, ImgOutput *output)
{
    if (!strcmp(text, "json")) {
        *output = IMG_OUTPUT_JSON;
    } else if (!strcmp(text, "human")) {
        *output = IMG_OUTPUT_HUMAN;
    } else {
        error_report("--output must be used with human or json as argument.");
        return false;
    }
    return true;
}

bool img_parse_cache(const char *what, const char *mode, int *flags,
                     bool *writethrough)
{
    if (!bdrv_parse_cache_mode(mode, flags, writethrough)) {
        error_report("Invalid %s option: %s", what, mode);
        return false;
    }
    return true;
}

bool img_add_option_list(char **list, const char *text)
{
    char *joined;

    if (!is_valid_option_list(text)) {
        error_report("Invalid option list: %s", text);
        return false;
    }
    joined = *list ? g_strjoin(",", *list, text, NULL) : g_strdup(text);
    g_free(*list);
    *list = joined;
    return true;
}

/* --- opening --- */

static uint64_t wanted_perm(int flags)
{
    uint64_t perm = 0;

    if (!(flags & BDRV_O_NO_IO)) {
        perm |= BLK_PERM_CONSISTENT_READ;
        if (flags & BDRV_O_RDWR) {
            perm |= BLK_PERM_WRITE;
        }
    }
    if (flags & BDRV_O_RDWR) {
        perm |= BLK_PERM_RESIZE;
    }
    return perm;
}

static bool put_force_share(QDict *options, Error **errp)
{
    const char *given = qdict_get_try_str(options, "force-share");

    if (given && strcmp(given, "on")) {
        error_setg(errp, "--force-share/-U conflicts with image options");
        return false;
    }
    qdict_put_str(options, "force-share", "on");
    return true;
}

BlockBackend *img_open_options(const char *filename, QDict *options,
                               const ImgOpen *how)
{
    BlockBackend *blk;
    uint64_t shared = BLK_PERM_ALL;
    Error *err = NULL;

    if (how->fmt) {
        qdict_put_str(options, "driver", how->fmt);
    }
    if (how->node_name) {
        qdict_set_default_str(options, "node-name", how->node_name);
    }
    if (how->force_share && !put_force_share(options, &err)) {
        qdict_unref(options);
        error_report_err(err);
        return NULL;
    }
    if (how->no_share && !how->force_share) {
        shared &= ~(BLK_PERM_WRITE | BLK_PERM_RESIZE);
    }
    blk = blk_new_open_perm(how->image_opts ? NULL : filename, NULL, options,
                            how->flags, wanted_perm(how->flags), shared, &err);
    if (!blk && how->quiet) {
        error_free(err);
        return NULL;
    }
    if (!blk) {
        error_reportf_err(err, "Could not open '%s': ", filename);
        return NULL;
    }
    blk_set_enable_write_cache(blk, !how->writethrough);
    return blk;
}

BlockBackend *img_open(const char *filename, const ImgOpen *how)
{
    QDict *options;

    if (!how->image_opts) {
        return img_open_options(filename, qdict_new(), how);
    }
    if (how->fmt) {
        error_report("--image-opts and --format are mutually exclusive");
        return NULL;
    }
    options = keyval_parse_opts(filename, NULL, NULL);
    return img_open_options(filename, options, how);
}

bool img_flush(BlockBackend *blk, const char *filename)
{
    int ret = blk_flush(blk);

    if (ret < 0) {
        error_report("Could not flush '%s': %s", filename, g_strerror(-ret));
        bdrv_abandon(blk_bs(blk));
    }
    return ret == 0;
}

/* --- output --- */

void img_print_json(QObject *obj)
{
    GString *text = qobject_to_json_pretty(obj, true);

    printf("%s\n", text->str);
    g_string_free(text, TRUE);
    qobject_unref(obj);
}
