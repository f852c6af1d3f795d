# SPDX-License-Identifier: GPL-2.0-or-later
"""Command lines of qemu-img, a module for each subcommand (or two).

LINES in each is a list: a string is a command line that both sides must answer
alike; differs() one where they do not, with the reason. The files they name are
made by make_images() of tests/interop/command-lines.py.
"""
import importlib
import os
from dataclasses import dataclass

# Why the other side says something else; or words of its own.
NEWER = 'the command line of a later version than 7.2'
CLEARER = 'the message names what is wrong'


@dataclass(frozen=True)
class Line:
    text: str
    reason: str = ''        # '': both sides are the same
    rc: int = None          # ours, if it is another than theirs
    # Whether the image may look another way, too.
    files: bool = False


def differs(reason, text, rc=None, files=False):
    return Line(text, reason, rc, files)


def tables():
    """(name, lines) of each module."""
    for name in sorted(os.listdir(os.path.dirname(__file__))):
        if name.endswith('.py') and name != '__init__.py':
            module = importlib.import_module(f'{__name__}.{name[:-3]}')
            yield name[:-3], [entry if isinstance(entry, Line)
                              else Line(entry) for entry in module.LINES]
