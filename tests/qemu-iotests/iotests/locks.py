# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks of images as another process would meet them.

/proc/locks cannot tell: it is read in pages, and locks that others take or
drop meanwhile make it skip lines or give them twice.
"""
import fcntl
import struct

FLOCK = 'hhqqi4x'               # struct flock: type, whence, start, len, pid


def _first_lock(file, start, length):
    """Type and first byte of a lock in the range that hinders a writer, or
    None; length 0 is up to the end."""
    asked = struct.pack(FLOCK, fcntl.F_WRLCK, 0, start, length, 0)
    kind, _, first, _, _ = struct.unpack(
        FLOCK, fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else (kind, first)


def is_locked(path):
    with open(path, 'rb') as file:
        return _first_lock(file, 0, 0) is not None


def locked_bytes(path, end=256):
    """{byte: F_RDLCK or F_WRLCK} of the bytes below end that are locked."""
    with open(path, 'rb') as file:
        found = {byte: _first_lock(file, byte, 1) for byte in range(end)}
    return {byte: lock[0] for byte, lock in found.items() if lock}
