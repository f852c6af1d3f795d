#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""As many clients as are allowed, 60 (1,000 with LONG=1) of them: most are slow, dead
or stuck in the middle of something; none of them delays the others."""
import os
import resource
import socket
import struct
import time

import iotests
from iotests import nbd
from iotests.nbd import NBDClient

CLIENTS = 1000 if iotests.LONG else 60
ROUNDS = 5
BLOCK = 4096
# A machine may be busy; who waits for somebody that is dead waits for ever.
SECONDS = 20


class Client(NBDClient):
    """One with a block of its own, and a part to play."""

    def __init__(self, path, number, rng):
        super().__init__(path)
        self.offset = number * BLOCK
        self.rng = rng

    def send_some(self, data):
        """What goes without waiting."""
        self.sock.setblocking(False)
        try:
            while data:
                data = data[self.sock.send(data):]
        except BlockingIOError:
            pass

    # --- parts ---

    def says_nothing(self):
        pass

    def stops_in_an_option(self):
        self.send_some(struct.pack('>QII', nbd.OPTS_MAGIC, nbd.GO, 100) +
                       bytes(self.rng.randrange(100)))

    def stops_in_a_request(self):
        self.go('n')
        head = self.head(1, nbd.READ, 0, 512)
        self.send_some(head[:self.rng.randrange(1, len(head))])

    def stops_in_data(self):
        self.go('n')
        self.send_some(self.head(1, nbd.WRITE, self.offset, BLOCK) +
                       bytes(self.rng.randrange(BLOCK)))

    def fetches_nothing(self):
        self.go('n')
        self.send_some(self.head(1, nbd.READ, 0, 65536) * 2000)

    def is_gone_with_requests(self):
        self.go('n')
        self.send_some(self.head(1, nbd.READ, 0, 65536) * 10)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             struct.pack('ii', 1, 0))
        self.sock.close()

    def closes_one_direction(self):
        self.go('n')
        self.sock.shutdown(socket.SHUT_RD)
        self.send_some(self.head(1, nbd.READ, 0, 65536) * 10)

    def sends_garbage(self):
        self.go('n')
        self.send_some(self.rng.randbytes(5000))


PARTS = [Client.says_nothing, Client.stops_in_an_option,
         Client.stops_in_a_request, Client.stops_in_data,
         Client.fetches_nothing, Client.is_gone_with_requests,
         Client.closes_one_direction, Client.sends_garbage]


class ManyClients(iotests.TestCase):
    def setUp(self):
        super().setUp()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 2 * CLIENTS + 100:
            self.skipTest(f'a process may have only {hard} files')
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE,
                        (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE,
                           (max(soft, 2 * CLIENTS + 100), hard))
        self.socket = self.path('s')
        self.img('create', '-q', '-f', 'qcow2', 'a', str(CLIENTS * BLOCK))
        self.qsd = self.daemon(
            '--object', 'iothread,id=t0', '--object', 'iothread,id=t1',
            '--blockdev', 'qcow2,node-name=n,file.driver=file,'
            'file.filename=a', '--nbd-server', 'addr.type=unix,addr.path=s,'
            f'max-connections={CLIENTS},handshake-max-seconds=0', '--export',
            'nbd,id=e,node-name=n,writable=on,iothread.0=t0,iothread.1=t1')
        qmp = self.qsd.connect()
        nbd.wait_for(lambda: qmp.cmd('query-block-exports'))

    def connect(self, number):
        client = Client(self.socket, number, self.rng_of)
        self.addCleanup(client.close)
        return client

    def round(self, clients):
        """Each honest one writes and reads; the longest that one had to wait."""
        longest = 0
        for client in clients:
            data = self.rng_of.randbytes(BLOCK)
            begin = time.monotonic()
            client.pwrite(client.offset, data)
            self.assertEqual(client.pread(client.offset, BLOCK), data)
            longest = max(longest, time.monotonic() - begin)
            client.data = data
        return longest

    def test_slow_and_dead_ones(self):
        self.rng_of = self.rng()
        honest, others = [], []
        for number in range(CLIENTS):
            client = self.connect(number)
            if self.rng_of.random() < .2 or not number:
                client.go('n')
                honest.append(client)
            else:
                self.rng_of.choice(PARTS)(client)
                others.append(client)
        for _ in range(ROUNDS):
            self.assertLess(self.round(honest), SECONDS)
        with open(f'/proc/{self.qsd.process.pid}/statm',
                  encoding='ascii') as f:
            resident = int(f.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
        # 4 MiB a client (NBD_MAX_CLIENT_MEMORY), for few use all of it.
        self.assertLess(resident, (200 << 20) + len(others) * (2 << 20))
        # There is room for as many again when they are gone.
        for client in others:
            client.close()
        again = [self.connect(c.offset // BLOCK) for c in others]
        for client in again:
            client.go('n')
        self.assertLess(self.round(again), SECONDS)
        self.assertLess(self.round(honest), SECONDS)
        with self.assertRaises(TimeoutError):
            NBDClient(self.socket, timeout=.3)
        self.assertEqual(self.qsd.stop(), 0)
        content = bytearray(CLIENTS * BLOCK)
        for client in honest + again:
            content[client.offset:client.offset + BLOCK] = client.data
        self.assert_content('a', bytes(content), fmt='qcow2')


if __name__ == '__main__':
    iotests.main()
