/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads and blocking locks over POSIX threads. A call that POSIX says can
 * fail only through misuse aborts with the name of the call.
 */
#include "util/osdep.h"
#include <sys/syscall.h>
#include "util/thread.h"

static void must(int err, const char *what)
{
    if (unlikely(err)) {
        fprintf(stderr, "%s: %s\n", what, strerror(err));
        abort();
    }
}

void qemu_mutex_init(QemuMutex *mutex)
{
    must(pthread_mutex_init(&mutex->lock, NULL), "pthread_mutex_init");
}

void qemu_mutex_destroy(QemuMutex *mutex)
{
    must(pthread_mutex_destroy(&mutex->lock), "pthread_mutex_destroy");
}

void qemu_mutex_lock(QemuMutex *mutex)
{
    must(pthread_mutex_lock(&mutex->lock), "pthread_mutex_lock");
}

int qemu_mutex_trylock(QemuMutex *mutex)
{
    int err = pthread_mutex_trylock(&mutex->lock);

    if (err == EBUSY) {
        return -EBUSY;
    }
    must(err, "pthread_mutex_trylock");
    return 0;
}

void qemu_mutex_unlock(QemuMutex *mutex)
{
    must(pthread_mutex_unlock(&mutex->lock), "pthread_mutex_unlock");
}

void qemu_rec_mutex_init(QemuRecMutex *mutex)
{
    pthread_mutexattr_t attr;

    must(pthread_mutexattr_init(&attr), "pthread_mutexattr_init");
    must(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE),
         "pthread_mutexattr_settype");
    must(pthread_mutex_init(&mutex->lock, &attr), "pthread_mutex_init");
    pthread_mutexattr_destroy(&attr);
}

void qemu_rec_mutex_destroy(QemuRecMutex *mutex)
{
    must(pthread_mutex_destroy(&mutex->lock), "pthread_mutex_destroy");
}

void qemu_rec_mutex_lock(QemuRecMutex *mutex)
{
    must(pthread_mutex_lock(&mutex->lock), "pthread_mutex_lock");
}

int qemu_rec_mutex_trylock(QemuRecMutex *mutex)
{
    int err = pthread_mutex_trylock(&mutex->lock);

    if (err == EBUSY) {
        return -EBUSY;
    }
    must(err, "pthread_mutex_trylock");
    return 0;
}

void qemu_rec_mutex_unlock(QemuRecMutex *mutex)
{
    must(pthread_mutex_unlock(&mutex->lock), "pthread_mutex_unlock");
}

void qemu_cond_init(QemuCond *cond)
{
    pthread_condattr_t attr;

    must(pthread_condattr_init(&attr), "pthread_condattr_init");
    /* A deadline must not move when somebody sets the time of day. */
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC),
         "pthread_condattr_setclock");
    must(pthread_cond_init(&cond->cond, &attr), "pthread_cond_init");
    pthread_condattr_destroy(&attr);
}

void qemu_cond_destroy(QemuCond *cond)
{
    must(pthread_cond_destroy(&cond->cond), "pthread_cond_destroy");
}

void qemu_cond_signal(QemuCond *cond)
{
    must(pthread_cond_signal(&cond->cond), "pthread_cond_signal");
}

void qemu_cond_broadcast(QemuCond *cond)
{
    must(pthread_cond_broadcast(&cond->cond), "pthread_cond_broadcast");
}

void qemu_cond_wait(QemuCond *cond, QemuMutex *mutex)
{
    must(pthread_cond_wait(&cond->cond, &mutex->lock), "pthread_cond_wait");
}

static struct timespec deadline_in_ms(int ms)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += ms / 1000;
    ts.tv_nsec += (ms % 1000) * 1000000L;
    if (ts.tv_nsec >= 1000000000L) {
        ts.tv_sec++;
        ts.tv_nsec -= 1000000000L;
    }
    return ts;
}

static bool cond_wait_until(QemuCond *cond, QemuMutex *mutex,
                            const struct timespec *ts)
{
    int err = pthread_cond_timedwait(&cond->cond, &mutex->lock, ts);

    if (err == ETIMEDOUT) {
        return false;
    }
    must(err, "pthread_cond_timedwait");
    return true;
}

bool qemu_cond_timedwait(QemuCond *cond, QemuMutex *mutex, int ms)
{
    struct timespec ts = deadline_in_ms(ms);

    return cond_wait_until(cond, mutex, &ts);
}

