#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: convert
# formats: qcow2
"""convert --resume: a copy that was killed, or failed, goes on where it was
durable, and only if source, target and command are what they were."""
import json
import os
import signal
import subprocess
import time

import iotests
import iotests.qcow2_bytes
from iotests import tools

MIB = 1 << 20
SIZE = 40 * MIB


class Resume(iotests.TestCase):
    def setUp(self):
        super().setUp()
        rng = self.rng()
        with open(self.path('src'), 'wb') as f:
            for i in range(SIZE // MIB):
                f.seek(i * MIB)
                f.write(rng.randbytes(rng.randrange(MIB // 2, MIB)))
            f.truncate(SIZE)

    def args(self, *more, source=('-f', 'raw', 'src')):
        return ['convert', '--resume', '-O', self.fmt, *more, *source, 'dst']

    def state(self):
        with open(self.path('dst.resume'), encoding='utf-8') as f:
            return json.load(f)

    def interrupt(self, args):
        """Kills a slow convert as soon as it has saved its state; returns up to
        where the copy is complete."""
        with subprocess.Popen([tools.qemu_img(), *args[:1], '-r', '8M',
                               *args[1:]], cwd=self.dir) as process:
            end = time.monotonic() + 60
            while not os.path.exists(self.path('dst.resume')):
                self.assertIsNone(process.poll(), 'ended by itself')
                self.assertLess(time.monotonic(), end)
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        complete = self.state()['complete']
        self.assertTrue(0 < complete < SIZE, complete)
        return complete

    def finish(self, args, source='src', source_fmt='raw'):
        self.img(*args)
        self.assertFalse(os.path.exists(self.path('dst.resume')))
        self.assert_same(source, 'dst', source_fmt, self.fmt)
        if self.fmt == 'qcow2':
            self.assert_clean('dst')

    def test_killed(self):
        for fmt, *more in (('raw',), ('qcow2',), ('qcow2', '-c'),
                           ('qcow2', '-W', '-o', 'cluster_size=4k'),
                           ('qcow2', '-o',
                            'lazy_refcounts=on,preallocation=metadata')):
            with self.subTest(f'{fmt} {more}'):
                self.fmt = fmt
                self.interrupt(self.args(*more))
                self.finish(self.args(*more))

    def test_what_is_complete_is_not_copied_again(self):
        complete = self.interrupt(self.args())
        stat = os.stat(self.path('src'))
        self.patch_file('src', 0, b'x' * 512)
        os.utime(self.path('src'), ns=(stat.st_atime_ns, stat.st_mtime_ns))
        self.img(*self.args())
        self.img('convert', '-f', self.fmt, '-O', 'raw', 'dst', 'out')
        self.assertNotEqual(self.read_file('out', 0, 512), b'x' * 512)
        self.assertEqual(self.read_file('out', 512), self.read_file('src', 512))
        self.assertGreater(complete, 512)

    def test_killed_twice(self):
        first = self.interrupt(self.args())
        os.rename(self.path('dst.resume'), self.path('copy'))
        state = json.loads(self.read_file('copy'))
        self.assertEqual(state['complete'], first)
        os.link(self.path('copy'), self.path('dst.resume'))
        with subprocess.Popen([tools.qemu_img(), *self.args('-r', '4M')],
                              cwd=self.dir) as process:
            end = time.monotonic() + 60
            while self.state()['complete'] == first:
                self.assertIsNone(process.poll())
                self.assertLess(time.monotonic(), end)
                time.sleep(0.02)
            process.kill()
        self.assertGreater(self.state()['complete'], first)
        self.finish(self.args())

    def test_a_target_with_a_backing_file(self):
        self.img('create', '-q', '-f', 'raw', 'base', '30M')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', 'top',
                 str(SIZE))
        self.img('dd', '-f', 'raw', '-O', 'raw', 'if=src', 'of=part', 'bs=1M',
                 'count=24')
        self.img('convert', '-n', '-f', 'raw', '-O', 'qcow2', 'src', 'top')
        args = self.args('-B', 'base', '-F', 'raw',
                         source=('-f', 'qcow2', 'top'))
        self.interrupt(args)
        self.finish(args, 'top', 'qcow2')

    def test_a_failed_write_can_be_resumed(self):
        """The fault is in a file of its own, so that the command is the same."""
        with open(self.path('faults'), 'w', encoding='ascii') as f:
            f.write('[inject-error]\nevent = "none"\niotype = "read"\n'
                    f'errno = "5"\nsector = "{30 * MIB // 512}"\n')
        args = self.args(source=('-f', 'raw', 'blkdebug:faults:src'))
        result = self.img_fails('error while reading', *args)
        self.assertIn('goes on where this copy stopped', result.stderr)
        complete = self.state()['complete']
        self.assertTrue(0 < complete <= 30 * MIB, complete)
        self.write_file('faults', b'')
        self.finish(args)

    def test_nothing_was_saved(self):
        """A failure before anything is complete leaves nothing behind."""
        with open(self.path('faults'), 'w', encoding='ascii') as f:
            f.write('[inject-error]\nevent = "none"\niotype = "read"\n'
                    'errno = "5"\nsector = "0"\n')
        self.img_fails('error while reading', *self.args(
            source=('-f', 'raw', 'blkdebug:faults:src')))
        self.assertEqual(sorted(os.listdir(self.dir)), ['faults', 'src'])

    def test_salvaging(self):
        """What was lost before the kill is in the report of the next run."""
        with open(self.path('faults'), 'w', encoding='ascii') as f:
            f.write('[inject-error]\nevent = "none"\niotype = "read"\n'
                    f'errno = "5"\nsector = "{MIB // 512}"\n')
        source = ('-f', 'raw', 'blkdebug:faults:src')
        args = self.args('--salvage', '--salvage-report', 'report',
                         source=source)
        complete = self.interrupt(args)
        self.assertGreater(complete, MIB)
        self.assertEqual([(r['start'], r['length'])
                          for r in self.state()['lost']], [(MIB, 512)])
        self.write_file('faults', b'')      # it could be read now
        self.img(*args, rc=2)
        report = json.loads(self.read_file('report'))
        self.assertEqual([(r['start'], r['length']) for r in report['lost']],
                         [(MIB, 512)])
        self.patch_file('src', MIB, bytes(512))
        self.assert_same('src', 'dst', 'raw', self.fmt)

    def test_another_source_target_or_command(self):
        self.interrupt(self.args())
        before = self.read_file('dst')

        def refused(why, *args):
            self.img_fails(why, *args)
            self.assertEqual(self.read_file('dst'), before)
            self.state()

        refused('option for sparse-size is another', *self.args('-S', '64k'))
        refused('option for source-format is another',
                *self.args(source=('src',)))
        stat = os.stat(self.path('src'))
        os.utime(self.path('src'), ns=(0, 0))
        refused('the sources changed since', *self.args())
        os.utime(self.path('src'), ns=(stat.st_atime_ns, stat.st_mtime_ns))
        os.rename(self.path('dst'), self.path('other'))
        self.write_file('dst', before)
        refused('the target is another file', *self.args())
        os.rename(self.path('other'), self.path('dst'))
        self.finish(self.args())

    def test_a_state_that_is_none(self):
        self.interrupt(self.args())
        good = self.state()
        before = self.read_file('dst')
        for bad in (b'', b'{', b'[]', b'{"version": 2}', b'\xff' * 99,
                    json.dumps({**good, 'complete': -1}).encode(),
                    json.dumps({**good, 'complete': 1 << 62}).encode(),
                    json.dumps({**good, 'complete': 'x'}).encode(),
                    json.dumps({**good, 'zeroed': 1}).encode()):
            self.write_file('dst.resume', bad)
            result = self.img_fails('is not the state of this copy',
                                    *self.args())
            self.assertIn('Remove it to begin anew', result.stderr)
            self.assertEqual(self.read_file('dst'), before)
        os.unlink(self.path('dst.resume'))
        self.finish(self.args())

    def test_a_damaged_target(self):
        self.interrupt(self.args())
        with iotests.qcow2_bytes.Qcow2Bytes(self.path('dst')) as image:
            image.set_l2(0, 0, 0x123456789)
        self.img_fails('the target is damaged', *self.args())

    def test_conflicts(self):
        self.img_fails('--resume does not go with --digest',
                       *self.args('--digest'))
        self.img_fails('not -t unsafe', *self.args('-t', 'unsafe'))
        self.img('create', '-q', '-f', 'raw', 'dst', str(SIZE))
        self.img_fails('file beside the target', 'convert', '--resume', '-n',
                       '--target-image-opts', '-f', 'raw', 'src',
                       'driver=raw,file.driver=file,file.filename=dst')


if __name__ == '__main__':
    iotests.main()
