"""What the observer of the underlay makes of what agents, files and the API tell."""

from dataclasses import replace
from fractions import Fraction
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest

from analysis.facts import (
    ClockOffset,
    Door,
    Endpoint,
    Gap,
    Instance,
    Inventory,
    KernelSetting,
    Networks,
    Node,
    ProbeOutcome,
)
from analysis.fleet import Outpost, Stand
from probes.deploy import ProbePod
from probes.errors import DeadlineExceeded, ExecFailed
from probes.observers.inventory import read_node, read_pod
from probes.observers.persistence import parse_persistence
from probes.observers.underlay import (
    MOST_TRACED,
    choose_traced,
    own_connections,
    public_nodes,
    read_clock,
    read_settings,
    read_trace,
    ssh_knock,
    with_persistence,
)
from probes.quantity import parse_quantity

A = Endpoint("east", "east-1", "east-1", IPv4Address("10.0.1.10"), True)
B = Endpoint("west", "west-1", "west-1", IPv4Address("10.1.1.10"), True)
HOST = ProbePod("east", "east-1", "meshproof", "probe-1", True, A.address, 20257)
OVER, SILENT = ProbeOutcome.PROHIBITED, ProbeOutcome.DROPPED
FORWARD = KernelSetting("east", "east-1", "net.ipv4.ip_forward", "1")


def hop(address):
    return (OVER, address, "time to live exceeded") if address else (SILENT, None, "no answer")


def test_a_trace_ends_where_the_target_answers_first():
    answers = [hop("10.0.1.1"), hop(None), (ProbeOutcome.OPEN, None, ""), (ProbeOutcome.OPEN, None, "")]
    trace = read_trace(A, B, answers)
    assert trace.hops == (IPv4Address("10.0.1.1"), None, B.address)
    assert trace.reached


def test_a_trace_that_ends_nowhere_has_no_silent_tail():
    trace = read_trace(A, B, [hop("10.0.1.1"), hop(None), hop("203.0.113.1"), hop(None), hop(None)])
    assert trace.hops == (IPv4Address("10.0.1.1"), None, IPv4Address("203.0.113.1"))
    assert (trace.reached, trace.detail) == (False, "no answer")


def test_of_many_nodes_every_one_traces_some_and_all_together_trace_all():
    def nodes(region, number):
        return [Endpoint(region, f"{region}-{k}", f"{region}-{k}", A.address, True) for k in range(number)]

    few, many = nodes("west", 3), nodes("south", 45)
    endpoints = [*nodes("east", 4), *few, *many]
    chosen = [choose_traced(endpoints, replace(HOST, node=f"east-{k}")) for k in range(4)]
    assert all(set(few) <= set(targets) and len(targets) <= 3 + MOST_TRACED for targets in chosen)
    assert {target.node for targets in chosen for target in targets} == {end.node for end in [*few, *many]}


def test_the_quickest_round_tells_the_time():
    rounds = [[100.0, 99.0, 101.0], [102.0, 101.51, 102.02], [103.0, 101.0, 103.5]]
    assert read_clock(HOST, rounds) == ClockOffset("east", "east-1", pytest.approx(0.5), pytest.approx(0.01))


def test_settings_are_as_the_kernel_has_them():
    told = {setting.name: setting.value for setting in read_settings(HOST, ["1\n", "0\n"])}
    assert told == {
        "net.ipv4.ip_forward": "1",
        "net.bridge.bridge-nf-call-iptables": "0",
        "module br_netfilter": "loaded",
    }
    told = {setting.name: setting.value for setting in read_settings(HOST, ["1\n", None])}
    assert (told["net.bridge.bridge-nf-call-iptables"], told["module br_netfilter"]) == ("", "")


@pytest.mark.parametrize(
    ("files", "persistent", "told"),
    [(None, None, False), ({}, None, True), ({"net.ipv4.ip_forward": "1"}, "1", True)],
)
def test_what_a_reboot_does_is_told_by_files_alone(files, persistent, told):
    setting = with_persistence(FORWARD, files)
    assert (setting.persistent, setting.persistent_told) == (persistent, told)


def files(**contents):
    return "".join(f"\x1e{name}\n{content}" for name, content in contents.items())


@pytest.mark.parametrize(
    ("contents", "value"),
    [
        ({"/etc/sysctl.d/99-k8s.conf": "net.ipv4.ip_forward=1\n"}, "1"),
        ({"/etc/sysctl.d/99-k8s.conf": "# net.ipv4.ip_forward=1\n; net.ipv4.ip_forward=1"}, None),
        ({"/etc/sysctl.d/99-k8s.conf": "-net/ipv4/ip_forward = 1"}, "1"),
        ({"/etc/sysctl.d/99-k8s.conf": "net.ipv4.conf.all.forwarding = 1"}, "1"),
        (
            {
                "/etc/sysctl.d/99-k8s.conf": "net.ipv4.ip_forward=1",
                "/etc/sysctl.d/10-hard.conf": "net.ipv4.ip_forward=0",
            },
            "1",
        ),
        ({"/usr/lib/sysctl.d/50.conf": "net.ipv4.ip_forward=1", "/etc/sysctl.d/50.conf": ""}, None),
        ({"/etc/sysctl.conf": "net.ipv4.ip_forward=0\n", "/etc/sysctl.d/zz.conf": "net.ipv4.ip_forward=1"}, "0"),
        ({"/etc/systemd/system/k3s.service": "[Unit]\n"}, "1"),
        ({}, None),
    ],
)
def test_the_file_that_is_applied_last_decides(contents, value):
    assert parse_persistence(files(**contents)).get("net.ipv4.ip_forward") == value


