/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Aligned memory for direct I/O. */
#include "util/osdep.h"
#include "util/memalign.h"

void *qemu_try_memalign(size_t alignment, size_t size)
{
    void *ptr;

    assert(alignment && (alignment & (alignment - 1)) == 0);
    alignment = MAX(alignment, sizeof(void *));
    if (posix_memalign(&ptr, alignment, MAX(size, 1))) {
        return NULL;
    }
    return ptr;
}

void *qemu_memalign(size_t alignment, size_t size)
{
    void *ptr = qemu_try_memalign(alignment, size);

    if (!ptr) {
        fprintf(stderr, "Failed to allocate %zu bytes aligned to %zu\n",
                size, alignment);
        abort();
    }
    return ptr;
}

void qemu_vfree(void *ptr)
{
    int saved_errno = errno;

    free(ptr);
    errno = saved_errno;
}

size_t qemu_real_host_page_size(void)
{
    static size_t page_size;
    size_t size = __atomic_load_n(&page_size, __ATOMIC_RELAXED);

    if (!size) {
        size = sysconf(_SC_PAGESIZE);
        __atomic_store_n(&page_size, size, __ATOMIC_RELAXED);
    }
    return size;
}
