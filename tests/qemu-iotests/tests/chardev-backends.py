#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: raw
"""Character devices beside sockets: files, FIFOs, terminals, ring buffers,
datagrams; changing one into another. What fails leaves everything as it was."""
import base64
import fcntl
import json
import os
import re
import resource
import select
import socket
import stat
import subprocess
import termios
import time
import unittest
from unittest import mock

import iotests
from iotests import nbd
from iotests.process import TIMEOUT, run
from iotests.qmp import QMPError

NULL = {'type': 'null', 'data': {}}
NEGOTIATE = b'{"execute": "qmp_capabilities"}'
VERSION = b'{"execute": "query-version"}'
SCHEMA = b'{"execute": "query-qmp-schema"}'


def backend(kind, **data):
    return {'type': kind,
            'data': {k.rstrip('_'): v for k, v in data.items()}}


def unix(path):
    return backend('socket', addr={'type': 'unix', 'data': {'path': path}})


def inet(port):
    return {'type': 'inet', 'data': {'host': '127.0.0.1', 'port': str(port)}}


def programs():
    return [p for p in (iotests.qsd(), iotests.ref_qsd()) if p]


def idle_ticks(qsd, qmp):
    """Of 50, how many the daemon works while it has nothing to do."""
    used = []
    for seconds in (.5, 0):
        with open(f'/proc/{qsd.process.pid}/stat', encoding='ascii') as f:
            used.append(sum(int(n) for n in f.read().split()[13:15]))
        qmp.no_event('NONE', seconds)
    return used[1] - used[0]


class Lines:
    """A client of a monitor over descriptors for reading and for writing."""

    def __init__(self, reads, writes=None):
        self.reads, self.writes = reads, reads if writes is None else writes
        self.pending = b''

    def receive(self):
        end = time.monotonic() + TIMEOUT
        while b'\n' not in self.pending:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.reads], [], [], left)[0]:
                raise TimeoutError(f'only {self.pending[:200]} came')
            self.pending += os.read(self.reads, 65536)
        line, _, self.pending = self.pending.partition(b'\n')
        return json.loads(line)

    def ask(self, request):
        os.write(self.writes, request)
        return self.receive()


class Case(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.fds = []

    def tearDown(self):
        for fd in self.fds:
            os.close(fd)
        super().tearDown()

    def open(self, path, flags):
        self.fds.append(os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK))
        return self.fds[-1]

    def close(self, fd):
        self.fds.remove(fd)
        os.close(fd)

    def add(self, qmp, chardev, kind, **data):
        return qmp.cmd('chardev-add', id=chardev, backend=backend(kind, **data))

    def add_fails(self, message, qmp, kind, **data):
        self.qmp_fails(message, qmp, 'chardev-add', id='bad',
                       backend=backend(kind, **data))

    def filename(self, qmp, chardev):
        return {c['label']: c['filename']
                for c in qmp.cmd('query-chardev')}.get(chardev)

    def files(self):
        return {name: self.read_file(name) for name in os.listdir(self.dir)
                if name != 'daemon.log' and
                stat.S_ISREG(os.lstat(self.path(name)).st_mode)}


