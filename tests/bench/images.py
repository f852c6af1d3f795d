# SPDX-License-Identifier: GPL-2.0-or-later
"""The images that the rows read, each made when a row first asks for it, by the
distribution's tool only."""
import glob
import os
import subprocess

from iotests import tools

MIB = 1 << 20


def _joined(paths):
    for path in sorted(paths):
        if os.path.isfile(path) and not os.path.islink(path):
            with open(path, 'rb') as f:
                yield f.read()


def _corpus(patterns, least):
    """At least this many bytes of what files match, over and over if need be."""
    data = b''
    for pattern in patterns:
        for content in _joined(glob.glob(pattern)):
            data += content
            if len(data) >= least:
                return data
    if not data:
        raise FileNotFoundError(f'nothing matches {" or ".join(patterns)}')
    return data * (least // len(data) + 1)


def programs():
    """Machine code and its tables, as a disk full of programs has them."""
    return _corpus(('/usr/lib/*/lib*.so.*', '/usr/bin/*'), 64 * MIB)


def text():
    return _corpus((f'{tools.TOP}/block/*.c', f'{tools.TOP}/block/*/*.c',
                    f'{tools.TOP}/include/*/*.h', f'{tools.TOP}/docs/*/*.md'),
                   2 * MIB)


class Images:
    """Of one directory, which is where the commands run."""

    def __init__(self, directory, size, small, reference):
        self.directory = directory
        self.size = size        # of the disk that is copied, bytes
        self.small = small      # of the disk that is read and written in 4 KiB
        self.reference = reference

    def path(self, name):
        return os.path.join(self.directory, name)

    def get(self, name):
        """Makes the image unless it is there."""
        if os.path.exists(self.path(name)):
            return
        {
            'source.raw': self._source,
            'source.qcow2': lambda: self._convert('source.raw', name),
            'small.qcow2': lambda: self._convert('source.raw', name, '-o',
                                                 'cluster_size=4k'),
            'zlib.qcow2': lambda: self._convert('source.raw', name, '-c'),
            'zstd.qcow2': lambda: self._convert('source.raw', name, '-c', '-o',
                                                'compression_type=zstd'),
            'mid.qcow2': lambda: self._overlay('source.qcow2', name),
            'top.qcow2': lambda: self._overlay('mid.qcow2', name),
            'huge.qcow2': lambda: self._preallocate(name, '1T'),
            'huge4.qcow2': lambda: self._preallocate(name, '4T'),
            'noise.raw': self._noise,
            'fragments.raw': self._fragments,
            # Every cluster is allocated and was written.
            'noise.qcow2': lambda: self._convert('noise.raw', name),
        }[name]()
        # So that no row pays for what another one left in the page cache.
        os.sync()

    def _ref(self, *args):
        subprocess.run([self.reference, *args], check=True, cwd=self.directory,
                       stdout=subprocess.DEVNULL)

    def _convert(self, source, name, *args):
        self.get(source)
        self._ref('convert', '-f', 'raw', '-O', 'qcow2', *args, source, name)

    def _preallocate(self, name, size):
        self._ref('create', '-q', '-f', 'qcow2', '-o',
                  'preallocation=metadata', name, size)

    def _overlay(self, below, name):
        self.get(below)
        self._ref('create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2',
                  name)

    def _source(self):
        """Programs, text, noise, zeroes and holes, a MiB at a time."""
        random = tools.rng('bench')
        kinds = {'programs': programs(), 'text': text()}
        with open(self.path('source.raw'), 'wb') as f:
            f.truncate(self.size)
            for offset in range(0, self.size, MIB):
                kind = random.choice(('noise', 'programs', 'programs', 'text',
                                      'zero', 'hole'))
                if kind == 'hole':
                    continue
                if kind in kinds:
                    start = random.randrange(len(kinds[kind]) - MIB)
                    data = kinds[kind][start:start + MIB]
                else:
                    data = random.randbytes(MIB) if kind == 'noise' \
                        else bytes(MIB)
                f.seek(offset)
                f.write(data)

    def _fragments(self):
        """Every second block of 200,000 is data."""
        with open(self.path('fragments.raw'), 'wb') as f:
            for i in range(100000):
                f.seek(i * 8192)
                f.write(b'x' * 4096)
            f.truncate(100000 * 8192)

    def _noise(self):
        random = tools.rng('bench-noise')
        with open(self.path('noise.raw'), 'wb') as f:
            for _ in range(0, self.small, MIB):
                f.write(random.randbytes(MIB))
