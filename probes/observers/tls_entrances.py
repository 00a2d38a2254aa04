"""The database's entrances: what they present to other regions, and whom they let in.

One probe pod of each region tries every entrance in one run of the agent. An attempt that must fail stands between two
that must not: each pod is first and last asked with the credentials that the environment names.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from analysis.facts import COCKROACHDB, Attempt, DatabaseDoor, Gap, Login, Presented
from analysis.fleet import DatabaseAccess
from analysis.plan import DatabasePlan
from probes.certificates import describe, forged_credential
from probes.client import AgentRun, Operation, run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.database_members import Member
from probes.tls import HTTP2_PREFACE, HTTP2_SETTINGS, ClientCredential

TIMEOUT_S = 5.0
WITHIN = timedelta(seconds=45)
PARTS = ("presented", "logins")

NODE = "node"
"""The common name of a node's certificate."""

REPLICATOR = "replicator"
"""Whom the stand-in's nodes log in as, to follow each other."""

DEMONSTRATION_USERS = ("craig", "cockroach")
PUBLISHED_PASSWORD = "cockroach"  # noqa: S105 - printed in guides, for everybody to read
LOGIN_DATABASE = "postgres"
"""CockroachDB has one of that name, too."""

CONSOLE_PATHS = {COCKROACHDB: "/_status/vars"}
OTHER_CONSOLE_PATH = "/metrics"
"""What the console port tells without a login, but over TLS only. CockroachDB answers `/health` in the clear, too."""

NOT_YET = ("53", "57P03", "58", "XX")
"""Classes and codes of errors that have nothing to do with who asks: no room, starting up, broken."""

Answer: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Credentials:
    """What to log in with. None of it may reach an argument vector, a log, a fact or a report."""

    user: str
    rightful: ClientCredential | None
    password: str
    forged_user: ClientCredential
    forged_node: ClientCredential
    authority: str


@dataclass(frozen=True)
class Handshake:
    """A handshake in which the server's certificate is verified for a name."""

    member: Member
    door: DatabaseDoor
    name: str


@dataclass(frozen=True)
class Entry:
    """An attempt to get in."""

    member: Member
    door: DatabaseDoor
    attempt: Attempt
    user: str


Trial: TypeAlias = Handshake | Entry


def observe_entrances(
    mesh: Mesh, probe_set: ProbeSet, members: Sequence[Member], believed: Sequence[x509.Certificate]
) -> tuple[tuple[Presented, ...], tuple[Login, ...], tuple[Gap, ...]]:
    """Try all of them, from every region."""
    plan, access = mesh.fleet.plan.database or DatabasePlan(), mesh.fleet.database
    there = [member for member in members if member.address is not None]
    gaps = [
        Gap(member.region, f"{member.namespace}/{member.name}", "the pod has no address", PARTS)
        for member in members
        if member.address is None
    ]
    if access is None or not there:
        return (), (), tuple(gaps)
    try:
        credentials = load_credentials(access, believed)
    except OSError as error:
        return (), (), (*gaps, Gap("", "credentials of the database", str(error), PARTS))
    sources = {pod.region: pod for pod in reversed(probe_set.on_pods())}
    gaps += [
        Gap(region, "a probe to knock at the database from", "no probe runs there", PARTS)
        for region in mesh.regions
        if region not in sources
    ]
    trials = {region: list(plan_trials(mesh, plan, region, there, credentials)) for region in sources}

    def work(cluster: Cluster, pod: ProbePod) -> AgentRun:
        targets = [target_of(trial, plan, credentials) for trial in trials[pod.region]]
        operation: Operation = {"op": "enter", "timeout": TIMEOUT_S, "targets": targets}
        run = run_agent(cluster, pod.namespace, pod.name, [operation], within=WITHIN, control=pod.control)
        if run.control_failure or "error" in run.operations[0]:
            raise ProbeError(f"{pod.identity}: {run.control_failure or run.operations[0]['error']}")
        return run

    presented: list[Presented] = []
    logins: list[Login] = []
    for pod, run in mesh.each(sources.values(), lambda pod: pod.region, work):
        if isinstance(run, ProbeError):
            gaps.append(Gap(pod.region, "entrances of the database, tried from there", str(run), PARTS))
            continue
        for trial, answer in zip(trials[pod.region], run.operations[0]["targets"], strict=True):
            if isinstance(trial, Handshake):
                presented.append(read_handshake(pod.region, trial, answer, believed))
            else:
                logins.append(read_entry(pod.region, trial, answer))
    return tuple(presented), tuple(logins), tuple(gaps)


