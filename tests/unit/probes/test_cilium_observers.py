"""What Cilium's agents, objects and stores say becomes facts; what they do not say becomes gaps."""

import base64
import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from analysis.cilium import ListedService, parse_status
from analysis.facts import Access, Credential, FibRoute, KnownNode, Link
from analysis.plan import Cni, Encapsulation
from probes.cilium import AgentPod, Answer, read_answers
from probes.deploy import ProbeSet
from probes.errors import PodGone
from probes.observers import observe
from probes.observers.cilium.addressing import read_blocks, read_pools
from probes.observers.cilium.components import read_datapath
from probes.observers.cilium.federation import global_services, observe_federation
from probes.observers.cilium.forwarding import forwarded, read_tunnels
from probes.observers.cilium.settings import read_settings
from probes.observers.cilium.stores import read_trial, shown_certificate
from probes.tls import throwaway_credential
from provision.lab.topology import aws_calico

NO_PROBES = ProbeSet("run", "meshproof", "2999-01-01T00:00:00+00:00", ())
CONFIG = "/api/v1/namespaces/kube-system/configmaps/cilium-config"
EAST, WEST = "us-east-1", "us-east-2"
PLAN = replace(aws_calico("unit", regions=2).plan, cni=Cni.CILIUM_CLUSTERMESH, encapsulation=Encapsulation.VXLAN)
NODES = json.dumps(
    [
        {"name": f"mesh-east/{node}", "primary-address": {"ipv4": {"ip": address, "alloc-range": cidr}}}
        for node, address, cidr in (("e1", "10.0.1.10", "192.168.0.0/26"), ("w1", "10.1.1.10", "192.168.64.0/26"))
    ]
)


def cilium_pod(node="e1", aliases=()):
    metadata = {"namespace": "kube-system", "name": f"cilium-{node}", "labels": {"k8s-app": "cilium"}}
    spec = {"nodeName": node, "containers": [{"name": "cilium-agent", "image": "quay.io/cilium/cilium:v1.16.5"}]}
    return {"metadata": metadata, "spec": {**spec, "hostAliases": list(aliases)}, "status": {"phase": "Running"}}


def agent(node="e1", aliases=()):
    return AgentPod(EAST, node, cilium_pod(node, aliases))


def answer(text="", code=0, error=""):
    return Answer(code, text, error)


def told(**answers):
    """What a cilium pod prints when it is asked these things."""
    return "".join(f"\x1e{name}\n{one.text}\n\x1e={one.exit_code} {one.error}\n" for name, one in answers.items())


@pytest.fixture
def cilium_mesh(make_mesh):
    def make(*clusters):
        mesh = make_mesh(*clusters)
        mesh.fleet = replace(mesh.fleet, plan=PLAN)
        return mesh

    return make


# --- asking -----------------------------------------------------------------------------------------------------------


def test_many_answers_come_out_of_one_exec_with_their_exit_codes_and_complaints():
    answers = read_answers(told(a=answer('{"x": 1}\n'), b=answer(code=1, error="Error: no\nsuch thing")))
    assert json.loads(answers["a"].text) == {"x": 1}
    assert (answers["b"].exit_code, answers["b"].words) == (1, "Error: no such thing")


# --- addressing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "encapsulation", "mode"),
    [
        ({"routing-mode": "tunnel", "tunnel-protocol": "geneve"}, "geneve", "always"),
        ({}, "vxlan", "always"),
        ({"routing-mode": "native"}, "none", "never"),
        ({"tunnel": "disabled"}, "none", "never"),
    ],
)
def test_pools_are_those_of_cilium_config(settings, encapsulation, mode):
    config = {"cluster-pool-ipv4-cidr": "10.10.0.0/16 10.20.0.0/16", "cluster-pool-ipv4-mask-size": "25", **settings}
    first, second = read_pools(EAST, config)
    assert (first.cidr, second.cidr) == (IPv4Network("10.10.0.0/16"), IPv4Network("10.20.0.0/16"))
    assert (first.block_size, first.nat_outgoing) == (25, True)
    assert (first.encapsulation, first.encapsulation_mode) == (encapsulation, mode)


def test_blocks_are_those_of_ciliumnodes_with_the_addresses_in_use():
    node = {
        "metadata": {"name": "e1"},
        "spec": {
            "addresses": [{"type": "InternalIP", "ip": "10.1.1.4"}, {"type": "CiliumInternalIP", "ip": "10.10.0.1"}],
            "ipam": {"podCIDRs": ["10.10.0.0/24"]},
        },
        "status": {"ipam": {"operator-status": {"error": "no CIDR left"}}},
    }
    endpoints = [
        {"metadata": {"name": "a"}, "status": {"networking": {"addressing": [{"ipv4": text}]}}}
        for text in ("10.10.0.7", "10.42.0.7")
    ]
    (block,) = read_blocks(EAST, [node], endpoints)
    assert (block.cidr, block.node, block.confirmed) == (IPv4Network("10.10.0.0/24"), "e1", False)
    assert block.addresses == (IPv4Address("10.10.0.1"), IPv4Address("10.10.0.7"))


