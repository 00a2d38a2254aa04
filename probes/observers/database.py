"""The family "database": what the database tells of itself, through the adapter of its engine."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from analysis.facts import COCKROACHDB, Database
from probes.database.opening import open_database
from probes.deploy import ProbeSet
from probes.mesh import Mesh


def observe_database(mesh: Mesh, probe_set: ProbeSet) -> Database:
    """Ask the database; one that serves is also asked to be initialised once more, where it knows such a thing."""
    with closing(open_database(mesh, probe_set)) as database:
        facts = database.observe()
    plan = mesh.fleet.plan.database
    if facts.engine != COCKROACHDB or not facts.nodes or plan is None:
        return facts
    from probes.database.cockroachdb.init import try_init

    region = mesh.regions[0]
    return replace(facts, init=(try_init(mesh.cluster(region), region, plan),))
