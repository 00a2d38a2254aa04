"""Amounts as Kubernetes writes them: "2", "500m", "1.5Gi", "3e9"."""

from __future__ import annotations

import re
from fractions import Fraction

_SUFFIXES = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{letter: Fraction(1000**power) for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", start=1)},
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d+)|([numkKMGTPE]i?)?)")


def parse_quantity(text: str | int | float) -> Fraction:
    """The number that a quantity stands for, exactly; YAML may have made a number of it already.

    Raises:
        ValueError: it is none.
    """
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None or (match[3] or "") not in _SUFFIXES:
        raise ValueError(f"not a quantity: {text!r}")
    return Fraction(match[1]) * Fraction(10) ** int(match[2] or 0) * _SUFFIXES[match[3] or ""]
