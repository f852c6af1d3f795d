# SPDX-License-Identifier: GPL-2.0-or-later
"""All the ways in which a well-formed qcow2 image is damaged here.

A damage is (label, function): the function gets a bytearray of the image and
changes it. The label names it for ever: with the seed image and the random
seed it is enough to make the same image again.
"""
import random
import struct

COPIED, COMPRESSED = 1 << 63, 1 << 62
OFFSET = 0x00fffffffffffe00

# name: (offset, bytes)
HEADER = {
    'magic': (0, 4), 'version': (4, 4), 'backing_offset': (8, 8),
    'backing_size': (16, 4), 'cluster_bits': (20, 4), 'size': (24, 8),
    'crypt': (32, 4), 'l1_size': (36, 4), 'l1_offset': (40, 8),
    'reftable_offset': (48, 8), 'reftable_clusters': (56, 4),
    'nb_snapshots': (60, 4), 'snapshots_offset': (64, 8),
    'incompatible': (72, 8), 'compatible': (80, 8), 'autoclear': (88, 8),
    'refcount_order': (96, 4), 'header_length': (100, 4),
    'compression': (104, 1),
}
# Parts of a snapshot table entry.
SNAPSHOT = {'l1_offset': (0, 8), 'l1_size': (8, 4), 'id_size': (12, 2),
            'name_size': (14, 2), 'vm_state_size': (32, 4),
            'extra_size': (36, 4), 'vm_state_large': (40, 8),
            'disk_size': (48, 8)}
# Parts of a bitmap directory entry.
BITMAP = {'table_offset': (0, 8), 'table_size': (8, 4), 'flags': (12, 4),
          'type': (16, 1), 'granularity': (17, 1), 'name_size': (18, 2),
          'extra_size': (20, 4)}
EXTENSIONS = {'end': 0, 'backing format': 0xe2792aca,
              'features': 0x6803f857, 'crypto': 0x0537be77,
              'bitmaps': 0x23852875, 'data file': 0x44415441,
              'unknown': 0x12345678}


