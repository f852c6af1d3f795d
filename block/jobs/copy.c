/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copy engine: a run, its workers, and who may write when.
 *
 *   scan ──extents──> worker: take, pace, read, wait for the turn, write, land
 *
 * 1. Everything but cancelling and the rate limit belongs to the thread of the
 *    run, so there are no locks: state is consistent at every yield.
 * 2. Work is numbered in the order in which it is taken, which is ascending.
 *    With in_order, only the worker whose number is s->turn may issue writes;
 *    each number is passed exactly once, or the run is ending.
 * 3. The first failure is kept and ends the run: nobody starts anything after
 *    it, and block_copy_run() returns when all that is in flight has ended.
 */
#include "util/osdep.h"
#include "block/block.h"
#include "block/jobs/copy-int.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "util/lockable.h"
#include "util/memalign.h"
#include "util/timer.h"

/* As large as can be with folios of 512 KiB, which free memory of a virtual
 * machine has at hand where the host takes larger blocks away. */
#define DEFAULT_CHUNK (768 * 1024)
#define MAX_CHUNK (64 * 1024 * 1024)
#define MAX_WORKERS 64
/* Zeroes carry no data; this bounds how long a cancel can take. */
#define ZERO_CHUNK (256 * 1024 * 1024)
#define EXTENTS_AHEAD 4096
/* Longest sleep before looking at cancel and a new rate limit again. */
#define MAX_SLEEP_NS (50 * SCALE_MS)

/* --- ending --- */

bool copy_is_ending(BlockCopyState *s)
{
    if (!s->failure.error && qatomic_read(&s->cancelled)) {
        copy_fail(s, BLOCK_COPY_READ, s->examined, 0, -ECANCELED);
    }
    return s->failure.error != 0;
}

static void wake_turn_waiter(CopyWorker *w)
{
    Coroutine *co = w->turn_waiter;

    w->turn_waiter = NULL;
    aio_co_wake(co);
}

void copy_fail(BlockCopyState *s, BlockCopyPhase phase, int64_t offset,
               int64_t bytes, int error)
{
    int i;

    assert(error < 0);
    if (s->failure.error) {
        return;
    }
    s->failure = (BlockCopyFailure) { error, phase, offset, bytes };
    qemu_co_queue_restart_all(&s->work_queue);
    qemu_co_queue_restart_all(&s->room_queue);
    qemu_co_queue_restart_all(&s->pause_queue);
    for (i = 0; i < s->opt.workers; i++) {
        if (s->workers[i].turn_waiter) {
            wake_turn_waiter(&s->workers[i]);
        }
    }
}

int coroutine_fn copy_ask(BlockCopyState *s, BlockCopyPhase phase,
                          int64_t offset, int64_t bytes, int error)
{
    int ret = error;

    if (s->opt.on_error && !copy_is_ending(s)) {
        ret = s->opt.on_error(s->opt.opaque, phase, offset, bytes, error);
    }
    if (ret < 0) {
        copy_fail(s, phase, offset, bytes, ret);
    }
    return copy_is_ending(s) ? s->failure.error : ret;
}

static int64_t complete_up_to(const BlockCopyState *s)
{
    int64_t offset = copy_extents_front(&s->extents);
    int i;

    for (i = 0; i < s->opt.workers; i++) {
        offset = MIN(offset, s->workers[i].at);
    }
    return offset;
}

void copy_report(BlockCopyState *s)
{
    BlockCopyProgress p = {
        .done = s->done,
        .known = s->extents.known,
        .start = s->opt.start,
        .examined = s->examined,
        .length = s->opt.length,
        .complete = complete_up_to(s),
    };

    if (s->opt.progress) {
        s->opt.progress(s->opt.opaque, &p);
    }
}

/* --- pausing --- */

bool coroutine_fn copy_begin(BlockCopyState *s)
{
    while (s->paused && !copy_is_ending(s)) {
        qemu_co_queue_wait(&s->pause_queue, (void *)NULL);
    }
    if (copy_is_ending(s)) {
        return false;
    }
    s->busy++;
    return true;
}

static void tell_if_parked(BlockCopyState *s)
{
    if (s->paused && !s->busy && s->opt.parked) {
        s->opt.parked(s->opt.opaque);
    }
}

void copy_end(BlockCopyState *s)
{
    s->busy--;
    tell_if_parked(s);
}

void block_copy_pause(BlockCopyState *s)
{
    s->paused = true;
    tell_if_parked(s);
}

