#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: raw
"""block-latency-histogram-set: the requests of an export by the time they take."""
import iotests

MINUTE = 60 * 10 ** 9


class Histogram(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '1M')
        self.server = self.daemon()
        self.qmp = self.server.connect()
        self.qmp.cmd('blockdev-add', {'driver': 'file', 'node-name': 'n',
                                      'filename': 'a'})
        self.qmp.cmd('nbd-server-start', {'addr': {
            'type': 'unix', 'data': {'path': 'nbd.sock'}}})
        self.qmp.cmd('block-export-add', {
            'type': 'nbd', 'id': 'e', 'name': 'e', 'node-name': 'n',
            'writable': True})

    def client(self, *commands):
        self.io('nbd+unix:///e?socket=nbd.sock', *commands, fmt='raw',
                options=['-t', 'writeback'])

    def stats(self):
        one, = self.qmp.cmd('query-blockstats')
        self.assertEqual(one['device'], 'e')
        return one['stats']

    def bins(self):
        return {k[:-len('_latency_histogram')]: v['bins']
                for k, v in self.stats().items()
                if k.endswith('_latency_histogram')}

    def set(self, **kwargs):
        self.qmp.cmd('block-latency-histogram-set', {
            k.replace('_', '-'): v for k, v in kwargs.items()})

    def test_all(self):
        self.client('read 0 512')
        self.assertEqual(self.bins(), {})
        self.set(id='e', boundaries=[1, MINUTE])
        self.client('read 0 512', 'read 0 512', 'write 0 512', 'flush')
        bins = self.bins()
        self.assertEqual((bins['rd'], bins['wr']), ([0, 2, 0], [0, 1, 0]))
        self.assertEqual(bins['flush'][::2], [0, 0])
        self.assertGreater(bins['flush'][1], 0)
        # By its node; the others go on.
        self.set(id='n', boundaries_read=[MINUTE])
        self.client('read 0 512', 'write 0 512')
        self.assertEqual(self.bins()['rd'], [1, 0])
        self.assertEqual(self.bins()['wr'], [0, 2, 0])
        self.set(id='e')
        self.assertEqual(self.bins(), {})

    def test_refused(self):
        for message, arguments in (
                ("Device 'x' not found", {'id': 'x', 'boundaries': [1]}),
                ("Device 'e' set read boundaries fail",
                 {'id': 'e', 'boundaries': [2, 1]}),
                ("Device 'e' set flush boundaries fail",
                 {'id': 'e', 'boundaries-flush': [0]})):
            self.qmp_fails(message, self.qmp, 'block-latency-histogram-set',
                           arguments)
        self.assertEqual(self.bins(), {})


if __name__ == '__main__':
    iotests.main()
