/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-io: write, writev */
#include "util/osdep.h"
#include <getopt.h>
#include "block/block_int.h"
#include "io/io.h"

#define DEFAULT_PATTERN 0xcd

typedef struct WriteArgs {
    bool machine;           /* -C */
    bool quiet;
    bool vmstate;           /* -b */
    bool compressed;        /* -c */
    bool zero;              /* -z */
    bool pattern_given;
    int pattern;
    const char *source;     /* -s */
    BdrvRequestFlags flags;
    int64_t offset;
    int64_t bytes;
} WriteArgs;

/* --- machine state --- */

typedef struct VmstateWrite {
    BlockDriverState *bs;
    QEMUIOVector qiov;
    int64_t pos;
} VmstateWrite;

static int coroutine_fn save_vmstate(void *opaque)
{
    VmstateWrite *w = opaque;

    if (!w->bs->drv->bdrv_co_save_vmstate) {
        return -ENOTSUP;
    }
    return w->bs->drv->bdrv_co_save_vmstate(w->bs, &w->qiov, w->pos);
}

/* --- writing --- */

static int do_write(Io *io, const WriteArgs *a, void *buf)
{
    if (a->vmstate) {
        VmstateWrite w = { .bs = blk_bs(io->blk), .pos = a->offset };

        qemu_iovec_init_buf(&w.qiov, buf, a->bytes);
        return bdrv_run_co(save_vmstate, &w);
    }
    if (a->zero) {
        return blk_pwrite_zeroes(io->blk, a->offset, a->bytes, a->flags);
    }
    if (a->compressed) {
        return blk_pwrite_compressed(io->blk, a->offset, a->bytes, buf);
    }
    return blk_pwrite(io->blk, a->offset, a->bytes, buf, a->flags);
}

static int write_done(const WriteArgs *a, int ret, int64_t ns)
{
    IoReport report = {
        .op = "wrote",
        .offset = a->offset,
        .bytes = a->bytes,
        .total = a->bytes,
        .ns = ns,
        .machine = a->machine,
    };

    if (ret < 0) {
        printf("write failed: %s\n", g_strerror(-ret));
        return ret;
    }
    if (!a->quiet) {
        io_report(&report);
    }
    return 0;
}

static int write_and_report(Io *io, const WriteArgs *a)
{
    void *buf = NULL;
    int64_t start;
    int ret;

    if (a->source) {
        buf = io_alloc_from_file(io, a->bytes, a->source);
        if (!buf) {
            return -EINVAL;
        }
    } else if (!a->zero) {
        buf = io_alloc(io, a->bytes, a->pattern);
    }
    start = io_now();
    ret = do_write(io, a, buf);
    ret = write_done(a, ret, io_now() - start);
    io_free(io, buf);
    return ret;
}

/* --- write --- */

static bool parse_option(WriteArgs *a, int c)
{
    switch (c) {
    case 'b':
        a->vmstate = true;
        break;
    case 'c':
        a->compressed = true;
        break;
    case 'C':
        a->machine = true;
        break;
    case 'f':
        a->flags |= BDRV_REQ_FUA;
        break;
    case 'n':
        a->flags |= BDRV_REQ_NO_FALLBACK;
        break;
    case 'p':
        break; /* of old versions, without a meaning */
    case 'q':
        a->quiet = true;
        break;
    case 'u':
        a->flags |= BDRV_REQ_MAY_UNMAP;
        break;
    case 'z':
        a->zero = true;
        break;
    case 's':
        a->source = optarg;
        break;
    case 'P':
        a->pattern_given = true;
        a->pattern = io_parse_pattern(optarg);
        return a->pattern >= 0;
    }
    return true;
}

