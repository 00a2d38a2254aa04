"""Faults of cluster DNS: what servers are told of each other, what they answer, and how pods look names up.

`dns_faults` makes those of a lab that it is told. Where service ranges are routed, other clusters are asked at the
ClusterIP of their DNS; elsewhere at a port of each node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from analysis.facts import POSTGRESQL, SecurityRule
from analysis.rootcause import Layer
from provision.faults import Confirm, Control, Create, Fault, FaultError, Filter, Patch
from provision.lab.agents_config import host_tree
from provision.lab.cloud import ANYBODY, UDP
from provision.lab.dns import server
from provision.lab.faults.cloud import group_changed, group_says, with_rule
from provision.lab.faults.steps import object_says, place, table_is_loaded
from provision.lab.topology import DATABASE_REPLICAS, LabNode, LabRegion, LabTopology

COREFILE = "/api/v1/namespaces/kube-system/configmaps/coredns"
DEPLOYMENT = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
DOMAIN = "svc.cluster.local"
_SYSTEM_SERVICES = "/api/v1/namespaces/kube-system/services"
_STALE_PORT = 32123
_OPENED_PORT = 30053
_NOBODY = "198.51.100.99"

UNRESOLVED = frozenset({"NET-DNS-006", "NET-DNS-007", "NET-DNS-008", "NET-DNS-014"})
"""What is lost when a cluster finds no names in the zone of another one, and is told so at once."""

SILENT = UNRESOLVED | {"NET-DNS-005", "NET-DNS-010", "NET-DNS-013"}
"""What is lost when nobody answers for that zone."""

Change = Callable[[str], str]


@dataclass(frozen=True)
class CorefileChanged:
    """Another text for a cluster's Corefile."""

    region: LabRegion
    change: Change

    def apply(self, control: Control) -> dict[str, Any]:
        """Write it and remember the old ConfigMap."""
        before = control.get(self.region.name, COREFILE)
        if before is None:
            raise FaultError(f"{self.region.name}: there is no {COREFILE}")
        text = self.change(before["data"]["Corefile"])
        if text == before["data"]["Corefile"]:
            raise FaultError(f"{self.region.name}: the change leaves the Corefile as it is")
        control.patch(self.region.name, COREFILE, {"data": {"Corefile": text}})
        return before

    def heal(self, control: Control, memory: dict[str, Any]) -> None:
        """Put it back."""
        control.replace(self.region.name, COREFILE, memory)


def zone(region: LabRegion) -> str:
    """The zone that a region shares."""
    return f"{region.name}.{DOMAIN}"


def member(region: LabRegion, number: int = 0) -> str:
    """The full name of a database pod."""
    return f"cockroachdb-{number}.cockroachdb.{zone(region)}"


def block_of(text: str, region: LabRegion) -> str:
    """The server block of a region's zone, as it stands in a Corefile."""
    start = text.index(f"{zone(region)}:53 {{")
    return text[start : text.index("\n}\n", start) + len("\n}\n")]


def with_block(name: str, targets: Iterable[str]) -> Change:
    """A further server block, which forwards a zone."""
    block = f"{name}:53 {{\n    errors\n    cache 2\n    forward . {' '.join(targets)}\n}}\n"
    return lambda text: text + block


def targets_of(lab: LabTopology, region: LabRegion) -> list[str]:
    """Where other clusters ask a region's DNS."""
    if lab.plan.services_routed:
        return [str(region.plan.dns_address)]
    return [f"{node.address}:{region.dns_port}" for node in region.nodes]


def forwarded_to(region: LabRegion, targets: Iterable[str]) -> Change:
    """The zone of a region is forwarded to these."""

    def change(text: str) -> str:
        block = block_of(text, region)
        lines = [f"    forward . {' '.join(targets)}" if "forward ." in line else line for line in block.splitlines()]
        return text.replace(block, "\n".join(lines) + "\n")

    return change


# --- what is seen without the suite's instruments -----------------------------------------------------------------

_ASK = """
import socket, struct, sys
server, port, name, tcp = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "tcp"
labels = b"".join(bytes([len(word)]) + word.encode() for word in name.split("."))
query = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\\0\\0\\1\\0\\1"
asker = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
asker.settimeout(2)
try:
    asker.connect((server, port))
    asker.send((struct.pack("!H", len(query)) if tcp else b"") + query)
    answer = asker.recv(4096)[2 if tcp else 0:]
    if tcp and len(answer) < 12:
        answer += asker.recv(4096)
except OSError:
    print("silence")
else:
    print(answer[3] & 15, struct.unpack_from("!H", answer, 6)[0])
"""
"""Prints the response code and the number of records, or "silence"."""