void block_copy_resume(BlockCopyState *s)
{
    s->paused = false;
    qemu_co_queue_restart_all(&s->pause_queue);
}

/* --- order --- */

bool coroutine_fn copy_wait_turn(CopyWorker *w)
{
    BlockCopyState *s = w->s;

    while (s->opt.in_order && s->turn < w->seq && !copy_is_ending(s)) {
        w->turn_waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    return !copy_is_ending(s);
}

void copy_pass_turn(CopyWorker *w)
{
    BlockCopyState *s = w->s;
    int i;

    if (!s->opt.in_order || s->turn != w->seq) {
        return;
    }
    s->turn++;
    for (i = 0; i < s->opt.workers; i++) {
        if (s->workers[i].turn_waiter && s->workers[i].seq == s->turn) {
            wake_turn_waiter(&s->workers[i]);
        }
    }
}

/* --- speed --- */

static void coroutine_fn pace(BlockCopyState *s, int64_t bytes)
{
    int64_t now, wait_ns;

    for (;;) {
        now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        wait_ns = qatomic_read(&s->next_start_ns) - now;
        if (wait_ns <= 0 || copy_is_ending(s)) {
            break;
        }
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, MIN(wait_ns, MAX_SLEEP_NS));
    }
    wait_ns = ratelimit_calculate_delay(&s->limit, bytes);
    if (wait_ns > 0) {
        qatomic_set(&s->next_start_ns, now + wait_ns);
    }
}

void block_copy_set_speed(BlockCopyState *s, int64_t bytes_per_second)
{
    ratelimit_set_speed(&s->limit, bytes_per_second);
    qatomic_set(&s->next_start_ns, 0);
}

/* --- reading --- */

/* -ECANCELED if the run is ending. */
static int coroutine_fn read_blk(BlockCopyState *s, BlockBackend *blk,
                                 int64_t offset, int64_t bytes, void *buf)
{
    int ret;

    if (!copy_begin(s)) {
        return -ECANCELED;
    }
    ret = blk_co_pread(blk, offset, bytes, buf, 0);
    copy_end(s);
    return ret;
}

void coroutine_fn copy_tell_lost(BlockCopyState *s, int64_t offset,
                                 int64_t bytes, int error)
{
    if (s->opt.on_error) {
        s->opt.on_error(s->opt.opaque, BLOCK_COPY_READ, offset, bytes, error);
    }
}

/* Whether the first *@n bytes at @offset are known to be lost. */
static bool coroutine_fn is_lost(BlockCopyState *s, int64_t offset, int64_t *n)
{
    int64_t same;
    int ret;

    if (!copy_begin(s)) {
        return false;
    }
    ret = blk_co_block_status_above(s->source, NULL, false, offset, *n, &same,
                                    NULL, NULL, NULL);
    copy_end(s);
    if (ret < 0 || !same) {
        return false;
    }
    *n = same;
    return ret & BDRV_BLOCK_LOST;
}

static int coroutine_fn read_again(BlockCopyState *s, int64_t offset,
                                   int64_t bytes, char *buf, unsigned retries)
{
    int ret;

    do {
        ret = read_blk(s, s->source, offset, bytes, buf);
    } while (ret < 0 && retries-- && !copy_is_ending(s));
    return ret;
}

/*
 * A read of the whole range failed: read halves of it, halves of those, and so
 * on; pieces of salvage_unit that fail are zeroes. A failing disk takes its
 * time for each error, so pieces become larger again after a success. What a
 * failed read taught the nodes below is asked for before each piece.
 */
static void coroutine_fn salvage(BlockCopyState *s, int64_t offset,
                                 int64_t bytes, char *buf)
{
    int64_t unit = s->opt.salvage_unit;
    int64_t pos = 0, want = MAX(bytes / 2, unit);

    while (pos < bytes && !copy_is_ending(s)) {
        int64_t at = offset + pos;
        int64_t n = MIN(QEMU_ALIGN_UP(at + want, unit) - at, bytes - pos);
        bool lost = is_lost(s, at, &n);
        bool smallest = at / unit == (at + n - 1) / unit;
        int ret = lost ? -EIO
                       : read_again(s, at, n, buf + pos,
                                    smallest ? s->opt.salvage_retries : 0);

        if (ret < 0 && !lost && !smallest) {
            want = MAX(MIN(want, n) / 2, 1);
            continue;
        }
        if (ret < 0 && copy_is_ending(s)) {
            return;
        }
        if (ret < 0) {
            memset(buf + pos, 0, n);
            copy_tell_lost(s, at, n, ret);
        }
        if (ret >= 0 || lost) {
            want = MIN(want * 2, bytes);
        }
        pos += n;
    }
}

