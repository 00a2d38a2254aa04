"""What an environment file says of the database, as far as its values must go together."""

from __future__ import annotations

from collections.abc import Iterator

from provision.environment import Environment
from provision.environment_errors import Location, Problem
from provision.sections.database import AccessSettings

QUORUM_REGIONS = 3
"""So many regions it takes that a majority is left when one is lost."""


def check_database(environment: Environment) -> Iterator[Problem]:
    """Whether its ports, its Secrets, its promises and the ways in go together."""
    database, at = environment.database, ("database",)
    if database is None:
        return
    if len(set(database.ports)) != 2 or len(database.ports) != 2:
        yield Problem(
            (*at, "ports"),
            "are not two different ones",
            "the port for SQL, then the console's, like [26257, 8080]",
            ", ".join(map(str, database.ports)),
        )
    if database.node_secret == database.client_secret:
        yield Problem(
            (*at, "client_secret"),
            "is node_secret too",
            "a Secret of its own: members have no use for the key of the client root",
            database.client_secret,
        )
    if database.must_survive and len(environment.regions) < QUORUM_REGIONS:
        yield Problem(
            (*at, "must_survive"),
            f"cannot be had in {len(environment.regions)} regions: the one that is left would be no majority",
            f"at least {QUORUM_REGIONS} regions, or no must_survive",
            ", ".join(database.must_survive),
        )
    for index, name in enumerate(database.must_survive):
        if name in database.must_survive[:index]:
            yield Problem((*at, "must_survive", index), "is named twice", "each database once", name)
    if database.access:
        yield from _access(database.access, (*at, "access"))


def _access(access: AccessSettings, at: Location) -> Iterator[Problem]:
    either = "either certificate and key, or password_file"
    if access.password_file and (access.certificate or access.key):
        yield Problem((*at, "password_file"), "is there beside a certificate", either, str(access.password_file))
    elif not access.password_file and (access.certificate is None or access.key is None):
        missing = "key" if access.certificate else "certificate"
        yield Problem((*at, missing), "is missing", either)
    first: dict[tuple[str, int], str] = {}
    for region, address in access.addresses.items():
        if (other := first.setdefault(address, region)) != region:
            yield Problem(
                (*at, "addresses", region),
                f"leads to the same place as that of {other}",
                "an address that leads into this region, or none: its probe pods are used then",
                "{}:{}".format(*address),
            )
