/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client's side of the handshake: fixed newstyle with NBD_OPT_GO, and what
 * older servers have instead of it.
 */
#include "util/osdep.h"
#include "block/net/nbd-client.h"
#include "util/bswap.h"
#include "util/cutils.h"

/* Longest reply to an option; all that is read is shorter. */
#define MAX_REPLY (64 * 1024)
/* Replies before the last one. */
#define MAX_REPLIES 1000
/* Zeroes after some replies, from the first days of the protocol. */
#define ZEROES 124

typedef struct Negotiation {
    NBDStream *s;
    const NBDWanted *wanted;
    NBDExportInfo *info;
    bool no_zeroes;
    uint8_t *reply;     /* MAX_REPLY + 1 bytes */
    uint32_t type, len; /* of the last reply */
} Negotiation;

/* --- bytes --- */

/* Why a read ended with @ret. */
static const char *reason(const NBDStream *s, int ret)
{
    const char *alert = s->tls ? crypto_tls_alert(s->tls) : NULL;

    return alert ?: ret == -ECONNRESET ? "the server has hung up"
                                       : strerror(-ret);
}

static bool coroutine_fn get(Negotiation *n, void *buf, size_t len,
                             const char *what, Error **errp)
{
    int ret = nbd_stream_read(n->s, buf, len);

    if (ret < 0) {
        error_setg(errp, "Failed to read %s: %s", what, reason(n->s, ret));
    }
    return ret >= 0;
}

static bool coroutine_fn put(Negotiation *n, const void *buf, size_t len,
                             const char *what, Error **errp)
{
    struct iovec iov = { (void *)buf, len };
    int ret = nbd_stream_write(n->s, &iov, 1);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to send %s", what);
    }
    return ret >= 0;
}

/* --- options --- */

static const char *option_name(uint32_t code)
{
    static const char *const names[] = {
        [NBD_OPT_EXPORT_NAME] = "export name",
        [NBD_OPT_ABORT] = "abort",
        [NBD_OPT_LIST] = "list",
        [NBD_OPT_STARTTLS] = "starttls",
        [NBD_OPT_INFO] = "info",
        [NBD_OPT_GO] = "go",
        [NBD_OPT_STRUCTURED_REPLY] = "structured reply",
        [NBD_OPT_LIST_META_CONTEXT] = "list meta context",
        [NBD_OPT_SET_META_CONTEXT] = "set meta context",
        [NBD_OPT_EXTENDED_HEADERS] = "extended headers",
    };

    return code < ARRAY_SIZE(names) && names[code] ? names[code] : "<unknown>";
}

static bool coroutine_fn send_option(Negotiation *n, uint32_t code,
                                     const GByteArray *data, Error **errp)
{
    uint32_t len = data ? data->len : 0;
    g_autofree uint8_t *buf = g_malloc(16 + len);

    stq_be_p(buf, NBD_OPTS_MAGIC);
    stl_be_p(buf + 8, code);
    stl_be_p(buf + 12, len);
    if (len) {
        memcpy(buf + 16, data->data, len);
    }
    return put(n, buf, 16 + len, "an option", errp);
}

/* One reply to option @code, into @n. */
static bool coroutine_fn get_reply(Negotiation *n, uint32_t code, Error **errp)
{
    uint8_t head[20];

    if (!get(n, head, sizeof(head), "option reply", errp)) {
        return false;
    }
    n->type = ldl_be_p(head + 12);
    n->len = ldl_be_p(head + 16);
    if (ldq_be_p(head) != NBD_REP_MAGIC) {
        error_setg(errp, "Unexpected option reply magic");
        return false;
    }
    if (ldl_be_p(head + 8) != code) {
        error_setg(errp, "Unexpected option type %" PRIu32 " (%s), expected %"
                   PRIu32 " (%s)", ldl_be_p(head + 8),
                   option_name(ldl_be_p(head + 8)), code, option_name(code));
        return false;
    }
    if (n->len > MAX_REPLY) {
        error_setg(errp, "Reply of %" PRIu32 " bytes to option %" PRIu32
                   " (%s) is too long", n->len, code, option_name(code));
        return false;
    }
    n->reply[n->len] = '\0';
    return get(n, n->reply, n->len, "option reply", errp);
}

