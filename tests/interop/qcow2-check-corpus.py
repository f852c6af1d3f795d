#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: check
# formats: qcow2
# parts: 4
"""Single faults in all kinds of metadata: after check -r all the distribution's
check finds the image clean, or ours says why it left it. Whatever could be read
before still reads the same, or as before the fault: the disk, snapshots, VM state
and bitmaps, as qcow2_contents.py reads them. Data that no entry leads to any
more are in the snapshot that the repair says it has made. Another repair changes
nothing.

A fault is a flipped bit, zeroes, random bytes, or the value of a neighbour.
LONG makes 6,000 of them. SHOW prints what was declined."""
import collections
import os
import re
import shutil
import subprocess

import iotests
from iotests.qcow2_bytes import COMPRESSED, OFFSET_MASK, Qcow2Bytes
from qcow2_contents import BAD, contents, deflate_decompress, losses
from qcow2_damage import assert_settled

DISK = 4 << 20
STATE = 128 << 10
FAULTS = (6000 if iotests.LONG else 60) // 12
SHAPES = ('cluster_size=4k', 'cluster_size=64k', 'cluster_size=512',
          'cluster_size=4k,refcount_bits=1', 'cluster_size=4k,compat=0.10',
          'cluster_size=2k,refcount_bits=64')
EXTENDED = 'cluster_size=16k,extended_l2=on'

# What check says of a fault that it leaves.
REASON = re.compile(
    'Nothing is repaired|stays as it is|cannot be rebuilt|not freed|'
    'neither put back nor freed|prove nothing|Could not (open|read)|'
    'inconsistent bitmaps were found')

# Clean of all, in percent; docs/devel/qcow2-check.md has what is measured.
BOUND = 95
# Where whole clusters of data may be lost.
DATA = ('l1', 'l2', 'snapshot_l1', 'snapshot_l2')


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

    def in_extended(self):
        """Words of extended entries: half of them are bitmaps."""
        return list(self.l2_entries(self.l1_offset, self.l1_size))

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
        return [(36, 4), (40, 8), (48, 8), (56, 4), (60, 4)] + \
            ([(64, 8)] if self.nb_snapshots else [])

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


class Saved:
    """What is in an image, and in the snapshot of what nobody names."""
    def __init__(self, state):
        self.found = [content for name, disk in state.items()
                      if name[1] == b'lost+found'
                      for content in self.in_order(disk)]
        self.all = {content for name, disk in state.items()
                    if name[0] != 'bitmap' for content in disk.values()}

    @staticmethod
    def in_order(disk):
        keys = [key for key in disk if key != 'size' and disk[key] != BAD]
        return [disk[key] for key in sorted(keys)]

    def has(self, content):
        """Also compressed, as its cluster was."""
        if content in self.all:
            return True
        raw = b''.join(self.found)
        return any(deflate_decompress(raw[i:], len(content)) == content
                   for i in range(len(raw)))


KINDS = [name[3:] for name in dir(Image) if name.startswith('in_')]


