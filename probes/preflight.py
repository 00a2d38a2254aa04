"""Asks every cluster, before anything is made in it, whether it allows what the probes need."""

from __future__ import annotations

from http import HTTPStatus

from analysis.fleet import Capability
from probes.calico import calico_group, calico_namespace
from probes.cluster import Cluster
from probes.errors import ApiError, MissingPermissions, ProbeError
from probes.mesh import Mesh
from probes.permissions import CALICO_GROUPS, Rule, cluster_rules, probe_rules, routing_rules

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
REMEDY = "kubectl --context CONTEXT apply -f docs/rbac.yaml"


def check(mesh: Mesh) -> None:
    """Make sure that every cluster answers, allows every rule, and has the probe namespace or lets us make it.

    Raises:
        MissingPermissions: naming, for each cluster, what is missing and what to do.
        ProbeError: a cluster does not answer, or its kubeconfig cannot be used.
    """
    problems = []
    for region, missing in mesh.each_region(lambda cluster: _missing(mesh, cluster)):
        if isinstance(missing, MissingPermissions):
            problems.append(f"{region}: {missing}")
        elif isinstance(missing, ProbeError):
            raise missing
        elif missing:
            context = mesh.fleet.cluster(region).context
            problems += [
                f"{region}: the verifier may not",
                *(f"  {rule}, needed {rule.purpose}" for rule in missing),
                f"  do        {REMEDY.replace('CONTEXT', context)}",
            ]
    if problems:
        raise MissingPermissions("\n".join(problems))


def _missing(mesh: Mesh, cluster: Cluster) -> list[Rule]:
    namespace = mesh.fleet.probe_namespace
    rules = [*cluster_rules(), *probe_rules(namespace)]
    missing = [rule for rule in rules if not _allowed(cluster, rule)]
    other_groups = set(CALICO_GROUPS) - {calico_group(cluster)}
    missing = [rule for rule in missing if rule.group not in other_groups]
    if Capability.BGP in mesh.fleet.capabilities:
        unlisted = any(rule.resource == "pods" and rule.namespace is None for rule in missing)
        where = None if unlisted else calico_namespace(cluster)
        missing += [rule for rule in routing_rules(where or "calico-system") if not _allowed(cluster, rule)]
    if not any(rule.resource == "namespaces" for rule in missing) and not _namespace_there(cluster, namespace):
        create = Rule("create", "", "namespaces", None, f"because namespace {namespace} does not exist yet")
        if not _allowed(cluster, create):
            missing.append(create)
    return missing


def _allowed(cluster: Cluster, rule: Rule) -> bool:
    resource, _, subresource = rule.resource.partition("/")
    attributes = {"verb": rule.verb, "group": rule.group, "resource": resource}
    if subresource:
        attributes["subresource"] = subresource
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
                f"(create selfsubjectaccessreviews.authorization.k8s.io): {error.reason}\n  do        {REMEDY}"
            ) from error
        raise


def _namespace_there(cluster: Cluster, namespace: str) -> bool:
    try:
        cluster.get(f"/api/v1/namespaces/{namespace}")
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return False
        raise
    return True
