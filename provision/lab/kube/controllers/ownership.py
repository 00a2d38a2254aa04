"""Who controls what: owner references, revision hashes, and the pods that a controller has made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from provision.lab.kube.client import (
    PODS,
    ApiClient,
    Change,
    ChangeKind,
    Conflict,
    KubeObject,
    NotFound,
    Reflector,
    Resource,
)
from provision.lab.kube.controllers.selectors import selects
from provision.lab.kube.objects import NAME_ALPHABET

FIRST_GENERATION = 1
"""The generation of an object whose spec has never been changed."""


def controller_of(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference of the controller that manages an object, if there is one."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Mapping[str, Any] = reference
            return found
    return None


def owner_reference(resource: Resource, owner: Mapping[str, Any]) -> dict[str, Any]:
    """The reference with which an object names its controller."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def without_nulls(value: Any) -> Any:
    """The same configuration without fields that are null, which some clients write and which mean nothing."""
    if isinstance(value, Mapping):
        return {key: without_nulls(field) for key, field in value.items() if field is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def short_hash(value: Any) -> str:
    """A short name for a piece of configuration: the same for the same content."""
    text = json.dumps(without_nulls(value), sort_keys=True)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
    letters = []
    for _ in range(9):
        number, index = divmod(number, len(NAME_ALPHABET))
        letters.append(NAME_ALPHABET[index])
    return "".join(letters)


def pod_from_template(
    owner: KubeObject, resource: Resource, template: Mapping[str, Any], labels: Mapping[str, str]
) -> KubeObject:
    """A pod as a controller's template describes it, owned by the controller; it still needs a name."""
    meta = template.get("metadata") or {}
    return {
        "metadata": {
            "namespace": owner["metadata"]["namespace"],
            "labels": {**(meta.get("labels") or {}), **labels},
            "annotations": dict(meta.get("annotations") or {}),
            "ownerReferences": [owner_reference(resource, owner)],
        },
        "spec": deepcopy(template["spec"]),
    }


async def report(client: ApiClient, resource: Resource, obj: KubeObject, status: Mapping[str, Any]) -> None:
    """Writes a status to an object that says something else."""
    known = obj.get("status") or {}
    if any(known.get(field) != value for field, value in status.items()):
        meta = obj["metadata"]
        await client.patch_status(resource, meta["name"], status, meta["namespace"])


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether the pod's node says that it is ready."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(row["type"] == "Ready" and row["status"] == "True" for row in conditions)


def is_active(pod: Mapping[str, Any]) -> bool:
    """Whether the pod still counts: neither ended nor about to be deleted."""
    return "deletionTimestamp" not in pod["metadata"] and (pod.get("status") or {}).get("phase") not in (
        "Succeeded",
        "Failed",
    )


class PodControl:
    """The pods of one kind of controller: made, adopted and deleted through here.

    A reflector is always a little behind. What has just been made or deleted is remembered until the reflector shows
    it, so that no controller acts twice on the same cause.
    """

    def __init__(self, client: ApiClient, pods: Reflector) -> None:
        self._client = client
        self._pods = pods
        self._made: dict[str, KubeObject] = {}
        self._deleted: set[str] = set()
        pods.add_handler(self._seen)

    def _seen(self, change: Change) -> None:
        uid = change.object["metadata"]["uid"]
        self._made.pop(uid, None)
        if change.kind is ChangeKind.DELETED:
            self._deleted.discard(uid)

    def owned_by(self, owner: KubeObject) -> list[KubeObject]:
        """The pods of a controller, the ones included that the reflector has not shown yet, ended ones too."""
        uid, namespace = owner["metadata"]["uid"], owner["metadata"]["namespace"]
        found = []
        for pod in (*self._pods, *self._made.values()):
            reference = controller_of(pod)
            if reference is not None and reference["uid"] == uid and pod["metadata"]["namespace"] == namespace:
                found.append(pod)
        return [pod for pod in found if pod["metadata"]["uid"] not in self._deleted]

    async def create(self, pod: KubeObject) -> KubeObject:
        """Makes a pod."""
        made = await self._client.create(PODS, pod)
        meta = made["metadata"]
        shown = self._pods.get(meta["name"], meta["namespace"])
        if shown is None or shown["metadata"]["uid"] != meta["uid"]:
            self._made[meta["uid"]] = made
        return made

    async def delete(self, pod: KubeObject) -> None:
        """Asks for a pod's deletion; one that is gone already is fine."""
        meta = pod["metadata"]
        self._deleted.add(meta["uid"])
        try:
            await self._client.delete(PODS, meta["name"], meta["namespace"], uid=meta["uid"])
        except (NotFound, Conflict):
            self._deleted.discard(meta["uid"])
        except BaseException:
            self._deleted.discard(meta["uid"])
            raise

    async def adopt_orphans(self, owner: KubeObject, resource: Resource) -> None:
        """Takes charge of pods that the controller's selector means and that nobody controls."""
        namespace = owner["metadata"]["namespace"]
        for pod in self._pods:
            meta = pod["metadata"]
            if (
                meta["namespace"] == namespace
                and is_active(pod)
                and controller_of(pod) is None
                and selects(owner["spec"].get("selector"), meta.get("labels"))
            ):
                references = [*(meta.get("ownerReferences") or ()), owner_reference(resource, owner)]
                patch = {"metadata": {"uid": meta["uid"], "ownerReferences": references}}
                await self._client.patch(PODS, meta["name"], patch, namespace)
