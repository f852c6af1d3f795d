# SPDX-License-Identifier: GPL-2.0-or-later
"""A server of NBD that says whatever a test wants, right or wrong."""
import socket
import struct
import threading
from dataclasses import dataclass

from . import nbd

HAS_FLAGS, RO, FLUSH, FUA, TRIM, ZEROES, MULTI, CACHE, FAST = (
    1, 2, 4, 8, 0x20, 0x40, 0x100, 0x400, 0x800)
ALL = HAS_FLAGS | FLUSH | FUA | TRIM | ZEROES | CACHE | FAST
NONE, DATA, HOLE, STATUS, STATUS_EXT, ERROR = 0, 1, 2, 5, 6, 0x8001


@dataclass
class Request:
    flags: int
    type: int
    cookie: int
    offset: int
    length: int
    data: bytes = b''


class Connection:
    """One client, after accept."""

    def __init__(self, server, sock):
        self.server = server
        self.sock = sock
        self.style = 0

    def read(self, length):
        data = bytearray()
        while len(data) < length:
            part = self.sock.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def send(self, data):
        self.sock.sendall(data)

    # --- the handshake ---

    def reply(self, option, kind, data=b''):
        self.send(struct.pack('>QIII', nbd.REP_MAGIC, option, kind, len(data))
                  + data)

    def handshake(self):
        server = self.server
        if server.hello is not None:
            self.send(server.hello)
            raise EOFError
        if server.oldstyle:
            self.send(b'NBDMAGIC' + struct.pack(
                '>QQI', 0x420281861253, server.size, server.flags) +
                bytes(124))
            return
        self.send(b'NBDMAGICIHAVEOPT' + struct.pack('>H', server.greeting))
        self.read(4)
        while True:
            magic, option, length = struct.unpack('>QII', self.read(16))
            assert magic == nbd.OPTS_MAGIC
            data = self.read(length)
            server.options.append(option)
            if server.option(self, option, data):
                continue
            if self.option(option, data):
                return

    def option(self, option, data):
        """The usual answer; whether it ends the handshake."""
        server = self.server
        if option == nbd.EXPORT_NAME:
            self.send(struct.pack('>QH', server.size, server.flags) + bytes(
                0 if server.greeting & 2 else 124))
            return True
        if option in (nbd.STRUCTURED, nbd.EXTENDED):
            style = 2 if option == nbd.EXTENDED else 1
            if style > server.style:
                self.reply(option, nbd.UNSUP)
            else:
                self.style = style
                self.reply(option, nbd.ACK)
        elif option == nbd.SET_META:
            name = struct.unpack('>I', data[:4])[0]
            query = data[4 + name + 8:]
            self.reply(option, nbd.META, struct.pack('>I', 7) + query)
            self.reply(option, nbd.ACK)
        elif option == nbd.GO and server.greeting & 1 and server.has_go:
            self.reply(option, nbd.REP_INFO,
                       struct.pack('>HQH', 0, server.size, server.flags))
            if server.blocks:
                self.reply(option, nbd.REP_INFO,
                           struct.pack('>HIII', 3, *server.blocks))
            self.reply(option, nbd.ACK)
            return True
        else:
            self.reply(option, nbd.UNSUP, b'what?')
        return False

    # --- requests ---

    def request(self):
        if self.style == 2:
            magic, flags, kind, cookie, offset, length = struct.unpack(
                '>IHHQQQ', self.read(32))
            assert magic == 0x21e41c71, hex(magic)
        else:
            magic, flags, kind, cookie, offset, length = struct.unpack(
                '>IHHQQI', self.read(28))
            assert magic == 0x25609513, hex(magic)
        data = self.read(length) if kind == nbd.WRITE else b''
        return Request(flags, kind, cookie, offset, length, data)

    def chunk(self, req, kind, data=b'', done=True, cookie=None, offset=None,
              length=None, flags=0):
        """A chunk of the style agreed on; simple if there is none."""
        cookie = req.cookie if cookie is None else cookie
        length = len(data) if length is None else length
        flags |= int(done)
        if self.style == 2:
            head = struct.pack('>IHHQQQ', 0x6e8a278c, flags, kind, cookie,
                               req.offset if offset is None else offset,
                               length)
        else:
            head = struct.pack('>IHHQI', 0x668e33ef, flags, kind, cookie,
                               length)
        self.send(head + data)

    def simple(self, req, data=b'', error=0, cookie=None):
        self.send(struct.pack('>IIQ', 0x67446698, error,
                              req.cookie if cookie is None else cookie) + data)

    def error(self, req, error):
        if self.style == 0:
            self.simple(req, error=error)
        else:
            self.chunk(req, ERROR, struct.pack('>IH', error, 3) + b'bad')

    def data(self, req, offset, data, **kwargs):
        self.chunk(req, DATA, struct.pack('>Q', offset) + data, **kwargs)

    def hole(self, req, offset, length, **kwargs):
        self.chunk(req, HOLE, struct.pack('>QI', offset, length), **kwargs)

    def extents(self, req, *extents, context=7, count=None, **kwargs):
        """(length, flags) each."""
        if self.style == 2:
            count = len(extents) if count is None else count
            self.chunk(req, STATUS_EXT, struct.pack('>II', context, count) +
                       b''.join(struct.pack('>QQ', *e) for e in extents),
                       **kwargs)
        else:
            self.chunk(req, STATUS, struct.pack('>I', context) + b''.join(
                struct.pack('>II', *e) for e in extents), **kwargs)

    def answer(self, req):
        """The usual answer."""
        disk, end = self.server.disk, req.offset + req.length
        if end > len(disk):
            self.error(req, nbd.EINVAL)
        elif req.type == nbd.READ:
            if self.style == 0:
                self.simple(req, bytes(disk[req.offset:end]))
            else:
                self.data(req, req.offset, bytes(disk[req.offset:end]))
        elif req.type == nbd.STATUS:
            self.extents(req, (req.length, 0))
        else:
            if req.type in (nbd.WRITE, nbd.ZEROES):
                disk[req.offset:end] = req.data or bytes(req.length)
            if self.style == 2:
                self.chunk(req, NONE)
            else:
                self.simple(req)


class NBDServer:
    """Listens at path until close(); each client has a thread. What tests replace:
    answer(connection, request), and option(connection, number, data), which
    returns whether it has replied."""

    def __init__(self, path, size=1 << 20, style=2, flags=ALL, greeting=3,
                 oldstyle=False, has_go=True, blocks=None, answer=None,
                 option=None, hello=None, disk=None):
        self.path, self.size, self.style, self.flags = path, size, style, flags
        self.greeting, self.oldstyle, self.has_go = greeting, oldstyle, has_go
        self.blocks, self.hello = blocks, hello
        self.answer = answer or (lambda connection, req: connection.answer(req))
        self.option = option or (lambda connection, option, data: False)
        self.disk = bytearray(size) if disk is None else disk
        self.requests, self.options, self.connections = [], [], []
        self.accepted = 0
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock = self.sock.accept()[0]
            except OSError:
                return
            self.accepted += 1
            self.connections.append(sock)
            threading.Thread(target=self._serve, args=(Connection(self, sock),),
                             daemon=True).start()

    def _serve(self, connection):
        try:
            connection.handshake()
            while True:
                req = connection.request()
                if req.type == nbd.DISC:
                    break
                self.requests.append(req)
                self.answer(connection, req)
        except (EOFError, OSError):
            pass
        connection.sock.close()

    def drop(self):
        """Hangs up on all clients there are."""
        for sock in self.connections:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.connections = []

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        self.drop()
