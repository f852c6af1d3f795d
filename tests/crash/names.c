/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "names.h"
#include "workload.h"
#include "block/qcow2/qcow2.h"
#include "util/bswap.h"

#define EXTENSION_MAGIC 0x63726173
#define V2_HEADER 72
#define V3_HEADER 112
#define MAX_NAME 1023
#define TEXT_BYTES 32       /* of a name, in what is printed */

/* --- making them --- */

static BackingName *name_new(char *file, const char *format)
{
    BackingName *n = g_new0(BackingName, 1);

    n->file = file;
    n->format = g_strdup(format);
    n->text = file ? g_strdup_printf("%.*s%s (%zu bytes), format %s",
                                     TEXT_BYTES, file,
                                     strlen(file) > TEXT_BYTES ? "…" : "",
                                     strlen(file), format ?: "not given")
                   : g_strdup("none");
    return n;
}

static void name_free(void *opaque)
{
    BackingName *n = opaque;

    g_free(n->file);
    g_free(n->format);
    g_free(n->text);
    g_free(n);
}

/* Where the end mark of the extensions of a fresh image is. */
static size_t end_mark(const uint8_t *header, size_t bytes)
{
    size_t pos = ldl_be_p(header + 4) < 3 ? V2_HEADER : V3_HEADER;

    while (ldl_be_p(header + pos)) {
        pos += 8 + ROUND_UP(ldl_be_p(header + pos + 4), 8);
        g_assert(pos + 8 <= bytes);
    }
    return pos;
}

static void add_extension(Run *run, size_t bytes)
{
    uint8_t *header = run->disk->data;
    size_t pos = end_mark(header, run->cluster);

    g_assert(pos + 16 + ROUND_UP(bytes, 8) <= (size_t)run->cluster);
    stl_be_p(header + pos, EXTENSION_MAGIC);
    stl_be_p(header + pos + 4, bytes);
    run->extension = g_bytes_new_take(g_malloc(bytes), bytes);
    memset((void *)g_bytes_get_data(run->extension, NULL), 0xe5, bytes);
    memset(header + pos + 8, 0xe5, bytes);
    memset(header + pos + 8 + bytes, 0, ROUND_UP(bytes, 8) + 8 - bytes);
}

void names_init(Run *run)
{
    run->names = g_ptr_array_new_with_free_func(name_free);
    g_ptr_array_add(run->names, name_new(NULL, NULL));
    if (run->w->rename && g_rand_boolean(run->rand)) {
        /* Now and then too much for the first sector. */
        int max = run->cluster < 1024 ? 64 : run->cluster < 4096 ? 300 : 700;

        add_extension(run, g_rand_int_range(run->rand, 1, max));
    }
}

void names_free(Run *run)
{
    g_clear_pointer(&run->names, g_ptr_array_unref);
    g_clear_pointer(&run->extension, g_bytes_unref);
}

static int random_length(Run *run)
{
    int max = MIN(MAX_NAME, run->cluster / 2);

    return g_rand_boolean(run->rand) ? g_rand_int_range(run->rand, 1, 40)
                                     : g_rand_int_range(run->rand, 1, max);
}

int64_t names_add(Run *run)
{
    static const char *const formats[] = {
        NULL, "raw", "qcow2", "parallels", "host_device", "copy-on-read",
    };
    int64_t index = run->names->len;
    char *file = NULL;
    const char *format = NULL;

    if (g_rand_int_range(run->rand, 0, 5)) {
        int n = random_length(run);
        const BackingName *last = names_get(run, index - 1);

        /* Every byte tells which name it is from. */
        file = g_malloc0(n + 1);
        memset(file, 'a' + index % 26, n);
        if (last->file && g_rand_int_range(run->rand, 0, 4) == 0) {
            g_free(file);
            file = g_strdup(last->file);
        }
        format = formats[g_rand_int_range(run->rand, 0, ARRAY_SIZE(formats))];
    }
    g_ptr_array_add(run->names, name_new(file, format));
    return index;
}

const BackingName *names_get(const Run *run, int64_t index)
{
    return run->names->pdata[index];
}

/* --- judging --- */

static bool has_extension(const Run *run, BDRVQcow2State *s)
{
    const Qcow2UnknownHeaderExtension *ext;
    gsize bytes;
    const void *data;

    if (!run->extension) {
        return true;
    }
    data = g_bytes_get_data(run->extension, &bytes);
    QTAILQ_FOREACH(ext, &s->unknown_header_ext, next) {
        if (ext->magic == EXTENSION_MAGIC && ext->len == bytes &&
            !memcmp(ext->data, data, bytes)) {
            return true;
        }
    }
    return false;
}

char *names_judge(const Run *run, BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    const char *file = s->image_backing_file;
    const char *format = s->image_backing_format;

    if (!has_extension(run, s)) {
        return g_strdup("an unknown header extension is lost");
    }
    for (guint i = 0; i < run->names->len; i++) {
        const BackingName *n = names_get(run, i);

        if (!g_strcmp0(n->file, file) && !g_strcmp0(n->format, format) &&
            guest_name_legal(run->guest, i)) {
            return NULL;
        }
    }
    return g_strdup_printf("the header names the backing file '%s', format %s",
                           file ?: "", format ?: "not given");
}
