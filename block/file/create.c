/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making image files.
 *
 * A file that exists is emptied only after its locks say that nobody uses it
 * in a way that forbids this; a file made here is removed again on failure, one
 * that was there before is not.
 */
#include "util/osdep.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include "block/file/file-int.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"
#include "util/fd.h"
#include "util/fdset.h"
#include "util/filelock.h"
#include "util/thread-pool.h"

/* What XFS is told by default: images grow in steps of this size. */
#define DEFAULT_EXTENT_SIZE_HINT (1024 * 1024)

static bool check_options(const CreateOptionsFile *opts, Error **errp)
{
    if (opts->has_size && opts->size > BDRV_MAX_LENGTH) {
        error_setg(errp, "Image size must be less than 8 EiB!");
        return false;
    }
    if (opts->has_extent_size_hint && opts->extent_size_hint > UINT32_MAX) {
        error_setg(errp, "Extent size hint is too large");
        return false;
    }
    return true;
}

static CreateOptionsFile *parse_options(QDict *options, Error **errp)
{
    Visitor *v = qobject_input_visitor_new_keyval(QOBJECT(options));
    CreateOptionsFile *opts = NULL;

    if (!visit_type_CreateOptionsFile(v, NULL, &opts, errp)) {
        opts = NULL;
    }
    visit_free(v);
    if (!opts) {
        return NULL;
    }
    if (!check_options(opts, errp)) {
        qapi_free_CreateOptionsFile(opts);
        return NULL;
    }
    return opts;
}

/* Bytes that the image shall have. */
static int64_t wanted_size(const CreateOptionsFile *opts)
{
    return opts->has_size ? ROUND_UP((int64_t)opts->size, BDRV_SECTOR_SIZE)
                          : 0;
}

static PreallocMode wanted_prealloc(const CreateOptionsFile *opts)
{
    return opts->has_preallocation ? opts->preallocation : PREALLOC_MODE_OFF;
}

/*
 * Opens @path to make an image in it; *@made tells whether it was not there
 * before. -errno on failure.
 */
static int open_for_create(const char *path, bool *made, Error **errp)
{
    int flags = O_RDWR | O_CLOEXEC;
    int64_t set;
    int fd;

    if (fdset_parse_name(path, &set)) {
        *made = false;
        fd = qemu_open(path, O_RDWR, errp);
        return fd < 0 ? -errno : fd;
    }
    fd = RETRY_ON_EINTR(open(path, flags | O_CREAT | O_EXCL, 0644));
    *made = fd >= 0;
    if (fd < 0 && errno == EEXIST) {
        /* O_CREAT once more: the name may be a link to no file yet. */
        fd = RETRY_ON_EINTR(open(path, flags | O_CREAT | O_NONBLOCK, 0644));
    }
    if (fd < 0) {
        int ret = -errno;
        error_setg_errno(errp, -ret, "Could not create '%s'", path);
        return ret;
    }
    return fd;
}

/* The same locks as somebody who writes and resizes the image. */
static int lock_for_create(int fd, const char *path, Error **errp)
{
    FileLocks locks = { 0 };
    int ret = qemu_has_ofd_lock() ? qemu_lock_fd_test(fd, 100, 1, false)
                                  : -ENOTSUP;

    locks.enabled = ret == 0 || ret == -EAGAIN;
    return file_locks_take(&locks, fd, BLK_PERM_WRITE | BLK_PERM_RESIZE,
                           BLK_PERM_RESIZE, path, errp);
}

/* Only of use on btrfs; it is advice, and works without as well. */
static void set_nocow(int fd)
{
#ifdef FS_NOCOW_FL
    int attr;

    if (ioctl(fd, FS_IOC_GETFLAGS, &attr) == 0) {
        attr |= FS_NOCOW_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &attr);
    }
#endif
}

/* Only of use on file systems that allocate by extents of a given size. */
static void set_extent_size_hint(int fd, uint32_t hint)
{
#ifdef FS_IOC_FSSETXATTR
    struct fsxattr attr;

    if (ioctl(fd, FS_IOC_FSGETXATTR, &attr) == 0) {
        attr.fsx_xflags |= FS_XFLAG_EXTSIZE;
        attr.fsx_extsize = hint;
        (void)ioctl(fd, FS_IOC_FSSETXATTR, &attr);
    }
#endif
}

