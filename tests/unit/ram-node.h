/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node whose data is in memory, for tests of what works on nodes. It keeps
 * account of the requests it sees, can finish them out of order, and can fail
 * any of them. Main thread.
 */
#ifndef TESTS_RAM_NODE_H
#define TESTS_RAM_NODE_H

#include "block/block_int.h"
#include "block/block-backend.h"

typedef enum {
    RAM_READ,
    RAM_WRITE,
    RAM_ZERO,
    RAM_STATUS,
    RAM_COPY_RANGE,     /* told of the source; -ENOTSUP unless can_copy */
    RAM_NR_KINDS,
} RamKind;

typedef struct RamRequest {
    RamKind kind;
    int64_t offset;
    int64_t bytes;
} RamRequest;

#define RAM_SECTOR 512

typedef struct RamNode {
    BlockDriverState *bs;
    int64_t length;
    uint8_t *data;
    char *map;              /* status of each sector: 'd'ata, 'z'ero */
    GArray *log;            /* of RamRequest, in the order of starting */
    GRand *delays;          /* requests take random turns of the loop */
    int count[RAM_NR_KINDS];
    int fail_at[RAM_NR_KINDS];      /* the n-th fails, 1 first; 0: none */
    int fail_errno;                 /* EIO unless set */
    int64_t bad_start, bad_end;     /* reads touching this fail, always */
    int in_flight;
    int max_in_flight;
    bool can_copy;
} RamNode;

/*
 * A node of @length bytes, all zero, all 'd', that wants writes of
 * @zero_align (0: any). ram_node_free() frees it; backends go first.
 */
RamNode *ram_node_new(const char *name, int64_t length, uint32_t zero_align);
void ram_node_free(RamNode *ram);

/* Fills the range with bytes that are not zero and depend on the offset. */
void ram_fill(RamNode *ram, int64_t offset, int64_t bytes);
/* Status of whole sectors. */
void ram_set_map(RamNode *ram, int64_t offset, int64_t bytes, char status);
void ram_clear_log(RamNode *ram);
int ram_log_count(const RamNode *ram, RamKind kind);

#endif