/* The error that the last reply is. */
static void option_error(Negotiation *n, uint32_t code, Error **errp)
{
    const char *fmt = "Unknown error code when asking for option %" PRIu32
                      " (%s)";

    switch (n->type) {
    case NBD_REP_ERR_UNSUP:
        fmt = "Unsupported option %" PRIu32 " (%s)";
        break;
    case NBD_REP_ERR_POLICY:
        fmt = "Denied by server for option %" PRIu32 " (%s)";
        break;
    case NBD_REP_ERR_INVALID:
        fmt = "Invalid parameters for option %" PRIu32 " (%s)";
        break;
    case NBD_REP_ERR_PLATFORM:
        fmt = "Server lacks support for option %" PRIu32 " (%s)";
        break;
    case NBD_REP_ERR_TLS_REQD:
        fmt = "TLS negotiation required before option %" PRIu32
              " (%s)";
        break;
    case NBD_REP_ERR_UNKNOWN:
        fmt = "Requested export not available";
        break;
    case NBD_REP_ERR_SHUTDOWN:
        fmt = "Server shutting down before option %" PRIu32 " (%s)";
        break;
    case NBD_REP_ERR_BLOCK_SIZE_REQD:
        fmt = "Server requires INFO_BLOCK_SIZE for option %" PRIu32 " (%s)";
        break;
    }
    error_setg(errp, fmt, code, option_name(code));
    if (n->type == NBD_REP_ERR_TLS_REQD) {
        error_append_hint(errp, "Did you forget a valid tls-creds?\n");
    }
    if (n->len && g_utf8_validate((char *)n->reply, n->len, NULL)) {
        error_append_hint(errp, "server reported: %s\n", n->reply);
    }
}

/* A reply that is neither what was expected nor an error. */
static bool unexpected(Negotiation *n, uint32_t code, Error **errp)
{
    if (NBD_REP_IS_ERR(n->type)) {
        option_error(n, code, errp);
    } else {
        error_setg(errp, "Unexpected reply type %" PRIu32 " of %" PRIu32
                   " bytes to option %" PRIu32 " (%s)", n->type, n->len, code,
                   option_name(code));
    }
    return false;
}

/* Option without data that the server may not know: *@agreed. */
static bool coroutine_fn agree(Negotiation *n, uint32_t code, bool *agreed,
                               Error **errp)
{
    if (!send_option(n, code, NULL, errp) || !get_reply(n, code, errp)) {
        return false;
    }
    *agreed = n->type == NBD_REP_ACK && !n->len;
    /* Whatever else it says against it: go on without. */
    if (!*agreed && (!NBD_REP_IS_ERR(n->type) ||
                     n->type == NBD_REP_ERR_TLS_REQD)) {
        return unexpected(n, code, errp);
    }
    return true;
}

static void append_u16(GByteArray *data, uint16_t value)
{
    uint8_t p[2];

    stw_be_p(p, value);
    g_byte_array_append(data, p, sizeof(p));
}

static void append_u32(GByteArray *data, uint32_t value)
{
    uint8_t p[4];

    stl_be_p(p, value);
    g_byte_array_append(data, p, sizeof(p));
}

static void append_string(GByteArray *data, const char *text)
{
    append_u32(data, strlen(text));
    g_byte_array_append(data, (const uint8_t *)text, strlen(text));
}

/* Before anything else is said. */
static bool coroutine_fn start_tls(Negotiation *n, Error **errp)
{
    if (!send_option(n, NBD_OPT_STARTTLS, NULL, errp) ||
        !get_reply(n, NBD_OPT_STARTTLS, errp)) {
        return false;
    }
    if (n->type != NBD_REP_ACK || n->len) {
        return unexpected(n, NBD_OPT_STARTTLS, errp);
    }
    return nbd_stream_start_tls(n->s, n->wanted->creds, n->wanted->hostname,
                                errp);
}

static bool coroutine_fn choose_style(Negotiation *n, Error **errp)
{
    bool agreed;

    if (!agree(n, NBD_OPT_EXTENDED_HEADERS, &agreed, errp)) {
        return false;
    }
    if (agreed) {
        n->info->style = NBD_STYLE_EXTENDED;
        return true;
    }
    if (!agree(n, NBD_OPT_STRUCTURED_REPLY, &agreed, errp)) {
        return false;
    }
    if (agreed) {
        n->info->style = NBD_STYLE_STRUCTURED;
    }
    return true;
}

/* --- the metadata context --- */

static bool take_context(Negotiation *n, Error **errp)
{
    const char *name = n->wanted->context;

    if (n->len != 4 + strlen(name) || memcmp(n->reply + 4, name, n->len - 4)) {
        error_setg(errp, "The server offers another metadata context than "
                   "'%s'", name);
        return false;
    }
    if (n->info->has_context) {
        error_setg(errp, "The server offers metadata context '%s' twice", name);
        return false;
    }
    n->info->has_context = true;
    n->info->context_id = ldl_be_p(n->reply);
    return true;
}

