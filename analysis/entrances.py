"""SEC-TLS at the database's entrances: what is presented there, and who is let in.

Whoever is turned away proves something only where the rightful user is let in at the same pod, from the same region:
everybody is turned away by a port that nobody serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from analysis.facts import COCKROACHDB, Attempt, Certificate, DatabaseDoor, Login, Presented, Tls
from analysis.plan import DatabasePlan, Plan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed

DOOR_WORDS = {DatabaseDoor.SQL: "SQL", DatabaseDoor.CONSOLE: "console"}


def judge_plaintext(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-001: who speaks without TLS at the SQL port is turned away."""
    database = plan.database or DatabasePlan()
    return _judge_refusals(
        plan,
        tls,
        (Attempt.PLAINTEXT,),
        expected=f"port {database.sql_port} of every database pod turns away who speaks without TLS",
        cause="the database runs without TLS, or takes logins without it",
        remedy="start the database with certificates, and without any option that lets plaintext in "
        "(CockroachDB: no --insecure, no --accept-sql-without-tls)",
    )


def judge_console(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-002: the console port shows a certificate of the authority, and tells nothing without TLS."""
    database = plan.database or DatabasePlan()
    anchors = {authority.key for authority in tls.authorities}
    seen = [shown for shown in tls.presented if shown.door is DatabaseDoor.CONSOLE]
    plain = [login for login in tls.logins if login.door is DatabaseDoor.CONSOLE]
    violations: dict[tuple[str, str], Finding] = {}
    for shown in seen:
        if shown.chain and not leads_to(shown.chain, anchors):
            observed = f"its certificate is signed by {shown.chain[-1].issuer}, another authority"
        elif not shown.chain and shown.verified is False:
            observed = f"no handshake: {shown.detail}"
        else:
            continue
        violations[shown.region, shown.pod] = Finding(_pod(shown), "HTTPS, with the planned authority", observed)
    for login in plain:
        if login.accepted:
            finding = Finding(_pod(login), "nothing to be told without TLS", f"plain HTTP is answered: {login.detail}")
            violations.setdefault((login.region, login.pod), finding)
    return conclude(
        expected=f"port {database.console_port} speaks HTTPS alone, with a certificate of the planned authority",
        examined=sum(bool(shown.chain) for shown in seen),
        what="handshakes with the console",
        violations=violations.values(),
        gaps=[
            *(_unanswered(shown) for shown in seen if shown.verified is None),
            *(
                Finding(_pod(login), "an answer to plain HTTP, or a refusal", login.detail)
                for login in plain
                if login.accepted is None
            ),
            *_unseen(plan, tls, {shown.region for shown in seen}),
        ],
        remedy="give the console the node's certificate, or one that the same authority has signed",
    )


def judge_names_served(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-005: from every other region, the name that a pod advertises is in the certificate that it serves."""
    own = [shown for shown in tls.presented if _is_own(plan, shown)]
    violations: dict[tuple[str, str, DatabaseDoor], Finding] = {}
    for shown in own:
        if not shown.chain:
            continue
        where, names = f"{_pod(shown)}, {DOOR_WORDS[shown.door]} port", f"a certificate for {shown.name}"
        if not covers(shown.chain[0], shown.name):
            finding = Finding(where, names, f"one for {listed(shown.chain[0].names) or 'no name'}")
        elif shown.verified is False and not _explained(shown, tls):
            finding = Finding(where, f"to be believed as {shown.name}", f"from {shown.source}: {shown.detail}")
        else:
            continue
        violations.setdefault((shown.region, shown.pod, shown.door), finding)
    return conclude(
        expected="the certificate that a database pod serves is valid for the name that the pod advertises",
        examined=sum(bool(shown.chain) for shown in own),
        what="certificates served to other regions",
        violations=violations.values(),
        gaps=[
            *(_unanswered(shown) for shown in own if not shown.chain),
            *_unseen(plan, tls, {shown.region for shown in own}),
        ],
        remedy="issue the region's node certificate for the names of its pods (*.SERVICE.NAMESPACE.svc.cluster.local)",
    )


def judge_credentials(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-013: nobody logs in without a certificate of the authority, or a password."""
    return _judge_refusals(
        plan,
        tls,
        (Attempt.WITHOUT_CREDENTIALS, Attempt.FOREIGN_CERTIFICATE),
        expected="nobody logs in without a password, or with a certificate of another authority",
        cause="the rules of authentication trust whoever comes (pg_hba `trust`, "
        "server.host_based_authentication.configuration)",
        remedy="ask every user for a certificate or a password, from every address",
    )


def judge_demonstration_users(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-014: no user of a guide can log in with the password that the guide prints."""
    return _judge_refusals(
        plan,
        tls,
        (Attempt.PUBLISHED_PASSWORD,),
        expected="no user logs in with a password that guides print",
        cause="the user was made from a guide, with the guide's password",
        remedy="DROP USER, or give it a password of its own",
    )


def judge_foreign_node(plan: Plan, tls: Tls) -> Verdict:
    """SEC-TLS-015: a node's certificate of another authority opens nothing."""
    database = plan.database or DatabasePlan()
    way = "RPC" if database.engine == COCKROACHDB else "replication"
    return _judge_refusals(
        plan,
        tls,
        (Attempt.FOREIGN_NODE,),
        expected=f"a node with a certificate of another authority is turned away between nodes ({way})",
        cause="certificates of nodes are not verified, or another authority is trusted besides",
        remedy="trust the planned authority alone, and ask nodes for its certificates",
    )


def leads_to(chain: tuple[Certificate, ...], anchors: set[str]) -> bool:
    """Whether the chain, as it was presented, ends at one of the authorities with these keys."""
    signers = {certificate.key: certificate for certificate in chain}
    certificate, seen = chain[0], set[str]()
    while certificate.key not in seen:
        if certificate.issuer_key in anchors:
            return True
        seen.add(certificate.key)
        certificate = signers.get(certificate.issuer_key, certificate)
    return False


def covers(certificate: Certificate, name: str) -> bool:
    """Whether the certificate is valid for that DNS name; a wildcard stands for the whole first label (RFC 6125)."""
    wanted = name.lower()
    _, _, parent = wanted.partition(".")
    return any(offered.lower() in (wanted, f"*.{parent}") for offered in certificate.names)


def _judge_refusals(
    plan: Plan, tls: Tls, attempts: tuple[Attempt, ...], *, expected: str, cause: str, remedy: str
) -> Verdict:
    tried = [login for login in tls.logins if login.attempt in attempts and login.door is DatabaseDoor.SQL]
    violations: dict[tuple[str, str, Attempt, str], Finding] = {}
    gaps: list[Finding] = []
    for login in tried:
        if login.accepted:
            key = (login.region, login.pod, login.attempt, login.user)
            observed = f"let in from {login.source}: {login.detail}"
            violations.setdefault(key, Finding(_pod(login), f"{_words(login)} to be turned away", observed, cause))
        elif login.accepted is None:
            gaps.append(Finding(_pod(login), f"{_words(login)} to be tried", login.detail))
    return conclude(
        expected=expected,
        examined=len(tried),
        what="attempts to get in",
        violations=violations.values(),
        gaps=[*gaps, *_control(tls, tried), *_unseen(plan, tls, {login.region for login in tried})],
        remedy=remedy,
    )


def _control(tls: Tls, tried: Iterable[Login]) -> Iterator[Finding]:
    """Where a refusal proves nothing, because the rightful user was not let in either."""
    rightful: dict[tuple[str, str, str], list[Login]] = {}
    for login in tls.logins:
        if login.attempt is Attempt.RIGHTFUL:
            rightful.setdefault((login.source, login.region, login.pod), []).append(login)
    for key in dict.fromkeys((login.source, login.region, login.pod) for login in tried):
        source, region, pod = key
        where, wanted = f"{region}/{pod}, from {source}", "the rightful user to be let in, as the control"
        controls = rightful.get(key, [])
        failed = next((login for login in controls if not login.accepted), None)
        if failed is not None:
            yield Finding(where, wanted, failed.detail)
        elif not controls:
            yield Finding(where, wanted, "it was not tried")


def _words(login: Login) -> str:
    return {
        Attempt.PLAINTEXT: "a client without TLS",
        Attempt.WITHOUT_CREDENTIALS: f"{login.user} without certificate or password",
        Attempt.FOREIGN_CERTIFICATE: f"{login.user} with a certificate of another authority",
        Attempt.PUBLISHED_PASSWORD: f"{login.user} with the published password",
        Attempt.FOREIGN_NODE: "a node with a certificate of another authority",
    }.get(login.attempt, login.user)


def _is_own(plan: Plan, shown: Presented) -> bool:
    """Whether it was asked for under the name that it advertises, and not under another's."""
    return shown.name == (plan.database or DatabasePlan()).pod_name(shown.region, shown.pod)


def _explained(shown: Presented, tls: Tls) -> bool:
    """Whether it is disbelieved for a reason that another requirement speaks of: its authority, dates or usages."""
    anchors = {authority.key for authority in tls.authorities}
    believed = [*shown.chain, *tls.authorities]
    in_time = all(seen.not_before <= tls.at <= seen.not_after for seen in believed)
    return not leads_to(shown.chain, anchors) or not in_time or not shown.chain[0].server


def _unanswered(shown: Presented) -> Finding:
    where = f"{_pod(shown)}, {DOOR_WORDS[shown.door]} port, from {shown.source}"
    return Finding(where, "a certificate to be presented", shown.detail)


def _unseen(plan: Plan, tls: Tls, seen: set[str]) -> list[Finding]:
    """What the instrument could not do, and the regions of which nothing is known."""
    told = gap_findings(tls.gaps, "presented", "logins")
    missing = [region.name for region in plan.regions if region.name not in seen]
    silent = [Finding(f"database pods of {name}", "to be knocked at", "nobody did") for name in missing]
    return told or silent


def _pod(fact: Presented | Login) -> str:
    return f"{fact.region}/{fact.pod}"
