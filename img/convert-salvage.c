/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img convert --salvage: what is lost, why, and the report about it.
 *
 * The copy engine says which ranges became zeroes. Why that is so is known by
 * the nodes, if it is their metadata, or else it is the error of the read.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/damage.h"
#include "img/convert-salvage.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"

/* Ranges that get a line each on stderr. */
#define MAX_LINES 100

/* A range of one source, for the report. */
typedef struct Range {
    const ImgSalvageSource *source;
    const char *image;          /* of the chain: where the fault is */
    int64_t offset;
    int64_t bytes;
    int64_t host;               /* -1: unknown */
    const char *cause;
} Range;

struct ImgSalvage {
    BdrvDamageList lost;        /* in the copy; the cause is the error */
    int64_t status_errors;
    /* Filled at the end. */
    GArray *lost_ranges;        /* of Range */
    GArray *suspect_ranges;
    GPtrArray *notes;           /* of char * */
    int64_t suspect_bytes;
};

ImgSalvage *img_salvage_new(void)
{
    ImgSalvage *sv = g_new0(ImgSalvage, 1);

    bdrv_damage_list_init(&sv->lost);
    sv->lost_ranges = g_array_new(false, false, sizeof(Range));
    sv->suspect_ranges = g_array_new(false, false, sizeof(Range));
    sv->notes = g_ptr_array_new_with_free_func(g_free);
    return sv;
}

void img_salvage_free(ImgSalvage *sv)
{
    if (!sv) {
        return;
    }
    bdrv_damage_list_destroy(&sv->lost);
    g_array_unref(sv->lost_ranges);
    g_array_unref(sv->suspect_ranges);
    g_ptr_array_unref(sv->notes);
    g_free(sv);
}

void img_salvage_lost(ImgSalvage *sv, int64_t offset, int64_t bytes, int error)
{
    BdrvDamage d = {
        offset, bytes, -1, g_intern_string(g_strerror(-error))
    };

    bdrv_damage_list_add(&sv->lost, &d);
}

void img_salvage_no_status(ImgSalvage *sv)
{
    sv->status_errors++;
}

QList *img_salvage_save(const ImgSalvage *sv, int64_t end)
{
    QList *list = qlist_new();

    for (guint i = 0; i < sv->lost.ranges->len; i++) {
        const BdrvDamage *r = &g_array_index(sv->lost.ranges, BdrvDamage, i);
        QDict *d;

        if (r->offset >= end) {
            break;
        }
        d = qdict_new();
        qdict_put_int(d, "start", r->offset);
        qdict_put_int(d, "length", MIN(r->bytes, end - r->offset));
        qdict_put_str(d, "cause", r->cause);
        qlist_append(list, d);
    }
    return list;
}

bool img_salvage_load(ImgSalvage *sv, QObject *list)
{
    QList *lost = qobject_to(QList, list);
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(lost, e) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(e));
        BdrvDamage r = {
            .offset = d ? qdict_get_try_int(d, "start", -1) : -1,
            .bytes = d ? qdict_get_try_int(d, "length", -1) : -1,
            .host = -1,
            .cause = d ? g_intern_string(qdict_get_try_str(d, "cause")) : NULL,
        };

        if (r.offset < 0 || r.bytes <= 0 || r.bytes > INT64_MAX - r.offset ||
            !r.cause) {
            return false;
        }
        bdrv_damage_list_add(&sv->lost, &r);
    }
    return lost != NULL;
}

bool img_salvage_survey(BlockBackend *blk, const char *filename)
{
    int ret = bdrv_damage_survey(blk_bs(blk));

    if (ret < 0) {
        error_report("Could not look through the metadata of '%s': %s",
                     filename, g_strerror(-ret));
    }
    return ret >= 0;
}

/* --- causes --- */

/* Adds @r; what goes on from the last one makes that one longer. */
static void add_range(GArray *ranges, const Range *r)
{
    Range *last = ranges->len ? &g_array_index(ranges, Range, ranges->len - 1)
                              : NULL;

    if (last && last->source == r->source && last->image == r->image &&
        last->cause == r->cause && last->offset + last->bytes == r->offset &&
        (last->host == r->host ||
         (last->host >= 0 && last->host + last->bytes == r->host))) {
        last->bytes += r->bytes;
    } else {
        g_array_append_val(ranges, *r);
    }
}

