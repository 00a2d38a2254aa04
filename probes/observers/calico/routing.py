"""BGP sessions and RIB, as the routing daemon of every node tells them."""

from __future__ import annotations

from datetime import timedelta

from analysis.bird import BirdParseError, parse_protocols, parse_routes
from analysis.facts import Gap, RibRoute, Routing, Session
from probes.calico import CONTAINER, calico_node_pods
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbeSet
from probes.errors import ExecFailed, ProbeError
from probes.mesh import Mesh

SEPARATOR = "--- routes ---"
_CLIENT = "birdcl -r -s /var/run/calico/bird.ctl show"
COMMAND = ["/bin/sh", "-c", f"{_CLIENT} protocols all && echo '{SEPARATOR}' && {_CLIENT} route all"]
"""Both questions in one exec: what they answer is of one moment. Nothing in it comes from outside."""

WITHIN = timedelta(seconds=20)


def observe_routing(mesh: Mesh, _probe_set: ProbeSet) -> Routing:
    """Ask BIRD in every calico-node pod for its protocols and routes."""
    sessions: list[Session] = []
    routes: list[RibRoute] = []
    gaps: list[Gap] = []
    pods: list[tuple[str, KubeObject]] = []
    for region, found in mesh.each_region(calico_node_pods):
        if isinstance(found, ProbeError):
            gaps.append(Gap(region, "BGP sessions and routes", str(found)))
        else:
            if not found:
                gaps.append(Gap(region, "BGP sessions and routes", "no calico-node pod runs there"))
            pods += ((region, pod) for pod in found)
    for (region, pod), told in mesh.each(pods, lambda item: item[0], lambda cluster, item: _ask(cluster, item[1])):
        node = pod["spec"]["nodeName"]
        if isinstance(told, ProbeError):
            gaps.append(Gap(region, f"node {node}: BGP sessions and routes", str(told)))
            continue
        try:
            seen = read_routing(region, node, told)
        except BirdParseError as error:
            gaps.append(
                Gap(region, f"node {node}: BGP sessions and routes", f"BIRD's answer is not understood: {error}")
            )
            continue
        sessions += seen.sessions
        routes += seen.routes
    return Routing(tuple(sessions), tuple(routes), tuple(gaps))


def read_routing(region: str, node: str, told: str) -> Routing:
    """What one node's BIRD said to both questions. Raises BirdParseError."""
    protocols, separator, routes = told.partition(SEPARATOR)
    if not separator:
        raise BirdParseError("only one of two answers")
    sessions = (protocol.session(region, node) for protocol in parse_protocols(protocols))
    return Routing(
        tuple(session for session in sessions if session),
        tuple(route.rib_route(region, node) for route in parse_routes(routes)),
    )


def _ask(cluster: Cluster, pod: KubeObject) -> str:
    metadata = pod["metadata"]
    completed = cluster.exec(metadata["namespace"], metadata["name"], COMMAND, within=WITHIN, container=CONTAINER)
    if completed.exit_code:
        said = (completed.stderr or completed.stdout)[-300:].decode("utf-8", "replace").strip()
        raise ExecFailed(f"{cluster.region}/{metadata['name']}: birdcl ended with {completed.exit_code}: {said}")
    return completed.stdout.decode("utf-8", "replace")
