#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick convert
# formats: raw qcow2
"""The options of convert: targets that exist, backing files, several sources,
progress, and combinations that are refused."""
import os

import iotests


class ConvertOptions(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.write_file('source', b'\1' * (1 << 20) + bytes(1 << 20))

    def convert(self, *args, **kwargs):
        return self.img('convert', '-f', 'raw', '-O', self.fmt, *args, **kwargs)

    # --- -n ---

    def test_into_an_existing_image(self):
        self.create('out', '4M')
        self.io('out', 'write -P 9 0 4M')
        self.convert('-n', 'source', 'out')
        self.assert_content('out', b'\1' * (1 << 20) + bytes(1 << 20)
                            + b'\x09' * (2 << 20))
        self.assert_clean('out')

    def test_existing_image_is_too_small(self):
        self.create('out', '1M')
        self.img_fails('output file is smaller than input file', 'convert',
                       '-n', '-f', 'raw', '-O', self.fmt, 'source', 'out')

    def test_no_create_of_nothing(self):
        self.img_fails('none', 'convert', '-n', '-f', 'raw', '-O', self.fmt,
                       'source', 'none')
        self.assertFalse(os.path.exists(self.path('none')))

    def test_target_is_zero(self):
        self.create('out', '2M')
        self.convert('-n', '--target-is-zero', 'source', 'out')
        self.assert_content('out', b'\1' * (1 << 20) + bytes(1 << 20))

    def test_target_by_option_string(self):
        self.create('out', '2M')
        self.img('convert', '-n', '-f', 'raw', '--target-image-opts', 'source',
                 f'driver={self.fmt},file.filename=out')
        self.assert_content('out', b'\1' * (1 << 20) + bytes(1 << 20))

    def test_option_strings_for_sources(self):
        self.img('convert', '--image-opts', '-O', self.fmt,
                 'driver=raw,file.filename=source,size=512k', 'out')
        self.assert_content('out', b'\1' * (1 << 19))

    # --- several sources ---

    def test_several_sources(self):
        self.write_file('second', b'\2' * 66048)
        self.write_file('third', b'\3' * 512)
        self.convert('source', 'second', 'third', 'out')
        self.assert_content('out', b'\1' * (1 << 20) + bytes(1 << 20)
                            + b'\2' * 66048 + b'\3' * 512)
        self.assert_clean('out')

    def test_one_source_twice(self):
        self.convert('source', 'source', 'out')
        half = b'\1' * (1 << 20) + bytes(1 << 20)
        self.assert_content('out', half + half)

    # --- backing ---

    def test_difference_to_a_backing_file(self):
        if self.fmt == 'raw':
            self.img_fails('Backing file not supported', 'convert', '-f', 'raw',
                           '-O', 'raw', '-B', 'source', '-F', 'raw', 'source',
                           'out')
            return
        self.img('create', '-q', '-f', 'qcow2', '-b', 'source', '-F', 'raw',
                 'top')
        self.io('top', 'write -P 5 64k 64k')
        self.img('convert', '-f', 'qcow2', '-O', 'qcow2', '-B', 'source', '-F',
                 'raw', 'top', 'out')
        self.assert_same('top', 'out')
        self.assert_clean('out')
        own = [r for r in self.img_json('map', 'out') if r['depth'] == 0]
        self.assertEqual([(r['start'], r['length']) for r in own],
                         [(65536, 65536)])

    def test_backing_with_several_sources(self):
        self.img_fails('.', 'convert', '-f', 'raw', '-O', 'qcow2', '-B',
                       'source', '-F', 'raw', 'source', 'source', 'out')

    # --- messages ---

    def test_progress(self):
        out = self.convert('-p', 'source', 'out').stdout
        self.assertTrue(out.startswith('    (0.00/100%)\r'), out)
        self.assertTrue(out.endswith('    (100.00/100%)\r\n'), out)
        self.assertEqual(self.convert('-p', '-q', 'source', 'out').stdout, '')
        self.assertEqual(self.convert('source', 'out').stdout, '')

    def test_creation_options(self):
        if self.fmt == 'qcow2':
            self.convert('-o', 'cluster_size=4k', '-o', 'compat=0.10', 'source',
                         'out')
            info = self.img_json('info', 'out')
            self.assertEqual(info['cluster-size'], 4096)
            self.assertEqual(info['format-specific']['data']['compat'], '0.10')
        self.img('convert', '-O', self.fmt, '-o', 'help')

    # --- refusals ---

    def test_what_does_not_go_together(self):
        for message, args in (
                ('-o has no effect', ['-n', '-o', 'size=1M', 'source', 'out']),
                ('--target-is-zero requires', ['--target-is-zero', 'source',
                                               'out']),
                ('-c', ['-C', '-c', 'source', 'out']),
                ('-S', ['-C', '-S', '4k', 'source', 'out']),
                ('target-image-opts', ['--target-image-opts', 'source',
                                       'driver=raw,file.filename=out']),
                ('file name|filename|image', ['source'])):
            with self.subTest(' '.join(args)):
                self.img_fails(message, 'convert', '-O', 'qcow2', *args)

    def test_source_is_the_target(self):
        before = self.read_file('source')
        self.img_fails('is not written', 'convert', '-f', 'raw', '-O', 'raw',
                       'source', 'source')
        self.assertEqual(self.read_file('source'), before)

    def test_failures_to_open(self):
        self.img_fails('none', 'convert', 'none', 'out')
        self.img_fails('nodir', 'convert', '-f', 'raw', '-O', self.fmt,
                       'source', 'nodir/out')
        self.img_fails("nope", 'convert', '-f', 'raw', '-O', 'nope', 'source',
                       'out')

    def test_write_error_fails_the_command(self):
        self.create('out', '2M')
        image = (f'driver={self.fmt},file.driver=blkdebug,'
                 'file.image.driver=file,file.image.filename=out,'
                 'file.inject-error.0.event=pwritev,'
                 'file.inject-error.0.errno=28,'
                 'file.inject-error.0.iotype=write')
        result = self.img('convert', '-n', '-f', 'raw', '--target-image-opts',
                          'source', image, rc=1)
        self.assertIn('No space left on device', result.stderr)

    def test_read_error_fails_the_command(self):
        image = ('driver=raw,file.driver=blkdebug,file.image.driver=file,'
                 'file.image.filename=source,'
                 'file.inject-error.0.event=none,'
                 'file.inject-error.0.iotype=read,'
                 'file.inject-error.0.sector=100')
        result = self.img('convert', '--image-opts', '-O', self.fmt, image,
                          'out', rc=1)
        self.assertIn('Input/output error', result.stderr)


if __name__ == '__main__':
    iotests.main()
