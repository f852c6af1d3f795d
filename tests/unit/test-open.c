/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening nodes on real files: by file name, json: name, nested and dotted
 * options; what is found out where options say nothing; what inline children
 * inherit; backing chains. Whatever fails leaves no node behind.
 */
#include "util/osdep.h"
#include "file-fixture.h"
#include "block/create.h"
#include "block/graph.h"
#include "block/open.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qnull.h"
#include "qobject/qstring.h"

#define MIB (1024 * 1024)
#define RDWR BDRV_O_RDWR

static void check_empty(void)
{
    g_assert_null(bdrv_next_node(NULL));
}

/* A qcow2 image; its header names @backing as it stands, if not NULL. */
static char *make_qcow2(const char *name, const char *backing,
                        const char *format)
{
    char *path = file_test_make(name, 0);
    g_autoptr(QDict) options = qdict_new();

    qdict_put_str(options, "size", "1M");
    g_assert_cmpint(bdrv_create(bdrv_find_format("qcow2"), path, options,
                                &error_abort), >=, 0);
    if (backing) {
        BlockDriverState *bs = file_test_open(
            RDWR | BDRV_O_NO_BACKING, &error_abort,
            "{'driver': 'qcow2', 'file.filename': '%s'}", path);

        g_assert_cmpint(bdrv_change_backing_file(bs, backing, format), ==, 0);
        bdrv_unref(bs);
    }
    return path;
}

static const char *base_of(const char *path)
{
    return strrchr(path, '/') + 1;
}

static QDict *parse(const char *json)
{
    QObject *obj = json ? qobject_from_json(json, &error_abort) : NULL;

    return obj ? qobject_to(QDict, obj) : NULL;
}

/* Opens @name with @json as options, both with @path for '%s'; each may be
 * NULL. */
static BlockDriverState *open_form(const char *name, const char *json,
                                   const char *path, int flags, Error **errp)
{
    g_autofree char *full = name ? g_strdup_printf(name, path) : NULL;
    g_autofree char *text = json ? g_strdup_printf(json, path, path) : NULL;

    return bdrv_open(full, NULL, parse(text), flags, errp);
}

/* --- forms of one description --- */

typedef struct Form {
    const char *name;           /* file name, or NULL */
    const char *json;           /* options, or NULL */
    const char *drivers;        /* of the node and its primary children */
} Form;

/* "raw file" for a raw node on a file node. */
static char *driver_path(BlockDriverState *bs)
{
    GString *s = g_string_new(bdrv_get_format_name(bs));

    for (BdrvChild *c = bdrv_primary_child(bs); c;
         c = bdrv_primary_child(c->bs)) {
        g_string_append_printf(s, " %s", bdrv_get_format_name(c->bs));
    }
    return g_string_free(s, false);
}

static void check_forms(const Form *forms, int n, const char *path)
{
    for (int i = 0; i < n; i++) {
        BlockDriverState *bs = open_form(forms[i].name, forms[i].json, path, 0,
                                         &error_abort);
        g_autofree char *drivers = driver_path(bs);

        g_test_message("%s %s", forms[i].name, forms[i].json);
        g_assert_cmpstr(drivers, ==, forms[i].drivers);
        bdrv_unref(bs);
        check_empty();
    }
}

