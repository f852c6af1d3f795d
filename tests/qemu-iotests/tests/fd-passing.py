#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: qcow2
"""Descriptors that a client passes: by name for sockets, in sets for files."""
import json
import os
import socket
import time

import iotests
from iotests import locks, nbd
from iotests.nbd_server import ALL, MULTI, NBDServer


class FdCase(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.qsd = self.daemon(monitors=2)
        self.qmp = self.qsd.connect()

    def open(self, name, flags=os.O_RDWR):
        """A descriptor; closed at the end of the test."""
        fd = os.open(self.path(name), flags)
        self.addCleanup(os.close, fd)
        return fd

    def add(self, name, flags=os.O_RDWR, **args):
        return self.qmp.cmd('add-fd', fds=[self.open(name, flags)], **args)

    def open_files(self):
        """Of the daemon, by name."""
        where = f'/proc/{self.qsd.process.pid}/fd'
        found = []
        for fd in os.listdir(where):
            try:
                found.append(os.readlink(f'{where}/{fd}'))
            except FileNotFoundError:
                pass
        return found

    def sets(self):
        return {s['fdset-id']: [(f['fd'], f.get('opaque')) for f in s['fds']]
                for s in self.qmp.cmd('query-fdsets')}


class Passing(FdCase):
    """What comes along goes to its command, and nowhere else."""

    def test_names(self):
        self.write_file('f', b'')
        self.qmp_fails('No file descriptor supplied via SCM_RIGHTS', self.qmp,
                       'getfd', fdname='a')
        self.qmp.cmd('getfd', fdname='a', fds=[self.open('f')])
        self.assertEqual(self.open_files().count(self.path('f')), 1)
        # In the place of the other one.
        self.qmp.cmd('getfd', fdname='a', fds=[self.open('f')])
        self.assertEqual(self.open_files().count(self.path('f')), 1)
        self.qmp_fails('expects a name not starting with a digit', self.qmp,
                       'getfd', fdname='1a', fds=[self.open('f')])
        self.assertEqual(self.open_files().count(self.path('f')), 1)
        self.qmp_fails("named 'b' not found", self.qmp, 'closefd', fdname='b')
        # Names are a monitor's own.
        self.qmp_fails("named 'a' not found", self.qsd.connect(1), 'closefd',
                       fdname='a')
        self.qmp.cmd('closefd', fdname='a')
        self.qmp_fails("named 'a' not found", self.qmp, 'closefd', fdname='a')
        self.assertNotIn(self.path('f'), self.open_files())

    def test_not_taken(self):
        """Whatever a command does not want, or cannot get, is closed."""
        self.write_file('f', b'')
        fds = [self.open('f') for _ in range(16)]
        self.qmp.cmd('query-version', fds=fds)
        self.qmp_fails('missing', self.qmp, 'getfd', fds=fds)
        self.qmp_fails('non-negative', self.qmp, 'add-fd', {'fdset-id': -1},
                       fds=fds[:1])
        self.qmp_fails('not been found', self.qmp, 'nope', fds=fds,
                       error_class='CommandNotFound')
        socket.send_fds(self.qmp.sock, [b'garbage}'], fds)
        self.qmp.send({'execute': 'query-version', 'id': 'behind it'})
        while self.qmp.response().get('id') != 'behind it':
            pass
        self.assertNotIn(self.path('f'), self.open_files())
        # Of several the first one is taken.
        self.write_file('g', b'')
        self.qmp.cmd('getfd', fdname='a', fds=[self.open('g')] + fds[:3])
        self.assertEqual([f for f in self.open_files()
                          if f.startswith(self.dir + '/')].count(
                              self.path('g')), 1)
        self.assertNotIn(self.path('f'), self.open_files())
        # A client that leaves in the middle.
        socket.send_fds(self.qmp.sock, [b'{"execute": '], fds)
        self.qmp.close()
        nbd.wait_for(lambda: self.qsd.connect().cmd('query-version'))
        self.assertNotIn(self.path('f'), self.open_files())

    def test_each_to_its_own_command(self):
        """Many requests at once, some with a descriptor, some without, in messages
        that begin and end anywhere."""
        rng = self.rng()
        self.qmp.close()
        self.qmp = self.qsd.connect(oob=True)
        names = [f'f{n}' for n in range(8)]
        for name in names:
            self.write_file(name, b'')
        for _ in range(20):
            expected = []
            for name in names:
                text = json.dumps({'execute': 'add-fd', 'arguments': {
                    'fdset-id': 5, 'opaque': name}}).encode()
                cut = rng.randrange(len(text)) if rng.random() < .5 else 0
                fds = [self.open(name)] if rng.random() < .6 else []
                # The cut is a message's end: with what comes next, perhaps.
                parts = [text[:cut], text[cut:]] if cut else [text]
                at = rng.randrange(len(parts))
                for n, part in enumerate(parts):
                    if fds and n == at:
                        socket.send_fds(self.qmp.sock, [part], fds)
                    else:
                        self.qmp.send_raw(part)
                    if rng.random() < .3:
                        time.sleep(.001)
                expected.append(bool(fds))
            answers = [self.qmp.response() for _ in names]
            for name, has_fd, answer in zip(names, expected, answers):
                self.assertEqual('return' in answer, has_fd, answer)
                if has_fd:
                    fd = answer['return']['fd']
                    self.assertEqual(os.readlink(
                        f'/proc/{self.qsd.process.pid}/fd/{fd}'),
                        self.path(name))
            if any(expected):
                self.qmp.cmd('remove-fd', {'fdset-id': 5})
            self.assertFalse([f for f in self.open_files()
                              if f.startswith(self.path('f'))])

    def test_sockets_by_name(self):
        held = []

        def answer(connection, req):
            held.append(req)
            if len(held) == 40 or req.type != nbd.WRITE:
                time.sleep(.3)
                while held:
                    connection.answer(held.pop())

        server = NBDServer(self.path('s'), flags=ALL | MULTI, answer=answer)
        self.addCleanup(server.close)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path('s'))
            self.qmp.cmd('getfd', fdname='server', fds=[client.fileno()])
        options = {'driver': 'nbd', 'node-name': 'n', 'server': {
            'type': 'fd', 'str': 'server'}}
        self.qmp_fails("named 'other' has not been found", self.qmp,
                       'blockdev-add', {**options, 'server': {
                           'type': 'fd', 'str': 'other'}})
        # Who fails before he looks at it does not use it up.
        self.qmp_fails('No TLS credentials', self.qmp, 'blockdev-add',
                       {**options, 'tls-creds': 'x'})
        self.qmp.cmd('blockdev-add', options)
        self.qmp_fails("named 'server' not found", self.qmp, 'closefd',
                       fdname='server')
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path('out'))
            listener.listen(4)
            self.qmp.cmd('getfd', fdname='l', fds=[listener.fileno()])
        self.qmp_fails('is not a listening', self.qmp, 'nbd-server-start', {
            'addr': {'type': 'fd', 'data': {'str': self.name_connected()}}})
        self.qmp.cmd('nbd-server-start', {
            'addr': {'type': 'fd', 'data': {'str': 'l'}}})
        self.qmp.cmd('block-export-add', {'type': 'nbd', 'id': 'e',
                                          'node-name': 'n', 'writable': True})
        client = nbd.NBDClient(self.path('out'))
        self.addCleanup(client.close)
        client.go('n')
        # Crowded, our client would like another connection; there is none.
        for n in range(40):
            client.send(nbd.WRITE, n * 512, 512, data=b'x' * 512)
        for _ in range(40):
            self.assertEqual(client.read(16)[4:8], bytes(4))    # no error
        self.assertEqual(server.disk[:40 * 512], b'x' * 40 * 512)
        self.assertEqual(server.accepted, 1)
        # Lost is lost: the number may be another socket's.
        server.drop()
        for _ in range(3):
            with self.assertRaises(nbd.NBDError):
                client.pread(0, 512)
            time.sleep(.3)
        self.assertEqual(self.qmp.cmd('query-version')['package'], '')

    def name_connected(self):
        a, b = socket.socketpair()
        with a, b:
            self.qmp.cmd('getfd', fdname='pair', fds=[a.fileno()])
        return 'pair'


