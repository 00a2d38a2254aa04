"""Deployment: a ReplicaSet for each revision of its template, and the way from one to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from provision.lab.kube.client import (
    DEPLOYMENTS,
    REPLICA_SETS,
    AlreadyExists,
    ApiClient,
    KubeObject,
    NotFound,
    Reflector,
)
from provision.lab.kube.controllers.ownership import controller_of, owner_reference, report, short_hash, without_nulls
from provision.lab.kube.controllers.queue import Key
from provision.lab.kube.controllers.rollout import Revision, RollingLimits, next_sizes
from provision.lab.kube.controllers.selectors import selects
from provision.lab.kube.objects import timestamp

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
DEFAULT_HISTORY = 10


class DeploymentController:
    """Makes ReplicaSets and gives them their sizes; the ReplicaSet controller does the rest."""

    def __init__(self, client: ApiClient, deployments: Reflector, sets: Reflector) -> None:
        self._client = client
        self._deployments = deployments
        self._sets = sets

    async def reconcile(self, key: Key) -> None:
        """Takes one step of a Deployment towards its template and size, and reports."""
        namespace, name = key
        deployment = self._deployments.get(name, namespace)
        if deployment is None or "deletionTimestamp" in deployment["metadata"]:
            return
        owned = sorted(await self._owned(deployment), key=_revision)
        new = next((row for row in reversed(owned) if same_template(row, deployment)), None)
        old = [row for row in owned if row is not new]
        newest = max(map(_revision, old), default=0)
        if new is None:
            new = await self._create(deployment, newest + 1)
        elif _revision(new) <= newest:  # back to an earlier template: it becomes the newest revision
            new = await self._annotate(new, newest + 1)
        if not deployment["spec"].get("paused"):
            await self._resize(deployment, new, old)
        await self._forget(deployment, old)
        await self._report(deployment, new, old)

    async def _owned(self, deployment: KubeObject) -> list[KubeObject]:
        meta = deployment["metadata"]
        owned = []
        for row in self._sets:
            if row["metadata"]["namespace"] != meta["namespace"]:
                continue
            owner = controller_of(row)
            if owner is None and selects(deployment["spec"]["selector"], row["metadata"].get("labels")):
                references = [owner_reference(DEPLOYMENTS, deployment)]
                patch = {"metadata": {"ownerReferences": references}}
                owned.append(await self._client.patch(REPLICA_SETS, row["metadata"]["name"], patch, meta["namespace"]))
            elif owner is not None and owner["uid"] == meta["uid"]:
                owned.append(row)
        return owned

    async def _create(self, deployment: KubeObject, revision: int) -> KubeObject:
        meta, spec = deployment["metadata"], deployment["spec"]
        name_hash = short_hash(spec["template"])
        template = deepcopy(spec["template"])
        template["metadata"].setdefault("labels", {})[HASH_LABEL] = name_hash
        selector = deepcopy(spec["selector"])
        selector.setdefault("matchLabels", {})[HASH_LABEL] = name_hash
        replica_set = {
            "metadata": {
                "name": f"{meta['name']}-{name_hash}",
                "namespace": meta["namespace"],
                "labels": template["metadata"]["labels"],
                "annotations": {REVISION: str(revision)},
                "ownerReferences": [owner_reference(DEPLOYMENTS, deployment)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        }
        try:
            return await self._client.create(REPLICA_SETS, replica_set)
        except AlreadyExists:  # made a moment ago, and the reflector has not shown it yet
            return await self._client.get(REPLICA_SETS, f"{meta['name']}-{name_hash}", meta["namespace"])

    async def _annotate(self, row: KubeObject, revision: int) -> KubeObject:
        meta = row["metadata"]
        patch = {"metadata": {"annotations": {REVISION: str(revision)}}}
        return await self._client.patch(REPLICA_SETS, meta["name"], patch, meta["namespace"])

    async def _resize(self, deployment: KubeObject, new: KubeObject, old: Sequence[KubeObject]) -> None:
        spec = deployment["spec"]
        replicas = spec.get("replicas", 1)
        strategy = spec.get("strategy") or {}
        if strategy.get("type") == "Recreate":
            sizes = {_name(row): 0 for row in old if _wanted(row)}
            if not any(_count(row, "replicas") for row in old) and _wanted(new) != replicas:
                sizes[_name(new)] = replicas
        else:
            limits = RollingLimits.of(strategy, replicas)
            sizes = next_sizes(_numbers(new), [_numbers(row) for row in old], replicas, limits)
        versions = {_name(row): row["metadata"]["resourceVersion"] for row in (new, *old)}
        for name, size in sizes.items():
            # With the version that the size was worked out from: on a newer one it may be wrong.
            patch = {"metadata": {"resourceVersion": versions[name]}, "spec": {"replicas": size}}
            await self._client.patch(REPLICA_SETS, name, patch, deployment["metadata"]["namespace"])

    async def _forget(self, deployment: KubeObject, old: Sequence[KubeObject]) -> None:
        limit = deployment["spec"].get("revisionHistoryLimit", DEFAULT_HISTORY)
        empty = [row for row in old if not _wanted(row) and not _count(row, "replicas")]
        for row in empty[: max(0, len(empty) - limit)]:
            try:
                await self._client.delete(REPLICA_SETS, _name(row), row["metadata"]["namespace"])
            except NotFound:
                continue

    async def _report(self, deployment: KubeObject, new: KubeObject, old: Sequence[KubeObject]) -> None:
        meta = deployment["metadata"]
        revision = (new["metadata"].get("annotations") or {}).get(REVISION)
        if revision and (meta.get("annotations") or {}).get(REVISION) != revision:
            patch = {"metadata": {"annotations": {REVISION: revision}}}
            await self._client.patch(DEPLOYMENTS, meta["name"], patch, meta["namespace"])
        await report(self._client, DEPLOYMENTS, deployment, deployment_status(deployment, new, old, datetime.now(UTC)))


def same_template(replica_set: Mapping[str, Any], deployment: Mapping[str, Any]) -> bool:
    """Whether a ReplicaSet is of the Deployment's present template; its hash label does not count."""
    theirs = without_nulls(replica_set["spec"]["template"])
    theirs.get("metadata", {}).get("labels", {}).pop(HASH_LABEL, None)
    return bool(theirs == without_nulls(deployment["spec"]["template"]))


