/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The job of x-blockdev-amend. It copies nothing, so it is no block job. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/block-backend.h"
#include "block/job.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-output-visitor.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "util/main-work.h"

typedef struct AmendJob {
    Job job;
    BlockBackend *blk;          /* keeps the node; wants nothing of it */
    QDict *options;             /* as bdrv_amend_options() takes them */
    bool force;
    Error **errp;               /* of the run in progress */
} AmendJob;

/* --- options --- */

static QDict *options_to_qdict(BlockdevAmendOptions *options)
{
    QObject *object;
    Visitor *v = qobject_output_visitor_new(&object);

    visit_type_BlockdevAmendOptions(v, NULL, &options, &error_abort);
    visit_complete(v, &object);
    visit_free(v);
    return qobject_to(QDict, object);
}

/* What `amend -o` would have said. Caller frees. */
static char *option_text(const QObject *value)
{
    const QString *text = qobject_to(QString, value);
    const QNum *number = qobject_to(QNum, value);

    return text ? g_strdup(qstring_get_str(text)) : qnum_to_string(number);
}

static QDict *options_as_text(BlockdevAmendOptions *options)
{
    g_autoptr(QDict) dict = options_to_qdict(options);
    QDict *result = qdict_new();
    const QDictEntry *e;

    qdict_flatten(dict);
    for (e = qdict_first(dict); e; e = qdict_next(dict, e)) {
        const char *name = qdict_entry_key(e);

        if (strcmp(name, "driver") && strcmp(name, "encrypt.format")) {
            g_autofree char *text = option_text(qdict_entry_value(e));

            qdict_put_str(result, name, text);
        }
    }
    return result;
}

static bool check_options(BlockDriverState *bs,
                          const BlockdevAmendOptions *options, Error **errp)
{
    const QCryptoBlockAmendOptions *encrypt =
        options->driver == BLOCKDEV_DRIVER_QCOW2 ? options->u.qcow2.encrypt
                                                 : NULL;

    if (options->driver != bs->drv->id) {
        error_setg(errp, "x-blockdev-amend doesn't support changing the block "
                   "driver");
        return false;
    }
    if (!bs->drv->bdrv_amend) {
        error_setg(errp, "Driver does not support x-blockdev-amend");
        return false;
    }
    if (encrypt && encrypt->format != BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_LUKS) {
        error_setg(errp, "Encryption format '%s' has nothing to amend",
                   BlockdevQcow2EncryptionFormat_str(encrypt->format));
        return false;
    }
    return true;
}

/* --- the job --- */

static int amend_in_main(void *opaque)
{
    AmendJob *a = opaque;
    BdrvAmendArgs args = { .force = a->force };

    return bdrv_amend_options(blk_bs(a->blk), a->options, &args, a->errp);
}

static int coroutine_fn amend_run(Job *job, Error **errp)
{
    AmendJob *a = container_of(job, AmendJob, job);
    int ret;

    a->errp = errp;
    ret = main_work_run_co(amend_in_main, a);
    job_progress_set(job, 1, 1);
    return ret;
}

static void amend_clean(Job *job)
{
    AmendJob *a = container_of(job, AmendJob, job);

    g_clear_pointer(&a->blk, blk_unref);
}

static void amend_free(Job *job)
{
    AmendJob *a = container_of(job, AmendJob, job);

    g_clear_pointer(&a->blk, blk_unref);
    qobject_unref(a->options);
}

static const JobDriver amend_job_driver = {
    .instance_size = sizeof(AmendJob),
    .type = JOB_TYPE_AMEND,
    .run = amend_run,
    .clean = amend_clean,
    .free = amend_free,
};

bool bdrv_amend_job_start(const char *id, BlockDriverState *bs,
                          BlockdevAmendOptions *options, bool force,
                          Error **errp)
{
    JobOptions job_options = { .id = id, .manual_dismiss = true };
    AmendJob *a;
    Job *job;

    if (!check_options(bs, options, errp)) {
        return false;
    }
    job = job_create(&amend_job_driver, &job_options, errp);
    if (!job) {
        return false;
    }
    a = container_of(job, AmendJob, job);
    a->options = options_as_text(options);
    a->force = force;
    a->blk = blk_new(0, BLK_PERM_ALL);
    blk_set_owner(a->blk, "job '%s'", id);
    if (!blk_insert_bs(a->blk, bs, errp)) {
        job_early_fail(job);
        return false;
    }
    job_start(job);
    return true;
}
