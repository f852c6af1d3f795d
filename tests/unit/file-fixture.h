/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Real files and nodes on them, for tests of the drivers. */
#ifndef TESTS_FILE_FIXTURE_H
#define TESTS_FILE_FIXTURE_H

#include "block/block-backend.h"
#include "block/block_int.h"

/* Instead of g_test_init(): also a main loop, the block layer, a directory. */
void file_test_init(int *argc, char ***argv);
/* Instead of g_test_run(): also removes the directory. */
int file_test_run(void);

/* Path of a new sparse file of @bytes in the test's directory; static names
 * are fine, each test uses its own. Caller frees. */
char *file_test_make(const char *name, int64_t bytes);

/*
 * Opens a node from JSON with '%' conversions filled in; @flags as for
 * bdrv_open(). NULL with @errp on failure. One reference for the caller.
 */
BlockDriverState *file_test_open(int flags, Error **errp, const char *json,
                                 ...) G_GNUC_PRINTF(3, 4);

/* The same, for a backend that may do everything and shares everything. */
BlockBackend *file_test_blk(int flags, const char *json, ...)
    G_GNUC_PRINTF(2, 3);
/* For a node with the given permissions; aborts if they cannot be had. */
BlockBackend *file_test_user(BlockDriverState *bs, uint64_t perm,
                             uint64_t shared);

/*
 * Lock bytes of @path that somebody holds: permission bytes 100+n in bits
 * 0..3, unshared bytes 200+n in bits 8..11.
 */
unsigned file_test_locks(const char *path);

/*
 * Starts a process that holds shared locks on the bytes (same encoding); it
 * lets go and ends in file_test_unlock_elsewhere().
 */
typedef struct FileTestLocker FileTestLocker;
FileTestLocker *file_test_lock_elsewhere(const char *path, unsigned bytes);
void file_test_unlock_elsewhere(FileTestLocker *l);

/* Fails the test unless @err is set with this text; frees it. */
void file_test_error(Error *err, const char *text);

/* Whether all bytes of the range of the file itself are @value. */
bool file_test_bytes_are(const char *path, int64_t offset, int64_t bytes,
                         uint8_t value);
/* Writes @n bytes of the file itself. */
void file_test_put(const char *path, int64_t offset, const void *buf, size_t n);
/* The big-endian number there. */
uint64_t file_test_u64(const char *path, int64_t offset);
/* As file_test_bytes_are(), by reading through @blk. */
bool file_test_reads(BlockBackend *blk, int64_t offset, int64_t bytes,
                     uint8_t value);
/* Fills the range through @blk. 0 or -errno. */
int file_test_fill(BlockBackend *blk, int64_t offset, int64_t bytes,
                   uint8_t value);

#endif
