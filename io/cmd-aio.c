/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-io: aio_read, aio_write, aio_discard, aio_flush. The commands only
 * submit: what becomes of the request is told when it completes, and does not
 * count for the exit code.
 */
#include "util/osdep.h"
#include <getopt.h>
#include "io/io.h"
#include "util/aio.h"
#include "util/cutils.h"

typedef enum {
    AIO_READ,
    AIO_WRITE,
    AIO_ZEROES,
    AIO_DISCARD,
} AioKind;

/* One request, from its command to its completion. */
typedef struct AioRequest {
    Io *io;
    BlockBackend *blk;      /* a reference: the file may be closed meanwhile */
    AioKind kind;
    bool machine;           /* -C */
    bool quiet;
    bool dump;              /* -v */
    bool invalid;           /* -i */
    bool pattern_given;
    int pattern;
    BdrvRequestFlags flags;
    int64_t offset;
    int64_t bytes;
    QEMUIOVector qiov;
    void *buf;              /* NULL: no data, qiov is not used */
    int64_t start_ns;
    BlockAcctCookie acct;
} AioRequest;

static void aio_free(AioRequest *r)
{
    if (r->buf) {
        qemu_iovec_destroy(&r->qiov);
        io_free(r->io, r->buf);
    }
    blk_unref(r->blk);
    g_free(r);
}

/* --- completion --- */

static void complain(const AioRequest *r, int ret)
{
    static const char *const names[] = {
        [AIO_READ] = "aio_read",
        [AIO_WRITE] = "aio_write",
        [AIO_ZEROES] = "aio_write",
        [AIO_DISCARD] = "aio_discard",
    };

    printf("%s failed: %s\n", names[r->kind], g_strerror(-ret));
}

static void report(const AioRequest *r)
{
    static const char *const ops[] = {
        [AIO_READ] = "read",
        [AIO_WRITE] = "wrote",
        [AIO_ZEROES] = "wrote",
        [AIO_DISCARD] = "discarded ",
    };
    IoReport report = {
        .op = ops[r->kind],
        .offset = r->offset,
        .bytes = r->bytes,
        .total = r->bytes,
        .ns = io_now() - r->start_ns,
        .machine = r->machine,
    };

    if (r->kind == AIO_READ && r->pattern_given) {
        io_verify(r->buf, r->pattern, 0, r->bytes, r->offset);
    }
    if (r->quiet) {
        return;
    }
    if (r->dump) {
        qemu_hexdump(stdout, r->offset, r->buf, r->bytes);
    }
    io_report(&report);
}

static void aio_done(void *opaque, int ret)
{
    AioRequest *r = opaque;
    BlockAcctStats *stats = blk_get_stats(r->blk);

    if (ret < 0) {
        complain(r, ret);
        block_acct_failed(stats, &r->acct);
    } else {
        report(r);
        block_acct_done(stats, &r->acct);
    }
    fflush(stdout);
    r->io->aio_in_flight--;
    aio_free(r);
}

/* --- submission --- */

static BlockAcctType acct_type(AioKind kind)
{
    switch (kind) {
    case AIO_READ:
        return BLOCK_ACCT_READ;
    case AIO_DISCARD:
        return BLOCK_ACCT_UNMAP;
    default:
        return BLOCK_ACCT_WRITE;
    }
}

static void submit(AioRequest *r)
{
    r->io->aio_in_flight++;
    r->start_ns = io_now();
    block_acct_start(blk_get_stats(r->blk), &r->acct, r->bytes,
                     acct_type(r->kind));
    switch (r->kind) {
    case AIO_READ:
        blk_aio_preadv(r->blk, r->offset, &r->qiov, io_read_flags(r->io),
                       aio_done, r);
        break;
    case AIO_WRITE:
        blk_aio_pwritev(r->blk, r->offset, &r->qiov, r->flags, aio_done, r);
        break;
    case AIO_ZEROES:
        blk_aio_pwrite_zeroes(r->blk, r->offset, r->bytes, r->flags, aio_done,
                              r);
        break;
    case AIO_DISCARD:
        blk_aio_pdiscard(r->blk, r->offset, r->bytes, aio_done, r);
        break;
    }
}

/* -i: nothing is submitted, the statistics get an invalid request. */
static void inject_invalid(const AioRequest *r)
{
    block_acct_invalid(blk_get_stats(r->blk), acct_type(r->kind));
    if (!r->quiet) {
        printf("injecting invalid %s request\n",
               r->kind == AIO_READ ? "read" : "write");
    }
}

/* --- parsing --- */

static bool parse_option(AioRequest *r, int c)
{
    switch (c) {
    case 'C':
        r->machine = true;
        break;
    case 'f':
        r->flags |= BDRV_REQ_FUA;
        break;
    case 'i':
        r->invalid = true;
        break;
    case 'q':
        r->quiet = true;
        break;
    case 'u':
        r->flags |= BDRV_REQ_MAY_UNMAP;
        break;
    case 'v':
        r->dump = true;
        break;
    case 'z':
        r->kind = AIO_ZEROES;
        break;
    case 'P':
        r->pattern_given = true;
        r->pattern = io_parse_pattern(optarg);
        return r->pattern >= 0;
    }
    return true;
}

