"""Reading a cluster's API as its administrator, without the price of importing a client library."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from provision.lab.agents_config import ClusterAccess
from provision.lab.kube.identities import ADMIN

_TIMEOUT_S = 5.0


class UnreadableError(Exception):
    """The API server does not answer, or not with what was asked for."""


class AdminReader:
    """One connection to one cluster's API."""

    def __init__(self, access: ClusterAccess) -> None:
        self.region = access.region
        self._server = access.server
        self._headers = {"Authorization": f"Bearer {access.token(ADMIN)}", "Accept": "application/json"}
        url = urlsplit(access.server)
        self._connection = http.client.HTTPSConnection(
            url.hostname or "", url.port, timeout=_TIMEOUT_S, context=ssl.create_default_context(cafile=access.ca)
        )

    def get(self, path: str) -> bytes:
        """The body of the answer.

        Raises:
            UnreadableError: there is no answer, or it is not 200.
        """
        try:
            self._connection.request("GET", path, headers=self._headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise UnreadableError(f"{self.region}: the API server at {self._server} does not answer: {error}") from None
        if response.status != http.client.OK:
            text = body[:200].decode(errors="replace")
            raise UnreadableError(f"{self.region}: GET {path} gave {response.status}: {text}")
        return body

    def items(self, path: str) -> list[dict[str, Any]]:
        """The objects of a list.

        Raises:
            UnreadableError: there is no answer, or it is not 200.
        """
        objects: list[dict[str, Any]] = json.loads(self.get(path))["items"]
        return objects
