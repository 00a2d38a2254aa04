"""How a cluster's agents were told to reach the stores of others: the files of the Secret cilium-clustermesh.

They are read in the cilium pod, where the Secret is mounted; of keys only is seen whether they are there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import yaml

from analysis.cilium import CiliumParseError
from analysis.facts import RemoteSetting
from probes.cilium import AgentPod
from probes.tls import fingerprint, read_authorities

FOLDER = "/var/lib/cilium/clustermesh"
READ_SETTINGS = (
    f"sh -c 'cd {FOLDER} 2>/dev/null || exit 0; "
    'for file in *; do [ -f "$file" ] && [ -s "$file" ] || continue; printf "\\035%s\\n" "$file"; '
    'if grep -q "endpoints:" "$file"; then cat "$file"; '
    'else sed -n "/BEGIN CERTIFICATE/,/END CERTIFICATE/p" "$file"; fi; done\''
)
"""Every file that is not empty, behind its name; of those that are no settings only the certificates in them."""

CREDENTIALS = {"trusted-ca-file": "ca", "cert-file": "certificate", "key-file": "key"}


@dataclass(frozen=True)
class StoreSetting:
    """A setting, with what is needed to act on it.

    Attributes:
        fact: what is reported of it.
        file: the settings' file in the cilium pod.
        authorities: the certificates that the store's is checked against, PEM.
    """

    fact: RemoteSetting
    file: str
    authorities: str


def read_settings(agent: AgentPod, told: str) -> tuple[StoreSetting, ...]:
    """The settings for each remote cluster; a file for the cluster itself counts as none.

    Raises:
        CiliumParseError: a file is not what an etcd client is configured with.
    """
    files = dict(part.partition("\n")[::2] for part in told.split("\x1d")[1:])
    aliases = host_aliases(agent)
    found: list[StoreSetting] = []
    for name, text in files.items():
        if "endpoints:" in text:
            found += _settings(agent.region, name, text, files, aliases)
    return tuple(found)


def host_aliases(agent: AgentPod) -> dict[str, tuple[IPv4Address, ...]]:
    """The addresses of the host names that only this pod knows."""
    found: dict[str, tuple[IPv4Address, ...]] = {}
    for alias in agent.pod["spec"].get("hostAliases") or ():
        if (address := _address(alias["ip"])) is not None:
            for name in alias.get("hostnames") or ():
                found[name] = (*found.get(name, ()), address)
    return found


def _settings(
    region: str, remote: str, text: str, files: dict[str, str], aliases: dict[str, tuple[IPv4Address, ...]]
) -> Iterable[StoreSetting]:
    content = _load(remote, text)
    named = {kind: PurePosixPath(str(content[key])).name for key, kind in CREDENTIALS.items() if content.get(key)}
    authorities = files.get(named.get("ca", ""), "")
    try:
        trusted = tuple(fingerprint(certificate) for certificate in read_authorities(authorities))
    except ValueError as error:
        raise CiliumParseError(f"{FOLDER}/{named.get('ca')}: {error}") from error
    for endpoint in content.get("endpoints") or ():
        url = urlsplit(str(endpoint))
        host = url.hostname or ""
        own = _address(host)
        yield StoreSetting(
            RemoteSetting(
                region=region,
                remote=remote,
                host=host,
                port=url.port or 2379,
                addresses=(own,) if own is not None else aliases.get(host, ()),
                credentials=tuple(kind for kind, file in named.items() if file in files),
                trusted=trusted,
            ),
            f"{FOLDER}/{remote}",
            authorities,
        )


def _load(name: str, text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CiliumParseError(f"{FOLDER}/{name} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise CiliumParseError(f"{FOLDER}/{name} is no etcd client's configuration")
    return content


def _address(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except AddressValueError:
        return None
