/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of L2 entries that refcounts allow and the disk does not.
 *
 * When two entries name the same cluster, and another is leaked, refcounts do
 * not tell which one is wrong. Snapshots do: a cluster may be shared, but only by
 * tables of the same part of the disk, and at the same place in them. A change
 * is dropped if it leaves a cluster in two places of the disk.
 *
 * The order of data in the file is no witness: parallel writes leave them in
 * any order, and a wrong change may make it look better than it ever was.
 */
#include "util/osdep.h"
#include "block/qcow2/check.h"

/* Changes that are looked at. */
#define MAX_CHANGES 16

/* A cluster, and where the disk has it with a change in its place. */
typedef struct Place {
    uint64_t host;          /* offset; 0: nothing to look at */
    uint64_t number;        /* of the guest's cluster */
    bool known;
    bool two;               /* places */
} Place;

typedef struct Context {
    Qcow2Check *c;
    const GArray *changes;  /* Qcow2CheckChange */
    Place (*places)[2];     /* of the old cluster, and the new one */
} Context;

/* Where the data of an entry are; 0 if it has none or is compressed. */
static uint64_t host_of(uint64_t entry)
{
    return entry & QCOW_OFLAG_COMPRESSED ? 0 : entry & L2E_OFFSET_MASK;
}

static void note(Place *p, uint64_t entry, uint64_t number)
{
    if (!p->host || host_of(entry) != p->host) {
        return;
    }
    p->two = p->two || (p->known && p->number != number);
    p->known = true;
    p->number = number;
}

static void look_at_entry(Context *x, const Qcow2CheckL2 *table, int i,
                          uint64_t entry)
{
    uint64_t number = ((uint64_t)table->index << x->c->s->l2_bits) + i;
    guint k;

    for (k = 0; k < x->changes->len; k++) {
        const Qcow2CheckChange *change = &g_array_index(x->changes,
                                                        Qcow2CheckChange, k);
        uint64_t value = change->table == table->read.offset &&
                         change->index == i ? change->new : entry;

        note(&x->places[k][0], value, number);
        note(&x->places[k][1], value, number);
    }
}

static void coroutine_fn look_at_table(Qcow2Check *c,
                                       const Qcow2CheckL2 *table,
                                       const uint64_t *l2, void *opaque)
{
    int i;

    for (i = 0; i < c->s->l2_size; i++) {
        uint64_t entry = get_l2_entry(c->s, l2, i);

        if (host_of(entry)) {
            look_at_entry(opaque, table, i, entry);
        }
    }
}

void coroutine_fn qcow2_check_drop_misplaced(Qcow2Check *c, GArray *changes)
{
    Place places[MAX_CHANGES][2] = { 0 };
    Context x = { .c = c, .changes = changes, .places = places };
    guint in, out = 0;

    if (changes->len > MAX_CHANGES) {
        return;
    }
    for (in = 0; in < changes->len; in++) {
        const Qcow2CheckChange *change = &g_array_index(changes,
                                                        Qcow2CheckChange, in);

        if (change->table) {
            places[in][0].host = host_of(change->old);
            places[in][1].host = host_of(change->new);
        }
    }
    /* A table that is in two places itself says nothing. */
    qcow2_check_each_l2(c, qcow2_check_l2_has_index, look_at_table, &x);
    for (in = 0; in < changes->len; in++) {
        if (!places[in][0].two && !places[in][1].two) {
            Qcow2CheckChange change = g_array_index(changes, Qcow2CheckChange,
                                                    in);

            g_array_index(changes, Qcow2CheckChange, out++) = change;
        }
    }
    g_array_set_size(changes, out);
}
