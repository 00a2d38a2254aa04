"""What was probably meant by a rule that can never match: one label that had to have several values at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from analysis.policy.selector import SelectorError, parse_selector
from analysis.policy.terms import And, Equal, Selector

_SIDES = ("source", "destination")


def meant_instead(rule: Mapping[str, Any]) -> str:
    """How to say that one of several values will do; "" when that is not the mistake.

    Args:
        rule: of any product, as in its policy.
    """
    for text in _calico_selectors(rule):
        try:
            values = _values_at_once(parse_selector(text))
        except SelectorError:
            continue
        for key, wanted in values.items():
            alternatives = " || ".join(f"{key} == {json.dumps(value)}" for value in wanted)
            among = ", ".join(map(json.dumps, wanted))
            return f"`{alternatives}` was meant, or shorter: `{key} in {{{among}}}`"
    return ""


def _calico_selectors(rule: Mapping[str, Any]) -> Iterator[str]:
    for side in _SIDES:
        fields = rule.get(side) or {}
        yield from (str(fields[key]) for key in ("selector", "namespaceSelector") if fields.get(key))


def _values_at_once(selector: Selector) -> dict[str, list[str]]:
    """Values of labels that must hold all together although one label has one value."""
    found: dict[str, list[str]] = {}
    terms = selector.terms if isinstance(selector, And) else ()
    for term in terms:
        if isinstance(term, Equal):
            found.setdefault(term.key, []).append(term.text)
        elif isinstance(term, And):
            for key, values in _values_at_once(term).items():
                found.setdefault(key, []).extend(values)
    return {key: list(dict.fromkeys(values)) for key, values in found.items() if len(set(values)) > 1}
