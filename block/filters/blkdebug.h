/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of blkdebug: rules that wait for events of the layers above.
 */
#ifndef BLOCK_FILTERS_BLKDEBUG_H
#define BLOCK_FILTERS_BLKDEBUG_H

#include "block/block_int.h"
#include "util/thread.h"

/*
 * All rules of a node, its state, and the requests that are suspended.
 *
 * - A rule takes effect when its event happens while the node is in the
 *   rule's state (0: any); the state is 1 at first.
 * - An inject-error rule that takes effect is armed: it then fails the requests
 *   it matches. The first one armed by an event disarms those of earlier
 *   events.
 * - A set-state rule changes the state after all rules for that event were
 *   looked at.
 * - A breakpoint suspends the request in which the event happens, once.
 *
 * Everything is under the lock, which is never held across a yield. Functions
 * may be called in any thread.
 */
typedef struct BlkdebugRule BlkdebugRule;
typedef struct BlkdebugSuspended BlkdebugSuspended;

typedef struct BlkdebugRules {
    QemuMutex lock;
    int64_t state;
    QTAILQ_HEAD(, BlkdebugRule) rules;
    QLIST_HEAD(, BlkdebugRule) armed;
    QLIST_HEAD(, BlkdebugSuspended) suspended;
} BlkdebugRules;

void blkdebug_rules_init(BlkdebugRules *r);
/* Nobody may be suspended. */
void blkdebug_rules_destroy(BlkdebugRules *r);

/* Add one rule; false with @errp if a value makes no sense. */
bool blkdebug_add_inject_error(BlkdebugRules *r,
                               const BlkdebugInjectErrorOptions *o,
                               Error **errp);
bool blkdebug_add_set_state(BlkdebugRules *r, const BlkdebugSetStateOptions *o,
                            Error **errp);

/* Reads rules from the configuration file @path. */
bool blkdebug_read_config(BlkdebugRules *r, const char *path, Error **errp);

/* Applies the rules that wait for "none", i.e. hold from the beginning. */
void blkdebug_start(BlkdebugRules *r);

/* @event happens in the running coroutine, which may be suspended by it. */
void coroutine_fn blkdebug_event(BlkdebugRules *r, BlkdebugEvent event);

/*
 * 0, or the -errno that an armed rule has for this request. May yield. @bytes
 * is 0 for a flush, which no rule with a sector matches.
 */
int coroutine_fn blkdebug_check(BlkdebugRules *r, BlkdebugIOType iotype,
                                int64_t offset, int64_t bytes);

/* 0, or -ENOENT for an event or tag that does not exist. */
int blkdebug_breakpoint(BlkdebugRules *r, const char *event, const char *tag);
/* Also lets go the requests that are suspended by it. */
int blkdebug_remove_breakpoint(BlkdebugRules *r, const char *tag);
/* Lets one request go. */
int blkdebug_resume(BlkdebugRules *r, const char *tag);
bool blkdebug_is_suspended(BlkdebugRules *r, const char *tag);

#endif
