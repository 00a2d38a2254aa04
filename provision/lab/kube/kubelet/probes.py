"""Startup, readiness and liveness probes of a container."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from provision.lab import netns
from provision.lab.kube.client import KubeObject

Check: TypeAlias = Callable[[], Awaitable[bool]]

FIRST_RETRY_S = 0.05


@dataclass(frozen=True)
class ProbePace:
    """How often a probe is made and what counts as a change of mind, in the API's units.

    Attributes:
        delay: seconds before the first.
        period: seconds from one to the next.
        timeout: seconds for each.
        successes: in a row, to turn to healthy.
        failures: in a row, to turn to unhealthy.
    """

    delay: float
    period: float
    timeout: float
    successes: int
    failures: int

    @classmethod
    def of(cls, probe: KubeObject) -> ProbePace:
        """Reads a probe's numbers, with Kubernetes' defaults."""
        return cls(
            delay=probe.get("initialDelaySeconds") or 0,
            period=probe.get("periodSeconds") or 10,
            timeout=probe.get("timeoutSeconds") or 1,
            successes=probe.get("successThreshold") or 1,
            failures=probe.get("failureThreshold") or 3,
        )


async def await_success(pace: ProbePace, check: Check) -> bool:
    """Makes a probe until it succeeds; False when it has failed for as long as its numbers allow.

    It is made more often than its period says: a lab is ready when its pods are, and most are ready within a second.
    """
    await asyncio.sleep(pace.delay)
    now = asyncio.get_running_loop().time
    deadline = now() + pace.period * pace.failures
    wait, in_a_row = FIRST_RETRY_S, 0
    while True:
        in_a_row = in_a_row + 1 if await _passes(pace, check) else 0
        if in_a_row >= pace.successes:
            return True
        if in_a_row == 0 and now() >= deadline:
            return False
        await asyncio.sleep(min(wait, pace.period))
        wait *= 1.5


async def follow(pace: ProbePace, check: Check, report: Callable[[bool], None], *, healthy: bool) -> None:
    """Makes a probe again and again and reports each change between healthy and unhealthy, until it is cancelled.

    Args:
        pace: when to make it, and what counts as a change.
        check: makes it once.
        report: called with the new state.
        healthy: the state to begin with.
    """
    against = 0
    while True:
        await asyncio.sleep(pace.period)
        against = against + 1 if await _passes(pace, check) is not healthy else 0
        if against >= (pace.failures if healthy else pace.successes):
            healthy, against = not healthy, 0
            report(healthy)


def port_number(container: KubeObject, port: int | str) -> int:
    """A probe's port, which may be the name of one of the container's.

    Raises:
        LookupError: the container has no port of that name.
    """
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for row in container.get("ports") or ():
        if row.get("name") == port:
            return int(row["containerPort"])
    raise LookupError(f'container "{container["name"]}" has no port named "{port}"')


async def _passes(pace: ProbePace, check: Check) -> bool:
    try:
        return await asyncio.wait_for(check(), pace.timeout)
    except (TimeoutError, OSError, LookupError):
        return False


async def tcp_connects(node_netns: str, address: str, port: int) -> bool:
    """Whether a connection from the node is accepted."""
    with contextlib.closing(await _connect(node_netns, address, port)):
        return True


async def http_answers(node_netns: str, address: str, port: int, action: dict[str, Any]) -> bool:
    """Whether an HTTP GET from the node is answered with a code from 200 to 399."""
    context = None
    if action.get("scheme", "HTTP").upper() == "HTTPS":
        # The certificate is not verified, as Kubernetes defines these probes.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = await _connect(node_netns, address, port)
    reader, writer = await asyncio.open_connection(
        sock=connection, ssl=context, server_hostname=address if context else None
    )
    try:
        headers = {"Host": f"{address}:{port}", "User-Agent": "kube-probe", "Connection": "close"}
        headers |= {row["name"]: row["value"] for row in action.get("httpHeaders") or ()}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"GET {action.get('path') or '/'} HTTP/1.1\r\n{head}\r\n".encode())
        words = (await reader.readline()).split()
        return len(words) > 1 and words[1].isdigit() and 200 <= int(words[1]) < 400
    finally:
        writer.close()


async def _connect(node_netns: str, address: str, port: int) -> socket.socket:
    connection = netns.open_socket(node_netns, socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection
