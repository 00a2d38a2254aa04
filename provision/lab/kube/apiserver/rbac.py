"""Who may do what: Role and ClusterRole objects, and the bindings that hand them out (RBAC).

There are no denials in RBAC: an action is allowed when any rule that the user holds allows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provision.lab.kube.apiserver.authentication import MASTERS, User
from provision.lab.kube.apiserver.errors import forbidden
from provision.lab.kube.apiserver.request import About, Action
from provision.lab.kube.apiserver.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    ROLE_BINDINGS,
    ROLES,
)
from provision.lab.kube.apiserver.store import Event, Store

ANYTHING = "*"
_SERVICE_ACCOUNT = "system:serviceaccount:"
_KINDS = frozenset(each.key for each in (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS))


@dataclass(frozen=True, slots=True)
class Rule:
    """One PolicyRule. An empty `resource_names` means objects of any name."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    resource_names: frozenset[str]
    paths: tuple[str, ...]

    @classmethod
    def of(cls, rule: Mapping[str, Any]) -> Rule:
        """Read an element of a role's `rules`."""
        return cls(
            verbs=frozenset(rule.get("verbs") or ()),
            groups=frozenset(rule.get("apiGroups") or ()),
            resources=frozenset(rule.get("resources") or ()),
            resource_names=frozenset(rule.get("resourceNames") or ()),
            paths=tuple(rule.get("nonResourceURLs") or ()),
        )

    def allows(self, action: Action) -> bool:
        """Whether the rule alone suffices for the action, wherever it applies."""
        if not self.verbs & {ANYTHING, action.verb}:
            return False
        if action.about is About.PATH:
            return any(_path_matches(pattern, action.path) for pattern in self.paths)
        return bool(
            self.groups & {ANYTHING, action.group}
            and (
                self.resources & {ANYTHING, action.resource_path}
                or (action.subresource and f"*/{action.subresource}" in self.resources)
            )
            and (not self.resource_names or action.name in self.resource_names)
        )

    def as_review(self) -> dict[str, Any]:
        """The rule as SelfSubjectRulesReview lists it."""
        if self.paths:
            return {"verbs": sorted(self.verbs), "nonResourceURLs": list(self.paths)}
        review = {
            "verbs": sorted(self.verbs),
            "apiGroups": sorted(self.groups),
            "resources": sorted(self.resources),
        }
        return review | ({"resourceNames": sorted(self.resource_names)} if self.resource_names else {})


def _path_matches(pattern: str, path: str) -> bool:
    if pattern.endswith(ANYTHING):
        return path.startswith(pattern[:-1])
    return path == pattern


def names_user(subject: Mapping[str, Any], user: User) -> bool:
    """Whether a binding's subject is this user, or one of the user's groups."""
    name = subject.get("name", "")
    match subject.get("kind"):
        case "User":
            return bool(name == user.name)
        case "Group":
            return name in user.groups
        case "ServiceAccount":
            return user.name == f"{_SERVICE_ACCOUNT}{subject.get('namespace', '')}:{name}"
    return False


@dataclass(frozen=True, slots=True)
class _Grant:
    """Rules held in one namespace, or, with "", everywhere."""

    namespace: str
    rules: tuple[Rule, ...]


class Authorizer:
    """Decides by the RBAC objects in a store. What a user holds is worked out once, until such an object changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._grants: dict[User, tuple[_Grant, ...]] = {}
        store.on_change(self._forget_if_rbac)

    def allows(self, user: User, action: Action) -> bool:
        """Whether the user may do this. Members of system:masters may do everything."""
        if MASTERS in user.groups:
            return True
        return any(rule.allows(action) for rule in self.rules_in(user, action.namespace))

    def require(self, user: User, action: Action) -> None:
        """Let the action pass.

        Raises:
            ApiError: 403, with a message that says who may not do what to which resource, and where.
        """
        if not self.allows(user, action):
            raise forbidden(action.denial(user.name), name=action.name, group=action.group, kind=action.resource)

    def rules_in(self, user: User, namespace: str) -> Iterator[Rule]:
        """The rules that the user holds in a namespace, those held everywhere included."""
        if user not in self._grants:
            self._grants[user] = tuple(self._grants_of(user))
        for grant in self._grants[user]:
            if grant.namespace in ("", namespace):
                yield from grant.rules

    def _grants_of(self, user: User) -> Iterable[_Grant]:
        for kind in (CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS):
            for stored in self._store.all(kind.key):
                binding = stored.data
                if any(names_user(subject, user) for subject in binding.get("subjects") or ()):
                    namespace = stored.name[0]
                    yield _Grant(namespace, self._rules_of(binding["roleRef"], namespace))

    def _rules_of(self, reference: Mapping[str, str], namespace: str) -> tuple[Rule, ...]:
        kind, home = (ROLES, namespace) if reference["kind"] == ROLES.kind else (CLUSTER_ROLES, "")
        role = self._store.get(kind.key, home, reference["name"])
        return tuple(Rule.of(rule) for rule in (role.data.get("rules") or ())) if role else ()

    def _forget_if_rbac(self, event: Event) -> None:
        if event.resource in _KINDS:
            self._grants.clear()
