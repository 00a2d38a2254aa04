"""Outages that are made through the Kubernetes API: of any provider that may write there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import ClassVar

from analysis.facts.outage import PodEnd
from analysis.fleet import ClusterHandle, Fleet, OutageMode
from analysis.plan import DatabasePlan
from provision.outages import OutageError, OutageOrder
from provision.outages.api import Api, KubeObject, connected
from provision.outages.journaled import Course, Prepare

GONE_AFTER_GRACE = timedelta(seconds=60)
"""How much longer than its grace period a pod may take to be gone: kubelet and API server have their own pace."""

DEFAULT_GRACE_S = 30.0
"""What Kubernetes gives a pod that does not say."""


@dataclass(frozen=True)
class Replicas:
    """A StatefulSet that was scaled to zero gets back the replicas it had."""

    kind: ClassVar[str] = "replicas"

    region: str
    kubeconfig: str
    context: str
    namespace: str
    name: str
    replicas: int

    def apply(self) -> str:
        """Scale it back, unless somebody has scaled it up meanwhile. Raises OutageError."""
        what = f"{self.region}: StatefulSet {self.namespace}/{self.name}"
        with connected(ClusterHandle(self.region, self.kubeconfig, self.context)) as api:
            found = replicas_of(api, self.namespace, self.name)
            if found:
                return f"{what} has {found} replicas"
            scale(api, self.namespace, self.name, self.replicas)
        return f"{what} scaled back to {self.replicas}"


class KubernetesOutages:
    """How outages of a fleet's database pods go.

    Args:
        fleet: which clusters.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._plan = fleet.plan.database or DatabasePlan()

    @property
    def courses(self) -> dict[OutageMode, Prepare]:
        """How each mode is prepared."""
        return {
            OutageMode.PODS: self._scaled_to_zero,
            OutageMode.POD_EACH: lambda order: Course((), partial(self._first_pods_deleted, order, grace=0)),
            OutageMode.SHUTDOWN: lambda order: Course((), partial(self._first_pods_deleted, order)),
        }

    def _scaled_to_zero(self, order: OutageOrder) -> Course:
        """PODS: what is to be scaled back is read before anything is scaled."""

        def remedy(region: str) -> Replicas:
            handle, namespace, name = self._fleet.cluster(region), self._plan.namespace(region), self._plan.service
            with connected(handle) as api:
                replicas = replicas_of(api, namespace, name)
            if not replicas:
                raise OutageError(
                    "the database has no replicas there as it is",
                    where=f"{region}: StatefulSet {namespace}/{name}",
                    expected="some that can be taken away",
                    cause="an earlier outage was not healed, or somebody scaled it",
                    remedy=f"kubectl --context {handle.context} -n {namespace} scale statefulset {name} --replicas=N",
                )
            return Replicas(region, handle.kubeconfig, handle.context, namespace, name, replicas)

        remedies = tuple(map(remedy, order.regions))
        return Course(remedies, lambda: all_ends([self._empty(had) for had in remedies]))

    def _empty(self, had: Replicas) -> Leaving:
        handle = self._fleet.cluster(had.region)
        with connected(handle) as api:
            selector = selector_of(api, had.namespace, had.name)
            pods, version = listed(api, had.namespace, selector)
            told = time.monotonic()
            scale(api, had.namespace, had.name, 0)
        return Leaving(handle, had.namespace, selector, tuple(pods), version, told)

    def _first_pods_deleted(self, order: OutageOrder, *, grace: int | None = None) -> tuple[PodEnd, ...]:
        """SHUTDOWN, and with a grace period of 0 POD_EACH: the first pod of each region."""
        name = self._plan.service

        def delete(region: str) -> Leaving:
            handle, namespace = self._fleet.cluster(region), self._plan.namespace(region)
            with connected(handle) as api:
                selector = selector_of(api, namespace, name)
            return delete_pods(
                handle, namespace, selector, lambda pod: bool(pod["metadata"]["name"] == f"{name}-0"), grace=grace
            )

        found = all_ends([delete(region) for region in order.regions])
        return found if grace is None else ()


@dataclass(frozen=True)
class Leaving:
    """Pods that were told to end.

    Attributes:
        version: from which changes of them can be watched.
        told: when they were told (s, monotonic clock).
    """

    handle: ClusterHandle
    namespace: str
    selector: str
    pods: tuple[KubeObject, ...]
    version: str
    told: float


