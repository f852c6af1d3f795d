/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading compressed clusters. Those that follow each other both in the guest
 * and in the file are read at once and unpacked by one job of the pool, into
 * the caller's memory where that has room for a whole cluster in one piece.
 */
#include "util/osdep.h"
#include "util/memalign.h"
#include "block/qcow2/compressed.h"
#include "block/qcow2/salvage.h"

/* Of one run: enough that waking a thread costs next to nothing, and few enough
 * that a large request keeps several of them busy. */
#define MAX_GUEST_BYTES (512 * 1024)
#define MAX_HOST_BYTES (256 * 1024)

void qcow2_compressed_run_start(const BDRVQcow2State *s,
                                Qcow2CompressedRun *run, uint64_t l2_entry,
                                uint64_t offset, uint64_t bytes)
{
    uint64_t host;
    int size;

    qcow2_parse_compressed_l2_entry(s, l2_entry, &host, &size);
    run->offset = offset;
    run->bytes = bytes;
    run->host = host;
    run->host_end = host + size;
    run->nr = 1;
    run->clusters[0].start = 0;
    run->clusters[0].size = size;
}

bool qcow2_compressed_run_add(const BDRVQcow2State *s, Qcow2CompressedRun *run,
                              uint64_t l2_entry, uint64_t bytes)
{
    uint64_t host;
    int size;

    qcow2_parse_compressed_l2_entry(s, l2_entry, &host, &size);
    /* What is stored ends anywhere in its last sector. */
    if (run->nr == QCOW2_COMPRESSED_RUN_MAX || host < run->host ||
        host > run->host_end || host + size - run->host > MAX_HOST_BYTES ||
        run->bytes + bytes > MAX_GUEST_BYTES) {
        return false;
    }
    run->clusters[run->nr].start = host - run->host;
    run->clusters[run->nr].size = size;
    run->nr++;
    run->host_end = MAX(run->host_end, host + size);
    run->bytes += bytes;
    return true;
}

/* The part of cluster @i that was asked for. */
static uint64_t wanted(const BDRVQcow2State *s, const Qcow2CompressedRun *run,
                       unsigned i, uint64_t *in_cluster)
{
    uint64_t first = start_of_cluster(s, run->offset);
    uint64_t start = MAX(run->offset, first + i * s->cluster_size);
    uint64_t end = MIN(run->offset + run->bytes,
                       first + (i + 1) * s->cluster_size);

    *in_cluster = offset_into_cluster(s, start);
    return end - start;
}

/* Where a whole cluster goes in @qiov; NULL if that is not one piece. */
static void *in_place(const BDRVQcow2State *s, QEMUIOVector *qiov,
                      size_t qiov_offset, uint64_t bytes)
{
    size_t i, pos = qiov_offset;

    if (bytes < s->cluster_size) {
        return NULL;
    }
    for (i = 0; i < qiov->niov && pos >= qiov->iov[i].iov_len; i++) {
        pos -= qiov->iov[i].iov_len;
    }
    return i < qiov->niov && qiov->iov[i].iov_len - pos >= bytes
               ? (char *)qiov->iov[i].iov_base + pos : NULL;
}

/* Memory for clusters that cannot be unpacked where they belong. */
static bool find_places(BlockDriverState *bs, const Qcow2CompressedRun *run,
                        QEMUIOVector *qiov, size_t qiov_offset,
                        Qcow2Unpack *parts, uint8_t **bounce)
{
    BDRVQcow2State *s = bs->opaque;
    unsigned i, nr_bounce = 0;
    uint64_t in_cluster, n;

    for (i = 0; i < run->nr; i++, qiov_offset += n) {
        n = wanted(s, run, i, &in_cluster);
        parts[i].dest = in_place(s, qiov, qiov_offset, n);
        nr_bounce += !parts[i].dest;
    }
    if (!nr_bounce) {
        return true;
    }
    *bounce = qemu_try_blockalign(bs, (size_t)nr_bounce * s->cluster_size);
    if (!*bounce) {
        return false;
    }
    for (i = run->nr; i--; ) {
        if (!parts[i].dest) {
            parts[i].dest = *bounce + (size_t)--nr_bounce * s->cluster_size;
        }
    }
    return true;
}

static void copy_out(const BDRVQcow2State *s, const Qcow2CompressedRun *run,
                     QEMUIOVector *qiov, size_t qiov_offset,
                     const Qcow2Unpack *parts, const uint8_t *bounce)
{
    const uint8_t *next = bounce;
    uint64_t in_cluster, n;
    unsigned i;

    for (i = 0; i < run->nr && next; i++, qiov_offset += n) {
        n = wanted(s, run, i, &in_cluster);
        if (parts[i].dest == next) {
            qemu_iovec_from_buf(qiov, qiov_offset, next + in_cluster, n);
            next += s->cluster_size;
        }
    }
}

/* Salvaging: cluster @i of the run is lost as a whole. */
static void note_lost(BlockDriverState *bs, const Qcow2CompressedRun *run,
                      unsigned i, const char *cause)
{
    BDRVQcow2State *s = bs->opaque;

    bdrv_damage_add(bs, BDRV_DAMAGE_LOST,
                    start_of_cluster(s, run->offset) +
                    i * (uint64_t)s->cluster_size, s->cluster_size,
                    run->host + run->clusters[i].start, cause);
}

int coroutine_fn qcow2_co_read_compressed(BlockDriverState *bs,
                                          const Qcow2CompressedRun *run,
                                          QEMUIOVector *qiov,
                                          size_t qiov_offset)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Unpack parts[QCOW2_COMPRESSED_RUN_MAX];
    size_t host_bytes = run->host_end - run->host;
    QEMU_AUTO_VFREE uint8_t *bounce = NULL;
    QEMU_AUTO_VFREE uint8_t *data =
        qemu_try_blockalign(bs->file->bs, host_bytes);
    unsigned i;
    int ret;

    if (!data ||
        !find_places(bs, run, qiov, qiov_offset, parts, &bounce)) {
        return -ENOMEM;
    }
    for (i = 0; i < run->nr; i++) {
        parts[i].src = data + run->clusters[i].start;
        parts[i].src_size = run->clusters[i].size;
    }
    BLKDBG_EVENT(bs->file, BLKDBG_READ_COMPRESSED);
    ret = bdrv_co_pread(bs->file, run->host, host_bytes, data, 0);
    if (ret < 0) {
        if (s->salvage && run->nr == 1) {
            note_lost(bs, run, 0, "compressed cluster cannot be read");
        }
        return ret;
    }
    ret = qcow2_co_decompress(bs, parts, run->nr);
    if (ret < 0) {
        return ret;
    }
    if (ret < (int)run->nr) {
        if (s->salvage) {
            note_lost(bs, run, ret, "compressed cluster cannot be unpacked");
        }
        qcow2_signal_corruption(
            bs, false, -1, -1, "Compressed cluster at %#" PRIx64
            " cannot be decompressed (guest offset: %#" PRIx64 ")",
            run->host + run->clusters[ret].start,
            start_of_cluster(s, run->offset) + ret * (uint64_t)s->cluster_size);
        return -EIO;
    }
    copy_out(s, run, qiov, qiov_offset, parts, bounce);
    return 0;
}