class Sets(FdCase):
    def setUp(self):
        super().setUp()
        self.img('create', '-q', '-f', self.fmt, 'a', '1M')

    def options(self, fdset=0, **more):
        """Of a node on a set, as a file or below the format of this run."""
        return {'driver': self.fmt, 'node-name': 'n', 'file': {
            'driver': 'file', 'node-name': 'f',
            'filename': f'/dev/fdset/{fdset}'}, **more}

    def write(self, pattern, rc=True):
        """Through an export."""
        self.qmp.cmd('nbd-server-start', {'addr': {
            'type': 'unix', 'data': {'path': 'out'}}})
        try:
            self.qmp.cmd('block-export-add', {
                'type': 'nbd', 'id': 'e', 'node-name': 'n', 'writable': rc})
            client = nbd.NBDClient(self.path('out'))
            client.go('n')
            client.pwrite(0, pattern * 512)
            client.send(nbd.FLUSH)
            client.close()
        finally:
            self.qmp.cmd('nbd-server-stop')

    def test_lists(self):
        self.assertEqual(self.sets(), {})
        a = self.add('a', opaque='rw:a')
        b = self.add('a')
        self.assertEqual([a['fdset-id'], b['fdset-id']], [0, 1])
        c = self.add('a', os.O_RDONLY, fdset_id=0, opaque='ro:a')
        d = self.add('a', fdset_id=7)
        self.assertEqual(self.sets(), {
            0: [(a['fd'], 'rw:a'), (c['fd'], 'ro:a')],
            1: [(b['fd'], None)], 7: [(d['fd'], None)]})
        self.assertEqual(self.add('a')['fdset-id'], 2)
        for name, args in (('fdset-id:3', {'fdset-id': 3}),
                           ('fdset-id:0, fd:9999', {'fdset-id': 0, 'fd': 9999}),
                           ('fdset-id:0, fd:-1', {'fdset-id': 0, 'fd': -1}),
                           ('fdset-id:-1', {'fdset-id': -1})):
            self.qmp_fails(f"named '{name}' not found", self.qmp, 'remove-fd',
                           args)
        self.qmp.cmd('remove-fd', {'fdset-id': 0, 'fd': a['fd']})
        self.qmp.cmd('remove-fd', {'fdset-id': 1})
        self.qmp.cmd('remove-fd', {'fdset-id': 2})
        self.assertEqual(self.sets(), {0: [(c['fd'], 'ro:a')],
                                       7: [(d['fd'], None)]})
        self.assertEqual(self.open_files().count(self.path('a')), 2)

    def test_access_modes(self):
        self.add('a', os.O_RDONLY, fdset_id=1)
        self.add('a', os.O_RDWR, fdset_id=2)
        self.qmp_fails("Could not open '/dev/fdset/3': No such file", self.qmp,
                       'blockdev-add', self.options(3))
        self.qmp_fails("Could not open '/dev/fdset/1': Permission denied",
                       self.qmp, 'blockdev-add', self.options(1))
        read_only = self.options(2, **{'read-only': True})
        self.qmp_fails("Could not open '/dev/fdset/2': Permission denied",
                       self.qmp, 'blockdev-add', read_only)
        for number, more in ((1, 'read-only'), (1, 'auto-read-only'),
                             (2, 'auto-read-only'), (2, 'force-share')):
            self.qmp.cmd('blockdev-add', {
                **self.options(number)['file'], more: more != 'force-share'})
            if number == 2:
                self.qmp.cmd('blockdev-add', {**self.options(), 'file': 'f'})
                self.write(b'q')
                self.qmp.cmd('blockdev-del', {'node-name': 'n'})
            self.qmp.cmd('blockdev-del', {'node-name': 'f'})
        self.io('a', 'read -P 0x71 0 512')

    def test_two_nodes(self):
        """They see each other's locks, which go with each of them."""
        self.add('a')
        self.qmp.cmd('blockdev-add', self.options())
        second = {'driver': 'file', 'node-name': 'g',
                  'filename': '/dev/fdset/0'}
        self.qmp_fails('Failed to get', self.qmp, 'blockdev-add',
                       {**self.options(), 'node-name': 'm', 'file': second})
        self.assertTrue(locks.is_locked(self.path('a')))
        self.qmp.cmd('blockdev-del', {'node-name': 'n'})
        # Though the descriptor lives on in the set, and here.
        self.assertFalse(locks.is_locked(self.path('a')))
        self.io('a', 'write -q 0 512')
        self.add('a', os.O_RDONLY, fdset_id=0)
        for node in 'n', 'm':
            self.qmp.cmd('blockdev-add', {
                **self.options(), 'node-name': node, 'read-only': True,
                'file': {'driver': 'file', 'filename': '/dev/fdset/0'}})
        for node in 'n', 'm':
            self.assertTrue(locks.is_locked(self.path('a')))
            self.qmp.cmd('blockdev-del', {'node-name': node})
        self.assertFalse(locks.is_locked(self.path('a')))

    def test_removed_in_use(self):
        self.add('a')
        self.qmp.cmd('blockdev-add', self.options())
        self.qmp.cmd('remove-fd', {'fdset-id': 0})
        self.assertEqual(self.sets(), {})
        self.write(b'u')
        self.assertTrue(locks.is_locked(self.path('a')))
        self.qmp.cmd('blockdev-del', {'node-name': 'n'})
        self.assertFalse(locks.is_locked(self.path('a')))
        self.io('a', 'read -P 0x75 0 512')

    def mode(self):
        """'r' or 'w': how the daemon has the image open, apart from sets."""
        pid = self.qsd.process.pid
        members = {fd for s in self.sets().values() for fd, _ in s}
        found = set()
        for fd in os.listdir(f'/proc/{pid}/fd'):
            if (int(fd) not in members and
                    os.readlink(f'/proc/{pid}/fd/{fd}') == self.path('a')):
                with open(f'/proc/{pid}/fdinfo/{fd}', encoding='ascii') as f:
                    flags = int(f.read().split()[3], 8)
                found.add('w' if flags & os.O_ACCMODE else 'r')
        self.assertEqual(len(found), 1)
        return found.pop()

    def reopen(self, read_only, number=0, **more):
        options = self.options(number, **{'read-only': read_only})
        options['file'] = {**options['file'], 'read-only': read_only, **more}
        return {'options': [options]}

    def test_reopen(self):
        self.add('a', os.O_RDWR)
        self.add('a', os.O_RDONLY, fdset_id=0)
        self.qmp.cmd('blockdev-add', self.options())
        self.assertEqual(self.mode(), 'w')
        for _ in range(3):
            self.qmp.cmd('blockdev-reopen', self.reopen(True))
            self.assertEqual(self.mode(), 'r')
            with self.assertRaises(iotests.QMPError):
                self.write(b'n')
            self.qmp.cmd('blockdev-reopen', self.reopen(False))
            self.assertEqual(self.mode(), 'w')
            self.write(b'r')
        self.assertTrue(locks.is_locked(self.path('a')))
        self.qmp.cmd('blockdev-del', {'node-name': 'n'})
        self.assertFalse(locks.is_locked(self.path('a')))
        self.io('a', 'read -P 0x72 0 512')

    def test_reopen_without_a_match(self):
        """What was not passed is not had some other way; giving up writing works
        all the same."""
        self.add('a', os.O_RDONLY, fdset_id=1)
        self.qmp.cmd('blockdev-add', self.options(1, **{'read-only': True}))
        self.qmp_fails('Permission denied', self.qmp, 'blockdev-reopen',
                       self.reopen(False, 1))
        self.assertEqual(self.mode(), 'r')
        # It may be another file.
        self.img('create', '-q', '-f', self.fmt, 'b', '1M')
        self.add('b', os.O_RDWR, fdset_id=1)
        self.qmp_fails('another file has this name', self.qmp,
                       'blockdev-reopen', self.reopen(False, 1))
        self.qmp.cmd('blockdev-del', {'node-name': 'n'})
        self.add('a', os.O_RDWR, fdset_id=2)
        self.qmp.cmd('blockdev-add', self.options(2))
        self.qmp.cmd('blockdev-reopen', self.reopen(True, 2))
        self.qmp.cmd('blockdev-reopen', self.reopen(False, 2))
        self.write(b's')
        self.assertFalse([n for n in self.qmp.cmd('query-block-graph')['nodes']
                          if n['relax-errors']])

    def test_commit(self):
        """The base is written by a descriptor of its set, and is read-only again
        afterwards; without one nothing happens."""
        self.io('a', 'write -q -P 1 0 128k')
        for name, below in ('mid', 'a'), ('top', 'mid'):
            self.img('create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2',
                     name)
        self.io('mid', 'write -q -P 2 64k 128k')
        self.add('a', os.O_RDONLY, fdset_id=1)
        self.add('mid', os.O_RDONLY, fdset_id=2)
        self.add('top', os.O_RDWR, fdset_id=3)
        below = None
        for number, name in enumerate(('a', 'mid', 'top'), 1):
            self.qmp.cmd('blockdev-add', {
                'driver': 'qcow2', 'node-name': name, 'backing': below,
                'read-only': name != 'top', 'file': {
                    'driver': 'file', 'filename': f'/dev/fdset/{number}'}})
            below = name
        commit = {'job-id': 'j', 'device': 'top', 'top-node': 'mid',
                  'base-node': 'a', 'backing-file': 'a'}
        self.qmp_fails("Could not open '/dev/fdset/1': Permission denied",
                       self.qmp, 'block-commit', commit)
        self.assertEqual(self.qmp.cmd('query-jobs'), [])
        self.assertEqual(self.mode(), 'r')
        self.add('a', os.O_RDWR, fdset_id=1)
        self.qmp.cmd('block-commit', commit)
        event = self.qmp.event('BLOCK_JOB_COMPLETED', device='j')['data']
        self.assertNotIn('error', event)
        self.qmp.event('JOB_STATUS_CHANGE', id='j', status='null')
        self.assertEqual(self.mode(), 'r')
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.img_json('info', 'top')['backing-filename'], 'a')
        self.io('top', 'read -q -P 1 0 64k', 'read -q -P 2 64k 128k')
        self.assert_clean('a')

    def test_auto_read_only(self):
        """Writers come and go."""
        self.add('a', os.O_RDWR)
        self.add('a', os.O_RDONLY, fdset_id=0)
        self.qmp.cmd('blockdev-add', {
            'driver': 'file', 'filename': '/dev/fdset/0', 'node-name': 'f',
            'auto-read-only': True})
        self.assertEqual(self.mode(), 'r')
        options = self.options()
        self.qmp.cmd('blockdev-add', {**options, 'file': 'f'})
        self.write(b't')
        self.qmp.cmd('blockdev-del', {'node-name': 'n'})
        self.assertEqual(self.mode(), 'r')
        self.assertEqual(len(self.sets()[0]), 2)

    def test_append_only_descriptor(self):
        """Writes go where they should nevertheless."""
        self.add('a', os.O_RDWR | os.O_APPEND)
        self.qmp.cmd('blockdev-add', self.options())
        self.write(b'v')
        self.qmp.cmd('blockdev-del', {'node-name': 'n'})
        self.io('a', 'read -P 0x76 0 512')
        self.assert_clean('a')

    def test_create(self):
        self.write_file('new', b'x' * 4096)
        self.add('new', fdset_id=3)
        self.qmp.cmd('blockdev-create', {'job-id': 'j', 'options': {
            'driver': 'file', 'filename': '/dev/fdset/3', 'size': 0}})
        self.qmp.event('JOB_STATUS_CHANGE', id='j', status='concluded')
        self.assertNotIn('error', self.qmp.cmd('query-jobs')[0])
        self.assertEqual(self.read_file('new'), b'')
        self.assertFalse(locks.is_locked(self.path('new')))
        self.qmp.cmd('job-dismiss', id='j')

    def test_with_the_last_client(self):
        self.add('a')
        other = self.qsd.connect(1)
        self.qmp.close()
        time.sleep(.1)
        self.qmp = other
        self.assertEqual(len(self.sets()), 1)
        self.qmp.cmd('blockdev-add', self.options())
        self.qmp.close()
        time.sleep(.1)
        self.qmp = self.qsd.connect(0)
        self.assertEqual(len(self.sets()), 1)
        self.qmp.cmd('blockdev-del', {'node-name': 'n'})
        self.qmp.close()
        nbd.wait_for(lambda: self.path('a') not in self.open_files())
        self.qmp = self.qsd.connect(0)
        self.assertEqual(self.sets(), {})


if __name__ == '__main__':
    iotests.main()
