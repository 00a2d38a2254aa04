"""The policy that a cluster's database pods live under: the plan's intent, as a CiliumClusterwideNetworkPolicy.

Peers say their namespaces and their clusters: from Cilium 1.19 on, one who does not say its cluster is of the own one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from analysis.plan import DATABASE, DatabasePlan, Plan, PolicyPlan
from provision.lab.kube.objects import KubeObject
from provision.lab.topology import LabRegion, LabTopology

NAME = "crdb-geography-isolation"
PROBE_NAMESPACE = "meshproof"
"""Where pods that wear the roles' labels are put, unless a user names another place."""

NAMESPACE_KEY = "k8s:io.kubernetes.pod.namespace"
CLUSTER_KEY = "io.cilium.k8s.policy.cluster"
_DNS_PORTS = [{"port": "53", "protocol": protocol} for protocol in ("UDP", "TCP")]


def isolation_policy(topology: LabTopology, region: LabRegion) -> KubeObject | None:
    """The policy of a region's cluster, None where the plan has no intent."""
    plan = topology.plan
    if plan.policy is None:
        return None
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "description": f"database pods of {region.name}: what the plan lists, and nothing else",
            "endpointSelector": {"matchLabels": plan.policy.labels(DATABASE, region.name)},
            "ingress": list(_section(plan, plan.policy, region, "from")),
            "egress": [
                {"toEndpoints": [_dns(region)], "toPorts": [{"ports": _DNS_PORTS}]},
                *_section(plan, plan.policy, region, "to"),
            ],
        },
    }


def _section(plan: Plan, policy: PolicyPlan, region: LabRegion, side: str) -> Iterable[dict[str, Any]]:
    """A rule for each flow whose other end, `from` or `to`, is spoken of."""
    for flow in policy.allow:
        ends = {"from": (flow.target, flow.source), "to": (flow.source, flow.target)}
        own, other = ends[side]
        if own == DATABASE:
            regions = [region.name] if flow.same_region else [each.name for each in plan.regions]
            ports = [{"port": str(port), "protocol": "TCP"} for port in flow.ports]
            yield {f"{side}Endpoints": [_peer(plan, policy, other, regions)], "toPorts": [{"ports": ports}]}


def _peer(plan: Plan, policy: PolicyPlan, role: str, regions: list[str]) -> dict[str, Any]:
    """The pods of a role in some regions, by their label, their region's where they have it, namespace and cluster."""
    database = plan.database or DatabasePlan()
    found = policy.role(role)
    conditions = {
        **({policy.region_label: regions} if role == DATABASE and policy.region_label else {}),
        NAMESPACE_KEY: [*map(database.namespace, regions), policy.namespace or PROBE_NAMESPACE],
        CLUSTER_KEY: [str(plan.region(name).cluster_name) for name in regions],
    }
    return _selector({found.key: found.value}, conditions)


def _dns(region: LabRegion) -> dict[str, Any]:
    labels = {"k8s-app": "kube-dns", NAMESPACE_KEY: "kube-system", CLUSTER_KEY: str(region.plan.cluster_name)}
    return {"matchLabels": labels}


def _selector(labels: Mapping[str, str], conditions: Mapping[str, list[str]]) -> dict[str, Any]:
    rows = [{"key": key, "operator": "In", "values": values} for key, values in conditions.items()]
    return {"matchLabels": dict(labels), "matchExpressions": rows}
