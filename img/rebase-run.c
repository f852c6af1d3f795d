/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img rebase: what the image takes from its old backing file, and what the
 * new one does not hold, is copied into the image; then the header changes.
 *
 * The copy reads the guest's view of the image and writes it to the same place
 * of the same image. So nothing that is written can be wrong, whatever is
 * allocated where, and until the header changes, which happens after a flush,
 * the image is a valid overlay of the old backing file with the same content.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/copy.h"
#include "img/rebase.h"

#define MIN_SPARSE 4096

typedef struct Rebase {
    const RebaseArgs *a;
    BlockBackend *image;
    BlockDriverState *bs;       /* of the image, below filters */
    BlockDriverState *old;      /* its backing file; NULL: none */
    BlockBackend *new;          /* NULL: none */
    int64_t new_length;
    BlockDriverState *common;   /* new is this node below old; or NULL */
} Rebase;

/* --- before the copy --- */

static bool check_image(Rebase *r)
{
    const RebaseArgs *a = r->a;
    const char *reason = NULL;

    if (!r->bs->drv->bdrv_change_backing_file) {
        reason = g_strerror(ENOTSUP);
    } else if (a->backing && !a->backing_fmt) {
        reason = "backing format must be specified";
    }
    if (reason) {
        error_report("Could not change the backing file to '%s': %s",
                     a->backing ?: "", reason);
        return false;
    }
    if (a->compress && !r->bs->bl.compress_alignment) {
        error_report("Compression not supported for this file format");
        return false;
    }
    return true;
}

/* What internal snapshots take from the backing file cannot be kept. */
static bool check_snapshots(Rebase *r)
{
    SnapshotInfoList *list = NULL;
    Error *err = NULL;

    if (r->a->unsafe || !r->old || !r->bs->drv->bdrv_snapshot_list) {
        return true;
    }
    list = r->bs->drv->bdrv_snapshot_list(r->bs, &err);
    if (err) {
        error_report_err(err);
        return false;
    }
    if (!list) {
        return true;
    }
    qapi_free_SnapshotInfoList(list);
    error_report("'%s' has internal snapshots, and they would lose what they "
                 "take from the backing file", r->a->filename);
    error_printf("Delete them, or use unsafe mode (-u) if '%s' has the "
                 "content of the old backing file.\n", r->a->backing ?: "");
    return false;
}

static bool open_image(Rebase *r)
{
    r->image = img_open(r->a->filename, &r->a->image);
    if (!r->image) {
        return false;
    }
    r->bs = bdrv_skip_filters(blk_bs(r->image));
    r->old = bdrv_backing_chain_next(r->bs);
    return check_image(r) && check_snapshots(r);
}

