#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: qcow2
"""The filter copy-on-read: what it leaves behind, where it stops, and the
claims of its bottom."""
import iotests

CLUSTER = 65536


class CopyOnRead(iotests.TestCase):
    """base: clusters 0-7 are 1; mid: 4-11 are 2; top: 8, 9 are 3."""

    def setUp(self):
        super().setUp()
        self.img('create', '-q', '-f', 'qcow2', 'base', '1M')
        for name, below in (('mid', 'base'), ('top', 'mid')):
            self.img('create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2',
                     name)
        self.io('base', 'write -P 1 0 512k')
        self.io('mid', 'write -P 2 256k 512k')
        self.io('top', 'write -P 3 512k 128k')

    def through(self, *commands, bottom=None, rc=0, read_only=False):
        """qemu-io on the filter; mid is called so."""
        options = ('driver=copy-on-read,file.driver=qcow2,'
                   'file.file.driver=file,file.file.filename=top,'
                   'file.backing.driver=qcow2,file.backing.node-name=mid,'
                   'file.backing.file.driver=file,'
                   'file.backing.file.filename=mid')
        if bottom:
            options += f',bottom={bottom}'
        return self.io(options, *commands, fmt=None, rc=rc,
                       options=['--image-opts'] + ['-r'] * read_only)

    def held_by_top(self):
        """Numbers of clusters that top has itself."""
        return {c for r in self.img_json('map', 'top')
                if r['depth'] == 0 and r['present']
                for c in range(r['start'] // CLUSTER,
                               (r['start'] + r['length']) // CLUSTER)}

    def test_all(self):
        before = self.read_raw()
        self.through('read -P 1 60k 10k', 'read -P 2 384k 1k',
                     'read -P 0 1000k 1k', 'read -P 3 512k 128k')
        self.assertEqual(self.held_by_top(), {0, 1, 6, 8, 9, 15})
        self.assert_clean('top')
        self.assertEqual(self.read_raw(), before)
        # And it is enough for all of it once the chain is gone.
        self.through('read 0 1M')
        self.img('rebase', '-u', '-b', '', 'top')
        self.assertEqual(self.read_raw(), before)

    def read_raw(self):
        self.img('convert', '-O', 'raw', 'top', 'raw')
        return self.read_file('raw')

    def test_bottom(self):
        """Only what mid or top hold is copied."""
        before = self.read_raw()
        self.through('read 0 1M', bottom='mid')
        self.assertEqual(self.held_by_top(), set(range(4, 12)))
        self.assertEqual(self.read_raw(), before)

    def test_writes_and_discards(self):
        self.through('write -P 7 100k 3k', 'write -z 384k 64k',
                     'discard 512k 64k', 'write -c -P 8 960k 64k')
        self.assertEqual(self.held_by_top(), {1, 6, 8, 9, 15})
        self.through('read -P 7 100k 3k', 'read -P 1 64k 36k',
                     'read -P 0 384k 64k', 'read -P 8 960k 64k')
        self.assert_clean('top')

    def test_errors(self):
        self.assertIn("Bottom node 'none' not found",
                      self.through('read 0 1', bottom='none', rc=1).stderr)
        self.assertIn('Block node is read-only',
                      self.through('read 0 1', read_only=True, rc=1).stderr)

    # --- over QMP ---

    def start(self):
        """base <- mid <- top <- cor with bottom mid, and other <- base."""
        self.qsd = self.daemon()
        qmp = self.qsd.connect()
        self.img('create', '-q', '-f', 'qcow2', '-b', 'mid', '-F', 'qcow2',
                 'other')
        for name, backing in (('base', None), ('mid', 'base'), ('top', 'mid'),
                              ('other', 'mid')):
            qmp.cmd('blockdev-add', {
                'driver': 'qcow2', 'node-name': name, 'backing': backing,
                'file': {'driver': 'file', 'filename': name}})
        qmp.cmd('blockdev-add', self.cor('top'))
        return qmp

    def cor(self, file):
        return {'driver': 'copy-on-read', 'node-name': 'cor', 'file': file,
                'bottom': 'mid'}

    def below_cor(self, qmp):
        graph = qmp.cmd('query-block-graph')
        names = {n['id']: n['name'] for n in graph['nodes']}
        return [names[e['child']] for e in graph['edges']
                if names[e['parent']] == 'cor']

    def drop_backing(self, qmp, name):
        qmp.cmd('blockdev-reopen', {'options': [{
            'driver': 'qcow2', 'node-name': name, 'file': self.file_of(
                qmp, name), 'backing': None}]})

    def file_of(self, qmp, name):
        graph = qmp.cmd('query-block-graph')
        names = {n['id']: n['name'] for n in graph['nodes']}
        return next(names[e['child']] for e in graph['edges']
                    if names[e['parent']] == name and e['name'] == 'file')

    def test_claims(self):
        qmp = self.start()
        with self.assertRaisesRegex(iotests.QMPError,
                                    "copy-on-read node 'cor'"):
            self.drop_backing(qmp, 'top')
        # Below the bottom everything may change.
        self.drop_backing(qmp, 'mid')
        qmp.cmd('blockdev-del', node_name='cor')
        self.drop_backing(qmp, 'top')

    def test_reopen(self):
        """The child may be another one if it has the bottom below it."""
        qmp = self.start()
        qmp.cmd('blockdev-add', driver='null-co', node_name='null')
        with self.assertRaisesRegex(iotests.QMPError, 'mid'):
            qmp.cmd('blockdev-reopen', {'options': [self.cor('null')]})
        self.assertEqual(self.below_cor(qmp), ['top'])
        with self.assertRaisesRegex(iotests.QMPError, 'cor'):
            self.drop_backing(qmp, 'top')

        qmp.cmd('blockdev-reopen', {'options': [self.cor('other')]})
        self.assertEqual(self.below_cor(qmp), ['other'])
        self.drop_backing(qmp, 'top')
        with self.assertRaisesRegex(iotests.QMPError, 'cor'):
            self.drop_backing(qmp, 'other')
        qmp.cmd('blockdev-del', node_name='cor')
        self.drop_backing(qmp, 'other')
        self.assertEqual(self.qsd.stop(), 0)


if __name__ == '__main__':
    iotests.main()
