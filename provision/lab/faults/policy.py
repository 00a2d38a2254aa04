"""Faults of policy that look the same on every mesh: labels, enforcement that is dead, senders that are hidden.

What is wrong in policy objects is each product's own, and stands with its profile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.plan import DatabasePlan, PolicyPlan
from analysis.rootcause import Layer
from provision.faults import Confirm, Control, Fault, Filter, Patch
from provision.lab.faults.steps import begin, between, dropped_in, object_says, place, table_is_loaded
from provision.lab.topology import LabNode, LabRegion, LabTopology

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
        outlived_by_a_firewall(ohio, east),
        sender_hidden(lab, east, ohio),
        readiness_blocked(lab, ohio, pod_devices),
    )


def database_pod(lab: LabTopology, region: LabRegion) -> str:
    """The API path of the region's first database pod."""
    plan = lab.plan.database or DatabasePlan()
    return f"/api/v1/namespaces/{plan.namespace(region.name)}/pods/{plan.service}-0"


def says(node: LabNode, table: str, text: str, *, present: bool = True) -> Confirm:
    """The node's rules have that text in them, or have it no longer."""

    def confirm(control: Control) -> bool:
        listed = control.run(place(node), ["nft", "list", "table", *table.split()], check=False)
        return (text in listed.out) is present

    return confirm


def all_of(*confirms: Confirm) -> Confirm:
    """Every one of them."""
    return lambda control: all(confirm(control) for confirm in confirms)


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
        steps=tuple(Meddling(node, table, _FLUSHER) for node in region.nodes),
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
        steps=tuple(Meddling(each, table, _KEEPER) for each in region.nodes),
        confirm=lambda control: control.run(place(node), ["sh", "-c", probe], check=False).code == 0,
        follows=DENIALS - {"NET-POL-015"},
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
        steps=tuple(
            Filter(place(node), f"  chain postrouting {{ type nat hook postrouting priority 90; {rule}; }}")
            for node in source.nodes
        ),
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
        steps=tuple(
            Filter(place(node), f"  chain output {{ type filter hook output priority -10; {rule}; }}")
            for node in region.nodes
        ),
        confirm=is_not_ready(database_pod(lab, region), region),
        follows=frozenset({"DB-FORM-002", "DB-FORM-003", "NET-POL-021"}),
        database=True,
    )


def is_not_ready(path: str, region: LabRegion) -> Confirm:
    """The pod is there, and not Ready."""

    def confirm(control: Control) -> bool:
        status = (control.get(region.name, path) or {}).get("status") or {}
        conditions: Iterable[dict[str, str]] = status.get("conditions") or ()
        return any(each["type"] == "Ready" and each["status"] == "False" for each in conditions)

    return confirm


def _label(lab: LabTopology) -> str:
    return (lab.plan.policy or PolicyPlan((), ())).region_label


@dataclass(frozen=True)
class Restarted:
    """A pod is deleted; its owner makes it anew, under the rules that are there by now."""

    region: LabRegion
    path: str

    def apply(self, control: Control) -> None:
        """Delete it."""
        control.delete(self.region.name, self.path)

    def heal(self, control: Control, memory: None) -> None:
        """Nothing: it has been made anew, and gets well with what ailed it."""


@dataclass(frozen=True)
class Meddling:
    """A script on a node meddles with a packet filter table each time that its owner writes it.

    Attributes:
        program: in Python; it is told family and name of the table.
    """

    node: LabNode
    table: str
    program: str

    def apply(self, control: Control) -> tuple[str, str]:
        """Start the script; what is remembered is its pid, and the table."""
        listed = control.run(place(self.node), ["nft", "list", "table", *self.table.split()], check=False)
        return begin(control, place(self.node), self.program, *self.table.split()), listed.out

    def heal(self, control: Control, memory: tuple[str, str]) -> None:
        """End it with what it has started, and put the table back: whoever made it takes it for granted."""
        pid, rules = memory
        control.run(place(self.node), ["kill", "--", f"-{pid}"], check=False)
        script = f"table {self.table}\ndelete table {self.table}\n{rules}"
        control.run(place(self.node), ["nft", "-f", "-"], text=script)


_FLUSHER = """
# A script that reloads a firewall.
import subprocess, sys
table = sys.argv[1:]
events = subprocess.Popen(["nft", "monitor", "new", "tables"], stdout=subprocess.PIPE, text=True)
subprocess.run(["nft", "delete", "table", *table], stderr=subprocess.DEVNULL)
for event in events.stdout:
    if event.split()[2:4] == table:
        subprocess.run(["nft", "delete", "table", *table], stderr=subprocess.DEVNULL)
"""

_KEEPER = """
import subprocess, sys
table = sys.argv[1:]
def listed():
    return subprocess.run(["nft", "-s", "list", "table", *table], capture_output=True, text=True).stdout
kept = listed()
events = subprocess.Popen(["nft", "monitor", "new"], stdout=subprocess.PIPE, text=True)
for event in events.stdout:
    if " ".join(table) in event and listed() != kept:
        name = "table " + " ".join(table)
        subprocess.run(["nft", "-f", "-"], input=name + "\\ndelete " + name + "\\n" + kept, text=True)
"""
