/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looking for zeroes, with every implementation that this CPU can run. */
#include "util/osdep.h"
#include "util/zero.h"

static void for_each_impl(void (*func)(void))
{
    const char *name;

    for (unsigned int i = 0; (name = buffer_is_zero_select(i)); i++) {
        g_test_message("implementation %s", name);
        func();
    }
}

/* One byte at every position of buffers of every length and alignment. */
static void check_positions(void)
{
    static const size_t lens[] = {
        1, 7, 8, 9, 63, 64, 65, 255, 256, 257, 300, 511, 512, 513, 700, 1025,
    };
    unsigned char *mem = g_malloc0(2048);

    for (size_t k = 0; k < ARRAY_SIZE(lens); k++) {
        for (size_t align = 0; align < 33; align += 11) {
            unsigned char *buf = mem + 64 + align;
            size_t len = lens[k];

            /* What is outside does not matter. */
            buf[-1] = buf[len] = 0xff;
            g_assert_true(buffer_is_zero(buf, len));
            g_assert_cmpuint(buffer_find_nonzero(buf, len), ==, len);
            g_assert_cmpuint(buffer_nonzero_end(buf, len), ==, 0);
            for (size_t i = 0; i < len; i++) {
                buf[i] = 1 << (i % 8);
                g_assert_false(buffer_is_zero(buf, len));
                g_assert_cmpuint(buffer_find_nonzero(buf, len), ==, i);
                g_assert_cmpuint(buffer_nonzero_end(buf, len), ==, i + 1);
                buf[i] = 0;
            }
            buf[-1] = buf[len] = 0;
        }
    }
    g_free(mem);
}

static void check_lengths(void)
{
    unsigned char buf[1200] = { 0 };

    for (size_t len = 0; len <= sizeof(buf); len++) {
        g_assert_true(buffer_is_zero(buf + sizeof(buf) - len, len));
    }
}

static void check_large(void)
{
    size_t len = 1 << 20;
    g_autofree unsigned char *buf = g_malloc0(len);

    g_assert_true(buffer_is_zero(buf, len));
    for (int i = 0; i < 100; i++) {
        size_t pos = g_test_rand_int_range(0, len);

        buf[pos] = 0x80;
        g_assert_false(buffer_is_zero(buf, len));
        g_assert_cmpuint(buffer_find_nonzero(buf, len), ==, pos);
        g_assert_cmpuint(buffer_nonzero_end(buf, len), ==, pos + 1);
        buf[pos] = 0;
    }
}

static void test_positions(void)
{
    for_each_impl(check_positions);
}

static void test_lengths(void)
{
    for_each_impl(check_lengths);
}

static void test_large(void)
{
    for_each_impl(check_large);
}

/* The runs of a buffer, written as Z and D of units. */
static void expect_runs(const unsigned char *buf, size_t len, size_t unit,
                        const char *want)
{
    g_autoptr(GString) got = g_string_new(NULL);
    size_t pos = 0, run;

    while (pos < len) {
        bool zero = buffer_zero_run(buf + pos, len - pos, unit, &run);

        g_assert_cmpuint(run, >, 0);
        g_assert_cmpuint(run, <=, len - pos);
        g_assert_true(run % unit == 0 || pos + run == len);
        for (size_t i = 0; i < run; i += unit) {
            g_string_append_c(got, zero ? 'Z' : 'D');
        }
        pos += run;
    }
    g_assert_cmpstr(got->str, ==, want);
}

static void test_runs(void)
{
    unsigned char buf[8 * 512 + 100] = { 0 };

    expect_runs(buf, sizeof(buf), 512, "ZZZZZZZZZ");
    buf[512 * 2 + 511] = 1;
    expect_runs(buf, sizeof(buf), 512, "ZZDZZZZZZ");
    buf[512 * 3] = 1;
    expect_runs(buf, sizeof(buf), 512, "ZZDDZZZZZ");
    buf[0] = 1;
    expect_runs(buf, sizeof(buf), 512, "DZDDZZZZZ");
    buf[sizeof(buf) - 1] = 1;
    expect_runs(buf, sizeof(buf), 512, "DZDDZZZZD");
    expect_runs(buf, 512 * 4, 512, "DZDD");
    expect_runs(buf, 100, 512, "D");
    expect_runs(buf + 1, 100, 512, "Z");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bufferiszero/positions", test_positions);
    g_test_add_func("/bufferiszero/lengths", test_lengths);
    g_test_add_func("/bufferiszero/large", test_large);
    g_test_add_func("/bufferiszero/runs", test_runs);
    return g_test_run();
}
