#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp lock
# formats: qcow2
"""blockdev-set-active: a node gives up its image, for another program to write
to it, and reads everything again when it gets it back."""
import os

import iotests
from iotests import locks, tools
from iotests.qcow2_bitmaps import AUTO, bitmaps
from iotests.qcow2_bytes import Qcow2Bytes

DIRTY = 1


class SetActive(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '-o', 'lazy_refcounts=on', '16M')
        self.sides = []

    def side(self, active=True, **node):
        """Another daemon with 'a', which it may open later."""
        cwd = self.path(f'side{len(self.sides)}')
        os.mkdir(cwd)
        daemon = iotests.qmp.Daemon(tools.qsd(), cwd=cwd)
        self.addCleanup(daemon.kill)
        qmp = daemon.connect()
        qmp.sock_path = os.path.join(cwd, 'nbd.sock')
        qmp.cmd('nbd-server-start', addr={
            'type': 'unix', 'data': {'path': qmp.sock_path}})
        qmp.cmd('blockdev-add', self.node(active, **node))
        self.sides.append(daemon)
        return qmp

    def node(self, active=True, **more):
        return {'driver': 'qcow2', 'node-name': 'q', 'active': active,
                'file': {'driver': 'file', 'node-name': 'f',
                         'filename': self.path('a')}, **more}

    def raw_file(self, name):
        return {'driver': 'file', 'filename': self.path(name)}

    def export(self, qmp, node='q', **more):
        qmp.cmd('block-export-add', {
            'type': 'nbd', 'id': 'e', 'node-name': node, 'name': 'e',
            'writable': True, **more})

    def unexport(self, qmp):
        qmp.cmd('block-export-del', id='e', mode='hard')
        qmp.event('BLOCK_EXPORT_DELETED')

    def nbd(self, qmp, *commands, rc=0, options=()):
        return self.io(f'nbd+unix:///e?socket={qmp.sock_path}', *commands,
                       fmt='raw', rc=rc, options=options)

    def set(self, qmp, active, node='q'):
        if node:
            qmp.cmd('blockdev-set-active', node_name=node, active=active)
        else:
            qmp.cmd('blockdev-set-active', active=active)

    def refused(self, message, qmp, active, node='q'):
        before = self.active(qmp)
        self.qmp_fails(message, qmp, 'blockdev-set-active',
                       {'node-name': node, 'active': active} if node
                       else {'active': active})
        self.assertEqual(self.active(qmp), before)

    def nodes(self, qmp):
        return {n['node-name']: n
                for n in qmp.cmd('query-named-block-nodes', flat=True)}

    def active(self, qmp):
        return {name: n['active'] for name, n in self.nodes(qmp).items()}

    def is_dirty(self):
        with Qcow2Bytes(self.path('a')) as q:
            return bool(q.u64(72) & DIRTY)

    def held(self):
        return set(locks.locked_bytes(self.path('a')))

    def bitmap(self, qmp, node='q', name='b'):
        found = [b for b in self.nodes(qmp)[node].get('dirty-bitmaps', [])
                 if b['name'] == name]
        return found[0] if found else None


