/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What either side of NBD reads from the other. The first byte chooses:
 *
 *   0..2   replies to a client with requests under way, in each style of replies
 *   3      a server's side of the handshake
 *   4      a client's request and options
 *
 * A read that succeeded has got each of its bytes.
 */
#include "util/osdep.h"
#include <sys/socket.h>
#include "fuzz.h"
#include "block/block_int.h"
#include "block/export/nbd-int.h"
#include "block/net/nbd-client.h"
#include "util/aio.h"

/* What fits a socket without a reader. */
#define LONGEST (64 * 1024)
#define READ_LEN 4096
#define NR_REQUESTS 4

typedef struct Run {
    const uint8_t *data;
    size_t size;
    unsigned kind;
    int fd;
    bool done;
} Run;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    qemu_init_main_loop(&error_abort);
    return 0;
}

/* --- replies --- */

static void coroutine_fn read_replies(Run *run)
{
    static const uint16_t types[NR_REQUESTS] = {
        NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_BLOCK_STATUS, NBD_CMD_READ,
    };
    NBDConn *c = nbd_conn_new(run->fd);
    NBDClientRequest req[NR_REQUESTS] = { 0 };
    NBDClientRequest *done;
    QEMUIOVector qiov[NR_REQUESTS];
    g_autofree uint8_t *memory = g_malloc0(NR_REQUESTS * READ_LEN);

    c->info.style = run->kind;
    c->info.context_id = 7;
    for (unsigned i = 0; i < NR_REQUESTS; i++) {
        qemu_iovec_init_buf(&qiov[i], memory + i * READ_LEN, READ_LEN);
        req[i].type = types[i];
        req[i].from = i * READ_LEN;
        req[i].len = READ_LEN;
        req[i].qiov = &qiov[i];
        req[i].state = NBD_REQUEST_SENT;
        req[i].cookie = req[i].slot = i;
        nbd_answer_init(&req[i]);
        c->slots[i] = &req[i];
    }
    while (nbd_read_reply(c, &done) >= 0) {
        if (done) {
            assert(!done->done);
            done->done = true;
            assert(done->ret || done->type != NBD_CMD_READ ||
                   done->nr_filled == done->len);
            assert(done->ret || done->type != NBD_CMD_BLOCK_STATUS ||
                   (done->has_extent && done->extent_len));
        }
    }
    for (unsigned i = 0; i < NR_REQUESTS; i++) {
        c->slots[i] = NULL;
        nbd_answer_clear(&req[i]);
    }
    nbd_conn_free(c, false);
}

/* --- the handshake --- */

static void coroutine_fn negotiate(Run *run)
{
    NBDWanted wanted = { .export = "x", .context = NBD_META_BASE_ALLOCATION };
    g_autofree NBDStream *s = g_new0(NBDStream, 1);
    NBDExportInfo info;
    Error *err = NULL;

    nbd_stream_init(s, run->fd);
    if (nbd_negotiate(s, &wanted, &info, &err)) {
        assert(info.size <= BDRV_MAX_LENGTH);
        assert(!info.min_block || info.size % info.min_block == 0);
    } else {
        assert(err);
        error_free(err);
    }
    close(run->fd);
}

/* --- requests and options --- */

static void parse(Run *run)
{
    NBDRequestHead head;
    NBDInfoQuery info;
    NBDMetaQueries queries;
    NBDTarget target = { .length = 1 << 20, .style = NBD_STYLE_EXTENDED };

    if (run->size >= NBD_EXTENDED_REQUEST_SIZE) {
        for (NBDStyle style = 0; style <= NBD_STYLE_EXTENDED; style++) {
            target.style = style;
            if (nbd_parse_request(run->data, style, &head) == 0 &&
                nbd_check_request(&head, &target) == 0 &&
                head.type == NBD_CMD_READ) {
                assert(head.len <= NBD_MAX_BUFFER_SIZE &&
                       head.from + head.len <= target.length);
            }
        }
    }
    nbd_parse_info(run->data, run->size, &info);
    nbd_parse_meta(run->data, run->size, &queries);
}

static void coroutine_fn entry(void *opaque)
{
    Run *run = opaque;

    if (run->kind < 3) {
        read_replies(run);
    } else {
        negotiate(run);
    }
    run->done = true;
}

/* The input comes from a socket whose other end is closed for writing then. */
static void run_on_socket(Run *run)
{
    int fds[2], room = 4 * LONGEST;
    ssize_t n;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                   fds) < 0) {
        abort();
    }
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    n = send(fds[0], run->data, run->size, MSG_NOSIGNAL);
    assert(n == (ssize_t)run->size || !run->size);
    shutdown(fds[0], SHUT_WR);
    run->fd = fds[1];
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(entry, run));
    AIO_WAIT_WHILE(NULL, !run->done);
    close(fds[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Run run;

    if (!size || size > LONGEST) {
        return 0;
    }
    run = (Run) { .data = data + 1, .size = size - 1, .kind = data[0] % 5 };
    if (run.kind == 4) {
        parse(&run);
    } else {
        run_on_socket(&run);
    }
    return 0;
}
