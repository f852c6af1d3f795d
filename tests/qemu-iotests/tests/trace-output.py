#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""Trace events are switched on by pattern, and go to stderr or a file."""
import iotests


class Trace(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.img('create', '-q', '-f', 'qcow2', 'a', '1M')

    def events(self):
        return self.img('-T', 'help').stdout.split()

    def test_list(self):
        events = self.events()
        self.assertGreater(len(events), 0)
        self.assertEqual(events, sorted(events))

    def test_on_stderr(self):
        result = self.img('-T', '*', 'convert', '-O', 'qcow2', 'a', 'b')
        lines = result.stderr.strip().split('\n')
        self.assertGreater(len(lines), 1)
        for line in lines:
            self.assertRegex(line, r'^\d+@\d+\.\d{6}:\w+( |$)')
            self.assertIn(line.split(':')[1].split()[0], self.events())

    def test_in_a_file(self):
        result = self.img('-T', 'enable=*,file=log', 'convert', '-O', 'qcow2',
                          'a', 'b')
        self.assertEqual(result.stderr, '')
        self.assertGreater(len(self.read_file('log')), 0)

    def test_off_by_default(self):
        self.assertEqual(self.img('convert', '-O', 'qcow2', 'a', 'b').stderr,
                         '')

    def test_a_list_of_events(self):
        name = self.events()[0]
        self.write_file('events', name.encode() + b'\n')
        self.img('-T', 'events=events', 'info', 'a')

    def test_wrong_option(self):
        self.img_fails('nope', '-T', 'nope=1', 'info', 'a')

    def test_qemu_io_too(self):
        result = self.io('a', 'write 0 1M', fmt='qcow2', options=['-T', '*'])
        self.assertRegex(result.stderr, r'(?m)^\d+@\d+\.\d{6}:\w+')

    def test_qmp(self):
        """On and off while it runs."""
        qmp = self.daemon('--trace', 'file=log').connect()
        states = qmp.cmd('trace-event-get-state', name='*')
        names = [event['name'] for event in states]
        self.assertEqual(names, sorted(names))
        self.assertEqual({event['state'] for event in states}, {'disabled'})
        qmp.cmd('trace-event-set-state', name='monitor_req*', enable=True)
        self.assertEqual(self.read_file('log'), b'')
        on = [{'name': 'monitor_request', 'state': 'enabled'}]
        self.assertEqual(
            qmp.cmd('trace-event-get-state', name='monitor_request'), on)
        self.assertIn(b'command trace-event-get-state', self.read_file('log'))
        qmp.cmd('trace-event-set-state', name='monitor_request', enable=False)
        length = len(self.read_file('log'))
        qmp.cmd('query-version')
        self.assertEqual(len(self.read_file('log')), length)

    def test_qmp_names(self):
        qmp = self.daemon().connect()
        self.assertEqual(qmp.cmd('trace-event-get-state', name='nope*'), [])
        qmp.cmd('trace-event-set-state', name='nope*', enable=True)
        for command, more in (('get', {}), ('set', {'enable': True})):
            self.qmp_fails('^unknown event "nope"$', qmp,
                           f'trace-event-{command}-state', name='nope', **more)


if __name__ == '__main__':
    iotests.main()
