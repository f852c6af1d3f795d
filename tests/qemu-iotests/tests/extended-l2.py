#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""Images with extended L2 entries: what is allocated by subclusters, what a
write copies, what becomes of bitmaps that cannot be, and the distribution's
tool on the same image."""
import itertools
import json

import iotests
from iotests.qcow2_bytes import COMPRESSED, Qcow2Bytes

CLUSTER = 64 << 10
SUB = CLUSTER // 32
SIZE = 1 << 20
DATA = (1 << 32) - 1

STATES = {'unallocated': [], 'data': ['write -P 1 0 256k'],
          'one subcluster': ['write -P 1 66k 2k'],
          'islands': [f'write -P {i + 1} {64 + 6 * i}k 3k' for i in range(20)],
          'zeroes between': ['write -P 1 0 256k', 'write -z 66k 2k',
                             'write -z 80k 20k'],
          'compressed': [f'write -c -P 2 {i * 64}k 64k' for i in range(4)],
          'zero': ['write -z 0 256k'],
          'zero with allocation': ['write -P 1 0 256k', 'write -z 0 256k'],
          'a few zeroes': ['write -z 70k 4k', 'write -z 130k 6k']}
OPERATIONS = ('write -z 64k 64k', 'write -z -u 64k 64k', 'discard 64k 64k',
              'write -z 66k 2k', 'write -z -u 66k 100k', 'discard 70k 100k',
              'write -z 100k 1k', 'write -P 9 100k 1k', 'write -P 9 66k 2k',
              'write -P 9 64k 128k', 'write -P 9 67k 70k',
              'write -P 9 191k 3k')


def allocation(ranges):
    """What qcow2 says of the ranges. Holes that the file has inside data
    clusters are left out."""
    merged = []
    for r in ranges:
        r = {key: r[key] for key in ('start', 'length', 'depth', 'present',
                                     'zero', 'data')}
        r['zero'] = r['zero'] and not r['data']
        last = merged[-1] if merged else None
        if last and all(last[key] == r[key]
                        for key in ('depth', 'present', 'zero', 'data')):
            last['length'] += r['length']
        else:
            merged.append(r)
    return merged


class Base(iotests.TestCase):
    def make(self, name='a', *args, size=SIZE, **options):
        options.setdefault('extended_l2', 'on')
        text = ','.join(f'{k}={v}' for k, v in options.items())
        self.create(name, '-o', text, *args, str(size))

    def make_over(self, **options):
        self.write_file('base', b'\x44' * SIZE)
        self.make('a', '-b', 'base', '-F', 'raw', **options)

    def assert_same_map(self, image='a'):
        ours = self.img_json('map', image)
        for entry in ours:
            entry.pop('compressed', None)
        self.assertEqual(ours, self.ref_json('map', image))

    def bitmap(self, index, image='a'):
        with Qcow2Bytes(self.path(image)) as q:
            return q.l2_bitmap(0, index)


class Images(Base):
    def test_info(self):
        self.make()
        self.assertIs(self.img_json('info', 'a')['format-specific']['data']
                      ['extended-l2'], True)
        self.assertIn('extended l2: true', self.img('info', 'a').stdout)
        self.make(extended_l2='off')
        self.assertIn('extended l2: false', self.img('info', 'a').stdout)

    def test_refused(self):
        for options, message in (
                ('extended_l2=on,cluster_size=8k', 'cluster sizes of at least '
                 '16384 bytes'),
                ('extended_l2=on,compat=0.10', 'compatibility level 1.1'),
                ('backing_file=base,backing_fmt=raw,preallocation=metadata',
                 'only be used at the same time if extended_l2 is on')):
            self.write_file('base', bytes(SIZE))
            self.img_fails(message, 'create', '-f', 'qcow2', '-o', options,
                           'a', '1M')
        self.make()
        self.img_fails("Invalid parameter 'extended_l2'", 'amend', '-o',
                       'extended_l2=off', 'a')
        self.img_fails('Cannot downgrade', 'amend', '-o', 'compat=0.10', 'a')
        self.make(extended_l2='off', cluster_size=4096)
        with Qcow2Bytes(self.path('a')) as q:
            q.set_u64(72, 16)
        self.img_fails('Unsupported subcluster size: 128', 'info', 'a')

    def test_all_operations(self):
        """Ours and the distribution's do the same: content and map agree."""
        self.write_file('base', b'\x44' * (256 << 10))
        combinations = list(itertools.product((False, True), STATES,
                                              OPERATIONS))
        if not iotests.LONG:
            combinations = self.rng().sample(combinations, 20)
        for backing, state, operation in combinations:
            with self.subTest(f'{backing} {state} {operation}'):
                results = []
                for img, io in ((self.img, self.io), (self.ref, self.ref_io)):
                    args = ['-b', 'base', '-F', 'raw'] if backing else []
                    img('create', '-q', '-f', 'qcow2', '-o', 'extended_l2=on',
                        *args, 'a', '256k')
                    io('a', *STATES[state], operation)
                    self.assert_clean('a')
                    self.assert_same_map()
                    self.ref('convert', '-O', 'raw', 'a', 'out')
                    results.append((self.read_file('out'),
                                    allocation(self.ref_json('map', 'a'))))
                self.assertEqual(results[0][0], results[1][0])
                self.assertEqual(results[0][1], results[1][1])

    def test_preallocation(self):
        for mode in ('metadata', 'falloc', 'full'):
            for backing in (False, True):
                with self.subTest(f'{mode} {backing}'):
                    make = self.make_over if backing else self.make
                    make(preallocation=mode)
                    self.assert_clean('a')
                    self.assert_same_map()
                    self.assert_content('a', (b'\x44' if backing else b'\0') *
                                        SIZE)
                    before = len(self.read_file('a'))
                    self.io('a', 'write -P 1 66k 1k', 'read -P 1 66k 1k')
                    # It has its place already.
                    self.assertEqual(len(self.read_file('a')), before)
                    self.assertEqual(self.bitmap(1), 1 << 1)
                    self.assert_clean('a')

    def test_resize(self):
        self.write_file('base', b'\x44' * (2 * SIZE))
        self.create('a', '-o', 'extended_l2=on', '-b', 'base', '-F', 'raw',
                    str(SIZE))
        self.io('a', 'write -P 1 1000k 24k')
        self.img('resize', '-q', '--shrink', 'a', '1001k')
        self.img('resize', '-q', 'a', '1200k')
        # Neither what was there nor the backing file comes back.
        self.io('a', 'read -P 1 1000k 1k', 'read -P 0 1001k 199k')
        self.img('resize', '-q', '--preallocation=metadata', 'a', '1500k')
        self.io('a', 'read -P 0 1001k 499k', 'write -P 2 1300k 1k',
                'read -P 0 1301k 199k')
        self.assert_clean('a')
        self.assert_same_map()

    def test_convert_commit_rebase(self):
        self.make_over()
        self.io('a', 'write -P 1 66k 2k', 'write -z 200k 3k',
                'write -c -P 2 512k 64k')
        expect = self.img('convert', '-O', 'raw', 'a', 'expect')
        expect = self.read_file('expect')
        for args in ([], ['-c'], ['-o', 'preallocation=metadata'],
                     ['-o', 'cluster_size=16k'],
                     ['-o', 'data_file=data,data_file_raw=on']):
            with self.subTest(args):
                options = ['-o', 'extended_l2=on']
                self.img('convert', '-O', 'qcow2', *options, *args, 'a', 'b')
                self.assert_content('b', expect)
                self.assert_clean('b')
                self.assert_same_map('b')
        self.write_file('other', b'\x55' * SIZE)
        self.img('rebase', '-q', '-b', 'other', '-F', 'raw', 'a')
        self.assert_content('a', expect)
        self.assert_clean('a')
        self.img('commit', '-q', 'a')
        self.assertEqual(self.read_file('other'), expect)
        self.assert_content('a', expect)
        self.assert_clean('a')

    def test_compressed_cluster_is_written_to(self):
        self.make()
        self.io('a', 'write -c -P 1 64k 64k', 'write -P 2 70k 1k',
                'read -P 1 64k 6k', 'read -P 2 70k 1k', 'read -P 1 71k 57k',
                'write -c -P 3 128k 64k', 'write -z 130k 100k',
                'read -P 3 128k 2k', 'read -P 0 130k 100k')
        self.assertEqual(self.bitmap(1), DATA)
        self.assert_clean('a')
        # Over subclusters, which go with the cluster.
        self.io('a', 'write -P 4 256k 4k', 'write -c -P 5 256k 64k',
                'read -P 5 256k 64k')
        self.assertEqual(self.bitmap(4), 0)
        self.assert_clean('a')

    def test_snapshots(self):
        self.make_over()
        self.io('a', 'write -P 1 66k 2k', 'write -P 2 90k 2k',
                'write -z 96k 2k')
        self.img('snapshot', '-c', 'one', 'a')
        self.img('convert', '-O', 'raw', 'a', 'before')
        self.io('a', 'write -P 3 70k 2k', 'write -z -u 66k 2k',
                'write -z -u 0 512k')
        self.assert_clean('a')
        self.ref('convert', '-l', 'one', '-O', 'raw', 'a', 'seen')
        self.assertEqual(self.read_file('seen'), self.read_file('before'))
        self.img('snapshot', '-a', 'one', 'a')
        self.assert_content('a', self.read_file('before'))
        self.img('snapshot', '-d', 'one', 'a')
        self.assert_clean('a')
        self.assert_content('a', self.read_file('before'))
        self.assert_same_map()

    def test_other_features(self):
        self.make(cluster_size='16k', data_file='data')
        self.io('a', 'write -P 1 0 512', 'write -P 2 100k 3k',
                'write -z 101k 1k')
        self.assertEqual(self.read_file('data', 0, 512), b'\1' * 512)
        self.assert_clean('a')
        self.assert_same_map()
        self.make('b', lazy_refcounts='on', refcount_bits=64)
        self.img('bitmap', '--add', 'b', 'bm')
        self.io('b', 'write -P 1 100k 2k')
        self.img('resize', '-q', 'b', '2M')
        self.img('amend', '-o', 'refcount_bits=8', 'b')
        self.assert_clean('b')

    def test_measure(self):
        self.make_over()
        self.io('a', 'write -P 1 66k 2k')
        for options in ('extended_l2=on', 'extended_l2=on,cluster_size=16k',
                        'extended_l2=on,cluster_size=2M'):
            for args in (['--size', '1T'], ['-f', 'qcow2', 'a']):
                command = ['-O', 'qcow2', '-o', options, *args]
                self.assertEqual(self.img('measure', *command).stdout,
                                 self.ref('measure', *command).stdout)


