#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""Progress: QEMU's line, a bar on a terminal, objects for managers, and one line
for a signal."""
import json
import os
import pty
import re
import signal
import subprocess
import time

import iotests


class Progress(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '32M')
        self.io('a', 'write -P 1 0 32M')
        self.create('b', '-b', 'a', '-F', 'qcow2')
        self.io('b', 'write -P 2 0 16M')
        self.create('other', '32M')

    def commands(self):
        return (['convert', 'a', 'out'], ['compare', 'a', 'a'], ['check', 'b'],
                ['rebase', '-b', 'other', '-F', 'qcow2', 'b'],
                ['rebase', '-b', 'a', '-F', 'qcow2', 'b'], ['commit', 'b'])

    def test_line(self):
        for command, *args in self.commands():
            with self.subTest(command):
                for option in ('-p', '--progress', '--progress=line'):
                    out = self.img(command, option, *args).stdout
                    self.assertRegex(out, r'^    \(0\.00/100%\)\r(    \([\d.]+'
                                     r'/100%\)\r)*    \(100\.00/100%\)\r.*\n')
                self.assertNotIn('%', self.img(command, '-q', '-p',
                                               *args).stdout)

    def test_json(self):
        for command, *args in self.commands():
            with self.subTest(command):
                out = self.img(command, '--progress=json', *args).stdout
                lines = [json.loads(line) for line in out.splitlines()
                         if line.startswith('{')]
                self.assertEqual(lines[0]['percent'], 0)
                self.assertEqual(lines[-1]['percent'], 100)
                self.assertEqual(lines[-1]['left'], 0)
                for a, b in zip(lines, lines[1:]):
                    self.assertLessEqual(a['elapsed'], b['elapsed'])
                    self.assertLessEqual(a['bytes'], b['bytes'])
                # The second rebase finds nothing to do, and of a check it is
                # metadata.
                if command not in ('rebase', 'check'):
                    self.assertGreaterEqual(lines[-1]['bytes'], 16 << 20)

    def test_check(self):
        """Repairs and plans, too; what a program reads is not mixed."""
        self.img('check', '-r', 'all', '-p', '--plan', 'a')
        out = self.img('check', '-r', 'all', '--progress=json', 'a').stdout
        self.assertEqual(json.loads(out.splitlines()[0])['percent'], 0)
        self.img_fails('-p cannot be used with --output=json', 'check', '-p',
                       '--output=json', 'a')
        json.loads(self.img('check', '-q', '-p', '--output=json', 'a').stdout)

    def test_bar(self):
        ours, theirs = pty.openpty()
        with subprocess.Popen([iotests.qemu_img(), 'convert', '-p', '-r', '8M',
                               '-O', 'qcow2', 'a', 'out'], cwd=self.dir,
                              stdout=theirs) as process:
            os.close(theirs)
            seen = b''
            while True:
                try:
                    seen += os.read(ours, 4096)
                except OSError:
                    break
            os.close(ours)
            self.assertEqual(process.wait(), 0)
        bars = seen.decode().split('\r')
        bars = [b for b in bars if b.startswith('[')]
        self.assertRegex(bars[-1], r'^\[=+\] 100\.0%')
        # First, last, and on a busy machine not many in between.
        self.assertGreater(len(bars), 2)
        middle = bars[len(bars) // 2]
        self.assertRegex(middle, r'^\[=+> *\] +[\d.]+%  [\d.]+ [KMG]iB/s  '
                         r'\d+:\d\d left')

    def test_signal(self):
        with subprocess.Popen([iotests.qemu_img(), 'convert', '-r', '8M',
                               '-O', 'qcow2', 'a', 'out'], cwd=self.dir,
                              stderr=subprocess.PIPE) as process:
            time.sleep(.7)
            process.send_signal(signal.SIGUSR1)
            line = process.stderr.readline().decode()
            process.kill()
        self.assertRegex(line, r'^    \(\d+\.\d\d/100%\)\n$')

    def test_unknown_form(self):
        for command, *args in self.commands():
            with self.subTest(command):
                result = self.img(command, '--progress=xml', *args, rc=None)
                self.assertNotEqual(result.rc, 0)
                self.assertTrue(re.search('line, bar or json', result.stderr))


if __name__ == '__main__':
    iotests.main()
