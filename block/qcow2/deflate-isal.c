/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw deflate through ISA-L (igzip).
 *
 * On program binaries its level 2 gives streams up to 9 % longer than zlib's
 * default level, on text about as long, at ten times the speed. Clusters that
 * do not shrink here would shrink with zlib by next to nothing (3 of 324 did in
 * a sample, by a percent each), so zlib is not asked for a second opinion.
 */
#include "util/osdep.h"
#include "block/qcow2/deflate.h"

#include <isa-l/igzip_lib.h>

/* Readers have a window of 12 bits and no larger. */
#define WINDOW_BITS 12
#define LEVEL 2
/* Room for 32 Ki symbols to a block; more gains nothing. */
#define LEVEL_BUF_SIZE ISAL_DEF_LVL2_MEDIUM

/* Zeroed memory that a thread does not use costs it nothing. */
typedef struct Qcow2Isal {
    struct isal_zstream compress;
    struct inflate_state decompress;
    uint8_t level_buf[LEVEL_BUF_SIZE];
} Qcow2Isal;

void qcow2_isal_free(Qcow2Isal *i)
{
    g_free(i);
}

static Qcow2Isal *get(Qcow2Deflate *d)
{
    if (!d->isal) {
        d->isal = g_new0(Qcow2Isal, 1);
    }
    return d->isal;
}

ssize_t qcow2_isal_compress(Qcow2Deflate *d, void *dest, size_t dest_size,
                            const void *src, size_t src_size)
{
    Qcow2Isal *i = get(d);
    struct isal_zstream *strm = &i->compress;
    int ret;

    isal_deflate_stateless_init(strm);
    strm->level = LEVEL;
    strm->level_buf = i->level_buf;
    strm->level_buf_size = LEVEL_BUF_SIZE;
    strm->hist_bits = WINDOW_BITS;
    strm->end_of_stream = 1;
    strm->next_in = (void *)src;
    strm->avail_in = src_size;
    strm->next_out = dest;
    strm->avail_out = dest_size;
    ret = isal_deflate_stateless(strm);
    if (ret == COMP_OK) {
        return strm->total_out;
    }
    return ret == STATELESS_OVERFLOW ? -ENOMEM : -EIO;
}

ssize_t qcow2_isal_decompress(Qcow2Deflate *d, void *dest, size_t dest_size,
                              const void *src, size_t src_size)
{
    struct inflate_state *strm = &get(d)->decompress;
    int ret;

    isal_inflate_init(strm);
    strm->hist_bits = WINDOW_BITS;
    strm->next_in = (void *)src;
    strm->avail_in = src_size;
    strm->next_out = dest;
    strm->avail_out = dest_size;
    ret = isal_inflate_stateless(strm);
    /* As with zlib: complete is good enough. */
    if ((ret == ISAL_DECOMP_OK || ret == ISAL_END_INPUT ||
         ret == ISAL_OUT_OVERFLOW) && strm->avail_out == 0) {
        return 0;
    }
    /* It looks at bits behind the last code that it needs, which a stream may
     * lack. Others read with zlib, so what zlib makes of it counts. */
    return qcow2_zlib_decompress(d, dest, dest_size, src, src_size);
}
