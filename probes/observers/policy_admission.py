"""What an API server says to the policies that it has, when they are offered to it once more as a dry run.

What was applied is offered where the object still says it, as `kubectl apply` makes it do: fields that the server threw
away when it came are no longer in the object itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from analysis.facts import Admission, Gap, Policies, PolicyObject
from probes.cluster import Cluster, KubeObject
from probes.errors import ApiError
from probes.mesh import Mesh

APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
OFFERED = {
    "NetworkPolicy": "networkpolicies",
    "GlobalNetworkPolicy": "globalnetworkpolicies",
    "GlobalNetworkSet": "globalnetworksets",
    "CiliumNetworkPolicy": "ciliumnetworkpolicies",
    "CiliumClusterwideNetworkPolicy": "ciliumclusterwidenetworkpolicies",
}
"""Kinds that are offered again, with the names of their collections."""

REFUSALS = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})


def offer_again(mesh: Mesh, objects: Iterable[PolicyObject]) -> Policies:
    """Offer each policy to its cluster; nothing is stored. Where nobody may, that is a gap."""
    offered = [one for one in objects if one.kind in OFFERED]
    told = mesh.each(offered, lambda one: one.region, _offer)
    gaps = {}
    admissions = []
    for one, answer in told:
        if isinstance(answer, Admission):
            admissions.append(answer)
        else:
            admissions.append(Admission(one.region, one.kind, one.namespace, one.name, None, message=str(answer)))
            gaps[one.region, one.kind] = Gap(one.region, f"dry runs of {one.kind}", str(answer), ("admissions",))
    return Policies((), (), admissions=tuple(admissions), gaps=tuple(gaps.values()))


def path_of(one: PolicyObject) -> str:
    """Where the API has that object."""
    namespace = f"/namespaces/{one.namespace}" if one.namespace else ""
    return f"/apis/{one.api_version}{namespace}/{OFFERED[one.kind]}/{one.name}"


def _offer(cluster: Cluster, one: PolicyObject) -> Admission:
    """Raises ApiError when it cannot be asked."""
    stored: KubeObject = json.loads(one.document)
    offered = _as_applied(stored)
    try:
        came_back = cluster.update(path_of(one), offered, dryRun="All", fieldValidation="Strict")
    except ApiError as error:
        if error.status not in REFUSALS:
            raise
        return Admission(one.region, one.kind, one.namespace, one.name, accepted=False, message=error.reason)
    dropped = tuple(lost(offered.get("spec"), came_back.get("spec"), "spec"))
    return Admission(one.region, one.kind, one.namespace, one.name, accepted=True, dropped=dropped)


def _as_applied(stored: KubeObject) -> KubeObject:
    """What its owner applied, as far as the object says it, else the object itself."""
    metadata = stored["metadata"]
    try:
        applied = json.loads((metadata.get("annotations") or {})[APPLIED])
    except (KeyError, ValueError):
        return stored
    return {**applied, "metadata": metadata}


def lost(offered: object, came_back: object, path: str) -> Iterator[str]:
    """Fields of what was offered that did not come back, as dotted paths."""
    if isinstance(offered, Mapping):
        there: Mapping[str, Any] = came_back if isinstance(came_back, Mapping) else {}
        for key, value in offered.items():
            if key not in there:
                if value not in (None, [], {}, ""):
                    yield f"{path}.{key}"
            else:
                yield from lost(value, there[key], f"{path}.{key}")
    elif isinstance(offered, list) and isinstance(came_back, list):
        for place, (one, other) in enumerate(zip(offered, came_back, strict=False)):
            yield from lost(one, other, f"{path}[{place}]")
