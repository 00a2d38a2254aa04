"""Requests about objects: each verb and each subresource, carried out on one cluster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from provision.lab.kube.apiserver import errors
from provision.lab.kube.apiserver.answers import encoder, json_response, list_response, page, scale_of, success, warn
from provision.lab.kube.apiserver.authentication import Authenticator, User
from provision.lab.kube.apiserver.bodies import (
    APPLY_PATCH,
    JSON_PATCH,
    apply_patch,
    conform,
    dry_run,
    read_body,
    read_delete_options,
    read_object,
)
from provision.lab.kube.apiserver.kubelets import Kubelets
from provision.lab.kube.apiserver.operations import DeleteOptions, Operations
from provision.lab.kube.apiserver.patches import json_patch, merge_patch
from provision.lab.kube.apiserver.rbac import Authorizer
from provision.lab.kube.apiserver.request import Action
from provision.lab.kube.apiserver.resources import NAMESPACES, PODS, Resource
from provision.lab.kube.apiserver.selectors import FieldSelector, LabelSelector, Selection
from provision.lab.kube.apiserver.store import Store, Stored
from provision.lab.kube.apiserver.watch import WatchOptions, serve_watch
from provision.lab.kube.objects import KubeObject, timestamp

END_OF_TIME = "2099-01-01T00:00:00Z"
"""Until when a token is good: in truth until the server ends."""


@dataclass(frozen=True, slots=True)
class Call:
    """A permitted request: `action` by `user` on `resource`."""

    http: web.Request
    user: User
    action: Action
    resource: Resource

    @property
    def namespace(self) -> str:
        """Where the objects are; "" for cluster-scoped kinds and for all namespaces."""
        return self.action.namespace if self.resource.namespaced else ""

    @property
    def dry_run(self) -> bool:
        """Whether nothing shall change."""
        return dry_run(self.http)

    def selection(self) -> Selection:
        """What a list, a watch or a deletion of many asks for. Raises ApiError 400 for a selector that is none."""
        query = self.http.query
        fields = FieldSelector.parse(query.get("fieldSelector", ""))
        return Selection(
            namespace=self.namespace or None,
            labels=LabelSelector.parse(query.get("labelSelector", "")),
            fields=fields.limited_to(self.resource.selectable_fields),
        )


class Handlers:
    """Answers calls by operations on a cluster's objects.

    A body is read before the object that it changes is looked up: while the body arrives, others may write.
    """

    def __init__(
        self,
        store: Store,
        operations: Operations,
        authenticator: Authenticator,
        authorizer: Authorizer,
        kubelets: Kubelets,
    ) -> None:
        self._store = store
        self._operations = operations
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._kubelets = kubelets

    async def answer(self, call: Call) -> web.StreamResponse:
        """Carry a call out.

        Raises:
            ApiError: it cannot be.
        """
        if not call.action.name:
            return await self._collection(call)
        if call.resource.namespaced and not call.namespace:
            raise errors.no_such_resource()
        if not call.action.subresource:
            return await self._object(call)
        if call.action.subresource not in call.resource.subresources:
            raise errors.no_such_resource()
        return await self._subresource(call)

    async def _collection(self, call: Call) -> web.StreamResponse:
        resource, http = call.resource, call.http
        match call.action.verb:
            case "list":
                try:
                    limit = int(http.query.get("limit") or 0)
                except ValueError:
                    raise errors.bad_request("limit must be a number") from None
                found = self._store.list(resource.key, call.selection())
                found, more = page(found, limit, http.query.get("continue", ""))
                return list_response(http, resource, found, self._store.revision, more)
            case "watch":
                options = WatchOptions.of(http.query)
                return await serve_watch(
                    http, self._store, resource, call.selection(), options, encoder(http, resource)
                )
            case "create":
                if resource.namespaced and not call.namespace:
                    raise errors.method_not_allowed()
                return self._create(call, await read_body(http))
            case "deletecollection":
                how = await read_delete_options(http)
                chosen = self._store.list(resource.key, call.selection())
                deleted = [self._operations.delete(resource, each, how) for each in chosen]
                return list_response(http, resource, deleted, self._store.revision)
        raise errors.method_not_allowed()

    async def _object(self, call: Call) -> web.StreamResponse:
        resource = call.resource
        match call.action.verb:
            case "get":
                return self._respond(call, self._current(call))
            case "update":
                return self._update(call, self._current(call), await read_body(call.http))
            case "patch":
                return await self._patch(call)
            case "delete":
                how = await read_delete_options(call.http)
                deleted = self._operations.delete(resource, self._current(call), how)
                if self._operations.exists(resource, deleted) or resource in (PODS, NAMESPACES):
                    return self._respond(call, deleted)
                return success(resource, deleted)
        raise errors.method_not_allowed()

    async def _patch(self, call: Call) -> web.Response:
        resource, name = call.resource, call.action.name
        body = await read_body(call.http)
        if call.http.content_type == APPLY_PATCH and self._store.get(resource.key, call.namespace, name) is None:
            self._authorizer.require(call.user, call.action.with_verb("create"))
            named = merge_patch(body, {"metadata": {"name": name}})
            return self._create(call, named)
        current = self._current(call)
        patched = apply_patch(resource, current, call.http.content_type, body)
        return self._update(call, current, patched)

    def _create(self, call: Call, obj: Any) -> web.Response:
        dropped = conform(call.http, call.resource, obj)
        created = self._operations.create(call.resource, call.namespace, obj, dry_run=call.dry_run)
        return warn(self._respond(call, created, 201), dropped)

    def _update(self, call: Call, current: Stored, obj: Any) -> web.Response:
        dropped = conform(call.http, call.resource, obj)
        updated = self._operations.update(call.resource, current, obj, dry_run=call.dry_run)
        return warn(self._respond(call, updated), dropped)

    async def _subresource(self, call: Call) -> web.StreamResponse:
        name = call.action.subresource
        match name:
            case "status" | "ephemeralcontainers":
                return await self._part(call)
            case "scale":
                return await self._scale(call)
            case "log":
                return await self._kubelets.logs(call.http, self._current(call).data)
            case "exec" | "attach" | "portforward":
                return await self._kubelets.stream(call.http, self._current(call).data, name)
        if call.action.verb != "create":
            raise errors.method_not_allowed()
        body = await read_object(call.http)
        current = self._current(call)
        match name:
            case "binding":
                self._operations.bind(current, body, dry_run=call.dry_run)
            case "eviction":
                grace_s = (body.get("deleteOptions") or {}).get("gracePeriodSeconds")
                self._operations.delete(PODS, current, DeleteOptions(grace_s=grace_s, dry_run=call.dry_run))
            case "token":
                return self._issue_token(current, body)
        return success(call.resource, current, 201)

    async def _part(self, call: Call) -> web.Response:
        """Read or write through "status" or "ephemeralcontainers", which let only a part of the object change."""
        verb, part = call.action.verb, call.action.subresource
        if verb == "get":
            return self._respond(call, self._current(call))
        if verb not in ("patch", "update"):
            raise errors.method_not_allowed()
        body = await read_body(call.http)
        current = self._current(call)
        new = body if verb == "update" else apply_patch(call.resource, current, call.http.content_type, body)
        if part == "ephemeralcontainers":
            ephemeral = (new.get("spec") or {}).get("ephemeralContainers") or []
            new = merge_patch(current.copy(), {"spec": {"ephemeralContainers": ephemeral}})
        updated = self._operations.update(call.resource, current, new, subresource=part, dry_run=call.dry_run)
        return self._respond(call, updated)

    async def _scale(self, call: Call) -> web.Response:
        verb = call.action.verb
        if verb == "get":
            return json_response(scale_of(self._current(call)))
        if verb not in ("patch", "update"):
            raise errors.method_not_allowed()
        body = await read_body(call.http)
        current = self._current(call)
        if verb == "patch":
            patch = json_patch if call.http.content_type == JSON_PATCH else merge_patch
            body = patch(scale_of(current), body)
        if not isinstance(body, dict) or not isinstance(body.get("spec"), dict):
            raise errors.bad_request("a Scale is an object with a spec")
        replicas = body["spec"].get("replicas", 0)
        if not isinstance(replicas, int) or replicas < 0:
            problem = f"Invalid value: {replicas!r}: must be greater than or equal to 0"
            raise errors.invalid("Scale", "autoscaling", call.action.name, [("spec.replicas", problem)])
        new = merge_patch(current.copy(), {"spec": {"replicas": replicas}})
        return json_response(scale_of(self._operations.update(call.resource, current, new, dry_run=call.dry_run)))

    def _issue_token(self, account: Stored, body: KubeObject) -> web.Response:
        namespace, name = account.name
        token = self._authenticator.issue_token(namespace, name)
        request = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": timestamp(datetime.now(UTC))},
            "spec": body.get("spec") or {},
            "status": {"token": token, "expirationTimestamp": END_OF_TIME},
        }
        return json_response(request, 201)

    def _current(self, call: Call) -> Stored:
        return self._operations.get(call.resource, call.namespace, call.action.name)

    def _respond(self, call: Call, stored: Stored, status: int = 200) -> web.Response:
        return json_response(encoder(call.http, call.resource)(stored), status)
