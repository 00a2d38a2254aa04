"""What Patroni tells over its REST API, and what that means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from analysis.facts import NodeRole
from probes.database.https import Reply

CLUSTER, MEMBER, SETTINGS = "/cluster", "/patroni", "/config"
LIVENESS, READINESS = "/liveness", "/readiness"

_PRIMARY = frozenset({"leader", "master", "primary", "standby_leader"})
_SYNCHRONOUS = frozenset({"sync_standby", "quorum_standby"})
_SERVING = frozenset({"running", "streaming"})
_TTL = 30.0
"""Patroni's own default, in seconds."""


@dataclass(frozen=True)
class Listed:
    """A member as `/cluster` lists it.

    Attributes:
        region: its tag, "" for none.
        state: "running" for the primary, "streaming" for a standby that follows.
    """

    name: str
    region: str
    host: str
    port: int
    role: NodeRole
    state: str
    timeline: int | None

    @property
    def serving(self) -> bool:
        """Whether it takes part."""
        return self.state in _SERVING


@dataclass(frozen=True)
class Member:
    """A member as it describes itself.

    Attributes:
        state: of its PostgreSQL ("running").
        following: whether a standby receives what the primary writes; None for a primary.
        store_seen: when it last heard of the store.
        version: "17.10"; "" when not told.
        senders: state of each connection of a standby to it, by the standby's name.
        started: when its PostgreSQL began.
    """

    state: str
    role: NodeRole
    following: bool | None
    timeline: int | None
    store_seen: datetime | None
    version: str
    senders: Mapping[str, str]
    started: datetime | None


@dataclass(frozen=True)
class Settings:
    """What all members have in common.

    Attributes:
        ttl: how long the primary may be silent (s).
        strict: whether no write is acknowledged without a synchronous standby.
    """

    ttl: float
    strict: bool


def read_cluster(reply: Reply) -> tuple[Listed, ...]:
    """The members. Raises ValueError when it is no such answer."""
    return tuple(
        Listed(
            name=str(member["name"]),
            region=str((member.get("tags") or {}).get("region", "")),
            host=str(member.get("host", "")),
            port=int(member.get("port", 0)),
            role=_role(member.get("role", "")),
            state=str(member.get("state", "")),
            timeline=member.get("timeline"),
        )
        for member in _object(reply)["members"]
    )


def read_member(reply: Reply) -> Member:
    """What a member says of itself. Raises ValueError when it is no such answer."""
    told = _object(reply)
    role = _role(told.get("role", ""))
    if role is NodeRole.REPLICA and told.get("sync_standby"):
        role = NodeRole.SYNCHRONOUS
    seen, started, version = told.get("dcs_last_seen"), told.get("postmaster_start_time"), told.get("server_version")
    return Member(
        state=str(told.get("state", "")),
        role=role,
        following=None if role is NodeRole.PRIMARY else told.get("replication_state") == "streaming",
        timeline=told.get("timeline"),
        store_seen=datetime.fromtimestamp(seen, UTC) if seen else None,
        version=f"{version // 10000}.{version % 10000}" if version else "",
        senders={sender["application_name"]: sender["state"] for sender in told.get("replication") or ()},
        started=datetime.fromisoformat(started) if started else None,
    )


def read_settings(reply: Reply) -> Settings:
    """The settings. Raises ValueError when it is no such answer."""
    told = _object(reply)
    synchronous = str(told.get("synchronous_mode", False)).lower() in ("true", "on", "quorum")
    return Settings(float(told.get("ttl", _TTL)), synchronous and bool(told.get("synchronous_mode_strict")))


def is_ready(member: Member, settings: Settings, at: datetime) -> bool:
    """Whether a member serves and knows who may write: one that is cut off from the store may not know it any more.

    What it last saw of the store is not enough: a member of the store that is cut off itself goes on telling what it
    remembers. A standby that receives nothing has no primary to follow.
    """
    fresh = member.store_seen is not None and (at - member.store_seen).total_seconds() <= settings.ttl
    return member.state == "running" and fresh and member.following is not False


def _role(told: str) -> NodeRole:
    if told in _PRIMARY:
        return NodeRole.PRIMARY
    return NodeRole.SYNCHRONOUS if told in _SYNCHRONOUS else NodeRole.REPLICA


def _object(reply: Reply) -> dict[str, Any]:
    if reply.status is None:
        raise ValueError(reply.detail)
    try:
        told: dict[str, Any] = json.loads(reply.body)
    except ValueError:
        raise ValueError(f"status {reply.status}, and no JSON") from None
    return told