class CopiedBytes(Base):
    """A write copies no more than the subclusters that it touches."""

    def image(self, readable):
        """The image with a backing file of whose sectors 128 to 255 (guest
        cluster 1) only these can be read."""
        errors = [{'event': 'none', 'sector': s, 'iotype': 'read',
                   'once': False} for s in range(128, 256)
                  if s not in readable]
        return 'json:' + json.dumps({
            'driver': 'qcow2', 'file': {'driver': 'file', 'filename': 'a'},
            'backing': {'driver': 'raw', 'file': {
                'driver': 'blkdebug', 'inject-error': errors,
                'image': {'driver': 'file', 'filename': 'base'}}}})

    def host(self, index):
        """What the file has at the host cluster of a guest cluster."""
        with Qcow2Bytes(self.path('a')) as q:
            at = q.l2(0, index) & 0x00fffffffffffe00
            return q.read(at, CLUSTER).ljust(CLUSTER, b'\0')

    def test_control(self):
        """Reading another sector does fail."""
        self.make_over()
        self.io_fails('failed', self.image(range(132, 136)),
                      'read 68k 512', fmt=None)

    def test_over_backing_file(self):
        self.make_over()
        # 2 KiB of 64: subclusters 1 and 2.
        self.io(self.image(range(132, 140)), 'write -P 1 67k 2k', fmt=None)
        self.assertEqual(self.bitmap(1), 3 << 1)
        host = self.host(1)
        self.assertEqual(host[:SUB], bytes(SUB))
        self.assertEqual(host[SUB:3 * SUB], b'\x44' * 1024 + b'\1' * 2048 +
                         b'\x44' * 1024)
        self.assertEqual(host[3 * SUB:], bytes(CLUSTER - 3 * SUB))
        # A whole subcluster needs nothing from below.
        self.io(self.image([]), 'write -P 2 80k 2k', fmt=None)
        self.assertEqual(self.bitmap(1), 3 << 1 | 1 << 8)
        self.io('a', 'read -P 0x44 64k 3k', 'read -P 1 67k 2k',
                'read -P 0x44 69k 11k', 'read -P 2 80k 2k',
                'read -P 0x44 82k 46k')
        self.assert_clean('a')

    def test_shared_cluster(self):
        """What a snapshot has, too, is copied from its first to its last
        subcluster of data."""
        self.make_over()
        self.io('a', 'write -P 1 72k 2k')
        self.img('snapshot', '-c', 's', 'a')
        # Subcluster 4 has data, 6 is written, 5 lies between them.
        self.io(self.image(range(148, 152)), 'write -P 2 76k 2k', fmt=None)
        self.assertEqual(self.bitmap(1), 7 << 4)
        self.io('a', 'read -P 0x44 64k 8k', 'read -P 1 72k 2k',
                'read -P 0x44 74k 2k', 'read -P 2 76k 2k',
                'read -P 0x44 78k 50k')
        self.assert_clean('a')


