"""Full power over a running lab, for planting faults: commands at any place, and its API with all rights."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kubernetes import client, config
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from analysis.plan import Plan
from provision.errors import ProvisionError
from provision.faults import FaultError, Finished
from provision.lab import state
from provision.lab.entry import Entry, environment
from provision.lab.paths import LabFolder

COMMAND_TIMEOUT = timedelta(seconds=30)
_POLL_S = 0.1


def wait_for(ready: Callable[[], bool], within: timedelta, what: str) -> None:
    """Return once `ready` says so.

    Raises:
        FaultError: it did not in time; `what` names that which was waited for.
    """
    attempts = Retrying(
        retry=retry_if_result(lambda done: not done),
        stop=stop_after_delay(within),
        wait=wait_fixed(_POLL_S),
    )
    try:
        attempts(ready)
    except RetryError:
        raise FaultError(f"waited {within.total_seconds():.0f} s in vain for {what}") from None


class LabControl:
    """A `provision.faults.Control` over the running lab of that name."""

    def __init__(self, name: str) -> None:
        self._lab = state.find_lab(name)
        self._entry = Entry(self._lab)
        # Not shared: the next lab of this name has the same kubeconfig at the same place, and other ports.
        self._clients: dict[str, client.ApiClient] = {}

    @property
    def folder(self) -> LabFolder:
        """The lab's folder on the host."""
        return self._lab.folder

    @property
    def pki(self) -> Path:
        """See `provision.faults.Control`."""
        return self._lab.folder.pki

    @property
    def plan(self) -> Plan:
        """What the lab was designed to be."""
        return self._entry.topology.plan

    def run(self, place: str, argv: Sequence[str], *, text: str | None = None, check: bool = True) -> Finished:
        """Run a command at a place of the lab; see `provision.faults.Control`."""
        try:
            command = self._entry.command(place, argv)
        except ProvisionError as error:
            raise FaultError(str(error)) from error
        return _finish(command, f"{place}: {' '.join(argv)}", text, check)

    def get(self, region: str, path: str) -> dict[str, Any] | None:
        """The object at that API path, or None."""
        try:
            return self._call(region, "GET", path)
        except client.ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise FaultError(f"{region}: GET {path}: {error.reason} {error.body}") from error

    def create(self, region: str, path: str, manifest: dict[str, Any]) -> None:
        """Create an object; a `status` in the manifest is written to its status subresource."""
        self._ask(region, "POST", path, manifest)
        if "status" in manifest:
            self.patch(region, f"{path}/{manifest['metadata']['name']}/status", {"status": manifest["status"]})

    def replace(self, region: str, path: str, manifest: dict[str, Any]) -> None:
        """Put an object's content, whatever its resource version, and whether or not it was made anew meanwhile."""
        metadata = {key: value for key, value in manifest["metadata"].items() if key not in ("resourceVersion", "uid")}
        self._ask(region, "PUT", path, {**manifest, "metadata": metadata})

    def patch(self, region: str, path: str, patch: dict[str, Any]) -> None:
        """Apply a JSON merge patch."""
        self._ask(region, "PATCH", path, patch, content_type="application/merge-patch+json")

    def delete(self, region: str, path: str) -> None:
        """Delete an object, at once and whether or not it is there."""
        try:
            self._call(region, "DELETE", path, {"gracePeriodSeconds": 0})
        except client.ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise FaultError(f"{region}: DELETE {path}: {error.reason} {error.body}") from error

    def wait_healthy(self, within: timedelta) -> None:
        """Return once the lab's own view of itself is as at its start.

        Raises:
            FaultError: it is not in time; the text says what is missing.
        """
        command = self._entry.module("provision.lab.readiness", str(self.folder.path))
        _finish(command, "the lab's readiness", None, check=True, within=within)

    def _ask(
        self, region: str, method: str, path: str, body: dict[str, Any], content_type: str = "application/json"
    ) -> None:
        try:
            self._call(region, method, path, body, content_type)
        except client.ApiException as error:
            raise FaultError(f"{region}: {method} {path}: {error.reason} {error.body}") from error

    def _call(
        self,
        region: str,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        answer = self._client(region).call_api(
            path,
            method,
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
        )
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def _client(self, region: str) -> client.ApiClient:
        if region not in self._clients:
            settings = client.Configuration()
            config.load_kube_config(str(self.folder.admin_kubeconfig), context=region, client_configuration=settings)
            self._clients[region] = client.ApiClient(settings)
        return self._clients[region]


def _finish(
    command: Sequence[str],
    what: str,
    text: str | None,
    check: bool,
    within: timedelta = COMMAND_TIMEOUT,
) -> Finished:
    try:
        run = subprocess.run(
            command,
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            timeout=within.total_seconds(),
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FaultError(f"{what} did not end within {within.total_seconds():.0f} s") from error
    if check and run.returncode:
        raise FaultError(f"{what} ended with {run.returncode}: {(run.stderr or run.stdout).strip()[-800:]}")
    return Finished(run.returncode, run.stdout, run.stderr)