class Ringbuf(Case):
    # (command, arguments), for both daemons; the device holds 8 bytes.
    DIALOGUE = [
        ('ringbuf-write', {'device': 'none', 'data': 'x'}),
        ('ringbuf-read', {'device': 'none', 'size': -1}),
        ('ringbuf-write', {'device': 'n', 'data': 'x'}),
        ('ringbuf-read', {'device': 'n', 'size': -1}),
        ('ringbuf-read', {'device': 'r', 'size': 0}),
        ('ringbuf-read', {'device': 'r', 'size': -1}),
        ('ringbuf-read', {'device': 'r', 'size': 5}),
        # The oldest bytes go.
        ('ringbuf-write', {'device': 'r', 'data': '0123456789abc'}),
        ('ringbuf-read', {'device': 'r', 'size': 3}),
        ('ringbuf-write', {'device': 'r', 'data': 'ABCD'}),
        ('ringbuf-read', {'device': 'r', 'size': 1 << 40}),
        ('ringbuf-read', {'device': 'r', 'size': 1}),
        ('ringbuf-write', {'device': 'r', 'data': 'AAECAwQF//4=',
                           'format': 'base64'}),
        ('ringbuf-read', {'device': 'r', 'size': 9, 'format': 'base64'}),
        ('ringbuf-write', {'device': 'r', 'data': 'a*b',
                           'format': 'base64'}),
        ('ringbuf-write', {'device': 'r', 'data': 'x', 'format': 'utf7'}),
        ('ringbuf-read', {'device': 'r', 'size': 9}),
        # In the middle of a character, and one that never was one.
        ('ringbuf-write', {'device': 'r', 'data': 'äöü'}),
        ('ringbuf-read', {'device': 'r', 'size': 3}),
        ('ringbuf-read', {'device': 'r', 'size': 3}),
        ('ringbuf-write', {'device': 'r', 'data': 'Qf9C',
                           'format': 'base64'}),
        ('ringbuf-read', {'device': 'r', 'size': 9}),
        ('ringbuf-write', {'device': 'r', 'data': 'a\0b'}),
        ('ringbuf-read', {'device': 'r', 'size': 9, 'format': 'base64'}),
        ('ringbuf-write', {'device': 'm', 'data': 'old'}),
        ('ringbuf-read', {'device': 'm', 'size': 3}),
        ('chardev-send-break', {'id': 'r'}),
        ('chardev-send-break', {'id': 'none'}),
        ('chardev-remove', {'id': 'r'}),
        ('ringbuf-read', {'device': 'r', 'size': 3}),
    ]

    def talk(self, program):
        qsd = self.daemon('--chardev', 'ringbuf,id=r,size=8', '--chardev',
                          'memory,id=m,size=1K', '--chardev', 'null,id=n',
                          program=program)
        qmp = qsd.connect()
        answers = [self.filename(qmp, 'r'), self.filename(qmp, 'm')]
        for command, arguments in self.DIALOGUE:
            try:
                answers.append(qmp.cmd(command, arguments))
            except QMPError as e:
                answers.append(str(e))
        self.assertEqual(qsd.stop(), 0)
        return answers

    @unittest.skipUnless(iotests.ref_qsd(),
                         "the distribution's daemon is not installed")
    def test_as_the_distribution(self):
        ours = self.talk(iotests.qsd())
        ref = self.talk(iotests.ref_qsd())
        for step, our, its in zip(['', ''] + self.DIALOGUE, ours, ref):
            self.assertEqual(our, its, step)
        self.assertIn('567', ours)

    def test_text_with_nul(self):
        """The distribution's daemon loses what is behind one."""
        qmp = self.daemon('--chardev', 'ringbuf,id=r').connect()
        qmp.cmd('ringbuf-write', device='r', data='YQBi', format='base64')
        self.assertEqual(qmp.cmd('ringbuf-read', device='r', size=3), 'a\0b')

    def test_any_pieces(self):
        """Against a plain model."""
        rng = self.rng()
        qmp = self.daemon('--chardev', 'ringbuf,id=r,size=64').connect()
        model = b''
        for _ in range(150):
            if rng.random() < .5:
                data = rng.randbytes(rng.choice((0, 1, 7, 63, 64, 65, 200)))
                qmp.cmd('ringbuf-write', device='r', format='base64',
                        data=base64.b64encode(data).decode())
                model = (model + data)[-64:]
            else:
                size = rng.randrange(1, 70)
                got = qmp.cmd('ringbuf-read', device='r', size=size,
                              format='base64')
                self.assertEqual(base64.b64decode(got), model[:size])
                model = model[size:]

    def test_sizes(self):
        env = {'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') +
               ':allocator_may_return_null=1'}
        with mock.patch.dict(os.environ, env):
            qmp = self.daemon().connect()
        for size in (0, -1, 3, 65537, -1 << 63):
            self.add_fails("Failed to add chardev 'bad': size of ringbuf "
                           'chardev must be power of two', qmp, 'ringbuf',
                           size=size)
        self.add_fails('Cannot allocate', qmp, 'ringbuf', size=1 << 62)
        self.add(qmp, 'one', 'ringbuf', size=1)
        qmp.cmd('ringbuf-write', device='one', data='ab')
        self.assertEqual(qmp.cmd('ringbuf-read', device='one', size=2), 'b')

    def test_most_at_once(self):
        """An answer does not become more than a monitor can send."""
        qmp = self.daemon('--chardev', 'ringbuf,id=r,size=16M').connect()
        qmp.cmd('ringbuf-write', device='r', format='base64',
                data=base64.b64encode(b'x' * (9 << 20)).decode())
        for size in (8 << 20, 1 << 20, 0):
            text = qmp.cmd('ringbuf-read', device='r', size=1 << 40)
            self.assertEqual(len(text), size)

    def test_monitor(self):
        """What it says is there to be read."""
        qmp = self.daemon('--chardev', 'ringbuf,id=r', '--monitor',
                          'r').connect()
        text = qmp.cmd('ringbuf-read', device='r', size=1000)
        self.assertIn('QMP', json.loads(text))


