/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "util/lockable.h"
#include "oracle.h"
#include "rng.h"

#define NEVER UINT64_MAX

typedef struct Value {
    uint32_t value;
    bool weak;
    OracleOp *op;       /* in flight; else NULL */
    uint64_t start;
    uint64_t end;       /* NEVER while in flight */
    uint64_t dead;      /* NEVER while legal */
} Value;

typedef struct Cell {
    Value *values;
    unsigned n, size;
} Cell;

struct Oracle {
    /* Fixed. */
    unsigned cell;
    int64_t capacity;
    int64_t first_size;

    QemuMutex lock;     /* protects the rest */
    Cell *cells;
    uint64_t now;
    int64_t size;
    int64_t next_size;  /* of a truncate in flight; else as size */
    uint64_t truncate_start;
    QLIST_HEAD(, OracleOp) ops;
};

Oracle *oracle_new(unsigned cell, int64_t capacity, int64_t size)
{
    Oracle *o = g_new0(Oracle, 1);

    assert(512 % cell == 0 && cell % 8 == 0);
    o->cell = cell;
    o->capacity = capacity;
    o->first_size = size;
    o->cells = g_new0(Cell, capacity / cell);
    qemu_mutex_init(&o->lock);
    oracle_reset(o);
    return o;
}

void oracle_reset(Oracle *o)
{
    o->size = o->next_size = o->first_size;
    o->now = 0;
    QLIST_INIT(&o->ops);
    oracle_set(o, 0, o->capacity, 0);
}

void oracle_free(Oracle *o)
{
    if (o) {
        assert(QLIST_EMPTY(&o->ops));
        for (int64_t i = 0; i < o->capacity / o->cell; i++) {
            g_free(o->cells[i].values);
        }
        qemu_mutex_destroy(&o->lock);
        g_free(o->cells);
        g_free(o);
    }
}

/* ---------------------------------------------------------------- patterns */

/* Word @k of a cell. Odd values compress, even ones do not. */
static uint64_t pattern_word(uint64_t seed, uint32_t value, unsigned k)
{
    return value & 1 ? seed : rng_mix(seed + k);
}

static uint64_t pattern_seed(uint32_t value, int64_t index)
{
    return rng_mix(((uint64_t)value << 32) ^ index) | 1;
}

static void fill_cell(const Oracle *o, uint8_t *buf, int64_t index,
                      uint32_t value)
{
    uint64_t seed = pattern_seed(value, index);

    if (!value) {
        memset(buf, 0, o->cell);
        return;
    }
    for (unsigned k = 0; k < o->cell / 8; k++) {
        uint64_t word = pattern_word(seed, value, k);

        memcpy(buf + k * 8, &word, 8);
    }
}

static bool cell_is(const Oracle *o, const uint8_t *buf, int64_t index,
                    uint32_t value)
{
    uint64_t seed = value ? pattern_seed(value, index) : 0;

    for (unsigned k = 0; k < o->cell / 8; k++) {
        uint64_t want = value ? pattern_word(seed, value, k) : 0;

        if (memcmp(buf + k * 8, &want, 8) != 0) {
            return false;
        }
    }
    return true;
}

void oracle_fill(const Oracle *o, uint8_t *buf, int64_t offset, int64_t bytes,
                 uint32_t value)
{
    assert(offset % o->cell == 0 && bytes % o->cell == 0);
    for (int64_t pos = 0; pos < bytes; pos += o->cell) {
        fill_cell(o, buf + pos, (offset + pos) / o->cell, value);
    }
}

/* ------------------------------------------------------------------- cells */

static Cell *cell_at(Oracle *o, int64_t offset)
{
    assert(offset >= 0 && offset < o->capacity && offset % o->cell == 0);
    return &o->cells[offset / o->cell];
}

static void cell_add(Cell *c, const Value *v)
{
    if (c->n == c->size) {
        c->size = c->size ? c->size * 2 : 2;
        c->values = g_renew(Value, c->values, c->size);
    }
    c->values[c->n++] = *v;
}

/* Forgets what is dead for everybody: died by @oldest. */
static void cell_prune(Cell *c, uint64_t oldest)
{
    unsigned n = 0;

    for (unsigned i = 0; i < c->n; i++) {
        if (c->values[i].dead > oldest) {
            c->values[n++] = c->values[i];
        }
    }
    c->n = n;
}

static uint64_t oldest_read(const Oracle *o)
{
    uint64_t oldest = o->now;
    const OracleOp *op;

    QLIST_FOREACH(op, &o->ops, next) {
        if (op->is_read) {
            oldest = MIN(oldest, op->start);
        }
    }
    return oldest;
}

