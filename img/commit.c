/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img commit: what an image holds above one of its backing files goes into
 * that file.
 *
 * The image shows the same content at every moment: a range of the base changes
 * only to what the image has there. The image is emptied when all of it is
 * durable in the base; an error or a crash before leaves the image as it was,
 * and the same commit can be run again.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "img/img.h"

#define WORKERS 8
#define MIN_SPARSE 4096

typedef struct CommitArgs {
    ImgOpen how;
    const char *filename;
    const char *base;       /* NULL: the backing file */
    int64_t rate_limit;
    bool keep;              /* do not empty the image */
    ImgProgress progress;
    bool quiet;
} CommitArgs;

typedef struct Commit {
    const CommitArgs *a;
    BlockBackend *image;
    BlockDriverState *bs;   /* of the image, below filters */
    BlockDriverState *base;
    BlockBackend *target;   /* base, writable */
    int64_t length;         /* of the image */
} Commit;

/* --- the command line --- */

static bool parse_options(const ImgCmd *cmd, int argc, char **argv,
                          CommitArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "format", required_argument, NULL, 'f' },
        { "cache", required_argument, NULL, 't' },
        { "base", required_argument, NULL, 'b' },
        { "drop", no_argument, NULL, 'd' },
        { "rate-limit", required_argument, NULL, 'r' },
        { "progress", optional_argument, NULL, 'p' },
        { "quiet", no_argument, NULL, 'q' },
        {}
    };
    const char *cache = "writeback";
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":b:df:hpqr:t:", longopts,
                           1)) != -1) {
        switch (c) {
        case 'b':
            a->base = optarg;
            /* What is between needs the image, so it is not emptied. */
            a->keep = true;
            break;
        case 'd':
            a->keep = true;
            break;
        case 'f':
            a->how.fmt = optarg;
            break;
        case 'p':
            if (!img_parse_progress(optarg, &a->progress)) {
                return false;
            }
            break;
        case 'q':
            a->quiet = true;
            break;
        case 'r':
            a->rate_limit = img_parse_size("rate limit", optarg, 0, INT64_MAX);
            if (a->rate_limit < 0) {
                return false;
            }
            break;
        case 't':
            cache = optarg;
            break;
        case OPTION_IMAGE_OPTS:
            a->how.image_opts = true;
            break;
        }
    }
    return img_parse_cache("cache", cache, &a->how.flags,
                           &a->how.writethrough);
}

/* --- finding the base --- */

static bool find_base(Commit *c)
{
    const CommitArgs *a = c->a;

    if (!a->base) {
        c->base = bdrv_backing_chain_next(c->bs);
        if (!c->base) {
            error_report("Image does not have a backing file");
        }
        return c->base != NULL;
    }
    c->base = bdrv_find_backing_image(c->bs, a->base);
    if (c->base) {
        return true;
    }
    error_report("Did not find '%s' in the backing chain of '%s'", a->base,
                 a->filename);
    return false;
}

/* --- before the copy --- */

static bool open_image(Commit *c)
{
    c->image = img_open(c->a->filename, &c->a->how);
    if (!c->image) {
        return false;
    }
    c->bs = bdrv_skip_filters(blk_bs(c->image));
    return find_base(c);
}

static bool open_base(Commit *c)
{
    QDict *options = qdict_new();
    Error *err = NULL;

    qdict_put_str(options, "read-only", "off");
    qdict_put_str(options, "discard", "unmap");
    if (bdrv_reopen(c->base, options, true, &err) < 0) {
        goto fail;
    }
    c->target = blk_new_with_bs(c->base, BLK_PERM_CONSISTENT_READ |
                                BLK_PERM_WRITE | BLK_PERM_RESIZE,
                                BLK_PERM_ALL, &err);
    if (c->target) {
        blk_set_enable_write_cache(c->target, !c->a->how.writethrough);
        return true;
    }
fail:
    error_reportf_err(err, "Could not write to '%s': ", c->base->filename);
    return false;
}