class CommandLine(Case):
    BAD = [
        ('ringbuf,id=c,size=3', 'size of ringbuf chardev must be power of two'),
        ('ringbuf,id=c,size=x',
         "Parameter 'size' expects a non-negative number below 2^64"),
        ('file,id=c', 'chardev: file: no filename given'),
        ('file,id=c,path=no/x',
         "Could not open 'no/x': No such file or directory"),
        ('file,id=c,path=x,append=x',
         "Parameter 'append' expects 'on' or 'off'"),
        ('file,id=c,path=x,foo=1', "Invalid parameter 'foo'"),
        ('file,path=x', 'chardev: no id specified'),
        ('pipe,id=c', 'chardev: pipe: no device path given'),
        ('pipe,id=c,path=no/x',
         "Could not open 'no/x': No such file or directory"),
        ('udp,id=c', 'chardev: udp: remote port not specified'),
        ('spicevmc,id=c,name=x',
         "'spicevmc' is not a valid char driver name"),
    ]
    # Kinds of the distribution's, or refusals of ours.
    OWN = [
        ('file,id=c,path=x,input-path=none',
         "Could not open 'none': No such file or directory"),
        ('mux,id=c,chardev=x', "'mux' is not a valid char driver name"),
        ('serial,id=c,path=x', "'serial' is not a valid char driver name"),
        ('ringbuf,id=c,size=8E', 'must be power of two'),
        ('ringbuf,id=c,mux=on', "Invalid parameter 'mux'"),
        ('pty,id=c,path=no/x', "Failed to create PTY symlink 'no/x': No such"),
        ('null,id=c,logfile=no/x', "Could not open 'no/x'"),
    ]

    def test_errors(self):
        for text, message in self.BAD:
            for program in programs():
                with self.subTest(text, program=program):
                    done = run([program, '--chardev', text], cwd=self.dir)
                    self.assertEqual(done.rc, 1)
                    self.assertEqual(
                        done.stderr.split('\n')[0].removeprefix('/usr/bin/'),
                        f'qemu-storage-daemon: --chardev {text}: {message}')
        for text, message in self.OWN:
            with self.subTest(text):
                done = run([iotests.qsd(), '--chardev', text], cwd=self.dir)
                self.assertEqual(done.rc, 1)
                self.assertIn(message, done.stderr)
        self.assertEqual(os.listdir(self.dir), [])

    def test_kinds(self):
        qmp = self.daemon().connect()
        kinds = [k['name'] for k in qmp.cmd('query-chardev-backends')]
        self.assertEqual(kinds, ['file', 'pipe', 'socket', 'udp', 'pty', 'null',
                                 'stdio', 'ringbuf', 'memory'])
        for kind in ('mux', 'hub', 'serial', 'vc'):
            self.add_fails(f"does not accept value '{kind}'", qmp, kind)
        listed = run([iotests.qsd(), '--chardev', 'help']).stdout
        self.assertEqual(re.findall(r'^  (\w+)$', listed, re.M), kinds)