/* The cache mode of -T for the old chain, which came with the image. */
static bool set_old_cache(Rebase *r)
{
    int flags = r->a->new_backing.flags;
    BlockDriverState *bs = bdrv_cow_bs(r->bs);
    QDict *options;
    Error *err = NULL;

    if (!bs || !r->a->backing_cache) {
        return true;
    }
    options = qdict_new();
    qdict_put_bool(options, "cache.direct", flags & BDRV_O_NOCACHE);
    qdict_put_bool(options, "cache.no-flush", flags & BDRV_O_NO_FLUSH);
    if (bdrv_reopen(bs, options, true, &err) < 0) {
        error_reportf_err(err, "Could not set the cache mode of the old "
                          "backing file: ");
        return false;
    }
    return true;
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat x, y;

    return a[0] && b[0] && stat(a, &x) == 0 && stat(b, &y) == 0 &&
           x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The image at @path in the old chain, or NULL. */
static BlockDriverState *find_in_chain(Rebase *r, const char *path)
{
    BlockDriverState *bs;

    for (bs = r->old; bs; bs = bdrv_backing_chain_next(bs)) {
        bdrv_refresh_filename(bs);
        if (is_same_file(bs->exact_filename, path) &&
            !strcmp(bs->drv->format_name, r->a->backing_fmt)) {
            return bs;
        }
    }
    return NULL;
}

static bool open_path(Rebase *r, const char *path)
{
    QDict *options = qdict_new();
    const ImgOpen *how = &r->a->new_backing;
    Error *err = NULL;

    qdict_put_str(options, "driver", how->fmt);
    if (how->force_share) {
        qdict_put_bool(options, "force-share", true);
    }
    r->new = blk_new_open(path, NULL, options, how->flags, &err);
    if (!r->new) {
        error_reportf_err(err, "Could not open new backing file '%s': ",
                          r->a->backing);
    }
    return r->new != NULL;
}

static bool open_new(Rebase *r)
{
    g_autofree char *path = NULL;
    Error *err = NULL;

    if (!r->a->backing) {
        return true;
    }
    bdrv_refresh_filename(r->bs);
    path = bdrv_get_full_backing_filename_from_filename(r->bs->filename,
                                                        r->a->backing, &err);
    if (!path) {
        error_reportf_err(err, "Could not resolve backing filename: ");
        return false;
    }
    r->common = find_in_chain(r, path);
    if (r->common) {
        r->new = blk_new_with_bs(r->common, BLK_PERM_CONSISTENT_READ,
                                 BLK_PERM_ALL, &err);
        if (!r->new) {
            error_reportf_err(err, "Could not use '%s': ", r->a->backing);
            return false;
        }
    } else if (!open_path(r, path)) {
        return false;
    }
    r->new_length = blk_getlength(r->new);
    if (r->new_length < 0) {
        error_report("Could not get the size of '%s': %s", r->a->backing,
                     g_strerror(-r->new_length));
        return false;
    }
    return true;
}

/* --- the copy --- */

/* 1: the new backing file reads as zeroes for *@pnum (at most @bytes). */
static int coroutine_fn new_is_zero(Rebase *r, int64_t offset, int64_t bytes,
                                    int64_t *pnum)
{
    int ret;

    *pnum = bytes;
    if (offset >= r->new_length) {
        return 1;
    }
    bytes = MIN(bytes, r->new_length - offset);
    ret = blk_co_block_status_above(r->new, NULL, true, offset, bytes, pnum,
                                    NULL, NULL, NULL);
    return ret < 0 ? ret : !!(ret & BDRV_BLOCK_ZERO);
}

static int coroutine_fn classify(void *opaque, int64_t offset, int64_t bytes,
                                 int64_t *pnum)
{
    Rebase *r = opaque;
    int64_t n = bytes;
    int ret;

    /* What the image holds itself is not touched. */
    ret = blk_co_is_allocated_above(r->image, r->old, false, offset, n, pnum);
    if (ret != 0) {
        return ret < 0 ? ret : BLOCK_COPY_SKIP;
    }
    n = *pnum;
    if (r->common) {
        ret = blk_co_is_allocated_above(r->image, r->common, false, offset, n,
                                        pnum);
        if (ret <= 0) {
            return ret < 0 ? ret : BLOCK_COPY_SKIP;
        }
        n = *pnum;
    }
    ret = blk_co_block_status_above(r->image, NULL, true, offset, n, pnum,
                                    NULL, NULL, NULL);
    if (ret < 0 || !(ret & BDRV_BLOCK_ZERO)) {
        return ret < 0 ? ret : BLOCK_COPY_DATA;
    }
    ret = new_is_zero(r, offset, *pnum, pnum);
    if (ret < 0) {
        return ret;
    }
    return ret ? BLOCK_COPY_SKIP : BLOCK_COPY_DATA;
}

static void report_failure(Rebase *r, const BlockCopyFailure *f)
{
    if (f->phase == BLOCK_COPY_COMPARE) {
        img_copy_report(f, r->a->backing, r->a->filename);
    } else if (f->error) {
        img_copy_report(f, r->a->filename, r->a->filename);
    }
}

static bool copy(Rebase *r)
{
    BlockDriverInfo info = { 0 };
    BlockCopyOptions options = {
        .workers = r->a->workers,
        .rate_limit = r->a->rate_limit,
        .align = MAX(r->bs->bl.request_alignment, 1),
        .length = blk_getlength(r->image),
        .min_sparse = MIN_SPARSE,
        .target_is_zero = !r->new,
        .classify = classify,
        .same_as = r->new,
        .in_order = true,
        .compressed = r->a->compress,
        .progress = img_copy_progress,
        .opaque = r,
    };
    BlockCopyFailure failure;
    int unit;

    if (options.length < 0) {
        error_report("Could not get size of '%s': %s", r->a->filename,
                     g_strerror(-options.length));
        return false;
    }
    if (bdrv_get_info(r->bs, &info) >= 0) {
        unit = r->a->compress ? info.cluster_size : info.subcluster_size;
        options.align = MAX(options.align, unit);
    }
    if (img_copy(r->image, r->image, &options, &failure) < 0) {
        report_failure(r, &failure);
        return false;
    }
    return true;
}

/* --- the header --- */

static bool change_header(Rebase *r)
{
    const char *name = r->a->backing;
    int ret;

    /* Nothing may be missing once the old backing file is not named. */
    if (!img_flush(r->image, r->a->filename)) {
        return false;
    }
    ret = bdrv_change_backing_file(r->bs, name, name ? r->a->backing_fmt : NULL);
    if (ret == 0) {
        ret = blk_flush(r->image);
    }
    if (ret < 0) {
        error_report("Could not change the backing file to '%s': %s",
                     name ?: "", ret == -ENOSPC
                     ? "No space left in the file header" : g_strerror(-ret));
        return false;
    }
    return true;
}

static bool rebase(Rebase *r)
{
    if (!open_image(r)) {
        return false;
    }
    if (!r->a->unsafe &&
        !(set_old_cache(r) && open_new(r) && copy(r))) {
        return false;
    }
    if (!change_header(r)) {
        return false;
    }
    img_progress_print(100);
    return true;
}

int img_rebase(const RebaseArgs *a)
{
    Rebase r = { .a = a };
    bool ok;

    img_progress_init(a->quiet ? IMG_PROGRESS_OFF : a->progress, 2.0);
    img_progress_print(0);
    ok = rebase(&r);
    img_progress_end();
    blk_unref(r.new);
    blk_unref(r.image);
    return ok ? 0 : 1;
}
