/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes of an NBD connection, of either side.
 *
 * At most one coroutine reads and one writes at a time; they may be in different
 * threads, and others in the next call. Whoever wants them to end shuts the socket
 * down.
 */
#ifndef BLOCK_NBD_STREAM_H
#define BLOCK_NBD_STREAM_H

#include "util/osdep.h"
#include "crypto/tls.h"
#include "util/coroutine.h"
#include "util/iov.h"

typedef struct NBDStream {
    int fd;
    CryptoTLSSession *tls;  /* NULL: none; owned */
    bool drained;       /* the last read got all that was there */
    unsigned moved;     /* atomic; changes when bytes go in either direction */
    unsigned head, tail;    /* what is left in @buf */
    uint8_t buf[8192];
} NBDStream;

/* @fd is non-blocking or not, and stays the caller's. */
void nbd_stream_init(NBDStream *s, int fd);
/* Exactly @len bytes. 0, -ECONNRESET at an end, or -errno. */
int coroutine_fn nbd_stream_read(NBDStream *s, void *buf, size_t len);
/* The same into @qiov from @offset on. */
int coroutine_fn nbd_stream_read_qiov(NBDStream *s, QEMUIOVector *qiov,
                                      size_t offset, size_t len);
int coroutine_fn nbd_stream_skip(NBDStream *s, uint64_t len);
/* Whether bytes are there that nobody has asked for yet. */
bool nbd_stream_has_more(const NBDStream *s);
/* All of it; changes the array. 0 or -errno. */
int coroutine_fn nbd_stream_write(NBDStream *s, struct iovec *iov,
                                  unsigned niov);

/* Exactly @len bytes out of @pipe, which has them; its pages are not copied. The
 * socket is non-blocking, without TLS. 0 or -errno. */
int coroutine_fn nbd_stream_splice(NBDStream *s, int pipe, size_t len);

/* What fits without waiting; whether it arrives is not known. Not beside another
 * writer. */
void nbd_stream_try_write(NBDStream *s, const void *buf, size_t len);

/*
 * Both sides have agreed on TLS, which begins here; everything goes through it from
 * now on. Nobody else reads or writes. False with @errp: the connection is of no
 * use any more.
 */
bool coroutine_fn nbd_stream_start_tls(NBDStream *s, CryptoTLSCreds *creds,
                                       const char *hostname, Error **errp);
/* Frees what belongs to it; the socket stays open, and says goodbye by itself. */
void nbd_stream_clear(NBDStream *s);

#endif
