/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking, applying, deleting and showing internal snapshots.
 *
 * What becomes of the references:
 *   create  the snapshot takes over the L1 table and all it leads to; the
 *           disk gets a new L1 table and refers to the same once more, except
 *           for the state of the machine, which belongs to the snapshot alone;
 *   goto    the disk gives up what it refers to, and refers to what the
 *           snapshot does;
 *   delete  what the snapshot refers to loses a reference.
 * snapshot-switch.c makes each true in one step.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "util/lockable.h"
#include "block/qcow2/snapshot-switch.h"
#include "block/qcow2/snapshot.h"

/* Everything here runs while the node is drained, and takes the lock. */
typedef struct SnapshotArgs {
    BlockDriverState *bs;
    QEMUSnapshotInfo *info;
    const char *id;         /* NULL: any */
    const char *name;
    Error **errp;
} SnapshotArgs;

/* --- finding --- */

/* Index of the first one with @id and @name, NULL for any; -1: none. */
static int find_snapshot(const BDRVQcow2State *s, const char *id,
                         const char *name)
{
    for (uint32_t i = 0; i < s->nb_snapshots; i++) {
        if ((!id || !strcmp(s->snapshots[i].id_str, id)) &&
            (!name || !strcmp(s->snapshots[i].name, name))) {
            return i;
        }
    }
    return -1;
}

static int find_or_error(const SnapshotArgs *a)
{
    int i = find_snapshot(a->bs->opaque, a->id, a->name);

    if (i < 0) {
        error_setg(a->errp, "Can't find snapshot");
    }
    return i;
}

SnapshotInfoList *qcow2_snapshot_list(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    SnapshotInfoList *list = NULL, **tail = &list;

    for (uint32_t i = 0; i < s->nb_snapshots; i++) {
        const QCowSnapshot *sn = &s->snapshots[i];
        SnapshotInfo *info = g_new0(SnapshotInfo, 1);

        info->id = g_strdup(sn->id_str);
        info->name = g_strdup(sn->name);
        info->vm_state_size = sn->vm_state_size;
        info->date_sec = sn->date_sec;
        info->date_nsec = sn->date_nsec;
        info->vm_clock_sec = sn->vm_clock_nsec / NANOSECONDS_PER_SECOND;
        info->vm_clock_nsec = sn->vm_clock_nsec % NANOSECONDS_PER_SECOND;
        info->has_icount = sn->icount != UINT64_MAX;
        info->icount = sn->icount;
        *tail = g_new0(SnapshotInfoList, 1);
        (*tail)->value = info;
        tail = &(*tail)->next;
    }
    return list;
}

/* --- create --- */

static void make_entry(const BDRVQcow2State *s, const QEMUSnapshotInfo *info,
                       const char *id, QCowSnapshot *sn)
{
    QCowSnapshotExtraData extra = {
        .vm_state_size_large = GUINT64_TO_BE(info->vm_state_size),
        .disk_size = GUINT64_TO_BE(s->disk_size),
        .icount = GUINT64_TO_BE(info->icount),
    };

    *sn = (QCowSnapshot) {
        .l1_table_offset = s->l1.offset,
        .l1_size = s->l1.size,
        .id_str = g_strdup(id),
        .name = g_strdup(info->name),
        .disk_size = s->disk_size,
        .vm_state_size = info->vm_state_size,
        /* Where old software looks; more than this it cannot know. */
        .vm_state_size_32 = MIN(info->vm_state_size, UINT32_MAX),
        .date_sec = info->date_sec,
        .date_nsec = info->date_nsec,
        .vm_clock_nsec = info->vm_clock_nsec,
        .icount = info->icount,
        .extra_data_size = sizeof(extra),
        .extra_data = g_memdup2(&extra, sizeof(extra)),
        .id_size = strlen(id),
        .name_size = strlen(info->name),
    };
}

/* The entries of the active table that the disk uses, in sw->l1. */
static int coroutine_fn copy_disk_entries(Qcow2Switch *sw, Error **errp)
{
    const BDRVQcow2State *s = sw->bs->opaque;
    uint32_t n = MIN(s->l1.size, (uint32_t)s->l1_vm_state_index);

    if (qcow2_table_init(&sw->l1, n, 0) < 0) {
        error_setg(errp, "Could not allocate L1 table");
        return -ENOMEM;
    }
    memcpy(sw->l1.entries, s->l1.entries, n * L1E_SIZE);
    return 0;
}

