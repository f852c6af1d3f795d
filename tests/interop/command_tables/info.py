# SPDX-License-Identifier: GPL-2.0-or-later
from . import differs, NEWER

LINES = [line.format(image) for line in (
    'info {}', 'info --output=json {}', 'info -U {}',
    'info --output=human {}', 'info --backing-chain {}',
    'info --backing-chain --output=json {}',
) for image in ('plain.raw', 'q.qcow2', 'v2.qcow2', 'over.qcow2', 'top.qcow2',
                'maps.qcow2', 'packed.qcow2', 'zstd.qcow2',
                'small.qcow2', 'leak.qcow2', 'empty.raw', 'odd.raw')]
LINES += [differs(NEWER, f'info {options}snap.qcow2')
          for options in ('', '-U ', '--output=human ', '--backing-chain ')]
LINES += [
    'info --output=json snap.qcow2',
    'info --backing-chain --output=json snap.qcow2',
    'info -f qcow2 q.qcow2',
    'info -f raw q.qcow2',
    'info -f qcow2 plain.raw',
    'info -f nope q.qcow2',
    'info --output=xml q.qcow2',
    'info nothing',
    'info',
    'info q.qcow2 v2.qcow2',
    'info --image-opts driver=qcow2,file.filename=q.qcow2',
    'info --image-opts driver=qcow2,file.driver=file,file.filename=q.qcow2',
    'info --image-opts driver=raw,file.filename=q.qcow2',
    'info --image-opts file.filename=q.qcow2',
    'info --image-opts -f qcow2 file.filename=q.qcow2',
    differs('options are typed', 'info --image-opts driver=qcow2'),
    'info --image-opts driver=qcow2,file.filename=nothing',
    differs('options are typed',
            'info --image-opts driver=qcow2,file.filename=q.qcow2,nope=1'),
    'info lost.qcow2',
    'info --backing-chain lost.qcow2',
    'info --backing-chain loop.qcow2',
    'info broken.qcow2',
    'info .',
    "info 'json:{\"driver\":\"qcow2\",\"file\":"
    "{\"driver\":\"file\",\"filename\":\"q.qcow2\"}}'",
    differs('options are typed', "info 'json:{\"driver\":\"qcow2\"}'"),
    "info 'json:{nonsense'",
    'info file:q.qcow2',
    'info nope:q.qcow2',
]
