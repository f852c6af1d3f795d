/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/bswap.h"
#include "qcow2-fixture.h"
#include "block/driver-table.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"

/* The disks that the next null-co nodes shall be. */
static RamDisk *next_disk, *next_data_file;

/* --- the disk --- */

RamDisk *ram_disk_new(int64_t capacity)
{
    RamDisk *disk = g_new0(RamDisk, 1);

    disk->data = g_malloc0(capacity);
    disk->durable = g_malloc0(capacity);
    disk->capacity = capacity;
    disk->fail_after = -1;
    disk->rand = g_rand_new_with_seed(1);
    g_queue_init(&disk->log);
    return disk;
}

static void ram_write_free(void *opaque)
{
    RamWrite *w = opaque;

    g_free(w->data);
    g_free(w);
}

void ram_disk_free(RamDisk *disk)
{
    if (disk->data_file) {
        ram_disk_free(disk->data_file);
    }
    g_queue_clear_full(&disk->log, ram_write_free);
    g_rand_free(disk->rand);
    g_free(disk->data);
    g_free(disk->durable);
    g_free(disk);
}

static void apply(uint8_t *data, const RamWrite *w, int64_t pos, int64_t n)
{
    if (w->data) {
        memcpy(data + w->offset + pos, w->data + pos, n);
    } else {
        memset(data + w->offset + pos, 0, n);
    }
}

RamDisk *ram_disk_after_crash(const RamDisk *disk, GRand *rand, int keep)
{
    RamDisk *crashed = ram_disk_new(disk->capacity);

    memcpy(crashed->data, disk->durable, disk->capacity);
    crashed->size = disk->size;
    for (GList *l = disk->log.head; l; l = l->next) {
        const RamWrite *w = l->data;

        for (int64_t pos = 0; pos < w->bytes;) {
            int64_t sector_end = ((w->offset + pos) & ~511) + 512;
            int64_t n = MIN(w->bytes - pos, sector_end - (w->offset + pos));

            if (g_rand_int_range(rand, 0, 100) < keep) {
                apply(crashed->data, w, pos, n);
            }
            pos += n;
        }
    }
    if (disk->data_file) {
        crashed->data_file = ram_disk_after_crash(disk->data_file, rand, keep);
    }
    return crashed;
}

/* --- its driver --- */

static RamDisk *ram_of(BlockDriverState *bs)
{
    return *(RamDisk **)bs->opaque;
}

static int ram_open(BlockDriverState *bs, BlockdevOptions *options, int flags,
                    Error **errp)
{
    *(RamDisk **)bs->opaque = next_disk;
    next_disk = next_data_file;
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    return 0;
}

static int64_t coroutine_fn ram_getlength(BlockDriverState *bs)
{
    return ram_of(bs)->size;
}

static void coroutine_fn ram_delay(RamDisk *disk)
{
    if (disk->delays) {
        /* Now and then something takes longer than all others together. */
        int turns = g_rand_int_range(disk->rand, 0, 20)
                        ? g_rand_int_range(disk->rand, 0, 4) : 100;

        while (turns--) {
            qemu_co_yield_to_loop();
        }
    }
}

/* One request that may fail. */
static int ram_fault(RamDisk *disk, bool is_read)
{
    if ((is_read && !disk->fail_reads) || disk->fail_after < 0) {
        return 0;
    }
    if (disk->fail_after > 0) {
        disk->fail_after--;
        return 0;
    }
    disk->failed++;
    if (disk->fail_once) {
        disk->fail_after = -1;
    }
    return -EIO;
}

static int coroutine_fn ram_change(RamDisk *disk, int64_t offset,
                                   int64_t bytes, uint8_t *data)
{
    RamWrite *w = g_new0(RamWrite, 1);
    int ret;

    *w = (RamWrite) { .offset = offset, .bytes = bytes, .data = data };
    if (disk->hook) {
        disk->hook(disk->hook_opaque);
    }
    ret = ram_fault(disk, false);
    if (ret == 0 && offset + bytes > disk->capacity) {
        ret = -ENOSPC;
    }
    if (ret < 0) {
        ram_write_free(w);
        return ret;
    }
    if (disk->record) {
        g_queue_push_tail(&disk->log, w);
    }
    ram_delay(disk);
    apply(disk->data, w, 0, bytes);
    disk->size = MAX(disk->size, offset + bytes);
    ram_delay(disk);
    w->done = true;
    if (!disk->record) {
        ram_write_free(w);
    }
    return 0;
}

