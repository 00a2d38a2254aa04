"""Certificates and keys: what is in PEM texts, as facts, and credentials that are made to be refused.

A private key stays in memory, for as long as it takes to tell its public half by its fingerprint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from analysis.facts import Certificate
from probes.tls import ClientCredential

PRIVATE_KEY = "PRIVATE KEY-----"
"""What stands in the first line of every private key in PEM."""

_KEY = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL)

T = TypeVar("T", bound=x509.ExtensionType)


def load_certificates(pem: str) -> list[x509.Certificate]:
    """The certificates in a PEM text, keys and remarks left out; none when there are none.

    Raises:
        ValueError: one of them is garbled.
    """
    return x509.load_pem_x509_certificates(pem.encode()) if "BEGIN CERTIFICATE" in pem else []


def describe(certificates: Sequence[x509.Certificate], beside: Sequence[x509.Certificate] = ()) -> list[Certificate]:
    """Certificates as facts.

    Args:
        certificates: those to describe.
        beside: others that may have signed them.
    """
    known = (*certificates, *beside)
    return [_describe(certificate, known) for certificate in certificates]


def key_fingerprint(pem: str) -> str:
    """The fingerprint of the public half of the private key in a PEM text, as `Certificate.key`; "" for none.

    Raises:
        ValueError: there is a private key that cannot be read: it is garbled, or protected by a password.
    """
    found = _KEY.search(pem)
    if found is None:
        if PRIVATE_KEY in pem:
            raise ValueError("a private key that has no end")
        return ""
    try:
        key = serialization.load_pem_private_key(found[0].encode(), password=None)
    except TypeError:
        raise ValueError("a private key that is protected by a password") from None
    except (ValueError, UnsupportedAlgorithm):  # their words may hold parts of it
        raise ValueError("a private key that cannot be read") from None
    return _fingerprint(key.public_key())


def forged_credential(authority: x509.Certificate, common_name: str) -> ClientCredential:
    """A certificate of an authority that bears the given one's name and is another: all that differs is the key.

    It is valid for an hour, for servers and for clients.
    """
    own, forger = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)

    def builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = builder(name, own, ca=False).add_extension(usages, critical=False).sign(forger, hashes.SHA256())
    issuer = builder(authority.subject, forger, ca=True).sign(forger, hashes.SHA256())
    pem = serialization.Encoding.PEM
    return ClientCredential(
        (certificate.public_bytes(pem) + issuer.public_bytes(pem)).decode("ascii"),
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode("ascii"),
    )


def _describe(certificate: x509.Certificate, known: Sequence[x509.Certificate]) -> Certificate:
    names = _extension(certificate, x509.SubjectAlternativeName)
    constraints = _extension(certificate, x509.BasicConstraints)
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    addresses = names.get_values_for_type(x509.IPAddress) if names else ()
    return Certificate(
        subject=_common_name(certificate.subject),
        issuer=_common_name(certificate.issuer),
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        key=_fingerprint(certificate.public_key()),
        issuer_key=next((_fingerprint(other.public_key()) for other in known if _signed(certificate, other)), ""),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        names=tuple(names.get_values_for_type(x509.DNSName)) if names else (),
        addresses=tuple(address for address in addresses if isinstance(address, IPv4Address)),
        authority=bool(constraints and constraints.ca),
        server=usages is None or ExtendedKeyUsageOID.SERVER_AUTH in usages,
        client=usages is None or ExtendedKeyUsageOID.CLIENT_AUTH in usages,
    )


def _extension(certificate: x509.Certificate, kind: Callable[..., T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value  # type: ignore[arg-type]
    except x509.ExtensionNotFound:
        return None


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _signed(certificate: x509.Certificate, other: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(other)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _fingerprint(key: PublicKeyTypes) -> str:
    digest = hashes.Hash(hashes.SHA256())
    der = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    digest.update(key.public_bytes(*der))
    return digest.finalize().hex()
