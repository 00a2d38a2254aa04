"""What all answers have in common: JSON as Go writes it, tables as its tabwriter does, and times."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from provision.lab.cilium.state import NEVER


def to_json(value: object) -> str:
    """JSON with two blanks of indentation and sorted keys."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def set_fields(**fields: Any) -> dict[str, Any]:
    """An object without its zero values, as Go's `omitempty` leaves them out; underscores become hyphens."""
    return {name.replace("_", "-"): value for name, value in fields.items() if value}


def table(rows: Iterable[Sequence[str]]) -> str:
    """Columns that are as wide as their widest cell, three blanks apart."""
    known = [tuple(row) for row in rows]
    widths = [max(len(row[k]) for row in known if len(row) > k) for k in range(max(map(len, known), default=0))]
    lines = ("".join(cell.ljust(width + 3) for cell, width in zip(row, widths, strict=False)).rstrip() for row in known)
    return "".join(f"{line}\n" for line in lines)


def timestamp(moment: datetime) -> str:
    """RFC 3339 with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(moment: datetime, now: datetime) -> str:
    """How long ago something was: "never", "12s ago", "3m12s ago"."""
    return "never" if moment == NEVER else f"{duration(now - moment)} ago"


def duration(span: timedelta) -> str:
    """A time span as Go prints it, in whole seconds: "3m12s"."""
    seconds = max(0, int(span.total_seconds()))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours}h{minutes}m{seconds % 60}s"
    return f"{minutes}m{seconds % 60}s" if minutes else f"{seconds % 60}s"


def truth(value: bool) -> str:
    """A truth value as Go prints it."""
    return "true" if value else "false"
