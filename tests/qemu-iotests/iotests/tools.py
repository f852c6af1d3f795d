# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs under test, the distribution's, and the seed.

    BUILD_DIR             where our programs are (default: build/ of this tree)
    QEMU_IMG, QEMU_IO     instead of those there
    QSD, QEMU_NBD         the same for qemu-storage-daemon, qemu-nbd
    REF_QEMU_IMG, REF_QEMU_IO, REF_QSD, REF_QEMU_NBD   the distribution's
                          (default: in /usr/bin)
    SEED, LONG            for random tests
    IMGFMT                the image format a test runs with
"""
import os
import random
import shutil

# Beside the tests this package is a link.
TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.realpath(__file__)),
                                   '../../..'))
BUILD = os.path.abspath(os.environ.get('BUILD_DIR') or
                        os.path.join(TOP, 'build'))
LONG = bool(os.environ.get('LONG'))
SEED = int(os.environ.get('SEED') or random.SystemRandom().randrange(2**32))

# What children of a test see, whoever started it.
os.environ.update(BUILD_DIR=BUILD, SEED=str(SEED), LC_ALL='C')
os.environ.setdefault('UBSAN_OPTIONS', 'halt_on_error=1:print_stacktrace=1')


def fmt():
    """The image format that this run is about."""
    return os.environ.get('IMGFMT', 'qcow2')


def rng(name):
    """A random generator that gives the same sequence for SEED and name."""
    return random.Random(f'{SEED}/{name}')


def _ours(name, variable):
    return os.environ.get(variable) or os.path.join(BUILD, name)


def _reference(name, variable):
    """The distribution's program; None if it is not installed."""
    path = os.environ.get(variable) or os.path.join('/usr/bin', name)
    return shutil.which(path)


def qemu_img():
    return _ours('qemu-img', 'QEMU_IMG')


def qemu_io():
    return _ours('qemu-io', 'QEMU_IO')


def ref_img():
    return _reference('qemu-img', 'REF_QEMU_IMG')


def ref_io():
    return _reference('qemu-io', 'REF_QEMU_IO')


def qsd():
    return _ours('qemu-storage-daemon', 'QSD')


def ref_qsd():
    return _reference('qemu-storage-daemon', 'REF_QSD')


def qemu_nbd():
    return _ours('qemu-nbd', 'QEMU_NBD')


def ref_nbd():
    return _reference('qemu-nbd', 'REF_QEMU_NBD')
