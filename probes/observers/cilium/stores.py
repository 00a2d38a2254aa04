"""The stores of other clusters: used as an agent may and may not, and knocked at as a stranger.

Nothing is changed in a store: a key of our own is written where that is let through, and removed again. Of what a store
holds only is kept how much of it belongs to which cluster.
"""

from __future__ import annotations

import base64
import secrets
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from ipaddress import IPv4Address
from typing import Any

from analysis.cilium import StoreEntries, count_store
from analysis.expectation import mesh_name, regions_by_mesh_name
from analysis.facts import (
    Access,
    AccessTrial,
    Credential,
    Gap,
    ProbeOutcome,
    StoreCertificate,
    StoreContent,
    StoreKnock,
)
from analysis.plan import Plan
from probes.cilium import AgentPod, Answer, ask_agent
from probes.client import run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.cilium.settings import StoreSetting
from probes.observers.knocks import Place, observe_knocks
from probes.tls import (
    ClientCredential,
    Door,
    let_in,
    read_authorities,
    read_certificate,
    throwaway_credential,
    tls_operation,
)

WITHIN = timedelta(seconds=30)
ANSWER_WITHIN_S = 8
OVERHEAD = timedelta(seconds=10)
STRANGERS = (Credential.NONE, Credential.FOREIGN, Credential.PLAIN)
REFUSALS = ("permission denied", "permissiondenied", "unauthenticated", "authentication failed")
"""How etcd words it when a user it knows may not do a thing, or when it knows no such user."""

MISSING_KEY = "is not found"
TRIAL_KEY = "cilium/meshproof/"
HELD = {"state": "cilium/state/", "cache": "cilium/cache/", "config": "cilium/cluster-config/"}
"""What is counted. From 1.16 on, other clusters may not see all of it; `state` they must."""


@dataclass(frozen=True)
class StoreFacts:
    """What the stores showed."""

    certificates: tuple[StoreCertificate, ...] = ()
    trials: tuple[AccessTrial, ...] = ()
    knocks: tuple[StoreKnock, ...] = ()
    contents: tuple[StoreContent, ...] = ()
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class _Target:
    """A store, as one cluster was told to reach it.

    Attributes:
        region: the region whose store it is.
        setting: how it is reached.
        counted: its content is to be counted on the way.
    """

    region: str
    setting: StoreSetting
    counted: bool


def observe_stores(
    mesh: Mesh, probe_set: ProbeSet, spokesmen: Mapping[str, AgentPod], settings: Sequence[StoreSetting], bits: int
) -> StoreFacts:
    """Use the stores and knock at them.

    Args:
        mesh: the clusters.
        probe_set: the probes.
        spokesmen: an agent of each region that answers.
        settings: what all agents were told.
        bits: how many bits of an identity are its cluster's own.
    """
    targets = _targets(mesh.fleet.plan, settings)
    parts = (_use(mesh, spokesmen, targets, bits), *_knock(mesh, probe_set, targets))
    return StoreFacts(
        certificates=tuple(one for part in parts for one in part.certificates),
        trials=tuple(one for part in parts for one in part.trials),
        knocks=tuple(one for part in parts for one in part.knocks),
        contents=tuple(one for part in parts for one in part.contents),
        gaps=tuple(one for part in parts for one in part.gaps),
    )


def _targets(plan: Plan, settings: Sequence[StoreSetting]) -> dict[str, list[_Target]]:
    """The stores that each region was told of. One region of all counts what a store holds."""
    found: dict[str, list[_Target]] = {}
    counted: set[str] = set()
    for setting in settings:
        region = region_of(plan, setting)
        if region is not None and region != setting.fact.region:
            found.setdefault(setting.fact.region, []).append(_Target(region, setting, region not in counted))
            counted.add(region)
    return found


def region_of(plan: Plan, setting: StoreSetting) -> str | None:
    """Whose store it is: by the name that it is configured under, else by where its addresses are."""
    named = regions_by_mesh_name(plan).get(setting.fact.remote)
    if named is not None:
        return named.name
    subnets = {region.name: region.node_cidr for region in plan.regions}
    owners = (name for address in setting.fact.addresses for name, subnet in subnets.items() if address in subnet)
    return next(owners, None)


# --- as an agent ----------------------------------------------------------------------------------------------------


