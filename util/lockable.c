/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kinds of locks a QemuLockable can stand for. */
#include "util/osdep.h"
#include "util/lockable.h"

static void mutex_lock(void *m)
{
    qemu_mutex_lock(m);
}

static void mutex_unlock(void *m)
{
    qemu_mutex_unlock(m);
}

static void rec_mutex_lock(void *m)
{
    qemu_rec_mutex_lock(m);
}

static void rec_mutex_unlock(void *m)
{
    qemu_rec_mutex_unlock(m);
}

static void coroutine_fn co_mutex_lock(void *m)
{
    qemu_co_mutex_lock(m);
}

static void coroutine_fn co_mutex_unlock(void *m)
{
    qemu_co_mutex_unlock(m);
}

static void no_lock(void *null)
{
}

QemuLockable qemu_lockable_of_mutex_(QemuMutex *m)
{
    return (QemuLockable){ m, mutex_lock, mutex_unlock };
}

QemuLockable qemu_lockable_of_rec_mutex_(QemuRecMutex *m)
{
    return (QemuLockable){ m, rec_mutex_lock, rec_mutex_unlock };
}

QemuLockable qemu_lockable_of_co_mutex_(CoMutex *m)
{
    return (QemuLockable){ m, co_mutex_lock, co_mutex_unlock };
}

QemuLockable qemu_lockable_of_null_(void *null)
{
    assert(!null);
    return (QemuLockable){ NULL, no_lock, no_lock };
}
