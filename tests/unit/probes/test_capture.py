"""What is captured and how it is read: filters by the kernel that applies them, packets by hand."""

import base64
import secrets
import socket
import struct
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from analysis.plan import Encapsulation
from probes.agent.wire import attach_filter
from probes.capture import SNAP_BYTES, capture_filter, dissect, pcap
from probes.handmade import IP_IN_IP, UDP, datagram, internet_checksum, wrapped

PODS = (IPv4Network("192.168.0.0/18"), IPv4Network("192.168.64.0/18"))
POD, OTHER_POD = IPv4Address("192.168.0.66"), IPv4Address("192.168.64.70")
NODE, OTHER_NODE = IPv4Address("10.0.1.11"), IPv4Address("10.1.1.11")
PORT = 20257
RECORDED = Path(__file__).parent / "pcap"
MAC = "66:00:00:01:00:02"
INNER = datagram(POD, OTHER_POD, PORT, b"mark")


def outer(protocol, body, source=NODE, destination=OTHER_NODE, *, fragment=0):
    fields = (0x45, 0, 20 + len(body), 0, fragment, 64, protocol)
    addresses = source.packed + destination.packed
    total = internet_checksum(struct.pack("!BBHHHBBH", *fields, 0) + addresses)
    return struct.pack("!BBHHHBBH", *fields, total) + addresses + body


def over_udp(port, payload, **options):
    return outer(UDP, struct.pack("!HHHH", port, port, 8 + len(payload), 0) + payload, **options)


def encapsulated(encapsulation, port=4789, packet=INNER, vni=4096):
    payload = wrapped(encapsulation, packet, vni=vni, mac=MAC)
    return outer(IP_IN_IP, payload) if encapsulation is Encapsulation.IPIP else over_udp(port, payload)


