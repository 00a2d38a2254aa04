"""What can be done to objects: create, update, delete, and the subresources that change them.

This is where an object gets its uid and its revision, where defaults and rules apply, where a stale write is
refused, and where deletion waits for finalizers and for the kubelet.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from provision.lab.kube.apiserver import errors
from provision.lab.kube.apiserver.admission import choose_class, mount_token, prioritise, tolerate_failing_nodes
from provision.lab.kube.apiserver.defaults import empty_status, fill_in
from provision.lab.kube.apiserver.pod_security import violations
from provision.lab.kube.apiserver.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STORAGE_CLASSES,
    Resource,
    Resources,
)
from provision.lab.kube.apiserver.store import Store, Stored
from provision.lab.kube.apiserver.validation import check_change, check_metadata, check_object, check_shape, malformed
from provision.lab.kube.objects import NAME_ALPHABET, KubeObject, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from provision.lab.kube.apiserver.services import ServiceAddresses

_SUFFIX_LENGTH = 5
_OWNED_BY_SERVER = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_NAME_AND_PLACE = ("name", "namespace")
_DEFAULT_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How to delete.

    Attributes:
        grace_s: seconds that a pod gets to end, None for what its spec says.
        uid: delete only this incarnation; "" for any.
        resource_version: delete only this state; "" for any.
        dry_run: only say what would happen.
    """

    grace_s: int | None = None
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


_PLACE_LABELS = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")
_USUAL_DELETION = DeleteOptions()


