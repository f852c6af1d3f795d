#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick rw
# formats: raw
"""blklogwrites: the log is in the format of dm-log-writes, and replaying it makes
the image again."""
import struct

import iotests

MAGIC = 0x6a736677736872
FLUSH, FUA, DISCARD = 1, 2, 4


class Blklogwrites(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.img('create', '-f', 'raw', 'a', '1M')
        self.write_file('log', b'')

    def logged(self, *commands, extra='', **kwargs):
        return self.io(f'driver=blklogwrites,file.driver=file,file.filename=a,'
                       f'discard=unmap,file.discard=unmap,log.driver=file,'
                       f'log.filename=log{extra}', *commands, fmt=None,
                       options=['-t', 'writeback', '--image-opts'], **kwargs)

    def fails(self, message, extra='', *commands):
        self.assertIn(message, self.logged(*(commands or ['read 0 1']),
                                           extra=extra, rc=1).stderr)

    def entries(self):
        """(offset, bytes, flags, data) of each."""
        log = self.read_file('log')
        magic, version, count, size = struct.unpack_from('<QQQI', log)
        self.assertEqual((magic, version), (MAGIC, 1))
        at, result = size, []
        for _ in range(count):
            sector, n, flags, length = struct.unpack_from('<QQQQ', log, at)
            self.assertEqual(length, 0)
            at += size
            data = b'' if flags & DISCARD else log[at:at + n * size]
            at += len(data)
            result.append((sector * size, n * size, flags, data))
        return result

    def replay(self):
        disk = bytearray(1 << 20)
        for offset, length, flags, data in self.entries():
            if flags & DISCARD:
                data = bytes(length)
            disk[offset:offset + length] = data
        return bytes(disk)

    def test_entries(self):
        self.logged('write -P 3 1k 2k', 'write -f -P 4 8k 512',
                    'write -z 4k 4k', 'flush', 'discard 64k 64k')
        got = [entry[:3] for entry in self.entries()]
        self.assertEqual(got[:5], [
            (1024, 2048, 0), (8192, 512, FUA), (4096, 4096, 0), (0, 0, FLUSH),
            (65536, 65536, DISCARD)])
        self.assertEqual(self.entries()[0][3], b'\3' * 2048)
        self.assertEqual(self.replay(), self.read_file('a'))

    def test_random(self):
        rng = self.rng()
        for extra in '', ',log-sector-size=4096', ',log-append=on':
            commands = []
            for i in range(40):
                offset = rng.randrange(0, (1 << 20) - 20000)
                commands.append(rng.choice([
                    f'write -P {i} {offset} {rng.randrange(1, 20000)}',
                    f'write -z {offset} {rng.randrange(1, 20000)}', 'flush']))
            if extra == ',log-sector-size=4096':
                self.img('create', '-f', 'raw', 'a', '1M')
            self.logged(*commands, extra=extra)
            self.assertEqual(self.replay(), self.read_file('a'))

    def test_interval(self):
        """The superblock follows without a flush, too."""
        io = self.io_process(
            '--image-opts', 'driver=blklogwrites,file.driver=file,'
            'file.filename=a,log.driver=file,log.filename=log,'
            'log-super-update-interval=3')
        for i in range(4):
            io.cmd(f'write -P {i} {i}k 1k')
        self.assertEqual(len(self.entries()), 3)
        io.cmd('reopen -o log-super-update-interval=1')
        before = len(self.entries())
        io.cmd('write 0 1k')
        self.assertEqual(len(self.entries()), before + 1)
        io.quit()

    def test_old_log(self):
        """A new log does not count what an old one left."""
        self.logged('write 0 64k', 'write 64k 64k')
        self.logged('read 0 64k', 'write -P 1 0 512')
        self.assertEqual(self.entries()[0][:3], (0, 512, 0))
        self.assertEqual(len([e for e in self.entries() if e[1]]), 1)

    def test_append_after_read_only(self):
        self.logged('write -P 1 0 512', 'reopen -r', 'read -P 1 0 512',
                    'reopen -w', 'write -P 2 512 512')
        self.assertEqual(self.replay(), self.read_file('a'))

    def test_refused(self):
        self.fails('Invalid log sector size 513', ',log-sector-size=513')
        self.fails('Invalid log sector size 16777216', ',log-sector-size=16777216')
        self.fails('Invalid log superblock update interval 0',
                   ',log-super-update-interval=0')
        self.fails('log-append and log-sector-size are mutually exclusive',
                   ',log-append=on,log-sector-size=512')
        self.write_file('log', bytes(4096))
        self.fails('Invalid log superblock magic', ',log-append=on')
        for version, count, size, message in (
                (2, 0, 512, 'Unsupported log version 2'),
                (1, 0, 0, 'Invalid log sector size 0'),
                (1, 1 << 63, 512, 'The log ends before its entry'),
                (1, 1, 512, 'The log ends in the data of its entry 0')):
            self.write_file('log', struct.pack(
                '<QQQI', MAGIC, version, count, size).ljust(512, b'\0') +
                struct.pack('<QQQQ', 0, 1 << 63 if count == 1 else 0, 0,
                            0).ljust(512, b'\0'))
            self.fails(message, ',log-append=on')

    def test_full_log(self):
        """What cannot be logged fails, and the log stays readable."""
        result = self.io(
            'driver=blklogwrites,file.driver=file,file.filename=a,'
            'log.driver=blkdebug,log.image.driver=file,log.image.filename=log,'
            'log.inject-error.0.event=none,log.inject-error.0.iotype=write,'
            'log.inject-error.0.errno=28,log.inject-error.0.sector=9',
            'write -P 1 0 1k', 'write -P 2 1k 4k', 'write -P 3 8k 1k',
            fmt=None, options=['--image-opts'], rc=1)
        self.assertIn('No space left on device', result.stdout + result.stderr)
        self.assertEqual([e[:2] for e in self.entries() if e[1]],
                         [(0, 1024), (8192, 1024)])


if __name__ == '__main__':
    iotests.main()
