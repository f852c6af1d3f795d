/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What qemu-img check prints. */
#include "util/osdep.h"
#include "block/block.h"
#include "block/block_int.h"
#include "img/check.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-output-visitor.h"

/* Ranges that are listed in a report. */
#define MAX_LOST 100

void img_check_add_lost(void *opaque, const BdrvCheckLost *lost)
{
    GArray *list = opaque;

    if (list->len < MAX_LOST) {
        g_array_append_vals(list, lost, 1);
    }
}

static ImageCheckLostList *lost_ranges(const GArray *lost)
{
    ImageCheckLostList *list = NULL, **tail = &list;
    guint i;

    for (i = 0; i < lost->len; i++) {
        const BdrvCheckLost *l = &g_array_index(lost, BdrvCheckLost, i);
        ImageCheckLost *range = g_new(ImageCheckLost, 1);

        *range = (ImageCheckLost) {
            .entry = l->entry,
            .has_offset = l->offset != UINT64_MAX,
            .offset = l->offset,
            .bytes = l->bytes,
            .partly = l->partly,
        };
        QAPI_LIST_APPEND(tail, range);
    }
    return list;
}

ImageCheck *img_check_make_report(BlockDriverState *bs, const char *filename,
                                  const BdrvCheckResult *r,
                                  const GArray *lost)
{
    ImageCheck *check = g_new0(ImageCheck, 1);

    *check = (ImageCheck) {
        .filename = g_strdup(filename),
        .format = g_strdup(bdrv_get_format_name(bs)),
        .check_errors = r->check_errors,
        .corruptions = r->corruptions,
        .has_corruptions = r->corruptions != 0,
        .leaks = r->leaks,
        .has_leaks = r->leaks != 0,
        .corruptions_fixed = r->corruptions_fixed,
        .has_corruptions_fixed = r->corruptions_fixed != 0,
        .leaks_fixed = r->leaks_fixed,
        .has_leaks_fixed = r->leaks_fixed != 0,
        .image_end_offset = r->image_end_offset,
        .has_image_end_offset = r->image_end_offset != 0,
        .total_clusters = r->bfi.total_clusters,
        .has_total_clusters = r->bfi.total_clusters != 0,
        .allocated_clusters = r->bfi.allocated_clusters,
        .has_allocated_clusters = r->bfi.allocated_clusters != 0,
        .fragmented_clusters = r->bfi.fragmented_clusters,
        .has_fragmented_clusters = r->bfi.fragmented_clusters != 0,
        .compressed_clusters = r->bfi.compressed_clusters,
        .has_compressed_clusters = r->bfi.compressed_clusters != 0,
        .inconsistent_bitmaps = r->inconsistent_bitmaps,
        .has_inconsistent_bitmaps = r->inconsistent_bitmaps != 0,
        .bitmaps_fixed = r->bitmaps_fixed,
        .has_bitmaps_fixed = r->bitmaps_fixed != 0,
        .orphaned_tables = r->orphans,
        .has_orphaned_tables = r->orphans != 0,
        .tables_restored = r->tables_restored,
        .has_tables_restored = r->tables_restored != 0,
        .clusters_saved = r->clusters_saved,
        .has_clusters_saved = r->clusters_saved != 0,
        .entries_cleared = r->entries_cleared,
        .has_entries_cleared = r->entries_cleared != 0,
        .lost_ranges = lost_ranges(lost),
        .has_lost_ranges = lost->len != 0,
    };
    return check;
}

void img_check_add_repairs(ImageCheck *to, ImageCheck *from)
{
    to->leaks_fixed = from->leaks_fixed;
    to->has_leaks_fixed = from->has_leaks_fixed;
    to->corruptions_fixed = from->corruptions_fixed;
    to->has_corruptions_fixed = from->has_corruptions_fixed;
    to->bitmaps_fixed = from->bitmaps_fixed;
    to->has_bitmaps_fixed = from->has_bitmaps_fixed;
    to->tables_restored = from->tables_restored;
    to->has_tables_restored = from->has_tables_restored;
    to->clusters_saved = from->clusters_saved;
    to->has_clusters_saved = from->has_clusters_saved;
    to->entries_cleared = from->entries_cleared;
    to->has_entries_cleared = from->has_entries_cleared;
    to->lost_ranges = g_steal_pointer(&from->lost_ranges);
    to->has_lost_ranges = from->has_lost_ranges;
    from->has_lost_ranges = false;
}