class HandOver(SetActive):
    def test_there_and_back(self):
        """Each side reads what the other wrote, with the bitmap."""
        self.img('bitmap', '--add', 'a', 'b')
        here, there = self.side(), self.side(active=False)
        for qmp in here, there:
            self.export(qmp, **{'allow-inactive': True})
        for n in range(4):
            qmp, other = (here, there) if n % 2 == 0 else (there, here)
            self.assertEqual(self.active(qmp), {'q': True, 'f': True})
            self.assertEqual(self.active(other), {'q': False, 'f': False})
            if n:
                self.nbd(qmp, *[f'read -P {i + 1} {i}M 64k'
                                for i in range(n)])
                self.assertEqual(self.bitmap(qmp)['count'], n << 16)
                self.assertTrue(self.bitmap(qmp)['recording'])
            self.nbd(qmp, f'write -P {n + 1} {n}M 64k')
            self.nbd(other, 'read 0 64k', rc=1)
            self.nbd(other, 'write 0 64k', rc=1)
            self.assertTrue(self.is_dirty())
            self.assertIsNone(self.bitmap(other))
            self.set(qmp, False)
            self.assertFalse(self.is_dirty())
            self.assertEqual(self.held(), set())
            self.assert_clean('a')
            self.set(other, True)
        for daemon in self.sides:
            daemon.stop()
        self.assert_clean('a')
        self.io('a', *[f'read -P {i + 1} {i}M 64k' for i in range(4)])

    def test_the_distribution_writes_meanwhile(self):
        qmp = self.side()
        self.export(qmp, **{'allow-inactive': True})
        self.nbd(qmp, 'write -P 1 0 64k', 'write -P 1 1M 64k')
        self.ref_io('a', 'write -P 2 0 64k', rc=1)
        self.set(qmp, False)
        self.ref_io('a', 'read -P 1 0 64k', 'write -P 2 0 64k',
                    'write -P 3 2M 64k', 'discard 1M 64k')
        self.ref('resize', '-f', 'qcow2', 'a', '24M')
        self.ref_io('a', 'write -P 4 20M 64k')
        self.set(qmp, True)
        self.nbd(qmp, 'read -P 2 0 64k', 'read -P 0 1M 64k',
                 'read -P 3 2M 64k', 'read -P 4 20M 64k',
                 'write -P 5 23M 64k')
        self.assertEqual(self.nodes(qmp)['q']['image']['virtual-size'],
                         24 << 20)
        self.sides[0].stop()
        self.assert_clean('a')
        self.ref_io('a', 'read -P 5 23M 64k', 'read -P 2 0 64k')

    def test_the_distributions_daemon(self):
        if not tools.ref_qsd():
            self.skipTest('no qemu-storage-daemon of the distribution')
        qmp = self.side()
        self.export(qmp, **{'allow-inactive': True})
        self.nbd(qmp, 'write -P 1 0 64k')
        self.set(qmp, False)
        other = self.daemon(program=tools.ref_qsd())
        peer = other.connect()
        node = self.node()
        del node['active']      # younger than it
        peer.cmd('blockdev-add', node)
        peer.sock_path = self.path('ref.sock')
        peer.cmd('nbd-server-start', addr={
            'type': 'unix', 'data': {'path': peer.sock_path}})
        self.export(peer)
        self.nbd(peer, 'read -P 1 0 64k', 'write -P 2 64k 64k')
        self.refused('Failed to get .* lock', qmp, True)
        self.assertEqual(self.active(qmp), {'q': False, 'f': False})
        other.stop()
        self.set(qmp, True)
        self.nbd(qmp, 'read -P 1 0 64k', 'read -P 2 64k 64k')


