#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""What a header says that we do not know is kept when the image is written;
autoclear bits that we do not know are cleared."""
import struct

import iotests
from iotests.qcow2_bytes import Qcow2Bytes

UNKNOWN = 0x12345678


class HeaderKept(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '4M')
        with Qcow2Bytes(self.path('a')) as image:
            end = image.u32(100)
            for _, offset, length in image.extensions():
                end = offset + (length + 7 & ~7)
            image.write(end, struct.pack('>II', UNKNOWN, 11) + b'hello world'
                        + bytes(5) + bytes(8))

    def extension(self):
        with Qcow2Bytes(self.path('a')) as image:
            return [image.read(offset, length)
                    for magic, offset, length in image.extensions()
                    if magic == UNKNOWN]

    def test_unknown_extension(self):
        self.assertEqual(self.extension(), [b'hello world'])
        self.io('a', 'write 0 1M', 'truncate 8M', 'discard 0 64k')
        self.img('resize', '-q', 'a', '16M')
        self.img('check', '-r', 'all', 'a')
        self.assertEqual(self.extension(), [b'hello world'])
        self.assert_clean('a')

    def test_unknown_autoclear_bit(self):
        with Qcow2Bytes(self.path('a')) as image:
            image.set_u64(88, 1 << 40)
        self.io('a', 'read 0 512', options=['-r'])
        with Qcow2Bytes(self.path('a')) as image:
            self.assertEqual(image.u64(88), 1 << 40)
        self.io('a', 'read 0 512')
        with Qcow2Bytes(self.path('a')) as image:
            self.assertEqual(image.u64(88), 0)
        self.assertEqual(self.extension(), [b'hello world'])

    def test_unknown_compatible_bit(self):
        with Qcow2Bytes(self.path('a')) as image:
            image.set_u64(80, 1 << 40)
        self.io('a', 'write 0 1M', 'truncate 8M')
        with Qcow2Bytes(self.path('a')) as image:
            self.assertEqual(image.u64(80) & 1 << 40, 1 << 40)


if __name__ == '__main__':
    iotests.main()
