/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of NBD exports: URIs, the older nbd:..., the older options host, port and
 * path, and the name that a user is shown.
 */
#include "util/osdep.h"
#include "block/net/nbd-client.h"
#include "util/cutils.h"

#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)
#define DEFAULT_PORT STRINGIFY(NBD_DEFAULT_PORT)

#define EXPORT_NAME ":exportname="

/* --- addresses as options --- */

static void put_unix(QDict *options, const char *path)
{
    QDict *server = qdict_new();

    qdict_put_str(server, "type", "unix");
    qdict_put_str(server, "path", path);
    qdict_put(options, "server", server);
}

static void put_inet(QDict *options, const char *host, const char *port)
{
    QDict *server = qdict_new();

    qdict_put_str(server, "type", "inet");
    qdict_put_str(server, "host", host);
    qdict_put_str(server, "port", port);
    qdict_put(options, "server", server);
}

/* --- URIs --- */

/* Of "socket=PATH", and nothing else; caller frees. */
static char *socket_of_query(const char *query)
{
    const char *path;

    if (!query || !strstart(query, "socket=", &path) || strpbrk(path, "&;")) {
        return NULL;
    }
    return g_uri_unescape_string(path, NULL);
}

static bool parse_unix_uri(GUri *uri, QDict *options)
{
    const char *host = g_uri_get_host(uri);
    g_autofree char *path = socket_of_query(g_uri_get_query(uri));

    if ((host && *host) || g_uri_get_port(uri) != -1 || !path || !*path) {
        return false;
    }
    put_unix(options, path);
    return true;
}

static bool parse_tcp_uri(GUri *uri, QDict *options)
{
    const char *host = g_uri_get_host(uri);
    int port = g_uri_get_port(uri);
    g_autofree char *text = NULL;

    if (!host || !*host || g_uri_get_query(uri)) {
        return false;
    }
    text = g_strdup_printf("%d", port > 0 ? port : NBD_DEFAULT_PORT);
    put_inet(options, host, text);
    return true;
}

static bool parse_uri(const char *filename, QDict *options)
{
    /* The query is decoded here: '&' in a path is not one between parts. */
    g_autoptr(GUri) uri = g_uri_parse(filename, G_URI_FLAGS_ENCODED_QUERY,
                                      NULL);
    const char *path;
    bool ok;

    if (!uri) {
        return false;
    }
    if (!strcmp(g_uri_get_scheme(uri), "nbd+unix")) {
        ok = parse_unix_uri(uri, options);
    } else {
        ok = parse_tcp_uri(uri, options);
    }
    path = g_uri_get_path(uri);
    path += *path == '/';
    if (ok && *path) {
        qdict_put_str(options, "export", path);
    }
    return ok;
}

/* --- nbd:... --- */

/* HOST:PORT, where an IPv6 address is in brackets. */
static bool parse_host_port(char *text, QDict *options)
{
    char *colon = strrchr(text, ':');
    size_t len;

    if (!colon || !colon[1]) {
        return false;
    }
    *colon = '\0';
    len = strlen(text);
    if (text[0] == '[' && text[len - 1] == ']') {
        text[len - 1] = '\0';
        text++;
    } else if (strchr(text, ':')) {
        return false;
    }
    put_inet(options, text, colon + 1);
    return true;
}

static bool parse_old(const char *filename, QDict *options, Error **errp)
{
    g_autofree char *name = g_strdup(filename);
    char *export = strstr(name, EXPORT_NAME);
    const char *rest, *path;

    if (export) {
        *export = '\0';
        export += strlen(EXPORT_NAME);
        if (!*export) {
            error_setg(errp, "NBD server address missing");
            return false;
        }
        qdict_put_str(options, "export", export);
    }
    if (!strstart(name, "nbd:", &rest)) {
        error_setg(errp, "File name string for new protocols must start with "
                   "'nbd:'");
        return false;
    }
    if (!*rest) {
        error_setg(errp, "NBD server address missing");
        return false;
    }
    if (strstart(rest, "unix:", &path)) {
        put_unix(options, path);
    } else if (!parse_host_port((char *)rest, options)) {
        error_setg(errp, "error parsing address '%s'", filename + 4);
        return false;
    }
    return true;
}