static void test_forms(void)
{
    static const Form forms[] = {
        /* probed */
        { "%s", NULL, "qcow2 file" },
        { "file:%s", NULL, "qcow2 file" },
        { NULL, "{'file.filename': '%s'}", "qcow2 file" },
        { NULL, "{'file': {'filename': '%s'}}", "qcow2 file" },
        { NULL, "{'file': {'driver': 'file', 'filename': '%s'}}",
          "qcow2 file" },
        { "json:{'file.filename': '%s'}", NULL, "qcow2 file" },
        { "%s", "{'file.locking': 'off'}", "qcow2 file" },
        { "%s", "{'file': {'driver': 'file'}}", "qcow2 file" },
        /* the driver is named */
        { "%s", "{'driver': 'raw'}", "raw file" },
        { "%s", "{'driver': 'file'}", "file" },
        { "file:%s", "{'driver': 'file'}", "file" },
        { "%s", "{'driver': 'raw', 'file.locking': 'off'}", "raw file" },
        { "%s", "{'driver': 'raw', 'file.driver': 'qcow2'}",
          "raw qcow2 file" },
        { NULL, "{'driver': 'qcow2', 'file.filename': '%s'}", "qcow2 file" },
        { NULL, "{'driver': 'file', 'filename': '%s'}", "file" },
        { "json:{'driver': 'raw', 'file': {'filename': '%s'}}", NULL,
          "raw file" },
        /* dotted and nested name the same things */
        { NULL, "{'driver': 'raw', 'file': {'driver': 'file'},"
          " 'file.filename': '%s'}", "raw file" },
        { "json:{'file': {'driver': 'file'}, 'file.filename': '%s'}",
          "{'driver': 'raw'}", "raw file" },
        /* options beside a json: name win */
        { "json:{'driver': 'qcow2', 'file.filename': '%s'}",
          "{'driver': 'raw'}", "raw file" },
        /* a file stays a file, however deep, and whatever is in it */
        { NULL, "{'driver': 'raw', 'file.driver': 'raw',"
          " 'file.file.filename': '%s'}", "raw raw file" },
        { NULL, "{'driver': 'qcow2', 'file.driver': 'raw',"
          " 'file.file.filename': '%s'}", "qcow2 raw file" },
        { NULL, "{'driver': 'raw', 'file.driver': 'qcow2',"
          " 'file.file.filename': '%s'}", "raw qcow2 file" },
        { NULL, "{'driver': 'blkdebug', 'image.filename': '%s'}",
          "blkdebug file" },
        { NULL, "{'driver': 'blkdebug', 'image.driver': 'qcow2',"
          " 'image.file.filename': '%s'}", "blkdebug qcow2 file" },
        { NULL, "{'driver': 'raw', 'file.driver': 'blkdebug',"
          " 'file.image.filename': '%s'}", "raw blkdebug file" },
        { "blkdebug::%s", NULL, "qcow2 blkdebug file" },
        { "blkdebug::%s", "{'driver': 'raw'}", "raw blkdebug file" },
        { NULL, "{'file.driver': 'blkdebug', 'file.image.filename': '%s'}",
          "qcow2 blkdebug file" },
        /* no backing file for a driver that never has one */
        { "%s", "{'driver': 'raw', 'backing': null}", "raw file" },
        { "%s", "{'driver': 'raw', 'backing': ''}", "raw file" },
    };
    g_autofree char *path = make_qcow2("forms", NULL, NULL);

    check_forms(forms, ARRAY_SIZE(forms), path);
}

/* A path given as option has no prefix; a file name has, unless it is a path. */
static void test_colon(void)
{
    static const Form as_option[] = {
        { NULL, "{'driver': 'raw', 'file.filename': '%s'}", "raw file" },
        { NULL, "{'driver': 'file', 'filename': '%s'}", "file" },
        { NULL, "{'file.filename': '%s'}", "raw file" },
        { "file:%s", NULL, "raw file" },
        { "./%s", NULL, "raw file" },
    };
    g_autofree char *path = file_test_make("col:on", 4096);
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *old = g_get_current_dir();
    Error *err = NULL;

    g_assert_cmpint(chdir(dir), ==, 0);
    check_forms(as_option, ARRAY_SIZE(as_option), "col:on");
    g_assert_null(bdrv_open("col:on", NULL, NULL, 0, &err));
    file_test_error(err, "Unknown protocol 'col'");
    g_assert_cmpint(chdir(old), ==, 0);
    check_empty();
}

typedef struct BadForm {
    const char *name, *json, *text;
} BadForm;

