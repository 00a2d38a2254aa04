"""What a server does with a configuration: who answers which name, and what its plugins object to."""

from ipaddress import IPv4Address

import pytest

from analysis.coredns import handling, kept_for, load, own_ttl, zone_forwards

COREFILE = """
.:53 {
    kubernetes cluster.local in-addr.arpa {
        fallthrough in-addr.arpa
    }
    forward . /etc/resolv.conf
    cache 30
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


def read(text):
    return load([("coredns/Corefile", text)])


def test_forwards_are_told_by_zone_with_addresses_and_ports_and_without_files():
    west = ((IPv4Address("10.2.1.4"), 31941), (IPv4Address("10.2.1.5"), 53), (IPv4Address("10.2.1.6"), 853))
    assert [(found.zone, found.forward.targets) for found in zone_forwards(read(COREFILE))] == [
        (".", ()),
        ("westus.svc.cluster.local", west),
        ("eu.svc.cluster.local", west),
        ("sub.example.org", ((IPv4Address("10.0.0.1"), 53),)),
    ]


def test_a_corefile_without_forwards_has_none():
    assert not list(zone_forwards(read("")))
    assert not list(zone_forwards(read(".:53 {\n    whoami\n}\n")))


@pytest.mark.parametrize(
    ("name", "zone", "authority", "forwarded"),
    [
        ("cockroachdb-0.cockroachdb.westus.svc.cluster.local", "westus.svc.cluster.local", None, True),
        ("COCKROACHDB.WestUS.svc.cluster.local.", "westus.svc.cluster.local", None, True),
        ("kube-dns.kube-system.svc.cluster.local", ".", "kubernetes", False),
        ("notwestus.svc.cluster.local", ".", "kubernetes", False),
        ("4.1.2.10.in-addr.arpa", ".", "kubernetes", True),
        ("www.example.net", ".", None, True),
        ("www.example.org", "example.org", None, False),
        ("www.sub.example.org", "example.org", None, True),
    ],
)
def test_the_longest_zone_answers_or_sends_on(name, zone, authority, forwarded):
    found = handling(read(COREFILE), name)
    assert (found.zone, found.authority and found.authority.name, found.forward is not None) == (
        zone,
        authority,
        forwarded,
    )


def test_a_name_that_no_block_holds_is_refused():
    assert handling(read("example.org {\n    whoami\n}\n"), "example.net").zone is None


def test_another_plugin_in_a_forwarding_block_hides_the_forward():
    hosts = "west.org {\n    forward . 10.0.0.1\n    hosts /etc/coredns/NodeHosts {\n        ttl 60\n    }\n}\n"
    assert handling(read(hosts), "a.west.org").forward is None
    assert handling(read(hosts.replace("ttl 60", "fallthrough")), "a.west.org").forward is not None


def test_templates_answer_what_their_pattern_takes():
    text = '. {\n    template IN A internal.cloud {\n        match "^private[.]"\n    }\n    forward . 10.0.0.1\n}\n'
    assert handling(read(text), "private.internal.cloud").forward is None
    assert handling(read(text), "other.internal.cloud").forward is not None
    assert handling(read(text), "private.elsewhere").forward is not None


def test_what_a_forward_leaves_out_is_not_sent_on():
    text = ". {\n    forward . 10.0.0.1 {\n        except cluster.local\n    }\n}\n"
    assert handling(read(text), "a.cluster.local").forward is None
    assert handling(read(text), "example.net").forward is not None


@pytest.mark.parametrize(
    ("lines", "ttl", "expected"),
    [
        ("", 30, 0),
        ("cache", 30, 30),
        ("cache 10", 30, 10),
        ("cache 3600", 30, 30),
        ("cache 3600", 1, 5),
        ("cache 2", 30, 2),
        ("cache {\n success 9984 20\n}", 30, 20),
        ("cache {\n success 9984 600 600\n}", 30, 600),
        ("cache 30 west.org", 60, 30),
        ("cache 30 east.org", 60, 0),
        ("cache 30 {\n disable denial\n disable success org\n}", 60, 0),
    ],
)
def test_a_cache_keeps_answers_for_so_long(lines, ttl, expected):
    assert kept_for(read(f". {{\n    {lines}\n}}\n").blocks[0], ttl, "a.west.org") == expected


def test_the_time_to_live_of_own_names_is_that_of_the_kubernetes_plugin():
    assert own_ttl(read(COREFILE), "a.b.svc.cluster.local") == 5
    assert own_ttl(read(COREFILE.replace("fallthrough", "ttl 30\n fallthrough")), "a.b.svc.cluster.local") == 30


@pytest.mark.parametrize(
    ("line", "words", "fatal"),
    [
        ("forward .", "needs a zone and at least one server", True),
        ("forward . " + " ".join(f"10.0.0.{n}" for n in range(16)), "16 servers; more than 15 are refused", True),
        ("forward . 10.2.1.4.31941", "'10.2.1.4.31941' is no address", True),
        ("forward . dns.example.net", "is a name", False),
        ("forward . 10.0.0.1\n    forward a.org 10.0.0.2", "forward a.org is never reached", False),
    ],
)
def test_plugins_object_with_the_line(line, words, fatal):
    (problem,) = read(f". {{\n    {line}\n}}\n").problems
    assert words in problem.text
    assert problem.fatal is fatal


def test_addresses_files_and_substitutions_are_fine():
    assert not read(". {\n    forward . /etc/resolv.conf 10.0.0.1:53 tls://10.0.0.2%name fd00::1 {$DNS}\n}\n").problems
