/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between timer.c and the event loop. */
#ifndef UTIL_TIMER_INT_H
#define UTIL_TIMER_INT_H

#include "util/queue.h"
#include "util/thread.h"
#include "util/timer.h"

/* Pending timers of one clock: a heap whose root is the next to fire. */
typedef struct TimerHeap {
    QEMUTimer **timers;
    unsigned nr;
    unsigned allocated;
    int64_t last_run_ns; /* time of the last run, see timer_mod_ns() */
    /* Atomic copy of the root's time, INT64_MAX when empty */
    int64_t deadline_ns;
} TimerHeap;

/* All timers of one AioContext. */
typedef struct TimerGroup {
    AioContext *ctx; /* fixed */
    QemuMutex lock;  /* protects the rest; after the lock of all groups */
    TimerHeap heap[QEMU_CLOCK_MAX];
    uint64_t next_seq;
    QLIST_ENTRY(TimerGroup) all; /* under the lock of all groups */
} TimerGroup;

void timer_group_init(TimerGroup *group, AioContext *ctx);
/* No timer is pending. */
void timer_group_destroy(TimerGroup *group);
/* Nanoseconds until the next timer: 0 is due, -1 never. */
int64_t timer_group_timeout_ns(TimerGroup *group);
/* Runs what is due, each timer at most once. True if anything ran. */
bool timer_group_run(TimerGroup *group);

/* The timers of a context (aio.c). */
TimerGroup *aio_timer_group(AioContext *ctx);

#endif /* UTIL_TIMER_INT_H */
