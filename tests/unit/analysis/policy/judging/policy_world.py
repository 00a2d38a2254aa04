"""Facts of a fleet whose policy says, does and means the same, to be broken by tests."""

import json
from dataclasses import replace
from ipaddress import IPv4Network

from analysis.facts import (
    Admission,
    Enforcement,
    FlowTrial,
    LabelledNamespace,
    Lift,
    Participant,
    Party,
    Policies,
    PolicyEndpoint,
    PolicyObject,
    ProbeOutcome,
    RemoteKnowledge,
    Sweep,
    Way,
)
from analysis.plan import CLIENT, DATABASE
from provision.lab.topology import STORE, aws_calico

LAB = aws_calico("demo").plan
PLAN = replace(LAB, database=replace(LAB.database, replicas=3))
INTENT = PLAN.policy
REGIONS = tuple(region.name for region in PLAN.regions)
EAST, MIDDLE, WEST = REGIONS
SQL, CONSOLE = PLAN.database.ports
OTHER_PORT, ETCD = 9999, 2379
LISTENING = tuple((protocol, port) for protocol in ("TCP", "UDP") for port in (SQL, CONSOLE, OTHER_PORT, ETCD, 53))
PROBES = "meshproof"
SELECTOR = f"geography in {{{', '.join(map(repr, REGIONS))}}} && app == 'cockroachdb'"


def address(region, number):
    return PLAN.region(region).pod_cidr[number]


def _participants():
    for region in REGIONS:
        for number, role in ((10, DATABASE), (11, DATABASE), (20, CLIENT), (30, STORE)):
            yield Participant(
                region,
                Party.ROLE,
                f"{role}-{number}",
                address(region, number),
                role,
                f"{region}-node-2",
                PROBES,
                LISTENING,
            )
        yield Participant(
            region, Party.STRANGER, "stranger", address(region, 40), "", f"{region}-node-2", PROBES, LISTENING
        )
        yield Participant(
            region, Party.MEMBER, "cockroachdb-0", address(region, 50), DATABASE, f"{region}-node-3", region
        )
        yield Participant(region, Party.NODE, f"{region}-node-4", PLAN.region(region).node_cidr[4])
        yield Participant(region, Party.DNS, "kube-dns", address(region, 60), namespace="kube-system")
    yield Participant("", Party.OUTSIDE, "egress", PLAN.egress.address)


PARTICIPANTS = tuple(_participants())


def find(region, party, role="", index=0):
    """The number of a participant."""
    return [
        number
        for number, each in enumerate(PARTICIPANTS)
        if (each.region, each.party, each.role) == (region, party, role)
    ][index]


def role(region, name=DATABASE, index=0):
    return find(region, Party.ROLE, name, index)


def stranger(region):
    return find(region, Party.STRANGER)


def member(region):
    return find(region, Party.MEMBER, DATABASE)


def passed(source, target, port, protocol="TCP", **fields):
    heard = True if (protocol, port) in PARTICIPANTS[target].listening else None
    return FlowTrial(source, target, protocol, port, ProbeOutcome.OPEN, heard=heard, **fields)


def stopped(source, target, port, protocol="TCP", **fields):
    heard = False if (protocol, port) in PARTICIPANTS[target].listening else None
    return FlowTrial(source, target, protocol, port, ProbeOutcome.DROPPED, heard=heard, **{"control": True, **fields})


def _trials():
    outside = find("", Party.OUTSIDE)
    for here in REGIONS:
        for there in REGIONS:
            index = int(here == there)
            for port in (SQL, CONSOLE):
                yield passed(role(here), role(there, index=index), port)
                yield passed(role(here, CLIENT), role(there), port)
                yield stopped(stranger(here), role(there), port)
                yield stopped(stranger(here), member(there), port)
            yield stopped(role(here), role(there, index=index), OTHER_PORT)
            yield stopped(role(here), role(there, index=index), SQL, "UDP")
            yield stopped(role(here), stranger(there), OTHER_PORT)
            if here != there:
                yield passed(stranger(here), stranger(there), SQL)
                yield passed(stranger(here), stranger(there), OTHER_PORT, "UDP")
                yield stopped(find(here, Party.NODE), role(there), SQL, way=Way.NODE)
                yield passed(role(here), find(there, Party.DNS), 53)
        yield passed(role(here), role(here, STORE), ETCD)
        yield passed(role(here), find(here, Party.DNS), 53, "UDP")
        yield passed(role(here), find(here, Party.DNS), 53)
        yield stopped(role(here), outside, PLAN.egress.port)
        yield stopped(stranger(here), role(here), SQL, way=Way.SPOOFED)
        yield stopped(stranger(here), role(here), SQL, way=Way.FRAGMENTED)
        for way in (Way.LABELLED_LATER, Way.AFTER_RESTART):
            if way is Way.LABELLED_LATER:
                yield passed(stranger(here), role(here), SQL, way=way, detail="before the label")
            yield passed(role(here), role(here, index=1), SQL, way=way, detail="after the label")
            yield stopped(stranger(here), role(here), SQL, way=way, detail="after the label")
        yield passed(stranger(here), role(here), SQL, way=Way.ESTABLISHED)


