/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scatter/gather vectors: plain `struct iovec` arrays and QEMUIOVector, the
 * buffer type of every I/O request.
 *
 * All offsets and lengths are bytes from the start of the vector's data.  A
 * vector describes memory and does not own it, except for buffers handed out
 * by qemu_iovec_clone().  Elements may have length 0.
 *
 * Any thread, coroutine or not; nothing here yields or fails for lack of
 * memory. A vector belongs to one thread at a time; several may read it at
 * once.
 */
#ifndef UTIL_IOV_H
#define UTIL_IOV_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>

/* --- plain arrays --- */

/* Sum of the lengths of the @iov_cnt elements. */
size_t iov_size(const struct iovec *iov, unsigned int iov_cnt);

/*
 * Copy @bytes from @buf into the vector at @offset / out of it / fill with
 * @fillc.  Return the bytes done, which is less than @bytes only where the
 * vector ends.  @offset may be at most the vector's size.
 */
size_t iov_from_buf(const struct iovec *iov, unsigned int iov_cnt,
                    size_t offset, const void *buf, size_t bytes);
size_t iov_to_buf(const struct iovec *iov, unsigned int iov_cnt,
                  size_t offset, void *buf, size_t bytes);
size_t iov_memset(const struct iovec *iov, unsigned int iov_cnt,
                  size_t offset, int fillc, size_t bytes);

/*
 * Let @dst_iov point at the range of @iov; no data moves.  Returns the
 * elements used, never more than @dst_iov_cnt: with too few of them, or too
 * short a source, a shorter range is described (see iov_size()).
 */
unsigned int iov_copy(struct iovec *dst_iov, unsigned int dst_iov_cnt,
                      const struct iovec *iov, unsigned int iov_cnt,
                      size_t offset, size_t bytes);

/*
 * Shorten a vector at its front or back by changing the array in place, and
 * return the bytes removed (less than @bytes only if the vector is shorter).
 * The front variant advances *@iov: keep the original to free it.
 */
size_t iov_discard_front(struct iovec **iov, unsigned int *iov_cnt,
                         size_t bytes);
size_t iov_discard_back(struct iovec *iov, unsigned int *iov_cnt,
                        size_t bytes);

/* --- QEMUIOVector --- */

typedef struct QEMUIOVector {
    struct iovec *iov;      /* &local_iov, somebody else's, or allocated */
    int niov;
    int nalloc;             /* elements allocated; -1: @iov is not ours */
    size_t size;            /* always iov_size(iov, niov) */
    struct iovec local_iov; /* the element of a vector of a single buffer */
} QEMUIOVector;

/*
 * Initialiser for a variable @self that describes the one buffer (@buf, @len).
 * The struct must not be copied by assignment: it points into itself.
 */
#define QEMU_IOVEC_INIT_BUF(self, buf, len)                     \
    {                                                           \
        .iov = &(self).local_iov,                               \
        .niov = 1,                                              \
        .nalloc = -1,                                           \
        .size = (len),                                          \
        .local_iov = {                                          \
            .iov_base = (void *)(buf),                          \
            .iov_len = (len),                                   \
        },                                                      \
    }

/* The same for a variable that exists.  Nothing to destroy afterwards. */
static inline void qemu_iovec_init_buf(QEMUIOVector *qiov,
                                       void *buf, size_t len)
{
    *qiov = (QEMUIOVector) QEMU_IOVEC_INIT_BUF(*qiov, buf, len);
}

/* The buffer of a vector made by one of the two above. */
static inline void *qemu_iovec_buf(const QEMUIOVector *qiov)
{
    return qiov->local_iov.iov_base;
}

/*
 * An empty vector that can grow, with room for @alloc_hint elements at first.
 */
void qemu_iovec_init(QEMUIOVector *qiov, int alloc_hint);

/* Describe @iov, which must outlive @qiov and is not freed with it. */
void qemu_iovec_init_external(QEMUIOVector *qiov, struct iovec *iov, int niov);

