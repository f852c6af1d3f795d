/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the active L1 table and the snapshot table together.
 *
 * Taking, applying and deleting a snapshot each change the references to
 * clusters all over the image, and with them COPIED flags in L2 tables that
 * are in use. Nothing of this is done in place. A plan (refplan.c) collects
 * the refcounts; L2 tables whose flags change, the L1 table and the snapshot
 * table get new places; one write of the header makes it all true. A failure,
 * or a power cut, before that leaves the image exactly as it was, and after it
 * there is nothing left to do.
 *
 * COPIED flags are exact in tables that the active L1 table leads to, and mean
 * nothing in those that only snapshots use. So a snapshot simply keeps the
 * tables that were in use, flags and all.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/error.h"
#include "util/memalign.h"
#include "block/qcow2/snapshot-switch.h"
#include "block/qcow2/snapshot.h"

/* --- L1 tables --- */

int coroutine_fn qcow2_snapshot_read_l1(BlockDriverState *bs,
                                        const QCowSnapshot *sn,
                                        Qcow2Table *l1, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint32_t size = MAX((uint64_t)sn->l1_size, size_to_l1(s, sn->disk_size));
    Qcow2Table t;
    int ret;

    if (sn->disk_size > BDRV_MAX_LENGTH ||
        size_to_l1(s, sn->disk_size) > QCOW_MAX_L1_SIZE / L1E_SIZE) {
        error_setg(errp, "Disk size of snapshot '%s' (%s) is too big",
                   sn->name, sn->id_str);
        return -EFBIG;
    }
    ret = qcow2_check_snapshot_l1(bs, sn, errp);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_table_init(l1, size, 0);
    if (ret < 0) {
        error_setg(errp, "Could not allocate L1 table");
        return ret;
    }
    t = (Qcow2Table) {
        .entries = l1->entries, .size = sn->l1_size,
        .offset = sn->l1_table_offset,
    };
    ret = qcow2_table_read(bs, &t);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the L1 table of snapshot "
                         "'%s' (%s)", sn->name, sn->id_str);
        qcow2_table_free(l1);
    }
    return ret;
}

/* --- L2 tables --- */

/* Reads the table that an L1 entry names into sw->l2; it must be one. */
static int coroutine_fn read_l2(Qcow2Switch *sw, uint64_t l1_entry,
                                Error **errp)
{
    BlockDriverState *bs = sw->bs;
    BDRVQcow2State *s = bs->opaque;
    uint64_t offset = l1_entry & L1E_OFFSET_MASK;
    int ret;

    if (offset_into_cluster(s, offset) ||
        !qcow2_table_is_in_file(bs, offset, s->cluster_size)) {
        error_setg(errp, "L2 table offset %#" PRIx64 " is invalid", offset);
        return -EIO;
    }
    ret = bdrv_co_pread(bs->file, offset, s->cluster_size, sw->l2, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the L2 table at %#"
                         PRIx64, offset);
    }
    return ret;
}

static int coroutine_fn add_refs(Qcow2Switch *sw, uint64_t offset,
                                 uint64_t bytes, int delta, Error **errp)
{
    int ret = qcow2_refplan_add(sw->plan, offset, bytes, delta);

    if (ret == -ERANGE) {
        const BDRVQcow2State *s = sw->bs->opaque;

        error_setg(errp, "A refcount of %d bits cannot count another "
                   "reference to the cluster at %#" PRIx64, s->refcount_bits,
                   offset);
    } else if (ret == -EIO) {
        error_setg(errp, "The cluster at %#" PRIx64 " is referred to, but its "
                   "refcount is 0", offset);
    } else if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not change the refcount of the "
                         "cluster at %#" PRIx64, offset);
    }
    return ret;
}

