"""The system calls that make a container, for one thread. Python's `os` module has them only from 3.12 on, or never.

Namespaces, the root directory, the bounding set and "no new privileges" belong to a thread, and a child process
inherits them from the thread that starts it. A thread that is used once can therefore build a container's surroundings
with plain system calls and start the command in them, without a helper program for each step.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

FILES = 0x200
MOUNTS = 0x20000
HOSTNAME = 0x4000000
IPC = 0x8000000
PIDS = 0x20000000
NETWORK = 0x40000000

NO_SUID = 0x2
NO_DEV = 0x4
NO_EXEC = 0x8
BIND = 0x1000
RECURSIVE = 0x4000
PRIVATE = 0x40000

_DETACH = 2
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1

CAPABILITIES: tuple[str, ...] = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
"""Names in the kernel's numbering, without CAP_, as Kubernetes writes them."""

_libc = ctypes.CDLL(None, use_errno=True)


async def in_fresh_thread(work: Callable[[], T]) -> T:
    """Runs `work` in a thread of its own, which ends with it and takes its namespaces and lost rights along.

    When the caller is cancelled, the work is still waited for: what it started must not be lost.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # `work` returned it

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as problem:
            error = problem
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="container-start", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait({done})
        raise


def unshare(namespaces: int) -> None:
    """Gives the calling thread (PIDS: its future children) new namespaces."""
    _call("unshare", "", namespaces)


def join(namespaces_of: int, namespaces: int) -> None:
    """Moves the calling thread into namespaces: those of the process behind a pidfd, or the one of an open file."""
    _call("setns", "", namespaces_of, namespaces)


def mount(source: Path | str, target: Path | str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mounts a file system. Raises OSError naming the target."""
    _call("mount", target, os.fsencode(source), os.fsencode(target), kind.encode(), flags, options.encode() or None)


def bind(source: Path | str, target: Path | str) -> None:
    """Shows a file or a folder, with what is mounted below it, at another place as well."""
    _call("mount", target, os.fsencode(source), os.fsencode(target), None, BIND | RECURSIVE, None)


def make_private(target: Path | str) -> None:
    """Keeps mounts below `target` from showing up in other mount namespaces."""
    _call("mount", target, None, os.fsencode(target), None, PRIVATE | RECURSIVE, None)


def make_read_only(target: Path | str) -> None:
    """Makes a mount and all below it read-only, in this mount namespace."""
    attributes = struct.pack("QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    _call(
        "syscall",
        target,
        *(_SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE),
        *(attributes, ctypes.c_size_t(len(attributes))),
    )


def change_root(root: Path) -> None:
    """Makes `root`, a mount point, the root of this mount namespace, and lets go of the old one."""
    os.chdir(root)
    # The new root is put on the old one and the old one on the new: no folder is needed for it, and it lies on top.
    _call("pivot_root", root, b".", b".")
    _call("umount2", root, b".", _DETACH)
    os.chdir("/")


def set_hostname(name: str) -> None:
    """Sets the host name of the thread's UTS namespace."""
    raw = name.encode()[:64]
    _call("sethostname", "", raw, len(raw))


def keep_capabilities(keep: Iterable[str]) -> None:
    """Takes all capabilities but these from whatever the calling thread starts, for good."""
    kept = set(keep)
    for number, name in enumerate(CAPABILITIES):
        if name not in kept and _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            _call("prctl", name, _PR_CAPBSET_DROP, number, 0, 0, 0)


def no_new_privileges() -> None:
    """Keeps whatever the calling thread starts from gaining rights by set-uid programs or file capabilities."""
    _call("prctl", "", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _call(function: str, target: Path | str, *arguments: object) -> None:
    if getattr(_libc, function)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function}: {os.strerror(error)}", os.fspath(target) or None)
