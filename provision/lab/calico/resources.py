"""Calico's objects as typed values, defaults filled in as Calico's own clients do (raw `crd.` objects carry none).

A field that Calico would refuse raises `BadObjectError`; whoever watches then leaves that one object out, as a
component that meets an invalid object does.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, TypeVar

from provision.lab.calico.selector import Predicate, parse_selector
from provision.lab.kube.objects import KubeObject, Resource
from provision.lab.topology import VXLAN_VNI

GROUP = "crd.projectcalico.org"
DEFAULT_AS = 64512
DEFAULT_BLOCK_SIZE = 26
ADDRESS_ANNOTATION = "projectcalico.org/IPv4Address"
AS_ANNOTATION = "projectcalico.org/ASNumber"
REFLECTOR_ANNOTATION = "projectcalico.org/RouteReflectorClusterID"
TUNNEL_ADDRESS_ANNOTATION = "projectcalico.org/IPv4VXLANTunnelAddr"
TUNNEL_MAC_ANNOTATION = "projectcalico.org/VXLANTunnelMACAddr"


def _resource(plural: str, kind: str) -> Resource:
    return Resource(GROUP, "v1", plural, kind, namespaced=False)


BGP_CONFIGURATIONS = _resource("bgpconfigurations", "BGPConfiguration")
BGP_PEERS = _resource("bgppeers", "BGPPeer")
BLOCK_AFFINITIES = _resource("blockaffinities", "BlockAffinity")
FELIX_CONFIGURATIONS = _resource("felixconfigurations", "FelixConfiguration")
IPAM_BLOCKS = _resource("ipamblocks", "IPAMBlock")
IP_POOLS = _resource("ippools", "IPPool")
REMOTE_CLUSTERS = _resource("remoteclusterconfigurations", "RemoteClusterConfiguration")


class BadObjectError(ValueError):
    """An object that cannot be understood; the message names it and the reason."""


@dataclass(frozen=True)
class CalicoNode:
    """What Calico knows of a node, from the core Node's labels and annotations.

    Attributes:
        address: the node's address with the prefix length of its subnet.
        as_number: the node's own AS, None for the cluster's.
        reflector_cluster_id: set on route reflectors.
        tunnel_address: address of its VXLAN device, the tunnel endpoint.
        tunnel_mac: MAC of that device.
    """

    name: str
    address: IPv4Interface
    labels: tuple[tuple[str, str], ...]
    as_number: int | None
    reflector_cluster_id: str | None
    tunnel_address: IPv4Address | None
    tunnel_mac: str | None

    def matches(self, selects: Predicate) -> bool:
        """Whether the selector chooses this node."""
        return selects(dict(self.labels))


@dataclass(frozen=True)
class IpPool:
    """A pool. `disabled` ones give no addresses but count in every other respect.

    `vxlan_mode` is "Never", "Always" or "CrossSubnet".
    """

    name: str
    cidr: IPv4Network
    disabled: bool
    nat_outgoing: bool
    disable_bgp_export: bool
    vxlan_mode: str
    block_size: int
    node_selector: str


@dataclass(frozen=True)
class BgpConfiguration:
    """The cluster's BGP defaults."""

    as_number: int = DEFAULT_AS
    node_mesh: bool = True
    service_cidrs: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True)
class SecretKey:
    """A value of a Secret in calico-node's namespace."""

    name: str
    key: str


@dataclass(frozen=True)
class BgpPeer:
    """A peering. Both `node` and `node_selector` None: every node. Either `peer_ip` or `peer_selector` is set.

    `password` says where the key that signs the session's TCP segments (RFC 2385) is kept.
    """

    name: str
    node: str | None
    node_selector: str | None
    peer_ip: IPv4Address | None
    peer_selector: str | None
    as_number: int | None
    keep_next_hop: bool
    password: SecretKey | None = None


@dataclass(frozen=True)
class FelixConfiguration:
    """The data plane's settings that matter between nodes.

    Attributes:
        vxlan_mtu: of the tunnel device, and of pods with it; 0 for what the node's own device leaves room for.
    """

    external_nodes: tuple[IPv4Network, ...] = ()
    vxlan_vni: int = VXLAN_VNI
    vxlan_mtu: int = 0


@dataclass(frozen=True)
class BlockAffinity:
    """A node's claim on a block of addresses."""

    name: str
    node: str
    cidr: IPv4Network


@dataclass(frozen=True)
class CalicoCluster:
    """Everything that one cluster's API server says to Calico, at one moment; of passwords only those it may use."""

    nodes: tuple[CalicoNode, ...] = ()
    pools: tuple[IpPool, ...] = ()
    bgp: BgpConfiguration = BgpConfiguration()
    peers: tuple[BgpPeer, ...] = ()
    blocks: tuple[BlockAffinity, ...] = ()
    felix: FelixConfiguration = FelixConfiguration()
    passwords: tuple[tuple[SecretKey, str], ...] = field(default=(), repr=False)


Value = TypeVar("Value")


def read_node(obj: KubeObject) -> CalicoNode:
    """The Calico side of a core Node. Raises BadObjectError when it has no usable address annotation."""
    with naming(obj):
        notes = obj["metadata"].get("annotations") or {}
        own_as, tunnel = notes.get(AS_ANNOTATION), notes.get(TUNNEL_ADDRESS_ANNOTATION)
        return CalicoNode(
            name=obj["metadata"]["name"],
            address=IPv4Interface(notes[ADDRESS_ANNOTATION]),
            labels=tuple((obj["metadata"].get("labels") or {}).items()),
            as_number=int(own_as) if own_as else None,
            reflector_cluster_id=notes.get(REFLECTOR_ANNOTATION) or None,
            tunnel_address=IPv4Address(tunnel) if tunnel else None,
            tunnel_mac=notes.get(TUNNEL_MAC_ANNOTATION) or None,
        )


