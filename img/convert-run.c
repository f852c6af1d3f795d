/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img convert: opens the sources (several are joined by the concat
 * driver), makes the target, and lets the copy engine move the data.
 *
 * A target that was created here does not survive a failure (created.c).
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/copy.h"
#include "block/damage.h"
#include "img/convert-digest.h"
#include "img/convert-memory.h"
#include "img/convert-resume.h"
#include "img/convert-salvage.h"
#include "util/cutils.h"

/* The copy is complete but for what --salvage could not read. */
#define EXIT_LOST 2

typedef ImgSalvageSource Source;

typedef struct Convert {
    const ConvertArgs *a;
    Source *sources;
    BlockBackend *concat;   /* of several sources */
    BlockBackend *in;       /* the one source, or concat */
    BlockBackend *out;
    int64_t length;         /* bytes to copy, whole sectors */
    int64_t out_length;     /* of the target before the copy */
    ImgSalvage *salvage;    /* NULL: an error is an error */
    ImgDigest *digest;      /* NULL: none */
    ImgMemory *memory;      /* NULL: no limit */
    ImgResume *resume;      /* NULL: a failure ends the copy for good */
    int64_t complete;       /* see BlockCopyProgress */
    ImgCreated created;
    bool zeroed;            /* the target reads as zeroes */
} Convert;

/* --- sources --- */

static bool open_sources(Convert *c)
{
    const ConvertArgs *a = c->a;
    int i;

    c->sources = g_new0(Source, a->nb_sources);
    for (i = 0; i < a->nb_sources; i++) {
        g_autofree char *name = g_strdup_printf("convert-source-%d", i);
        Source *s = &c->sources[i];
        ImgOpen how = a->source;

        if (a->nb_sources > 1) {
            how.node_name = name;
        }
        if (a->salvage) {
            how.flags |= BDRV_O_SALVAGE;
        }
        s->filename = a->sources[i];
        s->blk = img_open(s->filename, &how);
        if (!s->blk ||
            (a->snapshot && !img_load_snapshot(s->blk, a->snapshot)) ||
            (a->salvage && !img_salvage_survey(s->blk, s->filename))) {
            return false;
        }
        s->length = blk_getlength(s->blk);
        if (s->length < 0) {
            error_report("Could not get size of %s: %s", s->filename,
                         g_strerror(-s->length));
            return false;
        }
    }
    return true;
}

static bool join_sources(Convert *c)
{
    QDict *options = qdict_new();
    Error *err = NULL;
    int i;

    qdict_put_str(options, "driver", "concat");
    qdict_put_str(options, "read-only", "on");
    for (i = 0; i < c->a->nb_sources; i++) {
        g_autofree char *key = g_strdup_printf("files.%d", i);

        qdict_put_str(options, key,
                      bdrv_get_node_name(blk_bs(c->sources[i].blk)));
    }
    c->concat = blk_new_open_perm(NULL, NULL, options, 0,
                                  BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &err);
    if (!c->concat) {
        error_reportf_err(err, "Could not join the sources: ");
        return false;
    }
    return true;
}

static bool prepare_sources(Convert *c)
{
    int64_t start = 0;
    int i;

    if (!open_sources(c)) {
        return false;
    }
    if (c->a->bitmaps &&
        !img_convert_check_bitmaps(blk_bs(c->sources->blk),
                                   c->a->skip_broken_bitmaps)) {
        return false;
    }
    for (i = 0; i < c->a->nb_sources; i++) {
        c->sources[i].start = start;
        start += c->sources[i].length;
    }
    if (c->a->nb_sources > 1) {
        if (!join_sources(c)) {
            return false;
        }
        c->in = c->concat;
    } else {
        c->in = c->sources->blk;
    }
    c->length = blk_getlength(c->in);
    if (c->length < 0) {
        error_report("Could not get the size of the sources: %s",
                     g_strerror(-c->length));
        return false;
    }
    c->length = QEMU_ALIGN_UP(c->length, (int64_t)BDRV_SECTOR_SIZE);
    return true;
}

/* --- the target --- */

