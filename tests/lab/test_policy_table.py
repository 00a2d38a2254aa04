"""The policy table of a node, in the kernel: two pods here, a third one behind a router, and what gets through."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from provision.lab.policy.rules import Action, Chain, Match, PolicedPod, Rule
from provision.lab.policy.table import policy_table

ROOM = """
from contextlib import closing
PODS = {"here": "10.0.1.1", "beside": "10.0.1.2", "far": "10.0.2.1"}
netns.create("node")
for number, (pod, address) in enumerate(PODS.items()):
    netns.create(pod)
    kernel.ip("node", [f"link add to-{pod} type veth peer name eth0 netns {pod}", f"link set to-{pod} up",
                       f"address add 10.0.{9 + number}.1/24 dev to-{pod}", f"route add {address}/32 dev to-{pod}"])
    kernel.ip(pod, [f"address add {address}/32 dev eth0", "link set eth0 up",
                    f"route add 10.0.{9 + number}.1 dev eth0", f"route add default via 10.0.{9 + number}.1"])
with netns.inside("node"):
    open("/proc/sys/net/ipv4/ip_forward", "w").write("1")

def listen(where, port):
    with netns.inside(where):
        return socket.create_server(("0.0.0.0", port))

def connect(source, address, port):
    client = netns.open_socket(source, socket.AF_INET, socket.SOCK_STREAM)
    client.settimeout(0.3)
    client.connect((address, port))
    return client

def opens(source, address, port):
    try:
        connect(source, address, port).close()
    except TimeoutError:
        return False
    return True

def says(source, address, port):
    with netns.inside(where := next(pod for pod, own in PODS.items() if own == address)):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client = netns.open_socket(source, socket.AF_INET, socket.SOCK_DGRAM)
    with server, client:
        server.settimeout(0.3)
        server.bind((address, port))
        client.sendto(b"?", (address, port))
        try:
            server.recv(10)
        except TimeoutError:
            return False
        return True

def counted(words):
    text = subprocess.check_output(netns.command("node", ["nft", "list", "table", "ip", "calico-policy"]), text=True)
    line = next(line for line in text.splitlines() if words in line)
    return int(line.split("packets ")[1].split()[0])
"""

NOBODY = Chain(())
FAR = frozenset({IPv4Network("10.0.2.0/24")})
BESIDE = frozenset({IPv4Network("10.0.1.2/32")})


def _pod(name="here", *, ingress=None, egress=None):
    addresses = {"here": "10.0.1.1", "beside": "10.0.1.2"}
    return PolicedPod(f"to-{name}", IPv4Address(addresses[name]), ingress, egress)


def _allowing(**match):
    return Chain((Rule(Action.ACCEPT, Match(**match), "gnp/some-policy"),))


@pytest.fixture
def room(contained):
    """Load the table of these pods into the node, and run a script there."""

    def run(script, *pods, **options):
        load = f'kernel.load_rules("node", "ip calico-policy", {policy_table("ip calico-policy", pods, **options)!r})\n'
        return contained(ROOM + load + script)

    return run


def test_what_no_rule_allows_is_dropped_in_either_direction(room):
    room(
        """
with listen("here", 80), listen("far", 80):
    assert not opens("far", PODS["here"], 80)
    assert not opens("here", PODS["far"], 80)
    assert counted("no rule allows it") == 1
""",
        _pod(ingress=NOBODY, egress=NOBODY),
    )


def test_a_rule_lets_in_its_peers_on_its_ports_with_its_protocol(room):
    room(
        """
with listen("here", 80), listen("here", 81):
    assert opens("far", PODS["here"], 80)
    assert not opens("far", PODS["here"], 81)
    assert not opens("beside", PODS["here"], 80)
    assert not says("far", PODS["here"], 80)
    assert counted("gnp/some-policy") == 1
