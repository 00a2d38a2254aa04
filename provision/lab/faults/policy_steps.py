"""What faults of policy are made of, whatever the mesh: looks at what a node enforces, and meddling with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from provision.faults import Confirm, Control
from provision.lab.faults.steps import begin, place
from provision.lab.topology import LabNode, LabRegion

APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The annotation in which `kubectl apply` notes what it was given."""


def rules_on(control: Control, node: LabNode, table: str) -> str:
    """What a node has in its kernel by way of policy, "" for nothing.

    Args:
        control: power over the lab.
        node: where to look.
        table: family and name of the nftables table that enforces policy.
    """
    return control.run(place(node), ["nft", "list", "table", *table.split()], check=False).out


def says(node: LabNode, table: str, text: str, *, present: bool = True) -> Confirm:
    """The node's rules have that text in them, or have it no longer."""
    return lambda control: (text in rules_on(control, node, table)) is present


def all_of(*confirms: Confirm) -> Confirm:
    """Every one of them."""
    return lambda control: all(confirm(control) for confirm in confirms)


def is_not_ready(path: str, region: LabRegion) -> Confirm:
    """The pod is there, and not Ready."""

    def confirm(control: Control) -> bool:
        status = (control.get(region.name, path) or {}).get("status") or {}
        conditions: Iterable[dict[str, str]] = status.get("conditions") or ()
        return any(each["type"] == "Ready" and each["status"] == "False" for each in conditions)

    return confirm


@dataclass(frozen=True)
class PodRestarted:
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
        rules = rules_on(control, self.node, self.table)
        return begin(control, place(self.node), self.program, *self.table.split()), rules

    def heal(self, control: Control, memory: tuple[str, str]) -> None:
        """End it with what it has started, and put the table back: whoever made it takes it for granted."""
        pid, rules = memory
        control.run(place(self.node), ["kill", "--", f"-{pid}"], check=False)
        script = f"table {self.table}\ndelete table {self.table}\n{rules}"
        control.run(place(self.node), ["nft", "-f", "-"], text=script)


FLUSHER = """
# A script that reloads a firewall.
import subprocess, sys
table = sys.argv[1:]
events = subprocess.Popen(["nft", "monitor", "new", "tables"], stdout=subprocess.PIPE, text=True)
subprocess.run(["nft", "delete", "table", *table], stderr=subprocess.DEVNULL)
for event in events.stdout:
    if event.split()[2:4] == table:
        subprocess.run(["nft", "delete", "table", *table], stderr=subprocess.DEVNULL)
"""
"""Throws the table away whenever it comes."""

KEEPER = """
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
"""Puts the table back to what it was at the beginning whenever it changes."""

LET_IN = "let in by node ports"
"""The comment of the rule that `LET_IN_FIRST` puts first."""

LET_IN_FIRST = f"""
# kube-proxy marks what comes by a node port (0x4000), for it is to get the node's own address later.
import subprocess, sys
table = sys.argv[1:]
rule = [*table, "forward", "meta", "mark", "and", "0x4000", "!=", "0", "counter", "accept", "comment", '"{LET_IN}"']
def put_first():
    listed = subprocess.run(["nft", "list", "chain", *table, "forward"], capture_output=True, text=True)
    if listed.returncode == 0 and "{LET_IN}" not in listed.stdout:
        subprocess.run(["nft", "insert", "rule", *rule])
events = subprocess.Popen(["nft", "monitor", "new", "tables"], stdout=subprocess.PIPE, text=True)
put_first()
for event in events.stdout:
    if event.split()[2:4] == table:
        put_first()
"""
