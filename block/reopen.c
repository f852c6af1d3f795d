/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reopen, as block/reopen.h describes its steps.
 *
 * Until commit every node keeps its old flags and options; drivers see the
 * new ones in BDRVReopenState. The graph already has its new shape from step 3
 * on, and guards (edge.c) hold what moved edges held at their former nodes, so
 * that an abort always finds its permissions and file locks still there.
 */
#include "util/osdep.h"
#include "block/activate.h"
#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "block/graph-internal.h"
#include "qobject/qnull.h"
#include "qobject/qstring.h"

typedef struct ReopenEntry {
    BDRVReopenState state;      /* holds a reference to state.bs */
    QDict *given;               /* as queued; nested after step 2 */
    QObject *backing;           /* the backing option; NULL: not given */
    bool keep_old;
    bool read;                  /* through step 2 */
    bool prepared;
} ReopenEntry;

struct BlockReopenQueue {
    GPtrArray *entries;         /* ReopenEntry, parents before children */
    GPtrArray *drained;         /* BlockDriverState, referenced */
    GSList *affected;           /* borrowed: nodes whose permissions change */
};

/* Bits of open_flags that options decide; the rest always stays. */
#define OPTION_FLAGS (BDRV_O_RDWR | BDRV_O_AUTO_RDONLY | BDRV_O_UNMAP | \
                      BDRV_O_CACHE_MASK)

static ReopenEntry *queue_find(BlockReopenQueue *queue, BlockDriverState *bs)
{
    for (guint i = 0; queue && i < queue->entries->len; i++) {
        ReopenEntry *e = queue->entries->pdata[i];

        if (e->state.bs == bs) {
            return e;
        }
    }
    return NULL;
}

int bdrv_reopen_flags(BlockReopenQueue *queue, BlockDriverState *bs)
{
    ReopenEntry *e = queue_find(queue, bs);

    return e ? e->state.flags : bs->open_flags;
}

static void entry_free(void *opaque)
{
    ReopenEntry *e = opaque;

    qobject_unref(e->given);
    qobject_unref(e->backing);
    qobject_unref(e->state.options_dict);
    qapi_free_BlockdevOptions(e->state.options);
    bdrv_unref(e->state.bs);
    g_free(e);
}

BlockReopenQueue *bdrv_reopen_queue(BlockReopenQueue *queue,
                                    BlockDriverState *bs, QDict *options,
                                    bool keep_old_options)
{
    ReopenEntry *e;

    if (!queue) {
        queue = g_new0(BlockReopenQueue, 1);
        queue->entries = g_ptr_array_new_with_free_func(entry_free);
        queue->drained = g_ptr_array_new();
    }
    if (!options) {
        options = qdict_new();
    }
    e = queue_find(queue, bs);
    if (e) {
        /* Named twice: the later options win. */
        qdict_flatten(e->given);
        qdict_flatten(options);
        qdict_join(e->given, options, true);
        qobject_unref(options);
        return queue;
    }
    e = g_new0(ReopenEntry, 1);
    e->state.bs = bdrv_ref(bs);
    e->state.flags = bs->open_flags;
    e->state.detect_zeroes = bs->detect_zeroes;
    e->given = options;
    e->keep_old = keep_old_options;
    g_ptr_array_add(queue->entries, e);
    return queue;
}

void bdrv_reopen_queue_free(BlockReopenQueue *queue)
{
    if (queue) {
        assert(!queue->drained->len);
        g_ptr_array_free(queue->drained, true);
        g_slist_free(queue->affected);
        g_ptr_array_free(queue->entries, true);
        g_free(queue);
    }
}

/* --- step 1 --- */

static void queue_drain(BlockReopenQueue *queue, BlockDriverState *bs)
{
    g_ptr_array_add(queue->drained, bdrv_ref(bs));
    bdrv_drained_begin(bs);
}

static void queue_undrain(BlockReopenQueue *queue)
{
    while (queue->drained->len) {
        BlockDriverState *bs = queue->drained->pdata[queue->drained->len - 1];

        g_ptr_array_set_size(queue->drained, queue->drained->len - 1);
        bdrv_drained_end(bs);
        bdrv_unref(bs);
    }
}

/* --- step 2: options --- */

