/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What systemd is told about the daemon, if it was started by it as a service of
 * type "notify" and the build has libsystemd. Without a service manager nothing
 * happens.
 */
#include "util/osdep.h"
#include "daemon.h"
#ifdef CONFIG_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#ifdef CONFIG_LIBSYSTEMD
static void notify(const char *state)
{
    int ret = sd_notify(0, state);

    /* The service manager will give up on us; whoever looks finds why. */
    if (ret < 0) {
        warn_report("cannot notify the service manager: %s", strerror(-ret));
    }
}
#endif

void daemon_notify_ready(void)
{
#ifdef CONFIG_LIBSYSTEMD
    /* With --daemonize it was another process that was started. */
    g_autofree char *state = g_strdup_printf("READY=1\nMAINPID=%jd",
                                             (intmax_t)getpid());

    notify(state);
#endif
}

void daemon_notify_stopping(void)
{
#ifdef CONFIG_LIBSYSTEMD
    notify("STOPPING=1");
#endif
}
