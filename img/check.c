/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img check */
#include "util/osdep.h"
#include "block/block.h"
#include "block/block_int.h"
#include "block/info.h"
#include "img/check.h"
#include "img/undo-file.h"
#include "util/cutils.h"

enum {
    OPTION_BITMAPS = OPTION_CMD,
    OPTION_L1_PLACE,
    OPTION_ORPHANS,
    OPTION_L1_GUARD,
    OPTION_PLAN,
    OPTION_UNDO,
};

/* Exit codes besides 0 (clean) and 1 (the check could not be completed). */
enum {
    CHECK_CORRUPT = 2,
    CHECK_LEAKS = 3,
    CHECK_UNSUPPORTED = 63,
};

static void show_progress(void *opaque, int64_t done, int64_t total)
{
    img_progress_work(done);
    img_progress_print(MIN(99.9, done * 100.0 / MAX(total, 1)));
}

/* --- the header --- */

/* It cannot be repaired where options say what the image is. */
static void tell_of_header(const CheckArgs *a)
{
    if (a->fix & BDRV_FIX_ERRORS && a->how.image_opts) {
        error_printf("With --image-opts the header is not repaired: if it may "
                     "be damaged, give the name of the file\n");
    }
}

/* Whether it may be repaired, if the image turns out not to be sound. */
static bool may_restore_header(const CheckArgs *a)
{
    return a->fix & BDRV_FIX_ERRORS && !a->how.image_opts &&
           !a->how.force_share;
}

/* Repairs it; if that is not certain nothing else is repaired. Adds to @said
 * what there is to be told. False after a message. */
static bool restore_header(BlockDriverState *file, BlockDriver *drv,
                           CheckArgs *a, GString *said)
{
    int ret = img_check_restore_header(file, drv, a->filename, said);

    if (ret == -EAGAIN) {
        a->fix = 0;
    } else if (ret < 0) {
        return false;
    }
    a->header_fixed = ret > 0;
    return true;
}

/* --- one check, and what it says --- */

/* 0 with *@report for the caller to free, or -errno. */
static int check_once(BlockDriverState *bs, const CheckArgs *a,
                      BdrvCheckMode fix, ImageCheck **report)
{
    g_autoptr(GArray) lost = g_array_new(FALSE, FALSE, sizeof(BdrvCheckLost));
    BdrvCheckOptions opts = {
        .fix = fix, .orphans = a->orphans,
        .l1_guard = a->l1_guard,
        .progress = show_progress,
        .lost = img_check_add_lost, .lost_opaque = lost,
    };
    BdrvCheckResult result = { 0 };
    int ret;

    if (fix) {
        opts.places = (const BdrvCheckPlace *)a->places->data;
        opts.nb_places = a->places->len;
    }
    ret = bdrv_check_opts(bs, &result, &opts);
    if (ret < 0) {
        return ret;
    }
    if (fix && a->header_fixed) {
        result.corruptions_fixed++;
    }
    *report = img_check_make_report(bs, a->filename, &result, lost);
    return 0;
}

/*
 * The report of an image in which nothing is found, the caller frees it; else
 * NULL, nothing was said, and nothing was changed.
 */
static ImageCheck *check_soundness(BlockDriverState *bs, const CheckArgs *a)
{
    g_autoptr(GArray) nothing = g_array_new(FALSE, FALSE,
                                            sizeof(BdrvCheckLost));
    const BdrvCheckOptions opts = {
        .fix = a->fix, .quiet = true, .first_fault = true,
        .progress = show_progress,
    };
    BdrvCheckResult result = { 0 };

    /* Who says where a table belongs wants it to be there, or told why not. */
    if (a->places->len || bdrv_check_opts(bs, &result, &opts) < 0 ||
        !bdrv_check_found_nothing(&result)) {
        return NULL;
    }
    return img_check_make_report(bs, a->filename, &result, nothing);
}

static int exit_code(const ImageCheck *c)
{
    if (c->check_errors) {
        error_report("Check failed");
        return 1;
    }
    if (c->corruptions) {
        return CHECK_CORRUPT;
    }
    if (c->leaks) {
        return CHECK_LEAKS;
    }
    return 0;
}

