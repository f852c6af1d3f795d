/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img check */
#include "util/osdep.h"
#include "block/block.h"
#include "block/info.h"
#include "img/img.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-output-visitor.h"

enum {
    OPTION_BITMAPS = OPTION_CMD,
};

/* Exit codes besides 0 (clean) and 1 (the check could not be completed). */
enum {
    CHECK_CORRUPT = 2,
    CHECK_LEAKS = 3,
    CHECK_UNSUPPORTED = 63,
};

typedef struct CheckArgs {
    ImgOpen how;
    const char *filename;
    ImgOutput output;
    BdrvCheckMode fix;
    BdrvCheckMode bitmaps;  /* 0: keep */
    bool bitmaps_given;
    bool live;              /* somebody else writes to the image */
    bool quiet;
} CheckArgs;

/* --- one check --- */

static ImageCheck *make_report(BlockDriverState *bs, const char *filename,
                               const BdrvCheckResult *r)
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
    };
    return check;
}

/* 0 with *@report for the caller to free, or -errno. */
static int check_once(BlockDriverState *bs, const CheckArgs *a,
                      BdrvCheckMode fix, ImageCheck **report)
{
    BdrvCheckResult result = { 0 };
    int ret;

    ret = bdrv_check(bs, &result, fix);
    if (ret < 0) {
        return ret;
    }
    *report = make_report(bs, a->filename, &result);
    return 0;
}

/* --- output --- */

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
               "This means waste of disk space, but no harm to data.\n",
               c->leaks);
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

static void print_report(const CheckArgs *a, ImageCheck *c)
{
    if (a->output == IMG_OUTPUT_JSON) {
        print_as_json(c);
    } else {
        print_human(a, c);
    }
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
    int64_t leaks_fixed = (*report)->leaks_fixed;
    int64_t corruptions_fixed = (*report)->corruptions_fixed;
    int64_t bitmaps_fixed = (*report)->bitmaps_fixed;
    int ret;

    if (a->output == IMG_OUTPUT_HUMAN && !a->quiet) {
        printf("The following inconsistencies were found and repaired:\n\n"
               "    %" PRId64 " leaked clusters\n"
               "    %" PRId64 " corruptions\n",
               leaks_fixed, corruptions_fixed);
        if (bitmaps_fixed) {
            printf("    %" PRId64 " bitmaps\n", bitmaps_fixed);
        }
        printf("\nDouble checking the fixed image now...\n");
        fflush(stdout);
    }
    qapi_free_ImageCheck(*report);
    *report = NULL;
    ret = check_once(bs, a, 0, report);
    if (ret < 0) {
        return ret;
    }
    (*report)->leaks_fixed = leaks_fixed;
    (*report)->has_leaks_fixed = leaks_fixed != 0;
    (*report)->corruptions_fixed = corruptions_fixed;
    (*report)->has_corruptions_fixed = corruptions_fixed != 0;
    (*report)->bitmaps_fixed = bitmaps_fixed;
    (*report)->has_bitmaps_fixed = bitmaps_fixed != 0;
    return 0;
}

static int check(BlockBackend *blk, const CheckArgs *a)
{
    BlockDriverState *bs = blk_bs(blk);
    ImageCheck *report = NULL;
    int ret;

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
        error_report("Check failed: %s", g_strerror(-ret));
        return 1;
    }
    print_report(a, report);
    ret = exit_code(report);
    qapi_free_ImageCheck(report);
    return ret;
}

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
        { "quiet", no_argument, NULL, 'q' },
        {}
    };
    const char *cache = "writeback";
    bool ok = true;
    int c;

    while (ok && (c = img_getopt(cmd, argc, argv, ":hf:r:T:qU", longopts,
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

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    CheckArgs a = { .how.flags = BDRV_O_CHECK };
    g_autoptr(BlockBackend) blk = NULL;

    if (!parse_options(cmd, argc, argv, &a)) {
        return 1;
    }
    if (optind != argc - 1) {
        img_usage_error(cmd, "Expecting one image file name");
    }
    if (a.bitmaps_given && !a.fix) {
        error_report("--bitmaps requires -r");
        return 1;
    }
    a.fix |= a.bitmaps;
    a.filename = argv[optind];
    blk = img_open(a.filename, &a.how);
    if (!blk) {
        return 1;
    }
    a.live = !a.fix && bdrv_has_other_writer(blk_bs(blk));
    return check(blk, &a);
}

const ImgCmd img_cmd_check = {
    .name = "check",
    .handler = run,
    .description = "Check an image for consistency, and repair it",
    .usage = "[-f FMT | --image-opts] [-r leaks|all\n"
             "        [--bitmaps keep|remove|dirty]] [-T CACHE]\n"
             "        [--output human|json] [-q] [-U] [--object OBJDEF] FILE",
    .help =
        "  -f, --format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  -r, --repair leaks|all\n"
        "     repair clusters that nothing uses, or every kind of error\n"
        "  --bitmaps keep|remove|dirty\n"
        "     what to do, with -r, about stored dirty bitmaps that are\n"
        "     inconsistent: keep them (default), remove them, or let them say\n"
        "     that everything is dirty\n"
        "  -T, --cache CACHE\n"
        "     cache mode: none, writeback (default), writethrough, directsync,\n"
        "     unsafe\n"
        "  --output human|json\n"
        "     output format (default: human)\n"
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
