"""What policy knows of the pods of other clusters: the copy that Typha's federation keeps of their objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from provision.lab.calico.policy.endpoints import endpoints, what_matters
from provision.lab.calico.policy.translate import Known
from provision.lab.kube.client import NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS, ChangeKind
from provision.lab.kube.objects import KubeObject, Resource


def _labels(obj: KubeObject) -> object:
    return obj["metadata"].get("labels")


def _nothing(_obj: KubeObject) -> object:
    return None


_MATTERS: Mapping[Resource, Callable[[KubeObject], object]] = {
    PODS: what_matters,
    NAMESPACES: _labels,
    SERVICE_ACCOUNTS: _labels,
    NODES: _nothing,
}


class RemotePods:
    """What is known of the pods of other clusters, by RemoteClusterConfiguration."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Resource, dict[tuple[str, str], KubeObject]]] = {}
        self._listeners: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[Known]:
        for objects in self._objects.values():
            pods, namespaces, accounts = (objects[kind].values() for kind in (PODS, NAMESPACES, SERVICE_ACCOUNTS))
            for _, known in endpoints(pods, namespaces, accounts):
                yield known

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call it after every change from now on."""
        self._listeners.append(listener)

    def replace(self, name: str, lists: dict[Resource, tuple[KubeObject, ...]]) -> None:
        """Know what has just been listed, and nothing from before."""
        self._objects[name] = {kind: {_key(obj): obj for obj in found} for kind, found in lists.items()}
        self._tell()

    def take(self, name: str, resource: Resource, kind: ChangeKind, obj: KubeObject) -> None:
        """Follow a change."""
        held = self._objects[name][resource]
        before = held.pop(_key(obj), None)
        if kind is not ChangeKind.DELETED:
            held[_key(obj)] = obj
        matters = _MATTERS[resource]
        if before is None or kind is ChangeKind.DELETED or matters(before) != matters(obj):
            self._tell()

    def forget(self, name: str) -> None:
        """Know nothing of that cluster any more."""
        if self._objects.pop(name, None) is not None:
            self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _key(obj: KubeObject) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
