/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "failure.h"
#include "util/error.h"

#define GROUP "crash state"

static char *judge_state(Run *run, const Epoch *epoch, const CrashState *s,
                         bool go_on)
{
    int64_t size;
    g_autofree uint8_t *data = crash_state_build(epoch, s, &size);
    Judge judge = { .go_on = go_on };

    crash_disk_load(run->disk, data, size);
    return judge_image(&judge, run);
}

static bool is_bad(Run *run, const Epoch *epoch, const CrashState *s,
                   bool go_on)
{
    g_autofree char *wrong = judge_state(run, epoch, s, go_on);

    return wrong;
}

/* --- simplifying --- */

static ChangedSector *changed(const Epoch *epoch, guint i)
{
    return &g_array_index(epoch->changed, ChangedSector, i);
}

/* The version of sector @i if it is there entirely, or not at all. */
static uint8_t goal(const Epoch *epoch, guint i, bool all)
{
    return all ? changed(epoch, i)->n : 0;
}

static unsigned distance(const Epoch *epoch, const CrashState *s, bool all)
{
    unsigned n = 0;

    for (guint i = 0; i < s->versions->len; i++) {
        n += s->versions->data[i] != goal(epoch, i, all);
    }
    return n;
}

/* Tries to bring sectors [@from, @to) to the goal. */
static void try_sectors(Run *run, const Epoch *epoch, CrashState *s,
                        bool go_on, bool all, guint from, guint to)
{
    CrashState *next = crash_state_new(epoch);
    bool differs = false;

    crash_state_copy(next, s);
    for (guint i = from; i < to; i++) {
        differs |= next->versions->data[i] != goal(epoch, i, all);
        next->versions->data[i] = goal(epoch, i, all);
    }
    if (differs && is_bad(run, epoch, next, go_on)) {
        crash_state_copy(s, next);
    }
    crash_state_free(next);
}

/* Towards nothing, or everything, of what was not durable; large steps
 * first. */
static void simplify(Run *run, const Epoch *epoch, CrashState *s, bool go_on,
                     bool all)
{
    guint n = epoch->changed->len;

    for (guint step = MAX(n, 1); step; step /= 2) {
        for (guint i = 0; i < n; i += step) {
            try_sectors(run, epoch, s, go_on, all, i, MIN(n, i + step));
        }
    }
}

/* The simpler of both ways; returns which. */
static bool simplest(Run *run, const Epoch *epoch, const CrashState *state,
                     bool *go_on, CrashState *s)
{
    CrashState *full = crash_state_new(epoch);
    bool all;

    if (*go_on && is_bad(run, epoch, state, false)) {
        *go_on = false;
    }
    crash_state_copy(s, state);
    crash_state_copy(full, state);
    simplify(run, epoch, s, *go_on, false);
    simplify(run, epoch, full, *go_on, true);
    all = distance(epoch, full, true) < distance(epoch, s, false);
    if (all) {
        crash_state_copy(s, full);
    }
    crash_state_free(full);
    return all;
}

/* --- telling --- */

/* How much of an op is in the state, in sectors that it changes. */
typedef struct Presence {
    unsigned there, all;
} Presence;

static Presence op_presence(const Epoch *epoch, const CrashState *s, guint op)
{
    Presence p = { 0 };

    for (guint i = 0; i < epoch->changed->len; i++) {
        const ChangedSector *c = changed(epoch, i);

        for (uint8_t v = 1; v <= c->n; v++) {
            if (c->op[v - 1] == op) {
                p.all++;
                p.there += s->versions->data[i] >= v;
            }
        }
    }
    return p;
}

typedef struct Line {
    CrashTime at;
    char *text;
} Line;

static void add_line(GArray *lines, CrashTime at, char *text)
{
    Line l = { at, text };

    g_array_append_val(lines, l);
}

