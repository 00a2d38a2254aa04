"""Reads CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy objects, by what Cilium's documentation says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from typing import Any

from provision.lab.cilium.policy.model import (
    Dialect,
    Direction,
    Entity,
    Networks,
    Peer,
    PolicyError,
    PolicyRule,
    PolicySpec,
    Port,
)
from provision.lab.cilium.policy.selectors import (
    CLUSTER_KEY,
    NAMESPACE_KEY,
    NAMESPACE_LABELS,
    Selector,
    SelectorError,
    exists,
    has_value,
    read_selector,
)

ENTITIES = frozenset(
    {
        "all",
        "cluster",
        "health",
        "host",
        "ingress",
        "init",
        "kube-apiserver",
        "none",
        "remote-node",
        "unmanaged",
        "world",
        "world-ipv4",
        "world-ipv6",
    }
)
"""All that the field takes."""

WITH_PORTS = ("tcp", "udp", "sctp")
_MOST_PORTS = 40
_SECTIONS = (
    ("ingress", Direction.INGRESS, False),
    ("ingressDeny", Direction.INGRESS, True),
    ("egress", Direction.EGRESS, False),
    ("egressDeny", Direction.EGRESS, True),
)
_PEER_FIELDS = {
    Direction.INGRESS: ("fromEndpoints", "fromEntities", "fromCIDR", "fromCIDRSet", "fromNodes", "fromGroups"),
    Direction.EGRESS: (
        "toEndpoints",
        "toEntities",
        "toCIDR",
        "toCIDRSet",
        "toNodes",
        "toGroups",
        "toServices",
        "toFQDNs",
    ),
}
_UNSUPPORTED_PEERS = frozenset({"fromNodes", "toNodes", "fromGroups", "toGroups", "toServices", "toFQDNs"})
_UNSUPPORTED_BESIDE = frozenset({"fromRequires", "toRequires", "authentication"})
_UNSUPPORTED_IN_PORTS = frozenset({"rules", "serverNames", "listener", "terminatingTLS", "originatingTLS"})
_ICMP_TYPES = {"EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "EchoRequest": 8, "EchoReq": 8, "Echo": 8}
_END_PORT_SINCE = _DEFAULT_DENY_SINCE = (1, 16)


def read_policy(obj: Mapping[str, Any], dialect: Dialect) -> tuple[PolicySpec, ...]:
    """The rule sets of a policy object; one without a namespace is a CiliumClusterwideNetworkPolicy.

    Raises:
        PolicyError: the agent would not take it.
    """
    meta = obj["metadata"]
    namespace = str(meta.get("namespace") or "")
    name = "/".join(filter(None, ("cnp" if namespace else "ccnp", namespace, meta["name"])))
    specs = [*([obj["spec"]] if obj.get("spec") else []), *(obj.get("specs") or ())]
    if not specs:
        raise PolicyError(f"{name} has neither spec nor specs")
    try:
        return tuple(_Reader(name, namespace, dialect).read(spec) for spec in specs)
    except (SelectorError, TypeError, AttributeError, KeyError, ValueError) as error:
        raise PolicyError(f"{name} is not taken: {error}") from error


class _Reader:
    def __init__(self, name: str, namespace: str, dialect: Dialect) -> None:
        self._name = name
        self._namespace = namespace
        self._dialect = dialect
        self._notes: list[str] = []

    def read(self, spec: Mapping[str, Any]) -> PolicySpec:
        self._notes = []
        if "nodeSelector" in spec:
            self._notes.append(f"{self._name}: nodeSelector, which is about nodes, is not enforced by the lab")
        if "nodeSelector" not in spec and "endpointSelector" not in spec:
            raise PolicyError("it has no endpointSelector")
        rules, isolates = [], set()
        wanted = spec.get("enableDefaultDeny") or {} if self._dialect.version >= _DEFAULT_DENY_SINCE else {}
        for section, direction, deny in _SECTIONS:
            entries = spec.get(section) or ()
            if entries and wanted.get(direction.value) is not False:
                isolates.add(direction)
            for number, entry in enumerate(entries):
                rule = self._rule(entry, direction, deny, f"{self._name}/{section}/{number}")
                rules += [rule] if rule is not None else []
        if "nodeSelector" in spec:
            rules, isolates = [], set()
        subject = self._subject(spec.get("endpointSelector") or {})
        return PolicySpec(self._name, subject, tuple(rules), frozenset(isolates), tuple(self._notes))

    def _subject(self, selector: Mapping[str, Any]) -> Selector:
        """A policy of a namespace is about that namespace, whatever it says."""
        found = read_selector(selector)
        return (
            found.without(NAMESPACE_KEY).also(has_value(NAMESPACE_KEY, self._namespace)) if self._namespace else found
        )

    def _rule(self, entry: Mapping[str, Any], direction: Direction, deny: bool, name: str) -> PolicyRule | None:
        """The rule; none for `{}`, which isolates and lets nobody in."""
        peers = self._peers(entry, direction, name)
        ports, icmp_types = self._ports(entry, name), self._icmp_types(entry)
        self._note_fields(name, entry, _UNSUPPORTED_BESIDE)
        if ports is not None and icmp_types is not None:
            raise PolicyError(f"{name} has both toPorts and icmps")
        if peers is None and ports is None and icmp_types is None:
            return None
        return PolicyRule(direction, deny, peers, ports, icmp_types, name)

    def _peers(self, entry: Mapping[str, Any], direction: Direction, name: str) -> tuple[Peer, ...] | None:
        """Peers of the one kind that is there; a list without any is nobody, and no list at all is anybody."""
        fields = [field for field in _PEER_FIELDS[direction] if entry.get(field) is not None]
        if sum(bool(entry[field]) for field in fields) > 1:
            raise PolicyError(f"{name} has peers of several kinds: {', '.join(fields)}")
        if not fields:
            return None
        found: list[Peer] = []
        for field in fields:
            kind = field.removeprefix("from").removeprefix("to")
            for each in entry[field]:
                if field in _UNSUPPORTED_PEERS:
                    self._notes.append(f"{name}: {field} is not known to the lab's agents: nobody is let through by it")
                elif kind == "Endpoints":
                    found.append(self._peer_selector(each))
                elif kind == "Entities":
                    found.append(_entity(each, name))
                else:
                    found += self._networks(each, name)
        return tuple(found)

    def _peer_selector(self, selector: Mapping[str, Any]) -> Selector:
        """With the namespace and the cluster that it does not name, and is understood to mean."""
        found = read_selector(selector)
        if found.is_reserved:
            return found
        of_namespace = found.names(NAMESPACE_KEY) or found.names_any(NAMESPACE_LABELS)
        if not of_namespace:
            found = found.also(has_value(NAMESPACE_KEY, self._namespace) if self._namespace else exists(NAMESPACE_KEY))
        return in_cluster(found, self._dialect)

    def _networks(self, each: Any, name: str) -> Iterator[Networks]:
        if isinstance(each, str):
            each = {"cidr": each if "/" in each else f"{each}/32"}
        if "cidr" not in each:
            self._notes.append(f"{name}: groups of networks are not known to the lab's agents: they hold nothing")
            return
        if ":" in each["cidr"]:
            return  # the lab has no IPv6
        network = IPv4Network(each["cidr"], strict=False)
        without = tuple(IPv4Network(part, strict=False) for part in each.get("except") or ())
        if not all(part.subnet_of(network) for part in without):
            raise PolicyError(f"{name} leaves out of {network} what is not in it")
        yield Networks(network, without)

    def _ports(self, entry: Mapping[str, Any], name: str) -> tuple[Port, ...] | None:
        if not entry.get("toPorts"):
            return None
        found: list[Port] = []
        for group in entry["toPorts"]:
            self._note_fields(name, group, _UNSUPPORTED_IN_PORTS)
            if len(group.get("ports") or ()) > _MOST_PORTS:
                raise PolicyError(f"{name} has more than {_MOST_PORTS} ports")
            for row in group.get("ports") or ():
                found += _port(row, self._dialect, name)
        return tuple(found)

    def _icmp_types(self, entry: Mapping[str, Any]) -> tuple[int, ...] | None:
        if not entry.get("icmps"):
            return None
        fields = [field for group in entry["icmps"] for field in group.get("fields") or ()]
        types = [field["type"] for field in fields if field.get("family", "IPv4") == "IPv4"]
        return tuple(_ICMP_TYPES[each] if each in _ICMP_TYPES else int(each) for each in types)

    def _note_fields(self, name: str, entry: Mapping[str, Any], unsupported: frozenset[str]) -> None:
        for field in sorted(unsupported & {field for field, value in entry.items() if value}):
            self._notes.append(f"{name}: {field} is not enforced by the lab's agents, the rest of the rule is")


def in_cluster(selector: Selector, dialect: Dialect) -> Selector:
    """A selector of peers with the own cluster, where that is meant by those that name none."""
    if not dialect.local_cluster or selector.names(CLUSTER_KEY):
        return selector
    return selector.also(has_value(CLUSTER_KEY, dialect.cluster))


def _entity(name: Any, rule: str) -> Entity:
    if name not in ENTITIES:
        raise PolicyError(f"{rule}: there is no entity {name!r}")
    return Entity(name)


def _port(row: Mapping[str, Any], dialect: Dialect, name: str) -> Iterator[Port]:
    protocol = str(row.get("protocol") or "ANY").lower()
    if protocol not in (*WITH_PORTS, "any"):
        raise PolicyError(f"{name}: there is no protocol {row['protocol']!r} with ports")
    text = str(row.get("port", 0))
    for each in WITH_PORTS if protocol == "any" else (protocol,):
        if not text.isdigit():
            yield Port(each, name=text)
            continue
        first = int(text)
        last = int(row.get("endPort") or 0) if dialect.version >= _END_PORT_SINCE else 0
        if not 0 <= first <= 65535 or (last and not first <= last <= 65535):
            raise PolicyError(f"{name}: there are no ports {first} to {last or first}")
        yield Port(each, first, last or first)