def test_what_cannot_be_listed_is_a_gap_and_the_rest_is_kept(cilium_mesh, make_cluster):
    cluster = make_cluster(EAST, {CONFIG: {"data": {"cluster-pool-ipv4-cidr": "10.10.0.0/16"}}})
    seen = observe("addressing", cilium_mesh(cluster), NO_PROBES)
    assert [pool.cidr for pool in seen.pools] == [IPv4Network("10.10.0.0/16")]
    assert [gap.subject for gap in seen.gaps] == ["ciliumnodes", "ciliumendpoints"]


# --- forwarding -------------------------------------------------------------------------------------------------------


def maps(tunnels='{"192.168.64.0": ["10.1.1.10:0"]}', ipcache="{}", gone=False):
    return {
        "nodes": answer(NODES),
        "tunnels": answer(code=1, error='unknown command "tunnel list"') if gone else answer(tunnels),
        "ipcache": answer(ipcache),
    }


def entry(tunnel, identity=2):
    return [f"identity={identity} encryptkey=0 tunnelendpoint={tunnel} flags=hastunnel"]


def test_the_tunnel_map_says_where_blocks_go_and_the_nodes_how_long_they_are():
    assert read_tunnels(PLAN, maps()) == {IPv4Network("192.168.64.0/26"): IPv4Address("10.1.1.10")}


def test_where_there_is_no_tunnel_map_the_ipcache_says_it():
    ipcache = json.dumps({"192.168.64.0/26": entry("10.1.1.10"), "192.168.64.9/32": entry("10.1.1.10", 131912)})
    assert read_tunnels(PLAN, maps(ipcache=ipcache, gone=True)) == {
        IPv4Network("192.168.64.0/26"): IPv4Address("10.1.1.10")
    }


def test_an_address_that_is_sent_elsewhere_than_its_block_is_a_route_of_its_own():
    ipcache = json.dumps({"192.168.64.9/32": entry("10.1.1.99", 131912)})
    found = read_tunnels(PLAN, maps(ipcache=ipcache))
    assert found[IPv4Network("192.168.64.9/32")] == IPv4Address("10.1.1.99")


def test_a_block_that_nobody_knows_any_more_is_as_long_as_its_cluster_s_blocks():
    found = read_tunnels(PLAN, maps(tunnels='{"192.168.64.192": ["10.1.1.12:0"]}'))
    assert found == {IPv4Network("192.168.64.192/26"): IPv4Address("10.1.1.12")}


def kernel_route(prefix, gateway, device):
    hop = (IPv4Address(gateway) if gateway else None, device)
    return FibRoute(EAST, "e1", IPv4Network(prefix), "unicast", "kernel", (hop,))


def test_what_the_kernel_hands_to_cilium_goes_where_the_maps_say_or_nowhere():
    kernel = [
        kernel_route("192.168.0.0/26", "192.168.0.1", "cilium_host"),
        kernel_route("192.168.64.0/26", "192.168.0.1", "cilium_host"),
        kernel_route("192.168.64.64/26", "192.168.0.1", "cilium_host"),
        kernel_route("192.168.64.128/26", "10.0.1.1", "eth0"),
    ]
    tunnels = {IPv4Network("192.168.64.0/26"): IPv4Address("10.1.1.10")}
    routes = {str(route.prefix): route for route in forwarded(PLAN, agent(), kernel, tunnels)}
    assert set(routes) == {"192.168.0.0/26", "192.168.64.0/26", "192.168.64.128/26"}
    assert routes["192.168.64.0/26"].gateways == ((IPv4Address("10.1.1.10"), "cilium_vxlan"),)
    assert routes["192.168.64.0/26"].tunnel_endpoints == (IPv4Address("10.1.1.10"),)


def test_a_node_whose_maps_cannot_be_read_has_a_gap_and_no_routes(cilium_mesh, make_cluster):
    cluster = make_cluster(EAST, {"/api/v1/pods": [cilium_pod()]}, told={"cilium-e1": PodGone("it is gone")})
    seen = observe("forwarding", cilium_mesh(cluster), NO_PROBES)
    assert seen.routes == ()
    assert ("node e1: tunnel map", "it is gone") in [(gap.subject, gap.error) for gap in seen.gaps]


# --- configuration and components -------------------------------------------------------------------------------------

