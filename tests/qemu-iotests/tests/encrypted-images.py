#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
# parts: 3
"""Encrypted images, as format luks and inside qcow2: each side reads what the
other has written, passphrases come and go, and what is wrong is told."""
import re

import iotests
from iotests import LONG

SECRETS = [word for name, data in (('s', 'abc'), ('w', 'wrong'), ('n', 'new'))
           for word in ('--object', f'secret,id={name},data={data}')]
INVALID = 'Invalid password, cannot unlock any keyslot'


class Encrypted(iotests.TestCase):
    KINDS = ('luks', 'qcow2 luks', 'qcow2 aes')

    def make(self, img, kind, name, size='8M', more='', secret='s', base=None):
        if kind == 'luks':
            fmt, options = 'luks', f'key-secret={secret},iter-time=10' + more
        else:
            fmt = 'qcow2'
            options = f'encrypt.format={kind[6:]},encrypt.key-secret={secret}'
            if kind == 'qcow2 luks':
                options += ',encrypt.iter-time=10' + more.replace(
                    ',', ',encrypt.')
        backing = ['-b', base, '-F', 'raw'] if base else []
        args = ['create', '-q', '-f', fmt, *SECRETS, '-o', options, *backing,
                name, *([] if base else [size])]
        for time in (10, 10, 100, 500, 2000):
            result = img(*[arg.replace('-time=10', f'-time={time}')
                           for arg in args], rc=None)
            # QEMU measures, and gives up on a busy machine.
            if 'accurate CPU usage' not in result.stderr:
                break
        self.assertEqual(result.rc, 0, result.describe())

    @staticmethod
    def opts(kind, name, secret='s'):
        if kind == 'luks':
            return f'driver=luks,key-secret={secret},file.filename={name}'
        return f'driver=qcow2,encrypt.key-secret={secret},file.filename={name}'

    def run_io(self, io, kind, name, *commands, secret='s', **kwargs):
        io(self.opts(kind, name, secret), *commands, fmt=None,
           options=[*SECRETS, '--image-opts'], **kwargs)

    # --- data ---

    def both_ways(self, kind, more=''):
        """Each side makes an image and writes; the other reads and goes on."""
        for img, one, other in ((self.img, self.io, self.ref_io),
                                (self.ref, self.ref_io, self.io)):
            self.make(img, kind, 'a', more=more)
            self.run_io(one, kind, 'a', 'write -P 5 0 3M',
                        'write -P 6 4000k 1000', 'write -P 7 6000k 300k')
            self.run_io(other, kind, 'a', 'read -P 5 0 3M',
                        'read -P 6 4000k 1000', 'read -P 7 6000k 300k',
                        'write -P 8 100k 70000', 'write -P 9 5M 700k',
                        'write -z 1M 64k')
            self.run_io(one, kind, 'a', 'read -P 5 0 100k',
                        'read -P 8 100k 70000', 'read -P 9 5M 700k',
                        'read -P 0 1M 64k', 'read -P 5 1088k 1M')
            if kind != 'luks':
                for check in (self.img, self.ref):
                    check('check', *SECRETS, '--image-opts',
                          self.opts(kind, 'a'))

    def test_both_ways(self):
        self.need_reference()
        for kind in self.KINDS:
            with self.subTest(kind):
                self.both_ways(kind)

    def test_algorithms(self):
        self.need_reference()
        shapes = (',cipher-alg=aes-128,cipher-mode=cbc',
                  ',cipher-alg=aes-192,hash-alg=sha512',
                  ',cipher-mode=cbc,ivgen-alg=essiv,hash-alg=sha1',
                  ',ivgen-alg=plain,hash-alg=ripemd160',
                  ',cipher-alg=serpent-256', ',cipher-mode=ecb',
                  ',cipher-alg=twofish-256,cipher-mode=cbc,ivgen-alg=essiv')
        # QEMU takes seconds to make one.
        for more in shapes if LONG else self.rng().sample(shapes, 2):
            with self.subTest(more):
                self.both_ways('luks', more)

    def test_odd_key_length(self):
        """96,000 bytes of stripes are no whole sectors (QEMU 7.2 aborts)."""
        self.make(self.img, 'luks', 'a', more=',cipher-alg=aes-192,'
                                              'cipher-mode=cbc')
        self.run_io(self.io, 'luks', 'a', 'write -P 3 0 1M')
        self.run_io(self.io, 'luks', 'a', 'read -P 3 0 1M', 'read 1M 1M')

    def test_nothing_shows(self):
        for kind in self.KINDS:
            self.make(self.img, kind, 'a')
            self.run_io(self.io, kind, 'a', 'write -P 0x41 0 1M',
                        'write -P 0x41 2M 3k')
            if kind != 'luks':
                self.run_io(self.io, kind, 'a', 'write -c -P 0x41 3M 64k')
            self.assertNotIn(b'A' * 64, self.read_file('a'), kind)

    def test_copy_offloading(self):
        """The kernel would copy what is encrypted."""
        for kind in self.KINDS:
            self.make(self.img, kind, 'a')
            self.run_io(self.io, kind, 'a', 'write -P 0x41 0 1M')
            self.img('convert', '-C', *SECRETS, '-O', 'raw', '--image-opts',
                     self.opts(kind, 'a'), 'copy')
            self.io('copy', 'read -P 0x41 0 1M', fmt='raw')

    def test_backing_file(self):
        self.img('create', '-q', '-f', 'raw', 'base', '4M')
        self.io('base', 'write -P 1 0 4M', fmt='raw')
        for kind in ('qcow2 luks', 'qcow2 aes'):
            self.make(self.img, kind, 'a', base='base')
            self.run_io(self.io, kind, 'a', 'write -P 2 100k 1k',
                        'write -P 3 1M 500k', 'write -z 2M 64k')
            for io in (self.io, self.ref_io):
                self.run_io(io, kind, 'a', 'read -P 1 0 100k',
                            'read -P 2 100k 1k', 'read -P 1 101k 500k',
                            'read -P 3 1M 500k', 'read -P 0 2M 64k')

    def test_snapshots(self):
        self.make(self.img, 'qcow2 luks', 'a')
        opts = ['--image-opts', self.opts('qcow2 luks', 'a')]
        self.run_io(self.io, 'qcow2 luks', 'a', 'write -P 1 0 1M')
        self.img('snapshot', *SECRETS, '-c', 'x', *opts)
        self.run_io(self.io, 'qcow2 luks', 'a', 'write -P 2 30k 50k')
        self.img('snapshot', *SECRETS, '-a', 'x', *opts)
        self.run_io(self.io, 'qcow2 luks', 'a', 'read -P 1 0 1M')
        self.img('resize', '-q', *SECRETS, *opts, '9M')
        self.img('check', *SECRETS, *opts)

    def test_convert(self):
        self.img('create', '-q', '-f', 'raw', 'raw', '4M')
        self.io('raw', 'write -P 1 100k 1M', 'write -P 2 3M 10k', fmt='raw')
        for kind, fmt, options in (
                ('luks', 'luks', 'key-secret=s,iter-time=10'),
                ('qcow2 luks', 'qcow2', 'encrypt.format=luks,encrypt.key-'
                 'secret=s,encrypt.iter-time=10'),
                ('qcow2 aes', 'qcow2', 'encryption=on,encrypt.key-secret=s')):
            self.img('convert', *SECRETS, '-f', 'raw', '-O', fmt, '-o',
                     options, 'raw', 'a')
            for img in (self.img, self.ref):
                img('compare', *SECRETS, '--image-opts',
                    'driver=raw,file.filename=raw', self.opts(kind, 'a'))
        self.img_fails('Compression and encryption not supported at the same '
                       'time', 'convert', *SECRETS, '-c', '-O', 'qcow2', '-o',
                       'encrypt.format=luks,encrypt.key-secret=s', 'raw', 'b')

    def test_resize(self):
        self.make(self.img, 'luks', 'a')
        self.img('resize', '-q', *SECRETS, '--image-opts',
                 self.opts('luks', 'a'), '12M')
        self.assertEqual(self.img_json('info', 'a')['virtual-size'], 12 << 20)

    # --- what is told ---

    def test_info(self):
        self.need_reference()
        for kind in self.KINDS:
            self.make(self.img, kind, 'a')
            ours, theirs = self.img_json('info', 'a'), self.ref_json('info',
                                                                     'a')
            ours.pop('children')
            self.assertEqual(ours, theirs)
            # Members of objects have no order there.
            self.assertEqual(
                sorted(self.ref('info', 'a').stdout.split('\n')),
                sorted(self.img('info', 'a').stdout.split("Child node")[0]
                       .split('\n')))
        self.make(self.img, 'luks', 'a')
        self.img_fails('encrypted or compressed clusters', 'map', *SECRETS,
                       '--image-opts', self.opts('luks', 'a'))

    def test_measure(self):
        for args in (('luks', '-o', 'key-secret=s'),
                     ('qcow2', '-o', 'encrypt.format=luks,encrypt.key-'
                      'secret=s')):
            args = ('measure', *SECRETS, '-O', *args, '--size', '10M')
            self.assertEqual(self.img(*args).stdout, self.ref(*args).stdout)

    def test_refused(self):
        self.make(self.img, 'luks', 'l')
        self.make(self.img, 'qcow2 luks', 'q')
        self.make(self.img, 'qcow2 aes', 'o')
        for message, opts in (
                (INVALID, self.opts('luks', 'l', 'w')),
                (INVALID, self.opts('qcow2 luks', 'q', 'w')),
                ("No secret with id 'x'", self.opts('luks', 'l', 'x')),
                ("Parameter 'key-secret' is required for cipher",
                 'driver=luks,file.filename=l'),
                ("Parameter 'encrypt.key-secret' is required for cipher",
                 'driver=qcow2,file.filename=q'),
                ("Header reported 'luks' encryption format but options "
                 "specify 'aes'", 'encrypt.format=aes,' +
                 self.opts('qcow2 luks', 'q')),
                ("Header reported 'aes' encryption format but options "
                 "specify 'luks'", 'encrypt.format=luks,' +
                 self.opts('qcow2 aes', 'o'))):
            for fails in (self.img, self.ref):
                result = fails('map', *SECRETS, '--image-opts', opts, rc=1)
                self.assertIn(message, result.stderr)
        self.img('info', 'q')

    def test_create_refused(self):
        for fmt, options, message in (
                ('luks', 'iter-time=10', "'key-secret' is required"),
                ('luks', 'key-secret=x', "No secret with id 'x'"),
                ('luks', 'key-secret=s,cipher-alg=foo',
                 "'cipher-alg' does not accept value 'foo'"),
                ('luks', 'key-secret=s,cipher-mode=cbc,ivgen-alg=essiv,'
                 'ivgen-hash-alg=sha1', 'key size 20 available'),
                ('qcow2', 'encrypt.key-secret=s',
                 "Parameter 'encrypt.format' is missing"),
                ('qcow2', 'encrypt.format=luks',
                 "'encrypt.key-secret' is required"),
                ('qcow2', 'encrypt.format=luks,encryption=on',
                 "its alias 'encryption' can't be used"),
                ('qcow2', 'encrypt.format=aes,encrypt.key-secret=s,'
                 'encrypt.cipher-alg=aes-128',
                 "Parameter 'encrypt.cipher-alg' is unexpected")):
            for img in (self.img, self.ref):
                result = img('create', '-f', fmt, *SECRETS, '-o', options, 'a',
                             '1M', rc=1)
                self.assertIn(message, result.stderr)

    # --- passphrases ---

    def slots(self, name):
        data = self.img_json('info', name)['format-specific']['data']
        data = data.get('encrypt', data)
        return ''.join('x' if s['active'] else '.' for s in data['slots'])

    def amend(self, kind, options, message=None, secret='s', force=False):
        if kind != 'luks':
            options = ','.join('encrypt.' + o for o in options.split(','))
        args = ['amend', *SECRETS, *(['--force'] if force else []), '-o',
                options, '--image-opts', self.opts(kind, 'a', secret)]
        if not message:
            return self.img(*args)
        before = self.read_file('a')
        self.img_fails(re.escape(message), *args)
        self.assertEqual(self.read_file('a'), before)
        return self.assertIn(message, self.ref(*args, rc=1).stderr)

    def test_keyslots(self):
        for kind in ('luks', 'qcow2 luks'):
            self.make(self.img, kind, 'a')
            self.run_io(self.io, kind, 'a', 'write -P 4 0 1M')
            self.amend(kind, 'state=active,new-secret=n,iter-time=10')
            self.amend(kind, 'state=active,new-secret=n,iter-time=10,'
                       'keyslot=5')
            self.assertEqual(self.slots('a'), 'xx...x..')
            for options, message in (
                    ('new-secret=n', "Parameter 'state' is missing"),
                    ('state=active', "'new-secret' is required to activate"),
                    ('state=active,new-secret=n,keyslot=0', 'Refusing to '
                     'overwrite active keyslot 0 - please erase it first'),
                    ('state=active,new-secret=n,keyslot=8', 'Invalid keyslot '
                     '8 specified, must be between 0 and 7'),
                    ('state=active,new-secret=n,old-secret=s', "'old-secret' "
                     'must not be given when activating keyslots'),
                    ('state=inactive', 'To erase keyslot(s), either explicit'),
                    ('state=inactive,keyslot=3', 'Given keyslot 3 is already '
                     'erased (inactive)'),
                    ('state=inactive,keyslot=5,old-secret=w', 'Given keyslot '
                     "5 doesn't contain the given old password"),
                    ('state=inactive,old-secret=w', 'No keyslots match given'),
                    ('state=inactive,keyslot=5,new-secret=n', "'new-secret' "
                     'must not be given when erasing keyslots'),
                    ('state=inactive,keyslot=5,iter-time=1', "'iter-time' "
                     'must not be given when erasing keyslots')):
                self.amend(kind, options, message)
            for io in (self.io, self.ref_io):
                self.run_io(io, kind, 'a', 'read -P 4 0 1M', secret='n')
            self.amend(kind, 'state=inactive,old-secret=s')
            self.assertEqual(self.slots('a'), '.x...x..')
            self.run_io(self.ref_io, kind, 'a', 'read -P 4 0 1M', secret='n')
            self.img_fails(INVALID, 'map', *SECRETS, '--image-opts',
                           self.opts(kind, 'a'))
            self.amend(kind, 'state=inactive,old-secret=n', 'All the active '
                       'keyslots match the (old) password', secret='n')
            self.amend(kind, 'state=inactive,keyslot=5', secret='n')
            self.amend(kind, 'state=inactive,keyslot=1', 'Attempt to erase '
                       'the only active keyslot 1', secret='n')
            self.amend(kind, 'state=active,new-secret=s,iter-time=10,'
                       'keyslot=1', secret='n', force=True)
            self.run_io(self.ref_io, kind, 'a', 'read -P 4 0 1M')
            self.amend(kind, 'state=inactive,keyslot=1', force=True)
            self.assertEqual(self.slots('a'), '........')

    # --- damage ---

    def test_hostile_header(self):
        """Offset, new value, and what is said; nobody waits for it."""
        self.make(self.img, 'luks', 'a')
        self.make(self.img, 'qcow2 luks', 'q')
        at = self.read_file('q').index(b'LUKS\xba\xbe')
        slot0, slot1 = 208, 256
        for name, base in (('a', 0), ('q', at)):
            for offset, value, message in (
                    (6, b'\0\2', 'LUKS version 2 is not supported|'
                     'Could not|raw'),
                    (8, b'foo\0', "Algorithm 'foo' with key size"),
                    (40, b'xyz-plain64\0', "Algorithm 'xyz' not supported"),
                    (40, b'xts\0', 'Unexpected cipher mode string'),
                    (40, b'cbc-essiv\0', 'Missing IV generator hash'),
                    (72, b'sha3\0', "Hash algorithm 'sha3' not supported"),
                    (104, b'\0\0\0\x08', 'overlapping with the encrypted'),
                    (108, b'\xff\xff\xff\xff', 'key size 4294967295'),
                    (164, b'\xff\xff\xff\xff', 'iterations of the master'),
                    (164, b'\0\0\0\0', 'iterations of the master'),
                    (slot0, b'\1\2\3\4', 'Keyslot 0 state is invalid'),
                    (slot0 + 4, b'\xff\xff\xff\xff', 'Keyslot 0 is corrupted'),
                    (slot0 + 4, b'\0\0\0\0', 'Keyslot 0 is corrupted'),
                    (slot0 + 40, b'\0\0\0\0', 'overlapping with the LUKS'),
                    (slot1 + 40, b'\0\0\0\x10', 'Keyslots 0 and 1 are over'),
                    (slot1 + 40, b'\xff\xff\xff\xff', 'with the encrypted'),
                    (slot1 + 44, b'\xff\xff\xff\xff', 'Keyslot 1 is corrupte'),
                    (slot1 + 44, b'\0\0\0\0', 'Keyslot 1 is corrupted')):
                old = self.read_file(name, base + offset, len(value))
                self.patch_file(name, base + offset, value)
                fmt = 'luks' if name == 'a' else 'qcow2'
                with self.subTest(f'{name} {offset} {value}'):
                    self.img_fails(message, 'info', '-f', fmt, name)
                self.patch_file(name, base + offset, old)
        self.img('info', 'a')
        self.img('info', 'q')

    def test_short_file(self):
        self.make(self.img, 'luks', 'a')
        for length in (0, 100, 592, 5000, 1 << 20):
            self.write_file('b', self.read_file('a', 0, length))
            self.img('map', '-f', 'luks', *SECRETS, '--image-opts',
                     self.opts('luks', 'b'), rc=1)


if __name__ == '__main__':
    iotests.main()
