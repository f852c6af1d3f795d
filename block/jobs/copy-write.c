/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The writing half of the copy engine: a buffer is cut into runs of data and
 * of zeroes, and each run becomes one request.
 *
 * The requests of one buffer are issued in ascending order without waiting for
 * each other: all but the last in coroutines of their own. The turn is passed
 * on when the last one is about to be issued. As waking only queues the next
 * worker, this request reaches the target before any of that worker's.
 */
#include "util/osdep.h"
#include "block/jobs/copy-int.h"
#include "util/aio.h"
#include "util/zero.h"

/* Requests of one worker in flight. */
#define MAX_PIECES 16

typedef enum {
    PIECE_DATA,
    PIECE_ZERO,
} PieceKind;

typedef struct CopyPiece {
    CopyWorker *w;
    int64_t offset;
    int64_t bytes;
    void *buf;      /* PIECE_DATA */
    PieceKind kind;
} CopyPiece;

/* Zeroes where the target is not known to have them. */
static int coroutine_fn issue_zeroes(BlockCopyState *s, const CopyPiece *p)
{
    int64_t pos, n;
    int ret = 0;

    for (pos = 0; pos < p->bytes && ret >= 0; pos += n) {
        ret = blk_co_block_status_above(s->target, NULL, true, p->offset + pos,
                                        p->bytes - pos, &n, NULL, NULL, NULL);
        if (ret >= 0 && (ret & BDRV_BLOCK_ZERO)) {
            continue;
        }
        if (ret < 0) {
            n = p->bytes - pos;
        }
        ret = blk_co_pwrite_zeroes(s->target, p->offset + pos, n,
                                   BDRV_REQ_MAY_UNMAP);
    }
    return MIN(ret, 0);
}

static int coroutine_fn issue(BlockCopyState *s, const CopyPiece *p)
{
    BdrvRequestFlags flags = 0;

    if (p->kind == PIECE_ZERO && s->opt.keep_target_zeroes) {
        return issue_zeroes(s, p);
    }
    if (p->kind == PIECE_ZERO) {
        return blk_co_pwrite_zeroes(s->target, p->offset, p->bytes,
                                    BDRV_REQ_MAY_UNMAP);
    }
    if (s->opt.compressed) {
        flags |= BDRV_REQ_WRITE_COMPRESSED;
    }
    return blk_co_pwrite(s->target, p->offset, p->bytes, p->buf, flags);
}

static void coroutine_fn write_piece(const CopyPiece *p)
{
    BlockCopyState *s = p->w->s;
    int ret = 0;

    while (ret == 0 && copy_begin(s)) {
        ret = issue(s, p);
        copy_end(s);
        if (ret >= 0) {
            return;
        }
        ret = copy_ask(s, BLOCK_COPY_WRITE, p->offset, p->bytes, ret);
    }
    p->w->lost = true;
}

static void wake_piece_waiter(CopyWorker *w)
{
    Coroutine *co = w->piece_waiter;

    if (co) {
        w->piece_waiter = NULL;
        aio_co_wake(co);
    }
}

static void coroutine_fn piece_entry(void *opaque)
{
    g_autofree CopyPiece *p = opaque;

    write_piece(p);
    p->w->pieces--;
    wake_piece_waiter(p->w);
}

/* Until at most @max pieces are in flight. */
static void coroutine_fn wait_for_pieces(CopyWorker *w, unsigned max)
{
    while (w->pieces > max) {
        w->piece_waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
}

static void coroutine_fn start_piece(const CopyPiece *p)
{
    CopyWorker *w = p->w;

    wait_for_pieces(w, MAX_PIECES - 1);
    if (copy_is_ending(w->s)) {
        return;
    }
    w->pieces++;
    qemu_coroutine_enter(qemu_coroutine_create(piece_entry,
                                               g_memdup2(p, sizeof(*p))));
}

/* Passes the turn, issues @last (unless it is empty), waits for everything. */
static void coroutine_fn finish_pieces(CopyWorker *w, const CopyPiece *last)
{
    copy_pass_turn(w);
    if (last->bytes && !copy_is_ending(w->s)) {
        write_piece(last);
    }
    wait_for_pieces(w, 0);
}

/*
 * Length of the first run in @buf; its kind goes to *@kind. Zeroes shorter than
 * min_sparse count as data, except at the end of the buffer, where they may
 * belong to a longer run.
 */
static int64_t next_run(BlockCopyState *s, const char *buf, int64_t bytes,
                        PieceKind *kind)
{
    int64_t pos = 0;
    size_t n;

    while (pos < bytes) {
        bool zero = buffer_zero_run(buf + pos, bytes - pos, s->zero_unit, &n);
        bool hole = zero && (n >= s->opt.min_sparse || pos + n == bytes);

        if (hole && !pos) {
            *kind = PIECE_ZERO;
            return n;
        }
        if (hole) {
            break;
        }
        pos += n;
    }
    *kind = PIECE_DATA;
    return pos;
}

/* Length of the first units in @a and @b that are all equal, or all not. */
static int64_t same_run(BlockCopyState *s, const char *a, const char *b,
                        int64_t bytes, bool *same)
{
    int64_t unit = s->opt.align;
    int64_t pos = MIN(unit, bytes);

    *same = !memcmp(a, b, pos);
    while (pos < bytes) {
        int64_t n = MIN(unit, bytes - pos);

        if (!memcmp(a + pos, b + pos, n) != *same) {
            break;
        }
        pos += n;
    }
    return pos;
}

void coroutine_fn copy_write_data(CopyWorker *w, int64_t offset,
                                  int64_t bytes, void *buf, const void *same,
                                  bool may_be_zero)
{
    BlockCopyState *s = w->s;
    CopyPiece last = { .w = w };
    int64_t pos = 0;

    while (pos < bytes && !copy_is_ending(s)) {
        CopyPiece p = {
            .w = w,
            .offset = offset + pos,
            .bytes = bytes - pos,
            .buf = (char *)buf + pos,
            .kind = PIECE_DATA,
        };

        if (same) {
            bool equal;

            p.bytes = same_run(s, p.buf, (const char *)same + pos, p.bytes,
                               &equal);
            if (equal) {
                pos += p.bytes;
                continue;
            }
        }
        if (may_be_zero && s->opt.min_sparse) {
            p.bytes = next_run(s, p.buf, p.bytes, &p.kind);
        }
        pos += p.bytes;
        if (p.kind == PIECE_ZERO && s->opt.target_is_zero) {
            continue;
        }
        if (last.bytes) {
            start_piece(&last);
        }
        last = p;
    }
    finish_pieces(w, &last);
}

void coroutine_fn copy_write_zeroes(CopyWorker *w, int64_t offset,
                                    int64_t bytes)
{
    CopyPiece p = {
        .w = w,
        .offset = offset,
        .bytes = bytes,
        .kind = PIECE_ZERO,
    };

    finish_pieces(w, &p);
}
