/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads of quorum: all children are read and vote, or one after the other is
 * tried until one can be read.
 *
 * 1. Children vote on bytes: data that is the same in all of them counts, and
 *    not a digest of it.
 * 2. A write on its way to the same range reaches the children at different
 *    times, so that children that differ once prove nothing. Then all are read
 *    again with writes kept out of the range, and that vote counts. They stay
 *    out while losers get what won: nothing newer can be overwritten.
 */
#include "util/osdep.h"
#include "block/filters/quorum.h"
#include "block/filters/verify.h"
#include "util/iov.h"

static int coroutine_fn read_part(QuorumPart *part)
{
    QuorumRequest *r = part->r;

    return bdrv_co_preadv(part->child, r->offset, r->bytes, &part->qiov, 0);
}

/* --- voting --- */

/*
 * Counts votes. The part with the most of them, the first of several; NULL if
 * nothing could be read. *@all is whether there is only one opinion.
 */
static QuorumPart *count_votes(QuorumRequest *r, bool *all)
{
    QuorumPart *winner = NULL;

    *all = true;
    for (unsigned i = 0; i < r->nb_parts; i++) {
        QuorumPart *part = &r->parts[i];
        QuorumPart *first = r->parts;

        part->votes = 0;
        if (part->ret < 0) {
            continue;
        }
        while (first < part &&
               (first->ret < 0 || first->same_as != first ||
                memcmp(first->buf, part->buf, r->bytes))) {
            first++;
        }
        part->same_as = first;
        first->votes++;
        *all = *all && (!winner || first == winner);
        winner = winner ?: first;
    }
    for (unsigned i = 0; i < r->nb_parts; i++) {
        if (winner && r->parts[i].votes > winner->votes) {
            winner = &r->parts[i];
        }
    }
    return winner;
}

static bool has_lost(const QuorumPart *part, const QuorumPart *winner)
{
    /* What cannot be read is not known to be wrong. */
    return part->ret >= 0 && part->same_as != winner;
}

/* Gives losers what won, with writes kept out of the range. */
static void coroutine_fn rewrite_losers(QuorumRequest *r, QuorumPart *winner)
{
    for (unsigned i = 0; i < r->nb_parts; i++) {
        QuorumPart *part = &r->parts[i];
        int ret;

        if (!has_lost(part, winner) ||
            !(part->child->perm & BLK_PERM_WRITE)) {
            continue;
        }
        ret = bdrv_co_pwritev(part->child, r->offset, r->bytes, &winner->qiov,
                              0);
        if (ret < 0) {
            quorum_report_bad(r, part, QUORUM_OP_TYPE_WRITE, ret);
        }
    }
}

static void report_losers(const QuorumRequest *r, const QuorumPart *winner)
{
    for (unsigned i = 0; i < r->nb_parts; i++) {
        if (has_lost(&r->parts[i], winner)) {
            quorum_report_bad(r, &r->parts[i], QUORUM_OP_TYPE_READ, 0);
        }
    }
}

/* All children, and their vote. *@repeat: they differ, which may be due to a
 * write in flight; asked only if it is not NULL. */
static int coroutine_fn vote(QuorumRequest *r, QuorumPart **winner,
                             bool *repeat)
{
    const QuorumOptions *o = &((BDRVQuorumState *)r->bs->opaque)->options;
    unsigned good = quorum_request_run(r);
    bool all;
    int ret;

    *winner = count_votes(r, &all);
    if (repeat && !all) {
        *repeat = true;
        return 0;
    }
    ret = quorum_request_result(r, good, QUORUM_OP_TYPE_READ);
    if (ret < 0 || all) {
        return ret;
    }
    if (o->blkverify) {
        size_t at = verify_difference(r->parts[0].buf, r->parts[1].buf,
                                      r->bytes);

        verify_fail("quorum: offset=%" PRId64 " bytes=%" PRId64 " contents "
                    "mismatch at offset %" PRId64, r->offset, r->bytes,
                    r->offset + (int64_t)at);
    }
    if ((*winner)->votes < o->threshold) {
        quorum_report_failure(r);
        return -EIO;
    }
    report_losers(r, *winner);
    if (o->rewrite) {
        rewrite_losers(r, *winner);
    }
    return 0;
}

static bool alloc_buffers(QuorumRequest *r)
{
    for (unsigned i = 0; i < r->nb_parts; i++) {
        QuorumPart *part = &r->parts[i];

        part->buf = qemu_try_blockalign(part->child->bs, r->bytes);
        if (!part->buf) {
            return false;
        }
        qemu_iovec_init_buf(&part->qiov, part->buf, r->bytes);
    }
    return true;
}

static int coroutine_fn read_by_vote(QuorumRequest *r, QEMUIOVector *qiov,
                                     size_t qiov_offset)
{
    QuorumPart *winner = NULL;
    bool repeat = false;
    int ret;

    if (!alloc_buffers(r)) {
        return -ENOMEM;
    }
    r->run = read_part;
    ret = vote(r, &winner, &repeat);
    if (repeat) {
        BdrvTrackedRequest *self = bdrv_co_get_self_request(r->bs);

        bdrv_make_request_serialising(self, r->bs->bl.request_alignment);
        ret = vote(r, &winner, NULL);
    }
    if (ret >= 0) {
        qemu_iovec_from_buf(qiov, qiov_offset, winner->buf, r->bytes);
    }
    return ret;
}

static int coroutine_fn read_fifo(QuorumRequest *r, QEMUIOVector *qiov,
                                  size_t qiov_offset)
{
    int ret = -EIO;

    for (unsigned i = 0; i < r->nb_parts; i++) {
        QuorumPart *part = &r->parts[i];

        ret = bdrv_co_preadv_part(part->child, r->offset, r->bytes, qiov,
                                  qiov_offset, 0);
        if (ret >= 0) {
            return 0;
        }
        quorum_report_bad(r, part, QUORUM_OP_TYPE_READ, ret);
    }
    return ret;
}

int coroutine_fn quorum_co_preadv(BlockDriverState *bs, int64_t offset,
                                  int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags)
{
    BDRVQuorumState *s = bs->opaque;
    QuorumRequest r = { .offset = offset, .bytes = bytes };
    int ret;

    quorum_request_init(&r, bs);
    if (s->options.read_pattern == QUORUM_READ_PATTERN_FIFO) {
        ret = read_fifo(&r, qiov, qiov_offset);
    } else {
        ret = read_by_vote(&r, qiov, qiov_offset);
    }
    quorum_request_destroy(&r);
    return ret;
}
