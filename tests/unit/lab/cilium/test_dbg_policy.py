"""`cilium-dbg policy get` and what `endpoint list` says of policy."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from provision.lab.cilium.dbg.command import render_list
from provision.lab.cilium.dbg.commandline import parse
from provision.lab.cilium.state import PolicyEntry
from tests.unit.lab.cilium.agent_world import VERSIONS, agent_state

SPEC = {
    "endpointSelector": {"matchLabels": {"app": "db"}},
    "ingress": [{"fromEndpoints": [{"matchLabels": {"k8s:a": "b"}}]}],
}
POLICY = PolicyEntry("cnp", "shop", "closed", "7f", (SPEC,))


@pytest.mark.parametrize("version", VERSIONS)
def test_policies_are_told_with_where_their_labels_come_from_and_what_they_are_derived_from(version):
    told = render_list(
        replace(agent_state(version), policies=(POLICY,), policy_revision=7), parse(["policy", "get"])
    ).out
    rules, _, revision = told.rpartition("Revision: ")
    (rule,) = json.loads(rules)
    assert revision == "7\n"
    assert rule["endpointSelector"]["matchLabels"] == {"any:app": "db", "k8s:io.kubernetes.pod.namespace": "shop"}
    assert rule["ingress"] == SPEC["ingress"]
    assert {label["value"] for label in rule["labels"]} == {"CiliumNetworkPolicy", "closed", "shop", "7f"}


def test_as_json_the_rules_are_a_text():
    told = json.loads(
        render_list(replace(agent_state(), policies=(POLICY,)), parse(["policy", "get", "-o", "json"])).out
    )
    assert json.loads(told["policy"])[0]["endpointSelector"]
    assert told["revision"] == 1


def test_endpoints_say_in_which_directions_policy_is_enforced_on_them():
    before = agent_state()
    policed = replace(before, endpoints=(replace(before.endpoints[0], policed=(True, False)),))
    told, *_ = json.loads(render_list(policed, parse(["endpoint", "list", "-o", "json"])).out)
    assert told["status"]["policy"]["realized"]["policy-enabled"] == "ingress"
    assert "Enabled" in render_list(policed, parse(["endpoint", "list"])).out
