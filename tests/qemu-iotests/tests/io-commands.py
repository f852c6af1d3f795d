#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick io
# formats: raw qcow2
"""The commands of qemu-io: what they do, print, and how they fail."""
import re

import iotests

REPORT = (r'^{op} {n}/{n} bytes at offset {off}\n'
          r'.*, 1 ops; \d\d\.\d\d sec \(.*/sec and [0-9.]+ ops/sec\)\n$')


class IoCommands(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '4M')

    def out(self, *commands, **kwargs):
        return self.io('a', *commands, **kwargs).stdout

    def both(self, *commands, **kwargs):
        result = self.io('a', *commands, **kwargs)
        return result.stdout + result.stderr

    def test_report(self):
        for command, op, n, off in (('write 4k 8k', 'wrote', 8192, 4096),
                                    ('read 4k 8k', 'read', 8192, 4096),
                                    ('writev 0 1k 1k', 'wrote', 2048, 0),
                                    ('readv 0 1k 1k', 'read', 2048, 0),
                                    ('discard 0 64k', 'discard', 65536, 0),
                                    ('write -z 0 64k', 'wrote', 65536, 0),
                                    ('write 1 1', 'wrote', 1, 1)):
            with self.subTest(command):
                self.assertRegex(self.out(command),
                                 REPORT.format(op=op, n=n, off=off))
        self.assertEqual(self.out('write -q 0 4k', 'read -q 0 4k'), '')
        self.assertRegex(self.out('read -C 0 512'),
                         r'^512,1,0:00:00\.\d\d,[0-9.]+,[0-9.]+\n$')

    def test_patterns(self):
        self.io('a', 'write 0 4k', 'read -P 0xcd 0 4k', 'write -P 7 1k 1k',
                'read -P 7 1k 1k', 'read -P 0xcd 2k 2k', 'read -P 0 4k 4k',
                'read -P 7 -s 1k -l 1k 0 4k')

    def test_wrong_pattern(self):
        result = self.io('a', 'write -P 1 0 4k', 'read -P 2 0 4k', rc=1)
        self.assertIn('Pattern verification failed at offset 0, 4096 bytes',
                      result.stdout)

    def test_unaligned_requests(self):
        self.io('a', 'write -P 1 0 64k', 'write -P 2 1 1', 'write -P 3 511 2',
                'write -P 4 1000 3000', 'read -P 1 0 1', 'read -P 2 1 1',
                'read -P 1 2 509', 'read -P 3 511 2', 'read -P 1 513 487',
                'read -P 4 1000 3000', 'read -P 1 4000 100')
        self.assert_clean('a')

    def test_zeroes(self):
        self.io('a', 'write -P 1 0 1M', 'write -z 10000 50000',
                'write -z -u 128k 128k', 'write -z -u -f 512k 1000',
                'read -P 1 0 10000', 'read -P 0 10000 50000',
                'read -P 1 60000 71072', 'read -P 0 128k 128k',
                'read -P 0 512k 1000', 'read -P 1 525288 400k')
        self.assert_clean('a')

    def test_discard(self):
        self.io('a', 'write -P 1 0 1M', 'discard 128k 256k',
                'read -P 0 128k 256k', 'read -P 1 384k 640k')
        self.assert_clean('a')

    def test_discard_gives_space_back(self):
        self.io('a', 'write -P 1 0 4M')
        before = self.img_json('info', '-f', self.fmt, 'a')['actual-size']
        self.io('a', 'discard 1M 2M')
        after = self.img_json('info', '-f', self.fmt, 'a')['actual-size']
        self.assertLess(after, before - (1 << 20))
        # Not if discards are to be ignored.
        self.io('a', 'write -P 1 0 4M')
        self.io('a', 'discard 1M 2M', options=['-d', 'ignore'])
        self.io('a', 'read -P 1 0 4M')

    def test_file_as_pattern(self):
        data = self.rng().randbytes(10000)
        self.write_file('pattern', data)
        self.io('a', 'write -s pattern 4096 10000')
        self.img('convert', '-f', self.fmt, '-O', 'raw', 'a', 'out')
        self.assertEqual(self.read_file('out', 4096, 10000), data)

    def test_hex_dump(self):
        lines = self.out('write -q -P 0x41 0 32', 'read -v 0 32').split('\n')
        self.assertEqual(lines[0], '00000000:  ' + '41 ' * 16 + ' '
                         + 'A' * 16)
        self.assertTrue(lines[1].startswith('00000010:  41 '))

    def test_length_and_truncate(self):
        self.assertEqual(self.out('length'), '4 MiB\n')
        self.assertEqual(self.out('truncate 6M', 'length'), '6 MiB\n')
        self.assertEqual(self.out('write -q 5M 1M', 'truncate 5M', 'length',
                                  'truncate 6M', 'read -q -P 0 5M 1M'),
                         '5 MiB\n')
        self.assert_clean('a')

    def test_alloc_and_map(self):
        if self.fmt == 'raw':
            return
        out = self.out('write -q 64k 64k', 'alloc 0 256k', 'alloc 64k',
                       'map').split('\n')
        self.assertEqual(out[:2], ['65536/262144 bytes allocated at offset 0 '
                                   'bytes',
                                   '512/512 bytes allocated at offset 64 KiB'])
        self.assertEqual([re.sub(' +', ' ', line) for line in out[2:-1]], [
            '64 KiB (0x10000) bytes not allocated at offset 0 bytes (0x0)',
            '64 KiB (0x10000) bytes allocated at offset 64 KiB (0x10000)',
            '3.875 MiB (0x3e0000) bytes not allocated at offset 128 KiB '
            '(0x20000)'])

    def test_info(self):
        out = self.out('info')
        self.assertIn(f'format name: {self.fmt}\n', out)
        if self.fmt == 'qcow2':
            self.assertIn('cluster size: 64 KiB\n', out)
            self.assertIn('    refcount bits: 16\n', out)

    def test_compressed_write(self):
        if self.fmt == 'raw':
            self.io_fails('not supported', 'a', 'write -c 0 64k')
            return
        self.io('a', 'write -c -P 3 64k 64k', 'read -P 3 64k 64k',
                'write -P 4 70k 1k', 'read -P 3 64k 6k', 'read -P 4 70k 1k',
                'read -P 3 71k 57k')
        self.assert_clean('a')
        self.io_fails('Invalid argument', 'a', 'write -c 1k 1k')

    def test_past_the_end(self):
        for command in ('write 4M 512', 'read 4M 512', 'read 4095k 4k',
                        'discard 4M 512', 'write -z 4M 64k'):
            with self.subTest(command):
                self.io_fails('failed: Input/output error', 'a', command)

    def test_bad_arguments(self):
        for command, message in (
                ('nope', 'command "nope" not found'),
                ('write', 'bad argument count 0 to write, expected at least 2'),
                ('read 0 x', 'non-numeric.*x'),
                ('read y 1', 'non-numeric.*y'),
                ('read 0 3G', 'length cannot exceed 2147483136'),
                ('write -P 300 0 512', 'not a valid pattern byte'),
                ('write -z -P 3 0 512', 'Only one of -z, -P'),
                ('write -n 0 512', '-n requires -z'),
                ('write -u 0 512', '-u requires -z'),
                ('write -s none 0 512', 'none: No such file'),
                ('read -Q 0 512', 'invalid option'),
                ('resume X', 'Could not resume request'),
                ('break write_aio', 'bad argument count 1 to break'),
                ('truncate x', 'x')):
            with self.subTest(command):
                self.assertRegex(self.both(command, rc=None), message)

    def test_later_commands_still_run(self):
        result = self.io('a', 'nope', 'write -P 1 0 512', 'read -P 1 0 512',
                         rc=None)
        self.assertIn('read 512/512', result.stdout)
        result = self.io('a', 'write 4M 512', 'length', rc=1)
        self.assertTrue(result.stdout.endswith('4 MiB\n'), result.describe())

    def test_without_a_file(self):
        result = self.io(None, 'length', fmt=None, rc=1)
        self.assertIn("no file open, try 'help open'",
                      result.stdout + result.stderr)
        self.io(None, f'open -o driver={self.fmt} a', 'write -P 1 0 512',
                'close', fmt=None)
        self.io('a', 'read -P 1 0 512')

    def test_open_failure(self):
        result = self.io('none', 'length', rc=1)
        self.assertIn("qemu-io: can't open", result.stderr)
        self.assertIn('No such file or directory', result.stderr)

    def test_read_only(self):
        self.io_fails('read-only', 'a', 'write 0 512', options=['-r'])
        self.io('a', 'read 0 512', options=['-r'])

    def test_help(self):
        text = self.out('help')
        for command in ('read', 'write', 'readv', 'writev', 'aio_read',
                        'aio_write', 'aio_flush', 'flush', 'truncate',
                        'length', 'info', 'discard', 'alloc', 'map', 'open',
                        'close', 'reopen', 'break', 'remove_break', 'resume',
                        'wait_break', 'sleep', 'help', 'quit'):
            self.assertRegex(text, f'(?m)^{command}\\b')
        self.assertIn('read', self.out('help read'))

    def test_interactive(self):
        process = self.io_process('-f', self.fmt, 'a')
        self.assertEqual(process.cmd('length'), '4 MiB\n')
        self.assertIn('wrote 512/512', process.cmd('write 0 512'))
        self.assertEqual(process.quit()[0], 0)

    def test_misaligned_buffers_and_direct_io(self):
        self.io('a', 'write -P 1 0 64k', 'read -P 1 0 64k',
                'write -P 2 512 3000', 'read -P 2 512 3000',
                options=['-m', '-n'])

    def test_engines(self):
        for engine in ('threads', 'io_uring'):
            with self.subTest(engine):
                self.io('a', 'write -P 5 0 1M', 'read -P 5 0 1M',
                        'write -z 0 64k', 'flush', options=['-i', engine])
        self.io_fails('nope', 'a', 'length', options=['-i', 'nope'])

    def test_cache_modes(self):
        for mode in ('none', 'writeback', 'writethrough', 'directsync',
                     'unsafe'):
            with self.subTest(mode):
                self.io('a', 'write -P 6 0 10000', 'read -P 6 0 10000',
                        'flush', options=['-t', mode])
        self.io_fails('nope|cache', 'a', 'length', options=['-t', 'nope'])


if __name__ == '__main__':
    iotests.main()
