"""Certificates of an authority that nobody in the lab trusts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@cache
def foreign_authority() -> x509.Certificate:
    """The certificate of an authority that nobody in the lab has heard of."""
    return _certificate(_foreign_key(), "Somebody Else's CA", ())


def foreign_certificate(names: Sequence[str]) -> tuple[bytes, bytes]:
    """Certificate and key, PEM, that the foreign authority has issued for a server of these names."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _pem(_certificate(key, names[0], names)), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def foreign_authority_pem() -> bytes:
    """The foreign authority as a file of trusted certificates."""
    return _pem(foreign_authority())


@cache
def _foreign_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _certificate(key: ec.EllipticCurvePrivateKey, name: str, names: Sequence[str]) -> x509.Certificate:
    """Of a server with these names, or, without any, of the authority itself."""
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Somebody Else's CA")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
    return builder.sign(_foreign_key(), hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
