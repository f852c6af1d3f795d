/* SPDX-License-Identifier: GPL-2.0-or-later */
/* File descriptors, file locks, aligned memory, byte order. */
#include "util/osdep.h"
#include <sys/wait.h>
#include "util/bswap.h"
#include "util/fd.h"
#include "util/fdset.h"
#include "util/filelock.h"

static char *tmp_path(void)
{
    g_autoptr(GError) gerr = NULL;
    char *path = NULL;
    int fd = g_file_open_tmp("test-fd-XXXXXX", &path, &gerr);

    g_assert_no_error(gerr);
    close(fd);
    return path;
}

static void test_open(void)
{
    g_autofree char *path = tmp_path();
    g_autofree char *want = NULL;
    g_autoptr(Error) err = NULL;
    int fd = qemu_open(path, O_RDWR, &error_abort);

    g_assert_cmpint(fcntl(fd, F_GETFD) & FD_CLOEXEC, !=, 0);
    g_assert_cmpint(qemu_fdatasync(fd), ==, 0);
    g_assert_cmpint(qemu_close(fd), ==, 0);
    g_assert_cmpint(qemu_close(fd), ==, -1);

    unlink(path);
    g_assert_cmpint(qemu_open(path, O_RDWR, &err), ==, -1);
    g_assert_cmpint(errno, ==, ENOENT);
    want = g_strdup_printf("Could not open '%s': No such file or directory",
                           path);
    g_assert_cmpstr(error_get_pretty(err), ==, want);

    fd = qemu_create(path, O_WRONLY | O_EXCL, 0600, &error_abort);
    g_assert_cmpint(qemu_close(fd), ==, 0);
    g_assert_cmpint(qemu_create(path, O_WRONLY | O_EXCL, 0600, NULL), ==, -1);
    g_assert_cmpint(errno, ==, EEXIST);
    unlink(path);
}

static void test_full(void)
{
    g_autofree char *path = tmp_path();
    int fd = qemu_open(path, O_RDWR, &error_abort);
    char buf[8] = "";

    unlink(path);
    g_assert_cmpint(qemu_write_full(fd, "abcdef", 6), ==, 6);
    g_assert_cmpint(qemu_pwrite_full(fd, "X", 1, 2), ==, 1);
    g_assert_cmpint(lseek(fd, 1, SEEK_SET), ==, 1);
    errno = EIO;
    g_assert_cmpint(qemu_read_full(fd, buf, 8), ==, 5);
    g_assert_cmpint(errno, ==, 0);
    g_assert_cmpmem(buf, 5, "bXdef", 5);
    g_assert_cmpint(qemu_pread_full(fd, buf, 2, 4), ==, 2);
    g_assert_cmpmem(buf, 2, "ef", 2);
    g_assert_cmpint(qemu_pread_full(fd, buf, 2, 5), ==, 1);
    qemu_close(fd);
    g_assert_cmpint(qemu_write_full(fd, "a", 1), ==, 0);
    g_assert_cmpint(errno, ==, EBADF);
}

/* More than a pipe takes at once: both sides see short transfers. */
static gpointer pipe_writer(gpointer opaque)
{
    int fd = GPOINTER_TO_INT(opaque);
    size_t len = 1 << 20;
    g_autofree char *buf = g_malloc(len);

    memset(buf, 'p', len);
    g_assert_cmpint(qemu_write_full(fd, buf, len), ==, len);
    close(fd);
    return NULL;
}

static void test_pipe(void)
{
    size_t len = 1 << 20;
    g_autofree char *buf = g_malloc0(len);
    GThread *thread;
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    thread = g_thread_new("writer", pipe_writer, GINT_TO_POINTER(fds[1]));
    g_assert_cmpint(qemu_read_full(fds[0], buf, len), ==, len);
    for (size_t i = 0; i < len; i++) {
        g_assert_cmpint(buf[i], ==, 'p');
    }
    g_assert_cmpint(qemu_fd_set_nonblock(fds[0], true), ==, 0);
    g_assert_cmpint(fcntl(fds[0], F_GETFL) & O_NONBLOCK, !=, 0);
    g_assert_cmpint(qemu_fd_set_nonblock(fds[0], false), ==, 0);
    g_assert_cmpint(fcntl(fds[0], F_GETFL) & O_NONBLOCK, ==, 0);
    g_thread_join(thread);
    close(fds[0]);
}

