/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Byte order: integers as they lie in images and on the wire.
 *
 * For BITS in 16, 32, 64 and END in be, le:
 *   ENDBITS_to_cpu(v), cpu_to_ENDBITS(v)       convert a value
 *   ENDBITS_to_cpus(p), cpu_to_ENDBITSs(p)     convert aligned *p in place
 * and for memory at any address:
 *   ldub_p, lduw_be_p, ldl_be_p, ldq_be_p      load 8 to 64 bits, unsigned
 *   stb_p, stw_be_p, stl_be_p, stq_be_p        store
 * and the same with _le_.  No side effects, any context.
 */
#ifndef UTIL_BSWAP_H
#define UTIL_BSWAP_H

#include <stdint.h>
#include <string.h>

static inline uint16_t bswap16(uint16_t v)
{
    return __builtin_bswap16(v);
}

static inline uint32_t bswap32(uint32_t v)
{
    return __builtin_bswap32(v);
}

static inline uint64_t bswap64(uint64_t v)
{
    return __builtin_bswap64(v);
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BSWAP_BE(bits, v) bswap##bits(v)
#define BSWAP_LE(bits, v) (v)
#elif __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define BSWAP_BE(bits, v) (v)
#define BSWAP_LE(bits, v) bswap##bits(v)
#else
#error "unknown byte order"
#endif

#define BSWAP_DEFINE(bits, end, END, ld, st)                            \
    static inline uint##bits##_t end##bits##_to_cpu(uint##bits##_t v)   \
    {                                                                   \
        return BSWAP_##END(bits, v);                                    \
    }                                                                   \
    static inline uint##bits##_t cpu_to_##end##bits(uint##bits##_t v)   \
    {                                                                   \
        return BSWAP_##END(bits, v);                                    \
    }                                                                   \
    static inline void end##bits##_to_cpus(uint##bits##_t *p)           \
    {                                                                   \
        *p = end##bits##_to_cpu(*p);                                    \
    }                                                                   \
    static inline void cpu_to_##end##bits##s(uint##bits##_t *p)         \
    {                                                                   \
        *p = cpu_to_##end##bits(*p);                                    \
    }                                                                   \
    static inline uint##bits##_t ld##_##end##_p(const void *ptr)        \
    {                                                                   \
        uint##bits##_t v;                                               \
                                                                        \
        memcpy(&v, ptr, sizeof(v));                                     \
        return end##bits##_to_cpu(v);                                   \
    }                                                                   \
    static inline void st##_##end##_p(void *ptr, uint##bits##_t v)      \
    {                                                                   \
        v = cpu_to_##end##bits(v);                                      \
        memcpy(ptr, &v, sizeof(v));                                     \
    }

BSWAP_DEFINE(16, be, BE, lduw, stw)
BSWAP_DEFINE(32, be, BE, ldl, stl)
BSWAP_DEFINE(64, be, BE, ldq, stq)
BSWAP_DEFINE(16, le, LE, lduw, stw)
BSWAP_DEFINE(32, le, LE, ldl, stl)
BSWAP_DEFINE(64, le, LE, ldq, stq)

#undef BSWAP_DEFINE
#undef BSWAP_BE
#undef BSWAP_LE

static inline uint8_t ldub_p(const void *ptr)
{
    return *(const uint8_t *)ptr;
}

static inline void stb_p(void *ptr, uint8_t v)
{
    *(uint8_t *)ptr = v;
}

#endif /* UTIL_BSWAP_H */
