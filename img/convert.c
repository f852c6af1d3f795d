/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img convert: the command line. The work is in convert-run.c. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "img/convert-memory.h"
#include "qobject/keyval.h"

#define DEFAULT_MIN_SPARSE 4096
#define MAX_MIN_SPARSE (16 * 1024 * 1024)
#define DEFAULT_WORKERS 8
#define MAX_WORKERS 16
#define DEFAULT_RETRIES 1
#define MAX_RETRIES 1000

enum {
    OPTION_TARGET_IMAGE_OPTS = OPTION_CMD,
    OPTION_TARGET_IS_ZERO,
    OPTION_SALVAGE,
    OPTION_SALVAGE_REPORT,
    OPTION_SALVAGE_RETRIES,
    OPTION_DIGEST,
    OPTION_MAX_MEMORY,
    OPTION_RESUME,
    OPTION_BITMAPS,
    OPTION_SKIP_BROKEN_BITMAPS,
};

/* What is only needed while parsing. */
typedef struct Parse {
    ConvertArgs *a;
    char *option_list;
    const char *cache;
    const char *source_cache;
    const char *backing;
    const char *backing_fmt;
    bool min_sparse_given;
    bool retries_given;
} Parse;

static const struct option longopts[] = {
    { "help", no_argument, NULL, 'h' },
    { "object", required_argument, NULL, OPTION_OBJECT },
    { "source-format", required_argument, NULL, 'f' },
    { "source-image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
    { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
    { "source-cache", required_argument, NULL, 'T' },
    { "snapshot", required_argument, NULL, 'l' },
    { "bitmaps", no_argument, NULL, OPTION_BITMAPS },
    { "skip-broken-bitmaps", no_argument, NULL, OPTION_SKIP_BROKEN_BITMAPS },
    { "max-memory", required_argument, NULL, OPTION_MAX_MEMORY },
    { "resume", no_argument, NULL, OPTION_RESUME },
    { "digest", optional_argument, NULL, OPTION_DIGEST },
    { "salvage", no_argument, NULL, OPTION_SALVAGE },
    { "salvage-report", required_argument, NULL, OPTION_SALVAGE_REPORT },
    { "salvage-retries", required_argument, NULL, OPTION_SALVAGE_RETRIES },
    { "target-format", required_argument, NULL, 'O' },
    { "target-image-opts", no_argument, NULL, OPTION_TARGET_IMAGE_OPTS },
    { "target-format-options", required_argument, NULL, 'o' },
    { "target-cache", required_argument, NULL, 't' },
    { "backing", required_argument, NULL, 'b' },
    { "backing-format", required_argument, NULL, 'F' },
    { "sparse-size", required_argument, NULL, 'S' },
    { "no-create", no_argument, NULL, 'n' },
    { "target-is-zero", no_argument, NULL, OPTION_TARGET_IS_ZERO },
    { "compress", no_argument, NULL, 'c' },
    { "force-share", no_argument, NULL, 'U' },
    { "rate-limit", required_argument, NULL, 'r' },
    { "parallel", required_argument, NULL, 'm' },
    { "oob-writes", no_argument, NULL, 'W' },
    { "copy-range-offloading", no_argument, NULL, 'C' },
    { "progress", optional_argument, NULL, 'p' },
    { "quiet", no_argument, NULL, 'q' },
    {}
};

/* --- options --- */

static bool parse_min_sparse(Parse *p, const char *text)
{
    int64_t value = img_parse_size("buffer size for sparse output", text, 0,
                                   INT64_MAX);

    if (value < 0) {
        return false;
    }
    if (value > MAX_MIN_SPARSE || value % BDRV_SECTOR_SIZE) {
        error_report("Invalid buffer size for sparse output specified. Valid "
                     "sizes are multiples of %llu up to %d. Select 0 to "
                     "disable sparse detection (fully allocates output).",
                     BDRV_SECTOR_SIZE, MAX_MIN_SPARSE);
        return false;
    }
    p->a->min_sparse = value;
    p->min_sparse_given = true;
    return true;
}

/* Options that have an argument to look at; false after a message. */
static bool parse_value(Parse *p, int c, const char *text)
{
    ConvertArgs *a = p->a;

    switch (c) {
    case 'S':
        return parse_min_sparse(p, text);
    case 'o':
        return img_add_option_list(&p->option_list, text);
    case 'r':
        a->rate_limit = img_parse_size("rate limit", text, 0, INT64_MAX);
        return a->rate_limit >= 0;
    case 'm':
        a->workers = img_parse_number("number of coroutines", text, 1,
                                      MAX_WORKERS);
        return a->workers >= 0;
    case 'p':
        return img_parse_progress(text, &a->progress);
    case 'f':
        a->source.fmt = text;
        break;
    case 'O':
        a->dest.fmt = text;
        break;
    case 't':
        p->cache = text;
        break;
    case 'T':
        p->source_cache = text;
        break;
    case 'b':
    case 'B':
        p->backing = text;
        break;
    case 'F':
        p->backing_fmt = text;
        break;
    case 'l':
        a->snapshot = text;
        break;
    case OPTION_DIGEST:
        a->digest = true;
        a->digest_name = text;
        break;
    case OPTION_MAX_MEMORY:
        a->max_memory = img_parse_size("memory limit", text, IMG_MEMORY_MIN,
                                       INT64_MAX);
        return a->max_memory >= 0;
    case OPTION_SALVAGE_REPORT:
        a->salvage_report = text;
        break;
    case OPTION_SALVAGE_RETRIES:
        a->salvage_retries = img_parse_number("number of retries", text, 0,
                                              MAX_RETRIES);
        p->retries_given = true;
        return a->salvage_retries >= 0;
    default:
        g_assert_not_reached();
    }
    return true;
}

static void parse_switch(Parse *p, int c)
{
    ConvertArgs *a = p->a;

    switch (c) {
    case 'c':
        a->compressed = true;
        break;
    case 'C':
        a->copy_range = true;
        break;
    case 'n':
        a->no_create = true;
        break;
    case 'p':
        img_parse_progress(NULL, &a->progress);
        break;
    case 'q':
        a->quiet = true;
        break;
    case 'U':
        a->source.force_share = true;
        break;
    case 'W':
        a->out_of_order = true;
        break;
    case OPTION_IMAGE_OPTS:
        a->source.image_opts = true;
        break;
    case OPTION_TARGET_IMAGE_OPTS:
        a->dest.image_opts = true;
        break;
    case OPTION_TARGET_IS_ZERO:
        a->target_is_zero = true;
        break;
    case OPTION_DIGEST:
        a->digest = true;
        break;
    case OPTION_SALVAGE:
        a->salvage = true;
        break;
    case OPTION_RESUME:
        a->resume = true;
        break;
    case OPTION_BITMAPS:
        a->bitmaps = true;
        break;
    case OPTION_SKIP_BROKEN_BITMAPS:
        a->skip_broken_bitmaps = true;
        break;
    }
}

static bool parse_options(const ImgCmd *cmd, int argc, char **argv, Parse *p)
{
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":b:B:cCf:F:hl:m:no:O:pqr:S:t:T:UW",
                           longopts, 1)) != -1) {
        if (!optarg) {
            parse_switch(p, c);
        } else if (!parse_value(p, c, optarg)) {
            return false;
        }
    }
    return true;
}

