#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick check
# formats: qcow2
"""check: what it finds in images damaged in one place, its exit status and both
outputs; what -r mends; the distribution agrees about the result."""
import os

import iotests
from iotests.qcow2_bytes import COPIED, OFFSET_MASK, Qcow2Bytes

CLUSTER = 65536


class Check(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '4M')
        self.io('a', 'write -P 1 0 256k')
        self.before = self.guest()

    def guest(self):
        self.img('convert', '-O', 'raw', 'a', 'out')
        return self.read_file('out')

    def damage(self, change):
        with Qcow2Bytes(self.path('a')) as image:
            return change(image)

    def test_clean(self):
        out = self.img('check', 'a').stdout
        self.assertIn('No errors were found on the image.\n', out)
        self.assertIn('4/64 = 6.25% allocated, 0.00% fragmented, 0.00% '
                      'compressed clusters\n', out)
        self.assertRegex(out, r'Image end offset: \d+\n')
        self.assertEqual(out, self.ref('check', 'a').stdout)

    def test_clean_json(self):
        ours = self.img_json('check', 'a')
        self.assertEqual(ours, self.ref_json('check', 'a'))

    def leak(self):
        with Qcow2Bytes(self.path('a')) as image:
            image.truncate(31 * CLUSTER)
            image.set_refcount(30, 1)

    def test_leak(self):
        self.leak()
        result = self.img('check', 'a', rc=3)
        self.assertIn('Leaked cluster 30 refcount=1 reference=0',
                      result.stderr)
        self.assertIn('1 leaked clusters were found on the image.\n'
                      'This means waste of disk space, but no harm to data.\n',
                      result.stdout)
        self.assertEqual(self.img_json('check', 'a', rc=3)['leaks'], 1)
        result = self.img('check', '-r', 'leaks', 'a')
        self.assertIn('The following inconsistencies were found and repaired:',
                      result.stdout)
        self.assertIn('    1 leaked clusters\n', result.stdout)
        self.assertIn('    0 corruptions\n', result.stdout)
        self.assertIn('Double checking the fixed image now...',
                      result.stdout)
        self.assert_clean('a')
        self.assertEqual(self.guest(), self.before)

    def test_refcount_too_low(self):
        """A data cluster that is said to be free: the next allocation would
        give it away."""
        cluster = self.damage(lambda q: (q.l2(0, 0) & ~COPIED) // CLUSTER)
        self.damage(lambda q: q.set_refcount(cluster, 0))
        result = self.img('check', 'a', rc=2)
        self.assertIn(f'ERROR cluster {cluster} refcount=0 reference=1',
                      result.stderr)
        self.assertIn('errors were found on the image.\nData may be corrupted,'
                      ' or further writes to the image may corrupt it.',
                      result.stdout)
        self.assertGreater(self.img_json('check', 'a', rc=2)['corruptions'], 0)
        self.img('check', '-r', 'all', 'a')
        self.assert_clean('a')
        self.assertEqual(self.guest(), self.before)

    def test_refcount_too_high(self):
        cluster = self.damage(lambda q: (q.l2(0, 0) & ~COPIED) // CLUSTER)
        self.damage(lambda q: q.set_refcount(cluster, 7))
        self.img('check', 'a', rc=None)
        self.img('check', '-r', 'all', 'a')
        self.assert_clean('a')
        self.assertEqual(self.guest(), self.before)

    def test_copied_flag_missing(self):
        self.damage(lambda q: q.set_l2(0, 1, q.l2(0, 1) & ~COPIED))
        result = self.img('check', 'a', rc=None)
        self.assertNotEqual(result.rc, 0)
        self.assertIn('OFLAG_COPIED', result.stderr)
        self.img('check', '-r', 'all', 'a')
        self.assert_clean('a')
        self.assertEqual(self.guest(), self.before)

    def test_two_entries_lead_to_one_cluster(self):
        self.damage(lambda q: q.set_l2(0, 1, q.l2(0, 0)))
        self.img('check', 'a', rc=2)
        # What one of them has lost is leaked, and not known to be dead.
        self.img('check', '-r', 'all', '--orphans=keep', 'a', rc=2)
        self.img('check', '-r', 'all', '--orphans=free', 'a')
        self.assert_clean('a')
        guest = self.guest()
        self.assertEqual(guest, self.before)
        # Writing to one of them leaves the other alone.
        self.io('a', 'write -P 9 0 64k', 'read -P 1 64k 64k')
        self.img('check', '-r', 'all', 'a')
        self.assert_clean('a')
        self.io('a', 'read -P 9 0 64k', 'read -P 1 64k 64k')

    def plan_and_undo(self):
        """A plan writes nothing, and what it promises can be undone."""
        damaged = self.read_file('a')
        plan = self.img('check', '-r', 'all', '--plan', 'a')
        self.assertEqual(self.read_file('a'), damaged)
        result = self.img('check', '-r', 'all', '--undo', 'u', 'a')
        self.assertEqual(plan.stderr, result.stderr)
        self.assert_clean('a')
        self.img('undo', 'u', 'a')
        self.assertEqual(self.read_file('a'), damaged)
        os.unlink(self.path('u'))
        return plan

    def test_marks_alone_can_be_undone(self):
        """Nothing is found, but the header changes."""
        for mark in 1, 2:
            self.damage(lambda q, mark=mark: q.set_u64(72, mark))
            self.plan_and_undo()
        self.img('check', '-r', 'all', 'a')
        self.assertEqual(self.damage(lambda q: q.u64(72)), 0)

    def test_what_is_leaked_is_saved(self):
        self.io('a', 'write -P 2 64k 64k')
        self.before = self.guest()
        self.damage(lambda q: q.set_l2(0, 1, q.l2(0, 0)))
        guest = self.guest()
        plan = self.plan_and_undo()
        self.assertIn('1 leaked clusters that may be data of the disk are in '
                      'a new snapshot then', plan.stdout)
        self.assertRegex(plan.stderr, r'\(0x10000 of the disk\), .* may have')
        report = self.img_json('check', '-r', 'all', 'a')
        self.assertEqual(report['clusters-saved'], 1)
        self.assertNotIn('entries-cleared', report)
        self.assert_clean('a')
        self.assertEqual(self.guest(), guest)
        for program in (self.img, self.ref):
            program('convert', '-l', 'snapshot.name=lost+found', '-O', 'raw',
                    'a', 'out')
            # Theirs takes the disk for as long as it is now.
            self.assertEqual(self.read_file('out').rstrip(b'\0'),
                             b'\x02' * CLUSTER)
        # They are free when the user has looked at them.
        self.ref('snapshot', '-d', 'lost+found', 'a')
        self.assert_clean('a')

    def test_entry_that_nobody_can_read_is_cleared(self):
        def change(image):
            # Two at a time, or it would be known what they were.
            for i in (1, 2):
                image.set_l2(0, i, image.l2(0, i) ^ 0x5a << 40)
            return [{'entry': image.l2_offset(0) + 8 * i,
                     'offset': i * CLUSTER, 'bytes': CLUSTER, 'partly': False}
                    for i in (1, 2)]
        lost = self.damage(change)
        self.assertNotIn('lost-ranges', self.img_json('check', 'a', rc=2))
        planned = self.img_json('check', '-r', 'all', '--plan', 'a')
        self.assertEqual(planned['lost-ranges'], lost)
        plan = self.plan_and_undo()
        self.assertIn('DATA WAS LOST: what 2 damaged table entries stood for',
                      plan.stdout)
        self.assertRegex(plan.stderr, 'Clearing L2 entry .* 0x10000 bytes at '
                         '0x20000 of the disk could not be read, are lost')
        report = self.img_json('check', '-r', 'all', 'a')
        self.assertEqual(report['clusters-saved'], 2)
        self.assertEqual(report['entries-cleared'], 2)
        self.assertEqual(report['lost-ranges'], lost)
        self.assert_clean('a')
        self.io('a', 'read -P 1 0 64k', 'read -P 0 64k 128k',
                'read -P 1 192k 64k')

    def test_lost_entry_of_a_snapshot(self):
        """Where in the snapshot the data were is not told."""
        self.img('snapshot', '-c', 's', 'a')
        self.io('a', 'write -P 2 0 256k')

        def change(image):
            table = image.u64(image.u64(image.snap_offset)) & OFFSET_MASK
            for i in (1, 2):
                at = table + 8 * i
                image.set_u64(at, image.u64(at) ^ 0x5a << 40)
            return [{'entry': table + 8 * i, 'bytes': CLUSTER, 'partly': False}
                    for i in (1, 2)]
        lost = self.damage(change)
        report = self.img_json('check', '-r', 'all', 'a')
        for entry in report['lost-ranges']:
            entry.pop('offset', None)
        self.assertEqual(report['lost-ranges'], lost)
        self.assert_clean('a')

    def test_zeroes_do_not_show_the_backing_file(self):
        self.create('base', '4M')
        self.io('base', 'write -P 8 0 4M')
        self.img('rebase', '-u', '-b', 'base', '-F', 'qcow2', 'a')
        self.test_entry_that_nobody_can_read_is_cleared()

    def test_header(self):
        """The image cannot be opened, or is another one."""
        for offset in (40, 48):
            self.damage(lambda q, at=offset: q.set_u64(at, 1 << 40))
            plan = self.plan_and_undo()
            self.assertIn('Repairing the offset of the ', plan.stderr)
            damaged = self.read_file('a')
            self.img('check', 'a', rc=None)
            self.img('check', '-r', 'leaks', 'a', rc=None)
            self.assertEqual(self.read_file('a'), damaged)
            report = self.img_json('check', '-r', 'all', 'a')
            self.assertEqual(report['corruptions-fixed'], 1)
            self.assert_clean('a')
            self.assertEqual(self.guest(), self.before)

    def test_snapshot_that_the_header_has_lost(self):
        self.img('snapshot', '-c', 's', 'a')
        self.io('a', 'write -P 3 0 4k')
        self.damage(lambda q: q.set_u32(60, 0))
        self.plan_and_undo()
        self.img('check', '-r', 'all', 'a')
        self.assertIn(' s ', self.img('snapshot', '-l', 'a').stdout)
        self.assert_clean('a')

    def test_refcount_block_lost(self):
        self.damage(lambda q: q.set_reft(0, 0))
        self.img('check', 'a', rc=2)
        self.img('check', '-r', 'all', 'a')
        self.assert_clean('a')
        self.assertEqual(self.guest(), self.before)

    def test_refcount_block_unaligned(self):
        self.damage(lambda q: q.set_reft(0, q.reft(0) | 512))
        self.assertIn('not cluster aligned',
                      self.img('check', 'a', rc=None).stderr)
        self.img('check', '-r', 'all', 'a')
        self.assert_clean('a')
        self.assertEqual(self.guest(), self.before)

    def test_entry_past_the_end(self):
        self.damage(lambda q: q.set_l2(0, 60, COPIED | 1 << 40))
        result = self.img('check', 'a', rc=2)
        self.assertRegex(result.stderr, r'ERROR|Error')
        result = self.img_fails('beyond the end', 'convert', '-O', 'raw', 'a',
                                'out')
        # What is in the file can be had, and only what is not cannot.
        at = 60 << 16
        self.io('a', f'read 0 {at}', f'read {at + 65536} 64k', options=['-r'])
        self.io_fails('read failed', 'a', f'read {at} 512')
        self.img('convert', '--salvage', '-q', '-O', 'raw', 'a', 'out',
                 rc=2)
        found = self.read_file('out')
        self.assertEqual(found[:256 << 10], self.before[:256 << 10])

    def test_entry_unaligned(self):
        self.damage(lambda q: q.set_l2(0, 0, q.l2(0, 0) + 512))
        self.img('check', 'a', rc=2)
        self.img_fails('.', 'convert', '-O', 'raw', 'a', 'out')

    def test_check_does_not_write(self):
        self.leak()
        before = self.read_file('a')
        self.img('check', 'a', rc=3)
        self.img('check', '-U', 'a', rc=3)
        self.assertEqual(self.read_file('a'), before)

    def test_dirty_stays_dirty_with_damage(self):
        """Refcounts prove nothing before all is repaired, and the mark says so
        to the next repair, too."""
        self.img('amend', '-o', 'lazy_refcounts=on', 'a')

        def change(q):
            q.set_u64(72, q.u64(72) | 1)
            q.set_l2(0, 1, q.l2(0, 1) | 16)
        self.damage(change)
        for what in 'leaks', 'all':
            self.img('check', '-r', what, 'a', rc=2)
            self.assertIs(self.img_json('info', 'a')['dirty-flag'], True)
        self.damage(lambda q: q.set_l2(0, 1, q.l2(0, 1) & ~16))
        self.img('check', '-r', 'all', 'a')
        self.assertIs(self.img_json('info', 'a')['dirty-flag'], False)

    def test_dirty_image_is_repaired_when_opened_for_writing(self):
        self.create('a', '-o', 'lazy_refcounts=on', '4M')
        process = self.io_process('a')
        process.cmd('write -P 3 0 1M')
        process.cmd('flush')
        process.kill()
        self.wait_unlocked('a')
        self.assertIs(self.img_json('info', 'a')['dirty-flag'], True)
        self.io('a', 'read -P 3 0 1M')
        self.assertIs(self.img_json('info', 'a')['dirty-flag'], False)
        self.assert_clean('a')

    def test_corrupt_bit_bars_writing(self):
        self.damage(lambda q: q.set_u64(72, q.u64(72) | 2))
        self.assertIs(self.img_json('info', 'a')['format-specific']['data']
                      ['corrupt'], True)
        self.io_fails('corrupt', 'a', 'write 0 512')
        self.io('a', 'read -P 1 0 256k', options=['-r'])
        self.img('check', '-r', 'all', 'a')
        self.assertIs(self.img_json('info', 'a')['format-specific']['data']
                      ['corrupt'], False)
        self.io('a', 'write 0 512')

    def test_exit_status(self):
        self.write_file('raw', bytes(65536))
        self.assertIn('does not support checks',
                      self.img('check', '-f', 'raw', 'raw', rc=63).stderr)
        self.img('check', 'none', rc=1)
        self.img('check', rc=1)
        self.assertEqual(self.img('check', '-q', 'a').stdout, '')

    def test_every_refcount_width(self):
        for bits in (1, 2, 4, 8, 16, 32, 64):
            with self.subTest(bits):
                self.create('a', '-o', f'refcount_bits={bits}', '4M')
                self.io('a', 'write -P 1 0 256k')
                self.before = self.guest()
                cluster = self.damage(
                    lambda q: (q.l2(0, 2) & ~COPIED) // CLUSTER)
                self.damage(lambda q, c=cluster: q.set_refcount(c, 0))
                self.leak()
                self.img('check', 'a', rc=2)
                self.img('check', '-r', 'all', 'a')
                self.assert_clean('a')
                self.assertEqual(self.guest(), self.before)

    def cpu(self, *args):
        """Seconds that a check takes, the best of three."""
        best = 1e9
        for _ in range(3):
            self.write_file('b', self.read_file('a'))
            before = os.times()
            self.img('check', '-f', 'qcow2', *args, 'b', rc=None)
            after = os.times()
            best = min(best, sum(after[2:4]) - sum(before[2:4]))
        return best

    def test_hopeless(self):
        """What no single field explains is not tried for long."""
        self.ref('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', 'a',
                 '3M')
        self.ref_io('a', 'write -P 1 0 1M', 'write -P 2 2M 128k',
                    'write -c -P 4 1500k 4k', 'write -c -P 5 1600k 4k',
                    fmt='qcow2')
        for name in 'st':
            self.ref('snapshot', '-c', name, 'a')
        for name in 'st':
            self.ref('bitmap', '--add', '-g', '512', 'a', name)
        self.ref_io('a', 'write -P 3 0 512k', fmt='qcow2')

        def change(image):
            image.set_u64(40, image.reft_offset)
            image.set_u32(36, 4 << 20)
        self.damage(change)
        self.assertLess(self.cpu('-r', 'all'), 2 * self.cpu() + 0.15)


if __name__ == '__main__':
    iotests.main()
