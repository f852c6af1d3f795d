#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""Exports of the storage daemon: the commands, the server's life, its limits."""
import collections
import os
import resource
import struct
import time

import iotests
from iotests import nbd
from iotests.nbd import NBDClient


class NbdExports(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.img('create', '-q', '-f', 'qcow2', 'a', '1M')
        self.img('bitmap', '--add', 'a', 'bits')
        self.socket = self.path('nbd.sock')

    def start(self, *args, server=True, own=True, **options):
        """own: 'n' is the image 'a'; otherwise others open it."""
        options = ''.join(f',{k.replace("_", "-")}={v}'
                          for k, v in options.items())
        nbd_server = ['--nbd-server', 'addr.type=unix,addr.path='
                      f'{self.socket}{options}'] if server else []
        image = ['--blockdev', 'file,filename=a,node-name=f', '--blockdev',
                 'qcow2,file=f,node-name=n'] if own else []
        daemon = self.daemon(
            *image, '--object', 'iothread,id=t0',
            '--object', 'iothread,id=t1', *nbd_server, *args)
        self.qmp = daemon.connect()
        # The monitor speaks while later options are carried out.
        nbd.wait_for(lambda: not server or os.path.exists(self.socket))
        nbd.wait_for(lambda: len(self.qmp.cmd('query-block-exports')) ==
                     args.count('--export'))
        return daemon

    def add(self, export='e', **options):
        args = {'type': 'nbd', 'id': export, 'node-name': 'n'}
        args.update({k.replace('_', '-'): v for k, v in options.items()})
        self.qmp.cmd('block-export-add', args)

    def add_fails(self, message, **options):
        args = {'type': 'nbd', 'id': 'e', 'node-name': 'n'}
        args.update({k.replace('_', '-'): v for k, v in options.items()})
        self.qmp_fails(message, self.qmp, 'block-export-add', args)

    def connect(self, name='n', **kwargs):
        client = NBDClient(self.socket, **kwargs)
        self.addCleanup(client.close)
        if name is not None:
            self.assertIsInstance(client.go(name), dict)
        return client

    def test_life(self):
        daemon = self.start()
        self.add()
        self.assertEqual(self.qmp.cmd('query-block-exports'),
                         [{'id': 'e', 'type': 'nbd', 'node-name': 'n',
                           'shutting-down': False}])
        client = self.connect()
        self.qmp_fails("export 'e' still in use", self.qmp,
                       'block-export-del', id='e')
        self.qmp_fails('is in use', self.qmp, 'blockdev-del', node_name='n')
        self.assertEqual(client.pread(0, 10), bytes(10))
        self.qmp.cmd('block-export-del', id='e', mode='hard')
        self.assertTrue(client.is_gone())
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.assertEqual(self.qmp.cmd('query-block-exports'), [])
        # The id and the name are free again; nobody uses it now.
        self.add()
        self.qmp.cmd('block-export-del', id='e')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.qmp.cmd('blockdev-del', node_name='n')
        self.assertEqual(daemon.stop(), 0)

    def test_end_with_clients(self):
        daemon = self.start('--export', 'nbd,id=e,node-name=n,writable=on')
        serving, shaking = self.connect(), self.connect(None)
        serving.pwrite(0, b'x' * 512)
        self.assertEqual(daemon.stop(), 0)
        self.assertTrue(serving.is_gone() and shaking.is_gone())
        self.io('a', 'read -P 120 0 512', fmt='qcow2')
        self.img('check', 'a')

    def test_refusals(self):
        self.start(server=False)
        self.add_fails('NBD server not running')
        self.qmp_fails('NBD server not running', self.qmp, 'nbd-server-stop')
        addr = {'type': 'unix', 'data': {'path': self.socket}}
        self.qmp_fails("No TLS credentials", self.qmp, 'nbd-server-start',
                       {'addr': addr, 'tls-creds': 'x'})
        self.qmp.cmd('nbd-server-start', addr=addr)
        self.qmp_fails('NBD server already running', self.qmp,
                       'nbd-server-start', addr=addr)
        self.add_fails('Cannot find', node_name='x')
        self.add_fails('Invalid block export id', id='1 2')
        self.add_fails('too long', name='x' * 4097)
        self.add_fails('too long', description='x' * 4097)
        self.add_fails("object 'x' not found|not found", iothread='x')
        self.add_fails('must not be empty', iothread=[])
        self.add_fails('not found', bitmaps=['x'])
        self.add(name='x' * 4096, description='y' * 4096)
        self.add_fails("id 'e' is already in use")
        self.add_fails('already has export named', id='f', name='x' * 4096)
        self.qmp_fails("'x' is not found", self.qmp, 'block-export-del',
                       id='x')

    def test_read_only_node(self):
        self.start('--blockdev', 'null-co,node-name=ro,read-only=on')
        self.add_fails('Cannot export read-only node as writable',
                       node_name='ro', writable=True)
        self.qmp.cmd('nbd-server-add', device='ro', writable=True)
        client = self.connect('ro')
        with self.assertRaises(nbd.NBDError) as caught:
            client.pwrite(0, bytes(512))
        self.assertEqual(caught.exception.errno, nbd.EPERM)

    def test_old_commands(self):
        self.start(server=False)
        addr = {'type': 'unix', 'data': {'path': self.socket}}
        self.qmp.cmd('nbd-server-start', addr=addr)
        self.qmp.cmd('nbd-server-add', device='n', name='x', writable=True,
                     bitmap='bits')
        client = self.connect('x')
        self.qmp_fails('still in use', self.qmp, 'nbd-server-remove',
                       name='x')
        self.qmp.cmd('nbd-server-remove', name='x', mode='hard')
        self.assertTrue(client.is_gone())
        self.qmp.event('BLOCK_EXPORT_DELETED', id='x')
        self.qmp.cmd('nbd-server-stop')
        with self.assertRaises(OSError):
            NBDClient(self.socket)
        self.qmp.cmd('nbd-server-start', addr=addr)
        self.assertEqual(self.connect(None).option(nbd.LIST),
                         [(nbd.ACK, b'')])

    def test_bitmap_is_busy(self):
        self.start()
        self.add(bitmaps=[{'node': 'n', 'name': 'bits'}], writable=True)
        self.add_fails('bits.* is currently in use|in use', id='f', name='f',
                       bitmaps=['bits'], writable=True)
        self.qmp.cmd('block-export-del', id='e')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.add_fails("Enabled bitmap 'bits' incompatible with readonly",
                       bitmaps=['bits'])

    def test_iothreads(self):
        self.start()
        self.add(iothread=['t0', 't1'], writable=True)
        self.qmp_fails('in use', self.qmp, 'object-del', id='t1')
        clients = [self.connect() for _ in range(6)]
        for n, client in enumerate(clients):
            client.pwrite(n * 4096, bytes([n + 1]) * 4096)
        for n, client in enumerate(reversed(clients)):
            self.assertEqual(client.pread((5 - n) * 4096, 4096),
                             bytes([6 - n]) * 4096)
            self.assertEqual(client.pread(n * 4096, 4096),
                             bytes([n + 1]) * 4096)
        self.qmp.cmd('block-export-del', id='e', mode='hard')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.qmp.cmd('object-del', id='t1')

    # --- nodes whose bitmaps are exported ---

    def export_bitmap_below(self):
        """The bitmap of a node in the middle of a chain, which has no other
        owner than the node above."""
        self.img('create', '-q', '-f', 'qcow2', 'base', '1M')
        self.img('rebase', '-u', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2',
                 'a')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'a', '-F', 'qcow2',
                 'top')
        daemon = self.start(
            '--blockdev', 'file,filename=top,node-name=topf', '--blockdev',
            'qcow2,file=topf,node-name=top,backing.driver=qcow2,'
            'backing.node-name=mid,backing.file.driver=file,'
            'backing.file.filename=a,backing.backing.driver=qcow2,'
            'backing.backing.node-name=base,backing.backing.file.driver=file,'
            'backing.backing.file.filename=base', own=False)
        self.add(node_name='top', bitmaps=['bits'], writable=True)
        return daemon

    def check_bitmap(self, node):
        """It can be asked for; the node goes with the export."""
        client = self.connect(None)
        client.agree(nbd.STRUCTURED)
        client.set_meta('top', 'qemu:dirty-bitmap:bits')
        self.assertIsInstance(client.go('top'), dict)
        chunk = client.chunks(client.send(nbd.STATUS, 0, 1 << 20))
        self.assertEqual(chunk, [(5, struct.pack('>III', 2, 1 << 20, 0))])
        self.assertIn(node, self.nodes())
        self.qmp.cmd('block-export-del', id='e', mode='hard')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.assertNotIn(node, self.nodes())

    def nodes(self):
        return [node['node-name']
                for node in self.qmp.cmd('query-named-block-nodes')]

    def test_bitmap_of_a_node_that_is_committed(self):
        daemon = self.export_bitmap_below()
        self.qmp.cmd('block-commit', {
            'job-id': 'j', 'device': 'top', 'top-node': 'mid',
            'base-node': 'base'})
        self.qmp.event('BLOCK_JOB_COMPLETED')
        self.check_bitmap('mid')
        self.assertEqual(daemon.stop(), 0)

    def test_bitmap_of_a_node_that_is_replaced(self):
        daemon = self.export_bitmap_below()
        self.qmp.cmd('blockdev-reopen', options=[{
            'driver': 'qcow2', 'node-name': 'top', 'file': 'topf',
            'backing': None}])
        self.check_bitmap('mid')
        self.assertEqual(daemon.stop(), 0)

    def test_bitmap_of_a_node_that_is_deleted(self):
        daemon = self.start('--blockdev', 'null-co,node-name=top,size=1M')
        self.add(node_name='top', writable=True,
                 bitmaps=[{'node': 'n', 'name': 'bits'}])
        self.qmp_fails('in use', self.qmp, 'blockdev-del', node_name='n')
        self.qmp.cmd('block-export-del', id='e')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.qmp.cmd('blockdev-del', node_name='n')
        self.assertEqual(daemon.stop(), 0)

    def served_by(self, daemon, client):
        """Name of the thread that a client's requests keep busy."""
        def nanoseconds():
            where = f'/proc/{daemon.process.pid}/task'
            found = collections.Counter()
            for task in os.listdir(where):
                with open(f'{where}/{task}/comm', encoding='utf-8') as f:
                    name = f.read().strip()
                with open(f'{where}/{task}/schedstat', encoding='utf-8') as f:
                    found[name] += int(f.read().split()[0])
            return found

        before = nanoseconds()
        for _ in range(100):
            client.pread(0, 512)
        time.sleep(.02)         # it is counted when the thread goes to sleep
        used = sorted((ns - before[name], name)
                      for name, ns in nanoseconds().items())
        self.assertGreater(used[-1][0], 2 * used[-2][0], used)
        return used[-1][1]

    def set_home(self, node, iothread, **more):
        self.qmp.cmd('x-blockdev-set-iothread', {
            'node-name': node, 'iothread': iothread, **more})

    def homes(self):
        return {n['name']: n['iothread']
                for n in self.qmp.cmd('query-block-graph')['nodes']
                if 'iothread' in n}

    def test_home_of_a_node(self):
        """x-blockdev-set-iothread: for those who have no thread of their own."""
        daemon = self.start()
        main = self.served_by(daemon, self.connected_to_new('e'))
        self.assertNotIn(main, ('t0', 't1'))
        self.add('own', name='own', iothread='t1')
        self.add('fixed', name='fixed', fixed_iothread=True)
        old = self.connect()
        self.set_home('n', 't0')
        self.assertEqual(self.homes(), {'n': 't0'})
        # Whoever is there goes on where he is; others are at home.
        self.assertEqual(self.served_by(daemon, old), main)
        for name, thread in (('n', 't0'), ('own', 't1'), ('fixed', main)):
            self.assertEqual(self.served_by(daemon, self.connect(name)),
                             thread)
        # The nearest node counts.
        self.set_home('f', 't1', force=True)
        self.assertEqual(self.homes(), {'n': 't0', 'f': 't1'})
        self.assertEqual(self.served_by(daemon, self.connect()), 't0')
        self.set_home('n', None)
        last = self.connect()
        self.assertEqual(self.served_by(daemon, last), 't1')
        self.set_home('f', None)
        self.assertEqual(self.homes(), {})
        self.assertEqual(self.served_by(daemon, self.connect()), main)
        # There is still somebody in there.
        self.qmp_fails('in use', self.qmp, 'object-del', id='t0')
        self.assertEqual(self.served_by(daemon, last), 't1')
        self.qmp.cmd('block-export-del', id='e', mode='hard')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.qmp.cmd('object-del', id='t0')

    def connected_to_new(self, export):
        self.add(export)
        return self.connect()

    def test_home_refused(self):
        self.start('--object', 'throttle-group,id=g')
        for node, thread, message in (
                ('x', 't0', "Failed to find node with node-name='x'"),
                ('n', 'x', 'Cannot find iothread x'),
                ('n', 'g', 'Cannot find iothread g')):
            self.qmp_fails(message, self.qmp, 'x-blockdev-set-iothread', {
                'node-name': node, 'iothread': thread})
        self.assertEqual(self.homes(), {})
        self.set_home('n', 't0')
        self.qmp_fails('in use', self.qmp, 'object-del', id='t0')
        self.qmp.cmd('blockdev-del', {'node-name': 'n'})
        self.qmp.cmd('object-del', id='t0')

    def test_max_connections(self):
        self.start(max_connections=2)
        self.add()
        first, second = self.connect(), self.connect(None)
        with self.assertRaises(TimeoutError):
            self.connect(None, timeout=.3)      # waits in the queue
        first.close()
        second.close()
        client = self.connect()
        self.assertTrue(client.flags & 0x100)   # multi-conn

    def test_thousand_clients(self):
        """As many as are allowed, and no more."""
        want = 1000
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 2 * want:
            self.skipTest(f'a process may have only {hard} files')
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * want), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE,
                        (soft, hard))
        daemon = self.start(max_connections=want)
        self.add()
        clients = [self.connect() for _ in range(want)]
        for client in clients:
            client.cookie = client.send(nbd.READ, 0, 512)
        for client in clients:
            self.assertEqual(client.simple(client.cookie, 512), bytes(512))
        with self.assertRaises(TimeoutError):
            self.connect(None, timeout=.3)
        self.assertEqual(daemon.stop(), 0)
        self.assertTrue(all(client.is_gone() for client in clients))

    def test_handshake_limit(self):
        daemon = self.start(handshake_max_seconds=1)
        self.add()
        start = time.monotonic()
        silent, slow = self.connect(None, flags=None), self.connect(None)
        served = self.connect()
        self.assertTrue(silent.is_gone())
        self.assertTrue(slow.is_gone())
        self.assertGreater(time.monotonic() - start, .5)
        time.sleep(.5)
        self.assertEqual(served.pread(0, 512), bytes(512))
        self.assertEqual(daemon.stop(), 0)

    def test_slow_client(self):
        """One that never fetches its replies stops nobody else."""
        daemon = self.start()
        self.add()
        slow, other = self.connect(), self.connect()
        slow.sock.settimeout(1)
        try:
            for _ in range(2000):
                slow.send(nbd.READ, 0, 1 << 20)
        except TimeoutError:
            pass
        for _ in range(20):
            self.assertEqual(other.pread(0, 65536), bytes(65536))
        with open(f'/proc/{daemon.process.pid}/statm', encoding='ascii') as f:
            self.assertLess(int(f.read().split()[1]) * 4096, 200 << 20)
        self.qmp.cmd('block-export-del', id='e', mode='hard')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')

    def asker(self, option, data):
        """A client that asks about the export and never fetches an answer."""
        client = self.connect(None)
        client.agree(nbd.STRUCTURED)
        client.sock.settimeout(1)
        with self.assertRaises(TimeoutError):
            while True:
                client.send_option(option, data)
        return client

    def test_answers_that_nobody_fetches(self):
        """They keep no export, no server, and not the daemon."""
        name = nbd.string('x' * 4000)
        info, contexts = name + b'\0\1\0\1', name + bytes(4)
        daemon = self.start(handshake_max_seconds=0)
        for option, data in ((nbd.INFO, info), (nbd.LIST_META, contexts)):
            self.add(name='x' * 4000)
            client = self.asker(option, data)
            self.qmp.cmd('block-export-del', id='e', mode='hard')
            self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
            self.assertTrue(client.is_gone())
        self.add(name='x' * 4000)
        client = self.asker(nbd.INFO, info)
        self.qmp.cmd('nbd-server-stop')
        self.assertTrue(client.is_gone())
        self.qmp.cmd('nbd-server-start', {'addr': {
            'type': 'unix', 'data': {'path': self.socket}},
            'handshake-max-seconds': 0})
        self.add(name='x' * 4000)
        self.asker(nbd.LIST_META, contexts)
        self.assertEqual(daemon.stop(), 0)

    def test_resize(self):
        self.start()
        self.add(writable=True)
        old = self.connect()
        self.qmp.cmd('block_resize', node_name='n', size=2 << 20)
        new = self.connect()
        self.assertEqual((old.size, new.size), (1 << 20, 2 << 20))
        new.pwrite((2 << 20) - 512, b'z' * 512)
        self.assertEqual(old.pread((2 << 20) - 512, 512), b'z' * 512)
        self.qmp.cmd('block_resize', node_name='n', size=1 << 20)
        with self.assertRaises(nbd.NBDError) as caught:
            new.pwrite((2 << 20) - 512, b'z' * 512)
        self.assertEqual(caught.exception.errno, nbd.ENOSPC)

    def test_option_errors(self):
        for args in ('addr.type=unix', 'addr.type=unix,addr.path=x,y=z',
                     'addr.type=unix,addr.path=x,tls-creds=c'):
            daemon = self.daemon('--nbd-server', args, wait=False)
            self.assertEqual(daemon.wait(), 1)
            self.assertIn(f'--nbd-server {args}: ', daemon.output())


if __name__ == '__main__':
    iotests.main()
