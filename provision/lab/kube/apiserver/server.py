"""One cluster's API over HTTP: who asks, what for, whether they may, and who answers."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from ipaddress import IPv4Network

from aiohttp import web

from provision.lab.kube.apiserver import discovery, errors
from provision.lab.kube.apiserver.answers import json_response
from provision.lab.kube.apiserver.authentication import Authenticator, User, acting_as
from provision.lab.kube.apiserver.bodies import read_object
from provision.lab.kube.apiserver.bootstrap import fill
from provision.lab.kube.apiserver.handlers import Call, Handlers
from provision.lab.kube.apiserver.kubelets import STREAMS, Kubelets
from provision.lab.kube.apiserver.lifecycle import Lifecycle
from provision.lab.kube.apiserver.operations import Operations
from provision.lab.kube.apiserver.protobuf import OPENAPI_V2_NOTHING
from provision.lab.kube.apiserver.rbac import Authorizer
from provision.lab.kube.apiserver.request import About, Action, read_action
from provision.lab.kube.apiserver.resources import NAMESPACES, Resource, Resources
from provision.lab.kube.apiserver.reviews import Reviewer, find_review
from provision.lab.kube.apiserver.selectors import FieldSelector
from provision.lab.kube.apiserver.services import ServiceAddresses
from provision.lab.kube.apiserver.store import Store
from provision.lab.kube.objects import KubeObject

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 3 << 20
_HEALTH_PATHS = frozenset({"healthz", "livez", "readyz"})
_OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


class ApiServer:
    """One cluster. `load` fills it, `application` serves it.

    Args:
        authenticator: knows who asks.
        kubelet_tls: how this server talks to kubelets.
        service_network: where Services get their addresses from.
        authority: PEM text of what vouches for this server, for pods to verify it by.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        kubelet_tls: ssl.SSLContext,
        service_network: IPv4Network | None = None,
        *,
        authority: str,
    ) -> None:
        self._authenticator = authenticator
        self._store = Store()
        self._resources = Resources()
        self._operations = Operations(self._store, self._resources, ServiceAddresses(self._store, service_network))
        self._authorizer = Authorizer(self._store)
        self._reviewer = Reviewer(authenticator, self._authorizer)
        self._kubelets = Kubelets(self._store, kubelet_tls)
        self._handlers = Handlers(self._store, self._operations, authenticator, self._authorizer, self._kubelets)
        Lifecycle(self._store, self._resources, self._operations, authority)

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
        application.router.add_route("*", "/{path:.*}", self._serve)
        application.on_cleanup.append(self._clean_up)
        return application

    async def _clean_up(self, _: web.Application) -> None:
        await self._kubelets.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a request; what goes wrong is answered with a Status object."""
        try:
            return await self._answer(request)
        except errors.ApiError as error:
            failure = error
        except web.HTTPRequestEntityTooLarge:
            failure = errors.ApiError(413, "RequestEntityTooLarge", f"a body may have {MAX_BODY_BYTES} bytes")
        except ConnectionResetError:
            raise  # the client has gone: there is nobody to tell
        except Exception:
            log.exception("%s %s", request.method, request.path)
            failure = errors.ApiError(500, "InternalError", "the API server failed; its log says why")
        return json_response(failure.status(), failure.code)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        user = self._user(request)
        action = read_action(request.method, request.rel_url.raw_path, request.query)
        if action.about is About.PATH:
            self._authorizer.require(user, action)
            return self._describe(request)
        selected = FieldSelector.parse(request.query.get("fieldSelector", "")).name
        self._authorizer.require(user, action if action.name else action.named(selected))
        if action.subresource in STREAMS:
            # since 1.35 a stream needs the right to create, although a WebSocket opens with GET
            self._authorizer.require(user, action.with_verb("create"))
        review = find_review(action.group, action.version, action.resource)
        if review:
            return await self._review(request, review, user)
        resource = self._resources.find(action.group, action.version, action.resource)
        if action.namespace and not resource.namespaced and resource is not NAMESPACES:
            raise errors.no_such_resource()
        return await self._handlers.answer(Call(request, user, action, resource))

    def _user(self, request: web.Request) -> User:
        """Who asks, or whom they act as (`kubectl --as`), which is a right of its own."""
        tls = request.transport.get_extra_info("ssl_object") if request.transport else None
        user = self._authenticator.authenticate(request.headers, tls)
        name = request.headers.get("Impersonate-User")
        if not name:
            return user
        groups = request.headers.getall("Impersonate-Group", [])
        for resource, target in (("users", name), *(("groups", group) for group in groups)):
            self._authorizer.require(user, Action("impersonate", About.RESOURCE, resource=resource, name=target))
        return acting_as(name, groups)

    def _describe(self, request: web.Request) -> web.Response:
        """Answer what is not about objects: health, version, discovery; of OpenAPI only that it says nothing."""
        parts = [part for part in request.path.split("/") if part]
        if parts and parts[0] in _HEALTH_PATHS:
            return web.Response(text="ok")
        match parts:
            case ["version"]:
                return json_response(discovery.version())
            case ["openapi", "v3"]:
                return json_response({"paths": {}})
            case ["openapi", "v2"]:
                return web.Response(body=OPENAPI_V2_NOTHING, content_type=_OPENAPI_V2)
        return json_response(discovery.describe(parts, self._resources))

    async def _review(self, request: web.Request, review: Resource, user: User) -> web.Response:
        if request.method != "POST":
            raise errors.method_not_allowed()
        question = await read_object(request)
        return json_response(self._reviewer.answer(review, user, question), 201)