/* --- the command --- */

/*
 * After a repair the image is checked again, and what that finds is reported,
 * together with what was repaired before.
 */
static int recheck(BlockDriverState *bs, const CheckArgs *a,
                   ImageCheck **report)
{
    g_autoptr(ImageCheck) repaired = g_steal_pointer(report);
    int ret;

    if (a->output == IMG_OUTPUT_HUMAN && !a->quiet) {
        img_check_print_repaired(a, repaired);
    }
    ret = check_once(bs, a, 0, report);
    if (ret == 0) {
        img_check_add_repairs(*report, repaired);
    }
    return ret;
}

/* What a repair would write, or has written. */
static void add_writes(BlockDriverState *record, ImageCheck *report)
{
    g_autoptr(GArray) extents = bdrv_record_extents(record);
    ImageCheckWriteList **tail = &report->planned_writes;
    guint i;

    report->has_planned_writes = true;
    for (i = 0; i < extents->len; i++) {
        const BdrvRecordExtent *e = &g_array_index(extents, BdrvRecordExtent,
                                                   i);
        ImageCheckWrite *w = g_new0(ImageCheckWrite, 1);

        w->offset = e->offset;
        w->bytes = e->bytes;
        QAPI_LIST_APPEND(tail, w);
    }
}

static void begin_progress(const CheckArgs *a)
{
    img_progress_init(a->quiet ? IMG_PROGRESS_OFF : a->progress, 1);
    img_progress_print(0);
}

/* The last words: the exit code. Takes @report; @record: of a plan, or NULL. */
static int conclude(BlockDriverState *bs, const CheckArgs *a,
                    ImageCheck *report, BlockDriverState *record)
{
    int ret;

    img_progress_print(100);
    img_progress_end();
    if (record) {
        add_writes(record, report);
    }
    if (report->corruptions && bs->drv->bdrv_restore_header) {
        tell_of_header(a);
    }
    img_check_print_report(a, report);
    ret = exit_code(report);
    qapi_free_ImageCheck(report);
    return ret;
}

/* @record: where a plan is recorded, else NULL. */
static int check(BlockBackend *blk, const CheckArgs *a,
                 BlockDriverState *record)
{
    BlockDriverState *bs = blk_bs(blk);
    ImageCheck *report = NULL;
    int ret;

    begin_progress(a);
    ret = check_once(bs, a, a->fix, &report);
    if (ret == -ENOTSUP) {
        error_report("This image format does not support checks");
        return CHECK_UNSUPPORTED;
    }
    if (!ret && (report->leaks_fixed || report->corruptions_fixed ||
                 report->bitmaps_fixed)) {
        ret = recheck(bs, a, &report);
    }
    if (ret) {
        img_progress_end();
        error_report("Check failed: %s", g_strerror(-ret));
        qapi_free_ImageCheck(report);
        return 1;
    }
    return conclude(bs, a, report, record);
}

/* --- with an undo file --- */

/* Repairs in memory, to know what will be written; 0 or -errno. */
static int rehearse(BlockBackend *blk, const CheckArgs *a, bool mute)
{
    ImageCheck *report = NULL;
    int saved = mute ? img_check_mute() : -1;
    int ret = check_once(blk_bs(blk), a, a->fix, &report);

    img_check_unmute(saved);
    qapi_free_ImageCheck(report);
    return ret;
}

/* Repairs with an undo file in place; the exit code. */
static int repair(BlockBackend **blk, CheckArgs *a, BlockDriverState *record,
                  BlockDriver *drv, UndoFile *undo, int image)
{
    g_autofree char *format = g_strdup(bdrv_get_format_name(blk_bs(*blk)));
    g_autoptr(GString) said = g_string_new("");
    Error *err = NULL;
    int ret;

    blk_unref(*blk);
    bdrv_record_pass(record);
    *blk = NULL;
    if (drv && !restore_header(record, drv, a, said)) {
        return 1;
    }
    error_printf("%s", said->str);
    *blk = img_check_open(record, format, a->filename, &a->how);
    if (!*blk) {
        return 1;
    }
    ret = check(*blk, a, NULL);
    /* All is written when it is closed. */
    blk_unref(*blk);
    *blk = NULL;
    if (bdrv_flush(record) < 0 || !undo_file_finish(undo, image, &err)) {
        if (err) {
            error_reportf_err(err, "Could not complete '%s': ", a->undo);
        } else {
            error_report("Could not flush '%s'", a->filename);
        }
        return 1;
    }
    return ret;
}

