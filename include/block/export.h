/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exports: what all kinds have in common. A driver shows a BlockBackend to
 * clients in its own way; here are its id, its life, and the commands.
 *
 * Life. block-export-add makes an export with one reference, the user's.
 * Whatever serves a client holds another one. block-export-del takes the user's
 * back and asks the driver to stop; in safe mode only if it is the last. When no
 * reference is left, the driver's delete() runs in the main thread, the node is
 * given up, and BLOCK_EXPORT_DELETED is sent; until then the id is taken.
 *
 *   add --> user_owned --del--> shutting down --last unref--> deleted
 *
 * A driver adds itself by a line in block_export_drivers[] (block/export/export.c)
 * and a branch of BlockExportOptions with 'if': 'CONFIG_EXPORT_…'.
 *
 * Main thread, outside coroutines, unless it says any thread.
 */
#ifndef BLOCK_EXPORT_H
#define BLOCK_EXPORT_H

#include "block/block-backend.h"
#include "util/queue.h"

typedef struct BlockExport BlockExport;

typedef struct BlockExportDriver {
    BlockExportType type;
    size_t instance_size;       /* of a struct that starts with BlockExport */
    bool supports_multithread;  /* takes more than one IOThread */
    bool supports_inactive;     /* its clients can live with an inactive node */

    /*
     * Starts to serve. exp->id, exp->blk, exp->ctx, exp->writable are set; the
     * backend has CONSISTENT_READ, and WRITE if writable, and shares everything,
     * so that the length may change. @options is borrowed. False with @errp: nothing is left
     * running; delete() is not called.
     */
    bool (*create)(BlockExport *exp, BlockExportOptions *options,
                   Error **errp);
    /*
     * No new clients, and those that are there go; their references follow,
     * later from the event loop if need be. Called once.
     */
    void (*request_shutdown)(BlockExport *exp);
    /* Frees the driver's part; no client is left. */
    void (*delete)(BlockExport *exp);
} BlockExportDriver;

#ifdef CONFIG_EXPORT_FUSE
extern const BlockExportDriver blk_exp_fuse;
#endif
#ifdef CONFIG_EXPORT_VHOST_USER_BLK
extern const BlockExportDriver blk_exp_vhost_user_blk;
#endif

struct BlockExport {
    const BlockExportDriver *drv;
    char *id;
    BlockBackend *blk;
    bool writable;
    bool activated;             /* the node, in order to be added */

    /*
     * Where requests are to be served: ctx, or any of the threads. Fixed at
     * creation; without IOThread it is what the node says (block/home.h).
     */
    AioContext *ctx;
    GPtrArray *threads;         /* UserObject *; empty: the node's home */
    GPtrArray *homes;           /* the same: homes that clients may still be in */
    bool fixed_home;            /* and stays that */

    int refcount;               /* atomic */
    bool user_owned;            /* main thread */
    bool shutting_down;         /* main thread */
    QEMUTimer hurry;            /* while it shuts down */
    QLIST_ENTRY(BlockExport) next;
};

/* As block-export-add; NULL with @errp. The export stays this module's. */
BlockExport *blk_exp_add(BlockExportOptions *options, Error **errp);
BlockExport *blk_exp_find(const char *id);
/* NULL begins and ends. */
BlockExport *blk_exp_next(BlockExport *exp);
/* The loop of the @n-th thread (modulo their number), or of the node's home at this
 * time; it stays alive as long as the export. */
AioContext *blk_exp_thread_ctx(BlockExport *exp, unsigned n);

/* Any thread. The last unref deletes in the main loop, later. */
void blk_exp_ref(BlockExport *exp);
void blk_exp_unref(BlockExport *exp);

/* As block-export-del. */
bool blk_exp_del(const char *id, BlockExportRemoveMode mode, Error **errp);
/* Ends it as block-export-del with mode hard does; does not wait. */
void blk_exp_request_shutdown(BlockExport *exp);
/* Whether there is an export of this type (or of any, with @type -1). */
bool blk_exp_any(int type);
/* Shuts down all of this type (-1: all) and polls until they are gone. */
void blk_exp_close_all_type(int type);
void blk_exp_close_all(void);

/* The drivers. */
extern const BlockExportDriver blk_exp_nbd;

#endif
