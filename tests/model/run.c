/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Carrying out operations and comparing them with the model.
 *
 * 1. The model is told of an operation when its coroutine first runs and after
 *    it has ended, so its interval is never too short.
 * 2. Ranges lie inside the smallest size that the disk can have when the
 *    operation is made. A truncate that comes between or overlaps may make it
 *    fail with -EIO; any other failure is one of the test.
 */
#include "util/osdep.h"
#include "block/reopen.h"
#include "util/atomic.h"
#include "util/memalign.h"
#include "run.h"
#include "scheduler.h"

void (*run_at_failure)(void);

void run_fail(const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    fputs("FAILURE: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    if (run_at_failure) {
        run_at_failure();
    }
    fflush(stderr);
    _exit(1);
}

/* -------------------------------------------------------------- operations */

/* One request in flight. */
typedef struct Io {
    Run *run;
    Op op;
    OracleOp oracle;
    uint8_t *buf;
    int64_t new_size;
    /* Of the disk when it was made; another layer may come on top. */
    unsigned nr_layers;
    unsigned truncates;     /* Run.truncates then */
    int64_t cluster;
    bool discards_whole;    /* discards zero the whole clusters in them */
} Io;

static bool writes_data(OpType type)
{
    return type == OP_WRITE || type == OP_COMPRESSED;
}

static bool changes_data(OpType type)
{
    return writes_data(type) || type == OP_ZERO || type == OP_UNMAP ||
           type == OP_DISCARD;
}

static int coroutine_fn io_data(Io *io)
{
    const Op *op = &io->op;
    BlockBackend *blk = io->run->chain.blk;
    /* Two pieces, so that offsets into the vector are seen to matter. */
    int64_t first = MIN(op->bytes,
                        QEMU_ALIGN_DOWN(op->r[3] % (op->bytes + 1), 8));
    struct iovec iov[2] = {
        { io->buf, first }, { io->buf + first, op->bytes - first },
    };
    QEMUIOVector qiov;

    qemu_iovec_init_external(&qiov, iov + (first == 0),
                             2 - (first == 0) - (first == op->bytes));
    if (op->type == OP_READ) {
        return blk_co_preadv(blk, op->offset, op->bytes, &qiov, 0);
    }
    return blk_co_pwritev(blk, op->offset, op->bytes, &qiov,
                          (op->fua ? BDRV_REQ_FUA : 0) |
                              (op->type == OP_COMPRESSED
                                   ? BDRV_REQ_WRITE_COMPRESSED : 0));
}

static int coroutine_fn io_truncate(Io *io)
{
    Error *err = NULL;
    int ret = blk_co_truncate(io->run->chain.blk, io->new_size, true,
                              PREALLOC_MODE_OFF, 0, &err);

    if (ret < 0) {
        run_fail("truncate to %" PRId64 ": %s", io->new_size,
                 error_get_pretty(err));
    }
    return 0;
}

static int coroutine_fn io_do(Io *io)
{
    const Op *op = &io->op;
    BlockBackend *blk = io->run->chain.blk;
    BdrvRequestFlags fua = op->fua ? BDRV_REQ_FUA : 0;

    switch (op->type) {
    case OP_READ:
    case OP_WRITE:
    case OP_COMPRESSED:
        return io_data(io);
    case OP_ZERO:
        return blk_co_pwrite_zeroes(blk, op->offset, op->bytes, fua);
    case OP_UNMAP:
        return blk_co_pwrite_zeroes(blk, op->offset, op->bytes,
                                    fua | BDRV_REQ_MAY_UNMAP);
    case OP_DISCARD:
        return blk_co_pdiscard(blk, op->offset, op->bytes);
    case OP_FLUSH:
        return blk_co_flush(blk);
    case OP_TRUNCATE:
        return io_truncate(io);
    default:
        g_assert_not_reached();
    }
}

static bool has_data_file(const Chain *c)
{
    for (unsigned i = 0; i < c->nr_layers; i++) {
        if (c->layers[i].g.data_file) {
            return true;
        }
    }
    return false;
}

