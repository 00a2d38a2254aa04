"""docs/rbac.yaml in a cluster that enforces it: nothing in it is spare, and what is missing is named."""

from dataclasses import replace
from itertools import product

import pytest

from analysis.fleet import Capability
from analysis.plan import Cni
from probes import preflight
from probes.errors import MissingPermissions
from probes.mesh import Mesh
from probes.permissions import (
    CALICO_GROUPS,
    agent_rules,
    cluster_rules,
    database_disruption_rules,
    database_rules,
    disruption_rules,
    dns_disruption_rules,
    dns_rules,
    policy_rules,
    probe_rules,
    workload_cluster_rules,
    workload_rules,
)
from provision.environment_file import load_environment
from provision.lab.control import LabControl
from provision.provider import NoProgress, provider_for

REGION = "us-east-1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CALICO = Cni.CALICO_BGP
CLUSTER_RULES = cluster_rules(CALICO)
CALICO_RULES = [rule for rule in CLUSTER_RULES if rule not in cluster_rules(Cni.CILIUM_CLUSTERMESH)]
POLICY_RULES = policy_rules(CALICO, "meshproof")
POLICY_READER = [rule for rule in POLICY_RULES if rule.verb == "list" and rule.group not in CALICO_GROUPS]
ROLES = {
    f"{RBAC}/clusterroles/meshproof-verifier": [rule for rule in CLUSTER_RULES if rule not in CALICO_RULES],
    f"{RBAC}/clusterroles/meshproof-calico-reader": [
        *CALICO_RULES,
        *(rule for rule in POLICY_RULES if rule.group in CALICO_GROUPS),
    ],
    f"{RBAC}/clusterroles/meshproof-policy-reader": POLICY_READER,
    f"{RBAC}/namespaces/kube-system/roles/meshproof-dns-reader": dns_rules(),
    f"{RBAC}/namespaces/meshproof/roles/meshproof-prober": (*probe_rules("meshproof"), POLICY_RULES[-1]),
    f"{RBAC}/namespaces/calico-system/roles/meshproof-routing-reader": agent_rules(CALICO, "calico-system"),
    f"{RBAC}/namespaces/calico-system/roles/meshproof-disruptor": disruption_rules(CALICO, "calico-system"),
    f"{RBAC}/namespaces/kube-system/roles/meshproof-dns-disruptor": dns_disruption_rules(),
    f"{RBAC}/namespaces/{REGION}/roles/meshproof-database-reader": (
        *database_rules(REGION),
        *workload_rules(REGION),
    ),
    f"{RBAC}/clusterroles/meshproof-workload-reader": workload_cluster_rules(),
    f"{RBAC}/namespaces/{REGION}/roles/meshproof-database-disruptor": database_disruption_rules(REGION),
}


@pytest.fixture(scope="module")
def verifier(lab):
    """One region of the shared lab, as the suites reach it."""
    environment = load_environment(lab.folder.environment)
    fleet = provider_for(environment).up(environment, folder=lab.folder.path, progress=NoProgress())
    capabilities = fleet.capabilities | {Capability.DATABASE}
    mesh = Mesh(replace(fleet, clusters=(fleet.cluster(REGION),), capabilities=capabilities), "rights")
    yield mesh
    mesh.close()


def without(role, rule):
    """The role with everything that it grants but the one thing that the rule asks for."""
    asked = (rule.group, rule.resource, rule.verb)
    kept = [
        {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        for granted in role["rules"]
        for group, resource, verb in product(granted["apiGroups"], granted["resources"], granted["verbs"])
        if (group, resource, verb) != asked
    ]
    return role | {"rules": kept}


def test_the_shipped_roles_are_enough(verifier):
    preflight.check(verifier)


@pytest.mark.parametrize(
    ("path", "rule"),
    [(path, rule) for path, rules in ROLES.items() for rule in rules if rule.group != CALICO_GROUPS[1]],
    ids=str,
)
def test_a_rule_less_is_named_before_anything_is_made(lab, verifier, path, rule):
    control = LabControl(lab.state.name)
    role = control.get(REGION, path)
    control.replace(REGION, path, without(role, rule))
    try:
        if rule.resource == "selfsubjectaccessreviews":  # every user of a cluster may ask what is allowed to them
            preflight.check(verifier)
        else:
            with pytest.raises(MissingPermissions) as caught:
                preflight.check(verifier)
            assert str(rule) in str(caught.value)
            database = rule.namespace == REGION
            command = f"-n {REGION} apply -f docs/rbac-database.yaml" if database else "apply -f docs/rbac.yaml"
            assert f"kubectl --context {REGION} {command}" in str(caught.value)
    finally:
        control.replace(REGION, path, role)
