#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: qcow2
"""The filter compress: whatever is written below it is stored compressed."""
import iotests

FILTER = ('driver=compress,file.driver=qcow2,file.file.driver=file,'
          'file.file.filename=')


class CompressFilter(iotests.TestCase):
    def through(self, image, *commands, **kwargs):
        return self.io(FILTER + image, *commands, fmt=None,
                       options=['--image-opts'], **kwargs)

    def test_random_writes(self):
        rng = self.rng()
        self.img('create', '-q', '-f', 'qcow2', 'a', '2M')
        model = bytearray(2 << 20)
        commands = []
        for _ in range(30):
            start = rng.randrange(2 << 20)
            length = min(rng.choice([1, 500, 5000, 70000, 300000]),
                         (2 << 20) - start)
            value = rng.randrange(1, 256)
            commands.append(f'write -P {value} {start} {length}')
            model[start:start + length] = bytes([value]) * length
        self.through('a', *commands)
        self.assert_clean('a')
        self.img('convert', '-O', 'raw', 'a', 'raw')
        self.assertEqual(self.read_file('raw'), bytes(model))
        check = self.img_json('check', 'a')
        self.assertEqual(check['compressed-clusters'],
                         check['allocated-clusters'])

    def test_convert_to_it(self):
        """convert -n writes what is compressed without being asked to."""
        self.img('create', '-q', '-f', 'qcow2', 'from', '1M')
        self.io('from', 'write -P 1 0 300k')
        self.img('create', '-q', '-f', 'qcow2', 'to', '1M')
        for options in ((), ('-c',)):
            self.img('convert', '-n', '--target-image-opts', *options, 'from',
                     FILTER + 'to')
            self.assert_same('from', 'to')
            self.assertEqual(
                self.img_json('check', 'to')['compressed-clusters'], 5)

    def test_raw_is_refused(self):
        self.img('create', '-q', '-f', 'raw', 'raw', '1M')
        self.io_fails(
            'Compression is not supported for underlying format: raw',
            'driver=compress,file.driver=raw,file.file.driver=file,'
            'file.file.filename=raw', 'read 0 1', fmt=None,
            options=['--image-opts'])


if __name__ == '__main__':
    iotests.main()