static int check_with_undo(BlockBackend **blk, CheckArgs *a,
                           BlockDriverState *record, BlockDriver *drv)
{
    g_autoptr(GArray) extents = NULL;
    g_autoptr(UndoFile) undo = NULL;
    Error *err = NULL;
    int image = img_check_open_file(record);
    int ret;

    if (image < 0) {
        return 1;
    }
    ret = rehearse(*blk, a, true);
    extents = bdrv_record_extents(record);
    if (ret < 0) {
        /* Says why; still, nothing reaches the file. */
        rehearse(*blk, a, false);
        error_report("Check failed: %s", g_strerror(-ret));
        ret = 1;
    } else if (extents->len == 0) {
        ret = check(*blk, a, NULL);
    } else {
        undo = undo_file_create(a->undo, image, extents,
                                bdrv_record_length(record), &err);
        if (undo) {
            ret = repair(blk, a, record, drv, undo, image);
        } else {
            error_report_err(err);
            ret = 1;
        }
    }
    close(image);
    return ret;
}

static bool can_check(BlockDriverState *bs)
{
    return bs->drv->bdrv_co_check || bs->drv->bdrv_co_check_opts;
}

/* The image; NULL after a message. */
static BlockBackend *open_image(const CheckArgs *a)
{
    BlockBackend *blk = img_open(a->filename, &a->how);

    if (!blk) {
        tell_of_header(a);
    }
    return blk;
}

/*
 * Whether the image above @record is sound, so that nothing is to be written;
 * then *@ret is the exit code. Else *@blk is NULL.
 */
static bool conclude_recorded(BlockBackend **blk, const CheckArgs *a,
                              BlockDriverState *record, const char *format,
                              int *ret)
{
    g_autoptr(GArray) extents = NULL;
    ImageCheck *report = NULL;
    ImgOpen how = a->how;

    how.quiet = true;
    how.flags |= BDRV_O_QUIET;
    *blk = img_check_open(record, format, a->filename, &how);
    if (*blk) {
        begin_progress(a);
        report = check_soundness(blk_bs(*blk), a);
    }
    extents = bdrv_record_extents(record);
    if (report && (a->plan || extents->len == 0)) {
        *ret = conclude(blk_bs(*blk), a, report, a->plan ? record : NULL);
        return true;
    }
    qapi_free_ImageCheck(report);
    blk_unref(*blk);
    *blk = NULL;
    return false;
}

/* The same of one that is not sound, or whose header nobody can repair. */
static int repair_recorded(BlockBackend **blk, CheckArgs *a,
                           BlockDriverState *record, const char *format,
                           BlockDriver *drv)
{
    g_autoptr(GString) said = g_string_new("");
    BdrvCheckMode fix = a->fix;

    if (drv && !restore_header(record, drv, a, said)) {
        return 1;
    }
    /* What it does it tells of when it is done. */
    if (a->plan || a->fix != fix) {
        error_printf("%s", said->str);
    }
    *blk = img_check_open(record, format, a->filename, &a->how);
    if (!*blk) {
        return 1;
    }
    return a->plan ? check(*blk, a, record)
                   : check_with_undo(blk, a, record, drv);
}

/* What --plan and --undo do; the exit code. */
static int check_recorded(BlockBackend **blk, CheckArgs *a)
{
    BlockDriver *drv = NULL;
    BlockBackend *raw = may_restore_header(a)
                        ? img_check_open_raw(a->filename, &a->how, &drv) : NULL;
    g_autoptr(BlockDriverState) record = NULL;
    g_autofree char *format = NULL;
    int ret;

    *blk = raw ?: open_image(a);
    if (!*blk) {
        return 1;
    }
    if (!raw && !can_check(blk_bs(*blk))) {
        return check(*blk, a, NULL);
    }
    format = g_strdup(raw ? drv->format_name
                          : bdrv_get_format_name(blk_bs(*blk)));
    record = img_check_record(blk, a->filename);
    if (!record) {
        return 1;
    }
    if (!drv || !conclude_recorded(blk, a, record, format, &ret)) {
        ret = repair_recorded(blk, a, record, format, drv);
    }
    blk_unref(*blk);
    *blk = NULL;
    return ret;
}

