#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""How an image is named: paths, prefixes, json: trees, option strings; and how
a node names itself in turn."""
import json
import os

import iotests


class ImageNames(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.img('create', '-q', '-f', 'qcow2', 'a', '1M')
        self.io('a', 'write -P 1 0 64k', fmt='qcow2')

    def name(self, *args):
        return self.img_json('info', *args)['filename']

    def test_plain_names(self):
        self.assertEqual(self.name('a'), 'a')
        self.assertEqual(self.name('file:a'), 'a')
        self.assertEqual(self.name(self.path('a')), self.path('a'))

    def test_options_that_say_no_more_than_a_path(self):
        tree = {'driver': 'qcow2', 'file': {'driver': 'file', 'filename': 'a'}}
        self.assertEqual(self.name('json:' + json.dumps(tree)), 'a')
        self.assertEqual(self.name('json:{"driver":"qcow2",'
                                   '"file.filename":"a"}'), 'a')
        self.assertEqual(self.name('--image-opts',
                                   'driver=qcow2,file.filename=a'), 'a')

    def test_single_quotes(self):
        self.assertEqual(self.name("json:{'driver':'qcow2',"
                                   "'file':{'driver':'file','filename':'a'}}"),
                         'a')

    def test_options_that_matter_are_kept(self):
        name = self.name('json:{"driver":"raw","offset":65536,"size":65536,'
                         '"file":{"driver":"file","filename":"a"}}')
        self.assertTrue(name.startswith('json:'), name)
        tree = json.loads(name[len('json:'):])
        self.assertEqual(tree['driver'], 'raw')
        self.assertEqual(int(tree['offset']), 65536)
        self.assertEqual(tree['file'], {'driver': 'file', 'filename': 'a'})
        # And the name opens the same thing again.
        again = self.img_json('info', name)
        self.assertEqual(again['virtual-size'], 65536)

    def test_colons(self):
        os.rename(self.path('a'), self.path('x:y'))
        self.img_fails("Unknown protocol 'x'", 'info', 'x:y')
        self.assertEqual(self.name('./x:y'), './x:y')
        self.assertEqual(self.name('file:x:y'), './x:y')
        self.img('info', '--image-opts', 'driver=qcow2,file.filename=x:y')

    def test_commas_in_option_strings(self):
        os.rename(self.path('a'), self.path('b,c'))
        self.img('info', '--image-opts', 'driver=qcow2,file.filename=b,,c')

    def test_protocol_without_a_file(self):
        info = self.img_json('info', 'null-co://')
        self.assertEqual(info['filename'], 'null-co://')
        self.assertEqual(info['virtual-size'], 1 << 30)
        info = self.img_json('info', 'json:{"driver":"null-co","size":65536}')
        self.assertEqual(info['virtual-size'], 65536)
        self.assertEqual(info['format'], 'null-co')

    def test_protocol_as_image(self):
        info = self.img_json('info', 'json:{"driver":"file","filename":"a"}')
        self.assertEqual(info['format'], 'file')
        self.assertEqual(info['virtual-size'], os.path.getsize(self.path('a')))

    def test_what_is_no_image(self):
        os.mkfifo(self.path('fifo'))
        os.mkdir(self.path('dir'))
        for name, message in (('none', 'No such file or directory'),
                              ('dir', 'regular file|directory'),
                              ('', 'file ?name'),
                              ('nbd+x://a', "Unknown protocol 'nbd\\+x'"),
                              ('json:{"driver":"file"}', 'file ?name'),
                              ('fifo', 'regular file')):
            with self.subTest(name):
                self.img_fails(message, 'info', name)

    def test_concatenated(self):
        self.write_file('r1', b'\1' * 4096)
        self.write_file('r2', b'\2' * 8192)
        tree = {'driver': 'concat', 'files': [
            {'driver': 'raw', 'file': {'driver': 'file', 'filename': 'r1'}},
            {'driver': 'raw', 'file': {'driver': 'file', 'filename': 'r2'}}]}
        name = 'json:' + json.dumps(tree)
        self.assertEqual(self.img_json('info', name)['virtual-size'], 12288)
        self.io(name, 'read -P 1 0 4k', 'read -P 2 4k 8k',
                'write -P 3 2k 4k', 'read -P 1 0 2k', 'read -P 3 2k 4k',
                'read -P 2 6k 6k', fmt=None)
        self.assertEqual(self.read_file('r1'), b'\1' * 2048 + b'\3' * 2048)
        self.assertEqual(self.read_file('r2'), b'\3' * 2048 + b'\2' * 6144)

    def test_window_of_a_raw_file(self):
        self.write_file('r', bytes(range(256)) * 16)
        name = ('driver=raw,offset=512,size=1024,file.driver=file,'
                'file.filename=r')
        self.img('convert', '--image-opts', '-O', 'raw', name, 'out')
        self.assertEqual(self.read_file('out'), bytes(range(256)) * 4)
        self.img_fails('.', 'info', '--image-opts',
                       'driver=raw,offset=4k,size=1024,file.filename=r')
        self.img_fails('.', 'info', '--image-opts',
                       'driver=raw,size=1000,file.filename=r')

    def test_injected_errors(self):
        name = ('json:{"driver":"qcow2","file":{"driver":"blkdebug",'
                '"inject-error":[{"event":"read_aio","errno":28,"once":true}],'
                '"image":{"driver":"file","filename":"a"}}}')
        result = self.io(name, 'read 0 4k', 'read -P 1 0 4k', fmt=None, rc=1)
        out = result.stdout + result.stderr
        self.assertIn('read failed: No space left on device', out)
        self.assertIn('read 4096/4096', out)

    def test_states_of_blkdebug(self):
        name = ('json:{"driver":"qcow2","file":{"driver":"blkdebug",'
                '"set-state":[{"event":"write_aio","new_state":2}],'
                '"inject-error":[{"event":"read_aio","state":2}],'
                '"image":{"driver":"file","filename":"a"}}}')
        result = self.io(name, 'read -P 1 0 4k', 'write 0 4k', 'read 0 4k',
                         fmt=None, rc=1)
        out = result.stdout + result.stderr
        self.assertEqual(out.count('read failed: Input/output error'), 1)
        self.assertEqual(out.count('read 4096/4096'), 1)

    def test_blkdebug_without_a_prefix(self):
        """The name is the image's, with its own prefix or none."""
        os.rename(self.path('a'), self.path('x:y'))
        for name in './x:y', 'file:x:y', 'blkdebug::./x:y':
            self.io(None, f'open -o file.driver=blkdebug {name}',
                    'read -P 1 0 64k', fmt=None)
        for name, message in (('x:y', "Unknown protocol 'x'"),
                              ('blkdebug:y', 'blkdebug requires both config '
                                             'file and image path')):
            result = self.io(None, f'open -o file.driver=blkdebug {name}',
                             fmt=None, rc=None)
            self.assertIn(message, result.stdout + result.stderr)

    def test_blkdebug_configuration_file(self):
        self.write_file('conf', b'[inject-error]\nevent = "read_aio"\n'
                                b'errno = "5"\nonce = "on"\n')
        result = self.io('blkdebug:conf:a', 'read 0 4k', 'read -P 1 0 4k',
                         fmt='qcow2', rc=1)
        out = result.stdout + result.stderr
        self.assertIn('read failed: Input/output error', out)
        self.assertIn('read 4096/4096', out)
        self.img_fails('none', 'info', 'blkdebug:none:a')


if __name__ == '__main__':
    iotests.main()
