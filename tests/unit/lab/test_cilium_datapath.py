"""A node's datapath before any kernel is asked: what `ip` and `nft` are told, and how the answers are read."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from provision.lab.cilium import datapath
from provision.lab.cilium.state import TunnelEntry
from provision.lab.kernel import KernelError

ROUTER, POD_CIDR = IPv4Address("10.10.0.1"), IPv4Network("10.10.0.0/24")
SETTINGS = {"cluster-pool-ipv4-cidr": "10.10.0.0/16 10.20.0.0/16"}
WEST_1 = TunnelEntry(IPv4Network("10.11.0.0/24"), IPv4Address("10.2.1.4"))
WEST_2 = TunnelEntry(IPv4Network("10.11.1.0/24"), IPv4Address("10.2.1.5"))


class Kernel:
    """Remembers what it is told; refuses what is in `refused`."""

    def __init__(self, monkeypatch):
        self.orders, self.forgotten, self.rules, self.refused = [], [], "", ()
        monkeypatch.setattr(datapath.kernel, "ip", self.ip)
        monkeypatch.setattr(datapath.kernel, "forget", lambda _program, _netns, orders: self.forgotten.extend(orders))
        monkeypatch.setattr(datapath.kernel, "load_rules", lambda _netns, _table, rules: setattr(self, "rules", rules))

    def ip(self, _netns, orders):
        for order in orders:
            if any(text in order for text in self.refused):
                raise KernelError(order)
            self.orders.append(order)

    def taken(self):
        """What it was told since the last look."""
        told = (self.orders, self.forgotten)
        self.orders, self.forgotten = [], []
        return told


@pytest.fixture
def kernel(monkeypatch):
    return Kernel(monkeypatch)


@pytest.fixture
def node(kernel):
    made = datapath.Datapath("node", IPv4Address("10.1.1.4"))
    made.set_up(ROUTER, POD_CIDR, SETTINGS)
    return made


def test_a_tunnel_is_a_neighbour_an_entry_and_a_route(kernel, node):
    kernel.taken()
    node.sync([WEST_1])
    assert kernel.taken()[0] == [
        "neigh replace 10.2.1.4 lladdr 66:c1:0a:02:01:04 dev cilium_vxlan nud permanent",
        "route replace 10.11.0.0/24 table 1002 encap ip id 2 dst 10.2.1.4 via 10.2.1.4 dev cilium_vxlan onlink "
        "src 10.10.0.1 mtu 1450",
        "route replace 10.11.0.0/24 via 10.10.0.1 dev cilium_host proto kernel src 10.10.0.1 mtu 1450",
    ]


def test_only_what_differs_is_told(kernel, node):
    node.sync([WEST_1, WEST_2])
    kernel.taken()
    node.sync([WEST_2, WEST_1])
    assert kernel.taken() == ([], [])
    node.sync([WEST_2])
    orders, forgotten = kernel.taken()
    assert orders == []
    assert forgotten == [
        "route del 10.11.0.0/24 table 1002",
        "route del 10.11.0.0/24 dev cilium_host",
        "neigh del 10.2.1.4 dev cilium_vxlan",
    ]


def test_a_block_that_moves_to_another_node_is_never_without_an_entry(kernel, node):
    node.sync([WEST_1])
    kernel.taken()
    node.sync([TunnelEntry(WEST_1.prefix, WEST_2.endpoint)])
    orders, forgotten = kernel.taken()
    assert forgotten == ["neigh del 10.2.1.4 dev cilium_vxlan"]
    assert any(order.startswith("route replace 10.11.0.0/24 table 1002") for order in orders)


def test_what_the_kernel_refused_is_tried_again(kernel, node):
    kernel.refused = ("10.11.0.0/24 table",)
    with pytest.raises(KernelError):
        node.sync([WEST_1])
    kernel.refused = ()
    kernel.taken()
    node.sync([WEST_1])
    assert len(kernel.taken()[0]) == 3


def test_a_node_is_set_up_once_and_anew_when_it_is_another(kernel, node):
    node.sync([WEST_1])
    kernel.taken()
    node.set_up(ROUTER, POD_CIDR, SETTINGS)
    assert kernel.taken() == ([], [])
    node.set_up(IPv4Address("10.10.9.1"), IPv4Network("10.10.9.0/24"), SETTINGS)
    orders, forgotten = kernel.taken()
    assert "link del cilium_vxlan" in forgotten
    assert "address add 10.10.9.1/32 dev cilium_host" in orders
    node.sync([WEST_1])
    assert len(kernel.taken()[0]) == 3


def test_a_set_up_that_failed_leaves_nothing(kernel):
    kernel.refused = ("cilium_vxlan",)
    with pytest.raises(KernelError):
        datapath.Datapath("node", IPv4Address("10.1.1.4")).set_up(ROUTER, POD_CIDR, SETTINGS)
    assert "link del cilium_host" in kernel.forgotten


def test_nothing_is_masqueraded_towards_the_clusters_pods_and_the_mesh(kernel, node):
    outwards, inwards = (line.strip() for line in kernel.rules.splitlines() if "counter" in line)
    assert outwards.startswith(
        'ip saddr 10.10.0.0/24 ip daddr != { 10.10.0.0/16, 10.20.0.0/16 } oifname != "cilium_*" counter masquerade'
    )
    assert inwards.startswith('ip saddr != 10.10.0.0/24 oifname "cilium_vxlan" counter snat to 10.10.0.1')


ANSWER = (
    '[{"dst":"10.11.0.0/24","encap":"ip","id":2,"src":"0.0.0.0","dst":"10.2.1.4","ttl":0,"gateway":"10.2.1.4",'
    '"dev":"cilium_vxlan","metrics":[{"mtu":1450}]},{"type":"unreachable","dst":"10.11.1.0/24","dev":"lo"}]'
)


@pytest.mark.parametrize(
    ("code", "out", "err", "entries"),
    [
        (0, ANSWER, "", (WEST_1,)),
        (2, "[ ", "Error: ipv4: FIB table does not exist.\nDump terminated", ()),
    ],
)
def test_the_tunnel_map_is_what_the_kernel_says(monkeypatch, code, out, err, entries):
    answer = type("Done", (), {"returncode": code, "stdout": out, "stderr": err})
    monkeypatch.setattr(datapath.subprocess, "run", lambda *_, **__: answer)
    assert datapath.tunnel_map("node") == entries


def test_the_settings_mtu_is_that_of_devices_and_routes_leave_room_for_the_header(kernel):
    made = datapath.Datapath("node", IPv4Address("10.1.1.4"))
    assert made.mtu == 1500
    made.set_up(ROUTER, POD_CIDR, SETTINGS | {"mtu": "1400"})
    made.sync([WEST_1])
    orders = kernel.taken()[0]
    assert made.mtu == 1400
    assert all(" mtu 1400 " in order for order in orders if order.startswith("link add"))
    assert all(order.endswith(" mtu 1350") for order in orders if order.startswith("route replace"))