def asked(
    source: LabRegion,
    name: str,
    wanted: Callable[[str], bool],
    *,
    server_at: tuple[str, int] | None = None,
    tcp: bool = False,
) -> Confirm:
    """A pod of a region gets the wanted answer: "CODE RECORDS", or "silence"; from its cluster's DNS by default."""
    address, port = server_at or (str(source.plan.dns_address), 53)
    argv = ["python3", "-I", "-S", "-c", _ASK, address, str(port), name, "tcp" if tcp else "udp"]
    return lambda control: wanted(control.run(f"{source.name}/cockroachdb-0", argv).out.strip())


def unresolved(source: LabRegion, name: str) -> Confirm:
    """The name does not lead anywhere there."""
    return asked(source, name, lambda answer: not answer.startswith("0 ") or answer == "0 0")


def resolves(source: LabRegion, name: str) -> Confirm:
    """The name leads somewhere there."""
    return asked(source, name, lambda answer: answer.startswith("0 ") and answer != "0 0")


def refused_by(node: LabNode) -> Confirm:
    """The last word of the DNS servers of that node is that they refused their configuration."""
    log = host_tree(node.name) / server.FOLDER / server.LOG
    return lambda control: "reload failed" in control.run(place(node), ["tail", "-n", "1", str(log)], check=False).out


# --- the catalogue ------------------------------------------------------------------------------------------------


def dns_faults(lab: LabTopology) -> tuple[Fault, ...]:
    """What can go wrong with the DNS of this lab."""
    first, second, third = lab.regions[:3]
    return (
        *_told(lab, first, second, third),
        *_upstreams(lab, first, second, third),
        *_answers(lab, first, second, third),
        *_members(second),
        _falls_over(first, second),
    )


def _told(lab: LabTopology, first: LabRegion, second: LabRegion, third: LabRegion) -> tuple[Fault, ...]:
    """What is wrong in a Corefile."""
    typo = _misspelt(third.name)
    return (
        Fault(
            name="remote-zone-missing",
            summary=f"{second.name} has no server block for the zone of {third.name}",
            layer=Layer.DNS,
            requirement="NET-DNS-001",
            steps=(CorefileChanged(second, lambda text: text.replace(block_of(text, third), "")),),
            confirm=unresolved(second, member(third)),
            follows=UNRESOLVED,
        ),
        Fault(
            name="own-zone-forwarded",
            summary=f"{second.name} forwards its own zone to {first.name}, which forwards it back",
            layer=Layer.DNS,
            requirement="NET-DNS-002",
            steps=(CorefileChanged(second, with_block(zone(second), targets_of(lab, first))),),
            confirm=unresolved(second, member(second)),
            follows=SILENT | {"NET-DNS-011", "NET-DNS-016"},
        ),
        Fault(
            name="forwarding-loop",
            summary=f"{first.name} and {second.name} each ask the other about the zone of {third.name}",
            layer=Layer.DNS,
            requirement="NET-DNS-002",
            steps=(
                CorefileChanged(first, forwarded_to(third, targets_of(lab, second))),
                CorefileChanged(second, forwarded_to(third, targets_of(lab, first))),
            ),
            confirm=unresolved(second, member(third)),
            follows=SILENT | {"NET-DNS-016"},
        ),
        Fault(
            name="zone-typo",
            summary=f"{second.name} spells the zone of {third.name} {typo!r}",
            layer=Layer.DNS,
            requirement="NET-DNS-003",
            steps=(CorefileChanged(second, lambda text: text.replace(zone(third), f"{typo}.{DOMAIN}")),),
            confirm=unresolved(second, member(third)),
            follows=UNRESOLVED | {"NET-DNS-001"},
        ),
        Fault(
            name="extra-brace",
            summary=f"the Corefile of {second.name} has a closing brace too many; its servers run with the former one",
            layer=Layer.DNS,
            requirement="NET-DNS-004",
            steps=(
                CorefileChanged(
                    second, lambda text: text.replace(block_of(text, first), block_of(text, first) + "}\n")
                ),
            ),
            confirm=refused_by(second.nodes[0]),
        ),
        Fault(
            name="private-names-shared",
            summary=f"{second.name} forwards the zone of kube-system to {third.name}",
            layer=Layer.DNS,
            requirement="NET-DNS-018",
            steps=(CorefileChanged(second, with_block(f"kube-system.{DOMAIN}", targets_of(lab, third))),),
            # Its own servers' names are asked of the other cluster too, so that nobody can tell who answers there.
            confirm=asked(second, f"kube-dns.kube-system.{DOMAIN}", lambda answer: answer.startswith("0 1")),
            follows=frozenset({"NET-DNS-001", "NET-DNS-003", "NET-POD-008"}),
        ),
        Fault(
            name="answers-kept-too-long",
            summary=f"names of {first.name} may be kept for an hour, and {third.name} keeps them",
            layer=Layer.DNS,
            requirement="NET-DNS-011",
            steps=(
                CorefileChanged(first, lambda text: text.replace("ttl 2\n", "ttl 3600\n")),
                CorefileChanged(
                    third,
                    lambda text: text.replace(
                        block_of(text, first), block_of(text, first).replace("cache 2", "cache 3600")
                    ),
                ),
            ),
            confirm=resolves(third, member(first)),
        ),
    )


