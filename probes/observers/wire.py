"""The wire: what packets between clusters look like on the underlay, and which encapsulated packets nodes take in.

Everything is asked of all places at once, in five steps. Captures begin on every node, and on the routers where there
are any; then pods send marked probes to the pods of the other regions, and nodes send each other packets that were put
into the tunnel's header by hand; then a host that is no part of the mesh sends the very same; then the nodes do once
more and the captures end; and at last the pods tell which of all these packets have come to them.
"""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from ipaddress import IPv4Address
from itertools import combinations
from typing import Any, TypeAlias

from analysis.facts import (
    Capture,
    CapturedPacket,
    Gap,
    HandMadePacket,
    OnTheWire,
    ProbeOutcome,
    Sender,
    TunnelEnd,
)
from analysis.fleet import Capability, Outpost, Stand
from analysis.plan import Encapsulation
from probes.capture import capture_filter, dissect, pcap
from probes.client import Operation, column, run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ProbeError
from probes.handmade import IP_IN_IP, UDP, datagram, wrapped
from probes.mesh import Mesh
from probes.observers.paths import first_on_each_node
from probes.outpost import outposts, run_agent_at

MOST_PAIRS = 400
"""Marked probes. In larger meshes every node still sends and gets some."""

MOST_TARGETS = 24
"""Nodes of a region that each node sends packets made by hand to; in larger ones each sends to others of them."""

MOST_PACKETS = 4096
"""That a capture takes."""

MOST_BARE = 16
"""Kinds of packets with pod addresses outside that are told of a place, besides the marked ones."""

CAPTURE_LIFE_S = 30.0
TIMEOUT_S = 3.0
TRIES = 3
COPIES, APART_S = 3, 0.03
PATIENCE_S = 2.0
"""The last packets made by hand may take so long to come."""

WITHIN = timedelta(seconds=15)
TUNNEL_KINDS = {Encapsulation.VXLAN: "vxlan", Encapsulation.GENEVE: "geneve", Encapsulation.IPIP: "ipip"}
PORTS = {Encapsulation.VXLAN: 4789, Encapsulation.GENEVE: 6081, Encapsulation.IPIP: None}
"""Where a tunnel listens whose device does not tell."""

UNSENT = "packets that are not behind a UDP header need a raw socket, and the environment file does not allow capture"
MARKED = b"mark "
BEFORE, AFTER, STRANGE = "before", "after", "strange"

Place: TypeAlias = ProbePod | Outpost
Answers: TypeAlias = dict[Place, tuple[dict[str, Any], ...] | ProbeError]


@dataclass(frozen=True)
class Pair:
    """A marked probe from a pod to a pod of another region. `mark` is what its datagrams begin with."""

    source: ProbePod
    target: ProbePod
    batch_mark: bytes
    number: int

    @property
    def mark(self) -> bytes:
        """What its datagrams, and the answers to them, have in them and no others."""
        return self.batch_mark + self.number.to_bytes(4, "big")


@dataclass(frozen=True)
class Throw:
    """A packet made by hand: from a node or a stranger, to an address of a node, for the pod there."""

    sender: Place
    host: ProbePod
    pod: ProbePod
    address: IPv4Address
    end: TunnelEnd
    number: int


def observe_wire(mesh: Mesh, probe_set: ProbeSet) -> OnTheWire:
    """Capture marked probes wherever that is allowed, and send packets made by hand from nodes and from outside."""
    if mesh.fleet.plan.encapsulation is Encapsulation.NONE:
        return OnTheWire()
    return _Survey(mesh, probe_set).observe()


