/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img bench: how fast one kind of request runs.
 *
 * A coroutine for each request that may be in flight; together they work off
 * the count. In tests of flushes they meet at a barrier after each interval,
 * and the one that arrives last flushes, unless --no-drain says that whoever
 * completes an interval flushes while the others go on.
 */
#include "util/osdep.h"
#include "block/block.h"
#include "img/img.h"
#include "util/aio.h"
#include "util/coroutine.h"
#include "util/lockable.h"
#include "util/memalign.h"
#include "util/timer.h"

enum {
    OPTION_PATTERN = OPTION_CMD,
    OPTION_FLUSH_INTERVAL,
    OPTION_NO_DRAIN,
};

typedef struct BenchArgs {
    ImgOpen how;
    const char *filename;
    int64_t count;
    int64_t depth;
    int64_t offset;
    int64_t size;
    int64_t step;           /* 0, until all is read: as size */
    int64_t flush_interval; /* 0: no flushes */
    int pattern;
    bool write;
    bool no_drain;
    bool quiet;
} BenchArgs;

typedef struct Bench {
    const BenchArgs *a;
    BlockBackend *blk;
    uint8_t *buffers;       /* a->size bytes for each worker */
    size_t stride;
    int64_t length;
    int64_t next_offset;
    int64_t started;
    int64_t finished;
    int64_t in_flight;
    CoQueue barrier;
    int64_t workers;
    int64_t nr_workers;     /* that were given a number */
    int ret;
} Bench;

static void fail(Bench *b, const char *what, int ret)
{
    if (b->ret == 0) {
        error_report("%s: %s", what, g_strerror(-ret));
        b->ret = ret;
    }
}

/* Where the next request goes: round and round, never over the end. */
static int64_t take_offset(Bench *b)
{
    int64_t offset = b->next_offset;

    if (offset >= b->length) {
        offset %= b->length;
    }
    if (offset > b->length - b->a->size) {
        offset = 0;
    }
    b->next_offset = offset + b->a->step;
    return offset;
}

static void coroutine_fn flush(Bench *b)
{
    int ret = blk_co_flush(b->blk);

    if (ret < 0) {
        fail(b, "Failed flush", ret);
    }
}

static bool interval_is_full(const Bench *b, int64_t n)
{
    return b->a->flush_interval && n % b->a->flush_interval == 0;
}

/* After a request has ended, its own included in b->finished. */
static void coroutine_fn flush_if_due(Bench *b)
{
    if (!interval_is_full(b, b->finished)) {
        return;
    }
    if (b->a->no_drain) {
        flush(b);
        return;
    }
    assert(b->in_flight == 0);
    b->in_flight++;
    flush(b);
    b->in_flight--;
    qemu_co_queue_restart_all(&b->barrier);
}

/* The flush of the last full interval comes first. */
static void coroutine_fn wait_for_flush(Bench *b)
{
    while (!b->a->no_drain && interval_is_full(b, b->started) &&
           b->in_flight > 0 && b->ret == 0) {
        qemu_co_queue_wait(&b->barrier, (void *)NULL);
    }
}

static void coroutine_fn worker_entry(void *opaque)
{
    Bench *b = opaque;
    const BenchArgs *a = b->a;
    void *buf = b->buffers + b->nr_workers++ * b->stride;

    for (;;) {
        int64_t offset;
        int ret;

        wait_for_flush(b);
        if (b->started == a->count || b->ret < 0) {
            break;
        }
        offset = take_offset(b);
        b->started++;
        b->in_flight++;
        ret = a->write ? blk_co_pwrite(b->blk, offset, a->size, buf, 0)
                       : blk_co_pread(b->blk, offset, a->size, buf, 0);
        b->in_flight--;
        b->finished++;
        if (ret < 0) {
            fail(b, "Failed request", ret);
            break;
        }
        flush_if_due(b);
    }
    qemu_co_queue_restart_all(&b->barrier);
    b->workers--;
}

static void run_workers(Bench *b)
{
    int64_t i;

    qemu_co_queue_init(&b->barrier);
    b->workers = b->a->depth;
    for (i = 0; i < b->a->depth; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(worker_entry, b));
    }
    while (b->workers) {
        aio_poll(qemu_get_aio_context(), true);
    }
}

