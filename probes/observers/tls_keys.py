"""Certificates and keys at rest: in the Secrets of the database's namespaces, and in the files of its pods.

Keys are read here as whoever may list Secrets or run a command in a pod can read them. They are held in memory for as
long as it takes to tell their public half by its fingerprint.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from datetime import timedelta

from cryptography import x509

from analysis.facts import Gap, MountedFile, SecretEntry
from analysis.plan import DatabasePlan
from probes.certificates import PRIVATE_KEY, describe, key_fingerprint, load_certificates
from probes.cluster import Cluster
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.database_members import Member

FILES_WITHIN = timedelta(seconds=15)

FILES_SCRIPT = r"""
command -v stat > /dev/null || { echo "the image has no program stat" >&2; exit 3; }
for folder do
    for file in "$folder"/* "$folder"/*/*; do
        [ -f "$file" ] || continue
        set -- $(stat -L -c '%a %u %s' "$file")
        [ $# -eq 3 ] || continue
        printf '\036%s %s %s\n' "$1" "$2" "$file"
        [ "$3" -gt 65536 ] || cat "$file" 2> /dev/null || printf '?'
    done
done
true
"""
"""Prints of each file its mode, its owner, its path, and what is in it. Any image with a shell has these programs."""

UNREADABLE = "?"


def observe_secrets(
    mesh: Mesh, plan: DatabasePlan, believed: Sequence[x509.Certificate]
) -> tuple[tuple[SecretEntry, ...], tuple[Gap, ...]]:
    """Every entry of every Secret in the database's namespaces."""
    entries: list[SecretEntry] = []
    gaps: list[Gap] = []
    for region, read in mesh.each_region(lambda cluster: read_secrets(cluster, plan, believed)):
        if isinstance(read, ProbeError):
            gaps.append(Gap(region, f"Secrets of namespace {plan.namespace(region)}", str(read), ("secrets",)))
        else:
            entries += read[0]
            gaps += read[1]
    return tuple(entries), tuple(gaps)


def read_secrets(
    cluster: Cluster, plan: DatabasePlan, believed: Sequence[x509.Certificate]
) -> tuple[list[SecretEntry], list[Gap]]:
    """Those of one cluster. Raises ApiError."""
    namespace = plan.namespace(cluster.region)
    entries: list[SecretEntry] = []
    gaps: list[Gap] = []
    for secret in cluster.items(f"/api/v1/namespaces/{namespace}/secrets"):
        name = secret["metadata"]["name"]
        texts = {entry: _text(data) for entry, data in (secret.get("data") or {}).items()}
        beside = [*believed, *_authorities(texts.values())]
        for entry, text in sorted(texts.items()):
            try:
                certificates = describe(load_certificates(text), beside)
                key = key_fingerprint(text)
            except ValueError as error:
                gaps.append(Gap(cluster.region, f"Secret {namespace}/{name}, {entry}", str(error), ("secrets",)))
            else:
                entries.append(SecretEntry(cluster.region, namespace, name, entry, tuple(certificates), key))
    return entries, gaps


def observe_files(mesh: Mesh, members: Sequence[Member]) -> tuple[tuple[MountedFile, ...], tuple[Gap, ...]]:
    """The files that are mounted in database pods; which of their keys are an authority's is not known here."""

    def look(cluster: Cluster, member: Member) -> str:
        command = ["/bin/sh", "-c", FILES_SCRIPT, "sh", *member.folders]
        done = cluster.exec(member.namespace, member.name, command, within=FILES_WITHIN)
        if done.exit_code:
            raise ProbeError(f"{member.region}/{member.name}: {done.stderr.decode('utf-8', 'replace').strip()}")
        return done.stdout.decode("utf-8", "replace")

    files: list[MountedFile] = []
    gaps: list[Gap] = []
    for member, told in mesh.each(members, lambda member: member.region, look):
        if isinstance(told, ProbeError):
            gaps.append(Gap(member.region, f"files in {member.namespace}/{member.name}", str(told), ("files",)))
        else:
            found, unread = read_files(member, told)
            files += found
            gaps += unread
    return tuple(files), tuple(gaps)


def read_files(member: Member, told: str) -> tuple[list[MountedFile], list[Gap]]:
    """What the script said in a database pod."""
    files: list[MountedFile] = []
    gaps: list[Gap] = []
    for part in told.split("\x1e")[1:]:
        head, _newline, content = part.partition("\n")
        mode, owner, path = head.split(" ", 2)
        try:
            key = key_fingerprint(content)
        except ValueError as error:
            key = ""
            gaps.append(Gap(member.region, f"{member.name}: {path}", str(error), ("files",)))
        if content == UNREADABLE and path.endswith(".key"):
            gaps.append(Gap(member.region, f"{member.name}: {path}", "it cannot be read in its pod", ("files",)))
        secret = PRIVATE_KEY in content
        files.append(MountedFile(member.region, member.name, path, int(mode, 8), int(owner), secret, key=key))
    return files, gaps


def _text(data: str) -> str:
    """What is in an entry; nothing where it is not text, so that there is no PEM in it."""
    try:
        return base64.b64decode(data).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _authorities(texts: Iterable[str]) -> list[x509.Certificate]:
    found: list[x509.Certificate] = []
    for text in texts:
        try:
            found += load_certificates(text)
        except ValueError:
            continue  # told of the entry itself
    return found
