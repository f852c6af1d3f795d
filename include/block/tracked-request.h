/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests in flight on a node, and the order between those that overlap.
 *
 * Every request that goes to a node's driver is tracked in bs->tracked_requests
 * for as long as it runs. A *serialising* request keeps every overlapping
 * request out of its range, which may be wider than the request itself. Where
 * nobody serialises nobody waits: the check is one read of an atomic counter.
 *
 * Any thread, in the coroutine that owns the request; bs->reqs_lock is taken
 * inside.
 */
#ifndef BLOCK_TRACKED_REQUEST_H
#define BLOCK_TRACKED_REQUEST_H

#include "block/block_int.h"

/*
 * Starts tracking; @req lives until tracked_request_end(). Does not wait.
 * @offset and @bytes are bytes; the range counts as touched in full.
 */
void coroutine_fn tracked_request_begin(BdrvTrackedRequest *req,
                                        BlockDriverState *bs, int64_t offset,
                                        int64_t bytes,
                                        BdrvTrackedRequestType type);
/* Stops tracking and wakes whoever waits for @req. Never yields. */
void coroutine_fn tracked_request_end(BdrvTrackedRequest *req);

/*
 * Widens the range of @req to multiples of @align (bytes, positive) and keeps
 * others out from here on. Does not wait for those that run already.
 */
void coroutine_fn tracked_request_set_serialising(BdrvTrackedRequest *req,
                                                  uint64_t align);

/*
 * Waits until no request that conflicts with @req runs: one that overlaps,
 * where one of the two serialises. Call it before the request has any effect.
 * Two requests never wait for each other; the one that has to give way looks
 * again before it goes on.
 */
void coroutine_fn tracked_request_wait_slow(BdrvTrackedRequest *req);
static inline void coroutine_fn tracked_request_wait(BdrvTrackedRequest *req)
{
    /*
     * Relaxed is enough: @req was put on the list under reqs_lock. A request
     * that became serialising before that has raised the counter under the
     * same lock; one that does so later finds @req on the list.
     */
    if (unlikely(qatomic_read(&req->bs->serialising_in_flight))) {
        tracked_request_wait_slow(req);
    }
}

/*
 * The two above for a request with BDRV_REQ_SERIALISING. With @no_wait
 * returns -EBUSY instead of waiting, else 0.
 */
int coroutine_fn tracked_request_serialise(BdrvTrackedRequest *req,
                                           uint64_t align, bool no_wait);

#endif
