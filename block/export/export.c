/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exports by id: making and ending them. */
#include "util/osdep.h"
#include "block/activate.h"
#include "block/export.h"
#include "block/block_int.h"
#include "block/home.h"
#include "objects/object.h"
#include "qapi/qapi-events.h"
#include "util/id.h"

/* NULL-terminated. */
static const BlockExportDriver *const block_export_drivers[] = {
#ifdef CONFIG_EXPORT_FUSE
    &blk_exp_fuse,
#endif
#ifdef CONFIG_EXPORT_VHOST_USER_BLK
    &blk_exp_vhost_user_blk,
#endif
    &blk_exp_nbd,
    NULL
};

/* Deleted ones are in it until delete() has run. */
static QLIST_HEAD(, BlockExport) exports = QLIST_HEAD_INITIALIZER(exports);

static const BlockExportDriver *find_driver(BlockExportType type)
{
    const BlockExportDriver *const *drv = block_export_drivers;

    while (*drv && (*drv)->type != type) {
        drv++;
    }
    assert(*drv);       /* the schema has only types with a driver */
    return *drv;
}

BlockExport *blk_exp_find(const char *id)
{
    BlockExport *exp;

    QLIST_FOREACH(exp, &exports, next) {
        if (!strcmp(exp->id, id)) {
            return exp;
        }
    }
    return NULL;
}

BlockExport *blk_exp_next(BlockExport *exp)
{
    return exp ? QLIST_NEXT(exp, next) : QLIST_FIRST(&exports);
}

/* --- threads --- */

static void release_thread(void *opaque)
{
    user_object_unuse(opaque);
}

static bool use_thread(BlockExport *exp, const char *id, Error **errp)
{
    UserObject *obj = user_object_use(id, OBJECT_TYPE_IOTHREAD, errp);

    if (!obj) {
        return false;
    }
    g_ptr_array_add(exp->threads, obj);
    return true;
}

static bool use_threads(BlockExport *exp, const BlockExportIothreads *names,
                        Error **errp)
{
    exp->threads = g_ptr_array_new_with_free_func(release_thread);
    exp->homes = g_ptr_array_new_with_free_func(release_thread);
    if (names && names->type == QTYPE_QSTRING) {
        return use_thread(exp, names->u.single, errp);
    }
    if (!names) {
        return true;
    }
    if (!names->u.multi) {
        error_setg(errp, "The list of IOThreads must not be empty");
        return false;
    }
    if (names->u.multi->next && !exp->drv->supports_multithread) {
        error_setg(errp, "%s export does not support multi-threading",
                   BlockExportType_str(exp->drv->type));
        return false;
    }
    for (strList *l = names->u.multi; l; l = l->next) {
        if (!use_thread(exp, l->value, errp)) {
            return false;
        }
    }
    return true;
}

/* NULL: the main loop. */
static UserObject *use_home(BlockExport *exp)
{
    UserObject *home = bdrv_home(blk_bs(exp->blk));

    if (home && !g_ptr_array_find(exp->homes, home, NULL)) {
        g_ptr_array_add(exp->homes,
                        user_object_use(user_object_id(home),
                                        OBJECT_TYPE_IOTHREAD, &error_abort));
    }
    return home;
}

AioContext *blk_exp_thread_ctx(BlockExport *exp, unsigned n)
{
    UserObject *obj;

    if (exp->threads->len) {
        obj = exp->threads->pdata[n % exp->threads->len];
    } else if (exp->fixed_home && exp->ctx) {
        return exp->ctx;
    } else {
        obj = use_home(exp);
    }
    return obj ? iothread_get_aio_context(user_object_data(obj))
               : qemu_get_aio_context();
}

/* --- making --- */

/* Requests of its clients may wait for servers that are gone. */
static void hurry(void *opaque)
{
    BlockExport *exp = opaque;

    if (blk_bs(exp->blk)) {
        bdrv_hurry(blk_bs(exp->blk));
    }
    timer_mod_ns(&exp->hurry, get_clock() + NANOSECONDS_PER_SECOND);
}

/* Clients of an export find an active node, unless it was said otherwise. */
static bool settle_activity(BlockExport *exp, BlockExportOptions *options,
                            BlockDriverState *bs, Error **errp)
{
    if (!options->has_allow_inactive || !options->allow_inactive) {
        exp->activated = bdrv_is_inactive(bs);
        return !exp->activated || bdrv_activate(bs, errp);
    }
    if (!exp->drv->supports_inactive) {
        error_setg(errp, "%s export does not support inactive nodes",
                   BlockExportType_str(exp->drv->type));
        return false;
    }
    blk_set_allow_inactive(exp->blk);
    return true;
}

/* After @activated by an export that was not to be. */
static void undo_activate(BlockDriverState *bs, bool activated)
{
    Error *err = NULL;

    if (activated && !bdrv_inactivate(bs, &err)) {
        error_reportf_err(err, "Node '%s' stays active: ",
                          bdrv_get_node_name(bs));
    }
}

