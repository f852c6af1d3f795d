#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: check
# formats: qcow2
"""An L1 entry or an L2 table that is lost: check -r puts the table back where
that is certain, and otherwise frees nothing of it and says why."""
import os

import iotests
from iotests import LONG
from iotests.qcow2_bytes import COPIED, OFFSET_MASK, Qcow2Bytes

IMAGES = 200 if LONG else 24
KEPT = 'neither put back nor freed|are not freed|Cannot|damaged|corrupted|ERROR'


class LostTables(iotests.TestCase):
    def build(self, rng, full):
        """An image of several L2 tables; with full, all of them exist."""
        # With 64k disks are large, and reading them takes its time.
        shapes = [(9, 8), (10, 8), (12, 8), (12, 8), (14, 16)]
        shapes += [(16, 8), (16, 16)] if LONG else [(13, 8)]
        bits, entry = rng.choice(shapes)
        cluster = 1 << bits
        span = cluster * (cluster // entry)     # bytes of one L2 table
        tables = rng.randrange(2, 6)
        extended = 'on' if entry == 16 else 'off'
        self.create('a', '-o',
                    f'cluster_size={cluster},extended_l2={extended}',
                    str(span * tables - rng.randrange(2) * cluster * 2))
        used = list(range(tables)) if full else \
            sorted(rng.sample(range(tables), max(1, tables - 2)))
        commands = []
        for t in used:
            for _ in range(rng.randrange(1, 4)):
                first = rng.randrange(cluster // entry - 4)
                at = t * span + first * cluster
                kind = rng.choice(('', '', '-z', '-c'))
                n = 1 if kind == '-c' else rng.randrange(1, 3)
                length = n * cluster
                if kind != '-c' and entry == 16:
                    at += rng.randrange(8) * cluster // 32
                    length -= rng.randrange(31) * cluster // 32
                pattern = '' if kind == '-z' else f'-P {rng.randrange(1, 255)}'
                commands.append(f'write {kind} {pattern} {at} {length}')
            # Every table maps some data.
            commands.append(f'write -P {t + 1} {t * span} {cluster}')
        self.io('a', *commands)
        if rng.randrange(3) == 0 and full:
            self.img('snapshot', '-c', 's', 'a')
            self.io('a', *(f'write -P 99 {t * span} {cluster}' for t in used))
        return used, tables

    def guest(self, image='a'):
        self.img('convert', '-f', 'qcow2', '-O', 'raw', image, 'out')
        return self.read_file('out')

    def refcounts(self, image='a'):
        """Clusters in use, by their stored refcounts, without the snapshot
        table, which has another place when a snapshot gets what is leaked."""
        with Qcow2Bytes(self.path(image)) as q:
            n = -(-q.size() // q.cluster)
            return {i for i in range(n) if q.refcount(i)} - \
                {q.snap_offset // q.cluster}

    def damage(self, rng, how, table, tables):
        with Qcow2Bytes(self.path('a')) as q:
            if how == 'l1-zero':
                q.set_l1(table, 0)
            elif how == 'l1-garbage':
                q.set_l1(table, COPIED | (1 << 50) | rng.randrange(1, 9) << 21)
            elif how == 'l1-copied':
                q.set_l1(table, q.l1((table + 1) % tables))
            elif how == 'l2-zero':
                q.write(q.l2_offset(table), bytes(q.cluster))
            elif how == 'l2-random':
                q.write(q.l2_offset(table), rng.randbytes(q.cluster))
            elif how == 'l2-copied':
                other = (table + 1) % tables
                q.write(q.l2_offset(table),
                        q.read(q.l2_offset(other), q.cluster))

    def undo_and_compare(self, before, repaired):
        self.assertEqual(self.read_file('a'), repaired)
        self.img('undo', '-q', 'undo', 'a')
        self.assertEqual(self.read_file('a'), before)

    def repair(self, label):
        """Checks a plan, repairs with an undo file. The file before it, the
        result, the repaired file."""
        before = self.read_file('a')
        plan = self.img('check', '-r', 'all', '--plan', 'a', rc=None)
        self.assertEqual(self.read_file('a'), before, label)
        result = self.img('check', '-r', 'all', '--undo', 'undo', 'a', rc=None)
        self.assertEqual(plan.rc, result.rc, label + plan.describe())
        self.assertIn(result.rc, (0, 2, 3), label + result.describe())
        return before, result, self.read_file('a')

    def one_image(self, number, rng):
        how = rng.choice(('l1-zero', 'l1-zero', 'l1-garbage', 'l1-copied',
                          'l2-zero', 'l2-random', 'l2-copied'))
        full = rng.randrange(3) > 0
        used, tables = self.build(rng, full)
        table = rng.choice(used)
        good = self.guest()
        self.damage(rng, how, table, tables)
        label = f'image {number}: {how}, {used} of {tables}, {table}: '
        refcounts = self.refcounts()
        before, result, repaired = self.repair(label)
        if how in ('l1-zero', 'l1-garbage') and full:
            self.assertEqual(result.rc, 0, label + result.describe())
            self.assertEqual(self.guest(), good, label)
            self.assert_clean('a')
            self.restored += 1
        else:
            self.assertLessEqual(refcounts, self.refcounts(), label)
            if result.rc:
                self.assertRegex(result.stderr, KEPT, label)
        if before != repaired:
            self.undo_and_compare(before, repaired)

    def test_random_images(self):
        rng = self.rng()
        self.restored = 0
        for number in range(IMAGES):
            self.one_image(number, rng)
            for name in ('a', 'undo'):
                if os.path.exists(self.path(name)):
                    os.unlink(self.path(name))
        self.assertGreater(self.restored, IMAGES // 10)

    # --- single cases ---

    def make(self, tables=3, cluster=4096):
        """All tables have data; returns the bytes that one maps."""
        span = cluster * cluster // 8
        self.create('a', '-o', f'cluster_size={cluster}', str(span * tables))
        self.io('a', *(f'write -P {t + 1} {t * span} 64k'
                       for t in range(tables)))
        return span

    def lose(self, *indices):
        """Zeroes L1 entries; returns the offsets of their tables."""
        with Qcow2Bytes(self.path('a')) as q:
            offsets = [q.l2_offset(i) for i in indices]
            for i in indices:
                q.set_l1(i, 0)
        return offsets

    def test_distribution_frees_what_ours_restores(self):
        self.make()
        good = self.guest()
        self.lose(1)
        self.write_file('theirs', self.read_file('a'))
        self.ref('check', '-r', 'all', 'theirs')
        self.assertNotEqual(self.guest('theirs'), good)
        ours = self.img_json('check', 'a', rc=3)
        self.assertEqual(ours['leaks'], 17)
        self.assertEqual(ours['orphaned-tables'], 1)
        self.assertEqual(self.img_json('check', '-r', 'all',
                                       'a')['tables-restored'], 1)
        self.assertEqual(self.guest(), good)
        self.assert_clean('a')

    def test_leaks_alone_frees_nothing(self):
        self.make()
        self.lose(1)
        before = self.read_file('a')
        result = self.img('check', '-r', 'leaks', 'a', rc=3)
        self.assertIn('puts it back into L1 entry 1', result.stderr)
        self.assertIn('They may be data of the disk', result.stdout)
        self.assertNotIn('no harm to data', result.stdout)
        self.assertEqual(self.read_file('a'), before)

    def test_two_places(self):
        self.make()
        good = self.guest()
        offsets = self.lose(0, 2)
        before = self.read_file('a')
        result = self.img('check', '-r', 'all', '--orphans=keep', 'a',
                          rc=3)
        self.assertEqual(self.read_file('a'), before)
        for offset in offsets:
            self.assertIn(f'Orphaned L2 table at offset {offset:#x}: maps 16 '
                          'clusters, 16 of them leaked; L1 entries with room '
                          'for it: 0, 2', result.stderr)
        self.assertIn('more than one L1 entry has room', result.stderr)
        for bad, why in ((f'1={offsets[0]}', 'no room'),
                         (f'9={offsets[0]}', 'no such L1 entry'),
                         ('0=0x1000', 'no orphaned L2 table')):
            result = self.img('check', '-r', 'all', '--l1-place', bad, 'a',
                              rc=1)
            self.assertIn(why, result.stderr)
            self.assertEqual(self.read_file('a'), before)
        twice = [f'--l1-place={i}={offsets[0]}' for i in (0, 2)]
        self.img_fails('placed twice', 'check', '-r', 'all', *twice, 'a')
        self.assertEqual(self.read_file('a'), before)
        self.img('check', '-r', 'all', f'--l1-place=0={offsets[0]}',
                 f'--l1-place=2={offsets[1]:#x}', 'a')
        self.assertEqual(self.guest(), good)
        self.assert_clean('a')

    def test_free_on_request(self):
        self.make()
        self.lose(0, 2)
        self.img('check', '-r', 'leaks', '--orphans=keep', 'a', rc=3)
        self.img('check', '-r', 'leaks', '--orphans=free', 'a')
        self.assert_clean('a')

    def test_another_leak_is_a_reason(self):
        """A snapshot whose deletion was interrupted leaves tables, too."""
        self.make()
        self.lose(1)
        with Qcow2Bytes(self.path('a')) as q:
            end = q.size() // q.cluster
            q.truncate((end + 1) * q.cluster)
            q.set_refcount(end, 1)
        result = self.img('check', '-r', 'all', '--orphans=keep', 'a',
                          rc=3)
        self.assertIn('other clusters are leaked, too', result.stderr)

    def test_table_in_guest_data(self):
        """Data that look like a table of what is lost, and do not name it."""
        span = self.make()
        with Qcow2Bytes(self.path('a')) as q:
            table = q.l2_offset(1)
            entries = [q.l2(1, i) for i in range(16)]
            data = entries[3] & OFFSET_MASK
            q.write(data, b''.join(e.to_bytes(8, 'big')
                                   for e in entries[4:8]).ljust(4096, b'\0'))
        good = self.guest()
        self.lose(1)
        self.img('check', '-r', 'all', 'a')
        self.assertEqual(self.guest(), good)
        # The same, but each of the two could be the data of the other.
        with Qcow2Bytes(self.path('a')) as q:
            q.write(data + 32, (table | COPIED).to_bytes(8, 'big'))
        self.lose(1)
        before = self.read_file('a')
        result = self.img('check', '-r', 'all', '--orphans=keep', 'a',
                          rc=3)
        self.assertIn('other clusters look like an L2 table', result.stderr)
        self.assertEqual(self.read_file('a'), before)
        self.img('check', '-r', 'all', f'--l1-place=1={table}', 'a')
        self.io('a', f'read -P 2 {span} 12k')

    def test_table_of_a_snapshot(self):
        """The disk has a free entry, but it was not there."""
        span = self.make(tables=2)
        self.img('resize', 'a', str(3 * span))
        self.img('snapshot', '-c', 's', 'a')
        # All that the snapshot's table names is named by the disk's, too.
        self.io('a', f'write -P 9 {span + (1 << 20)} 4k')
        good = self.guest()
        with Qcow2Bytes(self.path('a')) as q:
            l1 = q.u64(q.snap_offset)
            table = q.u64(l1 + 8) & OFFSET_MASK
            q.set_u64(l1 + 8, 0)
        result = self.img('check', '-r', 'all', 'a')
        self.assertIn(f'0x0 becomes {table:#x}', result.stderr)
        self.assertEqual(self.guest(), good)
        self.assert_clean('a')

    def test_not_given_to_a_snapshot(self):
        """A snapshot that had nothing there keeps that, though its entry is free
        and the table that the disk has lost would fit."""
        span = self.make(tables=2)
        self.img('resize', 'a', str(3 * span))
        self.img('snapshot', '-c', 'before', 'a')
        self.io('a', f'write -P 7 {2 * span} 64k')
        self.img('snapshot', '-c', 'after', 'a')
        self.io('a', f'write -P 9 {2 * span} 4k')
        good = [self.snapshot(name) for name in ('before', 'after')]
        table, = self.lose(2)
        result = self.img('check', '-r', 'all', 'a')
        self.assertNotIn('refcounts prove', result.stderr)
        self.assertIn(f'Saving the L2 table at offset {table:#x}',
                      result.stderr)
        self.assertEqual(good, [self.snapshot(name)
                                for name in ('before', 'after')])
        self.assert_clean('a')

    def snapshot(self, name):
        self.img('convert', '-l', name, '-O', 'raw', 'a', 'out')
        return self.read_file('out')

    # --- plans and undo files ---

    def leak(self):
        with Qcow2Bytes(self.path('a')) as q:
            end = q.size() // q.cluster
            q.truncate((end + 1) * q.cluster)
            q.set_refcount(end, 1)

    def test_plan_of_a_file_that_cannot_be_written(self):
        self.make()
        self.leak()
        os.chmod(self.path('a'), 0o444)
        before = self.read_file('a')
        result = self.img('check', '-r', 'all', '--plan', 'a')
        self.assertIn('The following would be repaired:\n\n    1 leaked',
                      result.stdout)
        self.assertIn('Nothing was written.', result.stdout)
        plan = self.img_json('check', '-r', 'all', '--plan', 'a')
        self.assertEqual(len(plan['planned-writes']), 1)
        self.assertEqual(self.read_file('a'), before)

    def test_undo_of_a_rebuild(self):
        """The file grows and shrinks again, to an odd length."""
        self.make()
        with Qcow2Bytes(self.path('a')) as q:
            q.set_reft(0, 0)
            q.truncate(q.size() + 77)
        before = self.read_file('a')
        self.img('check', '-r', 'all', '--undo', 'undo', 'a')
        self.assertGreater(len(self.read_file('a')), len(before))
        self.undo_and_compare(before, self.read_file('a'))
        self.img_fails('undone already', 'undo', 'undo', 'a')

    def test_undo_is_refused(self):
        span = self.make()
        self.leak()
        self.img('check', '-r', 'all', '--undo', 'undo', 'a')
        repaired = self.read_file('a')
        self.io('a', f'write -P 77 {span} 512')
        changed = self.read_file('a')
        self.img_fails('not as the repair left it', 'undo', 'undo', 'a')
        self.assertEqual(self.read_file('a'), changed)
        self.write_file('a', repaired + b'x')
        self.img_fails('not as the repair left it', 'undo', 'undo', 'a')
        self.write_file('a', repaired)
        undo = bytearray(self.read_file('undo'))
        for at in (0, 20, 490, 520, len(undo) - 1):
            undo[at] ^= 1
            self.write_file('bad', undo)
            self.img_fails('not an undo file|damaged', 'undo', 'bad', 'a')
            undo[at] ^= 1
        self.assertEqual(self.read_file('a'), repaired)
        self.img('undo', 'undo', 'a')

    def test_undo_file_is_never_overwritten(self):
        self.make()
        self.leak()
        before = self.read_file('a')
        self.write_file('undo', b'mine')
        self.img_fails('File exists', 'check', '-r', 'all', '--undo', 'undo',
                       'a')
        self.assertEqual(self.read_file('undo'), b'mine')
        self.assertEqual(self.read_file('a'), before)
        self.img_fails('No such file', 'check', '-r', 'all', '--undo',
                       'none/undo', 'a')
        self.assertEqual(self.read_file('a'), before)

    def test_nothing_to_repair(self):
        self.make()
        before = self.read_file('a')
        self.img('check', '-r', 'all', '--undo', 'undo', 'a')
        self.assertFalse(os.path.exists(self.path('undo')))
        self.assertEqual(self.read_file('a'), before)

    def test_undo_file_is_durable_first(self):
        """Killed at the first write to the image, at the latest, there is an
        undo file that works."""
        self.make()
        self.leak()
        before = self.read_file('a')
        faulty = ('driver=qcow2,file.driver=blkdebug,file.image.driver=file,'
                  'file.image.filename=a,file.inject-error.0.event=none,'
                  'file.inject-error.0.iotype=write,'
                  'file.inject-error.0.errno=5')
        result = self.img('check', '-r', 'all', '--undo', 'undo',
                          '--image-opts', faulty, rc=1)
        self.assertNotIn('No errors', result.stdout)
        self.assertEqual(self.read_file('a'), before)
        self.img('undo', 'undo', 'a')
        self.assertEqual(self.read_file('a'), before)

    def test_progress(self):
        self.make()
        out = self.img('check', '-p', 'a').stdout
        self.assertRegex(out, r'\(0\.00/100%\)\r(.*\r)*    \(100\.00/100%\)')

    def test_options_that_need_others(self):
        self.make()
        for option in ('--plan', '--undo=x', '--orphans=keep',
                       '--l1-place=0=0'):
            self.img_fails('requires -r', 'check', option, 'a')
        self.img_fails('requires -r all', 'check', '-r', 'leaks',
                       '--l1-place=0=0', 'a')
        self.img_fails('same time', 'check', '-r', 'all', '--plan',
                       '--undo=x', 'a')
        self.img_fails('Invalid value for --l1-place', 'check', '-r', 'all',
                       '--l1-place=3', 'a')
        self.img_fails('Unknown option value for --orphans', 'check', '-r',
                       'all', '--orphans=x', 'a')


if __name__ == '__main__':
    iotests.main()
