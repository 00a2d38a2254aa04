"""Pools and blocks of pod addresses: the pool in cilium-config, and the blocks that CiliumNode objects say."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv4Network

from analysis.facts import Addressing, Block, Gap, Pool
from probes.cilium import cilium_objects, config_map
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.permissions import CILIUM_CONFIG

POOL_KEY, SIZE_KEY = "cluster-pool-ipv4-cidr", "cluster-pool-ipv4-mask-size"
DEFAULT_BLOCK_SIZE = 24


def observe_addressing(mesh: Mesh, _probe_set: ProbeSet) -> Addressing:
    """Read cilium-config, the CiliumNodes and the CiliumEndpoints of every region."""
    pools: list[Pool] = []
    blocks: list[Block] = []
    gaps: list[Gap] = []
    for region, seen in mesh.each_region(_observe):
        if isinstance(seen, ProbeError):
            gaps.append(Gap(region, "pools and blocks", str(seen)))
            continue
        pools += seen.pools
        blocks += seen.blocks
        gaps += seen.gaps
    return Addressing(tuple(pools), tuple(blocks), tuple(gaps))


def _observe(cluster: Cluster) -> Addressing:
    gaps: list[Gap] = []
    pools: tuple[Pool, ...] = ()
    listed: dict[str, list[KubeObject]] = {"ciliumnodes": [], "ciliumendpoints": []}
    try:
        pools = read_pools(cluster.region, config_map(cluster, CILIUM_CONFIG))
    except ProbeError as error:
        gaps.append(Gap(cluster.region, CILIUM_CONFIG, str(error)))
    for plural in listed:
        try:
            listed[plural] = cilium_objects(cluster, plural)
        except ProbeError as error:
            gaps.append(Gap(cluster.region, plural, str(error)))
    blocks = read_blocks(cluster.region, listed["ciliumnodes"], listed["ciliumendpoints"])
    return Addressing(pools, blocks, tuple(gaps))


def read_pools(region: str, config: dict[str, str]) -> tuple[Pool, ...]:
    """The ranges that the operator takes nodes' blocks from; the way of sending is one for all."""
    encapsulation = encapsulation_of(config)
    return tuple(
        Pool(
            region=region,
            name=POOL_KEY,
            cidr=IPv4Network(text),
            disabled=False,
            nat_outgoing=config.get("enable-ipv4-masquerade", "true") == "true",
            encapsulation=encapsulation,
            encapsulation_mode="never" if encapsulation == "none" else "always",
            block_size=int(config.get(SIZE_KEY) or DEFAULT_BLOCK_SIZE),
        )
        for text in config.get(POOL_KEY, "").replace(",", " ").split()
        if ":" not in text
    )


def encapsulation_of(config: dict[str, str]) -> str:
    """How packets for pods go: "vxlan", "geneve" or "none". Up to 1.13 one key says it, two since."""
    if "tunnel" in config:
        return "none" if config["tunnel"] == "disabled" else config["tunnel"]
    return "none" if config.get("routing-mode", "tunnel") == "native" else config.get("tunnel-protocol") or "vxlan"


def read_blocks(region: str, nodes: list[KubeObject], endpoints: list[KubeObject]) -> tuple[Block, ...]:
    """The nodes' blocks with the addresses in use: of pods, and the node's own ones out of its block.

    A block of a node about which the operator complains (no block left, or one that another node has) is not confirmed.
    """
    used = [address for endpoint in endpoints for address in _endpoint_addresses(endpoint)]
    found: list[Block] = []
    for node in nodes:
        spec, status = node.get("spec") or {}, node.get("status") or {}
        problem = ((status.get("ipam") or {}).get("operator-status") or {}).get("error")
        own = [_address(item.get("ip")) for item in spec.get("addresses") or () if "Cilium" in item.get("type", "")]
        own.append(_address((spec.get("health") or {}).get("ipv4")))
        for text in (spec.get("ipam") or {}).get("podCIDRs") or ():
            if ":" in text:
                continue
            cidr = IPv4Network(text)
            inside = {address for address in (*own, *used) if address is not None and address in cidr}
            found.append(Block(region, cidr, node["metadata"]["name"], not problem, tuple(sorted(inside))))
    return tuple(found)


def _endpoint_addresses(endpoint: KubeObject) -> list[IPv4Address | None]:
    networking = (endpoint.get("status") or {}).get("networking") or {}
    return [_address(item.get("ipv4")) for item in networking.get("addressing") or ()]


def _address(text: str | None) -> IPv4Address | None:
    try:
        return IPv4Address(text) if text else None
    except AddressValueError:
        return None
