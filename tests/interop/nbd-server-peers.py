#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""Our NBD server and clients of others: libnbd's programs and the distribution's
qemu-img and qemu-io."""
import json
import shutil

import iotests
from iotests import nbd

SIZE = 8 << 20


class NbdServerPeers(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.need_reference()
        self.img('create', '-q', '-f', 'qcow2', 'base', str(SIZE))
        self.io('base', 'write -q -P 1 0 64k', fmt='qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2',
                 'a')
        self.img('bitmap', '--add', '-g', '64k', 'a', 'bits')
        self.io('a', 'write -q -P 2 1M 128k', 'write -q -z 2M 64k',
                fmt='qcow2')
        self.running = self.daemon(
            '--blockdev', 'file,filename=a,node-name=f',
            '--blockdev', 'qcow2,file=f,node-name=n', '--object',
            'iothread,id=t', '--nbd-server',
            'addr.type=unix,addr.path=nbd.sock', '--export',
            'nbd,id=e,node-name=n,writable=on,name=x,iothread=t,'
            'allocation-depth=on,bitmaps.0=bits')
        qmp = self.running.connect()
        nbd.wait_for(lambda: qmp.cmd('query-block-exports'))
        self.uri = 'nbd+unix:///x?socket=' + self.path('nbd.sock')

    def libnbd(self, program, *args):
        if not shutil.which(program):
            self.skipTest(f'{program} of libnbd is not installed')
        return self._run([program, *args], 0)

    def stop_and_check(self):
        self.assertEqual(self.running.stop(), 0)
        self.ref('check', '-q', 'a')

    def test_nbdinfo(self):
        info = json.loads(self.libnbd('nbdinfo', '--json', self.uri).stdout)
        export = info['exports'][0]
        self.assertEqual((info['structured'], export['export-name'],
                          export['export-size']), (True, 'x', SIZE))
        for name, value in (
                ('is_read_only', False), ('can_df', True), ('can_fua', True),
                ('can_fast_zero', True), ('can_multi_conn', True),
                ('can_trim', True), ('can_cache', True)):
            self.assertIs(export[name], value, name)
        self.assertEqual(export['contexts'],
                         ['base:allocation', 'qemu:allocation-depth',
                          'qemu:dirty-bitmap:bits'])
        bits = json.loads(self.libnbd(
            'nbdinfo', '--json', '--map=qemu:dirty-bitmap:bits',
            self.uri).stdout)
        self.assertEqual([(e['offset'], e['length']) for e in bits
                          if e['type']], [(1 << 20, 131072),
                                          (2 << 20, 65536)])

    def test_nbdcopy(self):
        self.libnbd('nbdcopy', self.uri, 'out')
        self.ref('compare', '-F', 'qcow2', '-U', 'out', 'a')
        data = self.rng().randbytes(SIZE // 2) + bytes(SIZE // 2)
        self.write_file('in', data)
        self.libnbd('nbdcopy', '--flush', 'in', self.uri)
        self.libnbd('nbdcopy', self.uri, 'out')
        self.assertEqual(self.read_file('out'), data)
        self.stop_and_check()
        self.assert_content('a', data, fmt='qcow2')

    def test_qemu_img(self):
        mine = self.img_json('map', '-U', '-f', 'qcow2', 'a')
        theirs = self.ref_json('map', '-f', 'raw', self.uri)
        self.assertEqual([(e['start'], e['length'], e['zero']) for e in theirs],
                         [(0, 65536, False), (65536, 983040, True),
                          (1048576, 131072, False), (1179648, 7208960, True)])
        self.assertEqual(sum(e['length'] for e in mine), SIZE)
        self.ref('convert', '-f', 'raw', '-O', 'raw', self.uri, 'out')
        self.ref('compare', '-f', 'raw', '-F', 'raw', self.uri, 'out')
        self.write_file('in', self.rng().randbytes(SIZE))
        self.ref('convert', '-n', '-f', 'raw', '-O', 'raw', '-W', 'in',
                 self.uri)
        self.ref('compare', '-f', 'raw', '-F', 'raw', self.uri, 'in')
        self.stop_and_check()

    def test_qemu_io(self):
        self.ref_io(self.uri, 'write -P 9 5 100000', 'write -z -u 1M 1M',
                    'write -f -P 8 3M 64k', 'discard 4M 1M', 'flush',
                    'aio_read -P 9 5 100000', 'aio_read -P 0 1M 1M',
                    'aio_flush', 'read -P 8 3M 64k', 'length', fmt='raw')
        # What lies beyond the end fails, and nothing else does.
        self.ref_io(self.uri, 'read 8M 512', 'read -P 9 5 100', fmt='raw',
                    rc=1)
        self.stop_and_check()


if __name__ == '__main__':
    iotests.main()