""",
        _pod(ingress=_allowing(peers=FAR, protocol="tcp", ports=((80, 80),))),
    )


def test_both_ends_on_one_node_must_allow(room):
    room(
        """
with listen("here", 80), listen("beside", 80):
    assert not opens("here", PODS["beside"], 80)
    assert opens("beside", PODS["here"], 80)
""",
        _pod(egress=_allowing(peers=BESIDE), ingress=_allowing(peers=BESIDE)),
        _pod("beside", egress=_allowing(), ingress=NOBODY),
    )


def test_the_node_reaches_its_own_pods_whatever_is_denied(room):
    room('with listen("here", 80): assert opens("node", PODS["here"], 80)', _pod(ingress=NOBODY, egress=NOBODY))


def test_a_pod_meets_its_egress_rules_on_the_way_to_its_own_node(room):
    room('with listen("node", 80): assert not opens("here", "10.0.9.1", 80)', _pod(egress=NOBODY))


def test_a_node_may_be_closed_to_its_pods(room):
    room(
        """
with listen("node", 80):
    assert not opens("here", "10.0.9.1", 80)
    assert opens("beside", "10.0.10.1", 80)
""",
        _pod(),
        to_own_node=Action.DROP,
    )


def test_an_established_connection_goes_on_under_new_rules(room):
    room(
        """
kernel.load_rules("node", "ip calico-policy", "table ip calico-policy { chain forward { "
                  "type filter hook forward priority 0; ct state established accept; }; }")
with listen("here", 80) as server, closing(connect("far", PODS["here"], 80)) as client:
    accepted, _ = server.accept()
    kernel.load_rules("node", "ip calico-policy", TABLE)
    client.send(b"still there")
    accepted.settimeout(1)
    assert accepted.recv(20) == b"still there"
    assert not opens("far", PODS["here"], 80)
""".replace("TABLE", repr(policy_table("ip calico-policy", [_pod(ingress=NOBODY)]))),
    )


def test_what_is_passed_on_is_for_the_next_chain_to_decide(room):
    last = Chain((Rule(Action.ACCEPT, Match(peers=BESIDE)),))
    middle = Chain((Rule(Action.DROP, Match(ports=((81, 81),))),), Action.PASS, last)
    first = Chain((Rule(Action.PASS, Match(ports=((80, 81),))),), then=middle)
    room(
        """
with listen("here", 80), listen("here", 81), listen("here", 82):
    assert opens("beside", PODS["here"], 80)
    assert not opens("beside", PODS["here"], 81)
    assert not opens("beside", PODS["here"], 82)
    assert not opens("far", PODS["here"], 80)
""",
        _pod(ingress=first),
    )


def test_every_way_to_match_is_one_that_nft_reads(room):
    match = Match(
        peers=frozenset({IPv4Network("10.0.0.0/8"), IPv4Network("10.1.0.0/16"), IPv4Network("10.0.1.2/32")}),
        not_peers=FAR,
        not_protocol="udp",
        ports=((80, 90), (85, 100), (443, 443)),
        not_ports=((81, 81),),
        source_ports=((1024, 65535),),
    )
    ping = Match(protocol="icmp", icmp_type=8, icmp_code=0)
    by_number = Match(protocol="132", ports=((80, 80),))
    nobody = Match(peers=frozenset())
    rules = tuple(Rule(Action.ACCEPT, each, 'a "quoted" name ' * 20) for each in (match, ping, by_number, nobody))
    room(
        """
with listen("here", 80), listen("here", 81), listen("here", 100):
    assert opens("beside", PODS["here"], 80) and opens("beside", PODS["here"], 100)
    assert not opens("beside", PODS["here"], 81)
    assert not opens("far", PODS["here"], 80)
    assert not says("beside", PODS["here"], 80)
""",
        _pod(ingress=Chain(rules)),
    )


def test_a_node_without_policed_pods_has_no_hooks():
    assert policy_table("ip calico-policy", [_pod()]) == "table ip calico-policy {\n}\n"
