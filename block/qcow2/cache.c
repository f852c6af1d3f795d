/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cache of metadata pieces: slices of L2 tables, or refcount blocks.
 *
 * All functions run under BDRVQcow2State.lock; pieces are handed out pinned
 * and stay in place until they are put back.
 *
 * Invariants:
 *   1. A piece is in the hash exactly if its offset is not 0.
 *   2. A pinned piece is never evicted. A caller pins two pieces of one cache
 *      at most, and a cache has at least MIN_CACHE_TABLES.
 *   3. A dirty piece leaves memory only through a successful write, or by
 *      qcow2_cache_discard_range() because its cluster has been freed.
 *   4. Before any L2 slice is written, everything it may refer to is durable
 *      (qcow2_flush_before_l2()). That costs a flush, so when one dirty slice
 *      must go, all are written.
 *   5. After qcow2_cache_stop() nothing is written: dirty pieces stay, nothing
 *      else becomes dirty, and clean ones come and go as before.
 */
#include "util/osdep.h"
#include <sys/mman.h>
#include "util/memalign.h"
#include "block/qcow2/salvage.h"

#define MIN_CACHE_TABLES 2
#define NONE UINT32_MAX
/* Consecutive pieces that go into one write. */
#define MAX_MERGE 64
/* Consecutive pieces that are read together: 64 KiB of 4 KiB each. */
#define MAX_READ 16

typedef struct Qcow2CacheEntry {
    uint64_t offset;        /* host; 0: empty */
    uint64_t last_use;      /* Qcow2Cache.clock at the last get */
    uint32_t hash_next;
    uint32_t lru_prev;      /* towards more recently used */
    uint32_t lru_next;
    uint32_t pins;
    bool dirty;
} Qcow2CacheEntry;

struct Qcow2Cache {
    /* Fixed. */
    uint32_t num;           /* with MIN_CACHE_TABLES for when it is stopped */
    uint32_t table_size;
    uint32_t hash_mask;
    int overlap_ign;
    bool orders_refcounts;  /* holds L2 slices: rule 4 */
    bool stopped;           /* rule 5; not fixed: set once */
    bool salvage;           /* what cannot be read is poison, no error */
    uint8_t *tables;

    Qcow2CacheEntry *entries;
    uint32_t *buckets;
    uint32_t lru_first;     /* most recently used */
    uint32_t lru_last;
    uint32_t nb_dirty;
    uint64_t clock;
    uint64_t clean_clock;   /* clock at the last qcow2_cache_clean_unused() */
    uint64_t read_end;      /* where the last read ended; host offset */
};

static void *entry_table(const Qcow2Cache *c, uint32_t i)
{
    return c->tables + (size_t)i * c->table_size;
}

static uint32_t table_entry(const Qcow2Cache *c, const void *table)
{
    size_t pos = (const uint8_t *)table - c->tables;

    assert(pos % c->table_size == 0 && pos / c->table_size < c->num);
    return pos / c->table_size;
}

static uint32_t *hash_bucket(const Qcow2Cache *c, uint64_t offset)
{
    uint64_t h = (offset / c->table_size) * 0x9e3779b97f4a7c15ULL;

    return &c->buckets[(h >> 32) & c->hash_mask];
}

static uint32_t hash_find(const Qcow2Cache *c, uint64_t offset)
{
    uint32_t i = *hash_bucket(c, offset);

    while (i != NONE && c->entries[i].offset != offset) {
        i = c->entries[i].hash_next;
    }
    return i;
}

static void hash_insert(Qcow2Cache *c, uint32_t i, uint64_t offset)
{
    uint32_t *bucket = hash_bucket(c, offset);

    c->entries[i].offset = offset;
    c->entries[i].hash_next = *bucket;
    *bucket = i;
}

static void hash_remove(Qcow2Cache *c, uint32_t i)
{
    uint32_t *p = hash_bucket(c, c->entries[i].offset);

    while (*p != i) {
        p = &c->entries[*p].hash_next;
    }
    *p = c->entries[i].hash_next;
    c->entries[i].offset = 0;
}

