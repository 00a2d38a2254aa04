"""Doubles of a pod and of an API server.

In the double of a pod the agent runs as it does in a real one, started by the same boot code, but on this machine's
loopback. The double of an API server speaks HTTP and WebSocket on loopback.
"""

import asyncio
import json
import secrets
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from aiohttp import WSMsgType, web

from analysis.fleet import Capability, ClusterHandle, Fleet
from probes.client import run_agent
from probes.cluster import Cluster, Completed
from probes.errors import ApiError
from probes.mesh import Mesh
from provision.lab.topology import aws_calico

WITHIN = timedelta(seconds=10)


class LocalPod:
    """Runs commands as processes of this machine; `prefix` goes before each of them."""

    def __init__(self, *prefix: str) -> None:
        self.prefix = prefix
        self.execs = 0
        self.retries = 0

    def exec(self, namespace, pod, command, *, within, stdin=b"", container=None):
        self.execs += 1
        argv = [*self.prefix, sys.executable if command[0] == "python3" else command[0], *command[1:]]
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=within.total_seconds())
        return Completed(done.returncode, done.stdout, done.stderr)

    def run(self, *operations, within=WITHIN, control=None):
        return run_agent(self, "meshproof", "pod", list(operations), within=within, control=control)

    def probe(self, kind, *targets, within=WITHIN, **options):
        """One batch; its rows as dictionaries."""
        options = {"timeout": 2.0, **options}
        run = self.run({"op": "probe", "batches": [{"kind": kind, "targets": list(targets), **options}]}, within=within)
        return rows(run.operations[0]["batches"][0])


def rows(batch):
    columns = {
        name: column["values"] * batch["count"]
        if column["index"] is None
        else [column["values"][place] for place in column["index"]]
        for name, column in batch["columns"].items()
    }
    columns["rtt_us"] = batch["rtt_us"]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.fixture
def pod():
    return LocalPod()


@pytest.fixture
def make_pod():
    return LocalPod


@pytest.fixture
def listeners(pod):
    """A pod's listeners on loopback, on ports that were free; stopped at the end."""
    name = f"test-{secrets.token_hex(6)}"
    operation = {
        "op": "listen",
        "name": name,
        "identity": "east/alpha",
        "address": "127.0.0.1",
        "tcp": [0],
        "udp": [0],
        "sink": [0],
        "life": 30,
    }
    state = pod.run(operation).operations[0]
    yield {"name": name, "operation": operation, **{kind: ports[0] for kind, ports in state["ports"].items()}}
    pod.run({"op": "stop", "name": name})


