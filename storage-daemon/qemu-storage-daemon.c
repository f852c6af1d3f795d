/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-storage-daemon: the block layer as a service. Nodes, objects, monitors
 * and exports come from the command line and over QMP.
 *
 * At the end things go in the order in which they depend on each other: exports
 * and servers first, so that no client writes any more; then jobs, which are
 * cancelled; then nodes, which are flushed; then monitors, which tell of all that;
 * then character devices and objects.
 */
#include "util/osdep.h"
#include "daemon.h"
#include "block/block.h"
#include "block/export.h"
#include "block/job.h"
#include "block/nbd-server.h"
#include "blockdev/blockdev.h"
#include "chardev/char.h"
#include "monitor/monitor.h"
#include "objects/object.h"
#include "qapi/qapi-commands.h"
#include "sockets/sockets.h"
#include "util/aio.h"

void qmp_quit(Error **errp)
{
    daemon_request_exit();
}

static void shut_down(void)
{
    blk_exp_close_all();
    nbd_server_stop();
    job_cancel_sync_all();
    bdrv_drain_all();
    bdrv_close_all();
    monitor_cleanup();
    chardev_free_all();
    user_object_del_all();
}

int main(int argc, char **argv)
{
    DaemonOptions options = { 0 };
    Error *err = NULL;

    error_init(argv[0]);
    daemon_options_early(&options, argc, argv);
    if (options.daemonize) {
        daemon_background();
    }
    if (qemu_init_main_loop(&err) < 0) {
        error_report_err(err);
        return 1;
    }
    daemon_signals();
    bdrv_init();
    blockdev_init();
    monitor_init(qmp_commands);
    socket_set_fd_source(monitor_named_fd);
    daemon_options_run(argc, argv);

    if (options.pidfile && !daemon_pidfile(options.pidfile, &err)) {
        error_report_err(err);
        return 1;
    }
    daemon_started();
    daemon_notify_ready();
    daemon_main_loop();
    daemon_notify_stopping();
    shut_down();
    daemon_pidfile_remove();
    return 0;
}
