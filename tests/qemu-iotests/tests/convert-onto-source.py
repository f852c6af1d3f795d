#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick convert
# formats: raw qcow2
"""convert and dd do not write to a file that they read from, whatever it is
called there, and also if nobody locks it."""
import json
import os

import iotests

MESSAGE = "is not written: it is the file '[^']*', which '.*' is read from"


class ConvertOntoSource(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '1M')
        self.io('a', 'write -P 1 0 1M')
        os.link(self.path('a'), self.path('hard'))
        os.symlink('a', self.path('soft'))
        os.mkdir(self.path('dir'))
        self.img('create', '-q', '-f', 'qcow2', '-b', 'a', '-F', self.fmt,
                 'mid')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'mid', '-F', 'qcow2',
                 'top')
        self.names = ('a', 'hard', 'soft', './dir/../a', 'file:a',
                      self.path('a'))
        self.good = self.read_file('a')

    def refused(self, *args):
        self.img_fails(MESSAGE, *args)
        self.assertEqual(self.read_file('a'), self.good)

    def test_itself(self):
        for name in self.names:
            for args in ((), ('-n',), ('-U',), ('-U', '-n'), ('-c',)):
                if args == ('-c',) and self.fmt == 'raw':
                    continue
                self.refused('convert', '-f', self.fmt, '-O', self.fmt, *args,
                             'a', name)

    def test_through_a_chain(self):
        for name in self.names:
            for args in ((), ('-n',), ('-U', '-n')):
                self.refused('convert', '-O', self.fmt, *args, 'top', name)

    def test_one_of_several(self):
        self.create('other', '1M')
        self.refused('convert', '-f', self.fmt, '-O', self.fmt, 'other', 'a',
                     'hard')

    def test_descriptions(self):
        opts = f'driver={self.fmt},file.filename='
        plain = json.dumps({'driver': self.fmt, 'file': {
            'driver': 'file', 'filename': 'hard'}})
        for source in (('a',), ('top',), (f'json:{plain}',),
                       ('--image-opts', opts + 'soft')):
            self.refused('convert', '-n', '--target-image-opts', '-U', *source,
                         opts + 'hard')
            self.refused('convert', '-n', '-O', self.fmt, '-U', *source,
                         f'json:{plain}')
        for lock in 'on', 'off':
            self.refused('convert', '--image-opts', '-O', self.fmt,
                         f'{opts}a,file.locking={lock}', 'hard')

    def test_dd(self):
        for name in self.names:
            self.refused('dd', '-f', self.fmt, '-O', self.fmt, 'if=a',
                         f'of={name}')
            self.refused('dd', '-U', '-f', self.fmt, '-O', self.fmt, 'if=a',
                         f'of={name}', 'count=1')
        self.refused('dd', '-O', 'raw', 'if=top', 'of=hard')

    def test_data_files(self):
        if self.fmt != 'raw':
            return
        self.refused('convert', '-f', 'raw', '-O', 'qcow2', '-U', '-o',
                     'data_file=hard', 'a', 'new')
        self.assertFalse(os.path.exists(self.path('new')))
        self.img('create', '-q', '-f', 'qcow2', '-o',
                 'data_file=data,data_file_raw=on', 'image', '1M')
        self.io('image', 'write -P 5 0 1M', fmt='qcow2')
        # Of the source; and of a target, as its header says.
        self.img_fails(MESSAGE, 'convert', '-O', 'raw', '-U', 'image', 'data')
        self.img_fails(MESSAGE, 'convert', '-f', 'raw', '-O', 'qcow2', '-n',
                       '-U', 'data', 'image')
        self.assertEqual(self.read_file('data'), b'\5' * (1 << 20))

    def test_what_is_allowed(self):
        """Another file, one that is not there yet, and a backing file of the
        target that is the source's, too."""
        self.img('convert', '-O', self.fmt, 'top', 'new')
        self.assert_same('top', 'new', a_fmt='qcow2', b_fmt=self.fmt)
        self.img('convert', '-O', 'qcow2', '-B', 'mid', '-F', 'qcow2', 'top',
                 'new2')
        self.img('convert', '-O', 'qcow2', '-n', '-B', 'mid', '-F', 'qcow2',
                 'top', 'new2')
        self.assertEqual(self.read_file('a'), self.good)


if __name__ == '__main__':
    iotests.main()