static void test_refused(void)
{
    static const BadForm bad[] = {
        { NULL, NULL, "Must specify either driver or file" },
        { NULL, "{'filename': '%s'}", "Must specify either driver or file" },
        { NULL, "{'driver': 'nope', 'file.filename': '%s'}",
          "Unknown driver 'nope'" },
        { NULL, "{'driver': 'raw', 'file.driver': 'nope'}",
          "Parameter 'file.driver' does not accept value 'nope'" },
        { NULL, "{'driver.x': 'raw', 'file.filename': '%s'}",
          "Invalid parameter type for 'driver', expected: string" },
        { NULL, "{'driver': 'file', 'filename.x': '%s'}",
          "Invalid parameter type for 'filename', expected: string" },
        { NULL, "{'driver': 'raw'}", "Parameter 'file' is missing" },
        { NULL, "{'driver': 'raw', 'file': null}",
          "Parameter 'file' is missing" },
        { NULL, "{'driver': 'concat', 'files': [null, '%s']}", NULL },
        { NULL, "{'driver': 'concat', 'files': {}}", NULL },
        { NULL, "{'driver': 'concat', 'files': ['a', {'driver': 'raw'}]}",
          "Parameter 'files.1.file' is missing" },
        { NULL, "{'driver': 'raw', 'file.locking': 'off'}",
          "Must specify either driver or file" },
        { NULL, "{'driver': 'raw', 'file.file.filename': '%s'}",
          "Must specify either driver or file" },
        { NULL, "{'driver': 'blkdebug', 'image.file.filename': '%s'}",
          "Must specify either driver or file" },
        { NULL, "{'driver': 'raw', 'x': 1, 'file.filename': '%s'}",
          "Parameter 'x' is unexpected" },
        { NULL, "{'driver': 'raw', 'file.x': 1, 'file.filename': '%s'}",
          "Parameter 'file.x' is unexpected" },
        { NULL, "{'file.x': 1, 'file.filename': '%s'}",
          "Parameter 'x' is unexpected" },
        { NULL, "{'driver': 'raw', 'file': 'nope'}",
          "Cannot find device='nope' nor node-name='nope'" },
        { NULL, "{'driver': 'raw', 'file': 'x', 'file.filename': '%s'}",
          "Cannot mix scalar and non-scalar keys" },
        { "%s", "{'file': 'nope'}", "Cannot reference an existing block "
          "device with additional options or a new filename" },
        { "%s", "{'file.filename': 'x'}", "Can't specify 'file' and "
          "'filename' options at the same time" },
        { "%s", "{'driver': 'file', 'filename': 'x'}", "Can't specify 'file' "
          "and 'filename' options at the same time" },
        { "%s", "{'driver': 'raw', 'backing': 'x'}",
          "Driver doesn't support backing files" },
        { "%s", "{'driver': 'raw', 'backing.driver': 'raw'}",
          "Driver doesn't support backing files" },
        { "json:{%s", NULL, NULL },
        { "json:[]", NULL, "Invalid JSON object given" },
        { "json:{}", NULL, "Must specify either driver or file" },
        { "nope:%s", NULL, "Unknown protocol 'nope'" },
        { "json:{'driver': 'qcow2', 'file': {'driver': 'file',"
          " 'filename': '%s'}}", NULL, "Image is not in qcow2 format" },
        { "%s", "{'driver': 'raw', 'node-name': '1'}",
          "Invalid node-name: '1'" },
        { "%s", "{'driver': 'raw', 'node-name': 'a', 'file.node-name': 'a'}",
          "Duplicate nodes with node-name='a'" },
        { "%s", "{'driver': 'raw', 'cache.direct': 'maybe'}",
          "Parameter 'cache.direct' expects 'on' or 'off'" },
        { "%s", "{'cache.direct': 'maybe'}",
          "Parameter 'cache.direct' expects 'on' or 'off'" },
        { "%s", "{'driver': 'raw', 'detect-zeroes': 'unmap'}",
          "setting detect-zeroes to unmap is not allowed without setting "
          "discard operation to unmap" },
        { "%s", "{'driver': 'raw', 'read-only': false, 'force-share': true}",
          "force-share=on can only be used with read-only images" },
        { "%s", "{'driver': 'raw', 'offset': 8192}", NULL },
    };
    g_autofree char *path = file_test_make("refused", 4096);

    for (int i = 0; i < ARRAY_SIZE(bad); i++) {
        Error *err = NULL;

        g_test_message("%s %s", bad[i].name, bad[i].json);
        g_assert_null(open_form(bad[i].name, bad[i].json, path, 0, &err));
        g_assert_nonnull(err);
        if (bad[i].text) {
            file_test_error(err, bad[i].text);
        } else {
            error_free(err);
        }
        check_empty();
    }
}

static void test_missing_file(void)
{
    g_autofree char *path = file_test_make("gone", 0);
    g_autofree char *text = g_strdup_printf("Could not open '%s': No such file "
                                            "or directory", path);
    static const Form forms[] = {
        { "%s", NULL, NULL },
        { "%s", "{'driver': 'raw'}", NULL },
        { "%s", "{'driver': 'file'}", NULL },
        { NULL, "{'driver': 'qcow2', 'file.filename': '%s'}", NULL },
        { NULL, "{'driver': 'raw', 'file.driver': 'blkdebug',"
          " 'file.image.filename': '%s'}", NULL },
    };

    unlink(path);
    for (int i = 0; i < ARRAY_SIZE(forms); i++) {
        Error *err = NULL;

        g_assert_null(open_form(forms[i].name, forms[i].json, path, 0, &err));
        file_test_error(err, text);
        check_empty();
    }
}

/* By reference one gets the node itself, and nothing else may be said. */
static void test_reference(void)
{
    g_autofree char *path = file_test_make("reference", 4096);
    BlockDriverState *bs = file_test_open(
        0, &error_abort, "{'driver': 'file', 'node-name': 'n',"
        " 'filename': '%s'}", path);
    BlockDriverState *raw;
    Error *err = NULL;

    g_assert_true(bdrv_open(NULL, "n", NULL, 0, &error_abort) == bs);
    bdrv_unref(bs);
    g_assert_null(bdrv_open(path, "n", NULL, 0, &err));
    file_test_error(err, "Cannot reference an existing block device with "
                    "additional options or a new filename");
    err = NULL;
    g_assert_null(bdrv_open(NULL, "n", parse("{'read-only': true}"), 0, &err));
    file_test_error(err, "Cannot reference an existing block device with "
                    "additional options or a new filename");

    /* A node found by name keeps its own options and is no inline child. */
    raw = file_test_open(0, &error_abort, "{'file': 'n'}");
    g_assert_true(raw->file->bs == bs);
    g_assert_true(raw->probed);
    g_assert_null(bs->inherits_from);
    bdrv_unref(raw);
    bdrv_unref(bs);
    check_empty();
}

