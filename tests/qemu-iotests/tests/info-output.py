#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw qcow2
"""info: every line of the text and every member of the JSON, for images that
the distribution's tool describes the same way."""
import json
import os

import iotests
from iotests.qcow2_bytes import Qcow2Bytes


class Info(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '5M')
        self.io('a', 'write 0 1M')

    def test_text(self):
        lines = self.img('info', '-f', self.fmt, 'a').stdout.split('\n')
        self.assertEqual(lines[:3], ['image: a', f'file format: {self.fmt}',
                                     'virtual size: 5 MiB (5242880 bytes)'])
        self.assertRegex(lines[3], r'^disk size: [0-9.]+ [KM]iB$')
        size = os.path.getsize(self.path('a'))
        child = lines[lines.index("Child node '/file':"):]
        self.assertEqual(child[:3], ["Child node '/file':", '    filename: a',
                                     '    protocol type: file'])
        self.assertIn(f'({size} bytes)', child[3])

    def test_text_as_the_distribution_has_it(self):
        """7.2 does not print child nodes; the rest is the same."""
        ours = self.img('info', '-f', self.fmt, 'a').stdout
        theirs = self.ref('info', '-f', self.fmt, 'a').stdout
        self.assertEqual(ours.split('Child node')[0], theirs)

    def test_json_as_the_distribution_has_it(self):
        ours = self.img_json('info', '-f', self.fmt, 'a')
        theirs = self.ref_json('info', '-f', self.fmt, 'a')
        children = ours.pop('children')
        self.assertEqual(ours, theirs)
        self.assertEqual(len(children), 1)
        self.assertEqual(children[0]['name'], 'file')
        self.assertEqual(children[0]['info']['format'], 'file')
        self.assertEqual(children[0]['info']['virtual-size'],
                         os.path.getsize(self.path('a')))

    def test_shapes_of_qcow2(self):
        if self.fmt != 'qcow2':
            return
        for options in ('compat=0.10', 'compat=0.10,cluster_size=512',
                        'refcount_bits=1,cluster_size=2M',
                        'lazy_refcounts=on', 'compression_type=zstd'):
            with self.subTest(options):
                self.create('b', '-o', options, '5M')
                ours = self.img('info', 'b').stdout.split('Child node')[0]
                self.assertEqual(ours, self.ref('info', 'b').stdout)
                ours = self.img_json('info', 'b')
                ours.pop('children')
                self.assertEqual(ours, self.ref_json('info', 'b'))

    def test_flags(self):
        if self.fmt != 'qcow2':
            return
        with Qcow2Bytes(self.path('a')) as image:
            image.set_u64(72, 3)
        info = self.img_json('info', 'a')
        self.assertIs(info['dirty-flag'], True)
        self.assertIs(info['format-specific']['data']['corrupt'], True)
        text = self.img('info', 'a').stdout
        self.assertIn('cleanly shut down: no\n', text)
        self.assertIn('    corrupt: true\n', text)

    def test_chain_in_json_is_a_list(self):
        chain = self.img_json('info', '-f', self.fmt, '--backing-chain', 'a')
        self.assertEqual(len(chain), 1)

    def test_limits(self):
        limits = self.img_json('info', '-f', self.fmt, '--limits',
                               'a')['limits']
        self.assertGreaterEqual(limits['request-alignment'], 1)
        self.assertIn('Block limits:', self.img('info', '-f', self.fmt,
                                                '--limits', 'a').stdout)

    def test_json_is_what_qmp_prints(self):
        text = self.img('info', '-f', self.fmt, '--output=json', 'a').stdout
        self.assertTrue(text.startswith('{\n    "'), text)
        json.loads(text)

    def test_nothing_is_written(self):
        before = self.read_file('a')
        self.img('info', '-f', self.fmt, 'a')
        self.img('info', '-U', '-f', self.fmt, 'a')
        self.assertEqual(self.read_file('a'), before)


if __name__ == '__main__':
    iotests.main()
