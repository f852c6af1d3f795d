/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img compare: what both images allocate or know to be zero is compared by
 * status; only the rest is read, in both images at the same time.
 */
#include "util/osdep.h"
#include "block/block.h"
#include "img/img.h"
#include "util/aio.h"
#include "util/ratelimit.h"
#include "util/zero.h"

#define CHUNK (2 * 1024 * 1024)
/* What of the status must be the same in strict mode. */
#define STRICT_BITS (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED)

enum {
    COMPARE_SAME = 0,
    COMPARE_DIFFERENT = 1,
    COMPARE_USAGE = 2,      /* options, opening */
    COMPARE_STATUS = 3,
    COMPARE_IO = 4,
};

typedef struct Side {
    ImgOpen how;
    const char *filename;
    BlockBackend *blk;
    int64_t size;
    char *buf;
} Side;

typedef struct CompareArgs {
    Side side[2];
    bool strict;
    bool quiet;
    ImgProgress progress;
    RateLimit limit;        /* bytes of the disks read */
} CompareArgs;

/* --- reading in both images at once --- */

typedef struct ReadRequest {
    Side *side;
    QEMUIOVector qiov;
    int ret;
    bool done;
} ReadRequest;

static void read_done(void *opaque, int ret)
{
    ReadRequest *r = opaque;

    r->ret = ret;
    r->done = true;
}

static void start_read(ReadRequest *r, Side *side, int64_t offset,
                       int64_t bytes)
{
    r->side = side;
    r->done = false;
    qemu_iovec_init_buf(&r->qiov, side->buf, bytes);
    blk_aio_preadv(side->blk, offset, &r->qiov, 0, read_done, r);
}

/* False after a message. */
static bool finish_reads(ReadRequest *r, int n, int64_t offset)
{
    bool ok = true;
    int i;

    for (i = 0; i < n; i++) {
        while (!r[i].done) {
            aio_poll(qemu_get_aio_context(), true);
        }
        if (r[i].ret < 0 && ok) {
            error_report("Error while reading offset %" PRId64 " of %s: %s",
                         offset, r[i].side->filename, g_strerror(-r[i].ret));
            ok = false;
        }
    }
    return ok;
}

/* --- comparing --- */