/* --- inheritance --- */

/* Whatever was left out, inline children are opened as their parent. */
static void test_inherited_flags(void)
{
    static const struct {
        const char *json;
        int flags;              /* of the caller */
        int node, file;         /* result; UNMAP is set in every file */
    } cases[] = {
        { "{'driver': 'raw', 'file.filename': '%s'}", RDWR, RDWR, RDWR },
        { "{'driver': 'raw', 'file.filename': '%s'}", 0, 0, 0 },
        { "{'driver': 'raw', 'read-only': true, 'file.filename': '%s'}", RDWR,
          0, 0 },
        { "{'driver': 'raw', 'read-only': false, 'file.filename': '%s'}", 0,
          RDWR, RDWR },
        { "{'driver': 'raw', 'read-only': true, 'file.read-only': false,"
          " 'file.filename': '%s'}", 0, 0, RDWR },
        { "{'driver': 'raw', 'auto-read-only': true, 'file.filename': '%s'}",
          RDWR, RDWR | BDRV_O_AUTO_RDONLY, RDWR | BDRV_O_AUTO_RDONLY },
        { "{'driver': 'raw', 'auto-read-only': true,"
          " 'file.auto-read-only': false, 'file.filename': '%s'}", RDWR,
          RDWR | BDRV_O_AUTO_RDONLY, RDWR },
        { "{'driver': 'raw', 'cache.no-flush': true, 'file.filename': '%s'}",
          0, BDRV_O_NO_FLUSH, BDRV_O_NO_FLUSH },
        { "{'driver': 'raw', 'cache.no-flush': true,"
          " 'file.cache.no-flush': false, 'file.filename': '%s'}", 0,
          BDRV_O_NO_FLUSH, 0 },
        { "{'driver': 'raw', 'force-share': true, 'file.filename': '%s'}", 0,
          BDRV_O_FORCE_SHARE, BDRV_O_FORCE_SHARE },
        { "{'driver': 'raw', 'discard': 'on', 'file.filename': '%s'}", 0,
          BDRV_O_UNMAP, 0 },
        /* the same where the file is opened first, to be probed */
        { "{'read-only': true, 'file.filename': '%s'}", RDWR, 0, 0 },
        { "{'read-only': false, 'file.filename': '%s'}", 0, RDWR, RDWR },
        { "{'force-share': true, 'file.filename': '%s'}", 0,
          BDRV_O_FORCE_SHARE, BDRV_O_FORCE_SHARE },
        { "{'cache': {'no-flush': true}, 'file.filename': '%s'}", 0,
          BDRV_O_NO_FLUSH, BDRV_O_NO_FLUSH },
        { "{'auto-read-only': true, 'file.filename': '%s'}", RDWR,
          RDWR | BDRV_O_AUTO_RDONLY, RDWR | BDRV_O_AUTO_RDONLY },
    };
    const int mask = RDWR | BDRV_O_AUTO_RDONLY | BDRV_O_CACHE_MASK |
                     BDRV_O_FORCE_SHARE | BDRV_O_UNMAP;
    g_autofree char *path = make_qcow2("inherited", NULL, NULL);

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        BlockDriverState *bs = open_form(NULL, cases[i].json, path,
                                         cases[i].flags, &error_abort);

        g_test_message("%s", cases[i].json);
        g_assert_cmphex(bs->open_flags & mask, ==, cases[i].node);
        g_assert_cmphex(bs->file->bs->open_flags & mask, ==,
                        cases[i].file | BDRV_O_UNMAP);
        g_assert_true(bs->file->bs->inherits_from == bs);
        bdrv_unref(bs);
        check_empty();
    }
}

