"""What is asked over HTTPS, at each pod's console port.

Health and metrics need no login: they tell the truth also when the database has lost its quorum, and nobody gets in.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Mapping

from analysis.plan import DatabasePlan
from probes.database.dialer import Dialer
from probes.database.port import DatabaseError

_SAMPLE = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)")

HEALTH, READY, METRICS = "/health", "/health?ready=1", "/_status/vars"

UNDERREPLICATED, UNAVAILABLE = "ranges_underreplicated", "ranges_unavailable"
CLOCK_OFFSET, UPTIME = "clock_offset_meannanos", "sys_uptime"
NODE_ID = "node_id"

OK = 200
PATIENCE_S = 5.0


def read_metrics(text: str) -> Mapping[str, float]:
    """Metrics of a node by name, in Prometheus' text format; those of its stores are added up."""
    totals: dict[str, float] = {}
    for line in text.splitlines():
        found = _SAMPLE.match(line)
        if found:
            totals[found["name"]] = totals.get(found["name"], 0.0) + float(found["value"])
    return totals


def read_node_number(text: str) -> str:
    """The number of the node that wrote these metrics: by the label of its stores, or the gauge of that name."""
    labelled = re.search(r'\bnode_id="(\d+)"', text)
    if labelled:
        return labelled[1]
    number = read_metrics(text).get(NODE_ID)
    return str(int(number)) if number else ""


class Console:
    """The console port of every database pod, over HTTPS that is verified by the planned authority.

    Args:
        authority: file with its certificate.
        dialer: how connections get into regions.
        plan: names and ports.
    """

    def __init__(self, authority: str, dialer: Dialer, plan: DatabasePlan) -> None:
        self._context = ssl.create_default_context(cafile=authority)
        self._dialer = dialer
        self._plan = plan

    def status(self, region: str, pod: str, path: str) -> tuple[int | None, str]:
        """The status that a pod answers from inside its region, and why none if it is None."""
        try:
            status, body = self._get(region, pod, path)
        except DatabaseError as error:
            return None, str(error)
        return status, "" if status == OK else body.strip()[:200]

    def text(self, region: str, pod: str, path: str) -> str:
        """The page at that path.

        Raises:
            DatabaseError: nobody answered, or with another status than 200.
        """
        status, body = self._get(region, pod, path)
        if status != OK:
            raise DatabaseError(f"{pod} of {region}: {path} was answered with {status}")
        return body

    def _get(self, region: str, pod: str, path: str) -> tuple[int, str]:
        host = f"{pod}.{self._plan.service}.{self._plan.namespace(region)}.svc.cluster.local"
        address, port = self._dialer.door(region, host, self._plan.console_port)
        try:
            with socket.create_connection((address, port), timeout=PATIENCE_S) as near:
                connection = http.client.HTTPConnection(host, self._plan.console_port, timeout=PATIENCE_S)
                with self._context.wrap_socket(near, server_hostname=host) as secured:
                    connection.sock = secured
                    connection.request("GET", path, headers={"Connection": "close"})
                    response = connection.getresponse()
                    return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            why = self._dialer.last_problem(region, host, self._plan.console_port) or str(error) or type(error).__name__
            raise DatabaseError(f"{pod} of {region}: {why}") from error
