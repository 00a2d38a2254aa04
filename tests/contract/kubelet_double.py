"""A kubelet for one node, without any isolation: containers are local processes. For tests of an API server only.

`python kubelet_double.py CONFIG.json` with {"server", "ca", "token", "node", "certificate", "key"}. It registers its
node, runs the pods bound to it, reports their status, and serves exec and logs to whoever shows a certificate of the
cluster's authority.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import WSMsgType, web

from provision.lab.kube.client import NODES, PODS, ApiClient, ApiError, Change, ChangeKind, Reflector

V5 = "v5.channel.k8s.io"
WEB_SOCKETS = "ExtendWebSocketsToKubelet"
PROTOCOLS = (V5, "v4.channel.k8s.io")
CLOSE = 255
STDIN, STDOUT, STDERR, STATUS = range(4)


class Container:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log = bytearray()
        self.grew = asyncio.Condition()

    async def collect(self) -> None:
        while chunk := await self.process.stdout.read(65536):
            async with self.grew:
                self.log += chunk
                self.grew.notify_all()
        await self.process.wait()
        async with self.grew:
            self.grew.notify_all()


class Kubelet:
    def __init__(self, api: ApiClient) -> None:
        self.api = api
        self.containers: dict[tuple[str, str, str], Container] = {}
        self.tasks: set[asyncio.Task] = set()
        self.known: set[str] = set()

    def react(self, change: Change) -> None:
        pod = change.object
        metadata = pod["metadata"]
        if change.kind is ChangeKind.DELETED or "deletionTimestamp" in metadata:
            self.spawn(self.stop(pod, gone=change.kind is ChangeKind.DELETED))
        elif metadata["uid"] not in self.known:
            self.known.add(metadata["uid"])
            self.spawn(self.start(pod))

    def spawn(self, coroutine) -> None:
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def start(self, pod) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for spec in pod["spec"]["containers"]:
            process = await asyncio.create_subprocess_exec(
                *spec.get("command", ["sleep", "infinity"]),
                *spec.get("args", []),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
            container = Container(process)
            self.containers[namespace, name, spec["name"]] = container
            self.spawn(container.collect())
        await self.report(pod)
        await asyncio.gather(*(each.process.wait() for each in self.of(namespace, name).values()))
        if self.of(namespace, name):
            await self.report(pod)

    def of(self, namespace: str, name: str) -> dict[str, Container]:
        return {key[2]: value for key, value in self.containers.items() if key[:2] == (namespace, name)}

    async def report(self, pod) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        containers = self.of(namespace, name)
        codes = [each.process.returncode for each in containers.values()]
        phase = "Running" if None in codes else "Failed" if any(codes) else "Succeeded"
        ready = phase == "Running"
        images = {each["name"]: each["image"] for each in pod["spec"]["containers"]}
        statuses = [
            {
                "name": each,
                "image": images[each],
                "imageID": "",
                "ready": ready,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}}
                if container.process.returncode is None
                else {"terminated": {"exitCode": container.process.returncode, "reason": "Completed"}},
            }
            for each, container in containers.items()
        ]
        conditions = [
            {"type": kind, "status": str(ready), "lastTransitionTime": now} for kind in ("ContainersReady", "Ready")
        ]
        status = {"phase": phase, "podIP": "127.0.0.1", "containerStatuses": statuses, "conditions": conditions}
        with suppress(ApiError):
            await self.api.patch_status(PODS, name, status, namespace)

    async def stop(self, pod, *, gone: bool) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for container_name, container in self.of(namespace, name).items():
            del self.containers[namespace, name, container_name]
            kill(container.process)
            await container.process.wait()
        if not gone:
            with suppress(ApiError):
                await self.api.delete(PODS, name, namespace, grace_seconds=0, uid=pod["metadata"]["uid"])

    def find(self, request: web.Request) -> Container:
        place = tuple(request.match_info[part] for part in ("namespace", "pod", "container"))
        if place not in self.containers:
            raise web.HTTPNotFound(text=f"container {'/'.join(place)} is not running")
        return self.containers[place]

    async def logs(self, request: web.Request) -> web.StreamResponse:
        container = self.find(request)
        lines = bytes(container.log).splitlines(keepends=True)
        if "tailLines" in request.query:
            count = int(request.query["tailLines"])
            lines = lines[len(lines) - count :] if count < len(lines) else lines
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        sent = len(container.log)
        await response.write(b"".join(lines))
        while request.query.get("follow") == "true":
            async with container.grew:
                while sent == len(container.log) and container.process.returncode is None:
                    await container.grew.wait()
            if sent == len(container.log):
                break
            news, sent = bytes(container.log[sent:]), len(container.log)
            await response.write(news)
        return response

    async def exec(self, request: web.Request) -> web.StreamResponse:
        self.find(request)
        socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0, compress=False)
        await socket.prepare(request)
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *request.query.getall("command"),
                stdin=pipe if "input" in request.query else asyncio.subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
            )
        except OSError as error:
            await send_status(socket, {"status": "Failure", "reason": "InternalError", "message": str(error)})
            await socket.close()
            return socket
        feeding = asyncio.create_task(feed(socket, process))
        finished = asyncio.create_task(drain(socket, process))
        try:
            await asyncio.wait({feeding, finished}, return_when=asyncio.FIRST_COMPLETED)
            if not finished.done() and feeding.done():
                kill(process)  # the client has gone
            code = await finished
            with suppress(ConnectionResetError):
                await send_status(socket, exit_status(code))
                await socket.close()
        finally:
            feeding.cancel()
        return socket


async def feed(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    async for message in socket:
        data = message.data if message.type is WSMsgType.BINARY else message.data.encode()
        if socket.ws_protocol == V5 and data[0] == CLOSE and process.stdin:
            process.stdin.close()
        elif data[0] == STDIN and process.stdin:
            with suppress(ConnectionResetError, BrokenPipeError):
                process.stdin.write(data[1:])
                await process.stdin.drain()


async def drain(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> int:
    async def pump(channel: int, stream: asyncio.StreamReader) -> None:
        with suppress(ConnectionResetError):
            while data := await stream.read(32768):
                await socket.send_bytes(bytes([channel]) + data)

    await asyncio.gather(pump(STDOUT, process.stdout), pump(STDERR, process.stderr))
    return await process.wait()


def exit_status(code: int) -> dict:
    if code == 0:
        return {"status": "Success"}
    causes = [{"reason": "ExitCode", "message": str(code)}]
    message = f"command terminated with non-zero exit code: exit status {code}"
    return {"status": "Failure", "reason": "NonZeroExitCode", "message": message, "details": {"causes": causes}}


async def send_status(socket: web.WebSocketResponse, status: dict) -> None:
    await socket.send_bytes(bytes([STATUS]) + json.dumps({"metadata": {}} | status).encode())


def kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def main(config: dict) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=config["ca"])
    tls.load_cert_chain(config["certificate"], config["key"])
    tls.verify_mode = ssl.CERT_REQUIRED
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with ApiClient(config["server"], ca=Path(config["ca"]), token=config["token"]) as api:
        kubelet = Kubelet(api)
        app = web.Application()
        app.router.add_get("/exec/{namespace}/{pod}/{container}", kubelet.exec)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", kubelet.logs)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, max_line_size=1 << 20)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "declaredFeatures": [WEB_SOCKETS],
        }
        await api.create(NODES, {"metadata": {"name": config["node"]}, "status": status})
        pods = Reflector(api, PODS, field_selector=f"spec.nodeName={config['node']}")
        pods.add_handler(kubelet.react)
        watching = asyncio.create_task(pods.run())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stopped.wait()
        for task in (watching, *kubelet.tasks):
            task.cancel()
        for container in kubelet.containers.values():
            kill(container.process)
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
