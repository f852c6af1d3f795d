/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory of coroutines, and what sanitizers and valgrind want to know of it.
 *
 *   map                                                    map + map_size
 *   | guard page |  stack, used from its top down  | Coroutine | colour |
 *
 * The descriptor lives above the stack: one mapping per coroutine, and its
 * first touched page holds both. Colour is a varying gap, without which the
 * hot ends of all stacks would compete for the same few cache sets.
 */
#include "util/osdep.h"
#include <sys/mman.h>
#include "util/atomic.h"
#include "coroutine-int.h"

#ifdef CONFIG_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CONFIG_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#define HAVE_VALGRIND 1
#include <valgrind/valgrind.h>
#endif
#endif

/* Instrumented frames are several times as large. */
#if defined(CONFIG_ASAN) || defined(CONFIG_TSAN)
#define STACK_BYTES (1024 * 1024)
#else
#define STACK_BYTES (256 * 1024)
#endif
#define NR_COLOURS 32
#define COLOUR_BYTES 64

static unsigned stacks_mapped;

unsigned qemu_coroutine_stacks_mapped(void)
{
    return qatomic_read(&stacks_mapped);
}

size_t qemu_coroutine_stack_size(void)
{
    return STACK_BYTES;
}

Coroutine *qemu_coroutine_stack_new(void)
{
    size_t page = qemu_real_host_page_size();
    size_t size = ROUND_UP(page + STACK_BYTES + sizeof(Coroutine) +
                               NR_COLOURS * COLOUR_BYTES + 64, page);
    unsigned n = qatomic_fetch_inc(&stacks_mapped);
    Coroutine *co;
    uintptr_t end;
    char *map;

    map = mmap(NULL, size, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1,
               0);
    if (map == MAP_FAILED || mprotect(map, page, PROT_NONE) < 0) {
        fprintf(stderr, "no memory for the stack of a coroutine: %s\n",
                strerror(errno));
        abort();
    }

    end = (uintptr_t)map + size - (n % NR_COLOURS) * COLOUR_BYTES;
    co = (Coroutine *)ROUND_DOWN(end - sizeof(Coroutine), (uintptr_t)64);
    co->map = map;
    co->map_size = size;
    co->stack_bottom = map + page;
    co->stack_size = (char *)co - (map + page);
#ifdef CONFIG_TSAN
    co->tsan_fiber = __tsan_create_fiber(0);
    __tsan_set_fiber_name(co->tsan_fiber, "coroutine");
#endif
#ifdef HAVE_VALGRIND
    co->valgrind_id = VALGRIND_STACK_REGISTER(map + page, co);
#endif
    return co;
}

void qemu_coroutine_stack_free(Coroutine *co)
{
#ifdef CONFIG_TSAN
    __tsan_destroy_fiber(co->tsan_fiber);
#endif
#ifdef HAVE_VALGRIND
    VALGRIND_STACK_DEREGISTER(co->valgrind_id);
#endif
    munmap(co->map, co->map_size);
}

void qemu_coroutine_leader_init(Coroutine *leader)
{
#ifdef CONFIG_TSAN
    leader->tsan_fiber = __tsan_get_current_fiber();
#endif
}

#if defined(CONFIG_ASAN) || defined(CONFIG_TSAN)
void __attribute__((no_sanitize("thread")))
qemu_coroutine_switch_begin(Coroutine *from, Coroutine *to,
                            CoroutineAction action)
{
#ifdef CONFIG_ASAN
    to->switched_from = from;
    /* No place to save to: the fake frames of a dead coroutine are freed. */
    if (action == COROUTINE_TERMINATE) {
        from->fake_stack = NULL;
    }
    __sanitizer_start_switch_fiber(
        action == COROUTINE_TERMINATE ? NULL : &from->fake_stack,
        to->stack_bottom, to->stack_size);
#endif
#ifdef CONFIG_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
}

void __attribute__((no_sanitize("thread")))
qemu_coroutine_switch_end(Coroutine *self)
{
#ifdef CONFIG_ASAN
    const void *bottom;
    size_t size;

    __sanitizer_finish_switch_fiber(self->fake_stack, &bottom, &size);
    /* The bounds of a thread's own stack are learnt by leaving it. */
    if (!self->switched_from->stack_bottom) {
        self->switched_from->stack_bottom = bottom;
        self->switched_from->stack_size = size;
    }
#endif
}
#endif
