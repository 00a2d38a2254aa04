"""Pods with the labels of roles, in a lab whose policy says what the plan means: what is done, and once it is away."""

import pytest

from analysis.facts import Party, ProbeOutcome
from fixtures.policy_lift import lift_policies
from probes import deploy, preflight
from probes.mesh import Mesh
from probes.observers import observe
from provision.environment_file import load_environment
from provision.provider import NoProgress, provider_for


@pytest.fixture(scope="module")
def placed(lab):
    """The lab as the suites reach it, with its probe pods."""
    environment = load_environment(lab.folder.environment)
    fleet = provider_for(environment).up(environment, folder=lab.folder.path, progress=NoProgress())
    mesh = Mesh(fleet, "policy")
    preflight.check(mesh)
    probe_set = deploy.deploy(mesh)
    yield mesh, probe_set
    deploy.remove(mesh, probe_set)
    mesh.close()


@pytest.fixture(scope="module")
def enforcement(placed):
    return observe("enforcement", *placed)


def test_what_must_pass_does_and_whatever_has_controls_does_not(enforcement):
    assert {gap.parts for gap in enforcement.gaps} <= {("sctp",), ("node-ports",)}
    stopped = [trial for trial in enforcement.trials if trial.control is not None]
    assert {trial.outcome for trial in stopped} == {ProbeOutcome.DROPPED}
    assert {trial.control for trial in stopped} == {True}
    assert True not in {trial.heard for trial in stopped}
    passing = [trial for trial in enforcement.trials if trial.control is None]
    assert {trial.outcome for trial in passing} <= {ProbeOutcome.OPEN, ProbeOutcome.REFUSED}


def test_every_listener_behind_a_closed_door_was_alive(enforcement):
    ours = [one for one in enforcement.participants if one.party in (Party.ROLE, Party.STRANGER)]
    assert all(one.healthy and one.listening for one in ours)


def test_a_sweep_reaches_what_is_open_and_nothing_else(enforcement):
    tcp = [swept for swept in enforcement.sweeps if swept.protocol == "TCP"]
    assert {swept.reached for swept in tcp} == {(8080, 26257)}
    assert all(not swept.reached for swept in enforcement.sweeps if swept.protocol == "UDP")


def test_what_policy_says_is_all_read_and_taken_again_by_the_api(placed):
    said = observe("policies", *placed)
    assert not said.gaps
    assert {one.region for one in said.objects if one.kind == "GlobalNetworkPolicy"} == set(placed[0].regions)
    assert {(admission.accepted, admission.dropped) for admission in said.admissions} == {(True, ())}
    assert {known.in_sync for known in said.knowledge} == {True}


def test_without_the_policies_all_passes_and_once_they_are_back_it_is_as_before(placed):
    mesh, probe_set = placed
    lift = lift_policies(mesh, probe_set, mesh.fleet, observe("policies", mesh, probe_set))
    assert {region for region, _, _ in lift.removed} == set(mesh.regions)
    assert {trial.outcome for trial in lift.without} == {ProbeOutcome.OPEN}
    again = {(trial.control is None, trial.outcome) for trial in lift.again}
    assert again == {(True, ProbeOutcome.OPEN), (False, ProbeOutcome.DROPPED)}
    back = observe("policies", mesh, probe_set)
    assert {(one.region, one.name) for one in back.objects} >= {(region, name) for region, _, name in lift.removed}


def test_nobody_is_left_behind(placed):
    mesh, _ = placed
    for region in mesh.regions:
        labels = f"{deploy.ROLE}=policy"
        pods = mesh.cluster(region).items(f"/api/v1/namespaces/{mesh.fleet.probe_namespace}/pods", labelSelector=labels)
        assert all(pod["metadata"].get("deletionTimestamp") for pod in pods)