class Operations:
    """The verbs on one cluster's objects."""

    def __init__(self, store: Store, resources: Resources, addresses: ServiceAddresses) -> None:
        self._store = store
        self._resources = resources
        self._addresses = addresses

    def get(self, resource: Resource, namespace: str, name: str) -> Stored:
        """The object of that name.

        Raises:
            ApiError: 404.
        """
        stored = self._store.get(resource.key, namespace if resource.namespaced else "", name)
        if stored is None:
            raise errors.not_found(resource.plural, resource.group, name)
        return stored

    def create(
        self, resource: Resource, namespace: str, obj: KubeObject, *, dry_run: bool = False, loading: bool = False
    ) -> Stored:
        """Take in a new object; `obj` belongs to the store afterwards.

        Args:
            resource: its kind.
            namespace: from the request's path, "" for a cluster-scoped kind.
            obj: the object.
            dry_run: check and complete it only.
            loading: the cluster is being filled: take `uid` and `status` as they are given.

        Raises:
            ApiError: 400, 403, 404, 409 or 422 as a Kubernetes API server says it.
        """
        self._check_type(resource, obj)
        for member in [name for name, value in obj.items() if value is None]:
            del obj[member]  # null says the same as nothing
        metadata = obj.setdefault("metadata", {})
        self._place(resource, namespace, metadata)
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        if not metadata.get("name") and metadata.get("generateName"):
            suffix = "".join(secrets.choice(NAME_ALPHABET) for _ in range(_SUFFIX_LENGTH))
            metadata["name"] = metadata["generateName"] + suffix
        check_metadata(resource, obj)
        if self._store.get(resource.key, metadata.get("namespace", ""), metadata["name"]):
            raise errors.already_exists(resource.plural, resource.group, metadata["name"])
        uid = (loading and metadata.get("uid")) or str(uuid.uuid4())
        for field in _OWNED_BY_SERVER:
            metadata.pop(field, None)
        metadata |= {"uid": uid, "creationTimestamp": timestamp(datetime.now(UTC))}
        if resource.has_generation:
            metadata["generation"] = 1
        obj |= {"apiVersion": resource.api_version, "kind": resource.kind}
        # a kubelet registers its node with status and all; everybody else reports status after the fact
        if resource.has_status and not loading and resource is not NODES:
            obj.pop("status", None)
            if not resource.custom:
                obj["status"] = empty_status(resource)
        with _malformed_means_bad_request(resource):
            fill_in(resource, obj)
            check_object(resource, obj)
            self._admit(resource, obj)
        if dry_run:
            return Stored(obj, self._store.revision)
        return self._store.write(resource.key, obj)

    def update(
        self, resource: Resource, current: Stored, new: KubeObject, *, subresource: str = "", dry_run: bool = False
    ) -> Stored:
        """Replace an object's state; `new` belongs to the store afterwards.

        With `subresource` "status" only the status changes, with "" everything but the status. A write that changes
        nothing leaves the resourceVersion as it is.

        Raises:
            ApiError: 400, 409 or 422.
        """
        self._check_type(resource, new)
        old = current.data
        metadata = new["metadata"] = new.get("metadata") or {}
        self._check_same_object(resource, current, metadata)
        if subresource == "status":
            state = new.get("status") or {}
            new = current.copy()
            new["status"] = state
        else:
            if resource.has_status:
                _keep(new, old, "status")
            for field in _OWNED_BY_SERVER:
                _keep(metadata, old["metadata"], field)
            for field in _NAME_AND_PLACE:
                _keep(metadata, old["metadata"], field)
            new |= {"apiVersion": resource.api_version, "kind": resource.kind}
            check_metadata(resource, new)
            with _malformed_means_bad_request(resource):
                if resource is SERVICES and not new["spec"].get("clusterIP"):
                    _keep(new["spec"], old["spec"], "clusterIP")
                fill_in(resource, new)
                check_object(resource, new)
                if subresource == "ephemeralcontainers":
                    self._check_pod_security(new)
                else:
                    check_change(resource, old, new)
        metadata = new["metadata"]
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old:
            return current
        if resource.has_generation and _wish(new) != _wish(old):
            metadata["generation"] = old["metadata"].get("generation", 1) + 1
        if dry_run:
            return Stored(new, current.revision)
        if self._is_finished(resource, new):
            return self._store.remove(resource.key, new)
        return self._store.write(resource.key, new)

    def delete(self, resource: Resource, current: Stored, options: DeleteOptions = _USUAL_DELETION) -> Stored:
        """Delete an object, or begin to: finalizers, a running pod and a namespace's contents delay it.

        Returns:
            The object's last state; while `exists` says so, it is still there and marked with a deletionTimestamp.

        Raises:
            ApiError: 409, a precondition of the options does not hold.
        """
        obj = current.copy()
        metadata = obj["metadata"]
        if options.uid and options.uid != metadata["uid"]:
            raise errors.conflict(
                resource.plural,
                resource.group,
                metadata["name"],
                f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {metadata['uid']}",
            )
        if options.resource_version and options.resource_version != metadata["resourceVersion"]:
            raise errors.conflict(resource.plural, resource.group, metadata["name"], "the object has been modified")
        grace_s = _grace(obj, options.grace_s) if resource is PODS else 0
        delayed = grace_s > 0 or resource is NAMESPACES or bool(metadata.get("finalizers"))
        if options.dry_run:
            return current
        if not delayed:
            return self._store.remove(resource.key, obj)
        known_grace_s = metadata.get("deletionGracePeriodSeconds")
        if "deletionTimestamp" in metadata and (known_grace_s is None or known_grace_s <= grace_s):
            return current
        metadata["deletionTimestamp"] = timestamp(datetime.now(UTC) + timedelta(seconds=grace_s))
        metadata["deletionGracePeriodSeconds"] = grace_s
        if resource is NAMESPACES:
            obj["status"] = (obj.get("status") or {}) | {"phase": "Terminating"}
        return self._store.write(resource.key, obj)

    def exists(self, resource: Resource, stored: Stored) -> bool:
        """Whether this incarnation of the object is still in the store."""
        now = self._store.get(resource.key, *stored.name)
        return now is not None and now.data["metadata"]["uid"] == stored.data["metadata"]["uid"]

    def bind(self, pod: Stored, binding: Mapping[str, Any], *, dry_run: bool = False) -> None:
        """Assign a pod to a node, as a scheduler does.

        Raises:
            ApiError: 400 without a node's name; 409 when the pod has a node.
        """
        node = (binding.get("target") or {}).get("name")
        if not node:
            raise errors.bad_request("binding: target.name is required")
        bound = pod.data["spec"].get("nodeName")
        if bound:
            raise errors.conflict("pods/binding", "", pod.name[1], f"pod {pod.name[1]} is already assigned to {bound}")
        new = pod.copy()
        new["spec"]["nodeName"] = node
        self._say_where(new)
        conditions = [each for each in new["status"].get("conditions") or () if each["type"] != "PodScheduled"]
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(datetime.now(UTC))}
        new["status"]["conditions"] = [*conditions, scheduled]
        if not dry_run:
            self._store.write(PODS.key, new)

    def _check_type(self, resource: Resource, obj: Any) -> None:
        check_shape(resource, obj)
        stated = (obj.get("apiVersion"), obj.get("kind"))
        if resource.custom and not all(stated):
            raise errors.bad_request("apiVersion and kind must be set on custom resources")
        wanted = (resource.api_version, resource.kind)
        if any(told and told != want for told, want in zip(stated, wanted, strict=True)):
            raise errors.bad_request(
                f'{stated[1]} in version "{stated[0]}" cannot be handled as a {resource.kind} of {resource.api_version}'
            )

    def _place(self, resource: Resource, namespace: str, metadata: KubeObject) -> None:
        if not resource.namespaced:
            metadata.pop("namespace", None)
            return
        if metadata.setdefault("namespace", namespace) != namespace:
            raise errors.bad_request(
                f"the namespace of the provided object ({metadata['namespace']}) does not match the namespace sent on "
                f"the request ({namespace})"
            )
        home = self._store.get(NAMESPACES.key, "", namespace)
        if home is None:
            raise errors.not_found("namespaces", "", namespace)
        if "deletionTimestamp" in home.data["metadata"]:
            name = metadata.get("name") or metadata.get("generateName") or ""
            raise errors.forbidden(
                f'{resource.plural} "{name}" is forbidden: unable to create new content in namespace {namespace} '
                "because it is being terminated",
                name=name,
                kind=resource.plural,
                causes=[{"reason": "NamespaceTerminating", "field": "metadata.namespace"}],
            )

    def _check_same_object(self, resource: Resource, current: Stored, metadata: KubeObject) -> None:
        old = current.data["metadata"]
        for field in _NAME_AND_PLACE:
            if metadata.get(field) and metadata[field] != old.get(field):
                raise errors.bad_request(
                    f"the {field} of the object ({metadata[field]}) does not match the {field} on the URL "
                    f"({old.get(field)})"
                )
        if metadata.get("uid") and metadata["uid"] != old["uid"]:
            raise errors.conflict(resource.plural, resource.group, old["name"], "the object has another uid")
        if metadata.get("resourceVersion") and metadata["resourceVersion"] != old["resourceVersion"]:
            raise errors.conflict(
                resource.plural,
                resource.group,
                old["name"],
                "the object has been modified; please apply your changes to the latest version and try again",
            )

    def _say_where(self, pod: KubeObject) -> None:
        """Give a pod those labels of its node that say where the node is."""
        node = self._store.get(NODES.key, "", pod["spec"].get("nodeName") or "")
        labels = (node.data["metadata"].get("labels") or {}) if node else {}
        place = {key: labels[key] for key in _PLACE_LABELS if key in labels}
        if place:
            pod["metadata"]["labels"] = (pod["metadata"].get("labels") or {}) | place

    def _admit(self, resource: Resource, obj: KubeObject) -> None:
        metadata = obj["metadata"]
        if resource is PODS:
            account = obj["spec"]["serviceAccountName"]
            known = self._store.get(SERVICE_ACCOUNTS.key, metadata["namespace"], account)
            if known is None:
                raise errors.forbidden(
                    f'pods "{metadata["name"]}" is forbidden: error looking up service account '
                    f'{metadata["namespace"]}/{account}: serviceaccount "{account}" not found'
                )
            mount_token(obj, known.data)
            prioritise(obj)
            tolerate_failing_nodes(obj)
            self._check_pod_security(obj)
            self._say_where(obj)
        elif resource is SERVICES:
            self._addresses.assign(obj)
        elif resource is PERSISTENT_VOLUME_CLAIMS:
            choose_class(obj, (stored.data for stored in self._store.all(STORAGE_CLASSES.key)))
        elif resource is CUSTOM_RESOURCE_DEFINITIONS:
            versions = obj["spec"]["versions"]
            condition = {"status": "True", "lastTransitionTime": timestamp(datetime.now(UTC)), "message": ""}
            obj["status"] = {
                "acceptedNames": obj["spec"]["names"],
                "storedVersions": [version["name"] for version in versions if version["storage"]],
                "conditions": [
                    {"type": "NamesAccepted", "reason": "NoConflicts"} | condition,
                    {"type": "Established", "reason": "InitialNamesAccepted"} | condition,
                ],
            }

    def _check_pod_security(self, pod: KubeObject) -> None:
        metadata = pod["metadata"]
        namespace = self.get(NAMESPACES, "", metadata["namespace"]).data["metadata"]
        broken = violations(namespace.get("labels") or {}, pod["spec"])
        if broken:
            raise errors.forbidden(f'pods "{metadata["name"]}" is forbidden: {broken}', name=metadata["name"])

    def _is_finished(self, resource: Resource, obj: KubeObject) -> bool:
        """Whether the write that brings this state takes away the last reason to wait with a deletion."""
        metadata = obj["metadata"]
        if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
            return False
        if resource is NAMESPACES:
            return not obj["spec"].get("finalizers")
        return not (resource is PODS and metadata.get("deletionGracePeriodSeconds"))


def _keep(new: KubeObject, old: Mapping[str, Any], field: str) -> None:
    if field in old:
        new[field] = old[field]
    else:
        new.pop(field, None)


def _wish(obj: Mapping[str, Any]) -> KubeObject:
    """What the object's owner asks for: everything but metadata and status. A change of it is a new generation."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _grace(pod: Mapping[str, Any], asked_s: int | None) -> int:
    """Seconds that the kubelet has to end a pod. Nobody needs to end one that never ran or is over."""
    spec = pod["spec"]
    if not spec.get("nodeName") or pod["status"].get("phase") in ("Succeeded", "Failed"):
        return 0
    grace_s = spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE_S) if asked_s is None else asked_s
    return max(int(grace_s), 0)


@contextmanager
def _malformed_means_bad_request(resource: Resource) -> Iterator[None]:
    """Defaults and rules read objects as their kind should look; where one does not, its author is told."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"missing {error}" if isinstance(error, KeyError) else str(error)
        raise malformed(resource, what) from error
