/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-nbd --list: what a server says about its exports. Blocking, with a time
 * limit; what the server says is bounded before it is believed.
 */
#include "util/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include "nbd/nbd.h"
#include "block/nbd.h"
#include "objects/tls-creds.h"
#include "sockets/sockets.h"
#include "util/bswap.h"

/* For each wait. */
#define TIMEOUT_SECS 30
/* Longest reply to an option, and most of them. */
#define MAX_REPLY (64 * 1024)
#define MAX_EXPORTS 10000

typedef struct Conn {
    int fd;
    CryptoTLSSession *tls;      /* NULL: none */
    bool structured;
} Conn;

typedef struct Reply {
    uint32_t type;
    uint32_t len;
    uint8_t data[MAX_REPLY];
} Reply;

typedef struct Info {
    char *name;
    char *description;
    bool has_size, has_blocks;
    uint64_t size;
    uint16_t flags;
    uint32_t min, opt, max;
    GPtrArray *contexts;
} Info;

static void info_free(void *opaque)
{
    Info *info = opaque;

    g_free(info->name);
    g_free(info->description);
    g_ptr_array_unref(info->contexts);
    g_free(info);
}

/* --- bytes --- */

/* 0 or -errno. */
static int wait_for(Conn *c, int events)
{
    struct pollfd pfd = { .fd = c->fd, .events = events };
    int n = RETRY_ON_EINTR(poll(&pfd, 1, TIMEOUT_SECS * 1000));

    return n < 0 ? -errno : n ? 0 : -ETIMEDOUT;
}

/* Bytes or -errno. */
static ssize_t put_some(Conn *c, const void *data, size_t len)
{
    ssize_t n;

    if (c->tls) {
        return crypto_tls_write(c->tls, data, len);
    }
    n = RETRY_ON_EINTR(send(c->fd, data, len, MSG_NOSIGNAL));
    return n < 0 ? -errno : n;
}

static ssize_t get_some(Conn *c, void *data, size_t len)
{
    ssize_t n;

    if (c->tls) {
        return crypto_tls_read(c->tls, data, len);
    }
    n = RETRY_ON_EINTR(recv(c->fd, data, len, 0));
    return n < 0 ? -errno : n;
}

static bool put(Conn *c, const void *data, size_t len, Error **errp)
{
    const uint8_t *p = data;

    while (len) {
        ssize_t n = put_some(c, p, len);

        if (n == -EAGAIN) {
            n = wait_for(c, POLLOUT);
        }
        if (n < 0) {
            error_setg_errno(errp, -n, "Failed to write to the server");
            return false;
        }
        p += n;
        len -= n;
    }
    return true;
}

static bool get(Conn *c, void *data, size_t len, Error **errp)
{
    uint8_t *p = data;

    while (len) {
        ssize_t n = get_some(c, p, len);

        if (n == -EAGAIN) {
            n = wait_for(c, POLLIN);
        } else if (n == 0) {
            error_setg(errp, "Failed to read from the server: it has hung "
                       "up");
            return false;
        }
        if (n < 0) {
            error_setg_errno(errp, -n, "Failed to read from the server");
            return false;
        }
        p += n;
        len -= n;
    }
    return true;
}

static bool send_option(Conn *c, uint32_t code, const void *data, uint32_t len,
                        Error **errp)
{
    uint8_t head[16];

    stq_be_p(head, NBD_OPTS_MAGIC);
    stl_be_p(head + 8, code);
    stl_be_p(head + 12, len);
    return put(c, head, sizeof(head), errp) && put(c, data, len, errp);
}

static bool get_reply(Conn *c, uint32_t code, Reply *r, Error **errp)
{
    uint8_t head[20];

    if (!get(c, head, sizeof(head), errp)) {
        return false;
    }
    r->type = ldl_be_p(head + 12);
    r->len = ldl_be_p(head + 16);
    if (ldq_be_p(head) != NBD_REP_MAGIC || ldl_be_p(head + 8) != code ||
        r->len > MAX_REPLY) {
        error_setg(errp, "The server's reply to option %" PRIu32
                   " makes no sense", code);
        return false;
    }
    return get(c, r->data, r->len, errp);
}

/* --- what is said --- */