/* The layers of a source, from the top. */
static BlockDriverState *next_layer(BlockDriverState *bs)
{
    return bdrv_filter_or_cow_bs(bs);
}

/*
 * Why the first bytes of @r are lost, if a node knows; makes @r as long as that
 * is true.
 */
static void find_cause(Range *r)
{
    BlockDriverState *bs, *file = NULL;
    int64_t map;
    int ret;

    for (bs = blk_bs(r->source->blk); bs; bs = next_layer(bs)) {
        BdrvDamageLog *log = bdrv_damage_log(bs);
        const BdrvDamage *d = log ? bdrv_damage_list_find(&log->lost, r->offset,
                                                          &r->bytes) : NULL;

        if (d) {
            r->cause = d->cause;
            r->image = bs->filename;
            r->host = d->host < 0 ? -1 : d->host;
            return;
        }
    }
    ret = bdrv_block_status_above(blk_bs(r->source->blk), NULL, r->offset,
                                  r->bytes, &r->bytes, &map, &file, NULL);
    if (ret >= 0 && (ret & BDRV_BLOCK_OFFSET_VALID) && r->bytes > 0) {
        r->host = map;
        r->image = file->filename;
    }
}

static void explain_lost(ImgSalvage *sv, const BdrvDamage *d,
                         const ImgSalvageSource *source)
{
    int64_t start = MAX(d->offset, source->start) - source->start;
    int64_t end = MIN(d->offset + d->bytes - source->start, source->length);

    while (start < end) {
        Range r = { source, source->filename, start, end - start, -1,
                    d->cause };

        find_cause(&r);
        if (r.bytes <= 0) {
            r.bytes = end - start;
        }
        add_range(sv->lost_ranges, &r);
        start += r.bytes;
    }
}

/* --- suspicion --- */

static bool is_hidden(BlockDriverState *top, BlockDriverState *bs,
                      int64_t offset, int64_t *bytes)
{
    int depth = 0;

    return top != bs &&
           bdrv_block_status_above(top, bs, offset, *bytes, bytes, NULL, NULL,
                                   &depth) >= 0 && depth > 0;
}

/* What of the range can be seen from the top, and is not lost anyway. */
static void add_suspect(ImgSalvage *sv, const ImgSalvageSource *source,
                        BlockDriverState *bs, const BdrvDamage *d)
{
    int64_t pos = d->offset, end = MIN(d->offset + d->bytes, source->length);

    while (pos < end) {
        Range r = { source, bs->filename, pos, end - pos, d->host, d->cause };
        bool lost = bdrv_damage_list_find(&sv->lost, source->start + pos,
                                          &r.bytes) != NULL;

        if (!lost && !is_hidden(blk_bs(source->blk), bs, pos, &r.bytes)) {
            sv->suspect_bytes += r.bytes;
            add_range(sv->suspect_ranges, &r);
        }
        pos += MAX(r.bytes, 1);
    }
}

static void explain_source(ImgSalvage *sv, const ImgSalvageSource *source)
{
    BlockDriverState *bs;
    guint i;

    for (i = 0; i < sv->lost.ranges->len; i++) {
        explain_lost(sv, &g_array_index(sv->lost.ranges, BdrvDamage, i),
                     source);
    }
    for (bs = blk_bs(source->blk); bs; bs = next_layer(bs)) {
        BdrvDamageLog *log = bdrv_damage_log(bs);

        for (i = 0; log && i < log->suspect.ranges->len; i++) {
            add_suspect(sv, source, bs, &g_array_index(log->suspect.ranges,
                                                       BdrvDamage, i));
        }
        for (i = 0; log && i < log->notes->len; i++) {
            g_ptr_array_add(sv->notes, g_strdup_printf(
                "'%s': %s", bs->filename, (char *)log->notes->pdata[i]));
        }
        if (log && (log->lost.full || log->suspect.full)) {
            g_ptr_array_add(sv->notes, g_strdup_printf(
                "'%s': there is more damage than is listed", bs->filename));
        }
    }
}

/* --- telling --- */

