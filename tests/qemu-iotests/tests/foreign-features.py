#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""Images with features of QEMU that are not supported here: refused by the
feature's name, or left intact by what we write."""
import iotests
from iotests.qcow2_bitmaps import AUTO, bitmaps


class ForeignFeatures(iotests.TestCase):
    def test_formats_that_are_not_here(self):
        self.img_fails("'vmdk'", 'create', '-f', 'vmdk', 'a', '1M')
        self.ref('create', '-q', '-f', 'vmdk', 'a', '1M')
        self.img_fails("'vmdk'", 'info', '-f', 'vmdk', 'a')

    def test_internal_snapshots_stay_readable(self):
        self.ref('create', '-q', '-f', 'qcow2', 'a', '4M')
        self.ref_io('a', 'write -P 1 0 1M', 'write -c -P 2 1M 64k',
                    'write -z 2M 64k')
        self.ref('snapshot', '-c', 'one', 'a')
        self.ref('convert', '-l', 'one', '-O', 'raw', 'a', 'before')
        self.assertIn('one', self.img('info', 'a').stdout)
        self.io('a', 'write -P 3 0 512k', 'discard 512k 256k',
                'write -z 1M 64k', 'write -P 4 2M 64k')
        self.assert_clean('a')
        self.ref('convert', '-l', 'one', '-O', 'raw', 'a', 'after')
        self.assertEqual(self.read_file('after'), self.read_file('before'))
        self.io('a', 'read -P 3 0 512k', 'read -P 0 512k 256k',
                'read -P 1 768k 256k', 'read -P 0 1M 64k', 'read -P 4 2M 64k')
        # The distribution takes it from here.
        self.ref('snapshot', '-a', 'one', 'a')
        self.ref('snapshot', '-d', 'one', 'a')
        self.assert_clean('a')
        self.io('a', 'read -P 1 0 1M', 'read -P 2 1M 64k', 'read -P 0 2M 64k')

    def test_resize_with_snapshots(self):
        self.ref('create', '-q', '-f', 'qcow2', 'a', '4M')
        self.ref_io('a', 'write -P 1 0 4M')
        self.ref('snapshot', '-c', 'one', 'a')
        self.img('resize', '-q', 'a', '8M')
        self.io('a', 'read -P 1 0 4M', 'read -P 0 4M 4M', 'write -P 2 6M 1M')
        self.assert_clean('a')
        self.ref('convert', '-l', 'one', '-O', 'raw', 'a', 'out')
        self.assertEqual(self.read_file('out', 0, 4 << 20), b'\1' * (4 << 20))

    def test_bitmaps_record_our_writes(self):
        """A backup that trusts them must not miss what we wrote."""
        self.ref('create', '-q', '-f', 'qcow2', 'a', '4M')
        self.ref('bitmap', '--add', 'a', 'bm')
        info = self.img_json('info', 'a')['format-specific']['data']
        self.assertEqual(info['bitmaps'][0]['name'], 'bm')
        self.io('a', 'read 0 512', options=['-r'])
        self.assertEqual(bitmaps(self.path('a'))['bm'].dirty, [])
        self.io('a', 'write -P 1 0 64k')
        bm = bitmaps(self.path('a'))['bm']
        self.assertEqual((bm.flags, bm.dirty), (AUTO, [[0, 65536]]))
        self.ref('check', 'a')


if __name__ == '__main__':
    iotests.main()
