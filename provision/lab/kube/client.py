"""A small asyncio client for the Kubernetes API, and the reflector that keeps a local copy of a list up to date.

Objects are plain JSON dictionaries: the lab's components own what they read, and foreign fields must survive a
round trip. Works against the lab's API server and against a real kube-apiserver alike.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import aiohttp

from provision.lab import netns as namespaces
from provision.lab.kube.objects import KubeObject as KubeObject
from provision.lab.kube.objects import Resource as Resource

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[["Change"], None]

REQUEST_TIMEOUT_S = 30.0
REQUEST_CONNECTIONS = 8
WATCH_TIMEOUT_S = 300
_KEEPALIVE = {
    socket.TCP_SYNCNT: 2,
    socket.TCP_KEEPIDLE: 2,
    socket.TCP_KEEPINTVL: 1,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 5000,
}
"""A lost peer is noticed within about 5 s; seconds and counts, but the last is in milliseconds."""

RETRY_FIRST_S = 0.02
RETRY_MOST_S = 2.0


CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
SERVICES = Resource("", "v1", "services", "Service")
PERSISTENT_VOLUME_CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
PERSISTENT_VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
DAEMON_SETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
POD_DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")


class Patch(Enum):
    """The three patch formats; the value is the media type. Custom resources take no strategic merge."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    JSON = "application/json-patch+json"


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        code: the HTTP status; 0 when the server was not reached.
        reason: Kubernetes' word for it: "NotFound", "AlreadyExists".
        message: the server's sentence.
        request: method and path.
    """

    def __init__(self, code: int, reason: str, message: str, request: str) -> None:
        super().__init__(f"{request}: {code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.request = request


class Unauthorized(ApiError):  # noqa: N818 - Kubernetes' own names for its answers
    """401: the token is not known."""


class Forbidden(ApiError):  # noqa: N818
    """403: no role grants this to the user."""


class NotFound(ApiError):  # noqa: N818
    """404: no such object, or no such kind."""


class Conflict(ApiError):  # noqa: N818
    """409: the object has changed since it was read, or a precondition does not hold."""


class AlreadyExists(Conflict):
    """409: there is an object of this name."""


class Gone(ApiError):  # noqa: N818
    """410: the resourceVersion is older than the server remembers."""


class Invalid(ApiError):  # noqa: N818
    """422: the object breaks a rule of its kind."""


class Unreachable(ApiError):  # noqa: N818
    """No answer: the server is down, or the connection broke."""


_BY_CODE: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
}


def error_from_status(status: Mapping[str, Any], code: int, request: str) -> ApiError:
    """Turns a `Status` object, or as much of one as there is, into the error that names it."""
    code = int(status.get("code") or code)
    reason = str(status.get("reason") or "")
    kind = AlreadyExists if reason == "AlreadyExists" else _BY_CODE.get(code, ApiError)
    return kind(code, reason, str(status.get("message") or ""), request)


@dataclass(frozen=True)
class ObjectList:
    """A list as the server answered it, with the version from which to watch on."""

    items: tuple[KubeObject, ...]
    resource_version: str


class ChangeKind(Enum):
    """What happened to an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True)
class Change:
    """One change: the object as it is now (or was last, when deleted), and as it was before, if it was known."""

    kind: ChangeKind
    object: KubeObject
    previous: KubeObject | None = None


@dataclass(frozen=True)
class Bookmark:
    """Nothing has changed up to this version."""

    resource_version: str