static void print_ranges(const GArray *ranges, const char *what)
{
    for (guint i = 0; i < MIN(ranges->len, MAX_LINES); i++) {
        const Range *r = &g_array_index(ranges, Range, i);

        warn_report("%s: %" PRId64 " bytes at offset %" PRId64 " of '%s': %s",
                    what, r->bytes, r->offset, r->source->filename, r->cause);
    }
    if (ranges->len > MAX_LINES) {
        warn_report("%s: %u more ranges", what, ranges->len - MAX_LINES);
    }
}

static void print_all(const ImgSalvage *sv)
{
    for (guint i = 0; i < sv->notes->len; i++) {
        warn_report("%s", (char *)sv->notes->pdata[i]);
    }
    print_ranges(sv->lost_ranges, "lost");
    print_ranges(sv->suspect_ranges, "suspect");
}

static void print_summary(const ImgSalvage *sv)
{
    error_printf("salvage: %" PRId64 " bytes lost in %u ranges, %" PRId64
                 " bytes suspect in %u ranges\n", sv->lost.bytes,
                 sv->lost_ranges->len, sv->suspect_bytes,
                 sv->suspect_ranges->len);
}

static QList *ranges_to_list(const GArray *ranges)
{
    QList *list = qlist_new();

    for (guint i = 0; i < ranges->len; i++) {
        const Range *r = &g_array_index(ranges, Range, i);
        QDict *d = qdict_new();

        qdict_put_str(d, "source", r->source->filename);
        qdict_put_int(d, "start", r->offset);
        qdict_put_int(d, "length", r->bytes);
        qdict_put_str(d, "cause", r->cause);
        qdict_put_str(d, "image", r->image);
        if (r->host >= 0) {
            qdict_put_int(d, "host-offset", r->host);
        }
        qlist_append(list, d);
    }
    return list;
}

static QDict *totals(const ImgSalvage *sv, int64_t length)
{
    QDict *d = qdict_new();

    qdict_put_int(d, "length", length);
    qdict_put_int(d, "lost", sv->lost.bytes);
    qdict_put_int(d, "lost-ranges", sv->lost_ranges->len);
    qdict_put_int(d, "suspect", sv->suspect_bytes);
    qdict_put_int(d, "suspect-ranges", sv->suspect_ranges->len);
    qdict_put_int(d, "status-errors", sv->status_errors);
    return d;
}

static bool write_report(const ImgSalvage *sv, int64_t length,
                         const char *filename)
{
    g_autoptr(QDict) d = qdict_new();
    QList *notes = qlist_new();
    GError *err = NULL;
    GString *text;

    for (guint i = 0; i < sv->notes->len; i++) {
        qlist_append_str(notes, sv->notes->pdata[i]);
    }
    qdict_put_obj(d, "lost", QOBJECT(ranges_to_list(sv->lost_ranges)));
    qdict_put_obj(d, "suspect", QOBJECT(ranges_to_list(sv->suspect_ranges)));
    qdict_put_obj(d, "notes", QOBJECT(notes));
    qdict_put_obj(d, "totals", QOBJECT(totals(sv, length)));
    text = qobject_to_json_pretty(QOBJECT(d), true);
    g_string_append_c(text, '\n');
    g_file_set_contents(filename, text->str, text->len, &err);
    g_string_free(text, true);
    if (err) {
        error_report("Could not write the report: %s", err->message);
        g_error_free(err);
        return false;
    }
    return true;
}

bool img_salvage_finish(ImgSalvage *sv, const ImgSalvageSource *sources,
                        int nb_sources, const char *report, bool quiet)
{
    const ImgSalvageSource *last = &sources[nb_sources - 1];

    for (int i = 0; i < nb_sources; i++) {
        explain_source(sv, &sources[i]);
    }
    if (sv->lost.full) {
        g_ptr_array_add(sv->notes,
                        g_strdup("More is lost than could be listed"));
    }
    if (!quiet) {
        print_all(sv);
    }
    print_summary(sv);
    return !report || write_report(sv, last->start + last->length, report);
}

bool img_salvage_is_whole(const ImgSalvage *sv)
{
    return !sv->lost.bytes && !sv->lost.full && !sv->suspect_bytes;
}