static bool failure_is_explained(Io *io, int ret)
{
    Oracle *o = io->run->oracle;

    if (ret == -EIO && oracle_may_fail(o, &io->oracle)) {
        return true;
    }
    if (ret == -ENOTSUP && io->op.type == OP_COMPRESSED &&
        has_data_file(&io->run->chain)) {
        return true;
    }
    /* It was made for another end of the disk, or other clusters. */
    return ret == -EINVAL && io->op.type == OP_COMPRESSED &&
           (io->truncates % 2 ||
            io->truncates != qatomic_read(&io->run->truncates) ||
            io->nr_layers != qatomic_load_acquire(&io->run->nr_layers));
}

static void io_ended(Io *io, int ret)
{
    Run *run = io->run;
    const Op *op = &io->op;
    g_autofree char *text = op_describe(op);

    if (run->verbose) {
        fprintf(stderr, "  [%" PRIu64 "] #%u %s: %d\n", sched_steps(),
                op->index, text, ret);
    }
    if (ret < 0 && !(op->bytes && failure_is_explained(io, ret))) {
        run_fail("#%u %s: %s", op->index, text, strerror(-ret));
    }
    if (op->type == OP_TRUNCATE) {
        oracle_truncate_end(run->oracle);
        qatomic_inc(&run->truncates);
    } else if (changes_data(op->type)) {
        oracle_write_end(run->oracle, &io->oracle, ret >= 0);
    } else if (op->type == OP_READ && ret < 0) {
        oracle_read_cancel(run->oracle, &io->oracle);
    } else if (op->type == OP_READ) {
        g_autofree char *wrong = oracle_read_end(run->oracle, &io->oracle,
                                                 io->buf);

        if (wrong) {
            run_fail("#%u %s: %s", op->index, text, wrong);
        }
    }
}

/* ------------------------------------------------------------------- where */

static int64_t cluster_of(const Run *run)
{
    return 1LL << run->chain.layers[run->chain.nr_layers - 1].g.cluster_bits;
}

/* Offset and length of @op on the disk of now, in cells. */
static void place_op(const Run *run, Op *op)
{
    int64_t size = oracle_size(run->oracle);
    int64_t cluster = cluster_of(run);
    int64_t clusters = DIV_ROUND_UP(size, cluster);
    int64_t hot = MIN(clusters, run->cfg.hot);
    int64_t c = op->r[0] % 4 ? (op->r[0] >> 2) % hot
                             : (op->r[0] >> 2) % clusters;
    int64_t cell = run->cfg.cell;
    bool extended =
        run->chain.layers[run->chain.nr_layers - 1].g.extended_l2;
    int64_t start = c * cluster, end;
    unsigned shape = op->r[1] % 8;

    if (extended && op->type != OP_COMPRESSED && shape < 3) {
        /* A few subclusters. */
        start += QEMU_ALIGN_DOWN((op->r[1] >> 3) % cluster, cluster / 32);
        end = start + QEMU_ALIGN_UP(1 + op->r[2] % (cluster / 8), cell);
    } else if (op->type == OP_COMPRESSED || shape < (extended ? 4 : 3)) {
        /* Whole clusters. */
        end = start + cluster * (1 + (op->r[1] >> 3) % 3);
    } else if (shape < 7) {
        /* Inside one or two. */
        start += QEMU_ALIGN_DOWN((op->r[1] >> 3) % cluster, cell);
        end = start + cell * (1 + op->r[2] % (cluster / cell));
    } else {
        start += QEMU_ALIGN_DOWN((op->r[1] >> 3) % cluster, cell);
        end = start + cell * (1 + op->r[2] % (4 * cluster / cell));
    }
    start = MIN(start, size - cell);
    op->offset = start;
    op->bytes = MIN(end, size) - start;
}

static bool discards_whole_clusters(const Run *run)
{
    const Layer *top = &run->chain.layers[run->chain.nr_layers - 1];

    return (run->cfg.flags & BDRV_O_UNMAP) &&
           (top->g.version >= 3 || run->chain.nr_layers == 1);
}

