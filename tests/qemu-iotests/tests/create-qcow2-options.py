#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""What -o says is what the image has, and what a reader of it sees."""
import itertools

import iotests


class CreateQcow2Options(iotests.TestCase):
    def specific(self, *options, size='64M'):
        args = [a for o in options for a in ('-o', o)]
        self.create('a', *args, size)
        self.assert_clean('a')
        info = self.img_json('info', 'a')
        return info, info['format-specific']['data']

    def test_defaults(self):
        info, data = self.specific()
        self.assertEqual(info['format'], 'qcow2')
        self.assertEqual(info['cluster-size'], 65536)
        self.assertEqual(data['compat'], '1.1')
        self.assertEqual(data['refcount-bits'], 16)
        self.assertEqual(data['compression-type'], 'zlib')
        self.assertIs(data['lazy-refcounts'], False)
        self.assertIs(data['corrupt'], False)

    def test_every_cluster_size(self):
        for bits in range(9, 22):
            with self.subTest(1 << bits):
                info, _ = self.specific(f'cluster_size={1 << bits}')
                self.assertEqual(info['cluster-size'], 1 << bits)

    def test_every_refcount_width(self):
        for bits in (1, 2, 4, 8, 16, 32, 64):
            with self.subTest(bits):
                _, data = self.specific(f'refcount_bits={bits}')
                self.assertEqual(data['refcount-bits'], bits)

    def test_versions(self):
        for name, compat in (('0.10', '0.10'), ('v2', '0.10'),
                             ('1.1', '1.1'), ('v3', '1.1')):
            with self.subTest(name):
                _, data = self.specific(f'compat={name}')
                self.assertEqual(data['compat'], compat)

    def test_lazy_refcounts_and_zstd(self):
        _, data = self.specific('lazy_refcounts=on', 'compression_type=zstd')
        self.assertIs(data['lazy-refcounts'], True)
        self.assertEqual(data['compression-type'], 'zstd')

    def test_options_in_one_list(self):
        info, data = self.specific('cluster_size=4k,refcount_bits=8')
        self.assertEqual(info['cluster-size'], 4096)
        self.assertEqual(data['refcount-bits'], 8)

    def test_preallocation(self):
        for mode, cluster in itertools.product(
                ('metadata', 'falloc', 'full'), ('4k', '64k', '2M')):
            with self.subTest(f'{mode} {cluster}'):
                self.specific(f'preallocation={mode},cluster_size={cluster}',
                              size='6M')
                ranges = self.img_json('map', 'a')
                self.assertTrue(all(r['present'] for r in ranges), ranges)
                if mode == 'full':
                    size = self.img_json('info', 'a')['actual-size']
                    self.assertGreaterEqual(size, 6 << 20)
                self.assert_content('a', bytes(6 << 20))

    def test_what_does_not_go_together(self):
        for options, message in (
                ('compat=0.10,refcount_bits=8', '[Rr]efcount'),
                ('compat=0.10,lazy_refcounts=on', '[Ll]azy refcounts'),
                ('compat=0.10,compression_type=zstd', '[Cc]ompression type'),
                ('cluster_size=300', '[Cc]luster size'),
                ('cluster_size=256', '[Cc]luster size'),
                ('cluster_size=4M', '[Cc]luster size'),
                ('refcount_bits=3', '[Rr]efcount'),
                ('refcount_bits=128', '[Rr]efcount'),
                ('refcount_bits=0', '[Rr]efcount')):
            with self.subTest(options):
                self.img_fails(message, 'create', '-f', 'qcow2', '-o', options,
                               'b', '1M')

    def test_too_large_for_the_cluster_size(self):
        self.img_fails('too (large|big)',
                       'create', '-f', 'qcow2', '-o', 'cluster_size=512', 'a',
                       '1P')


if __name__ == '__main__':
    iotests.main()
