/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-io: break, remove_break, resume, wait_break, for blkdebug nodes. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "io/io.h"
#include "util/aio.h"

/* The first node on the way down that has breakpoints; NULL if none has. */
static BlockDriverState *debug_node(Io *io)
{
    BlockDriverState *bs = blk_bs(io->blk);

    while (bs && !bs->drv->bdrv_debug_breakpoint) {
        bs = bdrv_primary_bs(bs);
    }
    return bs;
}

static int cmd_break(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    BlockDriverState *bs = debug_node(io);
    int ret = -ENOTSUP;

    if (bs) {
        ret = bs->drv->bdrv_debug_breakpoint(bs, argv[1], argv[2]);
    }
    if (ret < 0) {
        printf("Could not set breakpoint: %s\n", g_strerror(-ret));
    }
    return ret;
}

static int cmd_remove_break(Io *io, const IoCommand *cmd, int argc,
                            char **argv)
{
    BlockDriverState *bs = debug_node(io);
    int ret = -ENOTSUP;

    if (bs && bs->drv->bdrv_debug_remove_breakpoint) {
        ret = bs->drv->bdrv_debug_remove_breakpoint(bs, argv[1]);
    }
    if (ret < 0) {
        printf("Could not remove breakpoint %s: %s\n", argv[1],
               g_strerror(-ret));
    }
    return ret;
}

static int cmd_resume(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    BlockDriverState *bs = debug_node(io);
    int ret = -ENOTSUP;

    if (bs && bs->drv->bdrv_debug_resume) {
        ret = bs->drv->bdrv_debug_resume(bs, argv[1]);
    }
    if (ret < 0) {
        printf("Could not resume request: %s\n", g_strerror(-ret));
    }
    return ret;
}

static int cmd_wait_break(Io *io, const IoCommand *cmd, int argc, char **argv)
{
    BlockDriverState *bs = debug_node(io);

    if (!bs || !bs->drv->bdrv_debug_is_suspended) {
        printf("Could not wait for breakpoint: %s\n", g_strerror(ENOTSUP));
        return -ENOTSUP;
    }
    fflush(stdout);
    while (!bs->drv->bdrv_debug_is_suspended(bs, argv[1])) {
        aio_poll(qemu_get_aio_context(), true);
    }
    return 0;
}

const IoCommand io_break_commands[] = {
    {
        .name = "break",
        .handler = cmd_break,
        .argmin = 2,
        .argmax = 2,
        .args = "event tag",
        .oneline = "sets a breakpoint on event and tags the stopped request "
                   "as tag",
    },
    {
        .name = "remove_break",
        .handler = cmd_remove_break,
        .argmin = 1,
        .argmax = 1,
        .args = "tag",
        .oneline = "remove a breakpoint by tag",
    },
    {
        .name = "resume",
        .handler = cmd_resume,
        .argmin = 1,
        .argmax = 1,
        .args = "tag",
        .oneline = "resumes the request tagged as tag",
    },
    {
        .name = "wait_break",
        .handler = cmd_wait_break,
        .argmin = 1,
        .argmax = 1,
        .args = "tag",
        .oneline = "waits for the suspension of a request",
    },
    {}
};