static int coroutine_fn ram_pwritev(BlockDriverState *bs, int64_t offset,
                                    int64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset,
                                    BdrvRequestFlags flags)
{
    RamDisk *disk = ram_of(bs);
    uint8_t *data = g_malloc(bytes);

    disk->writes++;
    qemu_iovec_to_buf(qiov, qiov_offset, data, bytes);
    return ram_change(disk, offset, bytes, data);
}

static int coroutine_fn ram_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                          int64_t bytes,
                                          BdrvRequestFlags flags)
{
    RamDisk *disk = ram_of(bs);

    disk->writes++;
    return ram_change(disk, offset, bytes, NULL);
}

static int coroutine_fn ram_pdiscard(BlockDriverState *bs, int64_t offset,
                                     int64_t bytes)
{
    RamDisk *disk = ram_of(bs);

    disk->discards++;
    if (offset >= disk->size) {
        return 0;
    }
    return ram_change(disk, offset, MIN(bytes, disk->size - offset), NULL);
}

static int coroutine_fn ram_preadv(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset, BdrvRequestFlags flags)
{
    RamDisk *disk = ram_of(bs);
    int ret = ram_fault(disk, true);

    disk->reads++;
    if (ret < 0) {
        return ret;
    }
    ram_delay(disk);
    qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
    if (offset < disk->capacity) {
        qemu_iovec_from_buf(qiov, qiov_offset, disk->data + offset,
                            MIN(bytes, disk->capacity - offset));
    }
    ram_delay(disk);
    return 0;
}

/* What was done when the flush began is durable when it ends. */
static int coroutine_fn ram_flush(BlockDriverState *bs)
{
    RamDisk *disk = ram_of(bs);
    g_autoptr(GPtrArray) done = g_ptr_array_new();
    int ret;

    if (disk->hook) {
        disk->hook(disk->hook_opaque);
    }
    ret = ram_fault(disk, false);
    disk->flushes++;
    if (ret < 0) {
        return ret;
    }
    for (GList *l = disk->log.head; l; l = l->next) {
        if (((RamWrite *)l->data)->done) {
            g_ptr_array_add(done, l->data);
        }
    }
    ram_delay(disk);
    for (guint i = 0; i < done->len; i++) {
        RamWrite *w = done->pdata[i];

        /* Another flush may have been faster. */
        if (g_queue_remove(&disk->log, w)) {
            apply(disk->durable, w, 0, w->bytes);
            ram_write_free(w);
        }
    }
    return 0;
}

static int coroutine_fn ram_truncate(BlockDriverState *bs, int64_t offset,
                                     bool exact, PreallocMode prealloc,
                                     BdrvRequestFlags flags, Error **errp)
{
    RamDisk *disk = ram_of(bs);

    disk->truncates++;
    if (offset > disk->capacity) {
        error_setg(errp, "disk too small");
        return -ENOSPC;
    }
    if (offset < disk->size) {
        memset(disk->data + offset, 0, disk->size - offset);
    }
    disk->size = offset;
    return 0;
}

static int ram_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                              Error **errp)
{
    return 0;
}

BlockDriver bdrv_null_co = {
    .format_name = "null-co",
    .id = BLOCKDEV_DRIVER_NULL_CO,
    .protocol_name = "null-co",
    .instance_size = sizeof(RamDisk *),
    .supports_inactive = true,
    .bdrv_open = ram_open,
    .bdrv_reopen_prepare = ram_reopen_prepare,
    .bdrv_co_getlength = ram_getlength,
    .bdrv_co_preadv = ram_preadv,
    .bdrv_co_pwritev = ram_pwritev,
    .bdrv_co_pwrite_zeroes = ram_pwrite_zeroes,
    .bdrv_co_pdiscard = ram_pdiscard,
    .bdrv_co_flush_to_disk = ram_flush,
    .bdrv_co_truncate = ram_truncate,
};

BlockDriver *const bdrv_drivers[] = { &bdrv_null_co, &bdrv_qcow2, NULL };

/* --- images --- */

typedef struct MapAll {
    BlockDriverState *bs;
    uint64_t size;
} MapAll;

static int coroutine_fn map_all_entry(void *opaque)
{
    MapAll *m = opaque;

    return qcow2_co_preallocate(m->bs, 0, m->size, PREALLOC_MODE_METADATA,
                                true, &error_abort);
}