def _use(mesh: Mesh, spokesmen: Mapping[str, AgentPod], targets: Mapping[str, list[_Target]], bits: int) -> StoreFacts:
    """Read and write with the credentials that the region was given, all stores at once: dead ones take their time."""
    trials: list[AccessTrial] = []
    contents: list[StoreContent] = []
    gaps: list[Gap] = []
    key = TRIAL_KEY + secrets.token_hex(8)
    uses = [(region, target) for region in targets if region in spokesmen for target in targets[region]]

    def ask(cluster: Cluster, use: tuple[str, _Target]) -> dict[str, Answer]:
        region, target = use
        told = ask_agent(cluster, spokesmen[region], {"read": read_question(target.setting)}, patience(1))
        if read_trial(told["read"])[0] is None:
            return told
        further = further_questions(target.setting, key, counted=target.counted)
        return told | ask_agent(cluster, spokesmen[region], further, patience(len(further)))

    for (region, target), told in mesh.each(uses, lambda use: use[0], ask):
        if isinstance(told, ProbeError):
            gaps.append(Gap(region, f"the store of {target.region}", str(told), ("trials", "contents")))
            continue
        for access in (Access.READ, Access.WRITE):
            allowed, words = read_trial(told.get(access.value, told["read"]))
            trials.append(AccessTrial(target.region, region, Credential.REMOTE, access, allowed, words))
        if target.counted:
            try:
                contents += counted_content(mesh.fleet.plan, target.region, told, bits)
            except ProbeError as error:
                gaps.append(Gap(target.region, f"what its store holds, seen from {region}", str(error), ("contents",)))
    return StoreFacts(trials=tuple(trials), contents=tuple(contents), gaps=tuple(gaps))


def patience(questions: int) -> timedelta:
    """How long an agent may take for so many questions, even when the store does not answer it."""
    return OVERHEAD + questions * timedelta(seconds=ANSWER_WITHIN_S)


def _asked(words: str, setting: StoreSetting) -> str:
    """A command of the agent's for a store, which ends in time."""
    store = shlex.quote(f"etcd.config={setting.file}")
    return f"timeout {ANSWER_WITHIN_S} {words} --kvstore etcd --kvstore-opt {store}"


def read_question(setting: StoreSetting) -> str:
    """Ask for what the store says of its own cluster."""
    return _asked(f'"$cilium" kvstore get {shlex.quote(f"cilium/cluster-config/{setting.fact.remote}")}', setting)


def further_questions(setting: StoreSetting, key: str, *, counted: bool) -> dict[str, str]:
    """What an agent does with a store that answers.

    Args:
        setting: how the store is reached.
        key: a key of our own, which is removed if it could be written.
        counted: read what the store holds too.
    """
    written = _asked(f'"$0" kvstore set --key {key} --value meshproof', setting)
    removed = _asked(f'"$0" kvstore delete {key}', setting)
    questions = {"write": f'sh -c {shlex.quote(f"{written} && {removed} >/dev/null")} "$cilium"'}
    if counted:
        for what, prefix in HELD.items():
            questions[what] = _asked(f'"$cilium" kvstore get --recursive {prefix} -o json', setting)
    return questions


def read_trial(answer: Answer) -> tuple[bool | None, str]:
    """Whether a store let a command through; None when it was not the store that refused it."""
    if answer.exit_code == 0:
        return True, "done"
    words = answer.words
    if MISSING_KEY in words:
        return True, words
    return (False if any(refusal in words.lower() for refusal in REFUSALS) else None), words


def counted_content(plan: Plan, region: str, told: Mapping[str, Answer], bits: int) -> Iterable[StoreContent]:
    """How much of what a store holds belongs to which cluster.

    Raises:
        ProbeError: what other clusters must be able to read could not be read.
    """
    if "state" not in told:
        raise ProbeError(f"the store does not answer: {told['read'].words}")
    names = {int(one.cluster_id): mesh_name(one) for one in plan.regions if one.cluster_id}
    count = partial(count_store, identity_bits=bits)
    entries: list[StoreEntries] = list(told["state"].read(count))
    for what in ("cache", "config"):
        answer = told[what]
        if answer.exit_code == 0:
            entries += answer.read(count)
    return [
        StoreContent(region, owner, entry.kind, entry.entries, entry.cached)
        for entry in entries
        if (owner := entry.owner or names.get(entry.owner_id or 0) or f"cluster id {entry.owner_id or 0}")
    ]


# --- as a stranger --------------------------------------------------------------------------------------------------


