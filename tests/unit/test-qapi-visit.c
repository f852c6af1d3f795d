/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Generated types and visitors: what is read and written, which mistakes are
 * named how, that half-read values are freed, clones, member tables.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-types.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"
#include "qapi/qobject-output-visitor.h"
#include "qobject/keyval.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"

typedef enum {
    FROM_JSON,
    FROM_KEYVAL,
    FROM_FLAT,          /* option list, traditional */
    FROM_FLAT_JSON,     /* JSON object with dotted keys */
} Form;

static Visitor *input(Form form, const char *text, Error **errp)
{
    g_autoptr(QObject) obj = NULL;

    switch (form) {
    case FROM_JSON:
        obj = qobject_from_json(text, &error_abort);
        return qobject_input_visitor_new(obj);
    case FROM_KEYVAL:
        obj = QOBJECT(keyval_parse(text, "driver", NULL, &error_abort));
        return qobject_input_visitor_new_keyval(obj);
    case FROM_FLAT:
        obj = QOBJECT(keyval_parse_opts(text, NULL, NULL));
        return qobject_input_visitor_new_flat_confused(
            qobject_to(QDict, obj), errp);
    case FROM_FLAT_JSON:
        obj = qobject_from_json(text, &error_abort);
        return qobject_input_visitor_new_flat_confused(
            qobject_to(QDict, obj), errp);
    }
    g_assert_not_reached();
}

static BlockdevOptions *read_options(Form form, const char *text, Error **errp)
{
    BlockdevOptions *opts = NULL;
    Visitor *v = input(form, text, errp);
    bool ok;

    if (!v) {
        return NULL;
    }
    ok = visit_type_BlockdevOptions(v, NULL, &opts, errp);
    g_assert_cmpint(ok, ==, opts != NULL);
    visit_free(v);
    return opts;
}

static char *write_options(BlockdevOptions *opts)
{
    g_autoptr(QObject) obj = NULL;
    Visitor *v = qobject_output_visitor_new(&obj);

    visit_type_BlockdevOptions(v, NULL, &opts, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    return g_string_free(qobject_to_json(obj), FALSE);
}

/* Every kind of member, read and written again. */
static const char full_options[] =
    "{'driver': 'qcow2', 'node-name': 'n', 'discard': 'unmap',"
    " 'cache': {'direct': true}, 'read-only': false, 'detect-zeroes': 'on',"
    " 'file': {'driver': 'file', 'filename': 'x', 'locking': 'off',"
    "          'aio-max-batch': -5},"
    " 'backing': null, 'lazy-refcounts': true,"
    " 'overlap-check': {'template': 'all', 'active-l1': false},"
    " 'l2-cache-size': 18446744073709551615,"
    " 'data-file': 'ref'}";

static void test_round_trip(void)
{
    g_autoptr(BlockdevOptions) opts = read_options(FROM_JSON, full_options,
                                                   &error_abort);
    g_autofree char *text = write_options(opts);
    g_autoptr(QObject) want = qobject_from_json(full_options, &error_abort);
    g_autoptr(QObject) got = qobject_from_json(text, &error_abort);
    BlockdevOptionsQcow2 *q = &opts->u.qcow2;

    g_assert_true(qobject_is_equal(want, got));
    g_assert_cmpint(opts->driver, ==, BLOCKDEV_DRIVER_QCOW2);
    g_assert_cmpstr(BlockdevDriver_str(opts->driver), ==, "qcow2");
    g_assert_true(opts->has_read_only && !opts->read_only);
    g_assert_false(opts->has_active);
    g_assert_nonnull(opts->cache);
    g_assert_true(opts->cache->has_direct && opts->cache->direct);
    g_assert_false(opts->cache->has_no_flush);
    g_assert_cmpint(q->file->type, ==, QTYPE_QDICT);
    g_assert_cmpint(q->file->u.definition.u.file.aio_max_batch, ==, -5);
    g_assert_cmpint(q->file->u.definition.u.file.locking, ==,
                    ON_OFF_AUTO_OFF);
    g_assert_cmpint(q->backing->type, ==, QTYPE_QNULL);
    g_assert_cmpint(q->data_file->type, ==, QTYPE_QSTRING);
    g_assert_cmpstr(q->data_file->u.reference, ==, "ref");
    g_assert_cmpuint(q->l2_cache_size, ==, UINT64_MAX);
    g_assert_cmpint(q->overlap_check->u.flags.template, ==,
                    QCOW2_OVERLAP_CHECK_MODE_ALL);
    g_assert_true(qapi_BlockdevOptionsQcow2_base(q)->file == q->file);
}

/* The same options by other ways. */
static void test_forms(void)
{
    static const char want[] =
        "{\"driver\": \"raw\", \"read-only\": true, \"size\": 1536, "
        "\"offset\": 512, "
        "\"file\": {\"driver\": \"file\", \"filename\": \"x\"}}";
    static const struct {
        Form form;
        const char *text;
    } cases[] = {
        { FROM_KEYVAL, "raw,read-only=on,offset=512,size=1.5k,"
          "file.driver=file,file.filename=x" },
        { FROM_FLAT, "driver=raw,read-only,offset=0x200,size=1536,"
          "file.driver=file,file.filename=x" },
        { FROM_FLAT_JSON, "{'driver': 'raw', 'read-only': true,"
          " 'offset': '512', 'size': 1536, 'file.driver': 'file',"
          " 'file.filename': 'x'}" },
    };
    size_t i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autoptr(BlockdevOptions) opts = read_options(
            cases[i].form, cases[i].text, &error_abort);
        g_autofree char *text = write_options(opts);
        g_autoptr(QObject) got = qobject_from_json(text, &error_abort);
        g_autoptr(QObject) wanted = qobject_from_json(want, &error_abort);

        g_assert_true(qobject_is_equal(got, wanted));
    }
}

