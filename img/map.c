/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img map */
#include "util/osdep.h"
#include "block/block_int.h"
#include "img/img.h"

/* A stretch of the image with one answer. */
typedef struct Stretch {
    int64_t start;
    int64_t length;
    int64_t depth;
    int64_t offset;         /* in filename, valid if has_offset */
    const char *filename;   /* NULL: not known; belongs to the node */
    bool data;
    bool zero;
    bool compressed;
    bool present;
    bool has_offset;
} Stretch;

typedef struct MapArgs {
    ImgOpen how;
    const char *filename;
    int64_t start;
    int64_t max_length;     /* -1: to the end */
    ImgOutput output;
} MapArgs;

static const char *bool_str(bool value)
{
    return value ? "true" : "false";
}

static bool print_human(const Stretch *e, bool last)
{
    if (e->data && !e->has_offset) {
        error_report("File contains external, encrypted or compressed "
                     "clusters.");
        return false;
    }
    if (e->data && !e->zero) {
        printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", e->start,
               e->length, e->offset, e->filename ?: "");
    }
    return true;
}

static void print_json(const Stretch *e, bool last)
{
    printf("{ \"start\": %" PRId64 ", \"length\": %" PRId64
           ", \"depth\": %" PRId64 ", \"present\": %s, \"zero\": %s"
           ", \"data\": %s, \"compressed\": %s",
           e->start, e->length, e->depth, bool_str(e->present),
           bool_str(e->zero), bool_str(e->data), bool_str(e->compressed));
    if (e->has_offset) {
        printf(", \"offset\": %" PRId64, e->offset);
    }
    printf(last ? "}]\n" : "},\n");
}

static bool print_entry(const MapArgs *a, const Stretch *e, bool last)
{
    if (a->output == IMG_OUTPUT_HUMAN) {
        return print_human(e, last);
    }
    print_json(e, last);
    return true;
}

static bool same_kind(const Stretch *a, const Stretch *b)
{
    if (!a->length || a->zero != b->zero || a->data != b->data ||
        a->compressed != b->compressed || a->present != b->present ||
        a->depth != b->depth || a->has_offset != b->has_offset ||
        a->filename != b->filename) {
        return false;
    }
    return !a->has_offset || a->offset + a->length == b->offset;
}

/*
 * Asks down the chain for the first layer that says more than "not here"; the
 * range shrinks to what all layers asked have in common. Depth counts from 0.
 */
static int ask(BlockDriverState *bs, int64_t offset, int64_t bytes, Stretch *e)
{
    BlockDriverState *file = NULL;
    int64_t map = 0, pnum;
    int depth = 0, ret;

    for (bs = bdrv_skip_filters(bs);; depth++) {
        ret = bdrv_block_status(bs, offset, bytes, &pnum, &map, &file);
        if (ret < 0) {
            return ret;
        }
        bytes = pnum ?: bytes;
        if (!pnum || (ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO)) ||
            !bdrv_backing_chain_next(bs)) {
            break;
        }
        bs = bdrv_backing_chain_next(bs);
    }
    *e = (Stretch) {
        .start = offset,
        .length = bytes,
        .data = ret & BDRV_BLOCK_DATA,
        .zero = ret & BDRV_BLOCK_ZERO,
        .compressed = ret & BDRV_BLOCK_COMPRESSED,
        .present = ret & BDRV_BLOCK_ALLOCATED,
        .has_offset = ret & BDRV_BLOCK_OFFSET_VALID,
        .offset = ret & BDRV_BLOCK_OFFSET_VALID ? map : 0,
        .depth = depth,
    };
    if (e->has_offset && file) {
        bdrv_refresh_filename(file);
        e->filename = file->filename;
    }
    return 0;
}

static int map(BlockBackend *blk, const MapArgs *a)
{
    int64_t length = blk_getlength(blk);
    Stretch current = { .start = a->start }, next;
    int64_t pos;
    int ret;

    if (length < 0) {
        error_report("Failed to get size for '%s'", a->filename);
        return 1;
    }
    if (a->max_length >= 0 && a->max_length < length - a->start) {
        length = a->start + a->max_length;
    }
    if (a->output == IMG_OUTPUT_HUMAN) {
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    } else {
        putchar('[');
    }
    for (pos = a->start; pos < length; pos += next.length) {
        ret = ask(blk_bs(blk), pos, length - pos, &next);
        if (ret < 0) {
            error_report("Failed to read image metadata: %s", g_strerror(-ret));
            return 1;
        }
        if (same_kind(&current, &next)) {
            current.length += next.length;
            continue;
        }
        if (current.length && !print_entry(a, &current, false)) {
            return 1;
        }
        current = next;
    }
    return print_entry(a, &current, true) ? 0 : 1;
}

static bool parse_options(const ImgCmd *cmd, int argc, char **argv, MapArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "format", required_argument, NULL, 'f' },
        { "output", required_argument, NULL, OPTION_OUTPUT },
        { "force-share", no_argument, NULL, 'U' },
        { "start-offset", required_argument, NULL, 's' },
        { "max-length", required_argument, NULL, 'l' },
        {}
    };
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":f:s:l:hU", longopts, 1)) != -1) {
        switch (c) {
        case 'f':
            a->how.fmt = optarg;
            break;
        case 'U':
            a->how.force_share = true;
            break;
        case OPTION_IMAGE_OPTS:
            a->how.image_opts = true;
            break;
        case OPTION_OUTPUT:
            if (!img_parse_output(optarg, &a->output)) {
                return false;
            }
            break;
        case 's':
            a->start = img_parse_size("start offset", optarg, 0, INT64_MAX);
            if (a->start < 0) {
                return false;
            }
            break;
        case 'l':
            a->max_length = img_parse_size("max length", optarg, 0, INT64_MAX);
            if (a->max_length < 0) {
                return false;
            }
            break;
        }
    }
    return true;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    MapArgs a = { .max_length = -1 };
    g_autoptr(BlockBackend) blk = NULL;

    if (!parse_options(cmd, argc, argv, &a)) {
        return 1;
    }
    if (optind != argc - 1) {
        img_usage_error(cmd, "Expecting one image file name");
    }
    a.filename = argv[optind];
    blk = img_open(a.filename, &a.how);
    return blk ? map(blk, &a) : 1;
}

const ImgCmd img_cmd_map = {
    .name = "map",
    .handler = run,
    .description = "Dump image metadata: where its data lies",
    .usage = "[-f FMT | --image-opts] [-s OFFSET] [-l LENGTH]\n"
             "        [--output human|json] [-U] [--object OBJDEF] FILE",
    .help =
        "  -f, --format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  -s, --start-offset OFFSET\n"
        "     where to start (default: 0)\n"
        "  -l, --max-length LENGTH\n"
        "     how many bytes to look at (default: to the end)\n"
        "  --output human|json\n"
        "     output format (default: human)\n"
        "  -U, --force-share\n"
        "     open the image even if somebody writes to it\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  FILE\n"
        "     name of the image\n",
};
