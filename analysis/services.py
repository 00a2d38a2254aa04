"""MESH-CP-018: services that several clusters answer for."""

from __future__ import annotations

from collections import defaultdict

from analysis.expectation import regions_by_mesh_name
from analysis.facts import Federation
from analysis.plan import Plan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed, unseen_regions


def judge_global_services(plan: Plan, federation: Federation) -> Verdict:
    """MESH-CP-018: a service that spans clusters has backends of more than one in each, and none is the database's.

    A mesh without such services keeps the promise.
    """
    regions = regions_by_mesh_name(plan)
    database = set(plan.database.namespaces) if plan.database else set()
    views: defaultdict[tuple[str, str], dict[str, list[str]]] = defaultdict(dict)
    violations: list[Finding] = []
    for service in federation.services:
        clusters = sorted(cluster for cluster, backends in service.backends if backends)
        views[service.namespace, service.name][service.region] = clusters
        if (service.region, service.namespace) in database:
            violations.append(
                Finding(
                    f"service {service.namespace}/{service.name} in {service.region}",
                    "the database's services to stay inside their cluster",
                    "it is a global service",
                    "a member would be sent to members of other regions under its own region's name",
                )
            )
    for (namespace, name), seen in sorted(views.items()):
        violations += [
            Finding(
                f"service {namespace}/{name}, as {region} sees it",
                "backends in more than one cluster",
                f"backends in {listed(clusters)} only" if clusters else "no backends",
                "the other clusters have no such service, or do not share it, or were not heard of",
            )
            for region, clusters in sorted(seen.items())
            if len(clusters) < 2
        ]
        violations += [
            Finding(
                f"service {namespace}/{name}, as {region} sees it",
                "backends in clusters of the plan",
                f"backends in {listed(unknown)}",
            )
            for region, clusters in sorted(seen.items())
            if (unknown := [cluster for cluster in clusters if cluster not in regions])
        ]
    observed = {link.region for link in federation.remotes} | {service.region for service in federation.services}
    return conclude(
        expected="services that span clusters have backends in several of them, and none belongs to the database",
        examined=sum(region.name in observed for region in plan.regions),
        what="clusters",
        violations=violations,
        gaps=gap_findings(federation.gaps, "services", "remotes")
        + unseen_regions(plan, observed, "its services that span clusters"),
    )
