#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick convert salvage
# formats: qcow2
"""convert --salvage: every fault costs the range that it describes, and is
listed with that range; everything else is recovered bit for bit."""
import json
import os

import iotests
from iotests.qcow2_bytes import COMPRESSED, COPIED, Qcow2Bytes

CLUSTER = 65536
MIB = 1 << 20
# What is asked for, and read, at a time: DEFAULT_CHUNK of the copy engine.
CHUNK = 768 << 10
SIZE = 4 * MIB
EXIT_LOST = 2


class SalvageCase(iotests.TestCase):
    def setUp(self):
        super().setUp()
        rng = self.rng()
        self.data = rng.randbytes(SIZE)

    def make(self, *args, raw='raw'):
        self.write_file(raw, self.data)
        self.img('convert', '-f', 'raw', '-O', 'qcow2', *args, raw, 'a')

    def damage(self, change):
        with Qcow2Bytes(self.path('a')) as q:
            change(q)
        self.before = self.read_file('a')

    def salvage(self, *args, rc=EXIT_LOST, source='a', opts=('-f', 'qcow2')):
        result = self.img('convert', '--salvage', '--salvage-report', 'report',
                          *opts, '-O', 'raw', *args, source, 'out', rc=rc)
        self.assertRegex(result.stderr, r'salvage: \d+ bytes lost in \d+ range')
        if hasattr(self, 'before'):
            self.assertEqual(self.read_file('a'), self.before,
                             'the source was written to')
        self.report = json.loads(self.read_file('report'))
        return result

    def ranges(self, kind='lost'):
        return [(r['start'], r['length']) for r in self.report[kind]]

    def assert_lost(self, *ranges, cause='.', data=None):
        """Exactly these (start, length) are lost, in one entry each; the rest
        is as it was."""
        self.assertEqual(self.ranges(), list(ranges))
        for r in self.report['lost']:
            self.assertRegex(r['cause'], cause)
        self.assertEqual(self.report['totals']['lost'],
                         sum(n for _, n in ranges))
        self.assert_recovered(data or self.data)

    def assert_recovered(self, data, lost=None):
        expected = bytearray(data)
        for start, n in self.ranges() if lost is None else lost:
            expected[start:start + n] = bytes(n)
        found = self.read_file('out')
        self.assertEqual(len(found), len(expected))
        for at in range(0, len(found), 512):
            self.assertEqual(found[at:at + 512], expected[at:at + 512],
                             f'at {at}')


