/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img dd: copies a part of an image, counted in blocks, into a new one.
 * What is skipped is cut off by a raw node over the source, so that the copy
 * engine sees the part as a disk of its own.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "img/img.h"
#include "util/cutils.h"

#define DEFAULT_BLOCK 512
#define MIN_SPARSE 4096
#define WORKERS 8

typedef struct DdArgs {
    ImgOpen how;
    const char *in;
    const char *out;
    const char *out_fmt;
    int64_t block;
    int64_t count;      /* blocks; -1: all */
    int64_t skip;       /* blocks */
} DdArgs;

typedef struct Dd {
    const DdArgs *a;
    BlockBackend *source;
    BlockBackend *window;   /* of the source, from what is skipped on */
    BlockBackend *target;
    ImgCreated created;
    int64_t skip;           /* bytes */
    int64_t length;         /* bytes to copy */
} Dd;

/* --- the command line --- */

static bool parse_options(const ImgCmd *cmd, int argc, char **argv, DdArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "format", required_argument, NULL, 'f' },
        { "output-format", required_argument, NULL, 'O' },
        { "force-share", no_argument, NULL, 'U' },
        {}
    };
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":f:hO:U", longopts, 1)) != -1) {
        switch (c) {
        case 'f':
            a->how.fmt = optarg;
            break;
        case 'O':
            a->out_fmt = optarg;
            break;
        case 'U':
            a->how.force_share = true;
            break;
        case OPTION_IMAGE_OPTS:
            a->how.image_opts = true;
            break;
        }
    }
    return true;
}

/* "NAME=VALUE"; false after a message. */
static bool parse_operand(DdArgs *a, const char *text)
{
    const char *eq = strchr(text, '=');
    int name_len = eq ? (int)(eq - text) : (int)strlen(text);
    const char *value;
    int64_t *number = NULL;
    int64_t min = 0, max = INT64_MAX;

    if (eq && strstart(text, "if=", &value)) {
        a->in = value;
    } else if (eq && strstart(text, "of=", &value)) {
        a->out = value;
    } else if (eq && strstart(text, "bs=", &value)) {
        number = &a->block;
        min = 1;
        max = INT_MAX;
    } else if (eq && strstart(text, "count=", &value)) {
        number = &a->count;
    } else if (eq && strstart(text, "skip=", &value)) {
        number = &a->skip;
    } else {
        error_report("unrecognized operand %.*s", name_len, text);
        return false;
    }
    if (number) {
        g_autofree char *what = g_strndup(text, name_len);

        *number = img_parse_size(what, value, min, max);
        return *number >= 0;
    }
    return true;
}

/* --- copying --- */

static bool open_source(Dd *d)
{
    ImgOpen how = d->a->how;

    how.node_name = "dd-source";
    /* The target must not be the source. */
    how.no_share = true;
    d->source = img_open(d->a->in, &how);
    return d->source != NULL;
}

/* What there is to copy. */
static bool measure(Dd *d)
{
    const DdArgs *a = d->a;
    int64_t size = blk_getlength(d->source);

    if (size < 0) {
        error_report("Failed to get size for '%s'", a->in);
        return false;
    }
    if (a->skip > size / a->block) {
        error_report("%s: cannot skip to specified offset", a->in);
        d->length = 0;
        return true;
    }
    d->skip = a->skip * a->block;
    d->length = size - d->skip;
    if (a->count >= 0 && a->count < DIV_ROUND_UP(d->length, a->block)) {
        d->length = a->count * a->block;
    }
    return true;
}

static bool open_window(Dd *d)
{
    QDict *options = qdict_new();
    g_autofree char *offset = g_strdup_printf("%" PRId64, d->skip);
    Error *err = NULL;

    qdict_put_str(options, "driver", "raw");
    qdict_put_str(options, "read-only", "on");
    qdict_put_str(options, "offset", offset);
    qdict_put_str(options, "file", bdrv_get_node_name(blk_bs(d->source)));
    d->window = blk_new_open_perm(NULL, NULL, options, 0,
                                  BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &err);
    if (!d->window) {
        error_reportf_err(err, "Could not skip to the start of the copy: ");
        return false;
    }
    return true;
}

