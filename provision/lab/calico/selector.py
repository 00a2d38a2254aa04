"""Calico's label selectors: what `nodeSelector` and `peerSelector` choose.

The grammar is Calico's for labels of one object: `all()`, `has(k)`, `k == 'v'`, `k != 'v'`, `k in {'a', 'b'}`,
`k not in {...}`, `k contains 'v'`, `k starts with 'v'`, `k ends with 'v'`, `!`, `&&`, `||` and brackets. A selector is
parsed once and gives a predicate over labels. The judges have a reader of their own (`analysis.policy.selector`): what plays
Calico must share no mistake with what judges it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

Labels: TypeAlias = Mapping[str, str]
Predicate: TypeAlias = Callable[[Labels], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'[^']*'|\"[^\"]*\")|(?P<symbol>==|!=|&&|\|\||[!(){},])|(?P<word>[A-Za-z0-9_./-]+))"
)


class SelectorError(ValueError):
    """The text is not a selector; the message quotes it and says where it breaks."""


def parse_selector(text: str) -> Predicate:
    """The predicate that the selector stands for. An empty selector chooses everything, as in Calico.

    Raises:
        SelectorError: the text is not a selector.
    """
    parser = _Parser(text)
    if not parser.rest():
        return _everything
    predicate = parser.any_of()
    if parser.rest():
        raise parser.error("the end")
    return predicate


def _everything(_labels: Labels) -> bool:
    return True


class _Parser:
    """Recursive descent over the tokens; each method reads one level of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._at = 0

    def _split(self, text: str) -> list[str]:
        tokens, position = [], 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None:
                raise SelectorError(f"selector {text!r}: cannot read {text[position:]!r}")
            tokens.append(match.group().strip())
            position = match.end()
        return tokens

    def rest(self) -> list[str]:
        return self._tokens[self._at :]

    def error(self, expected: str) -> SelectorError:
        seen = self.rest()[0] if self.rest() else "the end"
        return SelectorError(f"selector {self._text!r}: expected {expected}, found {seen}")

    def _accept(self, *tokens: str) -> bool:
        if tuple(self._tokens[self._at : self._at + len(tokens)]) != tokens:
            return False
        self._at += len(tokens)
        return True

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise self.error(repr(token))

    def any_of(self) -> Predicate:
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
            inner = self.any_of()
            self._expect(")")
            return inner
        return self._term()

    def _term(self) -> Predicate:
        if self._accept("all", "(", ")"):
            return _everything
        if self._accept("has", "("):
            key = self._key()
            self._expect(")")
            return lambda labels: key in labels
        key = self._key()
        if self._accept("=="):
            value = self._string()
            return lambda labels: labels.get(key) == value
        if self._accept("!="):
            value = self._string()
            return lambda labels: labels.get(key) != value
        if self._accept("in"):
            values = self._strings()
            return lambda labels: labels.get(key) in values
        if self._accept("not", "in"):
            values = self._strings()
            return lambda labels: labels.get(key) not in values
        if self._accept("contains"):
            value = self._string()
            return lambda labels: key in labels and value in labels[key]
        if self._accept("starts", "with"):
            value = self._string()
            return lambda labels: key in labels and labels[key].startswith(value)
        if self._accept("ends", "with"):
            value = self._string()
            return lambda labels: key in labels and labels[key].endswith(value)
        raise self.error("an operator")

    def _key(self) -> str:
        token = self.rest()[0] if self.rest() else ""
        if not re.fullmatch(r"[A-Za-z0-9_./-]+", token):
            raise self.error("a label key")
        self._at += 1
        return token

    def _string(self) -> str:
        token = self.rest()[0] if self.rest() else ""
        if token[:1] not in ("'", '"'):
            raise self.error("a quoted value")
        self._at += 1
        return token[1:-1]

    def _strings(self) -> frozenset[str]:
        self._expect("{")
        values = [self._string()]
        while self._accept(","):
            values.append(self._string())
        self._expect("}")
        return frozenset(values)
