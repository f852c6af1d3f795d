#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""A guest that only has a raw image whose format was guessed cannot turn it
into another format by writing a header to its first sector."""
import struct

import iotests

HEADER = b'QFI\xfb' + struct.pack('>I', 2)


class RawProbing(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.write_file('a', b'\x11' * 65536)
        self.write_file('header', HEADER + bytes(512 - len(HEADER)))

    def test_header_is_refused(self):
        for command in ('write -s header 0 512', 'aio_write -P 0 0 512'):
            result = self.io('a', 'write -P 0x22 0 512', 'write -s header 0 512',
                             fmt=None, rc=1)
            self.assertIn('write failed: Operation not permitted',
                          result.stdout + result.stderr)
            self.assertIn('probing guessed raw', result.stderr)
            self.assertEqual(self.read_file('a', 0, 512), b'\x22' * 512, command)

    def test_header_at_the_start_of_a_longer_write(self):
        self.write_file('long', HEADER + bytes(4096 - len(HEADER)))
        self.io_fails('not permitted', 'a', 'write -s long 0 4096', fmt=None)
        self.assertEqual(self.read_file('a'), b'\x11' * 65536)

    def test_parts_of_the_sector(self):
        """Nor in two pieces: a write that does not cover the sector is judged
        by what the sector would then be."""
        self.write_file('magic', HEADER)
        result = self.io('a', 'write -P 0 8 504', 'write -s magic 0 8',
                         fmt=None, rc=1)
        self.assertIn('not permitted', result.stdout + result.stderr)
        self.assertNotEqual(self.read_file('a', 0, 4), b'QFI\xfb')

    def test_other_places_and_contents_are_free(self):
        self.io('a', 'write -s header 512 512', 'write -P 0x33 0 512',
                'write -z 0 4096', 'discard 0 4096', fmt=None)

    def test_named_format_is_trusted(self):
        result = self.io('a', 'write -s header 0 512', fmt='raw')
        self.assertEqual(result.stderr, '')
        self.assertEqual(self.read_file('a', 0, 8), HEADER)

    def test_reading_does_not_warn_less(self):
        result = self.io('a', 'read -P 0x11 0 512', fmt=None,
                         options=['-r'])
        self.assertEqual(result.rc, 0)


if __name__ == '__main__':
    iotests.main()
