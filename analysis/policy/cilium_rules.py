"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy as rules, with all that Cilium adds to what they say.

What is added: the policy's own namespace, or that there is one; the own cluster, by default; nothing to selectors that
name reserved labels. A list of peers that is there and empty means nobody, and a rule that says nothing at all allows
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.policy.identity import (
    CLUSTER,
    HOST,
    NAMESPACE,
    NAMESPACE_LABELS,
    REMOTE_NODE,
    RESERVED,
    WORLD,
    pods_of,
)
from analysis.policy.label_selector import Requirement, Selector, equals, exists, matches, read_selector
from analysis.policy.model import Direction, Policy, PolicyKind, Protocol, Service, World
from analysis.policy.union import WITH_PORTS, Block, Peers, PortSpan, Rule, Unit, network, span

_SIDES = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_UNRESOLVED = ("Nodes", "Groups", "FQDNs")
_ICMP_TYPES = {
    "EchoReply": 0,
    "DestinationUnreachable": 3,
    "Redirect": 5,
    "Echo": 8,
    "EchoRequest": 8,
    "RouterAdvertisement": 9,
    "RouterSelection": 10,
    "TimeExceeded": 11,
    "ParameterProblem": 12,
    "Timestamp": 13,
    "TimestampReply": 14,
    "Photuris": 40,
    "ExtendedEchoRequest": 42,
    "ExtendedEchoReply": 43,
}
_LAYER_7 = ("serverNames", "listener", "terminatingTLS", "originatingTLS")


def units_of(policy: Policy, cluster: str, world: World) -> Iterator[Unit]:
    """A policy as rules: every entry of its `specs` stands for itself. Those for nodes are left out.

    Args:
        policy: of either kind.
        cluster: what the mesh calls its cluster.
        world: for the options and the services.
    """
    for number, spec in enumerate(policy.specs):
        if "nodeSelector" not in spec:
            prefix = f"{policy.path}/specs/{number}" if number else policy.path
            yield _Reader(policy, cluster, world).unit(spec, prefix)


