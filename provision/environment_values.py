"""The kinds of values that an environment file holds, and what is said of one that is none of its kind.

Each is a type for pydantic: text as people write it becomes the value that code works with, and is written back alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, core_schema

from provision.lab.topology import REFLECTOR_LABEL

_DURATION_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"^(\d+(\.\d+)?(ms|s|m|h|d))+$")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_CLUSTER_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$")
_DNS_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
_LABEL_SELECTOR = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_./]*)=([-A-Za-z0-9_.]*)$")
_LABEL_KEY = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_./]*)?$")
_PORT_RANGE = re.compile(r"^(\d{1,5})-(\d{1,5})$")
_CPU = re.compile(r"^(\d+(?:\.\d{1,3})?)$|^(\d+)m$")
_MEMORY = re.compile(r"^(\d+(?:\.\d+)?)([KMGT]i|[kMGT]|)$")
_MEMORY_UNITS = {"": 1} | {
    name: base**power
    for units, base in ((("k", "M", "G", "T"), 1000), (("Ki", "Mi", "Gi", "Ti"), 1024))
    for power, name in enumerate(units, 1)
}
_USER = re.compile(r"^[a-z_][-a-z0-9_.]{0,31}$")
_HOST = r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?"
_HOST_PORT = re.compile(rf"^({_HOST}):(\d{{1,5}})$")
_FOLDER = re.compile(r"^(/[A-Za-z0-9._-]+)+$")
_JUMP = re.compile(rf"^([a-z_][-a-z0-9_.]*@)?{_HOST}(:\d{{1,5}})?$")
LAST_PORT = 65535
WIDEST_SOURCE = 8
"""Prefix length: whoever lets in more of the internet than this has not limited anything."""


def wrong(what: str, advice: str) -> PydanticCustomError:
    """An error about one value: what is wrong with it, and what would be right."""
    # Braces in a template are placeholders, so the texts travel in the context.
    return PydanticCustomError("wrong", "{what}", {"what": what, "advice": advice})


def _network(value: Any) -> IPv4Network:
    if isinstance(value, IPv4Network):
        return value
    if not isinstance(value, str):
        raise wrong("is not a network", "an IPv4 network in CIDR notation, like 10.0.0.0/16")
    if "/" not in value:
        raise wrong("has no prefix length", f"address/length, like {value}/16")
    try:
        network = IPv4Network(value, strict=False)
    except NetmaskValueError:
        raise wrong("has a bad prefix length", "a length from 0 to 32 after the slash, like 10.0.0.0/16") from None
    except (AddressValueError, ValueError):
        if ":" in value:
            raise wrong("is IPv6", "an IPv4 network; IPv6 is not verified yet") from None
        raise wrong("is not an IPv4 network", "four numbers from 0 to 255 and a length, like 10.0.0.0/16") from None
    if str(network) != value:
        if value.partition("/")[2] != str(network.prefixlen):
            raise wrong("has a netmask where a prefix length belongs", str(network))
        raise wrong("has host bits set", f"{network}, the network that holds this address")
    return network


def _address(value: Any) -> IPv4Address:
    if isinstance(value, IPv4Address):
        return value
    try:
        if not isinstance(value, str):
            raise ValueError
        return IPv4Address(value)
    except ValueError:
        raise wrong("is not an IPv4 address", "four numbers from 0 to 255, like 172.20.0.10") from None


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise wrong("has no unit", f"a number with ms, s, m, h or d, like {value}s")
    if not isinstance(value, str) or not _DURATION.match(value):
        raise wrong("is not a duration", "numbers with ms, s, m, h or d, like 30s, 2ms or 1m30s")
    total = timedelta()
    for number, unit in _DURATION_PART.findall(value):
        total += timedelta(**{_DURATION_UNITS[unit]: float(number)})
    if not total:
        raise wrong("is no time at all", "more than zero, like 30s")
    return total


def write_duration(value: timedelta) -> str:
    """A duration as the file has it: 30s, 2ms, 7d."""
    if value % timedelta(days=1) == timedelta():
        return f"{value.days}d"
    milliseconds = value / timedelta(milliseconds=1)
    return f"{milliseconds / 1000:g}s" if milliseconds % 1000 == 0 else f"{milliseconds:g}ms"


def _path(value: Any, info: ValidationInfo) -> Path:
    """An absolute path: `~` is the user's home, and a relative path starts at the environment file's folder."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip():
        raise wrong("is not a path", "the path of a file, like ~/.kube/config")
    folder = (info.context or {}).get("folder", Path())
    return Path(folder / Path(value).expanduser()).absolute()


