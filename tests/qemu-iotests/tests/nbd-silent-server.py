#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""A node on an NBD server that does not answer any more: exports of it and the
daemon end all the same, and soon."""
import os
import signal
import socket
import time

import iotests
from iotests import nbd, tools
from iotests.nbd_server import ALL, MULTI, NBDServer
from iotests.qmp import Daemon

# Ten seconds, and two more for each connection that is made again; of a machine
# that may be busy.
LIMIT = 40


class Set:
    """A server, a daemon with a node on it that it exports, and a client."""

    def __init__(self, test, name, answer=None, flags=ALL, **options):
        self.dir = test.path(name)
        os.mkdir(self.dir)
        self.silent = False
        self.server = NBDServer(os.path.join(self.dir, 's'), flags=flags,
                                answer=answer or self.answer)
        test.addCleanup(self.server.close)
        more = ''.join(f',{k.replace("_", "-")}={v}'
                       for k, v in options.items())
        self.daemon = Daemon(
            tools.qsd(), '--object', 'iothread,id=t', '--blockdev',
            f'nbd,node-name=n,server.type=unix,server.path=s{more}',
            '--nbd-server', 'addr.type=unix,addr.path=out', '--export',
            'nbd,id=e,node-name=n,writable=on,iothread=t', cwd=self.dir)
        test.addCleanup(self.daemon.kill)
        self.qmp = self.daemon.connect()
        nbd.wait_for(lambda: self.qmp.cmd('query-block-exports'))
        self.client = nbd.NBDClient(os.path.join(self.dir, 'out'))
        test.addCleanup(self.client.close)
        self.client.go('n')
        self.client.pwrite(0, b'x' * 512)

    def answer(self, connection, req):
        if not self.silent:
            connection.answer(req)

    def requests(self, number=4):
        """Some that are under way."""
        seen = len(self.server.requests)
        for n in range(number // 2):
            self.client.send(nbd.READ, n * 512, 512)
            self.client.send(nbd.WRITE, n * 512, 512, data=b'y' * 512)
        nbd.wait_for(lambda: len(self.server.requests) >= seen + number)

    def fall_silent(self):
        self.silent = True
        self.requests()
        return self


class NbdSilentServer(iotests.TestCase):
    def ends(self, test_set, output=''):
        self.assertEqual(test_set.daemon.wait(), 0)
        self.assertRegex(test_set.daemon.output(), output)

    def deleted(self, test_set):
        test_set.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.assertEqual(test_set.qmp.cmd('query-block-exports'), [])
        self.assertTrue(test_set.client.is_gone())

    def begin(self, name, **options):
        """Those that go wait for their servers at the same time."""
        return Set(self, name, **options).fall_silent()

    def test_all_ends(self):
        export = self.begin('export')
        again = self.begin('again', reconnect_delay=1000)
        multi = self.begin('multi', flags=ALL | MULTI)
        multi.requests(40)
        nbd.wait_for(lambda: multi.server.accepted > 1)
        deleted = [export, again, multi]
        ended = [self.begin('term'), self.begin('term2', reconnect_delay=1000)]
        leave, command = self.begin('quit'), self.begin('command')
        # It drains the node, and nothing else runs meanwhile.
        command.qmp.send({'execute': 'blockdev-reopen', 'arguments': {
            'options': [{'driver': 'nbd', 'node-name': 'n', 'server': {
                'type': 'unix', 'path': 's'}}]}})
        slow = [self.slow_writes(), self.slow_flush()]
        begin = time.monotonic()
        for s in deleted + slow[:1]:
            s.qmp.cmd('block-export-del', id='e', mode='hard')
        self.assertIsNone(command.daemon.process.poll())
        for s in ended + [command, slow[1]]:
            s.daemon.process.send_signal(signal.SIGTERM)
        leave.qmp.cmd('quit')
        for s in deleted:
            self.deleted(s)
        for s in ended + [leave, command]:
            self.ends(s, 'Failed to flush')
        self.assertLess(time.monotonic() - begin, LIMIT)
        self.deleted(slow[0])
        self.assertEqual(slow[0].server.disk[:6 * 512], b'z' * 6 * 512)
        self.ends(slow[1], '^$')
        for s in slow:
            self.assertEqual(s.server.accepted, 1)
        self.used_again(export)

    def slow_writes(self):
        """What takes long, but goes on, is not cut off."""
        def answer(connection, req):
            if req.data[:1] == b'z':
                time.sleep(2)
            connection.answer(req)

        s = Set(self, 'slow', answer=answer)
        for n in range(6):
            s.client.send(nbd.WRITE, n * 512, 512, data=b'z' * 512)
        nbd.wait_for(lambda: len(s.server.requests) > 1)
        return s

    def slow_flush(self):
        def answer(connection, req):
            if req.type == nbd.FLUSH:
                time.sleep(12)
            connection.answer(req)

        return Set(self, 'flush', answer=answer)

    def used_again(self, s):
        """The daemon goes on, and so does the node, as soon as there is somebody
        who talks."""
        s.silent = False
        s.qmp.cmd('block-export-add', {
            'type': 'nbd', 'id': 'e', 'node-name': 'n', 'writable': True})
        client = nbd.NBDClient(os.path.join(s.dir, 'out'))
        self.addCleanup(client.close)
        client.go('n')
        self.assertEqual(client.pread(0, 512), b'x' * 512)

    def test_servers_that_do_not_greet(self):
        """The daemon ends while a node is opened."""
        silent = socket.socket(socket.AF_UNIX)
        self.addCleanup(silent.close)
        silent.bind(self.path('silent'))
        silent.listen(16)
        full = socket.socket(socket.AF_UNIX)
        self.addCleanup(full.close)
        full.bind(self.path('full'))
        full.listen(0)
        for _ in range(4):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.setblocking(False)
            try:
                client.connect(self.path('full'))
            except BlockingIOError:
                pass
        daemons = []
        for name in 'silent', 'full', 'nobody':
            os.mkdir(self.path(f'd-{name}'))
            options = {'driver': 'nbd', 'node-name': 'n', 'open-timeout': 1000,
                       'server': {'type': 'unix', 'path': self.path(name)}}
            daemon = Daemon(tools.qsd(), cwd=self.path(f'd-{name}'))
            self.addCleanup(daemon.kill)
            daemon.connect().send({'execute': 'blockdev-add',
                                   'arguments': options})
            daemons.append(daemon)
        time.sleep(.5)
        begin = time.monotonic()
        for daemon in daemons:
            self.assertIsNone(daemon.process.poll())
            daemon.process.send_signal(signal.SIGTERM)
        for daemon in daemons:
            self.assertEqual(daemon.wait(), 0)
        self.assertLess(time.monotonic() - begin, 10)


if iotests.LONG:
    class NbdDribble(iotests.TestCase):
        """A byte now and then does not keep anybody for good."""

        def test_dribble(self):
            def answer(connection, req):
                if req.type == nbd.READ:
                    while True:
                        connection.send(b'x')
                        time.sleep(1)
                connection.answer(req)

            s = Set(self, 'd', answer=answer)
            s.client.send(nbd.READ, 0, 512)
            s.qmp.cmd('block-export-del', id='e', mode='hard')
            s.qmp.event('BLOCK_EXPORT_DELETED', id='e', timeout=90)


if __name__ == '__main__':
    iotests.main()