/* Two descriptions of one file exclude each other inside one process, too. */
static void test_lock(void)
{
    g_autofree char *path = tmp_path();
    int a, b, c;

    if (!qemu_has_ofd_lock()) {
        g_test_skip("the kernel has no OFD locks");
        return;
    }
    a = qemu_open(path, O_RDWR, &error_abort);
    b = qemu_open(path, O_RDWR, &error_abort);
    c = qemu_open(path, O_RDWR, &error_abort);
    unlink(path);

    g_assert_cmpint(qemu_lock_fd(a, 100, 1, false), ==, 0);
    g_assert_cmpint(qemu_lock_fd_test(b, 100, 1, false), ==, 0);
    g_assert_cmpint(qemu_lock_fd_test(b, 100, 1, true), ==, -EAGAIN);
    g_assert_cmpint(qemu_lock_fd_test(b, 101, 1, true), ==, 0);
    g_assert_cmpint(qemu_lock_fd(b, 100, 1, true), ==, -EAGAIN);
    g_assert_cmpint(qemu_lock_fd(b, 100, 1, false), ==, 0);

    /* The test asks about others only. */
    g_assert_cmpint(qemu_unlock_fd(b, 100, 1), ==, 0);
    g_assert_cmpint(qemu_lock_fd_test(a, 100, 1, true), ==, 0);

    /* Converting, and a range up to the end. */
    g_assert_cmpint(qemu_lock_fd(a, 100, 0, true), ==, 0);
    g_assert_cmpint(qemu_lock_fd(b, 1LL << 40, 1, false), ==, -EAGAIN);
    g_assert_cmpint(qemu_lock_fd(b, 99, 1, false), ==, 0);

    /* Closing another descriptor of the file loses nothing. */
    close(c);
    g_assert_cmpint(qemu_lock_fd_test(b, 100, 1, true), ==, -EAGAIN);
    close(a);
    g_assert_cmpint(qemu_lock_fd(b, 100, 0, true), ==, 0);
    close(b);
    g_assert_cmpint(qemu_lock_fd(b, 100, 1, true), ==, -EBADF);
}

static void test_memalign(void)
{
    for (size_t align = 1; align <= 1 << 16; align *= 2) {
        QEMU_AUTO_VFREE void *p = qemu_memalign(align, align + 3);
        void *empty = qemu_memalign(align, 0);

        g_assert_cmpuint((uintptr_t)p % align, ==, 0);
        memset(p, 0x55, align + 3);
        g_assert_nonnull(empty);
        qemu_vfree(empty);
    }
    qemu_vfree(NULL);
    g_assert_cmpuint(qemu_real_host_page_size(), ==,
                     (size_t)sysconf(_SC_PAGESIZE));
}

static void test_bswap(void)
{
    unsigned char buf[9] = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
    uint32_t v;

    g_assert_cmphex(lduw_be_p(buf + 1), ==, 0x0102);
    g_assert_cmphex(lduw_le_p(buf + 1), ==, 0x0201);
    g_assert_cmphex(ldl_be_p(buf + 1), ==, 0x01020304);
    g_assert_cmphex(ldl_le_p(buf + 1), ==, 0x04030201);
    g_assert_cmphex(ldq_be_p(buf + 1), ==, 0x0102030405060708);
    g_assert_cmphex(ldq_le_p(buf + 1), ==, 0x0807060504030201);
    g_assert_cmphex(ldub_p(buf + 8), ==, 8);

    stq_be_p(buf + 1, 0x1122334455667788);
    g_assert_cmphex(buf[1], ==, 0x11);
    g_assert_cmphex(ldq_le_p(buf + 1), ==, 0x8877665544332211);
    stw_le_p(buf + 3, 0xaabb);
    g_assert_cmphex(buf[3], ==, 0xbb);
    stl_be_p(buf + 5, 0xa1b2c3d4);
    g_assert_cmphex(ldl_be_p(buf + 5), ==, 0xa1b2c3d4);
    g_assert_cmphex(buf[0], ==, 0);
    stb_p(buf, 9);
    g_assert_cmphex(buf[0], ==, 9);

    v = cpu_to_be32(0x01020304);
    g_assert_cmpmem(&v, 4, "\1\2\3\4", 4);
    be32_to_cpus(&v);
    g_assert_cmphex(v, ==, 0x01020304);
    cpu_to_le32s(&v);
    g_assert_cmpmem(&v, 4, "\4\3\2\1", 4);
    g_assert_cmphex(le32_to_cpu(v), ==, 0x01020304);
    g_assert_cmphex(be16_to_cpu(cpu_to_be16(0x1234)), ==, 0x1234);
    g_assert_cmphex(bswap64(0x1122334455667788), ==, 0x8877665544332211);
}

