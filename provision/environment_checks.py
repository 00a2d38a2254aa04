"""What the values of an environment file must be like together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from pathlib import Path
from stat import S_IRWXG, S_IRWXO, S_ISREG
from urllib.parse import urlsplit

from analysis.nearest import nearest
from analysis.plan import Cni, Encapsulation
from provision.environment import CLOUDS, DNS_HOST, Environment
from provision.environment_database import check_database
from provision.environment_errors import Location, Problem
from provision.environment_policy import check_policy, one_of
from provision.environment_values import write_port_range
from provision.kubeconfig import SKIPS_VERIFICATION, Kubeconfig, KubeconfigError, read_kubeconfig
from provision.sections.regions import Region

RESERVED_AS = {0: "RFC 7607", 23456: "AS_TRANS, RFC 6793", 65535: "RFC 7300"}
CILIUM_CLUSTER_IDS = range(1, 256)
ENCAPSULATIONS = {
    Cni.CALICO_BGP: (Encapsulation.IPIP, Encapsulation.VXLAN, Encapsulation.NONE),
    Cni.CILIUM_CLUSTERMESH: (Encapsulation.VXLAN, Encapsulation.GENEVE, Encapsulation.NONE),
}
LARGEST_PACKET = {"aws": 8500}
"""The largest IP packet (bytes) that a cloud's peering of networks in different regions carries."""

PROFILE_CNIS = {"aws-calico": Cni.CALICO_BGP, "azure-cilium": Cni.CILIUM_CLUSTERMESH}
"""Profiles that the requirements know. Each rules out what only the other one promises, so it has to be true."""


def check_plan(environment: Environment) -> Iterator[Problem]:
    """Everything that can be said about the file on its own, without a look at the machine."""
    yield from _profile(environment)
    yield from _encapsulation(environment)
    yield from _cloud(environment)
    yield from _operators(environment)
    yield from _open_ports(environment)
    for index, region in enumerate(environment.regions):
        at: Location = ("regions", index)
        yield from _ranges_of(region, at)
        yield from _blocks(environment, region, at)
        yield from _mesh_identity(environment, region, at)
        yield from _reflectors(environment, region, at)
    yield from _doubles(environment)
    yield from _overlaps(environment)
    yield from _named_regions(environment)
    yield from _outsiders(environment)
    yield from check_database(environment)
    yield from check_policy(environment)
    yield from _capture(environment)
    yield from _lab(environment)


def check_key_files(environment: Environment) -> Iterator[Problem]:
    """The files that clients are to use must be there, and what is secret must be its owner's alone."""
    ssh, access = environment.ssh, environment.database and environment.database.access
    if ssh:
        yield from _file(("ssh", "identity_file"), ssh.identity_file, "ssh", secret=True)
        yield from _file(("ssh", "known_hosts"), ssh.known_hosts, "ssh")
    if access:
        at: Location = ("database", "access")
        for key in ("authority", "certificate", "key", "password_file"):
            secret = key in ("key", "password_file")
            yield from _file((*at, key), getattr(access, key), "the database's client", secret=secret)


def _file(at: Location, path: Path | None, reader: str, *, secret: bool = False) -> Iterator[Problem]:
    if path is None:
        return
    advice = f"a file that {reader} on this machine may read"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield Problem(at, f"cannot be used: {error.strerror}", advice, str(path))
        return
    if not S_ISREG(mode):
        yield Problem(at, "is not a file", advice, str(path))
    elif secret and mode & (S_IRWXG | S_IRWXO):
        yield Problem(at, f"may be used by others, and {reader} refuses it then", f"chmod 600 {path}", str(path))


def check_kubeconfigs(environment: Environment) -> Iterator[Problem]:
    """The kubeconfig files that are named must be there, have the contexts, and lead to different clusters.

    A lab that is yet to be brought up has none.
    """
    if environment.provider.kind == "lab" and environment.kubeconfig is None:
        return
    servers: dict[str, Region] = {}
    unreadable: set[Path] = set()
    read = cache(read_kubeconfig)
    for index, region in enumerate(environment.regions):
        path, context = environment.kubeconfig_of(region), environment.context_of(region)
        if path in unreadable:
            continue
        try:
            kubeconfig = read(path)
        except KubeconfigError as error:
            unreadable.add(path)
            yield Problem(
                ("regions", index, "kubeconfig") if region.kubeconfig else ("kubeconfig",),
                str(error),
                "a kubeconfig file that you may read; a relative path starts at the environment file's folder",
                str(path),
            )
            continue
        yield from _context(kubeconfig, context, ("regions", index, "context"), region, servers)


