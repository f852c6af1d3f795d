#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""The NBD server as clients see it, those that mean well and those that do not."""
import struct

import iotests
from iotests import nbd
from iotests.nbd import NBDClient, NBDError, string

SIZE = 4 << 20


class NbdProtocol(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.img('create', '-q', '-f', 'qcow2', 'base', str(SIZE))
        self.io('base', 'write -P 1 0 64k', fmt='qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2',
                 'a')
        self.img('bitmap', '--add', '-g', '64k', 'a', 'bits')
        self.io('a', 'write -P 2 1M 128k', 'write -z 2M 64k', fmt='qcow2')
        self.running = self.daemon(
            '--blockdev', 'file,filename=a,node-name=f,discard=unmap',
            '--blockdev', 'qcow2,file=f,node-name=n,discard=unmap',
            '--nbd-server', 'addr.type=unix,addr.path=nbd.sock', '--export',
            'nbd,id=e,node-name=n,writable=on,name=x,description=words,'
            'allocation-depth=on,bitmaps.0=bits')
        self.qmp = self.running.connect()
        # The monitor speaks while later options are carried out.
        nbd.wait_for(lambda: self.qmp.cmd('query-block-exports'))

    def tearDown(self):
        """Whatever was said to it, it lives and ends in an orderly way."""
        client = self.connect(nbd.STRUCTURED)
        self.assertEqual(len(client.pread(0, 4096)), 4096)
        self.assertEqual(self.running.stop(), 0)
        self.img('check', '-q', 'a')

    def open(self, **kwargs):
        client = NBDClient(self.path('nbd.sock'), **kwargs)
        self.addCleanup(client.close)
        return client

    def connect(self, *styles, contexts=()):
        client = self.open()
        for style in styles:
            self.assertEqual(client.agree(style), [(nbd.ACK, b'')])
        if contexts:
            client.set_meta('x', *contexts)
        self.assertIsInstance(client.go('x'), dict)
        return client

    def each_style(self, contexts=()):
        for styles in (), (nbd.STRUCTURED,), (nbd.EXTENDED,), (
                nbd.STRUCTURED, nbd.EXTENDED):
            with self.subTest(styles):
                yield self.connect(*styles, contexts=contexts if styles
                                   else ())

    def fails(self, errno, function, *args, **kwargs):
        with self.assertRaises(NBDError) as caught:
            function(*args, **kwargs)
        self.assertEqual(caught.exception.errno, errno)

    # --- handshake ---

    def test_list_and_info(self):
        client = self.open()
        self.assertEqual(client.option(nbd.LIST),
                         [(nbd.SERVER, string('x') + b'words'),
                          (nbd.ACK, b'')])
        self.assertEqual(client.go('y', nbd.INFO), nbd.UNKNOWN)
        self.assertEqual(client.go('', nbd.GO), nbd.UNKNOWN)
        infos = client.go('x', nbd.INFO, infos=(1, 2, 3, 77))
        self.assertEqual((infos[1], infos[2]), (b'x', b'words'))
        self.assertEqual(struct.unpack('>III', infos[3])[2], 32 << 20)
        self.assertEqual((client.size, client.flags), (SIZE, 0xd6d))
        self.assertEqual(client.option(nbd.ABORT), [(nbd.ACK, b'')])
        self.assertTrue(client.is_gone())

    def test_refused_options(self):
        client = self.open()
        for code, data, error in (
                (nbd.STARTTLS, b'', nbd.POLICY),
                (nbd.STARTTLS, b'x', nbd.INVALID),
                (nbd.LIST, b'x', nbd.INVALID),
                (nbd.STRUCTURED, b'x', nbd.INVALID),
                (nbd.EXTENDED, b'x', nbd.INVALID),
                (nbd.SET_META, b'', nbd.INVALID),   # not agreed on yet
                (4, b'', nbd.UNSUP), (0, b'', nbd.UNSUP),
                (0xffffffff, b'abc', nbd.UNSUP),
                (77, bytes(1 << 20), nbd.TOO_BIG),
                (nbd.GO, b'', nbd.INVALID),
                (nbd.GO, string('x'), nbd.INVALID),
                (nbd.GO, string('x') + b'\0\1', nbd.INVALID),
                (nbd.GO, string('x') + b'\0\0\0', nbd.INVALID),
                (nbd.GO, b'\xff\xff\xff\xffx\0\0', nbd.INVALID),
                (nbd.INFO, string('y' * 4097) + b'\0\0', nbd.INVALID)):
            with self.subTest((code, data[:20])):
                self.assertEqual(client.option(code, data)[-1][0], error)
        client.agree(nbd.STRUCTURED)
        for data in (b'', string('x'), string('x') + b'\0\0\0\1',
                     string('x') + b'\xff\xff\xff\xff' + string('base:'),
                     string('x') + b'\0\0\0\1' + string('q') + b'x',
                     string('x') + b'\0\0\0\1' + string('q' * 4097)):
            with self.subTest(data[:20]):
                self.assertEqual(client.option(nbd.SET_META, data)[-1][0],
                                 nbd.INVALID)
        self.assertEqual(client.agree(nbd.STRUCTURED)[-1][0], nbd.INVALID)
        self.assertIsInstance(client.go('x'), dict)

    def test_hang_ups(self):
        """What leaves no way to go on."""
        cases = {
            'unknown flags': lambda c: None,
            'magic': lambda c: c.send_option(nbd.LIST, magic=1),
            'length': lambda c: c.send_option(77, length=0xffffffff),
            'name': lambda c: c.send_option(nbd.EXPORT_NAME, b'y'),
        }
        for name, act in cases.items():
            with self.subTest(name):
                client = self.open(flags=7 if name == 'unknown flags' else 3)
                act(client)
                self.assertTrue(client.is_gone())
        plain = self.open(flags=0)
        plain.send_option(nbd.LIST)
        self.assertTrue(plain.is_gone())

    def test_export_name(self):
        for flags, zeroes in (0, 124), (1, 124), (3, 0):
            client = self.open(flags=flags)
            client.send_option(nbd.EXPORT_NAME, b'x')
            answer = client.read(10 + zeroes)
            self.assertEqual(struct.unpack('>Q', answer[:8])[0], SIZE)
            self.assertEqual(client.pread(0, 512), b'\1' * 512)

    def test_contexts(self):
        client = self.open()
        client.agree(nbd.STRUCTURED)
        every = ['base:allocation', 'qemu:allocation-depth',
                 'qemu:dirty-bitmap:bits']
        for queries, names in (
                ((), every), (('base:',), every[:1]), (('qemu:',), every[1:]),
                (('qemu:dirty-bitmap:',), every[2:]), (('other:x',), []),
                (('qemu:dirty-bitmap:no', 'base:allocation'), every[:1])):
            replies = client.option(nbd.LIST_META, string('x') + struct.pack(
                '>I', len(queries)) + b''.join(map(string, queries)))
            self.assertEqual([d[4:].decode() for k, d in replies
                              if k == nbd.META], names)
        # Only whole names can be chosen.
        self.assertEqual(client.set_meta('x', 'base:', 'qemu:'),
                         [(nbd.ACK, b'')])
        self.assertEqual(client.set_meta('y', every[0])[-1][0], nbd.UNKNOWN)
        client.set_meta('x', *every, every[0])
        self.assertEqual(sorted(client.contexts.values()), every)

    # --- requests ---

    def test_data(self):
        for client in self.each_style():
            self.assertEqual(client.pread(0, 65536), b'\1' * 65536)
            self.assertEqual(client.pread(65530, 12), b'\1' * 6 + bytes(6))
            client.pwrite(300001, b'abcdef' * 1000, nbd.FUA)
            self.assertEqual(client.pread(300001, 6000), b'abcdef' * 1000)
            client.request(nbd.ZEROES, 300000, 5000, nbd.NO_HOLE)
            self.assertEqual(client.pread(300001, 6000),
                             bytes(4999) + (b'abcdef' * 1000)[4999:])
            client.request(nbd.ZEROES, 0, SIZE // 2, nbd.FUA | nbd.FAST_ZERO)
            self.assertEqual(client.pread(0, 1 << 20), bytes(1 << 20))
            client.pwrite(0, b'\1' * 65536)
            client.request(nbd.TRIM, 3 << 20, 1 << 20, nbd.FUA)
            client.request(nbd.CACHE, 0, SIZE)
            client.request(nbd.FLUSH)
            # Nothing at all.
            self.assertEqual(client.pread(SIZE, 0), b'')
            client.pwrite(0, b'')
            client.request(nbd.ZEROES, 5, 0)
            client.request(nbd.TRIM, SIZE, 0)

    def test_refused_requests(self):
        for client in self.each_style():
            for offset, length in ((SIZE, 1), (SIZE - 1, 2), (1 << 63, 1),
                                   ((1 << 64) - 1, 2)):
                self.fails(nbd.EINVAL, client.pread, offset, length)
                self.fails(nbd.ENOSPC, client.pwrite, offset, bytes(length))
                self.fails(nbd.ENOSPC, client.request, nbd.ZEROES, offset,
                           length)
                self.fails(nbd.EINVAL, client.request, nbd.TRIM, offset,
                           length)
            self.fails(nbd.EINVAL, client.pread, 0, (32 << 20) + 1)
            self.fails(nbd.EINVAL, client.request, nbd.FLUSH, 1, 0)
            self.fails(nbd.EINVAL, client.request, 8)
            self.fails(nbd.EINVAL, client.request, 0xffff)
            for flag in range(6, 16):
                self.fails(nbd.EINVAL, client.pread, 0, 1, 1 << flag)
                self.fails(nbd.EINVAL, client.pwrite, 0, b'x', 1 << flag)
            self.fails(nbd.EINVAL, client.pwrite, 0, b'x', nbd.DF)
            if client.style:
                self.fails(nbd.EINVAL, client.status, 0, 512)
                client.pread(0, 512, nbd.DF)
            else:
                self.fails(nbd.EINVAL, client.pread, 0, 512, nbd.DF)
            self.assertEqual(client.pread(0, 512), b'\1' * 512)

    def test_bad_requests(self):
        for client in self.each_style():
            client.sock.sendall(b'garbage!' * 4)
            self.assertTrue(client.is_gone())
        for client in self.each_style():
            client.send(nbd.WRITE, 0, (32 << 20) + 1)
            self.assertTrue(client.is_gone())
        for client in self.each_style():
            client.send(nbd.WRITE, 0, 65536, data=b'short')
            client.close()
        for client in self.each_style():
            client.send(nbd.DISC)
            self.assertTrue(client.is_gone())

    def test_payload_of_others(self):
        """With extended headers every command can say that it has some."""
        client = self.connect(nbd.EXTENDED)
        cookie = client.send(nbd.STATUS, 0, 5000, nbd.PAYLOAD_LEN,
                             bytes(5000))
        self.fails(nbd.EINVAL, client.chunks, cookie)
        self.assertEqual(client.pread(0, 1), b'\1')

    def test_status(self):
        every = ['base:allocation', 'qemu:allocation-depth',
                 'qemu:dirty-bitmap:bits']
        for style in nbd.STRUCTURED, nbd.EXTENDED:
            client = self.connect(style, contexts=every)
            found = client.status(0, SIZE)
            self.assertEqual(found, {
                every[0]: [(65536, 0), (983040, 3), (131072, 0),
                           (3014656, 3)],
                every[1]: [(65536, 2), (983040, 0), (131072, 1),
                           (917504, 0), (65536, 1), (2031616, 0)],
                every[2]: [(1 << 20, 0), (131072, 1), (917504, 0),
                           (65536, 1), (2031616, 0)]})
            one = client.status(1000, SIZE - 1000, nbd.REQ_ONE)
            self.assertEqual(one[every[0]], [(64536, 0)])
            self.fails(nbd.EINVAL, client.status, 0, 0)
            self.fails(nbd.EINVAL, client.status, 1, SIZE)

    def test_contexts_of_another_export(self):
        """Chosen for one export they are of no use in another."""
        self.qmp.cmd('blockdev-add', driver='null-co', node_name='m')
        self.qmp.cmd('block-export-add', {'type': 'nbd', 'id': 'm',
                                          'node-name': 'm'})
        client = self.open()
        client.agree(nbd.STRUCTURED)
        client.set_meta('x', 'qemu:dirty-bitmap:bits')
        client.go('m')
        self.fails(nbd.EINVAL, client.status, 0, 512)

    def test_many_at_once(self):
        """More than the server takes at once; replies come in any order."""
        for client in self.each_style():
            rng = self.rng()
            waiting = {n: b'\1' * 4096 for n in range(500)}
            client.sock.sendall(b''.join(
                client.head(n, nbd.READ, 4096 * rng.randrange(16), 4096)
                for n in waiting))
            for _ in range(500):
                if client.style:
                    done, kind, cookie, data = client.chunk()
                    self.assertEqual((done, kind), (1, 1))
                    self.assertEqual(data[8:], waiting.pop(cookie))
                else:
                    cookie = struct.unpack('>8xQ', client.read(16))[0]
                    self.assertEqual(client.read(4096), waiting.pop(cookie))

    def test_garbage(self):
        """Random bytes behind a good beginning."""
        rng = self.rng()
        for _ in range(150):
            client = self.open(flags=rng.choice((0, 1, 3, 3, 3)))
            # The server may wait for the rest of what it takes for an option.
            client.sock.settimeout(.2)
            try:
                for _ in range(rng.randrange(4)):
                    client.send_option(
                        rng.randrange(13), rng.randbytes(rng.randrange(40)),
                        rng.choice((None, None, 0, rng.getrandbits(17))))
                if rng.random() < .5:
                    client.agree(nbd.STRUCTURED)
                    client.go('x')
                    for _ in range(rng.randrange(8)):
                        client.send(rng.choice((0, 3, 5, 7, 7, 9)),
                                    rng.randrange(SIZE),
                                    rng.getrandbits(rng.randrange(32)),
                                    rng.getrandbits(rng.choice((4, 16))))
                client.sock.sendall(rng.randbytes(rng.randrange(200)))
            except (OSError, EOFError, AssertionError):
                pass
            client.close()


if __name__ == '__main__':
    iotests.main()
