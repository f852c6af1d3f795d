/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs qemu-img and qemu-io many times, fast: each command in a child that is
 * forked, not executed, with its own limits of time and memory.
 *
 * A request is one line on stdin: SECONDS, "qemu-img" or "qemu-io", and the
 * arguments, all separated by tabs. The answer on stdout is a line
 *
 *     EXIT SIGNAL MAXRSS-KiB CPU-MICROSECONDS STDOUT-BYTES STDERR-BYTES
 *
 * (EXIT is -1 after a signal; SIGXCPU: it used more processor time than SECONDS,
 * SIGALRM: it hangs), then what the command wrote to its stdout and stderr.
 *
 * The parent never uses the block layer, so it has no threads, and each child
 * starts as a fresh process would.
 */
#include "util/osdep.h"
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* The programs' main(), under other names. */
int qemu_img_main(int argc, char **argv);
int qemu_io_main(int argc, char **argv);

/* More output than this is dropped. */
#define MAX_OUTPUT (16 << 20)

/* On a busy machine a command takes this many times its processor time. */
#define MAX_SLOWDOWN 6

/* Allocations beyond this are a bug, whether the memory is touched or not.
 * Sanitizers reserve terabytes for themselves. */
#define MAX_ADDRESS_SPACE (4ULL << 30)

static void set_limits(unsigned seconds)
{
    struct rlimit cpu = { seconds, seconds + 1 };
    struct rlimit core = { 0, 0 };

    setrlimit(RLIMIT_CORE, &core);
    setrlimit(RLIMIT_CPU, &cpu);
#ifndef RUNNER_SANITIZED
    struct rlimit as = { MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE };

    setrlimit(RLIMIT_AS, &as);
#endif
    alarm(seconds * MAX_SLOWDOWN);
}

static QEMU_NORETURN void run_child(char **argv, int out, int err)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int argc = g_strv_length(argv) - 1;

    if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0) {
        _exit(126);
    }
    close(out);
    close(err);
    set_limits(atoi(argv[0]));
    argv++;
    exit(!strcmp(argv[0], "qemu-io") ? qemu_io_main(argc, argv)
                                     : qemu_img_main(argc, argv));
}

/* False at the end. */
static bool read_some(int fd, GByteArray *to)
{
    uint8_t buf[65536];
    ssize_t n = read(fd, buf, sizeof(buf));

    if (n < 0 && errno == EINTR) {
        return true;
    }
    if (n > 0 && to->len < MAX_OUTPUT) {
        g_byte_array_append(to, buf, n);
    }
    return n > 0;
}

static void collect(int out, int err, GByteArray *out_bytes,
                    GByteArray *err_bytes)
{
    struct pollfd fds[] = { { out, POLLIN, 0 }, { err, POLLIN, 0 } };
    GByteArray *to[] = { out_bytes, err_bytes };

    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        if (poll(fds, 2, -1) < 0) {
            continue;
        }
        for (int i = 0; i < 2; i++) {
            if (fds[i].fd >= 0 && fds[i].revents && !read_some(fds[i].fd,
                                                               to[i])) {
                fds[i].fd = -1;
            }
        }
    }
}

/* An array that never had bytes has no address. */
static void print_bytes(const GByteArray *bytes)
{
    if (bytes->len) {
        fwrite(bytes->data, 1, bytes->len, stdout);
    }
}

static void answer(int status, const struct rusage *usage,
                   const GByteArray *out, const GByteArray *err)
{
    int64_t cpu = (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) *
                  1000000LL + usage->ru_utime.tv_usec +
                  usage->ru_stime.tv_usec;

    printf("%d %d %ld %" PRId64 " %u %u\n",
           WIFEXITED(status) ? WEXITSTATUS(status) : -1,
           WIFSIGNALED(status) ? WTERMSIG(status) : 0,
           usage->ru_maxrss, cpu, out->len, err->len);
    print_bytes(out);
    print_bytes(err);
    fflush(stdout);
}

static bool run(char **argv)
{
    GByteArray *out_bytes = g_byte_array_new();
    GByteArray *err_bytes = g_byte_array_new();
    int out[2], err[2], status;
    struct rusage usage;
    pid_t pid, waited;

    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 ||
        (pid = fork()) < 0) {
        perror("hostile runner");
        return false;
    }
    if (pid == 0) {
        run_child(argv, out[1], err[1]);
    }
    close(out[1]);
    close(err[1]);
    collect(out[0], err[0], out_bytes, err_bytes);
    close(out[0]);
    close(err[0]);
    do {
        waited = wait4(pid, &status, 0, &usage);
    } while (waited < 0 && errno == EINTR);
    if (waited == pid) {
        answer(status, &usage, out_bytes, err_bytes);
    }
    g_byte_array_free(out_bytes, TRUE);
    g_byte_array_free(err_bytes, TRUE);
    return waited == pid;
}

int main(void)
{
    g_autofree char *line = NULL;
    size_t size = 0;
    ssize_t len;

    while ((len = getline(&line, &size, stdin)) > 0) {
        g_auto(GStrv) argv = NULL;

        if (line[len - 1] == '\n') {
            line[len - 1] = '\0';
        }
        argv = g_strsplit(line, "\t", -1);
        if (g_strv_length(argv) < 2 || !run(argv)) {
            fprintf(stderr, "hostile runner: bad request '%s'\n", line);
            return 1;
        }
    }
    return 0;
}
