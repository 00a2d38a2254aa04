"""Keys, certificates, tokens and kubeconfigs of the lab's clusters.

Every cluster has a certificate authority of its own. Its private key is never written: once the cluster's
certificates are signed nobody needs it, and what does not exist cannot leak.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provision.lab.kube.identities import IDENTITIES, Identity
from provision.lab.private_file import write_secret as write_secret

LIFETIME = timedelta(days=365)
CLOCK_SKEW = timedelta(hours=1)
LOOPBACK = IPv4Address("127.0.0.1")
API_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, PEM files of mode 0600."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ClusterPki:
    """What one cluster's components need to trust each other.

    Attributes:
        ca: the certificate authority that all certificates of the cluster lead to.
        api_server: serves the API.
        kubelets: serves exec and logs on every node: one certificate that names all of them.
        kubelet_client: with which the API server shows itself to the kubelets.
        tokens_file: JSON list of {"token", "user", "groups"}, as the API server reads it.
        tokens: the same tokens, by user.
    """

    region: str
    ca: Path
    api_server: KeyPair
    kubelets: KeyPair
    kubelet_client: KeyPair
    tokens_file: Path
    tokens: Mapping[str, str] = field(repr=False)

    def token(self, identity: Identity) -> str:
        """The bearer token of `identity`. Raises KeyError for one that was not asked for."""
        return self.tokens[identity.user]


@dataclass(frozen=True, slots=True)
class KubeContext:
    """One context of a kubeconfig: `server` is a URL, `ca` the PEM file that its certificate leads to."""

    name: str
    server: str
    ca: Path
    token: str = field(repr=False)
    namespace: str = "default"


def create_cluster_pki(
    folder: Path,
    region: str,
    nodes: Mapping[str, IPv4Address],
    api_server_addresses: Iterable[IPv4Address] = (),
) -> ClusterPki:
    """Make a cluster's certificate authority, certificates and tokens in `folder`/`region`, mode 0700.

    Args:
        folder: the lab's pki folder.
        region: names the sub-folder and the certificate authority.
        nodes: InternalIP by node name; the kubelets' certificate names both, and 127.0.0.1.
        api_server_addresses: where else than at 127.0.0.1 the API server is reached.

    Raises:
        OSError: the folder cannot be written.
    """
    home = folder / region
    for each in (folder, home):
        each.mkdir(mode=0o700, exist_ok=True)
    authority = Authority(f"meshproof-lab-{region}", home)
    tokens = write_tokens(home / "tokens.json", IDENTITIES)
    return ClusterPki(
        region=region,
        ca=authority.certificate_file,
        api_server=authority.issue(
            "kube-apiserver",
            usages=[ExtendedKeyUsageOID.SERVER_AUTH],
            names=API_SERVER_NAMES,
            addresses=[LOOPBACK, *api_server_addresses],
        ),
        kubelets=authority.issue(
            "kubelet",
            usages=[ExtendedKeyUsageOID.SERVER_AUTH],
            names=["localhost", *nodes],
            addresses=[LOOPBACK, *nodes.values()],
        ),
        kubelet_client=authority.issue(
            "kube-apiserver-kubelet-client", usages=[ExtendedKeyUsageOID.CLIENT_AUTH], organization="system:masters"
        ),
        tokens_file=home / "tokens.json",
        tokens=tokens,
    )


def write_tokens(path: Path, identities: Iterable[Identity]) -> dict[str, str]:
    """Draw a random token for each identity, write the API server's token file, return the tokens by user."""
    tokens = {identity: secrets.token_urlsafe(32) for identity in identities}
    entries = [{"token": token, "user": who.user, "groups": list(who.groups)} for who, token in tokens.items()]
    write_secret(path, json.dumps(entries, indent=1).encode())
    return {who.user: token for who, token in tokens.items()}


def write_kubeconfig(path: Path, contexts: Sequence[KubeContext]) -> None:
    """Write a kubeconfig (as JSON, which is YAML too), mode 0600; the first context is the current one."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": contexts[0].name,
        "clusters": [
            {
                "name": context.name,
                "cluster": {
                    "server": context.server,
                    "certificate-authority-data": base64.b64encode(context.ca.read_bytes()).decode(),
                },
            }
            for context in contexts
        ],
        "users": [{"name": context.name, "user": {"token": context.token}} for context in contexts],
        "contexts": [
            {
                "name": context.name,
                "context": {"cluster": context.name, "user": context.name, "namespace": context.namespace},
            }
            for context in contexts
        ],
    }
    write_secret(path, json.dumps(document, indent=2).encode() + b"\n")


class Authority:
    """A certificate authority in a folder; its key lives only as long as this object, unless it is asked to be kept."""

    def __init__(self, name: str, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = _key_usage(signs_certificates=True)
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate_file = folder / "ca.pem"
        write_secret(self.certificate_file, certificate.public_bytes(serialization.Encoding.PEM))

    def write_key(self) -> Path:
        """Keep the authority's own key, for clusters that are meant to hold it; mode 0600."""
        path = self._folder / "ca-key.pem"
        write_secret(path, _private_pem(self._key))
        return path

    def issue(
        self,
        name: str,
        *,
        usages: Sequence[x509.ObjectIdentifier],
        names: Iterable[str] = (),
        addresses: Iterable[IPv4Address] = (),
        organization: str = "",
        folder: Path | None = None,
    ) -> KeyPair:
        """Sign a certificate for `name`, and write it and its key into the authority's folder, or another."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if organization:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        builder = (
            self._builder(x509.Name(subject), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        home = folder or self._folder
        pair = KeyPair(home / f"{name}.pem", home / f"{name}-key.pem")
        certificate = builder.sign(self._key, hashes.SHA256())
        write_secret(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        write_secret(pair.key, _private_pem(key))
        return pair

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        start = datetime.now(UTC) - CLOCK_SKEW
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
