/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads and the locks that block a whole thread.
 *
 * Any thread may call these. A coroutine may hold one of these locks only
 * between two yields: it may resume in another thread. Misuse (unlocking what
 * is not held, destroying what is in use) aborts; nothing here returns errors.
 */
#ifndef UTIL_THREAD_H
#define UTIL_THREAD_H

#include <pthread.h>
#include "util/osdep.h"

typedef struct QemuMutex {
    pthread_mutex_t lock;
} QemuMutex;

/* May be taken again by the thread that holds it. */
typedef struct QemuRecMutex {
    pthread_mutex_t lock;
} QemuRecMutex;

typedef struct QemuCond {
    pthread_cond_t cond; /* on the monotonic clock */
} QemuCond;

/* Counts; starts at the value given to init. */
typedef struct QemuSemaphore {
    QemuMutex mutex;
    QemuCond cond;
    unsigned count;
} QemuSemaphore;

/* A flag one can wait for: stays set until reset. */
typedef struct QemuEvent {
    QemuMutex mutex;
    QemuCond cond;
    bool set;
} QemuEvent;

typedef struct QemuThread {
    pthread_t thread;
} QemuThread;

#define QEMU_MUTEX_INITIALIZER { .lock = PTHREAD_MUTEX_INITIALIZER }

void qemu_mutex_init(QemuMutex *mutex);
void qemu_mutex_destroy(QemuMutex *mutex);
void qemu_mutex_lock(QemuMutex *mutex);
/* Returns 0 if taken, -EBUSY if not. */
int qemu_mutex_trylock(QemuMutex *mutex);
void qemu_mutex_unlock(QemuMutex *mutex);

void qemu_rec_mutex_init(QemuRecMutex *mutex);
void qemu_rec_mutex_destroy(QemuRecMutex *mutex);
void qemu_rec_mutex_lock(QemuRecMutex *mutex);
int qemu_rec_mutex_trylock(QemuRecMutex *mutex);
void qemu_rec_mutex_unlock(QemuRecMutex *mutex);

void qemu_cond_init(QemuCond *cond);
void qemu_cond_destroy(QemuCond *cond);
void qemu_cond_signal(QemuCond *cond);
void qemu_cond_broadcast(QemuCond *cond);
/* Wakes without a signal are possible: test the condition in a loop. */
void qemu_cond_wait(QemuCond *cond, QemuMutex *mutex);
/* False when @ms milliseconds passed without a wake-up. */
bool qemu_cond_timedwait(QemuCond *cond, QemuMutex *mutex, int ms);

void qemu_sem_init(QemuSemaphore *sem, unsigned init);
void qemu_sem_destroy(QemuSemaphore *sem);
void qemu_sem_post(QemuSemaphore *sem);
void qemu_sem_wait(QemuSemaphore *sem);
/* 0, or -1 when @ms milliseconds passed first. */
int qemu_sem_timedwait(QemuSemaphore *sem, int ms);

void qemu_event_init(QemuEvent *ev, bool set);
void qemu_event_destroy(QemuEvent *ev);
void qemu_event_set(QemuEvent *ev);
void qemu_event_reset(QemuEvent *ev);
void qemu_event_wait(QemuEvent *ev);

#define QEMU_THREAD_JOINABLE 0
#define QEMU_THREAD_DETACHED 1

/*
 * Starts @start_routine(@arg) in a new thread with all signals blocked.
 * @name shows in tools, cut after 15 bytes. @mode is one of the two above.
 * Returns 0 or -errno (then there is no thread).
 */
int qemu_thread_try_create(QemuThread *thread, const char *name,
                           void *(*start_routine)(void *), void *arg,
                           int mode);
/* The same, aborting on failure. */
void qemu_thread_create(QemuThread *thread, const char *name,
                        void *(*start_routine)(void *), void *arg, int mode);
/* Waits for a joinable thread; returns what its routine returned. */
void *qemu_thread_join(QemuThread *thread);
bool qemu_thread_is_self(const QemuThread *thread);
/* Kernel id of the calling thread. */
int qemu_get_thread_id(void);

#endif /* UTIL_THREAD_H */
