"""Doors on loopback that come out behind an exec, through servers that speak exec v5 or v4."""

import asyncio
import socket
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from aiohttp import WSMsgType

from analysis.fleet import Capability, DatabaseAccess, Fleet
from analysis.plan import DatabasePlan
from probes.database.tunnel import Tunnels
from probes.deploy import ProbePod, ProbeSet
from probes.mesh import Mesh
from provision.lab.topology import aws_calico

EAST = "us-east-1"
V4_ONLY = ("v4.channel.k8s.io",)


@pytest.fixture(params=[("v5.channel.k8s.io", *V4_ONLY), V4_ONLY], ids=["v5", "v4"])
def api(request, make_api):
    with make_api(request.param) as double:
        double.behave = a_process(double)
        double.objects["/api/v1/namespaces/meshproof/pods/alpha"] = {"metadata": {}, "status": {"phase": "Running"}}
        yield double
        for process in double.running:
            asyncio.run_coroutine_threadsafe(process.wait(), double.loop).result(10)


def a_process(api):
    """Plays the kubelet: runs what is asked for as a process of this machine, and ends it with its input."""

    async def behave(socket):
        command = api.execs[-1][1]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command[1:], stdin=-1, stdout=-1, stderr=-1, close_fds=True
        )

        api.running.append(process)

        async def say(channel, stream):
            while data := await stream.read(1000):
                await socket.send_bytes(bytes([channel]) + data)

        async def hear():
            async for message in socket:
                assert message.type is WSMsgType.BINARY
                process.stdin.write(message.data[1:])
                await process.stdin.drain()
            process.stdin.close()

        hearing = asyncio.ensure_future(hear())
        await asyncio.gather(say(1, process.stdout), say(2, process.stderr))
        code = await process.wait()
        hearing.cancel()
        if not socket.closed:
            await api.finish(code)(socket)

    api.running = []
    return behave


@pytest.fixture
def tunnels(api, tmp_path):
    made = []

    def make(addresses=(), pods=("alpha",)):
        plan = replace(aws_calico("unit", regions=2).plan, database=DatabasePlan())
        access = DatabaseAccess("root", "ca.crt", addresses=addresses)
        handles = (api.handle(tmp_path, EAST),)
        fleet = Fleet(plan, "test", handles, frozenset(Capability), database=access)
        probes = tuple(ProbePod(EAST, "node", "meshproof", name, on_host=False) for name in pods)
        made.append(Tunnels(mesh := Mesh(fleet, "run"), ProbeSet("run", "meshproof", "", probes)))
        made.append(SimpleNamespace(close=mesh.close))
        return made[-2]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def far():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def port_of(listener):
    return listener.getsockname()[1]


def through(tunnels, port):
    near = socket.create_connection(tunnels.door(EAST, "localhost", port), 10)
    near.settimeout(10)
    return near


def test_a_door_leads_to_a_place_that_is_named_in_the_region(tunnels, far):
    doors = tunnels()
    with through(doors, port_of(far)) as near:
        near.sendall(b"question")
        connection, _ = far.accept()
        with connection:
            assert connection.recv(100) == b"question"
            connection.sendall(b"answer")
            assert near.recv(100) == b"answer"
    assert doors.last_problem(EAST, "localhost", port_of(far)) == ""


def test_a_door_is_the_same_each_time(tunnels):
    doors = tunnels()
    assert doors.door(EAST, "a", 1) == doors.door(EAST, "a", 1) != doors.door(EAST, "a", 2)


def test_much_passes_unharmed(tunnels, far):
    data = bytes(range(256)) * 8000
    with through(tunnels(), port_of(far)) as near:
        connection, _ = far.accept()
        with connection:
            connection.sendall(data)
            near.sendall(data[::-1])
            assert exactly(near, len(data)) == data
            assert exactly(connection, len(data)) == data[::-1]


def exactly(end, size):
    heard = b""
    while len(heard) < size:
        heard += end.recv(size - len(heard)) or pytest.fail("it ended too soon")
    return heard


def test_many_connections_are_kept_apart(tunnels, far):
    doors = tunnels(pods=("alpha", "beta"))
    nears = [through(doors, port_of(far)) for _ in range(10)]
    for number, near in enumerate(nears):
        near.sendall(b"%d" % number)
    fars = [far.accept()[0] for _ in nears]
    for connection in fars:
        connection.sendall(connection.recv(10) * 2)
    assert [near.recv(10) for near in nears] == [b"%d%d" % (number, number) for number in range(10)]
    for end in (*nears, *fars):
        end.close()


def test_all_connections_of_a_region_share_one_exec(tunnels, api, far):
    doors = tunnels(pods=("alpha", "beta"))
    for _ in range(3):
        with through(doors, port_of(far)):
            far.accept()[0].close()
    assert [pod for pod, _ in api.execs] == ["alpha"]


def test_another_pod_takes_over_when_a_relay_is_gone(tunnels, api, far):
    doors = tunnels(pods=("alpha", "beta"))
    with through(doors, port_of(far)) as near, far.accept()[0] as connection:
        api.running[0].kill()
        assert near.recv(1) == b""
        assert "the relay ended" in doors.last_problem(EAST, "localhost", port_of(far))
    with through(doors, port_of(far)) as near, far.accept()[0] as connection:
        connection.sendall(b"again")
        assert near.recv(10) == b"again"
    assert [pod for pod, _ in api.execs] == ["alpha", "beta"]


def test_both_ends_end_together(tunnels, api, far):
    doors = tunnels()
    near = through(doors, port_of(far))
    connection, _ = far.accept()
    connection.settimeout(10)
    near.close()
    assert connection.recv(1) == b""
    connection.close()
    with through(doors, port_of(far)) as near:
        far.accept()[0].close()
        assert near.recv(1) == b""


def test_a_refusal_closes_the_near_end_and_is_told(tunnels, far):
    doors = tunnels()
    port = port_of(far)
    far.close()
    with through(doors, port) as near:
        assert near.recv(1) == b""
    assert doors.last_problem(EAST, "localhost", port) == "Connection refused"


def test_an_exec_that_is_refused_closes_the_near_end_and_is_told(tunnels, api):
    api.exec_status = 500
    doors = tunnels()
    with through(doors, 1) as near:
        assert near.recv(1) == b""
    assert "exec is not possible" in doors.last_problem(EAST, "localhost", 1)


def test_a_region_without_probes_is_told(tunnels):
    doors = tunnels(pods=())
    with through(doors, 1) as near:
        assert near.recv(1) == b""
    assert doors.last_problem(EAST, "localhost", 1) == f"no probe pod runs in {EAST}"


def test_closing_ends_every_connection_and_every_relay(tunnels, api, far):
    doors = tunnels()
    with through(doors, port_of(far)) as near, far.accept()[0] as connection:
        connection.settimeout(10)
        doors.close()
        assert near.recv(1) == b""
        assert connection.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(near.getpeername(), 5)


def test_an_address_of_the_environment_is_the_door_itself(tunnels):
    doors = tunnels(addresses=((EAST, "127.0.0.9", 30257),))
    assert doors.door(EAST, "cockroachdb-0.cockroachdb.us-east-1", 26257) == ("127.0.0.9", 30257)
    assert doors.door(EAST, "cockroachdb-0.cockroachdb.us-east-1", 8080)[0] == "127.0.0.1"
