"""Every judge by the requirement it speaks about, called with the facts it needs from a whole world."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from analysis import (
    addressing,
    components,
    connections,
    identity,
    knowledge,
    mtu,
    paths,
    pools,
    reachability,
    routes,
    services,
    sessions,
    stores,
)
from analysis.facts import ProbeProtocol
from analysis.plan import Cni
from analysis.verdict import Verdict
from tests.unit.analysis.world import World

Judges = Mapping[str, Callable[[World], Verdict]]

COMMON: Judges = {
    "NET-ADDR-001": lambda w: addressing.judge_networks_disjoint(w.plan, w.networks),
    "NET-ADDR-002": lambda w: addressing.judge_subnets_as_planned(w.plan, w.networks),
    "NET-ADDR-003": lambda w: addressing.judge_pod_ranges_disjoint(w.plan, w.addressing),
    "NET-ADDR-004": lambda w: addressing.judge_service_ranges(w.plan, w.configuration),
    "NET-ADDR-005": lambda w: addressing.judge_ranges_apart(w.plan, w.addressing, w.configuration),
    "NET-ADDR-006": lambda w: addressing.judge_pod_addresses(w.plan, w.inventory),
    "NET-ADDR-007": lambda w: addressing.judge_service_addresses(w.plan, w.inventory),
    "NET-ADDR-008": lambda w: addressing.judge_node_addresses(w.plan, w.inventory),
    "NET-ADDR-009": lambda w: addressing.judge_blocks_in_own_range(w.plan, w.addressing),
    "NET-ADDR-010": lambda w: addressing.judge_blocks_owned_once(w.plan, w.addressing),
    "NET-ADDR-011": lambda w: addressing.judge_block_sizes(w.plan, w.addressing),
    "NET-ADDR-012": lambda w: addressing.judge_node_names_unique(w.plan, w.inventory),
    "NET-ADDR-013": lambda w: addressing.judge_node_count(w.plan, w.inventory),
    "NET-ROUTE-001": lambda w: identity.judge_identities(w.plan, w.configuration),
    "NET-ROUTE-008": lambda w: routes.judge_remote_routes(w.plan, w.inventory, w.addressing, w.forwarding, w.routing),
    "NET-ROUTE-009": lambda w: routes.judge_next_hops(w.plan, w.inventory, w.addressing, w.forwarding, w.routing),
    "NET-ROUTE-010": lambda w: routes.judge_tunnel_devices(w.plan, w.inventory, w.addressing, w.forwarding),
    "NET-ROUTE-011": lambda w: routes.judge_service_routes(w.plan, w.inventory, w.configuration, w.forwarding),
    "NET-ROUTE-014": lambda w: pools.judge_outgoing_nat(w.plan, w.addressing),
    "NET-POD-001": lambda w: reachability.judge_between_clusters(w.plan, w.reachability, ProbeProtocol.ICMP),
    "NET-POD-002": lambda w: reachability.judge_between_clusters(w.plan, w.reachability, ProbeProtocol.TCP),
    "NET-POD-003": lambda w: reachability.judge_between_clusters(w.plan, w.reachability, ProbeProtocol.UDP),
    "NET-POD-004": lambda w: reachability.judge_source_preserved(w.inventory, w.reachability),
    "NET-POD-005": lambda w: reachability.judge_node_pairs(w.plan, w.inventory, w.reachability),
    "NET-POD-006": lambda w: reachability.judge_inside_clusters(w.plan, w.reachability),
    "NET-POD-007": lambda w: reachability.judge_straight_way(w.reachability),
    "NET-POD-008": lambda w: paths.judge_remote_services(w.plan, w.paths),
    "NET-POD-009": lambda w: paths.judge_egress(w.plan, w.inventory, w.paths),
    "NET-POD-012": lambda w: paths.judge_round_trips(w.plan, w.quality),
    "NET-POD-013": lambda w: paths.judge_throughput(w.plan, w.quality),
    "NET-POD-014": lambda w: paths.judge_no_leftovers(w.plan, w.inventory),
    "NET-MTU-001": lambda w: mtu.judge_room_for_header(w.plan, w.mtu),
    "NET-MTU-002": lambda w: mtu.judge_exact_size(w.plan, w.mtu),
    "NET-MTU-003": lambda w: mtu.judge_bulk_transfers(w.plan, w.mtu),
    "NET-MTU-006": lambda w: mtu.judge_same_encapsulation(w.plan, w.inventory, w.addressing, w.components),
    "NET-MTU-008": lambda w: mtu.judge_equal_mtu(w.plan, w.inventory, w.mtu),
    "NET-MTU-011": lambda w: mtu.judge_no_flannel(w.plan, w.inventory, w.forwarding),
    "MESH-CP-001": lambda w: components.judge_components_healthy(w.plan, w.components),
    "MESH-CP-014": lambda w: components.judge_same_datapath(w.plan, w.inventory, w.components),
    "MESH-CP-017": lambda w: components.judge_single_plugin(w.plan, w.inventory, w.components),
}
"""For every mesh."""

DAEMONS: Judges = {
    "NET-ROUTE-002": lambda w: sessions.judge_full_mesh_off(w.plan, w.configuration, w.routing),
    "NET-ROUTE-003": lambda w: sessions.judge_reflectors(w.plan, w.inventory, w.configuration),
    "NET-ROUTE-004": lambda w: sessions.judge_reflector_redundancy(w.plan, w.inventory),
    "NET-ROUTE-005": lambda w: sessions.judge_internal_sessions(w.plan, w.inventory, w.configuration, w.routing),
    "NET-ROUTE-006": lambda w: sessions.judge_external_sessions(w.plan, w.inventory, w.configuration, w.routing),
    "NET-ROUTE-007": lambda w: sessions.judge_peer_addresses(w.plan, w.inventory, w.configuration),
    "NET-ROUTE-012": lambda w: routes.judge_own_services_kept_out(w.plan, w.inventory, w.forwarding),
    "NET-ROUTE-013": lambda w: pools.judge_remote_pools(w.plan, w.addressing),
    "NET-ROUTE-015": lambda w: pools.judge_tunnel_sources(w.plan, w.configuration, w.forwarding),
    "NET-ROUTE-016": lambda w: routes.judge_exchanged_prefixes(w.plan, w.inventory, w.addressing, w.routing),
    "NET-ROUTE-018": lambda w: routes.judge_direct_paths(w.plan, w.inventory, w.addressing, w.routing),
    "MESH-CP-015": lambda w: sessions.judge_sessions_complete(w.plan, w.inventory, w.routing),
    "MESH-CP-016": lambda w: sessions.judge_declared_peers(w.plan, w.inventory, w.configuration, w.routing),
}
"""For a mesh that exchanges routes by BGP."""

AGENTS: Judges = {
    "NET-ROUTE-004": lambda w: connections.judge_store_redundancy(w.plan, w.components),
    "NET-ROUTE-005": lambda w: connections.judge_agents_at_home(w.plan, w.inventory, w.components),
    "NET-ROUTE-006": lambda w: connections.judge_agents_connected(w.plan, w.inventory, w.federation),
    "NET-ROUTE-007": lambda w: connections.judge_store_addresses(w.plan, w.inventory, w.federation),
    "NET-ROUTE-014": lambda w: pools.judge_masquerading(w.plan, w.components, w.reachability),
    "NET-ROUTE-015": lambda w: knowledge.judge_tunnel_peers(w.plan, w.inventory, w.federation),
    "NET-ROUTE-019": lambda w: knowledge.judge_known_nodes(w.plan, w.inventory, w.addressing, w.federation),
    "NET-ROUTE-020": lambda w: knowledge.judge_known_identities(w.plan, w.inventory, w.federation),
    "MESH-CP-002": lambda w: connections.judge_clusters_connected(w.plan, w.federation),
    "MESH-CP-003": lambda w: stores.judge_stores_own(w.plan, w.federation),
    "MESH-CP-004": lambda w: stores.judge_remote_access(w.plan, w.federation),
    "MESH-CP-005": lambda w: stores.judge_stores_closed(w.plan, w.federation),
    "MESH-CP-006": lambda w: stores.judge_store_certificates(w.plan, w.federation),
    "MESH-CP-007": lambda w: stores.judge_common_authority(w.plan, w.federation),
    "MESH-CP-008": lambda w: connections.judge_settings_complete(w.plan, w.federation),
    "MESH-CP-009": lambda w: stores.judge_credentials(w.plan, w.federation),
    "MESH-CP-012": lambda w: connections.judge_endpoints_open(w.plan, w.inventory, w.federation),
    "MESH-CP-013": lambda w: stores.judge_store_port_apart(w.plan, w.inventory, w.federation),
    "MESH-CP-015": lambda w: knowledge.judge_node_health(w.plan, w.inventory, w.federation),
    "MESH-CP-018": lambda w: services.judge_global_services(w.plan, w.federation),
    "MESH-CP-019": lambda w: stores.judge_store_members(w.plan, w.inventory),
}
"""For a mesh whose agents read each other's stores."""

JUDGES: Judges = {**COMMON, **DAEMONS}
CILIUM_JUDGES: Judges = {**COMMON, **AGENTS}


def verdicts(world: World) -> dict[str, Verdict]:
    """What every judge that is for that world says of it."""
    judges = JUDGES if world.plan.cni is Cni.CALICO_BGP else CILIUM_JUDGES
    return {requirement: judge(world) for requirement, judge in judges.items()}
