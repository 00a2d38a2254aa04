"""Exec, attach, port forwarding and logs: passed on to the kubelet of the pod's node.

The API server adds the question whether the caller may, and finds the node; what happens in the pod is the kubelet's.
Streams are WebSockets on both sides and are relayed frame by frame, whichever channel protocol the client speaks.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import web
from multidict import MultiMapping
from yarl import URL

from provision.lab.kube.apiserver.errors import ApiError, bad_request
from provision.lab.kube.apiserver.request import is_true
from provision.lab.kube.apiserver.resources import NODES
from provision.lab.kube.apiserver.store import Store

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
V5 = "v5.channel.k8s.io"
_STATUS_CHANNEL = b"\x03"
_ADDRESS_TYPES = ("Hostname", "InternalIP", "ExternalIP")
_KUBELET_FLAGS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
_KUBELET_PATHS = {"exec": "exec", "attach": "attach", "portforward": "portForward"}
STREAMS = frozenset(_KUBELET_PATHS)
_LOG_FLAGS = ("follow", "previous", "timestamps")
_LOG_LIMITS = ("limitBytes", "sinceSeconds", "sinceTime", "tailLines")


class Kubelets:
    """The kubelets of one cluster, as its API server talks to them: with a certificate, and verifying theirs."""

    def __init__(self, store: Store, tls: ssl.SSLContext) -> None:
        self._store = store
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections."""
        if self._session:
            await self._session.close()

    async def stream(self, request: web.Request, pod: Mapping[str, Any], subresource: str) -> web.StreamResponse:
        """Connect the client with a stream in a pod: "exec", "attach" or "portforward".

        Raises:
            ApiError: 400 when the request or the pod does not fit, 502 when the kubelet cannot be reached or refuses.
        """
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise bad_request(f"{subresource} needs a WebSocket here (kubectl 1.31 or newer), not SPDY")
        phase = pod.get("status", {}).get("phase")
        if phase in ("Succeeded", "Failed"):
            raise bad_request(f"cannot {subresource} in a completed pod; current phase is {phase}")
        options: list[tuple[str, str]] = [
            (kubelet_name, "1") for name, kubelet_name in _KUBELET_FLAGS.items() if is_true(request.query.get(name))
        ]
        options += [(name, value) for name, value in request.query.items() if name in ("command", "port")]
        container = "" if subresource == "portforward" else choose_container(pod, request.query)
        url = self._url(pod, _KUBELET_PATHS[subresource], container).with_query(options)
        offered = [
            name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if name.strip()
        ]
        try:
            kubelet = await self._open(pod, url, offered)
        except ApiError as error:
            if V5 not in offered:
                raise
            return await _refuse(request, error)
        async with kubelet:
            chosen = [kubelet.protocol] if kubelet.protocol else []
            client = web.WebSocketResponse(protocols=chosen, max_msg_size=0, compress=False, timeout=CLOSE_TIMEOUT_S)
            await client.prepare(request)
            await _connect(client, kubelet)
        return client

    async def _open(self, pod: Mapping[str, Any], url: URL, protocols: list[str]) -> aiohttp.ClientWebSocketResponse:
        try:
            return await self._client().ws_connect(
                url,
                protocols=protocols,
                ssl=self._tls,
                max_msg_size=0,
                autoclose=False,  # the answer to a close would hide its code, if the kubelet is quick to hang up
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
            )
        except aiohttp.WSServerHandshakeError as error:
            raise self._failure(pod, f"refused the stream with HTTP status {error.status}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(pod, _cause(error)) from error

    async def logs(self, request: web.Request, pod: Mapping[str, Any]) -> web.StreamResponse:
        """Pass a container's log on, to its present end or, with "follow", for as long as it grows.

        Raises:
            ApiError: what the kubelet says, or 502 when it cannot be reached.
        """
        query = request.query
        options = {name: "true" for name in _LOG_FLAGS if is_true(query.get(name))}
        options |= {name: query[name] for name in _LOG_LIMITS if name in query}
        url = self._url(pod, "containerLogs", choose_container(pod, request.query)).with_query(options)
        try:
            async with self._client().get(url, ssl=self._tls) as answer:
                if answer.status != 200:
                    text = (await answer.text()).strip()
                    raise ApiError(answer.status, "BadRequest" if answer.status == 400 else "InternalError", text)
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                return response
        except ConnectionResetError:
            raise  # the client has gone; there is nobody to tell
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(pod, _cause(error)) from error

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:  # a session belongs to the running event loop
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        return self._session

    def _url(self, pod: Mapping[str, Any], path: str, container: str) -> URL:
        metadata = pod["metadata"]
        name = pod["spec"].get("nodeName")
        if not name:
            raise bad_request(f"pod {metadata['name']} does not have a host assigned")
        node = self._store.get(NODES.key, "", name)
        if node is None:
            raise ApiError(404, "NotFound", f'nodes "{name}" not found', name=name, kind="nodes")
        status = node.data.get("status") or {}
        addresses = {each["type"]: each["address"] for each in status.get("addresses") or ()}
        host = next((addresses[kind] for kind in _ADDRESS_TYPES if kind in addresses), None)
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
        if not host or not port:
            raise self._failure(pod, "has not reported an address and a port of its kubelet")
        segments = [path, metadata["namespace"], metadata["name"], *([container] if container else [])]
        return URL.build(scheme="https", host=host, port=port, path="/" + "/".join(segments))

    def _failure(self, pod: Mapping[str, Any], what: str) -> ApiError:
        message = f"error dialing backend: kubelet of node {pod['spec']['nodeName']}: {what}"
        return ApiError(502, "InternalError", message)


def choose_container(pod: Mapping[str, Any], query: MultiMapping[str]) -> str:
    """The container that a request is about: the one it names, the annotated default, or the only one.

    Raises:
        ApiError: 400, there is no such container, or no way to choose.
    """
    metadata, spec = pod["metadata"], pod["spec"]
    main = [container["name"] for container in spec["containers"]]
    others = [each["name"] for field in ("initContainers", "ephemeralContainers") for each in spec.get(field) or ()]
    name = query.get("container") or (metadata.get("annotations") or {}).get(DEFAULT_CONTAINER)
    if name:
        if name not in main + others:
            raise bad_request(f"container {name} is not valid for pod {metadata['name']}")
        return name
    if len(main) > 1:
        raise bad_request(
            f"a container name must be specified for pod {metadata['name']}, choose one of: [{' '.join(main)}]"
        )
    return str(main[0])


def _cause(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}:{error.port}: {os.strerror(error.os_error.errno or 0)}"
    return str(error) or type(error).__name__


async def _refuse(request: web.Request, error: ApiError) -> web.WebSocketResponse:
    """Tell a client of the v5 protocol why there is no stream: on the stream's status channel.

    Real API servers do so too. After an HTTP error kubectl would try SPDY next, and show what came of that instead.
    """
    client = web.WebSocketResponse(protocols=[V5], compress=False, timeout=CLOSE_TIMEOUT_S)
    await client.prepare(request)
    await client.send_bytes(_STATUS_CHANNEL + json.dumps(error.status()).encode())
    await client.close()
    return client


async def _connect(client: web.WebSocketResponse, kubelet: aiohttp.ClientWebSocketResponse) -> None:
    """Relay both ways until either side ends; then end the other."""
    directions = [
        asyncio.create_task(_relay(client, kubelet)),
        asyncio.create_task(_relay(kubelet, client)),
    ]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in directions:
            task.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
    code = kubelet.close_code or aiohttp.WSCloseCode.OK
    await kubelet.close()
    # an abnormal end has a code that must not be sent
    lost = code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
    await client.close(code=aiohttp.WSCloseCode.INTERNAL_ERROR if lost else code)


async def _relay(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    try:
        async for message in source:
            if message.type is aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            elif message.type is aiohttp.WSMsgType.TEXT:
                await sink.send_str(message.data)
    except ConnectionResetError:
        return
