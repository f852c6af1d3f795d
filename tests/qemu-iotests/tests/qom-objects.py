#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: any
"""Objects as paths and properties: what qom-* commands tell about them, as the
distribution's daemon does, what they change, and what they refuse."""
import json
import re
import time

import iotests
from iotests import QMPError, nbd, tls

LIMITS = {'iops-read': 100, 'iops-read-max': 200, 'bps-total': 1000000}
RULE = {'match': 'x*', 'policy': 'allow', 'format': 'glob'}
OBJECTS = (
    {'qom-type': 'secret', 'id': 's0', 'data': 'top secret'},
    {'qom-type': 'secret', 'id': 's1', 'file': 'pass', 'format': 'base64'},
    {'qom-type': 'throttle-group', 'id': 't0', 'limits': LIMITS},
    {'qom-type': 'throttle-group', 'id': 't1'},
    {'qom-type': 'iothread', 'id': 'i0', 'poll-max-ns': 5, 'poll-grow': 7},
    {'qom-type': 'authz-simple', 'id': 'a0', 'identity': 'fred'},
    {'qom-type': 'authz-list', 'id': 'l0', 'rules': [RULE]},
    {'qom-type': 'authz-list', 'id': 'l1', 'policy': 'allow'},
    {'qom-type': 'tls-creds-psk', 'id': 'p0', 'dir': 'keys',
     'endpoint': 'server'},
)
LEAVES = [o['id'] for o in OBJECTS]

# Where a later QEMU, or we on purpose, differ from the distribution's daemon.
NOT_HERE = {
    'loaded',                               # gone in later versions
    'thread-pool-min', 'thread-pool-max',   # the pool is the process'
}
# It does not know its own type by the name that object-add takes.
RENAMED = {'authz-list-file': 'authz-listfile'}


def same_names(value):
    """Without what is NOT_HERE, and without order."""
    if isinstance(value, list) and value and 'name' in value[0]:
        return {(e['name'], e['type']) for e in value
                if e['name'] not in NOT_HERE}
    return value


