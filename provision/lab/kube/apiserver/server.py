"""The HTTP side of one cluster: who asks, whether they may, and which operation answers."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, TypeAlias

from aiohttp import web

from provision.lab.kube.apiserver import discovery, errors
from provision.lab.kube.apiserver.authentication import Authenticator, User, acting_as
from provision.lab.kube.apiserver.bootstrap import fill
from provision.lab.kube.apiserver.kubelets import Kubelets
from provision.lab.kube.apiserver.lifecycle import Lifecycle
from provision.lab.kube.apiserver.operations import DeleteOptions, Operations, timestamp
from provision.lab.kube.apiserver.patches import json_patch, merge_patch, strategic_merge_patch
from provision.lab.kube.apiserver.protobuf import MAGIC, OPENAPI_V2_NOTHING, decode_review
from provision.lab.kube.apiserver.rbac import Authorizer
from provision.lab.kube.apiserver.request import About, Action, read_action
from provision.lab.kube.apiserver.resources import NAMESPACES, PODS, SERVICE_ACCOUNTS, Resource, Resources
from provision.lab.kube.apiserver.reviews import Reviewer, find_review
from provision.lab.kube.apiserver.selectors import FieldSelector, LabelSelector, Selection
from provision.lab.kube.apiserver.services import ServiceAddresses
from provision.lab.kube.apiserver.store import Store, Stored, encode
from provision.lab.kube.apiserver.tables import table
from provision.lab.kube.apiserver.watch import WatchOptions, serve_watch

log = logging.getLogger(__name__)

KubeObject: TypeAlias = dict[str, Any]

MAX_BODY_BYTES = 3 << 20
TOKEN_LIFETIME_TEXT = "2099-01-01T00:00:00Z"  # noqa: S105 - a date: tokens end with the server
_HEALTH_PATHS = frozenset({"healthz", "livez", "readyz"})
_APPLY = "application/apply-patch+yaml"
_STRATEGIC = "application/strategic-merge-patch+json"
_OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_STREAMS = frozenset({"attach", "exec", "portforward"})


@dataclass(frozen=True, slots=True)
class _Call:
    """A request that has been understood: `action` by `user` on `resource`."""

    http: web.Request
    user: User
    action: Action
    resource: Resource

    @property
    def dry_run(self) -> bool:
        return "All" in self.http.query.getall("dryRun", [])

    @property
    def namespace(self) -> str:
        return self.action.namespace if self.resource.namespaced else ""


class ApiServer:
    """One cluster's API. `serve` is the handler of every request."""

    def __init__(
        self, authenticator: Authenticator, kubelet_tls: ssl.SSLContext, service_network: IPv4Network | None = None
    ) -> None:
        self._authenticator = authenticator
        self._store = Store()
        self._resources = Resources()
        self._operations = Operations(self._store, self._resources, ServiceAddresses(self._store, service_network))
        self._authorizer = Authorizer(self._store)
        self._reviewer = Reviewer(authenticator, self._authorizer)
        self._kubelets = Kubelets(self._store, kubelet_tls)
        Lifecycle(self._store, self._resources, self._operations)

    def load(self, objects: Iterable[KubeObject]) -> None:
        """Fill the cluster, before it is served.

        Raises:
            ApiError: an object is refused.
        """
        fill(self._operations, self._resources, objects)
        self._store.compact()

    def application(self) -> web.Application:
        """The web application to run."""
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self.serve)
        application.on_cleanup.append(self._clean_up)
        return application

    async def _clean_up(self, _: web.Application) -> None:
        await self._kubelets.close()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a request; what goes wrong is answered with a Status object."""
        try:
            return await self._answer(request)
        except errors.ApiError as error:
            failure = error
        except web.HTTPRequestEntityTooLarge:
            failure = errors.ApiError(413, "RequestEntityTooLarge", f"a body may have {MAX_BODY_BYTES} bytes")
        except ConnectionResetError:
            raise
        except Exception:
            log.exception("%s %s", request.method, request.path)
            failure = errors.ApiError(500, "InternalError", "the API server failed; its log says why")
        return _json_response(encode(failure.status()), failure.code)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        tls = request.transport.get_extra_info("ssl_object") if request.transport else None
        user = self._impersonated(request, self._authenticator.authenticate(request.headers, tls))
        action = read_action(request.method, request.path, request.query)
        if action.about is About.PATH:
            self._authorizer.require(user, action)
            return self._describe(request)
        review = find_review(action.group, action.version, action.resource)
        if review:
            self._authorizer.require(user, action)
            return await self._review(request, review, user)
        selected = FieldSelector.parse(request.query.get("fieldSelector", "")).name
        self._authorizer.require(user, action if action.name else action.named(selected))
        if action.subresource in _STREAMS:
            # since 1.35 a stream needs the right to create, although a WebSocket opens with GET
            self._authorizer.require(user, action.with_verb("create"))
        resource = self._resources.find(action.group, action.version, action.resource)
        if action.namespace and not resource.namespaced and resource is not NAMESPACES:
            raise errors.no_such_resource()
        call = _Call(request, user, action, resource)
        return await (self._object(call) if action.name else self._collection(call))

    def _impersonated(self, request: web.Request, user: User) -> User:
        """Whom the user acts as (`kubectl --as`), which is a right of its own; without such a wish, the user."""
        name = request.headers.get("Impersonate-User")
        if not name:
            return user
        groups = request.headers.getall("Impersonate-Group", [])
        for resource, target in (("users", name), *(("groups", group) for group in groups)):
            self._authorizer.require(user, Action("impersonate", About.RESOURCE, resource=resource, name=target))
        return acting_as(name, groups)

    # -- everything that is not an object ------------------------------------------------------------------------

    def _describe(self, request: web.Request) -> web.Response:
        parts = [part for part in request.path.split("/") if part]
        if parts and parts[0] in _HEALTH_PATHS:
            return web.Response(text="ok")
        match parts:
            case ["version"]:
                return _json_response(encode(discovery.version()))
            case ["openapi", "v3"]:
                return _json_response(b'{"paths":{}}')
            case ["openapi", "v2"]:
                return web.Response(body=OPENAPI_V2_NOTHING, content_type=_OPENAPI_V2)
        return _json_response(encode(discovery.describe(parts, self._resources)))

    async def _review(self, request: web.Request, review: Resource, user: User) -> web.Response:
        if request.method != "POST":
            raise errors.method_not_allowed()
        body = await request.read()
        question = decode_review(body) if body.startswith(MAGIC) else _parse(body, request.content_type)
        return _json_response(encode(self._reviewer.answer(review, user, question)), 201)

    # -- collections ---------------------------------------------------------------------------------------------

    async def _collection(self, call: _Call) -> web.StreamResponse:
        match call.action.verb:
            case "list":
                return self._list(call)
            case "watch":
                options = WatchOptions.of(call.http.query)
                return await serve_watch(
                    call.http, self._store, call.resource, _selection(call), options, self._encoder(call)
                )
            case "create":
                if call.resource.namespaced and not call.namespace:
                    raise errors.method_not_allowed()
                obj = await _body(call.http)
                stored = self._operations.create(call.resource, call.namespace, obj, dry_run=call.dry_run)
                return self._respond(call, stored, 201)
            case "deletecollection":
                options_of_delete = await _delete_options(call)
                chosen = self._store.list(call.resource.key, _selection(call))
                deleted = [self._operations.delete(call.resource, each, options_of_delete) for each in chosen]
                return self._respond_list(call, deleted)
        raise errors.method_not_allowed()

    def _list(self, call: _Call) -> web.Response:
        found = self._store.list(call.resource.key, _selection(call))
        try:
            limit = int(call.http.query.get("limit") or 0)
        except ValueError:
            raise errors.bad_request("limit must be a number") from None
        token = call.http.query.get("continue")
        if token:
            after = _read_continue(token)
            found = [stored for stored in found if stored.name > after]
        if limit <= 0 or len(found) <= limit:
            return self._respond_list(call, found)
        page = found[:limit]
        more = {"continue": _continue_after(page[-1]), "remainingItemCount": len(found) - limit}
        return self._respond_list(call, page, more)

    # -- single objects ------------------------------------------------------------------------------------------

    async def _object(self, call: _Call) -> web.StreamResponse:
        action, resource = call.action, call.resource
        if resource.namespaced and not call.namespace:
            raise errors.no_such_resource()
        if action.subresource and action.subresource not in resource.subresources:
            raise errors.no_such_resource()
        if action.verb == "patch" and not action.subresource:
            return await self._patch(call)
        current = self._operations.get(resource, call.namespace, action.name)
        match action.subresource:
            case "":
                return await self._plain_object(call, current)
            case "status" | "ephemeralcontainers":
                return await self._part(call, current)
            case "scale":
                return await self._scale(call, current)
            case "log":
                return await self._kubelets.logs(call.http, current.data)
            case "exec" | "attach" | "portforward":
                return await self._kubelets.stream(call.http, current.data, action.subresource)
        if action.verb != "create":
            raise errors.method_not_allowed()
        body = await _body(call.http)
        match action.subresource:
            case "binding":
                self._operations.bind(current, body, dry_run=call.dry_run)
            case "eviction":
                grace_s = (body.get("deleteOptions") or {}).get("gracePeriodSeconds")
                self._operations.delete(PODS, current, DeleteOptions(grace_s=grace_s, dry_run=call.dry_run))
            case "token":
                return self._issue_token(current, body)
        return _json_response(encode(_success(call, current, 201)), 201)

    async def _plain_object(self, call: _Call, current: Stored) -> web.Response:
        match call.action.verb:
            case "get":
                return self._respond(call, current)
            case "update":
                body = await _body(call.http)
                current = self._operations.get(call.resource, call.namespace, call.action.name)
                updated = self._operations.update(call.resource, current, body, dry_run=call.dry_run)
                return self._respond(call, updated)
            case "delete":
                options = await _delete_options(call)
                current = self._operations.get(call.resource, call.namespace, call.action.name)
                deleted = self._operations.delete(call.resource, current, options)
                if self._operations.exists(call.resource, deleted) or call.resource in (PODS, NAMESPACES):
                    return self._respond(call, deleted)
                return _json_response(encode(_success(call, deleted)))
        raise errors.method_not_allowed()

    async def _patch(self, call: _Call) -> web.Response:
        body = await _body(call.http)
        kind = call.http.content_type
        current = self._store.get(call.resource.key, call.namespace, call.action.name)
        if current is None and kind == _APPLY:
            self._authorizer.require(call.user, call.action.with_verb("create"))
            body.setdefault("metadata", {}).setdefault("name", call.action.name)
            created = self._operations.create(call.resource, call.namespace, body, dry_run=call.dry_run)
            return self._respond(call, created, 201)
        current = self._operations.get(call.resource, call.namespace, call.action.name)
        patched = _patched(call.resource, current, kind, body)
        return self._respond(call, self._operations.update(call.resource, current, patched, dry_run=call.dry_run))

    async def _part(self, call: _Call, current: Stored) -> web.Response:
        """Read or write through "status" or "ephemeralcontainers", which let only a part of the object change."""
        if call.action.verb == "get":
            return self._respond(call, current)
        if call.action.verb not in ("patch", "update"):
            raise errors.method_not_allowed()
        body = await _body(call.http)
        current = self._operations.get(call.resource, call.namespace, call.action.name)
        new = body if call.action.verb == "update" else _patched(call.resource, current, call.http.content_type, body)
        if call.action.subresource == "ephemeralcontainers":
            ephemeral = (new.get("spec") or {}).get("ephemeralContainers") or []
            new = merge_patch(current.copy(), {"spec": {"ephemeralContainers": ephemeral}})
        updated = self._operations.update(
            call.resource, current, new, subresource=call.action.subresource, dry_run=call.dry_run
        )
        return self._respond(call, updated)

    async def _scale(self, call: _Call, current: Stored) -> web.Response:
        if call.action.verb in ("patch", "update"):
            body = await _body(call.http)
            current = self._operations.get(call.resource, call.namespace, call.action.name)
            scale = _scale_of(current)
            if call.action.verb == "patch":
                is_json_patch = call.http.content_type == "application/json-patch+json"
                body = json_patch(scale, body) if is_json_patch else merge_patch(scale, body)
            replicas = (body.get("spec") or {}).get("replicas", 0)
            if not isinstance(replicas, int) or replicas < 0:
                raise errors.invalid("Scale", "autoscaling", call.action.name, [("spec.replicas", "must be >= 0")])
            new = merge_patch(current.copy(), {"spec": {"replicas": replicas}})
            current = self._operations.update(call.resource, current, new, dry_run=call.dry_run)
        elif call.action.verb != "get":
            raise errors.method_not_allowed()
        return _json_response(encode(_scale_of(current)))

    def _issue_token(self, account: Stored, body: KubeObject) -> web.Response:
        assert account.data["kind"] == SERVICE_ACCOUNTS.kind
        token = self._authenticator.issue_token(*account.name)
        answer = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": account.name[1], "namespace": account.name[0], "creationTimestamp": timestamp()},
            "spec": body.get("spec") or {},
            "status": {"token": token, "expirationTimestamp": TOKEN_LIFETIME_TEXT},
        }
        return _json_response(encode(answer), 201)

    # -- answers -------------------------------------------------------------------------------------------------

    def _encoder(self, call: _Call) -> Any:
        api_version = call.resource.api_version
        if not _wants_table(call.http):
            return lambda stored: stored.json_as(api_version)
        include = call.http.query.get("includeObject", "Metadata")
        return lambda stored: encode(
            table(call.resource, [stored.data], revision=str(stored.revision), include=include)
        )

    def _respond(self, call: _Call, stored: Stored, status: int = 200) -> web.Response:
        return _json_response(self._encoder(call)(stored), status)

    def _respond_list(self, call: _Call, found: list[Stored], more: KubeObject | None = None) -> web.Response:
        resource = call.resource
        revision = str(self._store.revision)
        if _wants_table(call.http):
            include = call.http.query.get("includeObject", "Metadata")
            listed = table(resource, [stored.data for stored in found], revision=revision, include=include)
            listed["metadata"] |= more or {}
            return _json_response(encode(listed))
        head = encode(
            {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": {"resourceVersion": revision} | (more or {}),
            }
        )
        items = b",".join(stored.json_as(resource.api_version) for stored in found)
        return _json_response(head[:-1] + b',"items":[' + items + b"]}")


def _json_response(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _wants_table(request: web.Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def _selection(call: _Call) -> Selection:
    query = call.http.query
    return Selection(
        namespace=call.namespace or None,
        labels=LabelSelector.parse(query.get("labelSelector", "")),
        fields=FieldSelector.parse(query.get("fieldSelector", "")).limited_to(call.resource.selectable_fields),
    )


async def _body(request: web.Request) -> Any:
    body = await request.read()
    if "protobuf" in request.content_type or body.startswith(MAGIC):
        raise errors.unsupported_media_type(
            "this server reads JSON only, not protobuf (kubectl create -f, apply, run and patch send JSON)"
        )
    return _parse(body, request.content_type)


def _parse(body: bytes, content_type: str) -> Any:
    try:
        if "yaml" in content_type:
            import yaml

            return yaml.safe_load(body)
        return json.loads(body or b"{}")
    except ValueError as error:
        raise errors.bad_request(f"the body cannot be read: {error}") from error
    except Exception as error:  # yaml's errors have no base that could be named before it is imported
        raise errors.bad_request(f"the body cannot be read: {error}") from error


async def _delete_options(call: _Call) -> DeleteOptions:
    body = (await _body(call.http) if call.http.can_read_body else None) or {}
    grace = call.http.query.get("gracePeriodSeconds", body.get("gracePeriodSeconds"))
    preconditions = body.get("preconditions") or {}
    try:
        grace_s = None if grace is None else int(grace)
    except ValueError:
        raise errors.bad_request(f"gracePeriodSeconds must be a number, not {grace!r}") from None
    return DeleteOptions(
        grace_s=grace_s,
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        dry_run=call.dry_run or "All" in (body.get("dryRun") or ()),
    )


def _patched(resource: Resource, current: Stored, content_type: str, patch: Any) -> KubeObject:
    """The object after a patch of the given media type.

    Raises:
        ApiError: 415 for a type that the resource does not take, 400 or 422 for a patch that does not fit.
    """
    before = current.copy()
    after: Any
    if content_type == "application/json-patch+json":
        after = json_patch(before, patch)
    elif not isinstance(patch, dict):
        raise errors.bad_request("a patch is a JSON object")
    elif content_type == "application/merge-patch+json":
        after = merge_patch(before, patch)
    elif content_type == _STRATEGIC and not resource.custom:
        after = strategic_merge_patch(before, patch)
    elif content_type == _APPLY:
        # without field ownership: applied fields are merged in, and none is taken away
        (patch.get("metadata") or {}).pop("managedFields", None)
        after = merge_patch(before, patch) if resource.custom else strategic_merge_patch(before, patch)
    else:
        taken = ["application/json-patch+json", "application/merge-patch+json", _APPLY]
        if not resource.custom:
            taken.append(_STRATEGIC)
        raise errors.unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(taken)}"
        )
    if not isinstance(after, dict):
        raise errors.unprocessable("the patched object is no longer an object")
    return after


def _scale_of(workload: Stored) -> KubeObject:
    data = workload.data
    labels = ((data["spec"].get("selector") or {}).get("matchLabels") or {}).items()
    fields = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: data["metadata"][field] for field in fields},
        "spec": {"replicas": data["spec"].get("replicas", 1)},
        "status": {
            "replicas": (data.get("status") or {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels),
        },
    }


def _success(call: _Call, stored: Stored, code: int = 200) -> KubeObject:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "code": code,
        "details": {
            "name": stored.name[1],
            "group": call.resource.group,
            "kind": call.resource.plural,
            "uid": stored.data["metadata"]["uid"],
        },
    }


def _continue_after(stored: Stored) -> str:
    return base64.urlsafe_b64encode(json.dumps(stored.name).encode()).decode()


def _read_continue(token: str) -> tuple[str, str]:
    try:
        namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError, TypeError) as error:
        raise errors.bad_request("continue key is not valid") from error
    return namespace, name
