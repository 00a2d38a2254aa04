"""What the agent says about what it meets, tried on loopback and in namespaces of its own."""

import ast
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from probes.agent_bundle import agent_source

LISTEN = "0A"  # as /proc/net/tcp writes the state


def test_an_open_tcp_port_says_who_answered_and_whom_it_saw(pod, listeners):
    (row,) = pod.probe("tcp", ["127.0.0.1", listeners["tcp"], "east/alpha"])
    assert (row["outcome"], row["seen"], row["sends"]) == ("open", "127.0.0.1", 1)
    assert row["rtt_us"] > 0


def test_udp_is_echoed_with_identity_and_source(pod, listeners):
    (row,) = pod.probe("udp", ["127.0.0.1", listeners["udp"], "east/alpha"], tries=3)
    assert (row["outcome"], row["seen"]) == ("open", "127.0.0.1")


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_another_one_answering_is_not_the_target_answering(pod, listeners, kind):
    (row,) = pod.probe(kind, ["127.0.0.1", listeners[kind], "west/beta"], timeout=0.2)
    assert row["outcome"] == "dropped"
    assert "east/alpha answered instead" in row["detail"]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_closed_port_is_refused_by_the_target_itself(pod, kind):
    (row,) = pod.probe(kind, ["127.0.0.1", free_port(kind), "nobody"], tries=2)
    assert row["outcome"] == "refused"


def test_a_silent_udp_port_is_dropped_after_all_tries(pod):
    with bound(socket.SOCK_DGRAM) as port:
        (row,) = pod.probe("udp", ["127.0.0.1", port, "nobody"], tries=3, timeout=0.3)
    assert (row["outcome"], row["sends"]) == ("dropped", 3)
    assert "3 tries" in row["detail"]


def test_a_connection_that_stays_silent_proves_nothing(pod):
    with bound(socket.SOCK_STREAM) as port:
        (row,) = pod.probe("tcp", ["127.0.0.1", port, "nobody"], timeout=0.2)
    assert row["outcome"] == "inconclusive"
    assert "said nothing" in row["detail"]


def test_hundreds_of_probes_are_in_flight_at_once(pod, listeners):
    result = pod.probe("tcp", *[["127.0.0.1", listeners["tcp"], "east/alpha"]] * 1000, window=300)
    assert {row["outcome"] for row in result} == {"open"}


def test_probes_leave_no_connections_behind(pod, listeners):
    pod.probe("tcp", *[["127.0.0.1", listeners["tcp"], "east/alpha"]] * 50)
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert {state for _, local, _, state, *_ in sockets if local.endswith(f":{listeners['tcp']:04X}")} == {LISTEN}


def test_what_is_unfinished_at_the_deadline_is_inconclusive(pod):
    with bound(socket.SOCK_DGRAM) as port:
        (row,) = pod.probe("udp", ["127.0.0.1", port, "x"], timeout=60, within=timedelta(seconds=0.2))
    assert row["outcome"] == "inconclusive"
    assert "deadline" in row["detail"]


def test_patience_ends_a_batch_that_gets_no_answer(pod):
    with bound(socket.SOCK_DGRAM) as port:
        result = pod.probe("udp", *[["127.0.0.1", port, "x"]] * 5, timeout=0.05, window=1, patience=2)
    assert [row["outcome"] for row in result] == ["dropped"] * 2 + ["inconclusive"] * 3


def test_icmp_tells_the_ttl_or_why_it_may_not(pod):
    (row,) = pod.probe("icmp", ["127.0.0.1", 0, ""], tries=2)
    assert (row["outcome"], row["ttl"]) == ("open", 64) or "icmp socket" in row["detail"]


def test_health_tells_that_the_own_listener_answered(pod, listeners):
    run = pod.run(control=("127.0.0.1", listeners["tcp"], "east/alpha"))
    assert run.control_failure == ""
    assert run.health["cpu_seconds"] > 0
    assert run.clock["wall"] == pytest.approx(time.time(), abs=60)


