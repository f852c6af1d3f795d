/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include <glib/gstdio.h>
#include "repairs.h"
#include "snapshots.h"
#include "workload.h"
#include "block/amend.h"
#include "block/create.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "util/aio.h"
#include "util/error.h"

#define MAX_DISK (4 << 20)
/* One write in so many is with FUA. */
#define FUA_IN 16

/* Sizes in clusters are for clusters of any size; max_bytes keeps 64 KiB
 * clusters from making big images. */
const Workload workloads[] = {
    {
        .name = "alloc", .what = "writes to unallocated clusters",
        .mix = { .write = 8, .flush = 1 }, .max_clusters = 3,
        .size = 256, .max_bytes = 2 << 20, .ops = 40, .workers = 3,
    }, {
        .name = "cow", .what = "partial writes over a backing file",
        .mix = { .write = 8, .flush = 1 }, .max_clusters = 2,
        .size = 256, .max_bytes = 2 << 20, .ops = 40, .workers = 3,
        .backing = true,
    }, {
        .name = "compressed", .what = "compressed clusters, overwritten",
        .mix = { .write = 3, .compressed = 8, .discard = 1, .flush = 1 },
        .max_clusters = 3, .size = 64, .max_bytes = 1 << 20, .ops = 60,
        .workers = 3,
    }, {
        .name = "discard", .what = "discards and new writes",
        .mix = { .write = 6, .discard = 5, .flush = 1 }, .max_clusters = 4,
        .size = 48, .max_bytes = 1 << 20, .ops = 60, .workers = 3,
        .prefill = 32,
    }, {
        .name = "zero", .what = "write zeroes, clusters kept",
        .mix = { .write = 5, .zero = 6, .flush = 1 }, .max_clusters = 4,
        .size = 48, .max_bytes = 1 << 20, .ops = 60, .workers = 3,
        .prefill = 24,
    }, {
        .name = "unmap", .what = "write zeroes, clusters freed, over a backing"
                                 " file",
        .mix = { .write = 5, .zero = 1, .unmap = 6, .flush = 1 },
        .max_clusters = 4, .size = 48, .max_bytes = 1 << 20, .ops = 60,
        .workers = 3, .prefill = 24, .backing = true,
    }, {
        .name = "refblock", .what = "new refcount blocks",
        .mix = { .write = 10, .flush = 1 }, .max_clusters = 16,
        .size = 1024, .max_bytes = 2 << 20, .ops = 50, .workers = 2,
        .prefill = 40, .geometries = "512:64,512:16,512:32,1k:64",
    }, {
        .name = "reftable", .what = "a longer refcount table",
        .mix = { .write = 10, .flush = 1 }, .max_clusters = 8,
        .size = 6144, .prefill = 3920, .ops = 30, .workers = 2,
        .sequential = true, .geometries = "512:64", .v3_only = true,
    }, {
        .name = "l1", .what = "a longer L1 table",
        .mix = { .write = 10, .discard = 1, .flush = 1 }, .max_clusters = 6,
        .size = 128, .ops = 40, .workers = 2, .resize = 80, .grow_only = true,
        .geometries = "512:16,512:64,512:1,1k:16",
    }, {
        .name = "resize", .what = "longer and shorter disks",
        .mix = { .write = 8, .discard = 1, .flush = 1 }, .max_clusters = 6,
        .size = 96, .max_bytes = 2 << 20, .ops = 50, .workers = 2,
        .resize = 60, .prefill = 40,
    }, {
        .name = "resize-backing", .what = "the same over a backing file",
        .mix = { .write = 8, .zero = 1, .flush = 1 }, .max_clusters = 6,
        .size = 96, .max_bytes = 2 << 20, .ops = 50, .workers = 2,
        .resize = 60, .prefill = 20, .backing = true, .v3_only = true,
    }, {
        .name = "prealloc", .what = "longer disks, preallocated",
        .mix = { .write = 8, .discard = 2, .flush = 1 }, .max_clusters = 6,
        .size = 64, .max_bytes = 1 << 20, .ops = 40, .workers = 2,
        .resize = 80, .preallocate = true,
    }, {
        .name = "lazy", .what = "lazy refcounts, repaired when opened",
        .mix = { .write = 8, .compressed = 2, .unmap = 2, .discard = 2,
                 .flush = 1 },
        .max_clusters = 4, .size = 96, .max_bytes = 1 << 20, .ops = 40,
        .workers = 3, .reopen = 30, .resize = 10, .lazy = true,
        .v3_only = true,
    }, {
        .name = "mixed", .what = "everything at once, six requests at a time",
        .mix = { .write = 10, .compressed = 3, .zero = 3, .unmap = 3,
                 .discard = 4, .flush = 1 },
        .max_clusters = 5, .size = 96, .max_bytes = 2 << 20, .ops = 80,
        .workers = 6, .reopen = 10, .resize = 15, .prefill = 20,
    }, {
        .name = "mixed-backing", .what = "the same over a backing file",
        .mix = { .write = 10, .compressed = 3, .zero = 3, .unmap = 3,
                 .discard = 4, .flush = 1 },
        .max_clusters = 5, .size = 96, .max_bytes = 2 << 20, .ops = 80,
        .workers = 6, .reopen = 10, .prefill = 20, .backing = true,
    }, {
        .name = "snapshot", .what = "snapshots taken, applied and deleted",
        .mix = { .write = 8, .compressed = 2, .zero = 1, .unmap = 2,
                 .discard = 1, .flush = 1 },
        .max_clusters = 4, .size = 64, .max_bytes = 1 << 20, .ops = 70,
        .workers = 3, .snapshot = 70, .reopen = 5, .prefill = 20,
    }, {
        .name = "snapshot-resize", .what = "the same with disks of several "
                                           "sizes, over a backing file",
        .mix = { .write = 8, .zero = 2, .discard = 2, .flush = 1 },
        .max_clusters = 4, .size = 64, .max_bytes = 1 << 20, .ops = 60,
        .workers = 3, .snapshot = 60, .resize = 25, .prefill = 20,
        .backing = true, .v3_only = true,
    }, {
        .name = "snapshot-lazy", .what = "the same with lazy refcounts",
        .mix = { .write = 8, .unmap = 2, .discard = 1, .flush = 1 },
        .max_clusters = 4, .size = 64, .max_bytes = 1 << 20, .ops = 60,
        .workers = 3, .snapshot = 60, .reopen = 10, .prefill = 20,
        .lazy = true, .v3_only = true,
    }, {
        .name = "rename", .what = "other names of the backing file",
        .mix = { .write = 6, .discard = 1, .flush = 1 }, .max_clusters = 3,
        .size = 64, .max_bytes = 1 << 20, .ops = 60, .workers = 2,
        .rename = 90, .reopen = 20, .backing = true,
    }, {
        .name = "bitmap", .what = "stored bitmaps, saved now and then",
        .mix = { .write = 8, .zero = 1, .unmap = 1, .discard = 2, .flush = 2 },
        .max_clusters = 3, .size = 64, .max_bytes = 512 << 10, .ops = 60,
        .workers = 3, .prefill = 16, .reopen = 25, .bitmaps = 70,
        .v3_only = true,
    }, {
        .name = "bitmap-grow", .what = "stored bitmaps of disks that grow",
        .mix = { .write = 8, .compressed = 1, .discard = 1, .flush = 1 },
        .max_clusters = 3, .size = 32, .max_bytes = 512 << 10, .ops = 40,
        .workers = 3, .prefill = 16, .reopen = 20, .bitmaps = 50,
        .resize = 50, .grow_only = true, .lazy = true, .v3_only = true,
    },
    {
        .name = "amend", .what = "other versions and widths of refcounts",
        .mix = { .write = 8, .zero = 2, .unmap = 2, .discard = 1, .flush = 1 },
        .max_clusters = 4, .size = 64, .max_bytes = 1 << 20, .ops = 40,
        .workers = 2, .prefill = 20, .amend = 80, .reopen = 10,
    }, {
        .name = "amend-backing", .what = "the same over a backing file",
        .mix = { .write = 8, .zero = 3, .unmap = 3, .flush = 1 },
        .max_clusters = 4, .size = 64, .max_bytes = 1 << 20, .ops = 40,
        .workers = 2, .prefill = 20, .amend = 80, .backing = true,
    }, {
        .name = "guard", .what = "new L2 tables under an L1 guard",
        .mix = { .write = 8, .flush = 2 }, .max_clusters = 6,
        .size = 6144, .ops = 60, .workers = 3, .reopen = 10, .guard = true,
        .geometries = "512:16,512:64,512:1", .v3_only = true,
    }, {
        .name = "guard-resize", .what = "longer and shorter L1 tables under a "
                                        "guard",
        .mix = { .write = 8, .discard = 1, .flush = 1 }, .max_clusters = 6,
        .size = 1024, .ops = 50, .workers = 2, .resize = 60, .prefill = 40,
        .guard = true, .geometries = "512:16,512:64,1k:16", .v3_only = true,
    }, {
        .name = "guard-snapshot", .what = "snapshots under an L1 guard",
        .mix = { .write = 8, .unmap = 2, .flush = 1 }, .max_clusters = 4,
        .size = 512, .ops = 60, .workers = 3, .snapshot = 70, .resize = 20,
        .reopen = 5, .prefill = 20, .guard = true,
        .geometries = "512:16,512:64,4k:16,1k:16", .v3_only = true,
    }, {
        .name = "guard-amend", .what = "an L1 guard turned on and off, other "
                                       "widths of refcounts, other names",
        .mix = { .write = 8, .zero = 2, .flush = 1 }, .max_clusters = 4,
        .size = 512, .ops = 40, .workers = 2, .amend = 80, .rename = 20,
        .reopen = 10, .backing = true, .prefill = 20, .guard = true,
        .v3_only = true, .max_bytes = 1 << 20,
    }, {
        .name = "guard-lazy", .what = "an L1 guard and lazy refcounts",
        .mix = { .write = 8, .unmap = 2, .discard = 2, .flush = 1 },
        .max_clusters = 6, .size = 1024, .ops = 40, .workers = 3,
        .reopen = 30, .resize = 30, .lazy = true, .guard = true,
        .geometries = "512:16,512:64,1k:16", .v3_only = true,
    },
    {
        .name = "subclusters", .what = "everything at once in images with "
                                       "extended L2 entries",
        .mix = { .write = 10, .compressed = 2, .zero = 3, .unmap = 2,
                 .discard = 2, .flush = 1 },
        .max_clusters = 1, .size = 24, .max_bytes = 1 << 20, .ops = 80,
        .workers = 6, .reopen = 10, .resize = 15, .prefill = 4,
        .extended_l2 = true,
    }, {
        .name = "subclusters-backing", .what = "the same over a backing file",
        .mix = { .write = 12, .compressed = 1, .zero = 3, .unmap = 2,
                 .discard = 2, .flush = 1 },
        .max_clusters = 1, .size = 24, .max_bytes = 1 << 20, .ops = 80,
        .workers = 6, .reopen = 10, .prefill = 4, .backing = true,
        .extended_l2 = true,
    }, {
        .name = "subclusters-snapshot", .what = "the same with snapshots, and "
                                                "space allocated before",
        .mix = { .write = 10, .zero = 3, .unmap = 2, .discard = 1,
                 .flush = 1 },
        .max_clusters = 1, .size = 16, .max_bytes = 1 << 20, .ops = 60,
        .workers = 3, .snapshot = 40, .resize = 20, .preallocate = true,
        .prefill = 4, .extended_l2 = true,
    },
    {
        .name = "repair", .what = "check -r all of damaged images",
        .size = 48, .max_bytes = 1 << 20, .prefill = 12, .repair = true,
        .geometries = "512:16,4k:16,512:64,1k:64,4k:8,16k:16",
    },
    { .name = NULL },
};

