#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""A command ends with an error if not everything got to the disk, however late
that turns out, and says so once."""
import iotests
from iotests.faults import ENOSPC, nth_fault
from iotests.qcow2_bitmaps import bitmaps


class CloseErrors(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('good', '4M')
        self.img('bitmap', '--add', 'good', 'b')
        self.io('good', 'write -P 1 0 256k')

    def each_fault(self, command, *args, options=(), events=('pwritev',
                                                             'flush_to_disk')):
        """Runs the command with each of its requests failing; yields the
        results. It must not succeed silently, or fail without a word."""
        failed = 0
        for event in events:
            for once in 'on', 'off':
                for n in range(1, 60):
                    self.write_file('a', self.read_file('good'))
                    opts = ','.join(('driver=qcow2', *options, nth_fault(
                        'a', n, event=event, once=once)))
                    result = self.img(command, '--image-opts', opts, *args,
                                      rc=None)
                    label = f'{event} {n} {once}: {result.describe()}'
                    self.assertIn(result.rc, (0, 1), label)
                    errors = [line for line in result.stderr.splitlines()
                              if 'qemu-img: warning: ' not in line]
                    self.assertEqual(result.rc == 0, not errors, label)
                    failed += result.rc
                    yield label, result
                    if result.rc == 0 and n > 20:
                        break
        self.assertGreater(failed, 4)

    def test_bitmap(self):
        before = bitmaps(self.path('good'))
        for label, result in self.each_fault('bitmap', 'b', '--disable',
                                             '--clear'):
            now = bitmaps(self.path('a'))
            done = [now['b'].flags, now['b'].dirty] == [0, []]
            self.assertTrue(done or now == before, f'{label}\n{now}')
            if result.rc == 0:
                self.assertTrue(done, label)
                self.img('check', '-q', 'a')
            else:
                self.img('check', '-q', 'a', rc=None)
                self.assertNotEqual(self.img('check', 'a', rc=None).rc, 2)

    def test_lazy_refcounts(self):
        """The dirty bit goes when the image is closed."""
        for label, result in self.each_fault(
                'bitmap', 'b', '--disable', options=('lazy-refcounts=on',)):
            if result.rc == 0:
                features = self.img_json('info', 'a').get('dirty-flag')
                self.assertIs(features, False, label)

    def test_resize(self):
        for label, result in self.each_fault('resize', '8M'):
            if result.rc == 0:
                self.assertEqual(self.img_json('info', 'a')['virtual-size'],
                                 8 << 20, label)
                self.assertIn('b', bitmaps(self.path('a')), label)
                self.img('check', '-q', 'a')

    def test_convert_says_it_once(self):
        """A full disk fails everything that comes after the first write."""
        self.io('good', 'write -P 2 1M 2M')
        for target in 'qcow2', 'raw':
            for n in 2, 4, 6:
                self.img('create', '-q', '-f', target, 'out', '4M')
                opts = f'driver={target},' + nth_fault(
                    'out', n, errno=ENOSPC, once='off')
                result = self.img('convert', '-n', '--target-image-opts',
                                  'good', opts, rc=1)
                self.assertEqual(len(result.stderr.splitlines()), 1,
                                 result.describe())
                self.assertIn('No space left on device', result.stderr)

    def test_rebase_says_it_once(self):
        self.create('base', '4M')
        self.io('base', 'write -P 1 0 4M')
        self.create('a', '-b', 'base', '-F', 'qcow2')
        opts = 'driver=qcow2,' + nth_fault('a', 3, errno=ENOSPC, once='off')
        result = self.img('rebase', '--image-opts', '-b', '', opts, rc=1)
        self.assertEqual(len(result.stderr.splitlines()), 1,
                         result.describe())


if __name__ == '__main__':
    iotests.main()
