"""Doors on loopback that come out in a region of a lab, and what they leave behind there."""

import socket
import ssl
from datetime import timedelta

import pytest
from tenacity import retry, stop_after_delay, wait_fixed

from probes import deploy
from probes.database.tunnel import Tunnels
from probes.mesh import Mesh
from provision.environment_file import load_environment
from provision.provider import NoProgress, provider_for

EAST, WEST = "us-east-1", "us-east-2"
API = "kubernetes.default.svc.cluster.local"
RELAYS = "import glob;print(sum(b'os._exit(1)' in open(p,'rb').read() for p in glob.glob('/proc/[0-9]*/cmdline')) - 1)"
"""Counts the relays among a pod's processes; this one has the words in its command as well."""


@pytest.fixture(scope="module")
def mesh(lab):
    environment = load_environment(lab.folder.environment)
    fleet = provider_for(environment).up(environment, folder=lab.folder.path, progress=NoProgress())
    mesh = Mesh(fleet, "tunnels")
    yield mesh
    mesh.close()


@pytest.fixture(scope="module")
def probes(mesh):
    probe_set = deploy.deploy(mesh)
    yield probe_set
    deploy.remove(mesh, probe_set)


@pytest.fixture
def tunnels(mesh, probes):
    tunnels = Tunnels(mesh, probes)
    yield tunnels
    tunnels.close()


def test_a_door_leads_to_a_name_of_its_region_and_to_whom_it_names(mesh, tunnels):
    for region in (EAST, WEST):
        trust = ssl.create_default_context(cadata=mesh.cluster(region).authorities)
        with (
            socket.create_connection(tunnels.door(region, API, 443), 20) as near,
            trust.wrap_socket(near, server_hostname=API) as secured,
        ):
            assert secured.getpeercert()
        assert tunnels.last_problem(region, API, 443) == ""


def test_a_door_crosses_regions(probes, tunnels):
    remote = next(pod for pod in probes.on_pods() if pod.region == WEST)
    door = tunnels.door(EAST, str(remote.address), remote.sink_port)
    with socket.create_connection(door, 20) as near:
        near.sendall(b"some bytes")
        near.shutdown(socket.SHUT_WR)
        near.settimeout(20)
        while near.recv(1000):
            pass
    assert tunnels.last_problem(EAST, str(remote.address), remote.sink_port) == ""


def test_a_refusal_in_the_region_is_told_here(probes, tunnels):
    own = next(pod for pod in probes.on_pods() if pod.region == EAST)
    with socket.create_connection(tunnels.door(EAST, str(own.address), 1), 20) as near:
        assert near.recv(1) == b""
    assert tunnels.last_problem(EAST, str(own.address), 1) == "Connection refused"


def test_nothing_stays_in_the_pod(mesh, probes):
    pods = [pod for pod in probes.on_pods() if pod.region == EAST]

    @retry(stop=stop_after_delay(20), wait=wait_fixed(0.2), reraise=True)
    def expect(relays):
        assert sum(count(mesh, pod) for pod in pods) == relays

    tunnels = Tunnels(mesh, probes)
    with socket.create_connection(tunnels.door(EAST, API, 443), 20):
        expect(1)
    tunnels.close()
    expect(0)


def count(mesh, pod):
    """Relays that run in that pod."""
    command = ["python3", "-c", RELAYS]
    done = mesh.cluster(pod.region).exec(pod.namespace, pod.name, command, within=timedelta(seconds=20))
    return int(done.stdout)
