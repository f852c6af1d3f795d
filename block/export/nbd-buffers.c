/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory for the data of requests. Fresh pages cost more than a read from the page
 * cache, so a client's buffers are used again, the one that was given back last
 * first. Sizes are powers of two; what is not asked for is never touched.
 */
#include "util/osdep.h"
#include "nbd-int.h"
#include "util/memalign.h"

/* A buffer that waits begins with the address of the next one. */
struct NBDFreeBuffer {
    NBDFreeBuffer *next;
};

static unsigned size_class(size_t len)
{
    unsigned class = 0;

    assert(len <= (size_t)NBD_MIN_BUFFER << (NBD_BUFFER_CLASSES - 1));
    while ((size_t)NBD_MIN_BUFFER << class < len) {
        class++;
    }
    return class;
}

void *nbd_buffer_get(NBDBuffers *b, size_t len)
{
    unsigned class = size_class(len);
    NBDFreeBuffer *found = b->free[class];

    if (!found) {
        return qemu_memalign(NBD_MIN_BUFFER, (size_t)NBD_MIN_BUFFER << class);
    }
    b->free[class] = found->next;
    b->kept -= (size_t)NBD_MIN_BUFFER << class;
    return found;
}

void nbd_buffer_put(NBDBuffers *b, void *buf, size_t len)
{
    unsigned class = size_class(len);
    size_t size = (size_t)NBD_MIN_BUFFER << class;
    NBDFreeBuffer *unused = buf;

    if (!buf) {
        return;
    }
    if (size > NBD_MAX_KEPT - b->kept) {
        qemu_vfree(buf);
        return;
    }
    unused->next = b->free[class];
    b->free[class] = unused;
    b->kept += size;
}

void nbd_buffers_clear(NBDBuffers *b)
{
    for (unsigned class = 0; class < NBD_BUFFER_CLASSES; class++) {
        NBDFreeBuffer *next;

        for (NBDFreeBuffer *f = b->free[class]; f; f = next) {
            next = f->next;
            qemu_vfree(f);
        }
        b->free[class] = NULL;
    }
    b->kept = 0;
}
