"""Many things are named in few words, and few in full."""

from __future__ import annotations

import pytest

from analysis.words import count, listed, name_members, together

EVERYONE = [(region, f"{region}-{n}") for region in ("east", "west") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (EVERYONE, "all 6 nodes"),
        ([member for member in EVERYONE if member[0] == "east"], "all 3 nodes of east"),
        ([("east", "east-2")], "east-2"),
        ([("east", "east-2"), ("west", "west-1")], "east-2 and west-1"),
        ([*EVERYONE[:3], ("west", "west-1")], "all nodes but west-2 and west-3"),
        (EVERYONE[1:], "all nodes but east-1"),
        (EVERYONE[:2], "east-1 and east-2"),
        ([("east", "2")], "east/2"),
    ],
)
def test_members_by_region(members, words):
    assert name_members(members, EVERYONE, "nodes") == words


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c", "d"], "a, b, c and d"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
    ],
)
def test_lists(items, words):
    assert listed(items) == words


def test_counts():
    assert (count(1, "node"), count(3, "node")) == ("1 node", "3 nodes")


def test_what_is_wrong_at_the_same_places_stands_together():
    groups = together([("a", 1), ("b", 1), ("a", 2), ("b", 2), ("c", 3)])
    assert groups == [(frozenset("ab"), [1, 2]), (frozenset("c"), [3])]