/* @open: ask the open one, which knows more than its name says. */
static bool target_is_apart(Convert *c, bool open)
{
    const ConvertArgs *a = c->a;

    for (int i = 0; i < a->nb_sources; i++) {
        const Source *s = &c->sources[i];

        if (open ? !img_target_is_apart(s->blk, s->filename, c->out, a->target)
                 : !img_name_is_apart(s->blk, s->filename, a->target,
                                      a->dest.image_opts, a->options)) {
            return false;
        }
    }
    return true;
}

/* The size comes from the sources; another one is not silently dropped. */
static bool set_size(Convert *c)
{
    QDict *options = c->a->options;
    const char *given = qdict_get_try_str(options, "size");
    g_autofree char *size = g_strdup_printf("%" PRId64, c->length);
    uint64_t value;

    if (given && (qemu_strtosz(given, NULL, &value) < 0 ||
                  value != (uint64_t)c->length)) {
        error_report("-o size=%s differs from the size of the source, %s",
                     given, size);
        return false;
    }
    qdict_put_str(options, "size", size);
    return true;
}

static bool create_target(Convert *c)
{
    const ConvertArgs *a = c->a;
    BlockDriver *drv = bdrv_find_format(a->dest.fmt);
    Error *err = NULL;

    if (a->compressed && !drv->bdrv_co_pwritev_compressed) {
        error_report("Compression not supported for this file format");
        return false;
    }
    if (!set_size(c)) {
        return false;
    }
    if (bdrv_create(drv, a->target, a->options, &err) < 0) {
        error_reportf_err(err, "%s: error while converting %s: ", a->target,
                          a->dest.fmt);
        return false;
    }
    img_created_note(&c->created, a->target);
    return true;
}

/* What was made encrypted is opened with the same passphrase. */
static BlockBackend *open_made(const ConvertArgs *a, const ImgOpen *how)
{
    static const char *const names[] = { "key-secret", "encrypt.key-secret" };
    QDict *options;

    if (a->no_create || how->image_opts) {
        return img_open(a->target, how);
    }
    options = qdict_new();
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const char *secret = qdict_get_try_str(a->options, names[i]);

        if (secret) {
            qdict_put_str(options, names[i], secret);
        }
    }
    return img_open_options(a->target, options, how);
}

static bool open_target(Convert *c)
{
    const ConvertArgs *a = c->a;
    ImgOpen how = a->dest;
    int64_t length;

    how.flags |= BDRV_O_RDWR;
    if (a->min_sparse) {
        how.flags |= BDRV_O_UNMAP;
    }
    c->out = open_made(a, &how);
    if (!c->out) {
        return false;
    }
    if (a->compressed && !blk_bs(c->out)->bl.compress_alignment) {
        error_report("Compression not supported for this file format");
        return false;
    }
    length = c->out_length = blk_getlength(c->out);
    if (length < 0) {
        error_report("unable to get output image length: %s",
                     g_strerror(-length));
        return false;
    }
    if (length < c->length) {
        /* Half a sector that only rounding added need not fit. */
        if (length >= blk_getlength(c->in)) {
            c->length = length;
        } else {
            error_report("output file is smaller than input file");
            return false;
        }
    }
    return true;
}

static bool is_resumed(const Convert *c)
{
    return c->resume && img_resume_is_found(c->resume);
}

/* The target's zeroes: known, or quickly made. */
static void prepare_zeroes(Convert *c)
{
    const ConvertArgs *a = c->a;

    if (is_resumed(c)) {
        /* What could be read last time may be lost now. */
        c->zeroed = img_resume_target_is_zero(c->resume) && !c->salvage;
        return;
    }
    if (!a->min_sparse || a->backing) {
        return;
    }
    if (a->no_create) {
        c->zeroed = a->target_is_zero;
    } else {
        c->zeroed = bdrv_has_zero_init(blk_bs(c->out));
    }
    if (!c->zeroed && bdrv_can_write_zeroes_with_unmap(blk_bs(c->out))) {
        c->zeroed = blk_pwrite_zeroes(c->out, 0, c->length,
                                      BDRV_REQ_MAY_UNMAP |
                                      BDRV_REQ_NO_FALLBACK) >= 0;
    }
}

/* --- copying --- */

/* The source that holds byte @offset of the copy. */
static Source *source_at(Convert *c, int64_t offset)
{
    int i = c->a->nb_sources - 1;

    while (i > 0 && offset < c->sources[i].start) {
        i--;
    }
    return &c->sources[i];
}

