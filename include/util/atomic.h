/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Atomic access to naturally aligned scalars of at most 8 bytes, over the
 * compiler's builtins. Usable from any thread; nothing here yields.
 *
 *   qatomic_read/set                 relaxed
 *   qatomic_load_acquire             later accesses stay after it
 *   qatomic_store_release            earlier accesses stay before it
 *   every read-modify-write          sequentially consistent
 *
 * An algorithm in which one side writes A and reads B while the other writes
 * B and reads A (sleep and wake-up) uses qatomic_load_seq_cst and the
 * read-modify-writes, or smp_mb() between the two accesses.
 */
#ifndef UTIL_ATOMIC_H
#define UTIL_ATOMIC_H

#include "util/osdep.h"

/* Stops the compiler, not the processor. */
#define barrier() __asm__ __volatile__("" ::: "memory")

#ifdef __SANITIZE_THREAD__
#define QATOMIC_TSAN_ 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define QATOMIC_TSAN_ 1
#endif
#endif

#ifdef QATOMIC_TSAN_
/*
 * ThreadSanitizer does not follow fences, so a fence is a read-modify-write
 * of one common word there: stronger than a fence, and visible to the tool.
 */
extern int qatomic_tsan_fence_word;
#define QATOMIC_FENCE_(order)                                               \
    ((void)__atomic_fetch_add(&qatomic_tsan_fence_word, 0, __ATOMIC_SEQ_CST))
#else
#define QATOMIC_FENCE_(order) __atomic_thread_fence(order)
#endif

#define smp_mb() QATOMIC_FENCE_(__ATOMIC_SEQ_CST)
#define smp_rmb() QATOMIC_FENCE_(__ATOMIC_ACQUIRE)
#define smp_wmb() QATOMIC_FENCE_(__ATOMIC_RELEASE)
#define smp_mb_acquire() QATOMIC_FENCE_(__ATOMIC_ACQUIRE)
#define smp_mb_release() QATOMIC_FENCE_(__ATOMIC_RELEASE)

#define QATOMIC_SIZE_(p)                                                    \
    _Static_assert(sizeof(*(p)) <= 8, "too wide for one atomic access")

#define qatomic_read(p)                                                     \
    ({                                                                      \
        QATOMIC_SIZE_(p);                                                   \
        __atomic_load_n((p), __ATOMIC_RELAXED);                             \
    })
#define qatomic_set(p, v)                                                   \
    do {                                                                    \
        QATOMIC_SIZE_(p);                                                   \
        __atomic_store_n((p), (v), __ATOMIC_RELAXED);                       \
    } while (0)
#define qatomic_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define qatomic_load_seq_cst(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define qatomic_store_release(p, v)                                         \
    __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Return the old value. */
#define qatomic_xchg(p, v)                                                  \
    ({                                                                      \
        __typeof__(*(p)) qa_old_ =                                          \
            __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST);                \
        qa_old_;                                                            \
    })
/* The swap happened exactly when the result equals @old. */
#define qatomic_cmpxchg(p, old, new)                                        \
    ({                                                                      \
        __typeof__(*(p)) qa_old_ = (old);                                   \
        (void)__atomic_compare_exchange_n((p), &qa_old_, (new), false,      \
                                          __ATOMIC_SEQ_CST,                 \
                                          __ATOMIC_SEQ_CST);                \
        qa_old_;                                                            \
    })
#define qatomic_fetch_add(p, n) __atomic_fetch_add(p, n, __ATOMIC_SEQ_CST)
#define qatomic_fetch_sub(p, n) __atomic_fetch_sub(p, n, __ATOMIC_SEQ_CST)
#define qatomic_fetch_and(p, n) __atomic_fetch_and(p, n, __ATOMIC_SEQ_CST)
#define qatomic_fetch_or(p, n) __atomic_fetch_or(p, n, __ATOMIC_SEQ_CST)
#define qatomic_fetch_xor(p, n) __atomic_fetch_xor(p, n, __ATOMIC_SEQ_CST)
#define qatomic_fetch_inc(p) qatomic_fetch_add(p, 1)
#define qatomic_fetch_dec(p) qatomic_fetch_sub(p, 1)

/* Return the new value. */
#define qatomic_add_fetch(p, n) __atomic_add_fetch(p, n, __ATOMIC_SEQ_CST)
#define qatomic_sub_fetch(p, n) __atomic_sub_fetch(p, n, __ATOMIC_SEQ_CST)
#define qatomic_and_fetch(p, n) __atomic_and_fetch(p, n, __ATOMIC_SEQ_CST)
#define qatomic_or_fetch(p, n) __atomic_or_fetch(p, n, __ATOMIC_SEQ_CST)
#define qatomic_xor_fetch(p, n) __atomic_xor_fetch(p, n, __ATOMIC_SEQ_CST)
#define qatomic_inc_fetch(p) qatomic_add_fetch(p, 1)
#define qatomic_dec_fetch(p) qatomic_sub_fetch(p, 1)

/* Return nothing. */
#define qatomic_inc(p) ((void)qatomic_fetch_add(p, 1))
#define qatomic_dec(p) ((void)qatomic_fetch_sub(p, 1))
#define qatomic_add(p, n) ((void)qatomic_fetch_add(p, n))
#define qatomic_sub(p, n) ((void)qatomic_fetch_sub(p, n))
#define qatomic_and(p, n) ((void)qatomic_fetch_and(p, n))
#define qatomic_or(p, n) ((void)qatomic_fetch_or(p, n))

/* 64-bit statistics on any host. */
typedef int64_t aligned_int64_t QEMU_ALIGNED(8);
typedef uint64_t aligned_uint64_t QEMU_ALIGNED(8);

/* Tells the processor that this thread spins. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield" ::: "memory");
#else
    barrier();
#endif
}

#endif /* UTIL_ATOMIC_H */
