/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scan of a copy run: one coroutine that asks the source for block status,
 * ahead of the workers, and decides what becomes of each range.
 */
#include "util/osdep.h"
#include "block/jobs/copy-int.h"
#include "util/aio.h"
#include "util/lockable.h"

/* Answers after which the workers get a chance to run. */
#define YIELD_INTERVAL 128

static CopyClass classify(const BlockCopyOptions *opt, int status,
                          int64_t offset)
{
    if (status & BDRV_BLOCK_ZERO) {
        if (opt->min_sparse && opt->target_is_zero) {
            return COPY_SKIP;
        }
        if (opt->target_has_backing && offset >= opt->target_backing_length) {
            return COPY_SKIP;
        }
        return COPY_ZERO;
    }
    if (!(status & BDRV_BLOCK_DATA) && opt->target_has_backing) {
        return COPY_SKIP;
    }
    return COPY_DATA;
}

/*
 * Class of the range at s->examined and its length in *@pnum. -errno if the
 * run is to end.
 */
static int coroutine_fn examine(BlockCopyState *s, int64_t *pnum)
{
    const BlockCopyOptions *opt = &s->opt;
    int64_t offset = s->examined;
    int64_t limit = opt->length;
    int ret;

    if (offset >= s->source_length) {
        *pnum = opt->length - offset;
        return classify(opt, BDRV_BLOCK_ZERO, offset);
    }
    limit = MIN(limit, s->source_length);
    if (opt->classify) {
        ret = opt->classify(opt->opaque, offset, limit - offset, pnum);
        assert(ret < 0 || (*pnum > 0 && *pnum <= limit - offset));
        return ret;
    }
    if (opt->target_has_backing && offset < opt->target_backing_length) {
        limit = MIN(limit, opt->target_backing_length);
    }

    ret = blk_co_block_status_above(s->source, opt->source_base, true, offset,
                                    limit - offset, pnum, NULL, NULL, NULL);
    if (ret < 0) {
        if (!opt->salvage_unit) {
            return ret;
        }
        /* Reading may work all the same. */
        *pnum = MIN(opt->chunk, limit - offset);
        if (opt->on_error) {
            opt->on_error(opt->opaque, BLOCK_COPY_STATUS, offset, *pnum, ret);
        }
        return COPY_DATA;
    }
    assert(*pnum > 0 && *pnum <= limit - offset);
    if (ret & BDRV_BLOCK_LOST) {
        copy_tell_lost(s, offset, *pnum, -EIO);
        /* Never what the target's backing file holds there. */
        return opt->target_is_zero && opt->min_sparse ? COPY_SKIP : COPY_ZERO;
    }
    return classify(opt, ret, offset);
}

static bool coroutine_fn scan_wait_for_room(BlockCopyState *s)
{
    while (!copy_extents_has_room(&s->extents) && !copy_is_ending(s)) {
        qemu_co_queue_wait(&s->room_queue, (void *)NULL);
    }
    return !copy_is_ending(s);
}

void coroutine_fn copy_scan_entry(void *opaque)
{
    BlockCopyState *s = opaque;
    unsigned answers = 0;
    int64_t pnum;
    int cls;

    while (s->examined < s->opt.length && scan_wait_for_room(s) &&
           copy_begin(s)) {
        cls = examine(s, &pnum);
        copy_end(s);
        if (cls < 0) {
            copy_fail(s, BLOCK_COPY_STATUS, s->examined,
                      s->opt.length - s->examined, cls);
            break;
        }
        copy_extents_add(&s->extents, pnum, cls);
        s->examined += pnum;
        qemu_co_queue_restart_all(&s->work_queue);
        if (++answers % YIELD_INTERVAL == 0) {
            qemu_co_yield_to_loop();
        }
    }

    copy_extents_finish(&s->extents);
    s->scan_done = true;
    copy_report(s);
    qemu_co_queue_restart_all(&s->work_queue);
    qemu_co_wait_group_done(&s->group);
}
