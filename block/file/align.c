/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How requests must be aligned. Through the page cache anything goes; with
 * O_DIRECT the kernel says so, or else reads of growing alignment are tried.
 */
#include "util/osdep.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include "block/file/file-int.h"
#include "util/memalign.h"

/* Enough for every disk; used where the truth cannot be found out. */
#define SAFE_ALIGN 4096
#define MAX_PROBED_ALIGN 65536

typedef struct DirectAlign {
    uint32_t offset;    /* of file offsets and lengths; 0: not known */
    uint32_t mem;       /* of memory; 0: not known */
} DirectAlign;

static bool is_pow2(uint64_t n)
{
    return n && !(n & (n - 1));
}

static void ask_statx(int fd, DirectAlign *a)
{
#ifdef STATX_DIOALIGN
    struct statx stx;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) && is_pow2(stx.stx_dio_offset_align) &&
        is_pow2(stx.stx_dio_mem_align)) {
        a->offset = stx.stx_dio_offset_align;
        a->mem = stx.stx_dio_mem_align;
    }
#endif
}

static void ask_block_device(int fd, DirectAlign *a)
{
    struct stat st;
    int sector;

    if (!a->offset && fstat(fd, &st) == 0 && S_ISBLK(st.st_mode) &&
        ioctl(fd, BLKSSZGET, &sector) == 0 && sector > 0 && is_pow2(sector)) {
        a->offset = sector;
    }
}

static bool try_read(int fd, void *buf, size_t len)
{
    return RETRY_ON_EINTR(pread(fd, buf, len, 0)) >= 0 || errno != EINVAL;
}

/*
 * Tries reads at the start of the file. One byte works only where alignment is
 * not enforced for this file (it may be empty): that proves nothing.
 */
static void try_reads(int fd, DirectAlign *a)
{
    QEMU_AUTO_VFREE char *buf = qemu_try_memalign(2 * MAX_PROBED_ALIGN,
                                                  2 * MAX_PROBED_ALIGN);
    uint32_t n;

    if (!buf) {
        return;
    }
    if (!a->offset && !try_read(fd, buf, 1)) {
        for (n = 512; n <= MAX_PROBED_ALIGN; n *= 2) {
            if (try_read(fd, buf, n)) {
                a->offset = n;
                break;
            }
        }
    }
    if (!a->mem && !try_read(fd, buf + 1, MAX_PROBED_ALIGN)) {
        for (n = 512; n <= MAX_PROBED_ALIGN; n *= 2) {
            if (try_read(fd, buf + n, MAX_PROBED_ALIGN)) {
                a->mem = n;
                break;
            }
        }
    }
}

void file_refresh_limits(BlockDriverState *bs, Error **errp)
{
    BDRVFileState *s = bs->opaque;
    size_t page = qemu_real_host_page_size();
    DirectAlign a = { 0 };

    bs->bl.max_iov = IOV_MAX;
    if (!(s->fd_flags & O_DIRECT)) {
        bs->bl.request_alignment = 1;
        bs->bl.min_mem_alignment = 1;
        bs->bl.opt_mem_alignment = page;
        return;
    }
    ask_statx(s->fd, &a);
    ask_block_device(s->fd, &a);
    if (!a.offset || !a.mem) {
        try_reads(s->fd, &a);
    }
    bs->bl.request_alignment = a.offset ? a.offset : SAFE_ALIGN;
    bs->bl.min_mem_alignment = a.mem ? a.mem : MAX(SAFE_ALIGN, page);
    bs->bl.opt_mem_alignment = MAX(bs->bl.min_mem_alignment, page);
}
