/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the NBD server reads from clients, bytes as they come: every prefix of good
 * ones, and random ones, are told apart without a look beyond their end (each is
 * in a buffer of exactly its length).
 */
#include "util/osdep.h"
#include "block/export/nbd-int.h"
#include "util/bswap.h"

static uint8_t *exactly(const void *data, size_t len)
{
    uint8_t *copy = g_malloc(MAX(len, 1));

    memcpy(copy, data, len);
    return copy;
}

static const uint8_t info_data[] = {
    0, 0, 0, 2, 'a', 'b', 0, 3, 0, 1, 0, 3, 1, 0,
};

static void test_info(void)
{
    NBDInfoQuery q;

    g_assert_cmpint(nbd_parse_info(info_data, sizeof(info_data), &q), ==, 0);
    g_assert_cmpuint(q.name_len, ==, 2);
    g_assert_true(!memcmp(q.name, "ab", 2));
    g_assert_true(q.want_name && q.want_block_size && !q.want_description);
    for (size_t n = 0; n < sizeof(info_data); n++) {
        g_autofree uint8_t *part = exactly(info_data, n);

        g_assert_cmpint(nbd_parse_info(part, n, &q), ==, -EINVAL);
    }
}

static const uint8_t meta_data[] = {
    0, 0, 0, 1, 'a', 0, 0, 0, 2, 0, 0, 0, 3, 'x', ':', 'y', 0, 0, 0, 0,
};

static void test_meta(void)
{
    NBDMetaQueries q;

    g_assert_cmpint(nbd_parse_meta(meta_data, sizeof(meta_data), &q), ==, 0);
    g_assert_cmpuint(q.name_len, ==, 1);
    g_assert_cmpuint(q.count, ==, 2);
    g_assert_true(q.next == meta_data + 9);
    for (size_t n = 0; n < sizeof(meta_data); n++) {
        g_autofree uint8_t *part = exactly(meta_data, n);

        g_assert_cmpint(nbd_parse_meta(part, n, &q), ==, -EINVAL);
    }
}

/* Lengths that would reach beyond the data, or wrap. */
static void test_lengths(void)
{
    static const uint32_t bad[] = { 3, 4097, INT32_MAX, UINT32_MAX - 3,
                                    UINT32_MAX };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        g_autofree uint8_t *info = exactly(info_data, 8);
        g_autofree uint8_t *meta = exactly(meta_data, sizeof(meta_data));
        NBDMetaQueries m;
        NBDInfoQuery q;

        stl_be_p(info, bad[i]);
        g_assert_cmpint(nbd_parse_info(info, 8, &q), <, 0);
        stl_be_p(meta + 5, bad[i]);
        g_assert_cmpint(nbd_parse_meta(meta, sizeof(meta_data), &m), <, 0);
        stl_be_p(meta + 5, 2);
        stl_be_p(meta + 16, bad[i]);
        g_assert_cmpint(nbd_parse_meta(meta, sizeof(meta_data), &m), <, 0);
    }
}

static void test_random(void)
{
    for (int i = 0; i < 200000; i++) {
        size_t n = g_test_rand_int_range(0, 40);
        g_autofree uint8_t *data = g_malloc(n + 1);
        g_autofree uint8_t *exact = NULL;
        NBDMetaQueries m;
        NBDInfoQuery q;

        for (size_t j = 0; j < n; j++) {
            data[j] = g_test_rand_bit() ? 0 : g_test_rand_int_range(0, 8);
        }
        exact = exactly(data, n);
        if (nbd_parse_info(exact, n, &q) == 0) {
            g_assert_cmpuint(q.name_len + 6, <=, n);
        }
        if (nbd_parse_meta(exact, n, &m) == 0) {
            g_assert_cmpuint(m.name_len + 8 + 4 * m.count, <=, n);
        }
    }
}

/* --- requests --- */