static int64_t choose_size(const Run *run, const Op *op)
{
    int64_t size = oracle_size(run->oracle);
    int64_t cluster = cluster_of(run);
    int64_t by = 512 * (op->r[1] % (4 * cluster / 512));

    if (op->r[0] % 8 == 0) {
        size = 512 * (op->r[2] % (run->cfg.capacity / 512));
    } else {
        size = op->r[0] & 8 ? size + by : size - by;
    }
    if (op->r[0] & 16) {
        size = QEMU_ALIGN_DOWN(size, cluster);
    }
    return CLAMP(size, 512, run->cfg.capacity);
}

/* ------------------------------------------------------------------- start */

static void prepare_data(Run *run, Io *io)
{
    Op *op = &io->op;

    io->buf = qemu_memalign(4096, MAX(op->bytes, 1));
    if (writes_data(op->type)) {
        oracle_fill(run->oracle, io->buf, op->offset, op->bytes, op->value);
    } else {
        memset(io->buf, 0xee, op->bytes);
    }
}

/* What is certain to be zero after a discard. */
static void discard_strong(Io *io)
{
    io->oracle.strong_start = ROUND_UP(io->op.offset, io->cluster);
    io->oracle.strong_end = io->discards_whole
                                ? QEMU_ALIGN_DOWN(io->op.offset +
                                                  io->op.bytes, io->cluster)
                                : io->oracle.strong_start;
}

static void tell_oracle(Run *run, Io *io)
{
    Op *op = &io->op;

    io->oracle = (OracleOp) {
        .offset = op->offset,
        .bytes = op->bytes,
        .value = writes_data(op->type) ? op->value : 0,
        .index = op->index,
        .is_discard = op->type == OP_DISCARD,
        .strong_start = op->offset,
        .strong_end = op->offset + op->bytes,
    };
    if (op->type == OP_DISCARD) {
        discard_strong(io);
    }
    if (op->type == OP_READ) {
        oracle_read_begin(run->oracle, &io->oracle);
    } else if (changes_data(op->type)) {
        oracle_write_begin(run->oracle, &io->oracle);
    }
    /* It goes to another layer than it was made for. */
    if (op->type == OP_DISCARD &&
        io->nr_layers != qatomic_load_acquire(&run->nr_layers)) {
        oracle_weaken_discards(run->oracle);
    }
}

static void coroutine_fn io_entry(void *opaque)
{
    Io *io = opaque;
    Run *run = io->run;

    if (io->op.type == OP_TRUNCATE) {
        /* First: whoever sees the new size must see that it is one. */
        qatomic_inc(&run->truncates);
        oracle_truncate_begin(run->oracle, io->new_size);
    } else if (io->op.type != OP_FLUSH) {
        tell_oracle(run, io);
    }
    io_ended(io, io_do(io));
    if (io->op.type == OP_TRUNCATE) {
        qatomic_store_release(&run->truncating, false);
    }
    qemu_vfree(io->buf);
    run->io_free ? run->io_free(io) : g_free(io);
    qatomic_inc(&run->done);
    qatomic_dec(&run->in_flight);
    aio_wait_kick();
}

static void start_io(Run *run, const Op *op)
{
    Io *io = run->io_alloc ? run->io_alloc(op) : g_new0(Io, 1);
    Coroutine *co;

    assert(!run->io_alloc || sizeof(*io) <= RUN_IO_BYTES);
    io->run = run;
    io->op = *op;
    io->nr_layers = run->chain.nr_layers;
    io->cluster = cluster_of(run);
    io->discards_whole = discards_whole_clusters(run);
    io->truncates = qatomic_read(&run->truncates);
    if (op->type == OP_TRUNCATE) {
        if (qatomic_load_acquire(&run->truncating)) {
            g_free(io);
            return;
        }
        run->truncating = true;
        io->new_size = choose_size(run, op);
    } else if (op->type != OP_FLUSH) {
        if (!op->placed) {
            place_op(run, &io->op);
        }
        prepare_data(run, io);
    }
    if (run->verbose) {
        g_autofree char *text = op_describe(&io->op);

        fprintf(stderr, "  [%" PRIu64 "] #%u %s starts", sched_steps(),
                op->index, text);
        fprintf(stderr, op->type == OP_TRUNCATE ? ": %" PRId64 "\n" : "\n",
                io->new_size);
    }
    qatomic_inc(&run->in_flight);
    co = qemu_coroutine_create(io_entry, io);
    if (run->threads) {
        IOThread *t = run->threads[run->next_thread++ % run->nr_threads];

        aio_co_schedule(iothread_get_aio_context(t), co);
    } else {
        sched_add(co);
    }
}

