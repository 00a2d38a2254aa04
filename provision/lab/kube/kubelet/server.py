"""The node agent's HTTPS endpoint, which the API server calls: exec, attach, logs and port forwarding."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import WSMsgType, web

from provision.lab import netns
from provision.lab.kube.kubelet import channels, streams
from provision.lab.kube.kubelet.channels import Input, InputEnd, Resize
from provision.lab.kube.kubelet.containers import OUTPUT_AFTER_END_S, Container
from provision.lab.kube.kubelet.logs import LogQuery
from provision.lab.kube.kubelet.pods import Pod
from provision.lab.kube.kubelet.portforward import forward
from provision.lab.kube.kubelet.process import Process, ProcessStarter
from provision.lab.kube.kubelet.streams import Terminal

log = logging.getLogger(__name__)

LARGEST_MESSAGE_BYTES = 32 << 20
LARGEST_LINE_BYTES = 1 << 20
HEARTBEAT_S = 30.0

FindPod = Callable[[str, str], Pod | None]


def tls_context(certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """The endpoint's TLS: its own certificate, and a client certificate required from every caller."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(client_ca))
    context.load_cert_chain(str(certificate), str(key))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class NodeServer:
    """The endpoint of one node, on a loopback port.

    Args:
        find_pod: the pod of a namespace and a name on this node.
        starter: starts the processes of exec.
    """

    def __init__(self, find_pod: FindPod, starter: ProcessStarter) -> None:
        self._find_pod = find_pod
        self._starter = starter

    async def start(self, port: int, tls: ssl.SSLContext) -> None:
        """Begins to listen, until the process ends. Raises OSError when the port is taken."""
        app = web.Application()
        # GET is how a WebSocket begins; POST is what older API servers send for a stream.
        for method in ("GET", "POST"):
            app.router.add_route(method, "/exec/{namespace}/{pod}/{container}", self._exec)
            app.router.add_route(method, "/attach/{namespace}/{pod}/{container}", self._attach)
            app.router.add_route(method, "/portForward/{namespace}/{pod}", self._port_forward)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_get("/healthz", self._healthz)
        runner = web.AppRunner(
            app,
            access_log=None,
            max_line_size=LARGEST_LINE_BYTES,
            max_field_size=LARGEST_LINE_BYTES,
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        container = self._running_container(request)
        socket = await _accept(request)
        terminal = Terminal() if _flag(request, "tty") else None
        command = request.query.getall("command", [])
        launch = container.launch(
            command, stdin=_flag(request, "input"), terminal=terminal.theirs if terminal else None
        )
        assert container.process is not None
        try:
            process = await self._starter.start_in(container.process, launch)
        except OSError as error:
            if terminal is not None:
                terminal.handed_over().close()
                terminal.close()
            await socket.send_bytes(channels.failure_status(f"unable to start container process: {error}"))
            await socket.close()
            return socket
        await _Session(socket, process, terminal).run()
        return socket

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        container = self._running_container(request)
        socket = await _accept(request)
        output: asyncio.Queue[bytes] = asyncio.Queue()

        def take(stream: str, data: bytes) -> None:
            output.put_nowait(channels.frame(channels.STDOUT if stream == "stdout" else channels.STDERR, data))

        async def send() -> None:
            while True:
                await socket.send_bytes(await output.get())

        async def receive() -> None:
            async for message in _messages(socket):
                if isinstance(message, Resize) and container.terminal is not None:
                    container.terminal.resize(message.rows, message.columns)
                elif isinstance(message, Input) and container.terminal is not None:
                    container.terminal.write(message.data)
                elif isinstance(message, Input) and container.stdin is not None:
                    container.stdin.write(message.data)
                    await container.stdin.drain()
                elif isinstance(message, InputEnd) and container.stdin is not None and container.spec.get("stdinOnce"):
                    container.stdin.close()

        assert container.process is not None
        container.listeners.add(take)
        sending, receiving = asyncio.create_task(send()), asyncio.create_task(receive())
        ending = asyncio.create_task(container.ended())
        try:
            await asyncio.wait({sending, receiving, ending}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                sending.cancel()
                await asyncio.wait({sending})
                while not output.empty():
                    await socket.send_bytes(output.get_nowait())
                await socket.send_bytes(channels.exit_status(0))
                await _close(socket, receiving)
        except ConnectionError:
            log.debug("the client of an attach has gone")
        finally:
            container.listeners.discard(take)
            for task in (sending, receiving, ending):
                task.cancel()
            await asyncio.gather(sending, receiving, ending, return_exceptions=True)
        return socket

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod(request)
        container = pod.containers.get(request.match_info["container"])
        log_file = None
        if container is not None:
            log_file = container.previous_log if _flag(request, "previous") else container.log
        if log_file is None:
            which = "previous terminated container" if _flag(request, "previous") else "container"
            name = f'{which} "{request.match_info["container"]}" in pod "{request.match_info["pod"]}"'
            raise web.HTTPBadRequest(text=f"{name} has no log")
        try:
            query = _log_query(request)
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"bad log options: {error}") from None
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        async for line in log_file.read(query):
            await response.write(line)
        await response.write_eof()
        return response

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod(request)
        ports = [int(port) for value in request.query.getall("port", []) for port in value.split(",")]
        socket = await _accept(request)
        await forward(socket, ports, lambda: netns.open_socket(pod.sandbox.place.netns, 2, 1))
        return socket

    def _pod(self, request: web.Request) -> Pod:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        pod = self._find_pod(namespace, name)
        if pod is None:
            raise web.HTTPNotFound(text=f'pod "{namespace}/{name}" is not on this node')
        return pod

    def _running_container(self, request: web.Request) -> Container:
        pod = self._pod(request)
        name = request.match_info["container"]
        container = pod.containers.get(name)
        if container is None:
            raise web.HTTPNotFound(text=f'container "{name}" not found in pod "{request.match_info["pod"]}"')
        if container.process is None or not container.process.running:
            raise web.HTTPBadRequest(text=f'container "{name}" is not running')
        return container


class _Session:
    """One exec: pumps between the WebSocket and the process until either has had enough."""

    def __init__(self, socket: web.WebSocketResponse, process: Process, terminal: Terminal | None) -> None:
        self._socket = socket
        self._process = process
        self._terminal = terminal

    async def run(self) -> None:
        outputs = await self._outputs()
        receiving = asyncio.create_task(self._receive())
        ending = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait({receiving, ending}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                # What the command has left running may keep its streams open for ever.
                await asyncio.wait(outputs, timeout=OUTPUT_AFTER_END_S)
                await self._socket.send_bytes(channels.exit_status(ending.result()))
                await _close(self._socket, receiving)
        except ConnectionError:
            log.debug("the client of an exec has gone")
        finally:
            for task in (*outputs, receiving, ending):
                task.cancel()
            self._process.kill_group()
            if self._terminal is not None:
                self._terminal.close()
            await asyncio.gather(*outputs, receiving, ending, return_exceptions=True)

    async def _outputs(self) -> list[asyncio.Task[None]]:
        if self._terminal is not None:
            printed = await streams.open_reader(self._terminal.handed_over())
            return [asyncio.create_task(self._send(channels.STDOUT, printed))]
        pumps = []
        for channel, pipe in ((channels.STDOUT, self._process.stdout), (channels.STDERR, self._process.stderr)):
            assert pipe is not None
            pumps.append(asyncio.create_task(self._send(channel, await streams.open_reader(pipe))))
        return pumps

    async def _send(self, channel: int, reader: asyncio.StreamReader) -> None:
        while data := await streams.read_some(reader):
            await self._socket.send_bytes(channels.frame(channel, data))

    async def _receive(self) -> None:
        stdin = await streams.write_pipe(self._process.stdin) if self._process.stdin is not None else None
        try:
            async for message in _messages(self._socket):
                if isinstance(message, Resize) and self._terminal is not None:
                    self._terminal.resize(message.rows, message.columns)
                elif isinstance(message, Input) and self._terminal is not None:
                    self._terminal.write(message.data)
                elif isinstance(message, Input) and stdin is not None:
                    stdin.write(message.data)
                    await _drain(stdin)
                elif isinstance(message, InputEnd) and stdin is not None:
                    stdin.close()
        finally:
            if stdin is not None:
                stdin.close()


async def _close(socket: web.WebSocketResponse, receiving: asyncio.Task[None]) -> None:
    """Says goodbye properly: closed while somebody still receives, the socket would not wait for the answer."""
    receiving.cancel()
    await asyncio.wait({receiving})
    await socket.close()


async def _drain(stdin: asyncio.StreamWriter) -> None:
    try:
        await stdin.drain()
    except ConnectionError:
        stdin.close()  # the command does not read any more; it may still have something to say


async def _accept(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(
        protocols=channels.PROTOCOLS, max_msg_size=LARGEST_MESSAGE_BYTES, heartbeat=HEARTBEAT_S, compress=False
    )
    if not socket.can_prepare(request).ok:
        raise web.HTTPBadRequest(text="only WebSocket streams are served (kubectl 1.31 or newer)")
    await socket.prepare(request)
    return socket


async def _messages(socket: web.WebSocketResponse) -> AsyncIterator[Input | InputEnd | Resize]:
    async for raw in socket:
        data = raw.data.encode() if raw.type is WSMsgType.TEXT else raw.data
        message = channels.parse(data, socket.ws_protocol or channels.V4)
        if message is not None:
            yield message


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name) in ("1", "true", "True")


def _log_query(request: web.Request) -> LogQuery:
    def number(name: str) -> int | None:
        value = request.query.get(name)
        return int(value) if value else None

    since = None
    if (seconds := number("sinceSeconds")) is not None:
        since = datetime.now(UTC) - timedelta(seconds=seconds)
    elif moment := request.query.get("sinceTime"):
        since = datetime.fromisoformat(moment)
    return LogQuery(
        tail_lines=number("tailLines"),
        since=since,
        timestamps=_flag(request, "timestamps"),
        limit_bytes=number("limitBytes"),
        follow=_flag(request, "follow"),
    )