static void put_request(uint8_t *p, NBDStyle style, uint16_t flags,
                        uint16_t type, uint64_t from, uint64_t len)
{
    bool extended = style == NBD_STYLE_EXTENDED;

    stl_be_p(p, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    stw_be_p(p + 4, flags);
    stw_be_p(p + 6, type);
    stq_be_p(p + 8, 0x0102030405060708);
    stq_be_p(p + 16, from);
    if (extended) {
        stq_be_p(p + 24, len);
    } else {
        stl_be_p(p + 24, len);
    }
}

static void test_request(void)
{
    uint8_t p[NBD_EXTENDED_REQUEST_SIZE];

    for (NBDStyle s = NBD_STYLE_SIMPLE; s <= NBD_STYLE_EXTENDED; s++) {
        bool extended = s == NBD_STYLE_EXTENDED;
        NBDRequestHead h;

        put_request(p, s, 5, NBD_CMD_READ, 1ULL << 60, 77);
        g_assert_cmpint(nbd_parse_request(p, s, &h), ==, 0);
        g_assert_true(h.flags == 5 && h.type == NBD_CMD_READ &&
                      h.cookie == 0x0102030405060708 &&
                      h.from == 1ULL << 60 && h.len == 77 && !h.has_payload);
        put_request(p, s, 0, NBD_CMD_WRITE, 0, NBD_MAX_BUFFER_SIZE);
        g_assert_cmpint(nbd_parse_request(p, s, &h), ==, 0);
        g_assert_true(h.has_payload);
        put_request(p, s, 0, NBD_CMD_WRITE, 0, NBD_MAX_BUFFER_SIZE + 1);
        g_assert_cmpint(nbd_parse_request(p, s, &h), ==, -EINVAL);
        put_request(p, s, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_TRIM, 0,
                    UINT32_MAX);
        g_assert_cmpint(nbd_parse_request(p, s, &h), ==,
                        extended ? -EINVAL : 0);
        g_assert_cmpint(nbd_parse_request(
                            p, extended ? NBD_STYLE_SIMPLE
                                        : NBD_STYLE_EXTENDED, &h), ==,
                        -EINVAL);
    }
}

typedef struct Check {
    uint16_t type, flags;
    uint64_t from, len;
    int ret;
} Check;

static void check_all(const Check *c, size_t n, const NBDTarget *target)
{
    for (size_t i = 0; i < n; i++) {
        NBDRequestHead h = {
            .type = c[i].type, .flags = c[i].flags, .from = c[i].from,
            .len = c[i].len,
        };

        g_assert_cmpint(nbd_check_request(&h, target), ==, c[i].ret);
    }
}

static void test_check(void)
{
    static const Check writable[] = {
        { NBD_CMD_READ, 0, 0, 8192, 0 },
        { NBD_CMD_READ, 0, 8192, 0, 0 },
        { NBD_CMD_READ, 0, 1, 8192, -EINVAL },
        { NBD_CMD_READ, 0, UINT64_MAX, 2, -EINVAL },
        { NBD_CMD_READ, 0, 1ULL << 63, 1ULL << 63, -EINVAL },
        { NBD_CMD_READ, 0, 1, UINT64_MAX, -EINVAL },
        { NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 8191, 1, 0 },
        { NBD_CMD_WRITE, 0, 8191, 2, -ENOSPC },
        { NBD_CMD_WRITE_ZEROES, 0, 8192, 1, -ENOSPC },
        { NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_DF, 0, 1, -EINVAL },
        { NBD_CMD_TRIM, 0, 8192, 1, -EINVAL },
        { NBD_CMD_TRIM, NBD_CMD_FLAG_NO_HOLE, 0, 1, -EINVAL },
        { NBD_CMD_FLUSH, 0, 0, 0, 0 },
        { NBD_CMD_FLUSH, 0, 0, 1, -EINVAL },
        { NBD_CMD_BLOCK_STATUS, 0, 0, 1, -EINVAL },
        { NBD_CMD_BLOCK_STATUS + 1, 0, 0, 0, -EINVAL },
    };
    static const Check read_only[] = {
        { NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 1, 0 },
        { NBD_CMD_WRITE, 0, 0, 1, -EROFS },
        { NBD_CMD_TRIM, 0, 0, 1, -EROFS },
        { NBD_CMD_WRITE_ZEROES, 0, 0, 1, -EROFS },
        { NBD_CMD_FLUSH, 0, 0, 0, 0 },
        { NBD_CMD_CACHE, 0, 0, 8192, 0 },
        { NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 0, 1, 0 },
        { NBD_CMD_BLOCK_STATUS, 0, 0, 0, -EINVAL },
    };
    NBDTarget target = { .length = 8192 };

    check_all(writable, ARRAY_SIZE(writable), &target);
    target.read_only = target.has_meta = true;
    target.style = NBD_STYLE_EXTENDED;
    check_all(read_only, ARRAY_SIZE(read_only), &target);
}

static void test_errno(void)
{
    g_assert_cmpuint(nbd_errno(0), ==, 0);
    g_assert_cmpuint(nbd_errno(-EROFS), ==, NBD_EPERM);
    g_assert_cmpuint(nbd_errno(-EFBIG), ==, NBD_ENOSPC);
    g_assert_cmpuint(nbd_errno(-ENOTSUP), ==, NBD_ENOTSUP);
    g_assert_cmpuint(nbd_errno(-EIO), ==, NBD_EIO);
    g_assert_cmpuint(nbd_errno(-ENOMEDIUM), ==, NBD_EINVAL);
    g_assert_cmpuint(nbd_errno(-EUCLEAN), ==, NBD_EIO);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-parse/info", test_info);
    g_test_add_func("/nbd-parse/meta", test_meta);
    g_test_add_func("/nbd-parse/lengths", test_lengths);
    g_test_add_func("/nbd-parse/random", test_random);
    g_test_add_func("/nbd-parse/request", test_request);
    g_test_add_func("/nbd-parse/check", test_check);
    g_test_add_func("/nbd-parse/errno", test_errno);
    return g_test_run();
}
