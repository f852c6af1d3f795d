/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img create */
#include "util/osdep.h"
#include "block/block.h"
#include "img/img.h"
#include "qobject/keyval.h"

typedef struct CreateArgs {
    const char *fmt;
    const char *filename;
    const char *backing;
    const char *backing_fmt;
    char *options;
    int64_t size;           /* -1: from the backing file or the options */
    int flags;
    bool quiet;
} CreateArgs;

static bool parse_options(const ImgCmd *cmd, int argc, char **argv,
                          CreateArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "format", required_argument, NULL, 'f' },
        { "options", required_argument, NULL, 'o' },
        { "backing", required_argument, NULL, 'b' },
        { "backing-format", required_argument, NULL, 'B' },
        { "backing-unsafe", no_argument, NULL, 'u' },
        { "quiet", no_argument, NULL, 'q' },
        {}
    };
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":F:B:b:f:ho:qu", longopts,
                           1)) != -1) {
        switch (c) {
        case 'f':
            a->fmt = optarg;
            break;
        case 'b':
            a->backing = optarg;
            break;
        case 'B':
        case 'F':
            a->backing_fmt = optarg;
            break;
        case 'o':
            if (!img_add_option_list(&a->options, optarg)) {
                return false;
            }
            break;
        case 'q':
            a->quiet = true;
            break;
        case 'u':
            a->flags |= BDRV_O_NO_BACKING;
            break;
        }
    }
    return true;
}

static bool parse_arguments(const ImgCmd *cmd, int argc, char **argv,
                            CreateArgs *a)
{
    a->filename = optind < argc ? argv[optind++] : NULL;
    if (!a->filename && !has_help_option(a->options ?: "")) {
        img_usage_error(cmd, "Expecting image file name");
    }
    if (optind < argc) {
        a->size = img_parse_size("image size", argv[optind++], 0, INT64_MAX);
        if (a->size < 0) {
            return false;
        }
    }
    if (optind < argc) {
        img_usage_error(cmd, "Unexpected argument: %s", argv[optind]);
    }
    return true;
}

static int print_options(const CreateArgs *a)
{
    BlockDriver *drv = bdrv_find_format(a->fmt);

    if (!drv) {
        error_report("Unknown file format '%s'", a->fmt);
        return 1;
    }
    bdrv_print_create_options(drv, a->filename);
    return 0;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    CreateArgs a = { .fmt = "raw", .size = -1 };
    g_autofree char *options = NULL;
    Error *err = NULL;
    bool ok;

    ok = parse_options(cmd, argc, argv, &a) &&
         parse_arguments(cmd, argc, argv, &a);
    options = a.options;
    if (!ok) {
        return 1;
    }
    if (options && has_help_option(options)) {
        return print_options(&a);
    }
    if (bdrv_img_create(a.filename, a.fmt, a.backing, a.backing_fmt, options,
                        a.size, a.flags, a.quiet, &err) < 0) {
        error_reportf_err(err, "%s: ", a.filename);
        return 1;
    }
    return 0;
}

const ImgCmd img_cmd_create = {
    .name = "create",
    .handler = run,
    .description = "Create and format a new image file",
    .usage = "[-f FMT] [-o OPTIONS] [-b BACKING [-B BACKING_FMT]] [-u]\n"
             "        [-q] [--object OBJDEF] FILE [SIZE]",
    .help =
        "  -f, --format FMT\n"
        "     format of the new image (default: raw)\n"
        "  -o, --options OPTIONS\n"
        "     settings of the format, NAME=VALUE,...; may be repeated;\n"
        "     -o help lists them\n"
        "  -b, --backing BACKING\n"
        "     make the image an overlay of the image BACKING\n"
        "  -B, --backing-format BACKING_FMT (old spelling: -F)\n"
        "     format of BACKING, required with -b\n"
        "  -u, --backing-unsafe\n"
        "     do not open BACKING; SIZE is then required\n"
        "  -q, --quiet\n"
        "     print nothing but errors\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  FILE\n"
        "     name of the image; an existing file is replaced\n"
        "  SIZE\n"
        "     size of the virtual disk in bytes; suffixes k, M, G, T, P, E\n"
        "     are powers of 1024. Default: the size of BACKING\n",
};
