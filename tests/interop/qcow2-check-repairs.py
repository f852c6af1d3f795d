#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""Check -r makes of a damaged image one that both checks accept, where the
truth can be proven, and loses no data that was readable before."""
import iotests
from iotests.qcow2_bytes import Qcow2Bytes
from qcow2_damage import DAMAGE, MAKE, damaged


class CheckRepairs(iotests.TestCase):
    def guest_data(self, image):
        """What the guest reads; None where the image cannot be read."""
        result = self.ref('convert', '-f', 'qcow2', '-O', 'raw', image,
                          'guest', rc=None)
        return self.read_file('guest') if result.rc == 0 else None

    def repair(self, name):
        damage = DAMAGE[name]
        image = damaged(self, damage)
        before = self.guest_data(image)
        if damage.restores:
            MAKE[damage.kind](self, 'good', damage.opts)
            before = self.guest_data('good')
        # Theirs takes what belongs to void bitmaps for leaks; ours keeps it.
        more = ['--bitmaps=remove'] if name == 'bitmaps-void' else []
        result = self.img('check', '-f', 'qcow2', '-r', 'all', *more, image,
                          rc=None)
        again = self.img('check', '-f', 'qcow2', image, rc=None)
        if damage.repairable:
            self.assertEqual(result.rc, 0, result.describe())
            self.assertEqual(again.rc, 0, again.describe())
            self.ref('check', '-f', 'qcow2', image)
            if 'compat=0.10' not in damage.opts:
                data = self.img_json('info', '-f', 'qcow2', image)
                self.assertIs(data['format-specific']['data']['corrupt'],
                              False)
                self.assertFalse(data.get('dirty-flag'))
        else:
            self.assertIn(result.rc, (1, 2), result.describe())
            self.assertEqual(again.rc, result.rc, again.describe())
        if before is not None:
            self.assertEqual(self.guest_data(image), before)
        # Storing a bitmap leaks what the old one shared with somebody.
        if damage.repairable and name != 'bitmap-data-doubled':
            # It can be written: nothing in use looks free.
            self.io(image, 'write -P 9 12M 1M', fmt='qcow2')
            self.ref('check', '-f', 'qcow2', image)
            if before is not None:
                after = bytearray(before)
                after[12 << 20:13 << 20] = b'\x09' * (1 << 20)
                self.assertEqual(self.guest_data(image), bytes(after))

    def test_leaks_stay_while_tables_are_damaged(self):
        """A leak next to a bad entry may be what the entry meant."""
        MAKE['plain'](self, 'a')
        with Qcow2Bytes(self.path('a')) as image:
            lost = image.l2(0, 2)
            # With one of them it would be certain what it was.
            image.set_l2(0, 2, lost ^ 1 << 45)
            image.set_l2(0, 5, image.l2(0, 5) ^ 1 << 44)
        self.img('check', '-f', 'qcow2', '-r', 'all', 'a', rc=2)
        with Qcow2Bytes(self.path('a')) as image:
            cluster = (lost & (1 << 56) - 1) >> 16
            self.assertEqual(image.refcount(cluster), 1)

    def test_leaks_only(self):
        image = damaged(self, DAMAGE['refcount-high'])
        with Qcow2Bytes(self.path(image)) as i:
            i.set_l2(0, 3, i.l2(0, 4))
        result = self.img('check', '-f', 'qcow2', '-r', 'leaks', image, rc=2)
        self.assertIn('2 leaked clusters', result.stdout)
        with Qcow2Bytes(self.path(image)) as i:
            self.assertEqual(i.refcount(6), 1)
            self.assertEqual(i.refcount(8), 0)
            self.assertEqual(i.refcount(9), 1)  # though it is used twice

    def test_table_that_is_data_is_not_changed(self):
        """An L1 entry that names guest data must not make check 'repair' the
        data."""
        MAKE['plain'](self, 'a')
        with Qcow2Bytes(self.path('a')) as image:
            host = image.l2(0, 3) & (1 << 56) - 1
            junk = bytes(range(1, 129)) * 512
            image.write(host, junk)
            image.set_l1(0, image.l1(0))
            image.set_u32(36, 2)
            image.set_u64(24, 513 << 20)
            image.set_l1(1, host | 1 << 63)
        self.img('check', '-f', 'qcow2', '-r', 'all', 'a', rc=2)
        with Qcow2Bytes(self.path('a')) as image:
            self.assertEqual(image.read(host, 65536), junk)

    def test_large_image_gets_a_new_structure(self):
        """More than one refcount block, and a table of several clusters."""
        self.ref('create', '-q', '-f', 'qcow2', '-o',
                 'cluster_size=512,preallocation=metadata', 'a', '40M')
        self.ref_io('a', 'write -P 1 0 1M', 'write -P 2 39M 1M', fmt='qcow2')
        before = self.guest_data('a')
        with Qcow2Bytes(self.path('a')) as image:
            self.assertGreater(image.reft_clusters, 1)
            for i in range(0, 200, 3):
                image.set_reft(i, 0)
            image.set_reft(1, image.reft(1) | 1)
        self.img('check', '-f', 'qcow2', '-r', 'all', 'a')
        self.ref('check', '-f', 'qcow2', 'a')
        self.assertEqual(self.guest_data('a'), before)


def _add_tests():
    for name in DAMAGE:
        def test(self, name=name):
            self.repair(name)
        setattr(CheckRepairs, 'test_' + name.replace('-', '_'), test)


_add_tests()
if __name__ == '__main__':
    iotests.main()