static void lru_unlink(Qcow2Cache *c, uint32_t i)
{
    Qcow2CacheEntry *e = &c->entries[i];

    if (e->lru_prev != NONE) {
        c->entries[e->lru_prev].lru_next = e->lru_next;
    } else {
        c->lru_first = e->lru_next;
    }
    if (e->lru_next != NONE) {
        c->entries[e->lru_next].lru_prev = e->lru_prev;
    } else {
        c->lru_last = e->lru_prev;
    }
}

static void lru_push_front(Qcow2Cache *c, uint32_t i)
{
    Qcow2CacheEntry *e = &c->entries[i];

    e->lru_prev = NONE;
    e->lru_next = c->lru_first;
    if (c->lru_first != NONE) {
        c->entries[c->lru_first].lru_prev = i;
    } else {
        c->lru_last = i;
    }
    c->lru_first = i;
}

static void lru_push_back(Qcow2Cache *c, uint32_t i)
{
    Qcow2CacheEntry *e = &c->entries[i];

    e->lru_next = NONE;
    e->lru_prev = c->lru_last;
    if (c->lru_last != NONE) {
        c->entries[c->lru_last].lru_next = i;
    } else {
        c->lru_first = i;
    }
    c->lru_last = i;
}

static void set_dirty(Qcow2Cache *c, uint32_t i, bool dirty)
{
    if (c->entries[i].dirty != dirty) {
        c->entries[i].dirty = dirty;
        c->nb_dirty += dirty ? 1 : -1;
    }
}

Qcow2Cache *qcow2_cache_create(BlockDriverState *bs, int num_tables,
                               unsigned table_size, int overlap_ign)
{
    Qcow2Cache *c = g_new0(Qcow2Cache, 1);
    uint32_t buckets = 1;

    c->num = MAX(num_tables, MIN_CACHE_TABLES) + MIN_CACHE_TABLES;
    c->table_size = table_size;
    c->overlap_ign = overlap_ign;
    c->orders_refcounts = overlap_ign == QCOW2_OL_ACTIVE_L2;
    c->salvage = ((BDRVQcow2State *)bs->opaque)->salvage;
    while (buckets < c->num) {
        buckets *= 2;
    }
    c->hash_mask = buckets - 1;
    c->lru_first = c->lru_last = NONE;
    c->entries = g_try_new0(Qcow2CacheEntry, c->num);
    c->buckets = g_try_new(uint32_t, buckets);
    /* Whole pages, so that unused ones can be given back to the system. */
    c->tables = qemu_try_memalign(MAX(bdrv_opt_mem_align(bs->file->bs),
                                      qemu_real_host_page_size()),
                                  (size_t)c->num * table_size);
    if (!c->entries || !c->buckets || !c->tables) {
        qcow2_cache_destroy(c);
        return NULL;
    }
    memset(c->buckets, 0xff, buckets * sizeof(uint32_t));
    for (uint32_t i = 0; i < c->num - MIN_CACHE_TABLES; i++) {
        lru_push_back(c, i);
    }
    return c;
}

void qcow2_cache_stop(Qcow2Cache *c)
{
    assert(!c->stopped);
    c->stopped = true;
    /* Were all others dirty there would be no place left to read into. */
    for (uint32_t i = c->num - MIN_CACHE_TABLES; i < c->num; i++) {
        lru_push_back(c, i);
    }
}

void qcow2_cache_destroy(Qcow2Cache *c)
{
    if (!c) {
        return;
    }
    for (uint32_t i = 0; c->entries && i < c->num; i++) {
        assert(!c->entries[i].pins);
    }
    qemu_vfree(c->tables);
    g_free(c->entries);
    g_free(c->buckets);
    g_free(c);
}

/* --- writing --- */

/* Writes the @n pieces, which lie one after the other on disk. */
static int coroutine_fn write_run(BlockDriverState *bs, Qcow2Cache *c,
                                  const uint32_t *index, uint32_t n)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t offset = c->entries[index[0]].offset;
    uint64_t bytes = (uint64_t)n * c->table_size;
    struct iovec iov[MAX_MERGE];
    QEMUIOVector qiov;
    int ret;

    ret = qcow2_pre_write_overlap_check(bs, c->overlap_ign, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < n; i++) {
        iov[i].iov_base = entry_table(c, index[i]);
        iov[i].iov_len = c->table_size;
    }
    qemu_iovec_init_external(&qiov, iov, n);
    BLKDBG_EVENT(bs->file, c->orders_refcounts ? BLKDBG_L2_UPDATE
                                               : BLKDBG_REFBLOCK_UPDATE_PART);
    ret = bdrv_co_pwritev(bs->file, offset, bytes, &qiov, 0);
    if (ret < 0) {
        return ret;
    }
    s->unflushed = true;
    for (uint32_t i = 0; i < n; i++) {
        set_dirty(c, index[i], false);
    }
    return 0;
}

