"""Calico's label selectors: what policies, rules, `nodeSelector` and `peerSelector` choose.

The language is the one that Calico's documentation gives: `all()`, `global()`, `has(k)`, `k == 'v'`, `k != 'v'`,
`k in {'a', 'b'}`, `k not in {...}`, `k contains 'v'`, `k starts with 'v'`, `k ends with 'v'`, `!`, `&&`, `||` and
brackets. A selector is parsed once and gives a predicate over labels. The judges have a reader of their own: what plays
Calico must share no mistake with what judges it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

Labels: TypeAlias = Mapping[str, str]
Predicate: TypeAlias = Callable[[Labels], bool]

_KEY = r"[A-Za-z0-9_./-]+"
_TOKEN = re.compile(
    rf"""[ \t]*(?:
      (?P<string>'[^']*'|"[^"]*")
    | (?P<symbol>==|!=|&&|\|\||[!(){{}},])
    | (?P<word>{_KEY})
    )""",
    re.VERBOSE,
)
_CALL = re.compile(r"(all|global)\([ \t]*\)|has\(")
_OPERATOR = re.compile(r"(?:(contains|in)|(starts|ends)[ \t]*(with)|(not)[ \t]*(in))(?![A-Za-z0-9_./-])")


class SelectorError(ValueError):
    """The text is not a selector; the message quotes it and says where it breaks."""


def parse_selector(text: str, *, prefix: str = "", within: str = "") -> Predicate:
    """The predicate that the selector stands for. An empty selector chooses everything, as in Calico.

    Args:
        text: the selector.
        prefix: what to put before every key: what a pod inherits from its namespace or its account has one.
        within: a key that `all()` asks for, and that `global()` asks to be absent: "" for `all()` and `global()` that
            choose everything. So Calico tells what is in a namespace from what is not.

    Raises:
        SelectorError: the text is not a selector.
    """
    return _Parser(text, prefix, within).parse()


def _everything(_labels: Labels) -> bool:
    return True


class _Parser:
    """Recursive descent over the text; each method reads one level of the grammar."""

    def __init__(self, text: str, prefix: str, within: str) -> None:
        self._text = text
        self._prefix = prefix
        self._within = within
        self._at = 0

    def parse(self) -> Predicate:
        if not self._text.strip(" \t"):
            return self._all()
        predicate = self._any_of()
        if not self._is_over():
            raise self._error("the end")
        return predicate

    def _is_over(self) -> bool:
        return not self._text[self._at :].strip(" \t")

    def _next(self) -> re.Match[str] | None:
        return _TOKEN.match(self._text, self._at)

    def _error(self, expected: str) -> SelectorError:
        if self._is_over():
            return SelectorError(f"selector {self._text!r}: expected {expected}, found the end")
        found = self._next()
        if found is None:
            return SelectorError(f"selector {self._text!r}: cannot read {self._text[self._at :]!r}")
        return SelectorError(f"selector {self._text!r}: expected {expected}, found {found.group().strip()}")

    def _accept(self, symbol: str) -> bool:
        found = self._next()
        if found is None or found["symbol"] != symbol:
            return False
        self._at = found.end()
        return True

    def _expect(self, symbol: str) -> None:
        if not self._accept(symbol):
            raise self._error(repr(symbol))

    def _any_of(self) -> Predicate:
        terms = [self._all_of()]
        while self._accept("||"):
            terms.append(self._all_of())
        return terms[0] if len(terms) == 1 else lambda labels: any(term(labels) for term in terms)

    def _all_of(self) -> Predicate:
        terms = [self._not()]
        while self._accept("&&"):
            terms.append(self._not())
        return terms[0] if len(terms) == 1 else lambda labels: all(term(labels) for term in terms)

    def _not(self) -> Predicate:
        if self._accept("!"):
            inner = self._not()
            return lambda labels: not inner(labels)
        if self._accept("("):
            inner = self._any_of()
            self._expect(")")
            return inner
        return self._call() or self._comparison()

    def _call(self) -> Predicate | None:
        self._skip_blanks()
        found = _CALL.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        if found[1]:
            return self._all() if found[1] == "all" else self._global()
        key = self._key()
        self._expect(")")
        return lambda labels: key in labels

    def _all(self) -> Predicate:
        within = self._within
        return (lambda labels: within in labels) if within else _everything

    def _global(self) -> Predicate:
        within = self._within
        return (lambda labels: within not in labels) if within else _everything

    def _comparison(self) -> Predicate:
        key = self._key()
        if self._accept("=="):
            value = self._string()
            return lambda labels: labels.get(key) == value
        if self._accept("!="):
            value = self._string()
            return lambda labels: labels.get(key) != value
        match self._operator():
            case "in":
                values = self._strings()
                return lambda labels: labels.get(key) in values
            case "not in":
                values = self._strings()
                return lambda labels: labels.get(key) not in values
            case "contains":
                value = self._string()
                return lambda labels: key in labels and value in labels[key]
            case "starts with":
                value = self._string()
                return lambda labels: key in labels and labels[key].startswith(value)
            case _:
                value = self._string()
                return lambda labels: key in labels and labels[key].endswith(value)

    def _operator(self) -> str:
        self._skip_blanks()
        found = _OPERATOR.match(self._text, self._at)
        if found is None:
            raise self._error("an operator")
        self._at = found.end()
        return " ".join(filter(None, found.groups()))

    def _skip_blanks(self) -> None:
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1

    def _key(self) -> str:
        found = self._next()
        if found is None or found["word"] is None:
            raise self._error("a label key")
        self._at = found.end()
        return self._prefix + found["word"]

    def _string(self) -> str:
        found = self._next()
        if found is None or found["string"] is None:
            raise self._error("a quoted value")
        self._at = found.end()
        return found["string"][1:-1]

    def _strings(self) -> frozenset[str]:
        self._expect("{")
        values = set()
        while not self._accept("}"):
            values.add(self._string())
            if not self._accept(","):
                self._expect("}")
                break
        return frozenset(values)
