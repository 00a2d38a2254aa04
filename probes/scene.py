"""Who tries which flows under policy: the sides, the flows between them, and controls of those that must not pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from analysis.facts import Gap, Participant, Party, Way
from analysis.plan import CLIENT, DATABASE, PolicyPlan, PolicyRole
from probes.cluster import Cluster, KubeObject
from probes.cluster_dns import DNS_PORT, IDENTIFYING_NAME
from probes.deploy import OWNED, ProbeSet, ipv4_of
from probes.errors import ProbeError
from probes.flows import Flow, Side
from probes.mesh import Mesh
from probes.roles import ARBITRARY, Actor, Cast

MEMBERS = 2
"""Real pods of a role in each region that are knocked at."""

API_PORT = 443


@dataclass(frozen=True)
class Scene:
    """All sides, by their place.

    Attributes:
        policy: what must pass.
        services_routed: addresses of services lead to other clusters, too.
        sides: pods of ours, nodes, real pods, DNS servers, the outside, API servers.
        gaps: who could not be found.
        ipv6: regions where pods have IPv6 addresses; None where one could not be asked.
    """

    policy: PolicyPlan
    services_routed: bool
    sides: tuple[Side, ...]
    gaps: tuple[Gap, ...] = ()
    ipv6: tuple[str, ...] | None = None
    _places: dict[tuple[str, Party, str], list[int]] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for place, side in enumerate(self.sides):
            one = side.participant
            self._places.setdefault((one.region, one.party, one.role), []).append(place)

    @classmethod
    def of(cls, mesh: Mesh, probe_set: ProbeSet, actors: Cast) -> Scene:
        """Those who entered, and whoever else is there."""
        plan = mesh.fleet.plan
        assert plan.policy is not None
        sides = [side_of(actor) for actor in actors.actors]
        nodes = {(actor.pod.region, actor.pod.node) for actor in actors.actors}
        sides += [
            Side(
                Participant(pod.region, Party.NODE, pod.node, pod.address, node=pod.node),
                pod,
                identity=pod.identity,
            )
            for pod in probe_set.on_hosts()
            if (pod.region, pod.node) in nodes and pod.address is not None
        ]
        gaps: list[Gap] = []
        ipv6: list[str] = []
        for region, found in mesh.each_region(lambda cluster: _found_in(cluster, plan.policy)):
            if isinstance(found, ProbeError):
                gaps.append(Gap(region, "pods of the database, API server", str(found), ("trials",)))
            else:
                members, has_ipv6 = found
                sides += members
                ipv6 += [region] if has_ipv6 else []
        sides += [
            Side(Participant(region.name, Party.DNS, "cluster DNS", region.dns_address), identity=IDENTIFYING_NAME)
            for region in plan.regions
        ]
        if plan.egress is not None:
            sides.append(Side(Participant("", Party.OUTSIDE, f"port {plan.egress.port}", plan.egress.address)))
        return cls(plan.policy, plan.services_routed, tuple(sides), tuple(gaps), None if gaps else tuple(ipv6))

    def participants(self, unwell: Iterable[int] = ()) -> tuple[Participant, ...]:
        """All sides as facts."""
        ill = set(unwell)
        return tuple(replace(side.participant, healthy=place not in ill) for place, side in enumerate(self.sides))

    def places(self, party: Party, role: str = "", region: str | None = None) -> list[int]:
        """Those of that kind, in that region or in all."""
        return [
            place
            for (where, who, what), found in self._places.items()
            if (who, what) == (party, role) and region in (None, where)
            for place in found
        ]

    def flows(self) -> list[Flow]:
        """All that is tried, each once."""
        database = self.places(Party.ROLE, DATABASE)
        strangers = self.places(Party.STRANGER)
        clients = self.places(Party.ROLE, CLIENT)
        first = first_of_each_region(self.sides, clients)
        others = [
            place
            for role in self.policy.roles
            if role.name not in (DATABASE, CLIENT)
            for place in self.places(Party.ROLE, role.name)
        ]
        tried: list[Flow] = []
        for target in database:
            for source in [*database, *strangers, *first, *others]:
                tried += self.doors(source, target)
            for source in set(clients) - set(first):
                tried += (flow for flow in self.doors(source, target) if flow.must_pass)
        for source in database:
            for target in [*strangers, *first]:
                tried += self.doors(source, target)
            tried += self._beyond(source)
        tried += self._baseline(strangers)
        tried += self._to_members(database, strangers, first, others)
        tried += self._from_nodes(database)
        tried += self._in_fragments(database, strangers)
        return list(dict.fromkeys(tried))

    # --- flows ------------------------------------------------------------------------------------------------------

    def doors(self, source: int, target: int) -> Iterator[Flow]:
        """Every door of the target, and an echo."""
        if source == target:
            return
        open_ports = self.must_pass(source, target)
        controls = self.controls(source, target)
        for protocol, port in self.sides[target].participant.listening:
            must_pass = protocol == "TCP" and port in open_ports
            yield Flow(
                source,
                target,
                protocol.lower(),
                port,
                must_pass=must_pass,
                controls=() if must_pass else controls,
            )
        yield Flow(source, target, "icmp", 0, controls=controls)

    def _beyond(self, source: int) -> Iterator[Flow]:
        """From a pod of the database to what is no pod of ours."""
        region = self.sides[source].participant.region
        for target in self.places(Party.DNS):
            own = self.sides[target].participant.region == region
            if own or self.services_routed:
                for kind in ("dns-udp", "dns-tcp"):
                    controls = () if own else self._controls_beyond(source, target, kind, DNS_PORT)
                    yield Flow(source, target, kind, DNS_PORT, must_pass=own, controls=controls)
        for target in self.places(Party.OUTSIDE):
            port = int(self.sides[target].participant.name.split()[1])
            yield Flow(source, target, "line", port, controls=self._controls_beyond(source, target, "line", port))
        for target in self.places(Party.API_SERVER, region=region):
            controls = self._controls_beyond(source, target, "knock", API_PORT)
            yield Flow(source, target, "knock", API_PORT, controls=controls)

    def _baseline(self, strangers: Sequence[int]) -> Iterator[Flow]:
        """Between strangers all must pass: nobody's policy speaks of them."""
        ports = {*self._database_ports(), ARBITRARY}
        for source in strangers:
            for target in strangers:
                for protocol, port in self.sides[target].participant.listening if source != target else ():
                    if port in ports and protocol != "SCTP":
                        yield Flow(source, target, protocol.lower(), port, must_pass=True)

    def _to_members(
        self, database: Sequence[int], strangers: Sequence[int], clients: Sequence[int], others: Sequence[int]
    ) -> Iterator[Flow]:
        """To real pods: only knocks, at ports that somebody may use."""
        near = first_of_each_region(self.sides, database)
        for role in self.policy.roles:
            sources = [*near, *strangers, *clients, *others] if role.name == DATABASE else database
            ports = sorted({port for flow in self.policy.allow if flow.target == role.name for port in flow.ports})
            for target in self.places(Party.MEMBER, role.name):
                for source in sources:
                    open_ports = self.must_pass(source, target)
                    for port in ports:
                        must_pass = port in open_ports
                        controls = () if must_pass else self.controls(source, target, ("knock", port))
                        yield Flow(source, target, "knock", port, must_pass=must_pass, controls=controls)

    def _from_nodes(self, database: Sequence[int]) -> Iterator[Flow]:
        """From a node of each region to pods on other nodes: a pod's own node always reaches it, for its kubelet."""
        for source in first_of_each_region(self.sides, self.places(Party.NODE)):
            for target in database:
                if self.sides[source].participant.node != self.sides[target].participant.node:
                    for port in (*self._database_ports(), ARBITRARY):
                        yield Flow(source, target, "tcp", port, Way.NODE, controls=self.controls(source, target))

    def _in_fragments(self, database: Sequence[int], strangers: Sequence[int]) -> Iterator[Flow]:
        """Datagrams of which only the first fragment says the port, from and to strangers."""
        ports = {*self._database_ports(), ARBITRARY}
        pairs = [pair for one in database for other in strangers for pair in ((one, other), (other, one))]
        for source, target in pairs:
            controls = self.controls(source, target)
            for protocol, port in self.sides[target].participant.listening:
                if protocol == "UDP" and port in ports:
                    yield Flow(source, target, "udp-fragments", port, Way.FRAGMENTED, controls=controls)

    # --- controls ---------------------------------------------------------------------------------------------------

    def controls(self, source: int, target: int, knock: tuple[str, int] | None = None) -> tuple[Flow, ...]:
        """Flows that must pass for a silence between the two to mean something.

        Args:
            source: whence.
            target: whither.
            knock: how the target is to be tried where it is no pod of ours.
        """
        direct = self._allowed(source, target)
        if direct is not None:
            return (direct,)
        here = self.sides[source].participant
        if here.role == DATABASE:
            kind, port = knock or ("tcp", self._some_door(target))
            return self._controls_beyond(source, target, kind, port)
        beside = next(iter(self.clients_near(target)), None)
        instead = (self._allowed(place, target) for place in self.clients_near(source))
        allowed = next((flow for flow in instead if flow is not None), None)
        if allowed is None:
            peers = (self._allowed(place, target) for place in self.places(Party.ROLE, DATABASE, here.region))
            allowed = next((flow for flow in peers if flow is not None), None)
        reached = None if beside is None or beside == source else Flow(source, beside, "tcp", self._some_door(beside))
        return tuple(flow for flow in (reached, allowed) if flow is not None)

    def _controls_beyond(self, source: int, target: int, kind: str, port: int) -> tuple[Flow, ...]:
        """The source gets out where it may, and somebody beside it reaches the target."""
        region = self.sides[target].participant.region
        peers = [*self.places(Party.ROLE, DATABASE, region), *self.places(Party.ROLE, DATABASE)]
        out = next((flow for flow in (self._allowed(source, peer) for peer in peers) if flow is not None), None)
        beside = next((place for place in self.clients_near(source) if place != target), None)
        reached = None if beside is None else Flow(beside, target, kind, port)
        return tuple(flow for flow in (out, reached) if flow is not None)

    def _allowed(self, source: int, target: int) -> Flow | None:
        """Something that must pass between the two."""
        ports = sorted(self.must_pass(source, target))
        if source == target or not ports:
            return None
        listening = self.sides[target].participant.listening
        return Flow(source, target, "tcp" if listening else "knock", ports[0], must_pass=True)

    def must_pass(self, source: int, target: int) -> frozenset[int]:
        """The TCP ports that policy must open between the two."""
        here, there = self.sides[source].participant, self.sides[target].participant
        return self.policy.ports((here.role, here.region), (there.role, there.region))

    def clients_near(self, place: int) -> list[int]:
        """Clients of the same region, those on the same node first."""
        own = self.sides[place].participant
        clients = self.places(Party.ROLE, CLIENT, own.region)
        return sorted(clients, key=lambda client: self.sides[client].participant.node != own.node)

    def _some_door(self, place: int | None) -> int:
        listening = self.sides[place].participant.listening if place is not None else ()
        return next((port for protocol, port in listening if protocol == "TCP"), 0)

    def _database_ports(self) -> tuple[int, ...]:
        return tuple(
            dict.fromkeys(port for flow in self.policy.allow if flow.target == DATABASE for port in flow.ports)
        )