def delete_pods(
    handle: ClusterHandle, namespace: str, selector: str, chosen: Callable[[KubeObject], bool], *, grace: int | None
) -> Leaving:
    """Tell pods to end.

    Args:
        handle: of the cluster.
        namespace: theirs.
        selector: labels of theirs ("k8s-app=calico-node").
        chosen: which of those that the selector finds.
        grace: how much time they get (s); what they ask for when it is None.

    Raises:
        OutageError: there are none, or the API refuses.
    """
    with connected(handle) as api:
        pods, version = listed(api, namespace, selector)
        doomed = tuple(pod for pod in pods if chosen(pod))
        if not doomed:
            raise OutageError("no such pod is there", where=f"{handle.region}: {namespace}", expected=selector)
        told = time.monotonic()
        for pod in doomed:
            api.delete(f"{pods_of(namespace)}/{pod['metadata']['name']}", grace=grace)
    return Leaving(handle, namespace, selector, doomed, version, told)


def all_ends(leaving: Sequence[Leaving]) -> tuple[PodEnd, ...]:
    """Return when all those pods are gone; and how each ended.

    Raises:
        OutageError: one is still there long after its grace period.
    """
    # Only watched in threads: whoever is interrupted here heals at once, and no thread does harm after that.
    pool = ThreadPoolExecutor(max_workers=max(1, len(leaving)))
    try:
        return tuple(end for ends in pool.map(_ends, leaving) for end in ends)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ends(leaving: Leaving) -> list[PodEnd]:
    namespace, selector, version = leaving.namespace, leaving.selector, leaving.version
    left = {pod["metadata"]["uid"]: pod for pod in leaving.pods}
    longest = max(map(_grace, leaving.pods), default=0.0)
    deadline = leaving.told + longest + GONE_AFTER_GRACE.total_seconds()
    found: list[PodEnd] = []
    with connected(leaving.handle) as api:
        while left:
            remaining = timedelta(seconds=deadline - time.monotonic())
            if remaining <= timedelta():
                raise OutageError(
                    "pods that were told to end are still there",
                    where=f"{api.region}: {namespace}",
                    expected=f"to be gone {GONE_AFTER_GRACE.total_seconds():g} s after their grace period of "
                    f"{longest:g} s",
                    observed=", ".join(str(pod["metadata"]["name"]) for pod in left.values()),
                    cause="their node does not answer",
                )
            for kind, pod in api.changes(pods_of(namespace), version, within=remaining, labelSelector=selector):
                uid = pod["metadata"].get("uid")
                if uid in left:
                    left[uid] = pod
                    if kind == "DELETED":
                        found.append(_end(api.region, left.pop(uid), time.monotonic() - leaving.told))
                if not left:
                    break
            else:  # the server ended the watch: what it did not tell, a new list does
                there, version = listed(api, namespace, selector)
                for uid in left.keys() - {pod["metadata"]["uid"] for pod in there}:
                    found.append(_end(api.region, left.pop(uid), None))
    return found


def replicas_of(api: Api, namespace: str, name: str) -> int:
    """How many pods the StatefulSet is to have. Raises OutageError."""
    return int(api.get(_scale_of(namespace, name))["spec"].get("replicas", 0))


def scale(api: Api, namespace: str, name: str, replicas: int) -> None:
    """Let the StatefulSet have so many, and see that the API says so.

    Raises:
        OutageError: the API refused, or says something else.
    """
    path = _scale_of(namespace, name)
    api.put(path, {**api.get(path), "spec": {"replicas": replicas}})
    found = replicas_of(api, namespace, name)
    if found != replicas:
        raise OutageError(
            "somebody else scales this StatefulSet",
            where=f"{api.region}: {namespace}/{name}",
            expected=f"{replicas} replicas, as was written a moment ago",
            observed=f"{found}",
            cause="an operator or autoscaler that owns it",
        )


def selector_of(api: Api, namespace: str, name: str) -> str:
    """The labels of the StatefulSet's pods, as a selector. Raises OutageError."""
    return str(api.get(_scale_of(namespace, name))["status"]["selector"])


def listed(api: Api, namespace: str, selector: str) -> tuple[list[KubeObject], str]:
    """The pods with those labels, and the version that changes can be watched from. Raises OutageError."""
    found = api.get(pods_of(namespace), labelSelector=selector)
    return found["items"], str(found["metadata"]["resourceVersion"])


def pods_of(namespace: str) -> str:
    """The path of a namespace's pods."""
    return f"/api/v1/namespaces/{namespace}/pods"


def _scale_of(namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}/scale"


def _end(region: str, pod: KubeObject, seconds: float | None) -> PodEnd:
    """How the pod's database container ended, which is its first, as its status told last."""
    name = pod["spec"]["containers"][0]["name"]
    states = {each["name"]: each for each in pod.get("status", {}).get("containerStatuses") or ()}
    terminated = states.get(name, {}).get("state", {}).get("terminated") or {}
    return PodEnd(region, pod["metadata"]["name"], seconds, terminated.get("exitCode"), _grace(pod))


def _grace(pod: KubeObject) -> float:
    return float(pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_S))
