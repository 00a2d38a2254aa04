"""SEC-TLS at rest: the certificates and keys in Secrets and in pods, and what is in them.

Keys are told apart by the fingerprints of their public halves; no fact holds more of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from analysis.entrances import covers
from analysis.facts import Certificate, DatabaseDoor, SecretEntry, Tls
from analysis.plan import DatabasePlan, Plan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed, unseen_regions

AUTHORITY_ENTRY = "ca.crt"
NODE, ROOT = "node", "root"
"""Common names that the database asks for."""

OWNER_READS = 0o400


def judge_one_authority(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-003: the Secrets of all regions hold the same authority, and it is the planned one."""
    planned = {authority.fingerprint for authority in tls.authorities}
    violations = []
    entries = [entry for entry in _planned_entries(plan, tls) if entry.entry == AUTHORITY_ENTRY]
    for entry in entries:
        held = {certificate.fingerprint for certificate in entry.certificates}
        if held != planned:
            authorities = [f"{c.subject} ({c.fingerprint[:16]})" for c in entry.certificates]
            wanted = [f"{c.subject} ({c.fingerprint[:16]})" for c in tls.authorities]
            finding = Finding(_where(entry), listed(wanted), listed(authorities) or "no certificate")
            violations.append(finding)
    return conclude(
        expected="all regions trust the same authority",
        examined=len(entries),
        what="certificates of the authority in Secrets",
        violations=violations,
        gaps=[*_secret_gaps(tls), *unseen_regions(plan, {entry.region for entry in entries}, f"{AUTHORITY_ENTRY}")],
        remedy="sign the nodes of all regions by one authority; while it is exchanged, let all trust both",
    )