/* --- geometry --- */

static const Geometry all_geometries[] = {
    { 3, 9, 16 }, { 3, 12, 16 }, { 3, 16, 16 }, { 2, 9, 16 }, { 3, 9, 1 },
    { 3, 12, 64 }, { 2, 12, 16 }, { 3, 9, 64 }, { 3, 12, 1 }, { 2, 16, 16 },
    { 3, 16, 1 }, { 3, 16, 64 }, { 3, 9, 4 }, { 3, 12, 8 }, { 3, 9, 32 },
    { 3, 10, 16 }, { 3, 10, 64 }, { 3, 14, 16, true }, { 3, 16, 16, true },
    { 3, 14, 64, true },
};

static const char *cluster_name(int bits)
{
    static const char *const names[] = { "512", "1k", "2k", "4k", "8k", "16k",
                                         "32k", "64k" };

    return names[bits - 9];
}

char *geometry_describe(const Geometry *g)
{
    return g_strdup_printf("v%d,%s:%d%s", g->version,
                           cluster_name(g->cluster_bits), g->refcount_bits,
                           g->extended_l2 ? ",extended" : "");
}

static bool geometry_fits(const Workload *w, const Geometry *g)
{
    g_autofree char *name = g_strdup_printf("%s:%d",
                                            cluster_name(g->cluster_bits),
                                            g->refcount_bits);
    g_auto(GStrv) list = w->geometries ? g_strsplit(w->geometries, ",", -1)
                                       : NULL;

    /* Packed clusters count more than one reference. */
    if ((w->v3_only && g->version < 3) ||
        w->extended_l2 != g->extended_l2 ||
        (w->mix.compressed && g->refcount_bits < 8) ||
        (w->snapshot && g->refcount_bits < 4)) {
        return false;
    }
    return !list || g_strv_contains((const char *const *)list, name);
}

