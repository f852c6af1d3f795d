/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split virtqueues; see the header. Offsets are those of the specification:
 *
 *   descriptor (16 bytes)   0 address 64, 8 length 32, 12 flags 16, 14 next 16
 *   available ring          0 flags 16, 2 idx 16, 4 ring[size] 16, used_event 16
 *   used ring               0 flags 16, 2 idx 16, 4 ring[size] { id 32, len 32 },
 *                           avail_event 16
 */
#include "util/osdep.h"
#include "block/export/virtqueue.h"
#include "util/atomic.h"
#include "util/bswap.h"

#define DESC_SIZE 16
#define DESC_F_NEXT 1
#define DESC_F_WRITE 2
#define DESC_F_INDIRECT 4
#define AVAIL_F_NO_INTERRUPT 1

#define INFLIGHT_ALIGN 64

typedef struct Desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
} Desc;

bool virtqueue_size_is_valid(unsigned size)
{
    return size && size <= VIRTQUEUE_MAX_SIZE && !(size & (size - 1));
}

size_t virtqueue_inflight_size(unsigned queue_size)
{
    return ROUND_UP(sizeof(InflightQueue) + queue_size * sizeof(InflightDesc),
                    INFLIGHT_ALIGN);
}

/* --- fields, each read or written at once --- */

static uint16_t *ring16(void *ring, unsigned offset)
{
    return (uint16_t *)((uint8_t *)ring + offset);
}

static uint16_t load16(void *ring, unsigned offset)
{
    return le16_to_cpu(qatomic_read(ring16(ring, offset)));
}

static void store16(void *ring, unsigned offset, uint16_t v)
{
    qatomic_set(ring16(ring, offset), cpu_to_le16(v));
}

static uint16_t avail_idx(VirtQueue *vq)
{
    return le16_to_cpu(qatomic_load_acquire(ring16(vq->avail, 2)));
}

static uint16_t avail_ring(VirtQueue *vq, uint16_t i)
{
    return load16(vq->avail, 4 + 2 * (i & (vq->size - 1)));
}

static uint16_t used_event(VirtQueue *vq)
{
    return load16(vq->avail, 4 + 2 * vq->size);
}

static void set_avail_event(VirtQueue *vq, uint16_t v)
{
    store16(vq->used, 4 + 8 * vq->size, v);
}

static Desc read_desc(const void *table, unsigned i)
{
    const uint8_t *p = (const uint8_t *)table + DESC_SIZE * i;
    Desc d;

    memcpy(&d, p, sizeof(d));
    return (Desc){ le64_to_cpu(d.addr), le32_to_cpu(d.len),
                   le16_to_cpu(d.flags), le16_to_cpu(d.next) };
}

void virtqueue_break(VirtQueue *vq)
{
    uint64_t one = 1;

    vq->broken = true;
    if (vq->err_fd >= 0 && write(vq->err_fd, &one, sizeof(one)) < 0) {
        /* Nobody listens; the queue stands still all the same. */
    }
}

/* --- the record of what is in flight --- */

/*
 * A crash between the write of the used index and the clearing of the marks of
 * what it told about: those requests are done.
 */
static void settle_last_batch(VirtQueue *vq)
{
    InflightQueue *q = vq->inflight;
    uint16_t head = q->last_batch_head;

    for (unsigned n = (uint16_t)(vq->used_idx - q->used_idx);
         n && n <= vq->size && head < vq->size; n--) {
        q->desc[head].inflight = 0;
        head = q->desc[head].next;
    }
    q->used_idx = vq->used_idx;
}

static gint by_counter(gconstpointer a, gconstpointer b, gpointer opaque)
{
    const InflightQueue *q = opaque;
    uint64_t ca = q->desc[*(const uint16_t *)a].counter;
    uint64_t cb = q->desc[*(const uint16_t *)b].counter;

    return ca < cb ? -1 : ca > cb;
}