/* Returns 0, or 1 if the range was given up on, or -errno (noted). */
static int coroutine_fn read_source(BlockCopyState *s, int64_t offset,
                                    int64_t bytes, char *buf)
{
    int64_t real = MIN(bytes, MAX(s->source_length - offset, 0));
    int ret;

    memset(buf + real, 0, bytes - real);
    while (real) {
        ret = read_blk(s, s->source, offset, real, buf);
        if (ret >= 0) {
            break;
        }
        if (s->opt.salvage_unit) {
            salvage(s, offset, real, buf);
            break;
        }
        ret = copy_ask(s, BLOCK_COPY_READ, offset, real, ret);
        if (ret) {
            return ret;
        }
    }
    return 0;
}

/* What opt.same_as holds there. The same results. */
static int coroutine_fn read_same(BlockCopyState *s, int64_t offset,
                                  int64_t bytes, char *buf)
{
    int64_t real = CLAMP(s->same_as_length - offset, 0, bytes);
    int ret;

    memset(buf + real, 0, bytes - real);
    while (real) {
        ret = read_blk(s, s->opt.same_as, offset, real, buf);
        if (ret >= 0) {
            break;
        }
        ret = copy_ask(s, BLOCK_COPY_COMPARE, offset, real, ret);
        if (ret) {
            return ret;
        }
    }
    return 0;
}

static void *get_buffer(BlockCopyState *s, void **buf)
{
    if (!*buf) {
        *buf = qemu_try_memalign(s->mem_align, s->opt.chunk);
    }
    return *buf;
}

/* --- one piece of work --- */

/*
 * Lets the kernel copy. False if that is not possible; the turn is then still
 * this worker's, unless copying had worked before.
 */
static bool coroutine_fn offload(CopyWorker *w, const CopyExtent *e)
{
    BlockCopyState *s = w->s;
    int64_t bytes = e->end - e->offset;
    int ret;

    if (!copy_wait_turn(w)) {
        return true;
    }
    if (!s->copy_range || e->end > s->source_length) {
        return false;
    }
    if (!copy_begin(s)) {
        return true;
    }
    if (s->copy_range_proven) {
        copy_pass_turn(w);
    }
    ret = blk_co_copy_range(s->source, e->offset, s->target, e->offset, bytes,
                            0, 0);
    copy_end(s);
    if (ret < 0) {
        /* Whatever it is, reading and writing will tell which side failed. */
        s->copy_range = false;
        return false;
    }
    s->copy_range_proven = true;
    copy_pass_turn(w);
    return true;
}

static void coroutine_fn copy_data(CopyWorker *w, const CopyExtent *e)
{
    BlockCopyState *s = w->s;
    int64_t bytes = e->end - e->offset;
    int ret;

    if (s->copy_range && offload(w, e)) {
        return;
    }
    if (!get_buffer(s, &w->buf) ||
        (s->opt.same_as && !get_buffer(s, &w->same_buf))) {
        copy_fail(s, BLOCK_COPY_READ, e->offset, bytes, -ENOMEM);
        return;
    }
    ret = read_source(s, e->offset, bytes, w->buf);
    if (ret == 0 && s->opt.same_as) {
        ret = read_same(s, e->offset, bytes, w->same_buf);
    }
    if (ret > 0) {
        w->lost = true;
    }
    if (!copy_wait_turn(w)) {
        return;
    }
    if (ret > 0) {
        copy_pass_turn(w);
        return;
    }
    if (s->opt.seen) {
        s->opt.seen(s->opt.opaque, e->offset, bytes, w->buf);
    }
    copy_write_data(w, e->offset, bytes, w->buf,
                    s->opt.same_as ? w->same_buf : NULL, true);
}

static void coroutine_fn tell_zeroes(CopyWorker *w, const CopyExtent *e)
{
    BlockCopyState *s = w->s;

    if (s->opt.seen) {
        s->opt.seen(s->opt.opaque, e->offset, e->end - e->offset, NULL);
    }
}

