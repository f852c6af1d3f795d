/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of the NBD server.
 *
 * A client is one coroutine from accept() to close(), in the main thread for the
 * handshake, then in the thread of its export, and at last in the main thread
 * again. While it serves, it has company in the same thread: one coroutine that
 * sends, and one for each request.
 *
 *   nbd-server.c      the listening socket, the list of clients
 *   nbd-export.c      what is exported: names, bitmaps, life
 *   nbd-buffers.c     memory for data
 *   nbd-pipes.c       pages that are not copied
 *   nbd-handshake.c   greeting, the loop over options
 *   nbd-options.c     each option
 *   nbd-meta.c        names of metadata contexts, and which a client chose
 *   nbd-status.c      extents of metadata contexts
 *   nbd-requests.c    requests: received, checked, carried out
 *   nbd-replies.c     replies: laid out, queued, sent
 *
 * Nothing that a client sends is believed: nbd_parse_*() and nbd_check_request()
 * bound every number before somebody uses it.
 */
#ifndef BLOCK_EXPORT_NBD_INT_H
#define BLOCK_EXPORT_NBD_INT_H

#include "util/osdep.h"
#include "block/dirty-bitmap.h"
#include "block/export.h"
#include "block/nbd.h"
#include "block/nbd-stream.h"
#include "util/coroutine.h"
#include "util/queue.h"
#include "util/timer.h"

/* Longest data of an option; longer ones are read over, up to the limit of a
 * request, and refused. */
#define NBD_MAX_OPTION_SIZE (128 * 1024)
/* What a client may have under way, answered but not sent yet included: a longer
 * request is alone. More would not stay in the processor's cache. */
#define NBD_MAX_REQUESTS 128
#define NBD_MAX_CLIENT_MEMORY ((size_t)4 * 1024 * 1024)
/* Extents in an answer for one context. */
#define NBD_MAX_EXTENTS 8192

/* --- nbd-buffers.c --- */

/* Also their alignment: good for direct I/O to all that is usual. */
#define NBD_MIN_BUFFER 4096
/* Up to more than NBD_MAX_BUFFER_SIZE. */
#define NBD_BUFFER_CLASSES 16
/* Bytes that a client keeps for later. */
#define NBD_MAX_KEPT NBD_MAX_CLIENT_MEMORY

typedef struct NBDFreeBuffer NBDFreeBuffer;
typedef struct NBDBuffers {
    NBDFreeBuffer *free[NBD_BUFFER_CLASSES];
    size_t kept;
} NBDBuffers;

/* At least @len bytes, which is at most NBD_MIN_BUFFER << (classes - 1). */
void *nbd_buffer_get(NBDBuffers *b, size_t len);
/* @len is what was asked for. NULL is fine. */
void nbd_buffer_put(NBDBuffers *b, void *buf, size_t len);
void nbd_buffers_clear(NBDBuffers *b);

/* --- nbd-pipes.c --- */

/* What a pipe takes, if it begins at a page. */
#define NBD_PIPE_SIZE (512 * 1024)

typedef struct NBDPipe NBDPipe;
typedef struct NBDPipes {
    NBDPipe *free;
    unsigned kept;
} NBDPipes;

/* An empty one, non-blocking; NULL: there are too many. */
NBDPipe *nbd_pipe_get(NBDPipes *pipes);
/* An empty one is kept. */
void nbd_pipe_put(NBDPipes *pipes, NBDPipe *p);
/* What is in it is lost. NULL is fine. */
void nbd_pipe_free(NBDPipe *p);
void nbd_pipes_trim(NBDPipes *pipes, unsigned keep);
/* The ends: to put bytes in, and to take them out. */
int nbd_pipe_in(const NBDPipe *p);
int nbd_pipe_out(const NBDPipe *p);

/* --- nbd-export.c --- */

