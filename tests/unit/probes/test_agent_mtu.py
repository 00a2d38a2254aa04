"""How the agent finds the largest packet of a path, tried on a path of three namespaces: near, a router, far."""

import subprocess

import pytest

PREFIX = ["unshare", "-Urnmpf", "--kill-child", "--mount-proc"]
FAR = "10.9.2.2"
IDENTITY = "west/far"
PORT = 20257

LISTENERS = f"""
import socket, threading
tcp = socket.create_server(("0.0.0.0", {PORT}))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", {PORT}))  # last: who sees it finds both
def greet(peer):
    return b"{IDENTITY} %s %d\\n" % (peer[0].encode(), peer[1])
def serve():
    while True:
        connection, peer = tcp.accept()
        connection.send(greet(peer))
        connection.close()
threading.Thread(target=serve, daemon=True).start()
while True:
    data, peer = udp.recvfrom(65536)
    udp.sendto(greet(peer) + data[:512], peer)
"""

PATH = f"""
set -e
mount -t tmpfs tmpfs /run
for name in router far; do ip netns add $name; done
ip link set lo up
ip link add near type veth peer name near netns router
ip -n router link add far type veth peer name far netns far
ip address add 10.9.1.2/24 dev near; ip link set near up; ip route add default via 10.9.1.1
ip -n router address add 10.9.1.1/24 dev near; ip -n router link set near up
ip -n router address add 10.9.2.1/24 dev far; ip -n router link set far up
ip -n far address add {FAR}/24 dev far; ip -n far link set far up; ip -n far route add default via 10.9.2.1
ip netns exec router sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
"""
LISTEN = f"""
ip netns exec far python3 -I -c '{LISTENERS}' > /dev/null 2>&1 &
until ip netns exec far grep -q :{PORT:04X} /proc/net/udp; do :; done
"""
LOWERED = "ip -n router link set far mtu 1400; ip -n far link set far mtu 1400\n"
SILENCED = (
    "echo 'table inet t { chain output { type filter hook output priority 0; "
    "icmp type destination-unreachable icmp code frag-needed drop; }; }' | ip netns exec router nft -f -\n"
)


@pytest.fixture
def find(make_pod):
    """Finds the limit from near to far, after some more commands."""
    if subprocess.run([*PREFIX, "true"], capture_output=True).returncode:
        pytest.skip("this host lets an ordinary user make no network namespace")

    def search(*changes, address=FAR, **options):
        script = "".join([PATH, *changes, 'exec "$@"'])
        pod = make_pod(*PREFIX, "sh", "-c", script, "sh")
        operation = {"targets": [[address, PORT, PORT, IDENTITY]], "floor": 512, "timeout": 0.4, "tries": 2}
        (found,) = pod.run({"op": "mtu", **operation, **options}).operations[0]["targets"]
        return found

    return search


def limit(found):
    return found["largest"], found["refused"], found["refusal"]


def test_an_open_path_ends_at_the_own_device(find):
    found = find()
    assert limit(found) == (1500, 1501, "local")
    assert (found["interface_mtu"], found["route_mtu"], found["reported"]) == (1500, None, 1500)


def test_a_route_may_say_less_than_its_device(find):
    found = find("ip route replace default via 10.9.1.1 mtu 1450\n")
    assert limit(found) == (1450, 1451, "local")
    assert (found["interface_mtu"], found["route_mtu"], found["reported"]) == (1500, 1450, 1450)


def test_a_narrow_hop_says_who_it_is_and_what_it_takes(find):
    found = find(LOWERED)
    assert limit(found) == (1400, 1401, "fragmentation-needed")
    assert (found["refused_by"], found["reported"]) == ("10.9.1.1", 1400)


def test_a_narrow_hop_that_says_nothing_is_a_black_hole(find):
    found = find(LOWERED, SILENCED)
    assert limit(found) == (1400, 1401, "silence")
    assert found["refused_by"] is None


def test_jumbo_frames_are_found_as_fast(find):
    wide = "".join(
        f"ip {where} link set {device} mtu 9001\n"
        for where, device in (("", "near"), ("-n router", "near"), ("-n router", "far"), ("-n far", "far"))
    )
    assert limit(find(wide)) == (9001, 9002, "local")
    assert limit(find(wide, "ip -n router link set far mtu 8500\n", SILENCED)) == (8500, 8501, "silence")


def test_what_was_learnt_of_the_path_before_does_not_count(find):
    learnt = LOWERED + f"ping -M do -s 1472 -c 1 -W 1 {FAR} > /dev/null 2>&1 || true\n"
    assert limit(find(learnt, SILENCED)) == (1400, 1401, "silence")


def test_a_path_without_any_answer_has_no_limit(find):
    found = find("ip -n far link set far down\n")
    assert limit(found) == (None, None, None)
    assert found["detail"]


def test_an_address_without_a_route_says_so(find):
    found = find("ip route del default\n")
    assert found["largest"] is None
    assert "no route" in found["detail"]


def test_a_listener_shows_the_way_there_alone(find):
    narrow_back = (
        "echo 'table inet t { chain forward { type filter hook forward priority 0; "
        "iifname far meta length > 1300 drop; }; }' | ip netns exec router nft -f -\n"
    )
    assert limit(find(narrow_back)) == (1300, 1301, "silence")
    found = find(LISTEN, narrow_back)
    assert limit(found) == (1500, 1501, "local")
    assert (found["by"], found["segment"]) == ("udp", 1448)


SINK = f"""
import socket
server = socket.create_server(("0.0.0.0", {PORT + 1}))
while True:
    connection, peer = server.accept()
    connection.send(b"{IDENTITY} %s %d\\n" % (peer[0].encode(), peer[1]))
    total = 0
    while data := connection.recv(1 << 18):
        total += len(data)
    connection.send(b"%d\\n" % total)
"""
STARVED = (
    "echo 'table inet t { chain forward { type filter hook forward priority 0; "
    "iifname near meta length > 1000 quota over 200 kbytes drop; }; }' | ip netns exec router nft -f -\n"
)


@pytest.fixture
def transfer(make_pod):
    """Sends a megabyte from near to far, after some more commands."""
    if subprocess.run([*PREFIX, "true"], capture_output=True).returncode:
        pytest.skip("this host lets an ordinary user make no network namespace")

    def send(*changes):
        listen = f"ip netns exec far python3 -I -c '{SINK}' > /dev/null 2>&1 &\n"
        wait = f"until ip netns exec far grep -q :{PORT + 1:04X} /proc/net/tcp; do :; done\n"
        pod = make_pod(*PREFIX, "sh", "-c", "".join([PATH, listen, wait, *changes, 'exec "$@"']), "sh")
        operation = {"target": [FAR, PORT + 1, IDENTITY], "bytes": 1 << 20, "seconds": 8, "rounds": 1}
        return pod.run({"op": "transfer", **operation, "patience": 0.5}).operations[0]["rounds"][0]

    return send


def test_a_transfer_that_flows_tells_no_stall(transfer):
    done = transfer()
    assert done["bytes"] == 1 << 20
    assert done["stall"] < 0.5


def test_a_transfer_that_stands_still_is_broken_off_and_says_for_how_long(transfer):
    done = transfer(STARVED)
    assert 0 < done["bytes"] < 1 << 20
    assert done["stall"] > 0.5
    assert done["retransmits"] > 0
