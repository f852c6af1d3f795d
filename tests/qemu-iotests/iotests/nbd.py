# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of NBD that says whatever a test wants, right or wrong."""
import random
import socket
import struct
import time

from .process import TIMEOUT

OPTS_MAGIC, REP_MAGIC = 0x49484156454f5054, 0x3e889045565a9
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO = 1, 2, 3, 5, 6, 7
STRUCTURED, LIST_META, SET_META, EXTENDED = 8, 9, 10, 11
ACK, SERVER, REP_INFO, META = 1, 2, 3, 4
UNSUP, POLICY, INVALID, UNKNOWN, TOO_BIG = (0x80000000 | n
                                            for n in (1, 2, 3, 6, 9))
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << n for n in range(6))
EPERM, EIO, EINVAL, ENOSPC, ENOTSUP = 1, 5, 22, 28, 95


def string(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack('>I', len(data)) + data


class NBDError(Exception):
    """What a request was answered."""

    def __init__(self, errno):
        super().__init__(f'NBD error {errno}')
        self.errno = errno


class NBDClient:
    """One connection, after the greeting."""

    def __init__(self, path, flags=3, timeout=TIMEOUT):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.style = 0
        self.contexts = {}
        hello = self.read(18)
        assert hello[:16] == b'NBDMAGICIHAVEOPT', hello
        if flags is not None:
            self.sock.sendall(struct.pack('>I', flags))

    def close(self):
        self.sock.close()

    def read(self, length):
        data = bytearray()
        while len(data) < length:
            part = self.sock.recv(length - len(data))
            if not part:
                raise EOFError('the server has hung up')
            data += part
        return bytes(data)

    def is_gone(self, seconds=TIMEOUT):
        """Whether the server hangs up within that time."""
        self.sock.settimeout(seconds)
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    # --- options ---

    def send_option(self, code, data=b'', length=None, magic=OPTS_MAGIC):
        self.sock.sendall(struct.pack('>QII', magic, code,
                                      len(data) if length is None else length)
                          + data)

    def reply(self):
        magic, code, kind, length = struct.unpack('>QIII', self.read(20))
        assert magic == REP_MAGIC, hex(magic)
        return code, kind, self.read(length)

    def option(self, code, data=b''):
        """All replies, as (type, data), the last one included."""
        self.send_option(code, data)
        replies = []
        while not replies or 0 < replies[-1][0] < 1 << 31 and \
                replies[-1][0] != ACK:
            got, kind, answer = self.reply()
            assert got == code, (got, code)
            replies.append((kind, answer))
        return replies

    def agree(self, code):
        replies = self.option(code)
        if replies == [(ACK, b'')]:
            self.style = 2 if code == EXTENDED else 1
        return replies

    def set_meta(self, name, *queries):
        replies = self.option(SET_META, string(name) + struct.pack(
            '>I', len(queries)) + b''.join(map(string, queries)))
        self.contexts = {struct.unpack('>I', data[:4])[0]: data[4:].decode()
                         for kind, data in replies if kind == META}
        return replies

    def go(self, name, code=GO, infos=(3,)):
        """{info: its data}, or the type of the error."""
        replies = self.option(code, string(name) + struct.pack(
            f'>H{len(infos)}H', len(infos), *infos))
        if replies[-1][0] != ACK:
            return replies[-1][0]
        infos = {struct.unpack('>H', data[:2])[0]: data[2:]
                 for kind, data in replies if kind == REP_INFO}
        self.size, self.flags = struct.unpack('>QH', infos[0])
        return infos

    # --- requests ---

    def send(self, command, offset=0, length=0, flags=0, data=b''):
        cookie = random.getrandbits(64)
        self.sock.sendall(self.head(cookie, command, offset, length, flags) +
                          data)
        return cookie

    def head(self, cookie, command, offset=0, length=0, flags=0):
        if self.style == 2 and command == WRITE:
            flags |= PAYLOAD_LEN
        if self.style == 2:
            return struct.pack('>IHHQQQ', 0x21e41c71, flags, command, cookie,
                               offset, length)
        return struct.pack('>IHHQQI', 0x25609513, flags, command, cookie,
                           offset, length)

    def chunk(self):
        """(done, type, cookie, data) of a structured or extended reply."""
        if self.style == 2:
            magic, flags, kind, cookie, _, length = struct.unpack(
                '>IHHQQQ', self.read(32))
            assert magic == 0x6e8a278c, hex(magic)
        else:
            magic, flags, kind, cookie, length = struct.unpack(
                '>IHHQI', self.read(20))
            assert magic == 0x668e33ef, hex(magic)
        return flags & 1, kind, cookie, self.read(length)

    def chunks(self, cookie):
        found, error = [], 0
        while True:
            done, kind, got, data = self.chunk()
            assert got == cookie, (got, cookie)
            if kind & 0x8000:
                error = struct.unpack('>I', data[:4])[0]
            elif kind:
                found.append((kind, data))
            if done:
                break
        if error:
            raise NBDError(error)
        return found

    def simple(self, cookie, length=0):
        magic, error, got = struct.unpack('>IIQ', self.read(16))
        assert magic == 0x67446698 and got == cookie, (hex(magic), got)
        if error:
            raise NBDError(error)
        return self.read(length)

    def pread(self, offset, length, flags=0):
        cookie = self.send(READ, offset, length, flags)
        if self.style == 0:
            return self.simple(cookie, length)
        out = bytearray(length)
        for kind, data in self.chunks(cookie):
            at = struct.unpack('>Q', data[:8])[0] - offset
            if kind == 1:
                out[at:at + len(data) - 8] = data[8:]
            else:
                assert kind == 2, kind
        assert len(out) == length
        return bytes(out)

    def request(self, command, offset=0, length=0, flags=0, data=b''):
        """One without data in its reply."""
        cookie = self.send(command, offset, length, flags, data)
        if self.style == 2:
            assert self.chunks(cookie) == []
        else:
            self.simple(cookie)

    def pwrite(self, offset, data, flags=0):
        self.request(WRITE, offset, len(data), flags, data)

    def status(self, offset, length, flags=0):
        """{context: [(length, flags), …]}"""
        found = {}
        for kind, data in self.chunks(self.send(STATUS, offset, length,
                                                flags)):
            context = struct.unpack('>I', data[:4])[0]
            if kind == 6:
                found[self.contexts[context]] = list(
                    struct.iter_unpack('>QQ', data[8:]))
            else:
                assert kind == 5, kind
                found[self.contexts[context]] = list(
                    struct.iter_unpack('>II', data[4:]))
        return found


def wait_for(condition, seconds=TIMEOUT):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError('it did not become true')
        time.sleep(.005)