typedef struct NBDExport {
    BlockExport common;
    char *name;
    char *description;          /* NULL: none */
    bool allocation_depth;
    BdrvDirtyBitmap **bitmaps;  /* busy, and references of their nodes */
    unsigned nr_bitmaps;
    uint64_t serial;            /* no other ever has it; from 1 */
    unsigned next_thread;       /* main thread */
    QTAILQ_ENTRY(NBDExport) next;
} NBDExport;

/* One that takes clients. Name of @len bytes, without NUL. */
NBDExport *nbd_export_find(const char *name, size_t len);
/* NULL begins and ends; only those that take clients. In order of creation. */
NBDExport *nbd_export_next(NBDExport *exp);

/* --- contexts that a client chose (nbd-meta.c) --- */

typedef struct NBDMeta {
    uint64_t serial;    /* of the export, which may be gone */
    bool base;
    bool depth;
    bool *bitmaps;      /* for each of the export's */
    unsigned count;
} NBDMeta;

enum {
    NBD_META_ID_BASE = 0,
    NBD_META_ID_DEPTH = 1,
    NBD_META_ID_BITMAP = 2,     /* and further ones */
};

void nbd_meta_clear(NBDMeta *meta);
/* Whether the query @q, of @len bytes, asks for context @id of @exp. @list: an
 * incomplete query means all that begins like it. */
bool nbd_meta_matches(NBDExport *exp, unsigned id, const char *q, size_t len,
                      bool list);
/* All ids are below this. */
unsigned nbd_meta_ids(const NBDExport *exp);
/* NULL if there is no context @id; caller frees. */
char *nbd_meta_name(const NBDExport *exp, unsigned id);
/* Adds context @id to @meta. */
void nbd_meta_choose(NBDMeta *meta, NBDExport *exp, unsigned id);
bool nbd_meta_chosen(const NBDMeta *meta, unsigned id);

/* --- clients (nbd-server.c) --- */

typedef struct NBDRequest NBDRequest;
typedef struct NBDClient NBDClient;

struct NBDClient {
    NBDStream stream;
    /* Set in the handshake. */
    bool fixed_newstyle;
    bool no_zeroes;
    NBDStyle style;
    NBDMeta meta;
    NBDExport *exp;             /* a reference; NULL in the handshake */
    AioContext *ctx;

    /* Only in the thread of @ctx, while it serves. */
    unsigned nr_requests;
    size_t memory;
    NBDBuffers buffers;
    NBDPipes pipes;
    bool wants_pages;           /* see wants_pages() */
    unsigned splice_pause;      /* reads that do not ask for pages */
    Coroutine *waiting;         /* the client's, for room or for the end */
    QSIMPLEQ_HEAD(, NBDRequest) replies;
    Coroutine *sender;
    bool sender_idle;
    bool closing;               /* no reply will follow */
    bool broken;                /* nothing can be sent any more */

    /* Only in the main thread. */
    const NBDExport *asked_about;   /* by the option that is being answered */
    QEMUTimer timer;
    QTAILQ_ENTRY(NBDClient) next;
};

/* Its requests end, what is left to send is lost. Main thread. */
void nbd_client_disconnect(NBDClient *client);
/* Those that use @exp, and those that wait for an answer about it. */
void nbd_server_disconnect(const NBDExport *exp);
bool nbd_server_single_client(void);
/* NULL: no TLS. */
CryptoTLSCreds *nbd_server_creds(void);
/* Whether a client may come whose certificate has the distinguished @name, or
 * who has none (NULL); false with @errp. */
bool nbd_server_admits(const char *name, Error **errp);

/* --- nbd-handshake.c --- */

/* True if the client has chosen an export, and is to be served. Main thread. */
bool coroutine_fn nbd_handshake(NBDClient *client);

typedef struct NBDOption {
    uint32_t code;
    uint32_t len;
    const uint8_t *data;
} NBDOption;

/* One reply to an option. 0 or -errno. */
int coroutine_fn nbd_option_reply(NBDClient *client, const NBDOption *opt,
                                  uint32_t type, const void *data,
                                  uint32_t len);
