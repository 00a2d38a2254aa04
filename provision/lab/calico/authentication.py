"""Signed BGP sessions: which Secret holds the password, and whether this machine's kernel can sign TCP segments."""

from __future__ import annotations

import socket
import struct
from functools import cache

BGP_SECRET = "bgp-secrets"  # noqa: S105 - a name
"""The one Secret whose values BGPPeers may name: calico-node may read it and no other (a Role says so)."""

BGP_PASSWORD_KEY = "mesh"  # noqa: S105 - a name
BGP_SECRET_NAMESPACE = "calico-system"  # noqa: S105 - a name
_TCP_MD5SIG = 14
_SIGNATURE = struct.Struct(
    "=H2x4s120xBBHi80s"
)  # struct tcp_md5sig: peer, flags, prefix length, key length, device, key


@cache
def kernel_signs_segments() -> bool:
    """Whether TCP segments can be signed (RFC 2385). Kernels built without CONFIG_TCP_MD5SIG refuse the option."""
    key = b"trial"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        option = _SIGNATURE.pack(socket.AF_INET, socket.inet_aton("127.0.0.1"), 0, 0, len(key), 0, key)
        try:
            trial.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG, option)
        except OSError:
            return False
    return True
