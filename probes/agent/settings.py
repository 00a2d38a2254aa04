"""Settings of the kernel, and other small files."""

from __future__ import annotations

from typing import Any

SMALL_FILE = 1 << 16


def read(operation: dict[str, Any], _end: float) -> dict[str, Any]:
    """What is in small files, null for those that cannot be read."""
    contents: list[str | None] = []
    for path in operation["files"]:
        try:
            with open(path, "rb") as file:
                contents.append(file.read(SMALL_FILE).decode("utf-8", "replace"))
        except OSError:
            contents.append(None)
    return {"contents": contents}
