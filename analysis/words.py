"""Naming many things in few words, so that one cause gives one finding and not four hundred."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import TypeAlias, TypeVar

from analysis.facts import Endpoint, Gap, Inventory, Node, ProbeOutcome
from analysis.plan import Plan
from analysis.verdict import Finding

NodeKey: TypeAlias = tuple[str, str]
"""A node of the mesh: its region and its name. Names alone may occur twice, which is itself a fault."""

OUTCOME_WORDS = {
    ProbeOutcome.DROPPED: "no answer",
    ProbeOutcome.REFUSED: "refused",
    ProbeOutcome.PROHIBITED: "prohibited",
}
"""What a reader is told of a probe that did not come through."""

FEW = 2
"""So many that are left out are named, rather than the many that are not."""

Place = TypeVar("Place", bound=Hashable)
Thing = TypeVar("Thing")


def count(number: int, noun: str) -> str:
    """The number with its noun: "1 node", "4 nodes"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(items: Iterable[object], limit: int = 3) -> str:
    """The items in a row, and how many more there are when they are many."""
    texts = [str(item) for item in items]
    shown = texts if len(texts) <= limit + 1 else texts[:limit]
    rest = len(texts) - len(shown)
    if rest:
        return f"{', '.join(shown)} and {rest} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def name_nodes(nodes: Collection[NodeKey], inventory: Inventory) -> str:
    """The nodes in words: "all 4 nodes of us-east-1", or their names where it is not all of a region."""
    return name_members(nodes, ((node.region, node.name) for node in inventory.nodes), "nodes")


def name_members(members: Collection[NodeKey], everyone: Iterable[NodeKey], noun: str) -> str:
    """Members of regions in words: "all 4 pods of us-east-1", "all pods but those two", or their names.

    Args:
        members: region and name of each.
        everyone: all that there are, of which the members may be all or a part.
        noun: what they are, in the plural.
    """
    everybody: defaultdict[str, set[str]] = defaultdict(set)
    for region, name in everyone:
        everybody[region].add(name)
    chosen: defaultdict[str, set[str]] = defaultdict(set)
    for region, name in members:
        chosen[region].add(name)
    whole = {region for region, names in chosen.items() if len(names) > 1 and names == everybody[region]}
    if len(whole) > 1 and whole == {region for region, names in everybody.items() if names}:
        return f"all {len(members)} {noun}"
    others = [(region, name) for region in sorted(everybody) for name in sorted(everybody[region] - chosen[region])]
    if 0 < len(others) <= FEW < len(members):
        return f"all {noun} but {listed(map(qualified, others))}"
    parts = [f"all {len(chosen[region])} {noun} of {region}" for region in sorted(whole)]
    names = [qualified((region, name)) for region in sorted(chosen.keys() - whole) for name in sorted(chosen[region])]
    return listed([*parts, *([listed(names)] if names else [])])


def together(deviations: Iterable[tuple[Place, Thing]]) -> list[tuple[frozenset[Place], list[Thing]]]:
    """Group what is wrong by where it is wrong: things that deviate at the very same places stand together.

    Deviations that reach furthest come first; otherwise the order is that of their first appearance.
    """
    places: dict[Thing, set[Place]] = {}
    for place, thing in deviations:
        places.setdefault(thing, set()).add(place)
    things: dict[frozenset[Place], list[Thing]] = {}
    for thing, where in places.items():
        things.setdefault(frozenset(where), []).append(thing)
    return sorted(things.items(), key=lambda group: -len(group[0]) * len(group[1]))


def gap_findings(gaps: Iterable[Gap], *parts: str) -> list[Finding]:
    """What could not be observed, as findings of an inconclusive verdict.

    Args:
        gaps: of a family of facts.
        parts: the fields of the family that the verdict rests on; all of them, where none is named.
    """
    concerning = (gap for gap in gaps if not (parts and gap.parts) or set(parts) & set(gap.parts))
    return [
        Finding(": ".join(filter(None, (gap.region, gap.subject))), "to be observed", gap.error) for gap in concerning
    ]


def node_gap(node: Node, what: str, gaps: Iterable[Gap]) -> Finding:
    """The finding that nothing is known of a node, with the instrument's reason where there is one."""
    reasons: Mapping[bool, list[str]] = {
        True: [gap.error for gap in gaps if node.name in gap.subject],
        False: [gap.error for gap in gaps if gap.region == node.region and node.name not in gap.subject],
    }
    reason = next(iter(reasons[True] or reasons[False]), "nothing was observed")
    return Finding(qualified((node.region, node.name)), f"{what} to be observed", reason)


def unseen_regions(plan: Plan, seen: Iterable[str], what: str) -> list[Finding]:
    """A finding for each planned region of which nothing was observed; `what` should have been ("its pools")."""
    known = set(seen)
    return [
        Finding(f"cluster {region.name}", f"{what} to be observed", "nothing was observed")
        for region in plan.regions
        if region.name not in known
    ]


def qualified(member: NodeKey) -> str:
    """A node's or a pod's name with its region, which is left out where the name tells it already."""
    region, name = member
    return name if name.startswith(region) else f"{region}/{name}"


def place(endpoint: Endpoint) -> str:
    """Where a probe starts or ends: "pod on us-east-1-node-2 (192.168.0.130)"."""
    node = qualified((endpoint.region, endpoint.node))
    return f"{'node' if endpoint.on_host else 'pod'} on {node} ({endpoint.address})"


def megabytes(number: int) -> str:
    """A number of bytes for people: "4.19 MB"."""
    return f"{number / 1e6:.3g} MB"