class File(Case):
    REQUESTS = NEGOTIATE + b'\n' + VERSION + b'\n'

    def test_out_and_append(self):
        for program in programs():
            qsd = self.daemon(program=program)
            qmp = qsd.connect()
            for options, text in (({}, b''), ({'append': False}, b''),
                                  ({'append': True}, b'old')):
                self.write_file('f', b'old')
                self.add(qmp, 'c', 'file', out='f', **options)
                self.assertEqual(self.filename(qmp, 'c'), 'file')
                self.assertEqual(self.read_file('f'), text)
                qmp.cmd('chardev-remove', id='c')
            self.assertEqual(qsd.stop(), 0)

    def monitor(self, out, *args):
        """A whole conversation in files."""
        self.write_file('in', self.REQUESTS)
        qsd = self.daemon('--chardev',
                          f'file,id=f,path={out},input-path=in' +
                          ''.join(args), '--monitor', 'f')
        return qsd, qsd.connect()

    def check_answers(self, data):
        lines = [json.loads(line) for line in data.split(b'\r\n')[:-1]]
        self.assertIn('QMP', lines[0])
        self.assertEqual(lines[1], {'return': {}})
        self.assertIn('qemu', lines[2]['return'])
        self.assertEqual(len(lines), 3)

    def test_monitor(self):
        self.write_file('out', b'before\n')
        qsd, _ = self.monitor('out', ',append=on,logfile=log')
        nbd.wait_for(lambda: self.read_file('out').count(b'\r\n') == 3)
        self.assertEqual(qsd.stop(), 0)
        before, _, answers = self.read_file('out').partition(b'\n')
        self.assertEqual(before, b'before')
        self.check_answers(answers)
        self.check_answers(self.read_file('log'))

    def test_full_disk(self):
        """Answers are lost, which is told once; commands go on."""
        self.write_file('log', b'old\n')
        qsd, qmp = self.monitor('/dev/full', ',logfile=log,logappend=on')
        nbd.wait_for(lambda: self.read_file('log').count(b'\r\n') == 3)
        self.assertEqual(qmp.cmd('query-version')['qemu']['major'], 0)
        warnings = [line for line in qsd.output().split('\n') if 'lost' in line]
        self.assertEqual(len(warnings), 1)
        self.assertIn("Could not write to '/dev/full', output is lost: No "
                      'space', warnings[0])
        self.assertEqual(qsd.stop(), 0)

    def test_log_on_a_full_disk(self):
        qsd, _ = self.monitor('out', ',logfile=/dev/full')
        nbd.wait_for(lambda: self.read_file('out').count(b'\r\n') == 3)
        self.check_answers(self.read_file('out'))
        self.assertEqual(qsd.output().count('output is lost'), 1)
        self.assertEqual(qsd.stop(), 0)

    def test_failures_leave_files_alone(self):
        qmp = self.daemon().connect()
        self.write_file('kept', b'kept')
        os.mkfifo(self.path('fifo'))
        before = self.files()
        for options in ({'out': 'kept', 'in_': 'none'},
                        {'out': 'new', 'in_': 'none'},
                        {'out': 'kept', 'logfile': 'no/log'},
                        {'out': 'new', 'logfile': 'no/log'},
                        {'out': 'no/x', 'logfile': 'newlog'},
                        {'out': 'no/x', 'logfile': 'kept'},
                        {'out': self.dir},
                        {'out': 'fifo'}):      # nobody reads it
            with self.subTest(options):
                self.add_fails("Failed to add chardev 'bad': Could not open",
                               qmp, 'file', **options)
                self.assertEqual(self.files(), before)
        self.assertIsNone(self.filename(qmp, 'bad'))
        self.qmp_fails("Parameter 'backend.data.out' is missing", qmp,
                       'chardev-add', id='bad', backend=backend('file'))

    def test_fifo_whose_reader_goes(self):
        """It waits for a slow one, and goes on without one."""
        os.mkfifo(self.path('fifo'))
        reads = self.open(self.path('fifo'), os.O_RDONLY)
        self.write_file('in', NEGOTIATE + SCHEMA + VERSION)
        qsd = self.daemon('--chardev',
                          'file,id=f,path=fifo,input-path=in,logfile=log',
                          '--monitor', 'f')
        client = Lines(reads)
        self.assertIn('QMP', client.receive())
        client.receive()
        self.assertGreater(len(client.receive()['return']), 100)
        self.assertIn('qemu', client.receive()['return'])
        nbd.wait_for(lambda: self.read_file('log').count(b'\r\n') == 4)
        self.close(reads)
        qsd.connect().cmd('query-version')
        self.assertEqual(qsd.stop(), 0)


