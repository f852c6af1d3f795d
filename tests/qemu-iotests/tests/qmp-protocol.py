#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: raw
"""QMP itself: greeting, negotiation, classes of errors, ids, requests in pieces of
any size, several monitors, introspection."""
import json

import iotests


class Negotiation(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.qsd = self.daemon()

    def test_greeting(self):
        greeting = self.qsd.connect(negotiate=False).greeting['QMP']
        self.assertEqual(greeting['capabilities'], ['oob'])
        self.assertEqual(set(greeting['version']), {'qemu', 'package'})
        self.assertEqual(set(greeting['version']['qemu']),
                         {'major', 'minor', 'micro'})

    def test_nothing_works_before(self):
        qmp = self.qsd.connect(negotiate=False)
        for command in ('query-version', 'no-such-command'):
            self.qmp_fails("Expecting capabilities negotiation with "
                           "'qmp_capabilities'", qmp, command,
                           error_class='CommandNotFound')
        qmp.cmd('qmp_capabilities')
        qmp.cmd('query-version')
        self.qmp_fails('negotiation is already complete, command ignored',
                       qmp, 'qmp_capabilities', error_class='CommandNotFound')

    def test_each_client_negotiates(self):
        self.qsd.connect().close()
        qmp = self.qsd.connect(negotiate=False)
        self.qmp_fails('Expecting', qmp, 'query-version',
                       error_class='CommandNotFound')

    def test_unknown_capability(self):
        qmp = self.qsd.connect(negotiate=False)
        self.qmp_fails("does not accept value 'fly'", qmp, 'qmp_capabilities',
                       enable=['fly'])
        qmp.cmd('qmp_capabilities')

    def test_out_of_band_has_to_be_enabled(self):
        qmp = self.qsd.connect()
        qmp.send({'exec-oob': 'query-version'})
        self.assertIn("member 'exec-oob' is unexpected",
                      qmp.response()['error']['desc'])
        qmp.close()
        qmp = self.qsd.connect(oob=True)
        qmp.send({'exec-oob': 'query-version', 'id': 1})
        answer = qmp.response()
        self.assertEqual(answer['id'], 1)
        self.assertIn('does not support OOB', answer['error']['desc'])

    def test_pipelined_negotiation(self):
        qmp = self.qsd.connect(negotiate=False)
        qmp.send_raw('{"execute":"qmp_capabilities","id":1}'
                     '{"execute":"query-version","id":2}'
                     '{"execute":"qmp_capabilities","id":3}')
        answers = [qmp.response() for _ in range(3)]
        self.assertEqual([a['id'] for a in answers], [1, 2, 3])
        self.assertEqual(['return' in a for a in answers],
                         [True, True, False])


class Requests(iotests.TestCase):
    BAD = [
        ('[1]', 'GenericError', 'QMP input must be a JSON object'),
        ('7 ', 'GenericError', 'QMP input must be a JSON object'),
        ('{}', 'GenericError', "QMP input lacks member 'execute'"),
        ('{"execute": 1}', 'GenericError',
         "QMP input member 'execute' must be a string"),
        ('{"execute": "query-version", "arguments": []}', 'GenericError',
         "QMP input member 'arguments' must be an object"),
        ('{"execute": "query-version", "x": 1}', 'GenericError',
         "QMP input member 'x' is unexpected"),
        ('{"execute": "nope"}', 'CommandNotFound',
         'The command nope has not been found'),
        ('{"execute": "query-version", "arguments": {"a": 1}}',
         'GenericError', "Parameter 'a' is unexpected"),
        ('{"execute": "query-qmp-schema", "arguments": {"a": 1}}',
         'GenericError', "Parameter 'a' is unexpected"),
        ('{"execute": "blockdev-del"}', 'GenericError',
         "Parameter 'node-name' is missing"),
        ('{"execute": "blockdev-del", "arguments": {"node-name": 1}}',
         'GenericError',
         "Invalid parameter type for 'node-name', expected: string"),
        ('{"execute": "block-export-del", "arguments": {"id": "x", "mode": '
         '"gently"}}', 'GenericError',
         "Parameter 'mode' does not accept value 'gently'"),
        ('{"a" 1}', 'GenericError', 'JSON parse error, missing : in object '
         'pair'),
        ('{"a": 1, "a": 2}', 'GenericError', 'JSON parse error, duplicate '
         'key'),
        ('{"a": nil}', 'GenericError',
         "JSON parse error, invalid keyword 'nil'"),
        ('*\n', 'GenericError', "JSON parse error, stray '*'"),
    ]

    def test_errors(self):
        """And the same from the distribution's daemon, where it has them."""
        for program in (iotests.qsd(), iotests.ref_qsd()):
            if not program:
                continue
            qsd = self.daemon(program=program)
            qmp = qsd.connect()
            for text, error_class, desc in self.BAD:
                with self.subTest(text, program=program):
                    qmp.send_raw(text)
                    self.assertEqual(qmp.response(), {'error': {
                        'class': error_class, 'desc': desc}})
            qsd.stop()

    def test_ids_come_back(self):
        qmp = self.daemon().connect()
        for ident in (0, 1.5, 'x', None, [1, {'a': []}], {'k': 'v'}, True,
                      2 ** 64 - 1, -2 ** 63, 'ä\n"'):
            qmp.send({'execute': 'query-version', 'id': ident})
            self.assertEqual(qmp.response()['id'], ident)
            qmp.send({'execute': 'nope', 'id': ident})
            self.assertEqual(qmp.response()['id'], ident)
        qmp.send({'execute': 'query-version'})
        self.assertNotIn('id', qmp.response())

    def test_in_pieces(self):
        """Requests may come in any pieces, and many at once."""
        rng = self.rng()
        qmp = self.daemon().connect()
        text = b''.join(
            json.dumps({'execute': 'query-version', 'id': n,
                        'arguments': {}}).encode()
            + rng.choice([b'', b'\n', b'\r\n', b' \t'])
            for n in range(300))
        while text:
            n = rng.choice([1, 2, 3, 10, 100, 1000, 5000])
            qmp.send_raw(text[:n])
            text = text[n:]
        for n in range(300):
            self.assertEqual(qmp.response()['id'], n)

    def test_control_character_resets(self):
        qmp = self.daemon().connect()
        for reset in (b'\xff', b'\x00', b'\x01'):
            qmp.send_raw(b'{"execute": "query-ver' + reset
                         + b'{"execute": "query-version", "id": 1}')
            self.assertIn('JSON parse error', qmp.response()['error']['desc'])
            self.assertEqual(qmp.response()['id'], 1)

    def test_answers_after_the_client_has_closed_its_side(self):
        import socket
        qmp = self.daemon().connect()
        for n in range(50):
            qmp.send({'execute': 'query-version', 'id': n})
        qmp.send_raw('{"execute": "cut off')
        qmp.sock.shutdown(socket.SHUT_WR)
        for n in range(50):
            self.assertEqual(qmp.response()['id'], n)
        self.assertIn('JSON parse error', qmp.response()['error']['desc'])
        self.assertIsNone(qmp.response())

    def test_dialect(self):
        qmp = self.daemon().connect()
        qmp.send_raw("{'execute': 'query-version', 'id': 'it\\'s'}")
        self.assertEqual(qmp.response()['id'], "it's")


class Limits(iotests.TestCase):
    def test_depth(self):
        qmp = self.daemon().connect()
        qmp.send_raw('[' * 1025 + '\n')
        self.assertEqual(qmp.response()['error']['desc'],
                         'JSON nesting depth limit exceeded')
        deep = '[' * 1023 + ']' * 1023
        qmp.send_raw('{"execute": "query-version", "id": ' + deep + '}')
        while b'\n' not in qmp.pending:
            qmp.pending += qmp.sock.recv(4096)
        self.assertIn(deep, qmp.pending.decode())

    def test_tokens(self):
        qmp = self.daemon().connect()
        qmp.send_raw('[' + '1,' * (1024 * 1024) + '1]\n')
        self.assertEqual(qmp.response()['error']['desc'],
                         'JSON token count limit exceeded')
        qmp.cmd('query-version')

    def test_size(self):
        qmp = self.daemon().connect()
        qmp.send_raw(b'"' + b'x' * (64 * 1024 * 1024) + b'"\n')
        self.assertEqual(qmp.response()['error']['desc'],
                         'JSON token size limit exceeded')
        qmp.cmd('query-version')


class Monitors(iotests.TestCase):
    def test_two_at_once(self):
        qsd = self.daemon(monitors=2)
        a, b = qsd.connect(0), qsd.connect(1)
        for n in range(20):
            a.send({'execute': 'query-version', 'id': f'a{n}'})
            b.send({'execute': 'query-version', 'id': f'b{n}'})
        for n in range(20):
            self.assertEqual(b.response()['id'], f'b{n}')
            self.assertEqual(a.response()['id'], f'a{n}')

    def test_next_client_waits_for_the_first(self):
        qsd = self.daemon()
        first = qsd.connect()
        import socket
        second = socket.socket(socket.AF_UNIX)
        second.connect(qsd.sockets[0])
        second.settimeout(.2)
        with self.assertRaises(TimeoutError):
            second.recv(1)
        first.close()
        second.settimeout(10)
        self.assertEqual(second.recv(1), b'{')
        second.close()

    def test_client_that_does_not_read(self):
        """It neither stops others nor makes the daemon grow."""
        qsd = self.daemon(monitors=2)
        slow, other = qsd.connect(0), qsd.connect(1)
        slow.sock.settimeout(1)
        request = b'{"execute": "query-qmp-schema"}' * 100
        with self.assertRaises(TimeoutError):
            for _ in range(100000):
                slow.sock.sendall(request)
        for _ in range(20):
            other.cmd('query-version')
        with open(f'/proc/{qsd.process.pid}/status', encoding='ascii') as f:
            rss = next(int(line.split()[1]) for line in f
                       if line.startswith('VmRSS'))
        self.assertLess(rss, 400 * 1024)
        self.assertEqual(qsd.stop(), 0)

    def test_pretty(self):
        path = self.path('pretty')
        qsd = self.daemon('--chardev', f'socket,id=p,path={path},server=on,'
                          'wait=off', '--monitor', 'chardev=p,pretty=on')
        import socket
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        s.connect(path)
        text = b''
        while not text.endswith(b'}\r\n'):
            text += s.recv(4096)
        self.assertIn(b'\n    "QMP": {', text)
        self.assertEqual(list(json.loads(text)), ['QMP'])
        s.close()
        self.assertEqual(qsd.stop(), 0)


class Introspection(iotests.TestCase):
    def test_every_reference_leads_somewhere(self):
        qmp = self.daemon().connect()
        schema = qmp.cmd('query-qmp-schema')
        types = {e['name']: e for e in schema
                 if e['meta-type'] not in ('command', 'event')}
        commands = {e['name'] for e in schema if e['meta-type'] == 'command'}
        self.assertEqual(commands,
                         {c['name'] for c in qmp.cmd('query-commands')})
        self.assertEqual(len(types) + len(commands)
                         + sum(e['meta-type'] == 'event' for e in schema),
                         len(schema))
        used = set()
        for e in schema:
            kind = e['meta-type']
            if kind in ('command', 'event'):
                used.add(e['arg-type'])
                self.assertEqual(types[e['arg-type']]['meta-type'], 'object')
            if kind == 'command':
                used.add(e['ret-type'])
            if kind in ('object', 'alternate'):
                used |= {m['type'] for m in e['members']}
            used |= {v['type'] for v in e.get('variants', [])}
            if kind == 'array':
                used.add(e['element-type'])
                self.assertEqual(e['name'], f"[{e['element-type']}]")
            if kind == 'enum':
                self.assertEqual([m['name'] for m in e['members']],
                                 e['values'])
            if 'tag' in e:
                tag = next(m for m in e['members'] if m['name'] == e['tag'])
                self.assertEqual([v['case'] for v in e['variants']],
                                 types[tag['type']]['values'])
        self.assertEqual(used, set(types))

    def test_arguments_as_in_the_distribution(self):
        """What both have is called by the same names and has the same
        shape."""
        if not iotests.ref_qsd():
            self.skipTest('qemu-storage-daemon is not installed')
        ours = self._commands(self.daemon())
        theirs = self._commands(self.daemon(program=iotests.ref_qsd()))
        for name in set(ours) & set(theirs):
            for member, shape in ours[name].items():
                # Where we take a list as well, later versions do, too.
                if member in theirs[name] and shape[0] != 'alternate':
                    with self.subTest(f'{name} {member}'):
                        self.assertEqual(shape, theirs[name][member])
            with self.subTest(name):
                required = {m for m, s in ours[name].items() if not s[1]}
                self.assertLessEqual(required, set(theirs[name]))

    @staticmethod
    def _commands(qsd):
        """{command: {argument: (JSON type, optional)}}"""
        qmp = qsd.connect()
        schema = qmp.cmd('query-qmp-schema')
        qsd.stop()
        types = {e['name']: e for e in schema}

        def shape(name):
            kind = types[name]['meta-type']
            return types[name].get('json-type', kind)

        return {e['name']: {m['name']: (shape(m['type']), 'default' in m)
                            for m in types[e['arg-type']]['members']}
                for e in schema if e['meta-type'] == 'command'}


if __name__ == '__main__':
    iotests.main()
