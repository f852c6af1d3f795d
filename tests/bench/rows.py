# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured: a Row runs one thing by several sides in turn, and each of
its Lines compares one of our sides with the best of some others."""
import shutil
from dataclasses import dataclass, field

from iotests import tools

DEPTH = 64
BLOCK = 4096
ENGINES = ('threads', 'io_uring', 'native')
# Of the time of a request: 1.5 and 1.3 times the rate.
SERVER_TARGET, VHOST_TARGET = 0.67, 0.77
VHOST_READ = f'{tools.BUILD}/tests/bench/vhost-read'
# Ours are called OURS and, with an option, OURS + ' ' + option.
OURS = 'ours'


@dataclass
class Line:
    name: str
    side: str = OURS
    against: tuple = ()         # labels; none: all that are not ours
    key: str = 'time'           # of measure.KEYS
    target: float = None        # ours / theirs is to be at most this


@dataclass
class Row:
    name: str
    place: str                  # of the images: 'disk', 'memory' for tmpfs, or
                                # a file system of its own in a loop device
    images: tuple
    sides: dict                 # label: command; see command()
    lines: list = field(default_factory=list)
    requests: int = 0           # that each run makes, if it counts them
    repeat: int = 1             # runs for one measurement


def command(words, programs):
    """The first of @words names a program; OUT is what it makes."""
    program, *arguments = words.split()
    return [programs[program]] + ['out' if a == 'OUT' else a
                                  for a in arguments]


def both(name, arguments, target=None, flags=(), place='memory', images=(),
         repeat=1, more=()):
    """Ours without flags, the distribution's without and with each of @flags,
    which follow the name of the subcommand. @more: further Lines."""
    verb, rest = arguments.split(' ', 1)
    sides = {OURS: f'ours {arguments}', 'default': f'theirs {arguments}'}
    for flag in flags:
        sides[flag] = f'theirs {verb} {flag} {rest}'
    return Row(name, place, images, sides,
               [Line(name, target=target), *more], repeat=repeat)


PARALLEL = '-W -m 16'
DIRECT = '-t none -T none -W -m 16'


def conversions(place):
    flags = (PARALLEL,) if place == 'memory' else (PARALLEL, DIRECT)
    where = '' if place == 'memory' else ', disk'
    return [
        both(f'convert raw to qcow2{where}',
             'convert -f raw -O qcow2 source.raw OUT', 0.9, flags, place,
             ('source.raw',)),
        both(f'convert qcow2 to raw{where}',
             'convert -f qcow2 -O raw source.qcow2 OUT', 0.9, flags, place,
             ('source.qcow2',)),
    ]


def compressions():
    for codec, option, target in (
            ('zlib', '', 0.15), ('zstd', '-o compression_type=zstd ', 0.7)):
        size = Line(f'compress {codec}: size', key='size', target=1.1)
        yield both(f'compress {codec}',
                   f'convert -c -f raw -O qcow2 {option}source.raw OUT',
                   target, (PARALLEL,), images=('source.raw',), more=(size,))
    for codec in ('zlib', 'zstd'):
        yield both(f'decompress {codec}',
                   f'convert -f qcow2 -O raw {codec}.qcow2 OUT', 0.5,
                   (PARALLEL,), images=(f'{codec}.qcow2',))


def fio(mode, requests):
    # Its writes would not leave much of an image.
    name = 'noise.raw' if mode.endswith('write') else 'noise.qcow2'
    return (f'fio --name=bench --filename={name} --ioengine=io_uring '
            f'--direct=1 --iodepth={DEPTH} --bs={BLOCK} --rw={mode} '
            f'--io_size={requests * BLOCK} --norandommap --gtod_reduce=1 '
            f'--output-format=json')


def small_requests(mode, place, size, requests, have_fio):
    """4 KiB, depth 64, each engine of both, and fio on the same file. Files in
    memory cannot tell who waits well, so there it is processor time."""
    blocks = size // BLOCK
    # Scattered, and over every block before it comes back to the first: their
    # number is a power of two, or this is at least a prime of its own.
    step = BLOCK * (blocks * 618 // 1000 // 2 * 2 + 1)
    arguments = (f'bench -f qcow2 -c {requests} -d {DEPTH} -s {BLOCK} '
                 f'-S {step if mode.startswith("rand") else BLOCK}')
    if mode.endswith('write'):
        arguments += ' -w'
    sides = {}
    for engine in ENGINES:
        # Linux AIO is refused on files that go through the page cache.
        cache = ' -t none' if place == 'disk' or engine == 'native' else ''
        for program, label in (('ours', f'{OURS} {engine}'),
                               ('theirs', engine)):
            sides[label] = (f'{program} {arguments} -i {engine}{cache} '
                            f'noise.qcow2')
    words = {'randread': 'random read', 'read': 'sequential read',
             'randwrite': 'random write', 'write': 'sequential write'}[mode]
    name = f'4k {words}' + (', disk' if place == 'disk' else '')
    key = 'request' if place == 'disk' else 'work'
    # Our default, io_uring, has to do with their best; others with their like.
    lines = [Line(f'{name}, {engine}', f'{OURS} {engine}',
                  ENGINES if engine == 'io_uring' else (engine,), key,
                  0.7 if place == 'memory' and engine == 'io_uring' else None)
             for engine in ENGINES]
    images = ('noise.qcow2',)
    if place == 'disk' and have_fio:
        sides['fio'] = fio(mode, requests)
        images += ('noise.raw',)
        lines.append(Line(f'{name} beside fio', f'{OURS} io_uring', ('fio',),
                          key, 1 / 0.95))
    return Row(name, place, images, sides, lines, requests)


def nbd(name, client, key, times=1):
    """A client beside either server, whose processor time is in it."""
    sides = {label: f'serve nbd {program} noise.raw {times} {client}'
             for label, program in ((OURS, tools.qemu_nbd()),
                                    ('qemu-nbd', tools.ref_nbd()))}
    return Row(name, 'memory', ('noise.raw',), sides,
               [Line(name, key=key, target=SERVER_TARGET)])


def nbd_fio(requests):
    """The same client, and what it gets of either server."""
    row = nbd('nbd server: 4k random read, fio',
              f'fio --name=bench --ioengine=nbd --uri=URI --rw=randread '
              f'--bs={BLOCK} --iodepth={DEPTH} --io_size={requests * BLOCK} '
              f'--norandommap --gtod_reduce=1 --output-format=json',
              'request')
    row.requests = requests
    return row


def nbd_client(requests):
    """Either client, with the distribution's server."""
    arguments = (f'bench -f raw -c {requests} -d {DEPTH} -s {BLOCK} -S 40960 '
                 f'URI')
    sides = {label: f'serve nbd {tools.ref_nbd()} noise.raw 1 {program} '
                    f'{arguments}'
             for label, program in ((OURS, tools.qemu_img()),
                                    ('qemu-img', tools.ref_img()))}
    name = 'nbd client: 4k read'
    return Row(name, 'memory', ('noise.raw',), sides,
               [Line(name, key='request')], requests)


