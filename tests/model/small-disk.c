/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "block/qcow2/qcow2.h"
#include "qobject/qdict.h"
#include "util/bswap.h"
#include "scheduler.h"
#include "small-disk.h"

#define CL SMALL_CLUSTER
#define SIZE (SMALL_CLUSTERS * SMALL_CLUSTER)

SmallState small_states[] = {
    { "unallocated", .made_by = { OP_FLUSH, OP_FLUSH } },
    { "data", .made_by = { OP_WRITE, OP_FLUSH } },
    { "zero-plain", .made_by = { OP_UNMAP, OP_FLUSH } },
    { "zero-alloc", .made_by = { OP_WRITE, OP_ZERO } },
    { "compressed", .made_by = { OP_COMPRESSED, OP_FLUSH } },
    { "shared", .shared = true, .made_by = { OP_WRITE, OP_FLUSH } },
    { "data-keep", .keep = true, .made_by = { OP_WRITE, OP_FLUSH } },
    { "data-one", .first_only = true, .named_only = true,
      .made_by = { OP_WRITE, OP_FLUSH } },
    { "compressed-one", .first_only = true, .named_only = true,
      .made_by = { OP_COMPRESSED, OP_FLUSH } },
    { "zero-alloc-one", .first_only = true, .made_by = { OP_WRITE, OP_ZERO } },
    { "zero-alloc-keep", .keep = true, .made_by = { OP_WRITE, OP_ZERO } },
};
const unsigned nr_small_states = ARRAY_SIZE(small_states);

const SmallOp small_ops[] = {
    { "read", OP_READ, 0, SIZE },
    { "flush", OP_FLUSH, 0, 0 },
    { "part0", OP_WRITE, 128, 256 },
    { "part1", OP_WRITE, CL + 128, 256 },
    { "full0", OP_WRITE, 0, CL },
    { "full1", OP_WRITE, CL, CL },
    { "zero0", OP_ZERO, 0, CL },
    { "zero1", OP_ZERO, CL, CL },
    { "unmap0", OP_UNMAP, 0, CL },
    { "unmap1", OP_UNMAP, CL, CL },
    { "discard0", OP_DISCARD, 0, CL },
    { "discard1", OP_DISCARD, CL, CL },
    { "compressed0", OP_COMPRESSED, 0, CL },
    { "compressed1", OP_COMPRESSED, CL, CL },
    { "both", OP_WRITE, 256, 512 },
};
const unsigned nr_small_ops = ARRAY_SIZE(small_ops);

SmallState *small_state_by_name(const char *name, size_t len)
{
    for (unsigned i = 0; i < nr_small_states; i++) {
        if (strlen(small_states[i].name) == len &&
            !strncmp(small_states[i].name, name, len)) {
            return &small_states[i];
        }
    }
    return NULL;
}

const SmallOp *small_op_by_name(const char *name, size_t len)
{
    for (unsigned i = 0; i < nr_small_ops; i++) {
        if (strlen(small_ops[i].name) == len &&
            !strncmp(small_ops[i].name, name, len)) {
            return &small_ops[i];
        }
    }
    return NULL;
}

/* ------------------------------------------------------------- a snapshot */

static void set_refcount(uint8_t *image, uint64_t host, unsigned count)
{
    stw_be_p(image + ldq_be_p(image + CL) + host / CL * 2, count);
}

/*
 * An internal snapshot of the image as it is: it shares the L2 table and the
 * data, so their refcounts are 2 and nobody may write there.
 */
static void add_snapshot(RamFile *f)
{
    uint64_t l1 = ldq_be_p(f->data + offsetof(QCowHeader, l1_table_offset));
    uint64_t copy = ROUND_UP(f->size, CL), table = copy + CL;
    uint64_t l2 = ldq_be_p(f->data + l1) & L1E_OFFSET_MASK;
    uint8_t *p;

    ram_file_grow(f, table + CL);
    stq_be_p(f->data + l1, l2);
    memcpy(f->data + copy, f->data + l1, CL);
    set_refcount(f->data, copy, 1);
    set_refcount(f->data, table, 1);
    set_refcount(f->data, l2, 2);
    for (unsigned i = 0; i < SMALL_CLUSTERS; i++) {
        uint64_t host = ldq_be_p(f->data + l2 + i * 8) & L2E_OFFSET_MASK;

        stq_be_p(f->data + l2 + i * 8, host);
        set_refcount(f->data, host, 2);
    }
    p = f->data + table;
    stq_be_p(p, copy);
    stl_be_p(p + 8, ldl_be_p(f->data + offsetof(QCowHeader, l1_size)));
    stw_be_p(p + 12, 1);        /* length of the id */
    stw_be_p(p + 14, 1);        /* of the name */
    stl_be_p(p + 36, 16);       /* of the extra data */
    stq_be_p(p + 48, SIZE);
    memcpy(p + 56, "1s", 2);
    stl_be_p(f->data + offsetof(QCowHeader, nb_snapshots), 1);
    stq_be_p(f->data + offsetof(QCowHeader, snapshots_offset), table);
}

