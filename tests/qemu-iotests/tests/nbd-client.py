#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""The driver nbd, with servers that mean well and servers that do not."""
import os
import struct
import threading
import time

import iotests
from iotests import nbd, nbd_server
from iotests.nbd_server import ALL, NBDServer

SIZE = 1 << 20
STYLES = {'simple': 0, 'structured': 1, 'extended': 2}


class NbdCase(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.fmt = 'raw'
        self.uri = f'nbd+unix:///?socket={self.path("s")}'

    def serve(self, **kwargs):
        if os.path.exists(self.path('s')):
            os.unlink(self.path('s'))
        server = NBDServer(self.path('s'), **kwargs)
        self.addCleanup(server.close)
        return server

    def opts(self, **kwargs):
        """Options of a node; _ stands for -."""
        more = ''.join(f',{key.replace("_", "-")}={value}'
                       for key, value in kwargs.items())
        return (f'driver=nbd,server.type=unix,server.path={self.path("s")}'
                f'{more}')

    def io_opts(self, *commands, rc=0, **kwargs):
        return self.io(self.opts(**kwargs), *commands, fmt=None,
                       options=['--image-opts'], rc=rc)


class NbdClient(NbdCase):
    def test_each_kind_of_server(self):
        kinds = {name: {'style': style} for name, style in STYLES.items()}
        kinds['old'] = {'oldstyle': True}
        kinds['not fixed'] = {'greeting': 2, 'style': 0}
        kinds['not fixed, zeroes'] = {'greeting': 0, 'style': 0}
        kinds['no go'] = {'has_go': False, 'style': 1}
        kinds['blocks'] = {'blocks': (1, 4096, 65536)}
        for name, kind in kinds.items():
            with self.subTest(name):
                server = self.serve(**kind)
                self.io(self.uri, 'write -q -P 1 0 128k', 'write -q -P 2 4k 4k',
                        'write -q -z 8k 4k', 'write -q -P 3 513 1', 'flush',
                        'discard 64k 4k', 'read -q -P 1 0 513',
                        'read -q -P 3 513 1', 'read -q -P 2 4k 4k',
                        'read -q -P 0 8k 4k', 'read -q -P 1 12k 116k')
                self.assertEqual(server.disk[:5], b'\1' * 5)
                server.close()

    def test_flags_of_requests(self):
        server = self.serve()
        self.io_opts('write -q -f 0 4k', 'write -q -z 4k 4k',
                     'write -q -z -u -f 8k 4k', 'discard 64k 4k', 'flush',
                     discard='unmap')
        seen = {(r.type, r.flags & ~nbd.PAYLOAD_LEN) for r in server.requests}
        self.assertEqual(seen - {(nbd.FLUSH, 0), (nbd.STATUS, 8)},
                         {(nbd.WRITE, nbd.FUA),
                          (nbd.ZEROES, nbd.NO_HOLE | nbd.FUA),
                          (nbd.ZEROES, nbd.FUA), (nbd.TRIM, 0)})

    def test_what_a_server_cannot(self):
        server = self.serve(flags=0, style=0)
        self.io_opts('write -q -f -P 1 0 8k', 'write -q -z 0 4k', 'flush',
                     'discard 64k 4k', 'read -q -P 0 0 4k', discard='unmap')
        self.assertEqual({r.type for r in server.requests},
                         {nbd.READ, nbd.WRITE})

    def test_long_requests_are_cut(self):
        server = self.serve(size=64 << 20, blocks=(512, 4096, 1 << 20))
        self.io(self.uri, 'write -q -P 7 512k 40M', 'write -q -z 0 64M',
                'read -q -P 0 0 64M')
        self.assertEqual(max(r.length for r in server.requests
                             if r.type in (nbd.READ, nbd.WRITE)), 1 << 20)
        self.assertIn(64 << 20, [r.length for r in server.requests
                                 if r.type == nbd.ZEROES])

    def test_chunks_in_any_order(self):
        def answer(c, req):
            if req.type != nbd.READ:
                return c.answer(req)
            parts = [(req.offset + i, 512) for i in range(0, req.length, 512)]
            self.rng().shuffle(parts)
            for i, (at, length) in enumerate(parts):
                done = i == len(parts) - 1
                if i % 3:
                    c.data(req, at, b'\5' * length, done=done)
                else:
                    c.hole(req, at, length, done=done)
            return None

        for style in 1, 2:
            self.serve(style=style, answer=answer)
            read = self.io(self.uri, 'read -v 0 64k').stdout
            self.assertIn('read 65536/65536', read)
            self.assertIn('05 05 05', read)
            self.assertIn('00 00 00', read)

    def test_errors_of_requests(self):
        def answer(c, req):
            if req.offset == 4096:
                c.error(req, nbd.ENOSPC if req.type == nbd.WRITE else nbd.EIO)
            else:
                c.answer(req)

        for style in STYLES.values():
            server = self.serve(style=style, answer=answer)
            for command, error in (('write 4k 4k', 'No space left'),
                                   ('read 4k 4k', 'Input/output error')):
                self.io_fails(error, self.uri, command)
            self.io(self.uri, 'aio_write -q 4k 4k', 'aio_flush',
                    'read -q 0 4k', rc=None)
            server.close()

    # --- servers that are wrong ---

    def wrong(self, answer, command='read -P 0 0 64k', style=1, **kwargs):
        """The request must fail, once, and nothing else happen."""
        server = self.serve(answer=answer, style=style, **kwargs)
        result = self.io_fails('Input/output error', self.uri, command)
        self.assertNotIn('Pattern', result.stdout)
        server.close()

    def test_wrong_reads(self):
        half = b'\1' * 32768
        whole = half * 2

        def twice(c, req):
            c.data(req, 0, half, done=False)
            c.data(req, 0, half)

        def overlap(c, req):
            c.data(req, 32768, half, done=False)
            c.hole(req, 0, 32769)

        def truncated(c, req):
            c.chunk(req, 1, struct.pack('>Q', 0) + half, length=65544)
            c.sock.close()

        answers = {
            'cookie': lambda c, r: c.chunk(r, 1, bytes(8) + whole,
                                           cookie=r.cookie + 1),
            'cookie of no slot': lambda c, r: c.chunk(
                r, 1, bytes(8) + whole, cookie=0xffffffff),
            'short': lambda c, r: c.data(r, 0, half),
            'nothing': lambda c, r: c.chunk(r, 0),
            'long': lambda c, r: c.data(r, 0, whole + b'x'),
            'beyond': lambda c, r: c.data(r, 32768, whole),
            'before': lambda c, r: c.data(r, 1 << 63, whole),
            'wraps': lambda c, r: c.data(r, (1 << 64) - 32768, whole),
            'empty': lambda c, r: c.data(r, 0, b''),
            'no offset': lambda c, r: c.chunk(r, 1, b'1234'),
            'huge': lambda c, r: c.chunk(r, 1, bytes(8), length=0xffffffff),
            'empty hole': lambda c, r: c.hole(r, 0, 0),
            'long hole': lambda c, r: c.hole(r, 0, 0xffffffff),
            'odd hole': lambda c, r: c.chunk(r, 2, bytes(13)),
            'hole behind': lambda c, r: c.hole(r, 65536, 512),
            'twice': twice,
            'overlap': overlap,
            'truncated': truncated,
            'status': lambda c, r: c.extents(r, (65536, 0)),
            'unknown': lambda c, r: c.chunk(r, 77, b'1234'),
            'not done': lambda c, r: c.chunk(r, 0, done=False),
            'error without number': lambda c, r: c.chunk(r, 0x8001, b'123'),
            'error 0': lambda c, r: c.chunk(r, 0x8001, bytes(6)),
            'long words': lambda c, r: c.chunk(
                r, 0x8001, struct.pack('>IH', 5, 9) + b'short'),
            'endless words': lambda c, r: c.chunk(r, 0x8001, bytes(6),
                                                  length=1 << 31),
            'magic': lambda c, r: c.send(bytes(64)),
            'simple': lambda c, r: c.simple(r, whole),
            'gone': lambda c, r: c.sock.close(),
        }
        for name, answer in answers.items():
            with self.subTest(name):
                self.wrong(answer)
        with self.subTest('simple, other cookie'):
            self.wrong(lambda c, r: c.simple(r, whole, cookie=r.cookie ^ 1),
                       style=0)
        with self.subTest('structured, not agreed on'):
            self.wrong(lambda c, r: c.data(r, 0, whole), style=0)
        with self.subTest('extended, other offset'):
            self.wrong(lambda c, r: c.chunk(r, 1, bytes(8) + whole,
                                            offset=1), style=2)
        with self.subTest('extended, huge'):
            self.wrong(lambda c, r: c.chunk(r, 1, bytes(8), length=1 << 63),
                       style=2)

    def test_wrong_other_replies(self):
        self.wrong(lambda c, r: c.data(r, 0, b'12345678'), 'write 0 4k')
        self.wrong(lambda c, r: c.hole(r, 0, 4096), 'write 0 4k')

    def test_wrong_extents(self):
        answers = {
            'empty': lambda c, r: c.extents(r, (0, 0)),
            'none': lambda c, r: c.extents(r),
            'context': lambda c, r: c.extents(r, (512, 0), context=8),
            'no answer': lambda c, r: c.chunk(r, 0),
            'odd': lambda c, r: c.chunk(r, 5, bytes(13)),
            'data': lambda c, r: c.data(r, 0, bytes(512)),
            'huge': lambda c, r: c.chunk(r, 5, bytes(12), length=0xfffffffc),
        }
        for name, answer in answers.items():
            with self.subTest(name):
                server = self.serve(style=1, answer=answer)
                self.img_fails('Input/output error', 'map', '-f', 'raw',
                               self.uri)
                server.close()
        with self.subTest('count'):
            self.serve(style=2, answer=lambda c, r: c.extents(r, (512, 0),
                                                              count=2))
            self.img_fails('Input/output error', 'map', '-f', 'raw', self.uri)

    def test_odd_extents(self):
        """Longer than asked, cut in blocks, holes that read as anything."""
        def answer(c, req):
            if req.type != nbd.STATUS:
                return c.answer(req)
            return c.extents(req, *{0: [(65536 + 100, 3)], 65536: [(100, 3)],
                                    66048: [(1000, 1)]}.get(
                                        req.offset, [(1 << 31, 2)]))

        self.serve(style=1, answer=answer)
        found = [(e['start'], e['length'], e['data'], e['zero'])
                 for e in self.img_json('map', '-f', 'raw', self.uri)]
        self.assertEqual(found, [
            (0, 65536, False, True), (65536, 1024, True, False),
            (66560, SIZE - 66560, True, True)])

    def test_wrong_handshakes(self):
        go = struct.pack('>HQH', 0, SIZE, ALL)
        blocks = [(3, 512, 4096, 65536), (3, 0, 4096, 65536),
                  (3, 131072, 131072, 131072), (3, 512, 256, 65536),
                  (3, 512, 513, 65536), (3, 4096, 4096, 512)]

        def on(number, *replies):
            def option(c, option, data):
                if option != number:
                    return False
                for kind, reply in replies:
                    c.reply(option, kind, reply)
                return True
            return {'option': option}

        cases = [
            ('not tell', on(nbd.GO, (nbd.ACK, b''))),
            ('too large', on(nbd.GO, (nbd.REP_INFO, struct.pack(
                '>HQH', 0, 1 << 63, ALL)), (nbd.ACK, b''))),
            ('Unexpected size', on(nbd.GO, (nbd.REP_INFO, go[:-1]))),
            ('Unexpected size', on(nbd.GO, (nbd.REP_INFO, b'x'))),
            ('Unexpected reply type', on(nbd.GO, (77, b''))),
            ('not available\nserver reported: no such thing', on(
                nbd.GO, (nbd.UNKNOWN, b'no such thing'))),
            ('TLS negotiation required before option 11', on(
                nbd.EXTENDED, (0x80000005, b''))),
            ('twice', on(nbd.SET_META, (nbd.META, b'1234base:allocation'),
                         (nbd.META, b'1234base:allocation'))),
            ('another metadata context', on(
                nbd.SET_META, (nbd.META, b'1234base:allocatio'))),
            ('another metadata context', on(nbd.SET_META, (nbd.META, b'12'))),
            ('do not end', on(nbd.GO, *[(nbd.REP_INFO, b'\0\x09')] * 1000)),
            ('Unexpected option', {'option': lambda c, o, d: c.reply(
                o + 1, nbd.ACK) or True}),
            ('too long', {'option': lambda c, o, d: c.send(struct.pack(
                '>QIII', nbd.REP_MAGIC, o, nbd.ACK, 1 << 31)) or True}),
            ('magic', {'option': lambda c, o, d: c.send(bytes(20)) or True}),
            ('hung up', {'option': lambda c, o, d: c.sock.close() or True}),
            ('multiple of the minimum', {'blocks': (4096, 4096, 65536),
                                         'size': SIZE + 512}),
        ] + [('block size', on(nbd.GO, (nbd.REP_INFO, go), (
            nbd.REP_INFO, struct.pack('>HIII', *b)))) for b in blocks[1:]]
        for message, kwargs in cases:
            with self.subTest(message):
                server = self.serve(**kwargs)
                self.img_fails(message, 'info', self.uri)
                server.close()

    def test_no_server_of_nbd(self):
        for hello in b'', b'SSH-2.0-thing\r\n' * 10, b'NBDMAGIC' + bytes(8):
            server = self.serve(hello=hello)
            self.img_fails('Bad|hung up|reset', 'info', self.uri)
            server.close()

    # --- names ---

    def test_names(self):
        server = self.serve(option=lambda c, o, d: names.append(d)
                            if o == nbd.GO else None)
        path = self.path('s')
        for name, export, shown in (
                (self.uri, b'', f'nbd+unix://?socket={path}'),
                (f'nbd:unix:{path}', b'', f'nbd+unix://?socket={path}'),
                (f'nbd:unix:{path}:exportname=a b', b'a b',
                 f'nbd+unix:///a%20b?socket={path}'),
                (f'nbd+unix:////%C3%A4?socket={path}', '/ä'.encode(),
                 f'nbd+unix:////ä?socket={path}'),
                ('json:{"driver":"nbd","export":"x","server":{"type":"unix",'
                 f'"path":"{path}"}}}}', b'x', f'nbd+unix:///x?socket={path}'),
                (f'json:{{"driver":"nbd","path":"{path}"}}', b'',
                 f'nbd+unix://?socket={path}')):
            names = []
            info = self.img_json('info', name)
            self.assertEqual(info['filename'], shown)
            self.assertEqual(names[0][4:-4], export)
        self.assertEqual(server.accepted, 6)

    def test_bad_names(self):
        for name, message in (
                ('nbd:foo', "error parsing address 'foo'"),
                ('nbd:a:b:c:1', 'error parsing address'),
                ('nbd:', 'address missing'),
                ('nbd:h:1:exportname=', 'address missing'),
                ('nbd://', 'No valid URL'),
                ('nbd://h/x?socket=/a', 'No valid URL'),
                ('nbd+unix:///x', 'No valid URL'),
                ('nbd+unix://h/x?socket=/a', 'No valid URL'),
                ('nbd+unix:///x?socket=/a&b=c', 'No valid URL'),
                ('nbd+foo://a', "Unknown protocol 'nbd.foo'"),
                ('json:{"driver":"nbd"}', 'address missing'),
                ('json:{"driver":"nbd","path":"a","host":"b"}',
                 'path and host'),
                ('json:{"driver":"nbd","port":"1"}', 'without host'),
                ('nbd+unix:///?socket=nope', 'No such file'),
                ('nbd+unix:///' + 'x' * 4097 + '?socket=s', 'too long')):
            with self.subTest(name):
                self.img_fails(message, 'info', name)

    # --- what an export is ---

    def test_read_only(self):
        self.serve(flags=ALL | nbd_server.RO)
        self.io_fails('write permission', self.uri, 'read 0 512')
        self.io_fails('read-only', self.uri, 'write 0 512', options=['-r'])
        qmp = self.daemon('--blockdev', self.opts(
            node_name='n', auto_read_only='on')).connect()
        nbd.wait_for(lambda: qmp.cmd('query-named-block-nodes'))
        self.assertTrue(qmp.cmd('query-named-block-nodes')[0]['ro'])

    def test_length(self):
        self.serve(size=700, style=0)
        self.assertEqual(self.img_json('info', self.uri)['virtual-size'], 1024)
        self.io(self.uri, 'write -q -P 3 600 100', 'read -q -P 3 600 100')
        self.io_fails('Cannot grow', self.uri, 'truncate 2M')
        self.img_fails('Cannot resize', 'resize', '-f', 'raw', '--shrink',
                       self.uri, '512')

    def test_create(self):
        server = self.serve(size=16 << 20)
        server.disk[:4] = b'QFI\xfb'
        self.img('create', '-f', 'raw', self.uri, '1M')
        self.assertEqual(server.disk[:512], bytes(512))
        self.img_fails('Cannot grow', 'create', '-f', 'raw', self.uri, '17M')
        self.img('create', '-f', 'qcow2', self.uri, '1G')
        self.io(self.uri, 'write -q -P 9 100M 1M', 'read -q -P 9 100M 1M',
                fmt='qcow2')
        self.img('convert', '-O', 'raw', self.uri, 'out')
        self.io('out', 'read -q -P 9 100M 1M', 'read -q -P 0 0 100M')
        self.img('check', '-f', 'qcow2', self.uri)

    def test_contexts(self):
        self.img('create', '-q', '-f', 'qcow2', 'b', '1M')
        self.io('b', 'write -q 0 128k', fmt='qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'b', '-F', 'qcow2', 'q')
        self.img('bitmap', '--add', '-g', '64k', 'q', 'bits')
        self.io('q', 'write -q 64k 64k', 'write -q -z 256k 64k', fmt='qcow2')
        self.daemon(
            '--blockdev', 'file,filename=q,node-name=f,read-only=on',
            '--blockdev', 'qcow2,file=f,node-name=n,read-only=on',
            '--nbd-server', 'addr.type=unix,addr.path=s', '--export',
            'nbd,id=e,node-name=n,name=x,allocation-depth=on,bitmaps.0=bits')
        nbd.wait_for(lambda: self.img('info', '--image-opts', self.opts(
            export='x'), rc=None).rc == 0)

        def shown(context):
            return [(e['start'] >> 16, e['length'] >> 16, e['data'], e['zero'])
                    for e in self.img_json('map', '--image-opts', self.opts(
                        export='x', **context))]

        self.assertEqual(shown({}), [(0, 2, True, False),
                                     (2, 14, False, True)])
        self.assertEqual(shown({'x_dirty_bitmap': 'qemu:dirty-bitmap:bits'}),
                         [(0, 1, True, False), (1, 1, False, False),
                          (2, 2, True, False), (4, 1, False, False),
                          (5, 11, True, False)])
        self.assertEqual(shown({'x_dirty_bitmap': 'qemu:allocation-depth'})[:2],
                         [(0, 1, True, True), (1, 1, False, False)])
        self.img_fails('x-dirty-bitmap qemu:dirty-bitmap:no not found',
                       'map', '--image-opts', self.opts(
                           export='x', x_dirty_bitmap='qemu:dirty-bitmap:no'))

    # --- many requests ---

    def test_many_at_a_time(self):
        """Answers in another order, from several threads of the server."""
        held = []
        lock = threading.Lock()

        def answer(c, req):
            with lock:
                held.append((c, req))
                if len(held) < 8 and (req.type == nbd.READ and
                                      req.offset < SIZE // 2):
                    return
                while held:
                    conn, old = held.pop()
                    conn.answer(old)

        for multi in 0, nbd_server.MULTI:
            server = self.serve(answer=answer, flags=ALL | multi)
            server.disk[:] = bytes(n >> 12 & 0xff for n in range(0, SIZE))
            commands = [f'aio_read -q -P {n} {n * 4}k 4k' for n in range(200)]
            result = self.io(self.uri, *commands, 'read -q 1020k 4k',
                             'aio_flush')
            self.assertEqual(result.stdout, '')
            server.close()

    def test_several_connections(self):
        server = self.serve(flags=ALL | nbd_server.MULTI)
        self.img('bench', '-f', 'raw', '-c', '2000', '-d', '64', '-w', self.uri)
        self.assertGreater(server.accepted, 1)
        self.assertLessEqual(server.accepted, 4)
        server.close()
        server = self.serve()
        self.img('bench', '-f', 'raw', '-c', '2000', '-d', '64', self.uri)
        self.assertEqual(server.accepted, 1)

    # --- connections that are lost ---

    def test_lost_without_delay(self):
        server = self.serve()
        io = self.io_process('-f', 'raw', self.uri)
        self.assertIn('read 512/512', io.cmd('read 0 512'))
        server.drop()
        self.assertIn('Input/output error', io.cmd('read 0 512'))
        time.sleep(.3)
        self.assertIn('read 512/512', io.cmd('read 0 512'))
        server.close()
        self.assertIn('Input/output error', io.cmd('write 0 512'))
        self.assertIn('Input/output error', io.cmd('write 0 512'))
        self.assertEqual(io.quit()[0], 1)

    def test_reconnect(self):
        server = self.serve()
        io = self.io_process('--image-opts', self.opts(reconnect_delay=30))
        io.cmd('write -P 5 0 512')
        for times in range(3):
            old = server.disk
            server.close()
            io.cmd('aio_write -q -P 6 4k 4k')
            timer = threading.Timer(.5, lambda disk=old: setattr(
                self, 'new', self.serve(disk=disk)))
            self.assertNotIn('failed', io.cmd('aio_read -P 5 0 512'))
            timer.start()
            timer.join()
            server = self.new
            self.assertNotIn('failed', io.cmd('aio_flush'))
            self.assertIn('read 4096/4096', io.cmd('read -P 6 4k 4k'), times)
        self.assertEqual(io.quit()[0], 0)

    def test_under_way(self):
        """Requests that were sent and not answered are sent again."""
        def silent(c, req):
            c.sock.close()

        server = self.serve(answer=silent)
        io = self.io_process('--image-opts', self.opts(reconnect_delay=30))
        io.cmd('aio_write -q -P 6 4k 4k')
        time.sleep(.2)
        server.answer = lambda c, req: c.answer(req)
        self.assertNotIn('failed', io.cmd('aio_flush'))
        self.assertIn('read 4096/4096', io.cmd('read -P 6 4k 4k'))
        self.assertEqual(io.quit()[0], 0)

    def test_delay_is_over(self):
        server = self.serve()
        io = self.io_process('--image-opts', self.opts(reconnect_delay=1))
        io.cmd('read 0 512')
        server.close()
        begin = time.monotonic()
        self.assertIn('Input/output error', io.cmd('read 0 512'))
        self.assertGreater(time.monotonic() - begin, .9)
        begin = time.monotonic()
        self.assertIn('Input/output error', io.cmd('read 0 512'))
        self.assertEqual(io.quit()[0], 1)

    def test_delay_with_a_server_that_drops(self):
        self.serve(answer=lambda c, req: c.sock.close())
        begin = time.monotonic()
        self.io_opts('read 0 512', reconnect_delay=2, rc=1)
        self.assertGreater(time.monotonic() - begin, 1.5)

    def test_another_export(self):
        for change in {'size': SIZE * 2}, {'flags': ALL | nbd_server.RO}, {
                'flags': ALL & ~nbd_server.FUA}, {'style': 1}, {
                'blocks': (4096, 4096, 65536)}:
            server = self.serve()
            io = self.io_process('-f', 'raw', self.uri)
            io.cmd('write 0 512')
            server.close()
            server = self.serve(**change)
            io.cmd('write 0 512')
            time.sleep(.3)
            self.assertIn('Input/output error', io.cmd('write 0 512'), change)
            self.assertGreaterEqual(server.accepted, 1)
            self.assertEqual(server.requests, [])
            self.assertEqual(io.quit()[0], 1)
            server.close()

    def test_open_timeout(self):
        threading.Timer(1, self.serve).start()
        self.io_opts('read -q 0 512', open_timeout=30)
        os.unlink(self.path('s'))
        begin = time.monotonic()
        self.io_opts('read -q 0 512', open_timeout=1, rc=1)
        self.assertGreater(time.monotonic() - begin, .4)

    def test_daemon_without_server(self):
        """Requests wait for a server; draining and removing do not for long."""
        _, qmp = self.waiting_daemon()
        begin = time.monotonic()
        self.qmp_fails('Input/output error', qmp, 'blockdev-reopen', {
            'options': [{
                'driver': 'nbd', 'node-name': 'n', 'reconnect-delay': 1000,
                'server': {'type': 'unix', 'path': self.path('s')}}]})
        self.assertLess(time.monotonic() - begin, 20)
        qmp.cmd('block-export-del', id='e', mode='hard')
        nbd.wait_for(lambda: not qmp.cmd('query-block-exports'))
        qmp.cmd('blockdev-del', {'node-name': 'n'})
        self.assertLess(time.monotonic() - begin, 40)

    def waiting_daemon(self):
        """A daemon whose client waits for its server's return."""
        server = self.serve()
        daemon = self.daemon(
            '--blockdev', self.opts(node_name='n', reconnect_delay=1000),
            '--object', 'iothread,id=t',
            '--nbd-server', 'addr.type=unix,addr.path=out', '--export',
            'nbd,id=e,node-name=n,writable=on,iothread=t')
        qmp = daemon.connect()
        nbd.wait_for(lambda: qmp.cmd('query-block-exports'))
        client = nbd.NBDClient(self.path('out'))
        self.addCleanup(client.close)
        client.go('n')
        client.pwrite(0, b'x' * 512)
        server.close()
        client.send(nbd.READ, 0, 512)
        client.send(nbd.WRITE, 0, 512, data=b'y' * 512)
        time.sleep(.5)
        return daemon, qmp

    def test_export_ends_without_server(self):
        _, qmp = self.waiting_daemon()
        begin = time.monotonic()
        qmp.cmd('block-export-del', id='e', mode='hard')
        qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.assertLess(time.monotonic() - begin, 30)
        # It has not given up for good.
        self.serve()
        qmp.cmd('block-export-add', {'type': 'nbd', 'id': 'e',
                                     'node-name': 'n'})
        client = nbd.NBDClient(self.path('out'))
        self.addCleanup(client.close)
        client.go('n')
        client.pread(0, 512)

    def test_daemon_ends_without_server(self):
        daemon, _ = self.waiting_daemon()
        begin = time.monotonic()
        self.assertEqual(daemon.stop(), 0)
        self.assertLess(time.monotonic() - begin, 30)

    def test_daemon_of_itself(self):
        """Server and client are one process."""
        self.img('create', '-q', '-f', 'raw', 'a', '1M')
        qmp = self.daemon(
            '--blockdev', 'file,filename=a,node-name=n',
            '--nbd-server', 'addr.type=unix,addr.path=s', '--export',
            'nbd,id=e,node-name=n,writable=on').connect()
        nbd.wait_for(lambda: qmp.cmd('query-block-exports'))
        qmp.cmd('blockdev-add', {
            'driver': 'nbd', 'node-name': 'c', 'export': 'n', 'server': {
                'type': 'unix', 'path': self.path('s')}})
        qmp.cmd('block-export-add', {'type': 'nbd', 'id': 'f', 'name': 'again',
                                     'node-name': 'c', 'writable': True})
        self.io_opts('write -q -P 4 0 64k', 'read -q -P 4 0 64k',
                     export='again')
        qmp.cmd('block-export-del', id='f', mode='hard')
        nbd.wait_for(lambda: len(qmp.cmd('query-block-exports')) == 1)
        qmp.cmd('blockdev-del', {'node-name': 'c'})
        self.assertEqual(self.read_file('a', 0, 4), b'\4' * 4)

    def test_reopen(self):
        server = self.serve()
        qmp = self.daemon('--blockdev', self.opts(node_name='n')).connect()
        nbd.wait_for(lambda: server.accepted)
        options = {'driver': 'nbd', 'node-name': 'n', 'server': {
            'type': 'unix', 'path': self.path('s')}}
        qmp.cmd('blockdev-reopen', {'options': [{**options,
                                                 'read-only': True}]})
        qmp.cmd('blockdev-reopen', {'options': [options]})
        self.qmp_fails('Cannot change', qmp, 'blockdev-reopen', {
            'options': [{**options, 'export': 'other'}]})


if __name__ == '__main__':
    iotests.main()
