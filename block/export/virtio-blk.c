/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests of a virtio block device; see the header. */
#include "util/osdep.h"
#include "block/export/virtio-blk.h"
#include "util/bswap.h"
#include "util/iov.h"

enum {
    TYPE_IN = 0,
    TYPE_OUT = 1,
    TYPE_FLUSH = 4,
    TYPE_GET_ID = 8,
    TYPE_DISCARD = 11,
    TYPE_WRITE_ZEROES = 13,
};

enum {
    STATUS_OK = 0,
    STATUS_IOERR = 1,
    STATUS_UNSUPP = 2,
};

#define ID_BYTES 20
#define ZEROES_F_UNMAP 1
/* Of one discard or write zeroes. */
#define MAX_SEGMENTS 32
#define MAX_SEGMENT_SECTORS (1U << 22)      /* 2 GiB */
/* As many as a request of VIRTQUEUE_MAX_IOV buffers has place for. */
#define SEG_MAX 126

typedef struct Header {
    uint32_t type;
    uint32_t ioprio;
    uint64_t sector;
} Header;

typedef struct Segment {
    uint64_t sector;
    uint32_t nb_sectors;
    uint32_t flags;
} Segment;

uint64_t virtio_blk_features(const VirtioBlk *dev)
{
    uint64_t bits = 1ULL << VIRTIO_BLK_F_SEG_MAX |
                    1ULL << VIRTIO_BLK_F_BLK_SIZE |
                    1ULL << VIRTIO_BLK_F_FLUSH |
                    1ULL << VIRTIO_BLK_F_TOPOLOGY |
                    1ULL << VIRTIO_BLK_F_CONFIG_WCE |
                    1ULL << VIRTIO_BLK_F_MQ;

    return bits | (dev->writable ? 1ULL << VIRTIO_BLK_F_DISCARD |
                                   1ULL << VIRTIO_BLK_F_WRITE_ZEROES
                                 : 1ULL << VIRTIO_BLK_F_RO);
}

static void update_write_cache(VirtioBlk *dev)
{
    blk_set_enable_write_cache(dev->blk, dev->wants_cache && dev->can_flush);
}

void virtio_blk_connect(VirtioBlk *dev)
{
    dev->wants_cache &= dev->write_cache;
    dev->can_flush = false;
    update_write_cache(dev);
}

void virtio_blk_set_features(VirtioBlk *dev, uint64_t features)
{
    dev->can_flush = features & 1ULL << VIRTIO_BLK_F_FLUSH;
    update_write_cache(dev);
}

void virtio_blk_set_write_cache(VirtioBlk *dev, bool on)
{
    dev->wants_cache = on;
    update_write_cache(dev);
}

static void put16(uint8_t *p, uint16_t v)
{
    v = cpu_to_le16(v);
    memcpy(p, &v, sizeof(v));
}

static void put32(uint8_t *p, uint32_t v)
{
    v = cpu_to_le32(v);
    memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
    v = cpu_to_le64(v);
    memcpy(p, &v, sizeof(v));
}

void coroutine_mixed_fn virtio_blk_get_config(const VirtioBlk *dev,
                                              int64_t length, uint8_t *config)
{
    uint32_t block_sectors = dev->logical_block_size >> VIRTIO_BLK_SECTOR_BITS;

    memset(config, 0, VIRTIO_BLK_CONFIG_SIZE);
    put64(config, length >> VIRTIO_BLK_SECTOR_BITS);
    put32(config + 12, SEG_MAX);
    put32(config + 20, dev->logical_block_size);
    put16(config + 26, 1);                      /* smallest sensible I/O */
    put32(config + 28, 1);                      /* best I/O, in blocks */
    config[VIRTIO_BLK_CONFIG_WCE] = dev->wants_cache;
    put16(config + 34, dev->num_queues);
    put32(config + 36, MAX_SEGMENT_SECTORS);    /* of a discard */
    put32(config + 40, MAX_SEGMENTS);
    put32(config + 44, block_sectors);          /* its alignment */
    put32(config + 48, MAX_SEGMENT_SECTORS);    /* of write zeroes */
    put32(config + 52, MAX_SEGMENTS);
    config[56] = 1;                             /* they may unmap */
}

/* Whether the range is whole blocks of the disk. */
static bool coroutine_fn range_is_valid(const VirtioBlk *dev, uint64_t sector,
                                        uint64_t bytes)
{
    int64_t length = blk_co_getlength(dev->blk);
    uint64_t mask = dev->logical_block_size - 1;

    return length >= 0 && bytes <= INT32_MAX && !(bytes & mask) &&
           sector <= INT64_MAX >> VIRTIO_BLK_SECTOR_BITS &&
           !((sector << VIRTIO_BLK_SECTOR_BITS) & mask) &&
           sector << VIRTIO_BLK_SECTOR_BITS <= length &&
           bytes <= length - (sector << VIRTIO_BLK_SECTOR_BITS);
}

static int status_of(int ret)
{
    return ret == 0 ? STATUS_OK
           : ret == -ENOTSUP ? STATUS_UNSUPP : STATUS_IOERR;
}

