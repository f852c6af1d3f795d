#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick io
# formats: qcow2
"""Requests that overlap in time: suspended at a point in the driver, resumed
in any order, finished by aio_flush."""
import re

import iotests


def image(name, fmt='qcow2'):
    return ('json:{"driver":"%s","file":{"driver":"blkdebug",'
            '"image":{"driver":"file","filename":"%s"}}}' % (fmt, name))


class IoAsynchronous(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '4M')

    def test_aio_flush_waits(self):
        out = self.io('a', 'aio_write -P 1 0 64k', 'aio_write -P 2 64k 64k',
                      'aio_flush', 'aio_read -P 1 0 64k',
                      'aio_read -P 2 64k 64k', 'aio_flush').stdout
        self.assertEqual(out.count('wrote 65536/65536'), 2)
        self.assertEqual(out.count('read 65536/65536'), 2)
        self.assertNotIn('failed', out)

    def test_pending_requests_end_before_the_program(self):
        self.io('a', *[f'aio_write -P {i} {i * 4}k 4k' for i in range(1, 100)])
        self.io('a', *[f'read -P {i} {i * 4}k 4k' for i in range(1, 100)])
        self.assert_clean('a')

    def test_suspend_and_resume(self):
        result = self.io(image('a'), 'break write_aio A',
                         'aio_write -P 5 0 64k', 'wait_break A',
                         'write -P 6 1M 64k', 'resume A', 'aio_flush',
                         'read -P 5 0 64k', 'read -P 6 1M 64k', fmt=None)
        out = result.stdout
        self.assertIn("blkdebug: Suspended request 'A'\n", out)
        self.assertIn("blkdebug: Resuming request 'A'\n", out)
        self.assertLess(out.index('1048576'), out.index('Resuming'))
        self.assert_clean('a')

    def test_writes_to_one_new_cluster_are_ordered(self):
        """The second needs the cluster that the first is about to allocate."""
        self.io(image('a'), 'break write_aio A', 'aio_write -P 5 4k 4k',
                'wait_break A', 'aio_write -P 6 8k 4k', 'aio_write -P 7 60k 8k',
                'resume A', 'aio_flush', 'read -P 0 0 4k', 'read -P 5 4k 4k',
                'read -P 6 8k 4k', 'read -P 0 12k 48k', 'read -P 7 60k 8k',
                fmt=None)
        self.assert_clean('a')

    def test_write_and_discard_of_one_cluster(self):
        """A discard that comes while a write is in flight leaves either the
        data or zeroes, and a sound image."""
        for prepare in ('write -P 1 0 256k', 'write -z 0 256k',
                        'write -c -P 2 0 64k'):
            for event in ('write_aio', 'pwritev'):
                with self.subTest(f'{prepare} {event}'):
                    self.create('a', '4M')
                    self.io('a', prepare)
                    self.io(image('a'), f'break {event} A',
                            'aio_write -P 5 4k 4k', 'wait_break A',
                            'aio_write -zu 0 64k', 'aio_write -P 6 64k 64k',
                            'resume A', 'aio_flush', 'read -P 6 64k 64k',
                            fmt=None)
                    self.assert_clean('a')
                    self.img('convert', '-O', 'raw', 'a', 'out')
                    self.assertIn(self.read_file('out', 4096, 4096),
                                  (bytes(4096), b'\5' * 4096))

    def test_errors_are_reported_once(self):
        out = self.io('a', 'aio_write 4M 512', 'aio_read 4M 512', 'aio_flush',
                      rc=None)
        text = out.stdout + out.stderr
        self.assertEqual(text.count('aio_write failed: Input/output error'), 1)
        self.assertEqual(len(re.findall('(?:aio_read|readv) failed: '
                                        'Input/output error', text)), 1)

    def test_break_points_by_name(self):
        out = self.io(image('a'), 'break nope A', 'break write_aio A',
                      'remove_break A', 'remove_break A', 'write 0 64k',
                      'resume A', fmt=None, rc=1)
        text = out.stdout + out.stderr
        self.assertIn('Could not set breakpoint', text)
        self.assertIn('Could not remove breakpoint A', text)
        self.assertIn('Could not resume request', text)
        self.assertIn('wrote 65536/65536', text)

    def test_sleep(self):
        self.io('a', 'sleep 10', 'length')


if __name__ == '__main__':
    iotests.main()
