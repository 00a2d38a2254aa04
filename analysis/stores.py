"""MESH-CP, stores: what a cluster shows to the others, to whom, under which certificate, and who serves it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from analysis.expectation import mesh_name, planned_nodes, regions_by_mesh_name
from analysis.facts import Access, AccessTrial, Credential, Federation, Inventory, Node, RemoteSetting, StoreCertificate
from analysis.nearest import did_you_mean
from analysis.plan import Plan
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import count, gap_findings, listed, qualified, unseen_regions

ETCD_ROLE = "node-role.kubernetes.io/etcd"
SERVER_ROLES = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
ETCD_VOTER = "EtcdIsVoter"
"""Node condition by which k3s tells that a server is a voting member of its cluster's own etcd."""

ETCD_PORTS = frozenset({2379, 2380})
"""Where Kubernetes' own etcd serves clients and peers."""

ETCD_COMPONENT = ("component", "etcd")
"""Label of the pod that runs Kubernetes' own etcd, where a pod runs it."""

_UNTRUSTED = {
    Credential.NONE: "without a client certificate",
    Credential.FOREIGN: "with a certificate that an unknown authority issued",
    Credential.PLAIN: "without TLS",
}


def judge_stores_own(plan: Plan, federation: Federation) -> Verdict:
    """MESH-CP-003: every store holds entries of its own cluster, and of others only as declared copies."""
    regions = regions_by_mesh_name(plan)
    entries: defaultdict[str, Counter[str]] = defaultdict(Counter)
    kinds: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for content in federation.contents:
        if not content.cached and content.entries:
            entries[content.region][content.owner] += content.entries
            kinds[content.region, content.owner].add(content.kind)
    read = {content.region for content in federation.contents}
    violations: list[Finding] = []
    for region in plan.regions:
        if region.name not in read:
            continue
        own = mesh_name(region)
        if not entries[region.name][own]:
            violations.append(
                Finding(
                    f"store of {region.name}",
                    f"entries of {own}",
                    "it holds none of its own cluster",
                    "nothing writes its nodes and endpoints there, or they are written under another name",
                )
            )
        violations += [
            Finding(
                f"store of {region.name}",
                f"entries of {own} only",
                f"{number} of {owner} ({listed(sorted(kinds[region.name, owner]))})"
                + ("" if owner in regions else did_you_mean(owner, regions)),
                "two clusters share a store, or one bears the name of another",
            )
            for owner, number in sorted(entries[region.name].items())
            if owner != own and number
        ]
    return conclude(
        expected="every store holds the state of its own cluster and of no other",
        examined=len([region for region in plan.regions if region.name in read]),
        what="stores",
        violations=violations,
        gaps=gap_findings(federation.gaps, "contents") + unseen_regions(plan, read, "what its store holds"),
    )


def judge_remote_access(plan: Plan, federation: Federation) -> Verdict:
    """MESH-CP-004: what a cluster was given for another's store lets it read there and not write.

    That a write was refused counts only where the same credential could read: the store knew it.
    """
    trials = {
        (trial.tried_from, trial.region, trial.access): trial
        for trial in federation.trials
        if trial.credential is Credential.REMOTE
    }
    violations: list[Finding] = []
    gaps = gap_findings(federation.gaps, "trials")
    examined = 0
    for source, target in plan.ordered_pairs():
        subject = f"{source.name} -> store of {target.name}"
        read = trials.get((source.name, target.name, Access.READ))
        write = trials.get((source.name, target.name, Access.WRITE))
        examined += read is not None and write is not None
        if read is not None and read.allowed is False:
            violations.append(
                Finding(
                    subject, "to be let in to read", f"refused{_said(read)}", "the other cluster's user lost its role"
                )
            )
        if write is not None and write.allowed:
            violations.append(
                Finding(
                    subject,
                    "writing to be refused",
                    f"a write went through{_said(write)}",
                    "the role of the other clusters' user has write rights",
                )
            )
        gaps += [
            Finding(subject, f"a {access.value} to be tried", trial.detail if trial else "none was tried")
            for access, trial in ((Access.READ, read), (Access.WRITE, write))
            if trial is None or trial.allowed is None
        ]
    return conclude(
        expected="every cluster can read the stores of the others, and write none",
        examined=examined,
        what="directions between clusters",
        violations=violations,
        gaps=gaps,
        remedy="give the user of the other clusters a role that reads only",
    )


