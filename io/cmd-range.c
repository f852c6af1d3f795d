/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-io: discard, alloc, map */
#include "util/osdep.h"
#include <getopt.h>
#include "block/block.h"
#include "io/io.h"

/* --- discard --- */

static int cmd_discard(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    IoReport report = { .op = "discard" };
    bool quiet = false;
    int64_t start;
    int c, ret;

    while ((c = getopt(argc, argv, "Cq")) != -1) {
        if (c == 'C') {
            report.machine = true;
        } else if (c == 'q') {
            quiet = true;
        } else {
            return io_usage(cmd);
        }
    }
    if (optind != argc - 2) {
        return io_usage(cmd);
    }
    report.offset = io_parse_size(argv[optind]);
    if (report.offset < 0) {
        return report.offset;
    }
    report.bytes = report.total = io_parse_size(argv[optind + 1]);
    if (report.bytes < 0) {
        return report.bytes;
    }
    if (report.bytes > BDRV_REQUEST_MAX_BYTES) {
        printf("length cannot exceed %lld, given %s\n", BDRV_REQUEST_MAX_BYTES,
               argv[optind + 1]);
        return -EINVAL;
    }
    start = io_now();
    ret = blk_pdiscard(io->blk, report.offset, report.bytes);
    report.ns = io_now() - start;
    if (ret < 0) {
        printf("discard failed: %s\n", g_strerror(-ret));
        return ret;
    }
    if (!quiet) {
        io_report(&report);
    }
    return 0;
}

/* --- alloc, map --- */

/*
 * Whether the range at @offset is allocated in the node itself, and for how
 * many bytes that holds; -errno.
 */
static int allocated_run(BlockDriverState *bs, int64_t offset, int64_t bytes,
                         int64_t *run)
{
    int64_t n;
    int first, ret;

    first = ret = bdrv_is_allocated(bs, offset, bytes, run);
    while (ret >= 0 && *run < bytes) {
        ret = bdrv_is_allocated(bs, offset + *run, bytes - *run, &n);
        if (ret != first || n == 0) {
            break;
        }
        *run += n;
    }
    return first;
}

static int cmd_alloc(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    int64_t length = blk_getlength(io->blk);
    int64_t start, count = BDRV_SECTOR_SIZE, pos, run, sum = 0;
    g_autofree char *text = NULL;
    int ret;

    start = io_parse_size(argv[1]);
    if (start < 0) {
        return start;
    }
    if (argc == 3) {
        count = io_parse_size(argv[2]);
        if (count < 0) {
            return count;
        }
    }
    if (length < 0) {
        printf("getlength: %s\n", g_strerror(-length));
        return length;
    }
    count = start < length ? MIN(count, length - start) : 0;

    for (pos = start; pos < start + count; pos += run) {
        ret = allocated_run(blk_bs(io->blk), pos, start + count - pos, &run);
        if (ret < 0) {
            printf("is_allocated failed: %s\n", g_strerror(-ret));
            return ret;
        }
        sum += ret ? run : 0;
    }
    text = io_size_text(start);
    printf("%" PRId64 "/%" PRId64 " bytes allocated at offset %s\n", sum, count,
           text);
    return 0;
}

static int cmd_map(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    int64_t length = blk_getlength(io->blk);
    int64_t pos, run;
    int ret;

    if (length < 0) {
        error_report("Failed to query image length: %s", g_strerror(-length));
        return length;
    }
    for (pos = 0; pos < length; pos += run) {
        g_autofree char *size = NULL, *where = NULL;

        ret = allocated_run(blk_bs(io->blk), pos, length - pos, &run);
        if (ret < 0) {
            error_report("Failed to get allocation status: %s",
                         g_strerror(-ret));
            return ret;
        }
        if (!run) {
            error_report("Unexpected end of image");
            return -EIO;
        }
        size = io_size_text(run);
        where = io_size_text(pos);
        printf("%s (0x%" PRIx64 ") bytes %s at offset %s (0x%" PRIx64 ")\n",
               size, run, ret ? "    allocated" : "not allocated", where, pos);
    }
    return 0;
}

const IoCommand io_range_commands[] = {
    {
        .name = "discard",
        .alias = "d",
        .handler = cmd_discard,
        .argmin = 2,
        .argmax = -1,
        .perm = BLK_PERM_WRITE,
        .args = "[-Cq] off len",
        .oneline = "discards a number of bytes at a specified offset",
        .help =
            "Tells that the data in a range of the open file is not needed.\n"
            "Example: 'discard 512 1k'.\n\n"
            " -C  report in a form for programs\n"
            " -q  do not report\n",
    },
    {
        .name = "alloc",
        .alias = "a",
        .handler = cmd_alloc,
        .argmin = 1,
        .argmax = 2,
        .args = "offset [count]",
        .oneline = "checks if offset is allocated in the file",
    },
    {
        .name = "map",
        .handler = cmd_map,
        .args = "",
        .oneline = "prints the allocated areas of a file",
    },
    {}
};
