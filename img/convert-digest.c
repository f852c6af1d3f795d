/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img convert --digest: a hash of the disk that is copied, in the order of
 * its bytes. Hashing runs in the thread pool, while other data is read.
 */
#include "util/osdep.h"
#include "img/convert-digest.h"
#include "util/thread-pool.h"

/* Zeroes that are hashed at once. */
#define ZERO_BYTES (64 * 1024)

struct ImgDigest {
    GChecksum *sum;
    int64_t pos;            /* hashed so far */
};

ImgDigest *img_digest_new(const char *name)
{
    ImgDigest *d;

    if (name && strcmp(name, "sha256")) {
        error_report("Unknown digest '%s': only sha256 is there", name);
        return NULL;
    }
    d = g_new0(ImgDigest, 1);
    d->sum = g_checksum_new(G_CHECKSUM_SHA256);
    return d;
}

void img_digest_free(ImgDigest *d)
{
    if (d) {
        g_checksum_free(d->sum);
        g_free(d);
    }
}

typedef struct Job {
    ImgDigest *d;
    int64_t bytes;
    const void *buf;        /* NULL: zeroes */
} Job;

static int hash(void *opaque)
{
    static const uint8_t zeroes[ZERO_BYTES];
    Job *j = opaque;

    /* glib counts in ssize_t; a chunk is far smaller. */
    if (j->buf) {
        g_checksum_update(j->d->sum, j->buf, j->bytes);
    }
    for (int64_t left = j->buf ? 0 : j->bytes; left > 0; left -= ZERO_BYTES) {
        g_checksum_update(j->d->sum, zeroes, MIN(left, ZERO_BYTES));
    }
    j->d->pos += j->bytes;
    return 0;
}

void coroutine_fn img_digest_add(ImgDigest *d, int64_t offset, int64_t bytes,
                                 const void *buf)
{
    Job gap = { d, offset - d->pos, NULL };
    Job job = { d, bytes, buf };

    assert(gap.bytes >= 0);
    thread_pool_submit_co(hash, &gap);
    thread_pool_submit_co(hash, &job);
}

void img_digest_print(ImgDigest *d, int64_t length, const char *filename)
{
    Job rest = { d, length - d->pos, NULL };

    hash(&rest);
    printf("sha256:%s  %s\n", g_checksum_get_string(d->sum), filename);
}
