"""What clients get: objects and lists as JSON or as tables, and the small documents around them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from provision.lab.kube.apiserver.errors import bad_request
from provision.lab.kube.apiserver.resources import Resource
from provision.lab.kube.apiserver.store import ObjectName, Stored, encode
from provision.lab.kube.apiserver.tables import table
from provision.lab.kube.objects import KubeObject


def json_response(document: Any, status: int = 200) -> web.Response:
    """A document as the answer; bytes are JSON already."""
    body = document if isinstance(document, bytes) else encode(document)
    return web.Response(body=body, status=status, content_type="application/json")


def encoder(request: web.Request, resource: Resource) -> Callable[[Stored], bytes]:
    """How the client wants to see a single object: as it is in this version of the API, or as a table."""
    if not _wants_table(request):
        return lambda stored: stored.json_as(resource.api_version)
    include = _included(request)
    return lambda stored: encode(table(resource, [stored.data], revision=str(stored.revision), include=include))


def list_response(
    request: web.Request, resource: Resource, found: Sequence[Stored], revision: int, more: KubeObject | None = None
) -> web.Response:
    """Some objects as one list; `more` goes into the list's metadata."""
    if _wants_table(request):
        rows = [stored.data for stored in found]
        listed = table(resource, rows, revision=str(revision), include=_included(request))
        listed["metadata"] |= more or {}
        return json_response(listed)
    metadata = {"resourceVersion": str(revision)} | (more or {})
    head = encode({"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata})
    items = b",".join(stored.json_as(resource.api_version) for stored in found)  # encoded long ago, for most
    return json_response(head[:-1] + b',"items":[' + items + b"]}")


def warn(response: web.Response, unknown: Sequence[str]) -> web.Response:
    """The answer with a warning for each field that was not known, as `kubectl` prints them."""
    for path in unknown:
        response.headers.add("Warning", f'299 - "unknown field \\"{path}\\""')
    return response


def success(resource: Resource, stored: Stored, code: int = 200) -> web.Response:
    """The Status that tells of a success with an object."""
    details = {
        "name": stored.name[1],
        "group": resource.group,
        "kind": resource.plural,
        "uid": stored.data["metadata"]["uid"],
    }
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    return json_response(status | {"code": code}, code)


def scale_of(workload: Stored) -> KubeObject:
    """The Scale of a workload: how many replicas it has and wants, where it wants any."""
    data = workload.data
    replicas = data["spec"].get("replicas", 1)
    labels = ((data["spec"].get("selector") or {}).get("matchLabels") or {}).items()
    fields = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: data["metadata"][field] for field in fields},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {
            "replicas": (data.get("status") or {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels),
        },
    }


def page(found: list[Stored], limit: int, token: str) -> tuple[list[Stored], KubeObject]:
    """One page of a list, and what its metadata says about the rest.

    Args:
        found: the whole list, in order.
        limit: the most objects on a page, 0 for all.
        token: where to go on, as the former page's metadata told it; "" for the first page.

    Raises:
        ApiError: 400, the token is none of ours.
    """
    if token:
        after = _read_token(token)
        found = [stored for stored in found if stored.name > after]
    if limit <= 0 or len(found) <= limit:
        return found, {}
    last = found[limit - 1].name
    token = base64.urlsafe_b64encode(json.dumps(last).encode()).decode()
    return found[:limit], {"continue": token, "remainingItemCount": len(found) - limit}


def _read_token(token: str) -> ObjectName:
    try:
        namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError, TypeError) as error:
        raise bad_request("continue key is not valid") from error
    return str(namespace), str(name)


def _wants_table(request: web.Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def _included(request: web.Request) -> str:
    return request.query.get("includeObject", "Metadata")
