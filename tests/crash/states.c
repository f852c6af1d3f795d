/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "states.h"

#define MAX_COMBINATIONS (UINT64_MAX / 2)
#define MAX_VERSIONS 255

struct Epochs {
    const GPtrArray *log;
    GArray *ends;           /* DiskOp*: flushes that ended, in that order */
    CrashTime end;          /* of the last epoch */
    unsigned next;

    uint8_t *base;
    int64_t base_size;
    int64_t base_capacity;
    uint64_t hash;          /* of base */
    /* For each sector, when the last durable change of it was applied. */
    CrashTime *durable_at;
    GHashTable *durable;    /* set of DiskOp */
    GPtrArray *applied;     /* DiskOp that were, in that order */
    Epoch epoch;
};

/* --- hashes --- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ULL;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ULL;
    return x ^ x >> 32;
}

/* 0 for a sector of zeroes, so that the size alone tells of those. */
static uint64_t sector_hash(int64_t sector, const uint8_t *content)
{
    uint64_t h = 0, w, all = 0;

    for (int i = 0; i < CRASH_SECTOR; i += sizeof(w)) {
        memcpy(&w, content + i, sizeof(w));
        all |= w;
        h = (h ^ w) * 0x9e3779b97f4a7c15ULL;
        h ^= h >> 29;
    }
    return all ? mix(h + mix(sector + 1)) : 0;
}

static uint64_t hash_all(const uint8_t *data, int64_t size)
{
    uint64_t h = 0;

    for (int64_t i = 0; i < DIV_ROUND_UP(size, CRASH_SECTOR); i++) {
        h += sector_hash(i, data + i * CRASH_SECTOR);
    }
    return h;
}

/* --- the durable content --- */

static void reserve(Epochs *e, int64_t size)
{
    int64_t capacity = ROUND_UP(MAX(size, 1), 1 << 20);

    if (capacity <= e->base_capacity) {
        return;
    }
    e->base = g_realloc(e->base, capacity);
    e->durable_at = g_renew(CrashTime, e->durable_at,
                            capacity / CRASH_SECTOR);
    memset(e->base + e->base_capacity, 0, capacity - e->base_capacity);
    memset(e->durable_at + e->base_capacity / CRASH_SECTOR, 0,
           (capacity - e->base_capacity) / CRASH_SECTOR * sizeof(CrashTime));
    e->base_capacity = capacity;
}

static int compare_applied(const void *a, const void *b)
{
    const DiskOp *x = *(DiskOp *const *)a, *y = *(DiskOp *const *)b;

    return x->applied < y->applied ? -1 : x->applied > y->applied;
}

/* The bytes of @op that lie in a sector: sets where and how many. */
static bool op_in_sector(const DiskOp *op, int64_t sector, int64_t *from,
                         int64_t *bytes)
{
    int64_t start = sector * CRASH_SECTOR;
    int64_t end = start + CRASH_SECTOR;
    int64_t op_start = op->kind == DISK_TRUNCATE ? op->bytes : op->offset;
    int64_t op_end = op->kind == DISK_TRUNCATE ? INT64_MAX
                                               : op->offset + op->bytes;

    *from = MAX(start, op_start);
    *bytes = MIN(end, op_end) - *from;
    return *bytes > 0;
}

static void op_overlay(const DiskOp *op, int64_t sector, uint8_t *content)
{
    int64_t from, bytes;

    if (!op_in_sector(op, sector, &from, &bytes)) {
        return;
    }
    if (op->data) {
        memcpy(content + from % CRASH_SECTOR, op->data + (from - op->offset),
               bytes);
    } else {
        memset(content + from % CRASH_SECTOR, 0, bytes);
    }
}

/* Sectors that @op may change in a file of @size. */
static void op_sectors(const DiskOp *op, int64_t size, int64_t *first,
                       int64_t *end)
{
    if (op->kind == DISK_TRUNCATE) {
        *first = op->bytes / CRASH_SECTOR;
        *end = DIV_ROUND_UP(MAX(size, op->bytes), CRASH_SECTOR);
    } else {
        *first = op->offset / CRASH_SECTOR;
        *end = DIV_ROUND_UP(op->offset + op->bytes, CRASH_SECTOR);
    }
}

