/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A daemon as a process: background, pid file, signals, its end. */
#include "util/osdep.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include "storage-daemon/daemon.h"
#include "block/block.h"
#include "util/aio.h"
#include "util/fd.h"
#include "util/filelock.h"

/* --- background --- */

/* The child tells by a byte that it is ready; an end of file says that it is
 * gone. */
static int started_fd = -1;

static G_GNUC_NORETURN void wait_for_child(pid_t pid, int fd)
{
    char byte;
    ssize_t n = RETRY_ON_EINTR(read(fd, &byte, 1));

    if (n == 1) {
        _exit(0);
    }
    RETRY_ON_EINTR(waitpid(pid, NULL, 0));
    _exit(1);
}

void daemon_background(void)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        error_report("cannot create pipe: %s", strerror(errno));
        exit(1);
    }
    pid = fork();
    if (pid < 0) {
        error_report("cannot fork: %s", strerror(errno));
        exit(1);
    }
    if (pid > 0) {
        close(fds[1]);
        wait_for_child(pid, fds[0]);
    }
    close(fds[0]);
    started_fd = fds[1];
    setsid();
    /* Standard streams stay until the start is over: errors go there. */
}

static void detach_streams(void)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null_fd >= 0) {
        for (int fd = 0; fd <= 2; fd++) {
            dup2(null_fd, fd);
        }
        if (null_fd > 2) {
            close(null_fd);
        }
    }
}

void daemon_started(void)
{
    char byte = 0;

    if (started_fd < 0) {
        return;
    }
    if (chdir("/") < 0) {
        error_report("not able to chdir to /: %s", strerror(errno));
        exit(1);
    }
    detach_streams();
    RETRY_ON_EINTR(write(started_fd, &byte, 1));
    close(started_fd);
    started_fd = -1;
}

/* --- pid file --- */

static char *pidfile_path;
static int pidfile_fd = -1;     /* its lock lasts as long as it is open */

/* Whether @path still names the file that is open as @fd. */
static bool is_same_file(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && stat(path, &b) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int open_locked(const char *path, Error **errp)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int fd;

    do {
        fd = qemu_create(path, O_RDWR, 0644, errp);
        if (fd < 0) {
            error_prepend(errp, "cannot create PID file: ");
            return -1;
        }
        if (fcntl(fd, F_SETLK, &lock) < 0) {
            error_setg_errno(errp, errno, "cannot create PID file: cannot "
                             "lock '%s'", path);
            close(fd);
            return -1;
        }
        /* Another daemon that ended just then may have removed it. */
        if (is_same_file(fd, path)) {
            return fd;
        }
        close(fd);
    } while (true);
}

bool daemon_pidfile(const char *path, Error **errp)
{
    ERRP_GUARD();
    g_autofree char *text = g_strdup_printf("%jd\n", (intmax_t)getpid());
    int fd = open_locked(path, errp);

    if (fd < 0) {
        return false;
    }
    if (ftruncate(fd, 0) < 0 ||
        qemu_write_full(fd, text, strlen(text)) != strlen(text)) {
        error_setg_errno(errp, errno, "cannot create PID file: cannot write "
                         "'%s'", path);
        unlink(path);
        close(fd);
        return false;
    }
    pidfile_fd = fd;
    /* The background process leaves its directory. */
    pidfile_path = g_canonicalize_filename(path, NULL);
    return true;
}

void daemon_pidfile_remove(void)
{
    if (pidfile_fd >= 0) {
        unlink(pidfile_path);
        close(pidfile_fd);
        g_free(pidfile_path);
    }
}

/* --- the end --- */

static bool exit_requested;
static int signal_fd = -1;

/* What waits for a server that is gone does not keep the daemon. */
static void hurry(void *opaque)
{
    static QEMUTimer timer;

    if (!opaque) {
        aio_timer_init(qemu_get_aio_context(), &timer, QEMU_CLOCK_REALTIME,
                       SCALE_NS, hurry, &timer);
    }
    bdrv_hurry_all();
    timer_mod_ns(&timer, get_clock() + NANOSECONDS_PER_SECOND);
}

void daemon_request_exit(void)
{
    if (!exit_requested) {
        exit_requested = true;
        /* From now on: it may be a command that waits. */
        hurry(NULL);
    }
    aio_notify(qemu_get_aio_context());
}

static void signal_arrived(void *opaque)
{
    struct signalfd_siginfo info;

    if (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
        daemon_request_exit();
    }
}

void daemon_signals(void)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    /* Threads inherit this, so none of them is interrupted. */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (signal_fd < 0) {
        error_report("cannot wait for signals: %s", strerror(errno));
        exit(1);
    }
    aio_set_fd_handler(qemu_get_aio_context(), signal_fd, signal_arrived,
                       NULL, NULL);
}

void daemon_main_loop(void)
{
    while (!exit_requested) {
        aio_poll(qemu_get_aio_context(), true);
    }
}