static void collect_inflight(VirtQueue *vq)
{
    InflightQueue *q = vq->inflight;

    settle_last_batch(vq);
    vq->again = g_new(uint16_t, vq->size);
    vq->counter = 0;
    for (unsigned i = 0; i < vq->size; i++) {
        if (q->desc[i].inflight) {
            vq->again[vq->nb_again++] = i;
            vq->counter = MAX(vq->counter, q->desc[i].counter + 1);
        }
    }
    g_qsort_with_data(vq->again, vq->nb_again, sizeof(uint16_t), by_counter,
                      q);
    /* Those are taken already. */
    vq->last_avail = vq->used_idx + vq->nb_again;
}

static void mark_inflight(VirtQueue *vq, uint16_t head)
{
    if (vq->inflight) {
        vq->inflight->desc[head].counter = vq->counter++;
        smp_wmb();
        qatomic_set(&vq->inflight->desc[head].inflight, 1);
    }
}

/* --- start, stop --- */

bool virtqueue_start(VirtQueue *vq, const GuestMemory *mem, uint64_t features,
                     Error **errp)
{
    unsigned event;

    assert(virtqueue_size_is_valid(vq->size));
    vq->event_idx = features & (1ULL << VIRTIO_RING_F_EVENT_IDX);
    vq->indirect = features & (1ULL << VIRTIO_RING_F_INDIRECT_DESC);
    event = vq->event_idx ? 2 : 0;
    vq->desc = guest_memory_at_user(mem, vq->desc_user,
                                    DESC_SIZE * vq->size);
    vq->avail = guest_memory_at_user(mem, vq->avail_user,
                                     4 + 2 * vq->size + event);
    vq->used = guest_memory_at_user(mem, vq->used_user,
                                    4 + 8 * vq->size + event);
    if (!vq->desc || !vq->avail || !vq->used ||
        vq->desc_user % 16 || vq->avail_user % 2 || vq->used_user % 4) {
        error_setg(errp, "A ring is not in the guest's memory");
        return false;
    }
    vq->mem = mem;
    vq->broken = false;
    vq->signalled_valid = false;
    vq->used_idx = load16(vq->used, 2);
    vq->nb_again = vq->next_again = 0;
    if (vq->inflight) {
        collect_inflight(vq);
    }
    return true;
}

void virtqueue_stop(VirtQueue *vq)
{
    g_free(vq->again);
    vq->again = NULL;
    vq->mem = NULL;
    vq->desc = vq->avail = vq->used = NULL;
}

/* --- taking requests --- */

/* What a chain of descriptors is being made into. */
typedef struct Chain {
    struct iovec iov[VIRTQUEUE_MAX_IOV];
    unsigned nb_out, nb_in;
} Chain;

static bool add_buffer(VirtQueue *vq, Chain *c, const Desc *d)
{
    unsigned used = c->nb_out + c->nb_in;
    int now;

    if (!(d->flags & DESC_F_WRITE) && c->nb_in) {
        return false;       /* what is read comes first */
    }
    now = guest_memory_add_iov(vq->mem, d->addr, d->len, c->iov, used,
                               VIRTQUEUE_MAX_IOV);
    if (now < 0) {
        return false;
    }
    *(d->flags & DESC_F_WRITE ? &c->nb_in : &c->nb_out) += now - used;
    return true;
}

/*
 * Follows @head in a table of @n. Descriptors may be followed by one that leads
 * to a table of its own.
 */
static bool read_chain(VirtQueue *vq, Chain *c, const void *table, unsigned n,
                       unsigned head, bool is_indirect)
{
    for (unsigned seen = 0; seen < n && head < n; seen++) {
        Desc d = read_desc(table, head);

        if (d.flags & DESC_F_INDIRECT) {
            unsigned count = d.len / DESC_SIZE;
            const void *inner = guest_memory_at(vq->mem, d.addr, d.len);

            return !is_indirect && vq->indirect && inner &&
                   !(d.flags & DESC_F_NEXT) && count &&
                   d.len % DESC_SIZE == 0 && count <= VIRTQUEUE_MAX_IOV &&
                   read_chain(vq, c, inner, count, 0, true);
        }
        if (!add_buffer(vq, c, &d)) {
            return false;
        }
        if (!(d.flags & DESC_F_NEXT)) {
            return true;
        }
        head = d.next;
    }
    return false;           /* a loop, or it leads out of the table */
}