static bool greet(Conn *c, Error **errp)
{
    uint8_t hello[18], flags[4];

    if (!get(c, hello, 16, errp)) {
        return false;
    }
    if (ldq_be_p(hello) != NBD_INIT_MAGIC) {
        error_setg(errp, "Bad initial magic received: 0x%" PRIx64,
                   ldq_be_p(hello));
        return false;
    }
    if (ldq_be_p(hello + 8) != NBD_OPTS_MAGIC) {
        error_setg(errp, "The server is too old to list exports");
        return false;
    }
    if (!get(c, hello + 16, 2, errp)) {
        return false;
    }
    if (!(lduw_be_p(hello + 16) & NBD_FLAG_FIXED_NEWSTYLE)) {
        error_setg(errp, "The server does not support fixed newstyle");
        return false;
    }
    stl_be_p(flags, NBD_FLAG_FIXED_NEWSTYLE |
                    (lduw_be_p(hello + 16) & NBD_FLAG_NO_ZEROES));
    return put(c, flags, sizeof(flags), errp);
}

static bool refused(const Reply *r, const char *what, Error **errp)
{
    error_setg(errp, "The server refuses to %s: %.*s", what,
               MIN((int)r->len, 200), (const char *)r->data);
    return false;
}

static bool start_tls(Conn *c, CryptoTLSCreds *creds, const char *hostname,
                      Reply *r, Error **errp)
{
    int ret;

    if (!send_option(c, NBD_OPT_STARTTLS, NULL, 0, errp) ||
        !get_reply(c, NBD_OPT_STARTTLS, r, errp)) {
        return false;
    }
    if (r->type != NBD_REP_ACK) {
        return refused(r, "begin TLS", errp);
    }
    c->tls = crypto_tls_session_new(creds, hostname, c->fd, errp);
    if (!c->tls) {
        return false;
    }
    while ((ret = crypto_tls_handshake(c->tls, errp)) > 0) {
        ret = wait_for(c, ret);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "TLS handshake failed");
            return false;
        }
    }
    return ret == 0;
}

static bool ask_structured(Conn *c, Reply *r, Error **errp)
{
    if (!send_option(c, NBD_OPT_STRUCTURED_REPLY, NULL, 0, errp) ||
        !get_reply(c, NBD_OPT_STRUCTURED_REPLY, r, errp)) {
        return false;
    }
    c->structured = r->type == NBD_REP_ACK;
    return true;
}

static bool add_export(GPtrArray *infos, const Reply *r, Error **errp)
{
    uint32_t name_len = r->len >= 4 ? ldl_be_p(r->data) : 0;
    Info *info;

    if (r->len < 4 || name_len > r->len - 4 ||
        name_len > NBD_MAX_STRING_SIZE ||
        r->len - 4 - name_len > NBD_MAX_STRING_SIZE ||
        infos->len >= MAX_EXPORTS) {
        error_setg(errp, "The server's list of exports makes no sense");
        return false;
    }
    info = g_new0(Info, 1);
    info->contexts = g_ptr_array_new_with_free_func(g_free);
    info->name = g_strndup((const char *)r->data + 4, name_len);
    if (r->len > 4 + name_len) {
        info->description = g_strndup((const char *)r->data + 4 + name_len,
                                      r->len - 4 - name_len);
    }
    g_ptr_array_add(infos, info);
    return true;
}

static bool ask_list(Conn *c, GPtrArray *infos, Reply *r, Error **errp)
{
    if (!send_option(c, NBD_OPT_LIST, NULL, 0, errp)) {
        return false;
    }
    for (;;) {
        if (!get_reply(c, NBD_OPT_LIST, r, errp)) {
            return false;
        }
        if (r->type == NBD_REP_ACK) {
            return true;
        }
        if (r->type == NBD_REP_ERR_TLS_REQD) {
            refused(r, "list its exports without TLS", errp);
            error_append_hint(errp, "Did you forget a valid tls-creds?\n");
            return false;
        }
        if (r->type != NBD_REP_SERVER) {
            return refused(r, "list its exports", errp);
        }
        if (!add_export(infos, r, errp)) {
            return false;
        }
    }
}

static void take_info(Info *info, const Reply *r)
{
    unsigned what = r->len >= 2 ? lduw_be_p(r->data) : UINT16_MAX;

    if (what == NBD_INFO_EXPORT && r->len == 12) {
        info->has_size = true;
        info->size = ldq_be_p(r->data + 2);
        info->flags = lduw_be_p(r->data + 10);
    } else if (what == NBD_INFO_BLOCK_SIZE && r->len == 14) {
        info->has_blocks = true;
        info->min = ldl_be_p(r->data + 2);
        info->opt = ldl_be_p(r->data + 6);
        info->max = ldl_be_p(r->data + 10);
    }
}

/* Replies until the last one; errors of the server leave things out. */
static bool collect(Conn *c, uint32_t code, Info *info, Reply *r,
                    Error **errp)
{
    for (unsigned n = 0; n < MAX_EXPORTS; n++) {
        if (!get_reply(c, code, r, errp)) {
            return false;
        }
        if (r->type == NBD_REP_ACK || NBD_REP_IS_ERR(r->type)) {
            return true;
        }
        if (r->type == NBD_REP_INFO) {
            take_info(info, r);
        } else if (r->type == NBD_REP_META_CONTEXT && r->len >= 4) {
            g_ptr_array_add(info->contexts,
                            g_strndup((const char *)r->data + 4, r->len - 4));
        }
    }
    error_setg(errp, "The server's replies do not end");
    return false;
}

