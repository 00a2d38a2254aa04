"""Observers turn what the API, BIRD, the kernel and the agents say into facts, and what they do not say into gaps."""

import json
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network

import pytest

from analysis.facts import ProbeOutcome, ProbeProtocol, Refusal, Routing
from analysis.plan import Cni, EgressTarget
from fixtures.facts import FactStore, Family
from probes import deploy
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ApiError, ExecFailed, PodGone
from probes.observers import BY_CNI, COMMON, observe
from probes.observers import EMPTY as EMPTY_FACTS
from probes.observers.calico.addressing import observe_addressing, read_blocks, read_pool
from probes.observers.calico.configuration import as_number, observe_configuration, read_peering
from probes.observers.calico.forwarding import observe_forwarding, read_sets
from probes.observers.calico.routing import observe_routing
from probes.observers.inventory import observe_inventory
from probes.observers.kernel import read_links, read_routes
from probes.observers.mtu import observe_mtu, read_path, targets_of
from probes.observers.paths import dns_endpoint, identifying_name, observe_paths, region_of_answer
from probes.observers.quality import Measured, compare, observe_quality, read_transfer
from probes.observers.reachability import observe_reachability

CRD = "/apis/crd.projectcalico.org/v1"
EMPTY = ProbeSet("run", "meshproof", "2999-01-01T00:00:00+00:00", ())


def named(name, spec=None, **metadata):
    return {"metadata": {"name": name, **metadata}, "spec": spec or {}}


@pytest.mark.parametrize("cni", Cni)
def test_every_family_of_facts_but_the_provider_s_can_be_had_of_either_cni(cni):
    families = {name for name, kind in vars(FactStore).items() if isinstance(kind, Family)} - {"networks"}
    assert families == {*COMMON, *BY_CNI[cni], *EMPTY_FACTS}


def test_a_family_that_the_cni_does_not_have_is_empty(make_mesh, make_cluster):
    mesh = make_mesh(make_cluster("eastus"))
    mesh.fleet = replace(mesh.fleet, plan=replace(mesh.fleet.plan, cni=Cni.CILIUM_CLUSTERMESH))
    assert observe("routing", mesh, EMPTY) == Routing((), ())


# --- inventory --------------------------------------------------------------------------------------------------------


def api_pod(name, phase="Running", labels=None, annotations=None, **status):
    metadata = {"namespace": "meshproof", "labels": labels or {}, "annotations": annotations or {}}
    return {
        **named(name, {"nodeName": "n1"}, **metadata),
        "status": {
            "phase": phase,
            "podIP": "192.168.0.70",
            "conditions": [{"type": "Ready", "status": "True"}],
            **status,
        },
    }