/* Named or not, a node opened for its parent is the parent's inline child. */
static void test_inline_children(void)
{
    static const char *const forms[] = {
        "{'file': {'node-name': 'below', 'filename': '%s'}}",
        "{'driver': 'raw', 'file': {'node-name': 'below', 'filename': '%s'}}",
        ("{'driver': 'concat', 'files': [{'node-name': 'below',"
         " 'file.filename': '%s'}]}"),
    };
    g_autofree char *path = file_test_make("inline", MIB);

    for (int i = 0; i < ARRAY_SIZE(forms); i++) {
        BlockDriverState *bs = open_form(NULL, forms[i], path, 0,
                                         &error_abort);
        BlockDriverState *below = bdrv_find_node("below");

        g_assert_true(QTAILQ_FIRST(&bs->children)->bs == below);
        g_assert_true(below->inherits_from == bs);
        bdrv_unref(bs);
        check_empty();
    }
}

/*
 * Lock bytes by what is opened and what for: QEMU's, so that both keep each
 * other out. In hexadecimal: low byte 100+n, second byte 200+n.
 */
static void test_lock_bytes(void)
{
    static const struct {
        const char *format;
        int flags;
        unsigned top, base;
    } cases[] = {
        { "raw", RDWR, 0x003, 0 },
        { "raw", 0, 0x001, 0 },
        { "raw", BDRV_O_FORCE_SHARE, 0x001, 0 },
        { "file", RDWR, 0x003, 0 },
        { "qcow2", RDWR, 0xa0b, 0xa01 },
        { "qcow2", 0, 0xa01, 0xa01 },
        { "qcow2", BDRV_O_FORCE_SHARE, 0x001, 0x001 },
        { "qcow2", BDRV_O_NO_IO | BDRV_O_NO_BACKING, 0xa00, 0 },
        { NULL, RDWR, 0xa0b, 0xa01 },
        { NULL, BDRV_O_FORCE_SHARE, 0x001, 0x001 },
    };
    g_autofree char *base = make_qcow2("lb-base", NULL, NULL);
    g_autofree char *top = make_qcow2("lb-top", base_of(base), "qcow2");

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        QDict *options = qdict_new();
        BlockBackend *blk;

        if (cases[i].format) {
            qdict_put_str(options, "driver", cases[i].format);
        }
        if (cases[i].flags & BDRV_O_FORCE_SHARE) {
            qdict_put_str(options, "force-share", "on");
        }
        blk = blk_new_open(top, NULL, options,
                           cases[i].flags & ~BDRV_O_FORCE_SHARE, &error_abort);
        g_assert_cmphex(file_test_locks(top), ==, cases[i].top);
        g_assert_cmphex(file_test_locks(base), ==, cases[i].base);
        blk_unref(blk);
        g_assert_cmphex(file_test_locks(top), ==, 0);
        g_assert_cmphex(file_test_locks(base), ==, 0);
        check_empty();
    }
}

/* A backing file is read-only and takes the rest from the overlay. */
static void test_backing_flags(void)
{
    g_autofree char *base = make_qcow2("bf-base", NULL, NULL);
    g_autofree char *top = make_qcow2("bf-top", base_of(base), "qcow2");
    BlockDriverState *bs = file_test_open(
        RDWR, &error_abort, "{'driver': 'qcow2', 'auto-read-only': true,"
        " 'cache.no-flush': true, 'discard': 'ignore',"
        " 'detect-zeroes': 'on', 'file.filename': '%s'}", top);
    BlockDriverState *backing = bdrv_cow_bs(bs);

    g_assert_true(backing->inherits_from == bs);
    g_assert_false(backing->open_flags & (RDWR | BDRV_O_AUTO_RDONLY));
    g_assert_false(backing->file->bs->open_flags & (RDWR | BDRV_O_AUTO_RDONLY));
    g_assert_true(backing->open_flags & BDRV_O_NO_FLUSH);
    g_assert_true(backing->open_flags & BDRV_O_UNMAP);
    g_assert_cmpint(backing->detect_zeroes, ==,
                    BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF);
    bdrv_unref(bs);

    bs = file_test_open(0, &error_abort, "{'force-share': true,"
                        " 'file.filename': '%s'}", top);
    g_assert_true(bdrv_cow_bs(bs)->open_flags & BDRV_O_FORCE_SHARE);
    g_assert_cmphex(file_test_locks(base), ==, BLK_PERM_CONSISTENT_READ);
    bdrv_unref(bs);
    check_empty();
}

/* --- backing files --- */

typedef struct BackingForm {
    const char *json;           /* beside driver and file; with a comma */
    const char *below;          /* file names of the chain, or NULL */
} BackingForm;

static char *chain_names(BlockDriverState *bs)
{
    GString *s = g_string_new(NULL);

    while ((bs = bdrv_cow_bs(bs))) {
        g_string_append_printf(s, "%s%s:%s", s->len ? " " : "",
                               bdrv_get_format_name(bs),
                               base_of(bs->file->bs->filename));
    }
    return g_string_free(s, false);
}

/*
 *   b-top -> b-mid -> b-base, and b-other that is no part of it
 */
