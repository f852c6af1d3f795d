# SPDX-License-Identifier: GPL-2.0-or-later
"""Running programs: once to the end, or a qemu-io that is spoken to."""
import os
import select
import subprocess
import time
from dataclasses import dataclass

TIMEOUT = float(os.environ.get('TEST_TIMEOUT') or 60)
PROMPT = 'qemu-io> '


@dataclass
class Result:
    args: list
    rc: int
    stdout: str
    stderr: str

    def describe(self):
        return (f'{" ".join(map(str, self.args))}\nexit status {self.rc}\n'
                f'stdout: {self.stdout[-2000:]}\nstderr: {self.stderr[-4000:]}')


def run(args, cwd=None, env=None, stdin=None):
    """Runs a program to its end. A signal is a bug of the program whatever the
    test expects, so it raises."""
    args = [str(a) for a in args]
    environment = dict(os.environ, **env) if env else None
    source = {'input': stdin.encode()} if stdin else {
        'stdin': subprocess.DEVNULL}
    done = subprocess.run(args, cwd=cwd, env=environment, capture_output=True,
                          timeout=TIMEOUT, check=False, **source)
    # Carriage returns of progress lines are kept.
    result = Result(args, done.returncode,
                    done.stdout.decode(errors='surrogateescape'),
                    done.stderr.decode(errors='surrogateescape'))
    if done.returncode < 0 or 'Sanitizer' in result.stderr:
        raise AssertionError('crashed: ' + result.describe())
    return result


class QemuIoProcess:
    """A qemu-io that stays open, one command at a time."""

    def __init__(self, args, cwd=None):
        self.args = [str(a) for a in args]
        self.process = subprocess.Popen(self.args, cwd=cwd,
                                        stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.pending = ''
        self.greeting = self._until_prompt()

    def _until_prompt(self):
        """Output up to the next prompt; '' if the program ended instead."""
        end = time.monotonic() + TIMEOUT
        fd = self.process.stdout.fileno()
        while PROMPT not in self.pending:
            left = end - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                self.kill()
                raise AssertionError(f'no prompt from {self.args} within '
                                     f'{TIMEOUT} s after {self.pending!r}')
            data = os.read(fd, 65536)
            if not data:
                break
            self.pending += data.decode(errors='surrogateescape')
        text, _, self.pending = self.pending.partition(PROMPT)
        return text

    def cmd(self, command):
        """Sends a command and returns what is printed until the next prompt."""
        self.process.stdin.write(command.encode() + b'\n')
        self.process.stdin.flush()
        return self._until_prompt()

    def quit(self):
        """Ends it in an orderly way; returns (status, output after the last
        prompt)."""
        if self.process.poll() is None:
            try:
                self.process.stdin.write(b'quit\n')
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        rest = self.process.stdout.read().decode(errors='surrogateescape')
        self.process.stdout.close()
        rc = self.process.wait(TIMEOUT)
        if rc < 0 or 'Sanitizer' in rest:
            raise AssertionError(f'{self.args} crashed: {rc}\n{rest[-4000:]}')
        return rc, self.pending + rest

    def kill(self):
        """The power goes off: no flush, no close."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:
                pass
