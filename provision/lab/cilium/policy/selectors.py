"""Selectors of endpoints by the labels of their identities, as Cilium reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from provision.lab.cilium.state import Labels

ANY, K8S, RESERVED = "any", "k8s", "reserved"
"""Where a label comes from: no matter where, from Kubernetes, from Cilium itself."""

NAMESPACE_KEY = "io.kubernetes.pod.namespace"
CLUSTER_KEY = "io.cilium.k8s.policy.cluster"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."


class SelectorError(ValueError):
    """It is no label selector; the text says why."""


class Operator(str, Enum):
    """What a requirement asks of a label."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True)
class Requirement:
    """One condition. `source` ANY is content with a label of any source."""

    source: str
    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Labels) -> bool:
        """Whether an identity with these labels meets it; a label that is missing is not in any set of values."""
        found = [value for source, key, value in map(split_label, labels) if key == self.key and self._is_from(source)]
        match self.operator:
            case Operator.IN:
                return any(value in self.values for value in found)
            case Operator.NOT_IN:
                return not any(value in self.values for value in found)
            case Operator.EXISTS:
                return bool(found)
            case Operator.DOES_NOT_EXIST:
                return not found

    def _is_from(self, source: str) -> bool:
        return self.source in (ANY, source)


@dataclass(frozen=True)
class Selector:
    """Conditions that must all hold; without any, everything is selected."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Whether an identity with these labels is selected."""
        return all(requirement.holds(labels) for requirement in self.requirements)

    def names(self, key: str) -> bool:
        """Whether a condition is about that label of Kubernetes'."""
        return any(each.key == key and each.source in (ANY, K8S) for each in self.requirements)

    def names_any(self, prefix: str) -> bool:
        """Whether a condition is about a label of Kubernetes' that begins so."""
        return any(each.key.startswith(prefix) and each.source in (ANY, K8S) for each in self.requirements)

    @property
    def is_reserved(self) -> bool:
        """Whether a condition is about Cilium's own labels."""
        return any(each.source == RESERVED for each in self.requirements)

    def also(self, *requirements: Requirement) -> Selector:
        """The same with further conditions."""
        return Selector((*self.requirements, *requirements))

    def without(self, key: str) -> Selector:
        """The same without the conditions on that label."""
        return Selector(tuple(each for each in self.requirements if each.key != key))


def has_value(key: str, value: str) -> Requirement:
    """Kubernetes gives the label that value."""
    return Requirement(K8S, key, Operator.IN, frozenset({value}))


def exists(key: str) -> Requirement:
    """Kubernetes gives the label some value."""
    return Requirement(K8S, key, Operator.EXISTS)


def split_label(label: str) -> tuple[str, str, str]:
    """Source, key and value of a label such as "k8s:app=web" or "reserved:host"."""
    source, _, rest = label.partition(":")
    key, _, value = rest.partition("=")
    return source, key, value


def cilium_key(key: str) -> tuple[str, str]:
    """Source and key of a label's name in a Cilium policy: "k8s:app", "app"."""
    source, colon, rest = key.partition(":")
    return (source, rest) if colon else (ANY, key)


def read_selector(selector: Any, name: Callable[[str], tuple[str, str]] = cilium_key) -> Selector:
    """A label selector of an API object.

    Args:
        selector: `matchLabels` and `matchExpressions`.
        name: gives source and key for the name of a label.

    Raises:
        SelectorError: it is none.
    """
    if not isinstance(selector, Mapping):
        raise SelectorError(f"{selector!r} is no label selector")
    found = [
        Requirement(*name(key), Operator.IN, frozenset({str(value)}))
        for key, value in sorted((selector.get("matchLabels") or {}).items())
    ]
    return Selector((*found, *(_expression(row, name) for row in selector.get("matchExpressions") or ())))


def _expression(row: Mapping[str, Any], name: Callable[[str], tuple[str, str]]) -> Requirement:
    try:
        operator = Operator(row["operator"])
        values = frozenset(map(str, row.get("values") or ()))
    except (KeyError, ValueError, TypeError) as error:
        raise SelectorError(f"{row!r} is no condition of a label selector") from error
    if bool(values) is not (operator in (Operator.IN, Operator.NOT_IN)):
        raise SelectorError(f"{operator.value} on {row['key']} has {'values' if values else 'no values'}")
    return Requirement(*name(str(row["key"])), operator, values)
