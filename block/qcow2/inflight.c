/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests in flight on a qcow2 node and the order between them.
 *
 * Every request says which guest clusters it works on before it looks at their
 * mapping, and keeps saying so until its data I/O has ended:
 *   - shared: reads, and writes that overwrite clusters in place;
 *   - exclusive: whatever changes a mapping, i.e. writes that allocate, zero
 *     writes and discards.
 *
 * Invariants:
 *   1. Two granted requests that share a cluster are both shared. So a mapping
 *      that a request has looked up stays true until the request ends, and a
 *      host cluster that a discard takes away is in use by nobody.
 *   2. A request waits only for requests that arrived earlier, and asks for
 *      its whole range at once. So the waiting order has no cycles, and no
 *      request starves.
 *
 * A write does not know what it will find. It starts shared, and when it has
 * to allocate, upgrades if nobody else is there, or else ends and arrives
 * again as exclusive; after that it looks the mapping up again.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "block/qcow2/qcow2.h"

void qcow2_inflight_init(Qcow2Inflight *in, unsigned cluster_bits)
{
    qemu_mutex_init(&in->lock);
    QTAILQ_INIT(&in->requests);
    in->cluster_bits = cluster_bits;
}

void qcow2_inflight_destroy(Qcow2Inflight *in)
{
    assert(QTAILQ_EMPTY(&in->requests));
    qemu_mutex_destroy(&in->lock);
}

static void request_set_range(const Qcow2Inflight *in, Qcow2Request *req,
                              uint64_t offset, uint64_t bytes)
{
    uint64_t mask = (1ULL << in->cluster_bits) - 1;

    req->start = offset & ~mask;
    req->end = (offset + bytes + mask) & ~mask;
}

static bool request_conflicts(const Qcow2Request *a, const Qcow2Request *b)
{
    return (a->exclusive || b->exclusive) &&
           a->start < b->end && b->start < a->end;
}

/* The first request that arrived before @req and conflicts with it. */
static Qcow2Request *find_blocker_locked(Qcow2Inflight *in,
                                         const Qcow2Request *req)
{
    Qcow2Request *other;

    if (!in->nr_exclusive) {
        return NULL;    /* all shared, as nearly always */
    }
    QTAILQ_FOREACH(other, &in->requests, next) {
        if (other == req) {
            break;
        }
        if (request_conflicts(other, req)) {
            return other;
        }
    }
    return NULL;
}

void coroutine_fn qcow2_request_begin(Qcow2Inflight *in, Qcow2Request *req,
                                      uint64_t offset, uint64_t bytes,
                                      bool exclusive)
{
    Qcow2Request *blocker;

    request_set_range(in, req, offset, bytes);
    req->exclusive = exclusive;
    req->granted = false;
    qemu_co_queue_init(&req->waiters);

    qemu_mutex_lock(&in->lock);
    QTAILQ_INSERT_TAIL(&in->requests, req, next);
    in->nr_exclusive += exclusive;
    while ((blocker = find_blocker_locked(in, req))) {
        qemu_co_queue_wait(&blocker->waiters, &in->lock);
    }
    req->granted = true;
    qemu_mutex_unlock(&in->lock);
}

/*
 * Of those that arrived later only the ones at work are in the way: the others
 * look at @req again before they start. Those that arrived earlier do not, so
 * every one of them is.
 */
static bool can_upgrade_locked(Qcow2Inflight *in, const Qcow2Request *req,
                               const Qcow2Request *wanted)
{
    Qcow2Request *other;
    bool earlier = true;

    QTAILQ_FOREACH(other, &in->requests, next) {
        if (other == req) {
            earlier = false;
        } else if ((earlier || other->granted) &&
                   request_conflicts(other, wanted)) {
            return false;
        }
    }
    return true;
}

bool qcow2_request_try_upgrade(Qcow2Inflight *in, Qcow2Request *req,
                               uint64_t offset, uint64_t bytes)
{
    Qcow2Request wanted = { .exclusive = true };
    bool ok;

    request_set_range(in, &wanted, offset, bytes);
    assert(!req->exclusive && wanted.start >= req->start &&
           wanted.end <= req->end);

    qemu_mutex_lock(&in->lock);
    ok = can_upgrade_locked(in, req, &wanted);
    if (ok) {
        req->start = wanted.start;
        req->end = wanted.end;
        req->exclusive = true;
        in->nr_exclusive++;
        /* Some may have waited for the part given up. */
        qemu_co_queue_restart_all(&req->waiters);
    }
    qemu_mutex_unlock(&in->lock);
    return ok;
}

void qcow2_request_narrow(Qcow2Inflight *in, Qcow2Request *req,
                          uint64_t offset, uint64_t bytes)
{
    Qcow2Request wanted;

    request_set_range(in, &wanted, offset, bytes);
    assert(wanted.start >= req->start && wanted.end <= req->end);
    if (wanted.start == req->start && wanted.end == req->end) {
        return;
    }

    qemu_mutex_lock(&in->lock);
    req->start = wanted.start;
    req->end = wanted.end;
    qemu_co_queue_restart_all(&req->waiters);
    qemu_mutex_unlock(&in->lock);
}

void coroutine_fn qcow2_request_end(Qcow2Inflight *in, Qcow2Request *req)
{
    qemu_mutex_lock(&in->lock);
    QTAILQ_REMOVE(&in->requests, req, next);
    in->nr_exclusive -= req->exclusive;
    qemu_co_queue_restart_all(&req->waiters);
    qemu_mutex_unlock(&in->lock);
}
