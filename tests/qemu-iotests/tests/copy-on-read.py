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


if __name__ == '__main__':
    iotests.main()
