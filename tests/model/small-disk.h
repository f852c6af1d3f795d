/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk of two clusters in a known state, and the operations that are tried
 * on it: what exhaustive exploration and the named cases start from.
 */
#ifndef TESTS_MODEL_SMALL_DISK_H
#define TESTS_MODEL_SMALL_DISK_H

#include "run.h"

#define SMALL_CLUSTER 512
#define SMALL_CLUSTERS 2
#define SMALL_CELL 128

typedef struct SmallState {
    const char *name;
    bool shared;            /* with an internal snapshot */
    bool keep;              /* discard-no-unref */
    bool named_only;        /* for named cases */
    bool first_only;        /* the second cluster is unallocated */
    OpType made_by[2];      /* on all clusters; OP_FLUSH: nothing */

    /* Made when first used. */
    uint8_t *image;
    int64_t image_bytes;
    uint32_t value;         /* what the clusters hold: SMALL_VALUE or 0 */
} SmallState;

#define SMALL_VALUE 1

extern SmallState small_states[];
extern const unsigned nr_small_states;

typedef struct SmallOp {
    const char *name;
    OpType type;
    int64_t offset, bytes;
} SmallOp;

extern const SmallOp small_ops[];
extern const unsigned nr_small_ops;

/* NULL if there is none of that name. */
SmallState *small_state_by_name(const char *name, size_t len);
const SmallOp *small_op_by_name(const char *name, size_t len);

/* Makes the images of all states. The scheduler is off. */
void small_disk_prepare(void);
/*
 * Opens the image of @s. The scheduler is on. Requests on the file yield
 * before they take effect, and, with @after, after it.
 */
void small_disk_begin(Run *run, const SmallState *s, bool after);
/* The model knows what @s holds, and of no operation. */
void small_disk_known(Run *run, const SmallState *s);
/* @small as operation @index of @run; its coroutine can run. */
void small_disk_start(Run *run, const SmallOp *small, unsigned index);
/* Everything has ended: compares and checks; with @again once more opened
 * again. Closes. */
void small_disk_end(Run *run, const SmallState *s, bool again);
/* Closes without a look. */
void small_disk_drop(Run *run);

#endif