def side_of(actor: Actor) -> Side:
    """An actor as a side of flows."""
    pod = actor.pod
    assert pod.address is not None, "it has entered"
    return Side(
        Participant(
            pod.region, actor.party, pod.name, pod.address, actor.role, pod.node, pod.namespace, listening=actor.doors
        ),
        pod,
        actor.doors_name,
        pod.identity,
        actor.node_ports,
    )


def first_of_each_region(sides: Sequence[Side], places: Iterable[int]) -> list[int]:
    """The first of these places in each region."""
    first: dict[str, int] = {}
    for place in places:
        first.setdefault(sides[place].participant.region, place)
    return list(first.values())


def _found_in(cluster: Cluster, policy: PolicyPlan | None) -> tuple[list[Side], bool]:
    """Real pods of the roles that serve and the API server; whether any pod has an IPv6 address. Raises ApiError."""
    pods = cluster.items("/api/v1/pods")
    serving = {flow.target for flow in policy.allow} if policy else set()
    roles = [role for role in policy.roles if role.name in serving and role.name != CLIENT] if policy else []
    sides = [side for role in roles for side in _members(cluster.region, pods, role)[:MEMBERS]]
    for service in cluster.items("/api/v1/services"):
        where = service["metadata"]["namespace"], service["metadata"]["name"]
        if where == ("default", "kubernetes") and ":" not in service["spec"]["clusterIP"]:
            address = IPv4Address(service["spec"]["clusterIP"])
            sides.append(Side(Participant(cluster.region, Party.API_SERVER, "kubernetes", address)))
    addresses = (item.get("ip", "") for pod in pods for item in pod.get("status", {}).get("podIPs") or ())
    return sides, any(":" in address for address in addresses)


def _members(region: str, pods: Iterable[KubeObject], role: PolicyRole) -> list[Side]:
    """Pods that wear the role's label and are not ours."""
    found = []
    for pod in pods:
        metadata, spec = pod["metadata"], pod["spec"]
        labels, address = metadata.get("labels") or {}, ipv4_of(pod)
        running = pod.get("status", {}).get("phase") == "Running" and not metadata.get("deletionTimestamp")
        worn = labels.get(role.key) == role.value and OWNED not in labels
        if worn and running and not spec.get("hostNetwork") and address is not None:
            name, node, namespace = metadata["name"], spec["nodeName"], metadata["namespace"]
            found.append(Side(Participant(region, Party.MEMBER, name, address, role.name, node, namespace)))
    return found
