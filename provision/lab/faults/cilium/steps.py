"""What faults do to Cilium beyond the general steps: its pods restarted, its secrets rewritten, its maps changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from provision.faults import Confirm, Control, Step
from provision.lab.cilium.datapath import TUNNEL_TABLE
from provision.lab.cilium.names import ADMIN_SECRET
from provision.lab.control import wait_for
from provision.lab.faults.cilium.place import IDENTITIES, SYSTEM
from provision.lab.faults.steps import place, secret_values
from provision.lab.topology import LabNode, LabRegion

AGENT = "cilium"
STORE = "clustermesh-apiserver"
RESTART_WITHIN = timedelta(seconds=20)


@dataclass(frozen=True)
class Restarted:
    """A change that running pods only notice once they are started anew.

    Attributes:
        change: what is changed.
        region: where.
        apps: values of the label `k8s-app`: which pods.
        node: only that node's pods, None for those of all nodes.
    """

    change: Step
    region: str
    apps: tuple[str, ...]
    node: LabNode | None = None

    def apply(self, control: Control) -> Any:
        """Make the change, then start the pods anew."""
        memory = self.change.apply(control)
        self._restart(control)
        return memory

    def heal(self, control: Control, memory: Any) -> None:
        """Undo the change, then start the pods anew."""
        self.change.heal(control, memory)
        self._restart(control)

    def _restart(self, control: Control) -> None:
        before = self._pods(control)
        for name, _ in before.values():
            control.delete(self.region, f"{SYSTEM}/pods/{name}")

        def renewed() -> bool:
            now = self._pods(control)
            return (
                len(now) == len(before) and not now.keys() & before.keys() and all(ready for _, ready in now.values())
            )

        wait_for(renewed, RESTART_WITHIN, f"the pods of {' and '.join(self.apps)} in {self.region} to come back")

    def _pods(self, control: Control) -> dict[str, tuple[str, bool]]:
        """Name and readiness of the pods, by uid."""
        found = (control.get(self.region, f"{SYSTEM}/pods") or {}).get("items", ())
        return {
            pod["metadata"]["uid"]: (pod["metadata"]["name"], _is_ready(pod))
            for pod in found
            if (pod["metadata"].get("labels") or {}).get("k8s-app") in self.apps
            and (self.node is None or pod["spec"].get("nodeName") == self.node.name)
        }


def _is_ready(pod: Mapping[str, Any]) -> bool:
    states = (pod.get("status") or {}).get("containerStatuses") or ()
    return bool(states) and all(state.get("ready") for state in states)


@dataclass(frozen=True)
class IdentitiesForgotten:
    """Changes nothing; healing removes the identities that have come since, which agents under another name made.

    In a cluster the operator collects identities that nobody uses, after a quarter of an hour.
    """

    region: str

    def apply(self, control: Control) -> frozenset[str]:
        """Remember those that are there."""
        return self._names(control)

    def heal(self, control: Control, memory: frozenset[str]) -> None:
        """Remove the others."""
        for name in sorted(self._names(control) - memory):
            control.delete(self.region, f"{IDENTITIES}/{name}")

    def _names(self, control: Control) -> frozenset[str]:
        found = (control.get(self.region, IDENTITIES) or {}).get("items", ())
        return frozenset(each["metadata"]["name"] for each in found)


@dataclass(frozen=True)
class TunnelMapEntry:
    """Another route in the table that plays a node's tunnel map.

    Attributes:
        node: whose map.
        prefix: the pod CIDR of the entry.
        route: what stands there in its place, as `ip route` takes it after the prefix; None to take the entry out.
    """

    node: LabNode
    prefix: object
    route: str | None

    def apply(self, control: Control) -> str:
        """Change the entry and remember the old one."""
        show = ["ip", "route", "show", "table", str(TUNNEL_TABLE), "exact", str(self.prefix)]
        before = control.run(place(self.node), show).out.strip()
        if self.route is None:
            self._route(control, "del", str(self.prefix))
        else:
            self._route(control, "replace", f"{self.prefix} {self.route}")
        return before

    def heal(self, control: Control, memory: str) -> None:
        """Put the old one back."""
        self._route(control, "replace", memory)

    def _route(self, control: Control, order: str, words: str) -> None:
        control.run(place(self.node), ["ip", "route", order, *words.split(), "table", str(TUNNEL_TABLE)])


def tunnel_map_says(node: LabNode, prefix: object, text: str | None) -> Confirm:
    """The kernel's entry for that prefix has that text in it, or, with None, there is no entry."""
    show = ["ip", "route", "show", "table", str(TUNNEL_TABLE), "exact", str(prefix)]

    def confirm(control: Control) -> bool:
        told = control.run(place(node), show).out
        return not told.strip() if text is None else text in told

    return confirm


@dataclass(frozen=True)
class EntryInStore:
    """A key that somebody has put into a region's store, as its administrator."""

    region: LabRegion
    key: str
    value: str

    def apply(self, control: Control) -> None:
        """Put it there."""
        self._etcdctl(control, "put", self.key, self.value)

    def heal(self, control: Control, memory: None) -> None:
        """Take it out."""
        self._etcdctl(control, "del", self.key)

    def _etcdctl(self, control: Control, *words: str) -> None:
        """From a node of the region; the credentials travel by standard input."""
        node = self.region.nodes[0]
        pair = secret_values(control, self.region.name, f"{SYSTEM}/secrets/{ADMIN_SECRET}")
        told = json.dumps({name: pair[name].decode() for name in ("tls.crt", "tls.key")})
        etcdctl = str(Path(sys.executable).with_name("etcdctl"))
        store = f"https://{node.address}:{self.region.store_port}"
        control.run(place(node), [sys.executable, "-I", "-c", _ETCDCTL, etcdctl, store, *words], text=told)


_ETCDCTL = """
import json, pathlib, subprocess, sys, tempfile
etcdctl, store, *words = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    for name, content in json.load(sys.stdin).items():
        pathlib.Path(folder, name).write_text(content)
    tls = ["--insecure-skip-tls-verify", "--cert", f"{folder}/tls.crt", "--key", f"{folder}/tls.key"]
    sys.exit(subprocess.run([etcdctl, "--endpoints", store, *tls, *words]).returncode)
"""
"""Runs etcdctl with a key pair that is in a file for no longer than that. The store's name is no matter here."""
