"""From Services and a Corefile to what the DNS server is told."""

from ipaddress import IPv4Address

import pytest

from provision.lab.dns.records import zone_file
from provision.lab.dns.server import ARGUMENTS, FORWARDS, UNANSWERED, files
from provision.lab.dns.translation import PIECE, CorefileError, translate

DNS = IPv4Address("172.20.0.10")
RESOLVER = "nameserver 198.51.100.53\nsearch example.com\n"
OUTSIDE = (IPv4Address("198.51.100.53"), 53)

ROOT = """\
.:53 {
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        fallthrough in-addr.arpa ip6.arpa
        ttl 7
    }
    forward . /etc/resolv.conf
    cache 30
    loop
}
"""


def translated(corefile, *custom):
    return translate([(PIECE, corefile), *custom], RESOLVER, (DNS,))


def corefile(seeded, region):
    (config_map,) = (obj for obj in seeded[region] if obj["kind"] == "ConfigMap")
    return config_map["data"]["Corefile"]


def test_the_other_regions_zones_are_forwarded_to_their_dns_addresses(seeded):
    translation = translated(corefile(seeded, "us-east-1"))
    assert translation.forwarded == {
        ".": (OUTSIDE,),
        "us-east-2.svc.cluster.local": ((IPv4Address("172.21.0.10"), 53),),
        "us-west-1.svc.cluster.local": ((IPv4Address("172.22.0.10"), 53),),
    }
    assert not translation.unanswered


def test_the_own_zone_is_answered_and_kept_as_long_as_the_corefile_says(seeded):
    assert translated(corefile(seeded, "us-east-2")).local == {"cluster.local": 2}
    assert translated(ROOT).local == {"cluster.local": 7}


def test_answers_of_others_are_kept_as_long_as_their_zones_say():
    assert translated(ROOT).keep_s == 0
    assert translated(ROOT + "east.svc.cluster.local {\n forward . 10.0.0.1\n cache 10\n}\n").keep_s == 10


def test_what_is_in_no_block_is_refused_and_a_block_without_an_end_fails():
    translation = translated(
        "cluster.local {\n kubernetes\n}\neast.svc.cluster.local {\n errors\n}\nwest.svc.cluster.local {\n ready\n}\n"
    )
    assert translation.unanswered == {
        ".": "REFUSED",
        "east.svc.cluster.local": "SERVFAIL",
        "west.svc.cluster.local": "REFUSED",
    }
    script = files(translation)[UNANSWERED]
    assert '["."] = pdns.REFUSED' in script
    assert '["east.svc.cluster.local."] = pdns.SERVFAIL' in script
    assert '["cluster.local."] = false' in script


def test_imported_blocks_count():
    custom = ("coredns-custom/east.server", "east.svc.cluster.local {\n forward . 10.0.0.1:31449 10.0.0.2\n}\n")
    translation = translated(ROOT + "import custom/*.server\n", custom)
    assert "+east.svc.cluster.local=10.0.0.1:31449;10.0.0.2:53" in files(translation)[FORWARDS].splitlines()


def test_other_ports_are_not_the_clusters_dns():
    translation = translated(ROOT + "east.svc.cluster.local:5353 {\n forward . 10.0.0.1\n}\n")
    assert translation.forwarded.keys() == {"."}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{ROOT}}}\n", "/etc/coredns/Corefile:10 - Error during parsing: "),
        (ROOT.replace("loop", "lop"), "/etc/coredns/Corefile:8 - Error during parsing: "),
        (ROOT.replace("/etc/resolv.conf", "10.0.0.300"), "/etc/coredns/Corefile:6 - Error during parsing: "),
    ],
)
def test_what_coredns_would_refuse_is_refused_with_its_line(text, complaint):
    with pytest.raises(CorefileError, match=complaint) as refusal:
        translated(text)
    assert not refusal.value.at_run_time


def test_a_loop_is_refused_by_those_who_look_for_it():
    text = ROOT.replace("/etc/resolv.conf", str(DNS))
    with pytest.raises(CorefileError, match=r"plugin/loop: Loop .* detected for zone \"\.\"") as refusal:
        translated(text)
    assert refusal.value.at_run_time
    assert translated(text.replace("loop", "errors")).forwarded == {".": ((DNS, 53),)}


def test_a_servers_arguments_are_words_of_their_own(seeded):
    arguments = files(translated(corefile(seeded, "us-east-1")))[ARGUMENTS].splitlines()
    assert all(argument.startswith("--") and " " not in argument for argument in arguments)
    assert "--auth-zones=cluster.local=/var/run/coredns/zones/cluster.local" in arguments


def test_services_have_their_address_and_headless_ones_their_endpoints_and_every_endpoint_its_own_name():
    ports = [{"name": "grpc", "port": 26257, "protocol": "TCP"}]
    services = [
        {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"clusterIP": "172.20.0.9", "ports": ports}},
        {"metadata": {"name": "db", "namespace": "ns"}, "spec": {"clusterIP": "None"}},
        {"metadata": {"name": "far", "namespace": "ns"}, "spec": {"externalName": "db.example.com"}},
    ]
    slices = [
        {
            "metadata": {"namespace": "ns", "labels": {"kubernetes.io/service-name": "db"}},
            "endpoints": [
                {"addresses": ["192.168.0.70"], "hostname": "db-0", "conditions": {"ready": True}},
                {"addresses": ["192.168.0.71"], "conditions": {}},
                {"addresses": ["192.168.0.72"], "conditions": {"ready": False}},
            ],
            "ports": ports,
        },
        {
            "metadata": {"namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["192.168.0.73"]}],
        },
    ]
    lines = zone_file("cluster.local", 30, DNS, services, slices).splitlines()
    assert lines[:5] == [
        "$ORIGIN cluster.local.",
        "$TTL 30",
        "@ SOA ns.dns hostmaster 1 7200 1800 86400 30",
        "@ NS ns.dns",
        "ns.dns A 172.20.0.10",
    ]
    assert lines[5:] == [
        "192-168-0-71.db.ns.svc A 192.168.0.71",
        "192-168-0-73.web.ns.svc A 192.168.0.73",
        "_grpc._tcp.db.ns.svc SRV 0 50 26257 192-168-0-71.db.ns.svc",
        "_grpc._tcp.db.ns.svc SRV 0 50 26257 db-0.db.ns.svc",
        "_grpc._tcp.web.ns.svc SRV 0 100 26257 web.ns.svc",
        "db-0.db.ns.svc A 192.168.0.70",
        "db.ns.svc A 192.168.0.70",
        "db.ns.svc A 192.168.0.71",
        "db.ns.svc SRV 0 50 26257 192-168-0-71.db.ns.svc",
        "db.ns.svc SRV 0 50 26257 db-0.db.ns.svc",
        "far.ns.svc CNAME db.example.com.",
        "web.ns.svc A 172.20.0.9",
        "web.ns.svc SRV 0 100 26257 web.ns.svc",
    ]
