"""A cluster's API as outages need it: to read, scale, delete and watch a few objects, with errors in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from analysis.fleet import ClusterHandle
from provision.errors import ProvisionError
from provision.identity import api_client
from provision.outages import OutageError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

ANSWER_WITHIN = timedelta(seconds=10)
NOT_FOUND = 404

KubeObject = dict[str, Any]


class Api:
    """The API server of one cluster.

    Args:
        region: whose, for errors.
        client: the connection, with credentials.
    """

    def __init__(self, region: str, client: ApiClient) -> None:
        self.region = region
        self._client = client

    def get(self, path: str, **parameters: str) -> KubeObject:
        """The object or list at that path. Raises OutageError."""
        answer: KubeObject = json.loads(self._ask("GET", path, parameters).data)
        return answer

    def put(self, path: str, content: KubeObject) -> None:
        """Write an object, whatever its version. Raises OutageError."""
        metadata = {key: value for key, value in content["metadata"].items() if key != "resourceVersion"}
        self._ask("PUT", path, {}, body={**content, "metadata": metadata})

    def post(self, path: str, content: KubeObject) -> None:
        """Create an object in the collection at that path. Raises OutageError."""
        self._ask("POST", path, {}, body=content)

    def delete(self, path: str, *, grace: int | None = None) -> None:
        """Delete an object; with its own grace period where none is given. Raises OutageError."""
        self._ask("DELETE", path, {}, body={} if grace is None else {"gracePeriodSeconds": grace})

    def changes(
        self, path: str, version: str, *, within: timedelta, **parameters: str
    ) -> Iterator[tuple[str, KubeObject]]:
        """Kind ("ADDED", "MODIFIED", "DELETED") and object of every change after that version, as they come.

        Ends when the server ends it, which it does after that time at the latest. Raises OutageError.
        """
        seconds = max(1, round(within.total_seconds()))
        watch = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(seconds), **parameters}
        answer = self._ask("WATCH", path, watch, wait=seconds + ANSWER_WITHIN.total_seconds())
        with self._explained("WATCH", path):
            rest = b""
            for part in answer.stream():
                *lines, rest = (rest + part).split(b"\n")
                for line in filter(None, lines):
                    event = json.loads(line)
                    yield event["type"], event["object"]

    def _ask(
        self,
        verb: str,
        path: str,
        parameters: Mapping[str, str],
        *,
        body: KubeObject | None = None,
        wait: float = ANSWER_WITHIN.total_seconds(),
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        self._client.update_params_for_auth(headers, [], ["BearerToken"])
        query = f"?{urlencode(parameters)}" if parameters else ""
        with self._explained(verb, path):
            return self._client.request(
                "GET" if verb == "WATCH" else verb,
                f"{self._client.configuration.host}{path}{query}",
                headers=headers,
                body=body,
                _preload_content=False,
                _request_timeout=wait,
            )

    @contextmanager
    def _explained(self, verb: str, path: str) -> Iterator[None]:
        """Let errors of the client come out as ours."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (ApiException, HTTPError) as error:
            status = error.status if isinstance(error, ApiException) else None
            said = f"{status} {error.reason}" if isinstance(error, ApiException) else str(error)
            raise OutageError(
                f"the API server does not do {verb} {path}",
                where=self.region,
                observed=said,
                remedy="docs/rbac-database.yaml and docs/rbac-policy.yaml grant what outages need"
                if status == 403
                else "",
            ) from None


@contextmanager
def connected(handle: ClusterHandle) -> Iterator[Api]:
    """The API of that cluster. Raises OutageError when its kubeconfig cannot be used."""
    try:
        client = api_client(handle)
    except ProvisionError as error:
        raise OutageError(
            error.what, where=error.where, expected=error.expected, observed=error.observed, remedy=error.remedy
        ) from None
    with client:
        yield Api(handle.region, client)
