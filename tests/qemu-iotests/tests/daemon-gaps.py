#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: qcow2
"""Runs over QMP that the distribution's daemon, and later ones of QEMU, refuse or
leave half done: permissions that are given up and edges that several rely on."""
import os

import iotests
from iotests import locks, nbd


class Gaps(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.qsd = self.daemon()
        self.qmp = self.qsd.connect()

    def graph(self):
        graph = self.qmp.cmd('query-block-graph')
        names = {n['id']: n['name'] for n in graph['nodes']}
        return {(names[e['parent']], names[e['child']]): e
                for e in graph['edges']}

    def add(self, name, **options):
        self.qmp.cmd('blockdev-add', {'node-name': name, **{
            k.replace('_', '-'): v for k, v in options.items()}})

    def reopen(self, *options):
        self.qmp.cmd('blockdev-reopen', {'options': list(options)})

    # --- one edge, several who rely on it ---

    def overlays(self):
        """base <- mid <- o1, and mid <- o2."""
        self.img('create', '-q', '-f', 'qcow2', 'base', '1M')
        for name, below in (('mid', 'base'), ('o1', 'mid'), ('o2', 'mid')):
            self.img('create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2',
                     name)
        self.io('base', 'write -q -P 1 0 256k')
        self.io('mid', 'write -q -P 2 64k 64k')
        for name, below in (('base', None), ('mid', 'base'), ('o1', 'mid'),
                            ('o2', 'mid')):
            self.add(name, driver='qcow2', backing=below, file={
                'driver': 'file', 'filename': name})

    def test_two_copy_on_read_with_one_bottom(self):
        self.overlays()
        for number in '12':
            self.add(f'cor{number}', driver='copy-on-read', bottom='base',
                     file=f'o{number}')
        claims = self.graph()['mid', 'base']['claims']
        self.assertEqual({c['kind'] for c in claims}, {'freeze'})
        self.assertEqual(len(claims), 2)
        take_off = {'driver': 'qcow2', 'node-name': 'mid', 'backing': None,
                    'file': self.file_of('mid')}
        # One leaves, the other one still holds on.
        for number in '12':
            self.qmp_fails(f"cor{number}'|cor2'", self.qmp, 'blockdev-reopen',
                           {'options': [take_off]})
            self.qmp.cmd('blockdev-del', {'node-name': f'cor{number}'})
        self.reopen(take_off)
        self.assertNotIn(('mid', 'base'), self.graph())

    def file_of(self, name):
        return next(child for parent, child in self.graph()
                    if parent == name and child.startswith('#'))

    def test_copy_on_read_above_and_commit_below(self):
        """A job changes edges that others do not rely on, and no others."""
        self.overlays()
        self.add('cor1', driver='copy-on-read', bottom='mid', file='o1')
        self.qmp_fails("copy-on-read node 'cor1'", self.qmp, 'block-commit', {
            'job-id': 'j', 'device': 'o1', 'top-node': 'mid',
            'base-node': 'base'})
        self.assertEqual(self.qmp.cmd('query-jobs'), [])
        self.qmp.cmd('blockdev-del', {'node-name': 'cor1'})
        self.qmp.cmd('block-commit', {
            'job-id': 'j', 'device': 'o1', 'top-node': 'mid',
            'base-node': 'base'})
        self.qmp.event('BLOCK_JOB_COMPLETED', device='j')
        self.assertIn(('o1', 'base'), self.graph())
        self.assertIn(('o2', 'base'), self.graph())

    # --- permissions that are given up ---

    def test_file_without_name_becomes_read_only(self):
        self.img('create', '-q', '-f', 'raw', 'r', '1M')
        node = {'driver': 'file', 'node-name': 'n', 'filename': 'r'}
        self.qmp.cmd('blockdev-add', node)
        os.unlink(self.path('r'))
        self.reopen({**node, 'read-only': True})
        self.assertTrue(self.qmp.cmd('query-named-block-nodes')[0]['ro'])
        self.reopen(node)
        self.assertFalse(self.qmp.cmd('query-named-block-nodes')[0]['ro'])

    def test_export_of_a_renamed_file_ends(self):
        """What its writer held is given up though the name is gone."""
        self.img('create', '-q', '-f', 'raw', 'r', '1M')
        self.add('f', driver='file', filename='r', auto_read_only=True)
        self.add('n', driver='raw', file='f')
        self.qmp.cmd('nbd-server-start', {'addr': {
            'type': 'unix', 'data': {'path': 's'}}})
        self.qmp.cmd('block-export-add', {'type': 'nbd', 'id': 'e',
                                          'node-name': 'n', 'writable': True})
        client = nbd.NBDClient(self.path('s'))
        self.addCleanup(client.close)
        client.go('n')
        client.pwrite(0, b'x' * 512)
        self.assertIn(101, locks.locked_bytes(self.path('r')))
        os.rename(self.path('r'), self.path('moved'))
        self.qmp.cmd('block-export-del', id='e', mode='hard')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.assertEqual(self.graph()['n', 'f']['perm'], [])
        self.assertEqual(locks.locked_bytes(self.path('moved')), {})
        self.io('moved', 'read -P 0x78 0 512', 'write -q 0 512', fmt='raw')

    def test_child_alone_becomes_read_only(self):
        """Not below a writer; together with it in whatever order."""
        self.img('create', '-q', '-f', 'qcow2', 'q', '1M')
        child = {'driver': 'file', 'node-name': 'f', 'filename': 'q'}
        parent = {'driver': 'qcow2', 'node-name': 'n', 'file': 'f'}
        self.qmp.cmd('blockdev-add', child)
        self.qmp.cmd('blockdev-add', parent)
        before = self.graph(), locks.locked_bytes(self.path('q'))
        read_only = [{**n, 'read-only': True} for n in (child, parent)]
        self.qmp_fails("Read-only block node 'f' cannot support read-write "
                       'users|read-only', self.qmp, 'blockdev-reopen',
                       {'options': read_only[:1]})
        self.assertEqual((self.graph(), locks.locked_bytes(self.path('q'))),
                         before)
        for order in 1, -1:
            self.reopen(*read_only[::order])
            self.assertEqual([n['ro'] for n in self.qmp.cmd(
                'query-named-block-nodes')], [True, True])
            self.reopen(*[child, parent][::order])
            self.assertEqual((self.graph(),
                              locks.locked_bytes(self.path('q'))), before)


if __name__ == '__main__':
    iotests.main()