@pytest.fixture
def lets_through():
    """Has the kernel apply the filter to a packet; what is left of it, or None."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    attach_filter(theirs, capture_filter(PODS, [PORT]))
    theirs.setblocking(False)

    def send(packet):
        try:
            ours.send(packet)
            return theirs.recv(2048)
        except (BlockingIOError, PermissionError):
            return None

    with ours, theirs:
        yield send


@pytest.mark.parametrize("encapsulation", [Encapsulation.VXLAN, Encapsulation.GENEVE, Encapsulation.IPIP])
def test_our_own_datagrams_are_captured_in_any_tunnel(lets_through, encapsulation):
    assert lets_through(encapsulated(encapsulation, 6081 if encapsulation is Encapsulation.GENEVE else 4789))


def test_a_wrong_port_or_identifier_of_the_tunnel_does_not_hide_them(lets_through):
    assert lets_through(encapsulated(Encapsulation.VXLAN, port=8473, vni=77))


def test_geneve_options_are_skipped(lets_through):
    plain = wrapped(Encapsulation.GENEVE, INNER, vni=6, mac=MAC)
    packet = over_udp(6081, bytes([2]) + plain[1:8] + bytes(8) + plain[8:])
    assert lets_through(packet)
    assert dissect(packet).inner_source == POD


def test_answers_are_captured_too(lets_through):
    answer = bytearray(INNER)
    answer[20:24] = struct.pack("!HH", PORT, 40000)
    assert lets_through(encapsulated(Encapsulation.VXLAN, packet=bytes(answer)))


def test_pod_addresses_outside_are_captured_whatever_the_packet_is(lets_through):
    assert lets_through(outer(1, b"echo", source=POD))
    assert lets_through(outer(6, b"segment", destination=OTHER_POD))


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(encapsulated(Encapsulation.VXLAN, packet=datagram(POD, OTHER_POD, 53, b"q")), id="other traffic"),
        pytest.param(over_udp(123, bytes(48)), id="no tunnel"),
        pytest.param(outer(6, bytes(40)), id="between nodes"),
        pytest.param(outer(UDP, b"short"), id="cut short"),
        pytest.param(
            over_udp(4789, wrapped(Encapsulation.VXLAN, INNER, vni=1, mac=MAC), fragment=100), id="later fragment"
        ),
        pytest.param(bytes([0x60]) + bytes(60), id="IPv6"),
        pytest.param(b"\x00\x01\x08\x00\x06\x04" + bytes(22), id="ARP"),
    ],
)
def test_the_traffic_of_others_stays_where_it_is(lets_through, packet):
    assert lets_through(packet) is None


def test_no_more_of_a_packet_is_kept_than_its_headers(lets_through):
    assert len(lets_through(outer(6, bytes(1400), source=POD))) == SNAP_BYTES


def test_a_filter_has_room_for_many_regions_and_says_when_it_has_none():
    assert capture_filter([IPv4Network((10 << 24 | n << 16, 16)) for n in range(30)], [PORT])
    with pytest.raises(ValueError, match="too many ranges"):
        capture_filter([IPv4Network((10 << 24 | n << 16, 16)) for n in range(80)], [PORT])


def test_vxlan_is_dissected():
    seen = dissect(encapsulated(Encapsulation.VXLAN, port=8472, vni=2))
    assert (seen.outer_source, seen.outer_destination) == (NODE, OTHER_NODE)
    assert (seen.protocol, seen.port, seen.vni, seen.dont_fragment) == (17, 8472, 2, False)
    assert (seen.inner_source, seen.inner_destination) == (POD, OTHER_POD)
    assert seen.length == 20 + 8 + 8 + 14 + len(INNER)


def test_ip_in_ip_is_dissected():
    seen = dissect(encapsulated(Encapsulation.IPIP))
    assert (seen.protocol, seen.port, seen.vni) == (4, None, None)
    assert (seen.inner_source, seen.inner_destination) == (POD, OTHER_POD)


def test_a_bare_packet_has_nothing_inside():
    seen = dissect(outer(UDP, struct.pack("!HHHH", 40000, PORT, 21, 0) + secrets.token_bytes(13), source=POD))
    assert (seen.outer_source, seen.inner_source, seen.vni) == (POD, None, None)


def test_the_bit_that_forbids_fragments_is_seen():
    assert dissect(outer(1, b"echo", fragment=0x4000)).dont_fragment


@pytest.mark.parametrize(
    ("profile", "nodes", "pods", "port", "vni"),
    [
        ("aws-calico", "10.0.0.0/14", "192.168.0.0/16", 4789, 4096),
        ("azure-cilium", "10.0.0.0/14", "10.8.0.0/13", 8472, 2),
    ],
)
def test_what_was_captured_in_a_lab_is_dissected(profile, nodes, pods, port, vni):
    """A probe and its answer, on their way from and to a node."""
    from scapy.utils import RawPcapReader

    with RawPcapReader(str(RECORDED / f"{profile}.pcap")) as reader:
        packets = [dissect(data) for data, _meta in reader]
    assert len(packets) == 4
    for packet in packets:
        assert (packet.protocol, packet.port, packet.vni) == (UDP, port, vni)
        assert packet.outer_source in IPv4Network(nodes)
        assert packet.outer_destination in IPv4Network(nodes)
        assert packet.inner_source in IPv4Network(pods)
        assert packet.inner_destination in IPv4Network(pods)
    there, back = packets[:2]
    assert (there.inner_source, there.inner_destination) == (back.inner_destination, back.inner_source)


def test_what_is_no_ip_packet_is_refused():
    with pytest.raises(ValueError, match="no IPv4 packet"):
        dissect(b"\x00\x01")


def test_a_pcap_file_holds_times_and_packets(tmp_path):
    from scapy.utils import RawPcapReader

    packet = encapsulated(Encapsulation.VXLAN)
    file = tmp_path / "wire.pcap"
    file.write_bytes(base64.b64decode(pcap([(1_700_000_000.25, packet)])))
    with RawPcapReader(str(file)) as reader:
        ((data, meta),) = list(reader)
    assert data == packet
    assert (meta.sec, meta.usec) == (1_700_000_000, 250_000)
