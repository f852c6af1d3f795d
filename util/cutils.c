/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text and numbers: strings, file names, sizes for people, dumps. */
#include "util/osdep.h"
#include "util/cutils.h"

void pstrcpy(char *buf, int buf_size, const char *str)
{
    size_t len;

    if (buf_size <= 0) {
        return;
    }
    len = strnlen(str, buf_size - 1);
    memcpy(buf, str, len);
    buf[len] = '\0';
}

char *pstrcat(char *buf, int buf_size, const char *str)
{
    int len = strnlen(buf, buf_size);

    pstrcpy(buf + len, buf_size - len, str);
    return buf;
}

int strstart(const char *str, const char *val, const char **ptr)
{
    size_t len = strlen(val);

    if (strncmp(str, val, len)) {
        return 0;
    }
    if (ptr) {
        *ptr = str + len;
    }
    return 1;
}

int stristart(const char *str, const char *val, const char **ptr)
{
    size_t len = strlen(val);

    if (g_ascii_strncasecmp(str, val, len)) {
        return 0;
    }
    if (ptr) {
        *ptr = str + len;
    }
    return 1;
}

/*
 * Pick the unit so that fewer than 1000 of it remain: three digits then always
 * suffice, which 1000 to 1023 would not.
 */
char *size_to_str(uint64_t val)
{
    static const char *const units[] = {
        "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    };
    unsigned int i = 0;

    while (i < ARRAY_SIZE(units) - 1 && val >= 1000ULL << (10 * i)) {
        i++;
    }
    return g_strdup_printf("%0.3g %sB", (double)val / (1ULL << (10 * i)),
                           units[i]);
}

char *freq_to_str(uint64_t freq_hz)
{
    static const char *const units[] = { "", "K", "M", "G", "T", "P", "E" };
    double freq = freq_hz;
    unsigned int i = 0;

    while (i < ARRAY_SIZE(units) - 1 && freq >= 1000.0) {
        freq /= 1000.0;
        i++;
    }
    return g_strdup_printf("%0.3g %sHz", freq, units[i]);
}

int path_has_protocol(const char *path)
{
    return path[strcspn(path, ":/")] == ':';
}

static const char *strip_protocol(const char *path)
{
    return path_has_protocol(path) ? strchr(path, ':') + 1 : path;
}

int path_is_absolute(const char *path)
{
    return *strip_protocol(path) == '/';
}

char *path_combine(const char *base_path, const char *filename)
{
    const char *path = strip_protocol(base_path);
    const char *slash = strrchr(path, '/');
    size_t dir_len = (slash ? slash + 1 : path) - base_path;

    if (path_is_absolute(filename) || path_has_protocol(filename)) {
        return g_strdup(filename);
    }
    return g_strdup_printf("%.*s%s", (int)dir_len, base_path, filename);
}

void qemu_hexdump(FILE *fp, uint64_t offset, const void *buf, size_t len)
{
    const unsigned char *p = buf;

    for (size_t i = 0; i < len; i += 16) {
        size_t n = MIN(16, len - i);
        char hex[16 * 3 + 1], text[17];

        for (size_t j = 0; j < n; j++) {
            unsigned char c = p[i + j];

            snprintf(hex + 3 * j, 4, "%02x ", c);
            text[j] = g_ascii_isalnum(c) ? c : '.';
        }
        text[n] = '\0';
        fprintf(fp, "%08" PRIx64 ":  %s %s\n", offset + i, hex, text);
    }
}
