#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""A write that would land on the image's own tables is refused, the image is
marked corrupt, and nothing of it has changed."""
import iotests
from iotests.qcow2_bytes import COPIED, OFFSET_MASK, Qcow2Bytes


class MetadataOverlap(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '4M')
        self.io('a', 'write -P 1 0 128k')

    def places(self):
        with Qcow2Bytes(self.path('a')) as image:
            return {'header': 0, 'L1 table': image.l1_offset,
                    'L2 table': image.l2_offset(0),
                    'refcount table': image.reft_offset,
                    'refcount block': image.reft(0) & OFFSET_MASK}

    def test_write_through_an_entry_to_metadata(self):
        good = self.read_file('a')
        for name, place in self.places().items():
            if place == 0:
                continue
            with self.subTest(name):
                self.write_file('a', good)
                with Qcow2Bytes(self.path('a')) as image:
                    image.set_l2(0, 0, place | COPIED)
                before = self.read_file('a')[place:place + 65536]
                out = self.io_fails('write failed: Input/output error', 'a',
                                    'write -P 0xff 0 64k').stderr
                self.assertRegex(out, '[Cc]orrupt')
                self.assertEqual(self.read_file('a', place, 65536), before)
                self.assertIs(self.img_json('info', 'a')['format-specific']
                              ['data']['corrupt'], True)
                self.io_fails('corrupt', 'a', 'write 64k 64k')

    def test_allocation_that_would_reuse_metadata(self):
        """Refcounts of zero for tables: the allocator must not believe it."""
        good = self.read_file('a')
        for name, place in self.places().items():
            with self.subTest(name):
                self.write_file('a', good)
                with Qcow2Bytes(self.path('a')) as image:
                    image.set_refcount(place // 65536, 0)
                result = self.io('a', 'write -P 0xff 1M 1M', rc=None)
                if result.rc == 0:
                    self.io('a', 'read -P 0xff 1M 1M')
                self.assertEqual(self.guest_start(), b'\1' * 131072)

    def guest_start(self):
        self.img('convert', '-O', 'raw', 'a', 'out')
        return self.read_file('out', 0, 131072)

    def test_checks_can_be_off(self):
        """overlap-check=none does as it is told: this is what it protects
        from."""
        with Qcow2Bytes(self.path('a')) as image:
            image.set_l2(0, 1, image.l2(0, 0))
        self.io('driver=qcow2,overlap-check=none,file.filename=a',
                'write -P 3 0 64k', 'read -P 3 64k 64k', fmt=None,
                options=['--image-opts'])

    def test_reading_goes_on_after_a_refusal(self):
        with Qcow2Bytes(self.path('a')) as image:
            image.set_l2(0, 0, image.l1_offset | COPIED)
        self.io_fails('.', 'a', 'write 0 64k')
        self.io('a', 'read -P 1 64k 64k', options=['-r'])


if __name__ == '__main__':
    iotests.main()
