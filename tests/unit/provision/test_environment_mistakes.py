"""Every mistake in an environment file is told once, with its place, its value and what would be right."""
# ruff: noqa: E501 - one mistake to a line reads best as a table

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from provision.environment_errors import EnvironmentFileError
from provision.environment_file import load_environment

GOOD = """\
name: prod
profile: aws-calico
kubeconfig: kubeconfig
cni:
  kind: calico-bgp
  encapsulation: ipip
regions:
  - name: us-east-1
    network: 10.0.0.0/16
    node_cidr: 10.0.1.0/24
    pod_cidr: 192.168.0.0/18
    service_cidr: 172.20.0.0/16
    dns_address: 172.20.0.10
    node_count: 4
    block_size: 26
    as_number: 64512
    cluster_id: 244.0.0.1
    route_reflectors: {label: route-reflector=true}
  - name: us-east-2
    context: us-east-2
    network: 10.1.0.0/16
    node_cidr: 10.1.1.0/24
    pod_cidr: 192.168.64.0/18
    service_cidr: 172.21.0.0/16
    node_count: 4
    as_number: 64513
    cluster_id: 244.0.0.2
underlay:
  cloud: aws
  path_mtu: 1500
  operators: [198.51.100.20/32]
  open_ports: [22, 6443, 30000-32767]
outside:
  command: [ssh, probe@vantage.example]
  address: 198.51.100.66
ssh:
  user: ubuntu
  jump: ubuntu@bastion.example
dns:
  external_name: www.example.net
bulk_bytes: 4000000
database:
  namespaces:
    us-east-1: crdb
  replicas: 3
  cpu: 2
  memory: 8Gi
  storage: 50Gi
  node_secret: cockroachdb.node
  access:
    user: root
    authority: ca.crt
    certificate: client.root.crt
    key: client.root.key
    addresses:
      us-east-1: db-east.example:26257
  ports: [26257, 8080]
policy:
  roles:
    database: app=cockroachdb
    client: app=client
  allow:
    - {from: client, to: database, ports: [26257]}
    - {from: database, to: database, ports: [26257, 8080], same_region: true}
budgets:
  convergence: 30s
  throughput_ratio: 0.8
egress:
  address: 198.51.100.10
  port: 80
probes:
  image: python:3.12-slim
  pull_secret: registry
"""

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
  - {name: a, cluster: {server: "https://a.example:6443"}}
  - {name: b, cluster: {server: "https://b.example:6443"}}
  - {name: b-again, cluster: {server: "https://B.example:6443/"}}
  - {name: careless, cluster: {server: "https://c.example:6443", insecure-skip-tls-verify: true}}
contexts:
  - {name: us-east-1, context: {cluster: a, user: u}}
  - {name: us-east-2, context: {cluster: b, user: u}}
  - {name: prod-east, context: {cluster: b-again, user: u}}
  - {name: same-as-a, context: {cluster: a, user: u}}
  - {name: lost, context: {cluster: nowhere, user: u}}
  - {name: unverified, context: {cluster: careless, user: u}}
