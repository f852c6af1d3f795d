#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: qcow2
"""x-blockdev-amend: key slots of images that are in use."""
import iotests


class AmendJob(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.img('create', '--object', 'secret,id=s0,data=one', '-f', 'luks',
                 '-o', 'key-secret=s0,iter-time=10', 'l', '1M')
        self.img('create', '--object', 'secret,id=s0,data=one', '-f', 'qcow2',
                 '-o', 'encrypt.format=luks,encrypt.key-secret=s0,'
                 'encrypt.iter-time=10', 'q', '1M')
        self.create('plain', '1M')
        self.server = self.daemon()
        self.qmp = self.server.connect()
        for number, data in enumerate(('one', 'two')):
            self.qmp.cmd('object-add', {'qom-type': 'secret',
                                        'id': f's{number}', 'data': data})
        for node in (
                {'driver': 'luks', 'node-name': 'luks', 'key-secret': 's0',
                 'file': {'driver': 'file', 'filename': 'l'}},
                {'driver': 'qcow2', 'node-name': 'qcow2',
                 'encrypt': {'format': 'luks', 'key-secret': 's0'},
                 'file': {'driver': 'file', 'filename': 'q'}},
                {'driver': 'qcow2', 'node-name': 'plain',
                 'file': {'driver': 'file', 'filename': 'plain'}}):
            self.qmp.cmd('blockdev-add', node)

    def amend(self, node, options, **kwargs):
        """What the job ends with: its error, or None."""
        self.qmp.cmd('x-blockdev-amend', {'job-id': 'j', 'node-name': node,
                                          'options': options, **kwargs})
        self.qmp.event('JOB_STATUS_CHANGE', status='concluded')
        job, = self.qmp.cmd('query-jobs')
        self.assertEqual(job['type'], 'amend')
        self.qmp.cmd('job-dismiss', id='j')
        return job.get('error')

    def opens(self, name, fmt, passphrase, rc=0):
        key = 'key-secret' if fmt == 'luks' else 'encrypt.key-secret'
        self.io(f'driver={fmt},{key}=s,file.filename={name}', 'read 0 512',
                fmt=None, rc=rc, options=[
                    '--object', f'secret,id=s,data={passphrase}',
                    '--image-opts'])

    def slots(self, fmt, options):
        def wrap(o):
            return {'driver': 'luks', **o} if fmt == 'luks' else {
                'driver': 'qcow2', 'encrypt': {'format': 'luks', **o}}
        return wrap(options)

    def change(self, name, fmt):
        self.assertIsNone(self.amend(fmt, self.slots(fmt, {
            'state': 'active', 'new-secret': 's1', 'iter-time': 10})))
        self.assertIsNone(self.amend(fmt, self.slots(fmt, {
            'state': 'inactive', 'old-secret': 's0'})))
        # The last one goes only by force.
        self.assertIsNotNone(self.amend(fmt, self.slots(fmt, {
            'state': 'inactive', 'old-secret': 's1'})))
        self.assertEqual(self.server.stop(), 0)
        self.opens(name, fmt, 'two')
        self.opens(name, fmt, 'one', rc=1)

    def test_luks(self):
        self.change('l', 'luks')

    def test_qcow2(self):
        self.change('q', 'qcow2')

    def test_refused(self):
        for message, node, options in (
                ("Cannot find device='' nor node-name='x'", 'x',
                 {'driver': 'luks', 'state': 'active'}),
                ("doesn't support changing the block driver", 'qcow2',
                 {'driver': 'luks', 'state': 'active'}),
                ("Encryption format 'aes' has nothing to amend", 'qcow2',
                 {'driver': 'qcow2', 'encrypt': {'format': 'aes'}})):
            self.qmp_fails(message, self.qmp, 'x-blockdev-amend',
                           {'job-id': 'j', 'node-name': node,
                            'options': options})
        self.assertEqual(self.qmp.cmd('query-jobs'), [])
        self.assertIsNotNone(self.amend('plain', self.slots('qcow2', {
            'state': 'active', 'new-secret': 's1'})))
        self.assertIsNone(self.amend('plain', {'driver': 'qcow2'}))


if __name__ == '__main__':
    iotests.main()
