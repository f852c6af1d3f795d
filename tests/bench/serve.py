#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""serve.py QEMU-NBD IMAGE COMMAND...: runs the command beside a server of the raw
image, and ends the server; "URI" in it is where that is. What both
took is what this takes."""
import os
import subprocess
import sys
import time


def main():
    program, image, *command = sys.argv[1:]
    path = os.path.abspath('nbd.sock')
    with subprocess.Popen([program, '-t', '-e', '0', '-r', '-f', 'raw', '-k',
                           path, image]) as server:
        while not os.path.exists(path) and server.poll() is None:
            time.sleep(.001)
        try:
            done = subprocess.run(
                [word.replace('URI', f'nbd+unix:///?socket={path}')
                 for word in command], check=False)
        finally:
            server.terminate()
    return done.returncode or server.returncode


if __name__ == '__main__':
    sys.exit(main())
