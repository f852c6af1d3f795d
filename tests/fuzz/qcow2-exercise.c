/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random requests on one image, several at a time, compared with a model in
 * memory that holds what the disk must read as. Requests under way at the same
 * time share clusters but no sector, so the model is exact.
 *
 *   qcow2-exercise JSON SEED OPS WORKERS MODEL-FILE [FEATURE,...]
 *
 * JSON describes the node to open; MODEL-FILE gets the final content. FEATURE:
 * compressed, resize, v2backing (a discard does nothing then), crash (end
 * without closing, right after a flush).
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/error.h"
#include "block/block_int.h"
#include "block/block-backend.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"

#define UNIT 512

typedef struct Exercise {
    BlockBackend *blk;
    const char *json;
    GRand *rand;
    uint8_t *model;
    uint8_t *busy;          /* one for each unit */
    int64_t size;
    int64_t cluster;
    int ops_left;
    int running;
    bool compressed, resize, v2backing;
    uint8_t next_pattern;
} Exercise;

static QEMU_NORETURN void G_GNUC_PRINTF(1, 2) fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

static void must(int ret, const char *what, int64_t offset, int64_t bytes)
{
    if (ret < 0) {
        fail("%s of %" PRId64 " bytes at %" PRId64 ": %s", what, bytes,
             offset, strerror(-ret));
    }
}

static int64_t random_below(Exercise *e, int64_t n)
{
    uint64_t r = (uint64_t)g_rand_int(e->rand) << 32 | g_rand_int(e->rand);

    return n > 0 ? (int64_t)(r % (uint64_t)n) : 0;
}

static bool is_busy(Exercise *e, int64_t offset, int64_t bytes)
{
    for (int64_t i = offset / UNIT; i < (offset + bytes) / UNIT; i++) {
        if (e->busy[i]) {
            return true;
        }
    }
    return false;
}

static void set_busy(Exercise *e, int64_t offset, int64_t bytes, bool busy)
{
    memset(e->busy + offset / UNIT, busy, bytes / UNIT);
}

/* A range that nobody works on: small, about a cluster, or long. */
static bool pick_range(Exercise *e, int64_t align, int64_t *offset,
                       int64_t *bytes)
{
    for (int tries = 0; tries < 20; tries++) {
        static const int shifts[] = { 0, 0, 1, 3 };
        int64_t max = e->cluster << shifts[random_below(e, 4)];
        int64_t n;

        *offset = random_below(e, e->size / align) * align;
        n = (1 + random_below(e, MAX(max / align, 1))) * align;
        if (!random_below(e, 3)) {
            n = align;
        }
        *bytes = MIN(n, e->size - *offset);
        if (*bytes > 0 && !is_busy(e, *offset, *bytes)) {
            set_busy(e, *offset, *bytes, true);
            return true;
        }
    }
    return false;
}

static void coroutine_fn do_write(Exercise *e, int64_t offset, int64_t bytes,
                                  bool compressed)
{
    QEMUIOVector qiov;
    g_autofree uint8_t *buf = g_malloc(bytes);
    uint8_t pattern = e->next_pattern++ | 1;
    int ret;

    for (int64_t i = 0; i < bytes; i++) {
        buf[i] = pattern + (compressed ? i / UNIT : i / 7);
    }
    qemu_iovec_init(&qiov, 3);
    qemu_iovec_add(&qiov, buf, bytes / 3);
    qemu_iovec_add(&qiov, buf + bytes / 3, bytes - bytes / 3);
    ret = compressed ? blk_co_pwrite_compressed(e->blk, offset, bytes, buf)
                     : blk_co_pwritev(e->blk, offset, bytes, &qiov, 0);
    qemu_iovec_destroy(&qiov);
    must(ret, compressed ? "compressed write" : "write", offset, bytes);
    memcpy(e->model + offset, buf, bytes);
}

static void coroutine_fn do_read(Exercise *e, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    must(blk_co_pread(e->blk, offset, bytes, buf, 0), "read", offset, bytes);
    for (int64_t i = 0; i < bytes; i++) {
        if (buf[i] != e->model[offset + i]) {
            fail("read of %" PRId64 " bytes at %" PRId64 ": byte %" PRId64
                 " is %#x, not %#x", bytes, offset, offset + i, buf[i],
                 e->model[offset + i]);
        }
    }
}

static void coroutine_fn do_zero(Exercise *e, int64_t offset, int64_t bytes)
{
    int flags = random_below(e, 2) ? BDRV_REQ_MAY_UNMAP : 0;

    must(blk_co_pwrite_zeroes(e->blk, offset, bytes, flags), "zero write",
         offset, bytes);
    memset(e->model + offset, 0, bytes);
}

/* Whole clusters become zero, the rest stays. */
static void coroutine_fn do_discard(Exercise *e, int64_t offset,
                                    int64_t bytes)
{
    int64_t start = ROUND_UP(offset, e->cluster);
    int64_t end = offset + bytes == e->size ? e->size
                                            : (offset + bytes) & -e->cluster;

    must(blk_co_pdiscard(e->blk, offset, bytes), "discard", offset, bytes);
    if (start < end && !e->v2backing) {
        memset(e->model + start, 0, end - start);
    }
}

