"""From Services to packet filter rules."""

from ipaddress import IPv4Address, IPv4Network

from provision.lab.proxy import proxy_table, service_ports

PODS = IPv4Network("192.168.0.0/18")


def service(name="dns", address="172.20.0.10", **port):
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"} | port]
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterIP": address, "ports": ports}}


def endpoint_slice(*endpoints, name="dns", port=5353, protocol="UDP"):
    return {
        "metadata": {"name": f"{name}-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": "dns", "port": port, "protocol": protocol}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} for address, ready in endpoints],
    }


def test_a_service_leads_to_its_ready_endpoints():
    (port,) = service_ports([service()], [endpoint_slice(("192.168.0.70", True), ("192.168.0.71", False))])
    assert port.endpoints == ((IPv4Address("192.168.0.70"), 5353),)


def test_headless_services_are_not_proxied():
    assert service_ports([service(address="None")], [endpoint_slice(("192.168.0.70", True))]) == ()


def test_endpoints_of_another_protocol_or_service_do_not_count():
    slices = [
        endpoint_slice(("192.168.0.70", True), protocol="TCP"),
        endpoint_slice(("192.168.0.71", True), name="other"),
    ]
    (port,) = service_ports([service()], slices)
    assert port.endpoints == ()


def test_packets_from_outside_the_clusters_pods_are_masqueraded():
    ports = service_ports([service()], [endpoint_slice(("192.168.0.70", True))])
    table = proxy_table(ports, PODS)
    assert "172.20.0.10 . udp . 53 : goto service-172.20.0.10-udp-53" in table
    assert "ip saddr != 192.168.0.0/18 meta mark set meta mark or 0x4000" in table
    assert "dnat to 192.168.0.70:5353" in table


def test_a_service_without_endpoints_refuses():
    table = proxy_table(service_ports([service()], []), PODS)
    assert "elements = { 172.20.0.10 . udp . 53 }" in table
    assert "dnat" not in table


def test_a_node_port_leads_to_the_same_endpoints():
    ports = service_ports([service(nodePort=30053)], [endpoint_slice(("192.168.0.70", True))])
    assert "udp . 30053 : goto nodeport-udp-30053" in proxy_table(ports, PODS)
