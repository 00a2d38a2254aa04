"""`python -m provision.lab.signalling STOP|CONT|KILL PREFIX…`: stops, continues or kills all processes of pods.

It runs in a lab's container and means the pods whose network namespaces' names begin so ("us-east-1.us-east-1." for
all of a namespace); their pause processes, which hold the pods together, are left alone. It returns when the effect is
seen: the processes stand still, go on, or are gone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from provision.lab.netns import NETNS_DIR

WITHIN = timedelta(seconds=10)
_LOOK_EVERY_S = 0.01
_STOPPED = "T"
_ENDED = "ZX"


class StillThereError(Exception):
    """A signal did not have its effect; the text names the processes."""


def processes(prefixes: Sequence[str]) -> dict[int, str]:
    """State letter of each process in the pods whose namespaces' names begin so, by its number.

    Without those that have ended, and without the first of each pod.
    """
    spaces = {
        (entry.stat().st_dev, entry.stat().st_ino)
        for entry in NETNS_DIR.iterdir()
        if entry.name.startswith(tuple(prefixes))
    }
    return {pid: state for pid, state in _all(spaces) if state not in _ENDED}


def stop(prefixes: Sequence[str]) -> None:
    """Let them all stand still: one that was started meanwhile too. Raises StillThereError."""

    def stopped() -> dict[int, str]:
        moving = {pid: state for pid, state in processes(prefixes).items() if state != _STOPPED}
        _send(moving, signal.SIGSTOP)
        return moving

    _until_none(stopped)


def resume(prefixes: Sequence[str]) -> None:
    """Let all go on that stand still. Raises StillThereError."""

    def standing() -> dict[int, str]:
        found = {pid: state for pid, state in processes(prefixes).items() if state == _STOPPED}
        _send(found, signal.SIGCONT)
        return found

    _until_none(standing)


def kill(prefixes: Sequence[str]) -> None:
    """Kill them all, as a loss of power does: none has time to notice that others are gone. Raises StillThereError."""
    stop(prefixes)
    doomed = processes(prefixes)
    _send(doomed, signal.SIGKILL)
    _until_none(lambda: {pid: state for pid, state in processes(prefixes).items() if pid in doomed})


ACTIONS: dict[str, Callable[[Sequence[str]], None]] = {"STOP": stop, "CONT": resume, "KILL": kill}


def _all(spaces: set[tuple[int, int]]) -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is being reaped
                space = (entry / "ns/net").stat()
                if (space.st_dev, space.st_ino) in spaces:
                    status = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines())
                    if status["NSpid"].split()[-1] != "1":
                        yield int(entry.name), status["State"].split()[0]


def _send(targets: dict[int, str], number: signal.Signals) -> None:
    for pid in targets:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _until_none(look: Callable[[], dict[int, str]]) -> None:
    attempts = Retrying(
        retry=retry_if_result(bool),
        wait=wait_fixed(_LOOK_EVERY_S),
        stop=stop_after_delay(WITHIN.total_seconds()),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else {},
    )
    if left := attempts(look):
        told = ", ".join(f"{pid} in state {state}" for pid, state in left.items())
        raise StillThereError(f"without effect after {WITHIN.total_seconds():g} s: {told}")


def main() -> None:
    """Do as the command line says; exit code 1 and a word on standard error when it had no effect."""
    action, *prefixes = sys.argv[1:]
    try:
        ACTIONS[action](prefixes)
    except StillThereError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
