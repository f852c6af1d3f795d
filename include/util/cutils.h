/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text and numbers as users write and read them, and powers of two.
 *
 * Any thread, coroutine or not.  Functions that return `char *` give a string
 * the caller frees with g_free().
 */
#ifndef UTIL_CUTILS_H
#define UTIL_CUTILS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* --- strings --- */

/* Copy @str into @buf of @buf_size bytes, cut to fit and always terminated. */
void pstrcpy(char *buf, int buf_size, const char *str);

/* Append @str to the string in @buf, cut to fit. */
char *pstrcat(char *buf, int buf_size, const char *str);

/*
 * 1 if @str begins with @val (stristart: in either case), and then *@ptr
 * (unless @ptr is NULL) points behind it in @str; 0 otherwise, *@ptr
 * untouched.
 */
int strstart(const char *str, const char *val, const char **ptr);
int stristart(const char *str, const char *val, const char **ptr);

/* --- numbers ---
 *
 * Common to the functions below: leading white space and a sign are accepted
 * as strtol() does, @base is strtol()'s.  If @endptr is NULL the number must
 * be all of @nptr; otherwise *@endptr is set to the first character not used
 * (@nptr itself if there is no number). They return
 *   0        and the number in *@result
 *   -EINVAL  no number, or something after it and @endptr is NULL, or @nptr
 *            is NULL: *@result is 0
 *   -ERANGE  *@result is the limit nearest to the number
 */
int qemu_strtoi(const char *nptr, const char **endptr, int base, int *result);
int qemu_strtoi64(const char *nptr, const char **endptr, int base,
                  int64_t *result);

/* A minus sign negates modulo the type, as strtoul() does. */
int qemu_strtoui(const char *nptr, const char **endptr, int base,
                 unsigned int *result);
int qemu_strtou64(const char *nptr, const char **endptr, int base,
                  uint64_t *result);

/* As qemu_strtou64() on a whole string, where a minus sign is -EINVAL. */
int parse_uint_full(const char *nptr, int base, uint64_t *result);

/*
 * A size in bytes: decimal or hex digits and an optional suffix b, k, M, G, T,
 * P or E (any case, powers of 1024); without one the number means bytes, or
 * MiB for the second function, or decimal kilo and so on for the third.  A
 * decimal number may have a fraction, which is rounded to the nearest byte,
 * but not one of a byte.  Hex digits swallow b and e; another suffix there is
 * accepted with a warning.  No exponents, no minus sign. Returns 0, -EINVAL,
 * or -ERANGE (*@result is UINT64_MAX), as above.
 */
int qemu_strtosz(const char *nptr, const char **endptr, uint64_t *result);
int qemu_strtosz_MiB(const char *nptr, const char **endptr, uint64_t *result);
int qemu_strtosz_metric(const char *nptr, const char **endptr,
                        uint64_t *result);

/* For people, three digits: 1536 gives "1.5 KiB", 1000 MiB "0.977 GiB". */
char *size_to_str(uint64_t val);

/* For people: 1500000 gives "1.5 MHz". */
char *freq_to_str(uint64_t freq_hz);

/* --- powers of two --- */

/* Trailing/leading zero bits; 64 (32) for 0. */
static inline int ctz64(uint64_t v)
{
    return v ? __builtin_ctzll(v) : 64;
}

static inline int clz64(uint64_t v)
{
    return v ? __builtin_clzll(v) : 64;
}

static inline int ctz32(uint32_t v)
{
    return v ? __builtin_ctz(v) : 32;
}

static inline int clz32(uint32_t v)
{
    return v ? __builtin_clz(v) : 32;
}

/* Number of one bits. */
static inline int ctpop64(uint64_t v)
{
    return __builtin_popcountll(v);
}

/* False for 0. */
static inline bool is_power_of_2(uint64_t v)
{
    return v && !(v & (v - 1));
}

/* Largest power of 2 that is at most @v; @v must not be 0. */
static inline uint64_t pow2floor(uint64_t v)
{
    return 1ULL << (63 - clz64(v));
}

/* Smallest power of 2 that is at least @v; 1 for 0, and 0 if it is 2^64. */
static inline uint64_t pow2ceil(uint64_t v)
{
    int n = v <= 1 ? 0 : 64 - clz64(v - 1);

    return n == 64 ? 0 : 1ULL << n;
}

/* --- file names --- */

/* Nonzero if @path begins with "PROTOCOL:", a colon before any slash. */
int path_has_protocol(const char *path);

/* Nonzero if @path, after a protocol prefix if any, begins with a slash. */
int path_is_absolute(const char *path);

/*
 * The name that @filename means when it is written in the file @base_path:
 * @filename itself if it is absolute or has a protocol, else the directory
 * (and protocol) of @base_path with @filename behind it.
 */
char *path_combine(const char *base_path, const char *filename);

/* --- dumps --- */

/*
 * Print @len bytes on @fp as qemu-io shows them, 16 in a line: address counted
 * from @offset, hex, and letters and digits as text.
 */
void qemu_hexdump(FILE *fp, uint64_t offset, const void *buf, size_t len);

#endif /* UTIL_CUTILS_H */
