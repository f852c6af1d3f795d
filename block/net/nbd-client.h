/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of the NBD client.
 *
 *   nbd.c            the driver: requests of a node
 *   nbd-name.c       names and older options
 *   nbd-pool.c       the connections of a node: which one a request takes, what
 *                    happens when one is lost
 *   nbd-connect.c    one attempt to get a connection
 *   nbd-negotiate.c  the handshake, from greeting to export
 *   nbd-conn.c       requests on one connection: sent and waited for
 *   nbd-reply.c      replies: read and checked
 *   nbd-stream.c     bytes from and to a socket
 *
 * Nothing that a server says is believed: sizes, offsets and names are bounded
 * before somebody uses them, and the memory of a read is filled completely and
 * once, or the read fails.
 *
 * Lock order: NBDPool.lock before NBDConn.lock. Neither is held across a yield.
 */
#ifndef BLOCK_NET_NBD_CLIENT_H
#define BLOCK_NET_NBD_CLIENT_H

#include "util/osdep.h"
#include "block/block_int.h"
#include "block/nbd.h"
#include "block/nbd-stream.h"
#include "objects/tls-creds.h"
#include "util/coroutine.h"
#include "util/queue.h"
#include "util/thread.h"
#include "util/timer.h"

/* Requests on one connection; further ones wait. */
#define NBD_CLIENT_SLOTS 64
/* Connections of one node, to a server that allows several. */
#define NBD_CLIENT_MAX_CONNS 4
/* Requests on each connection at which a further one is worth while. */
#define NBD_CLIENT_CROWD 8
/* From connecting to the end of the handshake, in seconds. */
#define NBD_CLIENT_HANDSHAKE_SECS 60

/* --- nbd-name.c --- */

bool nbd_parse_filename(const char *filename, QDict *options, Error **errp);
bool nbd_translate_options(QDict *options, Error **errp);
void nbd_refresh_filename(BlockDriverState *bs);

/* --- nbd-negotiate.c --- */

/* What is asked of a server. Borrowed. */
typedef struct NBDWanted {
    const char *export;
    const char *context;        /* the metadata context */
    CryptoTLSCreds *creds;      /* NULL: no TLS */
    const char *hostname;       /* that the server's certificate is for */
} NBDWanted;

/* What it said. */
typedef struct NBDExportInfo {
    NBDStyle style;
    uint64_t size;              /* at most BDRV_MAX_LENGTH */
    uint16_t flags;             /* NBD_FLAG_* */
    /* Bytes; powers of two, but for @max_block, which is a multiple of
     * @min_block. 0: not said. */
    uint32_t min_block, opt_block, max_block;
    bool has_context;
    uint32_t context_id;
} NBDExportInfo;

/* False with @errp. */
bool coroutine_fn nbd_negotiate(NBDStream *s, const NBDWanted *wanted,
                                NBDExportInfo *info, Error **errp);

/* --- requests --- */

typedef enum NBDRequestState {
    NBD_REQUEST_QUEUED,         /* nothing of it is sent */
    NBD_REQUEST_SENDING,        /* somebody sends it, and looks at its memory */
    NBD_REQUEST_SENT,
} NBDRequestState;

typedef struct NBDClientRequest NBDClientRequest;
struct NBDClientRequest {
    /* The question; fixed. */
    uint16_t type;              /* NBD_CMD_* */
    uint16_t flags;             /* NBD_CMD_FLAG_* */
    uint64_t from, len;         /* bytes */
    QEMUIOVector *qiov;         /* of reads and writes */
    size_t qiov_offset;

    /* The answer; whoever reads replies writes it. */
    int ret;                    /* 0 or -errno, the first one */
    GArray *filled;             /* NBDRange: of a read, sorted, apart; or NULL */
    uint64_t nr_filled;         /* bytes in all of them */
    bool has_extent;
    uint64_t extent_len;        /* from @from on; not 0 */
    uint64_t extent_flags;      /* NBD_STATE_* */

    /* Under the lock of its connection. */
    NBDRequestState state;
    bool done;                  /* the answer is complete */
    bool waiting;               /* in a yield, to be woken by nbd-conn.c */
    unsigned slot;
    uint64_t cookie;
    Coroutine *co;
    QTAILQ_ENTRY(NBDClientRequest) next_queued;
    QTAILQ_ENTRY(NBDClientRequest) next;

    /* nbd-pool.c; 0: did not happen. */
    int64_t lost_ns;            /* it first lost a connection */
    int64_t wait_ns;            /* it began to wait for one */
    int64_t hurry_ns;           /* it was told to hurry */
};

typedef struct NBDConn {
    NBDStream stream;           /* reading: by the reader; writing: the sender */
    NBDExportInfo info;         /* fixed */
    int64_t since_ns;           /* fixed: when it was made */

    /* Under NBDPool.lock. */
    unsigned refs;              /* requests, and one of the pool's table */
    AioContext *ctx;            /* of the last request */

    QemuMutex lock;
    bool broken;                /* no request will be answered any more */
    bool reading;               /* somebody is the reader / the sender */
    bool sending;
    uint32_t serial;            /* of cookies */
    unsigned nr_requests;
    NBDClientRequest *slots[NBD_CLIENT_SLOTS];
    QTAILQ_HEAD(, NBDClientRequest) requests;   /* all of them, by age */
    QTAILQ_HEAD(, NBDClientRequest) queue;      /* those to be sent */
    CoQueue room;

    /* Under the lock: what nbd_conn_is_stuck() saw. */
    int64_t looked_ns;          /* the last time */
    uint64_t oldest;            /* cookie of the oldest request */
    int64_t oldest_ns;          /* since when it is that one */
    unsigned moved;             /* of the stream */
    int64_t moved_ns;           /* since when nothing has */
} NBDConn;

