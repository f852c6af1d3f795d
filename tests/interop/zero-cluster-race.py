#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick io
# formats: qcow2
"""A write goes in place into a zero cluster that keeps its allocation, and
while it is in flight the cluster is given up: the distribution's driver lets
somebody else have it, and two guest offsets share a host cluster afterwards.
Ours makes the second wait for the first. All interleavings of such requests
are tried by tests/model."""
import iotests

CLUSTER = 65536


def suspendable(name):
    return ('json:{"driver":"qcow2","discard":"unmap","file":{'
            '"driver":"blkdebug",'
            '"image":{"driver":"file","filename":"%s"}}}' % name)


# Suspends a write after it has looked up where its data goes.
WRITE_SUSPENDED = ('break write_aio A', 'aio_write -P 2 0 64k',
                   'wait_break A')
# A neighbour allocates; then the write goes on.
NEIGHBOUR_AND_RESUME = ('write -P 3 64k 64k', 'resume A', 'aio_flush')


class ZeroClusterRace(iotests.TestCase):
    def prepare(self):
        """Cluster 0 reads as zeroes and has a host cluster."""
        self.create('a', '1M')
        self.io('a', 'write -q -P 1 0 64k', 'write -q -z 0 64k')
        first = self.ref_json('map', '--output=json', 'a')[0]
        self.assertTrue(first['zero'] and 'offset' in first, first)

    def is_sound(self):
        """The image as it is now, judged by the distribution's check, and
        whether both offsets have what may be there."""
        check = self.ref('check', '-f', 'qcow2', 'a', rc=None)
        self.img('convert', '-f', 'qcow2', '-O', 'raw', 'a', 'out')
        first = self.read_file('out', 0, CLUSTER)
        second = self.read_file('out', CLUSTER, CLUSTER)
        return (check.rc in (0, 3) and second == b'\3' * CLUSTER and
                first in (b'\2' * CLUSTER, bytes(CLUSTER)))

    def race(self, run, *giving_up):
        self.prepare()
        run(suspendable('a'), *WRITE_SUSPENDED, *giving_up,
            *NEIGHBOUR_AND_RESUME, fmt=None, rc=None)

    def test_ours(self):
        """A zero write that may unmap is the discard that can wait in the
        background of qemu-io."""
        for flags in ('-zu', '-z'):
            with self.subTest(flags):
                self.race(self.io, f'aio_write {flags} 0 64k')
                self.assertTrue(self.is_sound())
                self.assert_clean('a')

    def test_the_distribution(self):
        """Documents the difference; a distribution that is repaired is no
        failure of ours."""
        for command in ('discard 0 64k', 'aio_write -zu 0 64k'):
            with self.subTest(command):
                self.race(self.ref_io, command)
                print(f"# the distribution's qemu-io, {command}: " +
                      ('sound' if self.is_sound() else 'corrupted the image'))


if __name__ == '__main__':
    iotests.main()