/* A child described inline gets its options as an entry of its own. */
static bool queue_inline_child(BlockReopenQueue *queue, ReopenEntry *e,
                               BdrvChild *c, QDict *options, Error **errp)
{
    BlockDriverState *bs = e->state.bs;

    if (c->bs->inherits_from != bs) {
        error_setg(errp, "Cannot change options of node '%s' through its "
                   "parent '%s'", bdrv_get_node_name(c->bs),
                   bdrv_get_node_name(bs));
        error_append_hint(errp, "Name the node in the list of nodes to "
                          "reopen.\n");
        return false;
    }
    if (queue_find(queue, c->bs)) {
        error_setg(errp, "Options of node '%s' are given twice, for itself "
                   "and through its parent '%s'", bdrv_get_node_name(c->bs),
                   bdrv_get_node_name(bs));
        return false;
    }
    bdrv_reopen_queue(queue, c->bs, qobject_ref(options), e->keep_old);
    return true;
}

/*
 * The option for child @c of @e: what is described inline, or follows because
 * it was opened inline, is queued; the option itself becomes a node name.
 */
static bool complete_child(BlockReopenQueue *queue, ReopenEntry *e,
                           BdrvChild *c, Error **errp)
{
    BlockDriverState *bs = e->state.bs;
    QObject *value = qdict_get(e->given, c->name);
    QDict *inline_options = value ? qobject_to(QDict, value) : NULL;

    if (inline_options &&
        !queue_inline_child(queue, e, c, inline_options, errp)) {
        return false;
    }
    if (c == bs->backing) {
        /* It stays as it is, and it is not taken for granted. */
        if (inline_options) {
            qdict_put_str(e->given, c->name, bdrv_get_node_name(c->bs));
        }
        return true;
    }
    if (!value && c->bs->inherits_from == bs && !queue_find(queue, c->bs)) {
        bdrv_reopen_queue(queue, c->bs, NULL, true);
    }
    if ((!value || inline_options) && !strchr(c->name, '.')) {
        qdict_put_str(e->given, c->name, bdrv_get_node_name(c->bs));
    }
    return true;
}

/* The driver and the children, unless given, are those there are. */
static bool complete_options(BlockReopenQueue *queue, ReopenEntry *e,
                             Error **errp)
{
    BlockDriverState *bs = e->state.bs;
    BdrvChild *c;

    if (!qdict_haskey(e->given, "driver")) {
        qdict_put_str(e->given, "driver", bs->drv->format_name);
    }
    QTAILQ_FOREACH(c, &bs->children, next) {
        if (!complete_child(queue, e, c, errp)) {
            return false;
        }
    }
    return true;
}

/*
 * Options not given keep their value. Not so children: what they were once
 * opened as may have changed since, and complete_options() knows what is there.
 */
static void join_old_options(ReopenEntry *e)
{
    BlockDriverState *bs = e->state.bs;
    g_autoptr(QDict) old = qdict_clone_shallow(bs->explicit_options);
    BdrvChild *c;

    qdict_del(old, "backing");
    QTAILQ_FOREACH(c, &bs->children, next) {
        qdict_del(old, c->name);
    }
    qdict_flatten(e->given);
    qdict_flatten(old);
    qdict_join(e->given, old, false);
}

static bool option_is_common(const char *name)
{
    static const char *const common[] = {
        "discard", "cache", "read-only", "auto-read-only", "detect-zeroes",
        "active", NULL
    };
    return g_strv_contains(common, name);
}

static bool may_change(BlockDriverState *bs, const char *name)
{
    const char *const *list = bs->drv->reopen_options;

    return option_is_common(name) || bdrv_find_child(bs, name) ||
           !strcmp(name, "backing") || (list && g_strv_contains(list, name));
}

/* Options that identify a node may be repeated but not changed. */
static bool check_identity(BlockDriverState *bs, QDict *dict, Error **errp)
{
    const struct {
        const char *name, *value;
    } fixed[] = {
        { "driver", bs->drv->format_name },
        { "node-name", bs->node_name },
        { "active", "on" },
        { "force-share", bs->open_flags & BDRV_O_FORCE_SHARE ? "on" : "off" },
    };

    for (int i = 0; i < ARRAY_SIZE(fixed); i++) {
        const char *given = qdict_get_try_str(dict, fixed[i].name);

        if (given && strcmp(given, fixed[i].value)) {
            error_setg(errp, "Cannot change the option '%s'", fixed[i].name);
            return false;
        }
    }
    return true;
}

