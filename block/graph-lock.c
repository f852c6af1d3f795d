/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The graph lock: many reader coroutines in all threads, one writer that is
 * the main thread.
 *
 * 1. A reader counts itself in a counter of its thread, so that the common
 *    case touches no cache line that another thread writes. Only the sum of
 *    the counters means something: a coroutine that moves to another thread
 *    may leave +1 in one and -1 in another.
 * 2. A reader counts itself and then looks for a writer; the writer announces
 *    itself and then sums the counters, both with full barriers: at least one
 *    of the two sees the other. A reader that sees a writer takes its count
 *    back and queues.
 * 3. While a writer is announced the sum only falls, short-lived +1/-1 pairs
 *    aside, so a sum of zero means that there is no reader.
 * 4. The writer polls while it waits, and what runs then may itself poll for
 *    requests (a nested drain or synchronous request). Such a nested wait
 *    withdraws the announcement until it is done, see
 *    bdrv_graph_wrlock_yield_begin(): otherwise it would wait for requests
 *    that queue behind a writer that waits for it to return.
 */
#include "util/osdep.h"
#include "block/graph-lock.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "util/coroutine.h"
#include "util/lockable.h"
#include "util/queue.h"
#include "util/thread.h"

/* Longer than a line, against prefetching of neighbours. */
#define READER_ALIGN 128

typedef struct GraphReader {
    /* Written by its thread only, read by the writer. */
    uint32_t count;
    QTAILQ_ENTRY(GraphReader) next; /* under readers_lock */
} QEMU_ALIGNED(READER_ALIGN) GraphReader;

/* Announced; also true while it holds the lock. Read by everybody. */
static bool has_writer QEMU_ALIGNED(READER_ALIGN);

/* Main thread only. */
static unsigned writer_depth;    /* nesting of the holder */
static bool writer_granted;
static unsigned writers_pending; /* calls that wait, and one that holds */
static unsigned yield_depth;

/* Leaf lock: protects the following. */
static QemuMutex readers_lock = QEMU_MUTEX_INITIALIZER;
static QTAILQ_HEAD(, GraphReader) readers = QTAILQ_HEAD_INITIALIZER(readers);
/* What threads that have ended left in their counters. */
static uint32_t orphaned_count;
/* Readers that wait for the writer to go. */
static CoQueue reader_queue = {
    .entries = QSIMPLEQ_HEAD_INITIALIZER(reader_queue.entries),
};

static __thread GraphReader *my_reader;
static pthread_key_t reader_key;
static pthread_once_t reader_key_once = PTHREAD_ONCE_INIT;

static void reader_thread_exit(void *opaque)
{
    GraphReader *r = opaque;

    qemu_mutex_lock(&readers_lock);
    QTAILQ_REMOVE(&readers, r, next);
    orphaned_count += r->count;
    qemu_mutex_unlock(&readers_lock);
    my_reader = NULL;
    qemu_vfree(r);
}

static void reader_key_create(void)
{
    int ret = pthread_key_create(&reader_key, reader_thread_exit);

    assert(ret == 0);
}

static GraphReader *reader_register(void)
{
    GraphReader *r = qemu_memalign(READER_ALIGN, sizeof(*r));
    int ret;

    memset(r, 0, sizeof(*r));
    pthread_once(&reader_key_once, reader_key_create);
    ret = pthread_setspecific(reader_key, r);
    assert(ret == 0);
    qemu_mutex_lock(&readers_lock);
    QTAILQ_INSERT_TAIL(&readers, r, next);
    qemu_mutex_unlock(&readers_lock);
    my_reader = r;
    return r;
}

/*
 * Adds @n to the counter of the current thread. Not inlined: a caller that
 * yields must not keep the address of the thread's variable across it.
 */
static QEMU_NOINLINE void reader_count_add(uint32_t n)
{
    GraphReader *r = my_reader;

    if (unlikely(!r)) {
        r = reader_register();
    }
    qatomic_store_release(&r->count, r->count + n);
}

static uint32_t reader_count_sum(void)
{
    GraphReader *r;
    uint32_t sum;

    smp_mb();
    QEMU_LOCK_GUARD(&readers_lock);
    sum = orphaned_count;
    QTAILQ_FOREACH(r, &readers, next) {
        sum += qatomic_load_acquire(&r->count);
    }
    return sum;
}

static void coroutine_fn reader_wait(void)
{
    qemu_mutex_lock(&readers_lock);
    while (qatomic_read(&has_writer)) {
        qemu_co_queue_wait(&reader_queue, &readers_lock);
    }
    qemu_mutex_unlock(&readers_lock);
}

void coroutine_fn bdrv_graph_co_rdlock(void)
{
    for (;;) {
        reader_count_add(1);
        smp_mb();
        /* Pairs with the release of the writer. */
        if (likely(!qatomic_load_acquire(&has_writer))) {
            return;
        }
        reader_count_add(-1);
        aio_wait_kick();
        reader_wait();
    }
}

void coroutine_fn bdrv_graph_co_rdunlock(void)
{
    reader_count_add(-1);
    smp_mb();
    if (unlikely(qatomic_read(&has_writer))) {
        aio_wait_kick();
    }
}

static void writer_announce(void)
{
    qatomic_xchg(&has_writer, true);
}

static void writer_withdraw(void)
{
    QEMU_LOCK_GUARD(&readers_lock);
    qatomic_store_release(&has_writer, false);
    qemu_co_queue_restart_all(&reader_queue);
}

void bdrv_graph_wrlock(void)
{
    unsigned outer_yields = yield_depth;

    GLOBAL_STATE_CODE();
    assert(!qemu_in_coroutine());

    if (writer_granted) {
        writer_depth++;
        return;
    }
    /*
     * An outer call may be waiting already, when a callback run by its polling
     * comes here: the inner call then gets the lock first.
     */
    writers_pending++;
    yield_depth = 0;
    writer_announce();
    AIO_WAIT_WHILE(NULL, reader_count_sum() != 0);
    assert(!writer_granted && yield_depth == 0);
    yield_depth = outer_yields;
    writer_granted = true;
    writer_depth = 1;
}

void bdrv_graph_wrunlock(void)
{
    GLOBAL_STATE_CODE();
    assert(writer_granted && writer_depth > 0);

    if (--writer_depth > 0) {
        return;
    }
    writer_granted = false;
    writers_pending--;
    /* An outer call goes on waiting, unless it has been told to stand back. */
    if (writers_pending == 0 || yield_depth > 0) {
        writer_withdraw();
    }
}

void bdrv_graph_wrlock_yield_begin(void)
{
    GLOBAL_STATE_CODE();
    assert(!writer_granted);

    if (yield_depth++ == 0 && writers_pending > 0) {
        writer_withdraw();
    }
}

void bdrv_graph_wrlock_yield_end(void)
{
    GLOBAL_STATE_CODE();
    assert(!writer_granted && yield_depth > 0);

    if (--yield_depth == 0 && writers_pending > 0) {
        writer_announce();
    }
}

bool bdrv_graph_is_write_locked(void)
{
    return qemu_in_main_thread() && writer_granted;
}
