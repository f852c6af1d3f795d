#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: rw quick
# formats: qcow2
"""Stored bitmaps after crashes, foreign writers and damage: what info, check
and convert say, what repairs, and that a bad byte costs one bitmap at most."""
import json

import iotests
from iotests.faults import nth_fault
from iotests.qcow2_bitmaps import AUTO, Bitmaps, bitmaps
from iotests.qcow2_bytes import Qcow2Bytes

K, M = 1 << 10, 1 << 20


class BitmapDamage(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '64M')
        for name in ('one', 'two', 'three'):
            self.img('bitmap', '--add', 'a', name)
        self.img('bitmap', '--disable', 'a', 'three')
        self.io('a', 'write -P 1 1M 64k')

    def info(self, *args):
        """name -> what info says"""
        data = self.img_json('info', *args, 'a')['format-specific']['data']
        return {b['name']: b for b in data.get('bitmaps', [])}

    def status(self, *args):
        return {n: b['status'] for n, b in self.info(*args).items()}

    def kill_writer(self):
        p = self.io_process('-f', 'qcow2', 'a')
        p.cmd('write -P 2 2M 64k')
        p.kill()

    def directory(self):
        with Bitmaps(self.path('a')) as b:
            return b.dir, b.read(b.dir, b.dir_size)

    def test_marked_in_place(self):
        """A write changes one byte of each entry, and nothing moves."""
        for name in 'xyz':          # of several sectors
            self.img('bitmap', '--add', 'a', name * 400)
        place, before = self.directory()
        p = self.io_process('-f', 'qcow2', 'a')
        self.assertEqual(self.directory(), (place, before))
        size = len(self.read_file('a'))
        p.cmd('write -P 2 1M 64k')      # in place
        p.kill()
        moved, after = self.directory()
        self.assertEqual(moved, place)
        self.assertEqual(len(self.read_file('a')), size)
        changed = [i for i in range(len(before)) if before[i] != after[i]]
        with Bitmaps(self.path('a')) as b:
            self.assertEqual(changed, [e.pos - place + 15 for name, e in
                                       b.entries().items() if name != 'three'])
        self.assertGreater(changed[-1], 512)
        self.assert_clean('a')

    def test_mark_fails(self):
        """Then the write does, and bitmaps stay right."""
        for event in 'pwritev', 'flush_to_disk':
            self.io_fails('write failed: Input/output error',
                          'driver=qcow2,' + nth_fault('a', 1, event=event),
                          'write -P 9 1M 64k', fmt=None,
                          options=['--image-opts'])
            self.assertEqual(set(self.status().values()), {'consistent'})
            self.io('a', 'read -P 1 1M 64k')

    def check(self, *args, rc=0):
        result = self.img('check', '--output=json', *args, 'a', rc=rc)
        return json.loads(result.stdout)

    # --- resize ---

    def resize(self, size='128M'):
        """Warnings of our resize, without what opening says."""
        return [line for line in self.img('resize', 'a', size).stderr.
                splitlines() if 'resized' in line]

    def test_resize_inconsistent(self):
        self.kill_writer()
        self.assertEqual(self.resize(), [
            f"qemu-img: warning: bitmap '{name}' of 'a' is inconsistent, and "
            "is not resized" for name in ('one', 'two')])
        self.assertEqual(self.status()['three'], 'consistent')
        self.assertEqual(self.resize('256M')[1:], [
            "qemu-img: warning: bitmap 'two' of 'a' is inconsistent, and is "
            "not resized"])
        self.img('check', '-r', 'all', '--bitmaps=dirty', 'a')
        self.assertEqual(self.info()['one']['count'], 256 * M)
        self.assertEqual(self.resize('512M'), [])

    def test_resize_void(self):
        with Bitmaps(self.path('a')) as b:
            b.clear_autoclear()
        self.assertEqual(self.resize(), [
            f"qemu-img: warning: bitmap '{name}' of 'a' is void, and is not "
            "resized" for name in ('one', 'two', 'three')])

    def test_resize_damaged(self):
        with Bitmaps(self.path('a')) as b:
            table = int.from_bytes(b.read(b.entries()['one'].pos, 8), 'big')
            b.write(table + 6, b'\2')
        warning, = self.resize()
        self.assertRegex(warning, "'one' of 'a' is not resized, and is lost "
                                  "if it was right: its table is damaged")
        self.assertEqual(self.status()['two'], 'consistent')

    def test_resize_bad_extension(self):
        with Bitmaps(self.path('a')) as b:
            b.write(b.ext + 15, b'\x01')
        warning, = self.resize()
        self.assertRegex(warning, "the bitmaps of 'a' cannot be used, and are "
                                  "not resized: ")

    def test_block_resize(self):
        self.kill_writer()
        qsd = self.daemon()
        qmp = qsd.connect()
        qmp.cmd('blockdev-add', driver='qcow2', node_name='q', file={
            'driver': 'file', 'filename': 'a'})
        qmp.cmd('block_resize', node_name='q', size=128 * M)
        self.assertIn("warning: bitmap 'one' of 'q' is inconsistent, and is "
                      "not resized", qsd.output())

    # --- info ---

    def test_info(self):
        b = self.info()
        self.assertEqual([(n, b[n]['status'], b[n]['count']) for n in b],
                         [('one', 'consistent', 64 * K),
                          ('two', 'consistent', 64 * K),
                          ('three', 'consistent', 0)])
        self.assertEqual([b[n]['flags'] for n in b], [['auto'], ['auto'], []])
        text = self.img('info', 'a').stdout
        self.assertIn('            status: consistent\n', text)
        self.assertIn('            count: 65536\n', text)

    def test_live_writer_or_crash(self):
        p = self.io_process('-f', 'qcow2', 'a')
        p.cmd('write -P 2 2M 64k')
        self.assertEqual(self.status('-U'), {'one': 'live', 'two': 'live',
                                             'three': 'consistent'})
        self.assertIn('2 bitmaps are in use',
                      self.img('check', '-U', 'a').stdout)
        p.kill()
        self.assertEqual(self.status(), {
            'one': 'inconsistent', 'two': 'inconsistent',
            'three': 'consistent'})
        self.assertNotIn('count', self.info()['one'])

    def test_void(self):
        with Bitmaps(self.path('a')) as b:
            b.clear_autoclear()
        self.assertEqual(set(self.status().values()), {'void'})
        self.io('a', 'write 2M 64k')
        self.assertEqual(set(self.status().values()), {'void'})

    # --- check ---

    def test_check_counts(self):
        self.assertNotIn('inconsistent-bitmaps', self.check())
        self.kill_writer()
        self.assertEqual(self.check()['inconsistent-bitmaps'], 2)
        text = self.img('check', 'a').stdout
        self.assertIn('2 inconsistent bitmaps were found', text)
        self.assertIn("qemu-img check -r all --bitmaps=remove 'a'\n", text)
        for r in ('leaks', 'all'):
            self.assertEqual(self.check('-r', r)['inconsistent-bitmaps'], 2)
            self.check('-r', r, '--bitmaps=keep')
        self.assertEqual(self.status()['one'], 'inconsistent')

    def test_remove(self):
        self.kill_writer()
        self.assertEqual(self.check('-r', 'leaks', '--bitmaps=remove')
                         ['bitmaps-fixed'], 2)
        self.assertEqual(self.status(), {'three': 'consistent'})
        self.assert_clean('a')

    def test_dirty(self):
        self.kill_writer()
        self.assertEqual(self.check('-r', 'all', '--bitmaps=dirty')
                         ['bitmaps-fixed'], 2)
        found = bitmaps(self.path('a'))
        self.assertEqual([(b.flags, b.dirty) for b in found.values()],
                         [(AUTO, [[0, 64 * M]])] * 2 + [(0, [])])
        self.io('a', 'write 3M 64k')
        self.assertEqual(self.status()['one'], 'consistent')
        self.assert_clean('a')

    def test_void_is_kept_by_check(self):
        with Bitmaps(self.path('a')) as b:
            b.clear_autoclear()
        self.io('a', 'write -P 3 4M 1M')
        for r in ('leaks', 'all'):
            self.assertEqual(self.check('-r', r)['inconsistent-bitmaps'], 3)
        self.assertEqual(set(self.status().values()), {'void'})
        self.assertEqual(self.check('-r', 'leaks', '--bitmaps=dirty')
                         ['bitmaps-fixed'], 3)
        self.assertEqual(set(self.status().values()), {'consistent'})
        self.io('a', 'read -P 3 4M 1M')
        self.assert_clean('a')

    def test_void_removed(self):
        with Bitmaps(self.path('a')) as b:
            b.clear_autoclear()
        self.check('-r', 'leaks', '--bitmaps=remove')
        self.assertEqual(self.status(), {})
        self.assert_clean('a')

    def test_void_clusters_of_others(self):
        """Clusters that a void bitmap had may belong to the guest by now."""
        with Bitmaps(self.path('a')) as b:
            table = b.entries()['one'].pos
            place = b.read(table, 8)
            b.clear_autoclear()
        # A program that takes them for leaks frees them, and the guest writes.
        with Qcow2Bytes(self.path('a')) as image:
            image.set_refcount(int.from_bytes(place, 'big') >> 16, 0)
        self.io('a', 'write -P 5 8M 64k')
        self.check('-r', 'all', '--bitmaps=remove')
        self.io('a', 'read -P 5 8M 64k')
        self.img('bitmap', '--add', 'a', 'new')
        self.io('a', 'read -P 5 8M 64k')
        self.assert_clean('a')

    def test_options(self):
        self.img_fails('--bitmaps requires -r', 'check', '--bitmaps=remove',
                       'a')
        self.img_fails("expecting 'keep', 'remove' or 'dirty'", 'check', '-r',
                       'all', '--bitmaps=yes', 'a')

    # --- convert ---

    def test_convert(self):
        self.kill_writer()
        args = ('convert', '--bitmaps', '-O', 'qcow2')
        self.img_fails("Cannot copy inconsistent bitmap", *args, 'a', 'b')
        result = self.img(*args, '--skip-broken-bitmaps', 'a', 'b')
        self.assertIn("Skipping inconsistent bitmap 'one'", result.stderr)
        self.assertEqual(list(bitmaps(self.path('b'))), ['three'])
        self.img_fails('Source lacks bitmap support', *args, '-f', 'raw', 'a',
                       'c')
        self.img_fails("'raw' does not support bitmaps", 'convert',
                       '--bitmaps', '-O', 'raw', 'a', 'c')

    # --- using an inconsistent one ---

    def test_inconsistent_only_goes(self):
        self.kill_writer()
        for action in ('--clear', '--enable', '--disable'):
            self.img_fails("Bitmap 'one' is inconsistent and cannot be used",
                           'bitmap', action, 'a', 'one')
        self.img_fails("'one' is inconsistent", 'bitmap', '--merge', 'one',
                       'a', 'three')
        self.img('bitmap', '--remove', 'a', 'one')
        self.assertEqual(list(self.status()), ['two', 'three'])
        self.assert_clean('a')

    # --- damage ---

    def each_byte(self):
        """Damages one byte of the directory after the other."""
        rng = self.rng()
        with Bitmaps(self.path('a')) as b:
            directory = b.read(b.dir, b.dir_size)
            entries = b.entries()
            for pos in range(0, b.dir_size):
                value = directory[pos] ^ (1 << rng.randrange(8) or 255)
                b.write(b.dir + pos, bytes([value]))
                name = next(e.name for e in entries.values()
                            if e.pos <= b.dir + pos < e.pos + e.length)
                yield pos, name
                b.write(b.dir + pos, directory[pos:pos + 1])

    def test_one_byte_costs_one_bitmap(self):
        for pos, name in self.each_byte():
            with self.subTest(pos):
                status = self.status()
                for other in {'one', 'two', 'three'} - {name}:
                    self.assertEqual(status.get(other), 'consistent')

    def test_damage_is_kept(self):
        """Neither writes nor repairs nor new bitmaps destroy what cannot be
        understood; the disk and the other bitmaps are used on."""
        with Bitmaps(self.path('a')) as b:
            entry = b.entries()['two']
            b.write(entry.pos + 18, b'\x07')    # name_size: 0x703
            raw = b.read(entry.pos, entry.length)
        self.io('a', 'write -P 2 2M 64k')
        self.check('-r', 'all', '--orphans=keep', rc=2)
        self.img('bitmap', '--add', 'a', 'four')
        self.img('bitmap', '--clear', 'a', 'one')
        self.io('a', 'read -P 1 1M 64k', 'read -P 2 2M 64k')
        status = self.status()
        self.assertEqual(status.pop(''), 'damaged')
        self.assertEqual(status, {n: 'consistent'
                                  for n in ('one', 'three', 'four')})
        with Bitmaps(self.path('a')) as b:
            self.assertIn(raw, b.read(b.dir, b.dir_size))
            self.assertEqual(b.count, 4)
        self.check('-r', 'all', '--orphans=keep', rc=2)
        self.check('-r', 'all', '--bitmaps=remove')
        self.assertEqual(list(self.status()), ['one', 'three', 'four'])
        self.assert_clean('a')

    def test_bad_table(self):
        with Bitmaps(self.path('a')) as b:
            table = int.from_bytes(b.read(b.entries()['one'].pos, 8), 'big')
            entry = b.read(table, 8)
            for bad in (0x2, 1 << 60, 0x10001, 0x12345600, 1 << 50):
                b.write(table, bad.to_bytes(8, 'big'))
                self.assertEqual(self.status(), {
                    'one': 'damaged', 'two': 'consistent',
                    'three': 'consistent'}, hex(bad))
                self.check(rc=2)
            b.write(table, entry)
        self.assertEqual(self.status()['one'], 'consistent')

    def test_bad_extension(self):
        """The image opens whatever the header says of bitmaps."""
        with Bitmaps(self.path('a')) as b:
            ext = b.read(b.ext, 24)
            for pos in range(-8, 24):
                old = b.read(b.ext + pos, 1)
                b.write(b.ext + pos, bytes([old[0] ^ 0x10]))
                if pos not in (-4, -3, -2):     # lengths beyond the cluster
                    self.io('a', 'read -P 1 1M 64k', options=('-r',))
                    self.img('info', 'a')
                b.write(b.ext + pos, old)
            b.write(b.ext + 15, b'\x01')        # size of the directory
        self.io('a', 'write -P 4 4M 64k')
        self.img_fails('stored bitmaps cannot be used', 'bitmap', '--add',
                       'a', 'new')
        self.assertEqual(ext[:15], self.read_file('a').split(
            b'\x23\x85\x28\x75\0\0\0\x18')[1][:15])
        self.img('bitmap', '--remove-all', 'a')
        self.img('bitmap', '--add', 'a', 'new')
        self.assertEqual(list(self.status()), ['new'])
        self.check('-r', 'leaks')
        self.assert_clean('a')

    def test_foreign_entries(self):
        """Types, flags and extra data of a later time are kept, not used."""
        for at, value in ((12, 8), (16, 2)):
            self.setUp()
            with Bitmaps(self.path('a')) as b:
                entry = b.entries()['two']
                b.write(entry.pos + at, bytes([value]))
            self.io('a', 'write 4M 64k')
            self.img('bitmap', '--remove', 'a', 'one')
            info = self.info()
            self.assertEqual(info['two']['status'], 'damaged')
            self.assertEqual(info['three']['status'], 'consistent')
            self.img('bitmap', '--remove', 'a', 'two')
            self.check('-r', 'leaks')
            self.assert_clean('a')


if __name__ == '__main__':
    iotests.main()
