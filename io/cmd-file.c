/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-io: open, close, reopen, flush, length, info, truncate */
#include "util/osdep.h"
#include <getopt.h>
#include "block/block_int.h"
#include "block/info.h"
#include "io/io.h"
#include "qobject/keyval.h"

/* --- open, close --- */

static int cmd_open(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    IoOpen how = IO_OPEN_DEFAULT;
    bool read_only = false;
    QDict *options = qdict_new();
    QDict *more;
    int c;

    while ((c = getopt(argc, argv, "snCro:ki:t:d:U")) != -1) {
        if (c == 'r') {
            read_only = true;
        } else if (c == 'o') {
            more = keyval_parse_opts(optarg, NULL, NULL);
            qdict_join(options, more, true);
            qdict_unref(more);
        } else if (c == '?') {
            qdict_unref(options);
            return io_usage(cmd);
        } else if (!io_open_option(&how, c, optarg)) {
            qdict_unref(options);
            return -EINVAL;
        }
    }
    if (!read_only) {
        how.flags |= BDRV_O_RDWR;
    }
    if (optind < argc - 1 || (optind == argc && !qdict_size(options))) {
        qdict_unref(options);
        return io_usage(cmd);
    }
    return io_open_file(io, optind < argc ? argv[optind] : NULL, options, &how);
}

static int cmd_close(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    blk_unref(io->blk);
    io->blk = NULL;
    return 0;
}

/* --- reopen --- */

typedef struct ReopenArgs {
    bool read_only;         /* -r */
    bool read_write;        /* -w */
    const char *cache;      /* -c */
    QDict *options;         /* -o */
} ReopenArgs;

/* Options of -r, -w and -c join those of -o; false after a message. */
static bool merge_reopen_options(BlockBackend *blk, ReopenArgs *a,
                                 bool *writethrough)
{
    int flags = 0;

    if (a->read_only || a->read_write) {
        if (qdict_haskey(a->options, "read-only")) {
            error_report("Cannot set both -r/-w and 'read-only'");
            return false;
        }
        qdict_put_str(a->options, "read-only", a->read_only ? "on" : "off");
    }
    *writethrough = !blk_enable_write_cache(blk);
    if (!a->cache) {
        return true;
    }
    if (!bdrv_parse_cache_mode(a->cache, &flags, writethrough)) {
        error_report("Invalid cache option: %s", a->cache);
        return false;
    }
    if (qdict_haskey(a->options, "cache.direct") ||
        qdict_haskey(a->options, "cache.no-flush")) {
        error_report("Cannot set both -c and the cache options");
        return false;
    }
    qdict_put_str(a->options, "cache.direct",
                  flags & BDRV_O_NOCACHE ? "on" : "off");
    qdict_put_str(a->options, "cache.no-flush",
                  flags & BDRV_O_NO_FLUSH ? "on" : "off");
    return true;
}

/* Takes over a->options. */
static int reopen(BlockBackend *blk, ReopenArgs *a, bool writethrough)
{
    const uint64_t writes = BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED |
                            BLK_PERM_RESIZE;
    uint64_t perm, shared;
    Error *err = NULL;
    int ret;

    blk_get_perm(blk, &perm, &shared);
    if (a->read_only) {
        /* A read-only node has no writers; commands ask again. */
        blk_set_perm(blk, perm & ~writes, shared, &error_abort);
    }
    ret = bdrv_reopen(blk_bs(blk), a->options, true, &err);
    if (ret < 0) {
        error_report_err(err);
        if (a->read_only && !blk_set_perm(blk, perm, shared, &err)) {
            error_reportf_err(err, "Could not get the permissions back: ");
        }
        return ret;
    }
    blk_set_enable_write_cache(blk, !writethrough);
    return 0;
}

static int cmd_reopen(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    ReopenArgs a = { .options = qdict_new() };
    bool writethrough;
    QDict *more;
    int c, ret = -EINVAL;

    while ((c = getopt(argc, argv, "c:o:rw")) != -1) {
        switch (c) {
        case 'c':
            a.cache = optarg;
            break;
        case 'o':
            more = keyval_parse_opts(optarg, NULL, NULL);
            qdict_join(a.options, more, true);
            qdict_unref(more);
            break;
        case 'r':
            a.read_only = true;
            break;
        case 'w':
            a.read_write = true;
            break;
        default:
            ret = io_usage(cmd);
            goto out;
        }
    }
    if (optind != argc) {
        ret = io_usage(cmd);
    } else if (a.read_only && a.read_write) {
        error_report("Only one -r/-w option may be given");
    } else if (merge_reopen_options(io->blk, &a, &writethrough)) {
        ret = reopen(io->blk, &a, writethrough);
        a.options = NULL;
    }
out:
    qdict_unref(a.options);
    return ret;
}

/* --- the file as a whole --- */

