/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs on nodes: a Job (block/job.h) that holds nodes and claims, has a speed
 * and policies for errors, and tells QEMU's BLOCK_JOB_* events.
 *
 * It takes its nodes, permissions and claims when it is created and keeps them
 * until its end has been committed or aborted. Main thread.
 */
#ifndef BLOCK_BLOCKJOB_H
#define BLOCK_BLOCKJOB_H

#include "block/block.h"
#include "block/claim.h"
#include "block/job.h"

typedef struct BlockJob BlockJob;

typedef struct BlockJobDriver {
    JobDriver job_driver;
    /* Bytes a second, 0 for no limit; also before the start. */
    void (*set_speed)(BlockJob *job, int64_t speed);
} BlockJobDriver;

struct BlockJob {
    Job job;
    int64_t speed;
    BlockDeviceIoStatus iostatus;
    /* "commit job 'job0'"; every claim of the job is its. */
    BdrvClaimOwner *owner;
    GPtrArray *edges;           /* of BdrvChild, to nodes that it holds */
    QTAILQ_ENTRY(BlockJob) next;
};

typedef struct BlockJobOptions {
    const char *id;             /* NULL: an error */
    JobTxn *txn;                /* NULL: one of its own */
    int64_t speed;              /* negative: an error */
    bool manual_finalize;
    bool manual_dismiss;
    JobEndedFunc *cb;
    void *opaque;
} BlockJobOptions;

/*
 * A job without nodes in state "created". NULL with @errp. On a failure after
 * that: job_early_fail(), which gives back nodes and claims.
 */
BlockJob *block_job_create(const BlockJobDriver *driver,
                           const BlockJobOptions *options, Error **errp);
/*
 * The job needs @bs, whose edge is called @name: it lives as long as the job,
 * and graphs show it. Permissions as bdrv_root_attach_child() has them.
 */
bool block_job_add_bdrv(BlockJob *job, const char *name, BlockDriverState *bs,
                        uint64_t perm, uint64_t shared, Error **errp);
/* Gives back all nodes and claims; the job's end does so by itself. */
void block_job_release(BlockJob *job);

/* "Block job 'ID' not found", of class DeviceNotActive. */
BlockJob *block_job_find(const char *id, Error **errp);
/* Newest first; NULL starts and ends. */
BlockJob *block_job_next(BlockJob *job);
BlockJobInfo *block_job_query(const BlockJob *job);
void block_job_set_speed(BlockJob *job, int64_t speed, Error **errp);

/* For BlockJobDriver.job_driver: what every block job does there, if no more. */
void block_job_user_resume(Job *job);
void block_job_free(Job *job);

/*
 * A request failed with @error (-errno): tells the user, and what @policy says
 * to do. With BLOCK_ERROR_ACTION_STOP the job has been asked to pause.
 */
BlockErrorAction block_job_error_action(BlockJob *job, BlockdevOnError policy,
                                        bool is_read, int error);

/* --- kinds of jobs --- */

/*
 * block-commit: a job, to be started or discarded, that writes what is above
 * @base, from @top down, into @base and drops those nodes. @top has a node above it
 * that uses it as its backing file or filters it. NULL with @errp.
 */
typedef struct CommitOptions {
    BlockJobOptions job;
    BlockDriverState *top;
    BlockDriverState *base;     /* below top */
    const char *backing_file;   /* for headers; NULL: base's file name */
    bool mask_protocol;         /* "raw" instead of the name of a protocol */
    BlockdevOnError on_error;
    const char *filter_node_name;   /* NULL: generated */
} CommitOptions;
Job *commit_new(const CommitOptions *options, Error **errp);

/* Whether the parent of @edge is a job; its id goes to *@id (borrowed). */
bool block_job_is_parent(const BdrvChild *edge, const char **id);

#endif
