/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options of the handshake. A mistake of the client is answered, and it may go on;
 * what it sent is in memory as a whole, so there is nothing to read over.
 */
#include "util/osdep.h"
#include "nbd-int.h"
#include "block/block_int.h"
#include "trace/block.h"
#include "util/aio.h"
#include "util/bswap.h"

/* --- parsing --- */

/* A 32-bit length and as many bytes at *@p; false if they are not all there. */
static bool take_string(const uint8_t **p, size_t *left, const char **str,
                        uint32_t *len)
{
    if (*left < 4) {
        return false;
    }
    *len = ldl_be_p(*p);
    if (*len > *left - 4 || *len > NBD_MAX_STRING_SIZE) {
        return false;
    }
    *str = (const char *)*p + 4;
    *p += 4 + *len;
    *left -= 4 + *len;
    return true;
}

int nbd_parse_info(const uint8_t *data, size_t len, NBDInfoQuery *q)
{
    unsigned n;

    memset(q, 0, sizeof(*q));
    if (!take_string(&data, &len, &q->name, &q->name_len) || len < 2) {
        return -EINVAL;
    }
    n = lduw_be_p(data);
    if (len - 2 != n * 2) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < n; i++) {
        switch (lduw_be_p(data + 2 + i * 2)) {
        case NBD_INFO_NAME:
            q->want_name = true;
            break;
        case NBD_INFO_DESCRIPTION:
            q->want_description = true;
            break;
        case NBD_INFO_BLOCK_SIZE:
            q->want_block_size = true;
            break;
        default:
            break;      /* the server may leave out what it does not know */
        }
    }
    return 0;
}

int nbd_parse_meta(const uint8_t *data, size_t len, NBDMetaQueries *q)
{
    const uint8_t *p;

    if (!take_string(&data, &len, &q->name, &q->name_len) || len < 4) {
        return -EINVAL;
    }
    q->count = ldl_be_p(data);
    q->next = p = data + 4;
    len -= 4;
    for (uint32_t i = 0; i < q->count; i++) {
        const char *str;
        uint32_t str_len;

        if (!take_string(&p, &len, &str, &str_len)) {
            return -EINVAL;
        }
    }
    return len ? -EINVAL : 0;
}

/* --- choosing an export --- */

static uint16_t transmission_flags(const NBDClient *client,
                                   const NBDExport *exp)
{
    return NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
           NBD_FLAG_SEND_CACHE |
           (nbd_server_single_client() ? 0 : NBD_FLAG_CAN_MULTI_CONN) |
           (exp->common.writable
            ? NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
              NBD_FLAG_SEND_FAST_ZERO
            : NBD_FLAG_READ_ONLY) |
           (client->style == NBD_STYLE_SIMPLE ? 0 : NBD_FLAG_SEND_DF);
}

static void choose(NBDClient *client, NBDExport *exp)
{
    blk_exp_ref(&exp->common);
    client->exp = exp;
    client->ctx = blk_exp_thread_ctx(&exp->common, exp->next_thread++);
    if (client->meta.serial != exp->serial) {
        nbd_meta_clear(&client->meta);
    }
}

/* @exp must not go while an answer about it is on its way. A client that does not
 * fetch it is in the way of nobody who ends the export: it is hung up on. */
static void begin_answer(NBDClient *client, NBDExport *exp)
{
    blk_exp_ref(&exp->common);
    client->asked_about = exp;
}

static void end_answer(NBDClient *client, NBDExport *exp)
{
    client->asked_about = NULL;
    blk_exp_unref(&exp->common);
}

/* The length when the client connects. */
static int64_t coroutine_fn length_of(NBDExport *exp)
{
    return blk_co_getlength(exp->common.blk);
}

