#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick qmp job
# formats: qcow2
"""block-commit below the active layer: the content stays and agrees with what the
distribution's tools find, edges are kept from others meanwhile, errors lose nothing.

    top -> mid -> base        nodes of the same names, in files NAME.img
"""
import os
import subprocess
import time

import iotests

MB = 1 << 20


class CommitCase(iotests.TestCase):
    """A chain; the distribution's qemu-io writes what is in it."""
    BASE = '8M'
    MID = '8M'
    TOP = '8M'

    def setUp(self):
        super().setUp()
        self.make_chain()
        self.qsd = self.daemon()
        self.qmp = self.qsd.connect()

    def make_chain(self):
        self.img('create', '-q', '-f', 'qcow2', 'base.img', self.BASE)
        for name, below, size in (('mid', 'base', self.MID),
                                  ('top', 'mid', self.TOP)):
            self.img('create', '-q', '-f', 'qcow2', '-b', f'{below}.img',
                     '-F', 'qcow2', f'{name}.img', size)
        self.write('base.img', 'write -P 1 0 4M')
        self.write('mid.img', 'write -P 2 1M 2M')
        self.write('mid.img', 'write -z 3M 512k')
        self.write('top.img', 'write -P 3 2M 64k')

    def write(self, image, command):
        self.io(image, command)

    def content(self):
        """What the top shows, as the distribution's qemu-img reads it."""
        self.ref('convert', '-U', '-O', 'raw', 'top.img', 'content.raw')
        data = self.read_file('content.raw')
        os.unlink(self.path('content.raw'))
        return data

    def node(self, name, backing, **options):
        self.qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': name, 'backing': backing,
            'file': {'driver': 'file', 'filename': f'{name}.img',
                     'node-name': f'{name}-file'}, **options})

    def nodes(self, **base_options):
        self.node('base', None, **base_options)
        self.node('mid', 'base')
        self.node('top', 'mid')

    def start(self, **options):
        self.qmp.cmd('block-commit', {**{
            'job-id': 'j', 'device': 'top', 'top-node': 'mid',
            'base-node': 'base'},
            **{k.replace('_', '-'): v for k, v in options.items()}})

    def slow(self, **options):
        self.start(speed=1, **options)

    def completed(self, error=None):
        event = self.qmp.event('BLOCK_JOB_COMPLETED', device='j')['data']
        if error:
            self.assertIn(error, event['error'])
            return event
        self.assertNotIn('error', event)
        self.assertEqual(event['offset'], event['len'])
        self.qmp.event('JOB_STATUS_CHANGE', id='j', status='null')
        return event

    def job(self):
        return self.qmp.cmd('query-block-jobs')[0]

    def wait_status(self, status):
        self.qmp.event('JOB_STATUS_CHANGE', id='j', status=status)

    def edges(self):
        graph = self.qmp.cmd('query-block-graph')
        names = {n['id']: n['name'] for n in graph['nodes']}
        return {(names[e['parent']], e['name'], names[e['child']]): e
                for e in graph['edges']}

    def below(self, name):
        for parent, edge, child in self.edges():
            if parent == name and edge == 'backing':
                return child
        return None

    def fails(self, messages, command, arguments=None, **kwargs):
        """All of the messages are in the error."""
        messages = [messages] if isinstance(messages, str) else messages
        for message in messages:
            self.qmp_fails(message, self.qmp, command, arguments, **kwargs)


