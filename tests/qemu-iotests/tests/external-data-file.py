#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""An image whose guest data are in a file of their own: what is where, what a
raw data file shows at any time, and what is refused."""
import os

import iotests

SIZE = 1000 * 1024 + 512


class ExternalDataFile(iotests.TestCase):
    def setUp(self):
        super().setUp()
        # A relative name in a header starts at the current directory.
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.dir)

    def make(self, name='a', size=SIZE, **options):
        options.setdefault('data_file', 'data')
        text = ','.join(f'{k}={v}' for k, v in options.items())
        self.create(name, '-o', text, str(size))

    def specific(self, name='a'):
        return self.img_json('info', name)['format-specific']['data']

    def test_info(self):
        self.make()
        data = self.specific()
        self.assertEqual(data['data-file'], 'data')
        self.assertIs(data['data-file-raw'], False)
        self.make(data_file_raw='on')
        self.assertIs(self.specific()['data-file-raw'], True)
        self.assertEqual(os.stat('data').st_size, SIZE)
        self.assert_clean('a')

    def test_info_does_not_open_it(self):
        self.make()
        os.remove('data')
        self.assertEqual(self.specific()['data-file'], 'data')
        self.img_fails("Could not open 'data'", 'map', 'a')

    def test_data_are_where_the_guest_has_them(self):
        self.make(cluster_size=4096)
        self.io('a', 'write -P 7 0 1000', 'write -P 8 300k 5k')
        self.assertEqual(self.read_file('data', 0, 1000), b'\x07' * 1000)
        self.assertEqual(self.read_file('data', 300 * 1024, 5120),
                         b'\x08' * 5120)
        ranges = [r for r in self.img_json('map', 'a') if r['data']]
        self.assertTrue(ranges)
        for r in ranges:
            self.assertEqual(r['offset'], r['start'])
        self.assertIn('data', self.img('map', 'a').stdout)
        self.assert_clean('a')

    def test_raw_shows_what_the_guest_sees(self):
        for cluster in (512, 65536):
            with self.subTest(cluster):
                self.make(cluster_size=cluster, data_file_raw='on')
                self.io('a', 'write -P 1 0 700k', 'write -z 64k 64k',
                        'write -z -u 192k 100k', 'discard 320k 128k',
                        'write -P 2 330k 3k', f'write -P 3 {SIZE - 512} 512',
                        f'write -z {SIZE - 2048} 2048',
                        options=['-d', 'unmap'])
                self.assert_content('a', self.read_file('data'))
                self.assert_clean('a')

    def test_raw_resize(self):
        self.make(data_file_raw='on')
        self.io('a', f'write -P 9 0 {SIZE}')
        for size in (SIZE + 4096, SIZE + (1 << 20), 300 * 1024 + 512, SIZE):
            self.img('resize', '-f', 'qcow2', '--shrink', 'a', str(size))
            self.assertEqual(os.stat('data').st_size, size)
            self.assert_content('a', self.read_file('data'))
            self.assert_clean('a')
        self.assertEqual(self.read_file('data', 301 * 1024),
                         bytes(SIZE - 301 * 1024))

    def test_resize_over_what_the_file_had(self):
        """A data file may be longer than the disk, and hold anything there."""
        for raw in ('off', 'on'):
            with self.subTest(raw):
                self.make(data_file_raw=raw)
                self.write_file('data', b'\xee' * (3 << 20))
                self.io('a', 'write -P 5 0 64k')
                for mode in ('off', 'metadata', 'full'):
                    size = {'off': 1 << 20, 'metadata': 2 << 20,
                            'full': 3 << 20}[mode]
                    self.img('resize', '-f', 'qcow2',
                             f'--preallocation={mode}', 'a', str(size))
                    self.io('a', f'read -P 0 {SIZE} {size - SIZE}')
                self.assert_clean('a')

    def test_preallocation(self):
        for mode in ('metadata', 'falloc', 'full'):
            with self.subTest(mode):
                self.make(preallocation=mode)
                self.assertTrue(all(r['present']
                                    for r in self.img_json('map', 'a')))
                self.assertEqual(os.stat('data').st_size, SIZE)
                if mode == 'full':
                    self.assertGreaterEqual(os.stat('data').st_blocks * 512,
                                            SIZE)
                self.assert_content('a', bytes(SIZE))
                self.assert_clean('a')

    def test_over_a_backing_file(self):
        self.write_file('base', b'\x55' * SIZE)
        self.create('a', '-o', 'data_file=data', '-b', 'base', '-F', 'raw')
        self.io('a', 'write -P 1 1000 5000', 'write -z 128k 64k',
                'discard 256k 64k', options=['-d', 'unmap'])
        expected = bytearray(b'\x55' * SIZE)
        expected[1000:6000] = b'\x01' * 5000
        for start in (128, 256):
            expected[start << 10:(start + 64) << 10] = bytes(65536)
        self.assert_content('a', bytes(expected))
        self.img('commit', 'a')
        self.assertEqual(self.read_file('base'), bytes(expected))
        self.assert_content('a', bytes(expected))
        self.assert_clean('a')

    def test_convert(self):
        self.write_file('source', b'\x21' * 100000 + bytes(400000) +
                        b'\x22' * 12000)
        for raw in ('off', 'on'):
            with self.subTest(raw):
                self.img('convert', '-f', 'raw', '-O', 'qcow2', '-o',
                         f'data_file=data,data_file_raw={raw}', 'source', 'a')
                self.assert_same('source', 'a', 'raw', 'qcow2')
                self.assert_clean('a')
        self.assertEqual(self.read_file('data'), self.read_file('source'))

    def test_another_data_file(self):
        self.make()
        self.io('a', 'write -P 6 0 64k')
        os.rename('data', 'moved')
        tree = 'driver=qcow2,file.filename=a,data-file.filename=moved'
        self.io(tree, 'read -P 6 0 64k', 'write -P 7 64k 64k', fmt=None,
                options=['--image-opts'])
        self.assertEqual(self.read_file('moved', 65536, 65536),
                         b'\x07' * 65536)
        self.img('check', '--image-opts', tree)
        self.create('plain', '1M')
        self.img_fails("'data-file' can only be set for images with an "
                       'external data file', 'check', '--image-opts',
                       'driver=qcow2,file.filename=plain,'
                       'data-file.filename=moved')

    def test_too_short(self):
        self.make()
        self.io('a', f'write -P 6 0 {SIZE}')
        os.truncate('data', 512 * 1024)
        self.io_fails("Data file 'data' is too short: it has 524288 bytes, the "
                      f'disk has {SIZE}', 'a', 'read 0 64k')
        result = self.img('check', '-f', 'qcow2', 'a', rc=2)
        self.assertIn('Data cluster is beyond the end of the data file',
                      result.stdout + result.stderr)

    def test_a_name_is_a_path(self):
        """Whatever the header has for a name, it is not parsed or probed."""
        self.make()
        name = b'json:{}'
        header = self.read_file('a', 0, 65536)
        at = header.index(b'DATA') + 4
        self.patch_file('a', at, len(name).to_bytes(4, 'big') + name + b'\0')
        self.img_fails("Could not open 'json:{}'", 'map', 'a')
        os.rename('data', 'json:{}')
        self.io('a', 'write -P 3 0 4k')
        self.assertEqual(self.read_file('json:{}', 0, 4096), b'\x03' * 4096)
        # An image as data file is so many bytes.
        self.create('inner', '1M')
        self.make(name='b', data_file='d2', size=1 << 16)
        os.replace('inner', 'd2')
        self.io('b', 'write -P 4 0 64k')
        self.assertEqual(self.read_file('d2', 0, 65536), b'\x04' * 65536)

    def test_what_is_refused(self):
        self.make(data_file_raw='on')
        self.io_fails('Operation not supported', 'a', 'write -c 0 64k')
        self.img_fails('no internal snapshots', 'snapshot', '-c', 's', 'a')
        self.write_file('base', bytes(SIZE))
        self.img_fails('Could not change the backing file', 'rebase', '-u',
                       '-f', 'qcow2', '-b', 'base', '-F', 'raw', 'a')
        self.assertIs(self.specific()['data-file-raw'], True)

    def test_what_does_not_go_together(self):
        self.write_file('base', b'\x11' * 65536)
        for options, message in (
                ('data_file_raw=on', 'data-file-raw requires data-file'),
                ('data_file=d,compat=0.10', 'only supported with '
                                            'compatibility level 1.1'),
                ('data_file=nbd://x', 'must not have a protocol prefix'),
                ('data_file=b', 'the image itself'),
                ('data_file=base,backing_file=base,backing_fmt=raw',
                 'its backing file'),
                ('data_file=d,data_file_raw=on,backing_file=base,'
                 'backing_fmt=raw', 'cannot be used at the same time')):
            with self.subTest(options):
                self.img_fails(message, 'create', '-f', 'qcow2', '-o', options,
                               'b', '64k')
                self.assertFalse(os.path.exists('d'))
        self.assertEqual(self.read_file('base'), b'\x11' * 65536)


if __name__ == '__main__':
    iotests.main()
