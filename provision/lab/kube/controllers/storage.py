"""Storage: a claim that a pod needs gets a volume on the disk of the pod's node, and the volume goes with the claim.

As the local-path provisioner of k3s does it: nothing happens before the scheduler has chosen a node for the claim's
first pod (`WaitForFirstConsumer`), and from then on the volume's place is that node.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from provision.lab.kube.client import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    AlreadyExists,
    ApiClient,
    Conflict,
    KubeObject,
    NotFound,
    Reflector,
)
from provision.lab.kube.controllers.queue import Key
from provision.lab.kube.objects import HOSTNAME_LABEL, PROVISIONER, SELECTED_NODE

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
FOLDER = "/var/lib/volumes"
"""Where volumes are on a node; the size that is asked for is promised and not enforced."""

HostTree = Callable[[str], Path]
"""The folder that plays a node's file system, by the node's name."""


class LocalProvisioner:
    """Makes and binds the volumes of claims of its class, and removes volumes whose claims are gone."""

    def __init__(
        self, client: ApiClient, claims: Reflector, volumes: Reflector, classes: Reflector, host_tree: HostTree
    ) -> None:
        self._client = client
        self._claims = claims
        self._volumes = volumes
        self._classes = classes
        self._host_tree = host_tree

    async def reconcile_all(self, _key: Key) -> None:
        """Brings volumes in line with claims."""
        for claim in self._claims:
            if "deletionTimestamp" not in claim["metadata"] and self._is_waiting(claim):
                await self._bind(claim)
        claimed = {claim["metadata"]["uid"] for claim in self._claims}
        for volume in self._volumes:
            if is_ours(volume) and volume["spec"]["claimRef"]["uid"] not in claimed:
                await self._remove(volume)

    def _is_waiting(self, claim: Mapping[str, Any]) -> bool:
        """Whether a node has been chosen for the claim, and its class is ours, and it is not bound yet."""
        storage_class = self._classes.get(claim["spec"].get("storageClassName") or "")
        chosen = SELECTED_NODE in (claim["metadata"].get("annotations") or {})
        return chosen and not is_bound(claim) and (storage_class or {}).get("provisioner") == PROVISIONER

    async def _bind(self, claim: KubeObject) -> None:
        meta = claim["metadata"]
        volume = volume_for(claim)
        folder = self._folder(volume)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # whoever the pod's processes run as
        with contextlib.suppress(AlreadyExists):
            await self._client.create(PERSISTENT_VOLUMES, volume)
        name, capacity = volume["metadata"]["name"], volume["spec"]["capacity"]
        patch = {
            "metadata": {"uid": meta["uid"], "annotations": {BIND_COMPLETED: "yes"}},
            "spec": {"volumeName": name},
        }
        status = {"phase": "Bound", "accessModes": claim["spec"]["accessModes"], "capacity": capacity}
        try:
            await self._client.patch(PERSISTENT_VOLUME_CLAIMS, meta["name"], patch, meta["namespace"])
            await self._client.patch_status(PERSISTENT_VOLUMES, name, {"phase": "Bound"})
            await self._client.patch_status(PERSISTENT_VOLUME_CLAIMS, meta["name"], status, meta["namespace"])
        except (NotFound, Conflict):
            return  # the claim went meanwhile; its volume goes next

    async def _remove(self, volume: KubeObject) -> None:
        shutil.rmtree(self._folder(volume), ignore_errors=True)
        try:
            await self._client.delete(PERSISTENT_VOLUMES, volume["metadata"]["name"])
        except NotFound:
            return

    def _folder(self, volume: Mapping[str, Any]) -> Path:
        """A volume's folder: on the node that its affinity names."""
        (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        (node,) = term["matchExpressions"][0]["values"]
        return self._host_tree(node) / str(volume["spec"]["local"]["path"]).lstrip("/")


def is_bound(claim: Mapping[str, Any]) -> bool:
    """Whether a claim has its volume."""
    return (claim.get("status") or {}).get("phase") == "Bound"


def is_ours(volume: Mapping[str, Any]) -> bool:
    """Whether the provisioner made a volume."""
    return (volume["metadata"].get("annotations") or {}).get(PROVISIONED_BY) == PROVISIONER


def volume_for(claim: Mapping[str, Any]) -> KubeObject:
    """The volume of a claim whose node is chosen."""
    meta, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{meta['uid']}"
    here = {"key": HOSTNAME_LABEL, "operator": "In", "values": [meta["annotations"][SELECTED_NODE]]}
    return {
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
            "local": {"path": f"{FOLDER}/{name}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": spec["storageClassName"],
            "volumeMode": "Filesystem",
        },
    }