def _upstreams(lab: LabTopology, first: LabRegion, second: LabRegion, third: LabRegion) -> tuple[Fault, ...]:
    """What is wrong with those that are asked."""
    routed = lab.plan.services_routed
    stale = [str(third.plan.service_cidr[99])] if routed else [f"{n.address}:{_STALE_PORT}" for n in third.nodes]
    port = 53 if routed else third.dns_port
    address = str(third.plan.dns_address) if routed else "{ " + ", ".join(str(n.address) for n in third.nodes) + " }"
    silence = f"ip daddr {address} meta l4proto {{ tcp, udp }} th dport {port} counter drop"
    seen = frozenset({"NET-POD-008"}) if routed else frozenset()
    faults = (
        Fault(
            name="stale-forward-address",
            summary=f"{second.name} asks for names of {third.name} where its DNS was once",
            layer=Layer.DNS,
            requirement="NET-DNS-005",
            steps=(CorefileChanged(second, forwarded_to(third, stale)),),
            confirm=unresolved(second, member(third)),
            follows=SILENT,
        ),
        Fault(
            name="all-forwarders-dead",
            summary=f"nobody in {second.name} gets through to the DNS of {third.name} any more",
            layer=Layer.DNS,
            requirement="NET-DNS-005",
            steps=_at_all(second, silence),
            confirm=unresolved(second, f"nobody.{zone(third)}"),
            follows=SILENT | seen,
        ),
        Fault(
            name="external-names-broken",
            summary=f"{second.name} asks a resolver for external names that is not there",
            layer=Layer.DNS,
            requirement="NET-DNS-012",
            steps=(CorefileChanged(second, lambda text: text.replace("/etc/resolv.conf", _NOBODY)),),
            confirm=unresolved(second, str(lab.plan.external_name)),
            follows=frozenset({"NET-DNS-015"}),
        ),
        Fault(
            name="external-names-by-another-cluster",
            summary=f"{second.name} asks {third.name} for external names",
            layer=Layer.DNS,
            requirement="NET-DNS-015",
            steps=(
                CorefileChanged(
                    second, lambda text: text.replace("/etc/resolv.conf", " ".join(targets_of(lab, third)))
                ),
            ),
            confirm=resolves(second, str(lab.plan.external_name)),
        ),
        Fault(
            name="single-dns-server",
            summary=f"a single server answers for all of {third.name}",
            layer=Layer.DNS,
            requirement="NET-DNS-014",
            steps=(Patch(third.name, DEPLOYMENT, {"spec": {"replicas": 1}}),),
            confirm=object_says(third.name, DEPLOYMENT, ("status", "replicas"), 1),
        ),
    )
    if routed:
        return faults
    one = third.nodes[-1]
    return (
        *faults,
        Fault(
            name="one-forwarder-dead",
            summary=f"{one.name}, one of the nodes that are asked for names of {third.name}, does not answer",
            layer=Layer.DNS,
            requirement="NET-DNS-005",
            steps=(
                Filter(
                    place(one),
                    "  chain prerouting { type filter hook prerouting priority raw; "
                    f"ip daddr {one.address} udp dport {third.dns_port} counter drop; }}",
                ),
            ),
            confirm=table_is_loaded(place(one)),
            follows=frozenset({"NET-DNS-006", "NET-DNS-008", "NET-DNS-010", "NET-DNS-014", "NET-DNS-016"}),
        ),
        Fault(
            name="one-upstream-only",
            summary=f"{second.name} asks a single node for names of {third.name}",
            layer=Layer.DNS,
            requirement="NET-DNS-014",
            steps=(CorefileChanged(second, forwarded_to(third, targets_of(lab, third)[:1])),),
            confirm=resolves(second, member(third)),
        ),
    )