static bool same_option(QDict *a, QDict *b, const char *name)
{
    QObject *x = qdict_get(a, name);
    QObject *y = qdict_get(b, name);

    return x && y && qobject_is_equal(x, y);
}

static bool check_unchanged(BlockDriverState *bs, QDict *dict, Error **errp)
{
    static const char *const identity[] = { "driver", "node-name",
                                            "force-share", NULL };
    QDict *sides[] = { dict, bs->explicit_options };

    for (int i = 0; i < ARRAY_SIZE(sides); i++) {
        const QDictEntry *e;

        for (e = qdict_first(sides[i]); e; e = qdict_next(sides[i], e)) {
            const char *name = qdict_entry_key(e);

            if (!g_strv_contains(identity, name) && !may_change(bs, name) &&
                !same_option(dict, bs->explicit_options, name)) {
                error_setg(errp, "Cannot change the option '%s'", name);
                return false;
            }
        }
    }
    return check_identity(bs, dict, errp);
}

static int default_flags(BlockReopenQueue *queue, ReopenEntry *e)
{
    BlockDriverState *bs = e->state.bs;
    BlockDriverState *parent = bs->inherits_from;
    int flags = bs->open_flags;

    if (parent && queue_find(queue, parent)) {
        BdrvChild *c;

        QTAILQ_FOREACH(c, &parent->children, next) {
            if (c->bs == bs) {
                int inherited = bdrv_child_flags(
                    parent->drv, c->role, bdrv_reopen_flags(queue, parent));
                return (flags & ~OPTION_FLAGS) | (inherited & OPTION_FLAGS);
            }
        }
    }
    if (e->keep_old) {
        return flags;
    }
    return (flags & ~OPTION_FLAGS) | BDRV_O_RDWR;
}

static bool entry_read_options(BlockReopenQueue *queue, ReopenEntry *e,
                               Error **errp)
{
    BlockDriverState *bs = e->state.bs;
    QDict *nested;

    if (!bdrv_check_active(bs, errp)) {
        return false;
    }
    if (!bs->drv->bdrv_reopen_prepare) {
        error_setg(errp, "Block format '%s' used by node '%s' does not "
                   "support reopening files", bs->drv->format_name,
                   bdrv_get_node_name(bs));
        return false;
    }
    if (e->keep_old) {
        join_old_options(e);
    }
    nested = bdrv_options_nest(g_steal_pointer(&e->given), errp);
    if (!nested) {
        e->given = qdict_new();
        return false;
    }
    e->given = nested;
    if (!complete_options(queue, e, errp) ||
        !check_unchanged(bs, e->given, errp)) {
        return false;
    }
    e->state.options_dict = qdict_clone_shallow(e->given);
    if (bs->drv->supports_backing && qdict_haskey(e->given, "backing")) {
        e->backing = qobject_ref(qdict_get(e->given, "backing"));
        qdict_del(e->given, "backing");
    }
    if (bs->backing && !e->backing && !e->keep_old) {
        error_setg(errp, "backing is missing for '%s'",
                   bdrv_get_node_name(bs));
        return false;
    }
    e->state.options = bdrv_options_from_qdict(e->given, errp);
    if (!e->state.options) {
        return false;
    }
    e->state.flags = default_flags(queue, e);
    if (!e->keep_old) {
        e->state.detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    }
    return bdrv_common_options(e->state.options, &e->state.flags,
                               &e->state.detect_zeroes, errp);
}

/* --- step 3: children --- */

static void queue_affects(BlockReopenQueue *queue, BlockDriverState *bs)
{
    queue->affected = g_slist_prepend(queue->affected, bs);
}

/* @c NULL: a backing child is added; @new_bs NULL: it is dropped. */
static bool swap_child(BlockReopenQueue *queue, BlockDriverState *bs,
                       BdrvChild *c, BlockDriverState *new_bs,
                       Transaction *tran, Error **errp)
{
    if (c) {
        bdrv_edge_guard_tran(c->bs, c->perm, c->shared_perm, tran);
        queue_affects(queue, c->bs);
    }
    if (new_bs) {
        queue_affects(queue, new_bs);
    }
    if (!c || c == bs->backing) {
        return bdrv_set_backing_hd_tran(bs, new_bs, NULL, tran, errp);
    }
    return bdrv_replace_child_tran(c, new_bs, NULL, tran, errp);
}

