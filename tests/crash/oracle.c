/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include <glib/gstdio.h>
#include <sys/wait.h>
#include "oracle.h"

#define LEAKS_ONLY 3

char *oracle_find(void)
{
    const char *name = getenv("REF_QEMU_IMG");

    name = name && *name ? name : "/usr/bin/qemu-img";
    return g_file_test(name, G_FILE_TEST_IS_EXECUTABLE) ? g_strdup(name) : NULL;
}

char *oracle_check(const char *program, const uint8_t *data, int64_t size)
{
    g_autofree char *path = NULL;
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    int fd = g_file_open_tmp("crash-XXXXXX", &path, NULL);
    g_autofree char *json = NULL;
    const char *argv[] = { program, "check", NULL, NULL };
    int status = -1;

    g_assert(fd >= 0);
    close(fd);
    /* The backing file that the header names, if any, is not there. */
    json = g_strdup_printf("json:{'driver': 'qcow2', 'backing': null, 'file': "
                           "{'driver': 'file', 'filename': '%s'}}", path);
    argv[2] = json;
    g_assert(g_file_set_contents(path, (const char *)data, size, NULL));
    g_assert(g_spawn_sync(NULL, (char **)argv, NULL, 0, NULL, NULL, &out, &err,
                          &status, NULL));
    g_unlink(path);
    if (WIFEXITED(status) &&
        (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == LEAKS_ONLY)) {
        return NULL;
    }
    return g_strdup_printf("%s check disagrees:\n%s%s", program, err, out);
}