void oracle_set(Oracle *o, int64_t offset, int64_t bytes, uint32_t value)
{
    Value v = { .value = value, .dead = NEVER };

    for (int64_t pos = offset; pos < offset + bytes; pos += o->cell) {
        Cell *c = cell_at(o, pos);

        c->n = 0;
        cell_add(c, &v);
    }
}

/* ---------------------------------------------------------------- requests */

static void begin_locked(Oracle *o, OracleOp *op)
{
    op->start = ++o->now;
    op->limit = MIN(o->size, o->next_size);
    QLIST_INSERT_HEAD(&o->ops, op, next);
}

static uint64_t end_locked(Oracle *o, OracleOp *op)
{
    QLIST_REMOVE(op, next);
    return ++o->now;
}

void oracle_write_begin(Oracle *o, OracleOp *op)
{
    QEMU_LOCK_GUARD(&o->lock);
    op->is_read = false;
    begin_locked(o, op);
    for (int64_t pos = op->offset; pos < op->offset + op->bytes;
         pos += o->cell) {
        Value v = {
            .value = op->value,
            .weak = pos < op->strong_start || pos >= op->strong_end,
            .op = op,
            .start = op->start,
            .end = NEVER,
            .dead = NEVER,
        };

        cell_add(cell_at(o, pos), &v);
    }
}

static Value *value_of(Cell *c, const OracleOp *op)
{
    for (unsigned i = 0; i < c->n; i++) {
        if (c->values[i].op == op) {
            return &c->values[i];
        }
    }
    g_assert_not_reached();
}

static void end_write_at(Oracle *o, OracleOp *op, int64_t pos, bool done,
                         uint64_t oldest)
{
    Cell *c = cell_at(o, pos);
    Value *w = value_of(c, op);

    w->op = NULL;
    w->end = o->now;
    /* Behind the end of the disk it came before the truncate. */
    if (!done || pos >= MAX(o->size, o->next_size)) {
        w->dead = done ? o->now : 0;
    } else if (!w->weak) {
        for (unsigned i = 0; i < c->n; i++) {
            Value *v = &c->values[i];

            if (v->end < w->start && v->dead == NEVER) {
                v->dead = o->now;
            }
        }
    }
    cell_prune(c, oldest);
}

void oracle_write_end(Oracle *o, OracleOp *op, bool done)
{
    uint64_t oldest;

    QEMU_LOCK_GUARD(&o->lock);
    end_locked(o, op);
    oldest = oldest_read(o);
    for (int64_t pos = op->offset; pos < op->offset + op->bytes;
         pos += o->cell) {
        end_write_at(o, op, pos, done, oldest);
    }
}

void oracle_weaken_discards(Oracle *o)
{
    OracleOp *op;

    QEMU_LOCK_GUARD(&o->lock);
    QLIST_FOREACH(op, &o->ops, next) {
        if (!op->is_discard) {
            continue;
        }
        for (int64_t pos = op->offset; pos < op->offset + op->bytes;
             pos += o->cell) {
            value_of(cell_at(o, pos), op)->weak = true;
        }
    }
}

void oracle_read_begin(Oracle *o, OracleOp *op)
{
    QEMU_LOCK_GUARD(&o->lock);
    op->is_read = true;
    begin_locked(o, op);
}

static char *describe_mismatch(Oracle *o, OracleOp *op, int64_t pos,
                               const uint8_t *buf)
{
    GString *text = g_string_new(NULL);
    Cell *c = cell_at(o, pos);
    uint64_t word;

    memcpy(&word, buf, 8);
    g_string_append_printf(text, "offset %" PRId64 ": found %016" PRIx64,
                           pos, word);
    for (uint32_t value = 0; value < 1000000; value++) {
        if (cell_is(o, buf, pos / o->cell, value)) {
            g_string_append_printf(text, " (value %u)", value);
            break;
        }
    }
    g_string_append(text, ", legal");
    for (unsigned i = 0; i < c->n; i++) {
        const Value *v = &c->values[i];

        g_string_append_printf(text, " %u%s%s", v->value,
                               v->op ? "(in flight)" : "",
                               v->dead <= op->start ? "(no longer)" : "");
    }
    return g_string_free(text, false);
}

/* False if @buf holds nothing legal. */
static bool end_read_at(Oracle *o, OracleOp *op, int64_t pos,
                        const uint8_t *buf, uint64_t oldest)
{
    Cell *c = cell_at(o, pos);
    uint32_t found = 0;
    bool legal = false;

    for (unsigned i = 0; i < c->n && !legal; i++) {
        const Value *v = &c->values[i];

        if (v->dead > op->start && cell_is(o, buf, pos / o->cell, v->value)) {
            found = v->value;
            legal = true;
        }
    }
    if (legal && c->n > 1) {
        for (unsigned i = 0; i < c->n; i++) {
            Value *v = &c->values[i];

            if (v->value != found && v->end < op->start && v->dead == NEVER) {
                v->dead = o->now;
            }
        }
        cell_prune(c, oldest);
    }
    return legal;
}

