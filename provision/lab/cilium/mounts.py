"""The folder of settings on every node: what the kubelet does with a projected volume of two Secrets.

A file that somebody changes or removes on one node stays so until the Secret changes: that is how a single node's
settings can be broken.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from provision.lab.cilium.names import CLUSTERMESH_SECRET, COMMON, REMOTE_SECRET
from provision.lab.cilium.watch import NAMESPACE, ClusterWatch

_COMMON_FILES = {"ca.crt": f"{COMMON}-ca.crt", "tls.crt": f"{COMMON}.crt", "tls.key": f"{COMMON}.key"}

_libc = ctypes.CDLL(None, use_errno=True)
_IN_CLOSE_WRITE, _IN_MOVED_FROM, _IN_MOVED_TO, _IN_DELETE = 8, 0x40, 0x80, 0x200
_CHANGES = _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_DELETE


class SettingsMounts:
    """Keeps the settings folders of a cluster's nodes as the cluster's Secrets say.

    Args:
        watch: the cluster's objects.
        folders: one for each node.
    """

    def __init__(self, watch: ClusterWatch, folders: Sequence[Path]) -> None:
        self._watch = watch
        self._folders = folders
        self._changed = asyncio.Event()
        self._written: dict[str, bytes] = {}

    async def run(self) -> None:
        """Run until cancelled."""
        await self._watch.secrets.synced.wait()
        self._watch.secrets.add_handler(lambda _change: self._changed.set())
        while True:
            self._changed.clear()
            wanted = self._files()
            if wanted != self._written:
                await asyncio.to_thread(self._write, wanted)
                self._written = wanted
            await self._changed.wait()

    def _files(self) -> dict[str, bytes]:
        files = dict(self._data(CLUSTERMESH_SECRET))
        certificate = self._data(REMOTE_SECRET)
        return files | {name: certificate[key] for key, name in _COMMON_FILES.items() if key in certificate}

    def _data(self, name: str) -> Mapping[str, bytes]:
        data = (self._watch.secrets.get(name, NAMESPACE) or {}).get("data") or {}
        return {key: base64.b64decode(value) for key, value in data.items()}

    def _write(self, wanted: Mapping[str, bytes]) -> None:
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            for name in self._written.keys() - wanted.keys():
                (folder / name).unlink(missing_ok=True)
            # The files that the settings name come first, so that no reader finds them missing.
            for name in sorted(wanted, key=lambda name: "." not in name):
                if self._written.get(name) != wanted[name]:
                    fresh = folder / f".{name}.new"
                    fresh.touch(mode=0o600)
                    fresh.write_bytes(wanted[name])
                    fresh.rename(folder / name)


class FolderWatch:
    """Tells of every change in folders, by one inotify instance. A context manager, in an event loop.

    Raises:
        OSError: the kernel gives out no more instances.
    """

    def __init__(self) -> None:
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), f"inotify: {os.strerror(ctypes.get_errno())}")
        self._callbacks: dict[int, Callable[[], None]] = {}

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._descriptor, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def add(self, folder: Path, changed: Callable[[], None]) -> None:
        """Call `changed` after every change in a folder, which is made when it is not there.

        Raises:
            OSError: the kernel watches no more folders.
        """
        folder.mkdir(parents=True, exist_ok=True)
        watch = _libc.inotify_add_watch(self._descriptor, bytes(folder), _CHANGES)
        if watch < 0:
            raise OSError(ctypes.get_errno(), f"inotify: {os.strerror(ctypes.get_errno())}", str(folder))
        self._callbacks[watch] = changed

    def _take(self) -> None:
        data = os.read(self._descriptor, 1 << 16)
        position, seen = 0, set()
        while position < len(data):
            seen.add(int.from_bytes(data[position : position + 4], "little", signed=True))
            position += 16 + int.from_bytes(data[position + 12 : position + 16], "little")
        for watch in seen & self._callbacks.keys():
            self._callbacks[watch]()