/* Describe @len bytes of @source from @offset; the range must lie inside. */
void qemu_iovec_init_slice(QEMUIOVector *qiov, const QEMUIOVector *source,
                           size_t offset, size_t len);

/*
 * Describe @head_len bytes of @head_buf, then the range of @mid_qiov (may be
 * NULL if @mid_len is 0), then @tail_len bytes of @tail_buf: the padding of a
 * request to its alignment.
 */
void qemu_iovec_init_extended(QEMUIOVector *qiov,
                              void *head_buf, size_t head_len,
                              const QEMUIOVector *mid_qiov,
                              size_t mid_offset, size_t mid_len,
                              void *tail_buf, size_t tail_len);

/* Append one buffer.  Only for vectors of qemu_iovec_init(). */
void qemu_iovec_add(QEMUIOVector *qiov, void *base, size_t len);

/*
 * Append @sbytes of @src from @soffset to @dst (a qemu_iovec_init() vector).
 * Where the source ends earlier, less is appended; the second variant returns
 * how much.  @soffset must lie within the source.
 */
void qemu_iovec_concat(QEMUIOVector *dst, const QEMUIOVector *src,
                       size_t soffset, size_t sbytes);
size_t qemu_iovec_concat_iov(QEMUIOVector *dst, const struct iovec *src_iov,
                             unsigned int src_cnt,
                             size_t soffset, size_t sbytes);

/* Make a qemu_iovec_init() vector empty again, keeping its allocation. */
void qemu_iovec_reset(QEMUIOVector *qiov);

/* Free what is owned and zero the struct.  Fine for every kind of vector. */
void qemu_iovec_destroy(QEMUIOVector *qiov);

/* Remove @bytes (at most the size) from the end. */
void qemu_iovec_discard_back(QEMUIOVector *qiov, size_t bytes);

/* As the iov_ functions of the same name. */
size_t qemu_iovec_to_buf(const QEMUIOVector *qiov, size_t offset,
                         void *buf, size_t bytes);
size_t qemu_iovec_from_buf(const QEMUIOVector *qiov, size_t offset,
                           const void *buf, size_t bytes);
size_t qemu_iovec_memset(const QEMUIOVector *qiov, size_t offset,
                         int fillc, size_t bytes);

/* True if the range, which must lie inside, holds only zero bytes. */
bool qemu_iovec_is_zero(const QEMUIOVector *qiov, size_t offset, size_t bytes);

/*
 * -1 if both hold the same bytes, else the offset of the first difference;
 * where one is a prefix of the other that is the shorter size.  The element
 * boundaries do not matter.
 */
ssize_t qemu_iovec_compare(const QEMUIOVector *a, const QEMUIOVector *b);

/*
 * Make @dest (uninitialised) the same shape as @src, with the elements placed
 * one after the other in @buf, which has src->size bytes.  No data is copied.
 */
void qemu_iovec_clone(QEMUIOVector *dest, const QEMUIOVector *src, void *buf);

/*
 * Find the elements that the range of @qiov (it must lie inside) touches:
 * returns the first, *@niov of them, of which *@head bytes at the start of the
 * first and *@tail at the end of the last are outside the range.
 */
struct iovec *qemu_iovec_slice(const QEMUIOVector *qiov,
                               size_t offset, size_t len,
                               size_t *head, size_t *tail, int *niov);

/* Elements that a slice of this range has; compare with IOV_MAX. */
int qemu_iovec_subvec_niov(const QEMUIOVector *qiov, size_t offset, size_t len);

/*
 * True if every element starts at a multiple of @mem_align in memory and has
 * a multiple of @len_align bytes; both are powers of 2.
 */
bool qemu_iovec_is_aligned(const QEMUIOVector *qiov,
                           size_t mem_align, size_t len_align);

#endif /* UTIL_IOV_H */