void qemu_sem_init(QemuSemaphore *sem, unsigned init)
{
    qemu_mutex_init(&sem->mutex);
    qemu_cond_init(&sem->cond);
    sem->count = init;
}

void qemu_sem_destroy(QemuSemaphore *sem)
{
    qemu_cond_destroy(&sem->cond);
    qemu_mutex_destroy(&sem->mutex);
}

void qemu_sem_post(QemuSemaphore *sem)
{
    qemu_mutex_lock(&sem->mutex);
    assert(sem->count < UINT_MAX);
    sem->count++;
    /* Before the unlock: the waiter may destroy the semaphore after it. */
    qemu_cond_signal(&sem->cond);
    qemu_mutex_unlock(&sem->mutex);
}

void qemu_sem_wait(QemuSemaphore *sem)
{
    qemu_mutex_lock(&sem->mutex);
    while (sem->count == 0) {
        qemu_cond_wait(&sem->cond, &sem->mutex);
    }
    sem->count--;
    qemu_mutex_unlock(&sem->mutex);
}

int qemu_sem_timedwait(QemuSemaphore *sem, int ms)
{
    struct timespec ts = deadline_in_ms(ms);
    bool in_time = true;
    int ret = -1;

    qemu_mutex_lock(&sem->mutex);
    while (sem->count == 0 && in_time) {
        in_time = cond_wait_until(&sem->cond, &sem->mutex, &ts);
    }
    if (sem->count > 0) {
        sem->count--;
        ret = 0;
    }
    qemu_mutex_unlock(&sem->mutex);
    return ret;
}

void qemu_event_init(QemuEvent *ev, bool set)
{
    qemu_mutex_init(&ev->mutex);
    qemu_cond_init(&ev->cond);
    ev->set = set;
}

void qemu_event_destroy(QemuEvent *ev)
{
    qemu_cond_destroy(&ev->cond);
    qemu_mutex_destroy(&ev->mutex);
}

void qemu_event_set(QemuEvent *ev)
{
    qemu_mutex_lock(&ev->mutex);
    ev->set = true;
    qemu_cond_broadcast(&ev->cond);
    qemu_mutex_unlock(&ev->mutex);
}

void qemu_event_reset(QemuEvent *ev)
{
    qemu_mutex_lock(&ev->mutex);
    ev->set = false;
    qemu_mutex_unlock(&ev->mutex);
}

void qemu_event_wait(QemuEvent *ev)
{
    qemu_mutex_lock(&ev->mutex);
    while (!ev->set) {
        qemu_cond_wait(&ev->cond, &ev->mutex);
    }
    qemu_mutex_unlock(&ev->mutex);
}

typedef struct ThreadStart {
    void *(*routine)(void *);
    void *arg;
    char name[16];
} ThreadStart;

static void *thread_start(void *opaque)
{
    ThreadStart start = *(ThreadStart *)opaque;

    g_free(opaque);
    if (start.name[0]) {
        pthread_setname_np(pthread_self(), start.name);
    }
    return start.routine(start.arg);
}

int qemu_thread_try_create(QemuThread *thread, const char *name,
                           void *(*start_routine)(void *), void *arg,
                           int mode)
{
    ThreadStart *start = g_new0(ThreadStart, 1);
    sigset_t all, before;
    int err;

    start->routine = start_routine;
    start->arg = arg;
    if (name) {
        g_strlcpy(start->name, name, sizeof(start->name));
    }

    /* The new thread inherits the mask: signals are the main thread's. */
    sigfillset(&all);
    must(pthread_sigmask(SIG_SETMASK, &all, &before), "pthread_sigmask");
    err = pthread_create(&thread->thread, NULL, thread_start, start);
    must(pthread_sigmask(SIG_SETMASK, &before, NULL), "pthread_sigmask");
    if (err) {
        g_free(start);
        return -err;
    }
    if (mode == QEMU_THREAD_DETACHED) {
        must(pthread_detach(thread->thread), "pthread_detach");
    }
    return 0;
}

void qemu_thread_create(QemuThread *thread, const char *name,
                        void *(*start_routine)(void *), void *arg, int mode)
{
    must(-qemu_thread_try_create(thread, name, start_routine, arg, mode),
         "pthread_create");
}

void *qemu_thread_join(QemuThread *thread)
{
    void *ret;

    must(pthread_join(thread->thread, &ret), "pthread_join");
    return ret;
}

bool qemu_thread_is_self(const QemuThread *thread)
{
    return pthread_equal(pthread_self(), thread->thread);
}

int qemu_get_thread_id(void)
{
    return syscall(SYS_gettid);
}
