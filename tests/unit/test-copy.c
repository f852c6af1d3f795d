/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copy engine between nodes in memory: what it writes, in which order, and
 * what it does when something fails at any request.
 */
#include "util/osdep.h"
#include "block/block.h"
#include "block/copy.h"
#include "block/jobs/copy-int.h"
#include "ram-node.h"
#include "util/aio.h"
#include "util/timer.h"

#define K 1024
#define LEN (1024 * K)
#define CHUNK (64 * K)

/* One run between two nodes, with everything its hooks see. */
typedef struct Run {
    RamNode *src;
    RamNode *dst;
    BlockBackend *in;
    BlockBackend *out;
    BlockCopyOptions opt;
    BlockCopyState *state;
    BlockCopyFailure failure;
    int ret;
    bool done;
    /* Hooks. */
    BlockCopyProgress progress;
    int64_t landed_bytes;
    int asked;              /* calls of on_error */
    int answer;             /* what it says */
    int landed_fails_at;    /* n-th call of landed */
    int landed_calls;
    int cancel_at_progress; /* n-th call of progress */
    int progress_calls;
    int pause_at_progress;  /* n-th call of progress */
    int parked;             /* calls of parked */
    bool cancel_paused;     /* cancel then instead of going on */
} Run;

/* --- running --- */

static void on_progress(void *opaque, const BlockCopyProgress *p)
{
    Run *r = opaque;

    g_assert_cmpint(p->done, >=, r->progress.done);
    g_assert_cmpint(p->known, >=, r->progress.known);
    g_assert_cmpint(p->examined, >=, r->progress.examined);
    g_assert_cmpint(p->done, <=, p->known);
    g_assert_cmpint(p->known, <=, p->length);
    r->progress = *p;
    if (++r->progress_calls == r->cancel_at_progress) {
        block_copy_cancel(r->state);
    }
    if (r->progress_calls == r->pause_at_progress) {
        block_copy_pause(r->state);
    }
}

static void end_pause(void *opaque)
{
    Run *r = opaque;

    /* Nothing was begun since it was told to have stopped. */
    g_assert_cmpint(r->src->in_flight + r->dst->in_flight, ==, 0);
    if (r->cancel_paused) {
        block_copy_cancel(r->state);
    }
    block_copy_resume(r->state);
}

static void on_parked(void *opaque)
{
    Run *r = opaque;

    r->parked++;
    g_assert_cmpint(r->src->in_flight + r->dst->in_flight, ==, 0);
    /* What could still go wrong gets its turn before. */
    aio_bh_schedule_oneshot(qemu_get_aio_context(), end_pause, r);
}

static int coroutine_fn on_landed(void *opaque, int64_t offset, int64_t bytes)
{
    Run *r = opaque;

    /* It is there by now. */
    g_assert_cmpmem(r->src->data + offset, bytes, r->dst->data + offset, bytes);
    r->landed_bytes += bytes;
    return ++r->landed_calls == r->landed_fails_at ? -ENXIO : 0;
}

static int coroutine_fn on_error(void *opaque, BlockCopyPhase phase,
                                 int64_t offset, int64_t bytes, int error)
{
    Run *r = opaque;

    g_assert_cmpint(error, <, 0);
    r->asked++;
    qemu_co_yield_to_loop();
    return r->answer;
}

static Run *run_new(int64_t src_length, int64_t dst_length)
{
    Run *r = g_new0(Run, 1);

    r->src = ram_node_new("src", src_length, 0);
    r->dst = ram_node_new("dst", dst_length, 0);
    r->in = blk_new_with_bs(r->src->bs, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                            &error_abort);
    r->out = blk_new_with_bs(r->dst->bs, BLK_PERM_WRITE, BLK_PERM_ALL,
                             &error_abort);
    r->opt = (BlockCopyOptions) {
        .workers = 8,
        .chunk = CHUNK,
        .length = MIN(src_length, dst_length),
        .min_sparse = 4 * K,
        .in_order = true,
        .progress = on_progress,
        .landed = on_landed,
        .opaque = r,
    };
    return r;
}