class OtherDrivers(SetActive):
    """Each of them, handed over by one daemon to another and back."""

    def setUp(self):
        super().setUp()
        for name in 'r', 's':
            self.img('create', '-q', '-f', 'raw', name, '1M')

    def hand_over(self, node, end='1M'):
        sides = []
        for active in True, False:
            qmp = self.side(active=False)
            if node['driver'] == 'luks':
                qmp.cmd('object-add', qom_type='secret', id='s', data='abc')
            qmp.cmd('blockdev-add', {**node, 'node-name': 'n',
                                     'active': active})
            self.export(qmp, node='n', **{'allow-inactive': True})
            sides.append(qmp)
        for n in range(4):
            qmp, other = sides[n % 2], sides[1 - n % 2]
            self.nbd(qmp, *[f'read -P {i + 1} {i}k 1k' for i in range(n)],
                     f'write -P {n + 1} {n}k 1k',
                     f'write -P {n + 9} {n + 1020}k 1k')
            self.nbd(other, 'read 0 1k', rc=1)
            self.set(qmp, False, 'n')
            self.nbd(qmp, 'write 0 1k', rc=1)
            self.set(other, True, 'n')
        self.nbd(sides[0], *[f'read -P {i + 9} {i + 1020}k 1k'
                             for i in range(4)])
        return sides

    def test_quorum(self):
        self.hand_over({'driver': 'quorum', 'vote-threshold': 2, 'children': [
            self.raw_file('r'), self.raw_file('s')]})
        self.assertEqual(self.read_file('r'), self.read_file('s'))

    def test_blkverify(self):
        self.hand_over({'driver': 'blkverify', 'test': self.raw_file('r'),
                        'raw': self.raw_file('s')})
        self.assertEqual(self.read_file('r'), self.read_file('s'))

    def test_preallocate(self):
        """Nobody else sees a tail."""
        self.create('pre', '16M')
        qmp = self.side(active=False)
        qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': 'n', 'file': {
                'driver': 'preallocate', 'node-name': 'p',
                'file': self.raw_file('pre')}})
        self.export(qmp, node='n', **{'allow-inactive': True})
        for n in range(3):
            self.nbd(qmp, f'write -P {n + 1} {n}M 1M')
            self.set(qmp, False, 'n')
            self.assertLess(os.path.getsize(self.path('pre')),
                            (n + 2) << 20)
            self.ref_io('pre', *[f'read -P {i + 1} {i}M 1M'
                                 for i in range(n + 1)])
            self.assert_clean('pre')
            self.set(qmp, True, 'n')

    def test_concat(self):
        node = {'driver': 'concat', 'files': [self.raw_file('r'),
                                              self.raw_file('s')]}
        here, _ = self.hand_over(node)
        self.set(here, False, 'n')
        os.truncate(self.path('r'), 2 << 20)
        self.refused("'files.0' has another size", here, True, 'n')
        os.truncate(self.path('r'), 1 << 20)
        self.set(here, True, 'n')
        self.nbd(here, 'read -P 1 0 1k')

    def create_luks(self, name):
        self.img('create', '-q', '--object', 'secret,id=s,data=abc', '-f',
                 'luks', '-o', 'key-secret=s,iter-time=10', name, '2M')

    def test_luks(self):
        """Key slots may change meanwhile, the key may not."""
        self.create_luks('l')
        here, there = self.hand_over(
            {'driver': 'luks', 'key-secret': 's', 'file': self.raw_file('l')})
        for qmp in here, there:
            self.set(qmp, False, 'n')
        self.img('amend', '--object', 'secret,id=s,data=abc', '--object',
                 'secret,id=new,data=def', '-o',
                 'state=active,new-secret=new,iter-time=10',
                 '--image-opts', 'driver=luks,key-secret=s,file.filename=l')
        self.set(here, True, 'n')
        self.nbd(here, 'read -P 1 0 1k')
        slots = self.nodes(here)['n']['image']['format-specific']['data'][
            'slots']
        self.assertEqual([s['active'] for s in slots[:3]],
                         [True, True, False])
        self.set(here, False, 'n')
        self.create_luks('l')
        self.refused('another LUKS header', here, True, 'n')
        os.truncate(self.path('l'), 100)
        self.refused("Could not activate node 'n'", here, True, 'n')


