#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw qcow2
"""compare: what it prints and the exit status for each outcome."""
import time

import iotests


class Compare(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '1M')
        self.create('b', '1M')

    def compare(self, *args, rc):
        result = self.img('compare', '-f', self.fmt, '-F', self.fmt, *args,
                          rc=rc)
        return result.stdout

    def test_same(self):
        self.assertEqual(self.compare('a', 'b', rc=0),
                         'Images are identical.\n')

    def test_written_zeroes_equal_holes(self):
        self.io('a', 'write -P 0 0 256k')
        self.assertEqual(self.compare('a', 'b', rc=0),
                         'Images are identical.\n')

    def test_strict_sees_allocation(self):
        self.io('a', 'write -P 0 0 64k')
        self.assertRegex(self.compare('-s', 'a', 'b', rc=1),
                         r'^Strict mode: Offset \d+ block status mismatch!\n$')

    def test_first_difference(self):
        self.io('a', 'write -P 1 300000 1', 'write -P 1 500000 1')
        offset = self.compare('a', 'b', rc=1)
        self.assertRegex(offset, r'^Content mismatch at offset \d+!\n$')
        at = int(offset.split()[4].rstrip('!'))
        self.assertLessEqual(at, 300000)
        self.assertGreater(at, 300000 - 65536)

    def test_longer_with_zeroes(self):
        self.create('c', '2M')
        self.assertEqual(self.compare('a', 'c', rc=0),
                         'Warning: Image size mismatch!\n'
                         'Images are identical.\n')
        self.assertEqual(self.compare('c', 'a', rc=0),
                         'Warning: Image size mismatch!\n'
                         'Images are identical.\n')
        self.assertEqual(self.compare('-s', 'a', 'c', rc=1),
                         'Strict mode: Image size mismatch!\n')

    def test_longer_with_data(self):
        self.create('c', '2M')
        self.io('c', 'write -P 1 1536k 512')
        for pair in (('a', 'c'), ('c', 'a')):
            out = self.compare(*pair, rc=1)
            self.assertIn('Content mismatch at offset 1572864!', out)

    def test_rate(self):
        self.create('a', '2M')
        self.create('b', '2M')
        for name in 'ab':
            self.io(name, 'write -P 1 0 2M')
        start = time.monotonic()
        self.img('compare', '-f', self.fmt, '-F', self.fmt, '-r', '2M', 'a',
                 'b')
        self.img('compare', '-f', self.fmt, '-F', self.fmt, 'a', 'b')
        self.assertGreater(time.monotonic() - start, 0.5)
        self.img_fails('rate limit', 'compare', '-r', '1x', 'a', 'b', rc=2)

    def test_quiet(self):
        self.io('a', 'write -P 1 0 512')
        self.assertEqual(self.compare('-q', 'a', 'b', rc=1), '')

    def test_missing_image(self):
        self.compare('a', 'none', rc=2)
        self.compare('none', 'a', rc=2)

    def test_usage(self):
        self.compare('a', rc=1)
        self.compare('a', 'b', 'b', rc=1)
        self.img('compare', '-f', 'nope', 'a', 'b', rc=2)

    def test_read_error(self):
        bad = ('driver=blkdebug,image.driver=file,image.filename=a,'
               'inject-error.0.event=none,inject-error.0.iotype=read,'
               'inject-error.0.errno=5')
        self.io('b', 'write -P 1 0 1M')
        self.io('a', 'write -P 1 0 1M')
        image = f'driver={self.fmt},file.{bad.replace(",", ",file.")}'
        other = f'driver={self.fmt},file.driver=file,file.filename=b'
        result = self.img('compare', '--image-opts', image, other, rc=None)
        self.assertIn(result.rc, (2, 3, 4), result.describe())
        if self.fmt == 'raw':
            self.assertEqual(result.rc, 4, result.describe())


if __name__ == '__main__':
    iotests.main()
