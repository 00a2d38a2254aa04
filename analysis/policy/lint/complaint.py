"""What is wrong at a place of an object, before it is told with file and line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from analysis.policy.label_selector import Operator
from analysis.policy.lint.manifests import FieldPath


@dataclass(frozen=True)
class Complaint:
    """Something wrong at a field.

    Attributes:
        check: which sort of finding it is.
    """

    path: FieldPath
    message: str
    remedy: str = ""
    check: str = "invalid"
    detail: str = ""


def one_of(path: FieldPath, value: Any, choices: Iterable[str]) -> Iterator[Complaint]:
    """A complaint when the value is none of the choices, which are spelt exactly so."""
    choices = tuple(choices)
    if value not in choices:
        yield Complaint(path, f"{path[-1]} {value!r} is none of {', '.join(choices)}")


def directions(spec: Mapping[str, Any], field: str) -> Iterator[Complaint]:
    """Complaints of the directions that a policy takes part in, by the field that says so, and of rules for others."""
    types = spec.get(field) or ()
    for number, each in enumerate(types):
        yield from one_of(("spec", field, number), each, ("Ingress", "Egress"))
    for direction in ("ingress", "egress"):
        if types and spec.get(direction) and direction.capitalize() not in types:
            yield Complaint(
                ("spec", direction),
                f"these rules are never used: {field} does not have {direction.capitalize()}",
                check="direction-not-in-types",
            )


def port_number(path: FieldPath, value: Any, lowest: int = 1) -> Iterator[Complaint]:
    """A complaint when a port is a number that there is not; names pass."""
    text = str(value)
    if text.lstrip("-").isdecimal() and not lowest <= int(text) <= 65535:
        yield Complaint(path, f"there is no port {text}: ports are {lowest} to 65535")


def is_network(text: Any) -> bool:
    """Whether it is an address or a network in CIDR notation."""
    try:
        ip_network(str(text), strict=False)
    except ValueError:
        return False
    return True


def block(path: FieldPath, cidr: Any, exceptions: Iterable[Any]) -> Iterator[Complaint]:
    """Complaints of a network and of what is taken out of it, which must lie inside."""
    if not is_network(cidr):
        yield Complaint((*path, "cidr"), f"{cidr!r} is no network in CIDR notation, like 10.0.0.0/8")
        return
    whole = ip_network(str(cidr), strict=False)
    for number, each in enumerate(exceptions):
        where = (*path, "except", number)
        if not is_network(each):
            yield Complaint(where, f"{each!r} is no network in CIDR notation, like 10.0.0.0/8")
            continue
        part = ip_network(str(each), strict=False)
        if part.version != whole.version or not part.subnet_of(whole) or part == whole:  # type: ignore[arg-type]
            yield Complaint(where, f"{each} is not strictly inside {cidr}")


def label_selector(path: FieldPath, document: Any) -> Iterator[Complaint]:
    """Complaints of a selector with matchLabels and matchExpressions."""
    if not isinstance(document, Mapping):
        yield Complaint(path, "a selector is an object with matchLabels or matchExpressions; {} selects everything")
        return
    if not isinstance(document.get("matchLabels") or {}, Mapping):
        yield Complaint((*path, "matchLabels"), "matchLabels is an object of labels and their values")
    for number, each in enumerate(document.get("matchExpressions") or ()):
        where = (*path, "matchExpressions", number)
        operator, values = each.get("operator"), each.get("values") or ()
        if not each.get("key"):
            yield Complaint(where, "an expression needs a key")
        if complaints := list(one_of((*where, "operator"), operator, [each.value for each in Operator])):
            yield from complaints
        elif bool(values) is not (operator in ("In", "NotIn")):
            need = "needs values" if not values else "takes no values"
            yield Complaint(where, f"the operator {operator} {need}")
