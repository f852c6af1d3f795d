#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: convert
# formats: qcow2
"""convert -c: smaller, the same data, readable by the distribution."""
import iotests


class ConvertCompressed(iotests.TestCase):
    def source(self, size=(6 << 20) + 1024):
        rng = self.rng()
        data = bytearray()
        while len(data) < size:
            # Text packs well, random bytes do not, zeroes are not stored.
            data += rng.choice((b'the quick brown fox ' * 3277,
                                rng.randbytes(65536), bytes(65536)))
        data = bytes(data[:size])
        self.write_file('source', data)
        return data

    def test_both_methods_and_cluster_sizes(self):
        data = self.source()
        for method in ('zlib', 'zstd'):
            for cluster in ('512', '4k', '64k', '2M'):
                with self.subTest(f'{method} {cluster}'):
                    self.img('convert', '-f', 'raw', '-O', 'qcow2', '-c', '-o',
                             f'compression_type={method},'
                             f'cluster_size={cluster}', 'source', 'out')
                    self.assert_content('out', data)
                    self.assert_clean('out')
                    self.ref('compare', '-f', 'raw', '-F', 'qcow2', 'source',
                             'out')

    def test_it_saves_space(self):
        self.write_file('source', b'all work and no play\n' * 200000)
        self.img('convert', '-f', 'raw', '-O', 'qcow2', 'source', 'plain')
        self.img('convert', '-f', 'raw', '-O', 'qcow2', '--compress', 'source',
                 'out')
        plain = self.img_json('check', 'plain')
        packed = self.img_json('check', 'out')
        self.assertLess(packed['image-end-offset'],
                        plain['image-end-offset'] / 5)
        self.assertEqual(packed['compressed-clusters'],
                         packed['allocated-clusters'])

    def test_what_the_distribution_compressed(self):
        data = self.source()
        for method in ('zlib', 'zstd'):
            with self.subTest(method):
                self.ref('convert', '-f', 'raw', '-O', 'qcow2', '-c', '-o',
                         f'compression_type={method}', 'source', 'theirs')
                self.img('check', 'theirs')
                self.assert_content('theirs', data)

    def test_workers(self):
        data = self.source()
        for args in (['-m', '1'], ['-m', '16', '-W']):
            self.img('convert', '-f', 'raw', '-O', 'qcow2', '-c', *args,
                     'source', 'out')
            self.assert_content('out', data)
            self.assert_clean('out')

    def test_overwriting_compressed_clusters(self):
        data = bytearray(self.source())
        self.img('convert', '-f', 'raw', '-O', 'qcow2', '-c', 'source', 'out')
        self.io('out', 'write -P 7 100k 300k', 'write -P 8 1M 512')
        data[100 << 10:400 << 10] = b'\7' * (300 << 10)
        data[1 << 20:(1 << 20) + 512] = b'\x08' * 512
        self.assert_content('out', bytes(data))
        self.assert_clean('out')

    def test_not_for_raw(self):
        self.source()
        self.img_fails('Compression not supported for this file format',
                       'convert', '-c', '-O', 'raw', 'source', 'out')

    def test_not_with_preallocation(self):
        self.source()
        self.img_fails('Compression and preallocation not supported',
                       'convert', '-c', '-O', 'qcow2', '-o',
                       'preallocation=full', 'source', 'out')


if __name__ == '__main__':
    iotests.main()
