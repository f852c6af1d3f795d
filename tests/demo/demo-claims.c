/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * demo-claims BASE MID TOP: shows on three images, each the backing file of the
 * next, how claims protect the edges of the graph.
 *
 * Exits with 0 only if every change was allowed or refused as it must be.
 */
#include "util/osdep.h"
#include "block/block-backend.h"
#include "block/claim.h"
#include "block/graph.h"
#include "qobject/qdict.h"

static BlockDriverState *open_node(const char *file, const char *name,
                                   const char *backing)
{
    g_autoptr(QDict) file_opts = qdict_new();
    QDict *opts = qdict_new();

    qdict_put_str(file_opts, "driver", "file");
    qdict_put_str(file_opts, "filename", file);
    qdict_put_str(opts, "node-name", name);
    if (!backing) {
        qdict_put_str(opts, "driver", "raw");
    } else {
        qdict_put_str(opts, "driver", "qcow2");
        qdict_put_str(opts, "backing", backing);
    }
    qdict_put(opts, "file", g_steal_pointer(&file_opts));
    return bdrv_open(NULL, NULL, opts, 0, &error_fatal);
}

/* Prints what came of a change; true if it was as @expected. */
static bool outcome(const char *what, bool done, bool expected, Error *err)
{
    printf("  %s: %s\n", what, done ? "done" : "refused");
    if (err) {
        printf("      %s\n", error_get_pretty(err));
        error_free(err);
    }
    if (done != expected) {
        printf("  THIS IS WRONG\n");
    }
    return done == expected;
}

static bool drop_backing(BlockDriverState *bs, const char *what, bool expected)
{
    Error *err = NULL;
    bool done = bdrv_set_backing_hd(bs, NULL, NULL, &err);

    return outcome(what, done, expected, err);
}

static bool run(BlockDriverState *top, BlockDriverState *mid,
                BlockDriverState *base)
{
    BdrvClaimOwner *commit = bdrv_claim_owner_new("commit job 'job0'");
    BdrvClaimOwner *stream = bdrv_claim_owner_new("stream job 'job1'");
    BdrvClaimOwner *other = bdrv_claim_owner_new("commit job 'job2'");
    BlockBackend *reader;
    Error *err = NULL;
    bool good = true;
    bool done;

    bdrv_chain_claim(commit, top, base, BDRV_CLAIM_FREEZE, &error_fatal);
    printf("  commit job 'job0' freezes top -> mid -> base\n");
    good &= drop_backing(mid, "drop the backing file of mid", false);

    reader = blk_new_with_bs(base, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                             &err);
    good &= outcome("somebody else reads base", reader, true, err);
    err = NULL;

    done = bdrv_chain_claim(stream, top, base, BDRV_CLAIM_FREEZE, &err);
    good &= outcome("stream job 'job1' freezes the same edges", done, true,
                    err);
    err = NULL;
    done = bdrv_chain_claim(other, top, base, BDRV_CLAIM_CHANGE, &err);
    good &= outcome("commit job 'job2' wants to change them", done, false,
                    err);

    bdrv_claim_owner_free(other);
    bdrv_claim_owner_free(commit);
    printf("  job0 ends; job1 still holds its claim\n");
    good &= drop_backing(mid, "drop the backing file of mid", false);
    bdrv_claim_owner_free(stream);
    printf("  job1 ends\n");
    good &= drop_backing(mid, "drop the backing file of mid", true);
    blk_unref(reader);
    return good;
}

int main(int argc, char **argv)
{
    BlockDriverState *base, *mid, *top;
    bool good;

    if (argc != 4) {
        fprintf(stderr, "usage: demo-claims BASE MID TOP\n");
        return 2;
    }
    qemu_init_main_loop(&error_fatal);
    bdrv_init();
    base = open_node(argv[1], "base", NULL);
    mid = open_node(argv[2], "mid", "base");
    top = open_node(argv[3], "top", "mid");

    good = run(top, mid, base);
    bdrv_unref(top);
    bdrv_unref(mid);
    bdrv_unref(base);
    bdrv_close_all();
    return good ? 0 : 1;
}
