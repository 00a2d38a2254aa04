"""What the node agent reports of a pod: pure functions from what it knows to the API's `status`.

Clients check these objects strictly, so every required field is always there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from provision.lab.kube.objects import KubeObject, timestamp

STARTED_IMAGE = "meshproof-lab://host"
"""What stands for an image's digest: the lab runs the host's programs and pulls nothing."""


@dataclass(frozen=True)
class Waiting:
    """Not running yet, or not again."""

    reason: str = "ContainerCreating"
    message: str = ""

    def as_state(self) -> dict[str, Any]:
        """The API's form."""
        return {"waiting": {"reason": self.reason} | ({"message": self.message} if self.message else {})}


@dataclass(frozen=True)
class Running:
    """Running since `started`."""

    started: datetime

    def as_state(self) -> dict[str, Any]:
        """The API's form."""
        return {"running": {"startedAt": timestamp(self.started)}}


@dataclass(frozen=True)
class Terminated:
    """Ended, with the exit code a shell would tell."""

    exit_code: int
    started: datetime
    finished: datetime
    reason: str = ""
    message: str = ""

    def as_state(self) -> dict[str, Any]:
        """The API's form."""
        state: dict[str, Any] = {
            "exitCode": self.exit_code,
            "reason": self.reason or ("Completed" if self.exit_code == 0 else "Error"),
            "startedAt": timestamp(self.started),
            "finishedAt": timestamp(self.finished),
        }
        if self.exit_code > 128:
            state["signal"] = self.exit_code - 128
        if self.message:
            state["message"] = self.message
        return {"terminated": state}


@dataclass(frozen=True)
class ContainerState:
    """One container as it is now.

    Attributes:
        last: how its previous run ended.
        container_id: names the run; empty before the first.
    """

    name: str
    image: str
    state: Waiting | Running | Terminated = Waiting()
    last: Terminated | None = None
    restarts: int = 0
    ready: bool = False
    started: bool = False
    container_id: str = ""

    @property
    def completed(self) -> bool:
        """Whether it has done its work."""
        return isinstance(self.state, Terminated) and self.state.exit_code == 0

    @property
    def failed(self) -> bool:
        """Whether it has ended without success."""
        return isinstance(self.state, Terminated) and self.state.exit_code != 0

    def as_status(self) -> dict[str, Any]:
        """The API's containerStatus."""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": STARTED_IMAGE if self.container_id else "",
            "containerID": self.container_id,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state.as_state(),
            "lastState": self.last.as_state() if self.last else {},
        }


@dataclass(frozen=True)
class PodState:
    """A pod as its node knows it.

    Attributes:
        addresses: of the pod; empty before its sandbox is there.
    """

    node_address: str
    addresses: tuple[str, ...] = ()
    started: datetime | None = None
    init: tuple[ContainerState, ...] = ()
    containers: tuple[ContainerState, ...] = ()
    ephemeral: tuple[ContainerState, ...] = ()


def pod_status(pod: KubeObject, state: PodState, now: datetime) -> dict[str, Any]:
    """The whole status of a pod; conditions that have not changed keep the time of their last transition."""
    initialized = all(container.completed for container in state.init)
    ready = initialized and all(container.ready for container in state.containers)
    phase = pod_phase(state, pod["spec"].get("restartPolicy", "Always"))
    finished = phase in ("Succeeded", "Failed")
    reason = "PodCompleted" if finished else "ContainersNotReady"
    names = [container.name for container in state.containers if not container.ready]
    why = "" if finished else f"containers with unready status: [{' '.join(names)}]"
    conditions = [
        _condition("PodReadyToStartContainers", bool(state.addresses) and not finished),
        _condition("Initialized", initialized, "ContainersNotInitialized", "init containers have not completed"),
        _condition("Ready", ready, reason, why),
        _condition("ContainersReady", ready, reason, why),
        _condition("PodScheduled", True),
    ]
    before = {row["type"]: row for row in (pod.get("status") or {}).get("conditions") or ()}
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": [_dated(row, before.get(row["type"]), now) for row in conditions],
        "hostIP": state.node_address,
        "hostIPs": [{"ip": state.node_address}],
        "containerStatuses": [container.as_status() for container in state.containers],
    }
    if state.started is not None:
        status["startTime"] = timestamp(state.started)
    if state.addresses:
        status["podIP"] = state.addresses[0]
        status["podIPs"] = [{"ip": address} for address in state.addresses]
    if state.init:
        status["initContainerStatuses"] = [
            row.as_status() | {"ready": row.ready or row.completed} for row in state.init
        ]
    if state.ephemeral:
        status["ephemeralContainerStatuses"] = [container.as_status() for container in state.ephemeral]
    return status


def pod_phase(state: PodState, restart_policy: str) -> str:
    """Pending, Running, Succeeded or Failed, as the containers' states and the restart policy have it."""
    if not all(container.completed for container in state.init):
        hopeless = restart_policy == "Never" and any(container.failed for container in state.init)
        return "Failed" if hopeless else "Pending"
    if any(isinstance(row.state, Waiting) and row.last is None for row in state.containers):
        return "Running" if any(isinstance(row.state, Running) for row in state.containers) else "Pending"
    if not will_restart(state.containers, restart_policy):
        return "Failed" if any(row.failed for row in state.containers) else "Succeeded"
    return "Running"


def will_restart(containers: Iterable[ContainerState], policy: str) -> bool:
    """Whether any container runs or will run again."""
    return any(
        not isinstance(row.state, Terminated) or restarts_after(row.state.exit_code, policy) for row in containers
    )


def restarts_after(exit_code: int, policy: str) -> bool:
    """Whether the restart policy starts a container again that ended with this code."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _condition(kind: str, holds: bool, reason: str = "", message: str = "") -> dict[str, Any]:
    condition = {"type": kind, "status": "True" if holds else "False"}
    if not holds and reason:
        condition |= {"reason": reason, "message": message}
    return condition


def _dated(condition: dict[str, Any], before: Mapping[str, Any] | None, now: datetime) -> dict[str, Any]:
    unchanged = before is not None and before.get("status") == condition["status"]
    since = before.get("lastTransitionTime") if before is not None and unchanged else None
    return condition | {"lastProbeTime": None, "lastTransitionTime": since or timestamp(now)}
