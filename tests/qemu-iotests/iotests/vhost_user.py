# SPDX-License-Identifier: GPL-2.0-or-later
"""A front-end of vhost-user-blk: the guest's side of the rings, in a memory file
that is the guest's memory. Offsets in the file are guest addresses; user
addresses are those plus USER."""
import array
import mmap
import os
import select
import socket
import struct

USER = 0x700000000000
GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE = range(1, 6)
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = range(8, 12)
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = range(12, 15)
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM = range(15, 18)
SET_VRING_ENABLE, SET_BACKEND_REQ_FD = 18, 21
GET_CONFIG, SET_CONFIG, GET_INFLIGHT_FD, SET_INFLIGHT_FD = 24, 25, 31, 32

F_INDIRECT, F_EVENT_IDX, F_PROTOCOL, F_VERSION_1 = (1 << n
                                                    for n in (28, 29, 30, 32))
IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
F_FLUSH = 1 << 9
OK, IOERR, UNSUPP = 0, 1, 2
NEXT, WRITE, INDIRECT = 1, 2, 4


def connect(path):
    """Waits while others are in front."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # As a timeout would, but connect() waits, too.
    for option in socket.SO_RCVTIMEO, socket.SO_SNDTIMEO:
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack('qq', 20, 0))
    sock.connect(path)
    return sock


class Queue:
    """A ring of `size` at `base` of the guest's memory, and buffers behind it:
    one slot for each request, which uses up to three descriptors."""

    SLOT = 256 << 10

    def __init__(self, guest, index, size, base):
        self.guest, self.index, self.size = guest, index, size
        self.words = memoryview(guest.memory).cast('H')
        self.desc, self.avail, self.used = base, base + 16 * size, \
            base + 32 * size
        self.slots = base + 64 * size
        self.kick, self.call, self.err = (
            os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(3))
        self.seen = 0           # of the used ring
        self.added = 0          # to the available ring
        self.free = list(range(size // 3))
        self.waiting = {}       # head: slot, length of its data, is a read

    @staticmethod
    def bytes_needed(size):
        return 64 * size + size // 3 * Queue.SLOT

    def close(self):
        for fd in (self.kick, self.call, self.err):
            os.close(fd)

    def put16(self, at, value):
        """At once, for the other side may be looking: struct writes bytes one
        after the other."""
        self.words[at // 2] = value & 0xffff

    def get16(self, at):
        return self.words[at // 2]

    def put(self, fmt, at, *values):
        struct.pack_into('<' + fmt, self.guest.memory, at, *values)

    def get(self, fmt, at):
        return struct.unpack_from('<' + fmt, self.guest.memory, at)

    def submit(self, kind, sector=0, data=b'', length=0, indirect=False,
               kick=True):
        """Puts a request into the ring; data goes out or `length` come in.
        Returns its head."""
        slot = self.free.pop()
        at = self.slots + slot * self.SLOT
        head = slot * 3
        self.put('IIQ', at, kind, 0, sector)
        status = at + 16
        body = at + 512
        self.put('B', status, 0xff)
        chain = [(at, 16, 0)]
        if data:
            self.guest.memory[body:body + len(data)] = data
            chain.append((body, len(data), 0))
        if length:
            chain.append((body, length, WRITE))
        chain.append((status, 1, WRITE))
        self.raw_chain(head, chain, at + 64 if indirect else None)
        self.waiting[head] = slot, length
        self.make_available(head, kick)
        return head

    def raw_chain(self, head, chain, table=None):
        """Descriptors for (address, length, flags), from `head` of the ring on
        or in a table of their own."""
        where, first = (table, 0) if table else (self.desc, head)
        for i, (addr, length, flags) in enumerate(chain):
            last = i == len(chain) - 1
            self.put('QIHH', where + 16 * (first + i), addr, length,
                     flags | (0 if last else NEXT), 0 if last else
                     first + i + 1)
        if table:
            self.put('QIHH', self.desc + 16 * head, table, 16 * len(chain),
                     INDIRECT, 0)

    def make_available(self, head, kick=True):
        self.put16(self.avail + 4 + 2 * (self.added % self.size), head)
        self.added += 1
        self.put16(self.avail + 2, self.added)
        if kick:
            os.eventfd_write(self.kick, 1)

    def completions(self):
        """(head, status, bytes read) of what has ended since."""
        while True:
            idx = self.get16(self.used + 2)
            while self.seen & 0xffff != idx:
                yield self.completed()
            # The next completion is an interrupt, unless it was there before
            # the device could know that.
            self.put16(self.avail + 4 + 2 * self.size, self.seen)
            if self.get16(self.used + 2) == idx:
                return

    def completed(self):
        """The next one of them."""
        head, _ = self.get('II', self.used + 4 + 8 * (self.seen % self.size))
        self.seen += 1
        slot, length = self.waiting.pop(head)
        at = self.slots + slot * self.SLOT
        status, = self.get('B', at + 16)
        data = bytes(self.guest.memory[at + 512:at + 512 + length])
        self.free.append(slot)
        return head, status, data

    def wait(self, timeout=20):
        """All of what is under way: {head: (status, data)}."""
        done = {}
        while self.waiting:
            for head, status, data in self.completions():
                done[head] = status, data
            if not self.waiting:
                break
            ready = select.select([self.call], [], [], timeout)[0]
            if not ready:
                raise TimeoutError(f'{len(self.waiting)} requests do not end')
            os.eventfd_read(self.call)
        return done

    def request(self, *args, **kwargs):
        """One request: (status, data)."""
        head = self.submit(*args, **kwargs)
        return self.wait()[head]


class VhostUserBlk:
    """A connection. `memory` and `inflight_fd` of an earlier one continue it."""

    def __init__(self, path, features=F_INDIRECT | F_EVENT_IDX, queues=1,
                 size=64, start=True, without=0):
        self.sock = connect(path)
        self.fds = []
        need = Queue.bytes_needed(size)
        need += -need % 4096
        self.fd = os.memfd_create('guest', os.MFD_CLOEXEC)
        os.ftruncate(self.fd, need * queues)
        self.memory = mmap.mmap(self.fd, need * queues)
        self.queues = [Queue(self, i, size, need * i) for i in range(queues)]
        self.features = features
        self.without = without      # of what the device offers
        if start:
            self.negotiate()
            self.set_memory()
            for queue in self.queues:
                self.start(queue)

    def close(self):
        self.sock.close()

    # --- messages ---

    def send(self, request, payload=b'', fds=(), flags=1):
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                    array.array('i', fds))] if fds else []
        self.sock.sendmsg([struct.pack('III', request, flags, len(payload)),
                           payload], control)

    def receive(self):
        """(request, payload); descriptors are kept in self.fds."""
        data, control, _, _ = self.sock.recvmsg(12, socket.CMSG_SPACE(32))
        for _, _, fds in control:
            self.fds += array.array('i', fds[:len(fds) // 4 * 4])
        if not data:
            raise EOFError
        request, _, size = struct.unpack('III', data)
        return request, self.sock.recv(size, socket.MSG_WAITALL) if size else b''

    def ask(self, request, payload=b''):
        self.send(request, payload)
        got, answer = self.receive()
        assert got == request, (got, request)
        return answer

    def ask_u64(self, request):
        return struct.unpack('Q', self.ask(request))[0]

    def acknowledged(self, request, payload=b'', fds=()):
        """Whether it says that it was done (REPLY_ACK)."""
        self.send(request, payload, fds, flags=9)
        return self.receive()[1] == bytes(8)

    def is_closed(self):
        try:
            return self.sock.recv(1) == b''
        except ConnectionResetError:
            return True

    # --- what a driver does at its start ---

    def negotiate(self):
        self.send(SET_OWNER)
        offered = self.ask_u64(GET_FEATURES)
        self.send(SET_PROTOCOL_FEATURES,
                  struct.pack('Q', self.ask_u64(GET_PROTOCOL_FEATURES)))
        self.device_features = offered & 0xffffff & ~self.without
        self.send(SET_FEATURES, struct.pack(
            'Q', self.device_features | self.features | F_PROTOCOL |
            F_VERSION_1))

    def set_memory(self, regions=None):
        """One region, or (guest address, size, offset in the file) each."""
        regions = regions or [(0, len(self.memory), 0)]
        payload = struct.pack('II', len(regions), 0) + b''.join(
            struct.pack('QQQQ', addr, size, USER + addr, offset)
            for addr, size, offset in regions)
        self.send(SET_MEM_TABLE, payload, [self.fd] * len(regions))

    def start(self, queue, base=0):
        index = queue.index
        self.send(SET_VRING_NUM, struct.pack('II', index, queue.size))
        self.send(SET_VRING_BASE, struct.pack('II', index, base))
        self.send(SET_VRING_ADDR, struct.pack(
            'IIQQQQ', index, 0, USER + queue.desc, USER + queue.used,
            USER + queue.avail, 0))
        for request, fd in ((SET_VRING_ERR, queue.err),
                            (SET_VRING_CALL, queue.call),
                            (SET_VRING_KICK, queue.kick)):
            self.send(request, struct.pack('Q', index), [fd])
        self.send(SET_VRING_ENABLE, struct.pack('II', index, 1))

    def stop(self, queue):
        """Returns where it stands."""
        answer = self.ask(GET_VRING_BASE, struct.pack('II', queue.index, 0))
        return struct.unpack('II', answer)[1]

    def config(self, size=60):
        answer = self.ask(GET_CONFIG, struct.pack('III', 0, size, 0) +
                          bytes(size))
        return answer[12:]

    def capacity(self):
        return struct.unpack_from('<Q', self.config())[0] * 512
