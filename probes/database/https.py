"""Questions over verified HTTPS, asked from inside a region."""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

from probes.database.dialer import Dialer

LONGEST_BODY = 64 << 20


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        status: of HTTP; None when nothing answered.
        detail: why nothing did.
        date: when the server says that it answered; our own time where it does not.
    """

    status: int | None
    body: bytes
    detail: str
    date: datetime


def ask(dialer: Dialer, region: str, host: str, port: int, path: str, authority: str, *, within: timedelta) -> Reply:
    """GET a path of a server, which must show a certificate of that name by the authority. Never raises for a failure.

    Args:
        dialer: leads into the region.
        region: from where it is asked.
        host: the server's real name.
        port: where it listens.
        path: what is asked for.
        authority: file with the certificate that the server's must lead to.
        within: the longest silence.
    """
    patience = within.total_seconds()
    connection: _Connection | None = None
    try:
        connection = _Connection(host, dialer.door(region, host, port), _trust(authority), patience)
        connection.request("GET", path, headers={"Host": f"{host}:{port}", "Connection": "close"})
        response = connection.getresponse()
        body = response.read(LONGEST_BODY)
        return Reply(response.status, body, "", _date(response.headers.get("Date")))
    except TimeoutError:
        return _silence(f"no answer within {patience:g} s")
    except (OSError, http.client.HTTPException) as error:
        said = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
        return _silence(dialer.last_problem(region, host, port) or said or type(error).__name__)
    finally:
        if connection is not None:
            connection.close()


class _Connection(http.client.HTTPSConnection):
    """HTTPS with a server of one name, through a door at another address."""

    def __init__(self, name: str, door: tuple[str, int], context: ssl.SSLContext, patience: float) -> None:
        super().__init__(name, timeout=patience, context=context)
        self._door = door
        self._trust = context

    def connect(self) -> None:
        """Connect to the door, and speak TLS with whom it leads to."""
        bare = socket.create_connection(self._door, self.timeout)
        try:
            self.sock = self._trust.wrap_socket(bare, server_hostname=self.host)
        except BaseException:
            bare.close()
            raise


@lru_cache(maxsize=4)
def _trust(authority: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _date(told: str | None) -> datetime:
    try:
        return parsedate_to_datetime(told or "")
    except ValueError:
        return datetime.now(UTC)


def _silence(detail: str) -> Reply:
    return Reply(None, b"", detail, datetime.now(UTC))
