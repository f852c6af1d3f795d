#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: convert salvage
# formats: qcow2
"""convert --salvage of an image with many faults at random places: all of them
are listed, nothing else is, and everything else is recovered.

The faults: sectors that cannot be read, sectors of L2 tables overwritten,
single bits of L2 entries flipped, and the end of the file cut off.  Each is in
a group of clusters of its own, one group being what a sector of an L2 table
describes.  LONG makes it 4 GiB and 200 faults."""
import json
import os
import struct

import iotests
from iotests.qcow2_bytes import OFFSET_MASK, Qcow2Bytes

LONG = bool(os.environ.get('LONG'))
GROUP = 64
CHUNK = 1 << 20


class Faults(iotests.TestCase):
    def make(self, size, cluster):
        rng = self.rng()
        with open(self.path('raw'), 'wb') as f:
            for _ in range(size // CHUNK):
                f.write(rng.randbytes(CHUNK))
        self.img('convert', '-m', '1', '-f', 'raw', '-O', 'qcow2', '-o',
                 f'cluster_size={cluster}', 'raw', 'a')

    def entry_place(self, q, group, i):
        cluster = group * GROUP + i
        per_table = q.cluster // 8
        return q.l2_offset(cluster // per_table) + cluster % per_table * 8

    # --- faults: each notes what it damages ---

    def bad_sector(self, q, group):
        i = self.random.randrange(GROUP)
        host = q.u64(self.entry_place(q, group, i)) & OFFSET_MASK
        at = self.random.randrange(q.cluster // 512) * 512
        self.bad.append((host + at) // 512)
        self.must_list.append(((group * GROUP + i) * q.cluster + at, 512))
        self.damaged.append(self.must_list[-1])

    def overwritten(self, q, group):
        q.write(self.entry_place(q, group, 0), self.random.randbytes(512))
        self.must_list.append((group * GROUP * q.cluster, GROUP * q.cluster))
        self.damaged.append(self.must_list[-1])

    def flipped(self, q, group):
        i = self.random.randrange(GROUP)
        bit = self.random.randrange(64)
        place = self.entry_place(q, group, i)
        q.set_u64(place, q.u64(place) ^ 1 << bit)
        guest = (group * GROUP + i) * q.cluster, q.cluster
        self.damaged.append(guest)
        self.flips.append((guest[0] // q.cluster, bit))
        if bit:         # bit 0 says that the cluster is zero: nobody can tell
            self.flipped_to.append((guest, q.u64(place) & OFFSET_MASK))

    def cut_off(self, q, first_group):
        """All clusters from one in the middle of the group on are gone."""
        first = first_group * GROUP + self.random.randrange(GROUP)
        place = self.entry_place(q, 0, first)
        q.truncate(q.u64(place) & OFFSET_MASK)
        self.must_list.append((first * q.cluster,
                               self.size - first * q.cluster))
        self.damaged.append(self.must_list[-1])

    def owners(self, q):
        """Which guest offset each host cluster belongs to."""
        found = {}
        for table in range(-(-self.size * 8 // q.cluster // q.cluster)):
            entries = q.read(q.l2_offset(table), q.cluster)
            for i, (e,) in enumerate(struct.iter_unpack('>Q', entries)):
                found[e & OFFSET_MASK] = (table * q.cluster // 8 + i) \
                    * q.cluster
        return found

    def flips_that_show(self, owners):
        """Not those to a cluster whose right owner has lost its entry."""
        damaged = self.sectors(self.damaged)
        for guest, host in self.flipped_to:
            owner = owners.get(host)
            if owner in (None, guest[0]) or owner // 512 not in damaged:
                yield guest

    def damage(self, faults):
        self.bad, self.flips, self.flipped_to = [], [], []
        self.must_list, self.damaged = [], []
        with Qcow2Bytes(self.path('a')) as q:
            groups = self.size // q.cluster // GROUP
            tail = groups - max(groups // 50, 1)
            owners = self.owners(q)
            chosen = self.random.sample(range(tail), faults)
            kinds = [self.bad_sector, self.overwritten, self.flipped]
            for n, group in enumerate(chosen):
                kinds[n % 3](q, group)
            self.cut_off(q, tail)
        self.must_list += self.flips_that_show(owners)

    # --- what is expected ---

    def source(self):
        rules = ''.join(f',file.inject-error.{i}.event=none'
                        f',file.inject-error.{i}.sector={s}'
                        for i, s in enumerate(self.bad))
        return ('driver=qcow2,file.driver=blkdebug'
                f',file.image.filename=a{rules}')

    @staticmethod
    def sectors(ranges):
        found = set()
        for start, n in ranges:
            assert start % 512 == n % 512 == 0
            found.update(range(start // 512, (start + n) // 512))
        return found

    def assert_within(self, inner, outer, what):
        if not inner <= outer:
            odd = sorted(inner - outer)
            self.fail(f'{what}: {len(odd)} sectors from {odd[0]} to {odd[-1]};'
                      f' clusters and bits flipped: {self.flips}')

    def assert_recovered(self, lost):
        damaged = self.sectors(self.damaged)
        with open(self.path('raw'), 'rb') as a, \
                open(self.path('out'), 'rb') as b:
            for start in range(0, self.size, CHUNK):
                want, seen = a.read(CHUNK), b.read(CHUNK)
                if want == seen:
                    continue
                for at in range(0, CHUNK, 512):
                    sector = (start + at) // 512
                    found = seen[at:at + 512]
                    if sector in lost:
                        self.assertEqual(found, bytes(512))
                    elif found != want[at:at + 512]:
                        self.assertIn(sector, damaged, f'flips: {self.flips}')
            self.assertEqual(b.read(1), b'')

    def check(self, size, cluster, faults):
        self.size = size
        self.random = self.rng()
        self.make(size, cluster)
        self.damage(faults)
        before = os.stat(self.path('a'))
        self.img('convert', '--salvage', '--salvage-report', 'report',
                 '--image-opts', '-O', 'raw', self.source(), 'out', rc=2)
        after = os.stat(self.path('a'))
        self.assertEqual((before.st_mtime_ns, before.st_size),
                         (after.st_mtime_ns, after.st_size))
        report = json.loads(self.read_file('report'))
        lost = self.sectors((r['start'], r['length']) for r in report['lost'])
        listed = lost | self.sectors((r['start'], r['length'])
                                     for r in report['suspect'])
        self.assertEqual(len(lost) * 512, report['totals']['lost'])
        self.assert_within(lost, self.sectors(self.damaged),
                           'undamaged, but lost')
        self.assert_within(self.sectors(self.must_list), listed, 'not listed')
        self.assert_recovered(lost)

    def test_small_clusters(self):
        self.check(48 << 20, 4096, 40)

    def test_usual_clusters(self):
        self.check(192 << 20, 65536, 24)

    # 8 GiB of files, and minutes.
    if LONG:
        def test_four_gigabytes(self):
            self.check(4 << 30, 65536, 200)


if __name__ == '__main__':
    iotests.main()
