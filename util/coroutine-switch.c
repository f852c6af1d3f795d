/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing from one stack to another.
 *
 * On x86-64 and AArch64 a switch is a function call that returns on another
 * stack: it saves exactly what the calling convention lets a callee keep. The
 * floating point control words are not among it, as nothing here changes
 * them. Elsewhere makecontext() builds a stack and sigsetjmp()/siglongjmp()
 * switch, which unlike swapcontext() make no system call.
 */
/* The checks of a fortified longjmp() do not allow for several stacks. */
#undef _FORTIFY_SOURCE
#include "util/osdep.h"
#include "coroutine-int.h"

/*
 * Instrumentation of these functions would run on a stack that the sanitizer
 * does not believe to be on.
 */
#define NO_SANITIZE __attribute__((no_sanitize("address", "thread"), noinline))

#ifdef COROUTINE_SWITCH_ASM

/*
 * The types let the compiler jump here from qemu_coroutine_switch(): each
 * return that follows a switch is one that the processor mispredicts.
 */
CoroutineAction qemu_coroutine_swap_(void **save_sp, void *load_sp,
                                     CoroutineAction value);

#ifdef __x86_64__
/* save_sp in rdi, load_sp in rsi, value in edx */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl qemu_coroutine_swap_\n"
        ".hidden qemu_coroutine_swap_\n"
        ".type qemu_coroutine_swap_, @function\n"
        "qemu_coroutine_swap_:\n"
        "    .cfi_startproc\n"
        "    pushq %rbp\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq %rbx\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq %r12\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq %r13\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq %r14\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq %r15\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %r14\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %r13\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %r12\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %rbx\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %rbp\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    movl %edx, %eax\n"
        /* Not ret: the processor would predict the other stack's caller. */
        "    popq %rcx\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_register %rip, %rcx\n"
        "    jmpq *%rcx\n"
        "    .cfi_endproc\n"
        ".size qemu_coroutine_swap_, .-qemu_coroutine_swap_\n");

enum {
    FRAME_WORDS = 8, /* r15 to rbp, return address, no caller */
    FRAME_PC = 6,
};
#else
/* save_sp in x0, load_sp in x1, value in w2 */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl qemu_coroutine_swap_\n"
        ".hidden qemu_coroutine_swap_\n"
        ".type qemu_coroutine_swap_, %function\n"
        "qemu_coroutine_swap_:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    mov w0, w2\n"
        "    br x30\n"
        ".size qemu_coroutine_swap_, .-qemu_coroutine_swap_\n");

enum {
    FRAME_WORDS = 20,
    FRAME_PC = 11, /* x30 */
};
#endif

static void NO_SANITIZE coroutine_start(void)
{
    Coroutine *self = qemu_coroutine_self();

    qemu_coroutine_switch_end(self);
    qemu_coroutine_switch(self, qemu_coroutine_main(), COROUTINE_TERMINATE);
    abort();
}

void NO_SANITIZE qemu_coroutine_switch_prepare(Coroutine *co)
{
    uintptr_t top =
        ROUND_DOWN((uintptr_t)co->stack_bottom + co->stack_size,
                   (uintptr_t)16);
    uintptr_t *frame = (uintptr_t *)top - FRAME_WORDS;

    /* A zero return address and frame pointer end every backtrace. */
    for (int i = 0; i < FRAME_WORDS; i++) {
        frame[i] = 0;
    }
    frame[FRAME_PC] = (uintptr_t)coroutine_start;
    co->sp = frame;
}

CoroutineAction NO_SANITIZE qemu_coroutine_switch(Coroutine *from,
                                                  Coroutine *to,
                                                  CoroutineAction action)
{
    qemu_coroutine_switch_begin(from, to, action);
#if defined(CONFIG_ASAN) || defined(CONFIG_TSAN)
    action = qemu_coroutine_swap_(&from->sp, to->sp, action);
    qemu_coroutine_switch_end(from);
    return action;
#else
    return qemu_coroutine_swap_(&from->sp, to->sp, action);
#endif
}

#else /* !COROUTINE_SWITCH_ASM */

#include <ucontext.h>

#ifdef CONFIG_TSAN
#error "ThreadSanitizer cannot follow siglongjmp() between coroutines"
#endif

static void NO_SANITIZE coroutine_start(unsigned lo, unsigned hi)
{
    uintptr_t back = lo | (uintptr_t)hi << 16 << 16;

    Coroutine *self = qemu_coroutine_self();

    /* Leave a place to start from, and go back to prepare. */
    if (!sigsetjmp(self->env, 0)) {
        siglongjmp(*(sigjmp_buf *)back, 1);
    }
    qemu_coroutine_switch_end(self);
    qemu_coroutine_switch(self, qemu_coroutine_main(), COROUTINE_TERMINATE);
    abort();
}

void NO_SANITIZE qemu_coroutine_switch_prepare(Coroutine *co)
{
    CoroutineThread *t = qemu_coroutine_thread();
    Coroutine *self = t->current;
    ucontext_t here, there;
    sigjmp_buf back;

    if (getcontext(&there) < 0) {
        abort();
    }
    there.uc_link = &here;
    there.uc_stack.ss_sp = (void *)co->stack_bottom;
    there.uc_stack.ss_size = co->stack_size;
    there.uc_stack.ss_flags = 0;
    makecontext(&there, (void (*)(void))coroutine_start, 2,
                (unsigned)(uintptr_t)&back,
                (unsigned)((uintptr_t)&back >> 16 >> 16));

    /* Sanitizers need not know: nothing instrumented runs over there. */
    t->current = co;
    if (!sigsetjmp(back, 0)) {
        swapcontext(&here, &there);
        abort();
    }
    t->current = self;
}

CoroutineAction NO_SANITIZE qemu_coroutine_switch(Coroutine *from,
                                                  Coroutine *to,
                                                  CoroutineAction action)
{
    int ret = sigsetjmp(from->env, 0);

    if (!ret) {
        qemu_coroutine_switch_begin(from, to, action);
        siglongjmp(to->env, action);
    }
    qemu_coroutine_switch_end(from);
    return ret;
}

#endif
