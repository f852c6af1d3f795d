# SPDX-License-Identifier: GPL-2.0-or-later
from . import differs, NEWER

LINES = [line.format(image) for line in (
    'measure {}', 'measure -O qcow2 {}', 'measure -O qcow2 --output=json {}',
) for image in ('plain.raw', 'q.qcow2', 'v2.qcow2', 'top.qcow2', 'maps.qcow2',
                'packed.qcow2', 'small.qcow2', 'empty.raw', 'odd.raw')]
LINES += [
    'measure --size 1G',
    'measure --size 1G -O qcow2',
    'measure --size 1G -O qcow2 -o cluster_size=4k',
    'measure --size 1G -O qcow2 -o extended_l2=on',
    'measure --size 1T -O qcow2 -o extended_l2=on,cluster_size=16k',
    'measure --size 1T -O qcow2 -o extended_l2=on,cluster_size=8k',
    'measure --size 64T -O qcow2 -o extended_l2=on,cluster_size=16k',
    'measure --size 65T -O qcow2 -o extended_l2=on,cluster_size=16k',
    'measure --size 1T -O qcow2 -o cluster_size=512',
    'measure --size 1G -O qcow2 -o preallocation=full',
    'measure --size 1G -O qcow2 -o preallocation=metadata',
    'measure --size 1G -O qcow2 -o refcount_bits=64',
    'measure --size 1G -O qcow2 -o compat=0.10',
    'measure --size 1G -O qcow2 -o nope=1',
    'measure --size 1G -O raw --output=json',
    'measure --size 0 -O qcow2',
    differs(NEWER, 'measure --size x'),
    'measure --size 1G q.qcow2',
    'measure',
    'measure nothing',
    'measure -O nope q.qcow2',
    'measure -f nope q.qcow2',
    'measure -l s1 -O qcow2 snap.qcow2',
    'measure -l nope -O qcow2 snap.qcow2',
    'measure --output=xml q.qcow2',
    'measure --image-opts -O qcow2 driver=qcow2,file.filename=q.qcow2',
    'measure a b',
]
