"""Faults of policy that look the same on every mesh: labels, enforcement that is dead, senders that are hidden.

What is wrong in policy objects is each product's own, and stands with its profile.
"""

from __future__ import annotations

from typing import Any

from analysis.plan import DatabasePlan, PolicyPlan
from analysis.rootcause import Layer
from provision.faults import Confirm, Create, Fault, Patch, Step
from provision.lab.faults.database import DOWN
from provision.lab.faults.policy_steps import (
    FLUSHER,
    KEEPER,
    LET_IN,
    LET_IN_FIRST,
    Meddling,
    PodRestarted,
    all_of,
    is_not_ready,
    rules_on,
    says,
)
from provision.lab.faults.steps import (
    between,
    dropped_in,
    filtered_in,
    object_is_there,
    object_says,
    place,
    table_is_loaded,
)
from provision.lab.topology import LabRegion, LabTopology

BETWEEN_REGIONS = frozenset({"NET-POL-005", "NET-POL-006"})
"""What the database's pods of different regions do with each other."""

MEMBER_STOPPED = BETWEEN_REGIONS | {
    "NET-DNS-006",
    "NET-DNS-008",
    "NET-DNS-009",
    "NET-POL-004",
    "NET-POL-008",
    "NET-POL-010",
}
"""What goes with a member that policy keeps from starting, beside the database: its name, and rules that are for it."""

_USUAL_PORT = 5432

DENIALS = frozenset({"NET-POL-007", "NET-POL-011", "NET-POL-013", "NET-POL-015", "NET-POL-017"})
"""What says that something is stopped: not so where nothing is enforced, and not proven where the flow that must pass
beside it, its control, does not."""


def policy_faults(lab: LabTopology, table: str, pod_devices: str) -> tuple[Fault, ...]:
    """All of them.

    Args:
        lab: where they are planted.
        table: family and name of the nftables table that enforces policy on a node.
        pod_devices: what the names of pods' devices on their node begin with.
    """
    east, ohio, west, *_ = lab.regions
    return (
        label_missing_from_template(lab, ohio),
        label_missing_on_a_pod(lab, west),
        enforcement_dead(west, table),
        rules_stuck(east, table),
        open_through_node_ports(west, table),
        outlived_by_a_firewall(ohio, east),
        sender_hidden(lab, east, ohio),
        readiness_blocked(lab, ohio, pod_devices),
    )


def database_pod(lab: LabTopology, region: LabRegion) -> str:
    """The API path of the region's first database pod."""
    plan = lab.plan.database or DatabasePlan()
    return f"/api/v1/namespaces/{plan.namespace(region.name)}/pods/{plan.service}-0"


def label_missing_from_template(lab: LabTopology, region: LabRegion) -> Fault:
    """The pods that are there keep it, and the next ones come without it."""
    plan, label = lab.plan.database or DatabasePlan(), _label(lab)
    path = f"/apis/apps/v1/namespaces/{plan.namespace(region.name)}/statefulsets/{plan.service}"
    keys = ("spec", "template", "metadata", "labels")
    return Fault(
        name="policy-label-not-in-template",
        summary=f"the database pods of {region.name} were labelled by hand, and their template was not",
        layer=Layer.POLICY,
        requirement="NET-POL-002",
        steps=(
            # Nobody restarts the pods yet: that is what makes the mistake wait for the next night.
            Patch(region.name, path, {"spec": {"updateStrategy": {"type": "OnDelete"}}}),
            Patch(region.name, path, {"spec": {"template": {"metadata": {"labels": {label: None}}}}}),
        ),
        confirm=object_says(region.name, path, (*keys, label), None),
    )


def label_missing_on_a_pod(lab: LabTopology, region: LabRegion) -> Fault:
    """A database pod that policy takes for any other."""
    label = _label(lab)
    return Fault(
        name="policy-label-missing-on-a-pod",
        summary=f"a database pod of {region.name} has lost its label {label}, and with it its protection",
        layer=Layer.POLICY,
        requirement="NET-POL-002",
        steps=(Patch(region.name, database_pod(lab, region), {"metadata": {"labels": {label: None}}}),),
        confirm=object_says(region.name, database_pod(lab, region), ("metadata", "labels", label), None),
        # Nobody knows it for one of the database: it may not be called by the others, and may be by strangers.
        follows=BETWEEN_REGIONS | DENIALS | {"NET-POL-004", "NET-POL-008", "NET-POL-012", "NET-POL-014"},
    )


def enforcement_dead(region: LabRegion, table: str) -> Fault:
    """The objects are all there, and nothing does what they say."""
    return Fault(
        name="policy-not-enforced",
        summary=f"a firewall script on the nodes of {region.name} throws away the rules that policy comes to",
        layer=Layer.POLICY,
        requirement="NET-POL-011",
        steps=tuple(Meddling(node, table, FLUSHER) for node in region.nodes),
        confirm=says(region.nodes[1], table, "chain", present=False),
        follows=DENIALS,
    )


