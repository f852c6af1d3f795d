# SPDX-License-Identifier: GPL-2.0-or-later
"""Well-formed qcow2 images of all kinds, made by the distribution's tools."""
import os
import random
import subprocess

REF_IMG = os.environ.get('REF_QEMU_IMG') or 'qemu-img'
REF_IO = os.environ.get('REF_QEMU_IO') or 'qemu-io'

BASE = 'base.raw'
BASE_SIZE = 300 * 1024

# name: (options, disk size, features). The files stay small, so that a
# truncation at every sector is not the whole test.
SEEDS = {
    'v3-64k': ('', '2M', 'compressed zero'),
    'v2-64k': ('compat=0.10', '2M', 'compressed'),
    'v3-512': ('cluster_size=512', '150k', 'compressed zero snapshots'),
    'v2-512': ('cluster_size=512,compat=0.10', '100k', 'compressed snapshots'),
    'v3-4k': ('cluster_size=4k', '3M', 'compressed zero snapshots bitmaps'),
    'v2-4k': ('cluster_size=4k,compat=0.10', '1M', 'compressed snapshots'),
    'v3-4k-zstd': ('cluster_size=4k,compression_type=zstd', '1M',
                   'compressed zero bitmaps'),
    'v3-4k-backing': ('cluster_size=4k', '400k', 'compressed zero backing'),
    'v2-4k-backing': ('cluster_size=4k,compat=0.10', '400k', 'backing'),
    'v3-1k-refcount1': ('cluster_size=1k,refcount_bits=1', '300k', 'zero'),
    'v3-1k-refcount64': ('cluster_size=1k,refcount_bits=64,lazy_refcounts=on',
                         '300k', 'compressed bitmaps'),
    'v3-4k-prealloc': ('cluster_size=4k,preallocation=metadata', '200k', ''),
    'v3-16k-extended': ('cluster_size=16k,extended_l2=on', '600k',
                        'compressed zero snapshots'),
    'v3-16k-extended-backing': ('cluster_size=16k,extended_l2=on', '400k',
                                'zero backing'),
    'v3-4k-data-file': ('cluster_size=4k,data_file=ext.raw', '200k', ''),
}


def run(*args, cwd):
    done = subprocess.run(args, cwd=cwd, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f'{args}: {done.stderr.decode()}')


def fill(name, size, features, cwd):
    """Data everywhere, of every kind that the image can have."""
    rng = random.Random(name)
    units = size // 512
    commands = []
    for i in range(12):
        at = rng.randrange(units) * 512
        length = min(size - at, rng.randrange(1, max(units // 12, 2)) * 512)
        commands.append(f'write -P {i + 1} {at} {length}')
    if 'zero' in features:
        for flag in ('-z', '-z -u', '-z'):
            at = rng.randrange(units) * 512
            length = min(size - at, rng.randrange(1, units // 12) * 512)
            commands.append(f'write {flag} {at} {length}')
    io(name, commands, cwd)


def compress(name, size, cluster, cwd):
    """What cannot be overwritten compressed is tried all the same."""
    rng = random.Random(name + ' compressed')
    commands = []
    for i in range(8):
        at = rng.randrange(size // cluster) * cluster
        commands.append(f'write -c -P {100 + i} {at} {cluster}')
    io(name, commands, cwd)


def io(name, commands, cwd):
    args = [a for c in commands for a in ('-c', c)]
    subprocess.run([REF_IO, '-f', 'qcow2', *args, name], cwd=cwd,
                   capture_output=True, check=False)


def parse_size(text):
    unit = {'k': 1 << 10, 'M': 1 << 20}
    return int(text[:-1]) * unit[text[-1]]


def make(name, cwd):
    """Makes the image in @cwd and returns its bytes. The backing file has to
    be there."""
    options, size_text, features = SEEDS[name]
    size = parse_size(size_text)
    args = ['-o', options] if options else []
    if 'backing' in features:
        args += ['-b', BASE, '-F', 'raw']
    run(REF_IMG, 'create', '-q', '-f', 'qcow2', *args, name, size_text,
        cwd=cwd)
    with open(os.path.join(cwd, name), 'rb') as f:
        cluster = 1 << int.from_bytes(f.read(24)[20:24], 'big')
    if 'compressed' in features:
        compress(name, size, cluster, cwd)
    fill(name, size, features, cwd)
    if 'snapshots' in features:
        run(REF_IMG, 'snapshot', '-c', 'first', name, cwd=cwd)
        io(name, [f'write -P 77 0 {size // 8 & -512}'], cwd)
        run(REF_IMG, 'snapshot', '-c', 'second', name, cwd=cwd)
    if 'bitmaps' in features:
        for i in range(2):
            run(REF_IMG, 'bitmap', '--add', '-g', '512', name, f'b{i}',
                cwd=cwd)
    io(name, [f'write -P 78 {size // 2 & -512} {size // 8 & -512}'], cwd)
    with open(os.path.join(cwd, name), 'rb') as f:
        return f.read()


def make_base(cwd):
    """The raw backing file: bytes that tell where they are from."""
    with open(os.path.join(cwd, BASE), 'wb') as f:
        for i in range(BASE_SIZE // 512):
            f.write(bytes([i % 251 + 1]) * 512)