def test_health_tells_that_the_own_listener_is_gone(pod):
    run = pod.run(control=("127.0.0.1", free_port("tcp"), "east/alpha"))
    assert "own listener: refused" in run.control_failure


def test_listeners_count_who_knocked(pod, listeners):
    pod.probe("tcp", *[["127.0.0.1", listeners["tcp"], "east/alpha"]] * 3)
    seen = pod.run({"op": "counters", "name": listeners["name"]}).operations[0]["seen"]
    assert seen["tcp"] == {"127.0.0.1": 3}
    assert seen["udp"] == {}


def test_listening_twice_keeps_the_first_listeners(pod, listeners):
    again = pod.run(listeners["operation"]).operations[0]
    assert again["started"] is False
    assert again["ports"]["tcp"] == [listeners["tcp"]]


def test_a_taken_port_is_replaced_by_a_free_one(pod, listeners):
    operation = {**listeners["operation"], "name": listeners["name"] + "-2", "tcp": [listeners["tcp"]]}
    try:
        state = pod.run(operation).operations[0]
        assert state["ports"]["tcp"][0] not in (0, listeners["tcp"])
    finally:
        pod.run({"op": "stop", "name": operation["name"]})


def test_an_address_that_is_not_ours_cannot_be_listened_on(pod):
    operation = {
        "op": "listen",
        "name": secrets.token_hex(4),
        "identity": "x",
        "address": "192.0.2.200",
        "tcp": [0],
        "life": 5,
    }
    assert "listen:" in pod.run(operation).operations[0]["error"]


def test_stopped_listeners_refuse_at_once(pod, listeners):
    operation = {**listeners["operation"], "name": listeners["name"] + "-2"}
    port = pod.run(operation).operations[0]["ports"]["tcp"][0]
    pod.run({"op": "stop", "name": operation["name"]})
    wait_until_refused(port)


def test_listeners_end_by_themselves(pod):
    operation = {
        "op": "listen",
        "name": secrets.token_hex(4),
        "identity": "x",
        "address": "127.0.0.1",
        "tcp": [0],
        "life": 0.3,
    }
    wait_until_refused(pod.run(operation).operations[0]["ports"]["tcp"][0])


def test_an_operation_that_fails_leaves_the_others_alone(pod):
    run = pod.run({"op": "stop", "name": "not-there"}, {"op": "kernel"})
    assert "stop:" in run.operations[0]["error"]
    assert run.operations[1]["links"]


def test_a_bulk_transfer_is_told_by_the_receiving_side(pod, listeners):
    target = ["127.0.0.1", listeners["sink"], "east/alpha"]
    operation = {"op": "transfer", "target": target, "bytes": 1 << 20, "seconds": 5, "rounds": 4}
    rounds = pod.run(operation).operations[0]["rounds"]
    assert 2 <= len(rounds) <= 4
    assert {done["bytes"] for done in rounds} == {1 << 20}
    assert all(done["seconds"] > 0 for done in rounds)


def test_one_line_is_read_from_a_host_outside(pod):
    def serve(server):
        connection, peer = server.accept()
        connection.sendall(peer[0].encode() + b"\n")
        connection.close()

    with serving(socket.SOCK_STREAM, serve) as port:
        (row,) = pod.probe("line", ["127.0.0.1", port, ""])
    assert (row["outcome"], row["answer"]) == ("open", "127.0.0.1")


def dns_reply(query, code=0, address="172.20.0.1"):
    header = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, 0 if code else 1, 0, 0)
    answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + socket.inet_aton(address)
    return header + query[12:] + (b"" if code else answer)


@pytest.mark.parametrize(("code", "expected"), [(0, "NOERROR 172.20.0.1"), (3, "NXDOMAIN"), (2, "SERVFAIL")])
def test_dns_over_udp_tells_code_and_addresses(pod, code, expected):
    def serve(server):
        query, peer = server.recvfrom(512)
        server.sendto(dns_reply(query, code), peer)

    with serving(socket.SOCK_DGRAM, serve) as port:
        (row,) = pod.probe("dns-udp", ["127.0.0.1", port, "kubernetes.default.svc.cluster.local"])
    assert (row["outcome"], row["answer"]) == ("open", expected)


