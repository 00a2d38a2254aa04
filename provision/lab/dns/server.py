"""The server that plays CoreDNS: PowerDNS Recursor, its files on a node, and how a container runs it.

Of the servers that Debian has it comes nearest: the longest zone decides, also where one that is forwarded lies in one
that is answered; it says SERVFAIL when no upstream answers; it takes changes by a socket; and it needs half the memory
of BIND. It is told everything by arguments, since the format of its configuration differs from version to version.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from provision.lab.dns.translation import Translation

FOLDER = "var/run/coredns"
"""In a node's host tree, and in the pods that mount it."""

COREFILE, CUSTOM = "Corefile", "custom"
ARGUMENTS, FORWARDS, UNANSWERED, REFUSAL, LOG = "arguments", "forwards", "unanswered.lua", "refusal", "log"
ZONES, SERVERS = "zones", "servers"
"""Folders: a file for each local zone, and a folder for each server that runs on the node."""

AGAIN = "again"
"""A file in a server's folder: the server ends because it is to start again with other arguments."""

_INSIDE = f"/{FOLDER}"

_CONSTANT_ARGUMENTS = {
    "allow-from": "0.0.0.0/0",
    "config-dir": _INSIDE,
    "daemon": "no",
    "disable-packetcache": "yes",
    "dnssec": "off",
    "forward-zones-file": f"{_INSIDE}/{FORWARDS}",
    "hint-file": "no",
    "local-address": "0.0.0.0",  # noqa: S104 - of the pod, as CoreDNS
    "loglevel": "3",
    "lua-config-file": f"{_INSIDE}/recursor.lua",
    "max-mthreads": "256",
    "network-timeout": "2000",  # as CoreDNS waits for an upstream
    "nothing-below-nxdomain": "no",
    "pdns-distributes-queries": "no",
    "root-nx-trust": "no",
    "security-poll-suffix": "",
    "serve-rfc1918": "no",
    "server-down-max-fails": "1",
    "server-down-throttle-time": "1",  # so long only the others are asked, or SERVFAIL is said at once
    "threads": "1",
    "write-pid": "no",
}

LUA_CONFIGURATION = "addAllowedAdditionalQType(pdns.SRV, {pdns.A}, {mode = pdns.AdditionalMode.ResolveImmediately})\n"
"""The addresses of the hosts that SRV records name come along, as from CoreDNS."""

# A changed configuration begins with an empty cache, in CoreDNS too. What is refused ends a server only where there is
# no former configuration that it could go on with: at its start.
CONTAINER_SCRIPT = f"""\
cd {_INSIDE} || exit
own=$PWD/{SERVERS}/$HOSTNAME
until test -s {ARGUMENTS} || test -s {REFUSAL}; do sleep 0.02; done
mkdir -p "$own"
tail -n 0 -F {LOG} 2>/dev/null & tail=$!
trap 'rm -rf "$own"; kill $tail $server 2>/dev/null' EXIT
trap 'exit 143' TERM
until test -s {REFUSAL}; do
    pdns_recursor $(cat {ARGUMENTS}) "--socket-dir=$own" & server=$!
    wait $server
    status=$?
    rm "$own/{AGAIN}" 2>/dev/null || exit $status
done
cat {REFUSAL}
exit 1
"""

REAL_CONTAINER_SCRIPT = f"""\
cd {_INSIDE} || exit
until test -s {COREFILE}; do sleep 0.02; done
exec coredns -conf {COREFILE}
"""
"""What a container runs where there is a CoreDNS: it needs no more than its configuration."""


def files(translation: Translation) -> dict[str, str]:
    """What lies in the folder for a server to start with that configuration, zone files aside, by name."""
    zones = ",".join(f"{zone}={_INSIDE}/{ZONES}/{zone}" for zone in translation.local)
    lifetime = str(translation.keep_s)
    arguments = {
        **_CONSTANT_ARGUMENTS,
        "auth-zones": zones,
        "lua-dns-script": f"{_INSIDE}/{UNANSWERED}" if translation.unanswered else "",
        "max-cache-ttl": lifetime,
        "max-negative-ttl": lifetime,
    }
    return {
        "recursor.conf": "",  # it insists on having one, and is to take no notice of the machine's own
        "recursor.lua": LUA_CONFIGURATION,
        UNANSWERED: _codes_script(translation),
        FORWARDS: "".join(
            f"+{zone}={';'.join(f'{address}:{port}' for address, port in targets)}\n"
            for zone, targets in translation.forwarded.items()
        ),
        ARGUMENTS: "".join(f"--{name}={value}\n" for name, value in sorted(arguments.items())),
    }


def servers(folder: Path) -> Iterable[Path]:
    """The folders of the servers that run on a node, or are about to; each holds the socket of its server."""
    return tuple((folder / SERVERS).glob("*"))


def control(command: str) -> tuple[str, ...]:
    """The command line that tells a server something, to be run in its folder: the path of a socket must be short."""
    return ("rec_control", "--config-dir=.", "--socket-dir=.", command)


def _codes_script(translation: Translation) -> str:
    """Answers with a mere code the names for whose longest zone nobody answers."""
    zones: dict[str, str] = dict.fromkeys((*translation.local, *translation.forwarded), "false")
    zones |= {zone: f"pdns.{code}" for zone, code in translation.unanswered.items()}
    table = ", ".join(f'["{zone.rstrip(".")}."] = {code}' for zone, code in zones.items())
    return f"""\
local codes = {{ {table} }}
function preresolve(dq)
    local name = newDN(dq.qname:toString():lower())
    while codes[name:toString()] == nil and name:chopOff() do end
    local code = codes[name:toString()]
    if not code then return false end
    dq.rcode = code
    return true
end
"""