static void test_errors(void)
{
    static const struct {
        Form form;
        const char *text, *msg;
    } cases[] = {
        { FROM_JSON, "{}", "Parameter 'driver' is missing" },
        { FROM_JSON, "[]",
          "Invalid parameter type for '<anonymous>', expected: object" },
        { FROM_JSON, "{'driver': 3}",
          "Invalid parameter type for 'driver', expected: string" },
        { FROM_JSON, "{'driver': 'foo'}",
          "Parameter 'driver' does not accept value 'foo'" },
        { FROM_JSON, "{'driver': 'raw'}", "Parameter 'file' is missing" },
        { FROM_JSON, "{'driver': 'raw', 'file': 3}",
          "Invalid parameter type for 'file', expected: BlockdevRef" },
        { FROM_JSON, "{'driver': 'raw', 'file': 'f', 'foo': 1}",
          "Parameter 'foo' is unexpected" },
        { FROM_JSON, "{'driver': 'file', 'filename': 'f', 'size': 1}",
          "Parameter 'size' is unexpected" },
        { FROM_JSON, "{'driver': 'raw', 'file': {'driver': 'raw',"
          " 'file': {'driver': 'file'}}}",
          "Parameter 'file.file.filename' is missing" },
        { FROM_JSON, "{'driver': 'raw', 'file': {'driver': 'file',"
          " 'filename': 'f', 'locking': 'x'}}",
          "Parameter 'file.locking' does not accept value 'x'" },
        { FROM_JSON, "{'driver': 'raw', 'file': {'driver': 'file',"
          " 'filename': 'f', 'x': {}}}", "Parameter 'file.x' is unexpected" },
        { FROM_JSON, "{'driver': 'concat', 'files': 'a'}",
          "Invalid parameter type for 'files', expected: array" },
        { FROM_JSON, "{'driver': 'concat', 'files': ['a', 1]}",
          "Invalid parameter type for 'files[1]', expected: BlockdevRef" },
        { FROM_JSON, "{'driver': 'concat', 'files': ['a', {'driver': 'raw'}]}",
          "Parameter 'files[1].file' is missing" },
        { FROM_JSON, "{'driver': 'null-co', 'size': '1'}",
          "Invalid parameter type for 'size', expected: integer" },
        { FROM_JSON, "{'driver': 'null-co', 'size': 1.0}",
          "Invalid parameter type for 'size', expected: integer" },
        { FROM_JSON, "{'driver': 'null-co', 'size': -1}",
          "Parameter 'size' expects a non-negative integer" },
        { FROM_JSON, "{'driver': 'null-co', 'read-zeroes': 1}",
          "Invalid parameter type for 'read-zeroes', expected: boolean" },
        { FROM_JSON, "{'driver': 'qcow2', 'file': 'f',"
          " 'overlap-check': 'some'}",
          "Parameter 'overlap-check' does not accept value 'some'" },
        { FROM_JSON, "{'driver': 'qcow2', 'file': 'f',"
          " 'overlap-check': {'active-l3': true}}",
          "Parameter 'overlap-check.active-l3' is unexpected" },
        { FROM_JSON, "{'driver': 'blkdebug', 'image': 'i',"
          " 'take-child-perms': ['write', 'eat']}",
          "Parameter 'take-child-perms[1]' does not accept value 'eat'" },
        { FROM_JSON, "{'driver': 'blkdebug', 'image': 'i',"
          " 'inject-error': [{'event': 'none', 'errno': 1}, {'errno': 2}]}",
          "Parameter 'inject-error[1].event' is missing" },
        { FROM_KEYVAL, "raw,file.filename=f",
          "Parameter 'file.driver' is missing" },
        { FROM_KEYVAL, "raw,read-only=maybe",
          "Parameter 'read-only' expects 'on' or 'off'" },
        { FROM_KEYVAL, "raw,cache.direct=1",
          "Parameter 'cache.direct' expects 'on' or 'off'" },
        { FROM_KEYVAL, "raw,cache=1",
          "Invalid parameter type for 'cache', expected: object" },
        { FROM_KEYVAL, "raw,offset=abc,file=f",
          "Parameter 'offset' expects a non-negative number below 2^64" },
        { FROM_KEYVAL, "file,filename=f,aio-max-batch=1k",
          "Parameter 'aio-max-batch' expects integer" },
        { FROM_KEYVAL, "null-co,latency-ns=-1",
          "Parameter 'latency-ns' expects integer" },
        { FROM_KEYVAL, "concat,files.0.driver=raw",
          "Parameter 'files.0.file' is missing" },
        { FROM_FLAT, "driver=raw,file=x,file.driver=raw",
          "Cannot mix scalar and non-scalar keys" },
        { FROM_FLAT, "driver=raw,file=x,nofoo",
          "Parameter 'foo' is unexpected" },
        { FROM_FLAT_JSON, "{'driver': 'raw', 'file': 'f', 'offset': true}",
          "Invalid parameter type for 'offset', expected: integer" },
    };
    size_t i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        Error *err = NULL;

        g_assert_null(read_options(cases[i].form, cases[i].text, &err));
        g_assert_cmpstr(error_get_pretty(err), ==, cases[i].msg);
        error_free(err);
        /* the same without anybody who wants to know */
        g_assert_null(read_options(cases[i].form, cases[i].text, NULL));
    }
}

