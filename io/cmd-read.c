/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-io: read, readv */
#include "util/osdep.h"
#include <getopt.h>
#include "block/block_int.h"
#include "io/io.h"
#include "util/cutils.h"

typedef struct ReadArgs {
    bool machine;           /* -C */
    bool quiet;
    bool dump;              /* -v */
    bool vmstate;           /* -b */
    int pattern;            /* -P; -1: none */
    int64_t verify_offset;  /* -s; -1: not given */
    int64_t verify_bytes;   /* -l; -1: not given */
    int64_t offset;
    int64_t bytes;
} ReadArgs;

/* --- machine state --- */

typedef struct VmstateRead {
    BlockDriverState *bs;
    QEMUIOVector *qiov;
    int64_t pos;
} VmstateRead;

static int coroutine_fn load_vmstate(void *opaque)
{
    VmstateRead *r = opaque;

    if (!r->bs->drv->bdrv_co_load_vmstate) {
        return -ENOTSUP;
    }
    return r->bs->drv->bdrv_co_load_vmstate(r->bs, r->qiov, r->pos);
}

static int do_read(Io *io, const ReadArgs *a, QEMUIOVector *qiov)
{
    VmstateRead r = { blk_bs(io->blk), qiov, a->offset };

    return a->vmstate ? bdrv_run_co(load_vmstate, &r)
                      : blk_preadv(io->blk, a->offset, qiov->size, qiov,
                                   io_read_flags(io));
}

/* Reads into @qiov over @buf, verifies, dumps, reports. */
static int read_and_report(Io *io, const ReadArgs *a, QEMUIOVector *qiov,
                           const void *buf)
{
    int64_t start = io_now();
    int ret = do_read(io, a, qiov);
    int64_t ns = io_now() - start;
    IoReport report = {
        .op = "read",
        .offset = a->offset,
        .bytes = qiov->size,
        .total = qiov->size,
        .ns = ns,
        .machine = a->machine,
    };

    if (ret < 0) {
        printf("read failed: %s\n", g_strerror(-ret));
        return ret;
    }
    ret = 0;
    if (a->pattern >= 0 &&
        !io_verify(buf, a->pattern, MAX(a->verify_offset, 0),
                   a->verify_bytes, a->offset)) {
        ret = -EINVAL;
    }
    if (a->quiet) {
        return ret;
    }
    if (a->dump) {
        qemu_hexdump(stdout, a->offset, buf, qiov->size);
    }
    io_report(&report);
    return ret;
}

/* --- read --- */

static bool parse_read_option(ReadArgs *a, int c)
{
    switch (c) {
    case 'a':
    case 'p':
        return true; /* of old versions, without a meaning */
    case 'b':
        a->vmstate = true;
        return true;
    case 'C':
        a->machine = true;
        return true;
    case 'q':
        a->quiet = true;
        return true;
    case 'v':
        a->dump = true;
        return true;
    case 'P':
        a->pattern = io_parse_pattern(optarg);
        return a->pattern >= 0;
    case 'l':
        a->verify_bytes = io_parse_size(optarg);
        return a->verify_bytes >= 0;
    case 's':
        a->verify_offset = io_parse_size(optarg);
        return a->verify_offset >= 0;
    }
    return false;
}

static bool is_sector_aligned(int64_t value, const char *what)
{
    if (value % BDRV_SECTOR_SIZE) {
        printf("%" PRId64 " is not a sector-aligned value for '%s'\n", value,
               what);
        return false;
    }
    return true;
}