/* Repairs the header, if that is where the damage is. False after a message. */
static bool restore_in_place(CheckArgs *a)
{
    BlockDriver *drv = NULL;
    BlockBackend *blk = img_check_open_raw(a->filename, &a->how, &drv);
    g_autoptr(BlockDriverState) file = NULL;
    g_autoptr(GString) said = g_string_new("");
    bool ok;

    if (!blk) {
        return true;
    }
    file = bdrv_ref(blk_bs(blk)->file->bs);
    blk_unref(blk);
    ok = restore_header(file, drv, a, said);
    error_printf("%s", said->str);
    return ok;
}

/*
 * The same as conclude_recorded(), in place. If the header of that format
 * cannot be repaired *@blk is the image.
 */
static bool conclude_in_place(BlockBackend **blk, const CheckArgs *a, int *ret)
{
    ImageCheck *report;
    ImgOpen how = a->how;

    how.quiet = true;
    how.flags |= BDRV_O_QUIET;
    *blk = img_open(a->filename, &how);
    if (!*blk || !blk_bs(*blk)->drv->bdrv_restore_header) {
        return false;
    }
    begin_progress(a);
    report = check_soundness(blk_bs(*blk), a);
    if (report) {
        *ret = conclude(blk_bs(*blk), a, report, NULL);
        return true;
    }
    blk_unref(*blk);
    *blk = NULL;
    return false;
}

/* In place; the exit code. */
static int check_in_place(BlockBackend **blk, CheckArgs *a)
{
    int ret;

    if (may_restore_header(a)) {
        if (conclude_in_place(blk, a, &ret)) {
            return ret;
        }
        if (!*blk && !restore_in_place(a)) {
            return 1;
        }
    }
    *blk = *blk ?: open_image(a);
    if (!*blk) {
        return 1;
    }
    a->live = !a->fix && bdrv_has_other_writer(blk_bs(*blk));
    return check(*blk, a, NULL);
}

/* --- the command line --- */

static bool parse_repair(const ImgCmd *cmd, const char *text, CheckArgs *a)
{
    a->how.flags |= BDRV_O_RDWR;
    if (!strcmp(text, "leaks")) {
        a->fix = BDRV_FIX_LEAKS;
    } else if (!strcmp(text, "all")) {
        a->fix = BDRV_FIX_LEAKS | BDRV_FIX_ERRORS;
    } else {
        img_usage_error(cmd, "Unknown option value for -r (expecting 'leaks' "
                        "or 'all'): %s", text);
    }
    return true;
}

static void parse_bitmaps(const ImgCmd *cmd, const char *text, CheckArgs *a)
{
    a->bitmaps_given = true;
    if (!strcmp(text, "keep")) {
        a->bitmaps = 0;
    } else if (!strcmp(text, "remove")) {
        a->bitmaps = BDRV_FIX_BITMAPS_REMOVE;
    } else if (!strcmp(text, "dirty")) {
        a->bitmaps = BDRV_FIX_BITMAPS_DIRTY;
    } else {
        img_usage_error(cmd, "Unknown option value for --bitmaps (expecting "
                        "'keep', 'remove' or 'dirty'): %s", text);
    }
}

static void parse_orphans(const ImgCmd *cmd, const char *text, CheckArgs *a)
{
    a->orphans_given = true;
    if (!strcmp(text, "save")) {
        a->orphans = BDRV_CHECK_ORPHANS_SAVE;
    } else if (!strcmp(text, "keep")) {
        a->orphans = BDRV_CHECK_ORPHANS_KEEP;
    } else if (!strcmp(text, "free")) {
        a->orphans = BDRV_CHECK_ORPHANS_FREE;
    } else {
        img_usage_error(cmd, "Unknown option value for --orphans (expecting "
                        "'save', 'keep' or 'free'): %s", text);
    }
}