Geometry workload_geometry(const Workload *w, unsigned index)
{
    unsigned n = 0;

    for (int pass = 0; pass < 2; pass++) {
        unsigned i = 0;

        for (int j = 0; j < ARRAY_SIZE(all_geometries); j++) {
            if (geometry_fits(w, &all_geometries[j]) &&
                (pass == 0 || i++ == index % n)) {
                if (pass) {
                    return all_geometries[j];
                }
                n++;
            }
        }
        g_assert(n);
    }
    g_assert_not_reached();
}

/* --- making the image --- */

static bool use_zstd(Run *run)
{
#ifdef CONFIG_ZSTD
    return run->g.version == 3 && run->w->mix.compressed &&
           g_rand_boolean(run->rand);
#else
    return false;
#endif
}

/* What is in a new image; kept, because many runs begin with the same. */
static GBytes *new_image(const char *options, int64_t size)
{
    static GHashTable *made;
    char *key = g_strdup_printf("%" PRId64 " %s", size, options);
    GBytes *bytes;

    if (!made) {
        made = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                     (GDestroyNotify)g_bytes_unref);
    }
    bytes = g_hash_table_lookup(made, key);
    if (!bytes) {
        g_autofree char *dir = g_dir_make_tmp("crash-XXXXXX", NULL);
        g_autofree char *path = g_build_filename(dir, "image", NULL);
        char *content;
        gsize length;

        bdrv_img_create(path, "qcow2", NULL, NULL, (char *)options, size, 0,
                        true, &error_abort);
        g_assert(g_file_get_contents(path, &content, &length, NULL));
        bytes = g_bytes_new_take(content, length);
        g_hash_table_insert(made, g_steal_pointer(&key), bytes);
        g_unlink(path);
        g_rmdir(dir);
    }
    g_free(key);
    return bytes;
}

