"""Which objects a selector means, in the form that objects carry it (not the text form of the API's queries)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a LabelSelector matches; no selector matches nothing, an empty one everything."""
    if selector is None:
        return False
    labels = labels or {}
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        requirement_holds(requirement, labels) for requirement in selector.get("matchExpressions") or ()
    )


def requirement_holds(requirement: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    """Whether one `{key, operator, values}` holds, of a label selector or of a node selector.

    Raises:
        ValueError: there is no such operator.
    """
    key, operator = requirement["key"], requirement["operator"]
    present, value = key in values, values.get(key)
    wanted: list[str] = requirement.get("values") or []
    match operator:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return present
        case "DoesNotExist":
            return not present
        case "Gt":
            return value is not None and int(value) > int(wanted[0])
        case "Lt":
            return value is not None and int(value) < int(wanted[0])
    raise ValueError(f"operator {operator!r} is none of In, NotIn, Exists, DoesNotExist, Gt, Lt")


def node_fits(pod_spec: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether a node is one that the pod's nodeSelector and required node affinity allow."""
    meta = node["metadata"]
    labels = meta.get("labels") or {}
    if any(labels.get(key) != value for key, value in (pod_spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(_term_holds(term, labels, meta["name"]) for term in required.get("nodeSelectorTerms") or ())


def tolerates(tolerations: Iterable[Mapping[str, Any]], taint: Mapping[str, Any]) -> bool:
    """Whether any of the tolerations bears a taint."""
    return any(_bears(toleration, taint) for toleration in tolerations)


def repels(node: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a node's taints keep away a new pod with these tolerations."""
    borne = tuple(tolerations)
    return any(
        taint["effect"] in ("NoSchedule", "NoExecute") and not tolerates(borne, taint)
        for taint in node.get("spec", {}).get("taints") or ()
    )


def _bears(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or (toleration.get("value") or "") == (taint.get("value") or "")


def _term_holds(term: Mapping[str, Any], labels: Mapping[str, str], name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(requirement_holds(row, labels) for row in expressions) and all(
        requirement_holds(row, {"metadata.name": name}) for row in fields
    )