/* In salvaging mode: notes what is lost. */
static int coroutine_fn on_unreadable(void *opaque, BlockCopyPhase phase,
                                      int64_t offset, int64_t bytes, int error)
{
    Convert *c = opaque;

    if (phase == BLOCK_COPY_READ) {
        img_salvage_lost(c->salvage, offset, bytes, error);
    } else if (phase == BLOCK_COPY_STATUS) {
        img_salvage_no_status(c->salvage);
    } else {
        return error;
    }
    return 0;
}

static void coroutine_fn on_seen(void *opaque, int64_t offset, int64_t bytes,
                                 const void *buf)
{
    Convert *c = opaque;

    img_digest_add(c->digest, offset, bytes, buf);
}

static int coroutine_fn on_landed(void *opaque, int64_t offset, int64_t bytes)
{
    Convert *c = opaque;
    int ret = c->memory ? img_memory_landed(c->memory, bytes) : 0;

    if (ret >= 0 && c->resume) {
        ret = img_resume_landed(c->resume, c->complete);
    }
    return ret;
}

static void on_progress(void *opaque, const BlockCopyProgress *p)
{
    Convert *c = opaque;

    c->complete = p->complete;
    img_copy_progress(opaque, p);
}

static void report_failure(Convert *c, BlockCopyFailure f)
{
    const Source *s = source_at(c, f.offset);

    if (f.phase == BLOCK_COPY_STATUS || f.phase == BLOCK_COPY_READ) {
        f.offset -= s->start;
    }
    img_copy_report(&f, s->filename, c->a->target);
}

static bool set_alignment(Convert *c, BlockCopyOptions *opt)
{
    BlockDriverState *bs = blk_bs(c->out);
    BlockDriverInfo info = { 0 };
    int ret = bdrv_get_info(bs, &info);

    if (ret < 0 && c->a->compressed) {
        error_report("could not get block driver info");
        return false;
    }
    opt->align = MAX(bs->bl.request_alignment, 1);
    if (ret >= 0 && is_power_of_2(info.cluster_size)) {
        opt->align = MAX(opt->align, info.cluster_size);
    }
    if (is_power_of_2(bs->bl.pwrite_zeroes_alignment)) {
        opt->align = MAX(opt->align, bs->bl.pwrite_zeroes_alignment);
    }
    return true;
}

static bool set_backing(Convert *c, BlockCopyOptions *opt)
{
    BlockDriverState *below;

    if (!c->a->backing) {
        return true;
    }
    below = bdrv_backing_chain_next(blk_bs(c->out));
    if (!below) {
        error_report("'%s' does not have a backing file", c->a->target);
        return false;
    }
    opt->target_has_backing = true;
    opt->target_backing_length = bdrv_getlength(below);
    if (opt->target_backing_length < 0) {
        error_report("Could not get size of the backing file of '%s': %s",
                     c->a->target, g_strerror(-opt->target_backing_length));
        return false;
    }
    opt->source_base = bdrv_backing_chain_next(blk_bs(c->in));
    return true;
}

/* The least that can be read of the source, and so lost. */
static int64_t salvage_unit(Convert *c)
{
    return MAX(blk_bs(c->in)->bl.request_alignment, (uint32_t)BDRV_SECTOR_SIZE);
}

static bool copy(Convert *c)
{
    const ConvertArgs *a = c->a;
    BlockCopyOptions opt = {
        .workers = a->workers,
        .length = c->length,
        .min_sparse = a->min_sparse,
        .target_is_zero = c->zeroed,
        .in_order = !a->out_of_order,
        .compressed = a->compressed,
        .copy_range = a->copy_range,
        .rate_limit = a->rate_limit,
        .salvage_unit = c->salvage ? salvage_unit(c) : 0,
        .salvage_retries = a->salvage_retries,
        .seen = c->digest ? on_seen : NULL,
        .landed = a->max_memory || c->resume ? on_landed : NULL,
        .progress = on_progress,
        .on_error = a->salvage ? on_unreadable : NULL,
        .opaque = c,
    };
    BlockCopyFailure failure;

    if (!set_alignment(c, &opt) || !set_backing(c, &opt)) {
        return false;
    }
    if (a->max_memory) {
        if (!img_memory_fit(a->max_memory, opt.align, &opt)) {
            return false;
        }
        c->memory = img_memory_new(c->in, c->out, a->max_memory);
    }
    if (c->resume) {
        opt.start = QEMU_ALIGN_DOWN(img_resume_start(c->resume), opt.align);
    }
    if (img_copy(c->in, c->out, &opt, &failure) < 0) {
        if (failure.error) {
            report_failure(c, failure);
        }
        return false;
    }
    return true;
}

