"""Where a client of a region connects to: a door on the runner's loopback that leads into the region."""

from __future__ import annotations

from typing import Protocol


class Dialer(Protocol):
    """Opens doors. A connection to a door comes out in its region, as a new TCP connection to host:port from there.

    Names are resolved in the region. What the far connection does, the near one does too: a refusal or a reset at the
    far end closes the near one, with the reason told by `last_problem`.
    """

    def door(self, region: str, host: str, port: int) -> tuple[str, int]:
        """Address and port on the runner's loopback; the same each time."""

    def last_problem(self, region: str, host: str, port: int) -> str:
        """Why the last connection through that door did not come about, or broke; "" for none."""

    def close(self) -> None:
        """Close all doors and every connection through them."""
