#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw
"""The daemon tells its service manager when it is ready and when it ends."""
import os
import re
import signal
import socket

import iotests


class Notify(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.settimeout(30)
        self.manager.bind(self.path('notify'))
        os.environ['NOTIFY_SOCKET'] = self.path('notify')
        self.addCleanup(os.environ.pop, 'NOTIFY_SOCKET')

    def start(self, *args):
        daemon = self.daemon(*args)
        # It is ready before the monitor has answered, or never tells.
        daemon.connect().cmd('query-version')
        try:
            self.manager.settimeout(2)
            state = self.manager.recv(1000).decode()
        except TimeoutError:
            daemon.stop()
            self.skipTest('built without libsystemd')
        self.assertRegex(state, r'^READY=1\nMAINPID=\d+$')
        self.pid = int(re.search(r'\d+$', state)[0])
        return daemon

    def test_service(self):
        daemon = self.start()
        self.assertEqual(self.pid, daemon.process.pid)
        self.assertEqual(daemon.stop(signal.SIGTERM), 0)
        self.assertEqual(self.manager.recv(1000), b'STOPPING=1')

    def test_no_manager(self):
        """A socket that is gone is told about, and no reason to end."""
        self.start().stop()
        self.manager.recv(1000)
        self.manager.close()
        daemon = self.daemon()
        daemon.connect().cmd('query-version')
        self.assertIn('cannot notify the service manager', daemon.output())
        self.assertEqual(daemon.stop(), 0)


if __name__ == '__main__':
    iotests.main()
