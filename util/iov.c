/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scatter/gather vectors.
 *
 * 1. qiov->size equals the sum of the element lengths at all times.
 * 2. nalloc >= 0 means that iov came from g_malloc and belongs to the vector;
 *    only such vectors change their number of elements by appending.
 */
#include "util/osdep.h"
#include "util/iov.h"
#include "util/zero.h"

/*
 * Walks the part of an array that [offset, offset + bytes) covers, one
 * contiguous piece at a time.
 */
typedef struct IovWalk {
    const struct iovec *iov;
    unsigned int left;      /* elements from iov on */
    size_t skip;            /* bytes to pass over in *iov */
    size_t bytes;           /* what is still wanted */
} IovWalk;

static void walk_init(IovWalk *w, const struct iovec *iov, unsigned int cnt,
                      size_t offset, size_t bytes)
{
    while (cnt && offset >= iov->iov_len) {
        offset -= iov->iov_len;
        iov++;
        cnt--;
    }
    assert(cnt || offset == 0);
    *w = (IovWalk) {
        .iov = iov, .left = cnt, .skip = offset, .bytes = bytes,
    };
}

static bool walk_next(IovWalk *w, struct iovec *piece)
{
    while (w->left && w->bytes) {
        size_t avail = w->iov->iov_len - w->skip;
        char *base = w->iov->iov_base;

        piece->iov_len = MIN(avail, w->bytes);
        if (piece->iov_len) {
            piece->iov_base = base + w->skip;
        }
        w->bytes -= piece->iov_len;
        w->iov++;
        w->left--;
        w->skip = 0;
        if (piece->iov_len) {
            return true;
        }
    }
    return false;
}

size_t iov_size(const struct iovec *iov, unsigned int iov_cnt)
{
    size_t size = 0;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        size += iov[i].iov_len;
    }
    return size;
}

size_t iov_from_buf(const struct iovec *iov, unsigned int iov_cnt,
                    size_t offset, const void *buf, size_t bytes)
{
    struct iovec piece;
    size_t done = 0;
    IovWalk w;

    walk_init(&w, iov, iov_cnt, offset, bytes);
    while (walk_next(&w, &piece)) {
        memcpy(piece.iov_base, (const char *)buf + done, piece.iov_len);
        done += piece.iov_len;
    }
    return done;
}

size_t iov_to_buf(const struct iovec *iov, unsigned int iov_cnt,
                  size_t offset, void *buf, size_t bytes)
{
    struct iovec piece;
    size_t done = 0;
    IovWalk w;

    walk_init(&w, iov, iov_cnt, offset, bytes);
    while (walk_next(&w, &piece)) {
        memcpy((char *)buf + done, piece.iov_base, piece.iov_len);
        done += piece.iov_len;
    }
    return done;
}

size_t iov_memset(const struct iovec *iov, unsigned int iov_cnt,
                  size_t offset, int fillc, size_t bytes)
{
    struct iovec piece;
    size_t done = 0;
    IovWalk w;

    walk_init(&w, iov, iov_cnt, offset, bytes);
    while (walk_next(&w, &piece)) {
        memset(piece.iov_base, fillc, piece.iov_len);
        done += piece.iov_len;
    }
    return done;
}

unsigned int iov_copy(struct iovec *dst_iov, unsigned int dst_iov_cnt,
                      const struct iovec *iov, unsigned int iov_cnt,
                      size_t offset, size_t bytes)
{
    unsigned int n = 0;
    IovWalk w;

    walk_init(&w, iov, iov_cnt, offset, bytes);
    while (n < dst_iov_cnt && walk_next(&w, &dst_iov[n])) {
        n++;
    }
    return n;
}

size_t iov_discard_front(struct iovec **iov, unsigned int *iov_cnt,
                         size_t bytes)
{
    size_t left = bytes;

    while (*iov_cnt && left >= (*iov)->iov_len) {
        left -= (*iov)->iov_len;
        (*iov)++;
        (*iov_cnt)--;
    }
    if (*iov_cnt && left) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + left;
        (*iov)->iov_len -= left;
        left = 0;
    }
    return bytes - left;
}

size_t iov_discard_back(struct iovec *iov, unsigned int *iov_cnt, size_t bytes)
{
    size_t left = bytes;

    while (*iov_cnt && left >= iov[*iov_cnt - 1].iov_len) {
        left -= iov[*iov_cnt - 1].iov_len;
        (*iov_cnt)--;
    }
    if (*iov_cnt && left) {
        iov[*iov_cnt - 1].iov_len -= left;
        left = 0;
    }
    return bytes - left;
}

