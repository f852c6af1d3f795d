/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Statistics of a BlockBackend. */
#include "util/osdep.h"
#include "block/accounting.h"
#include "util/lockable.h"
#include "util/timer.h"

void block_acct_init(BlockAcctStats *stats)
{
    memset(stats, 0, sizeof(*stats));
    qemu_mutex_init(&stats->lock);
    stats->last_access_time_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

void block_acct_cleanup(BlockAcctStats *stats)
{
    qemu_mutex_destroy(&stats->lock);
}

void block_acct_start(BlockAcctStats *stats, BlockAcctCookie *cookie,
                      int64_t bytes, BlockAcctType type)
{
    assert(type < BLOCK_MAX_IOTYPE && bytes >= 0);

    cookie->bytes = bytes;
    cookie->type = type;
    cookie->start_time_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

static void account(BlockAcctStats *stats, const BlockAcctCookie *cookie,
                    bool failed)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    BlockAcctType type = cookie->type;

    QEMU_LOCK_GUARD(&stats->lock);
    if (failed) {
        stats->failed_ops[type]++;
    } else {
        stats->nr_bytes[type] += cookie->bytes;
        stats->nr_ops[type]++;
    }
    stats->total_time_ns[type] += now - cookie->start_time_ns;
    stats->last_access_time_ns = now;
}

void block_acct_done(BlockAcctStats *stats, BlockAcctCookie *cookie)
{
    account(stats, cookie, false);
}

void block_acct_failed(BlockAcctStats *stats, BlockAcctCookie *cookie)
{
    account(stats, cookie, true);
}

void block_acct_invalid(BlockAcctStats *stats, BlockAcctType type)
{
    assert(type < BLOCK_MAX_IOTYPE);

    QEMU_LOCK_GUARD(&stats->lock);
    stats->invalid_ops[type]++;
    stats->last_access_time_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

int64_t block_acct_idle_time_ns(BlockAcctStats *stats)
{
    QEMU_LOCK_GUARD(&stats->lock);
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME) -
           stats->last_access_time_ns;
}