static void test_size_hint(void)
{
    Error *err = NULL;

    g_assert_null(read_options(FROM_KEYVAL, "null-co,size=1Z", &err));
    g_assert_nonnull(strstr(error_get_hint(err), "Optional suffix k, M, G"));
    error_free(err);
}

/* Narrow integers: the limits and one beyond, in JSON and as text. */
static void test_ranges(void)
{
    static const struct {
        int64_t value;
        bool i8, u8, i16, u16, i32, u32;
    } cases[] = {
        { 0, 1, 1, 1, 1, 1, 1 },           { -1, 1, 0, 1, 0, 1, 0 },
        { INT8_MAX, 1, 1, 1, 1, 1, 1 },    { INT8_MAX + 1, 0, 1, 1, 1, 1, 1 },
        { INT8_MIN, 1, 0, 1, 0, 1, 0 },    { INT8_MIN - 1, 0, 0, 1, 0, 1, 0 },
        { UINT8_MAX, 0, 1, 1, 1, 1, 1 },   { UINT8_MAX + 1, 0, 0, 1, 1, 1, 1 },
        { INT16_MAX, 0, 0, 1, 1, 1, 1 },   { INT16_MAX + 1, 0, 0, 0, 1, 1, 1 },
        { INT16_MIN, 0, 0, 1, 0, 1, 0 },   { INT16_MIN - 1, 0, 0, 0, 0, 1, 0 },
        { UINT16_MAX, 0, 0, 0, 1, 1, 1 },
        { UINT16_MAX + 1, 0, 0, 0, 0, 1, 1 },
        { INT32_MAX, 0, 0, 0, 0, 1, 1 },
        { (int64_t)INT32_MAX + 1, 0, 0, 0, 0, 0, 1 },
        { INT32_MIN, 0, 0, 0, 0, 1, 0 },
        { (int64_t)INT32_MIN - 1, 0, 0, 0, 0, 0, 0 },
        { UINT32_MAX, 0, 0, 0, 0, 0, 1 },
        { (int64_t)UINT32_MAX + 1, 0, 0, 0, 0, 0, 0 },
        { INT64_MIN, 0, 0, 0, 0, 0, 0 },
    };
    size_t i;
    int text;

    for (i = 0; i < ARRAY_SIZE(cases) * 2; i++) {
        const typeof(cases[0]) *c = &cases[i / 2];
        g_autofree char *number = g_strdup_printf("%" PRId64, c->value);
        g_autofree char *quoted = g_strdup_printf("'%s'", number);
        g_autoptr(QObject) obj = NULL;
        Visitor *v;
        int8_t i8 = 42; uint8_t u8 = 42;
        int16_t i16 = 42; uint16_t u16 = 42;
        int32_t i32 = 42; uint32_t u32 = 42;
        int64_t i64 = 42;

        text = i % 2;
        obj = qobject_from_json(text ? quoted : number, &error_abort);
        v = text ? qobject_input_visitor_new_keyval(obj)
                 : qobject_input_visitor_new(obj);
        g_assert_cmpint(visit_type_int8(v, "x", &i8, NULL), ==, c->i8);
        g_assert_cmpint(i8, ==, c->i8 ? c->value : 42);
        g_assert_cmpint(visit_type_uint8(v, "x", &u8, NULL), ==, c->u8);
        g_assert_cmpint(u8, ==, c->u8 ? c->value : 42);
        g_assert_cmpint(visit_type_int16(v, "x", &i16, NULL), ==, c->i16);
        g_assert_cmpint(i16, ==, c->i16 ? c->value : 42);
        g_assert_cmpint(visit_type_uint16(v, "x", &u16, NULL), ==, c->u16);
        g_assert_cmpint(u16, ==, c->u16 ? c->value : 42);
        g_assert_cmpint(visit_type_int32(v, "x", &i32, NULL), ==, c->i32);
        g_assert_cmpint(i32, ==, c->i32 ? c->value : 42);
        g_assert_cmpint(visit_type_uint32(v, "x", &u32, NULL), ==, c->u32);
        g_assert_cmpint(u32, ==, c->u32 ? c->value : 42);
        g_assert_true(visit_type_int(v, "x", &i64, NULL));
        g_assert_cmpint(i64, ==, c->value);
        visit_free(v);
    }
}

