/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking for zeroes in buffers.
 *
 * Most buffers that are not zero show it early, so a probe of a few words
 * goes before the vector loop, and the loop gives up once per block.  Every
 * implementation gets at least MIN_BLOCK bytes and covers the end of the buffer
 * with one block that overlaps what it has seen: no scalar tail.
 */
#include "util/osdep.h"
#include "util/zero.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_X86 1
#else
#define HAVE_X86 0
#endif

#define MIN_BLOCK 256

static inline uint64_t load64(const unsigned char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint64_t or_block64(const unsigned char *p)
{
    return load64(p) | load64(p + 8) | load64(p + 16) | load64(p + 24) |
           load64(p + 32) | load64(p + 40) | load64(p + 48) | load64(p + 56);
}

static bool is_zero_portable(const unsigned char *buf, size_t len)
{
    const unsigned char *last = buf + len - 64;

    for (const unsigned char *p = buf; p < last; p += 64) {
        if (or_block64(p)) {
            return false;
        }
    }
    return !or_block64(last);
}

#if HAVE_X86
static inline __m128i or_block_sse2(const unsigned char *p)
{
    const __m128i *v = (const __m128i *)p;
    __m128i a = _mm_or_si128(_mm_loadu_si128(v), _mm_loadu_si128(v + 1));
    __m128i b = _mm_or_si128(_mm_loadu_si128(v + 2), _mm_loadu_si128(v + 3));
    __m128i c = _mm_or_si128(_mm_loadu_si128(v + 4), _mm_loadu_si128(v + 5));
    __m128i d = _mm_or_si128(_mm_loadu_si128(v + 6), _mm_loadu_si128(v + 7));

    return _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d));
}

static inline bool nonzero_sse2(__m128i v)
{
    __m128i eq = _mm_cmpeq_epi8(v, _mm_setzero_si128());

    return _mm_movemask_epi8(eq) != 0xffff;
}

static bool is_zero_sse2(const unsigned char *buf, size_t len)
{
    const unsigned char *last = buf + len - 128;

    for (const unsigned char *p = buf; p < last; p += 128) {
        if (nonzero_sse2(or_block_sse2(p))) {
            return false;
        }
    }
    return !nonzero_sse2(or_block_sse2(last));
}

__attribute__((target("avx2")))
static inline __m256i or_block_avx2(const unsigned char *p)
{
    const __m256i *v = (const __m256i *)p;
    __m256i a = _mm256_or_si256(_mm256_loadu_si256(v),
                                _mm256_loadu_si256(v + 1));
    __m256i b = _mm256_or_si256(_mm256_loadu_si256(v + 2),
                                _mm256_loadu_si256(v + 3));
    __m256i c = _mm256_or_si256(_mm256_loadu_si256(v + 4),
                                _mm256_loadu_si256(v + 5));
    __m256i d = _mm256_or_si256(_mm256_loadu_si256(v + 6),
                                _mm256_loadu_si256(v + 7));

    return _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
}

__attribute__((target("avx2")))
static bool is_zero_avx2(const unsigned char *buf, size_t len)
{
    const unsigned char *last = buf + len - 256;
    __m256i v;

    for (const unsigned char *p = buf; p < last; p += 256) {
        v = or_block_avx2(p);
        if (!_mm256_testz_si256(v, v)) {
            return false;
        }
    }
    v = or_block_avx2(last);
    return _mm256_testz_si256(v, v);
}
#endif /* HAVE_X86 */

typedef bool IsZeroFunc(const unsigned char *buf, size_t len);

static const struct {
    const char *name;
    IsZeroFunc *func;
} impls[] = {
    { "portable", is_zero_portable },
#if HAVE_X86
    { "sse2", is_zero_sse2 },
    { "avx2", is_zero_avx2 },
#endif
};

/* Written before main() only (and by tests); usable before that, too. */
static IsZeroFunc *is_zero_large = is_zero_portable;

static bool cpu_can(unsigned int index)
{
#if HAVE_X86
    if (impls[index].func == is_zero_avx2) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2");
    }
#endif
    return true;
}

const char *buffer_is_zero_select(unsigned int index)
{
    if (index >= ARRAY_SIZE(impls) || !cpu_can(index)) {
        return NULL;
    }
    is_zero_large = impls[index].func;
    return impls[index].name;
}

static void __attribute__((constructor)) select_best(void)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(impls); i++) {
        buffer_is_zero_select(i);
    }
}

static bool is_zero_small(const unsigned char *p, size_t len)
{
    unsigned char acc = 0;

    for (; len >= 8; p += 8, len -= 8) {
        if (load64(p)) {
            return false;
        }
    }
    while (len--) {
        acc |= *p++;
    }
    return !acc;
}

bool buffer_is_zero(const void *buf, size_t len)
{
    const unsigned char *p = buf;

    if (len < MIN_BLOCK) {
        return is_zero_small(p, len);
    }
    if (load64(p) | load64(p + len / 2) | load64(p + len - 8)) {
        return false;
    }
    return is_zero_large(p, len);
}

/* Ranges are narrowed by buffer_is_zero() down to this size. */
#define SEARCH_BLOCK 1024

size_t buffer_find_nonzero(const void *buf, size_t len)
{
    const unsigned char *p = buf;
    size_t i = 0;

    while (len - i >= SEARCH_BLOCK && buffer_is_zero(p + i, SEARCH_BLOCK)) {
        i += SEARCH_BLOCK;
    }
    while (len - i >= 8 && !load64(p + i)) {
        i += 8;
    }
    while (i < len && !p[i]) {
        i++;
    }
    return i;
}

size_t buffer_nonzero_end(const void *buf, size_t len)
{
    const unsigned char *p = buf;

    while (len >= SEARCH_BLOCK &&
           buffer_is_zero(p + len - SEARCH_BLOCK, SEARCH_BLOCK)) {
        len -= SEARCH_BLOCK;
    }
    while (len >= 8 && !load64(p + len - 8)) {
        len -= 8;
    }
    while (len && !p[len - 1]) {
        len--;
    }
    return len;
}

bool buffer_zero_run(const void *buf, size_t len, size_t unit,
                     size_t *run_len)
{
    const unsigned char *p = buf;
    size_t n = MIN(unit, len);
    bool zero;

    assert(len > 0 && unit > 0);
    zero = buffer_is_zero(p, n);
    if (zero) {
        /* One search is cheaper than a call per unit. */
        n = buffer_find_nonzero(p, len);
        if (n < len) {
            n -= n % unit;
        }
    } else {
        while (n < len && !buffer_is_zero(p + n, MIN(unit, len - n))) {
            n += MIN(unit, len - n);
        }
    }
    *run_len = n;
    return zero;
}
