#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp
# formats: qcow2
"""The filter compress: whatever is written below it is stored compressed."""
import iotests

FILTER = ('driver=compress,file.driver=qcow2,file.file.driver=file,'
          'file.file.filename=')


class CompressFilter(iotests.TestCase):
    def through(self, image, *commands, **kwargs):
        return self.io(FILTER + image, *commands, fmt=None,
                       options=['--image-opts'], **kwargs)

    def test_random_writes(self):
        rng = self.rng()
        self.img('create', '-q', '-f', 'qcow2', 'a', '2M')
        model = bytearray(2 << 20)
        commands = []
        for _ in range(30):
            start = rng.randrange(2 << 20)
            length = min(rng.choice([1, 500, 5000, 70000, 300000]),
                         (2 << 20) - start)
            value = rng.randrange(1, 256)
            commands.append(f'write -P {value} {start} {length}')
            model[start:start + length] = bytes([value]) * length
        self.through('a', *commands)
        self.assert_clean('a')
        self.img('convert', '-O', 'raw', 'a', 'raw')
        self.assertEqual(self.read_file('raw'), bytes(model))
        check = self.img_json('check', 'a')
        self.assertEqual(check['compressed-clusters'],
                         check['allocated-clusters'])

    def test_convert_to_it(self):
        """convert -n writes what is compressed without being asked to."""
        self.img('create', '-q', '-f', 'qcow2', 'from', '1M')
        self.io('from', 'write -P 1 0 300k')
        self.img('create', '-q', '-f', 'qcow2', 'to', '1M')
        for options in ((), ('-c',)):
            self.img('convert', '-n', '--target-image-opts', *options, 'from',
                     FILTER + 'to')
            self.assert_same('from', 'to')
            self.assertEqual(
                self.img_json('check', 'to')['compressed-clusters'], 5)

    def test_raw_is_refused(self):
        self.img('create', '-q', '-f', 'raw', 'raw', '1M')
        self.io_fails(
            'Compression is not supported for underlying format: raw',
            'driver=compress,file.driver=raw,file.file.driver=file,'
            'file.file.filename=raw', 'read 0 1', fmt=None,
            options=['--image-opts'])

    def test_reopen(self):
        """Another child is fine if it can do it, whatever its clusters."""
        for name, size in (('a', '64k'), ('b', '4k')):
            self.img('create', '-q', '-f', 'qcow2', '-o',
                     f'cluster_size={size}', name, '1M')
        daemon = self.daemon()
        qmp = daemon.connect()
        for name in 'ab':
            qmp.cmd('blockdev-add', {
                'driver': 'qcow2', 'node-name': name,
                'file': {'driver': 'file', 'filename': name}})
        qmp.cmd('blockdev-add', driver='null-co', node_name='null')
        node = {'driver': 'compress', 'node-name': 'c', 'file': 'a'}
        qmp.cmd('blockdev-add', node)
        self.qmp_fails('Compression is not supported for underlying format: '
                       'null-co', qmp, 'blockdev-reopen',
                       {'options': [{**node, 'file': 'null'}]})
        self.assertEqual(self.below(qmp), ['a'])
        qmp.cmd('blockdev-reopen', {'options': [{**node, 'file': 'b'}]})
        self.assertEqual(self.below(qmp), ['b'])
        self.assertEqual(daemon.stop(), 0)

    def below(self, qmp):
        graph = qmp.cmd('query-block-graph')
        names = {n['id']: n['name'] for n in graph['nodes']}
        return [names[e['child']] for e in graph['edges']
                if names[e['parent']] == 'c']


if __name__ == '__main__':
    iotests.main()
