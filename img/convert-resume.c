/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include <sys/stat.h>
#include "block/block.h"
#include "block/block_int.h"
#include "img/convert-resume.h"
#include "qobject/qbool.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include "util/timer.h"

#define VERSION 1
/* A state lost costs at most that much work. */
#define INTERVAL_NS (2 * NANOSECONDS_PER_SECOND)
/* Larger ones are none of ours. */
#define MAX_STATE (256 * 1024 * 1024)

struct ImgResume {
    char *path;
    QDict *identity;        /* of this copy; the target is added by begin */
    QDict *found;           /* the state that was read; NULL: a new copy */
    int64_t start;
    bool target_is_zero;
    BlockBackend *target;
    ImgSalvage *salvage;
    int64_t saved_at;       /* ns */
    bool saving;
    bool saved;             /* there is a state file of this copy */
    bool warned;
};

/* --- what a copy is --- */

static void put_file(QDict *d, const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        return;
    }
    if (S_ISREG(st.st_mode)) {
        qdict_put_int(d, "inode", st.st_ino);
        qdict_put_int(d, "size", st.st_size);
        qdict_put_int(d, "mtime-ns", st.st_mtim.tv_sec *
                      NANOSECONDS_PER_SECOND + st.st_mtim.tv_nsec);
    } else {
        qdict_put_int(d, "device", st.st_rdev);
    }
}

/* The files of a node and of all below it. */
static void add_files(QList *list, BlockDriverState *bs)
{
    BdrvChild *child;
    QDict *d;

    QTAILQ_FOREACH(child, &bs->children, next) {
        add_files(list, child->bs);
    }
    if (QTAILQ_EMPTY(&bs->children)) {
        d = qdict_new();
        qdict_put_str(d, "file", bs->filename);
        qdict_put_int(d, "length", bdrv_getlength(bs));
        put_file(d, bs->filename);
        qlist_append(list, d);
    }
}

static QList *describe_sources(const ConvertArgs *a,
                               const ImgSalvageSource *sources)
{
    QList *list = qlist_new();

    for (int i = 0; i < a->nb_sources; i++) {
        qlist_append_str(list, a->sources[i]);
        add_files(list, blk_bs(sources[i].blk));
    }
    return list;
}

static void put_str(QDict *d, const char *key, const char *value)
{
    if (value) {
        qdict_put_str(d, key, value);
    }
}

/* What would make another target. */
static QDict *describe_command(const ConvertArgs *a)
{
    QDict *d = qdict_new();

    put_str(d, "source-format", a->source.fmt);
    qdict_put_bool(d, "image-opts", a->source.image_opts);
    put_str(d, "snapshot", a->snapshot);
    put_str(d, "target-format", a->dest.fmt);
    qdict_put_obj(d, "target-format-options",
                  QOBJECT(qdict_clone_shallow(a->options)));
    put_str(d, "backing", a->backing);
    qdict_put_int(d, "sparse-size", a->min_sparse);
    qdict_put_bool(d, "compress", a->compressed);
    qdict_put_bool(d, "no-create", a->no_create);
    qdict_put_bool(d, "target-is-zero", a->target_is_zero);
    qdict_put_bool(d, "salvage", a->salvage);
    return d;
}

/* --- reading the state --- */

static bool refuse(const ImgResume *r, const char *why)
{
    error_report("'%s' is not the state of this copy: %s", r->path, why);
    error_printf("Remove it to begin anew.\n");
    return false;
}

static bool get_int(QDict *d, const char *key, int64_t *value)
{
    QNum *num = qobject_to(QNum, qdict_get(d, key));

    return num && qnum_get_try_int(num, value);
}

/* The first key in which they differ; NULL: none. What is more in @b is not
 * looked at. */
static const char *find_difference(QDict *a, QDict *b)
{
    const QDictEntry *e;

    for (e = qdict_first(a); e; e = qdict_next(a, e)) {
        if (!qobject_is_equal(qdict_entry_value(e),
                              qdict_get(b, qdict_entry_key(e)))) {
            return qdict_entry_key(e);
        }
    }
    return NULL;
}

/* The same, told for people. */
static char *describe_difference(const ImgResume *r)
{
    const char *key = find_difference(r->identity, r->found);
    QDict *now = qobject_to(QDict, qdict_get(r->identity, "command"));
    QDict *then = qobject_to(QDict, qdict_get(r->found, "command"));
    const char *option = NULL;

    if (key && !strcmp(key, "command") && then) {
        option = find_difference(now, then) ?: find_difference(then, now);
    }
    return !key ? NULL
           : option ? g_strdup_printf("the option for %s is another", option)
           : g_strdup_printf("the %s changed since it was interrupted", key);
}

static bool parse_state(ImgResume *r, const char *text, int64_t length)
{
    QObject *obj = qobject_from_json(text, NULL);
    g_autofree char *difference = NULL;
    QBool *zero;
    int64_t version;

    r->found = qobject_to(QDict, obj);
    if (!r->found) {
        qobject_unref(obj);
        return refuse(r, "it is no JSON object");
    }
    if (!get_int(r->found, "version", &version) || version != VERSION) {
        return refuse(r, "its version is unknown");
    }
    difference = describe_difference(r);
    if (difference) {
        return refuse(r, difference);
    }
    zero = qobject_to(QBool, qdict_get(r->found, "zeroed"));
    if (!zero || !get_int(r->found, "complete", &r->start) || r->start < 0 ||
        r->start > length) {
        return refuse(r, "its values make no sense");
    }
    r->target_is_zero = qbool_get_bool(zero);
    return true;
}

