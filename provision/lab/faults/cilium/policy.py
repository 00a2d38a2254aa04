"""Faults of policy (NET-POL), on Cilium: what the objects say, and what becomes of it on the nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from analysis.rootcause import Layer
from provision.faults import Confirm, Control, Create, Delete, Fault, Patch, Step
from provision.lab.cilium.isolation import CLUSTER_KEY, NAME, NAMESPACE_KEY, isolation_policy
from provision.lab.cilium.keys import NAMESPACE_ANNOTATION
from provision.lab.cilium.policy.enforcer import TABLE
from provision.lab.faults.cilium.place import CILIUM, CONFIG, EASTUS, EUROPE, LAB, WESTUS
from provision.lab.faults.cilium.steps import AGENT, Restarted
from provision.lab.faults.database import DOWN
from provision.lab.faults.policy import (
    DENIALS,
    MEMBER_STOPPED,
    all_of,
    database_pod,
    is_not_ready,
)
from provision.lab.faults.policy import Restarted as MemberRestarted
from provision.lab.faults.steps import object_says, place
from provision.lab.topology import LabNode, LabRegion

POLICIES = f"{CILIUM}/ciliumclusterwidenetworkpolicies"
POLICY = f"{POLICIES}/{NAME}"
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KIND = "CiliumClusterwideNetworkPolicy"
_STRAY_PORT = "26258"
_FROM_DATABASE, _FROM_CLIENTS = 0, 1
_TO_DNS, _TO_DATABASE, _TO_STORE = 0, 1, 2
"""The rules of the policy that the lab starts with, by their place in its two sections."""

_Rules = list[dict[str, Any]]
_Change = Callable[[_Rules], None]

DATABASE_SHUT_OUT = frozenset(
    {
        "DB-FORM-001",
        "DB-FORM-002",
        "DB-FORM-004",
        "DB-FORM-010",
        "DB-FORM-011",
        "DB-FORM-012",
        "DB-FORM-014",
        "DB-FORM-018",
        "DB-FORM-019",
        "DB-FORM-022",
        "DB-SURV-012",
        "NET-POL-010",
        "NET-POL-021",
    }
)
"""What a database tells of that cannot talk to itself, to its store, or to DNS."""


def _spec(region: LabRegion) -> dict[str, Any]:
    """What the region's policy says at the start."""
    policy = isolation_policy(LAB, region)
    assert policy is not None, "a lab's plan says what policy is for"
    spec: dict[str, Any] = policy["spec"]
    return spec


def _section(region: LabRegion, section: str, change: _Change) -> dict[str, Any]:
    """One section of the region's policy, changed."""
    rules: _Rules = deepcopy(_spec(region)[section])
    change(rules)
    return {section: rules}


def _changed(region: LabRegion, **changes: _Change) -> Patch:
    """The region's policy with other rules in some of its sections."""
    spec: dict[str, Any] = {}
    for section, change in changes.items():
        spec |= _section(region, section, change)
    return Patch(region.name, POLICY, {"spec": spec})


def _peer(rules: _Rules, number: int) -> dict[str, Any]:
    """The one selector of peers that a rule has."""
    (peer,) = rules[number].get("fromEndpoints") or rules[number]["toEndpoints"]
    found: dict[str, Any] = peer
    return found


