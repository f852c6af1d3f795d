/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img convert --max-memory: half of it is for buffers, half for what the
 * page cache may hold of source and target. When so much was copied, both are
 * written back and dropped; whoever copies meanwhile waits, so that no more
 * than the buffers is added.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "img/convert-memory.h"
#include "util/lockable.h"

#define MAX_CHUNK (768 * 1024)

struct ImgMemory {
    BlockBackend *source;
    BlockBackend *target;
    CoMutex lock;
    int64_t window;         /* bytes copied from one write-back to the next */
    int64_t copied;         /* since the last */
};

bool img_memory_fit(int64_t max, int64_t align, BlockCopyOptions *opt)
{
    int64_t buffers = max / 2;
    int64_t chunk = QEMU_ALIGN_DOWN(CLAMP(buffers / opt->workers,
                                          IMG_MEMORY_MIN_CHUNK, MAX_CHUNK),
                                    align);

    if (!chunk) {
        chunk = align;
    }
    if (chunk > buffers) {
        error_report("--max-memory is too little: the target is written in "
                     "pieces of %" PRId64 " bytes, and needs twice as much",
                     chunk);
        return false;
    }
    opt->chunk = chunk;
    opt->workers = MIN(opt->workers, buffers / chunk);
    return true;
}

ImgMemory *img_memory_new(BlockBackend *source, BlockBackend *target,
                          int64_t max)
{
    ImgMemory *m = g_new0(ImgMemory, 1);

    m->source = source;
    m->target = target;
    /* Of each byte there may be one in the source's cache, too. */
    m->window = MAX(max / 4, 1);
    qemu_co_mutex_init(&m->lock);
    return m;
}

int coroutine_fn img_memory_landed(ImgMemory *m, int64_t bytes)
{
    int ret = 0;

    qemu_co_mutex_lock(&m->lock);
    m->copied += bytes;
    if (m->copied >= m->window) {
        ret = blk_co_writeback(m->target);
        if (ret >= 0) {
            ret = blk_co_writeback(m->source);
        }
        m->copied = 0;
    }
    qemu_co_mutex_unlock(&m->lock);
    return ret;
}

void img_memory_free(ImgMemory *m)
{
    g_free(m);
}
