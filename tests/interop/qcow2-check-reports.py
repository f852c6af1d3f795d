#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""Check finds in a damaged image what the distribution's check finds: the
numbers of its report, its exit status, and the lines about each problem."""
import json

import iotests
from qcow2_damage import DAMAGE, damaged

# Lines of the driver, not of the check; warnings at open; what only ours says.
NOT_ABOUT_IMAGE = ('qcow2: ', 'qemu-img: warning', 'Some clusters may be',
                   'Orphaned L2 table', 'Repairing all errors puts it',
                   'It is neither put back', 'The L2 table of L1 entry')
SHOWN = ('filename', 'format', 'check-errors', 'corruptions', 'leaks',
         'total-clusters', 'allocated-clusters', 'fragmented-clusters',
         'compressed-clusters', 'image-end-offset')


def lines_of(stderr):
    # A warning may end without a newline.
    text = stderr.replace("on the image file to fix.", "\n")
    # Beyond this the lists are too long to be worth repeating in full.
    return sorted(l for l in text.splitlines()
                  if l.strip() and not l.startswith(NOT_ABOUT_IMAGE))


class CheckReports(iotests.TestCase):
    def compare(self, name):
        damage = DAMAGE[name]
        image = damaged(self, damage)
        args = ('check', '--output=json', '-f', 'qcow2', image)
        ref = self.ref(*args, rc=None)
        ours = self.img(*args, rc=None)
        if name == 'bitmaps-void':
            # Theirs gives the bitmaps up without a word; ours keeps them.
            self.assertEqual((ours.rc, ref.rc), (0, 3))
            self.assertEqual(json.loads(ours.stdout)['inconsistent-bitmaps'],
                             2)
            return
        self.assertEqual(ours.rc, ref.rc, ours.describe())
        a, b = json.loads(ours.stdout), json.loads(ref.stdout)
        for key in SHOWN:
            self.assertEqual(a.get(key), b.get(key), f'{key}\n{a}\n{b}')
        a, b = lines_of(ours.stderr), lines_of(ref.stderr)
        if len(b) < 60:
            self.assertEqual(a, b)

    def test_human(self):
        for name in ('none', 'leak-and-copied', 'refcount-high', 'l2-doubled',
                     'snapshots'):
            with self.subTest(name):
                image = damaged(self, DAMAGE[name], name)
                ref = self.ref('check', '-f', 'qcow2', image, rc=None)
                ours = self.img('check', '-f', 'qcow2', image, rc=None)
                self.assertEqual(ours.stdout, ref.stdout)
                self.assertEqual(ours.rc, ref.rc)

    def test_fragments(self):
        """Contiguity is judged inside an L2 table, and compressed clusters
        do not interrupt it."""
        for opts, commands in (
                ('cluster_size=512', ['write 0 64k']),
                ('cluster_size=512', ['write 512 512', 'write 0 512',
                                      'write 65536 512', 'write 63k 512']),
                ('cluster_size=64k', ['write 0 64k', 'write -c 64k 64k',
                                      'write 128k 64k'])):
            with self.subTest(commands):
                self.ref('create', '-q', '-f', 'qcow2', '-o', opts, 'f', '1M')
                self.ref_io('f', *commands, fmt='qcow2')
                self.assertEqual(self.img_json('check', 'f'),
                                 self.ref_json('check', 'f'))


def _add_tests():
    for name in DAMAGE:
        def test(self, name=name):
            self.compare(name)
        setattr(CheckReports, 'test_' + name.replace('-', '_'), test)


_add_tests()
if __name__ == '__main__':
    iotests.main()
