/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Salvaging: reading tables piece by piece, and judging their entries. */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/salvage.h"

/* --- reading --- */

static bool coroutine_fn try_read(BlockDriverState *bs, uint64_t offset,
                                  uint64_t bytes, void *buf, unsigned retries)
{
    for (unsigned i = 0; i <= retries; i++) {
        if (bdrv_co_pread(bs->file, offset, bytes, buf, 0) >= 0) {
            return true;
        }
    }
    return false;
}

/*
 * In pieces of @unit bytes; a piece that cannot be read is poison. A failing
 * disk takes its time for each error, so halves are tried first.
 */
static void coroutine_fn read_pieces(BlockDriverState *bs, uint64_t offset,
                                     uint64_t bytes, uint8_t *buf,
                                     uint64_t unit)
{
    uint64_t pos = 0, n = bytes;

    while (pos < bytes) {
        bool smallest;

        n = MIN(n, bytes - pos);
        smallest = n <= unit;
        if (try_read(bs, offset + pos, n, buf + pos,
                     smallest ? bdrv_salvage_retries : 0)) {
            pos += n;
            n *= 2;
        } else if (smallest) {
            memset(buf + pos, 0xff, n);
            pos += n;
        } else {
            n = MAX(QEMU_ALIGN_DOWN(n / 2, unit), unit);
        }
    }
}

void coroutine_fn qcow2_salvage_read(BlockDriverState *bs, uint64_t offset,
                                     uint64_t bytes, void *buf)
{
    uint64_t unit = MAX(bs->file->bs->bl.request_alignment,
                        (uint32_t)BDRV_SECTOR_SIZE);
    int64_t length = bdrv_co_getlength(bs->file->bs);
    uint64_t real = CLAMP(length - (int64_t)offset, 0, (int64_t)bytes);

    /* Half an entry is none; of an extended one the other half is poison, which
     * no bitmap can be. */
    real = QEMU_ALIGN_DOWN(real, sizeof(uint64_t));
    memset((uint8_t *)buf + real, 0xff, bytes - real);
    read_pieces(bs, offset, real, buf, unit);
}

/* --- judging --- */

#define LOST(text) ((Qcow2Verdict) { .cause = text, .lost = true })
#define SUSPECT(text) ((Qcow2Verdict) { .cause = text })
#define GOOD ((Qcow2Verdict) { 0 })

Qcow2Verdict qcow2_salvage_judge_l1(const BDRVQcow2State *s, uint64_t entry,
                                    uint64_t length)
{
    uint64_t offset = entry & L1E_OFFSET_MASK;

    if (entry == QCOW2_SALVAGE_POISON) {
        return LOST("L1 table cannot be read");
    }
    if (offset_into_cluster(s, offset)) {
        return LOST("L1 entry is not cluster aligned");
    }
    if (offset >= length && offset) {
        return LOST("L2 table is beyond the end of the file");
    }
    if (entry & L1E_RESERVED_MASK) {
        return SUSPECT("L1 entry has reserved bits");
    }
    if (!offset && entry) {
        return SUSPECT("L1 entry has flags but no table");
    }
    return GOOD;
}

static Qcow2Verdict judge_compressed(const BDRVQcow2State *s, uint64_t entry,
                                     uint64_t bitmap, uint64_t length)
{
    uint64_t offset;
    int size;

    qcow2_parse_compressed_l2_entry(s, entry, &offset, &size);
    if (offset >= length) {
        return LOST("compressed cluster is beyond the end of the file");
    }
    if (entry & QCOW_OFLAG_COPIED) {
        return SUSPECT("L2 entry of a compressed cluster has a wrong flag");
    }
    if (bitmap) {
        return SUSPECT("L2 entry of a compressed cluster has subclusters");
    }
    return GOOD;
}

static bool entry_has_data(const BDRVQcow2State *s, uint64_t entry,
                           uint64_t bitmap)
{
    return s->extended_l2 ? bitmap & QCOW2_BITMAP_ALL_DATA
                          : !(entry & QCOW_OFLAG_ZERO);
}

Qcow2Verdict qcow2_salvage_judge_l2(const BDRVQcow2State *s, uint64_t entry,
                                    uint64_t bitmap, uint64_t length)
{
    uint64_t offset = entry & L2E_OFFSET_MASK;

    if (entry == QCOW2_SALVAGE_POISON) {
        return LOST("L2 table cannot be read");
    }
    if (entry & QCOW_OFLAG_COMPRESSED && s->has_data_file) {
        return LOST("compressed cluster in an image with a data file");
    }
    if (entry & QCOW_OFLAG_COMPRESSED) {
        return judge_compressed(s, entry, bitmap, length);
    }
    if ((entry & QCOW_OFLAG_ZERO) && s->qcow_version < 3) {
        return LOST("L2 entry has a flag that version 2 does not know");
    }
    if (offset_into_cluster(s, offset)) {
        return LOST("L2 entry is not cluster aligned");
    }
    if (s->extended_l2 && bitmap == QCOW2_SALVAGE_POISON) {
        return LOST("L2 table cannot be read");
    }
    if (!offset && !qcow2_bitmap_is_valid(s, entry, bitmap)) {
        return LOST("L2 entry has subclusters with data but no cluster");
    }
    if (offset >= length && offset) {
        return !entry_has_data(s, entry, bitmap)
                   ? SUSPECT("L2 entry of zeroes is beyond the end of the file")
                   : LOST("data cluster is beyond the end of the file");
    }
    if (!qcow2_bitmap_is_valid(s, entry, bitmap)) {
        return SUSPECT("subclusters of an L2 entry contradict each other");
    }
    if (entry & L2E_STD_RESERVED_MASK) {
        return SUSPECT("L2 entry has reserved bits");
    }
    if (!offset && (entry & ~QCOW_OFLAG_ZERO) && !s->has_data_file) {
        return SUSPECT("L2 entry has flags but no cluster");
    }
    return GOOD;
}

Qcow2Verdict qcow2_salvage_judge_data(BlockDriverState *bs, uint64_t entry,
                                      uint64_t bitmap, uint64_t guest)
{
    BDRVQcow2State *s = bs->opaque;
    BdrvChild *child = qcow2_data_child(bs);
    uint64_t length = qatomic_read(&child->bs->total_bytes);
    Qcow2Verdict verdict = qcow2_salvage_judge_l2(s, entry, bitmap, length);

    if (!s->has_data_file || verdict.lost ||
        qcow2_get_cluster_type(s, entry) != QCOW2_CLUSTER_NORMAL) {
        return verdict;
    }
    if ((entry & L2E_OFFSET_MASK) != start_of_cluster(s, guest)) {
        return LOST("data cluster is not where the data file has it");
    }
    return guest >= length ? LOST("data cluster is beyond the end of the file")
                           : verdict;
}
