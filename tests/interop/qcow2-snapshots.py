#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: interop
# formats: any
"""Internal snapshots taken, applied and deleted in turn by our tools and by the
distribution's, between random writes of both. After each step both sides find
the image clean, and list and show every snapshot as it was."""
import iotests
from iotests import LONG, rng
from guest import Guest

SHAPES = {
    'v3': 'compat=1.1,cluster_size=64k',
    'v3_4k': 'compat=1.1,cluster_size=4k',
    'v3_512': 'compat=1.1,cluster_size=512,refcount_bits=8',
    'v3_wide': 'compat=1.1,cluster_size=4k,refcount_bits=64',
    'v3_narrow': 'compat=1.1,cluster_size=1k,refcount_bits=4',
    'v3_lazy': 'compat=1.1,cluster_size=4k,lazy_refcounts=on',
    'v3_zstd': 'compat=1.1,cluster_size=16k,compression_type=zstd',
    'v2': 'compat=0.10,cluster_size=4k',
    'v2_512': 'compat=0.10,cluster_size=512',
}
MOST = 4


class Snapshots(iotests.TestCase):
    def start(self, options, random):
        self.random = random
        self.cluster = {'64k': 65536, '4k': 4096, '512': 512, '1k': 1024,
                        '16k': 16384}[options.split('cluster_size=')[1]
                                      .split(',')[0]]
        self.size = 64 * self.cluster
        img = random.choice((self.img, self.ref))
        img('create', '-q', '-f', 'qcow2', '-o', options, 'image',
            str(self.size))
        # Names and contents, in order.
        self.snapshots = []
        self.count = 0
        self.guest = self.new_guest(b'')

    def new_guest(self, content):
        # Compressed writes fail where something is allocated, which after
        # going back to a snapshot the guest does not know.
        return Guest(self.random, self.size, self.cluster, content,
                     compress=not content)

    def side(self):
        return self.random.choice(((self.img, self.io), (self.ref,
                                                         self.ref_io)))

    def write(self):
        _, io = self.side()
        for command in self.guest.commands(12):
            io('image', command, fmt='qcow2')

    def create(self):
        img, _ = self.side()
        name = f's{self.count}'
        self.count += 1
        img('snapshot', '-c', name, 'image')
        self.snapshots.append((name, bytes(self.guest.disk)))

    def apply(self):
        img, _ = self.side()
        name, content = self.random.choice(self.snapshots)
        img('snapshot', '-a', name, 'image')
        self.guest = self.new_guest(content)

    def delete(self):
        img, _ = self.side()
        name, content = self.random.choice(self.snapshots)
        img('snapshot', '-d', name, 'image')
        self.snapshots.remove((name, content))

    def verify(self):
        self.write_file('model', bytes(self.guest.disk))
        for img in (self.img, self.ref):
            img('check', '-f', 'qcow2', 'image')
            img('compare', '-f', 'raw', '-F', 'qcow2', 'model', 'image')
            for name, content in self.snapshots:
                img('convert', '-f', 'qcow2', '-O', 'raw', '-l', name,
                    'image', 'shown')
                self.assertEqual(self.read_file('shown'), content, name)
        ours = self.img_json('info', 'image').get('snapshots', [])
        theirs = self.ref_json('info', 'image').get('snapshots', [])
        self.assertEqual(ours, theirs)
        self.assertEqual([s['name'] for s in ours],
                         [name for name, _ in self.snapshots])

    def run_shape(self, options, random):
        self.need_reference()
        self.start(options, random)
        for _ in range(30 if LONG else 7):
            self.write()
            step = self.create
            if self.snapshots and random.random() < .6:
                step = random.choice((self.apply, self.apply, self.delete))
            elif len(self.snapshots) >= MOST:
                step = self.delete
            with self.subTest(step.__name__):
                step()
                self.verify()
        while self.snapshots:
            self.delete()
            self.verify()


def make_test(options, name, round_number):
    def test(self):
        self.run_shape(options, rng(f'snapshots {name} {round_number}'))
    return test


for _name, _options in SHAPES.items():
    for _round in range(8 if LONG else 1):
        setattr(Snapshots, f'test_{_name}_{_round}',
                make_test(_options, _name, _round))


if __name__ == '__main__':
    iotests.main()