static bool prepare(Bench *b)
{
    const BenchArgs *a = b->a;

    b->length = blk_getlength(b->blk);
    if (b->length < 0) {
        error_report("Failed to get size for '%s': %s", a->filename,
                     g_strerror(-b->length));
        return false;
    }
    if (b->length == 0 || b->length < a->size) {
        error_report("'%s' is smaller than one request", a->filename);
        return false;
    }
    if (a->offset > b->length - a->size) {
        error_report("offset %" PRId64 " leaves no room for a request",
                     a->offset);
        return false;
    }
    b->next_offset = a->offset;
    b->stride = ROUND_UP(MAX((size_t)a->size, 1),
                         bdrv_opt_mem_align(blk_bs(b->blk)));
    b->buffers = qemu_try_blockalign(blk_bs(b->blk), b->stride * a->depth);
    if (!b->buffers) {
        error_report("Could not allocate %" PRId64 " buffers of %" PRId64
                     " bytes", a->depth, a->size);
        return false;
    }
    memset(b->buffers, a->write ? a->pattern : 0, b->stride * a->depth);
    return true;
}

static int bench(BlockBackend *blk, const BenchArgs *a)
{
    Bench b = { .a = a, .blk = blk };
    int64_t start, ns;

    if (!prepare(&b)) {
        return 1;
    }
    if (!a->quiet) {
        printf("Sending %" PRId64 " %s requests, %" PRId64 " bytes each, %"
               PRId64 " in parallel (starting at offset %" PRId64
               ", step size %" PRId64 ")\n", a->count,
               a->write ? "write" : "read", a->size, a->depth, a->offset,
               a->step);
        if (a->flush_interval) {
            printf("Sending flush every %" PRId64 " requests\n",
                   a->flush_interval);
        }
        fflush(stdout);
    }
    start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    run_workers(&b);
    ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start;
    qemu_vfree(b.buffers);
    if (b.ret < 0) {
        return 1;
    }
    if (!a->quiet) {
        printf("Run completed in %.3f seconds.\n", ns / 1e9);
    }
    return 0;
}

/* False after a message. */
static bool parse_one(int c, BenchArgs *a)
{
    switch (c) {
    case 'c':
        a->count = img_parse_number("request count", optarg, 0, INT_MAX);
        return a->count >= 0;
    case 'd':
        a->depth = img_parse_number("queue depth", optarg, 1, INT_MAX);
        return a->depth >= 0;
    case 'o':
        a->offset = img_parse_size("offset", optarg, 0, INT64_MAX);
        return a->offset >= 0;
    case 's':
        a->size = img_parse_size("buffer size", optarg, 0, INT_MAX);
        return a->size >= 0;
    case 'S':
        a->step = img_parse_size("step size", optarg, 0, INT_MAX);
        return a->step >= 0;
    case OPTION_PATTERN:
        a->pattern = img_parse_number("pattern byte", optarg, 0, 0xff);
        return a->pattern >= 0;
    case OPTION_FLUSH_INTERVAL:
        a->flush_interval = img_parse_number("flush interval", optarg, 0,
                                             INT_MAX);
        return a->flush_interval >= 0;
    case 'i':
        if (!bdrv_parse_aio(optarg, &a->how.flags)) {
            error_report("Invalid aio option: %s", optarg);
            return false;
        }
        return true;
    case 't':
        return img_parse_cache("cache", optarg, &a->how.flags,
                               &a->how.writethrough);
    default:
        g_assert_not_reached();
    }
}

