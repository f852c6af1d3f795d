/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of qemu-storage-daemon; process.c serves qemu-nbd too. Main thread. */
#ifndef STORAGE_DAEMON_DAEMON_H
#define STORAGE_DAEMON_DAEMON_H

#include "util/osdep.h"
#include "util/error.h"

/* --- options.c --- */

/*
 * The first pass over the command line: what must be known before anything is
 * set up. Prints help or the version and exits if asked; exits with 1 on an
 * option it does not know.
 */
typedef struct DaemonOptions {
    bool daemonize;
    const char *pidfile;        /* borrowed; NULL: none */
} DaemonOptions;
void daemon_options_early(DaemonOptions *o, int argc, char **argv);
/* The second pass: sets up, in order. Exits with 1 on a failure. */
void daemon_options_run(int argc, char **argv);

/* --- process.c --- */

/*
 * Goes to the background: returns in the child only. The parent waits for
 * daemon_started() and exits with 0, or with 1 if the child ends before. Before
 * there are threads.
 */
void daemon_background(void);
void daemon_started(void);

/* Makes, locks and fills the file; it goes at the end of the program. */
bool daemon_pidfile(const char *path, Error **errp);
void daemon_pidfile_remove(void);

/* --- notify.c --- */

/* Tells the service manager, if there is one, that clients may come; and that the
 * end has begun. */
void daemon_notify_ready(void);
void daemon_notify_stopping(void);

/* --- process.c --- */

/* SIGINT, SIGHUP and SIGTERM ask for the end of the program. */
void daemon_signals(void);

/* Asks for the end of the program; from commands. */
void daemon_request_exit(void);
/* Polls the main loop until somebody has asked. */
void daemon_main_loop(void);

#endif
