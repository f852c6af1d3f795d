/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests in flight on a node, and the order between those that overlap.
 *
 * Who waits for whom (req->waiting_for, under bs->reqs_lock) is a forest: a
 * request waits for at most one other, and never for one that waits, directly
 * or through others, for itself. Such a request is skipped: it has had no
 * effect yet, and looks at the whole list again before it has any.
 */
#include "util/osdep.h"
#include "block/tracked-request.h"
#include "block/block_int.h"
#include "util/atomic.h"
#include "util/coroutine.h"
#include "util/lockable.h"

void coroutine_fn tracked_request_begin(BdrvTrackedRequest *req,
                                        BlockDriverState *bs, int64_t offset,
                                        int64_t bytes,
                                        BdrvTrackedRequestType type)
{
    assert(offset >= 0 && bytes >= 0 && bytes <= INT64_MAX - offset);

    *req = (BdrvTrackedRequest) {
        .bs = bs,
        .offset = offset,
        .bytes = bytes,
        .type = type,
        .overlap_offset = offset,
        .overlap_bytes = bytes,
        .co = qemu_coroutine_self(),
    };
    qemu_co_queue_init(&req->wait_queue);

    qemu_mutex_lock(&bs->reqs_lock);
    QLIST_INSERT_HEAD(&bs->tracked_requests, req, list);
    qemu_mutex_unlock(&bs->reqs_lock);
}

void coroutine_fn tracked_request_end(BdrvTrackedRequest *req)
{
    BlockDriverState *bs = req->bs;
    BdrvTrackedRequest *other;

    qemu_mutex_lock(&bs->reqs_lock);
    if (req->serialising) {
        qatomic_dec(&bs->serialising_in_flight);
    }
    QLIST_REMOVE(req, list);
    if (!qemu_co_queue_empty(&req->wait_queue)) {
        QLIST_FOREACH(other, &bs->tracked_requests, list) {
            if (other->waiting_for == req) {
                other->waiting_for = NULL;
            }
        }
        qemu_co_queue_restart_all(&req->wait_queue);
    }
    qemu_mutex_unlock(&bs->reqs_lock);
}

static bool ranges_overlap(const BdrvTrackedRequest *a,
                           const BdrvTrackedRequest *b)
{
    return a->overlap_bytes > 0 && b->overlap_bytes > 0 &&
           a->overlap_offset < b->overlap_offset + b->overlap_bytes &&
           b->overlap_offset < a->overlap_offset + a->overlap_bytes;
}

/* Whether @req waits for @target, directly or through others. */
static bool waits_for(const BdrvTrackedRequest *req,
                      const BdrvTrackedRequest *target)
{
    while (req->waiting_for) {
        req = req->waiting_for;
        if (req == target) {
            return true;
        }
    }
    return false;
}

/* The request that @self has to wait for, or NULL. Under reqs_lock. */
static BdrvTrackedRequest *find_conflict_locked(BdrvTrackedRequest *self)
{
    BdrvTrackedRequest *req;

    QLIST_FOREACH(req, &self->bs->tracked_requests, list) {
        if (req == self || (!req->serialising && !self->serialising) ||
            !ranges_overlap(req, self)) {
            continue;
        }
        /* A driver that sends a request to its own node would hang here. */
        assert(req->co != self->co);
        if (!waits_for(req, self)) {
            return req;
        }
    }
    return NULL;
}

static void coroutine_fn wait_locked(BdrvTrackedRequest *self)
{
    BdrvTrackedRequest *req;

    while ((req = find_conflict_locked(self))) {
        self->waiting_for = req;
        qemu_co_queue_wait(&req->wait_queue, &self->bs->reqs_lock);
        /* @req is gone, and has cleared waiting_for. */
        assert(!self->waiting_for);
    }
}

static void set_serialising_locked(BdrvTrackedRequest *req, uint64_t align)
{
    int64_t start = QEMU_ALIGN_DOWN(req->offset, (int64_t)align);
    int64_t end = req->offset + req->bytes;

    assert(align > 0 && align <= BDRV_MAX_ALIGNMENT);
    end = end > INT64_MAX - (int64_t)align
              ? INT64_MAX
              : QEMU_ALIGN_UP(end, (int64_t)align);
    if (!req->serialising) {
        req->serialising = true;
        qatomic_inc(&req->bs->serialising_in_flight);
    }
    end = MAX(end, req->overlap_offset + req->overlap_bytes);
    req->overlap_offset = MIN(start, req->overlap_offset);
    req->overlap_bytes = end - req->overlap_offset;
}

void coroutine_fn tracked_request_set_serialising(BdrvTrackedRequest *req,
                                                  uint64_t align)
{
    QEMU_LOCK_GUARD(&req->bs->reqs_lock);
    set_serialising_locked(req, align);
}

void coroutine_fn tracked_request_wait_slow(BdrvTrackedRequest *req)
{
    qemu_mutex_lock(&req->bs->reqs_lock);
    wait_locked(req);
    qemu_mutex_unlock(&req->bs->reqs_lock);
}

int coroutine_fn tracked_request_serialise(BdrvTrackedRequest *req,
                                           uint64_t align, bool no_wait)
{
    BlockDriverState *bs = req->bs;
    int ret = 0;

    qemu_mutex_lock(&bs->reqs_lock);
    set_serialising_locked(req, align);
    if (no_wait && find_conflict_locked(req)) {
        ret = -EBUSY;
    } else {
        wait_locked(req);
    }
    qemu_mutex_unlock(&bs->reqs_lock);
    return ret;
}

void coroutine_fn bdrv_make_request_serialising(BdrvTrackedRequest *req,
                                                uint64_t align)
{
    tracked_request_serialise(req, align, false);
}

BdrvTrackedRequest *coroutine_fn bdrv_co_get_self_request(BlockDriverState *bs)
{
    Coroutine *self = qemu_coroutine_self();
    BdrvTrackedRequest *req;

    QEMU_LOCK_GUARD(&bs->reqs_lock);
    QLIST_FOREACH(req, &bs->tracked_requests, list) {
        if (req->co == self) {
            return req;
        }
    }
    return NULL;
}