class Refused(SetActive):
    def test_unknown_node(self):
        self.refused("Failed to find node with node-name='x'|"
                     "Cannot find.*node-name='x'", self.side(), False, 'x')

    def test_users(self):
        qmp = self.side()
        self.refused("Node 'f' has active parent node 'q'", qmp, False, 'f')
        self.export(qmp)
        for node in ('q', None):
            self.refused("Node 'q' cannot be inactive while it is used by "
                         "nbd export 'e'", qmp, False, node)
        self.nbd(qmp, 'write -P 1 0 64k')
        self.unexport(qmp)
        self.export(qmp, writable=False)
        self.nbd(qmp, 'read 0 64k', options=['-r'])
        self.set(qmp, False)
        self.nbd(qmp, 'read 0 64k', rc=1, options=['-r'])

    def test_export_that_was_not_to_be(self):
        """It leaves the node as it was."""
        self.side()
        cwd = self.path('other')
        os.mkdir(cwd)
        daemon = iotests.qmp.Daemon(tools.qsd(), '--nbd-server',
                                    'addr.type=unix,addr.path=s', cwd=cwd)
        self.addCleanup(daemon.kill)
        qmp = daemon.connect()
        qmp.cmd('blockdev-add', {**self.raw_file('a'), 'node-name': 'f',
                                 'active': False})
        self.qmp_fails('Failed to get "write" lock', qmp, 'block-export-add', {
            'type': 'nbd', 'id': 'e', 'node-name': 'f', 'writable': True})
        self.assertEqual(self.active(qmp), {'f': False})
        self.assertEqual(daemon.stop(), 0)

    def test_job(self):
        """Not while it runs, and none can be started on inactive nodes."""
        self.create('top', '-b', 'a', '-F', 'qcow2')
        self.create('over', '-b', 'top', '-F', 'qcow2')
        self.io('top', 'write 0 8M')
        qmp = self.side()
        for node, name, backing in ('t', 'top', 'q'), ('o', 'over', 't'):
            qmp.cmd('blockdev-add', {
                'driver': 'qcow2', 'node-name': node, 'backing': backing,
                'file': {'driver': 'file', 'filename': self.path(name)}})
        job = {'job-id': 'j', 'device': 'o', 'top-node': 't',
               'base-node': 'q'}
        qmp.cmd('block-commit', {**job, 'speed': 1})
        for node in 'o', None:
            self.refused("inactive while it is used by commit job 'j'|"
                         "does not support inactive nodes", qmp, False, node)
        qmp.cmd('job-cancel', id='j')
        qmp.event('BLOCK_JOB_CANCELLED')
        self.set(qmp, False, None)
        self.qmp_fails('[Ii]nactive', qmp, 'block-commit', job)
        self.assertEqual(set(self.active(qmp).values()), {False})

    def test_bitmap_in_use(self):
        self.img('bitmap', '--add', 'a', 'b')
        self.img('bitmap', '--disable', 'a', 'b')
        qmp = self.side(**{'read-only': True})
        self.export(qmp, writable=False, bitmaps=['b'], **{'allow-inactive': True})
        self.refused("Bitmap 'b' is currently in use", qmp, False)
        self.nbd(qmp, 'read -P 0 0 64k', options=['-r'])

    def test_failing_flush(self):
        """All is active as before, and works; the next time it succeeds."""
        self.img('bitmap', '--add', 'a', 'b')
        qmp = self.side(file={
            'driver': 'blkdebug', 'node-name': 'd',
            'inject-error': [{'event': 'flush_to_disk', 'errno': 28,
                              'state': 3, 'once': True}],
            # The first write marks the image as dirty.
            'set-state': [{'event': 'write_aio', 'state': n,
                           'new_state': n + 1} for n in (1, 2)],
            'image': {'driver': 'file', 'node-name': 'f',
                      'filename': self.path('a')}})
        self.export(qmp, **{'allow-inactive': True})
        self.try_with_fault(qmp)
        self.sides[-1].stop()
        self.assert_clean('a')
        self.io('a', 'read -P 1 0 64k', 'read -P 3 4M 64k')
        b = bitmaps(self.path('a'))['b']
        self.assertEqual(b.flags, AUTO)
        self.assertEqual(b.dirty, [[0, 128 << 10], [4 << 20, 4160 << 10]])

    def try_with_fault(self, qmp):
        client = self.io_process('-f', 'raw', '-t', 'writeback',
                                 f'nbd+unix:///e?socket={qmp.sock_path}')
        for command in 'write -P 1 0 64k', 'write -P 2 64k 64k':
            self.assertIn('wrote', client.cmd(command))
        self.refused('No space left', qmp, False, None)
        self.assertIn('wrote', client.cmd('write -P 3 4M 64k'))
        self.set(qmp, False, None)
        self.assertFalse(self.is_dirty())
        self.assertEqual(self.held(), set())
        client.quit()

    def test_what_an_inactive_node_refuses(self):
        self.create('top', '-b', 'a', '-F', 'qcow2')
        qmp = self.side(active=False)
        qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': 't', 'active': False,
            'backing': 'q', 'file': {'driver': 'file', 'node-name': 'g',
                                     'filename': self.path('top')}})
        before = self.read_file('a'), self.read_file('top')
        message = "Node '[qt]' is inactive|Node 'q' cannot be inactive"
        for command, args in (
                ('blockdev-reopen', {'options': [self.node()]}),
                ('block_resize', {'node-name': 'q', 'size': 1 << 20}),
                ('blockdev-snapshot-internal-sync',
                 {'device': 'q', 'name': 's'}),
                ('change-backing-file',
                 {'device': 't', 'image-node-name': 't',
                  'backing-file': 'x'})):
            with self.subTest(command):
                self.qmp_fails(message, qmp, command, args)
        self.qmp_fails("Inactive node 'q' can't be a 'file' child of active "
                       "node 'r'", qmp, 'blockdev-add',
                       {'driver': 'raw', 'node-name': 'r', 'file': 'q'})
        qmp.cmd('blockdev-add', {'driver': 'raw', 'node-name': 'r',
                                 'file': 'q', 'active': False})
        self.set(qmp, True)
        self.assertEqual({n for n, on in self.active(qmp).items() if on},
                         {'f', 'q'})
        self.set(qmp, False)
        self.sides[0].stop()
        self.assertEqual((self.read_file('a'), self.read_file('top')), before)

    def test_driver_without_support(self):
        for name in 'r', 'log':
            self.img('create', '-q', '-f', 'raw', name, '1M')
        qmp = self.side()
        node = {'driver': 'blklogwrites', 'node-name': 'p',
                'file': self.raw_file('r'), 'log': self.raw_file('log')}
        message = "'blklogwrites' of node 'p' does not support inactive nodes"
        self.qmp_fails(message, qmp, 'blockdev-add',
                       {**node, 'active': False})
        qmp.cmd('blockdev-add', node)
        self.refused(message, qmp, False, None)
        qmp.cmd('blockdev-del', node_name='p')
        self.set(qmp, False, None)

    def test_image_that_is_another_one(self):
        """The node stays inactive and without locks; it can be deleted."""
        qmp = self.side(active=False)
        self.create('b', '16M')
        self.img('rebase', '-u', '-f', 'qcow2', '-b', 'b', '-F', 'qcow2', 'a')
        self.refused("Could not activate node 'q': The image has another "
                     "backing file", qmp, True)
        self.assertEqual(self.held(), set())
        self.io('a', 'write -P 1 0 64k')
        qmp.cmd('blockdev-del', node_name='q')


