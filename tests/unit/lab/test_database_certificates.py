"""Certificates of a lab's database: who is who, by which names, and what no cluster is given."""

from __future__ import annotations

from base64 import b64decode
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from analysis.facts import COCKROACHDB
from provision.lab.database.certificates import create, database_access
from provision.lab.topology import aws_calico

LAB = aws_calico("unit", database=True)
REGION, OTHER = LAB.regions[0].name, LAB.regions[1].name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pki")


@pytest.fixture(scope="module")
def secrets(folder):
    """The entries of every Secret, by region and name."""
    return {
        region: {
            secret["metadata"]["name"]: {entry: b64decode(text) for entry, text in secret["data"].items()}
            for secret in objects
        }
        for region, objects in create(folder, LAB).items()
    }


def certificate(pem):
    return x509.load_pem_x509_certificate(pem)


def common_name(found):
    (name,) = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return name.value


def usages(found):
    return set(found.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value)


def is_signed_by(leaf, authority):
    try:
        leaf.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_every_region_has_the_planned_secrets_and_all_trust_one_authority(secrets):
    assert secrets.keys() == {region.name for region in LAB.regions}
    assert {name: set(entries) for name, entries in secrets[REGION].items()} == {
        "cockroachdb.node": {"ca.crt", "node.crt", "node.key"},
        "cockroachdb.client.root": {"ca.crt", "client.root.crt", "client.root.key"},
        "database-store.node": {"ca.crt", "node.crt", "node.key"},
        "database-store.client": {"ca.crt", "client.crt", "client.key"},
    }
    assert len({those["cockroachdb.node"]["ca.crt"] for those in secrets.values()}) == 1


def test_a_member_is_a_node_that_serves_and_asks_under_the_eight_names_of_its_region(secrets):
    found = certificate(secrets[REGION]["cockroachdb.node"]["node.crt"])
    names = found.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    assert common_name(found) == "node"
    assert usages(found) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert names.get_values_for_type(x509.IPAddress) == [IPv4Address("127.0.0.1")]
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "localhost",
        "cockroachdb-public",
        f"cockroachdb-public.{REGION}",
        f"cockroachdb-public.{REGION}.svc.cluster.local",
        "*.cockroachdb",
        f"*.cockroachdb.{REGION}",
        f"*.cockroachdb.{REGION}.svc.cluster.local",
    }


def test_each_region_has_a_node_certificate_of_its_own(secrets):
    mine, other = (secrets[region]["cockroachdb.node"] for region in (REGION, OTHER))
    assert certificate(mine["node.crt"]).serial_number != certificate(other["node.crt"]).serial_number
    assert mine["node.key"] != other["node.key"]


def test_root_is_a_client_and_nothing_else(secrets, folder):
    entries = secrets[REGION]["cockroachdb.client.root"]
    found = certificate(entries["client.root.crt"])
    assert (common_name(found), usages(found)) == ("root", {ExtendedKeyUsageOID.CLIENT_AUTH})
    assert is_signed_by(found, certificate(entries["ca.crt"]))
    access = database_access(folder)
    assert access.user == "root"
    for path, entry in ((access.authority, "ca.crt"), (access.certificate, "client.root.crt")):
        assert Path(path).read_bytes() == entries[entry]


def test_who_belongs_to_the_database_cannot_write_the_store(secrets):
    store = certificate(secrets[REGION]["database-store.node"]["ca.crt"])
    assert is_signed_by(certificate(secrets[REGION]["database-store.client"]["client.crt"]), store)
    assert is_signed_by(certificate(secrets[REGION]["database-store.node"]["node.crt"]), store)
    assert not is_signed_by(certificate(secrets[REGION]["cockroachdb.client.root"]["client.root.crt"]), store)


def test_an_authoritys_key_is_in_no_cluster(secrets):
    authorities = [
        certificate(entries["ca.crt"]).public_key() for those in secrets.values() for entries in those.values()
    ]
    keys = [entry for those in secrets.values() for entries in those.values() for entry in entries.values()]
    owners = [load_pem_private_key(key, None).public_key() for key in keys if b"PRIVATE KEY" in key]
    assert owners
    assert not [owner for owner in owners if any(owner == authority for authority in authorities)]


def test_files_are_their_owners_alone(secrets, folder):
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_dir()} == {0o700}


def test_without_the_stand_in_there_is_no_store(tmp_path):
    objects = create(tmp_path, aws_calico("unit", database=True, engine=COCKROACHDB))
    assert [secret["metadata"]["name"] for secret in objects[REGION]] == ["cockroachdb.node", "cockroachdb.client.root"]
