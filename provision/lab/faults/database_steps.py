"""What the faults of a lab's database are made of: rules of access, files and settings of a member, certificates."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provision.faults import Confirm, Control, FaultError, Filter
from provision.lab.control import wait_for
from provision.lab.database.condition import (
    ask_patroni,
    database_of,
    pod_place,
    primary_region,
    rows_of,
    run_sql,
    standby_regions,
)

PEM = serialization.Encoding.PEM
RELOAD = "SELECT pg_reload_conf()"
_DATA = "/cockroach/cockroach-data/pgdata"
ACCESS_FILE = "pg_hba.conf"


# --- members ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statements:
    """Statements that break a member, and others that mend it, each by itself.

    Attributes:
        region: the member's; "" for wherever the primary is when the fault is planted.
        replicated: what they change is data, and mended at the primary, which an outage may have moved meanwhile.
        database: the one that they speak of.
    """

    region: str
    breaking: tuple[str, ...]
    mending: tuple[str, ...]
    replicated: bool = False
    database: str = "postgres"

    def apply(self, control: Control) -> str:
        """Run the first ones; what is remembered is where."""
        region = self.region or primary_region(control)
        run_sql(control, region, *self.breaking, database=self.database)
        return region

    def heal(self, control: Control, memory: str) -> None:
        """Run the others."""
        region = primary_region(control) if self.replicated else memory
        run_sql(control, region, *self.mending, database=self.database)


@dataclass(frozen=True)
class MemberFile:
    """Another text in a file that a member of the stand-in can write; what reads it is told afterwards.

    Attributes:
        path: in the member's container; a relative one is in the folder of its data.
        change: from the old text to the new one; a text of None is no file.
    """

    region: str
    path: str
    change: Callable[[Control, str | None], str]
    mode: int = 0o600

    def apply(self, control: Control) -> str | None:
        """Write it, and remember what it was."""
        rows = rows_of(run_sql(control, self.region, f"SELECT pg_read_file('{self.path}', true)"))
        before: str | None = rows[0][0]
        self._write(control, self.change(control, before))
        return before

    def heal(self, control: Control, memory: str | None) -> None:
        """Put the old text back, or take the file away."""
        if memory is None:
            run_sql(control, self.region, _program(f"rm -f {self.path}"), RELOAD)
        else:
            self._write(control, memory)

    def _write(self, control: Control, text: str) -> None:
        lines = "$line$" + "$line$, $line$".join(text.splitlines()) + "$line$"
        written = (
            f"COPY (SELECT unnest(ARRAY[{lines}])) TO PROGRAM 'cat > {self.path}; chmod {self.mode:o} {self.path}'"
        )
        run_sql(control, self.region, written, RELOAD)


def access_rules(region: str, *rules: str) -> MemberFile:
    """Rules of access that stand before those that the member has."""
    return MemberFile(region, ACCESS_FILE, lambda _control, old: "\n".join([*rules, old or ""]) + "\n")


def has_rule(region: str, kind: str, method: str) -> Confirm:
    """The member has a rule of access of that kind ("hostssl") and method ("trust")."""
    asked = f"SELECT count(*) FROM pg_hba_file_rules WHERE type = '{kind}' AND auth_method = '{method}'"  # noqa: S608
    return lambda control: rows_of(run_sql(control, region, asked, check=False)) not in ([], [[0]])


def in_container(region: str, breaking: str, mending: str) -> Statements:
    """Commands that a member's own user runs in its container."""
    return Statements(region, (_program(breaking),), (_program(mending),))


def _program(command: str) -> str:
    return f"COPY (SELECT 1) TO PROGRAM '{command}'"


@dataclass(frozen=True)
class PlainConsole:
    """A member's console port answers in the clear who comes from those networks, as behind a proxy that ends TLS."""

    region: str
    networks: tuple[str, ...]

    def apply(self, control: Control) -> str:
        """Start the server beside the member, and lead the networks' packets to it; its pid is remembered."""
        plan = database_of(control)
        there = pod_place(plan, self.region)
        begin = 'setsid "$0" -I -S -c "$1" < /dev/null > /dev/null 2>&1 & echo $!'
        pid = control.run(there, ["sh", "-c", begin, sys.executable, _PLAIN_SERVER]).out.strip()
        sources = ", ".join(self.networks)
        rule = f"ip saddr {{ {sources} }} tcp dport {plan.console_port} redirect to :{_PLAIN_PORT}"
        chain = f"chain in {{ type nat hook prerouting priority dstnat; {rule}; }}"
        control.run(there, ["nft", "-f", "-"], text=f"table ip {_PLAIN_TABLE} {{\n{chain}\n}}\n")
        return pid

    def heal(self, control: Control, memory: str) -> None:
        """Take both away."""
        there = pod_place(database_of(control), self.region)
        control.run(there, ["nft", "delete", "table", "ip", _PLAIN_TABLE], check=False)
        control.run(there, ["kill", memory], check=False)


