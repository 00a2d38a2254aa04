"""All controllers of one cluster, fed by one reflector for each kind of object."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from provision.lab.kube.client import (
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    SERVICES,
    STATEFUL_SETS,
    STORAGE_CLASSES,
    ApiClient,
    Change,
    ChangeKind,
    KubeObject,
    Reflector,
    Resource,
    synced,
)
from provision.lab.kube.controllers.daemonset import DaemonSetController
from provision.lab.kube.controllers.deployment import DeploymentController
from provision.lab.kube.controllers.disruption import DisruptionController
from provision.lab.kube.controllers.endpoints import EndpointsController
from provision.lab.kube.controllers.garbage import GarbageCollector, PodCollector
from provision.lab.kube.controllers.ownership import PodControl, controller_of
from provision.lab.kube.controllers.queue import Key, WorkQueue
from provision.lab.kube.controllers.replicaset import ReplicaSetController
from provision.lab.kube.controllers.scheduler import Scheduler
from provision.lab.kube.controllers.selectors import selects
from provision.lab.kube.controllers.statefulset import StatefulSetController
from provision.lab.kube.controllers.storage import HostTree, LocalProvisioner

WATCHED = (
    PODS,
    NODES,
    SERVICES,
    DEPLOYMENTS,
    REPLICA_SETS,
    DAEMON_SETS,
    STATEFUL_SETS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    STORAGE_CLASSES,
    POD_DISRUPTION_BUDGETS,
)
Reconcile: TypeAlias = Callable[[Key], Awaitable[None]]

EVERYTHING: Key = ("", "")
"""The key of controllers that look at all objects together."""


async def run_controllers(server: str, *, ca: Path, token: str, host_tree: HostTree) -> None:
    """Runs the controllers of one cluster until it is cancelled.

    Args:
        server: URL of the API server.
        ca: PEM file with the cluster's authority.
        token: bearer token of the controller manager.
        host_tree: where the volumes of a node are.
    """
    async with ApiClient(server, ca=ca, token=token, name="meshproof-controllers") as client:
        await _Controllers(client, host_tree).run()


class _Controllers:
    def __init__(self, client: ApiClient, host_tree: HostTree) -> None:
        self._client = client
        self._host_tree = host_tree
        self._reflectors = {resource: Reflector(client, resource) for resource in WATCHED}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors.values():
                group.create_task(reflector.run())
            # On half a picture a controller would make what is there already.
            await synced(*self._reflectors.values())
            for name, queue, reconcile in self._wired():
                group.create_task(queue.run(name, reconcile))

    def _wired(self) -> list[tuple[str, WorkQueue, Reconcile]]:
        client, of = self._client, self._reflectors
        pods, nodes, services = of[PODS], of[NODES], of[SERVICES]
        claims, volumes, classes = of[PERSISTENT_VOLUME_CLAIMS], of[PERSISTENT_VOLUMES], of[STORAGE_CLASSES]
        scheduler = Scheduler(client, pods, nodes, claims)
        provisioner = LocalProvisioner(client, claims, volumes, classes, self._host_tree)
        budgets = of[POD_DISRUPTION_BUDGETS]
        disruption = DisruptionController(client, budgets, pods, of[STATEFUL_SETS], of[REPLICA_SETS])
        garbage = GarbageCollector(client, of)
        homeless = PodCollector(client, pods, nodes)
        endpoints = EndpointsController(client, services, pods, of[ENDPOINT_SLICES], of[ENDPOINTS])
        deployments = DeploymentController(client, of[DEPLOYMENTS], of[REPLICA_SETS])
        replica_sets = ReplicaSetController(client, of[REPLICA_SETS], PodControl(client, pods))
        daemon_sets = DaemonSetController(client, of[DAEMON_SETS], nodes, PodControl(client, pods))
        stateful_sets = StatefulSetController(client, of[STATEFUL_SETS], PodControl(client, pods))
        return [
            ("scheduler", self._all_of(pods, nodes, claims), scheduler.reconcile_all),
            ("provisioner", self._all_of(claims, volumes, classes), provisioner.reconcile_all),
            ("disruption", self._all_of(budgets, pods, only=disruption.concerns), disruption.reconcile_all),
            ("garbage collector", self._all_of(*of.values(), only=_may_leave_an_orphan), garbage.reconcile_all),
            ("pod collector", self._all_of(nodes, only=_is_gone), homeless.reconcile_all),
            ("endpoints", self._endpoints_queue(), endpoints.reconcile),
            ("deployment", self._owner_queue(DEPLOYMENTS, REPLICA_SETS), deployments.reconcile),
            ("replicaset", self._owner_queue(REPLICA_SETS, PODS), replica_sets.reconcile),
            ("daemonset", self._owner_queue(DAEMON_SETS, PODS, everybody=NODES), daemon_sets.reconcile),
            ("statefulset", self._owner_queue(STATEFUL_SETS, PODS), stateful_sets.reconcile),
        ]

    def _all_of(self, *reflectors: Reflector, only: Callable[[Change], bool] = lambda _: True) -> WorkQueue:
        """A queue with a single key, asked for by every change that counts."""
        queue = WorkQueue()
        queue.add(EVERYTHING)

        def handle(change: Change) -> None:
            if only(change):
                queue.add(EVERYTHING)

        for reflector in reflectors:
            reflector.add_handler(handle)
        return queue

    def _owner_queue(self, owners: Resource, dependents: Resource, *, everybody: Resource | None = None) -> WorkQueue:
        """A queue of owners: asked for by their own changes, by those of what they control, and by orphans.

        Args:
            owners: the controllers' kind.
            dependents: the kind that they control.
            everybody: a kind each of whose changes concerns every owner.
        """
        queue = WorkQueue()
        reflector = self._reflectors[owners]

        def dependent_changed(change: Change) -> None:
            meta = change.object["metadata"]
            controller = controller_of(change.object)
            if controller is None:
                for owner in reflector:
                    if owner["metadata"]["namespace"] == meta["namespace"] and selects(
                        owner["spec"].get("selector"), meta.get("labels")
                    ):
                        queue.add(_key(owner))
            elif controller["kind"] == owners.kind:
                queue.add((meta["namespace"], controller["name"]))

        def all_concerned(_change: Change) -> None:
            for owner in reflector:
                queue.add(_key(owner))

        reflector.add_handler(lambda change: queue.add(_key(change.object)))
        self._reflectors[dependents].add_handler(dependent_changed)
        if everybody is not None:
            self._reflectors[everybody].add_handler(all_concerned)
        return queue

    def _endpoints_queue(self) -> WorkQueue:
        queue = WorkQueue()
        services = self._reflectors[SERVICES]

        def pod_changed(change: Change) -> None:
            # A pod whose labels have changed concerns the services of its old ones as well.
            for pod in (change.object, change.previous):
                for service in services if pod is not None else ():
                    if _stands_behind(pod, service):
                        queue.add(_key(service))

        services.add_handler(lambda change: queue.add(_key(change.object)))
        self._reflectors[PODS].add_handler(pod_changed)
        return queue


def _may_leave_an_orphan(change: Change) -> bool:
    owned = "ownerReferences" in change.object["metadata"]
    return change.kind is ChangeKind.DELETED or (change.kind is ChangeKind.ADDED and owned)


def _is_gone(change: Change) -> bool:
    return change.kind is ChangeKind.DELETED


def _stands_behind(pod: KubeObject | None, service: KubeObject) -> bool:
    selector = service["spec"].get("selector")
    if pod is None or not selector or pod["metadata"]["namespace"] != service["metadata"]["namespace"]:
        return False
    return selects({"matchLabels": selector}, pod["metadata"].get("labels"))


def _key(obj: KubeObject) -> Key:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]
