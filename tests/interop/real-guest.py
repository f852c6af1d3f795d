#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: guest
# formats: any
"""A Linux guest writes, discards and verifies on a disk that a storage daemon
exports, while snapshots are taken, nodes reopened and the disk resized under it.
A model in memory, both programs' check and the guest itself agree."""
import hashlib
import time

import iotests
import linux_guest

MiB = 1 << 20
SIZE = 64 * MiB


class RealGuest(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.fmt = 'qcow2'
        reason = linux_guest.missing()
        if reason:
            self.skipTest(reason)
        self.disk = bytearray(SIZE)
        self.img('create', '-q', '-f', 'raw', 'base', str(SIZE))
        self.write_base()
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw',
                 'mid.qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'mid.qcow2', '-F',
                 'qcow2', 'top.qcow2')
        self.qsd = self.daemon(
            '--object', 'iothread,id=t0', '--object', 'iothread,id=t1',
            '--blockdev', 'driver=qcow2,node-name=top,discard=unmap,'
            'file.driver=file,file.filename=top.qcow2,backing.node-name=mid,'
            'backing.driver=qcow2,backing.file.driver=file,'
            'backing.file.filename=mid.qcow2')
        self.qmp = self.qsd.connect()

    def write_base(self):
        """What only the base of the chain has."""
        data = self.rng().randbytes(4 * MiB)
        self.patch_file('base', 8 * MiB, data)
        self.disk[8 * MiB:12 * MiB] = data

    def boot(self, *args):
        self.guest = linux_guest.LinuxGuest(self.dir, *args)
        self.addCleanup(self.guest.kill)

    # --- what the guest does, and the model with it ---

    def write(self, mib, count, word):
        """`count` MiB of a word's lines."""
        self.guest.start(f'yes {word} | dd of=/dev/vda bs=1M seek={mib} '
                         f'count={count} iflag=fullblock oflag=direct')
        line = word.encode() + b'\n'
        data = line * (count * MiB // len(line) + 1)
        self.disk[mib * MiB:(mib + count) * MiB] = data[:count * MiB]

    def discard(self, mib, count):
        self.guest.start(f'blkdiscard -o {mib * MiB} -l {count * MiB} '
                         '/dev/vda')
        self.disk[mib * MiB:(mib + count) * MiB] = bytes(count * MiB)

    def verify(self):
        """The guest reads all of the disk past its cache."""
        out = self.guest.cmd('dd if=/dev/vda bs=1M iflag=direct 2>/dev/null | '
                             'md5sum')
        self.assertEqual(out.split()[0], hashlib.md5(self.disk).hexdigest())

    def sectors(self):
        return int(self.guest.cmd('cat /sys/block/vda/size'))

    # --- what happens under it ---

    def overlay(self, n):
        """blockdev-snapshot, while the guest writes."""
        name = f'over{n}'
        size = len(self.disk)
        self.img('create', '-q', '-f', 'qcow2', f'{name}.qcow2', str(size))
        self.qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': name, 'backing': None,
            'discard': 'unmap',
            'file': {'driver': 'file', 'filename': f'{name}.qcow2'}})
        self.qmp.cmd('blockdev-snapshot', node=self.top, overlay=name)
        self.top = name

    def reopen(self):
        self.qmp.cmd('blockdev-reopen', {'options': [{
            'driver': 'qcow2', 'node-name': self.top, 'discard': 'unmap',
            'lazy-refcounts': False, 'l2-cache-size': MiB,
            'backing': self.below,
            'file': self.file_of(self.top)}]})

    def file_of(self, name):
        for node in self.qmp.cmd('query-named-block-nodes', flat=True):
            if node['node-name'] == name:
                for child in node.get('children', []):
                    if child['child'] == 'file':
                        return child['node-name']
        return self.fail(f'{name} has no file')

    def exercise(self):
        self.top, self.below = 'top', 'mid'
        self.assertEqual(self.sectors(), SIZE // 512)
        self.verify()
        self.write(2, 4, 'first')
        self.overlay(1)
        self.below = 'top'
        self.guest.finish()
        self.discard(9, 2)
        self.reopen()
        self.guest.finish()
        self.write(10, 3, 'second')
        self.reopen()
        self.guest.finish()
        self.verify()
        self.write(30, 8, 'third')
        self.overlay(2)
        self.guest.finish()
        self.discard(4, 1)
        self.guest.finish()
        self.verify()

    def resize(self):
        self.qmp.cmd('block_resize', node_name=self.top, size=2 * SIZE)
        self.disk += bytes(SIZE)
        end = time.monotonic() + 20
        while self.sectors() != 2 * SIZE // 512:
            self.assertLess(time.monotonic(), end, 'the guest does not see it')
        self.write(100, 4, 'beyond')
        self.guest.finish()
        self.verify()

    def judge(self):
        """The daemon ends; all of the chain is in order."""
        self.assertEqual(self.qsd.stop(), 0)
        # Names of backing files were not written: these nodes had none.
        for name, backing in (('over1', 'top'), ('over2', 'over1')):
            self.img('rebase', '-u', '-b', f'{backing}.qcow2', '-F', 'qcow2',
                     f'{name}.qcow2')
        for name in 'mid', 'top', 'over1', 'over2':
            self.assert_clean(f'{name}.qcow2')
        self.assert_content('over2.qcow2', bytes(self.disk), fmt='qcow2')
        self.ref('convert', '-O', 'raw', 'over2.qcow2', 'theirs')
        self.assertEqual(self.read_file('theirs'), bytes(self.disk))

    def test_vhost_user_blk(self):
        self.qmp.cmd('block-export-add', {
            'type': 'vhost-user-blk', 'id': 'e', 'node-name': 'top',
            'addr': {'type': 'unix', 'path': self.path('e.sock')},
            'writable': True, 'num-queues': 2, 'iothread': ['t0', 't1']})
        self.boot('-chardev', f'socket,id=e,path={self.path("e.sock")}',
                  '-device', 'vhost-user-blk-pci,chardev=e,num-queues=2')
        self.exercise()
        self.resize()
        self.assertEqual(self.guest.power_off(), 0)
        self.judge()


if __name__ == '__main__':
    iotests.main()