static void test_backing_option(void)
{
    g_autofree char *base = make_qcow2("b-base", NULL, NULL);
    g_autofree char *mid = make_qcow2("b-mid", base_of(base), "qcow2");
    g_autofree char *top = make_qcow2("b-top", base_of(mid), "qcow2");
    g_autofree char *other = make_qcow2("b-other", NULL, NULL);
    g_autofree char *by_file = g_strdup_printf(
        ", 'backing': {'driver': 'qcow2', 'file.filename': '%s'}", other);
    g_autofree char *probed = g_strdup_printf(
        ", 'backing.file.filename': '%s'", other);
    const BackingForm forms[] = {
        { "", "qcow2:b-mid qcow2:b-base" },
        { ", 'backing': null", "" },
        { ", 'backing': ''", "" },
        { ", 'backing': 'other'", "qcow2:b-other" },
        { by_file, "qcow2:b-other" },
        { probed, "qcow2:b-other" },
        /* options on top of what the header says */
        { ", 'backing': {}", "qcow2:b-mid qcow2:b-base" },
        { ", 'backing': {'driver': 'raw'}", "raw:b-mid" },
        { ", 'backing': {'node-name': 'm'}", "qcow2:b-mid qcow2:b-base" },
        { ", 'backing': {'backing': null}", "qcow2:b-mid" },
        { ", 'backing.backing': 'other'", "qcow2:b-mid qcow2:b-other" },
        { ", 'backing.backing.driver': 'raw'", "qcow2:b-mid raw:b-base" },
    };
    BlockDriverState *deep;
    g_autofree char *deep_names = NULL;
    BlockDriverState *o = file_test_open(
        0, &error_abort, "{'driver': 'qcow2', 'node-name': 'other',"
        " 'file.filename': '%s'}", other);

    for (int i = 0; i < ARRAY_SIZE(forms); i++) {
        BlockDriverState *bs = file_test_open(
            0, &error_abort, "{'driver': 'qcow2', 'file.filename': '%s' %s}",
            top, forms[i].json);
        g_autofree char *names = chain_names(bs);

        g_test_message("%s", forms[i].json);
        g_assert_cmpstr(names, ==, forms[i].below);
        bdrv_unref(bs);
    }
    bdrv_unref(o);

    /* The same for a node further down. */
    deep = file_test_open(0, &error_abort, "{'driver': 'raw', 'file':"
                          " {'driver': 'qcow2', 'file.filename': '%s',"
                          "  'backing': {'driver': 'raw'}}}", top);
    deep_names = chain_names(deep->file->bs);
    g_assert_cmpstr(deep_names, ==, "raw:b-mid");
    g_assert_true(deep->file->bs->inherits_from == deep);
    bdrv_unref(deep);
    check_empty();
}

/* Without its chain an image opens whatever its header names. */
static void test_no_backing(void)
{
    g_autofree char *top = make_qcow2("nb-top", "nowhere", "qcow2");
    BlockDriverState *bs = bdrv_open(top, NULL, NULL, BDRV_O_NO_BACKING,
                                     &error_abort);

    g_assert_null(bs->backing);
    g_assert_cmpstr(bs->backing_file, ==, "nowhere");
    g_assert_cmpstr(bs->filename, ==, top);
    bdrv_unref(bs);
    check_empty();
}

static void backing_refused(const char *path, const char *json,
                            const char *text)
{
    Error *err = NULL;

    g_test_message("%s %s", path, json);
    g_assert_null(file_test_open(0, &err, "{'driver': 'qcow2',"
                                 " 'file.filename': '%s' %s}", path, json));
    file_test_error(err, text);
    check_empty();
}

static void test_backing_refused(void)
{
    g_autofree char *plain = make_qcow2("br-plain", NULL, NULL);
    g_autofree char *top = make_qcow2("br-top", "br-gone", "qcow2");
    g_autofree char *proto = make_qcow2("br-proto", "nope:x", "qcow2");
    g_autofree char *format = make_qcow2("br-format", "br-plain", "nope");
    g_autofree char *wrong = make_qcow2("br-wrong", "br-plain", "qcow2");
    g_autofree char *dir = g_path_get_dirname(top);
    g_autofree char *gone = g_strdup_printf(
        "Could not open backing file: Could not open '%s/br-gone': No such "
        "file or directory", dir);
    g_autofree char *itself = g_strdup_printf(
        ", 'backing': {'driver': 'raw', 'file.filename': '%s'}", wrong);

    backing_refused(top, "", gone);
    backing_refused(proto, "",
                    "Could not open backing file: Unknown protocol 'nope'");
    backing_refused(format, "",
                    "Could not open backing file: Unknown driver 'nope'");
    backing_refused(top, ", 'backing': 'nope'",
                    "Could not open backing file: Cannot find device='nope' "
                    "nor node-name='nope'");
    backing_refused(top, ", 'backing': []",
                    "Could not open backing file: Invalid parameter type for "
                    "'backing', expected: BlockdevRef");
    backing_refused(plain, ", 'backing.driver': 'qcow2'",
                    "Could not open backing file: Parameter 'file' is "
                    "missing");
    backing_refused(wrong, ", 'backing.nonsense': 1",
                    "Could not open backing file: Parameter 'nonsense' is "
                    "unexpected");
    /* Not below itself, by reference; as file of its own it may be. */
    backing_refused(top, ", 'node-name': 't', 'backing': 't'",
                    "Making 't' a backing child of 't' would create a cycle");
    bdrv_unref(file_test_open(0, &error_abort, "{'driver': 'qcow2',"
                              " 'file.filename': '%s' %s}", wrong, itself));
    check_empty();
}

