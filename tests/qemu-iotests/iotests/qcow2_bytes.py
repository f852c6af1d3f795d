# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads and changes single fields of a qcow2 file, to make damaged images.

Every number of the format is big-endian.  A field is named by where it is, so
that a test says what it breaks: img.set_l2(0, 3, value).
"""
import struct

COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1
OFFSET_MASK = 0x00fffffffffffe00


class Qcow2Bytes:
    def __init__(self, path):
        self.path = path
        self.f = open(path, 'r+b', buffering=0)
        self.version = self.u32(4)
        self.cluster_bits = self.u32(20)
        self.cluster = 1 << self.cluster_bits
        self.l1_size = self.u32(36)
        self.l1_offset = self.u64(40)
        self.reft_offset = self.u64(48)
        self.reft_clusters = self.u32(56)
        self.nb_snapshots = self.u32(60)
        self.snap_offset = self.u64(64)
        self.refcount_order = self.u32(96) if self.version >= 3 else 4
        self.refcount_bits = 1 << self.refcount_order
        self.extended_l2 = self.version >= 3 and bool(self.u64(72) & 16)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.f.close()

    def read(self, off, n):
        self.f.seek(off)
        return self.f.read(n)

    def write(self, off, data):
        self.f.seek(off)
        self.f.write(data)

    def u32(self, off):
        return struct.unpack('>I', self.read(off, 4))[0]

    def u64(self, off):
        data = self.read(off, 8)
        return struct.unpack('>Q', data.ljust(8, b'\0'))[0]

    def set_u32(self, off, value):
        self.write(off, struct.pack('>I', value))

    def set_u64(self, off, value):
        self.write(off, struct.pack('>Q', value))

    def size(self):
        return self.f.seek(0, 2)

    def truncate(self, size):
        self.f.truncate(size)

    # --- tables ---
    def l1(self, i):
        return self.u64(self.l1_offset + 8 * i)

    def set_l1(self, i, value):
        self.set_u64(self.l1_offset + 8 * i, value)

    def l2_offset(self, l1_index):
        return self.l1(l1_index) & OFFSET_MASK

    def _l2_place(self, l1_index, i):
        return self.l2_offset(l1_index) + (16 if self.extended_l2 else 8) * i

    def l2(self, l1_index, i):
        return self.u64(self._l2_place(l1_index, i))

    def set_l2(self, l1_index, i, value):
        self.set_u64(self._l2_place(l1_index, i), value)

    # Of extended L2 entries.
    def l2_bitmap(self, l1_index, i):
        return self.u64(self._l2_place(l1_index, i) + 8)

    def set_l2_bitmap(self, l1_index, i, value):
        self.set_u64(self._l2_place(l1_index, i) + 8, value)

    def reft(self, i):
        return self.u64(self.reft_offset + 8 * i)

    def set_reft(self, i, value):
        self.set_u64(self.reft_offset + 8 * i, value)

    def _refcount_place(self, cluster):
        per_block = self.cluster * 8 // self.refcount_bits
        block = self.reft(cluster // per_block) & ~0x1ff
        bit = (cluster % per_block) * self.refcount_bits
        return block, bit

    def refcount(self, cluster):
        block, bit = self._refcount_place(cluster)
        if not block:
            return 0
        if self.refcount_bits < 8:
            byte = self.read(block + bit // 8, 1)[0]
            return byte >> (bit % 8) & ((1 << self.refcount_bits) - 1)
        n = self.refcount_bits // 8
        return int.from_bytes(self.read(block + bit // 8, n), 'big')

    def set_refcount(self, cluster, value):
        block, bit = self._refcount_place(cluster)
        assert block, 'no refcount block for cluster %d' % cluster
        if self.refcount_bits < 8:
            mask = ((1 << self.refcount_bits) - 1) << (bit % 8)
            byte = self.read(block + bit // 8, 1)[0]
            byte = byte & ~mask | value << (bit % 8)
            self.write(block + bit // 8, bytes([byte]))
        else:
            n = self.refcount_bits // 8
            self.write(block + bit // 8, value.to_bytes(n, 'big'))

    # --- header extensions: (magic, offset of the data, length) ---
    def extensions(self):
        off = 72 if self.version == 2 else self.u32(100)
        while True:
            magic, length = self.u32(off), self.u32(off + 4)
            if magic == 0:
                return
            yield magic, off + 8, length
            off += 8 + (length + 7 & ~7)

    def bitmap_directory(self):
        """(offset, size) or None."""
        for magic, off, _ in self.extensions():
            if magic == 0x23852875:
                return self.u64(off + 16), self.u64(off + 8)
        return None