static void map_all(RamDisk *disk, uint64_t size)
{
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    MapAll m = { blk_bs(blk), size };

    g_assert_cmpint(bdrv_run_co(map_all_entry, &m), ==, 0);
    blk_unref(blk);
    memcpy(disk->durable, disk->data, disk->capacity);
}

void ram_disk_format(RamDisk *disk, const TestGeometry *g)
{
    uint64_t cluster = 1ULL << g->cluster_bits;
    uint64_t l2_span = cluster * (cluster / (g->extended_l2 ? 16 : 8));
    uint64_t l1_size = MAX(1, DIV_ROUND_UP(g->size, l2_span));
    uint64_t l1_clusters = DIV_ROUND_UP(l1_size * 8, cluster);
    uint64_t used = 3 + l1_clusters;
    BDRVQcow2State s = {
        .refcount_order = g->refcount_order,
        .refcount_bits = 1 << g->refcount_order,
        .refcount_max = 1,
    };
    Qcow2HeaderLayout layout = {
        .fields = {
            .version = g->version,
            .cluster_bits = g->cluster_bits,
            .size = g->size,
            .l1_size = l1_size,
            .l1_table_offset = 3 * cluster,
            .refcount_table_offset = cluster,
            .refcount_table_clusters = 1,
            .refcount_order = g->refcount_order,
            .compatible_features = g->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0,
            .incompatible_features =
                (g->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0) |
                (g->extended_l2 ? QCOW2_INCOMPAT_EXTL2 : 0),
            .autoclear_features = g->data_file_raw
                                      ? QCOW2_AUTOCLEAR_DATA_FILE_RAW : 0,
        },
    };

    g_assert_cmpint(used * s.refcount_bits, <=, cluster * 8);
    g_assert_cmpint(used * cluster, <=, disk->capacity);
    memset(disk->data, 0, disk->capacity);
    g_assert_cmpint(qcow2_header_build(&layout, disk->data, cluster), >, 0);
    stq_be_p(disk->data + cluster, 2 * cluster);
    for (uint64_t i = 0; i < used; i++) {
        qcow2_refcount_block_set(&s, disk->data + 2 * cluster, i, 1);
    }
    disk->size = used * cluster;
    memcpy(disk->durable, disk->data, disk->capacity);
    if (g->data_file) {
        disk->data_file = ram_disk_new(g->size);
        disk->data_file->size = g->size;
    }
    if (g->data_file_raw) {
        map_all(disk, g->size);
    }
}

BlockBackend *ram_disk_open(RamDisk *disk, int flags, const char *options,
                            Error **errp)
{
    g_autofree char *json = g_strdup_printf(
        "{'driver': 'qcow2', 'file': {'driver': 'null-co'}%s%s%s}",
        disk->data_file ? ", 'data-file': {'driver': 'null-co'}" : "",
        options ? ", " : "", options ?: "");
    QDict *dict = qobject_to(QDict, qobject_from_json(json, &error_abort));
    BlockBackend *blk;

    next_disk = disk;
    next_data_file = disk->data_file;
    qdict_flatten(dict);
    blk = blk_new_open(NULL, NULL, dict, flags, errp ?: &error_abort);
    if (blk && (flags & BDRV_O_RDWR)) {
        blk_set_perm(blk, BLK_PERM_ALL, BLK_PERM_ALL, &error_abort);
    }
    if (blk) {
        blk_set_enable_write_cache(blk, true);
    }
    return blk;
}

typedef struct LockedCall {
    BlockDriverState *bs;
    Qcow2TestFunc *fn;
} LockedCall;

static int coroutine_fn locked_entry(void *opaque)
{
    LockedCall *c = opaque;
    BDRVQcow2State *s = c->bs->opaque;

    qemu_co_mutex_lock(&s->lock);
    c->fn(c->bs);
    qemu_co_mutex_unlock(&s->lock);
    return 0;
}

void run_locked(BlockBackend *blk, Qcow2TestFunc *fn)
{
    LockedCall c = { blk_bs(blk), fn };

    g_assert_cmpint(bdrv_run_co(locked_entry, &c), ==, 0);
}

void assert_consistent(BlockBackend *blk, BdrvCheckResult *result)
{
    BdrvCheckResult res = { 0 };
    int ret = bdrv_check(blk_bs(blk), &res, 0);

    g_assert_cmpint(ret, ==, 0);
    g_assert_cmpint(res.check_errors, ==, 0);
    g_assert_cmpint(res.corruptions, ==, 0);
    if (result) {
        *result = res;
    }
}

void qcow2_test_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    qemu_init_main_loop(&error_abort);
    bdrv_init();
}
