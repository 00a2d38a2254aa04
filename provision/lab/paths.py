"""Where things are: the lab's folder on the host, and the private tree inside its container."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

INSIDE = Path("/run/lab")
"""Private to the container: a tmpfs that goes with it."""


@dataclass(frozen=True)
class LabFolder:
    """The folder of one lab on the host, mode 0700. Everything that outlives a process is here."""

    path: Path

    @property
    def state(self) -> Path:
        """state.json: pid of the container, addresses of the API servers."""
        return self.path / "state.json"

    @property
    def stages(self) -> Path:
        """stages.jsonl: what the container has reached, a line for each stage, or why it gave up."""
        return self.path / "stages.jsonl"

    @property
    def spec(self) -> Path:
        """spec.json: what was asked for; the topology is computed from it."""
        return self.path / "spec.json"

    @property
    def admin_kubeconfig(self) -> Path:
        """Full rights, a context per region, for people."""
        return self.path / "kubeconfig"

    @property
    def verifier_kubeconfig(self) -> Path:
        """The rights of docs/rbac.yaml and no more, for the suites."""
        return self.path / "verifier.kubeconfig"

    @property
    def environment(self) -> Path:
        """environment.yaml: what `pytest --env` takes."""
        return self.path / "environment.yaml"

    @property
    def logs(self) -> Path:
        """One file per component."""
        return self.path / "logs"

    @property
    def apiserver(self) -> Path:
        """apiserver.json: what the API server process is told at its start."""
        return self.path / "apiserver.json"

    @property
    def agents(self) -> Path:
        """agents.json: what the agents process is told at its start."""
        return self.path / "agents.json"

    @property
    def ssh(self) -> Path:
        """Host key, an authorised client key and known_hosts of the nodes' SSH servers."""
        return self.path / "ssh"

    @property
    def pki(self) -> Path:
        """Certificates and keys, 0600."""
        return self.path / "pki"


def labs_root() -> Path:
    """The folder that holds a user's labs: $MESHPROOF_HOME, or the XDG state folder."""
    home = os.environ.get("MESHPROOF_HOME")
    if home:
        return Path(home) / "labs"
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "meshproof" / "labs"
