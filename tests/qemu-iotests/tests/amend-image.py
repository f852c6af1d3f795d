#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""qemu-img amend on qcow2: what changes, what is refused and then changes
nothing, and that both sides agree about the result."""
import iotests
from iotests.qcow2_bitmaps import Bitmaps

HINT = "This option is only supported for image creation"


class Amend(iotests.TestCase):
    def data(self, image='a'):
        return self.img_json('info', image)['format-specific']['data']

    def amend(self, options, image='a', *args):
        self.img('amend', '-f', 'qcow2', '-o', options, *args, image)
        self.assert_clean(image)

    def refused(self, message, options, image='a', reference=True):
        """By ours, which leaves the file as it was, and by the
        distribution's with the same words."""
        before = self.read_file(image)
        self.img_fails(message, 'amend', '-f', 'qcow2', '-o', options, image)
        self.assertEqual(self.read_file(image), before)
        if reference and iotests.tools.ref_img():
            self.assertRegex(self.ref('amend', '-f', 'qcow2', '-o', options,
                                      image, rc=1).stderr, message)

    def guest(self, image='a', compress='-c '):
        """Data, zeroes and compressed clusters, with two snapshots."""
        self.io(image, 'write -P 1 0 200k', f'write {compress}-P 2 1M 64k')
        self.img('snapshot', '-c', 's1', image)
        self.io(image, 'write -P 3 100k 100k', 'write -P 4 2M 70k')
        self.img('snapshot', '-c', 's2', image)
        self.io(image, 'write -P 5 2M 4k')

    def content(self, image='a'):
        self.img('convert', '-O', 'raw', image, 'content')
        return self.read_file('content')

    def test_versions(self):
        self.create('a', '4M')
        self.guest()
        before = self.content()
        for compat, shown in (('0.10', '0.10'), ('v3', '1.1'), ('v2', '0.10'),
                              ('1.1', '1.1')):
            self.amend(f'compat={compat}')
            self.assertEqual(self.data()['compat'], shown)
            self.assertEqual(self.content(), before)
        self.img('snapshot', '-a', 's1', 'a')
        self.io('a', 'read -P 1 0 200k')
        self.assert_clean('a')

    def test_refcount_bits(self):
        for cluster in (512, 65536):
            self.create('a', '4M', '-o', f'cluster_size={cluster}')
            # One cluster holds the ends of many compressed ones.
            self.guest(compress='')
            before = self.content()
            for bits in (2, 64, 8, 4, 32, 16):
                self.amend(f'refcount_bits={bits}')
                self.assertEqual(self.data()['refcount-bits'], bits)
                self.assertEqual(self.content(), before)
                self.io('a', 'write -P 5 2M 4k', 'write -z 3M 64k',
                        f'discard 0 {cluster}', f'write -P 1 0 {cluster}')
                self.assert_clean('a')
            self.refused('Cannot decrease refcount entry width to 1 bits: '
                         'Cluster at offset 0x[0-9a-f]+ has a refcount of [23]',
                         'refcount_bits=1')

    def test_down_and_up_with_width(self):
        self.create('a', '4M', '-o', 'refcount_bits=64')
        self.refused('compat=0.10 requires refcount_bits=16', 'compat=0.10')
        self.amend('compat=0.10,refcount_bits=16')
        self.refused('Refcount widths other than 16 bits require',
                     'refcount_bits=8')
        self.amend('compat=1.1,refcount_bits=8,lazy_refcounts=on')
        self.assertEqual((self.data()['refcount-bits'],
                          self.data()['lazy-refcounts']), (8, True))

    def zeroes(self, *args):
        self.create('a', '4200k', *args)
        self.io('a', 'write -P 9 0 300k', 'write -z 64k 64k',
                'write -z -u 1M 200k', 'write -z 4M 104k')
        before = self.content()
        self.amend('compat=0.10')
        self.assertEqual(self.content(), before)
        self.assertEqual(self.data()['compat'], '0.10')

    def test_zero_clusters(self):
        self.zeroes()
        self.assertFalse(self.img_json('map', 'a')[1]['present'])

    def test_zero_clusters_backing(self):
        self.img('create', '-q', '-f', 'raw', 'base', '4200k')
        self.io('base', 'write -P 7 0 4200k', fmt='raw')
        self.zeroes('-b', 'base', '-F', 'raw')
        self.io('a', 'read -P 0 1M 200k', 'read -P 7 2M 1M')

    def test_zero_clusters_snapshot(self):
        self.create('a', '4M')
        self.io('a', 'write -z 0 64k')
        self.img('snapshot', '-c', 'snap', 'a')
        self.refused('zero clusters in snapshot snap', 'compat=0.10',
                     reference=False)

    def test_down_would_lose(self):
        self.create('a', '1M')
        self.img('bitmap', '--add', 'a', 'precious')
        self.refused("Cannot downgrade an image with bitmaps\n"
                     "Version 2 cannot keep: 'precious'", 'compat=0.10',
                     reference=False)
        self.create('b', '1M', '-o', 'compression_type=zstd')
        self.refused('Cannot downgrade an image with incompatible features '
                     '0x8 set\n.*compression type', 'compat=0.10', 'b',
                     reference=False)

    def test_down_keeps_bitmaps_of_every_kind(self):
        """Also those that cannot be used: nobody said that they may go."""
        def in_use(b):
            b.write(b.entries()['b'].pos + 15, b'\3')

        def damaged(b):
            b.write(b.ext + 15, b'\1')

        for damage in in_use, damaged, Bitmaps.clear_autoclear:
            with self.subTest(damage.__name__):
                self.create('a', '1M')
                self.img('bitmap', '--add', 'a', 'b')
                with Bitmaps(self.path('a')) as b:
                    damage(b)
                for version in 'v2', '0.10':
                    self.refused('Cannot downgrade an image with bitmaps',
                                 f'compat={version}', reference=False)
                self.img('bitmap', '--remove-all', 'a')
                # What nobody can be told to own leaks.
                self.img('check', '-q', '-r', 'leaks', 'a')
                self.amend('compat=v2')

    def test_lazy_refcounts(self):
        self.create('a', '1M')
        for value in (True, False):
            self.amend(f'lazy_refcounts={"on" if value else "off"}')
            self.assertEqual(self.data()['lazy-refcounts'], value)
        self.amend('compat=0.10')
        self.refused('Lazy refcounts only supported with compatibility level '
                     '1.1 and above', 'lazy_refcounts=on')

    def test_size(self):
        self.create('a', '1M')
        for size in ('3M', '2M', '0'):
            self.amend(f'size={size}')
        self.assertEqual(self.img_json('info', 'a')['virtual-size'], 2 << 20)
        self.refused('The new size must be a multiple of 512', 'size=2000000')
        self.refused('too large|too big|File too large', 'size=99P')
        self.amend('compat=0.10')
        self.img('snapshot', '-c', 's', 'a')
        self.refused("Can't resize a v2 image which has snapshots", 'size=4M')
        self.amend('size=4M,compat=1.1')

    def test_names(self):
        self.img('create', '-q', '-f', 'raw', 'base', '1M')
        self.create('a', '-b', 'base', '-F', 'raw')
        self.amend('backing_file=base,backing_fmt=raw')
        for options in ('backing_file=base', 'backing_fmt=raw',
                        'backing_file=,backing_fmt=raw'):
            self.refused("Cannot amend the backing file\nYou can use "
                         "'qemu-img rebase' instead.", options)

    def test_refused(self):
        self.create('a', '1M')
        for options, message in (
                ('foo=1', "Invalid parameter 'foo'"),
                ('cluster_size=4k', f"parameter 'cluster_size'\n{HINT}"),
                ('preallocation=full', f"parameter 'preallocation'\n{HINT}"),
                ('compat=0.5', 'Unknown compatibility level 0.5'),
                ('refcount_bits=3', 'Refcount width must be a power of two'),
                ('refcount_bits=128', 'Refcount width must be a power of two'),
                ('data_file=x', 'data-file can only be set for images that '
                 'use an external data file'),
                ('data_file_raw=on', 'data-file-raw cannot be set on existing '
                 'images'),
                ('compat=0.10,refcount_bits=8', 'Refcount widths other than')):
            with self.subTest(options):
                self.refused(message, options)

    def test_command_line(self):
        self.create('a', '1M')
        self.img_fails(r'Must specify options \(-o\)', 'amend', 'a')
        self.img_fails('Expecting one image file name', 'amend', '-o',
                       'size=2M')
        self.img_fails("Format driver 'raw' does not support option amendment",
                       'amend', '-f', 'raw', '-o', 'size=2M', 'a')
        self.img_fails('Invalid cache option: x', 'amend', '-t', 'x', '-o',
                       'size=2M', 'a')
        self.assertIn("Amend options for 'qcow2':\n  backing_file=<str>     - "
                      "File name of a base image\n",
                      self.img('amend', '-f', 'qcow2', '-o', 'help').stdout)
        result = self.img('amend', '-p', '-t', 'none', '-o', 'size=2M',
                          '-o', 'refcount_bits=8', '--image-opts',
                          'driver=qcow2,file.filename=a')
        self.assertIn('(100.00/100%)', result.stdout)
        self.assertEqual(self.img('amend', '-q', '-p', '-o', 'size=3M',
                                  'a').stdout, '')


if __name__ == '__main__':
    iotests.main()