class Content(CommitCase):
    def test_content_and_chain(self):
        before = self.content()
        self.nodes()
        self.start()
        self.completed()
        self.assertEqual(self.below('top'), 'base')
        self.assertEqual(self.qmp.cmd('query-jobs'), [])
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.content(), before)
        self.assertEqual(self.img_json('info', 'top.img')['backing-filename'],
                         'base.img')
        for name in ('base.img', 'mid.img', 'top.img'):
            self.assert_clean(name)

    def test_as_the_distribution_commits(self):
        """The base gets the same content, and no more space."""
        for name in ('base', 'mid', 'top'):
            # Both are copies, in which the file system has the same holes.
            os.rename(self.path(f'{name}.img'), self.path('x'))
            for copy in (f'{name}.img', f'ref-{name}.img'):
                subprocess.check_call(['cp', 'x', copy], cwd=self.dir)
        self.ref('rebase', '-u', '-b', 'ref-base.img', '-F', 'qcow2',
                 'ref-mid.img')
        self.ref('commit', '-q', 'ref-mid.img')
        self.nodes(discard='unmap')
        self.start()
        self.completed()
        self.assertEqual(self.qsd.stop(), 0)
        self.ref('compare', 'base.img', 'ref-base.img')
        self.assertLessEqual(os.stat(self.path('base.img')).st_blocks,
                             os.stat(self.path('ref-base.img')).st_blocks)

    def test_read_only_base_and_names(self):
        """Nodes that nobody named, from the headers; base is read-only again
        afterwards."""
        before = self.content()
        self.qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': 'top',
            'file': {'driver': 'file', 'filename': 'top.img'}})
        self.qmp.cmd('block-commit', job_id='j', device='top', top='mid.img',
                     base='base.img')
        self.completed()
        base, = [n for n in self.qmp.cmd('query-named-block-nodes', flat=True)
                 if n['file'] == 'base.img' and n['drv'] == 'qcow2']
        self.assertTrue(base['ro'])
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.content(), before)
        self.assertEqual(self.img_json('info', 'top.img')['backing-filename'],
                         'base.img')

    def test_nothing_known_is_written(self):
        """Neither what mid does not hold nor zeroes on zeroes."""
        self.write('mid.img', 'write -z 5M 2M')
        self.nodes()
        before = os.stat(self.path('base.img')).st_blocks
        self.start()
        self.completed()
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(os.stat(self.path('base.img')).st_blocks, before)
        lines = self.img_json('map', 'base.img')
        self.assertFalse(any(e['data'] for e in lines if e['start'] >= 4 * MB))

    def test_backing_file_string(self):
        self.nodes()
        self.start(backing_file='./base.img')
        self.completed()
        self.assertEqual(self.qsd.stop(), 0)
        info = self.img_json('info', 'top.img')
        self.assertEqual(info['backing-filename'], './base.img')
        self.assertEqual(info['backing-filename-format'], 'qcow2')

    def test_backing_mask_protocol(self):
        """A base without format is called raw on request."""
        self.img('create', '-q', '-f', 'raw', 'base.img', '8M')
        self.img('rebase', '-u', '-b', 'base.img', '-F', 'raw', 'mid.img')
        for mask, name in ((False, 'file'), (True, 'raw')):
            self.make_top()
            self.qmp.cmd('blockdev-add', driver='file', node_name='base',
                         filename='base.img')
            self.node('mid', 'base')
            self.node('top', 'mid')
            self.start(backing_mask_protocol=mask)
            self.completed()
            for node in ('top', 'mid', 'base'):
                self.qmp.cmd('blockdev-del', node_name=node)
            self.assertEqual(self.img_json('info', 'top.img')
                             ['backing-filename-format'], name)

    def make_top(self):
        self.img('create', '-q', '-f', 'qcow2', '-b', 'mid.img', '-F',
                 'qcow2', 'top.img', '8M')

    def test_nodes_with_parents(self):
        """A job may begin below the root, and several images may be above."""
        before = self.content()
        self.img('create', '-q', '-f', 'qcow2', '-b', 'mid.img', '-F',
                 'qcow2', 'other.img')
        self.nodes()
        self.node('other', 'mid')
        self.start(device='mid')
        self.completed()
        self.assertEqual(self.below('other'), 'base')
        self.assertEqual(self.below('top'), 'base')
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.content(), before)
        self.assertEqual(self.img_json('info', 'other.img')
                         ['backing-filename'], 'base.img')

    def test_filter_node(self):
        self.nodes()
        self.slow(filter_node_name='cf')
        self.assertEqual(self.below('top'), 'cf')
        self.assertIn(('cf', 'file', 'mid'), self.edges())
        self.qmp.cmd('job-cancel', id='j')
        self.qmp.event('BLOCK_JOB_CANCELLED', device='j')
        self.assertEqual(self.below('top'), 'mid')
        self.assertNotIn('cf', str(self.qmp.cmd('query-named-block-nodes')))

    def test_graph_as_in_the_distribution(self):
        """The job and its nodes in x-debug-query-block-graph."""
        self.nodes()
        self.slow()
        graph = self.qmp.cmd('x-debug-query-block-graph')
        job, = [n for n in graph['nodes'] if n['type'] == 'block-job']
        self.assertEqual(job['name'], 'j')
        names = sorted(e['name'] for e in graph['edges']
                       if e['parent'] == job['id'])
        self.assertEqual(names, ['base', 'intermediate node', 'main node'])


