"""What Cilium's agents print, as data: `cilium-dbg` and `cilium-health` of the versions 1.14 to 1.19, JSON and text.

JSON leaves out what is zero, false or empty (Go's `omitempty`): a key that is missing is a zero, never unknown. Fields
that came or went between versions are None where a version does not tell them. Text is what there is where a command
cannot print JSON; it is read by the words in it and not by columns. Output that is neither raises `CiliumParseError`: a
guess is worse than no answer.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Any, TypeVar

CLUSTER_LABEL = "k8s:io.cilium.k8s.policy.cluster"
"""The label of an identity that names its cluster."""

IDENTITY_BITS = 16
"""An identity's number is its cluster's id, shifted by these, and a number of that cluster's own. Where 511 clusters
may be connected, it is one bit less."""

NOWHERE = IPv4Address("0.0.0.0")  # noqa: S104 - what Cilium prints for "no tunnel"

T = TypeVar("T")


class CiliumParseError(ValueError):
    """Output that is not what Cilium prints; the text says what is missing, and quotes a little of it."""


@dataclass(frozen=True)
class RemoteStatus:
    """An agent's connection to another cluster, as `status` tells it. See `analysis.facts.RemoteCluster`.

    Attributes:
        ready: connected, and the other cluster's settings were read where they must be. Does not imply `synced`.
        synced: nodes, endpoints, identities and services have all arrived once.
        cluster_id: what the other cluster says its id is; None as long as it has not been asked.
        status: the connection in the agent's words.
    """

    name: str
    connected: bool
    ready: bool
    synced: bool
    nodes: int
    endpoints: int
    identities: int
    failures: int
    cluster_id: int | None
    status: str


@dataclass(frozen=True)
class AgentStatus:
    """What an agent says of itself.

    Attributes:
        state: "Ok", "Warning", "Failure" or "Disabled".
        message: its own words behind that.
        version: "1.16.5", "" when the words do not begin with one.
        cluster: its cluster's name, "" for the default one, which goes without.
        node: its node's name.
        cluster_id: by the range of identities that it gives out; None where it does not tell it.
        identity_bits: how many bits of an identity are the cluster's own, by the same.
        routing: "tunnel" or "native"; None before 1.16.
        encapsulation: "vxlan" or "geneve"; None without tunnels, and before 1.16.
        masquerades: whether it rewrites the source of what leaves the cluster; None when it does not say.
        not_masqueraded: the destinations that keep their source address.
        failing: background tasks that fail, and probes of its own that have no news.
    """

    state: str
    message: str
    version: str
    cluster: str
    node: str
    cluster_id: int | None
    routing: str | None
    encapsulation: str | None
    masquerades: bool | None
    not_masqueraded: tuple[IPv4Network, ...]
    remotes: tuple[RemoteStatus, ...]
    failing: tuple[str, ...]
    identity_bits: int = IDENTITY_BITS


@dataclass(frozen=True)
class ListedNode:
    """A node that an agent knows of. `cluster` is "" for one of a cluster without a name."""

    cluster: str
    name: str
    address: IPv4Address | None
    pod_cidrs: tuple[IPv4Network, ...]


@dataclass(frozen=True)
class IpcacheEntry:
    """What an agent's data path knows of an address or prefix.

    Attributes:
        tunnel: the node that packets for it are sent to, encapsulated; None when they are not.
        cluster_id: of an address whose pod range is used in several clusters ("10.0.0.1/32@2"), else 0.
    """

    prefix: IPv4Network
    identity: int
    tunnel: IPv4Address | None
    cluster_id: int = 0


@dataclass(frozen=True)
class ListedIdentity:
    """An identity and the cluster that its labels name, None for reserved and node-local ones."""

    number: int
    cluster: str | None


@dataclass(frozen=True)
class ProbedNode:
    """A node as `cilium-health` found it. `problem` is "" for one that answers."""

    cluster: str
    name: str
    problem: str


@dataclass(frozen=True)
class ListedService:
    """A service in an agent's load balancer, and the addresses behind it."""

    namespace: str
    name: str
    backends: tuple[IPv4Address, ...]


