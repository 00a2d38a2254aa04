"""A lab for the tests that need one, and the command line to it.

With --kube-assets (or KUBEBUILDER_ASSETS) its tests run twice: on our own API server, and on Kubernetes' own.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from textwrap import dedent

import pytest
from kubernetes import client
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from analysis.facts import COCKROACHDB
from provision.lab import state
from provision.lab.host import LabUnavailableError, isolation, search_path
from provision.lab.kube.real.assets import API_SERVER, OPTION, find_assets
from provision.lab.launcher import await_stage, launch
from provision.lab.stages import Stage
from provision.lab.topology import aws_calico, azure_cilium
from provision.provider import NoProgress

PROJECT = Path(__file__).parents[2]
CONTAINED_PREAMBLE = """
import os, socket, subprocess
from provision.lab import kernel, netns
from provision.lab.container import mount_private_trees
mount_private_trees()
"""


def pytest_generate_tests(metafunc):
    if "lab" in metafunc.fixturenames:
        given = find_assets(metafunc.config.getoption(OPTION)) is not None
        metafunc.parametrize("lab", ["own", API_SERVER] if given else ["own"], indirect=True, scope="session")


@pytest.fixture
def contained(pytestconfig):
    """Run Python in a container of its own; its standard output."""
    try:
        options = isolation()
    except LabUnavailableError as reason:
        pytest.skip(str(reason))

    def run(script):
        done = subprocess.run(
            ["unshare", *options, sys.executable, "-c", CONTAINED_PREAMBLE + dedent(script)],
            cwd=pytestconfig.rootpath,
            env={"PATH": search_path()},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def provision():
    """Run `python -m provision` as a person would: `provision("list", "--json")`."""

    def run(*arguments, **options):
        return subprocess.run(
            [sys.executable, "-m", "provision", *arguments],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=90,
            **options,
        )

    return run


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder for labs that nobody else uses; skips where labs cannot run."""
    try:
        isolation()
    except LabUnavailableError as reason:
        pytest.skip(str(reason))
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("MESHPROOF_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def lab(home, request):
    """A small lab with a name, ready, with three database members in each region; it ends with this process."""
    topology = aws_calico(f"shared-{os.getpid()}", regions=2, nodes=2, engine=COCKROACHDB)
    assets = find_assets(request.config.getoption(OPTION)) if request.param == API_SERVER else None
    lab = launch(topology, state.claim(topology.name), progress=NoProgress(), kube_assets=assets)
    try:
        await_stage(lab, Stage.READY, progress=NoProgress())
        yield lab
    finally:
        state.remove(lab)


@pytest.fixture(scope="session")
def at(lab, provision):
    """Run a command at a place of the shared lab: `at("us-east-1/node-1", "ip", "route")`."""

    def run(place, *command, **options):
        return provision("exec", lab.state.name, place, "--", *command, **options)

    return run


@pytest.fixture(scope="session")
def cilium_lab(home):
    """A small lab of the other profile, ready; it ends with this process."""
    topology = azure_cilium(f"cilium-{os.getpid()}", regions=2, nodes=2)
    lab = launch(topology, state.claim(topology.name), progress=NoProgress())
    try:
        await_stage(lab, Stage.READY, progress=NoProgress())
        yield lab
    finally:
        state.remove(lab)


@pytest.fixture(scope="session")
def at_cilium(cilium_lab, provision):
    """Run a command at a place of that lab: `at_cilium("eastus/node-1", "ip", "route")`."""

    def run(place, *command, **options):
        return provision("exec", cilium_lab.state.name, place, "--", *command, **options)

    return run


@pytest.fixture(scope="session")
def ping_newcomer():
    """Ping the address of a pod while it is made, with the label `app: closed`; its address as planned, and as it is.

    `annotations` tells what gives a pod that address; `ping` runs the command where it is pinged from.
    """

    def run(api, annotations, ping):
        neighbour = api.read_namespaced_pod("demo-2-1", "default")
        address = str(ip_address(neighbour.status.pod_ip) + 40)
        spec = {
            "nodeName": neighbour.spec.node_name,
            "containers": [{"name": "pause", "image": neighbour.spec.containers[0].image}],
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
        }
        metadata = {"name": "newcomer", "labels": {"app": "closed"}, "annotations": annotations(address)}
        with ThreadPoolExecutor() as pool:
            pinging = pool.submit(ping, "ping", "-q", "-i", "0.05", "-c", "100", "-W", "1", address)
            api.create_namespaced_pod("default", {"metadata": metadata, "spec": spec})
            try:
                pinged = pinging.result()
                return address, api.read_namespaced_pod("newcomer", "default").status.pod_ip, pinged.stdout
            finally:
                api.delete_namespaced_pod("newcomer", "default")

    return run


@pytest.fixture(scope="session")
def without_daemons():
    """While it lasts, no pod of a DaemonSet runs in the cluster: it is for nodes with a label that none has."""

    @contextmanager
    def away(api_client, namespace, name, selector, deadline_s):
        daemon_sets, pods = client.AppsV1Api(api_client), client.CoreV1Api(api_client)

        def for_nodes(**labels):
            patch = {"spec": {"template": {"spec": {"nodeSelector": labels}}}}
            daemon_sets.patch_namespaced_daemon_set(name, namespace, patch)

        def running():
            return pods.list_namespaced_pod(namespace, label_selector=selector).items

        for_nodes(nowhere="yes")
        try:
            Retrying(retry=retry_if_result(bool), stop=stop_after_delay(deadline_s), wait=wait_fixed(0.1))(running)
            yield
        finally:
            for_nodes(nowhere=None)

    return away