static int64_t size_after(const DiskOp *op, int64_t size)
{
    return op->kind == DISK_TRUNCATE ? op->bytes
                                     : MAX(size, op->offset + op->bytes);
}

static bool covers_sector(const DiskOp *op, int64_t sector)
{
    int64_t from, bytes;

    return op_in_sector(op, sector, &from, &bytes) && bytes == CRASH_SECTOR;
}

/* The sector as it was in the file when @op had been applied: what others
 * wrote to the rest of it went to the disk with it. */
static void sector_durable(Epochs *e, const DiskOp *op, int64_t sector)
{
    uint8_t *p = e->base + sector * CRASH_SECTOR;

    e->hash -= sector_hash(sector, p);
    for (guint i = 0; !covers_sector(op, sector) && i < e->applied->len; i++) {
        const DiskOp *earlier = e->applied->pdata[i];

        if (earlier->applied >= op->applied) {
            break;
        }
        if (earlier->applied > e->durable_at[sector]) {
            op_overlay(earlier, sector, p);
        }
    }
    op_overlay(op, sector, p);
    e->hash += sector_hash(sector, p);
    e->durable_at[sector] = op->applied;
}

static void make_durable(Epochs *e, const DiskOp *op)
{
    int64_t first, end;

    reserve(e, MAX(e->base_size, op->offset + op->bytes));
    op_sectors(op, e->base_size, &first, &end);
    for (int64_t i = first; i < end; i++) {
        if (op->applied > e->durable_at[i]) {
            sector_durable(e, op, i);
        }
    }
    e->base_size = size_after(op, e->base_size);
}

/* When @op is through, and a flush concerns it: what failed halfway is in the
 * file as far as it came. */
static CrashTime settled(const DiskOp *op)
{
    return op->ended ? op->ended : op->applied;
}

/* What had ended when @flush began. */
static void apply_flush(Epochs *e, const DiskOp *flush)
{
    g_autoptr(GPtrArray) ops = g_ptr_array_new();

    for (guint i = 0; i < e->log->len; i++) {
        DiskOp *op = e->log->pdata[i];

        if (op->started > flush->started) {
            break;
        }
        if (op->kind != DISK_FLUSH && settled(op) &&
            settled(op) < flush->started && g_hash_table_add(e->durable, op)) {
            g_ptr_array_add(ops, op);
        }
    }
    g_ptr_array_sort(ops, compare_applied);
    for (guint i = 0; i < ops->len; i++) {
        make_durable(e, ops->pdata[i]);
    }
}

/* --- epochs --- */

static int compare_ended(const void *a, const void *b)
{
    const DiskOp *x = *(DiskOp *const *)a, *y = *(DiskOp *const *)b;

    return x->ended < y->ended ? -1 : x->ended > y->ended;
}

Epochs *epochs_new(const uint8_t *data, int64_t size, const GPtrArray *log,
                   CrashTime end)
{
    Epochs *e = g_new0(Epochs, 1);

    e->log = log;
    e->end = end;
    e->ends = g_array_new(false, false, sizeof(DiskOp *));
    e->durable = g_hash_table_new(NULL, NULL);
    reserve(e, size);
    memcpy(e->base, data, size);
    e->base_size = size;
    e->hash = hash_all(e->base, size);
    for (guint i = 0; i < log->len; i++) {
        DiskOp *op = log->pdata[i];

        if (op->kind == DISK_FLUSH && op->ended) {
            g_array_append_val(e->ends, op);
        }
    }
    g_array_sort(e->ends, compare_ended);
    e->applied = g_ptr_array_new();
    for (guint i = 0; i < log->len; i++) {
        DiskOp *op = log->pdata[i];

        if (op->applied) {
            g_ptr_array_add(e->applied, op);
        }
    }
    g_ptr_array_sort(e->applied, compare_applied);
    return e;
}

static void epoch_clear(Epoch *epoch)
{
    if (!epoch->ops) {
        return;
    }
    for (guint i = 0; i < epoch->changed->len; i++) {
        ChangedSector *c = &g_array_index(epoch->changed, ChangedSector, i);

        g_free(c->content);
        g_free(c->hash);
        g_free(c->op);
    }
    g_array_unref(epoch->changed);
    g_array_unref(epoch->sizes);
    g_ptr_array_unref(epoch->ops);
    *epoch = (Epoch) { 0 };
}

