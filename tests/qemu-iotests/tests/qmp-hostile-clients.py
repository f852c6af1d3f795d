#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: raw
"""A hundred clients connect, send garbage and valid commands in pieces, and go away
at any time, for 3 seconds (60 with LONG=1). Nothing crashes, and every monitor
serves the next client."""
import json
import os
import random
import socket
import struct
import threading
import time

import iotests

SECONDS = 60 if iotests.LONG else 3
CLIENTS = 100
MONITORS = 4

GARBAGE = [b'\xff\xfe\x00', b'{' * 300, b'[' * 2000, b'"' + b'x' * 5000,
           b'{"execute":', b'}}}]]', b'\x80\xc0\xf5', b'{"a":1e999}',
           b'{"execute":"qmp_capabilities","arguments":{"enable":[1]}}',
           b'{"execute":"\\ud800"}', b"{'x':%p}", b'-', b'nul', b'\r\n\r\n',
           b'{"execute": "qmp_capabilities", "id": ' + b'[' * 900,
           json.dumps({'execute': 'x' * 3000}).encode()]

COMMANDS = [
    ('qmp_capabilities', {'enable': ['oob']}), ('qmp_capabilities', {}),
    ('query-version', {}), ('query-commands', {}), ('query-qmp-schema', {}),
    ('query-named-block-nodes', {}), ('query-block-graph', {}),
    ('blockdev-add', {'driver': 'null-co', 'node-name': 'n'}),
    ('blockdev-add', {'driver': 'raw', 'node-name': 'r', 'file': 'n'}),
    ('blockdev-reopen', {'options': [{'driver': 'null-co',
                                      'node-name': 'n'}]}),
    ('blockdev-del', {'node-name': 'r'}), ('blockdev-del', {'node-name': 'n'}),
    ('block_resize', {'node-name': 'n', 'size': 512}),
    ('object-add', {'qom-type': 'iothread', 'id': 't'}),
    ('object-del', {'id': 't'}),
    ('chardev-add', {'id': 'c', 'backend': {'type': 'null', 'data': {}}}),
    ('chardev-add', {'id': 'c', 'backend': {'type': 'pty', 'data': {}}}),
    ('chardev-change', {'id': 'c', 'backend': {
        'type': 'ringbuf', 'data': {'size': 64}}}),
    ('chardev-change', {'id': 'c', 'backend': {
        'type': 'file', 'data': {'out': '/dev/full', 'in': '/dev/zero'}}}),
    ('ringbuf-write', {'device': 'c', 'data': 'x' * 100}),
    ('ringbuf-read', {'device': 'c', 'size': 70}),
    ('chardev-remove', {'id': 'c'}), ('query-chardev', {}),
    ('getfd', {'fdname': 'f'}), ('closefd', {'fdname': 'f'}),
    ('add-fd', {}), ('remove-fd', {'fdset-id': 0}), ('query-fdsets', {}),
    ('transaction', {'actions': [{'type': 'abort', 'data': {}}]}),
    ('nope', {}),
]


class Client(threading.Thread):
    """Lives several lives until the end of the test."""

    def __init__(self, sockets, seed, end):
        super().__init__(daemon=True)
        self.sockets = sockets
        self.rng = random.Random(seed)
        self.end = end
        self.answered = 0
        self.null = os.open('/dev/null', os.O_RDWR)

    def run(self):
        while time.monotonic() < self.end:
            try:
                self.live()
            except OSError:
                pass
        os.close(self.null)

    def live(self):
        rng = self.rng
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(.3)
            s.connect(rng.choice(self.sockets))
            if rng.random() < .1:
                return
            s.recv(4096)
            for _ in range(rng.randrange(1, 30)):
                self.step(s)
            if rng.random() < .3:
                # Gone with a reset rather than in an orderly way.
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             struct.pack('ii', 1, 0))
            elif rng.random() < .3:
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    self.answered += 1

    def step(self, s):
        rng = self.rng
        what = rng.random()
        if what < .3:
            data = rng.choice(GARBAGE)
        elif what < .35:
            data = rng.randbytes(rng.randrange(200))
        else:
            command, args = rng.choice(COMMANDS)
            data = json.dumps({
                rng.choice(['execute'] * 9 + ['exec-oob']): command,
                'arguments': args, 'id': rng.random()}).encode()
        if rng.random() < .2:
            data = data[:rng.randrange(len(data) + 1)]
        data += b'\n' if rng.random() < .7 else b''
        if rng.random() < .1 and data:
            # Not its own end: who keeps that keeps the connection.
            socket.send_fds(s, [data], [self.null] * rng.randrange(1, 20))
        else:
            s.sendall(data)
        if rng.random() < .5 and s.recv(rng.choice([10, 65536])):
            self.answered += 1


class Hostile(iotests.TestCase):
    def test_hundred_clients(self):
        qsd = self.daemon(monitors=MONITORS)
        end = time.monotonic() + SECONDS
        rng = self.rng()
        clients = [Client(qsd.sockets, rng.random(), end)
                   for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(SECONDS + 60)
            self.assertFalse(client.is_alive())
        self.assertGreater(sum(c.answered for c in clients), CLIENTS)
        for number in range(MONITORS):
            qmp = qsd.connect(number)
            qmp.cmd('query-version')
            qmp.close()
        self.assertEqual(qsd.stop(), 0)

    def test_end_in_the_middle(self):
        """A signal while clients are at it: an orderly end all the same."""
        rng = self.rng()
        for _ in range(10 if iotests.LONG else 3):
            qsd = self.daemon(monitors=MONITORS)
            end = time.monotonic() + .5
            clients = [Client(qsd.sockets, rng.random(), end)
                       for _ in range(20)]
            for client in clients:
                client.start()
            time.sleep(rng.random() * .3)
            self.assertEqual(qsd.stop(), 0)
            for client in clients:
                client.join(60)


if __name__ == '__main__':
    iotests.main()
