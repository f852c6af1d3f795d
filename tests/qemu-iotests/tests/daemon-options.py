#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: raw
"""qemu-storage-daemon as a program: options, their errors, pid file, background,
ends by signals."""
import os
import resource
import signal
import socket
import struct
import subprocess
import time

import iotests
from iotests import nbd
from iotests.process import run


class Options(iotests.TestCase):
    def qsd(self, *args, rc=1, program=None):
        result = run([program or iotests.qsd(), *args], cwd=self.dir)
        self.assertEqual(result.rc, rc, result.describe())
        return result

    # (arguments, message on stderr without the program's name)
    BAD = [
        (['--foo'], "unrecognized option '--foo'"),
        (['foo'], 'foo: Unexpected argument'),
        (['--pidfile'], "option '--pidfile' requires an argument"),
        (['--blockdev', 'driver=nope,node-name=b'],
         "--blockdev driver=nope,node-name=b: Parameter 'driver' does not "
         "accept value 'nope'"),
        (['--blockdev', 'file,node-name=b,filename=nofile'],
         "--blockdev file,node-name=b,filename=nofile: Could not open "
         "'nofile': No such file or directory"),
        (['--blockdev', 'null-co'],
         "--blockdev null-co: 'node-name' must be specified for the root "
         "node"),
        (['--blockdev', '{"driver": "null-co", "node-name": "n", "x": 1}'],
         '--blockdev {"driver": "null-co", "node-name": "n", "x": 1}: '
         "Parameter 'x' is unexpected"),
        (['--chardev', 'foo,id=m'],
         "--chardev foo,id=m: 'foo' is not a valid char driver name"),
        (['--monitor', 'nochar'],
         '--monitor nochar: chardev "nochar" not found'),
        (['--object', 'nope,id=a'],
         "--object nope,id=a: Parameter 'qom-type' does not accept value "
         "'nope'"),
        (['--object', 'iothread'],
         "--object iothread: Parameter 'id' is missing"),
    ]

    def messages(self, *args, env=lambda st: {}):
        """Lines of stderr with a warning, an info and an error, in that order."""
        path = self.path('err')
        with open(path, 'w+b') as err:
            st = os.fstat(err.fileno())
            client = subprocess.Popen(
                [iotests.qsd(), '-T', 'nope', '--chardev',
                 f'socket,id=c,path={self.path("s")},server=on,wait=on',
                 *args, '--blockdev', 'file,node-name=n,filename=nofile'],
                stderr=err, env={**os.environ, **env(st)})
            nbd.wait_for(lambda: os.path.exists(self.path('s')))
            with socket.socket(socket.AF_UNIX) as sock:
                nbd.wait_for(lambda: not sock.connect_ex(self.path('s')))
                self.assertEqual(client.wait(60), 1)
            err.seek(0)
            return err.read().decode().splitlines()

    LEVELS = [("warning: trace event 'nope' does not exist", 4),
              ('info: QEMU waiting for connection', 6),
              ('--blockdev file,node-name=n,filename=nofile: Could not', 3)]

    def test_log_levels(self):
        for level, number in (('error', 3), ('warning', 4), ('info', 6),
                              ('debug', 7), (None, 6)):
            args = ['--log-level', level] if level else []
            lines = self.messages(*args)
            wanted = ['qemu-storage-daemon: ' + text
                      for text, of in self.LEVELS if of <= number]
            self.assertEqual([line[:len(text)]
                              for line, text in zip(lines, wanted)], wanted)
            self.assertEqual(len(lines), len(wanted))
        self.assertIn('--log-level loud: there is no such level',
                      self.qsd('--log-level', 'loud').stderr)

    def test_levels_for_the_journal(self):
        """Only what goes there has them."""
        for other, marked in ((0, True), (1, False)):
            lines = self.messages(
                '-T', 'aio_*', '--object', 'iothread,id=t',
                env=lambda st, other=other: {
                    'JOURNAL_STREAM': f'{st.st_dev}:{st.st_ino + other}'})
            for text, level in self.LEVELS + [('@', 7)]:
                line = next(l for l in lines if text in l)
                self.assertEqual(line.startswith(f'<{level}>'), marked, line)
                self.assertEqual(line.startswith('<'), marked)

    def test_errors(self):
        for args, message in self.BAD:
            for program in (iotests.qsd(), iotests.ref_qsd()):
                if not program:
                    continue
                with self.subTest(args, program=program):
                    result = self.qsd(*args, program=program)
                    lines = result.stderr.split('\n')
                    self.assertEqual(lines[0].removeprefix('/usr/bin/'),
                                     'qemu-storage-daemon: ' + message)

    def test_own_errors(self):
        for args, message in (
                (['--export', 'teleport,id=a,node-name=x'],
                 "Parameter 'type' does not accept value 'teleport'"),
                (['--chardev', 'socket,id=a'], "no host given"),
                (['--chardev', 'socket,id=a,path=x,port=1'],
                 "None or one of 'path', 'fd' or 'host'"),
                (['--chardev', 'socket,id=a,path=x,colour=red'],
                 "Invalid parameter 'colour'"),
                (['--chardev', 'stdio,id=a', '--chardev', 'stdio,id=b'],
                 "stdio already in use by character device 'a'"),
                (['--chardev', 'null,id=a', '--chardev', 'null,id=a'],
                 "Chardev with id 'a' already exists"),
                (['--chardev', 'null,id=a', '--monitor', 'a', '--monitor',
                  'a'], "Device 'a' is in use"),
                (['--chardev', 'null,id=a', '--monitor', 'a,mode=readline'],
                 "Parameter 'mode' does not accept value 'readline'"),
                (['--object', 'iothread,id=1'],
                 "Parameter 'id' expects an identifier")):
            with self.subTest(args):
                self.assertIn(message, self.qsd(*args).stderr)

    def test_help_and_version(self):
        self.assertIn('Usage: qemu-storage-daemon',
                      self.qsd('--help', rc=0).stdout)
        self.assertRegex(self.qsd('-V', rc=0).stdout,
                         r'^qemu-storage-daemon version \d')
        self.assertIn('\n  iothread\n',
                      self.qsd('--object', 'help', rc=0).stdout)
        self.assertIn('\n  socket\n',
                      self.qsd('--chardev', 'help', rc=0).stdout)
        self.assertIn('monitor_request',
                      self.qsd('--trace', 'help', rc=0).stdout)

    def test_help_comes_before_everything_else(self):
        self.assertIn('Usage:', self.qsd('--blockdev', 'nonsense', '--help',
                                         rc=0).stdout)

    def test_order(self):
        """An option refers to what options before it made."""
        self.write_file('f', bytes(1 << 20))
        node = 'file,node-name=f,filename=f'
        raw = 'raw,node-name=r,file=f'
        self.qsd('--blockdev', raw, '--blockdev', node)
        qsd = self.daemon('--blockdev', node, '--blockdev', raw)
        names = [n['node-name'] for n in
                 qsd.connect().cmd('query-named-block-nodes')]
        self.assertEqual(names, ['r', 'f'])
        self.assertEqual(qsd.stop(), 0)


