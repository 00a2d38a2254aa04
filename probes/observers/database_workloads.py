"""The family "workloads": what the clusters' APIs hold of the database.

Every kind of object is listed on its own, so that a right that is missing for one leaves the others to be judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from analysis.facts import (
    Binding,
    DatabasePod,
    DisruptionBudget,
    Gap,
    StatefulSet,
    StorageClass,
    Subject,
    VolumeClaim,
    Workloads,
)
from analysis.plan import DatabasePlan
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.database_members import is_member
from probes.observers.database_rooms import CPU, MEMORY, read_rooms, requested, whole
from probes.observers.dns import is_ready

RBAC = "/apis/rbac.authorization.k8s.io/v1"
DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
DEFAULT_GRACE_S = 30.0
"""What Kubernetes gives a pod that names no time to end."""


def observe_database_workloads(mesh: Mesh, probe_set: ProbeSet) -> Workloads:
    """List them in every cluster, all kinds at once."""
    plan = mesh.fleet.plan
    database = plan.database or DatabasePlan()
    names = sorted({database.namespace(region.name) for region in plan.regions})
    readers: dict[tuple[str, ...], Callable[[Cluster], Workloads]] = {
        ("stateful_sets", "service_accounts"): lambda cluster: read_stateful_sets(cluster, database),
        ("pods",): lambda cluster: Workloads(pods=read_pods(cluster, database)),
        ("rooms",): lambda cluster: Workloads(rooms=read_rooms(cluster, database)),
        ("claims",): lambda cluster: read_claims(cluster, database),
        ("storage_classes",): read_storage_classes,
        ("budgets",): lambda cluster: read_budgets(cluster, database),
        ("bindings",): lambda cluster: read_bindings(cluster, database),
        ("namespaces",): lambda cluster: read_namespaces(cluster, names),
    }
    tasks = [(region, parts) for region in mesh.regions for parts in readers]
    told = mesh.each(tasks, lambda task: task[0], lambda cluster, task: readers[task[1]](cluster))
    gaps = [
        Gap(region, f"{' and '.join(parts)} of the database".replace("_", " "), str(read), parts)
        for (region, parts), read in told
        if isinstance(read, ProbeError)
    ]
    return joined([*(read for _, read in told if isinstance(read, Workloads)), Workloads(gaps=tuple(gaps))])


def joined(parts: Iterable[Workloads]) -> Workloads:
    """All that the parts hold, as one."""
    every = list(parts)
    return Workloads(
        **{f.name: tuple(item for part in every for item in getattr(part, f.name)) for f in fields(Workloads)}
    )


def read_stateful_sets(cluster: Cluster, database: DatabasePlan) -> Workloads:
    """The database's StatefulSet, and the account that its pods run as. Raises ApiError."""
    namespace, region = database.namespace(cluster.region), cluster.region
    listed = cluster.items(f"/apis/apps/v1/namespaces/{namespace}/statefulsets")
    own = [found for found in listed if found["metadata"]["name"] == database.service]
    accounts = [found["spec"]["template"]["spec"].get("serviceAccountName") or "default" for found in own]
    return Workloads(
        stateful_sets=tuple(read_stateful_set(region, found) for found in own),
        service_accounts=tuple((region, account) for account in accounts),
    )


def read_stateful_set(region: str, found: KubeObject) -> StatefulSet:
    """A StatefulSet with what its database container runs."""
    metadata, spec = found["metadata"], found["spec"]
    template = spec["template"]["spec"]
    container = database_container(template["containers"], metadata["name"])
    claims = spec.get("volumeClaimTemplates") or []
    return StatefulSet(
        region,
        metadata["namespace"],
        metadata["name"],
        wanted=spec.get("replicas", 1),
        ready=(found.get("status") or {}).get("readyReplicas", 0),
        image=container["image"],
        command=(*(container.get("command") or ()), *(container.get("args") or ())),
        service=spec.get("serviceName") or "",
        grace=float(template.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)),
        storage=tuple((claim["metadata"]["name"], _requested_storage(claim) or 0) for claim in claims),
    )


def database_container(containers: Iterable[KubeObject], name: str) -> KubeObject:
    """The container that is named like its StatefulSet, as in the published manifests; else the first."""
    listed = list(containers)
    return next((container for container in listed if container["name"] == name), listed[0])


# --- pods ---------------------------------------------------------------------------------------------------------


def read_pods(cluster: Cluster, database: DatabasePlan) -> tuple[DatabasePod, ...]:
    """The database's pods, by their number. Raises ApiError."""
    pods = [pod for pod in _own_pods(cluster, database) if is_member(pod, database, cluster.region)]
    pods.sort(key=lambda pod: int(pod["metadata"]["name"].rpartition("-")[2]))
    return tuple(read_pod(cluster.region, pod, database) for pod in pods)


