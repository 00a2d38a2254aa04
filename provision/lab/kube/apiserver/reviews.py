"""Questions about identity and rights: SelfSubjectAccessReview and its relatives.

They are asked by creating an object that is never stored: its status is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from provision.lab.kube.apiserver.authentication import MASTERS, Authenticator, User
from provision.lab.kube.apiserver.errors import bad_request
from provision.lab.kube.apiserver.rbac import ANYTHING, Authorizer, Rule
from provision.lab.kube.apiserver.request import About, Action
from provision.lab.kube.apiserver.resources import Resource

Review: TypeAlias = dict[str, Any]


def _review(group: str, plural: str, kind: str, *, namespaced: bool = False) -> Resource:
    return Resource(group, "v1", plural, kind, namespaced=namespaced, singular=kind.lower())


REVIEWS = (
    _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    _review("authentication.k8s.io", "tokenreviews", "TokenReview"),
    _review("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", namespaced=True),
    _review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
)


def find_review(group: str, version: str, plural: str) -> Resource | None:
    """The kind of review at that place of the API, None when there is none."""
    for review in REVIEWS:
        if (review.group, review.version, review.plural) == (group, version, plural):
            return review
    return None


class Reviewer:
    """Answers reviews for one cluster."""

    def __init__(self, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._answers: Mapping[str, Callable[[User, Review], Review]] = {
            "SelfSubjectReview": lambda user, _: {"userInfo": _user_info(user)},
            "TokenReview": self._token,
            "LocalSubjectAccessReview": self._subject_access,
            "SelfSubjectAccessReview": lambda user, spec: self._access(user, spec),
            "SelfSubjectRulesReview": self._rules,
            "SubjectAccessReview": self._subject_access,
        }

    def answer(self, resource: Resource, user: User, review: Review) -> Review:
        """The review with its status.

        Raises:
            ApiError: 400, the question is incomplete.
        """
        spec = review.get("spec") or {}
        return {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {},
            "spec": spec,
            "status": self._answers[resource.kind](user, spec),
        }

    def _access(self, user: User, spec: Review) -> Review:
        allowed = self._authorizer.allows(user, _asked_action(spec))
        return {"allowed": allowed} | ({} if allowed else {"reason": "no RBAC rule allows it"})

    def _subject_access(self, _: User, spec: Review) -> Review:
        return self._access(User(spec.get("user") or "", frozenset(spec.get("groups") or ())), spec)

    def _rules(self, user: User, spec: Review) -> Review:
        rules = list(self._authorizer.rules_in(user, spec.get("namespace") or ""))
        if MASTERS in user.groups:
            everything = frozenset({ANYTHING})
            rules.append(Rule(everything, everything, everything, frozenset(), ()))
            rules.append(Rule(everything, frozenset(), frozenset(), frozenset(), (ANYTHING,)))
        return {
            "resourceRules": [rule.as_review() for rule in rules if not rule.paths],
            "nonResourceRules": [rule.as_review() for rule in rules if rule.paths],
            "incomplete": False,
        }

    def _token(self, _: User, spec: Review) -> Review:
        user = self._authenticator.user_of(spec.get("token") or "")
        if user is None:
            return {"authenticated": False, "user": {}, "error": "nobody has this token"}
        return {"authenticated": True, "user": _user_info(user)}


def _user_info(user: User) -> Review:
    return {"username": user.name, "groups": sorted(user.groups)}


def _asked_action(spec: Review) -> Action:
    path = spec.get("nonResourceAttributes")
    if path:
        return Action(verb=path.get("verb", ""), about=About.PATH, path=path.get("path", ""))
    asked = spec.get("resourceAttributes")
    if not asked:
        raise bad_request("exactly one of nonResourceAttributes or resourceAttributes must be specified")
    return Action(
        verb=asked.get("verb", ""),
        about=About.RESOURCE,
        group=asked.get("group", ""),
        version=asked.get("version", ""),
        resource=asked.get("resource", ""),
        subresource=asked.get("subresource", ""),
        namespace=asked.get("namespace", ""),
        name=asked.get("name", ""),
    )
