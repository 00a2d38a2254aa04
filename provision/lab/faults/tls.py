"""Faults of certificates, keys and entrances of the database: each function makes one, for the lab it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.x509.oid import ExtendedKeyUsageOID

from analysis.certificates import planned_names
from analysis.plan import DatabasePlan
from analysis.rootcause import Layer
from provision.faults import Confirm, Control, Delete, Fault
from provision.lab.database.condition import pod_place, rows_of, run_sql
from provision.lab.faults.database import database_fault
from provision.lab.faults.database_steps import (
    RELOAD,
    Issued,
    MemberFile,
    PlainConsole,
    Statements,
    access_rules,
    foreign_authority,
    has_rule,
    in_container,
    issue,
)
from provision.lab.faults.steps import SecretChanged, object_is_gone, secret_values
from provision.lab.topology import LabRegion, LabTopology

Values = Mapping[str, bytes]

WITHOUT_LOGINS = frozenset(
    {
        "DB-FORM-001",
        "DB-FORM-002",
        "DB-FORM-003",
        "DB-FORM-009",
        "DB-FORM-010",
        "DB-FORM-011",
        "DB-FORM-012",
        "DB-FORM-014",
        "DB-FORM-018",
    }
)
"""What cannot be asked where root cannot log in in one region."""


def tls_faults(lab: LabTopology) -> tuple[Fault, ...]:
    """All of them."""
    first, second, *_ = lab.regions
    plan = lab.plan.database or DatabasePlan()
    return (
        plaintext_accepted(first),
        plain_console(lab, first),
        another_authority(plan, second),
        planned_name_missing(lab, second),
        advertised_name_missing(lab, second),
        certificate_of_all_regions(lab, first, second),
        wrong_common_name(lab, second),
        certificate_cannot_be_client(lab, second),
        authority_key_in_secret(plan, first),
        client_secret_missing(plan, second),
        key_for_everybody(plan, first),
        root_key_mounted(plan, first),
        certificate_expired(plan, second),
        certificate_ends_soon(plan, first),
        anybody_logs_in(second),
        demonstration_user(),
        foreign_nodes_let_in(second),
    )


def plaintext_accepted(region: LabRegion) -> Fault:
    """Root may log in without TLS."""
    return database_fault(
        "tls-plaintext-accepted",
        f"the database of {region.name} takes logins without TLS",
        "SEC-TLS-001",
        access_rules(region.name, "hostnossl all root all trust"),
        confirm=has_rule(region.name, "hostnossl", "trust"),
        layer=Layer.TLS,
    )


def plain_console(lab: LabTopology, region: LabRegion) -> Fault:
    """Other regions see the console without TLS."""
    others = tuple(str(other.plan.pod_cidr) for other in lab.regions if other is not region)
    plan = lab.plan.database or DatabasePlan()
    return database_fault(
        "tls-plain-console",
        f"the console of {region.name}'s database answers other regions in the clear",
        "SEC-TLS-002",
        PlainConsole(region.name, others),
        confirm=lambda control: (
            control.run(
                pod_place(plan, region.name), ["nft", "list", "table", "ip", "planted_console"], check=False
            ).code
            == 0
        ),
        follows=frozenset({"SEC-TLS-005", "DB-FORM-001", "DB-FORM-010", "DB-FORM-019"}),
        layer=Layer.TLS,
    )


def another_authority(plan: DatabasePlan, region: LabRegion) -> Fault:
    """One region's Secret holds another authority's certificate."""
    path = _secret(plan, region, plan.node_secret)
    return database_fault(
        "tls-another-authority",
        f"the nodes of {region.name} are told to trust another authority",
        "SEC-TLS-003",
        SecretChanged(region.name, path, lambda _old, _c: {"ca.crt": foreign_authority("other").certificate}),
        confirm=_differs(region, path, _secret(plan, region, plan.client_secret), "ca.crt"),
        layer=Layer.TLS,
    )


def planned_name_missing(lab: LabTopology, region: LabRegion) -> Fault:
    """The region's certificate lacks the name of the Service that clients use."""
    plan = lab.plan.database or DatabasePlan()
    names = [name for name in planned_names(lab.plan, region.name) if name != plan.public_service]
    return _reissued(
        plan,
        region,
        "tls-planned-name-missing",
        f"the certificate of {region.name} was issued without the name {plan.public_service}",
        "SEC-TLS-004",
        lambda control: issue(control, "node", names),
    )