class Pipe(Case):
    def setUp(self):
        super().setUp()
        for end in ('in', 'out'):
            os.mkfifo(self.path(f'p.{end}'))

    def monitor(self):
        qsd = self.daemon('--chardev', 'pipe,id=p,path=p', '--monitor', 'p')
        return qsd, qsd.connect()

    def client(self):
        return Lines(self.open(self.path('p.out'), os.O_RDONLY),
                     self.open(self.path('p.in'), os.O_WRONLY))

    def wait_until_read(self, qmp):
        """The daemon has dealt with all that is in p.in."""
        fd = self.open(self.path('p.in'), os.O_RDWR)
        nbd.wait_for(lambda: not any(fcntl.ioctl(fd, termios.FIONREAD,
                                                 bytes(4))))
        for _ in range(5):
            qmp.cmd('query-version')

    def test_monitor(self):
        qsd, qmp = self.monitor()
        self.assertEqual(self.filename(qmp, 'p'), 'pipe')
        client = self.client()
        self.assertIn('QMP', client.receive())
        self.assertEqual(client.ask(NEGOTIATE), {'return': {}})
        # More than the FIFO holds.
        self.assertGreater(len(client.ask(SCHEMA)['return']), 100)
        # It goes, and another one goes on.
        self.close(client.reads)
        self.close(client.writes)
        self.assertIn('qemu', self.client().ask(VERSION)['return'])
        self.assertEqual(qsd.stop(), 0)

    def test_nobody_reads(self):
        """Nothing else waits for that."""
        qsd, qmp = self.monitor()
        writes = self.open(self.path('p.in'), os.O_WRONLY)
        os.write(writes, NEGOTIATE + SCHEMA * 10 + VERSION)
        qmp.cmd('query-version')
        client = Lines(self.open(self.path('p.out'), os.O_RDONLY))
        self.assertIn('QMP', client.receive())
        answers = [client.receive()['return'] for _ in range(12)]
        self.assertEqual(len(answers[10]), len(answers[1]))
        self.assertIn('qemu', answers[11])
        self.assertEqual(qsd.stop(), 0)

    def test_cut(self):
        """Too much that nobody reads: the next one begins anew."""
        qsd, qmp = self.monitor()
        with open(self.path('p.in'), 'wb') as f:
            # Six letters for each of these in the answer.
            f.write(NEGOTIATE + b'{"execute": "query-version", "id": "' +
                    'ä'.encode() * (12 << 20) + b'"}')
        self.wait_until_read(qmp)
        client = self.client()
        self.assertIn('QMP', client.receive())
        self.assertIn('Expecting', client.ask(VERSION)['error']['desc'])
        self.assertEqual(client.ask(NEGOTIATE), {'return': {}})
        self.assertEqual(qsd.stop(), 0)

    def test_one_file(self):
        """Without a pair there is the name itself; half a pair is none."""
        qmp = self.daemon().connect()
        self.write_file('f', b'')
        self.add(qmp, 'f', 'pipe', device='f')
        os.unlink(self.path('p.out'))
        self.add_fails("Could not open 'p': No such file or directory", qmp,
                       'pipe', device='p')
        os.mkdir(self.path('p.out'))
        self.add_fails("Could not open 'p.out': Is a directory", qmp,
                       'pipe', device='p')


