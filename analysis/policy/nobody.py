"""Why a selector that could match something matches nobody today, in words."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.policy.calico_view import ClusterView
from analysis.policy.label_index import numbers_of
from analysis.policy.model import World
from analysis.policy.terms import And, Equal, Has, In, LabelTest, Not, Selector
from analysis.words import count, listed


def why_nobody(view: ClusterView, world: World, selector: Selector, *, subjects: bool) -> str:
    """What keeps it from matching: a label that nobody has, or the cluster that those live in who would match.

    Args:
        view: what the cluster knows.
        world: everything there is.
        selector: what was looked for.
        subjects: it picks endpoints of the own cluster for a policy to act on, rather than peers of a rule.
    """
    abroad = view.abroad_index.select(selector)
    pods = count(abroad.bit_count(), "pod")
    if abroad and subjects:
        return f"{pods} of other clusters would match, and a policy acts in its own cluster alone"
    if abroad and not world.options.federation:
        where = listed(sorted({view.abroad[number].cluster for number in numbers_of(abroad)}))
        return (
            f"{pods} of {where} would match, and this cluster knows no endpoints of others: that "
            "takes federation, or network sets with these labels"
        )
    for test in _tests(selector):
        if not view.index.select(test):
            return _missing(view, test)
    return f"nobody has all the labels of {selector.canonical}"


def _tests(selector: Selector) -> Iterator[Selector]:
    """The tests that all must hold."""
    if isinstance(selector, And):
        for term in selector.terms:
            yield from _tests(term)
    elif isinstance(selector, LabelTest | Not):
        yield selector


def _missing(view: ClusterView, test: Selector) -> str:
    match test:
        case Has(key):
            return f"nobody has the label {key}"
        case Equal(key) | In(key):
            values = view.index.values(key)
            if not values:
                return f"nobody has the label {key}"
            return f"nobody has {test.canonical}; the label is " + listed([f'"{each}"' for each in sorted(values)])
    return f"nobody has {test.canonical}"
