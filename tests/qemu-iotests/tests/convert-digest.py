#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick convert
# formats: raw qcow2
"""convert --digest: the hash is that of the whole disk, however it is stored."""
import hashlib

import iotests

MIB = 1 << 20


class Digest(iotests.TestCase):
    def setUp(self):
        super().setUp()
        rng = self.rng()
        self.disk = bytearray(12 * MIB)
        for _ in range(20):
            at = rng.randrange(len(self.disk) - 70000)
            n = rng.randrange(1, 70000)
            self.disk[at:at + n] = rng.randbytes(n)
        self.write_file('raw', self.disk)
        self.img('convert', '-f', 'raw', '-O', self.fmt, 'raw', 'a')

    def check(self, *args, source='a', data=None, rc=0, option='--digest'):
        result = self.img('convert', option, *args, source, 'out', rc=rc)
        want = hashlib.sha256(data or self.disk).hexdigest()
        self.assertEqual(result.stdout, f'sha256:{want}  out\n')

    def test_of_what_is_written(self):
        self.check('-f', self.fmt, '-O', 'raw')
        self.assertEqual(self.read_file('out'), self.disk)

    def test_targets(self):
        for args in (['-S', '0'], ['-m', '1'], ['-m', '16'],
                     ['-O', 'qcow2'], ['-O', 'qcow2', '-c'],
                     ['-S', '64k', '-O', 'qcow2', '-o', 'cluster_size=2M']):
            self.check('-f', self.fmt, *args)

    def test_existing_target(self):
        self.create('out', '12M')
        self.io('out', 'write -P 9 0 12M')
        self.check('-f', self.fmt, '-O', self.fmt, '-n')

    def test_named(self):
        self.check('-f', self.fmt, option='--digest=sha256')
        self.img_fails("Unknown digest 'md5'", 'convert', '--digest=md5', 'a',
                       'out2')

    def test_odd_length(self):
        self.write_file('odd', b'x' * 70001)
        self.check('-f', 'raw', source='odd', data=b'x' * 70001 + bytes(143))

    def test_empty_disk(self):
        self.create('empty', '5M')
        self.check('-f', self.fmt, source='empty', data=bytes(5 * MIB))

    def test_several_sources(self):
        result = self.img('convert', '--digest', '-f', self.fmt, 'a', 'a',
                          'out')
        self.assertIn(hashlib.sha256(self.disk * 2).hexdigest(), result.stdout)

    def test_what_does_not_go_together(self):
        self.img_fails('does not go with -C and -W', 'convert', '--digest',
                       '-W', 'a', 'out')
        self.img_fails('not everything is read', 'convert', '--digest', '-O',
                       'qcow2', '-b', 'a', '-F', self.fmt, 'a', 'out')


if __name__ == '__main__':
    iotests.main()