void epochs_free(Epochs *e)
{
    epoch_clear(&e->epoch);
    g_array_unref(e->ends);
    g_hash_table_unref(e->durable);
    g_ptr_array_unref(e->applied);
    g_free(e->base);
    g_free(e->durable_at);
    g_free(e);
}

unsigned epochs_count(const Epochs *e)
{
    return e->ends->len + 1;
}

static void collect_ops(Epochs *e, Epoch *epoch)
{
    for (guint i = 0; i < e->log->len; i++) {
        DiskOp *op = e->log->pdata[i];

        if (op->started > epoch->end) {
            break;
        }
        /* What was never applied has failed. */
        if (op->kind != DISK_FLUSH && op->applied &&
            !g_hash_table_contains(e->durable, op)) {
            g_ptr_array_add(epoch->ops, op);
        }
    }
    g_ptr_array_sort(epoch->ops, compare_applied);
}

static void add_version(Epochs *e, ChangedSector *c, const DiskOp *op,
                        uint16_t op_index)
{
    uint8_t content[CRASH_SECTOR];
    const uint8_t *last;

    if (!c->content) {
        c->content = g_malloc(CRASH_SECTOR);
        memcpy(c->content, e->base + c->sector * CRASH_SECTOR, CRASH_SECTOR);
        c->hash = g_new(uint64_t, 1);
        c->hash[0] = sector_hash(c->sector, c->content);
    }
    last = c->content + c->n * CRASH_SECTOR;
    memcpy(content, last, CRASH_SECTOR);
    op_overlay(op, c->sector, content);
    if (c->n == MAX_VERSIONS || !memcmp(content, last, CRASH_SECTOR)) {
        return;
    }
    c->n++;
    c->content = g_realloc(c->content, (c->n + 1) * CRASH_SECTOR);
    memcpy(c->content + c->n * CRASH_SECTOR, content, CRASH_SECTOR);
    c->hash = g_renew(uint64_t, c->hash, c->n + 1);
    c->hash[c->n] = sector_hash(c->sector, content);
    c->op = g_renew(uint16_t, c->op, c->n);
    c->op[c->n - 1] = op_index;
}

static int compare_sectors(const void *a, const void *b)
{
    const ChangedSector *x = a, *y = b;

    return x->sector < y->sector ? -1 : x->sector > y->sector;
}

/* Versions of every sector that the ops of the epoch change. */
static void find_changes(Epochs *e, Epoch *epoch)
{
    g_autoptr(GHashTable) index = g_hash_table_new(NULL, NULL);
    int64_t size = e->base_size;
    guint n = 0;

    g_array_append_val(epoch->sizes, size);
    for (guint i = 0; i < epoch->ops->len; i++) {
        const DiskOp *op = epoch->ops->pdata[i];
        int64_t first, end;

        op_sectors(op, size, &first, &end);
        reserve(e, end * CRASH_SECTOR);
        for (int64_t j = first; j < end; j++) {
            gpointer pos = g_hash_table_lookup(index, GINT_TO_POINTER(j + 1));

            if (op->applied < e->durable_at[j]) {
                continue;
            }
            if (!pos) {
                ChangedSector c = { .sector = j };

                g_array_append_val(epoch->changed, c);
                pos = GUINT_TO_POINTER(epoch->changed->len);
                g_hash_table_insert(index, GINT_TO_POINTER(j + 1), pos);
            }
            add_version(e, &g_array_index(epoch->changed, ChangedSector,
                                          GPOINTER_TO_UINT(pos) - 1), op, i);
        }
        size = size_after(op, size);
        g_array_append_val(epoch->sizes, size);
    }

    /* Drop those that only looked as if they changed. */
    for (guint i = 0; i < epoch->changed->len; i++) {
        ChangedSector c = g_array_index(epoch->changed, ChangedSector, i);

        if (c.n) {
            g_array_index(epoch->changed, ChangedSector, n++) = c;
        } else {
            g_free(c.content);
            g_free(c.hash);
        }
    }
    g_array_set_size(epoch->changed, n);
    g_array_sort(epoch->changed, compare_sectors);
}