def judge_stores_closed(plan: Plan, federation: Federation) -> Verdict:
    """MESH-CP-005: a store refuses everybody who comes without TLS or without a certificate that it knows.

    The positive control is that the same store lets in, from the same place, the credential that it gave out.
    """
    let_in = {
        (trial.region, trial.tried_from)
        for trial in federation.trials
        if trial.credential is Credential.REMOTE and trial.allowed
    }
    tried: defaultdict[tuple[str, Credential], list[AccessTrial]] = defaultdict(list)
    for trial in federation.trials:
        if trial.credential in _UNTRUSTED:
            tried[trial.region, trial.credential].append(trial)
    violations: list[Finding] = []
    gaps = gap_findings(federation.gaps, "trials")
    examined = 0
    for region in plan.regions:
        for credential, words in _UNTRUSTED.items():
            subject = f"store of {region.name}, {words}"
            trials = tried[region.name, credential]
            admitted = [trial for trial in trials if trial.allowed]
            proven = [trial for trial in trials if trial.allowed is False and (region.name, trial.tried_from) in let_in]
            examined += bool(admitted or proven)
            if admitted:
                sources = listed(sorted({trial.tried_from for trial in admitted}))
                violations.append(
                    Finding(
                        subject,
                        "to be refused",
                        f"let in from {sources}{_said(admitted[0])}",
                        "anybody who reaches the port can see or change the state of the cluster",
                    )
                )
            elif not trials:
                gaps.append(Finding(subject, "to be tried", "it was not"))
            elif not proven:
                reason = next((trial.detail for trial in trials if trial.allowed is None and trial.detail), "")
                gaps.append(
                    Finding(
                        subject,
                        "to be refused by a store that lets in its own",
                        reason
                        or "its own credential was not let in from there either, so that a refusal proves nothing",
                    )
                )
    return conclude(
        expected="every store refuses those who come without TLS, without a certificate or with a foreign one",
        examined=examined,
        what="refusals",
        violations=violations,
        gaps=gaps,
        remedy="run the store with --client-cert-auth and a trusted CA",
    )


def judge_store_certificates(plan: Plan, federation: Federation) -> Verdict:
    """MESH-CP-006: every store's certificate verifies in every other cluster, for the name that is used there."""
    shown = {(item.seen_from, item.region): item for item in federation.certificates}
    violations: list[Finding] = []
    gaps = gap_findings(federation.gaps, "certificates")
    examined = 0
    for source, target in plan.ordered_pairs():
        subject = f"{source.name} -> store of {target.name}"
        certificate = shown.get((source.name, target.name))
        if certificate is None or certificate.verified is None:
            problem = certificate.problem if certificate else ""
            gaps.append(Finding(subject, "its certificate to be verified", problem or "it was not seen"))
            continue
        examined += 1
        if not certificate.verified:
            violations.append(
                Finding(
                    f"{subject} ({certificate.host})",
                    f"a certificate that is valid for {certificate.host}, of an authority that {source.name} trusts",
                    f"{certificate.problem or 'the verification failed'}; valid for "
                    f"{listed(certificate.names) or 'no name'}, issued by {certificate.issuer or 'nobody known'}",
                    _why_unverified(certificate),
                )
            )
    return conclude(
        expected="the certificate of every store verifies in the other clusters, for the name that they use",
        examined=examined,
        what="certificates, as seen from other clusters",
        violations=violations,
        gaps=gaps,
        remedy="issue the server certificate anew, from the mesh's authority and with that name",
    )