/* A file that is written in whole blocks, as with cache=none, is too long now
 * if its last one is not full. */
static bool cut_target(Convert *c)
{
    Error *err = NULL;

    if (blk_getlength(c->out) > c->out_length &&
        blk_truncate(c->out, c->out_length, true, PREALLOC_MODE_OFF, 0,
                     &err) < 0) {
        error_reportf_err(err, "%s: ", c->a->target);
        return false;
    }
    return true;
}

/* What is in caches reaches the file, or the user hears of it. */
static bool finish(Convert *c)
{
    if (!cut_target(c) || !img_flush(c->out, c->a->target)) {
        return false;
    }
    img_progress_print(100);
    return true;
}

static bool report_salvage(Convert *c)
{
    return !c->salvage ||
           img_salvage_finish(c->salvage, c->sources, c->a->nb_sources,
                              c->a->salvage_report, c->a->quiet);
}

static void print_digest(Convert *c)
{
    if (c->digest) {
        img_digest_print(c->digest, c->length, c->a->target);
    }
}

/* --- resuming --- */

static bool prepare_resume(Convert *c)
{
    if (c->a->resume) {
        c->resume = img_resume_new(c->a, c->sources, c->length);
    }
    return !c->a->resume || c->resume;
}

static bool begin_resume(Convert *c)
{
    return !c->resume || img_resume_begin(c->resume, c->out, c->zeroed,
                                          c->salvage);
}

static bool end_resume(Convert *c)
{
    if (c->resume) {
        img_resume_finish(c->resume);
    }
    return true;
}

/* After a failure. True if a later run can go on with the target. */
static bool keep_for_later(Convert *c)
{
    if (!c->resume || !img_resume_save(c->resume, c->complete)) {
        return false;
    }
    error_printf("The same command goes on where this copy stopped.\n");
    return true;
}

static bool convert(Convert *c)
{
    if (c->a->digest) {
        c->digest = img_digest_new(c->a->digest_name);
        if (!c->digest) {
            return false;
        }
    }
    if (!prepare_sources(c) || !target_is_apart(c, false) ||
        !prepare_resume(c) ||
        (!c->a->no_create && !is_resumed(c) && !create_target(c)) ||
        !open_target(c) || !target_is_apart(c, true)) {
        return false;
    }
    if (c->a->bitmaps && !img_convert_check_target(blk_bs(c->sources->blk),
                                                   blk_bs(c->out))) {
        return false;
    }
    prepare_zeroes(c);
    return begin_resume(c) && copy(c) &&
           (!c->a->bitmaps || img_convert_bitmaps(blk_bs(c->sources->blk),
                                                  blk_bs(c->out))) &&
           finish(c) && report_salvage(c) && end_resume(c);
}

int img_convert(const ConvertArgs *a)
{
    Convert c = { .a = a };
    bool ok, kept, whole;
    int i;

    if (a->salvage) {
        c.salvage = img_salvage_new();
        bdrv_salvage_retries = a->salvage_retries;
    }
    img_progress_init(a->quiet ? IMG_PROGRESS_OFF : a->progress, 1.0);
    img_progress_print(0);
    ok = convert(&c);
    img_progress_end();
    kept = !ok && keep_for_later(&c);
    img_resume_free(c.resume);
    whole = !c.salvage || img_salvage_is_whole(c.salvage);
    img_salvage_free(c.salvage);
    if (ok) {
        print_digest(&c);
    }
    img_digest_free(c.digest);
    img_memory_free(c.memory);

    blk_unref(c.out);
    blk_unref(c.concat);
    for (i = 0; c.sources && i < a->nb_sources; i++) {
        blk_unref(c.sources[i].blk);
    }
    g_free(c.sources);
    if (!ok && !kept) {
        img_created_discard(&c.created, a->target);
    }
    return !ok ? 1 : whole ? 0 : EXIT_LOST;
}