def _context(
    kubeconfig: Kubeconfig, context: str, at: Location, region: Region, servers: dict[str, Region]
) -> Iterator[Problem]:
    if context not in kubeconfig.servers:
        there = ", ".join(sorted(kubeconfig.servers)) or "none at all"
        meant = nearest(context, kubeconfig.servers)
        advice = f"{meant}? (the contexts there: {there})" if meant else f"one of the contexts there: {there}"
        yield Problem(at, f"is not a context of {kubeconfig.path}", advice, context)
        return
    server = kubeconfig.servers[context]
    if not server:
        yield Problem(at, f"has no cluster in {kubeconfig.path}", "a context whose cluster has a server", context)
    elif context in kubeconfig.unverified:
        yield Problem(
            at,
            f"does not verify its server's certificate: {SKIPS_VERIFICATION} in {kubeconfig.path}",
            "certificate-authority-data in its place, for verdicts about whoever answers are worth nothing",
            context,
        )
    elif other := servers.get(_same_server(server)):
        yield Problem(
            at, f"leads to the same cluster as region {other.name}", "a cluster of its own", f"{context} ({server})"
        )
    else:
        servers[_same_server(server)] = region


def _same_server(url: str) -> str:
    """The URL without what makes no difference to where it leads."""
    parts = urlsplit(url if "//" in url else f"https://{url}")
    return f"{(parts.hostname or '').rstrip('.')}:{parts.port or 443}{parts.path.rstrip('/')}"


def _profile(environment: Environment) -> Iterator[Problem]:
    kind = PROFILE_CNIS.get(environment.profile, environment.cni.kind)
    if kind is not environment.cni.kind:
        yield Problem(
            ("profile",),
            f"does not go with cni.kind {environment.cni.kind.value}",
            f"{kind.value} as cni.kind, or another word as profile",
            environment.profile,
        )


def _encapsulation(environment: Environment) -> Iterator[Problem]:
    kind = environment.cni.kind
    if environment.encapsulation not in ENCAPSULATIONS[kind]:
        yield Problem(
            ("cni", "encapsulation"),
            f"is not one that {kind.value} has",
            f"one of {', '.join(known.value for known in ENCAPSULATIONS[kind])}",
            environment.encapsulation.value,
        )


def _cloud(environment: Environment) -> Iterator[Problem]:
    cloud = environment.cloud
    played = CLOUDS.get(environment.profile, cloud)
    if environment.underlay.cloud and played != cloud:
        yield Problem(
            ("underlay", "cloud"),
            f"does not go with profile {environment.profile}",
            f"{played}, or another word as profile",
            environment.underlay.cloud,
        )
    elif cloud == "azure" and environment.encapsulation is Encapsulation.IPIP:
        yield Problem(
            ("cni", "encapsulation"),
            "does not get through Azure, which drops IP-in-IP",
            Encapsulation.VXLAN.value,
            environment.encapsulation.value,
        )
    if environment.underlay.path_mtu > (largest := LARGEST_PACKET.get(cloud, environment.underlay.path_mtu)):
        yield Problem(
            ("underlay", "path_mtu"),
            f"is more than {cloud} carries between regions",
            f"at most {largest}",
            str(environment.underlay.path_mtu),
        )


def _operators(environment: Environment) -> Iterator[Problem]:
    """Operators are people outside: not pods, not services, and nobody twice."""
    operators = environment.underlay.operators
    for index, source in enumerate(operators):
        at: Location = ("underlay", "operators", index)
        for other in operators[:index]:
            if source.overlaps(other):
                yield Problem(at, f"overlaps {other}", "each address once", str(source))
        for place, region, cidr in _ranges(environment):
            if place[-1] in ("pod_cidr", "service_cidr") and source.overlaps(cidr):
                yield Problem(
                    at,
                    f"overlaps {place[-1]} {cidr} of {region.name}",
                    "the addresses that people who run the clusters come from",
                    str(source),
                )


def _open_ports(environment: Environment) -> Iterator[Problem]:
    ranges = environment.underlay.open_ports
    for index, (first, last) in enumerate(ranges):
        for low, high in ranges[:index]:
            if first <= high and low <= last:
                yield Problem(
                    ("underlay", "open_ports", index),
                    f"overlaps {write_port_range((low, high))}",
                    "each port once",
                    str(write_port_range((first, last))),
                )


