"""The Tigera operator of one cluster, as far as it tells how Calico fares: its TigeraStatus follows the workloads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from provision.lab.calico.control_plane import CALICO_NODE, KUBE_CONTROLLERS, NAMESPACE, TIGERA_STATUSES, TYPHA
from provision.lab.kube.client import DAEMON_SETS, DEPLOYMENTS, ApiClient, ApiError, KubeObject, Reflector, synced
from provision.lab.kube.objects import timestamp

log = logging.getLogger(__name__)

STATUS = "calico"
RETRY_S = 1.0
_REQUIRED = (("DaemonSet", CALICO_NODE), ("Deployment", TYPHA), ("Deployment", KUBE_CONTROLLERS))


@dataclass(frozen=True)
class Health:
    """What the workloads come to: words about those that are not there, and about those that are not ready."""

    missing: tuple[str, ...]
    unready: tuple[str, ...]

    @property
    def conditions(self) -> list[dict[str, str]]:
        """The conditions of a TigeraStatus, without their times."""
        waiting, lost = "; ".join(self.unready), "; ".join(self.missing)
        well = not waiting and not lost
        return [
            _condition("Available", well, "AllObjectsAvailable", "All objects available", "ResourceNotReady"),
            _condition("Progressing", bool(waiting), "ResourceNotReady", waiting, "AllObjectsAvailable"),
            _condition("Degraded", bool(lost), "ResourceMissing", lost, "AllObjectsAvailable"),
        ]


def health(workloads: Iterable[KubeObject]) -> Health:
    """How the workloads that Calico needs are."""
    found = {(workload["kind"], workload["metadata"]["name"]): workload for workload in workloads}
    missing = tuple(f'{kind} "{NAMESPACE}/{name}" is missing' for kind, name in _REQUIRED if (kind, name) not in found)
    unready = tuple(
        f'{kind} "{NAMESPACE}/{name}" is not available (awaiting {waiting} of {wanted})'
        for kind, name in _REQUIRED
        for workload in filter(None, [found.get((kind, name))])
        for wanted, waiting in [_awaited(workload)]
        if waiting or not wanted
    )
    return Health(missing, unready)


def _awaited(workload: KubeObject) -> tuple[int, int]:
    """How many pods there should be, and how many of them are not ready or of an older generation."""
    status = workload.get("status") or {}
    if workload["kind"] == "DaemonSet":
        wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
        updated = status.get("updatedNumberScheduled", wanted)
    else:
        wanted = workload["spec"].get("replicas", 1)
        ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
    return wanted, wanted - min(ready, updated, wanted)


def _condition(kind: str, holds: bool, reason: str, message: str, otherwise: str) -> dict[str, str]:
    if holds:
        return {"type": kind, "status": "True", "reason": reason, "message": message}
    return {"type": kind, "status": "False", "reason": otherwise, "message": ""}


class Operator:
    """Keeps TigeraStatus/calico of one cluster true.

    Args:
        client: talks to the cluster, as the operator.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._workloads = tuple(Reflector(client, kind, namespace=NAMESPACE) for kind in (DAEMON_SETS, DEPLOYMENTS))
        self._statuses = Reflector(client, TIGERA_STATUSES)

    async def run(self) -> None:
        """Run until cancelled."""
        changed = asyncio.Event()
        reflectors = (*self._workloads, self._statuses)
        for reflector in reflectors:
            reflector.add_handler(lambda _change: changed.set())
        async with asyncio.TaskGroup() as tasks:
            for reflector in reflectors:
                tasks.create_task(reflector.run())
            await synced(*reflectors)
            while True:
                changed.clear()
                try:
                    await self._tell()
                except ApiError as error:
                    log.debug("TigeraStatus/%s: trying again: %s", STATUS, error)
                    await asyncio.sleep(RETRY_S)
                    continue
                await changed.wait()

    async def _tell(self) -> None:
        """Write the status unless it says so already."""
        status = self._statuses.get(STATUS)
        if status is None:
            await self._client.create(TIGERA_STATUSES, {"metadata": {"name": STATUS}, "spec": {}})
        told = {each["type"]: each for each in ((status or {}).get("status") or {}).get("conditions", ())}
        conditions = health(each for workloads in self._workloads for each in workloads).conditions
        if any(_differs(condition, told.get(condition["type"])) for condition in conditions):
            now = timestamp(datetime.now(UTC))
            timed = [condition | {"lastTransitionTime": _since(condition, told, now)} for condition in conditions]
            await self._client.patch_status(TIGERA_STATUSES, STATUS, {"conditions": timed})


def _differs(condition: Mapping[str, str], told: Mapping[str, Any] | None) -> bool:
    return told is None or any(told.get(key) != value for key, value in condition.items())


def _since(condition: Mapping[str, str], told: Mapping[str, Mapping[str, str]], now: str) -> str:
    before = told.get(condition["type"])
    return before["lastTransitionTime"] if before and before["status"] == condition["status"] else now
