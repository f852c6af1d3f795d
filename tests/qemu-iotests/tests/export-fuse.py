#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp export
# formats: raw qcow2
"""A disk as a file in the host: what system calls and programs see of it, who may
do what, threads, faults, and its end. Where nothing can be mounted, the protocol is
tested over sockets instead."""
import errno
import os
import random
import signal
import stat
import subprocess
import threading
import time
import unittest

import iotests
from iotests import tools

KiB, MiB = 1 << 10, 1 << 20
SIZE = 4 * MiB


def fuse_exports(directory):
    """'yes', or why not: 'build' has none, or the kernel or container does not
    let us 'mount' one."""
    image, point = (os.path.join(directory, n) for n in ('disk', 'point'))
    for path in image, point:
        with open(path, 'wb') as f:
            f.truncate(MiB)
    daemon = subprocess.Popen(
        [tools.qsd(), '--blockdev', f'file,node-name=n,filename={image}',
         '--export', f'fuse,id=e,node-name=n,mountpoint={point}',
         '--pidfile', os.path.join(directory, 'pid')],
        stderr=subprocess.PIPE, text=True)
    while not os.path.exists(os.path.join(directory, 'pid')):
        if daemon.poll() is not None:
            message = daemon.stderr.read()
            return 'build' if "'fuse'" in message else 'mount'
        time.sleep(.01)
    daemon.terminate()
    daemon.communicate()
    return 'yes'


