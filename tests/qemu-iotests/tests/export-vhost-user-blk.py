#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp export
# formats: raw qcow2
"""A virtio block device over vhost-user: requests, several queues and threads,
resizing, restarts with requests in flight, and front-ends that lie."""
import os
import random
import socket
import struct
import time

import iotests
from iotests import vhost_user as vu
from iotests.vhost_user import VhostUserBlk

KiB, MiB = 1 << 10, 1 << 20


class Export(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('disk', '8M')
        self.qsd, self.qmp = None, None

    def start_daemon(self, *args):
        self.qsd = self.daemon(
            '--blockdev', f'driver={self.fmt},node-name=disk,discard=unmap,'
            'file.driver=file,file.discard=unmap,file.filename=disk', *args)
        self.qmp = self.qsd.connect()

    def export(self, id='e', **options):
        path = self.path(f'{id}.sock')
        self.qmp.cmd('block-export-add', {
            'type': 'vhost-user-blk', 'id': id, 'node-name': 'disk',
            'addr': {'type': 'unix', 'path': path}, 'writable': True,
            **{k.replace('_', '-'): v for k, v in options.items()}})
        return path

    def device(self, path, **kwargs):
        device = VhostUserBlk(path, **kwargs)
        self.addCleanup(device.close)
        return device


class Requests(Export):
    def setUp(self):
        super().setUp()
        self.start_daemon()

    def test_data(self):
        for features in (0, vu.F_INDIRECT, vu.F_EVENT_IDX,
                         vu.F_INDIRECT | vu.F_EVENT_IDX):
            with self.subTest(features=features):
                dev = self.device(self.export(), features=features)
                queue, = dev.queues
                data = os.urandom(64 * KiB)
                indirect = bool(features & vu.F_INDIRECT)
                ask = lambda *a, **k: queue.request(*a, indirect=indirect, **k)
                self.assertEqual(ask(vu.OUT, 128, data)[0], vu.OK)
                self.assertEqual(ask(vu.IN, 128, length=len(data)),
                                 (vu.OK, data))
                self.assertEqual(ask(vu.FLUSH)[0], vu.OK)
                dev.close()
                self.qmp.cmd('block-export-del', id='e', mode='hard')
                self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
                self.qsd.stop()
                self.io('disk', 'read 64k 64k')
                self.assert_content_at(64 * KiB, data)
                self.start_daemon()

    def assert_content_at(self, offset, data):
        self.img('convert', '-f', self.fmt, '-O', 'raw', 'disk', 'copy')
        self.assertEqual(self.read_file('copy', offset, len(data)), data)

    def test_zeroes_and_discards(self):
        dev = self.device(self.export())
        ask = dev.queues[0].request
        self.assertEqual(ask(vu.OUT, 0, b'x' * 128 * KiB)[0], vu.OK)
        self.assertEqual(ask(vu.WRITE_ZEROES, 0, struct.pack(
            '<QIIQII', 0, 8, 0, 16, 8, 1))[0], vu.OK)
        self.assertEqual(ask(vu.DISCARD, 0, struct.pack('<QII', 128, 128, 0)
                             )[0], vu.OK)
        expect = bytearray(b'x' * 128 * KiB)
        expect[0:4096] = expect[8192:12288] = bytes(4096)
        expect[64 * KiB:] = bytes(64 * KiB)
        self.assertEqual(ask(vu.IN, 0, length=128 * KiB),
                         (vu.OK, bytes(expect)))

    def test_what_is_refused(self):
        dev = self.device(self.export())
        ask = dev.queues[0].request
        end = 8 * MiB // 512
        for args, status in (
                ((vu.IN, end, b'', 512), vu.IOERR),
                ((vu.IN, end - 1, b'', 1024), vu.IOERR),
                ((vu.IN, 1 << 63, b'', 512), vu.IOERR),
                ((vu.IN, 0, b'', 100), vu.IOERR),
                ((vu.OUT, end, b'x' * 512), vu.IOERR),
                ((vu.WRITE_ZEROES, 0, struct.pack('<QII', end, 1, 0)),
                 vu.IOERR),
                ((vu.WRITE_ZEROES, 0, struct.pack('<QII', 0, 1, 2)),
                 vu.UNSUPP),
                ((vu.DISCARD, 0, struct.pack('<QII', 0, 1, 1)), vu.UNSUPP),
                ((vu.DISCARD, 0, bytes(17)), vu.UNSUPP),
                ((vu.DISCARD, 0, struct.pack('<QII', 0, 1 << 31, 0)),
                 vu.IOERR),
                ((77, 0), vu.UNSUPP)):
            with self.subTest(args):
                self.assertEqual(ask(*args)[0], status)
        status, data = ask(vu.GET_ID, length=20)
        self.assertEqual((status, data.rstrip(b'\0')),
                         (vu.OK, b'vhost_user_blk'))
        # It still works.
        self.assertEqual(ask(vu.IN, 0, length=512), (vu.OK, bytes(512)))

    def test_read_only(self):
        dev = self.device(self.export(writable=False))
        self.assertTrue(dev.device_features & 1 << 5)
        ask = dev.queues[0].request
        for args in ((vu.OUT, 0, b'x' * 512),
                     (vu.DISCARD, 0, struct.pack('<QII', 0, 1, 0)),
                     (vu.WRITE_ZEROES, 0, struct.pack('<QII', 0, 1, 0))):
            self.assertEqual(ask(*args)[0], vu.IOERR)
        self.assertEqual(ask(vu.IN, 0, length=512), (vu.OK, bytes(512)))

    def test_block_size(self):
        dev = self.device(self.export(logical_block_size=4096))
        ask = dev.queues[0].request
        self.assertEqual(struct.unpack_from('<I', dev.config(), 20), (4096,))
        self.assertEqual(ask(vu.OUT, 8, b'x' * 512)[0], vu.IOERR)
        self.assertEqual(ask(vu.OUT, 1, b'x' * 4096)[0], vu.IOERR)
        self.assertEqual(ask(vu.OUT, 8, b'x' * 4096)[0], vu.OK)
        for wrong in 0, 511, 768, 65536:
            self.qmp_fails('logical-block-size', self.qmp, 'block-export-add', {
                'type': 'vhost-user-blk', 'id': 'f', 'node-name': 'disk',
                'addr': {'type': 'unix', 'path': 'f.sock'},
                'logical-block-size': wrong})

    def test_many_at_random(self):
        """Against a model; the ring is always full."""
        dev = self.device(self.export())
        queue, = dev.queues
        rng = self.rng()
        disk = bytearray(8 * MiB)
        for _ in range(30):
            busy, reads = set(), {}
            while queue.free:
                sector, count = rng.randrange(16000), rng.randrange(1, 256)
                if busy & set(range(sector // 256, (sector + count) // 256 + 1)):
                    break
                busy |= set(range(sector // 256, (sector + count) // 256 + 1))
                at, n = sector * 512, count * 512
                if rng.random() < .5:
                    disk[at:at + n] = rng.randbytes(n)
                    queue.submit(vu.OUT, sector, bytes(disk[at:at + n]),
                                 indirect=rng.random() < .5)
                else:
                    head = queue.submit(vu.IN, sector, length=n)
                    reads[head] = bytes(disk[at:at + n])
            for head, (status, data) in queue.wait().items():
                self.assertEqual(status, vu.OK)
                self.assertTrue(head not in reads or data == reads[head])
        dev.close()
        self.qsd.stop()
        self.assert_content('disk', bytes(disk))
        self.assert_clean('disk')

    def test_write_cache_switch(self):
        dev = self.device(self.export())
        self.assertEqual(dev.config()[32], 1)
        dev.send(vu.SET_CONFIG, struct.pack('IIIB', 32, 1, 0, 0))
        self.assertEqual(dev.config()[32], 0)
        self.assertEqual(dev.queues[0].request(vu.OUT, 0, b'x' * 512)[0], vu.OK)
        self.assertFalse(dev.acknowledged(vu.SET_CONFIG,
                                          struct.pack('IIIB', 0, 1, 0, 0)))


class WriteCache(Export):
    """Flushes fail here, so a write without cache does."""

    OFF = struct.pack('IIIB', 32, 1, 0, 0)
    ON = struct.pack('IIIB', 32, 1, 0, 1)

    def setUp(self):
        super().setUp()
        self.start_daemon()
        # Its writes to what is allocated need no flush of their own.
        self.img('create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata',
                 'allocated', '1M')
        self.qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': 'debug', 'file': {
                'driver': 'blkdebug', 'image': {
                    'driver': 'file', 'filename': self.path('allocated')},
                'inject-error': [{'event': 'none', 'iotype': 'flush',
                                  'errno': 5}]}})

    def is_cached(self, dev):
        status = dev.queues[0].request(vu.OUT, 0, b'x' * 512)[0]
        self.assertIn(status, (vu.OK, vu.IOERR))
        return status == vu.OK

    def test_without_flush(self):
        path = self.export(node_name='debug')
        dev = self.device(path, without=vu.F_FLUSH)
        self.assertFalse(self.is_cached(dev))
        dev.close()
        self.assertTrue(self.is_cached(self.device(path)))

    def test_next_front_end(self):
        path = self.export(node_name='debug')
        dev = self.device(path)
        self.assertTrue(self.is_cached(dev))
        self.assertTrue(dev.acknowledged(vu.SET_CONFIG, self.OFF))
        self.assertFalse(self.is_cached(dev))
        dev.close()
        dev = self.device(path)
        self.assertEqual(dev.config()[32], 0)
        self.assertFalse(self.is_cached(dev))
        self.assertTrue(dev.acknowledged(vu.SET_CONFIG, self.ON))
        self.assertTrue(self.is_cached(dev))

    def test_writethrough(self):
        """A guest may switch it on, for itself alone."""
        path = self.export(node_name='debug', writethrough=True)
        dev = self.device(path)
        self.assertEqual(dev.config()[32], 0)
        self.assertFalse(self.is_cached(dev))
        self.assertTrue(dev.acknowledged(vu.SET_CONFIG, self.ON))
        self.assertTrue(self.is_cached(dev))
        dev.close()
        dev = self.device(path)
        self.assertEqual(dev.config()[32], 0)
        self.assertFalse(self.is_cached(dev))


class Life(Export):
    def test_queues_and_threads(self):
        self.start_daemon('--object', 'iothread,id=t0',
                          '--object', 'iothread,id=t1')
        dev = self.device(self.export(num_queues=4, iothread=['t0', 't1']),
                          queues=4)
        self.assertEqual(dev.ask_u64(vu.GET_QUEUE_NUM), 4)
        for turn in range(20):
            for i, queue in enumerate(dev.queues):
                while queue.free:
                    queue.submit(vu.OUT, (i * 21 + len(queue.free)) * 128,
                                 bytes([i + 1]) * 64 * KiB)
            for queue in dev.queues:
                self.assertEqual({s for s, _ in queue.wait().values()},
                                 {vu.OK})
            if turn == 10:
                # Objects in use stay.
                self.qmp_fails('in use', self.qmp, 'object-del', {'id': 't0'})
        for i, queue in enumerate(dev.queues):
            self.assertEqual(queue.request(vu.IN, (i * 21 + 3) * 128,
                                           length=64 * KiB),
                             (vu.OK, bytes([i + 1]) * 64 * KiB))
        dev.close()
        self.qsd.stop()

    def test_del_while_in_use(self):
        self.start_daemon()
        path = self.export()
        dev = self.device(path)
        dev.queues[0].request(vu.IN, 0, length=512)
        self.qmp_fails('still in use', self.qmp, 'block-export-del',
                       {'id': 'e'})
        self.qmp_fails("vhost-user-blk export 'e'", self.qmp, 'blockdev-del',
                       {'node-name': 'disk'})
        self.qmp.cmd('block-export-del', id='e', mode='hard')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.assertTrue(dev.is_closed())
        self.assertFalse(os.path.exists(path))
        self.assertEqual(self.qmp.cmd('query-block-exports'), [])
        self.qmp.cmd('blockdev-del', node_name='disk')

    def test_one_after_the_other(self):
        self.start_daemon()
        path = self.export()
        first = self.device(path)
        first.queues[0].request(vu.OUT, 0, b'1' * 512)
        second = VhostUserBlk(path, start=False)
        self.addCleanup(second.close)
        first.close()
        second.negotiate()
        second.set_memory()
        second.start(second.queues[0])
        self.assertEqual(second.queues[0].request(vu.IN, 0, length=512),
                         (vu.OK, b'1' * 512))

    def test_stop_and_go_on(self):
        """A queue stops with nothing in flight, and goes on where it stood."""
        self.start_daemon()
        dev = self.device(self.export())
        queue, = dev.queues
        for n in range(5):
            queue.request(vu.OUT, n, bytes([n]) * 512)
        base = dev.stop(queue)
        self.assertEqual(base, 5)
        head = queue.submit(vu.IN, 3, length=512)
        time.sleep(.05)
        self.assertEqual(list(queue.completions()), [])
        dev.start(queue, base)
        self.assertEqual(queue.wait()[head], (vu.OK, b'\3' * 512))
        # Another memory table while it runs: the same memory in two regions.
        half = len(dev.memory) // 8192 * 4096
        dev.set_memory([(0, half, 0), (half, len(dev.memory) - half, half)])
        self.assertEqual(queue.request(vu.IN, 4, length=512),
                         (vu.OK, b'\4' * 512))

    def test_daemon_dies_with_requests_in_flight(self):
        """What was in flight is done once more, in order, by the next one. (What
        was not flushed may be lost with the daemon, as in any write cache; so
        nothing is allocated here.)"""
        self.io('disk', 'write -P 9 0 64k')
        self.start_daemon('--object', 'throttle-group,id=g,limits.iops-total=1',
                          '--blockdev', 'driver=throttle,throttle-group=g,'
                          'node-name=slow,file=disk')
        path = self.path('e.sock')
        export = {'type': 'vhost-user-blk', 'id': 'e', 'node-name': 'slow',
                  'addr': {'type': 'unix', 'path': path}, 'writable': True}
        self.qmp.cmd('block-export-add', export)
        dev = self.device(path, start=False)
        queue, = dev.queues
        dev.negotiate()
        size, = struct.unpack_from('Q', dev.ask(
            vu.GET_INFLIGHT_FD, struct.pack('QQHH4x', 0, 0, 1, queue.size)))
        inflight, = dev.fds
        record = struct.pack('QQHH4x', size, 0, 1, queue.size)
        dev.send(vu.SET_INFLIGHT_FD, record, [inflight])
        dev.set_memory()
        dev.start(queue)
        done = set()
        for n in range(8):
            queue.submit(vu.OUT, n, bytes([n + 1]) * 512)
        time.sleep(.3)
        done |= {head for head, _, _ in queue.completions()}
        self.assertLess(len(done), 8)
        self.qsd.kill()
        self.wait_unlocked('disk')

        self.start_daemon()
        path = self.export()
        dev.sock.close()
        dev.sock = vu.connect(path)
        dev.negotiate()
        dev.send(vu.SET_INFLIGHT_FD, record, [inflight])
        dev.set_memory()
        dev.start(queue)
        done |= set(queue.wait())
        self.assertEqual(len(done), 8)
        for n in range(8):
            self.assertEqual(queue.request(vu.IN, n, length=512),
                             (vu.OK, bytes([n + 1]) * 512))
        os.close(inflight)

    def test_bad_options(self):
        self.start_daemon()
        base = {'type': 'vhost-user-blk', 'id': 'e', 'node-name': 'disk',
                'addr': {'type': 'unix', 'path': 'e.sock'}}
        for options, message in (
                ({'num-queues': 0}, 'num-queues'),
                ({'num-queues': 1000}, 'num-queues'),
                ({'addr': {'type': 'inet', 'host': 'localhost', 'port': '0'}},
                 'Unix socket'),
                ({'addr': {'type': 'unix', 'path': 'no/such'}}, 'no/such'),
                ({'node-name': 'nope'}, 'nope'),
                ({'iothread': 'nope'}, 'nope')):
            with self.subTest(message):
                self.qmp_fails(message, self.qmp, 'block-export-add',
                               {**base, **options})
        self.assertEqual(self.qmp.cmd('query-block-exports'), [])


class Liars(Export):
    """Front-ends that send nonsense lose their connection or their queue, and
    nobody else anything."""

    def setUp(self):
        super().setUp()
        self.start_daemon()
        self.sock_path = self.export()

    def tearDown(self):
        dev = VhostUserBlk(self.sock_path)
        self.assertEqual(dev.queues[0].request(vu.IN, 0, length=512)[0], vu.OK)
        dev.close()
        self.assertEqual(self.qsd.stop(), 0)
        super().tearDown()

    def test_messages(self):
        pack = struct.pack
        region = pack('QQQQ', 0, 4096, vu.USER, 0)
        for request, payload, fds in (
                (99, b'', 0),
                (vu.SET_FEATURES, pack('Q', 1 << 50), 0),
                (vu.SET_FEATURES, b'', 0),
                (vu.SET_VRING_NUM, pack('II', 5, 64), 0),
                (vu.SET_VRING_NUM, pack('II', 0, 65), 0),
                (vu.SET_VRING_NUM, pack('II', 0, 1 << 20), 0),
                (vu.SET_VRING_KICK, pack('Q', 0), 0),
                (vu.SET_VRING_KICK, pack('Q', 0x100), 0),
                (vu.SET_VRING_KICK, pack('Q', 0), 1),   # it has no length yet
                (vu.SET_VRING_CALL, pack('Q', 3), 1),
                (vu.SET_MEM_TABLE, pack('II', 1, 0) + region, 0),
                (vu.SET_MEM_TABLE, pack('II', 9, 0) + region, 1),
                (vu.SET_MEM_TABLE, pack('II', 2, 0) + region * 2, 2),
                (vu.SET_MEM_TABLE, pack('II', 1, 0) +
                 pack('QQQQ', 0, 1 << 50, vu.USER, 0), 1),
                (vu.SET_MEM_TABLE, pack('II', 1, 0) +
                 pack('QQQQ', (1 << 64) - 1, 4096, vu.USER, 0), 1),
                (vu.GET_CONFIG, pack('III', 250, 100, 0) + bytes(100), 0),
                (vu.GET_CONFIG, pack('III', 0, 100, 0), 0),
                (vu.GET_INFLIGHT_FD, pack('QQHH4x', 0, 0, 0, 0), 0),
                (vu.GET_INFLIGHT_FD, pack('QQHH4x', 0, 0, 60000, 60000), 0),
                (vu.SET_INFLIGHT_FD, pack('QQHH4x', 4096, 0, 1, 1024), 1),
                (vu.SET_INFLIGHT_FD, pack('QQHH4x', 1 << 60, 1 << 60, 1, 8), 1)):
            with self.subTest(request=request, payload=payload[:40], fds=fds):
                dev = self.device(self.sock_path, start=False)
                dev.send(request, payload, [dev.fd] * fds)
                self.assertTrue(dev.is_closed())
                dev.close()

    def test_rubbish(self):
        rng = self.rng()
        for _ in range(60):
            sock = vu.connect(self.sock_path)
            try:
                for _ in range(rng.randrange(1, 6)):
                    payload = rng.randbytes(rng.choice((0, 8, 8, 12, 40, 300)))
                    head = struct.pack('III', rng.randrange(40),
                                       rng.choice((1, 1, 1, 9, rng.randrange(16))),
                                       rng.choice((len(payload), 1 << 30)))
                    sock.sendall((head + payload)[:rng.randrange(1, 400)])
            except (BrokenPipeError, ConnectionResetError):
                pass
            sock.close()

    def broken(self, make):
        """A queue with such a content stops; its error descriptor says so."""
        dev = self.device(self.sock_path)
        queue, = dev.queues
        make(queue)
        os.eventfd_write(queue.kick, 1)
        end = time.monotonic() + 10
        while True:
            try:
                os.eventfd_read(queue.err)
                break
            except BlockingIOError:
                self.assertLess(time.monotonic(), end)
                time.sleep(.005)
        dev.close()

    def test_rings(self):
        def index_far_ahead(q):
            q.put('H', q.avail + 2, q.size + 1)

        def head_outside(q):
            q.make_available(q.size)

        def loop(q):
            q.put('QIHH', q.desc, 0, 16, vu.NEXT, 0)
            q.make_available(0)

        def next_outside(q):
            q.put('QIHH', q.desc, 0, 16, vu.NEXT, q.size)
            q.make_available(0)

        def nowhere(q):
            q.raw_chain(0, [(1 << 40, 16, 0), (0, 1, vu.WRITE)])
            q.make_available(0)

        def wraps(q):
            q.raw_chain(0, [((1 << 64) - 8, 16, 0), (0, 1, vu.WRITE)])
            q.make_available(0)

        def longer_than_memory(q):
            q.raw_chain(0, [(0, 0xffffffff, 0), (0, 1, vu.WRITE)])
            q.make_available(0)

        def in_before_out(q):
            q.raw_chain(0, [(q.slots, 1, vu.WRITE), (q.slots, 16, 0)])
            q.make_available(0)

        def indirect_in_indirect(q):
            q.put('QIHH', q.slots, q.slots, 16, vu.INDIRECT, 0)
            q.put('QIHH', q.desc, q.slots, 16, vu.INDIRECT, 0)
            q.make_available(0)

        def odd_table(q):
            q.put('QIHH', q.desc, q.slots, 17, vu.INDIRECT, 0)
            q.make_available(0)

        def huge_table(q):
            q.put('QIHH', q.desc, 0, 1 << 20, vu.INDIRECT, 0)
            q.make_available(0)

        def no_status(q):
            q.raw_chain(0, [(q.slots, 16, 0)])
            q.make_available(0)

        def short_header(q):
            q.raw_chain(0, [(q.slots, 15, 0), (q.slots + 20, 1, vu.WRITE)])
            q.make_available(0)

        for make in (index_far_ahead, head_outside, loop, next_outside,
                     nowhere, wraps, longer_than_memory, in_before_out,
                     indirect_in_indirect, odd_table, huge_table, no_status,
                     short_header):
            with self.subTest(make.__name__):
                self.broken(make)

    def test_random_rings(self):
        rng = random.Random(self.rng().random())
        for _ in range(40):
            dev = self.device(self.sock_path)
            queue, = dev.queues
            for n in range(queue.size):
                queue.put('QIHH', queue.desc + 16 * n,
                          rng.choice((queue.slots, rng.randrange(1 << 22),
                                      rng.randrange(1 << 64))),
                          rng.choice((16, 512, 4096, rng.randrange(1 << 32))),
                          rng.randrange(8), rng.randrange(queue.size + 2))
                # Headers of reads, so that the disk stays as it is.
                queue.put('IIQ', queue.slots + n * 512, 0, 0, n)
            for _ in range(rng.randrange(1, queue.size)):
                queue.make_available(rng.randrange(queue.size), kick=False)
            os.eventfd_write(queue.kick, 1)
            dev.close()


class Resize(Export):
    def test_config_change(self):
        self.start_daemon()
        dev = self.device(self.export())
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        dev.send(vu.SET_BACKEND_REQ_FD, b'', [theirs.fileno()])
        theirs.close()
        self.assertEqual(dev.capacity(), 8 * MiB)
        self.qmp.cmd('block_resize', node_name='disk', size=16 * MiB)
        ours.settimeout(10)
        self.assertEqual(struct.unpack('III', ours.recv(100)), (2, 1, 0))
        self.assertEqual(dev.capacity(), 16 * MiB)
        self.assertEqual(dev.queues[0].request(
            vu.OUT, 12 * MiB // 512, b'x' * 512)[0], vu.OK)


if __name__ == '__main__':
    iotests.main()
