"""NET-ADDR: is every address where the addressing plan wants it, and nowhere twice?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv4Network
from itertools import combinations

from analysis.facts import Addressing, Block, Inventory, MeshConfiguration, Network, Networks, Pool
from analysis.plan import Plan, RegionPlan
from analysis.prefixes import ADDRESS_BITS, PrefixTable, overlaps
from analysis.rootcause import Layer
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import count, gap_findings, listed, qualified, unseen_regions

SERVICE_ZONE = ".svc."
"""Part of every zone that belongs to services of a cluster."""

DNS_SERVICE = ("kube-system", "kube-dns")
"""Namespace and name of the Service that every distribution gives its cluster DNS."""


def judge_networks_disjoint(plan: Plan, networks: Networks) -> Verdict:
    """NET-ADDR-001: the networks of the regions share no address."""
    known = [(network.cidr, network.region) for network in networks.networks]
    return conclude(
        expected=f"the networks of the {len(plan.regions)} regions do not overlap",
        examined=len(list(combinations({region for _, region in known}, 2))),
        what="pairs of networks",
        violations=[
            Finding(
                f"the networks of {region} and {other}",
                "no address in common",
                f"{cidr} and {nested} overlap",
                "peering cannot route between networks that share addresses",
            )
            for (cidr, region), (nested, other) in overlaps(known)
        ],
        gaps=gap_findings(networks.gaps) + _unknown_networks(plan, networks),
    )


def judge_subnets_as_planned(plan: Plan, networks: Networks) -> Verdict:
    """NET-ADDR-002: subnets lie inside their network, and the planned node subnet is one of them.

    Where a region has further networks (NET-UNDR-001), only the one that is meant is looked at.
    """
    violations: list[Finding] = []
    warnings: list[str] = []
    examined = 0
    for region, network in _meant(plan, networks):
        where = f"the network of {network.region}"
        if region.network is not None and network.cidr != region.network:
            violations.append(Finding(where, str(region.network), str(network.cidr)))
        if region.node_cidr not in network.subnets:
            present = listed(network.subnets) or "no subnet at all"
            violations.append(Finding(where, f"the node subnet {region.node_cidr}", present))
        for subnet in network.subnets:
            examined += 1
            if not subnet.subnet_of(network.cidr):
                violations.append(Finding(f"subnet {subnet} of {network.region}", f"inside {network.cidr}", "outside"))
            elif subnet != region.node_cidr:
                warnings.append(f"{network.region} has a subnet that the plan does not mention: {subnet}")
    return conclude(
        expected="each region's network holds the node subnet of the plan, and its subnets lie inside it",
        examined=examined,
        what="subnets",
        violations=violations,
        gaps=gap_findings(networks.gaps) + _unknown_networks(plan, networks),
        warnings=warnings,
    )


def _meant(plan: Plan, networks: Networks) -> Iterator[tuple[RegionPlan, Network]]:
    """The network of each region: the planned one, else that which serves the nodes, else any."""
    for region in plan.regions:
        found = [network for network in networks.networks if network.region == region.name]
        found.sort(key=lambda network: (network.cidr != region.network, region.node_cidr not in network.subnets))
        yield from ((region, network) for network in found[:1])


def judge_pod_ranges_disjoint(plan: Plan, addressing: Addressing) -> Verdict:
    """NET-ADDR-003: the pools that clusters hand out addresses from share none."""
    pools = _enabled(plan, addressing)
    serving = {pool.region for pool in pools}
    return conclude(
        expected=f"the pod ranges of the {len(plan.regions)} clusters do not overlap",
        examined=len(list(combinations(serving, 2))),
        what="pairs of clusters",
        violations=[
            Finding(
                f"pool {pool.name} of {pool.region} and pool {other.name} of {other.region}",
                "no address in common",
                f"{pool.cidr} and {other.cidr} overlap",
                "both clusters can give the same address to different pods",
            )
            for (_, pool), (_, other) in overlaps((pool.cidr, pool) for pool in pools)
            if pool.region != other.region
        ],
        gaps=gap_findings(addressing.gaps) + unseen_regions(plan, serving, "an enabled pool of pod addresses"),
        remedy="disable or delete the pool that the plan does not give to its cluster",
    )


def judge_service_ranges(plan: Plan, configuration: MeshConfiguration) -> Verdict:
    """NET-ADDR-004: service ranges that are routed between clusters share no address.

    Where they are not routed, sharing is allowed and remarked on, and nothing may rely on a remote ClusterIP: no DNS
    server forwards to one.
    """
    pairs = [
        Finding(
            f"the service ranges of {region} and {other}",
            "no address in common",
            f"{cidr} and {nested} overlap",
            "one ClusterIP means two different services",
        )
        for (cidr, region), (nested, other) in overlaps(_service_ranges(plan, configuration))
        if region != other
    ]
    number = len(plan.regions)
    return conclude(
        expected=f"the service ranges of the {number} clusters, which are routed, do not overlap"
        if plan.services_routed
        else "service ranges, which are not routed, may overlap, and no DNS server forwards into another cluster's",
        examined=len(list(combinations(plan.regions, 2))),
        what="pairs of clusters",
        violations=pairs if plan.services_routed else _forwards_to_services(plan, configuration),
        gaps=gap_findings(configuration.gaps) + _unknown_identities(plan, configuration),
        warnings=() if plan.services_routed else [f"{pair.subject}: {pair.observed}" for pair in pairs],
    )


def judge_ranges_apart(plan: Plan, addressing: Addressing, configuration: MeshConfiguration) -> Verdict:
    """NET-ADDR-005: node, pod and service ranges of all clusters share no address.

    Service ranges that are not routed may be the same in several clusters (NET-ADDR-004).
    """
    observed = [(pool.cidr, (pool.region, "pod range")) for pool in _enabled(plan, addressing)]
    ranges = {
        *((region.node_cidr, (region.name, "node range")) for region in plan.regions),
        *((region.pod_cidr, (region.name, "pod range")) for region in plan.regions),
        *((cidr, (region, "service range")) for cidr, region in _service_ranges(plan, configuration)),
        *observed,
    }
    violations = []
    for (cidr, (region, kind)), (nested, (other, other_kind)) in overlaps(sorted(ranges)):
        if (region, kind) == (other, other_kind):
            continue
        if kind == other_kind == "service range" and not plan.services_routed:
            continue
        violations.append(
            Finding(
                f"the {kind} of {region} and the {other_kind} of {other}",
                "no address in common",
                f"{cidr} and {nested} overlap",
            )
        )
    return conclude(
        expected="node, pod and service ranges of all clusters do not overlap",
        examined=len(ranges),
        what="ranges",
        violations=violations,
        gaps=[
            *gap_findings([*addressing.gaps, *configuration.gaps]),
            *unseen_regions(plan, (pool.region for pool in addressing.pools), "pools"),
            *_unknown_identities(plan, configuration),
        ],
    )


def judge_pod_addresses(plan: Plan, inventory: Inventory) -> Verdict:
    """NET-ADDR-006: every pod that is not on the host network has an address of its cluster's pod range."""
    ranges = {region.name: region.pod_cidr for region in plan.regions}
    pods = [
        (pod, pod.ip) for pod in inventory.pods if pod.ip is not None and not pod.host_network and pod.region in ranges
    ]
    return conclude(
        expected="every pod has an address of its cluster's pod range: "
        + listed((f"{name} {cidr}" for name, cidr in ranges.items()), limit=8),
        examined=len(pods),
        what="pods",
        violations=[
            Finding(
                f"pod {pod.namespace}/{pod.name} in {pod.region}, on {pod.node}",
                f"an address of {ranges[pod.region]}",
                str(address),
                _owner_of(plan, IPv4Network(address)) or "it was started before the CNI, or takes from another pool",
            )
            for pod, address in pods
            if address not in ranges[pod.region]
        ],
        gaps=gap_findings(inventory.gaps),
        remedy="delete the pods so that they start again with an address of the pool",
    )