/* ----------------------------------------------------------------- control */

static void do_reopen(Run *run)
{
    BlockDriverState *bs = blk_bs(run->chain.blk);
    const Layer *top = &run->chain.layers[run->chain.nr_layers - 1];
    QDict *options = options_random(&run->rng, &top->g, run->cfg.flags,
                                    true);
    Error *err = NULL;

    if (bdrv_reopen(bs, options, true, &err) < 0) {
        run_fail("reopen: %s", error_get_pretty(err));
    }
}

static void do_open(Run *run)
{
    const Layer *top = &run->chain.layers[run->chain.nr_layers - 1];
    Error *err = NULL;

    if (!chain_open(&run->chain, run->cfg.flags,
                    options_random(&run->rng, &top->g, run->cfg.flags, false),
                    &err)) {
        run_fail("open: %s", error_get_pretty(err));
    }
}

/* Reads all of @blk, as the operation @op that has begun; caller frees. */
static uint8_t *read_whole(Run *run, BlockBackend *blk, OracleOp *op)
{
    uint8_t *buf = qemu_memalign(4096, op->bytes);
    g_autofree char *wrong = NULL;
    int ret;

    memset(buf, 0xee, op->bytes);
    ret = blk_pread(blk, 0, op->bytes, buf, 0);
    if (ret < 0) {
        run_fail("reading the whole disk: %s", strerror(-ret));
    }
    wrong = oracle_read_end(run->oracle, op, buf);
    if (wrong) {
        run_fail("whole disk: %s", wrong);
    }
    return buf;
}

/*
 * The layer below gets frozen at some moment of the drain, so that is a read
 * which begins before it. Requests that wait for the end of the drain go to
 * the overlay and may end before the layer below is looked at.
 */
static void do_snapshot(Run *run)
{
    Chain *c = &run->chain;
    BlockDriverState *below = blk_bs(c->blk);
    Frozen *f = &run->frozen[c->nr_layers - 1];
    OracleOp op = { 0 };
    BlockBackend *blk;
    Error *err = NULL;
    Geometry g;

    if (c->nr_layers == CHAIN_MAX) {
        return;
    }
    geometry_random(&g, &run->rng);
    /* Those that wait for the end of the drain go to the overlay. */
    qatomic_store_release(&run->nr_layers, c->nr_layers + 1);
    oracle_weaken_discards(run->oracle);
    oracle_read_begin(run->oracle, &op);
    if (!chain_append(c, &g, run->cfg.flags,
                      options_random(&run->rng, &g, run->cfg.flags, false),
                      &err)) {
        run_fail("append: %s", error_get_pretty(err));
    }
    blk = blk_new_with_bs(below, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                          &error_abort);
    op.bytes = f->size = blk_getlength(blk);
    f->data = read_whole(run, blk, &op);
    blk_unref(blk);
}

void run_start_op(Run *run, const Op *op)
{
    switch (op->type) {
    case OP_REOPEN:
        do_reopen(run);
        break;
    case OP_RESTART:
        run_quiesce(run);
        chain_close(&run->chain);
        do_open(run);
        break;
    case OP_SNAPSHOT:
        do_snapshot(run);
        break;
    case OP_COMPARE:
        run_compare(run);
        break;
    default:
        start_io(run, op);
        return;
    }
    if (run->verbose) {
        g_autofree char *text = op_describe(op);

        fprintf(stderr, "  [%" PRIu64 "] #%u %s\n", sched_steps(), op->index,
                text);
    }
    qatomic_inc(&run->done);
}

/* ------------------------------------------------------------ whole runs */

void run_quiesce(Run *run)
{
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&run->in_flight) > 0);
}