def test_dns_over_tcp_reads_an_answer_that_comes_in_pieces(pod):
    def serve(server):
        connection, _ = server.accept()
        query = connection.recv(512)[2:]
        reply = dns_reply(query)
        for piece in (struct.pack("!H", len(reply)), reply[:9], reply[9:]):
            connection.sendall(piece)
            time.sleep(0.01)
        connection.close()

    with serving(socket.SOCK_STREAM, serve) as port:
        (row,) = pod.probe("dns-tcp", ["127.0.0.1", port, "kubernetes.default.svc.cluster.local"])
    assert (row["outcome"], row["answer"]) == ("open", "NOERROR 172.20.0.1")


# --- what only a network namespace of its own can show --------------------------------------------------------------

NAMESPACE = ["unshare", "-Urn"]


@pytest.fixture
def in_namespace(make_pod):
    """A pod in a new network namespace, after some commands."""
    if subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        pytest.skip("this host lets an ordinary user make no network namespace")
    return lambda *setup: make_pod(*NAMESPACE, "sh", "-ec", "; ".join(["ip link set lo up", *setup, 'exec "$@"']), "sh")


@pytest.mark.parametrize(
    ("rule", "outcome", "detail"),
    [
        ("drop", "dropped", "no answer"),
        ("reject with icmpx admin-prohibited", "prohibited", "administratively prohibited, says 127.0.0.1"),
        ("reject with icmpx host-unreachable", "prohibited", "host unreachable, says 127.0.0.1"),
    ],
)
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_packet_filter_is_told_by_what_it_does(in_namespace, kind, rule, outcome, detail):
    filtering = f"table inet t {{ chain i {{ type filter hook input priority 0; {kind} dport 9 {rule}; }}; }}"
    pod = in_namespace(f"echo '{filtering}' | nft -f -")
    (row,) = pod.probe(kind, ["127.0.0.1", 9, "x"], timeout=0.3)
    assert row["outcome"] == outcome
    assert detail in row["detail"]


def test_errors_are_told_apart_when_many_come_at_once(in_namespace):
    rule = "udp dport 1-200 reject with icmpx admin-prohibited"
    filtering = f"table inet t {{ chain i {{ type filter hook input priority 0; {rule}; }}; }}"
    targets = [["127.0.0.1", port, "x"] for port in range(1, 401)]
    result = in_namespace(f"echo '{filtering}' | nft -f -").probe("udp", *targets, timeout=0.5, tries=2)
    assert [row["outcome"] for row in result] == ["prohibited"] * 200 + ["refused"] * 200


@pytest.mark.parametrize("kind", ["tcp", "udp", "icmp"])
@pytest.mark.parametrize("route", ["prohibit", "unreachable"])
def test_a_forbidding_route_is_told_from_a_drop(in_namespace, kind, route):
    pod = in_namespace(f"ip route add {route} 198.51.100.0/24")
    (row,) = pod.probe(kind, ["198.51.100.9", 9 if kind != "icmp" else 0, "x"], timeout=0.5)
    assert row["outcome"] == "prohibited"
    assert "own kernel" in row["detail"]


def test_a_missing_route_says_so(in_namespace):
    (row,) = in_namespace().probe("tcp", ["198.51.100.9", 80, "x"], timeout=0.5)
    assert (row["outcome"], "Network is unreachable" in row["detail"]) == ("prohibited", True)


def test_a_reset_by_a_filter_looks_like_a_closed_port(in_namespace):
    rule = "tcp dport 9 reject with tcp reset"
    filtering = f"table inet t {{ chain i {{ type filter hook input priority 0; {rule}; }}; }}"
    (row,) = in_namespace(f"echo '{filtering}' | nft -f -").probe("tcp", ["127.0.0.1", 9, "x"])
    assert row["outcome"] == "refused"


