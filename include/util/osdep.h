/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * First include of every C file: build configuration, the parts of libc and
 * GLib that everything uses, and small macros that have no better home.
 *
 * Nothing here allocates except the aligned-memory helpers; everything may be
 * used from any thread and from coroutines, and nothing yields.
 */
#ifndef UTIL_OSDEP_H
#define UTIL_OSDEP_H

#include "config-host.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <inttypes.h>
#include <limits.h>
#include <time.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <assert.h>
#include <signal.h>
#include <glib.h>

#ifdef NDEBUG
#error "assertions guard the data of users: do not build with NDEBUG"
#endif

/* ---- Types that cross module borders and need no header of their own ---- */

typedef struct AioContext AioContext;
typedef struct Coroutine Coroutine;
typedef struct Error Error;
typedef struct QEMUBH QEMUBH;
typedef struct QEMUIOVector QEMUIOVector;
typedef struct QEMUTimer QEMUTimer;

/* ---- Annotations for the reader (and for static checkers) ---- */

/* Must be called from a coroutine; may yield unless its comment says not. */
#define coroutine_fn
/* May be called from a coroutine or not; behaves accordingly. */
#define coroutine_mixed_fn
/* Must not be called from a coroutine. */
#define no_coroutine_fn
/* A coroutine_fn that has a blocking twin for use outside coroutines. */
#define co_wrapper
#define co_wrapper_mixed
#define co_wrapper_bdrv_rdlock
#define co_wrapper_mixed_bdrv_rdlock
/* State of the block graph lock that the caller must provide. */
#define GRAPH_RDLOCK
#define GRAPH_RDLOCK_PTR
#define GRAPH_WRLOCK
#define GRAPH_WRLOCK_PTR
#define GRAPH_UNLOCKED

/* ---- Compiler ---- */

#ifndef likely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

#define QEMU_PACKED __attribute__((packed))
#define QEMU_ALIGNED(n) __attribute__((aligned(n)))
#define QEMU_NORETURN __attribute__((noreturn))
#define QEMU_NOINLINE __attribute__((noinline))
#define QEMU_NONSTRING __attribute__((nonstring))
#define QEMU_WARN_UNUSED_RESULT __attribute__((warn_unused_result))

