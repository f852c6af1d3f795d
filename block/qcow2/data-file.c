/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The external data file: guest data in a file of their own, each byte where
 * the guest has it. bs->file keeps the metadata.
 *
 *   - Its clusters have no refcount, so nothing is allocated or freed there;
 *     snapshots and compressed clusters, which would share it, do not exist.
 *   - A cluster that loses its data keeps its place, and may get new data there
 *     before any flush. So the file is told at once, while the request still
 *     holds the guest clusters, and in such a way that an old L2 entry, which a
 *     power cut may bring back, leads to nothing worse than zeroes.
 *   - A raw one shows to those who know nothing of the L2 tables what the guest
 *     sees. Data go there first anyway. Zeroes do too, and then it is best to
 *     leave the L2 entries alone: were one to say "zeroes" while the next write
 *     is on its way, a power cut would leave two different answers.
 *   - An encrypted one shows nothing, raw or not: its zeroes are only in the L2
 *     tables, and discards go to it when these are durable.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "util/lockable.h"
#include "block/qcow2/qcow2.h"

/* --- opening --- */

/*
 * The name comes from a file that nobody may have looked at: it is a path, also
 * if it looks like something else, and its content is not probed.
 */
static BdrvChild *open_by_name(BlockDriverState *bs, const char *name,
                               Error **errp)
{
    BlockdevRef ref = {
        .type = QTYPE_QDICT,
        .u.definition = {
            .driver = BLOCKDEV_DRIVER_FILE,
            .u.file.filename = (char *)name,
        },
    };

    return bdrv_open_child(bs, &ref, "data-file", BDRV_CHILD_DATA, false,
                           errp);
}

/* Data behind its end would read as zeroes. Checking and salvaging tell what
 * is missing. */
static int check_length(BlockDriverState *bs, int flags, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t length = bdrv_getlength(s->data_file->bs);
    uint64_t size = ROUND_DOWN(s->disk_size, BDRV_SECTOR_SIZE);

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the size of the data "
                         "file");
        return length;
    }
    if ((uint64_t)length < size && !(flags & BDRV_O_CHECK) && !s->salvage) {
        error_setg(errp, "Data file '%s' is too short: it has %" PRId64
                   " bytes, the disk has %" PRIu64,
                   s->data_file->bs->filename, length, size);
        return -EINVAL;
    }
    return 0;
}

static int check_features(BlockDriverState *bs, BlockdevRef *ref, int flags,
                          Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    if (!s->has_data_file && ref) {
        error_setg(errp, "'data-file' can only be set for images with an "
                   "external data file");
        return -EINVAL;
    }
    if (!s->has_data_file && !s->salvage &&
        (s->autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW)) {
        error_setg(errp, "data-file-raw requires a data file");
        return -EINVAL;
    }
    if (s->has_data_file && s->nb_snapshots && (flags & BDRV_O_RDWR) &&
        !(flags & BDRV_O_CHECK)) {
        error_setg(errp, "An image with an external data file and internal "
                   "snapshots can only be read");
        return -ENOTSUP;
    }
    return 0;
}

int qcow2_open_data_file(BlockDriverState *bs, BlockdevRef *ref, int flags,
                         Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = check_features(bs, ref, flags, errp);

    if (ret < 0 || !s->has_data_file) {
        return ret;
    }
    /* From now on it holds no guest data. */
    bs->file->role &= ~BDRV_CHILD_DATA;
    if (flags & BDRV_O_NO_IO) {
        return 0;
    }
    if (ref) {
        s->data_file = bdrv_open_child(bs, ref, "data-file", BDRV_CHILD_DATA,
                                       false, errp);
    } else if (s->image_data_file) {
        s->data_file = open_by_name(bs, s->image_data_file, errp);
    } else {
        error_setg(errp, "'data-file' is required for this image");
    }
    return s->data_file ? check_length(bs, flags, errp) : -EINVAL;
}

int qcow2_keep_data_file(BlockDriverState *bs, const BDRVQcow2State *old,
                         int flags, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = check_features(bs, NULL, flags, errp);

    s->data_file = old->data_file;
    return ret < 0 || !s->data_file ? ret : check_length(bs, flags, errp);
}

/* --- zeroes and discarding --- */

/* Cuts the range where the disk, or the file, ends: the file stays as long as
 * it is. 0: nothing is left. */
static uint64_t coroutine_fn cut_range(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t length = bdrv_co_getlength(s->data_file->bs);
    uint64_t end = MIN(MAX(length, 0),
                       ROUND_UP(qatomic_read(&s->disk_size),
                                BDRV_SECTOR_SIZE));

    return offset < end ? MIN(bytes, end - offset) : 0;
}

int coroutine_fn qcow2_data_file_zero(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes, bool unmap)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    qemu_co_mutex_lock(&s->lock);
    ret = qcow2_begin_change(bs);
    qemu_co_mutex_unlock(&s->lock);
    if (ret < 0) {
        return ret;
    }
    bytes = cut_range(bs, offset, bytes);
    return bytes ? bdrv_co_pwrite_zeroes(s->data_file, offset, bytes,
                                         unmap ? BDRV_REQ_MAY_UNMAP : 0)
                 : 0;
}

/* Failures do not matter: nobody reads it. */
void coroutine_fn qcow2_data_file_release(BlockDriverState *bs,
                                          uint64_t offset, uint64_t bytes,
                                          bool zero)
{
    BDRVQcow2State *s = bs->opaque;

    bytes = cut_range(bs, offset, bytes);
    if (!bytes) {
        return;
    }
    if (zero) {
        bdrv_co_pwrite_zeroes(s->data_file, offset, bytes,
                              BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK);
    } else {
        bdrv_co_pdiscard(s->data_file, offset, bytes);
    }
}

/* --- size --- */

int coroutine_fn qcow2_data_file_resize(BlockDriverState *bs, uint64_t size,
                                        bool exact, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t length = bdrv_co_getlength(s->data_file->bs);

    if (length >= 0 && (uint64_t)length == size) {
        return 0;
    }
    return bdrv_co_truncate(s->data_file, size, exact, PREALLOC_MODE_OFF, 0,
                            errp);
}
