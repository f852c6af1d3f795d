/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The filter "blkdebug": makes requests fail, wait or stop on purpose, and
 * narrows the limits of the node below, for tests of everything above it.
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "block/filters/blkdebug.h"
#include "block/filters/filter.h"

typedef struct BDRVBlkdebugState {
    /* Fixed by open; 0: not given. */
    uint64_t align;
    uint64_t max_transfer;
    uint64_t opt_write_zero;
    uint64_t max_write_zero;
    uint64_t opt_discard;
    uint64_t max_discard;
    uint64_t take_perms;
    uint64_t unshare_perms;
    char *config;

    BlkdebugRules rules;
} BDRVBlkdebugState;

/* --- file name: blkdebug:[CONFIG]:IMAGE, or IMAGE --- */

static bool blkdebug_parse_filename(const char *filename, QDict *options,
                                    Error **errp)
{
    static const char prefix[] = "blkdebug:";
    g_autofree char *config = NULL;
    QDict *image;

    if (g_str_has_prefix(filename, prefix)) {
        const char *colon;

        filename += strlen(prefix);
        colon = strchr(filename, ':');
        if (!colon) {
            error_setg(errp, "blkdebug requires both config file and image "
                       "path");
            return false;
        }
        config = g_strndup(filename, colon - filename);
        filename = colon + 1;
    }
    if (qdict_haskey(options, "image")) {
        error_setg(errp, "Cannot specify 'image' and a filename");
        return false;
    }
    image = filter_describe_file(filename, errp);
    if (!image) {
        return false;
    }
    qdict_put(options, "image", image);
    if (config && *config) {
        qdict_put_str(options, "config", config);
    }
    return true;
}

/* --- options --- */

static bool is_pow2(uint64_t n)
{
    return n && !(n & (n - 1));
}

static bool check_limit(const char *name, bool has, uint64_t value,
                        uint64_t align, uint64_t *result, Error **errp)
{
    if (!has || !value) {
        return true;
    }
    if (value >= INT_MAX || value % align) {
        error_setg(errp, "Cannot meet constraints with %s %" PRIu64, name,
                   value);
        return false;
    }
    *result = value;
    return true;
}

static bool parse_limits(BDRVBlkdebugState *s,
                         const BlockdevOptionsBlkdebug *o,
                         uint32_t child_align, Error **errp)
{
    uint64_t align;

    if (o->has_align && o->align &&
        (o->align >= INT_MAX || !is_pow2(o->align))) {
        error_setg(errp, "Cannot meet constraints with align %" PRIu64,
                   o->align);
        return false;
    }
    s->align = o->has_align ? o->align : 0;
    align = MAX(s->align, (uint64_t)child_align);

    return check_limit("max-transfer", o->has_max_transfer, o->max_transfer,
                       align, &s->max_transfer, errp) &&
           check_limit("opt-write-zero", o->has_opt_write_zero,
                       o->opt_write_zero, align, &s->opt_write_zero, errp) &&
           check_limit("max-write-zero", o->has_max_write_zero,
                       o->max_write_zero, MAX(s->opt_write_zero, align),
                       &s->max_write_zero, errp) &&
           check_limit("opt-discard", o->has_opt_discard, o->opt_discard,
                       align, &s->opt_discard, errp) &&
           check_limit("max-discard", o->has_max_discard, o->max_discard,
                       MAX(s->opt_discard, align), &s->max_discard, errp);
}

static uint64_t perms_from_list(const BlockPermissionList *list)
{
    static const uint64_t bits[] = {
        [BLOCK_PERMISSION_CONSISTENT_READ] = BLK_PERM_CONSISTENT_READ,
        [BLOCK_PERMISSION_WRITE] = BLK_PERM_WRITE,
        [BLOCK_PERMISSION_WRITE_UNCHANGED] = BLK_PERM_WRITE_UNCHANGED,
        [BLOCK_PERMISSION_RESIZE] = BLK_PERM_RESIZE,
    };
    uint64_t perm = 0;

    QEMU_BUILD_BUG_ON(ARRAY_SIZE(bits) != BLOCK_PERMISSION__MAX);
    for (; list; list = list->next) {
        perm |= bits[list->value];
    }
    return perm;
}

