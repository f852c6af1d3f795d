/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The filter "blklogwrites": whatever changes the node below is also written to
 * a log in the format of the kernel's dm-log-writes, which its tools replay.
 *
 *   sector 0      superblock: how many entries there are
 *   sector 1...   entries, one sector each, with the sectors of data that were
 *                 written behind it
 *
 * All numbers are little-endian, and sectors are those of the log.
 *
 * 1. The log has the order of completion: a write is there once the node below
 *    has it. What had not completed when a flush began is behind the flush.
 * 2. Entries are written one at a time. One that cannot be written is not
 *    there: the next takes its place, and its request fails.
 * 3. The superblock never counts an entry that is not written.
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "block/filters/filter.h"
#include "util/bswap.h"
#include "util/lockable.h"

#define LOG_MAGIC 0x6a736677736872ULL
#define LOG_VERSION 1

#define LOG_FLUSH_FLAG 0x1
#define LOG_FUA_FLAG 0x2
#define LOG_DISCARD_FLAG 0x4

#define LOG_SECTOR_MIN 512
#define LOG_SECTOR_MAX (8 << 20)
#define DEFAULT_INTERVAL 4096

typedef struct QEMU_PACKED LogSuper {
    uint64_t magic;             /* 0 */
    uint64_t version;           /* 8 */
    uint64_t nr_entries;        /* 16 */
    uint32_t sector_size;       /* 24, bytes */
} LogSuper;

typedef struct QEMU_PACKED LogEntry {
    uint64_t sector;            /* 0 */
    uint64_t nr_sectors;        /* 8, of data behind it unless a discard */
    uint64_t flags;             /* 16, LOG_*_FLAG */
    uint64_t data_len;          /* 24, bytes of the name of a mark */
} LogEntry;

typedef struct BDRVBlklogwritesState {
    /* Fixed by open. */
    BdrvChild *log;
    uint32_t sector_size;

    uint64_t interval;          /* changed by reopen, with the node drained */
    /* Main thread: what @log leads to, as of the last flush. */
    BlockDriverState *log_bs;

    CoMutex lock;
    /* Under lock. */
    bool started;               /* there is a superblock */
    uint64_t nr_entries;
    uint64_t super_entries;     /* those that the superblock counts */
    uint64_t next_sector;       /* where the next entry goes */
} BDRVBlklogwritesState;

/* --- the log: under lock --- */

static int coroutine_fn write_super(BDRVBlklogwritesState *s)
{
    g_autofree uint8_t *buf = g_malloc0(s->sector_size);
    LogSuper super = {
        .magic = cpu_to_le64(LOG_MAGIC),
        .version = cpu_to_le64(LOG_VERSION),
        .nr_entries = cpu_to_le64(s->nr_entries),
        .sector_size = cpu_to_le32(s->sector_size),
    };
    int ret;

    memcpy(buf, &super, sizeof(super));
    ret = bdrv_co_pwrite(s->log, 0, s->sector_size, buf, 0);
    if (ret >= 0) {
        s->super_entries = s->nr_entries;
        s->started = true;
    }
    return ret;
}

/* Entries that the superblock counts are durable before it is. */
static int coroutine_fn update_super(BDRVBlklogwritesState *s)
{
    int ret = 0;

    if (s->started && s->super_entries == s->nr_entries) {
        return 0;
    }
    if (s->started) {
        ret = bdrv_co_flush(s->log->bs);
    }
    return ret < 0 ? ret : write_super(s);
}

/* What is logged behind an entry: data, or zeroes without @qiov. */
static int coroutine_fn write_data(BDRVBlklogwritesState *s, int64_t offset,
                                   int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset)
{
    if (!bytes) {
        return 0;
    }
    if (!qiov) {
        return bdrv_co_pwrite_zeroes(s->log, offset, bytes, 0);
    }
    return bdrv_co_pwritev_part(s->log, offset, bytes, qiov, qiov_offset, 0);
}