static int cmd_flush(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    int ret = blk_flush(io->blk);

    if (ret < 0) {
        error_report("flush failed: %s", g_strerror(-ret));
    }
    return ret;
}

static int cmd_length(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    int64_t size = blk_getlength(io->blk);
    g_autofree char *text = NULL;

    if (size < 0) {
        printf("getlength: %s\n", g_strerror(-size));
        return size;
    }
    text = io_size_text(size);
    printf("%s\n", text);
    return 0;
}

static int cmd_info(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(io->blk);
    g_autofree char *cluster = NULL, *vm_state = NULL;
    BlockDriverInfo bdi = { 0 };
    ImageInfoSpecific *specific;
    Error *err = NULL;
    GString *text;
    int ret;

    printf("format name: %s\n", bdrv_get_format_name(bs));
    if (bs->drv->protocol_name) {
        printf("format name: %s\n", bs->drv->protocol_name);
    }
    ret = bdrv_get_info(bs, &bdi);
    if (ret < 0) {
        return ret;
    }
    cluster = io_size_text(bdi.cluster_size);
    vm_state = io_size_text(bdi.vm_state_offset);
    printf("cluster size: %s\nvm state offset: %s\n", cluster, vm_state);

    specific = bdrv_get_specific_info(bs, &err);
    if (err) {
        error_report_err(err);
        return -EIO;
    }
    text = g_string_new(NULL);
    bdrv_image_info_specific_text(text, specific, "Format specific information",
                                  0);
    fputs(text->str, stdout);
    g_string_free(text, TRUE);
    qapi_free_ImageInfoSpecific(specific);
    return 0;
}

static int cmd_truncate(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    int prealloc = PREALLOC_MODE_OFF;
    Error *err = NULL;
    int64_t size;
    int c, ret;

    while ((c = getopt(argc, argv, "m:")) != -1) {
        if (c != 'm') {
            return io_usage(cmd);
        }
        prealloc = qapi_enum_parse(&PreallocMode_lookup, optarg, -1, NULL);
        if (prealloc < 0) {
            error_report("Invalid preallocation mode '%s'", optarg);
            return -EINVAL;
        }
    }
    if (optind != argc - 1) {
        return io_usage(cmd);
    }
    size = io_parse_size(argv[optind]);
    if (size < 0) {
        return size;
    }
    ret = blk_truncate(io->blk, size, true, prealloc, 0, &err);
    if (ret < 0) {
        error_report_err(err);
    }
    return ret;
}

const IoCommand io_file_commands[] = {
    {
        .name = "open",
        .alias = "o",
        .handler = cmd_open,
        .argmin = 1,
        .argmax = -1,
        .no_file = true,
        .args = "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
        .oneline = "open the file specified by path",
        .help =
            "Opens a file, by its name or by options alone, for all commands "
            "that follow.\n"
            "Example: 'open -n -o driver=raw /tmp/data' opens a raw image, "
            "uncached.\n\n"
            " -r  read-only\n"
            " -s  keep what is written in a temporary file\n"
            " -C  copy on read\n"
            " -n  without the host's cache, as -t none\n"
            " -U  even if others write to it\n"
            " -k  with Linux native AIO, as -i native\n"
            " -i  AIO mode: threads, native, io_uring\n"
            " -t  cache mode\n"
            " -d  discard mode: ignore, unmap\n"
            " -o  options of the node, NAME=VALUE,...\n",
    },
    {
        .name = "close",
        .alias = "c",
        .handler = cmd_close,
        .oneline = "close the current open file",
    },
    {
        .name = "reopen",
        .handler = cmd_reopen,
        .argmax = -1,
        .args = "[(-r|-w)] [-c cache] [-o options]",
        .oneline = "reopens an image with new options",
        .help =
            "Changes options of the open file; those not named stay.\n"
            "Example: 'reopen -o lazy-refcounts=on' for a qcow2 image.\n\n"
            " -r  make it read-only\n"
            " -w  make it writable\n"
            " -c  cache mode\n"
            " -o  options of the node, NAME=VALUE,...\n",
    },
    {
        .name = "flush",
        .alias = "f",
        .handler = cmd_flush,
        .oneline = "flush all in-core file state to disk",
    },
    {
        .name = "length",
        .alias = "l",
        .handler = cmd_length,
        .oneline = "gets the length of the current file",
    },
    {
        .name = "info",
        .alias = "i",
        .handler = cmd_info,
        .oneline = "prints information about the current file",
    },
    {
        .name = "truncate",
        .alias = "t",
        .handler = cmd_truncate,
        .argmin = 1,
        .argmax = 3,
        .perm = BLK_PERM_WRITE | BLK_PERM_RESIZE,
        .args = "[-m prealloc_mode] off",
        .oneline = "truncates the current file at the given offset",
    },
    {}
};