static bool parse_rules(BDRVBlkdebugState *s, const BlockdevOptionsBlkdebug *o,
                        Error **errp)
{
    if (o->config && !blkdebug_read_config(&s->rules, o->config, errp)) {
        return false;
    }
    for (BlkdebugInjectErrorOptionsList *l = o->inject_error; l; l = l->next) {
        if (!blkdebug_add_inject_error(&s->rules, l->value, errp)) {
            return false;
        }
    }
    for (BlkdebugSetStateOptionsList *l = o->set_state; l; l = l->next) {
        if (!blkdebug_add_set_state(&s->rules, l->value, errp)) {
            return false;
        }
    }
    return true;
}

static int blkdebug_open(BlockDriverState *bs, BlockdevOptions *options,
                         int flags, Error **errp)
{
    BDRVBlkdebugState *s = bs->opaque;
    const BlockdevOptionsBlkdebug *o = &options->u.blkdebug;

    /* Before the child is attached: they decide what is asked of it. */
    s->take_perms = perms_from_list(o->take_child_perms);
    s->unshare_perms = perms_from_list(o->unshare_child_perms);

    blkdebug_rules_init(&s->rules);
    if (!parse_rules(s, o, errp) ||
        !bdrv_open_child(bs, o->image, "image",
                         BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, false,
                         errp) ||
        !parse_limits(s, o, bs->file->bs->bl.request_alignment, errp)) {
        blkdebug_rules_destroy(&s->rules);
        return -EINVAL;
    }
    s->config = g_strdup(o->config);
    filter_refresh_flags(bs);
    blkdebug_start(&s->rules);
    return 0;
}

static void blkdebug_close(BlockDriverState *bs)
{
    BDRVBlkdebugState *s = bs->opaque;

    blkdebug_rules_destroy(&s->rules);
    g_free(s->config);
}

static void blkdebug_child_perm(BlockDriverState *bs, BdrvChild *child,
                                BdrvChildRole role, BlockReopenQueue *queue,
                                uint64_t parent_perm, uint64_t parent_shared,
                                uint64_t *nperm, uint64_t *nshared)
{
    BDRVBlkdebugState *s = bs->opaque;

    bdrv_default_perms(bs, child, role, queue, parent_perm, parent_shared,
                       nperm, nshared);
    *nperm |= s->take_perms;
    *nshared &= ~s->unshare_perms;
}

static void blkdebug_refresh_limits(BlockDriverState *bs, Error **errp)
{
    BDRVBlkdebugState *s = bs->opaque;

    filter_refresh_flags(bs);
    if (s->align) {
        bs->bl.request_alignment = MAX(bs->bl.request_alignment,
                                       (uint32_t)s->align);
    }
    if (s->max_transfer) {
        bs->bl.max_transfer = MIN_NON_ZERO(bs->bl.max_transfer,
                                           (uint32_t)s->max_transfer);
    }
    if (s->opt_write_zero) {
        bs->bl.pwrite_zeroes_alignment = MAX(bs->bl.pwrite_zeroes_alignment,
                                             (uint32_t)s->opt_write_zero);
    }
    if (s->max_write_zero) {
        bs->bl.max_pwrite_zeroes = MIN_NON_ZERO(bs->bl.max_pwrite_zeroes,
                                                (int64_t)s->max_write_zero);
    }
    if (s->opt_discard) {
        bs->bl.pdiscard_alignment = MAX(bs->bl.pdiscard_alignment,
                                        (uint32_t)s->opt_discard);
    }
    if (s->max_discard) {
        bs->bl.max_pdiscard = MIN_NON_ZERO(bs->bl.max_pdiscard,
                                           (int64_t)s->max_discard);
    }
}