static void make_image(Run *run, int64_t size)
{
    g_autofree char *options = NULL;
    const uint8_t *content;
    gsize length;
    GBytes *image;

    options = g_strdup_printf(
        "compat=%s,cluster_size=%" PRId64 ",refcount_bits=%d%s%s%s%s",
        run->g.version == 2 ? "0.10" : "1.1", run->cluster,
        run->g.refcount_bits, run->g.extended_l2 ? ",extended_l2=on" : "",
        run->w->lazy ? ",lazy_refcounts=on" : "",
        run->w->guard ? ",l1_guard=on" : "",
        use_zstd(run) ? ",compression_type=zstd" : "");
    image = new_image(options, size);
    content = g_bytes_get_data(image, &length);
    crash_disk_load(run->disk, content, length);
}

static void make_backing(Run *run, int64_t sectors)
{
    g_autofree uint8_t *buf = g_malloc(sectors * CRASH_SECTOR);

    run->base = crash_disk_new("base");
    guest_fill(buf, GUEST_BACKING, 0, sectors);
    crash_disk_load(run->base, buf, sectors * CRASH_SECTOR);
}

/* Node options that change what reaches the disk, and when. */
static char *random_options(Run *run)
{
    GString *s = g_string_new(NULL);

    if (g_rand_boolean(run->rand)) {
        g_string_append(s, ", 'l2-cache-size': 1024, "
                           "'l2-cache-entry-size': 512, "
                           "'refcount-cache-size': 2048");
    }
    if (g_rand_boolean(run->rand)) {
        g_string_append(s, ", 'pass-discard-request': true, "
                           "'pass-discard-other': true");
    }
    if (run->g.version == 3 && g_rand_int_range(run->rand, 0, 5) == 0) {
        g_string_append(s, ", 'discard-no-unref': true");
        run->no_unref = true;
    }
    if (g_rand_boolean(run->rand)) {
        g_string_append(s, ", 'overlap-check': 'all'");
    }
    return g_string_free(s, false);
}

