#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""Check -r makes of a damaged image one that both checks accept, where the
truth can be proven, and loses no data that was readable before."""
import iotests
from iotests.qcow2_bytes import Qcow2Bytes
from qcow2_damage import DAMAGE, MAKE, assert_settled, damaged

# Nothing is repaired if it is not certain.
KEEP = ['--orphans=keep']


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
        if not damage.repairable:
            more += KEEP
        result = self.img('check', '-f', 'qcow2', '-r', 'all', *more, image,
                          rc=None)
        again = self.img('check', '-f', 'qcow2', image, rc=None)
        assert_settled(self, image, *more)
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

        if damage.saved:
            image = damaged(self, damage)
            self.img('check', '-f', 'qcow2', '-r', 'all', image)
            self.ref('check', '-f', 'qcow2', image)
            assert_settled(self, image)
            self.assertEqual(self.guest_data(image), before)

    def test_leaks_stay_while_tables_are_damaged(self):
        """A leak next to a bad entry may be what the entry meant."""
        MAKE['plain'](self, 'a')
        with Qcow2Bytes(self.path('a')) as image:
            lost = image.l2(0, 2)
            # With one of them it would be certain what it was.
            image.set_l2(0, 2, lost ^ 1 << 45)
            image.set_l2(0, 5, image.l2(0, 5) ^ 1 << 44)
        self.img('check', '-f', 'qcow2', '-r', 'all', *KEEP, 'a',
                 rc=2)
        with Qcow2Bytes(self.path('a')) as image:
            cluster = (lost & (1 << 56) - 1) >> 16
            self.assertEqual(image.refcount(cluster), 1)

    def test_leaks_only(self):
        image = damaged(self, DAMAGE['refcount-high'])
        with Qcow2Bytes(self.path(image)) as i:
            i.set_l2(0, 3, i.l2(0, 4))
        # Cluster 8 may be the data of either entry that names 9.
        result = self.img('check', '-f', 'qcow2', '-r', 'leaks', image, rc=2)
        self.assertIn('--orphans=free', result.stderr)
        with Qcow2Bytes(self.path(image)) as i:
            self.assertEqual([i.refcount(n) for n in (6, 8, 9)], [2, 1, 1])
        result = self.img('check', '-f', 'qcow2', '-r', 'leaks',
                          '--orphans=free', image, rc=2)
        self.assertIn('2 leaked clusters', result.stdout)
        with Qcow2Bytes(self.path(image)) as i:
            self.assertEqual(i.refcount(6), 1)
            self.assertEqual(i.refcount(8), 0)
            self.assertEqual(i.refcount(9), 1)  # though it is used twice

    def test_leaks_only_says_what_would_help(self):
        image = damaged(self, DAMAGE['l2-into-l1'])
        result = self.img('check', '-f', 'qcow2', '-r', 'leaks', image, rc=2)
        self.assertIn('Leaked clusters are not freed', result.stderr)
        self.assertEqual(self.read_file(image),
                         self.read_file(damaged(self, DAMAGE['l2-into-l1'],
                                                'again')))
        self.img('check', '-f', 'qcow2', '-r', 'all', image)

    def test_refcount_of_a_cluster_whose_place_is_one_bit(self):
        """The entry is right, though without that bit all would agree, too."""
        for fmt in ('compat=1.1', 'compat=0.10'):
            self.ref('create', '-q', '-f', 'qcow2', '-o', fmt, 'a', '16M')
            self.ref_io('a', 'write -P 1 0 64k', 'write -P 2 64k 1M',
                        fmt='qcow2')
            with Qcow2Bytes(self.path('a')) as image:
                i = next(i for i in range(17)
                         if image.l2(0, i) & (1 << 56) - 1 == 0x80000)
                image.set_refcount(8, 0)
            before = self.guest_data('a')
            self.img('check', '-f', 'qcow2', '-r', 'all', 'a')
            self.assertEqual(self.guest_data('a'), before, i)

    def test_lost_refcount_beside_a_leak(self):
        """The leak is one bit from the entry, which is right all the same."""
        self.ref('create', '-q', '-f', 'qcow2', 'a', '16M')
        self.ref_io('a', 'write -P 1 0 512k', fmt='qcow2')
        with Qcow2Bytes(self.path('a')) as image:
            host = image.l2(0, 3) & (1 << 56) - 1
            leak = host ^ 1 << 20
            image.write(leak, bytes(range(1, 129)) * 512)
            image.set_refcount(host >> 16, 0)
            image.set_refcount(leak >> 16, 1)
        before = self.guest_data('a')
        self.img('check', '-f', 'qcow2', '-r', 'all', *KEEP, 'a',
                 rc=2)
        self.assertEqual(self.guest_data('a'), before)

    def test_order_in_the_file_is_no_proof(self):
        """Clusters that were written in another order than they have in the
        disk; then an entry becomes that of its neighbour. With the neighbour's
        data moved the file would look in order: that is no reason."""
        self.ref('create', '-q', '-f', 'qcow2', 'a', '16M')
        self.ref_io('a', *[f'write -P {n} {n * 64}k 64k'
                           for n in (9, 10, 12, 11, 13, 14)], fmt='qcow2')
        with Qcow2Bytes(self.path('a')) as image:
            lost = image.l2(0, 12) & (1 << 56) - 1
            image.set_l2(0, 12, image.l2(0, 11))
        before = self.guest_data('a')
        result = self.img('check', '-f', 'qcow2', '-r', 'all', *KEEP, 'a',
                          rc=2)
        self.assertIn('Nothing is repaired', result.stderr)
        self.assertEqual(self.guest_data('a'), before)
        with Qcow2Bytes(self.path('a')) as image:
            self.assertEqual(image.refcount(lost >> 16), 1)

    def test_snapshot_tells_which_entry_is_wrong(self):
        """A cluster is shared at the same place of the disk only."""
        self.ref('create', '-q', '-f', 'qcow2', 'a', '16M')
        self.ref_io('a', 'write -P 1 0 1M', fmt='qcow2')
        self.ref('snapshot', '-c', 's', 'a')
        self.ref_io('a', 'write -P 2 256k 64k', 'write -P 3 640k 64k',
                    fmt='qcow2')
        before = self.guest_data('a')
        with Qcow2Bytes(self.path('a')) as image:
            image.set_l2(0, 4, image.l2(0, 3))      # that is the snapshot's
        self.img('check', '-f', 'qcow2', '-r', 'all', 'a')
        self.ref('check', '-f', 'qcow2', 'a')
        self.assertEqual(self.guest_data('a'), before)

    def test_refcount_block_that_is_data(self):
        """With 1-bit refcounts nobody counts to two: the data are not taken
        for a refcount block of its own."""
        self.ref('create', '-q', '-f', 'qcow2', '-o',
                 'cluster_size=4k,refcount_bits=1', 'a', '4M')
        self.ref_io('a', *[f'write -P {n} {n * 8}k 4k' for n in range(1, 20)],
                    fmt='qcow2')
        before = self.guest_data('a')
        with Qcow2Bytes(self.path('a')) as image:
            image.set_reft(0, image.l2(0, 8) & (1 << 56) - 1)
        self.img('check', '-f', 'qcow2', '-r', 'all', 'a')
        self.ref('check', '-f', 'qcow2', 'a')
        self.assertEqual(self.guest_data('a'), before)

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
        self.img('check', '-f', 'qcow2', '-r', 'all', *KEEP, 'a',
                 rc=2)
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