static int coroutine_fn create(Qcow2Switch *sw, const QEMUSnapshotInfo *info,
                               Error **errp)
{
    BDRVQcow2State *s = sw->bs->opaque;
    g_autofree char *id = info->id_str[0] ? g_strdup(info->id_str)
                                          : qcow2_snapshot_new_id(s);
    g_autofree QCowSnapshot *old = s->snapshots;
    QCowSnapshot *new = g_new0(QCowSnapshot, s->nb_snapshots + 1);
    int ret;

    if (s->nb_snapshots) {
        memcpy(new, old, s->nb_snapshots * sizeof(*new));
    }
    make_entry(s, info, id, &new[s->nb_snapshots]);
    sw->snapshots = new;
    sw->nb_snapshots = s->nb_snapshots + 1;
    ret = copy_disk_entries(sw, errp);
    if (ret == 0) {
        ret = qcow2_switch_add_tree(sw, sw->l1.entries, sw->l1.size, 1, errp);
    }
    if (ret == 0) {
        ret = qcow2_switch_finish(sw, errp);
    }
    if (ret < 0) {
        qcow2_snapshot_clear(&new[s->nb_snapshots]);
        g_free(new);
        g_steal_pointer(&old);
    }
    return ret;
}

static int coroutine_fn create_entry(void *opaque)
{
    SnapshotArgs *a = opaque;
    BDRVQcow2State *s = a->bs->opaque;
    Qcow2Switch sw;
    int ret;

    QEMU_LOCK_GUARD(&s->lock);
    if (s->nb_snapshots >= QCOW_MAX_SNAPSHOTS) {
        error_setg(a->errp, "The image has %u snapshots already, which is the "
                   "maximum", QCOW_MAX_SNAPSHOTS);
        return -EFBIG;
    }
    if (a->info->id_str[0] && find_snapshot(s, a->info->id_str, NULL) >= 0) {
        error_setg(a->errp, "There is a snapshot with id '%s' already",
                   a->info->id_str);
        return -EEXIST;
    }
    ret = qcow2_switch_begin(a->bs, &sw, a->errp);
    if (ret == 0) {
        ret = create(&sw, a->info, a->errp);
    }
    if (ret == 0) {
        g_strlcpy(a->info->id_str, s->snapshots[s->nb_snapshots - 1].id_str,
                  sizeof(a->info->id_str));
    }
    qcow2_switch_end(&sw);
    return ret;
}

int qcow2_snapshot_create(BlockDriverState *bs, QEMUSnapshotInfo *info,
                          Error **errp)
{
    SnapshotArgs a = { .bs = bs, .info = info, .errp = errp };

    return bdrv_run_co(create_entry, &a);
}

/* --- goto --- */

static int coroutine_fn apply(Qcow2Switch *sw, const QCowSnapshot *sn,
                              Error **errp)
{
    BDRVQcow2State *s = sw->bs->opaque;
    int ret;

    ret = qcow2_snapshot_read_l1(sw->bs, sn, &sw->l1, errp);
    if (ret < 0) {
        return ret;
    }
    sw->keep_l1 = true;
    sw->disk_size = sn->disk_size;
    sw->snapshots = s->snapshots;
    sw->nb_snapshots = s->nb_snapshots;
    /* This order: what both use never counts more than it will. */
    ret = qcow2_switch_add_tree(sw, s->l1.entries, s->l1.size, -1, errp);
    if (ret == 0) {
        ret = qcow2_switch_add_tree(sw, sw->l1.entries, sw->l1.size, 1, errp);
    }
    return ret < 0 ? ret : qcow2_switch_finish(sw, errp);
}

static int coroutine_fn goto_entry(void *opaque)
{
    SnapshotArgs *a = opaque;
    BDRVQcow2State *s = a->bs->opaque;
    Qcow2Switch sw;
    int i, ret;

    QEMU_LOCK_GUARD(&s->lock);
    i = find_snapshot(s, a->id, NULL);
    if (i < 0) {
        i = find_snapshot(s, NULL, a->id);
    }
    if (i < 0) {
        error_setg(a->errp, "Can't find snapshot");
        return -ENOENT;
    }
    ret = qcow2_switch_begin(a->bs, &sw, a->errp);
    if (ret == 0) {
        ret = apply(&sw, &s->snapshots[i], a->errp);
    }
    qcow2_switch_end(&sw);
    return ret;
}

int qcow2_snapshot_goto(BlockDriverState *bs, const char *snapshot_id,
                        Error **errp)
{
    SnapshotArgs a = { .bs = bs, .id = snapshot_id, .errp = errp };

    return bdrv_run_co(goto_entry, &a);
}

