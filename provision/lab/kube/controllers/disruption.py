"""PodDisruptionBudget: how many of its pods can be spared now. An API server evicts none before that is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.lab.kube.client import (
    POD_DISRUPTION_BUDGETS,
    ApiClient,
    Change,
    Conflict,
    KubeObject,
    NotFound,
    Reflector,
)
from provision.lab.kube.controllers.ownership import controller_of, is_active, is_ready
from provision.lab.kube.controllers.queue import Key
from provision.lab.kube.controllers.rollout import amount
from provision.lab.kube.controllers.selectors import selects


class DisruptionController:
    """Reports on every budget.

    Args:
        client: an API client.
        budgets: those that there are.
        pods: of all namespaces.
        owners: what controls pods and has replicas.
    """

    def __init__(self, client: ApiClient, budgets: Reflector, pods: Reflector, *owners: Reflector) -> None:
        self._client = client
        self._budgets = budgets
        self._pods = pods
        self._owners = owners

    def concerns(self, change: Change) -> bool:
        """Whether a change is one of a budget, or of a pod that one speaks of."""
        return change.object.get("kind") == POD_DISRUPTION_BUDGETS.kind or any(
            _covers(budget, change.object) for budget in self._budgets
        )

    async def reconcile_all(self, _key: Key) -> None:
        """Brings the status of every budget up to date."""
        for budget in self._budgets:
            meta = budget["metadata"]
            pods = [pod for pod in self._pods if _covers(budget, pod) and is_active(pod)]
            status = budget_status(budget, sum(map(is_ready, pods)), self._expected(pods))
            known = budget.get("status") or {}
            if any(known.get(key) != value for key, value in status.items()):
                try:
                    await self._client.patch_status(POD_DISRUPTION_BUDGETS, meta["name"], status, meta["namespace"])
                except (NotFound, Conflict):
                    continue

    def _expected(self, pods: Sequence[KubeObject]) -> int:
        """How many pods there ought to be: as many as their controllers want, and each that has none."""
        controllers = {owner["uid"] for pod in pods if (owner := controller_of(pod)) is not None}
        wanted: list[int] = [
            owner["spec"].get("replicas", 1)
            for owners in self._owners
            for owner in owners
            if owner["metadata"]["uid"] in controllers
        ]
        return sum(wanted) + sum(controller_of(pod) is None for pod in pods)


def budget_status(budget: Mapping[str, Any], healthy: int, expected: int) -> dict[str, Any]:
    """What a budget reports.

    Args:
        budget: with `minAvailable` or `maxUnavailable`, as a number or a share.
        healthy: Ready pods that it covers.
        expected: how many there ought to be.
    """
    spec = budget["spec"]
    if "minAvailable" in spec:
        desired = amount(spec["minAvailable"], expected, up=True)
    else:
        desired = max(expected - amount(spec.get("maxUnavailable", 0), expected, up=True), 0)
    return {
        "observedGeneration": budget["metadata"].get("generation", 1),
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": max(healthy - desired, 0) if expected else 0,
    }


def _covers(budget: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    meta = pod["metadata"]
    return meta.get("namespace") == budget["metadata"]["namespace"] and selects(
        budget["spec"].get("selector"), meta.get("labels")
    )
