# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates and keys for TLS, made by GnuTLS' programs."""
import os
import shutil
import subprocess

KEYS = 'encryption_key\nsigning_key\n'
SERVER = f'cn=localhost\ndns_name=localhost\ntls_www_server\n{KEYS}'
CLIENT = f'cn=somebody\norganization=Tests\ntls_www_client\n{KEYS}'


def available():
    return shutil.which('certtool')


def certtool(*args):
    subprocess.run(['certtool', *args], check=True, capture_output=True)


def key(path, *args):
    certtool('--generate-privkey', '--key-type', 'ecdsa', '--outfile', path,
             *args)
    return path


def template(path, text, expired=False):
    times = ('activation_date="2019-01-01"\nexpiration_date="2020-01-01"'
             if expired else 'expiration_days=10')
    with open(path, 'w') as f:
        f.write(f'{text}{times}\n')
    return path


class Authority:
    """One that signs, with files of its own in a directory."""

    def __init__(self, path):
        self.dir = path
        os.makedirs(path)
        self.key = key(os.path.join(path, 'ca-key.pem'))
        self.cert = os.path.join(path, 'ca-cert.pem')
        certtool('--generate-self-signed', '--load-privkey', self.key,
                 '--template', template(os.path.join(path, 'ca.cfg'),
                                        'cn=CA\nca\ncert_signing_key\n'),
                 '--outfile', self.cert)

    def sign(self, path, side, text, expired=False):
        """side-key.pem and side-cert.pem in directory path, and this one's
        certificate."""
        os.makedirs(path, exist_ok=True)
        own = key(os.path.join(path, f'{side}-key.pem'))
        certtool('--generate-certificate', '--load-ca-certificate', self.cert,
                 '--load-ca-privkey', self.key, '--load-privkey', own,
                 '--template', template(os.path.join(path, f'{side}.cfg'),
                                        text, expired),
                 '--outfile', os.path.join(path, f'{side}-cert.pem'))
        shutil.copy(self.cert, path)
        return path


def psk(path, **users):
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, 'keys.psk'), 'w') as f:
        for name, secret in users.items():
            f.write(f'{name}:{secret.hex()}\n')
    return path