class Damaged(Base):
    def damaged(self, index, entry, bitmap):
        """entry, bitmap: functions of the old ones."""
        self.make()
        self.io('a', 'write -P 1 0 64k', 'write -c -P 2 64k 64k',
                'write -P 3 128k 2k')
        with Qcow2Bytes(self.path('a')) as q:
            q.set_l2(0, index, entry(q.l2(0, index)))
            q.set_l2_bitmap(0, index, bitmap(q.l2_bitmap(0, index)))

    def test_impossible_bitmaps(self):
        for index, bitmap, text in (
                (0, lambda b: b | 1 << 32, 'Allocated cluster has corrupted '
                                           'subcluster allocation bitmap'),
                (0, lambda b: b | 1 << 63, 'Allocated cluster has corrupted'),
                (3, lambda b: 1, 'Unallocated cluster has non-zero subcluster '
                                 'allocation map')):
            with self.subTest(text):
                self.damaged(index, lambda e: e, bitmap)
                before = self.read_file('a')
                self.assertIn(text, self.img('check', 'a', rc=2).stderr +
                              self.img('check', 'a', rc=2).stdout)
                self.ref('check', 'a', rc=2)
                for command in ('read', 'write', 'write -z', 'write -z -u'):
                    self.write_file('a', before)
                    self.io_fails('Input/output error', 'a',
                                  f'{command} {index * 64}k 2k')
                # Others are fine, and nobody guesses.
                self.write_file('a', before)
                self.io('a', 'read -P 3 128k 2k', options=['-r'])
                self.check_rescue(index, 62 if bitmap(0) >> 63 else 0)
                self.write_file('a', before)
                self.img('check', '-r', 'all', '--orphans=keep', 'a', rc=2)
                self.assertEqual(self.bitmap(index), bitmap(
                    DATA if index == 0 else 0))
                # Whatever it was, it can be replaced.
                self.io('a', f'discard {index * 64}k 64k',
                        f'read -P 0 {index * 64}k 64k')
                self.img('check', 'a')

    def check_rescue(self, index, kib):
        """Zeroes where there are contradictions, and what may be data saved."""
        result = self.img('check', '-r', 'all', 'a')
        self.assertIn('DATA WAS LOST', result.stdout + result.stderr)
        self.assert_clean('a')
        self.io('a', f'read -P 0 {index * 64 + kib}k 2k', 'read -P 2 64k 64k',
                'read -P 3 128k 2k')
        if index == 0:
            self.img('convert', '-O', 'raw', '-l', 'lost+found', 'a', 'out')
            self.assertEqual(self.read_file('out'), b'\1' * CLUSTER)

    def test_salvage(self):
        """What may be data is copied, and called suspect; data without a
        place are lost."""
        self.damaged(0, lambda e: e, lambda b: b | 1 << 40)
        with Qcow2Bytes(self.path('a')) as q:
            q.set_l2_bitmap(0, 3, 1)
        self.img('convert', '--salvage', '--salvage-report', 'report', '-O',
                 'raw', 'a', 'out', rc=2)
        out = self.read_file('out')
        self.assertEqual(out[:130 << 10], b'\1' * CLUSTER + b'\2' * CLUSTER +
                         b'\3' * 2048)
        report = json.loads(self.read_file('report'))
        for kind, start, cause in (
                ('suspect', 0, 'subclusters of an L2 entry contradict each '
                 'other'),
                ('lost', 3 * CLUSTER, 'L2 entry has subclusters with data but '
                 'no cluster')):
            self.assertEqual([(r['start'], r['length'], r['cause'])
                              for r in report[kind]],
                             [(start, CLUSTER, cause)])

    def test_bitmap_of_a_compressed_cluster(self):
        for bitmap in (1, 1 << 35, (1 << 64) - 1):
            with self.subTest(hex(bitmap)):
                self.damaged(1, lambda e: e, lambda b: bitmap)
                result = self.img('check', 'a', rc=2)
                self.assertIn('compressed cluster 1 with non-zero subcluster '
                              'allocation bitmap',
                              result.stdout + result.stderr)
                self.io('a', 'read -P 2 64k 64k')
                self.img('check', '-r', 'all', 'a')
                self.assertEqual(self.bitmap(1), 0)
                self.io('a', 'read -P 2 64k 64k')
                self.assert_clean('a')

    def test_data_that_became_compressed(self):
        """One wrong bit: what tells of it is not repaired away."""
        self.damaged(0, lambda e: e | 1 << 62, lambda b: b)
        with Qcow2Bytes(self.path('a')) as q:
            damaged = q.l2(0, 0), q.l2_bitmap(0, 0)
        self.img('check', '-r', 'all', 'a')
        with Qcow2Bytes(self.path('a')) as q:
            self.assertEqual(q.l2(0, 0), damaged[0] ^ 1 << 62)
            self.assertEqual(q.l2_bitmap(0, 0), damaged[1])
        self.io('a', 'read -P 1 0 64k')
        self.assert_clean('a')

    def test_offset_without_data(self):
        """An unaligned host cluster that holds nothing is aligned again."""
        self.damaged(2, lambda e: e + 512, lambda b: 2 << 32)
        with Qcow2Bytes(self.path('a')) as q:
            damaged = q.l2(0, 2)
        self.img('check', '-r', 'all', 'a')
        with Qcow2Bytes(self.path('a')) as q:
            self.assertEqual(q.l2(0, 2), damaged - 512)
        self.assertEqual(self.bitmap(2), 2 << 32)
        self.assert_clean('a')

    def test_zero_flag_means_nothing(self):
        self.damaged(2, lambda e: e | 1, lambda b: b)
        self.io('a', 'read -P 3 128k 2k', 'read -P 0 130k 62k')
        self.assert_clean('a')
        with Qcow2Bytes(self.path('a')) as q:
            self.assertFalse(q.l2(0, 2) & COMPRESSED)


if __name__ == '__main__':
    iotests.main()
