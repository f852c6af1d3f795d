#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: qcow2
"""A node that met corruption goes on reading, writes nothing, and works again
after the image was repaired and the node reopened: nobody has to delete it."""
import iotests
from iotests.qcow2_bytes import COPIED, Qcow2Bytes

MISALIGNED = 0x200


class CorruptNode(iotests.TestCase):
    OPTIONS = ()

    def setUp(self):
        super().setUp()
        self.create('a', *self.OPTIONS, '64M')
        self.io('a', 'write -P 1 0 64k', 'write -P 2 1M 64k',
                'write -P 3 2M 64k')

    def damage(self, guest=1 << 20):
        with Qcow2Bytes(self.path('a')) as q:
            self.good = q.l2(0, guest >> 16)
            q.set_l2(0, guest >> 16, self.good | MISALIGNED)

    def mend(self, guest=1 << 20):
        with Qcow2Bytes(self.path('a')) as q:
            q.set_l2(0, guest >> 16, self.good)

    def start(self):
        self.qsd = self.daemon()
        self.qmp = self.qsd.connect()
        self.qmp.cmd('blockdev-add', driver='file', node_name='f',
                     filename='a')
        self.qmp.cmd('blockdev-add', self.node())
        self.qmp.cmd('nbd-server-start', addr={
            'type': 'unix', 'data': {'path': 'nbd.sock'}})
        self.export(True)

    def node(self, **options):
        return {'driver': 'qcow2', 'node-name': 'q', 'file': 'f', **options}

    def file(self, **options):
        return {'driver': 'file', 'node-name': 'f', 'filename': 'a', **options}

    def export(self, writable):
        self.qmp.cmd('block-export-add', type='nbd', id='e', node_name='q',
                     name='e', writable=writable)

    def unexport(self):
        self.qmp.cmd('block-export-del', id='e', mode='hard')
        self.qmp.event('BLOCK_EXPORT_DELETED')

    def nbd(self, *commands, rc=0, **kwargs):
        return self.io('nbd+unix:///e?socket=nbd.sock', *commands, fmt='raw',
                       rc=rc, **kwargs)

    def reopen(self, read_only):
        self.qmp.cmd('blockdev-reopen', options=[
            self.file(**{'read-only': read_only}),
            self.node(**{'read-only': read_only})])

    def meet(self, command='read 1M 64k'):
        result = self.nbd(command, rc=1)
        event = self.qmp.event('BLOCK_IMAGE_CORRUPTED', fatal=True)
        self.assertEqual(event['data']['node-name'], 'q')
        return result

    def test_reading_goes_on_and_writing_does_not(self):
        self.damage()
        self.start()
        self.meet()
        before = self.read_file('a')
        self.nbd('read -P 1 0 64k', 'read -P 3 2M 64k', 'read -P 0 32M 64k')
        for command in ('write 0 64k', 'write 40M 64k', 'write -z 0 64k',
                        'write -z -u 0 64k'):
            self.nbd(command, rc=1)
        self.nbd('read -P 1 0 64k', 'read -P 3 2M 64k')
        self.assertEqual(self.read_file('a'), before)
        self.assertIs(self.img_json('info', '-U', 'a')['format-specific']
                      ['data']['corrupt'], True)

    def test_commands_name_the_corruption(self):
        self.damage()
        self.start()
        self.meet()
        reason = 'Image is corrupt, .*offset 0x[0-9a-f]+ unaligned'
        for command, arguments in (
                ('block_resize', {'node-name': 'q', 'size': 1 << 27}),
                ('blockdev-snapshot-internal-sync',
                 {'device': 'q', 'name': 's'})):
            self.qmp_fails(reason, self.qmp, command, arguments)

    def test_what_was_written_before_is_read(self):
        """It is in memory only, and the disk is not touched."""
        self.damage()
        self.start()
        self.nbd('write -P 7 4M 1M', 'read 1M 64k', rc=1)
        self.nbd('read -P 7 4M 1M')

    def test_reopen_after_a_repair(self):
        self.damage()
        self.start()
        self.meet()
        self.unexport()
        self.qmp_fails('Image is corrupt; cannot be opened read/write',
                       self.qmp, 'blockdev-reopen', options=[self.node()])
        self.reopen(True)
        self.export(False)
        self.nbd('read -P 1 0 64k', 'read -P 3 2M 64k', options=['-r'])
        self.nbd('read 1M 64k', options=['-r'], rc=1)
        self.qmp_fails('Image is corrupt; cannot be opened read/write',
                       self.qmp, 'blockdev-reopen', options=[
                           self.file(), self.node()])
        self.img('check', '-r', 'all', 'a')
        # It is not the file's any more: nobody may write to it then.
        self.unexport()
        self.reopen(False)
        self.export(True)
        self.nbd('read -P 1 0 64k', 'read -P 2 1M 64k', 'write -P 5 3M 64k',
                 'flush', 'read -P 5 3M 64k', 'read -P 3 2M 64k')
        self.qsd.stop()
        self.assert_clean('a')
        self.io('a', 'read -P 5 3M 64k', 'read -P 2 1M 64k')

    def test_reading_again_takes_the_lock_back(self):
        """While the mark is there others may write, then they may not."""
        self.damage()
        self.start()
        self.meet()
        self.unexport()
        self.reopen(True)
        self.img('check', '-r', 'all', 'a')
        self.reopen(True)
        self.io_fails('Failed to get "write" lock', 'a', 'write 0 64k')
        self.qsd.stop()
        self.io('a', 'write 0 64k')

    def test_another_image_is_refused(self):
        self.damage()
        self.start()
        self.meet()
        self.unexport()
        self.reopen(True)
        self.write_file('saved', self.read_file('a'))
        for args, message in ((('128M',), 'has another size'),
                              (('-b', 'b', '-F', 'raw', '64M'),
                               'has another backing file')):
            self.img('create', '-q', '-f', 'raw', 'b', '1M')
            self.img('create', '-q', '-f', 'qcow2', 'other', *args)
            self.write_in_place(self.read_file('other'))
            self.qmp_fails(message, self.qmp, 'blockdev-reopen', options=[
                self.file(), self.node()])
        self.write_in_place(self.read_file('saved'))
        self.export(False)
        self.nbd('read -P 1 0 64k', options=['-r'])

    def write_in_place(self, data):
        with open(self.path('a'), 'r+b') as f:
            f.write(data)
            f.truncate()

    def test_reopen_that_fails_elsewhere(self):
        """The node is as it was, and still reads what only memory has."""
        self.damage()
        self.start()
        self.nbd('write -P 7 4M 64k', 'read 1M 64k', rc=1)
        self.unexport()
        self.img('create', '-q', '-f', 'qcow2', 'x', '1M')
        self.qmp.cmd('blockdev-add', driver='qcow2', node_name='x', file={
            'driver': 'file', 'filename': 'x'})
        self.qmp_fails('.', self.qmp, 'blockdev-reopen', options=[
            self.node(**{'read-only': True}),
            {'driver': 'qcow2', 'node-name': 'x',
             'l2-cache-entry-size': 1000}])
        self.export(False)
        self.nbd('read -P 7 4M 64k', 'read -P 1 0 64k', options=['-r'])

    def bitmaps(self):
        node, = (n for n in self.qmp.cmd('query-named-block-nodes')
                 if n['node-name'] == 'q')
        return {b['name']: b for b in node.get('dirty-bitmaps', [])}

    def test_bitmaps(self):
        """They are what the file says."""
        self.img('bitmap', '--add', 'a', 'recording')
        self.img('bitmap', '--add', '--disable', 'a', 'idle')
        self.damage()
        self.start()
        self.nbd('write -P 1 0 64k', 'read 1M 64k', rc=1)
        self.unexport()
        self.reopen(True)
        found = self.bitmaps()
        self.assertIs(found['recording']['inconsistent'], True)
        self.assertNotIn('inconsistent', found['idle'])

    def test_bitmap_in_use(self):
        self.img('bitmap', '--add', '--disable', 'a', 'b')
        self.damage()
        self.start()
        self.qmp.cmd('block-export-add', type='nbd', id='f', node_name='q',
                     name='f', bitmaps=['b'])
        self.meet()
        self.unexport()
        self.qmp_fails("Bitmap 'b' is currently in use", self.qmp,
                       'blockdev-reopen', options=[
                           self.node(**{'read-only': True})])

    def test_table_in_the_wrong_place(self):
        """An L2 table that would be written over the refcount table."""
        with Qcow2Bytes(self.path('a')) as q:
            place = q.reft_offset
            q.set_l2(0, 1 << 4, place | COPIED)
        before = self.read_file('a')[place:place + 65536]
        self.start()
        self.meet('write -P 0xff 1M 64k')
        self.nbd('read -P 1 0 64k', 'read -P 3 2M 64k')
        self.unexport()
        self.reopen(True)
        self.assertEqual(self.read_file('a', place, 65536), before)

    def test_restored_by_hand(self):
        """Whatever repairs it: the file counts, not what was in memory."""
        self.damage()
        self.start()
        self.meet()
        self.unexport()
        self.reopen(True)
        self.mend()
        with Qcow2Bytes(self.path('a')) as q:
            q.set_u64(72, q.u64(72) & ~2)
        self.reopen(False)
        self.export(True)
        self.nbd('read -P 2 1M 64k', 'write -P 9 1M 64k', 'read -P 9 1M 64k')


class CorruptEncryptedNode(iotests.TestCase):
    def test_key_is_read_again(self):
        secret = 'secret,id=s,data=abc'
        self.img('create', '-q', '-f', 'qcow2', '--object', secret, '-o',
                 'encrypt.format=luks,encrypt.key-secret=s,'
                 'encrypt.iter-time=10', 'a', '4M')
        opts = 'driver=qcow2,encrypt.key-secret=s,file.filename=a'
        self.io(opts, 'write -P 1 0 128k', fmt=None,
                options=['--object', secret, '--image-opts'])
        with Qcow2Bytes(self.path('a')) as q:
            good = q.l2(0, 1)
            q.set_l2(0, 1, good | MISALIGNED)
        result = self.io(
            opts, 'read 64k 64k', 'read -P 1 0 64k', 'reopen -r',
            'read -P 1 0 64k', fmt=None, rc=None,
            options=['--object', secret, '--image-opts'])
        self.assertNotIn('Pattern', result.stdout + result.stderr)
        self.assertEqual(result.stdout.count('read 65536/65536'), 2,
                         result.describe())


if __name__ == '__main__':
    iotests.main()
