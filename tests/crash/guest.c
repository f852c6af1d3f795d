/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "guest.h"

#define WORDS (CRASH_SECTOR / (int)sizeof(uint64_t))

typedef struct GuestEvent {
    CrashTime at;
    GuestOp *op;
    bool end;
} GuestEvent;

/* --- values --- */

static uint64_t sector_word(uint32_t value, int64_t sector)
{
    return value == GUEST_ZERO ? 0 : (uint64_t)value << 32 | (uint32_t)sector;
}

void guest_fill(void *buf, uint32_t id, int64_t first, int64_t nb)
{
    uint64_t *p = buf;

    for (int64_t i = 0; i < nb; i++) {
        uint64_t word = sector_word(id, first + i);

        for (int j = 0; j < WORDS; j++) {
            *p++ = word;
        }
    }
}

/* --- recording --- */

Guest *guest_new(CrashTime *clock, int64_t size, int64_t backing_sectors,
                 bool has_backing, uint32_t first_id)
{
    Guest *g = g_new0(Guest, 1);

    *g = (Guest) {
        .clock = clock,
        .size = size,
        .first_size = size,
        .nb_sectors = size,
        .has_backing = has_backing,
        .backing_sectors = backing_sectors,
        .next_id = first_id,
        .ops = g_ptr_array_new_with_free_func(g_free),
        .several = g_array_new(false, false, sizeof(int64_t)),
        .events = g_array_new(false, false, sizeof(GuestEvent)),
    };
    return g;
}

static void free_sectors(Guest *g)
{
    for (int64_t i = 0; g->sectors && i < g->nb_sectors; i++) {
        g_free(g->sectors[i].v);
    }
    g_clear_pointer(&g->sectors, g_free);
    g_clear_pointer(&g->sizes.v, g_free);
    g->sizes = (GuestSector) { 0 };
    g_clear_pointer(&g->names.v, g_free);
    g->names = (GuestSector) { 0 };
}

void guest_free(Guest *g)
{
    free_sectors(g);
    g_array_unref(g->several);
    g_array_unref(g->events);
    g_ptr_array_unref(g->ops);
    g_free(g);
}

GuestOp *guest_start(Guest *g, GuestOpKind kind, int64_t first, int64_t nb,
                     const char *note)
{
    GuestOp *op = g_new0(GuestOp, 1);

    *op = (GuestOp) {
        .kind = kind,
        .first = first,
        .nb = nb,
        .note = note,
        .id = kind == GUEST_WRITE ? g->next_id++ : GUEST_ZERO,
        .started = ++*g->clock,
        .ended = CRASH_NEVER,
    };
    if (kind == GUEST_RESIZE || kind == GUEST_APPLY) {
        int64_t max = MAX(g->nb_sectors, nb);

        g_assert(!g->sectors);
        g->nb_sectors = max;
    }
    g_ptr_array_add(g->ops, op);
    return op;
}

GuestOp *guest_start_apply(Guest *g, int64_t size, const uint32_t *values)
{
    GuestOp *op = guest_start(g, GUEST_APPLY, g->size, size, NULL);

    op->values = values;
    return op;
}

static bool sets_size(const GuestOp *op)
{
    return op->kind == GUEST_RESIZE || op->kind == GUEST_APPLY;
}

void guest_end(Guest *g, GuestOp *op, int ret)
{
    ++*g->clock;
    op->failed = ret < 0;
    op->ended = *g->clock;
    if (sets_size(op) && !op->failed) {
        g->size = op->nb;
    }
}

/* --- walking --- */