class Process(iotests.TestCase):
    def test_signals(self):
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(sig):
                qsd = self.daemon()
                self.assertEqual(qsd.stop(sig), 0)
                self.assertFalse(os.path.exists(qsd.sockets[0]))

    def test_quit(self):
        qsd = self.daemon()
        self.assertEqual(qsd.connect().cmd('quit'), {})
        self.assertEqual(qsd.wait(), 0)

    def test_pidfile(self):
        qsd = self.daemon('--pidfile', 'pid')
        qsd.connect()
        self.assertEqual(int(self.read_file('pid')), qsd.process.pid)
        # While it runs nobody else takes the file.
        other = run([iotests.qsd(), '--pidfile', 'pid'], cwd=self.dir)
        self.assertEqual(other.rc, 1)
        self.assertIn('cannot create PID file', other.stderr)
        self.assertEqual(int(self.read_file('pid')), qsd.process.pid)
        self.assertEqual(qsd.stop(), 0)
        self.assertFalse(os.path.exists(self.path('pid')))

    def test_pidfile_of_a_dead_one(self):
        self.write_file('pid', b'99999999\n')
        qsd = self.daemon('--pidfile', 'pid')
        qsd.connect()
        self.assertEqual(int(self.read_file('pid')), qsd.process.pid)
        self.assertEqual(qsd.stop(), 0)

    def test_daemonize(self):
        path = self.path('sock')
        done = subprocess.run(
            [iotests.qsd(), '--daemonize', '--pidfile', 'pid', '--chardev',
             f'socket,id=c,path={path},server=on,wait=off', '--monitor', 'c'],
            cwd=self.dir, capture_output=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, b'', b''))
        # It is ready by then.
        pid = int(self.read_file('pid'))
        self.assertEqual(os.readlink(f'/proc/{pid}/cwd'), '/')
        self.assertEqual(os.getsid(pid), pid)
        qmp = iotests.QMPClient(path)
        qmp.cmd('query-version')
        qmp.cmd('quit')
        end = time.monotonic() + 20
        while os.path.exists(self.path('pid')) and time.monotonic() < end:
            time.sleep(.01)
        self.assertFalse(os.path.exists(self.path('pid')))
        qmp.close()

    def test_daemonize_removes_its_sockets(self):
        """Where they were made, and not what has such a name from the root."""
        outside = [self.path(name) for name in ('m', 'n', 'v')]
        inside = [path.lstrip('/') for path in outside]
        os.makedirs(self.path(os.path.dirname(inside[0])))
        for path in outside:
            self.write_file(path, b'precious')
        done = subprocess.run(
            [iotests.qsd(), '--daemonize', '--pidfile', 'pid', '--chardev',
             f'socket,id=c,path={inside[0]},server=on,wait=off', '--monitor',
             'c', '--nbd-server', f'addr.type=unix,addr.path={inside[1]}',
             '--blockdev', 'null-co,node-name=n', '--export',
             'vhost-user-blk,id=e,node-name=n,addr.type=unix,'
             f'addr.path={inside[2]}'], cwd=self.dir, timeout=60, check=False)
        self.assertEqual(done.returncode, 0)
        qmp = iotests.QMPClient(self.path(inside[0]))
        for name in inside:
            self.assertTrue(os.path.exists(self.path(name)))
        qmp.cmd('quit')
        nbd.wait_for(lambda: not os.path.exists(self.path('pid')))
        for name in inside:
            self.assertFalse(os.path.exists(self.path(name)))
        for path in outside:
            self.assertEqual(self.read_file(path), b'precious')
        qmp.close()

    def processor_seconds(self, pid):
        with open(f'/proc/{pid}/stat', encoding='utf-8') as f:
            fields = f.read().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def test_no_descriptor_for_a_client(self):
        """Clients wait for one; nobody turns round and round meanwhile."""
        daemon = self.daemon(
            '--chardev', 'socket,id=c,path=m,server=on,wait=off', '--monitor',
            'c', '--nbd-server', 'addr.type=unix,addr.path=n', '--blockdev',
            'null-co,node-name=n', '--export',
            'vhost-user-blk,id=e,node-name=n,addr.type=unix,addr.path=v')
        daemon.connect()
        pid = daemon.process.pid
        old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        for name in 'mnv':
            used = {int(fd) for fd in os.listdir(f'/proc/{pid}/fd')}
            free = next(fd for fd in range(len(used) + 1) if fd not in used)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, old[1]))
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.settimeout(1)
            before = self.processor_seconds(pid)
            client.connect(self.path(name))
            with self.assertRaises(TimeoutError, msg=name):
                client.recv(1)
            self.assertLess(self.processor_seconds(pid) - before, .1, name)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
            client.settimeout(20)
            if name == 'v':     # here the client speaks first: GET_FEATURES
                client.sendall(struct.pack('=III', 1, 1, 0))
            self.assertEqual(len(client.recv(1)), 1, name)
        self.assertEqual(daemon.stop(), 0)

    def test_daemonize_reports_failure(self):
        done = subprocess.run(
            [iotests.qsd(), '--daemonize', '--blockdev',
             'file,node-name=f,filename=nofile'],
            cwd=self.dir, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"Could not open 'nofile'", done.stderr)


