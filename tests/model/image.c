/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "block/qcow2/qcow2.h"
#include "qobject/qdict.h"
#include "qobject/qstring.h"
#include "util/bswap.h"
#include "image.h"

/* --------------------------------------------------------------- geometry */

void geometry_random(Geometry *g, Rng *rng)
{
    static const int bits[] = { 9, 9, 10, 10, 11, 12, 12, 12, 13, 14, 16 };

    *g = (Geometry) {
        .version = rng_chance(rng, 75) ? 3 : 2,
        .cluster_bits = bits[rng_below(rng, ARRAY_SIZE(bits))],
        .refcount_order = 4,
    };
    if (g->version == 3) {
        if (rng_chance(rng, 60)) {
            g->refcount_order = rng_below(rng, 7);
        }
        g->lazy = rng_chance(rng, 30);
#ifdef CONFIG_ZSTD
        g->zstd = rng_chance(rng, 30);
#endif
        g->data_file = rng_chance(rng, 20);
        g->extended_l2 = rng_chance(rng, 25);
        if (g->extended_l2) {
            g->cluster_bits = MAX(g->cluster_bits,
                                  QCOW2_EXTL2_MIN_CLUSTER_BITS);
        }
        g->data_file_raw = g->data_file && rng_chance(rng, 50);
    }
}

char *geometry_describe(const Geometry *g)
{
    return g_strdup_printf("v%d cluster %d refcount_bits %d%s%s%s%s%s",
                           g->version,
                           1 << g->cluster_bits, 1 << g->refcount_order,
                           g->lazy ? " lazy" : "", g->zstd ? " zstd" : "",
                           g->extended_l2 ? " extended" : "",
                           g->data_file ? " data file" : "",
                           g->data_file_raw ? " (raw)" : "");
}

void image_format(RamFile *f, const Geometry *g, int64_t size)
{
    uint64_t cluster = 1ULL << g->cluster_bits;
    uint64_t l2_size = cluster / (g->extended_l2 ? 16 : 8);
    uint64_t l1_size = MAX(1, DIV_ROUND_UP(size, cluster * l2_size));
    uint64_t used = 3 + DIV_ROUND_UP(l1_size * 8, cluster);
    BDRVQcow2State s = {
        .refcount_order = g->refcount_order,
        .refcount_bits = 1 << g->refcount_order,
        .refcount_max = 1,
    };
    Qcow2HeaderLayout layout = {
        .fields = {
            .version = g->version,
            .cluster_bits = g->cluster_bits,
            .size = size,
            .l1_size = l1_size,
            .l1_table_offset = 3 * cluster,
            .refcount_table_offset = cluster,
            .refcount_table_clusters = 1,
            .refcount_order = g->refcount_order,
            .compatible_features = g->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0,
            .incompatible_features =
                (g->zstd ? QCOW2_INCOMPAT_COMPRESSION : 0) |
                (g->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0) |
                (g->extended_l2 ? QCOW2_INCOMPAT_EXTL2 : 0),
            .autoclear_features = g->data_file_raw
                                      ? QCOW2_AUTOCLEAR_DATA_FILE_RAW : 0,
            .compression_type = g->zstd,
        },
    };
    int ret;

    assert(used * s.refcount_bits <= cluster * 8);
    ram_file_grow(f, used * cluster);
    ret = qcow2_header_build(&layout, f->data, cluster);
    assert(ret > 0);
    stq_be_p(f->data + cluster, 2 * cluster);
    for (uint64_t i = 0; i < used; i++) {
        qcow2_refcount_block_set(&s, f->data + 2 * cluster, i, 1);
    }
}

/* ----------------------------------------------------------------- layers */

/* @ram is given up: kept in *@to, or written to a file at *@path. */
static void file_store(Chain *c, RamFile *ram, const char *suffix,
                       RamFile **to, char **path)
{
    if (!c->dir) {
        ram->request_alignment = c->request_alignment;
        ram->zero_writes = c->zero_writes;
        ram->discards = c->discards;
        ram->fua = c->fua;
        ram->yield_before = c->yield_before;
        ram->yield_after = c->yield_after;
        *to = ram;
        return;
    }
    *path = g_strdup_printf("%s/layer%u%s", c->dir, c->nr_layers, suffix);
    if (!g_file_set_contents(*path, (char *)ram->data, ram->size, NULL)) {
        fprintf(stderr, "cannot write %s\n", *path);
        exit(1);
    }
    ram_file_free(ram);
}

