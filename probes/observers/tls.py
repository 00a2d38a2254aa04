"""The family "tls": certificates in Secrets, in database pods and on the wire, and who is let in."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from analysis.facts import Certificate, Gap, MountedFile, SecretEntry, Tls
from analysis.plan import DatabasePlan
from probes.certificates import describe, load_certificates
from probes.deploy import ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.database_members import Member, list_members
from probes.observers.tls_entrances import observe_entrances
from probes.observers.tls_keys import observe_files, observe_secrets


def observe_tls(mesh: Mesh, probe_set: ProbeSet) -> Tls:
    """Read Secrets and mounted files, and try every entrance, all at once."""
    plan, access = mesh.fleet.plan.database or DatabasePlan(), mesh.fleet.database
    at = datetime.now(UTC)
    if access is None:
        error = "the environment does not say how to log in to the database"
        return Tls(at, gaps=(Gap("", "the database's certificates", error),))
    try:
        believed = load_certificates(Path(access.authority).read_text(encoding="ascii"))
    except (OSError, ValueError) as problem:
        return Tls(at, gaps=(Gap("", "the database's authority", f"{access.authority}: {problem}"),))
    members: list[Member] = []
    gaps: list[Gap] = []
    for region, listed in mesh.each_region(lambda cluster: list_members(cluster, plan)):
        if isinstance(listed, ProbeError):
            gaps.append(Gap(region, "database pods", str(listed), ("files", "presented", "logins")))
            continue
        members += listed
        if not listed:
            error = f"no pod of StatefulSet {plan.service} is there"
            gaps.append(Gap(region, "database pods", error, ("files", "presented", "logins")))
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="tls") as pool:
        kept = pool.submit(observe_secrets, mesh, plan, believed)
        mounted = pool.submit(observe_files, mesh, members)
        presented, logins, entrance_gaps = observe_entrances(mesh, probe_set, members, believed)
        (secrets, secret_gaps), (files, file_gaps) = kept.result(), mounted.result()
    authorities = tuple(describe(believed))
    return Tls(
        at,
        authorities,
        secrets,
        mark_authority_keys(files, authorities, secrets),
        presented,
        logins,
        (*gaps, *secret_gaps, *file_gaps, *entrance_gaps),
    )


def mark_authority_keys(
    files: Iterable[MountedFile], authorities: Iterable[Certificate], secrets: Iterable[SecretEntry]
) -> tuple[MountedFile, ...]:
    """The files, with it noted which of them hold the key of an authority that was seen anywhere."""
    certificates = (*authorities, *(certificate for entry in secrets for certificate in entry.certificates))
    keys = {certificate.key for certificate in certificates if certificate.authority}
    return tuple(replace(file, authority_key=file.key in keys) for file in files)
