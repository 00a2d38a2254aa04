"""Who is asking: a bearer token, a client certificate of the cluster's authority, or nobody in particular."""

from __future__ import annotations

import hashlib
import json
import secrets
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.lab.kube.apiserver.errors import ApiError

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody, as RBAC sees them."""

    name: str
    groups: frozenset[str]


ANONYMOUS = User("system:anonymous", frozenset({UNAUTHENTICATED}))


def acting_as(name: str, groups: Iterable[str] = ()) -> User:
    """The user of that name: a ServiceAccount has its usual groups, anybody else those given."""
    kind, _, rest = name.removeprefix("system:").partition(":")
    if kind == "serviceaccount":
        namespace = rest.partition(":")[0]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", *groups)
    return User(name, frozenset({AUTHENTICATED, *groups}))


class Authenticator:
    """Knows the tokens of one cluster. Keeps digests only, so that a lookup takes no time that depends on the token."""

    def __init__(self) -> None:
        self._users: dict[bytes, User] = {}

    @classmethod
    def from_file(cls, path: Path) -> Authenticator:
        """Read a JSON list of {"token", "user", "groups"}."""
        authenticator = cls()
        for entry in json.loads(path.read_text()):
            authenticator._admit(entry["token"], acting_as(entry["user"], entry["groups"]))
        return authenticator

    def issue_token(self, namespace: str, service_account: str) -> str:
        """A new token for a ServiceAccount, good for as long as this server runs."""
        token = secrets.token_urlsafe(32)
        self._admit(token, acting_as(f"system:serviceaccount:{namespace}:{service_account}"))
        return token

    def authenticate(self, headers: Mapping[str, str], tls: ssl.SSLObject | None) -> User:
        """The user behind a request.

        Raises:
            ApiError: 401, a token was shown that nobody has.
        """
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            user = self.user_of(token.strip())
            if user is None:
                raise ApiError(401, "Unauthorized", "Unauthorized")
            return user
        return _certificate_user(tls) or ANONYMOUS

    def user_of(self, token: str) -> User | None:
        """Whose token it is, None when nobody's."""
        return self._users.get(_digest(token))

    def _admit(self, token: str, user: User) -> None:
        self._users[_digest(token)] = user


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _certificate_user(tls: ssl.SSLObject | None) -> User | None:
    """The subject of the client's certificate, which the TLS layer has verified: its name and organisations."""
    certificate = tls.getpeercert() if tls else None
    if not certificate:
        return None
    subject: list[tuple[str, str]] = [pair for part in certificate["subject"] for pair in part]  # type: ignore[misc]
    names = [value for key, value in subject if key == "commonName"]
    groups = {value for key, value in subject if key == "organizationName"}
    return User(names[0], frozenset(groups | {AUTHENTICATED})) if names else None
