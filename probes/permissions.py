"""What the probes may do in a cluster: the whole list, and why each entry is there.

`docs/rbac.yaml` grants exactly these rules and a test keeps the two equal. Nothing here is a secret's reader, and
nothing writes outside the probe namespace.
"""

from __future__ import annotations

from dataclasses import dataclass

CALICO_GROUPS = ("crd.projectcalico.org", "projectcalico.org")
"""Calico's objects are read in whichever of the two groups the cluster serves."""

CALICO_RESOURCES = (
    "bgpconfigurations",
    "bgppeers",
    "blockaffinities",
    "felixconfigurations",
    "ipamblocks",
    "ippools",
)
CALICO_NAMESPACES = ("calico-system", "kube-system")
"""Where calico-node runs: the operator's place first, the plain manifest's second."""


@dataclass(frozen=True)
class Rule:
    """One thing the probes must be allowed to do.

    Attributes:
        verb: the API verb.
        group: the API group, "" for core.
        resource: the plural, with its subresource ("pods/exec").
        namespace: where it is needed; None for the whole cluster.
        purpose: what cannot be done without it, for the error message.
    """

    verb: str
    group: str
    resource: str
    namespace: str | None
    purpose: str

    def __str__(self) -> str:
        """The rule as `kubectl auth can-i` would be asked."""
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        where = f"in namespace {self.namespace}" if self.namespace else "in the whole cluster"
        return f"{self.verb} {kind} {where}"


def cluster_rules() -> tuple[Rule, ...]:
    """What is read in the whole cluster."""
    inventory = tuple(
        Rule("list", "", resource, None, "for the inventory of nodes, pods and services")
        for resource in ("nodes", "pods", "services")
    )
    calico = tuple(
        Rule("list", group, resource, None, "for Calico's pools, blocks and peerings")
        for group in CALICO_GROUPS
        for resource in CALICO_RESOURCES
    )
    namespaces = (Rule("get", "", "namespaces", None, "to see whether the probe namespace exists"),)
    review = (
        Rule("create", "authorization.k8s.io", "selfsubjectaccessreviews", None, "to find missing rights at the start"),
    )
    return inventory + namespaces + calico + review


def probe_rules(namespace: str) -> tuple[Rule, ...]:
    """What is done in the probe namespace: probe pods come, run the agent and go. To list them is a right already."""
    pods = tuple(
        Rule(verb, "", "pods", namespace, "to start, watch and remove probe pods")
        for verb in ("create", "delete", "get", "watch")
    )
    return pods + _exec_rules(namespace, "to run the agent in a probe pod")


def routing_rules(namespace: str) -> tuple[Rule, ...]:
    """What is done where calico-node runs: its routing daemon and packet filter are asked, read-only."""
    return _exec_rules(namespace, "to read BGP sessions, routes and address sets in calico-node")


def _exec_rules(namespace: str, purpose: str) -> tuple[Rule, ...]:
    # Servers before 1.35 check "get" for a WebSocket exec, later ones check "create".
    return tuple(Rule(verb, "", "pods/exec", namespace, purpose) for verb in ("get", "create"))
