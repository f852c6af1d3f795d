/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img bitmap
 *
 * All actions of one call happen in memory first and are then stored in one
 * step, so that either all of them have happened or none has.
 */
#include "util/osdep.h"
#include "block/persistent-bitmap.h"
#include "img/img.h"
#include "util/transactions.h"

enum {
    OPTION_ADD = OPTION_CMD,
    OPTION_REMOVE,
    OPTION_REMOVE_ALL,
    OPTION_CLEAR,
    OPTION_ENABLE,
    OPTION_DISABLE,
    OPTION_MERGE,
};

typedef struct Action {
    int option;
    const char *source;     /* of --merge */
} Action;

typedef struct BitmapArgs {
    ImgOpen how;
    const char *filename;
    const char *bitmap;
    const char *source_file;
    const char *source_fmt;
    int64_t granularity;    /* 0: default */
    bool granularity_given;
    GArray *actions;        /* Action */
} BitmapArgs;

typedef struct Run {
    const BitmapArgs *a;
    BlockDriverState *bs;
    BlockBackend *source;   /* NULL: the same image */
    Transaction *tran;
    unsigned flags;         /* of saving */
    bool remove;            /* what is stored by the name goes */
} Run;

/* --- actions --- */

static const char *action_name(int option)
{
    switch (option) {
    case OPTION_ADD:
        return "add";
    case OPTION_REMOVE:
    case OPTION_REMOVE_ALL:
        return "remove";
    case OPTION_CLEAR:
        return "clear";
    case OPTION_ENABLE:
        return "enable";
    case OPTION_DISABLE:
        return "disable";
    default:
        return "merge";
    }
}

static bool merge(Run *r, const char *name, Error **errp)
{
    BlockDriverState *src_bs = r->source ? blk_bs(r->source) : r->bs;
    BdrvDirtyBitmap *src = bdrv_find_dirty_bitmap(src_bs, name);

    if (!src) {
        error_setg(errp, "Dirty bitmap '%s' not found", name);
        return false;
    }
    return bdrv_dirty_bitmap_merge_tran(r->bs, r->a->bitmap, src, r->tran,
                                        errp);
}

static bool remove_all(Run *r, Error **errp)
{
    BdrvDirtyBitmap *b, *next;

    for (b = bdrv_dirty_bitmap_first(r->bs); b; b = next) {
        next = bdrv_dirty_bitmap_next(b);
        if (!bdrv_dirty_bitmap_hidden(b) &&
            !bdrv_dirty_bitmap_remove_tran(r->bs, bdrv_dirty_bitmap_name(b),
                                           r->tran, errp)) {
            return false;
        }
    }
    r->flags |= BDRV_SAVE_BITMAPS_REMOVE_ALL;
    return true;
}

static bool act(Run *r, const Action *action, Error **errp)
{
    const char *name = r->a->bitmap;

    switch (action->option) {
    case OPTION_ADD:
        return bdrv_dirty_bitmap_add_tran(r->bs, name, r->a->granularity, true,
                                          false, r->tran, errp) != NULL;
    case OPTION_REMOVE:
        r->remove = true;
        return bdrv_dirty_bitmap_remove_tran(r->bs, name, r->tran, errp);
    case OPTION_REMOVE_ALL:
        return remove_all(r, errp);
    case OPTION_CLEAR:
        return bdrv_dirty_bitmap_clear_tran(r->bs, name, r->tran, errp);
    case OPTION_ENABLE:
    case OPTION_DISABLE:
        return bdrv_dirty_bitmap_enable_tran(
            r->bs, name, action->option == OPTION_ENABLE, r->tran, errp);
    default:
        return merge(r, action->source, errp);
    }
}

static bool run_actions(Run *r)
{
    for (guint i = 0; i < r->a->actions->len; i++) {
        const Action *action = &g_array_index(r->a->actions, Action, i);
        Error *err = NULL;

        if (!act(r, action, &err)) {
            error_reportf_err(err, "Operation %s on bitmap %s failed: ",
                              action_name(action->option),
                              r->a->bitmap ?: "");
            return false;
        }
    }
    return true;
}

static bool store(Run *r)
{
    const char *const remove[] = { r->a->bitmap, NULL };
    Error *err = NULL;

    if (bdrv_save_persistent_dirty_bitmaps(r->bs, r->remove ? remove : NULL,
                                           r->flags, &err) < 0) {
        error_reportf_err(err, "Could not store the bitmaps of '%s': ",
                          r->a->filename);
        return false;
    }
    return true;
}

static int change_bitmaps(Run *r)
{
    bool ok;

    r->tran = tran_new();
    ok = run_actions(r) && store(r);
    tran_finalize(r->tran, ok ? 0 : -1);
    return ok ? 0 : 1;
}

/* --- the command line --- */

static bool has_action(const BitmapArgs *a, int option)
{
    for (guint i = 0; i < a->actions->len; i++) {
        if (g_array_index(a->actions, Action, i).option == option) {
            return true;
        }
    }
    return false;
}

