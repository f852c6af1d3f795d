/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img amend.
 *
 * Everything that would make any of the options fail is looked for first; then
 * come, each on its own safe against a power cut: version 3, the width of
 * refcounts, lazy refcounts, the L1 guard, the size, version 2.
 */
#include "util/osdep.h"
#include "block/block-backend.h"
#include "block/drain.h"
#include "block/qcow2/amend.h"
#include "block/qcow2/qcow2.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"
#include "util/lockable.h"

typedef struct Amend {
    BlockDriverState *bs;
    const AmendOptionsQcow2 *o;
    const BdrvAmendArgs *args;
    int version;            /* what it becomes; so on */
    int refcount_order;
    bool lazy;
    bool guard;
    uint64_t size;
} Amend;

/* --- looking --- */

static bool check_version(Amend *a, Error **errp)
{
    const char *compat = a->o->compat;

    if (!compat) {
        return true;
    }
    if (!strcmp(compat, "0.10") || !strcmp(compat, "v2")) {
        a->version = 2;
    } else if (!strcmp(compat, "1.1") || !strcmp(compat, "v3")) {
        a->version = 3;
    } else {
        error_setg(errp, "Unknown compatibility level %s", compat);
        return false;
    }
    return true;
}

static bool check_refcount_bits(Amend *a, Error **errp)
{
    int64_t bits = a->o->refcount_bits;

    if (a->o->has_refcount_bits) {
        if (bits <= 0 || bits > 64 || (bits & (bits - 1))) {
            error_setg(errp, "Refcount width must be a power of two and may "
                       "not exceed 64 bits");
            return false;
        }
        a->refcount_order = __builtin_ctzll(bits);
        if (a->version < 3 && bits != 16) {
            error_setg(errp, "Refcount widths other than 16 bits require "
                       "compatibility level 1.1 or above (use compat=1.1 or "
                       "greater)");
            return false;
        }
    } else if (a->version < 3 && a->refcount_order != 4) {
        error_setg(errp, "compat=0.10 requires refcount_bits=16");
        return false;
    }
    return true;
}

static bool check_names(const Amend *a, Error **errp)
{
    const BDRVQcow2State *s = a->bs->opaque;
    const AmendOptionsQcow2 *o = a->o;

    if ((o->backing_file || o->backing_fmt) &&
        (g_strcmp0(o->backing_file ?: "", s->image_backing_file ?: "") ||
         g_strcmp0(o->backing_fmt ?: "", s->image_backing_format ?: ""))) {
        ERRP_GUARD();
        error_setg(errp, "Cannot amend the backing file");
        error_append_hint(errp, "You can use 'qemu-img rebase' instead.\n");
        return false;
    }
    if (o->data_file) {
        error_setg(errp, "data-file can only be set for images that use an "
                   "external data file");
        return false;
    }
    if (o->has_data_file_raw && o->data_file_raw) {
        error_setg(errp, "data-file-raw cannot be set on existing images");
        return false;
    }
    return true;
}

static bool check_lazy(Amend *a, Error **errp)
{
    if (a->o->has_lazy_refcounts) {
        a->lazy = a->o->lazy_refcounts;
        if (a->lazy && a->version < 3) {
            error_setg(errp, "Lazy refcounts only supported with compatibility "
                       "level 1.1 and above (use compat=1.1 or greater)");
            return false;
        }
    }
    return true;
}

static bool check_guard(Amend *a, Error **errp)
{
    if (a->o->has_l1_guard) {
        a->guard = a->o->l1_guard;
    }
    if (a->guard && a->version < 3) {
        error_setg(errp, "An L1 guard is only supported with compatibility "
                   "level 1.1 and above (use compat=1.1 or greater)");
        return false;
    }
    return true;
}

/* A size of 0 is no size. */
static bool check_size(Amend *a, Error **errp)
{
    const BDRVQcow2State *s = a->bs->opaque;

    if (!a->o->size || a->o->size == s->disk_size) {
        return true;
    }
    a->size = a->o->size;
    if (a->size > BDRV_MAX_LENGTH) {
        error_setg(errp, "Image size is too large");
        return false;
    }
    if (!QEMU_IS_ALIGNED(a->size, BDRV_SECTOR_SIZE)) {
        error_setg(errp, "The new size must be a multiple of %u",
                   (unsigned)BDRV_SECTOR_SIZE);
        return false;
    }
    if (size_to_l1(s, a->size) > QCOW_MAX_L1_SIZE / L1E_SIZE) {
        error_setg(errp, "The image size is too large (try using a larger "
                   "cluster size)");
        return false;
    }
    if (s->nb_snapshots && s->qcow_version < 3 && a->version < 3) {
        error_setg(errp, "Can't resize a v2 image which has snapshots");
        return false;
    }
    return true;
}

static int coroutine_fn check_image_entry(void *opaque, Error **errp)
{
    Amend *a = opaque;
    BDRVQcow2State *s = a->bs->opaque;
    int ret = qcow2_check_not_stopped(a->bs, errp);

    if (ret < 0) {
        return ret;
    }
    QEMU_LOCK_GUARD(&s->lock);
    if (a->refcount_order != s->refcount_order) {
        ret = qcow2_amend_refcounts_check(a->bs, a->refcount_order, errp);
    }
    if (ret == 0 && a->version < s->qcow_version) {
        ret = qcow2_amend_downgrade_check(a->bs, errp);
    }
    return ret;
}

static bool amends_encryption(const Amend *a)
{
    const AmendOptionsQcow2 *o = a->o;

    return o->encrypt_state || o->has_encrypt_keyslot ||
           o->encrypt_old_secret || o->encrypt_new_secret ||
           o->has_encrypt_iter_time;
}

