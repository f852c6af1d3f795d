/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img rebase: the command line. The work is in rebase-run.c. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "img/rebase.h"

#define DEFAULT_WORKERS 8
#define MAX_WORKERS 16

static const struct option longopts[] = {
    { "help", no_argument, NULL, 'h' },
    { "object", required_argument, NULL, OPTION_OBJECT },
    { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
    { "format", required_argument, NULL, 'f' },
    { "cache", required_argument, NULL, 't' },
    { "backing", required_argument, NULL, 'b' },
    { "backing-format", required_argument, NULL, 'B' },
    { "backing-cache", required_argument, NULL, 'T' },
    { "backing-unsafe", no_argument, NULL, 'u' },
    { "compress", no_argument, NULL, 'c' },
    { "rate-limit", required_argument, NULL, 'r' },
    { "parallel", required_argument, NULL, 'm' },
    { "force-share", no_argument, NULL, 'U' },
    { "progress", optional_argument, NULL, 'p' },
    { "quiet", no_argument, NULL, 'q' },
    {}
};

static bool parse_options(const ImgCmd *cmd, int argc, char **argv,
                          RebaseArgs *a, const char **cache)
{
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":b:B:cf:F:hm:pqr:t:T:uU", longopts,
                           1)) != -1) {
        switch (c) {
        case 'b':
            a->backing = optarg;
            break;
        case 'B':
        case 'F':
            a->backing_fmt = optarg;
            break;
        case 'c':
            a->compress = true;
            break;
        case 'f':
            a->image.fmt = optarg;
            break;
        case 'm':
            a->workers = img_parse_number("number of coroutines", optarg, 1,
                                          MAX_WORKERS);
            if (a->workers < 0) {
                return false;
            }
            break;
        case 'r':
            a->rate_limit = img_parse_size("rate limit", optarg, 0, INT64_MAX);
            if (a->rate_limit < 0) {
                return false;
            }
            break;
        case 'p':
            if (!img_parse_progress(optarg, &a->progress)) {
                return false;
            }
            break;
        case 'q':
            a->quiet = true;
            break;
        case 't':
            *cache = optarg;
            break;
        case 'T':
            a->backing_cache = optarg;
            break;
        case 'u':
            a->unsafe = true;
            break;
        case 'U':
            a->force_share = true;
            break;
        case OPTION_IMAGE_OPTS:
            a->image.image_opts = true;
            break;
        }
    }
    return true;
}

static bool check(RebaseArgs *a, const char *cache)
{
    a->new_backing.fmt = a->backing_fmt;
    a->new_backing.force_share = a->force_share;
    if (!img_parse_cache("cache", cache, &a->image.flags,
                         &a->image.writethrough) ||
        !img_parse_cache("source cache", a->backing_cache ?: "writeback",
                         &a->new_backing.flags,
                         &a->new_backing.writethrough)) {
        return false;
    }
    if (a->unsafe) {
        a->image.flags |= BDRV_O_NO_BACKING;
    }
    if (a->backing && !*a->backing) {
        a->backing = NULL;
    }
    if (a->backing && a->backing_fmt && !bdrv_find_format(a->backing_fmt)) {
        error_report("Invalid format name: '%s'", a->backing_fmt);
        return false;
    }
    if (a->compress && a->unsafe) {
        error_report("Cannot use --compress with --backing-unsafe");
        return false;
    }
    return true;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    RebaseArgs a = {
        .image.flags = BDRV_O_RDWR | BDRV_O_UNMAP,
        .workers = DEFAULT_WORKERS,
    };
    const char *cache = "writeback";

    if (!parse_options(cmd, argc, argv, &a, &cache)) {
        return 1;
    }
    if (optind != argc - 1) {
        img_usage_error(cmd, "Expecting one image file name");
    }
    if (!a.unsafe && !a.backing) {
        img_usage_error(cmd, "Must specify backing file (-b) or use unsafe "
                        "mode (-u)");
    }
    a.filename = argv[optind];
    return check(&a, cache) ? img_rebase(&a) : 1;
}

const ImgCmd img_cmd_rebase = {
    .name = "rebase",
    .handler = run,
    .description = "Change the backing file of an image",
    .usage = "[-f FMT | --image-opts] [-t CACHE]\n"
             "        -b BACKING [-B BACKING_FMT] [-T BACKING_CACHE] [-u] [-c] "
             "[-U]\n"
             "        [-r RATE] [-m N] [-p] [-q] [--object OBJDEF] FILE",
    .help =
        "  -f, --format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  -t, --cache CACHE\n"
        "     cache mode of FILE (default: writeback)\n"
        "  -b, --backing BACKING\n"
        "     the new backing file; \"\" for none. Unless -u is given FILE\n"
        "     keeps its content: what differs is copied into it\n"
        "  -B, --backing-format BACKING_FMT (old spelling: -F)\n"
        "     format of BACKING, required unless it is \"\"\n"
        "  -T, --backing-cache BACKING_CACHE\n"
        "     cache mode of the old and the new backing file (default:\n"
        "     writeback)\n"
        "  -u, --backing-unsafe\n"
        "     change nothing but the name in FILE. Only right if BACKING has\n"
        "     the content of the old backing file, as when that was renamed\n"
        "  -c, --compress\n"
        "     compress what is copied into FILE\n"
        "  -U, --force-share\n"
        "     open BACKING even if somebody writes to it\n"
        "  -r, --rate-limit RATE\n"
        "     at most so many bytes a second\n"
        "  -m, --parallel N\n"
        "     number of copies in flight, 1 to 16 (default: 8)\n"
        "  -p, --progress[=line|bar|json]\n"
        "     show progress: a bar on a terminal, lines elsewhere; json: one\n"
        "     object a line\n"
        "  -q, --quiet\n"
        "     print nothing but errors\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  FILE\n"
        "     the image whose backing file changes\n",
};
