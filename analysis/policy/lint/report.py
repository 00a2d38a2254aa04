"""Findings for people, and for tools: text, JSON and SARIF 2.1.0."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from textwrap import wrap
from urllib.parse import quote

from analysis.policy.lint.findings import CHECKS, Finding, Level
from analysis.policy.lint.run import Linted
from analysis.words import count, listed

_WIDTH = 110
_INDENT = "  "
_HARD_BLANK = "\N{NO-BREAK SPACE}"
_WORD = re.compile(r"[a-z]+(?=[ ,:]|$)")
_QUOTED = re.compile("`[^`]*`")
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_DEAD = {
    "unsatisfiable-selector",
    "unsatisfiable-by-implicit-labels",
    "contradictory-ports",
    "contradictory-nets",
    "contradictory-protocol",
    "contradictory-ip-version",
    "cidr-covers-only-managed-endpoints",
    "shadowed",
    "covered-by-deny",
}
"""Findings about rules that never match, told together where the reason is the same."""


@dataclass(frozen=True)
class Palette:
    """Escape sequences of a terminal; all empty for anything else."""

    error: str = ""
    warning: str = ""
    note: str = ""
    strong: str = ""
    dim: str = ""
    end: str = ""

    def of(self, level: Level) -> str:
        """The colour of a level."""
        return {Level.ERROR: self.error, Level.WARNING: self.warning, Level.NOTE: self.note}[level]


PLAIN = Palette()
COLOURED = Palette("\x1b[31;1m", "\x1b[33;1m", "\x1b[36m", "\x1b[1m", "\x1b[2m", "\x1b[0m")


def as_text(linted: Linted, palette: Palette = PLAIN) -> str:
    """For people: by file and object, findings of one cause as one."""
    lines: list[str] = []
    by_object: dict[tuple[str, str], list[Finding]] = {}
    for each in linted.findings:
        by_object.setdefault((each.file, each.object), []).append(each)
    for (file, title), group in by_object.items():
        if lines:
            lines.append("")
        lines.append(f"{palette.strong}{file}{palette.end}{f': {title}' if title else ''}")
        for alike in _alike(group):
            lines += ["", *_told(alike, palette)]
    if lines:
        lines.append("")
    return "\n".join([*lines, _summary(linted), ""])


def as_json(linted: Linted) -> str:
    """For scripts: a list of findings, and how many there are of each level."""
    return json.dumps(
        {
            "findings": [
                {
                    "check": each.check,
                    "level": each.level.value,
                    "file": each.file,
                    "line": each.line,
                    "object": each.object,
                    "place": each.place,
                    "message": each.message,
                    "detail": each.detail,
                    "remedy": each.remedy,
                }
                for each in linted.findings
            ],
            "objects": linted.objects,
            **{f"{level.value}s": linted.count(level) for level in Level},
        },
        indent=2,
    )


def as_sarif(linted: Linted) -> str:
    """For code hosts, which show it beside the lines (SARIF 2.1.0)."""
    used = sorted({each.check for each in linted.findings})
    results = [
        {
            "ruleId": each.check,
            "ruleIndex": used.index(each.check),
            "level": each.level.value,
            "message": {"text": _one_line(each)},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": quote(each.file)},
                        "region": {"startLine": each.line},
                    },
                    "logicalLocations": [{"fullyQualifiedName": " ".join(filter(None, [each.object, each.place]))}],
                }
            ],
        }
        for each in linted.findings
    ]
    rules = [
        {
            "id": check,
            "shortDescription": {"text": CHECKS[check][1]},
            "defaultConfiguration": {"level": CHECKS[check][0].value},
        }
        for check in used
    ]
    driver = {"name": "meshproof policy lint", "rules": rules}
    runs = [{"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}]
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": runs}, indent=2)


def _alike(group: Iterable[Finding]) -> list[list[Finding]]:
    """Findings that one cause has, in the order of the first of each."""
    causes: dict[tuple[str, str, str], list[Finding]] = {}
    for each in group:
        causes.setdefault((each.check, each.message, each.remedy), []).append(each)
    return sorted(causes.values(), key=lambda alike: (list(Level).index(alike[0].level), alike[0].line))


def _told(alike: list[Finding], palette: Palette) -> Iterator[str]:
    first = alike[0]
    where = f"line{'' if len(alike) == 1 else 's'} {listed([each.line for each in alike], limit=8)}"
    headline, *sentences = _sentences(first, _rules(alike))
    colour = palette.of(first.level)
    yield f"{_INDENT}{colour}{first.level.value}{palette.end} {palette.dim}{where}{palette.end}"
    yield from (f"{_INDENT * 2}{palette.strong}{line}{palette.end}" for line in wrap(headline, _WIDTH))
    for sentence in sentences:
        whole = _QUOTED.sub(lambda found: found[0].replace(" ", _HARD_BLANK), sentence)
        lines = wrap(whole, _WIDTH, initial_indent=_INDENT * 2, subsequent_indent=_INDENT * 2, break_on_hyphens=False)
        yield from (line.replace(_HARD_BLANK, " ") for line in lines)


def _sentences(each: Finding, rules: str) -> list[str]:
    """What is told of a finding: the headline, and whole sentences."""
    if each.check in _DEAD and " rule " in each.place:
        headline, details = f"{rules} can never match", [each.message, each.detail, each.remedy]
    else:
        headline, details = _capital(each.message), [each.detail, each.remedy]
    return [headline, *(f"{_capital(text)}{'' if text.endswith('.') else '.'}" for text in details if text)]


def _rules(alike: list[Finding]) -> str:
    """Rules by their places: "Four rules (ingress 1 and 2, egress 1 and 2)"."""
    by_section: dict[str, list[str]] = {}
    for each in alike:
        section, _, number = each.place.partition(" rule ")
        by_section.setdefault(section, []).append(number)
    if len(alike) == 1:
        return _capital(alike[0].place)
    places = ", ".join(f"{section} {listed(numbers, limit=8)}" for section, numbers in by_section.items())
    amount = _NUMBERS[len(alike)] if len(alike) < len(_NUMBERS) else str(len(alike))
    return f"{amount.capitalize()} rules ({places})"


def _one_line(each: Finding) -> str:
    headline, *sentences = _sentences(each, _rules([each]))
    return " ".join([f"{headline}.", *sentences])


def _capital(text: str) -> str:
    """As a sentence begins, unless it begins with a name."""
    return text[:1].upper() + text[1:] if _WORD.match(text) else text


def _summary(linted: Linted) -> str:
    if not linted.findings:
        return f"{count(linted.objects, 'object')}, nothing to complain about"
    found = [count(linted.count(level), level.value) for level in Level if linted.count(level)]
    return f"{listed(found)} in {count(linted.objects, 'object')}"
