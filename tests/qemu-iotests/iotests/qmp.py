# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of QMP, and a qemu-storage-daemon to talk to."""
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import time

from . import tools
from .process import TIMEOUT


class QMPError(Exception):
    """What a command answered instead of a result."""

    def __init__(self, error):
        super().__init__(f"{error['class']}: {error['desc']}")
        self.error_class = error['class']
        self.desc = error['desc']


class QMPClient:
    """One connection. Events that arrive are kept until somebody asks for
    them."""

    def __init__(self, path, negotiate=True, oob=False):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self._connect(path)
        self.pending = b''
        self.events = []
        self.greeting = self.receive()
        if negotiate:
            args = {'enable': ['oob']} if oob else {}
            self.cmd('qmp_capabilities', **args)

    def _connect(self, path):
        """Between its appearance and listen() a socket refuses, and that of a
        daemon that was killed goes away before there is a new one."""
        end = time.monotonic() + 5
        while True:
            try:
                return self.sock.connect(path)
            except (ConnectionRefusedError, FileNotFoundError):
                if time.monotonic() > end:
                    raise
                time.sleep(.005)

    def close(self):
        self.sock.close()

    def send_raw(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def send(self, message, fds=()):
        if fds:
            socket.send_fds(self.sock, [json.dumps(message).encode()], fds)
        else:
            self.send_raw(json.dumps(message))

    def receive(self, timeout=TIMEOUT):
        """The next message; None at the end of the connection."""
        end = time.monotonic() + timeout
        while b'\n' not in self.pending:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise TimeoutError(f'nothing came within {timeout} s')
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b''
            if not data:
                return None
            self.pending += data
        line, _, self.pending = self.pending.partition(b'\n')
        assert line.endswith(b'\r'), line
        return json.loads(line)

    def response(self, timeout=TIMEOUT):
        """The next message that is no event."""
        while True:
            message = self.receive(timeout)
            if message is None or 'event' not in message:
                return message
            self.events.append(message)

    def cmd(self, command, arguments=None, fds=(), **kwargs):
        """Arguments are named with '_' for '-'; returns the result. fds go with
        it."""
        request = {'execute': command}
        args = arguments or {k.replace('_', '-'): v for k, v in kwargs.items()}
        if args:
            request['arguments'] = args
        self.send(request, fds)
        answer = self.response()
        if answer is None:
            raise EOFError(f'the connection ended during {command}')
        if 'error' in answer:
            raise QMPError(answer['error'])
        return answer['return']

    def event(self, name, timeout=TIMEOUT, **data):
        """The oldest event of that name with such data; waits for it."""
        end = time.monotonic() + timeout
        while True:
            for event in self.events:
                if event['event'] == name and all(
                        event.get('data', {}).get(k.replace('_', '-')) == v
                        for k, v in data.items()):
                    self.events.remove(event)
                    return event
            message = self.receive(end - time.monotonic())
            if message is None:
                raise EOFError(f'the connection ended before {name}')
            assert 'event' in message, message
            self.events.append(message)

    def no_event(self, name, seconds=.2):
        """Fails if such an event is there or comes within that time."""
        try:
            event = self.event(name, timeout=seconds)
        except TimeoutError:
            return
        raise AssertionError(f'unexpected {event}')


class Daemon:
    """A running qemu-storage-daemon with QMP sockets qmp.0, qmp.1, … in cwd."""

    numbers = itertools.count()     # one file each, though they share a cwd

    def __init__(self, program, *args, cwd, monitors=1, wait=True,
                 pass_fds=()):
        self.cwd = cwd
        self.sockets = [os.path.join(cwd, f'qmp.{n}') for n in range(monitors)]
        command = [program]
        for n, path in enumerate(self.sockets):
            command += ['--chardev', f'socket,id=qmp{n},path={path},'
                        'server=on,wait=off', '--monitor', f'qmp{n}']
        self.ready = list(self.sockets)
        if '--pidfile' not in args:
            # It is written when all sockets listen: one that only exists may
            # refuse, and a monitor of the distribution's daemon greets a client
            # that comes too early twice, or never.
            self.ready.append(os.path.join(cwd, f'pid.{next(self.numbers)}'))
            command += ['--pidfile', self.ready[-1]]
        self.args = command + [str(a) for a in args]
        self.log = open(os.path.join(cwd, 'daemon.log'), 'w+b')
        self.process = subprocess.Popen(
            self.args, cwd=cwd, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=subprocess.STDOUT, pass_fds=pass_fds)
        self.clients = []
        if wait:
            try:
                self._wait_ready()
            except AssertionError:
                self.kill()
                raise

    def _wait_ready(self):
        end = time.monotonic() + TIMEOUT
        while not all(os.path.exists(s) for s in self.ready):
            if self.process.poll() is not None:
                raise AssertionError(f'{self.args} ended: {self.output()}')
            if time.monotonic() > end:
                raise AssertionError(f'{self.args} is not ready')
            time.sleep(.005)

    def connect(self, number=0, **kwargs):
        client = QMPClient(self.sockets[number], **kwargs)
        self.clients.append(client)
        return client

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors='surrogateescape')

    def wait(self):
        """Status of a daemon that ends by itself; crashes raise."""
        rc = self.process.wait(TIMEOUT)
        out = self.output()
        if rc < 0 or 'Sanitizer' in out or 'runtime error' in out:
            raise AssertionError(f'{self.args} crashed: {rc}\n{out[-6000:]}')
        return rc

    def stop(self, sig=signal.SIGTERM):
        """Ends it in an orderly way and returns its status."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        rc = self.wait()
        self.close()
        return rc

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self):
        for client in self.clients:
            client.close()
        self.clients = []
        self.log.close()