static uint64_t count_combinations(const Epoch *epoch)
{
    uint64_t all = 1;

    for (guint i = 0; i < epoch->changed->len; i++) {
        uint64_t n = g_array_index(epoch->changed, ChangedSector, i).n + 1;

        if (all > MAX_COMBINATIONS / n) {
            return MAX_COMBINATIONS;
        }
        all *= n;
    }
    return all > MAX_COMBINATIONS / epoch->sizes->len
               ? MAX_COMBINATIONS : all * epoch->sizes->len;
}

const Epoch *epochs_next(Epochs *e)
{
    Epoch *epoch = &e->epoch;
    const DiskOp *before = NULL, *flush = NULL;

    epoch_clear(epoch);
    if (e->next >= epochs_count(e)) {
        return NULL;
    }
    if (e->next > 0) {
        before = g_array_index(e->ends, DiskOp *, e->next - 1);
        apply_flush(e, before);
    }
    if (e->next < e->ends->len) {
        flush = g_array_index(e->ends, DiskOp *, e->next);
    }
    *epoch = (Epoch) {
        .index = e->next++,
        .end = flush ? flush->ended - 1 : e->end,
        .ops = g_ptr_array_new(),
        .changed = g_array_new(false, false, sizeof(ChangedSector)),
        .sizes = g_array_new(false, false, sizeof(int64_t)),
    };
    collect_ops(e, epoch);
    find_changes(e, epoch);
    epoch->durable_hash = e->hash;
    epoch->base = e->base;
    epoch->base_size = e->base_size;
    epoch->combinations = count_combinations(epoch);
    return epoch;
}

/* --- states --- */

CrashState *crash_state_new(const Epoch *epoch)
{
    CrashState *s = g_new0(CrashState, 1);

    s->versions = g_byte_array_new();
    g_byte_array_set_size(s->versions, epoch->changed->len);
    if (s->versions->len) {
        memset(s->versions->data, 0, s->versions->len);
    }
    return s;
}

void crash_state_free(CrashState *s)
{
    g_byte_array_unref(s->versions);
    g_free(s);
}

void crash_state_copy(CrashState *to, const CrashState *from)
{
    g_byte_array_set_size(to->versions, from->versions->len);
    if (from->versions->len) {
        memcpy(to->versions->data, from->versions->data,
               from->versions->len);
    }
    to->size = from->size;
}

static const ChangedSector *changed(const Epoch *epoch, guint i)
{
    return &g_array_index(epoch->changed, ChangedSector, i);
}

static int64_t size_index(const Epoch *epoch, guint i)
{
    return g_array_index(epoch->sizes, int64_t, i);
}

/* A sector that was written, rather than cut off, is in the file. */
int64_t crash_state_size(const Epoch *epoch, const CrashState *s)
{
    int64_t size = size_index(epoch, s->size);

    for (guint i = epoch->changed->len; i-- > 0;) {
        const ChangedSector *c = changed(epoch, i);
        const DiskOp *op;

        if (c->sector * CRASH_SECTOR < size) {
            break;
        }
        if (!s->versions->data[i]) {
            continue;
        }
        op = epoch->ops->pdata[c->op[s->versions->data[i] - 1]];
        if (op->kind != DISK_TRUNCATE) {
            /* As far as the op itself reached into it. */
            return MIN((c->sector + 1) * CRASH_SECTOR,
                       MAX(size, op->offset + op->bytes));
        }
    }
    return size;
}

uint8_t *crash_state_build(const Epoch *epoch, const CrashState *s,
                           int64_t *size)
{
    int64_t n, keep;
    uint8_t *data;

    *size = crash_state_size(epoch, s);
    n = ROUND_UP(*size, CRASH_SECTOR);
    keep = MIN(n, ROUND_UP(epoch->base_size, CRASH_SECTOR));
    data = g_malloc(MAX(n, 1));
    memcpy(data, epoch->base, keep);
    memset(data + keep, 0, n - keep);
    for (guint i = 0; i < epoch->changed->len; i++) {
        const ChangedSector *c = changed(epoch, i);
        uint8_t v = s->versions->data[i];

        if (v && c->sector * CRASH_SECTOR < n) {
            memcpy(data + c->sector * CRASH_SECTOR,
                   c->content + v * CRASH_SECTOR, CRASH_SECTOR);
        }
    }
    memset(data + *size, 0, n - *size);
    return data;
}