def judge_service_addresses(plan: Plan, inventory: Inventory) -> Verdict:
    """NET-ADDR-007: ClusterIPs come from the service range, and kube-dns has the planned one."""
    violations: list[Finding] = []
    services = [service for service in inventory.services if service.cluster_ip is not None]
    for region in plan.regions:
        local = [service for service in services if service.region == region.name]
        violations += [
            Finding(
                f"service {service.namespace}/{service.name} in {region.name}",
                f"a ClusterIP of {region.service_cidr}",
                str(service.cluster_ip),
            )
            for service in local
            if service.cluster_ip not in region.service_cidr
        ]
        dns = [service.cluster_ip for service in local if (service.namespace, service.name) == DNS_SERVICE]
        if local and dns != [region.dns_address]:
            violations.append(
                Finding(
                    f"service {'/'.join(DNS_SERVICE)} in {region.name}",
                    f"the planned ClusterIP {region.dns_address}",
                    str(dns[0]) if dns else "there is no such service",
                    "DNS servers of the other clusters forward to the planned address",
                )
            )
    return conclude(
        expected="every ClusterIP comes from its cluster's service range, kube-dns at "
        + listed((region.dns_address for region in plan.regions), limit=8),
        examined=len(services),
        what="services",
        violations=violations,
        gaps=gap_findings(inventory.gaps) + unseen_regions(plan, (service.region for service in services), "services"),
    )


