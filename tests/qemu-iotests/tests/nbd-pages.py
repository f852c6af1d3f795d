#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw
"""Large reads of raw images reach local clients of NBD as pages of the page cache:
the right ones, bounded, and never in anybody's way."""
import os
import random

import iotests
from iotests import nbd
from iotests.nbd import NBDClient

KIB = 1024
SIZE = 8 << 20
TAIL = 1000                     # what the file has of one more sector


class NbdPages(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.data = random.randbytes(SIZE + TAIL)
        with open(self.path('a'), 'wb') as f:
            f.write(self.data)
        self.data += bytes(-len(self.data) % 512)
        self.running = self.daemon(
            '--blockdev', 'file,filename=a,node-name=f',
            '--blockdev', 'raw,file=f,node-name=n',
            '--nbd-server', 'addr.type=unix,addr.path=nbd.sock',
            '--export', 'nbd,id=e,node-name=n,writable=on,name=x')
        self.qmp = self.running.connect()

    def tearDown(self):
        client = self.connect()
        self.assertEqual(client.pread(0, 4096), self.expected(0, 4096))
        self.assertEqual(self.running.stop(), 0)

    def connect(self, style=nbd.STRUCTURED, name='x'):
        client = NBDClient(self.path('nbd.sock'))
        self.addCleanup(client.close)
        if style:
            client.agree(style)
        self.assertIsInstance(client.go(name), dict)
        return client

    def expected(self, offset, length):
        return self.data[offset:offset + length]

    def pipes(self):
        """How many ends of pipes the daemon has."""
        where = f'/proc/{self.running.process.pid}/fd'
        found = 0
        for fd in os.listdir(where):
            try:
                found += os.readlink(f'{where}/{fd}').startswith('pipe:')
            except FileNotFoundError:
                pass
        return found

    def check(self, client, offset, length):
        with self.subTest((offset, length)):
            self.assertTrue(client.pread(offset, length) ==
                            self.expected(offset, length))

    def goes_as_pages(self, read):
        """Whether a new client that runs this gets pages: it keeps a pipe."""
        before = self.pipes()
        read(self.connect())
        return self.pipes() > before

    def test_every_range(self):
        lengths = (128 * KIB - 1, 128 * KIB, 256 * KIB, 512 * KIB - 1,
                   512 * KIB, 512 * KIB + 1, 2 << 20)
        for style in (None, nbd.STRUCTURED, nbd.EXTENDED):
            client = self.connect(style)
            for length in lengths:
                for offset in (0, 1, 4095, 65536, 1 << 20,
                               len(self.data) - length,
                               random.randrange(len(self.data) - length)):
                    self.check(client, offset, length)

    def has_pages(self):
        """Whether the file system gives any to anybody."""
        with open(self.path('a'), 'rb') as f:
            ends = os.pipe()
            try:
                return os.splice(f.fileno(), ends[1], 4096, 0) == 4096
            except OSError:
                return False
            finally:
                for end in ends:
                    os.close(end)

    def test_who_gets_pages(self):
        self.assertEqual(self.goes_as_pages(
            lambda c: self.check(c, 4096, 256 * KIB)), self.has_pages())
        self.assertFalse(self.goes_as_pages(
            lambda c: self.check(c, 4096, 64 * KIB)))
        self.assertFalse(self.goes_as_pages(
            lambda c: self.check(c, 0, 1 << 20)))

    def test_formats_do_not_give_pages(self):
        """A cluster may belong to somebody else before they are seen."""
        self.img('convert', '-U', '-f', 'raw', '-O', 'qcow2', 'a', 'b')
        self.qmp.cmd('blockdev-add', driver='qcow2', node_name='q', file={
            'driver': 'file', 'filename': self.path('b')})
        self.qmp.cmd('block-export-add', type='nbd', id='q', node_name='q',
                     name='q')
        before = self.pipes()
        self.check(self.connect(name='q'), 4096, 256 * KIB)
        self.assertEqual(self.pipes(), before)

    def test_window(self):
        self.qmp.cmd('blockdev-add', driver='raw', node_name='w', file='f',
                     offset=12345 * 512, size=3000 * 512)
        self.qmp.cmd('block-export-add', type='nbd', id='w', node_name='w',
                     name='w')
        client = self.connect(name='w')
        self.assertTrue(client.pread(512, 256 * KIB) ==
                        self.expected(12346 * 512, 256 * KIB))

    def test_holes_and_lost_end(self):
        """A file that somebody else cuts reads as zeroes behind its end."""
        client = self.connect()
        os.truncate(self.path('a'), 3 << 20)
        self.assertTrue(client.pread((3 << 20) - 128 * KIB, 256 * KIB) ==
                        self.expected((3 << 20) - 128 * KIB, 128 * KIB) +
                        bytes(128 * KIB))
        os.truncate(self.path('a'), len(self.data))
        self.assertTrue(self.connect().pread(4 << 20, 256 * KIB) ==
                        bytes(256 * KIB))
        self.data = self.data[:3 << 20] + bytes(len(self.data) - (3 << 20))

    def test_writes_are_seen(self):
        client = self.connect()
        self.check(client, 1 << 20, 256 * KIB)
        new = random.randbytes(300 * KIB)
        client.pwrite((1 << 20) + 1000, new)
        self.data = (self.data[:(1 << 20) + 1000] + new +
                     self.data[(1 << 20) + 1000 + len(new):])
        self.check(client, 1 << 20, 512 * KIB)

    def test_many_at_once(self):
        """More requests than there are pipes, answered in any order."""
        before = self.pipes()
        clients = [self.connect() for _ in range(12)]
        for _ in range(3):
            asked = []
            for client in clients:
                asked.append({})
                for _ in range(16):
                    length = random.choice((4 * KIB, 128 * KIB, 256 * KIB))
                    offset = random.randrange(len(self.data) - length)
                    cookie = client.send(nbd.READ, offset, length)
                    asked[-1][cookie] = offset, length
            for client, requests in zip(clients, asked):
                while requests:
                    done, kind, cookie, data = client.chunk()
                    offset, length = requests.pop(cookie)
                    self.assertEqual((done, kind), (1, 1))
                    self.assertTrue(data[8:] == self.expected(offset, length))
        self.assertLessEqual(self.pipes() - before, 2 * 64)
        for client in clients:
            client.close()
        nbd.wait_for(lambda: self.pipes() == before)

    def test_client_that_does_not_fetch(self):
        """Its replies wait, and nothing else: the node can be drained, the
        export goes."""
        before = self.pipes()
        client = self.connect()
        for n in range(64):
            client.send(nbd.READ, n * 1000, 256 * KIB)
        nbd.wait_for(lambda: self.pipes() > before or not self.has_pages())
        other = self.connect()
        self.check(other, 0, 256 * KIB)
        self.img('create', '-q', '-f', 'qcow2', 'top', str(len(self.data)))
        self.qmp.cmd('blockdev-add', driver='qcow2', node_name='top', file={
            'driver': 'file', 'filename': self.path('top')}, backing=None)
        self.qmp.cmd('blockdev-snapshot', node='n', overlay='top')
        self.check(other, 0, 256 * KIB)
        self.qmp.cmd('block-export-del', id='e', mode='hard')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        nbd.wait_for(lambda: self.pipes() == before)
        self.qmp.cmd('block-export-add', type='nbd', id='e', node_name='top',
                     name='x')

    def test_client_that_leaves(self):
        before = self.pipes()
        for _ in range(20):
            client = self.connect()
            for n in range(16):
                client.send(nbd.READ, n * 4096, 256 * KIB)
            client.read(random.randrange(1, 300 * KIB))
            client.close()
        nbd.wait_for(lambda: self.pipes() == before)


if __name__ == '__main__':
    iotests.main()
