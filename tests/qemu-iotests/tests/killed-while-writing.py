#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: crash
# formats: qcow2
"""A program killed in the middle of its writes leaves an image with leaked
clusters at worst, and with everything that it had flushed."""
import time

import iotests
from iotests import LONG


class KilledWhileWriting(iotests.TestCase):
    def check(self, image):
        """Exit status 0 or 3: sound, or only leaks; both tools say so."""
        for img in (self.img, self.ref):
            result = img('check', image, rc=None)
            self.assertIn(result.rc, (0, 3), result.describe())

    def test_qemu_io(self):
        rng = self.rng()
        for i in range(60 if LONG else 6):
            options = rng.choice(('cluster_size=4k', 'cluster_size=64k',
                                  'cluster_size=512', 'refcount_bits=1'))
            with self.subTest(f'{i} {options}'):
                self.create('a', '-o', options, '64M')
                process = self.io_process('-t', 'writeback', 'a')
                process.cmd('write -P 1 0 1M')
                process.cmd('flush')
                commands = []
                for _ in range(300):
                    # The first MiB stays as it was flushed.
                    offset = rng.randrange(1 << 20, 63 << 20) & ~511
                    length = rng.choice((512, 4096, 65536, 300000))
                    commands.append(rng.choice((
                        f'aio_write -q -P 2 {offset} {length}',
                        f'aio_write -q -P 3 {offset} {length}',
                        f'aio_write -q -zu {offset} {length}',
                        f'discard -q {offset} {length}')))
                process.process.stdin.write('\n'.join(commands).encode())
                process.process.stdin.flush()
                time.sleep(rng.random() * .05)
                process.kill()
                self.wait_unlocked('a')
                self.check('a')
                self.img('check', '-q', '-r', 'leaks', '--orphans=free', 'a')
                self.io('a', 'read -P 1 0 1M', 'write -P 4 0 64M',
                        'read -P 4 0 64M')
                self.assert_clean('a')

    def test_lazy_refcounts(self):
        self.create('a', '-o', 'lazy_refcounts=on', '64M')
        process = self.io_process('-t', 'writeback', 'a')
        for i in range(16):
            process.cmd(f'write -P {i + 1} {i}M 1M')
        process.cmd('flush')
        process.kill()
        self.wait_unlocked('a')
        self.assertIs(self.img_json('info', 'a')['dirty-flag'], True)
        self.img('check', '-r', 'all', 'a')
        self.assert_clean('a')
        self.io('a', *[f'read -P {i + 1} {i}M 1M' for i in range(16)])


if __name__ == '__main__':
    iotests.main()
