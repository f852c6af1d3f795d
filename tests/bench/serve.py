#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""serve.py KIND PROGRAM IMAGE TIMES COMMAND...: runs the command so often beside a
server of the raw image, and ends the server. What both took is what this takes.

KIND    PROGRAM                what the command may name
nbd     a qemu-nbd             URI
vhost   a storage daemon       SOCKET, of vhost-user-blk
"""
import os
import subprocess
import sys
import time

SOCKET = os.path.abspath('server.sock')


def server(kind, program, image):
    if kind == 'nbd':
        return [program, '-t', '-e', '0', '-r', '-f', 'raw', '-k', SOCKET,
                image]
    return [program, '--blockdev',
            f'file,node-name=disk,read-only=on,filename={image}', '--export',
            'vhost-user-blk,id=export,node-name=disk,addr.type=unix,'
            f'addr.path={SOCKET}']


def main():
    kind, program, image, times, *command = sys.argv[1:]
    with subprocess.Popen(server(kind, program, image)) as process:
        while not os.path.exists(SOCKET) and process.poll() is None:
            time.sleep(.001)
        try:
            command = [word.replace('URI', f'nbd+unix:///?socket={SOCKET}')
                       .replace('SOCKET', SOCKET) for word in command]
            status = 0
            for _ in range(int(times)):
                status = status or subprocess.run(command,
                                                  check=False).returncode
        finally:
            process.terminate()
    return status or process.returncode


if __name__ == '__main__':
    sys.exit(main())
