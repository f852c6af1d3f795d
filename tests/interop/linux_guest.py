# SPDX-License-Identifier: GPL-2.0-or-later
"""A Linux guest in the distribution's qemu-system-x86_64, spoken to over its
serial line.

Kernel and modules are Debian's cloud kernel, unpacked in the build directory and
never installed; the root file system is a busybox that carries out what it is
told.
"""
import glob
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import time

from iotests import tools

QEMU = '/usr/bin/qemu-system-x86_64'
BUSYBOX = '/bin/busybox'
CACHE = os.path.join(tools.BUILD, 'linux-guest')
MODULES = ('virtio_pci', 'virtio_blk')
BOOT_SECONDS = 240      # emulated, on a machine that has other work

INIT = '''#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
stty -echo raw < /dev/ttyS0
echo 3 > /proc/sys/kernel/printk
for module in $(cat /modules/order); do insmod /modules/$module; done
exec < /dev/ttyS0 > /dev/ttyS0 2>&1
echo "guest is ready"
while read -r line; do
    eval "$line"
    echo "guest says $?"
done
poweroff -f
'''


def missing():
    """Why there can be no guest; None if there can."""
    for path in QEMU, BUSYBOX, '/usr/bin/cpio':
        if not os.path.exists(path):
            return f'{path} is not installed'
    return None


def run(*args, **kwargs):
    return subprocess.run(args, check=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, **kwargs).stdout


def download_kernel(directory):
    def attempt():
        names = re.findall(r'Depends: (linux-image-\S+)',
                           run('apt-cache', 'depends',
                               'linux-image-cloud-amd64'))
        # The sandbox user of apt may not write here.
        run('apt-get', '-o', 'APT::Sandbox::User=root', 'download', names[0],
            cwd=directory)

    try:
        attempt()
    except (subprocess.CalledProcessError, IndexError):
        run('apt-get', 'update')
        attempt()
    return glob.glob(os.path.join(directory, '*.deb'))[0]


def needs_of(path):
    """Names of the modules that one says it depends on."""
    with open(path, 'rb') as f:
        match = re.search(rb'\0depends=([^\0]*)\0', f.read())
    return [name.replace('-', '_') for name in match[1].decode().split(',')
            if name]


def modules_in_order(tree):
    """Files of MODULES and of what they need, the needed ones first."""
    paths = {os.path.basename(path)[:-3].replace('-', '_'): path
             for path in glob.glob(os.path.join(tree, 'lib/modules/**/*.ko'),
                                   recursive=True)}
    order = []

    def add(name):
        if name not in paths:
            return              # built in
        for needed in needs_of(paths[name]):
            add(needed)
        if paths[name] not in order:
            order.append(paths[name])

    for module in MODULES:
        add(module)
    return order


def make_initramfs(tree, output):
    with tempfile.TemporaryDirectory() as root:
        for name in 'bin', 'dev', 'proc', 'sys', 'modules', 'tmp':
            os.mkdir(os.path.join(root, name))
        shutil.copy(BUSYBOX, os.path.join(root, 'bin/busybox'))
        os.symlink('busybox', os.path.join(root, 'bin/sh'))
        order = modules_in_order(tree)
        for path in order:
            shutil.copy(path, os.path.join(root, 'modules'))
        with open(os.path.join(root, 'modules/order'), 'w') as f:
            f.write('\n'.join(map(os.path.basename, order)))
        init = os.path.join(root, 'init')
        with open(init, 'w') as f:
            f.write(INIT)
        os.chmod(init, 0o755)
        with open(output + '.new', 'wb') as f:
            names = run('find', '.', cwd=root)
            subprocess.run(['cpio', '-o', '-H', 'newc', '--quiet'],
                           input=names.encode(), stdout=f, cwd=root,
                           check=True)
    os.rename(output + '.new', output)


def kernel_and_initramfs():
    """Made once for a build directory."""
    kernel = os.path.join(CACHE, 'vmlinuz')
    initramfs = os.path.join(CACHE, 'initramfs')
    if not os.path.exists(initramfs):
        os.makedirs(CACHE, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as tmp:
            run('dpkg', '-x', download_kernel(tmp), tmp)
            shutil.copy(glob.glob(os.path.join(tmp, 'boot/vmlinuz-*'))[0],
                        kernel)
            make_initramfs(tmp, initramfs)
    return kernel, initramfs


class LinuxGuest:
    """Boots with the devices that args are about. kill() it at the end."""

    def __init__(self, directory, *args):
        kernel, initramfs = kernel_and_initramfs()
        self.serial = os.path.join(directory, 'serial.sock')
        self.log = open(os.path.join(directory, 'qemu.log'), 'w+b')
        self.seen = ''
        self.sock = None
        self.process = subprocess.Popen(
            [QEMU, '-machine', 'q35,accel=tcg,memory-backend=memory',
             '-object', 'memory-backend-memfd,id=memory,size=192M,share=on',
             '-m', '192M', '-smp', '2', '-nodefaults', '-display', 'none',
             '-no-reboot', '-kernel', kernel, '-initrd', initramfs,
             '-append', 'console=ttyS0 quiet panic=-1',
             '-chardev', f'socket,id=serial,path={self.serial},server=on,'
             'wait=on', '-serial', 'chardev:serial', *args],
            stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=subprocess.STDOUT, cwd=directory)
        self._connect()
        self._until('guest is ready', BOOT_SECONDS)

    def _connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end = time.monotonic() + 30
        while True:
            try:
                return self.sock.connect(self.serial)
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise AssertionError('no guest: ' + self.output())
                time.sleep(.05)

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors='replace')

    def _until(self, text, seconds):
        """What came before the text; the rest of its line is dropped."""
        end = time.monotonic() + seconds
        while not (text in self.seen and '\n' in self.seen.partition(text)[2]):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise AssertionError(f'{text!r} did not come: {self.seen[-2000:]}'
                                     f'\n{self.output()}')
            data = self.sock.recv(65536)
            if not data:
                raise AssertionError(f'the guest ended: {self.seen[-2000:]}\n'
                                     f'{self.output()}')
            self.seen += data.decode(errors='replace')
        before, _, self.seen = self.seen.partition(text)
        status, _, self.seen = self.seen.partition('\n')
        return before.replace('\r', ''), status.strip()

    def start(self, command):
        """Begins a command; finish() has its output."""
        self.sock.sendall(command.encode() + b'\n')

    def finish(self, seconds=120):
        text, status = self._until('guest says', seconds)
        if status != '0':
            raise AssertionError(f'status {status}: {text}')
        return text

    def cmd(self, command, seconds=120):
        self.start(command)
        return self.finish(seconds)

    def power_off(self):
        self.sock.sendall(b'sync; poweroff -f\n')
        return self.process.wait(60)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.sock:
            self.sock.close()
        self.log.close()
