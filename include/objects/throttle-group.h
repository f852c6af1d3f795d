/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Throttle groups: nodes whose requests are limited together. Those that have to
 * wait do so in a queue for each member and direction; members take turns, so
 * one with many requests does not keep out the others.
 */
#ifndef OBJECTS_THROTTLE_GROUP_H
#define OBJECTS_THROTTLE_GROUP_H

#include "objects/object.h"
#include "util/coroutine.h"
#include "util/throttle.h"

typedef struct ThrottleGroup ThrottleGroup;

/* For objects/object.c. */
extern const UserObjectClass throttle_group_class;

/* A member; fields are private to throttle-group.c. */
typedef struct ThrottleMember {
    UserObject *object;     /* its use of the group */
    ThrottleGroup *group;
    /* Under the group's lock. */
    QSIMPLEQ_HEAD(, ThrottleWaiter) waiting[THROTTLE_DIRECTIONS];
    unsigned unlimited;
    QTAILQ_ENTRY(ThrottleMember) next;
} ThrottleMember;

/*
 * Joins the group that is called @id, and leaves it. False with @errp if there
 * is none. Main thread; nobody has requests of the member when it leaves.
 */
bool throttle_member_join(ThrottleMember *member, const char *id, Error **errp);
void throttle_member_leave(ThrottleMember *member);
const char *throttle_member_group_id(const ThrottleMember *member);

/* Waits until a request of @bytes may start. Any thread. */
void coroutine_fn throttle_member_wait(ThrottleMember *member,
                                       ThrottleDirection direction,
                                       int64_t bytes);

/*
 * From begin to end nobody waits, those included who do already; what they do
 * counts all the same. Nests. Main thread.
 */
void throttle_member_unlimited_begin(ThrottleMember *member);
void throttle_member_unlimited_end(ThrottleMember *member);

#endif