def judge_node_addresses(plan: Plan, inventory: Inventory) -> Verdict:
    """NET-ADDR-008: every node's InternalIP lies in its region's node subnet."""
    ranges = {region.name: region.node_cidr for region in plan.regions}
    nodes = [node for node in inventory.nodes if node.region in ranges]
    return conclude(
        expected="every node's InternalIP lies in its region's node subnet: "
        + listed((f"{name} {cidr}" for name, cidr in ranges.items()), limit=8),
        examined=len(nodes),
        what="nodes",
        violations=[
            Finding(
                f"node {qualified((node.region, node.name))}",
                f"an InternalIP in {ranges[node.region]}",
                str(node.internal_ip or "no InternalIP"),
                _owner_of(plan, IPv4Network(node.internal_ip)) if node.internal_ip else None,
            )
            for node in nodes
            if node.internal_ip is None or node.internal_ip not in ranges[node.region]
        ],
        gaps=gap_findings(inventory.gaps),
    )


def judge_blocks_in_own_range(plan: Plan, addressing: Addressing) -> Verdict:
    """NET-ADDR-009: blocks of addresses are taken from the cluster's own pod range."""
    ranges = {region.name: region.pod_cidr for region in plan.regions}
    blocks = [block for block in addressing.blocks if block.region in ranges]
    return conclude(
        expected="every block of pod addresses lies in its own cluster's pod range",
        examined=len(blocks),
        what="blocks",
        violations=[
            Finding(
                f"block {block.cidr} of {_block_owner(block)}",
                f"inside {ranges[block.region]}",
                _owner_of(plan, block.cidr) or "it lies in no range of the plan",
                "a pool of a remote range is enabled where it must be disabled"
                if _owner_of(plan, block.cidr)
                else None,
            )
            for block in blocks
            if not block.cidr.subnet_of(ranges[block.region])
        ],
        gaps=gap_findings(addressing.gaps) + _unknown_blocks(plan, addressing),
        remedy="disable the foreign pool, then move the pods that took addresses from it",
    )


def judge_blocks_owned_once(plan: Plan, addressing: Addressing) -> Verdict:
    """NET-ADDR-010: no address lies in blocks of two owners, anywhere in the mesh."""
    owned = {(block.cidr, (block.region, block.node)) for block in addressing.blocks if block.node is not None}
    owners: defaultdict[IPv4Network, set[tuple[str, str]]] = defaultdict(set)
    for (cidr, owner), (_, other) in overlaps(sorted(owned)):
        if owner != other:
            owners[cidr] |= {owner, other}
    return conclude(
        expected="no block of pod addresses is owned by two nodes",
        examined=len({cidr for cidr, _ in owned}),
        what="blocks",
        violations=[
            Finding(
                f"block {cidr}",
                "one owner in the whole mesh",
                f"claimed by {listed(map(qualified, sorted(claimants)))}",
                "routes for the block lead to one of them, and pods of the other are cut off",
            )
            for cidr, claimants in owners.items()
        ],
        gaps=gap_findings(addressing.gaps) + _unknown_blocks(plan, addressing),
        remedy="find out which claim has pods, and release the other",
    )


def judge_block_sizes(plan: Plan, addressing: Addressing) -> Verdict:
    """NET-ADDR-011: blocks, and the pools that they come from, have the planned size."""
    sizes = {region.name: region.block_size for region in plan.regions}
    blocks = [block for block in addressing.blocks if block.region in sizes]
    return conclude(
        expected="blocks of pod addresses are "
        + listed((f"/{size} in {name}" for name, size in sizes.items()), limit=8),
        examined=len(blocks),
        what="blocks",
        violations=[
            *(
                Finding(f"pool {pool.name} of {pool.region}", f"blocks of /{sizes[pool.region]}", f"/{pool.block_size}")
                for pool in _enabled(plan, addressing)
                if pool.block_size != sizes[pool.region]
            ),
            *(
                Finding(
                    f"block {block.cidr} of {_block_owner(block)}",
                    f"a /{sizes[block.region]}",
                    f"a /{block.cidr.prefixlen}",
                )
                for block in blocks
                if block.cidr.prefixlen != sizes[block.region]
            ),
        ],
        gaps=gap_findings(addressing.gaps) + _unknown_blocks(plan, addressing),
    )


def judge_node_names_unique(plan: Plan, inventory: Inventory) -> Verdict:
    """NET-ADDR-012: no node name occurs in two clusters."""
    regions: defaultdict[str, list[str]] = defaultdict(list)
    for node in inventory.nodes:
        regions[node.name].append(node.region)
    return conclude(
        expected="every node name occurs once in the whole mesh",
        examined=len(regions),
        what="node names",
        violations=[
            Finding(
                f"node name {name}",
                "one node",
                f"a node in {listed(sorted(where))}",
                "federation and monitoring cannot tell the nodes apart",
            )
            for name, where in sorted(regions.items())
            if len(where) > 1
        ],
        gaps=gap_findings(inventory.gaps) + _unknown_nodes(plan, inventory),
    )