/* The snapshot's data is where it was, and as it was. */
static void check_snapshot(const SmallState *s, const RamFile *f)
{
    uint64_t copy = ldq_be_p(s->image +
                             ldq_be_p(s->image + offsetof(QCowHeader,
                                                          snapshots_offset)));
    uint64_t l2 = ldq_be_p(s->image + copy) & L1E_OFFSET_MASK;

    if (memcmp(f->data + copy, s->image + copy, CL) ||
        memcmp(f->data + l2, s->image + l2, CL)) {
        run_fail("the tables of the snapshot changed");
    }
    for (unsigned i = 0; i < SMALL_CLUSTERS; i++) {
        uint64_t host = ldq_be_p(s->image + l2 + i * 8) & L2E_OFFSET_MASK;

        if (memcmp(f->data + host, s->image + host, CL)) {
            run_fail("the data of the snapshot changed");
        }
    }
}

/* ---------------------------------------------------------------- the disk */

static void begin(Run *run, const SmallState *s, bool after)
{
    QDict *options = qdict_new();
    Error *err = NULL;

    *run = (Run) {
        .cfg = {
            .g = { .version = 3, .cluster_bits = 9, .refcount_order = 4 },
            .cell = SMALL_CELL,
            .size = SIZE,
            .capacity = SIZE,
            .flags = BDRV_O_RDWR | BDRV_O_UNMAP,
        },
        .chain = {
            .request_alignment = 1,
            .zero_writes = true,
            .discards = true,
            .yield_before = true,
            .yield_after = after,
        },
        .oracle = run->oracle,
        .verbose = run->verbose,
        .io_alloc = run->io_alloc,
        .io_free = run->io_free,
    };
    chain_add_layer(&run->chain, &run->cfg.g, SIZE);
    run->nr_layers = 1;
    if (s && s->image) {
        RamFile *f = run->chain.layers[0].ram;

        ram_file_grow(f, s->image_bytes);
        memcpy(f->data, s->image, s->image_bytes);
    }
    qdict_put_str(options, "cache-clean-interval", "0");
    qdict_put_str(options, "pass-discard-other", "on");
    qdict_put_str(options, "discard-no-unref", s && s->keep ? "on" : "off");
    if (!chain_open(&run->chain, run->cfg.flags, options, &err)) {
        run_fail("open: %s", error_get_pretty(err));
    }
}

void small_disk_begin(Run *run, const SmallState *s, bool after)
{
    if (!run->oracle) {
        run->oracle = oracle_new(SMALL_CELL, SIZE, SIZE);
    }
    small_disk_known(run, s);
    begin(run, s, after);
}

void small_disk_known(Run *run, const SmallState *s)
{
    oracle_reset(run->oracle);
    oracle_set(run->oracle, 0, s->first_only ? CL : SIZE, s->value);
}

static void prepare(SmallState *s)
{
    Run run = { .oracle = oracle_new(SMALL_CELL, SIZE, SIZE) };
    RamFile *f;

    begin(&run, NULL, false);
    for (unsigned k = 0; k < ARRAY_SIZE(s->made_by); k++) {
        for (unsigned i = 0; i < (s->first_only ? 1 : SMALL_CLUSTERS); i++) {
            Op op = {
                .type = s->made_by[k],
                .placed = true,
                .offset = i * CL,
                .bytes = s->made_by[k] == OP_FLUSH ? 0 : CL,
                .value = SMALL_VALUE,
            };

            run_start_op(&run, &op);
            run_quiesce(&run);
        }
    }
    run_compare(&run);
    chain_close(&run.chain);
    f = run.chain.layers[0].ram;
    if (s->shared) {
        add_snapshot(f);
    }
    s->image = g_memdup2(f->data, f->size);
    s->image_bytes = f->size;
    s->value = s->made_by[0] != OP_FLUSH && s->made_by[0] != OP_UNMAP &&
               s->made_by[1] != OP_ZERO ? SMALL_VALUE : 0;
    chain_destroy(&run.chain);
    oracle_free(run.oracle);
}

void small_disk_prepare(void)
{
    SchedRandom pick = { .rng = 1 };

    sched_start(sched_pick_random, &pick);
    for (unsigned i = 0; i < nr_small_states; i++) {
        if (!small_states[i].image) {
            prepare(&small_states[i]);
        }
    }
    sched_stop();
}

void small_disk_start(Run *run, const SmallOp *small, unsigned index)
{
    Op op = {
        .type = small->type,
        .index = index,
        .placed = true,
        .offset = small->offset,
        .bytes = small->bytes,
        .value = 2 * index + 2 + (small->type == OP_COMPRESSED),
    };

    run_start_op(run, &op);
}

void small_disk_end(Run *run, const SmallState *s, bool again)
{
    run_compare(run);
    chain_close(&run->chain);
    if (s->shared) {
        check_snapshot(s, run->chain.layers[0].ram);
    }
    if (again) {
        QDict *options = qdict_new();
        Error *err = NULL;

        if (!chain_open(&run->chain, run->cfg.flags, options, &err)) {
            run_fail("open: %s", error_get_pretty(err));
        }
        run_compare(run);
    }
    chain_destroy(&run->chain);
}

void small_disk_drop(Run *run)
{
    chain_destroy(&run->chain);
}
