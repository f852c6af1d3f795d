/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers and sizes from text.
 *
 * Everything is integer arithmetic: a size of 19 digits survives exactly.
 */
#include "util/osdep.h"
#include "util/cutils.h"
#include "util/error.h"

/*
 * Scans one integer with strtoll()/strtoull() and applies the rules on @endptr
 * that are common to all.  0, -EINVAL or -ERANGE.
 */
static int finish(const char *nptr, char *end, int err, const char **endptr)
{
    if (endptr) {
        *endptr = end;
    }
    if (end == nptr || (!endptr && *end)) {
        return -EINVAL;
    }
    return -err;
}

static int no_string(const char *nptr, const char **endptr)
{
    if (endptr) {
        *endptr = nptr;
    }
    return -EINVAL;
}

int qemu_strtoi64(const char *nptr, const char **endptr, int base,
                  int64_t *result)
{
    long long val;
    char *end;
    int ret;

    if (!nptr) {
        *result = 0;
        return no_string(nptr, endptr);
    }
    errno = 0;
    val = strtoll(nptr, &end, base);
    ret = finish(nptr, end, errno, endptr);
    *result = ret == -EINVAL ? 0 : val;
    return ret;
}

int qemu_strtoi(const char *nptr, const char **endptr, int base, int *result)
{
    int64_t val;
    int ret = qemu_strtoi64(nptr, endptr, base, &val);

    *result = CLAMP(val, INT_MIN, INT_MAX);
    return ret == 0 && *result != val ? -ERANGE : ret;
}

int qemu_strtou64(const char *nptr, const char **endptr, int base,
                  uint64_t *result)
{
    unsigned long long val;
    char *end;
    int ret;

    if (!nptr) {
        *result = 0;
        return no_string(nptr, endptr);
    }
    errno = 0;
    val = strtoull(nptr, &end, base);
    ret = finish(nptr, end, errno, endptr);
    *result = ret == -EINVAL ? 0 : val;
    return ret;
}

static bool has_minus(const char *nptr)
{
    while (isspace((unsigned char)*nptr)) {
        nptr++;
    }
    return *nptr == '-';
}

int qemu_strtoui(const char *nptr, const char **endptr, int base,
                 unsigned int *result)
{
    uint64_t val;
    int ret = qemu_strtou64(nptr, endptr, base, &val);

    *result = val;
    if (ret == -EINVAL) {
        return ret;
    }
    /* The magnitude decides, whatever the sign. */
    if (ret == -ERANGE ||
        (has_minus(nptr) && val != 0 ? -val : val) > UINT_MAX) {
        *result = UINT_MAX;
        return -ERANGE;
    }
    return 0;
}

int parse_uint_full(const char *nptr, int base, uint64_t *result)
{
    if (!nptr || has_minus(nptr)) {
        *result = 0;
        return -EINVAL;
    }
    return qemu_strtou64(nptr, NULL, base, result);
}

/* The factor of a suffix, 0 if @c is none. */
static uint64_t suffix_factor(char c, uint64_t unit)
{
    static const char suffixes[] = "bkmgtpe";
    const char *s = c ? strchr(suffixes, g_ascii_tolower(c)) : NULL;
    uint64_t factor = 1;

    if (!s) {
        return 0;
    }
    for (const char *p = suffixes; p < s; p++) {
        factor *= unit;
    }
    return factor;
}

/*
 * Scans the digits behind a decimal point as a multiple of 10^-20: enough to
 * round an EiB to the byte, and 2^60 times that still fits in 128 bits.
 */
#define FRACTION_ONE ((unsigned __int128)10000000000ULL * 10000000000ULL)

static const char *scan_fraction(const char *p, unsigned __int128 *fraction,
                                 bool *nonzero)
{
    unsigned __int128 scale = FRACTION_ONE / 10;

    *fraction = 0;
    *nonzero = false;
    for (; g_ascii_isdigit(*p); p++) {
        /* Digits beyond the scale still tell 0 from not 0. */
        *fraction += (*p - '0') * scale;
        scale /= 10;
        *nonzero |= *p != '0';
    }
    return p;
}

/* Parses up to the end of the number.  *@end is NULL if there is none. */
static int scan_size(const char *nptr, const char **end, char default_suffix,
                     uint64_t unit, uint64_t *result)
{
    const char *p = nptr;
    unsigned __int128 val, fraction = 0;
    bool hex, nonzero = false, overflow;
    uint64_t whole, factor;

    *end = NULL;
    while (isspace((unsigned char)*p)) {
        p++;
    }
    if (*p == '+') {
        p++;
    }
    hex = p[0] == '0' && g_ascii_tolower(p[1]) == 'x' &&
          g_ascii_isxdigit(p[2]);
    if (!g_ascii_isdigit(*p)) {
        return -EINVAL;
    }
    overflow = qemu_strtou64(p, &p, hex ? 16 : 10, &whole) == -ERANGE;
    if (*p == '.') {
        if (hex) {
            return -EINVAL;
        }
        p = scan_fraction(p + 1, &fraction, &nonzero);
    }

    factor = suffix_factor(*p, unit);
    if (factor) {
        if (hex) {
            warn_report("Using a multiplier suffix on hex numbers "
                        "is deprecated: %s", nptr);
        }
        p++;
    } else {
        factor = suffix_factor(default_suffix, unit);
    }
    if (nonzero && factor == 1) {
        return -EINVAL;
    }
    *end = p;

    val = (unsigned __int128)whole * factor +
          (fraction * factor + FRACTION_ONE / 2) / FRACTION_ONE;
    if (overflow || val > UINT64_MAX) {
        *result = UINT64_MAX;
        return -ERANGE;
    }
    *result = val;
    return 0;
}

static int do_strtosz(const char *nptr, const char **endptr,
                      char default_suffix, uint64_t unit, uint64_t *result)
{
    const char *end = NULL;
    int ret = nptr ? scan_size(nptr, &end, default_suffix, unit, result)
                   : -EINVAL;

    if (endptr) {
        *endptr = end ? end : nptr;
    } else if (end && *end) {
        ret = -EINVAL;
    }
    if (ret == -EINVAL) {
        *result = 0;
    }
    return ret;
}

int qemu_strtosz(const char *nptr, const char **endptr, uint64_t *result)
{
    return do_strtosz(nptr, endptr, 'b', 1024, result);
}

int qemu_strtosz_MiB(const char *nptr, const char **endptr, uint64_t *result)
{
    return do_strtosz(nptr, endptr, 'm', 1024, result);
}

int qemu_strtosz_metric(const char *nptr, const char **endptr,
                        uint64_t *result)
{
    return do_strtosz(nptr, endptr, 'b', 1000, result);
}