/* A base that is shorter than the image grows, by zeroes. */
static bool grow_base(Commit *c)
{
    int64_t length = blk_getlength(c->target);
    Error *err = NULL;

    c->length = blk_getlength(c->image);
    if (length < 0 || c->length < 0) {
        error_report("Could not get the size of '%s': %s",
                     length < 0 ? c->base->filename : c->a->filename,
                     g_strerror(-MIN(length, c->length)));
        return false;
    }
    if (length >= c->length) {
        return true;
    }
    /* Truncation sees to it that no longer backing file of the base shows. */
    if (blk_truncate(c->target, c->length, false, PREALLOC_MODE_OFF, 0,
                     &err) < 0) {
        error_reportf_err(err, "Could not grow '%s': ", c->base->filename);
        return false;
    }
    return true;
}

/* --- the copy --- */

static bool copy(Commit *c)
{
    BlockDriverInfo info = { 0 };
    BlockCopyOptions options = {
        .workers = WORKERS,
        .align = MAX(c->base->bl.request_alignment, 1),
        .length = c->length,
        .min_sparse = MIN_SPARSE,
        .target_has_backing = true,
        .target_backing_length = INT64_MAX,
        .source_base = c->base,
        .keep_target_zeroes = true,
        .in_order = true,
        .rate_limit = c->a->rate_limit,
        .progress = img_copy_progress,
    };
    BlockCopyFailure failure;

    /* Zeroes in less than a cluster of the base would be written as data. */
    if (bdrv_get_info(c->base, &info) >= 0) {
        options.min_sparse = MAX(options.min_sparse, info.subcluster_size);
    }
    if (img_copy(c->image, c->target, &options, &failure) < 0) {
        if (failure.error) {
            img_copy_report(&failure, c->a->filename, c->base->filename);
        }
        return false;
    }
    return true;
}

static bool empty_image(Commit *c)
{
    int ret = bdrv_make_empty(blk_root(c->image));

    if (ret < 0) {
        error_report("Could not empty '%s': %s", c->a->filename,
                     g_strerror(-ret));
        error_printf("Everything is in '%s'.\n", c->base->filename);
        return false;
    }
    return img_flush(c->image, c->a->filename);
}

static bool commit(Commit *c)
{
    if (!open_image(c)) {
        return false;
    }
    bdrv_refresh_filename(c->base);
    if (!open_base(c) || !grow_base(c) || !copy(c) ||
        !img_flush(c->target, c->base->filename)) {
        return false;
    }
    if (!c->a->keep && !empty_image(c)) {
        return false;
    }
    img_progress_print(100);
    return true;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    CommitArgs a = { .how.flags = BDRV_O_RDWR | BDRV_O_UNMAP };
    Commit c = { .a = &a };
    bool ok;

    if (!parse_options(cmd, argc, argv, &a)) {
        return 1;
    }
    if (optind != argc - 1) {
        img_usage_error(cmd, "Expecting one image file name");
    }
    a.filename = argv[optind];
    img_progress_init(a.quiet ? IMG_PROGRESS_OFF : a.progress, 1.0);
    img_progress_print(0);
    ok = commit(&c);
    img_progress_end();
    blk_unref(c.target);
    blk_unref(c.image);
    if (ok && !a.quiet) {
        printf("Image committed.\n");
    }
    return ok ? 0 : 1;
}

const ImgCmd img_cmd_commit = {
    .name = "commit",
    .handler = run,
    .description = "Write the changes in an image into its backing file",
    .usage = "[-f FMT | --image-opts] [-t CACHE] [-b BASE] [-r RATE] [-d]\n"
             "        [-p] [-q] [--object OBJDEF] FILE",
    .help =
        "  -f, --format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  -t, --cache CACHE\n"
        "     cache mode: none, writeback (default), writethrough, directsync,\n"
        "     unsafe\n"
        "  -b, --base BASE\n"
        "     a file further down in the chain, instead of the backing file\n"
        "     of FILE. Implies -d. What was between FILE and BASE is no longer\n"
        "     valid for others that use it\n"
        "  -r, --rate-limit RATE\n"
        "     at most so many bytes a second\n"
        "  -d, --drop\n"
        "     FILE is going to be removed: do not empty it\n"
        "  -p, --progress[=line|bar|json]\n"
        "     show progress: a bar on a terminal, lines elsewhere; json: one\n"
        "     object a line\n"
        "  -q, --quiet\n"
        "     print nothing but errors\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  FILE\n"
        "     the image whose changes are committed; it is empty afterwards\n",
};