#define QEMU_BUILD_BUG_MSG(cond, msg) _Static_assert(!(cond), msg)
#define QEMU_BUILD_BUG_ON(cond)                                             \
    QEMU_BUILD_BUG_MSG(cond, "this must not hold: " #cond)

#ifndef stringify
#define stringify_1(s) #s
#define stringify(s) stringify_1(s)
#endif
#ifndef glue
#define glue_1(a, b) a##b
#define glue(a, b) glue_1(a, b)
#endif

/* ---- Structures and arrays ---- */

#ifndef container_of
/* The structure of @type whose @member is at @ptr. */
#define container_of(ptr, type, member)                                     \
    ({                                                                      \
        const __typeof__(((type *)0)->member) *co_of_p_ = (ptr);            \
        (type *)(void *)((char *)co_of_p_ - offsetof(type, member));        \
    })
#endif

#define sizeof_field(type, field) sizeof(((type *)0)->field)
#define endof(type, field) (offsetof(type, field) + sizeof_field(type, field))

#ifndef ARRAY_SIZE
/* Number of elements; a pointer instead of an array does not compile. */
#define ARRAY_SIZE(a)                                                       \
    (sizeof(a) / sizeof((a)[0]) +                                           \
     0 * sizeof(char[1 - 2 * !!__builtin_types_compatible_p(                \
                                 __typeof__(a), __typeof__(&(a)[0]))]))
#endif

/* ---- Numbers ---- */

/*
 * MIN and MAX evaluate each argument once and therefore need a function
 * body; MIN_CONST and MAX_CONST work in constant expressions.
 */
#undef MIN
#undef MAX
#define MIN_MAX_PICK_(op, a, b, va, vb)                                     \
    ({                                                                      \
        __typeof__(1 ? (a) : (b)) va = (a), vb = (b);                       \
        va op vb ? va : vb;                                                 \
    })
#define MIN_MAX_ID_(op, a, b, n)                                            \
    MIN_MAX_PICK_(op, a, b, glue(mm_a_, n), glue(mm_b_, n))
#define MIN(a, b) MIN_MAX_ID_(<, a, b, __COUNTER__)
#define MAX(a, b) MIN_MAX_ID_(>, a, b, __COUNTER__)
#define MIN_CONST(a, b) ((a) < (b) ? (a) : (b))
#define MAX_CONST(a, b) ((a) > (b) ? (a) : (b))
/* The smaller of the two that is not 0; 0 only if both are (no limit). */
#define MIN_NON_ZERO(a, b)                                                  \
    ({                                                                      \
        __typeof__(1 ? (a) : (b)) mnz_a_ = (a), mnz_b_ = (b);               \
        mnz_a_ == 0 ? mnz_b_                                                \
                    : (mnz_b_ == 0 || mnz_a_ < mnz_b_) ? mnz_a_ : mnz_b_;   \
    })

/*
 * Any positive alignment. The caller excludes overflow of n + m - 1:
 * numbers that come from an image are checked before they are rounded.
 */
#define QEMU_ALIGN_DOWN(n, m) ((n) / (m) * (m))
#define QEMU_ALIGN_UP(n, m) QEMU_ALIGN_DOWN((n) + (m) - 1, (m))
#define QEMU_IS_ALIGNED(n, m) (((n) % (m)) == 0)
#define QEMU_ALIGN_PTR_DOWN(p, n)                                           \
    ((__typeof__(p))QEMU_ALIGN_DOWN((uintptr_t)(p), (n)))
#define QEMU_ALIGN_PTR_UP(p, n)                                             \
    ((__typeof__(p))QEMU_ALIGN_UP((uintptr_t)(p), (n)))
#define QEMU_PTR_IS_ALIGNED(p, n) QEMU_IS_ALIGNED((uintptr_t)(p), (n))

/* Powers of two only; d is widened to the type of n. */
#ifndef ROUND_UP
#define ROUND_UP(n, d) ROUND_DOWN((n) + (d) - 1, (d))
#endif
#ifndef ROUND_DOWN
#define ROUND_DOWN(n, d) ((n) & -(0 ? (n) : (d)))
#endif
#ifndef DIV_ROUND_UP
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
#endif

/* ---- System calls ---- */

/* The value of @expr, evaluated again as long as it is -1 with EINTR. */
#define RETRY_ON_EINTR(expr)                                                \
    (__extension__({                                                        \
        __typeof__(expr) roe_;                                              \
        do {                                                                \
            roe_ = (expr);                                                  \
        } while (roe_ == -1 && errno == EINTR);                             \
        roe_;                                                               \
    }))

/* Bytes in a page of memory, a power of two. */
size_t qemu_real_host_page_size(void);

/*
 * Memory aligned to @alignment bytes (a power of two, at least
 * sizeof(void *)), free with qemu_vfree(). @size 0 gives a pointer that may
 * be freed. The first returns NULL when there is no memory, the second
 * aborts as g_malloc() does: use the first for sizes that come from outside.
 */
void *qemu_try_memalign(size_t alignment, size_t size);
void *qemu_memalign(size_t alignment, size_t size);
/* Accepts NULL. Keeps errno. */
void qemu_vfree(void *ptr);

static inline void qemu_vfree_cleanup_(void *p)
{
    qemu_vfree(*(void **)p);
}
/* Like g_autofree for memory from qemu_memalign(). */
#define QEMU_AUTO_VFREE __attribute__((cleanup(qemu_vfree_cleanup_)))

/*
 * Writes or reads all @count bytes unless there is an error or the end of
 * the file, retrying EINTR; not for non-blocking descriptors. Returns the
 * bytes moved; if that is less than @count, errno says why (0: end of file).
 */
ssize_t qemu_write_full(int fd, const void *buf, size_t count);
ssize_t qemu_read_full(int fd, void *buf, size_t count);

/* Switches O_NONBLOCK. Returns 0 or -errno. */
int qemu_fd_set_nonblock(int fd, bool nonblock);

#endif /* UTIL_OSDEP_H */
