"""Changes of the policy objects of a Cilium lab that its faults are made of, and looks at what became of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from provision.faults import Confirm, Control, Patch
from provision.lab.cilium.isolation import CLUSTER_KEY, NAME, NAMESPACE_KEY, isolation_policy
from provision.lab.cilium.policy.enforcer import TABLE
from provision.lab.faults.cilium.place import CILIUM, LAB
from provision.lab.faults.policy import database_pod
from provision.lab.faults.policy_steps import APPLIED, all_of, rules_on, says
from provision.lab.faults.steps import object_says
from provision.lab.topology import LabNode, LabRegion

POLICIES = f"{CILIUM}/ciliumclusterwidenetworkpolicies"
POLICY = f"{POLICIES}/{NAME}"
_KIND = "CiliumClusterwideNetworkPolicy"
FROM_DATABASE, FROM_CLIENTS = 0, 1
TO_DNS, TO_DATABASE = 0, 1
"""The rules of the policy that the lab starts with, by their place in its two sections."""

Rules = list[dict[str, Any]]
Change = Callable[[Rules], None]


def _spec(region: LabRegion) -> dict[str, Any]:
    """What the region's policy says at the start."""
    policy = isolation_policy(LAB, region)
    assert policy is not None, "a lab's plan says what policy is for"
    spec: dict[str, Any] = policy["spec"]
    return spec


def _section(region: LabRegion, section: str, change: Change) -> dict[str, Any]:
    """One section of the region's policy, changed."""
    rules: Rules = deepcopy(_spec(region)[section])
    change(rules)
    return {section: rules}


def changed(region: LabRegion, **changes: Change) -> Patch:
    """The region's policy with other rules in some of its sections."""
    spec: dict[str, Any] = {}
    for section, change in changes.items():
        spec |= _section(region, section, change)
    return Patch(region.name, POLICY, {"spec": spec})


def _peer(rules: Rules, number: int) -> dict[str, Any]:
    """The one selector of peers that a rule has."""
    (peer,) = rules[number].get("fromEndpoints") or rules[number]["toEndpoints"]
    found: dict[str, Any] = peer
    return found