BlockBackend *run_open(const Run *run, Error **errp)
{
    return run_open_flags(run, BDRV_O_RDWR | BDRV_O_UNMAP, errp);
}

BlockBackend *run_open_flags(const Run *run, int flags, Error **errp)
{
    g_autofree char *json = g_strdup_printf(
        "{'driver': 'qcow2', 'file': 'disk', 'backing': %s%s}",
        run->base ? "'base'" : "null", run->options);
    QDict *dict = qobject_to(QDict, qobject_from_json(json, &error_abort));
    BlockBackend *blk;

    qdict_flatten(dict);
    blk = blk_new_open(NULL, NULL, dict, flags, errp);
    if (blk && flags & BDRV_O_RDWR && !blk_set_perm(blk, BLK_PERM_ALL, BLK_PERM_ALL, errp)) {
        g_clear_pointer(&blk, blk_unref);
    }
    if (blk) {
        blk_set_enable_write_cache(blk, true);
    }
    return blk;
}

/* --- requests --- */

static bool claim(Run *run, int64_t first, int64_t nb)
{
    for (int64_t i = first; i < first + nb; i++) {
        if (run->busy[i]) {
            return false;
        }
    }
    memset(run->busy + first, 1, nb);
    return true;
}

static void pick_range(Run *run, bool whole, int64_t *first, int64_t *nb)
{
    int64_t unit = run->cluster / CRASH_SECTOR;
    int64_t disk = run->guest->size;
    int64_t max = unit * run->w->max_clusters;

    *nb = g_rand_int_range(run->rand, 1, MIN(max, disk) + 1);
    *first = g_rand_int_range(run->rand, 0, disk - *nb + 1);
    if (run->w->sequential) {
        *first = run->position % (disk - *nb + 1);
        run->position += *nb;
    } else if (g_rand_int_range(run->rand, 0, 3) == 0) {
        whole = true;
    }
    if (whole) {
        int64_t end = ROUND_UP(*first + *nb, unit);

        *first = ROUND_DOWN(*first, unit);
        *nb = MIN(end, disk) - *first;
    }
}

static int coroutine_fn do_write(Run *run, int64_t first, int64_t nb,
                                 bool compressed)
{
    g_autofree uint8_t *buf = g_malloc(nb * CRASH_SECTOR);
    GuestOp *op = guest_start(run->guest, GUEST_WRITE, first, nb,
                              compressed ? "compressed" : NULL);
    int ret;

    op->fua = !compressed && g_rand_int_range(run->rand, 0, FUA_IN) == 0;
    guest_fill(buf, op->id, first, nb);
    ret = compressed
              ? blk_co_pwrite_compressed(run->blk, first * CRASH_SECTOR,
                                         nb * CRASH_SECTOR, buf)
              : blk_co_pwrite(run->blk, first * CRASH_SECTOR,
                              nb * CRASH_SECTOR, buf,
                              op->fua ? BDRV_REQ_FUA : 0);
    guest_end(run->guest, op, ret);
    return ret;
}

