/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver "file": a regular file as the lowest node of a graph. Opening,
 * closing and describing it, which host-device.c shares.
 */
#include "util/osdep.h"
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include "block/driver-table.h"
#include "block/file/file-int.h"
#include "util/aio.h"
#include "util/fd.h"
#include "util/fdset.h"
#include "util/filelock.h"

const char *const file_weak_options[] = {
    "aio", "aio-max-batch", "drop-cache", "extents", "locking", NULL
};
const char *const file_reopen_options[] = {
    "aio", "aio-max-batch", "drop-cache", NULL
};

/* --- options --- */

/* BDRV_O_* of the engine that was asked for; 0: none. */
static int engine_asked_for(const BlockdevOptionsFile *o, int bdrv_flags)
{
    if (!o->has_aio) {
        return bdrv_flags & BDRV_O_AIO_MASK;
    }
    switch (o->aio) {
    case BLOCKDEV_AIO_OPTIONS_THREADS:
        return BDRV_O_THREADS;
#ifdef CONFIG_LINUX_AIO
    case BLOCKDEV_AIO_OPTIONS_NATIVE:
        return BDRV_O_NATIVE_AIO;
#endif
    default:
        return BDRV_O_IO_URING;
    }
}

/* "drop-cache" is for file_activate(). */
bool file_engine_from_options(const BlockdevOptionsFile *o, int bdrv_flags,
                              FileEngine *engine, Error **errp)
{
    int asked = engine_asked_for(o, bdrv_flags);

    if (o->has_aio_max_batch && o->aio_max_batch != 0) {
        error_setg(errp, "Parameter 'aio-max-batch' can only be 0: requests "
                   "are submitted together once per turn of the event loop");
        return false;
    }
    if ((asked & BDRV_O_NATIVE_AIO) && !(bdrv_flags & BDRV_O_NOCACHE)) {
        error_setg(errp, "aio=native was specified, but it requires "
                   "cache.direct=on, which was not specified.");
        return false;
    }
#ifdef CONFIG_LINUX_AIO
    if (asked & BDRV_O_NATIVE_AIO) {
        *engine = FILE_ENGINE_NATIVE;
        return aio_context_setup_native(qemu_get_aio_context(), errp);
    }
#else
    if (asked & BDRV_O_NATIVE_AIO) {
        error_setg(errp, "aio=native was specified, but is not supported in "
                   "this build.");
        return false;
    }
#endif
    if ((asked & BDRV_O_IO_URING) &&
        !aio_context_has_uring(qemu_get_aio_context())) {
        error_setg(errp, "aio=io_uring was specified, but io_uring is not "
                   "available");
        return false;
    }
    /* Left to us, it is whatever the event loop does best. */
    *engine = asked & BDRV_O_THREADS ? FILE_ENGINE_THREADS
                                     : FILE_ENGINE_IO_URING;
    return true;
}

/* Whether to lock, for a file that is open as @fd. */
static bool locking_from_options(const BlockdevOptionsFile *o, int fd,
                                 bool *enabled, Error **errp)
{
    OnOffAuto mode = o->has_locking ? o->locking : ON_OFF_AUTO_AUTO;
    int ret;

    switch (mode) {
    case ON_OFF_AUTO_OFF:
        *enabled = false;
        return true;
    case ON_OFF_AUTO_ON:
        if (!qemu_has_ofd_lock()) {
            error_setg(errp, "locking=on was specified, but this system has "
                       "no file locks that belong to open files");
            return false;
        }
        *enabled = true;
        return true;
    default:
        /* Some file systems do not lock at all. */
        ret = qemu_has_ofd_lock() ? qemu_lock_fd_test(fd, 100, 1, false)
                                  : -ENOTSUP;
        *enabled = ret == 0 || ret == -EAGAIN;
        return true;
    }
}

/* --- opening --- */

/*
 * O_NONBLOCK keeps open() from waiting for the other end of a FIFO, which is
 * then found not to be a file. It would also make a file with a lease fail
 * instead of waiting for the lease to be given up.
 */
static int open_by_name(const char *filename, int fd_flags)
{
    struct stat st;
    int fd;

    fd = RETRY_ON_EINTR(open(filename, fd_flags | O_CLOEXEC | O_NONBLOCK));
    if (fd < 0 && errno == EWOULDBLOCK && stat(filename, &st) == 0 &&
        S_ISREG(st.st_mode)) {
        fd = RETRY_ON_EINTR(open(filename, fd_flags | O_CLOEXEC));
    }
    return fd < 0 ? -errno : fd;
}