static void print_problems(const ImageCheck *c)
{
    if (!c->corruptions && !c->leaks && !c->check_errors) {
        printf("No errors were found on the image.\n");
        return;
    }
    if (c->corruptions) {
        printf("\n%" PRId64 " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may "
               "corrupt it.\n", c->corruptions);
    }
    if (c->leaks) {
        printf("\n%" PRId64 " leaked clusters were found on the image.\n"
               "%s\n", c->leaks, c->orphaned_tables
               ? "They may be data of the disk that nothing leads to any more."
               : "This means waste of disk space, but no harm to data.");
    }
    if (c->check_errors) {
        printf("\n%" PRId64 " internal errors have occurred during the "
               "check.\n", c->check_errors);
    }
}

/* Bitmaps are no part of the disk: they do not make an image unsound. */
static void print_bitmaps(const CheckArgs *a, const ImageCheck *c)
{
    g_autofree char *name = NULL;

    if (!c->inconsistent_bitmaps) {
        return;
    }
    if (a->live) {
        printf("\n%" PRId64 " bitmaps are in use by somebody who writes to the "
               "image.\n", c->inconsistent_bitmaps);
        return;
    }
    name = g_shell_quote(a->filename);
    printf("\n%" PRId64 " inconsistent bitmaps were found on the image.\n"
           "They cannot be used. To remove them:\n"
           "    qemu-img check -r all --bitmaps=remove%s %s\n"
           "To let them say that everything is dirty:\n"
           "    qemu-img check -r all --bitmaps=dirty%s %s\n",
           c->inconsistent_bitmaps, a->how.image_opts ? " --image-opts" : "",
           name, a->how.image_opts ? " --image-opts" : "", name);
}

static void print_writes(const ImageCheck *c)
{
    const ImageCheckWriteList *w;

    printf("\nNothing was written. The repair would write to:\n");
    for (w = c->planned_writes; w; w = w->next) {
        printf("    0x%" PRIx64 ", %" PRId64 " bytes\n", w->value->offset,
               w->value->bytes);
    }
}

static void print_human(const CheckArgs *a, const ImageCheck *c)
{
    if (a->quiet) {
        return;
    }
    print_problems(c);
    print_bitmaps(a, c);
    if (c->total_clusters && c->allocated_clusters) {
        printf("%" PRId64 "/%" PRId64 " = %0.2f%% allocated, %0.2f%% "
               "fragmented, %0.2f%% compressed clusters\n",
               c->allocated_clusters, c->total_clusters,
               c->allocated_clusters * 100.0 / c->total_clusters,
               c->fragmented_clusters * 100.0 / c->allocated_clusters,
               c->compressed_clusters * 100.0 / c->allocated_clusters);
    }
    if (c->image_end_offset) {
        printf("Image end offset: %" PRId64 "\n", c->image_end_offset);
    }
    if (c->has_planned_writes) {
        print_writes(c);
    }
}

static void print_as_json(ImageCheck *c)
{
    QObject *obj;
    Visitor *v = qobject_output_visitor_new(&obj);

    visit_type_ImageCheck(v, NULL, &c, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    img_print_json(obj);
}

void img_check_print_report(const CheckArgs *a, ImageCheck *c)
{
    if (a->output == IMG_OUTPUT_JSON) {
        print_as_json(c);
    } else {
        print_human(a, c);
    }
}

void img_check_print_repaired(const CheckArgs *a, const ImageCheck *c)
{
    printf(a->plan ? "The following would be repaired:\n\n"
                   : "The following inconsistencies were found and "
                     "repaired:\n\n");
    printf("    %" PRId64 " leaked clusters\n"
           "    %" PRId64 " corruptions\n",
           c->leaks_fixed, c->corruptions_fixed);
    if (c->bitmaps_fixed) {
        printf("    %" PRId64 " bitmaps\n", c->bitmaps_fixed);
    }
    if (c->clusters_saved) {
        printf("\n%" PRId64 " leaked clusters that may be data of the disk "
               "are in a new snapshot%s.\n", c->clusters_saved,
               a->plan ? " then" : " now");
    }
    if (c->entries_cleared) {
        printf("\nDATA WAS LOST: what %" PRId64 " damaged table entries stood "
               "for could not be read,\nand reads as zeroes%s.\n",
               c->entries_cleared, a->plan ? " then" : " now");
    }
    printf(a->plan ? "\nWhat would be found then:\n"
                   : "\nDouble checking the fixed image now...\n");
    fflush(stdout);
}