static BlockDriverState *named_node(QObject *value, const char *what,
                                    Error **errp)
{
    QString *name = qobject_to(QString, value);
    BlockDriverState *bs;

    if (!name) {
        error_setg(errp, "A new '%s' child must be given by node name", what);
        return NULL;
    }
    bs = bdrv_find_node(qstring_get_str(name));
    if (!bs) {
        error_setg(errp, "Cannot find device='' nor node-name='%s'",
                   qstring_get_str(name));
    }
    return bs;
}

static bool swap_backing(BlockReopenQueue *queue, ReopenEntry *e,
                         Transaction *tran, Error **errp)
{
    BlockDriverState *bs = e->state.bs;
    BlockDriverState *new_bs = NULL;

    if (!e->backing) {
        return true;
    }
    if (!qobject_to(QNull, e->backing)) {
        QString *name = qobject_to(QString, e->backing);

        if (!name || qstring_get_str(name)[0]) {
            new_bs = named_node(e->backing, "backing", errp);
            if (!new_bs) {
                return false;
            }
        }
    }
    if (child_bs(bs->backing) == new_bs) {
        return true;
    }
    return swap_child(queue, bs, bs->backing, new_bs, tran, errp);
}

static bool swap_children(BlockReopenQueue *queue, ReopenEntry *e,
                          Transaction *tran, Error **errp)
{
    BlockDriverState *bs = e->state.bs;
    g_autoptr(GPtrArray) children = g_ptr_array_new();
    BdrvChild *c;

    QTAILQ_FOREACH(c, &bs->children, next) {
        g_ptr_array_add(children, c);
    }
    for (guint i = 0; i < children->len; i++) {
        QObject *value;
        BlockDriverState *new_bs;

        c = children->pdata[i];
        value = c == bs->backing ? NULL : qdict_get(e->given, c->name);
        if (!value) {
            continue;
        }
        new_bs = named_node(value, c->name, errp);
        if (!new_bs ||
            (new_bs != c->bs &&
             !swap_child(queue, bs, c, new_bs, tran, errp))) {
            return false;
        }
    }
    return swap_backing(queue, e, tran, errp);
}

/* --- all of it --- */

/* An entry whose options can be read: those of the node that it inherits from
 * have been. */
static ReopenEntry *next_to_read(BlockReopenQueue *queue)
{
    for (guint i = 0; i < queue->entries->len; i++) {
        ReopenEntry *e = queue->entries->pdata[i];
        BlockDriverState *parent = e->state.bs->inherits_from;
        ReopenEntry *above = parent ? queue_find(queue, parent) : NULL;

        if (!e->read && (!above || above->read)) {
            return e;
        }
    }
    return NULL;
}

static bool drain_and_read_options(BlockReopenQueue *queue, Error **errp)
{
    ReopenEntry *e;

    /* The queue grows while inline children are found. */
    while ((e = next_to_read(queue))) {
        queue_drain(queue, e->state.bs);
        if (!entry_read_options(queue, e, errp)) {
            return false;
        }
        e->read = true;
    }
    return true;
}

/* New children of the queue have to be quiet as well. */
static void drain_new_children(BlockReopenQueue *queue)
{
    for (guint i = 0; i < queue->entries->len; i++) {
        ReopenEntry *e = queue->entries->pdata[i];
        const QDictEntry *entry;

        for (entry = qdict_first(e->state.options_dict); entry;
             entry = qdict_next(e->state.options_dict, entry)) {
            QString *name = qobject_to(QString, qdict_entry_value(entry));
            BlockDriverState *bs =
                name && (bdrv_find_child(e->state.bs, qdict_entry_key(entry)) ||
                         !strcmp(qdict_entry_key(entry), "backing"))
                    ? bdrv_find_node(qstring_get_str(name)) : NULL;

            if (bs) {
                queue_drain(queue, bs);
            }
        }
    }
}

/* What a stopped node has in memory its reopen gives up. */
static bool can_be_flushed(BlockDriverState *bs)
{
    return !bs->drv->bdrv_is_stopped || !bs->drv->bdrv_is_stopped(bs);
}

