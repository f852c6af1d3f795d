/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The handshake of fixed newstyle: greeting, and options until one ends it. */
#include "util/osdep.h"
#include "nbd-int.h"
#include "util/bswap.h"

static int coroutine_fn greet(NBDClient *client)
{
    uint8_t hello[18], answer[4];
    struct iovec iov = { hello, sizeof(hello) };
    uint32_t flags;
    int ret;

    stq_be_p(hello, NBD_INIT_MAGIC);
    stq_be_p(hello + 8, NBD_OPTS_MAGIC);
    stw_be_p(hello + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    ret = nbd_stream_write(&client->stream, &iov, 1);
    if (ret >= 0) {
        ret = nbd_stream_read(&client->stream, answer, sizeof(answer));
    }
    if (ret < 0) {
        return ret;
    }
    flags = ldl_be_p(answer);
    client->fixed_newstyle = flags & NBD_FLAG_FIXED_NEWSTYLE;
    client->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    return flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)
           ? -EINVAL : 0;
}

int coroutine_fn nbd_option_reply(NBDClient *client, const NBDOption *opt,
                                  uint32_t type, const void *data,
                                  uint32_t len)
{
    uint8_t head[20];
    struct iovec iov[2] = {
        { head, sizeof(head) }, { (void *)data, len },
    };

    stq_be_p(head, NBD_REP_MAGIC);
    stl_be_p(head + 8, opt->code);
    stl_be_p(head + 12, type);
    stl_be_p(head + 16, len);
    return nbd_stream_write(&client->stream, iov, len ? 2 : 1);
}

int coroutine_fn nbd_option_refuse(NBDClient *client, const NBDOption *opt,
                                   uint32_t type, const char *fmt, ...)
{
    g_autofree char *words = NULL;
    va_list ap;

    va_start(ap, fmt);
    words = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return nbd_option_reply(client, opt, type, words, strlen(words));
}

static int coroutine_fn option_too_long(NBDClient *client,
                                        const NBDOption *opt)
{
    int ret = nbd_stream_skip(&client->stream, opt->len);

    return ret < 0 ? ret
           : nbd_option_refuse(client, opt, NBD_REP_ERR_TOO_BIG,
                               "option of %" PRIu32 " bytes is too long",
                               opt->len);
}

/* NBD_OPTION_* or -errno. */
static int coroutine_fn next_option(NBDClient *client)
{
    g_autofree uint8_t *data = NULL;
    uint8_t head[16];
    NBDOption opt;
    int ret = nbd_stream_read(&client->stream, head, sizeof(head));

    if (ret < 0) {
        return ret;
    }
    opt.code = ldl_be_p(head + 8);
    opt.len = ldl_be_p(head + 12);
    if (ldq_be_p(head) != NBD_OPTS_MAGIC || opt.len > NBD_MAX_BUFFER_SIZE) {
        return -EINVAL;
    }
    if (!client->fixed_newstyle && opt.code != NBD_OPT_EXPORT_NAME) {
        return -EINVAL;     /* no other has a reply that it understands */
    }
    if (opt.len > NBD_MAX_OPTION_SIZE) {
        return option_too_long(client, &opt);
    }
    data = g_malloc(opt.len + 1);
    opt.data = data;
    ret = nbd_stream_read(&client->stream, data, opt.len);
    return ret < 0 ? ret : nbd_option_run(client, &opt);
}

bool coroutine_fn nbd_handshake(NBDClient *client)
{
    int ret = greet(client);

    while (ret == NBD_OPTION_NEXT) {
        ret = next_option(client);
    }
    return ret == NBD_OPTION_SERVE;
}