@dataclass(frozen=True)
class StoreEntries:
    """How many entries of one kind in a store belong to one cluster.

    Attributes:
        owner: the cluster's name where the key or the value names it, else None.
        owner_id: the cluster's id where only that is told.
        cached: below `cilium/cache/`, or declared as a copy.
    """

    kind: str
    owner: str | None
    owner_id: int | None
    cached: bool
    entries: int


# --- status ---------------------------------------------------------------------------------------------------------


def parse_status(told: str) -> AgentStatus:
    """`cilium-dbg status`, JSON or text. Raises CiliumParseError."""
    return _parse("status", told, _status_json, _status_text)


def _status_json(status: Any) -> AgentStatus:
    agent, routing = status["cilium"], status.get("routing") or {}
    masquerading = status.get("masquerading")
    cluster, _, node = ((status.get("cluster") or {}).get("self") or "").rpartition("/")
    given_out = status.get("identity-range") or {}
    cluster_id, bits = _identity_range(given_out.get("min-identity") or 0, given_out.get("max-identity") or 0)
    return AgentStatus(
        state=agent.get("state") or "",
        message=agent.get("msg") or "",
        version=_version_of(agent.get("msg") or ""),
        cluster=cluster,
        node=node,
        cluster_id=cluster_id,
        routing=(routing.get("inter-host-routing-mode") or "").lower() or None,
        encapsulation=routing.get("tunnel-protocol") or None,
        masquerades=None if masquerading is None else _masquerades(masquerading),
        not_masqueraded=_networks([(masquerading or {}).get("snat-exclusion-cidr-v4") or ""]),
        remotes=tuple(_remote(one) for one in (status.get("cluster-mesh") or {}).get("clusters") or ()),
        failing=(*_failing_controllers(status.get("controllers") or ()), *_stale(status)),
        identity_bits=bits,
    )


def _identity_range(lowest: int, highest: int) -> tuple[int | None, int]:
    """The cluster id and the bits of its own numbers; without an id, the first 256 numbers are not given out."""
    size = highest + 1 - lowest
    if lowest == 0 or size & (size - 1):
        return (0 if lowest == 256 else None), IDENTITY_BITS
    return lowest // size, size.bit_length() - 1


def _masquerades(masquerading: Mapping[str, Any]) -> bool:
    protocols = masquerading.get("enabledProtocols")
    return bool(masquerading.get("enabled")) and (protocols is None or bool(protocols.get("ipv4")))


def _remote(found: Mapping[str, Any]) -> RemoteStatus:
    config, synced = found.get("config") or {}, found.get("synced") or {}
    return RemoteStatus(
        name=found["name"],
        connected=bool(found.get("connected")),
        ready=bool(found.get("ready")),
        synced=all(synced.get(kind) for kind in ("nodes", "endpoints", "identities", "services")),
        nodes=found.get("num-nodes") or 0,
        endpoints=found.get("num-endpoints") or 0,
        identities=found.get("num-identities") or 0,
        failures=found.get("num-failures") or 0,
        cluster_id=config.get("cluster-id") or 0 if config.get("retrieved") else None,
        status=found.get("status") or "",
    )


