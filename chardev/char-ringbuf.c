/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory as a character device: holds what was sent last, until it is read by a
 * command. Also under its old name, "memory". */
#include "util/osdep.h"
#include "char-int.h"
#include "qapi/qapi-commands.h"
#include "util/base64.h"

#define DEFAULT_SIZE 65536
/* Bytes that one command takes out: the answer, with up to six letters for
 * each, must not be more than a monitor waits with, or all would be lost. */
#define MAX_READ (8 * 1024 * 1024)

typedef struct RingbufChardev {
    char *buf;
    uint64_t size;              /* a power of two */
    /* Bytes ever written and taken out; they differ by @size at most. */
    uint64_t written, taken;
} RingbufChardev;

static bool ringbuf_open(Chardev *chr, const ChardevBackend *backend,
                         Error **errp)
{
    const ChardevRingbuf *opts = backend->type == CHARDEV_BACKEND_KIND_MEMORY
                                 ? backend->u.memory.data
                                 : backend->u.ringbuf.data;
    int64_t size = opts->has_size ? opts->size : DEFAULT_SIZE;
    RingbufChardev *s;
    char *buf;

    if (size <= 0 || (size & (size - 1))) {
        error_setg(errp, "size of ringbuf chardev must be power of two");
        return false;
    }
    buf = g_try_malloc(size);
    if (!buf) {
        error_setg(errp, "Cannot allocate a ring buffer of %" PRId64 " bytes",
                   size);
        return false;
    }
    s = chr->opaque = g_new0(RingbufChardev, 1);
    s->buf = buf;
    s->size = size;
    chardev_stream_connect(chr, -1, -1);
    return true;
}

static void ringbuf_close(Chardev *chr)
{
    RingbufChardev *s = chr->opaque;

    g_free(s->buf);
    g_free(s);
}

static void ringbuf_disconnected(Chardev *chr)
{
}

/* Cut in two where the end of the memory is. */
static void ringbuf_copy_in(RingbufChardev *s, const char *buf, size_t len)
{
    size_t at = s->written & (s->size - 1);
    size_t first = MIN(len, s->size - at);

    memcpy(s->buf + at, buf, first);
    memcpy(s->buf, buf + first, len - first);
    s->written += len;
}

static void ringbuf_copy_out(RingbufChardev *s, char *buf, size_t len)
{
    size_t at = s->taken & (s->size - 1);
    size_t first = MIN(len, s->size - at);

    memcpy(buf, s->buf + at, first);
    memcpy(buf + first, s->buf, len - first);
    s->taken += len;
}

static ssize_t ringbuf_send(Chardev *chr, const char *buf, size_t len)
{
    RingbufChardev *s = chr->opaque;
    size_t kept = MIN(len, s->size);

    ringbuf_copy_in(s, buf + len - kept, kept);
    if (s->written - s->taken > s->size) {
        s->taken = s->written - s->size;
    }
    return len;
}

const ChardevClass chardev_class_ringbuf = {
    .qom = {
        .name = "chardev-ringbuf",
        .parent = &chardev_type,
    },
    .open = ringbuf_open,
    .close = ringbuf_close,
    .disconnected = ringbuf_disconnected,
    .send = ringbuf_send,
};

/* Its old name. */
const ChardevClass chardev_class_memory = {
    .qom = {
        .name = "chardev-memory",
        .parent = &chardev_class_ringbuf.qom,
    },
    .open = ringbuf_open,
    .close = ringbuf_close,
    .disconnected = ringbuf_disconnected,
    .send = ringbuf_send,
};

/* --- commands --- */

static Chardev *find_ringbuf(const char *device, Error **errp)
{
    Chardev *chr = chardev_find(device);

    if (!chr) {
        error_setg(errp, "Device '%s' not found", device);
        return NULL;
    }
    if (!qom_type_is_a(&chr->klass->qom, chardev_class_ringbuf.qom.name)) {
        error_setg(errp, "%s is not a ringbuf device", device);
        return NULL;
    }
    return chr;
}

void qmp_ringbuf_write(const char *device, const char *data, bool has_format,
                       DataFormat format, Error **errp)
{
    Chardev *chr = find_ringbuf(device, errp);
    g_autofree uint8_t *bytes = NULL;
    size_t len;

    if (!chr) {
        return;
    }
    if (!has_format || format != DATA_FORMAT_BASE64) {
        chardev_write(chr, data, strlen(data));
        return;
    }
    bytes = qbase64_decode(data, strlen(data), &len, errp);
    if (bytes) {
        chardev_write(chr, (char *)bytes, len);
    }
}

/* A string for JSON, where NUL has two bytes: none in there is its end. */
static char *to_text(const char *buf, size_t len)
{
    GString *text = g_string_sized_new(len);

    for (size_t i = 0; i < len; i++) {
        if (buf[i]) {
            g_string_append_c(text, buf[i]);
        } else {
            g_string_append_len(text, "\xc0\x80", 2);
        }
    }
    return g_string_free(text, FALSE);
}

char *qmp_ringbuf_read(const char *device, int64_t size, bool has_format,
                       DataFormat format, Error **errp)
{
    Chardev *chr = find_ringbuf(device, errp);
    g_autofree char *buf = NULL;
    RingbufChardev *s;
    size_t len;

    if (!chr) {
        return NULL;
    }
    if (size <= 0) {
        error_setg(errp, "size must be greater than zero");
        return NULL;
    }
    s = chr->opaque;
    len = MIN(MIN(size, MAX_READ), s->written - s->taken);
    buf = g_malloc(len + 1);
    ringbuf_copy_out(s, buf, len);
    if (has_format && format == DATA_FORMAT_BASE64) {
        return g_base64_encode((guchar *)buf, len);
    }
    return to_text(buf, len);
}
