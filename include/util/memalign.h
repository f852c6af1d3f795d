/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Aligned memory for direct I/O.  Any thread, coroutine or not.
 */
#ifndef UTIL_MEMALIGN_H
#define UTIL_MEMALIGN_H

#include <stddef.h>
#include <glib.h>

/*
 * Allocate @size bytes (0 gives a valid unique pointer) whose address is a
 * multiple of @alignment, a power of 2; less than a pointer's size is raised
 * to that.  The contents are undefined.  Freed by qemu_vfree().
 * The first variant returns NULL without memory: use it for sizes that come
 * from an image or a user.  The second aborts.
 */
void *qemu_try_memalign(size_t alignment, size_t size) G_GNUC_WARN_UNUSED_RESULT;
void *qemu_memalign(size_t alignment, size_t size) G_GNUC_WARN_UNUSED_RESULT;

/* Free memory of the functions above; NULL is fine. */
void qemu_vfree(void *ptr);

/* Bytes in a page of the running system, a power of 2. */
size_t qemu_real_host_page_size(void);

static inline void qemu_cleanup_vfree(void *pptr)
{
    qemu_vfree(*(void **)pptr);
}

/* As g_autofree, for memory of qemu_memalign(). */
#define QEMU_AUTO_VFREE __attribute__((cleanup(qemu_cleanup_vfree)))

#endif /* UTIL_MEMALIGN_H */