def _failing_controllers(controllers: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for controller in controllers:
        status = controller.get("status") or {}
        if status.get("consecutive-failure-count"):
            yield f"{controller.get('name')}: {status.get('last-failure-msg') or 'fails'}"


def _stale(status: Mapping[str, Any]) -> Iterable[str]:
    return (f"stale: {name}" for name in sorted(status.get("stale") or ()))


def _status_text(told: str) -> AgentStatus:
    lines = _labelled_lines(told)
    if "Cilium" not in lines:
        raise KeyError("a line 'Cilium:'")
    state, _, message = lines["Cilium"].partition(" ")
    message = message.strip()
    routing = re.search(r"Network:\s*(\w+)(?:\s*\[(\w+)\])?", lines.get("Routing", ""))
    masquerading = lines.get("Masquerading")
    excluded = re.search(r"\]\s+([0-9./]+)\s", f"{masquerading or ''} ")
    given_out = re.findall(r"\d+", lines.get("Global Identity Range", ""))
    cluster_id, bits = _identity_range(*map(int, given_out)) if len(given_out) == 2 else (None, IDENTITY_BITS)
    return AgentStatus(
        state=state,
        message=message,
        version=_version_of(message),
        cluster="",
        node="",
        cluster_id=cluster_id,
        routing=routing[1].lower() if routing else None,
        encapsulation=routing[2] if routing else None,
        masquerades=None
        if masquerading is None
        else not masquerading.startswith("Disabled") and "IPv4: Disabled" not in masquerading,
        not_masqueraded=_networks([excluded[1]] if excluded else []),
        remotes=tuple(_remote_texts(told)),
        failing=(),
        identity_bits=bits,
    )


def _labelled_lines(told: str) -> dict[str, str]:
    """The lines "Label:   words" that are not indented."""
    found = (re.match(r"(\S[^:]*):\s+(.*)$", line) for line in told.splitlines())
    return {match[1]: match[2].rstrip() for match in found if match}


_REMOTE_LINE = re.compile(
    r"^\s+(?P<name>\S+): (?P<ready>ready|not-ready), (?P<nodes>\d+) nodes, (?P<endpoints>\d+) endpoints, "
    r"(?P<identities>\d+) identities, \d+ services,.*? (?P<failures>\d+) (?:failures|reconnections)"
)


def _remote_texts(told: str) -> Iterator[RemoteStatus]:
    """The lines about each remote cluster: one with numbers, and below it its connection, settings and progress."""
    groups: list[tuple[re.Match[str], list[str]]] = []
    for line in told.splitlines():
        if match := _REMOTE_LINE.match(line):
            groups.append((match, []))
        elif groups and re.match(r"^\s+└", line):
            groups[-1][1].append(line.split("└", 1)[1].strip())
    for head, details in groups:
        config = next((line for line in details if line.startswith("remote configuration:")), "")
        progress = next((line for line in details if line.startswith("synchronization status:")), "")
        status = next((line for line in details if line not in (config, progress)), "")
        cluster_id = re.search(r"cluster-id=(\d+)", config)
        synced = dict(re.findall(r"(\w+)=(true|false)", progress))
        yield RemoteStatus(
            name=head["name"],
            connected=head["ready"] == "ready" or bool(re.search(r"\b[1-9]\d*/\d+ connected", status)),
            ready=head["ready"] == "ready",
            synced=all(synced.get(kind) == "true" for kind in ("nodes", "endpoints", "identities", "services")),
            nodes=int(head["nodes"]),
            endpoints=int(head["endpoints"]),
            identities=int(head["identities"]),
            failures=int(head["failures"]),
            cluster_id=int(cluster_id[1]) if cluster_id and "retrieved=true" in config else None,
            status=status,
        )


# --- version --------------------------------------------------------------------------------------------------------


def parse_version(told: str) -> str:
    """The daemon's version by `cilium-dbg version`, JSON or text; the client's where the daemon does not respond.

    Raises:
        CiliumParseError: neither is there.
    """

    def read(answer: Any) -> str:
        parts = (answer.get("Daemon") or {}, answer.get("Client") or {})
        return next(filter(None, (_version_of(part.get("Version") or "") for part in parts)))

    def read_text(text: str) -> str:
        lines = _labelled_lines(text)
        return next(filter(None, (_version_of(lines.get(who, "")) for who in ("Daemon", "Client"))))

    return _parse("version", told, read, read_text)


def _version_of(words: str) -> str:
    match = re.match(r"v?(\d+\.\d+\.\d+(?:-[\w.]+)?)", words)
    return match[1] if match else ""


# --- nodes, tunnels, addresses, identities -------------------------------------------------------------------------


def parse_nodes(told: str) -> tuple[ListedNode, ...]:
    """`cilium-dbg node list`, JSON or text. Raises CiliumParseError."""
    return _parse("node list", told, _nodes_json, _nodes_text)


def _nodes_json(nodes: Any) -> tuple[ListedNode, ...]:
    return tuple(
        _listed_node(one["name"], address.get("ip"), [address.get("alloc-range") or ""])
        for one in nodes or ()
        for address in ((one.get("primary-address") or {}).get("ipv4") or {},)
    )


def _nodes_text(told: str) -> tuple[ListedNode, ...]:
    rows = _rows(told, "Name", "IPv4 Address")
    return tuple(_listed_node(words[0], words[1] if len(words) > 1 else None, words[2:3]) for words in rows)


def _listed_node(full_name: str, address: str | None, cidrs: list[str]) -> ListedNode:
    cluster, _, name = full_name.rpartition("/")
    return ListedNode(cluster, name, _address(address), _networks(cidrs))


def parse_tunnels(told: str) -> dict[IPv4Address, IPv4Address]:
    """`cilium-dbg bpf tunnel list` (up to 1.17), JSON or text: the first address of a block, and its tunnel endpoint.

    The map has no prefix lengths: they are those of the nodes' blocks.

    Raises:
        CiliumParseError: it is something else.
    """

    def read(entries: Any) -> dict[IPv4Address, IPv4Address]:
        pairs = ((key, values[0]) for key, values in (entries or {}).items() if values)
        return dict(_tunnel(key, value) for key, value in pairs if ":" not in key.split("/")[0])

    def read_text(text: str) -> dict[IPv4Address, IPv4Address]:
        return dict(_tunnel(words[0], words[1]) for words in _rows(text, "TUNNEL", "VALUE"))

    return _parse("bpf tunnel list", told, read, read_text)


def _tunnel(key: str, value: str) -> tuple[IPv4Address, IPv4Address]:
    """The key may carry ":0" or a length, the value a port or key."""
    return IPv4Address(re.split(r"[:/]", key)[0]), IPv4Address(value.split()[0].split(":")[0])


def parse_ipcache(told: str) -> tuple[IpcacheEntry, ...]:
    """`cilium-dbg bpf ipcache list`, JSON or text; IPv6 is left out. Raises CiliumParseError."""

    def read(entries: Any) -> tuple[IpcacheEntry, ...]:
        found = (_ipcache_entry(key, " ".join(values)) for key, values in (entries or {}).items())
        return tuple(entry for entry in found if entry)

    def read_text(text: str) -> tuple[IpcacheEntry, ...]:
        found = (_ipcache_entry(words[0], " ".join(words[1:])) for words in _rows(text, "IP", "IDENTITY"))
        return tuple(entry for entry in found if entry)

    return _parse("bpf ipcache list", told, read, read_text)


def _ipcache_entry(key: str, value: str) -> IpcacheEntry | None:
    prefix, _, cluster_id = key.partition("@")
    if ":" in prefix:
        return None
    fields = dict(re.findall(r"(\w+)=([^\s,]+)", value))
    tunnel = IPv4Address(fields["tunnelendpoint"]) if "." in fields.get("tunnelendpoint", "") else NOWHERE
    return IpcacheEntry(
        IPv4Network(prefix), int(fields["identity"]), None if tunnel == NOWHERE else tunnel, int(cluster_id or 0)
    )


def parse_identities(told: str) -> tuple[ListedIdentity, ...]:
    """`cilium-dbg identity list`, JSON or text. Raises CiliumParseError."""

    def read(identities: Any) -> tuple[ListedIdentity, ...]:
        return tuple(ListedIdentity(int(one["id"]), cluster_of(one.get("labels") or ())) for one in identities or ())

    def read_text(text: str) -> tuple[ListedIdentity, ...]:
        labels: dict[int, list[str]] = {}
        number = None
        for words in _rows(text, "ID", "LABELS"):
            if words[0].isdigit():
                number = int(words.pop(0))
                labels[number] = []
            if number is not None:
                labels[number] += words
        return tuple(ListedIdentity(number, cluster_of(found)) for number, found in labels.items())

    return _parse("identity list", told, read, read_text)


def cluster_of(labels: Iterable[str]) -> str | None:
    """The cluster that an identity's labels name."""
    return next((value for key, _, value in (label.partition("=") for label in labels) if key == CLUSTER_LABEL), None)


# --- health ---------------------------------------------------------------------------------------------------------


def parse_health(told: str) -> tuple[ProbedNode, ...]:
    """`cilium-health status`, JSON or text (`--verbose`). Raises CiliumParseError.

    A node is well when each of its addresses, and its health endpoint where it has one, answers at least one way.
    """
    return _parse("cilium-health status", told, _health_json, _health_text)


def _health_json(report: Any) -> tuple[ProbedNode, ...]:
    if not report.keys() & {"local", "nodes"}:
        raise KeyError("nodes")
    return tuple(_probed(one["name"], _paths(one)) for one in report.get("nodes") or ())


def _paths(node: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Each address that is probed, in words, with the error of each way; "" for an answer."""
    endpoint = node.get("health-endpoint") or node.get("endpoint") or {}
    host = node.get("host") or {}
    for what, path in (
        ("node", host.get("primary-address")),
        *(("node", path) for path in host.get("secondary-addresses") or ()),
        ("health endpoint", endpoint.get("primary-address") or (endpoint if "ip" in endpoint else None)),
    ):
        if path:
            ways = [path[way].get("status") or "" for way in ("icmp", "http") if path.get(way) is not None]
            yield f"{what} {path.get('ip', '')}", ways


def _probed(full_name: str, paths: Iterable[tuple[str, list[str]]]) -> ProbedNode:
    cluster, _, name = full_name.rpartition("/")
    problems = [f"{what}: {'; '.join(ways) or 'not probed yet'}" for what, ways in paths if all(ways)]
    return ProbedNode(cluster, name, ", ".join(problems))


_HEALTH_HOST = re.compile(r"^  (\S+)(?: \(localhost\))?:\s*$")
_HEALTH_WAY = re.compile(r"^\s+(ICMP to stack|HTTP to agent):\s*(.*?)\s*$")


def _health_text(told: str) -> tuple[ProbedNode, ...]:
    nodes: list[tuple[str, list[tuple[str, list[str]]]]] = []
    for line in told.splitlines():
        if match := _HEALTH_HOST.match(line):
            nodes.append((match[1], []))
        elif nodes and (match := re.match(r"^\s+(Host|Endpoint) connectivity to (\S+):", line)):
            nodes[-1][1].append((f"{'node' if match[1] == 'Host' else 'health endpoint'} {match[2]}", []))
        elif nodes and nodes[-1][1] and (match := _HEALTH_WAY.match(line)):
            nodes[-1][1][-1][1].append("" if match[2].startswith("OK") else match[2])
    if not nodes and "Probe time" not in told:
        raise KeyError("a line 'Probe time:'")
    return tuple(_probed(name, paths) for name, paths in nodes)


# --- services -------------------------------------------------------------------------------------------------------


def parse_services(told: str) -> tuple[ListedService, ...]:
    """`cilium-dbg service list`, JSON only: its text does not name services. Raises CiliumParseError."""

    def read(services: Any) -> tuple[ListedService, ...]:
        found = []
        for one in services or ():
            spec = one.get("spec") or {}
            flags = spec.get("flags") or {}
            addresses = (_address(backend.get("ip")) for backend in spec.get("backend-addresses") or ())
            found.append(
                ListedService(flags.get("namespace") or "", flags.get("name") or "", tuple(filter(None, addresses)))
            )
        return tuple(found)

    return _parse("service list", told, read, lambda _text: _fail("JSON"))


# --- the store ------------------------------------------------------------------------------------------------------


def count_store(told: str, identity_bits: int = IDENTITY_BITS) -> tuple[StoreEntries, ...]:
    """`cilium-dbg kvstore get --recursive cilium/`, JSON or text, as counts: no key or value is kept.

    Args:
        told: the output.
        identity_bits: how many bits of an identity are its cluster's own.

    Raises:
        CiliumParseError: it is something else.
    """

    def read(entries: Any) -> tuple[StoreEntries, ...]:
        return _count(((key, _decoded(entry)) for key, entry in (entries or {}).items()), identity_bits)

    def read_text(text: str) -> tuple[StoreEntries, ...]:
        lines = (line.partition(" => ") for line in text.splitlines() if line.strip())
        pairs = ((key, value if arrow else _fail("'key => value'")) for key, arrow, value in lines)
        return _count(pairs, identity_bits)

    return _parse("kvstore get", told, read, read_text)


def _decoded(entry: Any) -> str:
    data = entry.get("Data") if isinstance(entry, dict) else entry
    return base64.b64decode(data or "").decode("utf-8", "replace")


def _count(pairs: Iterable[tuple[str, str]], bits: int) -> tuple[StoreEntries, ...]:
    counted = Counter(found for key, value in pairs if (found := _owner(key.strip("/").split("/"), value, bits)))
    return tuple(StoreEntries(*found, entries) for found, entries in sorted(counted.items(), key=str))


def _owner(key: list[str], value: str, bits: int) -> tuple[str, str | None, int | None, bool] | None:
    """Kind, owner by name, owner by id, and whether it is a copy; None for keys that belong to nobody."""
    match key:
        case ["cilium", "cluster-config", cluster]:
            return "cluster-config", cluster, None, bool(_json_of(value).get("cached"))
        case ["cilium", "synced", cluster, *_]:
            return "synced", cluster, None, False
        case ["cilium", "cache", kind, _, cluster, *_]:
            return kind, cluster, None, True
        case ["cilium", "state", ("nodes" | "services") as kind, _, cluster, *_]:
            return kind, cluster, None, False
        case ["cilium", "state", "ip", _, _, *_]:
            return "ip", None, int(_json_of(value).get("ID") or 0) >> bits, False
        case ["cilium", "state", "identities", _, "id", number]:
            named = cluster_of(value.split(";"))
            return "identities", named, None if named else int(number) >> bits, False
        case ["cilium", "state", kind, *_]:
            return kind, None, None, False
        case _:
            return None


def _json_of(value: str) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# --- shared ---------------------------------------------------------------------------------------------------------


def _parse(what: str, told: str, read_json: Callable[[Any], T], read_text: Callable[[str], T]) -> T:
    """Read JSON where there is any, else text; whatever goes wrong is a CiliumParseError."""
    text = told.strip()
    try:
        if not text:
            raise KeyError("any output")
        if text[0] in "{[" or text == "null":
            return read_json(json.loads(text))
        return read_text(told)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, binascii.Error) as error:
        raise CiliumParseError(f"{what}: not understood ({type(error).__name__}: {error}): {text[:120]!r}") from error


def _rows(told: str, *headings: str) -> Iterator[list[str]]:
    """The words of each line below the one with these headings. Raises KeyError without such a line."""
    lines = iter(told.splitlines())
    for line in lines:
        if all(heading in line for heading in headings):
            break
    else:
        raise KeyError(f"the headings {' '.join(headings)}")
    yield from (line.split() for line in lines if line.strip())


def _fail(wanted: str) -> Any:
    raise KeyError(wanted)


def _address(text: str | None) -> IPv4Address | None:
    try:
        return IPv4Address(text) if text else None
    except AddressValueError:
        return None


def _networks(texts: Iterable[str]) -> tuple[IPv4Network, ...]:
    """The IPv4 prefixes among these words."""
    found = []
    for text in texts:
        try:
            found.append(IPv4Network(text, strict=False))
        except (AddressValueError, NetmaskValueError):
            continue
    return tuple(found)
