"""What the probes ask for is what docs/rbac.yaml grants, no more and no less."""

from itertools import product
from pathlib import Path

import pytest
import yaml

from analysis.plan import Cni
from probes.permissions import (
    agent_rules,
    certificate_rules,
    cluster_rules,
    database_disruption_rules,
    database_rules,
    disruption_rules,
    dns_disruption_rules,
    dns_rules,
    policy_admission_rules,
    policy_disruption_rules,
    policy_entrance_rules,
    policy_rules,
    probe_rules,
    workload_cluster_rules,
    workload_rules,
)

RBAC = Path(__file__).parents[3] / "docs" / "rbac.yaml"
AGENTS = {Cni.CALICO_BGP: "calico-system", Cni.CILIUM_CLUSTERMESH: "kube-system"}
POLICY_RBAC = RBAC.with_name("rbac-policy.yaml")
DATABASE_RBAC = RBAC.with_name("rbac-database.yaml")
LABELS = {Cni.CALICO_BGP: "calico", Cni.CILIUM_CLUSTERMESH: "cilium"}


def rules_of(cni):
    where = AGENTS[cni]
    return [
        *cluster_rules(cni),
        *dns_rules(),
        *probe_rules("meshproof"),
        *policy_rules(cni, "meshproof"),
        *agent_rules(cni, where),
        *disruption_rules(cni, where),
        *dns_disruption_rules(),
        *database_rules("us-east-1"),
        *workload_rules("us-east-1"),
        *workload_cluster_rules(),
        *certificate_rules("us-east-1"),
        *database_disruption_rules("us-east-1"),
    ]


def changes_of(cni):
    return [*policy_admission_rules(cni), *policy_disruption_rules(cni)]


def shipped(cni):
    """The objects that the commands in the heads of the files apply, one of them in the database's namespace."""
    for found in yaml.safe_load_all(DATABASE_RBAC.read_text()):
        yield found | {"metadata": found["metadata"] | {"namespace": "us-east-1"}}
    for found in (*yaml.safe_load_all(RBAC.read_text()), *yaml.safe_load_all(POLICY_RBAC.read_text())):
        if found["metadata"].get("labels", {}).get("meshproof/cni", LABELS[cni]) == LABELS[cni]:
            yield found


@pytest.mark.parametrize("cni", Cni)
def test_the_shipped_roles_grant_exactly_what_is_needed(cni):
    granted = set()
    for found in shipped(cni):
        if found["kind"] in ("Role", "ClusterRole"):
            namespace = found["metadata"].get("namespace")
            for rule in found["rules"]:
                names = rule.get("resourceNames", [None])
                for parts in product(rule["verbs"], rule["apiGroups"], rule["resources"], names):
                    granted.add((*parts, namespace))
    needed = [*rules_of(cni), *policy_entrance_rules("meshproof"), *changes_of(cni)]
    assert granted == {(rule.verb, rule.group, rule.resource, rule.name, rule.namespace) for rule in needed}


@pytest.mark.parametrize("cni", Cni)
def test_every_role_is_bound_to_the_verifier(cni):
    def places(*kinds):
        objects = [found for found in shipped(cni) if found["kind"] in kinds]
        return {(found["metadata"]["name"], found["metadata"].get("namespace")) for found in objects}

    assert places("Role", "ClusterRole") == places("RoleBinding", "ClusterRoleBinding")


@pytest.mark.parametrize("cni", Cni)
def test_no_role_reads_others_secrets_or_writes_in_the_whole_cluster(cni):
    for rule in rules_of(cni):
        assert rule.resource != "secrets" or rule.namespace == "us-east-1"
        assert rule.verb in ("get", "list") or rule.namespace or rule.group == "authorization.k8s.io"


@pytest.mark.parametrize("cni", Cni)
def test_policies_are_all_that_is_changed_in_the_whole_cluster(cni):
    for rule in changes_of(cni):
        assert rule.resource.endswith(("policies", "networksets"))


def test_a_rule_reads_like_a_question_to_kubectl():
    rules = [*cluster_rules(Cni.CALICO_BGP), *dns_rules()]
    told = [str(rule) for rule in rules]
    assert "list ippools.crd.projectcalico.org in the whole cluster" in told
    assert "get configmaps/coredns in namespace kube-system" in told
