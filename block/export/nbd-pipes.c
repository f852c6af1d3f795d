/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pipes that carry pages of the page cache to a socket. A client keeps some for its
 * next requests, no more than it has requests under way, and one when it is idle.
 */
#include "util/osdep.h"
#include "nbd-int.h"
#include "util/atomic.h"

/* Of the whole process: two descriptors each. */
#define MAX_PIPES 64

struct NBDPipe {
    int fd[2];          /* to read from, to write to */
    NBDPipe *next;      /* of those that wait */
};

static unsigned nr_pipes;   /* atomic */

static NBDPipe *new_pipe(void)
{
    NBDPipe *p;
    int fd[2];

    if (qatomic_fetch_inc(&nr_pipes) >= MAX_PIPES ||
        pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0) {
        qatomic_dec(&nr_pipes);
        return NULL;
    }
    p = g_new(NBDPipe, 1);
    p->fd[0] = fd[0];
    p->fd[1] = fd[1];
    /* Users without privileges get so much only for a while; then the pipe is
     * too short. */
    if (fcntl(fd[1], F_SETPIPE_SZ, NBD_PIPE_SIZE) < NBD_PIPE_SIZE) {
        nbd_pipe_free(p);
        return NULL;
    }
    return p;
}

NBDPipe *nbd_pipe_get(NBDPipes *pipes)
{
    NBDPipe *p = pipes->free;

    if (!p) {
        return new_pipe();
    }
    pipes->free = p->next;
    pipes->kept--;
    return p;
}

void nbd_pipe_free(NBDPipe *p)
{
    if (p) {
        close(p->fd[0]);
        close(p->fd[1]);
        g_free(p);
        qatomic_dec(&nr_pipes);
    }
}

void nbd_pipes_trim(NBDPipes *pipes, unsigned keep)
{
    while (pipes->kept > keep) {
        nbd_pipe_free(nbd_pipe_get(pipes));
    }
}

void nbd_pipe_put(NBDPipes *pipes, NBDPipe *p)
{
    p->next = pipes->free;
    pipes->free = p;
    pipes->kept++;
}

int nbd_pipe_in(const NBDPipe *p)
{
    return p->fd[1];
}

int nbd_pipe_out(const NBDPipe *p)
{
    return p->fd[0];
}
