#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""A new qcow2 image is the same file, byte for byte, as the distribution's
makes, prints the same line, and refuses the same options in the same words."""
import itertools
import os

import iotests

CREATE = ('create', '-f', 'qcow2')


class CreateBytes(iotests.TestCase):
    def both(self, *args, name='a'):
        """Runs both; the names of the files that ours and the reference
        made."""
        ours = self.img(*CREATE, *args, rc=None)
        if os.path.exists(self.path(name)):
            os.rename(self.path(name), self.path('ours'))
        ref = self.ref(*CREATE, *args, rc=None)
        if os.path.exists(self.path(name)):
            os.rename(self.path(name), self.path('ref'))
        self.assertEqual(ours.rc, ref.rc, ours.describe())
        self.assertEqual(ours.stdout, ref.stdout)
        return ours, ref

    def assert_same_bytes(self, *args):
        self.both(*args)
        ours, ref = self.read_file('ours'), self.read_file('ref')
        if ours != ref:
            at = next((i for i, (a, b) in enumerate(zip(ours, ref))
                       if a != b), min(len(ours), len(ref)))
            self.fail(f'{args}: files differ at {at}, lengths {len(ours)} '
                      f'and {len(ref)}')

    def test_every_geometry(self):
        for cluster, bits, compat in itertools.product(
                ('512', '1k', '4k', '8k', '64k', '2M'),
                (1, 2, 8, 16, 64), ('0.10', '1.1')):
            if compat == '0.10' and bits != 16:
                continue
            opts = (f'cluster_size={cluster},refcount_bits={bits},'
                    f'compat={compat}')
            for size in ('0', '1000', '700k', '1M'):
                with self.subTest(opts=opts, size=size):
                    self.assert_same_bytes('-o', opts, 'a', size)

    def test_backing(self):
        self.ref('create', '-q', '-f', 'qcow2', 'base', '1G')
        self.write_file('odd.raw', b'x' * 12345)
        for cluster, (base, fmt), compat in itertools.product(
                ('512', '4k', '64k'), (('base', 'qcow2'), ('odd.raw', 'raw')),
                ('v2', 'v3')):
            with self.subTest((cluster, base, compat)):
                self.assert_same_bytes(
                    '-b', base, '-F', fmt, '-o',
                    f'cluster_size={cluster},compat={compat}', 'a', '2M')
        self.assert_same_bytes('-b', 'base', '-F', 'qcow2', 'a')
        self.assert_same_bytes('-b', 'odd.raw', '-F', 'raw', 'a')
        self.assert_same_bytes('-u', '-b', 'not,there', '-F', 'raw', 'a', '1M')
        name = 'json:{"driver":"qcow2","file":{"driver":"file",' \
               '"filename":"base"}}'
        self.assert_same_bytes('-b', name, '-F', 'qcow2', 'a')

    def test_flags(self):
        self.assert_same_bytes('-o', 'lazy_refcounts=on', 'a', '1M')
        self.assert_same_bytes('-o', 'lazy_refcounts=yes', 'a', '1M')
        self.assert_same_bytes('-o', 'lazy_refcounts', 'a', '1M')
        self.assert_same_bytes('-o', 'nolazy_refcounts', 'a', '1M')
        self.assert_same_bytes('-o', 'compression_type=zstd', 'a', '1M')
        self.assert_same_bytes('-o', 'extended_l2=off', 'a', '1M')
        self.assert_same_bytes('-o', 'extended_l2=on', 'a', '10G')
        self.assert_same_bytes('-o', 'extended_l2=on,cluster_size=16k', 'a',
                               '1000M')
        self.assert_same_bytes('-o', 'nocow=on,extent_size_hint=0', 'a', '1M')
        self.assert_same_bytes('-o', 'size=1M,size=2M', 'a')

    def test_names(self):
        for name in ('we ird,x', 'file:a', 'ü'):
            with self.subTest(name):
                self.both(name, '1M', name=name.split(':')[-1])

    def test_preallocated_images_are_accepted(self):
        for mode, cluster in itertools.product(('metadata', 'falloc', 'full'),
                                               ('512', '64k', '2M')):
            with self.subTest((mode, cluster)):
                self.both('-o', f'preallocation={mode},cluster_size={cluster}',
                          'a', '9M')
                ours = self.ref_json('check', 'ours')
                ref = self.ref_json('check', 'ref')
                for key in ('allocated-clusters', 'total-clusters'):
                    self.assertEqual(ours[key], ref[key])
                ours = self.ref_json('map', 'ours')
                ref = self.ref_json('map', 'ref')
                for r in ours + ref:
                    r.pop('offset', None)
                self.assertEqual(sum(r['length'] for r in ours),
                                 sum(r['length'] for r in ref))
                self.assertTrue(all(r['present'] for r in ours))

    def test_refusals(self):
        self.ref('create', '-q', '-f', 'qcow2', 'base', '1G')
        for args in (
                ('a',), ('-o', 'size=5M', 'a', '1M'),
                ('-o', 'cluster_size=512', 'a', '1T'),
                ('-o', 'cluster_size=1000', 'a', '1M'),
                ('-o', 'cluster_size=4M', 'a', '1M'),
                ('-o', 'cluster_size=256', 'a', '1M'),
                ('-o', 'cluster_size=0', 'a', '1M'),
                ('-o', 'cluster_size=abc', 'a', '1M'),
                ('-o', 'cluster_size=-1', 'a', '1M'),
                ('-o', 'cluster_size', 'a', '1M'),
                ('-o', 'refcount_bits=3', 'a', '1M'),
                ('-o', 'refcount_bits=0', 'a', '1M'),
                ('-o', 'refcount_bits=128', 'a', '1M'),
                ('-o', 'refcount_bits=abc', 'a', '1M'),
                ('-o', 'refcount_bits=8,compat=0.10', 'a', '1M'),
                ('-o', 'lazy_refcounts=on,compat=v2', 'a', '1M'),
                ('-o', 'lazy_refcounts=maybe', 'a', '1M'),
                ('-o', 'compression_type=zstd,compat=v2', 'a', '1M'),
                ('-o', 'preallocation=metadata', '-b', 'base', '-F', 'qcow2',
                 'a'),
                ('-o', 'preallocation=foo', 'a', '1M'),
                ('-o', 'nosuch=1', 'a', '1M'),
                ('-o', 'backing_fmt=qcow2', 'a', '1M'),
                ('-b', 'nosuch', '-F', 'qcow2', 'a', '1M'),
                ('-b', 'nosuch', '-F', 'qcow2', '-u', 'a'),
                ('-b', 'nosuch', '-u', 'a', '1M'),
                ('-b', 'a', '-F', 'qcow2', 'a', '1M'),
                ('-b', '', '-F', 'qcow2', 'a', '1M'),
                ('nosuch/a', '1M')):
            with self.subTest(args):
                ours, ref = self.both(*args)
                self.assertEqual(ours.rc, 1)
                self.assertEqual(ours.stderr, ref.stderr)
                self.assertFalse(os.path.exists(self.path('ours')))

    def test_format_of_backing_is_wanted(self):
        self.ref('create', '-q', '-f', 'qcow2', 'base', '1G')
        ours, _ = self.both('-b', 'base', 'a')
        self.assertEqual(ours.stderr, "qemu-img: a: Backing file specified "
                         "without backing format\nDetected format of qcow2.\n")

    def test_an_image_in_use_is_not_replaced(self):
        self.ref('create', '-q', '-f', 'qcow2', 'a', '1G')
        before = self.read_file('a')
        self.io_process('-f', 'qcow2', self.path('a'))
        for fmt in ('raw', 'qcow2'):
            ours = self.img('create', '-f', fmt, 'a', '1M', rc=1)
            self.assertIn('Failed to get "write" lock', ours.stderr)
            self.assertEqual(self.read_file('a'), before)
        # As a backing file it may be looked at.
        self.img(*CREATE, '-b', 'a', '-F', 'qcow2', 'b')

    def test_raw(self):
        for args in (('a', '1M'), ('-o', 'nocow=on', 'a', '1M'),
                     ('-o', 'preallocation=full', 'a', '1M'),
                     ('-o', 'preallocation=metadata', 'a', '1M'),
                     ('-o', 'cluster_size=1', 'a', '1M'),
                     ('-b', 'x', '-F', 'raw', 'a')):
            with self.subTest(args):
                ours = self.img('create', '-f', 'raw', *args, rc=None)
                ref = self.ref('create', '-f', 'raw', *args, rc=None)
                self.assertEqual((ours.rc, ours.stdout),
                                 (ref.rc, ref.stdout))

    def test_help(self):
        for args in (('-f', 'raw', '-o', 'help', 'x'),
                     ('-f', 'raw', '-o', 'help')):
            self.assertEqual(self.img('create', *args).stdout,
                             self.ref('create', *args).stdout)


if __name__ == '__main__':
    iotests.main()