bool nbd_parse_filename(const char *filename, QDict *options, Error **errp)
{
    if (qdict_haskey(options, "host") || qdict_haskey(options, "port") ||
        qdict_haskey(options, "path") || qdict_haskey(options, "server")) {
        error_setg(errp, "host/port/path and file names may not be specified "
                   "at the same time");
        return false;
    }
    if (!strstr(filename, "://")) {
        return parse_old(filename, options, errp);
    }
    if (!parse_uri(filename, options)) {
        error_setg(errp, "No valid URL specified");
        return false;
    }
    return true;
}

/* --- older options --- */

static bool has_any(QDict *options, bool *path, bool *inet, Error **errp)
{
    bool host = qdict_haskey(options, "host");

    *path = qdict_haskey(options, "path");
    *inet = host || qdict_haskey(options, "port");
    if (*path && *inet) {
        error_setg(errp, "path and host may not be used at the same time");
        return false;
    }
    if (*inet && !host) {
        error_setg(errp, "port may not be used without host");
        return false;
    }
    if ((*path || *inet) && qdict_haskey(options, "server")) {
        error_setg(errp, "'server' and path/host/port may not be used at the "
                   "same time");
        return false;
    }
    return true;
}

bool nbd_translate_options(QDict *options, Error **errp)
{
    bool path, inet;

    if (!has_any(options, &path, &inet, errp)) {
        return false;
    }
    if (path && qdict_get_try_str(options, "path")) {
        put_unix(options, qdict_get_try_str(options, "path"));
        qdict_del(options, "path");
    } else if (inet && qdict_get_try_str(options, "host")) {
        const char *port = qdict_get_try_str(options, "port");

        put_inet(options, qdict_get_try_str(options, "host"),
                 port ?: DEFAULT_PORT);
        qdict_del(options, "host");
        qdict_del(options, "port");
    }
    if (!qdict_haskey(options, "server")) {
        error_setg(errp, "NBD server address missing");
        return false;
    }
    return true;
}

/* --- what is shown --- */

static char *escape(const char *text)
{
    return g_uri_escape_string(text, "/:", true);
}

static char *uri_of(const BlockdevOptionsNbd *o)
{
    const SocketAddress *addr = o->server;
    g_autofree char *export = o->export && *o->export ? escape(o->export)
                                                      : NULL;
    const char *slash = export ? "/" : "";

    if (addr->type == SOCKET_ADDRESS_TYPE_UNIX &&
        !(addr->u.q_unix.has_abstract && addr->u.q_unix.abstract)) {
        g_autofree char *path = escape(addr->u.q_unix.path);

        return g_strdup_printf("nbd+unix://%s%s?socket=%s", slash,
                               export ?: "", path);
    }
    if (addr->type == SOCKET_ADDRESS_TYPE_INET) {
        bool v6 = strchr(addr->u.inet.host, ':');

        return g_strdup_printf("nbd://%s%s%s:%s%s%s", v6 ? "[" : "",
                               addr->u.inet.host, v6 ? "]" : "",
                               addr->u.inet.port, slash, export ?: "");
    }
    return NULL;
}

void nbd_refresh_filename(BlockDriverState *bs)
{
    const BlockdevOptionsNbd *o = &bs->options->u.nbd;
    g_autofree char *uri = NULL;

    /* No URI says these. */
    if (o->tls_creds || o->tls_hostname || o->x_dirty_bitmap) {
        return;
    }
    uri = uri_of(o);
    if (uri && strlen(uri) < sizeof(bs->exact_filename)) {
        pstrcpy(bs->exact_filename, sizeof(bs->exact_filename), uri);
    }
}