static void parse_guard(const ImgCmd *cmd, const char *text, CheckArgs *a)
{
    if (!strcmp(text, "table")) {
        a->l1_guard = BDRV_CHECK_L1_TABLE;
    } else if (!strcmp(text, "copy")) {
        a->l1_guard = BDRV_CHECK_L1_COPY;
    } else {
        img_usage_error(cmd, "Unknown option value for --l1-guard (expecting "
                        "'table' or 'copy'): %s", text);
    }
}

/* INDEX=OFFSET */
static void parse_place(const ImgCmd *cmd, const char *text, CheckArgs *a)
{
    g_auto(GStrv) parts = g_strsplit(text, "=", 2);
    uint64_t index, offset;
    BdrvCheckPlace place;

    if (g_strv_length(parts) != 2 || parse_uint_full(parts[0], 0, &index) ||
        parse_uint_full(parts[1], 0, &offset) || index > UINT32_MAX) {
        img_usage_error(cmd, "Invalid value for --l1-place (expecting "
                        "INDEX=OFFSET): %s", text);
    }
    place = (BdrvCheckPlace) { .index = index, .offset = offset };
    g_array_append_val(a->places, place);
}

static bool parse_options(const ImgCmd *cmd, int argc, char **argv,
                          CheckArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "format", required_argument, NULL, 'f' },
        { "cache", required_argument, NULL, 'T' },
        { "repair", required_argument, NULL, 'r' },
        { "bitmaps", required_argument, NULL, OPTION_BITMAPS },
        { "output", required_argument, NULL, OPTION_OUTPUT },
        { "force-share", no_argument, NULL, 'U' },
        { "progress", optional_argument, NULL, 'p' },
        { "quiet", no_argument, NULL, 'q' },
        { "l1-place", required_argument, NULL, OPTION_L1_PLACE },
        { "orphans", required_argument, NULL, OPTION_ORPHANS },
        { "l1-guard", required_argument, NULL, OPTION_L1_GUARD },
        { "plan", no_argument, NULL, OPTION_PLAN },
        { "undo", required_argument, NULL, OPTION_UNDO },
        {}
    };
    const char *cache = "writeback";
    bool ok = true;
    int c;

    while (ok && (c = img_getopt(cmd, argc, argv, ":hf:r:T:pqU", longopts,
                                 1)) != -1) {
        switch (c) {
        case 'f':
            a->how.fmt = optarg;
            break;
        case 'r':
            ok = parse_repair(cmd, optarg, a);
            break;
        case 'T':
            cache = optarg;
            break;
        case 'q':
            a->quiet = true;
            break;
        case 'U':
            a->how.force_share = true;
            break;
        case 'p':
            ok = img_parse_progress(optarg, &a->progress);
            break;
        case OPTION_L1_PLACE:
            parse_place(cmd, optarg, a);
            break;
        case OPTION_ORPHANS:
            parse_orphans(cmd, optarg, a);
            break;
        case OPTION_L1_GUARD:
            parse_guard(cmd, optarg, a);
            break;
        case OPTION_PLAN:
            a->plan = true;
            break;
        case OPTION_UNDO:
            a->undo = optarg;
            break;
        case OPTION_BITMAPS:
            parse_bitmaps(cmd, optarg, a);
            break;
        case OPTION_IMAGE_OPTS:
            a->how.image_opts = true;
            break;
        case OPTION_OUTPUT:
            ok = img_parse_output(optarg, &a->output);
            break;
        }
    }
    return ok && img_parse_cache("source cache", cache, &a->how.flags,
                                 &a->how.writethrough);
}

