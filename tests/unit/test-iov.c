/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scatter/gather vectors against flat buffers. */
#include "util/osdep.h"
#include "util/iov.h"

/*
 * A vector of random shape, elements of length 0 among them, over memory that
 * holds @size random bytes; each element is its own allocation, so that a
 * sanitizer sees what reaches beyond it.
 */
static void random_iov(QEMUIOVector *qiov, size_t size)
{
    qemu_iovec_init(qiov, 1);
    while (size || qiov->niov == 0) {
        size_t len = g_test_rand_int_range(0, MIN(size, 50) + 1);
        unsigned char *buf = g_malloc(len);

        for (size_t i = 0; i < len; i++) {
            buf[i] = g_test_rand_int();
        }
        qemu_iovec_add(qiov, buf, len);
        size -= len;
    }
}

static void free_random_iov(QEMUIOVector *qiov)
{
    for (int i = 0; i < qiov->niov; i++) {
        g_free(qiov->iov[i].iov_base);
    }
    qemu_iovec_destroy(qiov);
}

static unsigned char *flatten(const QEMUIOVector *qiov)
{
    unsigned char *buf = g_malloc(MAX(qiov->size, 1));

    g_assert_cmpuint(iov_size(qiov->iov, qiov->niov), ==, qiov->size);
    g_assert_cmpuint(qemu_iovec_to_buf(qiov, 0, buf, qiov->size), ==,
                     qiov->size);
    return buf;
}

static void random_range(size_t size, size_t *offset, size_t *len)
{
    *offset = g_test_rand_int_range(0, size + 1);
    *len = g_test_rand_int_range(0, size - *offset + 1);
}

static void test_copy(void)
{
    for (int round = 0; round < 300; round++) {
        size_t size = g_test_rand_int_range(0, 400), offset, len, done;
        g_autofree unsigned char *model = NULL, *now = NULL;
        unsigned char buf[400], src[400];
        QEMUIOVector qiov;

        random_iov(&qiov, size);
        g_assert_cmpuint(qiov.size, ==, size);
        model = flatten(&qiov);
        random_range(size, &offset, &len);

        g_assert_cmpuint(qemu_iovec_to_buf(&qiov, offset, buf, len), ==, len);
        g_assert_cmpmem(buf, len, model + offset, len);
        /* Asking for more gives what there is. */
        done = qemu_iovec_to_buf(&qiov, offset, buf, sizeof(buf));
        g_assert_cmpuint(done, ==, size - offset);

        memset(src, round, sizeof(src));
        g_assert_cmpuint(qemu_iovec_from_buf(&qiov, offset, src, len), ==,
                         len);
        memcpy(model + offset, src, len);
        random_range(size, &offset, &len);
        g_assert_cmpuint(qemu_iovec_memset(&qiov, offset, 0xa5, len), ==, len);
        memset(model + offset, 0xa5, len);

        now = flatten(&qiov);
        g_assert_cmpmem(now, size, model, size);
        free_random_iov(&qiov);
    }
}