static void say(const CompareArgs *a, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

static void say(const CompareArgs *a, const char *fmt, ...)
{
    va_list ap;

    if (!a->quiet) {
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
    }
}

static int mismatch(const CompareArgs *a, int64_t offset)
{
    say(a, "Content mismatch at offset %" PRId64 "!\n", offset);
    return COMPARE_DIFFERENT;
}

static int64_t first_difference(const char *x, const char *y, int64_t bytes)
{
    int64_t pos = 0, step = 4096;

    while (pos + step <= bytes && !memcmp(x + pos, y + pos, step)) {
        pos += step;
    }
    while (pos < bytes && x[pos] == y[pos]) {
        pos++;
    }
    return pos;
}

/* Waits so that reading @bytes keeps to the rate. */
static void pace(CompareArgs *a, int64_t bytes)
{
    int64_t wait_ns = ratelimit_calculate_delay(&a->limit, bytes);

    if (wait_ns > 0) {
        g_usleep(wait_ns / SCALE_US);
    }
}

static int compare_data(CompareArgs *a, int64_t offset, int64_t bytes)
{
    ReadRequest r[2];
    int64_t pos;

    pace(a, bytes);
    start_read(&r[0], &a->side[0], offset, bytes);
    start_read(&r[1], &a->side[1], offset, bytes);
    if (!finish_reads(r, 2, offset)) {
        return COMPARE_IO;
    }
    pos = first_difference(a->side[0].buf, a->side[1].buf, bytes);
    return pos < bytes ? mismatch(a, offset + pos) : COMPARE_SAME;
}

/* The range of @side reads as zeroes? */
static int compare_with_zeroes(CompareArgs *a, Side *side, int64_t offset,
                               int64_t bytes)
{
    ReadRequest r;
    size_t pos;

    pace(a, bytes);
    start_read(&r, side, offset, bytes);
    if (!finish_reads(&r, 1, offset)) {
        return COMPARE_IO;
    }
    pos = buffer_find_nonzero(side->buf, bytes);
    return pos < bytes ? mismatch(a, offset + pos) : COMPARE_SAME;
}

/* Status of @side; -1 after a message. */
static int side_status(Side *side, int64_t offset, int64_t limit,
                       int64_t *pnum)
{
    int ret = bdrv_block_status_above(blk_bs(side->blk), NULL, offset,
                                      limit - offset, pnum, NULL, NULL, NULL);

    if (ret < 0) {
        error_report("Sector allocation test failed for %s: %s",
                     side->filename, g_strerror(-ret));
        return -1;
    }
    return ret;
}

static int compare_common(CompareArgs *a, int64_t end, int64_t scale)
{
    int64_t pos, bytes, n[2] = { 0 };
    int status[2] = { 0 };
    int i, ret = COMPARE_SAME;

    for (pos = 0; pos < end && ret == COMPARE_SAME; pos += bytes) {
        bool zero[2];

        for (i = 0; i < 2; i++) {
            /* An answer is good for all of the range it was given for. */
            if (!n[i]) {
                status[i] = side_status(&a->side[i], pos, a->side[i].size,
                                        &n[i]);
            }
            if (status[i] < 0) {
                return COMPARE_STATUS;
            }
            zero[i] = status[i] & BDRV_BLOCK_ZERO;
        }
        bytes = MIN(MIN(n[0], n[1]), end - pos);

        if (a->strict && ((status[0] ^ status[1]) & STRICT_BITS)) {
            say(a, "Strict mode: Offset %" PRId64 " block status mismatch!\n",
                pos);
            return COMPARE_DIFFERENT;
        }
        if (!zero[0] || !zero[1]) {
            bytes = MIN(bytes, CHUNK);
            if (!zero[0] && !zero[1]) {
                ret = compare_data(a, pos, bytes);
            } else {
                ret = compare_with_zeroes(a, &a->side[zero[0] ? 1 : 0], pos,
                                          bytes);
            }
        }
        n[0] -= bytes;
        n[1] -= bytes;
        img_progress_work(pos + bytes);
        img_progress_print((pos + bytes) * 100.0 / scale);
    }
    return ret;
}

/* Beyond the end of the shorter image the longer one must be zero. */
static int compare_rest(CompareArgs *a, Side *side, int64_t start)
{
    int64_t pos, bytes;
    int status, ret = COMPARE_SAME;

    for (pos = start; pos < side->size && ret == COMPARE_SAME; pos += bytes) {
        status = side_status(side, pos, side->size, &bytes);
        if (status < 0) {
            return COMPARE_STATUS;
        }
        if (!(status & BDRV_BLOCK_ZERO)) {
            bytes = MIN(bytes, CHUNK);
            ret = compare_with_zeroes(a, side, pos, bytes);
        }
        img_progress_work(pos + bytes);
        img_progress_print((pos + bytes) * 100.0 / side->size);
    }
    return ret;
}

static int compare(CompareArgs *a)
{
    int64_t common = MIN(a->side[0].size, a->side[1].size);
    int64_t total = MAX(a->side[0].size, a->side[1].size);
    Side *longer = &a->side[a->side[0].size < a->side[1].size];
    int ret;

    if (a->strict && common != total) {
        say(a, "Strict mode: Image size mismatch!\n");
        return COMPARE_DIFFERENT;
    }
    img_progress_print(0);
    ret = compare_common(a, common, total);
    if (ret == COMPARE_SAME && common != total) {
        say(a, "Warning: Image size mismatch!\n");
        ret = compare_rest(a, longer, common);
    }
    if (ret == COMPARE_SAME) {
        say(a, "Images are identical.\n");
    }
    return ret;
}

/* --- the command --- */

static bool parse_options(const ImgCmd *cmd, int argc, char **argv,
                          CompareArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "a-format", required_argument, NULL, 'f' },
        { "b-format", required_argument, NULL, 'F' },
        { "cache", required_argument, NULL, 'T' },
        { "rate-limit", required_argument, NULL, 'r' },
        { "strict", no_argument, NULL, 's' },
        { "force-share", no_argument, NULL, 'U' },
        { "progress", optional_argument, NULL, 'p' },
        { "quiet", no_argument, NULL, 'q' },
        {}
    };
    ImgOpen how = { 0 };
    const char *fmt[2] = { NULL, NULL };
    const char *cache = "writeback";
    int64_t rate;
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":hf:F:T:pqr:sU", longopts,
                           COMPARE_USAGE)) != -1) {
        switch (c) {
        case 'f':
            fmt[0] = optarg;
            break;
        case 'F':
            fmt[1] = optarg;
            break;
        case 'T':
            cache = optarg;
            break;
        case 'p':
            if (!img_parse_progress(optarg, &a->progress)) {
                return false;
            }
            break;
        case 'q':
            a->quiet = true;
            break;
        case 'r':
            rate = img_parse_size("rate limit", optarg, 0, INT64_MAX);
            if (rate < 0) {
                return false;
            }
            ratelimit_set_speed(&a->limit, rate);
            break;
        case 's':
            a->strict = true;
            break;
        case 'U':
            how.force_share = true;
            break;
        case OPTION_IMAGE_OPTS:
            how.image_opts = true;
            break;
        }
    }
    if (!img_parse_cache("source cache", cache, &how.flags,
                         &how.writethrough)) {
        return false;
    }
    a->side[0].how = a->side[1].how = how;
    a->side[0].how.fmt = fmt[0];
    a->side[1].how.fmt = fmt[1];
    return true;
}

