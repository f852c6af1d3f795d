/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small generator of pseudo-random numbers: its whole state is one word. */
#ifndef TESTS_MODEL_RNG_H
#define TESTS_MODEL_RNG_H

#include "util/osdep.h"

typedef struct Rng {
    uint64_t state;
} Rng;

static inline uint64_t rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static inline uint64_t rng_next(Rng *r)
{
    r->state += 0x9e3779b97f4a7c15ULL;
    return rng_mix(r->state);
}

/* 0..@n-1; @n > 0. */
static inline uint64_t rng_below(Rng *r, uint64_t n)
{
    return rng_next(r) % n;
}

/* True in @percent of the cases. */
static inline bool rng_chance(Rng *r, unsigned percent)
{
    return rng_below(r, 100) < percent;
}

#endif
