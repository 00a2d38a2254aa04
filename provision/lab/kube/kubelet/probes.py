"""Startup, readiness and liveness probes of a container."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from provision.lab import netns
from provision.lab.kube.client import KubeObject

FIRST_RETRY_S = 0.05
"""Until a probe has once succeeded it is made more often than its period says: a lab is ready when its pods are."""


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


async def follow(pace: ProbePace, check: Callable[[], Awaitable[bool]], report: Callable[[bool], None]) -> None:
    """Makes a probe again and again and reports each change between healthy and unhealthy, until it is cancelled."""
    await asyncio.sleep(pace.delay)
    healthy: bool | None = None
    in_a_row, last = 0, None
    wait = FIRST_RETRY_S
    while True:
        try:
            good = await asyncio.wait_for(check(), pace.timeout)
        except (TimeoutError, OSError):
            good = False
        in_a_row = in_a_row + 1 if good is last else 1
        last = good
        if good is not healthy and in_a_row >= (pace.successes if good else pace.failures):
            healthy = good
            report(good)
        never_yet = healthy is None
        await asyncio.sleep(min(wait, pace.period) if never_yet else pace.period)
        wait *= 2


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
