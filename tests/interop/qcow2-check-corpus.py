#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: check
# formats: qcow2
# parts: 4
"""Single faults in all kinds of metadata: after check -r all the distribution's
check finds the image clean, or ours says why it left it; and whatever the guest
could read before it still reads.

A fault is a flipped bit, zeroes, random bytes, or the value of a neighbour.
LONG makes 5,000 of them. Random bytes over a compressed entry leave no evidence
of what it was; that fault is left out. SHOW prints what was declined."""
import json
import os
import shutil

import iotests
from iotests.qcow2_bytes import COMPRESSED, OFFSET_MASK, Qcow2Bytes

DISK = 4 << 20
FAULTS = (5500 if iotests.LONG else 220) // 11
SHAPES = ('cluster_size=4k', 'cluster_size=64k', 'cluster_size=512',
          'cluster_size=4k,refcount_bits=1', 'cluster_size=4k,compat=0.10',
          'cluster_size=2k,refcount_bits=64')


# Clean of all, where it is not 95 %.
BOUNDS = {
    # What made another disk of it is a matter of qemu-img salvage.
    'header': 0.1,
    # A table whose only entry is lost may have lost more.
    'compressed': 0.8,
    # Sizes that make the table unreadable; two that name the same L1 table.
    'snapshot': 0.5,
    # Two entries that name the same table: which one is wrong?
    'l1': 0.75,
    # The same for bitmaps that name the same bits.
    'bitmap_table': 0.7,
    'snapshot_l1': 0.6,
}


