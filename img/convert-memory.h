/* SPDX-License-Identifier: GPL-2.0-or-later */
/* convert --max-memory: bounds buffers and page cache. */
#ifndef IMG_CONVERT_MEMORY_H
#define IMG_CONVERT_MEMORY_H

#include "img/img.h"

/* The least that is copied at once, and the least --max-memory. */
#define IMG_MEMORY_MIN_CHUNK (64 * 1024)
#define IMG_MEMORY_MIN (1024 * 1024)

typedef struct ImgMemory ImgMemory;

/*
 * Chooses chunk and workers so that all buffers take half of @max bytes.
 * @align: of the copy. False after a message.
 */
bool img_memory_fit(int64_t max, int64_t align, BlockCopyOptions *opt);
/* Both outlive it. */
ImgMemory *img_memory_new(BlockBackend *source, BlockBackend *target,
                          int64_t max);
void img_memory_free(ImgMemory *m);
/* So many bytes were written. 0, or -errno: cached data was lost. */
int coroutine_fn img_memory_landed(ImgMemory *m, int64_t bytes);

#endif
