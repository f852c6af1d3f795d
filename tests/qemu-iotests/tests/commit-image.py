#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""commit: the base holds what the image showed, the image is empty and shows
the same, and whatever goes wrong in between can be done again."""
import os

import iotests
from iotests import LONG
from iotests.faults import ENOSPC, EIO, nth_fault, run_and_kill

MIB = 1 << 20


class Commit(iotests.TestCase):
    def content(self, image, fmt='qcow2'):
        self.img('convert', '-f', fmt, '-O', 'raw', image, 'content.tmp')
        data = self.read_file('content.tmp')
        os.unlink(self.path('content.tmp'))
        return data

    def scribble(self, image, size, rng, fmt='qcow2', count=12):
        commands = []
        for _ in range(count):
            offset = rng.randrange(size) & ~511
            length = min(rng.choice((512, 4096, 65536, 300000, MIB)),
                         size - offset) & ~511
            if length:
                commands.append(rng.choice((
                    f'write -q -P {rng.randint(1, 255)} {offset} {length}',
                    f'write -q -P {rng.randint(1, 255)} {offset} {length}',
                    f'write -q -P 0 {offset} {length}',
                    f'write -q -z {offset} {length}',
                    f'discard -q {offset} {length}')))
        self.io(image, *commands, fmt=fmt)

    def chain(self, base_fmt='qcow2', size='8M', top_size='8M', rng=None):
        """base <- mid <- top, all written to."""
        rng = rng or self.rng()
        self.img('create', '-q', '-f', base_fmt, 'base', size)
        self.img('create', '-q', '-f', 'qcow2', '-o',
                 f'cluster_size={rng.choice(("512", "4k", "64k"))}', '-b',
                 'base', '-F', base_fmt, 'mid', size)
        self.img('create', '-q', '-f', 'qcow2', '-o',
                 f'cluster_size={rng.choice(("4k", "64k", "1M"))}', '-b',
                 'mid', '-F', 'qcow2', 'top', top_size)
        self.scribble('base', 8 * MIB, rng, base_fmt)
        self.scribble('mid', 8 * MIB, rng)
        self.scribble('top', min(8, int(top_size[:-1])) * MIB, rng)

    def is_empty(self, image):
        return all(r['depth'] > 0 or not r['present']
                   for r in self.img_json('map', image))

    def test_random_chains(self):
        rng = self.rng()
        for i in range(40 if LONG else 5):
            base_fmt = rng.choice(('raw', 'qcow2'))
            args = rng.choice((['top'], ['-d', 'top'], ['-b', 'base', 'top'],
                               ['-b', 'mid', 'top']))
            sizes = rng.choice((('8M', '8M'), ('8M', '9M')))
            with self.subTest(f'{i} {base_fmt} {args} {sizes}'):
                self.chain(base_fmt, *sizes, rng=rng)
                before = self.content('top')
                self.assertEqual(self.img('commit', *args).stdout,
                                 'Image committed.\n')
                into = 'base' if 'base' in args else 'mid'
                fmt = base_fmt if into == 'base' else 'qcow2'
                self.assertEqual(self.content('top'), before)
                self.assertEqual(self.content(into, fmt), before)
                if args == ['top']:
                    self.assertTrue(self.is_empty('top'))
                for image in ('top', 'mid'):
                    self.assert_clean(image)
                    os.unlink(self.path(image))
                os.unlink(self.path('base'))

    def test_output(self):
        self.chain()
        self.assertEqual(self.img('commit', '-q', '-p', 'top').stdout, '')
        out = self.img('commit', '-p', 'mid').stdout
        self.assertRegex(out, r'^    \(0\.00/100%\)\r(    \([\d.]+/100%\)\r)*'
                         r'    \(100\.00/100%\)\r\nImage committed\.\n$')
        self.img_fails('Image does not have a backing file', 'commit', 'base')
        self.img_fails("Did not find 'none' in the backing chain of 'top'",
                       'commit', '-b', 'none', 'top')
        self.img_fails("Did not find 'top' in the backing chain of 'top'",
                       'commit', '-b', 'top', 'top')

    def test_base_by_path(self):
        for name in ('base', './base', self.path('base')):
            self.chain()
            before = self.content('top')
            self.img('commit', '-b', name, 'top')
            self.assertEqual(self.content('base'), before)

    def test_shorter_image(self):
        """What is behind the end of the image stays in the base."""
        self.chain(top_size='3M')
        before, top = self.content('mid'), self.content('top')
        self.img('commit', 'top')
        self.assertEqual(self.content('mid'), top + before[len(top):])

    def test_zeroes_do_not_fill_the_base(self):
        """A short overlay between makes zeroes of everything behind it; they
        are in the base already."""
        self.img('create', '-q', '-f', 'raw', 'base', '8M')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw',
                 'mid')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'mid', '-F', 'qcow2',
                 'top', '256M')
        self.img('commit', '-b', 'base', 'top')
        self.assertEqual(os.stat(self.path('base')).st_size, 256 * MIB)
        self.assertLess(os.stat(self.path('base')).st_blocks, 64)

    def test_zeroes_become_holes(self):
        """Zero clusters, and data that is zero, give back the base's space."""
        self.write_file('base', b'\x55' * (16 * MIB))
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw',
                 'top')
        self.io('top', 'write -z 0 4M', 'write -P 0 8M 4M')
        self.img('commit', 'top')
        self.assertLessEqual(os.stat(self.path('base')).st_blocks * 512,
                             8 * MIB + 65536)
        self.assertEqual(self.content('base', 'raw'),
                         (bytes(4 * MIB) + b'\x55' * (4 * MIB)) * 2)

    def test_zeroes_within_large_clusters(self):
        """A zeroed part of a cluster that is not allocated stays so."""
        self.img('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=2M',
                 'base', '8M')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2',
                 'top')
        self.io('top', 'write -z 1M 1M')
        self.img('commit', 'top')
        self.assertFalse(any(r['data'] for r in self.img_json('map', 'base')))

    def test_snapshots_stay(self):
        self.chain()
        self.ref('snapshot', '-c', 's', 'top')
        before = self.content('top')
        self.img('commit', 'top')
        self.assertTrue(self.is_empty('top'))
        self.assert_clean('top')
        self.io('top', 'write -P 1 0 8M')
        self.ref('snapshot', '-a', 's', 'top')
        self.assertEqual(self.content('top'), before)

    # --- faults ---

    def check_repeatable(self, before):
        """After a failure: nothing is lost, and it works the second time."""
        self.assertEqual(self.content('top'), before)
        for image in ('mid', 'top'):
            self.assertIn(self.img('check', image, rc=None).rc, (0, 3))
            self.assertIn(self.ref('check', image, rc=None).rc, (0, 3))
        self.img('commit', 'top')
        self.assertEqual(self.content('top'), before)
        self.assertEqual(self.content('mid'), before)
        self.assertTrue(self.is_empty('top'))

    def fails_at(self, options):
        """Commits with a fault; whether it struck."""
        result = self.img('commit', '--image-opts', options, rc=None)
        self.assertIn(result.rc, (0, 1), result.describe())
        if result.rc:
            self.assertNotIn('committed', result.stdout)
            self.assertRegex(result.stderr, 'Input/output error|No space left')
        return result.rc == 1

    def test_base_fails(self):
        struck = 0
        for n in range(1, 40, 1 if LONG else 6):
            with self.subTest(n):
                self.chain()
                before = self.content('top')
                struck += self.fails_at(
                    'driver=qcow2,file.driver=file,file.filename=top,'
                    'backing.driver=qcow2,' +
                    nth_fault('mid', n, 'backing.file.',
                              errno=ENOSPC if n & 2 else EIO))
                self.check_repeatable(before)
        self.assertGreater(struck, 0)

    def test_image_fails(self):
        struck = 0
        for n in range(1, 12, 1 if LONG else 2):
            with self.subTest(n):
                self.chain()
                before = self.content('top')
                struck += self.fails_at('driver=qcow2,' + nth_fault('top', n))
                self.check_repeatable(before)
        self.assertGreater(struck, 0)

    def test_flush_fails(self):
        """The image is not emptied before its data is safe in the base."""
        self.chain()
        before = self.content('top')
        self.assertTrue(self.fails_at(
            'driver=qcow2,file.driver=file,file.filename=top,'
            'backing.driver=qcow2,backing.file.driver=blkdebug,'
            'backing.file.image.driver=file,backing.file.image.filename=mid,'
            'backing.file.inject-error.0.event=none,'
            'backing.file.inject-error.0.iotype=flush'))
        self.assertFalse(self.is_empty('top'))
        self.check_repeatable(before)

    def test_killed(self):
        rng = self.rng()
        killed = 0
        for i in range(20 if LONG else 3):
            with self.subTest(i):
                self.chain()
                before = self.content('top')
                killed += run_and_kill(['commit', '-r', '4M', 'top'], self.dir,
                                       rng.random() * .3)
                self.wait_unlocked('top')
                self.wait_unlocked('mid')
                self.check_repeatable(before)
        self.assertGreater(killed, 0)


if __name__ == '__main__':
    iotests.main()