@dataclass
class _Survey:
    """One look at the wire, step by step."""

    mesh: Mesh
    probe_set: ProbeSet
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    gaps: list[Gap] = field(default_factory=list)

    def __post_init__(self) -> None:
        fleet = self.mesh.fleet
        self.encapsulation = fleet.plan.encapsulation
        self.may_capture = Capability.PACKET_CAPTURE in fleet.capabilities
        # Whatever is not behind a UDP header is sent through a raw socket, which the same leave covers.
        self.may_craft = self.may_capture or self.encapsulation is not Encapsulation.IPIP
        self.pods = {(pod.region, pod.node): pod for pod in first_on_each_node(self.probe_set)}
        self.hosts = [pod for pod in self.probe_set.on_hosts() if (pod.region, pod.node) in self.pods]
        self.routers = list(outposts(fleet, Stand.ROUTER)) if self.may_capture else []
        self.strangers = list(outposts(fleet, Stand.INTERNET))[:1] if self.may_craft else []

    def observe(self) -> OnTheWire:
        """Take all steps."""
        self.gaps += self.probe_set.gaps
        places: list[Place] = [*self.hosts, *self.routers]
        begun = self._run({place: [{"op": "kernel"}, *self._capture(place)] for place in places})
        ends = self._tunnel_ends(begun)
        pairs = choose_pairs([self.pods[host.region, host.node] for host in self.hosts]) if self.may_capture else []
        throws = self._throws(ends)
        strange = self._strange_throws(ends)
        asked = self._run({**self._probes(pairs), **self._sends(throws, BEFORE)})
        refused = self._refusals(asked, throws)
        refused |= self._refusals(self._run(self._sends(strange, STRANGE)), strange)
        stop = {
            place: [{"op": "stop", "name": self._name}]
            for place, answer in begun.items()
            if self.may_capture and not isinstance(answer, ProbeError) and "error" not in answer[1]
        }
        again = self._sends(throws, AFTER)
        ended = self._run({place: again.get(place, []) + stop.get(place, []) for place in {**again, **stop}})
        self._refusals(ended, throws)
        arrived = self._arrivals(throws)
        captured = self._captured(begun, ended)
        return OnTheWire(
            tunnels=tuple(end for of_node in ends.values() for end in of_node),
            captures=tuple(self._captures(pairs, asked, captured)),
            hand_made=(
                *(self._told(throw, refused, arrived, captured) for throw in throws),
                *(self._told(throw, refused, arrived, captured) for throw in strange if not refused.get(throw.number)),
            ),
            strangers=tuple(post.name for post in self.strangers),
            unsent="" if self.may_craft else UNSENT,
            gaps=tuple(self.gaps),
        )

    # --- running ----------------------------------------------------------------------------------------------------

    def _run(self, plans: Mapping[Place, list[Operation]]) -> Answers:
        """Run each plan at its place, all at once."""
        posts = [place for place in plans if isinstance(place, Outpost)]
        pods = [place for place in plans if isinstance(place, ProbePod)]

        def at_post(post: Outpost) -> tuple[dict[str, Any], ...] | ProbeError:
            try:
                return run_agent_at(post, plans[post], within=WITHIN).operations
            except ProbeError as error:
                return error

        def in_pod(cluster: Cluster, pod: ProbePod) -> tuple[dict[str, Any], ...] | ProbeError:
            run = run_agent(cluster, pod.namespace, pod.name, plans[pod], within=WITHIN, control=pod.control)
            if run.control_failure:
                raise ProbeError(f"{pod.identity}: {run.control_failure}")
            return run.operations

        answers: Answers = {}
        with ThreadPoolExecutor(max_workers=max(1, len(posts)), thread_name_prefix="wire") as pool:
            elsewhere = [(post, pool.submit(at_post, post)) for post in posts]
            for pod, answer in self.mesh.each(pods, lambda pod: pod.region, in_pod):
                answers[pod] = answer
            for post, future in elsewhere:
                answers[post] = future.result()
        return answers

    def _missed(self, place: Place, what: str, error: object, *parts: str) -> None:
        where = place.name if isinstance(place, Outpost) else f"node {place.node}"
        self.gaps.append(Gap(place.region, f"{where}: {what}", str(error), parts))

    # --- captures ---------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"capture-{self.token}"

    def _capture(self, place: Place) -> list[Operation]:
        """Towards one node of each other region: that is the way that what pods send there must take."""
        if not self.may_capture:
            return []
        toward = {host.region: str(host.address) for host in reversed(self.hosts) if host.region != place.region}
        program = capture_filter(
            (region.pod_cidr for region in self.mesh.fleet.plan.regions), (pod.udp_port for pod in self.pods.values())
        )
        return [
            {
                "op": "capture",
                "name": self._name,
                "life": CAPTURE_LIFE_S,
                "toward": list(toward.values()),
                "filter": program,
                "most": MOST_PACKETS,
            }
        ]

    def _probes(self, pairs: Sequence[Pair]) -> dict[Place, list[Operation]]:
        """The marked probes, by the pod that sends them."""
        plans: dict[Place, list[Operation]] = {}
        for pair in pairs:
            (batch,) = plans.setdefault(pair.source, [{"op": "probe", "batches": [_batch(pair.batch_mark)]}])[0][
                "batches"
            ]
            batch["targets"].append([str(pair.target.address), pair.target.udp_port, pair.target.identity])
        return plans

    def _captured(self, begun: Answers, ended: Answers) -> dict[Place, _Taken]:
        """What every capture took."""
        taken: dict[Place, _Taken] = {}
        if not self.may_capture:
            return taken
        for place, start in begun.items():
            end = ended.get(place, start)
            if isinstance(start, ProbeError) or isinstance(end, ProbeError):
                self._missed(place, "capture", start if isinstance(start, ProbeError) else end, "captures")
                continue
            error = start[1].get("error") or end[-1].get("error")
            if error:
                self._missed(place, "capture", error, "captures")
                continue
            if end[-1]["lost"]:
                self._missed(place, "capture", f"{end[-1]['lost']} packets were lost for want of room", "captures")
            regions = {str(host.address): host.region for host in self.hosts}
            taken[place] = _Taken(
                {regions[address]: interface for address, interface in end[-1]["toward"].items()},
                [(seconds, b64decode(data)) for seconds, _interface, _outgoing, data in end[-1]["packets"]],
            )
        return taken

    def _captures(self, pairs: Sequence[Pair], asked: Answers, captured: Mapping[Place, _Taken]) -> Iterable[Capture]:
        """For every marked probe what was seen of it: at both nodes, and at the routers of both regions."""
        hosts = {(host.region, host.node): host for host in self.hosts}
        routers = {router.region: router for router in self.routers}
        marks = {pair.mark for pair in pairs}
        first: set[Place] = set()
        for pair, outcome in self._outcomes(pairs, asked):
            source, target = pair.source, pair.target
            places: dict[Place | None, str] = {
                hosts[source.region, source.node]: target.region,
                routers.get(source.region): target.region,
                routers.get(target.region): source.region,
                hosts[target.region, target.node]: source.region,
            }
            for place, other in places.items():
                if place is None or place not in captured:
                    continue
                taken = captured[place]
                own = [(seconds, data) for seconds, data in taken.packets if pair.mark in data]
                bare = [] if place in first else self._bare(taken, marks)
                first.add(place)
                yield Capture(
                    region=place.region,
                    place=place.name if isinstance(place, Outpost) else place.node,
                    interface=taken.toward.get(other, ""),
                    source=source.endpoint,
                    target=target.endpoint,
                    answered=outcome is ProbeOutcome.OPEN,
                    control_seen=bool(own),
                    packets=(
                        *(_dissected(data) for _, data in own),
                        *(replace(_dissected(data), marked=False) for _, data in bare),
                    ),
                    pcap=pcap([*own, *bare]) if own or bare else "",
                )

    def _outcomes(self, pairs: Sequence[Pair], asked: Answers) -> Iterable[tuple[Pair, ProbeOutcome]]:
        missed: set[ProbePod] = set()
        for pair in pairs:
            answer = asked[pair.source]
            if isinstance(answer, ProbeError) or "error" in answer[0]:
                if pair.source not in missed:
                    error = answer if isinstance(answer, ProbeError) else answer[0]["error"]
                    self._missed(pair.source, "marked probes", error, "captures")
                    missed.add(pair.source)
                continue
            yield pair, ProbeOutcome(column(answer[0]["batches"][0], "outcome")[pair.number])

    def _bare(self, taken: _Taken, marks: set[bytes]) -> list[tuple[float, bytes]]:
        """Packets that bear a pod address outside and no mark of ours, one of each kind."""
        ranges = [region.pod_cidr for region in self.mesh.fleet.plan.regions]
        kinds: dict[bytes, tuple[float, bytes]] = {}
        for seconds, data in taken.packets:
            outer = IPv4Address(data[12:16]), IPv4Address(data[16:20])
            if any(address in network for address in outer for network in ranges) and not any(
                mark in data for mark in marks
            ):
                kinds.setdefault(data[9:10] + data[12:20], (seconds, data))
        return list(kinds.values())[:MOST_BARE]

    # --- packets made by hand ---------------------------------------------------------------------------------------

    def _tunnel_ends(self, begun: Answers) -> dict[ProbePod, list[TunnelEnd]]:
        """The devices of every node that take encapsulated packets in, the CNI's own first."""
        ends: dict[ProbePod, list[TunnelEnd]] = {}
        for host in self.hosts:
            answer = begun[host]
            if isinstance(answer, ProbeError) or "error" in answer[0]:
                error = answer if isinstance(answer, ProbeError) else answer[0]["error"]
                self._missed(host, "tunnel devices", error, "tunnels", "hand_made")
                continue
            ends[host] = tunnel_ends(host.region, host.node, answer[0]["links"], self.encapsulation)
            if not ends[host]:
                kind = TUNNEL_KINDS[self.encapsulation]
                self._missed(host, "tunnel device", f"there is no device of kind {kind}", "tunnels", "hand_made")
        return ends

    def _throws(self, ends: Mapping[ProbePod, list[TunnelEnd]]) -> list[Throw]:
        """From every node to every other."""
        if not self.may_craft:
            return []
        ready = [host for host in self.hosts if ends.get(host)]
        wanted = [(sender, host) for sender in self.hosts for host in aims(sender, ready)]
        return [
            Throw(sender, host, self.pods[host.region, host.node], _address(host), ends[host][0], number)
            for number, (sender, host) in enumerate(wanted)
        ]

    def _strange_throws(self, ends: Mapping[ProbePod, list[TunnelEnd]]) -> list[Throw]:
        """From outside to the addresses that a node may have there: its public one; its own, if that is routed."""
        if not self.strangers:
            return []
        (stranger,) = self.strangers
        told = self.mesh.networks()
        public = {
            (instance.region, instance.node): instance.public_address
            for instance in told.instances
            if instance.public_address is not None
        }
        wanted = [
            (host, address)
            for host in self.hosts
            if ends.get(host)
            for address in (public.get((host.region, host.node)), host.address)
            if address is not None
        ]
        return [
            Throw(stranger, host, self.pods[host.region, host.node], address, ends[host][0], -1 - number)
            for number, (host, address) in enumerate(wanted)
        ]

    def _sends(self, throws: Iterable[Throw], when: str) -> dict[Place, list[Operation]]:
        """What each place sends. What is inside is the same whoever sends it: a datagram from a pod of the mesh."""
        plans: dict[Place, list[Operation]] = {}
        for throw in throws:
            sender = throw.sender
            operation: Operation = {
                "op": "send",
                "protocol": IP_IN_IP if self.encapsulation is Encapsulation.IPIP else UDP,
                "source": str(sender.address) if sender.address else None,
                "packets": [],
                "copies": COPIES,
                "apart": APART_S,
            }
            packet = datagram(
                _address(self._imitated(throw)), _address(throw.pod), throw.pod.udp_port, self._mark(throw, when)
            )
            payload = wrapped(self.encapsulation, packet, vni=throw.end.vni, mac=throw.end.mac)
            plans.setdefault(sender, [operation])[0]["packets"].append(
                [str(throw.address), throw.end.port or 0, b64encode(payload).decode("ascii")]
            )
        return plans

    def _imitated(self, throw: Throw) -> ProbePod:
        """The pod that a packet made by hand claims to come from: the sender's own; for a stranger, one far away."""
        if isinstance(throw.sender, ProbePod):
            return self.pods[throw.sender.region, throw.sender.node]
        return next((pod for pod in self.pods.values() if pod.region != throw.host.region), throw.pod)

    def _mark(self, throw: Throw, when: str) -> bytes:
        return MARKED + self._key(throw, when).encode("ascii")

    def _key(self, throw: Throw, when: str) -> str:
        return f"{self.token}.{when}.{throw.number}"

    def _refusals(self, answers: Answers, throws: Iterable[Throw]) -> dict[int, str]:
        """Why packets were not even sent, by number."""
        by_sender: dict[Place, list[Throw]] = {}
        for throw in throws:
            by_sender.setdefault(throw.sender, []).append(throw)
        refused: dict[int, str] = {}
        for sender, own in by_sender.items():
            answer = answers[sender]
            error = answer if isinstance(answer, ProbeError) else answer[0].get("error")
            if error:
                part = "hand_made" if isinstance(sender, ProbePod) else "strangers"
                self._missed(sender, "packets made by hand", error, part)
            told = [str(error)] * len(own) if error else answer[0]["refusals"]  # type: ignore[index]
            refused.update((throw.number, text) for throw, text in zip(own, told, strict=True) if text)
        return refused

    def _arrivals(self, throws: Sequence[Throw]) -> dict[ProbePod, set[str] | None]:
        """The marks that have come to each pod; None where that cannot be told."""
        expected = dict.fromkeys(self.pods.values(), 0)
        for throw in throws:
            expected[throw.pod] += 1
        if not self.may_craft:
            return {}
        answers = self._run(
            {
                pod: [
                    {
                        "op": "marked",
                        "name": pod.listener_name,
                        "prefix": f"{self.token}.{AFTER}.",
                        "number": number,
                        "patience": PATIENCE_S,
                    }
                ]
                for pod, number in expected.items()
            }
        )
        arrived: dict[ProbePod, set[str] | None] = {}
        for pod in self.pods.values():
            answer = answers[pod]
            error = answer if isinstance(answer, ProbeError) else answer[0].get("error")
            if error:
                self._missed(pod, "what came to its pod", error, "hand_made")
            arrived[pod] = None if error else set(answer[0]["seen"]["marked"])  # type: ignore[index]
        return arrived

    def _told(
        self,
        throw: Throw,
        refused: Mapping[int, str],
        arrived: Mapping[ProbePod, set[str] | None],
        captured: Mapping[Place, _Taken],
    ) -> HandMadePacket:
        """What became of it."""
        sender, marks = throw.sender, arrived[throw.pod]
        in_mesh = isinstance(sender, ProbePod)
        times = (BEFORE, AFTER) if in_mesh else (STRANGE,)
        told = [] if marks is None else [self._key(throw, when) in marks for when in times]
        return HandMadePacket(
            sender=Sender.MESH_NODE if in_mesh else Sender.STRANGER,
            from_region=sender.region,
            from_place=sender.node if isinstance(sender, ProbePod) else sender.name,
            from_address=str(sender.address) if sender.address else "",
            region=throw.host.region,
            node=throw.host.node,
            address=throw.address,
            arrived=told[0] if told and len(set(told)) == 1 else None,
            reached=self._reached(throw, times, captured),
            detail=refused.get(throw.number)
            or ("of two, one before and one after the strangers', only one came" if len(set(told)) > 1 else ""),
        )

    def _reached(self, throw: Throw, times: Sequence[str], captured: Mapping[Place, _Taken]) -> bool | None:
        """Whether the capture at the receiving node has it."""
        if throw.host not in captured:
            return None
        marks = [self._mark(throw, when) for when in times]
        return any(mark in data for _, data in captured[throw.host].packets for mark in marks)


