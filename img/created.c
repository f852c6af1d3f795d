/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A target that a command made does not survive a failure looking complete: it
 * is removed if it is a file of its own, and named otherwise.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "img/img.h"
#include "util/cutils.h"

const char *img_plain_path(const char *filename)
{
    strstart(filename, "file:", &filename);
    return path_has_protocol(filename) ? NULL : filename;
}

/* A regular file that has no other name. */
static bool is_plain_file(const char *path, struct stat *st)
{
    return path && lstat(path, st) == 0 && S_ISREG(st->st_mode) &&
           st->st_nlink == 1;
}

void img_created_note(ImgCreated *c, const char *filename)
{
    struct stat st;

    c->made = true;
    if (is_plain_file(img_plain_path(filename), &st)) {
        c->dev = st.st_dev;
        c->ino = st.st_ino;
    }
}

void img_created_discard(const ImgCreated *c, const char *filename)
{
    const char *path = img_plain_path(filename);
    struct stat st;

    if (!c->made) {
        return;
    }
    if (c->ino && is_plain_file(path, &st) && st.st_dev == c->dev &&
        st.st_ino == c->ino && unlink(path) == 0) {
        return;
    }
    error_report("'%s' is incomplete", filename);
}
