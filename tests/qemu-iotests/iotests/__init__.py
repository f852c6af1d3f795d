# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the programs share.

A test is a file with one behaviour, named after it. Its comment header says
which groups it belongs to and which image formats it runs with:

    # group: quick rw
    # formats: raw qcow2

With "# parts: 8" a long run does it in eight parts, several at a time.

It holds subclasses of iotests.TestCase and ends in iotests.main(), and runs
alone as well as under tests/qemu-iotests/check.
"""
from .case import TestCase, main            # noqa: F401
from .process import QemuIoProcess, Result  # noqa: F401
from .qmp import Daemon, QMPClient, QMPError            # noqa: F401
from .tools import (BUILD, LONG, SEED, TOP, fmt, rng,   # noqa: F401
                    qemu_img, qemu_io, qemu_nbd, qsd, ref_img, ref_io,
                    ref_nbd, ref_qsd)
