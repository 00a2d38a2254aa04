"""The folder with kube-apiserver and etcd, as people keep it for envtest: KUBEBUILDER_ASSETS, or --kube-assets."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from provision.errors import ProvisionError

VARIABLE = "KUBEBUILDER_ASSETS"
OPTION = "--kube-assets"
API_SERVER = "kube-apiserver"
ETCD = "etcd"
OLDEST_MINOR = 36
"""The first in which a node can say that it takes WebSockets: before it, streams came to kubelets as SPDY."""

_TIMEOUT_S = 30.0
_REMEDY = f"make kube-assets gets them; without {VARIABLE} the lab runs on its own API server"


@dataclass(frozen=True)
class KubeAssets:
    """A folder that has both programs.

    Attributes:
        folder: absolute.
        api_server: the API server's version, "v1.36.3".
        etcd: the store's, "3.6.8".
    """

    folder: Path
    api_server: str
    etcd: str

    @property
    def summary(self) -> str:
        """What runs, for the header of every report."""
        return f"{API_SERVER} {self.api_server} and {ETCD} {self.etcd}"


def find_assets(option: str | None = None) -> KubeAssets | None:
    """The assets that were asked for: in the folder that the option names, or the environment variable; else None.

    Raises:
        ProvisionError: a folder is named and the programs are not in it, do not run, or are too old.
    """
    named = option or os.environ.get(VARIABLE, "")
    if not named:
        return None
    where = f"{OPTION if option else VARIABLE} {named}"
    folder = Path(named).expanduser().resolve()
    missing = [name for name in (API_SERVER, ETCD) if not os.access(folder / name, os.X_OK)]
    if missing:
        raise ProvisionError(
            f"no {' and no '.join(missing)} there",
            where=where,
            expected=f"a folder with {API_SERVER} and {ETCD}",
            remedy=_REMEDY,
        )
    api_server = _last_word(folder / API_SERVER, where)
    if _minor(api_server) < OLDEST_MINOR:
        raise ProvisionError(
            f"that {API_SERVER} is too old for the lab's nodes",
            where=where,
            expected=f"v1.{OLDEST_MINOR} or newer, which passes WebSockets on to nodes that take them",
            observed=api_server,
            remedy=_REMEDY,
        )
    return KubeAssets(folder, api_server, _last_word(folder / ETCD, where))


def _last_word(program: Path, where: str) -> str:
    """The version: "Kubernetes v1.36.3", "etcd Version: 3.6.8"."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
        return done.stdout.splitlines()[0].split()[-1]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise ProvisionError(
            f"{program.name} does not run here", where=where, observed=str(error), remedy=_REMEDY
        ) from None


def _minor(version: str) -> int:
    """36 of "v1.36.3"; 0 of anything that is no version."""
    parts = version.split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