def rules_stuck(region: LabRegion, table: str) -> Fault:
    """What holds when the mistake begins goes on, and nothing that comes later counts."""
    node = region.nodes[1]
    looks = "for look in $(seq 30); do sleep 0.1; nft list chain {0} seen > /dev/null 2>&1 || exit 0; done; exit 1"
    probe = f"nft add chain {table} seen; {looks.format(table)}"
    return Fault(
        name="policy-rules-stuck",
        summary=f"a script on the nodes of {region.name} puts policy's rules back to what they were",
        layer=Layer.POLICY,
        requirement="NET-POL-015",
        steps=tuple(Meddling(each, table, KEEPER) for each in region.nodes),
        confirm=lambda control: control.run(place(node), ["sh", "-c", probe], check=False).code == 0,
        # Whoever has come since is known to nobody there, and may not call: such are the pods that it is tried with.
        follows=BETWEEN_REGIONS | DENIALS - {"NET-POL-015"} | {"NET-POL-008", "NET-POL-012"},
    )


def open_through_node_ports(region: LabRegion, table: str) -> Fault:
    """kube-proxy's rules come before policy's, as they do in Calico with `chainInsertMode: Append`."""
    return Fault(
        name="policy-open-through-node-ports",
        summary=f"nodes of {region.name} let in what came by their node ports before policy is asked",
        layer=Layer.POLICY,
        requirement="NET-POL-011",
        steps=tuple(Meddling(node, table, LET_IN_FIRST) for node in region.nodes),
        # A node without pods that policy is about has no rules, until one comes.
        confirm=lambda control: any(LET_IN in rules_on(control, node, table) for node in region.nodes),
    )


def outlived_by_a_firewall(source: LabRegion, target: LabRegion) -> Fault:
    """Nobody notices while the policy denies the same: what it covers up shows when it goes."""
    return Fault(
        name="policy-outlived-by-a-firewall",
        summary=f"nodes of {source.name} have a rule of their own against PostgreSQL's port towards {target.name}",
        layer=Layer.POLICY,
        requirement="NET-POL-017",
        steps=dropped_in(source, f"{between(source, target)} tcp dport {_USUAL_PORT}"),
        confirm=table_is_loaded(place(source.nodes[1])),
        follows=frozenset({"NET-POL-001"}),
    )


def sender_hidden(lab: LabTopology, source: LabRegion, target: LabRegion) -> Fault:
    """The callers of the database hide behind their nodes, whom no policy knows."""
    ports = ", ".join(map(str, (lab.plan.database or DatabasePlan()).ports))
    rule = f"{between(source, target)} tcp dport {{ {ports} }} counter masquerade"
    return Fault(
        name="policy-sender-hidden",
        summary=f"nodes of {source.name} put their own address on what goes to the database of {target.name}",
        layer=Layer.POLICY,
        requirement="NET-POL-005",
        steps=filtered_in(source, f"  chain postrouting {{ type nat hook postrouting priority 90; {rule}; }}"),
        confirm=table_is_loaded(place(source.nodes[1])),
        # Remote clients are clients too, and strangers are stopped for another reason than they should be.
        follows=DENIALS | {"NET-POL-006", "NET-POL-001", "NET-POL-012", "NET-POD-004"},
    )


def readiness_blocked(lab: LabTopology, region: LabRegion, pod_devices: str) -> Fault:
    """The kubelets cannot ask the database's pods how they are."""
    port = (lab.plan.database or DatabasePlan()).console_port
    rule = f'oifname "{pod_devices}*" tcp dport {port} ct state new counter drop'
    return Fault(
        name="policy-blocks-readiness",
        summary=f"nodes of {region.name} do not reach the health port of their own pods",
        layer=Layer.POLICY,
        requirement="NET-POL-010",
        steps=filtered_in(region, f"  chain output {{ type filter hook output priority -10; {rule}; }}"),
        confirm=is_not_ready(database_pod(lab, region), region),
        follows=frozenset({"DB-FORM-002", "DB-FORM-003", "NET-POL-021"}),
        database=True,
    )


def others_closed(
    region: LabRegion, caller: LabRegion, policies: str, policy: dict[str, Any], follows: frozenset[str] = frozenset()
) -> Fault:
    """A policy about pods that are none of the database.

    Args:
        region: whose pods it closes.
        caller: to whose pods.
        policies: the API path that policies of its kind stand at.
        policy: the object.
        follows: what goes with it, beyond what cannot be told of a denial without its control.
    """
    name = policy["metadata"]["name"]
    return Fault(
        name="policy-for-everybody-else",
        summary=f"{region.name} has begun to close pods that are none of the database to {caller.name}",
        layer=Layer.POLICY,
        requirement="NET-POL-001",
        steps=(Create(region.name, policies, policy),),
        confirm=object_is_there(region.name, f"{policies}/{name}"),
        follows=DENIALS | follows,
    )


def restarted_member_stopped(lab: LabTopology, region: LabRegion, only_dns: Step, cut: Confirm) -> Fault:
    """A policy that open connections outlive, and a new member does not come up under.

    Args:
        lab: where it is planted.
        region: whose policy it is.
        only_dns: the change of the policy.
        cut: the first member's node enforces it.
    """
    pod = database_pod(lab, region)
    return Fault(
        name="policy-stops-a-restarted-member",
        summary=f"the policy of {region.name} lets the database ask DNS and nothing else, which shows when it restarts",
        layer=Layer.POLICY,
        requirement="NET-POL-021",
        steps=(only_dns, PodRestarted(region, pod)),
        confirm=all_of(cut, is_not_ready(pod, region)),
        follows=DOWN | MEMBER_STOPPED,
        database=True,
    )


def _label(lab: LabTopology) -> str:
    return (lab.plan.policy or PolicyPlan((), ())).region_label
