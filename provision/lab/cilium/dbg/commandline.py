"""A command line of `cilium-dbg`, taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WITH_VALUE = frozenset({"output", "kvstore", "kvstore-opt", "key", "value", "timeout", "host"})
_SHORT = {"o": "output", "D": "debug", "h": "help", "n": "numeric", "a": "all"}


@dataclass(frozen=True)
class CommandLine:
    """The words of a command line, and its options, by their long names; an option without a value has "true"."""

    words: tuple[str, ...]
    options: dict[str, str]

    @property
    def output(self) -> str:
        """The form that is asked for: "json", or "" for text."""
        return self.options.get("output", "")

    def has(self, *names: str) -> bool:
        """One of these options is given, and not as false."""
        return any(self.options.get(name, "false") != "false" for name in names)


def parse(arguments: Sequence[str]) -> CommandLine:
    """Take a command line apart, as pflag does: `--name value`, `--name=value`, `-o value`, `-ovalue`."""
    words: list[str] = []
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            words += rest
            break
        if not argument.startswith("-") or argument == "-":
            words.append(argument)
            continue
        name, value = _option(argument)
        if value is None:
            value = rest.pop(0) if name in _WITH_VALUE and rest else "true"
        options[name] = value
    return CommandLine(tuple(words), options)


def _option(argument: str) -> tuple[str, str | None]:
    if argument.startswith("--"):
        name, equals, value = argument[2:].partition("=")
        return name, value if equals else None
    name = _SHORT.get(argument[1], argument[1])
    return name, argument[2:].removeprefix("=") or None
