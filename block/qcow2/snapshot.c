/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot table: read at open, so that refcounts, overlap checks and
 * listings know what snapshots own.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/error.h"
#include "block/qcow2/qcow2.h"

void qcow2_free_snapshots(BDRVQcow2State *s)
{
    for (uint32_t i = 0; s->snapshots && i < s->nb_snapshots; i++) {
        g_free(s->snapshots[i].id_str);
        g_free(s->snapshots[i].name);
        g_free(s->snapshots[i].unknown_extra_data);
    }
    g_clear_pointer(&s->snapshots, g_free);
}

/* The fixed part and the extra data that we know. */
static void set_fields(const BDRVQcow2State *s, QCowSnapshot *sn,
                       const QCowSnapshotHeader *h,
                       const QCowSnapshotExtraData *extra)
{
    sn->l1_table_offset = be64_to_cpu(h->l1_table_offset);
    sn->l1_size = be32_to_cpu(h->l1_size);
    sn->date_sec = be32_to_cpu(h->date_sec);
    sn->date_nsec = be32_to_cpu(h->date_nsec);
    sn->vm_clock_nsec = be64_to_cpu(h->vm_clock_nsec);
    sn->vm_state_size = be32_to_cpu(h->vm_state_size);
    sn->extra_data_size = be32_to_cpu(h->extra_data_size);

    if (sn->extra_data_size >= endof(QCowSnapshotExtraData,
                                     vm_state_size_large)) {
        sn->vm_state_size = be64_to_cpu(extra->vm_state_size_large);
    }
    sn->disk_size = sn->extra_data_size >= endof(QCowSnapshotExtraData,
                                                 disk_size)
                        ? be64_to_cpu(extra->disk_size) : s->disk_size;
    sn->icount = sn->extra_data_size >= endof(QCowSnapshotExtraData, icount)
                     ? be64_to_cpu(extra->icount) : UINT64_MAX;
}

/*
 * Reads @len bytes at *@pos of the table and moves on. A table that is cut off
 * is for the check only, which counts what is not there as corruption.
 */
static int coroutine_fn read_piece(BlockDriverState *bs, uint64_t *pos,
                                   void *buf, uint32_t len, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    if (*pos + len > QCOW_MAX_SNAPSHOTS_SIZE) {
        error_setg(errp, "Snapshot table too large");
        return -EFBIG;
    }
    if (!(bs->open_flags & BDRV_O_CHECK) &&
        !qcow2_table_is_in_file(bs, s->snapshots_offset + *pos, len)) {
        error_setg(errp, "Snapshot table exceeds the end of the file");
        return -EINVAL;
    }
    ret = len ? bdrv_co_pread(bs->file, s->snapshots_offset + *pos, len, buf,
                              0) : 0;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read snapshots");
        return ret;
    }
    *pos += len;
    return 0;
}

static int coroutine_fn read_one(BlockDriverState *bs, QCowSnapshot *sn,
                                 uint64_t *pos, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    QCowSnapshotExtraData extra = { 0 };
    QCowSnapshotHeader h;
    uint32_t known, id_size, name_size;
    int ret;

    *pos = ROUND_UP(*pos, 8);
    ret = read_piece(bs, pos, &h, sizeof(h), errp);
    if (ret < 0) {
        return ret;
    }
    if (be32_to_cpu(h.extra_data_size) > QCOW_MAX_SNAPSHOT_EXTRA_DATA) {
        error_setg(errp, "Too much extra data in a snapshot table entry");
        return -EFBIG;
    }
    known = MIN(be32_to_cpu(h.extra_data_size), (uint32_t)sizeof(extra));
    ret = read_piece(bs, pos, &extra, known, errp);
    if (ret < 0) {
        return ret;
    }
    set_fields(s, sn, &h, &extra);
    if (sn->extra_data_size > known) {
        sn->unknown_extra_data = g_malloc(sn->extra_data_size - known);
        ret = read_piece(bs, pos, sn->unknown_extra_data,
                         sn->extra_data_size - known, errp);
        if (ret < 0) {
            return ret;
        }
    }
    id_size = be16_to_cpu(h.id_str_size);
    name_size = be16_to_cpu(h.name_size);
    sn->id_str = g_malloc0(id_size + 1);
    sn->name = g_malloc0(name_size + 1);
    ret = read_piece(bs, pos, sn->id_str, id_size, errp);
    return ret < 0 ? ret : read_piece(bs, pos, sn->name, name_size, errp);
}

int coroutine_fn qcow2_read_snapshots(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t pos = 0;

    s->snapshots_size = 0;
    if (!s->nb_snapshots) {
        s->snapshots_offset = 0;
        return 0;
    }
    s->snapshots = g_try_new0(QCowSnapshot, s->nb_snapshots);
    if (!s->snapshots) {
        error_setg(errp, "Could not allocate memory for the snapshot table");
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < s->nb_snapshots; i++) {
        int ret = read_one(bs, &s->snapshots[i], &pos, errp);

        if (ret < 0) {
            qcow2_free_snapshots(s);
            return ret;
        }
    }
    s->snapshots_size = pos;
    return 0;
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
