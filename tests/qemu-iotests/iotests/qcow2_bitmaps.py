# SPDX-License-Identifier: GPL-2.0-or-later
"""Stored bitmaps as they lie in a qcow2 file, read without any program."""
import struct
from collections import namedtuple

MAGIC = 0x23852875
IN_USE, AUTO, EXTRA_COMPATIBLE = 1, 2, 4

# dirty: list of [start, end) in bytes; pos: of the entry in the file.
Bitmap = namedtuple('Bitmap', 'name flags granularity dirty pos length')


class Bitmaps:
    """An image file, open for reading and patching."""

    def __init__(self, path):
        self.f = open(path, 'r+b')
        head = self.read(0, 112)
        self.cluster = 1 << struct.unpack_from('>I', head, 20)[0]
        self.size = struct.unpack_from('>Q', head, 24)[0]
        self.valid = bool(struct.unpack_from('>Q', head, 88)[0] & 1)
        self.ext = self._find(struct.unpack_from('>I', head, 100)[0])
        self.count = self.dir_size = self.dir = 0
        if self.ext:
            self.count, _, self.dir_size, self.dir = struct.unpack(
                '>IIQQ', self.read(self.ext, 24))

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.f.close()

    def read(self, pos, n):
        self.f.seek(pos)
        return self.f.read(n)

    def write(self, pos, data):
        self.f.seek(pos)
        self.f.write(data)
        self.f.flush()

    def _find(self, pos):
        while True:
            magic, n = struct.unpack('>II', self.read(pos, 8))
            if magic == 0:
                return None
            if magic == MAGIC:
                return pos + 8
            pos += 8 + (n + 7) // 8 * 8

    def clear_autoclear(self):
        """What a program does that does not know bitmaps."""
        self.write(88, bytes(8))

    def entries(self):
        """name -> Bitmap"""
        result, pos = {}, self.dir
        for _ in range(self.count):
            table, n, flags, kind, gran, name_len, extra = struct.unpack(
                '>QIIBBHI', self.read(pos, 24))
            assert kind == 1
            name = self.read(pos + 24 + extra, name_len).decode()
            length = (24 + extra + name_len + 7) // 8 * 8
            result[name] = Bitmap(name, flags, 1 << gran,
                                  self._dirty(table, n, 1 << gran), pos,
                                  length)
            pos += length
        assert pos == self.dir + self.dir_size
        return result

    def _dirty(self, table, n, granularity):
        bits = b''
        for (entry,) in struct.iter_unpack('>Q', self.read(table, 8 * n)):
            offset = entry & 0x00fffffffffffe00
            if offset:
                bits += self.read(offset, self.cluster).ljust(self.cluster,
                                                              b'\0')
            else:
                bits += (b'\xff' if entry & 1 else b'\0') * self.cluster
        ranges = []
        for i in range((self.size + granularity - 1) // granularity):
            if bits[i // 8] >> i % 8 & 1:
                start = i * granularity
                end = min(start + granularity, self.size)
                if ranges and ranges[-1][1] == start:
                    ranges[-1][1] = end
                else:
                    ranges.append([start, end])
        return ranges


def bitmaps(path):
    """name -> Bitmap of an image."""
    with Bitmaps(path) as b:
        return b.entries() if b.valid else {}
