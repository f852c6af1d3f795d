/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text for people about nodes: what `qemu-img info` prints. */
#include "util/osdep.h"
#include "block/block.h"
#include "block/info.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-output-visitor.h"
#include "qobject/qbool.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "util/cutils.h"

static void indent(GString *out, int indentation)
{
    g_string_append_printf(out, "%*s", indentation * 4, "");
}

static void line(GString *out, int indentation, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

static void line(GString *out, int indentation, const char *fmt, ...)
{
    va_list ap;

    indent(out, indentation);
    va_start(ap, fmt);
    g_string_append_vprintf(out, fmt, ap);
    va_end(ap);
    g_string_append_c(out, '\n');
}

/* --- objects of any shape --- */

/*
 * Recursion is bounded: the objects come from the schema, whose types nest only
 * a few levels here.
 */
static void append_members(GString *out, int indentation, const QDict *dict);
static void append_elements(GString *out, int indentation, const QList *list);

/* Behind a "name:": on the same line, or below it. */
static void append_value(GString *out, int indentation, QObject *obj)
{
    QDict *dict = qobject_to(QDict, obj);
    QList *list = qobject_to(QList, obj);

    if (dict) {
        g_string_append_c(out, '\n');
        append_members(out, indentation + 1, dict);
        return;
    }
    if (list) {
        g_string_append_c(out, '\n');
        append_elements(out, indentation + 1, list);
        return;
    }
    g_string_append_c(out, ' ');
    switch (qobject_type(obj)) {
    case QTYPE_QNUM: {
        g_autofree char *text = qnum_to_string(qobject_to(QNum, obj));
        g_string_append(out, text);
        break;
    }
    case QTYPE_QSTRING:
        g_string_append(out, qstring_get_str(qobject_to(QString, obj)));
        break;
    case QTYPE_QBOOL:
        g_string_append(out, qbool_get_bool(qobject_to(QBool, obj)) ? "true"
                                                                    : "false");
        break;
    default:
        g_string_append(out, "null");
        break;
    }
    g_string_append_c(out, '\n');
}

static void append_members(GString *out, int indentation, const QDict *dict)
{
    g_autoptr(GPtrArray) entries = qdict_entries_in_print_order(dict);
    unsigned i;

    for (i = 0; i < entries->len; i++) {
        const QDictEntry *e = g_ptr_array_index(entries, i);
        g_autofree char *name = g_strdup(qdict_entry_key(e));

        indent(out, indentation);
        g_string_append_printf(out, "%s:", g_strdelimit(name, "-", ' '));
        append_value(out, indentation, qdict_entry_value(e));
    }
}

static void append_elements(GString *out, int indentation, const QList *list)
{
    const QListEntry *e;
    int i = 0;

    QLIST_FOREACH_ENTRY(list, e) {
        indent(out, indentation);
        g_string_append_printf(out, "[%d]:", i++);
        append_value(out, indentation, qlist_entry_obj(e));
    }
}

void bdrv_image_info_specific_text(GString *out, ImageInfoSpecific *info,
                                   const char *heading, int indentation)
{
    QObject *obj;
    QDict *data;
    Visitor *v;

    if (!info) {
        return;
    }
    v = qobject_output_visitor_new(&obj);
    visit_type_ImageInfoSpecific(v, NULL, &info, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);

    data = qdict_get_qdict(qobject_to(QDict, obj), "data");
    if (data && qdict_size(data)) {
        line(out, indentation, "%s:", heading);
        append_members(out, indentation + 1, data);
    }
    qobject_unref(obj);
}

static void append_limits(GString *out, BlockLimitsInfo *limits,
                          int indentation)
{
    QObject *obj;
    Visitor *v = qobject_output_visitor_new(&obj);

    visit_type_BlockLimitsInfo(v, NULL, &limits, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    line(out, indentation, "Block limits:");
    append_members(out, indentation + 1, qobject_to(QDict, obj));
    qobject_unref(obj);
}

/* --- snapshots --- */

static void append_snapshot(GString *out, const SnapshotInfo *sn,
                            int indentation)
{
    g_autoptr(GDateTime) date = g_date_time_new_from_unix_local(sn->date_sec);
    g_autofree char *when = date ? g_date_time_format(date, "%Y-%m-%d %H:%M:%S")
                                 : g_strdup("?");
    g_autofree char *size = size_to_str(sn->vm_state_size);
    g_autofree char *icount = sn->has_icount
        ? g_strdup_printf("%" PRId64, sn->icount) : g_strdup("--");
    int64_t secs = sn->vm_clock_sec;
    g_autofree char *clock = g_strdup_printf(
        "%04" PRId64 ":%02d:%02d.%03d", secs / 3600, (int)(secs / 60 % 60),
        (int)(secs % 60), (int)(sn->vm_clock_nsec / 1000000));

    line(out, indentation, "%-7s %-16s %8s %19s %15s %10s", sn->id, sn->name,
         size, when, clock, icount);
}

void bdrv_snapshots_text(GString *out, SnapshotInfoList *list,
                         int indentation)
{
    line(out, indentation, "%-7s %-16s %8s %19s %15s %10s", "ID", "TAG",
         "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT");
    for (; list; list = list->next) {
        append_snapshot(out, list->value, indentation);
    }
}

/* --- nodes --- */

static void append_sizes(GString *out, BlockNodeInfo *info, int indentation,
                         bool protocol)
{
    g_autofree char *size = size_to_str(info->virtual_size);
    g_autofree char *disk = info->has_actual_size
        ? size_to_str(info->actual_size) : g_strdup("unavailable");

    line(out, indentation, "%s: %s", protocol ? "filename" : "image",
         info->filename);
    line(out, indentation, "%s: %s", protocol ? "protocol type" : "file format",
         info->format);
    line(out, indentation, "%s: %s (%" PRId64 " bytes)",
         protocol ? "file length" : "virtual size", size, info->virtual_size);
    line(out, indentation, "disk size: %s", disk);
}

static void append_backing(GString *out, BlockNodeInfo *info, int indentation)
{
    const char *full = info->full_backing_filename;

    if (!info->backing_filename) {
        return;
    }
    if (!full) {
        line(out, indentation,
             "backing file: %s (cannot determine actual path)",
             info->backing_filename);
    } else if (strcmp(info->backing_filename, full)) {
        line(out, indentation, "backing file: %s (actual path: %s)",
             info->backing_filename, full);
    } else {
        line(out, indentation, "backing file: %s", info->backing_filename);
    }
    if (info->backing_filename_format) {
        line(out, indentation, "backing file format: %s",
             info->backing_filename_format);
    }
}

void bdrv_node_info_text(GString *out, BlockNodeInfo *info, int indentation,
                         bool protocol)
{
    append_sizes(out, info, indentation, protocol);
    if (info->has_encrypted && info->encrypted) {
        line(out, indentation, "encrypted: yes");
    }
    if (info->has_cluster_size) {
        line(out, indentation, "cluster_size: %" PRId64, info->cluster_size);
    }
    if (info->has_dirty_flag && info->dirty_flag) {
        line(out, indentation, "cleanly shut down: no");
    }
    append_backing(out, info, indentation);
    if (info->limits) {
        append_limits(out, info->limits, indentation);
    }
    if (info->has_snapshots) {
        line(out, indentation, "Snapshot list:");
        bdrv_snapshots_text(out, info->snapshots, indentation);
    }
    bdrv_image_info_specific_text(out, info->format_specific,
                                  "Format specific information", indentation);
}

/* A node that is still to be printed. */
typedef struct Pending {
    BlockGraphInfo *info;
    char *path;     /* from the root, "/file"; NULL for the root itself */
    int indentation;
} Pending;

static void push_children(GArray *stack, const Pending *parent)
{
    BlockChildInfoList *list;
    guint at = stack->len;

    for (list = parent->info->children; list; list = list->next) {
        Pending p = {
            .info = list->value->info,
            .path = g_strdup_printf("%s/%s", parent->path ?: "",
                                    list->value->name),
            .indentation = parent->indentation + 1,
        };

        /* Popped from the end: the first child goes last. */
        g_array_insert_val(stack, at, p);
    }
}

void bdrv_graph_info_text(GString *out, BlockGraphInfo *info)
{
    g_autoptr(GArray) stack = g_array_new(FALSE, FALSE, sizeof(Pending));
    Pending p = { .info = info };

    g_array_append_val(stack, p);
    while (stack->len) {
        p = g_array_index(stack, Pending, stack->len - 1);
        g_array_set_size(stack, stack->len - 1);
        if (p.path) {
            line(out, p.indentation - 1, "Child node '%s':", p.path);
        }
        bdrv_node_info_text(out, qapi_BlockGraphInfo_base(p.info),
                            p.indentation, !p.info->children);
        push_children(stack, &p);
        g_free(p.path);
    }
}