static void test_range_message(void)
{
    g_autoptr(QObject) obj = qobject_from_json(
        "{'request-alignment': 4294967296, 'max-iov': 1,"
        " 'min-mem-alignment': 1, 'opt-mem-alignment': 1}", &error_abort);
    Visitor *v = qobject_input_visitor_new(obj);
    BlockLimitsInfo *info;
    Error *err = NULL;

    g_assert_false(visit_type_BlockLimitsInfo(v, NULL, &info, &err));
    g_assert_null(info);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Parameter 'request-alignment' expects uint32_t");
    error_free(err);
    visit_free(v);
}

/* Scalars of type any, null and number, which no option uses. */
static void test_other_scalars(void)
{
    g_autoptr(QObject) list = qobject_from_json("[{'a': [1]}, null, 2, '2.5']",
                                                &error_abort);
    Visitor *v = qobject_input_visitor_new(list);
    GenericList *head, *tail;
    size_t size = sizeof(strList);
    QObject *any;
    QNull *null;
    double number;
    Error *err = NULL;

    g_assert_true(visit_start_list(v, NULL, &head, size, &error_abort));
    g_assert_true(visit_type_any(v, NULL, &any, &error_abort));
    tail = visit_next_list(v, head, size);
    g_assert_true(visit_type_null(v, NULL, &null, &error_abort));
    g_assert_nonnull(null);
    qobject_unref(null);
    tail = visit_next_list(v, tail, size);
    g_assert_false(visit_type_null(v, NULL, &null, &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Invalid parameter type for '[2]', expected: null");
    error_free(err);
    g_assert_null(null);
    g_assert_true(visit_type_number(v, NULL, &number, &error_abort));
    g_assert_cmpfloat(number, ==, 2);
    tail = visit_next_list(v, tail, size);
    g_assert_false(visit_type_number(v, NULL, &number, NULL));
    g_assert_null(visit_next_list(v, tail, size));
    visit_end_list(v, (void **)&head);
    visit_free(v);
    while (head) {
        tail = head->next;
        g_free(head);
        head = tail;
    }
    qobject_unref(any);
}

/* A clone is equal and shares nothing: freeing both is fine. */
static void test_clone(void)
{
    BlockdevOptions *opts = read_options(FROM_JSON, full_options,
                                         &error_abort);
    g_autoptr(BlockdevOptions) clone = QAPI_CLONE(BlockdevOptions, opts);
    g_autofree char *before = write_options(opts);
    g_autofree char *after = NULL;
    BlockdevOptionsQcow2 *members = g_new0(BlockdevOptionsQcow2, 1);
    BlockPermissionList *list = NULL, *copy;

    QAPI_CLONE_MEMBERS(BlockdevOptionsQcow2, members, &opts->u.qcow2);
    qapi_free_BlockdevOptions(opts);
    after = write_options(clone);
    g_assert_cmpstr(before, ==, after);
    g_assert_cmpstr(members->data_file->u.reference, ==, "ref");
    qapi_free_BlockdevOptionsQcow2(members);

    QAPI_LIST_PREPEND(list, BLOCK_PERMISSION_WRITE);
    QAPI_LIST_PREPEND(list, BLOCK_PERMISSION_RESIZE);
    copy = QAPI_CLONE(BlockPermissionList, list);
    qapi_free_BlockPermissionList(list);
    g_assert_cmpuint(QAPI_LIST_LENGTH(copy), ==, 2);
    g_assert_cmpint(copy->value, ==, BLOCK_PERMISSION_RESIZE);
    qapi_free_BlockPermissionList(copy);
    g_assert_null(QAPI_CLONE(BlockdevOptions, (BlockdevOptions *)NULL));
}

/* NULL and structs that were never filled can be freed. */
static void test_free_partial(void)
{
    BlockdevOptions *opts = g_new0(BlockdevOptions, 1);
    BlockdevRef *ref = g_new0(BlockdevRef, 1);
    ImageInfo *info = g_new0(ImageInfo, 1);

    qapi_free_BlockdevOptions(NULL);
    opts->driver = BLOCKDEV_DRIVER_QCOW2;
    opts->node_name = g_strdup("n");
    opts->u.qcow2.file = g_new0(BlockdevRef, 1);
    qapi_free_BlockdevOptions(opts);
    qapi_free_BlockdevRef(ref);
    info->has_snapshots = true;
    QAPI_LIST_PREPEND(info->snapshots, NULL);
    qapi_free_ImageInfo(info);
}

/* Image descriptions come out as qemu-img 7.2 prints them. */
static void test_output(void)
{
    g_autoptr(ImageInfo) info = g_new0(ImageInfo, 1);
    g_autoptr(QObject) obj = NULL;
    g_autoptr(GString) text = NULL;
    ImageInfoSpecificQCow2 *q;
    Visitor *v;

    info->filename = g_strdup("a.qcow2");
    info->format = g_strdup("qcow2");
    info->has_dirty_flag = true;
    info->has_actual_size = true;
    info->actual_size = 200704;
    info->virtual_size = 1048576;
    info->has_cluster_size = true;
    info->cluster_size = 65536;
    info->format_specific = g_new0(ImageInfoSpecific, 1);
    info->format_specific->type = IMAGE_INFO_SPECIFIC_KIND_QCOW2;
    q = g_new0(ImageInfoSpecificQCow2, 1);
    info->format_specific->u.qcow2.data = q;
    q->compat = g_strdup("1.1");
    q->has_extended_l2 = q->has_lazy_refcounts = q->has_corrupt = true;
    q->refcount_bits = 16;

    v = qobject_output_visitor_new(&obj);
    g_assert_true(visit_type_ImageInfo(v, NULL, (ImageInfo **)&info,
                                       &error_abort));
    visit_complete(v, &obj);
    visit_free(v);
    text = qobject_to_json_pretty(obj, true);
    g_assert_cmpstr(text->str, ==,
                    "{\n"
                    "    \"virtual-size\": 1048576,\n"
                    "    \"filename\": \"a.qcow2\",\n"
                    "    \"cluster-size\": 65536,\n"
                    "    \"format\": \"qcow2\",\n"
                    "    \"actual-size\": 200704,\n"
                    "    \"format-specific\": {\n"
                    "        \"type\": \"qcow2\",\n"
                    "        \"data\": {\n"
                    "            \"compat\": \"1.1\",\n"
                    "            \"compression-type\": \"zlib\",\n"
                    "            \"lazy-refcounts\": false,\n"
                    "            \"refcount-bits\": 16,\n"
                    "            \"corrupt\": false,\n"
                    "            \"extended-l2\": false\n"
                    "        }\n"
                    "    },\n"
                    "    \"dirty-flag\": false\n"
                    "}");
}

static void test_members(void)
{
    const QapiMemberInfo *table = qapi_CreateOptionsQcow2_members;
    const QapiMemberInfo *m = qapi_member_find(table, "size");

    g_assert_cmpint(m->kind, ==, QAPI_KIND_SIZE);
    g_assert_cmpstr(m->doc, ==, "Virtual disk size");
    m = qapi_member_find(table, "preallocation");
    g_assert_cmpint(m->kind, ==, QAPI_KIND_ENUM);
    g_assert_cmpstr(m->type, ==, "PreallocMode");
    g_assert_cmpstr(m->values->array[3], ==, "full");
    g_assert_cmpstr(m->doc, ==, "Preallocation mode (allowed values: off, "
                    "metadata, falloc, full)");
    g_assert_true(m->optional);
    g_assert_null(qapi_member_find(qapi_CreateOptionsRaw_members, "foo"));
    /* base members come first */
    g_assert_cmpstr(qapi_BlockdevOptionsQcow2_members[0].name, ==, "file");
    g_assert_false(qapi_BlockdevOptionsQcow2_members[0].optional);
    g_assert_cmpstr(qapi_BlockdevOptionsQcow2_members[1].name, ==, "backing");
}

/* The lines of `qemu-img create -f raw -o help` in version 7.2. */
static void test_members_help(void)
{
    const QapiMemberInfo *const tables[] = {
        qapi_CreateOptionsRaw_members, qapi_CreateOptionsFile_members, NULL
    };
    g_autoptr(GString) text = g_string_new("Supported options:\n");

    qapi_members_help(tables, text);
    g_assert_cmpstr(text->str, ==,
        "Supported options:\n"
        "  extent_size_hint=<size> - Extent size hint for the image file, 0 to"
        " disable\n"
        "  nocow=<bool (on/off)>  - Turn off copy-on-write (valid only on"
        " btrfs)\n"
        "  preallocation=<str>    - Preallocation mode (allowed values: off,"
        " falloc, full)\n"
        "  size=<size>            - Virtual disk size\n");
}

static void test_enums(void)
{
    Error *err = NULL;
    bool flag;

    g_assert_cmpint(qapi_enum_parse(&BlkdebugEvent_lookup, "l2_load", -1,
                                    &error_abort), ==, BLKDBG_L2_LOAD);
    g_assert_cmpint(qapi_enum_parse(&BlkdebugEvent_lookup, NULL, -1,
                                    &error_abort), ==, -1);
    g_assert_cmpint(qapi_enum_parse(&BlkdebugEvent_lookup, "x", 7, &err), ==,
                    7);
    g_assert_cmpstr(error_get_pretty(err), ==, "invalid parameter value: x");
    error_free(err);
    g_assert_cmpstr(Qcow2CompatOption_str(QCOW2_COMPAT_OPTION_0_10), ==,
                    "0.10");
    g_assert_cmpint(BLKDBG__MAX, ==, BLKDBG_NONE + 1);
    g_assert_true(qapi_bool_parse("x", "yes", &flag, &error_abort) && flag);
    g_assert_true(qapi_bool_parse("x", "n", &flag, &error_abort) && !flag);
    g_assert_false(qapi_bool_parse("x", "1", &flag, NULL));
}

/* Options nested as deep as JSON allows are read and freed, or refused. */
static void test_deep(void)
{
    GString *text = g_string_new("'f'");
    g_autoptr(BlockdevOptions) opts = NULL;
    QDict *dict = NULL;
    Visitor *v;
    BlockdevOptions *deep;
    Error *err = NULL;
    int i;

    for (i = 0; i < 1024; i++) {
        g_string_prepend(text, "{'driver': 'raw', 'file': ");
        g_string_append(text, "}");
    }
    opts = read_options(FROM_JSON, text->str, &error_abort);
    g_string_free(text, TRUE);

    for (i = 0; i < 100000; i++) {
        QDict *outer = qdict_new();

        qdict_put_str(outer, "driver", "raw");
        if (dict) {
            qdict_put(outer, "file", dict);
        }
        dict = outer;
    }
    v = qobject_input_visitor_new(QOBJECT(dict));
    g_assert_false(visit_type_BlockdevOptions(v, NULL, &deep, &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Parameters are nested too deeply");
    error_free(err);
    visit_free(v);
    qobject_unref(dict);
}

/* Random options: what is accepted is written and read back the same, what is not
 * leaves nothing behind (the leak sanitizer looks). */
static void test_random(void)
{
    static const char *const names[] = {
        "driver", "file", "filename", "node-name", "cache", "direct", "size",
        "offset", "backing", "image", "inject-error", "event", "errno",
        "overlap-check", "template", "files", "read-only", "locking",
        "l2-cache-size", "x",
    };
    static const char *const values[] = {
        "'raw'", "'file'", "'qcow2'", "'blkdebug'", "'concat'", "'null-co'",
        "'x'", "1", "-1", "true", "null", "'on'", "'all'", "'none'", "1.5",
        "[]", "{}", "['a', 'b']", "'1k'",
    };
    guint32 seed = g_test_rand_int();
    GRand *rand = g_rand_new_with_seed(seed);
    int round, accepted = 0;

    g_test_message("seed %u", seed);
    for (round = 0; round < 30000; round++) {
        QDict *dict = qdict_new();
        Form form = round % 2 ? FROM_FLAT_JSON : FROM_JSON;
        g_autoptr(BlockdevOptions) opts = NULL;
        g_autoptr(GString) text = NULL;
        int i;

        qdict_put_str(dict, "driver", BlockdevDriver_str(
            g_rand_int_range(rand, 0, BLOCKDEV_DRIVER__MAX)));
        for (i = g_rand_int_range(rand, 0, 5); i; i--) {
            const char *a = names[g_rand_int_range(rand, 0,
                                                   ARRAY_SIZE(names))];
            const char *b = names[g_rand_int_range(rand, 0,
                                                   ARRAY_SIZE(names))];
            const char *val = values[g_rand_int_range(rand, 0,
                                                      ARRAY_SIZE(values))];
            g_autofree char *key = g_rand_boolean(rand) || form == FROM_JSON
                ? g_strdup(a) : g_strdup_printf("%s.%s", a, b);

            qdict_put_obj(dict, key, qobject_from_json(val, &error_abort));
        }
        text = qobject_to_json(QOBJECT(dict));
        qobject_unref(dict);
        if (form == FROM_FLAT_JSON && strchr(text->str, '[')
            && strstr(text->str, "[\"a\"")) {
            continue;
        }
        opts = read_options(form, text->str, NULL);
        if (opts) {
            g_autofree char *once = write_options(opts);
            g_autoptr(BlockdevOptions) again = read_options(FROM_JSON, once,
                                                            &error_abort);
            g_autofree char *twice = write_options(again);

            g_assert_cmpstr(once, ==, twice);
            accepted++;
        }
    }
    g_assert_cmpint(accepted, >, 100);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qapi/round-trip", test_round_trip);
    g_test_add_func("/qapi/forms", test_forms);
    g_test_add_func("/qapi/errors", test_errors);
    g_test_add_func("/qapi/size-hint", test_size_hint);
    g_test_add_func("/qapi/ranges", test_ranges);
    g_test_add_func("/qapi/range-message", test_range_message);
    g_test_add_func("/qapi/other-scalars", test_other_scalars);
    g_test_add_func("/qapi/clone", test_clone);
    g_test_add_func("/qapi/free-partial", test_free_partial);
    g_test_add_func("/qapi/output", test_output);
    g_test_add_func("/qapi/members", test_members);
    g_test_add_func("/qapi/members-help", test_members_help);
    g_test_add_func("/qapi/enums", test_enums);
    g_test_add_func("/qapi/deep", test_deep);
    g_test_add_func("/qapi/random", test_random);
    return g_test_run();
}
