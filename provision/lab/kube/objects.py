"""What is said about API objects before anybody talks to an API: their shape, their paths, their way of writing.

Apart from the client, whose HTTP library takes 0.2 s to import: who only makes objects need not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

KubeObject: TypeAlias = dict[str, Any]

NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' own for generated names: no vowels, so no words."""

VERSION = "v1.36.0+meshproof.lab"
"""The Kubernetes whose behaviour is played, and, after the plus, by whom."""

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"
"""What a StatefulSet adds to the labels of its pods."""

HOSTNAME_LABEL = "kubernetes.io/hostname"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
"""On a StorageClass, "true": claims that name no class get this one."""

SELECTED_NODE = "volume.kubernetes.io/selected-node"
"""On a claim: the node that its volume is to be on, chosen by the scheduler."""

PROVISIONER = "meshproof.lab/local"
"""Who makes the volumes of a lab's StorageClass."""


def timestamp(moment: datetime) -> str:
    """A time as the API writes it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Resource:
    """A kind of object in the API, as its path names it; `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What `apiVersion` says in such an object: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of a collection, of an object, or of an object's subresource.

        Raises:
            ValueError: an object of a namespaced kind is named without its namespace.
        """
        if self.namespaced and name and not namespace:
            raise ValueError(f"{self.plural}/{name} needs a namespace")
        parts = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)