char *oracle_read_end(Oracle *o, OracleOp *op, const uint8_t *buf)
{
    uint64_t oldest;

    QEMU_LOCK_GUARD(&o->lock);
    end_locked(o, op);
    oldest = oldest_read(o);
    for (int64_t pos = op->offset; pos < op->offset + op->bytes;
         pos += o->cell) {
        const uint8_t *p = buf + (pos - op->offset);

        if (!end_read_at(o, op, pos, p, oldest)) {
            return describe_mismatch(o, op, pos, p);
        }
    }
    return NULL;
}

void oracle_read_cancel(Oracle *o, OracleOp *op)
{
    QEMU_LOCK_GUARD(&o->lock);
    end_locked(o, op);
}

bool oracle_may_fail(Oracle *o, const OracleOp *op)
{
    QEMU_LOCK_GUARD(&o->lock);
    return op->offset + op->bytes > op->limit;
}

/* ---------------------------------------------------------------- truncate */

void oracle_truncate_begin(Oracle *o, int64_t size)
{
    OracleOp *op;

    QEMU_LOCK_GUARD(&o->lock);
    assert(size <= o->capacity && o->size == o->next_size);
    o->next_size = size;
    o->truncate_start = ++o->now;
    QLIST_FOREACH(op, &o->ops, next) {
        op->limit = MIN(op->limit, size);
    }
    /* Reads that passed the check of their range may come after it. */
    for (int64_t pos = size; pos < o->size; pos += o->cell) {
        Value v = {
            .start = o->truncate_start, .end = NEVER, .dead = NEVER,
        };

        cell_add(cell_at(o, pos), &v);
    }
}

void oracle_truncate_end(Oracle *o)
{
    QEMU_LOCK_GUARD(&o->lock);
    o->now++;
    for (int64_t pos = o->next_size; pos < o->size; pos += o->cell) {
        Cell *c = cell_at(o, pos);

        for (unsigned i = 0; i < c->n; i++) {
            Value *v = &c->values[i];

            if (!v->op && !v->value && v->start == o->truncate_start) {
                v->end = o->now;
            } else if (!v->op && v->dead == NEVER) {
                v->dead = o->now;
            }
        }
    }
    o->size = o->next_size;
}

int64_t oracle_size(Oracle *o)
{
    QEMU_LOCK_GUARD(&o->lock);
    return MIN(o->size, o->next_size);
}

/* ------------------------------------------------------------------ digest */

/* Operations in flight in the order of their numbers, which differ. */
static GPtrArray *ops_by_index(Oracle *o)
{
    GPtrArray *ops = g_ptr_array_new();
    OracleOp *op;

    QLIST_FOREACH(op, &o->ops, next) {
        guint i = 0;

        while (i < ops->len &&
               ((OracleOp *)ops->pdata[i])->index < op->index) {
            i++;
        }
        g_ptr_array_insert(ops, i, op);
    }
    return ops;
}

static void put(GByteArray *out, uint32_t n)
{
    g_byte_array_append(out, (uint8_t *)&n, sizeof(n));
}

/*
 * Only the order of the times counts, and only between what is still in
 * flight and what is over. So: for each value, which operations in flight
 * began before it ended and before it died.
 */
void oracle_digest(Oracle *o, GByteArray *out)
{
    g_autoptr(GPtrArray) ops = NULL;

    QEMU_LOCK_GUARD(&o->lock);
    ops = ops_by_index(o);
    put(out, ops->len);
    for (guint k = 0; k < ops->len; k++) {
        put(out, ((OracleOp *)ops->pdata[k])->index);
    }
    for (int64_t pos = 0; pos < MAX(o->size, o->next_size); pos += o->cell) {
        const Cell *c = cell_at(o, pos);

        put(out, c->n);
        for (unsigned i = 0; i < c->n; i++) {
            const Value *v = &c->values[i];
            uint32_t bits = v->weak | (v->dead == NEVER) << 1;

            put(out, v->value);
            put(out, v->op ? v->op->index + 1 : 0);
            for (guint k = 0; k < ops->len; k++) {
                const OracleOp *op = ops->pdata[k];

                bits = bits << 2 | (v->end < op->start) |
                       (v->dead <= op->start) << 1;
            }
            put(out, bits);
        }
    }
    put(out, o->size >> 9);
    put(out, o->next_size >> 9);
}
