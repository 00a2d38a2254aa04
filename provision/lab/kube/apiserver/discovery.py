"""What the server says about itself: which groups, versions and resources it serves, and its version."""

from __future__ import annotations

import platform
from typing import Any, TypeAlias

from provision.lab.kube.apiserver.errors import no_such_resource
from provision.lab.kube.apiserver.resources import EVERY_VERB, Resource, Resources
from provision.lab.kube.apiserver.reviews import REVIEWS
from provision.lab.kube.objects import VERSION

Document: TypeAlias = dict[str, Any]

_STREAMING = frozenset({"attach", "exec", "portforward"})
_SUBRESOURCE_KINDS = {
    "binding": ("", "v1", "Binding", ("create",)),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "scale": ("autoscaling", "v1", "Scale", ("get", "patch", "update")),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
}


def version() -> Document:
    """The document of /version."""
    major, minor, _ = VERSION.removeprefix("v").split(".", 2)
    return {
        "major": major,
        "minor": minor,
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "meshproof lab stand-in for kube-apiserver",
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }


def describe(parts: list[str], resources: Resources) -> Document:
    """The discovery document at a path, given as its segments: /, /api, /apis, /apis/GROUP, .../VERSION.

    Raises:
        ApiError: 404, there is none.
    """
    match parts:
        case []:
            return {"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"]}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            groups = [_group(group, versions) for group, versions in _groups(resources).items()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group]:
            versions = _groups(resources).get(group)
            if versions:
                return {"kind": "APIGroup", "apiVersion": "v1"} | _group(group, versions)
        case ["api", version]:
            return _resource_list("", version, resources)
        case ["apis", group, version]:
            return _resource_list(group, version, resources)
    raise no_such_resource()


def _groups(resources: Resources) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for resource in (*resources, *REVIEWS):
        versions = groups.setdefault(resource.group, [])
        if resource.group and resource.version not in versions:
            versions.append(resource.version)
    groups.pop("")
    return groups


def _group(name: str, versions: list[str]) -> Document:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resource_list(group: str, version: str, resources: Resources) -> Document:
    served = [entry for each in resources if (each.group, each.version) == (group, version) for entry in _entries(each)]
    served += [_review_entry(each) for each in REVIEWS if (each.group, each.version) == (group, version)]
    if not served:
        raise no_such_resource()
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": served,
    }


def _entries(resource: Resource) -> list[Document]:
    entry: Document = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(EVERY_VERB),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    return [entry, *(_subresource_entry(resource, name) for name in resource.subresources)]


def _subresource_entry(resource: Resource, name: str) -> Document:
    entry: Document = {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": ["get", "patch", "update"],
    }
    if name in _STREAMING:
        entry |= {"kind": "PodExecOptions" if name == "exec" else resource.kind, "verbs": ["create", "get"]}
    elif name == "log":
        entry["verbs"] = ["get"]
    elif name in _SUBRESOURCE_KINDS:
        group, version, kind, verbs = _SUBRESOURCE_KINDS[name]
        entry |= {"group": group, "version": version, "kind": kind, "verbs": list(verbs)}
    return entry


def _review_entry(review: Resource) -> Document:
    return {
        "name": review.plural,
        "singularName": review.singular,
        "namespaced": review.namespaced,
        "kind": review.kind,
        "verbs": ["create"],
    }