/* Slices, concatenations and padded vectors see the same bytes. */
static void test_slice(void)
{
    for (int round = 0; round < 300; round++) {
        size_t size = g_test_rand_int_range(1, 400), offset, len;
        g_autofree unsigned char *model = NULL, *a = NULL, *b = NULL, *c = NULL;
        size_t head, tail, covered = 0;
        unsigned char pad[2] = { 1, 2 };
        QEMUIOVector qiov, slice, cat, ext;
        struct iovec *first;
        int niov;

        random_iov(&qiov, size);
        model = flatten(&qiov);
        random_range(size, &offset, &len);

        qemu_iovec_init_slice(&slice, &qiov, offset, len);
        a = flatten(&slice);
        g_assert_cmpmem(a, slice.size, model + offset, len);

        qemu_iovec_init(&cat, 0);
        qemu_iovec_concat(&cat, &qiov, offset, len);
        b = flatten(&cat);
        g_assert_cmpmem(b, cat.size, model + offset, len);
        g_assert_cmpint(qemu_iovec_compare(&slice, &cat), ==, -1);

        qemu_iovec_init_extended(&ext, pad, 1, &qiov, offset, len, pad + 1, 1);
        c = flatten(&ext);
        g_assert_cmpuint(ext.size, ==, len + 2);
        g_assert_cmpint(c[0], ==, 1);
        g_assert_cmpmem(c + 1, len, model + offset, len);
        g_assert_cmpint(c[len + 1], ==, 2);

        first = qemu_iovec_slice(&qiov, offset, len, &head, &tail, &niov);
        for (int i = 0; i < niov; i++) {
            covered += first[i].iov_len;
        }
        g_assert_cmpuint(covered - head - tail, ==, len);
        g_assert_cmpint(niov, ==, qemu_iovec_subvec_niov(&qiov, offset, len));
        if (niov) {
            g_assert_cmpuint(head, <, first->iov_len);
            g_assert_cmpuint(tail, <, first[niov - 1].iov_len);
            g_assert_true((char *)first->iov_base + head ==
                          slice.iov->iov_base);
        }

        qemu_iovec_destroy(&slice);
        qemu_iovec_destroy(&cat);
        qemu_iovec_destroy(&ext);
        free_random_iov(&qiov);
    }
}

static void test_discard(void)
{
    for (int round = 0; round < 300; round++) {
        size_t size = g_test_rand_int_range(0, 300);
        size_t front = g_test_rand_int_range(0, 350);
        size_t back = g_test_rand_int_range(0, 350);
        g_autofree struct iovec *copy = NULL;
        g_autofree unsigned char *model = NULL;
        unsigned char buf[300];
        struct iovec *iov;
        unsigned int cnt;
        QEMUIOVector qiov;
        size_t done, left;

        random_iov(&qiov, size);
        model = flatten(&qiov);
        cnt = qiov.niov;
        copy = g_memdup2(qiov.iov, cnt * sizeof(*copy));
        iov = copy;

        done = iov_discard_front(&iov, &cnt, front);
        g_assert_cmpuint(done, ==, MIN(front, size));
        left = size - done;
        done = iov_discard_back(iov, &cnt, back);
        g_assert_cmpuint(done, ==, MIN(back, left));
        left -= done;
        g_assert_cmpuint(iov_size(iov, cnt), ==, left);
        iov_to_buf(iov, cnt, 0, buf, left);
        g_assert_cmpmem(buf, left, model + MIN(front, size), left);
        free_random_iov(&qiov);
    }
}

static void test_compare(void)
{
    for (int round = 0; round < 300; round++) {
        size_t size = g_test_rand_int_range(1, 600), pos;
        g_autofree unsigned char *bytes = NULL, *buf = g_malloc(600);
        QEMUIOVector a, b, c;

        random_iov(&a, size);
        random_iov(&b, size);
        bytes = flatten(&a);
        qemu_iovec_from_buf(&b, 0, bytes, size);
        g_assert_cmpint(qemu_iovec_compare(&a, &b), ==, -1);

        pos = g_test_rand_int_range(0, size);
        bytes[pos] ^= 0x40;
        qemu_iovec_from_buf(&b, pos, bytes + pos, 1);
        g_assert_cmpint(qemu_iovec_compare(&a, &b), ==, pos);

        qemu_iovec_clone(&c, &b, buf);
        g_assert_cmpint(c.niov, ==, b.niov);
        qemu_iovec_from_buf(&c, 0, bytes, size);
        g_assert_cmpint(qemu_iovec_compare(&b, &c), ==, -1);
        qemu_iovec_discard_back(&c, size - pos);
        g_assert_cmpuint(c.size, ==, pos);
        g_assert_cmpint(qemu_iovec_compare(&b, &c), ==, pos);

        qemu_iovec_destroy(&c);
        free_random_iov(&a);
        free_random_iov(&b);
    }
}