class ApiClient:
    """One identity at one API server. Use as an async context manager, in one event loop.

    Args:
        url: "https://127.0.0.1:6443".
        ca: PEM file, or its text, with the authority that signed the server's certificate, which is always verified.
        token: bearer token.
        name: what the component calls itself in the User-Agent.
        netns: the network namespace to connect from, None for the process's own. Connections over the lab's networks
            are lost in silence when a network is cut, so they are kept under watch.
    """

    def __init__(
        self, url: str, *, ca: Path | str, token: str, name: str = "meshproof", netns: str | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._netns = netns
        self._tls = (
            ssl.create_default_context(cafile=str(ca))
            if isinstance(ca, Path)
            else ssl.create_default_context(cadata=ca)
        )
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": name, "Accept": "application/json"}
        self._requests: aiohttp.ClientSession | None = None
        self._watches: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # Watches hold their connections for minutes: in a pool of their own they cannot starve the requests.
        self._requests = self._session(REQUEST_CONNECTIONS, aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S))
        self._watches = self._session(0, aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in (self._requests, self._watches):
            if session is not None:
                await session.close()

    def _session(self, connections: int, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            ssl=self._tls,
            limit=connections,
            keepalive_timeout=60,
            socket_factory=self._open_socket if self._netns else None,
        )
        return aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers)

    def _open_socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, *_ = address
        opened = namespaces.open_socket(self._netns or "", family, kind, protocol)
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            opened.setsockopt(socket.IPPROTO_TCP, option, value)
        return opened

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> KubeObject:
        """Sends one request and returns the decoded answer.

        Raises:
            ApiError: the server refused it (a subclass tells how), or was not reached (Unreachable).
        """
        if self._requests is None:
            raise RuntimeError("the client is used as `async with ApiClient(...)`")
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {"Content-Type": content_type} if data is not None else {}
        name = f"{method} {path}"
        try:
            async with self._requests.request(
                method, self.url + path, data=data, params=query, headers=headers
            ) as response:
                raw = await response.read()
                code = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(0, "Unreachable", _describe(error), name) from error
        answer = _decode(raw)
        if code >= 400:
            raise error_from_status(answer, code, name)
        return answer

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> KubeObject:
        """Reads one object. Raises NotFound when there is none."""
        return await self.request("GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> ObjectList:
        """Reads all objects of a kind, in one namespace or in all."""
        query = _selectors(label_selector, field_selector)
        answer = await self.request("GET", resource.path(namespace), query=query)
        # Items of a list carry neither kind nor apiVersion; whoever keeps one needs both.
        identity = {"apiVersion": resource.api_version, "kind": resource.kind}
        items = tuple(identity | item for item in answer.get("items") or ())
        return ObjectList(items, answer["metadata"]["resourceVersion"])

    async def create(self, resource: Resource, obj: KubeObject) -> KubeObject:
        """Creates the object, in the namespace its metadata names. Raises AlreadyExists when the name is taken."""
        path = resource.path(obj["metadata"].get("namespace"))
        return await self.request("POST", path, body={"apiVersion": resource.api_version, "kind": resource.kind} | obj)

    async def replace(self, resource: Resource, obj: KubeObject) -> KubeObject:
        """Writes the whole object. Raises Conflict when its resourceVersion is not the newest."""
        meta = obj["metadata"]
        path = resource.path(meta.get("namespace"), meta["name"])
        return await self.request("PUT", path, body={"apiVersion": resource.api_version, "kind": resource.kind} | obj)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        kind: Patch = Patch.MERGE,
        subresource: str | None = None,
    ) -> KubeObject:
        """Changes parts of an object; `patch` is in the format that `kind` names."""
        path = resource.path(namespace, name, subresource)
        return await self.request("PATCH", path, body=patch, content_type=kind.value)

    async def patch_status(
        self, resource: Resource, name: str, status: Mapping[str, Any], namespace: str | None = None
    ) -> KubeObject:
        """Merges `status` into the object's status: keys that are not named stay, lists are replaced whole."""
        return await self.patch(resource, name, {"status": status}, namespace, subresource="status")

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        grace_seconds: int | None = None,
        uid: str | None = None,
    ) -> KubeObject:
        """Asks for an object's deletion.

        Args:
            resource: the kind.
            name: the object's name.
            namespace: its namespace, for namespaced kinds.
            grace_seconds: a pod's time to end by itself; 0 removes the object at once.
            uid: delete only if the object is still this one; else Conflict.
        """
        body: KubeObject = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        return await self.request("DELETE", resource.path(namespace, name), body=body)

    async def watch(
        self,
        resource: Resource,
        resource_version: str,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> AsyncIterator[Change | Bookmark]:
        """Yields the changes after `resource_version` until the server ends the watch.

        Raises:
            Gone: the version is too old; list again.
            ApiError: the server refused, or the connection broke (Unreachable).
        """
        if self._watches is None:
            raise RuntimeError("the client is used as `async with ApiClient(...)`")
        path = resource.path(namespace)
        query = _selectors(label_selector, field_selector) | {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_TIMEOUT_S),
        }
        name = f"WATCH {path}"
        try:
            async with self._watches.get(self.url + path, params=query) as response:
                if response.status >= 400:
                    raise error_from_status(_decode(await response.read()), response.status, name)
                async for line in _lines(response.content):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise error_from_status(event["object"], 500, name)
                    if event["type"] == "BOOKMARK":
                        yield Bookmark(event["object"]["metadata"]["resourceVersion"])
                    else:
                        yield Change(ChangeKind(event["type"]), event["object"])
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(0, "Unreachable", _describe(error), name) from error


