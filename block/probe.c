/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding a driver: by format name, by file name, by the first bytes.
 */
#include "util/osdep.h"
#include <sys/stat.h>
#include "block/block_int.h"
#include "util/cutils.h"

BlockDriver *bdrv_find_format(const char *format_name)
{
    for (BlockDriver *const *d = bdrv_drivers; *d; d++) {
        if (!strcmp((*d)->format_name, format_name)) {
            return *d;
        }
    }
    return NULL;
}

static bool has_protocol_name(const BlockDriver *drv, const char *name)
{
    return drv->protocol_name &&
           (!strcmp(drv->protocol_name, name) ||
            (drv->protocol_aliases &&
             g_strv_contains(drv->protocol_aliases, name)));
}

static BlockDriver *find_by_protocol_name(const char *name)
{
    for (BlockDriver *const *d = bdrv_drivers; *d; d++) {
        if (has_protocol_name(*d, name)) {
            return *d;
        }
    }
    return NULL;
}

static BlockDriver *find_for_device(const char *filename)
{
    BlockDriver *best = NULL;
    int best_score = 0;

    for (BlockDriver *const *d = bdrv_drivers; *d; d++) {
        int score = (*d)->bdrv_probe_device
                        ? (*d)->bdrv_probe_device(filename) : 0;

        if (score > best_score) {
            best_score = score;
            best = *d;
        }
    }
    return best;
}

BlockDriver *bdrv_find_protocol(const char *filename,
                                bool allow_protocol_prefix, Error **errp)
{
    BlockDriver *drv = find_for_device(filename);
    g_autofree char *name = NULL;

    if (drv) {
        return drv;
    }
    if (!allow_protocol_prefix || !path_has_protocol(filename)) {
        return bdrv_find_format("file");
    }
    name = g_strndup(filename, strcspn(filename, ":"));
    drv = find_by_protocol_name(name);
    if (!drv) {
        error_setg(errp, "Unknown protocol '%s'", name);
    }
    return drv;
}

BlockDriver *bdrv_probe_all(const uint8_t *buf, int buf_size,
                            const char *filename)
{
    BlockDriver *best = NULL;
    int best_score = 0;

    for (BlockDriver *const *d = bdrv_drivers; *d; d++) {
        int score = (*d)->bdrv_probe
                        ? (*d)->bdrv_probe(buf, buf_size, filename) : 0;

        if (score > best_score) {
            best_score = score;
            best = *d;
        }
    }
    return best;
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void bdrv_iterate_format(void (*it)(void *opaque, const char *name),
                         void *opaque, bool writable_only)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (BlockDriver *const *d = bdrv_drivers; *d; d++) {
        if (!writable_only || (*d)->bdrv_co_pwritev) {
            g_ptr_array_add(names, (gpointer)(*d)->format_name);
        }
    }
    g_ptr_array_sort(names, compare_names);
    for (guint i = 0; i < names->len; i++) {
        it(opaque, names->pdata[i]);
    }
}