def _knock(mesh: Mesh, probe_set: ProbeSet, targets: Mapping[str, list[_Target]]) -> tuple[StoreFacts, ...]:
    """Connect from every node to every address of every store, then try the doors from one place in each region."""
    places = {region: _places(found) for region, found in targets.items()}
    knocks, gaps = observe_knocks(mesh, probe_set, places)
    return StoreFacts(knocks=knocks, gaps=gaps), _try_doors(mesh, probe_set, targets, knocks)


def _places(targets: Iterable[_Target]) -> list[Place]:
    """Where a region was told to find stores."""
    facts = (target.setting.fact for target in targets)
    return list(dict.fromkeys(Place(fact.remote, address, fact.port) for fact in facts for address in fact.addresses))


def _try_doors(
    mesh: Mesh, probe_set: ProbeSet, targets: Mapping[str, list[_Target]], knocks: Iterable[StoreKnock]
) -> StoreFacts:
    """Come without a certificate, with a foreign one and without TLS: from a node of each region, else from a pod."""
    probers: dict[str, ProbePod] = {}
    for pod in (*probe_set.on_hosts(), *probe_set.on_pods()):
        if pod.region in targets:
            probers.setdefault(pod.region, pod)
    opened = {(knock.node, knock.address, knock.port) for knock in knocks if knock.outcome is ProbeOutcome.OPEN}
    foreign = throwaway_credential("remote")
    certificates: list[StoreCertificate] = []
    trials: list[AccessTrial] = []
    gaps: list[Gap] = []

    def attempt(cluster: Cluster, pod: ProbePod) -> list[tuple[_Target, Credential, dict[str, Any]]]:
        tried = [
            (target, stranger, _door(target, address, stranger, foreign))
            for target, address in _open_targets(pod, targets[pod.region], opened)
            for stranger in STRANGERS
        ]
        operation = tls_operation([door for _, _, door in tried])
        run = run_agent(cluster, pod.namespace, pod.name, [operation], within=WITHIN, control=pod.control)
        if run.control_failure or "error" in run.operations[0]:
            raise ProbeError(f"{pod.identity}: {run.control_failure or run.operations[0]['error']}")
        answers = run.operations[0]["targets"]
        return [(target, stranger, answer) for (target, stranger, _), answer in zip(tried, answers, strict=True)]

    for pod, seen in mesh.each(probers.values(), lambda pod: pod.region, attempt):
        if isinstance(seen, ProbeError):
            gaps.append(Gap(pod.region, "doors of other clusters' stores", str(seen), ("trials", "certificates")))
            continue
        for target, stranger, answer in seen:
            allowed, words = let_in(answer)
            trials.append(AccessTrial(target.region, pod.region, stranger, Access.CONNECT, allowed, words))
            if stranger is Credential.NONE:
                certificates.append(shown_certificate(target.region, target.setting, answer))
    return StoreFacts(certificates=tuple(certificates), trials=tuple(trials), gaps=tuple(gaps))


def _open_targets(
    pod: ProbePod, targets: Iterable[_Target], opened: set[tuple[str, IPv4Address, int]]
) -> Iterable[tuple[_Target, IPv4Address]]:
    """Each store once, at its first address; from a node, at the first that is open from there."""
    reached: set[str] = set()
    for target in targets:
        fact = target.setting.fact
        for address in fact.addresses:
            if target.region not in reached and (not pod.on_host or (pod.node, address, fact.port) in opened):
                reached.add(target.region)
                yield target, address


def _door(target: _Target, address: IPv4Address, stranger: Credential, foreign: ClientCredential) -> Door:
    fact = target.setting.fact
    plain = stranger is Credential.PLAIN
    return Door(address, fact.port, fact.host, plain, foreign if stranger is Credential.FOREIGN else None)


def shown_certificate(region: str, setting: StoreSetting, answer: dict[str, Any]) -> StoreCertificate:
    """What a store's certificate is worth to the cluster that has these settings."""
    host, seen_from = setting.fact.host, setting.fact.region
    der = base64.b64decode(answer.get("certificate") or "")
    if not der:
        problem = answer.get("alert") or answer.get("detail") or "no certificate was shown"
        return StoreCertificate(region, seen_from, host, (), None, str(problem))
    try:
        seen = read_certificate(der, host, read_authorities(setting.authorities))
    except ValueError as error:
        return StoreCertificate(region, seen_from, host, (), False, f"it is no certificate: {error}")
    return StoreCertificate(
        region, seen_from, host, seen.names, not seen.problem, seen.problem, seen.issuer, seen.not_after
    )