class ShortMiddle(CommitCase):
    """What lies beyond the end of mid reads as zeroes."""
    MID = '2M'
    TOP = '256M'

    def make_chain(self):
        self.img('create', '-q', '-f', 'raw', 'base.img', '8M')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base.img', '-F', 'raw',
                 'mid.img', self.MID)
        self.img('create', '-q', '-f', 'qcow2', '-b', 'mid.img', '-F',
                 'qcow2', 'top.img', self.TOP)
        self.write('mid.img', 'write -P 2 64k 64k')

    def nodes(self, **base_options):
        self.qmp.cmd('blockdev-add', {
            'driver': 'raw', 'node-name': 'base',
            'file': {'driver': 'file', 'filename': 'base.img',
                     **base_options}})
        self.node('mid', 'base')
        self.node('top', 'mid')

    def space(self):
        return os.stat(self.path('base.img')).st_blocks * 512

    def test_base_stays_sparse(self):
        before = self.content()
        self.nodes()
        self.img('create', '-q', '-f', 'qcow2', '-b', 'top.img', '-F',
                 'qcow2', 'o.img')
        self.node('o', 'top')
        # mid and top together: 254 MiB of nothing above mid.
        self.start(device='o', top_node='top')
        self.completed()
        self.assertEqual(self.qsd.stop(), 0)
        self.assertLess(self.space(), MB)
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base.img', '-F', 'raw',
                 'top.img', self.TOP)
        self.assertEqual(self.content(), before)

    def test_longer_base_does_not_show(self):
        """What base has beyond the end of mid was hidden, and stays so."""
        self.io('base.img', 'write -P 9 0 8M', fmt='raw')
        before = self.content()
        self.assertEqual(before[3 * MB], 0)
        self.nodes(discard='unmap')
        self.start()
        self.completed()
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.content(), before)

    def test_longer_overlay_is_refused_meanwhile(self):
        self.nodes()
        self.slow()
        self.fails(["Permission conflict", "'resize'", "commit job 'j'"],
                   'block_resize', node_name='top', size=512 * MB)


