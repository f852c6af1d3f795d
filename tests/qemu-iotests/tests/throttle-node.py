#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: raw qcow2
"""Throttle groups and nodes: objects of the programs, what they refuse, and the
data of a limited node."""
import time

import iotests

NODE = 'driver=throttle,throttle-group=g,file.driver='


class Throttle(iotests.TestCase):
    def node(self, image):
        return f'{NODE}{self.fmt},file.file.driver=file,' \
               f'file.file.filename={image}'

    def through(self, image, limits, *commands, **kwargs):
        return self.io(self.node(image), *commands, fmt=None, options=[
            '--image-opts', '--object', f'throttle-group,id=g{limits}'],
            **kwargs)

    def test_data_and_time(self):
        self.create('a', '4M')
        start = time.monotonic()
        self.through('a', ',limits.bps-total=4194304',
                     *[f'write -P {i + 1} {i * 512}k 512k' for i in range(4)],
                     'write -z 0 64k', 'read -P 2 512k 512k')
        # What is beyond the first piece waits.
        self.assertGreaterEqual(time.monotonic() - start, .3)
        self.io('a', 'read -P 0 0 64k', 'read -P 1 64k 448k',
                'read -P 4 1536k 512k')

    def test_img(self):
        self.create('a', '1M')
        self.io('a', 'write -P 1 0 300k')
        self.img('convert', '--object',
                 'throttle-group,id=g,limits.iops-total=1000', '--image-opts',
                 '-O', self.fmt, self.node('a'), 'b')
        self.assert_same('a', 'b')

    def test_definitions(self):
        for limits, message in (
                (',limits.iops-total=1,limits.iops-read=1',
                 'total values and read/write values cannot be used'),
                (',limits.iops-size=1', 'requires an iops value'),
                (',limits.bps-read-max=1', 'require corresponding bps/iops'),
                (',limits.bps-read=2,limits.bps-read-max=1',
                 'cannot be lower than'),
                (',limits.bps-read=-1', 'must be within'),
                (',limits.bps-read=1,limits.bps-read-max-length=0',
                 'burst length cannot be 0'),
                (',limits.speed=1', "'limits.speed' is unexpected")):
            with self.subTest(limits):
                self.assertIn(message,
                              self.through('a', limits, rc=1).stderr)

    def test_no_group(self):
        self.create('a', '1M')
        self.io_fails("throttle-group object 'g' not found", self.node('a'),
                      'read 0 1', fmt=None, options=['--image-opts'])
        self.io_fails("object 'g' is a iothread, not a throttle-group",
                      self.node('a'), 'read 0 1', fmt=None,
                      options=['--image-opts', '--object', 'iothread,id=g'])

    def test_daemon(self):
        self.create('a', '1M')
        daemon = self.daemon()
        qmp = daemon.connect()
        for name in ('g', 'h'):
            qmp.cmd('object-add', {'qom-type': 'throttle-group', 'id': name,
                                   'limits': {'iops-total': 5}})
        node = {'driver': 'throttle', 'node-name': 't', 'throttle-group': 'g',
                'file': {'driver': 'file', 'filename': 'a'}}
        qmp.cmd('blockdev-add', node)
        self.qmp_fails("object 'g' is in use, can not be deleted", qmp,
                       'object-del', id='g')
        self.qmp_fails("throttle-group object 'x' not found", qmp,
                       'blockdev-reopen', {'options': [
                           {**node, 'throttle-group': 'x'}]})
        self.qmp_fails("in use", qmp, 'object-del', id='g')
        qmp.cmd('object-del', id='h')
        qmp.cmd('object-add', {'qom-type': 'throttle-group', 'id': 'h'})
        file = next(n['node-name'] for n in
                    qmp.cmd('query-named-block-nodes', flat=True)
                    if n['node-name'] != 't')
        qmp.cmd('blockdev-reopen', {'options': [
            {**node, 'throttle-group': 'h', 'file': file}]})
        qmp.cmd('object-del', id='g')
        qmp.cmd('blockdev-del', node_name='t')
        qmp.cmd('object-del', id='h')
        self.assertEqual(daemon.stop(), 0)


if __name__ == '__main__':
    iotests.main()