/* --- sets --- */

static void test_set_names(void)
{
    int64_t id = -1;

    g_assert_true(fdset_parse_name("/dev/fdset/0", &id));
    g_assert_cmpint(id, ==, 0);
    g_assert_true(fdset_parse_name("/dev/fdset/9223372036854775807", &id));
    g_assert_cmpint(id, ==, INT64_MAX);
    for (const char *const *p = (const char *const []) {
             "/dev/fdset/", "/dev/fdset", "/dev/fdset/-1", "/dev/fdset/1x",
             "/dev/fdset/0x1", "/dev/fdset/9223372036854775808", "dev/fdset/1",
             "/dev/fd/1", "", NULL }; *p; p++) {
        g_assert_false(fdset_parse_name(*p, &id));
    }
}

static int add(int64_t set, const char *path, int flags)
{
    return fdset_add(set, open(path, flags | O_CLOEXEC), NULL)->fd;
}

static void test_set_members(void)
{
    g_autofree char *path = tmp_path();
    int a = add(-1, path, O_RDWR), b = add(1, path, O_RDONLY);
    int c = add(-1, path, O_RDWR), d = add(0, path, O_WRONLY);
    static const int64_t sets[] = { 0, 0, 1, 2 };
    const int fds[] = { a, d, b, c };
    int n = 0;

    for (const FdsetMember *m = fdset_next(NULL); m; m = fdset_next(m), n++) {
        g_assert_cmpint(n, <, 4);
        g_assert_cmpint(m->set, ==, sets[n]);
        g_assert_cmpint(m->fd, ==, fds[n]);
        g_assert_cmpint(m->used_as, ==, -1);
    }
    g_assert_cmpint(n, ==, 4);
    g_assert_false(fdset_remove(3, -1));
    g_assert_false(fdset_remove(0, b));
    g_assert_true(fdset_remove(0, a));
    g_assert_true(fdset_remove(2, -1));
    g_assert_cmpint(fcntl(a, F_GETFD), ==, -1);
    fdset_remove_unused();
    g_assert_null(fdset_next(NULL));
    unlink(path);
}

static void test_set_open(void)
{
    g_autofree char *path = tmp_path();
    int rw, ro, again;

    g_assert_cmpint(fdset_open(5, O_RDWR), ==, -ENOENT);
    add(5, path, O_RDWR | O_APPEND);
    g_assert_cmpint(fdset_open(5, O_RDONLY), ==, -EACCES);
    g_assert_cmpint(fdset_open(4, O_RDWR), ==, -ENOENT);
    add(5, path, O_RDONLY);
    rw = qemu_open("/dev/fdset/5", O_RDWR, &error_abort);
    g_assert_cmpint(fcntl(rw, F_GETFD) & FD_CLOEXEC, !=, 0);
    g_assert_cmpint(fcntl(rw, F_GETFL) & (O_ACCMODE | O_APPEND), ==, O_RDWR);
    ro = fdset_open(5, O_RDONLY);
    g_assert_cmpint(ro, >=, 0);
    g_assert_cmpint(qemu_close(rw), ==, 0);
    again = fdset_open(5, O_RDWR);
    g_assert_cmpint(again, >=, 0);
    qemu_close(again);
    /* It is in use, if only one member of it. */
    fdset_remove_unused();
    g_assert_nonnull(fdset_next(NULL));
    qemu_close(ro);
    fdset_remove_unused();
    g_assert_null(fdset_next(NULL));
    unlink(path);
}