def load_credentials(access: DatabaseAccess, believed: Sequence[x509.Certificate]) -> Credentials:
    """What the environment names, and what is made to be refused. Raises OSError when a file cannot be read."""

    def text(file: str | None) -> str:
        return Path(file).read_text(encoding="utf-8") if file else ""

    rightful = ClientCredential(text(access.certificate), text(access.key)) if access.certificate else None
    return Credentials(
        access.user,
        rightful,
        text(access.password).rstrip("\n"),
        forged_credential(believed[0], access.user),
        forged_credential(believed[0], NODE),
        "".join(authority.public_bytes(Encoding.PEM).decode("ascii") for authority in believed),
    )


def plan_trials(
    mesh: Mesh, plan: DatabasePlan, source: str, members: Sequence[Member], credentials: Credentials
) -> Iterator[Trial]:
    """What is tried from a region, in an order in which the rightful logins come first and last at each pod."""
    for member in members:
        yield Entry(member, DatabaseDoor.SQL, Attempt.RIGHTFUL, credentials.user)
        if member.region != source:
            yield Handshake(member, DatabaseDoor.SQL, member.full_name)
            yield Handshake(member, DatabaseDoor.CONSOLE, member.full_name)
            # A name of the asking region: whoever is let through with it could play that region's database there.
            yield Handshake(member, DatabaseDoor.SQL, plan.pod_name(source, f"{plan.service}-0"))
        yield Entry(member, DatabaseDoor.CONSOLE, Attempt.PLAINTEXT, "")
        for attempt in (Attempt.PLAINTEXT, Attempt.WITHOUT_CREDENTIALS, Attempt.FOREIGN_CERTIFICATE):
            yield Entry(member, DatabaseDoor.SQL, attempt, credentials.user)
        for user in DEMONSTRATION_USERS:
            yield Entry(member, DatabaseDoor.SQL, Attempt.PUBLISHED_PASSWORD, user)
        yield Entry(member, DatabaseDoor.SQL, Attempt.FOREIGN_NODE, NODE if plan.engine == COCKROACHDB else REPLICATOR)
        yield Entry(member, DatabaseDoor.SQL, Attempt.RIGHTFUL, credentials.user)


def target_of(trial: Trial, plan: DatabasePlan, credentials: Credentials) -> dict[str, Any]:
    """The trial as the agent takes it."""
    sql = trial.door is DatabaseDoor.SQL
    target: dict[str, Any] = {
        "address": str(trial.member.address),
        "port": plan.sql_port if sql else plan.console_port,
        "name": trial.member.full_name,
        "upgrade": sql,
        "protocols": [] if sql else ["h2", "http/1.1"],
    }
    if isinstance(trial, Handshake):
        return target | {"name": trial.name, "authority": credentials.authority}
    startup = {"user": trial.user, "database": LOGIN_DATABASE}
    if trial.attempt is Attempt.PLAINTEXT:
        said = {"startup": startup} if sql else {"request": base64.b64encode(console_request(trial, plan)).decode()}
        return target | {"plain": True, "upgrade": False, **said}
    if trial.attempt is Attempt.FOREIGN_NODE:
        return target | shown(credentials.forged_node) | node_language(plan)
    if trial.attempt is Attempt.FOREIGN_CERTIFICATE:
        return target | shown(credentials.forged_user) | {"startup": startup}
    if trial.attempt is Attempt.PUBLISHED_PASSWORD:
        return target | {"startup": startup, "password": PUBLISHED_PASSWORD}
    if trial.attempt is Attempt.RIGHTFUL and credentials.rightful is None:
        # A password is said to nobody who has not shown who he is.
        return target | {"startup": startup, "password": credentials.password, "authority": credentials.authority}
    return target | (shown(credentials.rightful) if trial.attempt is Attempt.RIGHTFUL else {}) | {"startup": startup}


def shown(credential: ClientCredential | None) -> dict[str, Any]:
    """A client's certificate, as the agent takes it."""
    return {"certificate": credential.certificate, "key": credential.key} if credential else {}


