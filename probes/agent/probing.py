"""The operation that probes: batches of every kind at once."""

from __future__ import annotations

import time
from typing import Any

from probes.agent.batch import Batch, Loop
from probes.agent.dialogues import Greeting, Knock, Line
from probes.agent.dns_probes import DnsBatch, DnsOverTcp
from probes.agent.icmp import IcmpBatch
from probes.agent.sctp import SctpBatch
from probes.agent.tcp import TcpBatch
from probes.agent.udp import UdpBatch, UdpFragments


def make_batch(spec: dict[str, Any]) -> Batch:
    """The batch that can do what the spec asks for."""
    kind = spec["kind"]
    if kind == "tcp":
        return TcpBatch(spec, Greeting())
    if kind == "line":
        return TcpBatch(spec, Line())
    if kind == "knock":
        return TcpBatch(spec, Knock())
    if kind == "dns-tcp":
        return TcpBatch(spec, DnsOverTcp())
    if kind == "sctp":
        return SctpBatch(spec, Greeting())
    return {"icmp": IcmpBatch, "udp": UdpBatch, "udp-fragments": UdpFragments, "dns-udp": DnsBatch}[kind](spec)


def probe(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """All batches of the operation, at once."""
    batches = [make_batch(spec) for spec in operation["batches"]]
    started = time.monotonic()
    Loop().run(batches, end)
    return {"batches": [batch.result() for batch in batches], "seconds": time.monotonic() - started}
