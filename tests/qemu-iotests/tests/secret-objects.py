#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: any
"""Secrets as objects of every program: the forms that they come in, and what is
refused."""
import iotests

KEY = 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY='     # 32 bytes
IV = 'MDEyMzQ1Njc4OWFiY2RlZg=='                          # 16 bytes
MASTER = f'secret,id=k,data={KEY},format=base64'
# 'abc', encrypted with both.
ENCRYPTED = '8i/78fXGKXul18RKAZ88kw=='

GOOD = (
    ('secret,id=s,data=abc',),
    ('secret,id=s,data=YWJj,format=base64',),
    ('secret,id=s,data=,format=base64',),
    ('secret,id=s,data=Y,format=base64',),
    ('secret,id=s,file=pass',),
    ('{"qom-type":"secret","id":"s","data":"abc"}',),
    # Without a key the IV is for nothing.
    ('secret,id=s,data=abc,iv=k',),
    (MASTER, f'secret,id=s,data={ENCRYPTED},format=base64,keyid=k,iv={IV}'),
)
BAD = (
    ("Either 'file' or 'data' must be provided", 'secret,id=s'),
    ("'file' and 'data' are mutually exclusive", 'secret,id=s,data=a,file=b'),
    ("Parameter 'id' is missing", 'secret,data=a'),
    ('Unable to read none: Failed to open file .none.: No such file or '
     'directory', 'secret,id=s,file=none'),
    ('Base64 data contains invalid characters',
     'secret,id=s,data=a!!c,format=base64'),
    ("Parameter 'format' does not accept value 'bas'",
     'secret,id=s,data=a,format=bas'),
    ("No secret with id 'k'", 'secret,id=s,data=abc,keyid=k'),
    ('IV is required to decrypt secret', MASTER,
     'secret,id=s,data=abc,keyid=k'),
    ('IV should be 16 bytes in length not 3', MASTER,
     'secret,id=s,data=abc,keyid=k,iv=YWJj'),
    ('Length 3 must be a multiple of block size 16', MASTER,
     f'secret,id=s,data=abc,keyid=k,iv={IV}'),
    (r'Incorrect number of padding bytes \(122\) found on decrypted data',
     MASTER, f'secret,id=s,data={IV},format=base64,keyid=k,iv={IV}'),
    ('Key should be 32 bytes in length', 'secret,id=k,data=short',
     f'secret,id=s,data={IV},format=base64,keyid=k,iv={IV}'),
    ('Unable to read serial key 00000001: ', 'secret_keyring,id=s,serial=1'),
)


class Secrets(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.write_file('pass', b'abc')
        self.write_file('image', bytes(512))

    def options(self, objects):
        return [o for text in objects for o in ('--object', text)]

    def succeeds(self, *args):
        """With ours, and with the distribution's if it is there."""
        self.img(*args)
        if iotests.tools.ref_img():
            self.ref(*args)

    def fails(self, message, *args):
        self.img_fails(message, *args)
        if iotests.tools.ref_img():
            self.assertRegex(self.ref(*args, rc=1).stderr, message)

    def test_good(self):
        for objects in GOOD:
            with self.subTest(objects):
                self.succeeds('info', '-f', 'raw', *self.options(objects),
                              'image')

    def test_bad(self):
        for message, *objects in BAD:
            with self.subTest(objects):
                self.fails(message, 'info', '-f', 'raw',
                           *self.options(objects), 'image')

    def test_not_a_secret(self):
        self.img_fails("Object with id 'g' is not a secret", 'info', '-f',
                       'raw', '--object', 'throttle-group,id=g', '--object',
                       f'secret,id=s,data=abc,keyid=g,iv={IV}', 'image')

    def test_every_command(self):
        o = self.options(('secret,id=s,data=abc',))
        self.write_file('b', bytes(512))
        for args in (
                ('info', *o, 'image'), ('map', *o, '-f', 'raw', 'image'),
                ('bench', *o, '-f', 'raw', '-c', '1', '-s', '512', 'image'),
                ('compare', *o, 'image', 'b'),
                ('convert', *o, '-O', 'raw', 'image', 'c'),
                ('create', *o, '-f', 'qcow2', 'q', '1M'), ('check', *o, 'q'),
                ('measure', *o, '-O', 'raw', '--size', '1M'),
                ('resize', *o, '-f', 'raw', 'image', '1M'),
                ('snapshot', *o, '-c', 'x', 'q'),
                ('bitmap', *o, '--add', 'q', 'x'),
                ('create', '-q', '-f', 'qcow2', '-b', 'q', '-F', 'qcow2', 'r'),
                ('rebase', *o, '-b', '', 'r'), ('commit', *o, 'r')):
            with self.subTest(args[0]):
                # commit comes last, without a backing file.
                self.img(*args, rc=1 if args[0] == 'commit' else 0)
                with self.subTest('refused'):
                    bad = [a.replace('data=', 'dat=') for a in args]
                    if bad != list(args):
                        self.img_fails("'(dat|data)'", *bad,
                                       rc=2 if args[0] == 'compare' else 1)

    def test_qemu_io(self):
        self.io('image', 'read 0 512', fmt='raw',
                options=self.options(('secret,id=s,data=abc',)))
        self.io_fails("Either 'file' or 'data'", 'image', 'read 0 512',
                      fmt='raw', options=self.options(('secret,id=s',)))

    def test_daemon(self):
        daemon = self.daemon('--object', 'secret,id=s,data=abc')
        qmp = daemon.connect()
        qmp.cmd('object-add', {'qom-type': 'secret', 'id': 't',
                               'data': 'YWJj', 'format': 'base64'})
        self.qmp_fails("duplicate property 's'", qmp, 'object-add',
                       {'qom-type': 'secret', 'id': 's', 'data': ''})
        self.qmp_fails('Base64 data contains invalid', qmp, 'object-add',
                       {'qom-type': 'secret', 'id': 'u', 'data': '*',
                        'format': 'base64'})
        qmp.cmd('object-del', {'id': 's'})
        qmp.cmd('object-del', {'id': 't'})
        self.qmp_fails("object 't' not found", qmp, 'object-del', {'id': 't'})


if __name__ == '__main__':
    iotests.main()
