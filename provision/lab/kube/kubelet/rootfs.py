"""A container's root: the host's programs, seen through a layer of its own, with the pod's volumes in their places.

No image is ever pulled: the "image" is the host's file system. The folders a program may want to write to are overlaid
with memory that goes with the container; all else is read-only. The host's files are therefore never changed.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from provision.lab.kube.kubelet import kernel

_OVERLAID = frozenset({"etc", "home", "opt", "root", "srv", "var"})
_EMPTY = ("tmp", "run", "mnt", "media")
_KERNEL = frozenset({"proc", "sys", "dev"})
_WRITABLE = ("var/lib", "var/log", "var/cache", "var/spool", "var/tmp")
"""Below an overlay, a folder that the upper layer does not have belongs to the host's root, whom the lab is not."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


@dataclass(frozen=True)
class Mount:
    """A file or folder shown in a container: a volume, or one of the files the node agent writes."""

    source: Path
    target: PurePosixPath
    read_only: bool = False


@dataclass(frozen=True)
class Root:
    """How to build the root of one container.

    Attributes:
        folder: an empty folder for the container's own layer, on a file system that can carry one (the lab's tmpfs).
        proc: where the pod's own /proc is mounted.
        mounts: what to show in it, outer paths before inner ones.
        read_only: whether everything but the mounts refuses to be written.
        devices: whether all of the host's devices are seen (a privileged container), or only the harmless ones.
        programs: names in /usr/local/bin that lead to programs elsewhere on the host.
    """

    folder: Path
    proc: Path
    mounts: tuple[Mount, ...]
    read_only: bool
    devices: bool
    programs: tuple[tuple[str, Path], ...] = ()


def enter(root: Root) -> None:
    """Builds the root and moves the calling thread into it. The thread is in a mount namespace of its own already.

    Raises:
        OSError: the kernel refused a mount; `filename` names it.
    """
    new, upper, work = (root.folder / name for name in ("root", "upper", "work"))
    new.mkdir(parents=True)
    kernel.mount("tmpfs", new, "tmpfs", kernel.NO_DEV, "mode=755")
    for name in (*_EMPTY, *_KERNEL):
        (new / name).mkdir()
    for path in _WRITABLE:
        (upper / path).mkdir(parents=True)
    for folder in (new / "tmp", upper / "var/tmp"):
        folder.chmod(0o1777)
    for name, program in root.programs:
        link = upper / "usr/local/bin" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(program)
    # Where a path leads on the host it leads here: /var/run is /run, and resolv.conf may be a link into /run.
    targets = [(mount, Path(os.path.realpath(mount.target)).relative_to("/")) for mount in root.mounts]
    wanted = _OVERLAID | {target.parts[0] for _, target in targets} | ({"usr"} if root.programs else set())
    layered = {name for name in wanted - {*_EMPTY, *_KERNEL} if Path("/", name).is_dir()}
    for mount, target in targets:
        _mount_point((upper if target.parts[0] in layered else new) / target, mount.source)
    for entry in os.scandir("/"):
        if entry.name not in _EMPTY and entry.name not in _KERNEL:
            _show(entry, new / entry.name, upper / entry.name, work / entry.name, layered=entry.name in layered)
    if root.read_only:
        kernel.make_read_only(new)
    _kernel_file_systems(root, new)
    for mount, target in targets:
        place = new / target
        if not place.exists():  # below another volume, or below a folder that could not be layered
            _mount_point(place, mount.source)
        kernel.bind(mount.source, place)
        if mount.read_only:
            kernel.make_read_only(place)
    kernel.change_root(new)


def _mount_point(path: Path, source: Path) -> None:
    if source.is_dir():
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _show(entry: os.DirEntry[str], target: Path, layer: Path, scratch: Path, *, layered: bool) -> None:
    if entry.is_symlink():
        target.symlink_to(Path(entry.path).readlink())
        return
    if not entry.is_dir():
        return
    target.mkdir(exist_ok=True)
    if layered:
        layer.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True)
        options = f"lowerdir={entry.path},upperdir={layer},workdir={scratch},userxattr"
        try:
            kernel.mount("overlay", target, "overlay", 0, options)
        except OSError as error:
            # The kernel keeps a folder with foreign mounts below it from being a layer; it is still there to read.
            if error.errno != errno.EINVAL:
                raise
        else:
            return
    kernel.bind(entry.path, target)
    kernel.make_read_only(target)


def _kernel_file_systems(root: Root, new: Path) -> None:
    kernel.bind(root.proc, new / "proc")
    try:
        kernel.mount("sysfs", new / "sys", "sysfs", kernel.NO_SUID | kernel.NO_DEV | kernel.NO_EXEC)
    except PermissionError:  # parts of the host's /sys are covered, so the kernel gives out no other
        kernel.bind("/sys", new / "sys")
    device = new / "dev"
    if root.devices:
        kernel.bind("/dev", device)
        return
    kernel.mount("tmpfs", device, "tmpfs", kernel.NO_SUID, "mode=755")
    for name in _DEVICES:
        (device / name).touch()
        kernel.bind(f"/dev/{name}", device / name)
    (device / "pts").mkdir()
    kernel.bind("/dev/pts", device / "pts")
    (device / "shm").mkdir(mode=0o1777)
    (device / "shm").chmod(0o1777)
    for name, source in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        (device / name).symlink_to(source)