class ApiDouble:
    """Serves `objects` by path; `behave` plays the command of an exec: an async function of the socket and stdin."""

    def __init__(self, protocols=("v5.channel.k8s.io", "v4.channel.k8s.io")):
        self.protocols = protocols
        self.objects = {}
        self.answers = {}  # path -> list of (status, body) to give first
        self.requests = []
        self.execs = []
        self.exec_status = 101
        self.behave = finish(0)
        self.offered = None

    async def rest(self, request):
        self.requests.append((request.method, request.path))
        if self.answers.get(request.path):
            status, body = self.answers[request.path].pop(0)
            return web.json_response(body, status=status)
        found = self.objects.get(request.path)
        if found is None:
            return web.json_response({"kind": "Status", "message": f"{request.path} not found"}, status=404)
        return web.json_response(found(await request.json()) if callable(found) else found)

    async def exec(self, request):
        self.execs.append((request.match_info["pod"], request.query.getall("command")))
        self.offered = request.headers.get("Sec-WebSocket-Protocol")
        if self.exec_status != 101:
            return web.json_response({"kind": "Status", "message": "exec is not possible"}, status=self.exec_status)
        socket = web.WebSocketResponse(protocols=self.protocols)
        await socket.prepare(request)
        await self.behave(socket)
        return socket

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()

        async def start():
            app = web.Application()
            app.router.add_get("/api/v1/namespaces/{namespace}/pods/{pod}/exec", self.exec)
            app.router.add_route("*", "/{path:.*}", self.rest)
            self.runner = web.AppRunner(app, shutdown_timeout=0)
            await self.runner.setup()
            site = web.TCPSite(self.runner, "127.0.0.1", 0)
            await site.start()
            self.port = site._server.sockets[0].getsockname()[1]
            ready.set()

        def serve():
            self.loop.run_until_complete(start())
            self.loop.run_forever()
            self.loop.run_until_complete(self.runner.cleanup())
            self.loop.close()

        self.thread = threading.Thread(target=serve)
        self.thread.start()
        ready.wait(5)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def handle(self, folder, region="us-east-1"):
        """A kubeconfig for it."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "u", "user": {"token": "secret-token"}}],
            "contexts": [{"name": region, "context": {"cluster": "c", "user": "u"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return ClusterHandle(region, str(path), region)


async def read_stdin(socket, size):
    """That many bytes of standard input."""
    data = b""
    while len(data) < size:
        message = await socket.receive(timeout=5)
        assert message.type is WSMsgType.BINARY
        assert message.data[0] == 0
        data += message.data[1:]
    return data


def success():
    return {"metadata": {}, "status": "Success"}


def exit_status(code):
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}, "message": "exit code"}


def finish(code, stdout=b"", stderr=b"", frame=1 << 20):
    """A command that says this and ends."""

    async def behave(socket):
        for channel, data in ((1, stdout), (2, stderr)):
            for start in range(0, len(data), frame):
                await socket.send_bytes(bytes([channel]) + data[start : start + frame])
        status = json.dumps(success() if code == 0 else exit_status(code)).encode()
        for start in range(0, len(status), frame):
            await socket.send_bytes(b"\x03" + status[start : start + frame])
        await socket.close()

    return behave


ApiDouble.finish = staticmethod(finish)
ApiDouble.read_stdin = staticmethod(read_stdin)


@pytest.fixture
def make_api():
    """The class, with what plays a command: `ApiDouble.finish` and `ApiDouble.read_stdin`."""
    return ApiDouble


class RecordedCluster:
    """A cluster whose lists are given; execs go to a double of a pod, or to `told` by pod name."""

    def __init__(self, region, collections=None, told=None, groups=("crd.projectcalico.org",)):
        self.region = region
        self.collections = collections or {}
        self.told = told or {}
        self.groups = groups
        self.created, self.deleted, self.reviews = [], [], []
        self.denied = set()
        self.denied_in = set()  # with the namespace
        self.retries = 0
        self.local = LocalPod()

    def get(self, path, **query):
        if path == "/apis":
            return {"groups": [{"name": name} for name in self.groups]}
        found = self.collections.get(path)
        if found is None:
            raise ApiError(self.region, f"GET {path}", 404, "not found")
        if isinstance(found, ApiError):
            raise found
        return found

    has_namespace = Cluster.has_namespace

    def items(self, path, **query):
        found = self.get(path)
        wanted = dict(term.split("=") for term in query.get("labelSelector", "").split(",") if term)
        return [item for item in found if wanted.items() <= (item["metadata"].get("labels") or {}).items()]

    def create(self, path, body):
        if path.endswith("selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            subresource = f"/{asked['subresource']}" if "subresource" in asked else ""
            question = (asked["verb"], asked["resource"] + subresource)
            denied = question in self.denied or (*question, asked.get("namespace")) in self.denied_in
            return {"status": {"allowed": not denied}}
        self.created.append((path, body))
        if path.endswith("/services"):
            ports = [{**port, "nodePort": 30000 + number} for number, port in enumerate(body["spec"]["ports"])]
            return {**body, "spec": {**body["spec"], "ports": ports}}
        body["metadata"].setdefault("uid", f"uid-{len(self.created)}")
        if path.endswith("/pods"):
            address = f"127.0.{abs(hash(self.region)) % 200 + 1}.{len(self.created)}"
            self.collections.setdefault(path, []).append({**body, "status": running(address)})
        return body

    def delete(self, path, *, grace_seconds=0):
        self.deleted.append(path)

    def watch(self, path, *, within, **query):
        for item in self.items(path, **query):
            yield "ADDED", item

    def exec(self, namespace, pod, command, *, within, stdin=b"", container=None):
        told = self.told.get(pod)
        if isinstance(told, Exception):
            raise told
        if told is not None:
            return Completed(0, told.encode(), b"")
        return self.local.exec(namespace, pod, command, within=within, stdin=stdin)

    def close(self):
        pass


def running(address):
    return {
        "phase": "Running",
        "podIP": address,
        "containerStatuses": [{"name": "probe", "ready": True, "state": {"running": {}}}],
    }


class RecordedMesh(Mesh):
    """A mesh of recorded clusters."""

    def __init__(self, fleet, *clusters):
        super().__init__(fleet, f"20261122T090000Z-test-{secrets.token_hex(3)}")
        self.recorded = {cluster.region: cluster for cluster in clusters}

    def cluster(self, region):
        return self.recorded[region]


@pytest.fixture
def make_cluster():
    return RecordedCluster


@pytest.fixture
def make_mesh():
    """A mesh of two regions of the lab's plan, made of recorded clusters."""
    meshes = []

    def make(*clusters, capabilities=(Capability.BGP, Capability.NODE_PROBES)):
        plan = aws_calico("unit", regions=2).plan
        handles = tuple(ClusterHandle(cluster.region, "unused", cluster.region) for cluster in clusters)
        mesh = RecordedMesh(Fleet(plan, "test", handles, frozenset(capabilities)), *clusters)
        meshes.append(mesh)
        return mesh

    yield make
    for mesh in meshes:
        mesh.close()