def _ranges_of(region: Region, at: Location) -> Iterator[Problem]:
    nodes, network = region.node_cidr, region.network
    if network and not nodes.subnet_of(network):
        yield Problem((*at, "node_cidr"), "is not inside network", f"a subnet of {network}", str(nodes))
    usable = max(nodes.num_addresses - 2, 1)
    if region.node_count > usable:
        yield Problem(
            (*at, "node_count"),
            f"is more than node_cidr {nodes} has addresses",
            f"at most {usable}, or a larger subnet",
            str(region.node_count),
        )
    services = region.service_cidr
    if region.dns_address is None:
        if services.num_addresses <= DNS_HOST + 1:
            yield Problem(
                (*at, "service_cidr"), "has no tenth address", "a larger range, or dns_address", str(services)
            )
    elif region.dns_address not in services:
        yield Problem(
            (*at, "dns_address"),
            f"is not in service_cidr {services}",
            f"an address in that range, like {services[min(DNS_HOST, services.num_addresses - 1)]}",
            str(region.dns_address),
        )


def _blocks(environment: Environment, region: Region, at: Location) -> Iterator[Problem]:
    size, pods = environment.block_size_of(region), region.pod_cidr
    place = (*at, "block_size" if region.block_size else "pod_cidr")
    if size < pods.prefixlen:
        yield Problem(
            place,
            f"makes blocks larger than pod_cidr {pods}",
            f"a block_size from {pods.prefixlen} to 32",
            str(size) if region.block_size else f"{pods} with blocks of /{size}",
        )
    elif 2 ** (size - pods.prefixlen) < region.node_count:
        yield Problem(
            place,
            f"leaves {2 ** (size - pods.prefixlen)} blocks for {region.node_count} nodes",
            "at least one block for each node: smaller blocks or a larger pod_cidr",
            str(size) if region.block_size else f"{pods} with blocks of /{size}",
        )


def _mesh_identity(environment: Environment, region: Region, at: Location) -> Iterator[Problem]:
    kind = environment.cni.kind
    if kind is Cni.CALICO_BGP:
        if region.as_number is None:
            yield Problem((*at, "as_number"), "is missing", "the cluster's AS number, like as_number: 64512")
        elif region.as_number in RESERVED_AS:
            yield Problem(
                (*at, "as_number"),
                f"is reserved ({RESERVED_AS[region.as_number]})",
                "a private AS: 64512 to 65534, or 4200000000 to 4294967294",
                str(region.as_number),
            )
        if region.cluster_id is not None and not _is_dotted(region.cluster_id):
            yield Problem(
                (*at, "cluster_id"),
                "is not a route reflector cluster id",
                "four numbers with dots, like 244.0.0.1",
                region.cluster_id,
            )
        return
    if region.as_number is not None:
        yield Problem((*at, "as_number"), f"means nothing with {kind.value}", "no as_number", str(region.as_number))
    if region.cluster_id is None:
        yield Problem((*at, "cluster_id"), "is missing", "the cluster's id in the mesh, like cluster_id: 1")
    elif not region.cluster_id.isdecimal() or int(region.cluster_id) not in CILIUM_CLUSTER_IDS:
        yield Problem((*at, "cluster_id"), "is not a Cilium cluster id", "a number from 1 to 255", region.cluster_id)


