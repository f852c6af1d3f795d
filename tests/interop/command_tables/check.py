# SPDX-License-Identifier: GPL-2.0-or-later
from . import differs

LINES = [line.format(image) for line in (
    'check {}', 'check --output=json {}', 'check -q {}',
) for image in ('plain.raw', 'q.qcow2', 'v2.qcow2', 'over.qcow2', 'snap.qcow2',
                'maps.qcow2', 'packed.qcow2', 'small.qcow2', 'leak.qcow2',
                'broken.qcow2', 'dirty.qcow2')]
LINES += [
    'check -f qcow2 q.qcow2',
    'check -f raw q.qcow2',
    'check -f nope q.qcow2',
    'check -r leaks q.qcow2',
    'check -r all q.qcow2',
    'check -r leaks leak.qcow2',
    'check -r all leak.qcow2',
    'check -r leaks --output=json leak.qcow2',
    'check -r all --output=json leak.qcow2',
    'check -r all -q leak.qcow2',
    differs('other lines repeat between the passes',
            'check -r leaks broken.qcow2'),
    # Two entries name one cluster, and another is leaked: theirs frees it.
    differs('what may be the data of a damaged entry is saved',
            'check -r all broken.qcow2', files=True),
    'check -r all dirty.qcow2',
    'check -r some q.qcow2',
    'check -r all -U q.qcow2',
    'check -U q.qcow2',
    'check -T none q.qcow2',
    'check -T nope q.qcow2',
    'check --output=xml q.qcow2',
    'check nothing',
    'check',
    'check a b',
    'check --image-opts driver=qcow2,file.filename=q.qcow2',
    'check --image-opts driver=qcow2,file.filename=leak.qcow2',
    'check lost.qcow2',
]
