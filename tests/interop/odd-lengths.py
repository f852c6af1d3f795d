#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""A file whose length is no multiple of 512 is a disk of whole sectors, on every
kind of node: both sides say so, read the same, and leave the same file behind."""
import re

import iotests

LENGTH = 5250
NODES = ('driver=file,filename=w', 'driver=raw,file.filename=w',
         'driver=blkdebug,image.driver=file,image.filename=w')
# Of a command: how long it took; of a map: what QEMU 7.2 does not tell.
VOLATILE = re.compile(r', 1 ops;.*| \([0-9.]+ \w+/sec and.*'
                      r'|"compressed": false, ')


class OddLengths(iotests.TestCase):
    def both(self, *commands, node, rc=0):
        """Runs commands (lists for qemu-img, strings for qemu-io) by each side
        on a file of its own; both print the same and leave the same."""
        seen = []
        for img, io in (self.img, self.io), (self.ref, self.ref_io):
            self.write_file('w', self.data)
            text = []
            for c in commands:
                if isinstance(c, str):
                    r = io(node, c, fmt=None, options=['--image-opts'], rc=rc)
                else:
                    r = img(*c, rc=rc)
                text.append(VOLATILE.sub('', r.stdout))
            seen.append((text, self.read_file('w')))
        self.assertEqual(seen[0], seen[1], (node, commands))
        return seen[0]

    def setUp(self):
        super().setUp()
        self.data = bytes(range(1, 251)) * 21
        self.write_file('odd', self.data)

    def each(self, *commands, rc=0):
        for node in NODES:
            with self.subTest(node=node, commands=commands):
                yield self.both(*commands, node=node, rc=rc)

    def test_length(self):
        for text, _ in self.each('length'):
            self.assertEqual(text, ['5.500 KiB\n'])
        for node in NODES:
            self.write_file('w', self.data)
            info = self.img_json('info', '--image-opts', node)
            self.assertEqual(info['virtual-size'], 5632)

    def test_reading_changes_nothing(self):
        for _, data in self.each('read -v 5240 20', 'read 5120 512', 'flush',
                                 'map', 'alloc 0 5632'):
            self.assertEqual(data, self.data)

    def test_beyond_the_last_sector(self):
        for _, data in self.each('read 5620 13', 'write 5620 13', rc=1):
            self.assertEqual(data, self.data)

    def test_writing_the_last_sector(self):
        for command in ('write -P 7 5200 200', 'write -P 7 5500 132',
                        'write -z 5200 300', 'write -z 5120 512',
                        'write -P 7 0 5632', 'discard 5120 512'):
            for _ in self.each(command):
                pass

    def test_map(self):
        for node in NODES:
            for form in 'json', 'human':
                self.both(['map', '--image-opts', '--output=' + form, node],
                          node=node)
        # And of a hole.
        self.data = bytes(LENGTH)
        self.both(['map', '--image-opts', '--output=json', NODES[1]],
                  node=NODES[1])

    def test_resize(self):
        for size in '+512', '+1', '6000', '6144', '5250', '700', '5632':
            for node in NODES[:2]:
                with self.subTest(size=size, node=node):
                    self.both(['resize', '--shrink', '--image-opts', node,
                               size], node=node)

    def test_convert(self):
        for node in NODES:
            for fmt in 'raw', 'qcow2':
                with self.subTest(node=node, fmt=fmt):
                    self.write_file('w', self.data)
                    self.img('convert', '--image-opts', '-O', fmt, node, 'o')
                    self.ref('convert', '--image-opts', '-O', fmt, node, 'r')
                    self.ref('compare', '-f', fmt, '-F', fmt, 'o', 'r')
                    self.img('compare', '-s', '-f', fmt, '-F', fmt, 'o', 'r')
                    self.img('compare', '-F', fmt, 'w', 'o')
                    self.assertEqual(self.img_json('info', 'o')['virtual-size'],
                                     5632)

    def test_convert_several(self):
        self.write_file('w', self.data)
        self.img('convert', '-f', 'raw', '-O', 'raw', 'w', 'odd', 'w', 'o')
        self.ref('convert', '-f', 'raw', '-O', 'raw', 'w', 'odd', 'w', 'r')
        self.assertEqual(self.read_file('o'), self.read_file('r'))

    def test_convert_to_an_odd_file(self):
        for node in NODES[:2]:
            self.both(['convert', '-n', '--image-opts', '--target-image-opts',
                       'driver=raw,file.filename=odd', node], node=node)

    def test_backing_file(self):
        self.img('create', '-q', '-f', 'qcow2', '-b', 'odd', '-F', 'raw', 'o')
        self.ref('create', '-q', '-f', 'qcow2', '-b', 'odd', '-F', 'raw', 'r')
        self.assertEqual(self.read_file('o'), self.read_file('r'))
        self.img('resize', '-q', 'o', '8k')
        self.ref('compare', '-F', 'raw', 'o', 'odd')
        mine, theirs = (VOLATILE.sub('', f('map', '--output=json', 'o').stdout)
                        for f in (self.img, self.ref))
        self.assertEqual(mine.replace(', "compressed": false', ''), theirs)

    def test_window_with_an_odd_offset(self):
        """QEMU 7.2 fails an assertion in some of these."""
        self.write_file('w', self.data)
        node = 'driver=raw,offset=100,file.filename=w'
        self.img('convert', '--image-opts', '-O', 'raw', node, 'o')
        want = self.data[100:] + bytes(5632 - (LENGTH - 100))
        self.assertEqual(self.read_file('o'), want)
        self.img('map', '--image-opts', node)

    def test_qcow2_with_an_odd_size(self):
        """Written by nobody; it ends with its last whole sector."""
        self.img('create', '-q', '-f', 'qcow2', 'w', '64k')
        self.patch_file('w', 24, (1000).to_bytes(8, 'big'))
        self.assertEqual(self.img_json('info', 'w')['virtual-size'],
                         self.ref_json('info', 'w')['virtual-size'])


if __name__ == '__main__':
    iotests.main()