class Reads(SalvageCase):
    def blkdebug(self, *sectors, image='raw', driver='raw', once='off'):
        rules = ''.join(
            f',file.inject-error.{i}.event=none'
            f',file.inject-error.{i}.sector={s}'
            f',file.inject-error.{i}.once={once}'
            for i, s in enumerate(sectors))
        return (f'driver={driver},file.driver=blkdebug'
                f',file.image.filename={image}{rules}')

    def salvage_raw(self, *sectors, rc=EXIT_LOST, args=(), once='off'):
        self.write_file('raw', self.data)
        return self.salvage(*args, rc=rc, opts=('--image-opts',),
                            source=self.blkdebug(*sectors, once=once))

    def test_one_bad_sector(self):
        result = self.salvage_raw(2048)
        self.assert_lost((MIB, 512), cause='Input/output error')
        self.assertEqual(self.report['lost'][0]['host-offset'], MIB)
        self.assertEqual(result.stderr.count('warning: '), 1)

    def test_quiet_still_sums_up(self):
        result = self.salvage_raw(2048, args=['-q'])
        self.assertEqual(result.stderr.count('\n'), 1)
        self.assertIn('512 bytes lost in 1 range', result.stderr)

    def test_neighbours_are_one_range(self):
        result = self.salvage_raw(100, 101, 102, 5000)
        self.assert_lost((51200, 1536), (2560000, 512))
        self.assertEqual(result.stderr.count('warning: '), 2)

    def test_an_error_that_goes_away(self):
        self.salvage_raw(2048, rc=0, once='on')
        self.assert_lost()

    def test_retries(self):
        """The first read, halves down to 512 bytes, and then the retries."""
        for retries, rc in (('0', EXIT_LOST), ('1', 0)):
            halves = (CHUNK // 512 - 1).bit_length() + 1
            self.write_file('raw', self.data)
            rules = ''.join(
                f',file.inject-error.{i}.event=none'
                f',file.inject-error.{i}.sector=0'
                f',file.inject-error.{i}.once=on' for i in range(halves))
            self.salvage('--salvage-retries', retries, rc=rc,
                         opts=('--image-opts', '-m', '1'),
                         source='driver=raw,file.driver=blkdebug'
                                f',file.image.filename=raw{rules}')
            if rc:
                self.assert_lost((0, 512))
            else:
                self.assert_lost()

    def test_options_need_salvage(self):
        self.write_file('raw', self.data)
        for option in ('--salvage-report=x', '--salvage-retries=2'):
            self.img_fails('require --salvage', 'convert', option, 'raw', 'out')
        self.img_fails('number of retries', 'convert', '--salvage',
                       '--salvage-retries', 'many', 'raw', 'out')

    def test_report_cannot_be_written(self):
        self.write_file('raw', self.data)
        self.img_fails('Could not write the report', 'convert', '--salvage',
                       '--salvage-report', 'none/x', '-f', 'raw', 'raw', 'out')

    def test_several_sources(self):
        self.write_file('raw', self.data)
        self.write_file('first', bytes(SIZE))
        self.img('convert', '--salvage', '--salvage-report', 'report',
                 '--image-opts', '-O', 'raw', 'driver=raw,file.filename=first',
                 self.blkdebug(8), 'out', rc=EXIT_LOST)
        self.report = json.loads(self.read_file('report'))
        self.assertEqual(self.ranges(), [(4096, 512)])
        self.assertEqual(self.report['totals']['length'], 2 * SIZE)
        self.assert_recovered(bytes(SIZE) + self.data, [(SIZE + 4096, 512)])

    def test_status_error(self):
        """It can be read all the same."""
        self.write_file('raw', self.data)
        self.salvage(rc=0, opts=('--image-opts',), source=(
            'driver=raw,file.driver=blkdebug,file.image.filename=raw'
            ',file.inject-error.0.event=none'
            ',file.inject-error.0.iotype=block-status'))
        self.assert_lost()
        self.assertEqual(self.report['totals']['status-errors'],
                         -(-SIZE // CHUNK))

    def test_lost_ranges_hide_the_backing_file(self):
        self.write_file('raw', self.data)
        self.write_file('base', b'\xee' * SIZE)
        self.img('convert', '--salvage', '-O', 'qcow2', '-B', 'base', '-F',
                 'raw', '--image-opts', self.blkdebug(2048, 2049), 'out',
                 rc=EXIT_LOST)
        self.data = (self.data[:MIB] + bytes(1024) + self.data[MIB + 1024:])
        self.assert_content('out', self.data)


class Tables(SalvageCase):
    def test_undamaged(self):
        self.make()
        self.damage(lambda q: None)
        result = self.salvage(rc=0)
        self.assert_lost()
        self.assertEqual(self.report['suspect'], [])
        self.assertEqual(self.report['notes'], [])
        self.assertEqual(result.stderr.count('\n'), 1)

    def test_l1_entry(self):
        """One line for 512 MiB."""
        self.img('create', '-q', '-f', 'qcow2', 'a', '2G')
        self.io('a', 'write -P 1 0 64k', 'write -P 2 512M 64k',
                'write -P 3 1G 64k', 'write -P 4 1600M 64k')
        self.damage(lambda q: q.set_l1(1, q.l1(1) + 512))
        result = self.salvage()
        self.assertEqual(self.ranges(), [(512 * MIB, 512 * MIB)])
        self.assertEqual(result.stderr.count('warning: '), 1)
        self.assertLess(len(result.stderr), 500)
        for pattern, at in ((1, 0), (0, 512 << 20), (3, 1 << 30),
                            (4, 1600 << 20)):
            self.io('out', f'read -P {pattern} {at} 64k', fmt='raw')

    def test_bad_tables_do_not_stop_good_ones(self):
        """Each table after the first bad one is still read."""
        self.img('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', 'a',
                 '1M')
        self.data = self.data[:MIB]
        self.write_file('raw', self.data)
        self.img('convert', '-n', '-f', 'raw', '-O', 'qcow2', 'raw', 'a')
        span = 64 * 512

        def change(q):
            for i in range(0, 32, 2):
                q.set_l1(i, q.l1(i) | 1 << 50)
        self.damage(change)
        self.salvage()
        self.assert_lost(*[(i * span, span) for i in range(0, 32, 2)],
                         cause='beyond the end')

    def test_overwritten_table(self):
        """Random bytes, and bytes of an unrelated file."""
        rng = self.rng()
        for garbage in (rng.randbytes(CLUSTER), b'Hello world. ' * 6000):
            self.make()
            self.damage(lambda q: q.write(q.l2_offset(0), garbage[:CLUSTER]))
            result = self.salvage()
            self.assert_lost((0, SIZE), cause='makes no sense')
            self.assertEqual(result.stderr.count('warning: lost'), 1)

    def test_overwritten_sector_of_a_table(self):
        """A sector is 64 entries; of 1024 clusters the second 64 are lost."""
        self.make('-o', 'cluster_size=4k')
        rng = self.rng()
        self.damage(lambda q: q.write(q.l2_offset(0) + 512,
                                      rng.randbytes(512)))
        self.salvage()
        self.assert_lost((64 * 4096, 64 * 4096), cause='makes no sense')

    def test_unreadable_sector_of_a_table(self):
        self.make('-o', 'cluster_size=4k')
        with Qcow2Bytes(self.path('a')) as q:
            sector = q.l2_offset(1) // 512 + 3
        self.salvage(opts=('--image-opts',), source=(
            'driver=qcow2,file.driver=blkdebug,file.image.filename=a'
            ',file.inject-error.0.event=none'
            f',file.inject-error.0.sector={sector}'))
        self.assert_lost((2 * MIB + 3 * 64 * 4096, 64 * 4096),
                         cause='L2 table cannot be read')

    def test_entries(self):
        self.make()
        length = os.path.getsize(self.path('a'))

        def change(q):
            q.set_l2(0, 1, q.l2(0, 1) | 512)
            q.set_l2(0, 7, (length + 10 * CLUSTER) // CLUSTER * CLUSTER)
            q.set_l2(0, 8, (1 << 55) | COPIED)
        self.damage(change)
        self.salvage()
        self.assert_lost((CLUSTER, CLUSTER), (7 * CLUSTER, CLUSTER),
                         (8 * CLUSTER, CLUSTER),
                         cause='aligned|beyond the end')
        self.assertEqual(self.report['suspect'], [])

    def test_reserved_bits_are_suspect_only(self):
        self.make()
        self.damage(lambda q: q.set_l2(0, 5, q.l2(0, 5) | 1 << 57))
        self.salvage()
        self.assert_lost()
        self.assertEqual(self.ranges('suspect'), [(5 * CLUSTER, CLUSTER)])

    def test_overlap_lists_both_sides(self):
        self.make()
        self.damage(lambda q: q.set_l2(0, 5, q.l2(0, 9)))
        self.salvage()
        self.assertEqual(self.report['lost'], [])
        self.assertEqual(self.ranges('suspect'), [(5 * CLUSTER, CLUSTER),
                                                  (9 * CLUSTER, CLUSTER)])
        self.assertRegex(self.report['suspect'][0]['cause'], 'used twice')
        found = self.read_file('out')
        self.assertEqual(found[9 * CLUSTER:10 * CLUSTER],
                         self.data[9 * CLUSTER:10 * CLUSTER])

    def test_overlap_with_metadata(self):
        self.make()
        self.damage(lambda q: q.set_l2(0, 5, q.l1_offset | COPIED))
        self.salvage()
        self.assertEqual(self.ranges('suspect'), [(5 * CLUSTER, CLUSTER)])

    def test_free_cluster(self):
        self.make()
        self.damage(lambda q: q.set_refcount(q.l2(0, 3) % COPIED // CLUSTER, 0))
        self.salvage()
        self.assertEqual(self.ranges('suspect'), [(3 * CLUSTER, CLUSTER)])
        self.assert_lost()

    def compressible(self):
        rng = self.rng()
        return b''.join(rng.randbytes(CLUSTER // 4) + bytes(3 * CLUSTER // 4)
                        for i in range(SIZE // CLUSTER))

    def test_compressed_cluster(self):
        for kind in ('zlib', 'zstd'):
            self.data = self.compressible()
            self.make('-c', '-o', f'compression_type={kind}')

            def change(q):
                host = q.l2(0, 20) & ((1 << 54) - 1)
                q.write(host + 3, b'\xff' * 20)
                q.set_l2(0, 40, COMPRESSED | 1 << 50)
            self.damage(change)
            self.salvage()
            self.assert_lost((20 * CLUSTER, CLUSTER), (40 * CLUSTER, CLUSTER),
                             cause='compressed cluster')

    def test_unreadable_compressed_cluster(self):
        self.data = self.compressible()
        self.make('-c')
        with Qcow2Bytes(self.path('a')) as q:
            sector = (q.l2(0, 20) & ((1 << 54) - 1)) // 512 + 4
        self.salvage(opts=('--image-opts',), source=(
            'driver=qcow2,file.driver=blkdebug,file.image.filename=a'
            ',file.inject-error.0.event=none'
            f',file.inject-error.0.sector={sector}'))
        self.assert_lost((20 * CLUSTER, CLUSTER), cause='compressed cluster')

    def test_truncated(self):
        self.make()
        with Qcow2Bytes(self.path('a')) as q:
            host = q.l2(0, 50) % COPIED
        self.damage(lambda q: q.truncate(host))
        self.salvage()
        self.assert_lost((50 * CLUSTER, 14 * CLUSTER), cause='beyond the end')

    def test_truncated_inside_a_cluster(self):
        self.make()
        with Qcow2Bytes(self.path('a')) as q:
            host = q.l2(0, 50) % COPIED
        self.damage(lambda q: q.truncate(host + 1024))
        self.salvage()
        self.assertEqual(self.ranges(), [(51 * CLUSTER, 13 * CLUSTER)])
        self.assertEqual(self.ranges('suspect'), [(50 * CLUSTER, CLUSTER)])

    def test_refcounts_and_snapshots_are_not_needed(self):
        self.make()
        self.img('snapshot', '-c', 's', 'a')
        rng = self.rng()

        def change(q):
            q.write(q.snap_offset, b'\xff' * 200)
            q.write(q.reft_offset, rng.randbytes(CLUSTER))
        self.damage(change)
        self.img('convert', '-O', 'raw', 'a', 'out', rc=1)
        self.salvage(rc=None)
        self.assert_lost()

    def test_snapshot_of_a_damaged_disk(self):
        self.make()
        self.img('snapshot', '-c', 's', 'a')
        self.io('a', 'write -P 5 0 1M')

        def change(q):
            q.set_l1(0, q.l1(0) | 512)
        self.damage(change)
        self.salvage('-l', 's', rc=0)
        self.assert_lost()


class Header(SalvageCase):
    """Broken fields that can be derived, or are not needed for reading."""

    def check(self, note, change, **kwargs):
        self.make()
        self.damage(change)
        self.img_fails('.', 'convert', '-f', 'qcow2', '-O', 'raw', 'a', 'out')
        self.salvage(rc=None, **kwargs)
        self.assert_lost()
        self.assertRegex('\n'.join(self.report['notes']), note)

    def test_refcount_table(self):
        self.check('refcount table', lambda q: q.set_u64(48, 12345))

    def test_refcount_order(self):
        self.check('refcount table', lambda q: q.set_u32(96, 77))

    def test_snapshot_table(self):
        def change(q):
            q.set_u32(60, 1)
            q.set_u64(64, 99)
        self.check('snapshot table', change)

    def test_l1_offset(self):
        self.check('L1 table .*found one at',
                   lambda q: q.set_u64(40, q.l1_offset + 512))

    def test_l1_offset_beyond_the_end(self):
        self.check('L1 table .*found one at',
                   lambda q: q.set_u64(40, 1 << 50))

    def test_l1_size(self):
        self.check("L1 table's size 0", lambda q: q.set_u32(36, 0))
        self.check("L1 table's size", lambda q: q.set_u32(36, 1 << 31))

    def test_cluster_size(self):
        self.check('cluster size', lambda q: q.set_u32(20, 60))

    def test_header_length(self):
        self.check('header length', lambda q: q.set_u32(100, 3))

    def test_version(self):
        self.check('version', lambda q: q.set_u32(4, 9))

    def test_magic(self):
        self.check('magic', lambda q: q.set_u32(0, 9))

    def test_compression_type(self):
        self.check('compression type', lambda q: q.write(104, b'\x09'))

    def test_unknown_feature(self):
        self.check('features', lambda q: q.set_u64(72, 1 << 40))

    def test_encryption(self):
        self.check('encryption', lambda q: q.set_u32(32, 1 << 20))

    def test_encryption_that_has_a_header(self):
        secret = ('--object', 'secret,id=s,data=abc')
        self.make(*secret, '-o', 'encrypt.format=luks,encrypt.key-secret=s,'
                                 'encrypt.iter-time=10')
        self.damage(lambda q: q.set_u32(32, 0x20000002))
        result = self.salvage(
            *secret, '--image-opts', rc=None, opts=(),
            source='driver=qcow2,encrypt.key-secret=s,file.filename=a')
        self.assertIn('taken for LUKS', result.stderr)
        self.assertEqual(result.rc, 0, result.describe())
        self.assert_lost()

    def test_header_extension(self):
        self.check('extension', lambda q: q.write(112, b'\x11' * 8))

    def test_size_of_the_disk(self):
        self.make()
        self.damage(lambda q: q.set_u64(24, 1 << 63))
        self.salvage(rc=None)
        self.assertEqual(self.report['lost'], [])
        self.assertEqual(self.read_file('out')[:SIZE], self.data)

    def test_everything_is_lost(self):
        self.img('create', '-q', '-f', 'qcow2', 'a', '4M')
        self.damage(lambda q: q.set_u64(40, 1 << 50))
        result = self.salvage()
        self.assert_lost((0, SIZE), data=bytes(SIZE))
        self.assertEqual(result.stderr.count('warning: lost'), 1)


class Backing(SalvageCase):
    def setUp(self):
        super().setUp()
        self.write_file('raw', self.data)
        self.img('convert', '-O', 'qcow2', '-f', 'raw', 'raw', 'base')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2',
                 'a')
        self.io('a', 'write -P 7 1M 1M')
        self.data = self.data[:MIB] + b'\7' * MIB + self.data[2 * MIB:]

    def test_missing(self):
        os.unlink(self.path('base'))
        self.img_fails('.', 'convert', '-O', 'raw', 'a', 'out')
        self.salvage()
        self.assert_lost((0, MIB), (2 * MIB, 2 * MIB), cause='backing file')
        self.assertRegex(self.report['notes'][0], 'base')

    def test_damaged(self):
        """What the overlay hides of it is not lost."""
        with Qcow2Bytes(self.path('base')) as q:
            for i in (3, 20, 40):
                q.set_l2(0, i, q.l2(0, i) | 512)
            q.set_l2(0, 21, q.l2(0, 50))
        self.salvage()
        self.assert_lost((3 * CLUSTER, CLUSTER), (40 * CLUSTER, CLUSTER))
        self.assertEqual(self.ranges('suspect'), [(50 * CLUSTER, CLUSTER)])
        self.assertRegex(self.report['lost'][0]['image'], 'base')

    def test_lost_in_the_overlay_is_not_what_the_backing_file_has(self):
        self.damage(lambda q: q.set_l2(0, 17, q.l2(0, 17) | 512))
        self.img('convert', '--salvage', '-O', 'qcow2', '-B', 'base', '-F',
                 'qcow2', 'a', 'out', rc=EXIT_LOST)
        self.data = (self.data[:17 * CLUSTER] + bytes(CLUSTER)
                     + self.data[18 * CLUSTER:])
        self.assert_content('out', self.data)


if __name__ == '__main__':
    iotests.main()