static bool is_in_memory(int fd)
{
    struct statfs sfs;

    return RETRY_ON_EINTR(fstatfs(fd, &sfs)) == 0 &&
           (sfs.f_type == TMPFS_MAGIC || sfs.f_type == RAMFS_MAGIC);
}

static int check_file_type(BDRVFileState *s, const char *driver, bool device,
                           Error **errp)
{
    struct stat st;

    if (fstat(s->fd, &st) < 0) {
        int ret = -errno;
        error_setg_errno(errp, -ret, "Could not stat file");
        return ret;
    }
    if (device) {
        if (!S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode)) {
            error_setg(errp, "'%s' driver requires '%s' to be either a "
                       "character or block device", driver, s->filename);
            return -EINVAL;
        }
    } else if (!S_ISREG(st.st_mode)) {
        error_setg(errp, "'%s' driver requires '%s' to be a regular file",
                   driver, s->filename);
        return -EINVAL;
    }
    s->is_device = device;
    s->is_block_device = S_ISBLK(st.st_mode);
    s->in_memory = S_ISREG(st.st_mode) && is_in_memory(s->fd);
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    s->rdev = st.st_rdev;

    return file_check_writable(s->fd, s->fd_flags, errp);
}

/* What may be read-only may also be the other way round, if only that is there. */
static int open_from_set(BDRVFileState *s, bool any_mode)
{
    int fd = fdset_open(s->set, s->fd_flags);

    if (fd == -EACCES && any_mode) {
        s->fd_flags = (s->fd_flags & ~O_ACCMODE) | O_RDWR;
        fd = fdset_open(s->set, s->fd_flags);
    }
    return fd;
}

static int open_first(BDRVFileState *s, const char *driver, bool any_mode,
                      Error **errp)
{
    int fd, fl;

    s->in_set = fdset_parse_name(s->filename, &s->set);
    fd = s->in_set ? open_from_set(s, any_mode)
                   : open_by_name(s->filename, s->fd_flags);
    if (fd == -EINVAL && (s->fd_flags & O_DIRECT)) {
        error_setg(errp, "Could not open '%s': filesystem does not support "
                   "O_DIRECT", s->filename);
        return fd;
    }
    if (fd == -EISDIR) {
        error_setg(errp, "'%s' driver requires '%s' to be a regular file",
                   driver, s->filename);
        return fd;
    }
    if (fd < 0) {
        error_setg_file_open(errp, -fd, s->filename);
        return fd == -EROFS ? -EACCES : fd;
    }
    s->fd = fd;
    fl = fcntl(fd, F_GETFL);
    if (fl < 0 || fcntl(fd, F_SETFL, fl & ~O_NONBLOCK) < 0) {
        int ret = -errno;
        error_setg_errno(errp, -ret, "Could not set flags of '%s'",
                         s->filename);
        return ret;
    }
    return 0;
}

int file_open_node(BlockDriverState *bs, const BlockdevOptionsFile *o,
                   bool device, int flags, Error **errp)
{
    BDRVFileState *s = bs->opaque;
    int ret;

    s->fd = -1;
    if (!o->filename[0]) {
        error_setg(errp, "The '%s' block driver requires a file name",
                   bs->drv->format_name);
        return -EINVAL;
    }
    if (!file_engine_from_options(o, flags, &s->engine, errp)) {
        return -EINVAL;
    }
    s->filename = g_strdup(o->filename);
    s->fd_flags = file_fd_flags(flags, 0);

    ret = open_first(s, bs->drv->format_name, flags & BDRV_O_AUTO_RDONLY,
                     errp);
    if (ret == 0) {
        ret = check_file_type(s, bs->drv->format_name, device, errp);
    }
    if (ret == 0 &&
        !locking_from_options(o, s->fd, &s->locks.enabled, errp)) {
        ret = -ENOTSUP;
    }
    if (ret < 0) {
        if (s->fd >= 0) {
            qemu_close(s->fd);
        }
        g_free(s->filename);
        s->filename = NULL;
        return ret;
    }
    file_extents_init(&s->extents, o->has_extents ? o->extents
                                   : G_PASTE(BLOCKDEV_FILE_EXTENTS_,
                                             CONFIG_FILE_EXTENTS));
    qemu_mutex_init(&s->memory_write);
    bs->supported_write_flags = BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    if (!device) {
        /* What is new in a longer file always reads as zeroes. */
        bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE;
    }
    return 0;
}

void file_close(BlockDriverState *bs)
{
    BDRVFileState *s = bs->opaque;

    qemu_close(s->fd);
    file_extents_destroy(&s->extents);
    qemu_mutex_destroy(&s->memory_write);
    g_free(s->filename);
}