def advertised_name_missing(lab: LabTopology, region: LabRegion) -> Fault:
    """What the region's member serves is not valid for the name that it advertises."""
    names = [name for name in planned_names(lab.plan, region.name) if not name.startswith("*.")]
    issued: dict[str, Issued] = {}

    def text(part: str) -> Callable[[Control, str | None], str]:
        def make(control: Control, _old: str | None) -> str:
            pair = issued.setdefault("pair", issue(control, "node", names))
            return (pair.certificate if part == "certificate" else pair.key).decode()

        return make

    folder = "/cockroach/cockroach-data"
    settings = {"ssl_key_file": f"{folder}/served.key", "ssl_cert_file": f"{folder}/served.crt"}
    breaking = tuple(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in settings.items())
    mending = tuple(f"ALTER SYSTEM RESET {name}" for name in settings)
    return database_fault(
        "tls-advertised-name-missing",
        f"the database of {region.name} serves a certificate without the names of its pods",
        "SEC-TLS-005",
        MemberFile(region.name, settings["ssl_key_file"], text("key")),
        MemberFile(region.name, settings["ssl_cert_file"], text("certificate")),
        Statements(region.name, (*breaking, RELOAD), (*mending, RELOAD)),
        confirm=lambda control: (
            rows_of(run_sql(control, region.name, "SHOW ssl_cert_file")) == [[settings["ssl_cert_file"]]]
        ),
        follows=frozenset({"SEC-TLS-004", "SEC-TLS-006", *WITHOUT_LOGINS}),
        layer=Layer.TLS,
    )


def certificate_of_all_regions(lab: LabTopology, region: LabRegion, other: LabRegion) -> Fault:
    """One certificate is valid for the names of two regions."""
    names = dict.fromkeys([*planned_names(lab.plan, region.name), *planned_names(lab.plan, other.name)])
    return _reissued(
        lab.plan.database or DatabasePlan(),
        region,
        "tls-certificate-of-all-regions",
        f"the certificate of {region.name} is valid for the pods of {other.name}, too",
        "SEC-TLS-006",
        lambda control: issue(control, "node", names),
    )


def wrong_common_name(lab: LabTopology, region: LabRegion) -> Fault:
    """The node certificate is for somebody else."""
    return _reissued(
        lab.plan.database or DatabasePlan(),
        region,
        "tls-wrong-common-name",
        f"the certificate of {region.name} was issued for `cockroachdb` instead of `node`",
        "SEC-TLS-007",
        lambda control: issue(control, "cockroachdb", planned_names(lab.plan, region.name)),
    )


def certificate_cannot_be_client(lab: LabTopology, region: LabRegion) -> Fault:
    """The node certificate serves, but may not be a client: nodes connect to each other."""
    usages = (ExtendedKeyUsageOID.SERVER_AUTH,)
    return _reissued(
        lab.plan.database or DatabasePlan(),
        region,
        "tls-usage-missing",
        f"the certificate of {region.name} was issued for servers only",
        "SEC-TLS-007",
        lambda control: issue(control, "node", planned_names(lab.plan, region.name), usages=usages),
    )


def authority_key_in_secret(plan: DatabasePlan, region: LabRegion) -> Fault:
    """The folder that a Secret was made from had the authority's key in it."""
    path = _secret(plan, region, plan.client_secret)

    def with_key(_old: Values, control: Control) -> Values:
        return {"ca.key": (control.pki / "database" / "ca-key.pem").read_bytes()}

    return database_fault(
        "tls-authority-key-in-secret",
        f"the authority's private key is in a Secret of {region.name}",
        "SEC-TLS-008",
        SecretChanged(region.name, path, with_key),
        confirm=lambda control: "ca.key" in secret_values(control, region.name, path),
        layer=Layer.HYGIENE,
    )


def client_secret_missing(plan: DatabasePlan, region: LabRegion) -> Fault:
    """Nobody made the client's Secret in one region."""
    path = _secret(plan, region, plan.client_secret)
    return database_fault(
        "tls-client-secret-missing",
        f"{region.name} has no Secret {plan.client_secret}",
        "SEC-TLS-009",
        Delete(region.name, path),
        confirm=object_is_gone(region.name, path),
        layer=Layer.TLS,
    )


def key_for_everybody(plan: DatabasePlan, region: LabRegion) -> Fault:
    """The mounted key of the node can be read by everybody in the pod."""
    key = f"{plan.certificate_folder}/node.key"
    return database_fault(
        "tls-key-for-everybody",
        f"the key in the database pod of {region.name} can be read by everybody there",
        "SEC-TLS-010",
        in_container(region.name, f"chmod 0444 {key}", f"chmod 0400 {key}"),
        confirm=lambda _control: True,
        layer=Layer.HYGIENE,
    )


def root_key_mounted(plan: DatabasePlan, region: LabRegion) -> Fault:
    """The nodes' certificates came with root's key, as a guide has it."""
    path = f"{plan.certificate_folder}/client.root.key"
    key = MemberFile(
        region.name, path, lambda control, _old: (control.pki / "database" / "root-key.pem").read_text(), mode=0o400
    )
    return database_fault(
        "tls-root-key-mounted",
        f"the database pod of {region.name} carries the key by which root logs in",
        "SEC-TLS-011",
        key,
        confirm=lambda control: (
            rows_of(run_sql(control, region.name, f"SELECT (pg_stat_file('{path}', true)).size IS NOT NULL"))
            == [[True]]
        ),
        layer=Layer.HYGIENE,
    )


