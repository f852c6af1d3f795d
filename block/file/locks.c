/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Permissions of a node, told to other processes by locked bytes of the file.
 *
 * For permission bit n, byte 100+n is locked by whoever holds the permission
 * and byte 200+n by whoever does not share it. All locks are shared ones, so
 * taking never conflicts among us; a conflict is found by asking whether an
 * exclusive lock of the opposite byte would be possible. Everybody first takes
 * and then tests: of two that come at the same time at least one sees the
 * other.
 *
 * Only bits that are added are tested. A bit that was held all the time is
 * seen by every newcomer's test, and giving up bits tests nothing, so it
 * cannot be refused.
 */
#include "util/osdep.h"
#include "block/file/file-int.h"
#include "util/filelock.h"

#define LOCK_BASE_PERM 100
#define LOCK_BASE_UNSHARED 200
#define LOCK_BITS 4

QEMU_BUILD_BUG_ON(BLK_PERM_ALL != (1 << LOCK_BITS) - 1);

static int lock_bytes(int fd, int base, uint64_t bits, uint64_t *done,
                      Error **errp)
{
    for (int n = 0; n < LOCK_BITS; n++) {
        uint64_t bit = 1ULL << n;
        int ret;

        if (!(bits & bit) || (*done & bit)) {
            continue;
        }
        ret = qemu_lock_fd(fd, base + n, 1, false);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Failed to lock byte %d", base + n);
            return ret;
        }
        *done |= bit;
    }
    return 0;
}

static int unlock_bytes(int fd, int base, uint64_t keep, uint64_t *held,
                        Error **errp)
{
    int first_error = 0;

    for (int n = 0; n < LOCK_BITS; n++) {
        uint64_t bit = 1ULL << n;
        int ret;

        if (!(*held & bit) || (keep & bit)) {
            continue;
        }
        ret = qemu_unlock_fd(fd, base + n, 1);
        if (ret == 0) {
            *held &= ~bit;
        } else if (first_error == 0) {
            error_setg_errno(errp, -ret, "Failed to unlock byte %d", base + n);
            first_error = ret;
        }
    }
    return first_error;
}

/* Is anybody at @base + n for a bit of @bits? */
static int test_bytes(int fd, int base, uint64_t bits, const char *what,
                      Error **errp)
{
    for (int n = 0; n < LOCK_BITS; n++) {
        int ret;

        if (!(bits & (1ULL << n))) {
            continue;
        }
        ret = qemu_lock_fd_test(fd, base + n, 1, true);
        if (ret == -EAGAIN) {
            g_autofree char *name = bdrv_perm_names(1ULL << n);
            error_setg(errp, "Failed to get %s\"%s\" lock", what, name);
            return ret;
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Failed to test the lock of byte %d",
                             base + n);
            return ret;
        }
    }
    return 0;
}

int file_locks_take(FileLocks *locks, int fd, uint64_t perm,
                    uint64_t unshared, const char *filename, Error **errp)
{
    ERRP_GUARD();
    FileLocks old = *locks;
    uint64_t new_perm = perm & ~locks->perm & BLK_PERM_ALL;
    uint64_t new_unshared = unshared & ~locks->unshared & BLK_PERM_ALL;
    int ret;

    if (!locks->enabled) {
        locks->perm |= new_perm;
        locks->unshared |= new_unshared;
        return 0;
    }
    ret = lock_bytes(fd, LOCK_BASE_PERM, new_perm, &locks->perm, errp);
    if (ret == 0) {
        ret = lock_bytes(fd, LOCK_BASE_UNSHARED, new_unshared,
                         &locks->unshared, errp);
    }
    if (ret == 0) {
        ret = test_bytes(fd, LOCK_BASE_UNSHARED, new_perm, "", errp);
    }
    if (ret == 0) {
        ret = test_bytes(fd, LOCK_BASE_PERM, new_unshared, "shared ", errp);
    }
    if (ret < 0) {
        if (ret == -EAGAIN) {
            error_append_hint(errp,
                              "Is another process using the image [%s]?\n",
                              filename);
        }
        file_locks_give(locks, fd, old.perm, old.unshared, NULL);
    }
    return ret;
}

int file_locks_give(FileLocks *locks, int fd, uint64_t perm,
                    uint64_t unshared, Error **errp)
{
    int ret, ret2;

    if (!locks->enabled) {
        locks->perm &= perm;
        locks->unshared &= unshared;
        return 0;
    }
    ret = unlock_bytes(fd, LOCK_BASE_PERM, perm, &locks->perm, errp);
    ret2 = unlock_bytes(fd, LOCK_BASE_UNSHARED, unshared, &locks->unshared,
                        ret < 0 ? NULL : errp);
    return ret < 0 ? ret : ret2;
}

int file_locks_copy(const FileLocks *locks, int fd, Error **errp)
{
    uint64_t perm = 0, unshared = 0;
    int ret;

    if (!locks->enabled) {
        return 0;
    }
    ret = lock_bytes(fd, LOCK_BASE_PERM, locks->perm, &perm, errp);
    if (ret == 0) {
        ret = lock_bytes(fd, LOCK_BASE_UNSHARED, locks->unshared, &unshared,
                         errp);
    }
    return ret;
}

int file_has_other_writer(BlockDriverState *bs)
{
    BDRVFileState *s = bs->opaque;
    int ret = qemu_lock_fd_test(s->fd,
                                LOCK_BASE_PERM + __builtin_ctz(BLK_PERM_WRITE),
                                1, true);

    return ret == -EAGAIN ? 1 : ret;
}
