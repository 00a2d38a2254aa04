"""Which of many objects a selector matches, by an index of their labels.

A set of objects is one integer, a bit for each object, so every operator of a selector is one operation on integers
however many objects there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import and_, or_

from analysis.policy.terms import And, Comparison, Equal, Has, In, Labels, Not, NotIn, Or, Selector, Unequal


class LabelIndex:
    """The labels of objects, which are numbered by their place in the sequence."""

    def __init__(self, objects: Sequence[Labels]) -> None:
        self.everything = (1 << len(objects)) - 1
        members: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for number, labels in enumerate(objects):
            for pair in labels.items():
                members[pair].append(number)
        self._with: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (key, value), numbers in members.items():
            self._with[key][value] = bits(numbers)
        self._having = {key: reduce(or_, values.values()) for key, values in self._with.items()}
        self._selected: dict[Selector, int] = {}

    def select(self, selector: Selector) -> int:
        """The objects that it matches, as bits."""
        if selector not in self._selected:
            self._selected[selector] = self._evaluate(selector)
        return self._selected[selector]

    def _evaluate(self, selector: Selector) -> int:
        match selector:
            case Has(key):
                return self._having.get(key, 0)
            case Equal(key, text):
                return self.values(key).get(text, 0)
            case Unequal(key, text):
                return self.everything & ~self.values(key).get(text, 0)
            case In(key, texts):
                return self._any(key, texts)
            case NotIn(key, texts):
                return self.everything & ~self._any(key, texts)
            case Comparison(key) as test:
                return self._any(key, (value for value in self.values(key) if test.matches({key: value})))
            case Not(term):
                return self.everything & ~self.select(term)
            case And(terms):
                return reduce(and_, map(self.select, terms))
            case Or(terms):
                return reduce(or_, map(self.select, terms))
        return self.everything

    def values(self, key: str) -> Mapping[str, int]:
        """The values that a label has, and the objects with each of them, as bits."""
        return self._with.get(key, {})

    def _any(self, key: str, texts: Iterable[str]) -> int:
        values = self.values(key)
        return reduce(or_, (values.get(text, 0) for text in texts), 0)


def bits(numbers: Iterable[int]) -> int:
    """The set of these numbers."""
    array = bytearray()
    for number in numbers:
        byte = number >> 3
        if byte >= len(array):
            array.extend(bytes(byte + 1 - len(array)))
        array[byte] |= 1 << (number & 7)
    return int.from_bytes(array, "little")


def numbers_of(members: int) -> Iterator[int]:
    """The numbers in a set, in rising order."""
    digits = f"{members:b}"[::-1]
    number = digits.find("1")
    while number >= 0:
        yield number
        number = digits.find("1", number + 1)
