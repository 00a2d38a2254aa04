"""Certificates and keys of the database: in secrets, in pods, on the wire; and who is let in.

No fact holds a private key, nor any part of one: of a key there is only the fingerprint of its public half.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Address

from analysis.facts.gap import Gap


@dataclass(frozen=True)
class Certificate:
    """An X.509 certificate (RFC 5280).

    Attributes:
        subject: its common name.
        issuer: its issuer's common name.
        serial: in hexadecimal.
        fingerprint: SHA-256 over the certificate, in hexadecimal.
        key: SHA-256 over its public key (SubjectPublicKeyInfo), in hexadecimal.
        issuer_key: likewise, of the certificate that signed it, when that one is among those seen with it; else "".
        not_before: with time zone.
        not_after: with time zone.
        names: DNS names that it is valid for, wildcards as they stand.
        addresses: IP addresses that it is valid for.
        authority: it may sign others (basicConstraints CA).
        server: its extended usages allow serving, or it limits none.
        client: likewise, being a client.
    """

    subject: str
    issuer: str
    serial: str
    fingerprint: str
    key: str
    issuer_key: str
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]
    addresses: tuple[IPv4Address, ...]
    authority: bool
    server: bool
    client: bool


@dataclass(frozen=True)
class SecretEntry:
    """One key of a Secret in a database namespace.

    Attributes:
        entry: the key's name ("node.crt").
        certificates: what is in it, in its order.
        private_key: fingerprint of the public half of the private key in it (as `Certificate.key`), "" for none.
    """

    region: str
    namespace: str
    secret: str
    entry: str
    certificates: tuple[Certificate, ...] = ()
    private_key: str = ""


@dataclass(frozen=True)
class MountedFile:
    """A file of the certificate folder in a database pod.

    Attributes:
        mode: permission bits (0o400).
        owner: its uid as the pod sees it.
        private_key: it holds one.
        authority_key: the private key in it is that of an authority's certificate.
        key: fingerprint of the public half of that private key (as `Certificate.key`), "" for none.
    """

    region: str
    pod: str
    path: str
    mode: int
    owner: int
    private_key: bool
    authority_key: bool = False
    key: str = ""


class Door(str, Enum):
    """Which of the database's ports."""

    SQL = "sql"
    CONSOLE = "console"


@dataclass(frozen=True)
class Presented:
    """What a server showed in a TLS handshake with a client in another place.

    Attributes:
        source: region of the client.
        region: of the server's pod.
        pod: the server's.
        name: the name that the client asked for and verified.
        chain: as it was presented, the server's own first; empty when there was no handshake.
        verified: the client believed it, with the planned authority and that name; None when nobody answered. The name
            may be that of another region's pod: then nobody may believe it.
        version: of TLS ("TLSv1.3").
        detail: why it was not believed, or why nobody answered.
    """

    source: str
    region: str
    pod: str
    door: Door
    name: str
    chain: tuple[Certificate, ...]
    verified: bool | None
    version: str = ""
    detail: str = ""


class Attempt(str, Enum):
    """An attempt to get in that must be turned down, and the one that must not be."""

    RIGHTFUL = "rightful"
    """With the planned client certificate: the control, without which a refusal proves nothing."""

    PLAINTEXT = "plaintext"
    """Without TLS."""

    WITHOUT_CREDENTIALS = "without-credentials"
    """TLS, but neither certificate nor password."""

    FOREIGN_CERTIFICATE = "foreign-certificate"
    """A client certificate of the right name, signed by another authority."""

    PUBLISHED_PASSWORD = "published-password"  # noqa: S105 - a kind of attempt
    """A demonstration user with the password that guides print."""

    FOREIGN_NODE = "foreign-node"
    """A node's certificate of another authority, at the port by which nodes speak to each other."""


@dataclass(frozen=True)
class Login:
    """An attempt at a database pod's port.

    Attributes:
        user: whose name was used, "" where none is.
        accepted: None when it could not be tried.
        detail: the server's words; for PLAINTEXT at the console, the status it answered.
    """

    source: str
    region: str
    pod: str
    door: Door
    attempt: Attempt
    user: str
    accepted: bool | None
    detail: str = ""


@dataclass(frozen=True)
class Tls:
    """Certificates and keys, and who is let in.

    Attributes:
        at: when it was looked at: validity is judged by this, so that a recording is judged as it was.
        authorities: whom clients are to believe, as the environment names them.
    """

    at: datetime
    authorities: tuple[Certificate, ...] = ()
    secrets: tuple[SecretEntry, ...] = ()
    files: tuple[MountedFile, ...] = ()
    presented: tuple[Presented, ...] = ()
    logins: tuple[Login, ...] = ()
    gaps: tuple[Gap, ...] = ()