static int coroutine_fn append_locked(BDRVBlklogwritesState *s, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset, uint64_t flags)
{
    g_autofree uint8_t *buf = g_malloc0(s->sector_size);
    LogEntry entry = {
        .sector = cpu_to_le64(offset / s->sector_size),
        .nr_sectors = cpu_to_le64(bytes / s->sector_size),
        .flags = cpu_to_le64(flags),
    };
    int64_t data = flags & LOG_DISCARD_FLAG ? 0 : bytes;
    uint64_t sectors = 1 + data / s->sector_size;
    int64_t at = s->next_sector * s->sector_size;
    int ret;

    if (s->next_sector + sectors > BDRV_MAX_LENGTH / s->sector_size) {
        return -EFBIG;
    }
    /* An old log's superblock would count what is written over it. */
    ret = s->started ? 0 : update_super(s);
    if (ret >= 0) {
        memcpy(buf, &entry, sizeof(entry));
        ret = write_data(s, at + s->sector_size, data, qiov, qiov_offset);
    }
    if (ret >= 0) {
        ret = bdrv_co_pwrite(s->log, at, s->sector_size, buf, 0);
    }
    if (ret < 0) {
        return ret;
    }
    s->next_sector += sectors;
    s->nr_entries++;
    if (s->nr_entries - s->super_entries >= s->interval) {
        ret = update_super(s);
    }
    return ret;
}

static int coroutine_fn append(BlockDriverState *bs, int64_t offset,
                               int64_t bytes, QEMUIOVector *qiov,
                               size_t qiov_offset, uint64_t flags)
{
    BDRVBlklogwritesState *s = bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    return append_locked(s, offset, bytes, qiov, qiov_offset, flags);
}

/* --- opening --- */

static bool check_sector_size(uint64_t size, Error **errp)
{
    if (size < LOG_SECTOR_MIN || size > LOG_SECTOR_MAX ||
        (size & (size - 1))) {
        error_setg(errp, "Invalid log sector size %" PRIu64, size);
        return false;
    }
    return true;
}

static bool check_interval(uint64_t interval, Error **errp)
{
    if (!interval) {
        error_setg(errp, "Invalid log superblock update interval %" PRIu64,
                   interval);
        return false;
    }
    return true;
}

static uint64_t interval_option(const BlockdevOptionsBlklogwrites *o)
{
    return o->has_log_super_update_interval ? o->log_super_update_interval
                                            : DEFAULT_INTERVAL;
}

static bool read_super(BDRVBlklogwritesState *s, Error **errp)
{
    LogSuper super;
    int ret = bdrv_pread(s->log, 0, sizeof(super), &super, 0);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read log superblock");
        return false;
    }
    if (le64_to_cpu(super.magic) != LOG_MAGIC) {
        error_setg(errp, "Invalid log superblock magic");
        return false;
    }
    if (le64_to_cpu(super.version) != LOG_VERSION) {
        error_setg(errp, "Unsupported log version %" PRIu64,
                   le64_to_cpu(super.version));
        return false;
    }
    s->sector_size = le32_to_cpu(super.sector_size);
    s->nr_entries = le64_to_cpu(super.nr_entries);
    return check_sector_size(s->sector_size, errp);
}

/* Walks the entries to where the next one goes. */
static bool find_end(BDRVBlklogwritesState *s, Error **errp)
{
    int64_t length = bdrv_getlength(s->log->bs);
    uint64_t last = length < 0 ? 0 : length / s->sector_size;

    for (uint64_t i = 0; i < s->nr_entries; i++) {
        LogEntry entry;
        uint64_t nr_sectors;
        int ret;

        if (s->next_sector >= last) {
            error_setg(errp, "The log ends before its entry %" PRIu64, i);
            return false;
        }
        ret = bdrv_pread(s->log, s->next_sector * s->sector_size,
                         sizeof(entry), &entry, 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not read log entry %" PRIu64,
                             i);
            return false;
        }
        nr_sectors = le64_to_cpu(entry.nr_sectors);
        s->next_sector++;
        if (le64_to_cpu(entry.flags) & LOG_DISCARD_FLAG) {
            continue;
        }
        if (nr_sectors > last - s->next_sector) {
            error_setg(errp, "The log ends in the data of its entry %" PRIu64,
                       i);
            return false;
        }
        s->next_sector += nr_sectors;
    }
    s->super_entries = s->nr_entries;
    s->started = true;
    return true;
}