STATUS = {
    "cilium": {"state": "Ok", "msg": "1.16.5 (v1.16.5)"},
    "cluster": {"self": "mesh-east/e1"},
    "identity-range": {"min-identity": 131072, "max-identity": 196607},
    "masquerading": {"enabled": True, "enabledProtocols": {"ipv4": True}},
}


def test_an_agent_that_runs_by_other_settings_than_its_cluster_s_is_told(cilium_mesh, make_cluster):
    collections = {
        CONFIG: {"data": {"cluster-id": "1", "cluster-name": "mesh-east"}},
        "/api/v1/pods": [cilium_pod()],
        "/api/v1/namespaces/kube-system/configmaps/coredns": {"data": {"Corefile": ".:53 {\n forward . 10.9.9.9\n}\n"}},
    }
    cluster = make_cluster(EAST, collections, told={"cilium-e1": told(status=answer(json.dumps(STATUS)))})
    seen = observe("configuration", cilium_mesh(cluster), NO_PROBES)
    assert [(one.cluster_id, one.cluster_name) for one in seen.identities] == [(1, "mesh-east"), (2, "mesh-east")]
    (forward,) = seen.dns_forwards
    assert (forward.zone, forward.targets) == (".", ((IPv4Address("10.9.9.9"), 53),))


def test_workloads_that_are_missing_and_agents_in_trouble_are_told(cilium_mesh, make_cluster):
    apps = "/apis/apps/v1/namespaces/kube-system"
    containers = [
        {"name": "etcd", "image": "q/etcd:v3.5.1"},
        {"name": "apiserver", "image": "q/clustermesh-apiserver:v1.16.5"},
    ]
    store = {"spec": {"replicas": 2, "template": {"spec": {"containers": containers}}}, "status": {"readyReplicas": 1}}
    collections = {
        CONFIG: {"data": {}},
        "/api/v1/pods": [cilium_pod()],
        f"{apps}/deployments/clustermesh-apiserver": {"metadata": {"name": "clustermesh-apiserver"}, **store},
    }
    trouble = STATUS | {"cilium": {"state": "Failure", "msg": "Kubernetes service is not ready"}}
    cluster = make_cluster(EAST, collections, told={"cilium-e1": told(status=answer(json.dumps(trouble)))})
    seen = {one.name: one for one in observe("components", cilium_mesh(cluster), NO_PROBES).components}
    assert (seen["cilium"].healthy, seen["cilium"].wanted) == (False, 0)
    assert (seen["clustermesh-apiserver"].wanted, seen["clustermesh-apiserver"].ready) == (2, 1)
    assert seen["clustermesh-apiserver"].version == "v1.16.5"
    assert (seen["cilium-agent on e1"].healthy, seen["cilium-agent on e1"].version) == (False, "1.16.5")


def test_the_data_path_is_what_the_agent_says_and_the_device_shows():
    def link(name, kind="", up=True, **more):
        return Link(EAST, "e1", name, kind, 1500, up, **more)

    tunnel = link("cilium_vxlan", "vxlan", port=8473, vni=0)
    links = [tunnel, link("cni0"), link("tunl0", "ipip", up=False), link("eth0")]
    old = read_datapath(agent(), parse_status(json.dumps(STATUS)), {"tunnel-protocol": "vxlan"}, links)
    assert (old.routing, old.encapsulation, old.port, old.vni) == ("tunnel", "vxlan", 8473, None)
    assert old.foreign_devices == ("cni0",)
    assert old.masquerades is True


# --- federation -------------------------------------------------------------------------------------------------------

ALIASES = ({"ip": "10.1.1.10", "hostnames": ["mesh-west.mesh.cilium.io"]},)
YAML = """endpoints:
- https://mesh-west.mesh.cilium.io:32380
trusted-ca-file: '/var/lib/cilium/clustermesh/common-etcd-client-ca.crt'
key-file: '/var/lib/cilium/clustermesh/common-etcd-client.key'
cert-file: '/var/lib/cilium/clustermesh/common-etcd-client.crt'
"""


def settings_files(authority):
    files = {"common-etcd-client-ca.crt": authority, "common-etcd-client.key": "", "mesh-west": YAML}
    return "".join(f"\x1d{name}\n{text}" for name, text in files.items())


def test_settings_tell_where_the_store_is_and_which_credentials_are_there():
    (setting,) = read_settings(agent(aliases=ALIASES), settings_files(throwaway_credential("ca").certificate))
    fact = setting.fact
    assert (fact.remote, fact.host, fact.port) == ("mesh-west", "mesh-west.mesh.cilium.io", 32380)
    assert fact.addresses == (IPv4Address("10.1.1.10"),)
    assert fact.credentials == ("ca", "key")
    assert len(fact.trusted) == 1