static int coroutine_fn run_export_name(NBDClient *client,
                                        const NBDOption *opt)
{
    NBDExport *exp = opt->len <= NBD_MAX_STRING_SIZE
                     ? nbd_export_find((const char *)opt->data, opt->len)
                     : NULL;
    uint8_t answer[8 + 2 + 124] = { 0 };
    struct iovec iov = { answer, client->no_zeroes ? 10 : sizeof(answer) };
    int64_t length;
    int ret;

    /* There is no way to say no but to hang up. */
    if (!exp || client->style == NBD_STYLE_EXTENDED) {
        return -ENOENT;
    }
    choose(client, exp);
    length = length_of(exp);
    if (length < 0) {
        return length;
    }
    stq_be_p(answer, length);
    stw_be_p(answer + 8, transmission_flags(client, exp));
    ret = nbd_stream_write(&client->stream, &iov, 1);
    return ret < 0 ? ret : NBD_OPTION_SERVE;
}

static int coroutine_fn send_string_info(NBDClient *client,
                                         const NBDOption *opt, uint16_t info,
                                         const char *text)
{
    g_autofree uint8_t *buf = g_malloc(2 + strlen(text));

    stw_be_p(buf, info);
    memcpy(buf + 2, text, strlen(text));
    return nbd_option_reply(client, opt, NBD_REP_INFO, buf, 2 + strlen(text));
}

static int coroutine_fn send_block_size(NBDClient *client,
                                        const NBDOption *opt, NBDExport *exp,
                                        bool agreed)
{
    /* Who does not ask does not know either, so any byte must do. */
    uint32_t min = agreed ? blk_get_request_alignment(exp->common.blk) : 1;
    uint8_t buf[14];

    min = MIN(min, 65536);
    stw_be_p(buf, NBD_INFO_BLOCK_SIZE);
    stl_be_p(buf + 2, min);
    stl_be_p(buf + 6, MAX(min, 4096));
    stl_be_p(buf + 10, NBD_MAX_BUFFER_SIZE);
    return nbd_option_reply(client, opt, NBD_REP_INFO, buf, sizeof(buf));
}

static int coroutine_fn send_export_info(NBDClient *client,
                                         const NBDOption *opt, NBDExport *exp,
                                         int64_t length)
{
    uint8_t buf[12];

    stw_be_p(buf, NBD_INFO_EXPORT);
    stq_be_p(buf + 2, length);
    stw_be_p(buf + 10, transmission_flags(client, exp));
    return nbd_option_reply(client, opt, NBD_REP_INFO, buf, sizeof(buf));
}

static int coroutine_fn send_infos(NBDClient *client, const NBDOption *opt,
                                   NBDExport *exp, const NBDInfoQuery *q,
                                   int64_t length)
{
    int ret = 0;

    if (q->want_name) {
        ret = send_string_info(client, opt, NBD_INFO_NAME, exp->name);
    }
    if (ret >= 0 && q->want_description && exp->description) {
        ret = send_string_info(client, opt, NBD_INFO_DESCRIPTION,
                               exp->description);
    }
    if (ret >= 0) {
        ret = send_block_size(client, opt, exp, q->want_block_size ||
                                                opt->code == NBD_OPT_INFO);
    }
    return ret < 0 ? ret : send_export_info(client, opt, exp, length);
}

static int coroutine_fn answer_info(NBDClient *client, const NBDOption *opt,
                                    NBDExport *exp, const NBDInfoQuery *q)
{
    int64_t length = length_of(exp);
    int ret;

    if (length < 0) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_PLATFORM,
                                 "the length is not known");
    }
    ret = send_infos(client, opt, exp, q, length);
    if (ret >= 0) {
        ret = nbd_option_reply(client, opt, NBD_REP_ACK, NULL, 0);
    }
    if (ret < 0 || opt->code == NBD_OPT_INFO) {
        return ret;
    }
    choose(client, exp);
    return NBD_OPTION_SERVE;
}

static int coroutine_fn run_info(NBDClient *client, const NBDOption *opt)
{
    NBDInfoQuery q;
    NBDExport *exp;
    int ret;

    if (nbd_parse_info(opt->data, opt->len, &q) < 0) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_INVALID,
                                 "malformed data");
    }
    exp = nbd_export_find(q.name, q.name_len);
    if (!exp) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_UNKNOWN,
                                 "export '%.*s' not present",
                                 MIN((int)q.name_len, 80), q.name);
    }
    begin_answer(client, exp);
    ret = answer_info(client, opt, exp, &q);
    if (ret == NBD_OPTION_SERVE && exp->common.shutting_down) {
        ret = -ESHUTDOWN;
    }
    end_answer(client, exp);
    return ret;
}

