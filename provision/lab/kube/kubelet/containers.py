"""One container of a pod: started, watched, started again, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from provision.lab.kube.client import ApiError, KubeObject
from provision.lab.kube.kubelet import kernel, probes, rootfs, streams
from provision.lab.kube.kubelet.logs import LogFile
from provision.lab.kube.kubelet.probes import ProbePace
from provision.lab.kube.kubelet.process import Credentials, Launch, Process, ProcessStarter, end_all_with, mounts_of
from provision.lab.kube.kubelet.rootfs import Root
from provision.lab.kube.kubelet.security import SecurityContextError
from provision.lab.kube.kubelet.source import ConfigurationError
from provision.lab.kube.kubelet.status import ContainerState, Running, Terminated, Waiting, restarts_after

log = logging.getLogger(__name__)

RESTART_FIRST_S = 1.0
RESTART_MOST_S = 60.0
STEADY_AFTER_S = 60.0
OUTPUT_AFTER_END_S = 0.5
START_ERROR_CODE = 128


class ImageError(Exception):
    """There is nothing to run for the container's image."""


@dataclass(frozen=True)
class Prepared:
    """All that is needed to start a container: what to run, as whom, with which root."""

    argv: list[str]
    environment: Mapping[str, str]
    credentials: Credentials
    root: Root


Prepare = Callable[[Path], Awaitable[Prepared]]


