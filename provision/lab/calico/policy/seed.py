"""The policy that a lab starts with: the database's pods take what the plan lists, and nothing else.

What the published environment meant: each cluster has the policy for its own region, and all of them name all regions.
"""

from __future__ import annotations

from typing import Any

from analysis.plan import CLIENT, DATABASE, DatabasePlan, PolicyPlan
from provision.lab.calico.policy.objects import DEFAULT_TIER, standing_tiers
from provision.lab.calico.resources import GROUP
from provision.lab.kube.objects import KubeObject
from provision.lab.topology import STORE, LabRegion, LabTopology, PolicyPeers

NAME = "crdb-geography-isolation"
_ORDER = 100


def objects(topology: LabTopology, region: LabRegion) -> list[KubeObject]:
    """The tier that every policy is in, the policy of the region, and what it knows other clusters' pods by."""
    by_sets = topology.policy_peers is PolicyPeers.NETWORK_SETS
    sets = [_network_set(topology, other) for other in topology.regions if by_sets and other is not region]
    return [_default_tier(), isolation(topology, region), *sets]


def isolation(topology: LabTopology, region: LabRegion) -> KubeObject:
    """The GlobalNetworkPolicy of a region."""
    plan = topology.plan.policy or PolicyPlan((), ())
    regions = ", ".join(f'"{each.name}"' for each in topology.regions)
    members = f"{plan.region_label} in {{{regions}}} && {_role(plan, DATABASE)}"
    ports = {(flow.source, flow.target): list(flow.ports) for flow in plan.allow}
    namespace = (topology.plan.database or DatabasePlan()).namespace(region.name)
    own_store = {"selector": _role(plan, STORE), "namespaceSelector": f'projectcalico.org/name == "{namespace}"'}
    # Federated, every cluster's DNS is chosen by the same labels: only the addresses tell which is the own one.
    own_dns = {
        "selector": 'k8s-app == "kube-dns"',
        "namespaceSelector": 'projectcalico.org/name == "kube-system"',
        "nets": [str(region.plan.pod_cidr)],
        "ports": [53],
    }
    spec = {
        "order": _ORDER,
        "selector": f'{_role(plan, DATABASE)} && {plan.region_label} == "{region.name}"',
        "types": ["Ingress", "Egress"],
        "ingress": [
            _allow("TCP", {"selector": members}, {"ports": ports[DATABASE, DATABASE]}),
            _allow("TCP", {"selector": _role(plan, CLIENT)}, {"ports": ports[CLIENT, DATABASE]}),
        ],
        "egress": [
            _allow("UDP", {}, own_dns),
            _allow("TCP", {}, own_dns),
            _allow("TCP", {}, {"selector": members, "ports": ports[DATABASE, DATABASE]}),
            _allow("TCP", {}, own_store | {"ports": ports[DATABASE, STORE]}),
        ],
    }
    return _object("GlobalNetworkPolicy", NAME, spec)


def _network_set(topology: LabTopology, other: LabRegion) -> KubeObject:
    """All addresses that pods of another cluster may have, as if each were a database pod of that region."""
    labels = (topology.plan.policy or PolicyPlan((), ())).labels(DATABASE, other.name)
    found = _object("GlobalNetworkSet", f"pods-of-{other.name}", {"nets": [str(other.plan.pod_cidr)]})
    return found | {"metadata": found["metadata"] | {"labels": labels}}


def _role(plan: PolicyPlan, name: str) -> str:
    role = plan.role(name)
    return f'{role.key} == "{role.value}"'


def _allow(protocol: str, source: dict[str, Any], destination: dict[str, Any]) -> dict[str, Any]:
    ends = {"source": source, "destination": destination}
    return {"action": "Allow", "protocol": protocol, **{name: end for name, end in ends.items() if end}}


def _default_tier() -> KubeObject:
    return _object("Tier", DEFAULT_TIER, {"order": standing_tiers()[DEFAULT_TIER].order})


def _object(kind: str, name: str, spec: dict[str, Any]) -> KubeObject:
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
