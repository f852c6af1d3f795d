#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""First inputs of fuzz-qcow2: the smallest images of each kind that the
distribution's tools make, with requests behind them.

    make-corpus.py DIRECTORY
"""
import os
import random
import subprocess
import sys
import tempfile

# name: (options, qemu-io commands, other qemu-img commands)
IMAGES = {
    'v3': ('', ['write -P 1 0 3k', 'write -z 4k 2k', 'write -c -P 2 8k 512'],
           []),
    'v2': ('compat=0.10', ['write -P 1 0 3k', 'write -c -P 2 8k 512'], []),
    'zstd': ('compression_type=zstd', ['write -c -P 2 8k 512',
                                       'write -P 3 1k 1k'], []),
    'snapshot': ('', ['write -P 1 0 2k'], [['snapshot', '-c', 's']]),
    'bitmap': ('', ['write -P 1 0 2k'], [['bitmap', '--add', '-g', '512',
                                          'IMAGE', 'b']]),
    'refcount1': ('refcount_bits=1', ['write -P 1 0 2k'], []),
    'refcount64': ('refcount_bits=64,lazy_refcounts=on', ['write -P 1 0 2k'],
                   []),
}


def run(*args):
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL)


def requests(name):
    """128 bytes: fifteen requests and how the image is opened (writable)."""
    rng = random.Random(name)
    data = b''
    for _ in range(15):
        data += bytes([rng.randrange(12), rng.randrange(16)])
        data += rng.randrange(40).to_bytes(2, 'little')
        data += rng.randrange(4096).to_bytes(2, 'little')
        data += rng.randrange(256).to_bytes(2, 'little')
    return data + bytes([7, 0, 0, 0, 0, 0, 0, 1 | rng.choice((0, 4, 8, 16))])


def main():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, 'image')
        for name, (options, writes, others) in IMAGES.items():
            run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o',
                ','.join(filter(None, ('cluster_size=512', options))), path,
                '12k')
            run('qemu-io', '-f', 'qcow2',
                *(a for w in writes for a in ('-c', w)), path)
            for other in others:
                other = [path if a == 'IMAGE' else a for a in other]
                run('qemu-img', *other, *([] if path in other else [path]))
            with open(path, 'rb') as f:
                image = f.read()
            with open(os.path.join(sys.argv[1], name), 'wb') as f:
                f.write(image.ljust(-len(image) % 8) + requests(name))


if __name__ == '__main__':
    main()