/* --- requests: the generic layer is held to the limits it was told --- */

static void assert_limits(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    assert(QEMU_IS_ALIGNED(offset | bytes, bs->bl.request_alignment));
    assert(!bs->bl.max_transfer || bytes <= bs->bl.max_transfer);
}

static int coroutine_fn blkdebug_co_preadv(BlockDriverState *bs,
                                           int64_t offset, int64_t bytes,
                                           QEMUIOVector *qiov,
                                           size_t qiov_offset,
                                           BdrvRequestFlags flags)
{
    BDRVBlkdebugState *s = bs->opaque;
    int ret;

    assert_limits(bs, offset, bytes);
    ret = blkdebug_check(&s->rules, BLKDEBUG_IO_TYPE_READ, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    return bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset,
                               flags);
}

static int coroutine_fn blkdebug_co_pwritev(BlockDriverState *bs,
                                            int64_t offset, int64_t bytes,
                                            QEMUIOVector *qiov,
                                            size_t qiov_offset,
                                            BdrvRequestFlags flags)
{
    BDRVBlkdebugState *s = bs->opaque;
    int ret;

    assert_limits(bs, offset, bytes);
    ret = blkdebug_check(&s->rules, BLKDEBUG_IO_TYPE_WRITE, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    return bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset,
                                flags);
}

