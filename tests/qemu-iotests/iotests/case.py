# SPDX-License-Identifier: GPL-2.0-or-later
"""The base of the tests: a directory of their own, the programs, assertions."""
import json
import os
import shutil
import sys
import tempfile
import time
import unittest

from . import locks, tap, tools
from .process import QemuIoProcess, run
from .qmp import Daemon, QMPError


class TestCase(unittest.TestCase):
    """Each test has a fresh directory, self.dir, and works inside it; it is
    removed afterwards unless KEEP is set and the test failed."""

    def setUp(self):
        self.fmt = tools.fmt()
        self.dir = tempfile.mkdtemp(prefix='iotest-',
                                    dir=os.environ.get('TEST_DIR'))
        self.addCleanup(self._remove_dir)

    def _remove_dir(self):
        if os.environ.get('KEEP'):
            print(f'# kept: {self.dir}')
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def rng(self):
        return tools.rng(self.id().replace('__main__.', ''))

    # --- files ---

    def write_file(self, name, data):
        path = self.path(name)
        with open(path, 'wb') as f:
            f.write(data)
        return path

    def read_file(self, name, offset=0, length=-1):
        with open(self.path(name), 'rb') as f:
            f.seek(offset)
            return f.read(length)

    def patch_file(self, name, offset, data):
        with open(self.path(name), 'r+b') as f:
            f.seek(offset)
            f.write(data)

    # --- programs; arguments that are file names are relative to self.dir ---

    def _run(self, args, expect, **kwargs):
        return self._expect(run(args, cwd=self.dir, **kwargs), expect)

    def _expect(self, result, expect):
        if expect is not None and result.rc != expect:
            self.fail(f'expected exit status {expect}: {result.describe()}')
        return result

    def img(self, *args, rc=0, **kwargs):
        """Our qemu-img. rc: the status it must end with, None for any."""
        return self._run([tools.qemu_img(), *args], rc, **kwargs)

    def img_json(self, *args, **kwargs):
        return json.loads(self.img(*args, '--output=json', **kwargs).stdout)

    def img_fails(self, message, *args, rc=1, **kwargs):
        """Our qemu-img must refuse with a message that matches the regular
        expression."""
        result = self.img(*args, rc=rc, **kwargs)
        self.assertRegex(result.stderr, message, result.describe())
        return result

    def create(self, name, *args):
        """Creates name with the format of this run and more arguments; returns
        the name."""
        self.img('create', '-q', '-f', self.fmt, name, *args)
        return name

    def _io_args(self, program, image, commands, fmt, options):
        args = [program, *options]
        if fmt:
            args += ['-f', fmt]
        for command in commands:
            args += ['-c', command]
        return args + ([image] if image else [])

    def io(self, image, *commands, fmt='', options=(), rc=0, **kwargs):
        """Our qemu-io runs the commands. fmt: '' is the format of this run,
        None probes."""
        fmt = self.fmt if fmt == '' else fmt
        return self._run(self._io_args(tools.qemu_io(), image, commands, fmt,
                                       options), rc, **kwargs)

    def io_fails(self, message, image, *commands, fmt='', options=()):
        """A command, or the opening, must fail with such a message (qemu-io
        prints those of commands on either stream)."""
        result = self.io(image, *commands, fmt=fmt, options=options, rc=1)
        self.assertRegex(result.stdout + result.stderr, message,
                         result.describe())
        return result

    def io_process(self, *args, program=None):
        """A qemu-io to speak to; gone at the end of the test."""
        process = QemuIoProcess([program or tools.qemu_io(), *args],
                                cwd=self.dir)
        self.addCleanup(process.kill)
        return process

    # --- the storage daemon ---

    def daemon(self, *args, program=None, **kwargs):
        """A running one; killed at the end of the test if it still runs."""
        daemon = Daemon(program or tools.qsd(), *args, cwd=self.dir, **kwargs)
        self.addCleanup(daemon.kill)
        return daemon

    def qmp_fails(self, message, client, command, arguments=None,
                  error_class='GenericError', **kwargs):
        """The command must be refused with a message that matches."""
        with self.assertRaises(QMPError) as caught:
            client.cmd(command, arguments, **kwargs)
        self.assertRegex(caught.exception.desc, message)
        self.assertEqual(caught.exception.error_class, error_class)

    # --- the distribution's programs ---

    def need_reference(self):
        if not tools.ref_img() or not tools.ref_io():
            self.skipTest("the distribution's qemu-utils are not installed")

    def ref(self, *args, rc=0, **kwargs):
        self.need_reference()
        for _ in range(4):
            result = self._run([tools.ref_img(), *args], None, **kwargs)
            # It times the hashing of keys, and gives up on a busy machine.
            if 'accurate CPU usage' not in result.stderr:
                return self._expect(result, rc)
        return self._run([tools.ref_img(), *args], rc, **kwargs)

    def ref_json(self, *args, **kwargs):
        return json.loads(self.ref(*args, '--output=json', **kwargs).stdout)

    def ref_io(self, image, *commands, fmt='', options=(), rc=0):
        self.need_reference()
        fmt = self.fmt if fmt == '' else fmt
        return self._run(self._io_args(tools.ref_io(), image, commands, fmt,
                                       options), rc)

    def wait_unlocked(self, image, seconds=10):
        """After a kill: the kernel takes a ring of io_uring down, and with it
        its references to files, some time after the process is gone."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not locks.is_locked(self.path(image)):
                return
            time.sleep(.005)
        self.fail(f'{image} is still locked after {seconds} s')

    # --- assertions ---

    def assert_content(self, image, data, fmt=None):
        """The guest sees exactly data (bytes) in the image."""
        self.img('convert', '-f', fmt or self.fmt, '-O', 'raw', image,
                 'content.tmp')
        seen = self.read_file('content.tmp')
        os.unlink(self.path('content.tmp'))
        if seen != data:
            at = next((i for i, (a, b) in enumerate(zip(seen, data))
                       if a != b), min(len(seen), len(data)))
            self.fail(f'{image} differs at {at}; lengths {len(seen)} and '
                      f'{len(data)}')

    def assert_same(self, a, b, a_fmt=None, b_fmt=None):
        """Our compare finds the guest's view of both identical."""
        result = self.img('compare', '-f', a_fmt or self.fmt,
                          '-F', b_fmt or self.fmt, a, b)
        self.assertIn('Images are identical.', result.stdout)

    def assert_clean(self, image):
        """No errors and no leaks, by our check and by the distribution's."""
        if self.fmt == 'raw':
            return
        self.img('check', '-f', self.fmt, image)
        if tools.ref_img():
            self.ref('check', '-f', self.fmt, image)


def tests_in(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_in(test)
        else:
            yield test


def part_of(suite, part):
    """'2/8' is the second, tenth, … test: neighbours are alike in time."""
    number, parts = map(int, part.split('/'))
    return unittest.TestSuite(list(tests_in(suite))[number - 1::parts])


def main():
    """Runs the tests of the calling file: [-raw|-qcow2|…] [Class.test…]."""
    args = sys.argv[1:]
    for arg in [a for a in args if a.startswith('-')]:
        if arg in ('-h', '--help'):
            print(f'usage: {sys.argv[0]} [-raw|-qcow2|…] [Class[.test]…]')
            sys.exit(0)
        os.environ['IMGFMT'] = arg.lstrip('-')
        args.remove(arg)
    module = sys.modules['__main__']
    loader = unittest.defaultTestLoader
    suite = (loader.loadTestsFromNames(args, module) if args
             else loader.loadTestsFromModule(module))
    suite = part_of(suite, os.environ.get('IOTEST_PART', '1/1'))
    print(f'# SEED={tools.SEED} IMGFMT={tools.fmt()}')
    result = tap.TapResult(suite.countTestCases())
    suite.run(result)
    sys.exit(0 if result.wasSuccessful() else 1)