class Reflector:
    """A local copy of a list, kept current by list and watch.

    Handlers are plain functions, called in the event loop for every change, in the order of the changes; they must not
    block, and usually put a key into a queue. After a lost watch the reflector lists again and reports the difference,
    so a handler never misses the last state of an object, though it may miss states in between.

    Attributes:
        synced: set once the first list has been handed to the handlers.
    """

    def __init__(
        self,
        client: ApiClient,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self._client = client
        self._namespace = namespace
        self._labels = label_selector
        self._fields = field_selector
        self._objects: dict[tuple[str, str], KubeObject] = {}
        self._handlers: list[Handler] = []

    def add_handler(self, handler: Handler) -> None:
        """Calls `handler` for every change from now on, and at once for each object already known, as added."""
        self._handlers.append(handler)
        for obj in tuple(self._objects.values()):
            self._call(handler, Change(ChangeKind.ADDED, obj))

    def get(self, name: str, namespace: str | None = None) -> KubeObject | None:
        """The object of that name, or None. What is returned is shared: do not change it."""
        return self._objects.get((namespace or "", name))

    def __iter__(self) -> Iterator[KubeObject]:
        return iter(tuple(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    async def run(self) -> None:
        """Follows the list until it is cancelled; a failing server is tried again, ever more slowly up to 2 s."""
        delay = RETRY_FIRST_S
        version: str | None = None
        while True:
            try:
                if version is None:
                    version = await self._list()
                    delay = RETRY_FIRST_S
                async for change in self._client.watch(
                    self.resource, version, self._namespace, label_selector=self._labels, field_selector=self._fields
                ):
                    version = self._take(change)
                    delay = RETRY_FIRST_S
                await asyncio.sleep(RETRY_FIRST_S)  # a server that ends watches at once must not make this a busy loop
            except Gone:
                version = None
            except ApiError as error:
                log.debug("%s: trying again in %.2f s", error, delay)
                if not isinstance(error, Unreachable):
                    version = None
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the clients, no secret
                delay = min(2 * delay, RETRY_MOST_S)

    async def _list(self) -> str:
        answer = await self._client.list(
            self.resource, self._namespace, label_selector=self._labels, field_selector=self._fields
        )
        fresh = {_key(obj): obj for obj in answer.items}
        for key in self._objects.keys() - fresh.keys():
            self._publish(Change(ChangeKind.DELETED, self._objects[key]))
        for key, obj in fresh.items():
            known = self._objects.get(key)
            if known is None:
                self._publish(Change(ChangeKind.ADDED, obj))
            elif _version(known) != _version(obj):
                self._publish(Change(ChangeKind.MODIFIED, obj))
        self.synced.set()
        return answer.resource_version

    def _take(self, change: Change | Bookmark) -> str:
        if isinstance(change, Bookmark):
            return change.resource_version
        self._publish(change)
        return _version(change.object)

    def _publish(self, change: Change) -> None:
        key = _key(change.object)
        previous = self._objects.pop(key, None)
        if change.kind is not ChangeKind.DELETED:
            self._objects[key] = change.object
        told = Change(change.kind, change.object, previous)
        for handler in self._handlers:
            self._call(handler, told)

    def _call(self, handler: Handler, change: Change) -> None:
        try:
            handler(change)
        except Exception:  # one handler's bug must not cost the others their events
            log.exception("handler of %s failed", self.resource.plural)


async def synced(*reflectors: Reflector) -> None:
    """Waits until every reflector has its first list."""
    for reflector in reflectors:
        await reflector.synced.wait()


def _key(obj: KubeObject) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("namespace") or "", meta["name"]


def _version(obj: KubeObject) -> str:
    version: str = obj["metadata"]["resourceVersion"]
    return version


def _selectors(labels: str | None, fields: str | None) -> dict[str, str]:
    query = {}
    if labels:
        query["labelSelector"] = labels
    if fields:
        query["fieldSelector"] = fields
    return query


def _decode(raw: bytes) -> KubeObject:
    try:
        answer = json.loads(raw)
    except ValueError:
        return {"message": raw[:200].decode(errors="replace")}
    return answer if isinstance(answer, dict) else {"message": str(answer)}


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # The stream's own line reader gives up on a line longer than its buffer; an object may be a megabyte.
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