/* Offset and length of read, and what depends on them. */
static bool parse_read_range(ReadArgs *a, char **argv)
{
    a->offset = io_parse_size(argv[0]);
    if (a->offset < 0) {
        return false;
    }
    a->bytes = io_parse_size(argv[1]);
    if (a->bytes < 0) {
        return false;
    }
    if (a->bytes > BDRV_REQUEST_MAX_BYTES) {
        printf("length cannot exceed %lld, given %s\n", BDRV_REQUEST_MAX_BYTES,
               argv[1]);
        return false;
    }
    if (a->verify_bytes < 0) {
        a->verify_bytes = a->bytes - MAX(a->verify_offset, 0);
    }
    if (a->verify_bytes < 0 ||
        a->verify_bytes > a->bytes - MAX(a->verify_offset, 0)) {
        printf("pattern verification range exceeds end of read data\n");
        return false;
    }
    return !a->vmstate || (is_sector_aligned(a->offset, "offset") &&
                           is_sector_aligned(a->bytes, "count"));
}

static int cmd_read(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    ReadArgs a = { .pattern = -1, .verify_offset = -1, .verify_bytes = -1 };
    QEMUIOVector qiov;
    void *buf;
    int c, ret;

    while ((c = getopt(argc, argv, "abCl:pP:qs:v")) != -1) {
        if (c == '?') {
            return io_usage(cmd);
        }
        if (!parse_read_option(&a, c)) {
            return -EINVAL;
        }
    }
    if (optind != argc - 2 ||
        (a.pattern < 0 && (a.verify_offset >= 0 || a.verify_bytes >= 0))) {
        return io_usage(cmd);
    }
    if (!parse_read_range(&a, argv + optind)) {
        return -EINVAL;
    }
    buf = io_alloc(io, a.bytes, 0xab);
    qemu_iovec_init_buf(&qiov, buf, a.bytes);
    ret = read_and_report(io, &a, &qiov, buf);
    io_free(io, buf);
    return ret;
}

/* --- readv --- */

static int cmd_readv(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    ReadArgs a = { .pattern = -1, .verify_offset = -1 };
    QEMUIOVector qiov;
    void *buf;
    int c, ret;

    while ((c = getopt(argc, argv, "CP:qv")) != -1) {
        if (c == '?') {
            return io_usage(cmd);
        }
        if (!parse_read_option(&a, c)) {
            return -EINVAL;
        }
    }
    if (optind > argc - 2) {
        return io_usage(cmd);
    }
    a.offset = io_parse_size(argv[optind]);
    if (a.offset < 0) {
        return -EINVAL;
    }
    optind++;
    buf = io_make_qiov(io, &qiov, argv + optind, argc - optind, 0xab);
    if (!buf) {
        return -EINVAL;
    }
    a.verify_bytes = qiov.size;
    ret = read_and_report(io, &a, &qiov, buf);
    qemu_iovec_destroy(&qiov);
    io_free(io, buf);
    return ret;
}

const IoCommand io_read_commands[] = {
    {
        .name = "read",
        .alias = "r",
        .handler = cmd_read,
        .argmin = 2,
        .argmax = -1,
        .args = "[-abCqv] [-P pattern [-s off] [-l len]] off len",
        .oneline = "reads a number of bytes at a specified offset",
        .help =
            "Reads a range of the open file in one request.\n"
            "Example: 'read -v 512 1k' shows the second and third sector.\n\n"
            " -b  read the saved machine state, not the disk\n"
            " -C  report in a form for programs\n"
            " -P  compare what is read with this byte\n"
            " -s  with -P: start comparing at this offset in the data\n"
            " -l  with -P: compare so many bytes\n"
            " -q  do not report\n"
            " -v  dump the data\n"
            " -a, -p  have no effect\n",
    },
    {
        .name = "readv",
        .handler = cmd_readv,
        .argmin = 2,
        .argmax = -1,
        .args = "[-Cqv] [-P pattern] off len [len..]",
        .oneline = "reads a number of bytes at a specified offset",
        .help =
            "Reads a range of the open file into several buffers in one "
            "request.\n"
            "Example: 'readv -v 512 1k 1k' reads into two buffers of 1 KiB.\n\n"
            " -C  report in a form for programs\n"
            " -P  compare what is read with this byte\n"
            " -q  do not report\n"
            " -v  dump the data\n",
    },
    {}
};