/* The next head, or -1. */
static int next_head(VirtQueue *vq)
{
    uint16_t idx, head;

    if (vq->next_again < vq->nb_again) {
        return vq->again[vq->next_again++];
    }
    idx = avail_idx(vq);
    if (idx == vq->last_avail && vq->event_idx) {
        /* Ask for a kick, and look again: it may have come in between. */
        set_avail_event(vq, idx);
        smp_mb();
        idx = avail_idx(vq);
    }
    if (idx == vq->last_avail) {
        return -1;
    }
    if ((uint16_t)(idx - vq->last_avail) > vq->size) {
        virtqueue_break(vq);
        return -1;
    }
    head = avail_ring(vq, vq->last_avail);
    if (head >= vq->size) {
        virtqueue_break(vq);
        return -1;
    }
    vq->last_avail++;
    mark_inflight(vq, head);
    return head;
}

VirtQueueElement *virtqueue_pop(VirtQueue *vq)
{
    VirtQueueElement *elem;
    Chain c;
    unsigned n;
    int head;

    if (vq->broken) {
        return NULL;
    }
    head = next_head(vq);
    if (head < 0) {
        return NULL;
    }
    c.nb_out = c.nb_in = 0;
    if (!read_chain(vq, &c, vq->desc, vq->size, head, false)) {
        virtqueue_break(vq);
        return NULL;
    }
    n = c.nb_out + c.nb_in;
    elem = g_malloc(sizeof(*elem) + n * sizeof(struct iovec));
    elem->head = head;
    elem->nb_out = c.nb_out;
    elem->nb_in = c.nb_in;
    elem->out = elem->iov;
    elem->in = elem->iov + c.nb_out;
    memcpy(elem->iov, c.iov, n * sizeof(struct iovec));
    return elem;
}

/* --- giving them back --- */

void virtqueue_push(VirtQueue *vq, const VirtQueueElement *elem,
                    uint32_t written)
{
    InflightQueue *q = vq->inflight;
    uint32_t *slot = (uint32_t *)((uint8_t *)vq->used + 4 +
                                  8 * (vq->used_idx & (vq->size - 1)));

    qatomic_set(&slot[0], cpu_to_le32(elem->head));
    qatomic_set(&slot[1], cpu_to_le32(written));
    if (q) {
        q->desc[elem->head].next = q->last_batch_head;
        q->last_batch_head = elem->head;
    }
    vq->used_idx++;
    qatomic_store_release(ring16(vq->used, 2), cpu_to_le16(vq->used_idx));
    if (q) {
        smp_wmb();
        qatomic_set(&q->desc[elem->head].inflight, 0);
        smp_wmb();
        qatomic_set(&q->used_idx, vq->used_idx);
    }
}

static bool wants_to_know(VirtQueue *vq)
{
    uint16_t old = vq->signalled_used, event;
    bool valid = vq->signalled_valid;

    smp_mb();               /* the index is out before we look */
    if (!vq->event_idx) {
        return !(load16(vq->avail, 0) & AVAIL_F_NO_INTERRUPT);
    }
    vq->signalled_used = vq->used_idx;
    vq->signalled_valid = true;
    event = used_event(vq);
    return !valid || (uint16_t)(vq->used_idx - event - 1) <
                     (uint16_t)(vq->used_idx - old);
}

void virtqueue_notify(VirtQueue *vq)
{
    uint64_t one = 1;

    if (vq->used && wants_to_know(vq) && vq->call_fd >= 0 &&
        write(vq->call_fd, &one, sizeof(one)) < 0) {
        /* The counter is full: it will be read. Or nobody is there. */
    }
}
