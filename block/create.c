/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making images: what is common to all formats.
 *
 * Options travel as a flat dictionary of strings. The format takes those that
 * its member table names and leaves the rest to the protocol; each visits its
 * part strictly, so that nothing is ignored.
 */
#include "util/osdep.h"
#include "util/cutils.h"
#include "block/block_int.h"
#include "block/create.h"
#include "qobject/keyval.h"
#include "qobject/qstring.h"
#include "qapi/util.h"

/* --- bdrv_create ------------------------------------------------------ */

static BlockDriver *find_creator(const char *filename, Error **errp)
{
    BlockDriver *drv = bdrv_find_protocol(filename, true, errp);

    if (drv && !drv->bdrv_create) {
        error_setg(errp, "Protocol driver '%s' does not support image "
                   "creation", drv->format_name);
        return NULL;
    }
    return drv;
}

/* The path if @filename is a plain file by name, else NULL. */
static const char *plain_path(const char *filename)
{
    BlockDriver *drv = bdrv_find_protocol(filename, true, NULL);

    if (!drv || strcmp(drv->format_name, "file")) {
        return NULL;
    }
    return g_str_has_prefix(filename, "file:") ? filename + strlen("file:")
                                               : filename;
}

/*
 * The new files (char *) of the bdrv_create() that is running: what was there
 * before is never removed. Main thread.
 */
static GPtrArray *new_files;

int bdrv_create_file(const char *filename, QDict *options, Error **errp)
{
    BlockDriver *drv = find_creator(filename, errp);
    const char *path = plain_path(filename);
    struct stat st;
    bool is_new;
    int ret;

    if (!drv) {
        return -ENOTSUP;
    }
    /* A link that leads nowhere is there too. */
    is_new = path && lstat(path, &st) < 0 && errno == ENOENT;
    ret = drv->bdrv_create(filename, options, errp);
    if (ret == 0 && is_new && new_files) {
        g_ptr_array_add(new_files, g_strdup(path));
    }
    return ret;
}

int bdrv_create(BlockDriver *drv, const char *filename, QDict *options,
                Error **errp)
{
    int ret;

    if (!drv->bdrv_create) {
        error_setg(errp, "Format driver '%s' does not support image creation",
                   drv->format_name);
        return -ENOTSUP;
    }
    new_files = g_ptr_array_new_with_free_func(g_free);
    ret = drv->bdrv_create(filename, options, errp);
    for (guint i = 0; ret < 0 && i < new_files->len; i++) {
        (void)unlink(new_files->pdata[i]);
    }
    g_clear_pointer(&new_files, g_ptr_array_unref);
    return ret;
}

/* --- options ---------------------------------------------------------- */

/* Tables that apply to @drv on @filename's protocol, NULL-terminated. */
typedef struct OptionTables {
    const QapiMemberInfo *tables[3];
} OptionTables;

static const QapiMemberInfo *find_option(const OptionTables *t,
                                         const char *name)
{
    const QapiMemberInfo *m = NULL;
    int i;

    for (i = 0; t->tables[i] && !m; i++) {
        m = qapi_member_find(t->tables[i], name);
    }
    return m;
}

static bool init_tables(OptionTables *t, BlockDriver *drv,
                        const char *filename, Error **errp)
{
    BlockDriver *proto = NULL;
    int n = 0;

    if (!drv->bdrv_create || !drv->create_options) {
        error_setg(errp, "Format driver '%s' does not support image creation",
                   drv->format_name);
        return false;
    }
    if (filename) {
        proto = find_creator(filename, errp);
        if (!proto) {
            return false;
        }
    }
    memset(t, 0, sizeof(*t));
    t->tables[n++] = drv->create_options;
    if (proto && proto != drv && proto->create_options) {
        t->tables[n++] = proto->create_options;
    }
    return true;
}

/*
 * The value of option @m as "Formatting" shows it: numbers in plain decimal.
 * NULL if it is not of its kind; names and ranges are the driver's to judge.
 */
