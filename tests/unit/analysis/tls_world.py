"""The facts of a database whose certificates and entrances are as planned, to be broken by tests."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import IPv4Address

from analysis.certificates import planned_names
from analysis.facts import (
    Attempt,
    Certificate,
    DatabaseDoor,
    Login,
    MountedFile,
    Presented,
    SecretEntry,
    Tls,
)
from provision.lab.topology import aws_calico

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
PLAN = aws_calico("demo").plan
REGIONS = tuple(region.name for region in PLAN.regions)
EAST, OTHER = REGIONS[:2]
POD = "cockroachdb-0"
NODE_SECRET, CLIENT_SECRET = PLAN.database.node_secret, PLAN.database.client_secret
MUST_FAIL = {
    Attempt.PLAINTEXT: ("root",),
    Attempt.WITHOUT_CREDENTIALS: ("root",),
    Attempt.FOREIGN_CERTIFICATE: ("root",),
    Attempt.PUBLISHED_PASSWORD: ("craig", "cockroach"),
    Attempt.FOREIGN_NODE: ("node",),
}


def digest(text):
    return sha256(text.encode()).hexdigest()


def certificate(subject, *, owner, names=(), issuer="ca", **fields):
    """A certificate whose key is told by its owner's name."""
    return Certificate(
        subject=subject,
        issuer=issuer,
        serial=digest(owner)[:8],
        fingerprint=digest(f"certificate of {owner}"),
        key=digest(owner),
        issuer_key=digest(issuer),
        not_before=AT - timedelta(days=1),
        not_after=AT + timedelta(days=365),
        names=tuple(names),
        addresses=(IPv4Address("127.0.0.1"),) if names else (),
        **{"authority": False, "server": True, "client": True, **fields},
    )


AUTHORITY = certificate("ca", owner="ca", authority=True)
ROOT = certificate("root", owner="root", server=False)
NODES = {name: certificate("node", owner=f"node of {name}", names=planned_names(PLAN, name)) for name in REGIONS}


def perfect_tls():
    """All as planned, seen from every region."""
    return Tls(AT, (AUTHORITY,), _secrets(), _files(), _presented(), _logins())


def change(tls, part, where, **fields):
    """The facts with other fields in those items of a part that `where` picks."""
    items = getattr(tls, part)
    assert any(where(item) for item in items), f"nothing to change in {part}"
    return replace(tls, **{part: tuple(replace(item, **fields) if where(item) else item for item in items)})


def without(tls, part, where):
    """The facts without those items."""
    items = getattr(tls, part)
    assert any(where(item) for item in items), f"nothing to take from {part}"
    return replace(tls, **{part: tuple(item for item in items if not where(item))})


def serve(tls, region, served):
    """The facts with another certificate in a region's Secret, and on the wire from there."""
    tls = change(tls, "secrets", lambda e: (e.region, e.entry) == (region, "node.crt"), certificates=(served,))
    return change(tls, "presented", lambda shown: shown.region == region, chain=(served,))


def _secrets():
    return tuple(
        entry
        for region in REGIONS
        for secret, name, held, key in (
            (NODE_SECRET, "node", NODES[region], digest(f"node of {region}")),
            (CLIENT_SECRET, "client.root", ROOT, digest("root")),
        )
        for entry in (
            SecretEntry(region, region, secret, "ca.crt", (AUTHORITY,)),
            SecretEntry(region, region, secret, f"{name}.crt", (held,)),
            SecretEntry(region, region, secret, f"{name}.key", (), key),
        )
    )


def _files():
    folder = "/cockroach/cockroach-certs"
    return tuple(
        file
        for region in REGIONS
        for file in (
            MountedFile(region, POD, f"{folder}/node.crt", 0o400, 0, private_key=False),
            MountedFile(region, POD, f"{folder}/node.key", 0o400, 0, private_key=True, key=digest(f"node of {region}")),
        )
    )


def _presented():
    return tuple(
        Presented(source, region, POD, door, PLAN.database.pod_name(of, POD), (NODES[region],), of == region, "TLSv1.3")
        for source in REGIONS
        for region in REGIONS
        if source != region
        for door, of in (
            (DatabaseDoor.SQL, region),
            (DatabaseDoor.CONSOLE, region),
            (DatabaseDoor.SQL, source),
        )
    )


def _logins():
    return tuple(
        login
        for source in REGIONS
        for region in REGIONS
        for login in (
            Login(source, region, POD, DatabaseDoor.SQL, Attempt.RIGHTFUL, "root", True, "logged in"),
            *(
                Login(source, region, POD, DatabaseDoor.SQL, attempt, user, False, "28000")
                for attempt, users in MUST_FAIL.items()
                for user in users
            ),
            Login(source, region, POD, DatabaseDoor.CONSOLE, Attempt.PLAINTEXT, "", False, "hung up"),
        )
    )