/* --- doing --- */

/* The first step: it may still refuse. */
static int amend_encryption(Amend *a, Error **errp)
{
    const AmendOptionsQcow2 *o = a->o;
    const BdrvLuksNames names = {
        .state = o->encrypt_state,
        .new_secret = o->encrypt_new_secret,
        .old_secret = o->encrypt_old_secret,
        .has_keyslot = o->has_encrypt_keyslot,
        .keyslot = o->encrypt_keyslot,
        .has_iter_time = o->has_encrypt_iter_time,
        .iter_time_ms = o->encrypt_iter_time,
    };

    return amends_encryption(a)
               ? qcow2_crypto_amend(a->bs, &names, a->args->force, errp) : 0;
}


static int coroutine_fn set_lazy(Amend *a, Error **errp)
{
    BDRVQcow2State *s = a->bs->opaque;
    uint64_t features = s->compatible_features & ~QCOW2_COMPAT_LAZY_REFCOUNTS;
    int ret = 0;

    if (!a->o->has_lazy_refcounts || s->qcow_version < 3) {
        return 0;
    }
    if (!a->lazy) {
        ret = qcow2_mark_clean(a->bs);
    }
    if (ret == 0) {
        ret = qcow2_header_write_compatible(
            a->bs,
            features | (a->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0));
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to update the image header");
        return ret;
    }
    s->use_lazy_refcounts = a->lazy;
    return 0;
}

static int coroutine_fn set_guard(Amend *a, Error **errp)
{
    if (!a->o->has_l1_guard) {
        return 0;
    }
    return a->guard ? qcow2_guard_enable(a->bs, errp)
                    : qcow2_guard_disable(a->bs, errp);
}

static int coroutine_fn first_half_entry(void *opaque, Error **errp)
{
    Amend *a = opaque;
    BDRVQcow2State *s = a->bs->opaque;
    int ret = 0;

    QEMU_LOCK_GUARD(&s->lock);
    if (a->version > s->qcow_version) {
        ret = qcow2_amend_upgrade(a->bs, errp);
    }
    if (ret == 0 && a->refcount_order != s->refcount_order) {
        ret = qcow2_amend_refcounts(a->bs, a->refcount_order, a->args, errp);
    }
    if (ret == 0) {
        ret = set_lazy(a, errp);
    }
    return ret == 0 ? set_guard(a, errp) : ret;
}

static int resize(Amend *a, Error **errp)
{
    BlockBackend *blk;
    int ret;

    if (!a->size) {
        return 0;
    }
    blk = blk_new_with_bs(a->bs, BLK_PERM_RESIZE, BLK_PERM_ALL, errp);
    if (!blk) {
        return -EPERM;
    }
    ret = blk_truncate(blk, a->size, false, PREALLOC_MODE_OFF, 0, errp);
    blk_unref(blk);
    return ret;
}

static int coroutine_fn second_half_entry(void *opaque, Error **errp)
{
    Amend *a = opaque;
    BDRVQcow2State *s = a->bs->opaque;
    int ret;

    if (a->version >= s->qcow_version) {
        return 0;
    }
    ret = qcow2_amend_expand_zeroes(a->bs, a->args, errp);
    if (ret < 0) {
        return ret;
    }
    QEMU_LOCK_GUARD(&s->lock);
    return qcow2_amend_downgrade(a->bs, errp);
}

/* --- all of it --- */

typedef struct Step {
    int coroutine_fn (*func)(void *opaque, Error **errp);
    Amend *a;
    Error **errp;
} Step;

static int coroutine_fn step_entry(void *opaque)
{
    Step *step = opaque;

    return step->func(step->a, step->errp);
}

static int run_step(Amend *a, int coroutine_fn (*func)(void *, Error **),
                    Error **errp)
{
    Step step = { func, a, errp };
    int ret;

    bdrv_drained_begin(a->bs);
    ret = bdrv_run_co(step_entry, &step);
    bdrv_drained_end(a->bs);
    return ret;
}

static int amend(Amend *a, Error **errp)
{
    int ret;

    if (!check_version(a, errp) || !check_refcount_bits(a, errp) ||
        !check_names(a, errp) || !check_lazy(a, errp) ||
        !check_guard(a, errp) ||
        !check_size(a, errp) ||
        (amends_encryption(a) &&
         !qcow2_crypto_amend_check(a->bs->opaque, errp))) {
        return -EINVAL;
    }
    ret = run_step(a, check_image_entry, errp);
    if (ret == 0) {
        ret = amend_encryption(a, errp);
    }
    if (ret == 0) {
        ret = run_step(a, first_half_entry, errp);
    }
    if (ret == 0) {
        ret = resize(a, errp);
    }
    return ret == 0 ? run_step(a, second_half_entry, errp) : ret;
}

int qcow2_amend(BlockDriverState *bs, QDict *options,
                const BdrvAmendArgs *args, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    AmendOptionsQcow2 *o = NULL;
    Visitor *v = qobject_input_visitor_new_keyval(QOBJECT(options));
    Amend a = {
        .bs = bs, .args = args, .version = s->qcow_version,
        .refcount_order = s->refcount_order,
        .guard = s->guard.state == QCOW2_GUARD_ON,
    };
    int ret = -EINVAL;

    if (visit_type_AmendOptionsQcow2(v, NULL, &o, errp)) {
        a.o = o;
        ret = amend(&a, errp);
    }
    visit_free(v);
    qapi_free_AmendOptionsQcow2(o);
    return ret;
}
