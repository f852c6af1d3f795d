#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick rw qmp
# formats: qcow2
"""preallocate below an image: the file is ahead of the image while it is written,
and ends where it should when it is closed or becomes read-only."""
import os

import iotests

SIZE = 16 << 20
RESERVED = 8 << 20


class Preallocate(iotests.TestCase):
    def node(self, **options):
        return {'driver': 'preallocate', 'node-name': 'pre',
                'prealloc-size': RESERVED, **options,
                'file': {'driver': 'file', 'filename': 'a.img',
                         'node-name': 'file'}}

    def setUp(self):
        super().setUp()
        self.create('a.img', SIZE)

    def length(self, name):
        return os.path.getsize(self.path(name))

    def test_same_image(self):
        """With the filter and without, the image is the same."""
        self.create('b.img', SIZE)
        writes = [f'write -P {i + 1} {i * 3}M 700k' for i in range(5)]
        self.io('driver=qcow2,file.driver=preallocate,file.file.driver=file,'
                'file.file.filename=a.img', *writes, fmt=None,
                options=['--image-opts'])
        self.io('b.img', *writes)
        self.assert_same('a.img', 'b.img')
        self.assertEqual(self.length('a.img'), self.length('b.img'))
        self.img('check', 'a.img')

    def test_bad_options(self):
        for option, message in (
                ('prealloc-align=100', 'is not aligned to 512'),
                ('prealloc-align=0', 'is not aligned to 512'),
                ('prealloc-size=8E', 'prealloc-size parameter of preallocate '
                                     'filter is too large')):
            self.io_fails(message, f'driver=preallocate,{option},file.driver='
                          'file,file.filename=a.img', 'read 0 1', fmt=None,
                          options=['--image-opts'])

    def test_daemon(self):
        daemon = self.daemon()
        qmp = daemon.connect()
        qmp.cmd('blockdev-add', self.node())
        qmp.cmd('blockdev-add', {'driver': 'qcow2', 'node-name': 'top',
                                 'file': 'pre'})
        qmp.cmd('nbd-server-start', {'addr': {
            'type': 'unix', 'data': {'path': 'nbd.sock'}}})
        qmp.cmd('block-export-add', {'type': 'nbd', 'id': 'e', 'name': 'e',
                                     'node-name': 'top', 'writable': True})
        before = self.length('a.img')
        self.io('nbd+unix:///e?socket=nbd.sock', 'write -P 7 0 1M', fmt='raw')
        self.assertGreaterEqual(self.length('a.img'), before + RESERVED)
        qmp.cmd('block-export-del', {'id': 'e'})
        qmp.event('BLOCK_EXPORT_DELETED')
        qmp.cmd('blockdev-reopen', {'options': [
            {**self.node(), 'prealloc-size': 4096, 'file': 'file'}]})
        qmp.cmd('blockdev-reopen', {'options': [
            {'driver': 'qcow2', 'node-name': 'top', 'file': 'pre',
             'read-only': True}]})
        self.assertLess(self.length('a.img'), before + RESERVED)
        self.qmp_fails('is not aligned to 512', qmp, 'blockdev-reopen', {
            'options': [{**self.node(), 'prealloc-align': 1, 'file': 'file'}]})
        self.assertEqual(daemon.stop(), 0)
        self.img('check', 'a.img')
        self.io('a.img', 'read -P 7 0 1M')


if __name__ == '__main__':
    iotests.main()