static bool ask_about(Conn *c, Info *info, Reply *r, Error **errp)
{
    size_t n = strlen(info->name);
    g_autofree uint8_t *data = g_malloc(4 + n + 4);

    stl_be_p(data, n);
    memcpy(data + 4, info->name, n);
    stw_be_p(data + 4 + n, 1);
    stw_be_p(data + 6 + n, NBD_INFO_BLOCK_SIZE);
    if (!send_option(c, NBD_OPT_INFO, data, n + 8, errp) ||
        !collect(c, NBD_OPT_INFO, info, r, errp)) {
        return false;
    }
    if (!c->structured) {
        return true;
    }
    stl_be_p(data + 4 + n, 0);      /* no queries: all */
    return send_option(c, NBD_OPT_LIST_META_CONTEXT, data, n + 8, errp) &&
           collect(c, NBD_OPT_LIST_META_CONTEXT, info, r, errp);
}

/* --- output --- */

static void print_flags(uint16_t flags)
{
    static const char *const names[] = {
        NULL, "readonly", "flush", "fua", "rotational", "trim", "zeroes",
        "df", "multi", "resize", "cache", "fast-zero",
        "block-status-payload",
    };

    printf("  flags: 0x%x (", flags);
    for (size_t i = 1; i < ARRAY_SIZE(names); i++) {
        if (flags & 1u << i) {
            printf(" %s", names[i]);
        }
    }
    printf(" )\n");
}

static void print_export(const Info *info)
{
    printf(" export: '%s'\n", info->name);
    if (info->description && *info->description) {
        printf("  description: %s\n", info->description);
    }
    if (!info->has_size) {
        return;
    }
    printf("  size:  %" PRIu64 "\n", info->size);
    print_flags(info->flags);
    if (info->has_blocks) {
        printf("  min block: %" PRIu32 "\n", info->min);
        printf("  opt block: %" PRIu32 "\n", info->opt);
        printf("  max block: %" PRIu32 "\n", info->max);
    }
    if (info->contexts->len) {
        printf("  available meta contexts: %u\n", info->contexts->len);
        for (unsigned i = 0; i < info->contexts->len; i++) {
            printf("   %s\n", (char *)info->contexts->pdata[i]);
        }
    }
}

static bool ask_all(Conn *c, CryptoTLSCreds *creds, const char *hostname,
                    GPtrArray *infos, Error **errp)
{
    g_autofree Reply *r = g_new(Reply, 1);

    if (!greet(c, errp) ||
        (creds && !start_tls(c, creds, hostname, r, errp)) ||
        !ask_structured(c, r, errp) ||
        !ask_list(c, infos, r, errp)) {
        return false;
    }
    for (unsigned i = 0; i < infos->len; i++) {
        if (!ask_about(c, infos->pdata[i], r, errp)) {
            return false;
        }
    }
    send_option(c, NBD_OPT_ABORT, NULL, 0, NULL);
    return true;
}

static bool ask_server(const NbdArgs *a, CryptoTLSCreds *creds,
                       GPtrArray *infos, Error **errp)
{
    const char *hostname = a->tls_hostname;
    Conn c = { .fd = socket_connect(a->addr, errp) };
    bool ok;

    if (c.fd < 0) {
        return false;
    }
    if (!hostname && a->addr->type == SOCKET_ADDRESS_TYPE_INET) {
        hostname = a->addr->u.inet.host;
    }
    socket_set_nonblock(c.fd, true);
    ok = ask_all(&c, creds, hostname, infos, errp);
    crypto_tls_session_free(c.tls);
    close(c.fd);
    return ok;
}

bool nbd_list(const NbdArgs *a, Error **errp)
{
    g_autoptr(GPtrArray) infos = g_ptr_array_new_with_free_func(info_free);
    UserObject *creds = NULL;
    bool ok;

    if (a->tls_creds) {
        creds = tls_creds_use(a->tls_creds, false, errp);
        if (!creds) {
            return false;
        }
    }
    ok = ask_server(a, creds ? user_object_data(creds) : NULL, infos, errp);
    user_object_unuse(creds);
    if (!ok) {
        return false;
    }
    printf("exports available: %u\n", infos->len);
    for (unsigned i = 0; i < infos->len; i++) {
        print_export(infos->pdata[i]);
    }
    return true;
}
