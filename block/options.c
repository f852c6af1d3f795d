/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the two forms of node options: dictionaries as a user gives them
 * (dotted or nested, values as text or JSON types) and the typed
 * BlockdevOptions that drivers get.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/graph-internal.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"
#include "qapi/qobject-output-visitor.h"
#include "qapi/util.h"
#include "qobject/qbool.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"

/* Command lines know only text, so JSON scalars become text too and one
 * visitor reads both. Null stays: text cannot say it. */
static void stringify_values(QDict *flat)
{
    g_autoptr(QDict) copy = qdict_clone_shallow(flat);
    const QDictEntry *e;

    for (e = qdict_first(copy); e; e = qdict_next(copy, e)) {
        QObject *value = qdict_entry_value(e);
        QBool *b = qobject_to(QBool, value);
        QNum *n = qobject_to(QNum, value);

        if (b) {
            qdict_put_str(flat, qdict_entry_key(e),
                          qbool_get_bool(b) ? "on" : "off");
        } else if (n) {
            g_autofree char *text = qnum_to_string(n);
            qdict_put_str(flat, qdict_entry_key(e), text);
        }
    }
}

/* The command line's older words for the values of "discard". */
static void translate_discard(QDict *flat)
{
    g_autoptr(QDict) copy = qdict_clone_shallow(flat);
    const QDictEntry *e;

    for (e = qdict_first(copy); e; e = qdict_next(copy, e)) {
        const char *key = qdict_entry_key(e);
        QString *value = qobject_to(QString, qdict_entry_value(e));

        if (!value ||
            (strcmp(key, "discard") && !g_str_has_suffix(key, ".discard"))) {
            continue;
        }
        if (!strcmp(qstring_get_str(value), "on")) {
            qdict_put_str(flat, key, "unmap");
        } else if (!strcmp(qstring_get_str(value), "off")) {
            qdict_put_str(flat, key, "ignore");
        }
    }
}

QDict *bdrv_options_nest(QDict *dict, Error **errp)
{
    QObject *nested;

    qdict_flatten(dict);
    stringify_values(dict);
    translate_discard(dict);
    nested = qdict_crumple(dict, errp);
    qobject_unref(dict);
    if (!nested) {
        return NULL;
    }
    if (!qobject_to(QDict, nested)) {
        error_setg(errp, "Options must be named, not numbered");
        qobject_unref(nested);
        return NULL;
    }
    return qobject_to(QDict, nested);
}

BlockdevOptions *bdrv_options_from_qdict(QDict *dict, Error **errp)
{
    Visitor *v = qobject_input_visitor_new_keyval(QOBJECT(dict));
    BlockdevOptions *options = NULL;

    visit_type_BlockdevOptions(v, NULL, &options, errp);
    visit_free(v);
    return options;
}

