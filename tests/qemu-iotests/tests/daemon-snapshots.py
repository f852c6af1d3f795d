#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: qcow2
"""Internal snapshots over QMP, alone and in transactions, which take them back."""
import iotests

TAKE = 'blockdev-snapshot-internal-sync'
DELETE = 'blockdev-snapshot-delete-internal-sync'


class InternalSnapshots(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.qsd = self.daemon()
        self.qmp = self.qsd.connect()
        for name in ('a', 'b'):
            self.img('create', '-q', '-f', 'qcow2', f'{name}.img', '1M')
            self.add(name)

    def add(self, name, filename=None, **options):
        self.qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': name, **options,
            'file': {'driver': 'file', 'filename': filename or f'{name}.img'}})

    def snapshots(self, node):
        info, = [n for n in self.qmp.cmd('query-named-block-nodes')
                 if n['node-name'] == node]
        return [s['name'] for s in info['image'].get('snapshots', [])]

    def fails(self, message, command, **kwargs):
        before = self.snapshots('a'), self.snapshots('b')
        self.qmp_fails(message, self.qmp, command, **kwargs)
        self.assertEqual((self.snapshots('a'), self.snapshots('b')), before)

    def test_take_and_delete(self):
        self.qmp.cmd(TAKE, device='a', name='one')
        self.qmp.cmd(TAKE, device='a', name='two')
        self.assertEqual(self.snapshots('a'), ['one', 'two'])
        info = self.qmp.cmd(DELETE, device='a', name='one')
        self.assertEqual((info['id'], info['name'], info['vm-state-size']),
                         ('1', 'one', 0))
        self.assertEqual(self.qmp.cmd(DELETE, device='a', id='2')['name'],
                         'two')
        self.qmp.cmd(TAKE, device='a', name='three')
        self.assertEqual(self.qsd.stop(), 0)
        self.assertIn('three', self.ref('snapshot', '-l', 'a.img').stdout)
        self.ref('check', 'a.img')

    def test_refused(self):
        self.qmp.cmd('blockdev-add', driver='null-co', node_name='n')
        self.img('create', '-q', '-f', 'qcow2', 'ro.img', '1M')
        self.add('ro', **{'read-only': True})
        self.qmp.cmd(TAKE, device='a', name='one')
        self.fails("Cannot find device='x' nor node-name='x'", TAKE,
                   device='x', name='s')
        self.fails('Name is empty', TAKE, device='a', name='')
        self.fails("Snapshot with name 'one' already exists on device 'a'",
                   TAKE, device='a', name='one')
        self.fails('longer than 255 bytes', TAKE, device='a', name='x' * 256)
        self.fails("Device 'ro' is read only", TAKE, device='ro', name='s')
        self.fails("'null-co' used by device 'n' does not support", TAKE,
                   device='n', name='s')
        self.fails('Name or id must be provided', DELETE, device='a')
        self.fails("Snapshot with id 'null' and name 'two' does not exist on "
                   "device 'a'", DELETE, device='a', name='two')
        self.fails("id '9' and name 'one' does not exist", DELETE, device='a',
                   id='9', name='one')

    def action(self, node, name):
        return {'type': TAKE, 'data': {'device': node, 'name': name}}

    def test_transaction(self):
        self.fails('Transaction aborted using Abort action', 'transaction',
                   actions=[self.action('a', 's'), self.action('b', 's'),
                            {'type': 'abort', 'data': {}}])
        self.fails('already exists', 'transaction',
                   actions=[self.action('a', 's'), self.action('a', 's')])
        self.qmp.cmd('transaction', actions=[
            self.action('a', 's'), self.action('b', 's'),
            {'type': 'blockdev-snapshot-sync', 'data': {
                'node-name': 'a', 'snapshot-file': 'o.img',
                'snapshot-node-name': 'o'}}])
        self.assertEqual(self.snapshots('a'), ['s'])
        self.assertEqual(self.snapshots('b'), ['s'])
        self.assertEqual(self.qsd.stop(), 0)
        for name in ('a.img', 'b.img', 'o.img'):
            self.assert_clean(name)


if __name__ == '__main__':
    iotests.main()
