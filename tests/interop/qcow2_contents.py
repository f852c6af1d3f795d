# SPDX-License-Identifier: GPL-2.0-or-later
"""All that can be read out of an image without a program of ours or of others:
the disk, each snapshot's disk with its VM state, and the bits of bitmaps. Used by
the tests that repair.

contents() gives {name: {number of the cluster or table entry: bytes}}; a value is
BAD where nobody can know what was there, and zeroes are left out.
"""
import os
import struct
import sys

from iotests.qcow2_bytes import OFFSET_MASK

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'hostile'))
from model import (Bad, Invalid, Model, Unsupported,  # noqa: E402
                   deflate_decompress)  # noqa: F401

BAD = 'bad'
SNAPSHOT_HEADER = struct.Struct('>QIHHIIQII')
BITMAP_HEADER = struct.Struct('>QIIBBHI')
IN_USE, ALL_ONES = 1, 1


def _put(result, number, content):
    if isinstance(content, Bad):
        result[number] = BAD
    elif content is not None and content.count(0) != len(content):
        result[number] = content


def read_disk(model, l1_offset, l1_size, size):
    """{cluster: bytes or BAD} of the first @size bytes."""
    per_table = model.entries
    nb = (size + model.cluster - 1) // model.cluster
    result = {}
    for i in range((nb + per_table - 1) // per_table):
        first = i * per_table
        where = l1_offset + 8 * i
        entry = model.u64(where) if where + 8 <= len(model.data) else 0
        table = entry & OFFSET_MASK
        if i >= l1_size or where + 8 > len(model.data) or \
           table % model.cluster or table >= len(model.data):
            result.update((first + k, BAD)
                          for k in range(min(per_table, nb - first)))
            continue
        raw = model.data[table:table + model.cluster] if table else b''
        if not raw or raw.count(0) == len(raw):
            continue
        for k in range(min(per_table, nb - first)):
            at = k * model.entry_size
            if raw[at:at + model.entry_size].count(0) == model.entry_size:
                continue
            if at + model.entry_size > len(raw):
                result[first + k] = BAD
            elif model.extended:
                # pylint: disable=protected-access
                words = struct.unpack('>QQ', raw[at:at + 16])
                for start, _, content in model._subclusters(
                        *words, 0, model.cluster):
                    _put(result, (first + k, start), content)
            else:
                word = struct.unpack('>Q', raw[at:at + 8])[0]
                # pylint: disable=protected-access
                _put(result, first + k, model._cluster(word, 0, model.cluster))
    return result


def snapshots(model):
    """(id and name, L1 offset, L1 size, bytes of disk, bytes of VM state)."""
    at = model.u64(64)
    for _ in range(min(model.u32(60), 64)):
        raw = model.data[at:at + SNAPSHOT_HEADER.size]
        if len(raw) < SNAPSHOT_HEADER.size:
            return
        offset, size, id_size, name_size, _, _, _, state, extra_size = \
            SNAPSHOT_HEADER.unpack(raw)
        at += SNAPSHOT_HEADER.size
        extra = model.data[at:at + extra_size]
        disk = model.size
        if len(extra) >= 16:
            state, disk = struct.unpack('>QQ', extra[:16])
        names = model.data[at + extra_size:at + extra_size + id_size +
                           name_size]
        yield (names[:id_size], names[id_size:]), offset, size, disk, state
        at = at + extra_size + id_size + name_size + 7 & ~7


def _read_snapshot(model, l1_offset, l1_size, disk, state):
    span = model.entries * model.cluster
    if disk > 1 << 30 or state > 1 << 30:
        return None
    size = (disk + span - 1) // span * span + state if state else disk
    if l1_offset % model.cluster:
        return None
    result = read_disk(model, l1_offset, l1_size, size)
    result['size'] = struct.pack('>QQ', disk, state)
    return result


def _bitmap_table(model, table, entries):
    result = {}
    for i in range(entries):
        where = table + 8 * i
        entry = model.u64(where)
        offset = entry & OFFSET_MASK
        if where + 8 > len(model.data) or offset % model.cluster or \
           entry & ~(OFFSET_MASK | ALL_ONES) or \
           (offset and entry & ALL_ONES) or offset >= len(model.data):
            result[i] = BAD
        elif offset:
            _put(result, i, model.data[offset:offset + model.cluster]
                 .ljust(model.cluster, b'\0'))
        elif entry:
            result[i] = b'\xff' * model.cluster
    return result


def _bitmaps(model):
    """(name, contents) of those that can be used."""
    at = model.u32(100) if model.version > 2 else 72
    while model.u32(at) not in (0, 0x23852875) and at < model.cluster:
        at += 8 + (model.u32(at + 4) + 7 & ~7)
    if model.u32(at) != 0x23852875 or not model.u64(88) & 1:
        return
    nb, size, at = model.u32(at + 8), model.u64(at + 16), model.u64(at + 24)
    end = at + size
    for _ in range(min(nb, 64)):
        raw = model.data[at:at + BITMAP_HEADER.size]
        if len(raw) < BITMAP_HEADER.size:
            return
        table, entries, flags, kind, bits, name_size, extra = \
            BITMAP_HEADER.unpack(raw)
        at += BITMAP_HEADER.size + extra
        name = model.data[at:at + name_size]
        at = at + name_size + 7 & ~7
        if at > end:
            return
        if flags & ~2 or kind != 1 or not 9 <= bits <= 31 or extra or \
           table % model.cluster or not table or table >= len(model.data):
            continue
        bytes_each = (8 * model.cluster) << bits
        if entries != (model.size + bytes_each - 1) // bytes_each:
            continue
        result = _bitmap_table(model, table, entries)
        result['is'] = bytes([bits, flags])
        yield ('bitmap', name), result


def contents(path):
    """Nothing of an image that cannot be opened."""
    with open(path, 'rb') as f:
        data = f.read()
    try:
        model = Model(data, os.path.dirname(path))
    except (Invalid, Unsupported):
        return {}
    if model.size > 1 << 30 or model.l1_offset % model.cluster or \
       not model.l1_offset:
        return {}
    result = {'disk': read_disk(model, model.l1_offset, model.l1_size,
                                model.size)}
    result['disk']['size'] = struct.pack('>Q', model.size)
    for name, *rest in snapshots(model):
        one = _read_snapshot(model, *rest)
        if one is not None:
            result[name] = one
    bitmaps = list(_bitmaps(model))
    names = [name for name, _ in bitmaps]
    # Of two with one name nobody knows which is meant.
    result.update((name, bits) for name, bits in bitmaps
                  if names.count(name) == 1)
    return result


def losses(original, before, after, given_up=False):
    """What a repair made worse: (name, number, why). What was readable stays as
    it was, or becomes what it had been before the damage; what was not remains
    so, or becomes that. @given_up: or becomes zeroes, which the repair said."""
    for name, was in before.items():
        if name not in original:
            continue
        now, first = after.get(name), original[name]
        if now is None and name[0] == 'bitmap' and BAD in was.values():
            continue    # nobody could use it as a whole
        if now is None:
            yield name, None, 'is gone'
            continue
        for key in was.keys() | now.keys() | first.keys():
            right = first.get(key)
            if now.get(key) == right:
                continue
            if was.get(key) == right:
                yield name, key, 'was right and is not'
            elif now.get(key) != was.get(key) and not (
                    given_up and was.get(key) == BAD and key not in now):
                yield name, key, 'was wrong and is so in another way'
    for name, now in after.items():
        if name in original and name not in before:
            yield from ((name, key, 'came back with something else')
                        for key in now.keys() | original[name].keys()
                        if now.get(key) not in (original[name].get(key), BAD))
