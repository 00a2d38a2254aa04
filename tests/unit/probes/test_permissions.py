"""What the probes ask for is what docs/rbac.yaml grants, no more and no less."""

from itertools import product
from pathlib import Path

import yaml

from probes.permissions import cluster_rules, probe_rules, routing_rules

RBAC = Path(__file__).parents[3] / "docs" / "rbac.yaml"
ROLES = ("meshproof-verifier", "meshproof-prober", "meshproof-routing-reader")


def test_the_shipped_roles_grant_exactly_what_is_needed():
    granted = set()
    for found in yaml.safe_load_all(RBAC.read_text()):
        if found["kind"] in ("Role", "ClusterRole") and found["metadata"]["name"] in ROLES:
            namespace = found["metadata"].get("namespace")
            for rule in found["rules"]:
                for verb, group, resource in product(rule["verbs"], rule["apiGroups"], rule["resources"]):
                    granted.add((verb, group, resource, namespace))
    rules = [*cluster_rules(), *probe_rules("meshproof"), *routing_rules("calico-system")]
    assert granted == {(rule.verb, rule.group, rule.resource, rule.namespace) for rule in rules}


def test_no_role_reads_secrets_or_writes_outside_the_probe_namespace():
    for rule in [*cluster_rules(), *probe_rules("meshproof"), *routing_rules("calico-system")]:
        assert rule.resource != "secrets"
        assert rule.verb in ("get", "list") or rule.namespace or rule.resource == "selfsubjectaccessreviews"


def test_a_rule_reads_like_a_question_to_kubectl():
    (rule,) = [rule for rule in cluster_rules() if rule.resource == "ippools" and rule.group.startswith("crd")]
    assert str(rule) == "list ippools.crd.projectcalico.org in the whole cluster"
