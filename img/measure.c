/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img measure: the space that an image will need. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "img/img.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-output-visitor.h"
#include "qobject/keyval.h"

enum {
    OPTION_SIZE = OPTION_CMD,
};

typedef struct MeasureArgs {
    ImgOpen how;
    const char *filename;   /* NULL: size */
    const char *target_fmt;
    const char *snapshot;
    char *options;
    int64_t size;           /* -1: not given */
    ImgOutput output;
} MeasureArgs;

static bool parse_options(const ImgCmd *cmd, int argc, char **argv,
                          MeasureArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "format", required_argument, NULL, 'f' },
        { "source-format", required_argument, NULL, 'f' },
        { "target-format", required_argument, NULL, 'O' },
        { "options", required_argument, NULL, 'o' },
        { "snapshot", required_argument, NULL, 'l' },
        { "size", required_argument, NULL, OPTION_SIZE },
        { "output", required_argument, NULL, OPTION_OUTPUT },
        { "force-share", no_argument, NULL, 'U' },
        {}
    };
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":f:hl:o:O:s:U", longopts,
                           1)) != -1) {
        switch (c) {
        case 'f':
            a->how.fmt = optarg;
            break;
        case 'l':
            a->snapshot = optarg;
            break;
        case 'o':
            if (!img_add_option_list(&a->options, optarg)) {
                return false;
            }
            break;
        case 'O':
            a->target_fmt = optarg;
            break;
        case 'U':
            a->how.force_share = true;
            break;
        case OPTION_IMAGE_OPTS:
            a->how.image_opts = true;
            break;
        case OPTION_OUTPUT:
            if (!img_parse_output(optarg, &a->output)) {
                return false;
            }
            break;
        case 's':
        case OPTION_SIZE:
            a->size = img_parse_size("image size", optarg, 0, INT64_MAX);
            if (a->size < 0) {
                return false;
            }
            break;
        }
    }
    return true;
}

static bool check_arguments(int argc, char **argv, MeasureArgs *a)
{
    const char *message = NULL;

    if (argc - optind > 1) {
        message = "At most one filename argument is allowed.";
    } else if (argc - optind == 1) {
        a->filename = argv[optind];
    }
    if (!message && !a->filename &&
        (a->how.fmt || a->how.image_opts || a->snapshot)) {
        message = "--image-opts, -f, and -l require a filename argument.";
    }
    if (!message && !a->filename && a->size < 0) {
        message = "Either --size N or one filename must be specified.";
    }
    if (!message && a->filename && a->size >= 0) {
        message = "--size N cannot be used together with a filename.";
    }
    if (message) {
        error_report("%s", message);
    }
    return !message;
}

/* --- output --- */

static void print_human(const BlockMeasureInfo *info)
{
    printf("required size: %" PRIu64 "\n", info->required);
    printf("fully allocated size: %" PRIu64 "\n", info->fully_allocated);
    if (info->has_bitmaps) {
        printf("bitmaps size: %" PRIu64 "\n", info->bitmaps);
    }
}

static void print_json(BlockMeasureInfo *info)
{
    QObject *obj;
    Visitor *v = qobject_output_visitor_new(&obj);

    visit_type_BlockMeasureInfo(v, NULL, &info, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    img_print_json(obj);
}

/* --- the command --- */

/* NULL after a message. */
static BlockDriver *find_target(const MeasureArgs *a)
{
    BlockDriver *drv = bdrv_find_format(a->target_fmt);

    if (!drv) {
        error_report("Unknown file format '%s'", a->target_fmt);
        return NULL;
    }
    if (!drv->create_options) {
        error_report("Format driver '%s' does not support image creation",
                     drv->format_name);
        return NULL;
    }
    if (!drv->bdrv_measure) {
        error_report("Block driver '%s' does not support size measurement",
                     drv->format_name);
        return NULL;
    }
    return drv;
}

/* Options are the format's or, as for any file, the protocol's. */
static bool check_option_names(BlockDriver *drv, QDict *options)
{
    BlockDriver *file = bdrv_find_protocol("file:", true, NULL);
    const QDictEntry *e;

    for (e = qdict_first(options); e; e = qdict_next(options, e)) {
        const char *name = qdict_entry_key(e);

        if (!qapi_member_find(drv->create_options, name) &&
            !(file && qapi_member_find(file->create_options, name))) {
            error_report("Invalid parameter '%s'", name);
            error_report("Invalid options for file format '%s'",
                         drv->format_name);
            return false;
        }
    }
    return true;
}

/* NULL after a message. */
static BlockBackend *open_source(const MeasureArgs *a)
{
    BlockBackend *blk = img_open(a->filename, &a->how);

    if (blk && a->snapshot && !img_load_snapshot(blk, a->snapshot)) {
        blk_unref(blk);
        return NULL;
    }
    return blk;
}

static int measure(const MeasureArgs *a)
{
    g_autoptr(QDict) options = keyval_parse_opts(a->options ?: "", NULL, NULL);
    g_autoptr(BlockBackend) blk = NULL;
    BlockDriver *drv = find_target(a);
    BlockMeasureInfo *info;
    Error *err = NULL;

    if (!drv || !check_option_names(drv, options)) {
        return 1;
    }
    if (a->filename) {
        blk = open_source(a);
        if (!blk) {
            return 1;
        }
    }
    if (a->size >= 0) {
        g_autofree char *size = g_strdup_printf("%" PRId64, a->size);

        qdict_put_str(options, "size", size);
    }
    info = drv->bdrv_measure(options, blk ? blk_bs(blk) : NULL, &err);
    if (!info) {
        error_report_err(err);
        return 1;
    }
    if (a->output == IMG_OUTPUT_JSON) {
        print_json(info);
    } else {
        print_human(info);
    }
    qapi_free_BlockMeasureInfo(info);
    return 0;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    MeasureArgs a = { .target_fmt = "raw", .size = -1 };
    int ret = 1;

    if (!parse_options(cmd, argc, argv, &a)) {
        goto out;
    }
    if (a.options && has_help_option(a.options)) {
        BlockDriver *drv = find_target(&a);

        if (drv) {
            bdrv_print_create_options(drv, NULL);
            ret = 0;
        }
    } else if (check_arguments(argc, argv, &a)) {
        ret = measure(&a);
    }
out:
    g_free(a.options);
    return ret;
}

const ImgCmd img_cmd_measure = {
    .name = "measure",
    .handler = run,
    .description = "Calculate how much space a new image will need",
    .usage = "[-f FMT | --image-opts] [-l SNAPSHOT] [-U]\n"
             "        [-O TARGET_FMT] [-o OPTIONS] [--output human|json]\n"
             "        [--object OBJDEF] (--size SIZE | FILE)",
    .help =
        "  -f, --source-format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  -l, --snapshot SNAPSHOT\n"
        "     measure the internal snapshot of FILE with this id or name, or\n"
        "     snapshot.id=ID,snapshot.name=NAME\n"
        "  -U, --force-share\n"
        "     open FILE even if somebody writes to it\n"
        "  -O, --target-format TARGET_FMT\n"
        "     format of the new image (default: raw)\n"
        "  -o, --options OPTIONS\n"
        "     settings of the new image, NAME=VALUE,...; -o help lists them\n"
        "  --output human|json\n"
        "     form of the output\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  -s, --size SIZE\n"
        "     size of the virtual disk, if there is no FILE\n"
        "  FILE\n"
        "     image whose data the new one is going to hold\n\n"
        "The required size is what the file takes with the data that FILE\n"
        "holds now, the fully allocated size what it can grow to.\n",
};