static const char *conflict(const WriteArgs *a)
{
    if (a->vmstate && a->zero) {
        return "-b and -z cannot be specified at the same time";
    }
    if ((a->flags & BDRV_REQ_FUA) && (a->vmstate || a->compressed)) {
        return "-f and -b or -c cannot be specified at the same time";
    }
    if ((a->flags & BDRV_REQ_NO_FALLBACK) && !a->zero) {
        return "-n requires -z to be specified";
    }
    if ((a->flags & BDRV_REQ_MAY_UNMAP) && !a->zero) {
        return "-u requires -z to be specified";
    }
    if (a->zero + a->pattern_given + (a->source != NULL) > 1) {
        return "Only one of -z, -P, and -s can be specified at the same time";
    }
    return NULL;
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

static bool parse_range(WriteArgs *a, char **argv)
{
    a->offset = io_parse_size(argv[0]);
    if (a->offset < 0) {
        return false;
    }
    a->bytes = io_parse_size(argv[1]);
    if (a->bytes < 0) {
        return false;
    }
    if (a->bytes > BDRV_REQUEST_MAX_BYTES &&
        !(a->flags & BDRV_REQ_NO_FALLBACK)) {
        printf("length cannot exceed %lld without -n, given %s\n",
               BDRV_REQUEST_MAX_BYTES, argv[1]);
        return false;
    }
    return !(a->vmstate || a->compressed) ||
           (is_sector_aligned(a->offset, "offset") &&
            is_sector_aligned(a->bytes, "count"));
}

static int cmd_write(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    WriteArgs a = { .pattern = DEFAULT_PATTERN };
    const char *message;
    int c;

    while ((c = getopt(argc, argv, "bcCfnpP:qs:uz")) != -1) {
        if (c == '?') {
            return io_usage(cmd);
        }
        if (!parse_option(&a, c)) {
            return -EINVAL;
        }
    }
    if (optind != argc - 2) {
        return io_usage(cmd);
    }
    message = conflict(&a);
    if (message) {
        printf("%s\n", message);
        return -EINVAL;
    }
    if (!parse_range(&a, argv + optind)) {
        return -EINVAL;
    }
    return write_and_report(io, &a);
}

/* --- writev --- */

static int cmd_writev(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    WriteArgs a = { .pattern = DEFAULT_PATTERN };
    QEMUIOVector qiov;
    int64_t start;
    void *buf;
    int c, ret;

    while ((c = getopt(argc, argv, "CfP:q")) != -1) {
        if (c == '?') {
            return io_usage(cmd);
        }
        if (!parse_option(&a, c)) {
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
    buf = io_make_qiov(io, &qiov, argv + optind, argc - optind, a.pattern);
    if (!buf) {
        return -EINVAL;
    }
    a.bytes = qiov.size;
    start = io_now();
    ret = blk_pwritev(io->blk, a.offset, qiov.size, &qiov, a.flags);
    ret = write_done(&a, ret, io_now() - start);
    qemu_iovec_destroy(&qiov);
    io_free(io, buf);
    return ret;
}

const IoCommand io_write_commands[] = {
    {
        .name = "write",
        .alias = "w",
        .handler = cmd_write,
        .argmin = 2,
        .argmax = -1,
        .perm = BLK_PERM_WRITE,
        .args = "[-bcCfnquz] [-P pattern | -s source_file] off len",
        .oneline = "writes a number of bytes at a specified offset",
        .help =
            "Writes a range of the open file in one request, filled with 0xcd.\n"
            "Example: 'write -P 7 512 1k' fills two sectors with sevens.\n\n"
            " -b  write the saved machine state, not the disk\n"
            " -c  write compressed\n"
            " -C  report in a form for programs\n"
            " -f  the data is on stable storage when the command returns\n"
            " -z  write zeroes without data\n"
            " -u  with -z: the range may be deallocated\n"
            " -n  with -z: fail rather than write a buffer of zeroes\n"
            " -P  fill with this byte\n"
            " -s  fill with the content of a file, repeated\n"
            " -q  do not report\n"
            " -p  has no effect\n",
    },
    {
        .name = "writev",
        .handler = cmd_writev,
        .argmin = 2,
        .argmax = -1,
        .perm = BLK_PERM_WRITE,
        .args = "[-Cfq] [-P pattern] off len [len..]",
        .oneline = "writes a number of bytes at a specified offset",
        .help =
            "Writes several buffers to a range of the open file in one "
            "request.\n"
            "Example: 'writev 512 1k 1k' writes 2 KiB from two buffers.\n\n"
            " -C  report in a form for programs\n"
            " -f  the data is on stable storage when the command returns\n"
            " -P  fill with this byte\n"
            " -q  do not report\n",
    },
    {}
};