/*
 * Headers that lead back to an image above would go on for ever; an option on
 * the way may end it.
 */
static void test_loop(void)
{
    g_autofree char *a = make_qcow2("loop-a", "loop-b", "qcow2");
    g_autofree char *b = make_qcow2("loop-b", base_of(a), "qcow2");
    g_autofree char *self = make_qcow2("loop-self", "loop-self", "qcow2");
    g_autofree char *with_self = g_strdup_printf("Could not open backing file: "
        "Backing file '%s' creates an infinite loop", self);
    g_autofree char *names = NULL;
    BlockDriverState *bs;
    Error *err = NULL;

    g_assert_null(bdrv_open(a, NULL, NULL, 0, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "infinite loop"));
    error_free(err);
    check_empty();
    err = NULL;
    g_assert_null(bdrv_open(self, NULL, NULL, RDWR, &err));
    if (strcmp(error_get_pretty(err), with_self)) {
        /* The second opening of a writable image meets its lock first. */
        g_assert_nonnull(strstr(error_get_pretty(err), "lock"));
    }
    error_free(err);
    check_empty();

    bs = file_test_open(0, &error_abort, "{'driver': 'qcow2',"
                        " 'file.filename': '%s',"
                        " 'backing.backing.backing.backing': null}", b);
    names = chain_names(bs);
    g_assert_cmpstr(names, ==, "qcow2:loop-a qcow2:loop-b qcow2:loop-a");
    bdrv_unref(bs);
    check_empty();
}

/* Relative names are relative to the file that stores the image. */
static void test_relative(void)
{
    static const char *const forms[] = {
        "{'driver': 'qcow2', 'file.filename': '%s'}",
        "{'driver': 'qcow2', 'lazy-refcounts': true, 'file.filename': '%s'}",
        ("{'driver': 'qcow2', 'file.driver': 'raw',"
         " 'file.file.filename': '%s'}"),
        ("{'driver': 'qcow2', 'file.driver': 'raw', 'file.offset': 0,"
         " 'file.file.filename': '%s'}"),
        ("{'driver': 'qcow2', 'file.driver': 'blkdebug',"
         " 'file.image.filename': '%s'}"),
        ("{'driver': 'qcow2', 'backing.node-name': 'b',"
         " 'file.filename': '%s'}"),
    };
    g_autofree char *base = make_qcow2("rel-base", NULL, NULL);
    g_autofree char *top = make_qcow2("rel-top", "rel-base", "qcow2");

    for (int i = 0; i < ARRAY_SIZE(forms); i++) {
        BlockDriverState *bs = open_form(NULL, forms[i], top, 0,
                                         &error_abort);

        g_assert_cmpstr(bdrv_cow_bs(bs)->filename, ==, base);
        bdrv_unref(bs);
        check_empty();
    }
}

/* --- names of open nodes --- */

static char *fill_in(const char *text, const char *top, const char *base,
                     const char *other)
{
    GString *s = g_string_new(text);

    g_string_replace(s, "TOP", top, 0);
    g_string_replace(s, "BASE", base, 0);
    g_string_replace(s, "OTHER", other, 0);
    return g_string_free(s, false);
}