static bool open_log(BlockDriverState *bs, BlockdevOptionsBlklogwrites *o,
                     Error **errp)
{
    BDRVBlklogwritesState *s = bs->opaque;
    bool append_to = o->has_log_append && o->log_append;

    if (append_to && o->has_log_sector_size) {
        error_setg(errp, "log-append and log-sector-size are mutually "
                   "exclusive");
        return false;
    }
    s->interval = interval_option(o);
    s->next_sector = 1;
    s->sector_size = LOG_SECTOR_MIN;
    if (o->has_log_sector_size) {
        if (!check_sector_size(o->log_sector_size, errp)) {
            return false;
        }
        s->sector_size = o->log_sector_size;
    }
    if (!check_interval(s->interval, errp)) {
        return false;
    }
    s->log = bdrv_open_child(bs, o->log, "log", BDRV_CHILD_METADATA, false,
                             errp);
    if (!s->log) {
        return false;
    }
    s->log_bs = s->log->bs;
    return !append_to || (read_super(s, errp) && find_end(s, errp));
}

static int blklogwrites_open(BlockDriverState *bs, BlockdevOptions *options,
                             int flags, Error **errp)
{
    BDRVBlklogwritesState *s = bs->opaque;
    BlockdevOptionsBlklogwrites *o = &options->u.blklogwrites;

    qemu_co_mutex_init(&s->lock);
    if (!filter_open_file(bs, o->file, errp) || !open_log(bs, o, errp)) {
        return -EINVAL;
    }
    return 0;
}

static int blklogwrites_reopen_prepare(BDRVReopenState *state,
                                       BlockReopenQueue *queue, Error **errp)
{
    BDRVBlklogwritesState *s = state->bs->opaque;

    if (s->log->bs != s->log_bs) {
        /* It would begin in the middle. */
        error_setg(errp, "Cannot change the option 'log'");
        return -EINVAL;
    }
    return check_interval(interval_option(&state->options->u.blklogwrites),
                          errp) ? 0 : -EINVAL;
}

static void blklogwrites_reopen_commit(BDRVReopenState *state)
{
    BDRVBlklogwritesState *s = state->bs->opaque;

    s->interval = interval_option(&state->options->u.blklogwrites);
}

static void blklogwrites_child_perm(BlockDriverState *bs, BdrvChild *child,
                                    BdrvChildRole role,
                                    BlockReopenQueue *queue,
                                    uint64_t parent_perm,
                                    uint64_t parent_shared,
                                    uint64_t *nperm, uint64_t *nshared)
{
    if (role & BDRV_CHILD_FILTERED) {
        bdrv_default_perms(bs, child, role, queue, parent_perm, parent_shared,
                           nperm, nshared);
        return;
    }
    *nperm = BLK_PERM_CONSISTENT_READ;
    *nshared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
    if (bdrv_reopen_flags(queue, bs) & BDRV_O_RDWR) {
        *nperm |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
    }
}

static void blklogwrites_refresh_limits(BlockDriverState *bs, Error **errp)
{
    BDRVBlklogwritesState *s = bs->opaque;
    const BlockLimits *below = &bs->file->bs->bl;

    filter_refresh_flags(bs);
    /* Compressed writes have no data of their own to log. */
    bs->bl.compress_alignment = 0;
    bs->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_FUA;
    bs->supported_zero_flags |= BDRV_REQ_FUA;
    bs->bl.request_alignment = MAX(below->request_alignment, s->sector_size);
}