def _is_dotted(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(part.isdecimal() and int(part) <= 255 for part in parts)


def _reflectors(environment: Environment, region: Region, at: Location) -> Iterator[Problem]:
    reflectors, place = region.route_reflectors, (*at, "route_reflectors")
    if reflectors is None:
        return
    if environment.cni.kind is not Cni.CALICO_BGP:
        yield Problem(place, f"mean nothing with {environment.cni.kind.value}", "no route_reflectors")
    elif (reflectors.label is None) == (not reflectors.nodes):
        yield Problem(
            place,
            "name no reflector" if reflectors.label is None else "have both label and nodes",
            "either label: key=value or nodes: [name, ...]",
        )
    elif len(set(reflectors.nodes)) < len(reflectors.nodes):
        yield Problem((*place, "nodes"), "name a node twice", "each node once", ", ".join(reflectors.nodes))
    elif len(reflectors.nodes) > region.node_count:
        yield Problem(
            (*place, "nodes"),
            "are more than node_count",
            f"at most {region.node_count} nodes",
            ", ".join(reflectors.nodes),
        )


def _doubles(environment: Environment) -> Iterator[Problem]:
    """What must be different in every region."""
    regions = environment.regions
    yield from _same("name", [region.name for region in regions], regions, "a name of its own")
    contexts = [f"{environment.kubeconfig_of(region)} {environment.context_of(region)}" for region in regions]
    written = [environment.context_of(region) for region in regions]
    yield from _same("context", contexts, regions, "a cluster, and so a context, of its own", written)
    yield from _same("as_number", [region.as_number for region in regions], regions, "an AS number of its own")
    yield from _same("cluster_id", [region.cluster_id for region in regions], regions, "a cluster id of its own")
    yield from _same("cluster_name", [region.cluster_name for region in regions], regions, "a name of its own")


def _same(
    key: str,
    values: Iterable[object],
    regions: tuple[Region, ...],
    advice: str,
    written: list[str] | None = None,
) -> Iterator[Problem]:
    first: dict[object, int] = {}
    for index, value in enumerate(values):
        if value is None:
            continue
        other = first.setdefault(value, index)
        if other != index:
            yield Problem(
                ("regions", index, key),
                f"is that of region {regions[other].name} too" if key != "name" else f"is that of regions[{other}] too",
                advice,
                written[index] if written else str(value),
            )


def _overlaps(environment: Environment) -> Iterator[Problem]:
    """Every range that packets are routed by must be distinct from every other.

    Service ranges may be the same where they are not routed between clusters: each is then known to its own only.
    """
    for (a_at, a_region, a), (b_at, b_region, b) in combinations(_ranges(environment), 2):
        both_services = a_at[-1] == b_at[-1] == "service_cidr"
        if a.overlaps(b) and not (both_services and not environment.services_routed):
            yield Problem(
                b_at,
                f"overlaps {a_at[-1]} {a} of {'the same region' if a_region is b_region else a_region.name}",
                "a range that no other region, and nothing else in this one, uses",
                str(b),
            )


def _ranges(environment: Environment) -> Iterator[tuple[Location, Region, IPv4Network]]:
    for index, region in enumerate(environment.regions):
        at: Location = ("regions", index)
        # node_cidr is a part of network, so one of them stands for both.
        if region.network:
            yield (*at, "network"), region, region.network
        else:
            yield (*at, "node_cidr"), region, region.node_cidr
        yield (*at, "pod_cidr"), region, region.pod_cidr
        yield (*at, "service_cidr"), region, region.service_cidr


def _named_regions(environment: Environment) -> Iterator[Problem]:
    """Wherever a region is named outside `regions`, it must be one of them."""
    known = [region.name for region in environment.regions]
    named: list[tuple[Location, str]] = []
    if environment.database:
        named += [(("database", "namespaces", name), name) for name in environment.database.namespaces]
        addresses = environment.database.access.addresses if environment.database.access else {}
        named += [(("database", "access", "addresses", name), name) for name in addresses]
    if environment.policy:
        named += [
            (("policy", "allow", index, "regions", place), name)
            for index, flow in enumerate(environment.policy.allow)
            for place, name in enumerate(flow.regions)
        ]
    for location, name in named:
        if name not in known:
            yield Problem(location, "is not a region of this file", one_of(name, known), name)


def _outsiders(environment: Environment) -> Iterator[Problem]:
    """Hosts that stand for the outside must not be inside, and one without rights must not be an operator's."""
    hosts: list[tuple[Location, IPv4Address]] = []
    if environment.egress:
        hosts.append((("egress", "address"), environment.egress.address))
    if environment.outside and environment.outside.address:
        hosts.append((("outside", "address"), environment.outside.address))
    for location, address in hosts:
        for at, region, cidr in _ranges(environment):
            if address in cidr:
                yield Problem(
                    location, f"is inside {at[-1]} {cidr} of {region.name}", "a host outside every region", str(address)
                )
        for source in environment.underlay.operators:
            if location[0] == "outside" and address in source:
                yield Problem(
                    location, f"is inside underlay.operators {source}", "a host without any rights", str(address)
                )


def _capture(environment: Environment) -> Iterator[Problem]:
    if environment.probes.capture and not environment.probes.host_network:
        yield Problem(
            ("probes", "capture"),
            "needs probe pods in the nodes' network",
            "host_network: true as well, or no capture",
            "true",
        )


def _lab(environment: Environment) -> Iterator[Problem]:
    """A lab brings its own places to look from."""
    if environment.provider.kind != "lab":
        return
    for key in ("outside", "ssh"):
        if getattr(environment, key) is not None:
            yield Problem((key,), "means nothing with provider lab", f"no {key}: the lab has its own")
    if environment.database and environment.database.access:
        yield Problem(
            ("database", "access"), "means nothing with provider lab", "no access: the lab logs in with its own keys"
        )