/* What the L2 entry @index of sw->l2 refers to: *@bytes 0 for nothing. */
static int entry_extent(Qcow2Switch *sw, int index, uint64_t *offset,
                        uint64_t *bytes, Error **errp)
{
    const BDRVQcow2State *s = sw->bs->opaque;
    uint64_t entry = get_l2_entry(s, sw->l2, index);
    int csize;

    *offset = entry & L2E_OFFSET_MASK;
    *bytes = 0;
    switch (qcow2_get_cluster_type(s, entry)) {
    case QCOW2_CLUSTER_COMPRESSED:
        qcow2_parse_compressed_l2_entry(s, entry, offset, &csize);
        *bytes = csize;
        return 0;
    case QCOW2_CLUSTER_NORMAL:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        if (offset_into_cluster(s, *offset)) {
            error_setg(errp, "Data cluster offset %#" PRIx64 " is invalid",
                       *offset);
            return -EIO;
        }
        *bytes = s->cluster_size;
        return 0;
    default:
        return 0;
    }
}

static int coroutine_fn add_l2_entries(Qcow2Switch *sw, int delta,
                                       Error **errp)
{
    const BDRVQcow2State *s = sw->bs->opaque;

    for (int i = 0; i < s->l2_size; i++) {
        uint64_t offset, bytes;
        int ret;

        if (!get_l2_entry(s, sw->l2, i)) {
            continue;
        }
        ret = entry_extent(sw, i, &offset, &bytes, errp);
        if (ret == 0) {
            ret = add_refs(sw, offset, bytes, delta, errp);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int coroutine_fn qcow2_switch_add_tree(Qcow2Switch *sw, const uint64_t *entries,
                                       uint32_t n, int delta, Error **errp)
{
    const BDRVQcow2State *s = sw->bs->opaque;

    for (uint32_t i = 0; i < n; i++) {
        int ret;

        if (!(entries[i] & L1E_OFFSET_MASK)) {
            continue;
        }
        ret = read_l2(sw, entries[i], errp);
        if (ret == 0) {
            ret = add_refs(sw, entries[i] & L1E_OFFSET_MASK, s->cluster_size,
                           delta, errp);
        }
        if (ret == 0) {
            ret = add_l2_entries(sw, delta, errp);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* --- COPIED flags --- */

/* Makes the flags in sw->l2 what the plan says; sets whether any changed. */
static int coroutine_fn set_l2_flags(Qcow2Switch *sw, bool *changed,
                                     Error **errp)
{
    BDRVQcow2State *s = sw->bs->opaque;

    *changed = false;
    for (int i = 0; i < s->l2_size; i++) {
        uint64_t entry = get_l2_entry(s, sw->l2, i);
        QCow2ClusterType type = qcow2_get_cluster_type(s, entry);
        uint64_t refcount;
        int ret;

        if (type != QCOW2_CLUSTER_NORMAL && type != QCOW2_CLUSTER_ZERO_ALLOC) {
            continue;
        }
        ret = qcow2_refplan_get(sw->plan, (entry & L2E_OFFSET_MASK) >>
                                              s->cluster_bits, &refcount);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not get a refcount");
            return ret;
        }
        if ((refcount == 1) != !!(entry & QCOW_OFLAG_COPIED)) {
            set_l2_entry(s, sw->l2, i, entry ^ QCOW_OFLAG_COPIED);
            *changed = true;
        }
    }
    return 0;
}

/* Writes sw->l2 at a new place, which the active L1 entry *@entry then names
 * instead of its old one. */
static int coroutine_fn move_l2(Qcow2Switch *sw, uint64_t *entry, Error **errp)
{
    BDRVQcow2State *s = sw->bs->opaque;
    int64_t offset = qcow2_refplan_alloc(sw->plan, 1);
    int ret = MIN(offset, 0);

    if (ret == 0) {
        BLKDBG_EVENT(sw->bs->file, BLKDBG_L2_ALLOC_WRITE);
        ret = bdrv_co_pwrite(sw->bs->file, offset, s->cluster_size, sw->l2, 0);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write an L2 table");
        return ret;
    }
    ret = add_refs(sw, *entry & L1E_OFFSET_MASK, s->cluster_size, -1, errp);
    *entry = offset;
    return ret;
}

/* All references are counted: gives the active tables the right flags. */
static int coroutine_fn set_flags(Qcow2Switch *sw, Error **errp)
{
    BDRVQcow2State *s = sw->bs->opaque;
    bool changed;
    int ret;

    for (uint32_t i = 0; i < sw->l1.size; i++) {
        uint64_t *entry = &sw->l1.entries[i];

        if (!(*entry & L1E_OFFSET_MASK)) {
            continue;
        }
        ret = read_l2(sw, *entry, errp);
        if (ret == 0) {
            ret = set_l2_flags(sw, &changed, errp);
        }
        if (ret == 0 && changed) {
            ret = move_l2(sw, entry, errp);
        }
        if (ret < 0) {
            return ret;
        }
    }
    /* A table that was left may be another one's now: after all of them. */
    for (uint32_t i = 0; i < sw->l1.size; i++) {
        uint64_t offset = sw->l1.entries[i] & L1E_OFFSET_MASK;
        uint64_t refcount;

        if (!offset) {
            continue;
        }
        ret = qcow2_refplan_get(sw->plan, offset >> s->cluster_bits,
                                &refcount);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not get a refcount");
            return ret;
        }
        sw->l1.entries[i] = offset | (refcount == 1 ? QCOW_OFLAG_COPIED : 0);
    }
    return 0;
}

/* --- the new tables --- */

/* A new place for the L1 table, unless it can stay where it is. */
static int coroutine_fn write_l1(Qcow2Switch *sw, Error **errp)
{
    BDRVQcow2State *s = sw->bs->opaque;
    uint64_t bytes = sw->l1.size * L1E_SIZE;
    int64_t offset;
    int ret = 0;

    if (sw->keep_l1 && sw->l1.size == s->l1.size &&
        !memcmp(sw->l1.entries, s->l1.entries, bytes)) {
        sw->l1.offset = s->l1.offset;
        return 0;
    }
    if (sw->keep_l1) {
        ret = add_refs(sw, s->l1.offset, s->l1.size * L1E_SIZE, -1, errp);
    }
    if (ret < 0 || !bytes) {
        return ret;
    }
    offset = qcow2_refplan_alloc(sw->plan, size_to_clusters(s, bytes));
    if (offset > 0) {
        sw->l1.offset = offset;
        qcow2_table_mark_all(&sw->l1);
        BLKDBG_EVENT(sw->bs->file, BLKDBG_L1_GROW_WRITE_TABLE);
        ret = qcow2_table_write(sw->bs, &sw->l1, 0);
    } else {
        ret = offset;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the L1 table");
    }
    return ret;
}

/* A guard for the new L1 table. Its place is free before and after. */
static int coroutine_fn write_guard(Qcow2Switch *sw, Error **errp)
{
    BDRVQcow2State *s = sw->bs->opaque;
    int64_t cluster;
    int ret;

    if (s->guard.state != QCOW2_GUARD_ON ||
        (sw->l1.offset == s->l1.offset && sw->l1.size == s->l1.size)) {
        return 0;
    }
    cluster = qcow2_refplan_find(sw->plan, qcow2_guard_clusters(s,
                                                                sw->l1.size));
    ret = cluster < 0 ? cluster
                      : qcow2_guard_move_begin(sw->bs, &sw->guard,
                                               cluster << s->cluster_bits,
                                               &sw->l1, sw->disk_size);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the L1 guard");
    }
    return ret;
}

static int coroutine_fn write_snapshot_table(Qcow2Switch *sw, Error **errp)
{
    BDRVQcow2State *s = sw->bs->opaque;
    QEMU_AUTO_VFREE void *buf = NULL;
    int64_t offset;
    int ret;

    ret = add_refs(sw, s->snapshots_offset, s->snapshots_size, -1, errp);
    if (ret < 0 || !sw->nb_snapshots) {
        return ret;
    }
    ret = qcow2_snapshot_table_build(sw->bs, sw->snapshots, sw->nb_snapshots,
                                     &buf, &sw->snapshots_size, errp);
    if (ret < 0) {
        return ret;
    }
    offset = qcow2_refplan_alloc(sw->plan,
                                 size_to_clusters(s, sw->snapshots_size));
    ret = offset < 0 ? offset
                     : bdrv_co_pwrite(sw->bs->file, offset, sw->snapshots_size,
                                      buf, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the snapshot table");
        return ret;
    }
    sw->snapshots_offset = offset;
    return 0;
}

/* --- life --- */

int coroutine_fn qcow2_switch_begin(BlockDriverState *bs, Qcow2Switch *sw,
                                    Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    *sw = (Qcow2Switch) { .bs = bs, .disk_size = s->disk_size };
    if (s->has_data_file) {
        error_setg(errp, "Images with an external data file have no internal "
                   "snapshots");
        return -ENOTSUP;
    }
    ret = qcow2_check_not_stopped(bs, errp);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_begin_change(bs);
    if (ret == 0) {
        ret = qcow2_flush_all_metadata(bs);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush the metadata");
        return ret;
    }
    sw->l2 = qemu_try_blockalign(bs->file->bs, s->cluster_size);
    if (!sw->l2) {
        error_setg(errp, "Could not allocate an L2 table");
        return -ENOMEM;
    }
    sw->plan = qcow2_refplan_new(bs);
    return 0;
}

void qcow2_switch_end(Qcow2Switch *sw)
{
    if (sw->guard.to.state == QCOW2_GUARD_ON) {
        qcow2_guard_move_abort(sw->bs, &sw->guard);
    }
    qcow2_refplan_free(sw->plan);
    qemu_vfree(sw->l2);
    qcow2_table_free(&sw->l1);
}

/* The state in memory follows the header; cannot fail. */
static void switch_memory(Qcow2Switch *sw)
{
    BDRVQcow2State *s = sw->bs->opaque;

    qcow2_refplan_commit(sw->plan);
    qcow2_guard_move_commit(sw->bs, &sw->guard);
    qcow2_l1_replace(sw->bs, &sw->l1);
    s->snapshots_offset = sw->snapshots_offset;
    s->snapshots_size = sw->snapshots_size;
    s->snapshots = sw->snapshots;
    s->nb_snapshots = sw->nb_snapshots;
    s->l1_vm_state_index = size_to_l1(s, sw->disk_size);
    qatomic_set(&s->disk_size, sw->disk_size);
}

int coroutine_fn qcow2_switch_finish(Qcow2Switch *sw, Error **errp)
{
    BlockDriverState *bs = sw->bs;
    BDRVQcow2State *s = bs->opaque;
    Qcow2HeaderTables h = {
        .disk_size = sw->disk_size, .l1_size = sw->l1.size,
        .nb_snapshots = sw->nb_snapshots,
    };
    int ret;

    ret = set_flags(sw, errp);
    if (ret < 0 || (ret = write_l1(sw, errp)) < 0 ||
        (ret = write_guard(sw, errp)) < 0 ||
        (ret = write_snapshot_table(sw, errp)) < 0) {
        return ret;
    }
    ret = qcow2_refplan_write(sw->plan);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the refcounts");
        return ret;
    }
    h.l1_offset = sw->l1.offset;
    h.guard_offset = sw->guard.to.place.offset;
    h.snapshots_offset = sw->snapshots_offset;
    qcow2_refplan_table(sw->plan, &h.reftable_offset, &h.reftable_clusters);

    ret = qcow2_flush_before_switch(bs);
    if (ret == 0) {
        BLKDBG_EVENT(bs->file, BLKDBG_L1_GROW_ACTIVATE_TABLE);
        ret = qcow2_header_write_tables(bs, &h);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the header");
        return ret;
    }
    switch_memory(sw);
    if (s->discard_passthrough[QCOW2_DISCARD_SNAPSHOT]) {
        qcow2_refplan_discard_freed(sw->plan);
    }
    return 0;
}