static void run_free(Run *r)
{
    blk_unref(r->in);
    blk_unref(r->out);
    ram_node_free(r->src);
    ram_node_free(r->dst);
    g_free(r);
}

static void coroutine_fn run_entry(void *opaque)
{
    Run *r = opaque;

    r->ret = block_copy_run(r->state, &r->failure);
    g_assert_cmpint(r->src->in_flight, ==, 0);
    g_assert_cmpint(r->dst->in_flight, ==, 0);
    r->done = true;
}

static int run(Run *r)
{
    r->done = false;
    r->progress = (BlockCopyProgress) { 0 };
    r->landed_bytes = 0;
    r->landed_calls = 0;
    r->asked = 0;
    r->progress_calls = 0;
    r->state = block_copy_new(r->in, r->out, &r->opt, &error_abort);
    qemu_coroutine_enter(qemu_coroutine_create(run_entry, r));
    while (!r->done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    block_copy_free(r->state);
    r->state = NULL;
    g_assert_cmpint(r->ret, ==, r->failure.error);
    return r->ret;
}

static void assert_copied(Run *r)
{
    g_assert_cmpmem(r->src->data, r->opt.length, r->dst->data, r->opt.length);
    g_assert_cmpint(r->progress.done, ==, r->progress.known);
    g_assert_cmpint(r->progress.examined, ==, r->opt.length);
}

static void assert_log(RamNode *ram, const RamRequest *expected, size_t n)
{
    size_t i;

    g_assert_cmpint(ram->log->len, ==, n);
    for (i = 0; i < n; i++) {
        RamRequest *q = &g_array_index(ram->log, RamRequest, i);

        g_assert_cmpint(q->kind, ==, expected[i].kind);
        g_assert_cmpint(q->offset, ==, expected[i].offset);
        g_assert_cmpint(q->bytes, ==, expected[i].bytes);
    }
}

/* Data and holes, of all lengths, known to the map or not. */
static void fill_mixed(Run *r, GRand *rand)
{
    int64_t pos = 0, n;

    while (pos < r->src->length) {
        n = g_rand_int_range(rand, 1, 200) * RAM_SECTOR;
        n = MIN(n, r->src->length - pos);
        switch (g_rand_int_range(rand, 0, 3)) {
        case 0:
            ram_fill(r->src, pos, n);
            break;
        case 1:
            memset(r->src->data + pos, 0, n);
            break;
        case 2:
            memset(r->src->data + pos, 0, n);
            ram_set_map(r->src, pos, n, 'z');
            break;
        }
        pos += n;
    }
}

static GRand *seeded(void)
{
    guint32 seed = g_test_rand_int();

    g_test_message("seed %u", seed);
    return g_rand_new_with_seed(seed);
}

/* --- extents --- */

/* What came in, a class for each byte, decides what comes out. */
static void check_extents(GRand *rand)
{
    enum { BYTES = 4096 };
    int64_t align = 1 << g_rand_int_range(rand, 0, 9);
    int64_t pos = 0, end = 0, n, i;
    g_autofree char *model = g_malloc(BYTES);
    g_autofree char *got = g_malloc0(BYTES);
    CopyExtents x;
    CopyExtent e;

    copy_extents_init(&x, align, 16, 0);
    while (pos < BYTES) {
        CopyClass cls = g_rand_int_range(rand, 0, 3);

        n = MIN(g_rand_int_range(rand, 1, 600), BYTES - pos);
        while (!copy_extents_has_room(&x) || g_rand_boolean(rand)) {
            if (!copy_extents_take(&x, 256, 512, &e)) {
                break;
            }
            g_assert_cmpint(e.offset, >=, end);
            end = e.end;
            memset(got + e.offset, e.cls, e.end - e.offset);
        }
        copy_extents_add(&x, n, cls);
        memset(model + pos, cls, n);
        pos += n;
    }
    copy_extents_finish(&x);
    while (copy_extents_take(&x, 256, 512, &e)) {
        g_assert_cmpint(e.offset, >=, end);
        g_assert_cmpint(e.offset % align, ==, 0);
        g_assert_cmpint(e.end - e.offset, <=, e.cls == COPY_DATA ? 256 : 512);
        end = e.end;
        memset(got + e.offset, e.cls, e.end - e.offset);
    }
    for (pos = 0; pos < BYTES; pos += align) {
        bool mixed = false;

        for (i = pos; i < pos + align; i++) {
            mixed |= model[i] != model[pos];
        }
        for (i = pos; i < pos + align; i++) {
            g_assert_cmpint(got[i], ==, mixed ? COPY_DATA : model[pos]);
        }
    }
    copy_extents_destroy(&x);
}

static void test_extents(void)
{
    g_autoptr(GRand) rand = seeded();
    int i;

    for (i = 0; i < 2000; i++) {
        check_extents(rand);
    }
}

/* --- what is written --- */

static void test_content(void)
{
    g_autoptr(GRand) rand = seeded();
    int i;

    for (i = 0; i < 200; i++) {
        Run *r = run_new(LEN, LEN);

        r->src->delays = g_rand_copy(rand);
        r->dst->delays = g_rand_copy(rand);
        fill_mixed(r, rand);
        r->opt.in_order = g_rand_boolean(rand);
        r->opt.workers = g_rand_int_range(rand, 1, 17);
        r->opt.align = 1 << g_rand_int_range(rand, 0, 17);
        r->opt.min_sparse = g_rand_int_range(rand, 0, 20) * RAM_SECTOR;
        r->opt.target_is_zero = g_rand_boolean(rand);
        if (!r->opt.target_is_zero || !r->opt.min_sparse) {
            memset(r->dst->data, 0xee, LEN);
        }
        g_assert_cmpint(run(r), ==, 0);
        assert_copied(r);
        g_assert_cmpint(r->landed_bytes, ==, r->progress.done);
        run_free(r);
    }
}

/* The source reads as zeroes beyond its end. */
static void test_short_source(void)
{
    Run *r = run_new(1000, 2048);

    ram_fill(r->src, 0, 1000);
    memset(r->dst->data, 0xee, 2048);
    r->opt.length = 1024;
    r->opt.landed = NULL;
    g_assert_cmpint(run(r), ==, 0);
    g_assert_cmpmem(r->src->data, 1000, r->dst->data, 1000);
    g_assert_cmpint(r->dst->data[1000], ==, 0);
    g_assert_cmpint(r->dst->data[1023], ==, 0);
    g_assert_cmpint(r->dst->data[1024], ==, 0xee);
    run_free(r);
}

static void test_empty(void)
{
    Run *r = run_new(4096, 4096);

    r->opt.length = 0;
    g_assert_cmpint(run(r), ==, 0);
    g_assert_cmpint(r->src->log->len + r->dst->log->len, ==, 0);
    run_free(r);
}

/* --- order and flight --- */

static void test_order(void)
{
    g_autoptr(GRand) rand = seeded();
    Run *r = run_new(LEN, LEN);
    int64_t last = -1;
    guint i;

    fill_mixed(r, rand);
    r->dst->delays = g_rand_copy(rand);
    r->src->delays = g_rand_copy(rand);
    memset(r->dst->data, 0xee, LEN);
    r->opt.min_sparse = RAM_SECTOR;
    g_assert_cmpint(run(r), ==, 0);
    assert_copied(r);
    for (i = 0; i < r->dst->log->len; i++) {
        RamRequest *q = &g_array_index(r->dst->log, RamRequest, i);

        g_assert_cmpint(q->offset, >, last);
        last = q->offset;
    }
    g_assert_cmpint(r->dst->max_in_flight, >, 1);
    g_assert_cmpint(r->src->max_in_flight, >, 1);
    run_free(r);
}

/* Workers bound what is in flight where nothing is split. */
static void test_workers(void)
{
    Run *r = run_new(LEN, LEN);

    ram_fill(r->src, 0, LEN);
    r->src->delays = g_rand_new_with_seed(1);
    r->dst->delays = g_rand_new_with_seed(2);
    r->opt.workers = 3;
    r->opt.in_order = false;
    g_assert_cmpint(run(r), ==, 0);
    assert_copied(r);
    g_assert_cmpint(r->src->max_in_flight, ==, 3);
    g_assert_cmpint(r->dst->max_in_flight, <=, 3);
    g_assert_cmpint(ram_log_count(r->src, RAM_READ), ==, LEN / CHUNK);
    run_free(r);
}

/* --- zeroes --- */

static void test_target_is_zero(void)
{
    Run *r = run_new(LEN, LEN);

    ram_fill(r->src, 256 * K, 128 * K);
    ram_set_map(r->src, 0, 256 * K, 'z');
    r->opt.target_is_zero = true;
    g_assert_cmpint(run(r), ==, 0);
    assert_copied(r);
    /* Neither known zeroes nor those found in data are written. */
    g_assert_cmpint(ram_log_count(r->dst, RAM_ZERO), ==, 0);
    g_assert_cmpint(ram_log_count(r->dst, RAM_WRITE), ==, 2);
    /* Known zeroes are not read either. */
    g_assert_cmpint(ram_log_count(r->src, RAM_READ), ==,
                    (LEN - 256 * K) / CHUNK);
    run_free(r);
}

static void test_fully_written(void)
{
    Run *r = run_new(LEN, LEN);

    ram_fill(r->src, 256 * K, 128 * K);
    ram_set_map(r->src, 0, 256 * K, 'z');
    r->opt.min_sparse = 0;
    r->opt.target_is_zero = true;
    g_assert_cmpint(run(r), ==, 0);
    assert_copied(r);
    g_assert_cmpint(ram_log_count(r->dst, RAM_ZERO), ==, 0);
    g_assert_cmpint(ram_log_count(r->dst, RAM_WRITE), ==, LEN / CHUNK);
    run_free(r);
}

/* Runs of zeroes in data, with a minimum of 8 KiB. */
static void test_min_sparse(void)
{
    static const RamRequest expected[] = {
        { RAM_WRITE, 0, 16 * K },           /* with 4 KiB of zeroes in it */
        { RAM_ZERO, 16 * K, 8 * K },
        { RAM_WRITE, 24 * K, 8 * K },
        { RAM_ZERO, 32 * K, 32 * K },
    };
    Run *r = run_new(CHUNK, CHUNK);

    memset(r->dst->data, 0xee, CHUNK);
    ram_fill(r->src, 0, 4 * K);
    ram_fill(r->src, 8 * K, 8 * K);
    ram_fill(r->src, 31 * K, 1);
    r->opt.min_sparse = 8 * K;
    g_assert_cmpint(run(r), ==, 0);
    assert_copied(r);
    assert_log(r->dst, expected, ARRAY_SIZE(expected));
    run_free(r);
}

/* Zeroes come in units of the alignment, even where min_sparse is smaller. */
static void test_zero_align(void)
{
    static const RamRequest expected[] = {
        { RAM_WRITE, 0, 16 * K },
        { RAM_ZERO, 16 * K, 16 * K },
        { RAM_WRITE, 32 * K, 16 * K },
        { RAM_ZERO, 48 * K, 16 * K },
    };
    Run *r = run_new(CHUNK, CHUNK);

    ram_fill(r->src, 15 * K, 512);
    ram_fill(r->src, 32 * K, 512);
    r->opt.align = 16 * K;
    g_assert_cmpint(run(r), ==, 0);
    assert_copied(r);
    assert_log(r->dst, expected, ARRAY_SIZE(expected));
    run_free(r);
}

/* Zeroes beyond the end of the target's backing file are there already. */
static void test_beyond_backing(void)
{
    static const RamRequest expected[] = {
        { RAM_ZERO, 0, 32 * K },
        { RAM_WRITE, 48 * K, 16 * K },
    };
    Run *r = run_new(CHUNK, CHUNK);

    ram_set_map(r->src, 0, 48 * K, 'z');
    ram_fill(r->src, 48 * K, 16 * K);
    r->opt.target_has_backing = true;
    r->opt.target_backing_length = 32 * K;
    g_assert_cmpint(run(r), ==, 0);
    assert_copied(r);
    assert_log(r->dst, expected, ARRAY_SIZE(expected));
    run_free(r);
}

/* --- offload --- */

static void test_copy_range(void)
{
    Run *r = run_new(LEN, LEN);

    ram_fill(r->src, 0, LEN);
    r->opt.copy_range = true;
    r->src->can_copy = true;
    g_assert_cmpint(run(r), ==, 0);
    assert_copied(r);
    g_assert_cmpint(ram_log_count(r->src, RAM_COPY_RANGE), ==, LEN / CHUNK);
    g_assert_cmpint(ram_log_count(r->src, RAM_READ), ==, 0);
    run_free(r);
}

/* Whichever offload fails, the copy goes on by buffers. */
static void test_copy_range_fallback(void)
{
    int n;

    for (n = 1; n <= LEN / CHUNK; n++) {
        Run *r = run_new(LEN, LEN);

        ram_fill(r->src, 0, LEN);
        r->src->delays = g_rand_new_with_seed(n);
        r->opt.copy_range = true;
        r->src->can_copy = true;
        r->src->fail_at[RAM_COPY_RANGE] = n;
        g_assert_cmpint(run(r), ==, 0);
        assert_copied(r);
        g_assert_cmpint(ram_log_count(r->src, RAM_READ), >, 0);
        run_free(r);
    }
}

/* --- failures --- */

static BlockCopyPhase phase_of(RamKind kind)
{
    switch (kind) {
    case RAM_READ:
        return BLOCK_COPY_READ;
    case RAM_STATUS:
        return BLOCK_COPY_STATUS;
    default:
        return BLOCK_COPY_WRITE;
    }
}

/*
 * The n-th request of a kind fails, for every n: the run ends with that error,
 * tells where, and starts nothing afterwards.
 */
static void check_failures(RamKind kind, bool in_order)
{
    int n = 0, ret;

    do {
        Run *r = run_new(LEN, LEN);
        RamNode *ram = kind == RAM_READ || kind == RAM_STATUS ? r->src : r->dst;
        g_autoptr(GRand) rand = g_rand_new_with_seed(7);

        fill_mixed(r, rand);
        r->src->delays = g_rand_new_with_seed(n);
        r->dst->delays = g_rand_new_with_seed(n + 1);
        r->opt.in_order = in_order;
        ram->fail_at[kind] = ++n;
        ram->fail_errno = ENOSPC;
        ret = run(r);
        if (ret) {
            g_assert_cmpint(ret, ==, -ENOSPC);
            g_assert_cmpint(r->failure.phase, ==, phase_of(kind));
            if (kind != RAM_STATUS) {
                g_assert_cmpint(r->failure.bytes, <=, CHUNK * 4);
                g_assert_cmpint(r->progress.done, <, LEN);
            }
        } else {
            assert_copied(r);
            g_assert_cmpint(n, >, 5);
        }
        run_free(r);
    } while (ret);
}

static void test_failures(void)
{
    RamKind kinds[] = { RAM_READ, RAM_WRITE, RAM_ZERO, RAM_STATUS };
    size_t i;

    for (i = 0; i < ARRAY_SIZE(kinds); i++) {
        check_failures(kinds[i], true);
        check_failures(kinds[i], false);
    }
}

/* on_error says: again. */
static void test_retry(void)
{
    int n;

    for (n = 1; n <= LEN / CHUNK; n++) {
        Run *r = run_new(LEN, LEN);

        ram_fill(r->src, 0, LEN);
        r->opt.on_error = on_error;
        r->answer = 0;
        r->src->fail_at[RAM_READ] = n;
        r->dst->fail_at[RAM_WRITE] = n;
        g_assert_cmpint(run(r), ==, 0);
        assert_copied(r);
        g_assert_cmpint(r->asked, ==, 2);
        run_free(r);
    }
}

/* on_error says: without it. Everything else is copied; nothing lands there. */
static void test_skip(void)
{
    Run *r = run_new(LEN, LEN);

    ram_fill(r->src, 0, LEN);
    r->opt.on_error = on_error;
    r->answer = 1;
    r->src->bad_start = 3 * CHUNK + 5;
    r->src->bad_end = r->src->bad_start + 1;
    r->dst->fail_at[RAM_WRITE] = 1;
    g_assert_cmpint(run(r), ==, 0);
    g_assert_cmpint(r->asked, ==, 2);
    g_assert_cmpint(r->landed_bytes, ==, LEN - 2 * CHUNK);
    g_assert_cmpint(r->dst->data[0], ==, 0);
    g_assert_cmpint(r->dst->data[3 * CHUNK], ==, 0);
    g_assert_cmpmem(r->src->data + 4 * CHUNK, LEN - 4 * CHUNK,
                    r->dst->data + 4 * CHUNK, LEN - 4 * CHUNK);
    g_assert_cmpint(r->progress.done, ==, LEN);
    run_free(r);
}

/* on_error has an errno of its own. */
static void test_other_error(void)
{
    Run *r = run_new(LEN, LEN);

    ram_fill(r->src, 0, LEN);
    r->opt.on_error = on_error;
    r->answer = -EREMOTEIO;
    r->src->fail_at[RAM_READ] = 2;
    g_assert_cmpint(run(r), ==, -EREMOTEIO);
    g_assert_cmpint(r->failure.phase, ==, BLOCK_COPY_READ);
    g_assert_cmpint(r->failure.offset, ==, CHUNK);
    run_free(r);
}

static void test_landed_fails(void)
{
    Run *r = run_new(LEN, LEN);

    ram_fill(r->src, 0, LEN);
    r->landed_fails_at = 3;
    g_assert_cmpint(run(r), ==, -ENXIO);
    g_assert_cmpint(r->failure.phase, ==, BLOCK_COPY_LANDED);
    g_assert_cmpint(r->landed_calls, ==, 3);
    run_free(r);
}

/* Bad sectors are lost, their neighbours are not. */
static void test_salvage(void)
{
    Run *r = run_new(LEN, LEN);

    ram_fill(r->src, 0, LEN);
    memset(r->dst->data, 0xee, LEN);
    r->opt.salvage_unit = RAM_SECTOR;
    r->opt.on_error = on_error;
    r->answer = -EIO;
    r->opt.landed = NULL;
    r->src->bad_start = 100 * RAM_SECTOR + 3;
    r->src->bad_end = 102 * RAM_SECTOR;
    g_assert_cmpint(run(r), ==, 0);
    g_assert_cmpint(r->asked, ==, 2);
    memset(r->src->data + 100 * RAM_SECTOR, 0, 2 * RAM_SECTOR);
    assert_copied(r);
    run_free(r);
}

/* --- ending early, and speed --- */

/* Canceled at any time it ends, and only then. */
static void test_cancel(void)
{
    int n = 0, ret;

    do {
        Run *r = run_new(LEN, LEN);

        ram_fill(r->src, 0, LEN);
        r->src->delays = g_rand_new_with_seed(n);
        r->dst->delays = g_rand_new_with_seed(n + 1);
        r->opt.workers = 4;
        r->cancel_at_progress = ++n;
        ret = run(r);
        if (ret) {
            g_assert_cmpint(ret, ==, -ECANCELED);
            /* What had begun may end; nothing else begins. */
            g_assert_cmpint(ram_log_count(r->dst, RAM_WRITE), <=, n + 4);
        }
        run_free(r);
    } while (ret);
    /* One report of the scan, and one for each chunk. */
    g_assert_cmpint(n, >=, LEN / CHUNK);
}

static gpointer cancel_later(gpointer opaque)
{
    g_usleep(50 * 1000);
    block_copy_cancel(opaque);
    return NULL;
}

/* From another thread, while the rate limit makes everybody sleep. */
static void test_cancel_thread(void)
{
    Run *r = run_new(LEN, LEN);
    int64_t start = get_clock();
    GThread *thread;

    ram_fill(r->src, 0, LEN);
    r->opt.rate_limit = 16 * K; /* a minute */
    r->state = block_copy_new(r->in, r->out, &r->opt, &error_abort);
    thread = g_thread_new("cancel", cancel_later, r->state);
    qemu_coroutine_enter(qemu_coroutine_create(run_entry, r));
    while (!r->done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_thread_join(thread);
    block_copy_free(r->state);
    g_assert_cmpint(r->ret, ==, -ECANCELED);
    g_assert_cmpint(get_clock() - start, <, 5 * NANOSECONDS_PER_SECOND);
    run_free(r);
}

/* 16 chunks at 64 chunks a second. */
static void test_rate_limit(void)
{
    Run *r = run_new(LEN, LEN);
    int64_t start = get_clock();

    ram_fill(r->src, 0, LEN);
    r->opt.rate_limit = 64 * CHUNK;
    g_assert_cmpint(run(r), ==, 0);
    assert_copied(r);
    g_assert_cmpint(get_clock() - start, >, 120 * SCALE_MS);
    run_free(r);
}

static gpointer speed_up(gpointer opaque)
{
    g_usleep(50 * 1000);
    block_copy_set_speed(opaque, 0);
    return NULL;
}

/* Lifting the limit ends the waiting. */
static void test_set_speed(void)
{
    Run *r = run_new(LEN, LEN);
    int64_t start = get_clock();
    GThread *thread;

    ram_fill(r->src, 0, LEN);
    r->opt.rate_limit = 16 * K;
    r->state = block_copy_new(r->in, r->out, &r->opt, &error_abort);
    thread = g_thread_new("speed", speed_up, r->state);
    qemu_coroutine_enter(qemu_coroutine_create(run_entry, r));
    while (!r->done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_thread_join(thread);
    block_copy_free(r->state);
    g_assert_cmpint(r->ret, ==, 0);
    assert_copied(r);
    g_assert_cmpint(get_clock() - start, <, 5 * NANOSECONDS_PER_SECOND);
    run_free(r);
}

/* --- options --- */

static void refuse(Run *r, const char *message)
{
    Error *err = NULL;

    g_assert_null(block_copy_new(r->in, r->out, &r->opt, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, message);
    error_free(err);
}

static void test_bad_options(void)
{
    Run *r = run_new(LEN, LEN);
    BlockCopyOptions good = r->opt;

    r->opt.workers = 0;
    refuse(r, "Number of workers must be between 1 and 64");
    r->opt = good;
    r->opt.align = 3;
    refuse(r, "Alignment of a copy must be a power of two up to 67108864");
    r->opt = good;
    r->opt.chunk = INT64_MAX;
    refuse(r, "Chunk of a copy must be between 0 and 67108864");
    r->opt = good;
    r->opt.compressed = r->opt.copy_range = true;
    refuse(r, "The kernel cannot copy compressed");
    r->opt = good;
    r->opt.align = 512;
    r->opt.start = 256;
    refuse(r, "Start of a copy must be aligned and within it");
    run_free(r);
}

/* A run that ends early goes on where it was complete. */
static void test_go_on(void)
{
    g_autoptr(GRand) rand = seeded();
    int64_t complete;
    int i, later = 0;

    for (i = 0; i < 200; i++) {
        Run *r = run_new(LEN, LEN);

        r->src->delays = g_rand_copy(rand);
        r->dst->delays = g_rand_copy(rand);
        fill_mixed(r, rand);
        r->opt.in_order = g_rand_boolean(rand);
        r->opt.align = 1 << g_rand_int_range(rand, 0, 17);
        r->opt.target_is_zero = g_rand_boolean(rand);
        if (!r->opt.target_is_zero) {
            memset(r->dst->data, 0xee, LEN);
        }
        r->cancel_at_progress = g_rand_int_range(rand, 1, LEN / CHUNK);
        run(r);
        complete = r->progress.complete;
        later += complete > 0 && complete < LEN;
        g_assert_cmpmem(r->src->data, complete, r->dst->data, complete);

        memset(r->src->data, 0x77, QEMU_ALIGN_DOWN(complete, r->opt.align));
        r->opt.start = QEMU_ALIGN_DOWN(complete, r->opt.align);
        r->cancel_at_progress = 0;
        g_assert_cmpint(run(r), ==, 0);
        g_assert_cmpint(r->progress.complete, ==, LEN);
        g_assert_cmpmem(r->src->data + r->opt.start, LEN - r->opt.start,
                        r->dst->data + r->opt.start, LEN - r->opt.start);
        /* What came before is not copied again. */
        g_assert_true(!r->opt.start ||
                      memcmp(r->src->data, r->dst->data, r->opt.start));
        run_free(r);
    }
    g_assert_cmpint(later, >, 50);
}

/* A pause at any moment: what is in flight ends, then nothing moves. */
static void test_pause(void)
{
    for (int cancel = 0; cancel < 2; cancel++) {
        for (int n = 1; n < 2 * LEN / CHUNK; n++) {
            Run *r = run_new(LEN, LEN);

            ram_fill(r->src, 0, LEN);
            r->src->delays = g_rand_new_with_seed(n);
            r->dst->delays = g_rand_new_with_seed(n);
            r->opt.parked = on_parked;
            r->opt.landed = NULL;
            r->pause_at_progress = n;
            r->cancel_paused = cancel;
            run(r);
            g_assert_cmpint(r->parked, ==, r->progress_calls >= n);
            if (cancel && r->ret) {
                g_assert_cmpint(r->ret, ==, -ECANCELED);
            } else {
                g_assert_cmpint(r->ret, ==, 0);
                assert_copied(r);
            }
            run_free(r);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    bdrv_init();

    g_test_add_func("/copy/extents", test_extents);
    g_test_add_func("/copy/content", test_content);
    g_test_add_func("/copy/short-source", test_short_source);
    g_test_add_func("/copy/empty", test_empty);
    g_test_add_func("/copy/order", test_order);
    g_test_add_func("/copy/workers", test_workers);
    g_test_add_func("/copy/target-is-zero", test_target_is_zero);
    g_test_add_func("/copy/fully-written", test_fully_written);
    g_test_add_func("/copy/min-sparse", test_min_sparse);
    g_test_add_func("/copy/zero-align", test_zero_align);
    g_test_add_func("/copy/beyond-backing", test_beyond_backing);
    g_test_add_func("/copy/copy-range", test_copy_range);
    g_test_add_func("/copy/copy-range-fallback", test_copy_range_fallback);
    g_test_add_func("/copy/failures", test_failures);
    g_test_add_func("/copy/retry", test_retry);
    g_test_add_func("/copy/skip", test_skip);
    g_test_add_func("/copy/other-error", test_other_error);
    g_test_add_func("/copy/landed-fails", test_landed_fails);
    g_test_add_func("/copy/salvage", test_salvage);
    g_test_add_func("/copy/cancel", test_cancel);
    g_test_add_func("/copy/cancel-thread", test_cancel_thread);
    g_test_add_func("/copy/go-on", test_go_on);
    g_test_add_func("/copy/pause", test_pause);
    g_test_add_func("/copy/rate-limit", test_rate_limit);
    g_test_add_func("/copy/set-speed", test_set_speed);
    g_test_add_func("/copy/bad-options", test_bad_options);
    return g_test_run();
}
