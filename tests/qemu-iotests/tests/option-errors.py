#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""A wrong option is an error that names the option or the value, wherever it
is written."""
import json

import iotests


class OptionErrors(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.img('create', '-q', '-f', 'qcow2', 'a.qcow2', '1M')
        self.img('create', '-q', '-f', 'raw', 'a.raw', '1M')

    def test_creation_options(self):
        for option, message in (('bogus=1', 'bogus'),
                                ('cluster_size=abc', 'cluster_size'),
                                ('lazy_refcounts=2', 'lazy_refcounts'),
                                ('refcount_bits=x', 'refcount_bits'),
                                ('compat=9', '9'),
                                ('preallocation=nope', 'nope'),
                                ('compression_type=lzma', 'lzma')):
            for command in (['create', '-f', 'qcow2', '-o', option, 'b', '1M'],
                            ['convert', '-f', 'raw', '-O', 'qcow2', '-o',
                             option, 'a.raw', 'b']):
                with self.subTest(f'{command[0]} {option}'):
                    self.img_fails(message, *command)

    def test_raw_has_few(self):
        self.img_fails('cluster_size', 'create', '-f', 'raw', '-o',
                       'cluster_size=4k', 'b', '1M')

    def test_option_lists(self):
        for text in (',a=b', 'compat=1.1,'):
            with self.subTest(text):
                self.img_fails('Invalid option list', 'create', '-f', 'qcow2',
                               '-o', text, 'b', '1M')

    def test_option_strings(self):
        file = 'file.driver=file,file.filename=a.qcow2'
        for text, message in ((f'driver=qcow2,{file},bogus=1', 'bogus'),
                              (f'driver=nope,{file}', 'nope'),
                              (f'driver=qcow2,{file},l2-cache-size=7x',
                               'l2-cache-size'),
                              (f'driver=qcow2,{file},read-only=maybe',
                               'read-only'),
                              (f'driver=qcow2,{file},file.locking=nope',
                               'nope'),
                              (f'driver=qcow2,{file},file.bogus=1', 'bogus'),
                              ('driver=raw,file.driver=file', 'file ?name'),
                              ('driver=raw,file=missing', 'missing')):
            with self.subTest(text):
                self.img_fails(message, 'info', '--image-opts', text)

    def test_json_names(self):
        file = {'driver': 'file', 'filename': 'a.qcow2'}
        for tree, message in (
                ({'driver': 'qcow2', 'file': file, 'bogus': 1}, 'bogus'),
                ({'driver': 'nope', 'file': file}, 'nope'),
                ({'driver': 'raw', 'file': file, 'offset': 'x'}, 'offset'),
                ({'driver': 'raw', 'file': file, 'offset': []}, 'offset'),
                ({'driver': 'qcow2', 'file': dict(file, aio='x')}, "x|aio"),
                ({'driver': 'qcow2', 'file': dict(file, extra={})}, 'extra'),
                ({'driver': 'null-co', 'size': -1}, 'size')):
            with self.subTest(json.dumps(tree)):
                self.img_fails(message, 'info', 'json:' + json.dumps(tree))

    def test_json_that_is_none(self):
        for text in ('json:', 'json:{', 'json:[]', 'json:7', 'json:{"a":}',
                     'json:{"driver":"raw"} x', 'json:' + '[' * 5000):
            with self.subTest(text[:30]):
                self.img_fails('JSON|json', 'info', text)

    def test_both_ways_of_naming_a_format(self):
        self.img_fails('.', 'info', '--image-opts', '-f', 'qcow2',
                       'driver=qcow2,file.filename=a.qcow2')

    def test_cache_modes(self):
        for command in (['convert', '-t', 'nope', 'a.raw', 'b'],
                        ['convert', '-T', 'nope', 'a.raw', 'b'],
                        ['compare', '-T', 'nope', 'a.raw', 'a.raw'],
                        ['check', '-T', 'nope', 'a.qcow2']):
            with self.subTest(' '.join(command)):
                result = self.img(*command, rc=None)
                self.assertNotEqual(result.rc, 0)
                self.assertRegex(result.stderr, 'nope|cache')

    def test_numbers(self):
        for command in (['convert', '-m', '0', 'a.raw', 'b'],
                        ['convert', '-m', '17', 'a.raw', 'b'],
                        ['convert', '-m', 'x', 'a.raw', 'b'],
                        ['convert', '-S', 'x', 'a.raw', 'b'],
                        ['convert', '-S', '1000', 'a.raw', 'b'],
                        ['convert', '-S', '1G', 'a.raw', 'b'],
                        ['map', '-s', 'x', 'a.raw'],
                        ['resize', '-f', 'raw', 'a.raw', 'x'],
                        ['map', '--output=xml', 'a.raw'],
                        ['info', '--output=xml', 'a.raw'],
                        ['check', '-r', 'some', 'a.qcow2']):
            with self.subTest(' '.join(command)):
                self.img_fails('.', *command)


if __name__ == '__main__':
    iotests.main()