def _answers(lab: LabTopology, first: LabRegion, second: LabRegion, third: LabRegion) -> tuple[Fault, ...]:
    """What is wrong with answers on their way."""
    routed = lab.plan.services_routed
    port = 53 if routed else third.dns_port
    address = str(third.plan.dns_address) if routed else "{ " + ", ".join(str(n.address) for n in third.nodes) + " }"
    nxdomain = f"ip saddr {address} udp sport {port} @th,92,4 3 counter drop"
    opened = third.dns_port if not routed else _OPENED_PORT
    rule = SecurityRule("DnsForAll", True, UDP, (ANYBODY,), ports=(opened, opened), priority=340)
    entrance = f"{_SYSTEM_SERVICES}/{'kube-dns' if routed else 'kube-dns-lb'}"
    published = [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53, "nodePort": _OPENED_PORT},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
    ]
    tcp_lost = (
        _at_all(second, f"ip daddr {address} tcp dport 53 counter drop")
        if routed
        else (Patch(third.name, entrance, {"spec": {"ports": [_udp_port(third)]}}),)
    )
    return (
        Fault(
            name="absent-names-unanswered",
            summary=f"answers that a name is not there get lost between {third.name} and {second.name}",
            layer=Layer.DNS,
            requirement="NET-DNS-010",
            steps=_at_all(second, nxdomain),
            confirm=asked(second, f"nobody.{zone(third)}", lambda answer: not answer.startswith("3 ")),
            # This lab's servers forward over UDP what they are asked over TCP.
            follows=frozenset({"NET-DNS-005", "NET-DNS-013", "NET-DNS-014"}),
        ),
        Fault(
            name="udp-only",
            summary=f"the DNS of {third.name} cannot be asked over TCP from {second.name}",
            layer=Layer.DNS,
            requirement="NET-DNS-013",
            steps=tcp_lost,
            confirm=asked(
                second,
                f"nothing.{zone(third)}",
                lambda answer: not answer.startswith("3 "),
                server_at=(str(third.plan.dns_address if routed else third.nodes[0].address), port),
                tcp=True,
            ),
            follows=frozenset({"NET-POD-008"}),
        ),
        Fault(
            name="dns-open-to-the-internet",
            summary=f"the security group of {third.name} lets everybody ask its DNS",
            layer=Layer.DNS,
            requirement="NET-DNS-017",
            steps=(
                *((Patch(third.name, entrance, {"spec": {"type": "NodePort", "ports": published}}),) if routed else ()),
                group_changed(lab, third, with_rule(rule)),
            ),
            confirm=group_says(lab, third, r"DnsForAll"),
            follows=frozenset({"NET-UNDR-013", "NET-UNDR-014", "NET-UNDR-015"}),
        ),
    )