def _source(value: Any) -> IPv4Network:
    """A network that connections come from; a single address stands for itself."""
    if isinstance(value, str) and "/" not in value and ":" not in value:
        value = f"{value}/32"
    network = _network(value)
    if network.prefixlen < WIDEST_SOURCE:
        raise wrong(
            "is the whole internet" if network.prefixlen == 0 else "is a great part of the internet",
            f"the addresses that operators come from, like 198.51.100.20/32, and no prefix under /{WIDEST_SOURCE}",
        )
    return network


def _port_range(value: Any) -> tuple[int, int]:
    """A port, or the first and last of several: 22, "30000-32767"."""
    advice = f"a port from 1 to {LAST_PORT}, like 22, or a range of them, like 30000-32767"
    if isinstance(value, tuple | list) and len(value) == 2:
        first, last = value
    elif isinstance(value, int) and not isinstance(value, bool):
        first = last = value
    elif isinstance(value, str) and (match := _PORT_RANGE.match(value)):
        first, last = int(match[1]), int(match[2])
    else:
        raise wrong("is not a port or a range of ports", advice)
    if not 1 <= first <= LAST_PORT or not 1 <= last <= LAST_PORT:
        raise wrong("is out of range", advice)
    if first > last:
        raise wrong("ends before it begins", f"{last}-{first}")
    return first, last


def _host_port(value: Any) -> tuple[str, int]:
    """A host and one of its ports: "db.example.net:26257"."""
    if isinstance(value, tuple | list) and len(value) == 2:
        value = f"{value[0]}:{value[1]}"
    match = _HOST_PORT.match(value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[3]) <= LAST_PORT:
        raise wrong("is not a host with a port", f"host:port, a port from 1 to {LAST_PORT}, like db.example.net:26257")
    return match[1], int(match[3])


def write_port_range(value: tuple[int, int]) -> int | str:
    """A range of ports as the file has it: 22, "30000-32767"."""
    first, last = value
    return first if first == last else f"{first}-{last}"


def _cpu(value: Any) -> int:
    """Thousandths of a processor, from what Kubernetes calls a quantity: 2, "500m"."""
    match = None if isinstance(value, bool) else _CPU.match(str(value))
    millis = 0 if match is None else int(match[2]) if match[2] else round(float(match[1]) * 1000)
    if not millis:
        raise wrong("is not an amount of processors", "a number of them, or thousandths with m, like 2 or 500m")
    return millis


def write_cpu(millis: int) -> int | str:
    """Thousandths of a processor as the file has them: 2, "500m"."""
    return f"{millis}m" if millis % 1000 else millis // 1000


def _memory(value: Any) -> int:
    """Bytes, from what Kubernetes calls a quantity: "8Gi", 1000000."""
    match = None if isinstance(value, bool) else _MEMORY.match(str(value))
    size = int(float(match[1]) * _MEMORY_UNITS[match[2]]) if match else 0
    if not size:
        raise wrong("is not an amount of memory", "bytes with Ki, Mi or Gi, like 8Gi")
    return size


def write_memory(size: int) -> int | str:
    """Bytes as the file has them, in the largest unit that divides them: "8Gi"."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size % _MEMORY_UNITS[unit] == 0:
            return f"{size // _MEMORY_UNITS[unit]}{unit}"
    return size


def _outside_name(value: Any) -> str:
    """A name of the public DNS: it has a dot, and is neither an address nor a cluster's own."""
    advice = "a name that everybody can resolve, like www.example.net"
    if not isinstance(value, str) or not _DNS_NAME.match(value) or ".." in value:
        raise wrong("is not a DNS name", advice)
    if value.replace(".", "").isdecimal():
        raise wrong("is an address", advice)
    if "." not in value:
        raise wrong("has no domain", advice)
    if f".{value}".endswith((".cluster.local", ".svc", ".local")):
        raise wrong("is a name of clusters only", advice)
    return value


