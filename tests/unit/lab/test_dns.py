"""From Services and a Corefile to what the DNS server is told."""

from provision.lab.dns import configuration, forwards, records


def corefile(seeded, region):
    (config_map,) = (obj for obj in seeded[region] if obj["kind"] == "ConfigMap")
    return config_map["data"]["Corefile"]


def test_the_other_regions_zones_are_forwarded_to_their_dns_addresses(seeded):
    assert list(forwards(corefile(seeded, "us-east-1"))) == [
        ("us-east-2.svc.cluster.local", "172.21.0.10"),
        ("us-west-1.svc.cluster.local", "172.22.0.10"),
    ]


def test_the_own_zone_is_answered_and_never_forwarded(seeded):
    text = configuration(corefile(seeded, "us-east-2"))
    assert "local=/cluster.local/" in text
    assert "server=/us-east-2.svc" not in text


def test_services_have_their_address_and_headless_ones_their_endpoints_and_every_endpoint_its_own_name():
    services = [
        {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"clusterIP": "172.20.0.9"}},
        {"metadata": {"name": "db", "namespace": "ns"}, "spec": {"clusterIP": "None"}},
    ]
    slices = [
        {
            "metadata": {"namespace": "ns", "labels": {"kubernetes.io/service-name": "db"}},
            "endpoints": [
                {"addresses": ["192.168.0.70"], "hostname": "db-0", "conditions": {"ready": True}},
                {"addresses": ["192.168.0.71"], "conditions": {}},
                {"addresses": ["192.168.0.72"], "conditions": {"ready": False}},
            ],
        },
        {
            "metadata": {"namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["192.168.0.73"]}],
        },
    ]
    assert records(services, slices).splitlines() == [
        "172.20.0.9 web.ns.svc.cluster.local",
        "192.168.0.70 db.ns.svc.cluster.local db-0.db.ns.svc.cluster.local",
        "192.168.0.71 db.ns.svc.cluster.local 192-168-0-71.db.ns.svc.cluster.local",
        "192.168.0.73 192-168-0-73.web.ns.svc.cluster.local",
    ]