/* --- what goes together --- */

static const char *conflict(const Parse *p)
{
    const ConvertArgs *a = p->a;

    if (a->no_create && p->option_list) {
        return "-o has no effect when skipping image creation";
    }
    if (a->copy_range && a->compressed) {
        return "Cannot enable copy offloading when -c is used";
    }
    if (a->copy_range && p->min_sparse_given) {
        return "Cannot enable copy offloading when -S is used";
    }
    if (a->copy_range && a->salvage) {
        return "Cannot use copy offloading in salvaging mode";
    }
    if (a->digest && (a->copy_range || a->out_of_order)) {
        return "--digest does not go with -C and -W";
    }
    if ((a->salvage_report || p->retries_given) && !a->salvage) {
        return "--salvage-report and --salvage-retries require --salvage";
    }
    if (a->resume && (a->digest || a->bitmaps)) {
        return "--resume does not go with --digest and --bitmaps";
    }
    if (a->resume && p->cache && !strcmp(p->cache, "unsafe")) {
        return "--resume needs a target that is flushed: not -t unsafe";
    }
    if (a->dest.image_opts && !a->no_create) {
        return "--target-image-opts requires use of -n flag";
    }
    if (a->target_is_zero && !a->no_create) {
        return "--target-is-zero requires use of -n flag";
    }
    if (a->skip_broken_bitmaps && !a->bitmaps) {
        return "Use of --skip-broken-bitmaps requires --bitmaps";
    }
    if (a->nb_sources > 1 && a->snapshot) {
        return "No support for concatenating multiple snapshot";
    }
    if (a->nb_sources > 1 && a->bitmaps) {
        return "Copying bitmaps is only possible with single source";
    }
    return NULL;
}

