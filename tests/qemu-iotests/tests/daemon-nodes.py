#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: qcow2
"""Nodes over QMP: adding, removing, reopening, overlays, transactions, length,
thresholds, questions. What fails changes nothing."""
import os

import iotests


class Nodes(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.img('create', '-q', '-f', 'qcow2', 'base.qcow2', '4M')
        self.io('base.qcow2', 'write -P 1 0 1M')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F',
                 'qcow2', 'top.qcow2')
        self.qsd = self.daemon()
        self.qmp = self.qsd.connect()

    def add(self, name, filename=None, **options):
        self.qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': name,
            'file': {'driver': 'file', 'filename': filename or name},
            **options})

    def fails(self, message, command, arguments=None, **kwargs):
        """Refused, and the graph is the same as before."""
        before = self.state()
        self.qmp_fails(message, self.qmp, command, arguments, **kwargs)
        self.assertEqual(self.state(), before)

    def state(self):
        return (self.qmp.cmd('query-named-block-nodes', flat=True),
                self.edges(), sorted(os.listdir(self.dir)))

    def edges(self):
        """{(parent, edge, child)} by names."""
        graph = self.qmp.cmd('query-block-graph')
        names = {n['id']: n['name'] for n in graph['nodes']}
        return {(names[e['parent']], e['name'], names[e['child']],
                 tuple(sorted(e['perm'])), tuple(sorted(e['shared-perm'])))
                for e in graph['edges']}

    def children(self, name):
        return {e[1]: e[2] for e in self.edges() if e[0] == name}

    def names(self):
        return {n['node-name']
                for n in self.qmp.cmd('query-named-block-nodes', flat=True)}

    # --- blockdev-add, blockdev-del ---

    def test_add_and_delete(self):
        self.add('top', 'top.qcow2')
        self.assertIn('top', self.names())
        self.assertEqual(set(self.children('top')), {'file', 'backing'})
        self.fails("Duplicate nodes with node-name='top'", 'blockdev-add',
                   driver='null-co', node_name='top')
        self.fails("'node-name' must be specified for the root node",
                   'blockdev-add', driver='null-co')
        self.fails("Invalid node-name: '#1'", 'blockdev-add',
                   driver='null-co', node_name='#1')
        self.fails('Node name too long', 'blockdev-add', driver='null-co',
                   node_name='x' * 32)
        self.fails("Could not open 'nofile': No such file", 'blockdev-add', {
            'driver': 'qcow2', 'node-name': 'n',
            'file': {'driver': 'file', 'filename': 'nofile'}})
        self.qmp.cmd('blockdev-add', driver='raw', node_name='user',
                     file='top')
        self.fails("Block device top is in use: it is used by node 'user' as "
                   "'file'", 'blockdev-del', node_name='top')
        self.qmp.cmd('blockdev-del', node_name='user')
        self.qmp.cmd('blockdev-del', node_name='top')
        self.assertEqual(self.names(), set())
        self.fails("Failed to find node with node-name='top'", 'blockdev-del',
                   node_name='top')

    def test_delete_of_a_child(self):
        self.add('top', 'top.qcow2')
        below = self.children('top')['backing']
        self.fails("is in use: it is used by node 'top' as 'backing'",
                   'blockdev-del', node_name=below)

    def test_locks(self):
        """A node locks its file as long as it is there."""
        self.add('top', 'top.qcow2')
        self.assertIn('lock', self.io('top.qcow2', 'write 0 1',
                                      rc=1).stderr)
        self.qmp.cmd('blockdev-del', node_name='top')
        self.io('top.qcow2', 'write 0 1')

    # --- blockdev-snapshot ---

    def test_snapshot(self):
        self.add('top', 'top.qcow2')
        self.qmp.cmd('blockdev-add', driver='raw', node_name='user',
                     file='top')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'top.qcow2', '-F',
                 'qcow2', 'new.qcow2')
        self.add('new', 'new.qcow2', backing=None)
        self.fails("Cannot find device='x' nor node-name='x'",
                   'blockdev-snapshot', node='x', overlay='new')
        self.fails("Cannot find device='x' nor node-name='x'",
                   'blockdev-snapshot', node='top', overlay='x')
        self.fails('The overlay is already in use', 'blockdev-snapshot',
                   node='new', overlay='top')
        self.fails('The overlay does not support backing images',
                   'blockdev-snapshot', node='top', overlay='user')
        self.fails("cannot be its own overlay", 'blockdev-snapshot',
                   node='top', overlay='top')
        self.qmp.cmd('blockdev-snapshot', node='top', overlay='new')
        self.assertEqual(self.children('user'), {'file': 'new'})
        self.assertEqual(self.children('new')['backing'], 'top')
        self.assertEqual(self.qsd.stop(), 0)
        self.assert_clean('new.qcow2')
        self.assert_same('new.qcow2', 'base.qcow2')

    def test_snapshot_in_the_middle(self):
        self.add('base', 'base.qcow2')
        self.add('top', 'top.qcow2', backing='base')
        self.img('create', '-q', '-f', 'qcow2', 'mid.qcow2', '4M')
        self.add('mid', 'mid.qcow2')
        self.qmp.cmd('blockdev-snapshot', node='base', overlay='mid')
        self.assertEqual(self.children('top')['backing'], 'mid')
        self.assertEqual(self.children('mid')['backing'], 'base')

    def test_snapshot_sync(self):
        self.add('top', 'top.qcow2')
        self.qmp.cmd('blockdev-add', driver='raw', node_name='user',
                     file='top')
        sync = 'blockdev-snapshot-sync'
        self.fails('New overlay node-name missing', sync, node_name='top',
                   snapshot_file='s.qcow2')
        self.fails('New overlay node-name already in use', sync,
                   node_name='top', snapshot_file='s.qcow2',
                   snapshot_node_name='user')
        self.fails("Unknown driver 'nope'", sync, node_name='top',
                   snapshot_file='s.qcow2', snapshot_node_name='s',
                   format='nope')
        self.fails('does not support backing images', sync, node_name='top',
                   snapshot_file='s.raw', snapshot_node_name='s',
                   format='raw')
        self.fails("nosuchdir", sync, node_name='top',
                   snapshot_file='nosuchdir/s.qcow2', snapshot_node_name='s')
        self.fails("Invalid node-name: '1'", sync, node_name='top',
                   snapshot_file='s.qcow2', snapshot_node_name='1')
        self.fails("No such file", sync, node_name='top',
                   snapshot_file='s.qcow2', snapshot_node_name='s',
                   mode='existing')
        self.qmp.cmd(sync, node_name='top', snapshot_file='s.qcow2',
                     snapshot_node_name='s')
        self.assertEqual(self.children('user'), {'file': 's'})
        self.assertEqual(self.children('s')['backing'], 'top')
        self.assertEqual(self.qsd.stop(), 0)
        info = self.img_json('info', 's.qcow2')
        self.assertEqual(info['backing-filename'], 'top.qcow2')
        self.assert_same('s.qcow2', 'base.qcow2')

    # --- transaction ---

    def snapshot_action(self, node, file, name):
        return {'type': 'blockdev-snapshot-sync', 'data': {
            'node-name': node, 'snapshot-file': file,
            'snapshot-node-name': name}}

    def test_transaction(self):
        self.add('a', 'base.qcow2')
        self.qmp.cmd('blockdev-add', driver='null-co', node_name='n')
        abort = {'type': 'abort', 'data': {}}
        one = self.snapshot_action('a', 's1', 's1')
        two = self.snapshot_action('n', 's2', 's2')
        self.fails('Transaction aborted using Abort action', 'transaction',
                   actions=[abort])
        self.fails('Transaction aborted using Abort action', 'transaction',
                   actions=[one, two, abort])
        self.fails('Transaction aborted using Abort action', 'transaction',
                   actions=[abort, one])
        self.fails("Cannot find device='' nor node-name='x'", 'transaction',
                   actions=[one, self.snapshot_action('x', 's3', 's3')])
        self.fails('completion-mode = grouped', 'transaction', actions=[one],
                   properties={'completion-mode': 'grouped'})
        self.qmp.cmd('transaction', actions=[])
        self.qmp.cmd('transaction', actions=[one, two])
        self.assertEqual(self.children('s1')['backing'], 'a')
        self.assertEqual(self.children('s2')['backing'], 'n')

    def test_transaction_with_one_overlay_twice(self):
        self.add('a', 'base.qcow2')
        self.qmp.cmd('blockdev-add', driver='null-co', node_name='n')
        self.img('create', '-q', '-f', 'qcow2', 'o.qcow2', '4M')
        self.add('o', 'o.qcow2')
        actions = [{'type': 'blockdev-snapshot',
                    'data': {'node': node, 'overlay': 'o'}}
                   for node in ('a', 'n')]
        self.fails("already has a backing file", 'transaction',
                   actions=actions)

    # --- blockdev-reopen ---

    def options(self, name, filename, **options):
        return {'driver': 'qcow2', 'node-name': name,
                'file': {'driver': 'file', 'filename': filename},
                **options}

    def test_reopen(self):
        self.qmp.cmd('blockdev-add', driver='file', node_name='f',
                     filename='top.qcow2')
        self.add('base', 'base.qcow2')
        top = {'driver': 'qcow2', 'node-name': 'top', 'file': 'f',
               'backing': 'base'}
        self.qmp.cmd('blockdev-add', top)
        reopen = 'blockdev-reopen'
        self.fails('node-name not specified', reopen,
                   options=[{'driver': 'null-co'}])
        self.fails("Failed to find node with node-name='x'", reopen,
                   options=[top, {'driver': 'null-co', 'node-name': 'x'}])
        self.fails("Node 'top' is in the list twice", reopen,
                   options=[top, top])
        self.fails("backing is missing for 'top'", reopen,
                   options=[{k: v for k, v in top.items() if k != 'backing'}])
        self.fails("Cannot change the option 'driver'", reopen,
                   options=[{'driver': 'raw', 'node-name': 'top',
                             'file': 'f'}])
        self.fails("Making 'top' a backing child of 'top' would create a "
                   "cycle", reopen, options=[dict(top, backing='top')])
        self.fails("Cannot change the option 'force-share'", reopen,
                   options=[dict(top, **{'force-share': True,
                                         'read-only': True})])
        # One of several that cannot be done undoes the others.
        self.fails("Cannot change the option 'filename'", reopen, options=[
            dict(top, **{'read-only': True}),
            {'driver': 'file', 'node-name': 'f', 'filename': 'other'}])
        self.qmp.cmd(reopen, options=[
            dict(top, **{'read-only': True, 'discard': 'unmap'})])
        self.assertTrue(self.node('top')['ro'])
        self.qmp.cmd(reopen, options=[top])
        self.assertFalse(self.node('top')['ro'])
        self.qmp.cmd(reopen, options=[dict(top, backing=None)])
        self.assertNotIn('backing', self.children('top'))
        self.qmp.cmd(reopen, options=[])

    def node(self, name):
        return next(n for n in self.qmp.cmd('query-named-block-nodes')
                    if n['node-name'] == name)

    # --- properties ---

    def test_resize(self):
        self.add('top', 'top.qcow2')
        resize = 'block_resize'
        self.fails("Cannot find device='' nor node-name='x'", resize,
                   node_name='x', size=0)
        self.fails("Cannot find device='' nor node-name=''", resize, size=0)
        self.fails("Only one of 'device' and 'node-name'", resize,
                   node_name='top', device='top', size=0)
        self.fails("Parameter 'size' expects a >0 size", resize,
                   node_name='top', size=-1)
        self.fails('The new size must be a multiple of 512', resize,
                   node_name='top', size=513)
        self.qmp.cmd(resize, node_name='top', size=8 << 20)
        self.assertEqual(self.node('top')['image']['virtual-size'], 8 << 20)
        self.qmp.cmd(resize, device='top', size=6 << 20)
        self.qmp.cmd('blockdev-add', driver='null-co', node_name='n')
        self.fails('resize', resize, node_name='n', size=512)
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.img_json('info', 'top.qcow2')['virtual-size'],
                         6 << 20)
        self.assert_clean('top.qcow2')

    def test_read_only_cannot_be_resized(self):
        self.add('top', 'top.qcow2', **{'read-only': True})
        self.fails("read-only", 'block_resize', node_name='top',
                   size=8 << 20)

    def test_change_backing_file(self):
        self.img('create', '-q', '-f', 'qcow2', '-b', 'top.qcow2', '-F',
                 'qcow2', 'over.qcow2')
        self.add('base', 'base.qcow2')
        self.add('top', 'top.qcow2', backing='base', **{'read-only': True})
        self.add('over', 'over.qcow2', backing='top')
        change = 'change-backing-file'
        self.fails("Cannot find device='x'", change, device='x',
                   image_node_name='top', backing_file='y')
        self.fails("node-name='x'", change, device='over',
                   image_node_name='x', backing_file='y')
        self.fails('not in the same chain', change, device='top',
                   image_node_name='over', backing_file='y')
        self.fails('without a backing file', change, device='over',
                   image_node_name='base', backing_file='y')
        self.qmp.cmd(change, device='over', image_node_name='top',
                     backing_file='./base.qcow2')
        self.assertTrue(self.node('top')['ro'])
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.img_json('info', 'top.qcow2')
                         ['backing-filename'], './base.qcow2')

    def test_write_threshold(self):
        self.add('top', 'top.qcow2')
        below = self.children('top')['file']
        self.fails("Device 'x' not found", 'block-set-write-threshold',
                   node_name='x', write_threshold=1)
        self.qmp.cmd('block-set-write-threshold', node_name=below,
                     write_threshold=100 << 10)
        self.assertEqual(self.node(below)['write_threshold'], 100 << 10)
        self.qmp.cmd('block_resize', node_name='top', size=1 << 40)
        event = self.qmp.event('BLOCK_WRITE_THRESHOLD')['data']
        self.assertEqual(event['node-name'], below)
        self.assertEqual(event['write-threshold'], 100 << 10)
        self.assertGreater(event['amount-exceeded'], 0)
        self.assertEqual(self.node(below)['write_threshold'], 0)

    # --- questions ---

    def test_questions(self):
        self.add('top', 'top.qcow2')
        nodes = self.qmp.cmd('query-named-block-nodes')
        top = next(n for n in nodes if n['node-name'] == 'top')
        self.assertEqual(top['image']['backing-image']['filename'],
                         'base.qcow2')
        self.assertEqual(top['backing_file_depth'], 1)
        flat = self.qmp.cmd('query-named-block-nodes', flat=True)
        self.assertFalse([n for n in flat if 'backing-image' in n['image']])
        self.assertEqual(self.qmp.cmd('query-block'), [])
        self.assertEqual(self.qmp.cmd('query-blockstats'), [])
        stats = self.qmp.cmd('query-blockstats', query_nodes=True)
        self.assertEqual({s['node-name'] for s in stats}, self.names())
        debug = self.qmp.cmd('x-debug-query-block-graph')
        own = self.qmp.cmd('query-block-graph')
        self.assertEqual(len(debug['nodes']), len(own['nodes']))
        self.assertEqual(len(debug['edges']), len(own['edges']))

    def test_same_answers_as_the_distribution(self):
        if not iotests.ref_qsd():
            self.skipTest('qemu-storage-daemon is not installed')
        answers = []
        self.qsd.stop()
        for program in (iotests.qsd(), iotests.ref_qsd()):
            self.qsd = self.daemon(program=program)
            self.qmp = self.qsd.connect()
            self.add('top', 'top.qcow2', **{'read-only': True})
            top = self.node('top')
            # Later than 7.2.
            for member in ('children', 'active'):
                top.pop(member, None)
            answers.append(top)
            self.qsd.stop()
        self.assertEqual(*answers)

    # --- objects ---

    def test_objects(self):
        add = {'qom-type': 'iothread', 'id': 't0'}
        self.qmp.cmd('object-add', add)
        self.fails('duplicate', 'object-add', add)
        self.fails("object 't1' not found", 'object-del', id='t1')
        self.qmp.cmd('object-del', id='t0')
        self.qmp.cmd('object-add', add)


if __name__ == '__main__':
    iotests.main()