class Exports(SetActive):
    def test_without_allow_inactive(self):
        qmp = self.side(active=False)
        self.assertEqual(self.held(), set())
        self.qmp_fails('already|export named|not found', qmp,
                       'block-export-add',
                       {'type': 'nbd', 'id': 'e', 'node-name': 'q',
                        'bitmaps': ['none']})
        self.assertEqual(self.active(qmp), {'q': False, 'f': False})
        self.export(qmp)
        self.assertEqual(self.active(qmp), {'q': True, 'f': True})
        self.nbd(qmp, 'write -P 1 0 64k')

    def test_conflict(self):
        qmp = self.side(active=False)
        holder = self.io_process('-f', 'qcow2', 'a')
        message = 'Failed to get .* lock'
        self.refused(message, qmp, True)
        self.refused(message, qmp, True, None)
        self.qmp_fails(message, qmp, 'block-export-add',
                       {'type': 'nbd', 'id': 'e', 'node-name': 'q'})
        self.assertEqual(self.active(qmp), {'q': False, 'f': False})
        holder.quit()
        self.wait_unlocked('a')
        self.export(qmp)
        self.nbd(qmp, 'write -P 1 0 64k')

    def test_kind_without_support(self):
        qmp = self.side(active=False)
        self.qmp_fails('vhost-user-blk export does not support inactive',
                       qmp, 'block-export-add',
                       {'type': 'vhost-user-blk', 'id': 'v',
                        'node-name': 'q', 'allow-inactive': True,
                        'addr': {'type': 'unix', 'path': self.path('v')}})

    def test_requests_that_wait(self):
        """A client that stays has errors, then goes on."""
        qmp = self.side()
        self.export(qmp, **{'allow-inactive': True})
        client = self.io_process('-f', 'raw',
                                 f'nbd+unix:///e?socket={qmp.sock_path}')
        self.assertIn('wrote', client.cmd('write -P 1 0 64k'))
        self.set(qmp, False)
        self.assertIn('Operation not permitted',
                      client.cmd('read 0 64k'))
        self.set(qmp, True)
        self.assertIn('read', client.cmd('read -P 1 0 64k'))