def judge_node_count(plan: Plan, inventory: Inventory) -> Verdict:
    """NET-ADDR-013: every region has the planned number of nodes, all of them Ready."""
    violations: list[Finding] = []
    for region in plan.regions:
        nodes = [node for node in inventory.nodes if node.region == region.name]
        if nodes and len(nodes) != region.node_count:
            violations.append(
                Finding(region.name, count(region.node_count, "node"), f"{count(len(nodes), 'node')} registered")
            )
        violations += [
            Finding(f"node {qualified((node.region, node.name))}", "Ready", "not Ready")
            for node in nodes
            if not node.ready
        ]
    return conclude(
        expected="the planned nodes are there and Ready: "
        + listed((f"{region.node_count} in {region.name}" for region in plan.regions), limit=8),
        examined=len(inventory.nodes),
        what="nodes",
        violations=violations,
        gaps=gap_findings(inventory.gaps) + _unknown_nodes(plan, inventory),
    )


def spare_block(region: RegionPlan, addressing: Addressing) -> IPv4Network | None:
    """The last block of a cluster's pod range that no block of the mesh overlaps; None when all are taken."""
    taken = PrefixTable((block.cidr, block) for block in addressing.blocks)
    owned = {block.cidr for block in addressing.blocks}
    for number in reversed(range(2 ** (region.block_size - region.pod_cidr.prefixlen))):
        first = int(region.pod_cidr.network_address) + (number << (ADDRESS_BITS - region.block_size))
        cidr = IPv4Network((first, region.block_size))
        if not taken.longest(cidr) and not any(other.subnet_of(cidr) for other in owned):
            return cidr
    return None


def _enabled(plan: Plan, addressing: Addressing) -> list[Pool]:
    planned = {region.name for region in plan.regions}
    return [pool for pool in addressing.pools if not pool.disabled and pool.region in planned]


def _service_ranges(plan: Plan, configuration: MeshConfiguration) -> list[tuple[IPv4Network, str]]:
    """The planned service ranges, and those that clusters really advertise, each once."""
    return sorted(
        {
            *((region.service_cidr, region.name) for region in plan.regions),
            *(
                (cidr, identity.region)
                for identity in configuration.identities
                for cidr in identity.advertised_service_cidrs
            ),
        }
    )


def _forwards_to_services(plan: Plan, configuration: MeshConfiguration) -> list[Finding]:
    """DNS forwards to a ClusterIP of another cluster.

    An address that the own service range holds too is one for zones of clusters, which nobody forwards to themselves.
    """
    own = {region.name: region.service_cidr for region in plan.regions}
    return [
        Finding(
            f"cluster {forward.region}: DNS zone {forward.zone}",
            "to be forwarded to addresses that other clusters can reach, such as NodePorts",
            f"forwarded to {address}:{port}, in the service range of {listed(sorted(holders))}",
            "a ClusterIP means nothing outside its own cluster here: service ranges are not routed",
            Layer.DNS,
        )
        for forward in configuration.dns_forwards
        if forward.region in own
        for address, port in forward.targets
        if (holders := [r.name for r in plan.others(forward.region) if address in r.service_cidr])
        and (address not in own[forward.region] or SERVICE_ZONE in f".{forward.zone}.")
    ]


def _owner_of(plan: Plan, prefix: IPv4Network) -> str | None:
    """What the plan says of that prefix, in words; None when it lies in no planned range."""
    for region in plan.regions:
        for kind, cidr in (("pod", region.pod_cidr), ("node", region.node_cidr), ("service", region.service_cidr)):
            if prefix.subnet_of(cidr):
                return f"it belongs to the {kind} range {cidr} of {region.name}"
    return None


def _block_owner(block: Block) -> str:
    return f"{block.region}, owned by {block.node or 'no node'}"


def _unknown_networks(plan: Plan, networks: Networks) -> list[Finding]:
    return unseen_regions(plan, (network.region for network in networks.networks), "the region's network")


def _unknown_blocks(plan: Plan, addressing: Addressing) -> list[Finding]:
    return unseen_regions(plan, (block.region for block in addressing.blocks), "blocks of pod addresses")


def _unknown_identities(plan: Plan, configuration: MeshConfiguration) -> list[Finding]:
    return unseen_regions(plan, (identity.region for identity in configuration.identities), "advertised service ranges")


def _unknown_nodes(plan: Plan, inventory: Inventory) -> list[Finding]:
    return unseen_regions(plan, (node.region for node in inventory.nodes), "nodes")
