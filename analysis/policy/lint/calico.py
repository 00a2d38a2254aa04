"""What Calico's API refuses in a policy, and what it takes although hardly anybody means it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from analysis.policy.lint.complaint import Complaint, directions, is_network, one_of, port_number
from analysis.policy.lint.manifests import FieldPath
from analysis.policy.selector import SelectorError, parse_selector
from analysis.policy.terms import Equal, Global, Group, LabelTest, Membership, Not, Selector, Unequal

_ACTIONS = ("Allow", "Deny", "Log", "Pass")
_PROTOCOLS = ("TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite")
_WITH_PORTS = {"TCP", "UDP", "SCTP", "6", "17", "132"}
_ICMP = {"ICMP", "ICMPv6", "1", "58"}
_LONGEST_SELECTOR = 1024
_MOST_RULES = 1024
_MOST_NETS = 256
_IN_SOME_NAMESPACE = "has(projectcalico.org/name)"


def check_policy(spec: Mapping[str, Any], kind: str) -> Iterator[Complaint]:
    """Complaints of the `spec` of a NetworkPolicy, a GlobalNetworkPolicy or a staged one of them."""
    is_global = "Global" in kind
    for key in ("selector", "namespaceSelector", "serviceAccountSelector"):
        yield from _selector(("spec", key), spec.get(key), global_allowed=False)
    types = spec.get("types") or []
    yield from directions(spec, "types")
    if len(set(types)) < len(types):
        yield Complaint(("spec", "types"), "a direction stands twice in types")
    yield from _host_options(spec)
    if is_global and not (spec.get("namespaceSelector") or spec.get("serviceAccountSelector") or _needs_a_label(spec)):
        yield Complaint(
            ("spec", "selector"),
            "host endpoints are selected too: without a namespaceSelector this polices the nodes themselves",
            "add `namespaceSelector: all()`, which means pods only",
            check="selects-host-endpoints",
        )
    for direction in ("ingress", "egress"):
        rules = spec.get(direction) or ()
        if len(rules) > _MOST_RULES:
            yield Complaint(("spec", direction), f"more than {_MOST_RULES} rules")
        for number, rule in enumerate(rules):
            yield from _rule(("spec", direction, number), rule or {}, direction, is_global)
    if kind.startswith("Staged"):
        yield Complaint(("kind",), "a staged policy is shown, never enforced", check="staged-not-enforced")


def _host_options(spec: Mapping[str, Any]) -> Iterator[Complaint]:
    special = [key for key in ("doNotTrack", "preDNAT") if spec.get(key)]
    if len(special) == 2:
        yield Complaint(("spec", "preDNAT"), "preDNAT and doNotTrack exclude each other")
    for key in special:
        if not spec.get("applyOnForward"):
            yield Complaint(("spec", key), f"{key} needs applyOnForward: true")
    if spec.get("preDNAT") and (spec.get("egress") or "Egress" in (spec.get("types") or ())):
        yield Complaint(("spec", "preDNAT"), "a preDNAT policy has ingress rules only")


def _rule(path: FieldPath, rule: Mapping[str, Any], direction: str, is_global: bool) -> Iterator[Complaint]:
    yield from one_of((*path, "action"), rule.get("action"), _ACTIONS)
    for key in ("protocol", "notProtocol"):
        if (protocol := rule.get(key)) is not None and not _is_protocol(protocol):
            yield Complaint((*path, key), f"{key} {protocol!r} is none of {', '.join(_PROTOCOLS)} and no number to 255")
    protocol = str(rule.get("protocol", ""))
    for key in ("icmp", "notICMP"):
        if rule.get(key) and protocol not in _ICMP:
            yield Complaint((*path, key), f"{key} needs the protocol ICMP or ICMPv6")
    families = set()
    for side in ("source", "destination"):
        fields = rule.get(side) or {}
        yield from _side((*path, side), fields, protocol)
        families |= {ip_network(str(net), strict=False).version for net in fields.get("nets") or () if is_network(net)}
        if fields.get("services"):
            yield from _services((*path, side, "services"), fields, (direction, side), is_global)
    if len(families) > 1:
        yield Complaint(path, "a rule has networks of one IP version only")
    if rule.get("http") and (direction, rule.get("action")) != ("ingress", "Allow"):
        yield Complaint((*path, "http"), "http is for ingress rules that allow")


def _side(path: FieldPath, side: Mapping[str, Any], protocol: str) -> Iterator[Complaint]:
    accounts = side.get("serviceAccounts") or {}
    for key in ("selector", "notSelector", "namespaceSelector"):
        yield from _selector((*path, key), side.get(key), global_allowed=key == "namespaceSelector")
    yield from _selector((*path, "serviceAccounts", "selector"), accounts.get("selector"), global_allowed=False)
    yield from _outsiders((*path, "namespaceSelector"), side.get("namespaceSelector"))
    for key in ("ports", "notPorts"):
        for number, port in enumerate(side.get(key) or ()):
            yield from _port((*path, key, number), port, protocol)
    for key in ("nets", "notNets"):
        nets = side.get(key) or ()
        if len(nets) > _MOST_NETS:
            yield Complaint((*path, key), f"more than {_MOST_NETS} networks")
        for number, net in enumerate(nets):
            if not is_network(net):
                yield Complaint((*path, key, number), f"{net!r} is no network in CIDR notation, like 10.0.0.0/8")
            elif key == "notNets" and ip_network(str(net), strict=False).prefixlen == 0:
                yield Complaint(
                    (*path, key, number),
                    f"{net} in notNets makes Calico ignore the whole rule, newer releases refuse it",
                    check="catch-all-in-not-nets",
                )


def _port(path: FieldPath, port: Any, protocol: str) -> Iterator[Complaint]:
    first, colon, last = str(port).partition(":")
    if not first.isdecimal():
        return
    yield from port_number(path, first)
    if colon:
        yield from port_number(path, last)
        if not last.isdecimal() or int(last) < int(first):
            yield Complaint(path, f"{port!r} is no range of ports: write the lower one first, like 8000:9000")
    if protocol not in _WITH_PORTS:
        yield Complaint(path, "ports by number need the protocol TCP, UDP or SCTP", "add `protocol: TCP` to the rule")


def _services(path: FieldPath, side: Mapping[str, Any], place: tuple[str, str], is_global: bool) -> Iterator[Complaint]:
    if place not in (("egress", "destination"), ("ingress", "source")):
        yield Complaint(path, "services go into an egress rule's destination or an ingress rule's source")
    if others := sorted(set(side) - {"services"} - ({"ports"} if place[1] == "source" else set())):
        yield Complaint(path, f"services stand alone, without {', '.join(others)}")
    if is_global and not side["services"].get("namespace"):
        yield Complaint(path, "in a GlobalNetworkPolicy a service needs its namespace")


def _selector(path: FieldPath, text: Any, *, global_allowed: bool) -> Iterator[Complaint]:
    if text is None:
        return
    try:
        selector = parse_selector(str(text))
    except SelectorError as error:
        line_break = "\n" in str(text)
        yield Complaint(
            path, str(error), "a folded YAML block ends with a line break: write `>-` or quotes" if line_break else ""
        )
        return
    if len(str(text)) > _LONGEST_SELECTOR:
        yield Complaint(path, f"a selector may have {_LONGEST_SELECTOR} characters, this has {len(str(text))}")
    alone = isinstance(selector, Global)
    if not (alone and global_allowed) and any(isinstance(each, Global) for each in leaves(selector)):
        yield Complaint(path, "global() may only stand alone, in a rule's namespaceSelector")
    for value in sorted(
        {value for each in leaves(selector) for value in _compared(each) if not _is_label_value(value)}
    ):
        yield Complaint(
            path,
            f"{value!r} can be the value of no Kubernetes label: at most 63 of A-Z a-z 0-9 . _ -, "
            "the first and last a letter or digit",
            check="impossible-value",
        )


def _outsiders(path: FieldPath, text: Any) -> Iterator[Complaint]:
    """A namespaceSelector that also means what is in no namespace at all."""
    try:
        selector = parse_selector(str(text or ""))
    except SelectorError:
        return
    if any(isinstance(each, Global) for each in leaves(selector)) or not any(map(_is_test, leaves(selector))):
        return
    if selector.matches({}):
        yield Complaint(
            path,
            "this also means host endpoints and global network sets, which are in no namespace",
            f"add `&& {_IN_SOME_NAMESPACE}`",
            check="means-outsiders-too",
        )


def leaves(selector: Selector) -> Iterator[Selector]:
    """The tests that a selector is made of."""
    if isinstance(selector, Group):
        for term in selector.terms:
            yield from leaves(term)
    elif isinstance(selector, Not):
        yield from leaves(selector.term)
    else:
        yield selector


def _is_test(selector: Selector) -> bool:
    return isinstance(selector, LabelTest)


def _compared(selector: Selector) -> tuple[str, ...]:
    """Whole values that a test compares with."""
    if isinstance(selector, Equal | Unequal):
        return (selector.text,)
    return tuple(selector.texts) if isinstance(selector, Membership) else ()


def _is_label_value(text: str) -> bool:
    inner = text.replace("-", "a").replace("_", "a").replace(".", "a")
    ends_well = not text or (text[0].isalnum() and text[-1].isalnum())
    return len(text) <= 63 and text.isascii() and ends_well and (inner.isalnum() or not text)


def _is_protocol(value: Any) -> bool:
    text = str(value)
    return text in _PROTOCOLS or (text.isdecimal() and 1 <= int(text) <= 255)


def _needs_a_label(spec: Mapping[str, Any]) -> bool:
    """Whether the selector needs some label, which host endpoints have only where somebody gave it to them."""
    try:
        return not parse_selector(str(spec.get("selector") or "")).matches({})
    except SelectorError:
        return True
