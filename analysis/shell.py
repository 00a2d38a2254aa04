"""Shell command lines as words, for reading what a container runs. Nothing is expanded, and nothing is run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

SHELLS = ("sh", "bash", "dash", "ash")
_SEPARATORS = frozenset(";&|()<>\n")
_REDIRECTIONS = frozenset("<>")
_HELD = "\x00{}\x00"
"""Stands for a substitution while a line is split, because it may hold blanks, quotes and separators."""


def commands(words: Sequence[str]) -> list[list[str]]:
    """The simple commands that a container's command and arguments come to: those of its script, or itself.

    A substitution ("$(hostname -f)", "${NAME}", "`date`") stays as it is written, within its word.

    Raises:
        ValueError: the script has a quotation, or a substitution, without an end.
    """
    script = _script(words)
    return [list(words)] if script is None else list(_split(script))


def _script(words: Sequence[str]) -> str | None:
    """What a shell is given to run with -c, possibly among other letters ("-ecx"); None when it is no shell."""
    if not words or words[0].rpartition("/")[2] not in SHELLS:
        return None
    for place, word in enumerate(words[1:], start=1):
        if word.startswith("-") and not word.startswith("--") and "c" in word:
            return words[place + 1] if place + 1 < len(words) else ""
    return None


def _split(script: str) -> Iterator[list[str]]:
    held: list[str] = []
    text = _hold_substitutions(script.replace("\\\n", ""), held)
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()<>\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = "#"
    command: list[str] = []
    for token in lexer:
        if _REDIRECTIONS & set(token) and set(token) <= _SEPARATORS:
            next(lexer, None)  # where it is led to
            if command and command[-1].isdigit():  # and what is led there: "2>&1"
                command.pop()
        elif set(token) <= _SEPARATORS:
            if command:
                yield command
            command = []
        else:
            command.append(_put_back(token, held))
    if command:
        yield command


def _hold_substitutions(text: str, held: list[str]) -> str:
    """The text with a mark in the place of every substitution; what it stood for is appended to `held`."""
    out, place = [], 0
    while place < len(text):
        if text[place] == "\\":
            out.append(text[place : place + 2])
            place += 2
            continue
        end = _end_of_substitution(text, place)
        if end == place:
            out.append(text[place])
            place += 1
        else:
            out.append(_HELD.format(len(held)))
            held.append(text[place:end])
            place = end
    return "".join(out)


def _end_of_substitution(text: str, start: int) -> int:
    """Where the substitution that begins there ends; `start` itself when none begins there."""
    if text[start] == "`":
        end = text.find("`", start + 1)
        if end < 0:
            raise ValueError("a backquote without its end")
        return end + 1
    opening = text[start : start + 2]
    if opening not in ("$(", "${"):
        return start
    brackets = {"$(": "()", "${": "{}"}[opening]
    depth = 0
    for place in range(start + 1, len(text)):
        depth += {brackets[0]: 1, brackets[1]: -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise ValueError(f"a {opening} without its end")


def _put_back(token: str, held: Sequence[str]) -> str:
    parts = token.split("\x00")
    return "".join(held[int(part)] if place % 2 else part for place, part in enumerate(parts))
