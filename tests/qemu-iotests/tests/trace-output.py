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


if __name__ == '__main__':
    iotests.main()