def test_the_kernel_dump_holds_what_ip_configured(in_namespace):
    pod = in_namespace(
        "ip link add vx type vxlan id 4096 dstport 4789 local 127.0.0.1 nolearning",
        "ip link set vx address 66:00:00:00:00:01 mtu 1450 up",
        "ip address add 192.168.0.64/32 dev vx",
        "ip neigh add 192.168.64.64 lladdr 66:00:00:01:00:01 dev vx nud permanent",
        "bridge fdb add 66:00:00:01:00:01 dev vx dst 10.1.1.10",
        "ip route add 192.168.64.64/26 via 192.168.64.64 dev vx onlink proto bird metric 32",
        "ip route add blackhole 192.168.0.64/26 proto bird",
        "ip route add 198.51.100.0/24 nexthop via 192.168.0.70 dev vx onlink nexthop via 192.168.0.71 dev vx onlink",
    )
    tables = pod.run({"op": "kernel"}).operations[0]
    routes = {(route["prefix"], route["kind"]): route for route in tables["routes"] if route["table"] == 254}
    (device,) = [link for link in tables["links"] if link["name"] == "vx"]
    assert (device["kind"], device["vni"], device["port"], device["mtu"]) == ("vxlan", 4096, 4789, 1450)
    remote = routes["192.168.64.64/26", "unicast"]
    assert remote["hops"] == [["192.168.64.64", device["index"], True]]
    assert (remote["protocol"], remote["metric"]) == (12, 32)
    assert ("192.168.0.64/26", "blackhole") in routes
    assert [hop[0] for hop in routes["198.51.100.0/24", "unicast"]["hops"]] == ["192.168.0.70", "192.168.0.71"]
    assert {"address": "192.168.64.64", "mac": "66:00:00:01:00:01"}.items() <= tables["neighbours"][0].items()
    assert any(
        entry["mac"] == "66:00:00:01:00:01" and entry["address"] == "10.1.1.10" for entry in tables["forwarding"]
    )
    assert {"index": device["index"], "address": "192.168.0.64", "length": 32} in tables["addresses"]


# --- where it must run ----------------------------------------------------------------------------------------------

STANDARD_IN_3_8 = {
    *("__future__", "errno", "os", "resource", "select", "struct", "sys", "time"),
    *("_collections", "_json", "_signal", "_socket"),
    *("json", "base64", "ssl", "threading"),  # where there is no _json; for handshakes
    *("array", "binascii"),  # for captures
    *("hashlib", "hmac"),  # for logins with a password
}
SLOW_TO_IMPORT = {"collections", "enum", "json", "re", "signal", "socket", "ssl", "typing"}


def test_the_agent_is_valid_python_3_8_and_needs_the_standard_library_alone():
    tree = ast.parse(agent_source(), feature_version=(3, 8))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").partition(".")[0])
    assert imported <= STANDARD_IN_3_8


def test_the_agent_starts_without_site_packages_and_what_is_slow_to_import():
    load = "import sys; exec(compile(sys.stdin.read(), 'agent', 'exec'), {'__name__': 'agent'}); print(*sys.modules)"
    argv = [sys.executable, "-I", "-S", "-c", load]
    done = subprocess.run(argv, input=agent_source(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert not SLOW_TO_IMPORT & set(done.stdout.split())


# --- helpers --------------------------------------------------------------------------------------------------------


@contextmanager
def bound(style):
    """A port that takes what comes and never answers."""
    with socket.socket(socket.AF_INET, style) as sock:
        sock.bind(("127.0.0.1", 0))
        if style == socket.SOCK_STREAM:
            sock.listen()
        yield sock.getsockname()[1]


@contextmanager
def serving(style, serve):
    """A port where `serve` answers, once."""
    with socket.socket(socket.AF_INET, style) as sock:
        sock.settimeout(5)
        sock.bind(("127.0.0.1", 0))
        if style == socket.SOCK_STREAM:
            sock.listen()
        thread = threading.Thread(target=serve, args=(sock,))
        thread.start()
        yield sock.getsockname()[1]
        thread.join()


def free_port(kind):
    with bound(socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as port:
        return port


def wait_until_refused(port):
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    pytest.fail(f"port {port} still answers")