class Image(Qcow2Bytes):
    """Where things are: lists of (offset of a field, its bytes)."""
    def entries(self, table, n):
        return [(table + 8 * i, 8) for i in range(n)]

    def l2_tables(self, l1_offset, l1_size):
        for i in range(l1_size):
            table = self.u64(l1_offset + 8 * i) & OFFSET_MASK
            if table:
                yield table

    def l2_entries(self, l1_offset, l1_size):
        for table in self.l2_tables(l1_offset, l1_size):
            yield from self.entries(table, self.cluster // 8)

    def snapshot_entries(self):
        at = self.snap_offset
        for _ in range(self.nb_snapshots):
            yield at
            extra = self.u32(at + 36)
            names = sum(int.from_bytes(self.read(at + n, 2), 'big')
                        for n in (12, 14))
            at = at + 40 + extra + names + 7 & ~7

    def places(self, kind):
        """Fields of that kind; those that are in use ten times as likely."""
        all_places = list(getattr(self, 'in_' + kind)())
        used = [p for p in all_places if any(self.read(*p))]
        return all_places + used * (1 + 10 * len(all_places) //
                                    max(len(used), 1))

    def in_header(self):
        """What leads to something; the rest makes another disk of it."""
        return [(36, 4), (40, 8), (48, 8), (56, 4), (60, 4), (64, 8)]

    def in_l1(self):
        return self.entries(self.l1_offset, self.l1_size)

    def in_l2(self):
        return [p for p in self.l2_entries(self.l1_offset, self.l1_size)
                if not self.u64(p[0]) & COMPRESSED]

    def in_compressed(self):
        return [p for p in self.l2_entries(self.l1_offset, self.l1_size)
                if self.u64(p[0]) & COMPRESSED]

    def in_reftable(self):
        return self.entries(self.reft_offset,
                            self.reft_clusters * self.cluster // 8)

    def in_refcounts(self):
        for i in range(self.reft_clusters * self.cluster // 8):
            if self.reft(i):
                yield from [(self.reft(i) + 2 * n, 2)
                            for n in range(self.cluster // 2)]

    def in_snapshot(self):
        for at in self.snapshot_entries():
            yield from [(at, 8), (at + 8, 4), (at + 12, 2), (at + 14, 2),
                        (at + 32, 4), (at + 36, 4)]

    def in_snapshot_l1(self):
        for at in self.snapshot_entries():
            yield from self.entries(self.u64(at), self.u32(at + 8))

    def in_snapshot_l2(self):
        """Tables that only snapshots have."""
        active = {p[0] for p in self.l2_entries(self.l1_offset, self.l1_size)}
        for at in self.snapshot_entries():
            yield from [p for p in self.l2_entries(self.u64(at),
                                                   self.u32(at + 8))
                        if p[0] not in active]

    def in_bitmap_directory(self):
        start, size = self.bitmap_directory()
        return [(start + i, 4) for i in range(0, size, 4)]

    def in_bitmap_table(self):
        start, size = self.bitmap_directory()
        at = start
        while at < start + size:
            table, entries = self.u64(at), self.u32(at + 8)
            yield from self.entries(table, entries)
            at = at + 24 + int.from_bytes(self.read(at + 18, 2), 'big') + \
                self.u32(at + 20) + 7 & ~7


KINDS = [name[3:] for name in dir(Image) if name.startswith('in_')]


class Corpus(iotests.TestCase):
    def make(self, r, kind):
        """base, with what the kind needs."""
        opts = r.choice(SHAPES if 'bitmap' not in kind else
                        [s for s in SHAPES if 'compat' not in s])
        if 'refcount_bits=1,' in opts + ',' and ('snapshot' in kind or
                                                 kind == 'compressed'):
            opts = SHAPES[0]
        cluster = {'4': 4096, '6': 65536, '5': 512, '2': 2048}[opts[13]]
        self.ref('create', '-q', '-f', 'qcow2', '-o', opts, 'base', str(DISK))
        self.write_some(r, cluster, kind != 'compressed' and
                        'refcount_bits=1,' in opts + ',')
        if 'bitmap' in kind:
            self.ref('bitmap', '--add', 'base', 'b0')
            self.ref('bitmap', '--add', '-g', '64k', 'base', 'b1')
            self.write_some(r, cluster, False)
        if 'snapshot' in kind or (r.random() < 0.3 and 'bits=1,' not in
                                  opts + ','):
            self.ref('snapshot', '-c', 's1', 'base')
            self.write_some(r, cluster, False)
            self.ref('snapshot', '-c', 's2', 'base')
            self.write_some(r, cluster, False)

    def write_some(self, r, cluster, plain):
        commands = []
        for _ in range(r.randrange(4, 10)):
            at = r.randrange(DISK // cluster) * cluster
            n = min(r.randrange(1, 9) * cluster, DISK - at)
            commands.append(f'write -P {r.randrange(1, 255)} {at} {n}')
        if not plain:
            for _ in range(3):
                at = r.randrange(DISK // cluster) * cluster
                commands.append(
                    f'write -c -P {r.randrange(1, 255)} {at} {cluster}')
        self.ref_io('base', *commands, fmt='qcow2', rc=None)

    def damage(self, r, kind):
        """What was done, or None if nothing changed."""
        shutil.copy(self.path('base'), self.path('a'))
        with Image(self.path('a')) as image:
            places = image.places(kind)
            if not places:
                return None
            at, n = r.choice(places)
            old = image.read(at, n).ljust(n, b'\0')
            how = r.choice(('flip', 'flip', 'zero', 'random', 'neighbour'))
            if kind == 'compressed' and how == 'random':
                how = 'flip'
            if how == 'flip':
                bit = r.randrange(8 * n)
                new = (int.from_bytes(old, 'big') ^ 1 << bit).to_bytes(n, 'big')
            elif how == 'zero':
                new = bytes(n)
            elif how == 'random':
                new = r.randbytes(n)
            else:
                new = image.read(r.choice([p for p in places if p[1] == n])[0],
                                 n).ljust(n, b'\0')
            image.write(at, new)
            return None if new == old else \
                f'{how} at {at:#x}: {old.hex()} -> {new.hex()}'

    def readable(self, name):
        """What the guest reads, and a set of the sectors that it cannot."""
        report = self.path('report')
        if os.path.exists(report):
            os.unlink(report)
        result = self.img('convert', '-q', '--salvage', '--salvage-report',
                          'report', '-f', 'qcow2', '-O', 'raw', name, 'raw',
                          rc=None)
        if result.rc == 1:
            return None, None
        lost = set()
        for r in json.loads(self.read_file('report'))['lost']:
            lost.update(range(r['start'] // 512,
                              (r['start'] + r['length'] + 511) // 512))
        return self.read_file('raw'), lost

    def compare(self, before, after, original):
        """Nothing that was readable changes, but to what it was before the
        damage."""
        (was, was_lost), (now, now_lost) = before, after
        if was is None:
            return
        self.assertIsNotNone(now)
        self.assertEqual(len(was), len(now))
        for i in range(len(was) // 512):
            at = slice(i * 512, i * 512 + 512)
            if i in was_lost or was[at] == now[at] and i not in now_lost:
                continue
            self.assertEqual(now[at], original[at], f'sector {i}')
            self.assertNotIn(i, now_lost)

    def one(self, r, kind):
        """A fault; 'clean', or why it was left."""
        what = self.damage(r, kind)
        if not what:
            return None
        with self.subTest(what):
            # A header that cannot be opened is no subject of check.
            before = self.readable('a')
            repair = self.img('check', '-f', 'qcow2', '-r', 'all', 'a',
                              rc=None)
            if repair.rc and 'bitmap' in kind:
                # Without proof it is the user who gives a bitmap up.
                repair = self.img('check', '-f', 'qcow2', '-r', 'all',
                                  '--bitmaps=remove', 'a', rc=None)
            theirs = self.ref('check', '-f', 'qcow2', 'a', rc=None)
            self.compare(before, self.readable('a'), self.original)
            if theirs.rc == 0:
                return 'clean'
            self.assertNotEqual(repair.rc, 0, what)
            self.assertNotEqual(repair.stderr.strip(), '')
            if os.environ.get('SHOW'):
                print(f'# {what}')
                print(repair.stderr)
            return repair.stderr.strip().splitlines()[-1]
        return 'failed'

    def run_kind(self, kind):
        r = self.rng()
        counts = {}
        done = 0
        while done < FAULTS:
            if done % 10 == 0:
                self.make(r, kind)
                self.img('convert', '-f', 'qcow2', '-O', 'raw', 'base', 'orig')
                self.original = self.read_file('orig')
            outcome = self.one(r, kind)
            if outcome:
                done += 1
                counts[outcome] = counts.get(outcome, 0) + 1
                if os.environ.get('SHOW') and outcome != 'clean':
                    print(f'# {outcome}')
        clean = counts.get('clean', 0)
        print(f'# {kind}: {clean} of {done} clean')
        self.assertGreaterEqual(clean, BOUNDS.get(kind, 0.95) * done)


for _kind in KINDS:
    setattr(Corpus, f'test_{_kind}',
            lambda self, kind=_kind: self.run_kind(kind))

if __name__ == '__main__':
    iotests.main()
