/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw deflate with a window of 4 KiB, through zlib (always there) or ISA-L
 * (CONFIG_ISAL; many times faster). Each reads what the other writes.
 *
 * Any thread, but one at a time on one state; nothing here yields.
 */
#ifndef BLOCK_QCOW2_DEFLATE_H
#define BLOCK_QCOW2_DEFLATE_H

/*
 * What is worth keeping between calls: zeroed at first, then up to 1 MiB for
 * each library that was used.
 */
typedef struct Qcow2Deflate {
    struct Qcow2Zlib *zlib;
    struct Qcow2Isal *isal;
} Qcow2Deflate;

/* Frees everything and leaves a zeroed state. */
void qcow2_deflate_clear(Qcow2Deflate *d);

/*
 * Compresses all of @src. The length in bytes; -ENOMEM if that would be more
 * than @dest_size; -EIO if the library fails.
 */
ssize_t qcow2_zlib_compress(Qcow2Deflate *d, void *dest, size_t dest_size,
                            const void *src, size_t src_size);
ssize_t qcow2_isal_compress(Qcow2Deflate *d, void *dest, size_t dest_size,
                            const void *src, size_t src_size);

/*
 * Decompresses exactly @dest_size bytes. 0 once they are there, whether or not
 * the stream goes on or has its end marker; -EIO otherwise. @src may be
 * anything.
 */
ssize_t qcow2_zlib_decompress(Qcow2Deflate *d, void *dest, size_t dest_size,
                              const void *src, size_t src_size);
ssize_t qcow2_isal_decompress(Qcow2Deflate *d, void *dest, size_t dest_size,
                              const void *src, size_t src_size);

/* Of one library each, for qcow2_deflate_clear(). NULL is fine. */
void qcow2_zlib_free(struct Qcow2Zlib *z);
void qcow2_isal_free(struct Qcow2Isal *i);

#endif
