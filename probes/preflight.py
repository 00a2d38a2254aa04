"""Asks every cluster, before anything is made in it, whether it allows what the probes need."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from analysis.fleet import Capability
from analysis.plan import Cni, DatabasePlan
from probes.calico import calico_group, calico_namespace
from probes.cluster import Cluster
from probes.errors import ApiError, MissingPermissions, ProbeError
from probes.mesh import Mesh
from probes.permissions import (
    CALICO_GROUPS,
    CILIUM_NAMESPACE,
    Rule,
    agent_rules,
    certificate_rules,
    cluster_rules,
    database_disruption_rules,
    database_rules,
    disruption_rules,
    dns_disruption_rules,
    dns_rules,
    policy_disruption_rules,
    policy_rules,
    probe_rules,
    workload_cluster_rules,
    workload_rules,
)

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
REMEDY = "kubectl --context CONTEXT apply -f docs/rbac.yaml -l 'meshproof/cni!=OTHER'"
POLICY_REMEDY = "kubectl --context CONTEXT apply -f docs/rbac-policy.yaml -l 'meshproof/cni!=OTHER'"
DATABASE_REMEDY = "kubectl --context CONTEXT -n NAMESPACE apply -f docs/rbac-database.yaml"
OTHER = {Cni.CALICO_BGP: "cilium", Cni.CILIUM_CLUSTERMESH: "calico"}
"""How the roles for the other CNI are labelled."""


def check(mesh: Mesh) -> None:
    """Make sure that every cluster answers, allows every rule, and has the probe namespace or lets us make it.

    Raises:
        MissingPermissions: naming, for each cluster, what is missing and what to do.
        ProbeError: a cluster does not answer, or its kubeconfig cannot be used.
    """
    problems = []
    for region, missing in mesh.each_region(lambda cluster: _missing(mesh, cluster)):
        if isinstance(missing, MissingPermissions):
            problems += [f"{region}: {missing}", f"  do        {_remedy(mesh, region)}"]
        elif isinstance(missing, ProbeError):
            raise missing
        elif missing:
            problems += [
                f"{region}: the verifier may not",
                *(f"  {rule}, needed {rule.purpose}" for rule in missing),
                f"  do        {_remedy(mesh, region, missing)}",
            ]
    if problems:
        raise MissingPermissions("\n".join(problems))


def _remedy(mesh: Mesh, region: str, missing: Sequence[Rule] = ()) -> str:
    """The commands that grant what is missing."""
    context, other = mesh.fleet.cluster(region).context, OTHER[mesh.fleet.plan.cni]
    namespace = _database_namespace(mesh, region)
    concerns = [rule for rule in missing if namespace is not None and rule.namespace == namespace]
    changes = [rule for rule in missing if rule in policy_disruption_rules(mesh.fleet.plan.cni)]
    few = len(concerns) + len(changes) == len(missing)
    commands = [REMEDY.replace("OTHER", other)] if not missing or not few else []
    commands += [POLICY_REMEDY.replace("OTHER", other)] if changes else []
    commands += [DATABASE_REMEDY.replace("NAMESPACE", namespace or "")] if concerns else []
    return " && ".join(commands).replace("CONTEXT", context)


def _database_namespace(mesh: Mesh, region: str) -> str | None:
    """Where database pods are to be looked at; None when there are none."""
    if Capability.DATABASE_PODS not in mesh.fleet.capabilities:
        return None
    return (mesh.fleet.plan.database or DatabasePlan()).namespace(region)


def _missing(mesh: Mesh, cluster: Cluster) -> list[Rule]:
    namespace, cni = mesh.fleet.probe_namespace, mesh.fleet.plan.cni
    rules = [*cluster_rules(cni), *dns_rules(), *probe_rules(namespace), *_rules_of_policy(mesh)]
    missing = [rule for rule in rules if not _allowed(cluster, rule)]
    if cni is Cni.CALICO_BGP:
        other_groups = set(CALICO_GROUPS) - {calico_group(cluster)}
        missing = [rule for rule in missing if rule.group not in other_groups]
    unlisted = any(rule.resource == "pods" and rule.namespace is None for rule in missing)
    where = _agents_namespace(cluster, cni, unlisted=unlisted)
    further, database = [*agent_rules(cni, where)], _database_namespace(mesh, cluster.region)
    if database is not None:
        further += database_rules(database)
    if database is not None and Capability.DATABASE in mesh.fleet.capabilities:
        further += (*workload_rules(database), *workload_cluster_rules(), *certificate_rules(database))
    if Capability.DISRUPTION in mesh.fleet.capabilities:
        further += (*disruption_rules(cni, where), *dns_disruption_rules())
        further += database_disruption_rules(database) if database is not None else ()
    missing += [rule for rule in dict.fromkeys(further) if not _allowed(cluster, rule)]
    if not any(rule.resource == "namespaces" for rule in missing) and not cluster.has_namespace(namespace):
        create = Rule("create", "", "namespaces", None, f"because namespace {namespace} does not exist yet")
        if not _allowed(cluster, create):
            missing.append(create)
    return missing


def _rules_of_policy(mesh: Mesh) -> list[Rule]:
    """What flows under policy need, where there is something said about it."""
    fleet = mesh.fleet
    if Capability.POLICY not in fleet.capabilities or fleet.plan.policy is None:
        return []
    namespace = fleet.plan.policy.namespace or fleet.probe_namespace
    disrupts = Capability.DISRUPTION in fleet.capabilities
    return [
        *policy_rules(fleet.plan.cni, namespace),
        *(probe_rules(namespace) if namespace != fleet.probe_namespace else ()),
        *(policy_disruption_rules(fleet.plan.cni) if disrupts else ()),
    ]


def _agents_namespace(cluster: Cluster, cni: Cni, *, unlisted: bool) -> str:
    """Where the CNI's agents run; `unlisted` when pods cannot be listed, so that it cannot be seen."""
    if cni is Cni.CILIUM_CLUSTERMESH:
        return CILIUM_NAMESPACE
    return (None if unlisted else calico_namespace(cluster)) or "calico-system"


def _allowed(cluster: Cluster, rule: Rule) -> bool:
    resource, _, subresource = rule.resource.partition("/")
    attributes = {"verb": rule.verb, "group": rule.group, "resource": resource}
    if subresource:
        attributes["subresource"] = subresource
    if rule.name:
        attributes["name"] = rule.name
    if rule.namespace:
        attributes["namespace"] = rule.namespace
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        return bool(cluster.create(REVIEWS, body)["status"]["allowed"])
    except ApiError as error:
        if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise MissingPermissions(
                "the verifier may not even ask what it may do "
                f"(create selfsubjectaccessreviews.authorization.k8s.io): {error.reason}"
            ) from error
        raise
