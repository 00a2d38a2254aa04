"""The three BIRD lines are read alike, and what cannot be read is said out loud."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from analysis.bird import BirdParseError, parse_protocols, parse_routes

SAMPLES = Path(__file__).parent / "bird"
BIRD_1_PROTOCOLS, BIRD_2_PROTOCOLS, BIRD_3_PROTOCOLS = [
    (SAMPLES / f"{version}-protocols.txt").read_text() for version in (1, 2, 3)
]
# One worker's table, told by each BIRD: the same routes must come out.
BIRD_1_ROUTES, BIRD_2_ROUTES, BIRD_3_ROUTES = [(SAMPLES / f"{version}-routes.txt").read_text() for version in (1, 2, 3)]

PROTOCOLS = pytest.mark.parametrize("text", [BIRD_1_PROTOCOLS, BIRD_2_PROTOCOLS, BIRD_3_PROTOCOLS], ids=["1", "2", "3"])


def sessions(text):
    return [
        session
        for protocol in parse_protocols(text)
        if (session := protocol.session("us-east-1", "node-1")) is not None
    ]


@PROTOCOLS
def test_sessions_read_alike_from_every_bird(text):
    up, connecting, disabled = sessions(text)
    assert up.established
    assert (up.name, up.peer_address, up.peer_as) == ("Node_10_0_1_11", IPv4Address("10.0.1.11"), 64512)
    assert (up.imported, up.exported, up.reflector_client, up.error) == (9, 5, True, "")
    assert not connecting.established
    assert (connecting.state, connecting.error) == ("Connect", "Socket: Connection timed out")
    assert (connecting.peer_address, connecting.peer_as) == (IPv4Address("10.2.1.10"), 64514)
    assert (connecting.imported, connecting.hold_time, connecting.reflector_client) == (None, None, False)
    assert (disabled.state, disabled.error) == ("Down", "")


def test_the_agreed_hold_time_is_read():
    assert [sessions(text)[0].hold_time for text in (BIRD_1_PROTOCOLS, BIRD_2_PROTOCOLS, BIRD_3_PROTOCOLS)] == [
        240,
        3,
        240,
    ]


def test_the_local_as_is_unknown_where_bird_does_not_print_it():
    assert sessions(BIRD_1_PROTOCOLS)[0].local_as is None
    assert sessions(BIRD_2_PROTOCOLS)[0].local_as == 64512


def test_protocols_other_than_bgp_are_no_sessions():
    static, *_ = parse_protocols(BIRD_1_PROTOCOLS)
    assert (static.name, static.kind, static.state, static.bgp) == ("static1", "Static", "up", None)


def test_an_established_session_may_carry_an_old_error():
    text = BIRD_1_PROTOCOLS.replace("    Keepalive timer:  42/80", "    Last error:       Received: Cease")
    assert sessions(text)[0].established
    assert sessions(text)[0].error == "Received: Cease"


def test_sessions_over_ipv6_are_left_out():
    text = BIRD_2_PROTOCOLS.replace("Neighbor address: 10.2.1.10", "Neighbor address: fe80::1%eth0")
    assert [session.name for session in sessions(text)] == ["Node_10_0_1_11", "Node_10_1_1_10"]


@PROTOCOLS
@pytest.mark.parametrize("key", ["BGP state", "Neighbor address", "Neighbor AS"])
def test_a_missing_key_line_is_an_error(text, key):
    lines = [line for line in text.splitlines() if not line.strip().startswith(key + ":")]
    with pytest.raises(BirdParseError, match=f"protocol Node_10_0_1_11 has no line `{key}:`"):
        parse_protocols("\n".join(lines))


@pytest.mark.parametrize(
    "text",
    ["", "Unable to connect to server control socket (/var/run/calico/bird.ctl): Connection refused\n"],
)
@pytest.mark.parametrize("parse", [parse_protocols, parse_routes])
def test_a_silent_or_failing_client_is_an_error(parse, text):
    with pytest.raises(BirdParseError, match="did not greet"):
        parse(text)


def test_an_unknown_row_is_an_error_with_the_row_in_it():
    with pytest.raises(BirdParseError) as caught:
        parse_protocols(BIRD_1_PROTOCOLS + "syntax error, unexpected CF_SYM_UNDEFINED\n")
    assert caught.value.line == "syntax error, unexpected CF_SYM_UNDEFINED"


def test_an_address_that_is_none_is_an_error():
    with pytest.raises(BirdParseError, match="protocol Node_10_0_1_11"):
        parse_protocols(BIRD_1_PROTOCOLS.replace("Neighbor address: 10.0.1.11", "Neighbor address: ten"))


ROUTES = pytest.mark.parametrize("text", [BIRD_1_ROUTES, BIRD_2_ROUTES, BIRD_3_ROUTES], ids=["1", "2", "3"])


@ROUTES
def test_routes_read_alike_from_every_bird(text):
    assert parse_routes(text) == parse_routes(BIRD_1_ROUTES)


def test_what_a_bgp_route_says():
    remote = parse_routes(BIRD_2_ROUTES)[3]
    assert remote.prefix == IPv4Network("192.168.70.0/26")
    assert remote.best
    assert remote.from_bgp
    assert remote.next_hop == IPv4Address("10.1.1.12")
    assert remote.learned_from == IPv4Address("10.0.1.10")
    assert remote.as_path == (64513,)
    assert remote.gateways == ((IPv4Address("10.0.1.1"), "eth0"),)


def test_a_further_route_of_a_prefix_is_no_best_one():
    backup = parse_routes(BIRD_1_ROUTES)[4]
    assert (backup.prefix, backup.best, backup.as_path) == (IPv4Network("192.168.70.0/26"), False, (64514, 64513))


def test_the_sender_is_the_gateway_where_bird_does_not_name_it():
    assert parse_routes(BIRD_2_ROUTES)[2].learned_from == IPv4Address("10.0.1.10")


def test_kinds_of_routes():
    kinds = {str(route.prefix): route.kind for route in parse_routes(BIRD_3_ROUTES)}
    assert kinds["192.168.11.64/26"] == "blackhole"
    assert kinds["172.21.0.0/16"] == "unreachable"
    assert kinds["10.9.0.0/24"] == "multipath"
    assert kinds["10.0.1.0/24"] == "unicast"


def test_a_route_in_terms_of_facts():
    route = parse_routes(BIRD_1_ROUTES)[2].rib_route("us-east-1", "node-2")
    assert (route.region, route.node, route.gateway, route.device) == (
        "us-east-1",
        "node-2",
        IPv4Address("10.0.1.10"),
        "eth0",
    )


def test_the_short_listing_knows_bgp_routes_but_not_their_attributes():
    short = "\n".join(line for line in BIRD_1_ROUTES.splitlines() if not line.startswith("\t") or "weight" in line)
    for brief, full in zip(parse_routes(short), parse_routes(BIRD_1_ROUTES), strict=True):
        assert brief == replace(full, next_hop=None, as_path=())


def test_no_routes_is_an_answer():
    assert parse_routes("BIRD 2.0.12 ready.\nNetwork not in table\n") == ()


@ROUTES
@pytest.mark.parametrize(
    "line", ["\tvia somewhere", "\tgarbage", "192.168.0.0/26 nonsense", "192.168.0.0/26 odd [x 09:14:02]"]
)
def test_a_line_of_no_known_form_is_an_error_with_the_line_in_it(text, line):
    with pytest.raises(BirdParseError) as caught:
        parse_routes(f"{text.partition('Table master6')[0]}{line}\n")
    assert line.strip() in caught.value.line