def read_pool(obj: KubeObject) -> IpPool:
    """An IPPool. Raises BadObjectError."""
    with naming(obj):
        spec = obj["spec"]
        return IpPool(
            name=obj["metadata"]["name"],
            cidr=IPv4Network(spec["cidr"]),
            disabled=bool(spec.get("disabled", False)),
            nat_outgoing=bool(spec.get("natOutgoing", False)),
            disable_bgp_export=bool(spec.get("disableBGPExport", False)),
            vxlan_mode=spec.get("vxlanMode") or "Never",
            block_size=int(spec.get("blockSize") or DEFAULT_BLOCK_SIZE),
            node_selector=_selector(spec.get("nodeSelector") or "all()"),
        )


def read_bgp_configuration(obj: KubeObject) -> BgpConfiguration:
    """A BGPConfiguration. Raises BadObjectError."""
    with naming(obj):
        spec = obj.get("spec") or {}
        return BgpConfiguration(
            as_number=int(spec.get("asNumber") or DEFAULT_AS),
            node_mesh=spec.get("nodeToNodeMeshEnabled", True) is not False,
            service_cidrs=tuple(IPv4Network(entry["cidr"]) for entry in spec.get("serviceClusterIPs") or ()),
        )


def read_bgp_peer(obj: KubeObject) -> BgpPeer:
    """A BGPPeer. A port in `peerIP` is not supported by the lab and makes it a bad object. Raises BadObjectError."""
    with naming(obj):
        spec = obj["spec"]
        peer_ip, peer_selector = spec.get("peerIP"), spec.get("peerSelector")
        if bool(peer_ip) == bool(peer_selector):
            raise ValueError("exactly one of peerIP and peerSelector must be given")
        node_selector = spec.get("nodeSelector")
        return BgpPeer(
            name=obj["metadata"]["name"],
            node=spec.get("node") or None,
            node_selector=_selector(node_selector) if node_selector else None,
            peer_ip=IPv4Address(peer_ip) if peer_ip else None,
            peer_selector=_selector(peer_selector) if peer_selector else None,
            as_number=int(spec["asNumber"]) if spec.get("asNumber") else None,
            keep_next_hop=bool(spec.get("keepOriginalNextHop", False)) or spec.get("nextHopMode") == "Keep",
            password=_secret_key(spec.get("password")),
        )


def read_passwords(secret: KubeObject) -> tuple[tuple[SecretKey, str], ...]:
    """Every value of a Secret, with the key that BGPPeers name it by. Raises BadObjectError."""
    with naming(secret):
        name, data = secret["metadata"]["name"], secret.get("data") or {}
        values = {key: b64decode(data[key]).decode().strip() for key in sorted(data)}
        for key, value in values.items():
            if '"' in value or not value.isprintable():
                raise ValueError(f"{key} cannot be a BGP password: it has a quotation mark or a control character")
        return tuple((SecretKey(name, key), value) for key, value in values.items())


def read_felix_configuration(obj: KubeObject) -> FelixConfiguration:
    """A FelixConfiguration. Raises BadObjectError."""
    with naming(obj):
        spec = obj.get("spec") or {}
        return FelixConfiguration(
            external_nodes=tuple(IPv4Network(entry, strict=False) for entry in spec.get("externalNodesList") or ()),
            vxlan_vni=int(spec.get("vxlanVNI", VXLAN_VNI)),
            vxlan_mtu=int(spec.get("vxlanMTU") or 0),
        )


def read_block_affinity(obj: KubeObject) -> BlockAffinity | None:
    """A confirmed BlockAffinity; None for one that is pending or about to go. Raises BadObjectError."""
    with naming(obj):
        spec = obj["spec"]
        # `deleted` is the text "true" or "false" in v1.
        if spec.get("state") not in (None, "", "confirmed") or str(spec.get("deleted", "false")).lower() == "true":
            return None
        return BlockAffinity(name=obj["metadata"]["name"], node=spec["node"], cidr=IPv4Network(spec["cidr"]))


def read_all(
    read: Callable[[KubeObject], Value | None],
    objects: Iterable[KubeObject],
    on_error: Callable[[BadObjectError], Any],
) -> tuple[Value, ...]:
    """The objects as values, sorted by name; those that cannot be understood go to `on_error` and are left out."""
    values = []
    for obj in sorted(objects, key=lambda each: str(each["metadata"]["name"])):
        try:
            value = read(obj)
        except BadObjectError as error:
            on_error(error)
            continue
        if value is not None:
            values.append(value)
    return tuple(values)


def block_name(cidr: IPv4Network) -> str:
    """The name of the IPAMBlock of that range: "192-168-64-0-26"."""
    return str(cidr).replace(".", "-").replace("/", "-")


def _secret_key(password: KubeObject | None) -> SecretKey | None:
    reference = (password or {}).get("secretKeyRef")
    return SecretKey(reference["name"], reference["key"]) if reference else None


def _selector(text: str) -> str:
    """Check a selector where the object is read, so that nobody meets a broken one later."""
    parse_selector(text)
    return text


@contextmanager
def naming(obj: KubeObject) -> Iterator[None]:
    """Turn the errors of reading a field into one that names the object."""
    who = f"{obj.get('kind', 'object')}/{obj['metadata']['name']}"
    try:
        yield
    except KeyError as error:
        raise BadObjectError(f"{who}: {error.args[0]} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise BadObjectError(f"{who}: {error}") from error
