#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: check
# formats: qcow2
"""The header is wrong about where the L1 table is: check -r all finds the table
with which references and refcounts agree, or else touches nothing."""
import json

import iotests
from iotests import LONG
from iotests.qcow2_bytes import Qcow2Bytes

PLACE = 40


class LostL1(iotests.TestCase):
    def build(self, *options, tables=3, size=4096, compressed=False):
        span = size * size // 8
        self.create('a', '-o', ','.join((f'cluster_size={size}', *options)),
                    str(span * tables))
        flag = '-c ' if compressed else ''
        self.io('a', *(f'write {flag}-P {t + 1} {t * span} 16k'
                       for t in range(tables)))
        self.good = self.guest()
        with Qcow2Bytes(self.path('a')) as q:
            self.place = q.l1_offset

    def guest(self):
        self.img('convert', '-f', 'qcow2', '-O', 'raw', 'a', 'out')
        return self.read_file('out')

    def lose(self, value):
        with Qcow2Bytes(self.path('a')) as q:
            q.set_u64(PLACE, value)

    def set_field(self, offset, value):
        with Qcow2Bytes(self.path('a')) as q:
            q.set_u64(offset, value)

    def wrong_places(self):
        with Qcow2Bytes(self.path('a')) as q:
            size = q.size()
            return [0, self.place | 512, self.place ^ 1 << 40, 1 << 63,
                    size + q.cluster, (1 << 64) - 1, size // 2 | 8,
                    q.l2_offset(0), q.reft_offset]

    def check(self, *args, rc=0):
        return json.loads(self.img('check', '--output=json', *args, 'a',
                                   rc=rc).stdout)

    def restore(self, fixed=None):
        result = self.check('-r', 'all')
        if fixed:
            self.assertEqual(result['corruptions-fixed'], fixed)
        with Qcow2Bytes(self.path('a')) as q:
            self.assertEqual(q.l1_offset, self.place)
        self.assert_clean('a')
        self.assertEqual(self.guest(), self.good)

    def test_wrong_places(self):
        self.build()
        sound = self.read_file('a')
        for wrong in self.wrong_places():
            with self.subTest(hex(wrong)):
                self.write_file('a', sound)
                self.lose(wrong)
                damaged = self.read_file('a')
                self.img('check', 'a', rc=None)
                self.img('check', '-r', 'leaks', 'a', rc=None)
                self.assertEqual(self.read_file('a'), damaged)
                self.restore()
                self.assertEqual(self.read_file('a'), sound)

    def test_each_bit(self):
        self.build()
        sound = self.read_file('a')
        for bit in range(64) if LONG else self.rng().sample(range(64), 12):
            with self.subTest(bit):
                self.write_file('a', sound)
                self.lose(self.place ^ 1 << bit)
                self.restore()
                self.assertEqual(self.read_file('a'), sound)

    def test_what_is_said(self):
        self.build()
        self.lose(1)
        result = self.img('check', '-r', 'all', 'a')
        self.assertIn('Repairing the offset of the L1 table in the header: 0x1 '
                      f'becomes {self.place:#x}, with which everything agrees',
                      result.stderr)
        self.assertIn('    1 corruptions\n', result.stdout)

    def test_kinds_of_images(self):
        for options, compressed in ((('compat=0.10',), False),
                                    (('extended_l2=on',), False),
                                    (('refcount_bits=1',), False),
                                    (('refcount_bits=64',), True),
                                    (('l1_guard=on',), False),
                                    (('compression_type=zstd',), True)):
            with self.subTest(options):
                size = 16384 if 'extended_l2=on' in options else 4096
                self.build(*options, compressed=compressed, size=size)
                self.lose(7)
                self.restore(1)

    def test_snapshots_and_bitmaps(self):
        """Tables of snapshots look the same, and are not leaked."""
        self.build()
        for name in 's1', 's2':
            self.img('snapshot', '-c', name, 'a')
            self.io('a', 'write -P 9 0 4k')
        self.img('bitmap', '--add', 'a', 'b')
        self.good = self.guest()
        with Qcow2Bytes(self.path('a')) as q:
            self.place = q.l1_offset
        self.lose(0x1234)
        self.restore(1)
        self.assertIn('b', str(self.img_json('info', 'a')))

    def test_table_of_several_clusters(self):
        self.build(size=512, tables=200)
        self.lose(1)
        self.restore(1)

    def test_after_growth(self):
        """What is left of the table before is free."""
        self.build(size=512, tables=60)
        self.img('resize', '-q', 'a', '40M')
        self.good = self.guest()
        with Qcow2Bytes(self.path('a')) as q:
            self.assertNotEqual(q.l1_offset, self.place)
            self.place = q.l1_offset
        self.lose(1)
        self.restore(1)

    def declined(self):
        before = self.read_file('a')
        for args in (('-r', 'all'), ('-r', 'leaks'),
                     ('-r', 'all', '--orphans=free'),
                     ('-r', 'all', '--bitmaps=remove')):
            self.img_fails('Active L1 table offset invalid', 'check', *args,
                           'a')
            self.assertEqual(self.read_file('a'), before)

    def test_declined_without_a_table(self):
        self.build()
        with Qcow2Bytes(self.path('a')) as q:
            q.write(self.place, bytes(q.cluster))
        self.lose(1)
        self.declined()

    def test_declined_with_other_damage(self):
        self.build()
        with Qcow2Bytes(self.path('a')) as q:
            q.set_refcount(self.place // q.cluster + 3, 2)
        self.lose(1)
        self.declined()

    def test_declined_when_dirty(self):
        self.build()
        with Qcow2Bytes(self.path('a')) as q:
            q.set_u64(72, q.u64(72) | 1)
        self.lose(1)
        self.declined()

    def test_declined_with_a_data_file(self):
        self.build('data_file=d', 'data_file_raw=on')
        self.lose(1)
        self.declined()

    def test_plan_and_undo(self):
        self.build()
        self.lose(self.place | 512)
        damaged = self.read_file('a')
        result = self.img('check', '-r', 'all', '--plan', 'a')
        self.assertIn('The following would be repaired', result.stdout)
        self.assertRegex(result.stdout, r'\n    0x0, \d+ bytes\n')
        self.assertEqual(self.read_file('a'), damaged)
        self.img('check', '-r', 'all', '--undo', 'u', 'a')
        self.assertEqual(self.guest(), self.good)
        self.assert_clean('a')
        self.img('undo', '-q', 'u', 'a')
        self.assertEqual(self.read_file('a'), damaged)

    def test_other_commands_refuse(self):
        self.build()
        self.lose(1)
        before = self.read_file('a')
        self.img_fails('Active L1 table offset invalid', 'info', 'a')
        self.img_fails('Active L1 table offset invalid', 'convert', 'a', 'o')
        self.io_fails('Active L1 table offset invalid', 'a', 'write 0 512')
        self.assertEqual(self.read_file('a'), before)


if __name__ == '__main__':
    iotests.main()
