/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Raw deflate through zlib, and what both libraries share. */
#include "util/osdep.h"
#include "block/qcow2/deflate.h"

#include <zlib.h>

/* Negative: raw deflate. Readers have a window of 12 bits and no larger. */
#define WINDOW_BITS (-12)
#define MEM_LEVEL 9

typedef struct Qcow2Zlib {
    z_stream compress;
    z_stream decompress;
    bool can_compress;
    bool can_decompress;
} Qcow2Zlib;

void qcow2_deflate_clear(Qcow2Deflate *d)
{
    qcow2_zlib_free(d->zlib);
#ifdef CONFIG_ISAL
    qcow2_isal_free(d->isal);
#endif
    *d = (Qcow2Deflate) { 0 };
}

void qcow2_zlib_free(Qcow2Zlib *z)
{
    if (!z) {
        return;
    }
    if (z->can_compress) {
        deflateEnd(&z->compress);
    }
    if (z->can_decompress) {
        inflateEnd(&z->decompress);
    }
    g_free(z);
}

static Qcow2Zlib *get(Qcow2Deflate *d)
{
    if (!d->zlib) {
        d->zlib = g_new0(Qcow2Zlib, 1);
    }
    return d->zlib;
}

static void set_buffers(z_stream *strm, void *dest, size_t dest_size,
                        const void *src, size_t src_size)
{
    strm->next_in = (void *)src;
    strm->avail_in = src_size;
    strm->next_out = dest;
    strm->avail_out = dest_size;
}

ssize_t qcow2_zlib_compress(Qcow2Deflate *d, void *dest, size_t dest_size,
                            const void *src, size_t src_size)
{
    Qcow2Zlib *z = get(d);
    int ret;

    if (z->can_compress) {
        ret = deflateReset(&z->compress);
    } else {
        ret = deflateInit2(&z->compress, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
                           WINDOW_BITS, MEM_LEVEL, Z_DEFAULT_STRATEGY);
        z->can_compress = ret == Z_OK;
    }
    if (ret != Z_OK) {
        return -EIO;
    }
    set_buffers(&z->compress, dest, dest_size, src, src_size);
    ret = deflate(&z->compress, Z_FINISH);
    if (ret == Z_STREAM_END) {
        return dest_size - z->compress.avail_out;
    }
    return ret == Z_OK || ret == Z_BUF_ERROR ? -ENOMEM : -EIO;
}

ssize_t qcow2_zlib_decompress(Qcow2Deflate *d, void *dest, size_t dest_size,
                              const void *src, size_t src_size)
{
    Qcow2Zlib *z = get(d);
    int ret;

    if (z->can_decompress) {
        ret = inflateReset(&z->decompress);
    } else {
        ret = inflateInit2(&z->decompress, WINDOW_BITS);
        z->can_decompress = ret == Z_OK;
    }
    if (ret != Z_OK) {
        return -EIO;
    }
    set_buffers(&z->decompress, dest, dest_size, src, src_size);
    ret = inflate(&z->decompress, Z_FINISH);
    /*
     * Z_BUF_ERROR with the cluster complete: the end marker did not fit into
     * the stored sectors, or more would follow. The data is all there.
     */
    if ((ret == Z_STREAM_END || ret == Z_BUF_ERROR) &&
        z->decompress.avail_out == 0) {
        return 0;
    }
    return -EIO;
}