static bool open_backend(BlockExport *exp, BlockExportOptions *options,
                         Error **errp)
{
    BlockDriverState *bs = bdrv_find_node(options->node_name);
    uint64_t perm = BLK_PERM_CONSISTENT_READ;

    if (!bs) {
        error_setg(errp, "Cannot find device='%s' nor node-name='%s'",
                   options->node_name, options->node_name);
        return false;
    }
    exp->writable = options->has_writable && options->writable;
    if (exp->writable) {
        if (bdrv_is_read_only(bs)) {
            error_setg(errp, "Cannot export read-only node as writable");
            return false;
        }
        perm |= BLK_PERM_WRITE;
    }
    exp->blk = blk_new(perm, BLK_PERM_ALL);
    blk_set_owner(exp->blk, "%s export '%s'",
                  BlockExportType_str(options->type), options->id);
    blk_set_name(exp->blk, options->id);
    if (!settle_activity(exp, options, bs, errp)) {
        return false;
    }
    if (!blk_insert_bs(exp->blk, bs, errp)) {
        undo_activate(bs, exp->activated);
        return false;
    }
    blk_set_enable_write_cache(exp->blk, !(options->has_writethrough &&
                                           options->writethrough));
    return true;
}

static void export_free(BlockExport *exp)
{
    blk_unref(exp->blk);
    g_ptr_array_unref(exp->threads);
    g_ptr_array_unref(exp->homes);
    g_free(exp->id);
    g_free(exp);
}

BlockExport *blk_exp_add(BlockExportOptions *options, Error **errp)
{
    const BlockExportDriver *drv = find_driver(options->type);
    BlockDriverState *bs;
    BlockExport *exp;

    if (!id_wellformed(options->id)) {
        error_setg(errp, "Invalid block export id");
        return NULL;
    }
    if (blk_exp_find(options->id)) {
        error_setg(errp, "Block export id '%s' is already in use",
                   options->id);
        return NULL;
    }
    assert(drv->instance_size >= sizeof(*exp));
    exp = g_malloc0(drv->instance_size);
    exp->drv = drv;
    exp->id = g_strdup(options->id);
    exp->refcount = 1;
    exp->user_owned = true;
    if (!use_threads(exp, options->iothread, errp) ||
        !open_backend(exp, options, errp)) {
        export_free(exp);
        return NULL;
    }
    bs = blk_bs(exp->blk);
    exp->fixed_home = options->has_fixed_iothread && options->fixed_iothread;
    exp->ctx = blk_exp_thread_ctx(exp, 0);
    aio_timer_init(qemu_get_aio_context(), &exp->hurry, QEMU_CLOCK_REALTIME,
                   SCALE_NS, hurry, exp);
    if (!drv->create(exp, options, errp)) {
        bool activated = exp->activated;

        bdrv_ref(bs);
        export_free(exp);
        undo_activate(bs, activated);
        bdrv_unref(bs);
        return NULL;
    }
    QLIST_INSERT_HEAD(&exports, exp, next);
    return exp;
}

/* --- ending --- */

static void export_delete_bh(void *opaque)
{
    BlockExport *exp = opaque;
    g_autofree char *id = g_strdup(exp->id);

    assert(!qatomic_read(&exp->refcount));
    timer_del(&exp->hurry);
    QLIST_REMOVE(exp, next);
    exp->drv->delete(exp);
    export_free(exp);
    qapi_event_send_block_export_deleted(id);
    aio_wait_kick();
}

void blk_exp_ref(BlockExport *exp)
{
    assert(qatomic_read(&exp->refcount) > 0);
    qatomic_inc(&exp->refcount);
}

void blk_exp_unref(BlockExport *exp)
{
    if (qatomic_fetch_dec(&exp->refcount) == 1) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), export_delete_bh,
                                exp);
    }
}

void blk_exp_request_shutdown(BlockExport *exp)
{
    if (exp->shutting_down) {
        return;
    }
    exp->shutting_down = true;
    /* It must survive the driver's dropping of clients. */
    blk_exp_ref(exp);
    exp->drv->request_shutdown(exp);
    hurry(exp);
    if (exp->user_owned) {
        exp->user_owned = false;
        blk_exp_unref(exp);
    }
    blk_exp_unref(exp);
}

bool blk_exp_del(const char *id, BlockExportRemoveMode mode, Error **errp)
{
    BlockExport *exp = blk_exp_find(id);

    if (!exp) {
        error_setg(errp, "Export '%s' is not found", id);
        return false;
    }
    if (!exp->user_owned) {
        error_setg(errp, "Export '%s' is already shutting down", id);
        return false;
    }
    if (mode != BLOCK_EXPORT_REMOVE_MODE_HARD &&
        qatomic_read(&exp->refcount) > 1) {
        error_setg(errp, "export '%s' still in use", id);
        error_append_hint(errp, "Use mode='hard' to force client "
                          "disconnect\n");
        return false;
    }
    blk_exp_request_shutdown(exp);
    return true;
}

bool blk_exp_any(int type)
{
    BlockExport *exp;

    QLIST_FOREACH(exp, &exports, next) {
        if (type < 0 || exp->drv->type == type) {
            return true;
        }
    }
    return false;
}

void blk_exp_close_all_type(int type)
{
    BlockExport *exp, *next;

    QLIST_FOREACH_SAFE(exp, &exports, next, next) {
        if (type < 0 || exp->drv->type == type) {
            blk_exp_request_shutdown(exp);
        }
    }
    AIO_WAIT_WHILE(NULL, blk_exp_any(type));
}

void blk_exp_close_all(void)
{
    blk_exp_close_all_type(-1);
}
