/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img info */
#include "util/osdep.h"
#include "block/block.h"
#include "block/info.h"
#include "img/img.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-output-visitor.h"

enum {
    OPTION_BACKING_CHAIN = OPTION_CMD,
    OPTION_LIMITS,
};

typedef struct InfoArgs {
    ImgOpen how;
    const char *filename;
    ImgOutput output;
    bool chain;
    bool limits;
} InfoArgs;

/* --- collecting --- */

static BlockGraphInfo *query(const char *filename, const ImgOpen *how,
                             bool limits)
{
    g_autoptr(BlockBackend) blk = img_open(filename, how);
    BlockGraphInfo *info;
    Error *err = NULL;

    if (!blk) {
        return NULL;
    }
    info = bdrv_query_block_graph_info(blk_bs(blk), limits, &err);
    if (!info) {
        error_report_err(err);
    }
    return info;
}

/*
 * Each image is opened by itself, without its backing file. False after a
 * message.
 */
static bool collect(const InfoArgs *a, BlockGraphInfoList **list)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal,
                                                       g_free, NULL);
    BlockGraphInfoList **tail = list;
    const char *filename = a->filename;
    ImgOpen how = a->how;
    BlockGraphInfo *info;

    while (filename) {
        if (!g_hash_table_add(seen, g_strdup(filename))) {
            error_report("Backing file '%s' creates an infinite loop.",
                         filename);
            return false;
        }
        info = query(filename, &how, a->limits);
        if (!info) {
            return false;
        }
        QAPI_LIST_APPEND(tail, info);
        if (!a->chain) {
            break;
        }
        if (info->backing_filename && !info->full_backing_filename) {
            error_report("Could not determine absolute path of backing file "
                         "'%s'", info->backing_filename);
            return false;
        }
        filename = info->full_backing_filename;
        how.image_opts = false;
        how.fmt = info->backing_filename_format;
    }
    return true;
}

/* --- printing --- */

static void print_human(BlockGraphInfoList *list)
{
    GString *out = g_string_new(NULL);

    for (; list; list = list->next) {
        bdrv_graph_info_text(out, list->value);
        if (list->next) {
            g_string_append_c(out, '\n');
        }
    }
    fputs(out->str, stdout);
    g_string_free(out, TRUE);
}

static void print_as_json(BlockGraphInfoList *list, bool chain)
{
    QObject *obj;
    Visitor *v = qobject_output_visitor_new(&obj);

    if (chain) {
        visit_type_BlockGraphInfoList(v, NULL, &list, &error_abort);
    } else {
        visit_type_BlockGraphInfo(v, NULL, &list->value, &error_abort);
    }
    visit_complete(v, &obj);
    visit_free(v);
    img_print_json(obj);
}

/* --- the command --- */

static bool parse_options(const ImgCmd *cmd, int argc, char **argv, InfoArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "format", required_argument, NULL, 'f' },
        { "cache", required_argument, NULL, 't' },
        { "output", required_argument, NULL, OPTION_OUTPUT },
        { "backing-chain", no_argument, NULL, OPTION_BACKING_CHAIN },
        { "limits", no_argument, NULL, OPTION_LIMITS },
        { "force-share", no_argument, NULL, 'U' },
        {}
    };
    const char *cache = "writeback";
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":f:ht:U", longopts, 1)) != -1) {
        switch (c) {
        case 'f':
            a->how.fmt = optarg;
            break;
        case 't':
            cache = optarg;
            break;
        case 'U':
            a->how.force_share = true;
            break;
        case OPTION_IMAGE_OPTS:
            a->how.image_opts = true;
            break;
        case OPTION_BACKING_CHAIN:
            a->chain = true;
            break;
        case OPTION_LIMITS:
            a->limits = true;
            break;
        case OPTION_OUTPUT:
            if (!img_parse_output(optarg, &a->output)) {
                return false;
            }
            break;
        }
    }
    return img_parse_cache("cache", cache, &a->how.flags,
                           &a->how.writethrough);
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    InfoArgs a = { .how.flags = BDRV_O_NO_BACKING | BDRV_O_NO_IO };
    BlockGraphInfoList *list = NULL;
    bool ok;

    if (!parse_options(cmd, argc, argv, &a)) {
        return 1;
    }
    if (optind != argc - 1) {
        img_usage_error(cmd, "Expecting one image file name");
    }
    a.filename = argv[optind];
    ok = collect(&a, &list);
    if (ok && a.output == IMG_OUTPUT_JSON) {
        print_as_json(list, a.chain);
    } else if (ok) {
        print_human(list);
    }
    qapi_free_BlockGraphInfoList(list);
    return ok ? 0 : 1;
}

const ImgCmd img_cmd_info = {
    .name = "info",
    .handler = run,
    .description = "Display information about an image",
    .usage = "[-f FMT | --image-opts] [--backing-chain] [--limits] [-t CACHE]\n"
             "        [--output human|json] [-U] [--object OBJDEF] FILE",
    .help =
        "  -f, --format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  --backing-chain\n"
        "     also display the backing file, its backing file, and so on\n"
        "  --limits\n"
        "     also display the limits for requests\n"
        "  -t, --cache CACHE\n"
        "     cache mode: none, writeback (default), writethrough, directsync,\n"
        "     unsafe\n"
        "  --output human|json\n"
        "     output format (default: human)\n"
        "  -U, --force-share\n"
        "     open the image even if somebody writes to it\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  FILE\n"
        "     name of the image\n",
};
