#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: rw
# formats: qcow2
"""Random images with random damage: our check finds the distribution's
numbers, and our repair changes no data that could be read before, claims nothing
that the distribution's check denies, and leaves nothing to another one."""
import json
import re

import iotests
from iotests.qcow2_bytes import COPIED, Qcow2Bytes
from qcow2_damage import assert_settled

DISK = 4 << 20
NUMBERS = ('check-errors', 'corruptions', 'leaks', 'total-clusters',
           'allocated-clusters', 'fragmented-clusters', 'compressed-clusters',
           'image-end-offset')
ROUNDS = 500 if iotests.LONG else 25


class CheckRandom(iotests.TestCase):
    def make_image(self, r):
        cluster = r.choice((512, 4096, 65536))
        bits = r.choice((1, 2, 4, 16, 64))
        self.ref('create', '-q', '-f', 'qcow2', '-o',
                 f'cluster_size={cluster},refcount_bits={bits}', 'a',
                 str(DISK))
        commands = []
        for k in range(r.randrange(3, 20)):
            offset = r.randrange(DISK) // cluster * cluster
            length = min(r.randrange(1, 6) * cluster, DISK - offset)
            commands.append(f'{r.choice(("write", "write -z", "discard"))} '
                            f'{offset} {length}')
            if bits > 8:
                # May fail where something is allocated already.
                commands.append(f'write -c {offset} {cluster}')
            if k == 5 and bits >= 4 and r.random() < 0.4:
                self.ref_io('a', *commands, rc=None)
                self.ref('snapshot', '-c', 's', 'a')
                commands = []
        self.ref_io('a', *commands, rc=None)

    def damage(self, r, image):
        """One fault in a random place; none if the place does not exist."""
        kind = r.choice(('l1', 'l2', 'l2', 'l2', 'refcount', 'reftable',
                         'anything', 'copied entry'))
        entries = image.cluster // 8
        clusters = -(-image.size() // image.cluster)
        l1 = r.randrange(image.l1_size)
        table = image.l2_offset(l1)
        if kind == 'l1':
            image.set_l1(l1, image.l1(l1) ^ 1 << r.randrange(64))
        elif kind == 'l2' and 0 < table < image.size():
            i = r.randrange(entries)
            image.set_l2(l1, i, image.l2(l1, i) ^ 1 << r.randrange(64))
        elif kind == 'copied entry' and 0 < table < image.size():
            image.set_l2(l1, r.randrange(entries),
                         r.randrange(clusters) * image.cluster |
                         r.choice((0, COPIED)))
        elif kind == 'refcount':
            block = image.reft(0)
            if block % image.cluster == 0 and block < image.size():
                image.write(block + r.randrange(image.cluster),
                            bytes([r.randrange(256)]))
        elif kind == 'reftable':
            i = r.randrange(entries)
            image.set_reft(i, image.reft(i) ^ 1 << r.randrange(64))
        elif kind == 'anything' and image.size() > image.cluster + 8:
            at = r.randrange(image.cluster, image.size() - 8) & ~7
            image.write(at, r.randbytes(8))

    def has_flags_without_table(self):
        """The distribution takes such an L1 entry for a table at offset 0."""
        with Qcow2Bytes(self.path('a')) as image:
            return any(image.l1(i) and not image.l2_offset(i)
                       for i in range(image.l1_size))

    def guest_data(self):
        result = self.ref('convert', '-f', 'qcow2', '-O', 'raw', 'a', 'raw',
                          rc=None)
        return self.read_file('raw') if result.rc == 0 else None

    def round(self, r):
        self.make_image(r)
        with Qcow2Bytes(self.path('a')) as image:
            for _ in range(r.randrange(1, 4)):
                self.damage(r, image)
        if self.has_flags_without_table():
            return

        ref = self.ref('check', '--output=json', 'a', rc=None)
        ours = self.img('check', '--output=json', 'a', rc=None)
        self.assertEqual(ours.rc, ref.rc, ours.describe())
        if ref.stdout:
            a, b = json.loads(ours.stdout), json.loads(ref.stdout)
            self.assertEqual({k: a.get(k) for k in NUMBERS},
                             {k: b.get(k) for k in NUMBERS})

        before = self.guest_data()
        repair = self.img('check', '-r', 'all', 'a', rc=None)
        self.assertIn(repair.rc, (0, 1, 2, 3), repair.describe())
        if repair.rc == 0:
            self.ref('check', 'a')
        assert_settled(self, 'a')
        if before is not None:
            self.compare(before, self.guest_data(),
                         re.search('Repairing L[12] entry', repair.stderr))

    def compare(self, before, after, restored):
        """What the guest saw it sees still; what was put back only shows more
        than the zeroes of a missing table, or behind the end of the file."""
        self.assertIsNotNone(after)
        self.assertEqual(len(before), len(after))
        for at in range(0, len(before), 512):
            was, now = before[at:at + 512], after[at:at + 512]
            self.assertTrue(was == now or (restored and not any(was)), at)

    def test_random(self):
        r = self.rng()
        for i in range(ROUNDS):
            with self.subTest(i):
                self.round(r)


if __name__ == '__main__':
    iotests.main()
