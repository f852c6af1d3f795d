# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to damage a qcow2 image; used by the tests of check.

DAMAGE maps a name to Damage(function, ...). The function gets a Qcow2Bytes of
an image that make_plain(), make_snapshots() or make_bitmaps() made with the
distribution's tools.
"""
from dataclasses import dataclass

from iotests.qcow2_bytes import COPIED, OFFSET_MASK, ZERO, Qcow2Bytes


@dataclass(frozen=True)
class Damage:
    apply: object
    kind: str = 'plain'     # which image
    opts: str = ''          # -o of its creation
    # Whether our report has the distribution's numbers; where not, the comment
    # beside it says why.
    same: bool = True
    # Whether check -r all makes an image without errors of it.
    repairable: bool = True
    # If not: whether it does with what is leaked saved.
    saved: bool = False
    # Whether check -r all brings data back that the damage has hidden.
    restores: bool = False


def make_plain(test, name, opts=''):
    """Zero, normal and compressed clusters; cluster size 64k if not in opts."""
    args = ['-o', opts] if opts else []
    test.ref('create', '-q', '-f', 'qcow2', *args, name, '16M')
    commands = ['write -P 1 0 512k', 'write -P 2 4M 128k']
    if 'compat=0.10' not in opts:
        commands += ['write -z 1M 64k', 'write -z 0 64k']
    # Two compressed clusters share one host cluster.
    if opts not in ('refcount_bits=1', 'cluster_size=2M'):
        commands += ['write -c -P 3 8M 64k', 'write -c -P 4 8256k 64k']
    test.ref_io(name, *commands, fmt='qcow2')


def make_snapshots(test, name, opts=''):
    make_plain(test, name, opts)
    test.ref('snapshot', '-c', 's1', name)
    test.ref_io(name, 'write -P 5 0 128k', 'write -P 6 8M 64k', fmt='qcow2')
    test.ref('snapshot', '-c', 's2', name)
    test.ref_io(name, 'write -P 7 0 64k', fmt='qcow2')


def make_bitmaps(test, name, opts=''):
    make_plain(test, name, opts)
    test.ref('bitmap', '--add', name, 'b0')
    test.ref('bitmap', '--add', '-g', '512', name, 'b1')
    test.ref_io(name, 'write -P 5 0 128k', 'write -P 6 8M 64k', fmt='qcow2')


def assert_settled(test, name, *args):
    """What check -r all has left another one leaves, too, and finds again."""
    left = test.img('check', '-f', 'qcow2', name, rc=None)
    before = test.read_file(name)
    again = test.img('check', '-f', 'qcow2', '-r', 'all', *args, name, rc=None)
    test.assertTrue(test.read_file(name) == before, again.describe())
    test.assertEqual(again.rc, left.rc, again.describe())


MAKE = {'plain': make_plain, 'snapshots': make_snapshots,
        'bitmaps': make_bitmaps}


def damaged(test, damage, name='d.qcow2'):
    """Makes the image and damages it."""
    MAKE[damage.kind](test, name, damage.opts)
    with Qcow2Bytes(test.path(name)) as image:
        damage.apply(image)
    return name


def _snap_l1(i):
    return i.u64(i.snap_offset)


def _snap_l2(i):
    return i.u64(_snap_l1(i)) & OFFSET_MASK


def _bm(i):
    return i.bitmap_directory()[0]


def _all(*functions):
    def apply(i):
        for f in functions:
            f(i)
    return apply


def _leak_behind(i):
    end = i.size() // i.cluster
    i.truncate((end + 4) * i.cluster)
    i.set_refcount(end + 2, 1)


def _shorten_snapshots(i):
    """Takes the extra data out of all entries."""
    at, table = i.snap_offset, b''
    for _ in range(i.nb_snapshots):
        header = i.read(at, 40)
        extra = int.from_bytes(header[36:40], 'big')
        names = sum(int.from_bytes(header[n:n + 2], 'big') for n in (12, 14))
        entry = header[:36] + bytes(4) + i.read(at + 40 + extra, names)
        table += entry + bytes(-len(entry) % 8)
        at += 40 + extra + names + 7 & ~7
    i.write(i.snap_offset, table.ljust(at - i.snap_offset, b'\0'))


DAMAGE = {
    'none': Damage(lambda i: None),
    'v2': Damage(lambda i: None, opts='compat=0.10'),
    'small-clusters': Damage(lambda i: None, opts='cluster_size=512'),
    'large-clusters': Damage(lambda i: None, opts='cluster_size=2M'),

    # refcounts
    'leak-and-copied': Damage(lambda i: i.set_refcount(9, 3)),
    'leak-at-end': Damage(_leak_behind),
    'refcount-beyond-file': Damage(lambda i: i.set_refcount(2000, 1)),
    'refcount-low': Damage(lambda i: i.set_refcount(6, 0)),
    'refcount-high': Damage(lambda i: i.set_refcount(6, 2)),
    'refcount-bits-1': Damage(lambda i: i.set_refcount(7, 0),
                              opts='refcount_bits=1'),
    'refcount-bits-2': Damage(lambda i: i.set_refcount(7, 3),
                              opts='refcount_bits=2'),
    'refcount-bits-64': Damage(lambda i: i.set_refcount(7, 1 << 60),
                               opts='refcount_bits=64'),
    'refcount-of-header': Damage(lambda i: i.set_refcount(0, 0)),
    'refcount-of-block-low': Damage(lambda i: i.set_refcount(2, 0)),
    'refcount-of-block-high': Damage(lambda i: i.set_refcount(2, 2)),
    'refcount-overflow': Damage(lambda i: i.set_l2(0, 2, i.l2(0, 3)),
                                opts='refcount_bits=1', repairable=False,
                                saved=True),

    # flags
    'copied-missing': Damage(lambda i: i.set_l2(0, 2, i.l2(0, 2) & ~COPIED)),
    'copied-missing-l1': Damage(lambda i: i.set_l1(0, i.l1(0) & ~COPIED)),
    'copied-on-compressed': Damage(
        lambda i: i.set_l2(0, 128, i.l2(0, 128) | COPIED)),
    'copied-on-plain-zero': Damage(lambda i: i.set_l2(0, 100, ZERO | COPIED)),
    'copied-on-unallocated': Damage(lambda i: i.set_l2(0, 100, COPIED)),

    # L2 entries; with one fault the refcounts tell what it was
    'l2-unaligned': Damage(lambda i: i.set_l2(0, 2, i.l2(0, 2) | 512),
                           restores=True),
    'l2-unaligned-zero': Damage(lambda i: i.set_l2(0, 0, i.l2(0, 0) | 512)),
    'l2-beyond-file': Damage(lambda i: i.set_l2(0, 2, 1 << 30 | COPIED),
                             restores=True),
    'l2-far-beyond-file': Damage(lambda i: i.set_l2(0, 2, 1 << 50 | COPIED),
                                 restores=True),
    'l2-reserved': Damage(lambda i: i.set_l2(0, 2, i.l2(0, 2) | 1 << 60 | 2),
                          restores=True),
    # Two entries for one cluster: either may be the wrong one.
    'l2-doubled': Damage(lambda i: i.set_l2(0, 2, i.l2(0, 3)),
                         repairable=False, saved=True),
    'l2-into-l1': Damage(lambda i: i.set_l2(0, 2, i.l1_offset | COPIED),
                         restores=True),
    'l2-into-reftable': Damage(lambda i: i.set_l2(0, 2, 0x10000 | COPIED),
                               restores=True),
    # There the distribution finds its own blocks in its new structure.
    'l2-into-refblock': Damage(lambda i: i.set_l2(0, 2, 0x20000 | COPIED),
                               restores=True),
    'l2-into-itself': Damage(
        lambda i: i.set_l2(0, 2, i.l2_offset(0) | COPIED), restores=True),
    'compressed-beyond-file': Damage(
        lambda i: i.set_l2(0, 128, i.l2(0, 128) | 1 << 40), restores=True),
    'file-cut': Damage(lambda i: i.truncate(i.size() - 3 * i.cluster),
                       repairable=False),
    'file-cut-short': Damage(lambda i: i.truncate(5 * i.cluster),
                             repairable=False),

    # L1
    'l1-reserved': Damage(lambda i: i.set_l1(0, i.l1(0) | 1 << 60 | 2),
                          restores=True),
    'l1-unaligned': Damage(lambda i: i.set_l1(0, i.l1(0) | 512),
                           restores=True),
    # The only table that is lost, and the only place for it.
    'l1-beyond-file': Damage(lambda i: i.set_l1(0, 1 << 30 | COPIED),
                             restores=True),
    'l1-table-outside': Damage(lambda i: i.set_u64(40, 1 << 30),
                               restores=True),

    # the refcount structure
    'reftable-unaligned-block': Damage(
        # the same, but for a message of the driver
        lambda i: i.set_reft(1, 0x50200)),
    'reftable-first-block-unaligned': Damage(
        lambda i: i.set_reft(0, i.reft(0) | 512)),
    'reftable-block-beyond-file': Damage(lambda i: i.set_reft(1, 1 << 30)),
    'reftable-block-twice': Damage(lambda i: i.set_reft(1, i.reft(0))),
    'reftable-reserved': Damage(lambda i: i.set_reft(0, i.reft(0) | 1)),
    'reftable-empty': Damage(lambda i: i.set_reft(0, 0)),
    'reftable-outside': Damage(lambda i: i.set_u64(48, 1 << 30)),
    'reftable-too-long': Damage(lambda i: i.set_u32(56, 100)),
    'reftable-over-block': Damage(lambda i: i.set_u32(56, 2)),
    'block-is-data': Damage(lambda i: i.set_reft(0, 0x60000),
                            repairable=True),

    # snapshots
    'snapshots': Damage(lambda i: None, kind='snapshots'),
    'snapshots-v2': Damage(lambda i: None, kind='snapshots',
                           opts='compat=0.10'),
    'snapshot-l1-outside': Damage(
        lambda i: i.set_u64(i.snap_offset, 1 << 40), kind='snapshots'),
    'snapshot-l1-unaligned': Damage(
        lambda i: i.set_u64(i.snap_offset, _snap_l1(i) + 512),
        kind='snapshots'),
    'snapshot-l1-empty': Damage(
        lambda i: i.set_u32(i.snap_offset + 8, 0), kind='snapshots'),
    'snapshot-l1-too-large': Damage(
        lambda i: i.set_u32(i.snap_offset + 8, 100000000), kind='snapshots'),
    'snapshot-l1-entry-unaligned': Damage(
        lambda i: i.set_u64(_snap_l1(i), 0x40200), kind='snapshots'),
    'snapshot-l1-entry-copied': Damage(
        lambda i: i.set_u64(_snap_l1(i), i.u64(_snap_l1(i)) | COPIED),
        kind='snapshots'),
    'snapshot-l2-unaligned': Damage(
        lambda i: i.set_u64(_snap_l2(i) + 16, 0x70200), kind='snapshots',
        restores=True),
    'snapshot-l2-reserved': Damage(
        lambda i: i.set_u64(_snap_l2(i) + 16, i.u64(_snap_l2(i) + 16) | 2),
        kind='snapshots', restores=True),
    'snapshot-forgotten': Damage(lambda i: i.set_u32(60, 1),
                                 kind='snapshots'),
    'snapshot-low-refcounts': Damage(
        _all(lambda i: i.set_refcount(8, 2), lambda i: i.set_refcount(15, 1)),
        kind='snapshots'),

    # Entries without the data that version 3 wants; nothing else is wrong,
    # but the table would have to be written anew.
    'snapshot-without-size': Damage(_shorten_snapshots, kind='snapshots',
                                    repairable=False),
    'snapshot-of-nothing': Damage(lambda i: i.set_u32(60, 3),
                                  kind='snapshots'),
    'snapshot-table-outside': Damage(lambda i: i.set_u64(64, 1 << 40),
                                     kind='snapshots'),

    # bitmaps
    'bitmaps': Damage(lambda i: None, kind='bitmaps'),
    'bitmap-table-outside': Damage(lambda i: i.set_u64(_bm(i), 1 << 40),
                                   kind='bitmaps'),
    'bitmap-data-outside': Damage(
        lambda i: i.set_u64(i.u64(_bm(i)), 1 << 40), kind='bitmaps'),
    'bitmap-data-doubled': Damage(
        lambda i: i.set_u64(i.u64(_bm(i)), 0x60000), kind='bitmaps',
        repairable=False, saved=True),
    'bitmap-in-use': Damage(lambda i: i.set_u32(_bm(i) + 12, 1),
                            kind='bitmaps'),
    'bitmaps-void': Damage(lambda i: i.set_u64(88, 0), kind='bitmaps'),

    # marks
    'dirty': Damage(lambda i: i.set_u64(72, 1)),
    'corrupt': Damage(lambda i: i.set_u64(72, 2)),
}
