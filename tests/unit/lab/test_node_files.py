"""What is a node's own on a machine that all nodes share."""

from provision.lab import node_files
from provision.lab.kube.kubelet.pods import own_programs
from provision.lab.topology import azure_cilium


def test_every_node_has_files_that_set_its_kernel_at_a_reboot(tmp_path, monkeypatch):
    monkeypatch.setattr(node_files, "host_tree", lambda node: tmp_path / node)
    topology = azure_cilium("demo")
    node_files.write_node_files(topology)
    for node in topology.nodes:
        assert "net.ipv4.ip_forward = 1" in (tmp_path / node.name / node_files.SYSCTL_FILE).read_text()
        assert "br_netfilter" in (tmp_path / node.name / node_files.MODULES_FILE).read_text()


def test_pods_see_the_programs_of_their_node(tmp_path):
    assert own_programs(tmp_path) == {}
    program = tmp_path / "usr/local/bin/python3"
    program.parent.mkdir(parents=True)
    program.touch()
    assert own_programs(tmp_path) == {"python3": program}
