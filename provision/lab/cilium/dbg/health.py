"""`cilium-health status`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from provision.lab.cilium.dbg.forms import duration, set_fields, timestamp, to_json
from provision.lab.cilium.state import AddressHealth, HealthReport, PathHealth


def health_json(report: HealthReport) -> str:
    """The JSON form; a path without a status is reachable."""
    return to_json(
        {
            "local": {"name": report.local},
            "nodes": [
                {
                    "name": node.name,
                    "host": {"primary-address": _address(node.host), "secondary-addresses": []},
                    **(
                        {"health-endpoint": {"primary-address": _address(node.endpoint), "secondary-addresses": []}}
                        if node.endpoint is not None
                        else {}
                    ),
                }
                for node in report.nodes
            ],
            "probeInterval": f"{report.interval_s:.0f}s",
            "timestamp": timestamp(report.timestamp),
        }
    )


def health_text(report: HealthReport, now: datetime) -> str:
    """The text form."""
    return "".join(f"{line}\n" for line in _lines(report, now))


def _lines(report: HealthReport, now: datetime) -> Iterator[str]:
    yield f"Probe time:   {timestamp(report.timestamp)}  ({duration(now - report.timestamp)} ago)"
    yield "Nodes:"
    for node in report.nodes:
        local = " (localhost)" if node.name == report.local else ""
        yield f"  {node.name}{local}:"
        yield f"    Host connectivity to {node.host.address}:"
        yield from _path_lines(node.host)
        if node.endpoint is not None:
            yield f"    Endpoint connectivity to {node.endpoint.address}:"
            yield from _path_lines(node.endpoint)


def _path_lines(address: AddressHealth) -> Iterator[str]:
    for name, path in (("ICMP to stack", address.icmp), ("HTTP to agent", address.http)):
        heading = f"      {name}:".ljust(24)
        told = path.status or f"OK, RTT={_latency(path.latency_ns)}"
        yield f"{heading}{told}"


def _latency(nanoseconds: int) -> str:
    microseconds = nanoseconds / 1000
    return f"{microseconds / 1000:.6f}ms" if microseconds >= 1000 else f"{microseconds:.3f}µs"


def _address(address: AddressHealth) -> dict[str, Any]:
    return {"ip": str(address.address), "icmp": _path(address.icmp), "http": _path(address.http)}


def _path(path: PathHealth) -> dict[str, Any]:
    return set_fields(status=path.status, latency=path.latency_ns, lastProbed=timestamp(path.probed))