static int fill_new_file(int fd, const char *path,
                         const CreateOptionsFile *opts, Error **errp)
{
    struct stat st;
    int ret;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        error_setg(errp, "'file' driver requires '%s' to be a regular file",
                   path);
        return -EINVAL;
    }
    ret = lock_for_create(fd, path, errp);
    if (ret < 0) {
        return ret;
    }
    if (RETRY_ON_EINTR(ftruncate(fd, 0)) < 0) {
        ret = -errno;
        error_setg_errno(errp, -ret, "Could not empty '%s'", path);
        return ret;
    }
    if (opts->has_nocow && opts->nocow) {
        set_nocow(fd);
    }
    if (!opts->has_extent_size_hint) {
        set_extent_size_hint(fd, DEFAULT_EXTENT_SIZE_HINT);
    } else if (opts->extent_size_hint) {
        set_extent_size_hint(fd, opts->extent_size_hint);
    }
    return file_fd_resize(fd, wanted_size(opts), wanted_prealloc(opts), errp);
}

static int create_file(const char *path, const CreateOptionsFile *opts,
                       Error **errp)
{
    bool made = false;
    int fd, ret;

    if (g_str_has_prefix(path, "file:")) {
        path += strlen("file:");
    }
    fd = open_for_create(path, &made, errp);
    if (fd < 0) {
        return fd;
    }
    ret = fill_new_file(fd, path, opts, errp);
    if (qemu_close(fd) < 0 && ret == 0) {
        ret = -errno;
        error_setg_errno(errp, -ret, "Could not close the new file");
    }
    if (ret < 0 && made) {
        (void)unlink(path);
    }
    return ret;
}

int file_create(const char *filename, QDict *options, Error **errp)
{
    CreateOptionsFile *opts = parse_options(options, errp);
    int ret;

    if (!opts) {
        return -EINVAL;
    }
    ret = create_file(filename, opts, errp);
    qapi_free_CreateOptionsFile(opts);
    return ret;
}

/* --- blockdev-create --- */

typedef struct CreateInThread {
    const char *filename;
    CreateOptionsFile opts;
    Error *err;
} CreateInThread;

static int create_in_thread(void *opaque)
{
    CreateInThread *c = opaque;

    return create_file(c->filename, &c->opts, &c->err);
}

int coroutine_fn file_co_create(BlockdevCreateOptions *options, Error **errp)
{
    const BlockdevCreateOptionsFile *o = &options->u.file;
    CreateInThread c = {
        .filename = o->filename,
        .opts = {
            .has_size = true,
            .size = o->size,
            .has_preallocation = o->has_preallocation,
            .preallocation = o->preallocation,
            .has_nocow = o->has_nocow,
            .nocow = o->nocow,
            .has_extent_size_hint = o->has_extent_size_hint,
            .extent_size_hint = o->extent_size_hint,
        },
    };
    int ret;

    if (!check_options(&c.opts, errp)) {
        return -EINVAL;
    }
    /* Preallocation takes its time. */
    ret = thread_pool_submit_co(create_in_thread, &c);
    if (c.err) {
        error_propagate(errp, c.err);
    } else if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not create '%s'", o->filename);
    }
    return ret;
}

/* --- devices: nothing can be made, but what is there can be used --- */

static int reuse_device(int fd, const char *path,
                        const CreateOptionsFile *opts, Error **errp)
{
    static const char zeroes[BDRV_SECTOR_SIZE];
    int64_t length = file_fd_length(fd);
    int ret;

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the device size");
        return length;
    }
    if (opts->has_nocow || opts->has_extent_size_hint) {
        error_setg(errp, "The option '%s' is only for files, not for devices",
                   opts->has_nocow ? "nocow" : "extent_size_hint");
        return -EINVAL;
    }
    if (wanted_prealloc(opts) != PREALLOC_MODE_OFF) {
        error_setg(errp, "Unsupported preallocation mode '%s'",
                   PreallocMode_str(wanted_prealloc(opts)));
        return -ENOTSUP;
    }
    if (wanted_size(opts) > length) {
        error_setg(errp, "Cannot grow device files");
        return -EINVAL;
    }
    ret = lock_for_create(fd, path, errp);
    if (ret < 0) {
        return ret;
    }
    /* What was in there must not be taken for the format of the new image. */
    if (length >= (int64_t)sizeof(zeroes) &&
        qemu_pwrite_full(fd, zeroes, sizeof(zeroes), 0) != sizeof(zeroes)) {
        ret = -errno;
        error_setg_errno(errp, -ret, "Could not clear the start of '%s'",
                         path);
        return ret;
    }
    return 0;
}

int host_device_create(const char *filename, QDict *options, Error **errp)
{
    CreateOptionsFile *opts = parse_options(options, errp);
    const char *path = filename;
    int fd, ret;

    if (!opts) {
        return -EINVAL;
    }
    if (g_str_has_prefix(path, "host_device:")) {
        path += strlen("host_device:");
    }
    fd = qemu_open(path, O_RDWR, errp);
    if (fd < 0) {
        ret = -errno;
    } else {
        ret = reuse_device(fd, path, opts, errp);
        qemu_close(fd);
    }
    qapi_free_CreateOptionsFile(opts);
    return ret;
}