def test_the_inventory_reads_what_is_there_and_keeps_the_rest_when_one_list_fails(make_mesh, make_cluster):
    node = named("n1", labels={"route-reflector": "true"})
    node["status"] = {
        "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.1.10"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    headless = named("db", {"clusterIP": "None"}, namespace="east")
    dns = named("kube-dns", {"clusterIP": "172.20.0.10", "type": "ClusterIP"}, namespace="kube-system")
    good = make_cluster(
        "us-east-1",
        {
            "/api/v1/nodes": [node],
            "/api/v1/pods": [api_pod("a"), api_pod("done", phase="Succeeded")],
            "/api/v1/services": [dns, headless],
        },
    )
    bad = make_cluster(
        "us-east-2",
        {
            "/api/v1/nodes": [],
            "/api/v1/pods": ApiError("us-east-2", "GET /api/v1/pods", 403, "forbidden"),
            "/api/v1/services": [],
        },
    )
    seen = observe_inventory(make_mesh(good, bad), EMPTY)
    assert (seen.nodes[0].internal_ip, seen.nodes[0].ready) == (IPv4Address("10.0.1.10"), True)
    assert seen.nodes[0].label("route-reflector") == "true"
    assert [pod.name for pod in seen.pods] == ["a"]
    assert [service.cluster_ip for service in seen.services] == [IPv4Address("172.20.0.10"), None]
    assert [(gap.region, gap.subject) for gap in seen.gaps] == [("us-east-2", "pods")]


def test_only_what_earlier_runs_forgot_is_a_leftover(make_mesh, make_cluster):
    soon, past = ((datetime.now(UTC) + timedelta(hours=hours)).isoformat() for hours in (1, -1))
    ours = {deploy.OWNED: "true", deploy.RUN: "another"}
    pods = [
        api_pod("crashed", labels=ours, annotations={deploy.EXPIRES: past}),
        api_pod("alive", labels=ours, annotations={deploy.EXPIRES: soon}),
        api_pod("ended", phase="Failed", labels=ours, annotations={deploy.EXPIRES: soon}),
        api_pod("mine", labels={**ours, deploy.RUN: "run"}, annotations={deploy.EXPIRES: past}),
        api_pod("network-test-1"),
        api_pod("workload"),
    ]
    cluster = make_cluster("us-east-1", {"/api/v1/nodes": [], "/api/v1/services": [], "/api/v1/pods": pods})
    seen = observe_inventory(make_mesh(cluster), EMPTY)
    assert [pod.name for pod in seen.leftover_pods] == ["crashed", "ended", "network-test-1"]


# --- addressing -------------------------------------------------------------------------------------------------------


def test_a_raw_pool_gets_calico_s_defaults():
    pool = read_pool("us-east-1", named("p", {"cidr": "192.168.0.0/18"}))
    assert (pool.block_size, pool.disabled, pool.nat_outgoing) == (26, False, False)
    assert (pool.encapsulation, pool.encapsulation_mode) == ("none", "never")


@pytest.mark.parametrize(
    ("spec", "encapsulation", "mode"),
    [
        ({"ipipMode": "Always"}, "ipip", "always"),
        ({"ipipMode": "Never", "vxlanMode": "CrossSubnet"}, "vxlan", "cross-subnet"),
        ({"ipipMode": "Never", "vxlanMode": "Never"}, "none", "never"),
    ],
)
def test_a_pool_s_encapsulation_has_one_name_for_every_cni(spec, encapsulation, mode):
    pool = read_pool("us-east-1", named("p", {"cidr": "192.168.0.0/18", **spec}))
    assert (pool.encapsulation, pool.encapsulation_mode) == (encapsulation, mode)


def block(cidr, affinity="host:n1", allocations=(), **more):
    return named("b", {"cidr": cidr, "affinity": affinity, "allocations": list(allocations), **more})


def affinity(cidr, node, state="confirmed", deleted="false"):
    return named("a", {"cidr": cidr, "node": node, "state": state, "deleted": deleted})


def test_blocks_join_what_both_objects_say():
    blocks = read_blocks(
        "us-east-1",
        [
            block("192.168.0.64/26", allocations=[0, None, 1]),
            block("192.168.0.128/26", affinity="host:n2"),
            block("192.168.0.192/26", affinity=None),
            block("192.168.1.0/26", deleted=True),
        ],
        [
            affinity("192.168.0.64/26", "n1"),
            affinity("192.168.0.64/26", "n9"),
            affinity("192.168.0.128/26", "n2", state="pending"),
            affinity("192.168.2.0/26", "n3", deleted="true"),
        ],
    )
    assert [(str(found.cidr), found.node, found.confirmed) for found in blocks] == [
        ("192.168.0.64/26", "n1", True),
        ("192.168.0.128/26", "n2", False),
        ("192.168.0.192/26", None, True),
        ("192.168.0.64/26", "n9", True),
    ]
    assert blocks[0].addresses == (IPv4Address("192.168.0.64"), IPv4Address("192.168.0.66"))


def test_addressing_is_read_from_the_served_group_and_falls_back_when_its_server_is_down(make_mesh, make_cluster):
    pools = [named("p", {"cidr": "192.168.0.0/18"}), named("six", {"cidr": "fd00::/48"})]
    stored = {f"{CRD}/ippools": pools, f"{CRD}/ipamblocks": [], f"{CRD}/blockaffinities": []}
    down = ApiError("us-east-1", "GET", 503, "the server is currently unable")
    served = {path.replace(CRD, "/apis/projectcalico.org/v3"): down for path in stored}
    cluster = make_cluster("us-east-1", {**stored, **served}, groups=("crd.projectcalico.org", "projectcalico.org"))
    seen = observe_addressing(make_mesh(cluster), EMPTY)
    assert [pool.name for pool in seen.pools] == ["p"]
    assert not seen.gaps


def test_a_kind_that_may_not_be_listed_is_a_gap(make_mesh, make_cluster):
    seen = observe_addressing(make_mesh(make_cluster("us-east-1", {f"{CRD}/ippools": []})), EMPTY)
    assert [gap.subject for gap in seen.gaps] == ["ipamblocks", "blockaffinities"]


# --- configuration ----------------------------------------------------------------------------------------------------


def calico_node(name, node, env=()):
    spec = {"nodeName": node, "containers": [{"name": "calico-node", "env": list(env)}]}
    metadata = {"namespace": "calico-system", "labels": {"k8s-app": "calico-node"}}
    return {**named(name, spec, **metadata), "status": {"phase": "Running"}}


def configured(bgp=None, felix=None, peers=(), env=()):
    reflector = named("n1", annotations={"projectcalico.org/RouteReflectorClusterID": "244.0.0.1"})
    return {
        "/api/v1/nodes": [reflector, named("n2")],
        "/api/v1/pods": [calico_node("calico-node-a", "n1", env)],
        f"{CRD}/bgpconfigurations": [named("default", bgp)] if bgp is not None else [],
        f"{CRD}/felixconfigurations": [named("default", felix)] if felix is not None else [],
        f"{CRD}/bgppeers": list(peers),
    }


def test_configuration_reads_identity_overrides_and_peerings(make_mesh, make_cluster):
    bgp = {"asNumber": 64513, "nodeToNodeMeshEnabled": False, "serviceClusterIPs": [{"cidr": "172.21.0.0/16"}]}
    peer = named("remote-rr-b", {"nodeSelector": "route-reflector == 'true'", "peerIP": "10.1.1.10", "asNumber": 64513})
    felix = {"externalNodesList": ["10.1.1.0/24"]}
    seen = observe_configuration(make_mesh(make_cluster("us-east-1", configured(bgp, felix, [peer]))), EMPTY)
    (identity,) = seen.identities
    assert (identity.as_number, identity.full_node_mesh) == (64513, False)
    assert identity.advertised_service_cidrs == (IPv4Network("172.21.0.0/16"),)
    assert identity.accepted_tunnel_sources == (IPv4Network("10.1.1.0/24"),)
    assert [(found.node, found.reflector_cluster_id) for found in seen.node_overrides] == [("n1", "244.0.0.1")]
    assert (seen.peerings[0].peer_ip, seen.peerings[0].as_number) == (IPv4Address("10.1.1.10"), 64513)


def test_without_objects_calico_s_defaults_hold(make_mesh, make_cluster):
    (identity,) = observe_configuration(make_mesh(make_cluster("us-east-1", configured())), EMPTY).identities
    assert (identity.as_number, identity.full_node_mesh) == (64512, True)


def test_felix_s_environment_wins_over_its_object(make_mesh, make_cluster):
    env = [{"name": "FELIX_EXTERNALNODESCIDRLIST", "value": "10.9.0.0/16, 10.8.0.0/16"}]
    cluster = make_cluster("us-east-1", configured(felix={"externalNodesList": ["10.1.1.0/24"]}, env=env))
    (identity,) = observe_configuration(make_mesh(cluster), EMPTY).identities
    assert identity.accepted_tunnel_sources == (IPv4Network("10.9.0.0/16"), IPv4Network("10.8.0.0/16"))


@pytest.mark.parametrize(
    ("value", "number"), [(64512, 64512), ("64512", 64512), ("1.10", 65546), (None, None), ("", None)]
)
def test_as_numbers_come_in_all_of_calico_s_forms(value, number):
    assert as_number(value) == number


@pytest.mark.parametrize(
    ("spec", "address", "keep"),
    [
        ({"peerIP": "10.1.1.10:1790"}, "10.1.1.10", False),
        ({"peerIP": "10.1.1.10", "keepOriginalNextHop": True}, "10.1.1.10", True),
        ({"peerIP": "10.1.1.10", "nextHopMode": "Keep"}, "10.1.1.10", True),
        ({"peerIP": "", "peerSelector": "all()"}, None, False),
    ],
)
def test_peerings_are_read_in_their_old_and_new_forms(spec, address, keep):
    peering = read_peering("us-east-1", named("p", spec))
    assert (peering.peer_ip, peering.keep_next_hop) == (address and IPv4Address(address), keep)


# --- routing ----------------------------------------------------------------------------------------------------------

BIRD = """BIRD v0.3.3+birdv1.6.8 ready.
name     proto    table    state  since       info
static1  Static   master   up     09:14:02
Node_10_0_1_10 BGP      master   up     09:14:09    Established
  BGP state:          Established
    Neighbor address: 10.0.1.10
    Neighbor AS:      64512
    Session:          internal multihop AS4
    Hold timer:       171/240
--- routes ---
BIRD v0.3.3+birdv1.6.8 ready.
192.168.0.128/26   blackhole [static1 09:14:02] * (200)
\tType: static unicast univ
192.168.64.64/26   via 10.0.1.1 on eth0 [Node_10_0_1_10 09:14:10 from 10.0.1.10] * (100/?) [AS64513i]
\tType: BGP unicast univ
\tBGP.origin: IGP
\tBGP.as_path: 64513
\tBGP.next_hop: 10.1.1.10
\tBGP.local_pref: 100
"""


def test_routing_asks_every_calico_node_and_keeps_what_it_gets(make_mesh, make_cluster):
    pods = {"/api/v1/pods": [calico_node(f"calico-node-{x}", f"n{x}") for x in (1, 2, 3, 4)]}
    told = {
        "calico-node-1": BIRD,
        "calico-node-2": ExecFailed("us-east-1/calico-node-2: the stream broke"),
        "calico-node-3": "Unable to connect to server control socket",
        "calico-node-4": BIRD.replace("Neighbor AS:      64512", "Neighbour something"),
    }
    seen = observe_routing(make_mesh(make_cluster("us-east-1", pods, told)), EMPTY)
    assert [(session.node, session.established) for session in seen.sessions] == [("n1", True)]
    assert [(str(route.prefix), route.next_hop, route.as_path) for route in seen.routes] == [
        ("192.168.0.128/26", None, ()),
        ("192.168.64.64/26", IPv4Address("10.1.1.10"), (64513,)),
    ]
    assert [gap.subject[:7] for gap in seen.gaps] == ["node n2", "node n3", "node n4"]


def test_a_region_without_calico_node_is_a_gap(make_mesh, make_cluster):
    seen = observe_routing(make_mesh(make_cluster("us-east-1", {"/api/v1/pods": []})), EMPTY)
    assert "no calico-node pod" in seen.gaps[0].error


# --- forwarding -------------------------------------------------------------------------------------------------------

TABLES = {
    "links": [
        {"index": 1, "name": "eth0", "kind": "veth", "mtu": 1500, "up": True},
        {"index": 2, "name": "vxlan.calico", "kind": "vxlan", "mtu": 1450, "up": True, "vni": 4096, "port": 4789},
        {"index": 3, "name": "tunl0", "kind": "ipip", "mtu": 1480, "up": True},
    ],
    "addresses": [{"index": 2, "address": "192.168.0.64", "length": 32}],
    "neighbours": [{"index": 2, "address": "192.168.64.64", "mac": "66:00:00:01:00:01"}],
    "forwarding": [{"index": 2, "address": "10.1.1.10", "mac": "66:00:00:01:00:01"}],
    "routes": [],
}


def fib(*hops, kind="unicast", table=254):
    return {
        "prefix": "192.168.64.64/26",
        "table": table,
        "kind": kind,
        "protocol": 12,
        "hops": list(hops),
        "metric": 32,
    }


@pytest.mark.parametrize(
    ("hop", "endpoints"),
    [
        (["192.168.64.64", 2, True], (IPv4Address("10.1.1.10"),)),
        (["192.168.64.99", 2, True], (None,)),
        (["10.1.1.10", 3, True], (IPv4Address("10.1.1.10"),)),
        (["10.0.1.1", 1, False], ()),
    ],
)
def test_tunnel_endpoints_are_found_in_the_kernel_s_tables(hop, endpoints):
    (route,) = read_routes("us-east-1", "n1", {**TABLES, "routes": [fib(hop)]})
    assert route.tunnel_endpoints == endpoints
    assert (route.protocol, route.metric, route.onlink) == ("bird", 32, hop[2])


def test_routes_to_the_node_itself_are_left_out_and_blackholes_kept():
    tables = {
        **TABLES,
        "routes": [fib(kind="local", table=255), fib(kind="blackhole"), fib(kind="broadcast", table=254)],
    }
    assert [route.kind for route in read_routes("us-east-1", "n1", tables)] == ["blackhole"]


def test_links_have_their_addresses_and_tunnel_parameters():
    (_, vxlan, _) = read_links("us-east-1", "n1", TABLES)
    assert (vxlan.kind, vxlan.mtu, vxlan.vni, vxlan.port) == ("vxlan", 1450, 4096, 4789)
    assert vxlan.addresses == (IPv4Address("192.168.0.64"),)


def test_sets_are_read_from_ipset_and_from_nftables():
    ipset = (
        "create cali40all-hosts-net hash:net family inet\nadd cali40all-hosts-net 10.0.1.10\n"
        "add cali40all-hosts-net 10.1.1.0/24\ncreate other hash:ip\nadd other 1.2.3.4\n"
    )
    elements = ["10.0.1.10", {"prefix": {"addr": "10.1.1.0", "len": 24}}, {"range": ["10.2.1.0", "10.2.1.255"]}]
    nft = {"nftables": [{"metainfo": {}}, {"set": {"name": "cali40masq-ipam-pools", "elem": elements}}]}
    assert read_sets(ipset + json.dumps(nft)) == [
        ("cali40all-hosts-net", (IPv4Network("10.0.1.10/32"), IPv4Network("10.1.1.0/24"))),
        (
            "cali40masq-ipam-pools",
            (IPv4Network("10.0.1.10/32"), IPv4Network("10.1.1.0/24"), IPv4Network("10.2.1.0/24")),
        ),
    ]


def test_forwarding_without_host_probes_is_a_gap_and_sets_are_still_read(make_mesh, make_cluster):
    told = {"calico-node-1": "create cali40masq-ipam-pools hash:net\nadd cali40masq-ipam-pools 192.168.0.0/18\n"}
    cluster = make_cluster("us-east-1", {"/api/v1/pods": [calico_node("calico-node-1", "n1")]}, told)
    seen = observe_forwarding(make_mesh(cluster), EMPTY)
    assert [found.name for found in seen.filter_sets] == ["cali40masq-ipam-pools"]
    assert [gap.error for gap in seen.gaps] == ["no probe runs in the nodes' network"]


# --- what agents do, with listeners on loopback -----------------------------------------------------------------------


@pytest.fixture
def placed(make_mesh, make_cluster):
    """Two regions with one node each: a pod and a host probe per node, their listeners on loopback."""
    clusters = [make_cluster(region) for region in ("us-east-1", "us-east-2")]
    pods = []
    run = secrets.token_hex(4)
    for number, cluster in enumerate(clusters, 1):
        for on_host in (False, True):
            address = IPv4Address(f"127.1.{number}.{2 if on_host else 1}")
            pod = ProbePod(cluster.region, f"n{number}", "meshproof", f"{run}-{number}-{on_host}", on_host, address)
            pods.append(deploy._start_listeners(cluster, pod=pod, life=timedelta(seconds=30)).pod)
    yield make_mesh(*clusters), ProbeSet("run", "meshproof", "2999-01-01T00:00:00+00:00", tuple(pods))
    for pod in pods:
        clusters[0].local.run({"op": "stop", "name": pod.listener_name})


def test_the_matrix_holds_every_ordered_pair_of_a_kind(placed):
    seen = observe_reachability(*placed)
    ends = [(seen.endpoints[probe.source], seen.endpoints[probe.target]) for probe in seen.probes]
    assert {(source.node, source.on_host, target.node, target.on_host) for source, target in ends} == {
        (source, on_host, target, on_host)
        for on_host in (False, True)
        for source, target in (("n1", "n2"), ("n2", "n1"))
    }
    stream = [probe for probe in seen.probes if probe.protocol is not ProbeProtocol.ICMP]
    assert {probe.outcome for probe in stream} == {ProbeOutcome.OPEN}
    assert {probe.protocol for probe in seen.probes if seen.endpoints[probe.source].on_host} == {
        ProbeProtocol.ICMP,
        ProbeProtocol.TCP,
    }
    assert all(agent.loopback_ok for agent in seen.agents)
    assert len(seen.agents) == 4


def test_a_pod_that_dies_midway_is_inconclusive_and_never_a_verdict(placed):
    mesh, probe_set = placed
    dying = probe_set.pods[0].name
    mesh.cluster("us-east-1").told[dying] = PodGone(f"us-east-1/{dying} is not there any more")
    seen = observe_reachability(mesh, probe_set)
    lost = [probe for probe in seen.probes if seen.endpoints[probe.source].name == dying]
    assert [(probe.outcome, probe.detail) for probe in lost] == [
        (ProbeOutcome.INCONCLUSIVE, f"us-east-1/{dying} is not there any more")
    ] * 3
    assert [agent.error for agent in seen.agents if not agent.loopback_ok] == [lost[0].detail]


def test_quality_compares_pods_with_their_nodes(placed):
    seen = observe_quality(*placed)
    assert [(pair.source_region, pair.target_region) for pair in seen.pairs] == [
        ("us-east-1", "us-east-2"),
        ("us-east-2", "us-east-1"),
    ]
    for pair in seen.pairs:
        assert pair.samples == 20
        assert pair.pod_rtt
        assert pair.node_rtt
        assert pair.pod_throughput
        assert pair.node_throughput


def test_paths_ask_every_region_and_tell_why_there_is_no_answer(placed):
    mesh, probe_set = placed
    plan = mesh.fleet.plan
    regions = tuple(replace(region, dns_address=IPv4Address("127.1.9.9")) for region in plan.regions)
    plan = replace(plan, regions=regions, egress=EgressTarget(IPv4Address("127.1.9.9"), 9))
    mesh.fleet = replace(mesh.fleet, plan=plan)
    seen = observe_paths(mesh, probe_set)
    assert {(probe.source.region, probe.target_region, probe.protocol) for probe in seen.services} == {
        (a, b, protocol)
        for a in mesh.regions
        for b in mesh.regions
        for protocol in (ProbeProtocol.UDP, ProbeProtocol.TCP)
    }
    assert {probe.outcome for probe in (*seen.services, *seen.egress)} == {ProbeOutcome.REFUSED}
    assert all(probe.detail for probe in (*seen.services, *seen.egress))
    assert [probe.source.name for probe in seen.egress] == [pod.name for pod in probe_set.on_pods()]


def test_packet_sizes_are_searched_between_pods_and_between_nodes_and_transfers_made_between_pods(placed):
    seen = observe_mtu(*placed)
    assert {(one.source.node, one.target.node, one.source.on_host) for one in seen.paths} == {
        (source, target, on_host) for source, target in (("n1", "n2"), ("n2", "n1")) for on_host in (False, True)
    }
    assert {(one.largest, one.interface_mtu) for one in seen.paths} == {(65535, 65536)}  # loopback's
    assert [(one.source.node, one.target.node) for one in seen.transfers] == [("n1", "n2"), ("n2", "n1")]
    assert all(one.sent == one.wanted and one.longest_stall < one.seconds + 1 for one in seen.transfers)


def test_a_pod_that_dies_leaves_its_paths_open_and_its_transfer_not_begun(placed):
    mesh, probe_set = placed
    dying = probe_set.pods[0]
    mesh.cluster("us-east-1").told[dying.name] = PodGone("it is not there any more")
    seen = observe_mtu(mesh, probe_set)
    assert dying.endpoint not in {one.source for one in seen.paths}
    assert [(gap.region, gap.error) for gap in seen.gaps] == [("us-east-1", "it is not there any more")]
    (lost,) = [one for one in seen.transfers if one.source == dying.endpoint]
    assert (lost.seconds, lost.detail) == (0.0, "it is not there any more")


def test_a_region_without_pods_is_a_gap_in_packet_sizes(make_mesh, make_cluster):
    assert [gap.region for gap in observe_mtu(make_mesh(make_cluster("us-east-1")), EMPTY).gaps] == ["us-east-1"]


def probe_on(region, node):
    return ProbePod(region, f"n{node}", "meshproof", f"{region}-{node}", False, IPv4Address(f"127.2.0.{node}"), 1, 1, 1)


def test_in_a_large_cluster_every_pod_is_aimed_at_though_nobody_aims_at_all():
    side = [probe_on(region, node) for region in ("a", "b") for node in range(1, 41)]
    aimed = {pod.region: set() for pod in side}
    for pod in side:
        targets = targets_of(pod, side)
        assert len(targets) == 24
        aimed[targets[0].region] |= {target.node for target in targets}
    assert [len(nodes) for nodes in aimed.values()] == [40, 40]


def test_who_refuses_a_packet_is_told():
    found = {"interface_mtu": 1500, "route_mtu": 1450, "largest": 1400, "refused": 1401, "segment": None}
    found |= {"refusal": "fragmentation-needed", "refused_by": "10.0.1.1", "reported": 1400, "by": "udp"}
    one = read_path(probe_on("a", 1), probe_on("b", 2), found)
    assert (one.usable, one.refusal, one.refused_by) == (
        1450,
        Refusal.FRAGMENTATION_NEEDED,
        IPv4Address("10.0.1.1"),
    )
    nowhere = {"interface_mtu": None, "route_mtu": None, "largest": None, "segment": None, "detail": "no route"}
    assert read_path(probe_on("a", 1), probe_on("b", 2), nowhere).detail == "no route"


def test_quality_without_host_probes_says_so():
    pair = compare("a", "b", Measured({"tcp": [0.02, 0.03, 0.04]}, 1e6, []), None)
    assert (pair.pod_rtt, pair.node_rtt, pair.samples) == (0.03, None, 3)
    assert "no probe runs in the nodes' network" in pair.detail


def test_pods_and_nodes_are_compared_by_the_same_kind_of_echo():
    pods, nodes = Measured({"icmp": [1.0], "tcp": [2.0]}, None, []), Measured({"tcp": [3.0]}, None, ["icmp: dropped"])
    pair = compare("a", "b", pods, nodes)
    assert (pair.pod_rtt, pair.node_rtt, pair.detail) == (2.0, 3.0, "nodes: icmp: dropped")


def test_the_best_of_several_transfers_counts():
    assert read_transfer({"rounds": [{"bytes": 10, "seconds": 2}, {"bytes": 10, "seconds": 1}]}) == (10.0, "")
    assert read_transfer({"error": "transfer: timed out"}) == (None, "transfer: timed out")


def test_an_answer_tells_the_cluster_that_gave_it(make_mesh, make_cluster):
    plan = make_mesh(make_cluster("us-east-1")).fleet.plan
    assert region_of_answer(plan, {}, "NOERROR 172.21.0.1") == "us-east-2"
    assert region_of_answer(plan, {}, "NXDOMAIN") == ""
    assert region_of_answer(plan, {}, "NOERROR 203.0.113.9") == ""
    assert region_of_answer(plan, {"us-east-2": IPv4Address("192.168.64.9")}, "NOERROR 192.168.64.9") == "us-east-2"


def test_a_cluster_s_dns_is_asked_for_an_endpoint_that_no_other_cluster_knows(make_cluster):
    labels = {"k8s-app": "kube-dns"}
    starting = api_pod("coredns-0", labels=labels, podIP="10.10.0.8", conditions=[{"type": "Ready", "status": "False"}])
    serving = api_pod("coredns-1", labels=labels, podIP="10.10.0.9")
    for pod in (starting, serving):
        pod["metadata"]["namespace"] = "kube-system"
    cluster = make_cluster("eastus", {"/api/v1/pods": [api_pod("impostor", labels=labels), starting, serving]})
    assert dns_endpoint(cluster) == IPv4Address("10.10.0.9")
    assert identifying_name(IPv4Address("10.10.0.9")) == "10-10-0-9.kube-dns.kube-system.svc.cluster.local"
    assert identifying_name(None) == "kubernetes.default.svc.cluster.local"
