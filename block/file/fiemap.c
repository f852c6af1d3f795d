/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FIEMAP: many extents of a file for one question.
 *
 * Always with FIEMAP_FLAG_SYNC: what is only in the page cache has no extents
 * yet, or has unwritten ones, and would look like a hole. Unwritten extents
 * that are left after that read as zeroes.
 */
#include "util/osdep.h"
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include "block/file/file-int.h"

/* Data extents that touch are one range. */
static void add_data(FileExtent *data, unsigned *n, int64_t start, int64_t end)
{
    if (*n && start <= data[*n - 1].end) {
        data[*n - 1].end = MAX(end, data[*n - 1].end);
    } else {
        data[*n] = (FileExtent) { start, end };
        (*n)++;
    }
}

/* Where the answer ends: further on, nothing is known. */
static int64_t take_answer(const struct fiemap *fm, int64_t start, int64_t end,
                           FileExtent *data, unsigned *n)
{
    const struct fiemap_extent *last = NULL;

    for (uint32_t i = 0; i < fm->fm_mapped_extents; i++) {
        const struct fiemap_extent *fe = &fm->fm_extents[i];
        int64_t from = MIN(fe->fe_logical, (uint64_t)end);
        int64_t to = fe->fe_length > (uint64_t)end - from ? end
                                              : from + (int64_t)fe->fe_length;

        last = fe;
        from = MAX(from, start);
        if (from < to && !(fe->fe_flags & FIEMAP_EXTENT_UNWRITTEN)) {
            add_data(data, n, from, to);
        }
    }
    if (!last || (last->fe_flags & FIEMAP_EXTENT_LAST) ||
        fm->fm_mapped_extents < fm->fm_extent_count ||
        last->fe_length > (uint64_t)end - MIN(last->fe_logical,
                                              (uint64_t)end)) {
        return end;
    }
    return last->fe_logical + last->fe_length;
}

int file_map_extents(int fd, int64_t start, int64_t end, FileExtent *data,
                     unsigned max, unsigned *n, int64_t *known_end)
{
    g_autofree struct fiemap *fm =
        g_malloc0(sizeof(*fm) + max * sizeof(struct fiemap_extent));

    assert(start >= 0 && start < end);
    *fm = (struct fiemap) {
        .fm_start = start,
        .fm_length = end - start,
        .fm_flags = FIEMAP_FLAG_SYNC,
        .fm_extent_count = max,
    };
    if (RETRY_ON_EINTR(ioctl(fd, FS_IOC_FIEMAP, fm)) < 0) {
        return -errno;
    }
    if (fm->fm_mapped_extents > max) {
        return -EINVAL;
    }
    *n = 0;
    *known_end = take_answer(fm, start, end, data, n);
    return *known_end > start ? 0 : -EINVAL;
}
