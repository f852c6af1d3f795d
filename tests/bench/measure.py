# SPDX-License-Identifier: GPL-2.0-or-later
"""Running one command, and the sides of a row in turn."""
import json
import os
import re
import statistics
import subprocess
import sys

from iotests import tools

# What a run gives: key -> median over the rounds, which may be missing.
#   time      seconds from start to end
#   cpu       seconds of processor time, kernel included
#   memory    bytes, the most that was resident
#   size      bytes that the file it made takes
#   request   seconds a request, by the program's own clock, without start-up
#   work      seconds of processor time a request
KEYS = ('time', 'cpu', 'memory', 'size', 'request', 'work')
LAUNCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'launch.py')


def _own_clock(output, requests):
    """Seconds a request as the program tells it, or None."""
    told = re.search(r'Run completed in ([0-9.]+) seconds', output)
    if told:
        return float(told[1]) / requests
    # fio; some of its engines say something first
    job = json.loads(output[output.index('{'):])['jobs'][0]
    return 1 / (job['read']['iops'] + job['write']['iops'])


def run_once(command, directory, requests=0, repeat=1):
    """Runs @command @repeat times and returns what it took, an average."""
    receive, send = os.pipe()
    done = subprocess.run([sys.executable, '-I', '-S', LAUNCH, str(send),
                           str(repeat), *command], cwd=directory, text=True,
                          stdout=subprocess.PIPE if requests
                          else subprocess.DEVNULL, stderr=subprocess.PIPE,
                          pass_fds=(send,), check=False)
    os.close(send)
    with open(receive, encoding='ascii') as f:
        told = f.read()
    if done.returncode:
        sys.exit(f'{" ".join(command)} failed: {done.stderr}')
    result = dict.fromkeys(KEYS, 0.0)
    result.update(json.loads(told))
    if requests:
        result['request'] = _own_clock(done.stdout, requests)
        result['work'] = result['cpu'] / requests
    out = os.path.join(directory, 'out')
    if os.path.exists(out):
        result['size'] = os.stat(out).st_blocks * 512
        os.unlink(out)
    return result


def measure(sides, directory, rounds, requests=0, repeat=1):
    """Medians of each side: {label: {key: value}}. The sides take turns, so
    that whatever else the machine does meets all of them, in another order each
    round: what one leaves behind, such as memory that was just in use, is for
    any other."""
    runs = {label: [] for label in sides}
    labels = list(sides)
    order = tools.rng('bench')
    for i in range(-1, rounds):
        order.shuffle(labels)
        for label in labels:
            result = run_once(sides[label], directory, requests, repeat)
            if i >= 0:      # the first round fills caches
                runs[label].append(result)
    return {label: {key: statistics.median(r[key] for r in results)
                    for key in KEYS} for label, results in runs.items()}
