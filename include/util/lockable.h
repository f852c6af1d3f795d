/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One way to hold any kind of lock: a guard that unlocks at the end of the
 * scope, and a handle by which a CoQueue drops and takes its caller's lock.
 *
 *   QEMU_LOCK_GUARD(&s->mutex);                 to the end of the block
 *   WITH_QEMU_LOCK_GUARD(&s->mutex) { ... }     around a body; break, return
 *                                               and goto leave it unlocked
 *
 * The lock is a pointer to a QemuMutex, QemuRecMutex, or CoMutex (then the
 * code must run in a coroutine, and taking the lock may yield).
 */
#ifndef UTIL_LOCKABLE_H
#define UTIL_LOCKABLE_H

#include "util/coroutine.h"
#include "util/thread.h"

typedef void QemuLockUnlockFunc(void *object);

/* By value is fine: it only borrows @object. */
typedef struct QemuLockable {
    void *object;
    QemuLockUnlockFunc *lock;
    QemuLockUnlockFunc *unlock;
} QemuLockable;

static inline void qemu_lockable_lock(QemuLockable *x)
{
    x->lock(x->object);
}

static inline void qemu_lockable_unlock(QemuLockable *x)
{
    x->unlock(x->object);
}

/* Used through QEMU_MAKE_LOCKABLE(). */
QemuLockable qemu_lockable_of_mutex_(QemuMutex *m);
QemuLockable qemu_lockable_of_rec_mutex_(QemuRecMutex *m);
QemuLockable qemu_lockable_of_co_mutex_(CoMutex *m);
QemuLockable qemu_lockable_of_null_(void *null);

/* A QemuLockable value for the lock that @x points to. */
#define QEMU_MAKE_LOCKABLE(x)                                               \
    (_Generic((x),                                                          \
              QemuMutex *: qemu_lockable_of_mutex_,                         \
              QemuRecMutex *: qemu_lockable_of_rec_mutex_,                  \
              CoMutex *: qemu_lockable_of_co_mutex_,                        \
              void *: qemu_lockable_of_null_)(x))

static inline QemuLockable qemu_lockable_guard_(QemuLockable x)
{
    qemu_lockable_lock(&x);
    return x;
}

static inline void qemu_lockable_release_(QemuLockable *x)
{
    if (x->object) {
        qemu_lockable_unlock(x);
        x->object = NULL;
    }
}

#define QEMU_LOCK_GUARD(x)                                                  \
    __attribute__((cleanup(qemu_lockable_release_), unused)) QemuLockable   \
    glue(qemu_lock_guard_, __COUNTER__) =                                   \
        qemu_lockable_guard_(QEMU_MAKE_LOCKABLE(x))

#define WITH_QEMU_LOCK_GUARD_(x, var)                                       \
    for (__attribute__((cleanup(qemu_lockable_release_))) QemuLockable var = \
             qemu_lockable_guard_(QEMU_MAKE_LOCKABLE(x));                   \
         var.object; qemu_lockable_release_(&var))
#define WITH_QEMU_LOCK_GUARD(x)                                             \
    WITH_QEMU_LOCK_GUARD_(x, glue(qemu_lock_with_, __COUNTER__))

#endif /* UTIL_LOCKABLE_H */