/* --- listing --- */

static int coroutine_fn send_server(NBDClient *client, const NBDOption *opt,
                                    const char *name, const char *description)
{
    size_t name_len = strlen(name);
    size_t desc_len = description ? strlen(description) : 0;
    g_autofree uint8_t *buf = g_malloc(4 + name_len + desc_len);

    stl_be_p(buf, name_len);
    memcpy(buf + 4, name, name_len);
    if (desc_len) {
        memcpy(buf + 4 + name_len, description, desc_len);
    }
    return nbd_option_reply(client, opt, NBD_REP_SERVER, buf,
                            4 + name_len + desc_len);
}

static int coroutine_fn run_list(NBDClient *client, const NBDOption *opt)
{
    NBDExport *exp = NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    int ret = 0;

    if (opt->len) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_INVALID,
                                 "the option has no data");
    }
    /* Sending may wait, and exports come and go meanwhile. */
    while ((exp = nbd_export_next(exp))) {
        g_ptr_array_add(names, g_strdup(exp->name));
        g_ptr_array_add(names, g_strdup(exp->description));
    }
    for (unsigned i = 0; i < names->len && ret >= 0; i += 2) {
        ret = send_server(client, opt, names->pdata[i], names->pdata[i + 1]);
    }
    return ret < 0 ? ret : nbd_option_reply(client, opt, NBD_REP_ACK, NULL, 0);
}

/* --- metadata contexts --- */

static void match_query(NBDExport *exp, NBDMeta *meta, const char *q,
                        size_t len, bool list)
{
    for (unsigned id = 0; id < nbd_meta_ids(exp); id++) {
        if (nbd_meta_matches(exp, id, q, len, list)) {
            nbd_meta_choose(meta, exp, id);
        }
    }
}

/* What the queries, all of them or none, select. */
static void match_queries(NBDExport *exp, NBDMeta *meta,
                          const NBDMetaQueries *q, bool list)
{
    const uint8_t *p = q->next;
    size_t left = SIZE_MAX;     /* nbd_parse_meta() has looked */

    if (list && !q->count) {
        match_query(exp, meta, "base:", 5, true);
        match_query(exp, meta, "qemu:", 5, true);
    }
    for (uint32_t i = 0; i < q->count; i++) {
        const char *str;
        uint32_t len;

        if (take_string(&p, &left, &str, &len)) {
            match_query(exp, meta, str, len, list);
        }
    }
}

static int coroutine_fn send_contexts(NBDClient *client, const NBDOption *opt,
                                      NBDExport *exp, const NBDMeta *meta)
{
    int ret = 0;

    for (unsigned id = 0; id < nbd_meta_ids(exp) && ret >= 0; id++) {
        g_autofree char *name = nbd_meta_name(exp, id);
        g_autofree uint8_t *buf = NULL;

        if (!nbd_meta_chosen(meta, id)) {
            continue;
        }
        buf = g_malloc(4 + strlen(name));
        stl_be_p(buf, opt->code == NBD_OPT_LIST_META_CONTEXT ? 0 : id);
        memcpy(buf + 4, name, strlen(name));
        ret = nbd_option_reply(client, opt, NBD_REP_META_CONTEXT, buf,
                               4 + strlen(name));
    }
    return ret < 0 ? ret : nbd_option_reply(client, opt, NBD_REP_ACK, NULL, 0);
}

static int coroutine_fn run_meta(NBDClient *client, const NBDOption *opt)
{
    bool list = opt->code == NBD_OPT_LIST_META_CONTEXT;
    NBDMeta found = { 0 };
    NBDMetaQueries q;
    NBDExport *exp;
    int ret;

    if (client->style == NBD_STYLE_SIMPLE) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_INVALID,
                                 "structured replies come first");
    }
    if (nbd_parse_meta(opt->data, opt->len, &q) < 0) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_INVALID,
                                 "malformed data");
    }
    if (!list) {
        nbd_meta_clear(&client->meta);
    }
    exp = nbd_export_find(q.name, q.name_len);
    if (!exp) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_UNKNOWN,
                                 "export '%.*s' not present",
                                 MIN((int)q.name_len, 80), q.name);
    }
    found.serial = exp->serial;
    match_queries(exp, &found, &q, list);
    begin_answer(client, exp);
    ret = send_contexts(client, opt, exp, &found);
    end_answer(client, exp);
    if (list) {
        nbd_meta_clear(&found);
    } else {
        client->meta = found;
    }
    return ret;
}