static char *printable_value(const QapiMemberInfo *m, const char *value,
                             Error **errp)
{
    uint64_t size;
    int64_t number;
    bool flag;

    switch (m->kind) {
    case QAPI_KIND_SIZE:
        if (qemu_strtosz(value, NULL, &size) < 0) {
            ERRP_GUARD();
            error_setg(errp, "Parameter '%s' expects a non-negative number "
                       "below 2^64", m->name);
            error_append_hint(errp, "Optional suffix k, M, G, T, P or E means "
                              "kilo-, mega-, giga-, tera-, peta-\n"
                              "and exabytes, respectively.\n");
            return NULL;
        }
        return g_strdup_printf("%" PRIu64, size);
    case QAPI_KIND_INT:
        if (qemu_strtoi64(value, NULL, 0, &number) < 0) {
            error_setg(errp, "Parameter '%s' expects a number", m->name);
            return NULL;
        }
        return g_strdup_printf("%" PRId64, number);
    case QAPI_KIND_BOOL:
        if (!qapi_bool_parse(m->name, value, &flag, errp)) {
            return NULL;
        }
        return g_strdup(value);
    default:
        return g_strdup(value);
    }
}

/* "NAME=VALUE" of the driver's defaults for @name, the value; else NULL. */
static const char *default_value(const BlockDriver *drv, const char *name)
{
    const char *const *d = drv->create_defaults;
    size_t len = strlen(name);

    for (; d && *d; d++) {
        if (!strncmp(*d, name, len) && (*d)[len] == '=') {
            return *d + len + 1;
        }
    }
    return NULL;
}

static bool check_options(const OptionTables *t, QDict *options, Error **errp)
{
    const QDictEntry *e;

    for (e = qdict_first(options); e; e = qdict_next(options, e)) {
        const char *name = qdict_entry_key(e);
        const QapiMemberInfo *m = find_option(t, name);
        g_autofree char *value = NULL;

        if (!m) {
            error_setg(errp, "Invalid parameter '%s'", name);
            return false;
        }
        value = printable_value(m, qdict_get_str(options, name), errp);
        if (!value) {
            return false;
        }
    }
    return true;
}

static void append_option(GString *line, const char *name, const char *value)
{
    g_autofree char **parts = g_strsplit(value, ",", -1);
    g_autofree char *escaped = g_strjoinv(",,", parts);
    char **p;

    g_string_append_printf(line, " %s=%s", name, escaped);
    for (p = parts; *p; p++) {
        g_free(*p);
    }
}

/* "Formatting 'F', fmt=X NAME=VALUE ...": in the order of the tables. */
static void print_formatting(const OptionTables *t, const BlockDriver *drv,
                             const char *filename, QDict *options)
{
    g_autoptr(GString) line = g_string_new(NULL);
    const QapiMemberInfo *m;
    int i;

    g_string_printf(line, "Formatting '%s', fmt=%s", filename,
                    drv->format_name);
    for (i = 0; t->tables[i]; i++) {
        for (m = t->tables[i]; m->name; m++) {
            const char *set = qdict_get_try_str(options, m->name);
            const char *value = set ?: default_value(drv, m->name);
            g_autofree char *text = NULL;

            if (!value || find_option(t, m->name) != m) {
                continue;       /* or shown for the format already */
            }
            text = printable_value(m, value, &error_abort);
            append_option(line, m->name, text);
        }
    }
    printf("%s\n", line->str);
    fflush(stdout);
}

void bdrv_print_create_options(BlockDriver *drv, const char *filename)
{
    g_autoptr(GString) text = g_string_new(NULL);
    OptionTables t;
    Error *err = NULL;

    if (!init_tables(&t, drv, filename, &err)) {
        error_report_err(err);
        return;
    }
    qapi_members_help(t.tables, text);
    if (filename) {
        printf("Supported options:\n%s", text->str);
    } else {
        printf("Supported %s options:\n%s"
               "\nThe protocol level may support further options.\n"
               "Specify the target filename to include those options.\n",
               drv->format_name, text->str);
    }
}

/* --- bdrv_img_create -------------------------------------------------- */

/* The backing options of the command line go into @options. */
static bool merge_backing(const OptionTables *t, BlockDriver *drv,
                          const char *filename, const char *base_filename,
                          const char *base_fmt, QDict *options, Error **errp)
{
    const char *backing;

    if (base_filename) {
        if (!qapi_member_find(t->tables[0], "backing_file")) {
            error_setg(errp, "Backing file not supported for file format '%s'",
                       drv->format_name);
            return false;
        }
        qdict_put_str(options, "backing_file", base_filename);
    }
    if (base_fmt) {
        if (!qapi_member_find(t->tables[0], "backing_fmt")) {
            error_setg(errp, "Backing format not supported for file format "
                       "'%s'", drv->format_name);
            return false;
        }
        qdict_put_str(options, "backing_fmt", base_fmt);
    }
    backing = qdict_get_try_str(options, "backing_file");
    if (backing && !*backing) {
        error_setg(errp, "Expected backing file name, got empty string");
        return false;
    }
    if (backing && !strcmp(backing, filename)) {
        error_setg(errp, "Error: Trying to create an image with the same "
                   "filename as the backing file");
        return false;
    }
    return true;
}

