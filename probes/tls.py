"""TLS from the runner's side: what the agent's handshakes showed, and credentials that nobody should accept."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, ip_address
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from probes.client import Operation

TIMEOUT_S = 10.0
PATIENCE_S = 0.7
"""How long a server may take to refuse a client after the handshake, on top of the way there and back."""

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What an HTTP/2 client says first (RFC 9113, 3.4), with empty settings: who lets it in answers with settings."""

HTTP2_SETTINGS = 4


@dataclass(frozen=True)
class ClientCredential:
    """A client's certificate and key, PEM. The key must reach no argument vector, log, fact or report."""

    certificate: str
    key: str


def throwaway_credential(common_name: str) -> ClientCredential:
    """A certificate that its own key has signed, valid for an hour: an authority that nobody can know."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return ClientCredential(
        certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii"),
    )


@dataclass(frozen=True)
class Door:
    """A TLS server to try.

    Attributes:
        name: the name that it is asked under.
        plain: speak without TLS.
        credential: shown to the server.
        request: what is said after the handshake.
        protocols: in which language, by ALPN; the server chooses.
    """

    address: IPv4Address
    port: int
    name: str
    plain: bool = False
    credential: ClientCredential | None = None
    request: bytes = HTTP2_PREFACE
    protocols: tuple[str, ...] = ("h2", "http/1.1")


def tls_operation(doors: list[Door]) -> Operation:
    """The agent's operation that tries all these doors at once."""
    return {
        "op": "tls",
        "timeout": TIMEOUT_S,
        "patience": PATIENCE_S,
        "targets": [
            {
                "address": str(door.address),
                "port": door.port,
                "name": door.name,
                "plain": door.plain,
                "certificate": door.credential.certificate if door.credential else None,
                "key": door.credential.key if door.credential else None,
                "protocols": list(door.protocols),
                "request": base64.b64encode(door.request).decode("ascii"),
            }
            for door in doors
        ],
    }


def let_in(answer: dict[str, Any]) -> tuple[bool | None, str]:
    """Whether the server behind a door dealt with us as a client of its own, and its words; None when nobody can tell.

    Let in is who gets an answer in HTTP, other than a refusal. Refused is who gets an alert, or is hung up on.
    """
    if answer["outcome"] != "open":
        return None, f"TCP {answer['outcome']}: {answer.get('detail', '')}"
    if "alert" in answer:
        return False, str(answer["alert"])
    heard = base64.b64decode(answer.get("heard", ""))
    if heard[3:4] == bytes([HTTP2_SETTINGS]):
        return True, "answered in HTTP/2"
    if heard.startswith(b"HTTP/1."):
        line = heard.split(b"\r\n")[0].decode("ascii", "replace")
        return line.split()[1:2] not in (["400"], ["401"], ["403"]), line
    if heard[:1] == b"\x15":
        return False, "answered with a TLS alert"
    if answer.get("closed"):
        return False, answer.get("detail") or "hung up"
    return None, answer.get("detail") or "connected, but nothing was said"


@dataclass(frozen=True)
class SeenCertificate:
    """A server's certificate. See `analysis.facts.StoreCertificate`."""

    names: tuple[str, ...]
    issuer: str
    not_after: str
    problem: str


def read_certificate(der: bytes, name: str, trusted: list[x509.Certificate]) -> SeenCertificate:
    """What a certificate says, and why it would not be accepted for that name ("" when it would).

    The server's own certificate must be signed by one of the trusted authorities: the agent cannot see intermediates.

    Raises:
        ValueError: it is no certificate.
    """
    certificate = x509.load_der_x509_certificate(der)
    names = _names(certificate)
    return SeenCertificate(
        names,
        certificate.issuer.rfc4514_string(),
        certificate.not_valid_after_utc.isoformat(),
        "; ".join(filter(None, (_distrust(certificate, trusted), _misnamed(names, name), _expired(certificate)))),
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _distrust(certificate: x509.Certificate, trusted: list[x509.Certificate]) -> str:
    for authority in trusted:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return _expired(authority)
    return f"none of {len(trusted)} trusted authorities has signed it (issuer: {certificate.issuer.rfc4514_string()})"


def _misnamed(names: tuple[str, ...], name: str) -> str:
    _, _, parent = name.partition(".")
    if name in names or (parent and not _is_address(name) and f"*.{parent}" in names):
        return ""
    return f"it is not valid for {name}"


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _expired(certificate: x509.Certificate) -> str:
    now, subject = datetime.now(UTC), certificate.subject.rfc4514_string()
    if now > certificate.not_valid_after_utc:
        return f"{subject} expired at {certificate.not_valid_after_utc.isoformat()}"
    if now < certificate.not_valid_before_utc:
        return f"{subject} is not valid before {certificate.not_valid_before_utc.isoformat()}"
    return ""


def read_authorities(pem: str) -> list[x509.Certificate]:
    """The certificates in a PEM text; none when there are none. Raises ValueError when one is garbled."""
    return x509.load_pem_x509_certificates(pem.encode()) if "BEGIN CERTIFICATE" in pem else []


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the certificate, in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()
