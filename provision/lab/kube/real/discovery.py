"""Which kinds an API server serves, asked of it: what an object of a list is posted to follows from its kind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from provision.lab.kube.client import ApiClient, NotFound, Resource


@dataclass(frozen=True)
class ServedKind:
    """A kind and what it can: `verbs` of the collection, and whether its status is a resource of its own."""

    resource: Resource
    verbs: frozenset[str]
    has_status: bool


async def served_kinds(client: ApiClient, api_version: str) -> tuple[ServedKind, ...]:
    """The kinds of one group and version ("v1", "apps/v1").

    Raises:
        ApiError: it is not served (NotFound), or the server does not answer.
    """
    prefix = "apis" if "/" in api_version else "api"
    rows = (await client.request("GET", f"/{prefix}/{api_version}"))["resources"]
    group, _, version = api_version.rpartition("/")
    names = {row["name"] for row in rows}
    return tuple(
        ServedKind(
            Resource(group, version, row["name"], row["kind"], row["namespaced"]),
            frozenset(row["verbs"]),
            f"{row['name']}/status" in names,
        )
        for row in rows
        if "/" not in row["name"]
    )


async def all_served_kinds(client: ApiClient) -> tuple[ServedKind, ...]:
    """The kinds of all groups, each in the version that the server prefers."""
    groups = (await client.request("GET", "/apis"))["groups"]
    versions = ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]

    async def read(version: str) -> tuple[ServedKind, ...]:
        try:
            return await served_kinds(client, version)
        except NotFound:  # a custom group that has gone meanwhile
            return ()

    found = await asyncio.gather(*map(read, versions))
    return tuple(kind for kinds in found for kind in kinds)