static bool parse_options(const ImgCmd *cmd, int argc, char **argv,
                          BenchArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "format", required_argument, NULL, 'f' },
        { "cache", required_argument, NULL, 't' },
        { "count", required_argument, NULL, 'c' },
        { "depth", required_argument, NULL, 'd' },
        { "offset", required_argument, NULL, 'o' },
        { "buffer-size", required_argument, NULL, 's' },
        { "step-size", required_argument, NULL, 'S' },
        { "write", no_argument, NULL, 'w' },
        { "pattern", required_argument, NULL, OPTION_PATTERN },
        { "flush-interval", required_argument, NULL, OPTION_FLUSH_INTERVAL },
        { "no-drain", no_argument, NULL, OPTION_NO_DRAIN },
        { "aio", required_argument, NULL, 'i' },
        { "native", no_argument, NULL, 'n' },
        { "force-share", no_argument, NULL, 'U' },
        { "quiet", no_argument, NULL, 'q' },
        {}
    };
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":hf:t:c:d:o:s:S:wi:nUq",
                           longopts, 1)) != -1) {
        switch (c) {
        case 'f':
            a->how.fmt = optarg;
            break;
        case OPTION_IMAGE_OPTS:
            a->how.image_opts = true;
            break;
        case 'w':
            a->write = true;
            a->how.flags |= BDRV_O_RDWR;
            break;
        case 'n':
            a->how.flags |= BDRV_O_NATIVE_AIO;
            break;
        case 'U':
            a->how.force_share = true;
            break;
        case 'q':
            a->quiet = true;
            break;
        case OPTION_NO_DRAIN:
            a->no_drain = true;
            break;
        default:
            if (!parse_one(c, a)) {
                return false;
            }
        }
    }
    return true;
}

static bool check_options(BenchArgs *a)
{
    if (!a->step) {
        a->step = a->size;
    }
    if (!a->write && a->flush_interval) {
        error_report("--flush-interval is only available in write tests");
        return false;
    }
    if (a->no_drain && !a->flush_interval) {
        error_report("--no-drain needs --flush-interval");
        return false;
    }
    if (a->flush_interval && a->flush_interval < a->depth) {
        error_report("Flush interval can't be smaller than depth");
        return false;
    }
    return true;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    BenchArgs a = { .count = 75000, .depth = 64, .size = 4096 };
    g_autoptr(BlockBackend) blk = NULL;

    if (!parse_options(cmd, argc, argv, &a)) {
        return 1;
    }
    if (optind != argc - 1) {
        img_usage_error(cmd, "Expecting one image file name");
    }
    a.filename = argv[optind];
    if (!check_options(&a)) {
        return 1;
    }
    blk = img_open(a.filename, &a.how);
    return blk ? bench(blk, &a) : 1;
}

const ImgCmd img_cmd_bench = {
    .name = "bench",
    .handler = run,
    .description = "Measure how fast requests on an image are",
    .usage = "[-f FMT | --image-opts] [-t CACHE] [-i AIO | -n]\n"
             "        [-c COUNT] [-d DEPTH] [-o OFFSET] [-s SIZE] [-S STEP]\n"
             "        [-w [--pattern BYTE] [--flush-interval COUNT "
             "[--no-drain]]]\n"
             "        [-q] [-U] [--object OBJDEF] FILE",
    .help =
        "  -f, --format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  -t, --cache CACHE\n"
        "     cache mode (default: writeback)\n"
        "  -i, --aio AIO\n"
        "     threads, native or io_uring\n"
        "  -n, --native\n"
        "     the same as -i native\n"
        "  -c, --count COUNT\n"
        "     requests in all (default: 75000)\n"
        "  -d, --depth DEPTH\n"
        "     requests in flight (default: 64)\n"
        "  -o, --offset OFFSET\n"
        "     where the first request starts (default: 0)\n"
        "  -s, --buffer-size SIZE\n"
        "     bytes of one request (default: 4k)\n"
        "  -S, --step-size STEP\n"
        "     from the start of one request to the start of the next\n"
        "     (default: SIZE); goes on at the start behind the end\n"
        "  -w, --write\n"
        "     write: this destroys what the image holds\n"
        "  --pattern BYTE\n"
        "     what to write (default: 0)\n"
        "  --flush-interval COUNT\n"
        "     flush after so many writes, when all of them have ended\n"
        "  --no-drain\n"
        "     flush without waiting for them\n"
        "  -q, --quiet\n"
        "     print nothing but errors\n"
        "  -U, --force-share\n"
        "     open the image even if somebody writes to it\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  FILE\n"
        "     name of the image\n",
};