def nbd_rows(have_fio, requests):
    """Of the clients there are."""
    if not tools.ref_nbd():
        return
    if shutil.which('nbdcopy'):
        # More than one, for the programs' start is no part of the rate.
        yield nbd('nbdcopy from qemu-nbd', 'nbdcopy URI null:', 'time', 4)
    if have_fio:
        yield nbd_fio(requests)
    yield nbd_client(requests)


def vhost_rows(requests):
    """A front-end of ours beside either daemon. Its processor time, which is
    the same for both, is in it."""
    if not tools.ref_qsd():
        return
    name = 'vhost-user-blk: 4k random read'
    sides = {label: f'serve vhost {program} noise.raw 1 {VHOST_READ} SOCKET '
                    f'{requests} {DEPTH}'
             for label, program in ((OURS, tools.qsd()),
                                    ('qemu-storage-daemon', tools.ref_qsd()))}
    yield Row(name, 'memory', ('noise.raw',), sides,
              [Line(name, key='request', target=VHOST_TARGET)], requests)


FILE_SYSTEMS = ('ext4', 'xfs')


def fragments():
    """A raw file of 100,000 pieces: how long it takes to find them."""
    node = 'driver=raw,file.driver=file,file.filename=fragments.raw'
    for place in FILE_SYSTEMS:
        sides = {f'{OURS} {how}': f'ours map --output=json --image-opts '
                                  f'{node},file.extents={how}'
                 for how in ('seek', 'fiemap')}
        sides['default'] = 'theirs map -f raw --output=json fragments.raw'
        yield Row(f'map 100,000 extents, {place}', place, ('fragments.raw',),
                  sides, [Line(f'map 100,000 extents, {place}, {how}',
                               f'{OURS} {how}') for how in ('seek', 'fiemap')])


def guarded(clusters, target):
    """Sequential allocation with an L1 guard, beside the same without."""
    arguments = 'convert -f raw -O qcow2 -o cluster_size=' + clusters
    sides = {OURS: f'ours {arguments},l1_guard=on source.raw OUT',
             'unguarded': f'ours {arguments} source.raw OUT'}
    name = f'L1 guard, {clusters} clusters'
    return Row(name, 'disk', ('source.raw',), sides,
               [Line(name, target=target)])


def all_rows(small, have_fio, quick):
    """@small: bytes of the disk for 4 KiB requests."""
    rows = [
        both('info', 'info source.qcow2', images=('source.qcow2',), repeat=20),
        both('create', 'create -q -f qcow2 OUT 1T', repeat=20),
        *conversions('memory'),
        *conversions('disk'),
        both('convert qcow2 to qcow2',
             'convert -f qcow2 -O qcow2 source.qcow2 OUT', flags=(PARALLEL,),
             images=('source.qcow2',)),
        both('convert through a chain',
             'convert -f qcow2 -O qcow2 top.qcow2 OUT', flags=(PARALLEL,),
             images=('top.qcow2',)),
        *compressions(),
        both('compare', 'compare -f raw -F qcow2 source.raw source.qcow2',
             images=('source.raw', 'source.qcow2')),
        both('check 1 TiB', 'check -q huge.qcow2', 0.15, ('-T none',),
             'disk', ('huge.qcow2',)),
        both('check 4 TiB', 'check -q huge4.qcow2', 0.15, ('-T none',), 'disk',
             ('huge4.qcow2',),
             more=(Line('check 4 TiB: memory', key='memory', target=0.5),)),
        both('map 1 TiB', 'map --output=json huge.qcow2', 0.2, (), 'disk',
             ('huge.qcow2',)),
        both('check, 4k clusters', 'check -q small.qcow2', repeat=5,
             images=('small.qcow2',)),
        both('map, 4k clusters', 'map --output=json small.qcow2', repeat=5,
             images=('small.qcow2',)),
    ]
    rows += fragments()
    rows += [guarded('64k', 1.02), guarded('4k', None)]
    rows += nbd_rows(have_fio, 20000 if quick else 200000)
    rows += vhost_rows(20000 if quick else 400000)
    for place, requests in (('disk', 100000), ('memory', 500000)):
        for mode in ('randread', 'read', 'randwrite', 'write'):
            rows.append(small_requests(mode, place, small,
                                       requests // (5 if quick else 1),
                                       have_fio))
    return rows
