"""The lab as a provider: one of its own for a run, or one that runs already."""

import subprocess
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Network

import pytest

from analysis.fleet import Capability, Stand
from provision.environment import lab_environment
from provision.environment_file import load_environment
from provision.errors import ProvisionError
from provision.lab import state
from provision.lab.cloud import security_group
from provision.lab.paths import LabFolder
from provision.lab.stages import Stage
from provision.lab.topology import aws_calico
from provision.provider import NoProgress, provider_for

DELETE_FIRST_RULE = (
    "nft delete rule bridge vpc mesh-nodes handle "
    "$(nft -a list chain bridge vpc mesh-nodes | sed -n 's/.*debug.*handle //p')"
)


def sorted_sources(group):
    """The kernel has sources in an order of its own."""
    return replace(group, rules=tuple(replace(rule, sources=tuple(sorted(rule.sources))) for rule in group.rules))


@pytest.fixture
def attached(lab):
    """The fleet of the shared lab, found by the environment file that it wrote."""
    environment = load_environment(lab.folder.environment)
    return provider_for(environment).up(environment, folder=lab.folder.path, progress=NoProgress())


def test_a_lab_of_ones_own_comes_up_and_goes_leaving_its_logs(home, tmp_path):
    environment = lab_environment("aws-calico", regions=2, nodes=1)
    provider = provider_for(environment)

    fleet = provider.up(environment, folder=tmp_path, progress=NoProgress())
    lab = state.read_lab(LabFolder(tmp_path))
    try:
        provider.wait_ready(fleet, timedelta(seconds=60))
        assert lab.stage == Stage.READY.value
    finally:
        provider.down(fleet)
        provider.down(fleet)

    assert not lab.state.process.alive
    assert [left.name for left in tmp_path.iterdir()] == ["logs"]


def test_a_named_lab_is_found_by_the_file_it_wrote_and_stays_up(lab, attached, monkeypatch):
    provider = provider_for(load_environment(lab.folder.environment))
    provider.wait_ready(attached, timedelta(seconds=60))
    monkeypatch.setattr("provision.providers.lab.ends_with_this_process", lambda _lab: False)  # as in another process
    provider.down(attached)

    assert lab.state.process.alive
    assert {handle.region for handle in attached.clusters} == {"us-east-1", "us-east-2"}
    assert {handle.kubeconfig for handle in attached.clusters} == {str(lab.folder.verifier_kubeconfig)}
    assert Capability.DISRUPTION in attached.capabilities
    assert any("BIRD 2." in text for _, text in attached.stand_ins)


def test_networks_are_what_the_routers_say_now(lab, attached, at):
    provider = provider_for(load_environment(lab.folder.environment))
    planned = provider.networks(attached)
    at("us-east-1/vpc", "ip", "address", "add", "10.0.9.1/24", "dev", "subnet")
    try:
        changed = provider.networks(attached)
    finally:
        at("us-east-1/vpc", "ip", "address", "delete", "10.0.9.1/24", "dev", "subnet")

    assert planned.gaps == ()
    assert [network.cidr for network in planned.networks] == [IPv4Network("10.0.0.0/16"), IPv4Network("10.1.0.0/16")]
    assert planned.networks[0].subnets == (IPv4Network("10.0.1.0/24"),)
    assert changed.networks[0].subnets == (IPv4Network("10.0.1.0/24"), IPv4Network("10.0.9.0/24"))


@pytest.fixture
def networks(lab, attached):
    """What the cloud says now."""
    provider = provider_for(load_environment(lab.folder.environment))
    return lambda: provider.networks(attached)


def test_the_cloud_is_as_it_was_built(networks):
    found, lab = networks(), aws_calico("drawn", regions=2, nodes=2)

    assert [(set(group.rules), group.region) for group in map(sorted_sources, found.security_groups)] == [
        (set(sorted_sources(security_group(lab, region)).rules), region.name) for region in lab.regions
    ]
    assert [(each.node, each.address, each.public_address, each.groups) for each in found.instances] == [
        (node.name, node.address, node.public_address, ("mesh-nodes",)) for node in lab.nodes
    ]
    assert [(end.region, end.peer_region, end.state) for end in found.peerings] == [
        ("us-east-1", "us-east-2", "active"),
        ("us-east-2", "us-east-1", "active"),
    ]


def test_a_rule_made_by_hand_is_a_fact(networks, at):
    opened = ("tcp", "dport", "26257", "accept", "comment", "debug")
    at("us-east-1/vpc", "nft", "insert", "rule", "bridge", "vpc", "mesh-nodes", *opened)
    try:
        changed = networks()
    finally:
        at("us-east-1/vpc", "sh", "-c", DELETE_FIRST_RULE)

    assert [(rule.name, rule.ports, rule.sources) for rule in changed.security_groups[0].rules[:1]] == [
        ("debug", (26257, 26257), (IPv4Network("0.0.0.0/0"),))
    ]
    assert networks().security_groups[0].rules[0].name == "ssh"


def test_an_instance_without_address_check_forwards_for_others(networks, at):
    at("us-east-1/vpc", "nft", "delete", "element", "bridge", "vpc", "checked", "{ node-2 }")
    try:
        changed = networks()
    finally:
        at("us-east-1/vpc", "nft", "add", "element", "bridge", "vpc", "checked", "{ node-2 }")

    assert [each.node for each in changed.instances if each.forwards_foreign] == ["us-east-1-node-2"]


def test_outposts_lead_to_where_they_say(attached):
    for outpost in attached.outposts:
        done = subprocess.run([*outpost.command, "ip", "-br", "-4", "address"], capture_output=True, text=True)
        assert str(outpost.address or "169.254.") in done.stdout

    assert Counter(outpost.stand for outpost in attached.outposts) == {
        Stand.OPERATOR: 1,
        Stand.INTERNET: 1,
        Stand.ROUTER: 2,
        Stand.NODE: 4,
    }


def test_a_plan_that_no_lab_has_is_refused(home, tmp_path):
    environment = lab_environment("aws-calico", regions=2)
    elsewhere = environment.regions[0].model_copy(update={"as_number": 65000})
    changed = environment.model_copy(update={"regions": (elsewhere, *environment.regions[1:])})

    with pytest.raises(ProvisionError, match="follow from the number of regions and nodes"):
        provider_for(changed).up(changed, folder=tmp_path, progress=NoProgress())


def test_a_name_that_no_lab_has_is_refused_with_those_there_are(lab, tmp_path):
    environment = load_environment(lab.folder.environment)
    other = environment.model_copy(update={"provider": environment.provider.model_copy(update={"name": "nobody"})})

    with pytest.raises(ProvisionError, match="no lab of that name") as refusal:
        provider_for(other).up(other, folder=tmp_path, progress=NoProgress())
    assert lab.state.name in str(refusal.value)


def test_the_files_of_a_lab_are_their_owners_alone(lab):
    secrets = [lab.folder.admin_kubeconfig, lab.folder.verifier_kubeconfig, *lab.folder.pki.rglob("*-key.pem")]

    assert lab.folder.path.stat().st_mode & 0o077 == 0
    assert [file for file in secrets if file.stat().st_mode & 0o077] == []


def test_nothing_of_a_lab_shows_a_secret_on_a_command_line(lab):
    tokens = {
        word for file in lab.folder.pki.rglob("tokens.json") for word in file.read_text().split('"') if len(word) > 40
    }
    assert tokens
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout

    assert [token for token in tokens if token in shown] == []
