/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets of file descriptors that were passed to the program: "/dev/fdset/N" is a
 * name for what set N has. A set may hold descriptors of one file with several
 * access modes; whoever opens the name gets a duplicate of one that has the mode
 * asked for.
 *
 * A duplicate shares the open file description, and with it file locks and
 * O_DIRECT. So each descriptor of a set serves one user at a time. For a second
 * one the file is opened anew, or, if this program may not do that, by whoever
 * passes another descriptor. For the same reason the bytes that image drivers lock are unlocked when a duplicate is closed: the
 * description lives on in the set.
 *
 * fdset_parse_name(), fdset_open() and fdset_close(): any thread. All else: main
 * thread.
 */
#ifndef UTIL_FDSET_H
#define UTIL_FDSET_H

#include "util/osdep.h"
#include "util/error.h"

typedef struct FdsetMember {
    int64_t set;
    int fd;                     /* the set's own, for lists and fdset_remove() */
    char *opaque;               /* what its giver wants to know; or NULL */
    int used_as;                /* the duplicate; -1: free */
} FdsetMember;

/*
 * Takes over @fd in any case; @opaque is copied. @id -1: the lowest that is free.
 * The member, which belongs to the set.
 */
const FdsetMember *fdset_add(int64_t id, int fd, const char *opaque);
/*
 * Closes member @fd of set @id, or all of them (@fd -1). Duplicates in use stay
 * open. False if there is nothing of that name.
 */
bool fdset_remove(int64_t id, int fd);
/* Closes all sets of which nothing is in use. */
void fdset_remove_unused(void);
/* Members by set, then in the order in which they came; NULL starts and ends. */
const FdsetMember *fdset_next(const FdsetMember *m);

/* Whether @filename means a set, and which. */
bool fdset_parse_name(const char *filename, int64_t *id);
/*
 * A duplicate of a member of set @id with the access mode and O_DIRECT of @flags,
 * closed on exec; for qemu_close(). -errno: -ENOENT without such a set, -EACCES
 * without a member of that mode, -EBUSY if all of them are in use
 * and the file cannot be opened here.
 */
int fdset_open(int64_t id, int flags);

/* For qemu_close(): closes @fd if fdset_open() made it; *@ret as of close(). */
bool fdset_close(int fd, int *ret);

#endif