def judge_planned_names(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-004: a region's node certificate has the eight names planned for that region."""
    violations, examined = [], 0
    for where, region, certificate in _node_certificates(plan, tls):
        examined += 1
        missing = [name for name in planned_names(plan, region) if name not in certificate.names]
        missing += [] if any(address.is_loopback for address in certificate.addresses) else ["127.0.0.1"]
        if missing:
            observed = f"{listed(missing, limit=8)} missing"
            violations.append(Finding(where, f"all names planned for {region}", observed))
    return conclude(
        expected="a region's node certificate carries the eight names planned for that region",
        examined=examined,
        what="node certificates",
        violations=violations,
        gaps=[*_secret_gaps(tls), *_without_node_certificate(plan, tls)],
        remedy="issue it anew with all of them: cockroach cert create-node NAME ...",
    )


def judge_own_certificates(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-006: each region has a node certificate of its own, which is not believed for another region's names."""
    database = plan.database or DatabasePlan()
    holders: defaultdict[str, set[str]] = defaultdict(set)
    violations: list[Finding] = []
    found = list(_node_certificates(plan, tls))
    for where, region, certificate in found:
        holders[certificate.key].add(region)
        for other in plan.others(region):
            name = database.pod_name(other.name, f"{database.service}-0")
            if covers(certificate, name):
                violations.append(Finding(where, f"names of {region} only", f"it is valid for {name}, too"))
    for regions in holders.values():
        if len(regions) > 1:
            finding = Finding(f"node certificates of {listed(sorted(regions))}", "a key for each region", "one for all")
            violations.append(finding)
    posing = [shown for shown in tls.presented if not shown.name.endswith(_zone(database, shown.region))]
    for shown in posing:
        if shown.verified:
            where, observed = f"{shown.region}/{shown.pod}", f"{shown.source} believed it to be {shown.name}"
            violations.append(Finding(where, "not to be believed under another region's name", observed))
    return conclude(
        expected="every region has a node certificate of its own, and no other region's names are in it",
        examined=len(found) + len(posing),
        what="node certificates, and handshakes under another region's name",
        violations=violations,
        gaps=[
            *_secret_gaps(tls),
            *_without_node_certificate(plan, tls),
            *gap_findings(tls.gaps, "presented"),
            *(
                Finding(
                    f"{shown.region}/{shown.pod}, from {shown.source}", "an answer under a false name", shown.detail
                )
                for shown in posing
                if not shown.chain
            ),
        ],
        remedy="issue a certificate for each region, with the names of that region alone",
    )


def judge_subjects(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-007: nodes are `node` and may serve and be clients, the client is `root` and may be a client."""
    database = plan.database or DatabasePlan()
    violations, examined = [], 0
    for entry in _planned_entries(plan, tls):
        if entry.entry == AUTHORITY_ENTRY or not entry.certificates:
            continue
        examined += 1
        certificate, is_node = entry.certificates[0], entry.entry == f"{NODE}.crt"
        wanted = NODE if is_node else entry.entry.removeprefix("client.").removesuffix(".crt")
        if entry.secret == database.client_secret:
            wanted = ROOT
        if certificate.subject != wanted:
            violations.append(Finding(_where(entry), f"the common name {wanted}", certificate.subject))
        lacking = [
            usage
            for usage, there in (("server", certificate.server or not is_node), ("client", certificate.client))
            if not there
        ]
        if lacking:
            violations.append(
                Finding(_where(entry), f"the usage {' and '.join(lacking)}", "it is not allowed for that")
            )
    return conclude(
        expected=f"node certificates are for `{NODE}`, serving and being a client; the client's is for `{ROOT}`",
        examined=examined,
        what="node and client certificates",
        violations=violations,
        gaps=[*_secret_gaps(tls), *_without_node_certificate(plan, tls)],
        remedy="issue them with `cockroach cert create-node` and `cockroach cert create-client root`",
    )


def judge_authority_key(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-008: the private key of no authority is in a Secret beside the database, or in a database pod."""
    certificates = [*tls.authorities, *(found for entry in tls.secrets for found in entry.certificates)]
    authorities = {found.key: found.subject for found in certificates if found.authority}
    keys = [entry for entry in tls.secrets if entry.private_key]
    violations = [
        Finding(_where(entry), "no authority's private key", f"the key of {authorities[entry.private_key]}")
        for entry in keys
        if entry.private_key in authorities
    ]
    violations += [
        Finding(f"{file.region}/{file.pod}: {file.path}", "no authority's private key", "an authority's key")
        for file in tls.files
        if file.authority_key
    ]
    return conclude(
        expected="the authority's private key is in no Secret and in no pod",
        examined=len(keys) + sum(file.private_key for file in tls.files),
        what="private keys in Secrets and pods",
        violations=violations,
        gaps=[
            *_secret_gaps(tls),
            *gap_findings(tls.gaps, "files"),
            *unseen_regions(plan, {entry.region for entry in keys}, "a private key in its Secrets, as the control,"),
            *unseen_regions(plan, {file.region for file in tls.files}, "the files of its database pods"),
        ],
        remedy="take it away at once, and exchange the authority: whoever saw the key can be any node and any user",
    )


def judge_secrets(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-009: each region has the Secrets of the node and of the root client, whole."""
    database = plan.database or DatabasePlan()
    wanted = {
        database.node_secret: (AUTHORITY_ENTRY, f"{NODE}.crt", f"{NODE}.key"),
        database.client_secret: (AUTHORITY_ENTRY, f"client.{ROOT}.crt", f"client.{ROOT}.key"),
    }
    unseen = {gap.region for gap in tls.gaps if not gap.parts or "secrets" in gap.parts}
    seen = [region.name for region in plan.regions if region.name not in unseen]
    violations = []
    for region in seen:
        for secret, names in wanted.items():
            entries = {e.entry: e for e in tls.secrets if (e.region, e.secret) == (region, secret)}
            where = f"Secret {database.namespace(region)}/{secret} of {region}"
            missing = [name for name in names if name not in entries]
            if not entries:
                violations.append(Finding(where, "to be there", "it is not there"))
            elif missing:
                violations.append(Finding(where, "to be whole", f"{listed(missing)} missing"))
            elif not _fit(entries[names[1]], entries[names[2]]):
                violations.append(Finding(where, "a certificate with its own key", f"{names[2]} is another's key"))
    return conclude(
        expected=f"each region's namespace has the Secrets {database.node_secret} and {database.client_secret}",
        examined=2 * len(seen),
        what="Secrets",
        violations=violations,
        gaps=_secret_gaps(tls),
        remedy="create them from the authority's certificate and the region's: kubectl create secret generic ...",
    )


def judge_key_modes(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-010: key files in database pods can be read by their owner, and by nobody else."""
    keys = [file for file in tls.files if file.private_key]
    return conclude(
        expected="mounted keys have the mode 0400",
        examined=len(keys),
        what="mounted keys",
        violations=[
            Finding(f"{file.region}/{file.pod}: {file.path}", "mode 0400", f"{file.mode:04o}, owner {file.owner}")
            for file in keys
            if file.mode != OWNER_READS
        ],
        gaps=[*gap_findings(tls.gaps, "files"), *unseen_regions(plan, {file.region for file in keys}, "mounted keys")],
        remedy="set `defaultMode: 0400` (256) on the volume of the Secret",
    )


def judge_root_key(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-011: the key by which root logs in is not mounted in database pods."""
    database = plan.database or DatabasePlan()
    roots = {
        certificate.key
        for entry in tls.secrets
        for certificate in entry.certificates
        if not certificate.authority and (certificate.subject == ROOT or entry.secret == database.client_secret)
    }
    keys = [file for file in tls.files if file.private_key]
    violations = [
        Finding(f"{file.region}/{file.pod}: {file.path}", "no key of root", "the key by which root logs in")
        for file in keys
        if file.key in roots
    ]
    return conclude(
        expected="database pods do not carry the key by which root logs in",
        examined=len(keys),
        what="mounted keys",
        violations=violations,
        gaps=[
            *_secret_gaps(tls),
            *gap_findings(tls.gaps, "files"),
            *unseen_regions(plan, {file.region for file in keys}, "mounted keys"),
        ],
        cause="the Secret of the nodes was made from the whole folder of certificates" if violations else None,
        remedy=f"leave client.{ROOT}.key out of {database.node_secret}, and run `init` from a client pod",
    )


def judge_validity(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-012: every certificate is valid now, and for the planned time ahead."""
    ahead = plan.budgets.certificate
    violations: dict[str, Finding] = {}
    found = list(_all_certificates(tls))
    for where, certificate in found:
        if certificate.not_before > tls.at:
            observed = f"not valid before {certificate.not_before:%Y-%m-%d %H:%M} UTC"
        elif certificate.not_after < tls.at:
            observed = f"expired at {certificate.not_after:%Y-%m-%d %H:%M} UTC"
        elif certificate.not_after < tls.at + ahead:
            observed = f"it ends at {certificate.not_after:%Y-%m-%d %H:%M} UTC"
        else:
            continue
        wanted = f"valid until {tls.at + ahead:%Y-%m-%d}"
        violations.setdefault(certificate.fingerprint, Finding(f"{where} ({certificate.subject})", wanted, observed))
    regions = {entry.region for entry in tls.secrets if entry.certificates}
    return conclude(
        expected=f"every certificate is valid now and for {ahead.days} days",
        examined=len({certificate.fingerprint for _, certificate in found}),
        what="certificates",
        violations=violations.values(),
        gaps=[*gap_findings(tls.gaps, "secrets", "presented"), *unseen_regions(plan, regions, "its certificates")],
        remedy="issue it anew in time, put it into its Secret, and have the database read it (SIGHUP)",
    )


def planned_names(plan: Plan, region: str) -> tuple[str, ...]:
    """The DNS names of a region's nodes, the address 127.0.0.1 apart."""
    database = plan.database or DatabasePlan()
    namespace = database.namespace(region)
    tails = ("", f".{namespace}", f".{namespace}.svc.cluster.local")
    public = (f"{database.public_service}{tail}" for tail in tails)
    return ("localhost", *public, *(f"*.{database.service}{tail}" for tail in tails))


def _node_certificates(plan: Plan, tls: Tls) -> Iterator[tuple[str, str, Certificate]]:
    """Where each was found, whose region's it is, and the certificate: in Secrets, and where it differs on the wire."""
    database = plan.database or DatabasePlan()
    known = set()
    for entry in tls.secrets:
        if entry.secret == database.node_secret and entry.entry == f"{NODE}.crt" and entry.certificates:
            known.add((entry.region, entry.certificates[0].fingerprint))
            yield _where(entry), entry.region, entry.certificates[0]
    for shown in tls.presented:
        if shown.door is DatabaseDoor.SQL and shown.chain:
            served = (shown.region, shown.chain[0].fingerprint)
            if served not in known:
                known.add(served)
                yield f"what {shown.region}/{shown.pod} serves", shown.region, shown.chain[0]


def _without_node_certificate(plan: Plan, tls: Tls) -> list[Finding]:
    return unseen_regions(plan, {region for _, region, _ in _node_certificates(plan, tls)}, "its node certificate")


def _all_certificates(tls: Tls) -> Iterator[tuple[str, Certificate]]:
    for entry in tls.secrets:
        yield from ((_where(entry), certificate) for certificate in entry.certificates)
    for shown in tls.presented:
        yield from ((f"what {shown.region}/{shown.pod} serves", certificate) for certificate in shown.chain)
    yield from (("the planned authority", certificate) for certificate in tls.authorities)


def _planned_entries(plan: Plan, tls: Tls) -> Iterator[SecretEntry]:
    """The entries of the Secrets that are planned, certificates first of all."""
    database = plan.database or DatabasePlan()
    secrets = (database.node_secret, database.client_secret)
    return (entry for entry in tls.secrets if entry.secret in secrets)


def _fit(certificate: SecretEntry, key: SecretEntry) -> bool:
    return key.private_key in {found.key for found in certificate.certificates}


def _secret_gaps(tls: Tls) -> list[Finding]:
    return gap_findings(tls.gaps, "secrets")


def _zone(database: DatabasePlan, region: str) -> str:
    return f".{database.service}.{database.namespace(region)}.svc.cluster.local"


def _where(entry: SecretEntry) -> str:
    return f"Secret {entry.namespace}/{entry.secret} of {entry.region}, {entry.entry}"
