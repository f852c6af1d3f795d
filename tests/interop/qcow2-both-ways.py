#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: interop
# formats: any
# parts: 24
"""Random guests on qcow2 images of every shape, written in turn by our tools and
by the distribution's. After each turn both sides must find the image clean,
read what the model says, and agree about where the data is.

Each shape is a test. Without LONG a sample of them runs that has every value
of every parameter.
"""
import itertools

import iotests
from iotests import LONG, rng
from guest import Guest

CLUSTERS = (512, 4096, 65536, 2 << 20)
# v2 images have refcounts of 16 bits only.
WIDTHS = (('0.10', 16), ('1.1', 1), ('1.1', 16), ('1.1', 64))
# With extended L2 entries.
EXTENDED_CLUSTERS = (16384, 65536, 2 << 20)
BACKING = (None, 'raw', 'qcow2')
METHODS = ('zlib', 'zstd')


def shapes():
    """All (cluster size, extended L2, compat, refcount bits, backing,
    compression)."""
    for cluster, (compat, bits), backing, method in itertools.product(
            CLUSTERS, WIDTHS, BACKING, METHODS):
        if compat == '1.1' or method == 'zlib':
            yield cluster, 'off', compat, bits, backing, method
    for cluster, (compat, bits), backing, method in itertools.product(
            EXTENDED_CLUSTERS, WIDTHS, BACKING, METHODS):
        if compat == '1.1':
            yield cluster, 'on', compat, bits, backing, method


def sample():
    """Few shapes in which every value, and every pair of cluster size and
    version with width, occurs."""
    random = rng('sample of shapes')
    chosen = []
    for i, (cluster, (compat, bits)) in enumerate(
            itertools.product(CLUSTERS, WIDTHS)):
        backing = BACKING[(i + i // 4) % 3]
        method = random.choice(METHODS) if compat == '1.1' else 'zlib'
        chosen.append((cluster, 'off', compat, bits, backing, method))
    for cluster, backing in zip(EXTENDED_CLUSTERS, BACKING):
        chosen.append((cluster, 'on', '1.1', 16, backing,
                       random.choice(METHODS)))
    chosen.append((65536, 'on', '1.1', 1, 'raw', 'zlib'))
    return chosen


class BothWays(iotests.TestCase):
    def ours(self):
        return (self.img, self.io)

    def theirs(self):
        return (self.ref, self.their_guest)

    def their_guest(self, image, *commands, fmt):
        """QEMU 7.2 corrupts an image if one process frees the cluster that its
        last compressed write ended in, uses it for data, and then writes
        compressed again. So compressed writes begin a new process."""
        batch = []
        for command in commands:
            if ' -c ' in command and batch and ' -c ' not in batch[-1]:
                self.ref_io(image, *batch, fmt=fmt)
                batch = []
            batch.append(command)
        self.ref_io(image, *batch, fmt=fmt)

    def make_base(self, img, io, fmt, random, size):
        """A backing file that ends before the image does."""
        if fmt == 'qcow2':
            img('create', '-q', '-f', 'qcow2', 'base', str(size))
        else:
            self.write_file('base', bytes(size))
        guest = Guest(random, size, 65536, compress=False)
        # As a raw file the model needs no knowledge of discards.
        guest.discard = guest.write
        io('base', *guest.commands(20), fmt=fmt)
        return bytes(guest.disk)

    def verify(self, guest, label):
        self.write_file('model', bytes(guest.disk))
        for side, (img, _) in (('ours', self.ours()),
                               ('theirs', self.theirs())):
            with self.subTest(f'{label}, seen by {side}'):
                img('check', '-f', 'qcow2', 'image')
                img('compare', '-f', 'raw', '-F', 'qcow2', 'model', 'image')
        with self.subTest(f'{label}, map'):
            ours = self.img_json('map', 'image')
            for entry in ours:
                entry.pop('compressed', None)
            self.assertEqual(ours, self.ref_json('map', 'image'))

    def run_shape(self, first, second, shape, random):
        cluster, extended, compat, bits, backing, method = shape
        size = {512: 300 << 10, 4096: 2 << 20, 16384: 3 << 20,
                65536: 6 << 20, 2 << 20: 16 << 20}[cluster]
        # The last cluster is whole or not.
        size += random.choice((0, 512, cluster // 2 // 512 * 512))
        options = f'cluster_size={cluster},compat={compat}'
        if compat == '1.1':
            options += f',refcount_bits={bits},compression_type={method}'
            options += f',extended_l2={extended}'
        args = ['create', '-q', '-f', 'qcow2', '-o', options]
        content = b''
        if backing:
            base_size = random.choice((size, size // 2 // 512 * 512))
            content = self.make_base(*first, backing, random, base_size)
            args += ['-b', 'base', '-F', backing]
        first[0](*args, 'image', str(size))
        guest = Guest(random, size, cluster, content,
                      discard_zeroes=compat == '1.1' or not backing,
                      unit=cluster // 32 if extended == 'on' else cluster)
        for i, (_, io) in enumerate((first, second, first)):
            io('image', *guest.commands(200 if LONG else 40), fmt='qcow2')
            self.verify(guest, f'turn {i}')


def make_test(direction, shape):
    def test(self):
        self.need_reference()
        random = rng(f'{direction} {shape}')
        sides = self.ours(), self.theirs()
        self.run_shape(*(sides if direction == 'ours' else sides[::-1]),
                       shape, random)
    return test


for _shape in shapes() if LONG else sample():
    for _direction in ('ours', 'theirs'):
        _name = '_'.join(str(v).replace('.', '_') for v in _shape)
        setattr(BothWays, f'test_{_direction}_first_{_name}',
                make_test(_direction, _shape))


if __name__ == '__main__':
    iotests.main()
