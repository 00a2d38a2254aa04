"""Changes of the policy objects of a Calico lab that its faults are made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from analysis.plan import DATABASE as DATABASE_ROLE
from analysis.plan import PolicyPlan
from provision.faults import Control
from provision.lab.calico.policy.seed import NAME
from provision.lab.faults.calico.place import CALICO, EAST, OHIO
from provision.lab.faults.policy_steps import APPLIED
from provision.lab.faults.steps import Edited
from provision.lab.topology import LabRegion

POLICIES = f"{CALICO}/globalnetworkpolicies"
POLICY = f"{POLICIES}/{NAME}"
"""The region's own policy."""

_SETS = f"{CALICO}/globalnetworksets"
DATABASE = 'app == "cockroachdb"'

Rules = list[dict[str, Any]]


def edited(region: LabRegion, **changes: Callable[[Rules], Rules]) -> Edited:
    """The region's policy with other rules: by direction, what becomes of them."""

    def change(policy: dict[str, Any]) -> dict[str, Any]:
        copy = json.loads(json.dumps(policy["spec"]))
        return {"spec": {direction: edit(copy[direction]) for direction, edit in changes.items()}}

    return Edited(region.name, POLICY, change)


def selecting(old: str, new: str) -> Callable[[Rules], Rules]:
    """Every selector with that text in it has another in its place."""

    def edit(rules: Rules) -> Rules:
        for side in _sides(rules):
            if old in side.get("selector", ""):
                side["selector"] = side["selector"].replace(old, new)
        return rules

    return edit


def _sides(rules: Rules) -> Iterator[dict[str, Any]]:
    for rule in rules:
        yield from (rule[name] for name in ("source", "destination") if name in rule)


def with_rules(*more: dict[str, Any]) -> Callable[[Rules], Rules]:
    """These rules come after all others."""
    return lambda rules: [*rules, *more]


def without_dns(protocol: str) -> Callable[[Rules], Rules]:
    """Nothing about DNS over that protocol is allowed any more."""

    def is_it(rule: dict[str, Any]) -> bool:
        return bool(rule["protocol"] == protocol and rule["destination"].get("ports") == [53])

    return lambda rules: [rule for rule in rules if not is_it(rule)]


def another(name: str, **spec: Any) -> dict[str, Any]:
    """A policy beside the region's own."""
    return {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def deny(direction: str, other: str, region: LabRegion, port: int) -> dict[str, Any]:
    """A policy in front of the database's own that closes one port between it and another region's pods."""
    there = {"selector": f'{DATABASE} && geography == "{region.name}"'}
    ends = {other: there | {"ports": [port]}} if other == "destination" else _from(there, port)
    rule = {"action": "Deny", "protocol": "TCP", **ends}
    types = [direction.capitalize()]
    return another(f"no-{port}-with-{region.name}", order=10, selector=DATABASE, types=types, **{direction: [rule]})


def _from(source: dict[str, Any], port: int) -> dict[str, Any]:
    return {"source": source, "destination": {"ports": [port]}}


def for_both(protocol: str, port: int) -> tuple[Edited, Edited]:
    """One more port, where the one region lets out and the other lets in."""
    into = {"action": "Allow", "protocol": protocol, **_from({"selector": DATABASE}, port)}
    out_of = {"action": "Allow", "protocol": protocol, "destination": {"selector": DATABASE, "ports": [port]}}
    return edited(OHIO, ingress=with_rules(into)), edited(EAST, egress=with_rules(out_of))


def misspelt(policy: dict[str, Any]) -> dict[str, Any]:
    """The policy applied once more, with an "s" too few: the API server takes it, and forgets that field."""
    spec = json.loads(json.dumps(policy["spec"]))
    spec["ingress"][0]["source"]["serviceAccount"] = {"names": ["cockroachdb"]}
    applied = {key: policy[key] for key in ("apiVersion", "kind")} | {"metadata": {"name": NAME}, "spec": spec}
    return {"metadata": {"annotations": {APPLIED: json.dumps(applied)}}, "spec": spec}


def is_misspelt(control: Control) -> bool:
    """The policy has been applied so, and lacks the field that was meant."""
    policy = control.get(OHIO.name, POLICY)
    if policy is None or APPLIED not in (policy["metadata"].get("annotations") or {}):
        return False
    return "serviceAccount" not in policy["spec"]["ingress"][0]["source"]


def blind(role: dict[str, Any]) -> dict[str, Any]:
    """A ClusterRole that lets nobody read pods."""
    rules = [rule | {"resources": [each for each in rule["resources"] if each != "pods"]} for rule in role["rules"]]
    return {"rules": rules}


@dataclass(frozen=True)
class SetOf:
    """Somebody writes down, in one cluster, which address a pod of another has now, for policies to know it by.

    Attributes:
        region: where the network set is.
        remote: whose pod it is, which passes for one of that region's database.
        pod: its API path.
    """

    region: LabRegion
    remote: LabRegion
    pod: str

    @property
    def path(self) -> str:
        """The network set's API path."""
        return f"{_SETS}/{self._name}"

    @property
    def _name(self) -> str:
        return f"database-of-{self.remote.name}"

    def apply(self, control: Control) -> None:
        """Write the address down as it is."""
        labels = (control.plan.policy or PolicyPlan((), ())).labels(DATABASE_ROLE, self.remote.name)
        found = {
            "apiVersion": "crd.projectcalico.org/v1",
            "kind": "GlobalNetworkSet",
            "metadata": {"name": self._name, "labels": labels},
            "spec": {"nets": [f"{self._address(control)}/32"]},
        }
        control.create(self.region.name, _SETS, found)

    def heal(self, control: Control, memory: None) -> None:
        """Delete the set: nobody needs it where pods are known by federation."""
        control.delete(self.region.name, self.path)

    def is_stale(self, control: Control) -> bool:
        """Whether the pod has an address again, and it is another."""
        address, held = self._address(control), control.get(self.region.name, self.path)
        return bool(address and held and held["spec"]["nets"] != [f"{address}/32"])

    def _address(self, control: Control) -> str:
        status = (control.get(self.remote.name, self.pod) or {}).get("status") or {}
        return str(status.get("podIP") or "")
