/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mapped regions of a guest; see the header. */
#include "util/osdep.h"
#include <sys/mman.h>
#include "block/export/guest-memory.h"

typedef struct MappedRegion {
    GuestRegion r;
    void *map;          /* from the start of the file's page */
    size_t map_size;
    uint8_t *base;      /* of the region */
} MappedRegion;

struct GuestMemory {
    unsigned n;
    MappedRegion regions[GUEST_MEMORY_MAX_REGIONS];
};

/* Whether [@addr, @addr + @size) is inside [@start, @start + @length). */
static bool within(uint64_t addr, uint64_t size, uint64_t start,
                   uint64_t length)
{
    return addr >= start && addr - start <= length &&
           size <= length - (addr - start);
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size;
}

static bool region_is_sane(const GuestMemory *mem, const GuestRegion *r,
                           Error **errp)
{
    if (!r->size || r->guest_addr + r->size < r->guest_addr ||
        r->user_addr + r->size < r->user_addr ||
        r->mmap_offset > INT64_MAX - r->size || r->size > SIZE_MAX / 2) {
        error_setg(errp, "Memory region at 0x%" PRIx64 " has a bad size or "
                   "offset", r->guest_addr);
        return false;
    }
    for (unsigned i = 0; i < mem->n; i++) {
        const GuestRegion *other = &mem->regions[i].r;

        if (overlap(r->guest_addr, r->size, other->guest_addr, other->size) ||
            overlap(r->user_addr, r->size, other->user_addr, other->size)) {
            error_setg(errp, "Memory regions at 0x%" PRIx64 " and 0x%" PRIx64
                       " overlap", other->guest_addr, r->guest_addr);
            return false;
        }
    }
    return true;
}

static bool map_region(GuestMemory *mem, const GuestRegion *r, int fd,
                       Error **errp)
{
    MappedRegion *m = &mem->regions[mem->n];
    size_t skip = r->mmap_offset % qemu_real_host_page_size();
    struct stat st;

    if (!region_is_sane(mem, r, errp)) {
        return false;
    }
    if (fstat(fd, &st) < 0) {
        error_setg_errno(errp, errno, "Memory region at 0x%" PRIx64,
                         r->guest_addr);
        return false;
    }
    if (S_ISREG(st.st_mode) && r->mmap_offset + r->size > st.st_size) {
        error_setg(errp, "Memory region at 0x%" PRIx64 " is longer than its "
                   "file", r->guest_addr);
        return false;
    }
    m->r = *r;
    m->map_size = r->size + skip;
    m->map = mmap(NULL, m->map_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                  r->mmap_offset - skip);
    if (m->map == MAP_FAILED) {
        error_setg_errno(errp, errno, "Cannot map the memory region at 0x%"
                         PRIx64, r->guest_addr);
        return false;
    }
    m->base = (uint8_t *)m->map + skip;
    mem->n++;
    return true;
}

GuestMemory *guest_memory_new(const GuestRegion *regions, const int *fds,
                              unsigned n, Error **errp)
{
    GuestMemory *mem = g_new0(GuestMemory, 1);

    assert(n <= GUEST_MEMORY_MAX_REGIONS);
    for (unsigned i = 0; i < n; i++) {
        if (!map_region(mem, &regions[i], fds[i], errp)) {
            guest_memory_free(mem);
            return NULL;
        }
    }
    return mem;
}

void guest_memory_free(GuestMemory *mem)
{
    if (!mem) {
        return;
    }
    for (unsigned i = 0; i < mem->n; i++) {
        munmap(mem->regions[i].map, mem->regions[i].map_size);
    }
    g_free(mem);
}

void *guest_memory_at(const GuestMemory *mem, uint64_t addr, uint64_t size)
{
    for (unsigned i = 0; mem && i < mem->n; i++) {
        const MappedRegion *m = &mem->regions[i];

        if (within(addr, size, m->r.guest_addr, m->r.size)) {
            return m->base + (addr - m->r.guest_addr);
        }
    }
    return NULL;
}

void *guest_memory_at_user(const GuestMemory *mem, uint64_t addr,
                           uint64_t size)
{
    for (unsigned i = 0; mem && i < mem->n; i++) {
        const MappedRegion *m = &mem->regions[i];

        if (within(addr, size, m->r.user_addr, m->r.size)) {
            return m->base + (addr - m->r.user_addr);
        }
    }
    return NULL;
}

/* Bytes from @addr to the end of the region that it is in, 0 if in none. */
static uint64_t contiguous(const GuestMemory *mem, uint64_t addr, void **at)
{
    for (unsigned i = 0; mem && i < mem->n; i++) {
        const MappedRegion *m = &mem->regions[i];
        uint64_t skip = addr - m->r.guest_addr;

        if (addr >= m->r.guest_addr && skip < m->r.size) {
            *at = m->base + skip;
            return m->r.size - skip;
        }
    }
    return 0;
}

int guest_memory_add_iov(const GuestMemory *mem, uint64_t addr, uint64_t size,
                         struct iovec *iov, int used, int max)
{
    while (size > 0) {
        void *at;
        uint64_t here = MIN(contiguous(mem, addr, &at), size);

        if (!here || used == max) {
            return -1;
        }
        iov[used++] = (struct iovec){ at, here };
        addr += here;
        size -= here;
    }
    return used;
}