static bool put_backing(Parse *p, const char *key, const char *value,
                        const char *what)
{
    ConvertArgs *a = p->a;
    BlockDriver *drv;

    if (!value || a->no_create) {
        return true;
    }
    drv = bdrv_find_format(a->dest.fmt);
    if (drv && !qapi_member_find(drv->create_options, key)) {
        error_report("%s not supported for file format '%s'", what,
                     a->dest.fmt);
        return false;
    }
    qdict_put_str(a->options, key, value);
    return true;
}

static bool merge_options(Parse *p)
{
    ConvertArgs *a = p->a;

    a->has_options = p->option_list != NULL;
    a->options = keyval_parse_opts(p->option_list ?: "", NULL, NULL);
    if (!put_backing(p, "backing_file", p->backing, "Backing file") ||
        !put_backing(p, "backing_fmt", p->backing_fmt, "Backing file format")) {
        return false;
    }
    a->backing = a->no_create ? p->backing
                              : qdict_get_try_str(a->options, "backing_file");
    if (a->backing && a->nb_sources > 1) {
        error_report("Having a backing file for the target makes no sense when "
                     "concatenating multiple input images");
        return false;
    }
    if (a->backing && !a->no_create &&
        !qdict_haskey(a->options, "backing_fmt")) {
        error_report("Use of backing file requires explicit backing format");
        return false;
    }
    if (a->backing && a->digest) {
        error_report("--digest does not go with a backing file of the target: "
                     "not everything is read");
        return false;
    }
    if (a->backing && a->target_is_zero) {
        error_report("Cannot use --target-is-zero when the destination image "
                     "has a backing file");
        return false;
    }
    return true;
}

static bool has_encryption(QDict *options)
{
    const char *encryption = qdict_get_try_str(options, "encryption");

    return qdict_haskey(options, "encrypt.format") ||
           (encryption && !strcmp(encryption, "on"));
}

static bool check_compression(const ConvertArgs *a)
{
    const char *prealloc = qdict_get_try_str(a->options, "preallocation");

    if (!a->compressed) {
        return true;
    }
    if (has_encryption(a->options)) {
        error_report("Compression and encryption not supported at the same "
                     "time");
        return false;
    }
    if (prealloc && strcmp(prealloc, "off")) {
        error_report("Compression and preallocation not supported at the same "
                     "time");
        return false;
    }
    return true;
}

static bool check(Parse *p)
{
    ConvertArgs *a = p->a;
    const char *message = conflict(p);

    if (message) {
        error_report("%s", message);
        return false;
    }
    if (!a->dest.image_opts && !a->dest.fmt) {
        a->dest.fmt = "raw";
    }
    if (a->nb_sources < 1) {
        error_report("Must specify image file name");
        return false;
    }
    if (!a->no_create && !bdrv_find_format(a->dest.fmt)) {
        error_report("Unknown file format '%s'", a->dest.fmt);
        return false;
    }
    if (a->bitmaps && !a->no_create &&
        !bdrv_find_format(a->dest.fmt)->bdrv_can_store_bitmap) {
        error_report("Format driver '%s' does not support bitmaps",
                     a->dest.fmt);
        return false;
    }
    if (!p->cache) {
        p->cache = a->resume ? "writeback" : "unsafe";
    }
    return img_parse_cache("cache", p->cache, &a->dest.flags,
                           &a->dest.writethrough) &&
           img_parse_cache("source cache", p->source_cache, &a->source.flags,
                           &a->source.writethrough) &&
           merge_options(p) && check_compression(a);
}

/* --- the command --- */

static int print_target_options(const ConvertArgs *a)
{
    const char *fmt = a->dest.fmt ?: "raw";
    BlockDriver *drv = bdrv_find_format(fmt);

    if (!drv) {
        error_report("Unknown file format '%s'", fmt);
        return 1;
    }
    bdrv_print_create_options(drv, a->target);
    return 0;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    ConvertArgs a = {
        .source.no_share = true,
        .min_sparse = DEFAULT_MIN_SPARSE,
        .workers = DEFAULT_WORKERS,
        .salvage_retries = DEFAULT_RETRIES,
    };
    Parse p = {
        .a = &a,
        .source_cache = "writeback",
    };
    int ret = 1;

    if (!parse_options(cmd, argc, argv, &p)) {
        goto out;
    }
    if (optind < argc) {
        a.target = argv[argc - 1];
        a.sources = argv + optind;
        a.nb_sources = argc - 1 - optind;
    }
    if (p.option_list && has_help_option(p.option_list)) {
        ret = print_target_options(&a);
    } else if (check(&p)) {
        ret = img_convert(&a);
    }
out:
    qdict_unref(a.options);
    g_free(p.option_list);
    return ret;
}

