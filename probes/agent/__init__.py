r"""The agent: the one program that runs inside probe pods, sent over exec, gone when it has answered.

It reads a plan and writes one result. Standard library only, Python 3.8 or later, no file is written, no privilege
is needed but for ICMP where the pod's `ping_group_range` does not allow it. What it measures it never judges.

How it is started: `python3 -I -S -c BOOT` (probes/client.py) with this program on standard input, then the plan, JSON,
behind its length and a newline (lengths rather than end of file, because exec before v5 cannot close standard input).
What is sent is one text, which probes/agent_bundle.py makes of these modules: so they import each other by
`from probes.agent.<module> import <name>` alone, at their beginning, and no two of them define the same name.
The result is the last `\x1eRESULT <length> <ASCII JSON>` on standard output. Exit status 0 says that there is one.

A plan: {"deadline": seconds, "control": [address, port, identity] or null, "operations": [...]}. Operations are done
in order, each answers in its place, and one that fails answers {"error": text} without stopping the others:

- {"op": "listen", "name", "identity", "address", "tcp", "udp", "sink", "life"}: start listeners in a process of their
  own that ends after `life` seconds. TCP and UDP ones answer "<identity> <peer address> <peer port>", a sink
  swallows bytes and then says how many they were. A port that is taken is replaced by a free one.
- {"op": "counters", "name"} and {"op": "stop", "name"}: what the listeners saw; stop also ends them.
- {"op": "marked", "name", "prefix", "number", "patience"}: the same, as soon as so many marks that begin like that have
  come, at most `patience` seconds later. A mark is a datagram for the listeners that says it is one; none is answered.
- {"op": "probe", "batches": [...]}: all batches at once, hundreds of probes in flight, one event loop. A batch is
  {"kind": "icmp|tcp|udp|udp-fragments|sctp|line|knock|dns-tcp|dns-udp", "targets": [[address, port, expected], ...],
  "window", "timeout", "tries", "patience", "source", "ttl", "mark"}. After `patience` failures the rest of a batch is
  not tried. `source` is the address that it is all sent from; `ttl`, for datagrams, how many hops they may take: who
  ends them then is in the column `offender`, and one batch for each number of hops makes a trace. `mark`, in hex, is
  what every datagram of the batch begins with, before its number: 8 bytes, random when they are not given.
  `expected` is the identity that must answer, for DNS the name to ask for; a knock only connects. TCP is tried again
  by the kernel only (SYN after 1 s, then 2 s later); a datagram is sent `tries` times, `timeout / tries` apart: part of
  the instrument.
- {"op": "transfer", "target": [address, port, identity], "bytes", "seconds", "rounds", "patience"}: bulk TCP transfers
  to a sink, one after the other, until the two best rates agree, at most `rounds`. Each tells the longest time in which
  nothing was confirmed, and ends when that exceeds `patience`.
- {"op": "tls", "timeout", "patience", "targets": [{"address", "port", "name", "plain", "certificate", "key",
  "protocols", "request"}, ...]}: for each, all at once, a TLS handshake under that name, offering these protocols
  (ALPN) and showing that certificate (PEM) if there is one; the peer's is given back and not verified. What is said to
  whom the handshake satisfies is heard for `patience` seconds (TLS 1.3 refuses a client afterwards), then `request`
  (base64) is said, and the answer heard. `plain` leaves TLS out.
- {"op": "enter", "timeout", "targets": [{"address", "port", "name", "upgrade", "plain", "authority", "certificate",
  "key", "protocols", "startup", "password", "request"}, ...]}: for each, how far one gets. `upgrade` asks for TLS in
  PostgreSQL's protocol first, `plain` leaves TLS out, `authority` (PEM) has the peer's certificates verified, for that
  name. Then comes a login with the parameters `startup` in that protocol, or `request` (base64), or neither.
- {"op": "mtu", "targets": [[address, TCP port, UDP port, identity], ...], "floor", "timeout", "tries"}: for each, all
  at once, the largest packet that goes there unfragmented, by datagrams to its UDP listener, else by ICMP echo; what
  became of the next larger one; MTU of device and route; the largest TCP segment. Smaller than `floor` is not tried.
- {"op": "watch", "targets": [[address, TCP port, identity], ...], "every", "timeout"}: connect to all of them every so
  many seconds, and tell each round at once, `\x1eROUND [began, told, [answered, ...]]`, until a line is said to it.
- {"op": "kernel"}: routes of all tables, links, addresses, neighbours and forwarding entries, by netlink.
- {"op": "capture", "name", "life", "toward": [address, ...], "filter": [[code, jt, jf, k], ...], "most"}: take the
  first `most` packets that the classic BPF filter lets through on the interfaces towards these addresses, beginning
  with the IP header, in a process of its own that ends after `life` seconds. "stop" gives them back. Needs CAP_NET_RAW.
- {"op": "send", "protocol", "source", "packets": [[address, port, base64], ...], "copies", "apart"}: send these bytes
  by UDP (protocol 17), or straight behind an IP header (any other; needs CAP_NET_RAW), each `copies` times.
- {"op": "dns", "questions": [[address, port, name, "A|SRV|NS", "udp|tcp"], ...], "timeout", "tries", "source"}: all at
  once; for each the response code, the records of answer and additional section, whether it was truncated, and the
  seconds until it came.
- {"op": "resolve", "names": [name, ...], "timeout"}: for each, all at once, what the own resolver makes of it (hosts
  file, search list, servers), and the seconds that it took; and what /etc/resolv.conf says.
- {"op": "doors", "name", "identity", "address", "tcp", "udp", "sctp", "life"}: listeners on just these ports; those
  that cannot be had are told in `failed`. {"op": "account", "name"} tells of each knock since it was last asked at
  which port it was and from whom, and of datagrams the mark of the batch and the number of the probe.
- {"op": "hold", "target": [address, port, identity], "every", "seconds"}: keep one connection to a sink and say a byte
  over it every so often, telling `\x1eROUND` each time, until a line is said to it; when something was confirmed last.
- {"op": "sweep", "address", "ports": [[first, last], ...], "timeout", "window"}: connections to all these TCP ports,
  thousands at once; those that answered with anything, and those of which nothing can be said.
- {"op": "read", "files": [path, ...]}: what is in small files (the kernel's settings); null for those not there.
- {"op": "clock", "rounds", "enough", "timeout"}: asks the runner for its time, over the exec: `\x1eCLOCK` goes out, a
  line with the runner's time comes back. For each round: own time before, the runner's, own time after (s). It ends
  early when the best round took no longer than `enough`.
"""