static int compare_lines(const void *a, const void *b)
{
    const Line *x = a, *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

/* The changes that make the state what it is: those that are there, or, of one
 * in which nearly everything is, those that are not. */
static void add_disk_lines(GArray *lines, const Run *run, const Epoch *epoch,
                           const CrashState *s, bool all)
{
    CrashTime first = epoch->end, last_flush = 0;

    for (guint i = 0; i < epoch->ops->len; i++) {
        const DiskOp *op = epoch->ops->pdata[i];
        g_autofree char *what = disk_op_describe(op);
        Presence p = op_presence(epoch, s, i);

        if (p.there == (all ? p.all : 0)) {
            continue;
        }
        first = MIN(first, op->started);
        add_line(lines, op->started,
                 g_strdup_printf("    disk %u-%u: %s: %u of %u changed sectors "
                                 "there", op->started, op->ended, what,
                                 p.there, p.all));
    }
    for (guint i = 0; i < run->log->len; i++) {
        const DiskOp *op = run->log->pdata[i];

        if (op->kind != DISK_FLUSH || op->started > epoch->end) {
            continue;
        }
        if (op->started > first) {
            add_line(lines, op->started,
                     g_strdup_printf("    disk %u-%u: flush", op->started,
                                     op->ended));
        } else if (op->ended <= epoch->end) {
            last_flush = op->started;
        }
    }
    if (last_flush) {
        add_line(lines, last_flush,
                 g_strdup_printf("    disk %u: flush, the last one that ended "
                                 "before", last_flush));
    }
}

/* When the guest's last flush began that had ended. */
static CrashTime last_guest_flush(const Run *run, const Epoch *epoch)
{
    CrashTime since = 0;

    for (guint i = 0; i < run->guest->ops->len; i++) {
        const GuestOp *op = run->guest->ops->pdata[i];

        if ((op->kind == GUEST_FLUSH || op->kind == GUEST_CLOSE) &&
            !op->failed && op->ended <= epoch->end) {
            since = MAX(since, op->started);
        }
    }
    return since;
}

/* From the guest's last flush on, in order. */
static char *tell_log(const Run *run, const Epoch *epoch, const CrashState *s,
                      bool all)
{
    g_autoptr(GArray) lines = g_array_new(false, false, sizeof(Line));
    GString *str = g_string_new(NULL);
    CrashTime since = last_guest_flush(run, epoch);

    for (guint i = 0; i < run->guest->ops->len; i++) {
        const GuestOp *op = run->guest->ops->pdata[i];
        g_autofree char *what = guest_op_describe(op);

        if (op->started > epoch->end || op->ended < since) {
            continue;
        }
        add_line(lines, op->started,
                 op->ended > epoch->end
                     ? g_strdup_printf("guest %u-: %s", op->started, what)
                     : g_strdup_printf("guest %u-%u: %s", op->started,
                                       op->ended, what));
    }
    add_disk_lines(lines, run, epoch, s, all);
    g_array_sort(lines, compare_lines);
    for (guint i = 0; i < lines->len; i++) {
        char *text = g_array_index(lines, Line, i).text;

        g_string_append_printf(str, "  %s\n", text);
        g_free(text);
    }
    g_string_append_printf(str, "  %u: power cut\n", epoch->end);
    return g_string_free(str, false);
}

/* --- saving --- */

static GKeyFile *key_file(const Run *run, const Epoch *epoch,
                          const CrashState *s, bool go_on)
{
    GKeyFile *k = g_key_file_new();
    g_autoptr(GString) versions = g_string_new(NULL);

    g_key_file_set_string(k, GROUP, "workload", run->w->name);
    g_key_file_set_integer(k, GROUP, "version", run->g.version);
    g_key_file_set_integer(k, GROUP, "cluster-bits", run->g.cluster_bits);
    g_key_file_set_integer(k, GROUP, "refcount-bits", run->g.refcount_bits);
    g_key_file_set_boolean(k, GROUP, "extended-l2", run->g.extended_l2);
    g_key_file_set_uint64(k, GROUP, "seed", run->seed);
    g_key_file_set_integer(k, GROUP, "epoch", epoch->index);
    g_key_file_set_integer(k, GROUP, "size", s->size);
    g_key_file_set_boolean(k, GROUP, "go-on", go_on);
    for (guint i = 0; i < s->versions->len; i++) {
        g_string_append_printf(versions, "%02x", s->versions->data[i]);
    }
    g_key_file_set_string(k, GROUP, "versions", versions->str);
    return k;
}

static void save_file(const char *path, const void *data, gssize size)
{
    GError *err = NULL;

    if (!g_file_set_contents(path, data, size, &err)) {
        fprintf(stderr, "Could not save '%s': %s\n", path, err->message);
        g_error_free(err);
    }
}

/* Returns the name of the text file; caller frees. */
static char *save(const Run *run, const Epoch *epoch, const CrashState *s,
                  bool go_on, const char *dir, const char *text)
{
    g_autofree char *stem = g_strdup_printf("%s/crash-%s-%08x", dir,
                                            run->w->name, run->seed);
    g_autofree char *image = g_strconcat(stem, ".qcow2", NULL);
    g_autofree char *base = g_strconcat(stem, ".base", NULL);
    g_autoptr(GKeyFile) k = key_file(run, epoch, s, go_on);
    g_autofree char *keys = NULL;
    g_autofree char *all = NULL;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *comment = g_strjoinv("\n# ", lines);
    int64_t size;
    g_autofree uint8_t *data = crash_state_build(epoch, s, &size);

    save_file(image, data, size);
    if (run->base) {
        save_file(base, run->base->data, run->base->size);
    }
    keys = g_key_file_to_data(k, NULL, NULL);
    all = g_strdup_printf("# %s\n%s", comment, keys);
    save_file(stem, all, -1);
    return g_steal_pointer(&stem);
}

char *failure_report(Run *run, const Epoch *epoch, const CrashState *state,
                     bool go_on, const char *dir)
{
    CrashState *s = crash_state_new(epoch);
    g_autofree char *geometry = geometry_describe(&run->g);
    g_autofree char *log = NULL;
    g_autofree char *wrong = NULL;
    g_autofree char *path = NULL;
    g_autofree char *text = NULL;
    char *full;
    bool all = simplest(run, epoch, state, &go_on, s);
    unsigned n = distance(epoch, s, all);
    int64_t size;

    wrong = judge_state(run, epoch, s, go_on);
    size = crash_state_size(epoch, s);
    log = tell_log(run, epoch, s, all);
    text = g_strdup_printf(
        "%s\nimage: %s%s%s\n"
        "the file has %" PRId64 " bytes; of what was not durable %s %u "
        "sectors are there:\n%s", wrong, geometry,
        run->base ? ", backing file" : "", run->options, size,
        all ? "all but" : "only", n, log);
    path = dir ? save(run, epoch, s, go_on, dir, text) : NULL;
    crash_state_free(s);
    if (!path) {
        return g_steal_pointer(&text);
    }
    full = g_strdup_printf("%simage saved as %s.qcow2; replay with: "
                           "explore --replay %s", text, path, path);
    return full;
}

/* --- replaying --- */

static const Workload *find_workload(const char *name)
{
    for (const Workload *w = workloads; name && w->name; w++) {
        if (!strcmp(w->name, name)) {
            return w;
        }
    }
    return NULL;
}

/* The versions of @state from the file; false if they do not fit. */
static bool load_state(GKeyFile *k, const Epoch *epoch, CrashState *s)
{
    g_autofree char *hex = g_key_file_get_string(k, GROUP, "versions", NULL);
    int size = g_key_file_get_integer(k, GROUP, "size", NULL);

    if (!hex || strlen(hex) != 2 * s->versions->len || size < 0 ||
        size >= (int)epoch->sizes->len) {
        return false;
    }
    for (guint i = 0; i < s->versions->len; i++) {
        int v = g_ascii_xdigit_value(hex[2 * i]) * 16 +
                g_ascii_xdigit_value(hex[2 * i + 1]);

        if (v < 0 || v > (int)changed(epoch, i)->n) {
            return false;
        }
        s->versions->data[i] = v;
    }
    s->size = size;
    return true;
}

static int replay_state(Run *run, const Epoch *epoch, GKeyFile *k)
{
    CrashState *s = crash_state_new(epoch);
    g_autofree char *wrong = NULL;
    g_autofree char *log = NULL;

    if (!load_state(k, epoch, s)) {
        fprintf(stderr, "The program writes something else than when the "
                "state was saved\n");
        crash_state_free(s);
        return 2;
    }
    guest_walk_to(run->guest, epoch->end);
    wrong = judge_state(run, epoch, s,
                        g_key_file_get_boolean(k, GROUP, "go-on", NULL));
    log = tell_log(run, epoch, s, distance(epoch, s, true) <
                                  distance(epoch, s, false));
    printf("%s%s\n", log, wrong ?: "This state is fine");
    crash_state_free(s);
    return wrong ? 1 : 0;
}

int failure_replay(const char *path)
{
    g_autoptr(GKeyFile) k = g_key_file_new();
    g_autofree char *name = NULL;
    GError *err = NULL;
    const Workload *w;
    const Epoch *epoch;
    Epochs *epochs;
    Geometry g;
    Run *run;
    int status = 2;

    if (!g_key_file_load_from_file(k, path, 0, &err)) {
        fprintf(stderr, "Could not load '%s': %s\n", path, err->message);
        return 2;
    }
    name = g_key_file_get_string(k, GROUP, "workload", NULL);
    w = find_workload(name);
    g = (Geometry) {
        .version = g_key_file_get_integer(k, GROUP, "version", NULL),
        .cluster_bits = g_key_file_get_integer(k, GROUP, "cluster-bits", NULL),
        .refcount_bits = g_key_file_get_integer(k, GROUP, "refcount-bits",
                                                NULL),
        .extended_l2 = g_key_file_get_boolean(k, GROUP, "extended-l2", NULL),
    };
    if (!w || g.cluster_bits < 9 || g.cluster_bits > 16) {
        fprintf(stderr, "'%s' is not a saved state\n", path);
        return 2;
    }
    run = run_new(w, &g, g_key_file_get_uint64(k, GROUP, "seed", NULL));
    run_record(run, &error_abort);
    epochs = epochs_new(run->start, run->start_size, run->log, run->clock);
    while ((epoch = epochs_next(epochs))) {
        if ((int)epoch->index ==
            g_key_file_get_integer(k, GROUP, "epoch", NULL)) {
            status = replay_state(run, epoch, k);
            break;
        }
    }
    epochs_free(epochs);
    run_free(run);
    return status;
}
