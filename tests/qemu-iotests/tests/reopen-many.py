#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: qcow2
"""blockdev-reopen of eight nodes at once: whichever of them cannot, at whichever step,
every node, edge, permission and lock is as before."""
import iotests
from iotests import locks


class ReopenMany(iotests.TestCase):
    N = 4                       # pairs of a qcow2 node and its file

    def setUp(self):
        super().setUp()
        for i in range(self.N):
            self.img('create', '-q', '-f', 'qcow2', f'{i}.img', '1M')
        self.img('create', '-q', '-f', 'qcow2', 'spare.img', '1M')
        self.qsd = self.daemon()
        self.qmp = self.qsd.connect()
        for i in range(self.N):
            self.qmp.cmd('blockdev-add', self.file(i))
            self.qmp.cmd('blockdev-add', self.image(i))
        self.qmp.cmd('blockdev-add', driver='file', node_name='spare-file',
                     filename='spare.img')
        self.qmp.cmd('blockdev-add', driver='qcow2', node_name='spare',
                     file='spare-file')

    def file(self, i, **options):
        return {'driver': 'file', 'node-name': f'f{i}',
                'filename': f'{i}.img', **options}

    def image(self, i, **options):
        backing = f'q{i - 1}' if i else None
        return {'driver': 'qcow2', 'node-name': f'q{i}', 'file': f'f{i}',
                'backing': backing, **options}

    def good(self):
        """New options for all eight: flags, driver options, children."""
        return [node for i in range(self.N) for node in (
            self.image(i, **{'discard': 'unmap', 'l2-cache-size': 131072,
                             'read-only': i % 2 == 0}),
            self.file(i, **{'read-only': i % 2 == 0,
                            'discard': 'unmap'}))]

    def state(self):
        graph = self.qmp.cmd('query-block-graph')
        held = [locks.locked_bytes(self.path(f'{i}.img'))
                for i in range(self.N)]
        return (self.qmp.cmd('query-named-block-nodes'), graph, held)

    def bad(self, i):
        """(what fails, description) for the nodes of pair i, by step."""
        return [
            # options that do not exist or do not fit
            ('prepare of options',
             self.image(i, **{'l2-cache-entry-size': 1000})),
            ('check of fixed options', self.file(i, filename='other')),
            ('driver', dict(self.image(i), driver='raw')),
            # children
            ('cycle', dict(self.image(i), backing=f'q{i}')),
            ('missing child', dict(self.image(i), backing='nope')),
            ('backing left out', {k: v for k, v in self.image(i).items()
                                  if k != 'backing'}),
            # permissions: a writer on a file that becomes read-only
            ('permissions', self.file(i, **{'read-only': True})),
            # the driver's own preparations, caches that are too small for it
            ('preparation', self.image(i, **{
                'cache-size': 65536, 'l2-cache-size': 65536,
                'refcount-cache-size': 65536})),
        ]

    def test_failure_anywhere(self):
        before = self.state()
        failed = 0
        for i in range(self.N):
            for what, options in self.bad(i):
                if what == 'backing left out' and i == 0:
                    continue
                with self.subTest(what, node=options['node-name']):
                    nodes = [options if n['node-name'] == options['node-name']
                             else n for n in self.good()]
                    if what == 'permissions':
                        # its user stays a writer
                        nodes = [self.image(i) if n['node-name'] == f'q{i}'
                                 else n for n in nodes]
                    with self.assertRaises(iotests.QMPError):
                        self.qmp.cmd('blockdev-reopen', options=nodes)
                    self.assertEqual(self.state(), before)
                    failed += 1
        self.assertEqual(failed, self.N * len(self.bad(0)) - 1)

    def test_foreign_lock(self):
        """The last step that can fail: somebody else has the file."""
        self.qmp.cmd('blockdev-reopen', options=self.good())
        other = self.daemon_on('0.img')
        before = self.state()
        with self.assertRaises(iotests.QMPError) as caught:
            self.qmp.cmd('blockdev-reopen', options=[
                self.image(i) if k == 0 else self.file(i)
                for i in range(self.N) for k in range(2)])
        self.assertIn('lock', caught.exception.desc)
        self.assertEqual(self.state(), before)
        other.quit()
        self.qmp.cmd('blockdev-reopen', options=[
            self.image(i) if k == 0 else self.file(i)
            for i in range(self.N) for k in range(2)])

    def daemon_on(self, image):
        """A process that reads the image and minds others writing."""
        process = self.io_process('-r', image)
        process.cmd('read 0 1')
        return process

    def test_all_together(self):
        """The same list without a fault is done, and can be taken back."""
        before = self.state()
        self.qmp.cmd('blockdev-reopen', options=self.good())
        after = self.state()
        self.assertNotEqual(after, before)
        ro = {n['node-name']: n['ro'] for n in after[0]}
        self.assertTrue(ro['q0'] and ro['f2'])
        self.assertFalse(ro['q1'])
        self.qmp.cmd('blockdev-reopen', options=[
            node for i in range(self.N)
            for node in (self.image(i), self.file(i))])
        self.assertEqual(self.state(), before)


if __name__ == '__main__':
    iotests.main()