static int compare_offsets(const void *a, const void *b, void *opaque)
{
    const Qcow2Cache *c = opaque;
    uint64_t x = c->entries[*(const uint32_t *)a].offset;
    uint64_t y = c->entries[*(const uint32_t *)b].offset;

    return x < y ? -1 : x > y;
}

int coroutine_fn qcow2_cache_write(BlockDriverState *bs, Qcow2Cache *c)
{
    g_autofree uint32_t *index = NULL;
    uint32_t n = 0, pos = 0;
    int result = 0;

    if (!c->nb_dirty) {
        return 0;
    }
    index = g_new(uint32_t, c->nb_dirty);
    for (uint32_t i = 0; i < c->num; i++) {
        if (c->entries[i].dirty) {
            index[n++] = i;
        }
    }
    assert(n == c->nb_dirty);
    g_qsort_with_data(index, n, sizeof(*index), compare_offsets, c);

    while (pos < n) {
        uint64_t start = c->entries[index[pos]].offset;
        uint32_t run = 1;
        int ret;

        while (pos + run < n && run < MAX_MERGE &&
               c->entries[index[pos + run]].offset ==
               start + (uint64_t)run * c->table_size) {
            run++;
        }
        ret = write_run(bs, c, index + pos, run);
        /* Save what can be saved; running out of space may hit one only. */
        if (ret < 0 && (result == 0 || result == -ENOSPC)) {
            result = ret;
        }
        pos += run;
    }
    return result;
}

/* --- getting pieces --- */

/* How far from the end of the LRU list a clean piece is looked for. */
static uint32_t search_depth(const Qcow2Cache *c)
{
    return MAX(8, c->num / 4);
}

/*
 * The piece to give up: clean if one is near the end, else the oldest. In a
 * stopped cache, the oldest clean one; NONE if a request that was under way
 * when it was stopped has pinned them.
 */
static uint32_t find_victim(const Qcow2Cache *c)
{
    uint32_t oldest = NONE;
    uint32_t depth = search_depth(c);

    for (uint32_t i = c->lru_last; i != NONE; i = c->entries[i].lru_prev) {
        const Qcow2CacheEntry *e = &c->entries[i];

        if (e->pins) {
            continue;
        }
        if (!e->dirty) {
            return i;
        }
        if (c->stopped) {
            continue;
        }
        if (oldest == NONE) {
            oldest = i;
        }
        if (!depth--) {
            break;
        }
    }
    return oldest;
}

/* An empty piece, unhashed. */
static int coroutine_fn evict(BlockDriverState *bs, Qcow2Cache *c,
                              uint32_t *victim)
{
    uint32_t i = find_victim(c);
    int ret;

    if (i == NONE) {
        assert(c->stopped);     /* rule 2 */
        return -EUCLEAN;
    }
    if (c->entries[i].dirty) {
        if (c->orders_refcounts) {
            ret = qcow2_flush_before_l2(bs);
            if (ret < 0) {
                return ret;
            }
            ret = qcow2_cache_write(bs, c);
        } else {
            ret = write_run(bs, c, &i, 1);
        }
        if (ret < 0 && c->entries[i].dirty) {
            return ret;
        }
    }
    if (c->entries[i].offset) {
        hash_remove(c, i);
    }
    *victim = i;
    return 0;
}

/*
 * How many pieces behind the one at @offset, which is missing, are worth reading
 * with it: none unless the last read ended here, as it does for whoever goes
 * through a table. Only the rest of the cluster is sure to be the same table.
 */
