"""A lab on Kubernetes' own API server: what is said of it, whose rules apply, and how it ends."""

import json
import os
import subprocess

import pytest
from kubernetes import client, config

from provision.lab import state
from provision.lab.entry import Entry, environment
from provision.lab.kube.real.assets import OPTION, VARIABLE, find_assets
from provision.lab.launcher import await_stage, launch
from provision.lab.profiles import profile_of
from provision.lab.stages import Stage, milestones
from provision.lab.topology import aws_calico
from provision.provider import NoProgress
from provision.providers.lab import stand_ins

PROFILE = profile_of(aws_calico("any"))


@pytest.fixture(scope="module")
def assets(request):
    found = find_assets(request.config.getoption(OPTION))
    if found is None:
        pytest.skip(f"needs kube-apiserver and etcd: make kube-assets gets them, {VARIABLE} or {OPTION} names them")
    return found


@pytest.fixture(scope="module")
def real(home, assets):
    """The smallest lab, on the real server."""
    topology = aws_calico(f"real-{os.getpid()}", regions=2, nodes=1)
    lab = launch(topology, state.claim(topology.name), progress=NoProgress(), kube_assets=assets)
    try:
        await_stage(lab, Stage.READY, progress=NoProgress())
        yield lab
    finally:
        state.remove(lab)


def api(kubeconfig):
    settings = client.Configuration()
    config.load_kube_config(str(kubeconfig), context="us-east-1", client_configuration=settings)
    return client.ApiClient(settings)


def test_reports_say_which_server_it_was(real, assets):
    told = dict(stand_ins(PROFILE, real.state.api_server))["kubernetes"]
    version = client.VersionApi(api(real.folder.admin_kubeconfig)).get_code().git_version
    assert told.startswith(f"kube-apiserver {version} and etcd {assets.etcd}")


def test_a_lab_of_our_own_says_so_too():
    assert "own API server" in dict(stand_ins(PROFILE, ""))["kubernetes"]


def test_the_verifier_reads_no_secret_there_either(real):
    core = client.CoreV1Api(api(real.folder.verifier_kubeconfig))
    assert core.list_node().items
    with pytest.raises(client.ApiException) as caught:
        core.list_secret_for_all_namespaces()
    assert json.loads(caught.value.body)["reason"] == "Forbidden"


def test_the_lab_ends_with_its_api_server_and_says_why(real):
    """The last test of this module: nothing is left of the lab after it."""
    kill = ["sh", "-c", "kill $(pidof -s kube-apiserver)"]
    subprocess.run(Entry(real).into_container(kill), check=True, env=environment())
    await_stage(real, Stage.FAILED, progress=NoProgress())
    assert "kube-apiserver-us-" in milestones(real.folder.stages)[-1].error
