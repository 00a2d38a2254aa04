"""What Patroni's answers mean, and what is missing until the database is whole."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from analysis.facts import NodeRole
from analysis.fleet import Capability, ClusterHandle, DatabaseAccess, Fleet
from probes.database.https import Reply
from probes.database.port import DatabaseError
from probes.database.postgresql import connect, patroni
from provision.lab.topology import aws_calico

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
REGIONS = ("us-east-1", "us-east-2", "us-west-1")
SYNCHRONOUS = {"ttl": 6, "synchronous_mode": True, "synchronous_mode_strict": True}


def reply(told, status=200):
    return Reply(status, json.dumps(told).encode(), "", NOW)


def host(region):
    return f"cockroachdb-0.cockroachdb.{region}.svc.cluster.local"


def listed(region, role="replica", **changes):
    state = "running" if role == "leader" else "streaming"
    member = {
        "name": f"cockroachdb-0.{region}",
        "role": role,
        "state": state,
        "host": host(region),
        "port": 26257,
        "timeline": 3,
        "tags": {"region": region},
    }
    return member | changes


def own(role="replica", seen=NOW, **changes):
    told = {"state": "running", "role": role, "timeline": 3, "dcs_last_seen": int(seen.timestamp())}
    return told | ({} if role == "master" else {"replication_state": "streaming"}) | changes


@pytest.fixture
def world():
    """Answers by host and path; an adapter is asked about them through `database(world)`."""
    return {
        **{
            (host(region), "/cluster"): {
                "members": [listed(REGIONS[0], "leader"), listed(REGIONS[1], "sync_standby"), listed(REGIONS[2])]
            }
            for region in REGIONS
        },
        **{(host(region), "/config"): SYNCHRONOUS for region in REGIONS},
        (host(REGIONS[0]), "/patroni"): own("master"),
        (host(REGIONS[1]), "/patroni"): own(sync_standby=True),
        (host(REGIONS[2]), "/patroni"): own(),
    }


def database(world):
    plan = aws_calico("unit").plan
    handles = tuple(ClusterHandle(region, "unused", region) for region in REGIONS)
    fleet = Fleet(plan, "test", handles, frozenset(Capability), database=DatabaseAccess("root", "ca.crt"))
    adapter = connect(fleet, dialer=None)

    def ask(member, path):
        told = world.get((member.name, path))
        return reply(told) if told is not None else Reply(None, b"", "Connection refused", NOW)

    adapter.ask = ask
    return adapter


def test_a_database_of_which_all_members_follow_one_primary_is_whole(world):
    assert database(world).whole() == ""
    assert database(world).primary_region() == REGIONS[0]


def test_the_patience_with_it_follows_from_the_lease(world):
    assert database(world).limits.failover == timedelta(seconds=27)


@pytest.mark.parametrize(
    ("place", "told", "missing"),
    [
        ("cluster", [listed(REGIONS[0], "leader"), listed(REGIONS[1], "sync_standby")], "does not list it"),
        ("cluster", [listed(REGIONS[0], "leader"), *map(listed, REGIONS[1:])], "no synchronous standby"),
        ("cluster", [*map(listed, REGIONS)], "no primary"),
        ("state", "starting", "us-west-1/cockroachdb-0 takes no part: starting"),
        ("timeline", 2, "several timelines"),
        ("own", own(seen=NOW - timedelta(seconds=7)), "us-west-1/cockroachdb-0 does not follow"),
        ("own", own(replication_state="in archive recovery"), "us-west-1/cockroachdb-0 does not follow"),
        ("own", None, "us-west-1/cockroachdb-0 does not answer: Connection refused"),
    ],
)
def test_what_is_missing_is_told(world, place, told, missing):
    for region in REGIONS:
        members = world[host(region), "/cluster"]["members"]
        if place == "cluster":
            members = told
        elif place != "own":
            members = [*members[:2], listed(REGIONS[2], **{place: told})]
        world[host(region), "/cluster"] = {"members": members}
    if place == "own":
        world[host(REGIONS[2]), "/patroni"] = told
    assert missing in database(world).whole()


def test_the_members_are_asked_of_whoever_answers(world):
    del world[host(REGIONS[0]), "/cluster"], world[host(REGIONS[0]), "/config"]
    assert len(database(world).listed()) == 3
    assert database(world).settings().strict


def test_nobody_who_answers_is_an_error_in_words():
    with pytest.raises(DatabaseError, match="us-east-1/cockroachdb-0: Connection refused; us-east-2/cockroachdb-0"):
        database({}).listed()
    assert "Connection refused" in database({}).whole()
    assert database({}).primary_region() == ""


@pytest.mark.parametrize(
    ("told", "ready", "role"),
    [
        (own("master"), True, "primary"),
        (own(sync_standby=True), True, "synchronous"),
        (own(), True, "replica"),
        (own("master", seen=NOW - timedelta(seconds=7)), False, "primary"),
        (own(state="starting"), False, "replica"),
        (None, None, ""),
    ],
)
def test_what_a_pod_says_of_itself(world, told, ready, role):
    world[host(REGIONS[0]), "/patroni"] = told
    [sight] = database(world).sight(REGIONS[0])
    assert (sight.region, sight.pod, sight.ready, sight.role) == (REGIONS[0], "cockroachdb-0", ready, role)


def test_a_member_in_its_own_words():
    told = own(
        "master",
        server_version=170010,
        postmaster_start_time="2026-11-22 11:59:00.5+00:00",
        replication=[{"application_name": "cockroachdb-0.us-east-2", "state": "streaming"}],
    )
    member = patroni.read_member(reply(told))
    assert (member.version, member.role) == ("17.10", NodeRole.PRIMARY)
    assert member.senders == {"cockroachdb-0.us-east-2": "streaming"}
    assert member.started == NOW - timedelta(seconds=59.5)


@pytest.mark.parametrize(
    ("settings", "strict"),
    [
        (SYNCHRONOUS, True),
        ({**SYNCHRONOUS, "synchronous_mode": "quorum"}, True),
        ({**SYNCHRONOUS, "synchronous_mode": False}, False),
        ({**SYNCHRONOUS, "synchronous_mode_strict": False}, False),
        ({}, False),
    ],
)
def test_writes_wait_for_a_standby_only_where_both_settings_say_so(settings, strict):
    assert patroni.read_settings(reply(settings)).strict is strict