/* --- delete --- */

static int coroutine_fn drop_references(Qcow2Switch *sw,
                                        const QCowSnapshot *sn, Error **errp)
{
    BDRVQcow2State *s = sw->bs->opaque;
    Qcow2Table l1;
    int ret;

    ret = qcow2_snapshot_read_l1(sw->bs, sn, &l1, errp);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_switch_add_tree(sw, l1.entries, sn->l1_size, -1, errp);
    qcow2_table_free(&l1);
    if (ret == 0) {
        ret = qcow2_refplan_add(sw->plan, sn->l1_table_offset,
                                (uint64_t)sn->l1_size * L1E_SIZE, -1);
        if (ret < 0) {
            error_setg(errp, "Could not free the L1 table of the snapshot");
        }
    }
    if (ret < 0) {
        return ret;
    }
    /* Everything of the active table stays, whatever lies behind the disk. */
    if (qcow2_table_init(&sw->l1, s->l1.size, 0) < 0) {
        error_setg(errp, "Could not allocate L1 table");
        return -ENOMEM;
    }
    memcpy(sw->l1.entries, s->l1.entries, s->l1.size * L1E_SIZE);
    return 0;
}

static int coroutine_fn delete(Qcow2Switch *sw, uint32_t index, Error **errp)
{
    BDRVQcow2State *s = sw->bs->opaque;
    g_autofree QCowSnapshot *old = s->snapshots;
    QCowSnapshot deleted = old[index];
    QCowSnapshot *new = g_memdup2(old, s->nb_snapshots * sizeof(*new));
    int ret;

    sw->nb_snapshots = s->nb_snapshots - 1;
    memmove(new + index, new + index + 1,
            (sw->nb_snapshots - index) * sizeof(*new));
    sw->snapshots = new;
    sw->keep_l1 = true;
    ret = drop_references(sw, &deleted, errp);
    if (ret == 0) {
        ret = qcow2_switch_finish(sw, errp);
    }
    if (ret < 0) {
        g_free(new);
        g_steal_pointer(&old);
        return ret;
    }
    qcow2_snapshot_clear(&deleted);
    return 0;
}

static int coroutine_fn delete_entry(void *opaque)
{
    SnapshotArgs *a = opaque;
    BDRVQcow2State *s = a->bs->opaque;
    Qcow2Switch sw;
    int i, ret;

    QEMU_LOCK_GUARD(&s->lock);
    i = find_or_error(a);
    if (i < 0) {
        return -ENOENT;
    }
    ret = qcow2_switch_begin(a->bs, &sw, a->errp);
    if (ret == 0) {
        ret = delete(&sw, i, a->errp);
    }
    qcow2_switch_end(&sw);
    return ret;
}

int qcow2_snapshot_delete(BlockDriverState *bs, const char *snapshot_id,
                          const char *name, Error **errp)
{
    SnapshotArgs a = {
        .bs = bs, .id = snapshot_id, .name = name, .errp = errp,
    };

    return bdrv_run_co(delete_entry, &a);
}

/* --- showing one --- */

static int coroutine_fn load_tmp_entry(void *opaque)
{
    SnapshotArgs *a = opaque;
    BDRVQcow2State *s = a->bs->opaque;
    const QCowSnapshot *sn;
    Qcow2Table l1;
    int i, ret;

    QEMU_LOCK_GUARD(&s->lock);
    if (s->has_data_file) {
        error_setg(a->errp, "The data file does not keep what a snapshot "
                   "needs");
        return -ENOTSUP;
    }
    if (s->writable) {
        error_setg(a->errp, "The image is not read-only");
        return -EINVAL;
    }
    i = find_or_error(a);
    if (i < 0) {
        return -ENOENT;
    }
    sn = &s->snapshots[i];
    ret = qcow2_snapshot_read_l1(a->bs, sn, &l1, a->errp);
    if (ret < 0) {
        return ret;
    }
    l1.offset = sn->l1_table_offset;
    qcow2_l1_replace(a->bs, &l1);
    qcow2_table_free(&l1);
    s->shows_snapshot = true;
    qatomic_set(&s->disk_size, sn->disk_size);
    s->l1_vm_state_index = size_to_l1(s, sn->disk_size);
    return 0;
}

int qcow2_snapshot_load_tmp(BlockDriverState *bs, const char *snapshot_id,
                            const char *name, Error **errp)
{
    SnapshotArgs a = {
        .bs = bs, .id = snapshot_id, .name = name, .errp = errp,
    };

    return bdrv_run_co(load_tmp_entry, &a);
}
