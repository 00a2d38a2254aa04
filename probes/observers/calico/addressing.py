"""Pools and blocks of pod addresses, from Calico's IPAM objects."""

from __future__ import annotations

from ipaddress import IPv4Network

from analysis.facts import Addressing, Block, Gap, Pool
from probes.calico import calico_group, calico_objects
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh

DEFAULT_BLOCK_SIZE = 26
MODES = {"Always": "always", "CrossSubnet": "cross-subnet", "Never": "never"}


def observe_addressing(mesh: Mesh, _probe_set: ProbeSet) -> Addressing:
    """Read the IPPools, IPAMBlocks and BlockAffinities of every region."""
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
    group = calico_group(cluster)
    gaps: list[Gap] = []
    listed: dict[str, list[KubeObject]] = {}
    for plural in ("ippools", "ipamblocks", "blockaffinities"):
        try:
            listed[plural] = calico_objects(cluster, group, plural)
        except ProbeError as error:
            gaps.append(Gap(cluster.region, plural, str(error)))
    pools = [pool for item in listed.get("ippools", ()) if (pool := read_pool(cluster.region, item))]
    blocks = read_blocks(cluster.region, listed.get("ipamblocks", []), listed.get("blockaffinities"))
    return Addressing(tuple(pools), blocks, tuple(gaps))


def read_pool(region: str, item: KubeObject) -> Pool | None:
    """An IPPool with its defaults filled in; None for IPv6."""
    spec = item["spec"]
    if ":" in spec["cidr"]:
        return None
    ipip, vxlan = spec.get("ipipMode") or "Never", spec.get("vxlanMode") or "Never"
    encapsulation, mode = (
        ("ipip", ipip) if ipip != "Never" else ("vxlan", vxlan) if vxlan != "Never" else ("none", "Never")
    )
    return Pool(
        region=region,
        name=item["metadata"]["name"],
        cidr=IPv4Network(spec["cidr"]),
        disabled=bool(spec.get("disabled")),
        nat_outgoing=bool(spec.get("natOutgoing")),
        encapsulation=encapsulation,
        encapsulation_mode=MODES.get(mode, mode),
        block_size=spec.get("blockSize") or DEFAULT_BLOCK_SIZE,
    )


def read_blocks(region: str, blocks: list[KubeObject], affinities: list[KubeObject] | None) -> tuple[Block, ...]:
    """Blocks and who owns them, by both objects that say so: an owner that only one of them names is not left out.

    Args:
        region: the cluster's.
        blocks: IPAMBlock objects.
        affinities: BlockAffinity objects; None when they could not be read, and no block is called unconfirmed then.
    """
    claims: dict[tuple[IPv4Network, str], bool] = {}
    for item in affinities or ():
        spec = item["spec"]
        if ":" not in spec["cidr"] and str(spec.get("deleted", "false")).lower() != "true":
            claims[IPv4Network(spec["cidr"]), spec["node"]] = spec.get("state") in (None, "", "confirmed")
    found: list[Block] = []
    for item in blocks:
        spec = item["spec"]
        if ":" in spec["cidr"] or spec.get("deleted"):
            continue
        cidr = IPv4Network(spec["cidr"])
        kind, _, owner = (spec.get("affinity") or "").partition(":")
        node = owner if kind == "host" else None
        confirmed = node is None or affinities is None or claims.pop((cidr, node), False)
        used = [place for place, holder in enumerate(spec.get("allocations") or ()) if holder is not None]
        found.append(Block(region, cidr, node, confirmed, tuple(cidr[place] for place in used)))
    found += (Block(region, cidr, node, confirmed) for (cidr, node), confirmed in claims.items())
    return tuple(found)
