#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Damaged qcow2 images through qemu-img info, check, map and convert, and
through qemu-io that reads, writes, discards, and check -r all, on a copy.

No command may crash, hang, or take more memory than MAX_MIB. One that fails
says what is wrong, in more words than the name of an errno. What convert
delivers is what the image holds according to model.py, which reads the format
by itself; where that cannot tell, according to the distribution's qemu-img.

    damaged.py --runner build/tests/hostile/hostile-runner
    damaged.py --runner R --only 'v3-4k/l1/'     # labels that start so
    damaged.py --runner R --list

LONG=1 makes 10,000 images instead of a sample. SEED chooses which. TAP; each
test is one way to damage.
"""
import argparse
import collections
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import damage
import model
import seeds

MAX_MIB = 256
SECONDS = 10
LONG = bool(os.environ.get('LONG'))
# What a message must have besides these.
ERRNO = (r'Invalid argument|Input/output error|Operation not supported|'
         r'No such file or directory|File too large|Cannot allocate memory')
VAGUE = re.compile(rf"qemu-(img|io): (Could not open '[^']*'|Check failed|"
                   rf"Failed to read image metadata|error while [^:]*)?"
                   rf"(: )?({ERRNO})?")

Answer = collections.namedtuple('Answer', 'rc signal rss_kib cpu_us out err')


class Runner:
    """A hostile-runner process: runs commands, one after the other."""

    def __init__(self, path, cwd):
        self.process = subprocess.Popen([path], cwd=cwd,
                                        stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def __call__(self, *args, seconds=SECONDS):
        line = '\t'.join([str(seconds), *args]) + '\n'
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        head = self.process.stdout.readline().split()
        if len(head) != 6:
            raise RuntimeError(f'the runner died at {args}')
        rc, sig, rss, cpu, out, err = map(int, head)
        texts = [self.process.stdout.read(n).decode(errors='replace')
                 for n in (out, err)]
        return Answer(rc, sig, rss, cpu, *texts)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Problem(Exception):
    pass


class Case:
    """One damaged image; run() raises a Problem with what is wrong."""

    def __init__(self, args, runner, cwd, stats):
        self.sanitized = args.sanitized
        self.oracle = args.oracle
        self.runner = runner
        self.cwd = cwd
        self.stats = stats

    def path(self, name):
        return os.path.join(self.cwd, name)

    def command(self, *args, may=(0, 1)):
        """Runs it; what holds for all commands is checked here."""
        answer = self.runner(*args)
        said = answer.err.strip()
        shown = ' '.join(args)
        if answer.signal in (signal.SIGALRM, signal.SIGXCPU):
            raise Problem(f'{shown}: hangs')
        if answer.signal or 'Sanitizer' in said or 'runtime error' in said:
            raise Problem(f'{shown}: signal {answer.signal}\n{said[-6000:]}')
        if answer.rc not in may:
            raise Problem(f'{shown}: exit status {answer.rc}\n{said[-2000:]}')
        if not self.sanitized and answer.rss_kib > MAX_MIB << 10:
            raise Problem(f'{shown}: {answer.rss_kib >> 10} MiB')
        if answer.rc == 1:
            # qemu-io tells of failed requests on its standard output.
            self.check_message(shown, said if args[0] == 'qemu-img' else
                               said or answer.out.strip())
        self.stats['rss'] = max(self.stats['rss'], answer.rss_kib)
        self.stats['cpu'] = max(self.stats['cpu'], answer.cpu_us)
        self.stats['commands'] += 1
        return answer

    def check_message(self, shown, said):
        last = said.split('\n')[-1]
        if not said or all(VAGUE.fullmatch(line) for line in said.split('\n')):
            raise Problem(f'{shown}: says only "{said}"')
        self.stats['messages'][re.sub(r"'[^']*'|\b(0x)?[0-9a-f]*\d[0-9a-f]*\b",
                                      '#', last)] += 1

    def run(self, data):
        with open(self.path('damaged'), 'wb') as f:
            f.write(data)
        self.command('qemu-img', 'info', '-f', 'qcow2', 'damaged')
        self.command('qemu-img', 'check', '-f', 'qcow2', 'damaged',
                     may=(0, 1, 2, 3))
        mapped = self.command('qemu-img', 'map', '--output=json', '-f',
                              'qcow2', 'damaged')
        self.convert(data, mapped)
        self.change(data)

    def convert(self, data, mapped):
        answer = self.command('qemu-img', 'convert', '-f', 'qcow2', '-O',
                              'raw', 'damaged', 'out')
        if answer.rc:
            self.stats['refused'] += 1
            return
        if mapped.rc:
            raise Problem('convert succeeds where map fails: ' + mapped.err)
        try:
            wrong = model.differs(model.Model(data, self.cwd),
                                  self.path('out'))
            self.stats['modelled'] += not wrong
        except model.Invalid as e:
            wrong = f'convert succeeds: {e}'
        except model.Unsupported:
            wrong = self.unlike_the_distribution()
        os.unlink(self.path('out'))
        if wrong:
            raise Problem('convert: ' + wrong)

    def unlike_the_distribution(self):
        done = subprocess.run(
            [seeds.REF_IMG, 'convert', '-f', 'qcow2', '-O', 'raw', 'damaged',
             'theirs'], cwd=self.cwd, capture_output=True, check=False,
            timeout=300)
        self.stats['asked'] += 1
        if done.returncode:
            return 'the distribution says ' + done.stderr.decode()[-500:]
        done = subprocess.run(['cmp', 'out', 'theirs'], cwd=self.cwd,
                              capture_output=True, check=False)
        os.unlink(self.path('theirs'))
        return done.stdout.decode()

    def change(self, data):
        """Requests of all kinds on a copy, repair, and requests again."""
        shutil.copyfile(self.path('damaged'), self.path('copy'))
        # What is lost is in rows of requests; each may fail for its own reason.
        requests = ['write -P 7 1000 5000', 'read 0 20000', 'write -z 8k 9k',
                    'discard 0 40k', 'write -c -P 3 64k 64k',
                    'write -P 8 130k 30k', 'flush', 'discard 100k 64k',
                    'read 64k 64k']
        args = [a for r in requests for a in ('-c', r)]
        io = ('qemu-io', '-d', 'unmap', '-f', 'qcow2', *args, 'copy')
        self.command(*io)
        # All space that is taken is for what was written, plus tables.
        used = os.stat(self.path('copy')).st_blocks * 512
        if used > 4 * len(data) + (20 << 20):
            raise Problem(f'qemu-io made {used} of {len(data)} bytes')
        repair = self.command('qemu-img', 'check', '-r', 'all', '-f', 'qcow2',
                              'copy', may=(0, 1, 2, 3))
        again = self.command('qemu-img', 'check', '-f', 'qcow2', 'copy',
                             may=(0, 1, 2, 3))
        if repair.rc == 0 and again.rc:
            raise Problem('check -r all succeeds, but then: ' + again.out)
        if again.rc == 0:
            self.sound_image(io)

    def bitmaps_valid(self):
        with open(self.path('copy'), 'rb') as f:
            header = f.read(96)
        return header[7] == 3 and header[95] & 1

    def host_offset(self, leak):
        with open(self.path('copy'), 'rb') as f:
            cluster_bits = f.read(24)[23]
        return int(leak.split()[2]) << cluster_bits

    def sound_image(self, io):
        """What check likes it likes after any request, with exceptions:
        what damaged or void bitmaps had is leaked when others are stored;
        refcounts of clusters behind the end of the file count when the file
        has grown; and where entries shared a cluster without a snapshot, the
        last one has no COPIED flag."""
        self.stats['repaired'] += 1
        had_bitmaps = self.bitmaps_valid()
        end = os.path.getsize(self.path('copy'))
        self.command(*io)
        last = self.command('qemu-img', 'check', '-f', 'qcow2', 'copy',
                            may=(0, 1, 2, 3))
        stores_bitmaps = had_bitmaps or self.bitmaps_valid()
        wrong = [line for line in last.err.splitlines() if not
                 re.fullmatch('ERROR OFLAG_COPIED.* refcount=1', line)]
        wrong = [line for line in wrong if not line.startswith('Leaked') or
                 not stores_bitmaps and self.host_offset(line) < end]
        if wrong or last.rc == 1:
            raise Problem('sound image after requests: ' + last.out +
                          last.err[-1000:])


# --------------------------------------------------------------- all of them

def make_seeds(cwd):
    seeds.make_base(cwd)
    return {name: damage.Layout(seeds.make(name, cwd)) for name in seeds.SEEDS}


def make_neighbours(cwd):
    """What damaged names of backing files may lead to."""
    seeds.make_base(cwd)
    for a, b in (('loop-a', 'loop-b'), ('loop-b', 'loop-a')):
        subprocess.run([seeds.REF_IMG, 'create', '-q', '-u', '-f', 'qcow2',
                        '-b', b, '-F', 'qcow2', a, '1M'], cwd=cwd, check=True)


def choose(layouts, count, seed):
    """[(label, layout, function)]: half of them structured, from every class
    of every seed; the rest flipped bytes and combinations."""
    rng = random.Random(seed)
    classes = collections.defaultdict(list)
    known = {}
    for name, layout in layouts.items():
        known[name] = damage.structured(layout)
        for label, function in known[name]:
            classes[name, label.split('/')[0]].append(
                (f'{name}/{label}', layout, function))
    chosen = []
    for members in classes.values():
        rng.shuffle(members)
    turn = 0
    # A turn takes one of each class; small ones are used up first.
    while len(chosen) < count * 6 // 10 and any(classes.values()):
        for members in classes.values():
            if members and len(chosen) < count * 6 // 10:
                chosen.append(members.pop())
        turn += 1
    names = list(layouts)
    while len(chosen) < count:
        name = rng.choice(names)
        number = rng.randrange(1 << 32)
        chosen.append(random_one(layouts, known, name,
                                 rng.choice(('flip', 'flip', 'mix')), number))
    return chosen


def random_one(layouts, known, name, kind, number):
    layout = layouts[name]
    if kind == 'flip':
        return (f'{name}/flip/{number}', layout, damage.flip(layout, number))
    _, function = damage.combined(layout, known[name], number)
    return f'{name}/mix/{number}', layout, function


def by_label(layouts, prefix):
    """All structured ones whose label starts so, or the random one of it."""
    name, _, rest = prefix.partition('/')
    match = re.fullmatch(r'(flip|mix)/(\d+)', rest)
    if match:
        known = {name: damage.structured(layouts[name])}
        return [random_one(layouts, known, name, match[1], int(match[2]))]
    return [(f'{n}/{label}', layout, function)
            for n, layout in layouts.items()
            for label, function in damage.structured(layout)
            if f'{n}/{label}'.startswith(prefix)]


class Results:
    def __init__(self):
        self.lock = threading.Lock()
        self.count = collections.Counter()
        self.problems = collections.defaultdict(list)
        self.stats = []

    def add(self, label, problem):
        kind = label.split('/')[1]
        with self.lock:
            self.count[kind] += 1
            if problem:
                self.problems[kind].append((label, problem))


def work(args, cases, results, directory):
    """A thread: takes cases until there are none."""
    cwd = tempfile.mkdtemp(dir=directory)
    make_neighbours(cwd)
    runner = Runner(args.runner, cwd)
    stats = collections.Counter(messages=collections.Counter())
    results.stats.append(stats)
    while True:
        try:
            label, layout, function = cases.get_nowait()
        except queue.Empty:
            break
        data = bytearray(layout.data)
        function(data)
        problem = None
        try:
            Case(args, runner, cwd, stats).run(bytes(data))
        except Problem as e:
            problem = str(e)
        except Exception as e:      # pylint: disable=broad-except
            problem = f'{type(e).__name__}: {e}'
        if problem and args.keep:
            os.makedirs(args.keep, exist_ok=True)
            name = re.sub(r'[^\w.=-]+', '_', label)[:100]
            with open(os.path.join(args.keep, name), 'wb') as f:
                f.write(data)
        results.add(label, problem)
    runner.close()


def report(args, results, images, seconds):
    print(f'1..{len(results.count)}')
    shown = 0
    for number, (kind, count) in enumerate(sorted(results.count.items()), 1):
        problems = results.problems[kind]
        print(f'{"not ok" if problems else "ok"} {number} - {kind} '
              f'({count} images)')
        for label, problem in problems:
            shown += 1
            if shown <= args.show:
                print(f'# {label}')
                for line in problem.strip().split('\n'):
                    print(f'#     {line}')
    total = collections.Counter()
    messages = collections.Counter()
    for stats in results.stats:
        messages += stats.pop('messages')
        for name, value in stats.items():
            total[name] = max(total[name], value) if name in ('rss', 'cpu') \
                else total[name] + value
    bad = sum(map(len, results.problems.values()))
    print(f'# SEED={args.seed}: {images} images, {total["commands"]} commands '
          f'in {seconds:.0f} s; at most {total["rss"] >> 10} MiB and '
          f'{total["cpu"] / 1e6:.1f} s of CPU each')
    print(f'# convert: {total["refused"]} errors, {total["modelled"]} equal to '
          f'the model, {total["asked"]} to the distribution; '
          f'{total["repaired"]} sound after repair; {bad} problems')
    if args.messages:
        for text, n in messages.most_common():
            print(f'# {n:6} {text}')
    return 1 if bad else 0


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--runner', required=True)
    parser.add_argument('--count', type=int, default=10000 if LONG else 120)
    parser.add_argument('--seed', default=os.environ.get('SEED') or '1')
    parser.add_argument('--jobs', type=int, default=os.cpu_count())
    parser.add_argument('--only', help='labels that start with this')
    parser.add_argument('--list', action='store_true', help='print the labels')
    parser.add_argument('--keep', help='directory for images with problems')
    parser.add_argument('--show', type=int, default=20,
                        help='how many problems to show')
    parser.add_argument('--messages', action='store_true',
                        help='count the messages')
    parser.add_argument('--sanitized', action='store_true',
                        help='do not measure memory')
    args = parser.parse_args()
    args.runner = os.path.abspath(args.runner)
    args.oracle = shutil.which(seeds.REF_IMG)
    return args


def main():
    args = parse_args()
    if not args.oracle:
        print(f'1..0 # SKIP {seeds.REF_IMG} is not there to make images')
        return 0
    start = time.monotonic()
    directory = tempfile.mkdtemp(prefix='damaged.',
                                 dir=os.environ.get('TEST_DIR'))
    try:
        made = os.path.join(directory, 'seeds')
        os.mkdir(made)
        layouts = make_seeds(made)
        chosen = by_label(layouts, args.only) if args.only else \
            choose(layouts, args.count, args.seed)
        if args.list:
            print('\n'.join(label for label, _, _ in chosen))
            return 0
        cases, results = queue.Queue(), Results()
        for case in chosen:
            cases.put(case)
        threads = [threading.Thread(target=work, args=(args, cases, results,
                                                       directory))
                   for _ in range(args.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return report(args, results, len(chosen), time.monotonic() - start)
    finally:
        shutil.rmtree(directory)


if __name__ == '__main__':
    sys.exit(main())
