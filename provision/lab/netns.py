"""Named network namespaces, as `ip netns` keeps them, for a process that works in many of them.

A namespace belongs to a *thread*: `inside` moves the calling thread and brings it back. A socket stays for ever in the
namespace where it was made, so most code opens what it needs inside and uses it from outside.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NETNS_DIR = Path("/run/netns")
"""Where iproute2 looks for names, so that `ip netns exec NAME` works for all of ours."""

_OWN = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MNT_DETACH = 2
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_libc = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> Path:
    """The file that stands for the namespace of that name.

    Raises:
        ValueError: the name is empty or would leave the folder.
    """
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"{name!r} is not a name for a network namespace")
    return NETNS_DIR / name


def create(name: str) -> None:
    """Make a network namespace whose loopback device is up.

    Raises:
        FileExistsError: one of that name is there already.
        OSError: the kernel refused; `filename` is the namespace's.
    """
    target = path(name)
    NETNS_DIR.mkdir(parents=True, exist_ok=True)
    os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", target, _CLONE_NEWNET)
        try:
            _call("mount", target, _OWN.encode(), bytes(target), b"none", _MS_BIND, None)
            _loopback_up()
        finally:
            _setns(home, target)
    except OSError:
        delete(name)
        raise
    finally:
        os.close(home)


def delete(name: str) -> None:
    """Drop the name. The namespace goes when the last process, socket or mount in it has gone.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    target = path(name)
    _libc.umount2(bytes(target), _MNT_DETACH)  # fails on a name that was never mounted: the file must go all the same
    target.unlink()


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Run the body with the calling thread in that namespace.

    Never let an `await` or the start of a thread into the body: another coroutine would run in the wrong place, a new
    thread would stay there. Child processes started in the body are in the namespace, which is often the purpose.

    Raises:
        FileNotFoundError: there is no such namespace.
        OSError: the kernel refused to enter it.
    """
    target = path(name)
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there, target)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home, _OWN)
    finally:
        os.close(home)


def open_socket(name: str, family: int, kind: int, proto: int = 0) -> socket.socket:
    """A socket that lives in that namespace and may be used from anywhere.

    Raises:
        FileNotFoundError: there is no such namespace.
    """
    with inside(name):
        return socket.socket(family, kind, proto)


def listening_socket(name: str, address: str, port: int) -> socket.socket:
    """A TCP socket that listens at an address in that namespace and may be served from anywhere.

    Raises:
        OSError: there is no such namespace or address, or somebody listens there already.
    """
    with inside(name):
        return socket.create_server((address, port), backlog=128)


def command(name: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in that namespace, the mounts left as they are."""
    return ["nsenter", f"--net={path(name)}", "--", *argv]


def _setns(fd: int, target: os.PathLike[str] | str) -> None:
    _call("setns", target, fd, _CLONE_NEWNET)


def _call(function: str, target: os.PathLike[str] | str, *arguments: object) -> None:
    """Call libc (the `os` module has these only from Python 3.12 on) and turn its errno into an OSError."""
    if getattr(_libc, function)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function}: {os.strerror(error)}", os.fspath(target))


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
