#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""What bash completes for the programs, and that zsh takes its file."""
import os
import re
import shutil
import subprocess

import iotests
from iotests import tools
from iotests.process import run

DOCS = os.path.join(tools.BUILD, 'docs')


class ShellCompletion(iotests.TestCase):
    def complete(self, *words):
        """What the last word may become."""
        program = words[0]
        script = (f'source {DOCS}/{program}; COMP_WORDS=("$@"); '
                  'COMP_CWORD=$(($# - 1)); compopt() { :; }; '
                  f'_{program.replace("-", "_")}; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        env = dict(os.environ, PATH=tools.BUILD + ':' + os.environ['PATH'])
        done = subprocess.run(['bash', '--norc', '-c', script, 'bash', *words],
                              cwd=self.dir, env=env, check=True, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True)
        self.assertEqual(done.stderr, '')
        return set(done.stdout.split())

    def test_commands(self):
        listed = set(re.findall(r'(?m)^  (\w+) - ', self.img('--help').stdout))
        self.assertGreater(len(listed), 10)
        self.assertLessEqual(listed, self.complete('qemu-img', ''))
        self.assertEqual(self.complete('qemu-img', 'com'),
                         {'commit', 'compare'})

    def test_every_option(self):
        for command in self.complete('qemu-img', ''):
            if command.startswith('-'):
                continue
            text = self.img(command, '--help').stdout
            heads = '\n'.join(re.findall(r'(?m)^  (-.*)$', text))
            with self.subTest(command):
                self.assertEqual(
                    set(re.findall(r'(?m)(?:^|[ ,(])(--[\w-]+)', heads)),
                    self.complete('qemu-img', command, '--'))

    def test_arguments(self):
        self.write_file('disk.raw', b'')
        for words, expected in (
                (['qemu-img', 'check', '-r', ''], {'leaks', 'all'}),
                (['qemu-img', 'info', '--output', '=', 'j'], {'json'}),
                (['qemu-img', 'info', '--output', '='], {'human', 'json'}),
                (['qemu-img', 'convert', '-O', 'qc'], {'qcow2'}),
                (['qemu-img', 'info', 'd'], {'disk.raw'}),
                (['qemu-img', 'create', '-b', 'd'], {'disk.raw'}),
                (['qemu-img', 'resize', '--preallocation', 'f'],
                 {'falloc', 'full'}),
                (['qemu-img', 'create', '-f', 'qcow2', '-o', 'cluster'],
                 {'cluster_size='}),
                (['qemu-img', 'bench', '-c', ''], set()),
                (['qemu-io', '-t', 'un'], {'unsafe'}),
                (['qemu-io', '--no'], {'--nocache'}),
                (['qemu-storage-daemon', '--daem'], {'--daemonize'})):
            with self.subTest(words):
                self.assertEqual(self.complete(*words), expected)

    def test_zsh(self):
        if not shutil.which('zsh'):
            self.skipTest('zsh is not installed')
        names = [n for n in os.listdir(DOCS) if n.startswith('_qemu')]
        self.assertGreaterEqual(len(names), 3)
        for name in names:
            result = run(['zsh', '-f', '-n', os.path.join(DOCS, name)])
            self.assertEqual((result.rc, result.stderr), (0, ''))


if __name__ == '__main__':
    iotests.main()
