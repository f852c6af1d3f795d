/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Metadata reads of the check: a queue of them, results handed on in order.
 *
 * Worker coroutines take the next run of adjacent tables, read it with one
 * request, then wait for their turn to hand the tables on, so that the
 * consumer sees the array's order whatever order the reads complete in.
 *
 * Invariants:
 *  1. Tickets are given in array order; only the worker whose ticket equals
 *     `turn` calls the consumer.
 *  2. All workers run in the caller's thread: no locks.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "block/qcow2/check.h"

#define MAX_WORKERS 16
/* Adjacent tables are read together up to this size. */
#define MAX_RUN_BYTES (1024 * 1024)

typedef struct ReadMany {
    Qcow2Check *c;
    char *elements;
    size_t n;
    size_t stride;
    Qcow2CheckReadFunc *func;
    size_t next;            /* first element that nobody took */
    uint64_t next_ticket;
    uint64_t turn;
    CoQueue waiting;        /* for their turn */
    CoWaitGroup workers;
} ReadMany;

int coroutine_fn qcow2_check_pread(Qcow2Check *c, uint64_t offset,
                                   uint64_t bytes, void *buf)
{
    uint64_t inside = 0;

    if (offset < c->file_size) {
        inside = MIN(bytes, c->file_size - offset);
        int ret = bdrv_co_pread(c->bs->file, offset, inside, buf, 0);
        if (ret < 0) {
            return ret;
        }
    }
    memset((char *)buf + inside, 0, bytes - inside);
    qcow2_patch_read(c->s, offset, bytes, buf);
    return 0;
}

static Qcow2CheckRead *element_at(const ReadMany *rm, size_t i)
{
    return (Qcow2CheckRead *)(rm->elements + i * rm->stride);
}

/* How many elements from @first lie back to back; sets their size. */
static size_t run_length(const ReadMany *rm, size_t first, size_t *bytes)
{
    Qcow2CheckRead *r = element_at(rm, first);
    size_t i;

    *bytes = r->bytes;
    for (i = first + 1; i < rm->n; i++) {
        Qcow2CheckRead *next = element_at(rm, i);

        if (next->offset != r->offset + r->bytes ||
            *bytes + next->bytes > MAX_RUN_BYTES) {
            break;
        }
        *bytes += next->bytes;
        r = next;
    }
    return i - first;
}

/* A worker's memory, as large as its largest run so far needed. */
typedef struct RunBuffer {
    char *data;
    size_t size;
} RunBuffer;

static char *get_buffer(ReadMany *rm, RunBuffer *b, size_t bytes)
{
    if (bytes > b->size) {
        qemu_vfree(b->data);
        b->data = qemu_try_blockalign(rm->c->bs->file->bs, bytes);
        b->size = b->data ? bytes : 0;
    }
    return b->data;
}

/* Another piece of work is done. */
static void coroutine_fn report(Qcow2Check *c, size_t bytes)
{
    c->work_done += bytes;
    if (c->opts->progress) {
        c->opts->progress(c->opts->progress_opaque, c->work_done,
                          c->work_total);
    }
}

static void coroutine_fn read_run(ReadMany *rm, RunBuffer *b)
{
    size_t first = rm->next;
    uint64_t ticket = rm->next_ticket++;
    size_t bytes, count, i;
    char *buf, *p;
    int ret;

    count = run_length(rm, first, &bytes);
    rm->next += count;

    buf = get_buffer(rm, b, bytes);
    ret = buf ? qcow2_check_pread(rm->c, element_at(rm, first)->offset, bytes,
                                  buf)
              : -ENOMEM;

    while (rm->turn != ticket) {
        qemu_co_queue_wait(&rm->waiting, NULL);
    }
    for (i = 0, p = buf; i < count; i++) {
        Qcow2CheckRead *r = element_at(rm, first + i);

        if (ret < 0 && count > 1 && buf) {
            /* One bad place spoils the run: find out which table it is in. */
            int single = qcow2_check_pread(rm->c, r->offset, r->bytes, p);
            rm->func(rm->c, r, p, single);
        } else {
            rm->func(rm->c, r, p, ret);
        }
        p += buf ? r->bytes : 0;
    }
    rm->turn++;
    report(rm->c, bytes);
    qemu_co_queue_restart_all(&rm->waiting);
}

static void coroutine_fn worker(void *opaque)
{
    ReadMany *rm = opaque;
    RunBuffer b = { 0 };

    while (rm->next < rm->n && !qcow2_check_is_decided(rm->c)) {
        read_run(rm, &b);
    }
    qemu_vfree(b.data);
    qemu_co_wait_group_done(&rm->workers);
}

void coroutine_fn qcow2_check_read_many(Qcow2Check *c, void *elements,
                                        size_t n, size_t stride,
                                        Qcow2CheckReadFunc *func)
{
    ReadMany rm = {
        .c = c, .elements = elements, .n = n, .stride = stride, .func = func,
    };
    size_t nb_workers = MIN(n, MAX_WORKERS);
    size_t i;

    for (i = 0; i < n; i++) {
        c->work_total += element_at(&rm, i)->bytes;
    }
    qemu_co_queue_init(&rm.waiting);
    qemu_co_wait_group_init(&rm.workers);
    qemu_co_wait_group_add(&rm.workers, nb_workers);
    for (i = 0; i < nb_workers; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(worker, &rm));
    }
    qemu_co_wait_group_wait(&rm.workers);
    qemu_co_wait_group_destroy(&rm.workers);
}

/* --- all L2 tables --- */

typedef struct L2Run {
    Qcow2CheckL2 table;     /* first: it is what read_many() hands on */
    Qcow2CheckL2Func *func;
    void *opaque;
} L2Run;

static void coroutine_fn hand_on(Qcow2Check *c, void *element, void *buf,
                                 int ret)
{
    L2Run *run = element;

    if (ret == 0) {
        run->func(c, &run->table, buf, run->opaque);
    }
}

void coroutine_fn qcow2_check_each_l2(Qcow2Check *c, Qcow2CheckL2Filter *wanted,
                                      Qcow2CheckL2Func *func, void *opaque)
{
    g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(L2Run));
    guint i;

    for (i = 0; i < c->l2_tables->len; i++) {
        L2Run run = {
            .table = g_array_index(c->l2_tables, Qcow2CheckL2, i),
            .func = func, .opaque = opaque,
        };

        if (wanted(c, &run.table)) {
            g_array_append_val(runs, run);
        }
    }
    qcow2_check_read_many(c, runs->data, runs->len, sizeof(L2Run), hand_on);
}

bool qcow2_check_l2_has_index(const Qcow2Check *c, const Qcow2CheckL2 *table)
{
    return table->one_index;
}
