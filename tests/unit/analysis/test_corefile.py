"""Where a Corefile sends questions on to."""

from ipaddress import IPv4Address

from analysis.corefile import parse_forwards

COREFILE = """
.:53 {
    errors  # a comment { with a brace
    kubernetes cluster.local in-addr.arpa {
        pods insecure
    }
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
}
westus.svc.cluster.local:53, "eu.svc.cluster.local." {
    cache 10
    forward . 10.2.1.4:31941 dns://10.2.1.5 tls://10.2.1.6 [fd00::1]:53
}
(snippet) {
    errors
}
Example.org {
    forward sub.example.org 10.0.0.1
}
"""


def test_forwards_are_told_by_zone_with_addresses_and_ports_and_without_files():
    west = [(IPv4Address("10.2.1.4"), 31941), (IPv4Address("10.2.1.5"), 53), (IPv4Address("10.2.1.6"), 853)]
    assert parse_forwards(COREFILE) == [
        (".", []),
        ("westus.svc.cluster.local", west),
        ("eu.svc.cluster.local", west),
        ("sub.example.org", [(IPv4Address("10.0.0.1"), 53)]),
    ]


def test_a_corefile_without_forwards_has_none():
    assert parse_forwards("") == []
    assert parse_forwards(".:53 {\n    whoami\n}\n") == []
