# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of the files below an image, and programs that die."""
import os
import signal
import subprocess
import time

from . import tools

EIO, ENOSPC = 5, 28


def nth_fault(name, n, prefix='file.', event='pwritev', errno=EIO,
              once='on'):
    """Options for a file node name whose n-th request of the kind fails, once,
    or, with once='off', from then on all requests that are not reads.
    They go into an option string behind those of the format."""
    rules = {'driver': 'blkdebug', 'image.driver': 'file',
             'image.filename': name}
    for i in range(1, n):
        rules.update({f'set-state.{i - 1}.event': event,
                      f'set-state.{i - 1}.state': i,
                      f'set-state.{i - 1}.new_state': i + 1})
    rules.update({'inject-error.0.event': event, 'inject-error.0.state': n,
                  'inject-error.0.errno': errno, 'inject-error.0.once': once})
    return ','.join(f'{prefix}{key}={value}' for key, value in rules.items())


def run_and_kill(args, cwd, seconds):
    """Runs our qemu-img and takes the power away. False if it had ended."""
    with subprocess.Popen([tools.qemu_img(), *args], cwd=cwd,
                          stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        time.sleep(seconds)
        killed = process.poll() is None
        if killed:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return killed