static int compare_events(const void *a, const void *b)
{
    const GuestEvent *x = a, *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

static void add_event(Guest *g, CrashTime at, GuestOp *op, bool end)
{
    GuestEvent e = { at, op, end };

    g_array_append_val(g->events, e);
}

static void add_version(GuestSector *s, uint32_t value, CrashTime started,
                        CrashTime ended)
{
    if (s->n == s->capacity) {
        s->capacity = MAX(2, s->capacity * 2);
        s->v = g_renew(GuestVersion, s->v, s->capacity);
    }
    s->v[s->n++] = (GuestVersion) {
        .value = value, .started = started, .ended = ended,
    };
}

void guest_walk_start(Guest *g)
{
    free_sectors(g);
    g->sectors = g_new0(GuestSector, MAX(1, g->nb_sectors));
    add_version(&g->sizes, g->first_size, 0, 0);
    add_version(&g->names, g->first_name, 0, 0);
    for (int64_t i = 0; i < g->nb_sectors; i++) {
        bool backing = g->has_backing && i < g->backing_sectors;

        add_version(&g->sectors[i], backing ? GUEST_BACKING : GUEST_ZERO, 0, 0);
    }
    g_array_set_size(g->several, 0);
    g_array_set_size(g->events, 0);
    for (guint i = 0; i < g->ops->len; i++) {
        GuestOp *op = g->ops->pdata[i];

        add_event(g, op->started, op, false);
        if (op->ended != CRASH_NEVER) {
            add_event(g, op->ended, op, true);
        }
    }
    g_array_sort(g->events, compare_events);
    g->next_event = 0;
    g->now = 0;
    g->generation = 0;
}

static void sector_start(Guest *g, int64_t sector, uint32_t value,
                         CrashTime started)
{
    GuestSector *s = &g->sectors[sector];

    if (s->n == 1) {
        g_array_append_val(g->several, sector);
    }
    add_version(s, value, started, CRASH_NEVER);
}

static void sector_end(GuestSector *s, const GuestOp *op)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->v[i].started == op->started) {
            s->v[i].ended = op->ended;
            s->v[i].doubtful = op->failed;
        }
    }
}

/* Any of the values, as if all had been written at once at @now. */
static void sector_doubt(GuestSector *s, CrashTime now)
{
    for (uint32_t i = 0; i < s->n; i++) {
        s->v[i].started = s->v[i].ended = now;
        s->v[i].doubtful = true;
    }
}

/* Drops what was followed by a value that had completed at @flushed. */
static void sector_prune(GuestSector *s, CrashTime flushed)
{
    CrashTime newest = 0;
    uint32_t n = 0;

    /* A value started after another had ended takes its place. */
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->v[i].ended <= flushed && !s->v[i].doubtful) {
            newest = MAX(newest, s->v[i].started);
        }
    }
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->v[i].ended >= newest) {
            s->v[n++] = s->v[i];
        }
    }
    g_assert(n);
    s->n = n;
}

/* What ended before @op began will not come back. */
static void sector_prune_fua(GuestSector *s, const GuestOp *op)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        if (s->v[i].ended >= op->started) {
            s->v[n++] = s->v[i];
        }
    }
    s->n = n;
}

/* The sectors that an op gives a value; a resize to those beyond the smaller
 * size. None: *@end is *@first. */
static void op_range(const GuestOp *op, int64_t *first, int64_t *end)
{
    *first = op->first;
    *end = op->first + op->nb;
    if (op->kind == GUEST_RESIZE) {
        *first = MIN(op->first, op->nb);
        *end = MAX(op->first, op->nb);
    } else if (op->kind == GUEST_APPLY) {
        *first = 0;
        *end = op->nb;
    } else if (op->kind == GUEST_FLUSH || op->kind == GUEST_CLOSE ||
               op->kind == GUEST_RENAME) {
        *end = *first;
    }
}

static void start_op(Guest *g, const GuestOp *op)
{
    int64_t first, end;

    op_range(op, &first, &end);
    for (int64_t i = first; i < end; i++) {
        sector_start(g, i, op->values ? op->values[i] : op->id, op->started);
        /* What a shrinking disk gives up first is the overlay's mapping. */
        if (op->kind == GUEST_RESIZE && op->nb < op->first &&
            g->has_backing && i < g->backing_sectors) {
            sector_start(g, i, GUEST_BACKING, op->started);
        }
    }
    if (sets_size(op)) {
        add_version(&g->sizes, op->nb, op->started, CRASH_NEVER);
    } else if (op->kind == GUEST_RENAME) {
        add_version(&g->names, op->nb, op->started, CRASH_NEVER);
    }
}

static void prune_all(Guest *g, CrashTime flushed)
{
    guint n = 0;

    for (guint i = 0; i < g->several->len; i++) {
        int64_t sector = g_array_index(g->several, int64_t, i);

        sector_prune(&g->sectors[sector], flushed);
        if (g->sectors[sector].n > 1) {
            g_array_index(g->several, int64_t, n++) = sector;
        }
    }
    g_array_set_size(g->several, n);
    sector_prune(&g->sizes, flushed);
    sector_prune(&g->names, flushed);
    g->generation++;
}

static void doubt_all(Guest *g, CrashTime now)
{
    for (guint i = 0; i < g->several->len; i++) {
        sector_doubt(&g->sectors[g_array_index(g->several, int64_t, i)], now);
    }
    if (g->sizes.n > 1) {
        sector_doubt(&g->sizes, now);
    }
}

