/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compressed clusters. */
#ifndef BLOCK_QCOW2_COMPRESSED_H
#define BLOCK_QCOW2_COMPRESSED_H

#include "block/qcow2/qcow2.h"

/* --- compress.c: any thread, may yield (the work runs in the thread pool) ----- */

/*
 * @src_size bytes into at most @dest_size. Bytes used; -ENOMEM if they do not
 * fit; -EIO if the codec fails.
 */
ssize_t coroutine_fn qcow2_co_compress(BlockDriverState *bs, void *dest,
                                       size_t dest_size, const void *src,
                                       size_t src_size);

/* One cluster: exactly as much comes out. @src may have a tail of other bytes. */
typedef struct Qcow2Unpack {
    void *dest;
    const void *src;
    size_t src_size;
} Qcow2Unpack;

/*
 * Unpacks in order and stops at the first part that cannot be: how many there
 * are before that one, all @nr if none. -errno if there is no thread to do it.
 */
int coroutine_fn qcow2_co_decompress(BlockDriverState *bs,
                                     const Qcow2Unpack *parts, unsigned nr);

/* --- read-compressed.c --------------------------------------------------------- */

#define QCOW2_COMPRESSED_RUN_MAX 32

/* Compressed clusters, each behind the last one in the guest and in the file. */
typedef struct Qcow2CompressedRun {
    uint64_t offset;    /* in the guest; in the first cluster */
    uint64_t bytes;
    uint64_t host;
    uint64_t host_end;
    unsigned nr;
    struct {
        uint32_t start; /* from @host */
        uint32_t size;
    } clusters[QCOW2_COMPRESSED_RUN_MAX];
} Qcow2CompressedRun;

/* A run of @bytes at guest @offset, inside the cluster that @l2_entry is of. */
void qcow2_compressed_run_start(const BDRVQcow2State *s,
                                Qcow2CompressedRun *run, uint64_t l2_entry,
                                uint64_t offset, uint64_t bytes);
/*
 * Makes the run longer by the first @bytes of the guest cluster behind it, that
 * @l2_entry is of. False, and nothing changed, if that has to be a run of its
 * own.
 */
bool qcow2_compressed_run_add(const BDRVQcow2State *s, Qcow2CompressedRun *run,
                              uint64_t l2_entry, uint64_t bytes);
/*
 * Reads the run to @qiov. -EIO, after marking the image corrupt, if something
 * cannot be unpacked. The caller is registered as reading. Not locked.
 */
int coroutine_fn qcow2_co_read_compressed(BlockDriverState *bs,
                                          const Qcow2CompressedRun *run,
                                          QEMUIOVector *qiov,
                                          size_t qiov_offset);

#endif