static int coroutine_fn do_zeroes(Run *run, int64_t first, int64_t nb,
                                  bool unmap)
{
    GuestOp *op = guest_start(run->guest, GUEST_ZEROES, first, nb,
                              unmap ? "may unmap" : NULL);
    int ret;

    op->fua = g_rand_int_range(run->rand, 0, FUA_IN) == 0;
    ret = blk_co_pwrite_zeroes(run->blk, first * CRASH_SECTOR,
                               nb * CRASH_SECTOR,
                               (unmap ? BDRV_REQ_MAY_UNMAP : 0) |
                               (op->fua ? BDRV_REQ_FUA : 0));
    guest_end(run->guest, op, ret);
    return ret;
}

/* Whole clusters will read as zeroes; version 2 cannot hide a backing file. */
static int coroutine_fn do_discard(Run *run, int64_t first, int64_t nb)
{
    int64_t unit = run->cluster / CRASH_SECTOR;
    int64_t start = ROUND_UP(first, unit);
    int64_t end = first + nb == run->guest->size ? first + nb
                                                 : ROUND_DOWN(first + nb, unit);
    bool nothing = start >= end || (run->g.version < 3 && run->base);
    GuestOp *op = guest_start(run->guest, GUEST_DISCARD, start,
                              nothing ? 0 : end - start, NULL);
    int ret = blk_co_pdiscard(run->blk, first * CRASH_SECTOR,
                              nb * CRASH_SECTOR);

    guest_end(run->guest, op, ret);
    return ret;
}

static int coroutine_fn do_flush(Run *run)
{
    GuestOp *op = guest_start(run->guest, GUEST_FLUSH, 0, 0, NULL);
    int ret = blk_co_flush(run->blk);

    guest_end(run->guest, op, ret);
    return ret;
}

typedef enum { WRITE, COMPRESSED, ZERO, UNMAP, DISCARD, FLUSH } Action;

static Action pick_action(Run *run)
{
    const Mix *m = &run->w->mix;
    unsigned weights[] = { m->write, m->compressed, m->zero, m->unmap,
                           m->discard, m->flush };
    unsigned all = 0;
    int n;

    for (int i = 0; i < ARRAY_SIZE(weights); i++) {
        all += weights[i];
    }
    n = g_rand_int_range(run->rand, 0, all);
    for (int i = 0; i < ARRAY_SIZE(weights); i++) {
        n -= weights[i];
        if (n < 0) {
            return i;
        }
    }
    g_assert_not_reached();
}

static void coroutine_fn one_op(Run *run)
{
    Action action = pick_action(run);
    int64_t first, nb;
    int ret;

    if (action == FLUSH) {
        ret = do_flush(run);
    } else {
        pick_range(run, action == COMPRESSED, &first, &nb);
        if (!claim(run, first, nb)) {
            /* Requests under way share clusters, but no sector. */
            return;
        }
        switch (action) {
        case WRITE:
        case COMPRESSED:
            ret = do_write(run, first, nb, action == COMPRESSED);
            break;
        case ZERO:
        case UNMAP:
            ret = do_zeroes(run, first, nb, action == UNMAP);
            break;
        default:
            ret = do_discard(run, first, nb);
            break;
        }
        memset(run->busy + first, 0, nb);
    }
    if (ret < 0) {
        run->errors++;
        g_assert(run->may_fail);
    }
}

static void coroutine_fn worker(void *opaque)
{
    Run *run = opaque;

    while (run->ops_left > 0) {
        run->ops_left--;
        one_op(run);
    }
    run->running--;
    aio_wait_kick();
}

/* --- pauses: nothing is in flight --- */

static void resize(Run *run)
{
    Guest *g = run->guest;
    int64_t limit = (run->w->max_bytes ?: MAX_DISK) / CRASH_SECTOR;
    PreallocMode mode = PREALLOC_MODE_OFF;
    int64_t new_size;
    GuestOp *op;
    int ret;

    if (run->w->grow_only) {
        new_size = MIN(g->size + g_rand_int_range(run->rand, 1, g->size + 1),
                       MAX(g->size, limit));
    } else {
        new_size = run->w->size * (run->cluster / CRASH_SECTOR) * 2;
        new_size = g_rand_int_range(run->rand, 8, MIN(new_size, limit));
    }
    if (run->w->preallocate && new_size > g->size) {
        mode = g_rand_int_range(run->rand, 0, PREALLOC_MODE__MAX);
    }
    op = guest_start(g, GUEST_RESIZE, g->size, new_size,
                     PreallocMode_str(mode));
    ret = blk_truncate(run->blk, new_size * CRASH_SECTOR, true, mode, 0, NULL);
    guest_end(g, op, ret);
    run->busy = g_realloc(run->busy, g->nb_sectors);
    memset(run->busy, 0, g->nb_sectors);
    if (ret < 0) {
        run->errors++;
        g_assert(run->may_fail);
    }
}

