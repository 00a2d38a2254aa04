"""Linux constants that the socket module of Python 3.8 does not name."""

from __future__ import annotations

import struct

IP_TTL, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL = 2, 10, 11, 12
IP_PMTUDISC_DONT, IP_PMTUDISC_DO, IP_PMTUDISC_PROBE = 0, 2, 3
MSG_ERRQUEUE = 0x2000
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger
SCTP = 132  # IPPROTO_SCTP; the socket module of most Pythons does not name it
