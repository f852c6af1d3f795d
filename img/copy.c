/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running the copy engine from a command: the loop, progress, messages. */
#include "util/osdep.h"
#include "img/img.h"
#include "util/aio.h"

typedef struct Run {
    BlockCopyState *copy;
    BlockCopyFailure *failure;
    int ret;
    bool done;
} Run;

void img_copy_progress(void *opaque, const BlockCopyProgress *p)
{
    double found = p->known;

    if (!p->known) {
        return;
    }
    /* What has not been looked at yet holds as much work as the rest does. */
    if (p->examined > p->start) {
        found *= (double)(p->length - p->start) / (p->examined - p->start);
    }
    img_progress_work(p->done);
    img_progress_print(MIN(100.0 * p->done / found, 99.99));
}

static void coroutine_fn run_entry(void *opaque)
{
    Run *run = opaque;

    run->ret = block_copy_run(run->copy, run->failure);
    run->done = true;
}

int img_copy(BlockBackend *source, BlockBackend *target,
             const BlockCopyOptions *options, BlockCopyFailure *failure)
{
    Run run = { .failure = failure };
    Error *err = NULL;

    *failure = (BlockCopyFailure) { 0 };
    run.copy = block_copy_new(source, target, options, &err);
    if (!run.copy) {
        error_report_err(err);
        return -EINVAL;
    }
    qemu_coroutine_enter(qemu_coroutine_create(run_entry, &run));
    while (!run.done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    block_copy_free(run.copy);
    /* One message will do: it cannot be closed without the next. */
    if (run.ret < 0 && failure->phase == BLOCK_COPY_WRITE) {
        bdrv_abandon(blk_bs(target));
    }
    return run.ret;
}

void img_copy_report(const BlockCopyFailure *f, const char *source,
                     const char *target)
{
    const char *reason = g_strerror(-f->error);

    switch (f->phase) {
    case BLOCK_COPY_STATUS:
        error_report("error while reading block status at offset %" PRId64
                     " of '%s': %s", f->offset, source, reason);
        break;
    case BLOCK_COPY_READ:
        error_report("error while reading at byte %" PRId64 " of '%s': %s",
                     f->offset, source, reason);
        break;
    default:
        error_report("error while writing at byte %" PRId64 " of '%s': %s",
                     f->offset, target, reason);
        break;
    }
}
