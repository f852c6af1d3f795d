/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lists of damaged ranges, and the log of a node. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/damage.h"
#include "util/lockable.h"

unsigned bdrv_salvage_retries = 1;

/* --- lists --- */

static BdrvDamage *get(const BdrvDamageList *list, guint i)
{
    return &g_array_index(list->ranges, BdrvDamage, i);
}

void bdrv_damage_list_init(BdrvDamageList *list)
{
    *list = (BdrvDamageList) {
        .ranges = g_array_new(false, false, sizeof(BdrvDamage)),
    };
}

void bdrv_damage_list_destroy(BdrvDamageList *list)
{
    g_clear_pointer(&list->ranges, g_array_unref);
}

/* The first range that ends behind @offset; their number if there is none. */
static guint find_index(const BdrvDamageList *list, int64_t offset)
{
    guint low = 0, high = list->ranges->len;

    while (low < high) {
        guint mid = low + (high - low) / 2;
        const BdrvDamage *d = get(list, mid);

        if (d->offset + d->bytes <= offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static bool goes_on(const BdrvDamage *a, const BdrvDamage *b)
{
    return a->offset + a->bytes == b->offset && a->cause == b->cause &&
           (a->host == b->host ||
            (a->host >= 0 && a->host + a->bytes == b->host));
}

/* @d fits between range @i - 1 and range @i. */
static void insert(BdrvDamageList *list, guint i, const BdrvDamage *d)
{
    BdrvDamage *prev = i > 0 ? get(list, i - 1) : NULL;
    BdrvDamage *next = i < list->ranges->len ? get(list, i) : NULL;

    if (prev && goes_on(prev, d)) {
        prev->bytes += d->bytes;
        if (next && goes_on(prev, next)) {
            prev->bytes += next->bytes;
            g_array_remove_index(list->ranges, i);
        }
    } else if (next && goes_on(d, next)) {
        next->offset = d->offset;
        next->host = d->host;
        next->bytes += d->bytes;
    } else if (list->ranges->len == BDRV_DAMAGE_MAX) {
        list->full = true;
        return;
    } else {
        g_array_insert_val(list->ranges, i, *d);
    }
    list->bytes += d->bytes;
}

void bdrv_damage_list_add(BdrvDamageList *list, const BdrvDamage *d)
{
    int64_t pos = d->offset, end = d->offset + d->bytes;

    while (pos < end && !list->full) {
        guint i = find_index(list, pos);
        const BdrvDamage *old = i < list->ranges->len ? get(list, i) : NULL;
        BdrvDamage part = *d;

        if (old && old->offset <= pos) {
            pos = old->offset + old->bytes;
            continue;
        }
        part.offset = pos;
        part.bytes = (old ? MIN(old->offset, end) : end) - pos;
        if (part.host >= 0 && pos > d->offset) {
            part.host += pos - d->offset;
        }
        pos += part.bytes;
        insert(list, i, &part);
    }
}

const BdrvDamage *bdrv_damage_list_find(const BdrvDamageList *list,
                                        int64_t offset, int64_t *bytes)
{
    guint i = find_index(list, offset);
    const BdrvDamage *d;

    assert(*bytes > 0);
    if (i == list->ranges->len) {
        return NULL;
    }
    d = get(list, i);
    if (offset < d->offset) {
        *bytes = MIN(*bytes, d->offset - offset);
        return NULL;
    }
    *bytes = MIN(*bytes, d->offset + d->bytes - offset);
    return d;
}

/* --- the log --- */

static BdrvDamageLog *log_new(void)
{
    BdrvDamageLog *log = g_new0(BdrvDamageLog, 1);

    qemu_mutex_init(&log->lock);
    bdrv_damage_list_init(&log->lost);
    bdrv_damage_list_init(&log->suspect);
    log->notes = g_ptr_array_new_with_free_func(g_free);
    return log;
}

void bdrv_damage_log_free(BdrvDamageLog *log)
{
    if (!log) {
        return;
    }
    qemu_mutex_destroy(&log->lock);
    bdrv_damage_list_destroy(&log->lost);
    bdrv_damage_list_destroy(&log->suspect);
    g_ptr_array_unref(log->notes);
    g_free(log);
}

/* Made while the node is being opened, in one thread. */
BdrvDamageLog *bdrv_damage_log(BlockDriverState *bs)
{
    if (!bs->damage && (bs->open_flags & BDRV_O_SALVAGE)) {
        bs->damage = log_new();
    }
    return bs->damage;
}

void bdrv_damage_add(BlockDriverState *bs, BdrvDamageKind kind, int64_t offset,
                     int64_t bytes, int64_t host, const char *cause)
{
    BdrvDamageLog *log = bdrv_damage_log(bs);
    BdrvDamage d = { offset, bytes, host, cause };

    QEMU_LOCK_GUARD(&log->lock);
    bdrv_damage_list_add(kind == BDRV_DAMAGE_LOST ? &log->lost : &log->suspect,
                         &d);
}

bool bdrv_damage_find_lost(BlockDriverState *bs, int64_t offset,
                           int64_t *bytes)
{
    BdrvDamageLog *log = bdrv_damage_log(bs);

    QEMU_LOCK_GUARD(&log->lock);
    return bdrv_damage_list_find(&log->lost, offset, bytes) != NULL;
}

void bdrv_damage_note(BlockDriverState *bs, const char *fmt, ...)
{
    BdrvDamageLog *log = bdrv_damage_log(bs);
    va_list ap;

    QEMU_LOCK_GUARD(&log->lock);
    va_start(ap, fmt);
    g_ptr_array_add(log->notes, g_strdup_vprintf(fmt, ap));
    va_end(ap);
}

/* --- the survey --- */

static int coroutine_fn survey_entry(void *opaque)
{
    BlockDriverState *bs = opaque;

    return bs->drv->bdrv_co_survey(bs);
}

int bdrv_damage_survey(BlockDriverState *bs)
{
    g_autoptr(GQueue) queue = g_queue_new();
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    int ret = 0;

    g_queue_push_tail(queue, bs);
    while (ret >= 0 && (bs = g_queue_pop_head(queue))) {
        BdrvChild *c;

        if (!g_hash_table_add(seen, bs)) {
            continue;
        }
        if (bdrv_damage_log(bs) && bs->drv && bs->drv->bdrv_co_survey) {
            ret = bdrv_run_co(survey_entry, bs);
        }
        QTAILQ_FOREACH(c, &bs->children, next) {
            g_queue_push_tail(queue, c->bs);
        }
    }
    return ret;
}
