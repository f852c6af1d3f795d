/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What follows from a seed: geometry, conditions, and the operations. */
#include "util/osdep.h"
#include "run.h"

static const char *const op_names[OP_TYPES] = {
    [OP_READ] = "read",
    [OP_WRITE] = "write",
    [OP_ZERO] = "zero",
    [OP_UNMAP] = "unmap",
    [OP_DISCARD] = "discard",
    [OP_COMPRESSED] = "compressed",
    [OP_FLUSH] = "flush",
    [OP_TRUNCATE] = "truncate",
    [OP_REOPEN] = "reopen",
    [OP_RESTART] = "restart",
    [OP_SNAPSHOT] = "snapshot",
    [OP_COMPARE] = "compare",
};

/* Out of 1000 operations. Snapshots are few: a chain has CHAIN_MAX layers. */
static const unsigned op_weights[OP_TYPES] = {
    [OP_READ] = 220,
    [OP_WRITE] = 330,
    [OP_ZERO] = 75,
    [OP_UNMAP] = 85,
    [OP_DISCARD] = 120,
    [OP_COMPRESSED] = 80,
    [OP_FLUSH] = 50,
    [OP_TRUNCATE] = 25,
    [OP_REOPEN] = 8,
    [OP_RESTART] = 3,
    [OP_SNAPSHOT] = 1,
    [OP_COMPARE] = 3,
};

void config_random(Config *cfg, uint64_t seed)
{
    Rng rng = { rng_mix(seed) };
    int64_t cluster, clusters;

    *cfg = (Config) { .seed = seed, .flags = BDRV_O_RDWR };
    geometry_random(&cfg->g, &rng);
    cluster = 1LL << cfg->g.cluster_bits;
    cfg->cell = rng_chance(&rng, 70) ? 512 : rng_chance(&rng, 50) ? 64 : 128;
    clusters = 1 + rng_below(&rng, cluster <= 1024 ? 160 : 24);
    cfg->size = clusters * cluster - 512 * rng_below(&rng, cluster / 512);
    cfg->capacity = cfg->size + cluster * rng_below(&rng, 40);
    if (rng_chance(&rng, 40)) {
        cfg->backing = 512 * (1 + rng_below(&rng, 2 * cfg->size / 512));
    }
    cfg->depth = 1 + rng_below(&rng, rng_chance(&rng, 30) ? 16 : 6);
    cfg->hot = 1 + rng_below(&rng, 6);
    cfg->resize = rng_chance(&rng, 60);
    if (rng_chance(&rng, 80)) {
        cfg->flags |= BDRV_O_UNMAP;
    }
    cfg->request_alignment = rng_chance(&rng, 60) ? 1 : 512;
    cfg->zero_writes = rng_chance(&rng, 70);
    cfg->discards = rng_chance(&rng, 80);
    cfg->fua = rng_chance(&rng, 50);
    cfg->yield_before = rng_chance(&rng, 85);
    cfg->yield_after = !cfg->yield_before || rng_chance(&rng, 40);
}

char *config_describe(const Config *cfg)
{
    g_autofree char *g = geometry_describe(&cfg->g);

    return g_strdup_printf(
        "%s, size %" PRId64 " of at most %" PRId64 ", backing %" PRId64
        ", cell %u, depth %u, hot %u,%s%s file:%s%s%s%s%s alignment %u",
        g, cfg->size, cfg->capacity, cfg->backing, cfg->cell, cfg->depth,
        cfg->hot, cfg->flags & BDRV_O_UNMAP ? " discard=unmap," : "",
        cfg->resize ? " resize," : "", cfg->zero_writes ? " zero" : "",
        cfg->discards ? " discard" : "", cfg->fua ? " fua" : "",
        cfg->yield_before ? " before" : "", cfg->yield_after ? " after" : "",
        cfg->request_alignment);
}

static OpType random_type(Rng *rng, const Config *cfg)
{
    unsigned total = 0, n;

    for (unsigned i = 0; i < OP_TYPES; i++) {
        total += op_weights[i];
    }
    for (;;) {
        OpType type = 0;

        n = rng_below(rng, total);
        while (n >= op_weights[type]) {
            n -= op_weights[type++];
        }
        if (type != OP_TRUNCATE || cfg->resize) {
            return type;
        }
    }
}

Op *ops_random(uint64_t seed, const Config *cfg, unsigned n)
{
    Rng rng = { rng_mix(seed + 3) };
    Op *ops = g_new0(Op, n);

    for (unsigned i = 0; i < n; i++) {
        Op *op = &ops[i];

        op->index = i;
        op->type = random_type(&rng, cfg);
        for (unsigned k = 0; k < ARRAY_SIZE(op->r); k++) {
            op->r[k] = rng_next(&rng);
        }
        op->fua = rng_chance(&rng, 15);
        /* Value 1 is the backing file's; odd ones compress. */
        op->value = 2 * i + 2 + rng_chance(&rng, 60);
        if (rng_chance(&rng, 5)) {
            op->value = 0;
        }
    }
    return ops;
}

char *op_describe(const Op *op)
{
    if (!op->bytes) {
        return g_strdup(op_names[op->type]);
    }
    return g_strdup_printf("%s%s %" PRId64 "+%" PRId64 " value %u",
                           op_names[op->type], op->fua ? " fua" : "",
                           op->offset, op->bytes,
                           op->type == OP_WRITE || op->type == OP_COMPRESSED
                               ? op->value : 0);
}
