/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot table: read at open, so that refcounts, overlap checks and
 * listings know what snapshots own; and written anew, as a whole, when a
 * snapshot comes or goes.
 *
 * Entries are written as they were read, with all their extra data, whoever
 * made them. Only what version 3 demands and an entry lacks is added.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/error.h"
#include "util/memalign.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/snapshot.h"

/* --- reading --- */

void qcow2_snapshot_clear(QCowSnapshot *sn)
{
    g_clear_pointer(&sn->id_str, g_free);
    g_clear_pointer(&sn->name, g_free);
    g_clear_pointer(&sn->extra_data, g_free);
}

void qcow2_free_snapshots(BDRVQcow2State *s)
{
    for (uint32_t i = 0; s->snapshots && i < s->nb_snapshots; i++) {
        qcow2_snapshot_clear(&s->snapshots[i]);
    }
    g_clear_pointer(&s->snapshots, g_free);
}

char *qcow2_snapshot_new_id(const BDRVQcow2State *s)
{
    unsigned long max = 0;

    for (uint32_t i = 0; i < s->nb_snapshots; i++) {
        unsigned long id = strtoul(s->snapshots[i].id_str, NULL, 10);

        max = id == ULONG_MAX ? max : MAX(max, id);
    }
    return g_strdup_printf("%lu", max + 1);
}

/* The fixed part and the extra data that we know. */
static void set_fields(const BDRVQcow2State *s, QCowSnapshot *sn,
                       const QCowSnapshotHeader *h)
{
    QCowSnapshotExtraData extra = { 0 };
    uint32_t size = sn->extra_data ? sn->extra_data_size : 0;

    if (size) {
        memcpy(&extra, sn->extra_data, MIN(size, (uint32_t)sizeof(extra)));
    }
    sn->l1_table_offset = be64_to_cpu(h->l1_table_offset);
    sn->l1_size = be32_to_cpu(h->l1_size);
    sn->date_sec = be32_to_cpu(h->date_sec);
    sn->date_nsec = be32_to_cpu(h->date_nsec);
    sn->vm_clock_nsec = be64_to_cpu(h->vm_clock_nsec);
    sn->vm_state_size_32 = be32_to_cpu(h->vm_state_size);
    sn->vm_state_size = sn->vm_state_size_32;
    sn->id_size = be16_to_cpu(h->id_str_size);
    sn->name_size = be16_to_cpu(h->name_size);

    if (size >= endof(QCowSnapshotExtraData, vm_state_size_large)) {
        sn->vm_state_size = be64_to_cpu(extra.vm_state_size_large);
    }
    sn->disk_size = size >= endof(QCowSnapshotExtraData, disk_size)
                        ? be64_to_cpu(extra.disk_size) : s->disk_size;
    sn->icount = size >= endof(QCowSnapshotExtraData, icount)
                     ? be64_to_cpu(extra.icount) : UINT64_MAX;
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
    qcow2_patch_read(s, s->snapshots_offset + *pos, len, buf);
    *pos += len;
    return 0;
}