static bool create_target(Dd *d, BlockDriver *drv)
{
    const DdArgs *a = d->a;
    g_autoptr(QDict) options = qdict_new();
    g_autofree char *size = NULL;
    ImgOpen how = { .fmt = a->out_fmt, .flags = BDRV_O_RDWR | BDRV_O_UNMAP };
    Error *err = NULL;

    size = g_strdup_printf("%" PRId64,
                           ROUND_UP(d->length, (int64_t)BDRV_SECTOR_SIZE));
    qdict_put_str(options, "size", size);
    if (bdrv_create(drv, a->out, options, &err) < 0) {
        error_reportf_err(err, "%s: error while creating output image: ",
                          a->out);
        return false;
    }
    img_created_note(&d->created, a->out);
    d->target = img_open(a->out, &how);
    return d->target != NULL;
}

static bool copy(Dd *d)
{
    BlockDriverState *bs = blk_bs(d->target);
    BlockCopyOptions options = {
        .workers = WORKERS,
        .align = MAX(bs->bl.request_alignment, 1),
        .length = d->length,
        .min_sparse = MIN_SPARSE,
        .target_is_zero = bdrv_has_zero_init(bs),
        .in_order = true,
    };
    BlockCopyFailure failure;

    if (img_copy(d->window, d->target, &options, &failure) < 0) {
        if (failure.error) {
            if (failure.phase <= BLOCK_COPY_READ) {
                failure.offset += d->skip;
            }
            img_copy_report(&failure, d->a->in, d->a->out);
        }
        return false;
    }
    return img_flush(d->target, d->a->out);
}

static bool dd(Dd *d, BlockDriver *drv)
{
    return open_source(d) &&
           img_name_is_apart(d->source, d->a->in, d->a->out, false, NULL) &&
           measure(d) && open_window(d) && create_target(d, drv) && copy(d);
}

/* --- the command --- */

static BlockDriver *find_format(const DdArgs *a)
{
    BlockDriver *drv = bdrv_find_format(a->out_fmt);

    if (!drv) {
        error_report("Unknown file format '%s'", a->out_fmt);
        return NULL;
    }
    if (!drv->create_options || !drv->bdrv_create) {
        error_report("Format driver '%s' does not support image creation",
                     drv->format_name);
        return NULL;
    }
    return drv;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    DdArgs a = { .out_fmt = "raw", .block = DEFAULT_BLOCK, .count = -1 };
    Dd d = { .a = &a };
    BlockDriver *drv;
    bool ok;

    if (!parse_options(cmd, argc, argv, &a)) {
        return 1;
    }
    for (; optind < argc; optind++) {
        if (!parse_operand(&a, argv[optind])) {
            return 1;
        }
    }
    if (!a.in || !a.out) {
        error_report("Must specify both input and output files");
        return 1;
    }
    drv = find_format(&a);
    ok = drv && dd(&d, drv);
    blk_unref(d.target);
    blk_unref(d.window);
    blk_unref(d.source);
    if (!ok) {
        img_created_discard(&d.created, a.out);
    }
    return ok ? 0 : 1;
}

const ImgCmd img_cmd_dd = {
    .name = "dd",
    .handler = run,
    .description = "Copy a part of an image into a new image",
    .usage = "[-f FMT | --image-opts] [-O OUTPUT_FMT] [-U] [--object OBJDEF]\n"
             "        [bs=BLOCK_SIZE] [count=BLOCKS] [skip=BLOCKS] if=INPUT "
             "of=OUTPUT",
    .help =
        "  -f, --format FMT\n"
        "     format of INPUT (default: guess)\n"
        "  --image-opts\n"
        "     INPUT is an option string, NAME=VALUE,...\n"
        "  -O, --output-format OUTPUT_FMT\n"
        "     format of OUTPUT (default: raw)\n"
        "  -U, --force-share\n"
        "     open INPUT even if somebody writes to it\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  bs=BLOCK_SIZE\n"
        "     size of a block in bytes (default: 512)\n"
        "  count=BLOCKS\n"
        "     how many blocks to copy (default: all)\n"
        "  skip=BLOCKS\n"
        "     how many blocks of INPUT to leave out first\n"
        "  if=INPUT\n"
        "     the image to copy from\n"
        "  of=OUTPUT\n"
        "     the image to make; an existing file is replaced\n",
};
