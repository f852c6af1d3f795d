/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What users write to describe images: json: names, option strings, -o lists,
 * sizes; read into the typed options of nodes and of creation, and written
 * back. No file is opened: nodes are, if all of them are in memory.
 *
 * The first byte of the input says how the rest is meant.
 */
#include "util/osdep.h"
#include "fuzz.h"
#include "block/block_int.h"
#include "block/graph-internal.h"
#include "qapi/qapi-types.h"
#include "qobject/keyval.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qstring.h"
#include "util/aio.h"
#include "util/cutils.h"
#include "util/error.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    qemu_init_main_loop(&error_abort);
    bdrv_init();
    return 0;
}

/* Drivers that need no file. */
static bool driver_is_harmless(const char *name)
{
    static const char *const harmless[] = {
        "null-co", "null-aio", "raw", "blkdebug", "concat", "qcow2", NULL
    };

    return name && g_strv_contains(harmless, name);
}

/* Nothing in the flat @dict names a file. */
static bool is_harmless(QDict *dict)
{
    const QDictEntry *e;
    bool has_driver = false;

    for (e = qdict_first(dict); e; e = qdict_next(dict, e)) {
        const char *key = qdict_entry_key(e);
        const char *name = strrchr(key, '.') ? strrchr(key, '.') + 1 : key;
        QString *value = qobject_to(QString, qdict_entry_value(e));

        if (!strcmp(name, "driver")) {
            if (!value || !driver_is_harmless(qstring_get_str(value))) {
                return false;
            }
            has_driver = true;
        }
        if (!strcmp(name, "filename") || !strcmp(name, "config")) {
            return false;
        }
    }
    return has_driver;
}

/* Typed and back again is the same. Takes @dict. */
static void read_options(QDict *dict)
{
    QDict *nested = bdrv_options_nest(dict, NULL), *first, *second;
    BlockdevOptions *options;

    if (!nested) {
        return;
    }
    options = bdrv_options_from_qdict(nested, NULL);
    qobject_unref(nested);
    if (!options) {
        return;
    }
    first = bdrv_options_to_qdict(options);
    qapi_free_BlockdevOptions(options);

    nested = bdrv_options_nest(qdict_clone_shallow(first), &error_abort);
    options = bdrv_options_from_qdict(nested, &error_abort);
    second = bdrv_options_to_qdict(options);
    assert(qobject_is_equal(QOBJECT(first), QOBJECT(second)));

    qobject_unref(first);
    qobject_unref(second);
    qobject_unref(nested);
    qapi_free_BlockdevOptions(options);
}

static void open_options(QDict *dict)
{
    g_autoptr(QDict) flat = qdict_clone_shallow(dict);

    qdict_flatten(flat);
    if (is_harmless(flat)) {
        int flags = qdict_size(flat) & 1 ? BDRV_O_RDWR : 0;
        BlockDriverState *bs = bdrv_open(NULL, NULL, qobject_ref(flat), flags,
                                         NULL);

        if (bs) {
            bdrv_refresh_filename(bs);
            bdrv_unref(bs);
        }
    }
}

/* Takes @dict, which may be NULL. */
static void try_dict(QDict *dict)
{
    if (dict) {
        open_options(dict);
        read_options(dict);
    }
}

static void try_json(const char *text)
{
    QObject *obj = qobject_from_json(text, NULL);

    if (qobject_to(QDict, obj)) {
        try_dict(qobject_to(QDict, obj));
    } else {
        qobject_unref(obj);
    }
}

static void try_list(const char *text)
{
    bool help = false;

    is_valid_option_list(text);
    has_help_option(text);
    try_dict(keyval_parse_opts(text, "driver", &help));
    try_dict(keyval_parse_opts(text, NULL, NULL));
}

static void try_numbers(const char *text)
{
    uint64_t value;
    int64_t number;
    const char *end;

    qemu_strtosz(text, NULL, &value);
    qemu_strtosz(text, &end, &value);
    qemu_strtosz_MiB(text, &end, &value);
    qemu_strtoi64(text, &end, 0, &number);
    qemu_strtou64(text, &end, 0, &value);
    parse_uint_full(text, 0, &value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = NULL;
    bool help = false;

    if (!size) {
        return 0;
    }
    text = g_strndup((const char *)data + 1, size - 1);
    switch (data[0]) {
    case '{':
        g_free(text);
        text = g_strndup((const char *)data, size);
        try_json(text);
        break;
    case 'k':
        try_dict(keyval_parse(text, "driver", &help, NULL));
        try_dict(keyval_parse(text, NULL, NULL, NULL));
        break;
    case 'o':
        try_list(text);
        break;
    case 'n':
        try_numbers(text);
        break;
    case 'f':
        g_free(bdrv_get_full_backing_filename_from_filename("/dir/image", text,
                                                            NULL));
        bdrv_find_protocol(text, true, NULL);
        break;
    }
    return 0;
}
