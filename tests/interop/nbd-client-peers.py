#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""Our NBD client and servers of others, and both ways by TLS: the distribution's
qemu-nbd and qemu-storage-daemon, nbdkit, and libnbd's programs."""
import json
import os
import shutil
import subprocess

import iotests
from iotests import nbd, tls

SIZE = 8 << 20
SECRET = bytes(range(32))


class Peers(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.need_reference()
        self.fmt = 'raw'
        self.socket = self.path('s')
        self.uri = f'nbd+unix:///x?socket={self.socket}'
        self.data = self.rng().randbytes(SIZE // 2) + bytes(SIZE // 2)
        self.write_file('a', self.data)

    def start(self, *args):
        """A server that listens at self.socket."""
        if not args[0] or not shutil.which(args[0]):
            self.skipTest(f'{args[0]} is not installed')
        process = subprocess.Popen(args, cwd=self.dir,
                                   stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(self.stop, process)
        nbd.wait_for(lambda: os.path.exists(self.socket))
        return process

    def stop(self, process):
        if process.poll() is None:
            process.terminate()
            process.wait()
        if os.path.exists(self.socket):
            os.unlink(self.socket)


class NbdClientPeers(Peers):
    def qemu_nbd(self, *args):
        return self.start(iotests.ref_nbd(), '-k', self.socket, '-t', '-x', 'x',
                          *args)

    def use(self, uri, commands=()):
        """Reads all, writes, and looks at what was written."""
        self.img('convert', '-f', 'raw', '-O', 'raw', uri, 'out')
        self.assertEqual(self.read_file('out'), self.data)
        self.io(uri, 'write -q -P 9 5 100000', 'write -q -z -u 1M 1M',
                'write -q -f -P 8 3M 64k', 'discard 4M 1M', 'flush',
                'aio_read -q -P 9 5 100000', 'aio_read -q -P 0 1M 1M',
                'aio_flush', 'read -q -P 8 3M 64k', *commands)
        self.img('bench', '-f', 'raw', '-w', '-c', '500', '-d', '64',
                 '-o', '5M', '--pattern', '7', uri)

    def test_qemu_nbd(self):
        process = self.qemu_nbd('-f', 'raw', '-e', '8', '--discard=unmap', 'a')
        self.use(self.uri)
        self.stop(process)
        self.io('a', 'read -q -P 8 3M 64k', 'read -q -P 9 5 100000',
                'read -q -P 7 6M 512k')

    def test_qemu_storage_daemon(self):
        self.start(iotests.ref_qsd(), '--blockdev',
                   'file,filename=a,node-name=n', '--nbd-server',
                   f'addr.type=unix,addr.path={self.socket}', '--export',
                   'nbd,id=e,node-name=n,writable=on,name=x')
        nbd.wait_for(lambda: self.img('info', self.uri, rc=None).rc == 0)
        self.use(self.uri)

    def test_nbdkit(self):
        """With what it offers, and with less and less of that."""
        for options in ([], ['--filter=nozero'], ['--filter=fua', 'file', 'a',
                                                  'fuamode=emulate'],
                        ['--filter=nocache', '--filter=noparallel'],
                        ['--filter=blocksize-policy', 'file', 'a',
                         'blocksize-minimum=4096',
                         'blocksize-preferred=65536',
                         'blocksize-maximum=1M', 'blocksize-error-policy='
                         'error'],
                        ['--mask-handshake=0'], ['--no-sr']):
            with self.subTest(options):
                self.write_file('a', self.data)
                plugin = [] if 'file' in options else ['file', 'a']
                process = self.start('nbdkit', '-f', '-U', self.socket,
                                     *options, *plugin)
                self.use(f'nbd+unix:///?socket={self.socket}')
                self.stop(process)

    def test_status(self):
        self.img('create', '-q', '-f', 'qcow2', 'q', '8M')
        self.io('q', 'write -q -P 1 1M 64k', 'write -q -z 2M 64k', fmt='qcow2')
        self.qemu_nbd('-r', '-f', 'qcow2', 'q')
        mine = self.img_json('map', '-f', 'raw', self.uri)
        theirs = self.ref_json('map', '-f', 'raw', self.uri)
        self.assertEqual([(e['start'], e['length'], e['data'], e['zero'])
                          for e in mine],
                         [(e['start'], e['length'], e['data'], e['zero'])
                          for e in theirs])
        self.assertEqual(len(mine), 3)

    def test_restarted_server(self):
        process = self.qemu_nbd('-f', 'raw', 'a')
        io = self.io_process('--image-opts', 'driver=nbd,server.type=unix,'
                             f'server.path={self.socket},export=x,'
                             'reconnect-delay=60')
        for pattern in range(1, 4):
            self.assertNotIn('failed', io.cmd(f'write -P {pattern} 0 64k'))
            self.stop(process)
            io.cmd('aio_read -q -P %d 0 64k' % pattern)
            process = self.qemu_nbd('-f', 'raw', 'a')
            self.assertEqual(io.cmd('aio_flush'), '')
        self.assertEqual(io.quit()[0], 0)


class NbdTlsPeers(Peers):
    def setUp(self):
        super().setUp()
        if not tls.available():
            self.skipTest('certtool (gnutls-bin) is not installed')
        authority = tls.Authority(self.path('ca'))
        # libnbd wants all files in one directory.
        self.pki = authority.sign(self.path('pki'), 'server', tls.SERVER)
        authority.sign(self.pki, 'client', tls.CLIENT)
        self.creds = f'tls-creds-x509,id=t,dir={self.pki}'

    def requests(self, program, creds, hostname):
        node = (f'driver=nbd,server.type=unix,server.path={self.socket},'
                f'export=x,tls-creds=t{hostname}')
        self._run([program, '--image-opts', '--object', f'{creds},endpoint='
                   'client', '-c', 'write -q -P 4 1M 3M', '-c',
                   'write -q -P 5 5 1000', '-c', 'read -q -P 4 1M 3M', '-c',
                   'read -q -P 5 5 1000', '-c', 'flush', node], 0)

    def each_creds(self):
        keys = tls.psk(self.path('psk'), qemu=SECRET)
        return ((self.creds, ',tls-hostname=localhost'),
                (f'tls-creds-psk,id=t,dir={keys}', ''))

    def test_ours_and_theirs(self):
        for creds, hostname in self.each_creds():
            for server, client in ((iotests.ref_nbd(), iotests.qemu_io()),
                                   (iotests.qemu_nbd(), iotests.ref_io())):
                with self.subTest(server + creds):
                    process = self.start(
                        server, '-k', self.socket, '-t', '-x', 'x', '-f', 'raw',
                        '--object', f'{creds},endpoint=server', '--tls-creds',
                        't', 'a')
                    self.requests(client, creds, hostname)
                    self.stop(process)

    def test_libnbd(self):
        self.start(iotests.qemu_nbd(), '-k', self.socket, '-t', '-x', 'x', '-f',
                   'raw', '-e', '8', '--object', f'{self.creds},endpoint=server',
                   '--tls-creds', 't', 'a')
        uri = (f'nbds+unix://localhost/x?socket={self.socket}&'
               f'tls-certificates={self.pki}')
        info = json.loads(self._run(['nbdinfo', '--json', uri], 0).stdout)
        self.assertTrue(info['TLS'])
        self.assertEqual(info['exports'][0]['export-size'], SIZE)
        self._run(['nbdcopy', uri, 'out'], 0)
        self.assertEqual(self.read_file('out'), self.data)
        data = self.rng().randbytes(SIZE)
        self.write_file('in', data)
        self._run(['nbdcopy', '--flush', 'in', uri], 0)
        self.assertEqual(self.read_file('a'), data)
        self._run(['nbdinfo', self.uri], 1)

    def test_nbdkit(self):
        self.start('nbdkit', '-f', '-U', self.socket, '--tls=require',
                   f'--tls-certificates={self.pki}', '--tls-verify-peer',
                   'file', 'a')
        self.requests(iotests.qemu_io(), self.creds, ',tls-hostname=localhost')


if __name__ == '__main__':
    iotests.main()