class Layout:
    """Where the metadata of a well-formed image are."""

    def __init__(self, data):
        self.data = bytes(data)
        self.version = self.get(4, 4)
        self.cluster = 1 << self.get(20, 4)
        self.header_length = self.get(100, 4) if self.version > 2 else 72
        self.l1 = self.get(40, 8)
        self.l1_size = self.get(36, 4)
        self.reftable = self.get(48, 8)
        self.l2 = self._targets(self.l1, self.l1_size)
        self.refblocks = self._targets(self.reftable, self.cluster // 8)
        self.extensions = self._extensions()
        self.snapshots = self._snapshots()
        self.bitmaps = self._bitmaps()

    def get(self, offset, size):
        return int.from_bytes(self.data[offset:offset + size], 'big')

    def _targets(self, offset, n):
        found = (self.get(offset + 8 * i, 8) & OFFSET for i in range(n))
        return [f for f in found if f]

    def _extensions(self):
        """Offsets of their magic numbers, the last one included."""
        found, at = [], self.header_length
        while at + 8 <= self.cluster:
            found.append(at)
            if not self.get(at, 4):
                break
            at += 8 + (self.get(at + 4, 4) + 7 & ~7)
        return found

    def _snapshots(self):
        at, found = self.get(64, 8), []
        for _ in range(self.get(60, 4)):
            found.append(at)
            at += 40 + self.get(at + 36, 4) + self.get(at + 12, 2) + \
                self.get(at + 14, 2)
            at = at + 7 & ~7
        return found

    def _bitmaps(self):
        found = []
        for ext in self.extensions:
            if self.get(ext, 4) == EXTENSIONS['bitmaps']:
                at = self.get(ext + 24, 8)
                for _ in range(self.get(ext + 8, 4)):
                    found.append(at)
                    at += 24 + self.get(at + 20, 4) + self.get(at + 18, 2)
                    at = at + 7 & ~7
        return found

    def metadata(self):
        """(offset, length) of everything that is not guest data."""
        found = [(0, min(self.cluster, 512)), (self.l1, 8 * self.l1_size),
                 (self.reftable, 64)]
        found += [(o, self.cluster) for o in self.l2]
        found += [(o, self.cluster) for o in self.refblocks]
        found += [(o, 56) for o in self.snapshots]
        for at in self.snapshots:
            l1 = self.get(at, 8), self.get(at + 8, 4)
            found.append((l1[0], 8 * l1[1]))
            found += [(o, self.cluster) for o in self._targets(*l1)]
        for at in self.bitmaps:
            found += [(at, 32), (self.get(at, 8), 8 * self.get(at + 8, 4))]
        return [(o, n) for o, n in found if n and o + n <= len(self.data)]

    def tables(self):
        """(name, offset of an entry) of every table; of L2 tables and refcount
        blocks the first entries and some of the others."""
        places = [('l1', self.l1 + 8 * i) for i in range(self.l1_size)]
        places += [('reftable', self.reftable + 8 * i) for i in range(4)]
        for n, table in enumerate(self.l2):
            used = [i for i in range(self.cluster // 8)
                    if self.get(table + 8 * i, 8)]
            places += [(f'l2.{n}', table + 8 * i)
                       for i in used[:6] + used[6::7] + [self.cluster // 8 - 1]]
        places += [('refblock', block + 8 * i) for block in self.refblocks
                   for i in (0, 1, 2, self.cluster // 8 - 1)]
        for n, at in enumerate(self.snapshots):
            places += [(f'snapshot.{n}.l1', self.get(at, 8) + 8 * i)
                       for i in range(min(self.get(at + 8, 4), 4))]
        for n, at in enumerate(self.bitmaps):
            places += [(f'bitmap.{n}.table', self.get(at, 8) + 8 * i)
                       for i in range(min(self.get(at + 8, 4), 4))]
        return places


def field_values(old, size):
    top = 1 << 8 * size
    values = {0, 1, old - 1, old + 1, old * 2, old // 2, top - 1, top - 2,
              top // 2, top // 2 - 1, 2, 7, 8, 9, 16, 20, 21, 22, 31, 64, 104,
              112, 511, 512, 65535, 65536, 1 << 25, 1 << 40, 1 << 56,
              (1 << 63) - 512, (1 << 62) - 512, (1 << 63) - (1 << 30)}
    return sorted(v for v in values if 0 <= v < top and v != old)


def entry_values(layout, at):
    """What to put in place of a table entry; offsets are of this image."""
    old = layout.get(at, 8)
    end = len(layout.data)
    cluster = layout.cluster
    round_end = (end + cluster - 1) // cluster * cluster
    shift = 62 - (cluster.bit_length() - 9)
    host = old & OFFSET
    targets = {
        'zero': 0, 'all ones': (1 << 64) - 1, 'header': COPIED,
        'l1': COPIED | layout.l1, 'reftable': COPIED | layout.reftable,
        'itself': COPIED | at // cluster * cluster,
        'at the end': COPIED | round_end,
        'last cluster': COPIED | round_end - cluster,
        'beyond the end': COPIED | round_end + 64 * cluster,
        'far beyond': COPIED | (1 << 50), 'highest': COPIED | OFFSET,
        'highest aligned': COPIED | (OFFSET & -cluster),
        'misaligned': old | 512 if cluster > 512 else old | 256,
        'half a cluster': old + cluster // 2,
        'one less': old - cluster if host else cluster,
        'one more': old + cluster, 'not copied': old & ~COPIED,
        'copied': old | COPIED, 'zero flag': old | 1,
        'both halves': old | old << 32, 'zero flag only': 1, 'reserved': old | 1 << 60,
        'low reserved': old | 0x1fe, 'bit 56': old | 1 << 56,
        'compressed': old ^ COMPRESSED,
        'compressed, longest': COMPRESSED | host | (1 << 62) - (1 << shift),
        'compressed at the end': COMPRESSED | max(end - 1, 0),
        'compressed beyond': COMPRESSED | (1 << shift) - 1,
        'compressed, everything': (1 << 64) - 1 & ~1,
        'compressed header': COMPRESSED | 4 << shift,
    }
    for i, offset in enumerate(layout.l2[:3]):
        targets[f'l2 table {i}'] = COPIED | offset
    for i, offset in enumerate(layout.refblocks[:2]):
        targets[f'refblock {i}'] = COPIED | offset
    return {k: v & (1 << 64) - 1 for k, v in targets.items() if v != old}


def put(offset, size, value):
    def apply(data):
        if len(data) < offset + size:
            data.extend(bytes(offset + size - len(data)))
        data[offset:offset + size] = value.to_bytes(size, 'big')
    return apply


def cut(length):
    def apply(data):
        del data[length:]
    return apply


def paste(offset, content):
    def apply(data):
        data[offset:offset + len(content)] = content
    return apply


def both(*functions):
    def apply(data):
        for f in functions:
            f(data)
    return apply


def truncations(layout):
    size = len(layout.data)
    lengths = set(range(0, size, 512)) | {1, 3, 4, 7, 8, 71, 72, 73, 103, 104,
                                          105, 111, 112, 113, size - 1}
    # A large file is mostly data: every sector of its metadata will do.
    if size > 1 << 20:
        near = {o // 512 for at, n in layout.metadata()
                for o in range(at, at + min(n, 4096) + 512, 512)}
        lengths = {n for n in lengths if n % 65536 == 0 or n // 512 in near
                   or n < 512}
    for length in sorted(lengths):
        yield f'cut/{length}', cut(length)


def header_fields(layout):
    for name, (offset, size) in HEADER.items():
        if offset < layout.header_length:
            for value in field_values(layout.get(offset, size), size):
                yield f'header/{name}={value:#x}', put(offset, size, value)


def extensions(layout):
    for n, at in enumerate(layout.extensions):
        length = layout.get(at + 4, 4)
        for value in (0, 1, 7, 8, 15, 16, 24, 48, length - 1, length + 1,
                      length + 8, layout.cluster - at, layout.cluster,
                      0x7fffffff, 0xfffffff8, 0xffffffff):
            if 0 <= value != length:
                yield f'extension/{n}.length={value:#x}', put(at + 4, 4, value)
        for name, magic in EXTENSIONS.items():
            yield f'extension/{n} is {name}', put(at, 4, magic)
        for i in range(8, 8 + min(length, 32), 4):
            for value in (0, 1, 0x7fffffff, 0xffffffff):
                yield (f'extension/{n}+{i}={value:#x}',
                       put(at + i, 4, value))
    room = layout.cluster - layout.header_length
    for name, magic in EXTENSIONS.items():
        if name != 'end':
            fill = struct.pack('>II', magic, 0) * (room // 8)
            yield (f'extension/full of {name}',
                   paste(layout.header_length, fill))
            one = struct.pack('>II', magic, room - 8)
            yield (f'extension/{name} fills the cluster',
                   paste(layout.header_length, one))


def table_entries(layout):
    for name, at in layout.tables():
        for what, value in entry_values(layout, at).items():
            yield (f'{name.split(".")[0]}/{name}@{at:#x} {what}',
                   put(at, 8, value))


def records(layout, kind, places, fields):
    for n, at in enumerate(places):
        for name, (offset, size) in fields.items():
            old = layout.get(at + offset, size)
            values = set(field_values(old, size))
            if size == 8:
                values |= {v & OFFSET for v in
                           entry_values(layout, at + offset).values()}
            for value in sorted(values):
                yield (f'{kind}/{n}.{name}={value:#x}',
                       put(at + offset, size, value))


def backing_names(layout):
    """Names that are too long, that lead back here, or nowhere."""
    room = layout.cluster - layout.header_length - 16
    ext = struct.pack('>II', 0, 0)
    at = layout.header_length + 8
    names = {'loop': b'loop-a', 'itself': b'damaged', 'missing': b'nowhere',
             'empty': b'', 'zero byte': b'ba\0se.raw', 'directory': b'.',
             'device': b'/dev/zero', 'not utf-8': b'\xff\xfe\xfd',
             'protocol': b'nbd://127.0.0.1:1/x', 'unknown protocol': b'x:y',
             'json': b'json:{"driver":"qcow2","file":'
                     b'{"driver":"file","filename":"damaged"}}',
             'bad json': b'json:{' + b'[' * 300,
             'deep json': b'json:' + b'{"a":' * 150,
             'long': b'a' * min(room, 1023), 'too long': b'a' * 1024,
             'whole cluster': b'b' * room, 'deep': b'./' * 400 + b'x'}
    for name, text in names.items():
        if len(text) <= room:
            yield (f'backing/{name}',
                   both(paste(layout.header_length, ext), paste(at, text),
                        put(8, 8, at), put(16, 4, len(text))))
    for size in (0, 1, 1023, 1024, 0xffffffff):
        yield (f'backing/at the end, {size}',
               both(put(8, 8, layout.cluster), put(16, 4, size)))


def huge(layout):
    """Sizes that are valid in themselves, in a file that does not have them."""
    end = (len(layout.data) + layout.cluster - 1) & -layout.cluster
    span = layout.cluster * layout.cluster // 8
    for size in (1 << 40, 1 << 50, 1 << 56, (1 << 62), (1 << 63) - 512,
                 (1 << 63) - (1 << 30)):
        entries = (size + span - 1) // span
        for where in (layout.l1, end, 1 << 40, (1 << 56) - layout.cluster):
            if entries < 1 << 32:
                yield (f'huge/disk of {size:#x} with L1 at {where:#x}',
                       both(put(24, 8, size), put(36, 4, entries),
                            put(40, 8, where)))
    most = 8 << 20
    for where in (layout.reftable, end, 1 << 40):
        yield (f'huge/refcount table at {where:#x}',
               both(put(56, 4, most // layout.cluster), put(48, 8, where)))
        yield (f'huge/snapshots at {where:#x}',
               both(put(60, 4, 65536), put(64, 8, where)))
        yield (f'huge/L1 at {where:#x}',
               both(put(36, 4, 4 << 20), put(40, 8, where)))
    for at in layout.snapshots:
        yield (f'huge/snapshot {at:#x}', both(put(at + 8, 4, 4 << 20)))
    for at in layout.bitmaps:
        yield (f'huge/bitmap {at:#x}', both(put(at + 8, 4, 0x8000000)))


def repeated(layout):
    """Every entry of a table is the same one: little file, much content."""
    if not layout.l2:
        return
    n = layout.cluster // 8
    table = layout.l2[0]
    for i in range(0, n, max(n // 8, 1)):
        value = layout.data[table + 8 * i:table + 8 * i + 8]
        yield f'repeated/L2 of {i}', paste(table, value * n)
    value = layout.data[layout.l1:layout.l1 + 8]
    yield 'repeated/L1', paste(layout.l1, value * layout.l1_size)
    block = layout.data[layout.reftable:layout.reftable + 8]
    yield 'repeated/refcount table', paste(layout.reftable, block * n)
    for kind, content in (('0', b'\0'), ('ff', b'\xff'), ('01', b'\1')):
        for at in layout.refblocks:
            yield (f'repeated/refcount block {at:#x} of {kind}',
                   paste(at, content * layout.cluster))


STRUCTURED = (truncations, header_fields, extensions, table_entries,
              backing_names, huge, repeated)


def structured(layout):
    """All of them that do not need dice, as a list."""
    found = [d for kind in STRUCTURED for d in kind(layout)]
    found += records(layout, 'snapshot', layout.snapshots, SNAPSHOT)
    found += records(layout, 'bitmap', layout.bitmaps, BITMAP)
    return found


def flip(layout, seed):
    """Some bytes changed, mostly in the metadata."""
    rng = random.Random(seed)
    places = layout.metadata()

    def apply(data):
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8, 64))):
            if rng.random() < 0.9:
                at, length = rng.choice(places)
                at += min(int(rng.expovariate(8 / length)), length - 1)
            else:
                at = rng.randrange(len(data))
            data[at] = rng.choice((data[at] ^ 1 << rng.randrange(8),
                                   rng.randrange(256), 0, 255))
    return apply


def combined(layout, known, seed):
    """Two to five of the others at once."""
    rng = random.Random(seed)
    chosen = [rng.choice(known) for _ in range(rng.randrange(2, 6))]
    label = ' + '.join(name for name, _ in chosen)

    def apply(data):
        for name, function in chosen:
            if not name.startswith('cut/') or rng.random() < 0.3:
                function(data)
        if rng.random() < 0.3:
            flip(layout, seed)(data) if len(data) == len(layout.data) else None
    return label, apply