def read_pod(region: str, pod: KubeObject, database: DatabasePlan) -> DatabasePod:
    """A database pod; restarts and start are those of its database container."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    container = database_container(spec["containers"], database.service)
    states = {state["name"]: state for state in status.get("containerStatuses") or []}
    state = states.get(container["name"]) or {}
    running = (state.get("state") or {}).get("running") or {}
    requests = requested(pod)
    return DatabasePod(
        region,
        metadata["namespace"],
        metadata["name"],
        uid=metadata["uid"],
        node=spec.get("nodeName") or "",
        phase=status.get("phase") or "",
        ready=is_ready(pod),
        restarts=state.get("restartCount", 0),
        image=container["image"],
        started=running.get("startedAt") or "",
        cpu=requests.get(CPU),
        memory=requests.get(MEMORY),
    )


# --- volumes, budgets, rights, namespaces -------------------------------------------------------------------------


def read_claims(cluster: Cluster, database: DatabasePlan) -> Workloads:
    """The volume claims of the database's pods. Raises ApiError."""
    namespace = database.namespace(cluster.region)
    listed = cluster.items(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")
    return Workloads(claims=tuple(read_claim(cluster.region, found) for found in listed if _of_member(found, database)))


def _of_member(claim: KubeObject, database: DatabasePlan) -> bool:
    """Whether it is made from a template of the StatefulSet: TEMPLATE-POD."""
    stem, _, ordinal = claim["metadata"]["name"].rpartition("-")
    return bool(stem.endswith(f"-{database.service}") and ordinal.isdigit())


def read_claim(region: str, found: KubeObject) -> VolumeClaim:
    """A PersistentVolumeClaim."""
    status, spec = found.get("status") or {}, found["spec"]
    size = (status.get("capacity") or {}).get("storage")
    return VolumeClaim(
        region,
        found["metadata"]["namespace"],
        found["metadata"]["name"],
        phase=status.get("phase") or "Pending",
        wanted=_requested_storage(found),
        size=None if size is None else whole(size),
        storage_class=spec.get("storageClassName") or "",
    )


def read_storage_classes(cluster: Cluster) -> Workloads:
    """The cluster's StorageClasses. Raises ApiError."""
    return Workloads(
        storage_classes=tuple(
            StorageClass(cluster.region, found["metadata"]["name"], default=_is_default(found))
            for found in cluster.items("/apis/storage.k8s.io/v1/storageclasses")
        )
    )


def _is_default(storage_class: KubeObject) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return any(annotations.get(name) == "true" for name in DEFAULT_CLASS)


def read_budgets(cluster: Cluster, database: DatabasePlan) -> Workloads:
    """The disruption budgets of the database's namespace, with the database pods that each picks. Raises ApiError."""
    namespace = database.namespace(cluster.region)
    pods = [pod for pod in _own_pods(cluster, database) if is_member(pod, database, cluster.region)]
    listed = cluster.items(f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets")
    return Workloads(budgets=tuple(read_budget(cluster.region, found, pods) for found in listed))


def read_budget(region: str, found: KubeObject, pods: Iterable[KubeObject]) -> DisruptionBudget:
    """A PodDisruptionBudget; a selector that is empty picks every pod, and one that is missing none."""
    spec = found["spec"]
    selector = spec.get("selector")
    covers = [pod["metadata"]["name"] for pod in pods if selector is not None and selects(selector, pod)]
    limits = [str(spec[name]) if name in spec else "" for name in ("maxUnavailable", "minAvailable")]
    return DisruptionBudget(
        region, found["metadata"]["namespace"], found["metadata"]["name"], limits[0], limits[1], tuple(sorted(covers))
    )


def selects(selector: Mapping[str, Any], found: KubeObject) -> bool:
    """Whether a LabelSelector of Kubernetes picks the object."""
    labels: Mapping[str, str] = found["metadata"].get("labels") or {}
    exact = (selector.get("matchLabels") or {}).items() <= labels.items()
    return exact and all(_matches(term, labels) for term in selector.get("matchExpressions") or ())


def _matches(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = term["key"], term.get("values") or ()
    return {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[term["operator"]]


def read_bindings(cluster: Cluster, database: DatabasePlan) -> Workloads:
    """The namespace's RoleBindings, and ClusterRoleBindings that name its account in any namespace. Raises ApiError."""
    namespace = database.namespace(cluster.region)
    local = cluster.items(f"{RBAC}/namespaces/{namespace}/rolebindings")
    everywhere = [
        found
        for found in cluster.items(f"{RBAC}/clusterrolebindings")
        if any(
            subject.get("kind") == "ServiceAccount" and subject["name"] == database.service_account
            for subject in found.get("subjects") or ()
        )
    ]
    return Workloads(bindings=tuple(read_binding(cluster.region, found) for found in (*local, *everywhere)))


def read_binding(region: str, found: KubeObject) -> Binding:
    """A RoleBinding, or a ClusterRoleBinding, which is in no namespace."""
    metadata = found["metadata"]
    subjects = [
        Subject(subject.get("kind") or "", subject.get("namespace") or "", subject["name"])
        for subject in found.get("subjects") or ()
    ]
    return Binding(region, metadata.get("namespace") or "", metadata["name"], found["roleRef"]["name"], tuple(subjects))


def read_namespaces(cluster: Cluster, names: Iterable[str]) -> Workloads:
    """Which namespaces of the database, of whichever region, this cluster has. Raises ApiError."""
    there = [name for name in names if cluster.has_namespace(name)]
    return Workloads(namespaces=tuple((cluster.region, name) for name in there))


def _own_pods(cluster: Cluster, database: DatabasePlan) -> list[KubeObject]:
    return cluster.items(f"/api/v1/namespaces/{database.namespace(cluster.region)}/pods")


def _requested_storage(claim: KubeObject) -> int | None:
    wanted = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    return None if wanted is None else whole(wanted)