/* 0, or the exit code after a message. */
static int open_side(Side *side)
{
    side->blk = img_open(side->filename, &side->how);
    if (!side->blk) {
        return COMPARE_USAGE;
    }
    side->size = blk_getlength(side->blk);
    if (side->size < 0) {
        error_report("Can't get size of %s: %s", side->filename,
                     g_strerror(-side->size));
        return COMPARE_IO;
    }
    side->buf = blk_blockalign(side->blk, CHUNK);
    return 0;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    CompareArgs a = { 0 };
    int i, ret = 0;

    ratelimit_init(&a.limit);
    if (!parse_options(cmd, argc, argv, &a)) {
        return COMPARE_USAGE;
    }
    if (optind != argc - 2) {
        img_usage_error(cmd, "Expecting two image file names");
    }
    a.side[0].filename = argv[optind];
    a.side[1].filename = argv[optind + 1];
    img_progress_init(a.quiet ? IMG_PROGRESS_OFF : a.progress, 2.0);
    for (i = 0; i < 2 && !ret; i++) {
        ret = open_side(&a.side[i]);
    }
    if (!ret) {
        ret = compare(&a);
    }
    img_progress_end();
    for (i = 0; i < 2; i++) {
        qemu_vfree(a.side[i].buf);
        blk_unref(a.side[i].blk);
    }
    ratelimit_destroy(&a.limit);
    return ret;
}

const ImgCmd img_cmd_compare = {
    .name = "compare",
    .handler = run,
    .description = "Check whether two images have the same guest data",
    .usage = "[--image-opts | -f FMT] [-F FMT] [-s] [-T CACHE] [-p] [-q]\n"
             "        [-r RATE] [-U] [--object OBJDEF] FILE1 FILE2",
    .help =
        "  -f, --a-format FMT\n"
        "     format of FILE1 (default: guess)\n"
        "  -F, --b-format FMT\n"
        "     format of FILE2 (default: guess)\n"
        "  --image-opts\n"
        "     FILE1 and FILE2 are option strings, NAME=VALUE,...\n"
        "  -s, --strict\n"
        "     sizes and allocation must be the same, too\n"
        "  -T, --cache CACHE\n"
        "     cache mode: none, writeback (default), writethrough, directsync,\n"
        "     unsafe\n"
        "  -p, --progress[=line|bar|json]\n"
        "     show progress: a bar on a terminal, lines elsewhere; json: one\n"
        "     object a line\n"
        "  -q, --quiet\n"
        "     print nothing but errors\n"
        "  -r, --rate-limit RATE\n"
        "     read at most so many bytes of each image a second\n"
        "  -U, --force-share\n"
        "     open the images even if somebody writes to them\n"
        "  --object OBJDEF\n"
        "     define an object\n\n"
        "Exit code: 0 same, 1 different, 2 options or opening, 3 block status,\n"
        "4 reading\n",
};