class Freeze(CommitCase):
    def claims(self):
        return {(parent, name, child): [(c['kind'], c['owner'])
                                        for c in e['claims']]
                for (parent, name, child), e in self.edges().items()
                if e['claims']}

    def reopen(self, name, backing, **options):
        return {'driver': 'qcow2', 'node-name': name, 'backing': backing,
                'file': f'{name}-file', **options}

    def prepare_others(self):
        self.img('create', '-q', '-f', 'qcow2', 'new.img', '8M')
        self.node('new', None)
        self.img('create', '-q', '-f', 'qcow2', 'else.img', '8M')
        self.node('else', None)

    def test_claims_are_shown(self):
        self.nodes()
        self.assertEqual(self.claims(), {})
        self.slow(filter_node_name='cf')
        owner = [('change', "commit job 'j'")]
        claims = self.claims()
        for edge in (('top', 'backing', 'cf'), ('cf', 'file', 'mid'),
                     ('mid', 'backing', 'base')):
            self.assertEqual(claims[edge], owner)
        self.assertNotIn(('top', 'file', 'top-file'), claims)
        self.qmp.cmd('job-cancel', id='j')
        self.qmp.event('BLOCK_JOB_CANCELLED', device='j')
        self.assertEqual(self.claims(), {})

    def test_nothing_changes_meanwhile(self):
        before = self.content()
        self.nodes()
        self.prepare_others()
        self.slow(filter_node_name='cf')
        self.qmp.cmd('job-pause', id='j')
        self.wait_status('paused')
        owner = "commit job 'j'"
        mid_base = ["Cannot change 'backing' edge from 'mid' to 'base'", owner]
        edges = self.edges()
        self.fails(mid_base, 'blockdev-reopen',
                   options=[self.reopen('mid', None)])
        self.fails(mid_base, 'blockdev-reopen',
                   options=[self.reopen('mid', 'else')])
        self.fails(["Cannot change 'backing' edge from 'top' to 'cf'", owner],
                   'blockdev-reopen', options=[self.reopen('top', 'else')])
        self.fails(["Cannot change 'backing' edge from 'top' to 'cf'", owner],
                   'blockdev-reopen', options=[
                       self.reopen('else', None, **{'read-only': True}),
                       self.reopen('top', None)])
        self.fails(mid_base, 'blockdev-snapshot', node='base', overlay='new')
        self.fails(["Cannot change 'file' edge from 'cf' to 'mid'", owner],
                   'blockdev-snapshot', node='mid', overlay='new')
        self.fails(["'backing' edge from 'mid' to 'base'", owner],
                   'block-commit', {
            'job-id': 'k', 'device': 'top', 'top-node': 'mid',
            'base-node': 'base'})
        for name in ('mid', 'base'):
            self.fails([f"Block device {name} is in use", 'used by'],
                       'blockdev-del', node_name=name)
        self.assertEqual(self.edges().keys(), edges.keys())
        self.assertEqual(len(self.qmp.cmd('query-jobs')), 1)
        # Elsewhere everything goes on.
        self.qmp.cmd('blockdev-reopen', options=[
            self.reopen('else', None, **{'read-only': True}),
            self.reopen('top', 'cf', **{'discard': 'unmap'})])
        self.qmp.cmd('blockdev-snapshot', node='top', overlay='new')
        # And afterwards here as well.
        self.qmp.cmd('job-resume', id='j')
        self.qmp.cmd('block-job-set-speed', device='j', speed=0)
        self.completed()
        self.assertEqual(self.claims(), {})
        self.assertEqual(self.below('top'), 'base')
        self.qmp.cmd('blockdev-del', node_name='mid')
        self.qmp.cmd('blockdev-reopen', options=[self.reopen('top', None)])
        self.qmp.cmd('blockdev-reopen', options=[self.reopen('top', 'base')])
        self.img('create', '-q', '-f', 'qcow2', 'more.img', '8M')
        self.node('more', None)
        self.qmp.cmd('blockdev-snapshot', node='base', overlay='more')
        self.assertEqual(self.below('top'), 'more')
        self.assertEqual(self.qsd.stop(), 0)
        self.img('rebase', '-u', '-b', 'base.img', '-F', 'qcow2', 'top.img')
        self.assertEqual(self.content(), before)

    def test_second_job_elsewhere(self):
        """Jobs on other edges of one chain run side by side."""
        before = self.content()
        for name, below in (('b', 'top'), ('c', 'b')):
            self.img('create', '-q', '-f', 'qcow2', '-b', f'{below}.img',
                     '-F', 'qcow2', f'{name}.img', '8M')
        self.write('b.img', 'write -P 7 6M 64k')
        self.nodes()
        self.node('b', 'top')
        self.node('c', 'b')
        self.slow(device='c')
        self.qmp.cmd('block-commit', {
            'job-id': 'k', 'device': 'c', 'top-node': 'b',
            'base-node': 'top'})
        self.qmp.event('BLOCK_JOB_COMPLETED', device='k')
        self.qmp.cmd('block-job-set-speed', device='j', speed=0)
        self.completed()
        self.assertEqual(self.below('c'), 'top')
        self.assertEqual(self.below('top'), 'base')
        self.assertEqual(self.qsd.stop(), 0)
        now = self.content()
        self.assertEqual(now[:6 * MB], before[:6 * MB])
        self.assertEqual(now[6 * MB], 7)


