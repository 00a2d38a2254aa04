"""Which adapter speaks to the environment's database."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from analysis.facts import COCKROACHDB, POSTGRESQL
from probes.database.port import Database
from probes.deploy import ProbeSet
from probes.mesh import Mesh

ADAPTERS = {
    COCKROACHDB: "probes.database.cockroachdb",
    POSTGRESQL: "probes.database.postgresql",
}
"""Engine -> module; each has `connect(fleet, dialer) -> Database`. Imported when needed: psycopg takes time."""


def open_database(mesh: Mesh, probe_set: ProbeSet) -> Database:
    """The environment's database, reached from its probe pods or at the addresses that the environment names."""
    from probes.database.tunnel import Tunnels

    plan = mesh.fleet.plan.database
    assert plan is not None, "the environment has a database, or nobody asks for it"
    adapter = import_module(ADAPTERS[plan.engine])
    return cast(Database, adapter.connect(mesh.fleet, Tunnels(mesh, probe_set)))
