"""NET-POL-019, 020: do peers of Cilium's policies say which cluster and which namespace they are of?

What a selector leaves out, the engine fills in, and not in the same way in every version and kind of policy: the own
cluster or all of them, the own namespace or any. Whoever says both means the same everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.expectation import regions_by_mesh_name
from analysis.facts import Policies, PolicyObject
from analysis.nearest import did_you_mean
from analysis.plan import DATABASE, Cni, Plan
from analysis.policy.identity import CLUSTER, NAMESPACE, NAMESPACE_LABELS, RESERVED
from analysis.policy.judging.meant import intent_of
from analysis.policy.label_selector import Operator, Selector, read_selector
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import gap_findings, listed

OTHERS = "only Cilium's selectors fill in what is left out in ways that differ"
LOCAL_BY_DEFAULT = "policy-default-local-cluster"
OWN_NAMESPACE = "CiliumNetworkPolicy"
_KINDS = (OWN_NAMESPACE, "CiliumClusterwideNetworkPolicy")
_SECTIONS = {
    section: side
    for direction, side in (("ingress", "fromEndpoints"), ("egress", "toEndpoints"))
    for section, side in ((direction, side), (f"{direction}Deny", side))
}


@dataclass(frozen=True)
class _Peer:
    """A selector of peers in a policy about the database."""

    policy: PolicyObject
    place: str
    selector: Selector

    @property
    def subject(self) -> str:
        return f"{self.policy.region}: {self.policy.kind} {self.policy.name}, {self.place}"

    def values(self, key: str) -> frozenset[str] | None:
        """The values that it names for a label, none for any; None where it does not name the label."""
        named = [requirement for requirement in self.selector if requirement.key == key]
        if not named:
            return None
        return frozenset(value for each in named if each.operator is Operator.IN for value in each.values)

    def names(self, prefix: str) -> bool:
        """Whether it names a label that begins like that."""
        return any(requirement.key.startswith(prefix) for requirement in self.selector)


def judge_clusters_named(plan: Plan, policies: Policies) -> Verdict:
    """NET-POL-019: every peer of a policy about the database says which clusters it is of, and there are such."""
    expected = f"peers of policies about the database name their clusters ({CLUSTER})"
    if plan.cni is not Cni.CILIUM_CLUSTERMESH:
        return not_applicable(expected, OTHERS)
    known = sorted(regions_by_mesh_name(plan))
    settings = {(region, key): value for region, key, value in policies.settings}
    violations = []
    peers = list(_peers(plan, policies))
    for peer in peers:
        values = peer.values(CLUSTER)
        if values is None:
            local = settings.get((peer.policy.region, LOCAL_BY_DEFAULT))
            version = settings.get((peer.policy.region, "version"), "this version")
            meaning = {
                "true": f"in {version}, as it is set, that is the own cluster only",
                "false": f"in {version}, as it is set, that is every cluster",
            }.get(local or "", "up to 1.18 that is every cluster, from 1.19 on the own one")
            violations.append(Finding(peer.subject, f"{CLUSTER} to be named", f"it is not: {meaning}"))
        elif strange := sorted(values.difference(known)):
            guesses = listed(f"{name}{did_you_mean(name, known)}" for name in strange)
            violations.append(Finding(peer.subject, f"clusters of the mesh: {listed(known)}", guesses))
    return conclude(
        expected=expected,
        examined=len(peers),
        what="selectors of peers",
        violations=violations,
        gaps=gap_findings(policies.gaps, "objects"),
        remedy=f"add {{key: {CLUSTER}, operator: In, values: [{', '.join(known)}]}} to matchExpressions, with "
        "those clusters that are meant",
    )


def judge_namespaces_named(plan: Plan, policies: Policies) -> Verdict:
    """NET-POL-020: every peer of a policy about the database says which namespaces it is of, and there are such."""
    expected = f"peers of policies about the database name their namespaces ({NAMESPACE})"
    if plan.cni is not Cni.CILIUM_CLUSTERMESH:
        return not_applicable(expected, OTHERS)
    there = sorted({namespace.name for namespace in policies.namespaces})
    violations = []
    peers = list(_peers(plan, policies))
    for peer in peers:
        values = peer.values(NAMESPACE)
        if values is None and not peer.names(NAMESPACE_LABELS):
            own = peer.policy.kind == OWN_NAMESPACE
            observed = f"it is not: that is {f'{peer.policy.namespace} alone' if own else 'any namespace'}"
            cause = "the regions' namespaces differ" if own else "pods of anybody can wear a label"
            violations.append(Finding(peer.subject, f"{NAMESPACE} to be named", observed, cause))
        elif values and there and (strange := sorted(values.difference(there))):
            guesses = listed(f"{name}{did_you_mean(name, there)}" for name in strange)
            violations.append(Finding(peer.subject, "namespaces that exist in some cluster", guesses))
    return conclude(
        expected=expected,
        examined=len(peers),
        what="selectors of peers",
        violations=violations,
        gaps=gap_findings(policies.gaps, "objects", "namespaces"),
        remedy=f"add k8s:{NAMESPACE} to the selector, with the namespaces that the peers run in",
    )


def _peers(plan: Plan, policies: Policies) -> Iterator[_Peer]:
    """Selectors of peers in policies that select the database's pods. Those of nodes and entities are no pods."""
    for item in policies.objects:
        if item.kind not in _KINDS:
            continue
        document = json.loads(item.document)
        for spec in [*filter(None, [document.get("spec")]), *(document.get("specs") or ())]:
            if _is_about_database(plan, item, spec):
                yield from _peers_of(item, spec)


def _peers_of(item: PolicyObject, spec: Mapping[str, Any]) -> Iterator[_Peer]:
    for section, side in _SECTIONS.items():
        for number, rule in enumerate(spec.get(section) or ()):
            for selector in (rule or {}).get(side) or ():
                peer = _Peer(item, f"{section} rule {number + 1}", _plain(selector))
                if not peer.names(RESERVED):
                    yield peer


def _is_about_database(plan: Plan, item: PolicyObject, spec: Mapping[str, Any]) -> bool:
    selector = spec.get("endpointSelector")
    namespace = (plan.database.namespace(item.region) if plan.database else "") or item.region
    if selector is None or item.namespace not in ("", namespace):
        return False
    labels = {**intent_of(plan).labels(DATABASE, item.region), NAMESPACE: namespace}
    return all(requirement.matches(labels) for requirement in _plain(selector))


def _plain(document: Mapping[str, Any]) -> Selector:
    """A selector whose keys say nothing of where their labels come from."""
    plain = {
        "matchLabels": {_key(key): value for key, value in (document.get("matchLabels") or {}).items()},
        "matchExpressions": [each | {"key": _key(each["key"])} for each in document.get("matchExpressions") or ()],
    }
    return read_selector(plain)


def _key(key: str) -> str:
    return key.removeprefix("k8s:").removeprefix("any:")