def _ports(rules: _Rules, number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rules[number]["toPorts"][0]["ports"]
    return found


def _with_port(number: int, port: str) -> _Change:
    return lambda rules: _ports(rules, number).append({"port": port, "protocol": "TCP"})


def _without_port(number: int, port: int) -> _Change:
    def change(rules: _Rules) -> None:
        rules[number]["toPorts"][0]["ports"] = [row for row in _ports(rules, number) if row["port"] != str(port)]

    return change


def _of_any_protocol(number: int) -> _Change:
    def change(rules: _Rules) -> None:
        for row in _ports(rules, number):
            row["protocol"] = "ANY"

    return change


def _without(number: int) -> _Change:
    def change(rules: _Rules) -> None:
        del rules[number]

    return change


def _of_anybody(number: int) -> _Change:
    """Peers by place only: the label of their role, and that of their region, are gone."""

    def change(rules: _Rules) -> None:
        peer = _peer(rules, number)
        peer.pop("matchLabels")
        peer["matchExpressions"] = [row for row in peer["matchExpressions"] if ":" in row["key"] or "." in row["key"]]

    return change


def _unless(number: int, key: str, *values: str) -> _Change:
    """Peers that must not have those values, whatever else they must have."""
    return lambda rules: _peer(rules, number)["matchExpressions"].append(
        {"key": key, "operator": "NotIn", "values": list(values)}
    )


def _of_no_cluster(rules: _Rules) -> None:
    """Peers do not say of which cluster they are."""
    for number in range(len(rules)):
        peer = _peer(rules, number)
        peer.get("matchLabels", {}).pop(CLUSTER_KEY, None)
        if "matchExpressions" in peer:
            peer["matchExpressions"] = [row for row in peer["matchExpressions"] if row["key"] != CLUSTER_KEY]


def _only_dns(rules: _Rules) -> None:
    del rules[_TO_DNS + 1 :]


def _for_a_scraper(rules: _Rules) -> None:
    """One more rule like that for clients, for pods with a label that is not written as theirs."""
    rule = deepcopy(rules[_FROM_CLIENTS])
    _peer([rule], 0)["matchLabels"]["app"] = "prometeus"
    rules.append(rule)


def _misspelt(rules: _Rules) -> None:
    rules[_FROM_CLIENTS]["fromEndpoint"] = rules[_FROM_CLIENTS].pop("fromEndpoints")


def _misspelt_as_applied(region: LabRegion) -> Patch:
    """What `kubectl apply --validate=false` makes of a policy with a misspelt field: the field is in its note only."""
    spec = _spec(region) | _section(region, "ingress", _misspelt)
    applied = {"apiVersion": "cilium.io/v2", "kind": _KIND, "metadata": {"name": NAME}, "spec": spec}
    return Patch(region.name, POLICY, {"metadata": {"annotations": {_APPLIED: json.dumps(applied)}}, "spec": spec})


def _restarted(region: LabRegion, **settings: str) -> Step:
    """Other settings for the region's agents, which read them at their start."""
    return Restarted(Patch(region.name, CONFIG, {"data": settings}), region.name, (AGENT,))


def _home(region: LabRegion) -> LabNode:
    """The node of the region's first database pod."""
    return region.nodes[0]


def rules_on_node(control: Control, region: LabRegion) -> str:
    """What the node of the region's first database pod has in its kernel by way of policy, "" for nothing."""
    return control.run(place(_home(region)), ["nft", "list", "table", *TABLE.split()], check=False).out


def _node_says(region: LabRegion, text: str) -> Confirm:
    return lambda control: text in rules_on_node(control, region)


def _node_lacks(region: LabRegion, text: str) -> Confirm:
    """The node polices, but not so."""

    def confirm(control: Control) -> bool:
        told = rules_on_node(control, region)
        return "chain ingress-" in told and text not in told

    return confirm


def _polices_nothing(region: LabRegion) -> Confirm:
    return lambda control: "chain " not in rules_on_node(control, region)


def _comment(section: str, number: int) -> str:
    return f'"ccnp/{NAME}/{section}/{number}"'


def _line_says(region: LabRegion, comment: str, text: str, *, says: bool = True) -> Confirm:
    """The rules with that comment say that, or do not; there are such rules."""

    def confirm(control: Control) -> bool:
        lines = [line for line in rules_on_node(control, region).splitlines() if comment in line]
        return bool(lines) and any(text in line for line in lines) is says

    return confirm


def _api_has(region: LabRegion, change: _Change) -> Confirm:
    """The region's policy says it so, in what it lets in."""
    return object_says(region.name, POLICY, ("spec", "ingress"), _section(region, "ingress", change)["ingress"])


def _a_peer_is_lost(region: LabRegion, remote: LabRegion) -> Confirm:
    """The node's rules know no longer the address of the other region's first database pod."""

    def confirm(control: Control) -> bool:
        pod = control.get(remote.name, f"/api/v1/namespaces/{remote.name}/pods/cockroachdb-0") or {}
        address = (pod.get("status") or {}).get("podIP") or ""
        told = rules_on_node(control, region)
        return bool(address) and "chain ingress-" in told and f"{address}," not in f"{told.replace(' }', ',')}"

    return confirm


def _denial(subjects: dict[str, Any], denied: LabRegion, port: int, **sections: Any) -> dict[str, Any]:
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


_DENIAL = _denial({"matchLabels": {"app": "cockroachdb"}}, WESTUS, 26257)
_STRANGERS = {
    "matchLabels": {NAMESPACE_KEY: "meshproof"},
    "matchExpressions": [{"key": "app", "operator": "DoesNotExist"}],
}
_QUARANTINE = _denial(_STRANGERS, EASTUS, 8080, ingress=[{"fromEntities": ["all"]}])

_NEIGHBOURLY: dict[str, Any] = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "let-clients-in"},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "cockroachdb"}},
        "ingress": [
            {
                "fromEndpoints": [
                    {
                        "matchLabels": {"app": "cockroachdb-client"},
                        "matchExpressions": [
                            {"key": CLUSTER_KEY, "operator": "In", "values": [str(WESTUS.plan.cluster_name)]}
                        ],
                    }
                ],
                "toPorts": [{"ports": [{"port": "26257", "protocol": "TCP"}]}],
            }
        ],
    },
}

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="policy-opens-a-port-too-many",
        summary=f"the policy of {WESTUS.name} opens port {_STRAY_PORT} between database pods, too",
        layer=Layer.POLICY,
        requirement="NET-POL-007",
        steps=(
            _changed(
                WESTUS, ingress=_with_port(_FROM_DATABASE, _STRAY_PORT), egress=_with_port(_TO_DATABASE, _STRAY_PORT)
            ),
        ),
        confirm=_line_says(WESTUS, _comment("egress", _TO_DATABASE), _STRAY_PORT),
    ),
    Fault(
        name="policy-lets-unlabelled-pods-in",
        summary=f"the policy of {EASTUS.name} asks of clients where they are, and not who they are",
        layer=Layer.POLICY,
        requirement="NET-POL-011",
        steps=(_changed(EASTUS, ingress=_of_anybody(_FROM_CLIENTS)),),
        confirm=_api_has(EASTUS, _of_anybody(_FROM_CLIENTS)),
    ),
    Fault(
        name="policy-names-no-protocol",
        summary=f"the policy of {EUROPE.name} opens the database's ports for any protocol",
        layer=Layer.POLICY,
        requirement="NET-POL-007",
        steps=(_changed(EUROPE, ingress=_of_any_protocol(_FROM_DATABASE), egress=_of_any_protocol(_TO_DATABASE)),),
        confirm=_line_says(EUROPE, _comment("egress", _TO_DATABASE), "udp"),
    ),
    Fault(
        name="policy-without-egress",
        summary=f"the policy of {WESTUS.name} has no rules for what database pods send",
        layer=Layer.POLICY,
        requirement="NET-POL-013",
        steps=(Patch(WESTUS.name, POLICY, {"spec": {"egress": None}}),),
        confirm=_node_lacks(WESTUS, "chain egress-"),
        follows=frozenset({"NET-POL-014"}),
    ),
    Fault(
        name="policy-selector-contradicts-itself",
        summary=f"peers of {EASTUS.name}'s policy must be of a region and must not",
        layer=Layer.POLICY,
        requirement="NET-POL-003",
        steps=(
            _changed(
                EASTUS,
                ingress=_unless(_FROM_DATABASE, "geography", *(region.name for region in LAB.regions)),
            ),
        ),
        confirm=_node_lacks(EASTUS, _comment("ingress", _FROM_DATABASE)),
        follows=DATABASE_SHUT_OUT | DENIALS | {"NET-POL-005", "NET-POL-006", "NET-POL-008"},
    ),
    Fault(
        name="policy-missing-in-a-cluster",
        summary=f"{EUROPE.name} was forgotten when the policies were applied",
        layer=Layer.POLICY,
        requirement="NET-POL-014",
        steps=(Delete(EUROPE.name, POLICY),),
        confirm=_polices_nothing(EUROPE),
        follows=DENIALS,
    ),
    Fault(
        name="policy-selector-of-nobody",
        summary=f"{WESTUS.name} lets the metrics scraper in by a label that no pod has",
        layer=Layer.POLICY,
        requirement="NET-POL-004",
        steps=(_changed(WESTUS, ingress=_for_a_scraper),),
        confirm=_api_has(WESTUS, _for_a_scraper),
    ),
    Fault(
        name="policy-for-everybody-else",
        summary=f"{WESTUS.name} has begun to close pods that are none of the database to {EASTUS.name}",
        layer=Layer.POLICY,
        requirement="NET-POL-001",
        steps=(Create(WESTUS.name, POLICIES, _QUARANTINE),),
        confirm=object_says(WESTUS.name, f"{POLICIES}/quarantine", ("metadata", "name"), "quarantine"),
        follows=DENIALS,
    ),
    Fault(
        name="policy-stops-a-restarted-member",
        summary=f"the policy of {WESTUS.name} lets the database ask DNS and nothing else, which shows when it restarts",
        layer=Layer.POLICY,
        requirement="NET-POL-021",
        steps=(
            _changed(WESTUS, egress=_only_dns),
            MemberRestarted(WESTUS, database_pod(LAB, WESTUS)),
        ),
        confirm=all_of(_node_lacks(WESTUS, "dport 2379"), is_not_ready(database_pod(LAB, WESTUS), WESTUS)),
        follows=DOWN | MEMBER_STOPPED,
        database=True,
    ),
    Fault(
        name="policy-only-audited",
        summary=f"the agents of {WESTUS.name} only note what policy would have stopped",
        layer=Layer.POLICY,
        requirement="NET-POL-011",
        steps=(_restarted(WESTUS, **{"policy-audit-mode": "true"}),),
        confirm=_polices_nothing(WESTUS),
        follows=DENIALS,
    ),
    Fault(
        name="policy-never-enforced",
        summary=f"the agents of {EASTUS.name} are set to enforce no policy",
        layer=Layer.POLICY,
        requirement="NET-POL-013",
        steps=(_restarted(EASTUS, **{"enable-policy": "never"}),),
        confirm=_polices_nothing(EASTUS),
        follows=DENIALS,
    ),
    Fault(
        name="policy-peers-of-any-cluster",
        summary=f"peers of {WESTUS.name}'s policy do not say of which cluster they are",
        layer=Layer.POLICY,
        requirement="NET-POL-019",
        steps=(_changed(WESTUS, ingress=_of_no_cluster, egress=_of_no_cluster),),
        confirm=_api_has(WESTUS, _of_no_cluster),
    ),
    Fault(
        name="policy-peers-of-an-unsaid-namespace",
        summary=f"a policy of {EASTUS.name} lets clients in that it takes for its own namespace's",
        layer=Layer.POLICY,
        requirement="NET-POL-020",
        steps=(Create(EASTUS.name, f"{CILIUM}/namespaces/{EASTUS.name}/ciliumnetworkpolicies", _NEIGHBOURLY),),
        confirm=lambda control: (
            control.get(
                EASTUS.name,
                f"{CILIUM}/namespaces/{EASTUS.name}/ciliumnetworkpolicies/{_NEIGHBOURLY['metadata']['name']}",
            )
            is not None
        ),
        follows=frozenset({"NET-POL-004"}),
    ),
    Fault(
        name="policy-forgets-its-own-region",
        summary=f"the policy of {EASTUS.name} lets in database pods of the other regions only",
        layer=Layer.POLICY,
        requirement="NET-POL-008",
        steps=(_changed(EASTUS, ingress=_unless(_FROM_DATABASE, "geography", EASTUS.name)),),
        confirm=_api_has(EASTUS, _unless(_FROM_DATABASE, "geography", EASTUS.name)),
        follows=DATABASE_SHUT_OUT | DENIALS,
    ),
    Fault(
        name="policy-blocks-dns",
        summary=f"the policy of {WESTUS.name} has no rule for DNS",
        layer=Layer.POLICY,
        requirement="NET-POL-009",
        steps=(_changed(WESTUS, egress=_without(_TO_DNS)),),
        confirm=_node_lacks(WESTUS, "dport 53"),
        follows=DATABASE_SHUT_OUT,
    ),
    Fault(
        name="policy-blocks-clients",
        summary=f"the policy of {EUROPE.name} lets no clients in",
        layer=Layer.POLICY,
        requirement="NET-POL-012",
        steps=(_changed(EUROPE, ingress=_without(_FROM_CLIENTS)),),
        confirm=_node_lacks(EUROPE, _comment("ingress", _FROM_CLIENTS)),
        follows=DATABASE_SHUT_OUT | DENIALS,
    ),
    Fault(
        name="policy-blocks-sql-one-way",
        summary=f"database pods of {EASTUS.name} may not begin what goes to port 26257",
        layer=Layer.POLICY,
        requirement="NET-POL-005",
        steps=(_changed(EASTUS, egress=_without_port(_TO_DATABASE, 26257)),),
        confirm=_line_says(EASTUS, _comment("egress", _TO_DATABASE), "26257", says=False),
        follows=DATABASE_SHUT_OUT | DENIALS | {"NET-POL-008"},
    ),
    Fault(
        name="policy-blocks-console-one-way",
        summary=f"database pods of {WESTUS.name} let nobody of the database in at port 8080",
        layer=Layer.POLICY,
        requirement="NET-POL-006",
        steps=(_changed(WESTUS, ingress=_without_port(_FROM_DATABASE, 8080)),),
        confirm=_line_says(WESTUS, _comment("ingress", _FROM_DATABASE), "8080", says=False),
        follows=DATABASE_SHUT_OUT | DENIALS | {"NET-POL-008"},
    ),
    Fault(
        name="policy-denied-by-another",
        summary=f"a policy of {EASTUS.name} denies what its neighbour allows: SQL from {WESTUS.name}",
        layer=Layer.POLICY,
        requirement="NET-POL-005",
        steps=(Create(EASTUS.name, POLICIES, _DENIAL),),
        confirm=_node_says(EASTUS, '"ccnp/quarantine/ingressDeny/0"'),
        follows=DATABASE_SHUT_OUT | DENIALS | {"NET-POL-012"},
    ),
    Fault(
        name="policy-remote-pods-unknown",
        summary=f"{WESTUS.name} does not tell the other clusters of the pods in its database's namespace",
        layer=Layer.POLICY,
        requirement="NET-POL-016",
        steps=(
            Patch(
                WESTUS.name,
                f"/api/v1/namespaces/{WESTUS.name}",
                {"metadata": {"annotations": {NAMESPACE_ANNOTATION: "false"}}},
            ),
        ),
        confirm=_a_peer_is_lost(EASTUS, WESTUS),
        follows=DATABASE_SHUT_OUT | {"NET-POL-005", "NET-POL-006"},
    ),
    Fault(
        name="policy-with-a-misspelt-field",
        summary=f"a field of {EUROPE.name}'s policy was misspelt and thrown away, and with it whom a rule is for",
        layer=Layer.POLICY,
        requirement="NET-POL-022",
        steps=(_misspelt_as_applied(EUROPE),),
        confirm=_line_says(EUROPE, _comment("ingress", _FROM_CLIENTS), "saddr", says=False),
        follows=frozenset({"NET-POL-011"}),
    ),
)
