/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A protocol node whose file is in memory, for fuzz targets. Main thread. */
#ifndef TESTS_FUZZ_MEMORY_NODE_H
#define TESTS_FUZZ_MEMORY_NODE_H

#include "block/block_int.h"

/*
 * A node called @name with a copy of @data. It grows up to @max_size bytes;
 * requests beyond fail with -EFBIG, as on a file system. One reference for the
 * caller; the name is free again when the last one is gone.
 */
BlockDriverState *memory_node(const char *name, const void *data, size_t size,
                              size_t max_size);

#endif