static bool change_graph(BlockReopenQueue *queue, Transaction *tran,
                         Error **errp)
{
    for (guint i = 0; i < queue->entries->len; i++) {
        ReopenEntry *e = queue->entries->pdata[i];

        queue_affects(queue, e->state.bs);
        if (!swap_children(queue, e, tran, errp)) {
            return false;
        }
    }
    return bdrv_refresh_perms_tran(queue->affected, queue, tran, errp);
}

static int prepare_drivers(BlockReopenQueue *queue, Error **errp)
{
    for (guint i = 0; i < queue->entries->len; i++) {
        ReopenEntry *e = queue->entries->pdata[i];
        Error *err = NULL;
        int ret = e->state.bs->drv->bdrv_reopen_prepare(&e->state, queue,
                                                        &err);
        if (ret < 0) {
            if (!err) {
                error_setg_errno(&err, -ret, "Failed to reopen node '%s'",
                                 bdrv_get_node_name(e->state.bs));
            }
            error_propagate(errp, err);
            return ret;
        }
        e->prepared = true;
    }
    return 0;
}

static void entry_commit(ReopenEntry *e)
{
    BlockDriverState *bs = e->state.bs;
    BlockdevOptions *old_options = bs->options;

    if (bs->drv->bdrv_reopen_commit) {
        bs->drv->bdrv_reopen_commit(&e->state);
    }
    bs->open_flags = e->state.flags;
    bs->detect_zeroes = e->state.detect_zeroes;
    bs->options = e->state.options;
    e->state.options = old_options;
    qobject_unref(bs->explicit_options);
    bs->explicit_options = g_steal_pointer(&e->state.options_dict);
}

static void finish_drivers(BlockReopenQueue *queue, bool commit)
{
    for (guint i = queue->entries->len; i-- > 0; ) {
        ReopenEntry *e = queue->entries->pdata[i];

        if (commit) {
            entry_commit(e);
        } else if (e->prepared && e->state.bs->drv->bdrv_reopen_abort) {
            e->state.bs->drv->bdrv_reopen_abort(&e->state);
        }
    }
}

static void refresh_after_commit(BlockReopenQueue *queue)
{
    for (guint i = queue->entries->len; i-- > 0; ) {
        ReopenEntry *e = queue->entries->pdata[i];
        g_autoptr(GPtrArray) above = bdrv_nodes_above(e->state.bs);

        /* Limits cannot fail to be merged again from children that work. */
        for (guint n = 0; n < above->len; n++) {
            bdrv_refresh_limits(above->pdata[n], NULL);
            bdrv_dirty_bitmap_follow_length(above->pdata[n]);
        }
        bdrv_refresh_filename(e->state.bs);
    }
}

int bdrv_reopen_multiple(BlockReopenQueue *queue, Error **errp)
{
    Transaction *tran = tran_new();
    int ret = -EINVAL;

    if (!drain_and_read_options(queue, errp)) {
        tran_abort(tran);
        goto out;
    }
    drain_new_children(queue);
    for (guint i = 0; i < queue->entries->len; i++) {
        ReopenEntry *e = queue->entries->pdata[i];

        if (!can_be_flushed(e->state.bs)) {
            continue;
        }
        ret = bdrv_flush(e->state.bs);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Error flushing node '%s'",
                             bdrv_get_node_name(e->state.bs));
            tran_abort(tran);
            goto out;
        }
    }

    bdrv_graph_change_begin();
    ret = change_graph(queue, tran, errp) ? 0 : -EPERM;
    if (ret < 0) {
        tran_abort(tran);
        bdrv_graph_change_end();
        goto out;
    }
    bdrv_graph_wrunlock();

    ret = prepare_drivers(queue, errp);

    bdrv_graph_wrlock();
    finish_drivers(queue, ret == 0);
    tran_finalize(tran, ret);
    bdrv_graph_change_end();
    if (ret == 0) {
        refresh_after_commit(queue);
    }
out:
    queue_undrain(queue);
    bdrv_reopen_queue_free(queue);
    return ret;
}

int bdrv_reopen(BlockDriverState *bs, QDict *options, bool keep_old_options,
                Error **errp)
{
    return bdrv_reopen_multiple(
        bdrv_reopen_queue(NULL, bs, options, keep_old_options), errp);
}

int bdrv_reopen_set_read_only(BlockDriverState *bs, bool read_only,
                              Error **errp)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "read-only", read_only ? "on" : "off");
    return bdrv_reopen(bs, options, true, errp);
}