void qemu_iovec_init(QEMUIOVector *qiov, int alloc_hint)
{
    *qiov = (QEMUIOVector) {
        .iov = g_new(struct iovec, MAX(alloc_hint, 1)),
        .nalloc = MAX(alloc_hint, 1),
    };
}

void qemu_iovec_init_external(QEMUIOVector *qiov, struct iovec *iov, int niov)
{
    *qiov = (QEMUIOVector) {
        .iov = iov,
        .niov = niov,
        .nalloc = -1,
        .size = iov_size(iov, niov),
    };
}

void qemu_iovec_init_slice(QEMUIOVector *qiov, const QEMUIOVector *source,
                           size_t offset, size_t len)
{
    qemu_iovec_init_extended(qiov, NULL, 0, source, offset, len, NULL, 0);
}

void qemu_iovec_init_extended(QEMUIOVector *qiov,
                              void *head_buf, size_t head_len,
                              const QEMUIOVector *mid_qiov,
                              size_t mid_offset, size_t mid_len,
                              void *tail_buf, size_t tail_len)
{
    int mid_niov = mid_len ?
        qemu_iovec_subvec_niov(mid_qiov, mid_offset, mid_len) : 0;
    int niov = (head_len != 0) + mid_niov + (tail_len != 0);

    if (niov <= 1) {
        /* The common aligned request: no allocation. */
        void *buf = head_len ? head_buf : tail_buf;

        if (mid_len) {
            struct iovec piece = { 0 };

            iov_copy(&piece, 1, mid_qiov->iov, mid_qiov->niov,
                     mid_offset, mid_len);
            assert(piece.iov_len == mid_len);
            buf = piece.iov_base;
        }
        qemu_iovec_init_buf(qiov, buf, head_len + mid_len + tail_len);
        return;
    }

    qemu_iovec_init(qiov, niov);
    if (head_len) {
        qemu_iovec_add(qiov, head_buf, head_len);
    }
    if (mid_len) {
        qemu_iovec_concat(qiov, mid_qiov, mid_offset, mid_len);
    }
    if (tail_len) {
        qemu_iovec_add(qiov, tail_buf, tail_len);
    }
}

void qemu_iovec_add(QEMUIOVector *qiov, void *base, size_t len)
{
    assert(qiov->nalloc >= 0);

    if (qiov->niov == qiov->nalloc) {
        assert(qiov->nalloc <= INT_MAX / 2 - 1);
        qiov->nalloc = 2 * qiov->nalloc + 1;
        qiov->iov = g_renew(struct iovec, qiov->iov, qiov->nalloc);
    }
    qiov->iov[qiov->niov++] = (struct iovec) {
        .iov_base = base, .iov_len = len,
    };
    qiov->size += len;
}

size_t qemu_iovec_concat_iov(QEMUIOVector *dst, const struct iovec *src_iov,
                             unsigned int src_cnt,
                             size_t soffset, size_t sbytes)
{
    struct iovec piece;
    size_t done = 0;
    IovWalk w;

    /* Growing would move the array that is being walked. */
    assert(src_iov != dst->iov);
    walk_init(&w, src_iov, src_cnt, soffset, sbytes);
    while (walk_next(&w, &piece)) {
        qemu_iovec_add(dst, piece.iov_base, piece.iov_len);
        done += piece.iov_len;
    }
    return done;
}

void qemu_iovec_concat(QEMUIOVector *dst, const QEMUIOVector *src,
                       size_t soffset, size_t sbytes)
{
    qemu_iovec_concat_iov(dst, src->iov, src->niov, soffset, sbytes);
}

void qemu_iovec_reset(QEMUIOVector *qiov)
{
    assert(qiov->nalloc >= 0);
    qiov->niov = 0;
    qiov->size = 0;
}

void qemu_iovec_destroy(QEMUIOVector *qiov)
{
    if (qiov->nalloc >= 0) {
        g_free(qiov->iov);
    }
    *qiov = (QEMUIOVector) { 0 };
}

void qemu_iovec_discard_back(QEMUIOVector *qiov, size_t bytes)
{
    unsigned int niov = qiov->niov;
    size_t done;

    assert(bytes <= qiov->size);
    done = iov_discard_back(qiov->iov, &niov, bytes);
    assert(done == bytes);
    qiov->niov = niov;
    qiov->size -= bytes;
}