_PLAIN_TABLE, _PLAIN_PORT = "planted_console", 18080
_PLAIN_SERVER = f"""
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"up 1")
http.server.ThreadingHTTPServer(("", {_PLAIN_PORT}), Answer).serve_forever()
"""


# --- certificates -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


def issue(
    control: Control,
    common_name: str,
    names: Iterable[str],
    *,
    days: int = 365,
    usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
) -> Issued:
    """A certificate of the database's own authority, for these names and 127.0.0.1."""
    home = control.pki / "database"
    authority = x509.load_pem_x509_certificate((home / "ca.pem").read_bytes())
    signer = serialization.load_pem_private_key((home / "ca-key.pem").read_bytes(), password=None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise FaultError(f"{home}/ca-key.pem: no elliptic key")
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [*(x509.DNSName(name) for name in names), x509.IPAddress(IPv4Address("127.0.0.1"))]
    certificate = (
        _builder(common_name, authority.subject, key, days)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return Issued(certificate.public_bytes(PEM), _private(key))


def foreign_authority(name: str) -> Issued:
    """Another authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    certificate = _builder(name, subject, key, 365).add_extension(constraints, critical=True).sign(key, hashes.SHA256())
    return Issued(certificate.public_bytes(PEM), _private(key))


def _builder(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days))
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


# --- replication --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replication:
    """Other settings of replication, which all members of the stand-in have in common."""

    settings: Mapping[str, Any]

    def apply(self, control: Control) -> dict[str, Any]:
        """Change them; those that they were are remembered."""
        before = self._ask(control, "GET", None)
        self._ask(control, "PATCH", dict(self.settings))
        return {name: before.get(name) for name in self.settings}

    def heal(self, control: Control, memory: dict[str, Any]) -> None:
        """Put the old ones back."""
        self._ask(control, "PATCH", memory)

    def in_force(self, control: Control) -> bool:
        """All members go by them."""
        told = self._ask(control, "GET", None)
        return all(told.get(name) == value for name, value in self.settings.items())

    def _ask(self, control: Control, method: str, body: dict[str, Any] | None) -> dict[str, Any]:
        for region in control.plan.regions:
            if told := ask_patroni(control, region.name, "/config", method=method, body=body):
                return told
        raise FaultError("no member of the database answers at its REST interface")


@dataclass(frozen=True)
class Reconfigured:
    """A member that was started anew with another configuration.

    Attributes:
        change: of its configuration.
        anew: whether it begins without its data, before and after.
    """

    region: str
    change: Callable[[dict[str, Any]], None]
    anew: bool = False

    def apply(self, control: Control) -> dict[str, Any]:
        """Change the ConfigMap, and have the pod made anew; the old ConfigMap is remembered."""
        before = control.get(self.region, self._path(control))
        if before is None:
            raise FaultError(f"{self.region}: the database has no ConfigMap")
        ((file, text),) = before["data"].items()
        settings = yaml.safe_load(text)
        self.change(settings)
        control.patch(self.region, self._path(control), {"data": {file: yaml.safe_dump(settings, sort_keys=False)}})
        self._restart(control)
        return before

    def heal(self, control: Control, memory: dict[str, Any]) -> None:
        """Put the old one back, and have the pod made anew once more."""
        control.replace(self.region, self._path(control), memory)
        self._restart(control)

    def _path(self, control: Control) -> str:
        plan = database_of(control)
        return f"/api/v1/namespaces/{plan.namespace(self.region)}/configmaps/{plan.service}"

    def _restart(self, control: Control) -> None:
        plan = database_of(control)
        pod = f"/api/v1/namespaces/{plan.namespace(self.region)}/pods/{plan.service}-0"
        before = uid_of(control.get(self.region, pod))
        if self.anew:
            run_sql(control, self.region, _program(f"rm -rf {_DATA}/*"), check=False)
        control.delete(self.region, pod)

        def back() -> bool:
            found = control.get(self.region, pod)
            return uid_of(found) not in ("", before) and is_ready(found or {})

        wait_for(back, RESTART_WITHIN, f"{self.region}/{plan.service}-0 to serve with other settings")


@dataclass(frozen=True)
class StandbysTagged:
    """Standbys, whichever they are when the fault is planted, that were started with other tags.

    Attributes:
        tags: from the primary's region to the tags that they get besides their own.
    """

    tags: Callable[[str], Mapping[str, Any]]

    def apply(self, control: Control) -> dict[str, dict[str, Any]]:
        """Start each of them anew; what is remembered is the ConfigMap of each region."""
        tags = self.tags(primary_region(control))
        return {
            region: Reconfigured(region, lambda settings: settings["tags"].update(tags)).apply(control)
            for region in standby_regions(control)
        }

    def heal(self, control: Control, memory: dict[str, dict[str, Any]]) -> None:
        """Start them anew with the tags that they had."""
        for region, before in memory.items():
            Reconfigured(region, lambda settings: None).heal(control, before)


RESTART_WITHIN = timedelta(seconds=90)


def uid_of(found: dict[str, Any] | None) -> str:
    """Of an object; "" for none."""
    return str((found or {}).get("metadata", {}).get("uid", ""))


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod says that it is."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@dataclass(frozen=True)
class Hung:
    """The database's processes in a region stand still; their connections stay open."""

    region: str

    def apply(self, control: Control) -> None:
        """Stop them."""
        self._signal(control, "SIGSTOP")

    def heal(self, control: Control, memory: None) -> None:
        """Let them go on."""
        self._signal(control, "SIGCONT")

    def _signal(self, control: Control, name: str) -> None:
        control.run(pod_place(database_of(control), self.region), [sys.executable, "-I", "-c", _SIGNAL, name])


_SIGNAL = """
import os, pathlib, signal, sys
here = os.readlink("/proc/self/ns/net")
for folder in pathlib.Path("/proc").iterdir():
    try:
        program, *words = (folder / "cmdline").read_bytes().split(b"\\0")
        if folder.name.isdigit() and os.readlink(folder / "ns/net") == here and int(folder.name) != os.getpid():
            patroni = b"/etc/patroni/patroni.yaml" in words
            if patroni or program.startswith(b"postgres") or program.endswith(b"/postgres"):
                os.kill(int(folder.name), getattr(signal, sys.argv[1]))
    except OSError:
        continue
"""


@dataclass(frozen=True)
class ClientsKeptAtHome:
    """Of the region where the primary is then, nobody but the database itself reaches other regions' databases.

    Attributes:
        nodes: all nodes of each region, as `Control.run` names them.
    """

    nodes: Mapping[str, tuple[str, ...]]

    def apply(self, control: Control) -> str:
        """Load a packet filter on all nodes of the region, which is remembered."""
        plan, region = database_of(control), primary_region(control)
        own = next(each for each in control.plan.regions if each.name == region)
        others = ", ".join(str(each.pod_cidr) for each in control.plan.others(region))
        path = f"/api/v1/namespaces/{plan.namespace(region)}/pods/{plan.service}-0"
        member = (control.get(region, path) or {})["status"]["podIP"]
        match = (
            f"ip saddr {own.pod_cidr} ip saddr != {member} ip daddr {{ {others} }} "
            f"tcp dport {plan.sql_port} tcp flags & (syn | ack) == syn"
        )
        for node in self.nodes[region]:
            Filter(node, f"  chain forward {{ type filter hook forward priority -10; {match} drop; }}").apply(control)
        return region

    def heal(self, control: Control, memory: str) -> None:
        """Take it away."""
        for node in self.nodes[memory]:
            Filter(node, "").heal(control, None)


@dataclass(frozen=True)
class EndsWithOthers:
    """A script beside a member ends it whenever another region's is lost: failures propagate.

    One attempt that fails is no loss: it may be the machine that is too busy.
    """

    region: str
    other: str

    def apply(self, control: Control) -> str:
        """Start the script; what is remembered is its pid."""
        plan = database_of(control)
        path = f"/api/v1/namespaces/{plan.namespace(self.other)}/pods/{plan.service}-0"
        address = ((control.get(self.other, path) or {}).get("status") or {}).get("podIP", "")
        begin = 'setsid "$0" -I -c "$1" "$2" "$3" "$4" < /dev/null > /dev/null 2>&1 & echo $!'
        argv = ["sh", "-c", begin, sys.executable, _ENDS, address, str(plan.sql_port), _SIGNAL]
        return control.run(pod_place(plan, self.region), argv).out.strip()

    def heal(self, control: Control, memory: str) -> None:
        """End the script."""
        control.run(pod_place(database_of(control), self.region), ["kill", memory], check=False)


_ENDS = """
import socket, subprocess, sys, time
address, port, script = sys.argv[1:]
silent_since, ended = None, False
while True:
    try:
        socket.create_connection((address, int(port)), 1).close()
        silent_since, ended = None, False
    except OSError:
        silent_since = silent_since or time.monotonic()
    if silent_since and not ended and time.monotonic() - silent_since > 2:
        subprocess.run([sys.executable, "-I", "-c", script, "SIGKILL"])
        ended = True
    time.sleep(0.2)
"""