static int file_open(BlockDriverState *bs, BlockdevOptions *options, int flags,
                     Error **errp)
{
    return file_open_node(bs, &options->u.file, false, flags, errp);
}

/* --- names --- */

/* Would @path, as a file name, be taken for a protocol prefix? */
static bool looks_like_protocol(const char *path)
{
    const char *p = path + strcspn(path, ":/");

    return *p == ':';
}

bool file_parse_prefixed(const char *filename, const char *prefix,
                         QDict *options, Error **errp)
{
    if (g_str_has_prefix(filename, prefix)) {
        filename += strlen(prefix);
    }
    qdict_put_str(options, "filename", filename);
    return true;
}

static bool file_parse_filename(const char *filename, QDict *options,
                                Error **errp)
{
    return file_parse_prefixed(filename, "file:", options, errp);
}

void file_refresh_filename(BlockDriverState *bs)
{
    BDRVFileState *s = bs->opaque;
    const char *prefix = "";
    int n;

    /* A relative path that would be taken for a protocol. */
    if (looks_like_protocol(s->filename)) {
        prefix = "./";
    }
    n = snprintf(bs->exact_filename, sizeof(bs->exact_filename), "%s%s",
                 prefix, s->filename);
    if (n >= (int)sizeof(bs->exact_filename)) {
        bs->exact_filename[0] = '\0';
    }
}

/* --- information --- */

int coroutine_fn file_co_get_info(BlockDriverState *bs, BlockDriverInfo *bdi)
{
    return 0;
}

static int file_has_zero_init(BlockDriverState *bs)
{
    return 1;
}

static ImageInfoSpecific *file_get_specific_info(BlockDriverState *bs,
                                                 Error **errp)
{
#ifdef FS_IOC_FSGETXATTR
    BDRVFileState *s = bs->opaque;
    struct fsxattr attr;
    ImageInfoSpecific *info;

    if (ioctl(s->fd, FS_IOC_FSGETXATTR, &attr) == 0 && attr.fsx_extsize) {
        info = g_new0(ImageInfoSpecific, 1);
        info->type = IMAGE_INFO_SPECIFIC_KIND_FILE;
        info->u.file.data = g_new0(ImageInfoSpecificFile, 1);
        info->u.file.data->has_extent_size_hint = true;
        info->u.file.data->extent_size_hint = attr.fsx_extsize;
        return info;
    }
#endif
    return NULL;
}

BlockDriver bdrv_file = {
    .format_name = "file",
    .id = BLOCKDEV_DRIVER_FILE,
    .protocol_name = "file",
    .instance_size = sizeof(BDRVFileState),
    .bdrv_parse_filename = file_parse_filename,
    .bdrv_open = file_open,
    .bdrv_close = file_close,
    .bdrv_reopen_prepare = file_reopen_prepare,
    .bdrv_reopen_commit = file_reopen_commit,
    .bdrv_reopen_abort = file_reopen_abort,
    .reopen_options = file_reopen_options,
    .supports_inactive = true,
    .bdrv_activate = file_activate,
    .bdrv_check_perm = file_check_perm,
    .bdrv_set_perm = file_set_perm,
    .bdrv_has_other_writer = file_has_other_writer,
    .bdrv_refresh_limits = file_refresh_limits,
    .bdrv_co_preadv = file_co_preadv,
    .bdrv_co_pwritev = file_co_pwritev,
    .bdrv_co_pwrite_zeroes = file_co_pwrite_zeroes,
    .bdrv_co_pdiscard = file_co_pdiscard,
    .bdrv_co_splice = file_co_splice,
    .bdrv_co_copy_range_from = file_co_copy_range_from,
    .bdrv_co_copy_range_to = file_co_copy_range_to,
    .bdrv_co_block_status = file_co_block_status,
    .bdrv_co_flush_to_disk = file_co_flush_to_disk,
    .bdrv_co_writeback = file_co_writeback,
    .bdrv_co_truncate = file_co_truncate,
    .bdrv_co_getlength = file_co_getlength,
    .bdrv_co_get_allocated_file_size = file_co_get_allocated_file_size,
    .bdrv_co_get_info = file_co_get_info,
    .bdrv_has_zero_init = file_has_zero_init,
    .bdrv_get_specific_info = file_get_specific_info,
    .bdrv_create = file_create,
    .bdrv_co_create = file_co_create,
    .create_options = qapi_CreateOptionsFile_members,
    .bdrv_refresh_filename = file_refresh_filename,
    .weak_options = file_weak_options,
};