def test_a_store_s_certificate_is_verified_for_its_name_by_the_authorities_that_are_trusted():
    own, other = throwaway_credential("mesh-west.mesh.cilium.io"), throwaway_credential("somebody")
    shown = {"certificate": base64.b64encode(der(own.certificate)).decode()}
    (trusting,) = read_settings(agent(aliases=ALIASES), settings_files(own.certificate))
    (distrusting,) = read_settings(agent(aliases=ALIASES), settings_files(other.certificate))
    assert shown_certificate(WEST, trusting, shown).verified is True
    assert "none of 1 trusted authorities has signed it" in shown_certificate(WEST, distrusting, shown).problem
    stranger = {"certificate": base64.b64encode(der(other.certificate)).decode()}
    assert "not valid for mesh-west.mesh.cilium.io" in shown_certificate(WEST, trusting, stranger).problem
    assert shown_certificate(WEST, trusting, {"detail": "hung up"}).verified is None


def der(pem):
    return base64.b64decode("".join(line for line in pem.splitlines() if not line.startswith("-")))


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        (answer("key => value"), True),
        (answer(code=1, error="Error: key cilium/x is not found"), True),
        (answer(code=1, error="Unable to set key: etcdserver: permission denied"), False),
        (answer(code=1, error="Unable to setup kvstore: connection refused"), None),
    ],
)
def test_only_the_store_s_own_refusal_counts_as_one(said, allowed):
    assert read_trial(said)[0] is allowed


def test_stores_are_used_with_the_credentials_that_were_given(cilium_mesh, make_cluster):
    west = {"name": "mesh-west", "connected": True, "ready": True, "config": {"retrieved": True, "cluster-id": 2}}
    held = {"cilium/state/nodes/v1/mesh-west/w1": {"Data": ""}}
    denied = answer(code=1, error="etcdserver: permission denied")
    answers = told(
        status=answer(json.dumps(STATUS | {"cluster-mesh": {"clusters": [west]}})),
        nodes=answer(NODES),
        identities=answer('[{"id": 131900, "labels": ["k8s:io.cilium.k8s.policy.cluster=mesh-west"]}]'),
        health=answer(code=1, error="no daemon"),
        settings=answer(settings_files(throwaway_credential("ca").certificate)),
        read=answer("x => y"),
        write=denied,
        state=answer(json.dumps(held)),
        cache=denied,
        config=denied,
    )
    plan = replace(
        PLAN,
        regions=tuple(
            replace(region, cluster_name=name, cluster_id=number)
            for region, name, number in zip(PLAN.regions, ("mesh-east", "mesh-west"), ("1", "2"), strict=True)
        ),
    )
    collections = {"/api/v1/pods": [cilium_pod(aliases=ALIASES)], "/api/v1/services": []}
    mesh = cilium_mesh(make_cluster(EAST, collections, told={"cilium-e1": answers}))
    mesh.fleet = replace(mesh.fleet, plan=plan)
    seen = observe_federation(mesh, NO_PROBES)
    (remote,) = seen.remotes
    assert (remote.remote, remote.ready, remote.synced, remote.cluster_id) == ("mesh-west", True, False, 2)
    assert [(one.region, one.tried_from, one.credential, one.access, one.allowed) for one in seen.trials] == [
        (WEST, EAST, Credential.REMOTE, Access.READ, True),
        (WEST, EAST, Credential.REMOTE, Access.WRITE, False),
    ]
    (content,) = seen.contents
    assert (content.region, content.owner, content.kind, content.entries) == (WEST, "mesh-west", "nodes", 1)
    assert [(one.cluster, one.identities, one.foreign_numbers) for one in seen.identities] == [("mesh-west", 1, 0)]
    assert [gap.subject for gap in seen.gaps] == ["node e1: node health", "knocks from its nodes"]


def test_backends_of_a_global_service_are_counted_by_the_cluster_of_their_block():
    declared = {"metadata": {"namespace": "app", "name": "echo", "annotations": {"service.cilium.io/shared": "false"}}}
    nodes = [
        KnownNode(EAST, "e1", cluster, "n", None, (IPv4Network(cidr),))
        for cluster, cidr in (("mesh-east", "10.10.0.0/24"), ("mesh-west", "10.11.0.0/24"))
    ]
    backends = tuple(map(IPv4Address, ("10.10.0.7", "10.11.0.7", "10.11.0.8")))
    (service,) = global_services(EAST, [declared], [ListedService("app", "echo", backends)] * 2, nodes)
    assert service.backends == (("mesh-east", 1), ("mesh-west", 2))
    assert not service.shared