/* A plain name if it opens the same tree, else a json: name that does. */
static void test_filenames(void)
{
    g_autofree char *base = make_qcow2("fn-base", NULL, NULL);
    g_autofree char *top = make_qcow2("fn-top", "fn-base", "qcow2");
    g_autofree char *other = make_qcow2("fn-other", NULL, NULL);
    const struct {
        const char *json;
        const char *name;       /* with TOP, BASE, OTHER replaced */
    } cases[] = {
        { "{'driver': 'qcow2', 'file.filename': 'TOP'}", "TOP" },
        { "{'driver': 'qcow2', 'read-only': true, 'file.filename': 'TOP'}",
          "TOP" },
        { "{'driver': 'raw', 'offset': 512, 'file.filename': 'TOP'}",
          "json:{\"offset\": \"512\", \"driver\": \"raw\", \"file\": "
          "{\"driver\": \"file\", \"filename\": \"TOP\"}}" },
        { "{'driver': 'qcow2', 'file.filename': 'TOP', 'backing': null}",
          "json:{\"backing\": null, \"driver\": \"qcow2\", \"file\": "
          "{\"driver\": \"file\", \"filename\": \"TOP\"}}" },
        { "{'driver': 'qcow2', 'file.filename': 'TOP', 'backing':"
          " {'driver': 'qcow2', 'file.filename': 'BASE'}}", "TOP" },
        { "{'driver': 'qcow2', 'file.filename': 'TOP', 'backing':"
          " {'driver': 'qcow2', 'file.filename': 'OTHER'}}",
          "json:{\"backing\": {\"driver\": \"qcow2\", \"file\": "
          "{\"driver\": \"file\", \"filename\": \"OTHER\"}}, \"driver\": "
          "\"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": "
          "\"TOP\"}}" },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *json = fill_in(cases[i].json, top, base, other);
        g_autofree char *name = fill_in(cases[i].name, top, base, other);
        BlockDriverState *bs = bdrv_open(NULL, NULL, parse(json), 0,
                                         &error_abort);
        BlockDriverState *again;

        g_assert_cmpstr(bs->filename, ==, name);
        again = bdrv_open(bs->filename, NULL,
                          strcmp(name, top) ? NULL : parse("{'driver':"
                                                           " 'qcow2'}"),
                          0, &error_abort);
        g_assert_cmpstr(again->filename, ==, name);
        bdrv_unref(again);
        bdrv_unref(bs);
        check_empty();
    }
}

/* The options given stay as they were given. */
static void test_explicit_options(void)
{
    g_autofree char *base = make_qcow2("eo-base", NULL, NULL);
    g_autofree char *top = make_qcow2("eo-top", NULL, NULL);
    BlockDriverState *bs = file_test_open(
        0, &error_abort, "{'driver': 'qcow2', 'file.filename': '%s',"
        " 'backing': {'driver': 'raw', 'file': {'filename': '%s'}}}", top,
        base);
    QDict *backing = qdict_get_qdict(bs->explicit_options, "backing");
    QDict *file = qdict_get_qdict(backing, "file");

    g_assert_cmpuint(qdict_size(backing), ==, 2);
    g_assert_cmpstr(qdict_get_str(file, "filename"), ==, base);
    bdrv_unref(bs);
    check_empty();
}

/* Deep descriptions work, deeper ones are an error. */
static void test_depth(void)
{
    g_autofree char *path = file_test_make("depth", 4096);
    const int depths[] = { 10, 100, 5000 };

    for (int i = 0; i < ARRAY_SIZE(depths); i++) {
        g_autoptr(GString) name = g_string_new("json:");
        BlockDriverState *bs;
        Error *err = NULL;

        for (int n = 0; n < depths[i]; n++) {
            g_string_append(name, "{'driver': 'raw', 'file': ");
        }
        g_string_append_printf(name, "{'filename': '%s'}", path);
        for (int n = 0; n < depths[i]; n++) {
            g_string_append_c(name, '}');
        }
        bs = bdrv_open(name->str, NULL, NULL, 0, &err);
        if (depths[i] < 1000) {
            g_assert_nonnull(bs);
            bdrv_unref(bs);
        } else {
            g_assert_null(bs);
            g_assert_nonnull(err);
            error_free(err);
        }
        check_empty();
    }
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/open/forms", test_forms);
    g_test_add_func("/open/colon", test_colon);
    g_test_add_func("/open/refused", test_refused);
    g_test_add_func("/open/missing-file", test_missing_file);
    g_test_add_func("/open/reference", test_reference);
    g_test_add_func("/open/inherited-flags", test_inherited_flags);
    g_test_add_func("/open/lock-bytes", test_lock_bytes);
    g_test_add_func("/open/inline-children", test_inline_children);
    g_test_add_func("/open/backing/flags", test_backing_flags);
    g_test_add_func("/open/backing/option", test_backing_option);
    g_test_add_func("/open/backing/none", test_no_backing);
    g_test_add_func("/open/backing/refused", test_backing_refused);
    g_test_add_func("/open/backing/loop", test_loop);
    g_test_add_func("/open/backing/relative", test_relative);
    g_test_add_func("/open/filenames", test_filenames);
    g_test_add_func("/open/explicit-options", test_explicit_options);
    g_test_add_func("/open/depth", test_depth);
    return file_test_run();
}