class Qom(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.write_file('pass', b'c2VjcmV0')
        tls.psk(self.path('keys'), fred=b'0123')

    def start(self, program=None):
        self.server = self.daemon(
            *[word for o in OBJECTS for word in ('--object', json.dumps(o))],
            '--chardev', 'null,id=c0', program=program)
        self.qmp = self.server.connect()

    def ask(self, command, **kwargs):
        """The answer, or class and text of the error."""
        try:
            return self.qmp.cmd(command, kwargs or None)
        except QMPError as e:
            return e.error_class, e.desc

    def on_both(self, questions):
        """Answers to the questions, (command, arguments): [(ours, theirs)]."""
        if not iotests.ref_qsd():
            self.skipTest('qemu-storage-daemon is not installed')
        answers = []
        for program in (iotests.qsd(), iotests.ref_qsd()):
            self.start(program)
            answers.append([self.ask(c, **args) for c, args in questions])
            self.assertEqual(self.server.stop(), 0)
        return list(zip(*answers))

    def same_on_both(self, questions):
        for question, pair in zip(questions, self.on_both(questions)):
            with self.subTest(question):
                self.assertEqual(*map(same_names, pair))

    def state(self):
        return self.qmp.cmd('qom-list-get', paths=LEAVES)

    # --- as the distribution's ---

    def test_lists(self):
        paths = ['/', '/objects', '/chardevs', 'objects', 'chardevs',
                 '/chardevs/c0', '/chardevs/qmp0', 'qmp0', *LEAVES]
        self.same_on_both([('qom-list', {'path': p}) for p in paths])

    def test_paths(self):
        paths = ['', '//', '///objects', '/objects/', '//objects//s0//',
                 'objects/s0', 'objects//s0', 's0/', 'c0', 'chardevs/c0',
                 '/s0', '/nope', 'nope', '.', '..', '/..', '/objects/..',
                 '../objects', 'objects/..', '/objects/s0/..', '/objects/s0/x',
                 '/objects/s0/type', 'type', '/OBJECTS', 'objects/c0', ' s0',
                 's', 's00', 'c0/', '\u00e9', 'x' * 100000, '/' * 100000,
                 '/x' * 50000, 'x/' * 50000, 's0' + '/' * 100000 + 's0']
        self.same_on_both([('qom-list', {'path': p}) for p in paths] +
                          [('qom-get', {'path': p, 'property': 'type'})
                           for p in paths])

    def test_ambiguous(self):
        add = [('object-add', {'qom-type': 'iothread', 'id': i})
               for i in ('chardevs', 'qmp0', 'objects', 'type')]
        paths = ['chardevs', '/chardevs', 'objects', 'objects/objects',
                 '/objects/chardevs', 'qmp0', 'objects/qmp0', 'chardevs/qmp0']
        self.same_on_both(
            add + [('chardev-add', {'id': 'type', 'backend': {
                'type': 'null', 'data': {}}})] +
            [(c, {'path': p, **args}) for p in paths for c, args in (
                ('qom-list', {}), ('qom-get', {'property': 'type'}),
                ('qom-set', {'property': 'type', 'value': 'x'}))])

    def test_values(self):
        questions = [('qom-get', {'path': i, 'property': p}) for i, ps in {
            '/': ['type', 'objects', 'chardevs', 'nope', ''],
            '/objects': ['type', 's0', 't1', 'nope', '../s0', '/objects/s0'],
            '/chardevs': ['type', 'c0', 'qmp0'],
            's0': ['type', 'format', 'keyid', 'iv', 'file', 'nope', 'TYPE'],
            's1': ['format', 'file'],
            't0': ['limits', 'x-iops-total', 'x-iops-read', 'x-iops-read-max',
                   'x-bps-total', 'x-bps-total-max-length', 'x-iops-size',
                   'iops-total', 'x-'],
            't1': ['limits', 'x-iops-read-max'],
            'i0': ['type', 'id', 'poll-max-ns', 'poll-grow', 'poll-shrink',
                   'aio-max-batch'],
            'a0': ['type', 'identity'],
            'l0': ['policy', 'rules'],
            'l1': ['policy', 'rules'],
            'p0': ['type', 'endpoint', 'dir', 'verify-peer', 'priority',
                   'username'],
            'c0': ['type', 'connected'],
            'qmp0': ['type', 'connected', 'addr'],
        }.items() for p in ps]
        self.same_on_both(questions)

    def test_old_names_of_limits(self):
        """As options; what `limits` says wins."""
        limits = [{'x-iops-total': 100, 'x-iops-total-max': 200,
                   'x-iops-total-max-length': 3, 'x-iops-size': 512},
                  {'x-bps-read': 1000, 'x-bps-write-max': 9, 'x-bps-write': 7},
                  {'x-iops-total': 100, 'limits': {'iops-total': 7}},
                  {'x-iops-write': 5, 'limits': {'iops-read': 7}},
                  {'x-iops-total': 5, 'x-iops-read': 3}]
        questions = []
        for n, options in enumerate(limits):
            questions += [
                ('object-add', {'qom-type': 'throttle-group', 'id': f'old{n}',
                                **options}),
                ('qom-get', {'path': f'/objects/old{n}',
                             'property': 'limits'})]
        self.same_on_both(questions)

    def test_sets(self):
        """Also what they leave behind."""
        limits = ['t0', 'limits'], ['t1', 'limits']
        sets = [
            (*limits[0], {'iops-read': 50}), (*limits[0], {}),
            (*limits[0], {'iops-read': -1}), (*limits[0], {'iops-total': 5}),
            (*limits[0], 5), (*limits[0], None), (*limits[0], {'nope': 1}),
            (*limits[0], {'iops-read': 'x'}), (*limits[0], [LIMITS]),
            (*limits[0], {'iops-read': 0}), (*limits[0], {'iops-read-max': 20}),
            (*limits[0], {'bps-total-max-length': 0}),
            (*limits[0], {'bps-total': 2 ** 62}),
            (*limits[0], {'iops-read': 0, 'iops-read-max': 0,
                          'iops-total': 7, 'iops-size': 4096}),
            (*limits[1], {'bps-write': 9, 'bps-write-max': 10,
                          'bps-write-max-length': 60}),
            ('i0', 'poll-max-ns', 1000), ('i0', 'poll-max-ns', 0),
            ('i0', 'poll-max-ns', 2 ** 63 - 1), ('i0', 'poll-max-ns', -1),
            ('i0', 'poll-max-ns', 2 ** 63), ('i0', 'poll-max-ns', '1'),
            ('i0', 'poll-grow', 2 ** 63 - 1), ('i0', 'poll-grow', -1),
            ('i0', 'poll-shrink', 3), ('i0', 'poll-shrink', -5),
            ('i0', 'aio-max-batch', 8), ('i0', 'aio-max-batch', -1),
            ('i0', 'aio-max-batch', 0), ('i0', 'aio-max-batch', None),
            ('a0', 'identity', 'joe'), ('a0', 'identity', 5),
            ('a0', 'identity', None), ('a0', 'identity', ''),
            ('l0', 'policy', 'allow'), ('l0', 'policy', 'maybe'),
            ('l0', 'policy', 3), ('l0', 'rules', [RULE, RULE]),
            ('l1', 'rules', []),
            ('l1', 'rules', [{'match': 'y', 'policy': 'deny'}]),
            ('s0', 'type', 'x'), ('s0', 'nope', 1), ('nope', 'x', 1),
            ('/', 'type', 'x'), ('/', 'objects', '/objects'),
            ('/objects', 's0', '/objects/s1'), ('/objects', 'nope', 1),
            ('', 'type', 1), ('c0', 'type', 'x'), ('c0', 'nope', 1),
            ('qmp0', 'connected', False), ('qmp0', 'addr', {}),
        ]
        questions = []
        for path, name, value in sets:
            at = {'path': path, 'property': name}
            questions += [('qom-set', {**at, 'value': value}), ('qom-get', at)]
        self.same_on_both(questions)

    BAD_RULES = [{'match': 'y'}], 'x', [RULE, {**RULE, 'z': 1}], None, [1]

    def test_bad_rules(self):
        self.same_on_both([
            ('qom-set', {'path': 'l0', 'property': 'rules', 'value': value})
            for value in self.BAD_RULES])

    def test_types(self):
        filters = [{}, {'abstract': False}, {'implements': ''}]
        filters += [{'implements': i, 'abstract': a} for a in (False, True)
                    for i in ('object', 'user-creatable', 'interface', 'authz',
                              'secret_common', 'secret', 'tls-creds',
                              'chardev', 'chardev-fd', 'container',
                              'event-loop-base', 'nope')]
        self.start()
        here = {t['name'] for t in self.ask('qom-list-types', abstract=True)}
        self.server.stop()
        self.assertLess({'object', 'authz', 'authz-listfile', 'secret',
                         'iothread', 'chardev-socket', 'container'}, here)
        questions = [('qom-list-types', f) for f in filters]
        for (_, f), pair in zip(questions, self.on_both(questions)):
            ours, theirs = [
                sorted((RENAMED.get(t['name'], t['name']), t.get('parent', ''),
                        t.get('abstract', False)) for t in answer)
                for answer in pair]
            with self.subTest(f):
                self.assertEqual(ours, [t for t in theirs if t[0] in here])

    def test_type_properties(self):
        self.start()
        here = [t['name'] for t in self.ask('qom-list-types', abstract=True)]
        self.server.stop()
        names = [n for n in here if n not in RENAMED.values()]
        self.assertGreater(len(names), 15)
        names += ['nope', '', 'x' * 10000, '..', '/objects']
        self.same_on_both([('qom-list-properties', {'typename': n})
                           for n in names])

    # --- on their own ---

    def test_user_creatable(self):
        """They are what object-add takes."""
        self.start()
        types = [t['name'] for t in self.ask('qom-list-types',
                                             implements='user-creatable')]
        schema = self.qmp.cmd('query-qmp-schema')
        enums = [sorted(e['values']) for e in schema
                 if e['meta-type'] == 'enum']
        self.assertIn(sorted(types), enums)

    def test_type_of_list_file(self):
        self.write_file('rules', b'{"policy": "deny"}')
        self.start()
        self.ask('object-add', **{'qom-type': 'authz-listfile', 'id': 'f',
                                  'filename': 'rules'})
        self.assertEqual(
            {p['name']: p['value']
             for p in self.ask('qom-list-get', paths=['f'])[0]['properties']},
            {'type': 'authz-listfile', 'filename': 'rules', 'refresh': True})

    def test_descriptions(self):
        self.start()
        properties = {p['name']: p for p in self.ask(
            'qom-list-properties', typename='tls-creds-x509')}
        self.assertEqual(properties['endpoint']['default-value'], 'client')
        self.assertIs(properties['sanity-check']['default-value'], True)
        self.assertNotIn('default-value', properties['dir'])
        self.assertIn('directory', properties['dir']['description'])

    def test_list_get(self):
        """The same as qom-list and qom-get, for all at once or none."""
        self.start()
        paths = ['/', '/chardevs', 't0', 'objects/t0', '/objects', 'qmp0']
        answer = self.ask('qom-list-get', paths=paths)
        self.assertEqual(len(answer), len(paths))
        for path, values in zip(paths, answer):
            self.assertEqual(
                values['properties'],
                [{**p, 'value': self.ask('qom-get', path=path,
                                         property=p['name'])}
                 for p in self.ask('qom-list', path=path)])
        self.assertEqual(self.ask('qom-list-get', paths=[]), [])
        self.qmp_fails("^Device 'nope' not found$", self.qmp, 'qom-list-get',
                       {'paths': ['/', 'nope']}, error_class='DeviceNotFound')
        self.qmp_fails("^Path '' is ambiguous$", self.qmp, 'qom-list-get',
                       {'paths': ['', '/']})
        self.qmp_fails(r"'paths\[1\]'", self.qmp, 'qom-list-get',
                       {'paths': ['/', 1]})

    def test_secrets_are_kept(self):
        """Unlike the distribution's, which tells them."""
        self.start()
        self.qmp_fails(r"^Property 'secret\.data' is not readable$", self.qmp,
                       'qom-get', {'path': 's0', 'property': 'data'})
        told = json.dumps([self.state(), self.ask('qom-list', path='s0')])
        self.assertNotIn('top secret', told)
        data = {'name': 'data', 'type': 'string'}       # and no value
        self.assertIn(data, self.state()[0]['properties'])

    def test_what_stays(self):
        """The distribution's takes new values of some, without effect."""
        self.start()
        before = self.state()
        for path, name, value in (
                ('s0', 'data', 'x'), ('s0', 'file', 'x'),
                ('s0', 'format', 'base64'), ('s1', 'keyid', 's0'),
                ('s1', 'iv', 'x'), ('t0', 'x-iops-read', 7),
                ('t0', 'x-iops-size', 7), ('p0', 'dir', '/'),
                ('p0', 'endpoint', 'client'), ('p0', 'priority', 'x'),
                ('p0', 'username', 'x'), ('p0', 'verify-peer', False)):
            kind = next(o['qom-type'] for o in OBJECTS if o['id'] == path)
            self.qmp_fails(f"^Property '{kind}.{name}' is not writable$",
                           self.qmp, 'qom-set', {'path': path,
                                                 'property': name,
                                                 'value': value})
        for name in NOT_HERE:
            self.qmp_fails(f"^Property 'iothread.{name}' not found$", self.qmp,
                           'qom-set', {'path': 'i0', 'property': name,
                                       'value': 1})
        self.qmp_fails("'value' is missing", self.qmp, 'qom-set',
                       {'path': 'a0', 'property': 'identity'})
        for value in self.BAD_RULES:
            # After that the distribution's has no rules.
            self.qmp_fails("'rules", self.qmp, 'qom-set', {
                'path': 'l0', 'property': 'rules', 'value': value})
        self.assertEqual(self.state(), before)

    def test_coming_and_going(self):
        self.start()
        for _ in range(3):
            self.ask('object-add', **{'qom-type': 'iothread', 'id': 'new'})
            self.assertEqual(self.ask('qom-get', path='new', property='type'),
                             'iothread')
            self.ask('object-del', id='new')
            self.assertEqual(self.ask('qom-list', path='/objects/new'),
                             ('DeviceNotFound',
                              "Device '/objects/new' not found"))

    def test_connected(self):
        self.start()
        self.ask('chardev-add', id='sock', backend={'type': 'socket', 'data': {
            'addr': {'type': 'unix', 'data': {'path': 'sock'}},
            'server': True, 'wait': False}})
        get = {'path': '/chardevs/sock', 'property': 'connected'}
        self.assertIs(self.ask('qom-get', **get), False)
        self.assertEqual(self.ask('qom-get', path='sock', property='addr'),
                         {'type': 'unix', 'path': 'sock'})
        self.assertIs(self.ask('qom-get', path='qmp0', property='connected'),
                      True)

    # --- new values count ---

    def serve(self, **limits):
        """A node limited by g, as an NBD export."""
        self.start()
        self.ask('object-add', **{'qom-type': 'throttle-group', 'id': 'g',
                                  'limits': limits})
        self.ask('blockdev-add', **{
            'driver': 'throttle', 'node-name': 'n', 'throttle-group': 'g',
            'file': {'driver': 'null-co', 'size': 1 << 24}})
        self.ask('nbd-server-start', addr={'type': 'unix',
                                           'data': {'path': 'nbd'}})
        self.ask('block-export-add', **{'type': 'nbd', 'id': 'e',
                                        'node-name': 'n', 'writable': True})
        return 'nbd+unix:///n?socket=nbd'

    def limit(self, **limits):
        self.qmp.cmd('qom-set', {
            'path': 'g', 'property': 'limits', 'value': {
                k.replace('_', '-'): v for k, v in limits.items()}})

    def test_lower_limit(self):
        uri = self.serve()
        self.limit(bps_total=4 << 20)
        start = time.monotonic()
        self.io(uri, *[f'write -q {i * 512}k 512k' for i in range(8)], fmt=None)
        # The last one waits for 3.1 MiB of those before it.
        self.assertGreaterEqual(time.monotonic() - start, .7)

    def test_waiting_requests_go(self):
        """At one byte a second each would take an hour."""
        uri = self.serve(**{'bps-total': 1})
        client = self.io_process(uri)
        for i in range(10):
            client.cmd(f'aio_read -q {4 * i}k 4k')
        self.limit(bps_total=0)
        client.cmd('aio_flush')
        self.assertEqual(client.quit()[0], 0)
        self.assertEqual(self.ask('qom-get', path='g',
                                  property='x-bps-total'), 0)


    def test_spinning(self):
        """How long a thread looks for work before it sleeps."""
        uri = self.serve()
        self.ask('object-add', **{'qom-type': 'iothread', 'id': 'spin'})
        self.ask('block-export-add', **{
            'type': 'nbd', 'id': 'e2', 'name': 'x', 'node-name': 'n',
            'writable': True,
            'iothread': 'spin'})
        self.ask('trace-event-set-state', name='aio_spin_time', enable=True)

        def times():
            self.io(uri.replace('/n?', '/x?'), 'read -q 0 4k', fmt=None)
            return re.findall(rb'for work for (\d+) ns',
                              self.read_file(self.server.log.name))

        self.assertEqual(times(), [])
        for name, value in (('poll-grow', 3), ('poll-max-ns', 10 ** 12)):
            self.qmp.cmd('qom-set', {'path': 'spin', 'property': name,
                                     'value': value})
        nbd.wait_for(lambda: len(times()) >= 2)
        self.assertEqual(times()[:2], [b'4000', b'12000'])

    def test_settings_that_are_refused(self):
        self.start()
        for name in ('poll-max-ns', 'poll-grow', 'poll-shrink',
                     'aio-max-batch'):
            self.qmp_fails(f'^{name} value must be in range', self.qmp,
                           'object-add', {'qom-type': 'iothread', 'id': 'bad',
                                          name: -1})
        self.ask('object-add', **{'qom-type': 'iothread', 'id': 'bad'})
        self.ask('object-del', id='bad')


if __name__ == '__main__':
    iotests.main()
