#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: raw
"""scripts/qmp/qmp-shell: lines become commands, answers and events are shown, Tab
completes."""
import json
import os
import pty
import select
import subprocess
import sys
import time

import iotests
from iotests.process import run

SHELL = os.path.join(iotests.TOP, 'scripts/qmp/qmp-shell')


class QmpShell(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.qsd = self.daemon()

    def shell(self, lines, *options, rc=0):
        result = run([sys.executable, SHELL, *options, self.qsd.sockets[0]],
                     stdin=lines)
        self.assertEqual(result.rc, rc, result.describe())
        return result

    def test_commands(self):
        out = self.shell(
            'blockdev-add driver=null-co node-name=n size=1048576 '
            'read-only=true\n'
            '\n'
            'query-named-block-nodes flat=true\n'
            'blockdev-add driver=raw node-name=r file.driver=null-co '
            'file.node-name=1x\n'
            '{"execute": "query-block", "id": 5}\n'
            'transaction actions=[{"type":"abort","data":{}}]\n', rc=1).stdout
        answers = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(answers[0], {'return': {}})
        self.assertEqual(answers[1]['return'][0]['image']['virtual-size'],
                         1048576)
        self.assertIn("Invalid node-name: '1x'", answers[2]['error']['desc'])
        self.assertEqual(answers[3], {'return': [], 'id': 5})
        self.assertIn('Abort action', answers[4]['error']['desc'])

    def test_mistakes_of_the_user(self):
        for line, message in (('query-block flat', 'not NAME=VALUE'),
                              ('query-block a=1 a=2', 'given twice'),
                              ('query-block a=1 a.b=2', 'a value already')):
            with self.subTest(line):
                result = self.shell(line + '\n', rc=1)
                self.assertIn(message, result.stderr)
                self.assertEqual(result.stdout, '')

    def test_options(self):
        out = self.shell('query-block\n', '-p', '-v').stdout
        self.assertIn('    "execute": "query-block"\n', out)
        self.assertIn('    "return": []\n', out)

    def test_no_server(self):
        result = run([sys.executable, SHELL, self.path('nothing')])
        self.assertEqual(result.rc, 1)
        self.assertIn('nothing', result.stderr)

    def test_completion_and_history(self):
        master, slave = pty.openpty()
        env = dict(os.environ, HOME=self.dir, TERM='dumb')
        # The child has the descriptor as its terminal.
        process = subprocess.Popen([sys.executable, SHELL,
                                    self.qsd.sockets[0]],
                                   stdin=slave, stdout=slave, stderr=slave,
                                   env=env)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        os.close(slave)
        self.seen = ''
        # Only at a prompt does the terminal pass control characters on.
        self.until(master, '(QEMU) ')
        os.write(master, b'query-vers\t\n')
        self.until(master, '"package"')
        self.until(master, '(QEMU) ')
        os.write(master, b'block_resi\tnode-n\tx siz\t1\n')
        self.until(master, "node-name='x'")
        self.until(master, '(QEMU) ')
        os.write(master, b'\x04')
        self.assertEqual(process.wait(20), 1)
        os.close(master)
        history = self.read_file('.qmp-shell-history').decode()
        self.assertIn('block_resize node-name=x size=1', history)

    def until(self, fd, text):
        end = time.monotonic() + 20
        while text not in self.seen:
            left = end - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                self.fail(f'{text!r} did not come: {self.seen!r}')
            self.seen += os.read(fd, 4096).decode()
        self.seen = self.seen.partition(text)[2]


if __name__ == '__main__':
    iotests.main()