size_t qemu_iovec_to_buf(const QEMUIOVector *qiov, size_t offset,
                         void *buf, size_t bytes)
{
    return iov_to_buf(qiov->iov, qiov->niov, offset, buf, bytes);
}

size_t qemu_iovec_from_buf(const QEMUIOVector *qiov, size_t offset,
                           const void *buf, size_t bytes)
{
    return iov_from_buf(qiov->iov, qiov->niov, offset, buf, bytes);
}

size_t qemu_iovec_memset(const QEMUIOVector *qiov, size_t offset,
                         int fillc, size_t bytes)
{
    return iov_memset(qiov->iov, qiov->niov, offset, fillc, bytes);
}

static void check_range(const QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    assert(offset <= qiov->size && bytes <= qiov->size - offset);
}

bool qemu_iovec_is_zero(const QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    struct iovec piece;
    IovWalk w;

    check_range(qiov, offset, bytes);
    walk_init(&w, qiov->iov, qiov->niov, offset, bytes);
    while (walk_next(&w, &piece)) {
        if (!buffer_is_zero(piece.iov_base, piece.iov_len)) {
            return false;
        }
    }
    return true;
}

static size_t first_difference(const char *a, const char *b, size_t len)
{
    size_t i = 0;

    /* memcmp() finds the chunk quickly, the loop only the byte in it. */
    while (len - i > 64 && !memcmp(a + i, b + i, 64)) {
        i += 64;
    }
    while (i < len && a[i] == b[i]) {
        i++;
    }
    return i;
}

ssize_t qemu_iovec_compare(const QEMUIOVector *a, const QEMUIOVector *b)
{
    struct iovec pa = { 0 }, pb = { 0 };
    size_t common = MIN(a->size, b->size);
    size_t pos = 0;
    IovWalk wa, wb;

    walk_init(&wa, a->iov, a->niov, 0, common);
    walk_init(&wb, b->iov, b->niov, 0, common);
    while (pos < common) {
        size_t n;

        if (!pa.iov_len) {
            walk_next(&wa, &pa);
        }
        if (!pb.iov_len) {
            walk_next(&wb, &pb);
        }
        n = MIN(pa.iov_len, pb.iov_len);
        if (memcmp(pa.iov_base, pb.iov_base, n)) {
            return pos + first_difference(pa.iov_base, pb.iov_base, n);
        }
        pos += n;
        pa.iov_base = (char *)pa.iov_base + n;
        pa.iov_len -= n;
        pb.iov_base = (char *)pb.iov_base + n;
        pb.iov_len -= n;
    }
    return a->size == b->size ? -1 : (ssize_t)common;
}

void qemu_iovec_clone(QEMUIOVector *dest, const QEMUIOVector *src, void *buf)
{
    char *p = buf;

    qemu_iovec_init(dest, src->niov);
    for (int i = 0; i < src->niov; i++) {
        qemu_iovec_add(dest, p, src->iov[i].iov_len);
        p += src->iov[i].iov_len;
    }
}

struct iovec *qemu_iovec_slice(const QEMUIOVector *qiov,
                               size_t offset, size_t len,
                               size_t *head, size_t *tail, int *niov)
{
    struct iovec *first = qiov->iov, *last;
    struct iovec *end = qiov->iov + qiov->niov;

    check_range(qiov, offset, len);
    while (first < end && offset >= first->iov_len) {
        offset -= first->iov_len;
        first++;
    }
    if (len == 0) {
        /* Maybe at the very end: there is no element to point into. */
        *head = *tail = 0;
        *niov = 0;
        return first;
    }

    *head = offset;
    len += offset;
    for (last = first; len > last->iov_len; last++) {
        len -= last->iov_len;
    }
    *tail = last->iov_len - len;
    *niov = last - first + 1;
    return first;
}

int qemu_iovec_subvec_niov(const QEMUIOVector *qiov, size_t offset, size_t len)
{
    size_t head, tail;
    int niov;

    qemu_iovec_slice(qiov, offset, len, &head, &tail, &niov);
    return niov;
}

bool qemu_iovec_is_aligned(const QEMUIOVector *qiov,
                           size_t mem_align, size_t len_align)
{
    for (int i = 0; i < qiov->niov; i++) {
        if ((uintptr_t)qiov->iov[i].iov_base & (mem_align - 1) ||
            qiov->iov[i].iov_len & (len_align - 1)) {
            return false;
        }
    }
    return true;
}
