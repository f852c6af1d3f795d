#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw qcow2
"""qemu-nbd: what its options export, and when it ends."""
import os
import signal
import socket
import subprocess
import time

import iotests
from iotests import nbd
from iotests.nbd import NBDClient
from iotests.process import TIMEOUT

SIZE = 1 << 20


class NbdProgram(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.make_image(self.fmt)
        self.socket = self.path('nbd.sock')

    def make_image(self, fmt):
        """Some tests are about what only qcow2 has."""
        self.fmt = fmt
        self.create('a', str(SIZE))
        self.io('a', 'write -q -P 1 0 64k', 'write -q -P 2 512k 64k')

    def start(self, *args, image='a', wait=True, **kwargs):
        log = open(self.path('nbd.log'), 'w+b')
        self.addCleanup(log.close)
        fmt = [] if '--image-opts' in args else ['-f', self.fmt]
        process = subprocess.Popen(
            [iotests.qemu_nbd(), '-k', self.socket, *fmt, *args, image],
            cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, **kwargs)
        process.log = log
        self.addCleanup(self.kill, process)
        if wait:
            nbd.wait_for(lambda: os.path.exists(self.socket) or
                         process.poll() is not None)
        return process

    @staticmethod
    def kill(process):
        if process.poll() is None:
            process.kill()
            process.wait()

    def ends(self, process, rc=0):
        self.assertEqual(process.wait(TIMEOUT), rc, self.output(process))

    @staticmethod
    def output(process):
        process.log.seek(0)
        return process.log.read().decode()

    def connect(self, name='', **kwargs):
        """The socket is there a little before the export is."""
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                client = NBDClient(self.socket, **kwargs)
            except ConnectionRefusedError:
                continue
            self.addCleanup(client.close)
            client.agree(nbd.STRUCTURED)
            client.set_meta(name, 'base:allocation',
                            'qemu:allocation-depth', 'qemu:dirty-bitmap:b')
            if isinstance(client.go(name), dict):
                return client
            client.close()
            self.assertLess(time.monotonic(), end)

    def fails(self, message, *args):
        result = self._run([iotests.qemu_nbd(), *args], 1)
        self.assertRegex(result.stderr, message)

    def test_ends_with_its_client(self):
        process = self.start()
        client = self.connect()
        self.assertEqual(client.flags & 0x100, 0)       # no multi-conn
        client.pwrite(0, b'x' * 512)
        with self.assertRaises(TimeoutError):
            NBDClient(self.socket, timeout=.3)
        client.close()
        self.ends(process)
        self.assertFalse(os.path.exists(self.socket))
        self.io('a', 'read -P 120 0 512', 'read -P 1 512 1024')

    def test_persistent(self):
        process = self.start('-t', '-e', '0', '-v', '-x', 'name', '-D', 'text')
        for _ in range(3):
            clients = [self.connect('name') for _ in range(5)]
            self.assertTrue(clients[0].flags & 0x100)
            for client in clients:
                self.assertEqual(client.pread(512 << 10, 10), b'\2' * 10)
                client.close()
        listed = self._run([iotests.qemu_nbd(), '-L', '-k', self.socket], 0)
        self.assertRegex(listed.stdout, rf"exports available: 1\n export: "
                         rf"'name'\n  description: text\n  size:  {SIZE}\n"
                         r'  flags: 0xded \( flush fua trim zeroes df multi '
                         r'cache fast-zero \)\n  min block: \d+\n  opt block: '
                         r'\d+\n  max block: 33554432\n  available meta '
                         r'contexts: 1\n   base:allocation\n')
        process.send_signal(signal.SIGTERM)
        self.ends(process)
        self.assertIn('listening on unix:', self.output(process))
        self.assertIn('a client has left', self.output(process))

    def test_read_only(self):
        process = self.start('-r')
        client = self.connect()
        with self.assertRaises(nbd.NBDError) as caught:
            client.pwrite(0, bytes(512))
        self.assertEqual(caught.exception.errno, nbd.EPERM)
        client.close()
        self.ends(process)

    def test_snapshot(self):
        before = self.read_file('a')
        process = self.start('-s')
        client = self.connect()
        client.pwrite(1000, b'y' * 5000)
        self.assertEqual(client.pread(999, 5002),
                         b'\1' + b'y' * 5000 + b'\1')
        client.close()
        self.ends(process)
        self.assertEqual(self.read_file('a'), before)

    def test_offset(self):
        process = self.start('-o', '512k')
        client = self.connect()
        self.assertEqual(client.size, SIZE // 2)
        self.assertEqual(client.pread(0, 10), b'\2' * 10)
        client.pwrite(512, b'z' * 512)
        client.close()
        self.ends(process)
        self.io('a', f'read -P 122 {SIZE // 2 + 512} 512')
        process = self.start('-o', '2M')
        self.ends(process, 1)

    def test_load_snapshot(self):
        self.make_image('qcow2')
        self.img('snapshot', '-c', 'snap', 'a')
        self.io('a', 'write -q -P 9 0 64k')
        for name in 'snap', 'snapshot.name=snap':
            process = self.start('-l', name)
            client = self.connect()
            self.assertEqual(client.pread(0, 10), b'\1' * 10)
            client.close()
            self.ends(process)
        self.ends(self.start('-l', 'no'), 1)

    def test_contexts(self):
        self.make_image('qcow2')
        self.img('bitmap', '--add', '-g', '64k', 'a', 'b')
        self.io('a', 'write -q -P 3 128k 64k')
        process = self.start('-A', '-B', 'b')
        client = self.connect()
        self.assertEqual(client.status(0, 256 << 10), {
            'base:allocation': [(65536, 0), (65536, 3), (65536, 0),
                                (65536, 3)],
            'qemu:allocation-depth': [(65536, 1), (65536, 0), (65536, 1),
                                      (65536, 0)],
            'qemu:dirty-bitmap:b': [(131072, 0), (65536, 1), (65536, 0)]})
        client.close()
        self.ends(process)
        self.ends(self.start('-B', 'no'), 1)

    def test_block_options(self):
        for args in (('--cache=none',), ('--cache', 'writethrough'),
                     ('--cache=unsafe', '--aio=threads'),
                     ('--discard=unmap', '--detect-zeroes=unmap'),
                     ('--detect-zeroes', 'on'), ('--aio=io_uring',)):
            with self.subTest(args):
                process = self.start(*args)
                client = self.connect()
                client.pwrite(0, b'k' * 4096)
                client.request(nbd.TRIM, 65536, 65536)
                self.assertEqual(client.pread(0, 4096), b'k' * 4096)
                client.close()
                self.ends(process)
        process = self.start('--image-opts', image=f'driver={self.fmt},'
                             'file.filename=a')
        self.connect().close()
        self.ends(process)

    def test_fork(self):
        self._run([iotests.qemu_nbd(), '--fork', '--pid-file', 'pid', '-k',
                   self.socket, '-f', self.fmt, 'a'], 0)
        pid = int(self.read_file('pid'))
        client = self.connect()
        self.assertEqual(client.pread(0, 4), b'\1' * 4)
        client.close()
        nbd.wait_for(lambda: not os.path.exists(f'/proc/{pid}') or
                     b'Z' in open(f'/proc/{pid}/stat', 'rb').read().split()[2])
        nbd.wait_for(lambda: not os.path.exists(self.path('pid')))
        self.fails('Could not open|No such file', '--fork', '-k', self.socket,
                   'missing')

    def test_activation(self):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(self.path('s'))
        listening.listen(5)
        # Descriptor 3, and the pid that the program will have.
        script = (f'exec 3<&{listening.fileno()}; export LISTEN_FDS=1 '
                  'LISTEN_PID=$$; exec "$@"')
        process = subprocess.Popen(
            ['sh', '-c', script, 'sh', iotests.qemu_nbd(), '-f', self.fmt,
             'a'], cwd=self.dir, pass_fds=[listening.fileno()])
        self.addCleanup(self.kill, process)
        self.socket = self.path('s')
        self.connect().close()
        self.assertEqual(process.wait(TIMEOUT), 0)
        for message, count, *args in (
                ("TCP port number can't be set", 1, '-p', '5'),
                ("interface can't be set", 1, '-b', '::'),
                ("Unix socket can't be set", 1, '-k', '/x'),
                ('does not support socket activation with', 2)):
            result = self._run(
                ['sh', '-c', f'export LISTEN_FDS={count} LISTEN_PID=$$; '
                 'exec "$@"', 'sh', iotests.qemu_nbd(), *args, 'a'], 1)
            self.assertIn(message, result.stderr)

    def test_bad_options(self):
        for message, *args in (
                ('Invalid number of arguments',),
                ('Invalid number of arguments', 'a', 'b'),
                ('Could not open', 'missing'),
                ('Invalid port', '-p', '0', 'a'),
                ('Invalid port', '-p', 'x', 'a'),
                ('Invalid port', '-p', '65536', 'a'),
                ('socket path must be absolute', '-k', 'x', 'a'),
                ('Invalid shared device number', '-e', '-1', 'a'),
                ('Invalid offset', '-o', 'x', 'a'),
                ('export name .* too long', '-x', 'x' * 4097, 'a'),
                ('description .* too long', '-D', 'x' * 4097, 'a'),
                ('can only be specified once', '-n', '--cache=none', 'a'),
                ('Invalid cache mode', '--cache=x', 'a'),
                ('Invalid aio mode', '--aio=x', 'a'),
                ('Invalid discard mode', '--discard=x', 'a'),
                ('detect-zeroes to unmap is not allowed',
                 '--detect-zeroes=unmap', 'a'),
                ('mutually exclusive', '--image-opts', '-f', 'raw', 'a'),
                ("No TLS credentials with id 'x'", '--tls-creds=x', 'a'),
                ('not permitted without --tls-creds', '-L',
                 '--tls-hostname=x'),
                ('incompatible with a file name', '-L', 'a'),
                ('incompatible with export settings', '-L', '-x', 'y'),
                ('Failed to open /dev/nbd-no', '-c', '/dev/nbd-no', 'a'),
                ('Failed to open /dev/nbd-no', '-d', '/dev/nbd-no'),
                ('Failed to connect', '-L', '-k', '/no/such/socket'),
                ('unrecognized option', '--no-such-option', 'a')):
            with self.subTest(args):
                self.fails(message, *args)

    def test_handshake_limit(self):
        process = self.start('--handshake-limit', '1')
        silent = self.connect_silent()
        self.assertTrue(silent.is_gone())
        # That was nobody's last client.
        self.connect().close()
        self.ends(process)

    def connect_silent(self):
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            try:
                client = NBDClient(self.socket)
            except ConnectionRefusedError:
                continue
            self.addCleanup(client.close)
            return client
        raise TimeoutError('no connection')


if __name__ == '__main__':
    iotests.main()