/* --- nbd-conn.c --- */

/* Takes over @fd. */
NBDConn *nbd_conn_new(int fd);
/* Says goodbye if @polite, without waiting. No request is left. */
void nbd_conn_free(NBDConn *c, bool polite);
/*
 * Carries @req out. 0 if it was answered, by req->ret. -errno if the connection is
 * lost: -ESHUTDOWN if nothing of @req can have reached the server, else
 * -ECONNRESET. Any thread.
 */
int coroutine_fn nbd_conn_request(NBDConn *c, NBDClientRequest *req);
/*
 * For somebody who is in a hurry, and asks about once a second: whether requests
 * wait for a server that has been silent for too long meanwhile, or never gets to
 * an end. @impatient: it was so before. Main thread.
 */
bool nbd_conn_is_stuck(NBDConn *c, bool impatient);
/* Nothing more is expected of it. Any thread. */
void nbd_conn_break(NBDConn *c);
/* Request that was sent with @cookie and is not answered yet, or NULL. */
NBDClientRequest *nbd_conn_find(NBDConn *c, uint64_t cookie);

/* --- nbd-reply.c --- */

/* The answer, before the request is sent and after the end. */
void nbd_answer_init(NBDClientRequest *req);
void nbd_answer_clear(NBDClientRequest *req);
/*
 * Reads one reply, or one chunk of a reply. *@done gets the request if that was
 * the last of it, otherwise NULL. -errno: nothing behind it makes sense. By the
 * reader.
 */
int coroutine_fn nbd_read_reply(NBDConn *c, NBDClientRequest **done);

/* --- nbd-connect.c --- */

/* An attempt; main thread. Zero-initialise. */
typedef struct NBDAttempt {
    struct NBDDial *dial;       /* a thread connects */
    NBDConn *conn;              /* in its handshake */
    Coroutine *co;              /* waits for the dial */
    bool cancelled;
    bool too_long;
    bool fd_used;               /* the one that the address has, if it has one */
    QEMUTimer timer;
} NBDAttempt;

/* A connection to @options->server that is ready for requests, or NULL. In the main
 * thread. */
NBDConn *coroutine_fn nbd_connect(NBDAttempt *a,
                                  const BlockdevOptionsNbd *options,
                                  CryptoTLSCreds *creds, Error **errp);
/* Makes it end soon, without result. Outside of its coroutine. */
void nbd_connect_cancel(NBDAttempt *a);

/* --- nbd-pool.c --- */

typedef struct NBDPool {
    /* Fixed. */
    const BlockdevOptionsNbd *options;
    UserObject *creds;          /* NULL: no TLS; a use of it */
    NBDExportInfo info;         /* of the first connection; others are like it */
    int64_t delay_ns;           /* reconnect-delay */

    QemuMutex lock;
    NBDConn *conns[NBD_CLIENT_MAX_CONNS];
    unsigned nr_conns;
    bool connecting;            /* the coroutine for that is alive */
    bool attempting;            /* and does not only wait */
    int64_t attempt_ns;         /* since when */
    int64_t lost_ns;            /* when the last connection went, 0: never */
    int64_t pause_until_ns;     /* no attempt before */
    unsigned failures;          /* one after the other */
    int64_t drained_ns;         /* since when; 0: not drained */
    int64_t hurry_ns;           /* who waited then waits not much longer */
    int64_t silent_ns;          /* when the server was given up as silent */
    CoQueue waiters;            /* requests without connection */

    /* Main thread. */
    NBDAttempt attempt;
    QemuCoSleep pause;
    QEMUTimer timer;            /* waiters look at the time */
    bool closing;
    int64_t open_until_ns;      /* no return until then; 0: it is open */
    Error *open_error;
} NBDPool;

/*
 * Connects; false with @errp. @options stay valid; a named descriptor in their
 * address becomes its number. Main thread, which polls.
 */
bool nbd_pool_open(NBDPool *p, BlockdevOptionsNbd *options, Error **errp);
/* No request is left. Main thread, which polls. */
void nbd_pool_close(NBDPool *p);
/* Carries @req out, with a new connection if need be. 0 or -errno. */
int coroutine_fn nbd_pool_request(NBDPool *p, NBDClientRequest *req);
/* Requests that wait for a connection do not wait much longer. */
void nbd_pool_drained_begin(NBDPool *p);
void nbd_pool_drained_end(NBDPool *p);
/*
 * The same for those that wait already; and those that wait for an answer, lose the
 * connection if the server is silent. While it opens: it gives up. Called about once
 * a second until there is no hurry any more. Main thread.
 */
void nbd_pool_hurry(NBDPool *p);

#endif