/* --- the rest --- */

static int coroutine_fn run_style(NBDClient *client, const NBDOption *opt)
{
    NBDStyle style = opt->code == NBD_OPT_STRUCTURED_REPLY
                     ? NBD_STYLE_STRUCTURED : NBD_STYLE_EXTENDED;

    if (opt->len) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_INVALID,
                                 "the option has no data");
    }
    if (client->style == NBD_STYLE_EXTENDED &&
        style == NBD_STYLE_STRUCTURED) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_EXT_HEADER_REQD,
                                 "extended headers are in use already");
    }
    if (client->style == style) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_INVALID,
                                 "this has been agreed on already");
    }
    client->style = style;
    return nbd_option_reply(client, opt, NBD_REP_ACK, NULL, 0);
}

static int coroutine_fn run_abort(NBDClient *client, const NBDOption *opt)
{
    /* It may be gone by now. */
    nbd_option_reply(client, opt, NBD_REP_ACK, NULL, 0);
    return NBD_OPTION_END;
}

static int coroutine_fn run_starttls(NBDClient *client, const NBDOption *opt)
{
    CryptoTLSCreds *creds = nbd_server_creds();
    Error *err = NULL;
    int ret;

    if (opt->len) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_INVALID,
                                 "the option has no data");
    }
    if (!creds) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_POLICY,
                                 "TLS not configured");
    }
    if (client->stream.tls) {
        return nbd_option_refuse(client, opt, NBD_REP_ERR_INVALID,
                                 "TLS has begun already");
    }
    ret = nbd_option_reply(client, opt, NBD_REP_ACK, NULL, 0);
    if (ret < 0) {
        return ret;
    }
    if (!nbd_stream_start_tls(&client->stream, creds, NULL, &err) ||
        !nbd_server_admits(crypto_tls_peer_name(client->stream.tls), &err)) {
        trace_nbd_server_tls_failed(client, error_get_pretty(err));
        error_free(err);
        return -EACCES;
    }
    return NBD_OPTION_NEXT;
}

/* Nothing but the start of TLS is for those who listen on the way. */
static bool needs_tls(const NBDClient *client, const NBDOption *opt)
{
    return nbd_server_creds() && !client->stream.tls &&
           opt->code != NBD_OPT_STARTTLS && opt->code != NBD_OPT_ABORT;
}

static int coroutine_fn refuse_plain(NBDClient *client, const NBDOption *opt)
{
    if (opt->code == NBD_OPT_EXPORT_NAME) {
        return -EACCES;     /* it has no reply for that */
    }
    return nbd_option_refuse(client, opt, NBD_REP_ERR_TLS_REQD,
                             "Option 0x%" PRIx32 " not permitted before TLS",
                             opt->code);
}

int coroutine_fn nbd_option_run(NBDClient *client, const NBDOption *opt)
{
    if (needs_tls(client, opt)) {
        return refuse_plain(client, opt);
    }
    switch (opt->code) {
    case NBD_OPT_EXPORT_NAME:
        return run_export_name(client, opt);
    case NBD_OPT_ABORT:
        return run_abort(client, opt);
    case NBD_OPT_LIST:
        return run_list(client, opt);
    case NBD_OPT_STARTTLS:
        return run_starttls(client, opt);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return run_info(client, opt);
    case NBD_OPT_STRUCTURED_REPLY:
    case NBD_OPT_EXTENDED_HEADERS:
        return run_style(client, opt);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return run_meta(client, opt);
    default:
        return nbd_option_refuse(client, opt, NBD_REP_ERR_UNSUP,
                                 "unsupported option %" PRIu32, opt->code);
    }
}
