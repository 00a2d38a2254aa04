"""Everything that the linter looks at: objects and their fields, what the API refuses, and what the rules come to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from analysis.policy.decide import dead_rules
from analysis.policy.lint import calico, cilium, kubernetes
from analysis.policy.lint.complaint import Complaint
from analysis.policy.lint.effects import Effect, effects
from analysis.policy.lint.fields import KINDS, unknown_fields
from analysis.policy.lint.findings import CHECKS, Finding, Level, finding
from analysis.policy.lint.hints import meant_instead
from analysis.policy.lint.inventory import PodInventory
from analysis.policy.lint.manifests import FieldPath, Manifest
from analysis.policy.model import DeadRule, Direction, Engine, Policy, PolicyKind, World
from analysis.policy.read import CALICO_GROUPS, CILIUM_GROUP, ENFORCED, ApiObject, world_from
from analysis.words import listed

_GROUPS = {version.rpartition("/")[0] for version, _ in KINDS}
_KINDS = {kind for _, kind in KINDS}
_OF_CALICO = (PolicyKind.GLOBAL_NETWORK_POLICY, PolicyKind.NETWORK_POLICY)
_BY_POLICY = {"direction-not-in-types", "staged-not-enforced"}
"""What a look at the object itself tells better than the rules do."""

_WAYS = {
    (Direction.INGRESS,): ("denies everything that comes in", "take no new connection"),
    (Direction.EGRESS,): ("denies everything that goes out", "open no new connection"),
    (Direction.INGRESS, Direction.EGRESS): (
        "denies everything, in both directions",
        "take no new connection and open none",
    ),
}


@dataclass(frozen=True)
class Linted:
    """What came of it.

    Attributes:
        objects: how many were looked at: policies, tiers, sets and endpoints.
    """

    findings: tuple[Finding, ...]
    objects: int

    def count(self, level: Level) -> int:
        """How many findings there are of a level."""
        return sum(each.level is level for each in self.findings)


def lint(read: Iterable[Manifest | Finding], inventory: PodInventory | None = None) -> Linted:
    """Everything that is to be said of manifests.

    Args:
        read: of one cluster or of several; an object of a name that was there already is one of another cluster.
        inventory: who is there; without it nothing is said that depends on it.
    """
    found: list[Finding] = []
    whole: list[Manifest] = []
    objects = 0
    for each in read:
        if isinstance(each, Finding):
            found.append(each)
            continue
        own = list(_of_object(each))
        found += own
        known = _version(each) in KINDS
        objects += known
        if known and not any(one.check in ("invalid", "not-yaml") for one in own):
            whole.append(each)
    found += _of_rules(whole, inventory or PodInventory())
    order = {level: number for number, level in enumerate(Level)}
    return Linted(tuple(sorted(found, key=lambda each: (each.file, each.line, order[each.level]))), objects)


def _version(manifest: Manifest) -> tuple[str, str]:
    return str(manifest.document.get("apiVersion") or ""), str(manifest.document.get("kind") or "")


def _of_object(manifest: Manifest) -> Iterator[Finding]:
    version, kind = _version(manifest)
    for path in manifest.twice:
        message = f"{_dotted(path)} is written twice; only the last one counts"
        yield _at(manifest, Complaint(path, message, check="repeated-field"))
    if (version, kind) not in KINDS:
        yield from (_at(manifest, each) for each in _strange_version(version, kind))
        return
    for path, meant in unknown_fields(manifest.document):
        remedy = f"{meant!r} was meant" if meant else ""
        message = f"{kind} has no field {_dotted(path)}"
        yield _at(manifest, Complaint(path, message, remedy, "unknown-field"))
    try:
        complaints = list(_complaints(manifest.document, manifest.object))
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        # Where a list or an object is looked for and a text found, the finding is that, not how it came out.
        complaints = [Complaint(("spec",), f"the object is not of the form that {kind} has: {error}")]
    yield from (_at(manifest, each) for each in complaints)


def _strange_version(version: str, kind: str) -> Iterator[Complaint]:
    """An object of a kind that is none of ours is left alone, unless it was meant to be one."""
    if not version or not kind:
        missing = listed([name for name, value in (("apiVersion", version), ("kind", kind)) if not value])
        versions = sorted(each for each, name in KINDS if name == kind)
        hint = f"for {kind}: {' or '.join(versions)}" if versions else ""
        yield Complaint((), f"the object has no {missing}: every API server refuses it", hint, "no-object")
    elif kind in _KINDS:
        near = get_close_matches(version, [each for each, name in KINDS if name == kind], 1, cutoff=0)
        yield Complaint(("apiVersion",), f"there is no {kind} in {version}", f"{near[0]!r} has it", "unknown-version")
    elif version.rpartition("/")[0] in _GROUPS and (near := get_close_matches(kind, _KINDS, 1, cutoff=0.8)):
        yield Complaint(("kind",), f"{version} has no kind {kind}", f"{near[0]!r} was meant", "unknown-version")


def _complaints(document: Mapping[str, Any], read: ApiObject) -> Iterator[Complaint]:
    if not read.name and not read.metadata.get("generateName"):
        yield Complaint(("metadata",), "the object has no name")
    if read.group == CILIUM_GROUP:
        yield from cilium.check_policy(document, clusterwide="Clusterwide" in read.kind)
    elif read.group in CALICO_GROUPS and read.kind.endswith("NetworkPolicy"):
        yield from calico.check_policy(read.spec, read.kind)
    elif read.kind == "NetworkPolicy":
        yield from kubernetes.check_policy(read.spec)


def _of_rules(manifests: list[Manifest], inventory: PodInventory) -> Iterator[Finding]:
    objects = list(_in_clusters(manifests))
    for engine, members in _engines([read for read, _ in objects]).items():
        world = world_from(engine, members)
        policies = {(policy.cluster, policy.path): policy for policy in world.policies}
        by_source = {read.source: manifest for read, manifest in objects}
        always = {(each.cluster, each.rule): each for each in dead_rules(world)}
        today = {(each.cluster, each.rule): each for each in dead_rules(_inhabited(world, inventory))}
        for key, each in (today | always).items():
            policy = _policy_of(key, policies)
            if each.reason not in _BY_POLICY and each.reason in CHECKS:
                yield _dead(each, policy, by_source[policy.source])
        for effect in effects(world, always):
            yield from _effect(effect, by_source[effect.policy.source])


def _inhabited(world: World, inventory: PodInventory) -> World:
    return replace(
        world,
        endpoints=inventory.endpoints,
        namespaces=inventory.namespaces,
        service_accounts=inventory.service_accounts,
    )


def _in_clusters(manifests: list[Manifest]) -> Iterator[tuple[ApiObject, Manifest]]:
    """Objects, each in a cluster in which its name is the only one."""
    seen: Counter[tuple[object, ...]] = Counter()
    for number, manifest in enumerate(manifests):
        read = manifest.object
        name = (read.group, read.kind, read.metadata.get("namespace"), read.name)
        cluster = str(seen[name] or "")
        seen[name] += 1
        yield replace(read, cluster=cluster, source=str(number)), manifest


def _engines(objects: list[ApiObject]) -> dict[Engine, list[ApiObject]]:
    """The engines that the objects are for; Kubernetes' own go to the only other one, or stand for themselves."""
    own = {
        Engine.CALICO: [each for each in objects if each.group in CALICO_GROUPS],
        Engine.CILIUM: [each for each in objects if each.group == CILIUM_GROUP],
    }
    found = {engine: members for engine, members in own.items() if members}
    plain = [each for each in objects if each.policy_kind in ENFORCED[Engine.KUBERNETES]]
    if len(found) == 1:
        (members,) = found.values()
        members += plain
    elif plain:
        found[Engine.KUBERNETES] = plain
    return found