static bool coroutine_fn choose_context(Negotiation *n, Error **errp)
{
    g_autoptr(GByteArray) data = g_byte_array_new();

    append_string(data, n->wanted->export);
    append_u32(data, 1);
    append_string(data, n->wanted->context);
    if (!send_option(n, NBD_OPT_SET_META_CONTEXT, data, errp)) {
        return false;
    }
    for (;;) {
        if (!get_reply(n, NBD_OPT_SET_META_CONTEXT, errp)) {
            return false;
        }
        if (n->type == NBD_REP_ACK) {
            return true;
        }
        if (n->type == NBD_REP_ERR_TLS_REQD) {
            return unexpected(n, NBD_OPT_SET_META_CONTEXT, errp);
        }
        if (NBD_REP_IS_ERR(n->type)) {
            n->info->has_context = false;
            return true;
        }
        if (n->type != NBD_REP_META_CONTEXT) {
            return unexpected(n, NBD_OPT_SET_META_CONTEXT, errp);
        }
        if (!take_context(n, errp)) {
            return false;
        }
    }
}

/* --- the export --- */

static bool take_size(NBDExportInfo *info, const uint8_t *p, Error **errp)
{
    info->size = ldq_be_p(p);
    info->flags = lduw_be_p(p + 8);
    if (info->size > BDRV_MAX_LENGTH) {
        error_setg(errp, "The export's size %" PRIu64 " is too large",
                   info->size);
        return false;
    }
    return true;
}

static bool take_block_sizes(NBDExportInfo *info, const uint8_t *p,
                             Error **errp)
{
    info->min_block = ldl_be_p(p);
    info->opt_block = ldl_be_p(p + 4);
    info->max_block = ldl_be_p(p + 8);
    if (!is_power_of_2(info->min_block) || info->min_block > 64 * 1024) {
        error_setg(errp, "server minimum block size %" PRIu32
                   " is not a power of two up to 64 KiB", info->min_block);
        return false;
    }
    if (!is_power_of_2(info->opt_block) ||
        info->opt_block < info->min_block) {
        error_setg(errp, "server preferred block size %" PRIu32
                   " is not valid", info->opt_block);
        return false;
    }
    if (info->max_block < info->min_block) {
        error_setg(errp, "server maximum block size %" PRIu32 " is not valid",
                   info->max_block);
        return false;
    }
    info->max_block -= info->max_block % info->min_block;
    return true;
}

static bool take_info(Negotiation *n, bool *has_size, Error **errp)
{
    unsigned what = n->len >= 2 ? lduw_be_p(n->reply) : UINT16_MAX;

    if (what == NBD_INFO_EXPORT && n->len == 12) {
        *has_size = true;
        return take_size(n->info, n->reply + 2, errp);
    }
    if (what == NBD_INFO_BLOCK_SIZE && n->len == 14) {
        return take_block_sizes(n->info, n->reply + 2, errp);
    }
    if (n->len < 2 || what == NBD_INFO_EXPORT || what == NBD_INFO_BLOCK_SIZE) {
        error_setg(errp, "Unexpected size %" PRIu32 " of information about "
                   "the export", n->len);
        return false;
    }
    return true;    /* something that was not asked for */
}

/* *@known false: the server does not know the option. */
static bool coroutine_fn go(Negotiation *n, bool *known, Error **errp)
{
    g_autoptr(GByteArray) data = g_byte_array_new();
    bool has_size = false;

    append_string(data, n->wanted->export);
    append_u16(data, 1);
    append_u16(data, NBD_INFO_BLOCK_SIZE);
    if (!send_option(n, NBD_OPT_GO, data, errp)) {
        return false;
    }
    for (unsigned i = 0; i < MAX_REPLIES; i++) {
        if (!get_reply(n, NBD_OPT_GO, errp)) {
            return false;
        }
        if (n->type == NBD_REP_ACK) {
            *known = true;
            if (!has_size) {
                error_setg(errp, "The server does not tell the export's size");
            }
            return has_size;
        }
        if (n->type == NBD_REP_ERR_UNSUP && !i) {
            *known = false;
            return true;
        }
        if (n->type != NBD_REP_INFO) {
            return unexpected(n, NBD_OPT_GO, errp);
        }
        if (!take_info(n, &has_size, errp)) {
            return false;
        }
    }
    error_setg(errp, "The server's replies do not end");
    return false;
}