"""

CILIUM = (
    GOOD.replace("calico-bgp", "cilium-clustermesh")
    .replace("profile: aws-calico", "profile: azure-cilium")
    .replace("encapsulation: ipip", "encapsulation: vxlan")
    .replace("  cloud: aws\n", "")
    .replace("    as_number: 64512\n", "")
    .replace("    as_number: 64513\n", "")
    .replace("    route_reflectors: {label: route-reflector=true}\n", "")
    .replace("cluster_id: 244.0.0.1", "cluster_id: 1")
    .replace("cluster_id: 244.0.0.2", "cluster_id: 2")
)

AZURE_CALICO = (
    GOOD.replace("profile: aws-calico", "profile: custom")
    .replace("cloud: aws", "cloud: azure")
    .replace("ipip", "vxlan")
)
WITHOUT_LOGIN = GOOD[: GOOD.index("  access:")] + GOOD[GOOD.index("  ports:") :]
ONLY_SSH = WITHOUT_LOGIN[: GOOD.index("outside:")] + WITHOUT_LOGIN[GOOD.index("ssh:") :]
WITHOUT_PLACES = GOOD[: GOOD.index("outside:")] + "ssh:\n" + GOOD[GOOD.index("dns:") :]
ONE_OPERATOR_RANGE = GOOD.replace("    pod_cidr: 192.168.64.0/18", "    pod_cidr: 172.31.0.0/18")

HERE = "  # here"
"""Marks the line that the message must name."""

CLOSED = "]" + HERE + "\n  # ["
"""Likewise for an item of a list in one line."""


@dataclass(frozen=True)
class Mistake:
    """One bad file: what is replaced in the good one, and what must be said about it."""

    case: str
    old: str
    new: str
    field: str
    value: str | None
    advice: str
    file: str = GOOD

    @property
    def text(self) -> str:
        assert self.file.count(self.old) >= 1, f"{self.old!r} is not in the good file"
        return self.file.replace(self.old, self.new, 1)


MISTAKES = [
    # Keys
    Mistake("unknown key", "profile: aws", "profil: aws" + HERE + "\nprofile: aws", "profil", "aws", "profile?"),
    Mistake("hyphen for underscore", "    node_count: 4\n    block", "    node-count: 4" + HERE + "\n    node_count: 4\n    block", "regions[0].node-count", "4", "node_count?"),
    Mistake("unknown key, nothing near", "  port: 80", "  port: 80\n  zebra: 1" + HERE, "egress.zebra", "1", "one of address, port"),
    Mistake("unknown key of a provider", "cni:", "provider: {kind: lab, nam: demo}" + HERE + "\ncni:", "provider.nam", "demo", "name?"),
    Mistake("unknown key by alias", "{from: client, to: database,", "{frm: client, from: client, to: database,", "policy.allow[0].frm", "client", "from?"),
    Mistake("key twice", "    node_count: 4\n    as", "    node_count: 4\n    node_count: 5" + HERE + "\n    as", "regions[1].node_count", "5", "once; the first is on line 25"),
    Mistake("key that is a number", "  port: 80", "  port: 80\n  7: x" + HERE, "egress[7]", "7", "a key that is text"),
    Mistake("required key missing", "    pod_cidr: 192.168.64.0/18\n", "", "regions[1].pod_cidr", None, "like pod_cidr: 192.168.0.0/18"),
    Mistake("name missing", "name: prod\n", "", "name", None, "the environment's name"),
    Mistake("AS missing", "    as_number: 64513\n", "", "regions[1].as_number", None, "like as_number: 64512"),
    # Networks and addresses
    Mistake("host bits", "192.168.64.0/18", "192.168.70.0/18" + HERE, "regions[1].pod_cidr", "192.168.70.0/18", "192.168.64.0/18, the network"),
    Mistake("no prefix length", "10.0.0.0/16", "10.0.0.0" + HERE, "regions[0].network", "10.0.0.0", "like 10.0.0.0/16"),
    Mistake("prefix length over 32", "172.20.0.0/16", "172.20.0.0/33" + HERE, "regions[0].service_cidr", "172.20.0.0/33", "from 0 to 32"),
    Mistake("netmask", "10.0.1.0/24", "10.0.1.0/255.255.255.0" + HERE, "regions[0].node_cidr", "10.0.1.0/255.255.255.0", "10.0.1.0/24"),
    Mistake("octet over 255", "10.0.1.0/24", "10.0.300.0/24" + HERE, "regions[0].node_cidr", "10.0.300.0/24", "0 to 255"),
    Mistake("IPv6", "192.168.0.0/18", "fd00::/64" + HERE, "regions[0].pod_cidr", "fd00::/64", "an IPv4 network"),
    Mistake("network is a number", "192.168.0.0/18", "10.5" + HERE, "regions[0].pod_cidr", "10.5", "CIDR notation"),
    Mistake("bad DNS address", "172.20.0.10", "172.20.0" + HERE, "regions[0].dns_address", "172.20.0", "like 172.20.0.10"),
    Mistake("DNS address outside", "172.20.0.10", "172.21.0.10" + HERE, "regions[0].dns_address", "172.21.0.10", "like 172.20.0.10"),
    Mistake("service range too small for DNS", "172.21.0.0/16", "172.21.0.0/29" + HERE, "regions[1].service_cidr", "172.21.0.0/29", "a larger range, or dns_address"),
    Mistake("subnet outside its network", "10.1.1.0/24", "10.9.1.0/24" + HERE, "regions[1].node_cidr", "10.9.1.0/24", "a subnet of 10.1.0.0/16"),
    Mistake("overlap of pod ranges", "192.168.64.0/18", "192.168.0.0/17" + HERE, "regions[1].pod_cidr", "192.168.0.0/17", "a range that no other region"),
    Mistake("overlap of service ranges", "172.21.0.0/16", "172.20.0.0/16" + HERE, "regions[1].service_cidr", "172.20.0.0/16", "a range that no other region"),
    Mistake("overlap within a region", "172.21.0.0/16", "10.1.128.0/17" + HERE, "regions[1].service_cidr", "10.1.128.0/17", "nothing else in this one"),
    Mistake("egress inside a region", "198.51.100.10", "10.0.1.7" + HERE, "egress.address", "10.0.1.7", "outside every region"),
    # Numbers
    Mistake("more nodes than addresses", "    node_count: 4\n    as", "    node_count: 255" + HERE + "\n    as", "regions[1].node_count", "255", "at most 254"),
    Mistake("no nodes", "node_count: 4", "node_count: 0" + HERE, "regions[0].node_count", "0", "from 1 to 5000"),
    Mistake("number as text", "node_count: 4", 'node_count: "4"' + HERE, "regions[0].node_count", "4", "without quotes"),
    Mistake("number as truth", "node_count: 4", "node_count: yes" + HERE, "regions[0].node_count", "true", "a whole number"),
    Mistake("block outside the pod range", "block_size: 26", "block_size: 16" + HERE, "regions[0].block_size", "16", "from 18 to 32"),
    Mistake("block size out of range", "block_size: 26", "block_size: 64" + HERE, "regions[0].block_size", "64", "from 8 to 32"),
    Mistake("too few blocks", "192.168.64.0/18", "192.168.64.0/25" + HERE, "regions[1].pod_cidr", "192.168.64.0/25 with blocks of /26", "at least one block for each node"),
    Mistake("AS out of range", "64513", "4294967295" + HERE, "regions[1].as_number", "4294967295", "1 to 4294967294"),
    Mistake("AS reserved", "64513", "23456" + HERE, "regions[1].as_number", "23456", "64512 to 65534"),
    Mistake("AS in dots", "64513", "1.10" + HERE, "regions[1].as_number", "1.1", "a whole number"),
    Mistake("port out of range", "port: 80", "port: 70000" + HERE, "egress.port", "70000", "from 1 to 65535"),
    Mistake("port in a list", "[26257, 8080]", "[26257, sql]" + HERE, "database.ports[1]", "sql", "from 1 to 65535"),
    Mistake("no ports", "ports: [26257, 8080]", "ports: []" + HERE, "database.ports", "[]", "at least 1 port"),
    Mistake("share over one", "0.8", "80" + HERE, "budgets.throughput_ratio", "80", "up to 1"),
    Mistake("duration without unit", "30s", "30" + HERE, "budgets.convergence", "30", "like 30s"),
    Mistake("duration in words", "30s", "half a minute" + HERE, "budgets.convergence", "half a minute", "like 30s, 2ms"),
    Mistake("duration of nothing", "30s", "0s" + HERE, "budgets.convergence", "0s", "more than zero"),
    # Names and choices
    Mistake("region twice", "name: us-east-2", "name: us-east-1" + HERE, "regions[1].name", "us-east-1", "a name of its own"),
    Mistake("AS twice", "64513", "64512" + HERE, "regions[1].as_number", "64512", "an AS number of its own"),
    Mistake("cluster id twice", "244.0.0.2", "244.0.0.1" + HERE, "regions[1].cluster_id", "244.0.0.1", "a cluster id of its own"),
    Mistake("context twice", "context: us-east-2", "context: us-east-1" + HERE, "regions[1].context", "us-east-1", "a context, of its own"),
    Mistake("region name in capitals", "name: us-east-2", "name: US_East" + HERE, "regions[1].name", "US_East", "small letters"),
    Mistake("name is a date", "name: prod", "name: 2026-11-22" + HERE, "name", "2026-11-22", 'quotes make it text: "2026-11-22"'),
    Mistake("misspelt CNI", "kind: calico-bgp", "kind: calico-bpg" + HERE, "cni.kind", "calico-bpg", "calico-bgp?"),
    Mistake("misspelt encapsulation", "encapsulation: ipip", "encapsulation: vxlam" + HERE, "cni.encapsulation", "vxlam", "vxlan?"),
    Mistake("encapsulation of the other CNI", "encapsulation: ipip", "encapsulation: geneve" + HERE, "cni.encapsulation", "geneve", "one of ipip, vxlan, none"),
    Mistake("misspelt provider", "cni:", "provider: {kind: attatch}" + HERE + "\ncni:", "provider.kind", "attatch", "attach?"),
    Mistake("provider without kind", "cni:", "provider: {name: demo}" + HERE + "\ncni:", "provider", "{'name': 'demo'}", "kind: attach or kind: lab"),
    Mistake("provider is a word", "cni:", "provider: lab" + HERE + "\ncni:", "provider", "lab", "kind: lab"),
    Mistake("misspelt region in database", "us-east-1: crdb", "us-eats-1: crdb" + HERE, "database.namespaces.us-eats-1", "us-eats-1", "us-east-1?"),
    Mistake("misspelt region in policy", "ports: [26257]}", "ports: [26257], regions: [us-east2]}" + HERE, "policy.allow[0].regions[0]", "us-east2", "us-east-2?"),
    Mistake("misspelt role", "{from: client,", "{from: cleint,", "policy.allow[0].from", "cleint", "client?"),
    Mistake("no role of the database", "database: app=cockroachdb", "datebase: app=cockroachdb", "policy.roles", "datebase, client", "database in place of datebase"),
    Mistake("two roles with one label", "client: app=client", "client: app=cockroachdb" + HERE, "policy.roles.client", "app=cockroachdb", "tells the two apart"),
    Mistake("role by the regions' label", "client: app=client", "client: geography=client" + HERE, "policy.roles.client", "geography=client", "another label"),
    Mistake("region label is no key", "policy:", "policy:\n  region_label: my geography" + HERE, "policy.region_label", "my geography", "like geography"),
    Mistake("flow beside the database", "{from: client, to: database,", "{from: client, to: client,", "policy.allow[0]", "client -> client", "database as from or as to"),
    Mistake("policy port twice", "ports: [26257]}", "ports: [26257, 26257]}" + HERE, "policy.allow[0].ports[1]", "26257", "each port once"),
    Mistake("no flow between members", "{from: database, to: database,", "{from: client, to: database,", "policy.allow", None, "from: database, to: database"),
    Mistake("policy tried in the database's namespace", "policy:", "policy:\n  namespace: crdb" + HERE, "policy.namespace", "crdb", "a namespace of its own"),
    Mistake("role is no label", "client: app=client", "client: app" + HERE, "policy.roles.client", "app", "key=value"),
    Mistake("reflector label is no label", "label: route-reflector=true", "label: route-reflector", "regions[0].route_reflectors.label", "route-reflector", "route-reflector=true"),
    Mistake("reflectors both ways", "{label: route-reflector=true}", "{label: a=b, nodes: [n1]}" + HERE, "regions[0].route_reflectors", None, "either label"),
    Mistake("reflectors neither way", "{label: route-reflector=true}", "{}" + HERE, "regions[0].route_reflectors", None, "either label"),
    Mistake("reflector twice", "{label: route-reflector=true}", "{nodes: [n1, n1]}" + HERE, "regions[0].route_reflectors.nodes", "n1, n1", "each node once"),
    Mistake("more reflectors than nodes", "{label: route-reflector=true}", "{nodes: [a, b, c, d, e]}" + HERE, "regions[0].route_reflectors.nodes", "a, b, c, d, e", "at most 4"),
    Mistake("image with spaces", "image: python:3.12-slim", "image: my image" + HERE, "probes.image", "my image", "without spaces"),
    Mistake("truth as a word", "  pull_secret", '  host_network: "no"' + HERE + "\n  pull_secret", "probes.host_network", "no", "true or false"),
    Mistake("Calico id that is not dotted", "244.0.0.2", "2" + HERE, "regions[1].cluster_id", "2", "like 244.0.0.1"),
    # What lies below and outside
    Mistake("misspelt cloud", "cloud: aws", "cloud: asw" + HERE, "underlay.cloud", "asw", "aws?"),
    Mistake("cloud of the other profile", "cloud: aws", "cloud: azure" + HERE, "underlay.cloud", "azure", "aws, or another word as profile"),
    Mistake("IP-in-IP on Azure", "encapsulation: vxlan", "encapsulation: ipip" + HERE, "cni.encapsulation", "ipip", "vxlan", AZURE_CALICO),
    Mistake("packets larger than peerings carry", "path_mtu: 1500", "path_mtu: 9001" + HERE, "underlay.path_mtu", "9001", "at most 8500"),
    Mistake("packets too small for IPv4", "path_mtu: 1500", "path_mtu: 68" + HERE, "underlay.path_mtu", "68", "from 576 to 65535"),
    Mistake("everybody is an operator", "198.51.100.20/32", "0.0.0.0/0" + CLOSED, "underlay.operators[0]", "0.0.0.0/0", "the addresses that operators come from"),
    Mistake("half the world is an operator", "198.51.100.20/32", "128.0.0.0/1" + CLOSED, "underlay.operators[0]", "128.0.0.0/1", "no prefix under /8"),
    Mistake("operator with host bits", "198.51.100.20/32", "198.51.100.20/24" + CLOSED, "underlay.operators[0]", "198.51.100.20/24", "198.51.100.0/24, the network"),
    Mistake("operator by name", "198.51.100.20/32", "office" + CLOSED, "underlay.operators[0]", "office", "four numbers"),
    Mistake("operator twice", "198.51.100.20/32", "198.51.100.20, 198.51.100.0/27" + CLOSED, "underlay.operators[1]", "198.51.100.0/27", "each address once"),
    Mistake("pods are operators", "198.51.100.20/32", "192.168.0.0/16" + CLOSED, "underlay.operators[0]", "192.168.0.0/16", "the addresses that people", ONE_OPERATOR_RANGE),
    Mistake("port over 65535", "30000-32767", "30000-99999" + CLOSED, "underlay.open_ports[2]", "30000-99999", "from 1 to 65535"),
    Mistake("ports backwards", "30000-32767", "32767-30000" + CLOSED, "underlay.open_ports[2]", "32767-30000", "30000-32767"),
    Mistake("ports in words", "30000-32767", "nodeports" + CLOSED, "underlay.open_ports[2]", "nodeports", "like 30000-32767"),
    Mistake("ports twice", "30000-32767", "6000-7000" + CLOSED, "underlay.open_ports[2]", "6000-7000", "each port once"),
    Mistake("unknown key of the underlay", "  cloud: aws", "  cloud: aws\n  path-mtu: 1500" + HERE, "underlay.path-mtu", "1500", "path_mtu?"),
    Mistake("outside without command", "  command: [ssh, probe@vantage.example]\n", "", "outside.command", None, "what to put before a command"),
    Mistake("outside with an empty command", "[ssh, probe@vantage.example]", "[]" + HERE, "outside.command", "[]", "at least 1 word"),
    Mistake("outside with a number in the command", "probe@vantage.example]", "-p, 22, there]" + HERE, "outside.command[2]", "22", 'like "22"'),
    Mistake("outside is inside", "198.51.100.66", "10.0.1.7" + HERE, "outside.address", "10.0.1.7", "outside every region"),
    Mistake("outside is an operator", "198.51.100.66", "198.51.100.20" + HERE, "outside.address", "198.51.100.20", "without any rights"),
    Mistake("user that is an option", "user: ubuntu", "user: -oProxyCommand=x" + HERE, "ssh.user", "-oProxyCommand=x", "like ubuntu"),
    Mistake("user missing", "  user: ubuntu\n", "", "ssh.user", None, "like user: ubuntu"),
    Mistake("jump that is an option", "jump: ubuntu@bastion.example", "jump: -oProxyCommand=x" + HERE, "ssh.jump", "-oProxyCommand=x", "user@host"),
    Mistake("no such key file", "user: ubuntu", "user: ubuntu\n  identity_file: gone" + HERE, "ssh.identity_file", "FOLDER/gone", "ssh on this machine may read"),
    Mistake("key file that others may read", "user: ubuntu", "user: ubuntu\n  identity_file: kubeconfig" + HERE, "ssh.identity_file", "FOLDER/kubeconfig", "chmod 600"),
    Mistake("host keys in a folder", "user: ubuntu", "user: ubuntu\n  known_hosts: ." + HERE, "ssh.known_hosts", "FOLDER", "ssh on this machine may read"),
    Mistake("passphrase", "user: ubuntu", "user: ubuntu\n  passphrase: hunter2" + HERE, "ssh.passphrase", "(hidden, 7 characters)", "kubeconfig"),
    Mistake("ssh into a lab", "ssh:", "provider: {kind: lab}\nssh:" + HERE, "ssh", None, "the lab has its own", ONLY_SSH),
    Mistake("external name without domain", "www.example.net", "localhost" + HERE, "dns.external_name", "localhost", "like www.example.net"),
    Mistake("external name of a cluster", "www.example.net", "a.svc.cluster.local" + HERE, "dns.external_name", "a.svc.cluster.local", "like www.example.net"),
    Mistake("external name is an address", "www.example.net", "198.51.100.7" + HERE, "dns.external_name", "198.51.100.7", "like www.example.net"),
    Mistake("processors in words", "cpu: 2", "cpu: two" + HERE, "database.cpu", "two", "like 2 or 500m"),
    Mistake("no processors", "cpu: 2", "cpu: 0" + HERE, "database.cpu", "0", "like 2 or 500m"),
    Mistake("memory in a wrong unit", "memory: 8Gi", "memory: 8GB" + HERE, "database.memory", "8GB", "like 8Gi"),
    Mistake("no replicas", "replicas: 3", "replicas: 0" + HERE, "database.replicas", "0", "from 1 to 1000"),
    Mistake("storage in a wrong unit", "storage: 50Gi", "storage: 50GB" + HERE, "database.storage", "50GB", "like 8Gi"),
    Mistake("misspelt engine", "database:\n  names", "database:\n  engine: cockroach" + HERE + "\n  names", "database.engine", "cockroach", "cockroachdb?"),
    Mistake("no port for the console", "ports: [26257, 8080]", "ports: [26257]" + HERE, "database.ports", "26257", "then the console's"),
    Mistake("one port for both", "ports: [26257, 8080]", "ports: [26257, 26257]" + HERE, "database.ports", "26257, 26257", "then the console's"),
    Mistake("one Secret for both", "node_secret: cockroachdb.node", "node_secret: certs\n  client_secret: certs" + HERE, "database.client_secret", "certs", "no use for the key"),
    Mistake("survival of two regions", "  storage:", "  must_survive: [orders]" + HERE + "\n  storage:", "database.must_survive", "orders", "at least 3 regions"),
    Mistake("certificates in a relative folder", "  storage:", "  certificate_folder: certs" + HERE + "\n  storage:", "database.certificate_folder", "certs", "its whole path"),
    Mistake("neither certificate nor password", "    certificate: client.root.crt\n    key: client.root.key\n", "", "database.access.certificate", None, "either certificate and key"),
    Mistake("certificate without key", "    key: client.root.key\n", "", "database.access.key", None, "either certificate and key"),
    Mistake("certificate and password", "    key: client.root.key", "    key: client.root.key\n    password_file: pw" + HERE, "database.access.password_file", "FOLDER/pw", "either certificate and key"),
    Mistake("password in the file", "    key: client.root.key", "    password: hunter2" + HERE, "database.access.password", "(hidden, 7 characters)", "credentials belong"),
    Mistake("no such authority", "authority: ca.crt", "authority: gone.crt" + HERE, "database.access.authority", "FOLDER/gone.crt", "the database's client on this machine may read"),
    Mistake("database key that others may read", "key: client.root.key", "key: kubeconfig" + HERE, "database.access.key", "FOLDER/kubeconfig", "chmod 600"),
    Mistake("misspelt region of an address", "us-east-1: db-east", "us-esat-1: db-east", "database.access.addresses.us-esat-1", "us-esat-1", "us-east-1?"),
    Mistake("address without port", "db-east.example:26257", "db-east.example" + HERE, "database.access.addresses.us-east-1", "db-east.example", "like db.example.net:26257"),
    Mistake("two regions at one address", "db-east.example:26257", "db.example:26257\n      us-east-2: db.example:26257" + HERE, "database.access.addresses.us-east-2", "db.example:26257", "leads into this region"),
    Mistake("database login of a lab", "ssh:", "provider: {kind: lab}\n#", "database.access", None, "logs in with its own keys", WITHOUT_PLACES),
    Mistake("certificates for no time", "convergence: 30s", "certificate: 30" + HERE, "budgets.certificate", "30", "like 30s"),
    Mistake("bulk transfer in words", "bulk_bytes: 4000000", "bulk_bytes: 4MB" + HERE, "bulk_bytes", "4MB", "a whole number"),
    Mistake("clock budget without unit", "convergence: 30s", "clock_offset: 250" + HERE, "budgets.clock_offset", "250", "like 250s"),
    Mistake("capture without the nodes' network", "  image:", "  host_network: false\n  capture: true" + HERE + "\n  image:", "probes.capture", "true", "host_network: true"),
    # Cilium
    Mistake("profile of the other CNI", "profile: azure-cilium", "profile: aws-calico" + HERE, "profile", "aws-calico", "calico-bgp as cni.kind", CILIUM),
    Mistake("Cilium id out of range", "cluster_id: 2", "cluster_id: 256" + HERE, "regions[1].cluster_id", "256", "from 1 to 255", CILIUM),
    Mistake("Cilium id missing", "    cluster_id: 2\n", "", "regions[1].cluster_id", None, "like cluster_id: 1", CILIUM),
    Mistake("AS with Cilium", "    cluster_id: 2", "    as_number: 64512" + HERE + "\n    cluster_id: 2", "regions[1].as_number", "64512", "no as_number", CILIUM),
    Mistake("reflectors with Cilium", "    cluster_id: 2", "    route_reflectors: {label: a=b}" + HERE + "\n    cluster_id: 2", "regions[1].route_reflectors", None, "no route_reflectors", CILIUM),
    # Shapes
    Mistake("region is a word", "  - name: us-east-2", "  - us-west-1" + HERE + "\n  - name: us-east-2", "regions[1]", "us-west-1", "keys with values"),
    Mistake("list for a mapping", "egress:\n  address: 198.51.100.10\n  port: 80", "egress: [198.51.100.10, 80]" + HERE, "egress", "['198.51.100.10', 80]", "keys with values"),
    Mistake("mapping for a list", "ports: [26257, 8080]", "ports: {sql: 26257}" + HERE, "database.ports", "{'sql': 26257}", "a list"),
    Mistake("nothing after a key", "name: prod", "name:" + HERE, "name", "(nothing)", "small letters"),
    Mistake("database as a list", "  namespaces:\n    us-east-1: crdb", "  namespaces: [crdb]" + HERE, "database.namespaces", "['crdb']", "key: value"),
    # Secrets
    Mistake("password", "  image:", "  password: hunter2" + HERE + "\n  image:", "probes.password", "(hidden, 7 characters)", "kubeconfig"),
    Mistake("token", "profile:", "bearer_token: abcdefghij" + HERE + "\nprofile:", "bearer_token", "(hidden, 10 characters)", "kubeconfig"),
    Mistake("client key", "    context: us-east-2", "    client-key-data: TUlJ" + HERE + "\n    context: us-east-2", "regions[1].client-key-data", "(hidden, 4 characters)", "kubeconfig"),
    Mistake("password in a URL", "python:3.12-slim", "https://me:hunter2@registry/x" + HERE, "probes.image", "(hidden, 29 characters)", "kubeconfig"),
    Mistake("AWS key", "profile: aws-calico", "profile: AKIAABCDEFGHIJKLMNOP" + HERE, "profile", "(hidden, 20 characters)", "kubeconfig"),
    Mistake("private key", "name: prod", 'name: "-----BEGIN EC PRIVATE KEY-----"' + HERE, "name", "(hidden, 30 characters)", "kubeconfig"),
    # YAML
    Mistake("tab", "  kind: calico-bgp", "\tkind: calico-bgp" + HERE, "", "kind: calico-bgp # here", "spaces"),
    Mistake("bracket left open", "[26257, 8080]\npolicy:", "[26257, 8080\npolicy:" + HERE, "", "policy: # here", "is not YAML"),
    Mistake("bad indentation", "  kind: calico-bgp", "  kind: calico-bgp\n   encap: x" + HERE, "", "encap: x # here", "is not YAML"),
    Mistake("two documents", "cni:", "---" + HERE + "\ncni:", "", "--- # here", "without a line of ---"),
    Mistake("YAML tag", "name: prod", "name: !!python/name:os.system x" + HERE, "", "name: !!python/name:os.system x # here", "plain text"),
    Mistake("value in itself", "profile: aws-calico", "profile: &me [*me]" + HERE, "profile", "[[...]]", "some text"),
    # Kubeconfigs
    Mistake("no such kubeconfig", "kubeconfig: kubeconfig", "kubeconfig: gone" + HERE, "kubeconfig", "FOLDER/gone", "that you may read"),
    Mistake("no such kubeconfig of a region", "    context: us-east-2", "    kubeconfig: gone" + HERE + "\n    context: us-east-2", "regions[1].kubeconfig", "FOLDER/gone", "that you may read"),
    Mistake("kubeconfig is a folder", "kubeconfig: kubeconfig", "kubeconfig: ." + HERE, "kubeconfig", "FOLDER", "that you may read"),
    Mistake("kubeconfig is something else", "kubeconfig: kubeconfig", "kubeconfig: bad.yaml" + HERE, "kubeconfig", "FOLDER/bad.yaml", "has no contexts"),
    Mistake("missing context", "context: us-east-2", "context: us-esat-2" + HERE, "regions[1].context", "us-esat-2", "us-east-2? (the contexts there: lost, prod-east,"),
    Mistake("context without cluster", "context: us-east-2", "context: lost" + HERE, "regions[1].context", "lost", "whose cluster has a server"),
    Mistake("certificate not verified", "context: us-east-2", "context: unverified" + HERE, "regions[1].context", "unverified", "certificate-authority-data"),
    Mistake("two regions, one API server", "context: us-east-2", "context: same-as-a" + HERE, "regions[1].context", "same-as-a (https://a.example:6443)", "a cluster of its own"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    for name in ("ca.crt", "client.root.crt", "client.root.key"):
        (tmp_path / name).touch(mode=0o600)
    return tmp_path


@pytest.mark.parametrize("good", [GOOD, CILIUM], ids=["calico", "cilium"])
def test_the_files_that_are_spoilt_below_are_good(folder: Path, good: str) -> None:
    path = folder / "good.yaml"
    path.write_text(good)
    assert load_environment(path).name == "prod"


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.case for mistake in MISTAKES])
def test_a_mistake_is_told_with_its_place_and_what_would_be_right(folder: Path, mistake: Mistake) -> None:
    path = folder / "bad.yaml"
    path.write_text(mistake.text)
    with pytest.raises(EnvironmentFileError) as caught:
        load_environment(path)

    error, text = caught.value, str(caught.value)
    assert error.exit_code == 4
    assert len(error.problems) == 1, text
    problem = error.problems[0]
    assert problem.field == mistake.field
    assert problem.value == (mistake.value and mistake.value.replace("FOLDER", str(folder)))
    assert mistake.advice in text
    assert text.startswith(f"{path}:{problem.line}: {mistake.field}")
    marked = [number for number, line in enumerate(mistake.text.splitlines(), 1) if HERE.strip() in line]
    if marked:
        assert problem.line == marked[0]


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    with pytest.raises(EnvironmentFileError, match="is empty"):
        load_environment(path)


def test_a_list_at_the_top_is_told(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("- name: prod\n")
    with pytest.raises(EnvironmentFileError, match=r"list.yaml:1: is not a mapping"):
        load_environment(path)


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"name: prod\nprofile: \xff\xfe\n")
    with pytest.raises(EnvironmentFileError, match=r"binary.yaml:2: is not UTF-8"):
        load_environment(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(folder: Path) -> None:
    path = folder / "prod.yaml"
    path.write_text(GOOD)
    path.chmod(0)
    with pytest.raises(EnvironmentFileError, match="Permission denied"):
        load_environment(path)


def test_several_mistakes_are_told_at_once_in_the_order_of_the_file(folder: Path) -> None:
    path = folder / "bad.yaml"
    path.write_text(GOOD.replace("port: 80\n", "port: 0\n").replace("10.0.0.0/16", "10.0.0.0/99"))
    with pytest.raises(EnvironmentFileError) as caught:
        load_environment(path)
    assert [problem.field for problem in caught.value.problems] == ["regions[0].network", "egress.port"]
    assert "2 mistakes in" in str(caught.value)


def test_a_secret_is_never_repeated_whatever_else_is_wrong(folder: Path) -> None:
    path = folder / "bad.yaml"
    path.write_text(GOOD.replace("  image:", "  password: hunter2\n  image: my image #"))
    with pytest.raises(EnvironmentFileError) as caught:
        load_environment(path)
    assert "hunter2" not in str(caught.value)


def test_an_overlap_names_both_ranges_and_both_regions(folder: Path) -> None:
    path = folder / "bad.yaml"
    path.write_text(GOOD.replace("192.168.64.0/18", "192.168.0.0/17"))
    with pytest.raises(EnvironmentFileError) as caught:
        load_environment(path)
    headline = str(caught.value).splitlines()[0]
    assert headline.endswith("regions[1].pod_cidr (us-east-2) overlaps pod_cidr 192.168.0.0/18 of us-east-1")


def test_service_ranges_may_be_the_same_where_they_are_not_routed(folder: Path) -> None:
    path = folder / "good.yaml"
    path.write_text(CILIUM.replace("172.21.0.0/16", "172.20.0.0/16"))
    assert not load_environment(path).plan().services_routed


def test_merged_keys_are_understood_and_their_mistakes_found(folder: Path) -> None:
    text = GOOD.replace("    node_count: 4\n    block_size: 26", "    <<: &common {node_count: 4, block_size: 99}")
    path = folder / "bad.yaml"
    path.write_text(text)
    with pytest.raises(EnvironmentFileError) as caught:
        load_environment(path)
    assert (caught.value.problems[0].field, caught.value.problems[0].line) == ("regions[0].block_size", 14)
