#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp job
# formats: qcow2
"""The job blockdev-create: images as qemu-img makes them, in files and in nodes, and
what it says about what cannot be."""
import os

import iotests

MB = 1 << 20


class Create(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.qsd = self.daemon()
        self.qmp = self.qsd.connect()

    def create(self, error=None, **options):
        """Runs a job to its end; checks states and error."""
        self.qmp.cmd('blockdev-create', job_id='c', options={
            k.replace('_', '-'): v for k, v in options.items()})
        states = []
        while not states or states[-1] != 'concluded':
            event = self.qmp.event('JOB_STATUS_CHANGE', id='c')
            states.append(event['data']['status'])
        self.assertEqual(states, ['created', 'running', 'aborting',
                                  'concluded'] if error else
                         ['created', 'running', 'waiting', 'pending',
                          'concluded'])
        job, = self.qmp.cmd('query-jobs')
        self.assertEqual((job['type'], job['id']), ('create', 'c'))
        if error:
            self.assertIn(error, job['error'])
        else:
            self.assertEqual(job['current-progress'], job['total-progress'])
            self.assertNotIn('error', job)
        self.assertEqual(self.qmp.cmd('query-block-jobs'), [])
        self.qmp.cmd('job-dismiss', id='c')
        self.qmp.event('JOB_STATUS_CHANGE', id='c', status='null')
        self.assertEqual(self.qmp.cmd('query-jobs'), [])

    def file(self, name='f', filename='a.img', **options):
        self.qmp.cmd('blockdev-add', driver='file', node_name=name,
                     filename=filename, **options)

    def test_file(self):
        self.create(driver='file', filename='a.img', size=3 * MB)
        self.assertEqual(os.path.getsize(self.path('a.img')), 3 * MB)
        self.create(driver='file', filename='b.img', size=MB,
                    preallocation='full')
        self.assertGreaterEqual(os.stat(self.path('b.img')).st_blocks * 512, MB)
        self.create(driver='file', filename='nodir/a', size=0,
                    error="Could not create 'nodir/a': No such file")
        self.create(driver='file', filename='big', size=2 ** 63,
                    error='less than 8 EiB')
        self.assertFalse(os.path.exists(self.path('big')))

    def test_file_in_use(self):
        self.create(driver='file', filename='a.img', size=MB)
        self.qmp.cmd('blockdev-add', driver='qcow2', node_name='q', file={
            'driver': 'file', 'filename': self.made('a.img')})
        self.create(driver='file', filename='a.img', size=0, error='lock')
        self.assertGreater(os.path.getsize(self.path('a.img')), 0)

    def made(self, name):
        self.img('create', '-q', '-f', 'qcow2', name, '1M')
        return name

    def test_refused_at_once(self):
        fails = self.qmp_fails
        fails('Driver does not support blockdev-create', self.qmp,
              'blockdev-create', job_id='c', options={'driver': 'null-co'})
        fails("Parameter 'options.size' is missing", self.qmp,
              'blockdev-create', job_id='c',
              options={'driver': 'file', 'filename': 'x'})
        fails("Invalid job ID ''", self.qmp, 'blockdev-create', job_id='',
              options={'driver': 'file', 'filename': 'x', 'size': 0})
        self.assertFalse(os.path.exists(self.path('x')))

    def test_qcow2(self):
        """Byte by byte what qemu-img makes."""
        cases = [
            ({}, []),
            ({'version': 'v2', 'cluster-size': 4096}, ['compat=0.10',
                                                       'cluster_size=4096']),
            ({'lazy-refcounts': True, 'refcount-bits': 1},
             ['lazy_refcounts=on', 'refcount_bits=1']),
            ({'backing-file': 'nothing', 'backing-fmt': 'raw'},
             ['backing_file=nothing', 'backing_fmt=raw']),
            ({'preallocation': 'metadata'}, ['preallocation=metadata']),
            ({'preallocation': 'full', 'cluster-size': 65536},
             ['preallocation=full']),
        ]
        self.create(driver='file', filename='a.img', size=0)
        self.file()
        for ours, theirs in cases:
            with self.subTest(ours):
                self.create(driver='qcow2', file='f', size=4 * MB, **ours)
                self.img('create', '-q', '-f', 'qcow2', '-u', '-o',
                         ','.join(theirs or ['compat=1.1']), 'b.img', '4M')
                self.assertEqual(self.read_file('a.img'),
                                 self.read_file('b.img'))

    def test_qcow2_inline_and_checked_by_the_distribution(self):
        self.create(driver='file', filename='a.img', size=0)
        self.create(driver='qcow2', size=MB, file={
            'driver': 'file', 'filename': 'a.img'})
        self.assertEqual(self.qmp.cmd('query-named-block-nodes'), [])
        self.ref('check', 'a.img')
        self.ref('compare', 'a.img', self.made('b.img'))

    def test_what_was_there_does_not_show(self):
        with open(self.path('a.img'), 'wb') as f:
            f.write(b'\xaa' * 4 * MB)
        self.file()
        self.create(driver='qcow2', file='f', size=2 * MB,
                    preallocation='metadata')
        self.assertEqual(self.qsd.stop(), 0)
        self.io('a.img', 'read -P 0 0 2M')

    def test_qcow2_errors(self):
        self.create(driver='qcow2', file='nope', size=MB,
                    error="Cannot find device='nope' nor node-name='nope'")
        self.create(driver='file', filename='a.img', size=0)
        self.file(**{'read_only': True})
        self.create(driver='qcow2', file='f', size=MB, error='read-only')
        self.create(driver='qcow2', file='f', size=MB, cluster_size=1000,
                    error='Cluster size must be a power of two')
        self.create(driver='qcow2', file='f', size=513 * MB + 1,
                    error='multiple of')
        self.assertEqual(os.path.getsize(self.path('a.img')), 0)
        self.qmp.cmd('blockdev-del', node_name='f')

    def test_node_in_use(self):
        """Somebody else writes there: nothing is touched."""
        self.made('a.img')
        self.file()
        self.qmp.cmd('blockdev-add', driver='qcow2', node_name='q', file='f')
        before = self.read_file('a.img')
        self.create(driver='qcow2', file='f', size=MB,
                    error='Permission conflict')
        self.assertEqual(self.read_file('a.img'), before)

    def test_full_disk(self):
        self.create(driver='file', filename='a.img', size=0)
        self.qmp.cmd('blockdev-add', {
            'driver': 'blkdebug', 'node-name': 'd',
            'image': {'driver': 'file', 'filename': 'a.img'},
            'inject-error': [{'event': 'none', 'iotype': 'write', 'errno': 28,
                              'immediately': True}]})
        self.create(driver='qcow2', file='d', size=MB,
                    error='Could not write qcow2 metadata: No space left')

    def test_end_of_the_program(self):
        """A job that has not been dismissed does not keep it."""
        self.qmp.cmd('blockdev-create', job_id='c', options={
            'driver': 'file', 'filename': 'a.img', 'size': MB})
        self.assertEqual(self.qsd.stop(), 0)


if __name__ == '__main__':
    iotests.main()
