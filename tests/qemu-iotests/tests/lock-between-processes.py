#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick lock
# formats: raw qcow2
"""Two processes on one image: who may open it, ours and the distribution's in
every pairing; which bytes of the file are locked."""

import iotests
from iotests import locks, tools


class Locks(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.need_reference()
        self.create('a', '1M')

    def held(self):
        """Bytes of 'a' that anybody holds."""
        return set(locks.locked_bytes(self.path('a')))

    def opened(self, *options, program=None):
        return self.io_process(*options, '-f', self.fmt, 'a', program=program)

    def test_bytes_of_a_writer(self):
        for program in (tools.qemu_io(), tools.ref_io()):
            with self.subTest(program):
                process = self.opened(program=program)
                expected = {'raw': {100, 101},
                            'qcow2': {100, 101, 103, 201, 203}}
                self.assertEqual(self.held(), expected[self.fmt])
                process.quit()
                self.assertEqual(self.held(), set())

    def test_bytes_of_a_reader(self):
        for options, expected in (
                (['-r'], {'raw': {100}, 'qcow2': {100, 201, 203}}),
                (['-r', '-U'], {'raw': {100}, 'qcow2': {100}})):
            for program in (tools.qemu_io(), tools.ref_io()):
                with self.subTest(f'{options} {program}'):
                    process = self.opened(*options, program=program)
                    self.assertEqual(self.held(), expected[self.fmt])
                    process.quit()

    def test_while_one_writes(self):
        """A second writer, or a reader of metadata, is refused by either tool
        whichever holds the image; a reader that shares everything is not."""
        if self.fmt != 'qcow2':
            return
        for holder in (tools.qemu_io(), tools.ref_io()):
            process = self.opened(program=holder)
            for io, img in ((self.io, self.img), (self.ref_io, self.ref)):
                with self.subTest(f'{holder} {io}'):
                    out = io('a', 'read 0 512', rc=1).stderr
                    self.assertIn('Failed to get "write" lock', out)
                    self.assertIn('Is another process using the image [a]?',
                                  out)
                    out = img('info', 'a', rc=1).stderr
                    self.assertIn('Failed to get shared "write" lock', out)
                    img('info', '-U', 'a')
                    img('map', '-U', 'a')
                    img('check', '-U', 'a')
                    img('convert', '-U', '-O', 'raw', 'a', 'out')
                    img('convert', '-O', 'raw', 'a', 'out', rc=1)
                    img('resize', 'a', '2M', rc=1)
                    img('check', '-r', 'all', 'a', rc=1)
                    img('create', '-f', 'qcow2', 'a', '1M', rc=1)
            process.quit()
        self.assert_clean('a')

    def test_while_one_reads(self):
        for holder in (tools.qemu_io(), tools.ref_io()):
            process = self.opened('-r', program=holder)
            for io, img in ((self.io, self.img), (self.ref_io, self.ref)):
                with self.subTest(f'{holder} {io}'):
                    io('a', 'read 0 512', options=['-r'])
                    img('info', '-f', self.fmt, 'a')
                    if self.fmt == 'qcow2':
                        io('a', 'write 0 512', rc=1)
            process.quit()

    def test_create_over_an_open_image(self):
        """Creating would truncate it under the one who has it open."""
        for holder in (tools.qemu_io(), tools.ref_io()):
            process = self.opened(program=holder)
            process.cmd('write -P 7 0 64k')
            if self.fmt == 'qcow2':
                for img in (self.img, self.ref):
                    img('create', '-f', 'raw', 'a', '1M', rc=1)
                    img('convert', '-f', 'raw', '-O', 'raw', 'a', 'a', rc=1)
            self.assertNotIn('failed', process.cmd('read -P 7 0 64k'))
            process.quit()

    def test_force_share_is_for_readers(self):
        self.img_fails('force-share=on can only be used with read-only images',
                       'check', '-U', '-r', 'all', '-f', 'qcow2', 'a')
        self.io_fails('force-share=on can only be used with read-only images',
                      'a', 'length', options=['-U'])

    def test_locking_can_be_off(self):
        image = f'driver={self.fmt},file.filename=a,file.locking='
        process = self.io_process('--image-opts', image + 'off')
        self.assertEqual(self.held(), set())
        other = self.io_process('--image-opts', image + 'on')
        self.assertIn('1 MiB', other.cmd('length'))
        other.quit()
        process.quit()

    def test_a_killed_holder_leaves_nothing(self):
        process = self.opened()
        process.kill()
        self.wait_unlocked('a')
        self.assertEqual(self.held(), set())
        self.io('a', 'write 0 512')


if __name__ == '__main__':
    iotests.main()
