"""What a request asks for, read from its method and path: the verb, and the object or collection that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from urllib.parse import unquote

from provision.lab.kube.apiserver.errors import qualified

_OBJECT_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_COLLECTION_VERBS = _OBJECT_VERBS | {"GET": "list", "HEAD": "list", "DELETE": "deletecollection"}
_TRUE = frozenset({"1", "t", "T", "true", "True", "TRUE"})
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


class About(Enum):
    """Whether a request is about objects of the API, or about another path such as /version."""

    RESOURCE = "resource"
    PATH = "path"


@dataclass(frozen=True, slots=True)
class Action:
    """Somebody wants to do `verb` to something. The attributes are those that RBAC rules speak of.

    Attributes:
        namespace: "" for all namespaces, and for cluster-scoped kinds except Namespace itself, where it is the name.
        name: "" for a collection.
        path: of a request that is not about objects.
    """

    verb: str
    about: About
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def resource_path(self) -> str:
        """The resource with its subresource, as in "pods/exec"."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def named(self, name: str) -> Action:
        """The same for the object of that name, as when a list selects a single one."""
        return replace(self, name=name)

    def with_verb(self, verb: str) -> Action:
        """The same with another verb."""
        return replace(self, verb=verb)

    def denial(self, user: str) -> str:
        """The sentence, as Kubernetes words it, that tells `user` that they may not do this."""
        if self.about is About.PATH:
            return f'forbidden: User "{user}" cannot {self.verb} path "{self.path}"'
        subject = qualified(self.resource, self.group) + (f' "{self.name}"' if self.name else "")
        place = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        return (
            f'{subject} is forbidden: User "{user}" cannot {self.verb} resource "{self.resource_path}" '
            f'in API group "{self.group}" {place}'
        )


def is_true(text: str | None) -> bool:
    """Whether an option of a query is set: clients in different languages spell it differently."""
    return text in _TRUE


def read_action(method: str, raw_path: str, query: Mapping[str, str]) -> Action:
    """Understand a request line."""
    parts = [unquote(part) for part in raw_path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return Action(verb=_OBJECT_VERBS.get(method, method.lower()), about=About.PATH, path=raw_path)
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 2:
        namespace = rest[1]
        if len(rest) >= 3 and rest[2] not in _NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    resource, name, subresource = [*rest, "", ""][:3]
    verb = (_OBJECT_VERBS if name else _COLLECTION_VERBS).get(method, method.lower())
    if verb == "list" and is_true(query.get("watch")):
        verb = "watch"
    return Action(verb, About.RESOURCE, group, version, resource, subresource, namespace, name, raw_path)