/* In a process that may not open what was passed to it. */
static int open_without_privileges(const char *name)
{
    pid_t pid = fork();
    int status;

    g_assert_cmpint(pid, >=, 0);
    if (!pid) {
        if (!geteuid() && setuid(65534) < 0) {
            _exit(255);
        }
        _exit(qemu_open(name, O_RDWR, NULL) < 0 ? errno : 0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* All that have the mode are in use: each user has locks of its own. */
static void test_set_in_use(void)
{
    g_autofree char *path = tmp_path();
    int first, second;

    add(6, path, O_RDWR);
    g_assert_cmpint(chmod(path, 0), ==, 0);
    g_assert_cmpint(open_without_privileges("/dev/fdset/6"), ==, 0);
    first = fdset_open(6, O_RDWR);
    g_assert_cmpint(first, >=, 0);
    g_assert_cmpint(open_without_privileges("/dev/fdset/6"), ==, EBUSY);
    g_assert_cmpint(chmod(path, 0600), ==, 0);
    second = qemu_open("/dev/fdset/6", O_RDWR, &error_abort);
    g_assert_cmpint(fcntl(second, F_GETFD) & FD_CLOEXEC, !=, 0);
    g_assert_cmpint(fcntl(second, F_GETFL) & O_ACCMODE, ==, O_RDWR);
    g_assert_cmpint(qemu_lock_fd(first, 100, 1, true), ==, 0);
    g_assert_cmpint(qemu_lock_fd_test(second, 100, 1, true), ==, -EAGAIN);
    g_assert_cmpint(fdset_open(6, O_RDONLY), ==, -EACCES);
    g_assert_cmpint(qemu_close(second), ==, 0);
    g_assert_cmpint(qemu_close(first), ==, 0);
    g_assert_true(fdset_remove(6, -1));
    unlink(path);
}

/* Nobody waits for the other end of a FIFO. */
static void test_set_fifo(void)
{
    g_autofree char *path = tmp_path();
    int first, second;

    unlink(path);
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    add(8, path, O_RDONLY | O_NONBLOCK);
    first = fdset_open(8, O_RDONLY);
    g_assert_cmpint(first, >=, 0);
    second = fdset_open(8, O_RDONLY);
    g_assert_cmpint(second, >=, 0);
    g_assert_cmpint(fcntl(second, F_GETFL) & O_NONBLOCK, ==, 0);
    qemu_close(second);
    qemu_close(first);
    g_assert_true(fdset_remove(8, -1));
    unlink(path);
}

/* Locks of a duplicate go with it, and no others. */
static void test_set_locks(void)
{
    for (int removed = 0; removed < 2; removed++) {
        g_autofree char *path = tmp_path();
        int other = open(path, O_RDWR | O_CLOEXEC);
        int mine = open(path, O_RDWR | O_CLOEXEC), fd;

        fdset_add(7, fcntl(mine, F_DUPFD_CLOEXEC, 0), NULL);
        g_assert_cmpint(qemu_lock_fd(mine, 0, 1, false), ==, 0);
        fd = fdset_open(7, O_RDWR);
        g_assert_cmpint(qemu_lock_fd(fd, 100, 2, false), ==, 0);
        g_assert_cmpint(qemu_lock_fd(fd, 203, 1, false), ==, 0);
        if (removed) {
            g_assert_true(fdset_remove(7, -1));
        }
        g_assert_cmpint(qemu_lock_fd_test(other, 100, 1, true), ==, -EAGAIN);
        g_assert_cmpint(qemu_close(fd), ==, 0);
        g_assert_cmpint(qemu_lock_fd_test(other, 100, 200, true), ==, 0);
        g_assert_cmpint(qemu_lock_fd_test(other, 0, 1, true), ==, -EAGAIN);
        fdset_remove_unused();
        close(mine);
        close(other);
        unlink(path);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fd/open", test_open);
    g_test_add_func("/fd/full", test_full);
    g_test_add_func("/fd/pipe", test_pipe);
    g_test_add_func("/fd/lock", test_lock);
    g_test_add_func("/fd/memalign", test_memalign);
    g_test_add_func("/fd/bswap", test_bswap);
    g_test_add_func("/fd/set/names", test_set_names);
    g_test_add_func("/fd/set/members", test_set_members);
    g_test_add_func("/fd/set/open", test_set_open);
    g_test_add_func("/fd/set/in-use", test_set_in_use);
    g_test_add_func("/fd/set/fifo", test_set_fifo);
    g_test_add_func("/fd/set/locks", test_set_locks);
    return g_test_run();
}
