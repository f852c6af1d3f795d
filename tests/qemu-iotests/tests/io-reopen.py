#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick io
# formats: raw qcow2
"""reopen in qemu-io: read-only and back, cache modes, options; what cannot be
changed is named and everything stays as it was."""
import os

import iotests


class IoReopen(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '1M')

    def both(self, *commands, **kwargs):
        result = self.io('a', *commands, rc=None, **kwargs)
        return result.stdout + result.stderr

    def test_read_only_and_back(self):
        out = self.both('write -P 1 0 512', 'reopen -r', 'write -P 2 0 512',
                        'read -P 1 0 512', 'reopen -w', 'write -P 3 0 512',
                        'read -P 3 0 512')
        self.assertIn('Block node is read-only', out)
        self.assertEqual(out.count('wrote 512/512'), 2)
        self.assertNotIn('Pattern', out)
        self.assert_clean('a')

    def test_open_read_only_then_write(self):
        self.io('a', 'reopen -w', 'write -P 4 0 4k', 'read -P 4 0 4k',
                options=['-r'])
        self.io('a', 'read -P 4 0 4k')

    def test_cache_mode(self):
        for mode in ('none', 'writeback', 'unsafe', 'writethrough',
                     'directsync'):
            with self.subTest(mode):
                self.io('a', 'write -P 1 0 64k', f'reopen -c {mode}',
                        'write -P 2 100 3000', 'read -P 2 100 3000',
                        'read -P 1 4k 60k')
        self.assertRegex(self.both('reopen -c nope'), 'nope|cache')
        self.assert_clean('a')

    def test_unknown_option(self):
        out = self.both('reopen -o bogus=1', 'write -P 1 0 512')
        self.assertRegex(out, "bogus")
        self.assertIn('wrote', out)

    def test_what_cannot_change(self):
        for option in ('driver=null-co', 'node-name=x', 'file.filename=other'):
            with self.subTest(option):
                out = self.both(f'reopen -o {option}', 'write -P 1 0 512')
                self.assertRegex(out, 'Cannot change')
                self.assertIn('wrote', out)

    def test_driver_options(self):
        if self.fmt == 'raw':
            return
        self.io('a', 'write -P 1 0 256k', 'reopen -o l2-cache-size=64k',
                'read -P 1 0 256k', 'reopen -o lazy-refcounts=on',
                'write -P 2 256k 64k', 'reopen -o lazy-refcounts=off',
                'write -P 3 512k 64k', 'read -P 2 256k 64k')
        out = self.both('reopen -o l2-cache-size=x', 'read -P 1 0 64k')
        self.assertIn('l2-cache-size', out)
        out = self.both('reopen -o overlap-check=nope', 'read -P 1 0 64k')
        self.assertIn('nope', out)
        self.assert_clean('a')

    def test_unlinked_file_becomes_read_only(self):
        """Only permissions are given up: nothing needs the path again."""
        process = self.io_process('-f', self.fmt, 'a')
        process.cmd('write -P 7 0 64k')
        os.unlink(self.path('a'))
        out = process.cmd('reopen -r')
        self.assertEqual(out, '')
        self.assertIn('read-only', process.cmd('write 0 512'))
        self.assertNotIn('failed', process.cmd('read -P 7 0 64k'))
        process.quit()

    def test_renamed_file_becomes_read_only(self):
        process = self.io_process('-f', self.fmt, 'a')
        process.cmd('write -P 7 0 64k')
        os.rename(self.path('a'), self.path('b'))
        self.assertEqual(process.cmd('reopen -r'), '')
        self.assertNotIn('failed', process.cmd('read -P 7 0 64k'))
        # Nothing is locked for writing any more: others may write.
        if self.fmt == 'raw':
            self.io('b', 'write -P 8 0 64k')
        process.quit()

    def test_with_a_backing_file(self):
        if self.fmt == 'raw':
            return
        self.img('create', '-q', '-f', 'qcow2', '-b', 'a', '-F', 'qcow2',
                 'top')
        self.io('top', 'write -P 1 0 64k', 'reopen -r', 'read -P 1 0 64k',
                'reopen -w', 'write -P 2 64k 64k', 'read -P 2 64k 64k',
                'read -P 0 128k 64k')
        self.assert_clean('top')


if __name__ == '__main__':
    iotests.main()