class Fuse(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('disk', str(SIZE))
        self.point = self.write_file('point', b'')
        self.addCleanup(self.unmount)
        self.qsd, self.qmp = None, None

    def unmount(self):
        """Whatever is left of it, so that the directory can go."""
        while self.is_mounted():
            self.user_unmounts('-z')

    def user_unmounts(self, *options):
        if os.getuid():
            args = ['fusermount3', '-u', *options]
        else:
            args = ['umount', *(['-l'] if options else [])]
        subprocess.run([*args, self.point], check=True)

    def is_mounted(self):
        with open('/proc/self/mounts', encoding='utf-8') as f:
            return any(line.split()[1] == self.point for line in f)

    def start(self, *args, node=''):
        self.qsd = self.daemon(
            '--blockdev', node or f'driver={self.fmt},node-name=disk,'
            'discard=unmap,file.driver=file,file.discard=unmap,'
            'file.filename=disk', *args)
        self.qmp = self.qsd.connect()

    def export(self, id='e', **options):
        self.qmp.cmd('block-export-add', {
            'type': 'fuse', 'id': id, 'node-name': 'disk', 'writable': True,
            'mountpoint': self.point,
            **{k.replace('_', '-'): v for k, v in options.items()}})

    def open(self, flags=os.O_RDWR):
        fd = os.open(self.point, flags)
        self.addCleanup(self.close, fd)
        return fd

    @staticmethod
    def close(fd):
        try:
            os.close(fd)
        except OSError:         # of one whose file system has gone
            pass

    def fails(self, code, function, *args):
        with self.assertRaises(OSError) as caught:
            function(*args)
        self.assertEqual(errno.errorcode[caught.exception.errno],
                         errno.errorcode[code])

    def size(self):
        return os.stat(self.point).st_size

    def program(self, *args, rc=0, **kwargs):
        done = subprocess.run([str(a) for a in args], cwd=self.dir, check=False,
                              capture_output=True, timeout=60, **kwargs)
        self.assertEqual(done.returncode, rc, (args, done.stderr))
        return done.stdout

    def throttled(self):
        """A disk that serves two reads a second."""
        self.start('--object', 'throttle-group,id=slow,limits.iops-read=2',
                   '--blockdev', 'driver=throttle,node-name=disk,'
                   'throttle-group=slow,file=image', node=f'driver={self.fmt},'
                   'node-name=image,file.driver=file,file.filename=disk')

    def readers(self, number):
        """Threads that read at once; results: bytes read, or errno."""
        results = []

        def read():
            try:
                fd = os.open(self.point, os.O_RDONLY)
                results.append(len(os.read(fd, 512)))
                self.close(fd)
            except OSError as error:
                results.append(error)
        threads = [threading.Thread(target=read) for _ in range(number)]
        for thread in threads:
            thread.start()
        return threads, results


class File(Fuse):
    def test_attributes(self):
        self.start()
        self.export()
        st = os.stat(self.point)
        self.assertEqual((st.st_mode, st.st_size, st.st_uid, st.st_gid,
                          st.st_nlink), (stat.S_IFREG | 0o600, SIZE,
                                         os.getuid(), os.getgid(), 1))
        before = st.st_blocks
        os.pwrite(self.open(), b'x' * 512 * KiB, MiB)
        self.assertGreaterEqual(os.stat(self.point).st_blocks - before, 1024)
        self.fails(errno.ENOTSUP, os.utime, self.point, (1, 2))
        self.fails(errno.EBUSY, os.unlink, self.point)
        # What it was before is there again.
        self.qsd.stop()
        self.assertEqual(self.size(), 0)

    def test_data(self):
        rng = self.rng()
        model = bytearray(SIZE)
        self.start()
        self.export()
        fd = self.open()
        for _ in range(150):
            at, n = rng.randrange(SIZE), rng.randrange(1, 128 * KiB)
            n = min(n, SIZE - at)
            if rng.random() < .6:
                model[at:at + n] = data = rng.randbytes(n)
                self.assertEqual(os.pwrite(fd, data, at), n)
            else:
                self.assertEqual(os.pread(fd, n, at), model[at:at + n])
        os.fsync(fd)
        self.assertEqual(os.pread(fd, 1000, SIZE - 10), model[-10:])
        self.assertEqual(os.pread(fd, 1000, SIZE), b'')
        self.qsd.stop()
        self.assert_content('disk', model)
        self.assert_clean('disk')

    def test_it_ends_where_the_disk_ends(self):
        self.start()
        self.export()
        fd = self.open()
        self.assertEqual(os.pwrite(fd, b'x' * 1000, SIZE - 100), 100)
        self.fails(errno.EIO, os.pwrite, fd, b'x', SIZE)
        # Opening does not empty it.
        self.open(os.O_RDWR | os.O_TRUNC)
        self.assertEqual(self.size(), SIZE)

    def test_growable(self):
        self.start()
        self.export(growable=True)
        fd = self.open()
        self.assertEqual(os.pwrite(fd, b'x' * 1000, SIZE + MiB), 1000)
        self.assertEqual(self.size(), SIZE + MiB + 1024)
        self.assertEqual(os.pread(fd, 2000, SIZE + MiB - 1000),
                         bytes(1000) + b'x' * 1000)
        os.ftruncate(fd, MiB)
        self.assertEqual(self.size(), MiB)
        # It also goes with a second one, of any kind.
        self.write_file('other', b'')
        self.export('e2', growable=True, mountpoint=self.path('other'))
        self.assertEqual(os.stat(self.path('other')).st_size, MiB)
        self.qmp.cmd('block-export-del', id='e2')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e2')

    def test_truncate(self):
        """Without being growable, too; others see it at once."""
        self.start('--object', 'iothread,id=t')
        self.export(iothread='t')
        fd = self.open()
        os.pwrite(fd, b'x' * MiB, SIZE - MiB)
        for size in SIZE - 512, 2 * SIZE, 512:
            os.ftruncate(fd, size)
            self.assertEqual(self.size(), size)
        os.truncate(self.point, SIZE)
        self.assertEqual(os.pread(fd, MiB, SIZE - MiB), bytes(MiB))
        self.qmp.cmd('block_resize', {'node-name': 'disk', 'size': 2 * SIZE})
        self.assertEqual(self.size(), 2 * SIZE)

    def test_space(self):
        self.start()
        self.export()
        fd = self.open()
        os.pwrite(fd, b'x' * SIZE, 0)
        allocated = os.stat(self.point).st_blocks
        self.program('fallocate', '-p', '-o', MiB, '-l', MiB, 'point')
        self.assertLessEqual(os.stat(self.point).st_blocks,
                             allocated - MiB // 512 + 256)
        self.program('fallocate', '-z', '-o', '3M', '-l', '4M', 'point')
        self.assertEqual(self.size(), 7 * MiB)
        self.assertEqual(os.pread(fd, 2 * MiB, 0), b'x' * MiB + bytes(MiB))
        self.assertEqual(os.pread(fd, 5 * MiB, 2 * MiB),
                         b'x' * MiB + bytes(4 * MiB))
        self.program('fallocate', '-o', '7M', '-l', '1M', 'point')
        self.assertEqual(self.size(), 8 * MiB)
        for mode in ['-c'], ['-i'], ['-n'], []:
            self.program('fallocate', *mode, '-o', 0, '-l', '64K', 'point',
                         rc=1)

    def test_holes(self):
        self.start()
        self.export()
        fd = self.open()
        for at in 0, 1, 2 * MiB, SIZE - 64 * KiB:
            os.pwrite(fd, b'x' * 64 * KiB, at)
        found, at = [], 0
        while True:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                self.assertEqual(error.errno, errno.ENXIO)
                break
            at = os.lseek(fd, start, os.SEEK_HOLE)
            found.append((start, at))
        self.qsd.stop()
        extents = []
        for e in self.img_json('map', '-f', self.fmt, 'disk'):
            start, end = e['start'], e['start'] + e['length']
            if e['zero']:
                continue
            if extents and extents[-1][1] == start:
                start = extents.pop()[0]
            extents.append((start, end))
        self.assertEqual(found, extents)

    def test_read_only(self):
        self.start()
        self.export(writable=False, growable=True)
        self.assertEqual(os.stat(self.point).st_mode & 0o777, 0o400)
        if not os.getuid():     # who may open it nevertheless
            fd = self.open()
            self.fails(errno.EACCES, os.pwrite, fd, b'x', 0)
            self.fails(errno.EACCES, os.pwrite, fd, b'x', SIZE)
            self.fails(errno.EACCES, os.ftruncate, fd, 512)
            self.fails(errno.EACCES, os.posix_fallocate, fd, SIZE, 512)
        fd = self.open(os.O_RDONLY)
        self.assertEqual(os.pread(fd, 2 * SIZE, 0), bytes(SIZE))
        if not os.getuid():     # allow-other=auto succeeds
            self.fails(errno.EROFS, os.chmod, self.point, 0o600)
            os.chmod(self.point, 0o444)

    def test_other_users(self):
        self.start()
        self.export(allow_other='off')
        self.fails(errno.EPERM, os.chmod, self.point, 0o644)
        self.fails(errno.ENOTSUP, os.chown, self.point, os.getuid(),
                   os.getgid())
        if os.getuid():
            return
        nobody = {'user': 65534, 'group': 65534, 'extra_groups': []}
        os.chmod(self.dir, 0o755)
        self.program('head', '-c1', self.point, rc=1, **nobody)
        self.qmp.cmd('block-export-del', id='e')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.export(allow_other='on')
        self.program('head', '-c1', self.point, rc=1, **nobody)
        os.chmod(self.point, 0o644)
        self.assertEqual(self.program('head', '-c1', self.point, **nobody),
                         b'\0')
        os.chown(self.point, 65534, 65534)
        self.program('dd', 'if=/dev/zero', 'of=' + self.point, 'bs=512',
                     'count=1', 'conv=notrunc', **nobody)

    def test_image_is_the_mount_point(self):
        """Those who open the image by its name see the disk in it."""
        self.point = self.path('disk')
        self.start()
        self.export()
        self.assertEqual(self.size(), SIZE)
        os.pwrite(self.open(), b'x' * 4096, 0)
        self.qsd.stop()
        self.io('disk', 'read -P 120 0 4k')


class Programs(Fuse):
    def test_copies(self):
        self.start()
        self.export()
        data = self.rng().randbytes(MiB)
        self.write_file('data', data)
        self.program('dd', 'if=data', 'of=point', 'bs=64k', 'seek=16',
                     'conv=notrunc,fsync')
        self.program('dd', 'if=point', 'of=back', 'bs=4k', 'skip=256',
                     'count=256', 'iflag=direct')
        self.assertEqual(self.read_file('back'), data)
        self.program('cp', '--sparse=always', 'point', 'copy')
        self.assertEqual(self.read_file('copy'),
                         bytes(MiB) + data + bytes(2 * MiB))
        self.assertLessEqual(os.stat(self.path('copy')).st_blocks, 2100)
        self.program('truncate', '-s', '+1M', 'point')
        self.assertEqual(self.size(), 5 * MiB)

    def test_file_system(self):
        """One is made in the disk; if we may mount it, the kernel uses it through
        a loop device, else debugfs does."""
        self.start('--object', 'iothread,id=t0', '--object', 'iothread,id=t1')
        self.export(growable=True, iothread=['t0', 't1'])
        os.truncate(self.point, 32 * MiB)
        env = dict(os.environ, PATH=os.environ['PATH'] + ':/sbin:/usr/sbin')
        run = lambda *args: self.program(*args, env=env)
        run('mkfs.ext4', '-q', '-F', 'point')
        data = {f'f{n}': self.rng().randbytes(n * 100 * KiB)
                for n in range(1, 9)}
        for name, content in data.items():
            self.write_file(name, content)
        os.mkdir(self.path('fs'))
        loop = os.getuid() == 0 and subprocess.run(
            ['mount', '-o', 'loop', 'point', 'fs'], cwd=self.dir, check=False,
            capture_output=True).returncode == 0
        if loop:
            try:
                run('cp', *data, 'fs')
                os.mkdir(self.path('fs/again'))
                run('cp', *data, 'fs/again')
                run('rm', 'fs/f1')
                os.sync()
                run('fstrim', 'fs')
                run('cmp', 'f2', 'fs/again/f2')
            finally:
                run('umount', 'fs')
        else:
            commands = ''.join(f'write {name} {name}\n' for name in data)
            self.program('debugfs', '-w', 'point', input=commands.encode(),
                         env=env)
        run('e2fsck', '-f', '-n', 'point')
        self.qsd.stop()
        self.img('convert', '-f', self.fmt, '-O', 'raw', 'disk', 'raw')
        run('e2fsck', '-f', '-n', 'raw')
        for name in list(data)[1:]:
            seen = self.program('debugfs', '-R', f'cat {name}', 'raw', env=env)
            self.assertEqual(seen, data[name])
        self.assert_clean('disk')


class Threads(Fuse):
    def test_many_at_random(self):
        """Writers of parts of their own, in several threads of the daemon, while
        nodes come in between."""
        self.start('--object', 'iothread,id=t0', '--object', 'iothread,id=t1',
                   '--object', 'iothread,id=t2')
        self.export(iothread=['t0', 't1', 't2'])
        writers, part = 4, SIZE // 4
        models = [bytearray(part) for _ in range(writers)]
        wrong, stop = [], threading.Event()

        def use(number):
            rng, model = self.rng_of(number), models[number]
            fd = os.open(self.point, os.O_RDWR)
            while not stop.is_set() and not wrong:
                at, n = rng.randrange(part), rng.randrange(1, 40 * KiB)
                n = min(n, part - at)
                offset = number * part + at
                if rng.random() < .6:
                    model[at:at + n] = data = rng.randbytes(n)
                    if os.pwrite(fd, data, offset) != n:
                        wrong.append((number, 'short'))
                elif os.pread(fd, n, offset) != model[at:at + n]:
                    wrong.append((number, at, n))
            os.fsync(fd)
            os.close(fd)
        threads = [threading.Thread(target=use, args=(n,))
                   for n in range(writers)]
        for thread in threads:
            thread.start()
        top = 'disk'
        for n in range(3):
            time.sleep(.1)
            self.img('create', '-q', '-f', 'qcow2', f'o{n}', str(SIZE))
            self.qmp.cmd('blockdev-add', {
                'driver': 'qcow2', 'node-name': f'n{n}', 'backing': None,
                'file': {'driver': 'file', 'filename': f'o{n}'}})
            self.qmp.cmd('blockdev-snapshot', node=top, overlay=f'n{n}')
            top = f'n{n}'
        time.sleep(.1)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        with open(self.point, 'rb') as f:
            self.assertEqual(f.read(), b''.join(models))
        self.qsd.stop()

    def rng_of(self, number):
        return random.Random(f'{tools.SEED}/{self.id()}/{number}')


class Faults(Fuse):
    def start_failing(self, iotype, code):
        rule = 'inject-error.0'
        self.start('--blockdev', 'driver=blkdebug,node-name=disk,image=image,'
                   f'{rule}.event=none,{rule}.iotype={iotype},'
                   f'{rule}.errno={code}',
                   node=f'driver={self.fmt},node-name=image,'
                   'file.driver=file,file.filename=disk')

    def test_errors_arrive(self):
        self.io('disk', f'write 0 {SIZE}')
        for code in errno.EIO, errno.ENOSPC:
            for iotype in 'read', 'write', 'flush':
                with self.subTest(iotype, code=code):
                    self.start_failing(iotype, code)
                    self.export()
                    fd = self.open()
                    if iotype == 'read':
                        self.fails(code, os.pread, fd, 512, MiB)
                    else:
                        self.assertEqual(len(os.pread(fd, 512, MiB)), 512)
                    if iotype == 'write':
                        self.fails(code, os.pwrite, fd, b'x' * 512, MiB)
                    if iotype == 'flush':
                        self.assertEqual(os.pwrite(fd, b'x' * 512, MiB), 512)
                        self.fails(code, os.fsync, fd)
                        self.fails(code, os.fsync, fd)
                    # Others are served all the same.
                    self.assertEqual(self.size(), SIZE)
                    self.qsd.stop()

    def wait_until_dead(self):
        """A ring of io_uring keeps the connection a little longer."""
        while True:
            with self.assertRaises(OSError) as caught:
                os.stat(self.point)
            if caught.exception.errno == errno.ENOTCONN:
                return
            self.assertEqual(caught.exception.errno, errno.ECONNABORTED)
            time.sleep(.01)

    def test_killed_daemon(self):
        self.start()
        self.export()
        self.qsd.kill()
        self.wait_unlocked('disk')
        self.wait_until_dead()
        self.start()
        self.qmp_fails(f"Failed to stat '{self.point}': Transport endpoint is "
                       'not connected', self.qmp, 'block-export-add',
                       {'type': 'fuse', 'id': 'e', 'node-name': 'disk',
                        'mountpoint': self.point})
        self.user_unmounts()
        self.export()
        self.assertEqual(self.size(), SIZE)


class End(Fuse):
    def test_unmounted_by_user(self):
        self.start()
        self.export()
        self.user_unmounts()
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.assertEqual(self.qmp.cmd('query-block-exports'), [])
        # One that has it open goes on; it ends when that is closed.
        self.export()
        fd = self.open()
        self.user_unmounts('-z')
        self.qmp.no_event('BLOCK_EXPORT_DELETED')
        self.assertEqual(len(os.pread(fd, 512, 0)), 512)
        os.close(fd)
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')

    def test_something_else_is_not_unmounted(self):
        if os.getuid():
            return              # nobody else may mount there
        self.start()
        self.export()
        self.write_file('cover', b'covered')
        self.program('mount', '--bind', 'cover', 'point')
        try:
            self.qmp.cmd('block-export-del', id='e')
            self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
            self.assertEqual(self.read_file('point'), b'covered')
        finally:
            self.program('umount', 'point')

    def test_del(self):
        """An open file is no use of the export; a request is."""
        self.throttled()
        self.export()
        fd = self.open()
        self.qmp.cmd('block-export-del', id='e')
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        self.assertFalse(self.is_mounted())
        self.fails(errno.ENOTCONN, os.pread, fd, 512, 0)

        self.export()
        threads, results = self.readers(3)
        time.sleep(.1)
        self.qmp_fails("export 'e' still in use", self.qmp,
                       'block-export-del', id='e')
        self.qmp.cmd('block-export-del', id='e', mode='hard')
        info, = self.qmp.cmd('query-block-exports')
        self.assertTrue(info['shutting-down'])
        self.qmp.event('BLOCK_EXPORT_DELETED', id='e')
        for thread in threads:
            thread.join()
        self.assertEqual(results, [512] * 3)
        self.assertEqual(self.size(), 0)

    def test_sigterm_with_requests(self):
        self.throttled()
        self.export()
        threads, results = self.readers(4)
        time.sleep(.1)
        self.assertEqual(self.qsd.stop(signal.SIGTERM), 0)
        for thread in threads:
            thread.join()
        self.assertEqual(results, [512] * 4)
        self.assertFalse(self.is_mounted())

    def test_refused(self):
        self.start()
        os.mkdir(self.path('dir'))
        os.symlink('point', self.path('link'))
        self.export()
        for path, message in (
                (self.path('no'), 'Failed to stat .*: No such file'),
                (self.path('dir'), 'is not a regular file'),
                ('/dev/null', 'is not a regular file'),
                (self.point, 'There already is a FUSE export on'),
                (self.path('dir') + '/../link',
                 'There already is a FUSE export on')):
            self.qmp_fails(message, self.qmp, 'block-export-add', {
                'type': 'fuse', 'id': 'f', 'node-name': 'disk',
                'mountpoint': path})
        self.qmp_fails('is not found', self.qmp, 'block-export-del', id='f')


class WithoutDevice(Fuse):
    """Where there is no /dev/fuse, or nobody may mount."""

    def test_protocol(self):
        self.program(os.path.join(tools.BUILD, 'tests/unit/test-fuse'))

    def test_message(self):
        self.start()
        self.qmp_fails("Cannot open '/dev/fuse'|Failed to mount FUSE on",
                       self.qmp, 'block-export-add',
                       {'type': 'fuse', 'id': 'e', 'node-name': 'disk',
                        'mountpoint': self.point})
        self.assertEqual(self.qmp.cmd('query-block-exports'), [])


class WithoutLibrary(iotests.TestCase):
    def test_build(self):
        self.skipTest('this build has no libfuse')


def load_tests(loader, tests, pattern):
    """Of those that this machine is able to do."""
    import tempfile
    with tempfile.TemporaryDirectory() as directory:
        able = fuse_exports(directory)
    if able == 'yes':
        classes = File, Programs, Threads, Faults, End
    else:
        classes = [WithoutDevice if able == 'mount' else WithoutLibrary]
    return unittest.TestSuite(loader.loadTestsFromTestCase(c)
                              for c in classes)


if __name__ == '__main__':
    iotests.main()
