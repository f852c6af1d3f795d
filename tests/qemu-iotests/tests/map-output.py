#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw qcow2
"""map: ranges, the window, both outputs; the same as the distribution's."""
import os

import iotests


class Map(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '4M')
        if self.fmt == 'raw':
            # A new raw file may have a first block with data in it.
            self.write_file('a', b'')
            os.truncate(self.path('a'), 4 << 20)
        self.io('a', 'write -P 1 1M 128k', 'write -P 2 3M 64k')

    def covered(self, ranges, start, end):
        """The ranges follow on one another from start to end."""
        for r in ranges:
            self.assertEqual(r['start'], start)
            start += r['length']
        self.assertEqual(start, end)

    def test_data_and_holes(self):
        ranges = self.img_json('map', '-f', self.fmt, 'a')
        self.covered(ranges, 0, 4 << 20)
        self.assertEqual([(r['start'], r['length']) for r in ranges
                          if r['data']],
                         [(1 << 20, 128 << 10), (3 << 20, 64 << 10)])
        for r in ranges:
            self.assertEqual(r['depth'], 0)
            self.assertIs(r['zero'], not r['data'])
            self.assertIs(r['present'], r['data'] or self.fmt == 'raw')

    def test_offsets_lead_to_the_data(self):
        for r in self.img_json('map', '-f', self.fmt, 'a'):
            if r['data']:
                byte = b'\1' if r['start'] == 1 << 20 else b'\2'
                self.assertEqual(self.read_file('a', r['offset'], r['length']),
                                 byte * r['length'], r)

    def test_window(self):
        ranges = self.img_json('map', '-f', self.fmt, '-s', '1088k', '-l',
                               '2M', 'a')
        self.covered(ranges, 1088 << 10, (1088 << 10) + (2 << 20))
        self.assertTrue(ranges[0]['data'])

    def test_window_past_the_end(self):
        ranges = self.img_json('map', '-f', self.fmt, '-s', '3M', '-l', '9M',
                               'a')
        self.covered(ranges, 3 << 20, 4 << 20)

    def test_human(self):
        lines = self.img('map', '-f', self.fmt, 'a').stdout.split('\n')
        self.assertRegex(lines[0], r'^Offset +Length +Mapped to +File$')
        self.assertEqual([line.split()[:2] + line.split()[3:]
                          for line in lines[1:] if line],
                         [['0x100000', '0x20000', 'a'],
                          ['0x300000', '0x10000', 'a']])

    def test_compressed_has_no_place(self):
        if self.fmt != 'qcow2':
            return
        self.io('a', 'write -c -P 3 2M 64k')
        self.img_fails('compressed', 'map', 'a')
        self.assertNotIn('offset', [r for r in self.img_json('map', 'a')
                                    if r['start'] == 2 << 20][0])

    def test_agrees_with_the_distribution(self):
        self.io('a', 'write -z 64k 128k', 'write -P 4 2M 1k',
                'discard 1M 64k')
        ours = self.img_json('map', '-f', self.fmt, 'a')
        for r in ours:
            r.pop('compressed', None)
        self.assertEqual(ours, self.ref_json('map', '-f', self.fmt, 'a'))
        self.assertEqual(self.img('map', '-f', self.fmt, 'a').stdout,
                         self.ref('map', '-f', self.fmt, 'a').stdout)

    def test_empty_image(self):
        self.create('e', '0')
        self.covered(self.img_json('map', '-f', self.fmt, 'e'), 0, 0)


if __name__ == '__main__':
    iotests.main()
