/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between coroutine.c (life and death), coroutine-stack.c (memory and
 * sanitizers), coroutine-switch.c (changing stacks) and the event loop.
 */
#ifndef UTIL_COROUTINE_INT_H
#define UTIL_COROUTINE_INT_H

#include "util/coroutine.h"

/*
 * Saving and loading registers by hand needs to know the calling convention;
 * elsewhere, and where shadow stacks may be on, libc does it.
 */
#if (defined(__x86_64__) && defined(__LP64__) && !defined(__CET__)) ||      \
    (defined(__aarch64__) && defined(__LP64__) &&                           \
     !defined(__ARM_FEATURE_BTI_DEFAULT) &&                                 \
     !defined(__ARM_FEATURE_PAC_DEFAULT))
#ifndef CONFIG_COROUTINE_UCONTEXT
#define COROUTINE_SWITCH_ASM 1
#endif
#endif

#ifndef COROUTINE_SWITCH_ASM
#include <setjmp.h>
#endif

/* Why control came back to the one who entered. */
typedef enum {
    COROUTINE_ENTER = 1,
    COROUTINE_YIELD,
    COROUTINE_TERMINATE,
} CoroutineAction;

struct Coroutine {
    /* Set while the coroutine does not run, or by itself */
    CoroutineEntry *entry;
    void *entry_arg;
    Coroutine *caller;   /* who entered it; NULL while not entered */
    AioContext *move_to; /* to be scheduled there once it has yielded */
    unsigned locks_held;

    /* Atomic: where it last ran or is scheduled */
    AioContext *ctx;
    /* Atomic: the function that scheduled it, NULL when not scheduled */
    const char *scheduled;

    /* In the loop's list of ready coroutines, or in the pool */
    union {
        QSIMPLEQ_ENTRY(Coroutine) ready_next;
        QSLIST_ENTRY(Coroutine) remote_next;
        QSLIST_ENTRY(Coroutine) pool_next;
    };

    /* Private to coroutine-switch.c */
#ifdef COROUTINE_SWITCH_ASM
    void *sp;
#else
    sigjmp_buf env;
#endif

    /* Private to coroutine-stack.c; fixed except for the sanitizers' */
    void *map;
    size_t map_size;
    const void *stack_bottom;
    size_t stack_size;
#ifdef CONFIG_ASAN
    void *fake_stack;
    Coroutine *switched_from;
#endif
#ifdef CONFIG_TSAN
    void *tsan_fiber;
#endif
    unsigned valgrind_id;
};

/* What a thread knows about coroutines. */
typedef struct CoroutineThread {
    Coroutine *current; /* never NULL once set up */
    AioContext *ctx;
    QSLIST_HEAD(, Coroutine) pool;
    unsigned pool_size;
    Coroutine leader; /* stands for the thread's own stack */
} CoroutineThread;

/*
 * Not inlined: the compiler must not keep the address across a yield, after
 * which the code may run in another thread.
 */
CoroutineThread *qemu_coroutine_thread(void);

/* ---- coroutine-stack.c ---- */

/* A coroutine with a stack, every other field zero. Never NULL. */
Coroutine *qemu_coroutine_stack_new(void);
void qemu_coroutine_stack_free(Coroutine *co);
void qemu_coroutine_leader_init(Coroutine *leader);
/*
 * Tell sanitizers about a switch: before it on the old stack, and after it on
 * the new one. Compiled to nothing without sanitizers.
 */
#if defined(CONFIG_ASAN) || defined(CONFIG_TSAN)
void qemu_coroutine_switch_begin(Coroutine *from, Coroutine *to,
                                 CoroutineAction action);
void qemu_coroutine_switch_end(Coroutine *self);
#else
static inline void qemu_coroutine_switch_begin(Coroutine *from, Coroutine *to,
                                               CoroutineAction action)
{
}
static inline void qemu_coroutine_switch_end(Coroutine *self)
{
}
#endif

/* ---- coroutine-switch.c ---- */

/* Makes the next switch to @co start qemu_coroutine_main() on its stack. */
void qemu_coroutine_switch_prepare(Coroutine *co);
/*
 * Continues @to and returns when somebody switches back to @from, with the
 * action of that switch.
 */
CoroutineAction qemu_coroutine_switch(Coroutine *from, Coroutine *to,
                                      CoroutineAction action);

/* ---- coroutine.c ---- */

/*
 * Life of the running coroutine. Returns the one to switch to, with
 * COROUTINE_TERMINATE, from a function that sanitizers do not instrument:
 * such a function left for ever would stay on their own stack of calls.
 */
Coroutine *qemu_coroutine_main(void);

/* ---- aio.c ---- */

/* For a coroutine that is marked as scheduled and not running. */
void aio_co_enter_scheduled(AioContext *ctx, Coroutine *co);

#endif /* UTIL_COROUTINE_INT_H */
