# SPDX-License-Identifier: GPL-2.0-or-later
"""The Test Anything Protocol: written by our tests, read by our runners."""
import re
import time
import traceback
import unittest
from dataclasses import dataclass, field


@dataclass
class Counts:
    """How many single tests ended in which way."""
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def total(self):
        return self.passed + self.failed + self.skipped

    def __str__(self):
        return (f'{self.passed} passed, {self.failed} failed, '
                f'{self.skipped} skipped')


@dataclass
class Parsed:
    counts: Counts = field(default_factory=Counts)
    # (number and name, reason) of each skipped test
    skips: list = field(default_factory=list)


LINE = re.compile(r'(not )?ok\b\s*(\d*)[ -]*(.*?)(?:\s*#\s*(\w+)\b\s*(.*))?')
PLAN = re.compile(r'1\.\.(\d+)\s*(?:#\s*(?:SKIP|skip)\w*\s*(.*))?')


def parse(text):
    """Counts the tests in TAP output; those the plan has but that never ended
    count as failed."""
    parsed = Parsed()
    planned = None
    for line in text.splitlines():
        match = PLAN.fullmatch(line)
        if match:
            planned = int(match[1])
            if planned == 0 and match[2] is not None:
                parsed.counts.skipped += 1
                parsed.skips.append(('', match[2]))
            continue
        if line.startswith('Bail out!'):
            parsed.counts.failed += 1
            continue
        match = LINE.fullmatch(line)
        if not match:
            continue
        if match[1]:
            parsed.counts.failed += 1
        elif (match[4] or '').upper().startswith('SKIP'):
            parsed.counts.skipped += 1
            parsed.skips.append((match[3], match[5]))
        else:
            parsed.counts.passed += 1
    if planned is not None:
        parsed.counts.failed += max(0, planned - parsed.counts.total()
                                    if planned else 0)
    return parsed


class TapResult(unittest.TestResult):
    """Prints each test as it ends. Subtests belong to their test: each failing
    one is described, and the test fails once."""

    def __init__(self, total):
        super().__init__()
        self.number = 0
        self.sub_failed = False
        print(f'1..{total}', flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.sub_failed = False
        self.start = time.monotonic()

    def _name(self, test):
        return test.id().replace('__main__.', '').replace('#', '.')

    def _line(self, ok, test, directive=''):
        self.number += 1
        print(f'{"ok" if ok else "not ok"} {self.number} - '
              f'{self._name(test)}{directive}', flush=True)

    def _explain(self, err):
        # The frames of the test, not those of unittest around it.
        for frame in traceback.extract_tb(err[2]):
            if '/unittest/' not in frame.filename:
                print(f'#   {frame.filename}:{frame.lineno} {frame.line}')
        for part in traceback.format_exception_only(*err[:2]):
            for line in part.rstrip('\n').split('\n'):
                print('#', line)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._line(True, test)

    def _fail(self, test, err):
        self._line(False, test)
        self._explain(err)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._fail(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._fail(test, err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line(True, test, f' # SKIP {reason}')

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is None:
            return
        if not self.sub_failed:
            self.sub_failed = True
            self._line(False, test)
        print(f'# in {subtest.id()}')
        self._explain(err)