static bool parse_options(const ImgCmd *cmd, int argc, char **argv,
                          BitmapArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "format", required_argument, NULL, 'f' },
        { "add", no_argument, NULL, OPTION_ADD },
        { "granularity", required_argument, NULL, 'g' },
        { "remove", no_argument, NULL, OPTION_REMOVE },
        { "remove-all", no_argument, NULL, OPTION_REMOVE_ALL },
        { "clear", no_argument, NULL, OPTION_CLEAR },
        { "enable", no_argument, NULL, OPTION_ENABLE },
        { "disable", no_argument, NULL, OPTION_DISABLE },
        { "merge", required_argument, NULL, OPTION_MERGE },
        { "source-file", required_argument, NULL, 'b' },
        { "source-format", required_argument, NULL, 'F' },
        {}
    };
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":b:f:F:g:h", longopts, 1)) !=
           -1) {
        Action action = { c, optarg };

        switch (c) {
        case 'b':
            a->source_file = optarg;
            break;
        case 'f':
            a->how.fmt = optarg;
            break;
        case 'F':
            a->source_fmt = optarg;
            break;
        case 'g':
            a->granularity = img_parse_size("granularity", optarg, 1,
                                            INT64_MAX);
            a->granularity_given = true;
            if (a->granularity < 0) {
                return false;
            }
            break;
        case OPTION_IMAGE_OPTS:
            a->how.image_opts = true;
            break;
        default:
            g_array_append_val(a->actions, action);
            break;
        }
    }
    return true;
}

static const char *conflict(const BitmapArgs *a)
{
    if (a->actions->len == 0) {
        return "Need at least one of --add, --remove, --remove-all, --clear, "
               "--enable, --disable, or --merge";
    }
    if (a->granularity_given && !has_action(a, OPTION_ADD)) {
        return "granularity only supported with --add";
    }
    if (a->source_fmt && !a->source_file) {
        return "-F only supported with -b";
    }
    if (a->source_file && !has_action(a, OPTION_MERGE)) {
        return "Merge bitmap source file only supported with --merge";
    }
    if (a->granularity > UINT32_MAX) {
        return "Granularity must be power of 2 and at least 512, below 4G";
    }
    return NULL;
}

static bool parse(const ImgCmd *cmd, int argc, char **argv, BitmapArgs *a)
{
    const char *message;
    bool all;

    if (!parse_options(cmd, argc, argv, a)) {
        return false;
    }
    all = has_action(a, OPTION_REMOVE_ALL) && a->actions->len == 1;
    if (optind != argc - (all ? 1 : 2)) {
        img_usage_error(cmd, all ? "Expecting filename"
                                 : "Expecting filename and bitmap name");
    }
    message = conflict(a);
    if (message) {
        error_report("%s", message);
        return false;
    }
    a->filename = argv[optind];
    a->bitmap = all ? NULL : argv[optind + 1];
    return true;
}

static int open_and_change(const BitmapArgs *a)
{
    const ImgOpen source_how = {
        .fmt = a->source_fmt, .flags = BDRV_O_NO_BACKING,
    };
    g_autoptr(BlockBackend) blk = img_open(a->filename, &a->how);
    g_autoptr(BlockBackend) source = NULL;
    Run r = { .a = a };

    if (!blk) {
        return 1;
    }
    r.bs = blk_bs(blk);
    if (a->source_file) {
        source = img_open(a->source_file, &source_how);
        if (!source) {
            return 1;
        }
        r.source = source;
    }
    return change_bitmaps(&r);
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    g_autoptr(GArray) actions = g_array_new(false, false, sizeof(Action));
    BitmapArgs a = {
        .how.flags = BDRV_O_RDWR | BDRV_O_NO_BACKING,
        .actions = actions,
    };

    return parse(cmd, argc, argv, &a) ? open_and_change(&a) : 1;
}

const ImgCmd img_cmd_bitmap = {
    .name = "bitmap",
    .handler = run,
    .description = "Change the persistent dirty bitmaps of an image",
    .usage =
        "(--add [-g SIZE] | --remove | --clear | --enable |\n"
        "        --disable | --merge SOURCE [-b SRC_FILE [-F SRC_FMT]])...\n"
        "        [-f FMT | --image-opts] [--object OBJDEF] FILE BITMAP\n"
        "  qemu-img bitmap --remove-all [-f FMT | --image-opts]\n"
        "        [--object OBJDEF] FILE",
    .help =
        "The actions happen in the order given; if one fails none has happened.\n"
        "\n"
        "  --add\n"
        "     add BITMAP, enabled and clear\n"
        "  -g, --granularity SIZE\n"
        "     bytes of disk that a bit of it stands for (default: the cluster\n"
        "     size, but 4k to 64k)\n"
        "  --remove\n"
        "     remove BITMAP, even if it is inconsistent\n"
        "  --remove-all\n"
        "     remove all bitmaps, also what is damaged beyond having a name\n"
        "  --clear\n"
        "     forget all that is recorded in BITMAP\n"
        "  --enable, --disable\n"
        "     let BITMAP record writes, or not\n"
        "  --merge SOURCE\n"
        "     add to BITMAP what is recorded in bitmap SOURCE\n"
        "  -b, --source-file SRC_FILE\n"
        "     the image that SOURCE is in (default: FILE)\n"
        "  -F, --source-format SRC_FMT\n"
        "     format of SRC_FILE (default: guess)\n"
        "  -f, --format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  FILE\n"
        "     name of the image\n"
        "  BITMAP\n"
        "     name of the bitmap\n",
};