def _argument(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise wrong("is not a word of a command", 'text; quotes make it so, like "22"')
    return value


def _cluster_id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong("is not a cluster id", "a number (Cilium) or four numbers with dots (Calico), like 1 or 244.0.0.1")
    return str(value)


def _selector(value: Any) -> str:
    if not isinstance(value, str) or not _LABEL_SELECTOR.match(value):
        raise wrong("is not a label", f"key=value, like {REFLECTOR_LABEL}=true")
    return value


@dataclass(frozen=True)
class Whole:
    """Marks a whole number in a range, both ends included. Text and truth values are no numbers here."""

    low: int
    high: int

    def _check(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong("is not a whole number", f"a whole number from {self.low} to {self.high}, without quotes")
        if not self.low <= value <= self.high:
            raise wrong("is out of range", f"a whole number from {self.low} to {self.high}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Check first, for the words of the error; pydantic's own bounds are there for the JSON schema."""
        return core_schema.no_info_before_validator_function(
            self._check, core_schema.int_schema(ge=self.low, le=self.high)
        )


def _ratio(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise wrong("is not a share", "a number above 0 and up to 1, like 0.8")
    return float(value)


def at_least(count: int, what: str) -> AfterValidator:
    """A list must have so many items; said only once the items themselves are right, and so can be counted."""

    def check(value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(value) < count:
            raise wrong(f"has {len(value) or 'nothing in it'}", f"at least {count} {what}")
        return value

    return AfterValidator(check)


def _matching(pattern: re.Pattern[str], what: str, advice: str) -> BeforeValidator:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise wrong(f"is not {what}", f'{advice}; quotes make it text: "{value}"')
        if not pattern.match(value):
            raise wrong(f"is not {what}", advice)
        return value

    return BeforeValidator(check)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or any(c.isspace() for c in value):
        raise wrong("is not a word", "some text without spaces")
    return value


Network = Annotated[IPv4Network, BeforeValidator(_network)]
Address = Annotated[IPv4Address, BeforeValidator(_address)]
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(write_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION.pattern}),
]
FilePath = Annotated[Path, BeforeValidator(_path)]
Source = Annotated[IPv4Network, BeforeValidator(_source)]
PortRange = Annotated[
    tuple[int, int],
    BeforeValidator(_port_range),
    PlainSerializer(write_port_range),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": LAST_PORT},
                {"type": "string", "pattern": _PORT_RANGE.pattern},
            ]
        }
    ),
]
Cpu = Annotated[int, BeforeValidator(_cpu), PlainSerializer(write_cpu), WithJsonSchema({"type": ["number", "string"]})]
Memory = Annotated[
    int, BeforeValidator(_memory), PlainSerializer(write_memory), WithJsonSchema({"type": ["integer", "string"]})
]
HostPort = Annotated[
    tuple[str, int],
    BeforeValidator(_host_port),
    PlainSerializer(lambda value: f"{value[0]}:{value[1]}"),
    WithJsonSchema({"type": "string", "pattern": _HOST_PORT.pattern}),
]
Folder = Annotated[str, _matching(_FOLDER, "a folder of a pod", "its whole path, like /cockroach/cockroach-certs")]
OutsideName = Annotated[str, BeforeValidator(_outside_name)]
Argument = Annotated[str, BeforeValidator(_argument)]
Command = Annotated[tuple[Argument, ...], at_least(1, "word"), Field(json_schema_extra={"minItems": 1})]
UserName = Annotated[str, _matching(_USER, "a user's name", "small letters, digits, hyphens and dots, like ubuntu")]
JumpHost = Annotated[str, _matching(_JUMP, "a host to jump by", "user@host or user@host:port, like me@bastion.example")]
ClusterId = Annotated[str, BeforeValidator(_cluster_id), WithJsonSchema({"type": ["string", "integer"]})]
Selector = Annotated[str, BeforeValidator(_selector), WithJsonSchema({"type": "string"})]
DnsLabel = Annotated[
    str, _matching(_DNS_LABEL, "a name", "small letters, digits and hyphens, at most 63, like us-east-1")
]
ClusterName = Annotated[
    str,
    _matching(
        _CLUSTER_NAME, "a cluster's name", "small letters, digits and hyphens, at most 32, like crdb-cilium-eastus"
    ),
]
DnsName = Annotated[str, _matching(_DNS_NAME, "a name", "small letters, digits, hyphens and dots, like node-1")]
LabelKey = Annotated[str, _matching(_LABEL_KEY, "a label's key", "the key alone, like geography; empty for none")]
Word = Annotated[str, BeforeValidator(_text)]
Port = Annotated[int, Whole(1, 65535)]
Ports = Annotated[tuple[Port, ...], at_least(1, "port"), Field(json_schema_extra={"minItems": 1})]
Ratio = Annotated[
    float,
    BeforeValidator(_ratio),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
]