class Chardevs(iotests.TestCase):
    def test_stdio(self):
        done = run([iotests.qsd(), '--chardev', 'stdio,id=s', '--monitor',
                    's'], cwd=self.dir,
                   stdin='{"execute": "qmp_capabilities"}\n'
                         '{"execute": "query-chardev"}\n{"execute": "quit"}\n')
        self.assertEqual(done.rc, 0)
        lines = done.stdout.split('\r\n')
        self.assertEqual(len(lines), 5)
        self.assertIn('"QMP"', lines[0])
        self.assertIn('"filename": "stdio"', lines[2])

    def test_inherited_descriptor(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(self.path('fd.sock'))
            s.listen(5)
            qsd = self.daemon('--chardev',
                              f'socket,id=x,fd={s.fileno()},server=on,'
                              'wait=off', '--monitor', 'x',
                              pass_fds=[s.fileno()])
            qmp = iotests.QMPClient(self.path('fd.sock'))
            qmp.cmd('query-version')
            qmp.close()
            self.assertEqual(qsd.stop(), 0)

    def test_tcp(self):
        qsd = self.daemon('--chardev', 'socket,id=x,host=127.0.0.1,port=0,'
                          'server=on,wait=off', '--monitor', 'x')
        name = next(c['filename'] for c in
                    qsd.connect().cmd('query-chardev') if c['label'] == 'x')
        port = int(name.split(',')[0].split(':')[-1])
        with socket.create_connection(('127.0.0.1', port), 10) as s:
            self.assertEqual(s.recv(7), b'{"QMP":')
        self.assertEqual(qsd.stop(), 0)

    def test_client(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(self.path('listen'))
            s.listen(1)
            qsd = self.daemon('--chardev',
                              f'socket,id=x,path={self.path("listen")}',
                              '--monitor', 'x')
            conn = s.accept()[0]
            conn.settimeout(10)
            self.assertEqual(conn.recv(7), b'{"QMP":')
            conn.close()
            self.assertEqual(qsd.stop(), 0)

    def test_waits_for_a_client(self):
        qsd = self.daemon('--chardev', 'socket,id=x,path=w,server=on',
                          '--monitor', 'x', '--blockdev',
                          'null-co,node-name=n', wait=False)
        end = time.monotonic() + 20
        while 'waiting for connection' not in qsd.output():
            self.assertLess(time.monotonic(), end)
            time.sleep(.01)
        qmp = iotests.QMPClient(self.path('w'))
        self.assertEqual(len(qmp.cmd('query-named-block-nodes')), 1)
        qmp.close()
        self.assertEqual(qsd.stop(), 0)

    def test_over_qmp(self):
        qmp = self.daemon().connect()
        backend = {'type': 'socket', 'data': {
            'addr': {'type': 'unix', 'data': {'path': self.path('c')}}}}
        qmp.cmd('chardev-add', id='c', backend=backend)
        self.qmp_fails("Chardev with id 'c' already exists", qmp,
                       'chardev-add', id='c', backend=backend)
        self.assertTrue(os.path.exists(self.path('c')))
        qmp.cmd('chardev-remove', id='c')
        self.assertFalse(os.path.exists(self.path('c')))
        self.qmp_fails("Chardev 'c' not found", qmp, 'chardev-remove', id='c')
        self.qmp_fails("Chardev 'qmp0' is busy", qmp, 'chardev-remove',
                       id='qmp0')


if __name__ == '__main__':
    iotests.main()
