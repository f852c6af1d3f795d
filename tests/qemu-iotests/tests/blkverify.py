#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick rw
# formats: raw qcow2
"""blkverify: an image beside a raw one, until they differ."""
import iotests


class Blkverify(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.img('create', '-f', 'raw', 'raw', '1M')
        self.create('img', '1M')

    def options(self):
        return ('driver=blkverify,raw.driver=file,raw.filename=raw,'
                f'test.driver={self.fmt},test.file.driver=file,'
                'test.file.filename=img')

    def both(self, *commands, **kwargs):
        return self.io(self.options(), *commands, fmt=None,
                       options=['--image-opts'], **kwargs)

    def test_same(self):
        self.both('write -P 1 0 64k', 'write -z 32k 64k', 'read -P 1 0 32k',
                  'read -P 0 32k 32k', 'read 1000 5000', 'flush',
                  'write -P 3 700 9000', 'read -P 3 700 9000',
                  'truncate 2M', 'length', 'write -P 4 1M 64k',
                  'read -P 4 1M 64k')
        self.assert_same('raw', 'img', a_fmt='raw')

    def test_different(self):
        self.io('img', 'write -P 5 64k 512')
        self.io_fails(
            'blkverify: read offset=65000 bytes=2000 contents mismatch at '
            'offset 65536', self.options(), 'read 0 64k', 'read 65000 2000',
            'read 0 64k', fmt=None, options=['--image-opts'])

    def test_one_fails(self):
        self.io_fails(
            'blkverify: write offset=0 bytes=512 return value mismatch -5 != 0',
            'driver=blkverify,raw.driver=file,raw.filename=raw,'
            'test.driver=blkdebug,test.image.driver=file,'
            'test.image.filename=img,test.inject-error.0.event=none,'
            'test.inject-error.0.iotype=write', 'write 0 512', fmt=None,
            options=['--image-opts'])

    def test_name(self):
        self.io('blkverify:raw:img', 'write -P 1 64k 64k', 'read -P 1 64k 64k',
                fmt='raw')
        self.assert_same('raw', 'img', a_fmt='raw')
        self.io_fails('blkverify requires raw copy and original image path',
                      'blkverify:raw', 'read 0 1', fmt='raw')

    def test_reopen(self):
        self.both('write -P 1 0 64k', 'reopen -r', 'read -P 1 0 64k',
                  'reopen -w', 'write -P 2 0 64k', 'read -P 2 0 64k')
        self.assert_same('raw', 'img', a_fmt='raw')


if __name__ == '__main__':
    iotests.main()