def node_language(plan: DatabasePlan) -> dict[str, Any]:
    """How nodes speak to each other: HTTP/2 over TLS (CockroachDB), or replication in PostgreSQL's own protocol."""
    if plan.engine == COCKROACHDB:
        request = base64.b64encode(HTTP2_PREFACE).decode("ascii")
        return {"upgrade": False, "protocols": ["h2"], "request": request}
    return {"startup": {"user": REPLICATOR, "replication": "true"}}


def console_request(entry: Entry, plan: DatabasePlan) -> bytes:
    """A question in the clear."""
    path = CONSOLE_PATHS.get(plan.engine, OTHER_CONSOLE_PATH)
    return f"GET {path} HTTP/1.1\r\nHost: {entry.member.full_name}\r\nConnection: close\r\n\r\n".encode("ascii")


def read_handshake(source: str, trial: Handshake, answer: Answer, believed: Sequence[x509.Certificate]) -> Presented:
    """What came of a handshake."""
    chain = [x509.load_der_x509_certificate(base64.b64decode(der)) for der in answer.get("chain", ())]
    if answer["outcome"] != "open":
        verified, detail = None, unreached(answer)
    elif answer.get("secured"):
        verified, detail = True, ""
    elif "distrust" in answer:
        verified, detail = False, answer["distrust"]
    else:
        verified, detail = False, declined(answer) or answer.get("alert") or answer.get("detail") or "it hung up"
    return Presented(
        source,
        trial.member.region,
        trial.member.name,
        trial.door,
        trial.name,
        tuple(describe(chain, believed)),
        verified,
        answer.get("protocol", ""),
        detail,
    )


def read_entry(source: str, trial: Entry, answer: Answer) -> Login:
    """What came of an attempt to get in."""
    if answer["outcome"] != "open":
        accepted, detail = None, unreached(answer)
    elif "heard" in answer:
        accepted, detail = read_words(answer)
    else:
        accepted, detail = read_login(answer, plain=trial.attempt is Attempt.PLAINTEXT)
    member = trial.member
    return Login(source, member.region, member.name, trial.door, trial.attempt, trial.user, accepted, detail)


def read_login(answer: Answer, *, plain: bool) -> tuple[bool | None, str]:
    """Whether somebody was logged in, and the server's words; None when it was not about who he is."""
    asked, code = answer.get("asked", []), answer.get("code", "")
    words = f"{code} {answer.get('message', '')}".strip()
    if answer.get("ready"):
        return True, "logged in"
    if plain and (asked or answer.get("authenticated")):
        return True, f"goes on without TLS, to {asked[0] if asked else 'a login'}"
    if "alert" in answer:
        return False, answer["alert"]
    if code and not code.startswith(NOT_YET):
        # Who has passed the authentication has got in, unless it is his name that is turned away behind it.
        inside = bool(answer.get("authenticated")) and not code.startswith("28")
        return inside, words
    if code or "distrust" in answer or declined(answer):
        return None, words or answer.get("distrust") or declined(answer)
    if answer.get("closed"):
        return False, answer.get("detail") or "hung up"
    return None, answer.get("detail") or f"asks for {', '.join(asked) or 'nothing'} and says no more"


def read_words(answer: Answer) -> tuple[bool | None, str]:
    """Whether who spoke HTTP was answered with anything but a refusal or the way to TLS, and with what."""
    heard = base64.b64decode(answer["heard"])
    if heard[3:4] == bytes([HTTP2_SETTINGS]):
        return True, "answered in HTTP/2"
    if heard.startswith(b"HTTP/1."):
        line = heard.split(b"\r\n")[0].decode("ascii", "replace")
        return line.split()[1:2] == ["200"], line
    if answer.get("closed"):
        return False, "hung up"
    return (False, "answered with something else than HTTP") if heard else (None, "said nothing")


def declined(answer: Answer) -> str:
    """What the server said to the request for TLS where that was not yes; "" where it was, or where none was made."""
    said = answer.get("declined")
    return "" if said is None else f"it has no TLS (answered {said!r} to the request for it)"


def unreached(answer: Answer) -> str:
    """Why there was no connection."""
    return f"TCP {answer['outcome']}: {answer.get('detail', '')}"
