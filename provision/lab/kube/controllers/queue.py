"""The loop of a controller: keys of objects that may need work, each worked on by one task at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from provision.lab.kube.client import ApiError, Conflict

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, str]
"""Namespace (empty for kinds without one) and name."""

RETRY_FIRST_S = 0.01
RETRY_MOST_S = 5.0


class WorkQueue:
    """Keys to be worked on. A key that is added while it is worked on is worked on once more afterwards."""

    def __init__(self) -> None:
        self._waiting: dict[Key, None] = {}
        self._busy: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._something = asyncio.Event()

    def add(self, key: Key) -> None:
        """Asks for work on a key; asking twice is asking once."""
        self._waiting[key] = None
        self._something.set()

    def add_later(self, key: Key, seconds: float) -> None:
        """Asks for work on a key after a while."""
        asyncio.get_running_loop().call_later(seconds, self.add, key)

    async def run(self, name: str, reconcile: Callable[[Key], Awaitable[None]]) -> None:
        """Works until it is cancelled; what fails is tried again, ever more slowly up to 5 s.

        Args:
            name: of the controller, for its log.
            reconcile: brings one object's world in order; idempotent.
        """
        async with asyncio.TaskGroup() as group:
            while True:
                await self._something.wait()
                self._something.clear()
                for key in [key for key in self._waiting if key not in self._busy]:
                    del self._waiting[key]
                    self._busy.add(key)
                    group.create_task(self._work(name, reconcile, key))

    async def _work(self, name: str, reconcile: Callable[[Key], Awaitable[None]], key: Key) -> None:
        try:
            await reconcile(key)
        except Exception as error:  # whatever it was, the object still wants its work
            self._retry(name, key, error)
        else:
            self._failures.pop(key, None)
        finally:
            self._busy.discard(key)
            if key in self._waiting:
                self._something.set()

    def _retry(self, name: str, key: Key, error: Exception) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(RETRY_FIRST_S * 2 ** (failures - 1), RETRY_MOST_S)
        if not isinstance(error, ApiError):
            log.error("%s %s/%s: an error of the controller", name, *key, exc_info=error)
        elif not isinstance(error, Conflict):
            log.warning("%s %s/%s: %s; trying again in %.2f s", name, *key, error, delay)
        self.add_later(key, delay)
