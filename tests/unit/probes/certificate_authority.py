"""An authority for tests, and what it signs."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from probes.tls import ClientCredential

PEM = serialization.Encoding.PEM


class CertificateAuthority:
    def __init__(self, name="test-ca"):
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._builder(self.name, self.key, ca=True).sign(self.key, hashes.SHA256())

    @property
    def pem(self):
        return self.certificate.public_bytes(PEM).decode()

    @property
    def key_pem(self):
        return private_pem(self.key)

    def issue(self, common_name, *, names=("localhost",), days=365):
        """A certificate for serving and for being a client, with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names = [*(x509.DNSName(name) for name in names), x509.IPAddress(IPv4Address("127.0.0.1"))]
        builder = self._builder(subject, key, ca=False, days=days)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return ClientCredential(certificate.public_bytes(PEM).decode(), private_pem(key))

    def _builder(self, subject, key, *, ca, days=365):
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=400))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )


def private_pem(key):
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
