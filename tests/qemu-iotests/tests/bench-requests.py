#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw qcow2
"""bench: sends the requests that it was asked for, and nothing else."""
import json

import iotests

MIB = 1 << 20


class Bench(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.img('create', '-q', '-f', iotests.fmt(), 'a', '1M')

    def bench(self, *args):
        return self.img('bench', '-f', iotests.fmt(), *args).stdout

    def test_what_it_says(self):
        out = self.bench('-c', '10', '-d', '2', '-o', '8k', '-S', '1k', '-w',
                         '--flush-interval', '5', 'a')
        self.assertIn('Sending 10 write requests, 4096 bytes each, 2 in '
                      'parallel (starting at offset 8192, step size 1024)\n'
                      'Sending flush every 5 requests\n', out)
        self.assertRegex(out, r'Run completed in \d+\.\d{3} seconds\.\n$')
        self.assertEqual(self.bench('-q', '-c', '3', 'a'), '')

    def test_writes_land_where_they_should(self):
        self.bench('-w', '--pattern', '7', '-c', '16', '-s', '4k', '-S', '64k',
                   'a')
        expect = bytearray(MIB)
        for start in range(0, MIB, 64 << 10):
            expect[start:start + 4096] = b'\7' * 4096
        self.assert_content('a', bytes(expect))

    def test_goes_round(self):
        # 257 steps of one cluster each would end behind the disk.
        self.bench('-w', '--pattern', '9', '-c', '257', '-d', '8', '-S',
                   '65536', '-o', '1020k', 'a')
        self.bench('-w', '--pattern', '9', '-c', '257', '-S', '4100', 'a')
        self.bench('-c', '257', '-d', '8', '-S', '5000', '-s', '3000', 'a')

    def test_every_engine_and_flushing(self):
        for args in (['-i', 'threads'], ['-i', 'io_uring'],
                     ['-i', 'native', '-t', 'none'], ['-n', '-t', 'none'], []):
            for more in (['--flush-interval', '16'],
                         ['--flush-interval', '17', '--no-drain'], []):
                with self.subTest(f'{args} {more}'):
                    self.bench('-w', '--pattern', '3', '-c', '256', '-d', '16',
                               *args, *more, 'a')
        self.assert_content('a', b'\3' * MIB)

    def test_flushes_are_counted(self):
        node = {'driver': 'blkdebug', 'image': {'driver': 'file',
                                                'filename': 'a'},
                'inject-error': [{'event': 'none', 'iotype': 'flush',
                                  'errno': 28}]}
        name = 'json:' + json.dumps({'driver': iotests.fmt(), 'file': node})
        # Closing flushes, too.
        self.unflushed('-c', '8', '-d', '4', name)
        self.img_fails('Failed flush: No space left', 'bench', '-w', '-c', '8',
                       '-d', '4', '--flush-interval', '8', name)
        # The ninth request of an interval is never sent.
        self.unflushed('-c', '7', '-d', '4', '--flush-interval', '8', name)

    def unflushed(self, *args):
        result = self.img_fails('when closing it: No space left', 'bench',
                                '-w', *args)
        self.assertNotIn('Failed flush', result.stderr)
        self.assertIn('Run completed', result.stdout)

    def test_errors(self):
        for message, *args in (
                ('only available in write tests', '--flush-interval', '9'),
                ("can't be smaller than depth", '-w', '-d', '4',
                 '--flush-interval', '3'),
                ('--no-drain needs', '-w', '--no-drain'),
                ('aio=native .* requires cache.direct=on', '-n'),
                ('Invalid aio option: x', '-i', 'x'),
                ('no room', '-o', '1M'),
                ('smaller than one request', '-s', '2M'),
                ('Invalid queue depth', '-d', '0')):
            with self.subTest(message):
                self.img_fails(message, 'bench', '-f', iotests.fmt(), *args,
                               'a')


if __name__ == '__main__':
    iotests.main()