QDict *bdrv_options_to_qdict(BlockdevOptions *options)
{
    QObject *obj = NULL;
    Visitor *v = qobject_output_visitor_new(&obj);

    visit_type_BlockdevOptions(v, NULL, &options, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    return qobject_to(QDict, obj);
}

static void peek_bool(QDict *dict, const char *key, int bits, bool invert,
                      int *flags)
{
    const char *text = qdict_get_try_str(dict, key);
    bool value;

    if (text && qapi_bool_parse(key, text, &value, NULL)) {
        *flags = value != invert ? *flags | bits : *flags & ~bits;
    }
}

int bdrv_options_peek_flags(QDict *dict, int flags)
{
    QDict *cache = qobject_to(QDict, qdict_get(dict, "cache"));
    const char *discard = qdict_get_try_str(dict, "discard");

    peek_bool(dict, "read-only", BDRV_O_RDWR, true, &flags);
    peek_bool(dict, "auto-read-only", BDRV_O_AUTO_RDONLY, false, &flags);
    peek_bool(dict, "active", BDRV_O_INACTIVE, true, &flags);
    peek_bool(dict, "force-share", BDRV_O_FORCE_SHARE, false, &flags);
    if (cache) {
        peek_bool(cache, "direct", BDRV_O_NOCACHE, false, &flags);
        peek_bool(cache, "no-flush", BDRV_O_NO_FLUSH, false, &flags);
    }
    if (discard) {
        bdrv_parse_discard_flags(discard, &flags);
    }
    return flags;
}

bool bdrv_common_options(BlockdevOptions *options, int *flags,
                         BlockdevDetectZeroesOptions *detect_zeroes,
                         Error **errp)
{
    int f = *flags;

#define APPLY(cond, value, bit)                                              \
    do {                                                                     \
        if (cond) {                                                          \
            f = (value) ? f | (bit) : f & ~(bit);                            \
        }                                                                    \
    } while (0)

    APPLY(options->has_read_only, !options->read_only, BDRV_O_RDWR);
    APPLY(options->has_auto_read_only, options->auto_read_only,
          BDRV_O_AUTO_RDONLY);
    APPLY(options->has_active, !options->active, BDRV_O_INACTIVE);
    APPLY(options->has_force_share, options->force_share, BDRV_O_FORCE_SHARE);
    APPLY(options->has_discard,
          options->discard == BLOCKDEV_DISCARD_OPTIONS_UNMAP, BDRV_O_UNMAP);
    if (options->cache) {
        APPLY(options->cache->has_direct, options->cache->direct,
              BDRV_O_NOCACHE);
        APPLY(options->cache->has_no_flush, options->cache->no_flush,
              BDRV_O_NO_FLUSH);
    }
#undef APPLY

    if (options->has_detect_zeroes) {
        *detect_zeroes = options->detect_zeroes;
    }
    if (*detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP &&
        !(f & BDRV_O_UNMAP)) {
        error_setg(errp, "setting detect-zeroes to unmap is not allowed "
                   "without setting discard operation to unmap");
        return false;
    }
    if ((f & BDRV_O_FORCE_SHARE) && (f & BDRV_O_RDWR)) {
        error_setg(errp, "force-share=on can only be used with read-only "
                   "images");
        return false;
    }
    *flags = f;
    return true;
}

bool bdrv_parse_cache_mode(const char *mode, int *flags, bool *writethrough)
{
    static const struct {
        const char *name;
        int flags;
        bool writethrough;
    } modes[] = {
        { "none", BDRV_O_NOCACHE, false },
        { "off", BDRV_O_NOCACHE, false },
        { "directsync", BDRV_O_NOCACHE, true },
        { "writeback", 0, false },
        { "unsafe", BDRV_O_NO_FLUSH, false },
        { "writethrough", 0, true },
    };

    for (int i = 0; i < ARRAY_SIZE(modes); i++) {
        if (!strcmp(mode, modes[i].name)) {
            *flags = (*flags & ~BDRV_O_CACHE_MASK) | modes[i].flags;
            *writethrough = modes[i].writethrough;
            return true;
        }
    }
    return false;
}

bool bdrv_parse_discard_flags(const char *mode, int *flags)
{
    if (!strcmp(mode, "off") || !strcmp(mode, "ignore")) {
        *flags &= ~BDRV_O_UNMAP;
    } else if (!strcmp(mode, "on") || !strcmp(mode, "unmap")) {
        *flags |= BDRV_O_UNMAP;
    } else {
        return false;
    }
    return true;
}

bool bdrv_parse_aio(const char *mode, int *flags)
{
    if (!strcmp(mode, "threads")) {
        *flags = (*flags & ~BDRV_O_AIO_MASK) | BDRV_O_THREADS;
    } else if (!strcmp(mode, "native")) {
        *flags = (*flags & ~BDRV_O_AIO_MASK) | BDRV_O_NATIVE_AIO;
    } else if (!strcmp(mode, "io_uring")) {
        *flags = (*flags & ~BDRV_O_AIO_MASK) | BDRV_O_IO_URING;
    } else {
        return false;
    }
    return true;
}