/* The option of servers without NBD_OPT_GO: no reply, but what follows. */
static bool coroutine_fn go_by_name(Negotiation *n, Error **errp)
{
    g_autoptr(GByteArray) data = g_byte_array_new();
    uint8_t reply[10 + ZEROES];

    g_byte_array_append(data, (const uint8_t *)n->wanted->export,
                        strlen(n->wanted->export));
    return send_option(n, NBD_OPT_EXPORT_NAME, data, errp) &&
           get(n, reply, n->no_zeroes ? 10 : sizeof(reply), "export length",
               errp) &&
           take_size(n->info, reply, errp);
}

/* --- the whole --- */

static bool no_tls(Error **errp)
{
    error_setg(errp, "Server does not support STARTTLS");
    return false;
}

static bool coroutine_fn oldstyle(Negotiation *n, Error **errp)
{
    uint8_t rest[8 + 4 + ZEROES];

    if (n->wanted->creds) {
        return no_tls(errp);
    }
    if (n->wanted->export[0]) {
        error_setg(errp, "Server does not support non-empty export names");
        return false;
    }
    if (!get(n, rest, sizeof(rest), "export length", errp)) {
        return false;
    }
    if (ldl_be_p(rest + 8) > UINT16_MAX) {
        error_setg(errp, "Unexpected export flags %" PRIx32,
                   ldl_be_p(rest + 8));
        return false;
    }
    /* The flags have two bytes that are not used, in front. */
    memmove(rest + 8, rest + 10, 2);
    return take_size(n->info, rest, errp);
}

static bool coroutine_fn fixed_newstyle(Negotiation *n, Error **errp)
{
    bool known;

    if (n->wanted->creds && !start_tls(n, errp)) {
        return false;
    }
    if (!choose_style(n, errp) ||
        (n->info->style != NBD_STYLE_SIMPLE && !choose_context(n, errp)) ||
        !go(n, &known, errp)) {
        return false;
    }
    return known || go_by_name(n, errp);
}

static bool coroutine_fn newstyle(Negotiation *n, Error **errp)
{
    uint8_t flags[2], answer[4];
    uint16_t f;

    if (!get(n, flags, sizeof(flags), "server flags", errp)) {
        return false;
    }
    f = lduw_be_p(flags);
    n->no_zeroes = f & NBD_FLAG_NO_ZEROES;
    stl_be_p(answer, f & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES));
    if (!put(n, answer, sizeof(answer), "client flags", errp)) {
        return false;
    }
    if (f & NBD_FLAG_FIXED_NEWSTYLE) {
        return fixed_newstyle(n, errp);
    }
    return n->wanted->creds ? no_tls(errp) : go_by_name(n, errp);
}

static bool coroutine_fn greet(Negotiation *n, Error **errp)
{
    uint8_t magic[16];

    if (!get(n, magic, sizeof(magic), "initial magic", errp)) {
        return false;
    }
    if (ldq_be_p(magic) != NBD_INIT_MAGIC) {
        error_setg(errp, "Bad initial magic received: 0x%" PRIx64,
                   ldq_be_p(magic));
        return false;
    }
    switch (ldq_be_p(magic + 8)) {
    case NBD_OPTS_MAGIC:
        return newstyle(n, errp);
    case NBD_OLDSTYLE_MAGIC:
        return oldstyle(n, errp);
    default:
        error_setg(errp, "Bad server magic received: 0x%" PRIx64,
                   ldq_be_p(magic + 8));
        return false;
    }
}

/* What only makes sense together. */
static bool check_info(const NBDExportInfo *info, Error **errp)
{
    if (info->min_block && info->size % info->min_block) {
        error_setg(errp, "export length %" PRIu64 " is not a multiple of the "
                   "minimum block size %" PRIu32, info->size,
                   info->min_block);
        return false;
    }
    return true;
}

bool coroutine_fn nbd_negotiate(NBDStream *s, const NBDWanted *wanted,
                                NBDExportInfo *info, Error **errp)
{
    g_autofree uint8_t *reply = g_malloc(MAX_REPLY + 1);
    Negotiation n = {
        .s = s, .wanted = wanted, .info = info, .reply = reply,
    };

    *info = (NBDExportInfo) {};
    if (!greet(&n, errp) || !check_info(info, errp)) {
        return false;
    }
    if (!(info->flags & NBD_FLAG_HAS_FLAGS)) {
        info->flags = 0;
    }
    return true;
}
