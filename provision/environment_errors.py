"""Mistakes in an environment file, told to the person who made them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from analysis.nearest import nearest
from provision.errors import ProvisionError
from provision.provider import PROVIDERS

Location = tuple[str | int, ...]
"""Where a value is: keys and indexes from the top of the file ("regions", 1, "pod_cidr")."""

LONGEST_VALUE = 80


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Attributes:
        location: where the value is; empty for the file as a whole.
        what: what is wrong with it, as the rest of a sentence that begins with the field.
        advice: what would be right.
        value: what was written there, as text; None when nothing was, or when it must not be shown.
        line: its line in the file, from 1; 0 until it is known.
        region: the name of the region it is about, when the location holds only its index.
    """

    location: Location
    what: str
    advice: str
    value: str | None = None
    line: int = 0
    region: str | None = None

    @property
    def field(self) -> str:
        """The location as people write it: regions[1].pod_cidr."""
        text = ""
        for part in self.location:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text

    def told(self, path: Path) -> str:
        """The mistake as one headline and, labelled, the value and what would be right."""
        place = f"{path}:{self.line}" if self.line else str(path)
        field = self.field and f"{self.field} ({self.region}) " if self.region else self.field and f"{self.field} "
        lines = [f"{place}: {field}{self.what}"]
        if self.value is not None:
            lines.append(f"  value     {self.value}")
        lines.append(f"  expected  {self.advice}")
        return "\n".join(lines)


class EnvironmentFileError(ProvisionError):
    """An environment file cannot be used. Tells all of its mistakes at once, in the order of the file."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        first = self.problems[0]
        super().__init__(
            f"{first.field} {first.what}".strip(),
            where=f"{path}:{first.line}" if first.line else str(path),
            expected=first.advice,
            observed=first.value or "",
        )

    def __str__(self) -> str:
        """Every mistake, then how many there are when it is more than one."""
        told = [problem.told(self.path) for problem in self.problems]
        if len(told) > 1:
            told.append(f"{len(told)} mistakes in {self.path}; docs/environment.md explains every key")
        return "\n".join(told)


def shown(value: Any) -> str:
    """A value as one line of text that is not too long to read."""
    text = "(nothing)" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_VALUE else f"{line[: LONGEST_VALUE - 3]}..."


def translate(error: ErrorDetails, model: type[BaseModel]) -> Problem:
    """Say in plain words what pydantic found wrong with one value of a file that `model` describes."""
    location = _without_tags(error["loc"])
    if error["type"] == "union_tag_invalid":
        return Problem((*location, "kind"), *_not_one_of(error["ctx"]["tag"], list(PROVIDERS)), error["ctx"]["tag"])
    what, advice = _words(error, location, model)
    return Problem(location, what, advice, None if error["type"] == "missing" else shown(error["input"]))


def _words(error: ErrorDetails, location: Location, model: type[BaseModel]) -> tuple[str, str]:
    kind, context = error["type"], error.get("ctx", {})
    match kind:
        case "wrong":
            return context["what"], context["advice"]
        case "extra_forbidden":
            return _unknown_key(str(location[-1]), _keys(_section(model, location[:-1])))
        case "missing":
            return "is missing", _example(_section(model, location[:-1]), str(location[-1]))
        case "enum" | "literal_error":
            return _not_one_of(error["input"], context["expected"].replace("'", "").replace(" or ", ", ").split(", "))
        case "union_tag_not_found":
            return "has no kind", f"kind: {' or kind: '.join(PROVIDERS)}"
        case _:
            return _WRONG_TYPES.get(kind, (error["msg"], "see docs/environment.md"))


_WRONG_TYPES = {
    "bool_type": ("is neither true nor false", "true or false, without quotes"),
    "string_type": ("is not text", 'text; quotes make it so, like "1"'),
    "tuple_type": ("is not a list", "a list: each item on its own line after a hyphen, or [a, b]"),
    "dict_type": ("is not a mapping", "keys with values, like key: value"),
    "model_type": ("is not a mapping", "keys with values, like key: value"),
    "model_attributes_type": ("is not a mapping", " or ".join(f"{{kind: {kind}}}" for kind in PROVIDERS)),
    "invalid_key": ("is not a key", 'a key that is text; quotes make it so, like "1"'),
    "recursion_loop": ("contains itself", "a value without a reference to what it is part of"),
}


def _unknown_key(key: str, known: Sequence[str]) -> tuple[str, str]:
    meant = nearest(key.replace("-", "_"), known)
    return "is an unknown key", f"{meant}?" if meant else f"one of {', '.join(known)}"


def _not_one_of(value: Any, known: Sequence[str]) -> tuple[str, str]:
    meant = nearest(str(value), known)
    choice = f"one of {', '.join(known)}" if len(known) > 1 else known[0]
    return "is not a known choice", f"{meant}? ({choice})" if meant and len(known) > 1 else choice


def _without_tags(location: Location) -> Location:
    """Drop the union's tag, which pydantic puts between "provider" and the key, and which is not in the file."""
    if len(location) > 1 and location[0] == "provider" and location[1] in PROVIDERS:
        return (location[0], *location[2:])
    return location


def _section(model: type[BaseModel], location: Location) -> type[BaseModel]:
    """The model of the mapping at that location."""
    for part in location:
        if isinstance(part, str) and (info := model.model_fields.get(part)):
            model = _models_in(info.annotation)[-1]
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type is made of, outermost first."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _keys(section: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in section.model_fields.items()]


def _example(section: type[BaseModel], key: str) -> str:
    for name, info in section.model_fields.items():
        if key in (name, info.alias):
            sample = f", like {key}: {info.examples[0]}" if info.examples else ""
            return f"{info.description}{sample}"
    return f"a value for {key}"
