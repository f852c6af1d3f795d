/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img amend */
#include "util/osdep.h"
#include "block/amend.h"
#include "block/block.h"
#include "img/img.h"
#include "qobject/keyval.h"

enum {
    OPTION_FORCE = OPTION_CMD,
};

typedef struct AmendArgs {
    ImgOpen how;
    const char *filename;
    char *options;
    bool force;
    ImgProgress progress;
    bool quiet;
} AmendArgs;

static bool parse_options(const ImgCmd *cmd, int argc, char **argv,
                          AmendArgs *a, const char **cache)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "format", required_argument, NULL, 'f' },
        { "options", required_argument, NULL, 'o' },
        { "cache", required_argument, NULL, 't' },
        { "force", no_argument, NULL, OPTION_FORCE },
        { "progress", optional_argument, NULL, 'p' },
        { "quiet", no_argument, NULL, 'q' },
        {}
    };
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":f:ho:pqt:", longopts, 1)) !=
           -1) {
        switch (c) {
        case 'f':
            a->how.fmt = optarg;
            break;
        case 'o':
            if (!img_add_option_list(&a->options, optarg)) {
                return false;
            }
            break;
        case 'p':
            if (!img_parse_progress(optarg, &a->progress)) {
                return false;
            }
            break;
        case 'q':
            a->quiet = true;
            break;
        case 't':
            *cache = optarg;
            break;
        case OPTION_IMAGE_OPTS:
            a->how.image_opts = true;
            break;
        case OPTION_FORCE:
            a->force = true;
            break;
        }
    }
    return true;
}

static int print_help(const char *fmt)
{
    BlockDriver *drv = bdrv_find_format(fmt);
    Error *err = NULL;

    if (!drv) {
        error_report("Unknown file format '%s'", fmt);
        return 1;
    }
    if (!bdrv_print_amend_options(drv, &err)) {
        error_report_err(err);
        return 1;
    }
    return 0;
}

static void show(void *opaque, double percent)
{
    img_progress_print(percent);
}

static int amend(BlockBackend *blk, const AmendArgs *a)
{
    QDict *options = keyval_parse_opts(a->options, NULL, NULL);
    BdrvAmendArgs args = { .force = a->force, .progress = show };
    Error *err = NULL;
    int ret;

    img_progress_init(a->quiet ? IMG_PROGRESS_OFF : a->progress, 1.0);
    img_progress_print(0);
    ret = bdrv_amend_options(blk_bs(blk), options, &args, &err);
    qdict_unref(options);
    if (ret == 0) {
        img_progress_print(100);
    }
    img_progress_end();
    if (ret < 0) {
        error_report_err(err);
        return 1;
    }
    return img_flush(blk, a->filename) ? 0 : 1;
}

static int open_and_amend(AmendArgs *a, const char *cache)
{
    g_autoptr(BlockBackend) blk = NULL;

    if (!img_parse_cache("cache", cache, &a->how.flags,
                         &a->how.writethrough)) {
        return 1;
    }
    blk = img_open(a->filename, &a->how);
    if (!blk) {
        return 1;
    }
    if (has_help_option(a->options)) {
        return print_help(bdrv_get_format_name(blk_bs(blk)));
    }
    return amend(blk, a);
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    AmendArgs a = { .how.flags = BDRV_O_RDWR };
    g_autofree char *options = NULL;
    const char *cache = "writeback";
    bool ok = parse_options(cmd, argc, argv, &a, &cache);

    options = a.options;
    if (!ok) {
        return 1;
    }
    if (!options) {
        img_usage_error(cmd, "Must specify options (-o)");
    }
    a.filename = optind == argc - 1 ? argv[optind] : NULL;
    if (a.how.fmt && has_help_option(options)) {
        return print_help(a.how.fmt);
    }
    if (!a.filename) {
        error_report("Expecting one image file name");
        return 1;
    }
    return open_and_amend(&a, cache);
}

const ImgCmd img_cmd_amend = {
    .name = "amend",
    .handler = run,
    .description = "Change options of an image that exists",
    .usage = "[-f FMT | --image-opts] [-t CACHE] [--force] [-p] [-q]\n"
             "        [--object OBJDEF] -o OPTIONS FILE",
    .help =
        "  -f, --format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  -o, --options OPTIONS\n"
        "     what to change, NAME=VALUE,...; \"help\" lists what FMT, or the\n"
        "     format of FILE, can change. What cannot be done as a whole is\n"
        "     refused and changes nothing\n"
        "  -t, --cache CACHE\n"
        "     cache mode of FILE (default: writeback)\n"
        "  --force\n"
        "     allow erasing the last passphrase of an encrypted image, after\n"
        "     which nobody can read it\n"
        "  -p, --progress[=line|bar|json]\n"
        "     show progress: a bar on a terminal, lines elsewhere; json: one\n"
        "     object a line\n"
        "  -q, --quiet\n"
        "     print nothing but errors\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  FILE\n"
        "     name of the image\n",
};