/* An error, with words for people. */
int coroutine_fn nbd_option_refuse(NBDClient *client, const NBDOption *opt,
                                   uint32_t type, const char *fmt, ...)
    G_GNUC_PRINTF(4, 5);

/* --- nbd-options.c --- */

enum {
    NBD_OPTION_NEXT = 0,        /* another option follows */
    NBD_OPTION_SERVE = 1,       /* the client has chosen client->exp */
    NBD_OPTION_END = 2,
};
/* One of these, or -errno. */
int coroutine_fn nbd_option_run(NBDClient *client, const NBDOption *opt);

/* Data of the options INFO and GO; 0, or -EINVAL. Points into @data. */
typedef struct NBDInfoQuery {
    const char *name;
    uint32_t name_len;
    bool want_name, want_description, want_block_size;
} NBDInfoQuery;
int nbd_parse_info(const uint8_t *data, size_t len, NBDInfoQuery *q);

/* Data of the options LIST/SET_META_CONTEXT: a name, and queries one after the
 * other, each a length and as many bytes; all of them are inside. */
typedef struct NBDMetaQueries {
    const char *name;
    uint32_t name_len;
    uint32_t count;
    const uint8_t *next;
} NBDMetaQueries;
int nbd_parse_meta(const uint8_t *data, size_t len, NBDMetaQueries *q);

/* --- nbd-requests.c --- */

typedef struct NBDRequestHead {
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;
    uint64_t from;      /* bytes, as the client says */
    uint64_t len;
    bool has_payload;   /* @len is what follows on the wire */
} NBDRequestHead;

struct NBDRequest {
    NBDClient *client;
    NBDRequestHead head;
    uint8_t *data;      /* payload, or what the reply carries */
    size_t data_len;    /* that @data was made for */
    NBDPipe *pipe;      /* what it carries instead, or NULL */
    size_t memory;      /* taken from the client's share */
    int ret;

    /* The reply. */
    uint8_t reply[NBD_EXTENDED_REPLY_SIZE + 12];
    struct iovec iov[2];
    int niov;
    QSIMPLEQ_ENTRY(NBDRequest) next;
};

/* NBD_REQUEST_SIZE or NBD_EXTENDED_REQUEST_SIZE bytes at @p. 0, or -EINVAL if
 * this is no request: nobody knows where the next one begins. */
int nbd_parse_request(const uint8_t *p, NBDStyle style, NBDRequestHead *head);

typedef struct NBDTarget {
    int64_t length;     /* of the disk, bytes */
    bool read_only;
    NBDStyle style;
    bool has_meta;      /* the client has chosen a context */
} NBDTarget;
/* 0 if it may be carried out, or -errno for the client. */
int nbd_check_request(const NBDRequestHead *head, const NBDTarget *target);

/* Serves until the connection ends. In client->ctx. */
void coroutine_fn nbd_serve(NBDClient *client);
/* It looks again at what it waits for, if it waits. */
void nbd_client_wake(NBDClient *client);

/* --- nbd-status.c --- */

/* All chosen contexts, into req->data; bytes of it, or -errno. */
ssize_t coroutine_fn nbd_status_chunks(NBDRequest *req);

/* --- nbd-replies.c --- */

/* NBD's number for -errno. */
uint32_t nbd_errno(int ret);
/* Lays the header of a chunk out at @p; returns its size. */
size_t nbd_put_chunk(uint8_t *p, NBDStyle style, const NBDRequestHead *head,
                     uint16_t flags, uint16_t type, uint64_t len);
/* Gives it @len bytes of data. */
void nbd_request_alloc(NBDRequest *req, size_t len);
/* The reply to @req, whose result is in req->ret, goes on its way. @bytes of
 * req->data, or in req->pipe, belong to it. Takes @req over. */
void nbd_reply(NBDRequest *req, size_t bytes);
void nbd_request_free(NBDRequest *req);
/* Entry of the coroutine that sends, until the client is closing. */
void coroutine_fn nbd_sender(void *client);

#endif
