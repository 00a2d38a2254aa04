"""The family "database": what the database tells of itself, through the adapter of its engine."""

from __future__ import annotations

from contextlib import closing

from analysis.facts import Database
from probes.database.opening import open_database
from probes.deploy import ProbeSet
from probes.mesh import Mesh


def observe_database(mesh: Mesh, probe_set: ProbeSet) -> Database:
    """Ask the database."""
    with closing(open_database(mesh, probe_set)) as database:
        return database.observe()
