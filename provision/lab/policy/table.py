"""What policy comes to on one node, as an nftables table.

The forward hook sees what goes to or from pods: an established connection goes on; of a new one the source pod's egress
rules are asked if it is on this node, and then the target pod's ingress rules if that one is. The input hook sees what
pods send to their own node. What the node itself sends to its pods passes no hook: no product polices that. A pod that
nothing polices is in no map, and its packets cost one lookup in each.

Whoever looks at a node finds a chain for each direction of a pod (`egress-DEVICE`), policies' names as comments, and a
counter in every rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, collapse_addresses

from provision.lab.policy.rules import Action, Chain, Match, PolicedPod, Rule

_WITH_PORTS = "{ tcp, udp, sctp }"
_LONGEST_COMMENT = 127
"""What nft takes, in bytes."""

_Sets = Mapping[frozenset[IPv4Network], str]


def policy_table(name: str, pods: Iterable[PolicedPod], to_own_node: Action = Action.ACCEPT) -> str:
    """Write the table.

    Args:
        name: family and name, as `kernel.load_rules` takes them ("ip calico-policy").
        pods: the pods of the node; those that nothing polices may be left out unless `to_own_node` is DROP.
        to_own_node: what becomes of a packet from a pod to its own node that the pod's egress rules let pass
            (`DefaultEndpointToHostAction`, where Calico is).
    """
    known = sorted(pods, key=lambda pod: pod.device)
    ingress = {pod.device: pod.ingress for pod in known if pod.ingress is not None}
    egress = {pod.device: pod.egress for pod in known if pod.egress is not None}
    sets = _named_sets((*ingress.values(), *egress.values()))
    parts = [_set(set_name, networks) for networks, set_name in sets.items()]
    for device, chain in ingress.items():
        parts += _chains(f"ingress-{device}", "saddr", chain, sets)
    for device, chain in egress.items():
        parts += _chains(f"egress-{device}", "daddr", chain, sets)
    from_pods, to_pods = _jump("iifname", "egress", egress), _jump("oifname", "ingress", ingress)
    parts += _hook("forward", [*from_pods, *to_pods])
    fenced = [f'"{pod.device}"' for pod in known] if to_own_node is Action.DROP else []
    end = [f"iifname {{ {', '.join(fenced)} }} counter drop"] if fenced else []
    parts += _hook("input", [*from_pods, *end])
    return f"table {name} {{\n{''.join(parts)}}}\n"


def _named_sets(chains: Iterable[Chain]) -> _Sets:
    """A name for every set of addresses; rules that speak of the same addresses share one."""
    found: dict[frozenset[IPv4Network], str] = {}
    for rule in (rule for first in chains for chain in _sequence(first) for rule in chain.rules):
        for networks in (rule.match.peers, rule.match.not_peers):
            if networks:
                found.setdefault(networks, f"peers-{len(found) + 1}")
    return found


def _set(name: str, networks: frozenset[IPv4Network]) -> str:
    # An interval set takes no range twice, and one that lies in another adds nothing.
    elements = ", ".join(map(str, collapse_addresses(networks)))
    return _block(f"set {name}", ["type ipv4_addr", "flags interval", f"elements = {{ {elements} }}"])


def _sequence(chain: Chain | None) -> Iterator[Chain]:
    while chain is not None:
        yield chain
        chain = chain.then


def _chains(name: str, side: str, first: Chain, sets: _Sets) -> Iterator[str]:
    names = [name, *(f"{name}-{number}" for number, _ in enumerate(_sequence(first.then), 2))]
    for own, following, chain in zip(names, [*names[1:], None], _sequence(first), strict=True):
        # What is accepted goes back to the hook and on to the chain of the other end: `goto` leaves nothing between.
        verdicts = {
            Action.ACCEPT: "return",
            Action.DROP: "drop",
            Action.PASS: f"goto {following}" if following else "return",
        }
        lines = [_rule(rule, side, sets, verdicts) for rule in chain.rules if not _matches_nothing(rule.match)]
        if chain.otherwise is Action.DROP:
            lines.append('counter drop comment "no rule allows it"')
        elif chain.otherwise is Action.PASS:
            lines.append(verdicts[Action.PASS])
        yield _block(f"chain {own}", lines)


def _matches_nothing(match: Match) -> bool:
    """Whether it is for nobody: such a rule decides nothing, and nft knows no empty set in a rule."""
    return any(values is not None and not values for values in (match.peers, match.ports, match.source_ports))


def _rule(rule: Rule, side: str, sets: _Sets, verdicts: Mapping[Action, str]) -> str:
    comment = rule.comment.replace('"', "'").encode()[:_LONGEST_COMMENT].decode(errors="ignore")
    words = [*_conditions(rule.match, side, sets), "counter", verdicts[rule.action]]
    return " ".join([*words, f'comment "{comment}"'] if comment else words)


def _conditions(match: Match, side: str, sets: _Sets) -> Iterator[str]:
    if match.peers is not None:
        yield f"ip {side} @{sets[match.peers]}"
    if match.not_peers:
        yield f"ip {side} != @{sets[match.not_peers]}"
    by_port = match.ports is not None or match.not_ports or match.source_ports is not None
    if match.protocol is not None:
        yield f"meta l4proto {match.protocol}"
    elif by_port:
        # Of other protocols nft would take the first bytes for ports.
        yield f"meta l4proto {_WITH_PORTS}"
    if match.not_protocol is not None:
        yield f"meta l4proto != {match.not_protocol}"
    if match.ports is not None:
        yield f"th dport {_port_set(match.ports)}"
    if match.not_ports:
        yield f"th dport != {_port_set(match.not_ports)}"
    if match.source_ports is not None:
        yield f"th sport {_port_set(match.source_ports)}"
    if match.icmp_type is not None:
        yield f"icmp type {match.icmp_type}"
    if match.icmp_code is not None:
        yield f"icmp code {match.icmp_code}"


def _port_set(ranges: Iterable[tuple[int, int]]) -> str:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return f"{{ {', '.join(str(a) if a == b else f'{a}-{b}' for a, b in merged)} }}"


def _jump(device_of: str, direction: str, chains: Iterable[str]) -> list[str]:
    targets = [f'"{device}" : jump {direction}-{device}' for device in chains]
    return [f"{device_of} vmap {{ {', '.join(targets)} }}"] if targets else []


def _hook(hook: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    head = [f"type filter hook {hook} priority filter", "ct state established,related accept"]
    return [_block(f"chain {hook}", [*head, *lines])]


def _block(head: str, lines: Iterable[str]) -> str:
    return f"    {head} {{\n{''.join(f'        {line}{chr(10)}' for line in lines)}    }}\n"
