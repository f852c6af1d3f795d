/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether what an image names is in its file.
 *
 * A read beyond the end of a file gives zeroes. For an image that lost its end
 * this would be an empty disk, or a disk whose data are replaced by zeroes,
 * and no error; and refcounts of zero, which give clusters in use away. So
 * tables have to be in the file with all their bytes. Data clusters have to
 * begin in it: some writers leave the last one short.
 */
#include "util/osdep.h"
#include "util/atomic.h"
#include "util/error.h"
#include "block/qcow2/qcow2.h"

/*
 * The length, at least if it is needed to reach @end. Our own requests keep
 * total_bytes right, and nobody else writes while we may; of an image that is
 * only read the file may have grown.
 */
static uint64_t coroutine_fn file_length(BlockDriverState *bs,
                                         BlockDriverState *file, uint64_t end)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t length = qatomic_read(&file->total_bytes);

    if (unlikely(end > (uint64_t)MAX(length, 0)) && !s->writable) {
        bdrv_co_refresh_total_bytes(file);
        length = qatomic_read(&file->total_bytes);
    }
    return MAX(length, 0);
}

bool coroutine_fn qcow2_table_is_in_file(BlockDriverState *bs, uint64_t offset,
                                         uint64_t bytes)
{
    uint64_t length = file_length(bs, bs->file->bs, offset + bytes);

    return offset <= length && bytes <= length - offset;
}

uint64_t coroutine_fn qcow2_clusters_in_file(BlockDriverState *bs,
                                             uint64_t offset, uint64_t n)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t last = offset + ((n - 1) << s->cluster_bits);
    uint64_t length = file_length(bs, qcow2_data_child(bs)->bs, last + 1);

    if (likely(last < length)) {
        return n;
    }
    return offset < length ? size_to_clusters(s, length - offset) : 0;
}
