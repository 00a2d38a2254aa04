"""`cilium-dbg troubleshoot clustermesh`: tries what the settings say, step by step, and says how far it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path

from cryptography import x509

from provision.lab.cilium import keys
from provision.lab.cilium.api import Reply
from provision.lab.cilium.connection import BadCertificateError, EtcdError, PermissionDeniedError, Target, Tls
from provision.lab.cilium.dbg.agent import Agent
from provision.lab.cilium.dbg.kvstore import FileMissingError, read_file
from provision.lab.cilium.etcd import EtcdClient
from provision.lab.cilium.settings import (
    FOLDER,
    EtcdSettings,
    SettingsError,
    configured_clusters,
    read_settings,
    split_endpoint,
)

GOOD, BAD, NOTE = "✅", "❌", "ℹ️ "


async def troubleshoot(names: Collection[str], own: str, root: Path, agent: Agent) -> Reply:
    """The report on these clusters, or on all that are configured. It exits with 0 whatever it finds.

    Args:
        names: the clusters to look at; none for all.
        own: the name of the agent's own cluster, which is passed over.
        root: where the files of the pod that asks are seen.
        agent: from whose node the stores are reached.
    """
    found = {name: text for name, text in configured_clusters(agent.settings_folder).items() if name != own}
    lines = [f"Found {len(found)} cluster configurations", ""]
    for name in names or found:
        lines += [f'Cluster "{name}":']
        if name in found:
            lines += [line async for line in _cluster(name, found[name], root, agent)]
        else:
            lines += [f"{BAD} Configuration not found"]
        lines.append("")
    return Reply("\n".join(lines) + "\n")


async def _cluster(name: str, text: str, root: Path, agent: Agent) -> AsyncIterator[str]:
    yield f"📄 Configuration path: {FOLDER / name}"
    yield ""
    try:
        told = read_settings(text)
    except SettingsError as error:
        yield f"{BAD} Cannot parse etcd configuration: {error}"
        return
    tls = Tls(_content(root, told, "ca"), _content(root, told, "certificate"), _content(root, told, "key"))
    yield "🔌 Endpoints:"
    cluster_id, problem = 0, ""
    for endpoint in told.endpoints:
        _, host, port = split_endpoint(endpoint)
        yield f"   - {endpoint}"
        addresses = agent.resolve(host)
        if not addresses:
            problem = f"Cannot resolve hostname: lookup {host}: no such host"
            yield f"     {BAD} {problem}"
            continue
        yield f"     {GOOD} Hostname resolved to: {', '.join(map(str, addresses))}"
        try:
            async with await EtcdClient.connect(Target(agent.namespace, host, addresses, port), tls) as client:
                yield f"     {GOOD} TCP connection successfully established to {client.peer}"
                yield f"     {GOOD} TLS connection successfully established to {client.peer}"
                yield f"     {NOTE} Negotiated TLS version: {client.protocol}"
                try:
                    yield f"     {NOTE} Etcd server version: {await client.version()}"
                    cluster_id = (await client.get_prefix(keys.HEARTBEAT)).cluster
                except PermissionDeniedError as error:
                    problem = f"Failed to retrieve key from etcd: {error}"
        except BadCertificateError as error:
            refused = "alert" in str(error)
            problem = f"{'TLS client authentication failed' if refused else 'Cannot establish TLS connection'}: {error}"
            yield f"     {GOOD} TCP connection successfully established"
            yield f"     {BAD} {problem}"
        except EtcdError as error:
            problem = f"Cannot establish TCP connection: {error}"
            yield f"     {BAD} {problem}"
    yield ""
    yield "🔑 Digital certificates:"
    for line in _certificate_lines("TLS Root CA certificates", root, told, "ca"):
        yield line
    for line in _certificate_lines("TLS client certificates", root, told, "certificate"):
        yield line
    yield ""
    yield "⚙️ Etcd client:"
    if cluster_id:
        yield f"   {GOOD} Etcd connection successfully established"
        yield f"   {NOTE} Etcd cluster ID: {cluster_id:x}"
    else:
        yield f"   {BAD} Failed to establish connection: {problem}"


def _content(root: Path, told: EtcdSettings, name: str) -> bytes:
    path = getattr(told, name)
    try:
        return read_file(root, path) if path is not None else b""
    except FileMissingError:
        return b""  # told below, with the certificates


def _certificate_lines(title: str, root: Path, told: EtcdSettings, name: str) -> Iterator[str]:
    path = getattr(told, name)
    try:
        if path is None:
            raise FileMissingError("none is configured")
        certificates = x509.load_pem_x509_certificates(read_file(root, path))
    except (FileMissingError, ValueError) as error:
        yield f"   {BAD} {title}: {error}"
        return
    yield f"   {GOOD} {title}:"
    for certificate in certificates:
        digits = f"{certificate.serial_number:x}"
        serial = ":".join(
            (digits if len(digits) % 2 == 0 else f"0{digits}")[k : k + 2] for k in range(0, len(digits), 2)
        )
        yield f"      - Serial number:       {serial}"
        yield f"        Subject:             {certificate.subject.rfc4514_string()}"
        yield f"        Issuer:              {certificate.issuer.rfc4514_string()}"
        yield "        Validity:"
        yield f"          Not before:        {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} +0000 UTC"
        yield f"          Not after:         {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} +0000 UTC"
