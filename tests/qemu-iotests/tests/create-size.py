#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw qcow2
"""The size of a new image: suffixes, rounding, and what is refused."""
import iotests


class CreateSize(iotests.TestCase):
    def size_of(self, *args):
        self.create('a', *args)
        return self.img_json('info', '-f', self.fmt, 'a')['virtual-size']

    def test_suffixes(self):
        for text, size in (('512', 512), ('3k', 3 << 10), ('3K', 3 << 10),
                           ('5M', 5 << 20), ('2G', 2 << 30), ('1T', 1 << 40),
                           ('1.5M', 3 << 19), ('0x100000', 1 << 20),
                           ('0', 0)):
            with self.subTest(text):
                self.assertEqual(self.size_of(text), size)

    def test_rounds_up_to_a_sector(self):
        self.assertEqual(self.size_of('1'), 512)
        self.assertEqual(self.size_of('1000000'), 1000448)

    def test_size_as_an_option(self):
        self.assertEqual(self.size_of('-o', 'size=7M'), 7 << 20)

    def test_message(self):
        out = self.img('create', '-f', self.fmt, 'a', '1M').stdout
        self.assertRegex(out, f"^Formatting 'a', fmt={self.fmt} .*size=1048576")
        self.assertEqual(
            self.img('create', '-q', '-f', self.fmt, 'a', '1M').stdout, '')

    def test_size_is_needed(self):
        self.img_fails('Image creation needs a size parameter',
                       'create', '-f', self.fmt, 'a')

    def test_bad_sizes(self):
        for text in ('x', '1Q', '1M2', '', '1e1'):
            with self.subTest(text):
                self.img_fails('[Ss]ize', 'create', '-f', self.fmt, 'a', text)
        self.img_fails('.', 'create', '-f', self.fmt, 'a', '-1')

    def test_too_large(self):
        for text in ('8E', '16E', '9223372036854775807'):
            with self.subTest(text):
                self.img_fails('.', 'create', '-f', self.fmt, 'a', text)

    def test_format_unknown(self):
        self.img_fails("Unknown file format 'nope'",
                       'create', '-f', 'nope', 'a', '1M')

    def test_directory_missing(self):
        self.img_fails('none/a.*No such file or directory',
                       'create', '-f', self.fmt, 'none/a', '1M')


if __name__ == '__main__':
    iotests.main()
