/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img resize */
#include "util/osdep.h"
#include "block/block.h"
#include "img/img.h"
#include "util/cutils.h"

enum {
    OPTION_SHRINK = OPTION_CMD,
    OPTION_PREALLOCATION,
};

typedef struct ResizeArgs {
    ImgOpen how;
    const char *filename;
    int relative;       /* -1, 0, 1: how size counts */
    int64_t size;
    PreallocMode prealloc;
    bool shrink;
    bool quiet;
} ResizeArgs;

static bool parse_options(const ImgCmd *cmd, int argc, char **argv,
                          ResizeArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "format", required_argument, NULL, 'f' },
        { "preallocation", required_argument, NULL, OPTION_PREALLOCATION },
        { "shrink", no_argument, NULL, OPTION_SHRINK },
        { "quiet", no_argument, NULL, 'q' },
        {}
    };
    int c, mode;

    while ((c = img_getopt(cmd, argc, argv, ":f:hq", longopts, 1)) != -1) {
        switch (c) {
        case 'f':
            a->how.fmt = optarg;
            break;
        case 'q':
            a->quiet = true;
            break;
        case OPTION_IMAGE_OPTS:
            a->how.image_opts = true;
            break;
        case OPTION_PREALLOCATION:
            mode = qapi_enum_parse(&PreallocMode_lookup, optarg, -1, NULL);
            if (mode < 0) {
                error_report("Invalid preallocation mode '%s'", optarg);
                return false;
            }
            a->prealloc = mode;
            break;
        case OPTION_SHRINK:
            a->shrink = true;
            break;
        }
    }
    return true;
}

static bool parse_size(ResizeArgs *a, const char *text)
{
    if (*text == '+' || *text == '-') {
        a->relative = *text == '+' ? 1 : -1;
        text++;
    }
    a->size = img_parse_size("image size", text, 0, INT64_MAX);
    return a->size >= 0;
}

/*
 * FILE and SIZE come last. SIZE may look like an option (-5G), so both are
 * taken away before options are parsed, except where the last argument is an
 * option after all.
 */
static bool parse(const ImgCmd *cmd, int argc, char **argv, ResizeArgs *a)
{
    const char *last = argc > 1 ? argv[argc - 1] : "";
    bool size_like_option = last[0] == '-' && g_ascii_isdigit(last[1]);

    if (size_like_option) {
        argc--;
    }
    if (!parse_options(cmd, argc, argv, a)) {
        return false;
    }
    if (optind + (size_like_option ? 1 : 2) > argc) {
        img_usage_error(cmd, "Not enough arguments");
    }
    a->filename = argv[optind++];
    if (!size_like_option) {
        last = argv[optind++];
    }
    if (optind < argc) {
        img_usage_error(cmd, "Unexpected argument: %s", argv[optind]);
    }
    return parse_size(a, last);
}

/* The size that is wanted, -1 after a message. */
static int64_t target_size(const ResizeArgs *a, int64_t current)
{
    int64_t total;

    if (!a->relative) {
        total = a->size;
    } else if (a->relative < 0) {
        total = current - a->size;
    } else if (a->size > INT64_MAX - current) {
        total = -1;
    } else {
        total = current + a->size;
    }
    if (total <= 0) {
        error_report("New image size must be positive");
        return -1;
    }
    return total;
}

static bool may_resize(const ResizeArgs *a, int64_t current, int64_t total)
{
    if (total <= current && a->prealloc != PREALLOC_MODE_OFF) {
        error_report("Preallocation can only be used for growing images");
        return false;
    }
    if (total < current && !a->shrink) {
        error_report("Use the --shrink option to perform a shrink operation.");
        warn_report("Shrinking an image will delete all data beyond the "
                    "shrunken image's end. Before performing such an "
                    "operation, make sure there is no important data there.");
        return false;
    }
    return true;
}

static int resize(BlockBackend *blk, const ResizeArgs *a)
{
    int64_t current = blk_getlength(blk);
    int64_t total;
    Error *err = NULL;

    if (current < 0) {
        error_report("Failed to inquire current image length: %s",
                     g_strerror(-current));
        return 1;
    }
    total = target_size(a, current);
    if (total < 0 || !may_resize(a, current, total)) {
        return 1;
    }
    if (blk_truncate(blk, total, true, a->prealloc, 0, &err) < 0) {
        error_report_err(err);
        return 1;
    }
    if (!img_flush(blk, a->filename)) {
        return 1;
    }
    if (!a->quiet) {
        printf("Image resized.\n");
    }
    return 0;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    ResizeArgs a = {
        .how.flags = BDRV_O_RDWR,
        .prealloc = PREALLOC_MODE_OFF,
    };
    g_autoptr(BlockBackend) blk = NULL;

    if (!parse(cmd, argc, argv, &a)) {
        return 1;
    }
    blk = img_open(a.filename, &a.how);
    return blk ? resize(blk, &a) : 1;
}

const ImgCmd img_cmd_resize = {
    .name = "resize",
    .handler = run,
    .description = "Resize an image",
    .usage = "[-f FMT | --image-opts] [--preallocation MODE] [--shrink]\n"
             "        [-q] [--object OBJDEF] FILE [+|-]SIZE",
    .help =
        "  -f, --format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  --preallocation MODE\n"
        "     how to allocate the new part: off, metadata, falloc, full\n"
        "  --shrink\n"
        "     allow making the image smaller, which destroys the data beyond\n"
        "     the new end\n"
        "  -q, --quiet\n"
        "     print nothing but errors\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  FILE\n"
        "     name of the image\n"
        "  [+|-]SIZE\n"
        "     new size in bytes, or how many more or fewer; suffixes k, M, G,\n"
        "     T, P, E are powers of 1024\n",
};
