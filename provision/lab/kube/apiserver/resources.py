"""Which kinds of objects the server knows: the built-in ones, and those that CustomResourceDefinitions add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from provision.lab.kube.apiserver.errors import no_such_resource

ResourceKey: TypeAlias = tuple[str, str]
"""(group, plural): all versions of a kind share one set of stored objects."""

EVERY_VERB = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
METADATA_FIELDS = frozenset({"metadata.name", "metadata.namespace"})

_SELECTABLE: Mapping[str, frozenset[str]] = {
    "pods": frozenset(
        {
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        }
    ),
    "events": frozenset(
        {
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "reason",
            "reportingComponent",
            "type",
        }
    ),
    "nodes": frozenset({"spec.unschedulable"}),
    "namespaces": frozenset({"status.phase"}),
    "secrets": frozenset({"type"}),
    "jobs": frozenset({"status.successful"}),
    "replicasets": frozenset({"status.replicas"}),
    "services": frozenset({"spec.clusterIP", "spec.type"}),
}
_SUBRESOURCES: Mapping[str, tuple[str, ...]] = {
    "pods": (
        "attach",
        "binding",
        "ephemeralcontainers",
        "eviction",
        "exec",
        "log",
        "portforward",
        "status",
    ),
    "deployments": ("scale", "status"),
    "replicasets": ("scale", "status"),
    "statefulsets": ("scale", "status"),
    "serviceaccounts": ("token",),
}
_GROUPS_WITHOUT_GENERATION = frozenset({"", "coordination.k8s.io", "rbac.authorization.k8s.io", "storage.k8s.io"})
_WITHOUT_STATUS = frozenset(
    {
        "clusterrolebindings",
        "clusterroles",
        "configmaps",
        "controllerrevisions",
        "endpoints",
        "endpointslices",
        "events",
        "leases",
        "limitranges",
        "networkpolicies",
        "rolebindings",
        "roles",
        "secrets",
        "storageclasses",
    }
)


@dataclass(frozen=True)
class Resource:
    """A kind of object as one version of the API serves it.

    Attributes:
        custom: the CustomResourceDefinition that registered it, "" for a built-in kind.
        schema: of its objects, as that definition gives it.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    singular: str = ""
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    selectable_fields: frozenset[str] = METADATA_FIELDS
    custom: str = ""
    schema: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def api_version(self) -> str:
        """What `apiVersion` says in such an object: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> ResourceKey:
        """What the store files its objects under."""
        return (self.group, self.plural)

    @property
    def has_status(self) -> bool:
        """Whether `status` is written only through its subresource."""
        return "status" in self.subresources

    @property
    def has_generation(self) -> bool:
        """Whether changes of what is wished for are counted."""
        return bool(self.custom) or self.plural == "pods" or self.group not in _GROUPS_WITHOUT_GENERATION


def _builtin(
    api_version: str,
    plural: str,
    kind: str,
    *short_names: str,
    namespaced: bool = True,
    categories: tuple[str, ...] = (),
) -> Resource:
    group, _, version = api_version.rpartition("/")
    default = () if plural in _WITHOUT_STATUS else ("status",)
    return Resource(
        group=group,
        version=version,
        plural=plural,
        kind=kind,
        namespaced=namespaced,
        short_names=short_names,
        singular=kind.lower(),
        categories=categories,
        subresources=_SUBRESOURCES.get(plural, default),
        selectable_fields=METADATA_FIELDS | _SELECTABLE.get(plural, frozenset()),
    )


_ALL = ("all",)
_RBAC = "rbac.authorization.k8s.io/v1"

NAMESPACES = _builtin("v1", "namespaces", "Namespace", "ns", namespaced=False)
NODES = _builtin("v1", "nodes", "Node", "no", namespaced=False)
PODS = _builtin("v1", "pods", "Pod", "po", categories=_ALL)
SERVICES = _builtin("v1", "services", "Service", "svc", categories=_ALL)
CONFIG_MAPS = _builtin("v1", "configmaps", "ConfigMap", "cm")
PERSISTENT_VOLUME_CLAIMS = _builtin("v1", "persistentvolumeclaims", "PersistentVolumeClaim", "pvc")
STORAGE_CLASSES = _builtin("storage.k8s.io/v1", "storageclasses", "StorageClass", "sc", namespaced=False)
SERVICE_ACCOUNTS = _builtin("v1", "serviceaccounts", "ServiceAccount", "sa")
ROLES = _builtin(_RBAC, "roles", "Role")
ROLE_BINDINGS = _builtin(_RBAC, "rolebindings", "RoleBinding")
CLUSTER_ROLES = _builtin(_RBAC, "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS = _builtin(_RBAC, "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
CUSTOM_RESOURCE_DEFINITIONS = _builtin(
    "apiextensions.k8s.io/v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    "crd",
    "crds",
    namespaced=False,
    categories=("api-extensions",),
)
BUILTIN = (
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    SERVICE_ACCOUNTS,
    ROLES,
    ROLE_BINDINGS,
    CLUSTER_ROLES,
    CLUSTER_ROLE_BINDINGS,
    CUSTOM_RESOURCE_DEFINITIONS,
    CONFIG_MAPS,
    _builtin("v1", "secrets", "Secret"),
    _builtin("v1", "endpoints", "Endpoints", "ep"),
    _builtin("v1", "events", "Event", "ev"),
    _builtin("v1", "limitranges", "LimitRange", "limits"),
    PERSISTENT_VOLUME_CLAIMS,
    _builtin("v1", "persistentvolumes", "PersistentVolume", "pv", namespaced=False),
    _builtin("v1", "resourcequotas", "ResourceQuota", "quota"),
    _builtin("apps/v1", "controllerrevisions", "ControllerRevision"),
    _builtin("apps/v1", "daemonsets", "DaemonSet", "ds", categories=_ALL),
    _builtin("apps/v1", "deployments", "Deployment", "deploy", categories=_ALL),
    _builtin("apps/v1", "replicasets", "ReplicaSet", "rs", categories=_ALL),
    _builtin("apps/v1", "statefulsets", "StatefulSet", "sts", categories=_ALL),
    _builtin("batch/v1", "cronjobs", "CronJob", "cj", categories=_ALL),
    _builtin("batch/v1", "jobs", "Job", categories=_ALL),
    _builtin("coordination.k8s.io/v1", "leases", "Lease"),
    _builtin("discovery.k8s.io/v1", "endpointslices", "EndpointSlice"),
    _builtin("networking.k8s.io/v1", "ingresses", "Ingress", "ing"),
    _builtin("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", "netpol"),
    _builtin("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", "pdb"),
    STORAGE_CLASSES,
)


def custom_resources(definition: Mapping[str, Any]) -> list[Resource]:
    """The resources that a CustomResourceDefinition asks for: one for each version it serves."""
    spec = definition["spec"]
    names = spec["names"]
    return [
        Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            short_names=tuple(names.get("shortNames") or ()),
            singular=names.get("singular") or names["kind"].lower(),
            categories=tuple(names.get("categories") or ()),
            # "scale" of a custom resource needs the paths that the definition names; nothing in the lab scales one
            subresources=tuple(name for name in version.get("subresources") or {} if name == "status"),
            selectable_fields=METADATA_FIELDS
            | {field["jsonPath"].removeprefix(".") for field in version.get("selectableFields") or ()},
            custom=definition["metadata"]["name"],
            schema=version["schema"]["openAPIV3Schema"],
        )
        for version in spec["versions"]
        if version.get("served")
    ]


class Resources:
    """The resources that are served now, by group, version and plural."""

    def __init__(self) -> None:
        self._served = {(each.group, each.version, each.plural): each for each in BUILTIN}

    def __iter__(self) -> Iterator[Resource]:
        return iter(tuple(self._served.values()))

    def find(self, group: str, version: str, plural: str) -> Resource:
        """The resource at that place.

        Raises:
            ApiError: 404, none is served there.
        """
        try:
            return self._served[group, version, plural]
        except KeyError:
            raise no_such_resource() from None

    def of_kind(self, api_version: str, kind: str) -> Resource:
        """The resource whose objects carry this apiVersion and kind.

        Raises:
            ApiError: 404, none does.
        """
        for resource in self._served.values():
            if resource.kind == kind and resource.api_version == api_version:
                return resource
        raise no_such_resource()

    def register(self, definition: Mapping[str, Any]) -> None:
        """Serve what a CustomResourceDefinition asks for, and no longer what an earlier state of it asked for."""
        self.unregister(definition["metadata"]["name"])
        for resource in custom_resources(definition):
            self._served[resource.group, resource.version, resource.plural] = resource

    def unregister(self, definition_name: str) -> None:
        """Stop serving what a CustomResourceDefinition had registered."""
        self._served = {place: each for place, each in self._served.items() if each.custom != definition_name}

    def namespaced_kinds(self) -> list[Resource]:
        """One resource for each namespaced kind, whichever version."""
        return list({each.key: each for each in self._served.values() if each.namespaced}.values())