/* --- requests --- */

static int coroutine_fn blklogwrites_co_pwritev(BlockDriverState *bs,
                                                int64_t offset, int64_t bytes,
                                                QEMUIOVector *qiov,
                                                size_t qiov_offset,
                                                BdrvRequestFlags flags)
{
    int ret = filter_co_pwritev(bs, offset, bytes, qiov, qiov_offset, flags);

    if (ret < 0) {
        return ret;
    }
    return append(bs, offset, bytes, qiov, qiov_offset,
                  flags & BDRV_REQ_FUA ? LOG_FUA_FLAG : 0);
}

static int coroutine_fn blklogwrites_co_pwrite_zeroes(BlockDriverState *bs,
                                                      int64_t offset,
                                                      int64_t bytes,
                                                      BdrvRequestFlags flags)
{
    int ret;

    if (!QEMU_IS_ALIGNED(offset | bytes, bs->bl.request_alignment)) {
        return -ENOTSUP;
    }
    ret = filter_co_pwrite_zeroes(bs, offset, bytes, flags);
    if (ret < 0) {
        return ret;
    }
    return append(bs, offset, bytes, NULL, 0,
                  flags & BDRV_REQ_FUA ? LOG_FUA_FLAG : 0);
}

static int coroutine_fn blklogwrites_co_pdiscard(BlockDriverState *bs,
                                                 int64_t offset, int64_t bytes)
{
    int ret;

    if (!QEMU_IS_ALIGNED(offset | bytes, bs->bl.request_alignment)) {
        return -ENOTSUP;
    }
    ret = filter_co_pdiscard(bs, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    return append(bs, offset, bytes, NULL, 0, LOG_DISCARD_FLAG);
}

static int coroutine_fn blklogwrites_co_flush_to_os(BlockDriverState *bs)
{
    BDRVBlklogwritesState *s = bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    s->log_bs = s->log->bs;
    return update_super(s);
}

/* Writes that complete now are behind the flush: they wait for the lock. */
static int coroutine_fn blklogwrites_co_flush_to_disk(BlockDriverState *bs)
{
    BDRVBlklogwritesState *s = bs->opaque;
    int ret;

    QEMU_LOCK_GUARD(&s->lock);
    ret = bdrv_co_flush(bs->file->bs);
    if (ret >= 0) {
        ret = append_locked(s, 0, 0, NULL, 0, LOG_FLUSH_FLAG);
    }
    return ret < 0 ? ret : update_super(s);
}

static const char *const blklogwrites_reopen_options[] = {
    "log-super-update-interval", NULL
};
static const char *const blklogwrites_weak_options[] = {
    "log-sector-size", "log-append", "log-super-update-interval", NULL
};

BlockDriver bdrv_blklogwrites = {
    .format_name = "blklogwrites",
    .id = BLOCKDEV_DRIVER_BLKLOGWRITES,
    .instance_size = sizeof(BDRVBlklogwritesState),
    .is_filter = true,
    .bdrv_open = blklogwrites_open,
    .bdrv_reopen_prepare = blklogwrites_reopen_prepare,
    .bdrv_reopen_commit = blklogwrites_reopen_commit,
    .reopen_options = blklogwrites_reopen_options,
    .weak_options = blklogwrites_weak_options,
    .bdrv_child_perm = blklogwrites_child_perm,
    .bdrv_refresh_limits = blklogwrites_refresh_limits,
    .bdrv_co_preadv = filter_co_preadv,
    .bdrv_co_pwritev = blklogwrites_co_pwritev,
    .bdrv_co_pwrite_zeroes = blklogwrites_co_pwrite_zeroes,
    .bdrv_co_pdiscard = blklogwrites_co_pdiscard,
    .bdrv_co_flush_to_os = blklogwrites_co_flush_to_os,
    .bdrv_co_flush_to_disk = blklogwrites_co_flush_to_disk,
    .bdrv_co_block_status = bdrv_co_filter_block_status,
};