static void coroutine_fn copy_zeroes(CopyWorker *w, const CopyExtent *e)
{
    BlockCopyState *s = w->s;
    int64_t bytes = e->end - e->offset;
    bool fresh = !s->zero_buf;

    if (s->opt.min_sparse) {
        if (copy_wait_turn(w)) {
            tell_zeroes(w, e);
            copy_write_zeroes(w, e->offset, bytes);
        }
        return;
    }
    if (!get_buffer(s, &s->zero_buf)) {
        copy_fail(s, BLOCK_COPY_WRITE, e->offset, bytes, -ENOMEM);
        return;
    }
    if (fresh) {
        memset(s->zero_buf, 0, s->opt.chunk);
    }
    if (copy_wait_turn(w)) {
        tell_zeroes(w, e);
        copy_write_data(w, e->offset, bytes, s->zero_buf, NULL, false);
    }
}

static void coroutine_fn copy_one(CopyWorker *w, const CopyExtent *e)
{
    BlockCopyState *s = w->s;
    int64_t bytes = e->end - e->offset;
    int ret;

    w->lost = false;
    pace(s, bytes);
    if (copy_is_ending(s)) {
        return;
    }
    if (e->cls == COPY_DATA) {
        copy_data(w, e);
    } else {
        copy_zeroes(w, e);
    }
    if (copy_is_ending(s)) {
        return;
    }
    if (s->opt.landed && !w->lost && copy_begin(s)) {
        ret = s->opt.landed(s->opt.opaque, e->offset, bytes);
        copy_end(s);
        if (ret < 0) {
            copy_fail(s, BLOCK_COPY_LANDED, e->offset, bytes, ret);
            return;
        }
    }
    s->done += bytes;
    w->at = INT64_MAX;
    copy_report(s);
}

/* --- the workers --- */

/* The next piece of work, waiting for the scan; false if there is no more. */
static bool coroutine_fn take_work(CopyWorker *w, CopyExtent *e)
{
    BlockCopyState *s = w->s;
    int64_t chunk = s->opt.chunk;
    int64_t zero_chunk = s->opt.min_sparse ? QEMU_ALIGN_UP(ZERO_CHUNK, chunk)
                                           : chunk;

    while (!copy_is_ending(s)) {
        if (copy_extents_take(&s->extents, chunk, zero_chunk, e)) {
            w->seq = s->next_seq++;
            w->at = e->offset;
            qemu_co_queue_next(&s->room_queue);
            return true;
        }
        if (s->scan_done) {
            break;
        }
        qemu_co_queue_wait(&s->work_queue, (void *)NULL);
    }
    return false;
}

static void coroutine_fn worker_entry(void *opaque)
{
    CopyWorker *w = opaque;
    CopyExtent e;

    while (take_work(w, &e)) {
        copy_one(w, &e);
    }
    qemu_co_wait_group_done(&w->s->group);
}

/* --- the run --- */

static int coroutine_fn prepare(BlockCopyState *s)
{
    s->source_length = blk_co_getlength(s->source);
    if (s->source_length < 0) {
        copy_fail(s, BLOCK_COPY_STATUS, 0, s->opt.length, s->source_length);
    }
    if (s->opt.same_as) {
        s->same_as_length = blk_co_getlength(s->opt.same_as);
        if (s->same_as_length < 0) {
            copy_fail(s, BLOCK_COPY_COMPARE, 0, s->opt.length,
                      s->same_as_length);
        }
    }
    return s->failure.error;
}

static void coroutine_fn move_everything(BlockCopyState *s)
{
    int i;

    qemu_co_wait_group_add(&s->group, s->opt.workers + 1);
    qemu_coroutine_enter(qemu_coroutine_create(copy_scan_entry, s));
    for (i = 0; i < s->opt.workers; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(worker_entry,
                                                   &s->workers[i]));
    }
    qemu_co_wait_group_wait(&s->group);
}

int coroutine_fn block_copy_run(BlockCopyState *s, BlockCopyFailure *failure)
{
    int ret;

    assert(!s->next_seq && !s->scan_done);
    if (prepare(s) == 0) {
        move_everything(s);
    }
    if (s->opt.compressed && copy_begin(s)) {
        ret = blk_co_pwrite_compressed(s->target, 0, 0, NULL);
        copy_end(s);
        if (ret < 0) {
            copy_fail(s, BLOCK_COPY_FINISH, 0, 0, ret);
        }
    }
    if (failure) {
        *failure = s->failure;
    }
    return s->failure.error;
}

void block_copy_cancel(BlockCopyState *s)
{
    qatomic_set(&s->cancelled, true);
}