class Corpus(iotests.TestCase):
    def make(self, r, kind):
        """base, with what the kind needs."""
        opts = r.choice(SHAPES if 'bitmap' not in kind else
                        [s for s in SHAPES if 'compat' not in s])
        if kind == 'extended':
            opts = EXTENDED
        self.nested = r.random() < 0.3
        small = opts.endswith('refcount_bits=1')
        if small and ('snapshot' in kind or kind == 'compressed'):
            opts, small = SHAPES[0], False
        cluster = {'4': 4096, '6': 65536, '5': 512, '2': 2048,
                   '1': 16384}[opts[13]]
        state = not small and r.random() < 0.3
        span = cluster * cluster // (16 if kind == 'extended' else 8)
        self.state_at = -(-DISK // span) * span
        size = self.state_at + STATE if state else DISK
        self.ref('create', '-q', '-f', 'qcow2', '-o', opts, 'base', str(size))
        self.write_some(r, cluster, small and kind != 'compressed')
        if state:
            self.add_state(r)
        if 'bitmap' in kind:
            self.ref('bitmap', '--add', 'base', 'b0')
            self.ref('bitmap', '--add', '-g', '64k', 'base', 'b1')
            self.write_some(r, cluster, False)
        if 'snapshot' in kind or (r.random() < 0.3 and not small):
            self.ref('snapshot', '-c', 's1', 'base')
            self.write_some(r, cluster, False)
            self.ref('snapshot', '-c', 's2', 'base')
            self.write_some(r, cluster, False)
        self.ref('check', '-q', '-f', 'qcow2', 'base')
        self.original = contents(self.path('base'))

    def add_state(self, r):
        """A snapshot with VM state: that lies behind the disk."""
        self.ref_io('base', f'write -P {r.randrange(1, 255)} {self.state_at} '
                    f'{STATE}', fmt='qcow2')
        self.ref('snapshot', '-c', 'state', 'base')
        with Qcow2Bytes(self.path('base')) as image:
            at = image.snap_offset
            image.set_u32(at + 32, STATE)
            image.set_u64(at + 40, STATE)
            image.set_u64(at + 48, DISK)
            image.set_u64(24, DISK)
        self.assertIn('state', self.ref('snapshot', '-l', 'base').stdout)

    def write_nested(self, at):
        """An image in the guest's data: its tables look like ours."""
        self.ref('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k',
                 'nested', str(DISK))
        self.ref_io('nested', 'write -P 1 0 32k', 'write -P 2 1M 16k',
                    fmt='qcow2')
        size = os.path.getsize(self.path('nested')) + 511 & -512
        os.truncate(self.path('nested'), size)
        return f'write -s nested {at} {size}'

    def write_some(self, r, cluster, plain):
        commands = []
        if self.nested:
            at = r.randrange((DISK - (1 << 20)) // cluster) * cluster
            commands.append(self.write_nested(at))
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
        """What was done to 'a', a copy of base; None: nothing changed."""
        shutil.copy(self.path('base'), self.path('a'))
        with Image(self.path('a')) as image:
            places = image.places(kind)
            if not places:
                return None
            at, n = r.choice(places)
            old = image.read(at, n).ljust(n, b'\0')
            how = r.choice(('flip', 'flip', 'zero', 'random', 'neighbour'))
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

    def cross_check(self, name):
        """Both programs read what the model does, of what is in order."""
        state = contents(self.path(name))
        for snapshot, now in state.items():
            if snapshot == 'disk':
                args = []
            elif snapshot[0] != 'bitmap' and snapshot in self.original:
                args = ['-l', f'snapshot.id={snapshot[0].decode()}']
            else:
                continue
            if BAD in now.values() or now['size'] != \
               self.original[snapshot]['size']:
                continue
            for program in (self.img, self.ref):
                program('convert', '-q', '-f', 'qcow2', '-O', 'raw', *args,
                        name, 'raw')
                self.same_content(self.read_file('raw'), now)

    def same_content(self, raw, now):
        with Image(self.path('a')) as image:
            cluster = image.cluster
        self.assertEqual(len(raw), DISK)
        for i in range(0, DISK // cluster):
            got = raw[i * cluster:(i + 1) * cluster]
            parts = [now.get(i)] if not isinstance(now.get((i, 0)), bytes) \
                else None
            if parts is None or any(isinstance(k, tuple) for k in now):
                return      # subclusters: the other tests compare them
            self.assertEqual(got, parts[0] or bytes(cluster), f'cluster {i}')

    def theirs_is_clean(self):
        try:
            return self.ref('check', '-f', 'qcow2', 'a', rc=None).rc == 0
        except subprocess.TimeoutExpired:
            return False    # theirs believes any size

    def assert_saved(self, after, what):
        """What an entry has lost is in the new snapshot, or still elsewhere."""
        saved = Saved(after)
        for name, disk in self.original.items():
            if name[0] == 'bitmap':
                continue
            now = after.get(name, {})
            for key, content in disk.items():
                if key != 'size' and now.get(key) != content:
                    self.assertTrue(saved.has(content), f'{what}: {name} {key}')

    def left(self, kind, repair):
        """Why the fault was left."""
        said = repair.stdout + repair.stderr
        if kind == 'bitmap_directory' and repair.rc == 0 and \
           self.has_compatible_flag():
            return 'Nothing is wrong: theirs does not know a flag'
        self.assertRegex(said, REASON)
        return [line for line in said.splitlines() if REASON.search(line)][-1]

    def has_compatible_flag(self):
        """That of extra data, which says nothing where there are none."""
        with Image(self.path('a')) as image:
            start, size = image.bitmap_directory()
            return any(image.u32(at + 12) & 4
                       for at in range(start, start + size - 15, 8))

    def one(self, r, kind, nr):
        """A fault: 'clean', 'removed' for bitmaps that it took the user to give
        up, or why it was left."""
        what = self.damage(r, kind)
        if not what:
            return None
        before = contents(self.path('a'))
        shutil.copy(self.path('a'), self.path('damaged'))
        repair = self.img('check', '-f', 'qcow2', '-r', 'all', 'a', rc=None)
        clean = self.theirs_is_clean()
        assert_settled(self, 'a')
        after = contents(self.path('a'))
        given_up = 'DATA WAS LOST' in repair.stdout
        lost = list(losses(self.original, before, after, given_up))
        if lost or os.environ.get('SHOW') and not clean:
            print(f'# {kind}: {what}\n{repair.stdout}{repair.stderr}')
        if lost and os.environ.get('KEEP'):
            for name in ('base', 'damaged', 'a'):
                shutil.copy(self.path(name), self.path(f'{name}-{kind}-{nr}'))
        self.assertEqual(lost, [], what)
        if kind in DATA and 'Saving the' in repair.stderr:
            self.assert_saved(after, what)
        if kind == 'header' and clean:
            # There is no other way than to find the right value.
            self.assertEqual(after, self.original, what)
        if clean:
            if nr % 15 == 0:
                self.cross_check('a')
            return 'clean'
        reason = self.left(kind, repair)
        if 'bitmap' in kind:
            self.img('check', '-f', 'qcow2', '-r', 'all', '--bitmaps=remove',
                     'a', rc=None)
            if self.theirs_is_clean():
                after = {k: v for k, v in contents(self.path('a')).items()
                         if k[0] != 'bitmap'}
                disks = {k: v for k, v in before.items() if k[0] != 'bitmap'}
                self.assertEqual(list(losses(self.original, disks, after)), [])
                return 'removed'
        return reason

    def run_kind(self, kind):
        r = self.rng()
        counts = collections.Counter()
        done = failed = 0
        while done < FAULTS:
            if done % 15 == 0:
                self.make(r, kind)
            outcome = None
            with self.subTest(f'{kind} {done}'):
                outcome = 'failed'
                outcome = self.one(r, kind, done)
            failed += outcome == 'failed'
            if outcome:
                done += 1
                counts[re.sub('0x[0-9a-f]+|[0-9]+', 'N', outcome)] += 1
        clean = counts['clean']
        print(f'# {kind}: {done} faults, {clean} clean, {counts["removed"]} '
              f'after bitmaps were given up, {failed} failed')
        for reason, n in counts.most_common():
            if reason not in ('clean', 'removed', 'failed'):
                print(f'#   {n} left: {reason}')
        # One in a few is allowed to be the unlikely one in a short run.
        slack = 0 if iotests.LONG else 3
        self.assertGreaterEqual(clean + slack,
                                BOUND * done // 100)


for _kind in KINDS:
    setattr(Corpus, f'test_{_kind}',
            lambda self, kind=_kind: self.run_kind(kind))

if __name__ == '__main__':
    iotests.main()
