"""What the linter can find: each sort with its name, how grave it is, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Level(str, Enum):
    """How grave a finding is. An error or a warning makes the exit code 1."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """Something in a file that its author would want to know.

    Attributes:
        check: which sort it is, one of `CHECKS`.
        object: kind and name of the object that it is about.
        place: where in the object ("ingress rule 1"), "" for all of it.
        detail: more about it, in whole sentences.
        remedy: what to do, "" where the message says it.
    """

    check: str
    level: Level
    file: str
    line: int
    object: str
    message: str
    place: str = ""
    detail: str = ""
    remedy: str = ""


CHECKS: Mapping[str, tuple[Level, str]] = {
    "not-yaml": (Level.ERROR, "The file cannot be read as YAML."),
    "no-object": (Level.ERROR, "A document is no Kubernetes object."),
    "unknown-version": (Level.ERROR, "The API has no such kind in that version."),
    "repeated-field": (Level.ERROR, "A field is written twice; only the last counts."),
    "unknown-field": (Level.ERROR, "The kind has no such field; a server may drop it without a word."),
    "invalid": (Level.ERROR, "The API or the engine refuses it."),
    "unsatisfiable-selector": (Level.ERROR, "No labels whatever can match."),
    "unsatisfiable-by-implicit-labels": (Level.WARNING, "No object can match with the labels it gets by itself."),
    "contradictory-ports": (Level.ERROR, "The ports that it names are all left out again."),
    "contradictory-nets": (Level.ERROR, "The addresses that it names are all left out again."),
    "contradictory-protocol": (Level.ERROR, "The protocol that it names is left out again."),
    "contradictory-ip-version": (Level.ERROR, "The IP version does not fit the rest of the rule."),
    "catch-all-in-not-nets": (Level.ERROR, "A notNets of all addresses makes Calico ignore the rule."),
    "cidr-covers-only-managed-endpoints": (Level.ERROR, "Cilium never matches a pod by its address."),
    "shadowed": (Level.WARNING, "An earlier rule takes all that it would match."),
    "covered-by-deny": (Level.WARNING, "A denial takes all that it would allow."),
    "direction-not-in-types": (Level.WARNING, "Rules of a direction that the policy does not take part in."),
    "empty-peer-list": (Level.WARNING, "A list of peers that is there and empty means nobody."),
    "empty-rule": (Level.NOTE, "In Cilium a rule that says nothing allows nothing."),
    "entity-none": (Level.NOTE, "The entity none is nobody."),
    "staged-not-enforced": (Level.NOTE, "A staged policy is shown, never enforced."),
    "named-port-undefined": (Level.WARNING, "No container has a port of that name."),
    "matches-nobody-now": (Level.NOTE, "Nobody has these labels today."),
    "policy-selects-nobody": (Level.WARNING, "The policy selects no pod that there is."),
    "denies-everything": (Level.WARNING, "None of its rules works, so what remains is denial."),
    "dns-blocked": (Level.WARNING, "Pods that may not ask DNS cannot find anybody by name."),
    "selects-host-endpoints": (Level.WARNING, "Without a namespaceSelector it polices the nodes themselves too."),
    "means-outsiders-too": (Level.WARNING, "A negated namespace also means whoever is in no namespace."),
    "impossible-value": (Level.WARNING, "No Kubernetes label can have that value."),
}
"""Every sort of finding: how grave it is, and what it means."""


def finding(check: str, file: str, line: int, title: str, message: str) -> Finding:
    """A finding of a sort, with that sort's level."""
    return Finding(check, CHECKS[check][0], file, line, title, message)