static int coroutine_fn read_or_write(VirtioBlk *dev, uint64_t sector,
                                      bool write, struct iovec *iov,
                                      unsigned niov)
{
    QEMUIOVector qiov;
    int64_t offset;

    qemu_iovec_init_external(&qiov, iov, niov);
    if ((write && !dev->writable) ||
        !range_is_valid(dev, sector, qiov.size)) {
        return STATUS_IOERR;
    }
    offset = sector << VIRTIO_BLK_SECTOR_BITS;
    return status_of(write ? blk_co_pwritev(dev->blk, offset, qiov.size, &qiov,
                                            0)
                           : blk_co_preadv(dev->blk, offset, qiov.size, &qiov,
                                           0));
}

static int coroutine_fn one_segment(VirtioBlk *dev, const Segment *s,
                                    bool zeroes)
{
    uint64_t bytes = (uint64_t)s->nb_sectors << VIRTIO_BLK_SECTOR_BITS;
    int64_t offset = s->sector << VIRTIO_BLK_SECTOR_BITS;

    if (s->flags & ~ZEROES_F_UNMAP || (!zeroes && s->flags)) {
        return STATUS_UNSUPP;
    }
    if (s->nb_sectors > MAX_SEGMENT_SECTORS) {
        return STATUS_IOERR;
    }
    /* A discard is a hint: what is not a whole block is nobody's loss. */
    if (!range_is_valid(dev, s->sector, bytes)) {
        return STATUS_IOERR;
    }
    if (!zeroes) {
        int ret = blk_co_pdiscard(dev->blk, offset, bytes);

        return ret == -ENOTSUP ? STATUS_OK : status_of(ret);
    }
    return status_of(blk_co_pwrite_zeroes(dev->blk, offset, bytes,
                                          s->flags & ZEROES_F_UNMAP
                                          ? BDRV_REQ_MAY_UNMAP : 0));
}

static int coroutine_fn discard_or_zero(VirtioBlk *dev, bool zeroes,
                                        const struct iovec *out,
                                        unsigned nb_out)
{
    Segment segments[MAX_SEGMENTS];
    size_t size = iov_size(out, nb_out);
    int status = STATUS_OK;

    if (!dev->writable || !size || size % sizeof(Segment) ||
        size > sizeof(segments)) {
        return dev->writable ? STATUS_UNSUPP : STATUS_IOERR;
    }
    iov_to_buf(out, nb_out, 0, segments, size);
    for (unsigned i = 0; i < size / sizeof(Segment) && !status; i++) {
        Segment s = { le64_to_cpu(segments[i].sector),
                      le32_to_cpu(segments[i].nb_sectors),
                      le32_to_cpu(segments[i].flags) };

        status = one_segment(dev, &s, zeroes);
    }
    return status;
}

static int get_id(VirtioBlk *dev, const struct iovec *in, unsigned nb_in,
                  int64_t *written)
{
    char id[ID_BYTES] = "";

    memcpy(id, dev->serial, MIN(strlen(dev->serial), sizeof(id)));
    *written = iov_from_buf(in, nb_in, 0, id, sizeof(id));
    return STATUS_OK;
}

static int coroutine_fn carry_out(VirtioBlk *dev, const Header *h,
                                  struct iovec *out, unsigned nb_out,
                                  struct iovec *in, unsigned nb_in,
                                  int64_t *written)
{
    uint64_t sector = le64_to_cpu(h->sector);
    int status;

    switch (le32_to_cpu(h->type)) {
    case TYPE_IN:
        status = read_or_write(dev, sector, false, in, nb_in);
        *written = status == STATUS_OK ? iov_size(in, nb_in) : 0;
        return status;
    case TYPE_OUT:
        return read_or_write(dev, sector, true, out, nb_out);
    case TYPE_FLUSH:
        return status_of(blk_co_flush(dev->blk));
    case TYPE_GET_ID:
        return get_id(dev, in, nb_in, written);
    case TYPE_DISCARD:
        return discard_or_zero(dev, false, out, nb_out);
    case TYPE_WRITE_ZEROES:
        return discard_or_zero(dev, true, out, nb_out);
    default:
        return STATUS_UNSUPP;
    }
}

/* Where the last byte is. */
static uint8_t *take_status(struct iovec *in, unsigned *nb_in)
{
    while (*nb_in && !in[*nb_in - 1].iov_len) {
        --*nb_in;
    }
    if (!*nb_in) {
        return NULL;
    }
    in[*nb_in - 1].iov_len--;
    return (uint8_t *)in[*nb_in - 1].iov_base + in[*nb_in - 1].iov_len;
}

int64_t coroutine_fn virtio_blk_co_request(VirtioBlk *dev, struct iovec *out,
                                           unsigned nb_out, struct iovec *in,
                                           unsigned nb_in)
{
    uint8_t *status = take_status(in, &nb_in);
    int64_t written = 0;
    Header h;

    if (!status ||
        iov_to_buf(out, nb_out, 0, &h, sizeof(h)) < sizeof(h)) {
        return -EINVAL;
    }
    iov_discard_front(&out, &nb_out, sizeof(h));
    *status = carry_out(dev, &h, out, nb_out, in, nb_in, &written);
    return written + 1;
}