static const char *conflict(const AioRequest *r, int nr_lengths)
{
    if (r->kind == AIO_ZEROES && nr_lengths != 1) {
        return "-z supports only a single length parameter";
    }
    if ((r->flags & BDRV_REQ_MAY_UNMAP) && r->kind != AIO_ZEROES) {
        return "-u requires -z to be specified";
    }
    if (r->kind == AIO_ZEROES && r->pattern_given) {
        return "-z and -P cannot be specified at the same time";
    }
    return NULL;
}

/* Offset and lengths; makes the buffer. */
static bool parse_range(AioRequest *r, char **argv, int nr)
{
    int fill = r->kind == AIO_READ ? 0xab : r->pattern;

    r->offset = io_parse_size(argv[0]);
    if (r->offset < 0) {
        return false;
    }
    if (r->kind == AIO_READ || r->kind == AIO_WRITE) {
        r->buf = io_make_qiov(r->io, &r->qiov, argv + 1, nr - 1, fill);
        r->bytes = r->buf ? r->qiov.size : -1;
    } else {
        r->bytes = io_parse_size(argv[1]);
    }
    return r->bytes >= 0;
}

static int aio_command(Io *io, const IoCommand *cmd, int argc, char **argv,
                       AioKind kind, const char *optstring)
{
    AioRequest *r = g_new0(AioRequest, 1);
    const char *message;
    int c, ret = -EINVAL;

    r->io = io;
    r->blk = io->blk;
    r->kind = kind;
    r->pattern = 0xcd;
    blk_ref(r->blk);

    while ((c = getopt(argc, argv, optstring)) != -1) {
        if (c == '?') {
            io_usage(cmd);
            goto fail;
        }
        if (!parse_option(r, c)) {
            goto fail;
        }
    }
    if (optind > argc - 2 || (kind == AIO_DISCARD && optind != argc - 2)) {
        io_usage(cmd);
        goto fail;
    }
    message = conflict(r, argc - optind - 1);
    if (message) {
        printf("%s\n", message);
        goto fail;
    }
    if (r->invalid) {
        inject_invalid(r);
        ret = 0;
        goto fail;
    }
    if (!parse_range(r, argv + optind, argc - optind)) {
        goto fail;
    }
    submit(r);
    return 0;

fail:
    aio_free(r);
    return ret;
}

/* --- the commands --- */

static int cmd_aio_read(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    return aio_command(io, cmd, argc, argv, AIO_READ, "CP:iqv");
}

static int cmd_aio_write(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    return aio_command(io, cmd, argc, argv, AIO_WRITE, "CfiP:quz");
}

static int cmd_aio_discard(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    return aio_command(io, cmd, argc, argv, AIO_DISCARD, "Cq");
}

static int cmd_aio_flush(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    BlockAcctCookie cookie;

    block_acct_start(blk_get_stats(io->blk), &cookie, 0, BLOCK_ACCT_FLUSH);
    while (io->aio_in_flight) {
        aio_poll(qemu_get_aio_context(), true);
    }
    block_acct_done(blk_get_stats(io->blk), &cookie);
    return 0;
}

const IoCommand io_aio_commands[] = {
    {
        .name = "aio_read",
        .handler = cmd_aio_read,
        .argmin = 2,
        .argmax = -1,
        .args = "[-Ciqv] [-P pattern] off len [len..]",
        .oneline = "asynchronously reads a number of bytes",
        .help =
            "Starts reading a range of the open file; the report comes when the "
            "data\n"
            "does. 'aio_flush' waits for that. Once submitted the command "
            "counts as\n"
            "successful.\n"
            "Example: 'aio_read -v 512 1k 1k' reads into two buffers.\n\n"
            " -C  report in a form for programs\n"
            " -P  compare what is read with this byte\n"
            " -i  count an invalid request instead\n"
            " -q  do not report\n"
            " -v  dump the data\n",
    },
    {
        .name = "aio_write",
        .handler = cmd_aio_write,
        .argmin = 2,
        .argmax = -1,
        .perm = BLK_PERM_WRITE,
        .args = "[-Cfiquz] [-P pattern] off len [len..]",
        .oneline = "asynchronously writes a number of bytes",
        .help =
            "Starts writing a range of the open file; the report comes when it "
            "is\n"
            "done. 'aio_flush' waits for that. Once submitted the command "
            "counts as\n"
            "successful.\n"
            "Example: 'aio_write 512 1k 1k' writes from two buffers.\n\n"
            " -C  report in a form for programs\n"
            " -f  the data is on stable storage when it is reported\n"
            " -i  count an invalid request instead\n"
            " -P  fill with this byte\n"
            " -q  do not report\n"
            " -u  with -z: the range may be deallocated\n"
            " -z  write zeroes without data\n",
    },
    {
        .name = "aio_discard",
        .handler = cmd_aio_discard,
        .argmin = 2,
        .argmax = -1,
        .perm = BLK_PERM_WRITE,
        .args = "[-Cq] off len",
        .oneline = "asynchronously discards a number of bytes",
        .help =
            "Starts discarding a range of the open file; 'aio_flush' waits for "
            "it.\n"
            "Example: 'aio_discard 512 1k'.\n\n"
            " -C  report in a form for programs\n"
            " -q  do not report\n",
    },
    {
        .name = "aio_flush",
        .handler = cmd_aio_flush,
        .oneline = "completes all outstanding aio requests",
    },
    {}
};