uint64_t crash_state_hash(const Epoch *epoch, const CrashState *s)
{
    uint64_t h = epoch->durable_hash;
    int64_t size = crash_state_size(epoch, s);

    if (size < epoch->base_size || size % CRASH_SECTOR) {
        g_autofree uint8_t *data = crash_state_build(epoch, s, &size);

        return hash_all(data, size) + mix(size);
    }
    for (guint i = 0; i < epoch->changed->len; i++) {
        const ChangedSector *c = changed(epoch, i);

        h += c->hash[s->versions->data[i]] - c->hash[0];
    }
    return h + mix(size);
}

/* --- picking --- */

static void pick_counted(const Epoch *epoch, CrashState *s, uint64_t n)
{
    for (guint i = 0; i < epoch->changed->len; i++) {
        uint64_t values = changed(epoch, i)->n + 1;

        s->versions->data[i] = n % values;
        n /= values;
    }
    s->size = n;
}

/* The last version of each sector whose op is chosen. */
static void pick_ops(const Epoch *epoch, CrashState *s, const bool *chosen)
{
    for (guint i = 0; i < epoch->changed->len; i++) {
        const ChangedSector *c = changed(epoch, i);
        uint8_t v = c->n;

        while (v && !chosen[c->op[v - 1]]) {
            v--;
        }
        s->versions->data[i] = v;
    }
    s->size = 0;
    for (guint i = 0; i < epoch->ops->len; i++) {
        if (chosen[i]) {
            s->size = i + 1;
        }
    }
}

/* Each op alone, all but each, all before each. */
static void pick_simple(const Epoch *epoch, CrashState *s, uint64_t n)
{
    guint ops = epoch->ops->len;
    guint which = n % (ops + 1);
    g_autofree bool *chosen = g_new0(bool, ops + 1);

    for (guint i = 0; i < ops; i++) {
        chosen[i] = n / (ops + 1) == 0 ? i == which
                  : n / (ops + 1) == 1 ? i != which
                                       : i < which;
    }
    pick_ops(epoch, s, chosen);
}

/* Some of one op's sectors as if it had come through, or had not. */
static void tear_one(const Epoch *epoch, CrashState *s, GRand *rand)
{
    guint op = g_rand_int_range(rand, 0, epoch->ops->len);
    bool forward = g_rand_boolean(rand);
    double keep = g_rand_double(rand);

    for (guint i = 0; i < epoch->changed->len; i++) {
        const ChangedSector *c = changed(epoch, i);

        for (uint8_t v = 1; v <= c->n; v++) {
            if (c->op[v - 1] == op && g_rand_double(rand) < keep) {
                s->versions->data[i] = forward ? v : v - 1;
            }
        }
    }
}

static void pick_random(const Epoch *epoch, CrashState *s, GRand *rand)
{
    static const double chances[] = { 0.1, 0.3, 0.5, 0.7, 0.9 };
    double p = chances[g_rand_int_range(rand, 0, ARRAY_SIZE(chances))];
    int style = g_rand_int_range(rand, 0, 4);

    if (style > 0) {
        g_autofree bool *chosen = g_new0(bool, epoch->ops->len + 1);

        for (guint i = 0; i < epoch->ops->len; i++) {
            chosen[i] = g_rand_double(rand) < p;
        }
        pick_ops(epoch, s, chosen);
        for (int i = 1; i < style; i++) {
            tear_one(epoch, s, rand);
        }
    } else {
        for (guint i = 0; i < epoch->changed->len; i++) {
            int n = changed(epoch, i)->n;

            s->versions->data[i] =
                g_rand_double(rand) < p ? g_rand_int_range(rand, 1, n + 1) : 0;
        }
    }
    if (style == 0 || g_rand_int_range(rand, 0, 4) == 0) {
        s->size = g_rand_int_range(rand, 0, epoch->sizes->len);
    }
}

bool crash_state_pick(const Epoch *epoch, CrashState *s, uint64_t n,
                      uint64_t exhaustive, GRand *rand)
{
    if (epoch->combinations <= exhaustive || !epoch->ops->len) {
        if (n < epoch->combinations) {
            pick_counted(epoch, s, n);
        }
        return n < epoch->combinations;
    }
    if (n < 3 * ((uint64_t)epoch->ops->len + 1)) {
        pick_simple(epoch, s, n);
    } else {
        pick_random(epoch, s, rand);
    }
    return true;
}
