"""The scheduler: gives each new pod the node that fits it and has the least to do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from provision.lab.kube.client import (
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    ApiClient,
    Change,
    ChangeKind,
    Conflict,
    KubeObject,
    NotFound,
    Patch,
    Reflector,
)
from provision.lab.kube.controllers.ownership import is_active, is_ready
from provision.lab.kube.controllers.queue import Key
from provision.lab.kube.controllers.selectors import node_fits, repels, selects
from provision.lab.kube.controllers.storage import is_bound
from provision.lab.kube.objects import SELECTED_NODE, timestamp

log = logging.getLogger(__name__)

NAME = "default-scheduler"


class Scheduler:
    """Binds pods one at a time, so that each decision knows the one before."""

    def __init__(self, client: ApiClient, pods: Reflector, nodes: Reflector, claims: Reflector) -> None:
        self._client = client
        self._pods = pods
        self._nodes = nodes
        self._claims = claims
        self._bound: dict[str, str] = {}
        self._promised: dict[str, str] = {}
        """The nodes of pods that wait for their volumes there, by uid."""

        pods.add_handler(self._forget)

    def _forget(self, change: Change) -> None:
        if change.kind is ChangeKind.DELETED or change.object["spec"].get("nodeName"):
            self._bound.pop(change.object["metadata"]["uid"], None)
            self._promised.pop(change.object["metadata"]["uid"], None)

    def is_mine(self, pod: Mapping[str, Any]) -> bool:
        """Whether a pod waits for a node from this scheduler."""
        spec, uid = pod["spec"], pod["metadata"]["uid"]
        mine = spec.get("schedulerName", NAME) == NAME and not spec.get("schedulingGates")
        return mine and not spec.get("nodeName") and uid not in self._bound and is_active(pod)

    async def reconcile_all(self, _key: Key) -> None:
        """Binds every pod that waits and that some node fits; says of the others why they wait."""
        for pod in sorted(self._pods, key=lambda row: row["metadata"].get("creationTimestamp") or ""):
            if self.is_mine(pod):
                await self._schedule(pod)

    async def _schedule(self, pod: KubeObject) -> None:
        meta = pod["metadata"]
        placed = [row for row in self._pods if is_active(row)]
        nodes = {row["metadata"]["uid"]: self._node_of(row) for row in placed}
        load = Counter(nodes.values())
        held = self._nodes_with_claims(pod)
        suitable = [
            node["metadata"]["name"]
            for node in self._nodes
            if accepts(node, pod)
            and held <= {node["metadata"]["name"]}
            and not self._kept_apart(pod, node, placed, nodes)
        ]
        if not suitable:
            await self._report_unschedulable(pod, f"0/{len(self._nodes)} nodes are available: none is ready and fits")
            return
        # Binding adds labels to a pod: those of its node's place.
        labels = (meta.get("labels") or {}).items()
        fellows = Counter(
            nodes[row["metadata"]["uid"]] for row in placed if labels <= (row["metadata"].get("labels") or {}).items()
        )
        chosen = min(suitable, key=lambda name: (fellows[name], load[name], name))
        try:
            has_volumes = await self._has_volumes(pod, chosen)
        except NotFound as error:
            await self._report_unschedulable(pod, error.message)
            return
        if not has_volumes:
            self._promised[meta["uid"]] = chosen
            return
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": chosen},
        }
        self._bound[meta["uid"]] = chosen
        try:
            await self._client.request("POST", PODS.path(meta["namespace"], meta["name"], "binding"), body=binding)
        except (NotFound, Conflict) as error:
            self._bound.pop(meta["uid"], None)
            log.info("pod %s/%s was not bound to %s: %s", meta["namespace"], meta["name"], chosen, error.message)
        except BaseException:
            self._bound.pop(meta["uid"], None)
            raise

    def _node_of(self, pod: Mapping[str, Any]) -> str:
        uid = pod["metadata"]["uid"]
        return pod["spec"].get("nodeName") or self._bound.get(uid) or self._promised.get(uid, "")

    def _kept_apart(
        self,
        pod: Mapping[str, Any],
        node: Mapping[str, Any],
        placed: Iterable[KubeObject],
        nodes: Mapping[str, str],
    ) -> bool:
        """Whether required pod anti-affinity keeps a pod away from a node."""
        affinity = (pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
        for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
            topology = term["topologyKey"]
            here = (node["metadata"].get("labels") or {}).get(topology)
            for other in placed:
                if other["metadata"]["namespace"] != pod["metadata"]["namespace"]:
                    continue
                its = self._nodes.get(nodes[other["metadata"]["uid"]])
                there = ((its or {}).get("metadata", {}).get("labels") or {}).get(topology)
                if (
                    here is not None
                    and here == there
                    and selects(term["labelSelector"], other["metadata"].get("labels"))
                ):
                    return True
        return False

    def _claims_of(self, pod: Mapping[str, Any]) -> list[str]:
        volumes = pod["spec"].get("volumes") or ()
        return [row["persistentVolumeClaim"]["claimName"] for row in volumes if "persistentVolumeClaim" in row]

    def _nodes_with_claims(self, pod: Mapping[str, Any]) -> set[str]:
        claims = (self._claims.get(name, pod["metadata"]["namespace"]) for name in self._claims_of(pod))
        nodes = {((claim or {}).get("metadata", {}).get("annotations") or {}).get(SELECTED_NODE) for claim in claims}
        return {node for node in nodes if node}

    async def _has_volumes(self, pod: Mapping[str, Any], node: str) -> bool:
        """Whether all claims of a pod have their volumes; those that have none yet are asked for on that node.

        Raises:
            NotFound: there is no claim of that name.
        """
        namespace = pod["metadata"]["namespace"]
        claims = [(name, self._claims.get(name, namespace)) for name in self._claims_of(pod)]
        for name, claim in claims:
            if SELECTED_NODE not in ((claim or {}).get("metadata", {}).get("annotations") or {}):
                patch = {"metadata": {"annotations": {SELECTED_NODE: node}}}
                await self._client.patch(PERSISTENT_VOLUME_CLAIMS, name, patch, namespace)
        return all(claim is not None and is_bound(claim) for _, claim in claims)

    async def _report_unschedulable(self, pod: KubeObject, message: str) -> None:
        known = {row["type"]: row for row in (pod.get("status") or {}).get("conditions") or ()}
        if known.get("PodScheduled", {}).get("message") == message:
            return
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": timestamp(datetime.now(UTC)),
        }
        meta = pod["metadata"]
        body = {"status": {"conditions": [condition]}}
        await self._client.patch(
            PODS, meta["name"], body, meta["namespace"], kind=Patch.STRATEGIC, subresource="status"
        )


def accepts(node: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether a node takes new pods, and this one."""
    if node.get("spec", {}).get("unschedulable") or not is_ready(node):
        return False
    return node_fits(pod["spec"], node) and not repels(node, pod["spec"].get("tolerations") or ())
