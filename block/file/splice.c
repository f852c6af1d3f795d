/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages of the file for a pipe. */
#include "util/osdep.h"
#include "block/file/file-int.h"
#include "util/thread-pool.h"

typedef struct SpliceJob {
    int fd;
    int pipe;
    int64_t offset;
    int64_t bytes;
} SpliceJob;

static int splice_worker(void *opaque)
{
    SpliceJob *j = opaque;
    loff_t offset = j->offset;
    int64_t left = j->bytes;

    while (left) {
        ssize_t n = RETRY_ON_EINTR(splice(j->fd, &offset, j->pipe, NULL, left,
                                          SPLICE_F_NONBLOCK));

        if (n <= 0) {
            /* The end of the file, a full pipe, or a file system that cannot:
             * a read tells errors from these. */
            return -ENOTSUP;
        }
        left -= n;
    }
    return 0;
}

int coroutine_fn file_co_splice(BlockDriverState *bs, int64_t offset,
                                int64_t bytes, int pipe)
{
    BDRVFileState *s = bs->opaque;
    SpliceJob j = { s->fd, pipe, offset, bytes };

    if (s->is_device || s->fd_flags & O_DIRECT) {
        return -ENOTSUP;
    }
    /* Where there is no device nothing makes it wait. */
    return s->in_memory ? splice_worker(&j)
                        : thread_pool_submit_co(splice_worker, &j);
}