class AllNodes(SetActive):
    def test_several(self):
        """A chain and a second disk, all at once; or none of them."""
        self.create('top', '-b', 'a', '-F', 'qcow2')
        self.create('disk', '1M')
        qmp = self.side()
        qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': 't', 'backing': 'q',
            'file': {'driver': 'file', 'filename': self.path('top')}})
        qmp.cmd('object-add', {'qom-type': 'throttle-group', 'id': 'g'})
        qmp.cmd('blockdev-add', {
            'driver': 'throttle', 'node-name': 'u', 'throttle-group': 'g',
            'file': 't'})
        qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': 'd',
            'file': {'driver': 'file', 'filename': self.path('disk')}})
        self.export(qmp, 'u', **{'allow-inactive': True})
        self.nbd(qmp, 'write -P 1 0 64k')
        self.set(qmp, False, None)
        self.assertEqual(set(self.active(qmp).values()), {False})
        self.io('top', 'read -P 1 0 64k', 'write -P 2 64k 64k')
        holder = self.io_process('-f', 'qcow2', 'disk')
        self.refused('lock', qmp, True, None)
        self.io('top', 'write -P 3 128k 64k')
        holder.quit()
        self.wait_unlocked('disk')
        self.set(qmp, True, None)
        self.assertEqual(set(self.active(qmp).values()), {True})
        self.nbd(qmp, 'read -P 1 0 64k', 'read -P 2 64k 64k',
                 'read -P 3 128k 64k', 'write -P 4 0 64k')

    def test_what_others_need_stays(self):
        """A backing file of two disks goes with the second of them."""
        qmp = self.side(**{'read-only': True})
        for name in 'xy':
            self.create(name, '-b', 'a', '-F', 'qcow2')
            qmp.cmd('blockdev-add', {
                'driver': 'qcow2', 'node-name': name, 'backing': 'q',
                'file': {'driver': 'file', 'node-name': 'f' + name,
                         'filename': self.path(name)}})
        self.set(qmp, False, 'x')
        self.assertEqual({n for n, on in self.active(qmp).items() if on},
                         {'y', 'fy', 'q', 'f'})
        self.set(qmp, False, 'y')
        self.assertEqual(set(self.active(qmp).values()), {False})
        self.set(qmp, True, 'x')
        self.assertEqual({n for n, on in self.active(qmp).items() if on},
                         {'x', 'fx', 'q', 'f'})

    def test_again(self):
        """What is so already stays so; a reopen works after it."""
        qmp = self.side(active=False)
        for active in (False, True, True, False, True):
            self.set(qmp, active)
        qmp.cmd('blockdev-reopen', options=[
            {**self.node(**{'read-only': True}), 'file': 'f'}])
        self.assertTrue(self.nodes(qmp)['q']['ro'])


if __name__ == '__main__':
    iotests.main()
