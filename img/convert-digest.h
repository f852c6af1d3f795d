/* SPDX-License-Identifier: GPL-2.0-or-later */
/* convert --digest: the hash of what is copied. */
#ifndef IMG_CONVERT_DIGEST_H
#define IMG_CONVERT_DIGEST_H

#include "img/img.h"

typedef struct ImgDigest ImgDigest;

/* @name: of the hash; NULL: sha256. NULL after a message. */
ImgDigest *img_digest_new(const char *name);
void img_digest_free(ImgDigest *d);
/*
 * The next bytes of the disk, @buf NULL: zeroes. @offset does not go back; what
 * lies between is zeroes. One call at a time.
 */
void coroutine_fn img_digest_add(ImgDigest *d, int64_t offset, int64_t bytes,
                                 const void *buf);
/* Zeroes up to @length, and the result on stdout. Once. */
void img_digest_print(ImgDigest *d, int64_t length, const char *filename);

#endif
