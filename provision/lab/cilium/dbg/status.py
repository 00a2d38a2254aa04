"""`cilium-dbg status`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from provision.lab.cilium.dbg.forms import ago, set_fields, timestamp, to_json, truth
from provision.lab.cilium.state import NEVER, AgentState, ControllerState, HealthReport, RemoteState

OK, FAILURE, DISABLED = "Ok", "Failure", "Disabled"
_HEADING = 25


@dataclass(frozen=True)
class StatusOptions:
    """What the text is to show beyond the usual."""

    all_addresses: bool = False
    all_clusters: bool = False
    all_controllers: bool = False
    all_health: bool = False


def agent_state(state: AgentState) -> tuple[str, str]:
    """The state of the agent as a whole, and its words."""
    if state.kubernetes_error:
        return FAILURE, f"Kubernetes service is not ready: {state.kubernetes_error}"
    return OK, f"{state.version} (v{state.version})"


def status_json(state: AgentState) -> str:
    """The JSON form, which has everything whatever is asked for."""
    return to_json(_model(state))


def brief_text(state: AgentState) -> str:
    """One line: OK, or what is wrong."""
    word, message = agent_state(state)
    return "OK\n" if word == OK else f"error: {message}\n"


def status_text(state: AgentState, options: StatusOptions, now: datetime) -> str:
    """The text form."""
    return "".join(f"{line.rstrip()}\n" for line in _lines(state, options, now))


def _model(state: AgentState) -> dict[str, Any]:
    word, message = agent_state(state)
    settings = state.settings
    minimum, maximum = _identity_range(state)
    kubernetes = (FAILURE, state.kubernetes_error) if state.kubernetes_error else (OK, state.kubernetes_version)
    model: dict[str, Any] = {
        "cilium": {"state": word, "msg": message},
        "cluster": {"ciliumHealth": {"state": _health_daemon(settings)}, "self": _self(state)},
        "cluster-mesh": _mesh(state),
        "controllers": [_controller(controller) for controller in state.controllers],
        "datapath-mode": settings.get("datapath-mode", "veth"),
        "encryption": {"mode": _encryption(settings)},
        "identity-range": {"min-identity": minimum, "max-identity": maximum},
        "ipam": {
            "allocations": {str(address): owner for address, owner in state.allocated},
            "ipv4": [str(address) for address, _ in state.allocated],
            "status": _ipam(state),
        },
        "kube-proxy-replacement": {"mode": settings.get("kube-proxy-replacement", "false").capitalize()},
        "kubernetes": {"state": kubernetes[0], "msg": kubernetes[1]},
        "kvstore": {"state": DISABLED},
        "masquerading": set_fields(
            enabled=_masquerades(settings),
            mode="BPF" if settings.get("enable-bpf-masquerade") == "true" else "iptables",
            enabledProtocols=set_fields(ipv4=_masquerades(settings)),
            snat_exclusion_cidr_v4=settings.get("ipv4-native-routing-cidr") or "",
        ),
        "stale": {},
    }
    if state.minor >= (1, 16):
        model["routing"] = set_fields(
            inter_host_routing_mode=settings.get("routing-mode", "tunnel").capitalize(),
            intra_host_routing_mode="Legacy",
            tunnel_protocol=_tunnel(settings),
        )
    else:
        model["host-routing"] = {"mode": "Legacy"}
    return model


def _mesh(state: AgentState) -> dict[str, Any]:
    mesh: dict[str, Any] = {"clusters": [_remote(state, remote) for remote in state.remotes]}
    services = _global_services(state)
    if services and state.minor < (1, 19):
        mesh["num-global-services"] = services
    return mesh


def _remote(state: AgentState, remote: RemoteState) -> dict[str, Any]:
    exports = state.minor >= (1, 17)
    model = set_fields(
        name=remote.name,
        ready=remote.ready,
        connected=remote.connected,
        status=remote.status,
        num_nodes=remote.nodes,
        num_endpoints=remote.endpoints,
        num_identities=remote.identities,
        num_shared_services=remote.services,
        num_failures=remote.failures,
    )
    model["last-failure"] = timestamp(remote.last_failure)
    synced = remote.synced
    model["synced"] = set_fields(
        nodes=synced.nodes, endpoints=synced.endpoints, identities=synced.identities, services=synced.services
    )
    if remote.config is not None:
        config = remote.config
        model["config"] = set_fields(
            required=config.required,
            retrieved=config.retrieved,
            cluster_id=config.cluster_id,
            kvstoremesh=config.kvstoremesh,
            sync_canaries=config.sync_canaries,
        )
        if exports and config.service_exports is not None:
            model["config"]["service-exports-enabled"] = config.service_exports
    return model


def _controller(controller: ControllerState) -> dict[str, Any]:
    status = set_fields(
        consecutive_failure_count=controller.failures,
        last_failure_msg=controller.last_error,
        success_count=int(not controller.last_error),
    )
    return {"name": controller.name, "status": status}


def _lines(state: AgentState, options: StatusOptions, now: datetime) -> Iterator[str]:
    word, message = agent_state(state)
    settings = state.settings
    kubernetes = (FAILURE, state.kubernetes_error) if state.kubernetes_error else (OK, state.kubernetes_version)
    yield _row("KVStore", DISABLED)
    yield _row("Kubernetes", f"{kubernetes[0]}   {kubernetes[1]}")
    yield _row("KubeProxyReplacement", settings.get("kube-proxy-replacement", "false").capitalize())
    yield _row("Cilium", f"{word}   {message}")
    yield _row("Cilium health daemon", _health_daemon(settings))
    yield _row("IPAM", _ipam(state))
    if options.all_addresses:
        yield "Allocated addresses:"
        for address, owner in state.allocated:
            yield f"  {address} ({owner})"
    yield from _mesh_lines(state, options, now)
    if state.minor >= (1, 16):
        tunnel = _tunnel(settings)
        network = settings.get("routing-mode", "tunnel").capitalize() + (f" [{tunnel}]" if tunnel else "")
        yield _row("Routing", f"Network: {network}   Host: Legacy")
    else:
        yield _row("Host Routing", "Legacy")
    mode = "BPF" if settings.get("enable-bpf-masquerade") == "true" else "IPTables"
    enabled = f"{mode} [IPv4: Enabled, IPv6: Disabled]"
    yield _row("Masquerading", enabled if _masquerades(settings) else DISABLED)
    yield from _controller_lines(state, options)
    minimum, maximum = _identity_range(state)
    yield _row("Global Identity Range", f"min {minimum}, max {maximum}")
    yield _row("Encryption", _encryption(settings))
    if state.health is not None:
        yield from health_lines(state.health, now, everything=options.all_health)


def _mesh_lines(state: AgentState, options: StatusOptions, now: datetime) -> Iterator[str]:
    ready = sum(remote.ready for remote in state.remotes)
    clusters = "clusters" if state.minor < (1, 16) else "remote clusters"
    services = f", {_global_services(state)} global-services" if state.minor < (1, 19) else ""
    yield _row("ClusterMesh", f"{ready}/{len(state.remotes)} {clusters} ready{services}")
    for remote in state.remotes:
        if options.all_clusters or not remote.ready:
            yield from _remote_lines(state, remote, now)


def _remote_lines(state: AgentState, remote: RemoteState, now: datetime) -> Iterator[str]:
    exports = state.minor >= (1, 17)
    losses = "failures" if state.minor < (1, 16) else "reconnections"
    counts = f"{remote.nodes} nodes, {remote.endpoints} endpoints, {remote.identities} identities"
    counts += f", {remote.services} services" + (", 0 MCS-API service exports" if exports else "")
    last = "never" if remote.last_failure == NEVER else ago(remote.last_failure, now)
    word = "ready" if remote.ready else "not-ready"
    yield f"   {remote.name}: {word}, {counts}, {remote.failures} {losses} (last: {last})"
    yield f"   └  {remote.status}"
    if remote.config is None:
        yield "   └  remote configuration: expected=unknown, retrieved=unknown"
    else:
        config = remote.config
        told = f"expected={truth(config.required)}, retrieved={truth(config.retrieved)}"
        if config.retrieved:
            told += f", cluster-id={config.cluster_id}, kvstoremesh={truth(config.kvstoremesh)}"
            told += f", sync-canaries={truth(config.sync_canaries)}"
            if exports:
                words = {None: "unsupported", True: "enabled", False: "disabled"}
                told += f", service-exports={words[config.service_exports]}"
        yield f"   └  remote configuration: {told}"
    synced = remote.synced
    yield (
        f"   └  synchronization status: nodes={truth(synced.nodes)}, endpoints={truth(synced.endpoints)}, "
        f"identities={truth(synced.identities)}, services={truth(synced.services)}"
    )


def _controller_lines(state: AgentState, options: StatusOptions) -> Iterator[str]:
    failing = [controller for controller in state.controllers if controller.last_error]
    total = len(state.controllers)
    yield _row("Controller Status", f"{total - len(failing)}/{total} healthy")
    shown = state.controllers if options.all_controllers else tuple(failing)
    if shown:
        yield "  Name   Last success   Last error   Count   Message"
    for controller in shown:
        yield f"  {controller.name}   -   -   {controller.failures}   {controller.last_error or 'no error'}"


def health_lines(report: HealthReport, now: datetime, *, everything: bool = False) -> Iterator[str]:
    """How many nodes are reachable, and which are not."""
    reached = sum(node.reachable for node in report.nodes)
    probed = f"({ago(report.timestamp, now)})" if everything else f"({timestamp(report.timestamp)})"
    yield _row("Cluster health", f"{reached}/{len(report.nodes)} reachable   {probed}")
    shown = [node for node in report.nodes if everything or not node.reachable]
    if shown:
        yield "  Name   IP   Node   Endpoints"
    for node in shown:
        host = "reachable" if not node.host.icmp.status or not node.host.http.status else "unreachable"
        endpoint = "unknown"
        if node.endpoint is not None:
            answered = not node.endpoint.icmp.status or not node.endpoint.http.status
            endpoint = "reachable" if answered else "unreachable"
        yield f"  {node.name}   {node.host.address}   {host}   {endpoint}"


def _row(heading: str, text: str) -> str:
    return f"{heading}:".ljust(_HEADING) + text


def _health_daemon(settings: dict[str, str]) -> str:
    return OK if settings.get("enable-health-checking", "true") == "true" else DISABLED


def _self(state: AgentState) -> str:
    return state.node if state.cluster == "default" else f"{state.cluster}/{state.node}"


def _ipam(state: AgentState) -> str:
    size = state.pod_cidr.num_addresses - 2 if state.pod_cidr else 0
    return f"IPv4: {len(state.allocated)}/{size} allocated from {state.pod_cidr}, "


def _identity_range(state: AgentState) -> tuple[int, int]:
    bits = 15 if state.settings.get("max-connected-clusters") == "511" else 16
    return state.cluster_id << bits or 256, (state.cluster_id + 1 << bits) - 1


def _global_services(state: AgentState) -> int:
    return len({(service.namespace, service.name) for service in state.services if service.shared})


def _masquerades(settings: dict[str, str]) -> bool:
    return settings.get("enable-ipv4-masquerade", "true") == "true"


def _tunnel(settings: dict[str, str]) -> str:
    return settings.get("tunnel-protocol", "vxlan") if settings.get("routing-mode", "tunnel") == "tunnel" else ""


def _encryption(settings: dict[str, str]) -> str:
    if settings.get("enable-wireguard") == "true":
        return "Wireguard"
    return "IPsec" if settings.get("enable-ipsec") == "true" else DISABLED