static int coroutine_fn blkdebug_co_pwrite_zeroes(BlockDriverState *bs,
                                                  int64_t offset,
                                                  int64_t bytes,
                                                  BdrvRequestFlags flags)
{
    BDRVBlkdebugState *s = bs->opaque;
    uint32_t align = MAX(bs->bl.request_alignment,
                         bs->bl.pwrite_zeroes_alignment);
    int ret;

    if (!QEMU_IS_ALIGNED(offset | bytes, align)) {
        return -ENOTSUP;
    }
    assert(!bs->bl.max_pwrite_zeroes || bytes <= bs->bl.max_pwrite_zeroes);
    ret = blkdebug_check(&s->rules, BLKDEBUG_IO_TYPE_WRITE_ZEROES, offset,
                         bytes);
    return ret < 0 ? ret
                   : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int coroutine_fn blkdebug_co_pdiscard(BlockDriverState *bs,
                                             int64_t offset, int64_t bytes)
{
    BDRVBlkdebugState *s = bs->opaque;
    uint32_t align = MAX(bs->bl.request_alignment, bs->bl.pdiscard_alignment);
    int ret;

    if (!QEMU_IS_ALIGNED(offset | bytes, align)) {
        return -ENOTSUP;
    }
    assert(!bs->bl.max_pdiscard || bytes <= bs->bl.max_pdiscard);
    ret = blkdebug_check(&s->rules, BLKDEBUG_IO_TYPE_DISCARD, offset, bytes);
    return ret < 0 ? ret : bdrv_co_pdiscard(bs->file, offset, bytes);
}

static int coroutine_fn blkdebug_co_flush(BlockDriverState *bs)
{
    BDRVBlkdebugState *s = bs->opaque;

    return blkdebug_check(&s->rules, BLKDEBUG_IO_TYPE_FLUSH, 0, 0);
}

static int coroutine_fn blkdebug_co_block_status(BlockDriverState *bs,
                                                 bool want_zero,
                                                 int64_t offset, int64_t bytes,
                                                 int64_t *pnum, int64_t *map,
                                                 BlockDriverState **file)
{
    BDRVBlkdebugState *s = bs->opaque;
    int ret;

    assert(QEMU_IS_ALIGNED(offset | bytes, bs->bl.request_alignment));
    ret = blkdebug_check(&s->rules, BLKDEBUG_IO_TYPE_BLOCK_STATUS, offset,
                         bytes);
    if (ret < 0) {
        return ret;
    }
    return bdrv_co_filter_block_status(bs, want_zero, offset, bytes, pnum, map,
                                       file);
}

/* --- events --- */

static void coroutine_fn blkdebug_co_debug_event(BlockDriverState *bs,
                                                 BlkdebugEvent event)
{
    BDRVBlkdebugState *s = bs->opaque;

    blkdebug_event(&s->rules, event);
}

static int blkdebug_debug_breakpoint(BlockDriverState *bs, const char *event,
                                     const char *tag)
{
    BDRVBlkdebugState *s = bs->opaque;

    return blkdebug_breakpoint(&s->rules, event, tag);
}

static int blkdebug_debug_remove_breakpoint(BlockDriverState *bs,
                                            const char *tag)
{
    BDRVBlkdebugState *s = bs->opaque;

    return blkdebug_remove_breakpoint(&s->rules, tag);
}

static int blkdebug_debug_resume(BlockDriverState *bs, const char *tag)
{
    BDRVBlkdebugState *s = bs->opaque;

    return blkdebug_resume(&s->rules, tag);
}

static bool blkdebug_debug_is_suspended(BlockDriverState *bs, const char *tag)
{
    BDRVBlkdebugState *s = bs->opaque;

    return blkdebug_is_suspended(&s->rules, tag);
}

/* --- names --- */

static void blkdebug_refresh_filename(BlockDriverState *bs)
{
    static const char *const sayable[] = {
        "driver", "node-name", "image", "config", "read-only",
        "auto-read-only", "discard", "cache", "force-share", "detect-zeroes",
        NULL
    };
    BDRVBlkdebugState *s = bs->opaque;
    const char *image = bs->file->bs->exact_filename;
    const QDictEntry *e;
    int n;

    bs->exact_filename[0] = '\0';
    if (!image[0] || (s->config && strchr(s->config, ':'))) {
        return;
    }
    for (e = qdict_first(bs->explicit_options); e;
         e = qdict_next(bs->explicit_options, e)) {
        if (!g_strv_contains(sayable, qdict_entry_key(e))) {
            return;
        }
    }
    n = snprintf(bs->exact_filename, sizeof(bs->exact_filename),
                 "blkdebug:%s:%s", s->config ? s->config : "", image);
    if (n >= (int)sizeof(bs->exact_filename)) {
        bs->exact_filename[0] = '\0';
    }
}

BlockDriver bdrv_blkdebug = {
    .format_name = "blkdebug",
    .id = BLOCKDEV_DRIVER_BLKDEBUG,
    .protocol_name = "blkdebug",
    .instance_size = sizeof(BDRVBlkdebugState),
    .is_filter = true,
    .supports_inactive = true,
    .bdrv_parse_filename = blkdebug_parse_filename,
    .bdrv_open = blkdebug_open,
    .bdrv_close = blkdebug_close,
    .bdrv_reopen_prepare = filter_reopen_prepare,
    .bdrv_child_perm = blkdebug_child_perm,
    .bdrv_refresh_limits = blkdebug_refresh_limits,
    .bdrv_co_preadv = blkdebug_co_preadv,
    .bdrv_co_pwritev = blkdebug_co_pwritev,
    .bdrv_co_pwrite_zeroes = blkdebug_co_pwrite_zeroes,
    .bdrv_co_pdiscard = blkdebug_co_pdiscard,
    .bdrv_co_flush_to_disk = blkdebug_co_flush,
    .bdrv_co_block_status = blkdebug_co_block_status,
    .bdrv_co_debug_event = blkdebug_co_debug_event,
    .bdrv_debug_breakpoint = blkdebug_debug_breakpoint,
    .bdrv_debug_remove_breakpoint = blkdebug_debug_remove_breakpoint,
    .bdrv_debug_resume = blkdebug_debug_resume,
    .bdrv_debug_is_suspended = blkdebug_debug_is_suspended,
    .bdrv_refresh_filename = blkdebug_refresh_filename,
};