class Control(CommitCase):
    def test_states(self):
        self.nodes()
        self.start(speed=0, auto_finalize=False, auto_dismiss=False)
        for status in ('created', 'running', 'waiting', 'pending'):
            self.wait_status(status)
        self.qmp.event('BLOCK_JOB_PENDING', id='j', type='commit')
        self.assertNotEqual(self.below('top'), 'base')
        self.qmp.cmd('job-finalize', id='j')
        self.qmp.event('BLOCK_JOB_COMPLETED', device='j')
        self.wait_status('concluded')
        self.assertEqual(self.below('top'), 'base')
        # It holds nothing any more.
        self.qmp.cmd('blockdev-del', node_name='mid')
        self.qmp.cmd('job-dismiss', id='j')
        self.wait_status('null')

    def test_cancel_pending(self):
        self.nodes()
        self.start(auto_finalize=False)
        self.wait_status('pending')
        self.qmp.cmd('job-cancel', id='j')
        self.qmp.event('BLOCK_JOB_CANCELLED', device='j')
        self.assertEqual(self.below('top'), 'mid')

    def test_cancel_paused(self):
        before = self.content()
        self.nodes()
        self.slow()
        self.qmp.cmd('job-pause', id='j')
        self.wait_status('paused')
        info = self.job()
        self.assertEqual((info['paused'], info['busy'], info['speed']),
                         (True, False, 1))
        self.fails('is currently paused', 'block-job-cancel', device='j')
        self.qmp.cmd('block-job-cancel', device='j', force=True)
        self.qmp.event('BLOCK_JOB_CANCELLED', device='j')
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.content(), before)

    def test_quit(self):
        """The end of the program cancels."""
        before = self.content()
        self.nodes()
        self.slow()
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.content(), before)
        self.assert_clean('base.img')

    def test_refused(self):
        self.nodes()
        state = self.edges()
        args = {'job-id': 'j', 'device': 'top', 'top-node': 'mid'}
        for message, change in (
                ("Invalid job ID ''", {'job-id': ''}),
                ("node-name='x'", {'top-node': 'x'}),
                ("node-name='x'", {'base-node': 'x'}),
                ("'top' is not in this backing file chain",
                 {'base-node': 'top'}),
                ('cannot commit an image into itself', {'base-node': 'mid'}),
                ("'top-node' and 'top' are mutually exclusive", {'top': 'x'}),
                ("'base-node' and 'base' are mutually exclusive",
                 {'base-node': 'base', 'base': 'x'}),
                ("Can't find 'x' in the backing chain", {'base': 'x'}),
                ("expects a non-negative value", {'speed': -1}),
                ("Invalid node-name: '1'", {'filter-node-name': '1'}),
                ("Duplicate nodes", {'filter-node-name': 'top'}),
                ("Node 'top' is the active layer", {'top-node': 'top'})):
            with self.subTest(message):
                self.fails(message, 'block-commit', dict(args, **change))
        self.qmp_fails("Device 'x' not found", self.qmp, 'block-commit',
                       dict(args, device='x'), error_class='DeviceNotFound')
        self.qmp_fails("Block job 'j' not found", self.qmp,
                       'block-job-set-speed', device='j', speed=0,
                       error_class='DeviceNotActive')
        self.fails('Job not found', 'job-pause', id='j')
        self.assertEqual(self.edges(), state)

    def test_others_on_the_chain(self):
        """Who relies on the edges below mid is told; readers of base are not
        disturbed."""
        self.nodes()
        self.slow()
        self.fails(["Cannot freeze 'backing' edge from 'mid' to 'base'",
                    "commit job 'j'"], 'blockdev-add', {
            'driver': 'copy-on-read', 'node-name': 'cor', 'file': 'mid',
            'bottom': 'base'})
        self.qmp.cmd('blockdev-add', driver='raw', node_name='reader',
                     file='base', read_only=True)
        self.qmp.cmd('job-cancel', id='j')
        self.qmp.event('BLOCK_JOB_CANCELLED', device='j')

    def test_graph_is_as_before_after_a_cancel(self):
        self.nodes()
        state = self.edges()
        self.slow()
        self.assertNotEqual(self.edges(), state)
        self.qmp.cmd('job-cancel', id='j')
        self.qmp.event('BLOCK_JOB_CANCELLED', device='j')
        before = {k: {**e, 'parent': 0, 'child': 0} for k, e in state.items()}
        after = {k: {**e, 'parent': 0, 'child': 0}
                 for k, e in self.edges().items()}
        self.assertEqual(after, before)