static void test_zero(void)
{
    QEMUIOVector qiov;

    random_iov(&qiov, 500);
    qemu_iovec_memset(&qiov, 0, 1, 500);
    g_assert_false(qemu_iovec_is_zero(&qiov, 0, 500));
    g_assert_true(qemu_iovec_is_zero(&qiov, 499, 0));
    g_assert_true(qemu_iovec_is_zero(&qiov, 500, 0));
    qemu_iovec_memset(&qiov, 100, 0, 300);
    g_assert_true(qemu_iovec_is_zero(&qiov, 100, 300));
    g_assert_false(qemu_iovec_is_zero(&qiov, 99, 300));
    g_assert_false(qemu_iovec_is_zero(&qiov, 101, 300));
    free_random_iov(&qiov);
}

static void test_single(void)
{
    char buf[16] = "0123456789abcde";
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, 10);
    QEMUIOVector other, slice;
    struct iovec iov[2] = { { buf, 4 }, { buf + 8, 4 } };
    struct iovec out[2];

    g_assert_true(qemu_iovec_buf(&qiov) == buf);
    g_assert_cmpint(qiov.niov, ==, 1);
    g_assert_cmpuint(qiov.size, ==, 10);
    /* A slice inside one element needs no allocation. */
    qemu_iovec_init_slice(&slice, &qiov, 3, 4);
    g_assert_true(slice.iov == &slice.local_iov);
    g_assert_true(qemu_iovec_buf(&slice) == buf + 3);
    qemu_iovec_destroy(&slice);

    qemu_iovec_init_buf(&other, buf, 16);
    g_assert_cmpint(qemu_iovec_compare(&qiov, &other), ==, 10);

    qemu_iovec_init_external(&other, iov, 2);
    g_assert_cmpuint(other.size, ==, 8);
    qemu_iovec_destroy(&other);
    g_assert_cmpuint(other.size, ==, 0);

    /* Too few elements describe a shorter range. */
    g_assert_cmpuint(iov_copy(out, 1, iov, 2, 2, 4), ==, 1);
    g_assert_cmpuint(out[0].iov_len, ==, 2);
    g_assert_cmpuint(iov_copy(out, 2, iov, 2, 2, 4), ==, 2);
    g_assert_true(out[1].iov_base == buf + 8);
    g_assert_cmpuint(iov_size(out, 2), ==, 4);

    qemu_iovec_init(&other, 0);
    qemu_iovec_add(&other, buf, 3);
    qemu_iovec_reset(&other);
    g_assert_cmpuint(other.size, ==, 0);
    qemu_iovec_add(&other, buf, 5);
    g_assert_cmpuint(other.size, ==, 5);
    qemu_iovec_destroy(&other);
}

static void test_aligned(void)
{
    QEMU_AUTO_VFREE char *buf = qemu_memalign(4096, 8192);
    struct iovec iov[2] = { { buf, 512 }, { buf + 4096, 1024 } };
    QEMUIOVector qiov;

    qemu_iovec_init_external(&qiov, iov, 2);
    g_assert_true(qemu_iovec_is_aligned(&qiov, 4096, 512));
    g_assert_false(qemu_iovec_is_aligned(&qiov, 4096, 1024));
    iov[1].iov_base = buf + 512;
    g_assert_true(qemu_iovec_is_aligned(&qiov, 512, 512));
    g_assert_false(qemu_iovec_is_aligned(&qiov, 4096, 512));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/iov/copy", test_copy);
    g_test_add_func("/iov/slice", test_slice);
    g_test_add_func("/iov/discard", test_discard);
    g_test_add_func("/iov/compare", test_compare);
    g_test_add_func("/iov/zero", test_zero);
    g_test_add_func("/iov/single", test_single);
    g_test_add_func("/iov/aligned", test_aligned);
    return g_test_run();
}