def judge_common_authority(plan: Plan, federation: Federation) -> Verdict:
    """MESH-CP-007: all clusters trust one authority, or have exchanged theirs.

    A cluster that does not trust the authority of most must at least verify the store of the other with its own.
    """
    settings = [setting for setting in federation.settings if setting.remote in regions_by_mesh_name(plan)]
    told = [setting for setting in settings if setting.trusted]
    verified = {(item.seen_from, item.region) for item in federation.certificates if item.verified}
    users = Counter(fingerprint for setting in told for fingerprint in set(setting.trusted))
    common, number = max(users.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    regions = regions_by_mesh_name(plan)
    strangers = [
        setting
        for setting in told
        if number < len(told)
        and common not in setting.trusted
        and (setting.region, regions[setting.remote].name) not in verified
    ]
    return conclude(
        expected="all clusters trust one authority, or each other's",
        examined=len(told),
        what="settings for other clusters",
        violations=[
            Finding(
                f"{setting.region}: settings for {setting.remote}",
                f"to trust the authority that {number} of {len(told)} settings trust ({_short(common)})",
                f"trusts {listed(map(_short, setting.trusted))}",
                "the cluster was installed with an authority of its own, and none was exchanged",
            )
            for setting in strangers
        ],
        gaps=[
            *gap_findings(federation.gaps, "settings", "certificates"),
            *unseen_regions(plan, (setting.region for setting in settings), "the authorities that it trusts"),
            *(
                Finding(f"{setting.region}: settings for {setting.remote}", "trusted authorities", "none was seen")
                for setting in settings
                if not setting.trusted
            ),
        ],
        remedy="install all clusters with the same cilium-ca, or hand each the CA certificates of the others",
    )


def judge_credentials(plan: Plan, federation: Federation) -> Verdict:
    """MESH-CP-009: with every setting for another cluster come the authority, and a key pair or a token."""
    regions = regions_by_mesh_name(plan)
    settings = [
        setting
        for setting in federation.settings
        if setting.remote in regions and regions[setting.remote].name != setting.region
    ]
    return conclude(
        expected="every cluster holds what it needs to connect to the others: the authority and its own credentials",
        examined=len(settings),
        what="settings for other clusters",
        violations=[
            Finding(
                f"{setting.region}: settings for {setting.remote}",
                "the authority's certificate, and a certificate with its key or a token",
                f"no {' and no '.join(missing)}"
                + (f"; there is {listed(setting.credentials)}" if setting.credentials else ""),
                "a secret is missing or empty",
            )
            for setting in settings
            if (missing := _missing(setting))
        ],
        gaps=[
            *gap_findings(federation.gaps, "settings"),
            *unseen_regions(plan, (setting.region for setting in settings), "its credentials for the other clusters"),
        ],
    )


def judge_store_port_apart(plan: Plan, inventory: Inventory, federation: Federation) -> Verdict:
    """MESH-CP-013: on a node that is a member of Kubernetes' own etcd, the mesh's store takes none of its ports."""
    nodes = planned_nodes(plan, inventory)
    members = {(node.region, node.name): node for node in nodes if node.label(ETCD_ROLE) is not None}
    expected = "no node that runs Kubernetes' own etcd gives etcd's ports to anything else"
    if nodes and not members and not inventory.gaps:
        return not_applicable(expected, "no node is a member of its cluster's own etcd")
    violations = [
        Finding(
            f"pod {pod.namespace}/{pod.name} on {qualified((pod.region, pod.node))}",
            f"no host port of {listed(sorted(ETCD_PORTS))}",
            f"host port {listed(taken)}",
            "the load balancer of the store is served on the nodes themselves (ServiceLB): use a NodePort",
        )
        for pod in inventory.pods
        if pod.node is not None
        and (pod.region, pod.node) in members
        and ETCD_COMPONENT not in pod.labels
        and (taken := sorted(ETCD_PORTS & set(pod.host_ports)))
    ]
    owners = {node.internal_ip: node for node in members.values()}
    violations += [
        Finding(
            f"{setting.region}: settings for {setting.remote}",
            "a port of the mesh's own",
            f"port {setting.port} of {qualified((owner.region, owner.name))} ({address})",
            "there Kubernetes' own etcd answers, which knows nothing of the mesh",
        )
        for setting in federation.settings
        for address in setting.addresses
        if setting.port in ETCD_PORTS and (owner := owners.get(address)) is not None
    ]
    return conclude(
        expected=expected,
        examined=len(members),
        what="members of Kubernetes' own etcd",
        violations=violations,
        gaps=gap_findings(inventory.gaps) + unseen_regions(plan, (node.region for node in nodes), "its nodes"),
    )


def judge_store_members(plan: Plan, inventory: Inventory) -> Verdict:
    """MESH-CP-019: all servers of a cluster are voting members of its own etcd, with a majority to spare."""
    nodes = planned_nodes(plan, inventory)
    expected = "all servers of a cluster are voting members of its etcd, and one of them can be lost"
    if nodes and not inventory.gaps and not any(node.label(ETCD_ROLE) is not None for node in nodes):
        return not_applicable(expected, "no node is a member of its cluster's own etcd: the control plane is elsewhere")
    violations: list[Finding] = []
    gaps = gap_findings(inventory.gaps) + unseen_regions(plan, (node.region for node in nodes), "its nodes")
    examined = 0
    for region in plan.regions:
        servers = [node for node in nodes if node.region == region.name and _is_server(node)]
        examined += len(servers)
        if not servers:
            if any(node.region == region.name for node in nodes):
                violations.append(Finding(f"cluster {region.name}", "servers with an etcd", "none of its nodes is one"))
            continue
        voters = [node for node in servers if dict(node.conditions).get(ETCD_VOTER) == "True"]
        violations += [
            Finding(
                f"server {qualified((node.region, node.name))}",
                "a voting member of its cluster's etcd",
                _membership(node),
                "it was started apart from the others, or is still learning",
            )
            for node in servers
            if node not in voters and (node.label(ETCD_ROLE) is None or node.conditions)
        ]
        gaps += [
            Finding(f"server {qualified((node.region, node.name))}", f"condition {ETCD_VOTER}", "no condition was seen")
            for node in servers
            if node not in voters and node.label(ETCD_ROLE) is not None and not node.conditions
        ]
        alive = sum(node.ready for node in voters)
        majority = len(voters) // 2 + 1
        if voters and alive <= majority:
            violations.append(
                Finding(
                    f"etcd of {region.name}",
                    "a majority that is still there when one more member is lost",
                    f"{count(len(voters), 'voting member')}, {alive} of them Ready, {majority} needed",
                    "the loss of one more server stops the cluster's control plane",
                )
            )
    return conclude(expected=expected, examined=examined, what="servers", violations=violations, gaps=gaps)


def _said(trial: AccessTrial) -> str:
    return f" ({trial.detail})" if trial.detail else ""


def _short(fingerprint: str) -> str:
    """As much of a fingerprint as tells it from others."""
    return f"{fingerprint[:16]}…" if len(fingerprint) > 16 else fingerprint


def _missing(setting: RemoteSetting) -> list[str]:
    """Which credentials a setting lacks."""
    held = set(setting.credentials)
    lacking = [] if "ca" in held else ["ca"]
    return lacking if "token" in held else [*lacking, *(name for name in ("certificate", "key") if name not in held)]


def _why_unverified(certificate: StoreCertificate) -> str | None:
    if not _names(certificate.host, certificate.names):
        return "the name that the other clusters use is not among those of the certificate"
    if "expired" in certificate.problem:
        return f"the certificate has expired ({certificate.not_after})"
    return "the certificate was issued by an authority that this cluster does not trust"


def _names(host: str, names: Iterable[str]) -> bool:
    """Whether one of a certificate's names covers that host; a wildcard stands for one label (RFC 6125)."""
    parent = host.partition(".")[2]
    return any(name.lower() in (host.lower(), f"*.{parent.lower()}") for name in names)


def _is_server(node: Node) -> bool:
    return any(node.label(role) is not None for role in (*SERVER_ROLES, ETCD_ROLE))


def _membership(node: Node) -> str:
    if node.label(ETCD_ROLE) is None:
        return "a server without the role of a member"
    return f"{ETCD_VOTER} is {dict(node.conditions).get(ETCD_VOTER, 'not told')}"