static void layer_store(Chain *c, Layer *l, RamFile *ram)
{
    file_store(c, ram, "", &l->ram, &l->path);
}

Layer *chain_add_layer(Chain *c, const Geometry *g, int64_t size)
{
    Layer *l = &c->layers[c->nr_layers];
    RamFile *ram = ram_file_new();

    assert(c->nr_layers < CHAIN_MAX);
    *l = (Layer) { .g = *g };
    image_format(ram, g, size);
    layer_store(c, l, ram);
    if (g->data_file) {
        RamFile *data = ram_file_new();

        ram_file_grow(data, size);
        file_store(c, data, ".data", &l->data, &l->data_path);
    }
    c->nr_layers++;
    return l;
}

void chain_add_raw(Chain *c, const uint8_t *data, int64_t size)
{
    Layer *l = &c->layers[c->nr_layers];
    RamFile *ram = ram_file_new();

    assert(c->nr_layers == 0);
    *l = (Layer) { .raw = true };
    ram_file_grow(ram, size);
    memcpy(ram->data, data, size);
    layer_store(c, l, ram);
    c->nr_layers++;
}

/* ---------------------------------------------------------------- opening */

QDict *options_random(Rng *rng, const Geometry *g, int flags, bool reopen)
{
    QDict *d = qdict_new();
    static const char *const bools[] = {
        "lazy-refcounts", "discard-no-unref", /* from version 3 on */
        "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
    };
    int64_t cluster = 1 << g->cluster_bits;

    for (size_t i = 0; i < ARRAY_SIZE(bools); i++) {
        if (rng_chance(rng, 40) && (i >= 2 || g->version >= 3)) {
            qdict_put_str(d, bools[i], rng_chance(rng, 50) ? "on" : "off");
        }
    }
    if (rng_chance(rng, 60)) {
        int64_t entry = MAX(512, cluster >> rng_below(rng, 8));
        g_autofree char *text = g_strdup_printf("%" PRId64, entry);
        g_autofree char *size = g_strdup_printf(
            "%" PRId64, entry * (2 + rng_below(rng, 4)));

        qdict_put_str(d, "l2-cache-entry-size", text);
        qdict_put_str(d, "l2-cache-size", size);
    }
    if (rng_chance(rng, 50)) {
        g_autofree char *text = g_strdup_printf(
            "%" PRId64, cluster * (4 + rng_below(rng, 3)));

        qdict_put_str(d, "refcount-cache-size", text);
    }
    if (rng_chance(rng, 50)) {
        static const char *const checks[] = {
            "none", "constant", "cached", "all"
        };

        qdict_put_str(d, "overlap-check",
                      checks[rng_below(rng, ARRAY_SIZE(checks))]);
    }
    if (!reopen && rng_chance(rng, 30)) {
        bool unmap = rng_chance(rng, 50) && (flags & BDRV_O_UNMAP);

        qdict_put_str(d, "detect-zeroes", unmap ? "unmap" : "on");
    }
    qdict_put_str(d, "cache-clean-interval", "0");
    return d;
}

/* References to nodes that a format node is going to have below it. */
typedef struct Below {
    BlockDriverState *file;
    BlockDriverState *data;
} Below;

static void below_release(Below *b)
{
    bdrv_unref(b->file);
    bdrv_unref(b->data);
}

/* Child @key: a node for @ram, under a name of its own, or a file at @path. */
static void put_child(Chain *c, const char *key, RamFile *ram,
                      const char *path, int flags, QDict *d,
                      BlockDriverState **ref, Error **errp)
{
    g_autofree char *name = g_strdup_printf("file%u", c->node_serial++);
    g_autofree char *driver = g_strdup_printf("%s.driver", key);
    g_autofree char *filename = g_strdup_printf("%s.filename", key);
    g_autofree char *locking = g_strdup_printf("%s.locking", key);

    if (ram) {
        *ref = ram_file_open(ram, name, flags & BDRV_O_RDWR, errp);
        qdict_put_str(d, key, name);
    } else {
        qdict_put_str(d, driver, "file");
        qdict_put_str(d, filename, path);
        qdict_put_str(d, locking, "off");
    }
}