class Pty(Case):
    def client(self, path):
        return Lines(self.open(path, os.O_RDWR))

    def leave(self, client, qmp):
        """Whoever comes before the daemon has seen that is nobody new: it has,
        when it has been to its event loop again."""
        self.close(client.reads)
        for _ in range(3):
            qmp.cmd('query-version')

    def test_monitor(self):
        qsd = self.daemon('--chardev', f'pty,id=p,path={self.path("link")}',
                          '--monitor', 'p')
        qmp = qsd.connect()
        pty = os.readlink(self.path('link'))
        self.assertIn(f'char device redirected to {pty} (label p)\n',
                      qsd.output())
        self.assertEqual(self.filename(qmp, 'p'), f'pty:{pty}')
        for path in (self.path('link'), pty):
            client = self.client(path)
            self.assertIn('QMP', client.receive())
            self.assertEqual(client.ask(NEGOTIATE), {'return': {}})
            self.assertGreater(len(client.ask(SCHEMA)['return']), 100)
            # Bytes go through as they are.
            iflag, oflag, _, lflag, *_ = termios.tcgetattr(client.reads)
            self.assertFalse(lflag & (termios.ECHO | termios.ICANON))
            self.assertFalse(iflag & termios.ICRNL)
            self.assertFalse(oflag & termios.OPOST)
            self.leave(client, qmp)
        self.assertEqual(qsd.stop(), 0)
        self.assertFalse(os.path.lexists(self.path('link')))

    def test_client_that_goes_without_reading(self):
        """The next one gets nothing of what was meant for it, and the daemon
        does not go round in circles in between."""
        qsd = self.daemon('--chardev', 'pty,id=p,path=link', '--monitor', 'p')
        qmp = qsd.connect()
        for _ in range(5):
            client = self.client(self.path('link'))
            self.assertEqual(list(client.receive()), ['QMP'])
            os.write(client.writes, NEGOTIATE + SCHEMA * 2)
            self.assertEqual(client.receive(), {'return': {}})
            self.leave(client, qmp)
        self.assertLess(idle_ticks(qsd, qmp), 20)
        client = self.client(self.path('link'))
        self.assertIn('QMP', client.receive())
        self.assertEqual(client.ask(NEGOTIATE), {'return': {}})
        self.assertEqual(qsd.stop(), 0)

    def test_over_qmp(self):
        for program in programs():
            qsd = self.daemon(program=program)
            qmp = qsd.connect()
            pty = self.add(qmp, 'p', 'pty')['pty']
            self.assertTrue(stat.S_ISCHR(os.stat(pty).st_mode))
            self.assertEqual(self.filename(qmp, 'p'), f'pty:{pty}')
            qmp.cmd('chardev-remove', id='p')
            self.assertFalse(os.path.exists(pty))
            self.assertEqual(qsd.stop(), 0)

    def test_link(self):
        qmp = self.daemon().connect()
        self.write_file('taken', b'x')
        self.add_fails("Failed to create PTY symlink 'taken': File exists", qmp,
                       'pty', path='taken')
        self.assertEqual(self.read_file('taken'), b'x')
        # It is another one's by the time that the device goes.
        self.add(qmp, 'p', 'pty', path='link')
        os.unlink(self.path('link'))
        os.symlink('taken', self.path('link'))
        qmp.cmd('chardev-remove', id='p')
        self.assertEqual(os.readlink(self.path('link')), 'taken')

    def test_link_of_a_daemon_in_the_background(self):
        done = subprocess.run(
            [iotests.qsd(), '--daemonize', '--pidfile', 'pid', '--chardev',
             'pty,id=p,path=link', '--monitor', 'p'], cwd=self.dir,
            capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, rb'^char device redirected to /dev/pts/')
        client = self.client(self.path('link'))
        client.receive()
        client.ask(NEGOTIATE)
        os.write(client.writes, b'{"execute": "quit"}')
        nbd.wait_for(lambda: not os.path.exists(self.path('pid')))
        self.assertFalse(os.path.lexists(self.path('link')))


