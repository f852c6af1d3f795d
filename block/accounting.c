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

static void histogram_clear(BlockLatencyHistogram *h)
{
    g_free(h->boundaries);
    g_free(h->bins);
    *h = (BlockLatencyHistogram) {};
}

void block_acct_cleanup(BlockAcctStats *stats)
{
    for (int i = 0; i < BLOCK_MAX_IOTYPE; i++) {
        histogram_clear(&stats->histograms[i]);
    }
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

static void histogram_count(BlockLatencyHistogram *h, uint64_t time_ns)
{
    unsigned low = 0, high = h->nr_boundaries;

    if (!high) {
        return;
    }
    /* The first boundary that is larger. */
    while (low < high) {
        unsigned mid = low + (high - low) / 2;

        if (h->boundaries[mid] > time_ns) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    h->bins[low]++;
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
    histogram_count(&stats->histograms[type], now - cookie->start_time_ns);
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

bool block_acct_set_histogram(BlockAcctStats *stats, BlockAcctType type,
                              const uint64List *boundaries)
{
    BlockLatencyHistogram h = {}, old = {};
    uint64_t previous = 0;

    for (const uint64List *e = boundaries; e; e = e->next) {
        if (e->value <= previous) {
            return false;
        }
        previous = e->value;
        h.nr_boundaries++;
    }
    if (boundaries) {
        h.boundaries = g_new(uint64_t, h.nr_boundaries);
        h.bins = g_new0(uint64_t, h.nr_boundaries + 1);
        for (unsigned i = 0; boundaries; boundaries = boundaries->next) {
            h.boundaries[i++] = boundaries->value;
        }
    }
    WITH_QEMU_LOCK_GUARD(&stats->lock) {
        old = stats->histograms[type];
        stats->histograms[type] = h;
    }
    histogram_clear(&old);
    return true;
}

static uint64List *list_of(const uint64_t *values, unsigned n)
{
    uint64List *list = NULL, **tail = &list;

    for (unsigned i = 0; i < n; i++) {
        QAPI_LIST_APPEND(tail, values[i]);
    }
    return list;
}

BlockLatencyHistogramInfo *block_acct_histogram(BlockAcctStats *stats,
                                                BlockAcctType type)
{
    const BlockLatencyHistogram *h = &stats->histograms[type];
    BlockLatencyHistogramInfo *info;

    QEMU_LOCK_GUARD(&stats->lock);
    if (!h->nr_boundaries) {
        return NULL;
    }
    info = g_new0(BlockLatencyHistogramInfo, 1);
    info->boundaries = list_of(h->boundaries, h->nr_boundaries);
    info->bins = list_of(h->bins, h->nr_boundaries + 1);
    return info;
}
