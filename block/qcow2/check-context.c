/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of several L2 entries is the damaged one, if refcounts do not tell:
 * when two name the same cluster, and another is leaked, each may be wrong.
 *
 * What is around them tells: data written at once lie in the file in the order
 * they have in the disk, and tables of the same part of the disk, in snapshots,
 * name the same clusters. A change wins if it makes an entry agree with what
 * is around it, and each other change would make one disagree.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/check.h"

/* Tables of the same part of the disk that are looked at. */
#define MAX_SIBLINGS 64

/* The entry at @index of the table at @offset; 0 if there is none. */
static uint64_t coroutine_fn read_entry(Qcow2Check *c, uint64_t offset,
                                        int64_t index)
{
    uint64_t entry;

    if (index < 0 || index >= c->s->l2_size ||
        qcow2_check_pread(c, offset + index * L2E_SIZE_NORMAL, sizeof(entry),
                          &entry) < 0) {
        return 0;
    }
    return be64_to_cpu(entry);
}

/* Where the data of an entry are; 0 if it has none or is compressed. */
static uint64_t host(uint64_t entry)
{
    return entry & QCOW_OFLAG_COMPRESSED ? 0 : entry & L2E_OFFSET_MASK;
}

static bool follows(const Qcow2Check *c, uint64_t first, uint64_t second)
{
    return host(first) && host(second) &&
           host(first) + c->s->cluster_size == host(second);
}

/* Neighbours that agree with the new value, less those with the old one. */
static int coroutine_fn gain_of_order(Qcow2Check *c,
                                      const Qcow2CheckChange *change)
{
    uint64_t before = read_entry(c, change->table, (int64_t)change->index - 1);
    uint64_t after = read_entry(c, change->table, (int64_t)change->index + 1);

    return follows(c, before, change->new) - follows(c, before, change->old) +
           follows(c, change->new, after) - follows(c, change->old, after);
}

/* The same for the entry at the same place of other tables. */
static int coroutine_fn gain_of_siblings(Qcow2Check *c,
                                         const Qcow2CheckChange *change)
{
    Qcow2CheckL2 key = { .read.offset = change->table };
    const Qcow2CheckL2 *own = bsearch(&key, c->l2_tables->data,
                                      c->l2_tables->len, sizeof(key),
                                      qcow2_check_compare_l2);
    int seen = 0, gain = 0;
    guint i;

    for (i = 0; own && i < c->l2_tables->len && seen < MAX_SIBLINGS; i++) {
        const Qcow2CheckL2 *t = &g_array_index(c->l2_tables, Qcow2CheckL2, i);
        uint64_t entry;

        if (t == own || !t->one_index || t->index != own->index) {
            continue;
        }
        entry = read_entry(c, t->read.offset, change->index);
        seen++;
        if (host(entry)) {
            gain += (host(entry) == host(change->new)) -
                    (host(entry) == host(change->old));
        }
    }
    return gain;
}

int coroutine_fn qcow2_check_best_in_context(Qcow2Check *c,
                                             const GArray *changes)
{
    int best = -1, best_gain = 0, second_gain = INT_MIN;
    guint i;

    for (i = 0; i < changes->len; i++) {
        const Qcow2CheckChange *change = &g_array_index(changes,
                                                        Qcow2CheckChange, i);
        /* Nothing is known of what is around other fields. */
        int gain = change->table ? gain_of_order(c, change) +
                                   gain_of_siblings(c, change) : 0;

        if (best < 0 || gain > best_gain) {
            second_gain = best < 0 ? INT_MIN : best_gain;
            best = i;
            best_gain = gain;
        } else {
            second_gain = MAX(second_gain, gain);
        }
    }
    return best_gain > 0 && second_gain < 0 ? best : -1;
}
