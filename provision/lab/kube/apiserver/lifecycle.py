"""What a cluster does by itself when certain objects come and go.

A new namespace gets its default ServiceAccount and the cluster's authority; a deleted one takes its contents along and
disappears last. A CustomResourceDefinition begins or ends the service of its resources.
"""

from __future__ import annotations

from provision.lab.kube.apiserver.admission import AUTHORITY
from provision.lab.kube.apiserver.operations import Operations
from provision.lab.kube.apiserver.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    SERVICE_ACCOUNTS,
    Resources,
    custom_resources,
)
from provision.lab.kube.apiserver.selectors import Selection
from provision.lab.kube.apiserver.store import ADDED, DELETED, Event, Store


class Lifecycle:
    """Listens to a store and reacts, inside the write that it reacts to.

    Args:
        store: listened to.
        resources: the kinds that are served.
        operations: on the same store.
        authority: PEM text of what vouches for the API server.
    """

    def __init__(self, store: Store, resources: Resources, operations: Operations, authority: str) -> None:
        self._authority = authority
        self._store = store
        self._resources = resources
        self._operations = operations
        self._terminating: set[str] = set()
        store.on_change(self._react)

    def _react(self, event: Event) -> None:
        namespace, name = event.stored.name
        if event.resource == NAMESPACES.key:
            self._namespace_changed(event, name)
        elif event.resource == CUSTOM_RESOURCE_DEFINITIONS.key:
            self._definition_changed(event, name)
        elif event.kind == DELETED and namespace in self._terminating:
            self._finish_if_empty(namespace)

    def _namespace_changed(self, event: Event, name: str) -> None:
        if event.kind == ADDED:
            self._operations.create(SERVICE_ACCOUNTS, name, {"metadata": {"name": "default", "namespace": name}})
            authority = {"metadata": {"name": AUTHORITY, "namespace": name}, "data": {"ca.crt": self._authority}}
            self._operations.create(CONFIG_MAPS, name, authority)
        elif event.kind == DELETED:
            self._terminating.discard(name)
        elif "deletionTimestamp" in event.stored.data["metadata"] and name not in self._terminating:
            for resource in self._resources.namespaced_kinds():
                for stored in self._store.list(resource.key, Selection(namespace=name)):
                    self._operations.delete(resource, stored)
            self._terminating.add(name)
            self._finish_if_empty(name)

    def _finish_if_empty(self, name: str) -> None:
        kinds = self._resources.namespaced_kinds()
        if any(stored.name[0] == name for resource in kinds for stored in self._store.all(resource.key)):
            return
        namespace = self._operations.get(NAMESPACES, "", name)
        emptied = namespace.copy()
        emptied["spec"]["finalizers"] = []
        self._operations.update(NAMESPACES, namespace, emptied)

    def _definition_changed(self, event: Event, name: str) -> None:
        if event.kind != DELETED:
            self._resources.register(event.stored.data)
            return
        self._resources.unregister(name)
        for key in {resource.key for resource in custom_resources(event.stored.data)}:
            self._store.forget(key)
