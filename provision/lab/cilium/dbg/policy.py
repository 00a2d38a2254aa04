"""`cilium-dbg policy get`: the rules that an agent has taken, as Cilium's API tells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from provision.lab.cilium.dbg.forms import to_json
from provision.lab.cilium.policy.selectors import NAMESPACE_KEY
from provision.lab.cilium.state import AgentState, PolicyEntry

_KINDS = {"cnp": "CiliumNetworkPolicy", "ccnp": "CiliumClusterwideNetworkPolicy", "knp": "NetworkPolicy"}
_PEERS = ("fromEndpoints", "toEndpoints")
_SECTIONS = ("ingress", "ingressDeny", "egress", "egressDeny")


def policies_json(state: AgentState) -> str:
    """`policy get -o json`: the rules are a text in it."""
    return to_json({"policy": _rules(state).rstrip("\n"), "revision": state.policy_revision})


def policies_text(state: AgentState) -> str:
    """`policy get`."""
    return f"{_rules(state)}Revision: {state.policy_revision}\n"


def _rules(state: AgentState) -> str:
    return to_json([rule for entry in state.policies for rule in _of_policy(entry)])


def _of_policy(entry: PolicyEntry) -> Iterator[dict[str, Any]]:
    words = {"derived-from": _KINDS[entry.kind], "name": entry.name, "namespace": entry.namespace, "uid": entry.uid}
    labels = [
        {"key": f"io.cilium.k8s.policy.{key}", "source": "k8s", "value": value} for key, value in words.items() if value
    ]
    for spec in entry.specs:
        subject = _with_sources(spec.get("endpointSelector") or spec.get("podSelector") or {})
        if entry.namespace:
            subject["matchLabels"] = subject.get("matchLabels", {}) | {f"k8s:{NAMESPACE_KEY}": entry.namespace}
        sections = {name: [_rule(rule) for rule in spec[name]] for name in _SECTIONS if spec.get(name)}
        yield {"endpointSelector": subject, **sections, "labels": labels}


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {
        field: [_with_sources(each) for each in value] if field in _PEERS and value else value
        for field, value in rule.items()
    }


def _with_sources(selector: Mapping[str, Any]) -> dict[str, Any]:
    """A selector whose labels all say where they come from, `any` where the policy does not say."""
    found: dict[str, Any] = {}
    if selector.get("matchLabels"):
        found["matchLabels"] = {_source(key): value for key, value in selector["matchLabels"].items()}
    if selector.get("matchExpressions"):
        found["matchExpressions"] = [{**row, "key": _source(row["key"])} for row in selector["matchExpressions"]]
    return found


def _source(key: str) -> str:
    return key if ":" in key else f"any:{key}"