static uint32_t count_ahead(BlockDriverState *bs, Qcow2Cache *c,
                            uint64_t offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t left = s->cluster_size - offset_into_cluster(s, offset);
    uint32_t max = MIN(MAX_READ - 1, MIN(left / c->table_size - 1, c->num / 4));
    uint32_t n = 0;

    if (offset != c->read_end || c->salvage) {
        return 0;
    }
    while (n < max &&
           hash_find(c, offset + (n + 1) * c->table_size) == NONE) {
        n++;
    }
    return qcow2_table_is_in_file(bs, offset, (n + 1) * c->table_size) ? n : 0;
}

/* Empties and pins up to @n pieces that need no write, the newest then. */
static uint32_t take_clean(Qcow2Cache *c, uint32_t n, uint32_t *index)
{
    uint32_t taken = 0;

    while (taken < n) {
        uint32_t i = find_victim(c);

        if (i == NONE || c->entries[i].dirty) {
            break;
        }
        if (c->entries[i].offset) {
            hash_remove(c, i);
        }
        lru_unlink(c, i);
        lru_push_front(c, i);
        c->entries[i].last_use = c->clock;
        c->entries[i].pins = 1;
        index[taken++] = i;
    }
    return taken;
}

/* Reads piece @i at @offset and @n more, into pieces that need no write. */
static int coroutine_fn read_ahead(BlockDriverState *bs, Qcow2Cache *c,
                                   uint32_t i, uint64_t offset, uint32_t n)
{
    uint32_t index[MAX_READ] = { i };
    struct iovec iov[MAX_READ];
    QEMUIOVector qiov;
    int ret;

    c->entries[i].pins = 1;
    n = 1 + take_clean(c, n, index + 1);
    for (uint32_t k = 0; k < n; k++) {
        iov[k].iov_base = entry_table(c, index[k]);
        iov[k].iov_len = c->table_size;
    }
    qemu_iovec_init_external(&qiov, iov, n);
    ret = bdrv_co_preadv(bs->file, offset, (uint64_t)n * c->table_size, &qiov,
                         0);
    for (uint32_t k = 0; k < n; k++) {
        c->entries[index[k]].pins = 0;
        if (k && ret == 0) {
            hash_insert(c, index[k], offset + k * c->table_size);
        }
    }
    c->read_end = offset + n * c->table_size;
    return ret;
}

static int coroutine_fn read_table(BlockDriverState *bs, Qcow2Cache *c,
                                   uint32_t i, uint64_t offset)
{
    void *table = entry_table(c, i);
    uint32_t ahead = count_ahead(bs, c, offset);

    if (c->salvage) {
        qcow2_salvage_read(bs, offset, c->table_size, table);
        return 0;
    }
    /* An error further on is for those who want what is there. */
    if (ahead && read_ahead(bs, c, i, offset, ahead) == 0) {
        return 0;
    }
    c->read_end = offset + c->table_size;
    return bdrv_co_pread(bs->file, offset, c->table_size, table, 0);
}

static int coroutine_fn cache_do_get(BlockDriverState *bs, Qcow2Cache *c,
                                     uint64_t offset, void **table, bool read)
{
    uint32_t i;
    int ret;

    if (!offset || offset % c->table_size ||
        offset >= QCOW_MAX_HOST_OFFSET) {
        return -EIO;
    }

    i = hash_find(c, offset);
    if (i == NONE) {
        ret = evict(bs, c, &i);
        if (ret < 0) {
            return ret;
        }
        if (read && !c->salvage &&
            !qcow2_table_is_in_file(bs, offset, c->table_size)) {
            qcow2_signal_corruption(bs, false, offset, c->table_size,
                                    "%s at %#" PRIx64 " is beyond the end of "
                                    "the file",
                                    c->orders_refcounts ? "L2 table"
                                                        : "Refcount block",
                                    offset);
            return -EIO;
        }
        if (read) {
            if (c->orders_refcounts) {
                BLKDBG_EVENT(bs->file, BLKDBG_L2_LOAD);
            } else {
                BLKDBG_EVENT(bs->file, BLKDBG_REFBLOCK_LOAD);
            }
            ret = read_table(bs, c, i, offset);
            if (ret < 0) {
                return ret;
            }
        }
        hash_insert(c, i, offset);
    }
    if (!read) {
        memset(entry_table(c, i), 0, c->table_size);
    }

    if (c->lru_first != i) {
        lru_unlink(c, i);
        lru_push_front(c, i);
    }
    c->entries[i].last_use = ++c->clock;
    c->entries[i].pins++;
    *table = entry_table(c, i);
    return 0;
}

