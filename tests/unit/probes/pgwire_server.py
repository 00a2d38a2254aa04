"""A server that speaks as much of PostgreSQL's protocol as a login takes, on loopback.

It is written from the protocol's description and shares nothing with the agent, which is tested against it.
"""

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
import threading
from contextlib import suppress

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class PgServer:
    """Answers logins until it is closed.

    Args:
        context: of TLS; without one it speaks none.
        asks: "cert", "trust", "password", "md5" or "scram".
        password: of every user.
        plain: logins without TLS are let in, too.
    """

    def __init__(self, context=None, asks="trust", password="secret", plain=False):
        self.context, self.asks, self.password, self.plain = context, asks, password, plain
        self.startups = []
        self.refusal = ("28000", "no entry for this host, no encryption")
        self.afterwards = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with suppress(OSError, EOFError), connection:
                connection.settimeout(5)
                self.greet(connection)

    def greet(self, connection):
        secured = False
        first = exactly(connection, 8)
        if first == SSL_REQUEST:
            connection.sendall(b"S" if self.context else b"N")
            if not self.context:
                return
            connection = self.context.wrap_socket(connection, server_side=True)
            secured = True
            first = exactly(connection, 8)
        size, _version = struct.unpack("!ii", first)
        words = exactly(connection, size - 8).split(b"\0")
        startup = {name.decode(): value.decode() for name, value in zip(words[::2], words[1::2], strict=False) if name}
        self.startups.append(startup)
        if not secured and not self.plain:
            self.refuse(connection, *self.refusal)
        elif not self.authenticate(connection, startup):
            self.refuse(connection, "28P01", f'password authentication failed for user "{startup["user"]}"')
        else:
            tell(connection, b"R", struct.pack("!i", 0))
            if self.afterwards:
                self.refuse(connection, *self.afterwards)
            else:
                tell(connection, b"S", b"server_version\x0018\0")
                tell(connection, b"Z", b"I")
        with suppress(OSError):
            connection.close()

    def authenticate(self, connection, startup):
        if self.asks == "trust":
            return True
        if self.asks == "cert":
            return bool(connection.getpeercert())
        if self.asks == "password":
            tell(connection, b"R", struct.pack("!i", 3))
            return heard(connection) == self.password.encode() + b"\0"
        if self.asks == "md5":
            tell(connection, b"R", struct.pack("!i", 5) + b"salt")
            inner = hashlib.md5((self.password + startup["user"]).encode()).hexdigest()
            return heard(connection) == b"md5" + hashlib.md5(inner.encode() + b"salt").hexdigest().encode() + b"\0"
        return self.scram(connection)

    def scram(self, connection):
        tell(connection, b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
        mechanism, _, rest = heard(connection).partition(b"\0")
        assert mechanism == b"SCRAM-SHA-256"
        bare = rest[4:].decode().removeprefix("n,,")
        salt, nonce = os.urandom(16), bare.rpartition("r=")[2] + base64.b64encode(os.urandom(9)).decode()
        challenge = f"r={nonce},s={base64.b64encode(salt).decode()},i=4096"
        tell(connection, b"R", struct.pack("!i", 11) + challenge.encode())
        final, _, proof = heard(connection).decode().rpartition(",p=")
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), salt, 4096)
        stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
        signature = hmac.digest(stored, f"{bare},{challenge},{final}".encode(), "sha256")
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        if hashlib.sha256(key).digest() != stored:
            return False
        tell(connection, b"R", struct.pack("!i", 12) + b"v=unchecked")
        return True

    def refuse(self, connection, code, message):
        tell(connection, b"E", f"SFATAL\0C{code}\0M{message}\0\0".encode())


def server_context(own, trusted=None, required=False):
    """A server's TLS with a credential (certificate and key files' texts), verifying clients by the trusted one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    memory = os.memfd_create("own")
    try:
        os.write(memory, (own.certificate + own.key).encode())
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    if trusted:
        context.load_verify_locations(cadata=trusted)
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def exactly(connection, size):
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def tell(connection, kind, body):
    connection.sendall(kind + struct.pack("!i", len(body) + 4) + body)


def heard(connection):
    assert exactly(connection, 1) == b"p"
    return exactly(connection, struct.unpack("!i", exactly(connection, 4))[0] - 4)
