"""NET-ROUTE-001: what a cluster is known by in its mesh, and whether it is alone with it."""

from __future__ import annotations

from collections import defaultdict

from analysis.facts import ClusterIdentity, MeshConfiguration
from analysis.plan import Plan, RegionPlan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed, qualified, unseen_regions

AS, NAME, ID = "AS", "cluster name", "cluster id"
"""Parts of a cluster's identity in a mesh, as they are told."""


def judge_identities(plan: Plan, configuration: MeshConfiguration) -> Verdict:
    """NET-ROUTE-001: every cluster has the planned identity, and shares no part of it with another."""
    planned = {region.name: region for region in plan.regions}
    identities = {identity.region: identity for identity in configuration.identities if identity.region in planned}
    violations: list[Finding] = []
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for name, identity in identities.items():
        wanted, present = _planned_identity(planned[name]), _present_identity(identity)
        for part, value in present.items():
            holders[f"{part} {value}"].add(name)
        violations += [
            Finding(
                f"cluster {name}",
                f"{part} {value}",
                f"{part} {present[part]}" if part in present else f"no {part}",
                None if part == AS else "the cluster was installed with another value, or misspelt in it",
            )
            for part, value in wanted.items()
            if present.get(part) != value
        ]
    for override in configuration.node_overrides:
        cluster = planned.get(override.region)
        if cluster and override.as_number is not None and override.as_number != cluster.as_number:
            violations.append(
                Finding(
                    f"node {qualified((override.region, override.node))}",
                    f"{AS} {cluster.as_number} of its cluster",
                    f"{AS} {override.as_number} of its own",
                )
            )
    violations += [
        Finding(
            listed(sorted(clusters)),
            "identities of their own",
            f"share {identity}",
            "each takes the other's routes for its own and drops them"
            if identity.startswith(AS)
            else "each takes the other's nodes and identities for its own",
        )
        for identity, clusters in sorted(holders.items())
        if len(clusters) > 1
    ]
    return conclude(
        expected="every cluster has an identity of its own: " + listed(map(_identity_words, plan.regions), limit=8),
        examined=len(identities),
        what="clusters",
        violations=violations,
        gaps=gap_findings(configuration.gaps) + unseen_regions(plan, identities, "its identity in the mesh"),
    )


def _planned_identity(region: RegionPlan) -> dict[str, object]:
    """What the plan gives a cluster to be known by. A reflector's cluster id is no part of it (NET-ROUTE-003)."""
    parts: dict[str, object] = {}
    if region.as_number is not None:
        parts[AS] = region.as_number
    if region.cluster_name is not None:
        parts[NAME] = region.cluster_name
        if region.cluster_id is not None:
            parts[ID] = int(region.cluster_id)
    return parts


def _present_identity(identity: ClusterIdentity) -> dict[str, object]:
    parts = {AS: identity.as_number, NAME: identity.cluster_name, ID: identity.cluster_id}
    return {part: value for part, value in parts.items() if value is not None}


def _identity_words(region: RegionPlan) -> str:
    parts = (f"{part} {value}" for part, value in _planned_identity(region).items())
    return f"{region.name} {', '.join(parts) or 'any'}"
