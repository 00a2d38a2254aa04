"""The agent on the wire: marks that nobody answers, packets as they are, captures."""

import base64
import secrets
import socket
import struct
import threading
from ipaddress import IPv4Network

import pytest

from probes.capture import capture_filter

HERE = "127.0.0.1"


def sent(port, *payloads, protocol=17, copies=1):
    packets = [[HERE, port, base64.b64encode(payload).decode()] for payload in payloads]
    return {"op": "send", "protocol": protocol, "source": HERE, "packets": packets, "copies": copies, "apart": 0.001}


def awaited(listeners, prefix, number, patience=5.0):
    return {"op": "marked", "name": listeners["name"], "prefix": prefix, "number": number, "patience": patience}


def test_marks_are_noted_and_answered_by_nobody(pod, listeners):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.connect((HERE, listeners["udp"]))
        ours.send(b"mark run.one")
        ours.send(b"anything else")
        assert ours.recv(2048).endswith(b"anything else")
    seen = pod.run(awaited(listeners, "run.", 1)).operations[0]["seen"]
    assert seen["marked"] == {"run.one": 1}
    assert seen["udp"] == {HERE: 1}


def test_waiting_for_marks_ends_when_the_last_one_has_come(pod, listeners):
    waiting = threading.Thread(target=lambda: told.append(pod.run(awaited(listeners, "late.", 2)).operations[0]))
    told = []
    pod.run(sent(listeners["udp"], b"mark late.1", b"mark other.1"))
    waiting.start()
    pod.run(sent(listeners["udp"], b"mark late.2"))
    waiting.join()
    assert set(told[0]["seen"]["marked"]) == {"late.1", "late.2", "other.1"}


def test_patience_with_marks_comes_to_an_end(pod, listeners):
    answer = pod.run(awaited(listeners, "never.", 1, patience=0.05)).operations[0]
    assert answer["seen"]["marked"] == {}


def test_each_copy_of_a_packet_is_sent(pod, listeners):
    answer = pod.run(sent(listeners["udp"], b"mark m.a", b"mark m.b", copies=3)).operations[0]
    assert answer["refusals"] == ["", ""]
    assert pod.run(awaited(listeners, "m.b", 1)).operations[0]["seen"]["marked"] == {"m.a": 3, "m.b": 3}


def test_what_the_kernel_will_not_send_is_told_with_its_reason(pod):
    packets = [["255.255.255.255", 9, ""]]
    answer = pod.run({"op": "send", "protocol": 17, "source": HERE, "packets": packets, "copies": 1, "apart": 0})
    assert answer.operations[0]["refusals"] != [""]


def test_a_batch_bears_the_mark_that_it_was_given(pod):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        theirs.bind((HERE, 0))
        pod.probe("udp", [HERE, theirs.getsockname()[1], "x"], timeout=0.05, mark="0011223344556677")
        assert theirs.recv(64).startswith(bytes.fromhex("0011223344556677"))


@pytest.fixture
def may_capture():
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except PermissionError:
        pytest.skip("capturing needs CAP_NET_RAW")


@pytest.mark.usefixtures("may_capture")
def test_a_capture_takes_what_its_filter_lets_through_and_gives_it_back_at_the_end(pod, listeners):
    # Nobody else on this machine sends to 127.66.0.0/16.
    name = f"capture-{secrets.token_hex(4)}"
    program = capture_filter([IPv4Network("127.66.0.0/16")], [1])
    begin = {"op": "capture", "name": name, "life": 20, "toward": [HERE], "filter": program, "most": 8}
    assert pod.run(begin).operations[0]["toward"] == {HERE: "lo"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.sendto(b"to be seen", ("127.66.0.1", 9))
        ours.sendto(b"not to be seen", (HERE, 9))
    answer = pod.run({"op": "stop", "name": name}).operations[0]
    packets = [base64.b64decode(data) for _seconds, _interface, _outgoing, data in answer["packets"]]
    assert any(b"to be seen" in packet for packet in packets)
    assert {struct.unpack_from("!4s", packet, 16)[0][1] for packet in packets if packet[9] == 17} == {66}
    assert answer["lost"] == 0
    assert "error" in pod.run({"op": "stop", "name": name}).operations[0]


@pytest.mark.usefixtures("may_capture")
def test_a_capture_that_is_full_counts_what_it_leaves_out(pod):
    name = f"capture-{secrets.token_hex(4)}"
    program = capture_filter([IPv4Network("127.67.0.0/16")], [1])
    pod.run({"op": "capture", "name": name, "life": 20, "toward": [HERE], "filter": program, "most": 2})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        for _ in range(3):
            ours.sendto(b"x", ("127.67.0.1", 9))
    answer = pod.run({"op": "stop", "name": name}).operations[0]
    assert len(answer["packets"]) == 2
    assert answer["lost"] > 0
