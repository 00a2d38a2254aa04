"""The name that somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name most like `word`, letter case aside; None when nothing comes near."""
    names = {name.lower(): name for name in known}
    matches = get_close_matches(word.lower(), sorted(names), n=1, cutoff=0.6)
    return names[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A phrase to append to "no such thing": ``, did you mean 'x'?``, or nothing."""
    name = nearest(word, known)
    return f", did you mean {name!r}?" if name else ""