static void rename_backing(Run *run)
{
    int64_t index = names_add(run);
    const BackingName *n = names_get(run, index);
    GuestOp *op = guest_start(run->guest, GUEST_RENAME, 0, index, n->text);
    int ret = bdrv_change_backing_file(blk_bs(run->blk), n->file, n->format);

    guest_end(run->guest, op, ret);
    /* The header is one cluster. */
    if (ret < 0 && ret != -ENOSPC) {
        run->errors++;
        g_assert(run->may_fail);
    }
}

/* Closing makes everything durable, as a flush does, but returns no error. */
static void close_image(Run *run)
{
    int failed = run->disk->failed;
    GuestOp *op = guest_start(run->guest, GUEST_CLOSE, 0, 0, NULL);
    /* An image that gave up writes nothing, which succeeds. */
    int ret = run->may_fail ? blk_flush(run->blk) : 0;

    g_clear_pointer(&run->blk, blk_unref);
    run->errors += ret < 0;
    guest_end(run->guest, op, run->disk->failed > failed ? -EIO : ret);
}

static bool reopen_image(Run *run, Error **errp)
{
    close_image(run);
    run->blk = run_open(run, errp);
    return run->blk;
}

static void run_batch(Run *run, unsigned ops)
{
    run->ops_left = ops;
    run->running = run->w->workers;
    for (unsigned i = 0; i < run->w->workers; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(worker, run));
    }
    AIO_WAIT_WHILE(NULL, run->running > 0);
}

static bool chance(Run *run, unsigned percent)
{
    return (unsigned)g_rand_int_range(run->rand, 0, 100) < percent;
}

/*
 * The guest sees nothing of it. What cannot be is refused, and fine: the image
 * is judged all the same.
 */
static void amend(Run *run)
{
    static const char *const widths[] = { "8", "16", "32", "64" };
    g_autoptr(QDict) options = qdict_new();
    BdrvAmendArgs args = { 0 };
    int ret;

    switch (g_rand_int_range(run->rand, run->w->guard ? -3 : 0, 4)) {
    case -3:
    case -2:
    case -1:
        qdict_put_str(options, "l1_guard",
                      g_rand_boolean(run->rand) ? "on" : "off");
        break;
    case 0:
        qdict_put_str(options, "compat", "1.1");
        break;
    case 1:
        /* An option of the node, which only version 3 has. */
        if (!run->no_unref && !run->w->lazy) {
            qdict_put_str(options, "compat", "0.10");
            qdict_put_str(options, "refcount_bits", "16");
        }
        break;
    case 2:
        qdict_put_str(options, "lazy_refcounts",
                      g_rand_boolean(run->rand) ? "on" : "off");
        break;
    default:
        qdict_put_str(options, "refcount_bits",
                      widths[g_rand_int_range(run->rand, 0, 4)]);
        break;
    }
    ret = bdrv_amend_options(blk_bs(run->blk), options, &args, NULL);
    run->errors += ret < 0 && run->may_fail;
}

static void repair(Run *run)
{
    int ret = repairs_run(run, true);

    run->errors += ret < 0;
    g_assert(ret == 0 || run->may_fail);
}

