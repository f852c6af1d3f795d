#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick check
# formats: qcow2
"""check -r all reads the metadata of a sound image as often as a plain check does,
which is once, and writes nothing."""
import collections
import os

import iotests
from iotests import nbd
from iotests.nbd_server import NBDServer
from iotests.qcow2_bytes import COPIED, OFFSET_MASK, Qcow2Bytes

CLUSTER = 4096
SPAN = CLUSTER * CLUSTER // 8
TABLES = 8


class ReadsOnce(iotests.TestCase):
    def build(self, *options):
        self.create('a', '-o', ','.join((f'cluster_size={CLUSTER}', *options)),
                    str(TABLES * SPAN))
        self.io('a', *(f'write -P {t + 1} {t * SPAN} 4k'
                       for t in range(TABLES)))
        self.img('snapshot', '-c', 's', 'a')
        self.io('a', f'write -P 9 {SPAN} 4k')
        self.img('check', 'a')

    def tables(self):
        """Offsets of all L2 tables, and of a refcount block."""
        with Qcow2Bytes(self.path('a')) as q:
            snapshot_l1 = q.u64(q.u64(64))
            return {q.l1(t) & OFFSET_MASK for t in range(TABLES)} | \
                {q.u64(snapshot_l1 + 8 * t) & OFFSET_MASK
                 for t in range(TABLES)} | {q.reft(0)}

    def requests(self, *args, rc=0):
        """What a check of the image asks its server for, by type and offset; reads
        of several clusters count for each."""
        disk = bytearray(self.read_file('a'))
        server = NBDServer(self.path('nbd'), size=len(disk), disk=disk)
        try:
            self.img('check', *args, 'nbd+unix:///?socket=nbd', rc=rc)
        finally:
            server.close()
            os.unlink(self.path('nbd'))
        counts = collections.Counter()
        for req in server.requests:
            for offset in range(req.offset, req.offset + max(req.length, 1),
                                CLUSTER):
                counts[req.type, offset] += 1
        return counts, disk

    def assert_once(self, *args):
        counts, disk = self.requests(*args)
        for offset in self.tables():
            self.assertEqual(counts[nbd.READ, offset], 1, hex(offset))
        self.assertEqual([key for key in counts if key[0] != nbd.READ and
                          key[0] != nbd.FLUSH], [])
        self.assertEqual(bytes(disk), self.read_file('a'))

    def test_sound(self):
        self.build()
        for args in (), ('-r', 'all'), ('-r', 'all', '-f', 'qcow2'), \
                ('-r', 'all', '--plan'):
            with self.subTest(args):
                self.assert_once(*args)

    def test_output_is_that_of_a_plain_check(self):
        self.build()
        plain = self.img('check', 'a')
        self.assertEqual(self.img('check', '-r', 'all', 'a').stdout,
                         plain.stdout)
        self.assertEqual(self.img_json('check', '-r', 'all', 'a'),
                         self.img_json('check', 'a'))

    def test_marks_are_cleared(self):
        """They are all that is wrong: the metadata still is read once, and no
        table is written."""
        for bit, name in (1, 'dirty-flag'), (2, 'corrupt'):
            with self.subTest(name):
                self.build('lazy_refcounts=on')
                with Qcow2Bytes(self.path('a')) as q:
                    q.set_u64(72, bit)
                counts, disk = self.requests('-r', 'all')
                for offset in self.tables():
                    self.assertEqual(counts[nbd.READ, offset], 1, hex(offset))
                    self.assertEqual(counts[nbd.WRITE, offset], 0)
                self.assertEqual(disk[72:80], bytes(8))
                self.assertEqual(disk[CLUSTER:], self.read_file('a')[CLUSTER:])

    def test_unsound(self):
        """Who finds something looks at the header first, and reads again."""
        self.build()
        with Qcow2Bytes(self.path('a')) as q:
            table = q.l1(1) & OFFSET_MASK
            q.set_l2(1, 0, q.l2(1, 0) & ~COPIED)
        counts, disk = self.requests('-r', 'all')
        self.assertGreater(counts[nbd.READ, table], 1)
        self.assertNotEqual(bytes(disk), self.read_file('a'))


if __name__ == '__main__':
    iotests.main()
