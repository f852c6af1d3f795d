#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: check
# formats: qcow2
"""check -r all of what nothing proves: whatever write fails, and whenever the power
is cut, nothing that can be read is lost, and another repair ends clean."""
import struct

import iotests
from iotests.faults import EIO, ENOSPC, nth_fault
from iotests.qcow2_bitmaps import Bitmaps
from iotests.qcow2_bytes import COPIED, OFFSET_MASK, Qcow2Bytes

WRONG = 0x5a << 40


class Rescue(iotests.TestCase):
    def damage(self, change):
        with Qcow2Bytes(self.path('a')) as image:
            return change(image)

    def host(self, l1_index, i):
        return self.damage(lambda q: q.l2(l1_index, i) & OFFSET_MASK)

    def refcount(self, offset):
        return self.damage(lambda q: q.refcount(offset // q.cluster))

    def guest(self, *snapshot):
        """What can be read, and zeroes."""
        self.img('convert', '--salvage', '-q', *snapshot, '-O', 'raw', 'a',
                 'out', rc=None)
        return self.read_file('out')

    def repair(self, *args, rc=0):
        return self.img('check', '-r', 'all', *args, 'a', rc=rc)

    # --- faults ---

    SIZE = 4096
    SPAN = SIZE * SIZE // 8

    def build(self, options):
        """A cluster with two names, entries that cannot be, a bitmap whose sizes
        are wrong; a snapshot if refcounts can say so."""
        span = self.SPAN
        self.create('a', '-o', f'cluster_size=4k,{options}', str(4 * span))
        self.io('a', *(f'write -P {t + 1} {t * span} 16k' for t in range(4)))
        self.has_bitmap = 'compat' not in options
        self.has_snapshot = 'refcount_bits' not in options
        if self.has_snapshot:
            self.img('snapshot', '-c', 's', 'a')
            self.io('a', 'write -P 9 0 4k', f'write -P 8 {span} 4k',
                    f'write -P 7 {2 * span} 4k', f'write -P 6 {3 * span} 8k')
        if self.has_bitmap:
            self.img('bitmap', '--add', '-g', '4096', 'a', 'b')
            with Bitmaps(self.path('a')) as b:
                b.write(b.entries()['b'].pos + 18, b'\x07')

        def change(q):
            lost = [q.l2(0, 0) & OFFSET_MASK]
            for i in range(2):
                lost.append(q.l2(3, i) & OFFSET_MASK)
                q.set_l2(3, i, q.l2(3, i) ^ WRONG)
            q.set_l2(0, 0, q.l2(1, 0))
            return lost
        self.lost = [(at, self.read_file('a', at, self.SIZE))
                     for at in self.damage(change)]
        self.damaged = self.read_file('a')
        self.before = self.state()
        self.worst = self.img('check', 'a', rc=None).rc

    def state(self):
        return [self.guest()] + ([self.guest('-l', 's')]
                                 if self.has_snapshot else [])

    def check_state(self):
        """Nothing is lost, and what nobody names is not free."""
        self.assertEqual(self.state(), self.before)
        for at, data in self.lost:
            self.assertEqual(self.read_file('a', at, self.SIZE), data)
            self.assertGreaterEqual(self.refcount(at), 1)

    def repair_again(self):
        self.check_state()
        self.repair()
        self.assert_clean('a')
        self.check_state()

    def run_faults(self, options, step=1, **fault):
        self.build(options)
        struck = 0
        for n in range(1, 100, step):
            with self.subTest(options=options, n=n, **fault):
                self.write_file('a', self.damaged)
                result = self.img('check', '-r', 'all', '--image-opts',
                                  'driver=qcow2,' +
                                  nth_fault('a', n, **fault), rc=None)
                self.assertIn(result.rc, (0, 1, self.worst))
                self.repair_again()
                if not result.rc:
                    break
                struck += 1
        self.assertGreater(struck, 3)

    def test_write_fails(self):
        self.run_faults('lazy_refcounts=off', errno=EIO)
        for options in 'compat=0.10', 'refcount_bits=1':
            self.run_faults(options, step=1 if iotests.LONG else 3, errno=EIO)

    def test_disk_is_full(self):
        self.run_faults('lazy_refcounts=off', step=1 if iotests.LONG else 3,
                        errno=ENOSPC, once='off')

    def test_flush_fails(self):
        self.run_faults('lazy_refcounts=off', event='flush_to_disk')

    # --- power cuts ---

    def logged_writes(self):
        """Lists of (offset, data), which flushes are between."""
        self.write_file('log', b'')
        self.img('check', '-r', 'all', '--image-opts',
                 'driver=qcow2,file.driver=blklogwrites,file.file.driver=file,'
                 'file.file.filename=a,file.log.driver=file,'
                 'file.log.filename=log')
        log, epochs = self.read_file('log'), [[]]
        _, _, count, at = struct.unpack_from('<QQQI', log)
        for _ in range(count):
            sector, n, flags, _ = struct.unpack_from('<QQQQ', log, at)
            at += 512
            if n:
                epochs[-1].append((sector * 512, log[at:at + n * 512]))
                at += n * 512
            if flags & 1:
                epochs.append([])
        return [epoch for epoch in epochs if epoch]

    def cut_power(self, options):
        self.build(options)
        epochs, rng = self.logged_writes(), self.rng()
        self.check_state()
        self.assertGreater(len(epochs), 3)
        durable = bytearray(self.damaged)
        for number, epoch in enumerate(epochs):
            for attempt in range(6 if iotests.LONG else 2):
                with self.subTest(options=options, epoch=number, n=attempt):
                    image = bytearray(durable)
                    put_all(image, [w for w in epoch if rng.random() < .5])
                    self.write_file('a', image)
                    self.assertIn(self.img('check', 'a', rc=None).rc,
                                  (0, 3, self.worst))
                    self.repair_again()
            put_all(durable, epoch)

    def test_power_cut(self):
        for options in ('lazy_refcounts=off', 'compat=0.10',
                        'refcount_bits=1'):
            self.cut_power(options)


    # --- counts ---

    def two_names(self, options='refcount_bits=16', size='8M'):
        """Returns what the second entry has lost."""
        self.create('a', '-o', options, size)
        self.io('a', *(f'write -P {i + 1} {i << 16} 64k' for i in range(3)))
        lost = self.host(0, 1)
        self.damage(lambda q: q.set_l2(0, 1, q.l2(0, 0)))
        return lost

    def test_any_refcount_is_leaked(self):
        for stored in (1 << 63) - 1, 1 << 63, (1 << 64) - 1:
            with self.subTest(stored):
                lost = self.two_names('refcount_bits=64')
                self.damage(lambda q, at=lost, n=stored:
                            q.set_refcount(at // q.cluster, n))
                self.repair()
                self.assert_clean('a')
                self.assertGreaterEqual(self.refcount(lost), 1)
                self.assertEqual(self.guest('-l', 'lost+found')[:65536],
                                 b'\2' * 65536)

    def test_leaked_table_with_all_references(self):
        """It cannot have one more, for the cluster as it is; but if it has very
        many they are not all used up."""
        for bits, stored in (2, 3), (16, 0xffff):
            with self.subTest(bits):
                self.leak_table(bits, stored)

    def leak_table(self, bits, stored):
        self.create('a', '-o', f'refcount_bits={bits},cluster_size=4k', '16M')
        self.io('a', *(f'write -P {i} {i << 21} 16k' for i in range(4)))

        def change(q):
            table = q.l1(1) & OFFSET_MASK
            q.set_l1(1, q.l1(2))
            q.set_refcount(table // q.cluster, stored)
            return table
        table = self.damage(change)
        before = self.guest()
        self.repair()
        self.assert_clean('a')
        self.assertEqual(self.guest(), before)
        self.assertEqual(self.guest('-l', 'lost+found')[:16384],
                         b'\1' * 16384)
        self.assertGreaterEqual(self.refcount(table), 3)

    def test_what_is_declined_is_not_freed(self):
        """A refcount of one bit cannot count a cluster that is in doubt."""
        lost = self.two_names('refcount_bits=1,extended_l2=on')

        def change(q):
            q.set_l2(0, 1, 0)
            q.set_l2_bitmap(0, 1, 0)
            for i in 0, 2:
                q.set_l2_bitmap(0, i, q.l2_bitmap(0, i) | 3 << 32)
        self.damage(change)
        damaged = self.read_file('a')
        self.assertIn('what is leaked stays as it is', self.repair(rc=2).stderr)
        self.assertEqual(self.read_file('a'), damaged)
        self.assertEqual(self.refcount(lost), 1)

    # --- what can be read ---

    def test_subclusters_of_the_backing_file(self):
        """That the cluster is not in the file concerns those that are in it."""
        self.create('base', '8M')
        self.io('base', 'write -P 8 0 8M')
        self.create('a', '-o', 'extended_l2=on', '-b', 'base', '-F', 'qcow2')
        self.io('a', 'write -P 1 4k 4k', 'write -P 2 68k 4k',
                'write -z 80k 16k', 'write -P 3 128k 64k')

        def change(q):
            for i in range(2):
                q.set_l2(0, i, q.l2(0, i) ^ WRONG)
        self.damage(change)
        shown = ['read -P 8 0 4k', 'read -P 8 8k 60k', 'read -P 8 72k 8k',
                 'read -P 0 80k 16k', 'read -P 8 96k 32k', 'read -P 3 128k 64k']
        for program in self.io, self.ref_io:
            program('a', *shown, fmt='qcow2', options=['-r'])
        self.assertIn('some of the 0x10000 bytes at 0x10000',
                      self.repair().stderr)
        self.assert_clean('a')
        for program in self.io, self.ref_io:
            program('a', *shown, 'read -P 0 4k 4k', 'read -P 0 68k 4k',
                    fmt='qcow2', options=['-r'])

    def test_zeroes_that_are_not_in_the_file(self):
        self.create('a', '8M')
        self.io('a', 'write -P 1 0 256k')

        def change(q):
            for i in range(2):
                q.set_l2(0, i, q.l2(0, i) ^ WRONG | 1)
        self.damage(change)
        self.assertNotIn('entries-cleared', self.repair(
            '--output=json').stdout)
        self.assert_clean('a')
        self.io('a', 'read -P 0 0 128k', 'read -P 1 128k 128k')

    def test_compressed_with_bits_of_others(self):
        """Both could be of a cluster that is not compressed; but it unpacks."""
        self.create('a', '-o', 'extended_l2=on', '8M')
        self.io('a', 'write -c -P 7 64k 64k', 'write -P 1 0 64k')

        def change(q):
            q.set_l2(0, 1, q.l2(0, 1) | COPIED)
            q.set_l2_bitmap(0, 1, 5)
        self.damage(change)
        for program in self.io, self.ref_io:
            program('a', 'read -P 7 64k 64k', fmt='qcow2', options=['-r'])
        self.assertNotIn('DATA WAS LOST', self.repair().stdout)
        self.assert_clean('a')
        self.io('a', 'read -P 7 64k 64k')


    def test_copied_subclusters(self):
        """Of two that have a cluster one gets a copy with all that it has."""
        self.create('a', '-o', 'extended_l2=on,refcount_bits=1', '8M')
        self.io('a', 'write -P 1 0 6k', 'write -z 8k 8k', 'write -P 2 64k 64k')
        self.damage(lambda q: (q.set_l2(0, 1, q.l2(0, 0)),
                               q.set_l2_bitmap(0, 1, q.l2_bitmap(0, 0))))
        before = self.guest()
        self.repair()
        self.assert_clean('a')
        self.assertEqual(self.guest(), before)
        self.assertNotEqual(self.host(0, 0), self.host(0, 1))
        self.assertEqual(self.guest('-l', 'lost+found')[:65536],
                         b'\2' * 65536)

    def test_guard(self):
        """It is about the L1 table, and L2 entries can be given up. What is tried
        on the way to that is not told."""
        self.create('a', '-o', 'l1_guard=on', '8M')
        self.io('a', 'write -P 1 0 256k')

        def change(q):
            for i in (1, 2):
                q.set_l2(0, i, q.l2(0, i) ^ WRONG)
        self.damage(change)
        result = self.repair()
        self.assertIn('what 2 damaged table entries', result.stdout)
        self.assertNotIn('warning', result.stderr)
        self.assert_clean('a')
        self.io('a', 'read -P 1 0 64k', 'read -P 0 64k 128k',
                'read -P 1 192k 64k')

    # --- once is enough ---

    def assert_settled(self):
        """Another repair finds what this one has left, and writes nothing."""
        left = self.img('check', 'a', rc=None)
        before = self.read_file('a')
        self.repair(rc=left.rc)
        self.assertEqual(self.read_file('a'), before)

    def snapshots(self):
        return self.img_json('info', 'a').get('snapshots', [])

    def test_garbage_refcounts(self):
        """Numbers of any size, behind the end of the file, too, where what is
        written then comes to be; an L2 table without entries may have had
        anything."""
        r = self.rng()
        for bits in 4, 16, 64:
            with self.subTest(bits):
                self.create('a', '-o', f'cluster_size=4k,refcount_bits={bits}',
                            str(4 * self.SPAN))
                self.io('a', 'write -P 1 0 64k', f'write -P 2 {self.SPAN} 4k')

                def change(q):
                    block = q.reft(0)
                    junk = r.randbytes(64 * bits // 8)
                    q.write(block, junk.ljust(q.cluster, b'\x55'))
                    q.set_l2(1, 0, 0)
                self.damage(change)
                before = self.guest()
                repair = self.repair(rc=None)
                self.assertIn('Saving the cluster', repair.stderr)
                self.assertEqual(len(self.snapshots()), 1)
                self.assert_settled()
                self.assertEqual(len(self.snapshots()), 1)
                self.assertEqual(self.guest(), before)

    def test_more_references_than_are_made(self):
        """What is saved has 256 of them; the rest is no other leak. The header, L1
        tables, the snapshot table and the refcount structure are not saved."""
        self.create('a', '-o', 'cluster_size=4k', str(4 * self.SPAN))
        self.io('a', 'write -P 1 0 64k', f'write -P 2 {self.SPAN} 4k')
        self.img('snapshot', '-c', 's', 'a')
        self.io('a', f'write -P 3 {self.SPAN} 4k')
        lost = self.host(1, 0)

        def change(q):
            own = [0, q.l1_offset, q.snap_offset, q.u64(q.snap_offset),
                   q.reft_offset, q.reft(0)]
            q.set_l2(1, 0, 0)
            q.set_refcount(lost // q.cluster, 5000)
            for at in own:
                q.set_refcount(at // q.cluster, 7)
            return own
        own = self.damage(change)
        result = self.repair()
        self.assertIn('\n1 leaked clusters that may be data of the disk are in',
                      result.stdout)
        self.assertEqual(self.refcount(lost), 256)
        for at in own:
            # The snapshot table is another one now.
            self.assertIn(self.refcount(at), (0, 1), hex(at))
        self.assert_clean('a')
        self.assert_settled()
        self.assertEqual(self.guest('-l', 'lost+found')[:4096], b'\3' * 4096)
        self.img('snapshot', '-d', 'lost+found', 'a')
        self.assert_clean('a')

    def test_leaked_header_alone(self):
        """Nothing is there to be saved."""
        self.create('a', '-o', 'cluster_size=4k', str(4 * self.SPAN))
        self.io('a', 'write -P 1 0 64k', f'write -P 2 {self.SPAN} 4k')

        def change(q):
            lost = q.l2(1, 0) & OFFSET_MASK
            q.set_l2(1, 0, 0)
            q.set_refcount(lost // q.cluster, 0)
            q.set_refcount(0, 7)
        self.damage(change)
        self.repair()
        self.assertEqual(self.snapshots(), [])
        self.assert_clean('a')
        self.assert_settled()

    def test_raised_refcounts_prove_the_rest(self):
        """An entry behind the end of the disk, about which nothing is certain before
        refcounts are right."""
        self.create('a', '-o', 'cluster_size=64k,refcount_bits=8', '4M')
        self.io('a', 'write -P 1 0 1M')

        def change(q):
            for cluster in range(1, q.size() // q.cluster):
                q.set_refcount(cluster, 0)
            q.set_l2(0, 1000, 1 << 31)
            q.set_refcount((1 << 31) // q.cluster, 1)   # as if it were cut off
        self.damage(change)
        self.repair()
        self.assert_settled()

    # --- the header ---

    def test_leak_behind_a_table(self):
        """A cluster that nobody came to use is a leak, and not a part of the L1
        or the refcount table."""
        for behind in 'l1', 'refcounts':
            with self.subTest(behind):
                self.create('a', '64M')

                def change(q, behind=behind):
                    at = q.size() // q.cluster + 1
                    q.truncate((at + 1) * q.cluster)
                    if behind == 'l1':
                        self.assertEqual(q.l1_offset, 3 * q.cluster)
                        q.set_refcount(4, 1)
                        return
                    q.set_refcount(at, 1)   # where the block is then
                    block = q.reft(0)
                    self.assertEqual(block, q.reft_offset + q.cluster)
                    q.write(at * q.cluster, q.read(block, q.cluster))
                    q.set_reft(0, at * q.cluster)
                    q.write(block, bytes(q.cluster))
                self.damage(change)
                header = self.read_file('a', 0, 512)
                self.img('check', 'a', rc=3)
                self.assertIn('    1 leaked clusters\n', self.repair().stdout)
                self.assert_clean('a')
                self.assertEqual(self.read_file('a', 0, 512), header)

    def test_header_and_image_opts(self):
        """It is not repaired, which is told, and nothing else is, either."""
        for place in 1 << 40, 1 << 40 | 512:
            self.create('a', '64M')
            self.io('a', 'write -P 1 0 64k')
            self.damage(lambda q, at=place: q.set_u64(40, at))
            damaged = self.read_file('a')
            result = self.img('check', '-r', 'all', '--image-opts',
                              'driver=qcow2,file.filename=a', rc=None)
            self.assertIn(result.rc, (1, 2))
            self.assertIn('With --image-opts the header is not repaired',
                          result.stderr)
            self.assertEqual(self.read_file('a'), damaged)
            self.repair()
            self.assert_clean('a')


def put_all(image, writes):
    for offset, data in writes:
        image.extend(bytes(max(0, offset + len(data) - len(image))))
        image[offset:offset + len(data)] = data


if __name__ == '__main__':
    iotests.main()