bool run_record(Run *run, Error **errp)
{
    unsigned left = run->w->ops;

    crash_disk_record(run->disk, &run->clock);
    run->disk->delays = run->rand;
    if (run->w->repair) {
        repair(run);
    } else {
        run->blk = run_open(run, errp);
    }
    while (run->blk && left) {
        unsigned n = MIN(left, (unsigned)g_rand_int_range(run->rand, 4, 16));

        run_batch(run, n);
        left -= n;
        if (chance(run, run->w->resize)) {
            resize(run);
        }
        if (run->w->snapshot && chance(run, run->w->snapshot)) {
            snapshots_step(run);
        }
        if (chance(run, run->w->amend)) {
            amend(run);
        }
        if (chance(run, run->w->rename)) {
            rename_backing(run);
        }
        if (run->w->bitmaps && chance(run, run->w->bitmaps)) {
            bitmaps_act(run);
        }
        if (left && chance(run, run->w->reopen) && !reopen_image(run, errp)) {
            break;
        }
    }
    if (run->blk) {
        close_image(run);
    } else {
        g_assert(run->may_fail || run->w->repair);
    }
    ++run->clock;
    run->disk->delays = NULL;
    run->disk->alignment = 1;
    run->disk->fault.at = 0;
    run->log = g_ptr_array_ref(run->disk->log);
    crash_disk_record(run->disk, NULL);
    bitmaps_check_closed(run);
    guest_walk_start(run->guest);
    return left == 0;
}

/* --- life --- */

/* Unrecorded, but the guest knows of it: before time begins. */
static void prefill(Run *run)
{
    int64_t unit = run->cluster / CRASH_SECTOR;
    int64_t nb = MIN(run->w->prefill * unit, run->guest->size);

    run->blk = run_open(run, &error_abort);
    for (int64_t pos = 0; pos < nb;) {
        int64_t n = MIN(nb - pos, unit * 64);
        g_autofree uint8_t *buf = g_malloc(n * CRASH_SECTOR);
        GuestOp *op = guest_start(run->guest, GUEST_WRITE, pos, n, "before");

        guest_fill(buf, op->id, pos, n);
        g_assert(blk_pwrite(run->blk, pos * CRASH_SECTOR, n * CRASH_SECTOR,
                            buf, 0) == 0);
        guest_end(run->guest, op, 0);
        pos += n;
    }
    close_image(run);
    run->position = nb;
}

Run *run_new(const Workload *w, const Geometry *g, uint32_t seed)
{
    Run *run = g_new0(Run, 1);
    int64_t size, backing = 0;

    *run = (Run) {
        .w = w,
        .g = *g,
        .seed = seed,
        .cluster = 1 << g->cluster_bits,
        .rand = g_rand_new_with_seed(seed),
    };
    size = w->size * run->cluster;
    if (w->max_bytes) {
        size = MIN(size, w->max_bytes);
    }
    /* The last cluster is a short one, now and then. */
    if (g_rand_boolean(run->rand)) {
        size -= CRASH_SECTOR * g_rand_int_range(run->rand, 0, 4);
    }
    size /= CRASH_SECTOR;
    run->disk = crash_disk_new("disk");
    run->disk->alignment = g_rand_boolean(run->rand) ? 1 : CRASH_SECTOR;
    if (w->backing) {
        backing = g_rand_int_range(run->rand, size / 2, size + size / 4);
        make_backing(run, backing);
    }
    run->options = random_options(run);
    run->disk->garbage = !run->no_unref && g_rand_boolean(run->rand);
    run->guest = guest_new(&run->clock, size, backing, w->backing,
                           g_rand_int_range(run->rand, 1, 1 << 20) << 8);
    run->busy = g_malloc0(size);
    run->snapshots = g_ptr_array_new();
    make_image(run, size * CRASH_SECTOR);
    names_init(run);
    if (w->prefill) {
        prefill(run);
    }
    bitmaps_init(run);
    if (w->repair) {
        repairs_init(run);
    }
    run->start_size = run->disk->size;
    run->start = g_memdup2(run->disk->data, MAX(run->start_size, 1));
    return run;
}

void run_free(Run *run)
{
    g_assert(!run->blk);
    crash_disk_free(run->disk);
    if (run->base) {
        crash_disk_free(run->base);
    }
    g_clear_pointer(&run->log, g_ptr_array_unref);
    guest_free(run->guest);
    snapshots_free(run);
    names_free(run);
    bitmaps_free(run);
    repairs_free(run);
    g_rand_free(run->rand);
    g_free(run->options);
    g_free(run->start);
    g_free(run->busy);
    g_free(run);
}