static int coroutine_fn read_one(BlockDriverState *bs, QCowSnapshot *sn,
                                 uint64_t *pos, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    QCowSnapshotHeader h;
    int ret;

    *pos = ROUND_UP(*pos, 8);
    ret = read_piece(bs, pos, &h, sizeof(h), errp);
    if (ret < 0) {
        return ret;
    }
    sn->extra_data_size = be32_to_cpu(h.extra_data_size);
    if (!qcow2_snapshot_extra_is_bad(sn)) {
        sn->extra_data = g_malloc0(sn->extra_data_size);
        ret = read_piece(bs, pos, sn->extra_data, sn->extra_data_size, errp);
        if (ret < 0) {
            return ret;
        }
    } else if (!(bs->open_flags & BDRV_O_CHECK)) {
        error_setg(errp, "Too much extra data in a snapshot table entry");
        return -EFBIG;
    }
    set_fields(s, sn, &h);
    sn->id_str = g_malloc0(sn->id_size + 1);
    sn->name = g_malloc0(sn->name_size + 1);
    ret = read_piece(bs, pos, sn->id_str, sn->id_size, errp);
    return ret < 0 ? ret : read_piece(bs, pos, sn->name, sn->name_size, errp);
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

int coroutine_fn qcow2_check_snapshot_l1(BlockDriverState *bs,
                                         const QCowSnapshot *sn, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    const char *fault = NULL;

    if (sn->l1_size > QCOW_MAX_L1_SIZE / L1E_SIZE) {
        fault = "is too large";
    } else if (sn->l1_size &&
               (offset_into_cluster(s, sn->l1_table_offset) ||
                !sn->l1_table_offset ||
                sn->l1_table_offset >= QCOW_MAX_HOST_OFFSET)) {
        fault = "has an invalid offset";
    } else if (sn->l1_size &&
               !qcow2_table_is_in_file(bs, sn->l1_table_offset,
                                       (uint64_t)sn->l1_size * L1E_SIZE)) {
        fault = "exceeds the end of the file";
    }
    if (!fault) {
        return 0;
    }
    error_setg(errp, "L1 table of snapshot '%s' (%s) %s: offset %#" PRIx64
               ", %" PRIu32 " entries", sn->name, sn->id_str, fault,
               sn->l1_table_offset, sn->l1_size);
    return -EINVAL;
}

/* --- writing --- */

/* Version 3 wants the size of the disk in every entry. */
static uint32_t written_extra_size(const BDRVQcow2State *s,
                                   const QCowSnapshot *sn)
{
    uint32_t wanted = endof(QCowSnapshotExtraData, disk_size);

    return s->qcow_version < 3 ? sn->extra_data_size
                               : MAX(sn->extra_data_size, wanted);
}

static size_t entry_size(const BDRVQcow2State *s, const QCowSnapshot *sn)
{
    return sizeof(QCowSnapshotHeader) + written_extra_size(s, sn) +
           sn->id_size + sn->name_size;
}

static void put_extra(const BDRVQcow2State *s, const QCowSnapshot *sn,
                      uint8_t *p)
{
    QCowSnapshotExtraData extra = {
        .vm_state_size_large = cpu_to_be64(sn->vm_state_size),
        .disk_size = cpu_to_be64(sn->disk_size),
    };
    uint32_t size = written_extra_size(s, sn);

    if (size > sn->extra_data_size) {
        memcpy(p, &extra, size);
    }
    if (sn->extra_data_size) {
        memcpy(p, sn->extra_data, sn->extra_data_size);
    }
}

static void put_entry(const BDRVQcow2State *s, const QCowSnapshot *sn,
                      uint8_t *p)
{
    uint32_t extra_size = written_extra_size(s, sn);
    QCowSnapshotHeader h = {
        .l1_table_offset = cpu_to_be64(sn->l1_table_offset),
        .l1_size = cpu_to_be32(sn->l1_size),
        .id_str_size = cpu_to_be16(sn->id_size),
        .name_size = cpu_to_be16(sn->name_size),
        .date_sec = cpu_to_be32(sn->date_sec),
        .date_nsec = cpu_to_be32(sn->date_nsec),
        .vm_clock_nsec = cpu_to_be64(sn->vm_clock_nsec),
        .vm_state_size = cpu_to_be32(sn->vm_state_size_32),
        .extra_data_size = cpu_to_be32(extra_size),
    };

    memcpy(p, &h, sizeof(h));
    p += sizeof(h);
    put_extra(s, sn, p);
    memcpy(p + extra_size, sn->id_str, sn->id_size);
    memcpy(p + extra_size + sn->id_size, sn->name, sn->name_size);
}

int qcow2_snapshot_table_build(BlockDriverState *bs,
                               const QCowSnapshot *snapshots, uint32_t nb,
                               void **buf, uint64_t *size, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t pos = 0, end = 0;

    for (uint32_t i = 0; i < nb; i++) {
        end = ROUND_UP(end, 8) + entry_size(s, &snapshots[i]);
    }
    if (end > QCOW_MAX_SNAPSHOTS_SIZE) {
        error_setg(errp, "Snapshot table too large");
        return -EFBIG;
    }
    *buf = qemu_try_blockalign(bs->file->bs, end);
    if (!*buf) {
        error_setg(errp, "Could not allocate memory for the snapshot table");
        return -ENOMEM;
    }
    memset(*buf, 0, end);
    for (uint32_t i = 0; i < nb; i++) {
        pos = ROUND_UP(pos, 8);
        put_entry(s, &snapshots[i], (uint8_t *)*buf + pos);
        pos += entry_size(s, &snapshots[i]);
    }
    *size = end;
    return 0;
}
