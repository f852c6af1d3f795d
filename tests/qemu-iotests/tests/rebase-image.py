#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""rebase: the image shows the same above another backing file, takes no more
than it must, and is valid at every moment."""
import os
import time

import iotests
from iotests import LONG
from iotests.faults import ENOSPC, EIO, nth_fault, run_and_kill

MIB = 1 << 20


class Rebase(iotests.TestCase):
    def content(self, image, fmt='qcow2'):
        self.img('convert', '-f', fmt, '-O', 'raw', image, 'content.tmp')
        data = self.read_file('content.tmp')
        os.unlink(self.path('content.tmp'))
        return data

    def scribble(self, image, size, rng, fmt='qcow2', values=(1, 2, 3)):
        commands = []
        for _ in range(16):
            offset = rng.randrange(size) & ~4095
            length = min(rng.choice((4096, 65536, 300 << 10, MIB)),
                         size - offset)
            commands.append(rng.choice((
                f'write -q -P {rng.choice(values)} {offset} {length}',
                f'write -q -P {rng.choice(values)} {offset} {length}',
                f'write -q -P 0 {offset} {length}',
                f'write -q -z {offset} {length}')))
        self.io(image, *commands, fmt=fmt)

    def images(self, rng=None, top_size='8M', other_size='8M',
               other_fmt='qcow2', compat='1.1'):
        """base <- mid <- top, and other, which is like base in part."""
        rng = rng or self.rng()
        cluster = rng.choice(('512', '4k', '64k', '1M'))
        self.img('create', '-q', '-f', 'qcow2', 'base', '8M')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2',
                 'mid', '8M')
        self.img('create', '-q', '-f', 'qcow2', '-o',
                 f'cluster_size={cluster},compat={compat}', '-b', 'mid', '-F',
                 'qcow2', 'top', top_size)
        self.img('create', '-q', '-f', other_fmt, 'other', other_size)
        for image, fmt, size in (('base', 'qcow2', '8M'),
                                 ('mid', 'qcow2', '8M'),
                                 ('other', other_fmt, other_size),
                                 ('top', 'qcow2', top_size)):
            size = min(int(size[:-1]), 8) * MIB
            self.scribble(image, size, rng, fmt)

    def backing(self, image='top'):
        info = self.img_json('info', image)
        return info.get('backing-filename'), info.get('backing-filename-format')

    def data_clusters(self, image='top'):
        """Bytes that the image holds itself."""
        return sum(r['length'] for r in self.img_json('map', image)
                   if r['depth'] == 0 and r['present'])

    def test_random(self):
        rng = self.rng()
        for i in range(60 if LONG else 8):
            sizes = rng.choice(({}, {'top_size': '9M'}, {'top_size': '4M'},
                                {'other_size': '4M'}, {'other_size': '12M'}))
            fmt = rng.choice(('raw', 'qcow2'))
            compat = rng.choice(('0.10', '1.1'))
            new = rng.choice((('other', fmt), ('other', fmt),
                              ('base', 'qcow2'), ('mid', 'qcow2'), ('', fmt)))
            with self.subTest(f'{i} {sizes} {compat} {new}'):
                self.images(rng, other_fmt=fmt, compat=compat, **sizes)
                before = self.content('top')
                out = self.img('rebase', '-b', new[0], '-F', new[1], 'top')
                self.assertEqual(out.stdout + out.stderr, '')
                self.assertEqual(self.backing(),
                                 new if new[0] else (None, None))
                self.assertEqual(self.content('top'), before)
                self.ref('convert', '-O', 'raw', 'top', 'out')
                self.assertEqual(self.read_file('out'), before)
                self.assert_clean('top')

    def test_takes_no_more_than_it_must(self):
        for new, fmt in (('same', 'raw'), ('mid', 'qcow2')):
            self.images()
            self.img('convert', '-O', 'raw', 'mid', 'same')
            before = self.data_clusters()
            self.img('rebase', '-b', new, '-F', fmt, 'top')
            self.assertEqual(self.data_clusters(), before)

    def test_no_more_than_the_distribution(self):
        """The number of clusters that the image has in the end."""
        rng = self.rng()
        for new in ('other', 'base', ''):
            self.images(rng)
            saved = self.read_file('top')
            self.img('rebase', '-b', new, '-F', 'qcow2', 'top')
            ours = self.data_clusters()
            self.write_file('top', saved)
            self.ref('rebase', '-b', new, '-F', 'qcow2', 'top')
            self.assertLessEqual(ours, self.data_clusters())

    def test_same_file_as_another_format(self):
        """A file of the old chain under another format is another disk."""
        self.images()
        before = self.content('top')
        self.img('rebase', '-b', 'mid', '-F', 'raw', 'top')
        self.assertEqual(self.content('top'), before)
        self.assertEqual(self.backing(), ('mid', 'raw'))

    def test_unsafe(self):
        self.images()
        clusters = self.data_clusters()
        self.img('rebase', '-u', '-b', 'nowhere', '-F', 'raw', 'top')
        self.assertEqual(self.backing(), ('nowhere', 'raw'))
        self.img('rebase', '-u', '-b', 'mid', '-F', 'qcow2', 'top')
        self.assertEqual(self.data_clusters(), clusters)
        self.img('rebase', '-u', '-b', '', 'top')
        self.assertEqual(self.backing(), (None, None))

    def test_compress(self):
        self.img('create', '-q', '-f', 'qcow2', 'mid', '1M')
        self.io('mid', 'write -q -P 1 0 512k', fmt='qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'mid', '-F', 'qcow2',
                 'top')
        self.io('top', 'write -q -P 2 64k 64k', fmt='qcow2')
        before = self.content('top')
        self.img('rebase', '-c', '-b', '', 'top')
        self.assertEqual(self.content('top'), before)
        self.assert_clean('top')
        self.assertEqual(self.img_json('check', 'top')['compressed-clusters'],
                         7)

    def test_relative_name(self):
        """The name is relative to the image, not to where we are."""
        os.mkdir(self.path('sub'))
        self.images()
        for name in ('top', 'other'):
            os.rename(self.path(name), self.path(f'sub/{name}'))
        self.img('rebase', '-u', '-b', '../mid', '-F', 'qcow2', 'sub/top')
        before = self.content('sub/top')
        self.img('rebase', '-b', 'other', '-F', 'qcow2', 'sub/top')
        self.assertEqual(self.content('sub/top'), before)
        self.assertEqual(self.backing('sub/top'), ('other', 'qcow2'))

    def test_refused(self):
        self.images()
        before = self.read_file('top')
        for message, args in (
                ('backing format must be specified', ['-b', 'other']),
                ('backing format must be specified', ['-u', '-b', 'other']),
                ("Invalid format name: 'no'", ['-b', 'other', '-F', 'no']),
                ('No such file', ['-b', 'none', '-F', 'raw']),
                ('lock', ['-b', 'top', '-F', 'qcow2']),
                ('Must specify backing file', []),
                ('--compress', ['-c', '-u', '-b', 'other', '-F', 'qcow2']),
                ('No space left in the file header|Invalid argument',
                 ['-u', '-b', 'x' * 1100, '-F', 'raw'])):
            with self.subTest(args):
                self.img_fails(message, 'rebase', *args, 'top')
                self.assertEqual(self.read_file('top'), before)
        self.img('create', '-q', '-f', 'raw', 'r', '1M')
        self.img_fails('Operation not supported', 'rebase', '-f', 'raw', '-b',
                       'other', '-F', 'qcow2', 'r')

    def test_internal_snapshots(self):
        """Their content would change, so only unsafe mode goes on."""
        self.images()
        self.ref('snapshot', '-c', 's', 'top')
        self.img_fails('internal snapshots', 'rebase', '-b', 'other', '-F',
                       'qcow2', 'top')
        self.assertEqual(self.backing(), ('mid', 'qcow2'))
        self.img('rebase', '-u', '-b', 'mid', '-F', 'qcow2', 'top')

    def test_rate_and_workers(self):
        self.img('create', '-q', '-f', 'raw', 'old', '4M')
        self.io('old', 'write -P 5 0 4M', fmt='raw')
        for more in (['-m', '1'], ['-m', '16', '-r', '2M']):
            self.img('create', '-q', '-f', 'qcow2', '-b', 'old', '-F', 'raw',
                     'top')
            start = time.monotonic()
            self.img('rebase', *more, '-b', '', 'top')
            spent = time.monotonic() - start
            self.assertTrue('-r' not in more or spent > 0.5, spent)
            self.assert_same('old', 'top', 'raw', 'qcow2')
        self.img_fails('coroutines', 'rebase', '-m', '17', '-b', '', 'top')
        self.img_fails('rate limit', 'rebase', '-r', 'x', '-b', '', 'top')

    def test_progress(self):
        self.images()
        out = self.img('rebase', '-p', '-b', 'other', '-F', 'qcow2', 'top')
        self.assertRegex(out.stdout, r'^    \(0\.00/100%\)\r'
                         r'(    \([\d.]+/100%\)\r)*    \(100\.00/100%\)\r\n$')

    # --- faults ---

    def check_repeatable(self, before):
        self.assertEqual(self.content('top'), before)
        self.assertIn(self.img('check', 'top', rc=None).rc, (0, 3))
        self.assertIn(self.ref('check', 'top', rc=None).rc, (0, 3))
        self.img('rebase', '-b', 'other', '-F', 'qcow2', 'top')
        self.assertEqual(self.content('top'), before)

    def test_write_fails(self):
        struck = 0
        for n in range(1, 24, 1 if LONG else 3):
            with self.subTest(n):
                self.images()
                before = self.content('top')
                result = self.img(
                    'rebase', '-b', 'other', '-F', 'qcow2', '--image-opts',
                    'driver=qcow2,' +
                    nth_fault('top', n, errno=ENOSPC if n & 1 else EIO),
                    rc=None)
                self.assertIn(result.rc, (0, 1))
                struck += result.rc
                self.check_repeatable(before)
        self.assertGreater(struck, 1)

    def test_read_fails(self):
        """An unreadable new backing file leaves the header as it was."""
        self.images()
        self.create('top', '-b', 'mid', '-F', 'qcow2')
        for image in ('mid', 'other'):
            self.io(image, 'write -P 7 1M 1M')
        before = self.content('top')
        bad = ('json:{"driver":"qcow2","file":{"driver":"blkdebug","image":'
               f'{{"driver":"file","filename":"{self.path("other")}"}},'
               '"inject-error":[{"event":"read_aio"}]}}')
        self.img_fails('Input/output error', 'rebase', '-b', bad, '-F',
                       'qcow2', 'top')
        self.assertEqual(self.backing(), ('mid', 'qcow2'))
        self.check_repeatable(before)

    def test_killed(self):
        rng = self.rng()
        for i in range(40 if LONG else 5):
            with self.subTest(i):
                self.images(rng)
                before = self.content('top')
                run_and_kill(['rebase', '-b', 'other', '-F', 'qcow2', 'top'],
                             self.dir, rng.random() * .02)
                self.wait_unlocked('top')
                self.check_repeatable(before)


if __name__ == '__main__':
    iotests.main()