static void end_op(Guest *g, const GuestOp *op)
{
    int64_t first, end;

    if (op->kind == GUEST_FLUSH || op->kind == GUEST_CLOSE) {
        if (!op->failed) {
            prune_all(g, op->started);
        } else if (op->kind == GUEST_CLOSE) {
            doubt_all(g, op->ended);
        }
        return;
    }
    op_range(op, &first, &end);
    for (int64_t i = first; i < end; i++) {
        sector_end(&g->sectors[i], op);
        if (op->fua && !op->failed) {
            sector_prune_fua(&g->sectors[i], op);
        }
    }
    g->generation += op->fua;
    if (sets_size(op)) {
        sector_end(&g->sizes, op);
    } else if (op->kind == GUEST_RENAME) {
        sector_end(&g->names, op);
        if (!op->failed) {
            /* Whoever is told may remove the old backing file. */
            sector_prune(&g->names, op->ended);
            g->generation++;
        }
    }
    if (op->kind == GUEST_APPLY && !op->failed) {
        prune_all(g, op->ended);
    }
}

void guest_walk_to(Guest *g, CrashTime now)
{
    while (g->next_event < g->events->len) {
        const GuestEvent *e = &g_array_index(g->events, GuestEvent,
                                             g->next_event);

        if (e->at > now) {
            break;
        }
        if (e->end) {
            end_op(g, e->op);
        } else {
            start_op(g, e->op);
        }
        g->next_event++;
    }
    g->now = now;
}

/* --- judging --- */

static bool is_legal(const GuestSector *s, uint32_t value)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->v[i].value == value) {
            return true;
        }
    }
    return false;
}

bool guest_size_legal(const Guest *g, int64_t sectors)
{
    return is_legal(&g->sizes, sectors);
}

bool guest_name_legal(const Guest *g, int64_t index)
{
    return is_legal(&g->names, index);
}

static char *complain(const GuestSector *s, const uint64_t *p, int64_t sector)
{
    GString *str = g_string_new(NULL);

    g_string_printf(str, "guest sector %" PRId64 " reads %016" PRIx64, sector,
                    p[0]);
    for (int j = 1; j < WORDS; j++) {
        if (p[j] != p[0]) {
            g_string_append_printf(str, " … %016" PRIx64 " (mixed at byte %d)",
                                   p[j], j * 8);
            break;
        }
    }
    g_string_append(str, "; may be");
    for (uint32_t i = 0; i < s->n; i++) {
        g_string_append_printf(str, "%s %016" PRIx64, i ? "," : "",
                               sector_word(s->v[i].value, sector));
    }
    return g_string_free(str, false);
}

char *guest_compare(const Guest *g, const void *buf, int64_t first, int64_t nb)
{
    const uint64_t *p = buf;

    for (int64_t i = first; i < first + nb; i++, p += WORDS) {
        const GuestSector *s = &g->sectors[i];
        uint32_t value = p[0] >> 32;
        bool same = p[0] == sector_word(value, i);

        /* Each word equals the one before. */
        if (!same || memcmp(p, p + 1, CRASH_SECTOR - sizeof(*p)) ||
            !is_legal(s, value)) {
            return complain(s, p, i);
        }
    }
    return NULL;
}

char *guest_op_describe(const GuestOp *op)
{
    static const char *const names[] = {
        [GUEST_WRITE] = "write",
        [GUEST_ZEROES] = "zeroes",
        [GUEST_DISCARD] = "discard",
        [GUEST_FLUSH] = "flush",
        [GUEST_CLOSE] = "close",
        [GUEST_RESIZE] = "resize",
        [GUEST_APPLY] = "apply a snapshot",
        [GUEST_RENAME] = "rename",
    };
    GString *str = g_string_new(names[op->kind]);

    if (sets_size(op)) {
        g_string_append_printf(str, " from %" PRId64 " to %" PRId64
                               " sectors", op->first, op->nb);
    } else if (op->kind == GUEST_WRITE || op->kind == GUEST_ZEROES ||
               op->kind == GUEST_DISCARD) {
        g_string_append_printf(str, " %" PRId64 " sectors at %" PRId64,
                               op->nb, op->first);
    }
    if (op->id) {
        g_string_append_printf(str, ", value %08x", op->id);
    }
    if (op->fua) {
        g_string_append(str, ", FUA");
    }
    if (op->note) {
        g_string_append_printf(str, ", %s", op->note);
    }
    if (op->failed) {
        g_string_append(str, ", failed");
    } else if (op->ended == CRASH_NEVER) {
        g_string_append(str, ", unfinished");
    }
    return g_string_free(str, false);
}
