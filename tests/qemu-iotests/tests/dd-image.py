#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw qcow2
"""dd: the part that bs, skip and count say, as dd(1) counts, and no half-made
target."""
import os
import subprocess

import iotests


class Dd(iotests.TestCase):
    SIZE = 3 << 20

    def setUp(self):
        super().setUp()
        rng = self.rng()
        self.data = (rng.randbytes(1 << 20) + bytes(1 << 20) +
                     rng.randbytes(1 << 20))
        self.write_file('data', self.data)
        self.img('convert', '-f', 'raw', '-O', self.fmt, 'data', 'in')

    def dd(self, *operands, **kwargs):
        return self.img('dd', '-f', self.fmt, '-O', self.fmt, 'if=in',
                        'of=out', *operands, **kwargs)

    def test_as_dd(self):
        for operands in ([], ['bs=64k'], ['bs=1M', 'count=1'],
                         ['bs=1M', 'skip=1'], ['bs=1000', 'count=7'],
                         ['bs=1000', 'skip=3', 'count=7'], ['skip=1'],
                         ['bs=7', 'skip=300001'], ['bs=3M', 'count=1'],
                         ['count=0'], ['bs=1M', 'skip=3'],
                         ['bs=1M', 'skip=2', 'count=100']):
            with self.subTest(operands):
                self.dd(*operands)
                expect = subprocess.run(['dd', 'if=data', 'status=none',
                                         *operands], cwd=self.dir, check=True,
                                        stdout=subprocess.PIPE).stdout
                # Disks are whole sectors long.
                expect += bytes(-len(expect) % 512)
                self.assert_content('out', expect)
                self.assert_clean('out')

    def test_zeroes_take_no_space(self):
        self.dd('bs=1M', 'skip=1', 'count=1')
        self.assertLess(os.stat(self.path('out')).st_blocks * 512, 512 << 10)

    def test_behind_the_end(self):
        result = self.dd('bs=1M', 'skip=4')
        self.assertEqual(result.stderr,
                         'qemu-img: in: cannot skip to specified offset\n')
        self.assert_content('out', b'')

    def test_refused(self):
        for message, args in (
                ('both input and output', ['if=in']),
                ('both input and output', ['of=out']),
                ('unrecognized operand foo', ['if=in', 'of=out', 'foo=1']),
                ('unrecognized operand seek', ['if=in', 'of=out', 'seek=1']),
                ('Invalid bs', ['if=in', 'of=out', 'bs=0']),
                ('Invalid count', ['if=in', 'of=out', 'count=-1']),
                ("Unknown file format 'no'", ['-O', 'no', 'if=in', 'of=out']),
                ('No such file', ['if=none', 'of=out'])):
            with self.subTest(args):
                self.img_fails(message, 'dd', *args)
                self.assertFalse(os.path.exists(self.path('out')))

    def test_own_target(self):
        before = self.read_file('in')
        self.img_fails('is not written', 'dd', '-f', self.fmt, '-O', self.fmt, 'if=in',
                       'of=in')
        self.assertEqual(self.read_file('in'), before)

    def test_read_fails(self):
        self.img_fails('error while reading', 'dd', '--image-opts', 'if=driver='
                       f'{self.fmt},file.driver=blkdebug,file.image.driver='
                       'file,file.image.filename=in,file.inject-error.0.event='
                       'none,file.inject-error.0.iotype=read,file.inject-error'
                       '.0.sector=4200', 'of=out', 'skip=1')
        self.assertFalse(os.path.exists(self.path('out')))


if __name__ == '__main__':
    iotests.main()
