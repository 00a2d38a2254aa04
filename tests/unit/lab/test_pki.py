"""Keys, tokens and kubeconfigs of a cluster."""

from __future__ import annotations

import json
import ssl
import stat
from ipaddress import IPv4Address

import pytest

from provision.lab.kube.identities import ADMIN, IDENTITIES, VERIFIER, service_account
from provision.lab.kube.pki import KubeContext, create_cluster_pki, write_kubeconfig


@pytest.fixture
def pki(tmp_path):
    return create_cluster_pki(tmp_path / "pki", "east", {"node-1": IPv4Address("10.0.1.10")})


def test_only_the_owner_can_read_anything(pki, tmp_path):
    for path in (tmp_path / "pki").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def handshake(server_pair, ca, name, client_pair=None) -> dict | None:
    """Client and server talk TLS in memory; returns the certificate that the client showed."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    server.load_cert_chain(server_pair.certificate, server_pair.key)
    server.verify_mode = ssl.CERT_OPTIONAL
    client = ssl.create_default_context(cafile=ca)
    if client_pair:
        client.load_cert_chain(client_pair.certificate, client_pair.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done: set[int] = set()
    while len(done) < 2:
        for index, end in enumerate(ends):
            try:
                end.do_handshake()
                done.add(index)
            except ssl.SSLWantReadError:
                pass
    return ends[1].getpeercert()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "kubernetes.default.svc"])
def test_api_server_is_who_it_says(pki, name):
    handshake(pki.api_server, pki.ca, name)


@pytest.mark.parametrize("name", ["node-1", "10.0.1.10", "127.0.0.1"])
def test_kubelets_know_the_api_server_by_its_certificate(pki, name):
    shown = handshake(pki.kubelets, pki.ca, name, pki.kubelet_client)
    assert (("commonName", "kube-apiserver-kubelet-client"),) in shown["subject"]


def test_other_names_and_other_clusters_are_not_trusted(pki, tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(pki.kubelets, pki.ca, "node-2")
    other = create_cluster_pki(tmp_path / "pki", "west", {})
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(pki.api_server, other.ca, "localhost")


def test_everybody_has_a_token_of_their_own(pki):
    entries = json.loads(pki.tokens_file.read_text())
    assert [entry["user"] for entry in entries] == [identity.user for identity in IDENTITIES]
    assert len({entry["token"] for entry in entries}) == len(IDENTITIES)
    assert pki.token(ADMIN) == entries[0]["token"]
    assert pki.token(ADMIN) not in repr(pki)
    with pytest.raises(KeyError):
        pki.token(service_account("nobody", "nowhere"))


def test_kubeconfig_has_a_context_for_each_cluster(pki, tmp_path):
    path = tmp_path / "kubeconfig"
    path.touch(mode=0o644)
    contexts = [
        KubeContext(name, f"https://127.0.0.1:{port}", pki.ca, pki.token(VERIFIER))
        for name, port in (("a", 1), ("b", 2))
    ]
    write_kubeconfig(path, contexts)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    document = json.loads(path.read_text())
    assert document["current-context"] == "a"
    assert [each["name"] for each in document["contexts"]] == ["a", "b"]
    assert document["clusters"][1]["cluster"]["server"] == "https://127.0.0.1:2"