static void coroutine_fn one_op(Exercise *e)
{
    int kind = random_below(e, 100);
    int64_t offset, bytes;
    bool compressed = e->compressed && kind < 15;

    if (kind >= 97) {
        must(blk_co_flush(e->blk), "flush", 0, 0);
        return;
    }
    if (!pick_range(e, compressed ? e->cluster : UNIT, &offset, &bytes)) {
        must(blk_co_flush(e->blk), "flush", 0, 0);
        return;
    }
    if (kind < 45) {
        do_write(e, offset, bytes, compressed);
    } else if (kind < 65) {
        do_read(e, offset, bytes);
    } else if (kind < 80) {
        do_zero(e, offset, bytes);
    } else {
        do_discard(e, offset, bytes);
    }
    set_busy(e, offset, bytes, false);
}

static void coroutine_fn worker(void *opaque)
{
    Exercise *e = opaque;

    while (e->ops_left > 0) {
        e->ops_left--;
        one_op(e);
    }
    e->running--;
    aio_wait_kick();
}

static void open_image(Exercise *e)
{
    Error *err = NULL;
    QDict *options = qobject_to(QDict, qobject_from_json(e->json,
                                                         &error_fatal));
    BlockDriverInfo bdi = { 0 };

    qdict_flatten(options);
    e->blk = blk_new_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_UNMAP,
                          &err);
    if (!e->blk) {
        fail("open: %s", error_get_pretty(err));
    }
    blk_set_enable_write_cache(e->blk, true);
    if (!blk_set_perm(e->blk, BLK_PERM_ALL, BLK_PERM_ALL & ~BLK_PERM_RESIZE,
                      &err)) {
        fail("permissions: %s", error_get_pretty(err));
    }
    must(bdrv_get_info(blk_bs(e->blk), &bdi), "info", 0, 0);
    e->cluster = MAX(bdi.cluster_size, UNIT);
}

static void do_resize(Exercise *e)
{
    int64_t size = MAX(e->cluster, e->size / 2 +
                                   random_below(e, e->size)) & -(int64_t)UNIT;
    Error *err = NULL;

    size = MIN(size, 64 * 1024 * 1024);
    if (blk_truncate(e->blk, size, true, PREALLOC_MODE_OFF, 0, &err) < 0) {
        fail("resize to %" PRId64 ": %s", size, error_get_pretty(err));
    }
    e->model = g_realloc(e->model, size);
    e->busy = g_realloc(e->busy, DIV_ROUND_UP(size, UNIT));
    if (size > e->size) {
        memset(e->model + e->size, 0, size - e->size);
    }
    memset(e->busy, 0, DIV_ROUND_UP(size, UNIT));
    e->size = size;
}

static void check_all(Exercise *e)
{
    int64_t step = 1024 * 1024;
    g_autofree uint8_t *buf = g_malloc(step);

    for (int64_t pos = 0; pos < e->size; pos += step) {
        int64_t n = MIN(step, e->size - pos);

        must(blk_pread(e->blk, pos, n, buf, 0), "read", pos, n);
        for (int64_t i = 0; i < n; i++) {
            if (buf[i] != e->model[pos + i]) {
                fail("in the end byte %" PRId64 " is %#x, not %#x", pos + i,
                     buf[i], e->model[pos + i]);
            }
        }
    }
}

static void load_model(Exercise *e)
{
    int64_t step = 1024 * 1024;

    e->size = blk_getlength(e->blk);
    e->model = g_malloc0(e->size);
    e->busy = g_malloc0(DIV_ROUND_UP(e->size, UNIT));
    for (int64_t pos = 0; pos < e->size; pos += step) {
        int64_t n = MIN(step, e->size - pos);

        must(blk_pread(e->blk, pos, n, e->model + pos, 0), "read", pos, n);
    }
}

static void run_batch(Exercise *e, int ops, int workers)
{
    e->ops_left = ops;
    e->running = workers;
    for (int i = 0; i < workers; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(worker, e));
    }
    AIO_WAIT_WHILE(NULL, e->running > 0);
}

int main(int argc, char **argv)
{
    Exercise e = { 0 };
    const char *features = argc > 6 ? argv[6] : "";
    int ops, workers;
    bool crash;

    if (argc < 6) {
        fail("usage: %s JSON SEED OPS WORKERS MODEL-FILE [FEATURES]", argv[0]);
    }
    qemu_init_main_loop(&error_fatal);
    bdrv_init();
    e.json = argv[1];
    e.rand = g_rand_new_with_seed(strtoul(argv[2], NULL, 0));
    ops = atoi(argv[3]);
    workers = atoi(argv[4]);
    e.compressed = strstr(features, "compressed");
    e.resize = strstr(features, "resize");
    e.v2backing = strstr(features, "v2backing");
    crash = strstr(features, "crash");

    open_image(&e);
    load_model(&e);
    while (ops > 0) {
        int n = MIN(ops, 50 + random_below(&e, 200));

        run_batch(&e, n, workers);
        ops -= n;
        if (!random_below(&e, 3)) {
            check_all(&e);
        }
        if (e.resize && !random_below(&e, 2)) {
            do_resize(&e);
        }
        if (!random_below(&e, 3)) {
            blk_unref(e.blk);
            open_image(&e);
        }
    }
    check_all(&e);
    if (!g_file_set_contents(argv[5], (char *)e.model, e.size, NULL)) {
        fail("cannot write %s", argv[5]);
    }
    if (crash) {
        must(blk_flush(e.blk), "flush", 0, 0);
        _exit(0);
    }
    blk_unref(e.blk);
    bdrv_close_all();
    g_free(e.model);
    g_free(e.busy);
    g_rand_free(e.rand);
    return 0;
}
