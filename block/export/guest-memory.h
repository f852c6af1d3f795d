/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory of a guest that another process has given away in file descriptors
 * (vhost-user specification, "Memory region description").
 *
 * Only fixed tables: whoever wants another one makes it and throws the old one
 * away when nobody uses it any more. Any thread; no locks, for nothing changes.
 * A process that shortens such a file kills us with SIGBUS: it has to be
 * trusted that far.
 */
#ifndef BLOCK_EXPORT_GUEST_MEMORY_H
#define BLOCK_EXPORT_GUEST_MEMORY_H

#include "util/osdep.h"
#include "util/error.h"

#define GUEST_MEMORY_MAX_REGIONS 8

/* As in the message. */
typedef struct GuestRegion {
    uint64_t guest_addr;
    uint64_t size;
    uint64_t user_addr;         /* where the other process has it */
    uint64_t mmap_offset;       /* into the file */
} GuestRegion;

typedef struct GuestMemory GuestMemory;

/*
 * Maps @n regions, @fds[i] for each; closes none of them. NULL with @errp: a
 * region is empty, wraps around, overlaps another one or cannot be mapped.
 */
GuestMemory *guest_memory_new(const GuestRegion *regions, const int *fds,
                              unsigned n, Error **errp);
/* NULL is fine. */
void guest_memory_free(GuestMemory *mem);

/*
 * @size bytes at an address of the guest or, with _user, of the other process;
 * NULL unless all of it is in one region. @mem may be NULL.
 */
void *guest_memory_at(const GuestMemory *mem, uint64_t addr, uint64_t size);
void *guest_memory_at_user(const GuestMemory *mem, uint64_t addr,
                           uint64_t size);

/*
 * Appends the range of guest addresses to @iov, which has room from @used to
 * @max. Returns the elements used then, or -1: a part is nowhere, or too many.
 */
int guest_memory_add_iov(const GuestMemory *mem, uint64_t addr, uint64_t size,
                         struct iovec *iov, int used, int max);

#endif
