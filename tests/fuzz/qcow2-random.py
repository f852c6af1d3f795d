#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Random requests of ours on images that the distribution's tools made and
judge afterwards.

Each round makes an image of random geometry with qemu-img, fills it with
qemu-io (compressed clusters, zeroes, discards, snapshots), lets
qcow2-exercise work on it, and then demands that qemu-img check finds nothing
and that qemu-img compare sees the model's content. Seeds are printed;
--seed N --rounds 1 repeats a round.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile


def run(*args, ok=(0,)):
    """Runs a program; its output, or an exception that shows everything."""
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=600)
    if p.returncode not in ok:
        raise RuntimeError(f'{" ".join(args)}: exit {p.returncode}\n'
                           f'{p.stdout[-4000:]}')
    return p.stdout


def geometry(rng):
    """Options of a new image; small clusters get small disks."""
    cluster = rng.choice([512, 1024, 4096, 16384, 65536, 65536, 2 << 20])
    compat = rng.choice(['0.10', '1.1', '1.1'])
    options = {'cluster_size': cluster, 'compat': compat}
    if compat == '1.1':
        options['refcount_bits'] = rng.choice([1, 2, 4, 8, 16, 32, 64])
        options['lazy_refcounts'] = rng.choice(['on', 'off', 'off'])
        options['compression_type'] = rng.choice(['zlib', 'zstd'])
        if cluster >= 16384:
            options['extended_l2'] = rng.choice(['on', 'off'])
    size = {512: 1 << 20, 1024: 2 << 20, 4096: 4 << 20, 16384: 8 << 20,
            65536: 16 << 20, 2 << 20: 48 << 20}[cluster]
    size -= rng.choice([0, 0, 512, 1536, cluster // 2 & -512])
    return options, size


def fill(rng, image, size, cluster, count):
    """Writes of all kinds by qemu-io."""
    commands = []
    for _ in range(count):
        offset = rng.randrange(size // 512) * 512
        length = min(size - offset, rng.randrange(1, 4 * cluster // 512) * 512)
        kind = rng.choice(['write -P %d', 'write -P %d', 'write -z',
                           'write -z -u', 'discard', 'write -c -P %d'])
        if '%d' in kind:
            kind %= rng.randrange(1, 255)
        if '-c' in kind:
            offset = offset // cluster * cluster
            length = min(cluster, size - offset)
        commands += ['-c', f'{kind} {offset} {length}']
    run('qemu-io', '-d', 'unmap', '-f', 'qcow2', *commands, image,
        ok=(0, 1))


def node(rng, image, options):
    """How ours opens the image."""
    cluster = options['cluster_size']
    desc = {'driver': 'qcow2',
            'file': {'driver': 'file', 'filename': image,
                     'aio': rng.choice(['threads', 'io_uring'])}}
    if rng.random() < 0.5:
        desc['l2-cache-entry-size'] = rng.choice(
            [c for c in (512, 4096, cluster) if c <= cluster])
        desc['l2-cache-size'] = desc['l2-cache-entry-size'] * rng.choice(
            [2, 3, 8])
    if rng.random() < 0.3:
        desc['overlap-check'] = rng.choice(['none', 'constant', 'all'])
    if options['compat'] == '1.1' and rng.random() < 0.2:
        desc['discard-no-unref'] = True
    if rng.random() < 0.3:
        desc['pass-discard-request'] = rng.choice([True, False])
        desc['pass-discard-other'] = True
    return desc


def one_round(seed, args, directory):
    rng = random.Random(seed)
    options, size = geometry(rng)
    image = os.path.join(directory, 'image.qcow2')
    base = os.path.join(directory, 'base.qcow2')
    model = os.path.join(directory, 'model.raw')
    features = []
    text = ','.join(f'{k}={v}' for k, v in options.items())
    backing = []

    if rng.random() < 0.4:
        base_size = max(512, size + rng.choice([0, -size // 2, size // 2]))
        base_size &= -512
        run('qemu-img', 'create', '-q', '-f', 'qcow2', base, str(base_size))
        fill(rng, base, base_size, 65536, 20)
        backing = ['-b', base, '-F', 'qcow2']
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', text, *backing,
        image, str(size))
    snapshots = []
    can_snapshot = options.get('refcount_bits', 16) >= 2
    for i in range(rng.choice([0, 1, 1, 2])):
        fill(rng, image, size, options['cluster_size'], 10)
        if can_snapshot and rng.random() < 0.3:
            raw = os.path.join(directory, f's{i}.raw')
            try:
                run('qemu-img', 'snapshot', '-c', f's{i}', image)
                run('qemu-img', 'convert', '-f', 'qcow2', '-l', f's{i}',
                    '-O', 'raw', image, raw)
            except RuntimeError:
                # A refcount is at its maximum, or QEMU 7.2 cannot read what
                # it made. What it took for the attempt leaks.
                run('qemu-img', 'check', '-r', 'leaks', image, ok=(0, 1, 2, 3))
                continue
            snapshots.append((f's{i}', raw))
    try:
        run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', image, model)
    except RuntimeError:
        # Its own driver cannot read what QEMU 7.2 wrote: nothing to compare.
        print(f'seed {seed}: qemu-io made an unreadable image', flush=True)
        return True
    if 'corrupt: true' in run('qemu-img', 'info', image):
        print(f'seed {seed}: qemu-io marked its image corrupt', flush=True)
        return True
    if rng.random() < 0.5:
        features.append('compressed')
    # Behind the old end a longer backing file must stay hidden.
    if rng.random() < 0.5 and not (snapshots and options['compat'] == '0.10'):
        features.append('resize')
    if backing and options['compat'] == '0.10':
        features.append('v2backing')
    if rng.random() < 0.2:
        features.append('crash')
    desc = node(rng, image, options)
    workers = rng.choice([1, 2, 8, 24])
    command = [args.exercise, json.dumps(desc), str(seed), str(args.ops),
               str(workers), model, ','.join(features)]
    about = f'seed {seed}: {text} size={size} backing={bool(backing)} ' \
            f'snapshots={len(snapshots)} workers={workers} {features}'
    if args.verbose:
        print(about, flush=True)
    try:
        run(*command)
        crash = 'crash' in features
        if crash and options.get('lazy_refcounts') == 'on':
            # The dirty bit is set: opening read-write repairs.
            run('qemu-io', '-f', 'qcow2', '-c', 'read 0 512', image)
        run('qemu-img', 'check', image, ok=(0, 3) if crash else (0,))
        run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', model, image)
        for name, raw in snapshots:
            copy = os.path.join(directory, 'copy.raw')
            run('qemu-img', 'convert', '-f', 'qcow2', '-l', name, '-O', 'raw',
                image, copy)
            # convert -l takes the size of the disk, not of the snapshot.
            size = min(os.path.getsize(raw), os.path.getsize(copy))
            run('cmp', '-n', str(size), raw, copy)
    except (RuntimeError, subprocess.TimeoutExpired) as e:
        print(f'FAILED {about}\n{" ".join(command)}\n{e}', flush=True)
        return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('exercise', help='path of qcow2-exercise')
    parser.add_argument('--seed', type=int)
    parser.add_argument('--rounds', type=int, default=12)
    parser.add_argument('--ops', type=int, default=600)
    parser.add_argument('--keep', help='work here and leave the files')
    parser.add_argument('-v', '--verbose', action='store_true')
    args = parser.parse_args()
    first = args.seed if args.seed is not None else random.randrange(1 << 31)
    print(f'seeds from {first}', flush=True)
    failed = 0
    for seed in range(first, first + args.rounds):
        if args.keep:
            os.makedirs(args.keep, exist_ok=True)
            failed += not one_round(seed, args, args.keep)
        else:
            with tempfile.TemporaryDirectory() as directory:
                failed += not one_round(seed, args, directory)
        if failed >= 3:
            break
    print(f'{failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
