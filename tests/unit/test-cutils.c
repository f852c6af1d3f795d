/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text and numbers.  Sizes, their rounding and the three digits of
 * size_to_str() are what the installed qemu-img 7.2 accepts and prints.
 */
#include "util/osdep.h"
#include "util/cutils.h"
#include "util/error.h"

#define KiB 1024ULL
#define EiB (1ULL << 60)

static void test_strtosz(void)
{
    static const struct {
        const char *text;
        int ret;
        uint64_t value;
    } cases[] = {
        { "0", 0, 0 }, { "1", 0, 1 }, { "1b", 0, 1 }, { "1B", 0, 1 },
        { "1k", 0, KiB }, { "1K", 0, KiB }, { "1M", 0, KiB * KiB },
        { "1g", 0, 1ULL << 30 }, { "1T", 0, 1ULL << 40 },
        { "1p", 0, 1ULL << 50 }, { "1e", 0, EiB }, { "7E", 0, 7 * EiB },
        { " 1", 0, 1 }, { "+1", 0, 1 }, { " +1", 0, 1 }, { "00012", 0, 12 },
        { "010", 0, 10 }, { "0x10", 0, 16 }, { "0X10", 0, 16 },
        { "0x1e", 0, 30 }, { "0x10b", 0, 267 },
        { "1.", 0, 1 }, { "1.0", 0, 1 }, { "1.0b", 0, 1 }, { "1.k", 0, KiB },
        { "1.5k", 0, 1536 }, { "1.5e", 0, EiB + EiB / 2 },
        { "0.1k", 0, 102 }, { "0.6k", 0, 614 }, { "0.7k", 0, 717 },
        { "0.9k", 0, 922 }, { "1.9999k", 0, 2048 }, { "0.0001k", 0, 0 },
        { "1.000000000000000000000000001k", 0, KiB },
        { "9223372036854775807", 0, INT64_MAX },
        { "9007199254740993", 0, 9007199254740993 },
        { "18446744073709551615", 0, UINT64_MAX },
        { "0xffffffffffffffff", 0, UINT64_MAX },
        { "15.5E", 0, 15 * EiB + EiB / 2 },

        { "18446744073709551616", -ERANGE, UINT64_MAX },
        { "16E", -ERANGE, UINT64_MAX }, { "99999999999P", -ERANGE, UINT64_MAX },
        { "15.9999999999999999999999E", -ERANGE, UINT64_MAX },
        { "99999999999999999999x", -EINVAL, 0 },

        { "", -EINVAL, 0 }, { " ", -EINVAL, 0 }, { "k", -EINVAL, 0 },
        { "-1", -EINVAL, 0 }, { "-0", -EINVAL, 0 }, { "+ 1", -EINVAL, 0 },
        { "1 ", -EINVAL, 0 }, { "1kk", -EINVAL, 0 }, { "1kB", -EINVAL, 0 },
        { "1KiB", -EINVAL, 0 }, { "1e3", -EINVAL, 0 }, { "1.4e0", -EINVAL, 0 },
        { "0x", -EINVAL, 0 }, { "0x1.8", -EINVAL, 0 }, { "0x 1", -EINVAL, 0 },
        { "1.5", -EINVAL, 0 }, { "1.5b", -EINVAL, 0 },
        { "1.00000000000000000000000001", -EINVAL, 0 },
        { ".5", -EINVAL, 0 }, { ".5k", -EINVAL, 0 }, { "1.5.5", -EINVAL, 0 },
        { "inf", -EINVAL, 0 }, { "nan", -EINVAL, 0 }, { "0xg", -EINVAL, 0 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t value = 0xbad;
        int ret = qemu_strtosz(cases[i].text, NULL, &value);

        if (ret != cases[i].ret || value != cases[i].value) {
            g_error("'%s' gives %d, %" PRIu64, cases[i].text, ret, value);
        }
    }
}

static void test_strtosz_end(void)
{
    const char *text = "1.5kx", *end = NULL;
    uint64_t value;

    g_assert_cmpint(qemu_strtosz(text, &end, &value), ==, 0);
    g_assert_cmpuint(value, ==, 1536);
    g_assert_true(end == text + 4);

    text = "1e3";
    g_assert_cmpint(qemu_strtosz(text, &end, &value), ==, 0);
    g_assert_cmpuint(value, ==, EiB);
    g_assert_true(end == text + 2);

    text = "junk";
    g_assert_cmpint(qemu_strtosz(text, &end, &value), ==, -EINVAL);
    g_assert_true(end == text);
    text = "1.5,";
    g_assert_cmpint(qemu_strtosz(text, &end, &value), ==, -EINVAL);
    g_assert_true(end == text);
    text = "16E:";
    g_assert_cmpint(qemu_strtosz(text, &end, &value), ==, -ERANGE);
    g_assert_true(end == text + 3);
    g_assert_cmpint(qemu_strtosz(NULL, &end, &value), ==, -EINVAL);
    g_assert_null(end);
    g_assert_cmpint(qemu_strtosz(NULL, NULL, &value), ==, -EINVAL);

    g_assert_cmpint(qemu_strtosz_MiB("1.5", NULL, &value), ==, 0);
    g_assert_cmpuint(value, ==, 1536 * KiB);
    g_assert_cmpint(qemu_strtosz_MiB("5b", NULL, &value), ==, 0);
    g_assert_cmpuint(value, ==, 5);
    g_assert_cmpint(qemu_strtosz_metric("12.345M", NULL, &value), ==, 0);
    g_assert_cmpuint(value, ==, 12345000);
}

static void test_strtosz_hex_suffix(void)
{
    if (g_test_subprocess()) {
        uint64_t value;

        error_init("frob");
        g_assert_cmpint(qemu_strtosz("0x10k", NULL, &value), ==, 0);
        g_assert_cmpuint(value, ==, 16 * KiB);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("frob: warning: Using a multiplier suffix on "
                              "hex numbers is deprecated: 0x10k\n");
}

static void test_strtoi(void)
{
    const char *end, *text = " -42x";
    int64_t i64;
    int i;

    g_assert_cmpint(qemu_strtoi("-42", NULL, 0, &i), ==, 0);
    g_assert_cmpint(i, ==, -42);
    g_assert_cmpint(qemu_strtoi(text, &end, 0, &i), ==, 0);
    g_assert_cmpint(i, ==, -42);
    g_assert_true(end == text + 4);
    g_assert_cmpint(qemu_strtoi(text, NULL, 0, &i), ==, -EINVAL);
    g_assert_cmpint(i, ==, 0);
    g_assert_cmpint(qemu_strtoi("", NULL, 0, &i), ==, -EINVAL);
    g_assert_cmpint(qemu_strtoi(NULL, &end, 0, &i), ==, -EINVAL);
    g_assert_null(end);
    g_assert_cmpint(qemu_strtoi("2147483648", NULL, 0, &i), ==, -ERANGE);
    g_assert_cmpint(i, ==, INT_MAX);
    g_assert_cmpint(qemu_strtoi("-99999999999999999999", NULL, 0, &i), ==,
                    -ERANGE);
    g_assert_cmpint(i, ==, INT_MIN);
    g_assert_cmpint(qemu_strtoi("99999999999999999999x", NULL, 0, &i), ==,
                    -EINVAL);

    g_assert_cmpint(qemu_strtoi64("0x7fffffffffffffff", NULL, 0, &i64), ==, 0);
    g_assert_cmpint(i64, ==, INT64_MAX);
    g_assert_cmpint(qemu_strtoi64("9223372036854775808", NULL, 0, &i64), ==,
                    -ERANGE);
    g_assert_cmpint(i64, ==, INT64_MAX);
    g_assert_cmpint(qemu_strtoi64("-9223372036854775808", NULL, 10, &i64), ==,
                    0);
    g_assert_cmpint(i64, ==, INT64_MIN);
}

static void test_strtou(void)
{
    unsigned int u;
    uint64_t u64;

    g_assert_cmpint(qemu_strtoui("4294967295", NULL, 0, &u), ==, 0);
    g_assert_cmpuint(u, ==, UINT_MAX);
    g_assert_cmpint(qemu_strtoui("4294967296", NULL, 0, &u), ==, -ERANGE);
    g_assert_cmpuint(u, ==, UINT_MAX);
    g_assert_cmpint(qemu_strtoui("-1", NULL, 0, &u), ==, 0);
    g_assert_cmpuint(u, ==, UINT_MAX);
    g_assert_cmpint(qemu_strtoui("-0", NULL, 0, &u), ==, 0);
    g_assert_cmpuint(u, ==, 0);
    g_assert_cmpint(qemu_strtoui("-4294967296", NULL, 0, &u), ==, -ERANGE);
    g_assert_cmpint(qemu_strtoui("99999999999999999999", NULL, 0, &u), ==,
                    -ERANGE);
    g_assert_cmpint(qemu_strtoui("x", NULL, 0, &u), ==, -EINVAL);
    g_assert_cmpuint(u, ==, 0);

    g_assert_cmpint(qemu_strtou64("18446744073709551615", NULL, 0, &u64), ==,
                    0);
    g_assert_cmpuint(u64, ==, UINT64_MAX);
    g_assert_cmpint(qemu_strtou64("18446744073709551616", NULL, 0, &u64), ==,
                    -ERANGE);
    g_assert_cmpuint(u64, ==, UINT64_MAX);
    g_assert_cmpint(qemu_strtou64("077", NULL, 0, &u64), ==, 0);
    g_assert_cmpuint(u64, ==, 63);

    g_assert_cmpint(parse_uint_full("077", 10, &u64), ==, 0);
    g_assert_cmpuint(u64, ==, 77);
    g_assert_cmpint(parse_uint_full(" -1", 0, &u64), ==, -EINVAL);
    g_assert_cmpint(parse_uint_full("1x", 0, &u64), ==, -EINVAL);
    g_assert_cmpint(parse_uint_full(NULL, 0, &u64), ==, -EINVAL);
}

static void test_size_to_str(void)
{
    static const struct {
        uint64_t size;
        const char *text;
    } cases[] = {
        { 0, "0 B" }, { 512, "512 B" }, { 999, "999 B" },
        { 1000, "0.977 KiB" }, { 1023, "0.999 KiB" }, { 1024, "1 KiB" },
        { 1536, "1.5 KiB" }, { 200704, "196 KiB" }, { 1234944, "1.18 MiB" },
        { 1022976, "999 KiB" }, { 1023488, "1e+03 KiB" },
        { 1000000000, "954 MiB" }, { 1047999488, "999 MiB" },
        { 1048576000, "0.977 GiB" }, { 1072693248, "0.999 GiB" },
        { 10ULL << 30, "10 GiB" }, { 12345679360, "11.5 GiB" },
        { 5ULL << 38, "1.25 TiB" }, { 1098437885952, "0.999 TiB" },
        { UINT64_MAX, "16 EiB" }, { 7 * EiB, "7 EiB" },
        { 1000ULL << 50, "0.977 EiB" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *text = size_to_str(cases[i].size);

        g_assert_cmpstr(text, ==, cases[i].text);
    }
}

static void test_freq_to_str(void)
{
    g_autofree char *a = freq_to_str(999), *b = freq_to_str(1500000);
    g_autofree char *c = freq_to_str(2400000000);

    g_assert_cmpstr(a, ==, "999 Hz");
    g_assert_cmpstr(b, ==, "1.5 MHz");
    g_assert_cmpstr(c, ==, "2.4 GHz");
}

static void test_pow2(void)
{
    g_assert_false(is_power_of_2(0));
    g_assert_true(is_power_of_2(1));
    g_assert_true(is_power_of_2(1ULL << 63));
    g_assert_false(is_power_of_2(UINT64_MAX));
    g_assert_cmpint(ctz64(0), ==, 64);
    g_assert_cmpint(ctz64(1ULL << 40), ==, 40);
    g_assert_cmpint(clz64(0), ==, 64);
    g_assert_cmpint(clz64(1), ==, 63);
    g_assert_cmpint(ctz32(0), ==, 32);
    g_assert_cmpint(clz32(1), ==, 31);
    g_assert_cmpint(ctpop64(0xff00ff), ==, 16);
    g_assert_cmphex(pow2ceil(0), ==, 1);
    g_assert_cmphex(pow2ceil(1), ==, 1);
    g_assert_cmphex(pow2ceil(3), ==, 4);
    g_assert_cmphex(pow2ceil(1ULL << 63), ==, 1ULL << 63);
    g_assert_cmphex(pow2ceil((1ULL << 63) + 1), ==, 0);
    g_assert_cmphex(pow2floor(1), ==, 1);
    g_assert_cmphex(pow2floor(7), ==, 4);
    g_assert_cmphex(pow2floor(UINT64_MAX), ==, 1ULL << 63);
}

static void test_strings(void)
{
    const char *rest = "unset";
    char buf[8] = "";

    g_assert_true(strstart("nbd:host", "nbd:", &rest));
    g_assert_cmpstr(rest, ==, "host");
    g_assert_false(strstart("nbd", "nbd:", &rest));
    g_assert_cmpstr(rest, ==, "host");
    g_assert_true(strstart("abc", "", NULL));
    g_assert_false(strstart("NBD:", "nbd:", NULL));
    g_assert_true(stristart("NBD:x", "nbd:", &rest));
    g_assert_cmpstr(rest, ==, "x");

    pstrcpy(buf, sizeof(buf), "abc");
    g_assert_cmpstr(buf, ==, "abc");
    pstrcat(buf, sizeof(buf), "defghijk");
    g_assert_cmpstr(buf, ==, "abcdefg");
    pstrcpy(buf, 3, "12345");
    g_assert_cmpstr(buf, ==, "12");
    pstrcpy(buf, 0, "x");
    g_assert_cmpstr(buf, ==, "12");
}

static void test_paths(void)
{
    static const struct {
        const char *base, *name, *want;
    } cases[] = {
        { "a.img", "b.img", "b.img" },
        { "dir/a.img", "b.img", "dir/b.img" },
        { "/d/e/a.img", "../b.img", "/d/e/../b.img" },
        { "/d/a.img", "/abs/b.img", "/abs/b.img" },
        { "/d/a.img", "nbd://host/x", "nbd://host/x" },
        { "/d/a.img", "./x:y", "/d/./x:y" },
        { "dir/", "b", "dir/b" },
        { "nbd://host/dir/a", "b", "nbd://host/dir/b" },
        { "file:a", "b", "file:b" },
        { "file:dir/a", "b", "file:dir/b" },
        { "./odd:name", "b", "./b" },
        { "dir/odd:name/a", "b", "dir/odd:name/b" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *path = path_combine(cases[i].base, cases[i].name);

        g_assert_cmpstr(path, ==, cases[i].want);
    }
    g_assert_true(path_has_protocol("nbd:x"));
    g_assert_false(path_has_protocol("./nbd:x"));
    g_assert_false(path_has_protocol("x"));
    g_assert_true(path_is_absolute("/x"));
    g_assert_true(path_is_absolute("file:/x"));
    g_assert_false(path_is_absolute("x/y"));
    g_assert_false(path_is_absolute("file:x"));
}

static void test_hexdump(void)
{
    unsigned char data[33] = "Hello\0\x7f\x80~ world, this is a test ";
    char *text = NULL;
    size_t len;
    FILE *fp = open_memstream(&text, &len);

    data[32] = 'o';
    qemu_hexdump(fp, 0, data, 33);
    qemu_hexdump(fp, 4294967300, data, 3);
    qemu_hexdump(fp, 0, data, 0);
    fclose(fp);
    g_assert_cmpstr(text, ==,
        "00000000:  48 65 6c 6c 6f 00 7f 80 7e 20 77 6f 72 6c 64 2c  "
        "Hello.....world.\n"
        "00000010:  20 74 68 69 73 20 69 73 20 61 20 74 65 73 74 20  "
        ".this.is.a.test.\n"
        "00000020:  6f  o\n"
        "100000004:  48 65 6c  Hel\n");
    free(text);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cutils/strtosz", test_strtosz);
    g_test_add_func("/cutils/strtosz-end", test_strtosz_end);
    g_test_add_func("/cutils/strtosz-hex-suffix", test_strtosz_hex_suffix);
    g_test_add_func("/cutils/strtoi", test_strtoi);
    g_test_add_func("/cutils/strtou", test_strtou);
    g_test_add_func("/cutils/size-to-str", test_size_to_str);
    g_test_add_func("/cutils/freq-to-str", test_freq_to_str);
    g_test_add_func("/cutils/pow2", test_pow2);
    g_test_add_func("/cutils/strings", test_strings);
    g_test_add_func("/cutils/paths", test_paths);
    g_test_add_func("/cutils/hexdump", test_hexdump);
    return g_test_run();
}
