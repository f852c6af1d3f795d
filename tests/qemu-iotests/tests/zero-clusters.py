#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""Zeroes and discards on each kind of cluster: what is read, what is allocated,
and the same map by the distribution's tool."""
import itertools

import iotests

STATES = {'unallocated': [], 'data': ['write -P 1 0 256k'],
          'compressed': [f'write -c -P 2 {i * 64}k 64k' for i in range(4)],
          'zero': ['write -z 0 256k'],
          'zero with allocation': ['write -P 1 0 256k', 'write -z 0 256k']}
OPERATIONS = ('write -z 64k 64k', 'write -z -u 64k 64k', 'discard 64k 64k',
              'write -z 70k 100k', 'write -z -u 70k 100k', 'discard 70k 100k',
              'write -z 100k 1k', 'write -P 9 100k 1k', 'write -P 9 64k 128k')


def allocation(ranges):
    """What qcow2 itself says of the ranges. Holes that the file has inside
    data clusters are left out: where a cluster was new, writing only the data
    leaves some."""
    merged = []
    for r in ranges:
        r = {key: r[key] for key in ('start', 'length', 'depth', 'present',
                                     'zero', 'data')}
        r['zero'] = r['zero'] and not r['data']
        last = merged[-1] if merged else None
        if last and all(last[key] == r[key]
                        for key in ('depth', 'present', 'zero', 'data')):
            last['length'] += r['length']
        else:
            merged.append(r)
    return merged


class ZeroClusters(iotests.TestCase):
    def run_combination(self, compat, backing, state, operation):
        """Our tool and the distribution's do the same to an image; contents
        and maps must be equal."""
        results = []
        for img, io in ((self.img, self.io), (self.ref, self.ref_io)):
            args = ['-b', 'base', '-F', 'raw'] if backing else []
            img('create', '-q', '-f', 'qcow2', '-o', f'compat={compat}', *args,
                'a', '256k')
            io('a', *STATES[state], operation)
            self.assert_clean('a')
            self.ref('convert', '-O', 'raw', 'a', 'out')
            results.append((self.read_file('out'),
                            allocation(self.ref_json('map', 'a'))))
        self.assertEqual(results[0][0], results[1][0], 'contents differ')
        self.assertEqual(results[0][1], results[1][1])

    def test_all(self):
        self.write_file('base', b'\x44' * (256 << 10))
        combinations = list(itertools.product(
            ('0.10', '1.1'), (False, True), STATES, OPERATIONS))
        if not iotests.LONG:
            combinations = self.rng().sample(combinations, 60)
        for combination in combinations:
            with self.subTest(combination):
                self.run_combination(*combination)

    def test_detect_zeroes(self):
        image = ('driver=qcow2,discard=unmap,detect-zeroes=unmap,'
                 'file.filename=a')
        self.create('a', '1M')
        self.io('a', 'write -P 1 0 256k')
        self.io(image, 'write -P 0 64k 64k', fmt=None,
                options=['--image-opts'])
        ranges = self.img_json('map', 'a')
        self.assertIn((65536, 65536, False),
                      [(r['start'], r['length'], r['data']) for r in ranges])
        self.assert_clean('a')

    def test_discard_reaches_the_file(self):
        self.create('a', '8M')
        self.io('a', 'write -P 1 0 8M')
        before = self.img_json('info', 'a')['actual-size']
        self.io('a', 'discard 0 8M')
        after = self.img_json('info', 'a')['actual-size']
        self.assertLess(after, before - (7 << 20))
        self.assert_clean('a')

    def test_discarded_space_is_used_again(self):
        self.create('a', '8M')
        for i in range(1, 6):
            self.io('a', f'write -P {i} 0 4M', 'flush', 'discard 0 4M',
                    'flush')
        end = self.img_json('check', 'a')['image-end-offset']
        self.assertLess(end, 10 << 20)
        self.assert_clean('a')


if __name__ == '__main__':
    iotests.main()
