/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors that clients pass along with commands, and what getfd calls them. */
#include "util/osdep.h"
#include "monitor-int.h"

static void close_element(void *element)
{
    if (*(int *)element >= 0) {
        close(*(int *)element);
    }
}

void monitor_fds_add(GArray **fds, const int *more, size_t n)
{
    if (!*fds) {
        *fds = g_array_new(FALSE, FALSE, sizeof(int));
        g_array_set_clear_func(*fds, close_element);
    }
    for (size_t i = 0; i < n; i++) {
        if ((*fds)->len < CHARDEV_MAX_FDS) {
            g_array_append_val(*fds, more[i]);
        } else {
            close(more[i]);
        }
    }
}

int monitor_fds_take(GArray *fds)
{
    int fd = -1;

    if (fds && fds->len) {
        fd = g_array_index(fds, int, 0);
        /* Is not closed as the others are. */
        g_array_index(fds, int, 0) = -1;
        g_array_set_size(fds, 0);
    }
    return fd;
}

void monitor_fds_free(GArray *fds)
{
    if (fds) {
        g_array_unref(fds);
    }
}

/* --- names --- */

static void close_named(void *value)
{
    close(GPOINTER_TO_INT(value));
}

void monitor_name_fd(Monitor *mon, const char *name, int fd)
{
    if (!mon->named_fds) {
        mon->named_fds = g_hash_table_new_full(g_str_hash, g_str_equal,
                                               g_free, close_named);
    }
    g_hash_table_replace(mon->named_fds, g_strdup(name), GINT_TO_POINTER(fd));
}

bool monitor_close_named_fd(Monitor *mon, const char *name)
{
    return mon->named_fds && g_hash_table_remove(mon->named_fds, name);
}

int monitor_named_fd(const char *name, bool take, Error **errp)
{
    Monitor *mon = monitor_cur();
    void *key, *value;

    if (!mon || !mon->named_fds ||
        !g_hash_table_lookup_extended(mon->named_fds, name, &key, &value)) {
        error_setg(errp, "File descriptor named '%s' has not been found",
                   name);
        return -1;
    }
    if (take) {
        g_hash_table_steal(mon->named_fds, name);
        g_free(key);
    }
    return GPOINTER_TO_INT(value);
}
