#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick snapshot
# formats: qcow2
"""qemu-img snapshot, convert -l and resize with snapshots."""
import re

import iotests

MIB = 1 << 20


class Snapshots(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '4M')
        self.io('a', 'write -P 1 0 1M')

    def snapshot(self, *args, **kwargs):
        return self.img('snapshot', *args, **kwargs)

    def names(self, image='a'):
        """(id, name) of each, from the human list."""
        lines = self.snapshot('-l', image).stdout.splitlines()
        if lines:
            self.assertEqual(lines[0], 'Snapshot list:')
        return [tuple(line.split()[:2]) for line in lines[2:]]

    def assert_snapshot(self, name, data, image='a'):
        self.img('convert', '-O', 'raw', '-l', name, image, 'snapshot.raw')
        self.assertEqual(self.read_file('snapshot.raw'), data)

    # --- what they do ---

    def test_life(self):
        first = b'\1' * MIB + bytes(3 * MIB)
        second = b'\1' * (MIB // 2) + b'\2' * MIB + bytes(5 * MIB // 2)
        self.assertEqual(self.snapshot('-l', 'a').stdout, '')
        self.snapshot('-c', 'one', 'a')
        self.io('a', 'write -P 2 512k 1M')
        self.snapshot('-c', 'two', 'a')
        self.assertEqual(self.names(), [('1', 'one'), ('2', 'two')])
        self.assert_content('a', second)
        self.assert_clean('a')
        self.snapshot('-a', 'one', 'a')
        self.assert_content('a', first)
        self.io('a', 'write -P 3 0 4M')
        self.assert_snapshot('one', first)
        self.assert_snapshot('two', second)
        self.assert_clean('a')
        self.snapshot('-d', 'one', 'a')
        self.assertEqual(self.names(), [('2', 'two')])
        self.assert_content('a', b'\3' * 4 * MIB)
        self.assert_clean('a')
        self.snapshot('-a', '2', 'a')
        self.assert_content('a', second)
        self.snapshot('-d', 'two', 'a')
        self.assertEqual(self.names(), [])
        self.assert_content('a', second)
        self.assert_clean('a')

    def test_backing_file_stays_below(self):
        self.create('b', '-b', 'a', '-F', 'qcow2')
        self.io('b', 'write -P 5 0 64k')
        self.snapshot('-c', 's', 'b')
        self.io('b', 'write -P 6 0 2M')
        self.snapshot('-a', 's', 'b')
        self.assert_content('b', b'\5' * 65536 + b'\1' * (MIB - 65536)
                            + bytes(3 * MIB))
        self.assert_clean('b')

    def test_empty_disk(self):
        self.create('e', '0')
        self.snapshot('-c', 's', 'e')
        self.snapshot('-a', 's', 'e')
        self.assert_clean('e')
        self.snapshot('-d', 's', 'e')
        self.assert_clean('e')

    # --- sizes ---

    def test_size_belongs_to_the_snapshot(self):
        self.snapshot('-c', 'small', 'a')
        self.img('resize', '-q', 'a', '8M')
        self.io('a', 'write -P 2 5M 1M')
        self.snapshot('-c', 'large', 'a')
        large = (b'\1' * MIB + bytes(4 * MIB) + b'\2' * MIB + bytes(2 * MIB))
        small = b'\1' * MIB + bytes(3 * MIB)
        self.assert_snapshot('small', small)
        self.snapshot('-a', 'small', 'a')
        self.assert_content('a', small)
        self.assert_clean('a')
        # Nothing of what lay behind comes back.
        self.img('resize', '-q', 'a', '8M')
        self.assert_content('a', small + bytes(4 * MIB))
        self.img('resize', '-q', '--shrink', 'a', '1M')
        self.assert_clean('a')
        self.assert_snapshot('large', large)
        self.snapshot('-a', 'large', 'a')
        self.assert_content('a', large)
        self.assert_clean('a')

    def test_version_2_keeps_its_size(self):
        self.img('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'v2',
                 '4M')
        self.snapshot('-c', 's', 'v2')
        self.img_fails("Can't resize a v2 image which has snapshots",
                       'resize', 'v2', '8M')

    # --- names ---

    def test_names_and_ids(self):
        for name in ('x', 'x', '', '1', 'über uns'):
            self.snapshot('-c', name, 'a')
        info = self.img_json('info', 'a')['snapshots']
        self.assertEqual([(s['id'], s['name']) for s in info],
                         [('1', 'x'), ('2', 'x'), ('3', ''), ('4', '1'),
                          ('5', 'über uns')])
        # Deleting goes by name, the first one.
        self.snapshot('-d', '1', 'a')
        self.snapshot('-d', 'x', 'a')
        info = self.img_json('info', 'a')['snapshots']
        self.assertEqual([s['id'] for s in info], ['2', '3', '5'])
        self.img_fails("Could not delete snapshot '2': snapshot not found",
                       'snapshot', '-d', '2', 'a')
        # The next id is one more than the largest.
        self.snapshot('-d', 'über uns', 'a')
        self.snapshot('-c', 'y', 'a')
        info = self.img_json('info', 'a')['snapshots']
        self.assertEqual([s['id'] for s in info], ['2', '3', '4'])

    def test_a_long_name(self):
        self.snapshot('-c', 'n' * 255, 'a')
        self.img_fails('longer than 255', 'snapshot', '-c', 'n' * 256, 'a')
        self.assertEqual(self.names(), [('1', 'n' * 255)])

    def test_convert_by_id_and_name(self):
        self.snapshot('-c', 's', 'a')
        data = b'\1' * MIB + bytes(3 * MIB)
        self.io('a', 'write -P 9 0 4M')
        for name in ('s', '1', 'snapshot.id=1', 'snapshot.name=s',
                     'snapshot.name=s,snapshot.id=1'):
            self.assert_snapshot(name, data)
        for name in ('t', '2', 'snapshot.id=2', 'snapshot.name=1',
                     'snapshot.id=1,snapshot.name=t'):
            self.img_fails("Failed to load snapshot: Can't find snapshot",
                           'convert', '-O', 'raw', '-l', name, 'a', 'out')
        self.img_fails("Invalid parameter 'snapshot.foo'", 'convert', '-O',
                       'raw', '-l', 'snapshot.foo=1', 'a', 'out')

    # --- the command line ---

    def test_refused(self):
        self.img_fails("Cannot mix '-l', '-a', '-c', '-d'", 'snapshot', '-l',
                       '-c', 'x', 'a')
        self.img_fails('Expecting one image file name', 'snapshot', '-l')
        self.img_fails('Expecting one image file name', 'snapshot', '-c', 'x',
                       'a', 'b')
        self.img_fails("missing argument for option '-c'", 'snapshot', '-c')
        self.img_fails("Could not apply snapshot 'n'", 'snapshot', '-a', 'n',
                       'a')
        self.img_fails("Could not delete snapshot 'n': snapshot not found",
                       'snapshot', '-d', 'n', 'a')
        self.img_fails('force-share=on can only be used with read-only',
                       'snapshot', '-U', '-c', 'x', 'a')
        self.write_file('raw', bytes(MIB))
        self.assertEqual(self.snapshot('-f', 'raw', '-l', 'raw').stdout, '')
        self.img_fails('does not support snapshots', 'snapshot', '-f', 'raw',
                       '-c', 'x', 'raw')
        self.assert_content('a', b'\1' * MIB + bytes(3 * MIB))

    def test_one_bit_refcounts(self):
        self.img('create', '-q', '-f', 'qcow2', '-o', 'refcount_bits=1', 'n',
                 '4M')
        self.io('n', 'write -P 1 0 1M')
        self.img_fails('A refcount of 1 bits cannot count another reference',
                       'snapshot', '-c', 'x', 'n')
        self.assert_content('n', b'\1' * MIB + bytes(3 * MIB))
        # The distribution's leaves a leaked cluster behind.
        self.assert_clean('n')

    def test_options(self):
        opts = f'driver=qcow2,file.driver=file,file.filename={self.path("a")}'
        self.snapshot('--image-opts', '--create', 's', opts)
        self.assertEqual(self.snapshot('--quiet', '-l', 'a').stdout,
                         self.snapshot('a').stdout)
        self.assertEqual(self.snapshot('--force-share', '-l', 'a').stdout,
                         self.snapshot('-f', 'qcow2', '--list', 'a').stdout)
        self.snapshot('--apply', 's', 'a')
        self.snapshot('-q', '--delete', 's', 'a')
        self.assertEqual(self.names(), [])

    def test_list_while_somebody_writes(self):
        self.snapshot('-c', 's', 'a')
        process = self.io_process('-f', 'qcow2', 'a')
        process.cmd('write 0 64k')
        self.img_fails('Failed to get', 'snapshot', '-c', 't', 'a')
        self.assertIn(' s ', self.snapshot('-U', '-l', 'a').stdout)

    # --- the same as the distribution ---

    def test_listing_is_the_same(self):
        self.snapshot('-c', 'ours', 'a')
        self.ref('snapshot', '-c', 'theirs', 'a')
        ours = self.img_json('info', 'a')
        theirs = self.ref_json('info', 'a')
        self.assertEqual(ours['snapshots'], theirs['snapshots'])
        # Version 7.2 has narrower columns; the words are the same.
        ours, theirs = (re.sub(r'[ _]+', ' ', re.sub(r'\b0*(\d)', r'\1', out))
                        for out in (self.snapshot('-l', 'a').stdout,
                                    self.ref('snapshot', '-l', 'a').stdout))
        self.assertEqual(ours, theirs)

    def test_exit_codes_are_the_same(self):
        self.write_file('raw', bytes(MIB))
        lines = [
            ['a'], ['-l', 'a'], ['-q', '-l', 'a'], ['-U', '-l', 'a'],
            ['-l', 'missing'], ['-c', 'x', 'missing'], ['-c'], ['-d'], ['-a'],
            [], ['-l'], ['-l', 'a', 'b'], ['-c', 'x', 'a', 'b'], ['-X', 'a'],
            ['-c', 'one', 'a'], ['-c', 'one', 'a'], ['-a', 'one', 'a'],
            ['-a', '2', 'a'], ['-a', '7', 'a'], ['-d', '1', 'a'],
            ['-d', 'one', 'a'], ['-d', 'one', 'a'], ['-d', 'one', 'a'],
            ['-U', '-c', 'x', 'a'], ['-l', '-c', 'x', 'a'],
            ['-c', 'x', '-d', 'x', 'a'], ['--image-opts', '-l', 'a'],
            ['--image-opts', '-l', 'driver=qcow2,file.filename=a'],
            ['--image-opts', '-c', 'z', 'driver=qcow2,file.filename=a'],
            ['--force-share', '-l', 'a'], ['-q', '-d', 'z', 'a'],
            ['-l', 'raw'], ['-c', 'x', 'raw'], ['-a', 'x', 'raw'],
            ['-d', 'x', 'raw'], ['-c', '', 'a'], ['-d', '', 'a'],
        ]
        # Each side does it to an image of its own.
        for name in ('ours', 'theirs'):
            self.img('convert', '-O', 'qcow2', 'a', name)
        for args in lines:
            with self.subTest(' '.join(args)):
                mine, their = ([image if arg == 'a' else
                                arg.replace('=a', f'={image}') for arg in args]
                               for image in ('ours', 'theirs'))
                ours = self.img('snapshot', *mine, rc=None)
                # Version 7.2 wants an action; newer ones list.
                if args != ['a']:
                    theirs = self.ref('snapshot', *their, rc=None)
                    self.assertEqual(ours.rc, theirs.rc, theirs.describe())
                    self.assertEqual(bool(ours.stdout), bool(theirs.stdout))


if __name__ == '__main__':
    iotests.main()