class Errors(CommitCase):
    def faulty(self, **rule):
        """base's file fails as the rule says."""
        self.qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': 'base', 'backing': None,
            'file': {'driver': 'blkdebug', 'inject-error': [
                {'event': 'write_aio', **rule}],
                'image': {'driver': 'file', 'filename': 'base.img'}}})
        self.node('mid', 'base')
        self.node('top', 'mid')

    def error_event(self, action):
        self.qmp.event('BLOCK_JOB_ERROR', device='j', operation='write',
                       action=action)

    def test_a_trace_is_left(self):
        """Of a job that failed and went by itself: of none that was cancelled, or
        that waits to be dismissed."""
        self.faulty(errno=5)
        self.assertEqual(self.qmp.cmd('query-failed-jobs'), [])
        message = 'Could not write the base at offset .*Input/output error'
        for number in range(66):
            self.start(job_id=f'j{number}')
            event = self.qmp.event('BLOCK_JOB_COMPLETED',
                                   device=f'j{number}')['data']
            self.assertRegex(event['error'], message)
        self.assertEqual(self.qmp.cmd('query-jobs'), [])
        failed = self.qmp.cmd('query-failed-jobs')
        self.assertEqual([f['id'] for f in failed],
                         [f'j{number}' for number in range(65, 1, -1)])
        self.assertEqual(failed[0]['error'], event['error'])
        self.assertEqual(failed[0]['type'], 'commit')
        self.assertEqual((failed[0]['current-progress'],
                          failed[0]['total-progress']),
                         (event['offset'], event['len']))
        self.assertLess(abs(failed[0]['seconds'] - time.time()), 60)
        self.assertRegex(self.qsd.output(), "warning: commit job 'j65' failed: "
                         + message)
        self.start(job_id='kept', auto_dismiss=False)
        self.qmp.event('BLOCK_JOB_COMPLETED', device='kept')
        self.start(job_id='cancelled', speed=1)
        self.qmp.cmd('job-cancel', id='cancelled')
        self.qmp.event('BLOCK_JOB_CANCELLED', device='cancelled')
        self.assertEqual(self.qmp.cmd('query-failed-jobs'), failed)

    def test_report(self):
        before = self.content()
        self.faulty(errno=5)
        self.start()
        self.error_event('report')
        self.completed('Could not write the base at offset')
        self.assertEqual(self.below('top'), 'mid')
        self.qsd.stop()
        self.assertEqual(self.content(), before)

    def test_stop_and_go_on(self):
        for policy, errno, status in (('stop', 5, 'failed'),
                                      ('enospc', 28, 'nospace'),
                                      ('auto', 28, 'nospace')):
            with self.subTest(policy):
                self.make_chain()
                before = self.content()
                self.faulty(errno=errno, once=True)
                self.start(on_error=policy)
                self.error_event('stop')
                self.wait_status('paused')
                self.assertEqual(self.job()['io-status'], status)
                self.qmp.cmd('job-resume', id='j')
                self.completed()
                self.assertEqual(self.below('top'), 'base')
                for name in ('top', 'mid', 'base'):
                    self.qmp.cmd('blockdev-del', node_name=name)
                self.assertEqual(self.content(), before)

    def test_cancel_stopped(self):
        self.faulty(errno=28)
        self.start(on_error='stop')
        self.wait_status('paused')
        self.qmp.cmd('job-cancel', id='j')
        self.qmp.event('BLOCK_JOB_CANCELLED', device='j')
        self.assertEqual(self.below('top'), 'mid')

    def test_enospc_reports_other_errors(self):
        self.faulty(errno=5)
        self.start(on_error='enospc')
        self.error_event('report')
        self.completed('Input/output error')

    def test_ignore_loses_nothing(self):
        before = self.content()
        self.faulty(errno=5, once=True)
        self.start(on_error='ignore')
        self.error_event('ignore')
        self.completed('could not be committed')
        self.assertEqual(self.below('top'), 'mid')
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.content(), before)


