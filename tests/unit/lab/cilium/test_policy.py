"""What an agent of the lab makes of policies, of its version and of its settings."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from provision.lab.cilium.policy.known import Known
from provision.lab.cilium.policy.model import Dialect, Direction, PolicyError
from provision.lab.cilium.policy.reading import read_policy
from provision.lab.cilium.policy.translation import LocalPod, Mode, Settings, translate
from provision.lab.policy.rules import Action, Match

EAST, WEST = "crdb-cilium-eastus", "crdb-cilium-westus"
OLD, NEW = Dialect(EAST, (1, 16), False), Dialect(EAST, (1, 19), True)
CLIENT_PORT = [{"ports": [{"port": "26257", "protocol": "TCP"}]}]


def labels(app: str, cluster: str) -> tuple[str, ...]:
    return (
        f"k8s:app={app}",
        f"k8s:io.cilium.k8s.policy.cluster={cluster}",
        "k8s:io.kubernetes.pod.namespace=shop",
    )


OWN, NEAR, FAR, NODE = map(IPv4Address, ("10.10.0.5", "10.10.1.5", "10.11.0.5", "10.1.1.5"))
DATABASE = LocalPod(OWN, labels("cockroachdb", EAST), "lxc1", {("sql", "tcp"): 26257})
KNOWN = Known(
    {
        OWN: DATABASE.labels,
        NEAR: labels("client", EAST),
        FAR: labels("client", WEST),
        NODE: ("reserved:remote-node",),
    }
)


def policy(**spec):
    return {"metadata": {"name": "p"}, "spec": {"endpointSelector": {"matchLabels": {"app": "cockroachdb"}}, **spec}}


def rules(obj, dialect=OLD, **settings):
    return translate([DATABASE], read_policy(obj, dialect), KNOWN, Settings(EAST, **settings))


def networks(*addresses):
    return frozenset(map(IPv4Network, addresses))


CLIENTS = [{"matchLabels": {"app": "client"}}]


def test_peers_without_a_cluster_are_of_all_clusters_up_to_1_18_and_of_the_own_one_later():
    obj = policy(ingress=[{"fromEndpoints": CLIENTS, "toPorts": CLIENT_PORT}])
    ((old,), (new,)) = (rules(obj, dialect)[0].ingress.rules for dialect in (OLD, NEW))
    assert old.match.peers == networks(NEAR, FAR)
    assert new.match.peers == networks(NEAR)


def test_the_setting_for_the_own_cluster_means_something_since_1_18():
    settings = {"policy-default-local-cluster": "true"}
    assert not Dialect.of_settings(EAST, (1, 17), settings).local_cluster
    assert Dialect.of_settings(EAST, (1, 18), settings).local_cluster
    assert not Dialect.of_settings(EAST, (1, 19), {}).local_cluster


def test_a_pod_that_no_policy_is_about_is_not_policed():
    assert not rules({"metadata": {"name": "p"}, "spec": {"endpointSelector": {"matchLabels": {"app": "other"}}}})


def test_a_direction_without_rules_stays_open():
    (pod,) = rules(policy(ingress=[{"fromEndpoints": CLIENTS}]))
    assert pod.ingress.otherwise is Action.DROP
    assert pod.egress is None


def test_an_empty_rule_closes_the_direction_and_lets_nobody_in():
    (pod,) = rules(policy(egress=[{}]))
    assert (pod.egress.rules, pod.egress.otherwise) == ((), Action.DROP)


def test_denials_come_first():
    (pod,) = rules(policy(ingress=[{"fromEndpoints": CLIENTS}], ingressDeny=[{"fromEntities": ["all"]}]))
    assert [rule.action for rule in pod.ingress.rules] == [Action.DROP, Action.ACCEPT]
    assert pod.ingress.rules[0].comment == "ccnp/p/ingressDeny/0"


def test_default_deny_can_be_left_out_since_1_16():
    obj = policy(ingressDeny=[{"fromEntities": ["world"]}], enableDefaultDeny={"ingress": False})
    assert rules(obj)[0].ingress.otherwise is Action.ACCEPT
    assert rules(obj, Dialect(EAST, (1, 15), False))[0].ingress.otherwise is Action.DROP


def test_networks_never_mean_pods_and_mean_nodes_only_where_that_is_set():
    obj = policy(ingress=[{"fromCIDR": ["10.0.0.0/8"]}])
    (rule,) = rules(obj)[0].ingress.rules
    assert rule.match == Match(networks("10.0.0.0/8"), networks(OWN, NEAR, FAR, NODE))
    (rule,) = rules(obj, nodes_by_address=True)[0].ingress.rules
    assert rule.match.not_peers == networks(OWN, NEAR, FAR)


def test_a_port_without_a_protocol_is_of_all_three_that_have_ports():
    (pod,) = rules(policy(ingress=[{"fromEndpoints": CLIENTS, "toPorts": [{"ports": [{"port": "26257"}]}]}]))
    assert [rule.match.protocol for rule in pod.ingress.rules] == ["tcp", "udp", "sctp"]


def test_ranges_of_ports_are_known_since_1_16():
    ports = [{"ports": [{"port": "26257", "endPort": 26260, "protocol": "TCP"}]}]
    obj = policy(ingress=[{"fromEndpoints": CLIENTS, "toPorts": ports}])
    assert rules(obj)[0].ingress.rules[0].match.ports == ((26257, 26260),)
    assert rules(obj, Dialect(EAST, (1, 15), False))[0].ingress.rules[0].match.ports == ((26257, 26257),)


def test_a_named_port_is_that_of_the_pod_that_is_called():
    def named(name):
        ports = [{"ports": [{"port": name, "protocol": "TCP"}]}]
        return rules(policy(ingress=[{"fromEndpoints": CLIENTS, "toPorts": ports}]))[0].ingress.rules

    assert named("sql")[0].match.ports == ((26257, 26257),)
    assert named("console") == ()


def test_modes_decide_whether_a_pod_is_closed_at_all():
    obj = policy(ingress=[{"fromEndpoints": CLIENTS}])
    assert not rules(obj, mode=Mode.NEVER)
    (pod,) = rules(obj, mode=Mode.ALWAYS)
    assert pod.egress.otherwise is Action.DROP
    assert Settings.of(EAST, {"policy-audit-mode": "true"}).mode is Mode.NEVER


def test_what_the_lab_does_not_do_is_said_and_the_rest_enforced():
    ports = [{**CLIENT_PORT[0], "rules": {"http": [{"method": "GET"}]}}]
    (spec,) = read_policy(policy(ingress=[{"fromEndpoints": CLIENTS, "toPorts": ports}]), OLD)
    assert "rules" in spec.notes[0]
    assert spec.rules[0].ports[0].first == 26257
    assert spec.isolates == {Direction.INGRESS}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"ingress": [{"fromEndpoints": CLIENTS, "fromCIDR": ["10.0.0.0/8"]}]}, "several kinds"),
        ({"ingress": [{"fromEntities": ["everybody"]}]}, "no entity 'everybody'"),
        ({"ingress": [{"toPorts": CLIENT_PORT, "icmps": [{"fields": [{"type": 8}]}]}]}, "both toPorts and icmps"),
        ({"ingress": [{"fromCIDRSet": [{"cidr": "10.0.0.0/16", "except": ["10.1.0.0/24"]}]}]}, "not in it"),
        ({"egress": [{"toPorts": [{"ports": [{"port": "1"}] * 41}]}]}, "more than 40"),
        ({"ingress": [{"fromEndpoints": [{"matchExpressions": [{"key": "a", "operator": "Is"}]}]}]}, "no condition"),
    ],
)
def test_a_policy_that_cilium_refuses_is_refused_whole(spec, said):
    with pytest.raises(PolicyError, match=said):
        read_policy(policy(**spec), OLD)
