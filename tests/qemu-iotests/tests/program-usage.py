#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""The programs without an image: help, version, unknown words, and what they
say on which stream."""
import re

import iotests
from iotests import tools
from iotests.process import run

COMMANDS = ('check', 'compare', 'convert', 'create', 'info', 'map', 'resize')


class ProgramUsage(iotests.TestCase):
    def test_help(self):
        for args in (['--help'], ['-h']):
            out = self.img(*args)
            self.assertEqual(out.stderr, '')
            for command in COMMANDS:
                self.assertRegex(out.stdout, rf'(?m)^  {command}\b')

    def test_help_of_each_command(self):
        for command in COMMANDS:
            for flag in ('--help', '-h'):
                out = self.img(command, flag)
                self.assertEqual(out.stderr, '')
                self.assertIn('Usage:', out.stdout)
                self.assertIn(f'qemu-img {command}', out.stdout)

    def test_version(self):
        for program in (tools.qemu_img(), tools.qemu_io()):
            for flag in ('--version', '-V'):
                result = run([program, flag])
                self.assertEqual(result.rc, 0)
                self.assertRegex(result.stdout,
                                 r'^qemu-(img|io) version \S+')

    def test_no_command(self):
        self.img_fails("Not enough arguments\n"
                       "Try 'qemu-img --help' for more information")

    def test_unknown_command(self):
        self.img_fails("Command not found: nope\n"
                       "Try 'qemu-img --help' for more information", 'nope')

    def test_unknown_option(self):
        for command in COMMANDS:
            with self.subTest(command):
                result = self.img(command, '--nope', 'a', rc=None)
                self.assertEqual(result.rc, 1)
                self.assertIn(f"Try 'qemu-img {command} --help'",
                              result.stderr)
                self.assertIn('--nope', result.stderr)

    def test_missing_arguments(self):
        for command in COMMANDS:
            with self.subTest(command):
                result = self.img(command, rc=None)
                self.assertEqual(result.rc, 1)
                self.assertNotEqual(result.stderr, '')
                self.assertEqual(result.stdout, '')

    def test_option_without_its_argument(self):
        result = self.img('info', '-f', rc=None)
        self.assertEqual(result.rc, 1)
        self.assertIn('-f', result.stderr.replace("'f'", '-f'))

    def test_options_of_formats(self):
        for fmt, expected in (('qcow2', ('backing_file', 'cluster_size',
                                         'compat', 'compression_type',
                                         'lazy_refcounts', 'preallocation',
                                         'refcount_bits', 'size')),
                              ('raw', ('size',))):
            for flag in ('help', '?'):
                out = self.img('create', '-f', fmt, '-o', flag, 'a').stdout
                for option in expected:
                    self.assertRegex(out, rf'(?m)^  {option}=<\w')
        # With a file name there are those of the file, too.
        self.assertIn('nocow', self.img('create', '-f', 'raw', '-o', 'help',
                                        'a').stdout)

    def test_help_creates_nothing(self):
        self.img('create', '-f', 'qcow2', '-o', 'help', 'a', '1M')
        self.img_fails('No such file', 'info', 'a')

    def test_qemu_io(self):
        result = run([tools.qemu_io(), '--help'])
        self.assertEqual(result.rc, 0)
        self.assertIn('--cmd', result.stdout)
        result = run([tools.qemu_io(), '--nope'])
        self.assertEqual(result.rc, 1)

    def test_one_format_of_options_for_all(self):
        """Every option of every command has a line of help."""
        for command in COMMANDS:
            text = self.img(command, '--help').stdout
            usage, arguments = text.split('Arguments:')
            for option in re.findall(r'(?<![\w-])(-\w|--[\w-]+)\b', usage):
                self.assertRegex(arguments, rf'(?m)^ .*{option}\b',
                                 f'{command} {option}')


if __name__ == '__main__':
    iotests.main()
