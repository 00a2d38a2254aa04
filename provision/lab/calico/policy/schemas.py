"""The schemas of Calico's policy kinds: the fields of its documentation, as CustomResourceDefinitions have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_STRING: Schema = {"type": "string"}
_SELECTOR: Schema = {"type": "string", "maxLength": 1024}
_BOOLEAN: Schema = {"type": "boolean"}
_NUMBER: Schema = {"type": "number"}
_INT_OR_STRING: Schema = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
_STRINGS: Schema = {"type": "array", "items": _STRING}
_PORTS: Schema = {"type": "array", "items": _INT_OR_STRING, "maxItems": 50}
_NOTES: Schema = {"type": "object", "additionalProperties": _STRING}


def _object(properties: Mapping[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": dict(properties), **({"required": list(required)} if required else {})}


def _enumeration(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


_ICMP = _object({"code": {"type": "integer"}, "type": {"type": "integer"}})
_PATH = _object({"exact": _STRING, "prefix": _STRING})
_END = _object(
    {
        "namespaceSelector": _SELECTOR,
        "nets": _STRINGS,
        "notNets": _STRINGS,
        "notPorts": _PORTS,
        "notSelector": _SELECTOR,
        "ports": _PORTS,
        "selector": _SELECTOR,
        "serviceAccounts": _object({"names": _STRINGS, "selector": _SELECTOR}),
        "services": _object({"name": _STRING, "namespace": _STRING}),
    }
)
_RULE = _object(
    {
        "action": _enumeration("Allow", "Deny", "Log", "Pass"),
        "destination": _END,
        "http": _object({"methods": _STRINGS, "paths": {"type": "array", "items": _PATH}}),
        "icmp": _ICMP,
        "ipVersion": {"type": "integer", "enum": [4, 6]},
        "metadata": _object({"annotations": _NOTES}),
        "notICMP": _ICMP,
        "notProtocol": _INT_OR_STRING,
        "protocol": _INT_OR_STRING,
        "source": _END,
    },
    "action",
)
_RULES: Schema = {"type": "array", "items": _RULE, "maxItems": 1024}
_POLICY: Mapping[str, Schema] = {
    "egress": _RULES,
    "ingress": _RULES,
    "order": _NUMBER,
    "performanceHints": _STRINGS,
    "selector": _SELECTOR,
    "serviceAccountSelector": _SELECTOR,
    "tier": _STRING,
    "types": {"type": "array", "items": _enumeration("Ingress", "Egress"), "maxItems": 2},
}
_FOR_HOSTS: Mapping[str, Schema] = {"applyOnForward": _BOOLEAN, "doNotTrack": _BOOLEAN, "preDNAT": _BOOLEAN}
_SET = _object({"nets": _STRINGS})

_SPECS: Mapping[str, Schema] = {
    "GlobalNetworkPolicy": _object({**_POLICY, **_FOR_HOSTS, "namespaceSelector": _SELECTOR}),
    "GlobalNetworkSet": _SET,
    "NetworkPolicy": _object(_POLICY),
    "NetworkSet": _SET,
    "Tier": _object({"defaultAction": _enumeration("Deny", "Pass"), "order": _NUMBER}),
}


def schema_of(kind: str) -> Schema | None:
    """The schema of a kind; None for one that is no kind of policy."""
    spec = _SPECS.get(kind)
    return None if spec is None else _object({"apiVersion": _STRING, "kind": _STRING, "spec": spec})
