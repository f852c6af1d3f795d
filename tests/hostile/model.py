# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads qcow2 straight from the description of the format: what the disk of an
image holds, and which parts of it nobody can know because their metadata or
data is broken or missing.

Damage that leaves an image in the format is invisible here, as it is for
everybody: an entry that names another cluster is as good as the one before.
"""
import ctypes
import ctypes.util
import os
import zlib

OFFSET = 0x00fffffffffffe00
COMPRESSED = 1 << 62
FEATURE_DIRTY, FEATURE_CORRUPT, FEATURE_COMPRESSION = 1, 2, 8
FEATURE_EXTENDED_L2 = 16


class Unsupported(Exception):
    """This model does not know; somebody else has to be asked."""


class Invalid(Exception):
    """Not an image; whoever opens it is wrong."""


class Bad:
    """Content that is lost; why."""

    def __init__(self, why):
        self.why = why


class _Buffer(ctypes.Structure):
    _fields_ = [('p', ctypes.c_void_p), ('size', ctypes.c_size_t),
                ('pos', ctypes.c_size_t)]


def _zstd():
    lib = ctypes.CDLL(ctypes.util.find_library('zstd') or 'libzstd.so.1')
    lib.ZSTD_createDCtx.restype = ctypes.c_void_p
    lib.ZSTD_freeDCtx.argtypes = [ctypes.c_void_p]
    lib.ZSTD_isError.argtypes = [ctypes.c_size_t]
    lib.ZSTD_decompressStream.restype = ctypes.c_size_t
    lib.ZSTD_decompressStream.argtypes = [
        ctypes.c_void_p, ctypes.POINTER(_Buffer), ctypes.POINTER(_Buffer)]
    return lib


def zstd_decompress(data, size):
    """@size bytes, or None if @data does not give them."""
    lib = _zstd()
    context = lib.ZSTD_createDCtx()
    target = ctypes.create_string_buffer(size)
    source = ctypes.create_string_buffer(data, max(len(data), 1))
    out = _Buffer(ctypes.cast(target, ctypes.c_void_p), size, 0)
    inp = _Buffer(ctypes.cast(source, ctypes.c_void_p), len(data), 0)
    try:
        while out.pos < size:
            before = inp.pos, out.pos
            ret = lib.ZSTD_decompressStream(context, ctypes.byref(out),
                                            ctypes.byref(inp))
            if lib.ZSTD_isError(ret) or before == (inp.pos, out.pos):
                return None
    finally:
        lib.ZSTD_freeDCtx(context)
    return target.raw


def deflate_decompress(data, size):
    try:
        result = zlib.decompressobj(-12).decompress(data, size)
    except zlib.error:
        return None
    return result if len(result) == size else None


class Model:
    """The image in @data; its backing file is looked for in @directory."""

    def __init__(self, data, directory):
        self.data = data
        self.directory = directory
        if len(data) < 72 or data[:4] != b'QFI\xfb':
            raise Invalid('no qcow2 header')
        self.version = self.u32(4)
        self.cluster_bits = self.u32(20)
        # An odd rest of a sector is no part of the disk.
        self.size = self.u64(24) & ~511
        if self.version not in (2, 3) or not 9 <= self.cluster_bits <= 21:
            raise Invalid('version or cluster size')
        self.cluster = 1 << self.cluster_bits
        self.zstd = False
        self.extended = False
        if self.version == 3:
            self._read_features()
        if self.u32(32):
            raise Unsupported('encryption')
        self.l1_offset, self.l1_size = self.u64(40), self.u32(36)
        self.entry_size = 16 if self.extended else 8
        self.entries = self.cluster // self.entry_size
        if self.l1_size * self.entries * self.cluster < self.size:
            raise Invalid('L1 table too small')
        self.backing = self._backing()

    def _read_features(self):
        incompatible = self.u64(72)
        if incompatible & ~(FEATURE_DIRTY | FEATURE_CORRUPT |
                            FEATURE_COMPRESSION | FEATURE_EXTENDED_L2):
            raise Unsupported('incompatible features')
        kind = self.data[104] if self.u32(100) > 104 else 0
        if kind > 1 or bool(kind) != bool(incompatible & FEATURE_COMPRESSION):
            raise Invalid('compression type')
        self.zstd = kind == 1
        self.extended = bool(incompatible & FEATURE_EXTENDED_L2)
        if self.extended and self.cluster_bits < 14:
            raise Invalid('subclusters of less than a sector')

    def _backing(self):
        """Content of the backing file; None without one."""
        offset, length = self.u64(8), self.u32(16)
        if not offset:
            return None
        name = self.data[offset:offset + length]
        cut_off = len(name) < length
        # Zero bytes behind the name do no harm.
        name = name.rstrip(b'\0')
        if cut_off or not name or b'\0' in name:
            raise Invalid('name of the backing file')
        try:
            path = os.path.join(self.directory, name.decode())
            if os.path.exists(path) and not os.path.isfile(path):
                raise Unsupported('a device')
            with open(path, 'rb') as f:
                content = f.read()
        except (OSError, ValueError) as e:
            raise Invalid('backing file cannot be opened') from e
        if content[:4] == b'QFI\xfb':
            raise Unsupported('a chain')
        return content

    def u32(self, offset):
        return int.from_bytes(self.data[offset:offset + 4], 'big')

    def u64(self, offset):
        return int.from_bytes(self.data[offset:offset + 8], 'big')

    def extents(self):
        """(offset, length, content) over the disk: content is bytes, a Bad, or
        None for zeroes."""
        span = self.entries * self.cluster
        # Unallocated tables are short work even if there are millions.
        end_of_data = len(self.backing) if self.backing else 0
        for i in range((self.size + span - 1) // span):
            start, length = i * span, min(span, self.size - i * span)
            where = self.l1_offset + 8 * i
            if where + 8 > len(self.data):
                yield start, self.size - start, Bad('L1 table is cut off')
                return
            table = self.u64(where) & OFFSET
            if not table:
                known = min(max(end_of_data - start, 0), length)
                if known:
                    yield start, known, self._from_backing(start, known)
                yield start + known, length - known, None
            elif table % self.cluster:
                yield start, length, Bad('L2 table not aligned')
            else:
                yield from self._table(table, start, length)

    def _table(self, table, start, length):
        for i in range((length + self.cluster - 1) // self.cluster):
            at = start + i * self.cluster
            n = min(self.cluster, self.size - at)
            where = table + self.entry_size * i
            if where + self.entry_size > len(self.data):
                yield at, start + length - at, Bad('L2 table is cut off')
                return
            if self.extended:
                yield from self._subclusters(self.u64(where),
                                             self.u64(where + 8), at, n)
            else:
                yield at, n, self._cluster(self.u64(where), at, n)

    def _subclusters(self, entry, bitmap, offset, length):
        """The same for an entry with a bitmap. Of a compressed cluster that is
        not looked at."""
        host = entry & OFFSET
        why = None
        if not entry & COMPRESSED:
            if host % self.cluster:
                why = 'cluster not aligned'
            elif bitmap & (bitmap >> 32 if host else (1 << 32) - 1):
                why = 'bitmap that cannot be'
        if why or entry & COMPRESSED:
            yield offset, length, (Bad(why) if why else
                                   self._compressed(entry, length))
            return
        size = self.cluster // 32
        for i in range((length + size - 1) // size):
            at = offset + i * size
            n = min(size, offset + length - at)
            if bitmap >> 32 + i & 1:
                yield at, n, None
            elif not bitmap >> i & 1:
                yield at, n, self._from_backing(at, n)
            elif host >= len(self.data):
                yield at, n, Bad('cluster beyond the end of the file')
            else:
                place = host + i * size
                yield at, n, self.data[place:place + n].ljust(n, b'\0')

    def _from_backing(self, offset, length):
        if not self.backing or offset >= len(self.backing):
            return None
        return self.backing[offset:offset + length].ljust(length, b'\0')

    def _cluster(self, entry, offset, length):
        if entry & COMPRESSED:
            return self._compressed(entry, length)
        host = entry & OFFSET
        if host % self.cluster:
            return Bad('cluster not aligned')
        if entry & 1:
            return None if self.version == 3 else Bad('zero cluster in v2')
        if not host:
            return self._from_backing(offset, length)
        # A file may end inside of its last cluster, but not before it.
        if host >= len(self.data):
            return Bad('cluster beyond the end of the file')
        return self.data[host:host + length].ljust(length, b'\0')

    def _compressed(self, entry, length):
        shift = 62 - (self.cluster_bits - 8)
        offset = entry & (1 << shift) - 1
        sectors = (entry >> shift & (1 << self.cluster_bits - 8) - 1) + 1
        size = sectors * 512 - offset % 512
        # Bytes behind the end of the file read as zeroes.
        data = self.data[offset:offset + size].ljust(size, b'\0')
        unpack = zstd_decompress if self.zstd else deflate_decompress
        content = unpack(data, self.cluster)
        return content[:length] if content else Bad('compressed data')


def file_extents(f, size):
    """(offset, length) of what of an open file is not a hole."""
    at = 0
    while at < size:
        try:
            at = os.lseek(f.fileno(), at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
        yield at, min(end, size) - at
        at = end


def differs(model, path):
    """What is wrong with the raw image @path, or None. A description of the
    first byte that is not what the model has, or of lost content that was
    given as if it were known."""
    with open(path, 'rb') as f:
        size = os.fstat(f.fileno()).st_size
        if size != model.size + 511 & -512 and size != model.size:
            return f'size {size} instead of {model.size}'
        holes = _Holes(f, size)
        for offset, length, content in model.extents():
            if isinstance(content, Bad):
                return f'{length} bytes at {offset} are lost: {content.why}'
            if content is None:
                if holes.any_data(offset, length) and \
                        not _is_zero(f, offset, length):
                    return f'{length} bytes at {offset} are not zero'
            else:
                f.seek(offset)
                if f.read(length).ljust(length, b'\0') != content:
                    return f'{length} bytes at {offset} are not the content'
    return None


class _Holes:
    """Whether a range of a file has data; asked in ascending order."""

    def __init__(self, f, size):
        self.extents = file_extents(f, size)
        self.current = next(self.extents, None)

    def any_data(self, offset, length):
        while self.current and sum(self.current) <= offset:
            self.current = next(self.extents, None)
        return bool(self.current) and self.current[0] < offset + length


def _is_zero(f, offset, length):
    f.seek(offset)
    while length:
        piece = f.read(min(length, 1 << 20))
        if not piece:
            return True
        if piece.count(0) != len(piece):
            return False
        length -= len(piece)
    return True