void run_ops(Run *run, const Op *ops, unsigned n)
{
    unsigned next = 0;

    while (next < n || qatomic_read(&run->in_flight)) {
        bool may_start = next < n && run->in_flight < run->cfg.depth;
        unsigned width = MIN(sched_nr_runnable(), SCHED_MAX_WIDTH - 1);
        unsigned choice;

        if (!width && !may_start) {
            aio_poll(qemu_get_aio_context(), true);
            continue;
        }
        choice = sched_choose(width + may_start);
        if (choice < width) {
            sched_run(choice);
        } else {
            if (run->started) {
                *run->started = ops[next].index + 1;
            }
            run_start_op(run, &ops[next++]);
        }
    }
}

void run_ops_threads(Run *run, const Op *ops, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&run->in_flight) >=
                                 run->cfg.depth);
        run_start_op(run, &ops[i]);
    }
    run_quiesce(run);
}

void run_compare(Run *run)
{
    BlockBackend *blk = run->chain.blk;
    g_autofree char *wrong = NULL;
    OracleOp op = { 0 };
    int64_t length;
    int ret;

    run_quiesce(run);
    op.bytes = length = blk_getlength(blk);
    if (length != oracle_size(run->oracle)) {
        run_fail("length is %" PRId64 " instead of %" PRId64, length,
                 oracle_size(run->oracle));
    }
    oracle_read_begin(run->oracle, &op);
    qemu_vfree(read_whole(run, blk, &op));
    ret = blk_flush(blk);
    if (ret < 0) {
        run_fail("flush: %s", strerror(-ret));
    }
    wrong = node_check(blk_bs(blk));
    if (wrong) {
        run_fail("%s", wrong);
    }
}

static void compare_frozen(Run *run, unsigned layer)
{
    Frozen *f = &run->frozen[layer];
    BlockDriverState *bs = chain_open_layer(&run->chain, layer, 0, NULL,
                                            &error_abort);
    BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ,
                                        BLK_PERM_ALL, &error_abort);
    g_autofree uint8_t *buf = g_malloc(f->size);
    g_autofree char *wrong = NULL;
    int ret;

    bdrv_unref(bs);
    ret = blk_pread(blk, 0, f->size, buf, 0);
    if (ret < 0) {
        run_fail("reading layer %u: %s", layer, strerror(-ret));
    }
    for (int64_t i = 0; i < f->size; i++) {
        if (buf[i] != f->data[i]) {
            run_fail("layer %u changed at offset %" PRId64, layer, i);
        }
    }
    wrong = run->chain.layers[layer].raw ? NULL : node_check(bs);
    if (wrong) {
        run_fail("layer %u: %s", layer, wrong);
    }
    blk_unref(blk);
}

void run_end(Run *run)
{
    Chain *c = &run->chain;

    run_compare(run);
    chain_close(c);
    do_open(run);
    run_compare(run);
    chain_close(c);
    for (unsigned i = 0; i < c->nr_layers; i++) {
        if (run->frozen[i].data) {
            compare_frozen(run, i);
            qemu_vfree(run->frozen[i].data);
        }
    }
    chain_destroy(c);
    oracle_free(run->oracle);
}

static void add_backing(Run *run, int64_t size)
{
    g_autofree uint8_t *data = g_malloc(size);

    oracle_fill(run->oracle, data, 0, size, 1);
    oracle_set(run->oracle, 0, MIN(size, run->cfg.size), 1);
    chain_add_raw(&run->chain, data, size);
}

void run_begin(Run *run, const Config *cfg, const char *dir)
{
    run->cfg = *cfg;
    run->rng.state = rng_mix(cfg->seed + 7);
    run->chain.dir = dir;
    run->chain.request_alignment = cfg->request_alignment;
    run->chain.zero_writes = cfg->zero_writes;
    run->chain.discards = cfg->discards;
    run->chain.fua = cfg->fua;
    run->chain.yield_before = cfg->yield_before;
    run->chain.yield_after = cfg->yield_after;
    /* A real file is read and written word by word at the same time. */
    run->oracle = oracle_new(run->threads ? 8 : cfg->cell, cfg->capacity,
                             cfg->size);
    if (cfg->backing) {
        add_backing(run, cfg->backing);
    }
    chain_add_layer(&run->chain, &cfg->g, cfg->size);
    run->nr_layers = run->chain.nr_layers;
    do_open(run);
}
