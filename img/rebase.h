/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the command line of rebase and its work. */
#ifndef IMG_REBASE_H
#define IMG_REBASE_H

#include "img/img.h"

typedef struct RebaseArgs {
    ImgOpen image;
    ImgOpen new_backing;
    const char *filename;
    const char *backing;        /* NULL: none */
    const char *backing_fmt;    /* NULL: not given */
    const char *backing_cache;  /* NULL: not given; parsed in new_backing */
    bool unsafe;
    bool compress;
    int64_t rate_limit;         /* bytes a second; 0: none */
    int workers;                /* 8 */
    bool force_share;
    ImgProgress progress;
    bool quiet;
} RebaseArgs;

/* The exit code. */
int img_rebase(const RebaseArgs *args);

#endif
