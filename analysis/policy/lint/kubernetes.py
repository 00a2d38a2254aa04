"""What the Kubernetes API refuses in a NetworkPolicy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.policy.lint.complaint import Complaint, block, directions, label_selector, one_of, port_number
from analysis.policy.lint.manifests import FieldPath

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_PEERS = {"ingress": "from", "egress": "to"}


def check_policy(spec: Mapping[str, Any]) -> Iterator[Complaint]:
    """Complaints of the `spec` of a NetworkPolicy."""
    yield from label_selector(("spec", "podSelector"), spec.get("podSelector") or {})
    yield from directions(spec, "policyTypes")
    for direction, peers in _PEERS.items():
        for number, rule in enumerate(spec.get(direction) or ()):
            path = ("spec", direction, number)
            for place, peer in enumerate((rule or {}).get(peers) or ()):
                yield from _peer((*path, peers, place), peer or {})
            for place, port in enumerate((rule or {}).get("ports") or ()):
                yield from _port((*path, "ports", place), port or {})


def _peer(path: FieldPath, peer: Mapping[str, Any]) -> Iterator[Complaint]:
    selectors = [key for key in ("podSelector", "namespaceSelector") if peer.get(key) is not None]
    for key in selectors:
        yield from label_selector((*path, key), peer[key])
    if (addresses := peer.get("ipBlock")) is not None:
        if selectors:
            yield Complaint(path, "an ipBlock stands alone in its item", "make two items, which are joined by or")
        yield from block((*path, "ipBlock"), addresses.get("cidr"), addresses.get("except") or ())
    elif not selectors:
        yield Complaint(path, "a peer needs a podSelector, a namespaceSelector or an ipBlock", "{} selects everything")


def _port(path: FieldPath, port: Mapping[str, Any]) -> Iterator[Complaint]:
    if port.get("protocol") is not None:
        yield from one_of((*path, "protocol"), port["protocol"], _PROTOCOLS)
    if port.get("port") is not None:
        yield from port_number((*path, "port"), port["port"])
    if (end := port.get("endPort")) is not None:
        if not str(port.get("port", "")).isdecimal():
            yield Complaint((*path, "endPort"), "endPort needs a port that is a number")
        elif int(str(end)) < int(str(port["port"])):
            yield Complaint((*path, "endPort"), f"endPort {end} is below port {port['port']}")
