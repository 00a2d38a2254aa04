"""Tunnels: doors on the runner's loopback that come out in a region's probe pod.

In the pod a small relay (`probes/database/relay.py`) resolves names, connects, and copies bytes; all connections of a
region share it, and with it one exec. It ends with its standard input, so nothing stays behind when the runner dies.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import websocket

from probes.cluster import STATUS, STDERR, STDIN, STDOUT, exit_code
from probes.database.relay import DATA, END, FRAME, OPEN
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ExecFailed, ProbeError
from probes.mesh import Mesh

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 15
WITHIN = timedelta(seconds=10)
"""For an exec to open, for a connection in the pod to come about, and for either end to take what the other said."""

IDLE_AT_MOST = timedelta(minutes=5)
"""After so long without a word from here, a relay ends by itself."""

PING_EVERY = timedelta(seconds=20)
"""Load balancers forget connections that carry nothing, the earliest after a minute."""

BOOT = "import os\nb=b''\nwhile len(b)<{size}:b+=os.read(0,{size}-len(b))or os._exit(1)\nexec(b)"
"""Reads the relay from standard input, and not a byte more: what follows are frames already."""

Place = tuple[str, int]
"""Host and port, as they are called in the region."""


class Tunnels:
    """The `Dialer` that goes through probe pods, or straight to the addresses that the environment names."""

    def __init__(self, mesh: Mesh, probe_set: ProbeSet) -> None:
        self._mesh = mesh
        self._probe_set = probe_set
        access, database = mesh.fleet.database, mesh.fleet.plan.database
        self._sql_port = database.sql_port if database else 0
        self._addresses = {region: (host, port) for region, host, port in access.addresses} if access else {}
        self._tunnels: dict[str, _Tunnel] = {}
        self._lock = threading.Lock()

    def door(self, region: str, host: str, port: int) -> tuple[str, int]:
        """See `Dialer.door`. Where the environment names an address for SQL, that is the door.

        Raises:
            OSError: that address is a name, and cannot be resolved here.
        """
        if port == self._sql_port and region in self._addresses:
            named, at = self._addresses[region]
            return socket.gethostbyname(named), at
        with self._lock:
            if region not in self._tunnels:
                pods = [pod for pod in self._probe_set.on_pods() if pod.region == region]
                self._tunnels[region] = _Tunnel(self._mesh, region, pods)
            return self._tunnels[region].door((host, port))

    def last_problem(self, region: str, host: str, port: int) -> str:
        """See `Dialer.last_problem`."""
        tunnel = self._tunnels.get(region)
        return tunnel.problems[host, port] if tunnel else ""

    def close(self) -> None:
        """See `Dialer.close`."""
        with self._lock:
            tunnels, self._tunnels = self._tunnels, {}
        for tunnel in tunnels.values():
            tunnel.close()


class _Tunnel(threading.Thread):
    """All doors into one region, and one relay there. A single thread carries everything.

    Attributes:
        problems: why the last connection to each place did not come about, or broke.
    """

    def __init__(self, mesh: Mesh, region: str, pods: list[ProbePod]) -> None:
        super().__init__(name=f"tunnel-{region}", daemon=True)
        self.problems: defaultdict[Place, str] = defaultdict(str)
        self._mesh = mesh
        self._region = region
        self._pods = cycle(pods) if pods else None
        self._doors: dict[Place, socket.socket] = {}
        self._ends = selectors.DefaultSelector()
        self._near: dict[int, tuple[Place, socket.socket]] = {}
        self._count = 0
        self._stream: Any = None
        self._wire: socket.socket | None = None
        self._heard: dict[int, bytearray] = {}
        self._waker, woken = socket.socketpair()
        self._ends.register(woken, selectors.EVENT_READ, None)
        self.start()

    def door(self, place: Place) -> tuple[str, int]:
        """Address and port of the door to that place; called by one thread at a time."""
        if place not in self._doors:
            listener = socket.create_server((LOOPBACK, 0), backlog=64)
            self._doors[place] = listener
            self._ends.register(listener, selectors.EVENT_READ, place)
        return LOOPBACK, int(self._doors[place].getsockname()[1])

    def close(self) -> None:
        """Close everything, and wait until that is done."""
        self._waker.close()
        self.join(2 * WITHIN.total_seconds())

    def run(self) -> None:
        """Carry until the waker is closed."""
        while True:
            events = self._ends.select(PING_EVERY.total_seconds())
            if any(key.data is None for key, _ in events):
                break
            try:
                if not events and self._stream is not None:
                    self._stream.ping()
                for key, _ in events:
                    self._attend(key)
            except (websocket.WebSocketException, OSError) as error:
                self._lose(f"the way into {self._region} broke: {error}")
        self._lose("")
        for listener in self._doors.values():
            listener.close()
        self._ends.close()

    def _attend(self, key: selectors.SelectorKey) -> None:
        """Something came: at a door, from a client, or from the relay."""
        if isinstance(key.data, tuple):
            self._welcome(key.data, self._doors[key.data])
        elif isinstance(key.data, int):
            self._from_client(key.data)
        elif key.data is self._stream:
            self._from_relay()

    def _welcome(self, place: Place, door: socket.socket) -> None:
        near, _ = door.accept()
        near.settimeout(WITHIN.total_seconds())
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._stream is None:
                self._start_relay()
        except (ProbeError, websocket.WebSocketException, OSError) as error:
            self.problems[place] = str(error)
            near.close()
            return
        self.problems[place] = ""
        self._count += 1
        self._near[self._count] = place, near
        self._ends.register(near, selectors.EVENT_READ, self._count)
        self._tell(self._count, OPEN, f"{place[1]} {place[0]}".encode())

    def _from_client(self, number: int) -> None:
        if number not in self._near:
            return  # it has ended meanwhile
        try:
            said = self._near[number][1].recv(CHUNK)
        except OSError:
            said = b""
        if said:
            self._tell(number, DATA, said)
        else:
            self._drop(number)
            self._tell(number, END, b"")

    def _from_relay(self) -> None:
        """Pass on what has come from the pod."""
        while True:
            opcode, frame = self._stream.recv_data_frame(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                self._lose(_reason(bytes(self._heard[STDERR]), bytes(self._heard[STATUS])))
                return
            if opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and len(frame.data) > 1:
                self._heard.get(frame.data[0], bytearray()).extend(frame.data[1:])
            if not (isinstance(self._stream.sock, ssl.SSLSocket) and self._stream.sock.pending()):
                break  # what TLS has decrypted already is not announced by the selector
        for number, kind, data in _frames(self._heard[STDOUT]):
            if number in self._near:
                self._to_client(number, kind, data)

    def _to_client(self, number: int, kind: int, data: bytes) -> None:
        place, near = self._near[number]
        self.problems[place] = data.decode("utf-8", "replace") if kind == END else ""
        if kind == DATA:
            try:
                near.sendall(data)
                return
            except OSError:
                self._tell(number, END, b"")
        self._drop(number)

    def _tell(self, number: int, kind: int, data: bytes) -> None:
        self._stream.send_binary(bytes([STDIN]) + FRAME.pack(number, kind, len(data)) + data)

    def _drop(self, number: int) -> None:
        _, near = self._near.pop(number)
        self._ends.unregister(near)
        near.close()

    def _start_relay(self) -> None:
        if self._pods is None:
            raise ProbeError(f"no probe pod runs in {self._region}")
        pod, program = next(self._pods), _relay()
        options = [f"{WITHIN.total_seconds():g}", f"{IDLE_AT_MOST.total_seconds():.0f}"]
        command = ["python3", "-ISc", BOOT.format(size=len(program)), *options]
        stream = self._mesh.cluster(self._region).start(pod.namespace, pod.name, command, within=WITHIN)
        stream.settimeout(WITHIN.total_seconds())
        stream.send_binary(bytes([STDIN]) + program)
        self._heard = {STDOUT: bytearray(), STDERR: bytearray(), STATUS: bytearray()}
        self._stream, self._wire = stream, stream.sock
        self._ends.register(stream.sock, selectors.EVENT_READ, stream)

    def _lose(self, problem: str) -> None:
        """The relay is gone, and with it every connection; the next one starts another."""
        for number in tuple(self._near):
            self.problems[self._near[number][0]] = problem
            self._drop(number)
        if self._wire is not None:
            self._ends.unregister(self._wire)
            self._stream.shutdown()
            self._stream = self._wire = None


def _frames(heard: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """The whole frames at the beginning of what was heard, which are taken away from it."""
    while len(heard) >= FRAME.size:
        number, kind, size = FRAME.unpack_from(heard)
        if len(heard) < FRAME.size + size:
            return
        data = bytes(heard[FRAME.size : FRAME.size + size])
        del heard[: FRAME.size + size]
        yield number, kind, data


@cache
def _relay() -> bytes:
    return Path(__file__).with_name("relay.py").read_bytes()


def _reason(said: bytes, status: bytes) -> str:
    """Why a relay ended."""
    try:
        code = exit_code(status)
    except ExecFailed as error:
        return str(error)
    return said.decode("utf-8", "replace").strip().rpartition("\n")[2] or f"the relay ended with {code}"
