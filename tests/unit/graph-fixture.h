/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes without storage for tests of the graph. They answer to names of real
 * drivers, so that options parse: leaves to null-co, overlays to qcow2,
 * filters to raw. Each records what the graph code asked of it and can be told
 * to fail.
 */
#ifndef TESTS_GRAPH_FIXTURE_H
#define TESTS_GRAPH_FIXTURE_H

#include "block/block_int.h"
#include "block/block-backend.h"

typedef struct TestNode {
    /* The lock a protocol driver would hold. */
    uint64_t perm;
    uint64_t shared;
    /* Told to fail: times left, 0 off. */
    int fail_check;
    int fail_set;
    int fail_prepare;
    int fail_header;
    /* Seen. */
    int check_calls;
    int set_calls;
    int prepare_calls;
    int commit_calls;
    int abort_calls;
    /* The backing file name "on disk". */
    char header[32];
    /* Permissions on the edge to the first child while prepare ran. */
    uint64_t prepare_perm;
    uint64_t prepare_shared;
    /* Called inside prepare, if set. */
    void (*in_prepare)(BlockDriverState *bs);
} TestNode;

static inline TestNode *test_node(BlockDriverState *bs)
{
    return bs->opaque;
}

/* Each returns one reference for the caller. @flags: BDRV_O_RDWR or 0. */
BlockDriverState *test_leaf(const char *name, int flags);
BlockDriverState *test_filter(const char *name, BlockDriverState *below,
                              int flags);
/* For a filter whose child comes later. */
BlockDriver *test_filter_driver(void);
/* @file is a leaf made for it; @backing may be NULL. */
BlockDriverState *test_overlay(const char *name, BlockDriverState *backing,
                               int flags);

/* An overlay with a node of the caller's as its file. */
BlockDriverState *test_format(const char *name, BlockDriverState *file,
                              int flags);

/* Fails the test unless @err is set with exactly this text; frees it. */
void assert_error(Error *err, const char *text);

/*
 * The whole graph as text, one edge a line, sorted: for comparing before and
 * after. Includes permissions and the locks of leaves. Caller frees.
 */
char *test_graph_dump(void);

/* Event loop and block layer. */
void test_graph_init(int *argc, char ***argv);

#endif