int coroutine_fn qcow2_cache_get(BlockDriverState *bs, Qcow2Cache *c,
                                 uint64_t offset, void **table)
{
    return cache_do_get(bs, c, offset, table, true);
}

int coroutine_fn qcow2_cache_get_empty(BlockDriverState *bs, Qcow2Cache *c,
                                       uint64_t offset, void **table)
{
    return cache_do_get(bs, c, offset, table, false);
}

void qcow2_cache_put(Qcow2Cache *c, void **table)
{
    uint32_t i;

    if (!*table) {
        return;
    }
    i = table_entry(c, *table);
    assert(c->entries[i].pins);
    c->entries[i].pins--;
    *table = NULL;
}

void qcow2_cache_entry_mark_dirty(Qcow2Cache *c, void *table)
{
    uint32_t i = table_entry(c, table);

    assert(c->entries[i].pins && c->entries[i].offset);
    if (!c->stopped) {
        set_dirty(c, i, true);
    }
}

bool qcow2_cache_is_dirty(Qcow2Cache *c)
{
    return c->nb_dirty > 0;
}

bool qcow2_cache_contains(Qcow2Cache *c, uint64_t offset)
{
    return offset && hash_find(c, offset) != NONE;
}

/* --- giving up --- */

static void drop_entry(Qcow2Cache *c, uint32_t i)
{
    assert(!c->entries[i].pins);
    set_dirty(c, i, false);
    hash_remove(c, i);
    lru_unlink(c, i);
    lru_push_back(c, i);
}

void qcow2_cache_discard_range(Qcow2Cache *c, uint64_t offset, uint64_t bytes)
{
    uint64_t end = offset + bytes;

    /* Few pieces: look each up. Many: look at each that there is. */
    if (bytes / c->table_size <= c->num) {
        for (uint64_t o = QEMU_ALIGN_UP(offset, c->table_size); o < end;
             o += c->table_size) {
            uint32_t i = o ? hash_find(c, o) : NONE;

            /* Pinned: only in a corrupt image, where clusters overlap. */
            if (i != NONE && !c->entries[i].pins) {
                drop_entry(c, i);
            }
        }
        return;
    }
    for (uint32_t i = 0; i < c->num; i++) {
        if (c->entries[i].offset && c->entries[i].offset >= offset &&
            c->entries[i].offset < end && !c->entries[i].pins) {
            drop_entry(c, i);
        }
    }
}

void qcow2_cache_empty(Qcow2Cache *c)
{
    assert(!c->nb_dirty);
    for (uint32_t i = 0; i < c->num; i++) {
        if (c->entries[i].offset) {
            drop_entry(c, i);
        }
    }
}

/* Gives the whole pages inside the pieces [@i, @i + @n) back. */
static void release_memory(Qcow2Cache *c, uint32_t i, uint32_t n)
{
    uintptr_t page = qemu_real_host_page_size();
    uintptr_t start = QEMU_ALIGN_UP((uintptr_t)entry_table(c, i), page);
    uintptr_t end = QEMU_ALIGN_DOWN((uintptr_t)entry_table(c, i) +
                                    (size_t)n * c->table_size, page);

    if (start < end) {
        madvise((void *)start, end - start, MADV_DONTNEED);
    }
}

static bool is_unused(const Qcow2Cache *c, const Qcow2CacheEntry *e)
{
    return !e->pins && !e->dirty && e->last_use <= c->clean_clock;
}

void qcow2_cache_clean_unused(Qcow2Cache *c)
{
    uint32_t i = 0;

    while (i < c->num) {
        uint32_t n = 0;
        bool any = false;

        while (i + n < c->num && is_unused(c, &c->entries[i + n])) {
            if (c->entries[i + n].offset) {
                drop_entry(c, i + n);
                any = true;
            }
            n++;
        }
        if (any) {
            release_memory(c, i, n);
        }
        i += n + 1;
    }
    c->clean_clock = c->clock;
}