def _ports(rules: Rules, number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rules[number]["toPorts"][0]["ports"]
    return found


def with_port(number: int, port: str) -> Change:
    """A rule for one more port."""
    return lambda rules: _ports(rules, number).append({"port": port, "protocol": "TCP"})


def without_port(number: int, port: int) -> Change:
    """A rule for one port less."""

    def change(rules: Rules) -> None:
        rules[number]["toPorts"][0]["ports"] = [row for row in _ports(rules, number) if row["port"] != str(port)]

    return change


def of_any_protocol(number: int) -> Change:
    """A rule that is not for TCP only."""

    def change(rules: Rules) -> None:
        for row in _ports(rules, number):
            row["protocol"] = "ANY"

    return change


def without(number: int) -> Change:
    """A section that lacks that rule."""

    def change(rules: Rules) -> None:
        del rules[number]

    return change


def of_anybody(number: int) -> Change:
    """Peers by place only: the label of their role, and that of their region, are gone."""

    def change(rules: Rules) -> None:
        peer = _peer(rules, number)
        peer.pop("matchLabels")
        peer["matchExpressions"] = [row for row in peer["matchExpressions"] if ":" in row["key"] or "." in row["key"]]

    return change


def unless(number: int, key: str, *values: str) -> Change:
    """Peers that must not have those values, whatever else they must have."""
    return lambda rules: _peer(rules, number)["matchExpressions"].append(
        {"key": key, "operator": "NotIn", "values": list(values)}
    )


def of_no_cluster(rules: Rules) -> None:
    """Peers do not say of which cluster they are."""
    for number in range(len(rules)):
        peer = _peer(rules, number)
        peer.get("matchLabels", {}).pop(CLUSTER_KEY, None)
        if "matchExpressions" in peer:
            peer["matchExpressions"] = [row for row in peer["matchExpressions"] if row["key"] != CLUSTER_KEY]


def only_dns(rules: Rules) -> None:
    """What comes after the rule for DNS is gone."""
    del rules[TO_DNS + 1 :]


def for_a_scraper(rules: Rules) -> None:
    """One more rule like that for clients, for pods with a label that is not written as theirs."""
    rule = deepcopy(rules[FROM_CLIENTS])
    _peer([rule], 0)["matchLabels"]["app"] = "prometeus"
    rules.append(rule)


def _misspelt(rules: Rules) -> None:
    rules[FROM_CLIENTS]["fromEndpoint"] = rules[FROM_CLIENTS].pop("fromEndpoints")


def misspelt_as_applied(region: LabRegion) -> Patch:
    """What `kubectl apply --validate=false` makes of a policy with a misspelt field: the field is in its note only."""
    spec = _spec(region) | _section(region, "ingress", _misspelt)
    applied = {"apiVersion": "cilium.io/v2", "kind": _KIND, "metadata": {"name": NAME}, "spec": spec}
    return Patch(region.name, POLICY, {"metadata": {"annotations": {APPLIED: json.dumps(applied)}}, "spec": spec})


def _home(region: LabRegion) -> LabNode:
    """The node of the region's first database pod."""
    return region.nodes[0]


def node_says(region: LabRegion, text: str, *, present: bool = True) -> Confirm:
    """The node of the region's first database pod has that text in its rules, or has it no longer."""
    return says(_home(region), TABLE, text, present=present)


def node_lacks(region: LabRegion, text: str) -> Confirm:
    """That node polices, but not so."""
    return all_of(node_says(region, "chain ingress-"), node_says(region, text, present=False))


def polices_nothing(region: LabRegion) -> Confirm:
    """That node lets everything through."""
    return node_says(region, "chain ", present=False)


def comment(section: str, number: int) -> str:
    """What a node notes beside what it makes of a rule of the policy."""
    return f'"ccnp/{NAME}/{section}/{number}"'


def line_says(region: LabRegion, section: str, number: int, text: str, *, present: bool = True) -> Confirm:
    """That node's lines for a rule of the policy say that, or do not; there are such lines."""
    mark = comment(section, number)

    def confirm(control: Control) -> bool:
        lines = [line for line in rules_on(control, _home(region), TABLE).splitlines() if mark in line]
        return bool(lines) and any(text in line for line in lines) is present

    return confirm


def api_has(region: LabRegion, change: Change) -> Confirm:
    """The region's policy says it so, in what it lets in."""
    return object_says(region.name, POLICY, ("spec", "ingress"), _section(region, "ingress", change)["ingress"])


def a_peer_is_lost(region: LabRegion, remote: LabRegion) -> Confirm:
    """The node's rules know no longer the address of the other region's first database pod."""

    def confirm(control: Control) -> bool:
        pod = control.get(remote.name, database_pod(LAB, remote)) or {}
        address = (pod.get("status") or {}).get("podIP") or ""
        told = rules_on(control, _home(region), TABLE)
        return bool(address) and "chain ingress-" in told and f"{address}," not in told.replace(" }", ",")

    return confirm


def denial(subjects: dict[str, Any], denied: LabRegion, port: int, **sections: Any) -> dict[str, Any]:
    """A policy that denies some pods one port, to all pods of a region; the API object."""
    peer = {
        "matchExpressions": [
            {"key": NAMESPACE_KEY, "operator": "Exists"},
            {"key": CLUSTER_KEY, "operator": "In", "values": [str(denied.plan.cluster_name)]},
        ]
    }
    ports = [{"ports": [{"port": str(port), "protocol": "TCP"}]}]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": _KIND,
        "metadata": {"name": "quarantine"},
        "spec": {
            "endpointSelector": subjects,
            "ingressDeny": [{"fromEndpoints": [peer], "toPorts": ports}],
            **sections,
        },
    }
