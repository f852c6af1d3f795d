#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: qcow2
"""Every filter, and others that have options, can be added and reopened by QMP: its
access mode, what it says may change, and nothing else."""
import iotests

FILE, OTHER = 'file-a', 'file-b'

# Options; some that may change, and one that may not.
NODES = {
    'blkdebug': ({'image': FILE, 'align': 512}, [], {'align': 4096}),
    'blklogwrites': ({'file': FILE, 'log': 'log'},
                     [{'log-super-update-interval': 7}],
                     {'log-sector-size': 4096}),
    'blkverify': ({'raw': FILE, 'test': OTHER}, [], None),
    'compress': ({'file': 'image'}, [], None),
    'concat': ({'files': [FILE, OTHER]}, [], {'files': [OTHER, FILE]}),
    'copy-on-read': ({'file': 'image'}, [], {'bottom': 'image'}),
    'preallocate': ({'file': FILE}, [{'prealloc-size': 0},
                                     {'prealloc-align': 4096}], None),
    'quorum': ({'children': [FILE, OTHER], 'vote-threshold': 2},
               [{'vote-threshold': 1}, {'read-pattern': 'fifo'}],
               {'children': [OTHER, FILE]}),
    'luks': ({'file': 'luks-file', 'key-secret': 'pw'}, [], None),
    'null-aio': ({'size': 4096}, [], None),
    'null-co': ({'size': 4096}, [], None),
    'raw': ({'file': FILE, 'size': 512}, [{'size': 1024}, {'offset': 512}],
            None),
    'throttle': ({'file': FILE, 'throttle-group': 'g'},
                 [{'throttle-group': 'h'}], None),
}


class FiltersReopen(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.server = self.daemon()
        self.qmp = self.server.connect()
        for name in 'gh':
            self.qmp.cmd('object-add', {'qom-type': 'throttle-group',
                                        'id': name})
        for name, size in ((FILE, '1M'), (OTHER, '1M'), ('log', '1M')):
            self.img('create', '-f', 'raw', name, size)
            self.add(name, driver='file', filename=name)
        self.qmp.cmd('object-add', {'qom-type': 'secret', 'id': 'pw',
                                    'data': 'x'})
        self.img('create', '-q', '-f', 'luks', '--object',
                 'secret,id=pw,data=x', '-o', 'key-secret=pw,iter-time=10',
                 'luks', '1M')
        self.add('luks-file', driver='file', filename='luks')
        self.create('image', '1M')
        self.add('image', driver='qcow2', file={'driver': 'file',
                                                'filename': 'image'})

    def add(self, name, **options):
        self.qmp.cmd('blockdev-add', {'node-name': name, **options})

    def reopen(self, node, **options):
        self.qmp.cmd('blockdev-reopen', {'options': [{**node, **options}]})

    def check(self, driver, options, changes, refused):
        node = {'driver': driver, 'node-name': 'n', **options}
        self.qmp.cmd('blockdev-add', node)
        self.reopen(node, **{'read-only': True})
        self.reopen(node)
        for change in changes:
            self.reopen({**node, **change})
        self.reopen(node)
        if refused:
            name, = refused
            self.qmp_fails(f"Cannot change the option '{name}'", self.qmp,
                           'blockdev-reopen', {'options': [
                               {**node, **refused}]})
        self.qmp.cmd('blockdev-del', {'node-name': 'n'})

    def test_all(self):
        for driver, (options, changes, refused) in NODES.items():
            with self.subTest(driver):
                self.check(driver, options, changes, refused)
        self.assertEqual(self.server.stop(), 0)


if __name__ == '__main__':
    iotests.main()
