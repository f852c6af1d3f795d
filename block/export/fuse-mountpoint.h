/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mounting a FUSE connection on a file, and unmounting it. The file's path must not
 * be used by the threads that serve it: they would wait for themselves.
 */
#ifndef BLOCK_EXPORT_FUSE_MOUNTPOINT_H
#define BLOCK_EXPORT_FUSE_MOUNTPOINT_H

#include "util/error.h"

/*
 * @path with its links followed: equal for the same file, mounted on or not. Free
 * with g_free(). NULL with @errp. Asks no file system of FUSE.
 */
char *fuse_mountpoint_resolve(const char *path, Error **errp);
/* Whether it is a regular file that somebody is there for. */
bool fuse_mountpoint_check(const char *path, Error **errp);
/*
 * Mounts there and returns the descriptor of the connection, or -1. Does not wait
 * for an answer on it.
 */
int fuse_mountpoint_mount(const char *path, bool allow_other, Error **errp);
/* Another descriptor of the connection @fd; -1 with @errp. */
int fuse_mountpoint_clone(int fd, Error **errp);
/* The number of the file system that is mounted at @path; 0 if it has none. */
uint64_t fuse_mountpoint_device(const char *path);
/*
 * Takes the file system of that number away from @path, if that is what is there.
 * Those who have it open keep it. May start a program and wait for it: not in a
 * thread that serves.
 */
void fuse_mountpoint_unmount(const char *path, uint64_t device);

#endif
