#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: interop
# formats: any
"""Images with an external data file, made and written in turn by our tools and
by the distribution's: both find them clean, and see the same data, map and
information."""
import iotests
from iotests import LONG, rng
from guest import Guest

SHAPES = {
    '64k': 'cluster_size=64k',
    '4k': 'cluster_size=4k',
    '512': 'cluster_size=512,refcount_bits=1',
    'lazy': 'cluster_size=4k,lazy_refcounts=on',
    'metadata': 'cluster_size=4k,preallocation=metadata',
    'raw': 'cluster_size=4k,data_file_raw=on',
    'raw_64k': 'cluster_size=64k,data_file_raw=on',
    'backing': 'cluster_size=4k,backing_file=base,backing_fmt=raw',
    'luks': 'cluster_size=4k,encrypt.format=luks',
    'luks_subclusters': 'cluster_size=64k,extended_l2=on,encrypt.format=luks',
}
SECRET = ('--object', 'secret,id=s,data=abc')


class DataFile(iotests.TestCase):
    def sides(self):
        return ((self.img, self.io), (self.ref, self.ref_io))

    def start(self, options, random):
        self.random = random
        cluster = {'64k': 65536, '4k': 4096, '512': 512}[
            options.split('cluster_size=')[1].split(',')[0]]
        self.size = 40 * cluster + random.choice((0, 512))
        self.cluster = cluster
        content = b''
        if 'backing' in options:
            content = bytes(random.randrange(1, 250)
                            for _ in range(self.size // 512)) * 512
            self.write_file('base', content[:self.size])
        self.image = 'driver=qcow2,file.filename=image'
        if 'encrypt' in options:
            self.image += ',encrypt.key-secret=s'
            options += ',encrypt.key-secret=s,encrypt.iter-time=10'
        img, _ = random.choice(self.sides())
        self.create(img, options)
        self.raw = 'data_file_raw' in options
        self.guest = Guest(random, self.size, cluster, content,
                           compress=False)

    def create(self, img, options):
        img('create', '-q', '-f', 'qcow2', *SECRET, '-o',
            f'data_file=data,{options}', 'image', str(self.size))

    def write(self):
        """The distribution's qemu-io lets a raw data file differ from what the
        guest sees where it discards, so there only ours does that."""
        _, io = self.random.choice(self.sides())
        for command in self.guest.commands(12):
            side = self.io if self.raw and 'discard' in command else io
            side(self.image, command, fmt=None,
                 options=['-d', 'unmap', *SECRET, '--image-opts'])

    def resize(self):
        img, _ = self.random.choice(self.sides())
        size = self.random.randrange(20, 60) * self.cluster
        img('resize', '-q', *SECRET, '--image-opts', '--shrink', self.image,
            str(size))
        self.guest = Guest(self.random, size, self.cluster,
                           bytes(self.guest.disk[:size]), compress=False)

    @staticmethod
    def plain_map(ranges):
        """What both tell of data, without what only newer tools do."""
        return [(r['start'], r['length'], r['depth'], r.get('present'),
                 r['data'], r.get('offset')) for r in ranges]

    def verify(self):
        self.write_file('model', bytes(self.guest.disk))
        for img, _ in self.sides():
            img('check', *SECRET, '--image-opts', self.image)
            img('compare', *SECRET, '--image-opts',
                'driver=raw,file.filename=model', self.image)
        about = (*SECRET, '--image-opts', self.image)
        ours = self.img_json('info', *about)
        theirs = self.ref_json('info', *about)
        self.assertEqual(ours['format-specific'], theirs['format-specific'])
        self.assertEqual(ours['virtual-size'], theirs['virtual-size'])
        if not self.raw:
            # Theirs does not look for holes in the data file.
            self.assertEqual(
                self.plain_map(self.img_json('map', *about)),
                self.plain_map(self.ref_json('map', *about)))

    def run_shape(self, options, random):
        self.need_reference()
        self.start(options, random)
        self.verify()
        for _ in range(12 if LONG else 3):
            self.write()
            self.verify()
            if random.random() < .4 and 'backing' not in options:
                self.resize()
                self.verify()

    def test_encrypted_raw(self):
        """Theirs makes them, ours does not; both read and write them."""
        self.need_reference()
        self.random, self.size = rng('encrypted raw'), 1 << 20
        self.image = 'driver=qcow2,file.filename=image,encrypt.key-secret=s'
        options = ('data_file_raw=on,encrypt.format=luks,encrypt.key-secret=s,'
                   'encrypt.iter-time=10')
        result = self.img('create', '-q', '-f', 'qcow2', *SECRET, '-o',
                          f'data_file=data,{options}', 'other', '1M', rc=1)
        self.assertIn('data-file-raw is not possible with encryption',
                      result.stderr)
        self.create(self.ref, options)
        about = [*SECRET, '--image-opts']
        for one, other in ((self.ref_io, self.io), (self.io, self.ref_io)):
            one(self.image, 'write -P 5 0 128k', 'write -P 6 300k 1000',
                'write -z 64k 64k', fmt=None, options=about)
            other(self.image, 'read -P 5 0 64k', 'read -P 0 64k 64k',
                  'read -P 6 300k 1000', 'write -P 7 64k 1k', fmt=None,
                  options=about)
            one(self.image, 'read -P 7 64k 1k', 'read -P 0 65k 63k', fmt=None,
                options=about)

    def test_damage_is_told_alike(self):
        """Entries that no image with a data file has."""
        self.need_reference()
        for entry in ((1 << 62) | 0x10000, 0x10000, 0x8000000000010200):
            with self.subTest(hex(entry)):
                self.img('create', '-q', '-f', 'qcow2', '-o', 'data_file=data',
                         'image', '1M')
                self.io('image', 'write 64k 64k', fmt='qcow2')
                self.set_entry(1, entry)
                ours = self.img('check', '-f', 'qcow2', 'image', rc=2)
                theirs = self.ref('check', '-f', 'qcow2', 'image', rc=2)
                self.assertEqual(ours.stderr, theirs.stderr)

    def set_entry(self, index, entry):
        l1 = int.from_bytes(self.read_file('image', 40, 8), 'big')
        l2 = int.from_bytes(self.read_file('image', l1, 8), 'big')
        self.patch_file('image', (l2 & 0x00fffffffffffe00) + index * 8,
                        entry.to_bytes(8, 'big'))


def make_test(options, name, round_number):
    def test(self):
        self.run_shape(options, rng(f'data file {name} {round_number}'))
    return test


for _name, _options in SHAPES.items():
    for _round in range(8 if LONG else 1):
        setattr(DataFile, f'test_{_name}_{_round}',
                make_test(_options, _name, _round))


if __name__ == '__main__':
    iotests.main()
