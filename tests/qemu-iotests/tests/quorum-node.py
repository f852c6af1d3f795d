#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick rw qmp
# formats: raw qcow2
"""quorum as a user sees it: events, children by QMP, images that agree."""
import iotests


class Quorum(iotests.TestCase):
    def setUp(self):
        super().setUp()
        for name in 'abc':
            self.create(name, '1M')
            self.io(name, 'write -P 5 0 1M')
        self.node = {'driver': 'quorum', 'node-name': 'q', 'vote-threshold': 2,
                     'children': [self.child(name) for name in 'abc']}

    def child(self, name, **options):
        return {'driver': self.fmt, 'node-name': name, **options,
                'file': {'driver': 'file', 'filename': name,
                         'node-name': f'{name}-file'}}

    def start(self, node):
        daemon = self.daemon()
        qmp = daemon.connect()
        qmp.cmd('blockdev-add', node)
        qmp.cmd('nbd-server-start', {'addr': {
            'type': 'unix', 'data': {'path': 'nbd.sock'}}})
        qmp.cmd('block-export-add', {'type': 'nbd', 'id': 'e', 'name': 'e',
                                     'node-name': 'q', 'writable': True})
        return daemon, qmp

    def client(self, *commands, **kwargs):
        self.io('nbd+unix:///e?socket=nbd.sock', *commands, fmt='raw',
                **kwargs)

    def test_bad_data(self):
        self.io('b', 'write -P 6 64k 512')
        daemon, qmp = self.start({**self.node, 'rewrite-corrupted': True})
        self.client('read -P 5 0 1M')
        event = qmp.event('QUORUM_REPORT_BAD')['data']
        self.assertEqual(event['node-name'], 'b')
        self.assertEqual(event['type'], 'read')
        self.assertNotIn('error', event)
        self.assertLessEqual(event['sector-num'], 128)
        self.assertGreater(event['sector-num'] + event['sectors-count'], 128)
        self.client('read -P 5 0 1M')
        self.assertEqual(daemon.stop(), 0)
        self.assert_same('a', 'b')

    def test_no_majority(self):
        self.io('a', 'write -P 6 64k 512')
        self.io('b', 'write -P 7 64k 512')
        daemon, qmp = self.start(self.node)
        self.client('read 64k 512', rc=1)
        event = qmp.event('QUORUM_FAILURE')['data']
        self.assertEqual(event, {'reference': 'q', 'sector-num': 128,
                                 'sectors-count': 1})
        self.assertEqual(daemon.stop(), 0)

    def test_children(self):
        self.create('d', '1M')
        self.create('e', '2M')
        daemon, qmp = self.start(self.node)
        for name in 'de':
            qmp.cmd('blockdev-add', self.child(name))
        for message, arguments in (
                ('Either child or node must be specified', {}),
                ('The parameters child and node are in conflict',
                 {'child': 'children.0', 'node': 'd'}),
                ("Node 'x' not found", {'node': 'x'}),
                ("Node 'q' does not have child 'x'", {'child': 'x'}),
                ('The node a already has a parent', {'node': 'a'}),
                ("Children must have the same length: node 'e' is 2097152 "
                 "bytes long, node 'a' is 1048576", {'node': 'e'})):
            self.qmp_fails(message, qmp, 'x-blockdev-change',
                           {'parent': 'q', **arguments})
        self.qmp_fails('does not support adding a child', qmp,
                       'x-blockdev-change', {'parent': 'a', 'node': 'd'})
        qmp.cmd('x-blockdev-change', {'parent': 'q', 'node': 'd'})
        qmp.cmd('x-blockdev-change', {'parent': 'q', 'child': 'children.1'})
        self.qmp_fails("'children.1'", qmp, 'x-blockdev-change',
                       {'parent': 'q', 'child': 'children.1'})
        self.client('write -P 8 0 64k')
        node = next(n for n in qmp.cmd('query-named-block-nodes', flat=True)
                    if n['node-name'] == 'q')
        self.assertEqual([c['child'] for c in node['children']],
                         ['children.0', 'children.2', 'children.3'])
        qmp.cmd('blockdev-reopen', {'options': [
            {'driver': 'quorum', 'node-name': 'q', 'vote-threshold': 3,
             'children': ['a', 'c', 'd']}]})
        self.qmp_fails('lower than the vote threshold 3', qmp,
                       'x-blockdev-change', {'parent': 'q',
                                             'child': 'children.0'})
        self.assertEqual(daemon.stop(), 0)
        self.io('d', 'read -P 8 0 64k')
        self.io('b', 'read -P 5 0 64k')

    def test_convert(self):
        """Its name opens it again, and zeroes are known to be there."""
        name = 'json:' + str({k: v for k, v in self.node.items()
                              if k != 'node-name'}).replace("'", '"')
        self.img('convert', '-O', 'raw', name, 'out')
        self.assert_same('a', 'out', b_fmt='raw')
        self.img('create', '-f', 'raw', 'z', '1M')
        zero = '{"driver": "file", "filename": "z"}'
        extents = self.img_json(
            'map', '--output=json', 'json:{"driver": "quorum", "vote-threshold"'
            f': 2, "children": [{zero}, {zero}]}}')
        self.assertTrue(all(e['zero'] for e in extents))

    def test_blkverify(self):
        self.io('b', 'write -P 6 64k 512')
        node = {**self.node, 'blkverify': True,
                'children': [self.child('a'), self.child('b')]}
        del node['node-name']
        name = 'json:' + str(node).replace("'", '"').replace('True', 'true')
        self.io(name, 'read -P 5 0 64k', fmt=None)
        self.io_fails('quorum: offset=65536 bytes=1024 contents mismatch at '
                      'offset 65536', name, 'read 64k 1k', fmt=None)


if __name__ == '__main__':
    iotests.main()