class _Reader:
    def __init__(self, policy: Policy, cluster: str, world: World) -> None:
        self._namespace = policy.namespace if policy.kind is PolicyKind.CILIUM_NETWORK_POLICY else ""
        self._policy, self._local, self._world = policy, equals(CLUSTER, cluster), world

    def unit(self, spec: Mapping[str, Any], prefix: str) -> Unit:
        asks = spec.get("enableDefaultDeny") or {}
        sections = [
            (direction, deny, spec.get(direction.value + ("Deny" if deny else "")) or ())
            for direction in Direction
            for deny in (False, True)
        ]
        return Unit(
            policy=self._policy,
            path=prefix,
            subject=(self._local, *self._subject(spec)),
            rules=tuple(
                self._rule(rule or {}, direction, deny, f"{prefix}/{direction.value}{'Deny' if deny else ''}/{number}")
                for direction, deny, rules in sections
                for number, rule in enumerate(rules)
            ),
            isolates=frozenset(
                direction for direction, _, rules in sections if rules and asks.get(direction.value) is not False
            ),
        )

    def _subject(self, spec: Mapping[str, Any]) -> Selector:
        if spec.get("endpointSelector") is None:
            return (equals(NAMESPACE),)  # Cilium refuses such a policy: it selects nobody.
        selector = _without_sources(read_selector(spec["endpointSelector"]))
        if self._namespace:
            return (equals(NAMESPACE, self._namespace), *(each for each in selector if each.key != NAMESPACE))
        return (exists(NAMESPACE), *selector)

    def _rule(self, rule: Mapping[str, Any], direction: Direction, deny: bool, path: str) -> Rule:
        peers, hollow = self._peers(rule, _SIDES[direction])
        ports = _ports(rule)
        if peers is None and ports is None:
            peers, hollow = Peers(), "empty-rule"
        return Rule(path, direction, deny, peers, ports, layer_7=not deny and _is_layer_7(rule), hollow=hollow)

    def _peers(self, rule: Mapping[str, Any], side: str) -> tuple[Peers | None, str]:
        """Who the rule speaks of, and why nobody where its shape says so."""
        said = {
            key.removeprefix(side): rule[key]
            for key in rule
            if key.startswith(side) and key not in ("toPorts", "fromRequires", "toRequires") and rule[key] is not None
        }
        if not said:
            return None, ""
        endpoints = [self._peer(each) for each in said.get("Endpoints", ())]
        entities = [selector for each in said.get("Entities", ()) for selector in self._entity(each)]
        services = [each for item in said.get("Services", ()) for each in self._services(item)]
        blocks = [Block(network(each)) for each in said.get("CIDR", ())]
        sets = said.get("CIDRSet", ())
        blocks += [
            Block(network(each["cidr"]), tuple(map(network, each.get("except") or ())))
            for each in sets
            if "cidr" in each
        ]
        blocks += [
            Block(network(f"{address}/32"))
            for service in services
            if service.selector is None
            for address, *_ in service.backends
        ]
        unresolved = [f"{side}{name}" for name in _UNRESOLVED if said.get(name)]
        unresolved += [f"{side}CIDRSet"] if any("cidr" not in each for each in sets) else []
        peers = Peers(
            selectors=(
                *endpoints,
                *entities,
                *(self._backends(service) for service in services if service.selector is not None),
            ),
            blocks=tuple(blocks),
            unknown=", ".join(unresolved),
        )
        if not any(said.values()):
            return peers, "empty-peer-list"
        return peers, "entity-none" if said.get("Entities") == ["none"] and len(said) == 1 else ""

    def _peer(self, document: Mapping[str, Any]) -> Selector:
        selector = _without_sources(read_selector(document))
        keys = {requirement.key for requirement in selector}
        if any(key.startswith(RESERVED) for key in keys):
            return selector
        names_namespace = NAMESPACE in keys
        names_its_labels = any(key.startswith(NAMESPACE_LABELS) for key in keys)
        added: list[Requirement] = []
        if not names_namespace and not (self._namespace and names_its_labels):
            added.append(equals(NAMESPACE, self._namespace) if self._namespace else exists(NAMESPACE))
        if CLUSTER not in keys and self._world.options.default_local_cluster:
            added.append(self._local)
        return (*added, *selector)

    def _entity(self, name: str) -> tuple[Selector, ...]:
        if name == "none":
            return ()
        if name == "all":
            return ((),)
        if name == "cluster":
            return ((self._local,), (exists(HOST),), (exists(REMOTE_NODE),))
        return ((exists(WORLD if name == "world" else RESERVED + name),),)

    def _services(self, item: Mapping[str, Any]) -> Iterator[Service]:
        named, labelled = item.get("k8sService") or {}, item.get("k8sServiceSelector")
        home = (named or labelled or {}).get("namespace") or self._policy.namespace
        wanted = read_selector((labelled or {}).get("selector"))
        for service in self._world.services:
            if service.cluster != self._policy.cluster or (home and service.namespace != home):
                continue
            meant = service.name == named.get("serviceName") if named else matches(wanted, service.labels)
            if meant:
                yield service

    def _backends(self, service: Service) -> Selector:
        return (
            self._local,
            equals(NAMESPACE, service.namespace),
            *pods_of(None, {"matchLabels": service.selector or {}}),
        )


def _without_sources(selector: Selector) -> Selector:
    """Keys without the source of the label, where that is Kubernetes or any; reserved ones keep theirs."""
    return tuple(
        Requirement(each.key.removeprefix("k8s:").removeprefix("any:"), each.operator, each.values) for each in selector
    )


def _ports(rule: Mapping[str, Any]) -> tuple[PortSpan, ...] | None:
    spans: list[PortSpan] = []
    for item in rule.get("toPorts") or ():
        for port in item.get("ports") or ({"port": "0"},):
            spans += (span(each, port.get("port"), port.get("endPort")) for each in _protocols(port.get("protocol")))
    for item in rule.get("icmps") or ():
        for entry in item.get("fields") or ():
            if entry.get("family", "IPv4") == "IPv4":
                number = _ICMP_TYPES.get(str(entry["type"]), entry["type"])
                spans.append(PortSpan(Protocol.ICMP, int(number), int(number)))
    return tuple(spans) if rule.get("toPorts") or rule.get("icmps") else None


def _protocols(name: str | None) -> tuple[Protocol, ...]:
    if not name or name.upper() == "ANY":
        return WITH_PORTS
    return tuple(each for each in Protocol if each.value == name.upper())


def _is_layer_7(rule: Mapping[str, Any]) -> bool:
    authentication = rule.get("authentication") or {}
    return authentication.get("mode", "disabled") != "disabled" or any(
        item.get("rules") or any(item.get(key) for key in _LAYER_7) for item in rule.get("toPorts") or ()
    )