def _policy_of(rule: tuple[str, str], policies: Mapping[tuple[str, str], Policy]) -> Policy:
    """The policy that a rule is of, by its cluster and its name."""
    cluster, path = rule
    while (cluster, path) not in policies:
        path = path.rpartition("/")[0]
    return policies[cluster, path]


def _dead(dead: DeadRule, policy: Policy, manifest: Manifest) -> Finding:
    where = _place(dead.rule[len(policy.path) :], manifest.document)
    if where[-1:] == () or not isinstance(where[-1], int) or where[-2] == "specs":
        return _at(manifest, Complaint(where, dead.explanation, check=dead.reason))
    rule: Any = manifest.document
    for part in where:
        rule = rule[part]
    remedy = meant_instead(rule or {}) if dead.reason == "unsatisfiable-selector" else ""
    # That it is a source which nobody is, or a destination, the rule's own line tells.
    message = dead.explanation.rpartition(" is nobody, ever: ")[2]
    own_rule = rf"{re.escape(policy.path)}/(\w+)/(\d+)"
    message = re.sub(own_rule, lambda name: f"{name[1]} rule {int(name[2]) + 1}", message)
    found = _at(manifest, Complaint(where, message, remedy, dead.reason))
    return replace(found, place=f"{where[-2]} rule {where[-1] + 1}")


def _place(rest: str, document: Mapping[str, Any]) -> FieldPath:
    """Where the rest of a rule's name ("/specs/1/ingress/0") is in its document."""
    path: list[str | int] = [int(part) if part.isdecimal() else part for part in rest.split("/")[1:]]
    if path[:1] != ["specs"]:
        return ("spec", *path) if document.get("spec") else ("specs", 0, *path)
    return ("specs", int(path[1]) - bool(document.get("spec")), *path[2:])


def _effect(effect: Effect, manifest: Manifest) -> Iterator[Finding]:
    if effect.denied:
        what, pods = _WAYS[effect.denied]
        dns = ": DNS is blocked too." if Direction.EGRESS in effect.denied else "."
        complaint = Complaint(
            (),
            f"what remains {what}",
            _what_is_needed(effect),
            "denies-everything",
            f"The pods that it selects {pods}{dns}",
        )
        yield _at(manifest, complaint)
    elif effect.dns_blocked:
        complaint = Complaint(
            ("spec", "egress"),
            "DNS is blocked",
            "Add an egress rule: UDP and TCP, port 53, to the pods of kube-dns.",
            "dns-blocked",
            "The pods that it selects may open connections, but find nobody by name.",
        )
        yield _at(manifest, complaint)


def _what_is_needed(effect: Effect) -> str:
    """Rules that mended selectors alone do not bring."""
    if Direction.EGRESS in effect.denied and effect.dns_forgotten:
        remedy = (
            "To mend its rules is not enough: DNS needs a rule of its own (UDP and TCP 53 to kube-dns), and so do pods "
            "of the same region and clients, where they are meant to get through."
        )
    else:
        remedy = (
            "To mend its rules may not be enough: pods of the same region and clients need rules of their own, where "
            "they are meant to get through."
        )
    if effect.policy.kind in _OF_CALICO:
        remedy += " And Calico knows pods of other clusters only by federation or by a labelled GlobalNetworkSet."
    return remedy


def _at(manifest: Manifest, complaint: Complaint) -> Finding:
    line = manifest.line(*complaint.path)
    found = finding(complaint.check, manifest.file, line, manifest.title, complaint.message)
    return replace(found, place=_dotted(complaint.path), detail=complaint.detail, remedy=complaint.remedy)


def _dotted(path: FieldPath) -> str:
    """A field as a reader looks for it: "spec.ingress[0].source"."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
