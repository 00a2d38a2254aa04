"""How Calico makes one selector of several fields: a policy's own, and those of a rule's source or destination.

The fields of a rule that name endpoints (`selector`, `serviceAccounts`, `namespaceSelector`, `notSelector`) join into a
condition on a known endpoint or network set. Only a `notSelector` that stands alone is a condition on the packet, and
so lets through addresses that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.policy.endpoint_labels import ACCOUNT_PREFIX, NAMESPACE, NAMESPACE_PREFIX, SERVICE_ACCOUNT
from analysis.policy.selector import parse_selector
from analysis.policy.terms import All, Comparison, Equal, Global, Has, In, Membership, Not, Selector, both


@dataclass(frozen=True)
class Peer:
    """Which endpoints a side of a rule means.

    Attributes:
        known: what an endpoint or a network set at the address must match; None for any address, known or not.
        excluded: what nobody at the address may match.
    """

    known: Selector | None = None
    excluded: Selector | None = None


def policy_selector(spec: Mapping[str, Any], namespace: str) -> Selector:
    """What a policy selects; `namespace` is "" for a policy of the whole cluster.

    With a namespaceSelector `all()` means every endpoint in a namespace, in any of the fields, and likewise with a
    serviceAccountSelector every endpoint that has an account.

    Raises:
        SelectorError: one of the fields is no selector.
    """
    own = _field(spec, "selector") or All()
    terms = [own]
    if namespace:
        terms.append(Equal(NAMESPACE, namespace))
    elif selector := _field(spec, "namespaceSelector"):
        terms = [_in_place_of_all(each, Has(NAMESPACE)) for each in (own, _prefixed(selector, NAMESPACE_PREFIX))]
    if selector := _field(spec, "serviceAccountSelector"):
        account = _in_place_of_all(_prefixed(selector, ACCOUNT_PREFIX), Has(SERVICE_ACCOUNT))
        terms = [*(_in_place_of_all(each, Has(SERVICE_ACCOUNT)) for each in terms), account]
    return both(*terms)


def rule_peer(side: Mapping[str, Any], namespace: str) -> Peer:
    """Which endpoints a rule's `source` or `destination` means, in a policy of that namespace ("" for a global one).

    A rule of a namespaced policy keeps to its own namespace as soon as it names endpoints at all, unless a
    namespaceSelector says otherwise.

    Raises:
        SelectorError: one of the fields is no selector.
    """
    accounts: Mapping[str, Any] = side.get("serviceAccounts") or {}
    terms: list[Selector] = []
    if names := accounts.get("names"):
        terms.append(In(SERVICE_ACCOUNT, frozenset(names)))
    if selector := _field(accounts, "selector"):
        terms.append(_prefixed(selector, ACCOUNT_PREFIX))
    if selector := _field(side, "selector"):
        terms.append(selector)
    excluded = _field(side, "notSelector")
    if selector := _field(side, "namespaceSelector"):
        terms.append(_of_namespaces(selector))
    elif namespace and (terms or excluded):
        terms.append(Equal(NAMESPACE, namespace))
    if not terms:
        return Peer(excluded=excluded)
    return Peer(both(*terms, Not(excluded)) if excluded else both(*terms))


def _field(fields: Mapping[str, Any], name: str) -> Selector | None:
    text = fields.get(name)
    return parse_selector(text) if text else None


def _of_namespaces(selector: Selector) -> Selector:
    """A rule's namespaceSelector, where `all()` means inside and `global()` outside of namespaces."""

    def change(test: Selector) -> Selector:
        return Not(Has(NAMESPACE)) if isinstance(test, Global) else test

    return _in_place_of_all(_prefixed(selector, NAMESPACE_PREFIX), Has(NAMESPACE)).rewritten(change)


def _in_place_of_all(selector: Selector, meaning: Selector) -> Selector:
    return selector.rewritten(lambda test: meaning if isinstance(test, All) else test)


def _prefixed(selector: Selector, prefix: str) -> Selector:
    def change(test: Selector) -> Selector:
        match test:
            case Comparison(key, text):
                return type(test)(prefix + key, text)
            case Membership(key, texts):
                return type(test)(prefix + key, texts)
            case Has(key):
                return Has(prefix + key)
        return test

    return selector.rewritten(change)
