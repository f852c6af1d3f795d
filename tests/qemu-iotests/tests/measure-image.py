#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw qcow2
"""measure: no image needs more than it says, and it says what the
distribution's tool says."""
import os

import iotests


class Measure(iotests.TestCase):
    OPTIONS = ('', 'cluster_size=512', 'cluster_size=2M', 'refcount_bits=1',
               'refcount_bits=64', 'compat=0.10', 'preallocation=metadata')

    def test_sizes_as_reference(self):
        for size in ('0', '1', '512', '1M', '1G', '7T'):
            for options in self.OPTIONS:
                with self.subTest(f'{size} {options}'):
                    args = ['measure', '-O', 'qcow2', '--size', size]
                    args += ['-o', options] if options else []
                    ours = self.img(*args, rc=None)
                    ref = self.ref(*args, rc=None)
                    self.assertEqual((ours.rc, ours.stdout),
                                     (ref.rc, ref.stdout))

    def test_image(self):
        self.create('a', '64M')
        self.io('a', 'write 0 1M', 'write 10M 3M', 'write -z 20M 1M')
        for options in self.OPTIONS:
            with self.subTest(options):
                args = ['-O', 'qcow2'] + (['-o', options] if options else [])
                ours = self.img_json('measure', '-f', self.fmt, *args, 'a')
                self.assertEqual(ours, self.ref_json('measure', '-f', self.fmt,
                                                     *args, 'a'))
                self.img('convert', '-f', self.fmt, *args, 'a', 'b')
                self.assertLessEqual(os.stat(self.path('b')).st_blocks * 512,
                                     ours['required'] + 4096)
                self.io('b', 'write 0 64M', fmt='qcow2')
                # A refcount table that grew leaves its old place behind.
                self.assertLessEqual(os.stat(self.path('b')).st_size,
                                     ours['fully-allocated'] + 65536)

    def test_human(self):
        self.assertRegex(self.img('measure', '--size', '1M').stdout,
                         r'^required size: 1048576\n'
                         r'fully allocated size: 1048576\n$')

    def test_usage(self):
        self.create('a', '1M')
        for message, args in (
                ('Either --size N or one filename', []),
                ('cannot be used together', ['--size', '1', 'a']),
                ('At most one filename', ['a', 'a']),
                ('require a filename', ['-f', 'raw', '--size', '1']),
                ("Invalid parameter 'no'", ['-o', 'no=1', 'a']),
                ("Unknown file format 'no'", ['-O', 'no', 'a'])):
            with self.subTest(args):
                self.img_fails(message, 'measure', *args)
        self.assertIn('cluster_size', self.img('measure', '-O', 'qcow2', '-o',
                                               'help').stdout)


if __name__ == '__main__':
    iotests.main()