static void put_files(Chain *c, Layer *l, int flags, QDict *d, Below *b,
                      Error **errp)
{
    /* Generated names differ from run to run. */
    g_autofree char *own = g_strdup_printf("disk%u", c->node_serial);

    *b = (Below) { NULL };
    qdict_put_str(d, "node-name", own);
    put_child(c, "file", l->ram, l->path, flags, d, &b->file, errp);
    if (l->data || l->data_path) {
        put_child(c, "data-file", l->data, l->data_path, flags, d, &b->data,
                  errp);
    }
}

BlockDriverState *chain_open_layer(Chain *c, unsigned top_index, int flags,
                                   QDict *options, Error **errp)
{
    BlockDriverState *below = NULL;

    for (unsigned i = 0; i <= top_index; i++) {
        Layer *l = &c->layers[i];
        BlockDriverState *bs;
        Below files;
        QDict *d = i == top_index && options ? options : qdict_new();
        int f = i == top_index ? flags : flags & ~BDRV_O_RDWR;

        qdict_put_str(d, "driver", l->raw ? "raw" : "qcow2");
        put_files(c, l, f, d, &files, errp);
        if (below) {
            qdict_put_str(d, "backing", bdrv_get_node_name(below));
        }
        bs = bdrv_open(NULL, NULL, d, f, errp);
        below_release(&files);
        bdrv_unref(below);
        if (!bs) {
            return NULL;
        }
        below = bs;
    }
    return below;
}

bool chain_open(Chain *c, int flags, QDict *options, Error **errp)
{
    BlockDriverState *bs = chain_open_layer(c, c->nr_layers - 1, flags,
                                            options, errp);

    assert(!c->blk);
    if (!bs) {
        return false;
    }
    c->blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE |
                                     BLK_PERM_RESIZE,
                             BLK_PERM_ALL, errp);
    bdrv_unref(bs);
    if (c->blk) {
        blk_set_enable_write_cache(c->blk, true);
    }
    return c->blk != NULL;
}

bool chain_append(Chain *c, const Geometry *g, int flags, QDict *options,
                  Error **errp)
{
    BlockDriverState *old = blk_bs(c->blk), *bs;
    Below files;
    bool ok;
    Layer *l;

    bdrv_drained_begin(old);
    l = chain_add_layer(c, g, bdrv_getlength(old));
    qdict_put_str(options, "driver", "qcow2");
    put_files(c, l, flags, options, &files, errp);
    bs = bdrv_open(NULL, NULL, options, flags, errp);
    below_release(&files);
    ok = bs && bdrv_append(bs, old, NULL, errp);
    bdrv_drained_end(old);
    bdrv_unref(bs);
    return ok;
}

void chain_close(Chain *c)
{
    blk_unref(c->blk);
    c->blk = NULL;
}

static void file_free(RamFile *ram, char *path)
{
    ram_file_free(ram);
    if (path) {
        unlink(path);
        g_free(path);
    }
}

void chain_destroy(Chain *c)
{
    chain_close(c);
    for (unsigned i = 0; i < c->nr_layers; i++) {
        file_free(c->layers[i].ram, c->layers[i].path);
        file_free(c->layers[i].data, c->layers[i].data_path);
    }
    c->nr_layers = 0;
}

/* ------------------------------------------------------------------ check */

char *node_check(BlockDriverState *bs)
{
    BdrvCheckResult res = { 0 };
    int ret = bdrv_check(bs, &res, 0);

    if (ret == 0 && !res.corruptions && !res.leaks && !res.check_errors) {
        return NULL;
    }
    return g_strdup_printf("check: %d, %" PRId64 " corruptions, %" PRId64
                           " leaks, %" PRId64 " errors", ret, res.corruptions,
                           res.leaks, res.check_errors);
}
