/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers, buffers and reports of qemu-io. */
#include "util/osdep.h"
#include "io/io.h"
#include "util/cutils.h"
#include "util/memalign.h"
#include "util/timer.h"

#define MISALIGN_OFFSET 16

/* --- numbers --- */

int64_t io_parse_size(const char *text)
{
    uint64_t value;
    int ret = qemu_strtosz(text, NULL, &value);

    if (ret == 0 && value > INT64_MAX) {
        ret = -ERANGE;
    }
    if (ret == -ERANGE) {
        printf("Parsing error: argument too large -- %s\n", text);
        return ret;
    }
    if (ret < 0) {
        printf("Parsing error: non-numeric argument, or extraneous/unrecognized"
               " suffix -- %s\n", text);
        return ret;
    }
    return value;
}

int io_parse_pattern(const char *text)
{
    uint64_t value;

    if (parse_uint_full(text, 0, &value) < 0 || value > UINT8_MAX) {
        printf("%s is not a valid pattern byte\n", text);
        return -1;
    }
    return value;
}

char *io_size_text(double bytes)
{
    static const char *const suffixes[] = {
        " bytes", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB",
    };
    g_autofree char *number = NULL;
    char *fraction;
    size_t i = 0;

    while (bytes >= 1024 && i + 1 < ARRAY_SIZE(suffixes)) {
        bytes /= 1024;
        i++;
    }
    number = g_strdup_printf(i ? "%.3f" : "%f", bytes);
    fraction = strstr(number, ".000");
    if (fraction) {
        *fraction = '\0';
    }
    return g_strconcat(number, suffixes[i], NULL);
}

/* --- buffers --- */

void *io_alloc(Io *io, size_t bytes, int pattern)
{
    size_t extra = io->misalign ? MISALIGN_OFFSET : 0;
    char *buf = blk_blockalign(io->blk, bytes + extra);

    memset(buf, pattern, bytes + extra);
    return buf + extra;
}

void io_free(Io *io, void *buf)
{
    if (buf) {
        qemu_vfree((char *)buf - (io->misalign ? MISALIGN_OFFSET : 0));
    }
}

void *io_alloc_from_file(Io *io, size_t bytes, const char *filename)
{
    FILE *f = fopen(filename, "rb");
    char *buf;
    size_t n, done;

    if (!f) {
        fprintf(stderr, "%s: %s\n", filename, g_strerror(errno));
        return NULL;
    }
    buf = io_alloc(io, bytes, 0);
    n = fread(buf, 1, bytes, f);
    if (ferror(f) || (n == 0 && bytes)) {
        fprintf(stderr, "%s: %s\n", filename,
                ferror(f) ? g_strerror(errno) : "file is empty");
        io_free(io, buf);
        fclose(f);
        return NULL;
    }
    fclose(f);
    for (done = n; done < bytes; done += n) {
        memcpy(buf + done, buf, MIN(n, bytes - done));
    }
    return buf;
}

void *io_make_qiov(Io *io, QEMUIOVector *qiov, char **argv, int nr,
                   int pattern)
{
    g_autofree size_t *sizes = g_new0(size_t, nr);
    int64_t total = 0, len;
    char *buf, *p;
    int i;

    for (i = 0; i < nr; i++) {
        len = io_parse_size(argv[i]);
        if (len < 0) {
            return NULL;
        }
        if (len > BDRV_REQUEST_MAX_BYTES) {
            printf("Argument '%s' exceeds maximum size %lld\n", argv[i],
                   BDRV_REQUEST_MAX_BYTES);
            return NULL;
        }
        if (total > BDRV_REQUEST_MAX_BYTES - len) {
            printf("The total number of bytes exceed the maximum size %lld\n",
                   BDRV_REQUEST_MAX_BYTES);
            return NULL;
        }
        sizes[i] = len;
        total += len;
    }
    qemu_iovec_init(qiov, nr);
    buf = p = io_alloc(io, total, pattern);
    for (i = 0; i < nr; i++) {
        qemu_iovec_add(qiov, p, sizes[i]);
        p += sizes[i];
    }
    return buf;
}

bool io_verify(const void *buf, int pattern, int64_t offset, int64_t bytes,
               int64_t total_offset)
{
    const uint8_t *p = (const uint8_t *)buf + offset;
    int64_t i;

    for (i = 0; i < bytes; i++) {
        if (p[i] != pattern) {
            printf("Pattern verification failed at offset %" PRId64
                   ", %" PRId64 " bytes\n", total_offset + offset, bytes);
            return false;
        }
    }
    return true;
}

/* --- reports --- */

int64_t io_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

/* "00.01 sec", from a minute on and always for machines "0:01:00.00". */
static char *time_text(int64_t ns, bool machine)
{
    int64_t secs = ns / NANOSECONDS_PER_SECOND;
    int hundredths = ns % NANOSECONDS_PER_SECOND / 10000000;

    if (machine || secs >= 60) {
        return g_strdup_printf("%" PRId64 ":%02d:%02d.%02d", secs / 3600,
                               (int)(secs / 60 % 60), (int)(secs % 60),
                               hundredths);
    }
    return g_strdup_printf("%02d.%02d sec", (int)secs, hundredths);
}

void io_report(const IoReport *r)
{
    double secs = MAX(r->ns, 1) / (double)NANOSECONDS_PER_SECOND;
    g_autofree char *time = time_text(r->ns, r->machine);
    g_autofree char *size = io_size_text(r->bytes);
    g_autofree char *speed = io_size_text(r->bytes / secs);

    if (r->machine) {
        printf("%" PRId64 ",1,%s,%.3f,%.3f\n", r->bytes, time,
               r->bytes / secs, 1 / secs);
        return;
    }
    printf("%s %" PRId64 "/%" PRId64 " bytes at offset %" PRId64 "\n", r->op,
           r->bytes, r->total, r->offset);
    printf("%s, 1 ops; %s (%s/sec and %.4f ops/sec)\n", size, time, speed,
           1 / secs);
}