/* --- making and freeing --- */

static bool is_pow2(int64_t n)
{
    return n > 0 && !(n & (n - 1));
}

static bool check_options(BlockCopyOptions *opt, Error **errp)
{
    opt->align = opt->align ?: 1;
    opt->chunk = opt->chunk ?: DEFAULT_CHUNK;
    if (opt->workers < 1 || opt->workers > MAX_WORKERS) {
        error_setg(errp, "Number of workers must be between 1 and %d",
                   MAX_WORKERS);
        return false;
    }
    if (!is_pow2(opt->align) || opt->align > MAX_CHUNK) {
        error_setg(errp, "Alignment of a copy must be a power of two up to %d",
                   MAX_CHUNK);
        return false;
    }
    if (opt->chunk < 0 || opt->chunk > MAX_CHUNK) {
        error_setg(errp, "Chunk of a copy must be between 0 and %d", MAX_CHUNK);
        return false;
    }
    if (opt->length < 0 || opt->length > BDRV_MAX_LENGTH) {
        error_setg(errp, "Length of a copy must be between 0 and %lld",
                   (long long)BDRV_MAX_LENGTH);
        return false;
    }
    if (opt->start < 0 || opt->start > opt->length ||
        opt->start % opt->align) {
        error_setg(errp, "Start of a copy must be aligned and within it");
        return false;
    }
    if (opt->min_sparse < 0 || opt->rate_limit < 0 ||
        (opt->salvage_unit && (opt->salvage_unit < BDRV_SECTOR_SIZE ||
                               !is_pow2(opt->salvage_unit)))) {
        error_setg(errp, "Negative or too small size in the options of a copy");
        return false;
    }
    if (opt->seen && (!opt->in_order || opt->copy_range)) {
        error_setg(errp, "Data can only be seen in order, and not by the "
                   "kernel's copying");
        return false;
    }
    if (opt->compressed && opt->copy_range) {
        error_setg(errp, "The kernel cannot copy compressed");
        return false;
    }
    if (opt->same_as && opt->copy_range) {
        error_setg(errp, "The kernel does not compare what it copies");
        return false;
    }
    opt->chunk = QEMU_ALIGN_UP(opt->chunk, opt->align);
    return true;
}

static int64_t pow2_down(int64_t n)
{
    int64_t p = 1;

    while (p <= n / 2) {
        p *= 2;
    }
    return p;
}

BlockCopyState *block_copy_new(BlockBackend *source, BlockBackend *target,
                               const BlockCopyOptions *options, Error **errp)
{
    BlockCopyOptions opt = *options;
    BlockCopyState *s;
    int i;

    if (!check_options(&opt, errp)) {
        return NULL;
    }
    s = g_new0(BlockCopyState, 1);
    s->source = source;
    s->target = target;
    s->opt = opt;
    s->zero_unit = MAX(pow2_down(opt.min_sparse), opt.align);
    s->mem_align = MAX(bdrv_opt_mem_align(blk_bs(source)),
                       bdrv_opt_mem_align(blk_bs(target)));
    if (opt.same_as) {
        s->mem_align = MAX(s->mem_align, bdrv_opt_mem_align(blk_bs(opt.same_as)));
    }
    s->copy_range = opt.copy_range;
    s->workers = g_new0(CopyWorker, opt.workers);
    for (i = 0; i < opt.workers; i++) {
        s->workers[i].s = s;
        s->workers[i].at = INT64_MAX;
    }
    copy_extents_init(&s->extents, opt.align, EXTENTS_AHEAD, opt.start);
    s->examined = opt.start;
    qemu_co_queue_init(&s->work_queue);
    qemu_co_queue_init(&s->room_queue);
    qemu_co_queue_init(&s->pause_queue);
    qemu_co_wait_group_init(&s->group);
    ratelimit_init(&s->limit);
    ratelimit_set_speed(&s->limit, opt.rate_limit);
    return s;
}

void block_copy_free(BlockCopyState *s)
{
    int i;

    if (!s) {
        return;
    }
    for (i = 0; i < s->opt.workers; i++) {
        qemu_vfree(s->workers[i].buf);
        qemu_vfree(s->workers[i].same_buf);
    }
    qemu_vfree(s->zero_buf);
    g_free(s->workers);
    copy_extents_destroy(&s->extents);
    qemu_co_wait_group_destroy(&s->group);
    ratelimit_destroy(&s->limit);
    g_free(s);
}