/*
 * Opens the backing file for a moment: it must exist, and tells the size if
 * @size is negative. Other programs may use it as they like meanwhile.
 */
static bool look_at_backing(const char *filename, const char *backing,
                            const char *backing_fmt, int64_t *size,
                            Error **errp)
{
    ERRP_GUARD();
    g_autofree char *full = NULL;
    g_autoptr(BlockDriverState) bs = NULL;
    QDict *options;

    full = bdrv_get_full_backing_filename_from_filename(filename, backing,
                                                        errp);
    if (!full) {
        return false;
    }
    options = qdict_new();
    if (backing_fmt) {
        qdict_put_str(options, "driver", backing_fmt);
    }
    qdict_put_bool(options, "force-share", true);
    bs = bdrv_open(full, NULL, options, 0, errp);
    if (!bs) {
        error_append_hint(errp, "Could not open backing image.\n");
        return false;
    }
    if (!backing_fmt) {
        error_setg(errp, "Backing file specified without backing format");
        error_append_hint(errp, "Detected format of %s.\n",
                          bs->drv->format_name);
        return false;
    }
    if (*size < 0) {
        *size = bdrv_getlength(bs);
        if (*size < 0) {
            error_setg_errno(errp, -*size, "Could not get size of '%s'", full);
            return false;
        }
        *size = ROUND_UP(*size, BDRV_SECTOR_SIZE);
    }
    return true;
}

/* Where the size comes from: SIZE, -o size, the backing file. */
static bool settle_size(const char *filename, QDict *options,
                        int64_t img_size, int flags, Error **errp)
{
    const char *backing = qdict_get_try_str(options, "backing_file");
    const char *backing_fmt = qdict_get_try_str(options, "backing_fmt");
    const char *given = qdict_get_try_str(options, "size");
    g_autofree char *text = NULL;
    int64_t size = img_size;

    if (given && img_size >= 0) {
        error_setg(errp, "The image size must be specified only once");
        return false;
    }
    if (backing && !(flags & BDRV_O_NO_BACKING)) {
        int64_t backing_size = given ? 0 : img_size;

        if (!look_at_backing(filename, backing, backing_fmt, &backing_size,
                             errp)) {
            return false;
        }
        size = given ? -1 : backing_size;
    } else if (backing && !backing_fmt) {
        error_setg(errp, "Backing file specified without backing format");
        return false;
    }
    if (given) {
        return true;
    }
    if (size < 0) {
        error_setg(errp, "Image creation needs a size parameter");
        return false;
    }
    text = g_strdup_printf("%" PRId64, size);
    qdict_put_str(options, "size", text);
    return true;
}

static int img_create(BlockDriver *drv, const OptionTables *t,
                      const char *filename, QDict *options, bool quiet,
                      Error **errp)
{
    Error *local_err = NULL;
    int ret;

    if (!quiet) {
        print_formatting(t, drv, filename, options);
    }
    ret = bdrv_create(drv, filename, options, &local_err);
    if (ret == -EFBIG) {
        /* A better message than what the format knows. */
        error_free(local_err);
        error_setg(errp, "The image size is too large for file format '%s'%s",
                   drv->format_name,
                   qapi_member_find(t->tables[0], "cluster_size")
                       ? " (try using a larger cluster size)" : "");
        return ret;
    }
    error_propagate(errp, local_err);
    return ret;
}

int bdrv_img_create(const char *filename, const char *fmt,
                    const char *base_filename, const char *base_fmt,
                    const char *options, int64_t img_size, int flags,
                    bool quiet, Error **errp)
{
    BlockDriver *drv = bdrv_find_format(fmt);
    g_autoptr(QDict) dict = NULL;
    OptionTables t;

    if (!drv) {
        error_setg(errp, "Unknown file format '%s'", fmt);
        return -EINVAL;
    }
    dict = options ? keyval_parse_opts(options, NULL, NULL) : qdict_new();
    if (!init_tables(&t, drv, filename, errp) ||
        !check_options(&t, dict, errp) ||
        !merge_backing(&t, drv, filename, base_filename, base_fmt, dict,
                       errp) ||
        !settle_size(filename, dict, img_size, flags, errp)) {
        return -EINVAL;
    }
    return img_create(drv, &t, filename, dict, quiet, errp);
}