class Udp(Case):
    def test_monitor(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(('127.0.0.1', 0))
            s.settimeout(TIMEOUT)
            port = s.getsockname()[1]
            qsd = self.daemon(
                '--chardev', f'udp,id=u,host=127.0.0.1,port={port},'
                'localaddr=127.0.0.1,localport=0', '--monitor', 'u')
            data, peer = s.recvfrom(65536)
            self.assertIn('QMP', json.loads(data))
            s.sendto(b'', peer)             # is no end
            for request in (NEGOTIATE, VERSION):
                s.sendto(request, peer)
                answer = json.loads(s.recv(65536))
                self.assertIn('return', answer)
            # More than fits.
            s.sendto(SCHEMA, peer)
            data = b''
            while not data.endswith(b'\n'):
                data += s.recv(65536)
            self.assertGreater(len(data), 65536)
            json.loads(data)
        # Now nobody is there.
        qmp = qsd.connect()
        self.assertEqual(self.filename(qmp, 'u'), 'udp')
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for _ in range(3):
                s.sendto(VERSION, peer)     # not from its peer: not looked at
        qmp.cmd('query-version')
        self.assertEqual(qsd.stop(), 0)

    def test_over_qmp(self):
        for program in programs():
            qsd = self.daemon(program=program)
            qmp = qsd.connect()
            self.add(qmp, 'a', 'udp', remote=inet(9))
            self.add(qmp, 'b', 'udp', remote=inet(9), local=inet(0))
            self.assertEqual(self.filename(qmp, 'b'), 'udp')
            self.add_fails("Failed to add chardev 'bad': socket type "
                           'unsupported for datagram', qmp, 'udp',
                           remote={'type': 'unix', 'data': {'path': 'x'}})
            self.assertEqual(qsd.stop(), 0)

    def test_addresses_that_do_not_fit(self):
        qmp = self.daemon().connect()
        ranged, v6 = inet(9), inet(0)
        ranged['data']['to'] = 10
        v6['data'].update(host='::1', ipv6=True)
        self.add_fails("'to' and 'keep-alive' are for streams", qmp, 'udp',
                       remote=ranged)
        self.add_fails('of another family', qmp, 'udp', remote=inet(9),
                       local=v6)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            s.bind(('127.0.0.1', 0))
            self.add(qmp, 'u', 'udp', remote=inet(9),
                     local=inet(s.getsockname()[1]))
        self.add_fails('Failed to bind socket: ', qmp, 'udp', remote=inet(9),
                       local={'type': 'inet', 'data': {'host': '192.0.2.1',
                                                       'port': '0'}})


class Unused(Case):
    """Devices without a monitor."""

    def test_peer_that_goes(self):
        """It makes room for the next one."""
        path = self.path('s')
        qmp = self.daemon('--chardev',
                          f'socket,id=c,path={path},server=on,wait=off'
                          ).connect()
        here = f'unix:{path},server=on'
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                nbd.wait_for(lambda: self.filename(qmp, 'c') == here)
            nbd.wait_for(lambda: self.filename(qmp, 'c') ==
                         f'disconnected:{here}')

    def test_peer_that_has_sent_something(self):
        """That is nothing to be busy with."""
        qsd = self.daemon('--chardev', 'pty,id=p,path=link')
        qmp = qsd.connect()
        os.write(self.open(self.path('link'), os.O_RDWR), b'hello')
        self.assertLess(idle_ticks(qsd, qmp), 20)
        qmp.cmd('chardev-remove', id='p')


class Change(Case):
    def change(self, qmp, new, chardev='c'):
        return qmp.cmd('chardev-change', id=chardev, backend=new)

    def test_through_all_kinds(self):
        for program in programs():
            qsd = self.daemon('--chardev', 'null,id=c', program=program)
            qmp = qsd.connect()
            self.change(qmp, backend('ringbuf', size=8))
            qmp.cmd('ringbuf-write', device='c', data='x')
            path = self.path('s')
            self.change(qmp, unix(path))
            self.assertEqual(self.filename(qmp, 'c'),
                             f'disconnected:unix:{path},server=on')
            pty = self.change(qmp, backend('pty'))['pty']
            self.assertFalse(os.path.exists(path))
            self.assertEqual(self.filename(qmp, 'c'), f'pty:{pty}')
            self.change(qmp, backend('file', out=self.path('f')))
            self.assertFalse(os.path.exists(pty))
            self.change(qmp, backend('udp', remote=inet(9)))
            self.assertEqual(self.filename(qmp, 'c'), 'udp')
            self.assertEqual(self.change(qmp, NULL), {})
            qmp.cmd('chardev-remove', id='c')
            self.assertEqual(qsd.stop(), 0)

    def test_refused(self):
        for program in programs():
            qsd = self.daemon(program=program)
            qmp = qsd.connect()
            self.qmp_fails("Chardev 'none' does not exist", qmp,
                           'chardev-change', id='none', backend=NULL)
            self.qmp_fails('Chardev user does not support chardev hotswap', qmp,
                           'chardev-change', id='qmp0',
                           backend=backend('file', out=self.path('f')))
            self.assertFalse(os.path.exists(self.path('f')))
            qmp.cmd('query-version')
            self.assertEqual(qsd.stop(), 0)

    def test_failure_changes_nothing(self):
        """The distribution's daemon has lost the device then."""
        path = self.path('s')
        qmp = self.daemon('--chardev',
                          f'socket,id=c,path={path},server=on,wait=off',
                          '--chardev', 'ringbuf,id=r,size=8').connect()
        qmp.cmd('ringbuf-write', device='r', data='abc')
        before = os.stat(path), self.files(), qmp.cmd('query-chardev')
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.settimeout(TIMEOUT)
        for new in (backend('file', out='no/x'),
                    backend('file', out='new', in_='none'),
                    backend('ringbuf', size=7),
                    backend('pipe', device='none'),
                    backend('pty', path='no/x'),
                    unix('no/x'), unix(path),
                    backend('null', logfile='no/x')):
            for chardev in ('c', 'r'):
                with self.subTest(new, chardev=chardev):
                    self.qmp_fails(f"Failed to add chardev '{chardev}': ", qmp,
                                   'chardev-change', id=chardev, backend=new)
                    self.assertEqual(os.stat(path), before[0])
                    self.assertEqual(self.files(), before[1])
                    # It looked whether somebody listens there.
                    nbd.wait_for(lambda: qmp.cmd('query-chardev') == before[2])
        client.connect(path)
        nbd.wait_for(lambda: self.filename(qmp, 'c') ==
                     f'unix:{path},server=on')
        self.qmp_fails('Failed to add', qmp, 'chardev-change', id='c',
                       backend=backend('file', out='no/x'))
        client.setblocking(False)
        self.assertRaises(BlockingIOError, client.recv, 1)
        client.setblocking(True)
        self.assertEqual(qmp.cmd('ringbuf-read', device='r', size=9), 'abc')
        # The connection goes with the device.
        self.change(qmp, NULL)
        client.settimeout(TIMEOUT)
        self.assertEqual(client.recv(1), b'')

    def test_socket_whose_file_was_lost(self):
        """The new one has the same name, and keeps its file."""
        path = self.path('s')
        qmp = self.daemon('--chardev',
                          f'socket,id=c,path={path},server=on,wait=off'
                          ).connect()
        os.unlink(path)
        self.change(qmp, unix(path))
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            nbd.wait_for(lambda: self.filename(qmp, 'c') ==
                         f'unix:{path},server=on')
        qmp.cmd('chardev-remove', id='c')
        self.assertFalse(os.path.exists(path))

    def test_no_descriptors_left(self):
        """However many there are, a failure gives all back."""
        qsd = self.daemon('--chardev', 'null,id=c')
        qmp = qsd.connect()
        for end in ('in', 'out'):
            os.mkfifo(self.path(f'p.{end}'))
        self.write_file('f', b'kept')
        pid = qsd.process.pid
        fds = f'/proc/{pid}/fd'
        # The number is a limit of new descriptors, not of how many there are.
        before = sorted(map(int, os.listdir(fds)))
        free = [n for n in range(before[-1] + 10) if n not in before]
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        kinds = [backend('pty', path='link'), unix(self.path('s')),
                 backend('pipe', device='p'),
                 backend('file', out='g', in_='f', logfile='log'),
                 backend('udp', remote=inet(9)), NULL]
        for new in kinds:
            for n in range(8):
                with self.subTest(new, n=n):
                    resource.prlimit(pid, resource.RLIMIT_NOFILE,
                                     (free[n], limits[1]))
                    try:
                        self.change(qmp, new)
                        break
                    except QMPError as e:
                        self.assertIn('Too many open files', e.desc)
                        self.assertEqual(sorted(map(int, os.listdir(fds))),
                                         before)
                        self.assertFalse(os.path.lexists(self.path('link')))
                        self.assertEqual(
                            [f for f in ('g', 'log', 's')
                             if os.path.exists(self.path(f))], [])
            else:
                self.fail(f'{new} never worked')
            if new != NULL:
                self.assertGreater(n, 0)
            self.change(qmp, NULL)
            self.assertEqual(sorted(map(int, os.listdir(fds))), before)
            for name in ('g', 'log'):
                if os.path.exists(self.path(name)):
                    os.unlink(self.path(name))
        self.assertEqual(self.read_file('f'), b'kept')
        self.assertEqual(qsd.stop(), 0)


if __name__ == '__main__':
    iotests.main()
