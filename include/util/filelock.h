/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Byte-range locks that belong to an open file description (Linux OFD locks).
 *
 * Ranges are bytes; @len 0 means to the end of the file and beyond.  A lock
 * lasts until it is released or the last descriptor of the description is
 * closed, and is seen by other descriptions of the same file in this process
 * and others. There is no fallback to process-owned POSIX locks: those vanish
 * when any descriptor of the file is closed, which is worse than no lock.
 *
 * Any thread; the calls never wait for a lock.
 */
#ifndef UTIL_FILELOCK_H
#define UTIL_FILELOCK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * True if the kernel has OFD locks.  Where it has not, the functions below
 * return -ENOTSUP; locking that was asked for is then an error, and locking
 * that is optional is left out.
 */
bool qemu_has_ofd_lock(void);

/*
 * Take a shared or (@exclusive, @fd open for writing) exclusive lock.  Returns
 * 0, -EAGAIN if another holder conflicts, or another -errno; on failure
 * nothing changes. Locking a range that is held through @fd converts its mode.
 */
int qemu_lock_fd(int fd, int64_t start, int64_t len, bool exclusive);

/* Release what is held through @fd in the range.  0 or -errno. */
int qemu_unlock_fd(int fd, int64_t start, int64_t len);

/*
 * Returns 0 if qemu_lock_fd() would succeed just now, -EAGAIN if another
 * holder conflicts, or another -errno.  Takes no lock, and @fd needs no write
 * access.
 */
int qemu_lock_fd_test(int fd, int64_t start, int64_t len, bool exclusive);

#endif /* UTIL_FILELOCK_H */