def test_modules_are_loaded_from_their_own_files():
    assert parse_persistence(files(**{"/etc/modules-load.d/k8s.conf": "overlay\nbr_netfilter\n"})) == {
        "module br_netfilter": "loaded"
    }
    assert parse_persistence(files(**{"/etc/modules-load.d/k8s.conf": "# br_netfilter\n"})) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        (2, 2),
        ("500m", Fraction(1, 2)),
        ("1.5Gi", 3 << 29),
        (".5", Fraction(1, 2)),
        ("128974848", 128974848),
        ("129e6", 129000000),
        ("1E3", 1000),
        ("129M", 129000000),
        ("123Mi", 123 << 20),
        ("4E", 4 * 10**18),
        ("100n", Fraction(1, 10**7)),
        ("3800000k", 3800000000),
    ],
)
def test_quantities_are_read_exactly(text, value):
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "much", "1.5 Gi", "12KI", "1ni", "--1", "1mi"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)


def test_a_node_tells_its_size_and_whether_it_takes_pods():
    node = {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1930m", "memory": "7097Mi"}}}
    read = read_node("east", node)
    assert (read.cpu, read.memory, read.takes_pods) == (1930, 7097 << 20, True)
    tainted = {**node, "spec": {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}}
    assert not read_node("east", tainted).takes_pods
    assert not read_node("east", {**node, "spec": {"unschedulable": True}}).takes_pods
    assert read_node("east", {**node, "spec": {"taints": [{"effect": "PreferNoSchedule"}]}}).takes_pods
    assert read_node("east", {"metadata": {"name": "n"}}).cpu is None


def resources(**wanted):
    return {"resources": {kind: {"cpu": cpu, "memory": memory} for kind, (cpu, memory) in wanted.items()}}


def test_a_pod_asks_for_what_its_containers_ask_for_together():
    spec = {
        "containers": [resources(requests=("250m", "64Mi")), resources(limits=("1", "1Gi")), {}],
        "initContainers": [
            resources(requests=("1500m", "32Mi")),
            {**resources(requests=("100m", "1Mi")), "restartPolicy": "Always"},
        ],
    }
    read = read_pod("east", {"metadata": {"name": "p", "namespace": "d"}, "spec": spec})
    assert (read.cpu, read.memory) == (1500, (64 + 1024 + 1) << 20)


# --- from outside ---------------------------------------------------------------------------------------------------


def inventory(*gaps, external=None):
    return Inventory((Node("east", "east-1", A.address, True, external_ip=external),), (), (), gaps=gaps)


def mesh(command):
    return SimpleNamespace(
        fleet=SimpleNamespace(outposts=(Outpost(Stand.OPERATOR, "the operator", command),)),
        regions=("east",),
        cluster=lambda _region: SimpleNamespace(server="https://api.east.example:6443"),
    )


def test_an_api_server_that_answered_the_runner_is_open_to_the_operator():
    (knock,) = own_connections(mesh(()), inventory())
    assert (knock.stand, knock.door, knock.address, knock.port) == (
        Stand.OPERATOR,
        Door.API_SERVER,
        "api.east.example",
        6443,
    )
    assert knock.outcome is ProbeOutcome.OPEN


def test_what_the_runner_reaches_says_nothing_of_an_operator_elsewhere():
    assert list(own_connections(mesh(("ssh", "elsewhere")), inventory())) == []


def test_an_api_server_that_did_not_answer_proves_nothing():
    assert list(own_connections(mesh(()), inventory(Gap("east", "nodes", "no answer")))) == []


@pytest.mark.parametrize(
    ("by_cloud", "by_cluster", "public"),
    [("198.51.100.7", "198.51.100.8", "198.51.100.7"), (None, "198.51.100.8", "198.51.100.8"), (None, None, None)],
)
def test_the_cloud_knows_public_addresses_best(by_cloud, by_cluster, public):
    def address(text):
        return IPv4Address(text) if text else None

    told = Networks((), instances=(Instance("east", "i-0123", A.address, address(by_cloud)),))
    found = public_nodes(told, inventory(external=address(by_cluster)))
    assert [str(each.public_address) for each in found] == ([public] if public else [])
    assert all(each.node == "east-1" for each in found)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, ProbeOutcome.OPEN),
        (
            ExecFailed("east-1: ssh did not get through: connect to host 10.0.1.10 port 22: Connection refused"),
            ProbeOutcome.REFUSED,
        ),
        (
            ExecFailed("east-1: ssh did not get through: connect to host x port 22: Connection timed out"),
            ProbeOutcome.DROPPED,
        ),
        (ExecFailed("east-1: ssh did not get through: Permission denied (publickey)"), ProbeOutcome.INCONCLUSIVE),
        (DeadlineExceeded("east-1: no end within 20 s"), ProbeOutcome.INCONCLUSIVE),
    ],
)
def test_what_ssh_says_is_told_from_what_it_means(error, outcome):
    node = Outpost(Stand.NODE, "east-1", ("ssh", "east-1"), "east", A.address)
    assert ssh_knock(node, error).outcome is outcome
