/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages of vhost-user; see the header. */
#include "util/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include "block/export/vhost-user-wire.h"
#include "util/aio.h"
#include "util/fd.h"

#define HEADER_SIZE 12
#define MAX_PAYLOAD \
    (offsetof(VhostUserMessage, fds) - offsetof(VhostUserMessage, u64))

#define FLAG_VERSION 1
#define FLAG_VERSION_MASK 3
#define FLAG_REPLY 4
#define FLAG_NEED_REPLY 8

QEMU_BUILD_BUG_ON(offsetof(VhostUserMessage, size) != 8);

/* --- descriptors --- */

void vhost_user_message_clear(VhostUserMessage *msg)
{
    for (int i = 0; i < msg->nb_fds; i++) {
        if (msg->fds[i] >= 0) {
            qemu_close(msg->fds[i]);
        }
    }
    msg->nb_fds = 0;
}

int vhost_user_message_take_fd(VhostUserMessage *msg, int i)
{
    int fd = i < msg->nb_fds ? msg->fds[i] : -1;

    if (fd >= 0) {
        msg->fds[i] = -1;
    }
    return fd;
}

bool vhost_user_message_needs_ack(const VhostUserMessage *msg)
{
    return msg->flags & FLAG_NEED_REPLY;
}

/* All of one control message are ours now, the surplus too. */
static void collect_fds(struct msghdr *mh, VhostUserMessage *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
        int n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (int i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (msg->nb_fds < ARRAY_SIZE(msg->fds)) {
                msg->fds[msg->nb_fds++] = fd;
            } else {
                qemu_close(fd);
            }
        }
    }
}

/* --- receiving --- */

/* What has come, at most @size; 0 at the end; -errno. */
static ssize_t coroutine_fn recv_some(int sock, void *buf, size_t size,
                                      VhostUserMessage *msg)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(GUEST_MEMORY_MAX_REGIONS * sizeof(int))];
    } control;
    struct iovec iov = { buf, size };

    for (;;) {
        struct msghdr mh = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
            .msg_controllen = sizeof(control),
        };
        ssize_t n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

        if (n >= 0) {
            collect_fds(&mh, msg);
            return n;
        }
        if (errno == EAGAIN) {
            qemu_co_wait_fd(sock, POLLIN);
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

static int coroutine_fn recv_all(int sock, void *buf, size_t size,
                                 VhostUserMessage *msg, Error **errp)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = recv_some(sock, (uint8_t *)buf + done, size - done, msg);

        if (n < 0) {
            error_setg_errno(errp, -n, "Cannot receive");
            return -1;
        }
        if (n == 0 && !done && buf == msg) {
            return 0;
        }
        if (n == 0) {
            error_setg(errp, "The connection ended in the middle of a "
                       "message");
            return -1;
        }
        done += n;
    }
    return 1;
}

int coroutine_fn vhost_user_co_recv(int sock, VhostUserMessage *msg,
                                    Error **errp)
{
    int ret;

    memset(msg, 0, sizeof(*msg));
    ret = recv_all(sock, msg, HEADER_SIZE, msg, errp);
    if (ret <= 0) {
        return ret;
    }
    if ((msg->flags & FLAG_VERSION_MASK) != FLAG_VERSION) {
        error_setg(errp, "Version %u of the protocol is not supported",
                   msg->flags & FLAG_VERSION_MASK);
        return -1;
    }
    if (msg->size > MAX_PAYLOAD) {
        error_setg(errp, "Message %u has a payload of %u bytes, which is too "
                   "long", msg->request, msg->size);
        return -1;
    }
    return recv_all(sock, &msg->u64, msg->size, msg, errp);
}

/* --- sending --- */

int coroutine_fn vhost_user_co_reply(int sock, VhostUserMessage *msg, int fd)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec iov[2] = { { msg, HEADER_SIZE }, { &msg->u64, msg->size } };
    struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };

    msg->flags = FLAG_VERSION | FLAG_REPLY;
    if (fd >= 0) {
        struct cmsghdr *c;

        mh.msg_control = &control;
        mh.msg_controllen = sizeof(control);
        c = CMSG_FIRSTHDR(&mh);
        *c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
                               .cmsg_level = SOL_SOCKET,
                               .cmsg_type = SCM_RIGHTS };
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    for (;;) {
        ssize_t n = sendmsg(sock, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);

        /* A Unix socket takes so short a message whole or not at all. */
        if (n == (ssize_t)(HEADER_SIZE + msg->size)) {
            return 0;
        }
        if (n >= 0) {
            return -EPIPE;
        }
        if (errno == EAGAIN) {
            qemu_co_wait_fd(sock, POLLOUT);
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

void vhost_user_send_config_change(int channel)
{
    uint32_t header[3] = { VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, FLAG_VERSION,
                           0 };

    if (send(channel, header, sizeof(header),
             MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        /* It is told again at the next change. */
    }
}
