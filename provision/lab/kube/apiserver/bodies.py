"""What clients send: objects, patches and options, in the formats that the API takes."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from provision.lab.kube.apiserver import errors, protobuf
from provision.lab.kube.apiserver.operations import DeleteOptions
from provision.lab.kube.apiserver.patches import json_patch, merge_patch, strategic_merge_patch
from provision.lab.kube.apiserver.resources import Resource
from provision.lab.kube.apiserver.schemas import check, prune
from provision.lab.kube.apiserver.store import Stored
from provision.lab.kube.objects import KubeObject

APPLY_PATCH = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"


async def read_body(request: web.Request) -> Any:
    """The body of a request, decoded; an empty one is an empty object.

    Raises:
        ApiError: 400 when it cannot be read, 415 when the server does not read such a format.
    """
    body = await request.read()
    if body.startswith(protobuf.MAGIC):
        return protobuf.decode(body)
    try:
        if "yaml" in request.content_type:
            return _load_yaml(body)
        return json.loads(body or b"{}")
    except ValueError as error:
        raise errors.bad_request(f"the body cannot be read: {error}") from error


async def read_object(request: web.Request) -> KubeObject:
    """The same, for requests that only an object makes sense for. Raises ApiError 400 for anything else."""
    body = await read_body(request)
    if not isinstance(body, dict):
        raise errors.bad_request("the body must be an object")
    return body


def _load_yaml(body: bytes) -> Any:
    import yaml  # only apply patches need it: the server starts faster without

    try:
        return yaml.safe_load(body)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def conform(request: web.Request, resource: Resource, body: Any) -> list[str]:
    """Take out of a custom object what its kind's schema does not know, as `fieldValidation` asks for.

    Returns:
        The fields that are gone and that the client is to be warned of.

    Raises:
        ApiError: 400, there are such fields and the client is strict; 422, a value is not what the schema says.
    """
    if resource.schema is None or not isinstance(body, dict):
        return []
    dropped = prune(resource.schema, body)
    how = request.query.get("fieldValidation", "Warn")
    if dropped and how == "Strict":
        unknown = ", ".join(f'unknown field "{path}"' for path in dropped)
        raise errors.bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"strict decoding error: {unknown}"
        )
    if causes := check(resource.schema, body):
        name = (body.get("metadata") or {}).get("name") or ""
        raise errors.invalid(resource.kind, resource.group, name, causes)
    return dropped if how == "Warn" else []


def dry_run(request: web.Request) -> bool:
    """Whether the request only asks what would happen."""
    return "All" in request.query.getall("dryRun", [])


async def read_delete_options(request: web.Request) -> DeleteOptions:
    """How to delete, from the query and the body of a DELETE.

    Raises:
        ApiError: 400.
    """
    body = await read_object(request) if request.can_read_body else {}
    grace = request.query.get("gracePeriodSeconds", body.get("gracePeriodSeconds"))
    preconditions = body.get("preconditions") or {}
    try:
        grace_s = None if grace is None else int(grace)
    except (TypeError, ValueError):
        raise errors.bad_request(f"gracePeriodSeconds must be a number, not {grace!r}") from None
    return DeleteOptions(
        grace_s=grace_s,
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        dry_run=dry_run(request) or "All" in (body.get("dryRun") or ()),
    )


def apply_patch(resource: Resource, current: Stored, content_type: str, patch: Any) -> KubeObject:
    """The object after a patch of the given media type.

    Raises:
        ApiError: 415 for a type that the resource does not take, 400 or 422 for a patch that does not fit.
    """
    before = current.copy()
    after: Any
    if content_type == JSON_PATCH:
        after = json_patch(before, patch)
    elif not isinstance(patch, dict):
        raise errors.bad_request("a patch is a JSON object")
    elif content_type == MERGE_PATCH:
        after = merge_patch(before, patch)
    elif content_type == STRATEGIC_PATCH and not resource.custom:
        after = strategic_merge_patch(before, patch)
    elif content_type == APPLY_PATCH:
        # without field ownership: applied fields are merged in, and none is taken away
        (patch.get("metadata") or {}).pop("managedFields", None)
        after = merge_patch(before, patch) if resource.custom else strategic_merge_patch(before, patch)
    else:
        taken = [JSON_PATCH, MERGE_PATCH, APPLY_PATCH, *(() if resource.custom else (STRATEGIC_PATCH,))]
        raise errors.unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(taken)}"
        )
    if not isinstance(after, dict):
        raise errors.unprocessable("the patched object is no longer an object")
    return after