def _sweeps():
    for here in REGIONS:
        there = REGIONS[(REGIONS.index(here) + 1) % len(REGIONS)]
        yield Sweep(role(here), role(there), "TCP", 1, 65535, (CONSOLE, SQL))


def enforcement():
    """All as the intent has it."""
    return Enforcement(PARTICIPANTS, tuple(_trials()), tuple(_sweeps()))


def lift():
    """Everything passes while the policies are away, and is stopped again after."""
    pairs = [(stranger(a), role(b)) for a in REGIONS for b in REGIONS]
    return Lift(
        tuple((region, "GlobalNetworkPolicy", "crdb-geography-isolation") for region in REGIONS),
        PARTICIPANTS,
        tuple(passed(source, target, SQL) for source, target in pairs),
        tuple(stopped(source, target, SQL) for source, target in pairs),
    )


def policy_spec(region):
    """What a correct policy of a region's cluster says."""
    ports = [SQL, CONSOLE]
    dns = {
        "selector": "k8s-app == 'kube-dns'",
        "namespaceSelector": "projectcalico.org/name == 'kube-system'",
        "ports": [53],
    }
    return {
        "order": 100,
        "selector": f"app == 'cockroachdb' && geography == '{region}'",
        "types": ["Ingress", "Egress"],
        "ingress": [
            {"action": "Allow", "protocol": "TCP", "source": {"selector": SELECTOR}, "destination": {"ports": ports}},
            {
                "action": "Allow",
                "protocol": "TCP",
                "source": {"selector": "app == 'cockroachdb-client'"},
                "destination": {"ports": ports},
            },
        ],
        "egress": [
            {"action": "Allow", "protocol": "UDP", "destination": dns},
            {"action": "Allow", "protocol": "TCP", "destination": dns},
            {"action": "Allow", "protocol": "TCP", "destination": {"selector": SELECTOR, "ports": ports}},
            {
                "action": "Allow",
                "protocol": "TCP",
                "destination": {"selector": "app == 'database-store'", "ports": [ETCD]},
            },
        ],
    }


def policy_object(region, spec=None, name="crdb-geography-isolation", kind="GlobalNetworkPolicy"):
    version = "projectcalico.org/v3"
    document = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec or policy_spec(region)}
    return PolicyObject(region, kind, version, "", name, json.dumps(document))


def _endpoints():
    for region in REGIONS:
        labels = tuple(INTENT.labels(DATABASE, region).items())
        for number in range(PLAN.database.replicas):
            yield PolicyEndpoint(
                region,
                region,
                f"cockroachdb-{number}",
                f"{region}-node-{number + 2}",
                address(region, 50 + number),
                False,
                labels,
                "cockroachdb",
                template_labels=labels,
            )
        for number, namespace, name, worn in (
            (60, "kube-system", "coredns", (("k8s-app", "kube-dns"),)),
            (70, "web", "front", (("app", "cockroachdb-client"),)),
            (71, "web", "other", ()),
            (72, region, "etcd-0", (("app", "database-store"),)),
        ):
            yield PolicyEndpoint(
                region, namespace, name, f"{region}-node-2", address(region, number), False, worn, "default"
            )


def policies():
    """All as the intent has it, with the pods of the other clusters known through federation."""
    objects = tuple(policy_object(region) for region in REGIONS)
    return Policies(
        objects,
        tuple(_endpoints()),
        tuple(
            LabelledNamespace(region, name, (("kubernetes.io/metadata.name", name),))
            for region in REGIONS
            for name in (region, "web", "kube-system", PROBES)
        ),
        (),
        tuple(Admission(each.region, each.kind, each.namespace, each.name, True) for each in objects),
        tuple(
            RemoteKnowledge(
                here,
                "",
                there,
                "federation",
                True,
                tuple(IPv4Network(address(there, 50 + number)) for number in range(PLAN.database.replicas)),
            )
            for here in REGIONS
            for there in REGIONS
            if here != there
        ),
    )


def change(facts, part, where, **fields):
    """The facts with other fields in those items of a part that `where` picks."""
    items = getattr(facts, part)
    assert any(where(item) for item in items), f"nothing to change in {part}"
    return replace(facts, **{part: tuple(replace(item, **fields) if where(item) else item for item in items)})


def without(facts, part, where):
    """The facts without those items."""
    items = getattr(facts, part)
    assert any(where(item) for item in items), f"nothing to take from {part}"
    return replace(facts, **{part: tuple(item for item in items if not where(item))})


def between(source, target, port=None, protocol=None, way=Way.DIRECT):
    """Picks trials from one participant to another."""
    return lambda trial: (
        (trial.source, trial.target, trial.way) == (source, target, way)
        and port in (None, trial.port)
        and protocol in (None, trial.protocol)
    )


def opened(facts, *args, **fields):
    """The facts with those trials got through."""
    return change(facts, "trials", between(*args, **fields), outcome=ProbeOutcome.OPEN, heard=True)


def silenced(facts, *args, **fields):
    """The facts with those trials unanswered."""
    return change(facts, "trials", between(*args, **fields), outcome=ProbeOutcome.DROPPED, heard=False)