@dataclass(frozen=True)
class _Taken:
    """What a capture took: the interface towards each region, and the packets with their times."""

    toward: Mapping[str, str]
    packets: Sequence[tuple[float, bytes]]


def choose_pairs(pods: Sequence[ProbePod]) -> list[Pair]:
    """Every two nodes of different regions once, one as the sender and the other in turn; of a large mesh, a part.

    A probe and its answer cross the mesh in both directions, so that each pair need only be probed from one side.
    """
    regions: dict[str, list[ProbePod]] = {}
    for pod in pods:
        regions.setdefault(pod.region, []).append(pod)
    couples = list(combinations(regions.values(), 2))
    longest = max((max(len(a), len(b)) for a, b in couples), default=1)
    steps = max(1, MOST_PAIRS // max(1, len(couples) * longest))
    marks = {pod: secrets.token_bytes(8) for pod in pods}
    sent = dict.fromkeys(pods, 0)
    pairs = []
    for a, b in couples:
        larger, smaller = (a, b) if len(a) >= len(b) else (b, a)
        for turn, one in enumerate(larger):
            for step in range(min(steps, len(smaller))):
                other = smaller[(turn + step) % len(smaller)]
                source, target = (one, other) if (turn + step) % 2 == 0 else (other, one)
                pairs.append(Pair(source, target, marks[source], sent[source]))
                sent[source] += 1
    return pairs


def aims(sender: ProbePod, hosts: Sequence[ProbePod]) -> list[ProbePod]:
    """The nodes that one sends packets made by hand to: all others, or as many of each region as there may be."""
    regions: dict[str, list[ProbePod]] = {}
    for host in hosts:
        if host != sender:
            regions.setdefault(host.region, []).append(host)
    turn = sum(sender.identity.encode())
    return [
        group[(turn + step) % len(group)] for group in regions.values() for step in range(min(MOST_TARGETS, len(group)))
    ]


def tunnel_ends(
    region: str, node: str, links: Iterable[Mapping[str, Any]], encapsulation: Encapsulation
) -> list[TunnelEnd]:
    """The devices for it that are up, the CNI's own before those that somebody else has made.

    A device that takes any network identifier says that it has 0.
    """
    kind, port = TUNNEL_KINDS[encapsulation], PORTS[encapsulation]
    found = [
        TunnelEnd(region, node, link["name"], kind, link.get("port") or port, link.get("vni") or None, link["mac"])
        for link in links
        if link["kind"] == kind and link["up"]
    ]
    return sorted(found, key=lambda end: not any(word in end.name for word in ("calico", "cilium", "tunl0", "gene")))


def _batch(mark: bytes) -> dict[str, Any]:
    return {"kind": "udp", "targets": [], "timeout": TIMEOUT_S, "tries": TRIES, "mark": mark.hex()}


def _address(pod: ProbePod) -> IPv4Address:
    assert pod.address is not None, "a probe that is ready has an address"
    return pod.address


def _dissected(data: bytes) -> CapturedPacket:
    """What a packet is. On its way only its time to live changes, and with it the checksum of its header."""
    return _dissect_once(data[:8] + b"\0" + data[9:10] + b"\0\0" + data[12:])


@cache
def _dissect_once(data: bytes) -> CapturedPacket:
    return dissect(data)