def certificate_expired(plan: DatabasePlan, region: LabRegion) -> Fault:
    """The console's own certificate has expired."""
    return _extra_certificate(plan, region, "tls-certificate-expired", "expired yesterday", -1)


def certificate_ends_soon(plan: DatabasePlan, region: LabRegion) -> Fault:
    """The console's own certificate ends within the planned time ahead."""
    return _extra_certificate(plan, region, "tls-certificate-ends-soon", "ends in five days", 5)


def anybody_logs_in(region: LabRegion) -> Fault:
    """Root logs in without certificate or password."""
    return database_fault(
        "tls-anybody-logs-in",
        f"the database of {region.name} believes everybody who says he is root",
        "SEC-TLS-013",
        access_rules(region.name, "hostssl all root all trust"),
        confirm=has_rule(region.name, "hostssl", "trust"),
        layer=Layer.TLS,
    )


def demonstration_user() -> Fault:
    """The user of a guide is there, with the guide's password."""
    rule = "hostssl all craig all scram-sha-256"
    kept = "CREATE TABLE planted_rules AS SELECT pg_read_file('pg_hba.conf') AS text"
    write = (
        "COPY (SELECT unnest(string_to_array({before}(SELECT text FROM planted_rules), E'\\n'))) "
        "TO PROGRAM 'cat > pg_hba.conf'"
    )
    return database_fault(
        "tls-demonstration-user",
        "a user of a guide was made, with the password that the guide prints",
        "SEC-TLS-014",
        Statements(
            "",
            (
                "CREATE ROLE craig LOGIN PASSWORD 'cockroach'",
                kept,
                write.format(before=f"E'{rule}\\n' || "),
                RELOAD,
            ),
            (write.format(before=""), RELOAD, "DROP TABLE planted_rules", "DROP ROLE craig"),
        ),
        confirm=lambda _control: True,
        layer=Layer.HYGIENE,
    )


def foreign_nodes_let_in(region: LabRegion) -> Fault:
    """A member asks nobody for a certificate and lets whoever calls himself a node follow it."""
    rules = "\n".join(
        [
            "local all root peer map=local",
            "local replication replicator peer map=local",
            "hostssl replication replicator all trust",
            "hostssl all rewind all trust",
            "hostssl all root all trust",
        ]
    )
    return database_fault(
        "tls-foreign-nodes-let-in",
        f"the database of {region.name} verifies no certificate of a node",
        "SEC-TLS-015",
        MemberFile(region.name, "pg_hba.conf", lambda _control, _old: rules + "\n"),
        Statements(
            region.name,
            ("ALTER SYSTEM SET ssl_ca_file = ''", RELOAD),
            ("ALTER SYSTEM RESET ssl_ca_file", RELOAD),
        ),
        confirm=has_rule(region.name, "hostssl", "trust"),
        follows=frozenset({"SEC-TLS-013"}),
        layer=Layer.TLS,
    )


def _reissued(
    plan: DatabasePlan,
    region: LabRegion,
    name: str,
    summary: str,
    requirement: str,
    make: Callable[[Control], Issued],
) -> Fault:
    """Another certificate and key in the Secret of a region's nodes; what runs goes on with the old ones."""
    path = _secret(plan, region, plan.node_secret)

    def change(_old: Values, control: Control) -> Values:
        issued = make(control)
        return {"node.crt": issued.certificate, "node.key": issued.key}

    def confirm(control: Control) -> bool:
        served = (control.pki / "database" / region.name / "node.pem").read_bytes()
        return secret_values(control, region.name, path).get("node.crt") != served

    return database_fault(
        name,
        summary,
        requirement,
        SecretChanged(region.name, path, change),
        confirm=confirm,
        layer=Layer.TLS,
    )


def _extra_certificate(plan: DatabasePlan, region: LabRegion, name: str, words: str, days: int) -> Fault:
    path = _secret(plan, region, plan.node_secret)

    def change(_old: Values, control: Control) -> Values:
        return {"ui.crt": issue(control, "console", [plan.public_service], days=days).certificate}

    return database_fault(
        name,
        f"the console's certificate in {region.name} {words}",
        "SEC-TLS-012",
        SecretChanged(region.name, path, change),
        confirm=lambda control: "ui.crt" in secret_values(control, region.name, path),
        layer=Layer.TLS,
    )


def _secret(plan: DatabasePlan, region: LabRegion, name: str) -> str:
    return f"/api/v1/namespaces/{plan.namespace(region.name)}/secrets/{name}"


def _differs(region: LabRegion, path: str, other: str, key: str) -> Confirm:
    def confirm(control: Control) -> bool:
        one, two = (secret_values(control, region.name, each).get(key) for each in (path, other))
        return one != two

    return confirm