const ImgCmd img_cmd_convert = {
    .name = "convert",
    .handler = run,
    .description = "Copy one or more images to another, with another format",
    .usage =
        "[-f SRC_FMT | --image-opts] [-T SRC_CACHE] [-l SNAPSHOT]\n"
        "        [--bitmaps [--skip-broken-bitmaps]]\n"
        "        [--salvage [--salvage-report FILE] [--salvage-retries N]]\n"
        "        [-O TGT_FMT | --target-image-opts] [-o TGT_OPTIONS] "
        "[-t TGT_CACHE]\n"
        "        [-b BACKING [-F BACKING_FMT]] [-S SPARSE_SIZE]\n"
        "        [-n] [--target-is-zero] [-c] [-U] [-r RATE] [-m N] [-W] [-C]\n"
        "        [--digest[=sha256]] [--max-memory SIZE] [--resume]\n"
        "        [-p] [-q] [--object OBJDEF] SRC_FILE... TGT_FILE",
    .help =
        "  -f, --source-format SRC_FMT\n"
        "     format of every SRC_FILE (default: guess)\n"
        "  --image-opts, --source-image-opts\n"
        "     every SRC_FILE is an option string, NAME=VALUE,...\n"
        "  -T, --source-cache SRC_CACHE\n"
        "     cache mode of the sources (default: writeback)\n"
        "  -l, --snapshot SNAPSHOT\n"
        "     copy the internal snapshot with this id or name, or\n"
        "     snapshot.id=ID,snapshot.name=NAME\n"
        "  --bitmaps, --skip-broken-bitmaps\n"
        "     copy persistent bitmaps, too, but no inconsistent ones\n"
        "  --salvage\n"
        "     go on where data cannot be read or metadata is damaged: what is\n"
        "     lost becomes zeroes, is listed, and makes the exit status 2\n"
        "  --salvage-report FILE\n"
        "     write what is lost, or may be wrong, and why, as JSON\n"
        "  --salvage-retries N\n"
        "     how often to read again what cannot be read (default: 1)\n"
        "  -O, --target-format TGT_FMT\n"
        "     format of TGT_FILE (default: raw)\n"
        "  --target-image-opts\n"
        "     TGT_FILE is an option string; requires -n\n"
        "  -o, --target-format-options TGT_OPTIONS\n"
        "     settings of the new image, NAME=VALUE,...; -o help lists them\n"
        "  -t, --target-cache TGT_CACHE\n"
        "     cache mode of the target: none, writeback, writethrough,\n"
        "     directsync, unsafe (default)\n"
        "  -b, --backing BACKING (old spelling: -B)\n"
        "     make the target an overlay of BACKING, which must have the\n"
        "     content of the source's backing file\n"
        "  -F, --backing-format BACKING_FMT\n"
        "     format of BACKING, required with -b\n"
        "  -S, --sparse-size SPARSE_SIZE\n"
        "     how many zeroes in a row make a hole (default: 4k); 0: none, the\n"
        "     target is fully allocated\n"
        "  -n, --no-create\n"
        "     write into an image that exists\n"
        "  --target-is-zero\n"
        "     TGT_FILE reads as zeroes everywhere; requires -n\n"
        "  -c, --compress\n"
        "     compress the target's data\n"
        "  -U, --force-share\n"
        "     open the sources even if somebody writes to them\n"
        "  -r, --rate-limit RATE\n"
        "     at most so many bytes a second\n"
        "  -m, --parallel N\n"
        "     number of copies in flight, 1 to 16 (default: 8)\n"
        "  -W, --oob-writes\n"
        "     allow writing to the target in any order\n"
        "  -C, --copy-range-offloading\n"
        "     let the kernel copy where it can\n"
        "  --digest[=sha256]\n"
        "     print a hash of the disk that was read: of TGT_FILE, if that is\n"
        "     raw and as long\n"
        "  --max-memory SIZE\n"
        "     buffers, and what the system caches of the disks for this copy, take\n"
        "     no more than that, 1M at least; metadata is not counted\n"
        "  --resume\n"
        "     keep the state of the copy in TGT_FILE.resume; if that is there\n"
        "     already, go on where the same command was interrupted\n"
        "  -p, --progress[=line|bar|json]\n"
        "     show progress: a bar on a terminal, lines elsewhere; json: one\n"
        "     object a line\n"
        "  -q, --quiet\n"
        "     print nothing but errors\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  SRC_FILE...\n"
        "     the sources; several are joined one after the other\n"
        "  TGT_FILE\n"
        "     the target; an existing file is replaced, unless -n is given\n",
};
