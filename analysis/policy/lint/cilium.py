"""What Cilium refuses in a policy, and what it takes although hardly anybody means it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.policy.identity import NAMESPACE
from analysis.policy.lint.complaint import Complaint, block, is_network, label_selector, one_of, port_number
from analysis.policy.lint.manifests import FieldPath

_ENTITIES = (
    *("all", "world", "world-ipv4", "world-ipv6", "cluster", "host", "remote-node"),
    *("init", "health", "ingress", "unmanaged", "kube-apiserver", "none"),
)
_PROTOCOLS = ("TCP", "UDP", "SCTP", "ICMP", "ICMPV6", "VRRP", "IGMP", "ANY")
_MOST_PORTS = 40
_SECTIONS = ("ingress", "ingressDeny", "egress", "egressDeny")
_NO_PEERS = {"toPorts", "icmps", "authentication"}


def check_policy(document: Mapping[str, Any], *, clusterwide: bool) -> Iterator[Complaint]:
    """Complaints of a CiliumNetworkPolicy or a CiliumClusterwideNetworkPolicy."""
    specs: list[tuple[FieldPath, Any]] = [(("spec",), document["spec"])] if document.get("spec") else []
    specs += [(("specs", number), each) for number, each in enumerate(document.get("specs") or ())]
    if not specs:
        yield Complaint((), "the policy has neither spec nor specs")
    for path, spec in specs:
        yield from _spec(path, spec or {}, clusterwide)


def _spec(path: FieldPath, spec: Mapping[str, Any], clusterwide: bool) -> Iterator[Complaint]:
    subjects = [key for key in ("endpointSelector", "nodeSelector") if spec.get(key) is not None]
    if len(subjects) != 1:
        yield Complaint(
            path, "a policy needs an endpointSelector or a nodeSelector, and not both", "{} selects all pods"
        )
    for key in subjects:
        yield from label_selector((*path, key), spec[key])
    if "nodeSelector" in subjects and not clusterwide:
        yield Complaint((*path, "nodeSelector"), "only a CiliumClusterwideNetworkPolicy may select nodes")
    if not any(spec.get(section) for section in _SECTIONS):
        yield Complaint(
            path,
            "a policy without any rule has no effect, and newer releases refuse it",
            "`ingress: [{}]` denies all that comes in, `egress: [{}]` all that goes out",
        )
    for section in _SECTIONS:
        for number, rule in enumerate(spec.get(section) or ()):
            yield from _rule((*path, section, number), rule or {}, section, clusterwide)


def _rule(path: FieldPath, rule: Mapping[str, Any], section: str, clusterwide: bool) -> Iterator[Complaint]:
    peers = [key for key in rule if key not in _NO_PEERS and rule[key] is not None]
    if len(peers) > 1:
        yield Complaint(
            path, f"one rule names one sort of peer, this has {' and '.join(peers)}", "make a rule of each of them"
        )
    if removed := [key for key in peers if key.endswith("Requires")]:
        yield Complaint((*path, removed[0]), f"{removed[0]} was removed in Cilium 1.19", "write a deny rule")
    for key in ("fromEndpoints", "toEndpoints"):
        for number, selector in enumerate(rule.get(key) or ()):
            yield from label_selector((*path, key, number), selector)
            if clusterwide:
                yield from _outsiders((*path, key, number), selector)
    for key in ("fromEntities", "toEntities"):
        for number, entity in enumerate(rule.get(key) or ()):
            yield from one_of((*path, key, number), entity, _ENTITIES)
    for key in ("fromCIDR", "toCIDR"):
        for number, cidr in enumerate(rule.get(key) or ()):
            if not is_network(cidr):
                yield Complaint((*path, key, number), f"{cidr!r} is no network in CIDR notation, like 10.0.0.0/8")
    for key in ("fromCIDRSet", "toCIDRSet"):
        for number, each in enumerate(rule.get(key) or ()):
            yield from _cidr_set((*path, key, number), each or {})
    if rule.get("toPorts") and rule.get("icmps"):
        yield Complaint((*path, "icmps"), "icmps stand in a rule without toPorts")
    yield from _ports((*path, "toPorts"), rule, section)


def _cidr_set(path: FieldPath, item: Mapping[str, Any]) -> Iterator[Complaint]:
    said = [key for key in ("cidr", "cidrGroupRef", "cidrGroupSelector") if item.get(key) is not None]
    if len(said) != 1:
        yield Complaint(path, "an entry has exactly one of cidr, cidrGroupRef and cidrGroupSelector")
    elif said == ["cidr"]:
        yield from block(path, item["cidr"], item.get("except") or ())


def _ports(path: FieldPath, rule: Mapping[str, Any], section: str) -> Iterator[Complaint]:
    items = rule.get("toPorts") or ()
    for number, item in enumerate(items):
        ports = (item or {}).get("ports") or ()
        if len(ports) > _MOST_PORTS:
            yield Complaint((*path, number, "ports"), f"more than {_MOST_PORTS} ports")
        if section.endswith("Deny") and (item or {}).get("rules"):
            yield Complaint((*path, number, "rules"), "rules that deny end at layer 4")
        for place, port in enumerate(ports):
            where = (*path, number, "ports", place)
            if port.get("protocol") is not None:
                yield from one_of((*where, "protocol"), port["protocol"], _PROTOCOLS)
            yield from port_number((*where, "port"), port.get("port", 0), lowest=0)
            first, last = str(port.get("port", "")), str(port.get("endPort") or "")
            if first.isdecimal() and last.isdecimal() and int(last) < int(first):
                yield Complaint((*where, "endPort"), f"endPort {last} is below port {first}")


def _outsiders(path: FieldPath, selector: Any) -> Iterator[Complaint]:
    """A clusterwide peer that is chosen by a negated namespace means whoever has none, too."""
    expressions = [
        each
        for each in (selector or {}).get("matchExpressions") or ()
        if str(each.get("key", "")).removeprefix("k8s:").removeprefix("any:") == NAMESPACE
    ]
    operators = {each.get("operator") for each in expressions}
    if operators and operators <= {"NotIn", "DoesNotExist"}:
        yield Complaint(
            path,
            "up to Cilium 1.18 this also means the world, hosts and remote nodes, which are in no namespace",
            f"add an expression {{key: {expressions[0]['key']}, operator: Exists}}",
            check="means-outsiders-too",
        )
