# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that writes at random, and remembers what it must read.

The model is the plain content of the disk. Each operation changes the model and
gives the qemu-io command that does the same to an image, so that any qemu-io
can play the guest.
"""


class Guest:
    def __init__(self, rng, size, cluster_size, content=b'', *,
                 discard_zeroes=True, compress=True, unit=None):
        """content: what the disk holds at first (the rest is zero).
        discard_zeroes: whether discarded clusters read as zeroes; otherwise
        they keep their content. compress: whether to write compressed.
        unit: what is allocated at once, if that is less than a cluster."""
        self.rng = rng
        self.size = size
        self.cluster = cluster_size
        self.unit = unit or cluster_size
        self.disk = bytearray(content[:size].ljust(size, b'\0'))
        self.discard_zeroes = discard_zeroes
        self.compress = compress
        # Clusters that may have been written: a compressed write of one of
        # them fails in qcow2.
        self.allocated = set()

    def _range(self):
        """Somewhere, from a byte to several clusters; often at a border."""
        c = self.cluster
        offset = self.rng.randrange(self.size)
        if self.rng.random() < .4:
            offset -= offset % self.rng.choice((c, self.unit))
        length = self.rng.choice((1, 512, 4096, self.unit, c, 2 * c, 3 * c,
                                  self.rng.randint(1, 4 * c)))
        return offset, max(1, min(length, self.size - offset, 1 << 22))

    def _cluster_range(self):
        """Whole clusters, the last one perhaps cut by the end of the disk."""
        c = self.cluster
        first = self.rng.randrange((self.size + c - 1) // c)
        offset = first * c
        count = self.rng.randint(1, 3)
        return offset, min(count * c, self.size - offset)

    def _touch(self, offset, length):
        self.allocated.update(range(offset // self.cluster,
                                    (offset + length - 1) // self.cluster + 1))

    def _fill(self, offset, length, byte):
        self.disk[offset:offset + length] = bytes([byte]) * length

    def write(self):
        offset, length = self._range()
        byte = self.rng.randint(1, 255)
        self._touch(offset, length)
        self._fill(offset, length, byte)
        return f'write -q -P {byte} {offset} {length}'

    def write_zeroes(self):
        offset, length = self._range()
        self._touch(offset, length)
        self._fill(offset, length, 0)
        flags = self.rng.choice(('-z', '-z -u'))
        return f'write -q {flags} {offset} {length}'

    def discard(self):
        offset, length = self._cluster_range()
        if self.discard_zeroes:
            self._fill(offset, length, 0)
        return f'discard -q {offset} {length}'

    def write_compressed(self):
        offset, length = self._cluster_range()
        length = min(length, self.cluster)
        if offset // self.cluster in self.allocated:
            return self.flush()
        self._touch(offset, length)
        byte = self.rng.randint(1, 255)
        self._fill(offset, length, byte)
        return f'write -q -c -P {byte} {offset} {length}'

    def flush(self):
        return 'flush'

    def commands(self, count):
        """count operations, as qemu-io commands."""
        choices = [self.write] * 5 + [self.write_zeroes] * 2 + [
            self.discard] * 2 + [self.flush]
        if self.compress:
            choices += [self.write_compressed] * 2
        return [self.rng.choice(choices)() for _ in range(count)]
