"""Tunnels: doors on the runner's loopback that come out in a region's probe pod, one exec for each connection.

In the pod a small relay (`probes/database/relay.py`) resolves the name, connects, and copies bytes. It ends with its
standard input, so nothing stays behind when the runner dies.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import websocket

from probes.cluster import STATUS, STDERR, STDIN, STDOUT, exit_code
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ExecFailed, ProbeError
from probes.mesh import Mesh

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16
OPEN_WITHIN = timedelta(seconds=10)
"""For the exec to open; the relay then has as long again to connect."""

STALL_AT_MOST = timedelta(seconds=10)
"""How long either end may refuse to take what the other has sent."""

IDLE_AT_MOST = timedelta(minutes=5)
"""After so long without a byte, a relay ends by itself."""

BOOT = "import os\nb=b''\nwhile len(b)<{size}:b+=os.read(0,{size}-len(b))or os._exit(1)\nexec(b)"
"""Reads the relay from standard input, and not a byte more: what follows is already the client's."""

Door = tuple[str, str, int]
"""Region, host and port."""


class Tunnels:
    """The `Dialer` that goes through probe pods, or straight to the addresses that the environment names.

    One thread for each door and one for each connection, all of which end with `close`.
    """

    def __init__(self, mesh: Mesh, probe_set: ProbeSet) -> None:
        self._mesh = mesh
        self._namespace = probe_set.namespace
        pods: defaultdict[str, list[ProbePod]] = defaultdict(list)
        for pod in probe_set.on_pods():
            pods[pod.region].append(pod)
        self._pods = {region: cycle(there) for region, there in pods.items()}
        access, database = mesh.fleet.database, mesh.fleet.plan.database
        self._sql_port = database.sql_port if database else 0
        self._addresses = {region: (host, port) for region, host, port in access.addresses} if access else {}
        self._doors: dict[Door, socket.socket] = {}
        self._problems: dict[Door, str] = {}
        self._near: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def door(self, region: str, host: str, port: int) -> tuple[str, int]:
        """See `Dialer.door`. Where the environment names an address for SQL, that is the door.

        Raises:
            OSError: that address is a name, and cannot be resolved here.
        """
        if port == self._sql_port and region in self._addresses:
            named, at = self._addresses[region]
            return socket.gethostbyname(named), at
        door = (region, host, port)
        with self._lock:
            if door not in self._doors:
                listener = socket.create_server((LOOPBACK, 0), backlog=64)
                self._doors[door] = listener
                self._spawn(self._welcome, door, listener)
            return LOOPBACK, self._doors[door].getsockname()[1]

    def last_problem(self, region: str, host: str, port: int) -> str:
        """See `Dialer.last_problem`."""
        return self._problems.get((region, host, port), "")

    def close(self) -> None:
        """See `Dialer.close`."""
        with self._lock:
            doors, self._doors = self._doors, {}
            for listener in doors.values():
                _end(listener)
            for near in self._near:
                _end(near)
            threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(OPEN_WITHIN.total_seconds())

    def _spawn(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, name="tunnel", daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()] + [thread]
        thread.start()

    def _welcome(self, door: Door, listener: socket.socket) -> None:
        """Take connections at a door until it is closed."""
        with listener:
            while True:
                try:
                    near, _ = listener.accept()
                except OSError:
                    return
                with self._lock:
                    if self._doors.get(door) is not listener:
                        near.close()
                        return
                    self._near.add(near)
                    self._spawn(self._serve, door, near)

    def _serve(self, door: Door, near: socket.socket) -> None:
        """Carry one connection to its end; both of its sides end together."""
        try:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            near.settimeout(STALL_AT_MOST.total_seconds())
            stream = self._start_relay(door)
            try:
                self._problems[door] = self._carry(door, near, stream)
            finally:
                stream.shutdown()
        except websocket.WebSocketTimeoutException:
            self._problems[door] = f"nothing was taken for {STALL_AT_MOST.total_seconds():g} s"
        except (ProbeError, websocket.WebSocketException, OSError) as error:
            self._problems[door] = str(error) or type(error).__name__
        finally:
            with self._lock:
                self._near.discard(near)
                near.close()

    def _start_relay(self, door: Door) -> Any:
        region, host, port = door
        if region not in self._pods:
            raise ProbeError(f"no probe pod runs in {region}")
        with self._lock:
            pod = next(self._pods[region])
        program = _relay()
        options = [host, str(port), f"{OPEN_WITHIN.total_seconds():g}", f"{IDLE_AT_MOST.total_seconds():.0f}"]
        command = ["python3", "-ISc", BOOT.format(size=len(program)), *options]
        stream = self._mesh.cluster(region).start(self._namespace, pod.name, command, within=OPEN_WITHIN)
        stream.settimeout(STALL_AT_MOST.total_seconds())
        stream.send_binary(bytes([STDIN]) + program)
        return stream

    def _carry(self, door: Door, near: socket.socket, stream: Any) -> str:
        """Copy both ways until one side ends. Why the far one did; "" when it was the near one, or for no reason."""
        told = {STDERR: bytearray(), STATUS: bytearray()}
        ends = select.poll()
        ends.register(near, select.POLLIN)
        ends.register(stream.sock, select.POLLIN)
        while True:
            for descriptor, _ in ends.poll():
                if descriptor == near.fileno():
                    said = near.recv(CHUNK)
                    if not said:
                        return ""
                    stream.send_binary(bytes([STDIN]) + said)
                elif not self._hear(door, near, stream, told):
                    return _reason(bytes(told[STDERR]), bytes(told[STATUS]))

    def _hear(self, door: Door, near: socket.socket, stream: Any, told: dict[int, bytearray]) -> bool:
        """Pass on what has come from the pod; False at its end."""
        while True:
            opcode, frame = stream.recv_data_frame(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return False
            if opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and len(frame.data) > 1:
                channel, data = frame.data[0], frame.data[1:]
                if channel == STDOUT:
                    self._problems[door] = ""
                    near.sendall(data)
                else:
                    told.get(channel, bytearray()).extend(data)
            if not (isinstance(stream.sock, ssl.SSLSocket) and stream.sock.pending()):
                return True  # what TLS has decrypted already is not announced by poll


@cache
def _relay() -> bytes:
    return Path(__file__).with_name("relay.py").read_bytes()


def _reason(said: bytes, status: bytes) -> str:
    """Why a relay ended."""
    try:
        code = exit_code(status)
    except ExecFailed as error:
        return str(error)
    words = said.decode("utf-8", "replace").strip()
    return (words or f"the relay ended with {code}") if code else ""


def _end(end: socket.socket) -> None:
    """Wake whoever waits for that socket: closing it would not."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
