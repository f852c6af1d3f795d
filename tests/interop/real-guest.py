#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: guest
# formats: any
"""A Linux guest writes, discards and verifies on disks that a storage daemon
exports, while snapshots are taken, nodes reopened and the disks resized under it:
one over vhost-user-blk, one over NBD by qemu-system's own client. Models in memory,
both programs' check and the guest itself agree. They share one boot."""
import hashlib
import time

import iotests
import linux_guest

MiB = 1 << 20
SIZE = 64 * MiB


class Disk:
    """A chain of images, its node in the daemon, its device in the guest, and what
    must be in it."""

    def __init__(self, test, name, device):
        self.test, self.name, self.device = test, name, device
        self.content = bytearray(SIZE)
        self.top, self.below = f'{name}-top', f'{name}-mid'
        self.images = [self.below, self.top]
        test.img('create', '-q', '-f', 'raw', f'{name}-base', str(SIZE))
        # What only the base of the chain has.
        data = test.rng().randbytes(4 * MiB)
        test.patch_file(f'{name}-base', 8 * MiB, data)
        self.content[8 * MiB:12 * MiB] = data
        test.img('create', '-q', '-f', 'qcow2', '-b', f'{name}-base', '-F',
                 'raw', self.below)
        test.img('create', '-q', '-f', 'qcow2', '-b', self.below, '-F',
                 'qcow2', self.top)

    def blockdev(self):
        return ('--blockdev', f'driver=qcow2,node-name={self.top},'
                'discard=unmap,file.driver=file,'
                f'file.filename={self.top},backing.node-name={self.below},'
                'backing.driver=qcow2,backing.file.driver=file,'
                f'backing.file.filename={self.below}')

    # --- what the guest does, and the model with it ---

    def write(self, mib, count, word):
        """`count` MiB of a word's lines."""
        self.test.guest.start(f'yes {word} | dd of={self.device} bs=1M '
                              f'seek={mib} count={count} iflag=fullblock '
                              'oflag=direct')
        line = word.encode() + b'\n'
        data = line * (count * MiB // len(line) + 1)
        self.content[mib * MiB:(mib + count) * MiB] = data[:count * MiB]

    def discard(self, mib, count):
        self.test.guest.start(f'blkdiscard -o {mib * MiB} -l {count * MiB} '
                              f'{self.device}')
        self.content[mib * MiB:(mib + count) * MiB] = bytes(count * MiB)

    def verify(self, device=None):
        """The guest reads all of the disk past its cache."""
        length = self.sectors() * 512
        out = self.test.guest.cmd(f'dd if={device or self.device} bs=1M '
                                  'iflag=direct 2>/dev/null | md5sum')
        self.test.assertEqual(
            out.split()[0], hashlib.md5(self.content[:length]).hexdigest())

    def sectors(self):
        name = self.device.rpartition('/')[2]
        return int(self.test.guest.cmd(f'cat /sys/block/{name}/size'))

    # --- what happens under it ---

    def overlay(self):
        """blockdev-snapshot, while the guest writes."""
        name = f'{self.name}-over{len(self.images)}'
        self.test.img('create', '-q', '-f', 'qcow2', name,
                      str(len(self.content)))
        self.test.qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': name, 'backing': None,
            'discard': 'unmap', 'file': {'driver': 'file', 'filename': name}})
        self.test.qmp.cmd('blockdev-snapshot', node=self.top, overlay=name)
        self.top, self.below = name, self.top
        self.images.append(name)

    def reopen(self):
        self.test.qmp.cmd('blockdev-reopen', {'options': [{
            'driver': 'qcow2', 'node-name': self.top, 'discard': 'unmap',
            'lazy-refcounts': False, 'l2-cache-size': MiB,
            'backing': self.below, 'file': self.file_of(self.top)}]})

    def file_of(self, name):
        for node in self.test.qmp.cmd('query-named-block-nodes', flat=True):
            if node['node-name'] == name:
                for child in node.get('children', []):
                    if child['child'] == 'file':
                        return child['node-name']
        return self.test.fail(f'{name} has no file')

    def exercise(self):
        finish = self.test.guest.finish
        self.test.assertEqual(self.sectors(), SIZE // 512)
        self.verify()
        self.write(2, 4, 'first')
        self.overlay()
        finish()
        self.discard(9, 2)
        self.reopen()
        finish()
        self.write(10, 3, 'second')
        self.reopen()
        finish()
        self.verify()
        self.write(30, 8, 'third')
        self.overlay()
        finish()
        self.discard(4, 1)
        finish()
        self.verify()

    def resize(self):
        self.test.qmp.cmd('block_resize', node_name=self.top, size=2 * SIZE)
        self.content += bytes(SIZE)

    def judge(self):
        """All of the chain is in order, now that the daemon has ended."""
        test = self.test
        # Names of backing files were not written: these nodes had none.
        for backing, name in zip(self.images[1:], self.images[2:]):
            test.img('rebase', '-u', '-b', backing, '-F', 'qcow2', name)
        for name in self.images:
            test.assert_clean(name)
        test.assert_content(self.top, bytes(self.content), fmt='qcow2')
        test.ref('convert', '-O', 'raw', self.top, 'theirs')
        test.assertEqual(test.read_file('theirs'), bytes(self.content))


class RealGuest(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.fmt = 'qcow2'
        reason = linux_guest.missing()
        if reason:
            self.skipTest(reason)

    def start(self, *disks):
        self.qsd = self.daemon(
            '--object', 'iothread,id=t0', '--object', 'iothread,id=t1',
            '--nbd-server', 'addr.type=unix,addr.path=nbd.sock',
            *(arg for disk in disks for arg in disk.blockdev()))
        self.qmp = self.qsd.connect()

    def export(self, disk, kind, **options):
        self.qmp.cmd('block-export-add', {
            'type': kind, 'id': disk.name, 'node-name': disk.top,
            'writable': True, 'iothread': ['t0', 't1'], **options})

    def nbd_device(self, node, disk):
        return ('-blockdev', f'driver=nbd,node-name={node},discard=unmap,'
                f'server.type=unix,server.path={self.path("nbd.sock")},'
                f'export={disk.name}',
                '-device', f'virtio-blk-pci,drive={node}')

    def boot(self, *args):
        self.guest = linux_guest.LinuxGuest(self.dir, *args)
        self.addCleanup(self.guest.kill)

    def check_length_seen(self, disk):
        disk.resize()
        end = time.monotonic() + 20
        while disk.sectors() != 2 * SIZE // 512:
            self.assertLess(time.monotonic(), end, 'the guest does not see it')
        disk.write(100, 4, 'beyond')
        self.guest.finish()
        disk.verify()

    def check_length_kept(self, disk):
        """A client of NBD keeps the length that it was told."""
        disk.write(50, 6, 'fourth')
        disk.resize()
        self.guest.finish()
        self.assertEqual(disk.sectors(), SIZE // 512)
        disk.verify()

    def check_connections_agree(self, disk, other):
        """What is written over one is read over the other (multi-conn)."""
        disk.verify(other)
        disk.write(20, 2, 'fifth')
        self.guest.finish()
        disk.verify(other)

    def test_guest(self):
        vhost = Disk(self, 'vhost', '/dev/vda')
        nbd = Disk(self, 'nbd', '/dev/vdb')
        self.start(vhost, nbd)
        self.export(vhost, 'vhost-user-blk', **{
            'addr': {'type': 'unix', 'path': self.path('e.sock')},
            'num-queues': 2})
        self.export(nbd, 'nbd', name='nbd')
        self.boot('-chardev', f'socket,id=e,path={self.path("e.sock")}',
                  '-device', 'vhost-user-blk-pci,chardev=e,num-queues=2',
                  *self.nbd_device('n0', nbd), *self.nbd_device('n1', nbd))
        vhost.exercise()
        nbd.exercise()
        self.check_connections_agree(nbd, '/dev/vdc')
        self.check_length_seen(vhost)
        self.check_length_kept(nbd)
        self.assertEqual(self.guest.power_off(), 0)
        self.assertEqual(self.qsd.stop(), 0)
        vhost.judge()
        nbd.judge()


if __name__ == '__main__':
    iotests.main()