class Transactions(CommitCase):
    """Commits of two chains in one transaction: this one's job is j, that of the
    other chain, of nodes base2 to top2, k."""

    def setUp(self):
        super().setUp()
        self.before = self.content()
        for name, below in (('base2', None), ('mid2', 'base2'),
                            ('top2', 'mid2')):
            backing = ['-b', f'{below}.img', '-F', 'qcow2'] if below else []
            self.img('create', '-q', '-f', 'qcow2', *backing, f'{name}.img',
                     '8M')
        self.write('mid2.img', 'write -P 4 0 4M')

    def two_chains(self, fails=False):
        self.nodes(**{'read-only': True})
        file = {'driver': 'file', 'filename': 'base2.img'}
        if fails:
            file = {'driver': 'blkdebug', 'image': file, 'inject-error': [
                {'event': 'write_aio', 'errno': 5}]}
        self.qmp.cmd('blockdev-add', {'driver': 'qcow2', 'node-name': 'base2',
                                      'backing': None, 'file': file})
        self.node('mid2', 'base2')
        self.node('top2', 'mid2')

    def action(self, job, number='', **more):
        return {'type': 'block-commit', 'data': {
            'job-id': job, 'device': f'top{number}',
            'top-node': f'mid{number}', 'base-node': f'base{number}',
            **{k.replace('_', '-'): v for k, v in more.items()}}}

    def run_both(self, grouped=True, j={}, k={}):
        self.qmp.cmd('transaction', {
            'actions': [self.action('j', **j), self.action('k', '2', **k)],
            **self.mode(grouped)})

    def mode(self, grouped=True):
        return {'properties': {
            'completion-mode': 'grouped' if grouped else 'individual'}}

    def ended(self, job, event, error=None):
        data = self.qmp.event(event, device=job)['data']
        self.assertRegex(data.get('error', ''), error or '^$')

    def unchanged(self):
        self.assertEqual(self.qmp.cmd('query-jobs'), [])
        self.assertEqual(self.below('top'), 'mid')
        self.assertEqual(self.below('top2'), 'mid2')
        for node in self.qmp.cmd('query-named-block-nodes'):
            self.assertEqual(node['ro'], node['node-name'] in
                             ('base', 'base-file'), node)
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.content(), self.before)

    def test_one_waits_for_the_other(self):
        self.two_chains()
        self.run_both(j={'speed': 1})
        self.qmp.event('JOB_STATUS_CHANGE', id='k', status='waiting')
        self.qmp.no_event('BLOCK_JOB_COMPLETED')
        self.assertNotEqual(self.below('top2'), 'base2')
        self.qmp.cmd('block-job-set-speed', device='j', speed=0)
        self.ended('j', 'BLOCK_JOB_COMPLETED')
        self.ended('k', 'BLOCK_JOB_COMPLETED')
        self.assertEqual(self.below('top'), 'base')
        self.assertEqual(self.below('top2'), 'base2')
        self.assertEqual(self.qsd.stop(), 0)
        self.assertEqual(self.content(), self.before)

    def test_one_fails(self):
        self.two_chains(fails=True)
        self.run_both(j={'speed': 1})
        self.ended('j', 'BLOCK_JOB_CANCELLED')
        self.ended('k', 'BLOCK_JOB_COMPLETED', 'Input/output error')
        self.unchanged()

    def test_one_fails_alone(self):
        self.two_chains(fails=True)
        self.run_both(grouped=False)
        self.ended('j', 'BLOCK_JOB_COMPLETED')
        self.ended('k', 'BLOCK_JOB_COMPLETED', 'Input/output error')
        self.assertEqual(self.below('top'), 'base')
        self.assertEqual(self.below('top2'), 'mid2')

    def test_one_is_done_when_the_other_fails(self):
        """Its chain is dropped already, so it is not called cancelled."""
        self.two_chains()
        self.qmp.cmd('blockdev-del', {'node-name': 'top'})
        self.qmp.cmd('blockdev-add', {
            'driver': 'qcow2', 'node-name': 'top', 'backing': 'mid', 'file': {
                'driver': 'blkdebug', 'inject-error': [
                    {'event': 'none', 'iotype': 'write', 'errno': 5}],
                'image': {'driver': 'file', 'filename': 'top.img'}}})
        self.run_both()
        self.ended('j', 'BLOCK_JOB_COMPLETED', '.*Input/output error')
        self.ended('k', 'BLOCK_JOB_COMPLETED')
        self.assertEqual(self.below('top'), 'mid')
        self.assertEqual(self.below('top2'), 'base2')

    def test_one_is_cancelled(self):
        """Also when the other one is done but for its changes."""
        self.two_chains()
        self.run_both(j={'speed': 1})
        self.qmp.event('JOB_STATUS_CHANGE', id='k', status='waiting')
        self.qmp.cmd('job-cancel', id='j')
        self.ended('j', 'BLOCK_JOB_CANCELLED')
        self.ended('k', 'BLOCK_JOB_CANCELLED')
        self.unchanged()

    def test_finalized_together(self):
        self.two_chains()
        self.run_both(j={'auto-finalize': False})
        self.qmp.event('BLOCK_JOB_PENDING', id='j')
        self.qmp.event('JOB_STATUS_CHANGE', id='k', status='pending')
        self.qmp.no_event('BLOCK_JOB_COMPLETED')
        self.qmp.cmd('job-finalize', id='k')
        self.ended('j', 'BLOCK_JOB_COMPLETED')
        self.ended('k', 'BLOCK_JOB_COMPLETED')

    def test_nothing_is_left(self):
        """A transaction that fails leaves no job, and nodes as they were."""
        self.two_chains()
        before = self.edges().keys()
        for actions, message in (
                ([self.action('j'), self.action('k', '2'),
                  {'type': 'abort', 'data': {}}], 'Transaction aborted'),
                ([self.action('j'), self.action('j', '2')], 'already in use'),
                ([self.action('j'), self.action('k')],
                 "claimed for a change by commit job 'j'"),
                ([self.action('k', '2'), self.action('j', 'x')],
                 "'topx' not found")):
            for grouped in False, True:
                self.qmp_fails(message, self.qmp, 'transaction', {
                    'actions': actions, **self.mode(grouped)},
                    error_class='DeviceNotFound' if 'topx' in message
                    else 'GenericError')
                self.assertEqual(self.edges().keys(), before)
        self.qmp.no_event('BLOCK_JOB_COMPLETED', 0)
        self.qmp.no_event('BLOCK_JOB_CANCELLED', 0)
        self.unchanged()

    def test_what_cannot_be_grouped(self):
        """It would be done whatever becomes of the job."""
        self.two_chains()
        for kind, data in (
                ('blockdev-snapshot-sync', {
                    'node-name': 'top2', 'snapshot-file': 's',
                    'snapshot-node-name': 's'}),
                ('blockdev-snapshot', {'node': 'top2', 'overlay': 'mid'}),
                ('blockdev-snapshot-internal-sync', {'device': 'top2',
                                                     'name': 's'})):
            self.qmp_fails(f"Action '{kind}' does not support transaction "
                           'property completion-mode = grouped', self.qmp,
                           'transaction', {'actions': [
                               self.action('j'), {'type': kind, 'data': data}],
                               **self.mode()})
        self.assertFalse(os.path.exists(self.path('s')))
        self.unchanged()

    def test_beside_a_snapshot(self):
        self.two_chains()
        self.qmp.cmd('transaction', {'actions': [self.action('j'), {
            'type': 'blockdev-snapshot-sync', 'data': {
                'node-name': 'top2', 'snapshot-file': 's',
                'snapshot-node-name': 's'}}]})
        self.ended('j', 'BLOCK_JOB_COMPLETED')
        self.assertEqual(self.below('s'), 'top2')
        self.assertEqual(self.below('top'), 'base')


if __name__ == '__main__':
    iotests.main()
