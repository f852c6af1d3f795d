# SPDX-License-Identifier: GPL-2.0-or-later
from . import differs, NEWER

LINES = [line.format(image) for line in (
    'map {}', 'map --output=json {}',
) for image in ('plain.raw', 'q.qcow2', 'v2.qcow2', 'over.qcow2', 'top.qcow2',
                'snap.qcow2', 'packed.qcow2', 'small.qcow2', 'empty.raw',
                'odd.raw', 'zero.raw', 'shorter.qcow2')]
LINES += [
    'map -f raw --output=json q.qcow2',
    'map -s 64k --output=json q.qcow2',
    'map -s 64k -l 128k --output=json q.qcow2',
    'map -s 10M --output=json q.qcow2',
    'map -s 100 -l 100 --output=json q.qcow2',
    'map -l 0 --output=json q.qcow2',
    differs(NEWER, 'map -s x q.qcow2'),
    differs(NEWER, 'map -s -1 q.qcow2'),
    'map -U q.qcow2',
    'map --output=xml q.qcow2',
    'map nothing',
    'map',
    'map a b',
    'map lost.qcow2',
    'map --image-opts driver=qcow2,file.filename=q.qcow2',
]
