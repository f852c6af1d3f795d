#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""TLS between NBD clients and servers: who gets in, and who does not."""
import json
import os
import shutil
import struct
import subprocess
import time

import iotests
from iotests import nbd, tls
from iotests.nbd_server import NBDServer

SECRET = bytes(range(32))
STARTTLS_REQUIRED = 0x80000005
# The server's verdict arrives during or after the client's handshake, or is
# overtaken by the end of the connection.
REFUSED = 'ertificate|CA is unknown|hung up|reset|pipe'


class NbdTls(iotests.TestCase):
    def setUp(self):
        super().setUp()
        if not tls.available():
            self.skipTest('certtool (gnutls-bin) is not installed')
        self.fmt = 'raw'
        self.img('create', '-q', '-f', 'raw', 'a', '4M')
        self.ca = tls.Authority(self.path('ca'))
        self.server_dir = self.ca.sign(self.path('server'), 'server',
                                       tls.SERVER)
        self.client_dir = self.ca.sign(self.path('client'), 'client',
                                       tls.CLIENT)

    def start(self, creds, more='', wait=True, objects=()):
        """A daemon that serves a as x, with the object creds and others."""
        daemon = self.daemon(
            '--object', f'{creds},id=t,endpoint=server',
            *[word for text in objects for word in ('--object', text)],
            '--blockdev', 'file,filename=a,node-name=n,discard=unmap',
            '--nbd-server', f'addr.type=unix,addr.path=s,tls-creds=t{more}',
            '--export', 'nbd,id=e,node-name=n,writable=on,name=x')
        self.qmp = daemon.connect()
        if wait:
            nbd.wait_for(lambda: self.qmp.cmd('query-block-exports'))
        return daemon

    def x509(self, path=None, more=''):
        return f'tls-creds-x509,dir={path or self.client_dir}{more}'

    def client(self, creds, *commands, rc=0, options='', hostname='localhost'):
        node = ('driver=nbd,server.type=unix,server.path=s,export=x,'
                f'tls-creds=t{options}')
        if hostname:
            node += f',tls-hostname={hostname}'
        return self.io(node, *commands, fmt=None, rc=rc, options=[
            '--image-opts', '--object', f'{creds},id=t,endpoint=client'])

    def refused(self, message, creds, **kwargs):
        result = self.client(creds, 'read -q 0 512', rc=1, **kwargs)
        self.assertRegex(result.stderr, message)

    def works(self, creds, **kwargs):
        self.client(creds, 'write -q -P 5 0 2M', 'write -q -P 6 1000 5000',
                    'write -q -z 1M 64k', 'flush', 'discard 2M 1M',
                    'aio_read -q -P 5 8k 512k', 'aio_read -q -P 6 1000 5000',
                    'aio_write -q -P 9 3M 900k', 'aio_flush',
                    'read -q -P 0 1M 64k', 'read -q -P 9 3M 900k', **kwargs)
        self.io('a', 'read -q -P 6 1000 5000', 'read -q -P 5 8k 512k')

    def test_certificates(self):
        self.start(self.x509(self.server_dir))
        self.works(self.x509())
        self.refused('does not match the hostname example.org', self.x509(),
                     hostname='example.org')
        self.refused('No hostname for certificate validation', self.x509(),
                     hostname=None)
        self.works(self.x509(more=',verify-peer=off'), hostname=None)
        # Those of other authorities, and of none.
        other = tls.Authority(self.path('other'))
        bad = other.sign(self.path('bad'), 'client', tls.CLIENT)
        self.refused('known issuer', self.x509(bad))
        # It does not trust us: the certificates must be the right ones.
        self.refused(REFUSED, self.x509(bad, ',verify-peer=off'))
        none = self.path('none')
        shutil.copytree(self.ca.dir, none)
        self.refused(REFUSED, self.x509(none))
        self.works(self.x509())

    def test_clients_without_certificate(self):
        self.start(self.x509(self.server_dir, ',verify-peer=off'))
        self.works(self.x509(self.ca.dir))

    # --- who may ---

    NAME = 'O=Tests,CN=somebody'

    def authz_start(self, text):
        self.start(self.x509(self.server_dir), ',tls-authz=z', objects=[text])

    def authz_allows(self, text, allowed=True):
        self.authz_start(text)
        if allowed:
            self.works(self.x509())
        else:
            self.refused('hung up|reset|pipe', self.x509())
        self.qmp_fails("object 'z' is in use", self.qmp, 'object-del', id='z')
        self.qmp.cmd('nbd-server-stop')
        self.qmp.cmd('object-del', id='z')
        self.qmp.cmd('quit')

    def test_authz_simple(self):
        escaped = self.NAME.replace(',', ',,')
        self.authz_allows(f'authz-simple,id=z,identity={escaped}')
        self.authz_allows(f'authz-simple,id=z,identity={escaped}x', False)

    def test_authz_list(self):
        escaped = self.NAME.replace(',', ',,')
        rule = 'rules.0.match='
        for text, allowed in (
                ('', False), ('policy=allow', True), ('policy=deny', False),
                (f'{rule}{escaped},rules.0.policy=allow', True),
                (f'{rule}{escaped},rules.0.policy=deny,policy=allow', False),
                (f'{rule}*somebody,rules.0.policy=allow', False),
                (f'{rule}*somebody,rules.0.policy=allow,rules.0.format=glob',
                 True)):
            with self.subTest(text):
                self.authz_allows(f'authz-list,id=z{"," if text else ""}{text}',
                                  allowed)

    def test_authz_changed(self):
        """qom-set counts for whoever comes next."""
        def change(name, value, allowed):
            self.qmp.cmd('qom-set', {'path': 'z', 'property': name,
                                     'value': value})
            if allowed:
                self.client(self.x509(), 'read -q 0 512')
            else:
                self.refused('hung up|reset|pipe', self.x509())

        self.authz_start('authz-simple,id=z,identity=nobody')
        self.refused('hung up|reset|pipe', self.x509())
        change('identity', self.NAME, True)
        change('identity', self.NAME + 'x', False)
        self.qmp.cmd('quit')
        self.authz_start('authz-list,id=z')
        rule = {'match': self.NAME, 'policy': 'deny'}
        change('policy', 'allow', True)
        change('rules', [rule], False)
        change('rules', [{**rule, 'policy': 'allow'}, rule], True)
        change('policy', 'deny', True)
        change('rules', [], False)

    def test_authz_file(self):
        def write(policy):
            rule = {'match': self.NAME, 'policy': policy}
            self.write_file('rules', json.dumps({'rules': [rule]}).encode())

        write('deny')
        self.authz_start('authz-listfile,id=z,filename=rules')
        self.refused('hung up|reset|pipe', self.x509())
        write('allow')
        self.works(self.x509())
        self.write_file('rules', b'{"rules": 5}')
        self.refused('hung up|reset|pipe', self.x509())
        os.unlink(self.path('rules'))
        self.refused('hung up|reset|pipe', self.x509())
        self.qmp.cmd('quit')

    def test_authz_wrong(self):
        psk = tls.psk(self.path('p'), joe=SECRET)
        server = ['--nbd-server', 'addr.type=unix,addr.path=s,tls-creds=t,'
                  'tls-authz=z']
        creds = ['--object', f'{self.x509(self.server_dir)},id=t,'
                 'endpoint=server']
        simple = ['--object', 'authz-simple,id=z,identity=x']
        for args, message in (
                ([*creds, *server], 'Cannot find QAuthZ object ID z'),
                ([*creds, '--object', 'iothread,id=z', *server],
                 "Object 'z' is not a QAuthZ subclass"),
                ([*simple, '--nbd-server', 'addr.type=unix,addr.path=s,'
                  'tls-authz=z'], 'tls-authz needs tls-creds'),
                (['--object', f'tls-creds-psk,dir={psk},id=t,endpoint=server',
                  *simple, *server], 'type tls-creds-x509'),
                ([creds[0], creds[1] + ',verify-peer=off', *simple, *server],
                 'with verify-peer=on'),
                (['--object', 'authz-listfile,id=z,filename=nope'],
                 "Unable to read 'nope'"),
                (['--object', 'authz-pam,id=z,service=x'], 'authz-pam')):
            with self.subTest(message):
                result = self._run([iotests.qsd(), *args], 1)
                self.assertIn(message, result.stderr)

    def test_keys(self):
        server = tls.psk(self.path('p'), joe=SECRET, qemu=bytes(16))
        self.start(f'tls-creds-psk,dir={server}')
        self.works(f'tls-creds-psk,dir={server}', hostname=None)
        self.works(f'tls-creds-psk,dir={server},username=joe', hostname=None)
        wrong = tls.psk(self.path('w'), joe=bytes(32))
        self.refused('handshake', f'tls-creds-psk,dir={wrong},username=joe',
                     hostname=None)
        self.refused('Username jim not found',
                     f'tls-creds-psk,dir={wrong},username=jim')
        self.refused('handshake', self.x509())

    def test_old_versions_and_priorities(self):
        self.start(self.x509(self.server_dir,
                             ',priority=NORMAL:-VERS-ALL:+VERS-TLS1.2'))
        self.works(self.x509())
        self.refused('handshake', self.x509(
            more=',priority=NORMAL:-VERS-ALL:+VERS-TLS1.3'))
        self.refused('priority', self.x509(more=',priority=NONSENSE'))

    def test_plain_clients(self):
        """They hear that TLS is needed, whatever they ask for."""
        self.start(self.x509(self.server_dir))
        uri = f'nbd+unix:///x?socket={self.path("s")}'
        self.img_fails('TLS negotiation required before option 11.*\n.*valid '
                       'tls-creds', 'info', uri)
        client = nbd.NBDClient(self.path('s'))
        for option in (nbd.LIST, nbd.STRUCTURED, nbd.EXTENDED, 77):
            self.assertEqual(client.option(option)[0][0], STARTTLS_REQUIRED)
        self.assertEqual(client.go('x'), STARTTLS_REQUIRED)
        self.assertEqual(client.set_meta('x', 'base:')[0][0],
                         STARTTLS_REQUIRED)
        self.assertEqual(client.option(nbd.STARTTLS, b'x')[0][0], nbd.INVALID)
        client.send_option(nbd.EXPORT_NAME, b'x')
        self.assertTrue(client.is_gone())
        client.close()
        result = self._run([iotests.qemu_nbd(), '-L', '-k', self.path('s')], 1)
        self.assertIn('valid tls-creds', result.stderr)

    def test_what_is_sent_before(self):
        """Bytes in the clear behind the start of TLS are nobody's."""
        self.start(self.x509(self.server_dir))
        client = nbd.NBDClient(self.path('s'))
        client.sock.sendall(struct.pack('>QII', nbd.OPTS_MAGIC, nbd.STARTTLS,
                                        0) +
                            struct.pack('>QII', nbd.OPTS_MAGIC, nbd.LIST, 0))
        self.assertTrue(client.is_gone())
        client.close()
        self.works(self.x509())

    def test_server_that_adds_data(self):
        def option(c, option, data):
            if option != nbd.STARTTLS:
                return False
            c.send(2 * struct.pack('>QIII', nbd.REP_MAGIC, option, nbd.ACK, 0))
            return True

        server = NBDServer(self.path('s'), option=option)
        self.addCleanup(server.close)
        self.refused('Unexpected data|handshake', self.x509())
        self.assertEqual(server.options, [nbd.STARTTLS])

    def test_server_without(self):
        for kwargs, message in ((
                {}, r'Unsupported option 5 \(starttls\)'),
                ({'oldstyle': True}, 'does not support STARTTLS'),
                ({'greeting': 2}, 'does not support STARTTLS')):
            server = NBDServer(self.path('s'), **kwargs)
            self.refused(message, self.x509(), options=',export=')
            server.close()
            os.unlink(self.path('s'))

    def test_handshake_takes_too_long(self):
        self.start(self.x509(self.server_dir), ',handshake-max-seconds=1')
        client = nbd.NBDClient(self.path('s'))
        self.assertEqual(client.option(nbd.STARTTLS), [(nbd.ACK, b'')])
        begin = time.monotonic()
        client.sock.sendall(b'\x16\x03\x01')
        self.assertTrue(client.is_gone())
        self.assertLess(time.monotonic() - begin, 30)
        client.close()
        # Garbage instead of a hello.
        client = nbd.NBDClient(self.path('s'))
        client.option(nbd.STARTTLS)
        client.sock.sendall(bytes(1000))
        self.assertTrue(client.is_gone())
        self.works(self.x509())

    def test_objects(self):
        def fails(message, creds, expect=1):
            self.img_fails(message, 'info', '--object', f'{creds},id=t', 'a')

        fails("Missing 'dir'", 'tls-creds-x509')
        fails('Unable to access credentials .*/ca-cert.pem',
              f'tls-creds-x509,dir={self.path("nope")}')
        fails('Unable to access credentials .*/server-cert.pem',
              f'tls-creds-x509,endpoint=server,dir={self.client_dir}')
        fails('Unable to access credentials .*/keys.psk',
              f'tls-creds-psk,dir={self.client_dir}')
        old = self.ca.sign(self.path('old'), 'client', tls.CLIENT,
                           expired=True)
        fails('The client certificate .* has expired',
              f'tls-creds-x509,dir={old}')
        self.img('info', '--object', f'tls-creds-x509,dir={old},id=t,'
                 'sanity-check=off', 'a')
        wrong = self.ca.sign(self.path('wrong'), 'client', tls.SERVER)
        fails('purpose does not allow use with a TLS client',
              f'tls-creds-x509,dir={wrong}')
        other = tls.Authority(self.path('other'))
        shutil.copy(other.cert, self.client_dir)
        fails('failed validation', f'tls-creds-x509,dir={self.client_dir}')

    def test_password(self):
        cert = self.path('client/client-key.pem')
        tls.certtool('--to-p8', '--load-privkey', cert, '--password', 'word',
                     '--outfile', cert + '.new')
        os.rename(cert + '.new', cert)
        self.start(self.x509(self.server_dir))
        self.refused('Cannot load certificate and key', self.x509())
        self.io('driver=nbd,server.type=unix,server.path=s,export=x,'
                'tls-creds=t,tls-hostname=localhost', 'read -q 0 512',
                fmt=None, options=[
                    '--image-opts', '--object', 'secret,id=s,data=word',
                    '--object', self.x509(more=',id=t,passwordid=s')])

    def test_use_of_objects(self):
        self.start(self.x509(self.server_dir))
        self.qmp_fails('in use', self.qmp, 'object-del', id='t')
        self.qmp.cmd('nbd-server-stop')
        self.qmp_fails('Expected TLS credentials for a client', self.qmp,
                       'blockdev-add', {
                           'driver': 'nbd', 'node-name': 'c', 'tls-creds': 't',
                           'server': {'type': 'unix', 'path': 's'}})
        self.qmp_fails('No TLS credentials with id', self.qmp,
                       'nbd-server-start', {
                           'tls-creds': 'u', 'addr': {
                               'type': 'unix', 'data': {'path': 's'}}})
        self.qmp.cmd('object-del', id='t')

    def test_program(self):
        """qemu-nbd as server, and with --list as client."""
        log = self.path('log')
        with open(log, 'wb') as f:
            process = subprocess.Popen(
                [iotests.qemu_nbd(), '-k', self.path('s'), '-f', 'raw', '-t',
                 '-x', 'x', '--object',
                 f'{self.x509(self.server_dir)},id=t,endpoint=server',
                 '--tls-creds', 't', 'a'], cwd=self.dir, stderr=f)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        creds = ['--object', f'{self.x509()},id=t', '--tls-creds', 't']
        nbd.wait_for(lambda: self._run(
            [iotests.qemu_nbd(), '-L', '-k', self.path('s'), *creds,
             '--tls-hostname', 'localhost'], None).rc == 0)
        listed = self._run([iotests.qemu_nbd(), '-L', '-k', self.path('s'),
                            *creds, '--tls-hostname', 'localhost'], 0)
        self.assertIn("export: 'x'\n  size:  4194304\n", listed.stdout)
        listed = self._run([iotests.qemu_nbd(), '-L', '-k', self.path('s'),
                            *creds, '--tls-hostname', 'other'], 1)
        self.assertIn('does not match', listed.stderr)
        self.works(self.x509())
        for args, message in (
                (['--tls-creds', 'u'], "No TLS credentials with id 'u'"),
                (['--tls-hostname', 'u'], 'not permitted without'),
                (['--tls-authz', 'u'], 'not permitted without'),
                (creds, 'Expected TLS credentials for a server'),
                (['--object', f'{self.x509(self.server_dir)},id=t,'
                  'endpoint=server', '--tls-creds', 't', '--tls-authz', 'u'],
                 'Cannot find QAuthZ object ID u')):
            result = self._run([iotests.qemu_nbd(), '-k', self.path('s2'),
                                '-f', 'raw', *args, 'a'], 1)
            self.assertIn(message, result.stderr)


if __name__ == '__main__':
    iotests.main()
