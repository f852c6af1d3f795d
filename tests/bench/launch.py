# SPDX-License-Identifier: GPL-2.0-or-later
"""launch.py FD REPEAT COMMAND...: runs the command and writes what it took to
the descriptor, as JSON. Its exit status is the command's.

A process of its own, since the peak of memory that the kernel tells of a
program begins with that of the process which started it. This one is small.
"""
import json
import os
import sys
import time

fd, repeat, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
took = {'time': 0.0, 'cpu': 0.0, 'memory': 0.0}
os.set_inheritable(fd, False)
for _ in range(repeat):
    if os.path.exists('out'):
        os.unlink('out')
    start = time.monotonic()
    pid = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    took['time'] += (time.monotonic() - start) / repeat
    took['cpu'] += (usage.ru_utime + usage.ru_stime) / repeat
    took['memory'] = max(took['memory'], usage.ru_maxrss * 1024)
    if status:
        sys.exit(os.waitstatus_to_exitcode(status) & 255 or 1)
with open(fd, 'w', encoding='ascii') as f:
    json.dump(took, f)