class RestartBackoff:
    """How long to wait before the next start: not at all after the first failure, then 1 s, doubling up to a minute.

    Kubernetes begins at 10 s; a lab is watched by people and tests. A run that lasted a minute starts the count anew.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def after(self, lasted: float) -> float:
        """Seconds to wait after a run that lasted so many seconds."""
        if lasted >= STEADY_AFTER_S:
            self._next = 0.0
        wait = self._next
        self._next = min(max(RESTART_FIRST_S, 2 * wait), RESTART_MOST_S)
        return wait


class Container:
    """The life of one container.

    Args:
        spec: the container as the pod's spec has it.
        folder: for its layers, one per run, and its logs.
        pause: process 1 of the pod.
        prepare: resolves image, environment and volumes; called before every start with the folder of that start.
        starter: starts the process.
        probe_from: the node's network namespace.
        address: the pod's address, for probes.
        changed: called after every change of `state`.
    """

    def __init__(
        self,
        spec: KubeObject,
        *,
        folder: Path,
        pause: Process,
        prepare: Prepare,
        starter: ProcessStarter,
        probe_from: str,
        address: str,
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.state = ContainerState(spec["name"], spec.get("image", ""))
        self.process: Process | None = None
        self.prepared: Prepared | None = None
        self.log: LogFile | None = None
        self.previous_log: LogFile | None = None
        self.listeners: set[Callable[[str, bytes], None]] = set()
        self.terminal: streams.Terminal | None = None
        self.stdin: asyncio.StreamWriter | None = None
        self.up = asyncio.Event()
        self._folder = folder
        self._pause = pause
        self._prepare = prepare
        self._starter = starter
        self._probe_from = probe_from
        self._address = address
        self._changed = changed
        self._stopping = asyncio.Event()
        self._killed_by_probe = False

    async def run(self, policy: str) -> None:
        """Runs the container as often as the restart policy wants it; returns when it stays ended or is stopped."""
        backoff = RestartBackoff()
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            end = await self._run_once()
            if end is None:  # could not even be prepared: nothing has run, so nothing counts as a restart
                await self._pause_for(backoff.after(0) or RESTART_FIRST_S)
                continue
            self._set(state=end, ready=False, started=False)
            wanted = restarts_after(end.exit_code, policy) or (self._killed_by_probe and policy != "Never")
            if not wanted or self._stopping.is_set():
                return
            self._killed_by_probe = False
            wait = backoff.after(asyncio.get_running_loop().time() - began)
            if wait:
                message = f"back-off {wait:.0f}s restarting failed container={self.state.name}"
                self._set(state=Waiting("CrashLoopBackOff", message), last=end)
                await self._pause_for(wait)
            self._set(last=end, restarts=self.state.restarts + 1)

    async def stop(self, grace_s: float) -> None:
        """Ends the container: SIGTERM, the time it has, SIGKILL."""
        self._stopping.set()
        running = self.process
        if running is None or not running.running:
            return
        running.send(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running.wait(), grace_s)
        running.kill_group()
        await running.wait()

    async def ended(self) -> None:
        """Waits for the end of the present run, all its output included."""
        if self.log is not None:
            await self.log.closed.wait()

    async def _pause_for(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _run_once(self) -> Terminated | None:
        run = self.state.restarts
        folder = self._folder / str(run)
        started = datetime.now(UTC)
        try:
            self.prepared = await self._prepare(folder)
        except (ConfigurationError, SecurityContextError, ApiError) as error:
            self._set(state=Waiting("CreateContainerConfigError", str(error)))
            return None
        except ImageError as error:
            self._set(state=Waiting("ErrImagePull", str(error)))
            return None
        self._rotate_log(run)
        try:
            self.process = running = await self._start(self.prepared)
        except OSError as error:
            message = f"unable to start container process: {error}"
            return Terminated(START_ERROR_CODE, started, datetime.now(UTC), "StartError", message)
        with mounts_of(running.pid) as mounts:
            outputs = await self._connect(running)
            started = datetime.now(UTC)
            code = await self._follow(running, Running(started), f"meshproof-lab://{running.pid}-{run}")
            if mounts is not None:  # a container ends as a whole, with what its first process had left behind
                await kernel.in_fresh_thread(lambda: end_all_with(mounts))
        await self._disconnect(outputs)
        await kernel.in_fresh_thread(lambda: shutil.rmtree(folder, ignore_errors=True))
        return Terminated(code, started, datetime.now(UTC))

    async def _follow(self, process: Process, state: Running, identity: str) -> int:
        """Says that the container runs and how it is, until its first process ends; returns that one's exit code."""
        self.up.set()
        waits = [kind for kind in ("startupProbe", "readinessProbe") if self.spec.get(kind)]
        ready, begun = not waits, "startupProbe" not in waits
        self._set(state=state, ready=ready, started=begun, container_id=identity)
        watching = asyncio.create_task(self._probe())
        try:
            return await process.wait()
        finally:
            watching.cancel()

    async def _start(self, prepared: Prepared) -> Process:
        if self.spec.get("tty"):
            self.terminal = streams.Terminal()
        launch = Launch(
            prepared.argv,
            prepared.environment,
            folder=self.spec.get("workingDir") or "/",
            credentials=prepared.credentials,
            stdin=bool(self.spec.get("stdin")),
            terminal=self.terminal.theirs if self.terminal else None,
        )

        def furnish() -> None:
            kernel.unshare(kernel.MOUNTS)
            rootfs.enter(prepared.root)

        return await self._starter.start_in(self._pause, launch, furnish)

    async def _connect(self, running: Process) -> list[asyncio.Future[None]]:
        if self.terminal is not None:
            return [await streams.read_pipe(self.terminal.handed_over(), lambda data: self._output("stdout", data))]
        if running.stdin is not None:
            self.stdin = await streams.write_pipe(running.stdin)
        assert running.stdout is not None
        assert running.stderr is not None
        return [
            await streams.read_pipe(running.stdout, lambda data: self._output("stdout", data)),
            await streams.read_pipe(running.stderr, lambda data: self._output("stderr", data)),
        ]

    async def _disconnect(self, outputs: list[asyncio.Future[None]]) -> None:
        await asyncio.wait(outputs, timeout=OUTPUT_AFTER_END_S)
        if self.terminal is not None:
            self.terminal.close()
            self.terminal = None
        if self.stdin is not None:
            self.stdin.close()
            self.stdin = None
        assert self.log is not None
        self.log.close()

    def _output(self, stream: str, data: bytes) -> None:
        assert self.log is not None
        self.log.write(stream, data)
        for listener in tuple(self.listeners):
            listener(stream, data)

    def _rotate_log(self, run: int) -> None:
        if self.previous_log is not None:
            self.previous_log.remove()
        self.previous_log = self.log
        self.log = LogFile(self._folder / f"{run}.log")

    async def _probe(self) -> None:
        """Follows the container's probes: startup first, then readiness and liveness side by side."""
        if startup := self.spec.get("startupProbe"):
            if not await self._becomes_healthy(startup):
                self._fail("startup")
                return
            self._set(started=True, ready=not self.spec.get("readinessProbe"))
        async with asyncio.TaskGroup() as group:
            if readiness := self.spec.get("readinessProbe"):
                group.create_task(self._follow_readiness(readiness))
            if liveness := self.spec.get("livenessProbe"):
                group.create_task(self._follow_liveness(liveness))

    async def _becomes_healthy(self, probe: KubeObject) -> bool:
        return await probes.await_success(ProbePace.of(probe), lambda: self._healthy(probe))

    async def _follow_readiness(self, probe: KubeObject) -> None:
        while not await self._becomes_healthy(probe):
            log.debug("container %s is not ready yet", self.state.name)
        self._set(ready=True)
        await probes.follow(
            ProbePace.of(probe), lambda: self._healthy(probe), lambda good: self._set(ready=good), healthy=True
        )

    async def _follow_liveness(self, probe: KubeObject) -> None:
        pace = ProbePace.of(probe)
        await asyncio.sleep(pace.delay)
        await probes.follow(
            pace, lambda: self._healthy(probe), lambda good: None if good else self._fail("liveness"), healthy=True
        )

    async def _healthy(self, probe: KubeObject) -> bool:
        if action := probe.get("exec"):
            return await self.execute(action["command"]) == 0
        if action := probe.get("httpGet"):
            port = probes.port_number(self.spec, action["port"])
            return await probes.http_answers(self._probe_from, action.get("host") or self._address, port, action)
        action = probe.get("tcpSocket") or probe["grpc"]
        port = probes.port_number(self.spec, action["port"])
        return await probes.tcp_connects(self._probe_from, self._address, port)

    async def execute(self, command: list[str]) -> int:
        """Runs a command in the container and returns its exit code; its output is given up."""
        assert self.process is not None
        running = await self._starter.start_in(self.process, self.launch(command))
        try:
            for pipe in (running.stdout, running.stderr):
                assert pipe is not None
                await streams.read_pipe(pipe, lambda data: None)
            return await running.wait()
        finally:
            running.kill_group()

    def launch(self, command: list[str], *, stdin: bool = False, terminal: int | None = None) -> Launch:
        """How to start a further process in the running container: as the same user, with the same environment."""
        assert self.prepared is not None
        return Launch(
            command,
            self.prepared.environment,
            folder=self.spec.get("workingDir") or "/",
            credentials=self.prepared.credentials,
            stdin=stdin,
            terminal=terminal,
        )

    def _fail(self, probe: str) -> None:
        log.info("container %s failed its %s probe and is restarted", self.state.name, probe)
        self._killed_by_probe = True
        if self.process is not None:
            self.process.kill_group()

    def _set(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]  # the names are ContainerState's
        self._changed()
