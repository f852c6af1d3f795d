/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configuration files of blkdebug: sections [inject-error] and [set-state], one
 * rule each, with lines
 *     KEY = "VALUE"
 * for the members of the option of that name. Lines that start with '#' and
 * empty lines do not count.
 */
#include "util/osdep.h"
#include "block/filters/blkdebug.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"

/* No sensible file is longer. */
#define CONFIG_MAX (1 * 1024 * 1024)

typedef struct ConfigReader {
    BlkdebugRules *rules;
    const char *path;
    char *section;              /* NULL before the first one */
    unsigned section_line;
    QDict *dict;                /* members of the section so far */
} ConfigReader;

static bool add_inject_error(ConfigReader *c, Visitor *v, Error **errp)
{
    g_autoptr(BlkdebugInjectErrorOptions) o = NULL;

    return visit_type_BlkdebugInjectErrorOptions(v, NULL, &o, errp) &&
           blkdebug_add_inject_error(c->rules, o, errp);
}

static bool add_set_state(ConfigReader *c, Visitor *v, Error **errp)
{
    g_autoptr(BlkdebugSetStateOptions) o = NULL;

    return visit_type_BlkdebugSetStateOptions(v, NULL, &o, errp) &&
           blkdebug_add_set_state(c->rules, o, errp);
}

/* Makes a rule of the section that ends here. */
static bool finish_section(ConfigReader *c, Error **errp)
{
    ERRP_GUARD();
    Visitor *v;
    bool ok;

    if (!c->section) {
        return true;
    }
    v = qobject_input_visitor_new_keyval(QOBJECT(c->dict));
    if (!strcmp(c->section, "inject-error")) {
        ok = add_inject_error(c, v, errp);
    } else {
        ok = add_set_state(c, v, errp);
    }
    visit_free(v);
    if (!ok) {
        error_prepend(errp, "%s:%u: ", c->path, c->section_line);
    }
    qobject_unref(c->dict);
    c->dict = NULL;
    g_clear_pointer(&c->section, g_free);
    return ok;
}

static bool read_section(ConfigReader *c, const char *line, unsigned nr,
                         Error **errp)
{
    size_t len = strlen(line);

    if (line[len - 1] != ']') {
        error_setg(errp, "%s:%u: parse error", c->path, nr);
        return false;
    }
    if (!finish_section(c, errp)) {
        return false;
    }
    c->section = g_strndup(line + 1, len - 2);
    c->section_line = nr;
    c->dict = qdict_new();
    if (strcmp(c->section, "inject-error") &&
        strcmp(c->section, "set-state")) {
        error_setg(errp, "%s:%u: There is no option group '%s'", c->path, nr,
                   c->section);
        return false;
    }
    return true;
}

/* KEY = "VALUE"; false if it is not. Both are stripped in place. */
static bool split_member(char *line, char **key, char **value)
{
    char *eq = strchr(line, '=');
    size_t len;

    if (!eq) {
        return false;
    }
    *eq = '\0';
    *key = g_strstrip(line);
    *value = g_strstrip(eq + 1);
    len = strlen(*value);
    if (!(*key)[0] || len < 2 || (*value)[0] != '"' ||
        strchr(*value + 1, '"') != *value + len - 1) {
        return false;
    }
    (*value)[len - 1] = '\0';
    (*value)++;
    return true;
}

static bool read_line(ConfigReader *c, char *line, unsigned nr, Error **errp)
{
    char *key, *value;

    line = g_strstrip(line);
    if (!line[0] || line[0] == '#') {
        return true;
    }
    if (line[0] == '[') {
        return read_section(c, line, nr, errp);
    }
    if (!c->section) {
        error_setg(errp, "%s:%u: no group defined", c->path, nr);
        return false;
    }
    if (!split_member(line, &key, &value)) {
        error_setg(errp, "%s:%u: parse error", c->path, nr);
        return false;
    }
    if (qdict_haskey(c->dict, key)) {
        error_setg(errp, "%s:%u: duplicate '%s'", c->path, nr, key);
        return false;
    }
    qdict_put_str(c->dict, key, value);
    return true;
}

/* The text of the file, or NULL. */
static char *read_text(const char *path, Error **errp)
{
    FILE *f = fopen(path, "re");
    char *text;
    size_t len;

    if (!f) {
        error_setg_errno(errp, errno, "Could not read blkdebug config file");
        return NULL;
    }
    text = g_malloc(CONFIG_MAX + 1);
    errno = 0;
    len = fread(text, 1, CONFIG_MAX + 1, f);
    if (ferror(f)) {
        error_setg_errno(errp, errno, "Could not read blkdebug config file");
    } else if (len > CONFIG_MAX) {
        error_setg(errp, "The blkdebug config file '%s' is too large", path);
    } else {
        fclose(f);
        text[len] = '\0';
        return text;
    }
    fclose(f);
    g_free(text);
    return NULL;
}

bool blkdebug_read_config(BlkdebugRules *r, const char *path, Error **errp)
{
    ConfigReader c = { .rules = r, .path = path };
    g_autofree char *text = read_text(path, errp);
    g_auto(GStrv) lines = NULL;
    bool ok = true;

    if (!text) {
        return false;
    }
    lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; ok && lines[i]; i++) {
        ok = read_line(&c, lines[i], i + 1, errp);
    }
    ok = ok && finish_section(&c, errp);
    qobject_unref(c.dict);
    g_free(c.section);
    return ok;
}