/* False after a message; no file is no failure. */
static bool read_state(ImgResume *r, int64_t length)
{
    g_autofree char *text = NULL;
    GError *err = NULL;
    struct stat st;

    if (stat(r->path, &st) == 0 &&
        (!S_ISREG(st.st_mode) || st.st_size > MAX_STATE)) {
        return refuse(r, "it is too large, or no file");
    }
    if (!g_file_get_contents(r->path, &text, NULL, &err)) {
        bool none = g_error_matches(err, G_FILE_ERROR, G_FILE_ERROR_NOENT);

        if (!none) {
            error_report("Could not read the state of the copy: %s",
                         err->message);
        }
        g_error_free(err);
        return none;
    }
    return parse_state(r, text, length);
}

ImgResume *img_resume_new(const ConvertArgs *a,
                          const ImgSalvageSource *sources, int64_t length)
{
    const char *path = a->dest.image_opts ? NULL : img_plain_path(a->target);
    ImgResume *r;

    if (!path) {
        error_report("--resume keeps a file beside the target: that must be a "
                     "file, too");
        return NULL;
    }
    r = g_new0(ImgResume, 1);
    r->path = g_strdup_printf("%s.resume", path);
    r->identity = qdict_new();
    qdict_put_obj(r->identity, "sources",
                  QOBJECT(describe_sources(a, sources)));
    qdict_put_obj(r->identity, "command", QOBJECT(describe_command(a)));
    qdict_put_int(r->identity, "length", length);
    if (!read_state(r, length)) {
        img_resume_free(r);
        return NULL;
    }
    return r;
}

void img_resume_free(ImgResume *r)
{
    if (!r) {
        return;
    }
    qdict_unref(r->identity);
    qdict_unref(r->found);
    g_free(r->path);
    g_free(r);
}

bool img_resume_is_found(const ImgResume *r)
{
    return r->found != NULL;
}

int64_t img_resume_start(const ImgResume *r)
{
    return r->start;
}

bool img_resume_target_is_zero(const ImgResume *r)
{
    return r->target_is_zero;
}

/* --- the target --- */

/* Clusters that were written after the last state, and lost their table. */
static bool free_leaks(ImgResume *r)
{
    BlockDriverState *bs = blk_bs(r->target);
    BdrvCheckOptions opts = {
        .fix = BDRV_FIX_LEAKS, .orphans = BDRV_CHECK_ORPHANS_FREE,
        .quiet = true,
    };
    BdrvCheckResult result = { 0 };
    int ret = bdrv_check_opts(bs, &result, &opts);

    if (ret == -ENOTSUP) {
        return true;
    }
    if (ret < 0 || result.corruptions || result.check_errors) {
        return refuse(r, "the target is damaged");
    }
    return true;
}

bool img_resume_begin(ImgResume *r, BlockBackend *target, bool target_is_zero,
                      ImgSalvage *salvage)
{
    const char *path = blk_bs(target)->filename;
    struct stat st;

    r->target = target;
    r->salvage = salvage;
    r->saved_at = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    if (stat(img_plain_path(path) ?: path, &st) < 0) {
        error_report("Could not look at '%s': %s", path, g_strerror(errno));
        return false;
    }
    qdict_put_int(r->identity, "target", st.st_ino);
    if (!r->found) {
        r->target_is_zero = target_is_zero;
        return true;
    }
    r->saved = true;
    if (!qobject_is_equal(qdict_get(r->identity, "target"),
                          qdict_get(r->found, "target"))) {
        return refuse(r, "the target is another file");
    }
    if (salvage && !img_salvage_load(salvage,
                                     qdict_get(r->found, "lost"))) {
        return refuse(r, "its values make no sense");
    }
    return free_leaks(r);
}

/* --- saving --- */

static bool write_state(ImgResume *r, int64_t complete)
{
    g_autoptr(QDict) d = qdict_clone_shallow(r->identity);
    GError *err = NULL;
    GString *text;

    qdict_put_int(d, "version", VERSION);
    qdict_put_int(d, "complete", complete);
    qdict_put_bool(d, "zeroed", r->target_is_zero);
    if (r->salvage) {
        qdict_put_obj(d, "lost", QOBJECT(img_salvage_save(r->salvage,
                                                          complete)));
    }
    text = qobject_to_json_pretty(QOBJECT(d), true);
    g_string_append_c(text, '\n');
    r->saved |= g_file_set_contents_full(r->path, text->str, text->len,
                                         G_FILE_SET_CONTENTS_CONSISTENT |
                                         G_FILE_SET_CONTENTS_DURABLE, 0666,
                                         &err);
    g_string_free(text, true);
    if (err && !r->warned) {
        warn_report("Could not save the state of the copy: %s", err->message);
        r->warned = true;
    }
    g_clear_error(&err);
    return r->saved;
}

int coroutine_fn img_resume_landed(ImgResume *r, int64_t complete)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    int ret;

    if (r->saving || now - r->saved_at < INTERVAL_NS) {
        return 0;
    }
    r->saving = true;
    ret = blk_co_flush(r->target);
    if (ret >= 0) {
        write_state(r, complete);
    }
    r->saved_at = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    r->saving = false;
    return ret;
}

bool img_resume_save(ImgResume *r, int64_t complete)
{
    if (r->target && complete > r->start && blk_flush(r->target) >= 0) {
        write_state(r, complete);
    }
    return r->saved;
}

void img_resume_finish(ImgResume *r)
{
    if (r->saved && unlink(r->path) < 0) {
        warn_report("Could not remove '%s': %s", r->path, g_strerror(errno));
    }
}