/* Options that go together; false after a message. */
static bool options_agree(const CheckArgs *a)
{
    const char *alone = a->bitmaps_given ? "--bitmaps"
                        : a->orphans_given ? "--orphans"
                        : a->places->len ? "--l1-place"
                        : a->l1_guard ? "--l1-guard"
                        : a->plan ? "--plan"
                        : a->undo ? "--undo" : NULL;

    if (alone && !a->fix) {
        error_report("%s requires -r", alone);
        return false;
    }
    if ((a->places->len || a->l1_guard) && !(a->fix & BDRV_FIX_ERRORS)) {
        error_report("%s requires -r all",
                     a->l1_guard ? "--l1-guard" : "--l1-place");
        return false;
    }
    if (a->plan && a->undo) {
        error_report("--plan and --undo cannot be used at the same time");
        return false;
    }
    if (a->progress != IMG_PROGRESS_OFF && !a->quiet &&
        a->output == IMG_OUTPUT_JSON) {
        error_report("-p cannot be used with --output=json");
        return false;
    }
    return true;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    g_autoptr(GArray) places = g_array_new(FALSE, FALSE,
                                           sizeof(BdrvCheckPlace));
    CheckArgs a = {
        .how.flags = BDRV_O_CHECK, .places = places,
        .orphans = BDRV_CHECK_ORPHANS_SAVE,
    };
    BlockBackend *blk = NULL;
    int ret;

    if (!parse_options(cmd, argc, argv, &a)) {
        return 1;
    }
    if (optind != argc - 1) {
        img_usage_error(cmd, "Expecting one image file name");
    }
    if (!options_agree(&a)) {
        return 1;
    }
    if (a.plan) {
        a.how.flags &= ~BDRV_O_RDWR;
    }
    if (a.places->len && !a.orphans_given) {
        /* The user knows better what to do with the rest. */
        a.orphans = BDRV_CHECK_ORPHANS_KEEP;
    }
    a.fix |= a.bitmaps;
    a.filename = argv[optind];
    ret = a.plan || a.undo ? check_recorded(&blk, &a)
                           : check_in_place(&blk, &a);
    blk_unref(blk);
    return ret;
}

const ImgCmd img_cmd_check = {
    .name = "check",
    .handler = run,
    .description = "Check an image for consistency, and repair it",
    .usage = "[-f FMT | --image-opts] [-r leaks|all\n"
             "        [--plan | --undo UNDOFILE] [--l1-place INDEX=OFFSET]...\n"
             "        [--orphans save|keep|free] [--l1-guard table|copy]\n"
             "        [--bitmaps keep|remove|dirty]]\n"
             "        [-T CACHE] [--output human|json] [-p | -q] [-U]\n"
             "        [--object OBJDEF] FILE",
    .help =
        "  -f, --format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  -r, --repair leaks|all\n"
        "     repair clusters that nothing uses, or every kind of error\n"
        "  --plan\n"
        "     print what the repair would do, and write nothing\n"
        "  --undo UNDOFILE\n"
        "     before the repair, save what it will change in a new file, for\n"
        "     qemu-img undo\n"
        "  --l1-place INDEX=OFFSET\n"
        "     with -r all: the orphaned L2 table at this offset belongs to this\n"
        "     L1 entry; can be given several times\n"
        "  --orphans save|keep|free\n"
        "     what to do about leaked clusters that may be data of the disk,\n"
        "     if nothing proves where they belong: give them to a new\n"
        "     snapshot 'lost+found' (default with -r all), keep them as they\n"
        "     are, or free them like other leaks\n"
        "  --l1-guard table|copy\n"
        "     with -r all, if the L1 table is not as its L1 guard has it and\n"
        "     nothing proves which is right: this one is\n"
        "  --bitmaps keep|remove|dirty\n"
        "     what to do, with -r, about stored dirty bitmaps that are\n"
        "     inconsistent: keep them (default), remove them, or let them say\n"
        "     that everything is dirty\n"
        "  -T, --cache CACHE\n"
        "     cache mode: none, writeback (default), writethrough, directsync,\n"
        "     unsafe\n"
        "  --output human|json\n"
        "     output format (default: human)\n"
        "  -p, --progress[=line|bar|json]\n"
        "     show progress: a bar on a terminal, lines elsewhere; json: one\n"
        "     object a line\n"
        "  -q, --quiet\n"
        "     print nothing but errors\n"
        "  -U, --force-share\n"
        "     open the image even if somebody writes to it\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  FILE\n"
        "     name of the image\n\n"
        "Exit code: 0 no errors, 1 the check failed, 2 corruptions, 3 leaks\n"
        "only, 63 the format has no check\n",
};
