"""Every way to break a mesh of agents turns exactly the requirements that speak of it, and names the place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.facts import (
    Access,
    Credential,
    DnsForward,
    FibRoute,
    GlobalService,
    KnownIdentity,
    KnownNode,
    Pod,
    ProbeOutcome,
    ProbeProtocol,
    RemoteSetting,
    StoreContent,
)
from analysis.verdict import Outcome
from tests.unit.analysis.cilium_world import CLUSTER_DNS, TUNNEL, cluster, perfect_cilium
from tests.unit.analysis.judges import verdicts
from tests.unit.analysis.test_faults import Fault, lose, where
from tests.unit.analysis.world import World, address, gone, network

PERFECT = perfect_cilium()
EAST, WEST, NORTH = "eastus", "westus", "northeurope"
NODE, OTHER = "crdb-eastus-node2", "crdb-westus-node3"
OTHER_ADDRESS, OTHER_BLOCK = address("10.2.1.6"), network("10.11.2.0/24")


def remotes(change, **picked):
    return lambda w: w.edit("federation", "remotes", change, where(**picked))


def known(change, **picked):
    return lambda w: w.edit("federation", "nodes", change, where(**picked))


def components(change, **picked):
    return lambda w: w.edit("components", "components", change, where(**picked))


def lost_store(world: World, region: str) -> World:
    """The store of a cluster is down: its agents and data go on, those of the others have lost it."""
    name = cluster(region)
    down = {"connected": False, "ready": False, "synced": None}
    message = "etcd: dial tcp 10.2.1.4:32380: connect: connection refused"
    return (
        world.edit("federation", "remotes", lambda r: replace(r, **down, message=message), where(remote=name))
        .edit("federation", "knocks", lambda k: replace(k, outcome=ProbeOutcome.REFUSED), where(remote=name))
        .edit("federation", "trials", lambda t: replace(t, allowed=None, detail="refused"), where(region=region))
        .edit("federation", "certificates", lambda c: replace(c, verified=None), where(region=region))
        .edit(
            "components",
            "components",
            lambda c: replace(c, ready=0),
            where(region=region, name="clustermesh-apiserver"),
        )
    )


ROUTES = [
    Fault(
        "forward to a remote ClusterIP",
        lambda w: w.add(
            "configuration", "dns_forwards", DnsForward(WEST, "northeurope.svc.cluster.local", ((CLUSTER_DNS, 53),))
        ),
        ("NET-ADDR-004",),
        ("westus: DNS zone northeurope.svc.cluster.local", "10.43.0.10:53", "NodePorts"),
    ),
    Fault(
        "pod started before the CNI",
        lambda w: w.add(
            "inventory", "pods", Pod(EAST, "kube-system", "coredns", NODE, address("10.42.0.3"), False, "Running", True)
        ),
        ("NET-ADDR-006",),
        ("kube-system/coredns", "10.42.0.3", "before the CNI"),
    ),
    Fault(
        "cluster id used twice",
        lambda w: w.edit("configuration", "identities", lambda i: replace(i, cluster_id=1), where(region=WEST)),
        ("NET-ROUTE-001",),
        ("westus", "cluster id 2", "eastus and westus", "share cluster id 1"),
    ),
    Fault(
        "cluster name misspelt",
        lambda w: w.edit(
            "configuration", "identities", lambda i: replace(i, cluster_name="crdb-cilium-wetsus"), where(region=WEST)
        ),
        ("NET-ROUTE-001",),
        ("cluster name crdb-cilium-westus", "crdb-cilium-wetsus"),
    ),
    Fault(
        "no store is asked for",
        components(lambda c: replace(c, wanted=0, ready=0), region=WEST, name="clustermesh-apiserver"),
        ("NET-ROUTE-004", "MESH-CP-001"),
        ("westus", "0 replicas are asked for"),
    ),
    Fault(
        "agent without its API server",
        components(
            lambda c: replace(c, healthy=False, message="Kubernetes: Failure: connection refused"),
            name=f"cilium-agent on {NODE}",
        ),
        ("NET-ROUTE-005", "MESH-CP-001"),
        (NODE, "Kubernetes: Failure", "learns nothing new"),
    ),
    Fault(
        "agent connected to one remote only",
        remotes(
            lambda r: replace(r, connected=False, ready=False, message="Waiting for initial connection"),
            node=NODE,
            remote=cluster(WEST),
        ),
        ("NET-ROUTE-006", "MESH-CP-002"),
        (f"{NODE} -> crdb-cilium-westus", "not connected: Waiting for initial connection", "never answered"),
    ),
    Fault(
        "agent ready but not in step",
        remotes(lambda r: replace(r, synced=False), node=NODE, remote=cluster(WEST)),
        ("NET-ROUTE-006",),
        ("not in step yet",),
    ),
    Fault(
        "agent does not know a cluster",
        remotes(gone, node=NODE, remote=cluster(WEST)),
        ("NET-ROUTE-006",),
        (NODE, "does not know this cluster", "cilium-clustermesh"),
    ),
    Fault(
        "settings name a node that is gone",
        lambda w: w.edit(
            "federation",
            "settings",
            lambda s: replace(s, addresses=(address("10.2.1.99"),)),
            where(region=EAST, remote=cluster(WEST)),
        ),
        ("NET-ROUTE-007",),
        ("eastus: settings for crdb-cilium-westus", "10.2.1.99, which belongs to no node", "replaced"),
    ),
    Fault(
        "settings name another cluster's nodes",
        lambda w: w.edit(
            "federation",
            "settings",
            lambda s: replace(s, addresses=(address("10.3.1.4"),)),
            where(region=EAST, remote=cluster(WEST)),
        ),
        ("NET-ROUTE-007",),
        ("10.3.1.4, node northeurope/crdb-northeurope-node1", "wrong cluster"),
    ),
    Fault(
        "settings name an old port",
        lambda w: w.edit(
            "inventory", "services", lambda s: replace(s, node_ports=(32555,)), where(region=WEST, node_ports=(32380,))
        ),
        ("NET-ROUTE-007",),
        ("port 32555", "port 32380", "another NodePort"),
    ),
    Fault(
        "tunnel entry missing on one node",
        lambda w: w.edit("forwarding", "routes", gone, where(node=NODE, prefix=OTHER_BLOCK)),
        ("NET-ROUTE-008",),
        (NODE, "10.11.2.0/24", "no route"),
    ),
    Fault(
        "tunnel endpoint wrong for one node",
        lambda w: w.edit(
            "forwarding",
            "routes",
            lambda r: replace(r, tunnel_endpoints=(address("10.2.1.4"),)),
            where(node=NODE, prefix=OTHER_BLOCK),
        ),
        ("NET-ROUTE-009",),
        (NODE, "10.11.2.0/24", "leads to westus/crdb-westus-node1 (10.2.1.4)"),
    ),
    Fault(
        "stale tunnel endpoint",
        lambda w: w.edit(
            "forwarding",
            "routes",
            lambda r: replace(r, tunnel_endpoints=(address("10.2.1.77"),)),
            where(prefix=OTHER_BLOCK),
        ),
        ("NET-ROUTE-009",),
        ("10.2.1.77, which is no node",),
    ),
    Fault(
        "route past the tunnel",
        lambda w: w.edit(
            "forwarding",
            "routes",
            lambda r: replace(r, gateways=((address("10.1.1.1"), "eth0"),)),
            where(node=NODE, prefix=OTHER_BLOCK),
        ),
        ("NET-ROUTE-010",),
        (NODE, "leaves by eth0"),
    ),
    Fault(
        "route into another cluster's services",
        lambda w: w.add(
            "forwarding",
            "routes",
            FibRoute(
                EAST,
                NODE,
                network("10.43.0.0/24"),
                "unicast",
                "static",
                ((address("10.2.1.4"), TUNNEL),),
                (address("10.2.1.4"),),
            ),
        ),
        ("NET-ROUTE-011",),
        (NODE, "10.43.0.0/24", "no route: every node serves ClusterIPs itself", "10.2.1.4"),
    ),
    Fault(
        "service range advertised",
        lambda w: w.edit(
            "configuration",
            "identities",
            lambda i: replace(i, advertised_service_cidrs=(network("10.43.0.0/16"),)),
            where(region=NORTH),
        ),
        ("NET-ROUTE-011",),
        ("northeurope", "to advertise no service range"),
    ),
    Fault(
        "node masquerades what goes to pods",
        lambda w: w.edit(
            "reachability",
            "probes",
            lambda p: replace(p, seen_source=address("10.1.1.5")),
            lambda p: (
                p.seen_source is not None
                and w.reachability.endpoints[p.source].node == NODE
                and not w.reachability.endpoints[p.source].on_host
                and w.reachability.endpoints[p.target].region == WEST
            ),
        ),
        ("NET-ROUTE-014", "NET-POD-004"),
        (f"{NODE} -> pods of westus", "seen as 10.1.1.5", "rewrites the source"),
    ),
    Fault(
        "tunnel peer outside the mesh",
        lambda w: w.add(
            "federation", "nodes", KnownNode(EAST, NODE, cluster(WEST), "intruder", address("203.0.113.9"))
        ),
        ("NET-ROUTE-015", "NET-ROUTE-019"),
        (NODE, "203.0.113.9", "outside the mesh"),
    ),
    Fault(
        "node missing from one agent's list",
        known(gone, node=NODE, name=OTHER),
        ("NET-ROUTE-019",),
        (f"agents on eastus/{NODE}: node westus/{OTHER}", "not in the agent's list"),
    ),
    Fault(
        "stale address of a replaced node",
        known(lambda n: replace(n, address=address("10.2.1.77")), name=OTHER),
        ("NET-ROUTE-019",),
        ("at 10.2.1.6", "at 10.2.1.77", "replaced or renumbered"),
    ),
    Fault(
        "node known under another cluster's name",
        known(lambda n: replace(n, cluster="crdb-cilium-wetsus"), name=OTHER),
        ("NET-ROUTE-019",),
        ("crdb-cilium-wetsus/crdb-westus-node3", "did you mean 'crdb-cilium-westus'?"),
    ),
    Fault(
        "node known without its pods",
        known(lambda n: replace(n, pod_cidrs=(network("10.42.2.0/24"),)), name=OTHER),
        ("NET-ROUTE-019",),
        ("block 10.11.2.0/24", "known with 10.42.2.0/24"),
    ),
    Fault(
        "node that left is still known",
        lambda w: w.add(
            "federation", "nodes", KnownNode(EAST, NODE, cluster(WEST), "crdb-westus-node4", address("10.2.1.7"))
        ),
        ("NET-ROUTE-019",),
        ("crdb-westus-node4", "has no such node"),
    ),
    Fault(
        "identities of a cluster unknown",
        lambda w: w.edit("federation", "identities", gone, where(node=NODE, cluster=cluster(WEST))),
        ("NET-ROUTE-020",),
        (NODE, "crdb-cilium-westus", "none is known"),
    ),
    Fault(
        "identities outside their cluster's range",
        lambda w: w.edit(
            "federation", "identities", lambda i: replace(i, foreign_numbers=4), where(cluster=cluster(WEST))
        ),
        ("NET-ROUTE-020",),
        ("4 of 6 lie outside",),
    ),
    Fault(
        "identities under a misspelt name",
        lambda w: w.add("federation", "identities", KnownIdentity(EAST, NODE, "crdb-cilium-wetsus", 5)),
        ("NET-ROUTE-020",),
        ("crdb-cilium-wetsus", "5 identities, did you mean 'crdb-cilium-westus'?"),
    ),
    Fault(
        "ClusterIP answered by another cluster",
        lambda w: w.edit(
            "paths", "services", lambda p: replace(p, answered_by=WEST), lambda p: p.source.region == EAST
        ),
        ("NET-POD-008",),
        ("10.43.0.10:53", "answered by the DNS of westus"),
    ),
    Fault(
        "own cluster's DNS silent",
        lambda w: w.edit(
            "paths",
            "services",
            lambda p: replace(p, outcome=ProbeOutcome.DROPPED, answered_by=""),
            lambda p: p.source.region == EAST,
        ),
        ("NET-POD-008",),
        ("10.43.0.10:53", "no answer"),
    ),
]

CONTROL_PLANE = [
    Fault(
        "store down",
        lambda w: lost_store(w, WEST),
        ("MESH-CP-001", "MESH-CP-002", "NET-ROUTE-006", "MESH-CP-012"),
        ("clustermesh-apiserver in westus", "2 replicas ready"),
    ),
    Fault(
        "component missing in one cluster",
        components(gone, region=NORTH, name="cilium-operator"),
        ("MESH-CP-001",),
        ("cilium-operator in northeurope", "there is none", "eastus and westus have it"),
    ),
    Fault(
        "store holds another cluster's state",
        lambda w: w.add("federation", "contents", StoreContent(EAST, cluster(WEST), "nodes", 3)),
        ("MESH-CP-003",),
        ("store of eastus", "3 of crdb-cilium-westus (nodes)"),
    ),
    Fault(
        "store holds nothing of its own",
        lambda w: w.edit("federation", "contents", lambda c: replace(c, entries=0), where(region=EAST)),
        ("MESH-CP-003",),
        ("store of eastus", "none of its own cluster"),
    ),
    Fault(
        "remote role with write rights",
        lambda w: w.edit(
            "federation",
            "trials",
            lambda t: replace(t, allowed=True, detail="the key was put"),
            where(region=WEST, access=Access.WRITE),
        ),
        ("MESH-CP-004",),
        ("eastus -> store of westus", "a write went through (the key was put)"),
    ),
    Fault(
        "remote role that cannot read",
        lambda w: w.edit(
            "federation",
            "trials",
            lambda t: replace(t, allowed=False, detail="permission denied"),
            where(region=WEST, tried_from=EAST, credential=Credential.REMOTE),
        ),
        ("MESH-CP-004",),
        ("eastus -> store of westus", "refused (permission denied)"),
    ),
    Fault(
        "store without client certificates",
        lambda w: w.edit(
            "federation",
            "trials",
            lambda t: replace(t, allowed=True),
            where(region=WEST, tried_from=EAST, credential=Credential.NONE),
        ),
        ("MESH-CP-005",),
        ("store of westus, without a client certificate", "let in from eastus"),
    ),
    Fault(
        "store certificate of another authority",
        lambda w: w.edit(
            "federation",
            "certificates",
            lambda c: replace(
                c, verified=False, problem="unable to get local issuer certificate", issuer="CN=Other CA"
            ),
            where(region=WEST),
        ),
        ("MESH-CP-006",),
        ("eastus -> store of westus", "issued by CN=Other CA", "does not trust"),
    ),
    Fault(
        "store certificate for another name",
        lambda w: w.edit(
            "federation",
            "certificates",
            lambda c: replace(c, verified=False, names=("localhost",), problem="Hostname mismatch"),
            where(region=WEST, seen_from=EAST),
        ),
        ("MESH-CP-006",),
        ("valid for crdb-cilium-westus.mesh.cilium.io", "valid for localhost", "name that the other clusters use"),
    ),
    Fault(
        "authority of its own",
        lambda w: w.edit(
            "federation", "settings", lambda s: replace(s, trusted=("bad0" * 16,)), where(region=NORTH)
        ).edit(
            "federation",
            "certificates",
            lambda c: replace(c, verified=False, problem="unknown issuer"),
            where(seen_from=NORTH),
        ),
        ("MESH-CP-007", "MESH-CP-006"),
        ("northeurope: settings for crdb-cilium-eastus", "bad0bad0bad0bad0…", "authority of its own"),
    ),
    Fault(
        "settings for a misspelt cluster",
        lambda w: w.edit(
            "federation",
            "settings",
            lambda s: replace(s, remote="crdb-cilium-wetsus"),
            where(region=EAST, remote=cluster(WEST)),
        ),
        ("MESH-CP-008",),
        ("there are none", "settings for crdb-cilium-wetsus, did you mean 'crdb-cilium-westus'?"),
    ),
    Fault(
        "key is missing",
        lambda w: w.edit(
            "federation", "settings", lambda s: replace(s, credentials=("ca", "certificate")), where(region=EAST)
        ),
        ("MESH-CP-009",),
        ("eastus: settings for", "no key; there is ca and certificate"),
    ),
    Fault(
        "port of the store blocked for one node",
        lambda w: w.edit(
            "federation",
            "knocks",
            lambda k: replace(k, outcome=ProbeOutcome.DROPPED),
            where(node=NODE, remote=cluster(WEST)),
        ),
        ("MESH-CP-012",),
        (f"{NODE} -> crdb-cilium-westus (10.2.1.4:32380)", "no answer", "a filter"),
    ),
    Fault(
        "load balancer takes etcd's port",
        lambda w: w.add(
            "inventory",
            "pods",
            Pod(
                EAST,
                "kube-system",
                "svclb-clustermesh",
                NODE,
                address("10.10.1.9"),
                False,
                "Running",
                True,
                host_ports=(2379,),
            ),
        ),
        ("MESH-CP-013",),
        ("kube-system/svclb-clustermesh", "host port 2379", "NodePort"),
    ),
    Fault(
        "tunnel protocol differs between clusters",
        lambda w: w.edit(
            "components", "datapaths", lambda d: replace(d, encapsulation="geneve", port=6081), where(region=NORTH)
        ),
        ("MESH-CP-014", "NET-MTU-006"),
        ("all 3 nodes of northeurope", "tunnel vxlan port 8472", "tunnel geneve port 6081"),
    ),
    Fault(
        "versions too far apart",
        lambda w: w.edit(
            "components", "components", lambda c: replace(c, version="1.14.9"), where(region=NORTH, name="cilium")
        ),
        ("MESH-CP-014",),
        ("1.14.9 in northeurope", "1.16.5 in eastus and westus"),
    ),
    Fault(
        "health probe fails",
        lambda w: w.edit(
            "federation",
            "health",
            lambda h: replace(h, reachable=False, detail="connection timed out"),
            where(name=OTHER),
        ),
        ("MESH-CP-015",),
        ("-> westus/crdb-westus-node3", "not reachable: connection timed out", "TCP 4240"),
    ),
    Fault(
        "health of a node is not probed",
        lambda w: w.edit("federation", "health", gone, where(node=NODE, name=OTHER)),
        ("MESH-CP-015",),
        (NODE, "does not probe this node"),
    ),
    Fault(
        "second CNI's interface",
        lambda w: w.edit(
            "components", "datapaths", lambda d: replace(d, foreign_devices=("flannel.1",)), where(node=NODE)
        ),
        ("MESH-CP-017",),
        (NODE, "flannel.1"),
    ),
    Fault(
        "second CNI's pod",
        lambda w: w.add(
            "inventory",
            "pods",
            Pod(EAST, "kube-flannel", "kube-flannel-ds-x", NODE, address("10.1.1.5"), True, "Running", True),
        ),
        ("MESH-CP-017", "NET-MTU-011"),
        ("a pod of Flannel",),
    ),
    Fault(
        "k3s with its default network",
        lambda w: w.edit(
            "inventory",
            "nodes",
            lambda n: replace(n, annotations=(("k3s.io/node-args", '["server"]'),)),
            where(name=NODE),
        ),
        ("MESH-CP-017", "NET-MTU-011"),
        ("--flannel-backend=none", "--disable-network-policy"),
    ),
    Fault(
        "global service of the database",
        lambda w: w.add(
            "federation", "services", GlobalService(EAST, EAST, "cockroachdb", ((cluster(EAST), 1), (cluster(WEST), 1)))
        ),
        ("MESH-CP-018",),
        ("service eastus/cockroachdb in eastus", "global service"),
    ),
    Fault(
        "global service in one cluster only",
        lambda w: w.edit(
            "federation", "services", lambda s: replace(s, backends=((cluster(EAST), 2),)), where(region=EAST)
        ),
        ("MESH-CP-018",),
        ("demo/front, as eastus sees it", "crdb-cilium-eastus only"),
    ),
    Fault(
        "server that is no member",
        lambda w: w.edit(
            "inventory",
            "nodes",
            lambda n: replace(n, conditions=(("EtcdIsVoter", "False"), ("Ready", "True"))),
            where(name=NODE),
        ),
        ("MESH-CP-019",),
        (NODE, "EtcdIsVoter is False", "2 voting members, 2 of them Ready, 2 needed"),
    ),
    Fault(
        "member not Ready",
        lambda w: w.edit("inventory", "nodes", lambda n: replace(n, ready=False), where(name=NODE)),
        ("MESH-CP-019", "NET-ADDR-013"),
        ("3 voting members, 2 of them Ready, 2 needed",),
    ),
    Fault(
        "pods apart, though all is known",
        lambda w: lose(
            w,
            lambda s, t, p: (
                not s.on_host and s.region != t.region and t.node == OTHER and p.protocol is ProbeProtocol.UDP
            ),
        ),
        ("NET-POD-003",),
        ("-> pod on westus/crdb-westus-node3",),
    ),
]

FAULTS = [*ROUTES, *CONTROL_PLANE]


def test_nothing_is_wrong_with_a_perfect_mesh():
    assert {verdict.outcome for verdict in verdicts(PERFECT).values()} == {Outcome.MET}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_turns_what_speaks_of_it_and_nothing_else(fault):
    told = verdicts(fault.break_it(PERFECT))
    violated = {requirement for requirement, verdict in told.items() if verdict.outcome is Outcome.VIOLATED}
    assert violated == set(fault.violates)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_finding_tells_an_engineer_what_is_wrong_and_where(fault):
    verdict = verdicts(fault.break_it(PERFECT))[fault.violates[0]]
    text = "\n".join(
        f"{finding.subject}: expected {finding.expected}; observed {finding.observed}; {finding.cause}"
        for finding in verdict.findings
    )
    for words in fault.says:
        assert words in text
    assert len(verdict.findings) <= 24


def test_a_kvstoremesh_cache_is_no_mixture():
    world = PERFECT.add("federation", "contents", StoreContent(EAST, cluster(WEST), "nodes", 3, cached=True))
    assert verdicts(world)["MESH-CP-003"].outcome is Outcome.MET


def test_settings_for_the_own_cluster_are_left_out():
    own = RemoteSetting(EAST, cluster(EAST), "127.0.0.1", 2379)
    told = verdicts(PERFECT.add("federation", "settings", own))
    assert {requirement for requirement, verdict in told.items() if verdict.outcome is Outcome.VIOLATED} == set()


def test_authorities_that_were_exchanged_will_do():
    world = PERFECT.edit("federation", "settings", lambda s: replace(s, trusted=("bad0" * 16,)), where(region=NORTH))
    assert verdicts(world)["MESH-CP-007"].outcome is Outcome.MET


def test_one_server_of_a_store_is_remarked_on():
    world = components(lambda c: replace(c, wanted=1, ready=1), name="clustermesh-apiserver")(PERFECT)
    verdict = verdicts(world)["NET-ROUTE-004"]
    assert verdict.outcome is Outcome.MET
    assert len(verdict.warnings) == 3


def test_neighbouring_minor_versions_are_remarked_on():
    world = components(lambda c: replace(c, version="1.17.1"), region=NORTH)(PERFECT)
    verdict = verdicts(world)["MESH-CP-014"]
    assert verdict.outcome is Outcome.MET
    assert any("1.17.1 in northeurope" in warning for warning in verdict.warnings)


def test_a_mesh_without_global_services_keeps_the_promise():
    assert verdicts(PERFECT.edit("federation", "services", gone))["MESH-CP-018"].outcome is Outcome.MET


def test_clusters_whose_control_plane_is_elsewhere_have_no_members_to_judge():
    told = verdicts(PERFECT.edit("inventory", "nodes", lambda n: replace(n, labels=())))
    assert told["MESH-CP-013"].outcome is Outcome.NOT_APPLICABLE
    assert told["MESH-CP-019"].outcome is Outcome.NOT_APPLICABLE


def test_an_address_that_is_no_node_is_a_load_balancer_where_a_node_has_opened_it():
    balancer = address("20.1.2.3")
    world = PERFECT.edit(
        "federation", "settings", lambda s: replace(s, addresses=(balancer,)), where(remote=cluster(WEST))
    ).edit("federation", "knocks", lambda k: replace(k, address=balancer), where(remote=cluster(WEST)))
    assert verdicts(world)["NET-ROUTE-007"].outcome is Outcome.MET