def _members(region: LabRegion) -> tuple[Fault, ...]:
    """What is wrong with the database's Services and pods."""
    services = f"/api/v1/namespaces/{region.name}/services"
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{region.name}/endpointslices"
    stateful_set = f"/apis/apps/v1/namespaces/{region.name}/statefulsets/cockroachdb"
    stray = str(region.nodes[-1].block[-2])
    replicas = DATABASE_REPLICAS[POSTGRESQL]
    last_only = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": replicas - 1}}}
    last = f"/api/v1/namespaces/{region.name}/pods/cockroachdb-{replicas - 1}"
    return (
        Fault(
            name="member-at-a-second-address",
            summary=f"a slice that somebody left gives cockroachdb-0 of {region.name} a second address",
            layer=Layer.DNS,
            requirement="NET-DNS-006",
            steps=(Create(region.name, slices, _slice("stray-member", stray, "cockroachdb-0")),),
            confirm=asked(region, member(region), lambda answer: answer == "0 2"),
            follows=frozenset({"NET-DNS-007", "NET-DNS-008"}),
        ),
        Fault(
            name="search-list-broken",
            summary=f"a database pod of {region.name} uses its node's resolver, without the cluster's search list",
            layer=Layer.DNS,
            requirement="NET-DNS-007",
            steps=(
                Patch(
                    region.name, stateful_set, {"spec": {**last_only, "template": {"spec": {"dnsPolicy": "Default"}}}}
                ),
            ),
            confirm=_rolled(region, last, ("spec", "dnsPolicy"), "Default"),
        ),
        Fault(
            name="member-too-many",
            summary=f"the headless Service of {region.name} lists an address that no database pod has",
            layer=Layer.DNS,
            requirement="NET-DNS-008",
            steps=(Create(region.name, slices, _slice("stray-address", stray, None)),),
            confirm=asked(region, f"cockroachdb.{zone(region)}", lambda answer: answer == f"0 {replicas + 1}"),
        ),
        Fault(
            name="unready-pods-unpublished",
            summary=f"the headless Service of {region.name} leaves out pods that are not Ready",
            layer=Layer.DNS,
            requirement="NET-DNS-009",
            steps=(Patch(region.name, f"{services}/cockroachdb", {"spec": {"publishNotReadyAddresses": False}}),),
            confirm=object_says(region.name, f"{services}/cockroachdb", ("spec", "publishNotReadyAddresses"), False),
        ),
        Fault(
            name="wrong-subdomain",
            summary=f"a database pod of {region.name} was made for another Service than the headless one",
            layer=Layer.DNS,
            requirement="NET-DNS-019",
            steps=(
                Patch(
                    region.name,
                    stateful_set,
                    {
                        "spec": {
                            **last_only,
                            "serviceName": "cockroachdb-public",
                            "template": {"metadata": {"annotations": {"meshproof/fault": "wrong-subdomain"}}},
                        }
                    },
                ),
            ),
            confirm=_rolled(region, last, ("spec", "subdomain"), "cockroachdb-public"),
            follows=frozenset({"NET-DNS-006", "NET-DNS-007", "NET-DNS-008"}),
        ),
    )


def _falls_over(region: LabRegion, other: LabRegion) -> Fault:
    return Fault(
        name="servers-fall-over-on-restart",
        summary=f"the DNS servers of {region.name} refused their configuration long ago, and would not start with it",
        layer=Layer.DNS,
        requirement="NET-DNS-016",
        steps=(CorefileChanged(region, lambda text: text.replace(f"{zone(other)}:53 {{", f"{zone(other)}:53{{")),),
        confirm=refused_by(region.nodes[0]),
        follows=frozenset({"NET-DNS-004"}),
    )


# --- parts --------------------------------------------------------------------------------------------------------


def _misspelt(name: str) -> str:
    """The name with two letters the other way round: "northeurpoe"."""
    return name.replace("west", "wset") if "west" in name else f"{name[:-3]}{name[-2]}{name[-3]}{name[-1]}"


def _at_all(region: LabRegion, rule: str) -> tuple[Filter, ...]:
    """All nodes of a region treat so what they forward for their pods."""
    chain = f"  chain forward {{ type filter hook forward priority -10; {rule}; }}"
    return tuple(Filter(place(node), chain) for node in region.nodes)


def _udp_port(region: LabRegion) -> dict[str, Any]:
    return {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53, "nodePort": region.dns_port}


def _slice(name: str, address: str, hostname: str | None) -> dict[str, Any]:
    endpoint = {"addresses": [address], "conditions": {"ready": True}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "cockroachdb"}},
        "addressType": "IPv4",
        "endpoints": [{**endpoint, "hostname": hostname} if hostname else endpoint],
        "ports": [{"name": "grpc", "port": 26257, "protocol": "TCP"}],
    }


def _rolled(region: LabRegion, pod: str, keys: tuple[str, ...], value: object) -> Confirm:
    """A pod was made anew, with that value, and is ready again."""
    says = object_says(region.name, pod, keys, value)

    def confirm(control: Control) -> bool:
        found = control.get(region.name, pod) or {}
        conditions = (found.get("status") or {}).get("conditions") or []
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        return says(control) and ready

    return confirm