def deployment_status(
    deployment: KubeObject, new: KubeObject, old: Sequence[KubeObject], now: datetime
) -> dict[str, Any]:
    """What a Deployment reports of itself, from what its ReplicaSets report."""
    replicas = deployment["spec"].get("replicas", 1)
    every = (new, *old)
    total, updated = sum(_count(row, "replicas") for row in every), _count(new, "replicas")
    available = sum(_count(row, "availableReplicas") for row in every)
    limits = RollingLimits.of(deployment["spec"].get("strategy") or {}, replicas)
    enough = available >= replicas - limits.unavailable
    complete = updated == total == available == replicas
    name = _name(new)
    conditions = [
        _condition(
            "Available",
            enough,
            "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            "Deployment has minimum availability." if enough else "Deployment does not have minimum availability.",
        ),
        _condition(
            "Progressing",
            True,
            "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated",
            f'ReplicaSet "{name}" has successfully progressed.' if complete else f'ReplicaSet "{name}" is progressing.',
        ),
    ]
    before = {row["type"]: row for row in (deployment.get("status") or {}).get("conditions") or ()}
    return {
        "observedGeneration": deployment["metadata"].get("generation", 1),
        "replicas": total,
        "updatedReplicas": updated,
        "readyReplicas": sum(_count(row, "readyReplicas") for row in every),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total - available),
        "conditions": [_dated(row, before.get(row["type"]), now) for row in conditions],
    }


def _condition(kind: str, holds: bool, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": message}


def _dated(condition: dict[str, Any], before: Mapping[str, Any] | None, now: datetime) -> dict[str, Any]:
    if before is not None and condition.items() <= before.items():
        return dict(before)
    moment = timestamp(now)
    same = before is not None and before["status"] == condition["status"]
    since = before["lastTransitionTime"] if before is not None and same else moment
    return condition | {"lastUpdateTime": moment, "lastTransitionTime": since}


def _revision(row: Mapping[str, Any]) -> int:
    return int((row["metadata"].get("annotations") or {}).get(REVISION, 0))


def _name(row: Mapping[str, Any]) -> str:
    name: str = row["metadata"]["name"]
    return name


def _wanted(row: Mapping[str, Any]) -> int:
    wanted: int = row["spec"].get("replicas", 1)
    return wanted


def _count(row: Mapping[str, Any], field: str) -> int:
    count: int = (row.get("status") or {}).get(field) or 0
    return count


def _numbers(row: Mapping[str, Any]) -> Revision:
    return Revision(_name(row), _wanted(row), _count(row, "availableReplicas"))
